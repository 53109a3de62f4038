//! What one of those who are limited has used: counts of what lasts, and for each rate a time.
//!
//! A meter knows no limit. What is in force is asked of it each time, so that a reload changes limits and not what is known.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::quota::{Counted, Rated, Way};
use super::rate::Tick;

#[derive(Default)]
pub(super) struct Meter {
    held: [AtomicU32; Counted::ALL.len()],
    /// Of each rate the "theoretical arrival time" of its GCRA; 0: nothing came yet.
    arrivals: [AtomicU64; Rated::ALL.len()],
    /// Each way the time at which what was moved is paid for.
    paid: [AtomicU64; Way::ALL.len()],
}

impl Meter {
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

    pub(super) fn paid(&self, way: Way) -> &AtomicU64 {
        &self.paid[way as usize]
    }

    /// Whether nothing is held and every rate is as if nothing had ever come.
    pub(super) fn is_as_new(&self, now: Tick) -> bool {
        let past = |time: &AtomicU64| time.load(Ordering::Relaxed) <= now.nanoseconds();
        self.held.iter().all(|held| held.load(Ordering::Relaxed) == 0)
            && self.arrivals.iter().chain(&self.paid).all(past)
    }
}
