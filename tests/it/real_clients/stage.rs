//! Only what the real-client scenes stand on belongs here: the programs, the origin made of Node, and the proxy between them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use tempfile::TempDir;

use crate::support::pki::{self, Defect};
use crate::support::{Config, Record, Sekisho, Service};

/// The header of the inspected service.
pub const HEADER: &str = "x-allowed-org";
pub const VALUE: &str = "city";
/// Seconds a client may take before it is ended.
const LIMIT: &str = "60";

/// Whether every program is there; where one is not, says which on standard error, past the test runner's capture.
pub fn have(client: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find(program).is_none());
    if let Some(program) = missing {
        skipped(client, &format!("{program} is not installed; tests/run installs it"));
    }
    missing.is_none()
}

pub fn skipped(client: &str, why: &str) {
    // Not eprintln: what a passing test prints by the macros is never shown.
    let _ = writeln!(std::io::stderr().lock(), "\nSKIPPED real client {client}: {why}");
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Where `tests/run` puts Node's packages.
pub fn node_modules() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-clients/node_modules")
}

/// A file beside this one.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/real_clients").join(name)
}

/// A client with nothing of this machine's environment but the search path.
pub fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "2", LIMIT, program]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a client left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// Runs a client to its end, with `input` on its standard input where there is any.
pub async fn run(mut command: Command, input: &str) -> Ran {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let input = input.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("the client starts");
        if let Some(mut stdin) = child.stdin.take() {
            // A client that ends early has its answer already.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output().expect("the client ends")
    });
    ran.await.expect("the client ran").into()
}

/// One request as Node saw it.
#[derive(Debug, Clone, Deserialize)]
pub struct Arrived {
    /// `1.1` or `2.0`.
    pub version: String,
    pub method: String,
    pub path: String,
    /// `:authority` or `Host`.
    pub host: String,
    /// In order, names in lower case; pseudo-header fields too.
    pub fields: Vec<(String, String)>,
}

impl Arrived {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The tenant header is there once with its value, and nothing else tells of a proxy.
    #[track_caller]
    pub fn is_marked(&self) -> &Self {
        assert_eq!(self.values(HEADER), [VALUE], "{self:?}");
        self.is_untouched_but_for(HEADER)
    }

    #[track_caller]
    pub fn is_unmarked(&self) -> &Self {
        self.is_untouched_but_for("")
    }

    /// Nothing but `except` tells of a proxy.
    #[track_caller]
    pub fn is_untouched_but_for(&self, except: &str) -> &Self {
        let ours = |name: &str| name == HEADER || name == "via" || name == "forwarded";
        let trace = |name: &str| ours(name) || name.starts_with("proxy-") || name.starts_with("x-forwarded");
        let traces: Vec<_> = self.fields.iter().filter(|(name, _)| trace(name) && name != except).collect();
        assert!(traces.is_empty(), "{traces:?} in {self:?}");
        self
    }
}

#[derive(Deserialize)]
struct Listens {
    port: u16,
}

/// What an origin offers by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Both,
    Http1,
}

/// A Node process that serves `origin.mjs`.
pub struct Origin {
    child: Child,
    pub port: u16,
    log: Option<JoinHandle<Vec<Arrived>>>,
    _files: TempDir,
}

impl Origin {
    /// Over TLS.
    pub fn https(names: &[&str], defect: Defect, speaks: Speaks) -> Self {
        let files = TempDir::new().expect("a directory");
        let (certificate, key) = (files.path().join("origin.pem"), files.path().join("origin.key"));
        let leaf = pki::leaf(names, defect);
        fs::write(&certificate, leaf.chain.iter().map(pem).collect::<String>()).expect("the certificate");
        fs::write(&key, armour("PRIVATE KEY", leaf.key.secret_der())).expect("the key");
        match speaks {
            Speaks::Both => Self::start(&[&certificate, &key], files),
            Speaks::Http1 => Self::start(&[&certificate, &key, Path::new("http/1.1")], files),
        }
    }

    /// HTTP/1.1 without TLS.
    pub fn http() -> Self {
        Self::start(&[], TempDir::new().expect("a directory"))
    }

    fn start(arguments: &[&Path], files: TempDir) -> Self {
        let mut command = Command::new("node");
        command.arg(script("origin.mjs")).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("a line").expect("text");
        let Listens { port } = serde_json::from_str(&first).expect("the port");
        let log = std::thread::spawn(move || {
            lines.map(|line| serde_json::from_str(&line.expect("text")).expect("a request")).collect()
        });
        Self { child, port, log: Some(log), _files: files }
    }

    /// Ends the origin and tells what arrived.
    pub fn end(mut self) -> Vec<Arrived> {
        drop(self.child.stdin.take());
        self.child.wait().expect("node ends");
        self.log.take().expect("ended once").join().expect("the log was read")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pem(certificate: &CertificateDer<'static>) -> String {
    armour("CERTIFICATE", certificate)
}

/// PEM (RFC 7468) of DER.
fn armour(label: &str, der: &[u8]) -> String {
    use std::fmt::Write;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let word = three.iter().fold(0u32, |word, octet| word << 8 | u32::from(*octet)) << (8 * (3 - three.len()));
            for place in 0..4 {
                let letter = char::from(ALPHABET[(word >> (18 - 6 * place) & 63) as usize]);
                out.push(if place <= three.len() { letter } else { '=' });
            }
        }
        out.push('\n');
    }
    let _ = writeln!(out, "-----END {label}-----");
    out
}

