//! Tests of the parser: what the specification shows, every cut of it, and what is hostile.

use proptest::prelude::*;

use super::*;

fn v2(command: u8, family: u8, length: u16, block: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[0x20 | command, family], &length.to_be_bytes(), block].concat()
}

fn whole(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    v2(command, family, u16::try_from(block.len()).expect("short"), block)
}

const BLOCK4: [u8; 12] = [10, 20, 0, 7, 10, 20, 0, 1, 0x12, 0x67, 0x1f, 0x90];

fn block6() -> Vec<u8> {
    let octets = |text: &str| text.parse::<Ipv6Addr>().expect(text).octets();
    [octets("fd00:20::7").as_slice(), &octets("fd00:20::1"), &[0x12, 0x67, 0x01, 0xbb]].concat()
}

fn behind(source: &str, destination: &str) -> Behind {
    let socket = |text: &str| text.parse::<SocketAddr>().expect(text);
    Behind::Client { source: ClientAddr::new(socket(source)), destination: OriginalAddr::new(socket(destination)) }
}

/// Headers that are whole, and whose connection each says it is.
fn sound() -> Vec<(Vec<u8>, Behind)> {
    let four = behind("10.20.0.7:4711", "10.20.0.1:8080");
    let six = behind("[fd00:20::7]:4711", "[fd00:20::1]:443");
    // The longest that a client can have.
    let long = "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let shown = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec();
    let full = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 16));
    assert_eq!(full.len(), MAX_LINE);
    let tlvs = [BLOCK4.as_slice(), &[0x03, 0, 4, 1, 2, 3, 4, 0x04, 0xff, 0xff]].concat();
    vec![
        (b"PROXY TCP4 10.20.0.7 10.20.0.1 4711 8080\r\n".to_vec(), four),
        (
            b"PROXY TCP4 255.255.255.254 255.255.255.255 65535 0\r\n".to_vec(),
            behind("255.255.255.254:65535", "255.255.255.255:0"),
        ),
        (b"PROXY TCP6 fd00:20::7 fd00:20::1 4711 443\r\n".to_vec(), six),
        (b"PROXY TCP6 ::ffff:10.20.0.7 ::ffff:10.20.0.1 4711 8080\r\n".to_vec(), four),
        (
            format!("PROXY TCP6 {long} {long} 65535 65535\r\n").into_bytes(),
            behind(&format!("[{long}]:65535"), &format!("[{long}]:65535")),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), Behind::Nobody),
        (shown, Behind::Nobody),
        (full.into_bytes(), Behind::Nobody),
        (whole(1, 0x11, &BLOCK4), four),
        (whole(1, 0x11, &tlvs), four),
        (whole(1, 0x21, &block6()), six),
        (whole(1, 0x11, &[BLOCK4.as_slice(), &vec![0; MAX_WIRE - FIXED - 12]].concat()), four),
        (whole(1, 0x00, b""), Behind::Nobody),
        (whole(1, 0x00, &[9; 40]), Behind::Nobody),
        (whole(0, 0x00, b""), Behind::Nobody),
        // Ignored, family and all.
        (whole(0, 0x11, &BLOCK4), Behind::Nobody),
        (whole(0, 0xff, &[1; 5]), Behind::Nobody),
    ]
}

#[test]
fn b09_a_header_says_whose_connection_it_is_wherever_it_is_cut() {
    for (header, expected) in sound() {
        for glued in [b"".as_slice(), b"CONNECT a.test:443 HTTP/1.1\r\n", b"\x16\x03\x01", b"\r\n"] {
            let octets = [&header, glued].concat();
            assert_eq!(read(&octets), Progress::Done(expected, header.len()), "{}", octets.escape_ascii());
        }
        for cut in 0..header.len() {
            assert_eq!(read(&header[..cut]), Progress::Incomplete, "{cut} of {}", header.escape_ascii());
        }
    }
}

