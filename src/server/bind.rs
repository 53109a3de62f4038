//! Listening sockets: one for each thread that serves, on the address they share.

use std::collections::HashMap;
use std::io;
use std::net::{self, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::ServerError;
use super::inherited::Inherited;
use super::serving::{Serving, Sockets};
use super::workers::Workers;
use crate::addrs::ListenAddr;
use crate::config::{Config, Listener, ListenerMode, Steering};
use crate::sockets::tune;

/// Pending connections the kernel keeps for us.
pub(super) const BACKLOG: i32 = 4096;

/// Sockets newly bound for a configuration, before anything else of it takes effect.
pub(super) struct Bound {
    pub(super) proxying: Vec<(Listener, Sockets)>,
    pub(super) admin: Option<(ListenAddr, Sockets)>,
    pub(super) pac: Option<(ListenAddr, Sockets)>,
}

impl Bound {
    pub(super) fn new(
        config: &Config,
        workers: &Workers,
        listeners: &HashMap<Listener, Serving>,
        held: Held,
        inherited: &mut Inherited,
    ) -> Result<Self, ServerError> {
        let mut proxying = Vec::new();
        let held_here = listeners.keys().map(|listener| listener.address).chain(held.admin).chain(held.pac);
        let own: Vec<ListenAddr> = held_here.chain(inherited.addresses()).collect();
        for listener in config.listeners.iter().filter(|listener| !listeners.contains_key(listener)) {
            let address = listener.address;
            let sockets = bind("listener.address", address, workers.handles(), &own, inherited)?;
            if listener.mode == ListenerMode::Transparent(Steering::Tproxy) {
                let taking = sockets.accepting.iter().try_for_each(|socket| take_what_is_for_others(socket, address));
                taking.map_err(|source| ServerError::Tproxy { address, source })?;
            }
            proxying.push((*listener, sockets));
        }
        let pac = config.pac.as_ref().and_then(|pac| pac.address);
        Ok(Self {
            proxying,
            admin: single("admin.address", config.admin, held.admin, &own, inherited)?,
            pac: single("pac.address", pac, held.pac, &own, inherited)?,
        })
    }
}

/// What to do where a socket cannot be bound.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: find it with `ss -ltnp`, or choose another port",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: see `ip addr`, or listen on 0.0.0.0",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE: choose one above",
        _ if Errno::from_io_error(error) == Some(Errno::MFILE) => "raise LimitNOFILE of the unit, or `ulimit -n`",
        _ => "is another program there, or the address not this machine's?",
    }
}

/// Where the listeners are that no worker serves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub(super) admin: Option<ListenAddr>,
    pub(super) pac: Option<ListenAddr>,
}

/// A listener of this runtime, unless none is wanted or the one that is held is it.
fn single(
    key: &'static str,
    wanted: Option<ListenAddr>,
    held: Option<ListenAddr>,
    own: &[ListenAddr],
    inherited: &mut Inherited,
) -> Result<Option<(ListenAddr, Sockets)>, ServerError> {
    let Some(address) = wanted.filter(|address| Some(*address) != held) else { return Ok(None) };
    Ok(Some((address, bind(key, address, [&Handle::current()].into_iter(), own, inherited)?)))
}

/// Connections to any address that the packet filter hands to this socket (`IP_TRANSPARENT`, ip(7)).
fn take_what_is_for_others(listener: &TcpListener, address: ListenAddr) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if address.ip().is_ipv4() { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) }
}

/// `own` is what this process listens on, or the one that it takes over from: neither a reload nor an upgrade can exchange it for another
/// address of the same port.
fn bind<'a>(
    key: &'static str,
    address: ListenAddr,
    runtimes: impl Iterator<Item = &'a Handle>,
    own: &[ListenAddr],
    inherited: &mut Inherited,
) -> Result<Sockets, ServerError> {
    let there = inherited.take(address);
    let opened = if there.is_empty() { open(address.socket(), runtimes) } else { adopt(there, runtimes) };
    opened.and_then(Sockets::new).map_err(|source| match own.iter().find(|own| own.port() == address.port()) {
        Some(own) if source.kind() == io::ErrorKind::AddrInUse => ServerError::OwnPort { address, own: *own },
        Some(_) | None => ServerError::Bind { key, address, source },
    })
}

/// The sockets that are there already, shared out so that each runtime accepts on one and none is without somebody who accepts.
fn adopt<'a>(there: Vec<net::TcpListener>, runtimes: impl Iterator<Item = &'a Handle>) -> io::Result<Vec<TcpListener>> {
    let runtimes: Vec<_> = runtimes.collect();
    let count = runtimes.len().max(there.len());
    let sockets = there.iter().cycle().zip(runtimes.iter().cycle()).take(count);
    let adopted = sockets.map(|(socket, runtime)| {
        let socket = Socket::from(socket.try_clone()?);
        socket.set_nonblocking(true)?;
        tune(&SockRef::from(&socket))?;
        socket.listen(BACKLOG)?;
        let _entered = runtime.enter();
        TcpListener::from_std(socket.into())
    });
    adopted.collect()
}

/// A socket for each runtime, among which the kernel spreads the connections to the one address they share.
fn open<'a>(address: SocketAddr, runtimes: impl Iterator<Item = &'a Handle>) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for runtime in runtimes {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // `[::]` means IPv6 alone, whatever the machine's default: IPv4 has a listener of its own.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // The first is bound alone, so that it fails where another program listens, another sekisho included; the others go to
        // the address it got, where the port was the system's to choose.
        let to = match listeners.first() {
            None => address,
            Some(first) => {
                socket.set_reuse_port(true)?;
                first.local_addr()?
            }
        };
        socket.bind(&to.into())?;
        socket.set_reuse_port(true)?;
        // For the connections, which inherit it.
        tune(&SockRef::from(&socket))?;
        socket.listen(BACKLOG)?;
        let _entered = runtime.enter();
        listeners.push(TcpListener::from_std(socket.into())?);
    }
    Ok(listeners)
}
