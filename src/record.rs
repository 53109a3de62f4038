//! The access record: one line of JSON per attempt, written by one thread, never lost without a word.
//!
//! What lives here: [`Recorder`], by which the rest of the service begins attempts and has the file opened, moved and closed.
//! What may not: diagnostics (`telemetry`), metrics' names, and any decision about a client.
//!
//! * `fields` has every field once; `values` says how each is cut and masked, `line` how it is escaped, `id` makes `event.id`.
//! * `attempt` is the guard whose `Drop` hands in the one terminal record; `witness` sees the endings that are no client's.
//! * `queue` is what waits, `shared` the lock round it, `counts` the arithmetic that shows that nothing is missing.
//! * `flood` is what becomes of refusals by the thousand, `aggregate` of what comes while the file cannot be written.
//! * `handover` is how one process goes on with the record of another, `read` how the fields of its attempts are read.
//! * `writer` is the thread, `file` the file, `lifecycle` the events of the service itself.
//!
//! **Back-pressure without reserved slots.** `Drop` cannot wait, so room has to be found before work begins. To reserve a slot
//! in a bounded channel for each attempt would be the obvious way, but a tunnel lives for hours and would hold its slot for as
//! long: 20,000 idle tunnels would need 20,000 slots, and a few more would stop the service though nothing is waiting to be
//! written. So [`Recorder::begin`] waits only while the queue holds `queue::CAPACITY` lines, and the terminal record is then
//! always taken. The queue is bounded by that capacity plus a line or two for each live attempt, and admission bounds those.
//!
//! **What cannot be written is kept, then counted.** While the file cannot be written nobody waits: attempts are refused with
//! `record_unavailable` under [`WhenUnwritable::Deny`], or go on under [`WhenUnwritable::Continue`]; [`Recorder::state`] says
//! which. Lines are kept up to the capacity; further events are counted by action, outcome and reason and written as one line
//! each, with `sekisho.count`, once the file can be written again. The sums stay exact and the memory bounded.
//!
//! **A flood of refusals is a line a second.** Of one client, action and reason, `flood::WHOLE` denied attempts in a window of less
//! than a second stand in lines of their own; the further ones are one line at its end, with `sekisho.count`, the fields they had in
//! common and a sample of the authorities. An attempt that was established is never among them. What was gathered is laid before
//! anything that ends a file or a run, and before every line of a lifecycle event.
//!
//! **Numbers.** `event.sequence` is given under the queue's lock, so the order of the file, across rotated files too, is 1, 2, 3, …
//! for each run: a gap or a step back is tampering or a lost page cache, whatever the wall clock did (attack K07). A file ends in
//! `stop` or `continued` where all was in order; the next `start` or `reopen` says what it found.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

pub use self::attempt::Attempt;
pub use self::counts::{Action, Conservation, Snapshot};
pub use self::fields::{FieldDoc, Fields, TABLE};
pub use self::handover::{NotALine, Relay};
pub use self::id::EventId;
pub use self::lifecycle::Lifecycle;
pub use self::values::{AskedAuthority, LONGEST_TEXT, Names, Text, UrlPath, UserId};
pub use self::witness::{Ending, Witness};

use self::file::{Behind, Found, RecordFile};
use self::lifecycle::as_lifecycle;
use self::queue::{Ended, Switch, To};
use self::shared::{Shared, stop_line};
use self::writer::Writer;
use crate::aside::NO_THREAD;
use crate::locks::Mutex;
use crate::reason::Reason;

mod aggregate;
mod attempt;
mod counts;
mod fields;
mod file;
mod flood;
mod handover;
mod id;
mod lifecycle;
mod line;
mod queue;
mod read;
mod shared;
mod values;
mod witness;
mod writer;

/// `[record]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub path: PathBuf,
    pub when_unwritable: WhenUnwritable,
}

/// What becomes of new attempts while the record cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnwritable {
    /// They are refused with `record_unavailable`.
    Deny,
    /// They go on, and are recorded later, at worst as a count.
    Continue,
}

/// Whether the record can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Writable,
    Unwritable(WhenUnwritable),
}

