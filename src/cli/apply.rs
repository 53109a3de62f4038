//! `sekisho apply`, `confirm` and `rollback`: a configuration is checked, shown as what it changes, and put in force, for good or on trial.
//!
//! The files are replaced here, with the rights of whoever calls: the service cannot write its own configuration. It is told of it and
//! says what it read, by its revision, so that what was checked and what is in force are the same or nothing has changed.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::control::{At, plain};
use super::records::Records;
use super::replace::{Lock, Place, ReplaceError, content};
use super::replay::replayed;
use super::{DENIED, DONE, complain, fail, report, say};
use crate::config::{self, Config, LoadError, Scope, Source, difference, hexadecimal, text_sha256};
use crate::control::client::{ClientError, ask};
use crate::control::protocol::{Ask, Done, MAX_TRIAL, Status, TrialStatus};

pub(super) const HELP: &str = "\
NEW is loaded as if it lay in the place of the file: its relative paths are those of the file. What it changes is shown, and with
--record what of the recorded requests would be decided otherwise. Then the file is replaced in one step and the service takes it
up; where the service refuses it, the file is put back.

With --confirm the file stays as it is, NEW is put beside it as FILE.trial, and the service takes that up for the time given. Unless
`sekisho confirm` comes, it takes the file up again by itself: who has locked himself out need only wait.

Exit code: 0 in force or nothing to change, 3 nothing was done as nobody said yes, 1 error, with everything as it was.

Examples:
  sekisho apply new.toml --config /etc/sekisho/sekisho.toml --confirm 5m
  sekisho apply new.toml --config /etc/sekisho/sekisho.toml --record /var/log/sekisho/access.jsonl
  sekisho confirm --config /etc/sekisho/sekisho.toml
  sekisho rollback --config /etc/sekisho/sekisho.toml";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The new configuration
    #[arg(value_name = "NEW.TOML")]
    new: PathBuf,
    #[command(flatten)]
    at: At,
    /// On trial for this time, at most a day: unless `sekisho confirm` comes, the file is in force again
    #[arg(long, value_name = "TIME", value_parser = trial_time)]
    confirm: Option<Duration>,
    /// Show what of this record would be decided otherwise
    #[arg(long = "record", value_name = "ACCESS.JSONL")]
    record: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Also where the file is not what the service has in force: somebody's changes are lost
    #[arg(long)]
    overwrite: bool,
}

fn trial_time(text: &str) -> Result<Duration, String> {
    let time = super::load::duration(text)?;
    match (1..=MAX_TRIAL).contains(&time.as_secs()) {
        true => Ok(time),
        false => Err("1s to 24h are possible".to_owned()),
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    /// It has been said.
    #[error("")]
    Said,
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Replace(#[from] ReplaceError),
    #[error("{0}")]
    Other(String),
    #[error("nothing was changed: nobody said yes (--yes says it beforehand)")]
    Declined,
}

impl From<LoadError> for ApplyError {
    fn from(error: LoadError) -> Self {
        report(&error);
        Self::Said
    }
}

fn ended(outcome: Result<(), ApplyError>) -> ExitCode {
    match outcome {
        Ok(()) => DONE.into(),
        Err(ApplyError::Said) => super::control::failed(),
        Err(ApplyError::Declined) => {
            complain(&ApplyError::Declined.to_string());
            DENIED.into()
        }
        Err(error) => fail(&plain(&error.to_string())),
    }
}

pub(super) fn apply(arguments: &Arguments) -> ExitCode {
    ended(try_apply(arguments))
}

fn try_apply(arguments: &Arguments) -> Result<(), ApplyError> {
    let service = Service::find(&arguments.at)?;
    let octets = content(&arguments.new)?;
    let new = config::load_as(&arguments.new, &service.file, Scope::Full, SystemTime::now())?;
    if text_sha256(&octets) != new.text_sha256 {
        return Err(ApplyError::Other(format!("{} changes while it is read", arguments.new.display())));
    }
    if fs::canonicalize(&arguments.new).is_ok_and(|path| fs::canonicalize(&service.file).is_ok_and(|file| path == file))
    {
        let hint = "SIGHUP takes up a file that was changed in its place";
        return Err(ApplyError::Other(format!("{} is the file in force itself: {hint}", arguments.new.display())));
    }
    for warning in &new.warnings {
        complain(&warning.to_string());
    }
    let before = service.place.content()?;
    if text_sha256(&before) == new.text_sha256 && service.has_in_force(&before) {
        say(&format!("{} has this text already, and it is in force", service.file.display()));
        return Ok(());
    }
    service.is_as_it_was_left(&before, arguments.overwrite)?;
    show(&service.file, &new, arguments.record.as_deref())?;
    agreed(arguments)?;
    let _lock = service.lock_as_it_was(&before)?;
    match arguments.confirm {
        None => service.put_in_force(&before, &octets, &new),
        Some(time) => service.put_on_trial(&octets, &new, time),
    }
}

/// What changes, in words.
fn show(file: &Path, new: &Config, record: Option<&Path>) -> Result<(), ApplyError> {
    match config::load(file, Scope::WithoutIssuingCa, SystemTime::now()) {
        Ok(old) => {
            let lines = difference(&old, new);
            say(&format!("{}: revision {} -> {}", file.display(), old.as_loaded, new.as_loaded));
            if lines.is_empty() {
                say("  nothing is decided otherwise: only the text differs");
            }
            for line in lines {
                say(&plain(&format!("  {line}")));
            }
        }
        Err(error) => say(&format!("{} does not load, so nothing can be compared with it:\n{error}", file.display())),
    }
    if let Some(record) = record {
        let told = replayed(new, &Records::at(record)).map_err(ApplyError::Other)?;
        say(&plain(&format!("\nOf {}, otherwise than recorded:\n{told}", record.display())));
    }
    Ok(())
}

fn agreed(arguments: &Arguments) -> Result<(), ApplyError> {
    if arguments.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(ApplyError::Declined);
    }
    let _ = write!(io::stderr().lock(), "\nPut it in force? [y/N] ");
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(ApplyError::Declined),
    }
}

