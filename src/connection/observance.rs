//! Whether it is observed now: `site.enforcement` by two clocks, of which the first to say that it is over is believed, for good.
//!
//! The end is a moment of the wall clock, which can be set back; time that has been observed is then not given again. So the time that was
//! left when the configuration was taken up is counted by the clock that never jumps, too, and once it has been over it stays over, at a
//! reload with the same moment as well. A clock that is set forward ends it at once. Only another moment, or a restart, begins anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::policy::{Enforcement, Observing, Until};

/// `site.enforcement` as it runs; enforcing where nothing else is said.
#[derive(Default)]
pub struct Observance {
    enforcement: Enforcement,
    /// When the time that was left is over, by the clock that never jumps. `None`: it is enforced.
    ends: Option<Instant>,
    over: AtomicBool,
}

impl Observance {
    /// From `now` on, which both clocks say; `previous` is what was in force.
    pub fn new(enforcement: &Enforcement, previous: Option<&Self>, now: (SystemTime, Instant)) -> Self {
        let (wall, steady) = now;
        let of = |enforcement: &Enforcement| enforcement.at(wall).map(Observing::until);
        let ends = of(enforcement).map(|until| steady + until.left(wall));
        let same = previous.filter(|previous| ends.is_some() && of(&previous.enforcement) == of(enforcement));
        let ends = match same {
            Some(previous) => ends.min(previous.ends),
            None => ends,
        };
        let over = same.is_some_and(|previous| previous.over.load(Ordering::Relaxed));
        Self { enforcement: enforcement.clone(), ends, over: over.into() }
    }

    /// Whether it is observed at this moment.
    pub fn now(&self) -> Option<Observing<'_>> {
        self.ends?;
        self.at((SystemTime::now(), Instant::now()))
    }

    /// Until when, while it is observed.
    pub fn until(&self) -> Option<Until> {
        self.now().map(Observing::until)
    }

    /// When it is over at the latest, by the clock that never jumps; `None` where it is enforced.
    pub fn ends(&self) -> Option<Instant> {
        self.ends
    }

    fn at(&self, (wall, steady): (SystemTime, Instant)) -> Option<Observing<'_>> {
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        let observing = self.ends.filter(|ends| steady < *ends).and_then(|_| self.enforcement.at(wall));
        if observing.is_none() {
            self.over.store(true, Ordering::Relaxed);
        }
        observing
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::policy::Observe;

    const HOUR: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    fn observe(until: SystemTime) -> Enforcement {
        Enforcement::Observe(Observe { until: Until::new(until), closed: Arc::default() })
    }

    /// The wall clock and the other, which has gone on by `passed` since it was `wall`.
    struct Clocks {
        wall: SystemTime,
        steady: Instant,
    }

    impl Clocks {
        fn after(&self, passed: Duration) -> (SystemTime, Instant) {
            (self.wall + passed, self.steady + passed)
        }
    }

    fn clocks() -> Clocks {
        Clocks { wall: SystemTime::UNIX_EPOCH + 500_000 * HOUR, steady: Instant::now() }
    }

    #[test]
    fn it_ends_at_the_very_moment() {
        let clocks = clocks();
        let observance = Observance::new(&observe(clocks.wall + HOUR), None, clocks.after(Duration::ZERO));
        assert!(observance.at(clocks.after(Duration::ZERO)).is_some());
        assert!(observance.at(clocks.after(HOUR - Duration::from_nanos(1))).is_some());
        assert!(observance.at(clocks.after(HOUR)).is_none());
        assert_eq!(observance.ends(), Some(clocks.steady + HOUR));
    }

    #[test]
    fn k07_a_wall_clock_that_is_set_back_gives_no_time_again() {
        let clocks = clocks();
        let observance = Observance::new(&observe(clocks.wall + HOUR), None, clocks.after(Duration::ZERO));
        let set_back = |passed| (clocks.wall - 24 * HOUR, clocks.steady + passed);
        assert!(observance.at(set_back(HOUR - SECOND)).is_some());
        assert!(observance.at(set_back(HOUR)).is_none());
        // It had been over, so it is over, whatever either clock says then.
        assert!(observance.at(clocks.after(Duration::ZERO)).is_none());
    }

    #[test]
    fn k07_a_wall_clock_that_is_set_forward_ends_it_for_good() {
        let clocks = clocks();
        let observance = Observance::new(&observe(clocks.wall + HOUR), None, clocks.after(Duration::ZERO));
        assert!(observance.at((clocks.wall + HOUR, clocks.steady + SECOND)).is_none());
        assert!(observance.at(clocks.after(2 * SECOND)).is_none());
    }

    #[test]
    fn a_reload_with_the_same_moment_begins_nothing_anew() {
        let clocks = clocks();
        let until = observe(clocks.wall + HOUR);
        let first = Observance::new(&until, None, clocks.after(Duration::ZERO));
        let set_back = (clocks.wall - 24 * HOUR, clocks.steady + SECOND);
        let second = Observance::new(&until, Some(&first), set_back);
        assert_eq!(second.ends(), first.ends());
        assert!(second.at((clocks.wall, clocks.steady + HOUR)).is_none());
        let third = Observance::new(&until, Some(&second), set_back);
        assert!(third.at(set_back).is_none());
        // Another moment is another decision of the administrator's.
        let later = Observance::new(&observe(clocks.wall + 2 * HOUR), Some(&third), clocks.after(SECOND));
        assert!(later.at(clocks.after(2 * HOUR - SECOND)).is_some());
    }

    #[test]
    fn who_enforces_never_observes() {
        let clocks = clocks();
        let enforced = Observance::new(&Enforcement::Enforce, None, clocks.after(Duration::ZERO));
        assert!(enforced.now().is_none() && enforced.ends().is_none());
        let passed = Observance::new(&observe(clocks.wall), None, clocks.after(Duration::ZERO));
        assert!(passed.at(clocks.after(Duration::ZERO)).is_none() && passed.ends().is_none());
    }
}
