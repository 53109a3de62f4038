//! The content behind a head (RFC 9112 sections 6 and 7): off the buffer without a copy, to the octet where it ends.
//!
//! What may not be here: heads, and what is done with content or trailers.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::fields::{Scanner, Section, is_field_text, is_token};
use super::framing::{Framing, is_barred_from_trailers};
use super::{HeadError, MAX_LENGTH};

/// Longest chunk-size line in octets, its CRLF included.
pub const MAX_CHUNK_LINE: usize = 256;
/// Chunk extensions of one message in octets, together (CVE-2023-39326: they are dropped, so nothing else bounds them).
pub const MAX_CHUNK_EXTENSIONS: usize = 16 * 1024;
/// The trailer section in octets, its empty line included.
pub const MAX_TRAILERS: usize = 8 * 1024;
/// Field lines of the trailer section.
pub const MAX_TRAILER_FIELDS: usize = 32;

/// Why content was refused. Nothing of the message may be passed on from there: close both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the chunked content is not unambiguous: {0}")]
    Malformed(&'static str),
    #[error("a chunk-size line is longer than 256 octets")]
    ChunkLineTooLong,
    #[error("the chunk extensions of the message exceed 16 KiB")]
    ExtensionsTooLarge,
    #[error("the trailer section exceeds 8 KiB or 32 fields")]
    TrailersTooLarge,
}

impl From<&'static str> for BodyError {
    fn from(why: &'static str) -> Self {
        Self::Malformed(why)
    }
}

/// The connection ended inside the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended before the content did")]
pub struct Truncated;

/// One step of reading content.
#[derive(Debug)]
pub enum Part {
    /// Content, never empty, without any framing.
    Data(Bytes),
    /// The buffer holds nothing more to read yet.
    NeedMore,
    /// The content has ended; what is left in the buffer is the next message's.
    End(Option<Trailers>),
}

/// The fields behind chunked content, at least one. `Debug` shows names only.
#[derive(Debug, Clone)]
pub struct Trailers(Section);

impl Trailers {
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.0.iter()
    }
}

/// Reads the content of one message.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    /// Octets of chunk extensions so far.
    extensions: usize,
}

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers(Scanner),
    Ended,
    Failed(BodyError),
}

/// Whether a step left octets to go on with.
enum Step {
    Part(Part),
    Again,
}

impl BodyReader {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkLine,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, extensions: 0 }
    }

    /// Whether nothing more belongs to the message, with its last octet taken.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Takes the next part off `buf`. Call until [`Part::NeedMore`] or [`Part::End`]; between calls `buf` may only grow.
    ///
    /// # Errors
    /// [`BodyError`]; the same again on every later call.
    pub fn advance(&mut self, buf: &mut BytesMut) -> Result<Part, BodyError> {
        loop {
            match self.step(buf) {
                Ok(Step::Part(part)) => return Ok(part),
                Ok(Step::Again) => {}
                Err(error) => {
                    self.state = State::Failed(error);
                    return Err(error);
                }
            }
        }
    }

    /// The connection ended in order (with close_notify, under TLS) and all it had brought was read.
    ///
    /// # Errors
    /// [`Truncated`] unless the content has ended, by its framing or by this.
    pub fn eof(&mut self) -> Result<(), Truncated> {
        match self.state {
            State::UntilClose | State::Ended => {
                self.state = State::Ended;
                Ok(())
            }
            State::Length(_) | State::ChunkLine | State::ChunkData(_) | State::ChunkEnd => Err(Truncated),
            State::Trailers(_) | State::Failed(_) => Err(Truncated),
        }
    }

    fn step(&mut self, buf: &mut BytesMut) -> Result<Step, BodyError> {
        match &mut self.state {
            State::Failed(error) => Err(*error),
            State::Ended => Ok(Step::Part(Part::End(None))),
            _ if buf.is_empty() => Ok(Step::Part(Part::NeedMore)),
            State::UntilClose => Ok(Step::Part(Part::Data(buf.split().freeze()))),
            State::Length(left) => {
                let data = take(left, buf);
                if *left == 0 {
                    self.state = State::Ended;
                }
                Ok(Step::Part(Part::Data(data)))
            }
            State::ChunkData(left) => {
                let data = take(left, buf);
                if *left == 0 {
                    self.state = State::ChunkEnd;
                }
                Ok(Step::Part(Part::Data(data)))
            }
            State::ChunkLine => self.chunk_line(buf),
            State::ChunkEnd => self.chunk_end(buf),
            State::Trailers(scanner) => {
                let Some(trailers) = trailers(scanner, buf)? else {
                    return Ok(Step::Part(Part::NeedMore));
                };
                self.state = State::Ended;
                Ok(Step::Part(Part::End(trailers)))
            }
        }
    }

    fn chunk_line(&mut self, buf: &mut BytesMut) -> Result<Step, BodyError> {
        // Looking again from its start costs a dribbled line at most 256 looks at each octet, however long the message is.
        let window = buf.get(..MAX_CHUNK_LINE).unwrap_or(buf);
        let Some(end) = memchr(b'\n', window) else {
            let long = window.len() >= MAX_CHUNK_LINE;
            return if long { Err(BodyError::ChunkLineTooLong) } else { Ok(Step::Part(Part::NeedMore)) };
        };
        let line = window.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").ok_or("a chunk-size line ends in a bare LF")?;
        let (size, extensions) = chunk_size(line)?;
        self.extensions += extensions.len();
        if self.extensions > MAX_CHUNK_EXTENSIONS {
            return Err(BodyError::ExtensionsTooLarge);
        }
        check_extensions(extensions)?;
        buf.advance(end + 1);
        self.state = if size == 0 { State::Trailers(Scanner::default()) } else { State::ChunkData(size) };
        Ok(Step::Again)
    }

    fn chunk_end(&mut self, buf: &mut BytesMut) -> Result<Step, BodyError> {
        match buf.as_ref() {
            [b'\r', b'\n', ..] => {
                buf.advance(2);
                self.state = State::ChunkLine;
                Ok(Step::Again)
            }
            [b'\r'] => Ok(Step::Part(Part::NeedMore)),
            _ => Err(BodyError::Malformed("a chunk does not end in CRLF where its size says")),
        }
    }
}

