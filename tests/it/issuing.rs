//! Only scenes about the issuing CA and the leaves it serves belong here.

mod credential;
mod leaves;
mod rotation;

use std::fs;
use std::os::unix::fs::symlink;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::support::client::Tls;
use super::support::sekisho::{mode, prepare, run, set_mode, text};
use super::support::{Config, Origin, Sekisho, Service};

fn inspecting() -> Config {
    Config::new().service(Service::inspect("one", &["allowed.test", "*.wide.test"], 443))
}

/// `sekisho run` on this directory, which must not come up.
fn refuses(dir: &std::path::Path) -> String {
    let out = run(dir, &["run", "--config", "sekisho.toml"]);
    assert!(!out.status.success());
    text(&out.stderr)
}

#[test]
fn j01_a_key_others_can_read_is_refused() {
    for bits in [0o640, 0o644, 0o660, 0o604, 0o620] {
        let (dir, ..) = prepare(&inspecting());
        assert_eq!(mode(&dir.path().join("ca.key")), 0o600, "as ca init makes it");
        set_mode(&dir.path().join("ca.key"), bits);
        let said = refuses(dir.path());
        assert!(said.contains("ca.key"), "{bits:o}: {said}");
        let checked = run(dir.path(), &["check", "--config", "sekisho.toml"]);
        assert_eq!(checked.status.code(), Some(1), "{bits:o}: check says the same");
        assert!(!dir.path().join("access.jsonl").exists() || !said.is_empty());
    }
}

#[test]
fn j01_a_key_behind_a_link_or_of_another_user_is_refused() {
    let (dir, ..) = prepare(&inspecting());
    fs::rename(dir.path().join("ca.key"), dir.path().join("elsewhere.key")).expect("rename");
    symlink(dir.path().join("elsewhere.key"), dir.path().join("ca.key")).expect("symlink");
    assert!(refuses(dir.path()).contains("ca.key"));
    let (dir, ..) = prepare(&inspecting());
    if std::os::unix::fs::chown(dir.path().join("ca.key"), Some(65534), None).is_ok() {
        assert!(refuses(dir.path()).contains("ca.key"));
    }
}

#[test]
fn j03_every_installation_has_keys_of_its_own() {
    let made: Vec<Vec<u8>> = (0..2)
        .flat_map(|_| {
            let (dir, ..) = prepare(&inspecting());
            ["ca.key", "ca-root.key", "ca.pem", "ca-root.pem"].map(|file| fs::read(dir.path().join(file)).expect(file))
        })
        .collect();
    for (index, one) in made.iter().enumerate() {
        assert!(made[index + 1..].iter().all(|other| other != one));
    }
}

#[test]
fn j05_the_issuing_ca_is_constrained_to_what_is_inspected() {
    let (dir, ..) = prepare(&inspecting());
    for file in ["ca.key", "ca-root.key"] {
        assert_eq!(mode(&dir.path().join(file)), 0o600, "{file}");
    }
    let pem = fs::read(dir.path().join("ca.pem")).expect("ca.pem");
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
    let certificate = pem.parse_x509().expect("a certificate");
    let constraints = certificate.name_constraints().expect("one").expect("constraints");
    assert!(constraints.critical);
    let names = |trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| -> Vec<String> {
        trees
            .iter()
            .flatten()
            .map(|tree| match &tree.base {
                GeneralName::DNSName(name) => (*name).to_owned(),
                GeneralName::IPAddress(ip) => format!("ip/{}", ip.len()),
                other => format!("{other:?}"),
            })
            .collect()
    };
    let mut permitted = names(&constraints.value.permitted_subtrees);
    permitted.sort();
    assert_eq!(permitted, ["allowed.test", "wide.test"]);
    assert_eq!(names(&constraints.value.excluded_subtrees), ["ip/8", "ip/32"], "every IPv4 and IPv6 address");
    assert_eq!(certificate.basic_constraints().expect("one").expect("there").value.path_len_constraint, Some(0));
}

