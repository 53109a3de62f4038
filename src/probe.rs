//! The self-probe: once a second and through each thread that serves, one request that must be refused and one that must be allowed.
//! Readiness goes by it, and the watchdog (`WatchdogSec`) is fed by it and by nothing else.
//!
//! * The requests come over a TCP connection of their own on loopback, which the thread serves with [`serve`](crate::connection::serve)
//!   like any other: claim, decide, refuse; then claim, decide, dial, verify, establish, reconcile, relay. The far end is an
//!   `origin` of our own on loopback, whose certificate is verified like any upstream's. So nothing of it depends on where the
//!   listeners are bound, on `[[clients]]`, on DNS or on the line.
//! * What is permitted to it stands in a policy of its own, in a [`Gate`] of its own that no listener leads to. In the policy that
//!   clients are judged by there is no rule for it, and a connection is the probe's only where both its ends are known to be.
//!   Its limits are its own as well: a flood of clients cannot make it fail for want of a slot, nor does it take one.
//! * It waits for the record's queue as clients do, and is refused with them while the record cannot be written and that is to be
//!   so: the right answer then, and no reason to restart anything.
//! * It leaves no line in the record, and is in no count of attempts: nobody attempted anything, and it would be 172,800 lines a day
//!   for each thread. Each visit is counted in `sekisho_self_probes_total`; the record has a line when it begins to fail and
//!   when it passes again. How the two attempts ended is judged by a [`Witness`](crate::record::Witness) in the place of the file.
//!
//! What it does not show: the listening sockets and the firewall before them, the policy in force, the resolvers, the breakout
//! line, inspection. A thread that has stopped, a lock that is held for ever, a record whose writer hangs, no descriptor left: these it
//! does.

mod origin;
mod visit;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::origin::{ALLOWED, Known, Origin};
use self::visit::{Failure, Visitor};
use crate::config::Config;
use crate::connection::{Gate, Live, Observance};
use crate::names::DnsName;
use crate::policy::{GroupSource, HostPattern, Mode, Policy, PolicySource, ServiceSource};
use crate::record::{Fields, Lifecycle, Recorder};
use crate::telemetry::Health;
use crate::upstream::resolve::Resolver;
use crate::upstream::trust::Trust;
use crate::upstream::vet::SelfAddrs;
use crate::upstream::{connect, resolve, verify, vet};
use crate::{admit, identify, tunnel};

/// From one visit to a thread to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// A thread that takes longer for two requests serves nobody; one that is only busy is far below it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Visits to one thread that fail in a row before the service says so: a stopped and continued process fails one.
const FAILURES: u32 = 3;
/// How long the origin's certificate is not asked for again.
const VERDICT: Duration = Duration::from_secs(600);

/// Why there is no self-probe.
#[derive(Debug, thiserror::Error)]
#[error("the self-probe could not be set up: {0}")]
pub struct ProbeError(String);

impl ProbeError {
    fn of(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// What visits every thread that serves.
pub struct Probe {
    origin: Origin,
    visitors: Vec<Visitor>,
    health: Arc<Health>,
    recorder: Recorder,
}

impl Probe {
    /// A probe of the service of `gate`, whose connections are served on `threads`.
    ///
    /// # Errors
    /// [`ProbeError`]: no port on loopback, or no certificate.
    pub fn new<'h>(
        gate: &Gate,
        threads: impl Iterator<Item = &'h Handle>,
        health: Arc<Health>,
    ) -> Result<Self, ProbeError> {
        let (origin, known) = Origin::open()?;
        let known = Arc::new(known);
        let visitor = |thread: &Handle| {
            let (recorder, witness) = gate.recorder().witnessed();
            let own = Gate::new(live(&gate.live().config, &known)?, recorder);
            Ok(Visitor::new(thread.clone(), own, witness, Arc::clone(&known), DEADLINE))
        };
        let visitors = threads.map(visitor).collect::<Result<_, ProbeError>>()?;
        Ok(Self { origin, visitors, health, recorder: gate.recorder().clone() })
    }

    /// Visits every thread once a second until it is dropped, tells the health what it finds, and calls `feed` while all is well.
    pub async fn run(self, feed: impl Fn()) {
        let Self { origin, visitors, health, recorder } = self;
        let mut tally = Tally::new(visitors.len());
        let (tell, mut told) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(origin.serve());
        let stagger = PERIOD / u32::try_from(visitors.len().max(1)).unwrap_or(u32::MAX);
        let mut first = Instant::now();
        for (thread, visitor) in visitors.into_iter().enumerate() {
            tasks.spawn(each_second(thread, visitor, first, tell.clone()));
            first += stagger;
        }
        drop(tell);
        let mut fed: Option<Instant> = None;
        while let Some((thread, visited)) = told.recv().await {
            health.probed(&visited);
            match (tally.note(thread, &visited), &visited) {
                (Turn::Fails, Err(failure)) => {
                    let why = format!("The self-probe fails on thread {thread}: {failure}.");
                    tracing::error!("{why}");
                    recorder.lifecycle(Lifecycle::SelfProbeFailed, saying(&why));
                    health.self_probe_failed(why);
                }
                (Turn::Recovers, _) => {
                    let how = "The self-probe passes again on every thread.";
                    tracing::info!("{how}");
                    recorder.lifecycle(Lifecycle::SelfProbeRecovered, saying(how));
                    health.self_probe_recovered();
                }
                (Turn::Same, Err(failure)) => tracing::debug!(thread, %failure, "a self-probe failed"),
                (Turn::Same | Turn::Fails, _) => {}
            }
            if tally.all_passed() && fed.is_none_or(|at| at.elapsed() >= PERIOD) {
                feed();
                fed = Some(Instant::now());
            }
        }
    }
}

async fn each_second(
    thread: usize,
    mut visitor: Visitor,
    first: Instant,
    tell: mpsc::Sender<(usize, Result<(), Failure>)>,
) {
    let mut seconds = interval_at(first, PERIOD);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        if tell.send((thread, visitor.visit().await)).await.is_err() {
            return;
        }
    }
}

