//! The end of the journey where nothing is read: a tunnel, here or in the process that takes over.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::OwnedPermit;
use tokio::time::timeout;

use super::ending::{Ended, Next};
use super::gate::Live;
use super::moving::{Handed, Parcel};
use super::sessions::{Kind, Session};
use super::trip::Trip;
use crate::admit::Visit;
use crate::client::{Client, Socket};
use crate::policy::{Agreed, Decision, Tunnel};
use crate::pressure::Pressure;
use crate::reason::{Outcome, Reason, Side};
use crate::seldom::Seldom;
use crate::tunnel::{self, Counters, Half, TunnelEnd};
use crate::upstream::verify::VerifiedUpstream;

/// How long a tunnel that is cut waits for the word of the process that it was sent to; that of its end comes sooner.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Why a tunnel that could go on does not.
enum Stop {
    For(Reason),
    /// Another process takes it, and there is room on the way to it.
    Move(OwnedPermit<Handed>),
}

/// From where a tunnel goes on, and by what it is bound. Boxed: it is of little use while the tunnel is idle.
pub(super) struct From {
    halves: (Half, Half),
    /// Sent, and received.
    octets: (u64, u64),
    live: Arc<Live>,
    pressure: Arc<Pressure>,
}

impl Trip {
    pub(super) fn from(&self, halves: (Half, Half), octets: (u64, u64)) -> Box<From> {
        let (live, pressure) = (Arc::clone(&self.live), Arc::clone(self.gate.pressure()));
        Box::new(From { halves, octets, live, pressure })
    }

    /// Copies both ways until both sides have ended, a reload takes the permission away, or the service is cut or moves.
    ///
    /// The future holds the two sockets and none of the evidence, as there are many and they are idle.
    pub fn tunnel(
        &mut self,
        _agreed: Agreed<Tunnel>,
        client: &mut Client,
        upstream: VerifiedUpstream<Tunnel>,
        visit: &Visit,
    ) -> impl Future<Output = Result<Next, Ended>> {
        self.begin_relay();
        client.spread_probes();
        self.attempt.established();
        let (unsent, socket) = client.stream().into_parts();
        let from = self.from((Half { unsent, ended: false }, Half::default()), (0, 0));
        let sockets = (socket, upstream.into_stream());
        self.go_on(client, sockets, from, visit)
    }

    /// The same from wherever it has come to.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments and the variables they become")]
    pub(super) fn go_on(
        &mut self,
        client: &mut Client,
        (socket, stream): (Socket, TcpStream),
        mut from: Box<From>,
        visit: &Visit,
    ) -> impl Future<Output = Result<Next, Ended>> {
        async move {
            let session = self.session(Kind::Tunnel);
            let counters = session.counters();
            counters.sent.store(from.octets.0, Ordering::Relaxed);
            counters.received.store(from.octets.1, Ordering::Relaxed);
            let (halves, memory) = (std::mem::take(&mut from.halves), from.pressure.memory());
            let mut tunnel = tunnel::Tunnel::new((socket.tcp(), &stream), halves, counters, visit.subjects(), memory);
            let mut may_move = true;
            let end = loop {
                let stop = {
                    let stopped = pin!(self.stopped(&session, may_move));
                    tokio::select! {
                        biased;
                        end = tunnel.copy(&from.live.config.tunnel) => break Ok(end),
                        stop = Seldom::new(stopped) => stop,
                    }
                };
                match stop {
                    Stop::For(reason) => break Err(reason),
                    Stop::Move(to) => {
                        let moved = Box::pin(self.hand_over(&mut tunnel, (socket.tcp(), &stream), counters, to));
                        may_move = moved.await;
                        if may_move {
                            return Ok(Next::Moved);
                        }
                    }
                }
            };
            drop(tunnel);
            self.tunnelled(session.counters(), end, client)
        }
    }

    /// Gives the tunnel to the process that takes over. False: it did not take it, and it goes on here.
    async fn hand_over(
        &mut self,
        tunnel: &mut tunnel::Tunnel<'_>,
        sockets: (&TcpStream, &TcpStream),
        counters: &Counters,
        to: OwnedPermit<Handed>,
    ) -> bool {
        let parcel = match tunnel.halves().and_then(|halves| Parcel::of(self, sockets, &halves, counters)) {
            Ok(parcel) => parcel,
            Err(error) => {
                tracing::warn!(%error, "a tunnel cannot be handed over, and ends with this process");
                return false;
            }
        };
        let (handed, mut answer, stand) = Handed::new(parcel);
        to.send(handed);
        let taken = tokio::select! {
            taken = &mut answer => taken == Ok(true),
            // What is on its way is the other's to end, as soon as that goes on, unless it says now that it does not take it.
            () = self.drain.cut() => {
                !stand.stays() && timeout(LAST_WORD, answer).await.map_or(true, |taken| taken == Ok(true))
            }
        };
        if taken {
            self.attempt.handed_over();
        }
        taken
    }

    fn tunnelled(
        &mut self,
        counters: &Counters,
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

    /// Resolves when this tunnel is not to go on, or not here.
    async fn stopped(&self, session: &Session, may_move: bool) -> Stop {
        tokio::select! {
            () = self.withdrawn() => Stop::For(Reason::PolicyWithdrawn),
            stop = self.moved_or_cut(may_move) => stop,
            () = session.cut() => Stop::For(Reason::CutByOperator),
        }
    }

    async fn moved_or_cut(&self, may_move: bool) -> Stop {
        if may_move {
            self.drain.moving_or_cut().await;
            if let Some(to) = self.gate.mover().filter(|_| self.drain.is_moving()) {
                // Boxed: it is of no use while nothing takes over. The tunnel goes on until there is room on the way.
                let room = Box::pin(async {
                    tokio::select! {
                        room = to.clone().reserve_owned() => room.ok(),
                        () = self.drain.cut() => None,
                    }
                });
                if let Some(room) = room.await {
                    return Stop::Move(room);
                }
            }
        }
        self.drain.cut().await;
        Stop::For(self.cut_short())
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
}
