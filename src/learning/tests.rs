//! Lines of records in, blocks and changes out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::catalog::Catalogue;
use crate::config;
use crate::policy::{
    Enforcement, GroupSource, HeaderHosts, HostPattern, Mode, Observe, Policy, PolicySource, ServiceSource, SetHeader,
    Until,
};

/// A terminal line of a CONNECT with `more` behind it.
fn connect(name: &str, port: u16, more: &str) -> String {
    format!(
        "{{\"event.sequence\":1,\"@timestamp\":\"2026-11-28T01:02:03.004Z\",\"event.action\":\"connection\",\
         \"source.ip\":\"10.20.0.7\",\"sekisho.client\":\"office\",\"sekisho.authority\":\"{name}:{port}\",\
         \"url.domain\":\"{name}\",\"destination.port\":{port}{more}}}\n"
    )
}

const OBSERVED: &str = ",\"event.outcome\":\"allowed\",\"rule.id\":\"builtin/observe\",\"sekisho.mode\":\"tunnel\",\"sekisho.would_refuse\":\"not_allowlisted\"";
const REFUSED: &str =
    ",\"event.outcome\":\"denied\",\"event.reason\":\"not_allowlisted\",\"rule.id\":\"builtin/not-allowlisted\"";

fn observed(name: &str) -> String {
    connect(name, 443, OBSERVED)
}

fn refused(name: &str, port: u16) -> String {
    connect(name, port, REFUSED)
}

/// A request in plain HTTP that nothing lists.
fn plain(name: &str) -> String {
    refused(name, 80).replace("\"connection\"", "\"request\"").replace("CONNECT", "GET")
}

fn asked(text: &str, policy: Option<&Policy>) -> Asked {
    let mut asked = Asked::default();
    each_attempt(text.as_bytes(), &mut Seen::default(), |attempt| asked.note(attempt, policy)).expect("read");
    asked
}

fn seen(text: &[u8]) -> Seen {
    let mut seen = Seen::default();
    each_attempt(text, &mut seen, |_| {}).expect("read");
    seen
}

fn blocks(text: &str, catalogue: &Catalogue, policy: Option<&Policy>) -> Vec<Block> {
    suggest(asked(text, policy), catalogue, policy).0
}

/// `name: hosts (port)`, where of the catalogue `name: reference`, and the clients.
fn told(blocks: &[Block]) -> Vec<String> {
    let told = |block: &Block| {
        let hosts: Vec<_> = block.hosts.iter().map(|host| host.name.as_str()).collect();
        let of = match &block.of {
            Of::Catalogue { reference, .. } => format!("of {reference}"),
            Of::Domain { port, plain_http, shared } => {
                let plain = if *plain_http { " plain" } else { "" };
                let under = shared.as_ref().map_or_else(String::new, |suffix| format!(", under {suffix}"));
                format!("{port}{plain}{under}")
            }
        };
        let clients =
            block.clients.as_ref().map_or_else(String::new, |clients| format!(" for {}", clients.join(" and ")));
        format!("{}: {} ({of}){clients}", block.name, hosts.join(" "))
    };
    blocks.iter().map(told).collect()
}

fn group(name: &str, network: &str) -> GroupSource {
    GroupSource { name: name.to_owned(), networks: vec![network.parse().expect("network")], line: 1 }
}

fn service(name: &str, hosts: &[&str], ports: &[u16]) -> ServiceSource {
    ServiceSource {
        name: name.to_owned(),
        line: 10,
        hosts: (11..).zip(hosts).map(|(line, host)| (HostPattern::parse(host).expect(host), line)).collect(),
        ports: ports.to_vec(),
        mode: Mode::Tunnel,
        clients: None,
        plain_http: false,
        headers: Vec::new(),
    }
}

fn policy(services: Vec<ServiceSource>) -> Policy {
    let groups = vec![group("office", "10.20.0.0/16"), group("school", "10.30.0.0/16")];
    Policy::compile(PolicySource { groups, services }).expect("no conflict")
}

