//! Only what a single certificate may be and hold belongs here: times, version, serial number, extensions, keys, signatures.

use rcgen::{
    KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
    SignatureAlgorithm,
};

use super::super::support::x509::{
    Signer, algorithm, basic, dns, ext, extension, name, purposes, san, shown, tlv, usage, utc,
};
use super::{Cast, HOST, Row, judge};

#[tokio::test]
async fn i01_times() {
    let cast = Cast::new();
    let rows = vec![
        cast.changed("as it should be", "", |_| {}),
        cast.changed("expired", "expired", |leaf| leaf.not_after = utc(-1)),
        cast.changed("not yet valid", "not_yet_valid", |leaf| leaf.not_before = utc(1)),
        cast.above("an expired intermediate", "expired", |ca| ca.not_after = utc(-1)),
        cast.above("an intermediate not yet valid", "not_yet_valid", |ca| ca.not_before = utc(1)),
        cast.changed("the end before the beginning", "expired", |leaf| {
            (leaf.not_before, leaf.not_after) = (utc(2), utc(1));
        }),
        cast.changed("for ever (RFC 5280 4.1.2.5)", "", |leaf| leaf.not_after = tlv(0x18, b"99991231235959Z")),
        cast.changed("UTCTime without seconds", "bad_encoding", |leaf| leaf.not_after = tlv(0x17, b"4901010000Z")),
        cast.changed("UTCTime with an offset", "bad_encoding", |leaf| {
            leaf.not_after = tlv(0x17, b"490101000000+0900");
        }),
        cast.changed("a month 13", "bad_encoding", |leaf| leaf.not_after = tlv(0x17, b"491301000000Z")),
        cast.changed("a fraction of a second", "bad_encoding", |leaf| {
            leaf.not_after = tlv(0x18, b"20490101000000.5Z");
        }),
    ];
    judge(&[cast.root.root()], rows).await;
}

#[tokio::test]
async fn i01_versions_and_serial_numbers() {
    let cast = Cast::new();
    let version = |n| tlv(0xa0, &tlv(2, &[n]));
    let rows = vec![
        cast.changed("v1 with extensions", "bad_encoding", |leaf| leaf.version = vec![]),
        cast.changed("v2", "bad_encoding", |leaf| leaf.version = version(1)),
        cast.changed("v4", "bad_encoding", |leaf| leaf.version = version(3)),
        cast.above("a v1 intermediate", "unknown_issuer", |ca| ca.version = vec![]),
        cast.changed("serial 20 octets", "", |leaf| leaf.serial = vec![0x7f; 20]),
        cast.changed("serial zero", "bad_encoding", |leaf| leaf.serial = vec![0]),
        cast.changed("serial negative", "bad_encoding", |leaf| leaf.serial = vec![0xff, 1]),
        cast.changed("serial 21 octets", "bad_encoding", |leaf| leaf.serial = vec![0x7f; 21]),
        cast.changed("serial empty", "bad_encoding", |leaf| leaf.serial = vec![]),
        cast.changed("serial not minimal", "bad_encoding", |leaf| leaf.serial = vec![0, 1]),
        cast.above("an intermediate with a negative serial", "bad_encoding", |ca| ca.serial = vec![0x80]),
    ];
    judge(&[cast.root.root()], rows).await;
}

#[tokio::test]
async fn i01_basic_constraints_and_usages() {
    let cast = Cast::new();
    let rows = vec![
        cast.changed("no basicConstraints", "", |leaf| leaf.basic = vec![]),
        cast.changed("a CA as the server", "ca_used_as_end_entity", |leaf| leaf.basic = basic(Some(true), None)),
        cast.changed("no keyUsage", "", |leaf| leaf.usage = vec![]),
        cast.changed("no extendedKeyUsage", "", |leaf| leaf.eku = vec![]),
        cast.changed("both authentications", "", |leaf| leaf.eku = purposes(&[1, 2])),
        cast.changed("clientAuth", "not_for_server_auth", |leaf| leaf.eku = purposes(&[2])),
        // CA/B BR 7.1.2.7.10 forbids it, and webpki does not read it as serverAuth.
        cast.changed("anyExtendedKeyUsage", "not_for_server_auth", |leaf| leaf.eku = purposes(&[0])),
        cast.changed("an empty extendedKeyUsage", "not_for_server_auth", |leaf| leaf.eku = purposes(&[])),
        cast.changed("keyEncipherment alone", "not_for_server_auth", |leaf| leaf.usage = usage(0x20)),
        cast.changed("digitalSignature and keyEncipherment", "", |leaf| leaf.usage = usage(0xa0)),
        cast.above("an intermediate without basicConstraints", "end_entity_used_as_ca", |ca| ca.basic = vec![]),
        cast.above("CA:FALSE", "end_entity_used_as_ca", |ca| ca.basic = basic(Some(false), None)),
        cast.above("CA:FALSE by default", "end_entity_used_as_ca", |ca| ca.basic = basic(None, None)),
        cast.above("pathLenConstraint 0", "", |ca| ca.basic = basic(Some(true), Some(&[0]))),
        cast.above("pathLenConstraint -1", "bad_encoding", |ca| ca.basic = basic(Some(true), Some(&[0xff]))),
        cast.above("no keyCertSign", "end_entity_used_as_ca", |ca| ca.usage = usage(0x02)),
        cast.above("no keyUsage in the intermediate", "", |ca| ca.usage = vec![]),
        cast.above("an intermediate for serverAuth", "", |ca| ca.eku = purposes(&[1])),
        cast.above("an intermediate for clientAuth", "not_for_server_auth", |ca| ca.eku = purposes(&[2])),
        cast.above("an intermediate for mail", "not_for_server_auth", |ca| ca.eku = purposes(&[4])),
    ];
    judge(&[cast.root.root()], rows).await;
}

