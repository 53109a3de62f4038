//! The folder of states: `feeds/microsoft-365` in the site's own catalogue folder.
//!
//! ```text
//! pending.json      imported or fetched, in force for nobody
//! 0001.json …       what was approved, one file for each time; the highest number is in force
//! ```
//!
//! A numbered file is written once and never changed: an approval and a reversal are each one more. It comes into being by
//! link(2) of a file that is whole and on the disk, which fails where the number is taken. So a crash leaves the state before or the
//! state after, of two who approve at once one is told that he came second, and no log can disagree with what is in force.
//! A highest number that cannot be read is an error: nobody falls back to an older one by himself.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

use super::ENTRY;
use super::state::{Next, Staged, State, Words, WordsError};
use crate::files::regular;

/// Largest state that is read: a feed, indented.
const MAX_STATE: u64 = 4 << 20;
const MAX_NUMBER: u32 = 999_999;
/// Files of the folder that are looked at.
const MAX_FILES: usize = 10_000;
/// The proxy runs as another user than who approves, whatever his umask is; there is no secret in any of them.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
/// A temporary file of this age is nobody's any more.
const LEFT_OVER: Duration = Duration::from_secs(60);
const PENDING: &str = "pending.json";
/// Of `poll`.
pub(super) const FETCH: &str = "fetch.json";

