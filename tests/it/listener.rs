//! Only scenes about the proxy port's own HTTP belong here: how a head is read, refused, timed and kept alive before any policy.

use super::support::client::Tls;
use super::support::{Config, Origin, Record, Sekisho, until};

#[tokio::test]
async fn connect_is_taken_in_every_form_clients_send_it() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for head in [
        format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.0\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.0\r\nHost: {at}\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nHost: allowed.test\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nhost:{at}\r\nUser-Agent: x\r\nProxy-Connection: keep-alive\r\n\r\n"),
        format!("\r\nCONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"),
    ] {
        let mut wire = sekisho.client().await;
        wire.send(&head).await;
        let answer = wire.response("CONNECT").await;
        assert_eq!(answer.status, 200, "{head}");
        assert!(
            answer.values("content-length").is_empty() && answer.values("transfer-encoding").is_empty(),
            "{answer:?}"
        );
        let mut inside = Tls::named("allowed.test").over(wire).await;
        assert_eq!(inside.get("allowed.test", "/x").await.expect("an answer").text(), "origin saw GET /x");
        inside.bye().await;
        sekisho.next_connection().await.says("allowed", "").with("sekisho.authority", &at);
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn a_head_may_come_octet_by_octet() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let mut wire = sekisho.client().await;
    wire.dribble(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(wire.response("CONNECT").await.status, 200);
    let mut inside = Tls::named("allowed.test").over(wire).await;
    assert_eq!(inside.get("allowed.test", "/").await.expect("an answer").status, 200);
    inside.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn d13_bytes_glued_to_a_connect_wait_for_the_verdict() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin).hosts(&["denied.test"])).await;
    let hello = Tls::named("allowed.test").hello();
    let head = |at: &str| format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n").into_bytes();

    let mut wire = sekisho.client().await;
    wire.send([head(&origin.at("allowed.test")), hello.clone()].concat()).await;
    assert_eq!(wire.response("CONNECT").await.status, 200);
    assert_eq!(wire.exactly(1).await.expect("the origin's answer")[0], 22, "a ServerHello");
    drop(wire);
    sekisho.next_connection().await.with("tls.client.server_name", "allowed.test");
    assert!(origin.snis().iter().all(|sni| sni == "allowed.test"));

    let mut wire = sekisho.client().await;
    wire.send([head(&denied.at("denied.test")), hello].concat()).await;
    assert_eq!(wire.response("CONNECT").await.status, 403);
    sekisho.next_connection().await.says("denied", "not_allowlisted");
    denied.untouched();
}

#[tokio::test]
async fn twenty_refused_connects_on_one_connection_leave_twenty_records() {
    let mut sekisho = Sekisho::start(&Config::new()).await;
    let mut wire = sekisho.client().await;
    for turn in 0..20 {
        wire.send(format!("CONNECT host{turn}.test:443 HTTP/1.1\r\nHost: host{turn}.test:443\r\n\r\n")).await;
        let answer = wire.response("CONNECT").await;
        assert_eq!(answer.status, 403, "{turn}: {answer:?}");
        answer.details("not_allowlisted");
        assert_eq!(answer.value("connection"), "keep-alive");
        sekisho
            .next_connection()
            .await
            .says("denied", "not_allowlisted")
            .with("url.domain", &format!("host{turn}.test"));
    }
    drop(wire);
    let records = sekisho.finish().await;
    let ids: std::collections::BTreeSet<&str> =
        records.iter().filter(|record| record.is_terminal()).map(|record| record.text("event.id")).collect();
    assert_eq!(ids.len(), 20, "every attempt has a reference of its own, and the closed connection is none");
}

