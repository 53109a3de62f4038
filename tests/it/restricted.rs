//! Only scenes about what the running service has given up belong here: what a reload may not need, and where the key lies.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::process::Signal;

use super::support::by_hand::inside;
use super::support::sekisho::{APART, prepare, run, set_mode, text};
use super::support::{Config, Origin, Sekisho, Service, until, within};

fn restricts(metrics: &std::collections::BTreeMap<String, f64>, kind: &str) -> bool {
    metrics[&format!("sekisho_restriction{{kind=\"{kind}\"}}")] == 1.0
}

#[tokio::test]
async fn j07_a_reload_that_needs_more_wants_a_restart_and_changes_nothing() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let metrics = sekisho.metrics().await;
    if !restricts(&metrics, "files") || !restricts(&metrics, "tcp_ports") {
        crate::real_clients::stage::skipped(
            "a restart needed",
            &format!("this kernel restricts no files or ports: {}", sekisho.stderr()),
        );
        return;
    }
    let before = fs::read_to_string(sekisho.path("sekisho.toml")).expect("sekisho.toml");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let record = elsewhere.path().canonicalize().expect("a path").join("other.jsonl");
    for (number, (change, why)) in [
        (
            before.replace(&origin.port().to_string(), "4711"),
            "restart needed: the service gave up at its start to connect to TCP port 4711".to_owned(),
        ),
        (
            before.replace(&sekisho.addr().port().to_string(), "4712"),
            "restart needed: the service gave up at its start to listen on TCP port 4712".to_owned(),
        ),
        (
            before.replace("path = \"access.jsonl\"", &format!("path = {record:?}")),
            format!(
                "restart needed: the service gave up at its start to write in {}",
                record.parent().expect("a folder").display()
            ),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert_ne!(change, before);
        sekisho.reload_refused(&change).await;
        assert_eq!(sekisho.lifecycle("reload_failed", number + 1).await.text("message"), why);
    }
    // A file that this process may no longer read, and everybody else may.
    let pem = elsewhere.path().join("more.pem");
    fs::copy(sekisho.path("origins.pem"), &pem).expect("copied");
    assert!(before.contains("extra_roots = [\"origins.pem\"]"), "{before}");
    let roots = format!("extra_roots = [\"origins.pem\", {pem:?}]");
    sekisho.reload_refused(&before.replace("extra_roots = [\"origins.pem\"]", &roots)).await;
    let said = sekisho.lifecycle("reload_failed", 4).await.text("message").to_owned();
    assert!(said.contains("upstream.extra_roots[1]: \"") && said.contains("Permission denied (os error 13)"), "{said}");
    assert!(
        said.ends_with("the service reads no folders but those that its configuration named when it began"),
        "{said}"
    );
    let (_wire, answer) = sekisho.connect(&format!("allowed.test:{}", origin.port())).await;
    assert_eq!(answer.status, 200, "the old configuration is in force");
    sekisho.next_connection().await;
}

/// The environment names several folders of roots, and a reload reads them too.
#[tokio::test]
async fn j07_the_systems_roots_are_in_reach_wherever_they_are() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("upstream", "roots", "\"system\"");
    let folders = tempfile::tempdir().expect("a folder");
    let [file, one, other] = ["file", "one", "other"].map(|name| folders.path().join(name));
    let mut sekisho = Sekisho::start_in(&config, |dir| {
        for folder in [&file, &one, &other] {
            fs::create_dir(folder).expect("made");
            fs::copy(dir.join("origins.pem"), folder.join("root.pem")).expect("copied");
        }
        let folders = std::env::join_paths([&one, &other]).expect("no colon in them");
        vec![("SSL_CERT_FILE", file.join("root.pem").into()), ("SSL_CERT_DIR", folders)]
    })
    .await;
    sekisho.reload(&config).await;
    let said = sekisho.stderr();
    assert!(!said.contains("was read in part"), "{said}");
    drop(sekisho.tunnel(&origin.at("allowed.test")).await);
    sekisho.next_connection().await;
    sekisho.finish().await;
}

