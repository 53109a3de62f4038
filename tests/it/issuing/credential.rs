//! Only what the commands say and do where the issuing keys are credentials of the unit belongs here, outside of it and inside.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::SystemTime;

use time::OffsetDateTime;

use crate::support::sekisho::{binary, prepare, run, text};
use crate::support::{Config, Origin};

/// A site whose keys are credentials, the next one's too, before any of its CA files exists.
fn site(origin: &Origin) -> tempfile::TempDir {
    let (dir, _, _) = prepare(&Config::new().inspect("allowed.test", origin));
    for file in ["ca.pem", "ca.key", "ca-root.pem", "ca-root.key"] {
        fs::remove_file(dir.path().join(file)).expect("removed");
    }
    let file = dir.path().join("sekisho.toml");
    let plain = fs::read_to_string(&file).expect("sekisho.toml");
    let named = plain.replace("key = \"ca.key\"", "key = \"credential:ca-key\"");
    assert_ne!(named, plain);
    let from = OffsetDateTime::from(SystemTime::now()).date() + time::Duration::days(30);
    let next = "[issuing_ca.next]\ncertificate = \"next.pem\"\nkey = \"credential:ca-next-key\"\nfrom = ";
    fs::write(&file, format!("{named}{next}{from}\n")).expect("written");
    for folder in ["store", "offline"] {
        fs::create_dir(dir.path().join(folder)).expect("a folder");
    }
    dir
}

fn init(dir: &Path, more: &[&str]) -> Output {
    run(dir, &[&["ca", "init", "--config", "sekisho.toml"], more].concat())
}

const FIRST: [&str; 4] = ["--key", "store/sekisho.ca-key", "--root-key", "offline/ca-root.key"];
const NEXT: [&str; 5] = ["--next", "--key", "store/sekisho.ca-next-key", "--root-key", "offline/ca-root.key"];

#[tokio::test]
async fn j01_the_root_s_key_never_lies_beside_a_credential() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let site = site(&origin);
    let dir = site.path();
    let refused = init(dir, &[]);
    assert_eq!(
        text(&refused.stderr),
        "sekisho: sekisho.toml: the key is the systemd credential ca-key, which only the service has: say with --key FILE where to put it, \
         and give that file to LoadCredential=ca-key:FILE of the unit, or to `systemd-creds encrypt --name=ca-key` (the package's unit takes \
         /etc/credstore/sekisho.ca-key)\n"
    );
    let made = init(dir, &FIRST);
    let said = text(&made.stdout);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let steps = "\nNow: 1. Take the root key offline/ca-root.key away, to where it is kept offline. sekisho does not need it, and who has it\n        \
                 can sign for any name that the clients look up.\n     \
                 2. The issuing key stays root's: LoadCredential=ca-key:FILE of the unit hands it over when the service starts.\n     \
                 3. Install the root certificate on the clients (compare its SHA-256 there).\n";
    assert!(said.ends_with(steps), "{said}");
    for (file, there) in [("store/sekisho.ca-key", true), ("offline/ca-root.key", true), ("ca-root.key", false)] {
        assert_eq!(dir.join(file).exists(), there, "{file}");
    }
    assert_eq!(fs::read_dir(dir.join("store")).expect("store").count(), 1);

    // Where it is not said where the root's key is, it is said where it was looked for.
    let refused = init(dir, &NEXT[..3]);
    let where_to = "sekisho: the root's certificate ca-root.pem is there and its key ca-root.key is not: say with --root-key FILE where";
    assert!(text(&refused.stderr).starts_with(where_to), "{}", text(&refused.stderr));
    let made = init(dir, &NEXT);
    let said = text(&made.stdout);
    assert!(said.ends_with("\n     3. Restart sekisho: a reload does not read a credential anew.\n"), "{said}");
    assert!(said.contains("\nissuing key          store/sekisho.ca-next-key\n"), "{said}");
}

#[tokio::test]
async fn j01_outside_of_the_unit_a_credential_is_no_problem_and_inside_it_is_looked_at() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let site = site(&origin);
    let dir = site.path();
    for keys in [&FIRST[..], &NEXT] {
        let made = init(dir, keys);
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
    let unit = "systemd-run --quiet --pipe --same-dir -p LoadCredential=ca-key:FILE -p LoadCredential=ca-next-key:FILE";
    let shown = text(&run(dir, &["ca", "show", "--config", "sekisho.toml"]).stdout);
    let unseen =
        "state         valid; the key was not looked at: it is a systemd credential, which the unit alone sees\n";
    assert_eq!(shown.matches(unseen).count(), 2, "{shown}");
    assert!(!shown.contains("PROBLEM"), "{shown}");
    let check = run(dir, &["check", "--config", "sekisho.toml"]);
    let said = text(&check.stderr);
    assert!(check.status.success(), "{said}");
    let hint = "hint: here the key was not looked at, and nothing can be signed; put before the command, to have it:\n          ";
    assert!(said.contains(&format!("{hint}{unit}\n")), "{said}");
    assert_eq!(said.matches("and $CREDENTIALS_DIRECTORY is not set").count(), 2, "{said}");
    let prove = run(dir, &["prove", "--config", "sekisho.toml"]);
    assert_eq!(prove.status.code(), Some(1));
    let only = "the issuing key is a systemd credential, which only a unit has: put before the command, to have it: ";
    assert_eq!(text(&prove.stderr), format!("sekisho: {only}{unit}\n"));

    // As inside, with one of the two, with the wrong one, and with both.
    let credentials = dir.join("credentials");
    fs::create_dir(&credentials).expect("a folder");
    let inside = |command: &str| {
        let mut inside = Command::new(binary());
        inside.args([command, "--config", "sekisho.toml"]).current_dir(dir).env("CREDENTIALS_DIRECTORY", &credentials);
        inside.output().expect("it runs")
    };
    let put = |from: &str, to: &str| fs::copy(dir.join("store").join(from), credentials.join(to)).expect("copied");
    put("sekisho.ca-key", "ca-key");
    let said = text(&inside("check").stderr);
    let folder = credentials.display();
    assert!(
        said.contains(&format!(
            "error: issuing_ca.next.certificate: the systemd credential ca-next-key is not in {folder}: systemd hands it over when the \
             service starts, from FILE in LoadCredential=ca-next-key:FILE of its unit\n"
        )),
        "{said}"
    );
    put("sekisho.ca-key", "ca-next-key");
    let said = text(&inside("check").stderr);
    let restart = "hint: `sekisho ca show` says what is there; where the credential's file has been changed, restart: a reload does not read \
                   it anew\n";
    assert!(
        said.contains("ca-next-key does not belong to the first certificate in next.pem\n") && said.contains(restart),
        "{said}"
    );
    put("sekisho.ca-next-key", "ca-next-key");
    let check = inside("check");
    assert!(check.status.success() && !text(&check.stderr).contains("credential"), "{}", text(&check.stderr));
    let prove = inside("prove");
    assert!(!text(&prove.stderr).contains(only), "{}", text(&prove.stderr));
}
