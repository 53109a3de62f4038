use std::path::Path;

use super::*;

/// Every oddity of the real feeds in a few sets.
pub(in crate::feed) const SMALL: &str = r#"[
  {"id": 1, "serviceArea": "Exchange", "serviceAreaDisplayName": "Exchange Online",
   "urls": ["outlook.office.com", "Outlook.Office365.com", "outlook.office.com"],
   "ips": ["40.96.0.0/13", "2603:1006::/40"], "tcpPorts": "443,80", "udpPorts": "443", "expressRoute": true,
   "category": "Optimize", "required": true},
  {"id": 2, "serviceArea": "Exchange", "urls": ["smtp.office365.com"], "tcpPorts": "143, 587, 993, 995",
   "category": "Allow", "required": false, "notes": "POP3, IMAP4, SMTP Client traffic"},
  {"id": 11, "serviceArea": "Skype", "ips": ["52.112.0.0/14"], "udpPorts": "3478,3479,3480,3481",
   "category": "Optimize", "required": true},
  {"id": 51, "serviceArea": "Common", "urls": ["*cdn.onenote.net", "autodiscover.*.onmicrosoft.com"], "tcpPorts": "443",
   "udpPorts": "", "category": "Default", "required": true, "notes": ""}
]"#;

/// The feeds as Microsoft served them, where this machine has them.
pub(in crate::feed) fn real(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    let read = std::fs::read(&path).ok();
    if read.is_none() {
        println!("skipped: there is no {}", path.display());
    }
    read
}

fn refused(text: &str) -> String {
    Feed::parse(text.as_bytes()).expect_err(text).to_string()
}

#[test]
fn every_oddity_of_a_real_feed_is_taken() {
    let feed = Feed::parse(SMALL.as_bytes()).expect("sound");
    assert_eq!((feed.sets.len(), feed.hosts(), feed.areas()), (4, 5, vec!["Common", "Exchange", "Skype"]));
    let set = |id| feed.set(id).expect("there");
    let hosts = |id| set(id).hosts.iter().map(HostPattern::as_str).collect::<Vec<_>>();
    assert_eq!(hosts(1), ["outlook.office.com", "outlook.office365.com"]);
    assert_eq!((set(1).tcp.as_slice(), set(1).udp.as_slice(), set(1).networks.len()), (&[80, 443][..], &[443][..], 2));
    assert_eq!(
        (set(2).tcp.as_slice(), set(2).required, set(2).category),
        (&[143, 587, 993, 995][..], false, Category::Allow)
    );
    assert_eq!((hosts(11), set(11).tcp.len(), set(11).udp.len()), (vec![], 0, 4));
    assert_eq!(hosts(51), ["*cdn.onenote.net", "autodiscover.*.onmicrosoft.com"]);
    assert_eq!((set(51).udp.len(), set(51).notes.as_deref()), (0, None));
    assert_eq!(feed.listing("smtp.office365.com"), [2]);
    // A byte order mark, as some editors put it in front.
    assert_eq!(Feed::parse(format!("\u{feff}{SMALL}").as_bytes()), Ok(feed.clone()));
    assert_eq!(Feed::judge(&feed.written()), Ok(feed));
}

#[test]
fn l05_a_feed_is_refused_whole_wherever_it_is_cut() {
    for cut in 0..SMALL.len() {
        let why = refused(&SMALL[..cut]);
        assert!(why.starts_with("cut short (EOF while parsing "), "{cut}: {why}");
    }
}

#[test]
fn a_flipped_octet_is_a_refusal_or_a_feed_and_never_a_panic() {
    let mut taken = 0;
    for at in 0..SMALL.len() {
        for flip in [0x01, 0x10, 0x20, 0x80, 0xff] {
            let mut octets = SMALL.as_bytes().to_vec();
            octets[at] ^= flip;
            match Feed::parse(&octets) {
                // What is taken holds: it is read back as it is written.
                Ok(feed) => {
                    taken += 1;
                    assert_eq!(Feed::judge(&feed.written()).as_ref(), Ok(&feed));
                }
                Err(refusal) => {
                    assert!(
                        refusal
                            .0
                            .iter()
                            .all(|line| line.chars().all(|c| c.is_ascii() || c == '…') && !line.contains('\n')),
                        "{refusal}"
                    )
                }
            }
        }
    }
    assert!(taken > 0, "digits and letters of values may change");
}

