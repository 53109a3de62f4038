//! The client's end of an attempt: the claim it begins with, and the answer where it is refused.

use std::sync::{Arc, Once};
use std::time::SystemTime;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::ending::{Ended, Next, Stage};
use super::gate::{Gate, NotAdmitted, Present};
use super::plain;
use super::trip::{Claimed, Trip};
use crate::addrs::{BalancerAddr, ClientAddr, ListenAddr, OriginalAddr};
use crate::admit::{Admission, Rated};
use crate::client::{Client, Established, Far};
use crate::http1::{Method, RequestHead, RequestReader};
use crate::identify::client_hello::ClientHello;
use crate::identify::{self, Asked, Awaited, ClaimError};
use crate::pressure::{Newcomer, Shed};
use crate::reason::{Reason, Side};
use crate::record::{Action, Fields};
use crate::reply::{self, KeepAlive, Manner, PLAIN_METHODS, Page};

/// Connections without a slot that are answered at a time. They hold descriptors outside of every limit, so the ones past this
/// are recorded and closed without a word (H05).
const TURNED_AWAY: usize = 64;

static ANSWERING: Semaphore = Semaphore::const_new(TURNED_AWAY);

/// What a client's connection waits for.
pub struct Waiting {
    /// When the connection was accepted, until the first claim. Boxed: it is of no use to a tunnel.
    accepted: Option<Box<(SystemTime, Instant)>>,
    /// The end of the connection's own life.
    ends: Option<Instant>,
    /// Its place until then; each further claim takes another.
    newcomer: Option<Newcomer>,
}

impl Waiting {
    pub fn new(gate: &Gate, newcomer: Newcomer) -> Self {
        let accepted = Instant::now();
        let ends = gate.live().config.connection_life.map(|life| accepted + life);
        Self { accepted: Some(Box::new((SystemTime::now(), accepted))), ends, newcomer: Some(newcomer) }
    }

    /// Whether the connection has been open for as long as it may.
    pub fn is_over(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Instant::now())
    }
}

/// How the wait for a head ended.
enum Waited {
    /// In order, between two attempts: there is nothing to record.
    Over,
    Head(Box<RequestHead>),
    Hello(Box<ClientHello>, Established),
    Failed(ClaimError),
    /// We end it: the service is stopping, or the place is needed by others.
    Ended(Reason),
}

impl Trip {
    /// Waits for the next claim; the attempt begins with it. `None`: the connection ended in order between two attempts.
    pub async fn claim(
        gate: &Arc<Gate>,
        client: &mut Client,
        admitted: &Admission,
        waiting: &mut Waiting,
    ) -> Option<(Box<Self>, Box<Claimed>)> {
        let accepted = waiting.accepted.take();
        let first = accepted.is_some();
        let newcomer = waiting.newcomer.take().or_else(|| gate.pressure().newcomer());
        let waited = match &newcomer {
            Some(newcomer) => wait(gate, client, newcomer).await,
            None => Waited::Ended(Reason::Overloaded),
        };
        if matches!(waited, Waited::Over | Waited::Ended(_) | Waited::Failed(ClaimError::Timeout(_)))
            && !first
            && client.buffer().is_empty()
        {
            return None;
        }
        if matches!(waited, Waited::Over) && client.balanced().is_some_and(|balanced| balanced.own) {
            gate.balancer_checked();
            return None;
        }
        let astray = first && matches!(waited, Waited::Failed(ClaimError::Tls));
        let (head, claimed) = read(waited, client.original().map(OriginalAddr::port));
        // A request that is none of CONNECT's is one of plain HTTP, however little of it can be used.
        let plain = head.as_ref().is_some_and(|(method, _)| *method != Method::Connect);
        let action = if plain { Action::Request } else { Action::Connection };
        // The configuration of the moment at which the claim was complete, not of the one at which the wait for it began.
        let who = (client.addr(), client.listener());
        let mut trip = Box::new(Self::begin(gate, who, newcomer, action).await);
        note_route(&mut trip.attempt.fields, client);
        trip.drain = gate.drain().at(waiting.ends, trip.live.config.drain);
        if let Some(accepted) = accepted {
            let (at, began) = *accepted;
            trip.attempt.began_at(at, began);
        }
        if let Some((method, keep_alive)) = head {
            trip.head_only = method == Method::Head;
            trip.keep_alive = if keep_alive { KeepAlive::Yes } else { KeepAlive::No };
        }
        let claimed = claimed.and_then(|asked| asked.map_err(|error| trip.no_claim(&error)));
        let claimed = if astray { claimed.map_err(|ended| went_astray(ended, client)) } else { claimed };
        let claimed = trip.not_to_itself(client).and(claimed);
        let charged = if first { Ok(()) } else { charge(admitted, plain) };
        Some((trip, Box::new(charged.and(claimed))))
    }

