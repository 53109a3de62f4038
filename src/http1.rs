//! HTTP/1 as sekisho reads and writes it: strict, bounded, sans-IO. Bytes in a `BytesMut`, heads and body parts out.
//!
//! A message that is not provably unambiguous is an error; nothing is repaired, because what two readers repair differently
//! is what smuggles a request past one of them (`threats.md` group E). What goes out is serialised anew from the parsed form
//! with exactly one framing. [`RequestReader`] and [`ResponseReader`] split a head off the buffer and leave what is glued
//! behind it there; [`BodyReader`] takes the content; `write_*` append.
//!
//! What may not be here: I/O, clocks, names (`Host` and authorities are handed out raw, for [`crate::names`]), and any policy
//! over fields (hop-by-hop removal, tenant headers).
//!
//! Where the RFCs leave a choice, this is what was chosen:
//! * Lines end in CRLF only. One empty line before a request line is skipped (RFC 9112 section 2.2), a second is an error.
//! * A method is a token of at most [`MAX_METHOD`] octets without lower-case letters.
//! * A request target is visible ASCII without `#`; authority-form with CONNECT and only there, `*` with OPTIONS only.
//! * HTTP/1.1 has exactly one `Host`, CONNECT too (RFC 9112 section 3.2); HTTP/1.0 may have none.
//! * `Content-Length` stands at most once, in its shortest decimal form, and is at most [`MAX_LENGTH`];
//!   `Transfer-Encoding` at most once, is `chunked` in any case, and never beside `Content-Length` or in HTTP/1.0.
//!   `Content_Length` and `Transfer_Encoding` are errors: some origins read `_` as `-`.
//! * Any method may carry content but TRACE and CONNECT (`Content-Length: 0` is no content). GET, HEAD, DELETE and OPTIONS
//!   with content say so by [`RequestHead::has_unexpected_content`].
//! * `Expect` is `100-continue`, once, on a message with framing; beside `Content-Length: 0`, and in HTTP/1.0, it asks for nothing.
//! * `Connection` has at most 64 options, empty ones counted.
//! * `Upgrade` counts in HTTP/1.1, named by `Connection`, and without content; else it is as if it were not there.
//! * 1xx, 204 and 2xx to CONNECT may carry `Content-Length: 0`, no other framing. 101 names its protocol, once.
//! * Chunk sizes have 1 to 16 hexadecimal digits and no space; extensions are checked, bounded and dropped.
//! * A trailer field that frames, routes or steers the connection is an error.

mod body;
mod date;
mod fields;
mod framing;
mod request;
mod response;
mod write;

use crate::reason::Reason;

pub use body::{BodyError, BodyReader, MAX_CHUNK_EXTENSIONS, MAX_CHUNK_LINE, MAX_TRAILER_FIELDS, MAX_TRAILERS};
pub use body::{Part, Trailers, Truncated};
pub use date::http_date;
pub use framing::{Expectation, Framing};
pub use request::{RequestHead, RequestReader, Target};
pub use response::{ResponseError, ResponseHead, ResponseReader};
pub use write::{CRLF, Connection, WriteError};
pub use write::{begin_chunk, write_chunk, write_last_chunk, write_request, write_response};

/// Longest method in octets. The longest registered one has 17.
pub const MAX_METHOD: usize = 32;
/// Largest length of a body or a chunk in octets: 2^63 - 1, the most that every reader of 64 bits, signed or not, agrees on.
pub const MAX_LENGTH: u64 = i64::MAX.unsigned_abs();

/// What a head may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the whole head, the empty line behind it included.
    pub head: usize,
    /// Field lines.
    pub fields: usize,
    /// Octets of the request target.
    pub target: usize,
}

impl Limits {
    pub const HEAD: usize = 64 * 1024;
    pub const FIELDS: usize = 128;
    pub const TARGET: usize = 16 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Self::HEAD, fields: Self::FIELDS, target: Self::TARGET }
    }
}

/// Why a head was refused. A reader that has refused once refuses from then on: answer and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the head is larger than its limit")]
    TooLarge,
    #[error("the head has more field lines than its limit")]
    TooManyFields,
    #[error("the request target is longer than its limit")]
    TargetTooLong,
    #[error("the head is not unambiguous HTTP/1: {0}")]
    Malformed(&'static str),
}

impl HeadError {
    /// The reason of a refused request.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLarge | Self::TooManyFields | Self::TargetTooLong => Reason::HeadTooLarge,
            Self::Malformed(_) => Reason::MalformedRequest,
        }
    }
}

impl From<&'static str> for HeadError {
    fn from(why: &'static str) -> Self {
        Self::Malformed(why)
    }
}

/// The two versions that are read. What is written is always HTTP/1.1 (RFC 9112 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    Http10,
    Http11,
}

/// A request method (RFC 9110 section 9). Case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other(ExtensionMethod),
}

/// A method without a variant of its own; made only by [`Method::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExtensionMethod(Box<str>);

impl Method {
    /// # Errors
    /// [`HeadError::Malformed`] if `token` is not a token of 1 to [`MAX_METHOD`] octets without lower-case letters.
    pub fn parse(token: &[u8]) -> Result<Self, HeadError> {
        Ok(match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ if token.is_empty() => return Err(HeadError::Malformed("the method is empty")),
            _ if token.len() > MAX_METHOD => return Err(HeadError::Malformed("the method is longer than 32 octets")),
            _ if !token.iter().copied().all(fields::is_method_octet) => return Err(HeadError::Malformed(METHOD)),
            _ => Self::Other(ExtensionMethod(String::from_utf8_lossy(token).into())),
        })
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(method) => &method.0,
        }
    }
}

const METHOD: &str = "the method is not a token in upper case followed by one space";

#[cfg(test)]
mod body_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod response_tests;
#[cfg(test)]
mod write_tests;
