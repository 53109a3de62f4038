//! The minting process: it alone has the issuing key, and it signs what the configuration inspects, for whoever asks (J07).
//!
//! `run` starts it before anything else, with the configuration's path and one end of a socket, and then serves without the key. What an
//! attacker who has taken over the serving process can do with the other end is in [`question`](crate::inspect::question): ask for a leaf of a name, for the key pair of
//! that process. This process decides by a configuration it has read itself, from a file the serving process cannot write: an inspected name
//! within the CA's constraints, 14 days, serverAuth. It has no network, starts nothing, writes nothing, and reads what `run` read.
//!
//! Both must mean the same configuration. The serving process loads the file and has this one load it ([`Question::TakeUp`]); only where
//! both have the same revision is it taken up, and the other one is told to keep it ([`Question::Keep`]). A handshake that began under the
//! configuration before may still want a leaf: that one is answered for [`GRACE`], by the rules it had.
//!
//! The end of one is the end of the other. This one sees the socket's end, and ends. The serving process is told by the system, and stops
//! as it does on SIGTERM, with an error: it may start no process itself any more (execve is forbidden to it), and a service that
//! quietly inspects only the names it has leaves for would be found out by its users. The service manager starts both anew.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::net::sockopt::socket_type;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::{self, Config, LastGood, Scope};
use crate::inspect::issuer::{Issuer, LeafPoint};
use crate::inspect::minting::{self, Line, Link, LinkError};
use crate::inspect::question::{Answer, MAX_QUESTION, Question, Source};
use crate::policy::Policy;
use crate::restrict::{self, Kind, Reach, Role};

/// How long a configuration is answered for after another one is in force: longer than a client's handshake may take.
const GRACE: Duration = Duration::from_secs(60);
/// Configurations that are answered for beside the one that is kept: one on trial, one that is to end it, those that were in force before.
const BESIDE: usize = 3;
/// The generation of nothing.
const NONE: u32 = 0;
/// How long reading a configuration may take: a million names take seconds.
const LOAD_LIMIT: Duration = Duration::from_secs(120);

/// Why a configuration is not taken up.
#[derive(Debug, thiserror::Error)]
pub enum TakeUpError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the minting process refused it: {0}")]
    Refused(String),
    #[error(
        "the minting process has read another configuration (revision {theirs}) than this process ({ours}): a file has changed \
         meanwhile; try again"
    )]
    Revision { ours: Arc<str>, theirs: String },
    #[error(
        "[issuing_ca] is new, and the process that would hold its key is started with the service only: restart sekisho to begin to inspect"
    )]
    None,
}

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

/// The minting process, as the serving one sees it.
#[derive(Clone)]
pub struct Minter {
    link: Arc<Link>,
    ended: watch::Receiver<Option<String>>,
}

/// A configuration that both have read.
pub struct TakenUp {
    pub issuer: Arc<Issuer>,
    generation: u32,
}

/// The minting process before this one has threads to talk to it with.
pub struct Begun {
    minter: Minter,
    line: Line,
    child: Child,
    tell: watch::Sender<Option<String>>,
}

/// Starts the minting process of the configuration at `file`, whose last good one is in `state_directory`. To be called before any restriction, which it would inherit.
///
/// # Errors
/// The system's.
pub fn start(file: &Path, state_directory: Option<&Path>) -> io::Result<Begun> {
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("mint").arg("--config").arg(file);
    if let Some(folder) = state_directory {
        command.arg("--state-directory").arg(folder);
    }
    // It is no part of what the service manager talks to.
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn()?;
    // Only now: it has an end of the socket that is kept by whoever is started.
    drop(command);
    let (tell, ended) = watch::channel(None);
    let (link, line) = minting::open(ours.into());
    Ok(Begun { minter: Minter { link: Arc::new(link), ended }, line, child, tell })
}

impl Begun {
    /// As [`Minter::take_up`], before there are threads.
    ///
    /// # Errors
    /// [`TakeUpError`].
    pub fn take_up(&mut self, config: &Config, source: Source) -> Result<Option<TakenUp>, TakeUpError> {
        let Some((issuer, question)) = take_up(config, source)? else { return Ok(None) };
        let answer = self.line.ask(&question, LOAD_LIMIT)?;
        self.minter.taken_up(config, issuer, answer)
    }

    /// Starts the threads that ask, and that wait for its end. To be called after the restrictions, which they inherit.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn open(self) -> io::Result<Minter> {
        let Self { minter, line, child, tell } = self;
        line.start()?;
        thread::Builder::new().name("minting-end".to_owned()).spawn(move || {
            // Whoever waited has gone with the service.
            let _ = tell.send(Some(end_of(child)));
        })?;
        Ok(minter)
    }
}

fn end_of(mut child: Child) -> String {
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => format!("its end could not be waited for: {error}"),
    }
}

