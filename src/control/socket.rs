//! The socket's file: how it is put in its place, taken over, and taken away.
//!
//! It is bound under a name of its own and renamed to its place, so that at every moment somebody answers there or nobody ever did:
//! a service that takes another's place (a reload, an upgrade) leaves no gap.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::is_answered;

/// Octets of the path: `sun_path` has 108, and the temporary name is longer.
pub const MAX_PATH: usize = 90;

/// Whether a service that answers at the path is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// It is another one: it stays, and this one does not start.
    No,
    /// It is the one whose place this one is to take: its socket stays there until [`SocketFile::put`].
    Yes,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("cannot make the control socket {path}: {source}; its directory must exist and the service's user must be able to write there", path = .path.display())]
    Bind { path: PathBuf, source: io::Error },
    #[error("{path} is there and is no socket: it is left alone; move it away or correct [control] socket", path = .path.display())]
    NotASocket { path: PathBuf },
    #[error("another service answers at {path}: stop it, or give each a [control] socket of its own", path = .path.display())]
    Taken { path: PathBuf },
}

/// The file of a socket that is listened on. Dropped, it is removed, unless a successor has put its own in the place, or is about to.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Under which name it lies until it is put in its place.
    waiting: Option<PathBuf>,
    /// Device and inode.
    identity: (u64, u64),
    given_up: AtomicBool,
}

/// Listens at `path`, or will as a successor, where only those can connect whom `mode` lets.
///
/// # Errors
/// [`SocketError`]; what was there before is untouched.
pub fn listen(path: &Path, mode: u32, successor: Successor) -> Result<(UnixListener, SocketFile), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket { path: path.to_owned() }),
        Ok(_) if successor == Successor::No && is_alive(path) => {
            return Err(SocketError::Taken { path: path.to_owned() });
        }
        Ok(_) | Err(_) => {}
    }
    let temporary = temporary(path, successor);
    let put = || {
        // A process of our own number left it that is gone, or a successor that came to nothing.
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)?;
        fs::set_permissions(&temporary, Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let found = fs::symlink_metadata(&temporary)?;
        let identity = (found.dev(), found.ino());
        let mut file = SocketFile {
            path: path.to_owned(),
            waiting: Some(temporary.clone()),
            identity,
            given_up: AtomicBool::new(false),
        };
        if successor == Successor::No {
            file.put()?;
        }
        Ok((listener, file))
    };
    put().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        SocketError::Bind { path: path.to_owned(), source }
    })
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place, where it is not there yet.
    ///
    /// # Errors
    /// The system's.
    pub fn put(&mut self) -> io::Result<()> {
        if let Some(waiting) = &self.waiting {
            fs::rename(waiting, &self.path)?;
            self.waiting = None;
        }
        Ok(())
    }

    /// Whether it is what lies at its path.
    pub fn is_in_place(&self) -> bool {
        self.lies_at(&self.path)
    }

    fn lies_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// The place is a successor's from here on: between a look at what lies there and its removal that may put its own there.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Says anew who can connect, where it is in place.
    ///
    /// # Errors
    /// The system's.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

