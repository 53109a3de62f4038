use std::collections::BTreeMap;

use super::*;
use crate::feed::ENTRY;
use crate::feed::endpoints::tests::real;

/// The program's catalogue: `config` reads it, and tests may ask anyone.
fn program() -> Catalogue {
    crate::config::built_in()
}

fn from() -> Provenance {
    Provenance { url: "https://endpoints.office.com/endpoints/worldwide".to_owned(), read: "2026-11-28".to_owned() }
}

#[test]
fn the_programs_own_entry_says_which_version_it_is_of() {
    let program = program();
    let notes = program.entry(ENTRY).and_then(|entry| entry.notes.clone()).unwrap_or_default();
    assert!(
        notes.starts_with(&format!("From the worldwide endpoint feed, version {}; ", crate::feed::OWN_VERSION)),
        "{notes}"
    );
}

fn composed(feed: &Feed) -> Composed {
    let program = program();
    compose(program.entry(ENTRY).expect("there"), &program, feed, &from())
}

/// A feed of these sets: id, ports, category, hosts.
fn feed(sets: &[(u32, &str, &str, &[&str])]) -> Feed {
    let sets: Vec<_> = sets
        .iter()
        .map(|(id, ports, category, urls)| {
            format!(
                "{{\"id\":{id},\"serviceArea\":\"Common\",\"serviceAreaDisplayName\":\"Microsoft 365 Common\",\"urls\":{urls:?},\
                 \"tcpPorts\":\"{ports}\",\"category\":\"{category}\",\"required\":true,\"notes\":\"A note\"}}"
            )
        })
        .collect();
    Feed::parse(format!("[{}]", sets.join(",")).as_bytes()).expect("sound")
}

fn place_of(set: u32, ports: &str, host: &str) -> Place {
    let composed = composed(&feed(&[(set, ports, "Default", &[host])]));
    composed.placed.first().expect("one").place.clone()
}

fn part<'e>(entry: &'e Entry, id: &str) -> &'e Part {
    entry.parts.iter().find(|part| part.id == id).expect(id)
}

fn texts(hosts: &[Template]) -> Vec<&str> {
    hosts.iter().map(Template::as_str).collect()
}

#[test]
fn the_feed_that_the_program_was_made_from_changes_nothing() {
    let Some(octets) = real("m365-endpoints-worldwide.json") else { return };
    let program = program();
    let composed = composed(&Feed::parse(&octets).expect("sound"));
    assert_eq!(Some(&composed.entry), program.entry(ENTRY));
}

/// Every host of every set of the real feed lands in a part, or is left out for a reason that is written down here.
#[test]
fn every_set_of_the_real_feed_has_its_place() {
    let Some(octets) = real("m365-endpoints-worldwide.json") else { return };
    let feed = Feed::parse(&octets).expect("sound");
    let composed = composed(&feed);
    let mut left_out: BTreeMap<(u32, &str), Vec<&str>> = BTreeMap::new();
    for placed in &composed.placed {
        match &placed.place {
            Place::Part(id) => assert!(composed.entry.parts.iter().any(|part| part.id == *id), "{placed:?}"),
            Place::LeftOut(why) => left_out.entry((placed.set, why)).or_default().push(placed.host.as_str()),
        }
    }
    let left_out: Vec<_> = left_out.into_iter().map(|((set, why), hosts)| (set, why, hosts.len(), hosts[0])).collect();
    const PORTS: &str = "no TCP port 443 in its set: mail, plain HTTP or media by address";
    assert_eq!(
        left_out,
        [
            // A literal table.
            (2, PORTS, 2, "outlook.office365.com"),
            (10, PORTS, 2, "*.mail.protection.outlook.com"),
            (16, "every customer of Azure may have a name there", 2, "*.keydelivery.mediaservices.windows.net"),
            (19, "in windows-update/service", 1, "adl.windows.com"),
            (
                31,
                "SharePoint of every tenant in the world: microsoft-365/sharepoint has your own",
                1,
                "*.sharepoint.com"
            ),
            (59, "a delivery network with many owners", 1, "*.msecnd.net"),
            (59, "there is a sign-in host under it: microsoft-365/sign-in-other", 1, "*.microsoftonline-p.com"),
            (78, "every tenant in the world", 1, "*.onmicrosoft.com"),
            (84, "in revocation/microsoft", 1, "crl.microsoft.com"),
            (125, "in revocation/digicert", 6, "cacerts.digicert.com"),
            (125, "in revocation/digicert-older", 7, "*.geotrust.com"),
            (125, "in revocation/entrust", 1, "*.entrust.net"),
            (125, "in revocation/globalsign", 5, "crl.globalsign.com"),
            (125, "in revocation/identrust", 2, "crl.identrust.com"),
            (125, "in revocation/lets-encrypt", 1, "cert.int-x3.letsencrypt.org"),
            (125, "in revocation/microsoft", 3, "mscrl.microsoft.com"),
        ]
    );
    let unknown: Vec<u32> = feed
        .sets
        .iter()
        .map(|set| set.id)
        .filter(|id| *id != 2 && *id != 10 && *id != 11)
        .filter(|id| !SETS.iter().any(|(known, _)| known == id) && !LEFT_OUT_SETS.iter().any(|(known, _)| known == id))
        .collect();
    assert_eq!(unknown, Vec::<u32>::new(), "a new host of these sets would have no part");
}

