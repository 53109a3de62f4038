//! The types of the fields' values: what is cut, what is masked, and how each is written.
//!
//! A value that came from the wire passes one of these types, and what must never be in a record (a query, a password) is
//! taken out where the value is made, not where it is written. Which fields there are is in `fields`, the escaping in `line`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};

use crate::addrs::{BalancerAddr, ListenAddr, OriginalAddr};
use crate::names::{Authority, DnsName};
use crate::reason::{Outcome, Reason, Side};
use crate::record::line;

/// The longest text that is kept whole, in octets. Longer ones are cut and marked, so that a line stays bounded whatever a
/// client sends (attack K01).
pub const LONGEST_TEXT: usize = 1024;

/// How a type of ours stands in a line.
pub(super) trait Value {
    /// The type in the words of the Elastic field reference.
    const KIND: &'static str;

    /// Appends the value as JSON. May not panic: it runs in a guard's `Drop`.
    fn write(&self, out: &mut Vec<u8>);
}

/// Text of any origin. Bytes that are not UTF-8 become U+FFFD; what is longer than [`LONGEST_TEXT`] is cut and ends in
/// `…[cut N bytes, sha256 xxxxxxxx]`: how many bytes are missing, and the beginning of the hash of the whole value, by which two
/// cut values can be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(Arc<str>);

impl Text {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text {
    /// A text that was cut when it was made.
    pub(super) fn whole(text: &str) -> Self {
        /// A cut one and its mark.
        const LONGEST: usize = LONGEST_TEXT + 64;
        if text.len() <= LONGEST { Self(text.into()) } else { Self::from(text) }
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() <= LONGEST_TEXT {
            let text = std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
            return Self(text.into());
        }
        let head = whole_characters(bytes);
        let hash: String = digest(&SHA256, bytes).as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let cut = bytes.len().saturating_sub(head.len());
        Self(format!("{}…[cut {cut} bytes, sha256 {hash}]", String::from_utf8_lossy(head)).into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if text.len() <= LONGEST_TEXT { Self(text.into()) } else { Self::from(text.as_bytes()) }
    }
}

/// For what is made once and recorded often (a rule's name, a revision): no copy.
impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        if text.len() <= LONGEST_TEXT { Self(text) } else { Self::from(text.as_bytes()) }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<&DnsName> for Text {
    fn from(name: &DnsName) -> Self {
        Self::from(name.shared())
    }
}

impl Value for Text {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        line::string(out, &self.0);
    }
}

/// The first [`LONGEST_TEXT`] octets of `bytes`, or up to three fewer where the cut would split a character.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    let is_inside = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (LONGEST_TEXT - 3..=LONGEST_TEXT).rev().find(|at| !is_inside(at)).unwrap_or(LONGEST_TEXT);
    bytes.get(..end).unwrap_or(bytes)
}

/// The path of a request. The query and the fragment carry what people type and what sessions are made of, and are dropped
/// here (attack K06): a value of this type cannot hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPath(Text);

impl From<&[u8]> for UrlPath {
    /// `target` is the request target in origin form, or a path.
    fn from(target: &[u8]) -> Self {
        Self(before_query(target).into())
    }
}

impl From<&str> for UrlPath {
    fn from(target: &str) -> Self {
        Self::from(target.as_bytes())
    }
}

impl Value for UrlPath {
    const KIND: &'static str = Text::KIND;

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

/// The authority or URI a client asked for, well formed or not. What follows the first `:` of user information is never shown
/// (RFC 3986 section 3.2.1) and becomes `***`; a query or fragment becomes `…` behind its `?` or `#`, which stays as evidence
/// (attacks C07, C08, K06).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedAuthority(Text);

impl From<&[u8]> for AskedAuthority {
    fn from(bytes: &[u8]) -> Self {
        // The password first: it may hold a `?` itself. Where an `@` stands in the query, more is masked than need be.
        let masked = without_password(bytes);
        let shown = before_query(&masked);
        match masked.get(shown.len()) {
            None => Self(shown.into()),
            Some(mark) => Self([shown, &[*mark], "…".as_bytes()].concat().as_slice().into()),
        }
    }
}

impl From<&str> for AskedAuthority {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl AskedAuthority {
    /// One that was masked when it was made.
    pub(super) fn shown(text: Text) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<&Authority> for AskedAuthority {
    fn from(authority: &Authority) -> Self {
        Self(authority.to_string().into())
    }
}

impl Value for AskedAuthority {
    const KIND: &'static str = Text::KIND;

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

fn before_query(target: &[u8]) -> &[u8] {
    target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

/// `scheme://user:password@rest` and `user:password@rest` with `***` for the password.
fn without_password(asked: &[u8]) -> Cow<'_, [u8]> {
    let Some(at) = asked.iter().rposition(|&byte| byte == b'@') else { return asked.into() };
    let (before, rest) = asked.split_at(at);
    let user_from = before.windows(3).position(|three| three == b"://").map_or(0, |scheme| scheme.saturating_add(3));
    let (scheme, user_information) = before.split_at(user_from);
    match user_information.iter().position(|&byte| byte == b':') {
        None => asked.into(),
        Some(colon) => [scheme, user_information.get(..=colon).unwrap_or_default(), b"***", rest].concat().into(),
    }
}

/// Names of header fields, never their values. Made once per rule; cloning is cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Arc<[Text]>);

impl<T: Into<Text>> FromIterator<T> for Names {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl Value for Names {
    const KIND: &'static str = "keyword[]";

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, name) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            name.write(out);
        }
        out.push(b']');
    }
}

/// A word of one of our own closed lists: letters and `_`.
impl Value for &'static str {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        line::string(out, self);
    }
}

