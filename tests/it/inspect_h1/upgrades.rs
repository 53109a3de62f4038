//! Only scenes about what follows `Upgrade` belong here: WebSocket, h2c, and octets that come before their time.

use crate::support::by_hand::{ByHand, both_ends, quiet};
use crate::support::client::Tls;
use crate::support::{Config, Origin, Sekisho, Service};

async fn stage() -> (ByHand, Sekisho) {
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let service = Service::inspect("allowed.test", &["allowed.test"], origin.port());
    let config = Config::new().service(service).hosts(&["allowed.test", "denied.test"]);
    let sekisho = Sekisho::start(&config).await;
    (origin, sekisho)
}

fn handshake(at: &str, extra: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\
         Sec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n";

/// Pingora CVE-2026-2833: the bytes behind the handshake waited for nothing.
#[tokio::test]
async fn e20_not_one_octet_behind_the_handshake_leaves_before_the_101() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    wire.send(format!("{}early frames", handshake(&at, ""))).await;
    let head = far.head().await.expect("a head");
    assert_eq!(head.matches("websocket").count(), 1, "{head}");
    // 103 passes through the proxy and back to the scene: whatever it had let go early would be here by now.
    far.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
    assert!(wire.head().await.expect("103").starts_with("HTTP/1.1 103 "));
    quiet(&mut far);
    far.send(SWITCHING).await;
    let answer = wire.response("GET").await;
    assert_eq!((answer.status, answer.value("sec-websocket-accept").as_str()), (101, "y"), "{answer:?}");
    assert_eq!(answer.value("upgrade").to_ascii_lowercase(), "websocket");
    assert_eq!(far.exactly(12).await.expect("frames"), b"early frames");
    far.send("from the origin").await;
    assert_eq!(wire.exactly(15).await.expect("frames"), b"from the origin");
    wire.send("more").await;
    assert_eq!(far.exactly(4).await.expect("frames"), b"more");
    far.finish_writing().await;
    wire.closed().await;
    wire.bye().await;
    let record = sekisho.next_request().await;
    record.says("allowed", "").with("url.path", "/ws");
    assert_eq!((record.number("source.bytes"), record.number("destination.bytes")), (16, 15), "{record:?}");
    sekisho.next_connection().await.says("allowed", "");
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn e20_behind_another_answer_than_101_the_octets_are_the_next_request_or_nothing() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    wire.send(format!("{}\x01\x02 no request\r\n\r\n", handshake(&at, ""))).await;
    far.head().await.expect("a head");
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(wire.response("GET").await.text(), "ok");
    if let Some(answer) = wire.maybe_response("GET").await {
        answer.page(400, "malformed_request");
        sekisho.next_request().await.says("allowed", "").with("url.path", "/ws");
        sekisho.next_request().await.says("denied", "malformed_request");
    }
    let (seen, _) = far.rest().await;
    assert!(seen.is_empty(), "{:?}", String::from_utf8_lossy(&seen));
}

