use rcgen::{CustomExtension, DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints, SanType};
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncReadExt;

use super::*;
use crate::upstream::testing::*;
use crate::upstream::trust::{MinTls, Stale, Unknown};

async fn inspected(origin: &Origin, name: &str, settings: &Settings) -> Result<VerifiedUpstream<Inspect>, VerifyError> {
    let alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    inspect(connected(origin.address).await, &destination(name), alpn, settings).await
}

async fn tunnelled(
    verdicts: &Verdicts,
    address: std::net::SocketAddr,
    name: &str,
    settings: &Settings,
) -> Result<VerifiedUpstream<Tunnel>, VerifyError> {
    let (connection, selves) = (connected(address).await, SelfAddrs::default());
    verdicts.tunnel(connection, &destination(name), settings, &dialling(), &selves).await
}

/// What both ways say of an origin that shows `identity`, to a client that wants `name`.
async fn both(identity: &Identity, name: &str, settings: &Settings) -> Option<Fault> {
    let origin = Origin::with(identity).await;
    let by_inspection = inspected(&origin, name, settings).await.err();
    let by_verdict = tunnelled(&Verdicts::default(), origin.address, name, settings).await.err();
    let fault = by_inspection.as_ref().and_then(VerifyError::fault);
    assert_eq!(by_verdict.as_ref().and_then(VerifyError::fault), fault, "the two ways must agree");
    for error in [by_inspection, by_verdict].into_iter().flatten() {
        assert_eq!(error.reason(), Reason::CertificateInvalid, "{error}");
        assert!(error.to_string().starts_with(&format!("the certificate of {name} at 127.0.0.1:")), "{error}");
    }
    fault
}

fn nothing(_: &mut rcgen::CertificateParams) {}

fn constrained(permitted: &str) -> impl FnOnce(&mut rcgen::CertificateParams) {
    let permitted_subtrees = vec![GeneralSubtree::DnsName(permitted.into())];
    move |params| params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] })
}

/// `identity` showing `cas` behind its own certificate.
fn with(mut identity: Identity, cas: &[&Ca]) -> Identity {
    identity.chain.extend(cas.iter().map(|ca| ca.der.clone()));
    identity
}

#[tokio::test]
async fn i01_chains_that_are_good() {
    let root = Ca::root("root");
    let upper = root.below("upper", nothing);
    let lower = upper.below("lower", nothing);
    let settings = Files::trusting(&root).settings();
    let within = root.below("within", constrained("allowed.test"));
    let bundle: Vec<_> = (0..20).map(|n| Ca::root(&format!("stranger {n}"))).collect();
    let with_bundle: Vec<_> = bundle.iter().chain([&lower, &lower, &upper, &root]).collect();
    let leaf = || lower.leaf(&["allowed.test"], nothing);
    for (what, identity, name) in [
        ("by the root", root.leaf(&["allowed.test"], nothing), "allowed.test"),
        ("two intermediates", with(leaf(), &[&lower, &upper]), "allowed.test"),
        ("misordered", with(leaf(), &[&upper, &lower]), "allowed.test"),
        ("extra", with(leaf(), &[&Ca::root("stranger"), &lower, &upper, &root]), "allowed.test"),
        ("a whole bundle", with(leaf(), &with_bundle), "allowed.test"),
        ("wildcard", root.leaf(&["*.allowed.test"], nothing), "www.allowed.test"),
        ("letter case", root.leaf(&["ALLOWED.test"], nothing), "allowed.test"),
        ("underscore", root.leaf(&["a_b.allowed.test"], nothing), "a_b.allowed.test"),
        ("private suffix", root.leaf(&["*.github.io"], nothing), "city.github.io"),
        ("public suffix, exact", root.leaf(&["city.co.jp"], nothing), "city.co.jp"),
        ("within its constraints", with(within.leaf(&["allowed.test"], nothing), &[&within]), "allowed.test"),
    ] {
        assert_eq!(both(&identity, name, &settings).await, None, "{what}");
    }
}

