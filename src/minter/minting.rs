//! The process with the key: what it takes up, what it signs, and what it believes.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::NONE;
use crate::config::{self, Config, LastGood, Scope};
use crate::inspect::issuer::{Issuer, LeafPoint};
use crate::inspect::question::{Answer, MAX_QUESTION, Question, Source};
use crate::policy::Policy;
use crate::restrict::{self, Exposed, Reach, Restriction, Role};

/// How long a configuration is answered for after another one is in force: longer than a client's handshake may take.
const GRACE: Duration = Duration::from_secs(60);
/// Configurations that are answered for beside the one that is kept: one on trial, one that is to end it, those that were in force before.
const BESIDE: usize = 3;
/// Why the minting process ends before its socket does.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("this is the other end of `sekisho run`, which starts it; it is of no use by hand")]
    NotStarted,
    #[error("what came from the serving process is no question: nothing more is signed")]
    Garbled,
    #[error("the socket to the serving process failed: {0}")]
    Io(#[from] io::Error),
}

/// Serves until the other end of the socket on standard input is gone. `file` is the configuration, whose last good one is in
/// `state_directory`.
///
/// # Errors
/// [`ServeError`].
pub fn serve(file: &Path, state_directory: Option<&Path>) -> Result<(), ServeError> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if socket_type(&socket).ok() != Some(SocketType::SEQPACKET) {
        return Err(ServeError::NotStarted);
    }
    let _signals = hold_signals()?;
    let mut minting = Minting::new(file.to_owned(), state_directory.map(LastGood::new));
    let mut buffer = [0; MAX_QUESTION + 1];
    loop {
        let octets = match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(octets) => octets,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (number, question) = Question::decode(&buffer[..octets]).ok_or(ServeError::Garbled)?;
        let answer = minting.answer(&question, Instant::now(), SystemTime::now());
        if let Some((own, serving)) = minting.reach.take() {
            minting.guard = Some(Guard { restriction: restrict_to(own), serving });
        }
        match socket.write(&answer.encode(number)) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// From here on nothing that is asked finds more than it needs. What could not be given up is the same in the process that serves, which
/// tells it in record and metrics too.
fn restrict_to(reach: Reach) -> Restriction {
    let restriction = restrict::apply(Role::Minting, reach);
    for (kind, why_not) in restriction.results() {
        if let Some(why) = why_not {
            tracing::warn!(kind = kind.as_str(), "not restricted, the minting process: {why}");
        }
    }
    restriction
}

/// Signals to the whole service (a service manager's SIGTERM to every process) are the serving process's to obey: it mints until its last
/// connection has ended. Where it was stopped when that process ended, SIGHUP comes with SIGCONT, and it sees the socket's end. The handlers
/// stay when the runtime they were made in has gone.
fn hold_signals() -> io::Result<Vec<Signal>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    let held = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::user_defined1()];
    held.into_iter().map(signal).collect()
}

/// What has been taken up, and what is asked of it. Does no I/O but reading configurations.
struct Minting {
    file: PathBuf,
    last_good: Option<LastGood>,
    /// What the first configuration needs here and in the process that serves, until that is all that this process has.
    reach: Option<(Reach, Reach)>,
    /// From then on.
    guard: Option<Guard>,
    /// What the first configuration inspects.
    first: Option<Arc<Policy>>,
    /// In the order of their numbers: the one in force, and [`BESIDE`] others at most.
    generations: Vec<Generation>,
    kept: u32,
    last: u32,
}

/// Knows what the process that serves could have written.
struct Guard {
    /// This process's: the same kernel holds the other one.
    restriction: Restriction,
    /// What the process that serves was granted when it began.
    serving: Reach,
}

impl Guard {
    fn exposes(&self, config: &Config) -> Option<Exposed> {
        self.restriction.exposes(&self.serving, &Reach::of_minting(config).obeyed)
    }
}

struct Generation {
    number: u32,
    source: Source,
    policy: Arc<Policy>,
    /// What else must inspect a name.
    within: Option<Arc<Policy>>,
    issuer: Arc<Issuer>,
    point: LeafPoint,
    /// `None`: until further notice.
    until: Option<Instant>,
}

impl Minting {
    fn new(file: PathBuf, last_good: Option<LastGood>) -> Self {
        let (reach, guard, first) = (None, None, None);
        Self { file, last_good, reach, guard, first, generations: Vec::new(), kept: NONE, last: NONE }
    }

