//! The account of memory: what grows with clients is charged before it grows, and what there is no room for is refused.
//!
//! A charge is an estimate of what one thing takes at most in its phase, not of what it takes on average; the allocator's own waste,
//! caches and the record's queue have the quarter of the ceiling that is never charged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::locks::Mutex;

/// A connection that owes a head or a hello, either of which may be 64 KiB long, or a handshake of ours for a verdict.
pub const NEWCOMER: u64 = 72 * 1024;
/// A tunnel with its task and both sockets: 3.2 KiB measured, and what its far sides have not taken.
pub const ESTABLISHED: u64 = 8 * 1024;
/// Beside that, an inspected connection: two TLS sessions (24 KiB measured while idle) and the chunks in between.
pub const INSPECTED: u64 = 64 * 1024;
/// An inspected request with its head, its record and its task.
pub const REQUEST: u64 = 16 * 1024;

/// Of the ceiling, less what was resident before the first connection, so much is for charges.
const PERCENT: u64 = 75;

/// `percent` of `whole`.
pub(super) fn share(whole: u64, percent: u64) -> u64 {
    let share = u128::from(whole) * u128::from(percent) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}

pub struct Memory {
    /// Resident before the first connection.
    baseline: u64,
    /// `u64::MAX`: none.
    ceiling: AtomicU64,
    budget: AtomicU64,
    charged: AtomicU64,
    refused: AtomicU64,
}

impl Memory {
    /// Without a ceiling.
    pub fn new(baseline: u64) -> Self {
        let [ceiling, budget] = [u64::MAX; 2].map(AtomicU64::new);
        Self { baseline, ceiling, budget, charged: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// `None`: no ceiling. Charges stay; where they are more than the new one has room for, there are no new ones until they are less.
    pub fn set_ceiling(&self, ceiling: Option<u64>) {
        let ceiling = ceiling.unwrap_or(u64::MAX);
        self.ceiling.store(ceiling, Ordering::Relaxed);
        self.budget.store(share(ceiling.saturating_sub(self.baseline), PERCENT), Ordering::Relaxed);
    }

    pub fn baseline(&self) -> u64 {
        self.baseline
    }

    pub fn ceiling(&self) -> u64 {
        self.ceiling.load(Ordering::Relaxed)
    }

    pub fn budget(&self) -> u64 {
        self.budget.load(Ordering::Relaxed)
    }

    pub fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Charges that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether `octets` more may be held that a peer has not taken. Half of the budget is for that: relays that stand still leave
    /// room for who is new.
    pub fn has_room_to_hold(&self, octets: u64) -> bool {
        self.charged().saturating_add(octets) <= self.budget() / 2
    }

    /// `None`: there is no room for it.
    pub fn charge(self: &Arc<Self>, octets: u64) -> Option<Charge> {
        let budget = self.budget();
        let fits = |charged: u64| charged.checked_add(octets).filter(|sum| *sum <= budget);
        match self.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Some(Charge { memory: Arc::clone(self), octets: AtomicU64::new(octets) }),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}

/// Memory charged for as long as the value lives.
pub struct Charge {
    memory: Arc<Memory>,
    octets: AtomicU64,
}

impl Charge {
    /// Less from here on; more it never becomes.
    pub fn shrink(&self, octets: u64) {
        let before = self.octets.fetch_min(octets, Ordering::Relaxed);
        self.memory.charged.fetch_sub(before.saturating_sub(octets), Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// The bodies that go one way through an HTTP/2 connection and wait for a peer that does not take them as fast as they come. Each
/// holds what its window let in, all of them no more than the connection's did.
pub struct Stalls {
    memory: Arc<Memory>,
    window: u64,
    /// Windows all of them hold at most.
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bodies: usize,
    charges: Vec<Charge>,
}

impl Stalls {
    /// `window` octets a body, at most `most` times that.
    pub fn new(memory: Arc<Memory>, window: u32, most: usize) -> Self {
        Self { memory, window: window.into(), most, waiting: Mutex::default() }
    }

    /// One more body waits. `None`: there is no room for what it holds.
    pub fn begin(&self) -> Option<Stalled<'_>> {
        let mut waiting = self.waiting.lock();
        if waiting.charges.len() < self.most {
            let charge = self.memory.charge(self.window)?;
            waiting.charges.push(charge);
        }
        waiting.bodies += 1;
        Some(Stalled(self))
    }
}

/// A body that waits.
pub struct Stalled<'a>(&'a Stalls);

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.bodies -= 1;
        let charges = waiting.bodies.min(self.0.most);
        waiting.charges.truncate(charges);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(budget: u64) -> Arc<Memory> {
        let memory = Memory::new(0);
        memory.set_ceiling(Some(budget / 3 * 4));
        assert_eq!(memory.budget(), budget);
        Arc::new(memory)
    }

    #[test]
    fn h01_h03_f10_what_there_is_no_room_for_is_refused_and_what_ends_makes_room() {
        let memory = memory(300);
        let first = memory.charge(200).expect("room");
        assert!(memory.charge(101).is_none());
        let second = memory.charge(100).expect("room to the last octet");
        assert!(memory.charge(1).is_none() && memory.charge(u64::MAX).is_none());
        assert_eq!((memory.charged(), memory.refused()), (300, 3));
        first.shrink(50);
        first.shrink(80);
        assert_eq!(memory.charged(), 150, "more it never becomes");
        drop((first, second));
        assert_eq!(memory.charged(), 0);
    }

    #[test]
    fn a_lower_ceiling_leaves_what_is_held() {
        let memory = memory(300);
        let held = memory.charge(300).expect("room");
        memory.set_ceiling(Some(100));
        assert!(memory.charge(1).is_none());
        drop(held);
        assert!(memory.charge(75).is_some() && memory.charge(76).is_none());
        memory.set_ceiling(None);
        assert!(memory.charge(1 << 40).is_some());
    }

    #[test]
    fn the_baseline_is_not_for_charges() {
        let memory = Memory::new(1_000);
        for (ceiling, budget) in [(1_400, 300), (1_000, 0), (500, 0)] {
            memory.set_ceiling(Some(ceiling));
            assert_eq!(memory.budget(), budget, "{ceiling}");
        }
    }

    #[test]
    fn f06_h07_stalled_bodies_are_charged_what_the_connections_window_lets_them_hold() {
        let memory = memory(300);
        let stalls = Stalls::new(Arc::clone(&memory), 100, 2);
        let mut held: Vec<_> = (0..10).map(|_| stalls.begin().expect("room")).collect();
        assert_eq!(memory.charged(), 200, "the window of the connection, not of each");
        held.drain(..8);
        assert_eq!(memory.charged(), 200, "two still hold theirs");
        let other = Stalls::new(Arc::clone(&memory), 100, 2);
        let one = other.begin().expect("room");
        assert!(other.begin().is_none());
        held.pop();
        assert_eq!(memory.charged(), 200, "who found no room holds none");
        assert!(other.begin().is_some());
        drop((held, one));
        assert_eq!(memory.charged(), 0);
    }
}
