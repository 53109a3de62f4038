//! HTTP/2 frames that carry nothing of a message (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, unknown ones, empty DATA): how
//! many a peer may send. Each is work, and some are answered; a peer that sends little else floods (RFC 9113 section 10.5).

use tokio::time::Instant;

use super::h2_boundaries::Passed;
use super::h2_settings::{
    IDLE_FRAMES, IDLE_FRAMES_EARNED, IDLE_FRAMES_OF_A_HEAD, IDLE_FRAMES_OF_DATA, IDLE_FRAMES_PER_SECOND,
    OCTETS_OF_AN_IDLE_FRAME,
};

/// What a peer may still send. It grows with what is asked and answered, for which windows open and priorities change, and with time.
#[derive(Debug)]
pub struct Allowance {
    left: u32,
    /// For the time since then nothing has been added.
    since: Instant,
}

impl Allowance {
    pub fn new() -> Self {
        Self { left: IDLE_FRAMES, since: Instant::now() }
    }

    /// This has passed: what came, heads alone, or what we sent.
    pub fn earn(&mut self, passed: Passed) {
        let octets = u32::try_from(passed.octets / OCTETS_OF_AN_IDLE_FRAME).unwrap_or(u32::MAX);
        let frames = [
            passed.heads.saturating_mul(IDLE_FRAMES_OF_A_HEAD),
            passed.data.saturating_mul(IDLE_FRAMES_OF_DATA),
            octets,
        ];
        self.left = frames.into_iter().fold(self.left, u32::saturating_add).min(IDLE_FRAMES_EARNED);
    }

    /// A frame has come that carries nothing. False: it is one too many.
    #[must_use]
    pub fn spend(&mut self) -> bool {
        if self.left == 0 {
            let seconds = self.since.elapsed().as_secs_f64();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole frames, few")]
            let earned = (seconds * f64::from(IDLE_FRAMES_PER_SECOND)) as u32;
            if earned == 0 {
                return false;
            }
            (self.left, self.since) = (earned.min(IDLE_FRAMES), Instant::now());
        }
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn spent(allowance: &mut Allowance) -> u32 {
        (0..=2 * IDLE_FRAMES_EARNED).take_while(|_| allowance.spend()).count().try_into().expect("few")
    }

    #[tokio::test(start_paused = true)]
    async fn f04_frames_are_allowed_for_messages_and_for_time_and_no_others() {
        let mut allowance = Allowance::new();
        assert_eq!(spent(&mut allowance), IDLE_FRAMES);
        for (passed, earned) in [
            (Passed { heads: 3, ..Passed::default() }, 3 * IDLE_FRAMES_OF_A_HEAD),
            (Passed { data: 2, octets: 2, ..Passed::default() }, 2 * IDLE_FRAMES_OF_DATA),
            (Passed { data: 1, octets: 16 * 1024, ..Passed::default() }, IDLE_FRAMES_OF_DATA + 32),
            (Passed { heads: u32::MAX, data: u32::MAX, octets: usize::MAX }, IDLE_FRAMES_EARNED),
        ] {
            allowance.earn(passed);
            assert_eq!(spent(&mut allowance), earned, "{passed:?}");
        }
        advance(Duration::from_secs(1)).await;
        assert_eq!(spent(&mut allowance), IDLE_FRAMES_PER_SECOND);
        // What is left of a frame's time is not lost.
        let frame = Duration::from_secs(1) / IDLE_FRAMES_PER_SECOND;
        advance(frame / 2).await;
        assert_eq!(spent(&mut allowance), 0);
        advance(frame / 2).await;
        assert_eq!(spent(&mut allowance), 1);
        advance(Duration::from_secs(86_400)).await;
        assert_eq!(spent(&mut allowance), IDLE_FRAMES);
    }
}
