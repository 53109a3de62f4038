//! Only scenes about limited octets belong here: that they are slowed and none is lost, in tunnels and inside inspection, and that
//! a wait is no idleness. Times are lower bounds: a busy machine is slower, never faster.

use std::time::{Duration, Instant};

use crate::support::by_hand::{at_once, inside, inside_h2};
use crate::support::client::Tls;
use crate::support::{Config, Origin, Reply, Sekisho};

/// A rate, and twice its octets: with a quarter of a second of credit no faster than 1.75 s, less what is on the way.
const RATE: &str = "\"200KB\"";
const OCTETS: usize = 400_000;
const NO_FASTER: Duration = Duration::from_millis(1_500);

fn pattern(octets: usize) -> Vec<u8> {
    (0..octets).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn a_tunnel_goes_at_its_clients_rate_each_way_and_loses_nothing() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits.per_client", "upload", RATE);
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let sent = pattern(OCTETS);
    let mut wire = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let began = Instant::now();
    for part in sent.chunks(16 * 1024) {
        wire.send(part).await;
        assert_eq!(wire.exactly(part.len()).await.expect("an echo"), part);
    }
    assert!(began.elapsed() >= NO_FASTER, "{:?}", began.elapsed());
    wire.bye().await;
    let record = sekisho.next_connection().await;
    assert!(record.number("source.bytes") >= OCTETS as u64, "{record:?}");
    let metrics = sekisho.metrics().await;
    assert!(metrics["sekisho_limit_reached_total{limit=\"upload\",whose=\"client\"}"] >= 1.0);
    assert_eq!(metrics["sekisho_limit_reached_total{limit=\"download\",whose=\"client\"}"], 0.0);
    sekisho.finish().await;
}

/// Bulk goes through pipes, which are paced as reads are. The limits come while the tunnel is open, and go again.
#[tokio::test]
async fn bulk_in_a_tunnel_is_paced_from_the_reload_on() {
    let origin = Origin::https(&["allowed.test"]).answering(|_| Reply::ok(pattern(8_000_000))).start().await;
    let free = Config::new().tunnel("allowed.test", &origin);
    let sekisho = Sekisho::start(&free).await;
    let at = origin.at("allowed.test");
    let mut wire = Tls::named("allowed.test").alpn(&["http/1.1"]).over(sekisho.tunnel(&at).await).await;
    assert_eq!(wire.get("allowed.test", "/before").await.expect("an answer").body, pattern(8_000_000));
    sekisho.reload(&free.clone().set("limits", "download", "\"4MB\"")).await;
    let began = Instant::now();
    assert_eq!(wire.get("allowed.test", "/paced").await.expect("an answer").body, pattern(8_000_000));
    assert!(began.elapsed() >= Duration::from_millis(1_200), "{:?}", began.elapsed());
    sekisho.reload(&free).await;
    assert_eq!(wire.get("allowed.test", "/after").await.expect("an answer").body, pattern(8_000_000));
}

#[tokio::test]
async fn inspected_bodies_are_paced_on_both_protocols_and_both_ways() {
    let origin = Origin::https(&["allowed.test"])
        .answering(|seen| if seen.method == "POST" { Reply::ok("taken") } else { Reply::ok(pattern(OCTETS)) })
        .start()
        .await;
    let config = Config::new().inspect("allowed.test", &origin).set("limits", "download", RATE).set(
        "limits.per_client",
        "upload",
        RATE,
    );
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let began = Instant::now();
    let mut h1 = inside(&sekisho, "allowed.test", origin.port()).await;
    assert_eq!(h1.get(&at, "/h1").await.expect("an answer").body, pattern(OCTETS));
    assert!(began.elapsed() >= NO_FASTER, "{:?}", began.elapsed());
    let began = Instant::now();
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    assert_eq!(h2.get(&format!("https://{at}/h2")).await.expect("an answer").body, pattern(OCTETS));
    assert!(began.elapsed() >= NO_FASTER, "{:?}", began.elapsed());
    for _ in 0..2 {
        let record = sekisho.next_request().await;
        assert_eq!(record.says("allowed", "").number("destination.bytes"), OCTETS as u64);
    }
    let began = Instant::now();
    h1.send(format!("POST /up HTTP/1.1\r\nHost: {at}\r\nContent-Length: {OCTETS}\r\n\r\n")).await;
    for part in pattern(OCTETS).chunks(10_000) {
        h1.send(part).await;
    }
    assert_eq!(h1.response("POST").await.status, 200);
    assert!(began.elapsed() >= NO_FASTER, "{:?}", began.elapsed());
    assert_eq!(sekisho.next_request().await.says("allowed", "").number("source.bytes"), OCTETS as u64);
    assert_eq!(origin.requests().last().expect("the upload").body, pattern(OCTETS));
}

/// Sixteen kilobytes are moved at a time, and paid for in longer than the idle limit.
#[tokio::test]
async fn who_waits_for_its_turn_is_not_idle() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let inspected = Origin::https(&["inspected.test"]).answering(|_| Reply::ok(pattern(30_000))).start().await;
    let config = Config::new()
        .tunnel("allowed.test", &origin)
        .inspect("inspected.test", &inspected)
        .set("limits.per_client", "download", "\"4KB\"")
        .set("timeouts", "tunnel_idle", "\"3s\"")
        .set("timeouts", "inspected_idle", "\"3s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let mut tunnel = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let mut h2 = inside_h2(&sekisho, "inspected.test", inspected.port()).await;
    let uri = format!("https://{}/", inspected.at("inspected.test"));
    let echo = async {
        let sent = pattern(5_000);
        tunnel.send(&sent).await;
        assert_eq!(tunnel.exactly(sent.len()).await.expect("an echo"), sent);
    };
    let (answer, ()) = at_once(h2.get(&uri), echo).await;
    assert_eq!(answer.expect("an answer").body, pattern(30_000));
    sekisho.next_request().await.says("allowed", "");
}
