//! One stream of an inspected HTTP/2 connection: judged, begun upstream, relayed both ways at once, concluded.
//!
//! What may not be here: which fields pass (`fields`, by way of `h2_head`), the life of the two connections (`h2`).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream, SendStream};
use http::{Request, Response};
use tokio::select;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::h2_fault::{Fault, client_fault, is_malformed, reset_by, upstream_fault};
use super::h2_frames::Streams;
use super::h2_head::{self as head, Expectation, Form, RequestHead};
use super::h2_pump::{Awaited, Course, Halt, Last, Progress, pump, send};
use super::h2_settings::INFORMATIONAL;
use super::scope::Scope;
use crate::admit::{Pace, Way};
use crate::exchange::fields::{request_trailer_passes, response_trailer_passes};
use crate::exchange::patience::Patience;
use crate::exchange::{After, Exchange, Refusal};
use crate::pressure::Stalls;
use crate::reason::{Outcome, Reason};

/// What the streams of one connection share.
pub struct Shared {
    pub scope: Arc<Scope>,
    /// One at a time: clones of the handle would queue behind the upstream's `MAX_CONCURRENT_STREAMS` inside the crate, which
    /// sends what it has queued even when its client has gone.
    pub requests: Mutex<SendRequest<Bytes>>,
    /// What was seen of the frames of either leg.
    pub from_client: Streams,
    pub from_upstream: Streams,
    /// Bodies that wait for the other leg.
    pub uploads: Stalls,
    pub downloads: Stalls,
}

/// What the end of a stream means for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    Done,
    /// The client cancelled it before its answer was complete.
    Cancelled,
    /// The connection takes no further request.
    EndConnection(Reason),
}

/// How much of an answer the client's leg has been given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    Head,
    All,
}

/// Runs one stream to its end.
pub async fn serve(shared: Arc<Shared>, request: Request<RecvStream>, respond: SendResponse<Bytes>) -> StreamEnd {
    let (parts, body) = request.into_parts();
    let (exchange, judged, form, expectation) = {
        let asked = RequestHead::read(&parts);
        let exchange = shared.scope.open(&asked.facts()).await;
        let judged = asked.judge(&exchange);
        (exchange, judged, asked.form(), asked.expectation())
    };
    // A stream may last for hours; its head need not.
    drop(parts);
    let mut stream = Stream { shared, exchange, respond, form, sent: Sent::Nothing };
    match judged {
        Ok(request) => stream.relay(request, body, expectation).await,
        Err(refusal) => stream.refuse(refusal).await,
    }
}

struct Stream {
    shared: Arc<Shared>,
    exchange: Exchange,
    respond: SendResponse<Bytes>,
    form: Form,
    sent: Sent,
}

impl Stream {
    async fn refuse(&mut self, refusal: Refusal) -> StreamEnd {
        self.answer(refusal.reason).await;
        match refusal.after {
            After::Continue => StreamEnd::Done,
            After::EndConnection => StreamEnd::EndConnection(refusal.reason),
        }
    }

    async fn relay(&mut self, request: Request<()>, mut body: RecvStream, expectation: Expectation) -> StreamEnd {
        let deadlines = self.shared.scope.deadlines;
        let progress = Progress::new();
        let (withdrawal, tunnel) = (Arc::clone(&self.shared), self.form == Form::Tunnel);
        // What `forward` holds of the upstream's stream resets it with CANCEL when dropped incomplete.
        let ended = select! {
            biased;
            ended = self.forward(&progress, request, &mut body, expectation) => ended,
            () = progress.stalled(&deadlines) => Err(Fault::Stalled(progress.awaited())),
            () = withdrawal.scope.withdrawal(), if tunnel => Err(Fault::Withdrawn),
        };
        match ended {
            Ok(()) => {
                self.exchange.conclude(Outcome::Allowed, None);
                StreamEnd::Done
            }
            Err(Fault::ClientMalformed) if !is_malformed(&mut body) => self.settle(Fault::ClientGone).await,
            Err(fault) => self.settle(fault).await,
        }
    }

