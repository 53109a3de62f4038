//! How long the peers of an exchange may keep it waiting, and the clock that says when one of them has had enough of our time.
//!
//! A limit on silence alone is no limit on one who says an octet before it ends each time. What is measured here is how long we
//! *waited for one peer*: its own slowness and nobody else's. While the other side has nothing for it, a peer owes nothing. Not
//! measured is an upstream that sends its answer slowly: an event stream looks the same, and holds no more than one buffer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// Octets of content a peer must send or take for every [`Deadlines::progress`] it keeps us waiting; fewer only at the end.
pub const LEAST: usize = 64 * 1024;

/// What an exchange may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Nothing moves at all.
    pub idle: Duration,
    /// From the whole request to the whole head of its answer.
    pub response: Duration,
    /// A peer that is waited for moves [`LEAST`] octets of content.
    pub progress: Duration,
}

/// How a peer kept us waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It did nothing for the idle limit.
    Idle,
    /// It did something, and not enough of it.
    TooSlow,
}

/// Why octets could not be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    Late(Late),
    Broken,
}

/// One peer's part of an exchange, one way.
#[derive(Debug)]
pub struct Patience {
    idle: Duration,
    progress: Duration,
    /// Nothing is owed once this is set: the two sides converse.
    relieved: Option<Arc<AtomicBool>>,
    waited: Duration,
    moved: usize,
}

impl Patience {
    pub fn new(deadlines: &Deadlines) -> Self {
        let Deadlines { idle, progress, .. } = *deadlines;
        Self { idle, progress, relieved: None, waited: Duration::ZERO, moved: 0 }
    }

    /// Of a peer whose silence is watched elsewhere, and which owes nothing more once `relieved` is set.
    pub fn watched(deadlines: &Deadlines, relieved: Option<Arc<AtomicBool>>) -> Self {
        Self { idle: Duration::MAX, relieved, ..Self::new(deadlines) }
    }

    /// Waits for the peer, at its own cost. What is there at once cost nobody anything.
    ///
    /// # Errors
    /// [`Late`].
    pub async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Late> {
        let mut work = pin!(work);
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Ok(done);
        }
        loop {
            let (began, left) = (Instant::now(), self.progress.saturating_sub(self.waited));
            if !left.is_zero()
                && let Ok(done) = timeout(left.min(self.idle), work.as_mut()).await
            {
                self.waited += began.elapsed();
                return Ok(done);
            }
            match self.relieved.as_ref().is_some_and(|relieved| relieved.load(Ordering::Relaxed)) {
                true => self.waited = Duration::ZERO,
                false if self.idle < left => return Err(Late::Idle),
                false => return Err(Late::TooSlow),
            }
        }
    }

    /// The peer sent or took so much.
    pub fn moved(&mut self, octets: usize) {
        self.moved += octets;
        if self.moved >= LEAST {
            (self.moved, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Hands all of `octets` to the peer.
    ///
    /// # Errors
    /// [`Stuck`]; a part may have gone.
    pub async fn write<W: AsyncWrite + Unpin>(&mut self, to: &mut W, mut octets: &[u8]) -> Result<(), Stuck> {
        while !octets.is_empty() {
            match self.wait(to.write(octets)).await {
                Ok(Ok(taken @ 1..)) => {
                    self.moved(taken);
                    octets = octets.get(taken..).unwrap_or_default();
                }
                Ok(Ok(0) | Err(_)) => return Err(Stuck::Broken),
                Err(late) => return Err(Stuck::Late(late)),
            }
        }
        Ok(())
    }

    /// Waits until the peer has taken what was written.
    ///
    /// # Errors
    /// [`Stuck`].
    pub async fn flush<W: AsyncWrite + Unpin>(&mut self, to: &mut W) -> Result<(), Stuck> {
        match self.wait(to.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Stuck::Broken),
            Err(late) => Err(Stuck::Late(late)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::time::{sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DEADLINES: Deadlines = Deadlines {
        idle: Duration::from_secs(20),
        response: Duration::from_secs(40),
        progress: Duration::from_secs(60),
    };

    /// (octets at a time, pause before each, how it ends and when): one below a limit, one on it.
    #[tokio::test(start_paused = true)]
    async fn h02_a_peer_owes_so_much_for_so_long_a_wait() {
        let enough = LEAST / 4;
        for (octets, pause, expected) in [
            (enough, 15, None),
            (enough, 16, Some((Late::TooSlow, 60))),
            (enough - 1, 15, Some((Late::TooSlow, 60))),
            (1, 1, Some((Late::TooSlow, 60))),
            (LEAST, 20, None),
            (LEAST, 21, Some((Late::Idle, 20))),
            (LEAST, 1000, Some((Late::Idle, 20))),
        ] {
            let mut pace = Patience::new(&DEADLINES);
            let began = Instant::now();
            let mut late = None;
            for _ in 0..1000 {
                match pace.wait(sleep(SECOND * pause)).await {
                    Ok(()) => pace.moved(octets),
                    Err(why) => {
                        late = Some((why, began.elapsed().as_secs()));
                        break;
                    }
                }
            }
            assert_eq!(late, expected, "{octets} octets every {pause} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_wait_for_the_peer_is_not_charged_to_it() {
        let mut pace = Patience::new(&DEADLINES);
        for _ in 0..1000 {
            sleep(SECOND * 50).await;
            assert_eq!(pace.wait(std::future::ready(())).await, Ok(()));
            pace.moved(1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_converses_owes_nothing_and_one_that_does_not_yet_does() {
        let relieved = Arc::new(AtomicBool::new(false));
        let mut pace = Patience::watched(&DEADLINES, Some(Arc::clone(&relieved)));
        let began = Instant::now();
        assert_eq!(pace.wait(sleep(SECOND * 61)).await, Err(Late::TooSlow));
        assert_eq!(began.elapsed(), DEADLINES.progress);
        relieved.store(true, Ordering::Relaxed);
        assert_eq!(pace.wait(sleep(SECOND * 10_000)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn h02_octets_are_handed_over_as_fast_as_the_peer_takes_them_or_not_at_all() {
        let content = vec![b'x'; 3 * LEAST];
        for (take, ends) in
            [(LEAST / 8, Ok(())), (64, Err(Stuck::Late(Late::TooSlow))), (0, Err(Stuck::Late(Late::Idle)))]
        {
            let (mut near, mut far) = duplex(1024);
            let mut pace = Patience::new(&DEADLINES);
            let reading = async {
                let mut taken = vec![0; take];
                loop {
                    sleep(SECOND * 5).await;
                    if take > 0 && far.read_exact(&mut taken).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            let written = tokio::select! {
                written = pace.write(&mut near, &content) => written,
                () = reading => unreachable!("it never ends"),
            };
            assert_eq!(written, ends, "{take} octets every 5 s");
        }
        let (mut near, far) = duplex(1024);
        drop(far);
        assert_eq!(Patience::new(&DEADLINES).write(&mut near, b"x").await, Err(Stuck::Broken));
        let never = timeout(SECOND, Patience::new(&DEADLINES).flush(&mut near)).await;
        assert_eq!(never, Ok(Ok(())), "a pipe holds nothing back");
    }
}
