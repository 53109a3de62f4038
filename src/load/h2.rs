//! What a connection's worker does over HTTP/2: several requests under way on one connection, which is driven by the same task.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::poll_fn;
use futures_util::stream::FuturesUnordered;
use h2::client::{Builder, Connection, SendRequest};
use http::{Request, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::Failure;
use super::dial::Protocol;
use super::pace::Arrivals;
use super::work::{GOODBYE, Stage};

/// Octets that may be under way to us on one stream, and on one connection; browsers allow as much or more.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// A TLS connection that HTTP/2 is spoken on.
pub struct Http2 {
    sender: SendRequest<Bytes>,
    connection: Connection<Orderly, Bytes>,
}

/// A stream whose shutdown is over when the other end has closed too. One that is dropped before, with octets still coming in,
/// is reset by the kernel, and the proxy would rightly record a client that broke off.
struct Orderly(TlsStream<TcpStream>);

impl AsyncRead for Orderly {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, into)
    }
}

impl AsyncWrite for Orderly {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().0;
        ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        let tcp = stream.get_mut().0;
        loop {
            let mut scratch = [0; 1024];
            let mut into = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *tcp).poll_read(cx, &mut into))?;
            if into.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// How one stream's worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// There are no more requests.
    Done,
    /// The connection cannot be used again.
    Broken,
}

impl Http2 {
    /// # Errors
    /// As [`Dialer::open`](super::dial::Dialer::open), and `alpn` where HTTP/2 was not agreed on.
    pub async fn open(stage: &Stage) -> Result<Self, Failure> {
        let stream = stage.dialer.open(Protocol::Http2).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(Failure::new("alpn", "the other end does not speak HTTP/2"));
        }
        let mut builder = Builder::new();
        builder.enable_push(false).initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(Orderly(stream)).await.map_err(|error| failure(&error))?;
        stage.tally.connected();
        Ok(Self { sender, connection })
    }

    /// `work` with the connection driven beside it; the connection is closed in order when `work` is over.
    pub async fn beside<T>(self, work: impl AsyncFnOnce(SendRequest<Bytes>) -> T) -> T {
        let Self { sender, mut connection } = self;
        let working = work(sender);
        tokio::pin!(working);
        tokio::select! {
            done = &mut working => {
                // No sender is left, so the connection says GOAWAY and ends.
                let _ = timeout(GOODBYE, connection).await;
                done
            }
            // What is under way fails by itself, and says why.
            _ = &mut connection => working.await,
        }
    }
}

/// `GET path` to the target.
pub fn request(stage: &Stage, path: &str) -> Request<()> {
    let uri = format!("https://{}{path}", stage.dialer.plan().target.authority());
    let built = Request::get(uri).version(Version::HTTP_2).body(());
    built.expect("a name, a port and a path of our own make a URI")
}

/// One request and its whole answer.
///
/// # Errors
/// `status_503` and the like where the answer is not 200, `h2_goaway`, `h2_reset` and `h2` where the protocol ends it.
pub async fn ask(sender: &mut SendRequest<Bytes>, request: Request<()>, stage: &Stage) -> Result<(), Failure> {
    poll_fn(|context| sender.poll_ready(context)).await.map_err(|error| failure(&error))?;
    let (answer, _) = sender.send_request(request, true).map_err(|error| failure(&error))?;
    let answer = answer.await.map_err(|error| failure(&error))?;
    let status = answer.status().as_u16();
    let mut content = answer.into_body();
    while let Some(piece) = content.data().await {
        let octets = piece.map_err(|error| failure(&error))?.len();
        stage.tally.received(octets as u64);
        content.flow_control().release_capacity(octets).map_err(|error| failure(&error))?;
    }
    if status == 200 { Ok(()) } else { Err(Failure::of_status(status)) }
}

fn failure(error: &h2::Error) -> Failure {
    if let Some(io) = error.get_io() {
        return Failure::of_io("the HTTP/2 connection", io);
    }
    let kind = match error {
        error if error.is_go_away() => "h2_goaway",
        error if error.is_reset() => "h2_reset",
        _ => "h2",
    };
    Failure::new(kind, error.to_string())
}

/// Requests on one connection, several at a time, opened anew where it ends, until there are no more.
pub async fn kept(stage: Arc<Stage>, arrivals: Arc<Arrivals>, mut open: Option<Http2>) {
    loop {
        let mut first = None;
        let http2 = match open.take() {
            Some(http2) => http2,
            None => {
                let Some(intended) = arrivals.next().await else { return };
                match stage.patiently(Http2::open(&stage)).await {
                    Ok(http2) => {
                        first = Some(intended);
                        http2
                    }
                    Err(failure) => {
                        stage.ended(intended, Err(failure)).await;
                        continue;
                    }
                }
            }
        };
        let ended = http2.beside(async |sender| all_streams(&stage, &arrivals, sender, first).await).await;
        if ended == Ended::Done {
            return;
        }
    }
}

async fn all_streams(
    stage: &Stage,
    arrivals: &Arrivals,
    sender: SendRequest<Bytes>,
    mut first: Option<Instant>,
) -> Ended {
    let streams = 0..stage.dialer.plan().streams;
    let mut streams: FuturesUnordered<_> =
        streams.map(|_| one_stream(stage, arrivals, sender.clone(), first.take())).collect();
    drop(sender);
    let mut all = Ended::Done;
    while let Some(ended) = streams.next().await {
        if ended == Ended::Broken {
            all = ended;
        }
    }
    all
}

/// One request after the other, `first` before those that arrive.
async fn one_stream(
    stage: &Stage,
    arrivals: &Arrivals,
    mut sender: SendRequest<Bytes>,
    mut first: Option<Instant>,
) -> Ended {
    let request = request(stage, "/");
    loop {
        let next = match first.take() {
            Some(intended) => Some(intended),
            None => arrivals.next().await,
        };
        let Some(intended) = next else { return Ended::Done };
        let result = stage.patiently(ask(&mut sender, request.clone(), stage)).await;
        let usable = result.as_ref().map_or_else(Failure::is_of_status, |()| true);
        stage.ended(intended, result).await;
        if !usable {
            return Ended::Broken;
        }
    }
}