#[test]
fn lines_that_are_none_of_the_records_are_counted_and_passed_over() {
    let good = observed("a.example.com");
    let long = format!("{{\"event.sequence\":1,\"x\":\"{}\"}}", "a".repeat(1 << 20));
    for (line, expected) in [
        (good.as_str(), (1, 0, 0)),
        (good.trim_end(), (1, 0, 0)),
        ("", (0, 0, 0)),
        ("\n\n", (0, 0, 0)),
        ("{\"event.sequence\":2,\"event.action\":\"lifecycle\",\"sekisho.lifecycle\":\"start\"}\n", (0, 1, 0)),
        ("{\"event.sequence\":2,\"event.action\":\"established\"}\n", (0, 1, 0)),
        (&good[..good.len() / 2], (0, 0, 1)),
        ("\0\0\0\n", (0, 0, 1)),
        ("Nov 28 squid[1]: TCP_DENIED\n", (0, 0, 1)),
        ("[1,2]\n", (0, 0, 1)),
        ("null\n", (0, 0, 1)),
        ("{}\n", (0, 0, 1)),
        // Of another program, of a type that is none of ours, a key twice, a word that is not on the list.
        ("{\"event.action\":\"connection\",\"event.outcome\":\"allowed\"}\n", (0, 0, 1)),
        (
            &good.replace("443}", "\"443\"}").replace("\"destination.port\":443", "\"destination.port\":\"443\""),
            (0, 0, 1),
        ),
        (&good.replace("10.20.0.7", "10.20.0.700"), (0, 0, 1)),
        (&good.replace("{", "{\"event.outcome\":\"denied\","), (0, 0, 1)),
        (&good.replace("allowed", "perhaps"), (0, 0, 1)),
        (&good.replace("\"connection\"", "\"dream\""), (0, 0, 1)),
        (&long, (0, 0, 1)),
    ] {
        let Seen { attempts, others, foreign } = seen(line.as_bytes());
        assert_eq!((attempts, others, foreign), expected, "{}", &line[..line.len().min(200)]);
        // The lines around it are read all the same.
        let around = format!("{good}{}\n{good}", line.trim_end());
        assert_eq!(seen(around.as_bytes()).attempts, expected.0 + 2, "{}", &line[..line.len().min(200)]);
    }
    assert_eq!(seen(&[0xff, 0xfe, b'\n']).foreign, 1);
}

proptest! {
    #[test]
    fn k01_no_file_is_too_odd_to_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let Seen { attempts, others, foreign } = seen(&bytes);
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count() as u64;
        prop_assert_eq!(attempts + others + foreign, lines);
    }

    /// Whatever stands in the place of the name: it is a host name when it is proposed, or it is not proposed.
    #[test]
    fn k01_what_is_proposed_is_a_host_name(text in "\\PC{0,40}|[a-z\"\\\\\\]\\[\n#=. ]{1,20}") {
        let json = serde_json::Value::from(text.as_str()).to_string();
        let line = observed("PLACE").replace("\"url.domain\":\"PLACE\"", &format!("\"url.domain\":{json}"))
            .replace("\"PLACE:443\"", &json);
        for block in blocks(&line, &Catalogue::default(), None) {
            for name in block.hosts.iter().map(|host| host.name.as_str()).chain([block.name.as_str()]) {
                prop_assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')), "{}", name);
            }
        }
    }
}

