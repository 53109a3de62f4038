//! The HTTP/1.1 request loop of an inspected connection: one request after the other on one pair of legs, each judged.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::Ended;
use super::scope::{Facts, Scope};
use crate::admit::{Pace, Way};
use crate::exchange::{After, Counters, Exchange};
use crate::forward::{Hop, Leg, Next, Terms, forward};
use crate::http1::{Connection, Framing, Limits, Method, RequestHead, RequestReader, Target, write_response};
use crate::reason::{Outcome, Reason, Side};
use crate::reply::{Page, reason_phrase};

const FINISHED: Ended = Ended { side: Side::Client, reason: None };

fn ended(side: Side, reason: Reason) -> Ended {
    Ended { side, reason: Some(reason) }
}

/// What the wait for the next request came to.
enum Waited {
    Request(Box<RequestHead>),
    Unreadable(Reason, String),
    Over(Ended),
}

/// Serves requests until either side ends. Both legs are spent.
pub async fn run<C, U>(scope: &Scope, mut client: Leg<C>, mut upstream: Leg<U>, request_head: Duration) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (hop, subjects) = (Hop::Inspected, Arc::clone(&scope.subjects));
    let terms = Terms { deadlines: scope.deadlines, hop, limits: Limits::default(), subjects };
    let mut reader = RequestReader::default();
    let mut first = true;
    let ended = loop {
        let wait = (request_head, std::mem::replace(&mut first, false));
        let head = match next_request(scope, &mut reader, &mut client, &mut upstream, &terms, wait).await {
            Waited::Request(head) => head,
            Waited::Unreadable(reason, detail) => {
                // Whatever else is wrong with it: content is for no answer to a HEAD (RFC 9110 section 9.3.2).
                let method = if client.buffer.starts_with(b"HEAD ") { Method::Head } else { Method::Get };
                Box::pin(refuse_unreadable(scope, &mut client, reason, &detail, &method)).await;
                break FINISHED;
            }
            Waited::Over(ended) => break ended,
        };
        match one(scope, &head, &mut client, &mut upstream, &terms).await {
            Step::Again => {}
            Step::End(ended) => break ended,
            // Dropping the stream without close_notify is what tells a client that the answer was cut.
            Step::Abort => return FINISHED,
        }
    };
    let _ = timeout(Duration::from_secs(1), client.io.shutdown()).await;
    ended
}

enum Step {
    Again,
    End(Ended),
    Abort,
}

async fn one<C, U>(scope: &Scope, head: &RequestHead, client: &mut Leg<C>, upstream: &mut Leg<U>, terms: &Terms) -> Step
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    if let Target::Absolute { scheme, .. } = head.target()
        && !scheme.eq_ignore_ascii_case(b"https")
    {
        let detail = "the scheme inside TLS is https";
        Box::pin(refuse_unreadable(scope, client, Reason::MalformedRequest, detail, head.method())).await;
        return Step::End(FINISHED);
    }
    let mut exchange = scope.open(&facts(head)).await;
    if let Err(refusal) = exchange.verdict() {
        // A body that nobody read stands where the next head is due: then the connection ends with the answer.
        // What a client glues behind a CONNECT was meant for another place (A12).
        let misdirected = refusal.reason == Reason::NameMismatch || *head.method() == Method::Connect;
        let ends =
            refusal.after == After::EndConnection || misdirected || head.framing().has_content() || !head.keep_alive();
        let connection = if ends { Connection::Close } else { Connection::Persist };
        refuse(&mut client.io, &mut exchange, refusal.reason, head.method(), connection).await;
        let over = if scope.withdrawn.load(Ordering::Relaxed) {
            ended(Side::Sekisho, Reason::PolicyWithdrawn)
        } else {
            FINISHED
        };
        return if ends { Step::End(over) } else { Step::Again };
    }
    // Boxed, as a connection is idle for most of its life.
    match Box::pin(forward(head, &mut exchange, client, upstream, terms)).await {
        Next::KeepAlive if scope.drain.is_leaving() => Step::End(scope.drained()),
        Next::KeepAlive => Step::Again,
        Next::UpstreamEnds | Next::Close => Step::End(FINISHED),
        Next::Abort => Step::Abort,
        Next::Refuse(reason) => {
            refuse(&mut client.io, &mut exchange, reason, head.method(), Connection::Close).await;
            Step::End(FINISHED)
        }
        Next::Switched => {
            raw(scope, &mut exchange, client, upstream).await;
            Step::End(FINISHED)
        }
    }
}

