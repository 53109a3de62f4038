//! Listening sockets that were open before this process: the service manager's (`LISTEN_FDS`, sd_listen_fds(3)), or those of the
//! process that is taken over from. Connections wait in them while nobody accepts, so that none is refused meanwhile.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::socket_acceptconn;

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
        self.0.push((ListenAddr::new(socket.local_addr()?), socket));
        Ok(())
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = ListenAddr> {
        self.0.iter().map(|(address, _)| *address)
    }

    /// The sockets of this address.
    pub(super) fn take(&mut self, address: ListenAddr) -> Vec<TcpListener> {
        self.0.extract_if(.., |(of, _)| *of == address).map(|(_, socket)| socket).collect()
    }

    /// Nobody would accept from a socket that is left, and clients would wait in it.
    ///
    /// # Errors
    /// One is.
    pub(super) fn all_taken(&self) -> Result<(), ServerError> {
        match self.0.first() {
            None => Ok(()),
            Some((address, _)) => Err(ServerError::Unasked { address: *address }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is the client")]
    fn a_socket_is_found_by_its_address_and_one_that_is_left_is_told() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = ListenAddr::new(socket.local_addr().expect("an address"));
        let client = TcpStream::connect(address.socket()).expect("a connection that nobody has accepted");
        let mut inherited = Inherited::default();
        inherited.add(socket.into()).expect("it listens");
        let error = inherited.all_taken().expect_err("one is left").to_string();
        assert_eq!(
            error,
            format!(
                "the service manager hands over a socket that listens on {address}, and no [[listener]], [admin] or [pac] has this \
                 address: correct the socket unit or the configuration"
            )
        );
        let taken = inherited.take(address);
        assert!(inherited.all_taken().is_ok());
        assert!(inherited.take(address).is_empty());
        let (_, peer) = taken[0].accept().expect("the connection that waited");
        assert_eq!(peer, client.local_addr().expect("its address"));
        let error = inherited.add(client.into()).expect_err("a connection");
        assert_eq!(error.to_string(), "it does not listen");
    }
}
