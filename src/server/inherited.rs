//! Listening sockets that were open before this process: the service manager's (`LISTEN_FDS`, sd_listen_fds(3)), or those of the
//! process that is taken over from. Connections wait in them while nobody accepts, so that none is refused meanwhile.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::{ipv6_v6only, socket_acceptconn};

use super::ServerError;
use crate::addrs::ListenAddr;

/// Those that are not taken yet.
#[derive(Default)]
pub struct Inherited(Vec<(ListenAddr, TcpListener)>);

impl Inherited {
    /// What the service manager hands to this process. To be called once, before any other process is started.
    ///
    /// # Errors
    /// One of them is no TCP socket that listens.
    pub fn from_manager() -> Result<Self, ServerError> {
        let mut given = ListenFd::from_env();
        let mut inherited = Self::default();
        for number in 0..given.len() {
            let unusable = |source| ServerError::Inherited { number, source };
            let Some(socket) = given.take_tcp_listener(number).map_err(unusable)? else { continue };
            inherited.add(socket.into()).map_err(unusable)?;
        }
        Ok(inherited)
    }

    /// # Errors
    /// It is no socket of ours to accept on.
    pub(super) fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        if !socket_acceptconn(&socket)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
        }
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        // `[::]` means IPv6 alone, as for a socket of our own; of one that is bound it cannot be made true any more.
        if address.is_ipv6() && address.ip().is_unspecified() && !ipv6_v6only(&socket)? {
            let why =
                format!("it takes IPv4 connections too, where {address} means IPv6 alone (BindIPv6Only=ipv6-only)");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.0.push((ListenAddr::new(address), socket));
        Ok(())
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = ListenAddr> {
        self.0.iter().map(|(address, _)| *address)
    }

    /// The sockets of this address.
    pub(super) fn take(&mut self, address: ListenAddr) -> Vec<TcpListener> {
        self.0.extract_if(.., |(of, _)| *of == address).map(|(_, socket)| socket).collect()
    }

    /// Nobody would accept from a socket whose address is not among `own`, and clients would wait in it. To be asked before a socket is
    /// bound: one of the same port would be in its way.
    ///
    /// # Errors
    /// There is such a socket.
    pub(super) fn all_wanted(&self, own: &[ListenAddr]) -> Result<(), ServerError> {
        let Some((address, _)) = self.0.iter().find(|(address, _)| !own.contains(address)) else { return Ok(()) };
        let of_port: Vec<String> =
            own.iter().filter(|own| own.port() == address.port()).map(|own| format!(", but {own}")).collect();
        Err(ServerError::Unasked { address: *address, instead: of_port.concat() })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is the client")]
    fn a_socket_is_found_by_its_address_and_one_that_is_left_is_told() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = ListenAddr::new(socket.local_addr().expect("an address"));
        let client = TcpStream::connect(address.socket()).expect("a connection that nobody has accepted");
        let mut inherited = Inherited::default();
        inherited.add(socket.into()).expect("it listens");
        let other = ListenAddr::new(([0, 0, 0, 0], address.port()).into());
        for (own, instead) in [(vec![], String::new()), (vec![other], format!(", but {other}"))] {
            let error = inherited.all_wanted(&own).expect_err("one is left").to_string();
            assert_eq!(
                error,
                format!(
                    "the service manager hands over a socket that listens on {address}, and no [[listener]], [admin] or [pac] has this \
                     address{instead}: correct the socket unit or the configuration"
                )
            );
        }
        assert!(inherited.all_wanted(&[other, address]).is_ok());
        let taken = inherited.take(address);
        assert!(inherited.take(address).is_empty());
        let (_, peer) = taken[0].accept().expect("the connection that waited");
        assert_eq!(peer, client.local_addr().expect("its address"));
        let error = inherited.add(client.into()).expect_err("a connection");
        assert_eq!(error.to_string(), "it does not listen");
    }

    #[test]
    fn a_socket_that_takes_ipv4_too_is_none_of_ipv6() {
        let listening = |only_v6| {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
            socket.set_only_v6(only_v6).expect("before it is bound");
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).expect("bound");
            socket.listen(1).expect("it listens");
            let address = socket.local_addr().expect("an address").as_socket().expect("of IPv6");
            (socket, address)
        };
        let mut inherited = Inherited::default();
        let (both, address) = listening(false);
        assert_eq!(
            inherited.add(both.into()).expect_err("IPv4 too").to_string(),
            format!("it takes IPv4 connections too, where {address} means IPv6 alone (BindIPv6Only=ipv6-only)")
        );
        let (alone, address) = listening(true);
        inherited.add(alone.into()).expect("IPv6 alone");
        assert_eq!(inherited.take(ListenAddr::new(address)).len(), 1);
    }
}
