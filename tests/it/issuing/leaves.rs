//! Only scenes about the issuing CA belong here: its key file, the leaves that clients are shown, who gets none, and its renewal.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{HandshakeKind, NamedGroup};
use tokio_rustls::TlsConnector;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::support::by_hand::{inside, inside_as, inside_h2};
use crate::support::client::{Tls, Wire, alert_of};
use crate::support::pki::{self, Defect};
use crate::support::sekisho::{APART, apart, prepare, run, set_mode, text};
use crate::support::{Config, Origin, Sekisho, Service, until, within};

/// `sekisho run` where it must not come up: its exit status and what it said.
async fn refuses_to_run(dir: &Path) -> (Option<i32>, String) {
    let stderr = fs::File::create(dir.join("refusal.log")).expect("a log");
    let mut child = Command::new(crate::support::sekisho::binary())
        .args(["run", "--config", "sekisho.toml"])
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the binary starts");
    let status = until("a refusal", || child.try_wait().expect("wait")).await;
    (status.code(), fs::read_to_string(dir.join("refusal.log")).expect("a log"))
}

#[tokio::test]
async fn j01_a_key_that_others_can_use_is_refused_and_says_why() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (dir, _, _) = prepare(&Config::new().inspect("allowed.test", &origin));
    let key = dir.path().join("ca.key");
    for mode in [0o640, 0o604, 0o644, 0o620, 0o602, 0o610, 0o660, 0o777] {
        set_mode(&key, mode);
        let (code, said) = refuses_to_run(dir.path()).await;
        assert_eq!(code, Some(1), "{mode:o}: {said}");
        assert!(
            said.contains("ca.key") && said.contains(&format!("{mode:04o}")) && said.contains("chmod 600"),
            "{mode:o}: {said}"
        );
        let check = run(dir.path(), &["check", "--config", "sekisho.toml"]);
        let said = text(&check.stdout) + &text(&check.stderr);
        assert_eq!(check.status.code(), Some(1), "{mode:o}: {said}");
        assert!(said.contains("ca.key"), "{mode:o}: {said}");
        let pem = fs::read_to_string(&key).expect("the key");
        let secret = pem.lines().nth(1).expect("a line of it");
        assert!(!said.contains(secret), "J02");
    }
    for mode in [0o600, 0o400] {
        set_mode(&key, mode);
        let check = run(dir.path(), &["check", "--config", "sekisho.toml"]);
        assert!(check.status.success(), "{mode:o}: {}{}", text(&check.stdout), text(&check.stderr));
    }
    set_mode(&key, 0o600);
    let aside = dir.path().join("aside.key");
    fs::rename(&key, &aside).expect("rename");
    symlink(&aside, &key).expect("a link");
    let (code, said) = refuses_to_run(dir.path()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("symbolic link"), "{said}");
    fs::remove_file(&key).expect("remove");
    let (code, said) = refuses_to_run(dir.path()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ca.key"), "{said}");
    origin.untouched();
}

/// At a reload too: the old policy stays.
#[tokio::test]
async fn j01_a_reload_with_an_open_key_is_refused() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin);
    let mut sekisho = Sekisho::start(&config).await;
    set_mode(&sekisho.path("ca.key"), 0o644);
    sekisho.reload_refused(&config.clone().tail("# touched\n").render(&sekisho.listeners, sekisho.admin)).await;
    let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
    assert_eq!(wire.get(&origin.at("allowed.test"), "/").await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "");
    assert!(sekisho.admin("/readyz").await.text().contains("degraded"));
}

#[tokio::test]
async fn j03_two_installations_share_nothing() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin);
    let (one, other) = (prepare(&config).0, prepare(&config).0);
    for file in ["ca.pem", "ca.key", "ca-root.pem", "ca-root.key"] {
        let read = |dir: &Path| fs::read(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_ne!(read(one.path()), read(other.path()), "{file}");
    }
}

fn parsed(der: &CertificateDer<'static>) -> X509Certificate<'static> {
    let der: &'static [u8] = Box::leak(der.to_vec().into_boxed_slice());
    let (rest, certificate) = X509Certificate::from_der(der).expect("a certificate");
    assert!(rest.is_empty());
    certificate
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let san = certificate.subject_alternative_name().expect("readable").expect("a SAN");
    san.value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            other => panic!("not a DNS name: {other:?}"),
        })
        .collect()
}

