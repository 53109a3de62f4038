//! Any octets as the frames of an inspected HTTP/2 connection behind its preface, relayed to an upstream in memory: no panic, a
//! record for every request, and what arrives upstream names the one host, carries our tenant field once and as we set it, and no
//! field that is of one hop only (`threats.md` groups E, F and G). The first octet chooses the size of the pieces.
#![no_main]

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use libfuzzer_sys::fuzz_target;
use sekisho::inspect;
use sekisho::inspect::scope::Scope;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use self::stage::{HOST, OURS, Stage, TENANT};

#[expect(clippy::duplicate_mod, reason = "a program of its own, but for the replay")]
#[path = "../stage.rs"]
mod stage;

/// Octets a pipe holds: what stands for the sockets.
const PIPE: usize = 16 * 1024;
/// The preface and an empty SETTINGS (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let Some((piece, frames)) = data.split_first() else { return };
    let stage = STAGE.get_or_init(stage);
    // One input that failed must not make all others fail.
    let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    let (scope, before) = (stage.scope(), stage.requests());
    let seen = stage.runtime.block_on(play(scope, frames, usize::from(*piece).max(1)));
    let after = stage.requests();
    let count = seen.len() as u64;
    assert!(after.allowed - before.allowed <= count, "an answer without a question");
    assert!(count <= after.started - before.started, "{count} went upstream without a record: {seen:?}");
    for request in &seen {
        judge(request);
    }
});

/// An oracle that sees nothing would find nothing.
fn stage() -> Mutex<Stage> {
    // GET of https: and /, and the authority as a literal (RFC 7541 section 6).
    let get = b"\0\0\x15\x01\x05\0\0\0\x01\x82\x87\x84\x41\x10login.example.jp";
    let mut stage = Stage::new("inspect_h2");
    let scope = stage.scope();
    let seen = stage.runtime.block_on(play(scope, get, 8));
    assert_eq!((seen.len(), stage.requests().allowed), (1, 1));
    Mutex::new(stage)
}

/// Plays the connection to its end; the requests that arrived upstream.
async fn play(scope: Arc<Scope>, frames: &[u8], piece: usize) -> Vec<Request<()>> {
    let ((near, client), (far, upstream)) = (duplex(PIPE), duplex(PIPE));
    let (mut answers, mut requests) = tokio::io::split(near);
    let asking = async {
        if requests.write_all(PREFACE).await.is_err() {
            return;
        }
        for part in frames.chunks(piece) {
            if requests.write_all(part).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        // Paused time passes when nothing else is to be done: then everything that is answered at once has been. The other side
        // may have closed first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _ = requests.shutdown().await;
    };
    let relaying = async {
        let upstream = inspect::h2::open_upstream(upstream).await.expect("an upstream that greets");
        inspect::h2::run(scope, client, upstream, Duration::from_secs(15)).await
    };
    let mut answered = Vec::new();
    let (_, _, _, seen) = tokio::join!(relaying, asking, answers.read_to_end(&mut answered), serve(far));
    seen
}

/// An origin that answers each request as soon as its head is there.
async fn serve(io: DuplexStream) -> Vec<Request<()>> {
    let mut seen = Vec::new();
    let Ok(mut connection) = h2::server::handshake(io).await else { return seen };
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        seen.push(request.map(drop));
        // A relay that has gone reads no answer.
        let _ = answer.send_response(Response::new(()), true);
    }
    seen
}

fn judge(request: &Request<()>) {
    let (uri, fields) = (request.uri(), request.headers());
    assert_eq!((uri.scheme_str(), uri.authority().map(http::uri::Authority::as_str)), (Some("https"), Some(HOST)));
    assert!(!["CONNECT", "TRACE"].contains(&request.method().as_str()), "{}", request.method());
    let ours: Vec<_> = fields.get_all(OURS).iter().collect();
    assert_eq!(ours, [TENANT]);
    for name in fields.keys() {
        assert!(name == OURS || name.as_str().replace('_', "-") != OURS, "{name}");
        let hop =
            ["host", "connection", "transfer-encoding", "upgrade", "keep-alive", "expect"].contains(&name.as_str());
        assert!(!hop && !name.as_str().starts_with("proxy-"), "{name}");
    }
    assert!(fields.get_all("content-length").iter().count() <= 1);
}
