//! Only the scorecard belongs here: every attack in turn against one running proxy, with a well-behaved client beside it, then bad
//! inputs, then every fault, and the tables of how it went. The attacks stand in `attack`, the two clients' figures in `good`, what
//! the process holds in `watch`, the tables in `table`.
//!
//! Each attack is met twice: first aimed at a decoy, a second proxy that the clients do not use, then at theirs. What it costs them
//! elsewhere is the machine's share, which clients, origin and proxies have in common; what it costs beyond that is the price of
//! sharing one process with it. `machines` plays that clients, origin, attackers and the origin they are relayed to have machines of
//! their own.
//!
//! It measures, so that it runs alone: `tests/run` starts it behind the other tests, `tests/run --long` at full length. What holds
//! on any machine is asserted (memory, descriptors, records, recovery, no failed request of the good clients); latencies are printed.

mod attack;
mod good;
mod holding;
mod inputs;
mod machines;
mod records;
mod survival;
mod table;
mod watch;

use std::cell::Cell;
use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::attack::{ATTACKS, Attack, Field};
use self::good::Figures;
use self::watch::{Held, Watch};
use super::faults::ROUNDS;
use super::support::dns::{Dns, Says};
use super::support::load_origin::LoadOrigin;
use super::support::{Config, Sekisho, Service};

/// What the process may hold at most: `limits.memory`.
const CEILING_MIB: u64 = 512;
/// Within this time an attack's memory and descriptors have to be given back.
const BACK: Duration = Duration::from_secs(10);
/// More clients are not told apart (the manual's table of bounds).
const MAX_KEYS: f64 = 65_536.0;

/// How much of everything.
#[derive(Clone, Copy)]
struct Length {
    /// Of each attack, and of the good clients' runs.
    seconds: u64,
    /// How often each attack comes: of the figures the middle one counts, as this machine stands still at times whatever is done to the
    /// proxy.
    comes: usize,
    /// Connections an attacker tries to hold.
    connections: usize,
    tunnels: u64,
    hold_seconds: u64,
    reloads: usize,
    /// Of each fault.
    rounds: usize,
    /// Addresses that have to come in the flood of them, beside the clients; each comes once.
    keys: u64,
}

/// Three seconds are some 240 tunnels: the 99th percentile is not the worst alone.
const SHORT: Length = Length {
    seconds: 3,
    comes: 1,
    connections: 1_500,
    tunnels: 1_000,
    hold_seconds: 5,
    reloads: 20,
    rounds: 1,
    keys: 50_000,
};
const LONG: Length = Length {
    seconds: 10,
    comes: 3,
    connections: 5_000,
    tunnels: 9_000,
    hold_seconds: 600,
    reloads: 1_000,
    rounds: ROUNDS,
    keys: 10_000_000,
};

impl Length {
    fn asked() -> Self {
        if std::env::var_os("SEKISHO_SCORECARD").is_some_and(|length| length == "long") { LONG } else { SHORT }
    }
}

/// One line of the table.
struct Row {
    what: String,
    /// At the proxy that the clients use.
    tried: u64,
    /// Attempts that the decoy counted, which nobody but the attackers comes to.
    arrived: u64,
    alone: Figures,
    /// With the attack aimed at the decoy.
    elsewhere: Figures,
    /// With the attack aimed at the proxy that the clients use.
    beside: Figures,
    peak_kib: u64,
    /// Until descriptors and memory were what they had been before; `None`: not within [`BACK`].
    descriptors_back: Option<Duration>,
    memory_back: Option<Duration>,
}

/// A proxy, and what attackers know of it.
struct Target {
    sekisho: Sekisho,
    field: Arc<Field>,
    /// Files that its record had before.
    turned: Cell<usize>,
}

/// Everything that is told at the end.
struct Card {
    rows: Vec<Row>,
    /// Tried at the decoy.
    elsewhere: u64,
    held: holding::Outcome,
    inputs: inputs::Outcome,
    faults: Vec<survival::Row>,
    /// Attempts and records of the clients' proxy, and of the decoy.
    records: [(u64, u64); 2],
}

#[test]
#[ignore = "it measures, and has to run alone: tests/run starts it"]
fn the_scorecard() {
    machines::behind_the_rules(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(everything());
    });
}

