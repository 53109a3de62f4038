//! The minting process: it alone has the issuing key, and it signs what the configuration inspects, for whoever asks (J07).
//!
//! `run` starts it before anything else, with the configuration's path and one end of a socket, and then serves without the key. What an
//! attacker who has taken over the serving process can do with the other end is in [`question`](crate::inspect::question): ask for a leaf of a name, for the key pair of
//! that process. This process decides by a configuration it has read itself, from a file the serving process cannot write: an inspected name
//! within the CA's constraints, 14 days, serverAuth. It has no network, starts nothing, writes nothing, and reads what `run` read.
//!
//! Where the configuration lies in a folder that the serving process may write, a configuration is that process's word. The first one is
//! believed, which was read before anybody was met; by a later one nothing is signed that the first did not inspect (`minting::Guard`).
//!
//! Both must mean the same configuration. The serving process loads the file and has this one load it ([`Question::TakeUp`]); only where
//! both have the same revision is it taken up, and the other one is told to keep it ([`Question::Keep`]). A handshake that began under the
//! configuration before may still want a leaf: that one is answered for a minute, by the rules it had.
//!
//! The end of one is the end of the other. This one sees the socket's end, and ends; where it is stopped and sees nothing, the system lets it
//! go on. The serving process is told by the system, and stops as it does on SIGTERM, with an error: it may start no process itself any more
//! (execve is forbidden to it), and a service that quietly inspects only the names it has leaves for would be found out by its users. The
//! service manager starts both anew.

mod minting;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::sync::watch;

pub use self::minting::{ServeError, serve};
use crate::config::{self, Config};
use crate::inspect::issuer::Issuer;
pub use crate::inspect::minting::LinkError;
use crate::inspect::minting::{self as way, Line, Link};
use crate::inspect::question::{Answer, Question, Source};

/// The generation of nothing.
const NONE: u32 = 0;
/// How long reading a configuration may take: a million names take seconds.
const LOAD_LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to say that it is there, or to be told something: it has a microsecond's work with that, and tens of leaves before.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

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

/// The minting process, as the serving one sees it.
#[derive(Clone)]
pub struct Minter {
    link: Arc<Link>,
    ended: watch::Receiver<Option<String>>,
    /// The generation that is in force, as long as it has not answered that it knows: whatever is asked of it next begins with that.
    untold: Arc<Mutex<Option<u32>>>,
    /// Configurations that it is reading: it answers nothing else meanwhile.
    reading: Arc<AtomicUsize>,
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
    // Stopped, it would not see the socket's end. A group of processes that has nobody left who could let it go on is let go on by the system
    // (setpgid(2)). A signal for the parent's end (PR_SET_PDEATHSIG) would be a signal of that parent, which may send none (Landlock).
    command.process_group(0);
    let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn()?;
    // Only now: it has an end of the socket that is kept by whoever is started.
    drop(command);
    let (tell, ended) = watch::channel(None);
    let (link, line) = way::open(ours.into());
    let minter = Minter { link: Arc::new(link), ended, untold: Arc::default(), reading: Arc::default() };
    Ok(Begun { minter, line, child, tell })
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
        // One that does not answer would not read either, and is not waited for as long as that may take. And one that does not know what
        // is in force would give that up for this.
        self.answers().await?;
        let _reading = Reading::begun(&self.reading);
        self.taken_up(config, issuer, self.link.ask(question, LOAD_LIMIT).await?)
    }

    /// Whether it answers at all, and knows what is in force.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn answers(&self) -> Result<(), LinkError> {
        let untold = *self.untold();
        let question = untold.map_or(Question::Alive, |generation| Question::Keep { generation });
        match (untold, self.link.ask(question, ANSWER_LIMIT).await?) {
            (None, Answer::Alive) => {}
            (Some(_), Answer::Kept) => {
                self.untold().take_if(|generation| Some(*generation) == untold);
            }
            _ => return Err(LinkError::Garbled),
        }
        Ok(())
    }

    fn untold(&self) -> MutexGuard<'_, Option<u32>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is reading a configuration, which takes the time it takes.
    pub fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed) > 0
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
            Answer::Kept | Answer::Leaf(_) | Answer::Alive => Err(LinkError::Garbled.into()),
        }
    }

    /// Says that it is in force now. `None`: nothing is inspected any more. Where that is not answered it is said again with each of
    /// [`answers`](Self::answers), and so before anything else is taken up.
    pub async fn keep(&self, taken_up: Option<&TakenUp>) {
        *self.untold() = Some(taken_up.map_or(NONE, |taken_up| taken_up.generation));
        // A process that has ended is told of by `ended`.
        if let Err(error) = self.answers().await {
            tracing::warn!(%error, "the minting process was not told yet which configuration is in force");
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

/// One configuration that is being read, whatever ends that.
struct Reading<'m>(&'m AtomicUsize);

impl<'m> Reading<'m> {
    fn begun(reading: &'m AtomicUsize) -> Self {
        reading.fetch_add(1, Ordering::Relaxed);
        Self(reading)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `None`: there is nothing to mint.
fn take_up(config: &Config, source: Source) -> Result<Option<(&Issuer, Question)>, TakeUpError> {
    let Some(issuer) = config.issuing.as_deref() else { return Ok(None) };
    let point = issuer.leaf_point().ok_or(LinkError::Garbled)?;
    Ok(Some((issuer, Question::TakeUp { source, point })))
}
