//! Hand-made hellos against each rule, recorded ones against each way of cutting them up, and rustls as the other opinion.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

// ---- how a verdict is got ---------------------------------------------------------------------------------------------

fn whole(wire: &[u8]) -> Progress {
    HelloReader::default().advance(wire)
}

/// One octet at a time through one reader: the first verdict and the number of octets it took.
fn dribble(wire: &[u8]) -> (Progress, usize) {
    let mut reader = HelloReader::default();
    for len in 0..=wire.len() {
        let progress = reader.advance(&wire[..len]);
        if progress != Progress::Incomplete {
            return (progress, len);
        }
    }
    (Progress::Incomplete, wire.len())
}

fn done(wire: &[u8]) -> ClientHello {
    match whole(wire) {
        Progress::Done(hello) => hello,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_invalid(what: &str, wire: &[u8], reason: Reason) {
    match whole(wire) {
        Progress::Invalid(why) => assert_eq!(why.reason(), reason, "{what}: {why}"),
        other => panic!("{what}: {other:?}"),
    }
    assert_eq!(dribble(wire).0, whole(wire), "{what}: octet by octet");
}

#[track_caller]
fn assert_malformed(what: &str, wire: &[u8], why: &'static str) {
    assert_eq!(whole(wire), Progress::Invalid(HelloError::Malformed(why)), "{what}");
    assert_invalid(what, wire, Reason::MalformedClientHello);
}

// ---- a builder --------------------------------------------------------------------------------------------------------

fn vector8(data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len()).expect("short")], data].concat()
}

fn vector16(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).expect("short").to_be_bytes(), data].concat()
}

fn shorts(list: &[u16]) -> Vec<u8> {
    list.iter().flat_map(|v| v.to_be_bytes()).collect()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    vector16(&[&[0], &vector16(name)[..]].concat())
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    vector16(&names.iter().flat_map(|name| vector8(name)).collect::<Vec<_>>())
}

fn ech_outer() -> Vec<u8> {
    [&[0, 0, 1, 0, 1, 77], &vector16(&[9; 32])[..], &vector16(&[8; 144])].concat()
}

#[derive(Clone)]
struct Hello {
    record_version: u16,
    msg_type: u8,
    legacy_version: u16,
    session_id: Vec<u8>,
    suites: Vec<u8>,
    compression: Vec<u8>,
    extensions: Option<Vec<(u16, Vec<u8>)>>,
    tail: Vec<u8>,
}

impl Default for Hello {
    /// What a TLS 1.3 client sends, without what this parser does not look at.
    fn default() -> Self {
        Self {
            record_version: 0x0301,
            msg_type: 1,
            legacy_version: 0x0303,
            session_id: vec![7; 32],
            suites: shorts(&[0x1301, 0xc02f]),
            compression: vec![0],
            extensions: Some(vec![
                (SERVER_NAME, server_name(b"allowed.test")),
                (ALPN, alpn(&[b"h2", b"http/1.1"])),
                (SUPPORTED_VERSIONS, vector8(&shorts(&[0x0304, 0x0303]))),
                // signature_algorithms, which rustls asks for
                (13, vector16(&shorts(&[0x0403]))),
            ]),
            tail: Vec::new(),
        }
    }
}

impl Hello {
    /// Puts `data` in the place of the extension of that type, or behind all others.
    fn with(mut self, kind: u16, data: Vec<u8>) -> Self {
        let list = self.extensions.get_or_insert_default();
        match list.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, old)) => *old = data,
            None => list.push((kind, data)),
        }
        self
    }

    fn without(mut self, kind: u16) -> Self {
        self.extensions.get_or_insert_default().retain(|(k, _)| *k != kind);
        self
    }

    fn twice(mut self, kind: u16, data: Vec<u8>) -> Self {
        self.extensions.get_or_insert_default().push((kind, data));
        self
    }

    fn body(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([5; 32]);
        body.extend(vector8(&self.session_id));
        body.extend(vector16(&self.suites));
        body.extend(vector8(&self.compression));
        if let Some(list) = &self.extensions {
            let block: Vec<u8> = list.iter().flat_map(|(k, d)| [shorts(&[*k]), vector16(d)].concat()).collect();
            body.extend(vector16(&block));
        }
        body.extend(&self.tail);
        body
    }

    fn message(&self) -> Vec<u8> {
        message(self.msg_type, &self.body())
    }

    fn wire(&self) -> Vec<u8> {
        records(self.record_version, &self.message(), 1 << 14)
    }
}

fn message(msg_type: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[msg_type, len[1], len[2], len[3]], body].concat()
}

fn record(kind: u8, version: u16, fragment: &[u8]) -> Vec<u8> {
    [&[kind], &version.to_be_bytes()[..], &vector16(fragment)].concat()
}

/// `message` in handshake records of at most `size` octets of fragment each.
fn records(version: u16, message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|fragment| record(22, version, fragment)).collect()
}

/// The handshake message in the records of `wire`.
fn unrecorded(mut wire: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = wire {
        let (fragment, next) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend(fragment);
        wire = next;
    }
    assert!(wire.is_empty(), "only handshake records");
    message
}

