//! One attempt: a guard that leaves exactly one terminal record, whatever happens to the task that holds it.
//!
//! It begins as failed for `internal_error`; the spine says otherwise with [`Attempt::conclude`]. So a panic, an aborted task
//! and a forgotten branch all leave a record that says a defect happened, and none leaves nothing (`panic = "unwind"`).

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::reason::{Outcome, Reason};
use crate::record::Recorder;
use crate::record::counts::Action;
use crate::record::fields::Fields;
use crate::record::id::EventId;
use crate::record::queue::Ended;

/// An attempt under way. Dropping it hands in its terminal record, without waiting.
#[must_use = "dropping it ends the attempt"]
pub struct Attempt {
    /// What is known of it; the spine sets each when it becomes known.
    pub fields: Fields,
    recorder: Recorder,
    action: Action,
    id: EventId,
    at: SystemTime,
    began: Instant,
    outcome: Outcome,
    reason: Option<Reason>,
    /// An `established` line waits for its terminal one.
    established: bool,
    /// Its terminal record has been handed in, or is another's to hand in.
    done: bool,
}

impl Attempt {
    pub(super) fn new(recorder: Recorder, action: Action) -> Self {
        Self {
            fields: Fields::default(),
            action,
            id: recorder.next_id(),
            at: SystemTime::now(),
            began: Instant::now(),
            outcome: Outcome::Failed,
            reason: Some(Reason::InternalError),
            established: false,
            done: false,
            recorder,
        }
    }

    /// The reference of a refusal page, and `sekisho.connection` of the requests that come by this connection.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// When it began, by the wall clock.
    pub fn began(&self) -> SystemTime {
        self.at
    }

    /// That it began earlier than its record was asked for: when its connection was accepted.
    pub fn began_at(&mut self, at: SystemTime, began: Instant) {
        (self.at, self.began) = (at, began);
    }

    /// Records that an allowed connection begins. To be called before the client hears of it: a process that is killed then
    /// leaves no open tunnel unrecorded.
    pub fn established(&mut self) {
        self.complete();
        self.established = true;
        self.fields.action = Some("established");
        self.recorder.push(&self.fields);
    }

    /// Says how the attempt ends; the last word counts. `reason` is `None` where an allowed attempt ended normally.
    pub fn conclude(&mut self, outcome: Outcome, reason: Option<Reason>) {
        self.outcome = outcome;
        self.reason = reason;
    }

    /// Concludes and hands in the terminal record now.
    pub fn finish(mut self, outcome: Outcome, reason: Option<Reason>) {
        self.conclude(outcome, reason);
    }

    /// Hands in the terminal record now, before the client sees the outcome. What is said later changes nothing.
    pub fn commit(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        self.complete();
        self.fields.action = Some(self.action.as_str());
        self.fields.outcome = Some(self.outcome);
        self.fields.reason = self.reason;
        let ended = Ended { action: self.action, outcome: self.outcome, established: self.established };
        self.recorder.end(ended, &self.fields);
    }

    /// The same attempt for another guard to end; this one says no more.
    pub fn hand_over(&mut self) -> Self {
        let done = std::mem::replace(&mut self.done, true);
        let fields = std::mem::take(&mut self.fields);
        let Self { ref recorder, action, id, at, began, outcome, reason, established, .. } = *self;
        Self { fields, recorder: recorder.clone(), action, id, at, began, outcome, reason, established, done }
    }

    /// As another process can go on with it: the line that would end it now, but for how it ends.
    pub fn portable(&mut self) -> Vec<u8> {
        self.complete();
        self.fields.action = Some(self.action.as_str());
        self.fields.line(0)
    }

    /// Another process has it now, and ends it; this one says no more.
    pub fn handed_over(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            self.recorder.handed_over(self.action);
        }
    }

    /// Goes on with an attempt of the process before, which has said that it is established.
    pub(super) fn resume(mut self, (at, id, lasted): (SystemTime, EventId, Duration), fields: Fields) -> Self {
        (self.at, self.id, self.established) = (at, id, true);
        // An attempt that began before this machine did cannot be; one of the first seconds can.
        self.began = self.began.checked_sub(lasted).unwrap_or(self.began);
        self.fields = fields;
        self
    }

    fn complete(&mut self) {
        self.fields.at = Some(self.at);
        self.fields.id = Some(self.id);
        self.fields.duration = Some(self.began.elapsed());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.commit();
    }
}
