//! Observing: for a while, and for learning, a name that nothing lists is let through as a verified tunnel and recorded.
//!
//! It is a second question to a denial, never another policy: [`Policy::judge`] asks [`Policy::decide`] first, and only the denial
//! of a name that no pattern matches can be turned into a permit, and only into one of [`Tunnel`]. So what stands in the
//! configuration is decided by the configuration alone: nothing that is to be inspected is tunnelled instead, and no header is left out.
//!
//! What may not be here: a clock. Whoever asks brings the moment, and [`Observing`] is what it makes of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::decision::{Claim, Decision, Denial, Permit, Tunnel};
use super::{HostPattern, Policy};
use crate::addrs::ClientAddr;

/// `site.enforcement`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// What is not permitted is refused.
    #[default]
    Enforce,
    Observe(Observe),
}

/// A moment from which on it is enforced, by the wall clock. Shown in UTC, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until(SystemTime);

impl Until {
    pub fn new(moment: SystemTime) -> Self {
        Self(moment)
    }

    /// Whether it has not come yet.
    pub fn is_ahead(self, now: SystemTime) -> bool {
        now < self.0
    }

    /// The time that is left; none where it has come.
    pub fn left(self, now: SystemTime) -> Duration {
        self.0.duration_since(now).unwrap_or_default()
    }

    /// Seconds since 1970.
    pub fn unix(self) -> u64 {
        self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = i64::try_from(self.unix()).ok().and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok());
        match moment.and_then(|moment| moment.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => f.write_str("a moment past the year 9999"),
        }
    }
}

/// Observing, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    pub until: Until,
    /// Names that are not let through all the same: a tenant restriction of the configuration is for them, which a tunnel would evade.
    pub closed: Arc<[HostPattern]>,
}

impl Enforcement {
    /// Whether it is observed at `now`.
    pub fn at(&self, now: SystemTime) -> Option<Observing<'_>> {
        match self {
            Self::Enforce => None,
            Self::Observe(observe) => observe.until.is_ahead(now).then_some(Observing { observe }),
        }
    }
}

/// That it is observed at the moment of a question. Made only by [`Enforcement::at`].
#[derive(Debug, Clone, Copy)]
pub struct Observing<'e> {
    observe: &'e Observe,
}

impl Observing<'_> {
    pub fn until(self) -> Until {
        self.observe.until
    }
}

impl Policy {
    /// The decision on `claim` of `client`, where it may be a time of observing: [`Policy::decide`], and then, of its denials, only the
    /// one of a CONNECT to port 443 by a client of some group, to a name that no pattern matches and that is not closed, becomes a tunnel.
    /// Everything else stays as it was decided.
    pub fn judge(&self, client: ClientAddr, claim: &Claim, observing: Option<Observing<'_>>) -> Decision {
        match (self.decide(client, claim), observing) {
            (Decision::Deny(denial), Some(observing)) => {
                observed(denial, observing).map_or_else(Decision::Deny, Decision::Tunnel)
            }
            (decision, _) => decision,
        }
    }
}

/// A tunnel in the place of a denial that observing lets through; otherwise the denial.
fn observed(denial: Denial, observing: Observing<'_>) -> Result<Permit<Tunnel>, Denial> {
    let closed = |name| observing.observe.closed.iter().any(|pattern| pattern.matches(name));
    match denial.unlisted() {
        Some(destination) if !closed(destination.name()) => Permit::observed(denial),
        Some(_) | None => Err(denial),
    }
}