#[tokio::test]
async fn i01_i05_i06_chains_that_are_not() {
    // A table: longer than a function should be otherwise.
    let root = Ca::root("root");
    let intermediate = root.below("intermediate", nothing);
    let settings = Files::trusting(&root).settings();
    let short = root.below("short", |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0)));
    let too_deep = short.below("too deep", nothing);
    let not_ca = root.below("not a CA", |params| params.is_ca = IsCa::ExplicitNoCa);
    let elsewhere = root.below("elsewhere", constrained("other.test"));
    let expired_ca = root.below("expired", |params| params.not_after = days_from_now(-1));
    let impostor = Ca::root("root");
    let mut ladder = vec![root.below("rung", nothing)];
    for _ in 0..7 {
        let next = ladder.last().expect("one").below("rung", nothing);
        ladder.push(next);
    }
    let foot = ladder.last().expect("one").leaf(&["allowed.test"], nothing);
    let leaf = |names: &[&str]| root.leaf(names, nothing);
    let rows: Vec<(&str, Identity, Fault)> = vec![
        ("expired", root.leaf(&["allowed.test"], |p| p.not_after = days_from_now(-1)), Fault::Expired),
        ("not yet", root.leaf(&["allowed.test"], |p| p.not_before = days_from_now(1)), Fault::NotYetValid),
        ("wrong name", leaf(&["denied.test", "xallowed.test", "allowed.test.denied.test"]), Fault::Name),
        ("unknown root", Ca::root("elsewhere").leaf(&["allowed.test"], nothing), Fault::UnknownIssuer),
        ("the root's name, another's key", impostor.leaf(&["allowed.test"], nothing), Fault::BadSignature),
        ("self-signed, a CA", self_signed(IsCa::Ca(rcgen::BasicConstraints::Unconstrained)), Fault::SelfSigned),
        ("self-signed", self_signed(IsCa::NoCa), Fault::SelfSigned),
        ("intermediate left out", intermediate.leaf(&["allowed.test"], nothing), Fault::UnknownIssuer),
        ("wrong one", with(intermediate.leaf(&["allowed.test"], nothing), &[&short]), Fault::UnknownIssuer),
        ("expired above", with(expired_ca.leaf(&["allowed.test"], nothing), &[&expired_ca]), Fault::Expired),
        (
            "common name only",
            root.leaf(&[], |p| p.distinguished_name.push(rcgen::DnType::CommonName, "allowed.test")),
            Fault::Name,
        ),
        ("bare wildcard", leaf(&["*"]), Fault::Name),
        ("partial wildcard", leaf(&["a*d.test"]), Fault::Name),
        ("wildcard within", leaf(&["allowed.*"]), Fault::Name),
        ("two wildcards", leaf(&["*.*"]), Fault::Name),
        ("NUL in a name", leaf(&["allowed.test\0.denied.test"]), Fault::Name),
        (
            "address as DNS name",
            root.leaf(&[], |p| p.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())]),
            Fault::Name,
        ),
        (
            "for clients",
            root.leaf(&["allowed.test"], |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            Fault::NotForServerAuth,
        ),
        ("issuer is no CA", with(not_ca.leaf(&["allowed.test"], nothing), &[&not_ca]), Fault::EndEntityUsedAsCa),
        ("path length", with(too_deep.leaf(&["allowed.test"], nothing), &[&too_deep, &short]), Fault::PathLength),
        ("name constraints", with(elsewhere.leaf(&["allowed.test"], nothing), &[&elsewhere]), Fault::NameConstraints),
        (
            "a CA as a leaf",
            root.leaf(&["allowed.test"], |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            Fault::CaUsedAsEndEntity,
        ),
        (
            "critical extension",
            root.leaf(&["allowed.test"], |p| {
                let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55_555, 1], vec![5, 0]);
                extension.set_criticality(true);
                p.custom_extensions = vec![extension];
            }),
            Fault::UnknownCriticalExtension,
        ),
        ("long chain", with(foot, &ladder.iter().collect::<Vec<_>>()), Fault::ChainTooLarge),
    ];
    for (what, identity, expected) in rows {
        assert_eq!(both(&identity, "allowed.test", &settings).await, Some(expected), "{what}");
    }
    for (names, name) in
        [(&["*.co.jp"], "city.co.jp"), (&["*.allowed.test"], "a.b.allowed.test"), (&["*.allowed.test"], "allowed.test")]
    {
        assert_eq!(both(&leaf(names), name, &settings).await, Some(Fault::Name), "{names:?} for {name}");
    }
}