impl Value for Outcome {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

impl Value for Reason {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

impl Value for Side {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        self.as_str().write(out);
    }
}

impl Value for u64 {
    const KIND: &'static str = "long";

    fn write(&self, out: &mut Vec<u8>) {
        line::number(out, *self);
    }
}

impl Value for u32 {
    const KIND: &'static str = "long";

    fn write(&self, out: &mut Vec<u8>) {
        u64::from(*self).write(out);
    }
}

/// The number of a user, which ECS has as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserId(pub u32);

impl Value for UserId {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        line::string(out, &self.0.to_string());
    }
}

impl Value for u16 {
    const KIND: &'static str = "long";

    fn write(&self, out: &mut Vec<u8>) {
        line::number(out, u64::from(*self));
    }
}

/// Nanoseconds; 584 years are the longest.
impl Value for Duration {
    const KIND: &'static str = "long";

    fn write(&self, out: &mut Vec<u8>) {
        line::number(out, u64::try_from(self.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Value for IpAddr {
    const KIND: &'static str = "ip";

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        address(out, *self);
        out.push(b'"');
    }
}

fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (place, octet) in ip.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                line::number(out, u64::from(octet));
            }
        }
        IpAddr::V6(ip) => line::plain(out, ip),
    }
}

/// As its [`Display`](std::fmt::Display) has it.
impl Value for ListenAddr {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        endpoint(out, self.socket());
    }
}

impl Value for OriginalAddr {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        endpoint(out, self.socket());
    }
}

impl Value for BalancerAddr {
    const KIND: &'static str = "keyword";

    fn write(&self, out: &mut Vec<u8>) {
        endpoint(out, self.socket());
    }
}

fn endpoint(out: &mut Vec<u8>, socket: SocketAddr) {
    let (before, behind) = if socket.is_ipv4() { (&b"\""[..], &b":"[..]) } else { (&b"\"["[..], &b"]:"[..]) };
    out.extend_from_slice(before);
    address(out, socket.ip());
    out.extend_from_slice(behind);
    line::number(out, u64::from(socket.port()));
    out.push(b'"');
}

impl Value for SystemTime {
    const KIND: &'static str = "date";

    fn write(&self, out: &mut Vec<u8>) {
        line::timestamp(out, *self);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn k01_text_is_cut_just_above_its_limit() {
        let whole = "a".repeat(LONGEST_TEXT);
        assert_eq!(Text::from(whole.as_str()).as_str(), whole);
        assert_eq!(Text::from(Arc::<str>::from(whole.as_str())).as_str(), whole);

        let longer = format!("{whole}b");
        let cut = format!("{whole}…[cut 1 bytes, sha256 d9a41d9b]");
        assert_eq!(Text::from(longer.as_str()).as_str(), cut);
        assert_eq!(Text::from(Arc::<str>::from(longer.as_str())).as_str(), cut);
    }

    #[test]
    fn k01_a_cut_never_splits_a_character_and_takes_any_bytes() {
        for shift in 0..4 {
            let text = format!("{}{}", "a".repeat(shift), "🚧".repeat(400));
            let cut = Text::from(text.as_str());
            assert!(!cut.as_str().contains('\u{fffd}'), "shift {shift}");
            assert!(cut.as_str().contains("🚧…[cut "), "shift {shift}");
        }
        let hostile = Text::from([0x80u8; 65_536].as_slice());
        assert!(hostile.as_str().contains("…[cut 64512 bytes, sha256 "));
        assert_eq!(Text::from([b'a', 0xff, b'b'].as_slice()).as_str(), "a\u{fffd}b");
    }

    #[test]
    fn k06_a_path_never_holds_a_query_or_fragment() {
        let rows = [
            ("/a/b", "/a/b"),
            ("/a?token=canary", "/a"),
            ("/a#canary", "/a"),
            ("/a#x?canary", "/a"),
            ("?canary", ""),
            ("", ""),
            ("*", "*"),
        ];
        for (target, shown) in rows {
            assert_eq!(UrlPath::from(target).0.as_str(), shown, "{target}");
        }
    }

    #[test]
    fn k06_an_authority_shows_no_password_and_no_query() {
        let rows = [
            ("allowed.test:443", "allowed.test:443"),
            ("user:canary@allowed.test:443", "user:***@allowed.test:443"),
            ("user:can@ary@allowed.test:443", "user:***@allowed.test:443"),
            ("user:can?ary@allowed.test:443", "user:***@allowed.test:443"),
            ("user:canary@", "user:***@"),
            (":canary@x", ":***@x"),
            ("user@allowed.test:443", "user@allowed.test:443"),
            ("http://user:canary@allowed.test/p", "http://user:***@allowed.test/p"),
            ("http://allowed.test/p?canary=1", "http://allowed.test/p?…"),
            ("http://allowed.test:80/p?canary=@", "http://allowed.test:***@"),
            ("denied.test#.allowed.test", "denied.test#…"),
            ("[::1]:443", "[::1]:443"),
        ];
        for (asked, shown) in rows {
            assert_eq!(AskedAuthority::from(asked).0.as_str(), shown, "{asked}");
        }
    }

    #[test]
    fn a_listener_stands_as_an_administrator_writes_it() {
        for address in ["192.0.2.1:3128", "0.0.0.0:65535", "[2001:db8::1]:80", "[::]:3128"] {
            let mut out = Vec::new();
            ListenAddr::new(address.parse().expect("an address")).write(&mut out);
            assert_eq!(out, format!("\"{address}\"").as_bytes());
        }
    }

    proptest! {
        #[test]
        fn k01_a_parser_gives_back_the_decoded_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..LONGEST_TEXT)) {
            let mut out = Vec::new();
            Text::from(bytes.as_slice()).write(&mut out);
            let back: String = serde_json::from_slice(&out).expect("JSON");
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
