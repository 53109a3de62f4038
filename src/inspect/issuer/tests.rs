use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, RsaKeySize, SanType,
};
use time::Duration;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::*;
use crate::inspect::scene::{DAY, Site, name, now, pem, webpki_verify};

type Change = fn(&mut CertificateParams);

const FORTY_SEVEN_DAYS: i64 = 47 * 86400;

/// Writes a CA of the site's own: `change` is what is particular about it.
fn own_ca(site: &Site, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) {
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now() - DAY);
    params.not_after = OffsetDateTime::from(now() + 100 * DAY);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "The city's own CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    fs::write(site.path("ca.pem"), params.self_signed(key).expect("sign").pem()).expect("write");
    write_key(site, &key.serialize_pem());
}

fn write_key(site: &Site, pem: &str) {
    let path = site.path("ca.key");
    fs::write(&path, pem).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

fn load(site: &Site) -> Result<Issuer, IssuerError> {
    Issuer::load(&site.path("ca.pem"), &site.path("ca.key"), now())
}

fn refusal(site: &Site) -> String {
    load(site).expect_err("refused").to_string()
}

fn chain_of(leaf: &Leaf) -> &[CertificateDer<'static>] {
    &leaf.certified_key.cert
}

fn host(number: usize) -> String {
    match number {
        0 => "example.com".to_owned(),
        1 => format!("{}.{}.{}.example.com", "a".repeat(63), "b".repeat(63), "c".repeat(50)),
        2 => format!("{}.example.com", "d".repeat(52)), // 64 in all: the longest common name
        3 => format!("{}.example.com", "d".repeat(53)),
        4 => "_under_score.example.com".to_owned(),
        _ => format!("host-{number}.example.com"),
    }
}

fn key_of(issuer: &Issuer) -> &KeyPair {
    issuer.ca(Which::First).1.expect("a key")
}

#[test]
fn j04_every_leaf_is_for_one_host_and_serves_only() {
    let site = Site::with_ca(&["example.com"]);
    let issuer = site.issuer();
    let mut serials = HashSet::new();
    for number in 0..200 {
        let host = host(number);
        let leaf = issuer.mint(&name(&host), now()).expect("mint");
        let chain = chain_of(&leaf);
        assert_eq!(chain.len(), 2, "one intermediate at most");
        check_leaf(&chain[0], &host, &issuer, &mut serials);
        for at in [now() - DAY / 24, now(), now() + 13 * DAY] {
            webpki_verify(chain, &site.root(), &host, at).expect("webpki takes it");
        }
        assert!(webpki_verify(chain, &site.root(), "other.example.com", now()).is_err());
    }
    assert_eq!(serials.len(), 200);
}

fn check_leaf(der: &CertificateDer<'_>, host: &str, issuer: &Issuer, serials: &mut HashSet<Vec<u8>>) {
    let (rest, leaf) = X509Certificate::from_der(der).expect("parse");
    assert!(rest.is_empty());
    assert_eq!(leaf.version().0, 2);
    let serial = leaf.raw_serial();
    assert!((9..=20).contains(&serial.len()) && serial[0] & 0x80 == 0, "{serial:?}");
    serials.insert(serial.to_vec());

    let (begin, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let now = OffsetDateTime::from(now()).unix_timestamp();
    assert!(begin <= now - 3600 && now < end, "{begin} {end}");
    assert!(end - begin < FORTY_SEVEN_DAYS);
    assert_eq!(leaf.issuer().as_raw(), issuer.certificate.subject_der);

    let subject: Vec<_> = leaf.subject().iter_common_name().map(|cn| cn.as_str().expect("text")).collect();
    assert_eq!(leaf.subject().iter().count(), subject.len());
    assert_eq!(subject, if host.len() <= 64 { vec![host] } else { vec![] });

    let mut kinds = Vec::new();
    for extension in leaf.extensions() {
        kinds.push(extension.oid.to_id_string());
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(authority) => {
                let identifier = authority.key_identifier.as_ref().map(|identifier| identifier.0.to_vec());
                assert_eq!(identifier, issuer.certificate.key_identifier);
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                assert_eq!(names.general_names, [GeneralName::DNSName(host)]);
                assert_eq!(extension.critical, host.len() > 64, "critical where the subject is empty");
            }
            ParsedExtension::KeyUsage(usage) => assert_eq!(usage.flags, 1, "digitalSignature alone"),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                assert!(usage.server_auth && !usage.any && !usage.client_auth && !usage.code_signing);
                assert!(
                    !usage.email_protection && !usage.time_stamping && !usage.ocsp_signing && usage.other.is_empty()
                );
            }
            ParsedExtension::BasicConstraints(basic) => {
                assert!(!basic.ca && basic.path_len_constraint.is_none() && extension.critical);
            }
            ParsedExtension::SubjectKeyIdentifier(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    kinds.sort();
    assert_eq!(kinds, ["2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.35", "2.5.29.37"]);
}

#[test]
fn j04_openssl_takes_every_leaf_and_reads_it_alike() {
    let site = Site::with_ca(&["example.com"]);
    let issuer = site.issuer();
    let files: Vec<String> = (0..200).map(|number| format!("leaf-{number}.pem")).collect();
    for (number, file) in files.iter().enumerate() {
        let leaf = issuer.mint(&name(&host(number)), now()).expect("mint");
        fs::write(site.path(file), pem(&chain_of(&leaf)[0])).expect("write");
    }
    let at = OffsetDateTime::from(now()).unix_timestamp().to_string();
    let mut arguments = vec!["verify", "-x509_strict", "-purpose", "sslserver", "-attime", &at];
    arguments.extend(["-CAfile", "ca-root.pem", "-untrusted", "ca.pem"]);
    arguments.extend(files.iter().map(String::as_str));
    let Some((success, said)) = site.openssl(&arguments) else { return };
    assert!(success, "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with(": OK")).count(), 200, "{said}");

    let (_, text) = site.openssl(&["x509", "-in", "leaf-7.pem", "-noout", "-text"]).expect("openssl was there");
    for line in ["DNS:host-7.example.com", "TLS Web Server Authentication", "CA:FALSE", "Digital Signature"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn j05_a_name_outside_is_not_minted() {
    let issuer = Site::with_ca(&["example.com", "portal.city.test"]).issuer();
    for inside in ["example.com", "a.b.example.com", "portal.city.test"] {
        issuer.mint(&name(inside), now()).expect(inside);
    }
    for outside in ["com", "badexample.com", "example.com.test", "city.test", "other.test", "xn--fsq.test"] {
        let error = issuer.mint(&name(outside), now()).expect_err(outside);
        assert!(matches!(&error, MintError::OutsideConstraints { .. }), "{outside}: {error}");
        assert!(error.to_string().contains("example.com, portal.city.test"), "{error}");
    }
    assert_eq!(issuer.coverage("example.com", true), Coverage::Covered);
    assert!(matches!(issuer.coverage("city.test", true), Coverage::NotCovered(_)));
}

/// Signs as a thief of the key would, who does not ask our checks.
fn forge(issuer: &Issuer, names: Vec<SanType>) -> Vec<CertificateDer<'static>> {
    let (begin, end) = leaf_validity(&issuer.certificate, now().into()).expect("validity");
    let mut params = leaf_params(&issuer.certificate, &name("example.com"), begin, end).expect("params");
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    let leaf = signing::sign(&issuer.certificate, key_of(issuer), &params, &issuer.leaf_key.pair).expect("sign");
    vec![leaf, issuer.certificate.der.clone()]
}

#[test]
fn j05_clients_refuse_what_a_thief_signs_outside() {
    let site = Site::with_ca(&["example.com"]);
    let issuer = site.issuer();
    let dns = |text: &str| SanType::DnsName(text.try_into().expect("IA5"));
    let inside = forge(&issuer, vec![dns("a.example.com")]);
    webpki_verify(&inside, &site.root(), "a.example.com", now()).expect("the forgery itself is sound");
    let at = OffsetDateTime::from(now()).unix_timestamp().to_string();
    let arguments =
        ["verify", "-purpose", "sslserver", "-attime", &at, "-CAfile", "ca-root.pem", "-untrusted", "ca.pem", "f.pem"];
    let cases = [
        ("bank.test", vec![dns("bank.test")]),
        ("badexample.com", vec![dns("badexample.com")]),
        ("com", vec![dns("com")]),
        ("bank.test", vec![dns("a.example.com"), dns("bank.test")]),
        ("192.0.2.1", vec![SanType::IpAddress([192, 0, 2, 1].into())]),
        ("2001:db8::1", vec![SanType::IpAddress("2001:db8::1".parse().expect("IPv6"))]),
    ];
    for (host, names) in cases {
        let chain = forge(&issuer, names);
        let refused = webpki_verify(&chain, &site.root(), host, now()).expect_err(host);
        assert_eq!(refused, webpki::Error::NameConstraintViolation, "{host}");
        fs::write(site.path("f.pem"), pem(&chain[0])).expect("write");
        if let Some((success, said)) = site.openssl(&arguments) {
            assert!(!success && said.contains("subtree violation"), "{host}: {said}");
        }
    }
}

#[test]
fn j05_the_intermediate_cannot_make_another_ca() {
    let site = Site::with_ca(&["example.com"]);
    let issuer = site.issuer();
    let (begin, end) = leaf_validity(&issuer.certificate, now().into()).expect("validity");
    let mut params = leaf_params(&issuer.certificate, &name("example.com"), begin, end).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let below_key = KeyPair::generate().expect("key");
    let below = signing::sign(&issuer.certificate, key_of(&issuer), &params, &below_key).expect("sign");
    let below_ca = CaCertificate::parse(&below).expect("a CA by its own words");
    let leaf_params = leaf_params(&issuer.certificate, &name("example.com"), begin, end).expect("params");
    let leaf = signing::sign(&below_ca, &below_key, &leaf_params, &issuer.leaf_key.pair).expect("sign");
    let chain = [leaf, below, issuer.certificate.der.clone()];
    let refused = webpki_verify(&chain, &site.root(), "example.com", now()).expect_err("refused");
    assert_eq!(refused, webpki::Error::PathLenConstraintViolated);
}

#[test]
fn j02_nothing_that_can_be_printed_holds_the_key() {
    let site = Site::with_ca(&["example.com"]);
    let issuer = site.issuer();
    let written = fs::read_to_string(site.path("ca.key")).expect("key");
    let body: Vec<&str> = written.lines().filter(|line| !line.starts_with("--")).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let shown = crate::inspect::show::describe(&site.path("ca.pem"), &site.path("ca.key"), now()).expect("describe");
    let outputs = [
        format!("{issuer:?} {issuer:#?}"),
        format!("{:?}", issuer.mint(&name("example.com"), now()).expect("mint")),
        format!("{:?}", issuer.mint(&name("other.test"), now()).expect_err("outside")),
        format!("{shown} {shown:?}"),
    ];
    let scalars =
        [key_of(&issuer).serialized_der(), issuer.leaf_key.pair.serialized_der()].map(|der| der[36..68].to_vec());
    for output in outputs {
        for line in &body {
            assert!(!output.contains(line), "{output}");
        }
        for scalar in &scalars {
            let list = format!("{scalar:?}");
            assert!(!output.to_lowercase().contains(&hex(scalar)), "{output}");
            assert!(!output.contains(list.trim_matches(['[', ']'])), "{output}");
        }
    }
}

#[test]
fn an_own_ca_of_every_kind_of_key_signs() {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).expect("RSA");
    let others = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    let keys = others.into_iter().map(|kind| KeyPair::generate_for(kind).expect("key")).chain([rsa]);
    for key in keys {
        let site = Site::empty();
        own_ca(&site, &key, |_| {});
        let issuer = load(&site).expect("load");
        assert_eq!(issuer.coverage("example.com", true), Coverage::Unconstrained);
        let leaf = issuer.mint(&name("www.example.com"), now()).expect("mint");
        assert_eq!(chain_of(&leaf).len(), 1, "a root is not sent");
        webpki_verify(chain_of(&leaf), &issuer.certificate.der, "www.example.com", now()).expect("webpki takes it");
    }
}

/// Active Directory's names repeat DC, which rcgen alone would not write back; openssl makes such a CA, and keys in PKCS#1
/// and SEC1, as an administrator would.
#[test]
fn an_own_ca_by_openssl_with_a_repeated_attribute_signs() {
    let rows: [(&[&str], &[&str]); 2] = [
        (&["-newkey", "rsa:2048"], &["rsa", "-traditional", "-in", "new.key", "-out", "ca.key"]),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"], &["ec", "-in", "new.key", "-out", "ca.key"]),
    ];
    for (kind, convert) in rows {
        let site = Site::empty();
        let mut make = vec!["req", "-x509", "-nodes", "-keyout", "new.key", "-out", "ca.pem", "-days", "3000"];
        make.extend(["-subj", "/DC=local/DC=city/O=City+OU=IT/CN=City Sub CA"]);
        make.extend(kind);
        let Some((success, said)) = site.openssl(&make) else { return };
        assert!(success, "{said}");
        let (success, said) = site.openssl(convert).expect("openssl was there");
        assert!(success, "{said}");
        write_key(&site, &fs::read_to_string(site.path("ca.key")).expect("key"));

        // openssl dates the CA by the real clock.
        let at = SystemTime::now() + DAY;
        let issuer = Issuer::load(&site.path("ca.pem"), &site.path("ca.key"), at).expect("load");
        let leaf = issuer.mint(&name("www.example.com"), at).expect("mint");
        webpki_verify(chain_of(&leaf), &issuer.certificate.der, "www.example.com", at).expect("webpki takes it");
        fs::write(site.path("leaf.pem"), pem(&chain_of(&leaf)[0])).expect("write");
        let at = OffsetDateTime::from(at).unix_timestamp().to_string();
        let verify = ["verify", "-attime", &at, "-CAfile", "ca.pem", "leaf.pem"];
        let (success, said) = site.openssl(&verify).expect("openssl was there");
        assert!(success, "{said}");
    }
}

#[test]
fn a_certificate_that_cannot_issue_is_refused_in_words() {
    let key = KeyPair::generate().expect("key");
    let refused = |change: Change| {
        let site = Site::empty();
        own_ca(&site, &key, change);
        refusal(&site)
    };
    let rows: [(Change, &str); 6] = [
        (|params| params.is_ca = IsCa::ExplicitNoCa, "basicConstraints CA:TRUE is missing"),
        (|params| params.is_ca = IsCa::NoCa, "basicConstraints CA:TRUE is missing"),
        (|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature], "does not have keyCertSign"),
        (|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth], "does not have serverAuth"),
        (|params| params.not_after = OffsetDateTime::from(now() - DAY / 2), "it ended on 2026-11-22 10:59:59"),
        (|params| params.not_before = OffsetDateTime::from(now() + DAY), "it begins only on 2026-11-23"),
    ];
    for (change, words) in rows {
        let message = refused(change);
        assert!(message.contains(words) && message.contains("ca.pem"), "{message}");
    }
    let wild = |params: &mut CertificateParams| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("*.example.com".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
    };
    assert!(refused(wild).contains("\"*.example.com\" is not a DNS name"));
}

#[test]
fn usages_that_are_absent_or_wide_enough_are_taken() {
    let key = KeyPair::generate().expect("key");
    let changes: [Change; 3] = [
        |params| params.key_usages = vec![],
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
    ];
    for change in changes {
        let site = Site::empty();
        own_ca(&site, &key, change);
        load(&site).expect("taken");
    }
}

#[test]
fn a_subject_is_left_empty_where_the_ca_constrains_subjects() {
    let site = Site::empty();
    own_ca(&site, &KeyPair::generate().expect("key"), |params| {
        let mut city = DistinguishedName::new();
        city.push(DnType::OrganizationName, "City");
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![
                GeneralSubtree::DirectoryName(city),
                GeneralSubtree::DnsName("example.com".to_owned()),
            ],
            excluded_subtrees: vec![GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4]))],
        });
    });
    let issuer = load(&site).expect("load");
    let leaf = issuer.mint(&name("a.example.com"), now()).expect("mint");
    let (_, parsed) = X509Certificate::from_der(&chain_of(&leaf)[0]).expect("parse");
    assert_eq!(parsed.subject().iter().count(), 0);
    fs::write(site.path("leaf.pem"), pem(&chain_of(&leaf)[0])).expect("write");
    let at = OffsetDateTime::from(now()).unix_timestamp().to_string();
    if let Some((success, said)) = site.openssl(&["verify", "-attime", &at, "-CAfile", "ca.pem", "leaf.pem"]) {
        assert!(success, "{said}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_and_its_place_told() {
    let (site, other) = (Site::with_ca(&["example.com"]), Site::with_ca(&["example.com"]));
    fs::copy(other.path("ca.key"), site.path("ca.key")).expect("copy");
    let message = refusal(&site);
    assert!(message.contains("does not belong to the first certificate"), "{message}");
    assert!(!message.contains("number"), "{message}");

    fs::copy(site.path("ca-root.key"), site.path("ca.key")).expect("copy");
    let message = refusal(&site);
    assert!(message.ends_with("but to number 2 in it: put that one first"), "{message}");
}

#[test]
fn what_is_not_a_certificate_is_said_in_words() {
    let site = Site::with_ca(&["example.com"]);
    let sound = fs::read_to_string(site.path("ca.pem")).expect("read");
    let key = fs::read_to_string(site.path("ca.key")).expect("read");
    let middle = sound.len() / 4;
    let cut = sound[..middle].to_owned();
    let bad_base64 = sound.replacen("\nM", "\n!", 1);
    let bad_der = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned();
    for (contents, words) in [
        (String::new(), "holds no certificate"),
        ("garbage".to_owned(), "holds no certificate"),
        (key, "holds no certificate"),
        (cut, "is not PEM"),
        (bad_base64, "is not PEM"),
        (bad_der, "is malformed"),
    ] {
        fs::write(site.path("ca.pem"), &contents).expect("write");
        let message = refusal(&site);
        assert!(message.contains(words) && message.contains("ca.pem"), "{message}");
    }
    fs::remove_file(site.path("ca.pem")).expect("remove");
    let message = refusal(&site);
    assert!(message.contains("cannot be read") && message.contains("ca.pem"), "{message}");
}

#[test]
fn a_leaf_stays_within_the_validity_of_its_ca() {
    let site = Site::with_ca(&["example.com"]);
    let issuer = site.issuer();
    let (ca_begin, ca_end) = (issuer.certificate.not_before, issuer.certificate.not_after);
    for (at, taken) in [
        (ca_begin, true),
        (ca_begin - Duration::SECOND, false),
        (ca_begin + Duration::minutes(30), true),
        (ca_end - Duration::days(1), true),
        (ca_end, true),
        (ca_end + Duration::SECOND, false),
    ] {
        let Ok(leaf) = issuer.mint(&name("example.com"), at.into()) else {
            assert!(!taken, "{at}");
            continue;
        };
        assert!(taken, "{at}");
        assert!(leaf.not_before >= SystemTime::from(ca_begin) && leaf.not_after <= SystemTime::from(ca_end), "{at}");
        webpki_verify(chain_of(&leaf), &site.root(), "example.com", at.into()).expect("valid then");
    }
    assert!(matches!(
        Issuer::load(&site.path("ca.pem"), &site.path("ca.key"), now() + 731 * DAY),
        Err(IssuerError::Certificate(CertificateError { flaw: CertificateFlaw::Expired(_), .. }))
    ));
}
