//! Rates that refuse: governor's arithmetic over the times that meters keep.
//!
//! governor's own stores hold a limit and its state in one; here the state outlives the limit (a reload) and is one of several
//! of its owner, so that it is kept and forgotten together.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use governor::clock::{self, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::clients::ClientKey;
use super::meter::Meter;
use super::quota::{Quotas, Rate, Rated};

/// Nanoseconds since the limits were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

impl Tick {
    #[cfg(test)]
    pub(super) fn at(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    pub(super) fn nanoseconds(self) -> u64 {
        self.0
    }
}

impl Add<Nanos> for Tick {
    type Output = Self;

    fn add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.as_u64()))
    }
}

impl Reference for Tick {
    /// Always since the limits were made, and not since the limiter was: one that a reload has made reads the times of the one
    /// before it.
    fn duration_since(&self, _limiter_began: Self) -> Nanos {
        Nanos::new(self.0)
    }

    fn saturating_sub(&self, span: Nanos) -> Self {
        Self(self.0.saturating_sub(span.as_u64()))
    }
}

/// The clock of all meters. tokio's, so that a test can stop it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { began: Instant::now() }
    }

    pub(super) fn tick(&self) -> Tick {
        Tick(nanoseconds(self.began.elapsed()))
    }
}

impl clock::Clock for Clock {
    type Instant = Tick;

    fn now(&self) -> Tick {
        self.tick()
    }
}

/// A meter as it is handed about. It equals itself and no other.
#[derive(Clone, Default)]
pub(super) struct Metered(pub(super) Arc<Meter>);

impl Metered {
    pub(super) fn of(client: ClientKey) -> Self {
        Self(Arc::new(Meter::of(client)))
    }
}

impl PartialEq for Metered {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Metered {}

impl Hash for Metered {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        Arc::as_ptr(&self.0).hash(hasher);
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}", self.0)
    }
}

/// One rate of any meter.
struct Times {
    of: Rated,
    /// From empty to full, in nanoseconds: what a limit can have had come at most.
    full: u64,
    clock: Clock,
}

impl StateStore for Times {
    type Key = Metered;

    fn measure_and_replace<T, F, E>(&self, meter: &Metered, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let cell = meter.0.arrival(self.of);
        // What came under a slower rate weighs no more than what this one can have.
        let most = self.clock.tick().0.saturating_add(self.full);
        let mut seen = cell.load(Ordering::Relaxed);
        if seen > most {
            seen = cell.fetch_min(most, Ordering::Relaxed).min(most);
        }
        loop {
            let (leave, next) = decide((seen != 0).then(|| Nanos::new(seen)))?;
            match cell.compare_exchange_weak(seen, next.as_u64(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(leave),
                Err(now) => seen = now,
            }
        }
    }
}

type Limiter = RateLimiter<Metered, Times, Clock, NoOpMiddleware<Tick>>;

/// Quotas in the form in which they are asked.
pub(super) struct Terms {
    pub(super) quotas: Quotas,
    limiters: [Option<Limiter>; Rated::ALL.len()],
}

impl Terms {
    pub(super) fn new(quotas: &Quotas, clock: Clock) -> Self {
        let limiter = |of: Rated| {
            let Rate { per_second, burst } = quotas.rate(of)?;
            let quota = Quota::per_second(per_second).allow_burst(burst);
            let full = nanoseconds(quota.replenish_interval().saturating_mul(burst.get()));
            Some(RateLimiter::new(quota, Times { of, full, clock }, clock))
        };
        Self { limiters: Rated::ALL.map(limiter), quotas: quotas.clone() }
    }

    /// Whether one more may come now; it is then counted.
    pub(super) fn charge(&self, what: Rated, meter: &Metered) -> bool {
        self.limiters[what as usize].as_ref().is_none_or(|limiter| limiter.check_key(meter).is_ok())
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::advance;

    use super::*;

    fn quotas(per_second: u32, burst: u32) -> Quotas {
        let n = |n| NonZeroU32::new(n).expect("positive");
        Quotas { requests: Some(Rate { per_second: n(per_second), burst: n(burst) }), ..Quotas::default() }
    }

    fn passed(terms: &Terms, meter: &Metered) -> usize {
        (0..100).filter(|_| terms.charge(Rated::Requests, meter)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_a_burst_then_a_stream() {
        let terms = Terms::new(&quotas(2, 5), Clock::start());
        let meter = Metered::default();
        assert_eq!(passed(&terms, &meter), 5);
        for (milliseconds, more) in [(499, 0), (1, 1), (1000, 2), (60_000, 5)] {
            advance(Duration::from_millis(milliseconds)).await;
            assert_eq!(passed(&terms, &meter), more, "after {milliseconds} ms");
        }
        assert_eq!(passed(&terms, &Metered::default()), 5, "another's is its own");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_outlives_the_limit_it_was_known_under() {
        let clock = Clock::start();
        let meter = Metered::default();
        advance(Duration::from_secs(1000)).await;
        assert_eq!(passed(&Terms::new(&quotas(1, 50), clock), &meter), 50);
        assert_eq!(passed(&Terms::new(&quotas(1, 50), clock), &meter), 0, "the same limit made anew");
        let faster = Terms::new(&quotas(10, 20), clock);
        assert_eq!(passed(&faster, &meter), 0, "as much as a whole burst of the new one");
        advance(Duration::from_millis(100)).await;
        assert_eq!(passed(&faster, &meter), 1, "and no more than that");
    }

    #[test]
    fn no_rate_refuses_nothing() {
        let meter = Metered::default();
        assert_eq!(passed(&Terms::new(&Quotas::default(), Clock::start()), &meter), 100);
        assert!(meter.0.is_as_new(Tick(0)));
    }
}
