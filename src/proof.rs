//! The tenant proof: requests of our own to every inspected host of the policy in force, through the spine, to an origin that stands in
//! for each of them, and a judgement of what arrived there.
//!
//! * The client trusts the issuing CA alone, asks over HTTP/1.1 and over HTTP/2, twice on each connection, and the first time sends
//!   hostile copies of every field that is due: in other cases and spellings, several at once, named in `Connection`, in the trailer.
//! * The connection is served by [`serve`] like a client's, as an address of the service's own `[[clients]]`: claim, decide, dial,
//!   handshake, mint, inspect, set. Policy, issuing CA and leaves are those in force. What differs is where a name leads: to the
//!   origin on loopback, whose certificates a root of the proof's own vouches for ([`StandIn`](crate::upstream::vet::StandIn)).
//! * What arrived is judged by the text of the fields and by what the configuration says is due, with a reading of patterns of its own
//!   (`plan`): each field once, with its value, on every request; no field of any service where it is not due.
//! * It leaves no line for its attempts in the record and is in no count of them. A proof that fails, and one that holds again, is a
//!   line, and one that goes on holding is a line an hour: the guideline's regular confirmation.
//!
//! What it does not show: the listening sockets, the resolvers, the line, the destinations' real certificates, and whether the vendor
//! obeys the field. That the tenant's settings at the vendor are right is to be confirmed there.

mod client;
mod judge;
mod origin;
mod plan;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

pub use self::client::Protocol;
use self::client::{Errand, Trust};
pub use self::judge::Finding;
use self::origin::Origin;
use self::plan::Case;
use crate::addrs::{ClientAddr, ListenAddr};
use crate::config::Config;
use crate::connection::{Gate, Live, Observance, serve};
use crate::drain::Drain;
use crate::names::DnsName;
use crate::record::{Fields, Lifecycle, Recorder};
use crate::upstream::resolve::Resolver;
use crate::upstream::vet::SelfAddrs;
use crate::upstream::{connect, resolve, verify, vet};
use crate::{admit, upstream};

/// From one proof to the next, where the configuration stays the same.
const PERIOD: Duration = Duration::from_secs(300);
/// The same where one failed.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two, however often the configuration is replaced.
const REST: Duration = Duration::from_secs(1);
/// From one line in the record that says it holds to the next.
const TELL: Duration = Duration::from_secs(3600);
/// Of one connection with its two requests.
const DEADLINE: Duration = Duration::from_secs(10);
/// Proofs that gave no answer, one after the other, before that is as bad as a wrong one: a machine may be busy for a moment.
const SILENT: u32 = 3;
/// Connections that failed after which the others are not tried: each may take the whole deadline.
const ENOUGH: usize = 16;
/// Findings that are named in a line of log or record; the others are counted.
const NAMED: usize = 3;

/// Why no proof could be begun.
#[derive(Debug, thiserror::Error)]
#[error("the tenant proof could not be set up: {0}")]
pub struct ProofError(String);

impl ProofError {
    fn of(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// What one connection to one host showed.
#[derive(Debug)]
pub struct Row {
    pub service: String,
    /// The line of the service in the file.
    pub line: usize,
    pub host: DnsName,
    pub port: u16,
    pub protocol: Protocol,
    /// Names of the fields that are due there, in the order of the configuration. Empty: none may arrive.
    pub due: Vec<String>,
    /// Empty: everything was as it has to be.
    pub findings: Vec<Finding>,
}

/// A whole proof.
#[derive(Debug)]
pub struct Proof {
    pub at: SystemTime,
    pub revision: Arc<str>,
    pub rows: Vec<Row>,
    /// Patterns for which no host or client could be thought of that this service answers for.
    pub unproven: Vec<String>,
    /// Connections that were not tried, as too many had failed.
    pub untried: usize,
}

/// What a proof comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No service inspects: there is nothing to prove.
    Nothing,
    Holds,
    /// Something is not known: a request did not arrive, or a pattern could not be tried.
    Silent,
    /// Something arrived that must not, or did not arrive as it must.
    Wrong,
}

impl Proof {
    pub fn verdict(&self) -> Verdict {
        let mut findings = self.rows.iter().flat_map(|row| &row.findings);
        if findings.clone().any(Finding::is_wrong) {
            Verdict::Wrong
        } else if findings.next().is_some() || !self.unproven.is_empty() || self.untried > 0 {
            Verdict::Silent
        } else if self.rows.is_empty() {
            Verdict::Nothing
        } else {
            Verdict::Holds
        }
    }

