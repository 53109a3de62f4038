//! The end of the journey where nothing is read: a tunnel, here or in the process that takes over.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::OwnedPermit;
use tokio::time::{sleep_until, timeout};

use super::ending::{Ended, Next};
use super::moving::{Handed, Parcel};
use super::sessions::{Kind, Session};
use super::trip::{Ready, Trip};
use crate::admit::Visit;
use crate::client::{Client, Socket};
use crate::policy::Decision;
use crate::reason::{Outcome, Reason, Side};
use crate::tunnel::{self, Counters, Half, TunnelEnd};

/// How long a tunnel that is cut waits for the word of the process that it was sent to; that of its end comes sooner.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Why a tunnel that could go on does not.
enum Stop {
    For(Reason),
    /// Another process takes it, and there is room on the way to it.
    Move(OwnedPermit<Handed>),
}

/// A wait for room on the way to the process that takes over. `None`: there is no way.
type Room = Pin<Box<dyn Future<Output = Option<OwnedPermit<Handed>>> + Send>>;

/// How far a tunnel has come.
pub(super) struct Progress {
    pub(super) halves: (Half, Half),
    /// Sent, and received.
    pub(super) octets: (u64, u64),
}

impl Trip {
    /// Copies both ways until both sides have ended, a reload takes the permission away, or the service is cut or moves.
    ///
    /// Of what is ready the future holds the two sockets and none of the evidence, as there are many and they are idle.
    #[expect(clippy::boxed_local, reason = "the caller's future would keep its place")]
    pub fn tunnel(&mut self, ready: Box<Ready>, client: &mut Client) -> impl Future<Output = Result<Next, Ended>> {
        self.begin_relay();
        client.spread_probes();
        self.attempt.established();
        let Ready { upstream, visit } = *ready;
        let (unsent, socket) = client.stream().into_parts();
        let progress = Progress { halves: (Half { unsent, ended: false }, Half::default()), octets: (0, 0) };
        self.go_on(client, (socket, upstream.into_stream()), Box::new(progress), visit)
    }

    /// The same from wherever it has come to. `progress` is boxed as the future keeps the place of what it was given.
    pub(super) fn go_on(
        &mut self,
        client: &mut Client,
        (socket, stream): (Socket, TcpStream),
        progress: Box<Progress>,
        visit: Visit,
    ) -> impl Future<Output = Result<Next, Ended>> {
        let (live, pressure) = (Arc::clone(&self.live), Arc::clone(self.gate.pressure()));
        async move {
            let session = self.session(Kind::Tunnel);
            let Progress { halves, octets } = *progress;
            session.counters().sent.store(octets.0, Ordering::Relaxed);
            session.counters().received.store(octets.1, Ordering::Relaxed);
            let mut tunnel = tunnel::Tunnel::new(
                (socket.tcp(), &stream),
                halves,
                session.counters(),
                visit.subjects(),
                pressure.memory(),
            );
            let mut may_move = true;
            let end = loop {
                let stop = {
                    tokio::select! {
                        biased;
                        end = tunnel.copy(&live.config.tunnel) => break Ok(end),
                        stop = self.stopped(&session, may_move) => stop,
                    }
                };
                match stop {
                    Stop::For(reason) => break Err(reason),
                    Stop::Move(to) => {
                        if !session.sets_out() {
                            break Err(Reason::CutByOperator);
                        }
                        let moved =
                            Box::pin(self.hand_over(&mut tunnel, (socket.tcp(), &stream), session.counters(), to));
                        may_move = moved.await;
                        if may_move {
                            return Ok(Next::Moved);
                        }
                        session.stays();
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
        let parcel = match tunnel.halves().and_then(|halves| Parcel::of(self, sockets, halves, counters)) {
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

    /// Resolves when this tunnel is not to go on, or not here. It looks when its session's bell has rung: at an operator's cut, a reload,
    /// the end of observing, and each step of the service's end.
    fn stopped(&self, session: &Session, may_move: bool) -> impl Future<Output = Stop> {
        // Both boxed, as most tunnels have neither.
        let mut over = self.drain.outlives().map(|at| Box::pin(sleep_until(at)));
        let mut room: Option<Room> = None;
        // A reload may have come between the decision and this tunnel's first octet.
        let mut look = true;
        poll_fn(move |cx| {
            if session.poll_rung(cx).is_ready() || std::mem::take(&mut look) {
                if let Some(reason) = self.ended(session) {
                    return Poll::Ready(Stop::For(reason));
                }
                if may_move && room.is_none() {
                    room = self.room_to_move();
                }
            }
            if over.as_mut().is_some_and(|over| over.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Stop::For(self.cut_short()));
            }
            // The tunnel goes on until there is room on the way. Without a way it does until the cut.
            match room.as_mut().map(|room| room.as_mut().poll(cx)) {
                Some(Poll::Ready(Some(to))) => return Poll::Ready(Stop::Move(to)),
                Some(Poll::Ready(None)) => room = Some(Box::pin(pending())),
                Some(Poll::Pending) | None => {}
            }
            Poll::Pending
        })
    }

    /// Room on the way to the process that takes over, where one does.
    fn room_to_move(&self) -> Option<Room> {
        let to = self.gate.mover().filter(|_| self.drain.is_moving())?.clone();
        Some(Box::pin(async { to.reserve_owned().await.ok() }))
    }

    /// Why this tunnel may not go on.
    fn ended(&self, session: &Session) -> Option<Reason> {
        if session.is_cut() {
            Some(Reason::CutByOperator)
        } else if self.drain.is_cut() {
            Some(self.cut_short())
        } else {
            (!self.may_tunnel()).then_some(Reason::PolicyWithdrawn)
        }
    }

    /// Whether the policy in force permits it: after a reload it is asked as that before was.
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