#[tokio::test]
async fn j04_a_leaf_can_do_nothing_but_serve_its_name() {
    let origin = Origin::https(&["allowed.test", "*.wide.test"]).start().await;
    let config = Config::new()
        .service(Service::inspect("one", &["allowed.test", "*.wide.test"], origin.port()))
        .hosts(&["allowed.test", "a.wide.test", "b.wide.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    let mut serials = std::collections::BTreeSet::new();
    for host in ["allowed.test", "a.wide.test", "b.wide.test"] {
        let wire = Tls::named(host).trusting(&sekisho.ca()).over(sekisho.tunnel(&origin.at(host)).await).await;
        let chain = wire.certificates();
        assert!(chain.len() <= 2, "at most one intermediate");
        let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("a certificate");
        let san = leaf.subject_alternative_name().expect("one").expect("there");
        assert!(matches!(san.value.general_names.as_slice(), [GeneralName::DNSName(name)] if *name == host), "{san:?}");
        let eku = leaf.extended_key_usage().expect("one").expect("there").value;
        assert!(
            eku.server_auth && !eku.client_auth && !eku.any && !eku.code_signing && eku.other.is_empty(),
            "{eku:?}"
        );
        assert!(!leaf.is_ca());
        let usage = leaf.key_usage().expect("one").expect("there").value;
        assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign(), "{usage:?}");
        let now = OffsetDateTime::now_utc();
        let (from, to) = (leaf.validity().not_before.to_datetime(), leaf.validity().not_after.to_datetime());
        assert!(to - from <= time::Duration::days(47), "{from} to {to}");
        assert!(from <= now - time::Duration::hours(1) && to > now + time::Duration::hours(1), "{from} to {to}");
        assert!((8..=20).contains(&leaf.raw_serial().len()), "{:?}", leaf.raw_serial());
        assert!(serials.insert(leaf.raw_serial().to_vec()), "a serial number twice");
        assert!(
            leaf.extensions()
                .iter()
                .all(|extension| !matches!(extension.parsed_extension(), ParsedExtension::NameConstraints(_)))
        );
        wire.bye().await;
        sekisho.next_connection().await.says("allowed", "");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn h06_a_leaf_is_made_once_for_a_name() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let mut leaves = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let tls = Tls::named("allowed.test").trusting(&sekisho.ca());
        leaves.insert(tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await.certificates()[0].to_vec());
    }
    assert_eq!(leaves.len(), 1);
    assert_eq!(sekisho.terminals("connection", 5).await.len(), 5);
}

#[tokio::test]
async fn j06_a_tunnelled_name_never_gets_a_leaf_of_ours() {
    let tunnelled = Origin::https(&["tunnelled.test"]).start().await;
    let inspected = Origin::https(&["inspected.test"]).start().await;
    let config = Config::new().tunnel("tunnelled.test", &tunnelled).inspect("inspected.test", &inspected);
    let mut sekisho = Sekisho::start(&config).await;
    let tls = Tls::named("tunnelled.test").trusting(&sekisho.ca());
    let error =
        tls.try_over(sekisho.tunnel(&tunnelled.at("tunnelled.test")).await).await.map(|_| ()).expect_err("not ours");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    sekisho.next_connection().await.with("sekisho.mode", "tunnel");
    let real = Tls::named("tunnelled.test").over(sekisho.tunnel(&tunnelled.at("tunnelled.test")).await).await;
    real.bye().await;
    sekisho.next_connection().await.says("allowed", "");
}

#[tokio::test]
async fn a_client_that_does_not_trust_us_is_recorded_as_such() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let tls = Tls::named("allowed.test").versions(&[version]);
        tls.try_over(sekisho.tunnel(&origin.at("allowed.test")).await).await.map(|_| ()).expect_err("not trusted");
        let record = sekisho.next_connection().await;
        record
            .says("failed", "client_rejected_certificate")
            .with("sekisho.side", "client")
            .with("url.domain", "allowed.test");
    }
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}

/// A CA of the site's own in `dir`: unconstrained, or for one domain.
fn own_ca(dir: &std::path::Path, domain: Option<&str>) {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "the site's own");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = OffsetDateTime::now_utc() - time::Duration::days(2);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(300);
    params.name_constraints = domain.map(|domain| NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
        excluded_subtrees: vec![],
    });
    let certificate = params.self_signed(&key).expect("self-signed");
    fs::write(dir.join("ca.pem"), certificate.pem()).expect("ca.pem");
    fs::write(dir.join("ca-root.pem"), certificate.pem()).expect("ca-root.pem");
    fs::write(dir.join("ca.key"), key.serialize_pem()).expect("ca.key");
    set_mode(&dir.join("ca.key"), 0o600);
}

