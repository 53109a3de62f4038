//! Only scenes about limits belong here: how many, how fast, who holds a slot, and when it is free again.

mod pacing;
mod slots;
mod subjects;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpStream;

use super::support::client::{Tls, Wire, connect_from};
use super::support::{Config, Origin, Sekisho};

#[tokio::test]
async fn one_client_may_hold_so_many_connections_and_tunnels_count() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits.per_client", "connections", "4");
    let mut sekisho = Sekisho::start(&config).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await);
    }
    let mut wire = sekisho.client().await;
    let _ = wire.try_send("CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n").await;
    let answer = wire.response("CONNECT").await;
    assert_eq!(answer.status, 429, "{answer:?}");
    answer.details("too_many_connections");
    assert!(!answer.values("retry-after").is_empty());
    wire.closed().await;
    sekisho.next_connection().await.says("denied", "too_many_connections").with("source.ip", "127.0.0.1");

    held.pop().expect("a tunnel").bye().await;
    sekisho.next_connection().await.says("allowed", "");
    held.push(Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await);
    for one in held {
        one.bye().await;
        sekisho.next_connection().await.says("allowed", "");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn all_clients_together_may_hold_so_many() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits", "connections", "3");
    let mut sekisho = Sekisho::start(&config).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(sekisho.client().await);
    }
    // A slot is taken at the accept; an answered request proves that the accept has happened.
    for wire in &mut held {
        wire.send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
        assert_eq!(wire.response("CONNECT").await.status, 403);
        sekisho.next_connection().await.says("denied", "not_allowlisted");
    }
    let mut wire = sekisho.client().await;
    let _ = wire.try_send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
    let answer = wire.response("CONNECT").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    answer.details("too_many_connections");
    sekisho.next_connection().await.says("denied", "too_many_connections");
    held.clear();
    super::support::within("a free slot", async {
        loop {
            let mut wire = sekisho.client().await;
            let _ = wire.try_send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
            if wire.response("CONNECT").await.status == 403 {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn new_connections_come_at_a_rate() {
    let config = Config::new().set("limits.per_client", "new_connections_per_second", "1").set(
        "limits.per_client",
        "burst",
        "5",
    );
    let sekisho = Sekisho::start(&config).await;
    let answers = join_all((0..12).map(|_| async {
        let mut wire = sekisho.client().await;
        let _ = wire.try_send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
        let answer = wire.response("CONNECT").await;
        if answer.status == 429 {
            answer.details("rate_limited");
        }
        answer.status
    }))
    .await;
    let limited = answers.iter().filter(|status| **status == 429).count();
    assert!((5..=7).contains(&limited), "{answers:?}");
    let records = sekisho.terminals("connection", 12).await;
    let of = |reason: &str| {
        records.iter().filter(|record| record.reason() == reason).map(|record| record.count()).sum::<u64>()
    };
    assert_eq!((of("rate_limited"), of("not_allowlisted")), (limited as u64, (12 - limited) as u64));
}

/// The refusal of who comes too fast is held back for a second, so that a loop is no flood; others wait for nothing.
#[tokio::test]
async fn h10_who_begins_again_with_every_refusal_is_slowed() {
    let quotas = [("new_connections_per_second", "1"), ("burst", "1")];
    let config = quotas.iter().fold(Config::new(), |config, (key, value)| config.set("limits.per_client", key, value));
    let sekisho = Sekisho::start(&config).await;
    let asks = async |mut wire: Wire<TcpStream>| {
        let _ = wire.try_send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
        wire.response("CONNECT").await.status
    };
    let began = Instant::now();
    let mut limited = 0;
    for _ in 0..5 {
        let status = asks(sekisho.client().await).await;
        limited += u32::from(status == 429);
        assert!(began.elapsed() >= Duration::from_secs(1) * limited, "{limited} in {:?}", began.elapsed());
    }
    assert!(limited >= 2, "{limited}");
    assert_eq!(asks(connect_from("127.0.0.2", sekisho.addr()).await).await, 403);
    let records = sekisho.terminals("connection", 6).await;
    let held = records.iter().filter(|record| record.reason() == "rate_limited");
    assert_eq!(held.map(|record| record.count()).sum::<u64>(), u64::from(limited));
}

#[tokio::test]
async fn one_clients_flood_is_not_anothers() {
    let config = Config::new().set("limits.per_client", "new_connections_per_second", "1").set(
        "limits.per_client",
        "burst",
        "2",
    );
    let sekisho = Sekisho::start(&config).await;
    for (from, expected) in
        [("127.0.0.1", 403), ("127.0.0.1", 403), ("127.0.0.1", 429), ("127.0.0.2", 403), ("127.0.0.2", 403)]
    {
        let mut wire = connect_from(from, sekisho.addr()).await;
        let _ = wire.try_send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
        assert_eq!(wire.response("CONNECT").await.status, expected, "{from}");
    }
    assert!(sekisho.terminals("connection", 5).await.iter().any(|record| record.reason() == "rate_limited"));
}

#[tokio::test]
async fn inspected_requests_come_at_a_rate() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).set("limits.per_client", "requests_per_second", "5");
    let sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut wire = Tls::named("allowed.test").trusting(&sekisho.ca()).over(sekisho.tunnel(&at).await).await;
    let mut limited = 0;
    for n in 0..40 {
        let answer = wire.get(&at, &format!("/{n}")).await.expect("an answer");
        if answer.status == 429 {
            answer.page(429, "rate_limited");
            limited += 1;
        }
    }
    assert!((20..=35).contains(&limited), "{limited} of 40");
    assert_eq!(origin.requests().len(), 40 - limited, "a limited request never goes upstream");
    let records = sekisho.terminals("request", 40).await;
    assert_eq!(records.iter().filter(|record| record.reason() == "rate_limited").count(), limited);
}

#[tokio::test]
async fn h05_a_descriptor_limit_lowers_the_connections_and_nothing_breaks() {
    use std::process::{Command, Stdio};
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (dir, listeners, _) = super::support::sekisho::prepare(&Config::new().tunnel("allowed.test", &origin));
    let stderr = std::fs::File::create(dir.path().join("stderr.log")).expect("stderr.log");
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 200; exec \"$0\" run --config sekisho.toml"])
        .arg(super::support::sekisho::binary())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("sh");
    super::support::within("listening", async {
        while super::support::client::connect(listeners[0]).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..300 {
        if let Ok(wire) = super::support::client::connect(listeners[0]).await {
            held.push(wire);
        }
    }
    let made = held.len() as u64;
    held.clear();
    super::support::within("service again", async {
        loop {
            let at = origin.at("allowed.test");
            if let Ok(mut wire) = super::support::client::connect(listeners[0]).await {
                let _ = wire.try_send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
                if wire.maybe_response("CONNECT").await.is_some_and(|answer| answer.status == 200) {
                    return;
                }
            }
        }
    })
    .await;
    let records = super::support::until("a record of each connection", || {
        let text = std::fs::read_to_string(dir.path().join("access.jsonl")).ok()?;
        let records = super::support::record::parse(&text);
        let terminal = records.iter().filter(|record| record.is_terminal()).map(super::support::Record::count);
        (terminal.sum::<u64>() > made).then_some(records)
    })
    .await;
    assert!(records.iter().all(|record| record.reason() != "internal_error"), "{records:?}");
    child.kill().expect("killed");
    child.wait().expect("waited");
    let said = std::fs::read_to_string(dir.path().join("stderr.log")).expect("stderr.log");
    assert!(said.contains("limits.connections"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
