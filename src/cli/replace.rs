//! A file replaced in one step: at every moment it is the old one or the new one, whole, with the same mode and owner.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Uid, fchown, flock};
use rustix::io::Errno;

use crate::config::MAX_FILE;
use crate::files::regular;

/// Why the file was not replaced; it is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplaceError {
    #[error("{}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "cannot give {} the owner of the file it stands for (user {user}, group {group}): {source}; run this as root or as that user",
        .path.display()
    )]
    Owner { path: PathBuf, user: u32, group: u32, source: io::Error },
    #[error("somebody else applies or confirms a configuration at this moment ({} is locked)", .0.display())]
    Locked(PathBuf),
}

/// The configuration's file, behind whatever links lead to it, and what has to be kept of it.
#[derive(Debug)]
pub(super) struct Place {
    /// Without links.
    target: PathBuf,
    mode: u32,
    user: u32,
    group: u32,
}

/// Held, nobody else replaces files of the folder by this module.
#[derive(Debug)]
pub(super) struct Lock {
    folder: File,
}

/// Not left to the last descriptor: a process that was started meanwhile may have another.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(&self.folder, FlockOperation::Unlock);
    }
}

impl Place {
    /// # Errors
    /// [`ReplaceError::Read`]: it is not there.
    pub(super) fn of(file: &Path) -> Result<Self, ReplaceError> {
        let read = |source| ReplaceError::Read { path: file.to_owned(), source };
        let target = fs::canonicalize(file).map_err(read)?;
        let found = fs::metadata(&target).map_err(read)?;
        Ok(Self { target, mode: found.mode() & 0o7777, user: found.uid(), group: found.gid() })
    }

    /// Without waiting for anybody. What a process left behind that was killed at its work is removed.
    ///
    /// # Errors
    /// [`ReplaceError::Locked`].
    pub(super) fn lock(&self) -> Result<Lock, ReplaceError> {
        let folder = folder(&self.target);
        let opened = File::open(&folder).map_err(|source| ReplaceError::Read { path: folder.clone(), source })?;
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.clear(&self.target);
                Ok(Lock { folder: opened })
            }
            Err(Errno::WOULDBLOCK) => Err(ReplaceError::Locked(folder)),
            Err(error) => Err(ReplaceError::Read { path: folder, source: error.into() }),
        }
    }

    /// What the file holds now.
    ///
    /// # Errors
    /// [`ReplaceError::Read`]; also where it is no ordinary file.
    pub(super) fn content(&self) -> Result<Vec<u8>, ReplaceError> {
        content(&self.target)
    }

    /// # Errors
    /// [`ReplaceError`]; the file is as it was.
    pub(super) fn replace(&self, octets: &[u8]) -> Result<(), ReplaceError> {
        self.put(&self.target, octets)
    }

    /// Removes what was to be put at `path`, of a process that was killed before it was. To be called under the lock.
    pub(super) fn clear(&self, path: &Path) {
        let _ = fs::remove_file(temporary(path));
    }

    /// Puts a file at `path` that has the mode and the owner of this one. To be called under the lock.
    ///
    /// # Errors
    /// [`ReplaceError`]; what is at `path` is as it was.
    pub(super) fn put(&self, path: &Path, octets: &[u8]) -> Result<(), ReplaceError> {
        let (folder, temporary) = (folder(path), temporary(path));
        let put = self.write(&temporary, octets).and_then(|()| {
            let renamed = fs::rename(&temporary, path).and_then(|()| File::open(&folder)?.sync_all());
            renamed.map_err(|source| ReplaceError::Write { path: path.to_owned(), source })
        });
        if put.is_err() {
            // Where it was renamed already there is none.
            let _ = fs::remove_file(&temporary);
        }
        put
    }

    fn write(&self, temporary: &Path, octets: &[u8]) -> Result<(), ReplaceError> {
        let failed = |source| ReplaceError::Write { path: temporary.to_owned(), source };
        // Of a process that is gone: the lock is ours.
        let _ = fs::remove_file(temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary).map_err(failed)?;
        let made = file.metadata().map_err(failed)?;
        if (made.uid(), made.gid()) != (self.user, self.group) {
            let owned = fchown(&file, Some(Uid::from_raw(self.user)), Some(Gid::from_raw(self.group)));
            owned.map_err(|error| ReplaceError::Owner {
                path: temporary.to_owned(),
                user: self.user,
                group: self.group,
                source: error.into(),
            })?;
        }
        file.set_permissions(Permissions::from_mode(self.mode)).map_err(failed)?;
        file.write_all(octets).and_then(|()| file.sync_all()).map_err(failed)
    }
}

/// # Errors
/// [`ReplaceError::Read`]; also where it is no ordinary file.
pub(super) fn content(path: &Path) -> Result<Vec<u8>, ReplaceError> {
    regular(path, MAX_FILE).map_err(|source| ReplaceError::Read { path: path.to_owned(), source })
}

/// Beside it. One name for all who come: under the lock there is one at a time, and what it leaves the next one finds.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    folder(path).join(name)
}

fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_the_owner_and_the_links_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let (real, link) = (dir.path().join("real/sekisho.toml"), dir.path().join("sekisho.toml"));
        fs::create_dir(dir.path().join("real")).expect("made");
        fs::write(&real, "old").expect("written");
        fs::set_permissions(&real, Permissions::from_mode(0o640)).expect("set");
        std::os::unix::fs::symlink("real/sekisho.toml", &link).expect("a link");
        let root = rustix::process::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(&real, Some(4242), Some(4243)).expect("owned");
        }
        let place = Place::of(&link).expect("there");
        assert_eq!(place.content().expect("read"), b"old");
        place.replace(b"new").expect("replaced");
        place.put(&dir.path().join("sekisho.toml.trial"), b"tried").expect("put");
        assert!(link.is_symlink(), "the link is not replaced by what it leads to");
        for (path, text) in [(&real, "new"), (&dir.path().join("sekisho.toml.trial"), "tried")] {
            assert_eq!(fs::read_to_string(path).expect("read"), text);
            let found = fs::metadata(path).expect("there");
            assert_eq!(found.mode() & 0o7777, 0o640);
            assert!(!root || (found.uid(), found.gid()) == (4242, 4243));
        }
        let names = fs::read_dir(dir.path().join("real")).expect("a directory").count();
        assert_eq!(names, 1, "nothing is left over");
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("sekisho.toml");
        fs::write(&file, "").expect("written");
        let place = Place::of(&file).expect("there");
        let lock = place.lock().expect("locked");
        let told = Place::of(&file).expect("there").lock().expect_err("locked already").to_string();
        let folder = fs::canonicalize(dir.path()).expect("there");
        let expected = "somebody else applies or confirms a configuration at this moment";
        assert_eq!(told, format!("{expected} ({} is locked)", folder.display()));
        drop(lock);
        place.lock().expect("free again");
    }

    #[test]
    fn a_folder_that_cannot_be_written_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("sekisho.toml");
        fs::write(&file, "old").expect("written");
        let place = Place::of(&file).expect("there");
        let gone = dir.path().join("gone/sekisho.toml.trial");
        let error = place.put(&gone, b"new").expect_err("no folder").to_string();
        assert!(error.starts_with("cannot write ") && error.contains("gone/.sekisho.toml.trial.new"), "{error}");
        assert_eq!(place.content().expect("read"), b"old");
        assert!(Place::of(&dir.path().join("missing")).is_err());
    }
}
