//! The one place where this program opens a TCP connection to a destination, and only to a [`VettedAddr`].
//!
//! Happy eyeballs (RFC 8305) over the vetted addresses: families alternate, the next address is tried when one has failed or a
//! quarter of a second has passed, the first that stands wins. What `vet` dropped is not known here and cannot be fallen back to.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::race::staggered;
use super::vet::{SelfAddrs, VettedAddr};
use crate::addrs::UpstreamAddr;
use crate::names::DnsName;
use crate::policy::{Permit, Plain};
use crate::reason::Reason;
use crate::sockets::{bound_unsent, is_beyond, tune};

/// RFC 8305 section 5, "Connection Attempt Delay".
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Failed addresses that are named in an error; the others are counted.
const MAX_NAMED: usize = 3;

/// `upstream.bind` and `upstream.connect_timeout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The source address; destinations of the other family are then not tried.
    pub bind: Option<IpAddr>,
    /// For all addresses of a destination together.
    pub timeout: Duration,
}

/// An open connection and the vetted address it goes to.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: VettedAddr,
}

impl Connection {
    pub fn address(&self) -> UpstreamAddr {
        self.address.upstream()
    }

    pub(super) fn vetted(&self) -> VettedAddr {
        self.address
    }

    /// The bare stream, for a destination that may be reached without TLS.
    pub fn into_plain(self, _leave: &Permit<Plain>) -> TcpStream {
        bound_unsent(&self.stream);
        self.stream
    }

    /// The bare stream, whose far end nobody has verified yet.
    pub(super) fn into_unverified_stream(self) -> TcpStream {
        self.stream
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("no connection to {name}: {}; is the way to the Internet open for this machine?", listed(.failures))]
    Failed { name: DnsName, failures: Vec<(UpstreamAddr, String)> },
    #[error("no address of {name} accepted a connection within {after:?}; tried {}", joined(.tried))]
    Timeout { name: DnsName, after: Duration, tried: Vec<UpstreamAddr> },
    #[error("{name} has no {} address, and [upstream] bind = \"{bind}\" can only reach those", family(*bind))]
    BindFamily { name: DnsName, bind: IpAddr },
    #[error("{address} turned out to be this proxy when {name} was dialled")]
    SelfConnection { name: DnsName, address: UpstreamAddr },
    #[error("no connection to {name}: {cause}; raise LimitNOFILE or lower [limits] connections")]
    NoDescriptors { name: DnsName, cause: String },
}

impl ConnectError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Failed { .. } | Self::BindFamily { .. } => Reason::ConnectFailed,
            Self::Timeout { .. } => Reason::ConnectTimeout,
            Self::SelfConnection { .. } => Reason::SelfConnection,
            Self::NoDescriptors { .. } => Reason::Overloaded,
        }
    }

    /// The address that was tried last, where any was.
    pub fn tried(&self) -> Option<UpstreamAddr> {
        match self {
            Self::Failed { failures, .. } => failures.last().map(|(address, _)| *address),
            Self::Timeout { tried, .. } => tried.last().copied(),
            Self::SelfConnection { address, .. } => Some(*address),
            Self::BindFamily { .. } | Self::NoDescriptors { .. } => None,
        }
    }
}

fn joined(addresses: &[UpstreamAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Connects to the quickest of `addresses`, which are those of `name`.
///
/// # Errors
/// [`ConnectError`], at the latest when the settings' timeout is over.
pub async fn connect(
    name: &DnsName,
    addresses: Vec<VettedAddr>,
    settings: &Settings,
    selves: &SelfAddrs,
) -> Result<Connection, ConnectError> {
    let addresses = interleaved(addresses, settings.bind);
    if let (true, Some(bind)) = (addresses.is_empty(), settings.bind) {
        return Err(ConnectError::BindFamily { name: name.clone(), bind });
    }
    let attempts = addresses.iter().map(|address| attempt(*address, settings.bind));
    let connection = match timeout(settings.timeout, staggered(attempts, ATTEMPT_DELAY)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(failures)) => return Err(failed(name, failures)),
        Err(_) => {
            let tried = addresses.iter().map(|address| address.upstream()).collect();
            return Err(ConnectError::Timeout { name: name.clone(), after: settings.timeout, tried });
        }
    };
    // A local end that cannot be told is a connection that is already gone, as its first use will show.
    if selves.is_loop(connection.address().socket(), || connection.stream.local_addr().ok()) {
        return Err(ConnectError::SelfConnection { name: name.clone(), address: connection.address() });
    }
    Ok(connection)
}

type Failure = (UpstreamAddr, io::Error);

async fn attempt(address: VettedAddr, bind: Option<IpAddr>) -> Result<Connection, Failure> {
    let open = async {
        let to = address.upstream().socket();
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if is_beyond(&socket) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        if let Some(bind) = bind {
            socket.bind(SocketAddr::new(bind, 0)).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot send from [upstream] bind = \"{bind}\": {error}"))
            })?;
        }
        #[expect(clippy::disallowed_methods, reason = "the one place")]
        let stream = socket.connect(to).await?;
        tune(&SockRef::from(&stream))?;
        Ok(stream)
    };
    match open.await {
        Ok(stream) => Ok(Connection { stream, address }),
        Err(error) => Err((address.upstream(), error)),
    }
}

/// Addresses `bind` can reach, the families in turn, beginning with that of the first (RFC 8305 section 4).
fn interleaved(addresses: Vec<VettedAddr>, bind: Option<IpAddr>) -> Vec<VettedAddr> {
    let is_v4 = |address: &VettedAddr| address.upstream().ip().is_ipv4();
    let reachable = addresses.into_iter().filter(|address| bind.is_none_or(|bind| bind.is_ipv4() == is_v4(address)));
    let mut reachable = reachable.peekable();
    let first_is_v4 = reachable.peek().is_some_and(is_v4);
    let (same, other): (Vec<_>, Vec<_>) = reachable.partition(|address| is_v4(address) == first_is_v4);
    let mut other = other.into_iter();
    let mut order: Vec<_> = same.into_iter().flat_map(|address| [Some(address), other.next()]).flatten().collect();
    order.extend(other);
    order
}

fn failed(name: &DnsName, failures: Vec<Failure>) -> ConnectError {
    let own = failures.iter().find(|(_, error)| is_exhaustion(error));
    if let Some((_, error)) = own {
        return ConnectError::NoDescriptors { name: name.clone(), cause: error.to_string() };
    }
    let failures = failures.into_iter().map(|(address, error)| (address, error.to_string())).collect();
    ConnectError::Failed { name: name.clone(), failures }
}

/// No free descriptor is our trouble and not the destination's.
fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn listed(failures: &[(UpstreamAddr, String)]) -> String {
    let mut text = String::new();
    for (address, error) in failures.iter().take(MAX_NAMED) {
        let semicolon = if text.is_empty() { "" } else { "; " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{semicolon}{address}: {error}");
    }
    match failures.len().saturating_sub(MAX_NAMED) {
        0 => text,
        more => text + &format!("; and {more} more"),
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
