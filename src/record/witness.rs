//! Attempts that are the service's own and no client's: how each ended is kept here, to be judged, instead of in the file.

use std::sync::Arc;

use crate::locks::Mutex;
use crate::reason::{Outcome, Reason};

/// Endings kept until they are taken; further ones are not.
const KEPT: usize = 16;

/// How an attempt ended, as its terminal record would have said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    pub outcome: Outcome,
    pub reason: Option<Reason>,
}

impl From<Reason> for Ending {
    /// Of an attempt that ended for this reason before anything was passed.
    fn from(reason: Reason) -> Self {
        Self { outcome: reason.outcome(), reason: Some(reason) }
    }
}

/// Sees how the attempts of one handle end ([`Recorder::witnessed`](super::Recorder::witnessed)).
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<Ending>>>);

impl Witness {
    /// The endings since the last time, in their order.
    pub fn take(&self) -> Vec<Ending> {
        std::mem::take(&mut self.0.lock())
    }

    pub(super) fn saw(&self, ending: Ending) {
        let mut endings = self.0.lock();
        if endings.len() < KEPT {
            endings.push(ending);
        }
    }
}
