//! The ends of the journey where HTTP is spoken: an inspected connection, a page in its place, a plain request.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use bytes::BytesMut;
use futures_util::future::{Either, select};
use rustls::{AlertDescription, Error as TlsError, PeerMisbehaved};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ending::{Ended, Next, Stage};
use super::plain;
use super::protocols::page_protocol;
use super::sessions::Kind;
use super::trip::Trip;
use crate::admit::{Rated, Subjects, Visit};
use crate::client::{Client, Far, Prefixed};
use crate::exchange::fields::Restrictions;
use crate::exchange::{ConnectionState, Exchange};
use crate::forward::{self, Hop, Leg, Terms, forward};
use crate::http1::{Limits, RequestHead};
use crate::identify::client_hello::ClientHello;
use crate::inspect::leaf::{Alpn, LeafCache, LeafError, Leave};
use crate::inspect::scope::Scope;
use crate::inspect::{self, h1, h2, page};
use crate::policy::{Agreed, Destination, Inspect, Permit, Plain};
use crate::reason::{Outcome, Reason, Side};
use crate::seldom::Seldom;
use crate::upstream;
use crate::upstream::verify::{ClientCertificate, VerifiedUpstream};

impl Trip {
    /// Leave to make a leaf for the destination, where none is kept: before it is resolved and dialled, so that a flood of names
    /// costs neither (H06). Whatever comes of that, the client is answered under the leaf.
    pub fn leave_to_mint(&self, destination: &Destination, visit: &Visit) -> Result<Leave, Ended> {
        let may_mint = || visit.subjects().charge(Rated::LeafMints);
        let leave = self.leaves()?.leave(destination.name(), may_mint);
        leave.map_err(|refused| Ended::limited(Stage::Relay, refused))
    }

    fn leaves(&self) -> Result<&LeafCache, Ended> {
        let none = || Ended::new(Side::Sekisho, Stage::Relay, Reason::IssuingFailed);
        self.live.leaves.as_deref().ok_or_else(none)
    }

    /// The client's handshake, last, with a leaf for a destination that has been verified; then the request loop.
    pub async fn inspect(
        &mut self,
        agreed: Agreed<Inspect>,
        client: &mut Client,
        hello: &ClientHello,
        upstream: VerifiedUpstream<Inspect>,
        (visit, leave): (&Visit, &Leave),
    ) -> Result<Next, Ended> {
        let asked = upstream.client_certificate() == ClientCertificate::Asked;
        let (alpn, upstream) = match Box::pin(self.speak(hello, upstream)).await {
            Ok(spoken) => spoken,
            Err(ended) if asked && ended.reason == Reason::UpstreamClosed => {
                let ended = Ended { reason: Reason::ClientCertificateRequired, ..ended };
                return Box::pin(self.page(agreed, client, hello, ended, (visit, leave))).await;
            }
            Err(ended) => return Box::pin(self.page(agreed, client, hello, ended, (visit, leave))).await,
        };
        let stream = Box::pin(self.accept(client, agreed.destination(), alpn, (visit.subjects(), leave))).await?;
        self.begin_relay();
        client.spread_probes();
        self.attempt.established();
        let scope = Arc::new(self.scope(&agreed, visit, None));
        scope.connection.client_certificate_asked.store(asked, Ordering::Relaxed);
        let session = self.session(Kind::Inspected(Arc::clone(&scope.connection)));
        let head_limit = self.live.config.identify.request_head;
        let mut requests = pin!(async {
            match upstream {
                Spoken::H1(leg) => {
                    let client = Leg::new(stream, BytesMut::new());
                    Box::pin(h1::run(&scope, client, leg, head_limit)).await
                }
                Spoken::H2(upstream) => Box::pin(h2::run(Arc::clone(&scope), stream, upstream, head_limit)).await,
            }
        });
        let cut = pin!(self.drain.cut());
        let cut = select(session.cut(), cut);
        let ended = tokio::select! {
            biased;
            ended = &mut requests => ended,
            // Said before the requests are dropped, so that each of them knows what ended it.
            cut = Seldom::new(cut) => {
                let reason = by_operator(cut).unwrap_or_else(|| scope.leave());
                scope.connection.end_with(reason);
                inspect::Ended { side: Side::Sekisho, reason: Some(reason) }
            }
        };
        let withdrawn = scope.withdrawn.load(Ordering::Relaxed).then_some(Reason::PolicyWithdrawn);
        let (sent, received) = scope.connection.octets();
        self.attempt.fields.source_bytes = Some(sent);
        self.attempt.fields.destination_bytes = Some(received);
        self.conclude(Some(ended.side), Outcome::Allowed, withdrawn.or(ended.reason));
        Ok(Next::Close)
    }

