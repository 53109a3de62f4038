//! The PROXY protocol's header, versions 1 and 2 (haproxy.org, proxy-protocol.txt), read by a bounded sans-IO parser: what a balancer says
//! of the client whose connection it passes on. The verdict depends on the bytes alone, never on how they were cut.
//!
//! Decisions of this parser, where the specification leaves room:
//!
//! * Version 1 is one line of at most 107 octets, written as the specification writes it: single spaces, decimal ports without leading
//!   zeros, CRLF. What stands behind `UNKNOWN` is ignored.
//! * Of version 2 the block's length is believed up to [`MAX_WIRE`]; what stands behind the addresses (TLVs) is skipped within it and not
//!   looked at, a checksum neither.
//! * Only TCP over IPv4 or IPv6 has a client here. Datagrams and Unix sockets are refused, not taken for unknown.
//! * A source that no client has (unspecified, multicast, broadcast) is refused.
//!
//! What may not be here: who is believed (`server`), any I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::addrs::{ClientAddr, OriginalAddr};

/// Most octets a header may take: the addresses take at most 36, the certificate's name and the like that balancers add some hundreds.
pub const MAX_WIRE: usize = 4096;
/// Longest line of version 1, CRLF included (section 2.1).
const MAX_LINE: usize = 107;

const LINE: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of version 2 before its block: signature, version and command, family and protocol, length.
const FIXED: usize = 16;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// The balancer's own (`LOCAL`), or that of somebody it cannot name (`UNKNOWN`, `AF_UNSPEC`): in either case of nobody but itself.
    Nobody,
    Client {
        source: ClientAddr,
        /// Where the client connected to at the balancer, or what it meant.
        destination: OriginalAddr,
    },
}

/// What is known after the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Incomplete,
    /// And how many octets the header took.
    Done(Behind, usize),
    Invalid(HeaderError),
}

/// Why the bytes are no header we go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("its first octets are no PROXY header")]
    None,
    #[error("its PROXY header is malformed: {0}")]
    Malformed(&'static str),
    #[error("its PROXY header is longer than 4096 octets")]
    TooLarge,
}

/// Reads the header at the beginning of `octets`.
pub fn read(octets: &[u8]) -> Progress {
    let begins = |with: &[u8]| octets.iter().zip(with).all(|(one, other)| one == other);
    let read = match octets.first() {
        None => return Progress::Incomplete,
        Some(b'P') if begins(LINE) => line(octets),
        Some(b'\r') if begins(SIGNATURE) => block(octets),
        Some(_) => Err(HeaderError::None),
    };
    match read {
        Ok(Some((behind, taken))) => Progress::Done(behind, taken),
        Ok(None) => Progress::Incomplete,
        Err(error) => Progress::Invalid(error),
    }
}

/// `None`: more octets are needed.
type Read = Result<Option<(Behind, usize)>, HeaderError>;

/// Version 1.
fn line(octets: &[u8]) -> Read {
    const MALFORMED: HeaderError =
        HeaderError::Malformed("a line of version 1 is PROXY, TCP4 or TCP6, two addresses, two ports and CRLF");
    let within = &octets[..octets.len().min(MAX_LINE)];
    let Some(end) = within.iter().position(|octet| matches!(octet, b'\r' | b'\n')) else {
        let long = within.len() == MAX_LINE;
        return if long { Err(HeaderError::Malformed("a line of version 1 has at most 107 octets")) } else { Ok(None) };
    };
    match within.get(end..end + 2) {
        Some(b"\r\n") => {}
        None if within[end] == b'\r' && within.len() < MAX_LINE => return Ok(None),
        Some(_) | None => return Err(MALFORMED),
    }
    let text = std::str::from_utf8(&within[LINE.len()..end]).map_err(|_| MALFORMED)?;
    let mut words = text.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Some((Behind::Nobody, end + 2)));
    }
    let rest = [words.next(), words.next(), words.next(), words.next()];
    let ([Some(from), Some(to), Some(from_port), Some(to_port)], None) = (rest, words.next()) else {
        return Err(MALFORMED);
    };
    let address = |text: &str| match family {
        Some("TCP4") => text.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| MALFORMED),
        Some("TCP6") => text.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| MALFORMED),
        Some(_) | None => Err(MALFORMED),
    };
    let port = |text: &str| {
        let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|octet| octet.is_ascii_digit()));
        text.parse::<u16>().ok().filter(|_| plain).ok_or(MALFORMED)
    };
    let source = SocketAddr::new(address(from)?, port(from_port)?);
    let destination = SocketAddr::new(address(to)?, port(to_port)?);
    Ok(Some((client(source, destination)?, end + 2)))
}

/// Version 2.
fn block(octets: &[u8]) -> Read {
    let told = octets.get(SIGNATURE.len()).copied();
    if told.is_some_and(|octet| octet >> 4 != 2) {
        return Err(HeaderError::Malformed("its version is neither 1 nor 2"));
    }
    let own = match told.map(|octet| octet & 0x0f) {
        None => return Ok(None),
        Some(0) => true,
        Some(1) => false,
        Some(_) => return Err(HeaderError::Malformed("its command is neither LOCAL nor PROXY")),
    };
    let Some(family) = octets.get(SIGNATURE.len() + 1).copied() else { return Ok(None) };
    // Of the balancer's own the family and the block are to be ignored (section 2.2).
    let least = match family {
        _ if own => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        _ => return Err(HeaderError::Malformed("its client is of another family than TCP over IPv4 or IPv6")),
    };
    let Some(&[high, low]) = octets.get(SIGNATURE.len() + 2..FIXED) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < least {
        return Err(HeaderError::Malformed("its block is too short for its addresses"));
    }
    if FIXED + length > MAX_WIRE {
        return Err(HeaderError::TooLarge);
    }
    let Some(block) = octets.get(FIXED..FIXED + length) else { return Ok(None) };
    let behind = match (least, block) {
        (12, &[a, b, c, d, e, f, g, h, ref ports @ ..]) => addresses([a, b, c, d].into(), [e, f, g, h].into(), ports),
        (36, _) => {
            let half = |at: usize| block.get(at..at + 16).and_then(|half| <[u8; 16]>::try_from(half).ok());
            half(0).zip(half(16)).and_then(|(from, to)| addresses(from.into(), to.into(), block.get(32..)?))
        }
        _ => Some(Ok(Behind::Nobody)),
    };
    Ok(Some((behind.ok_or(HeaderError::Malformed("its block is too short for its addresses"))??, FIXED + length)))
}

fn addresses(from: IpAddr, to: IpAddr, ports: &[u8]) -> Option<Result<Behind, HeaderError>> {
    let &[a, b, c, d, ..] = ports else { return None };
    let port = |high, low| u16::from_be_bytes([high, low]);
    Some(client(SocketAddr::new(from, port(a, b)), SocketAddr::new(to, port(c, d))))
}

fn client(source: SocketAddr, destination: SocketAddr) -> Result<Behind, HeaderError> {
    let source = ClientAddr::new(source);
    let ip = source.ip();
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(HeaderError::Malformed("its source is an address that no client has"));
    }
    Ok(Behind::Client { source, destination: OriginalAddr::new(destination) })
}

#[cfg(test)]
mod tests;
