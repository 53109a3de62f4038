use std::fs;
use std::time::Duration as Span;

use tempfile::TempDir;

use super::*;
use crate::config::{Config, LoadError, load};
use crate::inspect::authority::{self, InitRequest};
use crate::inspect::issuer::Which;
use crate::names::DnsName;

const POLICY: &str = r#"[[listener]]
address = "127.0.0.1:8080"
[[clients]]
name = "office"
networks = ["10.20.0.0/16"]
[[service]]
name = "A"
hosts = ["a.example.com"]
mode = "inspect"
[issuing_ca]
certificate = "ca.pem"
key = "ca.key"
"#;
const DAY: Span = Span::from_secs(86_400);

/// 2026-12-01T00:00:00+09:00.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Span::from_secs(1_796_050_800)
}

struct Site(TempDir);

impl Site {
    /// A CA of so many days, and another one under the same root.
    fn new(days: u32, tail: &str) -> Self {
        let site = Self(tempfile::tempdir().expect("a directory"));
        site.write("sekisho.toml", &format!("{POLICY}{tail}"));
        authority::init(&site.request("ca", "example.com", days)).expect("a CA");
        site.follow("example.com");
        site
    }

    fn follow(&self, permitted: &str) {
        let root = RootFiles::beside(&self.path("ca.pem"));
        authority::init_under(&self.request("next", permitted, 730), &root).expect("the next CA");
    }