fn padded(len: usize) -> Hello {
    Hello::default().with(21, vec![0; len])
}

// ---- recorded hellos --------------------------------------------------------------------------------------------------

struct Recorded {
    name: &'static str,
    bytes: &'static [u8],
    sni: Option<&'static str>,
    alpn: &'static [&'static str],
    versions: &'static [u16],
    ech: Ech,
    /// Octets behind the hello: a dummy change_cipher_spec and 0-RTT data.
    behind: usize,
}

macro_rules! recorded {
    ($name:literal, $sni:expr, $alpn:expr, $versions:expr, $ech:ident, $behind:literal) => {
        Recorded {
            name: $name,
            bytes: include_bytes!(concat!("../../../tests/fixtures/hellos/", $name, ".bin")),
            sni: $sni,
            alpn: $alpn,
            versions: $versions,
            ech: Ech::$ech,
            behind: $behind,
        }
    };
}

const H2_H1: &[&str] = &["h2", "http/1.1"];
const BOTH: &[u16] = &[0x0304, 0x0303];
const FOUR: &[u16] = &[0x0304, 0x0303, 0x0302, 0x0301];
const NAME: Option<&str> = Some("allowed.test");

const RECORDED: [Recorded; 12] = [
    recorded!("chromium", NAME, H2_H1, BOTH, Outer, 0),
    recorded!("curl", NAME, H2_H1, FOUR, Absent, 0),
    recorded!("gnutls-cli", NAME, H2_H1, FOUR, Absent, 0),
    recorded!("java", NAME, H2_H1, BOTH, Absent, 0),
    recorded!("node", NAME, H2_H1, BOTH, Absent, 0),
    recorded!("nss-tstclnt", NAME, &[], BOTH, Absent, 0),
    recorded!("openssl-early-data", NAME, &[], FOUR, Absent, 66),
    recorded!("openssl-no-sni", None, &[], FOUR, Absent, 0),
    recorded!("openssl-s_client", NAME, H2_H1, FOUR, Absent, 0),
    recorded!("openssl-tls12", NAME, &[], &[0x0303], Absent, 0),
    recorded!("python", NAME, &["http/1.1"], BOTH, Absent, 0),
    recorded!("wget", Some("localhost"), &[], FOUR, Absent, 0),
];

impl Recorded {
    /// The octets of the hello alone.
    fn hello(&self) -> &'static [u8] {
        &self.bytes[..self.bytes.len() - self.behind]
    }

    fn expected(&self, wire_len: usize) -> ClientHello {
        ClientHello {
            sni: match self.sni {
                Some(name) => Sni::Name(DnsName::parse(name.as_bytes()).expect("a name")),
                None => Sni::Absent(WhyNoSni::NoExtension),
            },
            alpn: self.alpn.iter().map(|name| name.as_bytes().into()).collect(),
            versions: self.versions.to_vec(),
            ech: self.ech,
            wire_len,
        }
    }
}

#[test]
fn every_recorded_hello_is_in_the_table() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hellos");
    let files = std::fs::read_dir(folder).expect("fixtures").map(|file| file.expect("an entry").file_name());
    let files = files.filter_map(|name| name.to_str().and_then(|name| name.strip_suffix(".bin")).map(str::to_owned));
    let table = RECORDED.iter().map(|recorded| recorded.name.to_owned());
    assert_eq!(files.collect::<BTreeSet<_>>(), table.collect::<BTreeSet<_>>());
}

#[test]
fn d01_a_recorded_hello_has_one_verdict_wherever_it_is_cut() {
    for recorded in &RECORDED {
        let (name, len) = (recorded.name, recorded.hello().len());
        let expected = Progress::Done(recorded.expected(len));
        for cut in 0..=recorded.bytes.len() {
            let mut reader = HelloReader::default();
            let first = reader.advance(&recorded.bytes[..cut]);
            assert_eq!(first, if cut < len { Progress::Incomplete } else { expected.clone() }, "{name} up to {cut}");
            assert_eq!(reader.advance(recorded.bytes), expected, "{name} cut at {cut}");
        }
        assert_eq!(dribble(recorded.bytes), (expected, len), "{name} octet by octet");
    }
}

#[test]
fn d02_a_recorded_hello_has_one_verdict_however_it_is_cut_into_records() {
    for recorded in &RECORDED {
        let message = unrecorded(recorded.hello());
        for size in [1, 2, 3, 4, 5, 64, message.len() - 1, message.len()] {
            let mut wire = records(0x0301, &message, size);
            let len = wire.len();
            wire.extend(&recorded.bytes[recorded.hello().len()..]);
            let expected = Progress::Done(recorded.expected(len));
            assert_eq!(whole(&wire), expected, "{} in records of {size}", recorded.name);
            assert_eq!(dribble(&wire), (expected, len), "{} in records of {size}, octet by octet", recorded.name);
        }
    }
}