    /// The upstream made ready in the protocol it chose, which the client must have offered.
    async fn speak(
        &mut self,
        hello: &ClientHello,
        upstream: VerifiedUpstream<Inspect>,
    ) -> Result<(Option<Alpn>, Spoken), Ended> {
        let offered = |protocol: &[u8]| hello.alpn.iter().any(|offer| **offer == *protocol);
        if upstream.alpn() == Some(b"h2") {
            let limit = self.live.config.verify.handshake;
            let opened = timeout(limit, h2::open_upstream(upstream.into_stream())).await;
            let failed = |reason| Ended::new(Side::Upstream, Stage::Verify, reason);
            return match opened {
                Ok(Ok(upstream)) => Ok((Some(Alpn::H2), Spoken::H2(upstream))),
                Ok(Err(error)) => Err(failed(error.reason()).because(error)),
                Err(_) => {
                    Err(failed(Reason::UpstreamTimeout).because("no HTTP/2 SETTINGS within the handshake deadline"))
                }
            };
        }
        let alpn = match (hello.alpn.is_empty(), offered(Alpn::Http11.as_bytes())) {
            (true, _) => None,
            (false, true) => Some(Alpn::Http11),
            (false, false) => return Err(Ended::new(Side::Upstream, Stage::Verify, Reason::NoApplicationProtocol)),
        };
        Ok((alpn, Spoken::H1(Leg::new(upstream.into_stream(), BytesMut::new()))))
    }

    /// Answers every request of an inspected connection with the page of `ended`, under a leaf for the destination; no byte
    /// of the failed origin is in it. Where a page cannot be, the failure goes back to be told as an alert.
    pub async fn page(
        &mut self,
        agreed: Agreed<Inspect>,
        client: &mut Client,
        hello: &ClientHello,
        ended: Ended,
        (visit, leave): (&Visit, &Leave),
    ) -> Result<Next, Ended> {
        let Some(alpn) = page_protocol(hello) else { return Err(ended) };
        if matches!(ended.reason, Reason::NoApplicationProtocol | Reason::ClientClosed) {
            return Err(ended);
        }
        // The record is queued before the client sees the page.
        self.note_ended(&ended);
        let scope = Arc::new(self.scope(&agreed, visit, Some(ended.reason)));
        self.attempt.conclude(ended.reason.outcome(), Some(ended.reason));
        self.attempt.commit();
        let stream = match Box::pin(self.accept(client, agreed.destination(), alpn, (visit.subjects(), leave))).await {
            Ok(stream) => stream,
            Err(unseen) => return Ok(self.alert(unseen.reason, client).await),
        };
        self.begin_relay();
        let head_limit = self.live.config.identify.request_head;
        let mut pages = pin!(page::serve(&scope, stream, alpn, head_limit));
        tokio::select! {
            () = &mut pages => {}
            () = self.drain.cut() => scope.connection.end_with(scope.leave()),
        }
        Ok(Next::Close)
    }

