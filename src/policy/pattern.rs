//! Host patterns: the grammar, the normal form, how wide one reaches, and whether one matches a name.
//!
//! A pattern is read label by label on the normal form of a name. A literal label is that label; a leading `*.` is one or more
//! labels; a whole `*` anywhere else is exactly one label; a `*` within a label is zero or more characters, never a dot.
//!
//! What may not be here: which of several patterns wins (`table`), what a pattern permits (`decision`).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use psl::{Psl, Type};

use crate::names::{DnsName, MAX_LABEL, MAX_NAME, NameError};

/// Why a text is not a host pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern is empty")]
    Empty,
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("only the name is due here: no scheme, port or path (ports stand in `ports`)")]
    NotOnlyAName,
    #[error("two stars in a row: write '*.' in front for one or more labels, '*' within a label for any characters")]
    StarsInARow,
    #[error("a label with a star takes only ASCII letters, digits, '-' and '_' beside it (write xn-- labels as such)")]
    StarLabel,
    #[error("an IP address is never a host pattern: list the name the service is reached by")]
    IpLiteral,
    #[error(
        "names at or under lgwan.jp never leave by the breakout: remove it, LGWAN-ASP is reached on the LGWAN side"
    )]
    Lgwan,
    #[error(
        "cloudflare-ech.com is the outer name of encrypted hellos for every site behind it: list the sites themselves"
    )]
    EchOuter,
}

/// Names that no pattern may permit, however wide it is (`allow_broad` included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// LGWAN-ASP is reached on the LGWAN side; by the breakout the same name would be somebody else's.
    Lgwan,
    /// The public outer name of Encrypted ClientHello: agreeing with it says nothing about the inner name (D10).
    EchOuter,
}

impl Forbidden {
    pub(super) fn of(name: &DnsName) -> Option<Self> {
        if name.is_within("lgwan.jp") {
            return Some(Self::Lgwan);
        }
        name.is_within("cloudflare-ech.com").then_some(Self::EchOuter)
    }
}

/// How wide a pattern reaches, measured on its fixed suffix and the Public Suffix List the binary was built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breadth {
    /// At most what one registrant holds.
    Fine,
    /// At or above an ICANN public suffix: the names of strangers. Carries the fixed suffix, empty where there is none.
    /// A single label is here too, in the list or not: nothing tells a bare `localhost` from a top-level domain.
    AboveIcann(String),
    /// At a suffix whose owner gives the names below it to others (`github.io`). Carries the fixed suffix.
    PrivateSuffix(String),
}

/// A host pattern in its normal form: lower case, A-labels, no trailing dot. Equality of patterns is equality of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern(Arc<str>);