impl Minter {
    /// Has the minting process read what `config` was read from, and gives the issuer that asks it. Nothing has changed yet for those
    /// who ask about another configuration.
    ///
    /// # Errors
    /// [`TakeUpError`].
    pub async fn take_up(&self, config: &Config, source: config::Source) -> Result<Option<TakenUp>, TakeUpError> {
        let source = match source {
            config::Source::File => Source::File,
            config::Source::Trial => Source::Trial,
        };
        let Some((issuer, question)) = take_up(config, source)? else { return Ok(None) };
        self.taken_up(config, issuer, self.link.ask(question, LOAD_LIMIT).await?)
    }

    fn taken_up(&self, config: &Config, issuer: &Issuer, answer: Answer) -> Result<Option<TakenUp>, TakeUpError> {
        match answer {
            Answer::TakenUp { generation, revision } if *revision == *config.as_loaded => {
                let issuer = Arc::new(issuer.minted_by(Arc::clone(&self.link), generation));
                Ok(Some(TakenUp { issuer, generation }))
            }
            Answer::TakenUp { revision, .. } => {
                Err(TakeUpError::Revision { ours: Arc::clone(&config.as_loaded), theirs: revision })
            }
            Answer::Refused(why) => Err(TakeUpError::Refused(why)),
            Answer::Kept | Answer::Leaf(_) => Err(LinkError::Garbled.into()),
        }
    }

    /// Says that it is in force now. `None`: nothing is inspected any more.
    pub async fn keep(&self, taken_up: Option<&TakenUp>) {
        let question = Question::Keep { generation: taken_up.map_or(NONE, |taken_up| taken_up.generation) };
        // A process that has ended is told of by `ended`; one that was not told goes on with both.
        if let Err(error) = self.link.ask(question, LOAD_LIMIT).await {
            tracing::warn!(%error, "the minting process was not told which configuration is in force");
        }
    }

    /// Resolves when the process has ended, with how.
    pub async fn ended(&mut self) -> String {
        match self.ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "nobody waits for its end any more".to_owned(),
        }
    }
}

/// `None`: there is nothing to mint.
fn take_up(config: &Config, source: Source) -> Result<Option<(&Issuer, Question)>, TakeUpError> {
    let Some(issuer) = config.issuing.as_deref() else { return Ok(None) };
    let point = issuer.leaf_point().ok_or(LinkError::Garbled)?;
    Ok(Some((issuer, Question::TakeUp { source, point })))
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
        if let Some(reach) = minting.reach.take() {
            restrict_to(reach);
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
fn restrict_to(reach: Reach) {
    for (kind, why_not) in restrict::apply(Role::Minting, reach).results() {
        if let Some(why) = why_not.filter(|_| kind != Kind::EveryThread) {
            tracing::warn!(kind = kind.as_str(), "not restricted, the minting process: {why}");
        }
    }
}

/// Signals to the whole service (a terminal's Ctrl-C, a service manager's SIGTERM to every process) are the serving process's to obey: it
/// mints until its last connection has ended. The handlers stay when the runtime they were made in has gone.
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
    /// What the first configuration needs, until that is all that this process has.
    reach: Option<Reach>,
    /// In the order of their numbers: the one in force, and [`BESIDE`] others at most.
    generations: Vec<Generation>,
    kept: u32,
    last: u32,
}

struct Generation {
    number: u32,
    source: Source,
    policy: Arc<Policy>,
    issuer: Arc<Issuer>,
    point: LeafPoint,
    /// `None`: until further notice.
    until: Option<Instant>,
}

impl Minting {
    fn new(file: PathBuf, last_good: Option<LastGood>) -> Self {
        Self { file, last_good, reach: None, generations: Vec::new(), kept: NONE, last: NONE }
    }

    fn answer(&mut self, question: &Question, at: Instant, now: SystemTime) -> Answer {
        self.generations.retain(|generation| generation.until.is_none_or(|until| at < until));
        match question {
            Question::TakeUp { source, point } => match self.take_up(*source, *point, now) {
                Ok(answer) => answer,
                Err(why) => Answer::Refused(why),
            },
            Question::Keep { generation } => self.keep(*generation, at),
            Question::Mint { generation, which, name } => {
                let Some(known) = self.generations.iter().find(|known| known.number == *generation) else {
                    return Answer::Refused("it was asked by a configuration that is no longer in force".to_owned());
                };
                if !known.policy.inspects(name) {
                    return Answer::Refused(format!("{name} is not inspected"));
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
            self.reach = Some(Reach::of_minting(&config));
        }
        let issuer = config.issuing.clone().ok_or_else(|| format!("{} has no [issuing_ca]", config.file.display()))?;
        if !issuer.signs() {
            return Err("the key is a systemd credential, and $CREDENTIALS_DIRECTORY is not set".to_owned());
        }
        self.make_room_for(source);
        self.last += 1;
        let (number, policy, point) = (self.last, config.policy, LeafPoint(point));
        self.generations.push(Generation { number, source, policy, issuer, point, until: None });
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
