//! Only scenes about the far side belong here: resolving, the address guard, connecting, and the origin's certificate, in both modes.

use std::fs;
use std::time::Instant;

use rustls::version::{TLS12, TLS13};
use time::Duration;

use super::support::client::{Tls, connect};
use super::support::dns::{Dns, Says};
use super::support::origin::Tcp;
use super::support::pki::{self, Defect};
use super::support::{Config, Origin, Record, Response, Sekisho, Service};

/// GET through the inspected name: the handshake with the proxy's own leaf, and the answer.
async fn inspected(sekisho: &Sekisho, host: &str, origin: &Origin) -> Response {
    let wire = sekisho.tunnel(&origin.at(host)).await;
    let mut inside = Tls::named(host).trusting(&sekisho.ca()).over(wire).await;
    let answer = inside.get(&origin.at(host), "/secret").await.expect("an answer");
    inside.bye().await;
    answer
}

/// The records of an inspected connection with one request: the connection's and the request's.
async fn both_records(sekisho: &mut Sekisho) -> (Record, Record) {
    let request = sekisho.next_request().await;
    (sekisho.next_connection().await, request)
}

#[tokio::test]
async fn b01_special_addresses_are_never_connected_to() {
    const BAD: [&str; 34] = [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001:db8::1",
        "2002:a00:1::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ];
    let dns = Dns::answering(|name| {
        let index: usize = name.split('.').next().and_then(|label| label[1..].parse().ok()).expect("an index");
        Says::Addresses(vec![BAD[index]])
    })
    .await;
    let config = Config::new().set("upstream", "allow_addresses", "[]").asking(&dns).service(Service::tunnel(
        "all",
        &["*.names.test"],
        443,
    ));
    let mut sekisho = Sekisho::start(&config).await;
    for (index, bad) in BAD.iter().enumerate() {
        let record = sekisho.refused(&format!("n{index}.names.test:443"), 403, "address_denied").await;
        assert_eq!(record.outcome(), "denied", "{bad}");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn b01_static_answers_pass_the_same_guard() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("upstream", "allow_addresses", "[]");
    let mut sekisho = Sekisho::start(&config).await;
    sekisho.refused(&origin.at("allowed.test"), 403, "address_denied").await.says("denied", "address_denied");
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn b02_one_resolution_for_one_dial() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let config = Config::new().service(Service::tunnel("allowed", &["allowed.test"], origin.port())).asking(&dns);
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    assert_eq!(inside.get("allowed.test", "/").await.expect("an answer").status, 200);
    inside.bye().await;
    sekisho.next_connection().await.says("allowed", "").with("destination.ip", "127.0.0.1");
    let queries = dns.queries();
    assert!(queries.len() <= 2 && queries.iter().all(|name| name == "allowed.test"), "A and AAAA, once: {queries:?}");
}

#[tokio::test]
async fn b03_b04_bad_addresses_among_good_ones_are_never_tried() {
    // 127.0.0.9 is allowed here, and nothing listens there; the origin's own address is not allowed.
    let trap = Origin::https(&["mixed.test"]).start().await;
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.9", "127.0.0.1", "::1"])).await;
    let config = Config::new()
        .set("upstream", "allow_addresses", "[\"127.0.0.9/32\"]")
        .asking(&dns)
        .service(Service::tunnel("mixed", &["mixed.test"], trap.port()));
    let mut sekisho = Sekisho::start(&config).await;
    let record = sekisho.refused(&trap.at("mixed.test"), 502, "connect_failed").await;
    record.says("failed", "connect_failed").with("destination.ip", "127.0.0.9");
    trap.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn b05_names_that_do_not_resolve_are_502_or_504_in_time() {
    let dns = Dns::answering(|name| match name {
        "nx.names.test" => Says::NxDomain,
        "servfail.names.test" => Says::ServFail,
        "empty.names.test" => Says::Nothing,
        "alias.names.test" => Says::Alias("internal.names.test"),
        "loop.names.test" => Says::Alias("loop.names.test"),
        "silent.names.test" => Says::Silence,
        "forged.names.test" => Says::WrongId(vec!["127.0.0.1"]),
        _ => Says::NxDomain,
    })
    .await;
    let config = Config::new().asking(&dns).set("timeouts", "dns", "\"1s\"").service(Service::tunnel(
        "all",
        &["*.names.test"],
        443,
    ));
    let mut sekisho = Sekisho::start(&config).await;
    for (name, status, reason) in [
        ("nx", 502, "dns_failed"),
        ("servfail", 502, "dns_failed"),
        ("empty", 502, "dns_failed"),
        ("alias", 502, "dns_failed"),
        ("loop", 502, "dns_failed"),
        ("silent", 504, "dns_timeout"),
        ("forged", 504, "dns_timeout"),
    ] {
        let began = Instant::now();
        let (_, answer) = sekisho.connect(&format!("{name}.names.test:443")).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        answer.details(reason);
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{name}: {:?}", began.elapsed());
        sekisho.next_connection().await.says("failed", reason);
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn b05_a_truncated_answer_is_asked_for_again_over_tcp() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let dns = Dns::answering(|_| Says::OverTcp(vec!["127.0.0.1"])).await;
    let config = Config::new().service(Service::tunnel("allowed", &["allowed.test"], origin.port())).asking(&dns);
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    assert_eq!(inside.get("allowed.test", "/").await.expect("an answer").status, 200);
    inside.bye().await;
    sekisho.next_connection().await.says("allowed", "");
}

#[tokio::test]
async fn b06_names_are_asked_for_as_they_are() {
    let dns = Dns::answering(|_| Says::NxDomain).await;
    let config = Config::new().asking(&dns).service(Service::tunnel("names", &["www.names.test"], 443));
    let mut sekisho = Sekisho::start(&config).await;
    sekisho.refused("www.names.test:443", 502, "dns_failed").await;
    sekisho.refused("localhost:443", 403, "not_allowlisted").await;
    sekisho.refused("internal:443", 403, "not_allowlisted").await;
    assert!(dns.queries().iter().all(|name| name == "www.names.test"), "{:?}", dns.queries());
    sekisho.finish().await;
}

#[tokio::test]
async fn n03_dead_addresses_are_told_in_time() {
    let silent = Origin::https(&["silent.test"]).tcp(Tcp::Silent).start().await;
    let closing = Origin::https(&["closing.test"]).tcp(Tcp::CloseAtOnce).start().await;
    let resetting = Origin::https(&["resetting.test"]).tcp(Tcp::CloseAtOnce).resetting().start().await;
    let garbage = Origin::https(&["garbage.test"]).tcp(Tcp::Garbage).start().await;
    let closed = super::support::sekisho::free_port("127.0.0.1");
    let config = Config::new()
        .set("timeouts", "upstream_handshake", "\"1s\"")
        .tunnel("silent.test", &silent)
        .tunnel("closing.test", &closing)
        .tunnel("resetting.test", &resetting)
        .tunnel("garbage.test", &garbage)
        .service(Service::tunnel("refused", &["refused.test"], closed))
        .hosts(&["refused.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    for (authority, status, reasons) in [
        (format!("refused.test:{closed}"), 502, &["connect_failed"][..]),
        (silent.at("silent.test"), 504, &["upstream_timeout"]),
        (closing.at("closing.test"), 502, &["upstream_closed", "tls_failed"]),
        (resetting.at("resetting.test"), 502, &["upstream_closed", "tls_failed"]),
        (garbage.at("garbage.test"), 502, &["tls_failed"]),
    ] {
        let began = Instant::now();
        let (_, answer) = sekisho.connect(&authority).await;
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{authority}: {:?}", began.elapsed());
        let record = sekisho.next_connection().await;
        assert_eq!(answer.status, status, "{authority}: {answer:?}");
        assert!(reasons.contains(&record.reason()), "{authority}: {record:?}");
        answer.details(record.reason());
        record.says("failed", record.reason());
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn n03_inspected_dead_addresses_become_pages() {
    let silent = Origin::https(&["silent.test"]).tcp(Tcp::Silent).start().await;
    let closing = Origin::https(&["closing.test"]).tcp(Tcp::CloseAtOnce).start().await;
    let garbage = Origin::https(&["garbage.test"]).tcp(Tcp::Garbage).start().await;
    let dns = Dns::answering(|name| if name == "slow.names.test" { Says::Silence } else { Says::NxDomain }).await;
    let closed = super::support::sekisho::free_port("127.0.0.1");
    let config = Config::new()
        .set("timeouts", "upstream_handshake", "\"1s\"")
        .set("timeouts", "dns", "\"1s\"")
        .asking(&dns)
        .inspect("silent.test", &silent)
        .inspect("closing.test", &closing)
        .inspect("garbage.test", &garbage)
        .service(Service::inspect("refused", &["refused.test", "nx.names.test", "slow.names.test"], closed))
        .hosts(&["refused.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    for (authority, status, reasons) in [
        (format!("refused.test:{closed}"), 502, &["connect_failed"][..]),
        (format!("nx.names.test:{closed}"), 502, &["dns_failed"]),
        (format!("slow.names.test:{closed}"), 504, &["dns_timeout"]),
        (silent.at("silent.test"), 504, &["upstream_timeout"]),
        (closing.at("closing.test"), 502, &["upstream_closed", "tls_failed"]),
        (garbage.at("garbage.test"), 502, &["tls_failed"]),
    ] {
        let host = authority.split(':').next().expect("a host");
        let mut inside = Tls::named(host).trusting(&sekisho.ca()).over(sekisho.tunnel(&authority).await).await;
        let answer = inside.get(&authority, "/").await.expect("a page");
        inside.bye().await;
        let record = sekisho.next_connection().await;
        assert!(reasons.contains(&record.reason()), "{authority}: {record:?}");
        answer.page(status, record.reason());
        assert!(answer.text().contains(host), "{}", answer.text());
    }
}

#[tokio::test]
async fn n03_a_blackhole_is_left_after_connect_timeout() {
    // Nothing answers a SYN to a listener whose queue is full: two connections fill a backlog of one.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("bound");
    full.listen(0).expect("listening");
    let addr = full.local_addr().expect("bound").as_socket().expect("an address");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(std::time::Duration::from_millis(300), connect(addr)).await {
        held.push(stream);
    }
    let config = Config::new()
        .set("upstream", "connect_timeout", "\"1s\"")
        .service(Service::tunnel("hole", &["hole.test"], addr.port()))
        .hosts(&["hole.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    let began = Instant::now();
    sekisho
        .refused(&format!("hole.test:{}", addr.port()), 504, "connect_timeout")
        .await
        .says("failed", "connect_timeout");
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
}

const DEFECTS: [(Defect, &str); 8] = [
    (Defect::Expired, "expired"),
    (Defect::NotYetValid, "not_yet_valid"),
    (Defect::SelfSigned, ""),
    (Defect::UnknownIssuer, "unknown_issuer"),
    (Defect::MissingIntermediate, "unknown_issuer"),
    (Defect::CommonNameOnly, "name"),
    (Defect::ClientAuthOnly, ""),
    (Defect::IssuerNotCa, ""),
];

#[tokio::test]
async fn i01_i02_a_bad_certificate_ends_a_tunnel_before_it_begins() {
    for (defect, word) in DEFECTS.into_iter().chain([(Defect::OutsideConstraints, "")]) {
        let origin = Origin::https(&["allowed.test"]).defect(defect).start().await;
        let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
        let record = sekisho.refused(&origin.at("allowed.test"), 502, "certificate_invalid").await;
        record.says("failed", "certificate_invalid").with("sekisho.side", "upstream");
        assert!(!record.text("sekisho.certificate_error").is_empty(), "{defect:?}: {record:?}");
        assert!(word.is_empty() || record.text("sekisho.certificate_error") == word, "{defect:?}: {record:?}");
        assert!(origin.requests().is_empty() && origin.echoed().is_empty());
        sekisho.finish().await;
    }
}

#[tokio::test]
async fn i01_i02_j06_a_bad_certificate_becomes_a_page_and_no_request() {
    for (defect, word) in DEFECTS {
        let origin = Origin::https(&["allowed.test"]).defect(defect).start().await;
        let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
        let answer = inspected(&sekisho, "allowed.test", &origin).await;
        answer.page(502, "certificate_invalid");
        assert!(!answer.text().contains("/secret"));
        let record = sekisho.next_connection().await;
        record.says("failed", "certificate_invalid");
        assert!(word.is_empty() || record.text("sekisho.certificate_error") == word, "{defect:?}: {record:?}");
        assert!(answer.text().contains(record.text("event.id")) || !sekisho.records().is_empty());
        assert!(origin.requests().is_empty(), "a request reached an unverified origin");
    }
}

#[tokio::test]
async fn i01_names_a_certificate_may_and_may_not_carry() {
    for (names, host, passes) in [
        (&["allowed.test"][..], "allowed.test", true),
        (&["*.allowed.test"], "www.allowed.test", true),
        (&["other.test", "allowed.test"], "allowed.test", true),
        (&["ALLOWED.test"], "allowed.test", true),
        (&["other.test"], "allowed.test", false),
        (&["*.allowed.test"], "allowed.test", false),
        (&["*.allowed.test"], "a.b.allowed.test", false),
        (&["w*.allowed.test"], "www.allowed.test", false),
        (&["*"], "allowed.test", false),
        (&["allowed.test.evil.test"], "allowed.test", false),
        (&["127.0.0.1"], "allowed.test", false),
    ] {
        let origin = Origin::https(&[]).leaf_for(names).start().await;
        let mut sekisho = Sekisho::start(&Config::new().tunnel(host, &origin)).await;
        let (_wire, answer) = sekisho.connect(&origin.at(host)).await;
        if passes {
            assert_eq!(answer.status, 200, "{names:?} for {host}: {answer:?}");
        } else {
            answer.details("certificate_invalid");
            let record = sekisho.next_connection().await;
            record.says("failed", "certificate_invalid").with("sekisho.certificate_error", "name");
        }
    }
}

#[tokio::test]
async fn i07_a_revoked_certificate_is_refused_in_both_modes() {
    for inspects in [false, true] {
        let origin = Origin::https(&["allowed.test"]).defect(Defect::Revoked).start().await;
        let config = if inspects {
            Config::new().inspect("allowed.test", &origin)
        } else {
            Config::new().tunnel("allowed.test", &origin)
        };
        let config = config.set("upstream", "crls", "[\"crls/*.pem\"]");
        let mut sekisho = Sekisho::start_with(&config, |dir| {
            fs::create_dir_all(dir.join("crls")).expect("mkdir");
            fs::write(dir.join("crls/one.pem"), pki::crl_pem(Duration::days(5))).expect("crl");
        })
        .await;
        if inspects {
            inspected(&sekisho, "allowed.test", &origin).await.page(502, "certificate_invalid");
        } else {
            assert_eq!(sekisho.connect(&origin.at("allowed.test")).await.1.status, 502);
        }
        let record = sekisho.next_connection().await;
        record.says("failed", "certificate_invalid").with("sekisho.certificate_error", "revoked");
        assert!(origin.requests().is_empty());
    }
}

#[tokio::test]
async fn i07_stale_and_missing_crls_follow_the_configuration() {
    for (row, crl_days, extra, passes) in [
        ("not on it", 5, &[][..], true),
        ("stale, by default", -1, &[][..], false),
        ("stale, allowed", -1, &[("crl_stale", "\"allow\"")], true),
        ("stale, denied", -1, &[("crl_stale", "\"deny\"")], false),
    ] {
        let origin = Origin::https(&["allowed.test"]).start().await;
        let config = Config::new().tunnel("allowed.test", &origin).set("upstream", "crls", "[\"one.pem\"]");
        let config = extra.iter().fold(config, |config, (key, value)| config.set("upstream", key, value));
        let mut sekisho = Sekisho::start_with(&config, |dir| {
            fs::write(dir.join("one.pem"), pki::crl_pem(Duration::days(crl_days))).expect("crl");
        })
        .await;
        let (_wire, answer) = sekisho.connect(&origin.at("allowed.test")).await;
        assert_eq!(answer.status, if passes { 200 } else { 502 }, "{row}: {answer:?}");
        if !passes {
            sekisho.next_connection().await.says("failed", "certificate_invalid");
        }
    }
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("upstream", "crl_unknown", "\"deny\"");
    let mut sekisho = Sekisho::start(&config).await;
    sekisho.refused(&origin.at("allowed.test"), 502, "certificate_invalid").await;
}

#[tokio::test]
async fn i08_a_reload_that_revokes_ends_the_kept_verdict() {
    let origin = Origin::https(&["allowed.test"]).defect(Defect::Revoked).start().await;
    let config = Config::new().tunnel("allowed.test", &origin);
    let mut sekisho = Sekisho::start(&config).await;
    let wire = sekisho.tunnel(&origin.at("allowed.test")).await;
    let inside = Tls::named("allowed.test").over(wire).await;
    inside.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    fs::write(sekisho.path("one.pem"), pki::crl_pem(Duration::days(5))).expect("crl");
    sekisho.reload(&config.set("upstream", "crls", "[\"one.pem\"]")).await;
    let record = sekisho.refused(&origin.at("allowed.test"), 502, "certificate_invalid").await;
    record.with("sekisho.certificate_error", "revoked");
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}

#[tokio::test]
async fn d17_the_origins_tls_version_and_client_certificate() {
    for (row, old, wants, setting, tunnel, inspect) in [
        ("1.2 where 1.2 is enough", true, false, "1.2", "", ""),
        ("1.2 where 1.3 is asked", true, false, "1.3", "tls_failed", "tls_failed"),
        ("a client certificate", false, true, "1.2", "", "client_certificate_required"),
        ("a client certificate in 1.2", true, true, "1.2", "", "client_certificate_required"),
    ] {
        let versions: &[_] = if old { &[&TLS12] } else { &[&TLS13] };
        let start = |name: &'static str| {
            let origin = Origin::https(&[name]).versions(versions);
            if wants { origin.wanting_client_certificate() } else { origin }
        };
        let (one, two) = (start("tunnel.test").start().await, start("inspect.test").start().await);
        let config = Config::new().tunnel("tunnel.test", &one).inspect("inspect.test", &two).set(
            "upstream",
            "min_tls",
            &format!("{setting:?}"),
        );
        let mut sekisho = Sekisho::start(&config).await;
        let (wire, answer) = sekisho.connect(&one.at("tunnel.test")).await;
        assert_eq!(answer.status, if tunnel.is_empty() { 200 } else { 502 }, "{row}, tunnel: {answer:?}");
        drop(wire);
        let record = sekisho.next_connection().await;
        assert!(tunnel.is_empty() || record.reason() == tunnel, "{row}, tunnel: {record:?}");
        let answer = inspected(&sekisho, "inspect.test", &two).await;
        if inspect.is_empty() {
            assert_eq!(answer.status, 200, "{row}: {answer:?}");
        } else {
            answer.page(502, inspect);
            assert!(two.requests().is_empty(), "{row}");
        }
    }
}

#[tokio::test]
async fn extra_roots_are_added_and_a_roots_file_stands_alone() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let stranger = Origin::https(&["stranger.test"]).defect(Defect::UnknownIssuer).start().await;
    for (row, roots, extra, good, strange) in [
        ("bundled", "\"bundled\"", "[\"origins.pem\"]", 200, 502),
        ("both", "\"bundled\"", "[\"origins.pem\", \"stranger.pem\"]", 200, 200),
        ("none of ours", "\"bundled\"", "[]", 502, 502),
        ("a file", "\"stranger.pem\"", "[]", 502, 200),
    ] {
        let config = Config::new()
            .tunnel("allowed.test", &origin)
            .tunnel("stranger.test", &stranger)
            .set("upstream", "roots", roots)
            .set("upstream", "extra_roots", extra);
        let sekisho = Sekisho::start_with(&config, |dir| {
            fs::write(dir.join("stranger.pem"), pki::stranger_pem()).expect("stranger.pem");
        })
        .await;
        assert_eq!(sekisho.connect(&origin.at("allowed.test")).await.1.status, good, "{row}");
        assert_eq!(sekisho.connect(&stranger.at("stranger.test")).await.1.status, strange, "{row}");
        let records = sekisho.terminals("connection", 0).await;
        assert!(records.iter().all(|record| record.outcome() != "denied"), "{records:?}");
    }
}

#[tokio::test]
async fn an_inspected_origin_that_works_leaves_two_records() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    assert_eq!(inspected(&sekisho, "allowed.test", &origin).await.text(), "origin saw GET /secret");
    let (connection, request) = both_records(&mut sekisho).await;
    connection.says("allowed", "").with("sekisho.mode", "inspect").with("destination.ip", "127.0.0.1");
    connection.with("tls.server.subject", "CN=allowed.test");
    assert!(connection.text("tls.version").contains("1.3"), "{connection:?}");
    request.says("allowed", "").with("url.path", "/secret").with("sekisho.connection", connection.text("event.id"));
    sekisho.finish().await;
}