/// Why there is no record, or not the one asked for.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the record {path} cannot be opened: {source}; its directory must exist and the service's user must be able to write there", path = .path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error("the record {path} is {found}; it must be an ordinary file, or not be there yet", path = .path.display())]
    NotAFile { path: PathBuf, found: &'static str },
    #[error("the record {path} is in use by another sekisho; each needs a [record] path of its own", path = .path.display())]
    InUse { path: PathBuf },
    #[error("{path} does not begin like a record of sekisho and is left alone; move it away or correct [record] path", path = .path.display())]
    NotARecord { path: PathBuf },
    #[error("the record's writer thread could not be started: {0}; {NO_THREAD}")]
    Thread(std::io::Error),
    #[error("the system gives no random bytes, without which attempts have no identifiers")]
    Random,
    #[error("the record cannot be written")]
    Unwritable,
    #[error("the record cannot be lent: {0}")]
    Lent(std::io::Error),
    #[error("the record is closed: the service is stopping")]
    Closed,
    #[error(
        "the record was closed with {lost} events unwritten: see the log for what kept the file from being written"
    )]
    Lost { lost: u64 },
}

/// The record of one run. Cloning gives another handle on the same one; the thread ends when the last handle is gone, or in
/// order with [`Recorder::shutdown`].
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
    /// Who is told how attempts end, in place of the file.
    witness: Option<Witness>,
}

struct Inner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A run that is to begin: its first line is there, and its file.
pub struct Ready {
    recorder: Recorder,
    path: PathBuf,
    file: RecordFile,
    writing: mpsc::Sender<Writer>,
}

impl Ready {
    /// Begins to write.
    ///
    /// # Errors
    /// [`RecordError::InUse`]: it was lent to this process, and taken back, and another writes it.
    pub fn begin(self) -> Result<(), RecordError> {
        let Self { recorder, path, file, writing } = self;
        if !file.is_ours() {
            return Err(RecordError::InUse { path });
        }
        let writer = Writer {
            shared: Arc::clone(&recorder.inner.shared),
            path,
            identity: file.identity(),
            process: None,
            file: Some(file),
            batch: Vec::new(),
        };
        // Its thread waits for it.
        let _ = writing.send(writer);
        Ok(())
    }
}

impl Recorder {
    /// Opens the file, says `start` in it with `fields` and with what was found at its end, and starts the thread.
    ///
    /// # Errors
    /// [`RecordError`]: without a record the service does not start, whatever `when_unwritable` says.
    pub fn start(settings: Settings, fields: Fields) -> Result<Self, RecordError> {
        let (recorder, ready) = Self::ready_to_start(settings, fields)?;
        ready.begin()?;
        Ok(recorder)
    }

