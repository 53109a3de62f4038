//! Bytes of a client turned into facts: the head of a CONNECT, a name, a ClientHello.

use std::hint::black_box;

use bytes::BytesMut;
use sekisho::http1::{Limits, RequestReader};
use sekisho::identify::client_hello::{HelloReader, Progress};
use sekisho::identify::{Asked, asked};
use sekisho::names::DnsName;

use crate::{Work, repeat};

/// As Chromium writes it.
const CONNECT: &[u8] = b"CONNECT login.microsoftonline.example:443 HTTP/1.1\r\n\
    Host: login.microsoftonline.example:443\r\n\
    Proxy-Connection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n\r\n";
const HELLO: &[u8] = include_bytes!("../../tests/fixtures/hellos/chromium.bin");
/// Payload octets of a TCP segment on Ethernet.
const SEGMENT: usize = 1460;

/// From the octets to the authority that is claimed.
pub fn connect_head() -> Work {
    repeat(|_| {
        let mut buffer = BytesMut::from(black_box(CONNECT));
        let head = RequestReader::default().read(&mut buffer, &Limits::default()).expect("a head").expect("all of it");
        black_box(matches!(asked(Box::new(head)), Ok(Asked::Connect { .. })))
    })
}

pub fn dns_name() -> Work {
    repeat(|_| black_box(DnsName::parse(black_box(b"Login.MicrosoftOnline.example")).is_ok()))
}

pub fn client_hello() -> Work {
    repeat(|_| is_done(&HelloReader::default().advance(black_box(HELLO))))
}

pub fn client_hello_two_segments() -> Work {
    repeat(|_| {
        let mut reader = HelloReader::default();
        let first = reader.advance(black_box(&HELLO[..SEGMENT]));
        first == Progress::Incomplete && is_done(&reader.advance(black_box(HELLO)))
    })
}

fn is_done(progress: &Progress) -> bool {
    matches!(black_box(progress), Progress::Done(_))
}