    /// Hosts with something due, each counted once.
    pub fn hosts(&self) -> usize {
        let restricted = self.rows.iter().filter(|row| !row.due.is_empty() && row.protocol == Protocol::Http1);
        restricted.count()
    }
}

/// One sentence, without values.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.rows.iter().flat_map(|row| row.findings.iter().map(move |finding| (row, finding)));
        let mut named: Vec<String> = found
            .map(|(row, finding)| format!("{} over {} (service {:?}): {finding}", row.host, row.protocol, row.service))
            .collect();
        named.extend(self.unproven.iter().cloned());
        let more = named.len().saturating_sub(NAMED);
        named.truncate(NAMED);
        match self.verdict() {
            Verdict::Nothing => return f.write_str("no service inspects: there is nothing to prove"),
            Verdict::Holds => {
                let connections = self.rows.len();
                return write!(
                    f,
                    "every field arrived as it is due (hosts: {}, connections: {connections})",
                    self.hosts()
                );
            }
            Verdict::Silent | Verdict::Wrong => f.write_str(&named.join("; "))?,
        }
        if more > 0 {
            write!(f, "; and {more} more")?;
        }
        if self.untried > 0 {
            write!(f, "; {} connections were not tried", self.untried)?;
        }
        Ok(())
    }
}

/// Serves the accepted end of a connection, as the spine does.
type Serving = dyn Fn(TcpStream, ClientAddr, ListenAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// Proves the configuration of `live`. The attempts are seen by the witness of `recorder` alone.
///
/// # Errors
/// [`ProofError`]: no port on loopback, no certificate, no issuing CA where one is due.
pub async fn prove(live: &Live, recorder: Recorder) -> Result<Proof, ProofError> {
    let plan::Plan { cases, unproven } = plan::plan(&live.config.policy);
    let mut rows = Vec::new();
    let mut untried = 0;
    if !cases.is_empty() {
        let issuing = live.config.issuing.as_ref().ok_or_else(|| ProofError::of("there is no issuing CA"))?;
        let origin = Origin::open(cases.iter().map(|case| &case.host))?;
        let trust = Trust::in_ca(&issuing.certificate().der)?;
        let gate = Gate::new(standing_in(live, &cases, &origin)?, recorder, Drain::never());
        let serving: Arc<Serving> = Arc::new(move |stream, from, to| Box::pin(serve(gate.enter(), stream, from, to)));
        (rows, untried) = visit_all(&cases, &origin, &trust, &serving).await?;
    }
    Ok(Proof { at: SystemTime::now(), revision: Arc::clone(&live.config.revision), rows, unproven, untried })
}

/// Each case by each protocol; and how many connections were not tried.
async fn visit_all(
    cases: &[Case],
    origin: &Origin,
    trust: &Trust,
    serving: &Arc<Serving>,
) -> Result<(Vec<Row>, usize), ProofError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut failed = 0;
    let all = cases.iter().flat_map(|case| Protocol::ALL.map(|protocol| (case, protocol)));
    for (number, (case, protocol)) in all.enumerate() {
        if failed >= ENOUGH {
            return Ok((rows, cases.len() * Protocol::ALL.len() - number));
        }
        let errand = Errand::new(case, protocol, origin)?;
        let made = timeout(DEADLINE, errand.run(trust, serving)).await;
        let broken = match made {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", DEADLINE.as_secs())),
        };
        let findings = judge::judge(case, &errand, broken, &errand.arrived());
        failed += usize::from(!findings.is_empty());
        rows.push(Row {
            service: case.service.clone(),
            line: case.line,
            host: case.host.clone(),
            port: case.port,
            protocol,
            due: case.due.iter().map(|due| due.name.clone()).collect(),
            findings,
        });
    }
    Ok((rows, 0))
}

/// The configuration in force, but for where names lead and who vouches for them there.
fn standing_in(live: &Live, cases: &[Case], origin: &Origin) -> Result<Live, ProofError> {
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let hosts: HashMap<DnsName, Vec<IpAddr>> = cases.iter().map(|case| (case.host.clone(), vec![loopback])).collect();
    let trust = upstream::trust::Trust::in_root(origin.root()).map_err(ProofError::of)?;
    let config = Config {
        listeners: Vec::new(),
        admin: None,
        pac: None,
        resolver: resolve::Settings { servers: Vec::new(), hosts, timeout: DEADLINE },
        guard: vet::Settings { stand_in: Some(vet::StandIn::on_loopback(origin.port())), ..live.config.guard.clone() },
        dial: connect::Settings { bind: None, timeout: DEADLINE },
        verify: verify::Settings { trust: Arc::new(trust), handshake: DEADLINE, cache: live.config.verify.cache },
        limits: admit::Settings::unlimited(),
        warnings: Vec::new(),
        ..live.config.clone()
    };
    let resolver = Arc::new(Resolver::new(&config.resolver));
    // Only what is listed is asked for, which is no matter of observing.
    let observance = Observance::default();
    Ok(Live { config, resolver, selves: SelfAddrs::default(), leaves: live.leaves.clone(), observance })
}