    fn request(&self, stem: &str, permitted: &str, days: u32) -> InitRequest {
        InitRequest {
            certificate: self.path(&format!("{stem}.pem")),
            key: self.path(&format!("{stem}.key")),
            site: "Example City".to_owned(),
            permitted: vec![permitted.to_owned()],
            days,
            now: now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn load(&self, at: SystemTime) -> Result<Config, LoadError> {
        load(&self.path("sekisho.toml"), Scope::Full, at)
    }

    /// Problems without the folder.
    fn said(&self, problems: &[crate::config::Problem]) -> String {
        let folder = format!("{}/", self.0.path().display());
        problems.iter().map(|problem| format!("{problem}\n").replace(&folder, "")).collect()
    }

    fn warnings(&self, at: SystemTime) -> String {
        self.said(&self.load(at).unwrap_or_else(|error| panic!("{error}")).warnings)
    }

    fn refusal(&self) -> String {
        self.said(&self.load(now()).expect_err("refused").problems)
    }
}

fn next(from: &str) -> String {
    format!("[issuing_ca.next]\ncertificate = \"next.pem\"\nkey = \"next.key\"\nfrom = {from}\n")
}

#[test]
fn j08_leaves_come_from_the_next_ca_from_its_day_on() {
    let site = Site::new(100, &next("2027-01-15"));
    let config = site.load(now()).expect("loads");
    assert_eq!(site.warnings(now()), "");
    let issuer = config.issuing.expect("an issuer");
    let [first, next] = [0, 1].map(|at| issuer.certificates().nth(at).expect("two").clone());
    // 2027-01-15T00:00:00+09:00.
    let midnight = now() + 45 * DAY;
    let name = DnsName::parse(b"a.example.com").expect("a name");
    for (at, which, ca) in [
        (now(), Which::First, &first),
        (midnight - Span::from_secs(1), Which::First, &first),
        (midnight, Which::Next, &next),
        (midnight + 200 * DAY, Which::Next, &next),
    ] {
        assert_eq!(issuer.which(at), which);
        let leaf = issuer.mint(&name, at).expect("a leaf");
        assert_eq!(leaf.ca.der, ca.der);
        assert_eq!(leaf.certified_key.cert[1], ca.der, "the chain is its own");
    }
}

#[test]
fn j08_both_are_checked_at_every_load() {
    let site = Site::new(100, &next("2027-01-15"));
    site.follow_again("example.net");
    let refusal = site.refusal();
    assert!(refusal.starts_with("sekisho.toml:8:10: error: service[0].hosts[0]: found \"a.example.com\", which the issuing CA cannot sign for: "), "{refusal}");
    assert!(refusal.contains("1. move next.pem and next.key away"), "{refusal}");
    fs::copy(site.path("ca.key"), site.path("next.key")).expect("copied");
    let refusal = site.refusal();
    assert!(
        refusal.contains(
            "error: issuing_ca.next.certificate: the key next.key does not belong to the first certificate in next.pem"
        ),
        "{refusal}"
    );
    fs::remove_file(site.path("next.key")).expect("removed");
    let refusal = site.refusal();
    assert!(refusal.contains("error: issuing_ca.next.certificate: cannot open the key next.key"), "{refusal}");
    assert!(refusal.contains("hint: `sekisho ca init --next` makes what is missing"), "{refusal}");
}

impl Site {
    fn follow_again(&self, permitted: &str) {
        for file in ["next.pem", "next.key"] {
            fs::remove_file(self.path(file)).expect("removed");
        }
        self.follow(permitted);
    }
}

#[test]
fn j08_a_gap_between_the_two_is_refused() {
    let site = Site::new(44, &next("2027-01-15"));
    let expected = "sekisho.toml:16:8: error: issuing_ca.next.from: found 2027-01-15, when the first issuing CA has ended (2027-01-13 \
                    15:00:00.0 +00:00:00), expected a day on which both are valid\n";
    assert_eq!(site.refusal(), expected);
    let site = Site::new(3000, &next("2028-12-02"));
    let expected = "sekisho.toml:16:8: error: issuing_ca.next.from: found 2028-12-02, when the next issuing CA has ended (2028-11-29 \
                    15:00:00.0 +00:00:00), expected a day on which both are valid\n";
    assert_eq!(site.refusal(), expected);
    assert_eq!(Site::new(45, &next("2027-01-15")).warnings(now()), "");
}

#[test]
fn j08_once_the_day_has_come_the_first_may_end_and_the_file_is_to_be_tidied() {
    let site = Site::new(60, &next("2027-01-15"));
    let expected = "sekisho.toml:16:8: warning: issuing_ca.next.from: found 2027-01-15, which has come, expected a day to come\n    \
                    hint: move its certificate and key to where those of [issuing_ca] are, and remove [issuing_ca.next]\n";
    for days in [45, 59, 61, 300] {
        assert_eq!(site.warnings(now() + days * DAY), expected, "{days}");
    }
}

#[test]
fn an_issuing_ca_near_its_end_without_another_is_warned_of() {
    let site = Site::new(100, "");
    assert_eq!(site.warnings(now() + 40 * DAY), "");
    let expected = "sekisho.toml:11:15: warning: issuing_ca.certificate: found an issuing CA that ends in 59 days (2027-03-11), expected \
                    [issuing_ca.next], which takes over before that day\n    hint: write the section, then run `sekisho ca init --next`: \
                    it makes the certificate and key that it names\n";
    assert_eq!(site.warnings(now() + 41 * DAY), expected);
    assert_eq!(Site::new(100, &next("2027-03-01")).warnings(now() + 41 * DAY), "");
}

#[test]
fn j08_the_revision_is_of_both_certificates() {
    let site = Site::new(100, &next("2027-01-15"));
    let first = site.load(now()).expect("loads").revision;
    site.follow_again("example.com");
    assert_ne!(site.load(now()).expect("loads").revision, first);
}

#[test]
fn j07_the_process_that_serves_needs_no_key() {
    let site = Site::new(100, &next("2027-01-15"));
    for file in ["ca.key", "next.key"] {
        fs::remove_file(site.path(file)).expect("removed");
    }
    let config = load(&site.path("sekisho.toml"), Scope::WithoutIssuingKey, now()).expect("loads");
    let issuer = config.issuing.expect("an issuer");
    assert!(!issuer.signs());
    let name = DnsName::parse(b"a.example.com").expect("a name");
    let error = issuer.mint(&name, now()).expect_err("it has no key");
    assert_eq!(error.to_string(), "the issuing key is not in this process");
}
