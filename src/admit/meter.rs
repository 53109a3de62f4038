//! What one of those who are limited has used: counts of what lasts, for each rate a time, and what is owed.
//!
//! A meter knows no limit. What is in force is asked of it each time, so that a reload changes limits and not what is known.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{MutexGuard, OnceLock};

use super::clients::{ClientKey, STRANGERS};
use super::ledger::Ledger;
use super::quota::{Counted, Rated, Way};
use super::rate::Tick;
use crate::locks::Mutex;

/// HTTP/2 connections that a client may flood, each of which costs a handshake, before it is let open no other for a while.
pub const FLOODS: u64 = 10;
/// Nanoseconds in which one of them is forgotten, and the longest while.
const FLOOD: u64 = 1_000_000_000;

pub(super) struct Meter {
    /// Whose it is, where it is a client's.
    key: ClientKey,
    held: [AtomicU32; Counted::ALL.len()],
    /// Of each rate the "theoretical arrival time" of its GCRA; 0: nothing came yet.
    arrivals: [AtomicU64; Rated::ALL.len()],
    /// The same of floods, each of which is counted when it is over.
    floods: AtomicU64,
    /// Each way what was moved and is not paid for; made when octets are limited.
    ledgers: [OnceLock<Box<Mutex<Ledger>>>; Way::ALL.len()],
}

impl Default for Meter {
    fn default() -> Self {
        Self::of(STRANGERS)
    }
}

impl Meter {
    pub(super) fn of(key: ClientKey) -> Self {
        let (held, arrivals, ledgers) = Default::default();
        Self { key, held, arrivals, floods: AtomicU64::new(0), ledgers }
    }

    pub(super) fn key(&self) -> ClientKey {
        self.key
    }

    /// Counts one more, unless there are `most`; how many there were.
    pub(super) fn take(&self, what: Counted, most: Option<u32>) -> Option<u32> {
        let most = most.unwrap_or(u32::MAX);
        let one_more = |held| (held < most).then_some(held + 1);
        self.held[what as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()
    }

    /// Only for the guard that has taken it; how many are left.
    pub(super) fn give_back(&self, what: Counted) -> u32 {
        self.held[what as usize].fetch_sub(1, Ordering::Relaxed).saturating_sub(1)
    }

    pub(super) fn held(&self, what: Counted) -> u32 {
        self.held[what as usize].load(Ordering::Relaxed)
    }

    pub(super) fn arrival(&self, what: Rated) -> &AtomicU64 {
        &self.arrivals[what as usize]
    }

    /// One more flood: [`FLOODS`] are let, and one more with each [`FLOOD`].
    pub(super) fn has_flooded(&self, now: Tick) {
        let now = now.nanoseconds();
        let later = |floods: u64| Some((floods.max(now) + FLOOD).min(now + (FLOODS + 1) * FLOOD));
        let _ = self.floods.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// Whether those were too many. `now` is asked for only where it matters.
    pub(super) fn floods(&self, now: impl FnOnce() -> Tick) -> bool {
        let floods = self.floods.load(Ordering::Relaxed);
        floods > 0 && floods > now().nanoseconds() + FLOODS * FLOOD
    }

    pub(super) fn ledger(&self, way: Way) -> MutexGuard<'_, Ledger> {
        self.ledgers[way as usize].get_or_init(Box::default).lock()
    }

    /// Whether nothing is held and every rate is as if nothing had ever come.
    pub(super) fn is_as_new(&self, now: Tick) -> bool {
        let past = |time: &AtomicU64| time.load(Ordering::Relaxed) <= now.nanoseconds();
        self.held.iter().all(|held| held.load(Ordering::Relaxed) == 0)
            && self.arrivals.iter().chain([&self.floods]).all(past)
            && self.ledgers.iter().filter_map(OnceLock::get).all(|ledger| ledger.lock().is_paid(now))
    }
}
