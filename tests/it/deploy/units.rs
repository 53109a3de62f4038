//! Only the units belong here, as systemd's own programs judge them, and the service started as systemd would start it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{good, run, shipped};
use crate::real_clients::stage::have;
use crate::support::client::{Tls, Wire, connect};
use crate::support::record::parse;
use crate::support::sekisho::{binary, prepare, spawn, text};
use crate::support::{Config, Origin, until, within};
use crate::upgrade::{assert_each_ends_once, gone};

/// A root with the units, the targets they name, and something to execute at every path they name.
fn staged() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    let units = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&units).expect("made");
    let files = |folder: &Path| fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let targets =
        files(Path::new("/usr/lib/systemd/system")).filter(|path| path.extension().is_some_and(|end| end == "target"));
    for path in files(&shipped("systemd")).filter(|path| path.is_file()).chain(targets) {
        fs::copy(&path, units.join(path.file_name().expect("a name"))).expect("copied");
    }
    for program in ["usr/bin/sekisho", "usr/sbin/nft", "usr/lib/sekisho/crl-fetch", "bin/kill", "bin/sh"] {
        let path = root.path().join(program);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, "").expect("written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    }
    root
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(shipped("systemd")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    if !have("units", &["systemd-analyze"]) {
        return;
    }
    let root = staged();
    let verify = || {
        let root = format!("--root={}", root.path().display());
        good(&run(Command::new("systemd-analyze").args(["verify", "--man=no", &root]).args(names())))
    };
    assert_eq!(names().len(), 7, "{:?}", names());
    assert_eq!(verify(), "");
    // It speaks where there is something.
    let unit = root.path().join("usr/lib/systemd/system/sekisho.service");
    let changed = fs::read_to_string(&unit).expect("the unit").replace("Restart=always", "Restrt=always");
    fs::write(&unit, changed).expect("written");
    assert!(verify().contains("Unknown key 'Restrt'"));
}

/// `systemd-analyze security` goes from 0 (closed) to 10.
#[test]
fn the_service_is_exposed_to_little() {
    if !have("exposure", &["systemd-analyze"]) {
        return;
    }
    for (unit, most) in [
        ("sekisho.service", 1.4),
        ("sekisho-crl-fetch.service", 1.5),
        ("sekisho-catalog-fetch.service", 2.5),
        ("sekisho-nftables.service", 3.5),
    ] {
        let unit = shipped("systemd").join(unit);
        let said = good(&run(Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(&unit)));
        let (_, level) = said.split_once("Overall exposure level for ").expect("a level");
        let level = level.split_whitespace().nth(1).expect("a level");
        assert!(level.parse::<f64>().expect("a number") <= most, "{}: {level}", unit.display());
    }
}

/// The service below `systemd-socket-activate`, which starts it with the first connection.
struct Activated {
    child: Child,
    notify: UnixDatagram,
    dir: tempfile::TempDir,
    listener: SocketAddr,
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Activated {
    /// The issuing key lies where `LoadCredential=` would put it, and nowhere else.
    fn new(config: &Config) -> Self {
        let (dir, listeners, _) = prepare(config);
        let credentials = dir.path().join("credentials");
        fs::create_dir(&credentials).expect("made");
        let key = credentials.join("ca-key");
        fs::rename(dir.path().join("ca.key"), &key).expect("moved");
        // As systemd leaves it where it sets an access control list.
        fs::set_permissions(&key, PermissionsExt::from_mode(0o440)).expect("mode");
        let file = dir.path().join("sekisho.toml");
        let rendered = fs::read_to_string(&file).expect("the file");
        let named = rendered.replace("key = \"ca.key\"", &format!("key = {:?}", key.display().to_string()));
        assert_ne!(named, rendered);
        fs::write(&file, named).expect("written");
        let notify = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        notify.set_nonblocking(true).expect("a mode");
        let stderr = fs::File::create(dir.path().join("stderr.log")).expect("a file");
        let child = Command::new("systemd-socket-activate")
            .args(["-l", &listeners[0].to_string(), "-E", "NO_COLOR=1", "-E", "WATCHDOG_USEC=30000000"])
            .arg(format!("-ENOTIFY_SOCKET={}", dir.path().join("notify").display()))
            .arg(format!("-ECREDENTIALS_DIRECTORY={}", credentials.display()))
            .arg(binary())
            .args(["run", "--config", "sekisho.toml"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("it starts");
        Self { child, notify, dir, listener: listeners[0] }
    }

    /// Waits for a message with this line.
    async fn told(&self, line: &str) {
        until(&format!("{line}: {}", self.stderr()), || {
            let mut octets = [0; 4096];
            let length = self.notify.recv(&mut octets).ok()?;
            text(&octets[..length]).lines().any(|told| told == line).then_some(())
        })
        .await;
    }

    /// A client's connection to this name, which one request was answered on.
    async fn serves(&self, origin: &Origin, name: &str, root: &str) -> Wire<TlsStream<TcpStream>> {
        let authority = origin.at(name);
        let mut wire = within("the socket", async {
            loop {
                match connect(self.listener).await {
                    Ok(wire) => return wire,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        assert_eq!(wire.response("CONNECT").await.status, 200, "{}", self.stderr());
        let root = fs::read_to_string(self.dir.path().join(root)).expect("the root");
        let mut tls = Tls::named(name).trusting(&root).alpn(&["http/1.1"]).over(wire).await;
        assert_eq!(tls.get(&authority, "/").await.expect("an answer").text(), "origin saw GET /");
        tls
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr.log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }
}

#[tokio::test]
async fn a_client_waits_in_the_socket_and_systemd_is_told() {
    if !have("socket activation", &["systemd-socket-activate"]) {
        return;
    }
    let origin = Origin::https(&["inspected.test"]).start().await;
    let mut service = Activated::new(&Config::new().inspect("inspected.test", &origin));
    service.serves(&origin, "inspected.test", "ca-root.pem").await.bye().await;
    service.told("READY=1").await;
    service.told("WATCHDOG=1").await;
    service.signal(Signal::HUP);
    service.told("RELOADING=1").await;
    service.told("READY=1").await;
    // The socket of the service manager is still the one that is accepted on.
    drop(connect(service.listener).await.expect("a connection"));
    service.signal(Signal::TERM);
    service.told("STOPPING=1").await;
    let status = until("the end", || service.child.try_wait().expect("wait")).await;
    assert!(status.success(), "{status}: {}", service.stderr());
    let record = fs::read_to_string(service.dir.path().join("access.jsonl")).expect("the record");
    let outcomes: Vec<String> = parse(&record)
        .iter()
        .filter(|record| record.is_terminal())
        .map(|record| format!("{} {}", record.action(), record.text("event.outcome")))
        .collect();
    assert_eq!(outcomes[..2], ["request allowed", "connection allowed"], "{record}");
}

/// The successor is no child of the service manager's, and has the manager's socket all the same.
#[tokio::test]
async fn l07_what_the_service_manager_has_started_gives_its_place_to_another() {
    if !have("an upgrade behind socket activation", &["systemd-socket-activate"]) {
        return;
    }
    let origin = Origin::https(&["inspected.test", "tunnelled.test"]).alpn(&["http/1.1"]).start().await;
    let config = Config::new().inspect("inspected.test", &origin).tunnel("tunnelled.test", &origin);
    let mut service = Activated::new(&config.set("control", "socket", "\"control.sock\""));
    let mut stays = service.serves(&origin, "tunnelled.test", "origins.pem").await;
    let credentials = service.dir.path().join("credentials").into_os_string();
    let environment = [("CREDENTIALS_DIRECTORY", credentials)];
    let new = spawn(service.dir.path(), &["--take-over"], &environment, None);
    let old = std::mem::replace(&mut service.child, new);
    gone(old).await;
    let answer = stays.get(&origin.at("tunnelled.test"), "/again").await.expect("an answer");
    assert_eq!(answer.text(), "origin saw GET /again");
    stays.bye().await;
    for (name, root) in [("inspected.test", "ca-root.pem"), ("tunnelled.test", "origins.pem")] {
        service.serves(&origin, name, root).await.bye().await;
    }
    service.signal(Signal::TERM);
    let status = until("the end", || service.child.try_wait().expect("wait")).await;
    assert!(status.success(), "{status}: {}", service.stderr());
    let records = parse(&fs::read_to_string(service.dir.path().join("access.jsonl")).expect("the record"));
    let ended: Vec<_> = records.iter().filter(|record| record.is_terminal()).collect();
    assert_eq!(ended.len(), 4, "{ended:#?}");
    ended.iter().for_each(|record| assert_eq!(record.text("event.outcome"), "allowed", "{record:?}"));
    assert_each_ends_once(&records);
}
