use std::time::SystemTime;

use time::macros::date;

use super::*;
use crate::feed::endpoints::MAX_OCTETS;
use crate::feed::shelf::Shelf;
use crate::feed::state::{Staged, Words};

/// Every shape of a change that Microsoft's page shows, and those that its words describe.
const SMALL: &str = r#"[
  {"id": 426, "endpointSetId": 31, "disposition": "Change", "version": "2018062700",
   "add": {"effectiveDate": "20180609", "ips": ["192.0.2.190/32"]}, "remove": {"ips": ["192.0.2.190/32"]}},
  {"id": 424, "endpointSetId": 32, "disposition": "Change", "version": "2018062700",
   "remove": {"urls": ["*.api.example.com", "graph.example.com"]}},
  {"id": 3, "endpointSetId": 33, "changeDescription": "Removing old IP prefixes", "disposition": "Change",
   "version": "2018031301", "remove": {"ips": ["192.0.2.0/24", "2001:db8::/32"]}},
  {"id": 1201, "endpointSetId": 12, "disposition": "Change", "impact": "AddedUrl", "version": "2026110100",
   "add": {"effectiveDate": "20261201", "urls": ["New.Example.com", "new.example.com", "*cdn.example.com"]}},
  {"id": 1202, "endpointSetId": 204, "disposition": "Add", "impact": "AddedIpAndUrl", "version": "2026110100",
   "current": {"ExpressRoute": "false", "serviceArea": "Common", "category": "Default", "required": true, "tcpPorts": "443"},
   "add": {"effectiveDate": "20261202", "urls": ["set.example.com"], "ips": ["198.51.100.0/24"]}},
  {"id": 1203, "endpointSetId": 46, "disposition": "change", "impact": "OtherNonPriorityChanges", "version": "2026110100",
   "previous": {"notes": "a"}, "current": {"notes": "b"}}
]"#;

