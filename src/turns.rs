//! Taking turns: a task that has much to do stops now and then and lets the others of its thread go on.
//!
//! A thread runs what is ready in order, and asks its sockets for news between two rounds. A peer that always has something more
//! to read, be it bulk or a flood of frames, would otherwise make all others wait for as long as the runtime lets one task run:
//! with 60 such connections tens of milliseconds (`manual/performance`).

use std::pin::pin;
use std::task::{Context, Poll};

use tokio::task::yield_now;

/// Octets, or what costs as much, that are done in one turn: some hundred microseconds.
pub const TURN: usize = 256 * 1024;

/// How much was done in this turn.
#[derive(Debug, Default)]
pub struct Turns(u32);

impl Turns {
    /// Done, in octets.
    pub fn did(&mut self, octets: usize) {
        self.0 = self.0.saturating_add(octets.try_into().unwrap_or(u32::MAX));
    }

    /// Pending once behind every turn; the task is woken behind the others that are ready, and behind news from the sockets.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if (self.0 as usize) < TURN {
            return Poll::Ready(());
        }
        self.0 = 0;
        pin!(yield_now()).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn h02_f04_others_run_between_two_turns() {
        let others = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&others);
        let other = tokio::spawn(async move {
            loop {
                counting.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let mut turns = Turns::default();
        let mut work = async |octets| {
            turns.did(octets);
            poll_fn(|cx| turns.poll(cx)).await;
            others.load(Ordering::Relaxed)
        };
        assert_eq!(work(TURN - 1).await, 0, "the turn is not over");
        assert!(work(1).await >= 1);
        let seen = work(1).await;
        assert_eq!(work(TURN - 2).await, seen, "another has begun");
        assert!(work(usize::MAX).await > seen);
        other.abort();
    }
}