/// The running service and its file.
struct Service {
    socket: PathBuf,
    status: Status,
    /// As the service names it.
    file: PathBuf,
    place: Place,
}

impl Service {
    /// # Errors
    /// It does not answer, or runs with another file than the one that was named.
    fn find(at: &At) -> Result<Self, ApplyError> {
        let socket = at.socket().map_err(|_| ApplyError::Said)?;
        let status: Status = ask(&socket, &Ask::Status {})?;
        let file = PathBuf::from(&status.file);
        let place = Place::of(&file)?;
        let named = fs::canonicalize(at.config.path());
        // With --socket alone, the file is the service's.
        let meant = at.socket.is_some() && named.is_err();
        if !meant && named.ok() != fs::canonicalize(&file).ok() {
            let named = at.config.path().display();
            let error = format!("the service at {} runs with {}, and not with {named}", socket.display(), status.file);
            return Err(ApplyError::Other(error));
        }
        Ok(Self { socket, status, file, place })
    }

    fn trial_file(&self) -> PathBuf {
        Source::Trial.path(&self.file)
    }

    fn has_in_force(&self, octets: &[u8]) -> bool {
        hexadecimal(&text_sha256(octets)) == self.status.text_sha256
    }

    /// No trial is on, and the file is what is in force, or may be written over.
    fn is_as_it_was_left(&self, before: &[u8], overwrite: bool) -> Result<(), ApplyError> {
        if let Some(trial) = &self.status.trial {
            return Err(ApplyError::Other(on_trial(trial)));
        }
        if overwrite || self.has_in_force(before) {
            return Ok(());
        }
        Err(ApplyError::Other(format!(
            "{} is not what the service has in force (revision {}, since {}): somebody changed it meanwhile, or it is broken; look at \
             it first, then reload it (SIGHUP), or give --overwrite",
            self.file.display(),
            self.status.revision,
            self.status.revision_since
        )))
    }

    fn lock(&self) -> Result<Lock, ReplaceError> {
        let lock = self.place.lock()?;
        self.place.clear(&self.trial_file());
        Ok(lock)
    }

    /// Nobody else changes anything from here on.
    fn lock_as_it_was(&self, before: &[u8]) -> Result<Lock, ApplyError> {
        let lock = self.lock()?;
        if self.place.content()? != before {
            let error = format!("{} was changed while you looked at it: nothing was done", self.file.display());
            return Err(ApplyError::Other(error));
        }
        let now: Status = ask(&self.socket, &Ask::Status {})?;
        match &now.trial {
            Some(trial) => Err(ApplyError::Other(on_trial(trial))),
            None => Ok(lock),
        }
    }