impl HostPattern {
    /// Reads a pattern as the configuration writes it; U-labels become A-labels, one trailing dot goes.
    ///
    /// # Errors
    /// [`PatternError`]; a pattern that no name could ever match is an error too.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if is_address(text) {
            return Err(PatternError::IpLiteral);
        }
        if text.contains([':', '/']) {
            return Err(PatternError::NotOnlyAName);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let labels: Vec<&str> = text.split('.').collect();
        let mut normal = String::with_capacity(text.len());
        let mut rest = labels.as_slice();
        while let Some((first, behind)) = rest.split_first() {
            if first.contains('*') {
                push_star_label(&mut normal, first)?;
                rest = behind;
            } else {
                let run = rest.iter().take_while(|label| !label.contains('*')).count();
                let (literals, behind) = rest.split_at(run);
                push_literals(&mut normal, literals, behind.is_empty())?;
                rest = behind;
            }
        }
        // A whole star stands for one character at least.
        let shortest: usize = normal.split('.').map(|label| 1 + literal_len(label).max(1)).sum();
        if shortest > MAX_NAME + 1 {
            return Err(NameError::TooLong.into());
        }
        Ok(Self(normal.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The literal labels right of the rightmost label with a star; the whole name of an exact pattern; may be empty.
    pub fn fixed_suffix(&self) -> &str {
        let (_, tail) = self.split_at_tail();
        tail.strip_prefix('.').unwrap_or(tail)
    }

    /// The labels up to the rightmost with a star, and the literal rest with the dot before it: `a.*` and `.example.com`, `*` and
    /// nothing, nothing and a whole exact pattern.
    pub(super) fn split_at_tail(&self) -> (&str, &str) {
        let label = self.0.rfind('*').map_or(0, |star| star + 1);
        let tail = if label == 0 { 0 } else { self.0[label..].find('.').map_or(self.0.len(), |dot| label + dot) };
        self.0.split_at(tail)
    }

    /// Whether there is a star in it.
    pub fn is_wildcard(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether it matches exactly one name.
    pub fn is_exact(&self) -> bool {
        !self.is_wildcard()
    }

    pub fn breadth(&self) -> Breadth {
        let fixed = self.fixed_suffix();
        if !fixed.contains('.') {
            return Breadth::AboveIcann(fixed.to_owned());
        }
        // With a label in front, a rule such as `*.kawasaki.jp` shows too: what stands above suffixes without being one.
        let probe = format!("sekisho-probe.{fixed}");
        match psl::List.suffix(probe.as_bytes()) {
            Some(suffix) if suffix.as_bytes().len() >= fixed.len() => match suffix.typ() {
                Some(Type::Private) => Breadth::PrivateSuffix(fixed.to_owned()),
                Some(Type::Icann) | None => Breadth::AboveIcann(fixed.to_owned()),
            },
            Some(_) | None => Breadth::Fine,
        }
    }

    /// Whether this one pattern matches `name`, whatever other patterns there are.
    pub fn matches(&self, name: &DnsName) -> bool {
        let mut labels = name.labels_from_right();
        for pattern in labels_from_right(&self.0) {
            let Some(label) = labels.next() else { return false };
            match pattern {
                LabelPattern::Literal(text) if text != label => return false,
                LabelPattern::Partial(partial) if !partial.matches(label) => return false,
                LabelPattern::Literal(_) | LabelPattern::Partial(_) | LabelPattern::One => {}
                LabelPattern::Leading => return true,
            }
        }
        labels.next().is_none()
    }
}

/// Whether it is a top-level domain of the Public Suffix List: `jp` is one, `local` is none.
pub fn is_top_level(name: &DnsName) -> bool {
    !name.as_str().contains('.') && psl::List.suffix(name.as_str().as_bytes()).is_some_and(|suffix| suffix.is_known())
}

/// Labels of a pattern, or of its left part, from the right: the order in which policy reads them.
pub(super) fn labels_from_right(pattern: &str) -> impl Iterator<Item = LabelPattern<'_>> {
    let mut labels = pattern.rsplit('.').peekable();
    std::iter::from_fn(move || {
        let label = labels.next()?;
        Some(match label {
            "*" if labels.peek().is_none() => LabelPattern::Leading,
            "*" => LabelPattern::One,
            _ if label.contains('*') => LabelPattern::Partial(PartialLabel(label)),
            _ => LabelPattern::Literal(label),
        })
    })
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One label of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelPattern<'a> {
    Literal(&'a str),
    Partial(PartialLabel<'a>),
    /// A whole `*` that is not the leftmost label.
    One,
    /// A whole `*` in front: this label and everything left of it.
    Leading,
}

/// A label with a star and at least one literal character: `*cdn`, `a*b`, `a*b*c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartialLabel<'a>(pub(super) &'a str);

impl<'a> PartialLabel<'a> {
    /// What a matching label begins with; may be empty.
    pub(super) fn prefix(self) -> &'a str {
        self.0.split_once('*').map_or(self.0, |(prefix, _)| prefix)
    }

    /// What a matching label ends with; may be empty.
    pub(super) fn suffix(self) -> &'a str {
        self.0.rsplit_once('*').map_or("", |(_, suffix)| suffix)
    }

    /// Characters beside the stars.
    pub(super) fn literals(self) -> usize {
        literal_len(self.0)
    }

    /// Linear in the label (at most 63 octets) for each part between two stars.
    pub(super) fn matches(self, label: &str) -> bool {
        let middle = label.strip_prefix(self.prefix()).and_then(|rest| rest.strip_suffix(self.suffix()));
        let Some(mut rest) = middle else { return false };
        let between = self.0.split_once('*').and_then(|(_, tail)| tail.rsplit_once('*')).map_or("", |(parts, _)| parts);
        // Taking the leftmost place for each part leaves the most for the next: no backtracking is needed.
        for part in between.split('*') {
            match rest.split_once(part) {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
        true
    }
}

fn literal_len(label: &str) -> usize {
    label.bytes().filter(|&b| b != b'*').count()
}

/// An address, a network, or an attempt to write a network with stars (`10.1.*.*`).
fn is_address(text: &str) -> bool {
    let numeric = |label: &str| label.bytes().all(|b| b.is_ascii_digit() || b == b'*');
    let unbracketed = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    unbracketed.parse::<IpAddr>().is_ok()
        || text.parse::<IpNet>().is_ok()
        || (text.contains('*') && text.bytes().any(|b| b.is_ascii_digit()) && text.split('.').all(numeric))
}

fn push_label(normal: &mut String, label: &str) {
    if !normal.is_empty() {
        normal.push('.');
    }
    normal.push_str(label);
}

fn push_star_label(normal: &mut String, label: &str) -> Result<(), PatternError> {
    if label.contains("**") {
        return Err(PatternError::StarsInARow);
    }
    if !label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*')) {
        return Err(PatternError::StarLabel);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Hyphen.into());
    }
    if literal_len(label) > MAX_LABEL {
        return Err(NameError::LabelTooLong.into());
    }
    push_label(normal, &label.to_ascii_lowercase());
    Ok(())
}

/// A run of labels without stars, through the door that all names come in by.
fn push_literals(normal: &mut String, labels: &[&str], last: bool) -> Result<(), PatternError> {
    if labels.iter().any(|label| label.is_empty()) {
        return Err(NameError::EmptyLabel.into());
    }
    let run = labels.join(".");
    if last {
        let suffix = name(&run)?;
        push_label(normal, suffix.as_str());
        return match Forbidden::of(&suffix) {
            None => Ok(()),
            Some(Forbidden::Lgwan) => Err(PatternError::Lgwan),
            Some(Forbidden::EchOuter) => Err(PatternError::EchOuter),
        };
    }
    // Only at the right end may a label not be a number: `365.*.example.com` is a pattern, `*.365` is none.
    let whole = name(&format!("{run}.x"))?;
    push_label(normal, whole.as_str().strip_suffix(".x").unwrap_or(whole.as_str()));
    Ok(())
}

fn name(text: &str) -> Result<DnsName, PatternError> {
    DnsName::parse_unicode(text).map_err(|error| {
        if error == NameError::IpLiteral { PatternError::IpLiteral } else { PatternError::Name(error) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).expect(text)
    }

    #[test]
    fn a19_forty_rows_of_pattern_and_name() {
        let rows = [
            ("example.test", "example.test", true),
            ("example.test", "EXAMPLE.Test.", true),
            ("example.test", "xexample.test", false),
            ("example.test", "a.example.test", false),
            ("example.test", "example.test.evil.test", false),
            ("example.test", "test", false),
            ("EXAMPLE.TEST.", "example.test", true),
            ("*.example.test", "example.test", false),
            ("*.example.test", "a.example.test", true),
            ("*.example.test", "a.b.example.test", true),
            ("*.example.test", "a.b.c.d.example.test", true),
            ("*.example.test", "xexample.test", false),
            ("*.example.test", "x.xexample.test", false),
            ("*.example.test", "example.test.evil.test", false),
            ("*.example.test", "a.example.test.evil.test", false),
            ("a.*.example.test", "a.b.example.test", true),
            ("a.*.example.test", "a.example.test", false),
            ("a.*.example.test", "a.b.c.example.test", false),
            ("a.*.example.test", "b.b.example.test", false),
            ("a.*.*.example.test", "a.b.c.example.test", true),
            ("a.*.*.example.test", "a.b.example.test", false),
            ("*.*.example.test", "a.example.test", false),
            ("*.*.example.test", "a.b.example.test", true),
            ("*.*.example.test", "a.b.c.example.test", true),
            ("*.a.*.test", "x.a.b.test", true),
            ("*.a.*.test", "a.b.test", false),
            ("*cdn.example.test", "cdn.example.test", true),
            ("*cdn.example.test", "xcdn.example.test", true),
            ("*cdn.example.test", "x.cdn.example.test", false),
            ("*cdn.example.test", "cdnx.example.test", false),
            ("a*b.example.test", "ab.example.test", true),
            ("a*b.example.test", "a-x_9-b.example.test", true),
            ("a*b.example.test", "a.b.example.test", false),
            ("a*a.example.test", "a.example.test", false),
            ("a*a.example.test", "aa.example.test", true),
            ("ab*ba.example.test", "aba.example.test", false),
            ("a*b*c.example.test", "axbxbxc.example.test", true),
            ("a*b*c.example.test", "acb.example.test", false),
            ("*a*a*.example.test", "a.example.test", false),
            ("*a*a*.example.test", "xaxax.example.test", true),
            ("x.a*.example.test", "x.a.example.test", true),
            ("x.a*.example.test", "x.b.example.test", false),
        ];
        assert!(rows.len() >= 40);
        for (text, host, matches) in rows {
            let name = DnsName::parse(host.as_bytes()).expect(host);
            assert_eq!(pattern(text).matches(&name), matches, "{text} against {host}");
        }
    }

    #[test]
    fn the_normal_form_is_read_back_as_itself() {
        for (text, normal) in [
            ("Example.COM.", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("*CDN.OneNote.net", "*cdn.onenote.net"),
            ("autodiscover.*.onmicrosoft.com", "autodiscover.*.onmicrosoft.com"),
            ("365.*.example.com", "365.*.example.com"),
            ("_a*.example.com", "_a*.example.com"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("*.例え.テスト", "*.xn--r8jz45g.xn--zckzah"),
            ("例え.*.テスト", "xn--r8jz45g.*.xn--zckzah"),
            ("allowed。test", "allowed.test"),
            ("a。b.*.allowed.test", "a.b.*.allowed.test"),
            ("xn--*.example.com", "xn--*.example.com"),
            ("*", "*"),
            ("*.*", "*.*"),
            ("x.*", "x.*"),
        ] {
            let read = pattern(text);
            assert_eq!(read.to_string(), normal, "{text}");
            assert_eq!(pattern(normal), read, "{text}");
        }
    }

    #[test]
    fn c13_what_is_no_pattern() {
        use PatternError as E;
        let long = "a".repeat(64);
        let deep = format!("{}*.example.com", "a.".repeat(121));
        let wide = format!("*{long}.example.com");
        for (text, error) in [
            ("", E::Empty),
            ("**", E::StarsInARow),
            ("**.x", E::StarsInARow),
            ("a**b.example.com", E::StarsInARow),
            (".", E::Name(NameError::EmptyLabel)),
            (".example.com", E::Name(NameError::EmptyLabel)),
            ("*..example.com", E::Name(NameError::EmptyLabel)),
            ("example..com", E::Name(NameError::EmptyLabel)),
            ("example.com..", E::Name(NameError::EmptyLabel)),
            ("*.example.com..", E::Name(NameError::EmptyLabel)),
            (" example.com", E::Name(NameError::Character)),
            ("exa mple.com", E::Name(NameError::Character)),
            ("example.com:443", E::NotOnlyAName),
            ("https://example.com", E::NotOnlyAName),
            ("*.example.com/path", E::NotOnlyAName),
            ("-*.example.com", E::Name(NameError::Hyphen)),
            ("a*-.example.com", E::Name(NameError::Hyphen)),
            ("-a.*.example.com", E::Name(NameError::Hyphen)),
            ("例*.example.com", E::StarLabel),
            ("*。example.com", E::StarLabel),
            ("a*%.example.com", E::StarLabel),
            ("xn--a.*.example.com", E::Name(NameError::Idna)),
            (long.as_str(), E::Name(NameError::LabelTooLong)),
            (wide.as_str(), E::Name(NameError::LabelTooLong)),
            (deep.as_str(), E::Name(NameError::TooLong)),
            ("*.365", E::IpLiteral),
            ("*.host.365", E::Name(NameError::EndsInNumber)),
            ("127.1", E::Name(NameError::EndsInNumber)),
            ("0x7f000001", E::Name(NameError::EndsInNumber)),
            ("192.0.2.1", E::IpLiteral),
            ("192.0.2.1.", E::IpLiteral),
            ("１９２.0.2.1", E::IpLiteral),
            ("*.192.0.2.1", E::IpLiteral),
            ("192.0.2.0/24", E::IpLiteral),
            ("192.0.*.*", E::IpLiteral),
            ("192.0.2.1*", E::IpLiteral),
            ("*.0.2.1", E::IpLiteral),
            ("2001:db8::1", E::IpLiteral),
            ("2001:db8::/32", E::IpLiteral),
            ("[2001:db8::1]", E::IpLiteral),
            ("lgwan.jp", E::Lgwan),
            ("LGWAN.JP.", E::Lgwan),
            ("*.lgwan.jp", E::Lgwan),
            ("tb.logochat.st-japan.asp.lgwan.jp", E::Lgwan),
            ("*chat.asp.lgwan.jp", E::Lgwan),
            ("ｌｇｗａｎ.jp", E::Lgwan),
            ("cloudflare-ech.com", E::EchOuter),
            ("*.cloudflare-ech.com", E::EchOuter),
        ] {
            assert_eq!(HostPattern::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn c13_neighbours_of_what_is_no_pattern() {
        let deep = format!("{}*.example.com", "a.".repeat(120));
        let wide = format!("*{}.example.com", "a".repeat(63));
        for text in
            [deep.as_str(), &wide, "notlgwan.jp", "*.lgwan.jp.example.com", "xcloudflare-ech.com", "*-a.example.com"]
        {
            assert!(HostPattern::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn c13_how_wide_a_pattern_reaches() {
        let icann = |suffix: &str| Breadth::AboveIcann(suffix.to_owned());
        let private = |suffix: &str| Breadth::PrivateSuffix(suffix.to_owned());
        for (text, breadth) in [
            ("*", icann("")),
            ("*.*", icann("")),
            ("x.*", icann("")),
            ("*.c*m", icann("")),
            ("com", icann("com")),
            ("*.com", icann("com")),
            ("*microsoft.com", icann("com")),
            ("www.*.com", icann("com")),
            ("*.microsoft.com", Breadth::Fine),
            ("microsoft.com", Breadth::Fine),
            ("*cdn.onenote.net", Breadth::Fine),
            ("jp", icann("jp")),
            ("co.jp", icann("co.jp")),
            ("*.co.jp", icann("co.jp")),
            ("a*.co.jp", icann("co.jp")),
            ("*.example.co.jp", Breadth::Fine),
            ("*.lg.jp", icann("lg.jp")),
            ("*.city.example.lg.jp", Breadth::Fine),
            ("*.tokyo.jp", icann("tokyo.jp")),
            ("*.chiyoda.tokyo.jp", icann("chiyoda.tokyo.jp")),
            ("*.kawasaki.jp", icann("kawasaki.jp")),
            ("*.example.kawasaki.jp", icann("example.kawasaki.jp")),
            ("*.a.example.kawasaki.jp", Breadth::Fine),
            ("city.kawasaki.jp", Breadth::Fine),
            ("*.city.kawasaki.jp", Breadth::Fine),
            ("*.xn--p1ai", icann("xn--p1ai")),
            ("*.test", icann("test")),
            ("localhost", icann("localhost")),
            ("*.allowed.test", Breadth::Fine),
            ("allowed.test", Breadth::Fine),
            ("github.io", private("github.io")),
            ("*.github.io", private("github.io")),
            ("*.city.github.io", Breadth::Fine),
            ("*.blob.core.windows.net", private("blob.core.windows.net")),
            ("account.blob.core.windows.net", Breadth::Fine),
        ] {
            assert_eq!(pattern(text).breadth(), breadth, "{text}");
        }
    }

    #[test]
    fn the_top_is_what_the_list_has_of_one_label() {
        let found = ["jp", "com", "xn--p1ai", "co.jp", "local", "lan", "test", "localhost"];
        let found = found.map(|text| is_top_level(&DnsName::parse(text.as_bytes()).expect(text)));
        assert_eq!(found, [true, true, true, false, false, false, false, false]);
    }

    #[test]
    fn the_fixed_suffix_is_what_stands_right_of_the_last_star_label() {
        for (text, suffix, exact) in [
            ("example.com", "example.com", true),
            ("*.example.com", "example.com", false),
            ("autodiscover.*.onmicrosoft.com", "onmicrosoft.com", false),
            ("a*b*c.example.com", "example.com", false),
            ("*.a*.com", "com", false),
            ("x.*", "", false),
            ("*", "", false),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.fixed_suffix(), suffix, "{text}");
            assert_eq!((pattern.is_exact(), pattern.is_wildcard()), (exact, !exact), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_has_a_stable_normal_form(text in "[a-zA-Z0-9*._\\-:/。例ß\\[\\]]{0,24}|\\PC{0,16}") {
            if let Ok(read) = HostPattern::parse(&text) {
                proptest::prop_assert_eq!(HostPattern::parse(read.as_str()), Ok(read.clone()));
                let _ = read.breadth();
            }
        }
    }
}
