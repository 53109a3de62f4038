//! What one inspected connection is for, and the judgement of each request on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderName, HeaderValue};
use tokio::sync::watch;

use super::Ended;
use crate::addrs::ClientAddr;
use crate::admit::{Rated, Subjects};
use crate::drain::Drain;
use crate::exchange::fields::{Restriction, Restrictions};
use crate::exchange::patience::Deadlines;
use crate::exchange::{After, ConnectionState, Exchange, Refusal};
use crate::names::{Authority, AuthorityError, Host};
use crate::policy::{Claim, Decision, Destination, Inspect, Permit, Policy};
use crate::pressure::{Charge, Pressure, REQUEST, Shed, State as Load};
use crate::reason::{Reason, Side};
use crate::record::{Action, Attempt, Fields, Recorder, State, WhenUnwritable};

/// Requests over the rate that one connection may make before it is ended: each leaves a record.
const PATIENCE: u32 = 100;
/// For the first request of a client that was let in before the service began to leave.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// A policy with the revision of the configuration it came from.
pub struct Ruling {
    pub policy: Arc<Policy>,
    pub revision: Arc<str>,
}

/// One inspected connection, shared by its requests.
pub struct Scope {
    pub client: ClientAddr,
    pub destination: Destination,
    /// Always the one in force: a request is decided by the configuration of its own moment.
    pub ruling: Arc<ArcSwap<Ruling>>,
    /// Changes when another ruling is in force.
    pub reloads: watch::Receiver<u64>,
    /// Those whose limits its requests are under.
    pub subjects: Arc<Subjects>,
    pub pressure: Arc<Pressure>,
    pub recorder: Recorder,
    pub drain: Drain,
    pub deadlines: Deadlines,
    /// What the records of the requests have in common with their connection's.
    pub common: Fields,
    pub connection: Arc<ConnectionState>,
    /// The last permission given, kept while the ruling is the same.
    pub standing: ArcSwapOption<Standing>,
    /// A request found the permission gone.
    pub withdrawn: AtomicBool,
    /// Requests of this connection that were over the rate.
    pub limited: AtomicU32,
    /// The upstream failed: every request is answered with this.
    pub refusal: Option<Reason>,
}

/// A permission as it stood under one ruling.
pub struct Standing {
    ruling: Arc<Ruling>,
    restrictions: Arc<Restrictions>,
}

/// What a request says of itself.
pub struct Facts<'a> {
    pub method: &'a str,
    /// Every authority the request names (`:authority` or absolute-form, and `Host`), raw. None at all is malformed.
    pub authorities: [Option<&'a [u8]>; 2],
    /// Path and query as sent.
    pub path: &'a [u8],
    /// An extended CONNECT (RFC 8441) that was announced: CONNECT is then not refused as a method.
    pub extended_connect: bool,
}

impl Scope {
    /// Begins the attempt and judges it: method, authorities, record, rate, and the policy of this moment.
    pub async fn open(&self, facts: &Facts<'_>) -> Exchange {
        let mut attempt = self.begin().await;
        attempt.fields.method = Some(facts.method.into());
        attempt.fields.path = Some(facts.path.into());
        if let Some(asked) = facts.authorities.iter().flatten().next() {
            attempt.fields.authority = Some((*asked).into());
        }
        match self.judge(facts, &mut attempt.fields) {
            Ok((restrictions, room)) => {
                attempt.fields.headers_set = Some(restrictions.names().clone());
                self.exchange(attempt, Ok(()), restrictions).within(room)
            }
            Err(reason) => self.exchange(attempt, Err(self.refusal(reason)), Arc::default()),
        }
    }

    /// The attempt of a request that could not even be read.
    pub async fn open_unreadable(&self, reason: Reason, detail: &str) -> Exchange {
        let mut attempt = self.begin().await;
        attempt.fields.detail = Some(detail.into());
        self.exchange(attempt, Err(Refusal { reason, after: After::EndConnection }), Arc::default())
    }

    /// Why a connection that drains leaves: it has had its time, or the service has.
    pub fn leave(&self) -> Reason {
        if self.drain.has_outlived() { Reason::ConnectionExpired } else { Reason::ShuttingDown }
    }

    /// The end of a connection that drains and has nothing under way: in order, unless it is its own time that is over.
    pub fn drained(&self) -> Ended {
        let reason = self.drain.has_outlived().then_some(Reason::ConnectionExpired);
        Ended { side: Side::Sekisho, reason }
    }

    /// How much longer a connection stays that is to leave and on which nothing was asked yet: its first request may be under way.
    pub fn first_grace(&self) -> Duration {
        if self.drain.has_outlived() { Duration::ZERO } else { FIRST_REQUEST }
    }

