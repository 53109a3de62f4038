//! Rates that slow: octets are moved first and paid for afterwards, and who has not paid waits for its next.
//!
//! What is moved is put on its client's bill with all it shares a rate with ([`ledger`](super::ledger)). Each connection waits for its own
//! place in that bill and not for an empty one, so that a client's connections take turns, and one that is new waits behind all
//! of its client's. A wait is a timer that is there only while it lasts.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::quota::Way;
use super::subjects::{Places, Subjects};
use crate::turns::Turns;

/// A wait shows itself this often, so that it is not taken for idleness, and is reckoned anew: others have come or gone.
const BEAT: Duration = Duration::from_millis(250);

/// One way of one relay, under the rates of its subjects. Without any it costs a look at a flag. It takes its turns in any case.
pub struct Pace {
    subjects: Arc<Subjects>,
    way: Way,
    waiting: Option<Box<Waiting>>,
    turns: Turns,
}

struct Waiting {
    places: Places,
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
            self.wait(self.subjects.places(self.way));
        }
        while let Some(waiting) = &mut self.waiting {
            ready!(waiting.timer.as_mut().poll(cx));
            beat();
            match self.subjects.wait(self.way, &waiting.places) {
                Some((span, _)) => waiting.timer.as_mut().reset(Instant::now() + span.min(BEAT)),
                None => self.waiting = None,
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

    fn wait(&mut self, places: Places) {
        let Some((span, whose)) = self.subjects.wait(self.way, &places) else { return };
        self.subjects.slowed(self.way, whose);
        let timer = Box::pin(sleep_until(Instant::now() + span.min(BEAT)));
        self.waiting = Some(Box::new(Waiting { places, timer }));
    }
}
