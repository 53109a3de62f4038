//! How late a thread is: a task of its own there wakes at set times, behind whatever else waits to run.

use std::mem;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::locks::Mutex;

/// How often a pulse beats.
const BEAT: Duration = Duration::from_millis(100);
/// Samples of which the least counts.
const WINDOW: usize = 10;

/// The pulse of one thread.
pub struct Pulse(Mutex<Beat>);

struct Beat {
    /// How late the last was.
    late: Duration,
    due: Instant,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Beat { late: Duration::ZERO, due: Instant::now() + BEAT }))
    }

    /// Beats on the thread that runs it, without end.
    ///
    /// By two timers in turn: the one that is set when the other has rung is not the next to ring. Of a timer that is, a runtime is
    /// told by a system call, even on its own thread; no deadline of a connection need be one as long as this beats beside it.
    pub async fn beat(&self) {
        let first = Instant::now() + BEAT;
        let (mut next, mut behind) = (Box::pin(sleep_until(first)), Box::pin(sleep_until(first)));
        behind.as_mut().reset(first + BEAT);
        loop {
            let due = next.deadline();
            self.0.lock().due = due;
            next.as_mut().await;
            self.0.lock().late = due.elapsed();
            next.as_mut().reset(behind.deadline().max(Instant::now()) + BEAT);
            mem::swap(&mut next, &mut behind);
        }
    }

    /// How late it was last, or is by now.
    pub(super) fn late(&self) -> Duration {
        let beat = self.0.lock();
        beat.late.max(beat.due.elapsed())
    }
}

/// The least of the last samples: a delay that stands, and not one that passes.
#[derive(Default)]
pub(super) struct Standing {
    window: [Duration; WINDOW],
    next: usize,
}

impl Standing {
    pub(super) fn of(&mut self, sample: Duration) -> Duration {
        if let Some(place) = self.window.get_mut(self.next % WINDOW) {
            *place = sample;
        }
        self.next = self.next.wrapping_add(1);
        self.window.into_iter().min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stopped process that goes on, or one long task, is late once.
    #[test]
    fn o03_o04_a_delay_counts_when_it_has_stood_for_the_whole_window() {
        let mut standing = Standing::default();
        let late = Duration::from_secs(3);
        assert_eq!(standing.of(late), Duration::ZERO);
        for n in 2..WINDOW {
            assert_eq!(standing.of(late), Duration::ZERO, "{n}");
        }
        assert_eq!(standing.of(late), late);
        assert_eq!(standing.of(Duration::from_millis(7)), Duration::from_millis(7));
    }

    #[tokio::test(start_paused = true)]
    async fn o04_a_thread_that_does_not_come_to_it_is_late_by_now() {
        let pulse = std::sync::Arc::new(Pulse::new());
        let beating = std::sync::Arc::clone(&pulse);
        let task = tokio::spawn(async move { beating.beat().await });
        tokio::time::sleep(BEAT * 3).await;
        assert!(pulse.late() < Duration::from_millis(5), "{:?}", pulse.late());
        task.abort();
        let _ = task.await;
        tokio::time::sleep(BEAT + Duration::from_secs(2)).await;
        assert!(pulse.late() >= Duration::from_secs(2), "{:?}", pulse.late());
    }
}
