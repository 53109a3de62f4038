//! The one thread that touches the file: it alone opens, writes, cuts and leaves it, so nothing here races.
//!
//! A failure keeps every line and lets go of the file; each retry opens the path anew, which is also what heals: a removed or
//! replaced file, a mount that came back, half a line that could not be cut off. What waits is in `queue`, how a file is opened
//! in `file`.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use memchr::{memchr, memchr_iter, memrchr};
use tokio::sync::oneshot;

use crate::record::RecordError;
use crate::record::fields::Fields;
use crate::record::file::{Behind, Failed, Found, Identity, RecordFile, append};
use crate::record::lifecycle::{Lifecycle, lifecycle};
use crate::record::queue::{Switch, To};
use crate::record::shared::{Rest, Shared, Task};

/// Of a file that was lent, and not taken.
const NOT_BEGUN: &str = "The record goes on in this file: the process that was to go on with it did not begin.";

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) path: PathBuf,
    /// `None` after a failure, until the path could be opened again, and while another process has it.
    pub(super) file: Option<RecordFile>,
    /// The process that has the file, and takes the lines.
    pub(super) process: Option<Taker>,
    /// Which file was written last, to tell a retry from a new file.
    pub(super) identity: Identity,
    /// Whole lines that are to be written next.
    pub(super) batch: Vec<u8>,
}

/// Another process that takes the lines.
pub(super) struct Taker {
    socket: UnixStream,
    /// Octets of the first line in hand that it has.
    begun: usize,
}

/// However the thread ends, nobody waits for it for ever.
impl Drop for Writer {
    fn drop(&mut self) {
        // The lock on the file goes first, for whoever starts on the same file as soon as this one has finished.
        self.file = None;
        self.shared.finish();
    }
}

/// What became of the lines in hand.
enum Wrote {
    All,
    Part,
}

impl Writer {
    /// The life of the thread.
    pub(super) fn run(mut self) {
        loop {
            match self.shared.next(&mut self.batch) {
                Task::Write => {
                    self.write();
                }
                Task::Switch(switch) => self.switch(switch),
                Task::Finish(deadline) => match (self.write(), self.shared.rest()) {
                    (Wrote::All, Rest::Nothing) => break,
                    (Wrote::Part, _) if Instant::now() >= deadline => break,
                    (Wrote::All, Rest::More) | (Wrote::Part, _) => {}
                },
            }
        }
    }

    fn write(&mut self) -> Wrote {
        if self.batch.is_empty() {
            return Wrote::All;
        }
        match self.append() {
            Ok(()) => {
                let lines = memchr_iter(b'\n', &self.batch).count();
                self.batch.clear();
                self.shared.wrote_all(lines);
                Wrote::All
            }
            Err(unwritten) => {
                let lines = self.drop_written(unwritten.written);
                self.file = None;
                self.shared.wrote_part(lines, self.batch.len(), &unwritten.error);
                Wrote::Part
            }
        }
    }

    /// Appends the batch to the file, opening the path where there is none in hand or nobody could find it any more.
    fn append(&mut self) -> Result<(), Unwritten> {
        if let Some(process) = &mut self.process {
            let rest = self.batch.get(process.begun..).unwrap_or_default();
            return match append(&mut process.socket, rest) {
                Ok(()) => {
                    process.begun = 0;
                    Ok(())
                }
                Err(failed) => Err(self.not_taken(failed)),
            };
        }
        if self.file.as_ref().is_some_and(|file| !file.is_linked()) {
            self.file = None;
            tracing::warn!(path = %self.path.display(), "the record was removed; it is made anew");
        }
        let Some(file) = &mut self.file else {
            let (file, found) = RecordFile::open(&self.path)?;
            let file = self.file.insert(file);
            // Another process took it, and has gone.
            let of_another = !found.ends_at(self.shared.lock().last_written());
            file.append(&self.batch)?;
            // An empty file is a new one even under the old number: file systems use those again.
            if found.is_empty() || of_another || self.identity != file.identity() {
                self.identity = file.identity();
                self.shared.lock().push_own(&reopen_line(found));
            }
            return Ok(());
        };
        Ok(file.append(&self.batch)?)
    }

    /// Where the process only stands still, it gets the rest when it goes on. One that has ended gets no more: from here on the lines go into
    /// the file again, the one that it has not wholly too, as soon as that can be had.
    fn not_taken(&mut self, Failed { written, torn, error }: Failed) -> Unwritten {
        let stands_still = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        let begun = self.process.as_ref().map_or(0, |process| process.begun);
        let (written, begun) = if written > 0 { (begun + written, torn) } else { (0, begun + torn) };
        match self.process.as_mut().filter(|_| stands_still) {
            Some(process) => process.begun = begun,
            None => {
                self.process = None;
                self.shared.go_on();
            }
        }
        Unwritten { written, error: format!("the process that took over does not take it: {error}") }
    }

    /// Takes the first `written` octets off the batch. Returns how many lines that is.
    fn drop_written(&mut self, written: usize) -> usize {
        let gone = self.batch.drain(..written.min(self.batch.len()));
        gone.as_slice().iter().filter(|byte| **byte == b'\n').count()
    }

