//! Writing new files: all of them or none, and never over anything.
//!
//! Each is written whole to a temporary file beside its place and then linked there: a link fails where anything is,
//! a dangling symbolic link included, while a rename would replace it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file to be.
pub struct NewFile {
    pub path: PathBuf,
    pub contents: Vec<u8>,
    /// The permission bits, whatever the umask.
    pub mode: u32,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("{} exists, and nothing is ever overwritten; nothing was written", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}; nothing was written", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Puts every file in its place.
///
/// # Errors
/// [`InstallError`]; then none of them is there.
pub fn install(files: &[NewFile]) -> Result<(), InstallError> {
    let mut staged = Removal::default();
    for file in files {
        let temporary = temporary_path(&file.path);
        let write = |source| InstallError::Write { path: file.path.clone(), source };
        write_new(&temporary, file, &mut staged).map_err(write)?;
    }
    let mut placed = Removal::default();
    for (temporary, file) in staged.0.iter().zip(files) {
        fs::hard_link(temporary, &file.path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => InstallError::Exists(file.path.clone()),
            _ => InstallError::Write { path: file.path.clone(), source },
        })?;
        placed.0.push(file.path.clone());
    }
    for file in files {
        let write = |source| InstallError::Write { path: file.path.clone(), source };
        File::open(directory_of(&file.path)).and_then(|directory| directory.sync_all()).map_err(write)?;
    }
    placed.0.clear();
    Ok(())
}

/// Files to be taken away again when this goes.
#[derive(Default)]
struct Removal(Vec<PathBuf>);

impl Drop for Removal {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nothing more can be done where even this fails; the error that led here is on its way to the user.
            let _ = fs::remove_file(path);
        }
    }
}

fn write_new(temporary: &Path, file: &NewFile, staged: &mut Removal) -> io::Result<()> {
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(temporary)?;
    staged.0.push(temporary.to_owned());
    opened.set_permissions(Permissions::from_mode(file.mode))?;
    opened.write_all(&file.contents)?;
    opened.sync_all()
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// The directory a file lies in, where a bare name lies in the current one.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: PathBuf, mode: u32) -> NewFile {
        NewFile { path, contents: b"new".to_vec(), mode }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .expect("read_dir")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_are_written_with_their_modes_and_nothing_else() {
        let directory = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| directory.path().join(name);
        install(&[file(at("a"), 0o600), file(at("b"), 0o644)]).expect("install");
        assert_eq!(names(directory.path()), ["a", "b"]);
        for (name, mode) in [("a", 0o600), ("b", 0o644)] {
            assert_eq!(fs::metadata(at(name)).expect("stat").permissions().mode() & 0o7777, mode, "{name}");
            assert_eq!(fs::read(at(name)).expect("read"), b"new");
        }
    }

    #[test]
    fn one_that_exists_keeps_all_from_being_written() {
        for occupy in [
            |path: &Path| fs::write(path, "old").expect("write"),
            |path: &Path| std::os::unix::fs::symlink("/nonexistent/target", path).expect("symlink"),
            |path: &Path| fs::create_dir(path).expect("mkdir"),
        ] {
            let directory = tempfile::tempdir().expect("tempdir");
            let at = |name: &str| directory.path().join(name);
            occupy(&at("b"));
            let error = install(&[file(at("a"), 0o600), file(at("b"), 0o644)]).expect_err("refused");
            assert!(matches!(&error, InstallError::Exists(path) if *path == at("b")), "{error}");
            assert_eq!(names(directory.path()), ["b"]);
        }
    }

    #[test]
    fn a_missing_directory_keeps_all_from_being_written() {
        let directory = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| directory.path().join(name);
        let error = install(&[file(at("a"), 0o600), file(at("no/b"), 0o644)]).expect_err("refused");
        assert!(error.to_string().contains("no/b"), "{error}");
        assert!(names(directory.path()).is_empty());
    }
}