#[test]
fn d08_grease_everywhere_and_every_order_of_extensions() {
    let grease = |n: u16| n << 12 | 0x0a00 | n << 4 | 0x0a;
    let hello = Hello::default()
        .with(SUPPORTED_VERSIONS, vector8(&shorts(&[grease(7), 0x0304, grease(15), 0x0303])))
        .with(ALPN, alpn(&[&shorts(&[grease(3)]), b"h2"]))
        .with(10, vector16(&shorts(&[grease(2), 0xfe31, 0x001d])));
    let mut list =
        [vec![(grease(0), vec![])], hello.extensions.clone().expect("some"), vec![(grease(9), vec![0])]].concat();
    let suites = [shorts(&[grease(4)]), hello.suites.clone()].concat();
    for turn in 0..list.len() {
        list.rotate_left(1);
        let hello = done(&Hello { extensions: Some(list.clone()), suites: suites.clone(), ..hello.clone() }.wire());
        assert_eq!(hello.sni, Sni::Name(DnsName::parse(b"allowed.test").expect("a name")), "turn {turn}");
        assert_eq!(hello.versions, BOTH);
        assert_eq!(hello.alpn, [Box::from([0x3a, 0x3a]), Box::from(*b"h2")]);
    }
}

#[test]
fn d09_the_post_quantum_hello_is_longer_than_a_segment() {
    let chromium = RECORDED.iter().find(|recorded| recorded.name == "chromium").expect("recorded");
    assert!(chromium.bytes.len() > 1460);
    let mut reader = HelloReader::default();
    assert_eq!(reader.advance(&chromium.bytes[..1460]), Progress::Incomplete);
    assert_eq!(reader.advance(chromium.bytes), Progress::Done(chromium.expected(chromium.bytes.len())));
}

// ---- rustls as the other opinion --------------------------------------------------------------------------------------

/// What rustls reads, in our words: `None` is an error, the inner `None` that it wants more.
type OtherOpinion = Option<Option<(Option<String>, Vec<Box<[u8]>>)>>;

fn rustls_reads(mut wire: &[u8]) -> OtherOpinion {
    let mut acceptor = rustls::server::Acceptor::default();
    while !wire.is_empty() {
        acceptor.read_tls(&mut wire).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().map(|names| names.map(Into::into).collect()).unwrap_or_default();
            return Some(Some((hello.server_name().map(str::to_owned), alpn)));
        }
    }
    Some(None)
}

fn as_rustls_says(hello: &ClientHello) -> OtherOpinion {
    let name = match &hello.sni {
        Sni::Name(name) => Some(name.to_string()),
        Sni::Absent(WhyNoSni::NoExtension) => None,
    };
    Some(Some((name, hello.alpn.clone())))
}

#[test]
fn d01_rustls_reads_the_recorded_hellos_alike() {
    for recorded in &RECORDED {
        let message = unrecorded(recorded.hello());
        for size in [5, 64, message.len()] {
            let wire = records(0x0301, &message, size);
            assert_eq!(as_rustls_says(&done(&wire)), rustls_reads(&wire), "{} in records of {size}", recorded.name);
        }
    }
}

#[test]
fn a_hello_of_rustls_is_read() {
    let tls12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    for (versions, offered) in [(rustls::ALL_VERSIONS, BOTH), (tls12, &[0x0303])] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let mut config = config
            .expect("versions of the provider")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"\xff\x00".to_vec()];
        let name = "allowed.test".try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("a Vec takes all");
        let hello = done(&wire);
        assert_eq!(hello.sni, Sni::Name(DnsName::parse(b"allowed.test").expect("a name")));
        assert_eq!(hello.alpn, [Box::from(*b"h2"), Box::from(*b"\xff\x00")]);
        assert_eq!(hello.versions, offered);
        assert_eq!(hello.wire_len, wire.len());
        assert_eq!(as_rustls_says(&hello), rustls_reads(&wire));
    }
}

// ---- the record layer -------------------------------------------------------------------------------------------------

#[test]
fn d03_nothing_stands_between_or_beside_the_records_of_a_hello() {
    const OTHER: &str = "a record of another content type stands before the end of the client_hello";
    const MORE: &str = "more octets follow the client_hello in its last record";
    let message = Hello::default().message();
    let (first, second) = message.split_at(30);
    let with = |between: &[u8]| [record(22, 0x0301, first), between.to_vec(), record(22, 0x0303, second)].concat();
    assert!(matches!(whole(&with(&[])), Progress::Done(_)), "control");
    assert_malformed("empty record between", &with(&record(22, 0x0301, &[])), "a handshake record is empty");
    assert_malformed("empty record in front", &record(22, 0x0301, &[]), "a handshake record is empty");
    assert_malformed("change_cipher_spec between", &with(&record(20, 0x0303, &[1])), OTHER);
    assert_malformed("alert between", &with(&record(21, 0x0303, &[1, 0])), OTHER);
    assert_malformed("application_data between", &with(&record(23, 0x0303, &[1, 0])), OTHER);
    assert_malformed("empty application_data between", &with(&record(23, 0x0303, &[])), OTHER);
    assert_malformed("heartbeat between", &with(&record(24, 0x0303, &[1])), OTHER);
    assert_malformed("HTTP between", &with(b"GET / HTTP/1.1\r\n"), OTHER);
    let alien = with(&[22, 4, 0, 0, 1, 0]);
    assert_malformed("another major version between", &alien, "a record header in the client_hello is not TLS");
    let two = [&message[..], &message].concat();
    for size in [two.len(), message.len() + 1] {
        assert_malformed("two messages in one record", &records(0x0301, &two, size), MORE);
    }
    let glued = [record(22, 0x0301, first), record(22, 0x0301, &[second, &[20]].concat())].concat();
    assert_malformed("one octet of a second message", &glued, MORE);
    assert_malformed("a long record for a short message", &[22, 3, 1, 0, 5, 1, 0, 0, 0], MORE);
    for (msg_type, what) in [(0, "hello_request"), (2, "server_hello"), (11, "certificate")] {
        let wire = Hello { msg_type, ..Hello::default() }.wire();
        assert_malformed(what, &wire, "the first handshake message is not a client_hello");
        assert_eq!(dribble(&wire).1, 6, "{what}: decided at its first octet");
    }
}