#[tokio::test]
async fn i01_errors_say_what_is_wrong_and_for_whom() {
    let root = Ca::root("root");
    let settings = Files::trusting(&root).settings();
    let hostile = root.leaf(&["denied.test"], |params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, DnValue::Utf8String("a\r\nb".repeat(400)));
    });
    let error = inspected(&Origin::with(&hostile).await, "allowed.test", &settings).await.err().expect("refused");
    assert!(error.to_string().ends_with("the certificate is for other names: denied.test"), "{error}");
    let certificate = error.certificate().expect("read");
    assert!(certificate.subject.len() < 300 && !certificate.subject.contains(['\r', '\n']), "{}", certificate.subject);
}

/// Root, intermediate and leaf (serials 1, 2, 3), the chain as it should be sent.
fn family() -> (Ca, Ca, Identity) {
    let root = Ca::root("root");
    let intermediate = root.below("intermediate", nothing);
    let identity = with(intermediate.leaf(&["allowed.test"], nothing), &[&intermediate]);
    (root, intermediate, identity)
}

#[tokio::test]
async fn i07_revocation() {
    let (root, intermediate, identity) = family();
    let good_root = root.crl(&[], -1, 1);
    let good = intermediate.crl(&[77], -1, 1);
    let stale = intermediate.crl(&[], -9, -8);
    let forged = Ca::root("intermediate").crl(&[], -1, 1);
    use {Stale as S, Unknown as U};
    for (what, crls, unknown, on_stale, expected) in [
        ("no CRL at all", vec![], U::Allow, S::Deny, None),
        ("no CRL at all, denied", vec![], U::Deny, S::Deny, Some(Fault::RevocationUnknown)),
        ("not revoked", vec![good_root.clone(), good.clone()], U::Deny, S::Deny, None),
        (
            "leaf revoked",
            vec![good_root.clone(), intermediate.crl(&[3], -1, 1)],
            U::Deny,
            S::Deny,
            Some(Fault::Revoked),
        ),
        (
            "leaf revoked, unknown allowed",
            vec![intermediate.crl(&[3], -1, 1)],
            U::Allow,
            S::Allow,
            Some(Fault::Revoked),
        ),
        ("intermediate revoked", vec![root.crl(&[2], -1, 1), good.clone()], U::Allow, S::Deny, Some(Fault::Revoked)),
        ("one issuer without", vec![good.clone()], U::Deny, S::Deny, Some(Fault::RevocationUnknown)),
        ("one issuer without, allowed", vec![good.clone()], U::Allow, S::Deny, None),
        ("stale", vec![good_root.clone(), stale.clone()], U::Deny, S::Deny, Some(Fault::CrlStale)),
        ("stale, allowed", vec![good_root.clone(), stale.clone()], U::Deny, S::Allow, None),
        ("stale and revoked, allowed", vec![intermediate.crl(&[3], -9, -8)], U::Allow, S::Allow, Some(Fault::Revoked)),
        ("of last week and of today", vec![stale.clone(), good.clone()], U::Allow, S::Deny, None),
        (
            "of today says revoked",
            vec![good.clone(), intermediate.crl(&[3], 0, 1)],
            U::Allow,
            S::Deny,
            Some(Fault::Revoked),
        ),
        ("signed by a stranger", vec![forged.clone()], U::Allow, S::Deny, Some(Fault::CrlInvalid)),
    ] {
        let mut files = Files::trusting(&root).with_crls(&crls);
        (files.sources.crl_unknown, files.sources.crl_stale) = (unknown, on_stale);
        assert_eq!(both(&identity, "allowed.test", &files.settings()).await, expected, "{what}");
    }
}

#[tokio::test]
async fn an_inspected_upstream_tells_what_was_agreed() {
    let root = Ca::root("root");
    let settings = Files::trusting(&root).settings();
    let identity = root.leaf(&["allowed.test"], nothing);
    for (version, words, cipher) in [(&TLS13, "1.3", "TLS_"), (&TLS12, "1.2", "TLS_ECDHE_ECDSA_")] {
        let mut config = server_config(&identity, &[version], ClientAuth::None);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let origin = Origin::start(config).await;
        let upstream = inspected(&origin, "allowed.test", &settings).await.expect("verified");
        assert_eq!(upstream.alpn(), Some(b"http/1.1".as_slice()));
        assert_eq!(upstream.tls_version(), Some(words));
        assert!(upstream.cipher().expect("cipher").starts_with(cipher), "{:?}", upstream.cipher());
        assert_eq!(upstream.verdict(), UpstreamVerdict::Handshake);
        assert_eq!(upstream.client_certificate(), ClientCertificate::NotAsked);
        assert_eq!(upstream.certificate().subject, "CN=leaf");
        assert_eq!(upstream.certificate().issuer, "CN=root");
        assert_eq!(upstream.address().socket(), origin.address);
        assert_eq!(upstream.into_stream().read_u8().await.expect("greeting"), b'!');
    }
}

