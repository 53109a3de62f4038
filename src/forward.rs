//! One HTTP/1.1 exchange between two legs: the request re-serialised to the upstream, the response to the client, both
//! streamed at once, neither read faster than the other side takes it.
//!
//! Knows nothing of policy: whether a request goes on, under which authority and with which fields set, its `Exchange` says.

mod response;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

use crate::admit::{Pace, Subjects, Way};
use crate::exchange::fields::{request_field_passes, request_trailer_passes};
use crate::exchange::patience::{Deadlines, Late, Patience, Stuck};
use crate::exchange::{Counters, Exchange};
use crate::http1::{
    BodyReader, Connection, Expectation, Framing, Limits, Part, RequestHead, Target, Version, write_chunk,
    write_last_chunk, write_request,
};
use crate::reason::{Outcome, Reason};

/// Octets read at a time, and the most a side holds of what the other has not taken.
const CHUNK: usize = 16 * 1024;
/// Octets taken at a time by one that waits for a head.
const AHEAD: usize = 2 * 1024;
/// What a client may send ahead of the answer before we stop reading it.
const READ_AHEAD: usize = 64 * 1024;

/// One side: a stream, and what was read from it and not yet used.
pub struct Leg<S> {
    pub io: S,
    pub buffer: BytesMut,
}

impl<S> Leg<S> {
    pub fn new(io: S, buffer: BytesMut) -> Self {
        Self { io, buffer }
    }

    /// Gives the buffer back where nothing is in it: an idle connection holds none.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

impl<S: AsyncRead + Unpin> Leg<S> {
    /// Reads once more, for as long as it takes; 0 is the end of the stream. It reads by way of the stack, so that no buffer is
    /// held while nothing comes.
    ///
    /// # Errors
    /// Whatever the stream says.
    pub async fn wait(&mut self) -> io::Result<usize> {
        poll_fn(|cx| {
            let mut space = [MaybeUninit::uninit(); AHEAD];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            self.buffer.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
        .await
    }
}

/// What this hop is to the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// A forward proxy for `http:`: it names itself in `Via` (RFC 9110 section 7.6.3) and passes no upgrade on.
    Plain,
    /// Inside inspected TLS: it names itself nowhere and passes a WebSocket on.
    Inspected,
}

/// What an exchange needs beside its legs.
pub struct Terms {
    pub deadlines: Deadlines,
    pub hop: Hop,
    pub limits: Limits,
    /// Those under whose rates the bodies go.
    pub subjects: Arc<Subjects>,
}

/// How the exchange left its two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Both carry another request.
    KeepAlive,
    /// The answer is complete; the client's connection carries another request, the upstream's does not.
    UpstreamEnds,
    /// The client's connection ends behind what was sent.
    Close,
    /// The client's connection ends as an error: what was sent must not pass for a whole message.
    Abort,
    /// 101: both legs are raw from here on.
    Switched,
    /// Nothing was sent to the client yet: answer with the page of this reason, then close.
    Refuse(Reason),
}

/// Sends `head` and its content to the upstream and the answer to the client. The exchange is concluded here, except for
/// [`Next::Refuse`], which the caller answers, and [`Next::Switched`], which goes on.
pub async fn forward<C, U>(
    head: &RequestHead,
    exchange: &mut Exchange,
    client: &mut Leg<C>,
    upstream: &mut Leg<U>,
    terms: &Terms,
) -> Next
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    if spoke_unasked(upstream).await {
        exchange.explain("octets that no request had asked for");
        return Next::Refuse(Reason::UpstreamMalformed);
    }
    let mut out = BytesMut::with_capacity(1024);
    if let Err(reason) = write_head(head, exchange, terms, &mut out) {
        return Next::Refuse(reason);
    }
    let idle = terms.deadlines.idle;
    match timeout(idle, write_through(&mut upstream.io, &out)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return Next::Refuse(Reason::UpstreamClosed),
        Err(_) => return Next::Refuse(Reason::UpstreamTimeout),
    }
    if head.expectation() == Expectation::Continue && proceed(&mut client.io, idle).await.is_err() {
        exchange.conclude(Outcome::Failed, Some(Reason::ClientClosed));
        return Next::Abort;
    }
    let sent = Sent::head_of(head);
    let (client_read, client_write) = tokio::io::split(&mut client.io);
    let (upstream_read, upstream_write) = tokio::io::split(&mut upstream.io);
    let mut request = Request {
        body: BodyReader::new(head.framing()),
        framing: head.framing(),
        from: client_read,
        buffer: &mut client.buffer,
        to: upstream_write,
        counters: exchange.counters(),
        rate: Pace::new(&terms.subjects, Way::Upload),
        client: Patience::new(&terms.deadlines),
        upstream: Patience::new(&terms.deadlines),
        hop: terms.hop,
        sent: sent.clone(),
    };
    let mut answer =
        response::Answer::new(head, exchange, upstream_read, &mut upstream.buffer, client_write, terms, sent.clone());
    let next = tokio::select! {
        // The request first: an answer that is there already must not make a sent request look unsent.
        biased;
        broken = request.send_and_watch() => answer.interrupted(broken),
        next = answer.relay() => next,
    };
    finish(next, sent.at().is_some(), head)
}

