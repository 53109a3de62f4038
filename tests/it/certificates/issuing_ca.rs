//! Only the shapes of a site's own issuing CA belong here: what `check` says of it, and that what it takes really signs.

use std::fs;
use std::path::Path;

use rcgen::{
    KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
    SignatureAlgorithm,
};

use super::super::support::client::Tls;
use super::super::support::sekisho::{prepare, run, set_mode, text};
use super::super::support::x509::{
    Signer, Tbs, algorithm, basic, constraints, dns, extension, pem, purposes, seq, tlv, usage, utc,
};
use super::super::support::{Config, Origin, Sekisho, Service};

/// What stands in `ca.pem` and `ca.key`.
struct Files {
    certificate: String,
    key: String,
    /// What clients trust.
    root: String,
}

fn of(signer: &Signer, change: impl FnOnce(&mut Tbs)) -> Files {
    let certificate = pem("CERTIFICATE", &[signer.ca().set(change).signed_by(signer)]);
    Files { root: certificate.clone(), certificate, key: signer.key.serialize_pem() }
}

fn write(dir: &Path, files: &Files) {
    fs::write(dir.join("ca.pem"), &files.certificate).expect("ca.pem");
    fs::write(dir.join("ca-root.pem"), &files.root).expect("ca-root.pem");
    fs::write(dir.join("ca.key"), &files.key).expect("ca.key");
    set_mode(&dir.join("ca.key"), 0o600);
}

/// The content of the PKCS#8 key: RFC 8017's RSAPrivateKey or RFC 5915's ECPrivateKey.
fn bare(key: &KeyPair) -> Vec<u8> {
    let fields = elements(&elements(&key.serialize_der())[0].1);
    fields[2].1.clone()
}

/// The elements that `der` is made of: tags and contents.
fn elements(mut der: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [tag, first, rest @ ..] = der {
        let (length, rest) = match usize::from(*first) {
            short @ 0..=0x7f => (short, rest),
            long => {
                let (octets, rest) = rest.split_at(long - 0x80);
                (octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
            }
        };
        let (content, rest) = rest.split_at(length);
        found.push((*tag, content.to_vec()));
        der = rest;
    }
    found
}

#[tokio::test]
async fn an_issuing_ca_of_any_usual_shape_signs() {
    let rsa = |size| Signer::with("own", KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).expect("a key"));
    let ec =
        |algorithm: &'static SignatureAlgorithm| Signer::with("own", KeyPair::generate_for(algorithm).expect("a key"));
    let (p256, rsa2048, above) = (Signer::new("own"), rsa(RsaKeySize::_2048), Signer::new("above"));
    let permitting = constraints(&[dns("allowed.test")], &[dns("other.test")]);
    // SEC 1 names the curve inside (RFC 5915 section 3); PKCS#8 leaves that out there.
    let parts = elements(&elements(&bare(&p256.key))[0].1);
    let curve = tlv(0xa0, &tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]));
    let sec1 = seq(&[&tlv(2, &[1]), &tlv(4, &parts[1].1), &curve]);
    let signed = pem("CERTIFICATE", &[p256.ca().signed_by(&above), above.root()]);
    let rows = [
        ("P-256", of(&p256, |_| {})),
        ("P-384", of(&ec(&PKCS_ECDSA_P384_SHA384), |_| {})),
        ("P-521", of(&ec(&PKCS_ECDSA_P521_SHA512), |_| {})),
        ("Ed25519", of(&ec(&PKCS_ED25519), |_| {})),
        ("RSA", of(&rsa2048, |_| {})),
        ("PKCS#1", Files { key: pem("RSA PRIVATE KEY", &[bare(&rsa2048.key)]), ..of(&rsa2048, |_| {}) }),
        ("SEC 1", Files { key: pem("EC PRIVATE KEY", &[sec1]), ..of(&p256, |_| {}) }),
        ("pathLenConstraint 0", of(&p256, |ca| ca.basic = basic(Some(true), Some(&[0])))),
        ("no keyUsage", of(&p256, |ca| ca.usage = vec![])),
        ("constrained to the host", of(&p256, |ca| ca.more = vec![permitting])),
        ("for serverAuth", of(&p256, |ca| ca.eku = purposes(&[1]))),
        (
            "with the root behind",
            Files { certificate: signed, key: p256.key.serialize_pem(), root: pem("CERTIFICATE", &[above.root()]) },
        ),
        (
            "text around",
            Files {
                certificate: format!("subject=own\n{}\n# end\n", of(&p256, |_| {}).certificate),
                ..of(&p256, |_| {})
            },
        ),
    ];
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).without_ca_init();
    for (what, files) in rows {
        let mut sekisho = Sekisho::start_with(&config, |dir| write(dir, &files)).await;
        let tls = Tls::named("allowed.test").trusting(&sekisho.ca());
        let wire = sekisho.tunnel(&origin.at("allowed.test")).await;
        let mut inside = tls.try_over(wire).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(inside.get(&origin.at("allowed.test"), "/").await.expect("an answer").status, 200, "{what}");
        sekisho.next_request().await.says("allowed", "");
    }
}

