//! Only the proxy as a process belongs here: started, signalled, read (record, metrics, standard error) and ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::client::{Response, Wire, connect};
use super::netns::Namespace;
use super::record::{Record, parse};
use super::toml::Config;
use super::{PATIENCE, pki, until};

/// A running `sekisho run`.
pub struct Sekisho {
    pub dir: TempDir,
    child: Child,
    environment: Vec<(&'static str, OsString)>,
    pub listeners: Vec<SocketAddr>,
    pub admin: SocketAddr,
    taken: Vec<u64>,
    exited: Option<ExitStatus>,
    killed: bool,
    /// `None`: this one.
    namespace: Option<Namespace>,
}

pub fn binary() -> PathBuf {
    std::env::var_os("SEKISHO_BIN").map_or_else(|| env!("CARGO_BIN_EXE_sekisho").into(), PathBuf::from)
}

/// A port nothing listens on, from below the kernel's ephemeral range, never given twice in this process.
pub fn free_port(ip: &str) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id().wrapping_mul(97);
        let port = 10_000 + u16::try_from(turn % 20_000).expect("small");
        if TcpListener::bind((ip, port)).is_ok() {
            return port;
        }
    }
}

/// `sekisho ARGUMENTS` to its end.
pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// A directory with the test's roots and `config` as `sekisho.toml`; the issuing CA made where something is inspected.
pub fn prepare(config: &Config) -> (TempDir, Vec<SocketAddr>, SocketAddr) {
    let dir = TempDir::new().expect("a directory");
    let listeners: Vec<SocketAddr> =
        config.listeners.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), free_port(ip))).collect();
    let own = || SocketAddr::new("127.0.0.1".parse().expect("an address"), free_port("127.0.0.1"));
    let admin = config.admin.unwrap_or_else(own);
    fs::write(dir.path().join("origins.pem"), pki::root_pem()).expect("origins.pem");
    fs::write(dir.path().join("sekisho.toml"), config.render(&listeners, admin)).expect("sekisho.toml");
    if config.inspects && config.init_ca {
        let made = run(dir.path(), &["ca", "init", "--config", "sekisho.toml"]);
        assert!(made.status.success(), "ca init: {}{}", text(&made.stdout), text(&made.stderr));
    }
    (dir, listeners, admin)
}

/// `record.path` of a record that is [`apart`].
pub const APART: &str = "\"log/access.jsonl\"";

