//! Names to addresses: static hosts first, then the configured DNS servers or those of resolv.conf, and nothing else.
//!
//! A name is always asked for as it stands with the root behind it: no search list, no hosts file, no mDNS (threats.md B06).
//! CNAMEs are followed, but only addresses leave this file; the name of the destination is never changed by an answer.
//! Whether an address may be dialled is not judged here but in `vet`.
//!
//! DNS 0x20 is off: resolvers that fold the case of a question are common, and what a forged answer could gain, a wrong
//! address, is caught by the certificate. Message id and source port are random, and a datagram that does not match is ignored.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use tokio::time::{Instant, timeout};

use super::dns::{Found, Server};
use super::race::staggered;
use crate::files::regular_text;
use crate::flight::{Ageing, Flight, FlightError, Keep};
use crate::names::DnsName;
use crate::reason::Reason;

/// Whose nameservers are asked where the configuration names none.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
const MAX_RESOLV_CONF: u64 = 1 << 20;
const DNS_PORT: u16 = 53;
/// MAXNS of resolv.conf(5).
const MAX_RESOLV_CONF_SERVERS: usize = 3;
const MAX_KEPT: NonZeroUsize = NonZeroUsize::new(8_192).expect("not zero");
const MAX_RUNNING: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");
/// After this long without an answer the next server is asked as well.
const SERVER_STAGGER: Duration = Duration::from_secs(1);
/// RFC 9520 section 3.2: a failure is kept for at least a second.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// `[resolver]` and `timeouts.dns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Asked in turn. Empty: nobody is, and only `hosts` have addresses.
    pub servers: Vec<SocketAddr>,
    pub named_in: NamedIn,
    pub hosts: HashMap<DnsName, Vec<IpAddr>>,
    /// For a whole look-up, over all servers and CNAMEs.
    pub timeout: Duration,
}

/// Where the servers are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedIn {
    /// `[resolver] servers`.
    Configuration,
    /// /etc/resolv.conf, as it was when the configuration was loaded.
    ResolvConf,
}

impl Settings {
    /// With the name servers of `resolv_conf` where the configuration names none. A file that is not there, or cannot be read, names none.
    pub fn completed(mut self, resolv_conf: &Path) -> Self {
        if self.named_in == NamedIn::ResolvConf {
            self.servers = nameservers(&regular_text(resolv_conf, MAX_RESOLV_CONF).unwrap_or_default());
        }
        self
    }
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("{name} has no address: {answer}")]
    NoAddress { name: DnsName, answer: &'static str },
    #[error("{name} could not be looked up ({failures}); check [resolver] servers")]
    Failed { name: DnsName, failures: String },
    #[error("no answer for {name} within {after:?} from {servers}; check [resolver] servers and the way to them")]
    Timeout { name: DnsName, after: Duration, servers: String },
    #[error(
        "{name} is not in [resolver.hosts], and neither [resolver] servers nor {RESOLV_CONF} names a DNS server to ask"
    )]
    NoServer { name: DnsName },
    #[error("{name} was not looked up: {cause}")]
    Flight { name: DnsName, cause: FlightError },
}

impl ResolveError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoAddress { .. } | Self::Failed { .. } | Self::NoServer { .. } => Reason::DnsFailed,
            Self::Timeout { .. } => Reason::DnsTimeout,
            Self::Flight { cause, .. } => cause.reason(),
        }
    }
}

type Answer = Result<Arc<[IpAddr]>, ResolveError>;

/// The one way from a name to addresses, with its own bounded cache.
pub struct Resolver {
    hosts: HashMap<DnsName, Arc<[IpAddr]>>,
    answers: Flight<DnsName, Answer>,
    servers: Arc<Servers>,
}

struct Servers {
    list: Vec<Server>,
    /// The server that answered last is asked first, so that a dead one costs one wait and not one for every name.
    preferred: AtomicUsize,
    timeout: Duration,
}