/// Whether something came before the request was sent: it answers another one, or nobody (E17). What is still on its way cannot
/// be told from an answer. An upstream that has ended shows when it is written to.
async fn spoke_unasked<S: AsyncRead + Unpin>(upstream: &mut Leg<S>) -> bool {
    upstream.buffer.reserve(CHUNK);
    tokio::select! {
        biased;
        _ = upstream.io.read_buf(&mut upstream.buffer) => {}
        () = std::future::ready(()) => {}
    }
    !upstream.buffer.is_empty()
}

async fn write_through<S: AsyncWrite + Unpin>(stream: &mut S, octets: &[u8]) -> io::Result<()> {
    stream.write_all(octets).await?;
    stream.flush().await
}

/// Answers the client's expectation: its content is wanted.
async fn proceed<C: AsyncWrite + Unpin>(client: &mut C, limit: Duration) -> io::Result<()> {
    let writing = write_through(client, b"HTTP/1.1 100 Continue\r\n\r\n");
    timeout(limit, writing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// An answer that came before the request was all sent leaves both connections in the middle of a message.
fn finish(next: Next, sent: bool, head: &RequestHead) -> Next {
    match next {
        Next::KeepAlive | Next::UpstreamEnds if !sent => Next::Close,
        Next::KeepAlive if head.has_unexpected_content() => Next::UpstreamEnds,
        other => other,
    }
}

/// Appends to `out` the head as the upstream gets it: hop-by-hop fields and every copy of ours go, then ours are set last
/// (G03), then the writer adds the one framing.
///
/// # Errors
/// Why the request is refused instead; nothing of it has been sent.
pub fn write_head(head: &RequestHead, exchange: &Exchange, terms: &Terms, out: &mut BytesMut) -> Result<(), Reason> {
    let path = match head.target() {
        Target::Origin(path) => path,
        Target::Absolute { path_and_query, .. } => path_and_query,
        Target::Asterisk => b"*",
        Target::Authority(_) => return Err(Reason::MethodNotPermitted),
    };
    let restrictions = exchange.restrictions();
    let options: Vec<&[u8]> = head.connection_options().collect();
    let passed = head.fields().filter(|(name, _)| request_field_passes(name, restrictions, options.iter().copied()));
    let via = (terms.hop == Hop::Plain).then_some((&b"Via"[..], via_value(head.version())));
    let ours = restrictions.iter().map(|field| (field.name.as_str().as_bytes(), field.value.as_bytes()));
    let fields = passed.chain(via).chain(ours);
    let connection = match (terms.hop, websocket(head, terms.hop)) {
        // RFC 9112 section 9.3: the connection is this one request's.
        (Hop::Plain, _) => Connection::Close,
        (Hop::Inspected, Some(())) => Connection::Upgrade(b"websocket"),
        (Hop::Inspected, None) => Connection::Persist,
    };
    write_request(out, head.method(), path, exchange.host(), fields, head.framing(), connection)
        .map_err(|_| Reason::MalformedRequest)?;
    // G07: a head that has no room for our fields is refused, never sent without them.
    if out.len() > terms.limits.head { Err(Reason::HeadTooLarge) } else { Ok(()) }
}

fn via_value(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"1.0 sekisho",
        Version::Http11 => b"1.1 sekisho",
    }
}

/// The one upgrade that is passed on (RFC 6455). Everything else, `h2c` above all, is stripped (E19).
fn websocket(head: &RequestHead, hop: Hop) -> Option<()> {
    let asked = head.upgrade().filter(|_| hop == Hop::Inspected)?;
    let websocket = asked.eq_ignore_ascii_case(b"websocket") && *head.method() == crate::http1::Method::Get;
    // RFC 6455 section 4.2.1: half a handshake is none, and what stands behind it no frame.
    let whole = only(head, b"sec-websocket-version") == Some(b"13") && only(head, b"sec-websocket-key").is_some();
    (websocket && whole).then_some(())
}

/// The value of a field that stands exactly once and is not empty.
fn only<'a>(head: &'a RequestHead, name: &[u8]) -> Option<&'a [u8]> {
    let mut values = head.fields().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let first = values.next().filter(|value| !value.is_empty())?;
    values.next().is_none().then_some(first)
}