#[test]
fn d03_a_record_holds_at_most_16384_octets() {
    let message = padded(20_000).message();
    assert!(matches!(whole(&records(0x0301, &message, 16_384)), Progress::Done(_)));
    let wire = records(0x0301, &message, 16_385);
    assert_malformed("16385", &wire, "a record is longer than 16384 octets");
    assert_eq!(dribble(&wire).1, 5, "decided at the record's header");
}

#[test]
fn d13_what_follows_the_hello_changes_nothing() {
    let wire = Hello::default().wire();
    let expected = whole(&wire);
    let behind: [&[u8]; 7] = [
        &record(20, 0x0303, &[1]),
        &record(23, 0x0303, &[0; 100]),
        &record(22, 0x0303, &[]),
        &record(22, 0x0303, &Hello::default().message()),
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff],
        &[0; MAX_WIRE],
    ];
    for behind in behind {
        assert_eq!(whole(&[&wire, behind].concat()), expected);
    }
    assert!(matches!(expected, Progress::Done(ClientHello { wire_len, .. }) if wire_len == wire.len()));
}

#[test]
fn a14_what_is_not_tls_is_known_at_its_first_octets() {
    let table: [(&str, &[u8], usize); 9] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", 1),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", 1),
        ("h2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 1),
        ("zero", &[0; 16], 1),
        ("alert", &[21, 3, 3, 0, 2, 2, 40], 1),
        ("change_cipher_spec", &[20, 3, 3, 0, 1, 1], 1),
        ("application_data", &[23, 3, 3, 0, 1, 1], 1),
        ("0x16 and then text", b"\x16GET", 2),
        ("DTLS", &[22, 0xfe, 0xfd, 0, 0], 2),
    ];
    for (what, wire, at) in table {
        assert_invalid(what, wire, Reason::NotTls);
        assert_eq!(dribble(wire), (Progress::Invalid(HelloError::NotTls), at), "{what}");
    }
    assert_eq!(whole(b""), Progress::Incomplete);
}

// ---- sizes ------------------------------------------------------------------------------------------------------------

#[test]
fn d04_a_hello_is_read_up_to_the_cap_and_not_beyond() {
    let bare = padded(0).message().len();
    for len in [16_380, 16_384, 16_385, 32_768, 65_515, 65_516] {
        let wire = records(0x0301, &padded(len - bare).message(), 16_384);
        assert_eq!(done(&wire).wire_len, wire.len(), "a message of {len} octets");
        assert_eq!(dribble(&wire).0, whole(&wire));
    }
    let largest = records(0x0301, &padded(65_516 - bare).message(), 16_384);
    assert_eq!(largest.len(), MAX_WIRE);
    let larger = records(0x0301, &padded(65_517 - bare).message(), 16_384);
    assert_invalid("one octet more", &larger, Reason::ClientHelloTooLarge);
    assert_eq!(dribble(&larger).1, 9, "decided at the length field");
}

#[test]
fn d04_record_headers_count_towards_the_cap() {
    let bare = padded(0).message().len();
    // 10922 records of six octets are 65532.
    let fits = records(0x0301, &padded(10_922 - bare).message(), 1);
    assert!(matches!(whole(&fits), Progress::Done(_)));
    let wire = records(0x0301, &padded(10_923 - bare).message(), 1);
    assert!(wire.len() > MAX_WIRE);
    assert_invalid("one record more", &wire, Reason::ClientHelloTooLarge);
    assert!(dribble(&wire).1 <= MAX_WIRE);
}