async fn everything() {
    let length = Length::asked();
    let origin = LoadOrigin::named(&["inspected.test", inputs::TUNNELLED, inputs::INSPECTED]);
    machines::hurry(origin.child.id());
    let theirs = LoadOrigin::named(&[attack::INSPECTED, attack::TUNNELLED]);
    machines::hold_back(theirs.child.id());
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let config = config(&origin, &theirs, &dns);
    let mut proxy = Target::start(&config, &theirs, length).await;
    let mut decoy = Target::start(&config, &theirs, length).await;
    let mut rows = Vec::new();
    // Twice: what the first run leaves in caches is not what an attack takes.
    good::run(&proxy.sekisho, &origin, length.seconds, good::QUIET).await;
    for attack in ATTACKS {
        say(&format!("{} ({})", attack.name, attack.rows));
        let row = ride_out(attack, &proxy, &decoy, &origin, length).await;
        // Told at once: at full length the table itself is half an hour away.
        say(table::attack(&row).trim_end());
        rows.push(row);
    }
    let elsewhere = decoy.field.tried.load(Ordering::Relaxed);
    let decoys = records::reconciled(&mut decoy).await;
    say("holding tunnels under reloads");
    let held = holding::run(&config, &mut proxy.sekisho, &origin, length).await;
    // The limits of the hold are still in force: no input is refused for coming too soon behind another.
    say("bad inputs");
    let inputs = inputs::run(&proxy.sekisho, origin.port).await;
    let records = [records::reconciled(&mut proxy).await, decoys];
    let faults = survival::run(length.rounds).await;
    let card = Card { rows, elsewhere, held, inputs, faults, records };
    table::print(&card);
    card.holds();
}

impl Card {
    /// What has to hold on any machine.
    fn holds(&self) {
        for (attempts, records) in self.records {
            assert_eq!(attempts, records, "attempts and records");
        }
        assert_eq!(self.inputs.attempts, self.inputs.records, "attempts and records of bad inputs");
        let of = |wrong: fn(&Row) -> bool| -> Vec<&String> {
            self.rows.iter().filter(|row| wrong(row)).map(|row| &row.what).collect()
        };
        let descriptors = of(|row| row.descriptors_back.is_none());
        assert!(descriptors.is_empty(), "descriptors not given back: {descriptors:?}");
        let memory = of(|row| row.memory_back.is_none());
        assert!(memory.is_empty(), "memory not given back: {memory:?}");
        // An attack that fails before the proxy disturbs nobody either.
        let absent = of(|row| row.arrived == 0);
        assert!(absent.is_empty(), "never arrived: {absent:?}");
        let above = of(|row| row.peak_kib > CEILING_MIB * 1024);
        assert!(above.is_empty(), "above the ceiling of {CEILING_MIB} MiB: {above:?}");
        let failed = of(|row| row.good().any(|figures| figures.failed > 0));
        assert!(failed.is_empty(), "good requests failed at: {failed:?}");
        let faults: Vec<_> = self.faults.iter().filter(|row| !row.held()).map(|row| &row.what).collect();
        assert!(faults.is_empty(), "not survived, not within {:?} or not recorded: {faults:?}", survival::RECOVERY);
    }
}

impl Row {
    fn good(&self) -> impl Iterator<Item = &Figures> {
        [&self.alone, &self.elsewhere, &self.beside].into_iter()
    }
}

impl Target {
    async fn start(config: &Config, attacked: &LoadOrigin, length: Length) -> Self {
        let sekisho = Sekisho::start(config).await;
        let field = Arc::new(Field::new(&sekisho, attacked, length.connections));
        Self { sekisho, field, turned: Cell::new(0) }
    }

    /// The well-behaved clients for so long, and what they cost.
    async fn with_good_clients(&self, origin: &LoadOrigin, seconds: u64) -> Figures {
        let watch = self.watch();
        let before = watch.ticks();
        let figures = good::run(&self.sekisho, origin, seconds, good::QUIET).await;
        // A tick is a hundredth of a second (USER_HZ).
        Figures { processor: (watch.ticks() - before) / seconds, ..figures }
    }

    fn watch(&self) -> Watch {
        Watch::over(self.sekisho.pid().as_raw_nonzero().get().unsigned_abs())
    }

    async fn attempts(&self) -> u64 {
        records::begun(&self.sekisho.metrics().await)
    }