/// J04, on what a client is really shown.
#[track_caller]
fn modest(chain: &[CertificateDer<'static>], host: &str) -> Vec<u8> {
    assert_eq!(chain.len(), 2, "the leaf and one intermediate; the root is the client's");
    let (leaf, intermediate) = (parsed(&chain[0]), parsed(&chain[1]));
    assert_eq!(names(&leaf), [host], "one SAN, of this name alone");
    let usage = leaf.extended_key_usage().expect("readable").expect("EKU").value.clone();
    assert!(
        usage.server_auth
            && !usage.client_auth
            && !usage.any
            && !usage.code_signing
            && !usage.email_protection
            && usage.other.is_empty(),
        "{usage:?}"
    );
    assert!(leaf.basic_constraints().expect("readable").is_none_or(|basic| !basic.value.ca), "CA:false");
    let key_usage = leaf.key_usage().expect("readable").expect("KU").value;
    assert!(key_usage.digital_signature() && !key_usage.key_cert_sign() && !key_usage.crl_sign(), "{key_usage}");
    let validity = leaf.validity();
    let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) as f64 / 86_400.0;
    assert!(days <= 47.0, "{days} days");
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    assert!(validity.not_before.timestamp() <= now - 3600 + 60, "begins an hour ago");
    assert!(validity.not_after.timestamp() > now + 86_400, "and lasts");
    assert!(validity.not_after.timestamp() <= intermediate.validity().not_after.timestamp());
    assert!(validity.not_before.timestamp() >= intermediate.validity().not_before.timestamp());
    let serial = leaf.raw_serial().to_vec();
    assert!((8..=20).contains(&serial.len()), "{} octets of serial", serial.len());
    assert!(serial[0] & 0x80 == 0 && serial.iter().any(|octet| *octet != 0), "positive: {serial:?}");
    assert_eq!(leaf.version(), x509_parser::x509::X509Version::V3);
    for extension in leaf.extensions() {
        assert!(!matches!(extension.parsed_extension(), ParsedExtension::UnsupportedExtension { .. }), "{extension:?}");
    }
    assert!(intermediate.is_ca() && leaf.issuer() == intermediate.subject());
    let constraints = intermediate.name_constraints().expect("readable").expect("J05: constrained").value;
    let permitted = constraints.permitted_subtrees.as_ref().expect("permitted names");
    assert!(permitted.iter().all(|subtree| matches!(subtree.base, GeneralName::DNSName(_))), "{permitted:?}");
    let excluded = constraints.excluded_subtrees.as_ref().expect("excluded addresses");
    assert_eq!(
        excluded.iter().filter(|subtree| matches!(subtree.base, GeneralName::IPAddress(_))).count(),
        2,
        "IPv4 and IPv6"
    );
    serial
}

#[tokio::test]
async fn j04_every_leaf_is_for_one_host_and_one_purpose() {
    let hosts = ["allowed.test", "a.wild.test", "b.wild.test", "deep.er.wild.test"];
    let long = format!("{}.{}.wild.test", "a".repeat(63), "b".repeat(63));
    let all: Vec<&str> = hosts.iter().copied().chain([long.as_str()]).collect();
    let origin = Origin::https(&all).start().await;
    let service = Service::inspect("all", &["allowed.test", "*.wild.test"], origin.port());
    let mut sekisho = Sekisho::start(&Config::new().service(service).hosts(&all)).await;
    let mut serials = Vec::new();
    for host in &all {
        for tls in
            [Tls::named(host), Tls::named(host).without_sni(), Tls::named(host).versions(&[&rustls::version::TLS12])]
        {
            let wire = inside_as(&sekisho, host, origin.port(), &tls).await;
            serials.push((*host, modest(&wire.certificates(), host)));
            wire.bye().await;
            sekisho.next_connection().await.says("allowed", "");
        }
    }
    for (host, serial) in &serials {
        let others = serials.iter().filter(|(other, known)| other != host && known == serial).count();
        assert_eq!(others, 0, "{host} shares its serial");
    }
    sekisho.finish().await;
}