    fn put_in_force(&self, before: &[u8], octets: &[u8], new: &Config) -> Result<(), ApplyError> {
        self.place.replace(octets)?;
        let asked: Result<Done, ClientError> = ask(&self.socket, &Ask::Reload { revision: new.as_loaded.to_string() });
        let error = match asked {
            Ok(done) => {
                say(&plain(&done.message));
                return Ok(());
            }
            // The answer was lost on its way: what is in force says it.
            Err(error) if !super::control::was_answered(&error) && self.has_taken_up(octets) => {
                say(&format!("revision {} is in force", new.as_loaded));
                return Ok(());
            }
            Err(error) => error,
        };
        complain(&plain(&format!("sekisho: the service did not take it up: {error}")));
        self.place.replace(before)?;
        // The file is again what is in force, which ends `degraded`.
        let old = config::load(&self.file, Scope::WithoutIssuingCa, SystemTime::now());
        if let (true, Ok(old)) = (super::control::was_answered(&error), old) {
            let _: Result<Done, ClientError> = ask(&self.socket, &Ask::Reload { revision: old.as_loaded.to_string() });
        }
        Err(ApplyError::Other(format!("{} is as it was before", self.file.display())))
    }

    /// What is in force now is this text, and not on trial.
    fn has_taken_up(&self, octets: &[u8]) -> bool {
        let status: Result<Status, ClientError> = ask(&self.socket, &Ask::Status {});
        let text = hexadecimal(&text_sha256(octets));
        status.is_ok_and(|status| status.text_sha256 == text && status.trial.is_none())
    }

    fn put_on_trial(&self, octets: &[u8], new: &Config, time: Duration) -> Result<(), ApplyError> {
        let trial_file = self.trial_file();
        self.place.put(&trial_file, octets)?;
        let asked = Ask::Trial { revision: new.as_loaded.to_string(), seconds: time.as_secs() };
        match ask::<Done>(&self.socket, &asked) {
            Ok(done) => {
                let keep = format!("sekisho confirm --config {}", self.file.display());
                say(&plain(&format!("{}\nto keep it: {keep}", done.message)));
                Ok(())
            }
            // Where the answer was lost on its way, the trial may have begun.
            Err(error) if !super::control::was_answered(&error) => Err(error.into()),
            Err(error) => {
                let _ = fs::remove_file(&trial_file);
                Err(error.into())
            }
        }
    }
}

fn on_trial(trial: &TrialStatus) -> String {
    format!(
        "revision {} is on trial until {}, begun by {}: `sekisho confirm` or `sekisho rollback` first",
        trial.revision, trial.until, trial.by
    )
}

pub(super) fn confirm(at: &At) -> ExitCode {
    ended(try_confirm(at))
}

/// It is confirmed by the one step that makes it the file, whatever ends this process before or behind it: the service looks at the file
/// when the trial ends, in whatever way.
fn try_confirm(at: &At) -> Result<(), ApplyError> {
    let service = Service::find(at)?;
    let _lock = service.lock()?;
    let Some(trial) = service.status.trial.as_ref() else {
        return Err(ApplyError::Other("nothing is on trial: its time was over, or it was ended".to_owned()));
    };
    let trial_file = service.trial_file();
    let octets = content(&trial_file)?;
    // Under the rules of the service: what was put there meanwhile is not what was tried.
    if !service.has_in_force(&octets) {
        let error = format!(
            "{} is not the text of revision {}, which is on trial: it was changed meanwhile; `sekisho rollback`, then apply again",
            trial_file.display(),
            trial.revision
        );
        return Err(ApplyError::Other(error));
    }
    let before = service.place.content()?;
    service.place.replace(&octets)?;
    let asked: Result<Done, ClientError> = ask(&service.socket, &Ask::Confirm { revision: trial.revision.clone() });
    match asked {
        Ok(done) => {
            // It is the file now, and nothing reads it any more.
            let _ = fs::remove_file(&trial_file);
            say(&plain(&done.message));
            Ok(())
        }
        // The answer was lost, or the time was over in this very moment and the file taken up, which was the new one by then.
        Err(error) if service.has_taken_up(&octets) => {
            let _ = fs::remove_file(&trial_file);
            say(&plain(&format!("revision {} is in force, and is the file's ({error})", trial.revision)));
            Ok(())
        }
        Err(error) => {
            service.place.replace(&before)?;
            complain(&format!("sekisho: {} is as it was before", service.file.display()));
            Err(error.into())
        }
    }
}

pub(super) fn rollback(at: &At) -> ExitCode {
    ended(try_rollback(at))
}

fn try_rollback(at: &At) -> Result<(), ApplyError> {
    let socket = at.socket().map_err(|_| ApplyError::Said)?;
    let done: Done = ask(&socket, &Ask::Rollback {})?;
    let status: Status = ask(&socket, &Ask::Status {})?;
    // Nothing reads it any more; whoever may not remove it leaves it.
    let _ = fs::remove_file(Source::Trial.path(Path::new(&status.file)));
    say(&plain(&done.message));
    Ok(())
}
