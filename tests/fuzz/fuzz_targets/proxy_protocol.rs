//! Any bytes at all: the parser of PROXY headers ends without a panic, its verdict does not depend on how the bytes were cut, and an
//! address that it gives is what a naive reading of the same bytes gives.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use sekisho::addrs::{ClientAddr, OriginalAddr};
use sekisho::identify::proxy_protocol::{Behind, MAX_WIRE, Progress, read};

fuzz_target!(|data: &[u8]| {
    let verdict = read(data);
    // Past the longest line nothing but the block of version 2 goes on: every cut of what tells them apart, and the last.
    for cut in (0..data.len().min(128)).chain([data.len().saturating_sub(1)]) {
        let early = read(&data[..cut]);
        assert!(early == Progress::Incomplete || early == verdict, "{early:?} after {cut}, then {verdict:?}");
    }
    match verdict {
        Progress::Incomplete => assert!(data.len() < MAX_WIRE, "no verdict at the cap"),
        Progress::Done(behind, taken) => {
            assert!(taken <= MAX_WIRE.min(data.len()));
            assert_eq!(read(&data[..taken]), Progress::Done(behind, taken), "what follows the header changed it");
            if let Behind::Client { source, destination } = behind {
                let header = &data[..taken];
                let (from, to) = naive(header).expect("a header with a client");
                assert_eq!((source, destination), (ClientAddr::new(from), OriginalAddr::new(to)));
                let ip = source.ip();
                assert!(!ip.is_unspecified() && !ip.is_multicast());
            }
        }
        Progress::Invalid(_) => {}
    }
});

/// Without a care for what is wrong.
fn naive(header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    if let Ok(line) = std::str::from_utf8(header)
        && line.starts_with("PROXY")
    {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let socket = |ip: usize, port: usize| Some(SocketAddr::new(words[ip].parse().ok()?, words[port].parse().ok()?));
        return Some((socket(2, 4)?, socket(3, 5)?));
    }
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let four = |at: usize| <[u8; 4]>::try_from(&header[at..at + 4]).expect("four");
    let six = |at: usize| <[u8; 16]>::try_from(&header[at..at + 16]).expect("sixteen");
    match header[13] {
        0x11 => Some((SocketAddr::from((four(16), port(24))), SocketAddr::from((four(20), port(26))))),
        0x21 => Some((SocketAddr::from((six(16), port(48))), SocketAddr::from((six(32), port(50))))),
        _ => None,
    }
}
