//! This process takes the place of one that runs: what it gets from it, and when.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::before::{Before, watch_draining};
use super::handover::{GO, KEPT, NOT_TAKEN, READY, RECORD, RELEASED, SOCKETS, TAKEN};
use super::inherited::Inherited;
use super::systemd::feed_watchdog_of_another;
use super::{Server, tell};
use crate::connection::{Gate, Parcel, ParcelError, serve_moved};
use crate::control::client::{ClientError, connect, read_line};
use crate::control::frames;
use crate::control::protocol::{Ask, Place, Refusal, read_answer, request};
use crate::record::{Fields, Lifecycle, Relay};
use crate::sockets::is_beyond;

/// For each step of the other process, which writes out its record meanwhile.
const STEP: Duration = Duration::from_secs(10);
/// From a process's last descriptor closed to its end.
const ENDING: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Octets of a line of the record.
const MOST_LINE: u64 = 1 << 20;

/// Why this process could not take over. The one that runs goes on.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error("{0}")]
    Nobody(#[from] ClientError),
    #[error("it refuses: {0}")]
    Refused(#[from] Refusal),
    #[error("what answers is no sekisho that can be taken over from: restart it instead")]
    Foreign,
    #[error("it has kept its place, for a reason that stands in its own log")]
    Kept,
    #[error("what it gives takes more descriptors than this process has: see `ulimit -n`, or LimitNOFILE of the unit")]
    Descriptors,
    #[error("it ended the conversation, or took too long: {0}; what it says of that stands in its own log")]
    Ended(io::Error),
}

impl From<io::Error> for TakeoverError {
    fn from(error: io::Error) -> Self {
        if Errno::from_io_error(&error) == Some(Errno::MFILE) { Self::Descriptors } else { Self::Ended(error) }
    }
}

/// The process that runs, which gives its place to this one.
pub struct Predecessor {
    stream: UnixStream,
    place: Place,
    /// By which its end is told from its refusal. `None`: the system does not tell.
    process: Option<OwnedFd>,
}

/// What it lends until this process serves.
pub(super) struct Lent {
    lines: OwnedFd,
    questions: OwnedFd,
}

impl Predecessor {
    /// Asks the service at the control socket `path` for its place, and gets its listening sockets.
    ///
    /// # Errors
    /// [`TakeoverError`].
    pub fn ask(path: &Path) -> Result<(Self, Inherited), TakeoverError> {
        let stream = connect(path)?;
        stream.set_read_timeout(Some(STEP))?;
        (&stream).write_all(&request(&Ask::TakeOver {}))?;
        let answer = read_answer::<Place>(&read_line(&stream)?).ok_or(TakeoverError::Foreign)?;
        let place = answer?;
        let process = socket_peercred(&stream).and_then(|peer| pidfd_open(peer.pid, PidfdFlags::empty())).ok();
        let mut inherited = Inherited::default();
        let mut came = 0;
        while came < place.sockets {
            let (_, sockets) = due(frames::receive(&stream)?, SOCKETS)?;
            if sockets.is_empty() {
                return Err(TakeoverError::Foreign);
            }
            came += sockets.len();
            sockets.into_iter().try_for_each(|socket| inherited.add(socket))?;
        }
        Ok((Self { stream, place, process }, inherited))
    }

    /// The other completes its record, and lends it. `None`: it has ended, and its sockets are this process's.
    pub(super) fn record(&self) -> Result<Option<(Lent, OwnedFd)>, TakeoverError> {
        let Some(lent) = self.say(RECORD, RELEASED)? else { return Ok(None) };
        let [lines, questions, record] = <[OwnedFd; 3]>::try_from(lent).map_err(|_| TakeoverError::Foreign)?;
        Ok(Some((Lent { lines, questions }, record)))
    }

    /// This process can serve; the other's word that it may. Where that has ended meanwhile, nobody else does.
    pub(super) fn may_serve(&self) -> Result<(), TakeoverError> {
        self.say(READY, GO).map(drop)
    }

    /// What comes with the answer that is due to `word`. `None`: the other has ended, and has not said before that it kept its place.
    fn say(&self, word: &[u8], answer: &[u8]) -> Result<Option<Vec<OwnedFd>>, TakeoverError> {
        // Where it does not take that any more, it may have said why.
        let said = frames::send(&self.stream, word, &[]);
        match frames::receive(&self.stream) {
            Ok(message) => due(message, answer).map(|(_, came)| Some(came)),
            Err(_) if self.has_ended() => Ok(None),
            Err(error) => Err(said.err().unwrap_or(error).into()),
        }
    }

    /// It has closed the conversation, and for that reason.
    fn has_ended(&self) -> bool {
        let Some(process) = &self.process else { return false };
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&ENDING)))
            .is_ok_and(|n| n > 0)
    }

    /// What the first line of this run says.
    pub(super) fn tell(&self, fields: &mut Fields) {
        let Place { version, pid, .. } = &self.place;
        fields.rare.message = Some(format!("Takes over from process {pid}, of version {version}.").into());
    }

    /// Takes tunnels until the other process ends.
    fn take_tunnels(&self, gate: &Arc<Gate>, workers: &[Handle]) -> Came {
        let mut came = Came::default();
        let mut workers = workers.iter().cycle();
        loop {
            let received = match frames::receive(&self.stream) {
                Ok(message) => Ok(message),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) => Err(Stays::Descriptors),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return came,
                Err(error) => {
                    tracing::error!(%error, "no more tunnels are taken over");
                    return came;
                }
            };
            let Some(worker) = workers.next() else { return came };
            let taken = received.and_then(|(octets, sockets)| take(gate, &octets, sockets, worker));
            if let Err(why) = &taken {
                tracing::warn!("a tunnel stays with the process before: {why}");
            }
            let answer = if taken.is_ok() { TAKEN } else { NOT_TAKEN };
            came.count(&taken);
            if frames::send(&self.stream, answer, &[]).is_err() {
                return came;
            }
        }
    }
}

