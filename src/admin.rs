//! The admin listener: `/livez`, `/readyz`, `/metrics`. Read-only, and nothing of policy, keys or clients is in any answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::autoconfig::{Counts, plain};
use crate::connection::Gate;
use crate::pressure::State as Load;
use crate::proof::Standing;
use crate::record::{State, WhenUnwritable};
use crate::restrict::Restriction;
use crate::sockets::Failures;
use crate::telemetry::Health;

mod metrics;

/// Connections served at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// A whole admin connection, from accept to close.
const LIFE: Duration = Duration::from_secs(60);
const HEAD: Duration = Duration::from_secs(5);

/// What the listener may look at.
#[derive(Clone)]
pub struct Views {
    pub health: Arc<Health>,
    pub gate: Arc<Gate>,
    pub scripts: Arc<Counts>,
    pub proof: Arc<Standing>,
    pub restriction: Arc<ArcSwap<Restriction>>,
}

/// Serves until it is aborted; its connections end with it.
pub async fn serve(listener: TcpListener, views: Views) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut failures = Failures::default();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if failures.are_new() {
                    tracing::warn!(%error, "admin accept failed, and is tried again 20 times a second");
                }
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let views = views.clone();
        connections.spawn(async move {
            let _ = timeout(LIFE, connection(stream, views)).await;
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, views: Views) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &views);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 * 1024);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "admin connection ended");
    }
}

fn answer(request: &Request<Incoming>, views: &Views) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
    }
    let on_loopback = views.gate.live().config.admin.is_some_and(|address| address.ip().is_loopback());
    if let Err(why) = is_no_foreign_page(request.headers(), on_loopback) {
        return plain(StatusCode::FORBIDDEN, format!("{why}\n"));
    }
    match request.uri().path() {
        "/livez" => plain(StatusCode::OK, "ok\n".into()),
        "/readyz" => {
            let (status, body) = readiness(views);
            plain(status, body)
        }
        "/metrics" => {
            let mut answer = plain(StatusCode::OK, metrics::text(views));
            let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            answer
        }
        _ => plain(StatusCode::NOT_FOUND, "not found: /livez, /readyz and /metrics are here\n".into()),
    }
}

/// A page of somebody else's in a browser of this machine must not read what is here: not by a request of its own (`Origin`), and not
/// by a name of its own that it has made to lead here (DNS rebinding, M02). On loopback nothing but the machine itself is meant.
fn is_no_foreign_page(fields: &HeaderMap, on_loopback: bool) -> Result<(), &'static str> {
    if fields.contains_key(header::ORIGIN) {
        return Err("not for pages: the request has an Origin");
    }
    if !on_loopback {
        return Ok(());
    }
    for host in fields.get_all(header::HOST) {
        let name = host.to_str().ok().and_then(|host| host.parse::<http::uri::Authority>().ok());
        let is_here = name.is_some_and(|name| {
            let name = name.host();
            let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
            literal.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
        });
        if !is_here {
            return Err("Host is another's: ask for an IP address or localhost");
        }
    }
    Ok(())
}

/// What `/readyz` says: 503 only where new traffic cannot be served safely, or is not served at all; a failed reload is told in the body of a 200, and
/// so is shedding: whoever asks little is still served, and to send everybody elsewhere would overload that place too.
pub fn readiness(views: &Views) -> (StatusCode, String) {
    let unready = |word: &str| (StatusCode::SERVICE_UNAVAILABLE, word.to_owned());
    if !views.health.is_started() {
        return unready("starting\n");
    }
    if views.gate.drain().is_draining() {
        return unready("draining\n");
    }
    if views.health.unproven().is_some() {
        return unready("self_probe_failed\n");
    }
    if views.health.minting_stalled().is_some() {
        return unready("minting_stalled\n");
    }
    if views.proof.is_failed() {
        return unready("tenant_proof_failed\n");
    }
    let recorded = views.gate.recorder().state();
    if recorded == State::Unwritable(WhenUnwritable::Deny) {
        return unready("record_unavailable\n");
    }
    let (assessment, _) = views.gate.pressure().last();
    let cause = assessment.cause().map_or("", |cause| cause.as_str());
    let load = format!("{}: {cause}\n", assessment.state().as_str());
    if assessment.state() == Load::Refusing {
        return unready(&load);
    }
    let degraded = match (recorded, views.health.degraded()) {
        (State::Unwritable(_), _) => "degraded: the record cannot be written\n",
        // The reason itself may name files and rules: it is in the log and the record, not here.
        (State::Writable, Some(_)) => "degraded: the last reload failed, the old configuration is in force\n",
        (State::Writable, None) if views.health.last_good().is_some() => {
            "degraded: the configuration file is broken, the last good configuration is in force\n"
        }
        (State::Writable, None) => "",
    };
    let trial = views.health.trial().map_or_else(String::new, |trial| format!("trial: {trial}\n"));
    let shedding = if assessment.state() == Load::Shedding { load } else { String::new() };
    let observing = views.gate.live().observance.until().map_or_else(String::new, |until| {
        format!("observing: names that no service lists are let through until {until}\n")
    });
    let body = format!("{degraded}{trial}{shedding}{observing}");
    (StatusCode::OK, if body.is_empty() { "ok\n".into() } else { body })
}
