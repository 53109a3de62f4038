//! How an attempt ends on its way to its relay: by the service's cut, or because its place is needed.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use crate::drain::Drain;
use crate::pressure::Newcomer;
use crate::reason::Reason;
use crate::seldom::Seldom;

/// Whether an attempt has come to its relay, which then ends itself at a cut and says how far it got.
#[derive(Clone)]
pub struct Relaying(Arc<Before>);

struct Before {
    begun: AtomicBool,
    /// `None`: it is being turned away, and holds no place.
    newcomer: Option<Newcomer>,
}

impl Relaying {
    pub(super) fn after(newcomer: Option<Newcomer>) -> Self {
        Self(Arc::new(Before { begun: AtomicBool::new(false), newcomer }))
    }

    /// Resolves at a cut that comes before the relay, or when its place is needed by others. Boxed, and given up when it comes to its
    /// relay: there are many, and they last.
    pub fn ended_before_it(self, drain: &Drain) -> impl Future<Output = Reason> {
        let (this, cut) = (self.clone(), drain.cut());
        let mut ending = Some(Seldom::new(Box::pin(async move {
            tokio::select! {
                () = cut => Reason::ShuttingDown,
                () = ended(this.0.newcomer.as_ref()) => Reason::Overloaded,
            }
        })));
        poll_fn(move |cx| {
            if self.0.begun.load(Ordering::Relaxed) {
                ending = None;
            }
            ending.as_mut().map_or(Poll::Pending, |ending| Pin::new(ending).poll(cx))
        })
    }

    pub(super) fn begin(&self) {
        self.0.begun.store(true, Ordering::Relaxed);
        if let Some(newcomer) = &self.0.newcomer {
            newcomer.established();
        }
    }
}

async fn ended(newcomer: Option<&Newcomer>) {
    match newcomer {
        Some(newcomer) => newcomer.ended().await,
        None => pending().await,
    }
}
