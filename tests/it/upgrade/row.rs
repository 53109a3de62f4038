//! Only scenes with more than two processes in a row belong here.

use rustix::process::{Signal, kill_process};

use super::super::control::{ask, sessions, status};
use super::super::support::client::Tls;
use super::super::support::sekisho::text;
use super::super::support::{Sekisho, within};
use super::{echo, gone};

/// What is said to drain: each process and what it has, the latest first.
async fn draining(sekisho: &Sekisho) -> Vec<(u64, Option<u64>)> {
    let told = status(sekisho).await;
    let rows = told["draining"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| (row["pid"].as_u64().expect("a number"), row["sessions"].as_u64())).collect()
}

/// Waits until they are these.
async fn drains(sekisho: &Sekisho, due: &[(u64, Option<u64>)]) {
    within(&format!("{due:?}"), async { while draining(sekisho).await != due {} }).await;
}

/// The oldest is stopped, and drains still: the one in the middle has it to ask, and is asked itself.
#[tokio::test]
async fn who_is_silent_in_a_row_silences_nobody_else_and_is_heard_again() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config.set("timeouts", "drain", "\"60s\"")).await;
    let tls = Tls::named("allowed.test");
    let mut tunnels = Vec::new();
    for _ in 0..50 {
        tunnels.push(tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await);
    }
    let stopped = sekisho.pid();
    // It has descriptors for some of the tunnels: the others stay where they are.
    let oldest = sekisho.take_over_within(Some("ulimit -n 120")).await;
    let stay = within("what stays", async {
        loop {
            let told = status(&sekisho).await;
            let stay = told["draining"][0]["sessions"].as_u64();
            if let Some(stay) = stay.filter(|stay| told["tunnels"].as_u64() == Some(50 - stay)) {
                break stay;
            }
        }
    })
    .await;
    assert!((1..50).contains(&stay), "{stay}");
    let middle = sekisho.take_over().await;
    let (old, mid) = (u64::from(oldest.id()), u64::from(middle.id()));
    drains(&sekisho, &[(mid, Some(0)), (old, Some(stay))]).await;

    kill_process(stopped, Signal::STOP).expect("it is there");
    let silent =
        format!("process {old} is draining and does not answer: what it has is not listed; `kill {old}` ends it\n");
    // At once, and when it is known.
    for _ in 0..2 {
        let listing = ask(&sekisho, &["sessions"]).await;
        assert_eq!(text(&listing.stderr), silent);
        assert!(text(&listing.stdout).ends_with(&format!("{} sessions\n", 50 - stay)), "{}", text(&listing.stdout));
        drains(&sekisho, &[(mid, Some(0)), (old, None)]).await;
    }
    kill_process(stopped, Signal::CONT).expect("it is there");
    drains(&sekisho, &[(mid, Some(0)), (old, Some(stay))]).await;
    assert_eq!(sessions(&sekisho, &[]).await.len(), 50);

    for inside in tunnels {
        inside.bye().await;
    }
    gone(oldest).await;
    gone(middle).await;
    sekisho.lifecycle("taken_over", 2).await;
    assert_eq!(sekisho.terminals("connection", 50).await.len(), 50);
}