    /// A client that was steered nowhere but connected to a transparent listener itself.
    fn not_to_itself(&self, client: &Client) -> Result<(), Ended> {
        let Some(original) = client.original() else { return Ok(()) };
        match self.live.selves.contains(original.ip(), original.port(), &[]) {
            true => Err(Ended::new(Side::Client, Stage::Claim, Reason::SelfConnection)
                .because("the client connected to a transparent listener itself: it is for connections that are steered to it")
                .last()),
            false => Ok(()),
        }
    }

    /// Only behind a CONNECT head, which has no content, the next head can still be found.
    fn no_claim(&mut self, error: &ClaimError) -> Ended {
        let ended = Ended::new(Side::Client, Stage::Claim, error.reason()).because(error);
        match error {
            ClaimError::Authority { written, .. } => {
                self.attempt.fields.authority = Some(written.as_slice().into());
                ended
            }
            ClaimError::Closed | ClaimError::Timeout(_) | ClaimError::Head(_) | ClaimError::Form(_) => ended.last(),
            ClaimError::Tls => ended.last(),
            ClaimError::Hello(_) | ClaimError::NoName | ClaimError::NeitherTlsNorHttp => ended.last(),
        }
    }

    /// Writes down how the attempt ended, then tells the client in the manner it still understands.
    pub async fn refuse(mut self: Box<Self>, ended: Ended, client: &mut Client) -> Next {
        self.note_ended(&ended);
        self.attempt.conclude(ended.reason.outcome(), Some(ended.reason));
        let silent = ended.reason == Reason::ClientClosed || client.far() == Far::Relayed;
        if client.far() == Far::Head && !silent {
            self.attempt.fields.status = Some(reply::http_answer(ended.reason).status);
        }
        // The record is queued before the client sees the outcome.
        self.attempt.commit();
        if silent {
            return Next::Abort;
        }
        if ended.held_back {
            self.hold_back().await;
        }
        if matches!(client.far(), Far::Established | Far::Alerted) {
            return self.alert(ended.reason, client).await;
        }
        let connect = self.action == Action::Connection;
        let keep = if connect && self.keep_alive == KeepAlive::Yes { ended.keep_alive } else { KeepAlive::No };
        let answer = if connect {
            reply::connect_refusal(ended.reason, keep).into_bytes()
        } else {
            let asked = self.claim.as_ref().map(|claim| claim.authority().to_string()).unwrap_or_default();
            let reference = self.attempt.id().to_string();
            let page = Page::new(ended.reason, PLAIN_METHODS, &asked, &reference, SystemTime::now());
            plain::page(&page, self.head_only)
        };
        match self.send(&answer, client).await {
            // A client that took its CONNECT for granted has sent its ClientHello: that is no head.
            Next::Close if keep == KeepAlive::Yes && !client.speaks_tls() => Next::Request,
            next => next,
        }
    }

    /// Ends a conversation whose 200 has been sent and over which no TLS handshake has been completed.
    pub(super) async fn alert(&self, reason: Reason, client: &mut Client) -> Next {
        match (client.far(), reply::manner(reason)) {
            (Far::Established, Manner::Alert(description)) => {
                self.send(&reply::alert_record(description), client).await
            }
            (Far::Established, Manner::Close) | (Far::Alerted, _) => Next::Close,
            (Far::Head | Far::Relayed, _) => Next::Abort,
        }
    }

    async fn hold_back(&self) {
        tokio::select! {
            () = self.gate.limits().hold_back() => {}
            () = self.gate.drain().cut() => {}
        }
    }

    async fn send(&self, answer: &[u8], client: &mut Client) -> Next {
        tokio::select! {
            biased;
            sent = client.send(answer) => if sent.is_ok() { Next::Close } else { Next::Abort },
            () = self.gate.drain().cut() => Next::Abort,
        }
    }
}

/// TLS is the first that a client says to an explicit listener: nothing but steering brings one there that knows of no proxy. Each record
/// says it, the log once.
fn went_astray(ended: Ended, client: &Client) -> Ended {
    const HINT: &str = "TLS came where CONNECT is due, as it does when the network steers clients to an explicit listener: steered clients need \
                        a [[listener]] with mode = \"transparent\"";
    static SAID: Once = Once::new();
    SAID.call_once(|| tracing::warn!(client = %client.addr(), listener = %client.listener(), "{HINT}"));
    ended.because(HINT)
}

/// With a head, its method and whether the client would go on behind it; and what was claimed.
type Read = (Option<(Method, bool)>, Result<Result<Asked, ClaimError>, Ended>);

