//! Answers that are held back: who comes too fast and begins again with every refusal is slowed to one in [`DELAY`] on each of its
//! connections, without a word in the configuration.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How long the refusal of who came too fast is held back.
pub(super) const DELAY: Duration = Duration::from_secs(1);
/// Refusals held back at a time. Each holds its connection; the ones past this are answered at once.
const PLACES: usize = 4096;

pub(super) struct Delays(Semaphore);

impl Default for Delays {
    fn default() -> Self {
        Self(Semaphore::new(PLACES))
    }
}

impl Delays {
    pub(super) async fn hold_back(&self) {
        if let Ok(_place) = self.0.try_acquire() {
            sleep(DELAY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn h04_h10_refusals_are_held_back_and_there_are_no_more_than_places() {
        let delays = Delays::default();
        let began = Instant::now();
        let held = join_all((0..PLACES + 7).map(|_| async {
            delays.hold_back().await;
            began.elapsed()
        }))
        .await;
        assert_eq!(held.iter().filter(|took| took.is_zero()).count(), 7);
        assert!(held.iter().filter(|took| !took.is_zero()).all(|took| *took >= DELAY));
        delays.hold_back().await;
        assert!(began.elapsed() >= DELAY * 2, "a place is free again");
    }
}