#[tokio::test]
async fn an_issuing_ca_of_the_sites_own_is_taken_where_it_can_sign() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).without_ca_init();
    for (domain, warns) in [(None, true), (Some("test"), false), (Some("allowed.test"), false)] {
        let mut sekisho = Sekisho::start_with(&config, |dir| own_ca(dir, domain)).await;
        let tls = Tls::named("allowed.test").trusting(&sekisho.ca());
        let mut inside = tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
        assert_eq!(inside.get(&origin.at("allowed.test"), "/").await.expect("an answer").status, 200);
        sekisho.next_request().await.says("allowed", "");
        let checked = run(sekisho.dir.path(), &["check", "--config", "sekisho.toml"]);
        let said = text(&checked.stdout) + &text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("constraint"), warns, "{domain:?}: {said}");
    }
    let (dir, ..) = prepare(&config);
    own_ca(dir.path(), Some("elsewhere.test"));
    assert!(refuses(dir.path()).contains("allowed.test"));
}

#[test]
fn l06_a_ca_that_is_missing_broken_or_not_one_is_refused() {
    let broken: [fn(&std::path::Path); 5] = [
        |dir| fs::remove_file(dir.join("ca.key")).expect("removed"),
        |dir| fs::remove_file(dir.join("ca.pem")).expect("removed"),
        |dir| fs::write(dir.join("ca.pem"), "no certificate").expect("written"),
        |dir| {
            let other = KeyPair::generate().expect("key").serialize_pem();
            fs::write(dir.join("ca.key"), other).expect("written");
        },
        |dir| {
            let key = KeyPair::generate().expect("key");
            let leaf = CertificateParams::new(vec!["allowed.test".to_owned()])
                .expect("params")
                .self_signed(&key)
                .expect("leaf");
            fs::write(dir.join("ca.pem"), leaf.pem()).expect("written");
            fs::write(dir.join("ca.key"), key.serialize_pem()).expect("written");
        },
    ];
    for (index, spoil) in broken.iter().enumerate() {
        let (dir, ..) = prepare(&inspecting());
        spoil(dir.path());
        let said = refuses(dir.path());
        assert!(said.contains("ca."), "{index}: {said}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }
}

#[tokio::test]
async fn j02_the_key_is_in_no_output() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let tls = Tls::named("allowed.test").trusting(&sekisho.ca());
    let mut inside = tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    inside.get(&origin.at("allowed.test"), "/").await.expect("an answer");
    let key = fs::read_to_string(sekisho.path("ca.key")).expect("ca.key");
    let secret = key.lines().nth(1).expect("a line of the key").to_owned();
    let shown = run(sekisho.dir.path(), &["ca", "show", "--config", "sekisho.toml"]);
    let checked = run(sekisho.dir.path(), &["check", "--config", "sekisho.toml"]);
    let all = [
        sekisho.stderr(),
        format!("{:?}", sekisho.terminals("request", 1).await),
        sekisho.admin("/metrics").await.text(),
        text(&shown.stdout),
        text(&checked.stdout),
    ]
    .concat();
    assert!(!all.contains(&secret) && !all.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn j08_a_new_ca_is_taken_up_by_a_reload() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin);
    let mut sekisho = Sekisho::start(&config).await;
    let old_ca = sekisho.ca();
    let mut old =
        Tls::named("allowed.test").trusting(&old_ca).over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    assert_eq!(old.get(&origin.at("allowed.test"), "/1").await.expect("an answer").status, 200);
    own_ca(sekisho.dir.path(), Some("allowed.test"));
    sekisho.reload(&config).await;
    let tls = Tls::named("allowed.test").trusting(&sekisho.ca());
    let mut new = tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    assert_eq!(new.get(&origin.at("allowed.test"), "/2").await.expect("an answer").status, 200);
    assert_eq!(old.get(&origin.at("allowed.test"), "/3").await.expect("an old connection lives").status, 200);
    for _ in 0..3 {
        sekisho.next_request().await.says("allowed", "");
    }
}
