//! The vocabulary of names: [`DnsName`], [`Host`], [`Authority`], and the one door each comes in by.
//!
//! A name reaches sekisho by six entrances: the CONNECT authority, the authority of an absolute-form request, a `Host`
//! field, an h2 `:authority`, a ClientHello's server_name and the configuration. All six end in [`DnsName::parse`], so that
//! equality of names is equality of bytes, and the string that was judged is the string that is resolved, verified and
//! recorded. Nothing is repaired here but letter case and one trailing dot: whatever else is unusual is refused.
//!
//! What may not be here: patterns (`policy`), addresses (`addrs`), any I/O.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Longest name in octets without its trailing dot (RFC 1035 section 2.3.4, in presentation form).
pub const MAX_NAME: usize = 253;
/// Longest label in octets (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;

/// Why a name is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is longer than 253 octets")]
    TooLong,
    #[error("a label is empty (two dots in a row, or a dot in front)")]
    EmptyLabel,
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    #[error("a character that no host name has (allowed: letters, digits, '-', '_' and '.')")]
    Character,
    #[error("a label begins or ends with '-'")]
    Hyphen,
    #[error("a label beginning with xn-- is not a valid internationalised label (UTS #46)")]
    Idna,
    #[error("the last label is a number, which only a dotted IPv4 address may have")]
    EndsInNumber,
    #[error("an IP address stands where a name is due")]
    IpLiteral,
    #[error("brackets stand round something that is not an IPv6 address")]
    Bracket,
}

/// A host name in its one normal form: ASCII, lower case, no trailing dot, 1 to 253 octets, labels of 1 to 63 letters,
/// digits, `-` and `_`, never an IP address and never something a resolver would take for one (`127.1`, `0x7f000001`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// The door. `bytes` is the name as it stood on the wire: no port, no brackets, no surrounding space.
    ///
    /// # Errors
    /// [`NameError`], in the order of its variants' checks; the input is never partly used.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        match Host::parse(bytes)? {
            Host::Name(name) => Ok(name),
            Host::Ip(_) => Err(NameError::IpLiteral),
        }
    }

    /// The name as the configuration writes it: U-labels become A-labels by UTS #46 once, then the same door.
    ///
    /// # Errors
    /// [`NameError::Idna`] where the mapping fails, else as [`DnsName::parse`].
    pub fn parse_unicode(text: &str) -> Result<Self, NameError> {
        if text.is_ascii() {
            return Self::parse(text.as_bytes());
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| NameError::Idna)?;
        Self::parse(ascii.as_bytes())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name for what keeps it beside us: no copy.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Labels from the right, the order in which policy reads them.
    pub fn labels_from_right(&self) -> impl Iterator<Item = &str> {
        self.0.rsplit('.')
    }

    /// Whether this name is `suffix` or lies under it, on a label boundary.
    pub fn is_within(&self, suffix: &str) -> bool {
        self.0.strip_suffix(suffix).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsName({})", self.0)
    }
}

/// What stands in the host place of an authority (RFC 3986 section 3.2.2, read strictly).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Name(DnsName),
    /// A strict dotted quad, or an IPv6 address in brackets without a zone.
    Ip(IpAddr),
}

impl Host {
    /// Reads a host as written in an authority.
    ///
    /// # Errors
    /// [`NameError`]. `2130706433`, `127.1` and `0x7f.1` are errors, not addresses: `getaddrinfo` would take them.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        if let Some(inner) = bytes.strip_prefix(b"[") {
            let inner = inner.strip_suffix(b"]").ok_or(NameError::Bracket)?;
            let text = std::str::from_utf8(inner).map_err(|_| NameError::Bracket)?;
            return text.parse::<Ipv6Addr>().map(|ip| Self::Ip(ip.into())).map_err(|_| NameError::Bracket);
        }
        if ends_in_number(bytes) {
            let quad = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Ipv4Addr>().ok());
            return quad.map(|ip| Self::Ip(ip.into())).ok_or(NameError::EndsInNumber);
        }
        normal_form(bytes).map(Self::Name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Why an authority is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("{0}")]
    Host(#[from] NameError),
    #[error("the port is missing")]
    PortMissing,
    #[error("the port is not a decimal number from 1 to 65535 without sign or leading zero")]
    Port,
    #[error("user information (…@) stands before the host")]
    UserInfo,
}

