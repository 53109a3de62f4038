//! A relay between two raw peers, and what its tests ask of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::io::{AsyncReadExt, duplex};
use tokio::task::JoinHandle;

use super::raw::*;
use super::{Ended, UpstreamError, open_upstream, run};
use crate::addrs::ClientAddr;
use crate::admit::Subjects;
use crate::drain::{Drain, Stopper};
use crate::exchange::patience::Deadlines;
use crate::inspect::scope::{Ruling, Scope};
use crate::names::DnsName;
use crate::policy::{
    Destination, GroupSource, HeaderHosts, HostPattern, Mode, Policy, PolicySource, ServiceSource, SetHeader,
};
use crate::pressure::{self, Ceiling, Pressure};
use crate::record::{self, Fields, Recorder, WhenUnwritable};

pub const HOST: &str = "login.example.jp";
pub const OURS: &str = "restrict-access-to-tenants";
pub const TENANT: &str = "city.example.lg.jp";
pub const IDLE: Duration = Duration::from_secs(120);
pub const RESPONSE: Duration = Duration::from_secs(100);
pub const PROGRESS: Duration = Duration::from_secs(60);
pub const HEAD: Duration = Duration::from_secs(15);
/// Octets a duplex holds each way: what stands for the sockets.
pub const PIPE: usize = 64 * 1024;

pub struct Scene {
    pub client: Raw,
    pub upstream: Raw,
    pub stopper: Stopper,
    pub running: JoinHandle<Result<Ended, UpstreamError>>,
    /// What the client was told.
    pub settings: Vec<(u16, u32)>,
    pub log: Log,
}

/// A connection's scope: for [`HOST`], with one field of ours, and the file its records go to.
pub fn scope(drain: Drain) -> (Arc<Scope>, Log) {
    let name = DnsName::parse(HOST.as_bytes()).expect("a name");
    let ours = SetHeader { name: OURS.to_owned(), value: TENANT.to_owned(), hosts: HeaderHosts::All };
    let service = ServiceSource {
        name: "Sign-in".to_owned(),
        line: 1,
        hosts: vec![(HostPattern::parse(HOST).expect("a pattern"), 1)],
        ports: vec![443],
        mode: Mode::Inspect,
        clients: None,
        plain_http: false,
        headers: vec![ours],
    };
    let networks = vec!["10.0.0.0/8".parse().expect("a network")];
    let groups = vec![GroupSource { name: "office".to_owned(), networks, line: 1 }];
    let policy = Policy::compile(PolicySource { groups, services: vec![service] }).expect("a policy");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.jsonl");
    let settings = record::Settings { path: path.clone(), when_unwritable: WhenUnwritable::Deny };
    let recorder = Recorder::start(settings, Fields::default()).expect("a record");
    let pressure = Pressure::new(&pressure::Settings { memory: Ceiling::OfMachine });
    let scope = Scope {
        client: ClientAddr::new("10.0.0.1:4711".parse().expect("a socket")),
        destination: Destination::new(name, 443),
        ruling: Arc::new(ArcSwap::from_pointee(Ruling { policy: Arc::new(policy), revision: "1".into() })),
        reloads: tokio::sync::watch::Sender::new(0).subscribe(),
        subjects: Subjects::unlimited(),
        pressure: Arc::clone(&pressure),
        recorder: recorder.clone(),
        drain,
        deadlines: Deadlines { idle: IDLE, response: RESPONSE, progress: PROGRESS },
        common: Fields::default(),
        connection: Arc::default(),
        standing: ArcSwapOption::empty(),
        withdrawn: false.into(),
        limited: 0.into(),
        refusal: None,
    };
    (Arc::new(scope), Log { recorder, path, pressure, _folder: folder })
}

/// The record of a scene.
pub struct Log {
    recorder: Recorder,
    path: PathBuf,
    pressure: Arc<Pressure>,
    _folder: tempfile::TempDir,
}

