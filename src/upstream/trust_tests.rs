use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::upstream::testing::{Ca, Files, days_from_now, pem};

fn nothing(_: &mut rcgen::CertificateParams) {}

fn load(sources: &Sources) -> Result<Trust, Vec<String>> {
    let errors = |errors: Vec<TrustError>| errors.iter().map(ToString::to_string).collect();
    Trust::load(sources, SystemTime::now()).map_err(errors)
}

#[test]
fn every_broken_file_is_named_at_once_with_what_is_wrong() {
    let root = Ca::root("root");
    let mut files = Files::trusting(&root);
    let ders = [root.der.to_vec(), root.crl(&[], -1, 1)];
    let mut broken = ders[0].clone();
    broken.truncate(100);
    let fifo = |name: &str| {
        let path = files.directory.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        path
    };
    let large = |name: &str, mebibytes: u64| {
        let path = files.write(name, "");
        let file = std::fs::File::options().write(true).open(&path).expect("there");
        file.set_len((mebibytes << 20) + 1).expect("of holes");
        path
    };
    let extra = [
        files.directory.path().join("missing.pem"),
        files.write("empty.pem", ""),
        files.write("root.der", &ders[0]),
        files.write("key.pem", pem("PRIVATE KEY", b"secret")),
        files.write("cut.pem", pem("CERTIFICATE", &ders[0]).replace("-----END CERTIFICATE-----", "")),
        files.write("broken.pem", pem("CERTIFICATE", &ders[0]) + &pem("CERTIFICATE", &broken)),
        fifo("fifo.pem"),
        large("large.pem", 16),
    ];
    let crls = [
        files.directory.path().join("missing.crl"),
        files.write("empty.crl", ""),
        files.write("certificate.crl", pem("CERTIFICATE", &ders[0])),
        files.write("junk.crl", pem("X509 CRL", b"junk")),
        files.write("cut.crl", &ders[1][..60]),
        fifo("fifo.crl"),
        large("large.crl", 64),
    ];
    (files.sources.extra_roots, files.sources.crls) = (extra.into(), crls.into());
    let errors = load(&files.sources).expect_err("broken");
    let expected = [
        "missing.pem cannot be read: No such file or directory (os error 2)",
        "empty.pem holds no certificate in PEM form",
        "root.der holds no certificate in PEM form",
        "key.pem holds no certificate in PEM form",
        "cut.pem is not well-formed PEM: missing section end marker",
        "broken.pem is broken: certificate 2 in it is not X.509",
        "fifo.pem cannot be read: it is no ordinary file",
        "large.pem cannot be read: it is larger than 16 MiB",
        "missing.crl cannot be read: No such file or directory (os error 2)",
        "empty.crl is not a certificate revocation list in PEM or DER form",
        "certificate.crl holds PEM, but no \"X509 CRL\" section",
        "junk.crl is not a certificate revocation list in PEM or DER form",
        "cut.crl is not a certificate revocation list in PEM or DER form",
        "fifo.crl cannot be read: it is no ordinary file",
        "large.crl cannot be read: it is larger than 64 MiB",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    let directory = format!("{}/", files.directory.path().display());
    for (error, expected) in errors.iter().zip(expected) {
        let said = error.strip_prefix(&directory).expect("the file comes first");
        assert!(said.starts_with(expected), "{said}");
        assert!(!said.contains("secret"));
    }
}

#[test]
fn a_file_may_hold_many_and_text_between_them() {
    let (root, other) = (Ca::root("root"), Ca::root("other"));
    let mut files = Files::trusting(&root);
    let both = format!(
        "# two of them\n{}other\n{}",
        pem("CERTIFICATE", &other.der),
        pem("CERTIFICATE", &Ca::root("third").der)
    );
    files.sources.extra_roots = vec![files.write("extra.pem", both)];
    let crls = pem("X509 CRL", &root.crl(&[], -1, 1)) + &pem("X509 CRL", &other.crl(&[], -1, 2));
    files.sources.crls = vec![files.write("many.crl", crls), files.write("one.crl", root.crl(&[], -1, 3))];
    let trust = load(&files.sources).expect("trust");
    let ends = std::iter::successors(trust.next_update_after(SystemTime::now()), |end| trust.next_update_after(*end));
    assert_eq!(ends.count(), 3);
    assert_eq!(trust.warnings(), [] as [String; 0]);
    let leaf = other.leaf(&["allowed.test"], nothing);
    let name = crate::upstream::testing::name("allowed.test");
    assert!(trust.verifier().again(&leaf.chain, &name).is_ok());
}

#[test]
fn no_root_at_all_is_refused() {
    let mut files = Files::trusting(&Ca::root("root"));
    files.sources.roots = Roots::File(files.write("none.pem", "nothing here"));
    let errors = load(&files.sources).expect_err("no root");
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("none.pem holds no certificate"), "{errors:?}");
}

