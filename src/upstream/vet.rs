//! Which addresses may be dialled: [`VettedAddr`] is made here and nowhere else, and nothing else can be dialled.
//!
//! Every answer is judged on its own, before any is tried. What is refused is dropped and never fallen back to (threats.md B03,
//! B04), and the value that passed is the value that is dialled (B02).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::{IpNet, Ipv6Net};

use crate::addrs::{AddressClass, ListenAddr, UpstreamAddr, embedded_ipv4};
use crate::names::DnsName;
use crate::reason::Reason;

/// Refused addresses that are named in an error; the others are counted.
const MAX_NAMED: usize = 3;

/// `[upstream] allow_addresses`, and the prefixes of the site's NAT64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Exceptions to the guard. One for IPv6 addresses that carry an IPv4 address is not one for that IPv4 address.
    pub allow: Vec<IpNet>,
    /// `/96` prefixes whose last 32 bits are an IPv4 address.
    pub nat64: Vec<Ipv6Net>,
    /// Where every name leads instead; the service itself never has one.
    pub stand_in: Option<StandIn>,
}

/// The origin of the tenant proof, which stands in for all destinations: a port of this machine's loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandIn {
    port: u16,
}

impl StandIn {
    pub fn on_loopback(port: u16) -> Self {
        Self { port }
    }
}

/// An address that may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VettedAddr(UpstreamAddr);

impl VettedAddr {
    pub fn upstream(self) -> UpstreamAddr {
        self.0
    }
}

/// Where this proxy itself accepts connections: explicit, admin and PAC listeners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelfAddrs {
    listeners: Vec<ListenAddr>,
}

impl SelfAddrs {
    pub fn new(listeners: Vec<ListenAddr>) -> Self {
        Self { listeners }
    }

    /// Whether connecting to `ip` and `port` would end at a listener of ours, an IPv4 address inside `ip` included.
    pub fn contains(&self, ip: IpAddr, port: u16, nat64: &[Ipv6Net]) -> bool {
        let inner = match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => embedded_ipv4(ip, nat64).map(IpAddr::V4),
        };
        [Some(ip.to_canonical()), inner].into_iter().flatten().any(|ip| self.reaches(ip, port))
    }

    /// What can only be known once a connection stands: both its ends have one address, and the far port is a listener's. For
    /// addresses this machine got after `contains` looked, and for address translation on the way.
    pub fn is_loop(&self, peer: SocketAddr, local: impl FnOnce() -> Option<SocketAddr>) -> bool {
        let ours = self.listeners.iter().any(|listener| {
            let ip = listener.ip();
            listener.port() == peer.port() && (ip.is_unspecified() || ip == peer.ip().to_canonical())
        });
        ours && local().is_some_and(|local| local.ip().to_canonical() == peer.ip().to_canonical())
    }

    fn reaches(&self, ip: IpAddr, port: u16) -> bool {
        // The kernel takes a connection to the unspecified address for one to this machine.
        self.listeners.iter().filter(|listener| listener.port() == port).any(|listener| match listener.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.is_ipv4() && is_local(ip),
            // An IPv6 wildcard takes IPv4 as well unless the system says otherwise.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => is_local(ip),
            own => own == ip || (own.is_loopback() && ip.is_unspecified()),
        })
    }
}

/// Whether `ip` is this machine's. The route says so: towards an address of its own, the kernel's choice of a source is that very
/// address. Connecting a UDP socket sends nothing, and is never out of date as a list of interfaces would be.
fn is_local(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let any = if ip.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip)
}

/// Why no address of a name may be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VetError {
    #[error("{name} is {ip}, and port {port} there is this proxy")]
    SelfConnection { name: DnsName, ip: IpAddr, port: u16 },
    #[error(
        "every address of {name} is special-purpose: {}; if that is meant, except it in [upstream] allow_addresses",
        listed(.refused)
    )]
    AddressDenied { name: DnsName, refused: Vec<(IpAddr, AddressClass)> },
}

impl VetError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::SelfConnection { .. } => Reason::SelfConnection,
            Self::AddressDenied { .. } => Reason::AddressDenied,
        }
    }
}

/// The addresses among `answers` that may be dialled for `name`, in their order; never empty.
///
/// # Errors
/// [`VetError`], where nothing is left. One answer that is this proxy is enough for [`VetError::SelfConnection`].
pub fn vet(
    name: &DnsName,
    answers: &[IpAddr],
    port: u16,
    settings: &Settings,
    selves: &SelfAddrs,
) -> Result<Vec<VettedAddr>, VetError> {
    if let Some(StandIn { port }) = settings.stand_in {
        return Ok(vec![VettedAddr(UpstreamAddr::new(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)))]);
    }
    let mut vetted = Vec::new();
    let mut refused = Vec::new();
    let mut own = None;
    for &ip in answers {
        if selves.contains(ip, port, &settings.nat64) {
            own = own.or(Some(ip));
        } else if let Err(class) = judge(ip, settings) {
            refused.push((ip, class));
        } else {
            let address = VettedAddr(UpstreamAddr::new(SocketAddr::new(ip, port)));
            if !vetted.contains(&address) {
                vetted.push(address);
            }
        }
    }
    match (vetted.is_empty(), own) {
        (false, _) => Ok(vetted),
        (true, Some(ip)) => Err(VetError::SelfConnection { name: name.clone(), ip, port }),
        (true, None) => Err(VetError::AddressDenied { name: name.clone(), refused }),
    }
}

/// Whether `ip` may be dialled, or the class it is refused for. An IPv6 address that carries an IPv4 one needs leave for both.
fn judge(ip: IpAddr, settings: &Settings) -> Result<(), AddressClass> {
    let inner = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => embedded_ipv4(ip, &settings.nat64),
    };
    let class = match AddressClass::of(ip) {
        AddressClass::Global if inner.is_some() => AddressClass::EmbedsIpv4,
        class => class,
    };
    if class != AddressClass::Global && !settings.allow.iter().any(|net| net.contains(&ip)) {
        return Err(class);
    }
    inner.map_or(Ok(()), |inner| judge(inner.into(), settings))
}

fn listed(refused: &[(IpAddr, AddressClass)]) -> String {
    let mut text = String::new();
    for (ip, class) in refused.iter().take(MAX_NAMED) {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{ip} ({})", class.as_str());
    }
    match refused.len().saturating_sub(MAX_NAMED) {
        0 => text,
        more => text + &format!(" and {more} more"),
    }
}

#[cfg(test)]
#[path = "vet_tests.rs"]
mod tests;