#[test]
fn the_tables_name_parts_that_there_are() {
    let program = program();
    let entry = program.entry(ENTRY).expect("there");
    for id in SETS.iter().map(|(_, part)| *part).chain(FIXED) {
        assert!(entry.parts.iter().any(|part| part.id == id), "{id}");
    }
    assert!(SETS.is_sorted_by_key(|(id, _)| *id) && SETS.iter().all(|(_, part)| !FIXED.contains(part)));
}

#[test]
fn a_new_host_goes_where_its_set_says_and_never_to_a_part_with_headers() {
    let to = |id: &str| Place::Part(id.to_owned());
    for (set, ports, host, expected) in [
        (1, "80,443", "outlook.new.microsoft", to("exchange")),
        (184, "443", "*.newer.microsoft", to("common")),
        // Nothing widens what is inspected for the sign-in.
        (56, "443", "login4.microsoftonline.com", to("sign-in-other")),
        (56, "443", "*.login.microsoftonline.com", to("common-broad")),
        (59, "80,443", "*.windows.net", to("common-broad")),
        (204, "443", "*.live.com", to("common-broad")),
        // Known hosts stay where they are, whatever set has them now.
        (204, "443", "login.windows.net", to("sign-in")),
        (204, "443", "teams.microsoft.com", to("teams")),
        // Unknown sets have a part of their own.
        (204, "443,8443", "*.copilot.example", to("set-204")),
    ] {
        assert_eq!(place_of(set, ports, host), expected, "{host}");
    }
}

#[test]
fn what_is_everybodys_or_stands_elsewhere_is_left_out_with_the_reason() {
    for (set, ports, host, why) in [
        (46, "80", "a.officeapps.live.com", "no TCP port 443 in its set: mail, plain HTTP or media by address"),
        (46, "", "a.officeapps.live.com", "no TCP port 443 in its set: mail, plain HTTP or media by address"),
        (31, "443", "*-files.sharepoint.com", "it reaches names of other tenants under sharepoint.com"),
        (204, "443", "mail.*.onmicrosoft.com", "it reaches names of other tenants under onmicrosoft.com"),
        (47, "443", "*.azureedge.net", "under azureedge.net anybody may get a name"),
        (67, "443", "*.blob.core.windows.net", "under blob.core.windows.net anybody may get a name"),
        (98, "443", "accounts.google.com", "in google-workspace/sign-in"),
        // What another vendor's restriction is for would be open, or a stranger's.
        (46, "443", "drive.google.com", "*.google.com of google-workspace/app reaches it"),
        (46, "443", "app.box.com", "box.com is of Box: see box/*"),
        (46, "443", "*.github.com", "github.com is of GitHub: see github/*"),
        (204, "443", "*.openai.com", "openai.com is of OpenAI: see chatgpt/*"),
        (46, "443", "evil-my.sharepoint.com", "whose it is under sharepoint.com is not known"),
        (46, "443", "x.blob.core.windows.net", "under blob.core.windows.net anybody may get a name"),
        (125, "80,443", "crl.new-ca.example", "lists of revoked certificates, see revocation/*"),
        (19, "443", "*.adl.windows.com", "updates of devices, see windows-update/*"),
    ] {
        assert_eq!(place_of(set, ports, host), Place::LeftOut(why.to_owned()), "{host}");
    }
}

