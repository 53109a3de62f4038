//! `[[listener]]`: where clients come to, and how.

use crate::addrs::ListenAddr;

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