fn facts(head: &RequestHead) -> Facts<'_> {
    let (asked, path): (Option<&[u8]>, &[u8]) = match head.target() {
        Target::Origin(path) => (None, path),
        Target::Absolute { authority, path_and_query, .. } => (Some(authority), path_and_query),
        Target::Authority(authority) => (Some(authority), b""),
        Target::Asterisk => (None, b"*"),
    };
    Facts { method: head.method().as_str(), authorities: [asked, head.host()], path, extended_connect: false }
}

/// Waits for a head: for as long as an idle connection may live, then for as long as a head may take. One that is to leave has no time but
/// [`Scope::first_grace`], where it is the first.
async fn next_request<C, U>(
    scope: &Scope,
    reader: &mut RequestReader,
    client: &mut Leg<C>,
    upstream: &mut Leg<U>,
    terms: &Terms,
    (request_head, first): (Duration, bool),
) -> Waited
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    client.release();
    upstream.release();
    let mut begun = !client.buffer.is_empty();
    let (mut gone, mut leaving) = (false, false);
    let mut limit = pin!(sleep(if begun { request_head } else { terms.deadlines.idle }));
    loop {
        match reader.read(&mut client.buffer, &terms.limits) {
            Ok(Some(head)) => return Waited::Request(Box::new(head)),
            Ok(None) => {}
            Err(error) => return Waited::Unreadable(error.reason(), error.to_string()),
        }
        let over = tokio::select! {
            read = client.wait() => match read {
                Ok(0) | Err(_) if begun => Some(ended(Side::Client, Reason::ClientClosed)),
                Ok(0) => Some(FINISHED),
                // Without close_notify, as many clients leave: between two requests nothing is cut by it.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Some(FINISHED),
                Err(error) => Some(lost(&error)),
                Ok(_) => None,
            },
            // An upstream that closes an idle connection ends it for both; one that speaks unasked has lost its place (E17).
            // One that wanted a client certificate says so after its handshake (D17): the first request is answered with that.
            _ = upstream.wait(), if !begun && !gone => {
                gone = scope.connection.client_certificate_asked.load(Ordering::Relaxed);
                if gone { continue } else { Some(FINISHED) }
            }
            () = limit.as_mut() => Some(if begun {
                return Waited::Unreadable(Reason::RequestHeadTimeout, "the request head did not come in time".to_owned());
            } else if leaving {
                scope.drained()
            } else {
                ended(Side::Sekisho, Reason::IdleTimeout)
            }),
            () = scope.drain.leaving(), if !begun && !leaving => {
                let grace = if first { scope.first_grace() } else { Duration::ZERO };
                leaving = !grace.is_zero();
                limit.as_mut().reset(Instant::now() + grace);
                if leaving { continue } else { Some(scope.drained()) }
            }
        };
        if let Some(ended) = over {
            return Waited::Over(ended);
        }
        if !begun {
            begun = true;
            limit.as_mut().reset(Instant::now() + request_head);
        }
    }
}

/// A client whose connection broke, or that ends it by an alert, has closed; one whose alert is of certificates has found fault
/// with our leaf after all, which TLS 1.3 lets it do behind its own Finished.
fn lost(error: &std::io::Error) -> Ended {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) if super::rejects_certificate(*alert) => {
            ended(Side::Client, Reason::ClientRejectedCertificate)
        }
        Some(_) | None => ended(Side::Client, Reason::ClientClosed),
    }
}

/// Answers a request that cannot be judged; the connection ends with it.
async fn refuse_unreadable<C: AsyncWrite + Unpin>(
    scope: &Scope,
    client: &mut Leg<C>,
    reason: Reason,
    detail: &str,
    method: &Method,
) {
    let mut exchange = scope.open_unreadable(reason, detail).await;
    refuse(&mut client.io, &mut exchange, reason, method, Connection::Close).await;
}

/// Answers in the upstream's place, the record first.
pub async fn refuse<C: AsyncWrite + Unpin>(
    client: &mut C,
    exchange: &mut Exchange,
    reason: Reason,
    method: &Method,
    connection: Connection<'_>,
) {
    let page = exchange.refuse(reason);
    write_page(client, &page, method, connection).await;
}

