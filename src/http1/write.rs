//! Writing messages: appended to a buffer, in the one form that has one reading.
//!
//! The writer alone writes `Host`, `Content-Length`, `Transfer-Encoding`, `Connection` and `Upgrade`, from its own
//! parameters; fields of those names (any case, `_` for `-`) among `fields` are skipped, so a caller may pass a head's own
//! fields on. It takes no text that would be read back as something else, whoever it comes from (E14, G10).
//!
//! What may not be here: which fields are passed on.

use std::num::NonZeroUsize;

use bytes::BytesMut;

use super::fields::{is_authority, is_field_text, is_target_octet, is_token, trim};
use super::framing::{Framing, expects_no_content, is_barred_from_trailers, is_protocol_list, is_writers_own};
use super::{MAX_LENGTH, Method};

/// Ends every chunk begun with [`begin_chunk`].
pub const CRLF: &[u8] = b"\r\n";

/// What a message says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection<'a> {
    /// Nothing: it persists, as HTTP/1.1 does.
    Persist,
    /// That it persists, to an HTTP/1.0 client that asked for it.
    KeepAlive,
    Close,
    /// That it switches, or asks to switch, to this list of protocols.
    Upgrade(&'a [u8]),
}

/// Why a message was not written; the buffer is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("the request target is not \"*\", a path or a query of visible ASCII, or \"*\" stands without OPTIONS")]
    Target,
    #[error("the host is not an authority")]
    Host,
    #[error("the status is not 100 to 599, or its reason phrase holds a control character")]
    Status,
    #[error("a field's name is not a token or its value holds a control character")]
    Field,
    #[error("the upgrade names no protocol, carries content, or is not that of a 101")]
    Upgrade,
    #[error("the framing does not fit the message")]
    Framing,
}

/// Appends a request head in origin-form (`*` for OPTIONS). `path_and_query` may be empty or begin with `?`, as an
/// absolute-form target may: the path is then `/`, or `*` for OPTIONS with nothing at all (RFC 9112 section 3.2.4).
/// A request with content its method has none of says `close` whatever `connection` is: an origin that ignores the content
/// must not read it as a request that no policy has seen ([`super::RequestHead::has_unexpected_content`]).
///
/// # Errors
/// [`WriteError`]. [`Framing::UntilClose`] is none of a request; CONNECT is not written, since it has no origin-form.
pub fn write_request<'f>(
    out: &mut BytesMut,
    method: &Method,
    path_and_query: &[u8],
    host: &str,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    framing: Framing,
    connection: Connection<'_>,
) -> Result<(), WriteError> {
    let options = *method == Method::Options;
    let (prefix, rest): (&[u8], &[u8]) = match path_and_query {
        _ if *method == Method::Connect => return Err(WriteError::Target),
        b"" | b"*" if options => (b"*", b""),
        b"" => (b"/", b""),
        [b'?', ..] => (b"/", path_and_query),
        [b'/', ..] => (b"", path_and_query),
        _ => return Err(WriteError::Target),
    };
    if !rest.iter().copied().all(is_target_octet) {
        return Err(WriteError::Target);
    }
    if !is_authority(host.as_bytes()) {
        return Err(WriteError::Host);
    }
    if framing == Framing::UntilClose || (*method == Method::Trace && framing.has_content()) {
        return Err(WriteError::Framing);
    }
    let connection = match connection {
        Connection::Upgrade(_) if framing.has_content() => return Err(WriteError::Upgrade),
        _ if expects_no_content(method) && framing.has_content() => Connection::Close,
        Connection::Persist | Connection::KeepAlive | Connection::Close | Connection::Upgrade(_) => connection,
    };
    whole_or_nothing(out, |out| {
        let start: [&[u8]; 7] =
            [method.as_str().as_bytes(), b" ", prefix, rest, b" HTTP/1.1\r\nHost: ", host.as_bytes(), CRLF];
        start.iter().for_each(|piece| out.extend_from_slice(piece));
        write_fields(out, fields, is_writers_own)?;
        write_framing(out, framing)?;
        write_connection(out, connection)
    })
}

