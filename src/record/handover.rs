//! One record of two processes, of which one takes over from the other: at any time one file, one writer, one sequence.
//!
//! The old process completes the file and lends it with its lock ([`Recorder::release`]). What comes later it holds. The new one gets ready
//! with that file ([`Recorder::ready_behind`]) and writes nothing: where it does not come to serve, the old one goes on in the file as if
//! nothing had been ([`Recorder::reclaim`]). Where it does, the old one sends on to it what it holds and what is still to come
//! ([`Recorder::forward`]); the new one begins its run ([`Ready::begin`](crate::record::Ready::begin)) and lays every line of the old one
//! under a number of its own ([`Recorder::relay`]). Where the new one ends later, the lines that are left go into the file as soon as that is free.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::oneshot;

use crate::reason::{Outcome, Reason};
use crate::record::aggregate::Kind;
use crate::record::counts::Action;
use crate::record::fields::Fields;
use crate::record::lifecycle::Lifecycle;
use crate::record::queue::{Pushed, To};
use crate::record::{Attempt, RecordError, Recorder, line};

/// How long the new process may take to accept lines before it counts as an outage.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is read of a line of the process before.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "event.action")]
    action: &'a str,
    #[serde(rename = "event.outcome")]
    outcome: Option<&'a str>,
    #[serde(rename = "event.reason")]
    reason: Option<&'a str>,
    #[serde(rename = "sekisho.count")]
    count: Option<u64>,
    #[serde(rename = "sekisho.lifecycle")]
    lifecycle: Option<&'a str>,
}

/// What a line of the process before was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    Laid,
    /// Its last: it has ended in order. This one's own stands at the end of the file.
    Last,
}

/// What another process sent as a line of its record is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no line of a record")]
pub struct NotALine;

/// A line of the process before.
pub(super) struct Relayed<'a> {
    pub(super) kind: Kind,
    /// The attempts it is the end of: so many as it stands for.
    pub(super) ends: Option<(Action, Outcome)>,
    pub(super) count: u64,
    last: bool,
    pub(super) body: &'a [u8],
}

impl<'a> Relayed<'a> {
    /// `line` with its newline.
    fn read(line: &'a [u8]) -> Option<Self> {
        let numbered = line.strip_prefix(line::HEAD.as_bytes())?;
        let digits = numbered.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let body = numbered.get(digits..)?;
        let whole = digits > 0 && body.starts_with(b",") && body.ends_with(b"}\n");
        let said: Line<'_> = serde_json::from_slice(line).ok().filter(|_| whole)?;
        let outcome = said.outcome.and_then(Outcome::parse);
        let action = Action::ALL.into_iter().find(|action| action.as_str() == said.action);
        let word = ["established", "lifecycle"].into_iter().find(|word| *word == said.action);
        let ends = match (action, outcome) {
            (Some(action), Some(outcome)) => Some((action, outcome)),
            (Some(_), None) => return None,
            (None, _) => None,
        };
        let kind = Kind {
            action: Some(action.map(Action::as_str).or(word)?),
            outcome,
            reason: said.reason.and_then(Reason::parse),
            lifecycle: said.lifecycle.and_then(Lifecycle::parse),
        };
        let last = kind.lifecycle == Some(Lifecycle::Stop);
        Some(Self { kind, ends, count: said.count.unwrap_or(1), last, body })
    }
}

impl Recorder {
    /// Completes the file and lends it, for another process to go on with. What comes later is held.
    ///
    /// # Errors
    /// [`RecordError`]: this one goes on with it, and its record says `takeover_failed`.
    pub async fn release(&self) -> Result<OwnedFd, RecordError> {
        let (lent, file) = oneshot::channel();
        self.switch(To::Nowhere(lent)).await?;
        file.await.map_err(|_| RecordError::Closed)
    }

    /// The other did not begin: what is held, and what comes later, goes into the file. It is locked anew, so that another process which
    /// stands still with what was lent neither keeps it from anybody nor writes it.
    pub async fn reclaim(&self) {
        // It fails only where the record is closed, and then nothing is held.
        let _ = self.switch(To::Itself).await;
    }

    /// Sends what is held, and all that comes later, to the process that goes on with the file.
    ///
    /// # Errors
    /// [`RecordError`]: it is held still.
    pub async fn forward(&self, to: UnixStream) -> Result<(), RecordError> {
        let usable = to.set_write_timeout(Some(PATIENCE));
        usable.map_err(|_: io::Error| RecordError::Unwritable)?;
        self.switch(To::Process(to)).await
    }

    /// Lays a line of the process before, its newline included, when there is room for it.
    ///
    /// # Errors
    /// [`NotALine`].
    pub async fn relay(&self, line: &[u8]) -> Result<Relay, NotALine> {
        let relayed = Relayed::read(line).ok_or(NotALine)?;
        if relayed.last {
            return Ok(Relay::Last);
        }
        self.inner.shared.room().await;
        self.inner.shared.relay(&relayed);
        Ok(Relay::Laid)
    }

    /// Goes on with an attempt of the process before, of which `line` is [`Attempt::portable`].
    ///
    /// # Errors
    /// [`NotALine`].
    pub async fn resume(&self, line: &[u8]) -> Result<Attempt, NotALine> {
        let fields = Fields::read(line).ok_or(NotALine)?;
        let (Some(at), Some(id), Some(lasted)) = (fields.at, fields.id, fields.duration) else { return Err(NotALine) };
        Ok(self.begin(Action::Connection).await.resume((at, id, lasted), fields))
    }

    pub(super) fn handed_over(&self, action: Action) {
        if self.witness.is_none() {
            self.inner.shared.lock().attempts(action).hand_over();
        }
    }
}

impl super::queue::Queue {
    /// Takes a line of the process before, and counts the attempts that it ends.
    pub(super) fn relay(&mut self, relayed: &Relayed<'_>) -> Pushed {
        if let Some((action, outcome)) = relayed.ends {
            self.attempts(action).of_another(outcome, relayed.count);
            if let Some(reason) = relayed.kind.reason {
                self.count_reason(reason, relayed.count);
            }
        }
        self.push(relayed.kind, relayed.count, relayed.body)
    }
}

#[cfg(test)]
mod tests;
