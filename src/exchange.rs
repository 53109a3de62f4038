//! One HTTP request under way: the guard that counts its octets, knows what is set on it, and leaves its record when it is
//! dropped. Plain HTTP, inspected HTTP/1.1 and inspected HTTP/2 all speak through it.

pub mod fields;
pub mod patience;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use self::fields::Restrictions;
use crate::pressure::Charge;
use crate::reason::{Outcome, Reason};
use crate::record::Attempt;
use crate::reply::{INSPECTED_METHODS, Page};

/// Why a request is not forwarded, and whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub after: After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Continue,
    EndConnection,
}

/// Octets of bodies, shared with the tasks that move them.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    /// Counts on while a body waits for its turn, which is no idleness.
    waits: AtomicU64,
}

impl Counters {
    /// Request octets sent to the upstream.
    pub fn add_sent(&self, octets: usize) {
        self.sent.fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// Response octets sent to the client.
    pub fn add_received(&self, octets: usize) {
        self.received.fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// A body still waits for its turn.
    pub fn wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// All together: stands still while nothing moves, unless it waits for its turn.
    pub fn total(&self) -> u64 {
        let Self { sent, received, waits } = self;
        [sent, received, waits].into_iter().fold(0, |sum, part| sum.wrapping_add(part.load(Ordering::Relaxed)))
    }
}

/// What the requests of one connection share.
#[derive(Debug, Default)]
pub struct ConnectionState {
    /// Why all of it ended at once, for the requests that were dropped by that.
    end: OnceLock<Reason>,
    octets: Counters,
    /// The upstream asked for a client certificate, of which TLS 1.3 lets it notice the lack only after its handshake.
    pub client_certificate_asked: AtomicBool,
}

impl ConnectionState {
    pub fn end_with(&self, reason: Reason) {
        // The first word counts.
        let _ = self.end.set(reason);
    }

    /// What a failure really was.
    fn cause(&self, reason: Reason) -> Reason {
        match reason {
            Reason::UpstreamClosed if self.client_certificate_asked.load(Ordering::Relaxed) => {
                Reason::ClientCertificateRequired
            }
            other => other,
        }
    }

    /// Octets of all bodies so far: to the upstream, to the client.
    pub fn octets(&self) -> (u64, u64) {
        (self.octets.sent.load(Ordering::Relaxed), self.octets.received.load(Ordering::Relaxed))
    }
}

/// The guard of one request. Dropped without [`Exchange::conclude`], it ended as its connection did, else `client_closed`.
pub struct Exchange {
    attempt: Attempt,
    verdict: Result<(), Refusal>,
    restrictions: Arc<Restrictions>,
    /// The authority sent upstream, in normal form; for a page, what was asked for.
    host: Arc<str>,
    counters: Arc<Counters>,
    connection: Arc<ConnectionState>,
    concluded: bool,
    /// The memory it may take.
    _room: Option<Charge>,
}

impl Exchange {
    pub fn new(
        attempt: Attempt,
        verdict: Result<(), Refusal>,
        restrictions: Arc<Restrictions>,
        host: Arc<str>,
        connection: Arc<ConnectionState>,
    ) -> Self {
        let counters = Arc::default();
        Self { attempt, verdict, restrictions, host, counters, connection, concluded: false, _room: None }
    }

    /// With memory that was charged for it.
    pub fn within(mut self, room: Charge) -> Self {
        self._room = Some(room);
        self
    }

    /// Whether the request goes on.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn verdict(&self) -> Result<(), Refusal> {
        self.verdict
    }

    /// What is set on the request, last of all.
    pub fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }

    /// The authority to send upstream, in normal form.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The status the client is about to see, ours or the upstream's. Call before sending it.
    pub fn responded(&mut self, status: u16) {
        self.attempt.fields.status = Some(status);
    }

    /// One sentence for the administrator, where the reason alone does not say enough.
    pub fn explain(&mut self, detail: &str) {
        self.attempt.fields.detail = Some(detail.into());
    }

    /// How the request ended.
    pub fn conclude(&mut self, outcome: Outcome, reason: Option<Reason>) {
        self.concluded = true;
        let reason = reason.map(|reason| self.connection.cause(reason));
        let refused = self.verdict.is_err();
        self.attempt.fields.side = reason.map(|reason| reason.side());
        // A page in place of an origin that failed ended where its connection did.
        if self.attempt.fields.stage.is_none() || reason.is_none() {
            self.attempt.fields.stage = reason.map(|_| if refused { "decide" } else { "relay" });
        }
        self.attempt.conclude(outcome, reason);
    }

    /// The page that answers this request in the upstream's place. Of plain HTTP the method was judged before.
    pub fn page(&self, reason: Reason) -> Page {
        let (cause, reference) = (self.connection.cause(reason), self.attempt.id().to_string());
        Page::new(cause, INSPECTED_METHODS, &self.host, &reference, SystemTime::now())
    }

    /// Concludes with `reason` and sends the record now, before the client sees the answer we make.
    pub fn refuse(&mut self, reason: Reason) -> Page {
        let page = self.page(reason);
        self.responded(page.status);
        self.conclude(reason.outcome(), Some(reason));
        self.commit();
        page
    }

    /// Sends the record now. Later calls change nothing.
    pub fn commit(&mut self) {
        let (sent, received) =
            (self.counters.sent.load(Ordering::Relaxed), self.counters.received.load(Ordering::Relaxed));
        self.attempt.fields.source_bytes = Some(sent);
        self.attempt.fields.destination_bytes = Some(received);
        if !self.concluded && !std::thread::panicking() {
            let reason = self.connection.end.get().copied().unwrap_or(Reason::ClientClosed);
            // What had begun to reach the client was allowed, however it ended.
            let outcome = if self.attempt.fields.status.is_some() { Outcome::Allowed } else { Outcome::Failed };
            self.conclude(outcome, Some(reason));
        }
        self.attempt.commit();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.commit();
        self.connection.octets.sent.fetch_add(self.counters.sent.load(Ordering::Relaxed), Ordering::Relaxed);
        self.connection.octets.received.fetch_add(self.counters.received.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
