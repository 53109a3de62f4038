//! Which text is loaded in the place of the configuration's file: itself, the one on trial beside it, or the last good one.
//!
//! Relative paths are those of the file in every case, and the files that are named there are read as they are now: of the last good
//! configuration the text is kept, not the CRLs, certificates and catalogue files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::catalogue::Shelf;
use super::problem::{LoadError, Problem, Problems};
use super::{Config, MAX_FILE, Scope, assemble, read};
use crate::files::regular;

/// What is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// FILE.
    File,
    /// FILE.trial.
    Trial,
}

impl Source {
    /// Where its text is.
    pub fn path(self, file: &Path) -> PathBuf {
        match self {
            Self::File => file.to_owned(),
            Self::Trial => {
                let mut name = file.as_os_str().to_owned();
                name.push(".trial");
                name.into()
            }
        }
    }

    /// Loads it.
    ///
    /// # Errors
    /// As [`super::load`].
    pub fn load(self, file: &Path, scope: Scope, now: SystemTime) -> Result<Config, LoadError> {
        load_as(&self.path(file), file, scope, now)
    }
}

/// Loads the text of `from` as if it lay at `file`. Problems are told of `from`.
///
/// # Errors
/// As [`super::load`].
pub fn load_as(from: &Path, file: &Path, scope: Scope, now: SystemTime) -> Result<Config, LoadError> {
    load_from(from, file, scope, Shelf::WithFolder, now)
}

/// The text of `from` as if it lay at `path`.
pub(super) fn load_from(
    from: &Path,
    path: &Path,
    scope: Scope,
    shelf: Shelf<'_>,
    now: SystemTime,
) -> Result<Config, LoadError> {
    let shown = from.display().to_string();
    let text = read(from, &shown)?;
    load_text(&text, &shown, path, scope, shelf, now)
}

/// Problems are said to be of `shown`.
fn load_text(
    text: &str,
    shown: &str,
    path: &Path,
    scope: Scope,
    shelf: Shelf<'_>,
    now: SystemTime,
) -> Result<Config, LoadError> {
    let mut problems = Problems::new(shown, text);
    let config = assemble(path, scope, shelf, now, &mut problems);
    let failed = problems.any_error();
    let problems = problems.into_sorted();
    match config {
        Some(config) if !failed => Ok(Config { warnings: problems, ..config }),
        Some(_) | None => Err(LoadError { file: shown.into(), problems }),
    }
}

/// That of a configuration's text, as [`Config::text_sha256`] has it: without a byte order mark.
pub fn text_sha256(octets: &[u8]) -> [u8; 32] {
    sha256(octets.strip_prefix("\u{feff}".as_bytes()).unwrap_or(octets))
}

pub(super) fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, octets).as_ref());
    sum
}

/// The configuration that was taken up last, on disk in the service's state directory.
///
/// One file: a line that says what the rest is, and the text.
#[derive(Debug, Clone)]
pub struct LastGood {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    sekisho_last_good: u32,
    file: PathBuf,
    revision: String,
    taken_up: String,
    text_sha256: String,
}