#[test]
fn what_was_asked_for_is_counted_by_whom_and_on_which_days() {
    let text = [
        observed("a.example.com"),
        observed("a.example.com").replace("11-28", "11-30").replace("office", "school"),
        observed("a.example.com").replace("\"office\"", "\"school\""),
        refused("a.example.com", 443).replace("\"event.outcome\"", "\"sekisho.count\":40,\"event.outcome\""),
        // Odd days are none.
        observed("a.example.com").replace("2026-11-28T", "2026-11-28x"),
        observed("a.example.com").replace("2026-11-28T01:02:03.004Z", "yesterday"),
    ];
    let asked = asked(&text.concat(), None);
    assert_eq!(asked.days, Some((20_261_128, 20_261_130)));
    let (names, groups, _) = asked.into_names();
    assert_eq!(groups, ["office", "school"]);
    let [tally] = names.values().collect::<Vec<_>>()[..] else { panic!("one name: {names:?}") };
    assert_eq!((tally.observed, tally.refused, tally.total(), tally.days(), tally.plain), (5, 40, 45, 2, false));
    assert_eq!(tally.groups(), ([(0, 43), (1, 2)].as_slice(), true));
}

#[test]
fn what_nobody_should_permit_by_this_is_left_out_and_counted() {
    let listed = policy(vec![service("listed", &["*.listed.test"], &[443])]);
    let together = "{\"event.sequence\":1,\"event.action\":\"connection\",\"event.outcome\":\"denied\",\"source.ip\":\"10.20.0.7\",\
                    \"event.reason\":\"not_allowlisted\",\"sekisho.count\":500,\"sekisho.authorities\":[\"x.test:443\",\"y.test:443\",\"b d\"]}\n";
    let rows = [
        (observed("www.listed.test"), Skipped { decided: 1, ..Skipped::default() }),
        (observed("a.example.com").replace("10.20.0.7", "192.0.2.1"), Skipped { decided: 1, ..Skipped::default() }),
        (observed("a.example.com").replace("\"allowed\"", "\"failed\""), Skipped { failed: 1, ..Skipped::default() }),
        (refused("asp.lgwan.jp", 443), Skipped { unlistable: 1, ..Skipped::default() }),
        (refused("localhost", 443), Skipped { unlistable: 1, ..Skipped::default() }),
        (refused("city.jp", 443).replace("city.jp", "co.jp"), Skipped { unlistable: 1, ..Skipped::default() }),
        (
            refused("b.test", 8443),
            Skipped { other_ports: 1, shown: vec!["b.test:8443".to_owned()], ..Skipped::default() },
        ),
        (refused("b.test", 80), Skipped { other_ports: 1, shown: vec!["b.test:80".to_owned()], ..Skipped::default() }),
        (refused("b\\\"test", 443), Skipped { nameless: 1, ..Skipped::default() }),
        (together.to_owned(), Skipped { together: 498, ..Skipped::default() }),
        // A request inside an inspected connection: a reload had taken its permission.
        (
            refused("b.test", 443).replace("\"connection\"", "\"request\",\"sekisho.connection\":\"1\""),
            Skipped::default(),
        ),
    ];
    for (line, expected) in rows {
        assert_eq!(asked(&line, Some(&listed)).skipped, expected, "{line}");
    }
}

/// G09: a tunnel to a host that the restricted service leaves out is the way past the restriction.
#[test]
fn g09_hosts_of_a_tenant_restriction_are_not_proposed() {
    let closed = ["login.microsoft.com", "*.slack.com"].map(|text| HostPattern::parse(text).expect(text));
    let mut asked = Asked::but_for(&closed);
    let text = [refused("login.microsoft.com", 443), refused("a.slack.com", 443), refused("a.slack.com", 443)].concat()
        + &observed("slack.com");
    each_attempt(text.as_bytes(), &mut Seen::default(), |attempt| asked.note(attempt, None)).expect("read");
    let (blocks, _, skipped) = suggest(asked, &Catalogue::default(), None);
    let names: Vec<_> = blocks.iter().flat_map(|block| &block.hosts).map(|host| host.name.as_str()).collect();
    assert_eq!((names.as_slice(), skipped.restricted), (["slack.com"].as_slice(), 3));
    assert_eq!(skipped.restricted_shown, ["login.microsoft.com", "a.slack.com"]);
}

