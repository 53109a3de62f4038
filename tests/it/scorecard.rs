//! Only the scorecard belongs here: every attack in turn against one running proxy, with a well-behaved client beside it, and one
//! table of how it went. The attacks stand in `attack`, the two clients' figures in `good`, what the process holds in `watch`.
//!
//! It measures, so that it runs alone: `tests/run` starts it behind the other tests, `tests/run --long` at full length. What holds
//! on any machine is asserted (memory, descriptors, records, no failed request of the good clients); latencies are printed.

mod attack;
mod good;
mod holding;
mod watch;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use self::attack::{ATTACKS, Attack, Field};
use self::good::Figures;
use self::watch::{Held, Watch};
use super::support::dns::{Dns, Says};
use super::support::load_origin::LoadOrigin;
use super::support::{Record, Sekisho, Service};

/// What the process may hold at most: `limits.memory`.
const CEILING_MIB: u64 = 512;
/// Within this time an attack's memory and descriptors have to be given back.
const BACK: Duration = Duration::from_secs(10);

/// How much of everything.
#[derive(Clone, Copy)]
struct Length {
    /// Of each attack, and of the good clients' runs.
    seconds: u64,
    /// Connections an attacker tries to hold.
    connections: usize,
    tunnels: u64,
    hold_seconds: u64,
    reloads: usize,
}

const SHORT: Length = Length { seconds: 3, connections: 1_500, tunnels: 1_000, hold_seconds: 5, reloads: 20 };
const LONG: Length = Length { seconds: 20, connections: 5_000, tunnels: 9_000, hold_seconds: 600, reloads: 1_000 };

impl Length {
    fn asked() -> Self {
        if std::env::var_os("SEKISHO_SCORECARD").is_some_and(|length| length == "long") { LONG } else { SHORT }
    }
}

