use super::*;

fn name() -> DnsName {
    DnsName::parse(b"allowed.test").expect("name")
}

fn settings(allow: &[&str]) -> Settings {
    let nat64 = vec!["2400:1:2:3::/96".parse().expect("prefix")];
    Settings { allow: allow.iter().map(|net| net.parse().expect(net)).collect(), nat64, stand_in: None }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn dialled(answers: &[&str], settings: &Settings) -> Result<Vec<String>, VetError> {
    let vetted = vet(&name(), &ips(answers), 443, settings, &SelfAddrs::default())?;
    Ok(vetted.into_iter().map(|address| address.upstream().to_string()).collect())
}

fn class(answer: &str, settings: &Settings) -> Option<AddressClass> {
    match dialled(&[answer], settings) {
        Ok(_) => None,
        Err(VetError::AddressDenied { refused, .. }) => refused.first().map(|(_, class)| *class),
        Err(error @ VetError::SelfConnection { .. }) => panic!("{error}"),
    }
}

#[test]
fn b01_every_class_is_refused_by_default() {
    use AddressClass as C;
    let settings = settings(&[]);
    for (address, expected) in [
        ("0.0.0.0", C::Unspecified),
        ("10.0.0.1", C::Private),
        ("100.64.0.1", C::CarrierGradeNat),
        ("127.0.0.1", C::Loopback),
        ("169.254.1.1", C::LinkLocal),
        ("172.31.255.255", C::Private),
        ("192.0.0.1", C::ProtocolAssignment),
        ("192.0.2.1", C::Documentation),
        ("192.88.99.1", C::RelayAnycast),
        ("192.168.0.1", C::Private),
        ("198.19.255.255", C::Benchmarking),
        ("198.51.100.1", C::Documentation),
        ("203.0.113.1", C::Documentation),
        ("224.0.0.1", C::Multicast),
        ("240.0.0.1", C::Reserved),
        ("255.255.255.255", C::Reserved),
        ("168.63.129.16", C::CloudHost),
        ("100.100.100.200", C::CloudHost),
        ("169.254.169.254", C::CloudHost),
        ("::", C::Unspecified),
        ("::1", C::Loopback),
        ("::8.8.8.8", C::EmbedsIpv4),
        ("::ffff:8.8.8.8", C::EmbedsIpv4),
        ("::ffff:0:8.8.8.8", C::EmbedsIpv4),
        ("64:ff9b::8.8.8.8", C::EmbedsIpv4),
        ("64:ff9b:1::8.8.8.8", C::EmbedsIpv4),
        ("2002:808:808::1", C::EmbedsIpv4),
        ("2001:0:1::f7f7:f7f7", C::EmbedsIpv4),
        ("2400:1:2:3::8.8.8.8", C::EmbedsIpv4),
        ("100::1", C::Discard),
        ("2001:1::1", C::ProtocolAssignment),
        ("2001:db8::1", C::Documentation),
        ("3fff::1", C::Documentation),
        ("5f00::1", C::SegmentRouting),
        ("fd00::1", C::UniqueLocal),
        ("fd00:ec2::254", C::CloudHost),
        ("fe80::1", C::LinkLocal),
        ("fec0::1", C::SiteLocal),
        ("ff02::1", C::Multicast),
    ] {
        assert_eq!(class(address, &settings), Some(expected), "{address}");
    }
    for address in ["8.8.8.8", "9.255.255.255", "11.0.0.0", "128.0.0.0", "2606:4700::1", "2400:1:2:4::8.8.8.8"] {
        assert_eq!(class(address, &settings), None, "{address}");
    }
}

#[test]
fn b01_an_exception_is_exactly_as_wide_as_it_is_written() {
    let settings = settings(&["127.0.0.0/30", "10.1.2.3/32", "fd00:1::/32"]);
    for (address, expected) in [
        ("127.0.0.3", None),
        ("127.0.0.4", Some(AddressClass::Loopback)),
        ("10.1.2.3", None),
        ("10.1.2.2", Some(AddressClass::Private)),
        ("fd00:1::1", None),
        ("fd00:2::1", Some(AddressClass::UniqueLocal)),
        ("::1", Some(AddressClass::Loopback)),
    ] {
        assert_eq!(class(address, &settings), expected, "{address}");
    }
}

#[test]
fn b01_an_embedded_ipv4_address_needs_leave_of_its_own() {
    let all = &["::/0"];
    for (allow, address, expected) in [
        (&["64:ff9b::/96"] as &[_], "64:ff9b::8.8.8.8", None),
        (&["64:ff9b::/96"], "64:ff9b::10.0.0.1", Some(AddressClass::Private)),
        (&["64:ff9b::/96", "10.0.0.0/8"], "64:ff9b::10.0.0.1", None),
        (&["10.0.0.0/8"], "64:ff9b::10.0.0.1", Some(AddressClass::EmbedsIpv4)),
        (&["127.0.0.0/8"], "::ffff:127.0.0.1", Some(AddressClass::EmbedsIpv4)),
        (&["2400:1:2:3::/96"], "2400:1:2:3::8.8.8.8", None),
        (&["2400:1:2:3::/96"], "2400:1:2:3::169.254.169.254", Some(AddressClass::CloudHost)),
        (all, "::ffff:169.254.169.254", Some(AddressClass::CloudHost)),
        (all, "::127.0.0.1", Some(AddressClass::Loopback)),
        (all, "::ffff:0:127.0.0.1", Some(AddressClass::Loopback)),
        (all, "64:ff9b:1::192.168.1.1", Some(AddressClass::Private)),
        (all, "2002:7f00:1::", Some(AddressClass::Loopback)),
        (all, "2001:0:1::f5ff:fffe", Some(AddressClass::Private)),
        (all, "::ffff:8.8.8.8", None),
    ] {
        assert_eq!(class(address, &settings(allow)), expected, "{address} with {allow:?}");
    }
}

#[test]
fn b02_the_address_that_passed_is_the_one_to_dial() {
    assert_eq!(dialled(&["8.8.8.8"], &settings(&[])), Ok(vec!["8.8.8.8:443".into()]));
    // A mapped address becomes the IPv4 address it is, after both were judged.
    assert_eq!(dialled(&["::ffff:8.8.8.8", "8.8.8.8"], &settings(&["::/0"])), Ok(vec!["8.8.8.8:443".into()]));
}

#[test]
fn b03_bad_answers_are_dropped_in_every_order() {
    for answers in [
        &["8.8.8.8", "10.0.0.1"],
        &["10.0.0.1", "8.8.8.8"],
        &["::ffff:169.254.169.254", "8.8.8.8"],
        &["8.8.8.8", "fe80::1"],
    ] {
        assert_eq!(dialled(answers, &settings(&[])), Ok(vec!["8.8.8.8:443".into()]), "{answers:?}");
    }
}

#[test]
fn nothing_left_says_what_was_refused_and_why() {
    let error =
        dialled(&["10.0.0.1", "fe80::1", "127.0.0.1", "::1", "10.0.0.2"], &settings(&[])).expect_err("all special");
    assert_eq!(error.reason(), Reason::AddressDenied);
    assert_eq!(
        error.to_string(),
        "every address of allowed.test is special-purpose: 10.0.0.1 (private), fe80::1 (link-local), 127.0.0.1 (loopback) \
         and 2 more; if that is meant, except it in [upstream] allow_addresses"
    );
}

fn selves(listeners: &[&str]) -> SelfAddrs {
    SelfAddrs::new(listeners.iter().map(|socket| ListenAddr::new(socket.parse().expect(socket))).collect())
}

#[test]
fn a17_every_address_of_a_listener_is_the_proxy() {
    for (listener, ip, port, expected) in [
        ("127.0.0.1:8080", "127.0.0.1", 8080, true),
        ("127.0.0.1:8080", "127.0.0.1", 8081, false),
        ("127.0.0.1:8080", "127.0.0.2", 8080, false),
        ("127.0.0.1:8080", "0.0.0.0", 8080, true),
        ("127.0.0.1:8080", "::ffff:127.0.0.1", 8080, true),
        ("10.0.0.1:8080", "64:ff9b::10.0.0.1", 8080, true),
        ("10.0.0.1:8080", "2400:1:2:3::10.0.0.1", 8080, true),
        ("10.0.0.1:8080", "10.0.0.2", 8080, false),
        ("0.0.0.0:8080", "127.0.0.1", 8080, true),
        ("0.0.0.0:8080", "127.9.9.9", 8080, true),
        ("0.0.0.0:8080", "0.0.0.0", 8080, true),
        ("0.0.0.0:8080", "::1", 8080, false),
        ("0.0.0.0:8080", "192.0.2.1", 8080, false),
        ("[::]:8080", "::1", 8080, true),
        ("[::]:8080", "127.0.0.1", 8080, true),
        ("[::]:8080", "2001:db8::1", 8080, false),
    ] {
        let found = selves(&[listener]).contains(ip.parse().expect(ip), port, &settings(&[]).nat64);
        assert_eq!(found, expected, "{listener} for {ip} port {port}");
    }
}

#[test]
fn a17_self_connection_comes_before_the_guard_and_an_exception_does_not_lift_it() {
    let selves = selves(&["127.0.0.1:443"]);
    for allow in [&[] as &[_], &["127.0.0.0/8"]] {
        let error = vet(&name(), &ips(&["10.0.0.1", "127.0.0.1"]), 443, &settings(allow), &selves).expect_err("self");
        assert_eq!(error.reason(), Reason::SelfConnection);
        assert_eq!(error.to_string(), "allowed.test is 127.0.0.1, and port 443 there is this proxy");
    }
    let mixed =
        vet(&name(), &ips(&["127.0.0.1", "8.8.8.8"]), 443, &settings(&["127.0.0.0/8"]), &selves).expect("public");
    assert_eq!(mixed.len(), 1);
}

#[test]
fn a17_a_connection_between_one_address_and_itself_is_a_loop() {
    let socket = |text: &str| -> SocketAddr { text.parse().expect(text) };
    for (listener, local, peer, expected) in [
        ("0.0.0.0:8080", "198.18.0.1:40000", "198.18.0.1:8080", true),
        ("[::]:8080", "[::ffff:198.18.0.1]:40000", "198.18.0.1:8080", true),
        ("198.18.0.1:8080", "198.18.0.1:40000", "198.18.0.1:8080", true),
        ("198.18.0.2:8080", "198.18.0.1:40000", "198.18.0.1:8080", false),
        ("0.0.0.0:8080", "198.18.0.1:40000", "198.18.0.1:8081", false),
        ("0.0.0.0:8080", "198.18.0.2:40000", "198.18.0.1:8080", false),
    ] {
        assert_eq!(
            selves(&[listener]).is_loop(socket(peer), || Some(socket(local))),
            expected,
            "{listener} {local} {peer}"
        );
    }
}