/// `host ":" port`, both present.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

impl Authority {
    /// The authority-form of CONNECT (RFC 9112 section 3.2.3): the port is not optional.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthorityError> {
        let (host, port) = split_host_port(bytes)?;
        Ok(Self { host: Host::parse(host)?, port: port.ok_or(AuthorityError::PortMissing)? })
    }

    /// A `Host` field or an `http`/`https` authority: a missing port is the scheme's `default_port`.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn parse_with_default(bytes: &[u8], default_port: u16) -> Result<Self, AuthorityError> {
        let (host, port) = split_host_port(bytes)?;
        Ok(Self { host: Host::parse(host)?, port: port.unwrap_or(default_port) })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Splits at the one colon behind the host. `host:` (an empty port) is an error though RFC 3986 has it: no client sends it.
fn split_host_port(bytes: &[u8]) -> Result<(&[u8], Option<u16>), AuthorityError> {
    if bytes.contains(&b'@') {
        return Err(AuthorityError::UserInfo);
    }
    let bracket = bytes.first().filter(|&&first| first == b'[').and_then(|_| bytes.iter().position(|&b| b == b']'));
    let colon = match bracket {
        Some(end) => match bytes.get(end + 1) {
            None => None,
            Some(b':') => Some(end + 1),
            Some(_) => return Err(NameError::Bracket.into()),
        },
        None => bytes.iter().position(|&b| b == b':'),
    };
    match colon {
        None => Ok((bytes, None)),
        Some(at) => Ok((&bytes[..at], Some(parse_port(&bytes[at + 1..])?))),
    }
}

fn parse_port(digits: &[u8]) -> Result<u16, AuthorityError> {
    let strict = !digits.is_empty() && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0';
    let number = if strict { digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0')) } else { 0 };
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or(AuthorityError::Port)
}

/// The WHATWG URL rule: the last label, one trailing dot aside, is all digits or a `0x` number.
fn ends_in_number(bytes: &[u8]) -> bool {
    let trimmed = bytes.strip_suffix(b".").unwrap_or(bytes);
    let last = trimmed.rsplit(|&b| b == b'.').next().unwrap_or(trimmed);
    if last.is_empty() {
        return false;
    }
    let hex = last.strip_prefix(b"0x").or_else(|| last.strip_prefix(b"0X"));
    last.iter().all(u8::is_ascii_digit) || hex.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

fn normal_form(bytes: &[u8]) -> Result<DnsName, NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
    if bytes.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    let mut lower = [0; MAX_NAME];
    let lower = &mut lower[..bytes.len()];
    lower.copy_from_slice(bytes);
    lower.make_ascii_lowercase();
    lower.split(|&b| b == b'.').try_for_each(check_label)?;
    let name = std::str::from_utf8(lower).map_err(|_| NameError::Character)?;
    Ok(DnsName(name.into()))
}

/// `label` is in lower case.
fn check_label(label: &[u8]) -> Result<(), NameError> {
    match label {
        [] => return Err(NameError::EmptyLabel),
        [b'-', ..] | [.., b'-'] => return Err(NameError::Hyphen),
        _ if label.len() > MAX_LABEL => return Err(NameError::LabelTooLong),
        _ => {}
    }
    let may_stand = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if !label.iter().all(may_stand) {
        return Err(NameError::Character);
    }
    if label.starts_with(b"xn--") { round_trips(label) } else { Ok(()) }
}

/// An A-label must be the encoding of exactly the U-label it decodes to, and that one must not be ASCII.
fn round_trips(label: &[u8]) -> Result<(), NameError> {
    let label = std::str::from_utf8(label).map_err(|_| NameError::Character)?;
    let (unicode, decoded) = idna::domain_to_unicode(label);
    let same = idna::domain_to_ascii_strict(&unicode).is_ok_and(|ascii| ascii == label);
    if decoded.is_ok() && !unicode.is_ascii() && same { Ok(()) } else { Err(NameError::Idna) }
}

/// The name in the server_name extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sni {
    Name(DnsName),
    Absent(WhyNoSni),
}

/// Why a hello that is otherwise right names no server. A malformed name is never one of them: that hello is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNoSni {
    NoExtension,
}

#[cfg(test)]
mod tests;
