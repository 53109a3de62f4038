//! Those whose limits an attempt is under, asked together, and the guard of what they have let through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Limits;
use super::pace;
use super::quota::{Counted, Quotas, Rated, Refused, Settings, Way, Whose};
use super::rate::{Clock, Metered, Terms};

/// Terms that a reload replaces under all who share them.
#[derive(Clone)]
pub(super) struct InForce(Arc<ArcSwap<Terms>>);

impl InForce {
    pub(super) fn new(quotas: &Quotas, clock: Clock) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Terms::new(quotas, clock))))
    }

    pub(super) fn replace(&self, quotas: &Quotas, clock: Clock) {
        self.0.store(Arc::new(Terms::new(quotas, clock)));
    }
}

/// One who is limited.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) meter: Metered,
    pub(super) terms: InForce,
}

impl Subject {
    pub(super) fn new(quotas: &Quotas, clock: Clock) -> Self {
        Self { meter: Metered::default(), terms: InForce::new(quotas, clock) }
    }
}

/// A client, its group and, behind the decision, its service; everybody is always among them.
pub struct Subjects {
    pub(super) limits: Arc<Limits>,
    pub(super) client: Subject,
    pub(super) group: Option<Subject>,
    pub(super) service: Option<Subject>,
}

/// From the widest to the narrowest: a slot of one's own is of no use where there is none in all.
const WIDEST_FIRST: [Whose; 4] = [Whose::All, Whose::Service, Whose::Group, Whose::Client];
/// From the narrowest to the widest: who is over its own rate uses up nothing of the others'.
const NARROWEST_FIRST: [Whose; 4] = [Whose::Client, Whose::Group, Whose::Service, Whose::All];

/// By which clients that are there are counted.
const A_CLIENTS_CONNECTIONS: (Whose, Counted) = (Whose::Client, Counted::Connections);

impl Subjects {
    /// Those of an attempt that nothing limits, for tests and measurements of what stands behind the limits.
    pub fn unlimited() -> Arc<Self> {
        let limits = Limits::new(&Settings::unlimited());
        let client = Subject::new(&Quotas::default(), limits.clock);
        Arc::new(Self { limits, client, group: None, service: None })
    }

    /// A slot with each of them for as long as the guard lives.
    ///
    /// # Errors
    /// Whose limit is used up.
    pub fn hold(self: &Arc<Self>, what: Counted) -> Result<Slots, Refused> {
        self.hold_with(&WIDEST_FIRST, what)
    }

    /// Whether each of them has leave for one more now.
    ///
    /// # Errors
    /// Whose rate is used up.
    pub fn charge(&self, what: Rated) -> Result<(), Refused> {
        self.charge_to(&NARROWEST_FIRST, what)
    }

    pub(super) fn hold_with(self: &Arc<Self>, those: &[Whose], what: Counted) -> Result<Slots, Refused> {
        let mut slots = Slots { subjects: Arc::clone(self), what, with: 0 };
        for whose in those {
            let Some(subject) = self.get(*whose) else { continue };
            let Some(before) = subject.meter.0.take(what, subject.terms.0.load().quotas.most(what)) else {
                return Err(self.limits.refuse(what.limit(), *whose));
            };
            if before == 0 && (*whose, what) == A_CLIENTS_CONNECTIONS {
                self.limits.holders.fetch_add(1, Ordering::Relaxed);
            }
            slots.with |= bit(*whose);
        }
        Ok(slots)
    }

    pub(super) fn charge_to(&self, those: &[Whose], what: Rated) -> Result<(), Refused> {
        for whose in those {
            if let Some(subject) = self.get(*whose)
                && !subject.terms.0.load().charge(what, &subject.meter)
            {
                return Err(self.limits.refuse(what.limit(), *whose));
            }
        }
        Ok(())
    }

    /// Whether octets are limited for anybody.
    pub(super) fn paces(&self) -> bool {
        self.limits.paces.load(Ordering::Relaxed)
    }

    /// How long until all of them have paid for what was moved before.
    pub(super) fn debt(&self, way: Way) -> Duration {
        let now = self.limits.clock.tick();
        self.longest(way, self.limited(way, |meter, _| pace::debt(meter.0.paid(way), now)))
    }

    /// Puts octets that were moved on every bill, and says how long until they are paid for.
    pub(super) fn bill(&self, way: Way, octets: usize) -> Duration {
        let now = self.limits.clock.tick();
        self.longest(way, self.limited(way, |meter, rate| pace::bill(meter.0.paid(way), octets, rate, now)))
    }

    /// Octets to be moved in one go, so that those who share a rate take turns.
    pub(super) fn portion(&self, way: Way) -> usize {
        self.limited(way, |_, rate| pace::portion(rate)).map(|(octets, _)| octets).min().unwrap_or(usize::MAX)
    }

    fn limited<T>(&self, way: Way, ask: impl Fn(&Metered, u64) -> T) -> impl Iterator<Item = (T, Whose)> {
        NARROWEST_FIRST.into_iter().filter_map(move |whose| {
            let subject = self.get(whose)?;
            let rate = subject.terms.0.load().quotas.octets(way)?;
            Some((ask(&subject.meter, rate.get()), whose))
        })
    }

    /// The longest of these waits, noted for whose limit it is.
    fn longest(&self, way: Way, waits: impl Iterator<Item = (Duration, Whose)>) -> Duration {
        let Some((wait, whose)) = waits.max_by_key(|(wait, _)| *wait) else { return Duration::ZERO };
        if !wait.is_zero() {
            self.limits.note(way.limit(), whose);
        }
        wait
    }

    fn get(&self, whose: Whose) -> Option<&Subject> {
        match whose {
            Whose::Client => Some(&self.client),
            Whose::Group => self.group.as_ref(),
            Whose::Service => self.service.as_ref(),
            Whose::All => Some(&self.limits.all),
        }
    }
}

/// Slots held with some of the subjects, given back when this is dropped.
pub struct Slots {
    subjects: Arc<Subjects>,
    what: Counted,
    /// A bit for each.
    with: u8,
}

fn bit(whose: Whose) -> u8 {
    1 << whose as u8
}

impl Slots {
    pub(super) fn subjects(&self) -> &Arc<Subjects> {
        &self.subjects
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let with = Whose::ALL.into_iter().filter(|whose| self.with & bit(*whose) != 0);
        for whose in with {
            let Some(subject) = self.subjects.get(whose) else { continue };
            if subject.meter.0.give_back(self.what) == 0 && (whose, self.what) == A_CLIENTS_CONNECTIONS {
                self.subjects.limits.holders.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
