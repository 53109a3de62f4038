//! The file of the record: how it is opened, what is found at its end, and how lines are put there whole.
//!
//! It is opened for appending, without following a link (an attacker who can write its directory must not choose where we write),
//! 0640 however the umask stands, and locked against a second process: what is cut here would be the other's line.
//! At every moment at which we have it in our hands it ends in a newline: half a line, left by a killed process or a full disk,
//! is cut off again (attack K05). Nothing is synced line by line: the contract is the page cache, which outlives our process.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use memchr::memrchr;
use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock};
use rustix::io::Errno;
use serde::Deserialize;

use crate::record::fields::Fields;
use crate::record::values::{LONGEST_TEXT, Text};
use crate::record::{RecordError, line};

/// The longest last line that is read for its number; ours are far shorter.
const LONGEST_LINE: u64 = 1 << 20;
/// How much is read at once when looking for the last line.
const CHUNK: usize = 64 << 10;
/// Owner and group: the group is the collector's.
const MODE: u32 = 0o640;

pub(super) struct RecordFile {
    file: File,
    identity: Identity,
    /// Whether another process has, or had, the same lock.
    shared: bool,
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What stood at the end of the file that was opened.
pub(super) struct Found {
    end: End,
    sequence: Option<u64>,
    torn: Option<Torn>,
}

enum End {
    /// There was nothing.
    None,
    /// The line of a run that ended, or went on in another file, in order.
    Clean,
    Unclean,
    /// The line of a process that was taken over from.
    HandedOver,
}

/// Whose line the next one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// Of a run of its own.
    Nobody,
    /// Of a process that takes over, or of the one that goes on after all.
    Itself,
}

struct Torn {
    bytes: u64,
    beginning: Vec<u8>,
}

/// Not all lines could be written.
pub(super) struct Failed {
    /// Octets of whole lines that were.
    pub(super) written: usize,
    /// Octets of a part of a line behind them.
    pub(super) torn: usize,
    pub(super) error: io::Error,
}

/// What is read back of a line.
#[derive(Deserialize)]
struct LastLine {
    #[serde(rename = "event.sequence")]
    sequence: u64,
    #[serde(rename = "sekisho.lifecycle")]
    lifecycle: Option<String>,
}

/// A process that was started meanwhile has the descriptor until it runs its own program, and would keep the lock as long.
impl Drop for RecordFile {
    fn drop(&mut self) {
        // Of two processes that share a lock the last one ends it. Where there are no locks there is none to give up.
        if !self.shared {
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

impl RecordFile {
    /// Opens or makes the file and cuts half a line off its end.
    ///
    /// # Errors
    /// [`RecordError`]: every way in which this is not a file we may write a record into.
    pub(super) fn open(path: &Path) -> Result<(Self, Found), RecordError> {
        Self::take(open_locked(path)?, path, false)
    }

    /// The same with the file that another process has locked and lends, where `path` leads to it; its lock is then this one's too. It is
    /// not cut: the other has completed it, and may have taken it back.
    ///
    /// # Errors
    /// As [`RecordFile::open`].
    pub(super) fn open_lent(lent: OwnedFd, path: &Path) -> Result<(Self, Found), RecordError> {
        let lent = File::from(lent);
        let failed = |source: io::Error| RecordError::Open { path: path.into(), source };
        let identity = Identity::from(&lent.metadata().map_err(failed)?);
        let is_there = path.symlink_metadata().is_ok_and(|there| Identity::from(&there) == identity);
        if is_there { Self::take(lent, path, true) } else { Self::open(path) }
    }

    fn take(file: File, path: &Path, shared: bool) -> Result<(Self, Found), RecordError> {
        let failed = |source: io::Error| RecordError::Open { path: path.into(), source };
        let metadata = file.metadata().map_err(failed)?;
        let (length, identity) = (metadata.len(), Identity::from(&metadata));
        if !begins_like_a_record(&file, length).map_err(failed)? {
            return Err(RecordError::NotARecord { path: path.into() });
        }
        let found = read_end(&file, length).map_err(failed)?;
        if shared && found.torn.is_some() {
            return Err(RecordError::InUse { path: path.into() });
        }
        if let Some(torn) = &found.torn {
            file.set_len(length.saturating_sub(torn.bytes)).map_err(failed)?;
            tracing::warn!(path = %path.display(), bytes = torn.bytes, "the record ended in half a line, which is cut off");
        }
        Ok((Self { file, identity, shared }, found))
    }

    /// Appends `lines`, which end in a newline. Where that fails in the middle of a line, its beginning is cut off again.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Failed> {
        append(&mut self.file, lines).inspect_err(|failed| self.cut(failed.torn))
    }

    /// Best effort: where it fails the file is opened anew before it is written again, and that cuts it too.
    fn cut(&self, torn: usize) {
        if torn == 0 {
            return;
        }
        let cut = self.file.metadata().and_then(|now| self.file.set_len(now.len().saturating_sub(torn as u64)));
        if let Err(error) = cut {
            tracing::warn!(%error, "half a line stays at the end of the record until it can be written again");
        }
    }

    /// Whether `path` leads to this very file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok_and(|there| Identity::from(&there) == self.identity)
    }

    /// For another process to go on with, under the same lock.
    pub(super) fn lend(&mut self) -> io::Result<OwnedFd> {
        let lent = self.file.try_clone()?;
        self.shared = true;
        Ok(lent.into())
    }

    /// What was lent is nobody's any more: the lock goes with this, whoever has the file still, and is to be had anew.
    pub(super) fn take_back(mut self) {
        self.shared = false;
    }

    /// Whether it is locked for this process, or can be: a file that was lent may have been taken back.
    pub(super) fn is_ours(&self) -> bool {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Warns where more than the owner may write the file, or more than the group read it.
    pub(super) fn warn_of_others(&self, path: &Path) {
        let mode = self.file.metadata().map_or(MODE, |metadata| metadata.mode() & 0o777);
        if mode & !MODE & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{mode:04o}"), "the record is open to more than 0640 allows; see chmod");
        }
    }

    /// Whether any path leads to this file still: what is written into a removed one would be gone without a word.
    pub(super) fn is_linked(&self) -> bool {
        self.file.metadata().is_ok_and(|own| own.nlink() > 0)
    }
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.end, End::None)
    }

    /// Whether its last whole line has this number.
    pub(super) fn ends_at(&self, sequence: u64) -> bool {
        self.sequence == Some(sequence)
    }

    /// Puts what was found into the line that begins the run or the file.
    pub(super) fn tell(self, fields: &mut Fields, behind: Behind) {
        fields.rare.previous_end = Some(match self.end {
            End::None => "none",
            End::Clean => "clean",
            End::HandedOver if behind == Behind::Itself => "clean",
            End::Unclean | End::HandedOver => "unclean",
        });
        fields.rare.previous_sequence = self.sequence;
        fields.rare.torn_bytes = self.torn.as_ref().map(|torn| torn.bytes);
        fields.rare.torn = self.torn.map(|torn| Text::from(torn.beginning.as_slice()));
    }
}