/// The judge is OpenSSL, which shares no code with the proxy.
#[tokio::test]
async fn j04_j05_openssl_takes_the_chain_and_only_for_its_host() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let wire = inside(&sekisho, "allowed.test", origin.port()).await;
    let chain = wire.certificates();
    wire.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    for (n, der) in chain.iter().enumerate() {
        fs::write(sekisho.path(&format!("{n}.der")), der).expect("write");
        let made = openssl(
            sekisho.dir.path(),
            &["x509", "-inform", "der", "-in", &format!("{n}.der"), "-out", &format!("{n}.pem")],
        );
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
    let verify = |host: &str| {
        openssl(
            sekisho.dir.path(),
            &[
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-CAfile",
                "ca-root.pem",
                "-untrusted",
                "1.pem",
                "-verify_hostname",
                host,
                "0.pem",
            ],
        )
    };
    let good = verify("allowed.test");
    assert!(good.status.success(), "{}{}", text(&good.stdout), text(&good.stderr));
    assert!(!verify("other.test").status.success());
    // The thief of the intermediate's key: a leaf of his for another name is refused by every client of this root.
    fs::write(sekisho.path("evil.cnf"), "subjectAltName=DNS:evil.test\nextendedKeyUsage=serverAuth\n").expect("write");
    for arguments in [
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "evil.key",
            "-subj",
            "/CN=x",
            "-out",
            "evil.csr",
        ][..],
        &[
            "x509", "-req", "-in", "evil.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "5", "-extfile",
            "evil.cnf", "-out", "evil.pem",
        ],
    ] {
        let made = openssl(sekisho.dir.path(), arguments);
        assert!(made.status.success(), "{arguments:?}: {}", text(&made.stderr));
    }
    let stolen = openssl(sekisho.dir.path(), &["verify", "-CAfile", "ca-root.pem", "-untrusted", "ca.pem", "evil.pem"]);
    let said = text(&stolen.stdout) + &text(&stolen.stderr);
    assert!(!stolen.status.success() && said.contains("permitted subtree violation"), "{said}");
    sekisho.finish().await;
}

fn openssl(dir: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).current_dir(dir).stdin(Stdio::null()).output().expect("openssl runs")
}