/// How the client's direction came to its end before the answer was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    ClientClosed,
    /// The content is not unambiguous.
    Malformed,
    /// The upstream does not take it.
    UpstreamLate,
    ClientIdle,
    ClientTooSlow,
}

/// When the whole request was with the upstream, from which on the answer is due.
#[derive(Debug, Clone, Default)]
struct Sent(Arc<OnceLock<Instant>>);

impl Sent {
    /// The head of a request has gone, which may be all of it.
    fn head_of(head: &RequestHead) -> Self {
        let sent = Self::default();
        if !head.framing().has_content() {
            sent.note();
        }
        sent
    }

    fn note(&self) {
        // It is sent once.
        let _ = self.0.set(Instant::now());
    }

    fn at(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}

/// The client's direction: content to the upstream, then a watch on the client.
struct Request<'a, C, U> {
    body: BodyReader,
    framing: Framing,
    from: ReadHalf<&'a mut C>,
    buffer: &'a mut BytesMut,
    to: WriteHalf<&'a mut U>,
    counters: Arc<Counters>,
    rate: Pace,
    /// Of the client, which sends, and of the upstream, which takes.
    client: Patience,
    upstream: Patience,
    hop: Hop,
    sent: Sent,
}

impl<C, U> Request<'_, C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Resolves only when something is wrong: the answer's end is the exchange's.
    async fn send_and_watch(&mut self) -> Broken {
        if let Err(broken) = self.send().await {
            return broken;
        }
        // The next request may come early; it waits in the buffer, up to a bound (E16).
        while self.buffer.len() < READ_AHEAD {
            self.buffer.reserve(2048);
            match self.from.read_buf(self.buffer).await {
                // On a bare socket the end of a client's requests is not the end of its interest in the answer.
                Ok(0) if self.hop == Hop::Plain => break,
                Ok(0) | Err(_) => return Broken::ClientClosed,
                Ok(_) => {}
            }
        }
        std::future::pending().await
    }

    async fn send(&mut self) -> Result<(), Broken> {
        let mut out = BytesMut::new();
        loop {
            match self.body.advance(self.buffer).map_err(|_| Broken::Malformed)? {
                Part::Data(data) => {
                    self.rate.take(data.len(), || self.counters.wait()).await;
                    self.counters.add_sent(data.len());
                    if self.framing == Framing::Chunked {
                        // Small chunks go out together: one write for each would cost more than it took to send them (H08).
                        write_chunk(&mut out, &data);
                        if out.len() >= CHUNK {
                            self.write(&out).await?;
                            out.clear();
                        }
                    } else {
                        self.write(&data).await?;
                    }
                }
                Part::NeedMore => {
                    self.write(&out).await?;
                    out.clear();
                    self.flush().await?;
                    self.buffer.reserve(CHUNK);
                    match self.client.wait(self.from.read_buf(self.buffer)).await {
                        Ok(Ok(octets @ 1..)) => self.client.moved(octets),
                        Ok(Ok(0) | Err(_)) => return Err(Broken::ClientClosed),
                        Err(Late::Idle) => return Err(Broken::ClientIdle),
                        Err(Late::TooSlow) => return Err(Broken::ClientTooSlow),
                    }
                }
                Part::End(trailers) => {
                    if self.framing == Framing::Chunked {
                        let fields = trailers.iter().flat_map(|trailers| trailers.fields());
                        write_last_chunk(&mut out, fields.filter(|(name, _)| request_trailer_passes(name)))
                            .map_err(|_| Broken::Malformed)?;
                        self.write(&out).await?;
                    }
                    self.flush().await?;
                    self.sent.note();
                    return Ok(());
                }
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let flushed = self.upstream.flush(&mut self.to).await;
        taken(flushed).await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Broken> {
        let written = self.upstream.write(&mut self.to, octets).await;
        taken(written).await
    }
}

/// A write that the upstream refuses is not the end yet: its answer may be on the way and says why.
async fn taken(by_upstream: Result<(), Stuck>) -> Result<(), Broken> {
    match by_upstream {
        Ok(()) => Ok(()),
        Err(Stuck::Broken) => std::future::pending().await,
        Err(Stuck::Late(_)) => Err(Broken::UpstreamLate),
    }
}