fn read(waited: Waited, steered_to: Option<u16>) -> Read {
    match waited {
        Waited::Over => (None, Ok(Err(ClaimError::Closed))),
        Waited::Head(head) => {
            let said = (head.method().clone(), head.keep_alive());
            let asked = match steered_to {
                Some(port) => identify::asked_of_steered(head, port),
                None => identify::asked(head),
            };
            (Some(said), Ok(asked))
        }
        Waited::Hello(hello, due) => (None, Ok(identify::asked_by_hello(hello, due, steered_to.unwrap_or_default()))),
        Waited::Failed(error) => (None, Ok(Err(error))),
        Waited::Ended(reason) => (None, Err(Ended::cut(Stage::Claim, reason))),
    }
}

/// A connection's first claim was charged when it was admitted; each further one is charged like a new connection, or like
/// an inspected request, so that one kept-alive connection is no way round the rates.
fn charge(admitted: &Admission, plain: bool) -> Result<(), Ended> {
    let what = if plain { Rated::Requests } else { Rated::NewConnections };
    admitted.subjects().charge(what).map_err(|refused| Ended::limited(Stage::Claim, refused).last())
}

async fn wait(gate: &Gate, client: &mut Client, newcomer: &Newcomer) -> Waited {
    let settings = &gate.live().config.identify;
    let drain = gate.drain();
    // A whole head leaves nothing in it, and behind any other none is read.
    let mut reader = RequestReader::default();
    let awaited = {
        let idle = client.buffer().is_empty();
        tokio::select! {
            // What is there already is read before any of the others is registered with.
            biased;
            awaited = first(client, &mut reader, settings) => awaited,
            // A connection on which nothing was asked has nothing to finish.
            () = drain.draining(), if idle => return Waited::Ended(Reason::ShuttingDown),
            () = drain.cut() => return Waited::Ended(Reason::ShuttingDown),
            () = newcomer.ended() => return Waited::Ended(Reason::Overloaded),
        }
    };
    match awaited {
        Awaited::Over => Waited::Over,
        Awaited::Head(head) => Waited::Head(head),
        Awaited::Hello(hello, due) => Waited::Hello(hello, due),
        Awaited::Failed(error) => Waited::Failed(error),
    }
}

/// What the client says first, by who it is.
async fn first(client: &mut Client, reader: &mut RequestReader, settings: &identify::Settings) -> Awaited {
    match client.original() {
        // Boxed: an explicit client, which most are, waits in less room.
        Some(_) => Box::pin(identify::first_of_steered(client, reader, settings)).await,
        None => identify::next_head(client, reader, settings).await,
    }
}

/// By what way the client came.
pub(super) fn note_route(fields: &mut Fields, client: &Client) {
    fields.original = client.original();
    if let Some(balanced) = client.balanced() {
        (fields.rare.balancer, fields.rare.balancer_destination) = (Some(balanced.by), balanced.destination);
    }
}

/// Answers a connection that gets no slot, and leaves its record.
pub async fn turn_away(gate: &Arc<Gate>, mut client: Client, why: NotAdmitted) {
    let who = (client.addr(), client.listener());
    let mut trip = Box::new(Trip::begin(gate, who, None, Action::Connection).await);
    note_route(&mut trip.attempt.fields, &client);
    let ended = match why {
        NotAdmitted::ShuttingDown | NotAdmitted::Overloaded => {
            Ended::new(why.reason().side(), Stage::Admit, why.reason())
        }
        NotAdmitted::Limit(refused) => Ended::limited(Stage::Admit, refused),
    };
    let mut ended = ended.last();
    // Half of them are for answers that are sent at once.
    ended.held_back &= ANSWERING.available_permits() > TURNED_AWAY / 2;
    let Ok(_answering) = ANSWERING.try_acquire() else {
        trip.record_only(&ended);
        return;
    };
    if trip.refuse(ended, &mut client).await != Next::Abort {
        client.close().await;
    }
}

/// What is known of a connection that was closed as soon as it was accepted.
pub struct PassedOver {
    /// Or the balancer, whose client is not known.
    pub client: ClientAddr,
    pub listener: ListenAddr,
    pub original: Option<OriginalAddr>,
    pub balancer: Option<BalancerAddr>,
}

/// Leaves the record of a connection that was closed as soon as it was accepted.
pub async fn pass_over(present: Present, passed: PassedOver) {
    let gate = present.gate();
    gate.pressure().count(Shed::Connections);
    let mut trip = Trip::begin(gate, (passed.client, passed.listener), None, Action::Connection).await;
    trip.attempt.fields.original = passed.original;
    if passed.balancer.is_some() {
        trip.attempt.fields.rare.balancer = passed.balancer;
    }
    trip.record_only(&Ended::cut(Stage::Admit, Reason::Overloaded));
}
