//! A relay between two raw peers, and what its tests ask of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, duplex};
use tokio::task::JoinHandle;

use super::raw::*;
use super::{Ended, UpstreamError, open_upstream, run};
use crate::drain::Stopper;
use crate::inspect::exchange::Scope;
use crate::inspect::fields::{Restriction, Restrictions};

pub const HOST: &str = "login.example.jp";
pub const OURS: &str = "restrict-access-to-tenants";
pub const TENANT: &str = "city.example.lg.jp";
pub const IDLE: Duration = Duration::from_secs(120);
/// Octets a duplex holds each way: what stands for the sockets.
pub const PIPE: usize = 64 * 1024;

pub struct Scene {
    pub client: Raw,
    pub upstream: Raw,
    pub stopper: Stopper,
    pub running: JoinHandle<Result<Ended, UpstreamError>>,
    /// What the client was told.
    pub settings: Vec<(u16, u32)>,
    log: Arc<Mutex<Vec<String>>>,
}

/// A client and an upstream without wishes of their own.
pub async fn scene() -> Scene {
    with(&[], &[]).await
}

pub async fn with(client_settings: &[(u16, u32)], upstream_settings: &[(u16, u32)]) -> Scene {
    let (client, client_io) = duplex(PIPE);
    let (upstream, upstream_io) = duplex(PIPE);
    let (stopper, drain) = Stopper::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let ours = Restriction { name: HeaderName::from_static(OURS), value: HeaderValue::from_static(TENANT) };
    let scope = Arc::new(Scope {
        idle: IDLE,
        drain,
        name: HOST.to_owned(),
        restrictions: Arc::new(Restrictions::new(vec![ours])),
        log: log.clone(),
    });
    let running = tokio::spawn(async move {
        let upstream = open_upstream(upstream_io).await?;
        Ok(run(scope, client_io, upstream).await)
    });
    let mut scene = Scene { client: Raw::new(client), upstream: Raw::new(upstream), stopper, running, settings: Vec::new(), log };
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

    /// The first `count` records, waited for.
    pub async fn records(&self, count: usize) -> Vec<String> {
        for _ in 0..1000 {
            let log = self.log.lock().expect("log").clone();
            if log.len() >= count {
                return log;
            }
            tokio::task::yield_now().await;
        }
        panic!("{count} records were due: {:?}", self.log.lock().expect("log"));
    }

    pub async fn record(&self) -> String {
        self.records(1).await.swap_remove(0)
    }

    pub async fn ended(self) -> Ended {
        let Self { client, upstream, running, stopper, .. } = self;
        drop((client, upstream));
        let ended = running.await.expect("no panic").expect("an upstream");
        drop(stopper);
        ended
    }
}

