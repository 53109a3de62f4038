//! Only scenes about what a client sends behind the 200 of CONNECT belong here: recorded, cut, forged and missing ClientHellos.

use rustls::version::{TLS12, TLS13};

use super::support::client::{Tls, Wire, alert_of};
use super::support::hellos::{Hello, all_recorded, message_of, record, recorded, records, sixteen};
use super::support::{Config, Origin, Sekisho};

const UNRECOGNIZED_NAME: u8 = 112;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const HANDSHAKE_FAILURE: u8 = 40;

const SIGNATURE_ALGORITHMS: u16 = 13;
const KEY_SHARE: u16 = 51;

/// Two names on two origins; hellos name the first.
async fn stage() -> (Origin, Origin, Sekisho) {
    let allowed = Origin::https(&["allowed.test"]).start().await;
    let other = Origin::https(&["other.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &allowed).tunnel("other.test", &other);
    let sekisho = Sekisho::start(&config).await;
    (allowed, other, sekisho)
}

/// Sends the parts, each in a write of its own, and reads the first octet that comes back.
async fn first_octet(wire: &mut Wire<tokio::net::TcpStream>, parts: &[&[u8]]) -> Option<u8> {
    for part in parts {
        let _ = wire.try_send(part).await;
        tokio::task::yield_now().await;
    }
    wire.exactly(1).await.map(|octets| octets[0])
}

/// Offsets worth cutting at: the neighbours of every length field, and a spread over the rest.
fn cuts(length: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = [1, 2, 3, 4, 5, 6, 9, 10, 43, 44].into_iter().filter(|cut| *cut < length).collect();
    cuts.extend((1..8).map(|eighth| length * eighth / 8));
    cuts.extend([length - 2, length - 1]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

#[tokio::test]
async fn d01_d08_d09_recorded_hellos_pass_wherever_they_are_cut() {
    let (allowed, _other, mut sekisho) = stage().await;
    let names: Vec<String> =
        all_recorded().into_iter().filter(|name| !["openssl-no-sni", "wget"].contains(&name.as_str())).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let hello = recorded(&name);
        for cut in cuts(hello.len()) {
            let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
            let (head, tail) = hello.split_at(cut);
            assert_eq!(first_octet(&mut wire, &[head, tail]).await, Some(22), "{name} cut at {cut}: a ServerHello");
            drop(wire);
            let record = sekisho.next_connection().await;
            record.with("tls.client.server_name", "allowed.test").with("rule.name", "allowed.test");
            assert_ne!(record.outcome(), "denied", "{name} cut at {cut}: {record:?}");
        }
    }
    assert!(allowed.snis().iter().all(|sni| sni == "allowed.test"));
}

#[tokio::test]
async fn d02_recorded_hellos_are_read_over_any_number_of_records() {
    let (allowed, other, mut sekisho) = stage().await;
    for name in ["chromium", "curl", "openssl-tls12", "java"] {
        let (message, _) = message_of(&recorded(name));
        for size in [64, message.len() - 1, message.len() / 2] {
            let bytes = records(&message, size);
            let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
            assert_eq!(first_octet(&mut wire, &[&bytes]).await, Some(22), "{name} in records of {size}");
            drop(wire);
            sekisho.next_connection().await.with("tls.client.server_name", "allowed.test");
        }
        for size in [1, 2, 5, 64, message.len() - 1] {
            let mut wire = sekisho.tunnel(&other.at("other.test")).await;
            wire.send(records(&message, size)).await;
            let (rest, _) = wire.rest().await;
            let alert = alert_of(&rest);
            assert!(matches!(alert, Some(UNRECOGNIZED_NAME | DECODE_ERROR)), "{name} in records of {size}: {rest:?}");
            assert_eq!(sekisho.next_connection().await.outcome(), "denied", "{name} in records of {size}");
        }
    }
    assert!(other.snis().iter().all(|sni| sni == "other.test"), "{:?}", other.snis());
    sekisho.finish().await;
}

#[tokio::test]
async fn a01_d01_recorded_hellos_for_another_name_are_refused_wherever_they_are_cut() {
    let (_allowed, other, mut sekisho) = stage().await;
    for name in ["chromium", "openssl-early-data", "openssl-tls12"] {
        let hello = recorded(name);
        for cut in cuts(hello.len()).into_iter().step_by(2) {
            let mut wire = sekisho.tunnel(&other.at("other.test")).await;
            let (head, tail) = hello.split_at(cut);
            let _ = wire.try_send(head).await;
            tokio::task::yield_now().await;
            let _ = wire.try_send(tail).await;
            let (rest, _) = wire.rest().await;
            assert_eq!(alert_of(&rest), Some(UNRECOGNIZED_NAME), "{name} cut at {cut}");
            let record = sekisho.next_connection().await;
            record.says("denied", "name_mismatch").with("url.domain", "other.test");
            record.with("tls.client.server_name", "allowed.test");
        }
    }
    assert!(other.snis().iter().all(|sni| sni == "other.test"), "the client's hello never got through");
    sekisho.finish().await;
}

#[tokio::test]
async fn d03_what_is_no_hello_in_the_hellos_place_is_a_decode_error() {
    let (allowed, _other, mut sekisho) = stage().await;
    let message = Hello::named("allowed.test").message();
    let (head, tail) = message.split_at(20);
    let hello = Hello::named("allowed.test").bytes();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("an empty record first", [record(22, b""), hello.clone()].concat()),
        ("an empty record between", [record(22, head), record(22, b""), record(22, tail)].concat()),
        ("change_cipher_spec between", [record(22, head), record(20, &[1]), record(22, tail)].concat()),
        ("an alert between", [record(22, head), record(21, &[1, 0]), record(22, tail)].concat()),
        ("application data between", [record(22, head), record(23, b"x"), record(22, tail)].concat()),
        ("two messages in one record", record(22, &[&message[..], &message[..]].concat())),
        ("a Finished", record(22, &[20, 0, 0, 1, 0])),
        ("a declared length of 16 MiB", record(22, &[1, 0xff, 0xff, 0xff, 3, 3])),
        ("an alert", record(21, &[2, 40])),
    ];
    for (row, bytes) in rows {
        let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
        wire.send(&bytes).await;
        let (rest, _) = wire.rest().await;
        let told = sekisho.next_connection().await;
        assert!(
            alert_of(&rest) == Some(DECODE_ERROR) || (rest.is_empty() && told.reason() == "not_tls"),
            "{row}: {rest:?}"
        );
        assert!(
            ["malformed_client_hello", "client_hello_too_large", "not_tls"].contains(&told.reason()),
            "{row}: {told:?}"
        );
        assert_eq!(told.outcome(), "denied", "{row}");
    }
    assert!(allowed.requests().is_empty());
    sekisho.finish().await;
}

#[tokio::test]
async fn d04_a_hello_is_taken_up_to_a_bound() {
    let (allowed, _other, mut sekisho) = stage().await;
    for size in [3_000, 12_000, 15_000] {
        let hello = Hello::named("allowed.test").extension(21, vec![0; size]).bytes();
        let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
        assert_eq!(first_octet(&mut wire, &[&hello]).await, Some(22), "{size} octets of padding");
        drop(wire);
        sekisho.next_connection().await.with("tls.client.server_name", "allowed.test");
    }
    let mut hello = Hello::named("allowed.test");
    for kind in 0..3 {
        hello = hello.extension(0xfa00 + kind, vec![0; 21_000]);
    }
    let message = hello.message();
    for parts in [records(&message, usize::MAX), records(&message, 100)] {
        let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
        let _ = wire.try_send(&parts).await;
        let first = wire.exactly(1).await;
        if first.as_deref() == Some(&[22]) {
            drop(wire);
            sekisho.next_connection().await.with("tls.client.server_name", "allowed.test");
        } else {
            let rest = [first.unwrap_or_default(), wire.rest().await.0].concat();
            assert!(alert_of(&rest) == Some(DECODE_ERROR) || rest.is_empty(), "{rest:?}");
            sekisho.next_connection().await.says("denied", "client_hello_too_large");
        }
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn d05_a_dribbled_hello_is_cut_in_time_and_hinders_nobody() {
    let allowed = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &allowed).set("timeouts", "client_hello", "\"1s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
        wire.send([22, 3, 1, 0x40, 0, 1, 0xff]).await;
        slow.push(wire);
    }
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&allowed.at("allowed.test")).await).await;
    assert_eq!(inside.get("allowed.test", "/").await.expect("an answer").status, 200);
    inside.bye().await;
    for mut wire in slow {
        wire.closed().await;
    }
    let mut late = 0;
    for _ in 0..51 {
        late += usize::from(sekisho.next_connection().await.reason() == "client_hello_timeout");
    }
    assert_eq!(late, 50);
    sekisho.finish().await;
}

#[tokio::test]
async fn d06_a_malformed_server_name_is_never_taken_for_none() {
    let allowed = Origin::https(&["allowed.test"]).start().await;
    let inspected = Origin::https(&["inspected.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &allowed).inspect("inspected.test", &inspected);
    let mut sekisho = Sekisho::start(&config).await;
    let entry = |kind: u8, name: &[u8]| [&[kind][..], &sixteen(name)].concat();
    let list = |entries: &[Vec<u8>]| sixteen(&entries.concat());
    for name in ["allowed.test", "inspected.test"] {
        let host = name.as_bytes();
        let long = [b"a.".repeat(140), host.to_vec()].concat();
        let rows: Vec<(&str, Hello)> = vec![
            ("two names", Hello::bare().extension(0, list(&[entry(0, host), entry(0, b"denied.test")]))),
            ("two equal names", Hello::bare().extension(0, list(&[entry(0, host), entry(0, host)]))),
            ("name_type 1", Hello::bare().extension(0, list(&[entry(1, host)]))),
            ("an empty name", Hello::bare().extension(0, list(&[entry(0, b"")]))),
            ("an empty list", Hello::bare().extension(0, list(&[]))),
            ("an empty extension", Hello::bare().extension(0, vec![])),
            ("twice", Hello::named(name).sni(b"denied.test")),
            ("twice the same", Hello::named(name).sni(host)),
            ("octets behind the list", Hello::bare().extension(0, [list(&[entry(0, host)]), vec![0]].concat())),
            (
                "a list longer than the extension",
                Hello::bare().extension(0, [&[0xff, 0xff][..], &entry(0, host)].concat()),
            ),
            ("an IPv4 literal", Hello::named("127.0.0.1")),
            ("NUL", Hello::bare().sni(&[host, b"\0.x"].concat())),
            ("UTF-8", Hello::bare().sni("日本.test".as_bytes())),
            ("a wildcard", Hello::bare().sni(b"*.test")),
            ("254 octets and more", Hello::bare().sni(&long)),
            ("octets behind the extensions", Hello { trailing: vec![0, 0], ..Hello::named(name) }),
        ];
        for (row, hello) in rows {
            let origin = if name == "allowed.test" { &allowed } else { &inspected };
            let mut wire = sekisho.tunnel(&origin.at(name)).await;
            wire.send(hello.bytes()).await;
            let (rest, _) = wire.rest().await;
            assert!(matches!(alert_of(&rest), Some(DECODE_ERROR | UNRECOGNIZED_NAME)), "{name}, {row}: {rest:?}");
            let told = sekisho.next_connection().await;
            assert_eq!(told.outcome(), "denied", "{name}, {row}: {told:?}");
            assert!(["malformed_client_hello", "name_mismatch"].contains(&told.reason()), "{name}, {row}: {told:?}");
        }
    }
    assert!(allowed.requests().is_empty() && inspected.requests().is_empty());
    sekisho.finish().await;
}

#[tokio::test]
async fn d07_without_sni_only_an_inspected_connect_goes_on() {
    let allowed = Origin::https(&["allowed.test"]).start().await;
    let inspected = Origin::https(&["inspected.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &allowed).inspect("inspected.test", &inspected);
    let mut sekisho = Sekisho::start(&config).await;

    let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
    wire.send(recorded("openssl-no-sni")).await;
    assert_eq!(alert_of(&wire.rest().await.0), Some(UNRECOGNIZED_NAME));
    sekisho.next_connection().await.says("denied", "no_sni");
    assert!(allowed.requests().is_empty());

    let tls = Tls::named("inspected.test").trusting(&sekisho.ca()).without_sni();
    let mut inside = tls.over(sekisho.tunnel(&inspected.at("inspected.test")).await).await;
    assert_eq!(inside.get(&inspected.at("inspected.test"), "/").await.expect("an answer").status, 200);
    inside.bye().await;
    sekisho.next_request().await.says("allowed", "");
    sekisho.next_connection().await.says("allowed", "").with("url.domain", "inspected.test");
    assert_eq!(inspected.snis(), ["inspected.test"], "upstream the name is always sent");
    sekisho.finish().await;
}

#[tokio::test]
async fn d10_a_hello_with_ech_is_judged_by_its_outer_name() {
    let (allowed, other, mut sekisho) = stage().await;
    let ech = [&[0, 0, 1, 0, 1, 7][..], &sixteen(&[3; 32]), &sixteen(&[4; 144])].concat();
    let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
    let hello = Hello::named("allowed.test").extension(0xfe0d, ech.clone()).bytes();
    assert_eq!(first_octet(&mut wire, &[&hello]).await, Some(22), "(a) GREASE passes");
    drop(wire);
    sekisho.next_connection().await.with("tls.client.server_name", "allowed.test");
    let mut wire = sekisho.tunnel(&other.at("other.test")).await;
    wire.send(Hello::named("cloudflare-ech.com").extension(0xfe0d, ech).bytes()).await;
    assert_eq!(alert_of(&wire.rest().await.0), Some(UNRECOGNIZED_NAME), "(b) another outer name does not");
    sekisho.next_connection().await.says("denied", "name_mismatch");
    sekisho.finish().await;
}

/// The hello for allowed.test in one record of this minor version.
fn versioned(minor: u8) -> Vec<u8> {
    let mut bytes = Hello::named("allowed.test").bytes();
    bytes[2] = minor;
    bytes
}

/// A hello in the format of SSL 2.0 (RFC 5246 appendix E.2).
fn sslv2(version: &[u8; 2]) -> Vec<u8> {
    [&[0x80, 0x1f, 1][..], version, &[0, 6, 0, 0, 0, 16, 0, 0xc0, 0x2b, 0, 0, 0xff], &[5; 16]].concat()
}

#[tokio::test]
async fn d11_old_versions_are_told_so() {
    let (allowed, _other, mut sekisho) = stage().await;
    let rows: Vec<(&str, Vec<u8>, bool)> = vec![
        ("SSL 3.0", Hello::named("allowed.test").legacy(0x0300).bytes(), false),
        ("TLS 1.0", Hello::named("allowed.test").legacy(0x0301).bytes(), false),
        ("TLS 1.1", Hello::named("allowed.test").legacy(0x0302).bytes(), false),
        ("TLS 1.2", Hello::named("allowed.test").legacy(0x0303).bytes(), true),
        ("only a draft of 1.3", Hello::named("allowed.test").versions(&[0x7f1c]).bytes(), false),
        ("only 1.1 and 1.0", Hello::named("allowed.test").versions(&[0x0302, 0x0301]).bytes(), false),
        ("GREASE and 1.3", Hello::named("allowed.test").versions(&[0x2a2a, 0x0304]).bytes(), true),
        // RFC 8446 section 4.2.1 lets a server negotiate TLS 1.2 here, or abort.
        ("legacy_version 0x0304 alone", Hello::named("allowed.test").legacy(0x0304).bytes(), false),
        ("legacy_version 0xfefe", Hello { legacy_version: 0xfefe, ..Hello::named("allowed.test") }.bytes(), false),
        ("a record of 0x0300", versioned(0x00), false),
        ("a record of 0x0304", versioned(0x04), false),
        ("a record of 0x0303", versioned(0x03), true),
        ("SSL 2.0 format for TLS 1.2", sslv2(&[3, 3]), false),
        ("SSL 2.0 format for TLS 1.0", sslv2(&[3, 1]), false),
        ("SSL 2.0", sslv2(&[0, 2]), false),
    ];
    for (row, hello, passes) in rows {
        let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
        wire.send(&hello).await;
        if passes {
            assert!(matches!(wire.exactly(1).await.as_deref(), Some([22])), "{row}");
            drop(wire);
            assert_ne!(sekisho.next_connection().await.outcome(), "denied", "{row}");
        } else {
            assert_eq!(alert_of(&wire.rest().await.0), Some(PROTOCOL_VERSION), "{row}");
            sekisho.next_connection().await.says("denied", "tls_version");
        }
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn d11_a14_what_is_not_tls_is_closed_without_a_word() {
    let (allowed, _other, mut sekisho) = stage().await;
    for (row, bytes) in [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("noise", vec![0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0]),
    ] {
        let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
        wire.send(&bytes).await;
        let (rest, _) = wire.rest().await;
        assert!(rest.is_empty(), "{row}: {rest:?}");
        sekisho.next_connection().await.says("denied", "not_tls");
    }
    assert!(allowed.requests().is_empty());
    sekisho.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_hello_is_recorded() {
    let (allowed, _other, mut sekisho) = stage().await;
    for bytes in [&b""[..], &[22, 3, 1]] {
        let mut wire = sekisho.tunnel(&allowed.at("allowed.test")).await;
        wire.send(bytes).await;
        wire.finish_writing().await;
        wire.closed().await;
        sekisho.next_connection().await.says("failed", "client_closed").with("sekisho.side", "client");
    }
    sekisho.finish().await;
}

/// The next record: its content type and fragment.
async fn next_record(wire: &mut Wire<tokio::net::TcpStream>) -> Option<(u8, Vec<u8>)> {
    let header = wire.exactly(5).await?;
    let fragment = wire.exactly(usize::from(u16::from_be_bytes([header[3], header[4]]))).await?;
    Some((header[0], fragment))
}

#[tokio::test]
async fn d12_an_inspected_client_that_changes_its_name_on_a_retry_is_refused() {
    let inspected = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &inspected).inspect("other.test", &inspected);
    let mut sekisho = Sekisho::start(&config).await;
    let mut first = Hello::named("allowed.test");
    first.extensions.iter_mut().filter(|(kind, _)| *kind == KEY_SHARE).for_each(|(_, data)| *data = vec![0, 0]);
    for (row, second, same) in [
        ("the same name", Hello::named("allowed.test"), true),
        ("another allowed name", Hello::named("other.test"), false),
        ("a name on no list", Hello::named("denied.test"), false),
        ("no name", Hello::bare(), false),
    ] {
        let mut wire = sekisho.tunnel(&inspected.at("allowed.test")).await;
        wire.send(first.bytes()).await;
        let (kind, retry) = next_record(&mut wire).await.expect("a HelloRetryRequest");
        // RFC 8446 section 4.1.3: the random of a HelloRetryRequest.
        assert_eq!((kind, &retry[6..10]), (22, &[0xcf, 0x21, 0xad, 0x74][..]), "{row}");
        assert_eq!(next_record(&mut wire).await.map(|(kind, _)| kind), Some(20), "{row}: change_cipher_spec");
        wire.send(second.bytes()).await;
        if same {
            assert_eq!(next_record(&mut wire).await.map(|(kind, _)| kind), Some(22), "{row}: a ServerHello");
            drop(wire);
            sekisho.next_connection().await.says("failed", "client_closed");
        } else {
            let (rest, end) = wire.rest().await;
            assert_eq!(alert_of(&rest), Some(UNRECOGNIZED_NAME), "{row}: {rest:?}");
            end.unwrap_or_else(|error| panic!("{row}: closed in order, not {error}"));
            let told = sekisho.next_connection().await;
            told.says("denied", "name_mismatch").with("sekisho.side", "client").with("url.domain", "allowed.test");
            assert!(told.text("sekisho.detail").contains("HelloRetryRequest"), "{row}: {told:?}");
        }
    }
    assert!(inspected.requests().is_empty());
    sekisho.finish().await;
}

#[tokio::test]
async fn the_alert_of_a_failed_handshake_arrives() {
    let inspected = Origin::https(&["allowed.test"]).start().await;
    let failing = Origin::https(&["failing.test"]).leaf_for(&["elsewhere.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &inspected).inspect("failing.test", &failing);
    let mut sekisho = Sekisho::start(&config).await;
    for (name, origin, reason) in
        [("allowed.test", &inspected, "tls_failed"), ("failing.test", &failing, "certificate_invalid")]
    {
        let mut wire = sekisho.tunnel(&origin.at(name)).await;
        let mut hello = Hello::named(name);
        hello.extensions.retain(|(kind, _)| *kind != SIGNATURE_ALGORITHMS);
        // More than the hello: closing over what was not read would have the kernel send a reset behind the alert, or before it.
        wire.send([hello.bytes(), record(23, &[0; 64])].concat()).await;
        let (rest, end) = wire.rest().await;
        assert_eq!(alert_of(&rest), Some(HANDSHAKE_FAILURE), "{name}: {rest:?}");
        end.unwrap_or_else(|error| panic!("{name}: closed in order, not {error}"));
        sekisho.next_connection().await.says("failed", reason);
    }
    assert!(inspected.requests().is_empty() && failing.requests().is_empty());
    sekisho.finish().await;
}

#[tokio::test]
async fn an_inspected_client_that_leaves_during_its_handshake_is_told_from_one_that_fails() {
    let inspected = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &inspected)).await;
    for (row, alert, reason) in [
        ("close_notify", [1, 0], "client_closed"),
        ("unknown_ca", [2, 48], "client_rejected_certificate"),
        ("illegal_parameter", [2, 47], "tls_failed"),
    ] {
        let mut wire = sekisho.tunnel(&inspected.at("allowed.test")).await;
        wire.send(Hello::named("allowed.test").bytes()).await;
        assert_eq!(next_record(&mut wire).await.map(|(kind, _)| kind), Some(22), "{row}: a ServerHello");
        wire.send(record(21, &alert)).await;
        sekisho.next_connection().await.says("failed", reason).with("sekisho.side", "client");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn d13_early_data_is_not_taken_by_the_inspector() {
    let inspected = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &inspected)).await;
    let mut wire = sekisho.tunnel(&inspected.at("allowed.test")).await;
    wire.send(recorded("openssl-early-data")).await;
    assert_eq!(wire.exactly(1).await.expect("a ServerHello")[0], 22);
    drop(wire);
    sekisho.next_connection().await;
    assert!(inspected.requests().is_empty(), "0-RTT data reached the origin");
}

#[tokio::test]
async fn both_versions_are_inspected_and_tunnelled() {
    let allowed = Origin::https(&["allowed.test"]).start().await;
    let inspected = Origin::https(&["inspected.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &allowed).inspect("inspected.test", &inspected);
    let mut sekisho = Sekisho::start(&config).await;
    for version in [&TLS12, &TLS13] {
        let tls = Tls::named("allowed.test").versions(&[version]);
        let mut inside = tls.over(sekisho.tunnel(&allowed.at("allowed.test")).await).await;
        assert_eq!(inside.get("allowed.test", "/").await.expect("an answer").status, 200);
        assert_eq!(inside.version(), version.version);
        inside.bye().await;
        sekisho.next_connection().await.says("allowed", "").with("sekisho.mode", "tunnel");
        let tls = Tls::named("inspected.test").trusting(&sekisho.ca()).versions(&[version]);
        let mut inside = tls.over(sekisho.tunnel(&inspected.at("inspected.test")).await).await;
        assert_eq!(inside.get(&inspected.at("inspected.test"), "/").await.expect("an answer").status, 200);
        assert_eq!(inside.version(), version.version);
        inside.bye().await;
        sekisho.next_request().await.says("allowed", "");
        sekisho.next_connection().await.says("allowed", "").with("sekisho.mode", "inspect");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn d15_alpn_of_both_legs_agrees() {
    for (row, upstream, client, agreed) in [
        ("both", &["h2", "http/1.1"][..], &["h2", "http/1.1"][..], Some("h2")),
        ("the origin knows no h2", &["http/1.1"], &["h2", "http/1.1"], Some("http/1.1")),
        ("the client knows no h2", &["h2", "http/1.1"], &["http/1.1"], Some("http/1.1")),
        ("the client says nothing", &["h2", "http/1.1"], &[], None),
        ("only h2", &["h2", "http/1.1"], &["h2"], Some("h2")),
        ("the origin says nothing", &[], &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let origin = Origin::https(&["allowed.test"]).alpn(upstream).start().await;
        let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
        let tls = Tls::named("allowed.test").trusting(&sekisho.ca()).alpn(client);
        let wire = tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
        assert_eq!(wire.alpn().as_deref(), agreed, "{row}");
        let status = if agreed == Some("h2") {
            let mut h2 = super::support::h2c::H2::over(wire).await;
            h2.get(&format!("https://{}/", origin.at("allowed.test"))).await.expect("an answer").status
        } else {
            let mut wire = wire;
            wire.get(&origin.at("allowed.test"), "/").await.expect("an answer").status
        };
        assert_eq!(status, 200, "{row}");
        assert_eq!(origin.requests()[0].h2, agreed == Some("h2"), "{row}: no protocol is mixed up between the legs");
        sekisho.next_request().await.says("allowed", "");
    }
}

#[tokio::test]
async fn d15_g08_a_protocol_that_is_not_inspected_is_refused_never_spliced() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    for protocol in ["spdy/3", "h3", "imap", "日本"] {
        let tls = Tls::named("allowed.test").trusting(&sekisho.ca()).alpn(&[protocol]);
        let error = tls.try_over(sekisho.tunnel(&origin.at("allowed.test")).await).await.expect_err("refused");
        assert!(error.to_string().contains("NoApplicationProtocol"), "{protocol}: {error}");
        sekisho.next_connection().await.says("denied", "no_application_protocol");
    }
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}
