//! When requests are meant to begin: as soon as the last one was answered (closed loop), or at times fixed beforehand (open loop).
//!
//! In the open loop a latency counts from the intended moment, however late the request really began: a proxy that stalls
//! delays what is meant to begin meanwhile, and a client that waited would not count that (coordinated omission).

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::tally::Tally;
use super::{Failure, Until};

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
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = waiting.moments.len() < self.most;
        if fits {
            waiting.moments.push_back(moment);
            drop(waiting);
            self.arrived.notify_one();
        }
        fits
    }

    fn end(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.arrived.notify_one();
    }
}

/// Puts every request of `schedule` into `queue` when its moment comes, until the budget is used up.
///
/// # Errors
/// `timer`, where the kernel gives none.
pub async fn dispatch(
    schedule: Schedule,
    queue: &Queue,
    budget: &Budget,
    start: Instant,
    tally: &Tally,
) -> Result<(), Failure> {
    let timer = Timer::new().map_err(|error| Failure::of_io("setting a timer", &error));
    let ended = match timer {
        Ok(timer) => put(schedule, queue, budget, start, tally, &timer).await,
        Err(failure) => Err(failure),
    };
    queue.end();
    ended
}

async fn put(
    schedule: Schedule,
    queue: &Queue,
    budget: &Budget,
    start: Instant,
    tally: &Tally,
    timer: &Timer,
) -> Result<(), Failure> {
    for after in schedule {
        if !budget.take(after) {
            return Ok(());
        }
        let moment = start + after;
        let now = Instant::now();
        if moment > now {
            timer.sleep(moment - now).await.map_err(|error| Failure::of_io("waiting for a timer", &error))?;
        }
        tally.lagged(Instant::now().saturating_duration_since(moment));
        if !queue.push(moment) {
            tally.failed(Failure::new(
                "not_sent",
                "every connection was busy, and too many requests waited for one already",
            ));
        }
    }
    Ok(())
}

/// A timer finer than the runtime's, which knows milliseconds only.
struct Timer(AsyncFd<std::os::fd::OwnedFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that might change their descriptor; OwnedFd cannot"
        )]
        Ok(Self(AsyncFd::new(timer)?))
    }

    async fn sleep(&self, time: Duration) -> io::Result<()> {
        let nanoseconds = time.as_nanos().max(1);
        let value = Timespec {
            tv_sec: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanoseconds % 1_000_000_000).unwrap_or_default(),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            if let Ok(read) = read {
                return read.map(|_| ());
            }
        }
    }
}