#[tokio::test]
async fn pipelined_refusals_are_answered_in_order() {
    let mut sekisho = Sekisho::start(&Config::new()).await;
    let mut wire = sekisho.client().await;
    let one = |name: &str| format!("CONNECT {name}.test:443 HTTP/1.1\r\nHost: {name}.test:443\r\n\r\n");
    wire.send(["a", "b", "c"].map(one).concat()).await;
    for name in ["a", "b", "c"] {
        wire.response("CONNECT").await.details("not_allowlisted");
        sekisho.next_connection().await.with("url.domain", &format!("{name}.test"));
    }
}

#[tokio::test]
async fn e01_e12_malformed_heads_are_400_and_the_end() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let with = |fields: &str| format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n{fields}\r\n").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: {at}\r\n\r\n").into_bytes();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("E12 Content-Length", with("Content-Length: 5\r\n")),
        ("E12 Transfer-Encoding", with("Transfer-Encoding: chunked\r\n")),
        ("E01 both", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("E02 twice", with("Content-Length: 5\r\nContent-Length: 5\r\n")),
        ("E08 folded", with("X: a\r\n b\r\n")),
        ("E08 folded Host", format!("CONNECT {at} HTTP/1.1\r\nHost:\r\n {at}\r\n\r\n").into_bytes()),
        ("E09 bare LF", format!("CONNECT {at} HTTP/1.1\nHost: {at}\n\n").into_bytes()),
        ("E09 bare CR", with("X: a\rb\r\n")),
        ("E09 NUL", with("X: a\0b\r\n")),
        ("E10 space before the colon", with("X : a\r\n")),
        ("E10 no colon", with("X\r\n")),
        ("E10 empty name", with(": a\r\n")),
        ("E10 octet in the name", [with("")[..with("").len() - 2].to_vec(), b"X\x85: a\r\n\r\n".to_vec()].concat()),
        ("E11 two spaces", line(&format!("CONNECT  {at} HTTP/1.1"))),
        ("E11 tab", line(&format!("CONNECT\t{at} HTTP/1.1"))),
        ("E11 HTTP/1.10", line(&format!("CONNECT {at} HTTP/1.10"))),
        ("E11 HTTP/2.0", line(&format!("CONNECT {at} HTTP/2.0"))),
        ("E11 HTTP/1.?", line(&format!("CONNECT {at} HTTP/1.?"))),
        ("E11 HTTP/0.9", format!("CONNECT {at}\r\n\r\n").into_bytes()),
        ("E11 lower case", line(&format!("connect {at} HTTP/1.1"))),
        ("A06 two Hosts", with(&format!("Host: {at}\r\n"))),
        ("A06 no Host", format!("CONNECT {at} HTTP/1.1\r\n\r\n").into_bytes()),
        ("E19 h2c", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("no port", b"CONNECT allowed.test HTTP/1.1\r\nHost: allowed.test\r\n\r\n".to_vec()),
        ("a path", line(&format!("CONNECT {at}/ HTTP/1.1"))),
        ("a scheme", line(&format!("CONNECT https://{at} HTTP/1.1"))),
        ("TLS", Tls::named("allowed.test").hello()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ];
    for (row, bytes) in rows {
        let mut wire = sekisho.client().await;
        wire.send(&bytes).await;
        let answer = wire.maybe_response("CONNECT").await.unwrap_or_else(|| panic!("{row}: no answer"));
        assert_eq!(answer.status, 400, "{row}: {answer:?}");
        wire.closed().await;
        let record = sekisho.next_connection().await;
        assert_eq!(record.outcome(), "denied", "{row}: {record:?}");
        assert!(["malformed_request", "malformed_name"].contains(&record.reason()), "{row}: {record:?}");
        answer.details(record.reason());
    }
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn a06_the_host_of_a_connect_must_be_its_target() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for host in ["denied.test", "denied.test:443", "allowed.test:1", "a, b", "allowed.test@denied.test", ""] {
        let mut wire = sekisho.client().await;
        wire.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = wire.response("CONNECT").await;
        assert_eq!(answer.status, 400, "Host: {host:?}: {answer:?}");
        assert_eq!(sekisho.next_connection().await.outcome(), "denied", "{host:?}");
    }
    origin.untouched();
}

#[tokio::test]
async fn e11_h01_heads_beyond_their_limits_are_431() {
    let mut sekisho = Sekisho::start(&Config::new()).await;
    let many = (0..2000).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    for (row, head) in [
        (
            "one long field",
            format!("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nX: {}\r\n\r\n", "y".repeat(200_000)),
        ),
        ("many fields", format!("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n{many}\r\n")),
        ("a long target", format!("GET http://a.test/{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "y".repeat(100_000))),
        ("no end", format!("CONNECT a.test:443 HTTP/1.1\r\nX: {}", "y".repeat(300_000))),
    ] {
        let mut wire = sekisho.client().await;
        let _ = wire.try_send(&head).await;
        let answer = wire.maybe_response("CONNECT").await.unwrap_or_else(|| panic!("{row}: no answer"));
        assert_eq!(answer.status, 431, "{row}: {answer:?}");
        let record = sekisho.next_connection().await;
        assert_eq!(record.reason(), "head_too_large", "{row}: {record:?}");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn h02_a_head_that_does_not_end_is_408() {
    let mut sekisho = Sekisho::start(&Config::new().set("timeouts", "request_head", "\"1s\"")).await;
    let mut wire = sekisho.client().await;
    wire.send("CONNECT a.test:443 HTTP/1.1\r\nHos").await;
    let answer = wire.response("CONNECT").await;
    assert_eq!(answer.status, 408);
    answer.details("request_head_timeout");
    wire.closed().await;
    sekisho.next_connection().await.says("failed", "request_head_timeout").with("sekisho.side", "client");
    sekisho.finish().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_leaves_a_record_too() {
    let mut sekisho = Sekisho::start(&Config::new().set("timeouts", "request_head", "\"1s\"")).await;
    drop(sekisho.client().await);
    sekisho.next_connection().await.says("failed", "client_closed");
    let mut silent = sekisho.client().await;
    let _ = silent.rest().await;
    assert_eq!(sekisho.next_connection().await.outcome(), "failed");
    sekisho.finish().await;
}

#[tokio::test]
async fn m01_an_origin_form_request_finds_nothing() {
    let sekisho = Sekisho::start(&Config::new()).await;
    let hosts = ["localhost".to_owned(), sekisho.admin.to_string(), "sekisho".to_owned()];
    for (turn, (path, host)) in ["/", "/metrics", "/readyz"].iter().zip(hosts).enumerate() {
        let mut wire = sekisho.client().await;
        let answer = wire.get(&host, path).await.expect("an answer");
        assert!([400, 403].contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.text().contains("sekisho_"), "{answer:?}");
        let records = until("its record", || {
            let records: Vec<Record> = sekisho.records().into_iter().filter(Record::is_terminal).collect();
            (records.len() > turn).then_some(records)
        })
        .await;
        assert_eq!(records.len(), turn + 1);
        answer.details(records[turn].says("denied", records[turn].reason()).reason());
    }
}

#[tokio::test]
async fn ipv4_and_ipv6_listeners_serve_alike() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).listen("::1");
    let mut sekisho = Sekisho::start(&config).await;
    for (index, ip) in ["127.0.0.1", "::1"].iter().enumerate() {
        let addr = sekisho.listeners[index];
        let mut wire = super::support::client::connect(addr).await.expect("listening");
        let at = origin.at("allowed.test");
        wire.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        assert_eq!(wire.response("CONNECT").await.status, 200);
        let mut inside = Tls::named("allowed.test").over(wire).await;
        assert_eq!(inside.get("allowed.test", "/").await.expect("an answer").status, 200);
        inside.bye().await;
        let record = sekisho.next_connection().await;
        record.says("allowed", "").with("source.ip", ip).with("sekisho.client", "office");
        assert!(record.text("sekisho.listener").contains(&addr.port().to_string()), "{record:?}");
    }
    sekisho.finish().await;
}
