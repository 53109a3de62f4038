//! Only scenes in which one issuing CA follows another belong here.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use time::macros::offset;

use crate::support::by_hand::{Inside, inside};
use crate::support::clock::{libfaketime, set};
use crate::support::sekisho::{run, text};
use crate::support::{Config, Origin, Sekisho, within};

/// Today in Japan, and how many seconds of it have passed.
fn today() -> (time::Date, u64) {
    let now = OffsetDateTime::from(SystemTime::now()).to_offset(offset!(+9));
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + 9 * 3600;
    (now.date(), seconds % 86_400)
}

fn first_of(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("a certificate")
}

/// The certificate above the leaf.
fn issuer_of(wire: &Inside) -> CertificateDer<'static> {
    wire.io.get_ref().1.peer_certificates().expect("a chain")[1].clone().into_owned()
}

fn with_next(config: Config, from: time::Date) -> Config {
    config.tail(&format!("[issuing_ca.next]\ncertificate = \"next.pem\"\nkey = \"next.key\"\nfrom = {from}\n"))
}

fn make_next(dir: &Path) {
    let made = run(dir, &["ca", "init", "--next", "--config", "sekisho.toml"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let again = run(dir, &["ca", "init", "--next", "--config", "sekisho.toml"]);
    assert!(
        !again.status.success() && text(&again.stderr).contains("next.pem exists, and nothing is ever overwritten")
    );
    // No key of the root is needed from here on.
    fs::remove_file(dir.join("ca-root.key")).expect("taken away");
}

/// Handshakes one after the other, over the beginning of the day: none fails, and what is open goes on.
#[tokio::test]
async fn j08_leaves_change_at_midnight_and_no_handshake_fails() {
    let Some(library) = libfaketime() else {
        crate::real_clients::stage::skipped(
            "a rotation at midnight",
            "libfaketime is not installed; tests/run installs it",
        );
        return;
    };
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (day, passed) = today();
    let config = with_next(Config::new().inspect("allowed.test", &origin), day);
    let mut sekisho = Sekisho::start_in(&config, |dir| {
        make_next(dir);
        // A minute before midnight in Japan.
        fs::write(dir.join("clock"), format!("-{}", passed + 60)).expect("a clock");
        vec![
            ("LD_PRELOAD", library.as_os_str().to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", dir.join("clock").into_os_string()),
            ("FAKETIME_NO_CACHE", OsString::from("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsString::from("1")),
        ]
    })
    .await;
    let [first, next] = ["ca.pem", "next.pem"].map(|file| first_of(&sekisho.path(file)));
    let at = origin.at("allowed.test");
    let mut open = inside(&sekisho, "allowed.test", origin.port()).await;
    assert_eq!(issuer_of(&open), first);
    let mut handshakes = [0, 0];
    within("leaves of the next CA", async {
        while handshakes[1] < 20 {
            // Each must come about: `inside` fails the test where one does not.
            let wire = inside(&sekisho, "allowed.test", origin.port()).await;
            let by = issuer_of(&wire);
            assert!(by == first || by == next);
            handshakes[usize::from(by == next)] += 1;
            assert!(by == next || handshakes[1] == 0, "never back");
            if handshakes == [20, 0] {
                set(&sekisho, "+0");
            }
            wire.bye().await;
        }
    })
    .await;
    assert!(handshakes[0] >= 20, "{handshakes:?}");
    assert_eq!(open.get(&at, "/").await.expect("an answer").status, 200, "what was open goes on");
    sekisho.next_request().await.says("allowed", "");
}

/// A reload with the second CA in the first's place, under handshakes.
#[tokio::test]
async fn j08_a_reload_to_another_ca_fails_no_handshake() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin);
    let (day, _) = today();
    let far = day.checked_add(time::Duration::days(30)).expect("a day");
    let mut sekisho = Sekisho::start_with(&config, |dir| {
        let file = dir.join("sekisho.toml");
        let plain = fs::read_to_string(&file).expect("sekisho.toml");
        let next = format!("{plain}[issuing_ca.next]\ncertificate = \"next.pem\"\nkey = \"next.key\"\nfrom = {far}\n");
        fs::write(&file, next).expect("written");
        make_next(dir);
        fs::write(&file, plain).expect("written");
    })
    .await;
    let shown = |sekisho: &Sekisho| text(&run(sekisho.dir.path(), &["ca", "show", "--config", "sekisho.toml"]).stdout);
    assert!(!shown(&sekisho).contains("next.pem"));
    let [first, next] = ["ca.pem", "next.pem"].map(|file| first_of(&sekisho.path(file)));
    let mut open = inside(&sekisho, "allowed.test", origin.port()).await;
    assert_eq!(issuer_of(&open), first);
    sekisho.reload(&with_next(config.clone(), far)).await;
    let said = shown(&sekisho);
    assert!(said.contains("ca.pem") && said.contains(&format!("from {far} on\ncertificate   next.pem")), "{said}");
    let wire = inside(&sekisho, "allowed.test", origin.port()).await;
    assert_eq!(issuer_of(&wire), first, "the day has not come");
    let swapped = config.render(&sekisho.listeners, sekisho.admin).replace("\"ca.pem\"", "\"next.pem\"");
    sekisho.replace_config(&swapped.replace("\"ca.key\"", "\"next.key\""));
    sekisho.signal(rustix::process::Signal::HUP);
    let mut seen = [0, 0];
    within("leaves of the other CA", async {
        while seen[1] < 20 {
            let wire = inside(&sekisho, "allowed.test", origin.port()).await;
            seen[usize::from(issuer_of(&wire) == next)] += 1;
            wire.bye().await;
        }
    })
    .await;
    assert_eq!(open.get(&origin.at("allowed.test"), "/").await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "");
}