#[test]
fn l05_what_is_wrong_is_said_with_its_set() {
    let set = |more: &str| {
        format!("[{{\"id\":7,\"serviceArea\":\"Common\",\"category\":\"Allow\",\"required\":true{more}}}]")
    };
    let urls = |url: &str| set(&format!(",\"urls\":[\"{url}\"]"));
    let many: Vec<_> = (0..301).map(|n| format!("\"h{n}.example.com\"")).collect();
    let sets: Vec<_> = (0..501)
        .map(|id| format!("{{\"id\":{id},\"serviceArea\":\"Common\",\"category\":\"Allow\",\"required\":true}}"))
        .collect();
    for (text, why) in [
        (
            set(",\"surprise\":1"),
            "not Microsoft's list of endpoint sets (unknown field `surprise`, expected one of `id`, `serviceArea`, `serviceAreaDisplayName`, `urls`, `ips`, `tcpPorts`, `udpPorts`, `expressRoute`, `category`, `required`, `notes` at line 1 column 77)",
        ),
        (
            "[{\"id\":7}]".to_owned(),
            "not Microsoft's list of endpoint sets (missing field `serviceArea` at line 1 column 9)",
        ),
        (
            set(",\"urls\":\"a.example.com\""),
            "not Microsoft's list of endpoint sets (invalid type: string \"a.example.com\", expected a sequence at line 1 column 89)",
        ),
        (
            set("").replace('7', "-7"),
            "not Microsoft's list of endpoint sets (invalid value: integer `-7`, expected u32 at line 1 column 9)",
        ),
        (
            set("").replace("true", "\"yes\""),
            "not Microsoft's list of endpoint sets (invalid type: string \"yes\", expected a boolean at line 1 column 67)",
        ),
        (set(",\"id\":8"), "not Microsoft's list of endpoint sets (duplicate field `id` at line 1 column 71)"),
        ("[]".to_owned(), "an empty list, and a feed has at least one endpoint set"),
        ("<html>".to_owned(), "not JSON (expected value at line 1 column 1)"),
        (
            "\"text\"".to_owned(),
            "not Microsoft's list of endpoint sets (invalid type: string \"text\", expected a sequence at line 1 column 6)",
        ),
        ("{\"error\":\"x\"}".to_owned(), "one JSON object and not Microsoft's list of endpoint sets"),
        (
            "{\"instance\":\"Worldwide\",\"latest\":\"2026081400\"}".to_owned(),
            "the answer to /version and not the one to /endpoints",
        ),
        (" {\"syncToken\":\"1\",\"prefixes\":[{\"ipv4Prefix\":\"8.8.4.0/24\"}]}".to_owned(), ADDRESSES),
        ("3.7.35.0/25\n3.21.137.128/25\n".to_owned(), ADDRESSES),
        (set("").replace("Allow", "Deny"), "set 7: category \"Deny\", which is not Optimize, Allow or Default"),
        (
            set("").replace("Common", "Com\\r\\nmon"),
            "set 7: serviceArea \"Com\\\\u{d}\\\\u{a}mon\", which is not 1 to 100 printable ASCII characters",
        ),
        (set("").replace("Common", ""), "set 7: serviceArea \"\", which is not 1 to 100 printable ASCII characters"),
        (
            set(",\"notes\":\"日本\""),
            "set 7: notes \"\\\\u{65e5}\\\\u{672c}\", which are not at most 2000 printable ASCII characters",
        ),
        (urls("ｅxample.com"), "set 7: url \"\\\\u{ff45}xample.com\", which is not printable ASCII"),
        (
            urls("a.example.com\\r\\nX: y"),
            "set 7: url \"a.example.com\\\\u{d}\\\\u{a}X: y\", which is not printable ASCII",
        ),
        (
            urls("https://a.example.com/"),
            "set 7: url \"https://a.example.com/\", which is no host pattern: only the name is due here: no scheme, port or path (ports stand in `ports`)",
        ),
        (
            urls("www.bing.com**"),
            "set 7: url \"www.bing.com**\", which is no host pattern: two stars in a row: write '*.' in front for one or more labels, '*' within a label for any characters",
        ),
        (
            urls("52.112.0.0/14"),
            "set 7: url \"52.112.0.0/14\", which is no host pattern: an IP address is never a host pattern: list the name the service is reached by",
        ),
        (
            urls("*.lgwan.jp"),
            "set 7: url \"*.lgwan.jp\", which is no host pattern: names at or under lgwan.jp never leave by the breakout: remove it, LGWAN-ASP is reached on the LGWAN side",
        ),
        (urls("*.com"), "set 7: url \"*.com\", at or above the public suffix \"com\""),
        (urls("*"), "set 7: url \"*\", at or above the public suffix \"\""),
        (
            set(",\"ips\":[\"13.107.6.152/33\"]"),
            "set 7: ip \"13.107.6.152/33\", which is no range of addresses such as 13.107.6.152/31",
        ),
        (set(",\"tcpPorts\":\"80,,443\""), "set 7: tcpPorts \"80,,443\", which is no list of ports"),
        (set(",\"tcpPorts\":\"0\""), "set 7: tcpPorts \"0\", which is no list of ports"),
        (set(",\"udpPorts\":\"+443\""), "set 7: udpPorts \"+443\", which is no list of ports"),
        (set(",\"udpPorts\":\"3478-3481\""), "set 7: udpPorts \"3478-3481\", which is no list of ports"),
        (set(",\"tcpPorts\":\"65536\""), "set 7: tcpPorts \"65536\", which is no list of ports"),
        (set(&format!(",\"urls\":[{}]", many.join(","))), "set 7: 301 urls, and a set has at most 300"),
        (format!("[{}]", sets.join(",")), "501 endpoint sets, and a feed has at most 500"),
        (
            format!("{},{}", urls("a.example.com").trim_end_matches(']'), set("").trim_start_matches('[')),
            "set 7: the same id a second time",
        ),
        (" ".repeat(MAX_OCTETS + 1), "1048577 octets, and a list of endpoint sets has at most 1048576"),
    ] {
        assert_eq!(refused(&text), why, "{text:.200}");
    }
}