/// One line of the table.
struct Row {
    what: String,
    tried: u64,
    undisturbed: Figures,
    beside: Figures,
    peak_kib: u64,
    /// Until descriptors and memory were what they had been before; `None`: not within [`BACK`].
    descriptors_back: Option<Duration>,
    memory_back: Option<Duration>,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures, and has to run alone: tests/run starts it"]
async fn the_scorecard() {
    let length = Length::asked();
    let origin = LoadOrigin::named(&["inspected.test"]);
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let mut sekisho = Sekisho::start(&config(&origin, &dns)).await;
    let field = Arc::new(Field::new(&sekisho, &origin, length.connections));
    let mut rows = Vec::new();
    // Twice: what the first run leaves in caches is not what an attack takes.
    good::run(&sekisho, &origin, length.seconds).await;
    for attack in ATTACKS {
        say(&format!("{} ({})", attack.name, attack.rows));
        rows.push(ride_out(attack, &field, &sekisho, &origin, length).await);
        super::support::within("readiness after an attack", async {
            while sekisho.admin("/readyz").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
    say("holding tunnels under reloads");
    let held = holding::run(&config(&origin, &dns), &mut sekisho, &origin, length).await;
    let (attempts, recorded) = reconciled(&mut sekisho).await;
    print_table(&rows, &held, attempts, recorded);
    assert_eq!(attempts, recorded, "attempts and records");
    let descriptors: Vec<_> = rows.iter().filter(|row| row.descriptors_back.is_none()).map(|row| &row.what).collect();
    assert!(descriptors.is_empty(), "descriptors not given back: {descriptors:?}");
    let above: Vec<_> = rows.iter().filter(|row| row.peak_kib > CEILING_MIB * 1024).map(|row| &row.what).collect();
    assert!(above.is_empty(), "above the ceiling of {CEILING_MIB} MiB: {above:?}");
    let failed: Vec<_> = rows.iter().filter(|row| row.beside.failed > 0).map(|row| &row.what).collect();
    assert!(failed.is_empty(), "good requests failed beside: {failed:?}");
}

/// The limits are those of the defaults, as an abuser would meet them.
fn config(origin: &LoadOrigin, dns: &Dns) -> super::support::Config {
    let defaults = [("connections", "512"), ("new_connections_per_second", "100"), ("burst", "200")];
    let config = origin
        .config()
        .service(Service::inspect("Inspected", &["inspected.test", "*.mint.test"], origin.port))
        .hosts(&["inspected.test"])
        .set("resolver", "servers", &dns.servers())
        .set("limits", "memory", &format!("\"{CEILING_MIB}MiB\""))
        .set("limits.per_client", "requests_per_second", "500");
    defaults.iter().fold(config, |config, (key, value)| config.set("limits.per_client", key, value))
}

async fn ride_out(
    attack: &'static Attack,
    field: &Arc<Field>,
    sekisho: &Sekisho,
    origin: &LoadOrigin,
    length: Length,
) -> Row {
    let undisturbed = good::run(sekisho, origin, length.seconds).await;
    let watch = Watch::over(sekisho.pid().as_raw_nonzero().get().unsigned_abs());
    let before = watch.now();
    let tried = field.tried.load(Ordering::Relaxed);
    let attacking = attack.start(field);
    let beside = good::run(sekisho, origin, length.seconds).await;
    attacking.stop();
    let peak_kib = watch.peak_kib();
    let (descriptors_back, memory_back) = given_back(&watch, before).await;
    Row {
        what: format!("{} ({})", attack.name, attack.rows),
        tried: field.tried.load(Ordering::Relaxed) - tried,
        undisturbed,
        beside,
        peak_kib,
        descriptors_back,
        memory_back,
    }
}

/// A few descriptors more (a look-up's socket, a pipe) and a twentieth of memory are no leak.
async fn given_back(watch: &Watch, before: Held) -> (Option<Duration>, Option<Duration>) {
    let began = Instant::now();
    let (mut descriptors, mut memory) = (None, None);
    while began.elapsed() < BACK && (descriptors.is_none() || memory.is_none()) {
        let now = watch.now();
        if now.descriptors <= before.descriptors + 16 {
            descriptors.get_or_insert(began.elapsed());
        }
        if now.resident_kib <= before.resident_kib + before.resident_kib / 20 + 4 * 1024 {
            memory.get_or_insert(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (descriptors, memory)
}

/// Attempts by the counters, and by the record when the process has ended in order.
async fn reconciled(sekisho: &mut Sekisho) -> (u64, u64) {
    let open = |metrics: &std::collections::BTreeMap<String, f64>| -> f64 {
        metrics
            .iter()
            .filter(|(name, _)| name.starts_with("sekisho_attempts_in_progress"))
            .map(|(_, value)| value)
            .sum()
    };
    super::support::within("the last attempts", async {
        while open(&sekisho.metrics().await) > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let metrics = sekisho.metrics().await;
    let begun = metrics.iter().filter(|(name, _)| name.starts_with("sekisho_attempts_total"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let attempts = begun.map(|(_, value)| *value as u64).sum();
    sekisho.signal(Signal::TERM);
    let status = sekisho.exit().await;
    assert!(status.success(), "{status}: {}", sekisho.stderr());
    let recorded = sekisho.records().iter().filter(|record| record.is_terminal()).map(Record::count).sum();
    (attempts, recorded)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "scorecard: {text}");
}

fn print_table(rows: &[Row], held: &holding::Outcome, attempts: u64, recorded: u64) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "\n| attack | tried | tunnel p99, µs: alone, beside | inspected p99, µs: alone, beside | peak MiB | descriptors back | memory back |\n|---|---|---|---|---|---|---|"
    );
    for row in rows {
        let back = |time: Option<Duration>| time.map_or("no".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
        let _ = writeln!(
            out,
            "| {} | {} | {}, {} ({:.1}×) | {}, {} ({:.1}×) | {} | {} | {} |",
            row.what,
            row.tried,
            row.undisturbed.tunnel_p99,
            row.beside.tunnel_p99,
            ratio(row.beside.tunnel_p99, row.undisturbed.tunnel_p99),
            row.undisturbed.inspected_p99,
            row.beside.inspected_p99,
            ratio(row.beside.inspected_p99, row.undisturbed.inspected_p99),
            row.peak_kib / 1024,
            back(row.descriptors_back),
            back(row.memory_back),
        );
    }
    let good: u64 = rows.iter().map(|row| row.beside.requests + row.undisturbed.requests).sum();
    let tried: u64 = rows.iter().map(|row| row.tried).sum();
    let _ = writeln!(
        out,
        "\nconnections held: {} for {} s under {} reloads, half of them broken; unexpected ends: {}\n\
         attacks ridden out: {}, of {tried} connections, requests and frames\n\
         good requests: {good} beside the attacks and {} beside the reloads, failed: {}\n\
         records: {attempts} expected, {recorded} found",
        held.tunnels,
        held.seconds,
        held.reloads,
        held.ended_early,
        rows.len(),
        held.requests,
        rows.iter().map(|row| row.beside.failed + row.undisturbed.failed).sum::<u64>() + held.failed,
    );
}

#[expect(clippy::cast_precision_loss, reason = "microseconds")]
fn ratio(beside: u64, alone: u64) -> f64 {
    beside as f64 / alone.max(1) as f64
}
