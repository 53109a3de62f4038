//! The HTTP/2 relay of an inspected connection: two connections, the client's and the upstream's, and the streams between them.
//!
//! Here is the life of the connections: the upstream's SETTINGS are awaited, GOAWAY is passed on as GOAWAY, an idle or draining
//! connection is left in good order, and a client that cancels without end is sent away. What happens on one stream is
//! `h2_stream`'s, every limit is `h2_settings`'.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::Connection;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::select;
use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::Ended;
use super::h2_fault::is_flood;
use super::h2_frames::{Refused, Streams as Opened, Watched};
pub use super::h2_settings::ExtendedConnect;
use super::h2_settings::{self as settings, CANCELLED_STREAMS, GOODBYE, STREAM_WINDOW, STREAM_WINDOWS};
use super::h2_stream::{self as stream, Shared, StreamEnd};
use super::h2_upstream::Driver;
pub use super::h2_upstream::{Upstream, UpstreamError, open_upstream};
use super::scope::Scope;
use crate::pressure::Stalls;
use crate::reason::{Reason, Side};

/// Relays between a client that agreed to `h2` and `upstream` until one of them, or we, have enough.
///
/// Dropping the future ends everything at once: the streams' tasks, and both connections without a word.
pub async fn run<C>(scope: Arc<Scope>, client_io: C, mut upstream: Upstream, request_head: Duration) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = Opened::default();
    let client = match Box::pin(greet(&scope, Watched::client(client_io, opened.clone()), &mut upstream)).await {
        Ok(client) => client,
        Err(ended) => return ended,
    };
    let mut relay = Relay::new(scope, client, opened, upstream, request_head);
    let ended = relay.run().await;
    if ended == (Ended { side: Side::Client, reason: Some(Reason::RateLimited) }) {
        relay.shared.scope.subjects.has_flooded();
    }
    let _ = timeout(GOODBYE, Box::pin(relay.wind_up())).await;
    ended
}

/// Waits for the client's preface, which is as long in coming as the client likes, but not longer than the idle limit.
async fn greet<C>(scope: &Scope, io: C, upstream: &mut Upstream) -> Result<Connection<C, Bytes>, Ended>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = settings::server(upstream.extended_connect()).handshake::<C, Bytes>(io);
    select! {
        client = handshake => client.map_err(|error| client_ended(&error)),
        result = &mut upstream.driver => Err(upstream_ended(result, Streams::None)),
        () = async { scope.drain.leaving().await; sleep(scope.first_grace()).await } => Err(scope.drained()),
        () = sleep(scope.deadlines.idle) => Err(Ended { side: Side::Sekisho, reason: Some(Reason::IdleTimeout) }),
    }
}

struct Relay<C> {
    shared: Arc<Shared>,
    client: Connection<Watched<C>, Bytes>,
    opened: Opened,
    /// Only asked whether the upstream still takes requests; those that send have their own.
    requests: SendRequest<Bytes>,
    /// Gone when the upstream's connection has ended.
    driver: Option<Driver>,
    /// Aborted when dropped, so that a connection that is cut leaves nothing behind.
    streams: JoinSet<StreamEnd>,
    /// Streams the client may still cancel.
    cancellable: usize,
    /// Runs while there are no streams: for the idle limit, then for [`GOODBYE`].
    timer: Pin<Box<Sleep>>,
    request_head: Duration,
    /// Runs while a part of a head has come.
    late: Option<Pin<Box<Sleep>>>,
    /// Why the client was told GOAWAY, the first cause of several.
    leaving: Option<Ended>,
}

/// What happens to a connection beside new requests.
enum Event {
    Draining,
    /// The upstream sent GOAWAY and finishes what it has.
    UpstreamLeaving,
    UpstreamOver(Result<(), h2::Error>),
    Refused(Refused),
    /// The client sends frames that carry nothing, without end.
    Flood,
    /// A head of which a part came long ago.
    LateHead,
    StreamOver(Result<StreamEnd, JoinError>),
    ClientOver(Option<h2::Error>),
    Timer,
}