    /// Both directions at once: the answer may come before the request is complete (RFC 9113 section 8.1).
    async fn forward(
        &mut self,
        progress: &Progress,
        request: Request<()>,
        body: &mut RecvStream,
        expectation: Expectation,
    ) -> Result<(), Fault> {
        let contentless = body.is_end_stream();
        let (response, mut to) = self.begin(request, contentless).await?;
        progress.touch();
        if contentless {
            return self.download(progress, response).await;
        }
        if expectation == Expectation::Continue {
            // Ours to answer, never the upstream's; a client that has gone is noticed below.
            let _ = self.respond.send_informational(head::please_continue());
        }
        let (counters, shared) = (self.exchange.counters(), Arc::clone(&self.shared));
        let moved = |octets| {
            counters.add_sent(octets);
            progress.touch();
        };
        progress.await_from(Awaited::Both);
        let pace = || (self.form != Form::Tunnel).then(|| progress.until_answered(&shared.scope.deadlines));
        let course = Course {
            trailer_passes: request_trailer_passes,
            source: &shared.from_client,
            sends: pace(),
            takes: pace(),
            stalls: &shared.uploads,
            rate: Pace::new(&shared.scope.subjects, Way::Upload),
        };
        let mut upload = pin!(pump(body, &mut to, course, moved));
        let mut download = pin!(self.download(progress, response));
        select! {
            biased;
            uploaded = &mut upload => match uploaded {
                Err(Halt::Source(error)) => Err(client_fault(&error)),
                Err(Halt::Trailers) => Err(Fault::ClientTrailers),
                Err(Halt::SlowSource) => Err(Fault::ClientSlow),
                Err(Halt::SlowSink) => Err(Fault::Stalled(Awaited::Upstream)),
                Err(Halt::NoRoom) => Err(Fault::NoRoom),
                // After a reset the upstream's answer says why it wants no more of it.
                Ok(()) | Err(Halt::Sink) => {
                    progress.await_from(Awaited::Upstream);
                    download.await
                }
            },
            answered = &mut download => {
                answered?;
                // The answer is complete: what becomes of the rest of the request changes nothing.
                let _ = upload.await;
                Ok(())
            }
        }
    }

    /// Opens the upstream's stream as soon as it takes one more.
    async fn begin(
        &mut self,
        request: Request<()>,
        contentless: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Fault> {
        let open = async {
            let mut requests = self.shared.requests.lock().await;
            poll_fn(|cx| requests.poll_ready(cx)).await.map_err(|_| Fault::Unprocessed(Code::REFUSED_STREAM))?;
            requests.send_request(request, contentless).map_err(|error| {
                let connection = error.is_go_away() || error.is_io();
                if connection { Fault::Unprocessed(Code::REFUSED_STREAM) } else { Fault::Internal }
            })
        };
        select! {
            biased;
            reset = poll_fn(|cx| self.respond.poll_reset(cx)) => Err(reset_by(&reset)),
            opened = open => opened,
        }
    }

    async fn download(&mut self, progress: &Progress, response: ResponseFuture) -> Result<(), Fault> {
        let response = self.await_head(response).await?;
        progress.note_answer();
        let (parts, mut body) = response.into_parts();
        let status = parts.status;
        let complete = head::is_contentless(status, self.form) || body.is_end_stream();
        let answer =
            head::to_client(parts, self.form).map_err(|reason| Fault::Upstream(reason, Code::INTERNAL_ERROR))?;
        self.exchange.responded(status.as_u16());
        let mut to = self.respond.send_response(answer, complete).map_err(|_| Fault::ClientGone)?;
        self.sent = Sent::Head;
        if !complete {
            let counters = self.exchange.counters();
            let moved = |octets| {
                counters.add_received(octets);
                progress.touch();
            };
            let takes = (self.form != Form::Tunnel).then(|| Patience::watched(&self.shared.scope.deadlines, None));
            let course = Course {
                trailer_passes: response_trailer_passes,
                source: &self.shared.from_upstream,
                sends: None,
                takes,
                stalls: &self.shared.downloads,
                rate: Pace::new(&self.shared.scope.subjects, Way::Download),
            };
            pump(&mut body, &mut to, course, moved).await.map_err(|halt| match halt {
                Halt::NoRoom => Fault::NoRoom,
                Halt::Source(error) => upstream_fault(&error),
                Halt::Trailers => Fault::Upstream(Reason::UpstreamMalformed, Code::INTERNAL_ERROR),
                Halt::Sink => Fault::ClientGone,
                Halt::SlowSource => Fault::Stalled(Awaited::Upstream),
                Halt::SlowSink => Fault::ClientSlow,
            })?;
        }
        self.sent = Sent::All;
        Ok(())
    }

    async fn await_head(&mut self, mut response: ResponseFuture) -> Result<Response<RecvStream>, Fault> {
        let mut informational = 0;
        poll_fn(|cx| {
            if let Poll::Ready(reset) = self.respond.poll_reset(cx) {
                return Poll::Ready(Err(reset_by(&reset)));
            }
            while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
                informational += 1;
                if informational > INFORMATIONAL {
                    return Poll::Ready(Err(Fault::Upstream(Reason::UpstreamMalformed, Code::INTERNAL_ERROR)));
                }
                if let Some(hints) = head::early_hints(interim) {
                    let _ = self.respond.send_informational(hints);
                }
            }
            poll_response(&mut response, cx)
        })
        .await
    }

