//! Only the fetching of revocation lists belongs here: the script of the timer, through a real proxy, from an origin in plain HTTP.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use time::Duration;

use super::shipped;
use crate::real_clients::stage::have;
use crate::support::origin::Reply;
use crate::support::pki::{self, Defect, Signer, crl};
use crate::support::sekisho::{binary, text};
use crate::support::{Config, Origin, Sekisho};

type Shelf = Arc<Mutex<BTreeMap<String, Reply>>>;

/// A proxy whose trust has the folder that is fetched into, and an authority in plain HTTP.
struct Scene {
    sekisho: Sekisho,
    authority: Origin,
    shelf: Shelf,
}

impl Scene {
    async fn new(more: impl FnOnce(Config) -> Config) -> Self {
        let shelf = Shelf::default();
        let held = Arc::clone(&shelf);
        let absent = || Reply::RawThenClose(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
        let answer = move |target: &str| held.lock().expect("shelf").get(target).cloned().unwrap_or_else(absent);
        let authority = Origin::http().answering(move |seen| answer(&seen.target)).start().await;
        let config = Config::new().plain("crl.test", &authority).set("upstream", "crls", "[\"crls/*.crl\"]");
        let sekisho = Sekisho::start_with(&more(config), |dir| fs::create_dir(dir.join("crls")).expect("made")).await;
        fs::write(sekisho.path("intermediate.pem"), pki::intermediate_pem()).expect("written");
        Self { sekisho, authority, shelf }
    }

    fn offer(&self, target: &str, body: impl Into<Vec<u8>>) {
        self.answer(target, Reply::ok(body));
    }

    fn answer(&self, target: &str, reply: Reply) {
        self.shelf.lock().expect("shelf").insert(target.to_owned(), reply);
    }

    fn place(&self) -> PathBuf {
        self.sekisho.path("crls/authority.crl")
    }

    /// Runs the script on these lines, in which `AUTHORITY` is the origin: exit code, standard error, whether it marked a change.
    async fn fetch(&self, lines: &str) -> (Option<i32>, String, bool) {
        let (list, mark) = (self.sekisho.path("crl-list"), self.sekisho.path("changed"));
        let at = format!("http://{}", self.authority.at("crl.test"));
        fs::write(&list, lines.replace("AUTHORITY", &at)).expect("written");
        let mut command = Command::new(shipped("crl/crl-fetch"));
        command.arg(&list).arg(self.sekisho.path("crls")).arg(&mark).current_dir(self.sekisho.dir.path());
        command.env("SEKISHO_PROXY", format!("http://{}", self.sekisho.addr())).env("SEKISHO", binary());
        command.env("http_proxy", "http://127.0.0.1:9").env("NO_PROXY", "*");
        let output = tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends");
        let leftovers = fs::read_dir(self.sekisho.path("crls")).expect("a folder");
        let hidden =
            leftovers.filter(|entry| entry.as_ref().expect("an entry").file_name().as_encoded_bytes()[0] == b'.');
        assert_eq!(hidden.count(), 0, "nothing half-done is left");
        (output.status.code(), text(&output.stderr).replace(&at, "AUTHORITY"), mark.exists())
    }

    /// The records of its requests, which are no part of what is asserted here.
    async fn forget(&mut self, requests: usize) {
        for _ in 0..requests {
            self.sekisho.next_request().await;
        }
    }
}

const LINE: &str = "# a comment\n\nauthority AUTHORITY/a.crl intermediate.pem\n";

fn weeks(signer: Signer, this: i64) -> String {
    crl(signer, Duration::days(this), Duration::days(this + 14))
}

#[tokio::test]
async fn i07_a_list_that_is_fetched_through_the_proxy_revokes_after_the_next_reload() {
    if !have("fetching revocation lists", &["curl", "openssl"]) {
        return;
    }
    let origin = Origin::https(&["allowed.test"]).defect(Defect::Revoked).start().await;
    let mut scene = Scene::new(|config| config.tunnel("allowed.test", &origin)).await;
    assert!(!scene.sekisho.metrics().await.contains_key("sekisho_crl_next_update_timestamp_seconds"));
    scene.offer("/a.crl", weeks(Signer::Intermediate, -2));
    assert_eq!(scene.fetch(LINE).await, (Some(0), String::new(), true));
    let first = fs::read(scene.place()).expect("the list");
    assert_eq!(first[0], 0x30, "DER");
    // The same once more: nothing to take up.
    assert_eq!(scene.fetch(LINE).await, (Some(0), String::new(), false));
    // A newer one, in DER.
    scene.offer("/a.crl", der(&weeks(Signer::Intermediate, -1)));
    assert_eq!(scene.fetch(LINE).await, (Some(0), String::new(), true));
    assert_ne!(fs::read(scene.place()).expect("the list"), first);
    scene.forget(3).await;
    assert_eq!(scene.authority.requests().len(), 3);
    scene.sekisho.signal(Signal::HUP);
    scene.sekisho.lifecycle("reload", 1).await;
    let record = scene.sekisho.refused(&origin.at("allowed.test"), 502, "certificate_invalid").await;
    record.with("sekisho.certificate_error", "revoked");
    let ends = scene.sekisho.metrics().await["sekisho_crl_next_update_timestamp_seconds"];
    let due = time::OffsetDateTime::now_utc() + Duration::days(13);
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
    let late = due.unix_timestamp() as f64 - ends;
    assert!((0.0..600.0).contains(&late), "{late}");
    scene.sekisho.finish().await;
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateRevocationListDer;
    use rustls::pki_types::pem::PemObject;
    CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).expect("a list").to_vec()
}

