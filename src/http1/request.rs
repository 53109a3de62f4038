//! The request head (RFC 9112 sections 2, 3 and 5): the reader and what it hands out.
//!
//! What may not be here: the meaning of fields (`framing`), names, content.

use bytes::{Buf, BytesMut};

use super::fields::{MAX_SPAN, Scanner, Section, Span, find, is_authority, is_method_octet, is_target_octet};
use super::framing::{Expectation, Framing, Meaning, Message, expects_no_content};
use super::{HeadError, Limits, MAX_METHOD, METHOD, Method, Version};

/// Reads one request head after the other off a connection's buffer. It remembers how far it has looked, so a head that
/// dribbles in costs no more than one that comes at once; between two calls the buffer may only grow.
#[derive(Debug, Default)]
pub struct RequestReader {
    progress: Progress,
    failed: Option<HeadError>,
}

#[derive(Debug, Default)]
struct Progress {
    empty_line_skipped: bool,
    line: LineProgress,
    request_line: Option<RequestLine>,
    scanner: Scanner,
    meaning: Meaning,
}

/// How much of the request line is known.
#[derive(Debug, Default)]
enum LineProgress {
    #[default]
    Method,
    /// All before `scanned` is method and target.
    Target {
        method_end: usize,
        scanned: usize,
    },
    Version {
        method_end: usize,
        target_end: usize,
    },
}

#[derive(Debug)]
struct RequestLine {
    method: Method,
    target: TargetSpans,
    version: Version,
}

#[derive(Debug, Clone, Copy)]
enum TargetSpans {
    Origin(Span),
    Absolute { scheme: Span, authority: Span, path_and_query: Span },
    Authority(Span),
    Asterisk,
}