impl Log {
    /// The terminal records so far, in a few words each. The wait for the writer's thread is real time, in which paused time
    /// stands still: nothing advances it while a blocking task runs.
    pub async fn lines(&self) -> Vec<String> {
        let (recorder, runtime) = (self.recorder.clone(), tokio::runtime::Handle::current());
        tokio::task::spawn_blocking(move || runtime.block_on(recorder.flush())).await.expect("flushed");
        let text = std::fs::read_to_string(&self.path).expect("the record");
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line));
        records.filter(|record| record["event.action"] == "request").map(|record| in_words(&record)).collect()
    }
}

fn in_words(record: &serde_json::Value) -> String {
    format!(
        "{} {} {} sent={} received={}",
        record["http.response.status_code"].as_u64().unwrap_or_default(),
        record["event.outcome"].as_str().expect("an outcome"),
        record["event.reason"].as_str().unwrap_or("-"),
        record["source.bytes"],
        record["destination.bytes"],
    )
}

/// A client and an upstream without wishes of their own.
pub async fn scene() -> Scene {
    with(&[], &[]).await
}

pub async fn with(client_settings: &[(u16, u32)], upstream_settings: &[(u16, u32)]) -> Scene {
    let (client, client_io) = duplex(PIPE);
    let (upstream, upstream_io) = duplex(PIPE);
    let (stopper, drain) = Stopper::new();
    let (scope, log) = scope(drain);
    let running = tokio::spawn(async move {
        let upstream = open_upstream(upstream_io).await?;
        Ok(run(scope, client_io, upstream, HEAD).await)
    });
    let mut scene =
        Scene { client: Raw::new(client), upstream: Raw::new(upstream), stopper, running, settings: Vec::new(), log };
    scene.client.preface(client_settings).await;
    let mut preface = [0; 24];
    scene.upstream.io.read_exact(&mut preface).await.expect("a preface");
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    scene.upstream.send(&settings(upstream_settings)).await;
    // The relay has greeted the client once its SETTINGS are here.
    match scene.client.any().await {
        Got::Settings(settings) => scene.settings = settings,
        other => panic!("SETTINGS come first: {other:?}"),
    }
    scene
}

/// A request head of `method` for `path` with `more` fields, the authority being right.
pub fn asking<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path)];
    [&pseudo[..], more].concat()
}

impl Scene {
    /// The client sends a request without content.
    pub async fn get(&mut self, stream: u32, path: &str) {
        self.client.send(&headers(stream, END_STREAM, &asking("GET", path, &[]))).await;
    }

    /// The client begins a request with content.
    pub async fn post(&mut self, stream: u32, more: &[(&str, &str)]) {
        self.client.send(&headers(stream, 0, &asking("POST", "/post", more))).await;
    }

    /// A whole exchange, to show that the connection still carries one.
    pub async fn still_works(&mut self, stream: u32) {
        self.get(stream, "/still").await;
        let (at, fields, end) = self.upstream.head().await;
        assert_eq!((get(&fields, ":path"), end), ("/still", true));
        assert_eq!(all(&fields, OURS), [TENANT]);
        self.upstream.send(&headers(at, END_STREAM, &[(":status", "200")])).await;
        assert_eq!(self.client.answer().await, (stream, "200".to_owned(), Vec::new()));
    }

    /// From here on memory has room for so many octets more.
    pub fn leave_room_for(&self, octets: u64) {
        let memory = self.log.pressure.memory();
        memory.set_ceiling(Some(memory.baseline() + (memory.charged() + octets) * 4 / 3 + 4));
    }

    /// The first `count` records, waited for.
    pub async fn records(&self, count: usize) -> Vec<String> {
        for _ in 0..1000 {
            let lines = self.log.lines().await;
            if lines.len() >= count {
                return lines;
            }
            tokio::task::yield_now().await;
        }
        panic!("{count} records were due: {:?}", self.log.lines().await);
    }

    pub async fn record(&self) -> String {
        self.records(1).await.swap_remove(0)
    }

    pub async fn ended(self) -> Ended {
        self.ended_and_recorded().await.0
    }

    /// How the connection ended, and every record its requests left.
    pub async fn ended_and_recorded(self) -> (Ended, Vec<String>) {
        let Self { client, upstream, running, stopper, log, .. } = self;
        drop((client, upstream));
        let ended = running.await.expect("no panic").expect("an upstream");
        drop(stopper);
        (ended, log.lines().await)
    }
}