#[test]
fn d05_a_declared_length_beyond_the_cap_is_refused_before_the_bytes_come() {
    let wire = [22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    assert_eq!(dribble(&wire), (Progress::Invalid(HelloError::TooLarge), 9));
    assert_eq!(whole(&wire[..8]), Progress::Incomplete);
    // The same with the length field cut into records of one octet.
    let wire = records(0x0301, &[1, 0xff, 0xff, 0xff, 3], 1);
    assert_eq!(dribble(&wire), (Progress::Invalid(HelloError::TooLarge), 24));
}

#[test]
fn d05_what_was_read_once_is_not_read_again() {
    let wire = records(0x0301, &Hello::default().message(), 1);
    let mut reader = HelloReader::default();
    assert_eq!(reader.advance(&wire[..600]), Progress::Incomplete);
    let mut spoiled = wire[..660].to_vec();
    spoiled[..600].fill(0xff);
    assert_eq!(whole(&spoiled), Progress::Invalid(HelloError::NotTls), "control");
    assert_eq!(reader.advance(&spoiled), Progress::Incomplete, "the first 100 records were not looked at");
    assert!(matches!(reader.advance(&wire), Progress::Done(_)));
}

#[test]
fn d04_many_extensions_are_read_and_many_protocols_bounded() {
    let many: Vec<_> = (1000..15_000).map(|kind| (kind, vec![])).collect();
    let mut hello = Hello::default();
    hello.extensions.as_mut().expect("some").extend(many);
    assert!(matches!(whole(&hello.wire()), Progress::Done(_)));
    let names = |n: usize| Hello::default().with(ALPN, alpn(&vec![b"x".as_slice(); n]));
    assert_eq!(done(&names(MAX_ALPN).wire()).alpn.len(), MAX_ALPN);
    assert_invalid("one protocol more", &names(MAX_ALPN + 1).wire(), Reason::ClientHelloTooLarge);
}

// ---- versions ---------------------------------------------------------------------------------------------------------

#[test]
fn d11_versions() {
    let record = |record_version| Hello { record_version, ..Hello::default() };
    let legacy = |legacy_version| Hello { legacy_version, ..Hello::default() };
    let alone = |legacy_version| legacy(legacy_version).without(SUPPORTED_VERSIONS);
    let offers = |list: &[u16]| Hello::default().with(SUPPORTED_VERSIONS, vector8(&shorts(list)));
    let taken = [
        ("record 0x0301", record(0x0301), BOTH),
        ("record 0x0302", record(0x0302), BOTH),
        ("record 0x0303", record(0x0303), BOTH),
        ("legacy_version 0x0301 beside supported_versions", legacy(0x0301), BOTH),
        ("legacy_version 0x0302 beside supported_versions", legacy(0x0302), BOTH),
        ("legacy_version 0x0303 alone", alone(0x0303), &[0x0303]),
        ("TLS 1.3 alone", offers(&[0x0304]), &[0x0304]),
        ("TLS 1.2 and older", offers(&[0x0301, 0x0302, 0x0303]), &[0x0301, 0x0302, 0x0303]),
        ("an unknown one and TLS 1.2", offers(&[0x0309, 0x0303]), &[0x0309, 0x0303]),
    ];
    for (what, hello, versions) in taken {
        assert_eq!(done(&hello.wire()).versions, versions, "{what}");
    }
    let refused = [
        ("record 0x0300", record(0x0300), VersionError::Record(0x0300)),
        ("record 0x0304", record(0x0304), VersionError::Record(0x0304)),
        ("record 0x03ff", record(0x03ff), VersionError::Record(0x03ff)),
        ("legacy_version 0x0300", legacy(0x0300), VersionError::Legacy(0x0300)),
        ("legacy_version 0x0300 alone", alone(0x0300), VersionError::Legacy(0x0300)),
        ("legacy_version 0x0002", legacy(0x0002), VersionError::Legacy(0x0002)),
        ("legacy_version 0x0304", legacy(0x0304), VersionError::Legacy(0x0304)),
        ("legacy_version 0x0304 alone", alone(0x0304), VersionError::Legacy(0x0304)),
        ("TLS 1.0 only", alone(0x0301), VersionError::NoneTaken),
        ("TLS 1.1 only", alone(0x0302), VersionError::NoneTaken),
        ("TLS 1.1 only, said in the extension", offers(&[0x0302]), VersionError::NoneTaken),
        ("drafts only", offers(&[0x7f1c, 0x7f17]), VersionError::NoneTaken),
        ("an unknown one only", offers(&[0x0309]), VersionError::NoneTaken),
        ("GREASE only", offers(&[0x1a1a]), VersionError::NoneTaken),
    ];
    for (what, hello, why) in refused {
        let wire = hello.wire();
        assert_eq!(whole(&wire), Progress::Invalid(HelloError::Version(why)), "{what}");
        assert_invalid(what, &wire, Reason::TlsVersion);
    }
    // The version of a later record counts too, and is known at its third octet.
    let (first, second) = (&Hello::default().message()[..9], &Hello::default().message()[9..]);
    let wire = [self::record(22, 0x0301, first), self::record(22, 0x0304, second)].concat();
    assert_eq!(dribble(&wire), (Progress::Invalid(VersionError::Record(0x0304).into()), 17));
}

#[test]
fn d11_an_sslv2_hello_is_a_version_that_is_not_taken() {
    // RFC 5246 appendix E.2: length with the high bit, msg_type 1, version, three lengths, one suite, a challenge.
    let hello = |high, low| [&[0x80, 0x1c, 1, high, low, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f][..], &[9; 16]].concat();
    for (what, wire, at) in [
        ("for TLS 1.2", hello(3, 3), 4),
        ("for TLS 1.0", hello(3, 1), 4),
        ("for SSL 3.0", hello(3, 0), 4),
        ("for SSL 2.0", hello(0, 2), 5),
    ] {
        assert_invalid(what, &wire, Reason::TlsVersion);
        assert_eq!(dribble(&wire), (Progress::Invalid(VersionError::Sslv2.into()), at), "{what}");
    }
    for (what, wire, at) in [
        ("another message", [&[0x80, 0x1c, 2], &hello(3, 3)[3..]].concat(), 3),
        ("no version of either", hello(4, 1), 4),
        ("no version of SSL 2.0", hello(0, 3), 5),
        ("noise", vec![0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0], 3),
    ] {
        assert_invalid(what, &wire, Reason::NotTls);
        assert_eq!(dribble(&wire), (Progress::Invalid(HelloError::NotTls), at), "{what}");
    }
}

// ---- the body ---------------------------------------------------------------------------------------------------------

#[test]
fn d06_the_fields_before_the_extensions() {
    let h = Hello::default;
    let taken = [
        ("no session_id", Hello { session_id: vec![], ..h() }),
        ("one cipher suite", Hello { suites: vec![0x13, 1], ..h() }),
        ("null behind deflate", Hello { compression: vec![1, 0], ..h() }),
    ];
    for (what, hello) in taken {
        assert!(matches!(whole(&hello.wire()), Progress::Done(_)), "{what}");
    }
    const SUITES: &str = "cipher_suites is empty or of odd length";
    const NULL: &str = "compression_methods does not offer null";
    let refused = [
        ("session_id of 33", Hello { session_id: vec![0; 33], ..h() }, "session_id is longer than 32 octets"),
        ("no cipher suites", Hello { suites: vec![], ..h() }, SUITES),
        ("an odd octet of cipher suites", Hello { suites: vec![0x13, 1, 0x13], ..h() }, SUITES),
        ("no compression methods", Hello { compression: vec![], ..h() }, NULL),
        ("deflate only", Hello { compression: vec![1], ..h() }, NULL),
        ("an octet behind all", Hello { tail: vec![0], ..h() }, "octets follow the extensions block"),
    ];
    for (what, hello, why) in refused {
        assert_malformed(what, &hello.wire(), why);
    }
}

#[test]
fn d06_a_body_that_ends_anywhere_but_at_its_end_is_malformed() {
    let bare = Hello { extensions: None, ..Hello::default() }.body().len();
    let body = Hello::default().body();
    for len in (0..body.len()).filter(|len| *len != bare) {
        let wire = records(0x0301, &message(1, &body[..len]), 1 << 14);
        assert_invalid(&format!("{len} octets"), &wire, Reason::MalformedClientHello);
    }
}

#[test]
fn d07_no_sni_is_told_apart_from_a_wrong_one() {
    let absent = Sni::Absent(WhyNoSni::NoExtension);
    assert_eq!(done(&Hello::default().without(SERVER_NAME).wire()).sni, absent);
    let no_block = done(&Hello { extensions: None, ..Hello::default() }.wire());
    assert_eq!((no_block.sni, no_block.alpn, no_block.versions), (absent.clone(), vec![], vec![0x0303]));
    let empty_block = done(&Hello { extensions: Some(vec![]), ..Hello::default() }.wire());
    assert_eq!((empty_block.sni, empty_block.ech), (absent, Ech::Absent));
}

#[test]
fn c01_c02_a_name_comes_to_its_normal_form() {
    let longest = [&[b'a'; 63][..], &[b'b'; 63], &[b'c'; 63], &[b'd'; 61]].join(&b'.');
    let long = String::from_utf8(longest.clone()).expect("ASCII");
    let table: [(&[u8], &str); 6] = [
        (b"ALLOWED.Test", "allowed.test"),
        (b"allowed.test.", "allowed.test"),
        (b"ALLOWED.TEST.", "allowed.test"),
        (b"a_b.allowed.test", "a_b.allowed.test"),
        (b"xn--bcher-kva.allowed.test", "xn--bcher-kva.allowed.test"),
        (&longest, &long),
    ];
    for (wire, name) in table {
        let hello = done(&Hello::default().with(SERVER_NAME, server_name(wire)).wire());
        assert_eq!(hello.sni, Sni::Name(DnsName::parse(name.as_bytes()).expect("a name")), "{name}");
        assert!(matches!(hello.sni, Sni::Name(found) if found.as_str() == name), "{name}");
    }
}

#[test]
fn d06_c05_k01_a_server_name_that_is_no_host_name_is_refused() {
    let table: [(&[u8], NameError); 20] = [
        (b".", NameError::EmptyLabel),
        (b"allowed.test..", NameError::EmptyLabel),
        (b".allowed.test", NameError::EmptyLabel),
        (b"192.0.2.1", NameError::IpLiteral),
        (b"127.1", NameError::EndsInNumber),
        (b"[2001:db8::1]", NameError::IpLiteral),
        (b"2001:db8::1", NameError::Character),
        (b"denied.test\0.allowed.test", NameError::Character),
        (b"allowed.test\0", NameError::Character),
        (b"allowed.test\r\n", NameError::Character),
        (b"allowed.test\x1b[31m", NameError::Character),
        (b"allowed\".test", NameError::Character),
        (b"*.allowed.test", NameError::Character),
        (b"allowed.test:443", NameError::Character),
        ("bücher.test".as_bytes(), NameError::Character),
        ("allowed\u{3002}test".as_bytes(), NameError::Character),
        ("a\u{202e}llowed.test".as_bytes(), NameError::Character),
        (b"\xff\xfe.test", NameError::Character),
        (b"xn--a.allowed.test", NameError::Idna),
        (&[b'a'; 255], NameError::TooLong),
    ];
    for (name, why) in table {
        let what = name.escape_ascii().to_string();
        let wire = Hello::default().with(SERVER_NAME, server_name(name)).wire();
        assert_eq!(whole(&wire), Progress::Invalid(HelloError::ServerName(why)), "{what}");
        assert_invalid(&what, &wire, Reason::MalformedClientHello);
    }
    let huge = Hello::default().with(SERVER_NAME, server_name(&[b'a'; 60_000])).wire();
    assert_invalid("60000 octets", &huge, Reason::MalformedClientHello);
}

#[test]
fn d06_a_server_name_extension_of_another_form_is_refused() {
    const WHY: &str = "server_name does not hold exactly one host_name";
    let entry = |kind: u8, name: &[u8]| [&[kind], &vector16(name)[..]].concat();
    let allowed = entry(0, b"allowed.test");
    let table = [
        ("nothing", vec![]),
        ("an empty list", vec![0, 0]),
        ("a list with a type only", vector16(&[0])),
        ("name_type 1", vector16(&entry(1, b"allowed.test"))),
        ("two names", vector16(&[&allowed[..], &entry(0, b"denied.test")].concat())),
        ("the same name twice", vector16(&[&allowed[..], &allowed].concat())),
        ("a name and one of another type", vector16(&[&allowed[..], &entry(1, b"denied.test")].concat())),
        ("one of another type and a name", vector16(&[&entry(1, b"denied.test")[..], &allowed].concat())),
        ("an octet behind the name", vector16(&[&allowed[..], &[0]].concat())),
        ("an octet behind the list", [vector16(&allowed), vec![0]].concat()),
        ("a second list", [vector16(&allowed), vector16(&allowed)].concat()),
    ];
    for (what, data) in table {
        assert_malformed(what, &Hello::default().with(SERVER_NAME, data).wire(), WHY);
    }
    let good = server_name(b"allowed.test");
    for len in 0..good.len() {
        let wire = Hello::default().with(SERVER_NAME, good[..len].to_vec()).wire();
        assert_malformed(&format!("cut at {len}"), &wire, WHY);
    }
    let empty = Hello::default().with(SERVER_NAME, server_name(b"")).wire();
    assert_eq!(whole(&empty), Progress::Invalid(HelloError::ServerName(NameError::Empty)));
}

#[test]
fn d06_no_extension_stands_twice_known_or_not() {
    const WHY: &str = "an extension stands twice";
    let table = [
        ("server_name", Hello::default().twice(SERVER_NAME, server_name(b"denied.test"))),
        ("the same server_name", Hello::default().twice(SERVER_NAME, server_name(b"allowed.test"))),
        ("ALPN", Hello::default().twice(ALPN, alpn(&[b"h2"]))),
        ("an unknown one", Hello::default().twice(999, vec![]).twice(999, vec![1])),
        ("GREASE", Hello::default().twice(0x1a1a, vec![]).twice(0x1a1a, vec![])),
        ("type 0xffff", Hello::default().twice(0xffff, vec![]).twice(0xffff, vec![])),
    ];
    for (what, hello) in table {
        assert_malformed(what, &hello.wire(), WHY);
    }
}

#[test]
fn d06_pre_shared_key_is_last() {
    const PSK: u16 = PRE_SHARED_KEY;
    assert!(matches!(whole(&Hello::default().twice(PSK, vec![1; 60]).wire()), Progress::Done(_)));
    let wire = Hello::default().twice(PSK, vec![1; 60]).twice(21, vec![]).wire();
    assert_malformed("an extension behind it", &wire, "pre_shared_key is not the last extension");
}

#[test]
fn d15_alpn_names_are_octets_and_never_empty() {
    let odd: [&[u8]; 4] = [b"h2", b"\xc3\xa9\0\r\n", &[b'x'; 255], b"h2"];
    let hello = done(&Hello::default().with(ALPN, alpn(&odd)).wire());
    assert!(hello.alpn.iter().map(|name| &**name).eq(odd));
    assert!(done(&Hello::default().without(ALPN).wire()).alpn.is_empty());
    let table = [
        ("nothing", vec![]),
        ("an empty list", vec![0, 0]),
        ("an empty name", alpn(&[b""])),
        ("an empty name behind another", alpn(&[b"h2", b""])),
        ("a name cut off", vector16(&[3, b'h', b'2'])),
        ("an octet behind the list", [alpn(&[b"h2"]), vec![0]].concat()),
        ("a list cut off", vec![0, 4, 2, b'h', b'2']),
    ];
    for (what, data) in table {
        let wire = Hello::default().with(ALPN, data).wire();
        assert_malformed(what, &wire, "the ALPN list is empty, cut off, or holds an empty name");
    }
}

#[test]
fn d11_supported_versions_is_one_even_list() {
    let table = [
        ("nothing", vec![]),
        ("an empty list", vec![0]),
        ("an odd list", vec![3, 3, 4, 3]),
        ("an octet behind", vec![2, 3, 4, 0]),
        ("a list cut off", vec![4, 3, 4]),
        ("the server's form", vec![3, 4]),
    ];
    for (what, data) in table {
        let wire = Hello::default().with(SUPPORTED_VERSIONS, data).wire();
        assert_malformed(what, &wire, "supported_versions is not one list of versions");
    }
}

#[test]
fn d10_the_outer_ech_is_noted_and_every_other_refused() {
    let hello = done(&Hello::default().with(ENCRYPTED_CLIENT_HELLO, ech_outer()).wire());
    assert_eq!(hello.ech, Ech::Outer);
    assert_eq!(hello.sni, Sni::Name(DnsName::parse(b"allowed.test").expect("a name")), "decided on the outer name");
    assert_eq!(done(&Hello::default().wire()).ech, Ech::Absent);
    const FORM: &str = "encrypted_client_hello is not of its own form";
    let table = [
        ("nothing", vec![], "encrypted_client_hello is of no known kind"),
        ("kind 2", vec![2], "encrypted_client_hello is of no known kind"),
        ("inner", vec![1], "encrypted_client_hello is of the inner kind"),
        ("inner with more", [vec![1], ech_outer()].concat(), "encrypted_client_hello is of the inner kind"),
        ("an octet behind", [ech_outer(), vec![0]].concat(), FORM),
        ("an empty payload", [&[0, 0, 1, 0, 1, 77][..], &vector16(&[9; 32]), &[0, 0]].concat(), FORM),
    ];
    for (what, data, why) in table {
        assert_malformed(what, &Hello::default().with(ENCRYPTED_CLIENT_HELLO, data).wire(), why);
    }
    for len in 1..ech_outer().len() {
        let wire = Hello::default().with(ENCRYPTED_CLIENT_HELLO, ech_outer()[..len].to_vec()).wire();
        assert_malformed(&format!("cut at {len}"), &wire, FORM);
    }
}

// ---- arbitrary bytes --------------------------------------------------------------------------------------------------

/// What holds for any bytes whatever: one verdict, the same for the whole and octet by octet, that more bytes do not change.
fn check_any(wire: &[u8]) -> Result<(), TestCaseError> {
    let verdict = whole(wire);
    let (dribbled, at) = dribble(wire);
    prop_assert_eq!(&verdict, &dribbled);
    if verdict == Progress::Incomplete {
        prop_assert!(wire.len() < MAX_WIRE);
        return Ok(());
    }
    prop_assert!(at <= MAX_WIRE);
    let mut reader = HelloReader::default();
    for len in [at, at, wire.len(), wire.len()] {
        prop_assert_eq!(reader.advance(&wire[..len]), verdict.clone());
    }
    prop_assert_eq!(reader.advance(&[wire, &[0xff; 64]].concat()), verdict.clone());
    if let Progress::Done(hello) = verdict {
        prop_assert_eq!(hello.wire_len, at);
        // Where rustls takes it, it reads the same name; its own name keeps the trailing dot.
        let other = rustls_reads(&wire[..at]);
        prop_assert!(other != Some(None), "rustls waits for more");
        if let Some(Some((name, protocols))) = other {
            let name = name.map(|name| name.trim_end_matches('.').to_owned());
            prop_assert_eq!(as_rustls_says(&hello), Some(Some((name, protocols))));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes(wire in prop::collection::vec(any::<u8>(), 0..400)) {
        check_any(&wire)?;
    }

    #[test]
    fn any_body(body in prop::collection::vec(any::<u8>(), 0..400), size in 1usize..500) {
        let body = [&[3, 3][..], &body].concat();
        check_any(&records(0x0301, &message(1, &body), size))?;
    }

    #[test]
    fn d01_d02_a_mutated_hello_has_one_verdict(
        which in 0..RECORDED.len(),
        size in prop_oneof![1usize..70, Just(1 << 14)],
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 0..4),
        at_records in any::<bool>(),
    ) {
        let message = unrecorded(RECORDED[which].hello());
        let mut bytes = if at_records { records(0x0301, &message, size) } else { message };
        for (at, octet, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = octet,
                1 => bytes.insert(at, octet),
                _ => drop(bytes.remove(at)),
            }
        }
        let wire = if at_records { bytes } else { records(0x0301, &bytes, size) };
        check_any(&wire)?;
    }

    /// Any fields in their right places: the deep half of the parser, which blind mutation seldom reaches.
    #[test]
    fn any_extensions(
        list in prop::collection::vec((prop_oneof![
            Just(SERVER_NAME), Just(ALPN), Just(PRE_SHARED_KEY), Just(SUPPORTED_VERSIONS), Just(ENCRYPTED_CLIENT_HELLO), any::<u16>(),
        ], prop::collection::vec(prop_oneof![0u8..5, Just(b'a'), any::<u8>()], 0..12)), 0..6),
        size in 1usize..500,
    ) {
        let hello = Hello { extensions: Some(list), ..Hello::default() }.with(13, vector16(&shorts(&[0x0403])));
        check_any(&records(0x0301, &hello.message(), size))?;
    }
}
