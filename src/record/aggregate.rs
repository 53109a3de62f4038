//! Events that are counted together, because there is no room for them one by one while the file cannot be written.

use std::time::{Instant, SystemTime};

use crate::reason::{Outcome, Reason};
use crate::record::fields::Fields;
use crate::record::lifecycle::Lifecycle;

/// By what events are counted together when there is no room for them one by one. Closed lists only, so it cannot grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) action: Option<&'static str>,
    pub(super) outcome: Option<Outcome>,
    pub(super) reason: Option<Reason>,
    pub(super) lifecycle: Option<Lifecycle>,
}

impl Kind {
    pub(super) fn of(fields: &Fields) -> Self {
        Self { action: fields.action, outcome: fields.outcome, reason: fields.reason, lifecycle: fields.rare.lifecycle }
    }
}

pub(super) struct Aggregate {
    pub(super) count: u64,
    at: SystemTime,
    first: Instant,
    last: Instant,
}

impl Aggregate {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { count: 0, at: SystemTime::now(), first: now, last: now }
    }

    pub(super) fn add(&mut self, count: u64) {
        self.count += count;
        self.last = Instant::now();
    }

    pub(super) fn fields(&self, kind: Kind) -> Fields {
        let mut fields = Fields {
            at: Some(self.at),
            action: kind.action,
            outcome: kind.outcome,
            reason: kind.reason,
            duration: Some(self.last.saturating_duration_since(self.first)),
            detail: Some("Counted together while the record could not be written.".into()),
            ..Fields::default()
        };
        fields.rare.lifecycle = kind.lifecycle;
        fields.rare.count = Some(self.count);
        fields
    }
}
