//! How the service stops: running → draining (no new work, what runs may finish) → cut (what still runs ends now).
//!
//! `server` owns the [`Stopper`]; everything that waits for long holds a [`Drain`] and selects on it.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
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
}

impl Stopper {
    pub fn new() -> (Self, Drain) {
        let (sender, phase) = watch::channel(Phase::Running);
        (Self(sender), Drain { phase, _keep: None })
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
        Self { phase, _keep: Some(Arc::new(sender)) }
    }

    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Resolves when draining begins, at once if it has.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        reached(self.phase.clone(), Phase::Draining)
    }

    /// Resolves when everything must end now.
    pub fn cut(&self) -> impl Future<Output = ()> + use<> {
        reached(self.phase.clone(), Phase::Cut)
    }
}

async fn reached(mut now: watch::Receiver<Phase>, phase: Phase) {
    // The sender lives as long as the service: an error means the service is gone, which is the end too.
    let _ = now.wait_for(|now| *now >= phase).await;
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
