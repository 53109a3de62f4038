//! Only scenes about a tunnel that has begun belong here: its bytes, its halves, its idle limit and its two records.

use std::time::Instant;

use super::support::client::{Tls, Wire};
use super::support::{Config, Origin, Sekisho, until};

async fn echo() -> (Origin, Config) {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin);
    (origin, config)
}

#[tokio::test]
async fn an_established_record_is_written_while_the_tunnel_lives() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    let established = until("the established record", || {
        sekisho.records().into_iter().find(|record| record.action() == "established")
    })
    .await;
    established.with("rule.name", "allowed.test").with("url.domain", "allowed.test").with("sekisho.mode", "tunnel");
    assert!(!established.is_terminal());
    inside.bye().await;
    let terminal = sekisho.next_connection().await;
    terminal.says("allowed", "").with("event.id", established.text("event.id"));
    assert!(terminal.number("event.sequence") > established.number("event.sequence"));
    let records = sekisho.finish().await;
    assert_eq!(records.iter().filter(|record| record.action() == "established").count(), 1);
}

#[tokio::test]
async fn a_refused_connect_is_never_established() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    sekisho.refused(&origin.at("denied.test"), 403, "not_allowlisted").await;
    let mut wire = sekisho.tunnel(&origin.at("allowed.test")).await;
    wire.send(Tls::named("denied.test").hello()).await;
    let _ = wire.rest().await;
    sekisho.next_connection().await.says("denied", "name_mismatch");
    let records = sekisho.finish().await;
    assert!(origin.echoed().is_empty(), "not one payload byte before the names agree");
    assert_eq!(records.iter().filter(|record| record.is_terminal()).count(), 2);
}

#[tokio::test]
async fn n05_bytes_are_copied_and_counted_as_they_are() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let payload: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut back = Vec::new();
    for chunk in payload.chunks(50_000) {
        inside.send(chunk).await;
        back.extend(inside.exactly(chunk.len()).await.expect("an echo"));
    }
    assert!(back == payload, "what came back is not what was sent");
    inside.bye().await;
    assert!(origin.echoed() == payload);
    let record = sekisho.next_connection().await;
    record.says("allowed", "");
    let (sent, received) = (record.number("source.bytes"), record.number("destination.bytes"));
    // TLS adds a record header and a tag to every 16 KiB, and the handshake.
    for octets in [sent, received] {
        let least = payload.len() as u64;
        assert!(octets > least && octets < least + least / 50 + 20_000, "{octets} for {least}");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn n05_byte_counts_are_exact() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let mut wire = sekisho.tunnel(&origin.at("allowed.test")).await;
    let hello = Tls::named("allowed.test").hello();
    (wire.sent, wire.received) = (0, 0);
    wire.send(&hello).await;
    wire.exactly(5).await.expect("a record's head");
    wire.finish_writing().await;
    let _ = wire.rest().await;
    let record = sekisho.next_connection().await;
    assert_eq!(record.number("source.bytes"), hello.len() as u64);
    assert_eq!(record.number("destination.bytes"), wire.received);
}

#[tokio::test]
async fn n05_one_half_may_end_before_the_other() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let mut inside: Wire<_> = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let payload = vec![7; 300_000];
    inside.send(&payload[..100_000]).await;
    inside.finish_writing().await;
    let (rest, end) = inside.rest().await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(rest.len(), 100_000, "everything sent before the half-close comes back behind it");
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn an_idle_tunnel_is_cut_and_a_busy_one_is_not() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config.set("timeouts", "tunnel_idle", "\"1s\"")).await;
    let mut idle = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let mut busy = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let began = Instant::now();
    let cut = tokio::spawn(async move {
        let _ = idle.rest().await;
        began.elapsed()
    });
    let mut beat = tokio::time::interval(std::time::Duration::from_millis(100));
    while !cut.is_finished() {
        beat.tick().await;
        busy.send("x").await;
        assert_eq!(busy.exactly(1).await.expect("an echo"), b"x");
    }
    let lived = cut.await.expect("joined");
    assert!(lived > std::time::Duration::from_millis(800) && lived < std::time::Duration::from_secs(5), "{lived:?}");
    let record = sekisho.next_connection().await;
    assert_eq!(record.reason(), "idle_timeout");
    busy.send("still here").await;
    assert_eq!(busy.exactly(10).await.expect("an echo"), b"still here");
    busy.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn a_side_that_breaks_is_named_in_the_record() {
    let (origin, config) = echo().await;
    let resetting = Origin::https(&["allowed.test"])
        .alpn(&["http/1.1"])
        .answering(|_| {
            super::support::Reply::RawThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec())
        })
        .resetting()
        .start()
        .await;
    let mut sekisho = Sekisho::start(&config.reaching(&resetting)).await;
    let inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let (socket, _) = inside.io.into_inner();
    socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).expect("linger");
    drop(socket);
    let record = sekisho.next_connection().await;
    assert_eq!(record.reason(), "client_closed", "{record:?}");
    record.with("sekisho.side", "client");

    sekisho.reload(&Config::new().tunnel("allowed.test", &resetting)).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&resetting.at("allowed.test")).await).await;
    let answer = inside.get("allowed.test", "/").await.expect("an answer");
    assert!(!answer.complete, "the client must see that it was cut: {answer:?}");
    drop(inside);
    sekisho.next_connection().await;
}

#[tokio::test]
async fn verdicts_are_kept_for_verify_cache_and_not_longer() {
    for (cache, fresh) in [("\"10m\"", false), ("\"0s\"", true)] {
        let (origin, config) = echo().await;
        let mut sekisho = Sekisho::start(&config.set("upstream", "verify_cache", cache)).await;
        let mut verdicts = Vec::new();
        for _ in 0..4 {
            Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await.bye().await;
            verdicts.push(sekisho.next_connection().await.text("sekisho.upstream_verdict").to_owned());
        }
        // One handshake of the proxy's own before the first tunnel, or before every one; and the clients' four.
        let handshakes = origin.snis().len();
        assert_eq!(handshakes, if fresh { 8 } else { 5 }, "verify_cache = {cache}: {verdicts:?}");
        assert_eq!(verdicts[0] == verdicts[1], fresh, "{verdicts:?}");
    }
}

#[tokio::test]
async fn many_tunnels_at_once_share_one_verification() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let all = futures_util::future::join_all((0..40).map(|_| async {
        let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
        inside.bye().await;
    }));
    all.await;
    assert_eq!(origin.snis().len(), 41, "single flight");
    for _ in 0..40 {
        sekisho.next_connection().await.says("allowed", "");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn an_answered_connect_keeps_the_connection_to_its_tunnel() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let mut wire = sekisho.client().await;
    wire.send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
    assert_eq!(wire.response("CONNECT").await.status, 403);
    let at = origin.at("allowed.test");
    wire.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(wire.response("CONNECT").await.status, 200, "a browser tries again on the same connection");
    let mut inside = Tls::named("allowed.test").over(wire).await;
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    inside.bye().await;
    sekisho.next_connection().await.says("denied", "not_allowlisted");
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}
