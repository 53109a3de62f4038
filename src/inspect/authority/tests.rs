use std::fs;
use std::os::unix::fs::PermissionsExt;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::*;
use crate::inspect::scene::{DAY, Site, name, now, webpki_verify};
use crate::inspect::{certificate, show};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("stat").permissions().mode() & 0o7777
}

#[test]
fn init_makes_four_files_and_tells_what_to_do() {
    let site = Site::empty();
    let report = site.init(&["login.microsoftonline.com", "example.com"]).expect("init");
    let files: Vec<String> = site.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(files, ["ca-root.key", "ca-root.pem", "ca.key", "ca.pem"]);
    for (file, expected) in [("ca.key", 0o600), ("ca-root.key", 0o600), ("ca.pem", 0o644), ("ca-root.pem", 0o644)] {
        assert_eq!(mode(&site.path(file)), expected, "{file}");
    }
    assert_eq!(certificate::read_file(&site.path("ca.pem")).expect("chain").len(), 2);
    let text = report.to_string();
    for words in ["take it offline", "example.com, login.microsoftonline.com", "2028-11-21"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn j05_the_intermediate_is_bound_and_the_root_signs_no_leaf_for_it() {
    let site = Site::with_ca(&["example.com", "portal.city.test"]);
    let chain = certificate::read_file(&site.path("ca.pem")).expect("chain");
    let (_, issuing) = X509Certificate::from_der(&chain[0]).expect("parse");
    let constraints = issuing.name_constraints().expect("one").expect("present");
    assert!(constraints.critical);
    let usage = issuing.key_usage().expect("one").expect("present");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert_eq!(usage.value.flags, 0b110_0000);
    let extended = issuing.extended_key_usage().expect("one").expect("present").value;
    assert!(extended.server_auth && !extended.any && !extended.client_auth);
    let basic = issuing.basic_constraints().expect("one").expect("present");
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let ca = CaCertificate::parse(&chain[0]).expect("CA");
    assert_eq!(ca.constraints.permitted(), ["example.com", "portal.city.test"]);
    assert_eq!(ca.constraints.excluded(), ["IP 0.0.0.0/0", "IP ::/0"]);
    assert_eq!(ca.subject, "CN=Example City sekisho issuing CA 2026-11-22");
    assert_eq!(ca.issuer, "CN=Example City sekisho root");
    if let Some((_, text)) = site.openssl(&["x509", "-in", "ca.pem", "-noout", "-text"]) {
        let lines = ["Name Constraints: critical", "DNS:example.com", "IP:0.0.0.0/0.0.0.0", "CA:TRUE, pathlen:0"];
        for line in lines {
            assert!(text.contains(line), "{line} in {text}");
        }
        let at = OffsetDateTime::from(now()).unix_timestamp().to_string();
        let verify = ["verify", "-x509_strict", "-attime", &at, "-CAfile", "ca-root.pem", "ca.pem"];
        let (success, said) = site.openssl(&verify).expect("openssl was there");
        assert!(success, "{said}");
    }
}

#[test]
fn j03_two_installations_have_nothing_in_common() {
    let (one, two) = (Site::with_ca(&["example.com"]), Site::with_ca(&["example.com"]));
    for ((name, left), (_, right)) in one.files().iter().zip(&two.files()) {
        assert_ne!(left, right, "{name}");
    }
    let keys: Vec<Vec<u8>> = [&one, &two]
        .into_iter()
        .flat_map(|site| certificate::read_file(&site.path("ca.pem")).expect("chain"))
        .map(|der| CaCertificate::parse(&der).expect("CA").public_key)
        .collect();
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key), "root and intermediate of both sites: four keys");
    }
}

#[test]
fn nothing_is_ever_overwritten() {
    for occupied in ["ca.pem", "ca.key"] {
        let site = Site::empty();
        fs::write(site.path(occupied), "mine").expect("write");
        let error = site.init(&["example.com"]).expect_err("refused").to_string();
        assert!(error.contains(occupied) && error.contains("exists"), "{error}");
        assert_eq!(site.files(), [(occupied.to_owned(), b"mine".to_vec())]);
    }
    let site = Site::empty();
    std::os::unix::fs::symlink("/nonexistent/elsewhere", site.path("ca.key")).expect("symlink");
    assert!(matches!(site.init(&["example.com"]), Err(InitError::Exists(_))), "a dangling link is in the way");
    assert_eq!(site.files().len(), 1);

    let site = Site::with_ca(&["example.com"]);
    let before = site.files();
    assert!(matches!(site.init(&["example.com"]), Err(InitError::Exists(_))));
    assert_eq!(site.files(), before);
}

#[test]
fn a_half_root_is_refused() {
    for (missing, words) in [("ca-root.key", "bring it back for as long"), ("ca-root.pem", "its certificate")] {
        let site = Site::with_ca(&["example.com"]);
        for file in ["ca.pem", "ca.key", missing] {
            fs::remove_file(site.path(file)).expect("remove");
        }
        let before = site.files();
        let error = site.init(&["example.com"]).expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(site.files(), before);
    }
}

