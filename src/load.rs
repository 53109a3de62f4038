//! The load tool: an origin and a client with which an integrator measures a proxy on hardware of their own.
//!
//! A run is a [`Plan`]; [`run::run`] carries it out on threads of its own and gives a [`summary::Summary`], from which
//! [`report`] makes a page. Nothing of the proxy is used here but the vocabulary of names and addresses: a client that read
//! with the proxy's own parsers would share its mistakes. What is printed, and the arguments, are `cli`'s.

pub mod answer;
pub mod capacity;
pub mod dial;
pub mod guard;
pub mod h2;
pub mod office;
pub mod origin;
pub mod pace;
pub mod plot;
pub mod report;
pub mod run;
pub mod summary;
pub mod tally;
pub mod work;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::names::{Authority, DnsName, Host};

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// A new connection, a full TLS handshake and one small GET, each time
    New,
    /// Small GETs over HTTP/1.1 connections that are kept
    H1,
    /// Small GETs over HTTP/2 connections that are kept, --streams at a time on each
    H2,
    /// GETs of --size octets over HTTP/1.1 connections that are kept
    Bulk,
    /// New connections to a name that is not allowed; a 4xx (via sni: an alert or a close) is what is wanted
    Refused,
    /// --connections connections held for --hold, then one GET on each
    Idle,
    /// A mix: mostly long quiet HTTP/2 sessions, visits in bursts, some downloads and uploads
    Office,
}

impl Scenario {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::Bulk => "bulk",
            Self::Refused => "refused",
            Self::Idle => "idle",
            Self::Office => "office",
        }
    }
}

/// How the proxy is told where to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Via {
    /// CONNECT to an explicit proxy, then TLS
    Connect,
    /// TLS at once, steered by its SNI: for transparent boxes, and for an origin itself
    Sni,
}

impl Via {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Sni => "sni",
        }
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this many requests.
    Requests(u64),
    /// No request begins later than this after the start.
    Elapsed(Duration),
}

/// Everything about a run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub proxy: SocketAddr,
    pub target: Target,
    pub via: Via,
    pub scenario: Scenario,
    pub until: Until,
    /// Requests per second that are meant to begin; without it each connection asks as soon as it was answered.
    pub rate: Option<f64>,
    pub connections: usize,
    /// HTTP/2 requests under way on one connection.
    pub streams: usize,
    /// Octets of one download of `bulk`.
    pub size: u64,
    pub hold: Duration,
    /// Local addresses to connect from, in turn; none: the kernel chooses.
    pub client_addresses: Vec<IpAddr>,
    /// PEM files with the only roots that are trusted.
    pub roots: Vec<PathBuf>,
}

/// `https://name:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: DnsName,
    pub port: u16,
}

impl Target {
    /// # Errors
    /// What is wrong with `text`, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("https://").ok_or("it has to begin with https://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err("a path has no place here: the scenario chooses it".to_owned());
        }
        let authority = Authority::parse_with_default(rest.as_bytes(), 443).map_err(|error| error.to_string())?;
        match authority.host {
            Host::Name(name) => Ok(Self { name, port: authority.port }),
            Host::Ip(_) => Err("a name is due, not an address: proxies are asked for names".to_owned()),
        }
    }

    pub fn authority(&self) -> String {
        format!("{}:{}", self.name, self.port)
    }
}

/// Why something of a run did not succeed: the word it is counted under, and a sentence about the first of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// `connect_refused`, `status_503`, …: the words of [`manual::load`](crate::manual::load).
    pub kind: Cow<'static, str>,
    pub text: String,
}

impl Failure {
    pub fn new(kind: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { kind: kind.into(), text: text.into() }
    }

    /// An answer whose status is not the one that is wanted.
    pub fn of_status(status: u16) -> Self {
        Self::new(format!("status_{status}"), format!("a request was answered with {status}"))
    }

    /// Whether there was an answer, so that the connection is as good as before.
    pub fn is_of_status(&self) -> bool {
        self.kind.starts_with("status_")
    }

    /// A stream that broke off while `doing`.
    pub fn of_io(doing: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{
            AddrNotAvailable, ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidData, TimedOut,
            UnexpectedEof,
        };
        let kind = match error.kind() {
            ConnectionRefused => "connect_refused",
            AddrNotAvailable => "no_source_port",
            ConnectionReset | ConnectionAborted | std::io::ErrorKind::BrokenPipe => "reset",
            UnexpectedEof => "closed",
            TimedOut => "timeout",
            InvalidData => "tls",
            _ if error.raw_os_error() == Some(24) => "no_descriptor",
            _ => "io",
        };
        Self::new(kind, format!("{doing}: {error}"))
    }
}
