//! Only scenes about overload belong here: what is refused and ended then, what never is, and that it is over by itself.

use std::os::unix::process::ExitStatusExt;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use tokio::net::TcpStream;

use super::support::by_hand::{inside, inside_h2};
use super::support::client::{Response, Tls, Wire, connect, connect_from};
use super::support::{Config, Origin, Sekisho, until, within};

type Client = Wire<TcpStream>;

/// The answer to a CONNECT on a connection of its own; `None` where that is closed instead.
async fn asks(sekisho: &Sekisho, authority: &str) -> Option<Response> {
    let mut wire = connect(sekisho.addr()).await.ok()?;
    wire.try_send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await.ok()?;
    wire.maybe_response("CONNECT").await
}

/// Waits until `/readyz` says so.
async fn ready(sekisho: &Sekisho, status: u16, says: &str) {
    within(&format!("/readyz {status} {says}"), async {
        loop {
            if let Ok(mut wire) = connect(sekisho.admin).await
                && let Some(answer) = wire.get("localhost", "/readyz").await
                && answer.status == status
                && answer.text().starts_with(says)
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Every attempt begun has its record, or is still there.
async fn conserved(sekisho: &Sekisho) {
    let metrics = sekisho.metrics().await;
    let of = |name: &str| {
        metrics
            .iter()
            .filter(|(sample, _)| sample.starts_with(name) && sample.contains("\"connection\""))
            .map(|(_, n)| n)
            .sum::<f64>()
    };
    let (begun, there, ended) =
        (of("sekisho_attempts_total"), of("sekisho_attempts_in_progress"), of("sekisho_records_total"));
    assert!((begun - there - ended).abs() < 0.5, "{begun} begun, {there} in progress, {ended} ended");
}

async fn echoes(wire: &mut Wire<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>) {
    wire.send("x").await;
    assert_eq!(wire.exactly(1).await.expect("an echo"), b"x");
}

fn count(records: &[super::support::Record], reason: &str) -> u64 {
    records.iter().filter(|record| record.reason() == reason).map(super::support::Record::count).sum()
}

/// Silent connections hold all slots but one: the oldest are ended, the tunnel is not, and all of it is told.
#[tokio::test]
async fn h02_h03_half_open_connections_make_room_oldest_first_and_a_tunnel_stays() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits", "connections", "20");
    let sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut tunnel = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    echoes(&mut tunnel).await;
    let mut silent: Vec<Client> = Vec::new();
    for n in 0..18 {
        silent.push(connect_from(&format!("127.0.0.{}", 2 + n % 6), sekisho.addr()).await);
    }
    ready(&sekisho, 200, "shedding: half_open").await;
    // Ended for want of room, long before its own limit, and told so.
    let oldest = silent[0].maybe_response("CONNECT").await.expect("an answer");
    assert_eq!(oldest.status, 503, "{oldest:?}");
    oldest.details("overloaded");
    ready(&sekisho, 200, "ok").await;
    echoes(&mut tunnel).await;
    assert_eq!(asks(&sekisho, &at).await.expect("an answer").status, 200, "there is room again");
    let (shedding, normal) = (sekisho.lifecycle("shedding", 1).await, sekisho.lifecycle("normal", 1).await);
    assert!(shedding.text("message").contains("not established"), "{shedding:?}");
    assert!(normal.number("event.sequence") > shedding.number("event.sequence"));
    let metrics = sekisho.metrics().await;
    assert!(metrics["sekisho_shed_total{kind=\"newcomers\"}"] >= 1.0, "{metrics:?}");
    assert!(metrics["sekisho_overload_entered_total{state=\"shedding\"}"] >= 1.0, "{metrics:?}");
    drop(silent);
    tunnel.bye().await;
    let records = sekisho.terminals("connection", 20).await;
    let shed = records.iter().find(|record| record.reason() == "overloaded").expect("a record of it");
    shed.says("denied", "overloaded").with("sekisho.stage", "claim").with("sekisho.side", "sekisho");
    conserved(&sekisho).await;
}

/// `limits.memory` holds against unfinished heads of the largest size, which would take twice as much; then it is over.
#[tokio::test]
async fn h01_h07_f10_a_flood_of_large_heads_stays_below_the_ceiling() {
    const CEILING: u64 = 96_000_000;
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits", "memory", "\"96MB\"").set(
        "limits.per_client",
        "connections",
        "5000",
    );
    let sekisho = Sekisho::start(&config).await;
    let head = format!("CONNECT allowed.test:443 HTTP/1.1\r\nX-Padding: {}", "a".repeat(60_000));
    let mut held = Vec::new();
    let mut most = 0;
    for n in 0..2_000 {
        let Ok(mut wire) = connect(sekisho.addr()).await else { continue };
        let _ = wire.try_send(&head).await;
        held.push(wire);
        if n % 10 == 0 {
            most = sekisho.resident().max(most);
        }
    }
    most = sekisho.resident().max(most);
    assert!(most < CEILING, "{most} octets were resident");
    let refused = until("refusals", || {
        let records = sekisho.records();
        (count(&records, "overloaded") > 0).then_some(records)
    })
    .await;
    assert_eq!(count(&refused, "internal_error"), 0);
    drop(held);
    ready(&sekisho, 200, "ok").await;
    let at = origin.at("allowed.test");
    let mut wire = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    assert_eq!(wire.get("allowed.test", "/").await.expect("an answer").status, 200);
    wire.bye().await;
    within("charges given back", async {
        while sekisho.metrics().await["sekisho_memory_charged_bytes"] > 0.0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(sekisho.terminals("connection", 2_001).await.iter().map(|record| record.count()).sum::<u64>(), 2_001);
    conserved(&sekisho).await;
}

/// While new work is shed, who holds the most of what there is gets no more of it; others are taken up, and what stands goes on.
#[tokio::test]
async fn h02_h05_while_shedding_who_has_its_share_is_turned_away_and_others_are_not() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let mut tunnels = Vec::new();
    for _ in 0..100 {
        let mut tunnel = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
        echoes(&mut tunnel).await;
        tunnels.push(tunnel);
    }
    let before = getrlimit(Resource::Nofile);
    // An eighth is reserved; it sheds below twice as much, and refuses below five fourths.
    let open = sekisho.descriptors();
    let scarce = Rlimit { current: Some(open + open / 4), maximum: before.maximum };
    prlimit(Some(sekisho.pid()), Resource::Nofile, scarce).expect("lowered");
    ready(&sekisho, 200, "shedding: descriptors").await;
    let answer = asks(&sekisho, &at).await.expect("an answer");
    assert_eq!(answer.status, 503, "who has a hundred: {answer:?}");
    answer.details("overloaded");
    let mut other = connect_from("127.0.0.9", sekisho.addr()).await;
    other.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(other.response("CONNECT").await.status, 200, "who has none");
    let mut other = Tls::named("allowed.test").over(other).await;
    echoes(&mut other).await;
    for tunnel in &mut tunnels {
        echoes(tunnel).await;
    }
    let record = &sekisho.terminals("connection", 1).await[0];
    record.says("denied", "overloaded").with("sekisho.stage", "admit").with("source.ip", "127.0.0.1");
    prlimit(Some(sekisho.pid()), Resource::Nofile, before).expect("raised");
    ready(&sekisho, 200, "ok").await;
    assert_eq!(asks(&sekisho, &at).await.expect("an answer").status, 200);
    conserved(&sekisho).await;
}

/// Memory that the system does not give (RLIMIT_AS), below a ceiling that is too high for it: the process ends, and with it every way
/// out. What is started next says that the one before did not end in order.
#[tokio::test]
async fn o02_where_an_allocation_fails_the_process_ends_and_nobody_gets_out() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits", "memory", "\"2GB\"");
    let roomy = ["connections", "new_connections_per_second", "burst", "handshakes"];
    let config = roomy.iter().fold(config, |config, key| config.set("limits.per_client", key, "5000"));
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    assert_eq!(asks(&sekisho, &at).await.expect("an answer").status, 200);
    let before = getrlimit(Resource::As);
    let scarce = Rlimit { current: Some(sekisho.address_space() + 32_000_000), maximum: before.maximum };
    prlimit(Some(sekisho.pid()), Resource::As, scarce).expect("lowered");
    let head = format!("CONNECT allowed.test:443 HTTP/1.1\r\nX-Padding: {}", "a".repeat(60_000));
    let mut held = Vec::new();
    within("the end of memory", async {
        while let Ok(mut wire) = connect(sekisho.addr()).await {
            let _ = wire.try_send(&head).await;
            held.push(wire);
        }
    })
    .await;
    sekisho.kill_was_seen().await;
    let status = sekisho.exit().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}: {}", sekisho.stderr());
    assert!(sekisho.stderr().contains("memory allocation of"), "{}", sekisho.stderr());
    assert!(connect(sekisho.addr()).await.is_err() && connect(sekisho.admin).await.is_err());
    sekisho.start_again().await;
    let start = sekisho.lifecycle("start", 2).await;
    start.with("sekisho.previous_end", "unclean");
    assert_eq!(asks(&sekisho, &at).await.expect("an answer").status, 200);
}

