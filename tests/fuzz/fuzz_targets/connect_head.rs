//! Any octets as what a client of the proxy says first: no panic; the same claim wherever they are cut; and a CONNECT that is taken
//! is one by a naive reading of its octets too, with one authority in target and `Host` (`threats.md` groups B and C). The
//! first octet chooses the size of the pieces.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho::http1::{Limits, RequestReader};
use sekisho::identify::{Asked, asked};
use sekisho::names::{Authority, Host};
use sekisho::policy::Claim;
use sekisho::reason::Reason;

fuzz_target!(|data: &[u8]| {
    let Some((piece, wire)) = data.split_first() else { return };
    let whole = read(wire, wire.len().max(1));
    assert_eq!(whole, read(wire, usize::from(*piece).max(1)));
    let Some((used, Ok(claimed))) = whole else { return };
    let (authority, written) = match &claimed.claim {
        Claim::Connect(authority) => (authority, connect_target(&wire[..used])),
        Claim::Request { authority, .. } => (authority, claimed.written.clone()),
    };
    assert_eq!(claimed.written, written);
    assert_eq!(Authority::parse(authority.to_string().as_bytes()), Ok(authority.clone()), "a normal form is its own");
    if let Host::Name(_) = authority.host {
        let default = if matches!(claimed.claim, Claim::Connect(_)) { None } else { Some(80) };
        assert_eq!(naively(&written, default), authority.to_string());
    }
});

#[derive(Debug, PartialEq)]
struct Claimed {
    claim: Claim,
    written: Vec<u8>,
}

/// How many octets the head was, and what it asks for. `None`: it is not whole.
fn read(wire: &[u8], piece: usize) -> Option<(usize, Result<Claimed, Reason>)> {
    let (mut reader, mut buf, mut fed) = (RequestReader::default(), BytesMut::new(), 0);
    for part in wire.chunks(piece) {
        buf.extend_from_slice(part);
        fed += part.len();
        let head = match reader.read(&mut buf, &Limits::default()) {
            Ok(Some(head)) => head,
            Ok(None) => continue,
            // How many octets an error took is nobody's business.
            Err(error) => return Some((0, Err(error.reason()))),
        };
        let told = |asked: Asked| Claimed { claim: asked.claim(), written: asked.written().unwrap_or_default().to_vec() };
        return Some((fed - buf.len(), asked(Box::new(head)).map(told).map_err(|error| error.reason())));
    }
    None
}

/// Reads the head of a CONNECT as RFC 9112 section 3.2.3 writes it: the target, which `Host` has to name too.
fn connect_target(head: &[u8]) -> Vec<u8> {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let head = head.strip_suffix(b"\r\n\r\n").expect("a head ends in an empty line");
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first: Vec<&[u8]> = lines.next().expect("a line").split(|byte| *byte == b' ').collect();
    let [b"CONNECT", target, b"HTTP/1.1" | b"HTTP/1.0"] = first[..] else {
        panic!("a CONNECT that is none: {first:?}")
    };
    let hosts = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
        line[..colon].eq_ignore_ascii_case(b"host").then(|| line[colon + 1..].trim_ascii())
    });
    let port = target.rsplit(|byte| *byte == b':').next().expect("a port");
    let port = std::str::from_utf8(port).expect("digits").parse().expect("a port");
    for host in hosts {
        let host = Authority::parse_with_default(host, port);
        assert_eq!(host, Authority::parse(target), "Host is another authority");
    }
    target.to_vec()
}

/// The authority in lower case, without the dot behind the name, and with the port.
fn naively(written: &[u8], default: Option<u16>) -> String {
    let written = String::from_utf8(written.to_ascii_lowercase()).expect("ASCII");
    let (name, port) = match (written.split_once(':'), default) {
        (Some((name, port)), _) => (name, port.to_owned()),
        (None, Some(default)) => (written.as_str(), default.to_string()),
        (None, None) => panic!("CONNECT without a port: {written}"),
    };
    format!("{}:{port}", name.strip_suffix('.').unwrap_or(name))
}