/// The proxy, and one origin that has two names: `tunnelled.test` and, with the header, `inspected.test`.
pub struct Scene {
    pub sekisho: Sekisho,
    pub origin: Origin,
}

impl Scene {
    pub async fn new() -> Self {
        Self::with(Defect::None, Speaks::Both).await
    }

    pub async fn with(defect: Defect, speaks: Speaks) -> Self {
        let (config, origin) = Self::set(defect, speaks);
        Self { sekisho: Sekisho::start(&config).await, origin }
    }

    /// With a script at `pac` that leads to the proxy for what is permitted, and nowhere for all else.
    pub async fn served(pac: SocketAddr) -> Self {
        let (config, origin) = Self::set(Defect::None, Speaks::Both);
        let config = config.set("pac", "address", &format!("\"{pac}\"")).set("pac", "otherwise", "\"block\"");
        let elsewhere = config.clone().set("pac", "proxies", "[\"127.0.0.1:9\"]");
        let sekisho = Sekisho::start(&elsewhere).await;
        // Its port is known from here on.
        sekisho.reload(&config.set("pac", "proxies", &format!("[\"{}\"]", sekisho.addr()))).await;
        Self { sekisho, origin }
    }

    fn set(defect: Defect, speaks: Speaks) -> (Config, Origin) {
        let names = ["tunnelled.test", "inspected.test"];
        let origin = Origin::https(&names, defect, speaks);
        let config = Config::new()
            .service(Service::tunnel("tunnelled", &["tunnelled.test"], origin.port))
            .service(Service::inspect("inspected", &["inspected.test"], origin.port).header(HEADER, VALUE))
            .hosts(&names);
        (config, origin)
    }

    pub fn proxy(&self) -> String {
        format!("http://{}", self.sekisho.addr())
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.origin.port)
    }

    /// The one root that a client needs for `host`: the issuing root tells an inspected connection from a tunnel.
    pub fn root(&self, host: &str) -> PathBuf {
        self.sekisho.path(if host == "inspected.test" { "ca-root.pem" } else { "origins.pem" })
    }

    /// Ends both; what arrived at the origin, and the whole record.
    pub async fn end(self) -> (Vec<Arrived>, Vec<Record>) {
        let records = end(self.sekisho).await;
        (self.origin.end(), records)
    }
}

/// SIGTERM, exit 0, and the whole record.
pub async fn end(mut sekisho: Sekisho) -> Vec<Record> {
    sekisho.signal(Signal::TERM);
    let status = sekisho.exit().await;
    assert!(status.success(), "{status}: {}", sekisho.stderr());
    sekisho.records()
}

/// The terminal records of `action` about `host`.
pub fn about<'r>(records: &'r [Record], action: &str, host: &str) -> Vec<&'r Record> {
    let wanted =
        |record: &&Record| record.is_terminal() && record.action() == action && record.text("url.domain") == host;
    records.iter().filter(wanted).collect()
}

/// The one terminal record of `action` about `host`.
#[track_caller]
pub fn the<'r>(records: &'r [Record], action: &str, host: &str) -> &'r Record {
    let found = about(records, action, host);
    assert_eq!(found.len(), 1, "{action} to {host}: {records:#?}");
    found[0]
}

/// Allowed, and ended by one of its ends: programs leave as they please, with a close_notify or with a reset. The scene's end may be noticed
/// before theirs on a busy machine.
#[track_caller]
pub fn was_allowed<'r>(records: &'r [Record], action: &str, host: &str) -> &'r Record {
    let record = the(records, action, host);
    let left = ["", "client_closed", "upstream_closed", "shutting_down"].contains(&record.reason());
    assert!(record.outcome() == "allowed" && left, "{record:?}");
    record
}

/// One allowed tunnel to `tunnelled.test`, begun and ended, and no request seen inside.
#[track_caller]
pub fn was_tunnelled(records: &[Record]) {
    was_allowed(records, "connection", "tunnelled.test")
        .with("sekisho.mode", "tunnel")
        .with("tls.client.server_name", "tunnelled.test")
        .with("rule.name", "tunnelled");
    assert_eq!(records.iter().filter(|record| record.action() == "established").count(), 1, "{records:#?}");
    assert!(records.iter().all(|record| record.action() != "request"), "{records:#?}");
}

/// `requests` allowed requests to `inspected.test` on one connection, each with the header set.
#[track_caller]
pub fn was_inspected(records: &[Record], requests: usize) {
    was_allowed(records, "connection", "inspected.test").with("sekisho.mode", "inspect");
    let seen = about(records, "request", "inspected.test");
    assert_eq!(seen.len(), requests, "{records:#?}");
    for record in seen {
        record.says("allowed", "").with("rule.name", "inspected");
        assert_eq!(record.number("http.response.status_code"), 200, "{record:?}");
        let set = serde_json::to_string(&record.0["sekisho.headers_set"]).expect("JSON");
        assert!(set.to_ascii_lowercase().contains(HEADER) && !set.contains(VALUE), "{record:?}");
    }
}
