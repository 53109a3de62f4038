//! What the fields say that frame a message, route it or steer its connection (RFC 9112 sections 3.2, 6 and 9).
//!
//! What may not be here: reading octets off a buffer; what happens to any other field.

use super::fields::{is_authority, is_token, list};
use super::{MAX_LENGTH, Method, Version};

/// Elements that all `Connection` fields of a message may have together. Browsers send one or two.
const MAX_CONNECTION_OPTIONS: usize = 64;

/// How the end of a message's content is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No content follows the head.
    None,
    /// That many octets.
    Length(u64),
    Chunked,
    /// All until the connection ends. Responses only.
    UntilClose,
}

impl Framing {
    /// Whether octets may follow the head.
    pub fn has_content(self) -> bool {
        match self {
            Self::None | Self::Length(0) => false,
            Self::Length(_) | Self::Chunked | Self::UntilClose => true,
        }
    }
}

/// What the client expects before it sends its content (RFC 9110 section 10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    None,
    /// A 100 (Continue), or a final status.
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Request,
    Response,
}

/// How often `Upgrade` stands there, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Upgrade {
    #[default]
    Absent,
    Once(usize),
    Repeated,
}

/// Gathered field by field while the head is read, so that the first offending line ends the reading.
#[derive(Debug, Clone, Default)]
pub(super) struct Meaning {
    /// Index of the one `Host`.
    pub(super) host: Option<usize>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    /// Elements of all `Connection` fields, empty ones included.
    options: usize,
    /// `Connection` lists `upgrade`.
    upgrade_listed: bool,
    upgrade: Upgrade,
    expect: bool,
}

impl Meaning {
    pub(super) fn note(
        &mut self,
        message: Message,
        index: usize,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), &'static str> {
        let of_request = message == Message::Request;
        match name.len() {
            4 if of_request && name.eq_ignore_ascii_case(b"host") => self.note_host(index, value),
            6 if of_request && name.eq_ignore_ascii_case(b"expect") => self.note_expect(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.note_upgrade(message, index, value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.note_connection(value),
            14 if folds_to(name, b"content-length") => self.note_length(name, value),
            17 if folds_to(name, b"transfer-encoding") => self.note_coding(name, value),
            _ => Ok(()),
        }
    }

    fn note_host(&mut self, index: usize, value: &[u8]) -> Result<(), &'static str> {
        if self.host.replace(index).is_some() {
            return Err("Host stands more than once");
        }
        if is_authority(value) { Ok(()) } else { Err("Host is empty, holds a list, or a character no authority has") }
    }

    fn note_expect(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if std::mem::replace(&mut self.expect, true) {
            return Err("Expect stands more than once");
        }
        if value.eq_ignore_ascii_case(b"100-continue") { Ok(()) } else { Err("Expect is not 100-continue") }
    }

    fn note_upgrade(&mut self, message: Message, index: usize, value: &[u8]) -> Result<(), &'static str> {
        self.upgrade = match self.upgrade {
            Upgrade::Absent => Upgrade::Once(index),
            Upgrade::Once(_) | Upgrade::Repeated => Upgrade::Repeated,
        };
        if !is_protocol_list(value) {
            return Err("Upgrade is not a list of protocols");
        }
        // Origins behind a second server do repeat it in responses, where it means nothing but with 101.
        let ambiguous = message == Message::Request && self.upgrade == Upgrade::Repeated;
        if ambiguous { Err("Upgrade stands more than once") } else { Ok(()) }
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<(), &'static str> {
        // Every field is compared with every option, and commas alone would do for a flood (RFC 9110 section 5.6.1.2; H08).
        self.options = self.options.saturating_add(value.split(|&b| b == b',').count());
        if self.options > MAX_CONNECTION_OPTIONS {
            return Err("Connection has more than 64 options");
        }
        for option in list(value) {
            if !is_token(option) {
                return Err("Connection is not a list of tokens");
            }
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade_listed |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }

    fn note_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.contains(&b'_') {
            return Err("Content-Length is written with '_'");
        }
        let length = decimal(value).ok_or("Content-Length is not one plain decimal number")?;
        if self.length.replace(length).is_some() {
            return Err("Content-Length stands more than once");
        }
        Ok(())
    }

    fn note_coding(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.contains(&b'_') {
            return Err("Transfer-Encoding is written with '_'");
        }
        if std::mem::replace(&mut self.chunked, true) {
            return Err("Transfer-Encoding stands more than once");
        }
        if value.eq_ignore_ascii_case(b"chunked") { Ok(()) } else { Err("Transfer-Encoding is not chunked alone") }
    }

    fn declared(&self, version: Version) -> Result<Framing, &'static str> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err("Content-Length and Transfer-Encoding stand side by side"),
            (true, None) if version == Version::Http10 => Err("Transfer-Encoding stands in an HTTP/1.0 message"),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::None),
        }
    }

    pub(super) fn of_request(&self, method: &Method, version: Version) -> Result<Framing, &'static str> {
        let framing = match (method, self.declared(version)?) {
            (Method::Connect | Method::Trace, framing) if framing.has_content() => {
                return Err("CONNECT or TRACE carries content");
            }
            (Method::Connect, _) => Framing::None,
            (_, framing) => framing,
        };
        // In HTTP/1.0 it is as if it were not there (RFC 9110 section 10.1.1).
        if self.expect && version == Version::Http11 && framing == Framing::None {
            return Err("Expect stands in a request without content");
        }
        if self.host.is_none() && version == Version::Http11 {
            return Err("Host is missing");
        }
        Ok(framing)
    }

    /// The framing of the octets that follow (RFC 9112 section 6.3), and the framing the fields declare, which differs where
    /// a response to HEAD or a 304 tells of the content it leaves out.
    pub(super) fn of_response(
        &self,
        status: u16,
        request: &Method,
        version: Version,
    ) -> Result<(Framing, Framing), &'static str> {
        let declared = self.declared(version)?;
        if status == 101 && !(version == Version::Http11 && self.upgrade_listed && self.upgrade_index().is_some()) {
            return Err("101 does not name the one protocol it switches to");
        }
        let bare = matches!(status, 100..=199 | 204) || (*request == Method::Connect && matches!(status, 200..=299));
        match declared {
            Framing::None | Framing::Length(0) if bare => Ok((Framing::None, Framing::None)),
            _ if bare => Err("content is framed in a response that has none"),
            _ if *request == Method::Head || status == 304 => Ok((Framing::None, declared)),
            Framing::None => Ok((Framing::UntilClose, Framing::UntilClose)),
            Framing::Length(_) | Framing::Chunked | Framing::UntilClose => Ok((declared, declared)),
        }
    }

    /// Whether the connection outlives the message (RFC 9112 section 9.3), its content's framing aside.
    pub(super) fn persists(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    pub(super) fn expects(&self) -> bool {
        self.expect
    }

    /// Index of the `Upgrade` field, if it stands once and `Connection` names it (RFC 9110 section 7.8).
    pub(super) fn upgrade_index(&self) -> Option<usize> {
        match self.upgrade {
            Upgrade::Once(index) if self.upgrade_listed => Some(index),
            Upgrade::Once(_) | Upgrade::Absent | Upgrade::Repeated => None,
        }
    }
}

/// Whether the writer owns a field of that name: it frames, routes or steers the connection, in any case and with `_`.
pub(super) fn is_writers_own(name: &[u8]) -> bool {
    match name.len() {
        4 => name.eq_ignore_ascii_case(b"host"),
        7 => name.eq_ignore_ascii_case(b"upgrade"),
        10 => name.eq_ignore_ascii_case(b"connection"),
        14 => folds_to(name, b"content-length"),
        17 => folds_to(name, b"transfer-encoding"),
        _ => false,
    }
}

/// Whether a field of that name may not stand in a trailer section (RFC 9110 section 6.5.1): what is read before the
/// content must not be said after it.
pub(super) fn is_barred_from_trailers(name: &[u8]) -> bool {
    const BARRED: [&[u8]; 5] = [b"te", b"expect", b"trailer", b"keep-alive", b"proxy-connection"];
    is_writers_own(name) || BARRED.iter().any(|barred| folds_to(name, barred))
}

/// Equality in any case, with `_` read as `-` as some origins do.
fn folds_to(name: &[u8], lower: &[u8]) -> bool {
    let fold = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() == lower.len() && name.iter().map(fold).eq(lower.iter().copied())
}

/// Digits only, no leading zero, at most [`MAX_LENGTH`].
fn decimal(digits: &[u8]) -> Option<u64> {
    match digits {
        [] | [b'0', _, ..] => None,
        _ => digits
            .iter()
            .try_fold(0u64, |n, b| {
                let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
                n.checked_mul(10)?.checked_add(digit)
            })
            .filter(|length| *length <= MAX_LENGTH),
    }
}

/// GET, HEAD, DELETE and OPTIONS, for whose content RFC 9110 has no meaning.
pub(super) fn expects_no_content(method: &Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Delete | Method::Options)
}

/// `1#( token ["/" token] )` (RFC 9110 section 7.8).
pub(super) fn is_protocol_list(value: &[u8]) -> bool {
    let is_protocol = |element: &[u8]| element.splitn(2, |&b| b == b'/').all(is_token);
    list(value).next().is_some() && list(value).all(is_protocol)
}