/// With hardly a descriptor left no connection is taken up, each has its record, and what stands goes on.
#[tokio::test]
async fn h05_while_refusing_connections_are_closed_and_recorded_and_tunnels_go_on() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let mut tunnel = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    echoes(&mut tunnel).await;
    let before = getrlimit(Resource::Nofile);
    // As often as it takes: those of a self-probe that was under way are given back.
    until("refusing", || {
        let scarce = Rlimit { current: Some(sekisho.descriptors() + 3), maximum: before.maximum };
        prlimit(Some(sekisho.pid()), Resource::Nofile, scarce).expect("lowered");
        sekisho.stderr().contains("No new connection is taken up").then_some(())
    })
    .await;
    ready(&sekisho, 503, "refusing: descriptors").await;
    for _ in 0..20 {
        assert!(asks(&sekisho, &at).await.is_none(), "closed without a word");
    }
    echoes(&mut tunnel).await;
    let records = sekisho.terminals("connection", 20).await;
    for record in &records {
        record.says("denied", "overloaded").with("sekisho.stage", "admit").with("source.ip", "127.0.0.1");
    }
    assert_eq!(records.len(), 20);
    prlimit(Some(sekisho.pid()), Resource::Nofile, before).expect("raised");
    ready(&sekisho, 200, "ok").await;
    assert_eq!(asks(&sekisho, &at).await.expect("an answer").status, 200);
    echoes(&mut tunnel).await;
    sekisho.lifecycle("refusing", 1).await;
    assert!(sekisho.metrics().await["sekisho_shed_total{kind=\"connections\"}"] >= 20.0);
    conserved(&sekisho).await;
}