#[test]
fn what_else_is_known_of_a_part_is_kept() {
    let program = program();
    let known = program.entry(ENTRY).expect("there");
    let new = composed(&feed(&[
        (1, "443", "Optimize", &["outlook.office.com", "outlook.new.microsoft"]),
        (12, "443", "Default", &["teams.new.microsoft", "teams.microsoft.com"]),
        (204, "443", "Default", &["*.copilot.example"]),
    ]))
    .entry;
    let (before, after) = (part(known, "exchange"), part(&new, "exchange"));
    assert_eq!(texts(&after.hosts), ["outlook.office.com", "outlook.new.microsoft"]);
    assert_eq!((&after.notes, &after.sources, &after.ports), (&before.notes, &before.sources, &before.ports));
    // Microsoft asks for no inspection of a whole category.
    let closed = |entry, id| texts(&part(entry, id).never_inspect[0].hosts).join(" ");
    assert_eq!(closed(&new, "exchange"), format!("{} outlook.new.microsoft", closed(known, "exchange")));
    assert_eq!(closed(&new, "teams"), closed(known, "teams"));
    assert_eq!(texts(&part(&new, "teams").hosts), ["teams.microsoft.com", "teams.new.microsoft"]);
    for fixed in FIXED {
        assert_eq!(part(&new, fixed), part(known, fixed));
    }
    // Of these the feed has nothing left: they permit nothing, and are still there for who takes them.
    assert!(part(&new, "power-platform").hosts.is_empty());
    let own = part(&new, "set-204");
    assert_eq!(
        (texts(&own.hosts), own.ports.as_slice(), own.notes.as_deref()),
        (vec!["*.copilot.example"], &[443][..], Some("A note"))
    );
    assert_eq!(
        (own.title.as_str(), own.sources[0].read.as_str()),
        ("Set 204 of the feed, Microsoft 365 Common", "2026-11-28")
    );
    assert!(own.no_profile.is_some() && own.profiles.is_empty());
}

#[test]
fn a_host_of_several_sets_is_in_one_part() {
    let entry = composed(&feed(&[
        (13, "443", "Default", &["new.example.com"]),
        (53, "443", "Default", &["new.example.com"]),
        (91, "443", "Default", &["new.example.com"]),
        (204, "443", "Default", &["new.example.com"]),
    ]))
    .entry;
    let having: Vec<_> = entry.parts.iter().filter(|part| texts(&part.hosts).contains(&"new.example.com")).collect();
    assert_eq!(having.iter().map(|part| part.id.as_str()).collect::<Vec<_>>(), ["common"]);
    let entry =
        composed(&feed(&[(204, "443", "Default", &["b.example.com"]), (205, "443", "Default", &["b.example.com"])]))
            .entry;
    assert_eq!(entry.parts.iter().filter(|part| texts(&part.hosts).contains(&"b.example.com")).count(), 1);
}

#[test]
fn one_pattern_reaches_another_or_does_not() {
    for (pattern, inner, expected) in [
        ("*.office.net", "*.cdn.office.net", true),
        ("*.cdn.office.net", "*.office.net", false),
        ("*.office.net", "office.net", false),
        ("*.office.net", "a.office.net", true),
        ("a.office.net", "a.office.net", true),
        ("*.onenote.net", "*cdn.onenote.net", true),
        ("*cdn.onenote.net", "acdn.onenote.net", true),
        ("a.*.office.net", "a.b.office.net", true),
        // One label only, where the other may have several.
        ("*.*.office.net", "*.office.net", false),
        ("s*.office.net", "*.office.net", false),
        ("*.office.net", "{tenant}.sharepoint.com", false),
    ] {
        let pattern = HostPattern::parse(pattern).expect(pattern);
        assert_eq!(reaches(&pattern, inner), expected, "{pattern} {inner}");
    }
}
