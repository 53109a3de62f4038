//! What an inspected connection may speak: of what the client offers, what is ours.

use crate::identify::client_hello::ClientHello;
use crate::inspect::leaf::Alpn;

/// What is offered to the upstream: of the client's protocols those that are inspected, in its order. `None`: it has some,
/// and none of ours. A client without ALPN speaks HTTP/1.1.
pub(super) fn mirrored(hello: &ClientHello) -> Option<Vec<Vec<u8>>> {
    if hello.alpn.is_empty() {
        return Some(vec![Alpn::Http11.as_bytes().to_vec()]);
    }
    let known = [Alpn::H2.as_bytes(), Alpn::Http11.as_bytes()];
    let offered: Vec<_> =
        hello.alpn.iter().filter(|offer| known.contains(&&***offer)).map(|offer| offer.to_vec()).collect();
    if offered.is_empty() { None } else { Some(offered) }
}

/// The protocol of a page: the simplest the client offers. The outer `None`: none that we speak.
pub(super) fn page_protocol(hello: &ClientHello) -> Option<Option<Alpn>> {
    let offered = |alpn: Alpn| hello.alpn.iter().any(|offer| **offer == *alpn.as_bytes());
    match hello.alpn.is_empty() {
        true => Some(None),
        false if offered(Alpn::Http11) => Some(Some(Alpn::Http11)),
        false if offered(Alpn::H2) => Some(Some(Alpn::H2)),
        false => None,
    }
}
