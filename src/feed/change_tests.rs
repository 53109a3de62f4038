use super::*;
use crate::feed::ENTRY;
use crate::feed::endpoints::tests::real;
use crate::feed::places::{Provenance, compose};

fn composed(feed: &Feed) -> Composed {
    let program = crate::config::built_in();
    let from = Provenance { url: "feed.json".to_owned(), read: "2026-11-28".to_owned() };
    compose(program.entry(ENTRY).expect("there"), &program, feed, &from)
}

/// A feed of these lines: id, area, category, ports and hosts.
fn feed(sets: &[(u32, &str, &str, &[&str])]) -> Feed {
    let sets: Vec<_> = sets
        .iter()
        .map(|(id, category, ports, urls)| {
            format!(
                "{{\"id\":{id},\"serviceArea\":\"Common\",\"category\":\"{category}\",\"required\":true,\"urls\":{urls:?},\
                 \"tcpPorts\":\"{ports}\"}}"
            )
        })
        .collect();
    Feed::parse(format!("[{}]", sets.join(",")).as_bytes()).expect("sound")
}

fn between_feeds(old: &Feed, new: &Feed) -> Changes {
    let (before, after) = (composed(old), composed(new));
    compare(&Compared { old: &before.entry, old_feed: Some(old), new: &after, new_feed: new })
}

/// Each change in a line.
fn lines(changes: &Changes) -> Vec<String> {
    let texts = |hosts: &[Template]| hosts.iter().map(Template::as_str).collect::<Vec<_>>().join(" ");
    let line = |change: &HostChange| {
        let kind = match &change.kind {
            Kind::Added => "added".to_owned(),
            Kind::Removed => "removed".to_owned(),
            Kind::Widened(from) => format!("widened from {}", texts(from)),
            Kind::Narrowed(to) => format!("narrowed to {}", texts(to)),
        };
        let by = change.reached_by.as_ref().map(|(part, host)| format!(", by {part} {host}")).unwrap_or_default();
        format!("{} {} {kind} {:?}{by}", change.part, change.host, change.sets)
    };
    changes.hosts.iter().map(line).collect()
}

#[test]
fn a_feed_beside_itself_is_no_change() {
    let feed = feed(&[(46, "Allow", "443", &["*.officeapps.live.com"]), (204, "Default", "443", &["a.example.com"])]);
    let changes = between_feeds(&feed, &feed);
    assert!(!changes.is_different() && lines(&changes).is_empty(), "{changes:?}");
}

#[test]
fn hosts_are_added_removed_widened_and_narrowed_by_part() {
    let old = feed(&[
        (
            46,
            "Allow",
            "443",
            &["a.old.example", "b.old.example", "*.narrow.example", "gone.example.com", "gone.online.office.com"],
        ),
        (47, "Default", "443", &["*.online.office.com"]),
        (204, "Default", "443", &["moved.example.com"]),
    ]);
    let new = feed(&[
        (46, "Allow", "443", &["*.old.example", "x.narrow.example", "new.example.com", "moved.example.com"]),
        (47, "Default", "443", &["*.online.office.com", "new.online.office.com"]),
    ]);
    let changes = between_feeds(&old, &new);
    assert_eq!(
        lines(&changes),
        [
            "common *.old.example widened from a.old.example b.old.example [46]",
            "common new.example.com added [46]",
            "common moved.example.com added [46], by set-204 moved.example.com",
            "common new.online.office.com added [47], by common *.online.office.com",
            "common *.narrow.example narrowed to x.narrow.example [46]",
            "common gone.example.com removed [46]",
            "common gone.online.office.com removed [46], by common *.online.office.com",
            "set-204 moved.example.com removed [204], by common moved.example.com",
        ]
    );
    assert!(changes.is_different());
}