/// J06: who has no leaf coming gets none: not a denied name, not a tunnelled one, not another SNI's.
#[tokio::test]
async fn j06_no_leaf_for_a_name_that_is_not_inspected() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let tunnelled = Origin::https(&["tunnel.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let config =
        Config::new().inspect("allowed.test", &origin).tunnel("tunnel.test", &tunnelled).hosts(&["denied.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    // Another SNI than the CONNECT's: an alert in the clear, no certificate, nothing at any origin.
    for sni in ["tunnel.test", "denied.test", "a.allowed.test"] {
        let mut wire = sekisho.tunnel(&origin.at("allowed.test")).await;
        wire.send(Tls::named(sni).hello()).await;
        let (came, _) = wire.rest().await;
        assert_eq!(alert_of(&came), Some(112), "{sni}: {came:?}");
        sekisho.next_connection().await.says("denied", "name_mismatch");
    }
    origin.untouched();
    // A tunnel shows the origin's own certificate.
    let wire = Tls::named("tunnel.test").over(sekisho.tunnel(&tunnelled.at("tunnel.test")).await).await;
    assert!(!parsed(&wire.certificates()[0]).issuer().to_string().contains("Example City"), "the origin's own");
    wire.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.refused(&denied.at("denied.test"), 403, "not_allowlisted").await;
    denied.untouched();
    sekisho.finish().await;
}

/// I02, J06: a failed origin's leaf is for the page alone, and is for no other use than any.
#[tokio::test]
async fn j06_i02_under_a_failed_origins_leaf_there_is_the_page_and_nothing_else() {
    for defect in
        [Defect::Expired, Defect::UnknownIssuer, Defect::SelfSigned, Defect::OutsideConstraints, Defect::ClientAuthOnly]
    {
        let origin = Origin::https(&["allowed.test"]).defect(defect).start().await;
        let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
        let at = origin.at("allowed.test");
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        modest(&wire.certificates(), "allowed.test");
        let page = wire.get(&at, "/").await.expect("a page");
        page.page(502, "certificate_invalid");
        assert!(!page.text().contains("origin saw"), "{defect:?}: {}", page.text());
        sekisho.next_request().await.says("failed", "certificate_invalid");
        // Nor by going on: no click-through, whatever is asked, by whatever protocol.
        let _ = wire.try_send(format!("GET /again HTTP/1.1\r\nHost: {at}\r\nCookie: proceed=1\r\n\r\n")).await;
        if let Some(again) = wire.maybe_response("GET").await {
            again.page(502, "certificate_invalid");
        }
        drop(wire);
        let connection = sekisho.next_connection().await;
        connection.says("failed", "certificate_invalid");
        let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
        h2.get(&format!("https://{at}/")).await.expect("a page").page(502, "certificate_invalid");
        assert!(origin.requests().is_empty(), "{defect:?}: {:?}", origin.requests());
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_ca_is_named_as_such() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for tls in [
        Tls::named("allowed.test"),
        Tls::named("allowed.test").versions(&[&rustls::version::TLS12]),
        Tls::named("allowed.test").trusting(&pki::stranger_pem()).alpn(&["h2", "http/1.1"]),
    ] {
        let error = tls.try_over(sekisho.tunnel(&at).await).await.expect_err("not trusted");
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
        sekisho
            .next_connection()
            .await
            .with("event.reason", "client_rejected_certificate")
            .with("sekisho.side", "client");
    }
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}

/// `openssl s_client` through the proxy, with `-verify_return_error`: its exit and its output.
async fn s_client(sekisho: &Sekisho, at: &str, more: &[&str]) -> Output {
    let proxy = sekisho.addr().to_string();
    let host = at.split(':').next().expect("a host");
    let dir: PathBuf = sekisho.dir.path().to_owned();
    let arguments: Vec<String> = [
        "s_client",
        "-proxy",
        &proxy,
        "-connect",
        at,
        "-servername",
        host,
        "-verify_hostname",
        host,
        "-verify_return_error",
        "-brief",
    ]
    .iter()
    .chain(more)
    .map(ToString::to_string)
    .collect();
    within(
        "openssl s_client",
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            openssl(&dir, &arguments)
        }),
    )
    .await
    .expect("joined")
}

#[tokio::test]
async fn openssl_trusts_with_the_root_and_rejects_without_it() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for version in ["-tls1_3", "-tls1_2"] {
        let good = s_client(&sekisho, &at, &["-CAfile", "ca-root.pem", version]).await;
        let said = text(&good.stdout) + &text(&good.stderr);
        assert!(good.status.success() && said.contains("Verification: OK"), "{said}");
        sekisho.next_connection().await.with("event.outcome", "allowed");
        let bad = s_client(&sekisho, &at, &["-CAfile", "origins.pem", version]).await;
        assert!(!bad.status.success(), "{}", text(&bad.stdout));
        sekisho.next_connection().await.with("event.reason", "client_rejected_certificate");
    }
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}

/// J05, J08: a host the CA is not constrained to; a new intermediate under the same root; clients that noticed nothing.
#[tokio::test]
async fn j05_j08_a_new_host_needs_a_new_intermediate_and_clients_keep_their_root() {
    let origin = Origin::https(&["allowed.test", "new.test"]).start().await;
    let before = Config::new().set("record", "path", APART).inspect("allowed.test", &origin);
    let after = before.clone().inspect("new.test", &origin);
    let mut sekisho = Sekisho::start_with(&before, apart).await;
    let root = sekisho.ca();
    let mut old = inside(&sekisho, "allowed.test", origin.port()).await;
    sekisho.reload_refused(&after.render(&sekisho.listeners, sekisho.admin)).await;
    let check = run(sekisho.dir.path(), &["check", "--config", "sekisho.toml"]);
    let said = text(&check.stdout) + &text(&check.stderr);
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(said.contains("new.test") && said.contains("ca init"), "what, and what to do: {said}");
    sekisho.refused(&origin.at("new.test"), 403, "not_allowlisted").await;
    // Not over what is there.
    let refused = run(sekisho.dir.path(), &["ca", "init", "--config", "sekisho.toml"]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("overwritten"), "{}", text(&refused.stderr));
    for file in ["ca.pem", "ca.key"] {
        fs::rename(sekisho.path(file), sekisho.path(&format!("old-{file}"))).expect("rename");
    }
    let made = run(sekisho.dir.path(), &["ca", "init", "--config", "sekisho.toml"]);
    assert!(made.status.success(), "{}{}", text(&made.stdout), text(&made.stderr));
    assert_eq!(sekisho.ca(), root, "the same root");
    assert_eq!(crate::support::sekisho::mode(&sekisho.path("ca.key")), 0o600);
    sekisho.reload(&after).await;
    for host in ["new.test", "allowed.test"] {
        let mut wire = Tls::named(host).trusting(&root).over(sekisho.tunnel(&origin.at(host)).await).await;
        modest(&wire.certificates(), host);
        assert_eq!(wire.get(&origin.at(host), "/").await.expect("an answer").status, 200, "{host}");
        sekisho.next_request().await.says("allowed", "").with("url.domain", host);
        wire.bye().await;
        sekisho.next_connection().await.says("allowed", "");
    }
    assert_eq!(
        old.get(&origin.at("allowed.test"), "/old").await.expect("an answer").status,
        200,
        "J08: old connections live"
    );
    sekisho.next_request().await.says("allowed", "");
    old.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

/// A client's store that offers whatever ticket it has, for whatever name.
#[derive(Debug, Default)]
struct Promiscuous {
    tls13: Mutex<Vec<Tls13ClientSessionValue>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
}

impl ClientSessionStore for Promiscuous {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().expect("store") = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().expect("store").clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().expect("store") = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tls13.lock().expect("store").push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().expect("store").pop()
    }
}

/// D14 (nginx CVE-2025-23419): a session of one name offered for another is not resumed; for its own name it may be.
#[tokio::test]
async fn d14_a_session_of_one_name_is_never_resumed_for_another() {
    let origin = Origin::https(&["one.test", "two.test"]).alpn(&["http/1.1"]).start().await;
    let config = Config::new().inspect("one.test", &origin).inspect("two.test", &origin);
    let mut sekisho = Sekisho::start(&config).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let store = Arc::new(Promiscuous::default());
        let mut client = rustls::ClientConfig::builder_with_provider(pki::provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(pki::store(&sekisho.ca()))
            .with_no_client_auth();
        client.resumption = Resumption::store(store);
        let connector = TlsConnector::from(Arc::new(client));
        let mut kinds = Vec::new();
        for host in ["one.test", "one.test", "two.test", "two.test", "one.test"] {
            let at = origin.at(host);
            let tunnel = sekisho.tunnel(&at).await;
            let name = ServerName::try_from(host).expect("a name");
            let stream = within("a handshake", connector.connect(name, tunnel.io)).await.expect("a handshake");
            let kind = stream.get_ref().1.handshake_kind().expect("done");
            let certificate = parsed(&stream.get_ref().1.peer_certificates().expect("sent")[0].clone().into_owned());
            let mut wire = Wire::new(stream);
            assert_eq!(wire.get(&at, "/").await.expect("an answer").status, 200);
            sekisho.next_request().await.says("allowed", "").with("url.domain", host);
            assert_eq!(names(&certificate), [host], "{version:?}: what the client believes it talks to");
            kinds.push((host, kind));
            wire.bye().await;
            sekisho.next_connection().await.says("allowed", "");
        }
        assert_eq!(kinds[1].1, HandshakeKind::Resumed, "{version:?}: else this scene shows nothing: {kinds:?}");
        assert_ne!(kinds[2].1, HandshakeKind::Resumed, "{version:?}: two.test with one.test's session: {kinds:?}");
        assert_ne!(kinds[4].1, HandshakeKind::Resumed, "{version:?}: one.test with two.test's session: {kinds:?}");
    }
    sekisho.finish().await;
}