/// Appends a response head. `framing` is what to declare: for answers to HEAD and for 304, [`Framing::Length`] of content
/// that will not follow is right ([`super::ResponseHead::declared_framing`]). [`Framing::UntilClose`] says `close` whatever
/// `connection` is.
///
/// # Errors
/// [`WriteError`]. 1xx and 204 declare no framing; 101 and only 101 comes with [`Connection::Upgrade`].
pub fn write_response<'f>(
    out: &mut BytesMut,
    status: u16,
    reason: &[u8],
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    framing: Framing,
    connection: Connection<'_>,
) -> Result<(), WriteError> {
    if !matches!(status, 100..=599) || !is_field_text(reason) {
        return Err(WriteError::Status);
    }
    if matches!(status, 100..=199 | 204) && framing != Framing::None {
        return Err(WriteError::Framing);
    }
    if (status == 101) != matches!(connection, Connection::Upgrade(_)) {
        return Err(WriteError::Upgrade);
    }
    let connection = if framing == Framing::UntilClose { Connection::Close } else { connection };
    whole_or_nothing(out, |out| {
        out.extend_from_slice(b"HTTP/1.1 ");
        write_decimal(out, u64::from(status));
        [b" ", reason, CRLF].iter().for_each(|piece| out.extend_from_slice(piece));
        write_fields(out, fields, is_writers_own)?;
        write_framing(out, framing)?;
        write_connection(out, connection)
    })
}

/// Appends what stands before a chunk of that many octets. The octets and [`CRLF`] must follow.
pub fn begin_chunk(out: &mut BytesMut, length: NonZeroUsize) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = (length.get() >> (4 * place)) & 0xf;
        out.extend_from_slice(&b"0123456789abcdef"[digit..=digit]);
    }
    out.extend_from_slice(CRLF);
}

/// Appends `data` as one chunk; nothing where it is empty, since an empty chunk is the last one.
pub fn write_chunk(out: &mut BytesMut, data: &[u8]) {
    if let Some(length) = NonZeroUsize::new(data.len()) {
        begin_chunk(out, length);
        out.extend_from_slice(data);
        out.extend_from_slice(CRLF);
    }
}

/// Appends the last chunk and the trailer section. Fields that may not stand there are skipped.
///
/// # Errors
/// [`WriteError::Field`].
pub fn write_last_chunk<'f>(
    out: &mut BytesMut,
    trailers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), WriteError> {
    whole_or_nothing(out, |out| {
        out.extend_from_slice(b"0\r\n");
        write_fields(out, trailers, is_barred_from_trailers)?;
        out.extend_from_slice(CRLF);
        Ok(())
    })
}

fn whole_or_nothing(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let before = out.len();
    let written = write(out);
    if written.is_err() {
        out.truncate(before);
    }
    written
}

fn write_fields<'f>(
    out: &mut BytesMut,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    is_skipped: fn(&[u8]) -> bool,
) -> Result<(), WriteError> {
    for (name, value) in fields {
        if is_skipped(name) {
            continue;
        }
        // Space round a value is none of it (RFC 9110 section 5.5), and HTTP/2 peers do send some.
        let value = trim(value);
        if !is_token(name) || !is_field_text(value) {
            return Err(WriteError::Field);
        }
        out.reserve(name.len() + value.len() + 4);
        [name, b": ", value, CRLF].iter().for_each(|piece| out.extend_from_slice(piece));
    }
    Ok(())
}

fn write_framing(out: &mut BytesMut, framing: Framing) -> Result<(), WriteError> {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) if length > MAX_LENGTH => return Err(WriteError::Framing),
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            write_decimal(out, length);
            out.extend_from_slice(CRLF);
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    Ok(())
}

/// The last field, and the empty line.
fn write_connection(out: &mut BytesMut, connection: Connection<'_>) -> Result<(), WriteError> {
    match connection {
        Connection::Persist => {}
        Connection::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Connection::Close => out.extend_from_slice(b"Connection: close\r\n"),
        Connection::Upgrade(protocols) => {
            if !is_protocol_list(protocols) {
                return Err(WriteError::Upgrade);
            }
            out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
            [protocols, b"\r\n"].iter().for_each(|piece| out.extend_from_slice(piece));
        }
    }
    out.extend_from_slice(CRLF);
    Ok(())
}

fn write_decimal(out: &mut BytesMut, mut number: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b"0123456789"[(number % 10) as usize];
        (number, first) = (number / 10, at);
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}