impl LastGood {
    /// In `directory`, which has to exist when something is kept.
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join("last-good.toml") }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the text from which `config` was made. `false`: it is kept already, or the file has another one by now.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn keep(&self, config: &Config, now: SystemTime) -> io::Result<bool> {
        let octets = regular(&config.file, MAX_FILE)?;
        let text = octets.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&octets);
        let file = std::path::absolute(&config.file)?;
        let kept = self.read().is_ok_and(|(head, kept)| head.file == file && kept.as_bytes() == text);
        if sha256(text) != config.text_sha256 || kept {
            return Ok(false);
        }
        let head = Head {
            sekisho_last_good: 1,
            file,
            revision: config.as_loaded.to_string(),
            taken_up: OffsetDateTime::from(now).format(&Rfc3339).map_err(io::Error::other)?,
            text_sha256: hexadecimal(&config.text_sha256),
        };
        let temporary = self.path.with_extension("toml.new");
        if let Err(error) = fs::remove_file(&temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        // A file of its own, whatever stood there. It may hold what only the service and its administrators may read.
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        new.write_all(&serde_json::to_vec(&head)?)?;
        new.write_all(b"\n")?;
        new.write_all(text)?;
        new.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(true)
    }

    /// Loads it in the place of `file`. With the moment at which it was taken up.
    ///
    /// # Errors
    /// There is none, it is another file's, it was changed, or it does not load either.
    pub fn load(&self, file: &Path, scope: Scope, now: SystemTime) -> Result<(Config, String), LoadError> {
        let shown = self.path.display().to_string();
        let refuse = |found: String, expected: &str, hint: &str| LoadError {
            file: self.path.clone(),
            problems: vec![Problem::of_file(&shown, &found, expected, hint)],
        };
        const WHAT: &str = "the last good configuration, as a running service keeps it";
        let (head, text) = self.read().map_err(|error| {
            let hint =
                "it is kept from the first start on that has a state directory (STATE_DIRECTORY, --state-directory)";
            refuse(format!("no readable last good configuration ({error})"), WHAT, hint)
        })?;
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        if head.file != absolute {
            let found = format!("the last good configuration of {}", head.file.display());
            let expected = format!("that of {}", absolute.display());
            return Err(refuse(found, &expected, "give each service a state directory of its own"));
        }
        if hexadecimal(&sha256(text.as_bytes())) != head.text_sha256 {
            return Err(refuse("a text that was cut or changed".to_owned(), WHAT, "it is of no use any more"));
        }
        let config = load_text(&text, &shown, file, scope, Shelf::WithFolder, now)?;
        Ok((config, head.taken_up))
    }

    fn read(&self) -> io::Result<(Head, String)> {
        let text = String::from_utf8(regular(&self.path, MAX_FILE + 4096)?).map_err(io::Error::other)?;
        let (head, text) = text.split_once('\n').ok_or_else(|| io::Error::other("it has no first line"))?;
        let head: Head = serde_json::from_str(head)?;
        if head.sekisho_last_good != 1 {
            return Err(io::Error::other("it is of another version of sekisho"));
        }
        Ok((head, text.to_owned()))
    }
}

/// Two digits an octet.
pub fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::load;
    use super::*;

    const TEXT: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n";

    fn loaded(file: &Path) -> Config {
        load(file, Scope::Full, SystemTime::now()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_trial_is_read_beside_the_file_and_lies_at_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("sekisho.toml");
        fs::write(dir.path().join("sekisho.toml.trial"), format!("{TEXT}[record]\npath = \"r.jsonl\"\n"))
            .expect("written");
        let config = Source::Trial.load(&file, Scope::Full, SystemTime::now()).expect("loads");
        assert_eq!((config.file, config.record.path), (file.clone(), dir.path().join("r.jsonl")));
        let error = Source::File.load(&file, Scope::Full, SystemTime::now()).expect_err("there is no file");
        assert!(error.to_string().contains("sekisho.toml: error"), "{error}");
        fs::write(dir.path().join("sekisho.toml.trial"), "x").expect("written");
        let error = Source::Trial.load(&file, Scope::Full, SystemTime::now()).expect_err("broken");
        assert!(error.to_string().contains("sekisho.toml.trial:1"), "{error}");
    }

    #[test]
    fn l04_the_last_good_text_is_kept_whole_and_used_whole() {
        let (dir, state) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let file = dir.path().join("sekisho.toml");
        fs::write(&file, format!("\u{feff}{TEXT}")).expect("written");
        let (config, now) = (loaded(&file), SystemTime::now());
        let last = LastGood::new(state.path());
        // What stands in the way is put aside, and what it points to is left alone.
        std::os::unix::fs::symlink(&file, state.path().join("last-good.toml.new")).expect("linked");
        assert!(last.keep(&config, now).expect("kept"));
        assert!(fs::read_to_string(&file).expect("there").contains(TEXT));
        assert!(!last.keep(&config, now).expect("kept"), "it is there already");
        let mode = fs::metadata(last.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&file, "broken").expect("written");
        assert!(!last.keep(&config, now).expect("another text by now"));
        let (used, _) = last.load(&file, Scope::Full, now).expect("loads");
        assert_eq!((used.revision, used.file, used.listeners), (config.revision, file.clone(), config.listeners));

        let whole = fs::read(last.path()).expect("there");
        fs::write(last.path(), &whole[..whole.len() - 1]).expect("written");
        let error = last.load(&file, Scope::Full, now).expect_err("cut").to_string();
        assert!(error.contains("found a text that was cut or changed"), "{error}");
        fs::write(last.path(), &whole).expect("written");
        let error = last.load(&dir.path().join("other.toml"), Scope::Full, now).expect_err("another's").to_string();
        assert!(error.contains("found the last good configuration of "), "{error}");
        fs::remove_file(last.path()).expect("removed");
        let error = last.load(&file, Scope::Full, now).expect_err("none").to_string();
        assert!(error.contains("found no readable last good configuration ("), "{error}");
    }
}