/// No descriptor at all, as when another program of the machine takes the last: accept fails for a while, neither spins nor gives up,
/// and the service is there again by itself.
#[tokio::test]
async fn h05_n05_accept_goes_on_after_a_time_without_any_descriptor() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let before = getrlimit(Resource::Nofile);
    for round in 1..=3 {
        let none = Rlimit { current: Some(sekisho.descriptors()), maximum: before.maximum };
        prlimit(Some(sekisho.pid()), Resource::Nofile, none).expect("lowered");
        let mut waiting = connect(sekisho.addr()).await.expect("the kernel accepts");
        waiting.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        sekisho.lifecycle("refusing", round).await;
        prlimit(Some(sekisho.pid()), Resource::Nofile, before).expect("raised");
        // Whoever waited is taken up or left; nobody waits for ever.
        let _ = waiting.maybe_response("CONNECT").await;
        ready(&sekisho, 200, "ok").await;
        assert_eq!(asks(&sekisho, &at).await.expect("an answer").status, 200, "round {round}");
        sekisho.lifecycle("normal", round).await;
    }
    // A descriptor that the self-probe gives back may be the one that an accept takes: then nothing failed.
    let failed = sekisho.stderr().matches("accept failed").count();
    assert!((1..=30).contains(&failed), "a line for each time, not for each attempt: {failed}");
    conserved(&sekisho).await;
}