#[test]
fn exact_names_are_gathered_by_the_domain_somebody_registered_and_the_most_frequent_is_first() {
    let text = [
        observed("b.example.com"),
        observed("a.example.com").repeat(2),
        observed("x.city.kawasaki.jp").repeat(4),
        observed("www.example.co.jp"),
        observed("other.co.jp"),
        observed("me.github.io"),
        observed("you.github.io"),
        observed("d1234.cloudfront.net"),
        plain("crl.example.com"),
        plain("both.example.org") + &observed("both.example.org"),
    ];
    assert_eq!(
        told(&blocks(&text.concat(), &Catalogue::default(), None)),
        [
            "city.kawasaki.jp: x.city.kawasaki.jp (443)",
            "example.com: a.example.com b.example.com (443)",
            "d1234.cloudfront.net: d1234.cloudfront.net (443, under cloudfront.net)",
            "example.co.jp: www.example.co.jp (443)",
            "example.com, plain HTTP: crl.example.com (80 plain)",
            "example.org, plain HTTP: both.example.org (80 plain)",
            "example.org: both.example.org (443)",
            "me.github.io: me.github.io (443, under github.io)",
            "other.co.jp: other.co.jp (443)",
            "you.github.io: you.github.io (443, under github.io)",
        ]
    );
    let long = format!("{0}.{0}.{0}.example.com", "a".repeat(60));
    let taken =
        policy(vec![service("example.com", &["x.test"], &[443]), service("example.com (2)", &["y.test"], &[443])]);
    assert_eq!(blocks(&observed(&long), &Catalogue::default(), Some(&taken))[0].name, "example.com (3)");
    let long = format!("{0}.{0}.github.io", "a".repeat(60));
    assert!(blocks(&observed(&long), &Catalogue::default(), None)[0].name.chars().count() <= 100);
}

#[test]
fn only_the_groups_that_asked_are_let_in_where_it_is_known_who_else_there_is() {
    let here = policy(vec![service("listed", &["listed.test"], &[443])]);
    let school = observed("a.example.com").replace("\"office\"", "\"school\"").replace("10.20.0.7", "10.30.0.7");
    let of = |text: String, policy| told(&blocks(&text, &Catalogue::default(), policy));
    assert_eq!(of(observed("a.example.com"), Some(&here)), ["example.com: a.example.com (443) for office"]);
    assert_eq!(of(observed("a.example.com") + &school, Some(&here)), ["example.com: a.example.com (443)"]);
    assert_eq!(of(observed("a.example.com"), None), ["example.com: a.example.com (443)"]);
    // Another name of the same address, a name that the configuration does not know: nobody is left out.
    for odd in [school.replace("\"school\"", "\"gone\""), school.replace("\"sekisho.client\":\"school\",", "")] {
        assert_eq!(
            of(odd.clone() + &observed("a.example.com"), Some(&here)),
            ["example.com: a.example.com (443)"],
            "{odd}"
        );
    }
}