#[tokio::test]
async fn a11_e20_handshakes_that_are_none_are_not_upgrades() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for (row, request) in [
        ("a POST", handshake(&at, "Content-Length: 0\r\n").replacen("GET", "POST", 1)),
        ("with content (CVE-2026-58055)", format!("{}hello", handshake(&at, "Content-Length: 5\r\n"))),
        ("chunked", format!("{}0\r\n\r\n", handshake(&at, "Transfer-Encoding: chunked\r\n"))),
        ("not in Connection", handshake(&at, "").replacen("Connection: Upgrade\r\n", "", 1)),
        (
            "h2c beside it",
            handshake(&at, "HTTP2-Settings: AAMAAABkAAQAAP__\r\n").replacen("websocket", "h2c, websocket", 1),
        ),
        ("another protocol", handshake(&at, "").replacen("websocket", "TLS/1.0", 1)),
        ("HTTP/1.0", handshake(&at, "").replacen("HTTP/1.1", "HTTP/1.0", 1)),
        ("no key", handshake(&at, "").replacen("Sec-WebSocket-Key: x\r\n", "", 1)),
        ("an empty key", handshake(&at, "").replacen("Key: x", "Key:", 1)),
        ("two keys", handshake(&at, "Sec-WebSocket-Key: y\r\n")),
        ("no version", handshake(&at, "").replacen("Sec-WebSocket-Version: 13\r\n", "", 1)),
        ("another version", handshake(&at, "").replacen("Version: 13", "Version: 8", 1)),
    ] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(request).await;
        let head = far.head().await.unwrap_or_default();
        let upgrades = head.to_ascii_lowercase().contains("\r\nupgrade:");
        if head.is_empty() {
            assert_eq!(wire.response("GET").await.status, 400, "{row}");
            assert_eq!(sekisho.next_request().await.outcome(), "denied", "{row}");
        } else if row == "h2c beside it" && upgrades {
            assert!(!head.contains("h2c") && !head.to_ascii_lowercase().contains("http2-settings"), "{row}: {head}");
        } else {
            assert!(!upgrades, "{row}: {head}");
            // A 101 that answers it all the same is one nobody asked for.
            far.send(SWITCHING).await;
            wire.response("GET").await.page(502, "upstream_malformed");
            sekisho.next_request().await.says("failed", "upstream_malformed");
        }
        drop((wire, far));
        sekisho.next_connection().await;
    }
}

#[tokio::test]
async fn a11_a_101_to_another_protocol_than_asked_is_a_page() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for upgrade in ["h2c", "websocket, h2c", "", "x"] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(handshake(&at, "")).await;
        far.head().await.expect("a head");
        far.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\nforged"
        ))
        .await;
        wire.response("GET").await.page(502, "upstream_malformed");
        wire.closed().await;
        sekisho.next_request().await.says("failed", "upstream_malformed");
        sekisho.next_connection().await;
    }
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn a11_a_handshake_for_another_host_is_421_and_nothing_upstream() {
    let (origin, mut sekisho) = stage().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    for host in ["denied.test".to_owned(), denied.at("denied.test"), format!("x.{}", origin.at("allowed.test"))] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(format!("{}frames", handshake(&host, ""))).await;
        wire.response("GET").await.page(421, "name_mismatch");
        wire.closed().await;
        let (seen, _) = far.rest().await;
        assert!(seen.is_empty(), "{host}: {:?}", String::from_utf8_lossy(&seen));
        sekisho.next_request().await.says("denied", "name_mismatch");
        sekisho.next_connection().await.says("allowed", "");
    }
    denied.untouched();
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn the_side_that_breaks_a_websocket_off_is_the_one_in_the_record() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for (client_breaks, reason) in [(true, "client_closed"), (false, "upstream_closed")] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(handshake(&at, "")).await;
        far.head().await.expect("a head");
        far.send(SWITCHING).await;
        assert_eq!(wire.response("GET").await.status, 101);
        if client_breaks {
            drop(wire);
            let _ = far.rest().await;
        } else {
            drop(far);
            let _ = wire.rest().await;
        }
        sekisho.next_request().await.says("allowed", reason);
        sekisho.next_connection().await;
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn an_idle_websocket_is_cut_and_a_busy_one_is_not() {
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let service = Service::inspect("allowed.test", &["allowed.test"], origin.port());
    let config = Config::new().service(service).hosts(&["allowed.test"]).set("timeouts", "inspected_idle", "\"1s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    wire.send(handshake(&at, "")).await;
    far.head().await.expect("a head");
    far.send(SWITCHING).await;
    assert_eq!(wire.response("GET").await.status, 101);
    let begun = std::time::Instant::now();
    while begun.elapsed().as_millis() < 1500 {
        wire.send("x").await;
        assert_eq!(far.exactly(1).await.expect("a frame"), b"x");
    }
    let _ = wire.rest().await;
    sekisho.next_request().await.says("allowed", "idle_timeout");
    sekisho.next_connection().await;
    sekisho.finish().await;
}
