//! The ClientHello, read by ourselves: a bounded sans-IO parser from the bytes on the wire to what policy needs of them
//! (server_name, ALPN, versions, ECH). The verdict depends on the bytes alone, never on how they were cut into segments or
//! records, and a hello we cannot read in exactly one way is refused, never taken for one without a name.
//!
//! Decisions of this parser, where the specifications leave room or peers differ:
//!
//! * An SSLv2-compatible hello (RFC 5246 appendix E.2) is refused as a version: none negotiates TLS 1.3 (RFC 8446 appendix D.5),
//!   and it has no room for a server_name.
//! * legacy_version 0x0300 and below is refused even beside supported_versions (RFC 8446 appendix D.5 requires it, rustls
//!   does not look), and 0x0304 and above too (D11; section 4.2.1 lets a server negotiate TLS 1.2 or abort, and no client
//!   sends it). 0x0301 and 0x0302 beside supported_versions are ignored, as section 4.2.1 requires.
//! * legacy_record_version must be 0x0301 to 0x0303 in every record.
//! * What follows the record that ends the hello (a dummy change_cipher_spec, 0-RTT data) is not looked at and changes
//!   nothing: whoever gets the bytes next, rustls or the origin, judges it. In that last record nothing may follow.
//! * encrypted_client_hello of the outer kind is noted and the outer server_name stands: GREASE and real ECH look the same
//!   by design (RFC 9849). The inner kind has no business on the wire and is refused.
//!
//! What may not be here: records (`records`), any comparison of names (`policy`), any I/O.

use super::records::{RecordError, Records};
use crate::names::{DnsName, NameError};
pub use crate::names::{Sni, WhyNoSni};
use crate::reason::Reason;

/// Most octets a ClientHello may take on the wire, record headers included. Real ones take 0.2 to 2 KiB; long tickets and
/// certificate authority lists have been seen beyond 16 KiB (D04).
pub const MAX_WIRE: usize = 64 * 1024;
/// Most protocols in one ALPN extension. Real clients name at most a dozen; without a limit a hello of two octets for each
/// would cost twenty times its size in memory.
pub const MAX_ALPN: usize = 1024;

/// Extension types (IANA, TLS ExtensionType Values).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

const TLS10: u16 = 0x0301;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;

/// What a client says of itself before anything is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    pub sni: Sni,
    /// The protocols offered, in the client's order, GREASE included; empty without the extension. Any octets, never empty ones.
    pub alpn: Vec<Box<[u8]>>,
    /// The versions offered, in the client's order without GREASE: supported_versions, else the one legacy_version. At least
    /// one of them is 0x0303 (TLS 1.2) or 0x0304 (TLS 1.3).
    pub versions: Vec<u16>,
    pub ech: Ech,
    /// Octets of the records that hold the hello: what comes after them is something else.
    pub wire_len: usize,
}

/// Whether the client speaks of Encrypted ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ech {
    Absent,
    /// The extension is there; whether it is GREASE or holds a hello for another name cannot be told (D10).
    Outer,
}

/// What is known after the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Incomplete,
    Done(ClientHello),
    Invalid(HelloError),
}

/// Why the bytes are no ClientHello we go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("the client's first octets are not a TLS handshake record: only TLS is carried here")]
    NotTls,
    #[error("the ClientHello is malformed: {0}")]
    Malformed(&'static str),
    #[error("the ClientHello is malformed: its server_name is not a host name: {0}")]
    ServerName(#[from] NameError),
    #[error("the ClientHello is larger than its limit of 65536 octets on the wire or 1024 ALPN protocols")]
    TooLarge,
    #[error("the client's TLS version is not taken: {0}: let the client use TLS 1.2 or 1.3")]
    Version(#[from] VersionError),
}

/// Which version field is out of the range we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    #[error("a record's version is 0x{0:04x}, not 0x0301 to 0x0303")]
    Record(u16),
    #[error("the hello's legacy_version is 0x{0:04x}, not 0x0301 to 0x0303")]
    Legacy(u16),
    #[error("neither TLS 1.2 nor TLS 1.3 is offered")]
    NoneTaken,
    #[error("the hello has the format of SSL 2.0")]
    Sslv2,
}

impl HelloError {
    /// The reason under which the attempt ends.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotTls => Reason::NotTls,
            Self::Malformed(_) | Self::ServerName(_) => Reason::MalformedClientHello,
            Self::TooLarge => Reason::ClientHelloTooLarge,
            Self::Version(_) => Reason::TlsVersion,
        }
    }
}

