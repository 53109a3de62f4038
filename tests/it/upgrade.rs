//! Only scenes about a process that takes over from another belong here: what waits, what runs, what is recorded, and what fails.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::support::client::{Tls, connect};
use super::support::record::Record;
use super::support::sekisho::{run, text};
use super::support::{Config, Origin, Reply, Sekisho, until};

async fn echo() -> (Origin, Config) {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("control", "socket", "\"control.sock\"");
    (origin, config)
}

async fn gone(mut old: Child) {
    let status = until("the old process's end", || old.try_wait().expect("wait")).await;
    assert!(status.success(), "{status}");
}

/// Every attempt that was established has ended once, whichever process began it.
fn assert_each_ends_once(records: &[Record]) {
    let mut ends: HashMap<String, u32> = HashMap::new();
    for record in records.iter().filter(|record| record.is_terminal()) {
        *ends.entry(record.text("event.id").to_owned()).or_default() += 1;
    }
    assert!(ends.values().all(|times| *times == 1), "{ends:?}");
    for established in records.iter().filter(|record| record.action() == "established") {
        let id = established.text("event.id");
        assert_eq!(ends.get(id), Some(&1), "{established:?}");
    }
}

#[tokio::test]
async fn what_runs_and_what_waits_goes_on_in_the_new_process() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let tls = Tls::named("allowed.test");
    let mut inside = tls.over(sekisho.tunnel(&at).await).await;
    inside.send("before").await;
    assert_eq!(inside.exactly(6).await.expect("an echo"), b"before");
    let silent = sekisho.client().await;
    let mut half = sekisho.client().await;
    let head = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n");
    half.send(&head[..20]).await;
    let established = sekisho.tunnel(&at).await;

    let old = sekisho.take_over().await;
    inside.send("behind").await;
    assert_eq!(inside.exactly(6).await.expect("an echo"), b"behind");
    let (mut silent, mut half) = (silent, half);
    silent.send(&head).await;
    assert_eq!(silent.response("CONNECT").await.status, 200);
    half.send(&head[20..]).await;
    assert_eq!(half.response("CONNECT").await.status, 200);
    for wire in [silent, half, established, sekisho.tunnel(&at).await] {
        let mut inside = tls.over(wire).await;
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
        inside.bye().await;
    }
    gone(old).await;
    inside.send("alone").await;
    assert_eq!(inside.exactly(5).await.expect("an echo"), b"alone");
    inside.bye().await;
    let taken = sekisho.lifecycle("taken_over", 1).await;
    assert!(taken.text("message").contains("has ended: 4 tunnels and "), "{taken:?}");
    sekisho.terminals("connection", 5).await;
    sekisho.conserved().await;
    let records = sekisho.records();
    assert_each_ends_once(&records);
    let words: Vec<_> =
        records.iter().map(|record| record.text("sekisho.lifecycle")).filter(|word| !word.is_empty()).collect();
    assert_eq!(words, ["start", "control", "continued", "start", "taken_over"]);
    let start = records.iter().filter(|record| record.text("sekisho.lifecycle") == "start").nth(1).expect("a start");
    start.with("sekisho.previous_end", "clean");
    let first =
        records.iter().find(|record| record.is_terminal() && record.number("source.bytes") > 17).expect("the first");
    first.says("allowed", "");
}