#[test]
fn bundled_roots_load_and_extra_ones_come_on_top() {
    let root = Ca::root("root");
    let mut files = Files::trusting(&root);
    let extra = files.directory.path().join("root.pem");
    files.sources.roots = Roots::Bundled;
    let bundled = load(&files.sources).expect("bundled");
    files.sources.extra_roots = vec![extra];
    let more = load(&files.sources).expect("bundled and one more");
    assert_ne!(bundled.revision(), more.revision());
    let name = crate::upstream::testing::name("allowed.test");
    let chain = root.leaf(&["allowed.test"], nothing).chain;
    assert!(bundled.verifier().again(&chain, &name).is_err());
    assert!(more.verifier().again(&chain, &name).is_ok());
}

#[test]
fn i07_a_stale_crl_is_loaded_with_a_warning() {
    let root = Ca::root("root");
    let mut files = Files::trusting(&root).with_crls(&[root.crl(&[], -9, -8), root.crl(&[], 1, 2)]);
    let warnings = load(&files.sources).expect("trust").warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("the CRL of CN=root is dated") && warnings[0].contains("is the clock right?"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("the CRL of CN=root is past its nextUpdate"), "{warnings:?}");
    assert!(warnings[1].contains("certificates of that issuer are refused (crl_stale = \"deny\")"), "{warnings:?}");
    files.sources.crl_stale = Stale::Allow;
    let warnings = load(&files.sources).expect("trust").warnings;
    assert!(warnings[1].contains("it is used as it is (crl_stale = \"allow\")"), "{warnings:?}");
}

#[test]
fn i07_denying_the_unknown_without_a_crl_is_warned_of() {
    let mut files = Files::trusting(&Ca::root("root"));
    files.sources.crl_unknown = Unknown::Deny;
    let trust = load(&files.sources).expect("trust");
    let expected = "crl_unknown is \"deny\" and there is no CRL: every upstream certificate is refused";
    assert_eq!(trust.warnings(), [expected]);
}

#[test]
fn roots_that_will_not_do_what_is_hoped_are_warned_of() {
    let root = Ca::root("root");
    let expired = root.below("expired", |params| params.not_after = days_from_now(-1));
    let leaf = root.leaf(&["allowed.test"], nothing);
    let mut files = Files::trusting(&root);
    let both = pem("CERTIFICATE", &expired.der) + &pem("CERTIFICATE", &leaf.chain[0]);
    files.sources.extra_roots = vec![files.write("extra.pem", both)];
    let warnings = load(&files.sources).expect("trust").warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("extra.pem: the root CN=expired expired on "), "{warnings:?}");
    assert!(warnings[1].contains("extra.pem: CN=leaf is not a CA certificate: it is trusted as"), "{warnings:?}");
}

#[test]
fn the_revision_changes_with_everything_that_is_loaded_and_with_nothing_else() {
    let root = Ca::root("root");
    let files = Files::trusting(&root);
    let revision = |sources: &Sources| load(sources).expect("trust").revision().to_owned();
    let first = revision(&files.sources);
    assert_eq!(first.len(), 32);
    assert_eq!(first, revision(&files.sources));
    let elsewhere = Files {
        sources: Sources {
            roots: Roots::File(files.write("copy.pem", pem("CERTIFICATE", &root.der))),
            ..files.sources.clone()
        },
        ..files
    };
    assert_eq!(first, revision(&elsewhere.sources), "where a file lies is no matter");
    let mut revisions = vec![first];
    let base = elsewhere.sources.clone();
    for sources in [
        Sources { crl_unknown: Unknown::Deny, ..base.clone() },
        Sources { crl_stale: Stale::Allow, ..base.clone() },
        Sources { min_tls: MinTls::Tls13, ..base.clone() },
        Sources { crls: vec![elsewhere.write("one.crl", root.crl(&[], -1, 1))], ..base.clone() },
        Sources { crls: vec![elsewhere.write("two.crl", root.crl(&[3], -1, 1))], ..base.clone() },
    ] {
        let revision = revision(&sources);
        assert!(!revisions.contains(&revision), "{sources:?}");
        revisions.push(revision);
    }
}

#[test]
fn the_next_end_of_a_crl() {
    let root = Ca::root("root");
    let trust = load(
        &Files::trusting(&root).with_crls(&[root.crl(&[], -9, -8), root.crl(&[], -1, 5), root.crl(&[], -1, 2)]).sources,
    );
    let (now, trust) = (SystemTime::now(), trust.expect("trust"));
    let next = trust.next_update_after(now).expect("ahead").duration_since(now).expect("ahead");
    assert!((46..=48).contains(&(next.as_secs().div_ceil(3_600))), "{next:?}");
    let past = now.duration_since(trust.first_next_update().expect("one")).expect("past");
    assert!((191..=193).contains(&(past.as_secs().div_ceil(3_600))), "{past:?}");
    let without = load(&Files::trusting(&root).sources).expect("trust");
    assert_eq!((without.next_update_after(now), without.first_next_update()), (None, None));
}