impl<C> Relay<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    fn new(
        scope: Arc<Scope>,
        client: Connection<Watched<C>, Bytes>,
        opened: Opened,
        upstream: Upstream,
        request_head: Duration,
    ) -> Self {
        let Upstream { requests, driver, streams } = upstream;
        let stalls = || Stalls::new(scope.pressure.memory().clone(), STREAM_WINDOW, STREAM_WINDOWS);
        let shared = Shared {
            requests: Mutex::new(requests.clone()),
            from_client: opened.clone(),
            from_upstream: streams,
            uploads: stalls(),
            downloads: stalls(),
            scope,
        };
        Self {
            timer: Box::pin(sleep(shared.scope.deadlines.idle)),
            shared: Arc::new(shared),
            client,
            opened,
            requests,
            driver: Some(driver),
            streams: JoinSet::new(),
            cancellable: CANCELLED_STREAMS,
            request_head,
            late: None,
            leaving: None,
        }
    }

    async fn run(&mut self) -> Ended {
        let drain = self.shared.scope.drain.clone();
        let mut draining = pin!(drain.leaving());
        loop {
            let event = select! {
                // The upstream before the client, so that what it has answered is known before more is asked of it.
                biased;
                () = &mut draining, if self.leaving.is_none() => Event::Draining,
                event = poll_fn(|cx| poll_upstream(&mut self.driver, &mut self.requests, &self.leaving, cx)) => event,
                Some(over) = self.streams.join_next() => Event::StreamOver(over),
                accepted = self.client.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        self.opened.accepted(respond.stream_id().as_u32());
                        // Boxed: a task that is made, run and finished is moved as a whole each time.
                        self.streams.spawn(Box::pin(stream::serve(self.shared.clone(), request, respond)));
                        continue;
                    }
                    Some(Err(error)) => Event::ClientOver(Some(error)),
                    None => Event::ClientOver(None),
                },
                // Behind the poll that may have found it, and accepted everything else.
                event = poll_fn(|cx| poll_opened(&self.opened, self.request_head, &mut self.late, cx)) => event,
                () = &mut self.timer, if self.streams.is_empty() => Event::Timer,
            };
            if let Some(ended) = self.handle(event).await {
                return ended;
            }
        }
    }

    /// Acts on one event; the ending where it was the last.
    async fn handle(&mut self, event: Event) -> Option<Ended> {
        match event {
            Event::Refused(refused) => {
                self.record_unaccepted(refused.why.reason(), refused.why.detail()).await;
                self.opened.recorded(refused);
            }
            // Nothing else can come by a connection in the middle of a head, no cancellation and no window: its streams end too.
            Event::LateHead => {
                if self.opened.abandon_head() {
                    self.record_unaccepted(Reason::RequestHeadTimeout, "the request head did not come in time").await;
                }
                self.send_away(Reason::RequestHeadTimeout);
            }
            Event::Flood => self.send_away(Reason::RateLimited),
            Event::StreamOver(over) => self.stream_over(over),
            Event::Draining => {
                let Ended { side, reason } = self.shared.scope.drained();
                self.leave(side, reason);
            }
            Event::UpstreamLeaving => self.leave(Side::Upstream, None),
            Event::UpstreamOver(result) => {
                self.driver = None;
                let ended = upstream_ended(result, Streams::of(&self.streams));
                self.leave(ended.side, ended.reason);
            }
            Event::Timer => match self.leaving {
                None => self.leave(Side::Sekisho, Some(Reason::IdleTimeout)),
                // It was told, and stays: a client that holds on ends here all the same.
                Some(ended) => return Some(ended),
            },
            Event::ClientOver(error) => {
                let ended = self.client_over(error.as_ref());
                self.record_unanswered(error.as_ref()).await;
                return Some(ended);
            }
        }
        None
    }

    fn stream_over(&mut self, over: Result<StreamEnd, JoinError>) {
        match over {
            Ok(StreamEnd::Done) => self.cancellable = CANCELLED_STREAMS.min(self.cancellable.saturating_add(1)),
            Ok(StreamEnd::EndConnection(reason)) => self.leave(Side::Sekisho, Some(reason)),
            Ok(StreamEnd::Cancelled) => {
                self.cancellable = self.cancellable.saturating_sub(1);
                if self.cancellable == 0 {
                    self.send_away(Reason::RateLimited);
                }
            }
            // Its stream was reset as the task fell; the others have not noticed.
            Err(error) => tracing::error!(%error, "a stream's task ended by a defect; please report it"),
        }
        if self.streams.is_empty() {
            let wait = if self.leaving.is_some() { GOODBYE } else { self.shared.scope.deadlines.idle };
            self.timer.as_mut().reset(Instant::now() + wait);
        }
    }

    /// Tells the client to open its next stream elsewhere. Streams that run may finish.
    fn leave(&mut self, side: Side, reason: Option<Reason>) {
        if self.leaving.is_none() {
            self.leaving = Some(Ended { side, reason });
            self.client.graceful_shutdown();
            self.timer.as_mut().reset(Instant::now() + GOODBYE);
        }
    }

    /// Ends the client's connection, and every stream of it.
    fn send_away(&mut self, reason: Reason) {
        self.leave(Side::Client, Some(reason));
        self.client.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
    }

    fn client_over(&self, error: Option<&h2::Error>) -> Ended {
        match (self.leaving, error) {
            (Some(ended), _) => ended,
            (None, Some(error)) => client_ended(error),
            (None, None) => {
                let reason = (!self.streams.is_empty()).then_some(Reason::ClientClosed);
                Ended { side: Side::Client, reason }
            }
        }
    }

    /// The requests that the end of the connection left without an answer. A connection that was told GOAWAY leaves none: what came
    /// behind the last stream it names was not looked at and may be asked elsewhere (RFC 9113 section 6.8).
    async fn record_unanswered(&mut self, error: Option<&h2::Error>) {
        let (whole, in_part) = self.opened.unanswered();
        let (requests, reason, detail) = match error.filter(|error| error.is_library()).map(client_ended) {
            Some(Ended { reason: Some(reason), .. }) => {
                (whole + in_part, reason, "its connection was ended for an HTTP/2 error before it could be judged")
            }
            Some(_) | None if self.leaving.is_some() => return,
            Some(_) | None => (whole, Reason::ClientClosed, "the client closed before its request could be judged"),
        };
        for _ in 0..requests {
            self.record_unaccepted(reason, detail).await;
        }
    }

    /// The record of a request that never became a stream of ours.
    async fn record_unaccepted(&mut self, reason: Reason, detail: &str) {
        let mut exchange = self.shared.scope.open_unreadable(reason, detail).await;
        if reason == Reason::HeadTooLarge {
            exchange.responded(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_u16());
        }
        exchange.conclude(reason.outcome(), Some(reason));
    }

    /// The client's connection is over. Its streams see that at once and conclude, so that their records say what they were;
    /// then nothing uses the upstream's any more, which ends it with GOAWAY and close_notify.
    async fn wind_up(self) {
        let Self { shared, client, requests, driver, mut streams, .. } = self;
        drop(client);
        while streams.join_next().await.is_some() {}
        drop((shared, requests));
        if let Some(driver) = driver {
            let _ = driver.await;
        }
    }
}

