//! Only scenes about what an upgrade of thousands of tunnels takes of memory belong here.

use std::fs;
use std::sync::Arc;

use rustix::process::Pid;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::super::control::status;
use super::super::support::client::{Tls, Wire, connect};
use super::super::support::{Sekisho, within};
use super::{assert_each_ends_once, echo, gone};

const TUNNELS: u64 = 3_000;
/// Tasks that open them, and use them.
const HANDS: u64 = 20;
/// `limits.memory`, in megabytes, with room for all of them; and the least that can be set, which has none.
const CEILING: u64 = 96;
const SCARCE: u64 = 64;

/// The most octets that were ever resident of it (proc(5): `VmHWM`).
fn peak(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Each says something and hears it.
async fn echoes(tunnels: &mut [Wire<TlsStream<TcpStream>>]) {
    for inside in tunnels.iter_mut() {
        inside.send("ping").await;
    }
    for inside in tunnels {
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    }
}

/// Both processes stay below `limits.memory` while all of them move, and then while some cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h03_three_thousand_tunnels_move_within_the_memory_of_either_process() {
    let (origin, config) = echo().await;
    let config = config.set("limits", "memory", &format!("\"{CEILING}MB\"")).set("timeouts", "drain", "\"60s\"");
    let config = config.set("timeouts", "request_head", "\"60s\"").set("limits.per_client", "connections", "5000");
    let config = ["new_connections_per_second", "burst", "handshakes"]
        .into_iter()
        .fold(config, |config, key| config.set("limits.per_client", key, "5000"));
    let mut sekisho = Sekisho::start(&config).await;
    let (at, tls) = (origin.at("allowed.test"), Arc::new(Tls::named("allowed.test")));
    let addr = sekisho.addr();
    let opening = (0..HANDS).map(|_| {
        let (at, tls) = (at.clone(), Arc::clone(&tls));
        tokio::spawn(async move {
            let mut opened = Vec::new();
            for _ in 0..TUNNELS / HANDS {
                let mut wire = connect(addr).await.expect("accepted");
                wire.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
                assert_eq!(wire.response("CONNECT").await.status, 200);
                opened.push(tls.over(wire).await);
            }
            opened
        })
    });
    let opening: Vec<_> = opening.collect();
    let mut tunnels = Vec::new();
    for opened in opening {
        tunnels.extend(opened.await.expect("opened"));
    }
    // It keeps the old process there until its peak has been read.
    let mut half = sekisho.client().await;
    half.send("CONNECT ").await;
    sekisho.connected(TUNNELS as u32 + 1).await;
    let before = sekisho.pid();
    let old = sekisho.take_over().await;
    moved(&sekisho, TUNNELS).await;
    let peaks = (peak(before), peak(sekisho.pid()));
    eprintln!("peaks of the old process and the new one: {peaks:?}");
    assert!(peaks.0.max(peaks.1) < CEILING * 1_000_000, "{peaks:?}");
    echoes(&mut tunnels).await;
    drop(half);
    gone(old).await;

    // There is room for some of them.
    let config = config.set("limits", "memory", &format!("\"{SCARCE}MB\""));
    sekisho.replace_config(&config.render(&sekisho.listeners, sekisho.admin));
    let before = sekisho.pid();
    let old = sekisho.take_over().await;
    // Each that stays is told once, and not asked again.
    let stay = within("what stays", async {
        loop {
            let here = status(&sekisho).await["tunnels"].as_u64().expect("a number");
            let stay =
                sekisho.stderr().matches("a tunnel stays with the process before: there is no memory").count() as u64;
            if here + stay == TUNNELS {
                break stay;
            }
        }
    })
    .await;
    let peaks = (peak(before), peak(sekisho.pid()));
    assert!((1..TUNNELS).contains(&stay), "{stay}");
    eprintln!("peaks where {stay} stay: {peaks:?}");
    assert!(peaks.0 < CEILING * 1_000_000 && peaks.1 < SCARCE * 1_000_000, "{peaks:?}");
    echoes(&mut tunnels).await;
    for inside in tunnels {
        inside.bye().await;
    }
    gone(old).await;
    let told = sekisho.lifecycle("taken_over", 2).await;
    let why = format!(" {stay} tunnels stayed with it to its end: there was no memory for them here (limits.memory).");
    assert!(told.text("message").ends_with(&why), "{told:?}");
    // Each of them, and the one that kept the old process.
    sekisho.terminals("connection", TUNNELS + 1).await;
    sekisho.counted().await;
    assert_each_ends_once(&sekisho.records());
}

async fn moved(sekisho: &Sekisho, tunnels: u64) {
    within("all of them in the new process", async {
        while status(sekisho).await["tunnels"].as_u64() != Some(tunnels) {}
    })
    .await;
}