    /// Tells the client what went wrong in the way that its part of the conversation still permits, and concludes.
    async fn settle(&mut self, fault: Fault) -> StreamEnd {
        let (outcome, reason) = match (fault, self.sent) {
            (Fault::Withdrawn, Sent::Head | Sent::All) => {
                self.respond.send_reset(Code::CANCEL);
                (Outcome::Allowed, Some(Reason::PolicyWithdrawn))
            }
            // The answer was complete; only the rest of the request, or the other way of a tunnel, was cut short.
            (_, Sent::All) => (Outcome::Allowed, None),
            (Fault::ClientGone, Sent::Head) => (Outcome::Allowed, Some(Reason::ClientClosed)),
            (Fault::ClientGone, Sent::Nothing) => (Outcome::Failed, Some(Reason::ClientClosed)),
            (Fault::ClientMalformed, Sent::Head) => (Outcome::Allowed, Some(Reason::MalformedRequest)),
            (Fault::ClientMalformed, Sent::Nothing) => (Outcome::Denied, Some(Reason::MalformedRequest)),
            (Fault::ClientTrailers, Sent::Head) => {
                self.respond.send_reset(Code::PROTOCOL_ERROR);
                (Outcome::Allowed, Some(Reason::HeadTooLarge))
            }
            (Fault::ClientTrailers, Sent::Nothing) => return self.fail(Reason::HeadTooLarge).await,
            (Fault::Unprocessed(code), Sent::Nothing) => {
                self.respond.send_reset(code);
                (Outcome::Failed, Some(Reason::UpstreamClosed))
            }
            // What has begun to answer has acted on the request, whatever it says now.
            (Fault::Unprocessed(_), Sent::Head) => {
                self.respond.send_reset(Code::INTERNAL_ERROR);
                (Outcome::Failed, Some(Reason::UpstreamTruncated))
            }
            (Fault::Upstream(_, code), Sent::Head) => {
                self.respond.send_reset(code);
                (Outcome::Failed, Some(Reason::UpstreamTruncated))
            }
            (Fault::Stalled(_), Sent::Head) => {
                self.respond.send_reset(Code::CANCEL);
                (Outcome::Allowed, Some(Reason::IdleTimeout))
            }
            (Fault::ClientSlow, Sent::Head) => {
                self.respond.send_reset(Code::CANCEL);
                (Outcome::Allowed, Some(Reason::TooSlow))
            }
            (Fault::NoRoom, Sent::Head) => {
                self.respond.send_reset(Code::ENHANCE_YOUR_CALM);
                (Outcome::Allowed, Some(Reason::Overloaded))
            }
            (Fault::NoRoom, Sent::Nothing) => return self.fail(Reason::Overloaded).await,
            (Fault::Internal, Sent::Head) => {
                self.respond.send_reset(Code::INTERNAL_ERROR);
                (Outcome::Failed, Some(Reason::InternalError))
            }
            (Fault::Upstream(reason, _), Sent::Nothing) => return self.fail(reason).await,
            (Fault::Stalled(Awaited::Both), Sent::Nothing) => return self.fail(Reason::IdleTimeout).await,
            (Fault::Stalled(Awaited::Upstream), Sent::Nothing) => return self.fail(Reason::UpstreamTimeout).await,
            (Fault::ClientSlow, Sent::Nothing) => return self.fail(Reason::TooSlow).await,
            (Fault::Withdrawn, Sent::Nothing) => return self.fail(Reason::PolicyWithdrawn).await,
            (Fault::Internal, Sent::Nothing) => return self.fail(Reason::InternalError).await,
        };
        self.exchange.conclude(outcome, reason);
        match (fault, self.sent) {
            (Fault::ClientGone | Fault::ClientMalformed, Sent::Nothing | Sent::Head) => StreamEnd::Cancelled,
            _ => StreamEnd::Done,
        }
    }

    async fn fail(&mut self, reason: Reason) -> StreamEnd {
        self.answer(reason).await;
        StreamEnd::Done
    }

    /// The page for `reason`, recorded before it is sent. Nothing has been sent yet.
    async fn answer(&mut self, reason: Reason) {
        let page = self.exchange.page(reason);
        self.exchange.responded(page.status);
        self.exchange.conclude(reason.outcome(), Some(reason));
        self.exchange.commit();
        let Ok(answer) = head::of_page(&page) else {
            return self.respond.send_reset(Code::INTERNAL_ERROR);
        };
        let bare = self.form == Form::Head;
        // A client that has gone needs no page, one that does not take it in time gets none.
        if let Ok(mut to) = self.respond.send_response(answer, bare)
            && !bare
            && timeout(self.shared.scope.deadlines.idle, send(&mut to, page.body.into(), Last::Yes)).await.is_err()
        {
            self.respond.send_reset(Code::CANCEL);
        }
    }
}

fn poll_response(response: &mut ResponseFuture, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Fault>> {
    Pin::new(response).poll(cx).map_err(|error| upstream_fault(&error))
}
