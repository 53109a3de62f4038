//! What may be set as a header on inspected requests (G10): names and values, one by one and together.
//!
//! What may not be here: which header a tenant profile needs (`tenant`).

use super::problem::{At, Problems, quoted};
use super::reader::{Secrecy, Table};
use super::schema;
use crate::policy::{HeaderHosts, SetHeader};

/// Longest value in octets: with the client's own head it must still pass an origin's limit (G07).
const MAX_VALUE: usize = 8192;

/// Fields that say where a message ends, belong to one hop, or name the destination: ours to write, never to configure. And those that a
/// client's trailer may hold (RFC 9530).
static OURS: [&str; 18] = [
    "connection",
    "content-digest",
    "content-length",
    "digest",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "repr-digest",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// One header as the service sets it, and where it was configured.
pub(super) struct Placed {
    pub header: SetHeader,
    pub at: At,
}

/// Every `[[service.header]]` of one service.
pub(super) fn read<'t>(service: &Table<'t>, problems: &mut Problems<'_>) -> Vec<Placed> {
    let mut headers = Vec::new();
    for table in service.tables("header", &schema::HEADER, problems) {
        let table = table.masked();
        let name = table.required_text("name", "the header's name", problems);
        let value = table.required_text("value", "the header's value", problems);
        let (Some(name), Some(value)) = (name, value) else { continue };
        if let Err(expected) = check_name(name.text) {
            problems.error(&name.at, quoted(name.text), expected);
        } else if let Err(expected) = check_value(value.text) {
            problems.error(&value.at, Secrecy::Masked.show(value.text), expected);
        } else {
            let header =
                SetHeader { name: name.text.to_owned(), value: value.text.to_owned(), hosts: HeaderHosts::All };
            headers.push(Placed { header, at: name.at });
        }
    }
    headers
}

/// Refuses the second of two headers that an origin could read as one: neither letter case nor signs tell them apart.
pub(super) fn refuse_duplicates(headers: &[Placed], problems: &mut Problems<'_>) {
    for (n, placed) in headers.iter().enumerate() {
        let name = fold(&placed.header.name);
        if let Some(first) = headers.iter().take(n).find(|other| fold(&other.header.name) == name) {
            let line = problems.line(first.at.offset);
            let found = format!("{}, which is set already (line {line})", quoted(&placed.header.name));
            problems.error(&placed.at, found, "each header once in a service, letter case and signs aside");
        }
    }
}

/// The form in which two names are one: to a gateway that makes variables of them, every sign is the same.
pub(super) fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// # Errors
/// What is due instead.
fn check_name(name: &str) -> Result<(), &'static str> {
    // RFC 9110 section 5.6.2.
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.starts_with(':') {
        return Err("a header's name (those with ':' in front are HTTP/2's own)");
    }
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        return Err("a header's name: letters, digits and '-', at most 128");
    }
    if OURS.contains(&fold(name).as_str()) {
        return Err("a header other than those that frame a message or digest it, belong to one hop or name the host");
    }
    if fold(name).starts_with("sekisho-") {
        return Err("a header that sekisho does not use itself: those that begin with \"sekisho-\" are its own");
    }
    Ok(())
}

/// # Errors
/// What is due instead.
pub(super) fn check_value(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("a value: an empty one restricts nothing");
    }
    if value.len() > MAX_VALUE {
        return Err("a value of at most 8192 characters");
    }
    if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err("visible ASCII characters and spaces only: no line break, tab, control or Japanese character");
    }
    if value.starts_with(' ') || value.ends_with(' ') {
        return Err("no space at its beginning or end");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g10_values_and_their_neighbours() {
        for value in ["a", "a b", "!", "~", "x".repeat(8192).as_str()] {
            assert_eq!(check_value(value), Ok(()), "{value}");
        }
        for value in ["", " a", "a ", " ", "a\r\nb", "a\nb", "a\rb", "a\0b", "a\tb", "\u{7f}", "\u{85}", "市", "\u{a0}"]
        {
            assert!(check_value(value).is_err(), "{value:?}");
        }
        assert!(check_value(&"x".repeat(8193)).is_err());
    }

    #[test]
    fn names_that_may_not_be_set() {
        for name in ["X-Allowed-Org", "x_y", "Cookie", "sec-Restrict-Tenant-Access-Policy"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "a b",
            "a:",
            ":authority",
            "Host",
            "content_length",
            "Transfer-Encoding",
            "TE",
            "é",
            "a\r",
            "Connection",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
