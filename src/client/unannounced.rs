//! A balancer's connection before its PROXY header: there is no client yet, and nothing can be admitted, decided or recorded for one.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;

use super::Client;
use crate::addrs::{BalancerAddr, ClientAddr, ListenAddr, OriginalAddr};

/// How a client came that a balancer has passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balanced {
    pub by: BalancerAddr,
    /// Of a client that names this proxy: where it connected to at the balancer. Evidence.
    pub destination: Option<OriginalAddr>,
    /// It is the balancer's own, or of somebody it cannot name.
    pub own: bool,
}

/// An accepted connection of which is not known yet whose it is.
pub struct Unannounced {
    /// Under the balancer's own address, which nobody sees before it is said whose it is.
    client: Client,
    by: BalancerAddr,
}

impl Unannounced {
    /// `original` is what the kernel says on a transparent listener.
    pub fn new(io: TcpStream, by: BalancerAddr, listener: ListenAddr, original: Option<OriginalAddr>) -> Self {
        let client = Client::new(io, ClientAddr::new(by.socket()), listener);
        let client = match original {
            Some(original) => client.meaning(original),
            None => client,
        };
        Self { client, by }
    }

    /// Bytes received and not yet used.
    pub fn buffer(&self) -> &BytesMut {
        &self.client.buffer
    }

    /// Reads once more into the buffer; 0 is the end of the stream.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.client.fill().await
    }

    /// It is the client's that stands in a header of so many octets. On a transparent listener `destination` is what that client meant. A
    /// balancer that names its own end of this very connection speaks for itself: version 1 has no other word for it (HAProxy's checks).
    pub fn announce(mut self, header: usize, source: ClientAddr, destination: OriginalAddr) -> Client {
        self.client.buffer.advance(header);
        let steered = self.client.original.is_some();
        let own = source.socket() == self.by.socket();
        let balanced = Balanced { by: self.by, destination: (!steered).then_some(destination), own };
        let client = Client { addr: source, balanced: Some(Box::new(balanced)), ..self.client };
        if steered { client.meaning(destination) } else { client }
    }

    /// It is nobody's but the balancer's, by a header of so many octets or for want of one.
    pub fn own(mut self, header: usize) -> Client {
        self.client.buffer.advance(header);
        let balanced = Balanced { by: self.by, destination: None, own: true };
        Client { balanced: Some(Box::new(balanced)), ..self.client }
    }
}