/// The kernel refuses a restricted process to connect to an abstract socket; the way that was open before stays.
#[tokio::test]
async fn j07_a_service_manager_on_an_abstract_socket_is_told() {
    let name = format!("sekisho-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = UnixDatagram::bind_addr(&address).expect("a socket");
    manager.set_nonblocking(true).expect("non-blocking");
    let told = async |line: &str| {
        until(&format!("{line} is told"), || {
            let mut octets = [0; 4096];
            let length = manager.recv(&mut octets).ok()?;
            text(&octets[..length]).lines().any(|told| told == line).then_some(())
        })
        .await;
    };
    let config = Config::new();
    let environment = vec![("NOTIFY_SOCKET", format!("@{name}").into()), ("WATCHDOG_USEC", "30000000".into())];
    let mut sekisho = Sekisho::start_in(&config, |_| environment.clone()).await;
    for line in ["READY=1", "WATCHDOG=1"] {
        told(line).await;
    }
    sekisho.reload(&config).await;
    for line in ["RELOADING=1", "READY=1"] {
        told(line).await;
    }
    sekisho.signal(Signal::TERM);
    told("STOPPING=1").await;
    assert!(sekisho.exit().await.success());
}

#[tokio::test]
async fn a_service_manager_that_is_not_there_is_complained_of() {
    let environment = vec![("NOTIFY_SOCKET", format!("@sekisho-nobody-{}", std::process::id()).into())];
    let sekisho = Sekisho::start_in(&Config::new(), |_| environment.clone()).await;
    let said = sekisho.stderr();
    assert!(said.contains("the service manager cannot be told anything (NOTIFY_SOCKET)"), "{said}");
    sekisho.finish().await;
}

/// What a reload cannot do where the service writes beside its configuration is said before the first start.
#[test]
fn j07_check_warns_of_a_record_or_a_control_socket_beside_the_configuration() {
    let inspecting = Config::new().service(Service::inspect("one", &["allowed.test"], 443));
    let says = |config: &Config| {
        let (dir, ..) = prepare(config);
        fs::create_dir(dir.path().join("log")).expect("a folder");
        let check = run(dir.path(), &["check", "--config", "sekisho.toml"]);
        assert!(check.status.success(), "{}", text(&check.stderr));
        let folder = dir.path().canonicalize().expect("a path").display().to_string();
        let said = text(&check.stderr).replace(&folder, "FOLDER");
        said.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let warning = |key: &str, such_as: &str| {
        format!(
            "warning: {key}: the service writes in FOLDER, from where its configuration is read: a reload that inspects further names is \
             refused there until a restart; have it in a folder of its own, such as {such_as}"
        )
    };
    let record = warning("record.path", "/var/log/sekisho");
    assert_eq!(says(&inspecting), [record.as_str()]);
    let socket = warning("control.socket", "/run/sekisho");
    assert_eq!(says(&inspecting.clone().set("control", "socket", "\"control.sock\"")), [record, socket]);
    assert_eq!(says(&inspecting.set("record", "path", APART)), [""; 0]);
    // Nothing is inspected, and no reload can begin to.
    assert_eq!(says(&Config::new().service(Service::tunnel("one", &["allowed.test"], 443))), [""; 0]);
}

/// A key that is not where the configuration is read from cannot be read by the process that serves.
#[tokio::test]
async fn j07_a_key_in_a_folder_of_its_own_is_out_of_reach() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let keys = tempfile::tempdir().expect("a folder");
    let key = keys.path().canonicalize().expect("a path").join("ca.key");
    let config = Config::new().inspect("allowed.test", &origin);
    let near = Sekisho::start(&config).await;
    let metrics = near.metrics().await;
    assert_eq!(metrics["sekisho_restriction{kind=\"issuing_key\"}"], 0.0);
    assert!(
        near.lifecycle("unrestricted", 1)
            .await
            .text("message")
            .starts_with("issuing_key: the issuing key ca.key lies where")
    );
    if !restricts(&metrics, "files") {
        crate::real_clients::stage::skipped("a key out of reach", "this kernel restricts no files");
        return;
    }
    let mut sekisho = Sekisho::start_with(&config, |dir| {
        fs::copy(dir.join("ca.key"), &key).expect("copied");
        fs::remove_file(dir.join("ca.key")).expect("removed");
        name_key(dir, &format!("{key:?}"));
    })
    .await;
    assert!(restricts(&sekisho.metrics().await, "issuing_key"), "{}", sekisho.stderr());
    ask(&mut sekisho, &origin).await;
    let text = fs::read_to_string(sekisho.path("sekisho.toml")).expect("sekisho.toml");
    sekisho.replace_config(&(text + "# again\n"));
    sekisho.signal(Signal::HUP);
    sekisho.lifecycle("reload", 1).await;
    ask(&mut sekisho, &origin).await;
    // A reload that has it where the service reads is told as a start is, once.
    fs::copy(&key, sekisho.path("near.key")).expect("copied");
    let text = fs::read_to_string(sekisho.path("sekisho.toml")).expect("sekisho.toml");
    sekisho.replace_config(&text.replace(&format!("key = {key:?}"), "key = \"near.key\""));
    sekisho.signal(Signal::HUP);
    let said = sekisho.lifecycle("unrestricted", 2).await.text("message").to_owned();
    assert!(said.starts_with("issuing_key: the issuing key near.key lies where the service reads"), "{said}");
    assert!(!restricts(&sekisho.metrics().await, "issuing_key"));
    sekisho.replace_config(&(text + "# and again\n"));
    sekisho.signal(Signal::HUP);
    sekisho.lifecycle("reload", 3).await;
    within("the metric", async {
        while !restricts(&sekisho.metrics().await, "issuing_key") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn name_key(dir: &Path, key: &str) {
    let file = dir.join("sekisho.toml");
    let text = fs::read_to_string(&file).expect("sekisho.toml");
    fs::write(file, text.replace("key = \"ca.key\"", &format!("key = {key}"))).expect("written");
}

async fn ask(sekisho: &mut Sekisho, origin: &Origin) {
    let mut wire = inside(sekisho, "allowed.test", origin.port()).await;
    assert_eq!(wire.get(&origin.at("allowed.test"), "/").await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "");
    wire.bye().await;
    sekisho.next_connection().await;
}

/// `key = "credential:NAME"`: as LoadCredential= of a unit hands it over, and what is said where no unit does.
#[tokio::test]
async fn j01_a_systemd_credential_is_the_key() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let credentials = tempfile::tempdir().expect("a folder");
    let folder = credentials.path().canonicalize().expect("a path");
    let mut sekisho = Sekisho::start_in(&Config::new().inspect("allowed.test", &origin), |dir| {
        fs::copy(dir.join("ca.key"), folder.join("ca-key")).expect("copied");
        fs::remove_file(dir.join("ca.key")).expect("removed");
        name_key(dir, "\"credential:ca-key\"");
        set_mode(&folder.join("ca-key"), 0o440);
        vec![("CREDENTIALS_DIRECTORY", folder.clone().into_os_string())]
    })
    .await;
    ask(&mut sekisho, &origin).await;
    // Without the unit round it: the rest of the file is checked, nothing is signed and no service begins.
    let check = run(sekisho.dir.path(), &["check", "--config", "sekisho.toml"]);
    assert!(check.status.success(), "{}", text(&check.stderr));
    let said = text(&check.stdout) + &text(&check.stderr);
    assert!(
        said.contains(
            "issuing_ca.key: found \"credential:ca-key\", and $CREDENTIALS_DIRECTORY is not set, expected a unit with \
             LoadCredential=ca-key:FILE around it, as the service has"
        ),
        "{said}"
    );
    let refused = run(sekisho.dir.path(), &["run", "--config", "sekisho.toml"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    let why = "the minting process refused it: the key is a systemd credential, and $CREDENTIALS_DIRECTORY is not set";
    assert!(said.contains(why), "{said}");
}
