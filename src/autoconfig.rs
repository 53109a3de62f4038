//! The listener that hands out the script for browsers (`[pac] address`): `/proxy.pac` and `/wpad.dat`, to `[[clients]]` only.
//!
//! Everybody has the script of his group and network. One is made when it is first asked for and kept until the configuration is
//! replaced: there are no more than groups times networks, and a million names are compiled once.
//!
//! A client has a slot of `[limits]` like at the proxy, and few connections here; a stranger is told so in places of his own. One too many
//! is closed at once. What is asked for here leaves no line in the access record: nothing is reached by it. It is counted.
//!
//! | file | is |
//! |---|---|
//! | `places` | who may be connected, and for how long |
//! | `shelf` | the scripts, each made once |

mod places;
mod shelf;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::places::Places;
use self::shelf::{Page, Shelf};
use crate::addrs::ClientAddr;
use crate::connection::Gate;
use crate::sockets::{Failures, is_beyond};

const HEAD: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of a descriptor or memory: the next one would fail as well.
const PAUSE_FAILED: Duration = Duration::from_millis(50);
/// Pause after a connection for which there was no descriptor to spare.
const PAUSE_REFUSED: Duration = Duration::from_millis(1);
/// Chromium's limit (`kDefaultMaxResponseBytes`, net/proxy_resolution/pac_file_fetcher_impl.cc); others' are not larger.
pub const MOST: usize = 1 << 20;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The script, whole.
    Script,
    /// The client has it already.
    Unchanged,
    /// Another path or method.
    Astray,
    /// From no `[[clients]]`, over a limit, or more than there is a descriptor for.
    Refused,
    /// The script is larger than browsers take.
    TooLarge,
}

impl Served {
    pub const ALL: [Self; 5] = [Self::Script, Self::Unchanged, Self::Astray, Self::Refused, Self::TooLarge];

    /// The word of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Unchanged => "unchanged",
            Self::Astray => "astray",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
        }
    }
}

/// How often each came about. Outlives listeners.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; Served::ALL.len()]);

impl Counts {
    fn note(&self, served: Served) {
        self.0[served as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn each(&self) -> impl Iterator<Item = (Served, u64)> {
        Served::ALL.into_iter().map(|served| (served, self.0[served as usize].load(Ordering::Relaxed)))
    }
}

/// Serves until it is aborted; its connections end with it.
pub async fn serve(listener: TcpListener, gate: Arc<Gate>, counts: Arc<Counts>) {
    let office = Arc::new(Office { gate, counts, shelf: Shelf::default() });
    let places = Places::new();
    let mut connections = JoinSet::new();
    let mut failures = Failures::default();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if failures.are_new() {
                    tracing::warn!(%error, "PAC accept failed, and is tried again 20 times a second");
                }
                office.gate.pressure().accept_failed();
                sleep(PAUSE_FAILED).await;
                continue;
            }
        };
        if is_beyond(&stream) {
            drop(stream);
            office.counts.note(Served::Refused);
            sleep(PAUSE_REFUSED).await;
            continue;
        }
        let client = ClientAddr::new(peer);
        let place = if office.gate.live().config.policy.group_of(client).is_some() {
            places.client(office.gate.limits().key_of(client)).await
        } else {
            places.stranger()
        };
        let Some(place) = place else {
            office.counts.note(Served::Refused);
            continue;
        };
        let office = Arc::clone(&office);
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, client, office) => {}
                () = place.over() => {}
            }
        });
    }
}

/// All that connections share.
struct Office {
    gate: Arc<Gate>,
    counts: Arc<Counts>,
    shelf: Shelf,
}

async fn connection(stream: TcpStream, client: ClientAddr, office: Arc<Office>) {
    let service = service_fn(move |request| {
        let office = Arc::clone(&office);
        async move {
            let (served, answer) = answer(&request, client, &office).await;
            office.counts.note(served);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 * 1024);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, %client, "PAC connection ended");
    }
}

async fn answer(request: &Request<Incoming>, client: ClientAddr, office: &Office) -> (Served, Response<Full<Bytes>>) {
    let live = office.gate.live();
    let Some(group) = live.config.policy.group_of(client) else {
        let text = format!("{} is in no [[clients]] of this proxy\n", client.ip());
        return (Served::Refused, plain(StatusCode::FORBIDDEN, text));
    };
    // For as long as the answer takes to make; what is sent is small.
    let Ok(_admission) = office.gate.limits().admit(client, Some(group)) else {
        return (
            Served::Refused,
            plain(StatusCode::TOO_MANY_REQUESTS, "too many connections of this address\n".into()),
        );
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return (Served::Astray, answer);
    }
    if !matches!(request.uri().path(), "/proxy.pac" | "/wpad.dat") {
        let text = "not found: /proxy.pac and /wpad.dat are here\n";
        return (Served::Astray, plain(StatusCode::NOT_FOUND, text.into()));
    }
    match office.shelf.page(&office.gate, client).await {
        Some(page) => script(&page, request.headers()),
        None => {
            let text = "the script is larger than browsers take: see the log of the proxy\n";
            (Served::TooLarge, plain(StatusCode::INTERNAL_SERVER_ERROR, text.into()))
        }
    }
}

fn script(page: &Page, asked: &HeaderMap) -> (Served, Response<Full<Bytes>>) {
    let zipped = takes_gzip(asked);
    let tag = &page.tags[usize::from(zipped)];
    let known = page.tags.iter().any(|tag| names(asked, tag));
    let mut answer = Response::new(Full::default());
    let fields = answer.headers_mut();
    fields.insert(header::ETAG, tag.clone());
    // It depends on who asks and is to be asked for anew: a policy that was tightened has to reach browsers.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return (Served::Unchanged, answer);
    }
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ns-proxy-autoconfig"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if zipped {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let body = if zipped { &page.zipped } else { &page.text };
    (Served::Script, answer.map(|_| Full::new(body.clone())))
}

/// Whether gzip is named, or everything is, and not with a weight of nothing (RFC 9110 section 12.5.3).
fn takes_gzip(asked: &HeaderMap) -> bool {
    let codings = items(asked, &header::ACCEPT_ENCODING).filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next()?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let nothing = weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0));
        Some((coding, !nothing))
    });
    let named =
        |wanted: &str| codings.clone().find(|(coding, _)| coding.eq_ignore_ascii_case(wanted)).map(|(_, taken)| taken);
    named("gzip").or_else(|| named("x-gzip")).or_else(|| named("*")).unwrap_or(false)
}

/// Whether `If-None-Match` names this entity tag, by the weak comparison (RFC 9110 section 13.1.2).
fn names(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    items(asked, &header::IF_NONE_MATCH)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item).as_bytes() == tag.as_bytes())
}

/// The members of a list field, over all its lines.
fn items<'h>(asked: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> + Clone {
    let lines = asked.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>();
    lines.into_iter().flat_map(|line| line.split(',')).map(str::trim)
}

/// An answer in words.
pub(crate) fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests;