    fn switch(&mut self, switch: Switch) {
        let moved = self.try_switch(switch.to);
        // The caller may have gone; then nobody waits for the answer.
        let _ = switch.reply.send(moved);
        self.write();
    }

    fn try_switch(&mut self, to: To) -> Result<(), RecordError> {
        let to = match to {
            To::Nowhere(lent) => return self.lend(lent),
            To::Process(process) => {
                self.file = None;
                self.process = Some(Taker { socket: process, begun: 0 });
                self.shared.go_on();
                return Ok(());
            }
            To::Itself => {
                self.take_back();
                return Ok(());
            }
            To::Reopened => None,
            To::File(settings) => Some(settings),
        };
        let path = to.as_ref().map_or_else(|| self.path.clone(), |settings| settings.path.clone());
        let same = self.file.as_ref().is_some_and(|file| file.is_at(&path));
        if !same {
            match RecordFile::open(&path) {
                Ok((file, found)) => {
                    file.warn_of_others(&path);
                    self.leave_for(file, found);
                }
                Err(error) => {
                    if to.is_none() {
                        self.shared.push(&lifecycle(Lifecycle::ReopenFailed, &error.to_string()));
                    }
                    return Err(error);
                }
            }
        }
        self.path = path;
        self.shared.go_on();
        if let Some(settings) = to {
            self.shared.set_when_unwritable(settings.when_unwritable);
        }
        Ok(())
    }

    /// Ends the file with everything queued up to now and lends it; nothing is written into it until somebody says who goes on. Where it does
    /// not take that, what was to be its last line says that nobody has taken over.
    fn lend(&mut self, to: oneshot::Sender<OwnedFd>) -> Result<(), RecordError> {
        let continued =
            lifecycle(Lifecycle::HandedOver, "Another process of sekisho takes over and goes on with the record.");
        self.shared.let_go(&mut self.batch, &continued);
        match self.write() {
            Wrote::All => {
                let lent = self.file.as_mut().map_or(Err(ErrorKind::NotFound.into()), RecordFile::lend);
                let lent = lent.map_err(RecordError::Lent);
                // Whoever waited may have gone: then nobody has it.
                let lent = lent.and_then(|lent| to.send(lent).map_err(|_| RecordError::Closed));
                lent.inspect_err(|_| self.take_back())
            }
            Wrote::Part => {
                let what = "The record could not be completed for another process of sekisho, and stays with this one.";
                self.say_instead(&lifecycle(Lifecycle::TakeoverFailed, what));
                self.shared.go_on();
                Err(RecordError::Unwritable)
            }
        }
    }

    /// The file is this one's again, and opened anew for what is written next, at once: what was lent may be held for as long as the other
    /// stands still.
    fn take_back(&mut self) {
        if let Some(file) = self.file.take() {
            file.take_back();
        }
        let mut queue = self.shared.lock();
        queue.push_own(&lifecycle(Lifecycle::Reopen, NOT_BEGUN));
        queue.take(&mut self.batch);
        queue.held = false;
    }

    /// Puts `fields` in the place of what the last line in hand says, under the number that it has.
    fn say_instead(&mut self, fields: &Fields) {
        let before = self.batch.len().saturating_sub(1);
        let line = memrchr(b'\n', &self.batch[..before]).map_or(0, |newline| newline + 1);
        let number = memchr(b',', &self.batch[line..]).unwrap_or(0);
        self.batch.truncate(line + number);
        fields.write_body(&mut self.batch);
    }

    /// Ends the old file with everything queued up to now and goes on in `file`. What the old one does not take, the new one gets.
    fn leave_for(&mut self, file: RecordFile, found: Found) {
        let continued = lifecycle(Lifecycle::Continued, "The record goes on in another file.");
        self.shared.part(&mut self.batch, self.file.is_some().then_some(&continued), &reopen_line(found));
        self.identity = file.identity();
        if let Some(mut old) = self.file.replace(file) {
            match old.append(&self.batch) {
                Ok(()) => {
                    let lines = memchr_iter(b'\n', &self.batch).count();
                    self.batch.clear();
                    self.shared.wrote_all(lines);
                }
                Err(Failed { written, error, .. }) => {
                    tracing::warn!(%error, "the old file of the record could not be completed; its last lines are in the new one");
                    let lines = self.drop_written(written);
                    self.shared.lock().wrote(lines, self.batch.len());
                }
            }
        }
    }
}

/// Why the batch is not, or not wholly, in the file.
struct Unwritten {
    /// Octets of whole lines that are.
    written: usize,
    error: String,
}

impl From<RecordError> for Unwritten {
    fn from(error: RecordError) -> Self {
        Self { written: 0, error: error.to_string() }
    }
}

impl From<Failed> for Unwritten {
    fn from(failed: Failed) -> Self {
        Self { written: failed.written, error: failed.error.to_string() }
    }
}

fn reopen_line(found: Found) -> Fields {
    let mut fields = lifecycle(Lifecycle::Reopen, "The record goes on in this file.");
    found.tell(&mut fields, Behind::Itself);
    fields
}
