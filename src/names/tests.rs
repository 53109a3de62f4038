use super::*;

fn name(text: &str) -> Result<String, NameError> {
    DnsName::parse(text.as_bytes()).map(|name| name.to_string())
}

#[test]
fn c01_c02_case_and_one_trailing_dot_are_all_that_is_normalised() {
    for text in ["allowed.test", "ALLOWED.TEST", "Allowed.Test", "allowed.test.", "ALLOWED.test."] {
        assert_eq!(name(text), Ok("allowed.test".into()), "{text}");
    }
    assert_eq!(name("allowed.test.."), Err(NameError::EmptyLabel));
}

#[test]
fn c03_lengths_and_empty_labels() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(longest.len(), 253);
    assert_eq!(name(&longest), Ok(longest.clone()));
    assert_eq!(name(&format!("{longest}.")), Ok(longest.clone()));
    assert_eq!(name(&format!("{longest}b")), Err(NameError::TooLong));
    assert_eq!(name(&format!("{}.test", "a".repeat(64))), Err(NameError::LabelTooLong));
    for (text, error) in [
        ("", NameError::Empty),
        (".", NameError::EmptyLabel),
        (".allowed.test", NameError::EmptyLabel),
        ("allowed..test", NameError::EmptyLabel),
    ] {
        assert_eq!(name(text), Err(error), "{text:?}");
    }
}

#[test]
fn b07_c04_brackets_only_round_ipv6_and_no_zone() {
    for text in [
        "[denied.test]",
        "[[denied.test]]",
        "[127.0.0.1]",
        "[::1",
        "::1]",
        "[]",
        "[fe80::1%25eth0]",
        "[::1%25.allowed.test]",
    ] {
        assert!(Host::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(Host::parse(b"[::1]"), Ok(Host::Ip(Ipv6Addr::LOCALHOST.into())));
}

#[test]
fn c05_c06_c07_c08_c09_no_other_byte_passes() {
    for byte in 0..=255u8 {
        let mut text = b"denied.test".to_vec();
        text.push(byte);
        text.extend_from_slice(b"x.allowed.test");
        let fine = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        assert_eq!(DnsName::parse(&text).is_ok(), fine, "{byte:#x}");
    }
    for text in [
        "allowed%2etest",
        "allowed.test@denied.test",
        "allowed。test",
        "ａllowed.test",
        "stra\u{df}e.test",
        "a\u{ad}b.test",
    ] {
        assert_eq!(name(text), Err(NameError::Character), "{text}");
    }
}

#[test]
fn c09_a_labels_must_round_trip_and_the_configuration_maps_u_labels_once() {
    assert_eq!(name("xn--wgv71a119e.jp"), Ok("xn--wgv71a119e.jp".into()));
    assert_eq!(name("XN--WGV71A119E.JP"), Ok("xn--wgv71a119e.jp".into()));
    for text in ["xn--allowed-.test", "xn--a.test", "xn--.test", "xn--a-0hb-.test", "xn--zzzzzzzzzzzzz99999.test"] {
        assert!(name(text).is_err(), "{text}");
    }
    let config = |text: &str| DnsName::parse_unicode(text).map(|name| name.to_string());
    assert_eq!(config("日本語.jp"), Ok("xn--wgv71a119e.jp".into()));
    assert_eq!(config("日本語。jp"), Ok("xn--wgv71a119e.jp".into()));
    assert_eq!(config("Allowed.test"), Ok("allowed.test".into()));
}

#[test]
fn c10_underscore_is_taken_and_edge_hyphens_are_not() {
    assert_eq!(name("a_b.allowed.test"), Ok("a_b.allowed.test".into()));
    assert_eq!(name("_x.allowed.test"), Ok("_x.allowed.test".into()));
    assert_eq!(name("r3---sn-abc.allowed.test"), Ok("r3---sn-abc.allowed.test".into()));
    assert_eq!(name("-a.allowed.test"), Err(NameError::Hyphen));
    assert_eq!(name("a-.allowed.test"), Err(NameError::Hyphen));
}

#[test]
fn c10_every_name_we_take_is_one_the_tls_library_takes() {
    for text in
        ["allowed.test", "a_b.allowed.test", "_x.allowed.test", "1.allowed.test", "xn--wgv71a119e.jp", "localhost"]
    {
        let ours = name(text).expect(text);
        assert!(rustls_pki_types::ServerName::try_from(ours).is_ok(), "{text}");
    }
}

#[test]
fn c11_what_ends_in_a_number_is_a_strict_dotted_quad_or_nothing() {
    for text in [
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "0",
        "256.0.0.1",
        "1.2.3.4.5",
        "01.2.3.4",
        "allowed.test.1",
        "allowed.0x",
        "allowed.0x7F",
        "1.2.3",
        "allowed.1.",
    ] {
        assert_eq!(Host::parse(text.as_bytes()), Err(NameError::EndsInNumber), "{text}");
    }
    assert_eq!(Host::parse(b"127.0.0.1"), Ok(Host::Ip(Ipv4Addr::LOCALHOST.into())));
    assert_eq!(DnsName::parse(b"127.0.0.1"), Err(NameError::IpLiteral));
    for text in ["[::127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]"] {
        assert!(matches!(Host::parse(text.as_bytes()), Ok(Host::Ip(IpAddr::V6(_)))), "{text}");
    }
    assert_eq!(name("0x7g.test"), Ok("0x7g.test".into()));
    assert!(Host::parse("①②⑦.0.0.1".as_bytes()).is_err());
}

#[test]
fn b08_c12_ports() {
    let parse = |text: &str| Authority::parse(text.as_bytes());
    assert_eq!(parse("allowed.test:443").map(|a| a.to_string()), Ok("allowed.test:443".into()));
    assert_eq!(parse("allowed.test:65535").map(|a| a.port), Ok(65535));
    assert_eq!(parse("[::1]:443").map(|a| a.to_string()), Ok("[::1]:443".into()));
    for text in [
        "allowed.test:0",
        "allowed.test:65536",
        "allowed.test:65979",
        "allowed.test:4294967739",
        "allowed.test:+443",
        "allowed.test:0443",
        "allowed.test:443x",
        "allowed.test:",
        "allowed.test:443:80",
        "allowed.test:１",
        "allowed.test: 443",
    ] {
        assert_eq!(parse(text), Err(AuthorityError::Port), "{text}");
    }
    assert_eq!(parse("allowed.test"), Err(AuthorityError::PortMissing));
    assert_eq!(parse(":443"), Err(AuthorityError::Host(NameError::Empty)));
    assert_eq!(parse("[::1]x:443"), Err(AuthorityError::Host(NameError::Bracket)));
    assert_eq!(parse("allowed.test@denied.test:443"), Err(AuthorityError::UserInfo));
    assert_eq!(parse("allowed.test:443@denied.test"), Err(AuthorityError::UserInfo));
    assert_eq!(Authority::parse_with_default(b"allowed.test", 443).map(|a| a.port), Ok(443));
}

#[test]
fn suffixes_are_matched_on_label_boundaries() {
    let within = |text: &str| DnsName::parse(text.as_bytes()).map(|name| name.is_within("lgwan.jp"));
    assert_eq!(within("lgwan.jp"), Ok(true));
    assert_eq!(within("a.asp.lgwan.jp"), Ok(true));
    assert_eq!(within("notlgwan.jp"), Ok(false));
}