    /// The same behind a process that lends the file ([`Recorder::release`]), and not yet: nothing is written until it begins.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub fn ready_behind(settings: Settings, fields: Fields, lent: OwnedFd) -> Result<(Self, Ready), RecordError> {
        let opened = RecordFile::open_lent(lent, &settings.path)?;
        Self::ready(settings, fields, opened, Behind::Itself)
    }

    /// The same with nobody before it, and not yet.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub fn ready_to_start(settings: Settings, fields: Fields) -> Result<(Self, Ready), RecordError> {
        let opened = RecordFile::open(&settings.path)?;
        Self::ready(settings, fields, opened, Behind::Nobody)
    }

    fn ready(
        settings: Settings,
        mut fields: Fields,
        (file, found): (RecordFile, Found),
        behind: Behind,
    ) -> Result<(Self, Ready), RecordError> {
        file.warn_of_others(&settings.path);
        let shared = Arc::new(Shared::new(settings.when_unwritable).map_err(|_| RecordError::Random)?);
        found.tell(&mut fields, behind);
        as_lifecycle(&mut fields, Lifecycle::Start);
        shared.push(&fields);
        // Before there is a writer, whose end is taken for a defect. Without one it ends.
        let (writing, writer) = mpsc::channel::<Writer>();
        let thread = thread::Builder::new().name("record".to_owned()).spawn(move || {
            if let Ok(writer) = writer.recv() {
                writer.run();
            }
        });
        let thread = Mutex::new(Some(thread.map_err(RecordError::Thread)?));
        let recorder = Self { inner: Arc::new(Inner { shared, thread }), witness: None };
        Ok((recorder.clone(), Ready { recorder, path: settings.path, file, writing }))
    }

    /// Another handle, for attempts of the service's own: they wait for the queue as a client's do, and the witness is told how
    /// they end. They are no attempts of a client, so they leave no line and are in no count.
    pub fn witnessed(&self) -> (Self, Witness) {
        let witness = Witness::default();
        (Self { inner: Arc::clone(&self.inner), witness: Some(witness.clone()) }, witness)
    }

    /// A record that is written nowhere, for attempts of this program's own where no service runs.
    ///
    /// # Errors
    /// [`RecordError::Random`].
    pub fn nowhere() -> Result<(Self, Witness), RecordError> {
        let shared = Shared::new(WhenUnwritable::Deny).map_err(|_| RecordError::Random)?;
        let inner = Arc::new(Inner { shared: Arc::new(shared), thread: Mutex::new(None) });
        Ok(Self { inner, witness: None }.witnessed())
    }

    /// Begins an attempt, when there is room for its record: waits while the writer is behind, but not for a file that cannot be
    /// written (see [`Recorder::state`]). Dropping the future before it is done begins nothing.
    pub async fn begin(&self, action: Action) -> Attempt {
        match self.witness {
            Some(_) => self.inner.shared.room().await,
            None => self.inner.shared.admit(action).await,
        }
        Attempt::new(self.clone(), action)
    }

    /// Whether the record can be written; under [`WhenUnwritable::Deny`] whoever begins an attempt refuses it while not. Cheap.
    pub fn state(&self) -> State {
        self.inner.shared.state()
    }

    /// Records an event of the service itself. `start`, `stop` and what concerns the file are the record's own.
    pub fn lifecycle(&self, kind: Lifecycle, mut fields: Fields) {
        as_lifecycle(&mut fields, kind);
        self.push(&fields);
    }

    /// The counters, all of one moment.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.shared.snapshot()
    }

    /// Terminal records since start, by reason.
    pub fn reasons(&self) -> Vec<(Reason, u64)> {
        self.inner.shared.reasons()
    }

    /// Waits until everything handed in before is in the file: without end while that cannot be written, not at all after
    /// [`Recorder::shutdown`].
    pub async fn flush(&self) {
        self.inner.shared.flush().await;
    }

    /// Opens the path anew, after a rotation has renamed the file. Everything handed in before is in the old one then. Does
    /// nothing where the path still leads to the file in use.
    ///
    /// # Errors
    /// [`RecordError`]: the file before stays in use, and the record says `reopen_failed`.
    pub async fn reopen(&self) -> Result<(), RecordError> {
        self.switch(To::Reopened).await
    }

    /// Goes on under other settings: opens the new file first, and leaves the old one only then.
    ///
    /// # Errors
    /// [`RecordError`]: nothing has changed.
    pub async fn reconfigure(&self, settings: Settings) -> Result<(), RecordError> {
        self.switch(To::File(settings)).await
    }

    async fn switch(&self, to: To) -> Result<(), RecordError> {
        let (reply, answer) = oneshot::channel();
        self.inner.shared.switch(Switch { to, reply });
        answer.await.unwrap_or(Err(RecordError::Closed))
    }

    /// Writes everything handed in and the `stop` line, and ends the thread. Whatever comes later is lost, and counted and logged
    /// as lost, so all attempts should have ended. Blocks up to about `within`, by the real clock: the end of a run must not
    /// depend on a runtime that is being shut down itself.
    ///
    /// # Errors
    /// [`RecordError::Lost`] where not everything could be written in that time.
    pub fn shutdown(&self, within: Duration) -> Result<(), RecordError> {
        /// For a retry that had begun just before the deadline.
        const GRACE: Duration = Duration::from_secs(1);
        self.inner.shared.close(within, Some(stop_line()));
        if !self.inner.shared.wait_finished(within.saturating_add(GRACE)) {
            // The thread hangs in a system call, on a dead network file system; it cannot be joined.
            return Err(RecordError::Lost { lost: self.inner.shared.lock().unwritten() });
        }
        let thread = self.inner.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the record's writer thread panicked");
        }
        match self.snapshot().lost {
            0 => Ok(()),
            lost => Err(RecordError::Lost { lost }),
        }
    }

    fn next_id(&self) -> EventId {
        self.inner.shared.ids.next()
    }

    fn push(&self, fields: &Fields) {
        if self.witness.is_none() {
            self.inner.shared.push(fields);
        }
    }

    fn end(&self, ended: Ended, fields: &Fields) {
        match &self.witness {
            Some(witness) => witness.saw(Ending { outcome: ended.outcome, reason: fields.reason }),
            None => self.inner.shared.end(ended, fields),
        }
    }
}

impl Drop for Inner {
    /// Without a `stop` line: a run that was not shut down did not end in order.
    fn drop(&mut self) {
        const WITHIN: Duration = Duration::from_secs(5);
        self.shared.close(WITHIN, None);
    }
}

#[cfg(test)]
mod tests;