#[test]
fn an_issuing_ca_that_cannot_sign_is_told_at_check() {
    let (signer, other) = (Signer::new("own"), Signer::new("another"));
    let strange = extension(&[0x2b, 6, 1, 4, 1, 0x83, 0x91, 0x56, 1], true, &tlv(5, &[]));
    let good = || of(&signer, |_| {});
    let key = |label: &str, content: &[u8]| Files { key: pem(label, &[content.to_vec()]), ..good() };
    let encrypted = seq(&[&algorithm::rsa(11), &tlv(4, &[0; 32])]);
    let rows: Vec<(&str, Files, &str)> = vec![
        ("no keyCertSign", of(&signer, |ca| ca.usage = usage(0x82)), "keyCertSign"),
        ("expired", of(&signer, |ca| ca.not_after = utc(-1)), "it ended on"),
        ("not yet valid", of(&signer, |ca| ca.not_before = utc(1)), "it begins only on"),
        ("CA:FALSE", of(&signer, |ca| ca.basic = basic(Some(false), None)), "CA"),
        ("no basicConstraints", of(&signer, |ca| ca.basic = vec![]), "CA"),
        (
            "version 1",
            of(&signer, |ca| {
                (ca.version, ca.basic, ca.usage) = (vec![], vec![], vec![]);
            }),
            "CA",
        ),
        (
            "the host excluded",
            of(&signer, |ca| ca.more = vec![constraints(&[], &[dns("allowed.test")])]),
            "allowed.test",
        ),
        ("others permitted", of(&signer, |ca| ca.more = vec![constraints(&[dns("other.test")], &[])]), "allowed.test"),
        ("for clientAuth", of(&signer, |ca| ca.eku = purposes(&[2])), "serverAuth"),
        ("unknown and critical", of(&signer, |ca| ca.more = vec![strange]), "critical"),
        ("another's key", Files { key: other.key.serialize_pem(), ..good() }, "ca.key"),
        (
            "the root first",
            Files { certificate: pem("CERTIFICATE", &[other.root(), signer.ca().signed_by(&other)]), ..good() },
            "ca.pem",
        ),
        ("encrypted PKCS#8", key("ENCRYPTED PRIVATE KEY", &encrypted), "openssl pkey"),
        ("a certificate as the key", Files { key: good().certificate, ..good() }, "holds no private key"),
        ("a public key", key("PUBLIC KEY", &signer.spki()), "holds no private key"),
        ("a key as the certificate", Files { certificate: good().key, ..good() }, "ca.pem"),
        ("no PEM", Files { certificate: "\u{30}\u{82}".into(), ..good() }, "ca.pem"),
        ("cut", Files { certificate: good().certificate[..200].into(), ..good() }, "ca.pem"),
    ];
    let config = Config::new().service(Service::inspect("one", &["allowed.test"], 443)).without_ca_init();
    let mut wrong = Vec::new();
    for (what, files, words) in rows {
        let (dir, ..) = prepare(&config);
        write(dir.path(), &files);
        let checked = run(dir.path(), &["check", "--config", "sekisho.toml"]);
        let said = text(&checked.stdout) + &text(&checked.stderr);
        let told = (said.contains("issuing_ca") || said.contains("the issuing CA"))
            && said.contains(words)
            && !said.contains("PRIVATE KEY-");
        if checked.status.code() != Some(1) || !told {
            wrong.push(format!("{what}: {:?}: {said}", checked.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
