//! Those whose limits an attempt is under, asked together, and the guard of what they have let through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Limits;
use super::clients::STRANGERS;
use super::ledger::{Ledger, Place};
use super::quota::{Counted, Limit, Quotas, Rated, Refused, Settings, Way, Whose};
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

/// The ends of a client's bills with each of those who limit octets.
pub(super) type Places = [Option<Place>; Whose::ALL.len()];

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

    /// The client has flooded a connection, which ends; when it does so again and again it is let open no other for a second. Of those who
    /// are not told apart nobody knows which one it was.
    pub fn has_flooded(&self) {
        let client = &self.client.meter.0;
        if client.key() != STRANGERS {
            client.has_flooded(self.limits.clock.tick());
        }
    }

    pub(super) fn hold_with(self: &Arc<Self>, those: &[Whose], what: Counted) -> Result<Slots, Refused> {
        let mut slots = Slots { subjects: Arc::clone(self), what, with: 0 };
        for whose in those {
            let Some(subject) = self.get(*whose) else { continue };
            let Some(before) = subject.meter.0.take(what, subject.terms.0.load().quotas.most(what)) else {
                return Err(self.limits.refuse(what.limit(), *whose));
            };
            self.note_holder(*whose, what, before);
            slots.with |= bit(*whose);
        }
        Ok(slots)
    }

    /// As [`Self::hold_with`], for what is there already and is not to be refused.
    pub(super) fn hold_anyway(self: &Arc<Self>, those: &[Whose], what: Counted) -> Slots {
        let mut slots = Slots { subjects: Arc::clone(self), what, with: 0 };
        for whose in those {
            if let Some(before) = self.get(*whose).and_then(|subject| subject.meter.0.take(what, None)) {
                self.note_holder(*whose, what, before);
                slots.with |= bit(*whose);
            }
        }
        slots
    }

    fn note_holder(&self, whose: Whose, what: Counted, before: u32) {
        if before == 0 && (whose, what) == A_CLIENTS_CONNECTIONS {
            self.limits.holders.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn charge_to(&self, those: &[Whose], what: Rated) -> Result<(), Refused> {
        if what == Rated::NewConnections && self.client.meter.0.floods(|| self.limits.clock.tick()) {
            return Err(self.limits.refuse(Limit::Floods, Whose::Client));
        }
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

    /// Where what the client owes ends with each of them.
    pub(super) fn places(&self, way: Way) -> Places {
        let (client, now) = (self.client.meter.0.key(), self.limits.clock.tick());
        self.each_limited(way, |ledger, rate| ledger.end_of(client, rate, now))
    }

    /// Puts octets that were moved on the client's bill with each of them.
    pub(super) fn bill(&self, way: Way, octets: usize) -> Places {
        let (client, now) = (self.client.meter.0.key(), self.limits.clock.tick());
        self.each_limited(way, |ledger, rate| ledger.bill(client, octets, rate, now))
    }

    /// How long until all of them are paid up to these places, as far as that can be said now, and whose rate it is that takes longest.
    pub(super) fn wait(&self, way: Way, places: &Places) -> Option<(Duration, Whose)> {
        let now = self.limits.clock.tick();
        let wait = |(whose, meter, rate): (Whose, &Metered, u64)| {
            Some((meter.0.ledger(way).wait(places[whose as usize]?, rate, now), whose))
        };
        let longest = self.limited(way).filter_map(wait).max_by_key(|(span, _)| *span);
        longest.filter(|(span, _)| !span.is_zero())
    }

    /// Counts that a rate slows somebody.
    pub(super) fn slowed(&self, way: Way, whose: Whose) {
        self.limits.note(way.limit(), whose);
    }

    /// Octets to be moved in one go, so that those who share a rate take turns.
    pub(super) fn portion(&self, way: Way) -> usize {
        let connections = self.client.meter.0.held(Counted::Connections);
        let portions = self.limited(way).map(|(_, meter, rate)| meter.0.ledger(way).portion(connections, rate));
        portions.min().unwrap_or(usize::MAX)
    }

    fn each_limited(&self, way: Way, ask: impl Fn(&mut Ledger, u64) -> Place) -> Places {
        let mut places = Places::default();
        for (whose, meter, rate) in self.limited(way) {
            places[whose as usize] = Some(ask(&mut meter.0.ledger(way), rate));
        }
        places
    }

    /// Those whose octets are limited this way, and to how many a second.
    fn limited(&self, way: Way) -> impl Iterator<Item = (Whose, &Metered, u64)> {
        let paces = self.paces();
        NARROWEST_FIRST.into_iter().filter_map(move |whose| {
            let subject = self.get(whose).filter(|_| paces)?;
            let rate = subject.terms.0.load().quotas.octets(way)?;
            Some((whose, &subject.meter, rate.get()))
        })
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
