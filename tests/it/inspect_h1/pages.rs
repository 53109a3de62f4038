//! Only scenes about our own pages over TLS belong here: one for every way an inspected origin can fail, and what is in them.

use std::time::Duration;

use crate::support::by_hand::{inside, inside_as};
use crate::support::client::Tls;
use crate::support::dns::{Dns, Says};
use crate::support::origin::Tcp;
use crate::support::pki::Defect;
use crate::support::sekisho::free_port;
use crate::support::{Config, Origin, Response, Sekisho, Service};

/// One failing name: host, port, status, reason, certificate error.
type Row = (&'static str, u16, u16, &'static str, &'static str);

#[track_caller]
fn bilingual(answer: &Response, at: &str, id: &str) {
    let text = answer.text();
    assert!(text.contains("接続できません") && text.contains("Not connected"), "{text}");
    assert!(text.contains(at) && text.contains(id), "host and reference: {text}");
    assert_eq!(answer.value("content-type"), "text/html; charset=utf-8");
    assert!(!text.contains("127.0.0.1") && !text.contains("city.example.lg.jp"), "addresses and tenant values: {text}");
    assert!(answer.values("via").is_empty() && answer.values("set-cookie").is_empty(), "{}", answer.head);
}

#[tokio::test]
async fn i02_every_failed_origin_is_a_page_with_words_and_sees_no_request() {
    let names = [
        "expired.test",
        "stranger.test",
        "self.test",
        "wrong.test",
        "silent.test",
        "garbage.test",
        "closing.test",
        "closed.test",
    ];
    let expired = Origin::https(&["expired.test"]).defect(Defect::Expired).start().await;
    let stranger = Origin::https(&["stranger.test"]).defect(Defect::UnknownIssuer).start().await;
    let selfish = Origin::https(&["self.test"]).defect(Defect::SelfSigned).start().await;
    let wrong = Origin::https(&["wrong.test"]).leaf_for(&["other.test"]).start().await;
    let silent = Origin::https(&["silent.test"]).tcp(Tcp::Silent).start().await;
    let garbage = Origin::https(&["garbage.test"]).tcp(Tcp::Garbage).start().await;
    let closing = Origin::https(&["closing.test"]).tcp(Tcp::CloseAtOnce).start().await;
    let dns = Dns::answering(|name| match name {
        "nowhere.test" => Says::NxDomain,
        "nothing.test" => Says::Nothing,
        "quiet.test" => Says::Silence,
        "inner.test" => Says::Addresses(vec!["10.0.0.1"]),
        other => panic!("asked for {other}"),
    })
    .await;
    let closed = free_port("127.0.0.1");
    let rows: Vec<Row> = vec![
        ("expired.test", expired.port(), 502, "certificate_invalid", "expired"),
        ("stranger.test", stranger.port(), 502, "certificate_invalid", "unknown_issuer"),
        ("self.test", selfish.port(), 502, "certificate_invalid", "self_signed"),
        ("wrong.test", wrong.port(), 502, "certificate_invalid", "name"),
        ("silent.test", silent.port(), 504, "upstream_timeout", ""),
        ("garbage.test", garbage.port(), 502, "tls_failed", ""),
        ("closing.test", closing.port(), 502, "upstream_closed", ""),
        ("closed.test", closed, 502, "connect_failed", ""),
        ("nowhere.test", 443, 502, "dns_failed", ""),
        ("nothing.test", 443, 502, "dns_failed", ""),
        ("quiet.test", 443, 504, "dns_timeout", ""),
        ("inner.test", 443, 403, "address_denied", ""),
    ];
    let config = rows.iter().fold(Config::new(), |config, (host, port, ..)| {
        let service = Service::inspect(host, &[host], *port);
        config.service(service.header("Restrict-Access-To-Tenants", "city.example.lg.jp"))
    });
    let config = config.hosts(&names).asking(&dns).set("timeouts", "dns", "\"1s\"").set(
        "timeouts",
        "upstream_handshake",
        "\"1s\"",
    );
    let mut sekisho = Sekisho::start(&config).await;
    for (host, port, status, reason, fault) in &rows {
        let at = format!("{host}:{port}");
        let shown = if *port == 443 { (*host).to_owned() } else { at.clone() };
        let mut wire = inside(&sekisho, host, *port).await;
        let answer = wire.get(&at, "/secret?<script>").await.unwrap_or_else(|| panic!("{host}: no page"));
        let request = sekisho.next_request().await;
        let outcome = if *status == 403 { "denied" } else { "failed" };
        request.says(outcome, reason).with("url.domain", host).with("url.path", "/secret");
        assert_eq!(request.number("http.response.status_code"), u64::from(*status));
        answer.page(*status, reason);
        bilingual(&answer, &shown, request.text("event.id"));
        let _ = wire.rest().await;
        let connection = sekisho.next_connection().await;
        connection.says(outcome, reason).with("sekisho.certificate_error", fault).with("sekisho.mode", "inspect");
        assert_eq!(request.text("sekisho.connection"), connection.text("event.id"));
        // The same without content.
        let mut wire = inside(&sekisho, host, *port).await;
        wire.send(format!("HEAD / HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        let head = wire.response("HEAD").await;
        assert_eq!(head.status, *status, "{host}: {head:?}");
        assert_eq!(head.value("cache-control"), "no-store", "{host}");
        let (rest, _) = wire.rest().await;
        assert!(rest.is_empty(), "{host}: content behind HEAD: {:?}", String::from_utf8_lossy(&rest));
        sekisho.next_request().await.says(outcome, reason).with("http.request.method", "HEAD");
        sekisho.next_connection().await;
    }
    for origin in [&expired, &stranger, &selfish, &wrong, &silent, &garbage, &closing] {
        assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    }
    sekisho.finish().await;
}

/// Kettle's desync works on error paths too: a page takes one request, never what is behind it.
#[tokio::test]
async fn i02_behind_a_page_nothing_goes_on() {
    let origin = Origin::https(&["allowed.test"]).defect(Defect::Expired).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin).hosts(&["denied.test"])).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: {at}\r\nContent-Length: 5\r\n\r\nhelloGET /behind HTTP/1.1\r\nHost: {}\r\n\r\n",
        denied.at("denied.test")
    ))
    .await;
    wire.response("POST").await.page(502, "certificate_invalid");
    wire.closed().await;
    sekisho.next_request().await.says("failed", "certificate_invalid");
    sekisho.next_connection().await.says("failed", "certificate_invalid");
    // A CONNECT, or rubbish, gets no further either.
    for request in [format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"), "rubbish\r\n\r\n".to_owned()] {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        wire.send(request).await;
        let answer = wire.response("GET").await;
        assert!((400..=502).contains(&answer.status), "{answer:?}");
        wire.closed().await;
        sekisho.next_request().await;
        sekisho.next_connection().await;
    }
    assert!(origin.requests().is_empty());
    denied.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn a_page_is_for_the_name_even_without_sni_and_in_both_versions() {
    let origin = Origin::https(&["allowed.test"]).defect(Defect::Expired).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for tls in [
        Tls::named("allowed.test").without_sni(),
        Tls::named("allowed.test").versions(&[&rustls::version::TLS12]),
        Tls::named("allowed.test").versions(&[&rustls::version::TLS13]).alpn(&["h2", "http/1.1"]),
    ] {
        let mut wire = inside_as(&sekisho, "allowed.test", origin.port(), &tls).await;
        wire.get(&at, "/").await.expect("a page").page(502, "certificate_invalid");
        sekisho.next_request().await.says("failed", "certificate_invalid");
        drop(wire);
        sekisho.next_connection().await.says("failed", "certificate_invalid");
    }
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}