/// Tunnels that came, and those that stay with the process before and end with it.
#[derive(Debug, Default)]
struct Came {
    taken: u64,
    without_memory: u64,
    without_descriptors: u64,
    unreadable: u64,
}

impl Came {
    fn count(&mut self, taken: &Result<(), Stays>) {
        let number = match taken {
            Ok(()) => &mut self.taken,
            Err(Stays::Memory) => &mut self.without_memory,
            Err(Stays::Descriptors) => &mut self.without_descriptors,
            Err(Stays::Parcel(_)) => &mut self.unreadable,
        };
        *number += 1;
    }

    /// Those that stayed, with the reason for each; nothing where all came.
    fn stayed(&self) -> String {
        let reasons = [
            (self.without_memory, "there was no memory for them here (limits.memory)"),
            (self.without_descriptors, "there was no descriptor for them here (LimitNOFILE)"),
            (self.unreadable, "they could not be read here"),
        ];
        let reasons = reasons.into_iter().filter(|(number, _)| *number > 0);
        reasons.map(|(number, why)| format!(" {number} tunnels stayed with it to its end: {why}.")).collect()
    }
}

/// Why a tunnel stays with the process before.
#[derive(Debug, thiserror::Error)]
enum Stays {
    #[error("there is no memory for it here (limits.memory)")]
    Memory,
    #[error("there is no descriptor for it here (LimitNOFILE)")]
    Descriptors,
    #[error("{0}")]
    Parcel(#[from] ParcelError),
}

impl Server {
    /// This process serves: what the predecessor has comes over now. `lent` is nothing where that has ended before it could give it.
    pub(super) fn go_on_from(&mut self, predecessor: Predecessor, lent: Option<Lent>) -> Result<(), TakeoverError> {
        let Place { pid, version, watchdog, .. } = predecessor.place.clone();
        if watchdog {
            feed_watchdog_of_another();
        }
        let Some(Lent { lines, questions }) = lent else {
            tell_ended(&self.gate, &predecessor.place, (&Came::default(), 0), false);
            return Ok(());
        };
        let lines = UnixStream::from(lines);
        lines.set_nonblocking(true)?;
        let lines = tokio::net::UnixStream::from_std(lines)?;
        predecessor.stream.set_read_timeout(None)?;
        self.desk.before.store(Some(Arc::new(Before::new(pid, version, questions.into())?)));
        self.accepting.spawn(watch_draining(Arc::clone(&self.desk)));
        let gate = Arc::clone(&self.gate);
        let workers: Vec<Handle> = self.workers.handles().cloned().collect();
        let (done, relayed) = mpsc::channel();
        let (relaying, desk) = (Arc::clone(&gate), Arc::clone(&self.desk));
        let (gone, ended) = oneshot::channel::<()>();
        self.predecessor = Some(ended);
        // Of both that are under way until it has ended and been told of: this process does not end before.
        let gone = Arc::new(gone);
        let told = Arc::clone(&gone);
        self.accepting.spawn(async move {
            // Nobody waits where the thread could not be started.
            let _ = done.send(relay(&relaying, lines).await);
            desk.before.store(None);
            drop(gone);
        });
        thread::Builder::new().name("takeover".to_owned()).spawn(move || {
            let came = predecessor.take_tunnels(&gate, &workers);
            // Its last lines are read before it is said to have ended. This process may end before.
            let Ok((lines, in_order)) = relayed.recv() else { return };
            tell_ended(&gate, &predecessor.place, (&came, lines), in_order);
            drop(told);
        })?;
        Ok(())
    }
}

fn tell_ended(gate: &Gate, place: &Place, (came, lines): (&Came, u64), in_order: bool) {
    let Place { pid, version, .. } = place;
    let what = format!(
        "Process {pid}, of version {version}, has ended{}: {} tunnels and {lines} lines came from it.{}",
        if in_order { "" } else { " without a word, and what it had in hand is not in the record" },
        came.taken,
        came.stayed(),
    );
    tracing::info!("{what}");
    tell(gate, Lifecycle::TakenOver, &what);
}

/// From here on the tunnel is this process's.
fn take(gate: &Arc<Gate>, octets: &[u8], sockets: Vec<OwnedFd>, worker: &Handle) -> Result<(), Stays> {
    if sockets.iter().any(is_beyond) {
        return Err(Stays::Descriptors);
    }
    let sockets = <[OwnedFd; 2]>::try_from(sockets).map_err(|_| ParcelError::Length)?;
    let newcomer = gate.pressure().newcomer().ok_or(Stays::Memory)?;
    let parcel = Parcel::read(octets, sockets.into())?;
    let resumed = worker.block_on(parcel.resume(gate, newcomer))?;
    let present = gate.enter();
    worker.spawn(Box::pin(serve_moved(present, resumed)));
    Ok(())
}

/// Lays the lines of the other process, until it ends; how many those were, and whether it said that it ended.
async fn relay(gate: &Gate, lines: tokio::net::UnixStream) -> (u64, bool) {
    let mut lines = BufReader::new(lines);
    let (mut line, mut relayed, mut in_order) = (Vec::new(), 0, false);
    loop {
        line.clear();
        // What the other did not send whole it writes itself.
        match (&mut lines).take(MOST_LINE).read_until(b'\n', &mut line).await {
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(_) | Err(_) => return (relayed, in_order),
        }
        match gate.recorder().relay(&line).await {
            Ok(Relay::Laid) => relayed += 1,
            Ok(Relay::Last) => in_order = true,
            Err(error) => {
                tracing::error!(%error, "what came from the process before is not in the record");
                return (relayed, false);
            }
        }
    }
}

/// The message, where it is the one that is due.
fn due(message: (Vec<u8>, Vec<OwnedFd>), word: &[u8]) -> Result<(Vec<u8>, Vec<OwnedFd>), TakeoverError> {
    match &*message.0 {
        said if said == word => Ok(message),
        KEPT => Err(TakeoverError::Kept),
        _ => Err(TakeoverError::Foreign),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::about;
    use super::*;
    use crate::config::{self, Scope};
    use crate::connection::Live;
    use crate::record::Recorder;

    #[tokio::test]
    async fn h03_a_tunnel_that_there_is_no_memory_for_stays_before_anything_of_it_is_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("sekisho.toml");
        let text = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[record]\npath = \"access.jsonl\"\n";
        std::fs::write(&file, text).expect("written");
        let config = config::load(&file, Scope::Full, SystemTime::now()).unwrap_or_else(|error| panic!("{error}"));
        let recorder = Recorder::start(config.record.clone(), about(&config)).expect("a record");
        let gate = Gate::new(Live::new(config, None), recorder);
        let sockets =
            || vec![UnixStream::pair().expect("sockets").0.into(), UnixStream::pair().expect("sockets").0.into()];
        let mut came = Came::default();
        for (ceiling, why) in [(Some(1), "there is no memory for it here (limits.memory)"), (None, "its parts are not")]
        {
            gate.pressure().memory().set_ceiling(ceiling);
            let taken = take(&gate, b"no parcel", sockets(), &Handle::current());
            came.count(&taken);
            assert!(taken.expect_err("it stays").to_string().starts_with(why), "{why}");
            assert_eq!((gate.connections(), gate.pressure().memory().charged()), (0, 0));
        }
        came.without_memory += 1;
        assert_eq!(
            came.stayed(),
            " 2 tunnels stayed with it to its end: there was no memory for them here (limits.memory). 1 tunnels stayed with it to its \
             end: they could not be read here."
        );
    }
}