/// Writes `lines`, which end in a newline, whole.
pub(super) fn append(to: &mut impl Write, lines: &[u8]) -> Result<(), Failed> {
    let mut rest = lines;
    while !rest.is_empty() {
        let error = match to.write(rest) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(written) => {
                rest = rest.get(written..).unwrap_or_default();
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let done = lines.get(..lines.len().saturating_sub(rest.len())).unwrap_or_default();
        let written = memrchr(b'\n', done).map_or(0, |newline| newline.saturating_add(1));
        return Err(Failed { written, torn: done.len().saturating_sub(written), error });
    }
    Ok(())
}

fn open_locked(path: &Path) -> Result<File, RecordError> {
    let failed = |source: io::Error| match Errno::from_io_error(&source) {
        Some(Errno::LOOP) => RecordError::NotAFile { path: path.into(), found: "a symbolic link" },
        Some(Errno::ISDIR) => RecordError::NotAFile { path: path.into(), found: "a directory" },
        Some(Errno::NXIO) => RecordError::NotAFile { path: path.into(), found: "a socket or device" },
        _ => RecordError::Open { path: path.into(), source },
    };
    // NONBLOCK: not to wait for the other end where it is a FIFO. It has no effect on a regular file.
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(MODE);
    let made = rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, mode);
    let file = match made {
        Ok(made) => {
            fchmod(&made, mode).map_err(|error| failed(error.into()))?;
            File::from(made)
        }
        Err(Errno::EXIST) => File::from(rustix::fs::open(path, flags, mode).map_err(|error| failed(error.into()))?),
        Err(error) => return Err(failed(error.into())),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(RecordError::NotAFile { path: path.into(), found: "a FIFO, socket or device" });
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(RecordError::InUse { path: path.into() }),
        // A file system without locks is no reason to have no record.
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "the record cannot be locked against a second process");
            Ok(file)
        }
    }
}

/// A path mistyped into another file must not cost that file its last line.
fn begins_like_a_record(file: &File, length: u64) -> io::Result<bool> {
    let mut head = vec![0; line::HEAD.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut head, 0)?;
    Ok(line::HEAD.as_bytes().starts_with(&head))
}

fn read_end(file: &File, length: u64) -> io::Result<Found> {
    if length == 0 {
        return Ok(Found { end: End::None, sequence: None, torn: None });
    }
    let whole = line_start(file, length)?;
    let torn = match length.saturating_sub(whole) {
        0 => None,
        bytes => Some(Torn { bytes, beginning: read(file, whole, bytes.min(LONGEST_TEXT as u64))? }),
    };
    let last_newline = whole.saturating_sub(1);
    let last_start = line_start(file, last_newline)?;
    let last = read(file, last_start, last_newline.saturating_sub(last_start).min(LONGEST_LINE))?;
    let last: Option<LastLine> = serde_json::from_slice(&last).ok();
    let in_order = |line: &LastLine| matches!(line.lifecycle.as_deref(), Some("stop" | "continued"));
    let handed_over = |line: &LastLine| line.lifecycle.as_deref() == Some("handed_over");
    let end = match &last {
        Some(line) if torn.is_none() && in_order(line) => End::Clean,
        Some(line) if torn.is_none() && handed_over(line) => End::HandedOver,
        Some(_) | None => End::Unclean,
    };
    Ok(Found { end, sequence: last.map(|line| line.sequence), torn })
}

/// Where the line begins that ends at `end`: behind the last newline before it, or at the start of the file.
fn line_start(file: &File, end: u64) -> io::Result<u64> {
    let mut to = end;
    while to > 0 {
        let from = to.saturating_sub(CHUNK as u64);
        let chunk = read(file, from, to.saturating_sub(from))?;
        if let Some(newline) = memrchr(b'\n', &chunk) {
            return Ok(from + newline as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

fn read(file: &File, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}