    /// Resolves when a reload no longer permits this destination: what has no further request to be judged by (a WebSocket)
    /// waits for it.
    pub async fn withdrawal(&self) {
        let mut reloads = self.reloads.clone();
        while self.permission().is_ok() {
            if reloads.changed().await.is_err() {
                // No reload will ever come again.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The value of `Host` and `:authority` upstream: the destination, with its port unless it is the scheme's.
    pub fn host(&self) -> Arc<str> {
        match self.destination.port() {
            443 => self.destination.name().shared(),
            port => format!("{}:{port}", self.destination.name()).into(),
        }
    }

    async fn begin(&self) -> Attempt {
        let mut attempt = self.recorder.begin(Action::Request).await;
        attempt.fields = self.common.clone();
        attempt.fields.config_revision = Some(Arc::clone(&self.ruling.load().revision).into());
        attempt
    }

    fn exchange(&self, attempt: Attempt, verdict: Result<(), Refusal>, restrictions: Arc<Restrictions>) -> Exchange {
        Exchange::new(attempt, verdict, restrictions, self.host(), Arc::clone(&self.connection))
    }

    fn judge(&self, facts: &Facts<'_>, fields: &mut Fields) -> Result<(Arc<Restrictions>, Charge), Reason> {
        if let Some(reason) = self.refusal {
            return Err(reason);
        }
        // First, so that no kind of refusal is free.
        if let Err(refused) = self.subjects.charge(Rated::Requests) {
            self.limited.fetch_add(1, Ordering::Relaxed);
            fields.detail = Some(refused.to_string().as_str().into());
            return Err(refused.reason());
        }
        // TRACE would hand the client what we set on it (RFC 9110 section 9.3.8).
        if facts.method == "TRACE" || (facts.method == "CONNECT" && !facts.extended_connect) {
            return Err(Reason::MethodNotPermitted);
        }
        if facts.authorities.iter().flatten().count() == 0 {
            return Err(Reason::MalformedRequest);
        }
        for asked in facts.authorities.iter().flatten() {
            self.agrees(asked)?;
        }
        if self.recorder.state() == State::Unwritable(WhenUnwritable::Deny) {
            return Err(Reason::RecordUnavailable);
        }
        Ok((self.permission()?, self.room()?))
    }

    /// Memory for one request more, which there is none of while nothing is taken up.
    fn room(&self) -> Result<Charge, Reason> {
        let room = Some(&self.pressure).filter(|pressure| pressure.state() != Load::Refusing);
        room.and_then(|pressure| pressure.memory().charge(REQUEST)).ok_or_else(|| {
            self.pressure.count(Shed::Requests);
            Reason::Overloaded
        })
    }

    /// Every inner authority must be the destination (A03, A07, A08): a difference is a refusal, never a new destination.
    fn agrees(&self, asked: &[u8]) -> Result<(), Reason> {
        // As nearly every client writes it: the normal form itself, with the port left out.
        if asked == self.destination.name().as_str().as_bytes() && self.destination.port() == 443 {
            return Ok(());
        }
        let authority = Authority::parse_with_default(asked, 443).map_err(|error| match error {
            AuthorityError::Host(_) => Reason::MalformedName,
            AuthorityError::Port | AuthorityError::PortMissing | AuthorityError::UserInfo => Reason::MalformedRequest,
        })?;
        let same = matches!(&authority.host, Host::Name(name) if name == self.destination.name());
        if same && authority.port == self.destination.port() { Ok(()) } else { Err(Reason::NameMismatch) }
    }

    /// The restrictions of the ruling in force, or that it no longer permits this destination.
    fn permission(&self) -> Result<Arc<Restrictions>, Reason> {
        let ruling = self.ruling.load_full();
        if let Some(standing) = self.standing.load().as_ref().filter(|standing| Arc::ptr_eq(&standing.ruling, &ruling))
        {
            return Ok(Arc::clone(&standing.restrictions));
        }
        let authority = Authority { host: Host::Name(self.destination.name().clone()), port: self.destination.port() };
        let withdrawn = match ruling.policy.decide(self.client, &Claim::Connect(authority)) {
            Decision::Inspect(permit) => {
                let restrictions = Arc::new(restrictions(&permit, &ruling.policy).ok_or(Reason::InternalError)?);
                self.standing.store(Some(Arc::new(Standing { ruling, restrictions: Arc::clone(&restrictions) })));
                return Ok(restrictions);
            }
            Decision::Deny(denial) => denial.reason(),
            Decision::Tunnel(_) | Decision::Plain(_) => Reason::PolicyWithdrawn,
        };
        self.withdrawn.store(true, Ordering::Relaxed);
        Err(withdrawn)
    }

    /// What follows a refusal: on a withdrawn permission nothing more may come by this connection.
    fn refusal(&self, reason: Reason) -> Refusal {
        let ends = self.withdrawn.load(Ordering::Relaxed)
            || self.refusal.is_some()
            || reason == Reason::RecordUnavailable
            || self.limited.load(Ordering::Relaxed) > PATIENCE;
        Refusal { reason, after: if ends { After::EndConnection } else { After::Continue } }
    }
}

/// The permit's headers as fields, and those that are closed to clients. `None` where one is no field, which the configuration does not
/// let through.
pub fn restrictions(permit: &Permit<Inspect>, policy: &Policy) -> Option<Restrictions> {
    let fields = permit.headers().map(|header| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let mut value = HeaderValue::from_bytes(header.value.as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(Restriction { name, value })
    });
    let fields = fields.collect::<Option<Vec<_>>>()?;
    Some(Restrictions::new(fields, policy.closed()))
}