/// A socket that nobody listens on any more refuses; of any other it is not certain that nobody does.
fn is_alive(path: &Path) -> bool {
    match is_answered(path) {
        Ok(()) => true,
        Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}

/// There is one successor at a time, and one name: what it leaves where it is killed is in nobody's way for long.
fn temporary(path: &Path, successor: Successor) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(match successor {
        Successor::No => format!(".{}", std::process::id()),
        Successor::Yes => ".next".to_owned(),
    });
    name.into()
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            if self.lies_at(waiting) {
                let _ = fs::remove_file(waiting);
            }
        } else if !self.given_up.load(Ordering::Relaxed) && self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control.sock");
        (dir, path)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn it_has_its_mode_and_goes_with_its_value() {
        let (dir, path) = place();
        for mode in [0o600, 0o666] {
            let (_listener, file) = listen(&path, mode, Successor::No).expect("listens");
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, mode);
            assert_eq!(names(&dir), ["control.sock"]);
            drop(file);
            assert!(names(&dir).is_empty());
        }
    }

    #[test]
    fn what_nobody_listens_on_is_replaced_and_who_answers_is_not() {
        let (dir, path) = place();
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "a socket that was left");
        let (listener, file) = listen(&path, 0o600, Successor::No).expect("listens");
        let taken = listen(&path, 0o600, Successor::No).expect_err("somebody is there");
        assert_eq!(
            taken.to_string(),
            format!(
                "another service answers at {}: stop it, or give each a [control] socket of its own",
                path.display()
            )
        );
        assert_eq!(names(&dir), ["control.sock"]);
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);
        drop(file);
    }

    #[test]
    fn a_successor_leaves_no_gap_and_its_file_stays_when_the_other_goes() {
        let (dir, path) = place();
        let (old, old_file) = listen(&path, 0o600, Successor::No).expect("listens");
        let (new, mut new_file) = listen(&path, 0o666, Successor::Yes).expect("listens");
        new_file.put().expect("put");
        drop(old);
        drop(old_file);
        assert!(UnixStream::connect(&path).is_ok(), "the new one answers");
        drop(new);
        drop(new_file);
        assert!(names(&dir).is_empty());
    }

    #[test]
    fn who_is_to_take_the_place_later_leaves_it_to_the_other_until_then() {
        let (dir, path) = place();
        let (_old, old_file) = listen(&path, 0o600, Successor::No).expect("listens");
        drop(listen(&path, 0o666, Successor::Yes).expect("listens"));
        assert!(old_file.is_in_place());
        assert_eq!(names(&dir), ["control.sock"]);
        let (_new, mut new_file) = listen(&path, 0o666, Successor::Yes).expect("listens");
        assert!(old_file.is_in_place() && !new_file.is_in_place());
        new_file.put().expect("put");
        assert!(new_file.is_in_place());
        drop(old_file);
        new_file.put().expect("it is there");
        assert_eq!(names(&dir), ["control.sock"]);
        drop(new_file);
        assert!(names(&dir).is_empty());
    }

    /// The other puts its own there at any moment, also between a look and a removal.
    #[test]
    fn a_place_that_is_given_up_is_not_cleared() {
        let (dir, path) = place();
        let (_old, old_file) = listen(&path, 0o600, Successor::No).expect("listens");
        old_file.give_up();
        drop(old_file);
        assert_eq!(names(&dir), ["control.sock"]);
        let (_new, mut new_file) = listen(&path, 0o666, Successor::Yes).expect("listens");
        new_file.put().expect("put");
        drop(new_file);
        assert!(names(&dir).is_empty());
    }

    /// A successor that was let go and ends late, when the next one waits under the same name.
    #[test]
    fn who_ends_late_leaves_what_is_another_ones() {
        let (dir, path) = place();
        let (_first, late) = listen(&path, 0o600, Successor::Yes).expect("listens");
        let (_second, mut file) = listen(&path, 0o600, Successor::Yes).expect("listens");
        drop(late);
        file.put().expect("put");
        assert_eq!(names(&dir), ["control.sock"]);
    }

    #[test]
    fn a_file_of_somebody_elses_is_left_alone() {
        let (_dir, path) = place();
        fs::write(&path, "precious").expect("written");
        for successor in [Successor::No, Successor::Yes] {
            assert!(matches!(listen(&path, 0o600, successor), Err(SocketError::NotASocket { .. })));
        }
        assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/nonexistent", &path).expect("a link");
        assert!(matches!(listen(&path, 0o600, Successor::No), Err(SocketError::NotASocket { .. })));
        let nowhere = path.with_file_name("missing").join("control.sock");
        let error = listen(&nowhere, 0o600, Successor::No).expect_err("no directory");
        assert!(matches!(error, SocketError::Bind { .. }), "{error}");
    }
}