/// What a client wrote is shown escaped or not at all, in every page an inspected connection can end in.
#[tokio::test]
async fn pages_show_nothing_a_client_wrote_as_markup() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for request in [
        format!("GET /<script>alert(1)</script> HTTP/1.1\r\nHost: {at}\"><img src=x>\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {at}\r\nHost: <script>\r\n\r\n"),
        format!("CONNECT <script>:443 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        "GET https://<img>/ HTTP/1.1\r\nHost: <img>\r\n\r\n".to_owned(),
        "<script> / HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        wire.send(&request).await;
        let answer = wire.response("GET").await;
        let record = sekisho.next_request().await;
        answer.page(answer.status, record.reason());
        let text = answer.text().to_ascii_lowercase();
        assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
        assert_eq!(record.outcome(), "denied", "{record:?}");
        drop(wire);
        sekisho.next_connection().await;
    }
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}

/// D17: in TLS 1.3 the origin notices the missing certificate only behind its handshake, before or after the client's request: a
/// browser that opens its connection ahead of need gets the page too, not a bare end.
#[tokio::test]
async fn d17_an_origin_that_asks_for_a_certificate_is_a_page_however_late_the_request_comes() {
    let origin = Origin::https(&["allowed.test"]).wanting_client_certificate().start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for late in [false, true] {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        if late {
            let early_end = tokio::time::timeout(Duration::from_millis(500), wire.exactly(1)).await;
            assert!(early_end.is_err(), "closed before the client had asked for anything");
        }
        let page = wire.get(&at, "/").await.expect("a page");
        page.page(502, "client_certificate_required");
        sekisho.next_request().await.says("failed", "client_certificate_required");
        drop(wire);
        sekisho.next_connection().await;
    }
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}