    fn answer(&mut self, question: &Question, at: Instant, now: SystemTime) -> Answer {
        self.generations.retain(|generation| generation.until.is_none_or(|until| at < until));
        match question {
            Question::TakeUp { source, point } => match self.take_up(*source, *point, now) {
                Ok(answer) => answer,
                Err(why) => Answer::Refused(why),
            },
            Question::Keep { generation } => self.keep(*generation, at),
            Question::Alive => Answer::Alive,
            Question::Mint { generation, which, name } => {
                let Some(known) = self.generations.iter().find(|known| known.number == *generation) else {
                    return Answer::Refused("it was asked by a configuration that is no longer in force".to_owned());
                };
                if !known.policy.inspects(name) {
                    return Answer::Refused(format!("{name} is not inspected"));
                }
                if known.within.as_ref().is_some_and(|first| !first.inspects(name)) {
                    return Answer::Refused(format!("restart needed: {name} was not inspected when the service began"));
                }
                match known.issuer.sign(*which, name, &known.point, now) {
                    Ok(signed) => Answer::Leaf(signed.leaf.to_vec()),
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
        }
    }

    fn take_up(&mut self, source: Source, point: [u8; 65], now: SystemTime) -> Result<Answer, String> {
        // It lies where the serving process may write: what a service begins with, before it has met anybody, and never later.
        if source == Source::LastGood && self.last != NONE {
            return Err("the last good configuration is for a start alone".to_owned());
        }
        let config = self.load(source, now)?;
        if self.last == NONE {
            let state = self.last_good.as_ref().and_then(|last_good| last_good.path().parent());
            self.reach = Some((Reach::of_minting(&config), Reach::of_service(&config, state)));
            self.first = Some(Arc::clone(&config.policy));
        }
        let within = self.bounds(&config)?;
        let issuer = config.issuing.clone().ok_or_else(|| format!("{} has no [issuing_ca]", config.file.display()))?;
        if !issuer.signs() {
            return Err("the key is a systemd credential, and $CREDENTIALS_DIRECTORY is not set".to_owned());
        }
        self.make_room_for(source);
        self.last += 1;
        let (number, policy, point) = (self.last, config.policy, LeafPoint(point));
        self.generations.push(Generation { number, source, policy, within, issuer, point, until: None });
        Ok(Answer::TakenUp { generation: number, revision: config.as_loaded.to_string() })
    }

    /// What was read of `source` and not kept has not come into force, or its trial is over: what was read of another is on trial, perhaps.
    /// Of those that were in force, the youngest stay.
    fn make_room_for(&mut self, source: Source) {
        let kept = self.kept;
        let is_past = |generation: &Generation| generation.until.is_some();
        self.generations.retain(|known| known.number == kept || is_past(known) || known.source != source);
        while self.generations.iter().filter(|known| known.number != kept).count() >= BESIDE
            && let Some(oldest) = self.generations.iter().position(is_past)
        {
            self.generations.remove(oldest);
        }
    }

    /// What must inspect a name beside the policy of `config`, where that may be the serving process's own word.
    fn bounds(&self, config: &Config) -> Result<Option<Arc<Policy>>, String> {
        let exposed = self.guard.as_ref().and_then(|guard| guard.exposes(config));
        let (Some(exposed), Some(first)) = (exposed, &self.first) else { return Ok(None) };
        match config.policy.newly_inspected(first) {
            None => Ok(Some(Arc::clone(first))),
            Some(pattern) => {
                Err(format!("restart needed: \"{pattern}\" was not inspected when the service began, and {exposed}"))
            }
        }
    }

    fn load(&self, source: Source, now: SystemTime) -> Result<Config, String> {
        let loaded = match (source, &self.last_good) {
            (Source::File, _) => config::Source::File.load(&self.file, Scope::Full, now),
            (Source::Trial, _) => config::Source::Trial.load(&self.file, Scope::Full, now),
            (Source::LastGood, Some(last_good)) => {
                last_good.load(&self.file, Scope::Full, now).map(|(config, _)| config)
            }
            (Source::LastGood, None) => return Err("there is no state directory".to_owned()),
        };
        loaded.map_err(|error| error.to_string())
    }

    fn keep(&mut self, number: u32, at: Instant) -> Answer {
        if number == NONE {
            self.generations.clear();
            return Answer::Kept;
        }
        // Nothing goes back to what was in force before.
        if number < self.kept || !self.generations.iter().any(|generation| generation.number == number) {
            return Answer::Refused("there is no such generation to keep".to_owned());
        }
        if number != self.kept {
            // What was in force until now is still answered for, and what was on trial.
            for generation in self.generations.iter_mut().filter(|generation| generation.number != number) {
                generation.until.get_or_insert(at + GRACE);
            }
            self.kept = number;
        }
        Answer::Kept
    }
}

#[cfg(test)]
mod tests;
