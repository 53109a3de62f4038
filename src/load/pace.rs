//! When requests are meant to begin: as soon as the last one was answered (closed loop), or at times fixed beforehand (open loop).
//!
//! In the open loop a latency counts from the intended moment, however late the request really began: a proxy that stalls
//! delays what is meant to begin meanwhile, and a client that waited would not count that (coordinated omission).

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::tally::Tally;
use super::{Failure, Until};
use crate::locks::Mutex;

/// Requests that may wait for a connection, in seconds of the rate; what is meant to begin beyond that fails as `not_sent`.
const WAITING_SECONDS: f64 = 2.0;
/// And at least so many.
const WAITING_LEAST: usize = 1_000;

/// Intended moments after the start, exponentially spaced (Poisson arrivals, as of many clients that know nothing of each other).
/// The same rate and seed give the same moments, so two runs are alike.
#[derive(Debug, Clone)]
pub struct Schedule {
    mean: f64,
    at: f64,
    state: u64,
}

impl Schedule {
    pub fn new(rate: f64, seed: u64) -> Self {
        Self { mean: 1.0 / rate, at: 0.0, state: seed }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): the upper 53 bits as a number from 0 to below 1.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.at -= (1.0 - self.uniform()).ln() * self.mean;
        Some(Duration::from_secs_f64(self.at))
    }
}

/// How many requests are still to begin, over all threads.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
    elapsed: Option<Duration>,
}

impl Budget {
    pub fn new(until: Until) -> Self {
        match until {
            Until::Requests(requests) => Self { left: AtomicU64::new(requests), elapsed: None },
            Until::Elapsed(elapsed) => Self { left: AtomicU64::new(u64::MAX), elapsed: Some(elapsed) },
        }
    }

    /// How long requests may begin; nothing where they are counted instead.
    pub fn elapsed(&self) -> Duration {
        self.elapsed.unwrap_or_default()
    }

    /// One more, `after` the start.
    pub fn take(&self, after: Duration) -> bool {
        self.elapsed.is_none_or(|elapsed| after < elapsed)
            && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Where a worker gets its next request from.
pub enum Arrivals {
    Closed { budget: Arc<Budget>, start: Instant },
    Open(Arc<Queue>),
}

impl Arrivals {
    /// The intended moment of the next request; `None` when there will be none.
    pub async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { budget, start } => {
                let now = Instant::now();
                budget.take(now - *start).then_some(now)
            }
            Self::Open(queue) => queue.next().await,
        }
    }
}

/// What was meant to begin and has not.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    most: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    moments: VecDeque<Instant>,
    over: bool,
}

impl Queue {
    pub fn new(rate: f64) -> Arc<Self> {
        let most = ((rate * WAITING_SECONDS) as usize).max(WAITING_LEAST);
        Arc::new(Self { waiting: Mutex::default(), arrived: Notify::new(), most })
    }

    async fn next(&self) -> Option<Instant> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut waiting = self.waiting.lock();
                if let Some(moment) = waiting.moments.pop_front() {
                    return Some(moment);
                }
                if waiting.over {
                    drop(waiting);
                    // Whoever waits behind this one has to see it too.
                    self.arrived.notify_one();
                    return None;
                }
            }
            arrived.await;
        }
    }

    fn push(&self, moment: Instant) -> bool {
        let mut waiting = self.waiting.lock();
        let fits = waiting.moments.len() < self.most;
        if fits {
            waiting.moments.push_back(moment);
            drop(waiting);
            self.arrived.notify_one();
        }
        fits
    }

    fn end(&self) {
        self.waiting.lock().over = true;
        self.arrived.notify_one();
    }
}

/// Puts every request of `schedule` into `queue` when its moment comes, until the budget is used up.
pub async fn dispatch(
    schedule: Schedule,
    queue: &Queue,
    budget: &Budget,
    start: Instant,
    tally: &Tally,
    timer: &Timer,
) {
    for after in schedule {
        if !budget.take(after) {
            break;
        }
        let moment = start + after;
        timer.sleep_until(moment).await;
        tally.lagged(Instant::now().saturating_duration_since(moment));
        if !queue.push(moment) {
            let why = "every connection was busy, and too many requests waited for one already";
            tally.failed(Failure::new("not_sent", why));
        }
    }
    queue.end();
}

/// What wakes the dispatcher.
pub enum Timer {
    /// The kernel's, good to some microseconds.
    Fine(AsyncFd<OwnedFd>),
    /// The runtime's, which knows milliseconds only.
    Coarse,
}