/// What is known now.
#[derive(Debug, Default)]
pub struct Standing {
    last: ArcSwapOption<Known>,
}

#[derive(Debug)]
struct Known {
    proof: Option<Proof>,
    /// It is so bad that no traffic is to come.
    failed: bool,
    tally: Tally,
}

/// Proofs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub held: u64,
    pub failed: u64,
    /// When one last held.
    pub last_held: Option<SystemTime>,
}

impl Standing {
    /// Whether traffic cannot be served safely.
    pub fn is_failed(&self) -> bool {
        self.last.load().as_ref().is_some_and(|known| known.failed)
    }

    /// 1 where the last proof held, 0 where it did not; `None` where there is nothing to prove, or nothing was tried yet.
    pub fn holds(&self) -> Option<bool> {
        let last = self.last.load();
        match last.as_ref()?.proof.as_ref().map(Proof::verdict) {
            Some(Verdict::Nothing) => None,
            verdict => Some(verdict == Some(Verdict::Holds)),
        }
    }

    /// Hosts that the last proof was about.
    pub fn hosts(&self) -> usize {
        self.last.load().as_ref().and_then(|known| known.proof.as_ref().map(Proof::hosts)).unwrap_or_default()
    }

    pub fn tally(&self) -> Tally {
        self.last.load().as_ref().map(|known| known.tally).unwrap_or_default()
    }
}

/// Proves the configuration in force at once, after every reload, and every few minutes; without end.
pub async fn keep_proving(gate: Arc<Gate>, standing: Arc<Standing>) {
    let mut reloads = gate.reloads();
    let mut course = Course::default();
    loop {
        reloads.mark_unchanged();
        let (recorder, _witness) = gate.recorder().witnessed();
        let proof = prove(&gate.live(), recorder).await;
        let verdict = proof.as_ref().map_or(Verdict::Silent, Proof::verdict);
        let due = course.note(verdict, Instant::now());
        let said = proof.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        tell(gate.recorder(), due, &said);
        standing.last.store(Some(Arc::new(Known { proof: proof.ok(), failed: course.failed, tally: course.tally })));
        sleep(REST).await;
        let pause = if matches!(verdict, Verdict::Silent | Verdict::Wrong) { AGAIN } else { PERIOD };
        tokio::select! {
            () = sleep(pause) => {}
            // The gate has the sender: it does not end before this.
            _ = reloads.changed() => {}
        }
    }
}

/// Proofs one after the other.
#[derive(Debug, Default)]
struct Course {
    tally: Tally,
    /// So many of the last gave no answer.
    silent: u32,
    failed: bool,
    /// When the record last said that it holds.
    told: Option<Instant>,
}

/// What is to be said of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// In the log alone.
    Warning,
    Failure,
    Success,
}

impl Course {
    fn note(&mut self, verdict: Verdict, now: Instant) -> Due {
        self.silent = if verdict == Verdict::Silent { self.silent + 1 } else { 0 };
        let failed_before = self.failed;
        self.failed = match verdict {
            Verdict::Wrong => true,
            Verdict::Silent => failed_before || self.silent >= SILENT,
            Verdict::Holds | Verdict::Nothing => false,
        };
        match verdict {
            Verdict::Wrong | Verdict::Silent => {
                self.tally.failed += 1;
                self.told = None;
                if self.failed && !failed_before { Due::Failure } else { Due::Warning }
            }
            Verdict::Holds => {
                self.tally.held += 1;
                self.tally.last_held = Some(SystemTime::now());
                if self.told.is_some_and(|told| now.duration_since(told) < TELL) {
                    return Due::Nothing;
                }
                self.told = Some(now);
                Due::Success
            }
            Verdict::Nothing => Due::Nothing,
        }
    }
}

/// In the log, and what the record has to show for it.
fn tell(recorder: &Recorder, due: Due, said: &str) {
    let (kind, message) = match due {
        Due::Nothing => return,
        Due::Warning => return tracing::warn!("the tenant proof does not hold: {said}"),
        Due::Failure => {
            tracing::error!("the tenant proof fails: {said}");
            (Lifecycle::TenantProofFailed, format!("The tenant proof fails: {said}."))
        }
        Due::Success => {
            tracing::info!("the tenant proof holds: {said}");
            (Lifecycle::TenantProofHolds, format!("The tenant proof holds: {said}."))
        }
    };
    let mut fields = Fields::default();
    fields.message = Some(message.as_str().into());
    recorder.lifecycle(kind, fields);
}

#[cfg(test)]
mod tests;