#[test]
fn j08_a_new_intermediate_under_the_same_root_is_trusted_beside_the_old_one() {
    let site = Site::with_ca(&["example.com"]);
    let root = site.root();
    let old = site.issuer();
    for file in ["ca.pem", "ca.key"] {
        fs::rename(site.path(file), site.path(&format!("old-{file}"))).expect("move away");
    }
    let mut request = site.request(&["example.com", "new.test"]);
    request.now = now() + 30 * DAY;
    let report = init(&request).expect("init again");
    assert_eq!(report.root, RootOrigin::Kept);
    assert!(report.to_string().contains("clients keep it"));
    assert_eq!(site.root(), root);
    let at = now() + 31 * DAY;
    let new = issuer::Issuer::load(&site.path("ca.pem"), &site.path("ca.key"), at).expect("load");
    assert_ne!(new.certificate().subject, old.certificate().subject);
    for (issuer, host) in [(&old, "a.example.com"), (&new, "a.example.com"), (&new, "new.test")] {
        let leaf = issuer.mint(&name(host), at).expect("mint");
        webpki_verify(&leaf.certified_key.cert, &root, host, at).expect("the clients' root takes it");
    }
    assert!(old.mint(&name("new.test"), at).is_err());
}

#[test]
fn an_intermediate_does_not_outlive_its_root() {
    let site = Site::with_ca(&["example.com"]);
    for file in ["ca.pem", "ca.key"] {
        fs::remove_file(site.path(file)).expect("remove");
    }
    let mut request = site.request(&["example.com"]);
    request.now = now() + 3600 * DAY;
    let report = init(&request).expect("init");
    let root = CaCertificate::parse(&site.root()).expect("root");
    assert_eq!(OffsetDateTime::from(report.not_after).unix_timestamp(), root.not_after.unix_timestamp());
    fs::remove_file(site.path("ca.pem")).expect("remove");
    fs::remove_file(site.path("ca.key")).expect("remove");
    request.now = now() + 3651 * DAY;
    assert!(matches!(init(&request), Err(InitError::Root(IssuerError::Certificate(_)))), "an ended root signs nothing");
}