fn saying(message: &str) -> Fields {
    let mut fields = Fields::default();
    fields.rare.message = Some(message.into());
    fields
}

/// What a visit changes.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Same,
    Fails,
    Recovers,
}

/// The visits to each thread that have failed since the last that passed.
struct Tally {
    failed: Vec<u32>,
    fails: bool,
}

impl Tally {
    fn new(threads: usize) -> Self {
        Self { failed: vec![0; threads], fails: false }
    }

    fn note<E>(&mut self, thread: usize, visited: &Result<(), E>) -> Turn {
        if let Some(failed) = self.failed.get_mut(thread) {
            *failed = if visited.is_ok() { 0 } else { failed.saturating_add(1) };
        }
        if !self.fails && self.failed.iter().any(|failed| *failed >= FAILURES) {
            self.fails = true;
            return Turn::Fails;
        }
        if self.fails && self.all_passed() {
            self.fails = false;
            return Turn::Recovers;
        }
        Turn::Same
    }

    fn all_passed(&self) -> bool {
        self.failed.iter().all(|failed| *failed == 0)
    }
}

/// The configuration that the probe's requests are served by. Of the service's own it has what no request of the probe meets.
fn live(config: &Config, known: &Known) -> Result<Live, ProbeError> {
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let name = DnsName::parse(ALLOWED.as_bytes()).map_err(ProbeError::of)?;
    let trust = Trust::in_one(known.certificate.clone()).map_err(ProbeError::of)?;
    let config = Config {
        listeners: Vec::new(),
        admin: None,
        policy: Arc::new(policy(loopback, known.port)?),
        resolver: resolve::Settings {
            servers: Vec::new(),
            named_in: resolve::NamedIn::Configuration,
            hosts: HashMap::from([(name, vec![loopback])]),
            timeout: DEADLINE,
        },
        guard: vet::Settings { allow: vec![loopback.into()], nat64: Vec::new(), stand_in: None },
        dial: connect::Settings { bind: None, timeout: DEADLINE },
        verify: verify::Settings { trust: Arc::new(trust), handshake: DEADLINE, cache: VERDICT },
        issuing: None,
        limits: admit::Settings::unlimited(),
        identify: identify::Settings { request_head: 2 * DEADLINE, client_hello: 2 * DEADLINE },
        tunnel: tunnel::Settings { idle: 2 * DEADLINE, half_closed: 2 * DEADLINE },
        warnings: Vec::new(),
        ..config.clone()
    };
    let resolver = Arc::new(Resolver::new(&config.resolver));
    // Whatever the site observes, what is to be refused is.
    let observance = Observance::default();
    Ok(Live { config, resolver, selves: SelfAddrs::default(), leaves: None, observance })
}

/// One client, one name, one port.
fn policy(client: IpAddr, port: u16) -> Result<Policy, ProbeError> {
    let pattern = HostPattern::parse(ALLOWED).map_err(ProbeError::of)?;
    let group = GroupSource { name: "self-probe".to_owned(), networks: vec![client.into()], line: 1 };
    let service = ServiceSource {
        name: "self-probe".to_owned(),
        line: 1,
        hosts: vec![(pattern, 1)],
        ports: vec![port],
        mode: Mode::Tunnel,
        clients: None,
        plain_http: false,
        headers: Vec::new(),
    };
    Policy::compile(PolicySource { groups: vec![group], services: vec![service] })
        .map_err(|conflicts| ProbeError(format!("{conflicts:?}")))
}

#[cfg(test)]
mod tests;