#[test]
fn parts_of_the_catalogue_come_first_and_fit_beside_the_configuration() {
    let catalogue = config::built_in();
    let text = observed("login.microsoftonline.com") + &observed("www.example.com").repeat(9);
    assert_eq!(
        told(&blocks(&text, &catalogue, None)),
        [
            "microsoft-365/sign-in: login.microsoftonline.com (of microsoft-365/sign-in)",
            "example.com: www.example.com (443)",
        ]
    );
    // One of its patterns is there already: the whole part would conflict.
    let here = policy(vec![service("mine", &["login.windows.net"], &[443])]);
    assert_eq!(
        told(&blocks(&text, &catalogue, Some(&here)))[1],
        "microsoftonline.com: login.microsoftonline.com (443) for office"
    );
    // Nor may it take names away from what is wider and inspected: its headers would be gone.
    let wide = ServiceSource { mode: Mode::Inspect, ..service("restricted", &["*.microsoftonline.com"], &[443]) };
    let text = observed("login.windows.net");
    assert_eq!(
        told(&blocks(&text, &catalogue, Some(&policy(vec![wide])))),
        ["windows.net: login.windows.net (443) for office"]
    );
    assert_eq!(
        told(&blocks(&text, &catalogue, None)),
        ["microsoft-365/sign-in: login.windows.net (of microsoft-365/sign-in)"]
    );
    // What needs a tenant's name is proposed as it was asked for: whose tenant it is, the record does not say.
    assert_eq!(
        told(&blocks(&observed("city-example.sharepoint.com"), &catalogue, None)),
        ["sharepoint.com: city-example.sharepoint.com (443)"]
    );
    // An exact name takes no port away from the part that has another.
    let text = observed("ocsp.digicert.com") + &plain("ocsp.digicert.com");
    assert_eq!(
        told(&blocks(&text, &catalogue, None)),
        ["revocation/digicert: ocsp.digicert.com (of revocation/digicert)", "digicert.com: ocsp.digicert.com (443)",]
    );
    let text = observed("www.slack.com") + &plain("www.slack.com") + &observed("a.slack.com");
    assert_eq!(
        told(&blocks(&text, &catalogue, None)),
        [
            "slack/app: a.slack.com (of slack/app)",
            "slack.com, plain HTTP: www.slack.com (80 plain)",
            "slack.com: www.slack.com (443)",
        ]
    );
}

#[test]
fn h10_a_flood_of_names_is_counted_past_its_bound() {
    let mut asked = Asked::default();
    let mut seen = Seen::default();
    for thousand in 0..101 {
        let lines: String = (0..1000).map(|n| observed(&format!("n{n}.x{thousand}.test"))).collect();
        each_attempt(lines.as_bytes(), &mut seen, |attempt| asked.note(attempt, None)).expect("read");
    }
    // A name that is kept goes on to be counted.
    each_attempt(observed("n0.x0.test").as_bytes(), &mut seen, |attempt| asked.note(attempt, None)).expect("read");
    let (names, _, skipped) = asked.into_names();
    assert_eq!((names.len(), skipped.no_room, seen.attempts), (100_000, 1_000, 101_001));
    assert_eq!(names.values().map(Tally::total).sum::<u64>(), 100_001);
}

/// Two groups, a tunnel, an inspected service with a header, plain HTTP.
fn city() -> Policy {
    let header = SetHeader { name: "X-Org".to_owned(), value: "city".to_owned(), hosts: HeaderHosts::All };
    let inspected = ServiceSource {
        mode: Mode::Inspect,
        headers: vec![header],
        ..service("inspected", &["inspected.test", "*.sign-in.test"], &[443])
    };
    let office =
        ServiceSource { clients: Some(vec!["office".to_owned()]), ..service("office's", &["office.test"], &[443]) };
    let plain = ServiceSource { plain_http: true, ..service("plain", &["crl.test"], &[80]) };
    policy(vec![service("tunnelled", &["tunnel.test"], &[443]), inspected, office, plain])
}

fn replayed(line: &str, observes: bool) -> (Compared, Vec<String>) {
    let policy = city();
    let observe = Enforcement::Observe(Observe {
        until: Until::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
        closed: Arc::default(),
    });
    let observing = observe.at(SystemTime::UNIX_EPOCH).filter(|_| observes);
    let mut replay = Replay::of(&policy, observing);
    let mut seen = Seen::default();
    each_attempt(line.as_bytes(), &mut seen, |attempt| replay.note(attempt)).expect("read");
    assert_eq!(seen.foreign, 0, "{line}");
    let compared = replay.compared;
    let told = |(change, hits): (Change, Hits)| {
        let group = change.group.as_deref().unwrap_or("-").to_owned();
        let Change { method, authority, from, to, .. } = change;
        format!("{} {group} {method} {authority}: {from} -> {to} by {}", hits.count, hits.rule.id())
    };
    (compared, replay.into_changes().into_iter().map(told).collect())
}