/// 256 descriptors and 2,000 connections that hold on: the record is written and opened anew, the admin listener answers, a reload
/// takes effect, the tunnel goes on, and afterwards everything is as before.
#[tokio::test]
async fn h05_few_descriptors_are_enough_for_record_admin_and_reload_under_a_flood() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin);
    let sekisho = Sekisho::start_under(&config, "ulimit -n 256").await;
    let at = origin.at("allowed.test");
    let mut tunnel = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    echoes(&mut tunnel).await;
    let mut held = Vec::new();
    let (mut made, mut most) = (0, 0);
    for n in 0..2_000 {
        let Ok(mut wire) = connect(sekisho.addr()).await else { continue };
        made += 1;
        if n % 2 == 0 {
            let _ = wire.try_send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        }
        held.push(wire);
        match n {
            500 => {
                std::fs::rename(sekisho.path("access.jsonl"), sekisho.path("access.1")).expect("rotated");
                sekisho.signal(Signal::USR1);
                sekisho.lifecycle("reopen", 1).await;
            }
            1_000 => sekisho.reload(&config).await,
            _ if n % 100 == 0 => {
                assert!([200, 503].contains(&sekisho.admin("/readyz").await.status));
                most = sekisho.descriptors().max(most);
            }
            _ => {}
        }
    }
    assert!(most <= 256, "{most}");
    echoes(&mut tunnel).await;
    drop(held);
    ready(&sekisho, 200, "ok").await;
    within("service again", async { while asks(&sekisho, &at).await.is_none_or(|answer| answer.status != 200) {} })
        .await;
    tunnel.bye().await;
    let rotated = std::fs::read_to_string(sekisho.path("access.1")).expect("the old file");
    let rotated = super::support::record::parse(&rotated);
    let records = until("a record of each", || {
        let all: Vec<_> =
            rotated.iter().cloned().chain(sekisho.records()).filter(|record| record.is_terminal()).collect();
        (all.iter().map(super::support::Record::count).sum::<u64>() > made).then_some(all)
    })
    .await;
    assert_eq!(count(&records, "internal_error"), 0);
    assert!(!sekisho.stderr().contains("accept failed"), "{}", sekisho.stderr());
    conserved(&sekisho).await;
}

/// A day's work in small: the same again and again, of every kind, leaves no more behind after forty times than after fifteen.
#[tokio::test]
async fn o05_the_same_again_and_again_leaves_nothing_behind() {
    let origin = Origin::https(&["allowed.test", "inspected.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).inspect("inspected.test", &origin);
    let roomy = ["connections", "new_connections_per_second", "burst", "requests_per_second"];
    let config = roomy.iter().fold(config, |config, key| config.set("limits.per_client", key, "5000"));
    let sekisho = Sekisho::start(&config).await;
    let (at, inspected) = (origin.at("allowed.test"), origin.at("inspected.test"));
    let mut held = Vec::new();
    for _ in 0..40 {
        for _ in 0..10 {
            let mut wire = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
            assert_eq!(wire.get(&at, "/").await.expect("an answer").status, 200);
            wire.bye().await;
            let mut wire = inside(&sekisho, "inspected.test", origin.port()).await;
            assert_eq!(wire.get(&inspected, "/").await.expect("an answer").status, 200);
            wire.bye().await;
            let mut h2 = inside_h2(&sekisho, "inspected.test", origin.port()).await;
            assert_eq!(h2.get(&format!("https://{inspected}/")).await.expect("an answer").status, 200);
            drop(h2);
            assert_eq!(asks(&sekisho, "denied.test:443").await.expect("an answer").status, 403);
            let mut wire = connect(sekisho.addr()).await.expect("accepted");
            wire.send("CONNECT  \r\n\r\n").await;
            assert_eq!(wire.response("CONNECT").await.status, 400);
            let mut wire = sekisho.tunnel(&at).await;
            wire.send("no TLS at all").await;
            wire.rest().await.1.expect("an end");
        }
        sekisho.reload(&config).await;
        sekisho.quiet().await;
        held.push((sekisho.descriptors(), sekisho.resident()));
    }
    // The least of several rounds: a self-probe that is under way, and what the allocator has not given back yet, are not what stays.
    let least = |of: &[(u64, u64)], what: fn(&(u64, u64)) -> u64| of.iter().map(what).min().unwrap_or_default();
    let (early, late) = (&held[5..15], &held[30..]);
    // One for each round between would be 25.
    assert!(least(late, |held| held.0) < least(early, |held| held.0) + 3, "descriptors: {held:?}");
    // For each of the attempts between less than 700 octets.
    assert!(least(late, |held| held.1) < least(early, |held| held.1) + (1 << 20), "memory: {held:?}");
    conserved(&sekisho).await;
}
