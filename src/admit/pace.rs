//! Rates that slow: octets are moved first and paid for afterwards, and who has not paid waits for its next.
//!
//! What is moved by one is put on the bill of all it shares a rate with, at the end of the bill. Each waits for its own place in
//! it and not for an empty one, so that connections that share a rate take turns, and one that is new waits behind all of them.
//! A wait is a timer that is there only while it lasts.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::quota::Way;
use super::rate::Tick;
use super::subjects::Subjects;
use crate::turns::Turns;

/// So much of a rate, in nanoseconds, may be unpaid: what keeps a fast connection from waiting for every read.
const CREDIT: u64 = 250_000_000;
/// One turn is this part of a second of the rate.
const TURNS: u64 = 8;
/// The least octets of a turn.
const LEAST: u64 = 1024;
/// A wait shows itself this often, so that it is not taken for idleness.
const BEAT: Duration = Duration::from_millis(250);

/// Nanoseconds until what was moved before is paid for, but for the credit.
pub(super) fn debt(paid: &AtomicU64, now: Tick) -> Duration {
    Duration::from_nanos(paid.load(Ordering::Relaxed).saturating_sub(now.nanoseconds().saturating_add(CREDIT)))
}

/// Puts `octets` at the end of the bill; the time until there.
pub(super) fn bill(paid: &AtomicU64, octets: usize, rate: u64, now: Tick) -> Duration {
    let span = (octets as u64).saturating_mul(1_000_000_000) / rate.max(1);
    let add = |paid: u64| Some(paid.max(now.nanoseconds()).saturating_add(span));
    // The closure never refuses.
    let before = paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or_else(|before| before);
    let after = before.max(now.nanoseconds()).saturating_add(span);
    Duration::from_nanos(after.saturating_sub(now.nanoseconds().saturating_add(CREDIT)))
}

pub(super) fn portion(rate: u64) -> usize {
    usize::try_from((rate / TURNS).max(LEAST)).unwrap_or(usize::MAX)
}

/// One way of one relay, under the rates of its subjects. Without any it costs a look at a flag. It takes its turns in any case.
pub struct Pace {
    subjects: Arc<Subjects>,
    way: Way,
    waiting: Option<Box<Waiting>>,
    turns: Turns,
}

struct Waiting {
    until: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Pace {
    pub fn new(subjects: &Arc<Subjects>, way: Way) -> Self {
        Self { subjects: Arc::clone(subjects), way, waiting: None, turns: Turns::default() }
    }

    pub fn way(&self) -> Way {
        self.way
    }

    /// Pending where others of the thread are to run first.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.turns.poll(cx)
    }

    /// How many octets may be moved now, when it is their turn; pending while those moved before are not paid for. `beat` is called now and then while
    /// that lasts.
    pub fn poll_portion(&mut self, cx: &mut Context<'_>, beat: impl Fn()) -> Poll<usize> {
        ready!(self.poll_turn(cx));
        if self.waiting.is_none() {
            if !self.subjects.paces() {
                return Poll::Ready(usize::MAX);
            }
            self.wait(self.subjects.debt(self.way));
        }
        while let Some(waiting) = &mut self.waiting {
            ready!(waiting.timer.as_mut().poll(cx));
            beat();
            let now = Instant::now();
            // A reload that takes the last limit away ends every wait.
            if now < waiting.until && self.subjects.paces() {
                waiting.timer.as_mut().reset(waiting.until.min(now + BEAT));
            } else {
                self.waiting = None;
            }
        }
        Poll::Ready(self.subjects.portion(self.way))
    }

    /// Octets that were moved.
    pub fn moved(&mut self, octets: usize) {
        self.turns.did(octets);
        if self.subjects.paces() {
            self.wait(self.subjects.bill(self.way, octets));
        }
    }

    /// For octets that are about to be moved whole: waits for its turn, and puts them on the bill.
    pub async fn take(&mut self, octets: usize, beat: impl Fn()) {
        poll_fn(|cx| self.poll_portion(cx, &beat)).await;
        self.moved(octets);
    }

    fn wait(&mut self, span: Duration) {
        if span.is_zero() {
            return;
        }
        let now = Instant::now();
        let until = now + span;
        self.waiting = Some(Box::new(Waiting { until, timer: Box::pin(sleep_until(until.min(now + BEAT))) }));
    }
}
