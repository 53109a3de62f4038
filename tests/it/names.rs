//! Only scenes about how a name is written belong here: the same vectors through CONNECT, absolute URI, Host, :authority and SNI.

use super::support::client::{Tls, alert_of};
use super::support::dns::{Dns, Says};
use super::support::h2c::{self, H2};
use super::support::hellos::Hello;
use super::support::{Config, Origin, Sekisho};

/// Spellings of allowed.test that are it.
const SAME: [&str; 4] = ["allowed.test", "ALLOWED.TEST", "AlLoWeD.tEsT", "allowed.test."];

/// Hosts that are no name in any entrance (C03 to C12), all of them printable ASCII.
const MALFORMED: [&str; 29] = [
    ".allowed.test",
    "allowed..test",
    "allowed.test..",
    "[denied.test]",
    "[[denied.test]]",
    "[allowed.test",
    "allowed%2etest",
    "%64enied.test",
    "denied.test%00.allowed.test",
    "allowed.test%23",
    "denied.test\\.allowed.test",
    "denied.test;.allowed.test",
    "*.allowed.test",
    "-allowed.test",
    "allowed-.test",
    "xn--a.test",
    "xn--allowed-.test",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0177.0.0.1",
    "127.1",
    "0",
    "1.2.3.4.5",
    "256.1.1.1",
    "allowed.test.1",
    "[fe80::1%25eth0]",
    "[::1%25.allowed.test]",
    "allowed!.test",
];