impl From<RecordError> for HelloError {
    fn from(why: RecordError) -> Self {
        match why {
            RecordError::NotTls => Self::NotTls,
            RecordError::Malformed(why) => Self::Malformed(why),
            RecordError::TooLarge => Self::TooLarge,
            RecordError::Version(version) => Self::Version(VersionError::Record(version)),
            RecordError::Sslv2 => Self::Version(VersionError::Sslv2),
        }
    }
}

/// Reads one ClientHello from bytes that arrive bit by bit. It remembers which records it has seen and keeps no bytes, so a
/// client that dribbles costs time linear in what it sends and no memory beyond the caller's own buffer (D05).
#[derive(Debug, Default)]
pub struct HelloReader {
    records: Records,
}

impl HelloReader {
    /// Judges `wire`: **all** bytes received so far, from the first, the same ones each time and more.
    ///
    /// After a verdict more bytes change nothing. No later than at [`MAX_WIRE`] octets there is a verdict.
    pub fn advance(&mut self, wire: &[u8]) -> Progress {
        let message = match self.records.message(wire, MAX_WIRE) {
            Ok(None) => return Progress::Incomplete,
            Ok(Some(message)) => message,
            Err(why) => return Progress::Invalid(why.into()),
        };
        match read_body(&message.body, message.wire_len) {
            Ok(hello) => Progress::Done(hello),
            Err(why) => Progress::Invalid(why),
        }
    }
}

/// The ClientHello structure of RFC 8446 section 4.1.2, which RFC 5246 section 7.4.1.2 has alike.
fn read_body(body: &[u8], wire_len: usize) -> Result<ClientHello, HelloError> {
    let mut body = Cursor(body);
    let legacy_version = body.short().ok_or(HelloError::Malformed("legacy_version is cut off"))?;
    if !(TLS10..=TLS12).contains(&legacy_version) {
        return Err(VersionError::Legacy(legacy_version).into());
    }
    body.take(32).ok_or(HelloError::Malformed("random is cut off"))?;
    let session_id = body.vector8().ok_or(HelloError::Malformed("session_id is cut off"))?;
    if session_id.len() > 32 {
        return Err(HelloError::Malformed("session_id is longer than 32 octets"));
    }
    let suites = body.vector16().ok_or(HelloError::Malformed("cipher_suites is cut off"))?;
    if suites.is_empty() || !suites.len().is_multiple_of(2) {
        return Err(HelloError::Malformed("cipher_suites is empty or of odd length"));
    }
    let compression = body.vector8().ok_or(HelloError::Malformed("compression_methods is cut off"))?;
    if !compression.contains(&0) {
        return Err(HelloError::Malformed("compression_methods does not offer null"));
    }
    // A TLS 1.2 client may send no extensions block at all (RFC 5246 section 7.4.1.2).
    let block = match body.is_empty() {
        true => &[],
        false => body.vector16().ok_or(HelloError::Malformed("the extensions block is cut off"))?,
    };
    if !body.is_empty() {
        return Err(HelloError::Malformed("octets follow the extensions block"));
    }
    let Extensions { sni, alpn, versions, ech } = read_extensions(block)?;
    let versions = versions.unwrap_or_else(|| vec![legacy_version]);
    if !versions.iter().any(|version| matches!(*version, TLS12 | TLS13)) {
        return Err(VersionError::NoneTaken.into());
    }
    Ok(ClientHello { sni, alpn, versions, ech, wire_len })
}

struct Extensions {
    sni: Sni,
    alpn: Vec<Box<[u8]>>,
    versions: Option<Vec<u16>>,
    ech: Ech,
}

