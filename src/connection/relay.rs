//! The ends of the journey: a tunnel, an inspected connection, a page in its place, a plain request.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use bytes::BytesMut;
use rustls::{AlertDescription, Error as TlsError, PeerMisbehaved};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ending::{Ended, Next, Stage};
use super::plain;
use super::trip::Trip;
use crate::admit::{Rated, Subjects, Visit};
use crate::client::{Client, Far, Prefixed};
use crate::exchange::fields::Restrictions;
use crate::exchange::{ConnectionState, Exchange};
use crate::forward::{self, Hop, Leg, Terms, forward};
use crate::http1::{Limits, RequestHead};
use crate::identify::client_hello::ClientHello;
use crate::inspect::leaf::{Alpn, LeafError};
use crate::inspect::scope::Scope;
use crate::inspect::{self, h1, h2, page};
use crate::policy::{Agreed, Decision, Destination, Inspect, Permit, Plain, Tunnel};
use crate::reason::{Outcome, Reason, Side};
use crate::seldom::Seldom;
use crate::tunnel::{self, TunnelEnd};
use crate::upstream;
use crate::upstream::verify::{ClientCertificate, VerifiedUpstream};

impl Trip {
    /// Copies both ways until both sides have ended, a reload takes the permission away, or the service is cut.
    ///
    /// The future holds the two sockets and none of the evidence, as there are many and they are idle.
    pub fn tunnel(
        &mut self,
        _agreed: Agreed<Tunnel>,
        client: &mut Client,
        upstream: VerifiedUpstream<Tunnel>,
        visit: &Visit,
    ) -> impl Future<Output = Result<Next, Ended>> {
        let stream = upstream.into_stream();
        async move {
            self.begin_relay();
            client.spread_probes();
            self.attempt.established();
            let counters = tunnel::Counters::default();
            let (prefix, socket) = client.stream().into_parts();
            let (settings, memory) = (&self.live.config.tunnel, self.gate.pressure().memory());
            let end = {
                let stopped = pin!(self.stopped());
                tokio::select! {
                    biased;
                    end = tunnel::relay(prefix, socket.tcp(), &stream, &counters, settings, visit.subjects(), memory) => {
                        Ok(end)
                    }
                    reason = Seldom::new(stopped) => Err(reason),
                }
            };
            self.tunnelled(&counters, end, client)
        }
    }

    fn tunnelled(
        &mut self,
        counters: &tunnel::Counters,
        end: Result<TunnelEnd, Reason>,
        client: &mut Client,
    ) -> Result<Next, Ended> {
        let fields = &mut self.attempt.fields;
        fields.source_bytes = Some(counters.sent.load(Ordering::Relaxed));
        fields.destination_bytes = Some(counters.received.load(Ordering::Relaxed));
        if end == Ok(TunnelEnd::Finished) {
            client.ended();
        }
        let (side, reason, next) = match end {
            // What the client was sent may not have been taken yet: its connection is closed with patience.
            Ok(TunnelEnd::Finished | TunnelEnd::UpstreamFinished) => (None, None, Next::Close),
            Ok(TunnelEnd::Idle) => (Some(Side::Sekisho), Some(Reason::IdleTimeout), Next::Abort),
            Ok(TunnelEnd::ClientClosed) => (Some(Side::Client), Some(Reason::ClientClosed), Next::Abort),
            Ok(TunnelEnd::UpstreamClosed) => (Some(Side::Upstream), Some(Reason::UpstreamClosed), Next::Abort),
            Err(reason) => (Some(Side::Sekisho), Some(reason), Next::Abort),
        };
        self.conclude(side, Outcome::Allowed, reason);
        Ok(next)
    }

    /// Resolves when this tunnel is not to go on.
    async fn stopped(&self) -> Reason {
        tokio::select! {
            () = self.withdrawn() => Reason::PolicyWithdrawn,
            () = self.drain.cut() => self.cut_short(),
        }
    }

    /// Resolves when this tunnel is no longer permitted: after a reload it is asked of the new policy as it was of the old, and when
    /// observing ends.
    async fn withdrawn(&self) {
        let mut reloads = self.gate.reloads();
        // Asked once at the start too: a reload may have come between the decision and this tunnel's first byte.
        loop {
            if !self.may_tunnel() || reloads.changed().await.is_err() {
                return;
            }
        }
    }