#[tokio::test]
async fn d15_an_upstream_without_a_common_protocol() {
    let root = Ca::root("root");
    let mut config = server_config(&root.leaf(&["allowed.test"], nothing), rustls::ALL_VERSIONS, ClientAuth::None);
    config.alpn_protocols = vec![b"imap".to_vec()];
    let origin = Origin::start(config).await;
    let settings = Files::trusting(&root).settings();
    let error = inspected(&origin, "allowed.test", &settings).await.err().expect("no protocol");
    assert_eq!(error.reason(), Reason::NoApplicationProtocol, "{error}");
    // A tunnel may well carry imap: its verdict offers no protocol and so meets no objection.
    assert!(tunnelled(&Verdicts::default(), origin.address, "allowed.test", &settings).await.is_ok());
}

#[tokio::test]
async fn d17_a_client_certificate_is_asked_for() {
    let root = Ca::root("root");
    let settings = Files::trusting(&root).settings();
    let identity = root.leaf(&["allowed.test"], nothing);
    for version in [&TLS12, &TLS13] {
        let origin = Origin::start(server_config(&identity, &[version], ClientAuth::Required)).await;
        let verdict = tunnelled(&Verdicts::default(), origin.address, "allowed.test", &settings).await;
        assert!(verdict.is_ok(), "a server that wants to know its client has shown who it is itself");
        match inspected(&origin, "allowed.test", &settings).await {
            Err(error) => assert_eq!(error.reason(), Reason::ClientCertificateRequired, "{error}"),
            Ok(upstream) => {
                assert_eq!(*version, TLS13, "in TLS 1.2 the client waits for the server's last word");
                assert_eq!(upstream.client_certificate(), ClientCertificate::Asked);
                assert!(upstream.into_stream().read_u8().await.is_err());
            }
        }
    }
}

#[tokio::test]
async fn d17_an_upstream_below_the_lowest_version() {
    let root = Ca::root("root");
    let mut files = Files::trusting(&root);
    files.sources.min_tls = MinTls::Tls13;
    let config = server_config(&root.leaf(&["allowed.test"], nothing), &[&TLS12], ClientAuth::None);
    let origin = Origin::start(config).await;
    let settings = files.settings();
    let by_inspection = inspected(&origin, "allowed.test", &settings).await.err().expect("version");
    let by_verdict =
        tunnelled(&Verdicts::default(), origin.address, "allowed.test", &settings).await.err().expect("version");
    for error in [by_inspection, by_verdict] {
        assert_eq!(error.reason(), Reason::TlsFailed);
        assert!(error.to_string().contains("min_tls"), "{error}");
    }
}

