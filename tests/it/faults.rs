//! Only scenes in which something round the proxy fails belong here: what it tells meanwhile, and that all is as before afterwards.
//! Each stands as a function that says how every fault went: the test beside it runs that, and so does the scorecard.

mod disk;
mod line;
mod names;
mod process;
mod start;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::real_clients::stage::skipped;
use super::support::client::Tls;
use super::support::record::Record;
use super::support::{PATIENCE, Response, Sekisho, until};

const HOST: &str = "allowed.test";
/// Each fault comes so many times.
pub const ROUNDS: usize = 3;

/// A fault that came and went so many times.
pub struct Survived {
    pub fault: String,
    pub rounds: usize,
    /// The longest, from the end of the fault until all was as before.
    pub recovery: Duration,
    /// Attempts minus records, of the proxy that met it, perhaps with others of its scene.
    pub unrecorded: i64,
}

/// How every fault of a scene went, or why none could be brought about here. One that is not survived panics.
pub type Told = Result<Vec<Survived>, &'static str>;

/// Faults that the scorecard brings about too.
pub struct Scene {
    pub name: &'static str,
    /// Of the catalogue of attacks.
    pub rows: &'static str,
    pub run: fn(usize) -> Pin<Box<dyn Future<Output = Told>>>,
}

pub const SCENES: &[Scene] = &[
    // A literal table.
    Scene { name: "tunnel's upstream", rows: "N03", run: |rounds| Box::pin(line::tunnelled_upstreams(rounds)) },
    Scene { name: "inspected upstream", rows: "N03", run: |rounds| Box::pin(line::inspected_upstreams(rounds)) },
    Scene { name: "kept verdict", rows: "N03", run: |rounds| Box::pin(line::kept_verdicts(rounds)) },
    Scene { name: "tunnel broken", rows: "N02", run: |rounds| Box::pin(line::broken_tunnels(rounds)) },
    Scene { name: "answer broken", rows: "N02", run: |rounds| Box::pin(line::broken_answers(rounds)) },
    Scene { name: "answer not begun", rows: "N02, N03", run: |rounds| Box::pin(line::breaks_before(rounds)) },
    Scene { name: "HTTP/2 broken", rows: "N02, F11", run: |rounds| Box::pin(line::broken_http2(rounds)) },
    Scene { name: "octet corrupted", rows: "N02", run: |rounds| Box::pin(line::corrupted_octets(rounds)) },
    Scene { name: "name server", rows: "B05", run: |rounds| Box::pin(names::faulty_servers(rounds)) },
    Scene { name: "name server gone", rows: "B05", run: |rounds| Box::pin(names::gone_server(rounds)) },
    Scene { name: "disk full", rows: "K03", run: |rounds| Box::pin(disk::full(rounds)) },
    Scene { name: "disk read-only", rows: "K03", run: |rounds| Box::pin(disk::read_only(rounds)) },
    Scene { name: "clock set", rows: "O01", run: |rounds| Box::pin(process::clock(rounds)) },
    Scene { name: "process stopped", rows: "O03", run: |rounds| Box::pin(process::stopped(rounds)) },
    Scene { name: "reload storm", rows: "L07", run: |rounds| Box::pin(process::reload_storm(rounds)) },
    Scene { name: "no descriptors", rows: "H05, O04", run: |rounds| Box::pin(process::descriptors(rounds)) },
];

impl Survived {
    fn new(fault: impl Into<String>, rounds: usize) -> Self {
        Self { fault: fault.into(), rounds, recovery: Duration::ZERO, unrecorded: 0 }
    }

    fn after(&mut self, recovery: Duration) {
        self.recovery = self.recovery.max(recovery);
    }
}

/// Nothing more comes to the proxy that met them.
async fn settled(sekisho: &Sekisho, mut faults: Vec<Survived>) -> Told {
    let unrecorded = sekisho.unrecorded().await;
    for fault in &mut faults {
        fault.unrecorded = unrecorded;
    }
    Ok(faults)
}

/// A scene by itself.
async fn passes(scene: impl Future<Output = Told>) {
    match scene.await {
        Ok(faults) => {
            for fault in faults {
                assert_eq!(fault.unrecorded, 0, "{}: attempts minus records", fault.fault);
            }
        }
        Err(why) => skipped("a fault", why),
    }
}

/// One GET in a tunnel that is the client's own, or inside inspection.
struct Tried {
    /// By whatever answered, be it to the CONNECT.
    answer: Option<Response>,
    port: u16,
    /// The record's last number before it.
    since: u64,
}

impl Tried {
    async fn now(sekisho: &Sekisho, authority: &str, tls: &Tls) -> Self {
        let since = sekisho.records().last().map_or(0, |record| record.number("event.sequence"));
        let mut wire = sekisho.client().await;
        let mut tried = Self { answer: None, port: wire.io.local_addr().expect("connected").port(), since };
        // As long as it is hard pressed it closes who comes, without an answer.
        let _ = wire.try_send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        match wire.maybe_response("CONNECT").await {
            Some(answer) if answer.status == 200 => {
                if let Ok(mut inside) = tls.try_over(wire).await {
                    tried.answer = inside.get(authority, "/").await;
                    inside.bye().await;
                }
            }
            answer => tried.answer = answer,
        }
        tried
    }

    fn passed(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.status == 200)
    }

    /// The terminal record of its connection.
    async fn record(&self, sekisho: &Sekisho) -> Record {
        until("the connection's record", || {
            sekisho.records().into_iter().find(|record| {
                record.is_terminal()
                    && record.action() == "connection"
                    && record.number("event.sequence") > self.since
                    && record.number("source.port") == u64::from(self.port)
            })
        })
        .await
    }

    /// It was refused, and is recorded, for one of these.
    async fn failed(&self, what: &str, sekisho: &Sekisho, status: u16, reasons: &[&str]) -> Record {
        let answer = self.answer.as_ref().unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let record = self.record(sekisho).await;
        assert!(reasons.contains(&record.reason()), "{what}: {record:?}");
        answer.details(record.reason());
        record
    }
}

/// Good requests pass again, and readiness is told; how long that took.
async fn recovered(what: &str, sekisho: &Sekisho, authority: &str, tls: &Tls) -> Duration {
    let over = Instant::now();
    let passing = async {
        while !Tried::now(sekisho, authority, tls).await.passed() || sekisho.admin("/readyz").await.status != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, passing).await.is_ok(), "{what}: not as before within {PATIENCE:?}");
    over.elapsed()
}