fn read_extensions(block: &[u8]) -> Result<Extensions, HelloError> {
    let mut block = Cursor(block);
    // Browsers send 16 to 18.
    let mut seen = Vec::with_capacity(32);
    let mut found =
        Extensions { sni: Sni::Absent(WhyNoSni::NoExtension), alpn: Vec::new(), versions: None, ech: Ech::Absent };
    while !block.is_empty() {
        let (kind, data) = block
            .short()
            .and_then(|kind| Some((kind, block.vector16()?)))
            .ok_or(HelloError::Malformed("an extension is cut off"))?;
        seen.push(kind);
        match kind {
            SERVER_NAME => found.sni = Sni::Name(read_server_name(data)?),
            ALPN => found.alpn = read_alpn(data)?,
            SUPPORTED_VERSIONS => found.versions = Some(read_versions(data)?),
            ENCRYPTED_CLIENT_HELLO => found.ech = read_ech(data)?,
            // RFC 8446 section 4.2.11: its binders cover all that stands before it.
            PRE_SHARED_KEY if !block.is_empty() => {
                return Err(HelloError::Malformed("pre_shared_key is not the last extension"));
            }
            _ => {}
        }
    }
    // Any type, known to us or not (RFC 8446 section 4.2): sorted, because a hello has room for 16000 of them.
    seen.sort_unstable();
    if seen.is_sorted_by(|a, b| a < b) { Ok(found) } else { Err(HelloError::Malformed("an extension stands twice")) }
}

/// RFC 6066 section 3. The list has one entry in it: other name types were never defined and could not be skipped, and one
/// type may not stand twice.
fn read_server_name(data: &[u8]) -> Result<DnsName, HelloError> {
    let mut entry = Cursor::only_vector16(data).map(Cursor);
    let name_type = entry.as_mut().and_then(Cursor::octet);
    match (name_type, entry.and_then(|name| Cursor::only_vector16(name.0))) {
        (Some(0), Some(name)) => Ok(DnsName::parse(name)?),
        _ => Err(HelloError::Malformed("server_name does not hold exactly one host_name")),
    }
}

/// RFC 7301 section 3.1.
fn read_alpn(data: &[u8]) -> Result<Vec<Box<[u8]>>, HelloError> {
    const WHY: HelloError = HelloError::Malformed("the ALPN list is empty, cut off, or holds an empty name");
    let mut list = Cursor(Cursor::only_vector16(data).filter(|list| !list.is_empty()).ok_or(WHY)?);
    // Browsers send two.
    let mut protocols = Vec::with_capacity(2);
    while !list.is_empty() {
        let name = list.vector8().filter(|name| !name.is_empty()).ok_or(WHY)?;
        if protocols.len() == MAX_ALPN {
            return Err(HelloError::TooLarge);
        }
        protocols.push(name.into());
    }
    Ok(protocols)
}

/// RFC 8446 section 4.2.1.
fn read_versions(data: &[u8]) -> Result<Vec<u16>, HelloError> {
    let mut data = Cursor(data);
    let list = data.vector8().filter(|list| data.is_empty() && !list.is_empty() && list.len().is_multiple_of(2));
    let list = list.ok_or(HelloError::Malformed("supported_versions is not one list of versions"))?;
    let versions = list.chunks_exact(2).filter_map(|pair| Cursor(pair).short());
    Ok(versions.filter(|version| !is_grease(*version)).collect())
}

/// RFC 9849 section 5: ECHClientHello. The outer kind is checked for its form so that it cannot carry anything else.
fn read_ech(data: &[u8]) -> Result<Ech, HelloError> {
    let mut data = Cursor(data);
    match data.octet() {
        Some(0) => {
            // kdf_id and aead_id, config_id, enc, payload.
            let payload = data.take(5).and_then(|_| data.vector16()).and_then(|_| data.vector16());
            match payload {
                Some([_, ..]) if data.is_empty() => Ok(Ech::Outer),
                Some(_) | None => Err(HelloError::Malformed("encrypted_client_hello is not of its own form")),
            }
        }
        Some(1) => Err(HelloError::Malformed("encrypted_client_hello is of the inner kind")),
        Some(_) | None => Err(HelloError::Malformed("encrypted_client_hello is of no known kind")),
    }
}

/// RFC 8701: 0x0a0a, 0x1a1a, … 0xfafa.
fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// The rest of a structure in the presentation language of RFC 8446 section 3. `None`: it ends too early.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn octet(&mut self) -> Option<u8> {
        let (octet, tail) = self.0.split_first()?;
        self.0 = tail;
        Some(*octet)
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.octet()?, self.octet()?]))
    }

    /// A vector with one octet of length.
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = self.octet()?;
        self.take(usize::from(len))
    }

    /// A vector with two octets of length.
    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.short()?;
        self.take(usize::from(len))
    }

    /// `data` as one vector with two octets of length and nothing behind it.
    fn only_vector16(data: &'a [u8]) -> Option<&'a [u8]> {
        let mut data = Self(data);
        data.vector16().filter(|_| data.is_empty())
    }
}

#[cfg(test)]
mod tests;
