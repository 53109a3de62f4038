//! The counters by which anyone can see that no attempt went missing.
//!
//! They are kept under the queue's lock, not in atomics of their own: only then does one reading add up. `live` is counted by
//! itself and not computed from the others, so that [`Conservation::holds`] can be false.

use std::time::Duration;

use crate::reason::Outcome;

/// The two kinds of attempt (`event.action` of a terminal record).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A CONNECT, a transparent flow, or an accepted connection that ended before either.
    Connection,
    /// A plain-HTTP or inspected request.
    Request,
}

impl Action {
    pub const ALL: [Self; 2] = [Self::Connection, Self::Request];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Request => "request",
        }
    }
}

/// Attempts of one action since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conservation {
    pub started: u64,
    pub live: u64,
    /// Ended as allowed, and so on: by terminal records queued, those aggregated included.
    pub allowed: u64,
    pub denied: u64,
    pub failed: u64,
    /// Another process, which took over, has them and ends them.
    pub handed_over: u64,
}

impl Conservation {
    /// Whether every attempt is live, or another's, or has exactly one terminal record.
    pub fn holds(&self) -> bool {
        self.started == self.live + self.allowed + self.denied + self.failed + self.handed_over
    }

    pub(super) fn begin(&mut self) {
        self.started += 1;
        self.live += 1;
    }

    /// Attempts of another process, which have ended there.
    pub(super) fn of_another(&mut self, outcome: Outcome, count: u64) {
        self.started += count;
        *self.ended(outcome) += count;
    }

    pub(super) fn hand_over(&mut self) {
        self.live = self.live.saturating_sub(1);
        self.handed_over += 1;
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        self.live = self.live.saturating_sub(1);
        *self.ended(outcome) += 1;
    }

    fn ended(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Allowed => &mut self.allowed,
            Outcome::Denied => &mut self.denied,
            Outcome::Failed => &mut self.failed,
        }
    }
}

/// One consistent reading of the record's counters, all since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub connections: Conservation,
    pub requests: Conservation,
    /// Lines handed to the file system.
    pub lines_written: u64,
    /// Lines waiting to be written.
    pub queue_length: usize,
    /// Events that stand in the record only as part of a `sekisho.count`, or will.
    pub aggregated: u64,
    /// Events that could not be recorded at all because the service stopped first. Anything but 0 is a defect or a full disk.
    pub lost: u64,
    /// How long the record could not be written, a present outage included.
    pub unwritable: Duration,
}