#[tokio::test]
async fn c01_c02_spellings_of_one_name_are_one_name() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    for spelling in SAME {
        let wire = sekisho.tunnel(&origin.at(spelling)).await;
        let mut inside = Tls::named("allowed.test").over(wire).await;
        assert_eq!(inside.get("allowed.test", "/").await.expect("an answer").status, 200, "{spelling}");
        inside.bye().await;
        let record = sekisho.next_connection().await;
        record.says("allowed", "").with("url.domain", "allowed.test").with("sekisho.authority", &origin.at(spelling));
    }
    for spelling in
        ["denied.test", "DENIED.TEST", "denied.test.", "xallowed.test", "allowed.test.evil.test", "a.allowed.test"]
    {
        sekisho.refused(&origin.at(spelling), 403, "not_allowlisted").await;
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn c03_to_c12_a_malformed_host_is_400_and_no_one_is_asked() {
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let config = Config::new()
        .service(super::support::Service::tunnel("wide", &["*.allowed.test", "allowed.test"], 443))
        .asking(&dns);
    let mut sekisho = Sekisho::start(&config).await;
    let long_label = format!("{}.allowed.test", "a".repeat(64));
    let long_name = format!("{}allowed.test", "a.".repeat(125));
    for host in MALFORMED.iter().copied().chain([long_label.as_str(), long_name.as_str()]) {
        let (_, answer) = sekisho.connect(&format!("{host}:443")).await;
        assert_eq!(answer.status, 400, "{host}: {answer:?}");
        let record = sekisho.next_connection().await;
        assert_eq!(record.outcome(), "denied", "{host}: {record:?}");
        assert!(["malformed_name", "malformed_request"].contains(&record.reason()), "{host}: {record:?}");
    }
    assert_eq!(dns.queries(), Vec::<String>::new(), "a name was looked up that is none");
    sekisho.finish().await;
}

#[tokio::test]
async fn c05_c09_octets_no_name_has_are_400_and_a_line_of_json() {
    let mut sekisho =
        Sekisho::start(&Config::new().service(super::support::Service::tunnel("a", &["*.allowed.test"], 443))).await;
    let rows: Vec<&[u8]> = vec![
        b"denied.test\0.allowed.test",
        b"denied.test\t.allowed.test",
        b"denied.test\x7f.allowed.test",
        b"denied.test\x80.allowed.test",
        "日本.allowed.test".as_bytes(),
        "allowed\u{3002}test".as_bytes(),
        "\u{ff41}.allowed.test".as_bytes(),
        b"\xff\xfe.allowed.test",
        "a\u{202e}.allowed.test".as_bytes(),
        b"a b.allowed.test",
        b"\"><script>.allowed.test",
    ];
    for host in rows {
        let mut wire = sekisho.client().await;
        wire.send([b"CONNECT ", host, b":443 HTTP/1.1\r\nHost: x\r\n\r\n"].concat()).await;
        let answer = wire.response("CONNECT").await;
        assert_eq!(answer.status, 400, "{host:?}: {answer:?}");
        assert_eq!(sekisho.next_connection().await.outcome(), "denied");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn c07_c12_b08_authorities_with_more_or_less_than_host_and_port_are_refused() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let port = origin.port();
    let rows = [
        format!("allowed.test@denied.test:{port}"),
        format!("denied.test@allowed.test:{port}"),
        format!("user:pass@allowed.test:{port}"),
        "allowed.test:443@denied.test".to_owned(),
        "allowed.test:".to_owned(),
        "allowed.test".to_owned(),
        format!("allowed.test:443:{port}"),
        format!(":{port}"),
        "allowed.test:0".to_owned(),
        "allowed.test:65536".to_owned(),
        format!("allowed.test:{}", u32::from(port) + 65536),
        format!("allowed.test:{}", u64::from(port) + (1 << 32)),
        format!("allowed.test:+{port}"),
        format!("allowed.test:0{port}"),
        format!("allowed.test:{port}x"),
        format!("allowed.test:-{port}"),
        format!("allowed.test#:{port}"),
        format!("allowed.test?:{port}"),
        format!("allowed.test/:{port}"),
    ];
    for authority in rows {
        let (_, answer) = sekisho.connect(&authority).await;
        assert_eq!(answer.status, 400, "{authority}: {answer:?}");
        assert_eq!(sekisho.next_connection().await.outcome(), "denied", "{authority}");
    }
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn c10_an_underscore_is_part_of_a_name() {
    let origin = Origin::https(&["*.allowed.test"]).start().await;
    let config = Config::new()
        .service(super::support::Service::tunnel("wide", &["*.allowed.test"], origin.port()))
        .hosts(&["a_b.allowed.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    let (wire, answer) = sekisho.connect(&origin.at("a_b.allowed.test")).await;
    drop(wire);
    let record = sekisho.next_connection().await;
    record.with("url.domain", "a_b.allowed.test");
    assert!(answer.status == 200 || record.outcome() == "failed", "no crash, an honest answer: {answer:?} {record:?}");
}

#[tokio::test]
async fn c_rows_through_an_absolute_uri_and_host() {
    let origin = Origin::http().start().await;
    let mut sekisho = Sekisho::start(&Config::new().plain("allowed.test", &origin)).await;
    let at = |host: &str| origin.at(host);
    for spelling in SAME {
        let mut wire = sekisho.client().await;
        wire.send(format!("GET http://{0}/ok HTTP/1.1\r\nHost: {0}\r\n\r\n", at(spelling))).await;
        assert_eq!(wire.response("GET").await.status, 200, "{spelling}");
        sekisho.next_request().await.says("allowed", "").with("url.domain", "allowed.test");
    }
    let served = origin.requests().len();
    assert!(origin.requests().iter().all(|seen| seen.authority == at("allowed.test")), "one spelling goes upstream");
    for host in MALFORMED {
        for (uri, field) in [(at(host), at(host)), (at("allowed.test"), at(host))] {
            let mut wire = sekisho.client().await;
            wire.send(format!("GET http://{uri}/ HTTP/1.1\r\nHost: {field}\r\n\r\n")).await;
            let answer = wire.response("GET").await;
            // RFC 9112 section 3.2.2: a proxy ignores Host beside an absolute-form target; what goes upstream is the target's.
            let passes = answer.status == 200 && uri == at("allowed.test");
            assert!(answer.status == 400 || passes, "{uri} {field}: {answer:?}");
        }
    }
    assert!(origin.requests().iter().skip(served).all(|seen| seen.authority == at("allowed.test")));
}

#[tokio::test]
async fn c_rows_through_the_inner_host_and_authority() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let (at, tls) = (origin.at("allowed.test"), Tls::named("allowed.test").trusting(&sekisho.ca()));
    for spelling in SAME {
        let mut inside = tls.over(sekisho.tunnel(&at).await).await;
        let answer = inside.get(&origin.at(spelling), "/").await.expect("an answer");
        assert_eq!(answer.status, 200, "{spelling}: {answer:?}");
    }
    assert!(origin.requests().iter().all(|seen| seen.authority == at), "{:?}", origin.requests());
    let served = origin.requests().len();
    for host in MALFORMED {
        let mut inside = tls.over(sekisho.tunnel(&at).await).await;
        let answer = inside.get(&origin.at(host), "/").await.expect("an answer");
        assert_eq!(answer.status, 400, "{host}: {answer:?}");
    }
    let mut answered = 0;
    for host in MALFORMED {
        let mut wire = tls.clone().alpn(&["h2"]).over(sekisho.tunnel(&at).await).await;
        wire.send(h2c::preface()).await;
        let fields = [(":method", "GET"), (":scheme", "https"), (":authority", &*origin.at(host)), (":path", "/")];
        wire.send(h2c::headers(1, true, &fields)).await;
        let frame = h2c::end_of(&mut wire, 1).await.unwrap_or_else(|| panic!("{host}: nothing"));
        // What is no authority at all is reset as a stream error (RFC 9113 section 8.1.1); what can be read gets the page.
        answered += usize::from(frame.kind <= 1);
    }
    assert_eq!(origin.requests().len(), served, "a malformed authority reached the origin");
    let records = sekisho.terminals("request", (SAME.len() + MALFORMED.len() + answered) as u64).await;
    assert!(
        records
            .iter()
            .filter(|record| record.outcome() != "allowed")
            .all(|record| { ["malformed_name", "malformed_request"].contains(&record.reason()) }),
        "{records:#?}"
    );
}

#[tokio::test]
async fn c01_c02_through_h2_authority() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let tls = Tls::named("allowed.test").trusting(&sekisho.ca()).alpn(&["h2"]);
    let mut h2 = H2::over(tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await).await;
    for spelling in SAME {
        let answer = h2.get(&format!("https://{}/", origin.at(spelling))).await.expect("an answer");
        assert_eq!(answer.status, 200, "{spelling}");
        sekisho.next_request().await.says("allowed", "").with("url.domain", "allowed.test");
    }
    assert!(origin.requests().iter().all(|seen| seen.authority == origin.at("allowed.test")));
}

#[tokio::test]
async fn d06_c_rows_through_the_sni() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for name in ["ALLOWED.test", "allowed.test"] {
        let mut wire = sekisho.tunnel(&at).await;
        wire.send(Hello::named(name).bytes()).await;
        assert_eq!(wire.exactly(1).await.expect("the origin's answer")[0], 22, "{name}: a ServerHello");
        drop(wire);
        assert_ne!(sekisho.next_connection().await.outcome(), "denied", "{name}");
    }
    for name in MALFORMED.iter().chain(&["allowed.test:443", "127.0.0.1", "[::1]", "::1", "", "denied.test"]) {
        let mut wire = sekisho.tunnel(&at).await;
        wire.send(Hello::named(name).bytes()).await;
        let (rest, _) = wire.rest().await;
        let alert = alert_of(&rest);
        assert!(matches!(alert, Some(50 | 112)), "{name}: {rest:?}");
        let record = sekisho.next_connection().await;
        assert_eq!(record.outcome(), "denied", "{name}: {record:?}");
        assert!(["malformed_client_hello", "name_mismatch"].contains(&record.reason()), "{name}: {record:?}");
    }
    assert!(origin.snis().iter().all(|sni| sni.eq_ignore_ascii_case("allowed.test")));
    sekisho.finish().await;
}