/// Why the folder does not give or take something.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}; check the folder's owner and mode, and the room on its disk", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {why}", path.display())]
    Broken { path: PathBuf, why: String },
    #[error("{} holds more than {MAX_FILES} files; is it the right folder?", .0.display())]
    Crowded(PathBuf),
    #[error("the system gives no random bytes")]
    Random,
    #[error("nothing is pending in {}: begin with `sekisho catalog import FILE` or `sekisho catalog fetch`", .0.display())]
    NothingPending(PathBuf),
    #[error("the pending feed is {found} and no longer {expected}: look at `sekisho catalog diff` again")]
    Another { expected: String, found: String },
    #[error(
        "{} is there already: somebody else approved or reverted in the same moment; look at `sekisho catalog history` \
         and `sekisho catalog diff`, then decide again", .0.display()
    )]
    Overtaken(PathBuf),
    #[error(
        "no state {number} to go back to; `sekisho catalog history` shows those there are, 0 is the program's own list"
    )]
    NoState { number: u32 },
    #[error("no feed was approved here: the program's own list is in force, and there is nothing before it")]
    NothingBefore,
    #[error("what state {number} holds is in force already")]
    InForce { number: u32 },
    #[error(transparent)]
    Words(#[from] WordsError),
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// `folder`: the site's own catalogue folder. Nothing is read or made yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.join("feeds").join(ENTRY) }
    }

    pub fn file(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:04}.json"))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn pending_file(&self) -> PathBuf {
        self.folder.join(PENDING)
    }

    /// The highest number; 0 where nothing was ever approved.
    ///
    /// # Errors
    /// As [`Shelf::numbers`].
    pub fn newest(&self) -> Result<u32, ShelfError> {
        Ok(self.numbers()?.last().copied().unwrap_or(0))
    }

    /// Those of all states, in ascending order.
    ///
    /// # Errors
    /// [`ShelfError::Read`], [`ShelfError::Crowded`].
    pub fn numbers(&self) -> Result<Vec<u32>, ShelfError> {
        let unreadable = |source| ShelfError::Read { path: self.folder.clone(), source };
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut numbers = Vec::new();
        for (n, file) in files.enumerate() {
            if n == MAX_FILES {
                return Err(ShelfError::Crowded(self.folder.clone()));
            }
            let name = file.map_err(unreadable)?.file_name();
            numbers.extend(name.to_str().and_then(number_of));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// # Errors
    /// [`ShelfError::Read`] and [`ShelfError::Broken`].
    pub fn state(&self, number: u32) -> Result<State, ShelfError> {
        let path = self.file(number);
        let state = State::read(read_json(&path)?).map_err(|why| ShelfError::Broken { path: path.clone(), why })?;
        if state.number != number {
            let why = format!("it says that it is state {}: it is a copy", state.number);
            return Err(ShelfError::Broken { path, why });
        }
        Ok(state)
    }

    /// The newest state; `None` where nothing was ever approved.
    ///
    /// # Errors
    /// [`ShelfError`]: it is there and cannot be read.
    pub fn in_force(&self) -> Result<Option<State>, ShelfError> {
        match self.newest()? {
            0 => Ok(None),
            number => self.state(number).map(Some),
        }
    }

    /// # Errors
    /// [`ShelfError::NothingPending`], or it cannot be read.
    pub fn pending(&self) -> Result<Staged, ShelfError> {
        let path = self.pending_file();
        let written = match read_json(&path) {
            Err(ShelfError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(ShelfError::NothingPending(self.folder.clone()));
            }
            read => read?,
        };
        Staged::read(written).map_err(|why| ShelfError::Broken { path, why })
    }

    /// Puts the feed in the place of what is pending.
    ///
    /// # Errors
    /// [`ShelfError::Write`].
    pub fn stage(&self, staged: &Staged) -> Result<(), ShelfError> {
        self.replace(PENDING, &staged.written())
    }

    /// What `approve` would write, numbered as of now. `digest`: what was reviewed, where that was said.
    ///
    /// # Errors
    /// Nothing is pending, something else is, `by` or `note` is no words.
    pub fn approval(&self, words: &Words, digest: Option<&str>, now: SystemTime) -> Result<State, ShelfError> {
        words.judge()?;
        let staged = self.pending()?;
        let found = staged.digest();
        if let Some(expected) = digest.filter(|expected| **expected != found) {
            return Err(ShelfError::Another { expected: expected.to_owned(), found });
        }
        let newest = self.newest()?;
        let before = self.state(newest).ok();
        Ok(words.state(Next { newest, before: before.as_ref(), staged: Some(staged) }, None, now))
    }

    /// What `revert` would write: the last state before the one in force that has another list, or `to`. What was put back already is not
    /// gone through again.
    ///
    /// # Errors
    /// There is none, or it cannot be read. That the state in force cannot be read is no hindrance.
    pub fn reversal(&self, words: &Words, to: Option<u32>, now: SystemTime) -> Result<State, ShelfError> {
        words.judge()?;
        let newest = self.newest()?;
        if newest == 0 {
            return Err(ShelfError::NothingBefore);
        }
        let before = self.state(newest).ok();
        let current = before.as_ref().map(|state| state.restores.unwrap_or(newest));
        let target = match (to, current) {
            (Some(to), _) => to,
            (None, Some(0)) => return Err(ShelfError::NothingBefore),
            (None, Some(current)) => self.before(current, before.as_ref())?,
            (None, None) => newest - 1,
        };
        if target >= newest {
            return Err(ShelfError::NoState { number: target });
        }
        let (restores, staged) = match target {
            0 => (0, None),
            number => {
                let state = self.state(number)?;
                (state.restores.unwrap_or(number), state.staged)
            }
        };
        if current == Some(restores) {
            return Err(ShelfError::InForce { number: target });
        }
        Ok(words.state(Next { newest, before: before.as_ref(), staged }, Some(restores), now))
    }

    /// The last state before `number` that has another list than `in_force`; 0: the program's own.
    fn before(&self, mut number: u32, in_force: Option<&State>) -> Result<u32, ShelfError> {
        let feed = |state: &State| state.staged.as_ref().map(|staged| staged.feed.clone());
        let same = in_force.and_then(feed);
        while number > 1 {
            let earlier = self.state(number - 1)?;
            if feed(&earlier) != same {
                return Ok(number - 1);
            }
            number = earlier.restores.unwrap_or(number - 1).min(number - 1);
        }
        Ok(0)
    }

    /// Puts the state in force: it becomes the newest, if its number is still free.
    ///
    /// # Errors
    /// [`ShelfError::Overtaken`] and [`ShelfError::Write`].
    pub fn put(&self, state: &State) -> Result<(), ShelfError> {
        let path = self.file(state.number);
        let temporary = self.write(&format!("{:04}.json", state.number), &state.written())?;
        let linked = fs::hard_link(&temporary, &path);
        // Of no use to anyone from here on.
        let _ = fs::remove_file(&temporary);
        match linked {
            Ok(()) => self.settle(),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(ShelfError::Overtaken(path)),
            Err(source) => Err(ShelfError::Write { path, source }),
        }
    }

    /// Takes away what is pending, where it is this. That it stays where this fails does no harm: it is no change any more.
    pub fn clear(&self, approved: &Staged) {
        if self.pending().is_ok_and(|pending| pending == *approved) {
            let _ = fs::remove_file(self.pending_file());
        }
    }

    /// Writes `name` in one step, in place of what is there.
    pub(super) fn replace(&self, name: &str, value: &impl Serialize) -> Result<(), ShelfError> {
        let temporary = self.write(name, value)?;
        let path = self.folder.join(name);
        fs::rename(&temporary, &path).map_err(|source| {
            let _ = fs::remove_file(&temporary);
            ShelfError::Write { path, source }
        })?;
        self.settle()
    }

    /// A whole file beside `name`, on the disk.
    fn write(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, ShelfError> {
        // Of nobody else, also not of a process of the same number in another container.
        let mut own = [0; 8];
        rand::fill(&mut own).map_err(|_| ShelfError::Random)?;
        let temporary = self.folder.join(format!(".{name}.{:016x}.tmp", u64::from_ne_bytes(own)));
        let write = || {
            self.make_folder()?;
            // What stays does no harm.
            let _ = self.sweep();
            let mut text = serde_json::to_vec_pretty(value)?;
            text.push(b'\n');
            let mut file = File::create_new(&temporary)?;
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(|source| ShelfError::Write { path: temporary.clone(), source })?;
        Ok(temporary)
    }

    /// Where it is not there yet. The site's own folder has to be.
    fn make_folder(&self) -> io::Result<()> {
        for folder in [self.folder.parent(), Some(&*self.folder)].into_iter().flatten() {
            match fs::create_dir(folder) {
                Ok(()) => fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes away what a write left that was interrupted. What is younger may be somebody's at this moment.
    fn sweep(&self) -> io::Result<()> {
        for file in fs::read_dir(&self.folder)?.take(MAX_FILES) {
            let file = file?;
            if !file.file_name().to_str().is_some_and(is_temporary) {
                continue;
            }
            // Somebody else may have been quicker.
            let Ok(about) = file.metadata() else { continue };
            let old = about.modified()?.elapsed().is_ok_and(|age| age > LEFT_OVER);
            if old && about.is_file() {
                let _ = fs::remove_file(file.path());
            }
        }
        Ok(())
    }

    /// The folder's own entry is on the disk too.
    fn settle(&self) -> Result<(), ShelfError> {
        let settled = File::open(&self.folder).and_then(|folder| folder.sync_all());
        settled.map_err(|source| ShelfError::Write { path: self.folder.clone(), source })
    }
}

/// `0012.json` is 12. Nobody approves more often than [`MAX_NUMBER`] times.
fn number_of(name: &str) -> Option<u32> {
    let number: u32 = name.strip_suffix(".json")?.parse().ok()?;
    (name == format!("{number:04}.json") && (1..=MAX_NUMBER).contains(&number)).then_some(number)
}

/// `.0012.json.0123456789abcdef.tmp`, as [`Shelf::write`] names them.
fn is_temporary(name: &str) -> bool {
    let parts =
        name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")).and_then(|name| name.rsplit_once('.'));
    parts.is_some_and(|(of, own)| {
        let ours = number_of(of).is_some() || [PENDING, FETCH].contains(&of);
        ours && own.len() == 16 && own.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

pub(super) fn read_json<T: for<'d> Deserialize<'d>>(path: &Path) -> Result<T, ShelfError> {
    let octets = regular(path, MAX_STATE).map_err(|source| ShelfError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&octets).map_err(|error| {
        let why = format!("it is not as sekisho writes it ({})", super::printable(&error.to_string()));
        ShelfError::Broken { path: path.to_owned(), why }
    })
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
