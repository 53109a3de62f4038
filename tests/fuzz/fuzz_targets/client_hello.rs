//! Any bytes at all: the ClientHello parser ends without a panic, and its verdict does not depend on how the bytes were cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho::identify::client_hello::{HelloReader, MAX_WIRE, Progress};

fuzz_target!(|data: &[u8]| {
    // The first two octets choose a cut; the rest is the wire, so that a recorded hello behind two zeros is a good seed.
    let Some((cut, wire)) = data.split_at_checked(2) else { return };
    let cut = usize::from(u16::from_be_bytes([cut[0], cut[1]])) % (wire.len() + 1);

    let verdict = HelloReader::default().advance(wire);
    let mut reader = HelloReader::default();
    match reader.advance(&wire[..cut]) {
        Progress::Incomplete => {}
        early => assert_eq!(early, verdict, "a verdict changed with more bytes"),
    }
    assert_eq!(reader.advance(wire), verdict, "the cut changed the verdict");

    match verdict {
        Progress::Incomplete => assert!(wire.len() < MAX_WIRE, "no verdict at the cap"),
        Progress::Done(hello) => {
            assert!(hello.wire_len <= MAX_WIRE.min(wire.len()));
            let alone = HelloReader::default().advance(&wire[..hello.wire_len]);
            assert_eq!(alone, Progress::Done(hello), "what follows the hello changed it");
        }
        Progress::Invalid(why) => _ = why.reason(),
    }
});
