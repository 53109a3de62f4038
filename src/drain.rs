//! How the service stops: running → draining (no new work, what runs may finish) → cut (what still runs ends now). Where another process
//! takes over it is moving before: what waits is served, tunnels go there, and what cannot go leaves. One connection whose life is
//! limited goes the same way by itself ([`Drain::at`]).
//!
//! `connection::Gate` owns the [`Stopper`]; what waits for long holds a [`Drain`] and selects on it, but for tunnels, which the gate rings.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Moving,
    Draining,
    Cut,
}

/// The end that says when. Phases only go forward.
pub struct Stopper(watch::Sender<Phase>);

/// The end that is told. Cheap to clone.
#[derive(Clone)]
pub struct Drain {
    phase: watch::Receiver<Phase>,
    /// Keeps a `Drain` of its own alive in tests and tools that never stop.
    _keep: Option<Arc<watch::Sender<Phase>>>,
    life: Option<Life>,
}

/// When a connection is to leave, and how long that may take.
#[derive(Debug, Clone, Copy)]
struct Life {
    ends: Instant,
    grace: Duration,
}

impl Stopper {
    pub fn new() -> (Self, Drain) {
        let (sender, phase) = watch::channel(Phase::Running);
        (Self(sender), Drain { phase, _keep: None, life: None })
    }

    /// Another process has taken over.
    pub fn move_out(&self) {
        self.advance(Phase::Moving);
    }

    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    pub fn cut(&self) {
        self.advance(Phase::Cut);
    }

    fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let forward = to > *phase;
            if forward {
                *phase = to;
            }
            forward
        });
    }
}

impl Drain {
    /// A drain that never comes.
    pub fn never() -> Self {
        let (sender, phase) = watch::channel(Phase::Running);
        Self { phase, _keep: Some(Arc::new(sender)), life: None }
    }

    /// The drain of one connection, which has to leave at `ends` too and is cut `grace` later.
    pub fn at(&self, ends: Option<Instant>, grace: Duration) -> Self {
        Self { life: ends.map(|ends| Life { ends, grace }), ..self.clone() }
    }

    /// Whether the service takes up nothing more.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining || self.has_outlived()
    }

    /// Whether what is between two requests is to end: that of draining, and that of another process which has taken over.
    pub fn is_leaving(&self) -> bool {
        *self.phase.borrow() >= Phase::Moving || self.has_outlived()
    }

    /// Whether another process has taken over, and takes tunnels.
    pub fn is_moving(&self) -> bool {
        *self.phase.borrow() == Phase::Moving
    }

    /// Whether it is this connection's own time that is over.
    pub fn has_outlived(&self) -> bool {
        self.life.is_some_and(|life| life.ends <= Instant::now())
    }

    /// How much of this connection's own time is left, where it is limited.
    pub fn left(&self) -> Option<Duration> {
        self.life.map(|life| life.ends.saturating_duration_since(Instant::now()))
    }

    /// Resolves when draining begins, at once if it has.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        reached(self.phase.clone(), Phase::Draining, self.life.map(|life| life.ends))
    }

    /// Resolves when what is between two requests is to end, at once if it is.
    pub fn leaving(&self) -> impl Future<Output = ()> + use<> {
        reached(self.phase.clone(), Phase::Moving, self.life.map(|life| life.ends))
    }

    /// Whether everything must end now.
    pub fn is_cut(&self) -> bool {
        *self.phase.borrow() >= Phase::Cut
    }

    /// When this connection is cut by its own time, where that is limited.
    pub fn outlives(&self) -> Option<Instant> {
        self.life.map(|life| life.ends + life.grace)
    }

    /// Resolves when everything must end now.
    pub fn cut(&self) -> impl Future<Output = ()> + use<> {
        reached(self.phase.clone(), Phase::Cut, self.outlives())
    }
}

/// Reached by the service, or by the connection alone where its time is `over` before.
async fn reached(mut now: watch::Receiver<Phase>, phase: Phase, over: Option<Instant>) {
    // Boxed, as most have none.
    let mut over = over.map(|over| Box::pin(sleep_until(over)));
    // The sender lives as long as the service: an error means the service is gone, which is the end too.
    let mut stopped = pin!(now.wait_for(|now| *now >= phase));
    poll_fn(|cx| match stopped.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => over.as_mut().map_or(Poll::Pending, |over| over.as_mut().poll(cx)),
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_go_forward_only() {
        let (stopper, drain) = Stopper::new();
        assert!(!drain.is_draining());
        stopper.cut();
        stopper.drain();
        drain.cut().await;
        drain.draining().await;
        assert!(drain.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn h03_a_connection_whose_life_is_over_drains_by_itself_and_is_cut() {
        let (stopper, service) = Stopper::new();
        let began = Instant::now();
        let (life, grace) = (Duration::from_secs(60), Duration::from_secs(10));
        let drain = service.at(Some(began + life), grace);
        assert!(!drain.is_draining());
        drain.draining().await;
        assert_eq!(began.elapsed(), life);
        assert!(drain.is_draining() && drain.has_outlived() && !service.is_draining());
        drain.cut().await;
        assert_eq!(began.elapsed(), life + grace);
        let young = service.at(Some(Instant::now() + life), grace);
        stopper.cut();
        young.cut().await;
        assert!(young.is_draining() && !young.has_outlived());
    }

    #[tokio::test(start_paused = true)]
    async fn moving_comes_before_draining() {
        let (stopper, drain) = Stopper::new();
        stopper.move_out();
        drain.leaving().await;
        assert!(drain.is_moving() && drain.is_leaving() && !drain.is_draining());
        stopper.drain();
        stopper.move_out();
        drain.draining().await;
        assert!(!drain.is_moving() && drain.is_leaving() && drain.is_draining());
    }

    #[tokio::test]
    async fn a_drain_that_never_comes_never_resolves() {
        let drain = Drain::never();
        tokio::select! {
            biased;
            () = drain.cut() => panic!("cut"),
            () = tokio::task::yield_now() => {}
        }
    }
}
