//! One name, six doors: whatever stands where a name is due, the target of CONNECT, an absolute URI, `Host`, `:authority`, the SNI
//! and the configuration read the same name out of it, or all of them none (`threats.md` group C).
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho::http1::{Limits, RequestHead, RequestReader};
use sekisho::identify::asked;
use sekisho::identify::client_hello::{HelloReader, Progress, Sni};
use sekisho::names::{Authority, DnsName, Host};
use sekisho::policy::{HostPattern, PatternError};

fuzz_target!(|data: &[u8]| {
    let name = DnsName::parse(data).ok();
    assert_eq!(by_sni(data), name, "SNI");
    by_configuration(data, name.as_ref());
    // What parts a head, a URI or an authority is read by those, and is in no name.
    if data.iter().any(|byte| b"\r\n\t /?#:@".contains(byte)) {
        assert_eq!(name, None);
        return;
    }
    let named = |authority: Authority| match authority.host {
        Host::Name(name) => Some(name),
        Host::Ip(_) => None,
    };
    for (door, parts) in [
        ("CONNECT", [&b"CONNECT "[..], data, b":443 HTTP/1.1\r\nHost: ", data, b":443\r\n\r\n"]),
        ("absolute URI", [b"GET http://", data, b":80/ HTTP/1.1\r\nHost: ", data, b"\r\n\r\n"]),
    ] {
        let claim = head(&parts.concat()).and_then(|head| asked(Box::new(head)).ok());
        assert_eq!(claim.and_then(|asked| named(asked.claim().authority().clone())), name, "{door}");
    }
    let judged = |written: &[u8]| Authority::parse_with_default(written, 443).ok().and_then(named);
    let origin_form = head(&[b"GET / HTTP/1.1\r\nHost: ", data, b"\r\n\r\n"].concat());
    assert_eq!(origin_form.and_then(|head| judged(head.host()?)), name, "Host");
    // As the h2 crate hands it on.
    let authority = http::uri::Authority::try_from(data).ok();
    assert_eq!(authority.and_then(|authority| judged(authority.as_str().as_bytes())), name, ":authority");
});

fn head(octets: &[u8]) -> Option<RequestHead> {
    RequestReader::default().read(&mut BytesMut::from(octets), &Limits::default()).ok().flatten()
}

/// A name is a pattern that matches it alone; a star makes a pattern of what is no name, and a U-label an A-label.
fn by_configuration(data: &[u8], name: Option<&DnsName>) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let written = DnsName::parse_unicode(text).ok();
    if text.is_ascii() {
        assert_eq!(written.as_ref(), name, "configuration");
    }
    let pattern = HostPattern::parse(text);
    if let Err(PatternError::Lgwan | PatternError::EchOuter) = pattern {
        let never = |name: &DnsName| name.is_within("lgwan.jp") || name.is_within("cloudflare-ech.com");
        assert!(written.as_ref().is_none_or(never), "{written:?} is permitted nowhere");
        return;
    }
    let pattern = pattern.ok().filter(HostPattern::is_exact);
    assert_eq!(pattern.as_ref().map(HostPattern::as_str), written.as_ref().map(DnsName::as_str), "a pattern");
    if let (Some(pattern), Some(written)) = (pattern, written) {
        assert!(pattern.matches(&written));
        assert_eq!(DnsName::parse(written.as_str().as_bytes()), Ok(written), "a normal form is its own");
    }
}

fn by_sni(name: &[u8]) -> Option<DnsName> {
    match HelloReader::default().advance(&hello(name)) {
        Progress::Done(hello) => match hello.sni {
            Sni::Name(name) => Some(name),
            Sni::Absent(why) => panic!("{why:?}: there is one"),
        },
        Progress::Invalid(_) => None,
        Progress::Incomplete => panic!("the hello is whole"),
    }
}

/// A TLS 1.2 ClientHello with one extension (RFC 5246 section 7.4.1.2, RFC 6066 section 3), in one record.
fn hello(name: &[u8]) -> Vec<u8> {
    let sixteen = |octets: &[u8]| {
        let length = u16::try_from(octets.len()).expect("an input is not that long");
        [&length.to_be_bytes()[..], octets].concat()
    };
    let server_name = sixteen(&[&[0][..], &sixteen(name)].concat());
    let extensions = sixteen(&[&[0, 0][..], &sixteen(&server_name)].concat());
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0], &extensions].concat();
    let length = u32::try_from(body.len()).expect("nor this").to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &sixteen(&message)].concat()
}