#[test]
fn a_root_that_others_can_read_or_that_is_no_root_is_refused() {
    let site = Site::with_ca(&["example.com"]);
    fs::remove_file(site.path("ca-root.key")).expect("remove");
    fs::rename(site.path("ca.key"), site.path("ca-root.key")).expect("move");
    fs::rename(site.path("ca.pem"), site.path("ca-root.pem")).expect("move");
    assert!(matches!(site.init(&["example.com"]), Err(InitError::RootPathLength(_))), "an intermediate is no root");
    fs::set_permissions(site.path("ca-root.key"), fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(matches!(site.init(&["example.com"]), Err(InitError::Root(IssuerError::Key(_)))));
}

#[test]
fn names_are_folded() {
    let fold = |names: &[&str]| fold(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    for (names, expected) in [
        (&["example.com"][..], &["example.com"][..]),
        (&["example.com", "example.com"], &["example.com"]),
        (&["www.example.com", "example.com", "a.b.example.com"], &["example.com"]),
        (&["badexample.com", "example.com"], &["badexample.com", "example.com"]),
        (&["EXAMPLE.com", "例え.test"], &["example.com", "xn--r8jz45g.test"]),
    ] {
        assert_eq!(fold(names).expect("names"), expected, "{names:?}");
    }
    assert!(matches!(fold(&[]), Err(InitError::NoNames)));
    assert!(matches!(fold(&["a.test", ""]), Err(InitError::NoFixedSuffix(_))));
    for wrong in ["*.example.com", "192.0.2.1", "a b", "example.com:443"] {
        assert!(matches!(fold(&[wrong]), Err(InitError::Name { .. })), "{wrong}");
    }
}

#[test]
fn requests_that_make_no_sense_are_refused_and_write_nothing() {
    let site = Site::empty();
    let refused = |change: fn(&mut InitRequest)| {
        let mut request = site.request(&["example.com"]);
        change(&mut request);
        init(&request).expect_err("refused").to_string()
    };
    for (change, words) in [
        ((|request| request.permitted.clear()) as fn(&mut InitRequest), "--reserve NAME"),
        (|request| request.days = 0, "--days 0"),
        (|request| request.days = 3651, "--days 3651"),
        (|request| request.key = request.certificate.clone(), "must be four paths"),
        (|request| request.key = request.certificate.with_file_name("ca-root.pem"), "must be four paths"),
        (|request| request.key = request.key.with_file_name("no/ca.key"), "cannot write"),
    ] {
        let message = refused(change);
        assert!(message.contains(words), "{message}");
        assert!(site.files().is_empty());
    }
}

#[test]
fn a_long_or_odd_site_name_still_makes_valid_subjects() {
    for site_name in ["", "  ", "例示市役所情報システム課".repeat(9).as_str(), "a\nb\u{1b}[31m"] {
        let site = Site::empty();
        let mut request = site.request(&["example.com"]);
        request.site = site_name.to_owned();
        init(&request).expect("init");
        let ca = site.issuer();
        let subject = ca.certificate().subject.strip_prefix("CN=").expect("CN").to_owned();
        assert!(subject.chars().count() <= 64 && subject.ends_with("sekisho issuing CA 2026-11-22"), "{subject}");
        assert!(!subject.contains(char::REPLACEMENT_CHARACTER) && !subject.starts_with(' '), "{subject}");
    }
}

#[test]
fn show_tells_what_is_there() {
    let site = Site::with_ca(&["example.com"]);
    let describe = |at| show::describe(&site.path("ca.pem"), &site.path("ca.key"), at).expect("describe");
    let shown = describe(now());
    // 730 days but a part of a second, which certificates do not have.
    assert_eq!((shown.days_left, shown.path_length, shown.problem.as_deref()), (729, Some(0), None));
    assert_eq!(shown.key_algorithm, "ECDSA P-256");
    assert_eq!(shown.warnings.len(), 1, "{:?}", shown.warnings);
    assert!(shown.warnings[0].contains("ca-root.key offline"));
    let root = shown.root.clone().expect("root");
    assert_eq!(root.fingerprint, CaCertificate::parse(&site.root()).expect("root").fingerprint());
    let text = shown.to_string();
    for words in ["signs for   example.com", "never for   IP 0.0.0.0/0, IP ::/0", "usable", &root.fingerprint] {
        assert!(text.contains(words), "{words} in {text}");
    }
    serde_json::to_string(&shown).expect("JSON");
    if let Some((_, said)) = site.openssl(&["x509", "-in", "ca-root.pem", "-noout", "-fingerprint", "-sha256"]) {
        assert!(said.contains(&root.fingerprint), "{said}");
    }

    fs::remove_file(site.path("ca-root.key")).expect("taken offline");
    assert!(describe(now()).warnings.is_empty());
    assert!(describe(now() + 700 * DAY).warnings.iter().any(|warning| warning == "it ends in 29 days"));
    let ended = describe(now() + 731 * DAY);
    assert!(ended.days_left < 0 && ended.problem.expect("problem").contains("it ended on"));
    fs::set_permissions(site.path("ca.key"), fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(describe(now()).to_string().contains("PROBLEM       the key "));
}

#[test]
fn the_root_s_key_may_lie_elsewhere_and_its_certificate_tells_which_root() {
    let (site, safe) = (Site::empty(), tempfile::tempdir().expect("tempdir"));
    let root = RootFiles { key: safe.path().join("safe.key"), ..RootFiles::beside(&site.path("ca.pem")) };
    let report = init_with(&site.request(&["example.com"]), &root).expect("init");
    assert_eq!((report.root, mode(&root.key)), (RootOrigin::Made, 0o600));
    let names = |site: &Site| site.files().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&site), ["ca-root.pem", "ca.key", "ca.pem"]);
    // Another one, in other places, under the same root.
    let elsewhere = tempfile::tempdir().expect("tempdir");
    let mut next = site.request(&["example.com"]);
    (next.certificate, next.key) = (site.path("next.pem"), elsewhere.path().join("any-name"));
    let error = init_under(&next, &RootFiles::beside(&site.path("ca.pem"))).expect_err("refused").to_string();
    let (certificate, key) = (site.path("ca-root.pem"), site.path("ca-root.key"));
    assert!(
        error.starts_with(&format!(
            "the root's certificate {} is there and its key {} is not: say with --root-key FILE where the key is, or",
            certificate.display(),
            key.display()
        )),
        "{error}"
    );
    assert_eq!(init_under(&next, &root).expect("init").root, RootOrigin::Kept);
    assert_eq!(names(&site), ["ca-root.pem", "ca.key", "ca.pem", "next.pem"]);
    // Never a root of its own.
    fs::remove_file(certificate).expect("away");
    (next.certificate, next.key) = (site.path("third.pem"), site.path("third.key"));
    let error = init_under(&next, &RootFiles::beside(&site.path("ca.pem")));
    assert!(matches!(error, Err(InitError::RootAway(_))));
}

#[test]
fn show_has_nothing_to_say_against_a_key_that_only_the_unit_sees() {
    let site = Site::with_ca(&["example.com"]);
    fs::remove_file(site.path("ca-root.key")).expect("taken offline");
    let describe = |at| show::describe(&site.path("ca.pem"), Path::new("$CREDENTIALS_DIRECTORY/ca-key"), at);
    let text = describe(now()).expect("describe").to_string();
    let end = "key           credential:ca-key (ECDSA P-256)\n\
               state         valid; the key was not looked at: it is a systemd credential, which the unit alone sees\n";
    assert!(text.ends_with(end), "{text}");
    let ended = describe(now() + 731 * DAY).expect("describe");
    assert!(ended.problem.expect("problem").contains("it ended on"));
}