#[test]
fn what_is_not_a_host_is_told_by_set() {
    let old = feed(&[(46, "Allow", "80,443", &["a.example.com"]), (47, "Default", "443", &["b.example.com"])]);
    let text = "[{\"id\":46,\"serviceArea\":\"Skype\",\"category\":\"Default\",\"required\":false,\"urls\":[\"a.example.com\"],\
                \"tcpPorts\":\"443\",\"udpPorts\":\"443\",\"ips\":[\"192.0.2.0/24\"]},\
                {\"id\":204,\"serviceArea\":\"Common\",\"category\":\"Default\",\"required\":true}]";
    let new = Feed::parse(text.as_bytes()).expect("sound");
    let told: Vec<_> = between_feeds(&old, &new)
        .sets
        .iter()
        .map(|set| format!("{} {}: {}", set.id, set.area, set.what.join("; ")))
        .collect();
    assert_eq!(
        told,
        [
            "46 Skype: area Common → Skype; category Allow → Default; required → optional; TCP ports 80,443 → 443; \
             UDP ports none → 443; addresses: 1 added, 0 removed",
            "47 Common: gone",
            "204 Common: new, category Default, required",
        ]
    );
}

#[test]
fn what_is_left_out_is_told_once_and_what_stays_is_told_too() {
    let old = feed(&[(56, "Allow", "443", &["login.windows.net", "login.microsoft.com"])]);
    let new = feed(&[(31, "Optimize", "443", &["*.sharepoint.com"]), (56, "Allow", "443", &["login.microsoft.com"])]);
    let changes = between_feeds(&old, &new);
    assert!(changes.hosts.is_empty() && changes.is_different(), "{changes:?}");
    let why = "SharePoint of every tenant in the world: microsoft-365/sharepoint has your own";
    assert_eq!(changes.left_out.keys().collect::<Vec<_>>(), [why]);
    // A list of another document of Microsoft's has it.
    assert_eq!(changes.kept, [("sign-in".to_owned(), Template::parse("login.windows.net").expect("a host"))]);
    let same = between_feeds(&new, &new);
    assert!(same.left_out.is_empty() && same.kept.is_empty() && !same.is_different(), "{same:?}");
}

#[test]
fn from_the_older_real_feed_to_the_newer() {
    let (Some(old), Some(new)) = (real("m365-endpoints-worldwide-older.json"), real("m365-endpoints-worldwide.json"))
    else {
        return;
    };
    let (old, new) = (Feed::parse(&old).expect("sound"), Feed::parse(&new).expect("sound"));
    let changes = between_feeds(&old, &new);
    let told = lines(&changes);
    let count = |word: &str| told.iter().filter(|line| line.contains(word)).count();
    assert_eq!(
        (count(" added "), count(" removed "), count(" widened "), count(" narrowed ")),
        (14, 102, 0, 1),
        "{told:#?}"
    );
    for line in [
        "common *.cloud.microsoft added [184]",
        "common *.cdn.office.net removed [47], by common *.office.net",
        "teams-support *.secure.skypeassets.com narrowed to join.secure.skypeassets.com [27]",
        "sign-in-other ccs.login.microsoftonline.com added [56]",
    ] {
        assert!(told.iter().any(|known| known == line), "{line}: {told:#?}");
    }
    assert!(!told.iter().any(|line| line.starts_with("sign-in ") || line.starts_with("device ")), "{told:#?}");
    assert_eq!(changes.sets.iter().filter(|set| set.what == ["gone"]).count(), 46);
}

#[test]
fn as_many_hosts_of_which_no_part_takes_half_are_refused() {
    let hosts = &["a.example.com", "b.example.com", "c.example.com"][..];
    let before = composed(&feed(&[(46, "Allow", "443", hosts)])).entry;
    let judged = |ports: &str| {
        let after = composed(&feed(&[(46, "Allow", "443", &hosts[..1]), (47, "Allow", ports, &hosts[1..])])).entry;
        refuse_fewer_taken(&before, &after).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(judged("443"), Ok(()));
    assert_eq!(
        judged("80"),
        Err("1 hosts that a part of the catalogue takes where there were 3: suddenly more than half of them are gone, perhaps because \
             sets have no TCP port 443"
            .to_owned())
    );
}