impl Resolver {
    /// Makes no query. Without any server, names outside `hosts` fail with [`ResolveError::NoServer`].
    pub fn new(settings: &Settings) -> Self {
        let servers = settings.servers.iter();
        let list = servers.filter_map(|address| Server::new(*address, settings.timeout).ok()).collect();
        let hosts = settings.hosts.iter().map(|(name, addresses)| (name.clone(), addresses.clone().into()));
        Self {
            hosts: hosts.collect(),
            answers: Flight::new(MAX_KEPT, MAX_RUNNING, Ageing::Refresh),
            servers: Arc::new(Servers { list, preferred: AtomicUsize::new(0), timeout: settings.timeout }),
        }
    }

    /// The servers that are asked, for the start message and a warning where there are none.
    pub fn servers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.servers.list.iter().map(|server| server.address)
    }

    /// Whether what is known of `name` will do, so that nobody is asked.
    pub fn knows(&self, name: &DnsName) -> bool {
        self.hosts.contains_key(name) || self.answers.keeps(name)
    }

    /// The addresses of `name`: never empty, at most eight of a family, IPv6 first (static hosts as they are written).
    ///
    /// # Errors
    /// [`ResolveError`], at the latest when the settings' timeout is over.
    pub async fn resolve(&self, name: &DnsName) -> Answer {
        if let Some(addresses) = self.hosts.get(name) {
            let error =
                || ResolveError::NoAddress { name: name.clone(), answer: "its entry in [resolver.hosts] is empty" };
            return if addresses.is_empty() { Err(error()) } else { Ok(Arc::clone(addresses)) };
        }
        let work = || {
            let (servers, name) = (Arc::clone(&self.servers), name.clone());
            async move { servers.ask(name).await }
        };
        match self.answers.get(name.clone(), work).await {
            Ok(answer) => answer,
            Err(cause) => Err(ResolveError::Flight { name: name.clone(), cause }),
        }
    }
}

impl Servers {
    async fn ask(&self, name: DnsName) -> (Answer, Keep) {
        if self.list.is_empty() {
            return (Err(ResolveError::NoServer { name }), Keep::Not);
        }
        let question = match Name::from_ascii(format!("{name}.")) {
            Ok(question) => question,
            Err(error) => return (Err(ResolveError::Failed { name, failures: error.to_string() }), Keep::Not),
        };
        let question = &question;
        let start = self.preferred.load(Ordering::Relaxed);
        let in_turn = self.list.iter().enumerate().cycle().skip(start).take(self.list.len());
        let attempts = in_turn.map(|(at, server)| async move { server.ask(question).await.map(|found| (at, found)) });
        let outcome = timeout(self.timeout, staggered(attempts, SERVER_STAGGER.min(self.timeout / 4))).await;
        let failed = Keep::IfNoneHeld(Instant::now() + FAILURE_KEPT);
        match outcome {
            Ok(Ok((at, found))) => {
                self.preferred.store(at, Ordering::Relaxed);
                answer(name, found)
            }
            Ok(Err(failures)) => (Err(ResolveError::Failed { name, failures: failures.join("; ") }), failed),
            Err(_) => {
                let servers: Vec<_> = self.list.iter().map(|server| server.address.to_string()).collect();
                (Err(ResolveError::Timeout { name, after: self.timeout, servers: servers.join(", ") }), failed)
            }
        }
    }
}

fn answer(name: DnsName, found: Found) -> (Answer, Keep) {
    let (answer, ttl) = match found {
        Found::Addresses { addresses, ttl } => (Ok(addresses.into()), ttl),
        Found::NoName { ttl } => {
            (Err(ResolveError::NoAddress { name, answer: "the name does not exist (NXDOMAIN)" }), ttl)
        }
        Found::NoAddress { ttl } => {
            (Err(ResolveError::NoAddress { name, answer: "the name exists and has neither A nor AAAA records" }), ttl)
        }
    };
    (answer, Keep::Until(Instant::now() + Duration::from_secs(u64::from(ttl))))
}

/// The `nameserver` lines of resolv.conf(5), the first three, as the C library has it; every other line is for programs that
/// complete names. An address with a zone (`fe80::1%eth0`) is passed over.
fn nameservers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next() == Some("nameserver");
        words.next().filter(|_| keyword)?.parse::<IpAddr>().ok()
    });
    addresses.take(MAX_RESOLV_CONF_SERVERS).map(|ip| SocketAddr::new(ip, DNS_PORT)).collect()
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