/// Whether an ending caught streams at work.
enum Streams {
    None,
    Some,
}

impl Streams {
    fn of(set: &JoinSet<StreamEnd>) -> Self {
        if set.is_empty() { Self::None } else { Self::Some }
    }
}

/// Drives the upstream's connection. Its GOAWAY is seen by asking for leave to send another request.
fn poll_upstream(
    driver: &mut Option<Driver>,
    requests: &mut SendRequest<Bytes>,
    leaving: &Option<Ended>,
    cx: &mut Context<'_>,
) -> Poll<Event> {
    let Some(connection) = driver else {
        return Poll::Pending;
    };
    match connection.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Event::UpstreamOver(result)),
        Poll::Pending if leaving.is_none() => match requests.poll_ready(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Event::UpstreamLeaving),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        },
        Poll::Pending => Poll::Pending,
    }
}

/// What was seen of the frames of streams that are not accepted. Asked behind the poll that may have seen it.
fn poll_opened(
    opened: &Opened,
    limit: Duration,
    late: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<Event> {
    if opened.take_flood() {
        return Poll::Ready(Event::Flood);
    }
    let (refused, head_since) = opened.news();
    if let Some(refused) = refused {
        return Poll::Ready(Event::Refused(refused));
    }
    let Some(since) = head_since else {
        *late = None;
        return Poll::Pending;
    };
    let due = since + limit;
    let timer = late.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if timer.deadline() != due {
        timer.as_mut().reset(due);
    }
    ready!(timer.as_mut().poll(cx));
    *late = None;
    Poll::Ready(Event::LateHead)
}

fn upstream_ended(result: Result<(), h2::Error>, streams: Streams) -> Ended {
    let reason = match (result, streams) {
        (Err(error), _) if error.is_library() || is_flood(&error) => Some(Reason::UpstreamMalformed),
        (_, Streams::Some) => Some(Reason::UpstreamClosed),
        // A server that closes what nobody uses is in its right, however it does it.
        (_, Streams::None) => None,
    };
    Ended { side: Side::Upstream, reason }
}

fn client_ended(error: &h2::Error) -> Ended {
    let reason = match error.reason() {
        Some(h2::Reason::ENHANCE_YOUR_CALM) if error.is_library() => Reason::RateLimited,
        Some(_) if error.is_library() => Reason::MalformedRequest,
        Some(_) | None => Reason::ClientClosed,
    };
    Ended { side: Side::Client, reason: Some(reason) }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod raw;
#[cfg(test)]
pub(super) mod scene;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod tests;
