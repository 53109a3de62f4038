//! The response head (RFC 9112 sections 4 and 5): the reader and what it hands out.
//!
//! What may not be here: the meaning of fields (`framing`), content, what is told to the client.

use bytes::BytesMut;
use memchr::memchr;

use super::fields::{MAX_SPAN, Scanner, Section, Span, find, is_field_text};
use super::framing::{Framing, Meaning, Message};
use super::{HeadError, Limits, Method, Version};
use crate::reason::Reason;

/// Why a response was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the destination's answer: {0}")]
pub struct ResponseError(#[from] pub HeadError);

impl ResponseError {
    pub fn reason(&self) -> Reason {
        Reason::UpstreamMalformed
    }
}

/// Reads one response head after the other off a connection's buffer, as [`super::RequestReader`] does requests. Interim
/// responses (1xx) come one by one like any other: the caller bounds how many it takes.
#[derive(Debug, Default)]
pub struct ResponseReader {
    progress: Progress,
    failed: Option<ResponseError>,
}

#[derive(Debug, Default)]
struct Progress {
    line_scanned: usize,
    status_line: Option<StatusLine>,
    scanner: Scanner,
    meaning: Meaning,
}

#[derive(Debug, Clone, Copy)]
struct StatusLine {
    version: Version,
    status: u16,
    reason: Span,
}

/// A response head that has one reading. `Debug` shows field names, never values (K06).
#[derive(Clone)]
pub struct ResponseHead {
    section: Section,
    line: StatusLine,
    meaning: Meaning,
    framing: Framing,
    declared: Framing,
}

impl ResponseReader {
    /// Splits the next head off `buf`; what is glued behind it stays. `None`: more octets are needed. `request` is the
    /// method this answers, which decides whether content follows.
    ///
    /// # Errors
    /// [`ResponseError`], as early as it is certain; the same again on every later call.
    pub fn read(
        &mut self,
        buf: &mut BytesMut,
        request: &Method,
        limits: &Limits,
    ) -> Result<Option<ResponseHead>, ResponseError> {
        let read = match self.failed {
            Some(error) => Err(error),
            None => self.progress.read(buf, request, limits).map_err(ResponseError),
        };
        self.failed = read.as_ref().err().copied();
        read
    }
}

impl Progress {
    fn read(
        &mut self,
        buf: &mut BytesMut,
        request: &Method,
        limits: &Limits,
    ) -> Result<Option<ResponseHead>, HeadError> {
        let ceiling = limits.head.min(MAX_SPAN);
        let view = buf.get(..ceiling).unwrap_or(buf);
        let (Some(end), Some(line)) = (self.advance(view, limits)?, self.status_line) else {
            return if buf.len() >= ceiling { Err(HeadError::TooLarge) } else { Ok(None) };
        };
        let (framing, declared) = self.meaning.of_response(line.status, request, line.version)?;
        let Self { scanner, meaning, .. } = std::mem::take(self);
        let section = scanner.finish(buf.split_to(end).freeze());
        Ok(Some(ResponseHead { section, line, meaning, framing, declared }))
    }

    fn advance(&mut self, view: &[u8], limits: &Limits) -> Result<Option<usize>, HeadError> {
        if self.status_line.is_none() {
            let Some((line, end)) = self.status_line(view)? else {
                return Ok(None);
            };
            self.status_line = Some(line);
            self.scanner = Scanner::starting_at(end);
        }
        let meaning = &mut self.meaning;
        let note = |index, name: &[u8], value: &[u8]| meaning.note(Message::Response, index, name, value);
        self.scanner.advance(view, limits.fields, note)
    }

    /// `HTTP-version SP status-code [SP [reason-phrase]] CRLF`, and where it ends. The space behind the status code is
    /// missing at enough origins to be taken.
    fn status_line(&mut self, view: &[u8]) -> Result<Option<(StatusLine, usize)>, HeadError> {
        // All but the reason phrase has its place, so whatever is no HTTP/1 response is refused at once.
        const FORM: &[u8; 13] = b"HTTP/1.v s99\n";
        let fits = |(&is, &due): (&u8, &u8)| match due {
            b'v' => matches!(is, b'0' | b'1'),
            b's' => matches!(is, b'1'..=b'5'),
            b'9' => is.is_ascii_digit(),
            b'\n' => matches!(is, b' ' | b'\r'),
            _ => is == due,
        };
        if !view.iter().zip(FORM).all(fits) {
            return Err(HeadError::Malformed("the answer does not begin with HTTP/1.0 or HTTP/1.1 and a status code"));
        }
        let Some(at) = find(view.get(self.line_scanned..).unwrap_or_default(), |octets| memchr(b'\n', octets)) else {
            self.line_scanned = view.len();
            return Ok(None);
        };
        let end = self.line_scanned + at;
        let status = Span::new(9, 12).of(view).iter().fold(0u16, |n, b| n * 10 + u16::from(b - b'0'));
        let version = if view.get(7) == Some(&b'0') { Version::Http10 } else { Version::Http11 };
        let reason = match Span::new(12, end).of(view) {
            b"\r" => Span::default(),
            [b' ', text @ .., b'\r'] if is_field_text(text) => Span::new(13, end - 1),
            _ => return Err(HeadError::Malformed("the status line ends in a bare LF or holds a control character")),
        };
        Ok(Some((StatusLine { version, status, reason }, end + 1)))
    }
}

impl ResponseHead {
    pub fn version(&self) -> Version {
        self.line.version
    }

    /// 100 to 599.
    pub fn status(&self) -> u16 {
        self.line.status
    }

    /// Whether this is a 1xx other than 101: the answer proper is still to come.
    pub fn is_interim(&self) -> bool {
        matches!(self.line.status, 100 | 102..=199)
    }

    /// The reason phrase as it was sent, often empty.
    pub fn reason_phrase(&self) -> &[u8] {
        self.section.slice(self.line.reason)
    }

    /// Every field in its order: name in the case it was sent in, value without the space round it.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.section.iter()
    }

    /// How the content that follows ends.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The framing to pass on: as [`Self::framing`], but in answer to HEAD, and in a 304, what the fields say of the
    /// content that is left out.
    pub fn declared_framing(&self) -> Framing {
        self.declared
    }

    /// Whether the connection may take another request once the content has ended.
    pub fn keep_alive(&self) -> bool {
        let framed = self.framing != Framing::UntilClose && self.line.status != 101;
        framed && self.meaning.persists(self.line.version)
    }

    /// The names listed in `Connection`, as sent: fields of those names end at this hop (RFC 9110 section 7.6.1).
    pub fn connection_options(&self) -> impl Iterator<Item = &[u8]> {
        self.section.list(b"connection")
    }

    /// The protocol a 101 switches to, present exactly there. Whether it was asked for is the caller's to compare.
    pub fn upgrade(&self) -> Option<&[u8]> {
        let switches = self.line.status == 101;
        self.meaning.upgrade_index().filter(|_| switches).and_then(|index| self.section.value(index))
    }
}

impl std::fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ResponseHead");
        shown.field("status", &self.line.status).field("version", &self.line.version);
        shown.field("framing", &self.framing).field("fields", &self.section).finish_non_exhaustive()
    }
}