/// A folder of its own for the record, so that the configuration is not the serving process's to write; beside the configuration, where
/// scenes look for the record, is a link.
pub fn apart(dir: &Path) {
    fs::create_dir(dir.join("log")).expect("a folder");
    symlink("log/access.jsonl", dir.join("access.jsonl")).expect("a link");
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Sekisho {
    pub async fn start(config: &Config) -> Self {
        Self::start_with(config, |_| {}).await
    }

    /// As [`Sekisho::start`], after `arrange` has put more into the directory.
    pub async fn start_with(config: &Config, arrange: impl Fn(&Path)) -> Self {
        Self::start_in(config, |dir| {
            arrange(dir);
            Vec::new()
        })
        .await
    }

    /// As [`Sekisho::start_with`], with the environment that `arrange` gives.
    pub async fn start_in(config: &Config, arrange: impl Fn(&Path) -> Vec<(&'static str, OsString)>) -> Self {
        let (dir, listeners, admin) = prepare(config);
        let environment = arrange(dir.path());
        let child = spawn(dir.path(), &[], &environment, None);
        let (taken, exited, killed, namespace) = (Vec::new(), None, false, None);
        let mut sekisho = Self { dir, child, environment, listeners, admin, taken, exited, killed, namespace };
        sekisho.ready().await;
        sekisho
    }

    /// As [`Sekisho::start`], with what a shell is told first, such as `ulimit -n 256`.
    pub async fn start_under(config: &Config, limits: &str) -> Self {
        let (dir, listeners, admin) = prepare(config);
        let child = spawn(dir.path(), &[], &[], Some(limits));
        let (taken, exited, killed, namespace) = (Vec::new(), None, false, None);
        let environment = Vec::new();
        let mut sekisho = Self { dir, child, environment, listeners, admin, taken, exited, killed, namespace };
        sekisho.ready().await;
        sekisho
    }

    /// As [`Sekisho::start`], in this network.
    pub async fn start_inside(config: &Config, namespace: &Namespace) -> Self {
        Self::start_inside_with(config, namespace, |_| {}).await
    }

    /// The same, after `arrange` has put more into the directory.
    pub async fn start_inside_with(config: &Config, namespace: &Namespace, arrange: impl Fn(&Path)) -> Self {
        let (dir, listeners, admin) = prepare(config);
        arrange(dir.path());
        let child = namespace.enter(|| spawn(dir.path(), &[], &[], None));
        let (taken, exited, killed, environment) = (Vec::new(), None, false, Vec::new());
        let namespace = Some(namespace.clone());
        let mut sekisho = Self { dir, child, environment, listeners, admin, taken, exited, killed, namespace };
        sekisho.ready().await;
        sekisho
    }

    /// A new process takes over from this one, which is given back: it ends by itself.
    pub async fn take_over(&mut self) -> Child {
        self.take_over_within(None).await
    }

    /// The same, where the new process has other limits than this one (`ulimit`).
    pub async fn take_over_within(&mut self, limits: Option<&str>) -> Child {
        let starts =
            |records: Vec<Record>| records.iter().filter(|record| record.text("sekisho.lifecycle") == "start").count();
        // A first line may not be written yet.
        self.lifecycle("start", 1).await;
        let before = starts(self.records());
        let mut new = self.spawned(&["--take-over"], limits);
        until("the new process's first line", || {
            if let Some(status) = new.try_wait().expect("wait") {
                panic!("the new process ended with {status}: {}", self.stderr());
            }
            (starts(self.records()) > before).then_some(())
        })
        .await;
        self.becomes(new)
    }

    /// It is this process from here on, which has taken over; the one before is given back.
    pub fn becomes(&mut self, new: Child) -> Child {
        std::mem::replace(&mut self.child, new)
    }

    /// A connection to its admin listener.
    async fn to_admin(&self) -> std::io::Result<Wire<tokio::net::TcpStream>> {
        match &self.namespace {
            Some(namespace) => namespace.connect(self.admin),
            None => connect(self.admin).await,
        }
    }

    /// Starts again in the same directory, on the same ports, with the file as it is.
    pub async fn start_again(&mut self) {
        self.start_again_with(&[]).await;
    }

    /// As [`Sekisho::start_again`], with more arguments of `run`.
    pub async fn start_again_with(&mut self, arguments: &[&str]) {
        self.begin_again(arguments);
        self.ready().await;
    }

    /// As [`Sekisho::start_again_with`], and is not waited for.
    pub fn begin_again(&mut self, arguments: &[&str]) {
        assert!(self.exited.is_some(), "still running");
        self.child = self.spawned(arguments, None);
        (self.exited, self.killed) = (None, false);
        self.taken.clear();
    }

    /// `sekisho run ARGUMENTS`, where this one is.
    fn spawned(&self, arguments: &[&str], limits: Option<&str>) -> Child {
        let spawned = || spawn(self.dir.path(), arguments, &self.environment, limits);
        match &self.namespace {
            Some(namespace) => namespace.enter(spawned),
            None => spawned(),
        }
    }

    async fn ready(&mut self) {
        super::within("readiness", async {
            loop {
                if let Some(status) = self.child.try_wait().expect("wait") {
                    panic!("ended at the start with {status}: {}", self.stderr());
                }
                if let Ok(mut wire) = self.to_admin().await
                    && wire.get("localhost", "/readyz").await.is_some_and(|response| response.status == 200)
                {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub fn addr(&self) -> SocketAddr {
        self.listeners[0]
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The issuing root that clients are given.
    pub fn ca(&self) -> String {
        fs::read_to_string(self.path("ca-root.pem")).expect("ca-root.pem")
    }

    /// A raw connection to the proxy port.
    pub async fn client(&self) -> Wire<tokio::net::TcpStream> {
        connect(self.addr()).await.expect("the proxy accepts")
    }

    /// CONNECT `authority` on a connection of its own, and the answer to it.
    pub async fn connect(&self, authority: &str) -> (Wire<tokio::net::TcpStream>, Response) {
        let mut wire = self.client().await;
        wire.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
        let answer = wire.response("CONNECT").await;
        (wire, answer)
    }

    /// CONNECT that must be answered 200.
    pub async fn tunnel(&self, authority: &str) -> Wire<tokio::net::TcpStream> {
        let (wire, answer) = self.connect(authority).await;
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.stderr());
        wire
    }

    /// CONNECT that must be refused with this status and reason, in the head and in the record.
    pub async fn refused(&mut self, authority: &str, status: u16, reason: &str) -> Record {
        let (_wire, answer) = self.connect(authority).await;
        assert_eq!(answer.status, status, "{authority}: {answer:?}");
        answer.details(reason);
        let record = self.next_connection().await;
        assert_eq!(record.reason(), reason, "{authority}: {record:?}");
        record
    }

    pub fn records(&self) -> Vec<Record> {
        parse(&fs::read_to_string(self.path("access.jsonl")).unwrap_or_default())
    }

    /// The next terminal record of this action that no one has taken.
    pub async fn next(&mut self, action: &str) -> Record {
        let taken = &self.taken;
        let path = self.path("access.jsonl");
        let found = until(&format!("the record of a {action}"), || {
            let records = parse(&fs::read_to_string(&path).unwrap_or_default());
            records.into_iter().find(|record| {
                record.is_terminal() && record.action() == action && !taken.contains(&record.number("event.sequence"))
            })
        })
        .await;
        self.taken.push(found.number("event.sequence"));
        found
    }

    pub async fn next_connection(&mut self) -> Record {
        self.next("connection").await
    }

    pub async fn next_request(&mut self) -> Record {
        self.next("request").await
    }

    /// The lifecycle record with this word that is the `nth` of it, counted from 1.
    pub async fn lifecycle(&self, word: &str, nth: usize) -> Record {
        until(&format!("lifecycle {word}"), || {
            self.records().into_iter().filter(|record| record.text("sekisho.lifecycle") == word).nth(nth - 1)
        })
        .await
    }

    /// Waits until the record is `count` terminal records long.
    pub async fn terminals(&self, action: &str, count: u64) -> Vec<Record> {
        until(&format!("{count} records of a {action}"), || {
            let found: Vec<Record> =
                self.records().into_iter().filter(|record| record.is_terminal() && record.action() == action).collect();
            (found.iter().map(Record::count).sum::<u64>() >= count).then_some(found)
        })
        .await
    }

    /// SIGTERM, exit 0, and every record; a terminal record nobody has taken fails the test.
    pub async fn finish(mut self) -> Vec<Record> {
        self.signal(Signal::TERM);
        let status = self.exit().await;
        assert!(status.success(), "{status}: {}", self.stderr());
        let records = self.records();
        let left: Vec<&Record> = records
            .iter()
            .filter(|record| record.is_terminal() && !self.taken.contains(&record.number("event.sequence")))
            .collect();
        assert!(left.is_empty(), "records nobody asked for: {left:#?}");
        records
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    /// Descriptors open.
    pub fn descriptors(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the process is there").count() as u64
    }

    pub async fn exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = until("the process's end", || child.try_wait().expect("wait")).await;
        self.exited = Some(status);
        status
    }

    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.kill_was_seen().await;
    }

    /// It has been killed by a signal of the scene's.
    pub async fn kill_was_seen(&mut self) {
        self.killed = true;
        self.exit().await;
    }

    /// Writes `config` over the file as one rename, sends SIGHUP, and waits for the reload's record.
    pub async fn reload(&self, config: &Config) {
        self.replace_config(&config.render(&self.listeners, self.admin));
        self.hangup("reload").await;
    }

    /// As [`Sekisho::reload`] with text that must be refused.
    pub async fn reload_refused(&self, text: &str) {
        self.replace_config(text);
        self.hangup("reload_failed").await;
    }

    pub fn replace_config(&self, text: &str) {
        fs::write(self.path("next.toml"), text).expect("write");
        fs::rename(self.path("next.toml"), self.path("sekisho.toml")).expect("rename");
    }

    async fn hangup(&self, word: &str) {
        let before = self.records().iter().filter(|record| record.text("sekisho.lifecycle") == word).count();
        self.signal(Signal::HUP);
        self.lifecycle(word, before + 1).await;
    }

    pub async fn admin(&self, path: &str) -> Response {
        let mut wire = self.to_admin().await.expect("the admin port accepts");
        wire.get("localhost", path).await.expect("an answer")
    }

    /// Samples by their whole name, labels included.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let body = self.admin("/metrics").await.text();
        body.lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').expect("a sample");
                (name.to_owned(), value.parse().expect("a number"))
            })
            .collect()
    }

    /// Waits until so many connections are accepted and not over.
    pub async fn connected(&self, count: u32) {
        super::within(&format!("{count} connections"), async {
            while self.metrics().await["sekisho_connections"] < f64::from(count) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// The metrics once no attempt is in progress.
    pub async fn quiet(&self) -> BTreeMap<String, f64> {
        super::within("no attempt in progress", async {
            loop {
                let metrics = self.metrics().await;
                if metrics.iter().filter(|(name, _)| name.contains("in_progress")).all(|(_, value)| *value == 0.0) {
                    return metrics;
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Attempts minus records is nothing: those of each action, by the counters and by the lines.
    pub async fn conserved(&self) {
        assert_eq!(self.unrecorded().await, 0, "attempts minus records");
    }

    /// Attempts of each action once none is in progress; the counters of their records have to agree.
    pub async fn counted(&self) -> [(&'static str, f64); 2] {
        let metrics = self.quiet().await;
        assert_eq!(metrics["sekisho_record_lost_total"], 0.0);
        ["connection", "request"].map(|action| {
            let attempts = metrics[&format!("sekisho_attempts_total{{action=\"{action}\"}}")];
            let counted = |(name, value): (&String, &f64)| {
                name.starts_with(&format!("sekisho_records_total{{action=\"{action}\"")).then_some(*value)
            };
            assert_eq!(metrics.iter().filter_map(counted).sum::<f64>(), attempts, "{action}s by their counters");
            (action, attempts)
        })
    }

    /// Attempts minus records, by the lines, once no attempt is in progress; the counters have to agree. What is not written yet is
    /// waited for.
    pub async fn unrecorded(&self) -> i64 {
        let counted = self.counted().await;
        let mut left = 0;
        for (action, attempts) in counted {
            let lines = || {
                let records = self.records().into_iter();
                let terminal = records.filter(|record| record.is_terminal() && record.action() == action);
                terminal.map(|record| record.count()).sum::<u64>()
            };
            #[expect(clippy::cast_possible_truncation, reason = "a count")]
            let unwritten = || attempts as i64 - i64::try_from(lines()).expect("a count");
            let written = async {
                while unwritten() != 0 {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            let _ = timeout(PATIENCE, written).await;
            left += unwritten();
        }
        left
    }

    /// Octets resident in memory (proc(5): `VmRSS`).
    pub fn resident(&self) -> u64 {
        self.held_of("VmRSS:")
    }

    /// Octets of its address space (`VmSize`).
    pub fn address_space(&self) -> u64 {
        self.held_of("VmSize:")
    }

    fn held_of(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }
}

pub fn spawn(dir: &Path, arguments: &[&str], environment: &[(&'static str, OsString)], limits: Option<&str>) -> Child {
    let stderr = File::options().create(true).append(true).open(dir.join("stderr.log")).expect("stderr.log");
    let mut command = match limits {
        None => Command::new(binary()),
        Some(limits) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\"")).arg(binary());
            shell
        }
    };
    command
        .args(["run", "--config", "sekisho.toml"])
        .args(arguments)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env_remove("NOTIFY_SOCKET")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the binary starts")
}

impl Drop for Sekisho {
    #[expect(clippy::print_stderr, reason = "what a failed scene leaves behind")]
    fn drop(&mut self) {
        if self.exited.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let stderr = self.stderr();
        if std::thread::panicking() {
            let record = fs::read_to_string(self.path("access.jsonl")).unwrap_or_default();
            if let Some(keep) = std::env::var_os("SEKISHO_KEEP") {
                let _ = fs::write(keep, &record);
            }
            let tail: Vec<&str> = record.lines().rev().take(12).collect();
            eprintln!(
                "--- sekisho's stderr:\n{stderr}\n--- the record's last lines, newest first:\n{}",
                tail.join("\n")
            );
            return;
        }
        assert!(!stderr.contains("panicked"), "sekisho panicked: {stderr}");
        if !self.killed {
            self.records();
        }
    }
}

/// A copy of the binary that other users can run. Another process makes it: who has it open to write keeps it from being run, and a
/// process that this one starts meanwhile would have it open.
pub fn for_everybody(dir: &Path) -> PathBuf {
    let copy = dir.join("sekisho");
    let copied = Command::new("cp").arg(binary()).arg(&copy).status().expect("cp runs");
    assert!(copied.success(), "{copied}");
    set_mode(&copy, 0o755);
    set_mode(dir, 0o755);
    copy
}

/// Permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("stat").permissions().mode() & 0o7777
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}