#[test]
fn a_policy_is_asked_again_and_what_it_decides_otherwise_is_a_change() {
    let permitted = |mode: &str, more: &str| {
        format!(",\"event.outcome\":\"allowed\",\"rule.id\":\"service/9\",\"sekisho.mode\":\"{mode}\"{more}")
    };
    let tunnel = permitted("tunnel", "");
    let denied =
        |reason: &str| format!(",\"event.outcome\":\"denied\",\"rule.id\":\"x\",\"event.reason\":\"{reason}\"");
    let request = |line: String, more: &str| {
        line.replace(
            "\"connection\"",
            &format!("\"request\",\"sekisho.mode\":\"inspect\",\"sekisho.connection\":\"1\"{more}"),
        )
    };
    let allowed_request = ",\"event.outcome\":\"allowed\",\"rule.id\":\"service/9\"";
    let get = |line: String, method: &str| {
        line.replace("\"connection\"", &format!("\"request\",\"http.request.method\":\"{method}\""))
    };
    let rows = [
        // Verdicts.
        (connect("tunnel.test", 443, &tunnel), ""),
        (
            connect("gone.test", 443, &tunnel),
            "CONNECT gone.test:443: tunnel -> deny (not_allowlisted) by builtin/not-allowlisted",
        ),
        (
            connect("tunnel.test", 8443, &tunnel),
            "CONNECT tunnel.test:8443: tunnel -> deny (port_not_permitted) by service/1",
        ),
        (refused("tunnel.test", 443), "CONNECT tunnel.test:443: deny (not_allowlisted) -> tunnel by service/1"),
        (refused("gone.test", 443), ""),
        (
            connect("gone.test", 443, &denied("client_not_permitted")),
            "CONNECT gone.test:443: deny (client_not_permitted) -> deny (not_allowlisted) by builtin/not-allowlisted",
        ),
        (
            connect("gone.test", 443, OBSERVED),
            "CONNECT gone.test:443: tunnel (observed) -> deny (not_allowlisted) by builtin/not-allowlisted",
        ),
        (connect("tunnel.test", 443, OBSERVED), "CONNECT tunnel.test:443: tunnel (observed) -> tunnel by service/1"),
        (
            connect("x", 443, &denied("ip_literal"))
                .replace("\"url.domain\":\"x\",", "")
                .replace("\"x:443\"", "\"192.0.2.1:443\""),
            "",
        ),
        // What became of it afterwards is no difference; what a reload cut had been permitted.
        (connect("tunnel.test", 443, &tunnel.replace("\"allowed\"", "\"failed\",\"event.reason\":\"dns_failed\"")), ""),
        (
            connect(
                "tunnel.test",
                443,
                &tunnel.replace("\"allowed\"", "\"denied\",\"event.reason\":\"name_mismatch\""),
            ),
            "",
        ),
        (
            connect("tunnel.test", 443, &tunnel.replace("\"allowed\"", "\"denied\",\"event.reason\":\"rate_limited\"")),
            "",
        ),
        (
            connect(
                "gone.test",
                443,
                &tunnel.replace("\"allowed\"", "\"allowed\",\"event.reason\":\"policy_withdrawn\""),
            ),
            "CONNECT gone.test:443: tunnel -> deny (not_allowlisted) by builtin/not-allowlisted",
        ),
        // Modes.
        (connect("inspected.test", 443, &tunnel), "CONNECT inspected.test:443: tunnel -> inspect (x-org) by service/2"),
        (connect("inspected.test", 443, &permitted("inspect", "")), ""),
        (
            connect("tunnel.test", 443, &permitted("inspect", ",\"tls.client.server_name\":\"tunnel.test\"")),
            "CONNECT tunnel.test:443: inspect -> tunnel by service/1",
        ),
        // A tunnel wants a server_name, an inspected connection does not.
        (
            connect("tunnel.test", 443, &permitted("inspect", "")),
            "CONNECT tunnel.test:443: inspect -> deny (no_sni) by service/1",
        ),
        // Headers, where they are known.
        (request(connect("inspected.test", 443, allowed_request), ",\"sekisho.headers_set\":[\"x-ORG\"]"), ""),
        (
            request(connect("inspected.test", 443, allowed_request), ",\"sekisho.headers_set\":[]"),
            "request inspected.test:443: inspect (no headers) -> inspect (x-org) by service/2",
        ),
        (
            request(
                connect("a.sign-in.test", 443, allowed_request),
                ",\"sekisho.headers_set\":[\"X-Org\",\"X-Other\"]",
            ),
            "request a.sign-in.test:443: inspect (x-org, x-other) -> inspect (x-org) by service/2",
        ),
        // Inside, a method is refused before the policy is asked.
        (request(connect("inspected.test", 443, &denied("method_not_permitted")), ""), ""),
        // Plain HTTP.
        (get(connect("crl.test", 80, allowed_request), "GET"), ""),
        (
            get(connect("crl.test", 80, &denied("not_allowlisted")), "POST"),
            "POST crl.test:80: deny (not_allowlisted) -> plain_http by service/4",
        ),
        (get(connect("crl.test", 80, &denied("method_not_permitted")), "PUT"), ""),
        (get(connect("tunnel.test", 443, &denied("plain_http_not_permitted")), "GET"), ""),
    ];
    for (line, expected) in rows {
        let (compared, changes) = replayed(&line, false);
        let expected: Vec<_> = (!expected.is_empty()).then(|| format!("1 office {expected}")).into_iter().collect();
        assert_eq!(changes, expected, "{line}");
        let changed = expected.len() as u64;
        assert_eq!(compared, Compared { changed, unchanged: 1 - changed, ..Compared::default() }, "{line}");
    }
}

