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
mod standing;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::timeout;

pub use self::client::Protocol;
use self::client::{Errand, Trust};
pub use self::judge::Finding;
use self::origin::Origin;
use self::plan::Case;
pub use self::standing::{Standing, Tally, keep_proving};
use crate::addrs::{ClientAddr, ListenAddr};
use crate::config::Config;
use crate::connection::{Gate, Live, Observance, serve};
use crate::names::DnsName;
use crate::record::Recorder;
use crate::upstream::resolve::Resolver;
use crate::upstream::vet::SelfAddrs;
use crate::upstream::{connect, resolve, verify, vet};
use crate::{admit, upstream};

/// Of one connection with its two requests.
const DEADLINE: Duration = Duration::from_secs(10);
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
    /// No field is due anywhere: there is nothing to prove.
    Nothing,
    Holds,
    /// What was tried holds; something could not be tried, which is no word on the rest.
    Incomplete,
    /// A request was not answered by the origin.
    Silent,
    /// Something arrived that must not, or did not arrive as it must.
    Wrong,
}

impl Proof {
    pub fn verdict(&self) -> Verdict {
        let mut findings = self.rows.iter().flat_map(|row| &row.findings);
        if findings.clone().any(Finding::is_wrong) {
            Verdict::Wrong
        } else if findings.next().is_some() || self.untried > 0 {
            Verdict::Silent
        } else if !self.unproven.is_empty() {
            Verdict::Incomplete
        } else if self.hosts() == 0 {
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
            Verdict::Nothing => return f.write_str("no service sets a field: there is nothing to prove"),
            Verdict::Holds => {
                let connections = self.rows.len();
                return write!(
                    f,
                    "every field arrived as it is due (hosts: {}, connections: {connections})",
                    self.hosts()
                );
            }
            Verdict::Incomplete => write!(f, "not tried: {}", named.join("; "))?,
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
        let trust = Trust::in_cas(issuing.certificates().map(|ca| &ca.der))?;
        let gate = Gate::new(standing_in(live, &cases, &origin)?, recorder);
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
        resolver: resolve::Settings {
            servers: Vec::new(),
            named_in: resolve::NamedIn::Configuration,
            hosts,
            timeout: DEADLINE,
        },
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

#[cfg(test)]
mod tests;
