//! The record layer under a ClientHello: finds, in the bytes as they arrive, the records that hold exactly one client_hello
//! handshake message, and puts the message together (RFC 8446 sections 4 and 5.1).
//!
//! A message may lie in any number of records, and a record in any number of segments: a reader that looks at the first of
//! either only is told another name than the server sees (D01, D02). Hence nothing is answered before the message is whole.
//!
//! What may not be here: anything that knows what stands in the message after its length (`client_hello`).

use std::borrow::Cow;

/// ContentType handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// HandshakeType client_hello (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// Octets before a record's fragment: type, legacy_record_version, length.
const RECORD_HEADER: usize = 5;
/// Octets before a handshake message's body: msg_type, uint24 length.
const MESSAGE_HEADER: usize = 4;
/// Longest TLSPlaintext fragment (RFC 8446 section 5.1); the 256 more of a ciphertext are not for a ClientHello.
const MAX_FRAGMENT: usize = 1 << 14;

/// Why the records hold no client_hello message we go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordError {
    NotTls,
    Malformed(&'static str),
    TooLarge,
    /// A legacy_record_version beyond 0x0301 to 0x0303.
    Version(u16),
    /// A hello in the format of SSL 2.0, whatever version it offers.
    Sslv2,
}

/// A whole client_hello message.
#[derive(Debug)]
pub(super) struct Message<'w> {
    /// What stands behind the message header; borrowed where one record holds it all.
    pub(super) body: Cow<'w, [u8]>,
    /// Octets of the records that hold it.
    pub(super) wire_len: usize,
}

/// How far the records have been read. Holds no bytes: they stay with the caller, once.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Where the first record begins that was not yet whole.
    at: usize,
    /// Octets of the message in the records before it.
    gathered: usize,
    /// The first of those octets, as many as there are.
    header: [u8; MESSAGE_HEADER],
}

impl Records {
    /// Looks at what is new in `wire`, which is everything received so far. `Ok(None)`: the message is not whole yet. `cap` is
    /// the most octets its records may take.
    ///
    /// Whatever can be refused is refused at the octet that decides it, and every check stands at one place in the order of
    /// the octets, so the verdict does not depend on how they were cut up on their way (D01). Nothing behind the record
    /// that ends the message is looked at.
    pub(super) fn message<'w>(&mut self, wire: &'w [u8], cap: usize) -> Result<Option<Message<'w>>, RecordError> {
        loop {
            let rest = wire.get(self.at..).unwrap_or_default();
            let Some(len) = fragment_length(rest, self.at == 0)? else { return Ok(None) };
            let arrived = rest.get(RECORD_HEADER..).unwrap_or_default();
            let fragment = arrived.get(..len);
            let (header, known) = self.header_with(fragment.unwrap_or(arrived));
            if known > 0 && header[0] != CLIENT_HELLO {
                return Err(RecordError::Malformed("the first handshake message is not a client_hello"));
            }
            let end = self.at + RECORD_HEADER + len;
            let gathered = self.gathered + len;
            let missing = if known == MESSAGE_HEADER { Some(missing(header, gathered, end, cap)?) } else { None };
            let Some(fragment) = fragment else { return Ok(None) };
            if missing == Some(0) {
                let body = match self.at {
                    0 => Cow::Borrowed(fragment.get(MESSAGE_HEADER..).unwrap_or_default()),
                    _ => Cow::Owned(coalesced(wire.get(..end).unwrap_or_default(), gathered)),
                };
                return Ok(Some(Message { body, wire_len: end }));
            }
            *self = Self { at: end, gathered, header };
        }
    }

    /// The message header as far as it is known when `fragment` follows what was gathered, and how many octets that is.
    fn header_with(&self, fragment: &[u8]) -> ([u8; MESSAGE_HEADER], usize) {
        let mut header = self.header;
        let unknown = header.iter_mut().skip(self.gathered);
        unknown.zip(fragment).for_each(|(to, from)| *to = *from);
        (header, MESSAGE_HEADER.min(self.gathered + fragment.len()))
    }
}

/// Reads a record header: the length of its fragment, or `None` while the header is not whole.
fn fragment_length(rest: &[u8], is_first: bool) -> Result<Option<usize>, RecordError> {
    match *rest {
        [high, ..] if high & 0x80 != 0 && is_first => sslv2_hello(rest),
        [kind, ..] if kind != HANDSHAKE && is_first => Err(RecordError::NotTls),
        [kind, ..] if kind != HANDSHAKE => {
            Err(RecordError::Malformed("a record of another content type stands before the end of the client_hello"))
        }
        [_, major, ..] if major != 3 && is_first => Err(RecordError::NotTls),
        [_, major, ..] if major != 3 => Err(RecordError::Malformed("a record header in the client_hello is not TLS")),
        [_, _, minor, ..] if !(1..=3).contains(&minor) => Err(RecordError::Version(u16::from_be_bytes([3, minor]))),
        [_, _, _, high, low, ..] => match usize::from(u16::from_be_bytes([high, low])) {
            0 => Err(RecordError::Malformed("a handshake record is empty")),
            len if len > MAX_FRAGMENT => Err(RecordError::Malformed("a record is longer than 16384 octets")),
            len => Ok(Some(len)),
        },
        _ => Ok(None),
    }
}

/// What begins with the high bit set is an SSL 2.0 compatible CLIENT-HELLO (RFC 5246 appendix E.2: msg_length, msg_type 1, the
/// version) or no TLS. Its sender can often read a TLS alert, so the two are told apart (D11).
fn sslv2_hello(start: &[u8]) -> Result<Option<usize>, RecordError> {
    match *start {
        [_, _, 1, 3, ..] | [_, _, 1, 0, 2, ..] => Err(RecordError::Sslv2),
        [_] | [_, _] | [_, _, 1] | [_, _, 1, 0] => Ok(None),
        _ => Err(RecordError::NotTls),
    }
}

/// Octets of the message still to come after the record that ends at `end`.
fn missing(header: [u8; MESSAGE_HEADER], gathered: usize, end: usize, cap: usize) -> Result<usize, RecordError> {
    let [_, high, middle, low] = header;
    // At most 2^24 + 3: in range on every target.
    let whole = MESSAGE_HEADER + (usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low));
    let Some(missing) = whole.checked_sub(gathered) else {
        return Err(RecordError::Malformed("more octets follow the client_hello in its last record"));
    };
    // The fewest octets in which the remainder can still come.
    let least = missing + RECORD_HEADER * missing.div_ceil(MAX_FRAGMENT);
    if end + least > cap { Err(RecordError::TooLarge) } else { Ok(missing) }
}

/// The message body that the records of `wire`, all whole, hold together.
fn coalesced(wire: &[u8], gathered: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(gathered);
    let mut rest = wire;
    while let [_, _, _, high, low, fragment @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(fragment.len());
        let (fragment, next) = fragment.split_at(len);
        body.extend_from_slice(fragment);
        rest = next;
    }
    body.drain(..MESSAGE_HEADER.min(body.len()));
    body
}