    fn may_tunnel(&self) -> bool {
        let decide = |claim| self.gate.live().decide(self.client, claim);
        match self.claim.as_ref().map(decide) {
            // What a rule permitted does not go on as observed, since its record does not say so: it is begun anew.
            Some(Decision::Tunnel(permit)) => {
                permit.would_refuse().is_none() || self.attempt.fields.would_refuse.is_some()
            }
            Some(Decision::Deny(_) | Decision::Inspect(_) | Decision::Plain(_)) | None => false,
        }
    }

    /// The client's handshake, last, with a leaf for a destination that has been verified; then the request loop.
    pub async fn inspect(
        &mut self,
        agreed: Agreed<Inspect>,
        client: &mut Client,
        hello: &ClientHello,
        upstream: VerifiedUpstream<Inspect>,
        visit: &Visit,
    ) -> Result<Next, Ended> {
        let asked = upstream.client_certificate() == ClientCertificate::Asked;
        let (alpn, upstream) = match Box::pin(self.speak(hello, upstream)).await {
            Ok(spoken) => spoken,
            Err(ended) if asked && ended.reason == Reason::UpstreamClosed => {
                let ended = Ended { reason: Reason::ClientCertificateRequired, ..ended };
                return Box::pin(self.page(agreed, client, hello, ended, visit)).await;
            }
            Err(ended) => return Box::pin(self.page(agreed, client, hello, ended, visit)).await,
        };
        let stream = Box::pin(self.accept(client, agreed.destination(), alpn, visit.subjects())).await?;
        self.begin_relay();
        client.spread_probes();
        self.attempt.established();
        let scope = Arc::new(self.scope(&agreed, visit, None));
        scope.connection.client_certificate_asked.store(asked, Ordering::Relaxed);
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
        let ended = tokio::select! {
            biased;
            ended = &mut requests => ended,
            // Said before the requests are dropped, so that each of them knows what ended it.
            () = Seldom::new(cut) => {
                scope.connection.end_with(scope.leave());
                inspect::Ended { side: Side::Sekisho, reason: Some(scope.leave()) }
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
        visit: &Visit,
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
        let stream = match Box::pin(self.accept(client, agreed.destination(), alpn, visit.subjects())).await {
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
        subjects: &Subjects,
    ) -> Result<Box<TlsStream<Prefixed>>, Ended> {
        let sekisho = |reason| Ended::new(Side::Sekisho, Stage::Relay, reason);
        let leaves = self.live.leaves.as_ref().ok_or_else(|| sekisho(Reason::IssuingFailed))?;
        let may_mint = || subjects.charge(Rated::LeafMints);
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
            tokio::select! {
                next = &mut forwarding => next,
                () = self.drain.cut() => {
                    state.end_with(self.cut_short());
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

    fn conclude(&mut self, side: Option<Side>, outcome: Outcome, reason: Option<Reason>) {
        if reason.is_some() {
            self.attempt.fields.side = side.map(Side::as_str);
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

/// What is offered to the upstream: of the client's protocols those that are inspected, in its order. `None`: it has some,
/// and none of ours. A client without ALPN speaks HTTP/1.1.
pub(super) fn mirrored(hello: &ClientHello) -> Option<Vec<Vec<u8>>> {
    if hello.alpn.is_empty() {
        return Some(vec![Alpn::Http11.as_bytes().to_vec()]);
    }
    let known = [Alpn::H2.as_bytes(), Alpn::Http11.as_bytes()];
    let offered: Vec<_> =
        hello.alpn.iter().filter(|offer| known.contains(&&***offer)).map(|offer| offer.to_vec()).collect();
    if offered.is_empty() { None } else { Some(offered) }
}

/// The protocol of a page: the simplest the client offers. The outer `None`: none that we speak.
fn page_protocol(hello: &ClientHello) -> Option<Option<Alpn>> {
    let offered = |alpn: Alpn| hello.alpn.iter().any(|offer| **offer == *alpn.as_bytes());
    match hello.alpn.is_empty() {
        true => Some(None),
        false if offered(Alpn::Http11) => Some(Some(Alpn::Http11)),
        false if offered(Alpn::H2) => Some(Some(Alpn::H2)),
        false => None,
    }
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
