//! What is particular to plain HTTP: how a request is looked at before it is decided, and the page that answers one.

use bytes::BytesMut;

use crate::http1::{Connection, Framing, RequestHead, Target, write_response};
use crate::reply::{Page, reason_phrase};

/// The path of a request, for the record.
pub(super) fn path(head: &RequestHead) -> &[u8] {
    match head.target() {
        Target::Origin(path) | Target::Absolute { path_and_query: path, .. } => path,
        Target::Authority(_) | Target::Asterisk => b"",
    }
}

/// A plain request that has been here before (RFC 9110 section 7.6.3; A17).
pub(super) fn is_loop(head: &RequestHead) -> bool {
    let via = head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"via"));
    via.into_iter().any(|(_, value)| value.split(|b| *b == b',').any(is_ours))
}

/// `received-protocol RWS received-by [ RWS comment ]`.
fn is_ours(hop: &[u8]) -> bool {
    let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.nth(1).is_some_and(|received_by| received_by.eq_ignore_ascii_case(b"sekisho"))
}

/// A page on plain HTTP; the connection ends behind it.
pub(super) fn page(page: &Page, head_only: bool) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(page.body.len() + 512);
    let via = ("via", String::from("1.1 sekisho"));
    let fields = page.fields.iter().chain([&via]).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let framing = Framing::Length(page.body.len() as u64);
    let phrase = reason_phrase(page.status).as_bytes();
    if let Err(error) = write_response(&mut out, page.status, phrase, fields, framing, Connection::Close) {
        tracing::error!(%error, status = page.status, "a page of our own could not be written");
    } else if !head_only {
        out.extend_from_slice(page.body.as_bytes());
    }
    out.to_vec()
}
