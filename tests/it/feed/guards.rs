//! Only scenes about what a list must not do unnoticed belong here: empty itself, undo a person, be kept from the proxy's user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::super::support::sekisho::{binary, text};
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

#[test]
fn what_makes_no_difference_is_not_approved_and_no_reversal_stops_at_it() {
    let dir = site("");
    let dir = dir.path();
    import(dir, &feed(&["teams.microsoft.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    import(dir, &feed(&["teams.microsoft.com"]));
    assert_eq!(catalog(dir, &["diff"]).status.code(), Some(0));
    assert_eq!(
        failed(&catalog(dir, &["approve", "--by", "a"])),
        "sekisho: the pending feed makes no difference to what is in force: there is nothing to approve\n"
    );
    assert!(!dir.join("catalog.d/feeds/microsoft-365/0002.json").exists());
    let said = done(&catalog(dir, &["revert", "--by", "a"]));
    assert!(said.contains(" by a: back to the program's own list\n"), "{said}");
    assert!(failed(&catalog(dir, &["revert", "--by", "a"])).starts_with("sekisho: no feed was approved here: "));
}

/// Who approves may have a umask of 077; the proxy is another user.
#[test]
fn states_can_be_read_by_the_proxys_user_whatever_the_umask() {
    let dir = site("");
    let dir = dir.path();
    fs::write(dir.join("feed.json"), feed(&["teams.microsoft.com"])).expect("written");
    let closed = |arguments: &str| {
        let line = format!("umask 077; exec \"$0\" catalog {arguments}");
        let out = Command::new("sh").args(["-c", &line]).arg(binary()).current_dir(dir).output().expect("a shell");
        done(&out);
    };
    let states = dir.join("catalog.d/feeds/microsoft-365");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    closed("import feed.json --accept-shrunk");
    assert_eq!(mode(&states.join("pending.json")), 0o644);
    closed("approve --by a");
    assert_eq!(mode(&states.join("0001.json")), 0o644);
    assert_eq!((mode(&states), mode(&dir.join("catalog.d/feeds"))), (0o755, 0o755));
}

/// A time of the record is printed, and may be anything.
#[test]
fn a_day_that_is_none_is_not_printed() {
    let dir = site("");
    let dir = dir.path();
    import(dir, &feed(&["teams.microsoft.com"]));
    let line = |at: &str| {
        format!("{{\"@timestamp\":\"{at}\",\"event.outcome\":\"allowed\",\"url.domain\":\"a.example.com\"}}\n")
    };
    let record = [line("2020-01-02T00:00:00Z"), line("1\\u001b[2J1999-T0"), line("2020-01-99T00:00:00Z")].concat();
    fs::write(dir.join("access.jsonl"), record).expect("written");
    let diff = catalog(dir, &["diff", "--record", "access.jsonl"]);
    let shown = text(&diff.stdout);
    assert!(shown.contains("\nrequests  on 2020-01-02 (UTC)\n"), "{shown}");
    assert_eq!(text(&diff.stderr), "note: 2 lines of the record are not whole and were passed over\n");
}
