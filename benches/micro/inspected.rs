//! What inspection does beside TLS: a leaf made, heads rewritten, one request of a kept connection from end to end.

use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::BytesMut;
use sekisho::admit::Subjects;
use sekisho::drain::{Drain, Stopper};
use sekisho::exchange::Exchange;
use sekisho::exchange::fields::response_field_passes;
use sekisho::exchange::patience::Deadlines;
use sekisho::forward::{Hop, Leg, Terms, write_head};
use sekisho::http1::{Connection, Limits, Method, RequestHead, RequestReader, ResponseReader, write_response};
use sekisho::inspect::authority::{self, InitRequest};
use sekisho::inspect::issuer::Issuer;
use sekisho::inspect::scope::{Ruling, Scope, restrictions};
use sekisho::inspect::{Ended, h1};
use sekisho::names::{Authority, Host};
use sekisho::policy::{Claim, Decision, Inspect, Mode, Permit, Policy};
use sekisho::pressure::{self, Ceiling, Pressure};
use sekisho::reason::Side;
use sekisho::record::{Action, Fields, Recorder};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ruling::{client, dns_name, policy, recorder, runtime};
use crate::{Work, repeat};

const HOST: &str = "login.microsoftonline.example";
const IDLE: Duration = Duration::from_secs(120);
const DEADLINES: Deadlines = Deadlines { idle: IDLE, response: IDLE, progress: IDLE };

/// A browser's, with one field that ends at this hop and one that must not pass for ours.
const REQUEST: &[u8] = b"GET /common/oauth2/v2.0/authorize?client_id=4765445b&response_type=code&scope=openid HTTP/1.1\r\n\
    Host: login.microsoftonline.example\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"141\", \"Not?A_Brand\";v=\"8\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Windows\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Restrict_Access-To-Tenants: elsewhere.example\r\n\
    Sec-Fetch-Site: none\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: ja,en-US;q=0.9,en;q=0.8\r\n\
    Cookie: buid=0.AXEA3w; fpc=AqZx9; esctx=PAQABBwEAAABVrSpeuWamRam2jAF1XRQE; x-ms-gateway-slice=estsfd\r\n\r\n";

/// A small answer with its content, of [`CONTENT`] octets.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Cache-Control: no-store, no-cache\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Alt-Svc: h3=\":443\"; ma=86400\r\n\
    P3P: CP=\"DSP CUR OTPi IND OTRi ONL FIN\"\r\n\
    Set-Cookie: fpc=AqZx9; expires=Wed, 23-Dec-2026 09:00:00 GMT; path=/; secure; HttpOnly; SameSite=None\r\n\
    Date: Mon, 23 Nov 2026 09:00:00 GMT\r\n\
    Content-Length: 64\r\n\r\n\
    {\"token_type\":\"Bearer\",\"expires_in\":3599,\"ext_expires_in\":3599 }";

const CONTENT: u64 = 64;