#[tokio::test]
async fn i01_extensions() {
    let cast = Cast::new();
    let strange = |critical| extension(&[0x2b, 6, 1, 4, 1, 0x83, 0x91, 0x56, 1], critical, &tlv(5, &[]));
    let rows = vec![
        cast.changed("unknown", "", |leaf| leaf.more = vec![strange(false)]),
        cast.changed("unknown and critical", "critical_extension", |leaf| leaf.more = vec![strange(true)]),
        cast.above("unknown and critical above", "unknown_issuer", |ca| ca.more = vec![strange(true)]),
        cast.changed("unknown, twice", "bad_encoding", |leaf| leaf.more = vec![strange(false), strange(false)]),
        cast.changed("subjectAltName twice", "bad_encoding", |leaf| leaf.more = vec![san(&[dns("b.case.test")])]),
        cast.changed("basicConstraints twice", "bad_encoding", |leaf| leaf.more = vec![basic(None, None)]),
        cast.above("keyUsage twice above", "unknown_issuer", |ca| ca.more = vec![usage(0x06)]),
        cast.changed("no extension but subjectAltName", "", |leaf| {
            (leaf.basic, leaf.usage, leaf.eku) = (vec![], vec![], vec![]);
        }),
        cast.changed("policyConstraints, critical", "critical_extension", |leaf| {
            leaf.more = vec![ext(36, true, &tlv(0x30, &[0x80, 1, 0]))];
        }),
        cast.changed("octets behind an extension's value", "bad_encoding", |leaf| {
            leaf.eku = ext(37, false, &[tlv(0x30, &tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, 1])), vec![5, 0]].concat());
        }),
        cast.changed("an empty subject", "", |leaf| leaf.subject = tlv(0x30, &[])),
        cast.changed("an empty common name", "", |leaf| leaf.subject = name("")),
        cast.changed("control characters in the subject", "", |leaf| leaf.subject = name("a\r\nb\0\u{1b}[31m")),
        cast.changed("a subject of 20,000 characters", "", |leaf| leaf.subject = name(&"x".repeat(20_000))),
    ];
    judge(&[cast.root.root()], rows).await;
}

#[tokio::test]
async fn i01_keys_and_signatures() {
    let cast = Cast::new();
    let mut rows = vec![
        cast.changed("a wrong signature", "bad_signature", |leaf| leaf.spoils_signature = true),
        cast.above("a wrong signature above", "bad_signature", |ca| ca.spoils_signature = true),
        cast.changed("two algorithms", "bad_signature", |leaf| leaf.outer = Some(algorithm::ecdsa(3))),
        cast.changed("two algorithms, inside", "bad_signature", |leaf| leaf.inner = Some(algorithm::ecdsa(3))),
        cast.changed("ECDSA with SHA-1", "algorithm", |leaf| {
            leaf.inner = Some(tlv(0x30, &tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1])));
            leaf.outer.clone_from(&leaf.inner);
        }),
        cast.changed("RSA with MD5 by an EC key", "algorithm", |leaf| {
            (leaf.inner, leaf.outer) = (Some(algorithm::rsa(4)), Some(algorithm::rsa(4)));
        }),
        cast.changed("RSA with SHA-1 by an EC key", "algorithm", |leaf| {
            (leaf.inner, leaf.outer) = (Some(algorithm::rsa(5)), Some(algorithm::rsa(5)));
        }),
        cast.changed("a key that is not the server's", "bad_signature", |leaf| leaf.spki = Signer::new("x").spki()),
    ];
    let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).expect("a key");
    let ec = |algorithm: &'static SignatureAlgorithm| KeyPair::generate_for(algorithm).expect("a key");
    let keys = [
        ("RSA 2048", rsa(RsaKeySize::_2048)),
        ("P-384", ec(&PKCS_ECDSA_P384_SHA384)),
        ("P-521", ec(&PKCS_ECDSA_P521_SHA512)),
        ("Ed25519", ec(&PKCS_ED25519)),
    ];
    for (what, key) in keys {
        let signer = Signer::with("a CA of this kind", key);
        let middle = signer.ca().signed_by(&cast.root);
        let leaf = cast.leaf(|_| {}).signed_by(&signer);
        rows.push(cast.chain(&format!("{what} above"), "", &[&leaf, &middle]));
        let leaf = signer.leaf(HOST).signed_by(&cast.intermediate);
        rows.push(Row::new(what, HOST, shown(&[&leaf, &cast.middle], &signer.key), ""));
    }
    judge(&[cast.root.root()], rows).await;
}
