//! Only scenes about the process belong here: start, drain, second signal, listeners that change, exit codes.

mod reloads;

use std::net::TcpListener;

use rustix::process::Signal;

use super::support::client::{Tls, connect};
use super::support::sekisho::{prepare, run, text};
use super::support::{Config, Origin, Reply, Sekisho, within};

#[tokio::test]
async fn start_and_stop_frame_the_record() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut sekisho = Sekisho::start(&Config::new()).await;
        sekisho.signal(signal);
        assert_eq!(sekisho.exit().await.code(), Some(0));
        let records = sekisho.records();
        records
            .first()
            .expect("a line")
            .with("sekisho.lifecycle", "start")
            .with("service.version", env!("CARGO_PKG_VERSION"));
        records.last().expect("a line").with("sekisho.lifecycle", "stop");
        assert!(connect(sekisho.addr()).await.is_err());
    }
}

#[tokio::test]
async fn draining_closes_listeners_and_lets_requests_finish() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(Some(held));
    let origin = Origin::https(&["allowed.test"])
        .alpn(&["http/1.1"])
        .answering(move |seen| {
            if seen.target == "/slow" {
                let held = held.lock().expect("lock").take().expect("once");
                // The answer waits for the test, on the origin's own connection.
                std::thread::spawn(move || held.recv());
                return Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst".to_vec());
            }
            Reply::ok("ok")
        })
        .start()
        .await;
    let config = Config::new().inspect("allowed.test", &origin).set("timeouts", "drain", "\"4s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let tls = Tls::named("allowed.test").trusting(&sekisho.ca());
    let mut idle = tls.over(sekisho.tunnel(&at).await).await;
    assert_eq!(idle.get(&at, "/").await.expect("an answer").status, 200);
    let mut busy = tls.over(sekisho.tunnel(&at).await).await;
    busy.send(format!("GET /slow HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert!(busy.head().await.expect("a head").starts_with("HTTP/1.1 200"));
    sekisho.signal(Signal::TERM);
    idle.closed().await;
    within("closed listeners", async {
        while connect(sekisho.addr()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(busy.exactly(5).await.expect("still served"), b"first");
    assert!(!sekisho.has_exited(), "a request is under way");
    drop(release);
    // The origin never sends the rest: at `drain` the request is cut.
    let (rest, _) = busy.rest().await;
    assert!(rest.is_empty());
    assert_eq!(sekisho.exit().await.code(), Some(0));
    sekisho.next_request().await.says("allowed", "");
    let cut = sekisho.next_request().await;
    assert_eq!(cut.reason(), "shutting_down", "{cut:?}");
}

#[tokio::test]
async fn a_tunnel_outlives_the_drain_by_nothing() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("timeouts", "drain", "\"1s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    sekisho.signal(Signal::TERM);
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo while draining"), b"ping");
    let _ = inside.rest().await;
    assert_eq!(sekisho.exit().await.code(), Some(0));
    let record = sekisho.next_connection().await;
    assert_eq!(record.reason(), "shutting_down", "{record:?}");
    record.with("sekisho.side", "sekisho");
}

#[tokio::test]
async fn a_second_signal_cuts_now() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("timeouts", "drain", "\"1h\"");
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    sekisho.signal(Signal::TERM);
    within("draining", async {
        while sekisho.admin("/readyz").await.status != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    sekisho.signal(Signal::TERM);
    let _ = inside.rest().await;
    assert_eq!(sekisho.exit().await.code(), Some(0));
    assert_eq!(sekisho.next_connection().await.reason(), "shutting_down");
    sekisho.records().last().expect("a line").with("sekisho.lifecycle", "stop");
}

#[tokio::test]
async fn an_idle_client_is_closed_when_draining_begins() {
    let mut sekisho = Sekisho::start(&Config::new().set("timeouts", "drain", "\"1h\"")).await;
    let mut wire = sekisho.client().await;
    wire.send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
    assert_eq!(wire.response("CONNECT").await.status, 403);
    sekisho.signal(Signal::TERM);
    wire.closed().await;
    assert_eq!(sekisho.exit().await.code(), Some(0));
    sekisho.next_connection().await.says("denied", "not_allowlisted");
}

#[test]
fn a_listener_that_is_taken_is_a_failed_start() {
    let (dir, listeners, _) = prepare(&Config::new());
    let _taken = TcpListener::bind(listeners[0]).expect("bound");
    let out = run(dir.path(), &["run", "--config", "sekisho.toml"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    assert!(said.contains(&listeners[0].to_string()) && said.contains("listener"), "{said}");
}

#[tokio::test]
async fn a_reload_moves_listeners_or_keeps_them_all() {
    // A reload opens ports that the service had at its start.
    let mut sekisho = Sekisho::start(&Config::new().listen("127.0.0.1").listen("127.0.0.1")).await;
    let [old, new, taken_at] = sekisho.listeners[..] else { panic!("three listeners") };
    sekisho.listeners.truncate(1);
    sekisho.reload(&Config::new()).await;
    let taken = super::support::until("the port's end", || TcpListener::bind(taken_at).ok()).await;
    assert_eq!(taken.local_addr().expect("bound"), taken_at);

    let text = Config::new().render(&[new, taken_at], sekisho.admin);
    sekisho.reload_refused(&text).await;
    assert!(connect(new).await.is_err(), "nothing of a failed reload stays");
    sekisho.refused("denied.test:443", 403, "not_allowlisted").await;

    sekisho.listeners = vec![new];
    sekisho.reload(&Config::new()).await;
    sekisho.refused("denied.test:443", 403, "not_allowlisted").await.with("sekisho.listener", &new.to_string());
    within("the old listener's end", async {
        while connect(old).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_reload_moves_the_admin_listener_and_the_record() {
    let mut sekisho = Sekisho::start(&Config::new().listen("127.0.0.1")).await;
    let moved = sekisho.listeners.pop().expect("a second listener");
    sekisho.reload(&Config::new()).await;
    sekisho.admin = moved;
    let text = Config::new().set("record", "path", "\"moved.jsonl\"").render(&sekisho.listeners, sekisho.admin);
    sekisho.replace_config(&text);
    sekisho.signal(Signal::HUP);
    super::support::until("the reload in the new file", || {
        let text = std::fs::read_to_string(sekisho.path("moved.jsonl")).ok()?;
        text.contains("\"sekisho.lifecycle\":\"reload\"").then_some(())
    })
    .await;
    assert_eq!(sekisho.admin("/livez").await.status, 200);
    sekisho.connect("denied.test:443").await;
    let moved = super::support::until("a record in the new file", || {
        let text = std::fs::read_to_string(sekisho.path("moved.jsonl")).ok()?;
        super::support::record::parse(&text).into_iter().find(super::support::Record::is_terminal)
    })
    .await;
    moved.says("denied", "not_allowlisted");
    assert!(sekisho.records().iter().all(|record| !record.is_terminal()));
}