/// Up to `left` octets; `buf` is not empty.
fn take(left: &mut u64, buf: &mut BytesMut) -> Bytes {
    let length = usize::try_from(*left).map_or(buf.len(), |left| left.min(buf.len()));
    *left = left.saturating_sub(length as u64);
    buf.split_to(length).freeze()
}

/// `chunk-size [chunk-ext]`: the size, and the octets behind it.
fn chunk_size(line: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(digits);
    if digits.is_empty() || digits.len() > 16 {
        return Err("a chunk size does not have 1 to 16 hexadecimal digits");
    }
    if !matches!(rest.first(), None | Some(b';')) {
        return Err("a chunk size is followed by something else than ';' or CRLF");
    }
    let size = digits.iter().fold(0u64, |n, b| (n << 4) | u64::from(hex_value(*b)));
    if size > MAX_LENGTH {
        return Err("a chunk size is above 2^63 - 1");
    }
    Ok((size, rest))
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`, without the space that RFC 9112 section 7.1.1 lets old senders add.
fn check_extensions(mut rest: &[u8]) -> Result<(), &'static str> {
    const EXTENSION: &str = "a chunk extension is not ;name or ;name=value";
    while let Some(extension) = rest.strip_prefix(b";") {
        let name = extension.iter().position(|b| matches!(b, b'=' | b';')).unwrap_or(extension.len());
        let (name, tail) = extension.split_at(name);
        if !is_token(name) {
            return Err(EXTENSION);
        }
        rest = match tail {
            [b'=', b'"', quoted @ ..] => behind_quote(quoted).ok_or(EXTENSION)?,
            [b'=', value @ ..] => {
                let end = value.iter().position(|&b| b == b';').unwrap_or(value.len());
                let (value, tail) = value.split_at(end);
                if !is_token(value) {
                    return Err(EXTENSION);
                }
                tail
            }
            _ => tail,
        };
    }
    if rest.is_empty() { Ok(()) } else { Err(EXTENSION) }
}

/// What follows the closing quote of a quoted-string (RFC 9110 section 5.6.4) whose opening one is taken.
fn behind_quote(mut quoted: &[u8]) -> Option<&[u8]> {
    loop {
        quoted = match quoted {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_field_text(&[*escaped]) => rest,
            [b'\\', ..] | [] => return None,
            [plain, rest @ ..] if is_field_text(&[*plain]) => rest,
            _ => return None,
        };
    }
}

/// The trailer section, if all of it is there: `Some(None)` where it is empty, as it mostly is.
fn trailers(scanner: &mut Scanner, buf: &mut BytesMut) -> Result<Option<Option<Trailers>>, BodyError> {
    let view = buf.get(..MAX_TRAILERS).unwrap_or(buf);
    let full = view.len() >= MAX_TRAILERS;
    let note = |_: usize, name: &[u8], _: &[u8]| match is_barred_from_trailers(name) {
        true => Err("a trailer field frames the message, routes it or steers the connection"),
        false => Ok(()),
    };
    let end = scanner.advance(view, MAX_TRAILER_FIELDS, note).map_err(|error| match error {
        HeadError::Malformed(why) => BodyError::Malformed(why),
        HeadError::TooManyFields | HeadError::TooLarge | HeadError::TargetTooLong => BodyError::TrailersTooLarge,
    })?;
    let Some(end) = end else {
        return if full { Err(BodyError::TrailersTooLarge) } else { Ok(None) };
    };
    let bytes = buf.split_to(end).freeze();
    let scanner = std::mem::take(scanner);
    Ok(Some((!scanner.is_empty()).then(|| Trailers(scanner.finish(bytes)))))
}