/// One of our pages as an HTTP/1.1 response. That the client may be gone is no news.
pub async fn write_page<C: AsyncWrite + Unpin>(
    client: &mut C,
    page: &Page,
    method: &Method,
    connection: Connection<'_>,
) {
    let mut out = BytesMut::with_capacity(page.body.len() + 512);
    let fields = page.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let framing = Framing::Length(page.body.len() as u64);
    let phrase = reason_phrase(page.status).as_bytes();
    if let Err(error) = write_response(&mut out, page.status, phrase, fields, framing, connection) {
        tracing::error!(%error, status = page.status, "a page of our own could not be written");
        return;
    }
    if *method != Method::Head {
        out.extend_from_slice(page.body.as_bytes());
    }
    let _ = timeout(Duration::from_secs(10), async {
        client.write_all(&out).await?;
        client.flush().await
    })
    .await;
}

/// Both legs copied as they are, behind a 101, until both have ended, one broke, nothing moved for the idle limit, or a reload
/// took the permission away.
async fn raw<C, U>(scope: &Scope, exchange: &mut Exchange, client: &mut Leg<C>, upstream: &mut Leg<U>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let counters = exchange.counters();
    let (mut client_read, mut client_write) = tokio::io::split(&mut client.io);
    let (mut upstream_read, mut upstream_write) = tokio::io::split(&mut upstream.io);
    let up = async {
        let way =
            Paced { pace: Pace::new(&scope.subjects, Way::Upload), counters: &counters, count: Counters::add_sent };
        let done = copy(&mut client.buffer, &mut client_read, &mut upstream_write, way).await;
        done.map_err(|broken| broken.of(Reason::ClientClosed, Reason::UpstreamClosed))
    };
    let down = async {
        let way = Paced {
            pace: Pace::new(&scope.subjects, Way::Download),
            counters: &counters,
            count: Counters::add_received,
        };
        let done = copy(&mut upstream.buffer, &mut upstream_read, &mut client_write, way).await;
        done.map_err(|broken| broken.of(Reason::UpstreamClosed, Reason::ClientClosed))
    };
    let reason = tokio::select! {
        both = async { tokio::try_join!(up, down) } => both.err(),
        () = still(&counters, scope.deadlines.idle) => Some(Reason::IdleTimeout),
        () = scope.withdrawal() => Some(Reason::PolicyWithdrawn),
    };
    exchange.conclude(Outcome::Allowed, reason);
}

/// Which end of a direction broke.
enum Broken {
    Source,
    Sink,
}

impl Broken {
    fn of(self, source: Reason, sink: Reason) -> Reason {
        match self {
            Self::Source => source,
            Self::Sink => sink,
        }
    }
}

/// One way of a raw relay: its turns, and where its octets are counted.
struct Paced<'a> {
    pace: Pace,
    counters: &'a Counters,
    count: fn(&Counters, usize),
}

async fn copy<R, W>(buffer: &mut BytesMut, from: &mut R, to: &mut W, mut way: Paced<'_>) -> Result<(), Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        if !buffer.is_empty() {
            way.pace.take(buffer.len(), || way.counters.wait()).await;
            to.write_all(buffer).await.map_err(|_| Broken::Sink)?;
            to.flush().await.map_err(|_| Broken::Sink)?;
            (way.count)(way.counters, buffer.len());
            buffer.clear();
        }
        buffer.reserve(2048);
        match from.read_buf(buffer).await {
            Ok(0) => return to.shutdown().await.map_err(|_| Broken::Sink),
            Ok(_) => {}
            // Gone without close_notify, as browsers go: the other side must hear of it now, not at the idle limit.
            Err(_) => return Err(Broken::Source),
        }
    }
}

/// Resolves when the counters stood still for `idle`, at most a quarter of it late.
async fn still(counters: &Counters, idle: Duration) {
    let mut seen = counters.total();
    let mut quarters = 0;
    while quarters < 4 {
        sleep(idle / 4).await;
        let total = counters.total();
        quarters = if total == seen { quarters + 1 } else { 0 };
        seen = total;
    }
}

#[cfg(test)]
mod tests;