impl Timer {
    pub fn finest() -> Self {
        Self::fine().map_or(Self::Coarse, Self::Fine)
    }

    fn fine() -> io::Result<AsyncFd<OwnedFd>> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that might change their descriptor; OwnedFd cannot"
        )]
        AsyncFd::new(timer)
    }

    async fn sleep_until(&self, moment: Instant) {
        let time = moment.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return;
        }
        let slept = match self {
            Self::Fine(timer) => sleep_on(timer, time).await,
            Self::Coarse => Err(io::ErrorKind::Unsupported.into()),
        };
        if slept.is_err() {
            tokio::time::sleep_until(moment).await;
        }
    }
}

async fn sleep_on(timer: &AsyncFd<OwnedFd>, time: Duration) -> io::Result<()> {
    let it_value =
        Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
    timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
    loop {
        let mut ready = timer.readable().await?;
        let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
        if let Ok(read) = read {
            return read.map(|_| ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tally::Latencies;

    const RATE: f64 = 100.0;

    /// One worker that stalls once, at its first request, for `stall`: what `requests` at [`RATE`] were like.
    async fn stalled(requests: u64, stall: Duration) -> (Vec<Duration>, Tally) {
        let (budget, queue, tally) = (Budget::new(Until::Requests(requests)), Queue::new(RATE), Tally::default());
        let start = Instant::now();
        let arrivals = Arrivals::Open(Arc::clone(&queue));
        let working = async {
            let mut latencies = Vec::new();
            while let Some(intended) = arrivals.next().await {
                if latencies.is_empty() {
                    tokio::time::sleep(stall).await;
                }
                latencies.push(intended.elapsed());
            }
            latencies
        };
        let dispatching = dispatch(Schedule::new(RATE, 1), &queue, &budget, start, &tally, &Timer::Coarse);
        let (latencies, ()) = tokio::join!(working, dispatching);
        (latencies, tally)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_stall_delays_counts_from_when_it_was_meant_to_begin() {
        let (latencies, _) = stalled(200, Duration::from_secs(1)).await;
        assert_eq!(latencies.len(), 200);
        let longer = |than: u64| latencies.iter().filter(|latency| latency.as_millis() > than.into()).count();
        // A hundred requests a second: each was meant to begin during the stall and waited for what was left of it.
        assert!((70..130).contains(&longer(5)), "{}", longer(5));
        assert!((30..70).contains(&longer(500)), "{}", longer(500));
        assert_eq!(longer(1_010), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_place_to_wait_is_told() {
        let (latencies, tally) = stalled(1_200, Duration::from_secs(60)).await;
        assert_eq!(latencies.len(), 1 + WAITING_LEAST, "the one under way, and those that waited");
        assert_eq!(tally.take().errors["not_sent"].0, 199);
    }

    #[test]
    fn a_schedule_has_its_rate_and_is_the_same_each_time() {
        let moments: Vec<_> = Schedule::new(2_000.0, 7).take(100_000).collect();
        let rate = 100_000.0 / moments.last().expect("a moment").as_secs_f64();
        assert!((1_980.0..2_020.0).contains(&rate), "{rate}");
        assert!(moments.is_sorted());
        assert!(Schedule::new(2_000.0, 7).take(1_000).eq(moments.iter().copied().take(1_000)));
        assert!(
            !Schedule::new(2_000.0, 8).take(10).eq(moments.into_iter().take(10)),
            "threads have moments of their own"
        );
    }

    #[test]
    fn gaps_are_exponential() {
        let mut gaps = Latencies::default();
        let mut before = Duration::ZERO;
        for moment in Schedule::new(100.0, 3).take(50_000) {
            gaps.record(moment - before);
            before = moment;
        }
        // The median of an exponential distribution is ln 2 of its mean, the 99th percentile ln 100 of it. Mean: 10 ms.
        assert!((6_700..7_200).contains(&gaps.at(0.5)), "{}", gaps.at(0.5));
        assert!((44_000..48_500).contains(&gaps.at(0.99)), "{}", gaps.at(0.99));
    }

    #[test]
    fn a_budget_is_spent_once() {
        let counted = Budget::new(Until::Requests(2));
        let took: Vec<_> = (0..4).map(|_| counted.take(Duration::from_secs(99_999))).collect();
        assert_eq!(took, [true, true, false, false]);
        let timed = Budget::new(Until::Elapsed(Duration::from_secs(1)));
        assert!(timed.take(Duration::from_millis(999)) && !timed.take(Duration::from_secs(1)));
    }
}