    async fn ready(&self) {
        super::support::within("readiness after an attack", async {
            while self.sekisho.admin("/readyz").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

/// The limits are those of the defaults, as an abuser would meet them; but of who comes from one of millions of addresses
/// his one connection counts for a second, and not for a hundredth, so that more of them have to be remembered.
fn config(origin: &LoadOrigin, attacked: &LoadOrigin, dns: &Dns) -> Config {
    let defaults = [("connections", "512"), ("new_connections_per_second", "100"), ("burst", "200")];
    let config = origin
        .config()
        .clients(&clients())
        .service(Service::inspect("Inspected", &["inspected.test", inputs::INSPECTED], origin.port))
        .service(Service::tunnel("Tunnelled", &[inputs::TUNNELLED], origin.port))
        .service(Service::inspect("Attacked", &[attack::INSPECTED, "*.mint.test"], attacked.port))
        .service(Service::tunnel("Attacked tunnels", &[attack::TUNNELLED], attacked.port))
        .hosts(&["inspected.test", inputs::INSPECTED, inputs::TUNNELLED, attack::INSPECTED, attack::TUNNELLED])
        .set("upstream", "extra_roots", &format!("{:?}", [origin.root(), attacked.root()]))
        .set("resolver", "servers", &dns.servers())
        .set("limits", "memory", &format!("\"{CEILING_MIB}MiB\""))
        .set("limits.per_client", "requests_per_second", "500");
    defaults.iter().fold(config, |config, (key, value)| config.set("limits.per_client", key, value))
}

fn clients() -> String {
    format!(
        "[[clients]]\nname = \"office\"\nnetworks = [\"127.0.0.0/16\", \"::1/128\"]\n\
         [[clients]]\nname = \"many\"\nnetworks = {:?}\n\
         [clients.limits.per_client]\nnew_connections_per_second = 1\nburst = 200\n",
        attack::MANY
    )
}

async fn ride_out(attack: &'static Attack, proxy: &Target, decoy: &Target, origin: &LoadOrigin, length: Length) -> Row {
    let good = || proxy.with_good_clients(origin, length.seconds);
    let before = proxy.field.tried.load(Ordering::Relaxed);
    let (mut alone, mut elsewhere, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    let (mut arrived, mut peak_kib, mut backs) = (0, 0, Vec::new());
    for come in 1..=length.comes {
        alone.push(good().await);
        let counted = decoy.attempts().await;
        elsewhere.push(under(attack, decoy, good()).await.0);
        arrived += decoy.attempts().await - counted;
        let times = if come == length.comes { attack.times(length) } else { 0 };
        let (figures, peak, back) = under(attack, proxy, until_come(times, proxy, good)).await;
        beside.extend(figures);
        peak_kib = peak.max(peak_kib);
        backs.push(back);
    }
    // None is worse than any.
    let slowest = |of: fn(&Back) -> Option<Duration>| {
        backs.iter().map(of).try_fold(Duration::ZERO, |slowest, time| Some(slowest.max(time?)))
    };
    Row {
        what: format!("{} ({})", attack.name, attack.rows),
        tried: proxy.field.tried.load(Ordering::Relaxed) - before,
        arrived,
        alone: Figures::of(&alone),
        elsewhere: Figures::of(&elsewhere),
        beside: Figures::of(&beside),
        peak_kib,
        descriptors_back: slowest(|back| back.0),
        memory_back: slowest(|back| back.1),
    }
}

/// How soon descriptors and memory were given back.
type Back = (Option<Duration>, Option<Duration>);

/// `good`, and again until the attackers have come so often: of each its figures. Behind each, what the limits remember; and the record
/// gets another file, as it would in a flood of hours.
async fn until_come<F: Future<Output = Figures>>(times: u64, proxy: &Target, good: impl Fn() -> F) -> Vec<Figures> {
    let before = proxy.attempts().await;
    let (mut figures, mut own, mut last) = (Vec::new(), 0, 0);
    loop {
        let run = good().await;
        own += run.requests;
        let metrics = proxy.sekisho.metrics().await;
        let come = (records::begun(&metrics) - before).saturating_sub(own);
        let remembered = metrics["sekisho_limit_clients"];
        assert!(remembered <= MAX_KEYS, "clients remembered: {remembered}");
        assert!(times == 0 || remembered > 1_000.0, "of so many that come hardly any is remembered: {remembered}");
        assert!(times == 0 || come > last, "none comes any more: {come}");
        if times > 0 {
            let Figures { tunnel_p99, inspected_p99, processor, .. } = run;
            say(&format!(
                "{come} have come, {remembered} clients remembered; p99 of tunnels {tunnel_p99} µs, inspected \
                 {inspected_p99} µs; {processor} %, {} MiB",
                proxy.watch().now().resident_kib / 1024
            ));
        }
        figures.push(run);
        last = come;
        if come >= times {
            return figures;
        }
        records::turn(proxy).await;
    }
}

/// `good` while `attack` is aimed at `target`: what it saw, the most memory, and how soon it was given back.
async fn under<T>(attack: &'static Attack, target: &Target, good: impl Future<Output = T>) -> (T, u64, Back) {
    let watch = target.watch();
    let before = watch.now();
    let attacking = attack.start(&target.field);
    let figures = good.await;
    attacking.stop();
    let peak_kib = watch.peak_kib();
    let back = given_back(&watch, before).await;
    target.ready().await;
    (figures, peak_kib, back)
}

/// A few descriptors more (a look-up's socket, a pipe) and a twentieth of memory are no leak.
async fn given_back(watch: &Watch, before: Held) -> Back {
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

fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "scorecard: {text}");
}