#[tokio::test]
async fn upstreams_that_speak_no_tls_hang_up_or_are_silent() {
    use tokio::io::AsyncWriteExt;
    let settings = Settings { handshake: Duration::from_millis(200), ..Files::trusting(&Ca::root("root")).settings() };
    let plain = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1_024]).await;
    })
    .await;
    let huge = serve(|mut stream| async move {
        // A handshake message of 16 MiB is announced.
        let _ = stream.write_all(&[22, 3, 3, 0, 4, 2, 0xff, 0xff, 0xff]).await;
        let _ = stream.read(&mut [0; 1_024]).await;
    })
    .await;
    let gone = serve(|mut stream| async move { drop(stream.read(&mut [0; 1_024]).await) }).await;
    let silent = serve(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    for (address, expected, words) in [
        (plain, Reason::TlsFailed, "not TLS"),
        (huge, Reason::TlsFailed, "larger than 64 KiB"),
        (gone, Reason::UpstreamClosed, "closed the connection during the TLS handshake"),
        (silent, Reason::UpstreamTimeout, "did not finish the TLS handshake within 200ms"),
    ] {
        let by_inspection = inspect(connected(address).await, &destination("allowed.test"), vec![], &settings).await;
        let by_verdict = tunnelled(&Verdicts::default(), address, "allowed.test", &settings).await;
        for error in [by_inspection.err(), by_verdict.err()] {
            let error = error.expect("no handshake");
            assert_eq!(error.reason(), expected, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn a_verdict_is_kept_for_its_address_name_and_trust_and_made_once() {
    let root = Ca::root("root");
    let identity = root.leaf(&["allowed.test", "b.test"], nothing);
    let (one, other) = (Origin::with(&identity).await, Origin::with(&identity).await);
    let files = Files::trusting(&root);
    let settings = files.settings();
    let verdicts = Arc::new(Verdicts::default());
    let tunnels: Vec<_> = (0..8)
        .map(|_| {
            let (verdicts, settings, address) = (Arc::clone(&verdicts), settings.clone(), one.address);
            tokio::spawn(async move { tunnelled(&verdicts, address, "allowed.test", &settings).await.is_ok() })
        })
        .collect();
    for tunnel in tunnels {
        assert!(tunnel.await.expect("task"));
    }
    assert_eq!(one.handshakes(), 1, "one for all that came at once");
    use UpstreamVerdict::{Kept, Probed};
    for (origin, name, settings, handshakes, verdict) in [
        (&one, "allowed.test", settings.clone(), 1, Kept),
        (&one, "b.test", settings.clone(), 2, Probed),
        (&other, "allowed.test", settings.clone(), 1, Probed),
        // The same files again are the same trust; anything else in them is another.
        (&one, "allowed.test", files.settings(), 2, Kept),
        (&one, "allowed.test", files.with_crls(&[root.crl(&[], -1, 1)]).settings(), 3, Probed),
        (&one, "allowed.test", Settings { cache: Duration::ZERO, ..settings.clone() }, 4, Probed),
        (&one, "allowed.test", Settings { cache: Duration::ZERO, ..settings.clone() }, 5, Probed),
    ] {
        let upstream = tunnelled(&verdicts, origin.address, name, &settings).await.expect("verified");
        assert_eq!(upstream.verdict(), verdict);
        assert_eq!(upstream.certificate().subject, "CN=leaf");
        assert_eq!(upstream.address().socket(), origin.address);
        assert_eq!(origin.handshakes(), handshakes, "{name}");
    }
}

#[tokio::test]
async fn i02_i07_a_revocation_ends_a_kept_verdict_at_the_reload() {
    let (root, intermediate, identity) = family();
    let origin = Origin::with(&identity).await;
    let verdicts = Verdicts::default();
    let files = Files::trusting(&root);
    assert!(tunnelled(&verdicts, origin.address, "allowed.test", &files.settings()).await.is_ok());
    let files = files.with_crls(&[intermediate.crl(&[3], -1, 1)]);
    let error = tunnelled(&verdicts, origin.address, "allowed.test", &files.settings()).await.err().expect("revoked");
    assert_eq!(error.fault(), Some(Fault::Revoked));
}

#[tokio::test]
async fn a_verdict_lives_no_longer_than_certificate_crl_and_setting() {
    let root = Ca::root("root");
    let hour = Duration::from_secs(3_600);
    let life = |leaf_days: f64, crl_days: Option<i64>, cache: Duration| {
        let files = match crl_days {
            Some(days) => Files::trusting(&root).with_crls(&[root.crl(&[], -1, days), root.crl(&[], -9, -8)]),
            None => Files::trusting(&root),
        };
        let identity = root.leaf(&["allowed.test"], |params| {
            params.not_after = days_from_now(0) + time::Duration::seconds_f64(leaf_days * 86_400.0);
        });
        let certificate = Certificate::read(&identity.chain, SystemTime::now()).expect("certificate");
        let settings = Settings { cache, ..files.settings() };
        let before = Instant::now();
        match keep(&Ok(Arc::new(certificate)), &settings) {
            Keep::Until(until) => until.saturating_duration_since(before).as_secs().div_ceil(60) * 60,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(life(20.0, None, hour), 3_600);
    assert_eq!(life(1.0 / 48.0, None, hour), 1_800, "notAfter in half an hour");
    assert_eq!(life(-1.0, None, hour), 0, "already over");
    assert_eq!(life(20.0, Some(2), hour), 3_600);
    assert_eq!(life(20.0, Some(2), 100 * hour), 24 * 3_600, "never more than a day");
    let error = |fault| Err(VerifyError::rejected(&name("allowed.test"), vetted_any().upstream(), fault));
    let settings = Files::trusting(&root).settings();
    let rejection = Rejection::of(rustls::CertificateError::Expired.into(), None);
    assert!(matches!(keep(&error(rejection), &settings), Keep::Until(until) if until <= Instant::now() + FAILURE_KEPT));
}

fn vetted_any() -> VettedAddr {
    vetted(std::net::SocketAddr::from(([127, 0, 0, 1], 443)))
}

#[tokio::test]
async fn a_broken_handshake_is_kept_for_a_moment() {
    let root = Ca::root("root");
    let settings = Files::trusting(&root).settings();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let address = serve(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            // Counts those who say hello: probes, not the tunnels' own connections.
            if stream.read(&mut [0; 1_024]).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    })
    .await;
    let verdicts = Verdicts::default();
    for _ in 0..3 {
        let error = tunnelled(&verdicts, address, "allowed.test", &settings).await.err().expect("closed");
        assert_eq!(error.reason(), Reason::UpstreamClosed, "{error}");
    }
    assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// Reads the greeting, and with it the tickets that came before.
async fn greeted(upstream: VerifiedUpstream<Inspect>) -> UpstreamVerdict {
    let verdict = upstream.verdict();
    assert_eq!(upstream.into_stream().read_u8().await.expect("greeting"), b'!');
    verdict
}

#[tokio::test]
async fn d14_i08_sessions_are_resumed_for_their_name_under_their_trust_only() {
    let (root, intermediate, _) = family();
    let identity = with(intermediate.leaf(&["allowed.test", "b.test"], nothing), &[&intermediate]);
    for version in [&TLS12, &TLS13] {
        let origin = Origin::start(server_config(&identity, &[version], ClientAuth::None)).await;
        let files = Files::trusting(&root);
        let settings = files.settings();
        let verdict = async |name: &str, settings: &Settings| {
            greeted(inspected(&origin, name, settings).await.expect("verified")).await
        };
        assert_eq!(verdict("allowed.test", &settings).await, UpstreamVerdict::Handshake);
        assert_eq!(verdict("allowed.test", &settings).await, UpstreamVerdict::Resumed);
        assert_eq!(verdict("b.test", &settings).await, UpstreamVerdict::Handshake, "another name on the same address");
        assert_eq!(verdict("allowed.test", &files.settings()).await, UpstreamVerdict::Handshake, "after a reload");
        let revoked = files.with_crls(&[intermediate.crl(&[3], -1, 1)]).settings();
        let error = inspected(&origin, "allowed.test", &revoked).await.err().expect("revoked");
        assert_eq!(error.fault(), Some(Fault::Revoked));
    }
}

#[tokio::test]
async fn i08_the_chain_of_a_resumed_session_is_verified_again() {
    let root = Ca::root("root");
    let trust = Files::trusting(&root).load();
    let good = root.leaf(&["allowed.test"], nothing);
    let ended = root.leaf(&["allowed.test"], |params| params.not_after = days_from_now(-1));
    let again = |chain: &[_]| trust.verifier().again(chain, &name("allowed.test"));
    assert_eq!(again(&good.chain).expect("good").subject, "CN=leaf");
    assert_eq!(again(&ended.chain).expect_err("ended").fault, Fault::Expired);
    assert!(again(&[]).is_err());
}

/// What was found good is remembered, and no longer than it is good.
#[test]
fn i08_a_chain_that_was_good_is_judged_anew_when_something_of_it_has_ended() {
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls_pki_types::{ServerName, UnixTime};

    let root = Ca::root("root");
    let leaf = root.leaf(&["allowed.test"], |params| params.not_after = days_from_now(2));
    let (files, crls) = (Files::trusting(&root), Files::trusting(&root));
    let crls = crls.with_crls(&[root.crl(&[], -1, 1)]);
    let server = |name: &'static str| ServerName::try_from(name).expect("a name");
    let day = |days: i64| {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        UnixTime::since_unix_epoch(Duration::from_secs((at.as_secs() as i64 + days * 86_400) as u64))
    };
    let half_a_day = UnixTime::since_unix_epoch(Duration::from_secs(day(0).as_secs() + 43_200));
    for (what, trust, good, ended) in
        [("notAfter", files.load(), day(1), day(3)), ("nextUpdate", crls.load(), half_a_day, day(1))]
    {
        let judge = |name, at| {
            let (leaf, others) = leaf.chain.split_first().expect("a leaf");
            trust.verifier().verify_server_cert(leaf, others, &server(name), &[], at).is_ok()
        };
        assert!(judge("allowed.test", day(0)) && judge("allowed.test", good), "{what}");
        assert!(!judge("other.test", good), "{what}: the chain is good for a name, not for all");
        assert!(!judge("allowed.test", ended), "{what}");
        assert!(!judge("allowed.test", day(-3_000)), "{what}: a clock that was set back");
        assert!(judge("allowed.test", good), "{what}: again");
    }
}

#[tokio::test]
async fn i03_hostile_chains_cost_little() {
    let root = Ca::root("root");
    let settings = Files::trusting(&root).settings();
    // As many authorities as are looked at, of one name, each signed by another of that name: every order is a candidate.
    let mut tangle = vec![Ca::root("tangle")];
    for _ in 0..5 {
        let next = tangle.last().expect("one").below("tangle", nothing);
        tangle.push(next);
    }
    let identity =
        with(tangle.last().expect("one").leaf(&["allowed.test"], nothing), &tangle.iter().rev().collect::<Vec<_>>());
    let before = std::time::Instant::now();
    let fault = trust_says(&settings, &identity);
    assert_eq!(fault, Some(Fault::UnknownIssuer), "every order was tried");
    // 50 ms is the target for a release build; this is a debug build on a shared machine.
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    let one_more = tangle.last().expect("one").below("tangle", nothing);
    let identity = with(identity, &[&one_more]);
    assert_eq!(trust_says(&settings, &identity), Some(Fault::ChainTooLarge));
}

#[test]
fn i03_broken_certificates_are_refused_and_nothing_panics() {
    let root = Ca::root("root");
    let settings = Files::trusting(&root).settings();
    let identity = root.leaf(&["allowed.test"], nothing);
    let good = identity.chain.first().expect("leaf").to_vec();
    let judge = |der: Vec<u8>| settings.trust.verifier().again(&[der.into()], &name("allowed.test"));
    assert!(judge(good.clone()).is_ok());
    for at in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut broken = good.clone();
            *broken.get_mut(at).expect("within") ^= bit;
            assert!(judge(broken).is_err(), "bit {bit:#x} of byte {at}");
        }
        assert!(judge(good.get(..at).expect("within").to_vec()).is_err(), "cut at {at}");
    }
    let empty = root.leaf(&["allowed.test"], |params| params.distinguished_name = rcgen::DistinguishedName::new());
    let read = settings.trust.verifier().again(&empty.chain, &name("allowed.test")).expect("good");
    assert_eq!(read.subject, "SAN=allowed.test");
}

fn trust_says(settings: &Settings, identity: &Identity) -> Option<Fault> {
    settings.trust.verifier().again(&identity.chain, &name("allowed.test")).err().map(|rejection| rejection.fault)
}

#[tokio::test]
async fn c10_every_name_that_parses_can_be_asked_for() {
    for text in ["a_b.allowed.test", "_x.allowed.test", "xn--bcher-kva.test", "internal", &"a.".repeat(126)] {
        assert!(super::super::handshake::server_name(&name(text)).is_some(), "{text}");
    }
}

#[test]
fn the_words_of_faults_are_distinct() {
    let words: std::collections::HashSet<_> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
    assert_eq!(words.len(), Fault::ALL.len());
}

#[test]
fn h05_want_of_descriptors_is_not_kept_as_a_verdict_on_the_destination() {
    let settings = Files::trusting(&Ca::root("root")).settings();
    let name = DnsName::parse(b"allowed.test").expect("a name");
    let none = connect::ConnectError::NoDescriptors { name: name.clone(), cause: "Too many open files".to_owned() };
    assert_eq!(keep(&Err(VerifyError::Connect(none)), &settings), Keep::Not);
    let refused = connect::ConnectError::Failed { name, failures: Vec::new() };
    assert!(matches!(keep(&Err(VerifyError::Connect(refused)), &settings), Keep::IfNoneHeld(_)));
}