#[tokio::test]
async fn i07_what_is_no_newer_list_of_that_issuer_leaves_the_old_one_in_place() {
    if !have("refusing revocation lists", &["curl", "openssl"]) {
        return;
    }
    let scene = Scene::new(|config| config).await;
    scene.offer("/a.crl", weeks(Signer::Intermediate, -2));
    assert_eq!(scene.fetch(LINE).await, (Some(0), String::new(), true));
    let kept = fs::read(scene.place()).expect("the list");
    let mut cut = der(&weeks(Signer::Intermediate, -1));
    cut.pop();
    let unsigned = "authority AUTHORITY/a.crl\n";
    for (body, line, said) in [
        (b"<html>captive portal</html>".to_vec(), LINE, "refused what AUTHORITY/a.crl has: no revocation list"),
        (Vec::new(), LINE, "refused what AUTHORITY/a.crl has: no revocation list"),
        (cut, LINE, "refused what AUTHORITY/a.crl has: no revocation list"),
        (weeks(Signer::Intermediate, -20).into(), LINE, "refused what AUTHORITY/a.crl has: past its end, "),
        (
            weeks(Signer::Intermediate, -3).into(),
            LINE,
            "refused what AUTHORITY/a.crl has: older than the one in place, ",
        ),
        (weeks(Signer::Impostor, -1).into(), LINE, "refused what AUTHORITY/a.crl has: not signed by intermediate.pem"),
        (weeks(Signer::Stranger, -1).into(), LINE, "refused what AUTHORITY/a.crl has: not signed by intermediate.pem"),
        (
            weeks(Signer::Stranger, -1).into(),
            unsigned,
            "refused what AUTHORITY/a.crl has: of another issuer, CN = a stranger",
        ),
        (without_next_update(), unsigned, "refused what AUTHORITY/a.crl has: sekisho does not read it: "),
    ] {
        scene.offer("/a.crl", body);
        let (code, stderr, changed) = scene.fetch(line).await;
        assert!(stderr.starts_with(&format!("crl-fetch: authority: {said}")), "{said}: {stderr}");
        assert_eq!((code, changed, stderr.lines().count()), (Some(1), false, 1), "{stderr}");
        assert_eq!(fs::read(scene.place()).expect("the list"), kept, "{said}");
    }
}

/// openssl reads it, and RFC 5280 has no such list.
fn without_next_update() -> Vec<u8> {
    use crate::support::x509::{Crl, Signer};
    Crl::of(&[]).set(|crl| crl.next_update.clear()).signed_by(&Signer::new("an authority"))
}

#[tokio::test]
async fn i07_one_list_that_cannot_be_had_keeps_no_other_from_being_taken() {
    if !have("unreachable revocation lists", &["curl", "openssl"]) {
        return;
    }
    let mut scene = Scene::new(|config| config).await;
    let good = weeks(Signer::Intermediate, -2);
    scene.offer("/a.crl", good.clone());
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(33 << 20));
    scene.answer("/endless", Reply::RawThenClose(endless.into_bytes()));
    let moved = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/a.crl\r\nContent-Length: 0\r\n\r\n",
        scene.authority.at("crl.test")
    );
    scene.answer("/moved", Reply::RawThenClose(moved.into_bytes()));
    let lines = "absent AUTHORITY/absent\nmoved AUTHORITY/moved\nendless AUTHORITY/endless\nsecret https://crl.test/a.crl\n\
                 file file:///etc/passwd\nunlisted http://other.test/a.crl\n../up AUTHORITY/a.crl\nshort\n\
                 long AUTHORITY/a.crl x y\nauthority AUTHORITY/a.crl";
    let (code, stderr, changed) = scene.fetch(lines).await;
    assert_eq!((code, changed), (Some(1), true), "{stderr}");
    assert!(scene.place().exists(), "the last line, without its end");
    let lines: Vec<&str> = stderr.lines().collect();
    for (line, said) in lines.iter().zip([
        "absent: not fetched from AUTHORITY/absent: status 404",
        "moved: not fetched from AUTHORITY/moved: status 302",
        "endless: not fetched from AUTHORITY/endless: more than 33554432 octets",
        "secret: not fetched from https://crl.test/a.crl: curl: (1) Protocol \"https\" not supported",
        "file: not fetched from file:///etc/passwd: curl: (1) Protocol \"file\" not supported",
        "unlisted: not fetched from http://other.test/a.crl: status 403",
        "../up: no name for a file",
        "short: a line is NAME URL [ISSUER]",
        "long: a line is NAME URL [ISSUER]",
    ]) {
        assert!(line.starts_with(&format!("crl-fetch: {said}")), "{said}: {line}");
    }
    assert_eq!(lines.len(), 9, "{stderr}");
    assert_eq!(fs::read_dir(scene.sekisho.path("crls")).expect("a folder").count(), 1);
    // A 404 of the origin's is no refusal.
    scene.sekisho.next_request().await.says("allowed", "");
}