/// With a P-256 issuing key, as `ca init` makes it.
pub fn leaf_mint() -> Work {
    let folder = tempfile::tempdir().expect("a folder");
    let now = SystemTime::now();
    let (certificate, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
    let request = InitRequest {
        certificate: certificate.clone(),
        key: key.clone(),
        site: "Example City".to_owned(),
        permitted: vec![HOST.to_owned()],
        days: 730,
        now,
    };
    authority::init(&request).expect("an issuing CA");
    let issuer = Issuer::load(&certificate, &key, now).expect("an issuer");
    let name = dns_name(HOST);
    repeat(move |_| black_box(issuer.mint(black_box(&name), now)).is_ok())
}

/// The head of a request as the upstream gets it: hop-by-hop fields and copies of ours removed, ours set.
pub fn request_head_rewrite() -> Work {
    let (recorder, folder) = recorder();
    let attempt = runtime().block_on(recorder.begin(Action::Request));
    let set = Arc::new(restrictions(&permit(&inspecting()), &inspecting()).expect("fields"));
    let exchange = Exchange::new(attempt, Ok(()), set, HOST.into(), Arc::default());
    let (limits, subjects) = (Limits::default(), Subjects::unlimited());
    let terms = Terms { deadlines: DEADLINES, hop: Hop::Inspected, limits, subjects };
    let head = request_head();
    repeat(move |_| {
        // The folder lives as long as its writer.
        let _folder = &folder;
        let mut out = BytesMut::with_capacity(1024);
        let written = write_head(black_box(&head), &exchange, &terms, &mut out);
        written.is_ok() && !black_box(out).is_empty()
    })
}

fn request_head() -> RequestHead {
    let mut buffer = BytesMut::from(REQUEST);
    RequestReader::default().read(&mut buffer, &Limits::default()).expect("a head").expect("all of it")
}

fn inspecting() -> Policy {
    policy(&[HOST.to_owned()], Mode::Inspect)
}

fn permit(policy: &Policy) -> Permit<Inspect> {
    let claim = Claim::Connect(Authority { host: Host::Name(dns_name(HOST)), port: 443 });
    match policy.decide(client(), &claim) {
        Decision::Inspect(permit) => permit,
        other => panic!("the policy inspects {HOST}: {other:?}"),
    }
}

/// The head of an answer read, and written for the client.
pub fn response_head() -> Work {
    repeat(|_| {
        let mut buffer = BytesMut::from(black_box(RESPONSE));
        let read = ResponseReader::default().read(&mut buffer, &Method::Get, &Limits::default());
        let head = read.expect("a head").expect("all of it");
        let mut out = BytesMut::with_capacity(1024);
        let options: Vec<&[u8]> = head.connection_options().collect();
        let fields = head.fields().filter(|(name, _)| response_field_passes(name, options.iter().copied()));
        let (status, phrase, framing) = (head.status(), head.reason_phrase(), head.declared_framing());
        let written = write_response(&mut out, status, phrase, fields, framing, Connection::Persist);
        written.is_ok() && !black_box(out).is_empty()
    })
}

/// One request and its answer on a kept inspected connection, TLS and sockets left out: read, judged, rewritten, answered,
/// recorded.
pub fn h1_exchange() -> Work {
    let (recorder, folder) = recorder();
    let (stopper, drain) = Stopper::new();
    let scope = scope(recorder, drain);
    let runtime = runtime();
    Box::new(move |times| {
        let _kept: (&TempDir, &Stopper) = (&folder, &stopper);
        let client = Leg::new(Peer::new(REQUEST, Turn::First, times), BytesMut::new());
        let upstream = Leg::new(Peer::new(RESPONSE, Turn::Second, u64::MAX), BytesMut::new());
        let (_, before) = scope.connection.octets();
        let ended = runtime.block_on(h1::run(&scope, client, upstream, IDLE));
        assert_eq!(ended, Ended { side: Side::Client, reason: None });
        let (_, received) = scope.connection.octets();
        assert_eq!(received - before, times * CONTENT, "every request was answered by the upstream");
    })
}

fn scope(recorder: Recorder, drain: Drain) -> Scope {
    let policy = Arc::new(inspecting());
    let mut common = Fields::default();
    common.domain = Some(HOST.into());
    common.mode = Some("inspect");
    Scope {
        client: client(),
        destination: permit(&policy).destination().clone(),
        ruling: Arc::new(ArcSwap::from_pointee(Ruling { policy, revision: "4f2a90c1".into() })),
        reloads: tokio::sync::watch::Sender::new(0).subscribe(),
        subjects: Subjects::unlimited(),
        pressure: Pressure::new(&pressure::Settings { memory: Ceiling::OfMachine }),
        recorder,
        drain,
        deadlines: DEADLINES,
        common,
        connection: Arc::default(),
        standing: ArcSwapOption::empty(),
        withdrawn: false.into(),
        limited: 0.into(),
        refusal: None,
    }
}

#[derive(PartialEq, Eq)]
enum Turn {
    /// Speaks without being spoken to.
    First,
    Second,
}

/// A peer in memory that says the same thing in each of its turns, and hangs up behind the answer to the last.
struct Peer {
    message: &'static [u8],
    turns: u64,
    speaks: bool,
    heard: bool,
    over: bool,
    waiting: Option<Waker>,
}

impl Peer {
    fn new(message: &'static [u8], turn: Turn, turns: u64) -> Self {
        Self { message, turns, speaks: turn == Turn::First, heard: false, over: false, waiting: None }
    }
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        if !self.speaks {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        (self.speaks, self.turns) = (false, self.turns - 1);
        into.put_slice(self.message);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.heard = true;
        Poll::Ready(Ok(black_box(octets).len()))
    }

    /// Whatever is flushed is whole: the message it waited for.
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.heard) {
            (self.speaks, self.over) = (self.turns > 0, self.turns == 0);
            if let Some(waiting) = self.waiting.take() {
                waiting.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