#[test]
fn b09_what_is_no_header_is_refused_and_stays_refused() {
    let malformed: Vec<Vec<u8>> = [
        "PROXY TCP4 10.20.0.7 10.20.0.1 4711 8080\n",
        "PROXY TCP4 10.20.0.7 10.20.0.1 4711 8080\r8",
        "PROXY TCP4 10.20.0.7 10.20.0.1 4711 8080 \r\n",
        "PROXY TCP4  10.20.0.7 10.20.0.1 4711 8080\r\n",
        "PROXY TCP4 10.20.0.7 10.20.0.1 4711\r\n",
        "PROXY TCP4 10.20.0.7 10.20.0.1 4711 8080 1\r\n",
        "PROXY TCP4 10.20.0.07 10.20.0.1 4711 8080\r\n",
        "PROXY TCP4 10.20.0.256 10.20.0.1 4711 8080\r\n",
        "PROXY TCP4 10.20.7 10.20.0.1 4711 8080\r\n",
        "PROXY TCP4 fd00:20::7 fd00:20::1 4711 443\r\n",
        "PROXY TCP6 10.20.0.7 10.20.0.1 4711 443\r\n",
        "PROXY TCP6 fe80::1%eth0 fd00:20::1 4711 443\r\n",
        "PROXY TCP6 [fd00:20::7] fd00:20::1 4711 443\r\n",
        "PROXY TCP4 10.20.0.7 10.20.0.1 65536 8080\r\n",
        "PROXY TCP4 10.20.0.7 10.20.0.1 04711 8080\r\n",
        "PROXY TCP4 10.20.0.7 10.20.0.1 +4711 8080\r\n",
        "PROXY TCP4 10.20.0.7 10.20.0.1 -1 8080\r\n",
        "PROXY TCP4 10.20.0.7 10.20.0.1  8080\r\n",
        "PROXY UDP4 10.20.0.7 10.20.0.1 4711 8080\r\n",
        "PROXY tcp4 10.20.0.7 10.20.0.1 4711 8080\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY \r\r\n",
        "PROXY TCP4 0.0.0.0 10.20.0.1 4711 8080\r\n",
        "PROXY TCP4 255.255.255.255 10.20.0.1 4711 8080\r\n",
        "PROXY TCP6 :: fd00:20::1 4711 443\r\n",
        "PROXY TCP6 ff02::1 fd00:20::1 4711 443\r\n",
    ]
    .map(Into::into)
    .into_iter()
    .chain([
        format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 15)).into_bytes(),
        b"PROXY TCP4 10.20.0.7\xff 10.20.0.1 4711 8080\r\n".to_vec(),
        // Version 1 and 3, no such command, no such family, too short a block.
        [SIGNATURE, &[0x11, 0x11, 0, 12], &BLOCK4].concat(),
        [SIGNATURE, &[0x31, 0x11, 0, 12], &BLOCK4].concat(),
        whole(2, 0x11, &BLOCK4),
        whole(1, 0x12, &BLOCK4),
        whole(1, 0x22, &block6()),
        whole(1, 0x31, &[0; 216]),
        whole(1, 0x10, &BLOCK4),
        whole(1, 0x01, &BLOCK4),
        whole(1, 0x11, &BLOCK4[..11]),
        whole(1, 0x11, b""),
        whole(1, 0x21, &block6()[..35]),
        whole(1, 0x11, &[[0; 4].as_slice(), &BLOCK4[4..]].concat()),
    ])
    .collect();
    let none: Vec<Vec<u8>> =
        ["GET / HTTP/1.1\r\n", "CONNECT a:1", "PROXYTCP4 ", "proxy TCP4 ", "\n", "\r\n\r\n\0\r\nQUIT\r", " PROXY TCP4"]
            .map(Into::into)
            .into_iter()
            .chain([b"\x16\x03\x01\x02\x00\x01".to_vec(), vec![0]])
            .collect();
    let large = [v2(1, 0x11, u16::MAX, &BLOCK4), v2(0, 0, 4081, b""), v2(1, 0x21, 4081, b"")];
    for octets in malformed {
        let Progress::Invalid(HeaderError::Malformed(_)) = read(&octets) else { panic!("{}", octets.escape_ascii()) };
        assert_eq!(read(&[&octets, b"more\r\n".as_slice()].concat()), read(&octets), "{}", octets.escape_ascii());
    }
    for octets in none {
        assert_eq!(read(&octets), Progress::Invalid(HeaderError::None), "{}", octets.escape_ascii());
    }
    for octets in large {
        // Before a single octet of the block.
        assert_eq!(read(&octets[..FIXED]), Progress::Invalid(HeaderError::TooLarge), "{}", octets.escape_ascii());
    }
}

proptest! {
    #[test]
    fn b09_no_verdict_changes_with_more_octets(
        octets in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "PROXY (TCP4|TCP6|UNKNOWN|TCP) ?[0-9a-f:. ]{0,90}(\r\n|\n|\r)?.{0,8}".prop_map(String::into_bytes),
            (any::<[u8; 4]>(), proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(head, rest)| {
                [SIGNATURE, &[0x20 | head[0] & 3, head[1] & 0x33, 0, head[3] & 0x3f], &rest].concat()
            }),
        ],
        cut in any::<prop::sample::Index>(),
    ) {
        let verdict = read(&octets);
        let early = read(&octets[..cut.index(octets.len() + 1)]);
        prop_assert!(early == Progress::Incomplete || early == verdict, "{early:?}, then {verdict:?}");
        if let Progress::Done(_, taken) = verdict {
            prop_assert!(taken <= octets.len().min(MAX_WIRE));
        }
        if verdict == Progress::Incomplete {
            prop_assert!(octets.len() < MAX_WIRE);
        }
    }
}
