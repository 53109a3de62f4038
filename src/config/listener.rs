//! `[[listener]]`: where clients come to, how, and by whom they are passed on.

use ipnet::IpNet;

use crate::addrs::{BalancerAddr, ClientAddr, ListenAddr};

/// `[[listener]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listener {
    pub address: ListenAddr,
    pub mode: ListenerMode,
}

/// How clients come to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenerMode {
    /// They name this proxy.
    Explicit,
    /// The network steers them here.
    Transparent(Steering),
}

impl ListenerMode {
    /// As `check` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Transparent(Steering::Redirect) => "transparent, redirect",
            Self::Transparent(Steering::Tproxy) => "transparent, tproxy",
        }
    }
}

/// By which of the packet filter's means, as nftables calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Steering {
    /// The destination is rewritten; the kernel tells what it was.
    Redirect,
    /// The destination stays; the socket has to be allowed to take what is for others (CAP_NET_ADMIN).
    Tproxy,
}

/// `proxy_protocol` of each listener: who is believed whose a connection is.
///
/// Beside the listeners, so that a reload changes it for new connections and leaves the sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balancers(Vec<(ListenAddr, Vec<IpNet>)>);

impl Balancers {
    pub(super) fn new(of_each: Vec<(ListenAddr, Vec<IpNet>)>) -> Self {
        Self(of_each)
    }

    /// The networks that are believed on this listener.
    pub fn networks(&self, listener: ListenAddr) -> &[IpNet] {
        let found = self.0.iter().find(|(address, _)| *address == listener);
        found.map_or(&[], |(_, networks)| networks)
    }

    /// Whether `peer` is one; nobody else is believed.
    pub fn balancer(&self, listener: ListenAddr, peer: ClientAddr) -> Option<BalancerAddr> {
        let believed = self.networks(listener).iter().any(|network| network.contains(&peer.ip()));
        believed.then(|| BalancerAddr::new(peer.socket()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b09_a_balancer_is_one_on_its_own_listener_alone() {
        let listen = |port| ListenAddr::new(([0, 0, 0, 0], port).into());
        let networks = ["10.0.0.5/32", "fd00::/64"].map(|text| text.parse().expect(text));
        let balancers = Balancers::new(vec![(listen(8080), networks.to_vec()), (listen(8443), Vec::new())]);
        let peer = |text: &str| ClientAddr::new(text.parse().expect(text));
        for (port, from, believed) in [
            (8080, "10.0.0.5:4711", true),
            (8080, "[::ffff:10.0.0.5]:4711", true),
            (8080, "[fd00::5]:4711", true),
            (8080, "10.0.0.6:4711", false),
            (8080, "[fd00:1::5]:4711", false),
            (8443, "10.0.0.5:4711", false),
            (9090, "10.0.0.5:4711", false),
        ] {
            let expected = believed.then(|| BalancerAddr::new(from.parse().expect(from)));
            assert_eq!(balancers.balancer(listen(port), peer(from)), expected, "{from} at {port}");
        }
    }
}
