//! One proof after the other: what is said of it in log and record, and what readiness and metrics go by.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::time::{Instant, sleep};

use super::{Proof, Verdict, prove};
use crate::connection::Gate;
use crate::record::{Fields, Lifecycle, Recorder};

/// From one proof to the next, where the configuration stays the same.
const PERIOD: Duration = Duration::from_secs(300);
/// The same where one failed.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two, however often the configuration is replaced.
const REST: Duration = Duration::from_secs(1);
/// From one line in the record that says it holds to the next.
const TELL: Duration = Duration::from_secs(3600);
/// Proofs that gave no answer, one after the other, before that is as bad as a wrong one: a machine may be busy for a moment.
const SILENT: u32 = 3;

/// What is known now.
#[derive(Debug, Default)]
pub struct Standing {
    last: ArcSwapOption<Known>,
}

#[derive(Debug)]
struct Known {
    proof: Option<Proof>,
    /// It is so bad that no traffic is to come.
    failed: bool,
    tally: Tally,
}

/// Proofs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub held: u64,
    pub failed: u64,
    /// When one last held.
    pub last_held: Option<SystemTime>,
}

impl Standing {
    /// Whether traffic cannot be served safely.
    pub fn is_failed(&self) -> bool {
        self.last.load().as_ref().is_some_and(|known| known.failed)
    }

    /// 1 where the last proof held, 0 where it did not; `None` where there is nothing to prove, or nothing was tried yet.
    pub fn holds(&self) -> Option<bool> {
        let last = self.last.load();
        match last.as_ref()?.proof.as_ref().map(Proof::verdict) {
            Some(Verdict::Nothing) => None,
            verdict => Some(matches!(verdict, Some(Verdict::Holds | Verdict::Incomplete))),
        }
    }

    /// Hosts that the last proof was about.
    pub fn hosts(&self) -> usize {
        self.last.load().as_ref().and_then(|known| known.proof.as_ref().map(Proof::hosts)).unwrap_or_default()
    }

    pub fn tally(&self) -> Tally {
        self.last.load().as_ref().map(|known| known.tally).unwrap_or_default()
    }
}

/// Proves the configuration in force at once, after every reload, and every few minutes; without end.
pub async fn keep_proving(gate: Arc<Gate>, standing: Arc<Standing>) {
    let mut reloads = gate.reloads();
    let mut course = Course::default();
    loop {
        reloads.mark_unchanged();
        let (recorder, _witness) = gate.recorder().witnessed();
        let proof = prove(&gate.live(), recorder).await;
        let (verdict, due, said) = match &proof {
            Ok(proof) => (proof.verdict(), course.note(proof.verdict(), Instant::now()), proof.to_string()),
            // It says nothing of what clients get.
            Err(error) => (Verdict::Silent, course.complain(), error.to_string()),
        };
        tell(gate.recorder(), due, &said);
        standing.last.store(Some(Arc::new(Known { proof: proof.ok(), failed: course.failed, tally: course.tally })));
        sleep(REST).await;
        let pause = if matches!(verdict, Verdict::Silent | Verdict::Wrong) { AGAIN } else { PERIOD };
        tokio::select! {
            () = sleep(pause) => {}
            // The gate has the sender: it does not end before this.
            _ = reloads.changed() => course.complained = false,
        }
    }
}

/// Proofs one after the other.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) tally: Tally,
    /// So many of the last gave no answer.
    silent: u32,
    pub(super) failed: bool,
    /// When the record last said that it holds.
    told: Option<Instant>,
    /// The record has said of this configuration what could not be tried.
    complained: bool,
}

/// What is to be said of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// In the log alone.
    Warning,
    Failure,
    Complaint,
    Success,
}

impl Course {
    pub(super) fn note(&mut self, verdict: Verdict, now: Instant) -> Due {
        self.silent = if verdict == Verdict::Silent { self.silent + 1 } else { 0 };
        let failed_before = self.failed;
        self.failed = match verdict {
            Verdict::Wrong => true,
            Verdict::Silent => failed_before || self.silent >= SILENT,
            Verdict::Holds | Verdict::Incomplete | Verdict::Nothing => false,
        };
        match verdict {
            Verdict::Wrong | Verdict::Silent => {
                self.tally.failed += 1;
                self.told = None;
                if self.failed && !failed_before { Due::Failure } else { Due::Warning }
            }
            Verdict::Holds | Verdict::Incomplete => {
                self.tally.held += 1;
                self.tally.last_held = Some(SystemTime::now());
                if verdict == Verdict::Incomplete && !self.complained {
                    return self.complain();
                }
                if self.told.is_some_and(|told| now.duration_since(told) < TELL) {
                    return Due::Nothing;
                }
                self.told = Some(now);
                Due::Success
            }
            Verdict::Nothing => Due::Nothing,
        }
    }

    /// Once for each configuration.
    fn complain(&mut self) -> Due {
        let before = std::mem::replace(&mut self.complained, true);
        if before { Due::Nothing } else { Due::Complaint }
    }
}

/// In the log, and what the record has to show for it.
fn tell(recorder: &Recorder, due: Due, said: &str) {
    let (kind, message) = match due {
        Due::Nothing => return,
        Due::Warning => return tracing::warn!("the tenant proof does not hold: {said}"),
        Due::Failure => {
            tracing::error!("the tenant proof fails: {said}");
            (Lifecycle::TenantProofFailed, format!("The tenant proof fails: {said}."))
        }
        Due::Complaint => {
            tracing::warn!("the tenant proof is not complete: {said}");
            (Lifecycle::ConfigProblem, format!("The tenant proof is not complete: {said}."))
        }
        Due::Success => {
            tracing::info!("the tenant proof holds: {said}");
            (Lifecycle::TenantProofHolds, format!("The tenant proof holds: {said}."))
        }
    };
    let mut fields = Fields::default();
    fields.rare.message = Some(message.as_str().into());
    recorder.lifecycle(kind, fields);
}