fn read(text: &str) -> Announced {
    Announced::parse(text.as_bytes()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn refused(text: &str) -> String {
    Announced::parse(text.as_bytes()).expect_err(text).to_string()
}

/// One change a line: id, set, impact, version, kind of change and days, hosts.
fn changes(lines: &[(u32, u32, &str, &str)]) -> Announced {
    let change = |(id, set, version, more): &(u32, u32, &str, &str)| {
        format!("{{\"id\":{id},\"endpointSetId\":{set},\"disposition\":\"Change\",\"version\":\"{version}\",{more}}}")
    };
    read(&format!("[{}]", lines.iter().map(change).collect::<Vec<_>>().join(",")))
}

#[test]
fn every_shape_of_a_change_is_taken() {
    let announced = read(SMALL);
    let lines: Vec<_> = announced
        .changes
        .iter()
        .map(|change| {
            let hosts = |hosts: &[HostPattern]| hosts.iter().map(HostPattern::as_str).collect::<Vec<_>>().join(" ");
            format!(
                "{} {} {} {} {:?} {:?} +[{}] -[{}]",
                change.id,
                change.set,
                change.version,
                change.disposition,
                change.impact.as_deref().unwrap_or_default(),
                change.from.map(|day| day.to_string()).unwrap_or_default(),
                hosts(&change.added),
                hosts(&change.removed)
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "3 33 2018031301 Change \"\" \"\" +[] -[]",
            "424 32 2018062700 Change \"\" \"\" +[] -[*.api.example.com graph.example.com]",
            "426 31 2018062700 Change \"\" \"2018-06-09\" +[] -[]",
            "1201 12 2026110100 Change \"AddedUrl\" \"2026-12-01\" +[new.example.com *cdn.example.com] -[]",
            "1202 204 2026110100 Add \"AddedIpAndUrl\" \"2026-12-02\" +[set.example.com] -[]",
            "1203 46 2026110100 change \"OtherNonPriorityChanges\" \"\" +[] -[]",
        ]
    );
    assert_eq!(Announced::judge(&announced.written()), Ok(announced));
    assert_eq!(read("\u{feff}[]"), Announced::default(), "nothing has changed");
    // Words are data: there may be more of them one day.
    let word = SMALL.replace("OtherNonPriorityChanges", "AddedPostQuantum").replace("\"Add\"", "\"Split\"");
    assert_eq!(read(&word).changes[5].impact.as_deref(), Some("AddedPostQuantum"));
    assert_eq!(read(&word).changes[4].disposition, "Split");
}

#[test]
fn l05_whatever_is_cut_off_is_refused_and_no_octet_makes_it_panic() {
    let whole = SMALL.trim_end();
    for cut in 0..whole.len() {
        assert!(refused(&whole[..cut]).starts_with("cut short (EOF"), "{cut}");
    }
    let mut taken = 0;
    for at in 0..whole.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut octets = whole.as_bytes().to_vec();
            octets[at] ^= flip;
            match Announced::parse(&octets) {
                Ok(announced) => {
                    taken += 1;
                    assert_eq!(Announced::judge(&announced.written()), Ok(announced));
                }
                Err(refusal) => assert!(
                    refusal.0.iter().all(|line| line.chars().all(|c| matches!(c, ' '..='~' | '…'))),
                    "{refusal}"
                ),
            }
        }
    }
    assert!(taken > 0, "digits and letters of values may change");
}

#[test]
fn l05_what_is_wrong_is_said_with_its_change() {
    let change = |more: &str| {
        format!("[{{\"id\":7,\"endpointSetId\":12,\"disposition\":\"Change\",\"version\":\"2026110100\"{more}}}]")
    };
    let add = |items: &str| change(&format!(",\"add\":{{{items}}}"));
    let many = |n: usize, item: fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>().join(",");
    for (text, why) in [
        (
            change(",\"surprise\":1"),
            "not Microsoft's list of changes (unknown field `surprise`, expected one of `id`, `endpointSetId`, `disposition`, `impact`, `version`, `changeDescription`, `previous`, `current`, `add`, `remove` at line 1 column 84)",
        ),
        (
            add("\"effective\":1"),
            "not Microsoft's list of changes (unknown field `effective`, expected one of `effectiveDate`, `urls`, `ips` at line 1 column 92)",
        ),
        (
            "[{\"id\":7}]".to_owned(),
            "not Microsoft's list of changes (missing field `endpointSetId` at line 1 column 9)",
        ),
        (
            add("\"urls\":\"a.example.com\""),
            "not Microsoft's list of changes (invalid type: string \"a.example.com\", expected a sequence at line 1 column 103)",
        ),
        (
            change(",\"previous\":\"x\""),
            "not Microsoft's list of changes (invalid type: string \"x\", expected a map at line 1 column 88)",
        ),
        (
            "{}".to_owned(),
            "not Microsoft's list of changes (invalid type: map, expected a sequence at line 1 column 0)",
        ),
        ("<html>".to_owned(), "not JSON (expected value at line 1 column 1)"),
        (
            "[{\"id\":7,\"serviceArea\":\"Common\",\"category\":\"Allow\",\"required\":true}]".to_owned(),
            "the answer to /endpoints and not the one to /changes",
        ),
        (change("").replace("2026110100", "2026"), "change 7: version \"2026\", which is not ten digits"),
        (
            change("").replace("Change", "Ch\\r\\nange"),
            "change 7: disposition \"Ch\\\\u{d}\\\\u{a}ange\", which is not 1 to 50 printable ASCII characters",
        ),
        (change(",\"impact\":\" \""), "change 7: impact \" \", which is not 1 to 50 printable ASCII characters"),
        (
            change(",\"impact\":\"追加\""),
            "change 7: impact \"\\\\u{8ffd}\\\\u{52a0}\", which is not 1 to 50 printable ASCII characters",
        ),
        (
            change(",\"changeDescription\":\"\\u001b\""),
            "change 7: changeDescription \"\\\\u{1b}\", which is not at most 2000 printable ASCII characters",
        ),
        (
            add("\"effectiveDate\":\"20261301\""),
            "change 7: effectiveDate \"20261301\", which is no day such as 20261201",
        ),
        (
            add("\"effectiveDate\":\"20270229\""),
            "change 7: effectiveDate \"20270229\", which is no day such as 20261201",
        ),
        (
            add("\"effectiveDate\":\"2026-12-01\""),
            "change 7: effectiveDate \"2026-12-01\", which is no day such as 20261201",
        ),
        (
            add("\"effectiveDate\":\"+2026120\""),
            "change 7: effectiveDate \"+2026120\", which is no day such as 20261201",
        ),
        (
            add("\"effectiveDate\":\"\"").replace("add", "remove"),
            "change 7: effectiveDate \"\", which is no day such as 20261201",
        ),
        (
            add("\"urls\":[\"a.example.com\\r\\nX: y\"]"),
            "change 7: url \"a.example.com\\\\u{d}\\\\u{a}X: y\", which is not printable ASCII",
        ),
        (add("\"urls\":[\"*.com\"]"), "change 7: url \"*.com\", at or above the public suffix \"com\""),
        (
            add("\"ips\":[\"192.0.2.0/33\"]").replace("add", "remove"),
            "change 7: ip \"192.0.2.0/33\", which is no range of addresses such as 13.107.6.152/31",
        ),
        (format!("[{0},{0}]", change("").trim_matches(['[', ']'])), "change 7: the same id a second time"),
        (
            add(&format!("\"urls\":[{}]", many(2_001, |n| format!("\"h{n}.example.com\"")))),
            "2001 urls, and a list of changes has at most 2000",
        ),
        (
            add(&format!("\"ips\":[{}]", many(20_001, |_| "\"192.0.2.0/24\"".to_owned()))),
            "20001 ips, and a list of changes has at most 20000",
        ),
        (
            format!(
                "[{}]",
                many(1_001, |n| format!(
                    "{{\"id\":{n},\"endpointSetId\":1,\"disposition\":\"Add\",\"version\":\"2026110100\"}}"
                ))
            ),
            "1001 changes, and a list of changes has at most 1000",
        ),
        (" ".repeat(MAX_OCTETS + 1), "1048577 octets, and a list of changes has at most 1048576"),
    ] {
        assert_eq!(refused(&text), why, "{text:.200}");
    }
}

/// What cannot be read again would refuse the configuration.
#[test]
fn the_largest_answer_beside_the_largest_list_is_a_state_that_is_read() {
    let label = "x".repeat(63);
    let long = |n: u32| format!("h{n:04}.{label}.{label}.{label}.{}.example.com", "y".repeat(43));
    let words = "W".repeat(MAX_WORD);
    let change = |n: u32| {
        let (added, removed) = (long(n), long(n + 1_000));
        format!(
            "{{\"id\":{},\"endpointSetId\":{},\"disposition\":\"{words}\",\"impact\":\"{words}\",\"version\":\"2026110100\",\
             \"add\":{{\"effectiveDate\":\"20261201\",\"urls\":[\"{added}\"]}},\"remove\":{{\"urls\":[\"{removed}\"]}}}}",
            u32::MAX - n,
            u32::MAX
        )
    };
    let text = format!("[{}]", (0..1_000).map(change).collect::<Vec<_>>().join(","));
    let networks = ["\"::/0\""; 300].join(",");
    let set = |id: u32| {
        format!("{{\"id\":{id},\"serviceArea\":\"C\",\"category\":\"Allow\",\"required\":true,\"ips\":[{networks}]}}")
    };
    let list = format!("[{}]", (0..480).map(set).collect::<Vec<_>>().join(","));
    assert!((1_030_000..MAX_OCTETS).contains(&list.len()), "{}", list.len());
    let feed = Feed::parse(list.as_bytes()).expect("sound");
    let mut staged = Staged::new(feed, list.as_bytes(), "f", None, SystemTime::UNIX_EPOCH);
    staged.announced = Some(read(&text));
    let directory = tempfile::tempdir().expect("a directory");
    let shelf = Shelf::new(directory.path());
    shelf.stage(&staged).expect("staged");
    let words = Words { by: "a".to_owned(), note: None };
    let state = shelf.approval(&words, None, SystemTime::UNIX_EPOCH).expect("an approval");
    shelf.put(&state).expect("put");
    assert!(shelf.in_force().expect("read") == Some(state));
}

#[test]
fn a_day_of_first_use_is_told_only_where_it_is_certain() {
    let announced = changes(&[
        (
            1,
            12,
            "2026110100",
            "\"add\":{\"effectiveDate\":\"20261201\",\"urls\":[\"new.example.com\",\"two.example.com\"]}",
        ),
        (
            2,
            46,
            "2026110100",
            "\"add\":{\"effectiveDate\":\"20261115\",\"urls\":[\"two.example.com\",\"old.example.com\"]}",
        ),
        (3, 47, "2026110100", "\"add\":{\"urls\":[\"when.example.com\"]}"),
        (4, 12, "2026110100", "\"add\":{\"effectiveDate\":\"20261201\",\"urls\":[\"moved.example.com\"]}"),
        (5, 46, "2026110100", "\"remove\":{\"urls\":[\"moved.example.com\"]}"),
        (6, 12, "2026100100", "\"add\":{\"effectiveDate\":\"20261101\",\"urls\":[\"new.example.com\"]}"),
    ]);
    for (host, sets, day) in [
        // The later of two announcements of one set holds.
        ("new.example.com", &[12][..], Some(date!(2026 - 12 - 01))),
        // Of two sets the one that uses it first.
        ("two.example.com", &[12, 46], Some(date!(2026 - 11 - 15))),
        ("two.example.com", &[12], Some(date!(2026 - 12 - 01))),
        // Set 47 lists it too, since nobody knows when.
        ("new.example.com", &[12, 47], None),
        ("when.example.com", &[47], None),
        // Another set had it before.
        ("moved.example.com", &[12], None),
        ("other.example.com", &[12], None),
        ("new.example.com", &[], None),
    ] {
        assert_eq!(announced.first_use(host, sets), day, "{host} {sets:?}");
    }
    let id = |change: Option<&Announcement>| change.map(|change| change.id);
    assert_eq!(id(announced.adding("new.example.com", &[12])), Some(1));
    assert_eq!(id(announced.adding("moved.example.com", &[46])), None);
    assert_eq!(id(announced.removing("moved.example.com", &[46])), Some(5));
    assert_eq!(id(announced.removing("moved.example.com", &[])), Some(5), "a list without sets is at hand");
}

#[test]
fn hosts_that_are_not_used_yet_are_told_by_day() {
    let announced = changes(&[
        (
            1,
            12,
            "2026110100",
            "\"add\":{\"effectiveDate\":\"20261201\",\"urls\":[\"b.example.com\",\"a.example.com\",\"not-listed.example.com\"]}",
        ),
        (
            2,
            12,
            "2026110100",
            "\"add\":{\"effectiveDate\":\"20261202\",\"urls\":[\"c.example.com\",\"in-use.example.com\"]}",
        ),
    ]);
    let feed = Feed::parse(
        br#"[{"id":12,"serviceArea":"Skype","category":"Allow","required":true,
              "urls":["a.example.com","b.example.com","c.example.com","in-use.example.com"]},
             {"id":46,"serviceArea":"Common","category":"Allow","required":true,"urls":["in-use.example.com"]}]"#,
    )
    .expect("sound");
    let told = |today: Date| {
        let by_day = announced.not_yet(&feed, today);
        by_day.iter().map(|(day, hosts)| format!("{day} {}", hosts.join(" "))).collect::<Vec<_>>()
    };
    assert_eq!(told(date!(2026 - 11 - 30)), ["2026-12-01 a.example.com b.example.com", "2026-12-02 c.example.com"]);
    assert_eq!(told(date!(2026 - 12 - 01)), ["2026-12-02 c.example.com"]);
    assert!(told(date!(2026 - 12 - 02)).is_empty());
}
