//! Field lines (RFC 9112 section 5) and the classes of octets they are made of. Shared by heads and trailers.
//!
//! What may not be here: what a field means.

use std::fmt;

use bytes::Bytes;
use memchr::memchr;

use super::HeadError;

/// A range within a head. 32 bits, since readers never look further than that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

/// The furthest octet a [`Span`] can name.
pub(super) const MAX_SPAN: usize = u32::MAX as usize;

impl Span {
    /// Both at most [`MAX_SPAN`]: saturates beyond, which no reader reaches.
    pub(super) fn new(start: usize, end: usize) -> Self {
        let short = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: short(start), end: short(end) }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy)]
struct Line {
    name: Span,
    value: Span,
}

/// The octets of a head or a trailer section, and where its fields lie in them.
#[derive(Clone, Default)]
pub(super) struct Section {
    bytes: Bytes,
    lines: Vec<Line>,
}

impl Section {
    pub(super) fn slice(&self, span: Span) -> &[u8] {
        span.of(&self.bytes)
    }

    pub(super) fn value(&self, index: usize) -> Option<&[u8]> {
        self.lines.get(index).map(|line| self.slice(line.value))
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.lines.iter().map(|line| (self.slice(line.name), self.slice(line.value)))
    }

    /// The elements of every field of that name, read as a comma-separated list.
    pub(super) fn list(&self, name: &'static [u8]) -> impl Iterator<Item = &[u8]> {
        let values = self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        values.flat_map(list)
    }
}

/// Names only: values hold credentials (K06).
impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

/// Reads field lines up to the empty line, over as many calls as it takes; no octet is looked for a line end twice.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    lines: Vec<Line>,
    line_start: usize,
    scanned: usize,
}

impl Scanner {
    /// A scanner for fields that begin at `at`.
    pub(super) fn starting_at(at: usize) -> Self {
        // Heads of browsers have 10 to 25 fields.
        Self { lines: Vec::with_capacity(32), line_start: at, scanned: at }
    }

    /// `view` begins where the section does and only ever grows. Tells `note` of each field: its index, name and value.
    /// Returns where the octets behind the empty line begin, or `None` if it is not there yet.
    pub(super) fn advance(
        &mut self,
        view: &[u8],
        max_fields: usize,
        mut note: impl FnMut(usize, &[u8], &[u8]) -> Result<(), &'static str>,
    ) -> Result<Option<usize>, HeadError> {
        loop {
            let unread = view.get(self.scanned..).unwrap_or_default();
            let Some(at) = find(unread, |octets| memchr(b'\n', octets)) else {
                self.scanned = view.len();
                return Ok(None);
            };
            let (start, end) = (self.line_start, self.scanned + at);
            (self.line_start, self.scanned) = (end + 1, end + 1);
            let line = Span::new(start, end).of(view).strip_suffix(b"\r").ok_or("a field line ends in a bare LF")?;
            if line.is_empty() {
                return Ok(Some(end + 1));
            }
            if self.lines.len() >= max_fields {
                return Err(HeadError::TooManyFields);
            }
            let line = field_line(line, start)?;
            note(self.lines.len(), line.name.of(view), line.value.of(view))?;
            self.lines.push(line);
        }
    }

    /// The section, `bytes` being all of it.
    pub(super) fn finish(self, bytes: Bytes) -> Section {
        Section { bytes, lines: self.lines }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// `field-name ":" OWS field-value OWS` without its CRLF, `start` octets into the section.
fn field_line(line: &[u8], start: usize) -> Result<Line, &'static str> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a field line begins with a space (obs-fold)");
    }
    let colon = line.iter().position(|&b| !is_token_octet(b)).ok_or("a field line has no colon")?;
    let (name, rest) = line.split_at(colon);
    let value = rest.strip_prefix(b":").ok_or("a field name is not a token followed by a colon")?;
    if name.is_empty() {
        return Err("a field name is empty");
    }
    if !is_field_text(value) {
        return Err("a field value holds a control character");
    }
    let left = value.len() - trim_start(value).len();
    let from = start + colon + 1 + left;
    let length = trim(value).len();
    Ok(Line { name: Span::new(start, start + colon), value: Span::new(from, from + length) })
}

/// The elements of a comma-separated list (RFC 9110 section 5.6.1), empty ones left out.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|element| !element.is_empty())
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Takes off OWS: space and tab, nothing else that `trim` elsewhere takes for white.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = trim_start(bytes);
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// `search(octets)`, counted in tests: that no octet is looked at again and again is asserted there without a clock (H08).
pub(super) fn find(octets: &[u8], search: impl FnOnce(&[u8]) -> Option<usize>) -> Option<usize> {
    let found = search(octets);
    #[cfg(test)]
    LOOKED_AT.set(LOOKED_AT.get() + found.map_or(octets.len(), |at| at + 1));
    found
}

#[cfg(test)]
thread_local! {
    pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// `tchar` of RFC 9110 section 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        let b = at as u8;
        table[at] = b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(b, b'^' | b'_' | b'`' | b'|' | b'~');
        at += 1;
    }
    table
};

pub(super) fn is_token_octet(b: u8) -> bool {
    TOKEN[usize::from(b)]
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_octet)
}

pub(super) fn is_method_octet(b: u8) -> bool {
    is_token_octet(b) && !b.is_ascii_lowercase()
}

/// What may stand in a request target: visible ASCII without `#`, which no request has.
pub(super) fn is_target_octet(b: u8) -> bool {
    b.is_ascii_graphic() && b != b'#'
}

/// What may stand in an authority before [`crate::names`] judges it: no second value, no user information, no path.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    let may_stand = |b: &u8| is_target_octet(*b) && !matches!(b, b',' | b'@' | b'/' | b'?' | b'\\');
    !bytes.is_empty() && bytes.iter().all(may_stand)
}

/// HTAB, SP, VCHAR and obs-text (RFC 9110 section 5.5). Sixteen octets at a time, the last ones too: most values are short.
pub(super) fn is_field_text(bytes: &[u8]) -> bool {
    let is_text =
        |block: &[u8; 16]| !block.iter().fold(false, |bad, &b| bad | ((b < b' ') & (b != b'\t')) | (b == 0x7f));
    let (blocks, rest) = bytes.as_chunks();
    let mut last = [b' '; 16];
    last[..rest.len()].copy_from_slice(rest);
    blocks.iter().all(is_text) && is_text(&last)
}

#[cfg(test)]
mod tests {
    use super::is_field_text;

    /// Values are looked at in blocks of sixteen: what may not stand in them is found wherever it does.
    #[test]
    fn e14_a_control_character_is_found_at_every_place() {
        for length in 0..40 {
            for place in 0..length {
                let mut value = vec![b'a'; length];
                for octet in 0..=u8::MAX {
                    value[place] = octet;
                    let is_text = octet == b'\t' || (octet >= b' ' && octet != 0x7f);
                    assert_eq!(is_field_text(&value), is_text, "{octet} at {place} of {length}");
                }
            }
        }
        assert!(is_field_text(b""));
    }
}