#[test]
fn all_problems_are_told_up_to_a_number() {
    let sets: Vec<_> = (1..=25)
        .map(|id| format!("{{\"id\":{id},\"serviceArea\":\"Common\",\"category\":\"No\",\"required\":true}}"))
        .collect();
    let refusal = Feed::parse(format!("[{}]", sets.join(",")).as_bytes()).expect_err("refused");
    assert_eq!(refusal.0.len(), 21);
    assert_eq!(refusal.0.last().map(String::as_str), Some("and 5 more"));
}

#[test]
fn ranges_wider_than_any_genuine_one_are_found() {
    assert_eq!(Feed::parse(SMALL.as_bytes()).expect("sound").wide_ranges(), Vec::<String>::new());
    let wide = SMALL.replace("40.96.0.0/13", "17.0.0.0/8").replace("2603:1006::/40", "2603::/34");
    assert_eq!(
        Feed::parse(wide.as_bytes()).expect("sound").wide_ranges(),
        [
            "set 1: 17.0.0.0/8 is wider than 40.96.0.0/13, the widest range of the real feed 2026081400",
            "set 1: 2603::/34 is wider than 2603:1063:6000::/35, the widest range of the real feed 2026081400",
        ]
    );
}

#[test]
fn a_feed_that_is_suddenly_half_empty_is_refused() {
    let feed = Feed::parse(SMALL.as_bytes()).expect("sound");
    assert_eq!(feed.refuse_collapse(10, &["Common", "Skype"]), Ok(()));
    for (hosts, areas, why) in [
        (11, &[][..], "5 hosts where there were 11: suddenly more than half of them are gone"),
        (5, &["SharePoint"], "no set of the service area SharePoint, which the feed in force has"),
    ] {
        assert_eq!(feed.refuse_collapse(hosts, areas), Err(Refusal(vec![why.to_owned()])));
    }
}

#[test]
fn both_real_feeds_are_taken() {
    for (name, sets, hosts) in
        [("m365-endpoints-worldwide.json", 63, 190), ("m365-endpoints-worldwide-older.json", 107, 303)]
    {
        let Some(octets) = real(name) else { continue };
        let feed = Feed::parse(&octets).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!((feed.sets.len(), feed.hosts(), feed.areas().len()), (sets, hosts, 4), "{name}");
        assert_eq!(feed.wide_ranges(), Vec::<String>::new(), "{name}");
        assert_eq!(Feed::judge(&feed.written()), Ok(feed));
    }
    if let Some(octets) = real("google-goog.json") {
        assert_eq!(Feed::parse(&octets), Err(Refusal(vec![ADDRESSES.to_owned()])));
    }
}

#[test]
fn hosts_of_all_sets_are_bounded() {
    let feed = |hosts: usize| {
        let set = |id: usize| {
            let urls: Vec<_> = (id * 250..hosts.min((id + 1) * 250)).map(|n| format!("h{n}.example.com")).collect();
            format!(
                "{{\"id\":{id},\"serviceArea\":\"Common\",\"category\":\"Allow\",\"required\":true,\"urls\":{urls:?}}}"
            )
        };
        let sets: Vec<_> = (0..=20).map(set).collect();
        Feed::parse(format!("[{}]", sets.join(",")).as_bytes()).map(|feed| feed.hosts())
    };
    assert_eq!(feed(5_000), Ok(5_000));
    assert_eq!(feed(5_001), Err(Refusal(vec!["5001 hosts in all, and a feed has at most 5000".to_owned()])));
}