/// What the request is for (RFC 9112 section 3.2): visible ASCII without `#`, as it stood on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Path and query; begins with `/`.
    Origin(&'a [u8]),
    Absolute {
        scheme: &'a [u8],
        /// Without user information. For [`crate::names::Authority`] to judge.
        authority: &'a [u8],
        /// Empty, or begins with `/` or `?`.
        path_and_query: &'a [u8],
    },
    /// CONNECT, and only CONNECT. For [`crate::names::Authority`] to judge.
    Authority(&'a [u8]),
    /// OPTIONS, and only OPTIONS.
    Asterisk,
}

/// A request head that has one reading. `Debug` shows field names, never values or the target (K06).
#[derive(Clone)]
pub struct RequestHead {
    section: Section,
    method: Method,
    version: Version,
    target: TargetSpans,
    meaning: Meaning,
    framing: Framing,
}

impl RequestReader {
    /// Splits the next head off `buf`; what is glued behind it stays. `None`: more octets are needed.
    ///
    /// # Errors
    /// [`HeadError`], as early as it is certain; the same again on every later call.
    pub fn read(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Option<RequestHead>, HeadError> {
        let read = match self.failed {
            Some(error) => Err(error),
            None => self.progress.read(buf, limits),
        };
        self.failed = read.as_ref().err().copied();
        read
    }
}

impl Progress {
    fn read(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Option<RequestHead>, HeadError> {
        if !self.empty_line_skipped && buf.starts_with(b"\r\n") {
            buf.advance(2);
            self.empty_line_skipped = true;
        }
        // One octet of an empty line may be all there is; whether it becomes one is known with the next.
        if !self.empty_line_skipped && buf.as_ref() == b"\r" {
            return Ok(None);
        }
        let ceiling = limits.head.min(MAX_SPAN);
        let view = buf.get(..ceiling).unwrap_or(buf);
        let Some(end) = self.advance(view, limits)? else {
            return if buf.len() >= ceiling { Err(HeadError::TooLarge) } else { Ok(None) };
        };
        let Some(RequestLine { method, target, version }) = self.request_line.take() else {
            return Ok(None);
        };
        let framing = self.meaning.of_request(&method, version)?;
        let Self { scanner, meaning, .. } = std::mem::take(self);
        let section = scanner.finish(buf.split_to(end).freeze());
        Ok(Some(RequestHead { section, method, version, target, meaning, framing }))
    }

    fn advance(&mut self, view: &[u8], limits: &Limits) -> Result<Option<usize>, HeadError> {
        if self.request_line.is_none() {
            let Some((line, end)) = self.line.advance(view, limits.target)? else {
                return Ok(None);
            };
            self.request_line = Some(line);
            self.scanner = Scanner::starting_at(end);
        }
        let meaning = &mut self.meaning;
        let note = |index, name: &[u8], value: &[u8]| meaning.note(Message::Request, index, name, value);
        self.scanner.advance(view, limits.fields, note)
    }
}

impl LineProgress {
    /// `method SP request-target SP HTTP-version CRLF`, and where it ends. Every octet is judged as it comes, so that a TLS
    /// hello or any other protocol is refused at its first octet and not when a line end happens by.
    fn advance(&mut self, view: &[u8], max_target: usize) -> Result<Option<(RequestLine, usize)>, HeadError> {
        if let Self::Method = *self {
            let Some(method_end) = method_end(view)? else {
                return Ok(None);
            };
            *self = Self::Target { method_end, scanned: method_end + 1 };
        }
        if let Self::Target { method_end, scanned } = *self {
            let Some(target_end) = target_end(view, method_end + 1, scanned, max_target)? else {
                *self = Self::Target { method_end, scanned: view.len() };
                return Ok(None);
            };
            *self = Self::Version { method_end, target_end };
        }
        let Self::Version { method_end, target_end } = *self else {
            return Ok(None);
        };
        let Some(version) = version(view.get(target_end + 1..).unwrap_or_default())? else {
            return Ok(None);
        };
        let method = Method::parse(Span::new(0, method_end).of(view))?;
        let target = target(&method, view, method_end + 1, target_end)?;
        Ok(Some((RequestLine { method, target, version }, target_end + 1 + VERSION.len())))
    }
}

fn method_end(view: &[u8]) -> Result<Option<usize>, HeadError> {
    let window = view.get(..=MAX_METHOD).unwrap_or(view);
    let Some(end) = find(window, |octets| octets.iter().position(|&b| !is_method_octet(b))) else {
        let long = window.len() > MAX_METHOD;
        return if long { Err(HeadError::Malformed("the method is longer than 32 octets")) } else { Ok(None) };
    };
    if end == 0 || window.get(end) != Some(&b' ') {
        return Err(HeadError::Malformed(METHOD));
    }
    // E19: the preface of HTTP/2 begins like a request.
    if window.starts_with(b"PRI ") {
        return Err(HeadError::Malformed("an HTTP/2 preface where HTTP/1 is spoken"));
    }
    Ok(Some(end))
}

fn target_end(view: &[u8], start: usize, scanned: usize, max: usize) -> Result<Option<usize>, HeadError> {
    let ceiling = view.len().min(start.saturating_add(max).saturating_add(1));
    let window = view.get(scanned..ceiling).unwrap_or_default();
    match find(window, |octets| octets.iter().position(|&b| !is_target_octet(b))) {
        Some(at) if window.get(at) == Some(&b' ') && scanned + at > start => Ok(Some(scanned + at)),
        Some(0) if scanned == start && window.first() == Some(&b' ') => {
            Err(HeadError::Malformed("the request target is empty: two spaces behind the method"))
        }
        Some(_) => Err(HeadError::Malformed("the request target holds an octet that is not visible ASCII, or '#'")),
        None if ceiling - start.min(ceiling) > max => Err(HeadError::TargetTooLong),
        None => Ok(None),
    }
}

/// `?` stands for the minor version.
const VERSION: &[u8; 10] = b"HTTP/1.?\r\n";

fn version(tail: &[u8]) -> Result<Option<Version>, HeadError> {
    let fits = |(&is, &due): (&u8, &u8)| if due == b'?' { matches!(is, b'0' | b'1') } else { is == due };
    if !tail.iter().zip(VERSION).all(fits) {
        return Err(HeadError::Malformed("the request line does not end in one space, HTTP/1.0 or HTTP/1.1, and CRLF"));
    }
    let version = if tail.get(7) == Some(&b'0') { Version::Http10 } else { Version::Http11 };
    Ok((tail.len() >= VERSION.len()).then_some(version))
}

/// `view[start..end]` is the target, of target octets only.
fn target(method: &Method, view: &[u8], start: usize, end: usize) -> Result<TargetSpans, &'static str> {
    let whole = Span::new(start, end);
    let text = whole.of(view);
    match (method, text) {
        (Method::Connect, _) if is_authority(text) => Ok(TargetSpans::Authority(whole)),
        (Method::Connect, _) => Err("the target of CONNECT is not an authority"),
        (Method::Options, b"*") => Ok(TargetSpans::Asterisk),
        (_, [b'/', ..]) => Ok(TargetSpans::Origin(whole)),
        (_, _) => absolute(text, start),
    }
}

fn absolute(text: &[u8], start: usize) -> Result<TargetSpans, &'static str> {
    const FORM: &str = "the request target is neither a path nor an absolute URI with an authority";
    let scheme_end = text.iter().position(|&b| b == b':').ok_or(FORM)?;
    let (scheme, rest) = text.split_at(scheme_end);
    let is_scheme = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(is_scheme) {
        return Err(FORM);
    }
    let rest = rest.strip_prefix(b"://").ok_or(FORM)?;
    let length = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    if !is_authority(rest.get(..length).unwrap_or_default()) {
        return Err("the authority of the request target is empty, has user information, or a character no host has");
    }
    let authority = start + scheme_end + 3;
    Ok(TargetSpans::Absolute {
        scheme: Span::new(start, start + scheme_end),
        authority: Span::new(authority, authority + length),
        path_and_query: Span::new(authority + length, start + text.len()),
    })
}

impl RequestHead {
    pub fn method(&self) -> &Method {
        &self.method
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn target(&self) -> Target<'_> {
        let of = |span| self.section.slice(span);
        match self.target {
            TargetSpans::Origin(path_and_query) => Target::Origin(of(path_and_query)),
            TargetSpans::Absolute { scheme, authority, path_and_query } => {
                Target::Absolute { scheme: of(scheme), authority: of(authority), path_and_query: of(path_and_query) }
            }
            TargetSpans::Authority(authority) => Target::Authority(of(authority)),
            TargetSpans::Asterisk => Target::Asterisk,
        }
    }

    /// Every field in its order: name in the case it was sent in, value without the space round it.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.section.iter()
    }

    /// The one `Host`: visible ASCII, not empty, for [`crate::names::Authority`] to judge. `None` in HTTP/1.0 only.
    pub fn host(&self) -> Option<&[u8]> {
        self.meaning.host.and_then(|index| self.section.value(index))
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// GET, HEAD, DELETE or OPTIONS with content. An origin that ignores the content would read it as the next request,
    /// one that no policy has seen: [`super::write_request`] says `close` for it, and its connection is not used again.
    pub fn has_unexpected_content(&self) -> bool {
        expects_no_content(&self.method) && self.framing.has_content()
    }

    /// Whether the client wants another request on this connection. `Proxy-Connection` is not a standard's word for it.
    pub fn keep_alive(&self) -> bool {
        self.meaning.persists(self.version)
    }

    /// The names listed in `Connection`, as sent: fields of those names end at this hop (RFC 9110 section 7.6.1).
    pub fn connection_options(&self) -> impl Iterator<Item = &[u8]> {
        self.section.list(b"connection")
    }

    /// The value of `Upgrade`, a list of protocols, where it counts (E20: never beside content).
    pub fn upgrade(&self) -> Option<&[u8]> {
        let counts = self.version == Version::Http11 && !self.framing.has_content() && self.method != Method::Connect;
        self.meaning.upgrade_index().filter(|_| counts).and_then(|index| self.section.value(index))
    }

    pub fn expectation(&self) -> Expectation {
        let asks = self.meaning.expects() && self.framing.has_content() && self.version == Version::Http11;
        if asks { Expectation::Continue } else { Expectation::None }
    }
}

impl std::fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("RequestHead");
        shown.field("method", &self.method).field("version", &self.version).field("framing", &self.framing);
        shown.field("fields", &self.section).finish_non_exhaustive()
    }
}
