//! Only scenes about what a list must not do unnoticed belong here: empty itself, undo a person, be kept from the proxy's user.

use std::fs;
use std::path::Path;

use super::super::support::sekisho::text;
use super::{catalog, done, failed, feed, import, site};

/// As many hosts as before, and no port by which a part would take them.
#[test]
fn a_list_that_no_part_takes_is_refused_though_it_is_as_long() {
    let dir = site("");
    let dir = dir.path();
    let sound = feed(&["teams.microsoft.com", "a.example.com"]);
    import(dir, &sound);
    done(&catalog(dir, &["approve", "--by", "a"]));
    let without = sound.replace("\"tcpPorts\":\"80,443\",", "").replace("\"tcpPorts\":\"443\",", "");
    fs::write(dir.join("bad.json"), without).expect("written");
    assert_eq!(
        failed(&catalog(dir, &["import", "bad.json"])),
        "sekisho: bad.json is refused whole, and nothing was changed:\n  0 hosts that a part of the catalogue takes where there were 3: \
         suddenly more than half of them are gone, perhaps because sets have no TCP port 443\n  \
         if that is what the vendor means: --accept-shrunk\n"
    );
    done(&catalog(dir, &["import", "bad.json", "--accept-shrunk"]));
}

/// The same over the program's own list.
#[test]
fn the_real_list_without_its_ports_is_refused() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/m365-endpoints-worldwide.json");
    let Ok(list) = fs::read_to_string(&file) else {
        println!("skipped: no {}", file.display());
        return;
    };
    let mut sets: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    for set in sets.as_array_mut().expect("a list") {
        set.as_object_mut().expect("a set").remove("tcpPorts");
    }
    let dir = site("");
    fs::write(dir.path().join("bad.json"), sets.to_string()).expect("written");
    let said = failed(&catalog(dir.path(), &["import", "bad.json"]));
    assert!(said.contains("\n  0 hosts that a part of the catalogue takes where there were "), "{said}");
}

#[test]
fn what_the_configuration_newly_warns_of_is_said_before_and_after() {
    let dir = site("");
    let dir = dir.path();
    import(dir, &feed(&["teams.microsoft.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    // Nothing is left of the part that the service takes.
    import(dir, &feed(&[]).replace("*.officeapps.live.com\"", "*.officeapps.live.com\",\"b.example.com\""));
    let warning = "sekisho.toml:10:11: warning: service[0].catalog: found \"microsoft-365/teams\", of which the approved feed has nothing \
                   left, expected another part, or none: nothing is permitted by it\n";
    let diff = text(&catalog(dir, &["diff"]).stdout);
    assert!(diff.ends_with(&format!("\nWith it sekisho.toml warns of what it does not now:\n{warning}")), "{diff}");
    let approved = catalog(dir, &["approve", "--by", "a"]);
    done(&approved);
    assert_eq!(text(&approved.stderr), warning);
    // It is news once.
    import(dir, &feed(&[]).replace("*.officeapps.live.com\"", "*.officeapps.live.com\",\"c.example.com\""));
    let diff = text(&catalog(dir, &["diff"]).stdout);
    assert!(!diff.contains("With it"), "{diff}");
}