    /// The TLS handshake with the client.
    async fn accept(
        &mut self,
        client: &mut Client,
        destination: &Destination,
        alpn: Option<Alpn>,
        (subjects, leave): (&Subjects, &Leave),
    ) -> Result<Box<TlsStream<Prefixed>>, Ended> {
        let sekisho = |reason| Ended::new(Side::Sekisho, Stage::Relay, reason);
        let leaves = self.leaves()?;
        // One that was kept may be old, or gone by now.
        let may_mint = || if leave.take() { Ok(()) } else { subjects.charge(Rated::LeafMints) };
        let config = leaves.server_config(destination.name(), alpn, SystemTime::now(), may_mint).await;
        let config = config.map_err(|error| match error {
            LeafError::Mint(error) => sekisho(Reason::IssuingFailed).because(error),
            LeafError::Limited(refused) => Ended::limited(Stage::Relay, refused),
        })?;
        client.bound_unsent();
        let handshake = TlsAcceptor::from(config).accept(client.stream());
        match timeout(self.live.config.inspect.client_handshake, handshake).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(failed_handshake(&error, client)),
            Err(_) => Err(Ended::new(Side::Client, Stage::Relay, Reason::TlsFailed)
                .because("the client did not finish the TLS handshake in time")),
        }
    }

    fn scope(&self, agreed: &Agreed<Inspect>, visit: &Visit, refusal: Option<Reason>) -> Scope {
        let mut common = self.attempt.fields.clone();
        common.connection = Some(self.attempt.id());
        Scope {
            client: self.client,
            destination: agreed.destination().clone(),
            ruling: Arc::clone(self.gate.ruling()),
            reloads: self.gate.reloads(),
            subjects: Arc::clone(visit.subjects()),
            pressure: Arc::clone(self.gate.pressure()),
            recorder: self.gate.recorder().clone(),
            drain: self.drain.clone(),
            deadlines: self.live.config.inspect.deadlines,
            common,
            connection: Arc::new(ConnectionState::default()),
            standing: ArcSwapOption::empty(),
            withdrawn: false.into(),
            limited: 0.into(),
            refusal,
        }
    }

    /// Forwards one `http:` request on a connection of its own.
    pub async fn plain(
        &mut self,
        permit: Permit<Plain>,
        head: &RequestHead,
        client: &mut Client,
        connection: upstream::connect::Connection,
        visit: &Visit,
    ) -> Result<Next, Ended> {
        let host = match permit.destination().port() {
            80 => permit.destination().name().shared(),
            port => format!("{}:{port}", permit.destination().name()).into(),
        };
        let state = Arc::new(ConnectionState::default());
        self.begin_relay();
        // A long answer must leave a trace if the process is killed under it.
        self.attempt.established();
        let session = self.session(Kind::Plain(Arc::clone(&state)));
        let attempt = self.attempt.hand_over();
        let mut exchange = Exchange::new(attempt, Ok(()), Arc::new(Restrictions::default()), host, Arc::clone(&state));
        let (deadlines, subjects) = (self.live.config.inspect.deadlines, Arc::clone(visit.subjects()));
        let terms = Terms { deadlines, hop: Hop::Plain, limits: Limits::default(), subjects };
        client.bound_unsent();
        let (socket, buffer) = client.lend();
        let mut near = Leg::new(socket, buffer);
        let mut far = Leg::new(connection.into_plain(&permit), BytesMut::new());
        let next = {
            let mut forwarding = pin!(forward(head, &mut exchange, &mut near, &mut far, &terms));
            let cut = pin!(self.drain.cut());
            tokio::select! {
                next = &mut forwarding => next,
                cut = select(session.cut(), cut) => {
                    state.end_with(by_operator(cut).unwrap_or_else(|| self.cut_short()));
                    return Ok(Next::Abort);
                }
            }
        };
        client.give_back(near.buffer);
        Ok(match next {
            forward::Next::KeepAlive | forward::Next::UpstreamEnds => Next::Request,
            forward::Next::Close | forward::Next::Switched => Next::Close,
            forward::Next::Abort => Next::Abort,
            forward::Next::Refuse(reason) => {
                let page = exchange.refuse(reason);
                let _ = client.send(&plain::page(&page, self.head_only)).await;
                Next::Close
            }
        })
    }

    pub(super) fn conclude(&mut self, side: Option<Side>, outcome: Outcome, reason: Option<Reason>) {
        if reason.is_some() {
            self.attempt.fields.side = side;
            self.attempt.fields.stage = Some(Stage::Relay.as_str());
        }
        self.attempt.conclude(outcome, reason);
    }
}

/// An upstream ready to be relayed to, in its protocol.
enum Spoken {
    H1(Leg<Box<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>>),
    H2(h2::Upstream),
}

/// The reason where an operator's word came first, and not the service's.
fn by_operator<T, U>(cut: Either<T, U>) -> Option<Reason> {
    matches!(cut, Either::Left(_)).then_some(Reason::CutByOperator)
}

/// How a handshake with the client failed, and what the client has been told of it.
fn failed_handshake(error: &std::io::Error, client: &mut Client) -> Ended {
    let reason = handshake_reason(error);
    let ended = Ended::new(Side::Client, Stage::Relay, reason);
    if reason == Reason::NameMismatch {
        // The one error for which rustls sends no alert; nothing is encrypted yet, so that ours is understood (D12).
        client.reclaim(Far::Established);
        return ended
            .because("the ClientHello behind a HelloRetryRequest names another server than the first, or none");
    }
    client.reclaim(Far::Alerted);
    ended.because(error)
}

/// A client that says with an alert that it does not trust our leaf is told from one that leaves, and from one whose TLS failed
/// otherwise.
fn handshake_reason(error: &std::io::Error) -> Reason {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::AlertReceived(alert)) if inspect::rejects_certificate(*alert) => {
            Reason::ClientRejectedCertificate
        }
        // RFC 8446 section 4.1.2 lets the second ClientHello change no such thing.
        Some(TlsError::PeerMisbehaved(PeerMisbehaved::ServerNameDifferedOnRetry)) => Reason::NameMismatch,
        None | Some(TlsError::AlertReceived(AlertDescription::CloseNotify | AlertDescription::UserCanceled)) => {
            Reason::ClientClosed
        }
        Some(_) => Reason::TlsFailed,
    }
}
