//! What a new day brings: a date of a registration that comes near or has passed, a service that is refused from now on.
//!
//! What may not be here: what a date means (`config`).

use std::time::{Duration, SystemTime};

use time::Date;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::tell;
use crate::config::day_of;
use crate::connection::{Gate, Live};
use crate::record::Lifecycle;

/// How long after midnight in Japan a day is noticed at most. The wall clock may be set, so nobody sleeps until then.
const EVERY: Duration = Duration::from_secs(5);

/// When to look.
pub(super) struct Days {
    every: Interval,
    /// The last one that was looked at.
    seen: Date,
}

impl Days {
    /// `loaded` is the day for which the configuration was loaded.
    pub(super) fn new(loaded: Date) -> Self {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { every, seen: loaded }
    }

    /// Another configuration is in force, loaded for this day: where the clock had been wrong, what it showed then no longer counts.
    pub(super) fn loaded(&mut self, day: Date) {
        self.seen = day;
    }

    /// Resolves now and then.
    pub(super) async fn next(&mut self) -> Date {
        self.every.tick().await;
        day_of(SystemTime::now())
    }

    /// Says in log and record what came to be told since the last look or the last load, and refuses whom `today` ends: new flows,
    /// and with the next look at its permission what is open. To be called by the task that reloads, so that neither undoes the
    /// other's work.
    pub(super) fn look(&mut self, gate: &Gate, today: Date) {
        let live = gate.live();
        let since = self.seen.max(live.config.approvals.day);
        if today <= since {
            return;
        }
        self.seen = today;
        if let Some(config) = live.config.on(today) {
            gate.replace(Live::new(config, Some(&live)));
        }
        let live = gate.live();
        for problem in live.config.turned(since, today) {
            tracing::warn!("{problem}");
            tell(gate, Lifecycle::ConfigProblem, &problem.to_string());
        }
    }
}