#[test]
fn replay_goes_by_the_client_and_counts_what_is_alike_once() {
    let line = refused("office.test", 443);
    let school = line.replace("10.20.0.7", "10.30.0.7");
    let three = line.replace("\"event.outcome\"", "\"sekisho.count\":3,\"event.outcome\"");
    let stranger = line.replace("10.20.0.7", "192.0.2.1");
    let (compared, changes) = replayed(&[line, three, school, stranger].concat(), false);
    assert_eq!(
        changes,
        [
            "4 office CONNECT office.test:443: deny (not_allowlisted) -> tunnel by service/3",
            "1 - CONNECT office.test:443: deny (not_allowlisted) -> deny (client_not_permitted) by builtin/client-not-permitted",
            "1 school CONNECT office.test:443: deny (not_allowlisted) -> deny (client_not_permitted) by service/3",
        ]
    );
    assert_eq!(compared, Compared { changed: 6, ..Compared::default() });
}

#[test]
fn replay_compares_nothing_where_nothing_was_decided_or_it_is_not_known_of_what() {
    let limited =
        connect("tunnel.test", 443, ",\"event.outcome\":\"denied\",\"event.reason\":\"too_many_connections\"");
    let nobody = refused("tunnel.test", 443).replace("\"source.ip\":\"10.20.0.7\",", "");
    let together = refused("x", 443).replace("\"url.domain\":\"x\",", "").replace(
        "\"sekisho.authority\":\"x:443\"",
        "\"sekisho.count\":7,\"sekisho.authorities\":[\"tunnel.test:443\"]",
    );
    let (compared, changes) = replayed(&[limited, nobody, together].concat(), false);
    assert_eq!((changes.len(), compared), (0, Compared { undecided: 1, unknown: 8, ..Compared::default() }));
}

#[test]
fn a_configuration_that_observes_is_replayed_as_it_would_be() {
    let (_, changes) = replayed(&refused("gone.test", 443), true);
    assert_eq!(
        changes,
        ["1 office CONNECT gone.test:443: deny (not_allowlisted) -> tunnel (observed) by builtin/observe"]
    );
    assert_eq!(replayed(&observed("gone.test"), true).1, Vec::<String>::new());
    assert_eq!(replayed(&refused("gone.test", 8443), true).1, Vec::<String>::new());
}
