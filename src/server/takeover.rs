//! This process takes the place of one that runs: what it gets from it, and when.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::handover::{NOT_TAKEN, RECORD, RELEASED, SERVING, SOCKETS, TAKEN};
use super::inherited::Inherited;
use super::systemd::feed_watchdog_of_another;
use super::{Server, about};
use crate::connection::{Gate, Parcel, ParcelError, serve_moved};
use crate::control::client::{ClientError, connect};
use crate::control::frames;
use crate::control::protocol::{Ask, Place, Refusal, read_answer, request};
use crate::record::{Fields, Lifecycle, Relay};

/// For each step of the other process, which writes out its record meanwhile.
const STEP: Duration = Duration::from_secs(10);
/// Octets of the answer.
const MOST_ANSWER: usize = 4096;
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
    #[error("it ended the conversation, or took too long: {0}; what it says of that stands in its own log")]
    Ended(#[from] io::Error),
}

/// The process that runs, which gives its place to this one.
pub struct Predecessor {
    stream: UnixStream,
    place: Place,
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
        let answer = read_answer::<Place>(&line(&stream)?).ok_or(TakeoverError::Foreign)?;
        let place = answer?;
        let mut inherited = Inherited::default();
        let mut came = 0;
        while came < place.sockets {
            let (_, sockets) = expect(&stream, SOCKETS)?;
            if sockets.is_empty() {
                return Err(TakeoverError::Foreign);
            }
            came += sockets.len();
            sockets.into_iter().try_for_each(|socket| inherited.add(socket))?;
        }
        Ok((Self { stream, place }, inherited))
    }

    /// The other completes its record and closes it; where its further lines come from.
    pub(super) fn record(&self) -> Result<UnixStream, TakeoverError> {
        frames::send(&self.stream, RECORD, &[])?;
        let (_, mut lines) = expect(&self.stream, RELEASED)?;
        let lines: OwnedFd = lines.pop().ok_or(TakeoverError::Foreign)?;
        Ok(lines.into())
    }

    /// What the first line of this run says.
    pub(super) fn tell(&self, fields: &mut Fields) {
        let Place { version, pid, .. } = &self.place;
        fields.rare.message = Some(format!("Takes over from process {pid}, of version {version}.").into());
    }

    /// Takes tunnels until the other process ends; how many those were.
    fn take_tunnels(&self, gate: &Arc<Gate>, workers: &[Handle]) -> u64 {
        let mut tunnels = 0;
        let mut workers = workers.iter().cycle();
        loop {
            let (octets, sockets) = match frames::receive(&self.stream) {
                Ok(message) => message,
                // It is left with the other, which may have it still.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) => (Vec::new(), Vec::new()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return tunnels,
                Err(error) => {
                    tracing::error!(%error, "no more tunnels are taken over");
                    return tunnels;
                }
            };
            let Some(worker) = workers.next() else { return tunnels };
            let taken = take(gate, &octets, sockets, worker);
            if let Err(error) = &taken {
                tracing::error!(%error, "a tunnel was not taken over");
            }
            tunnels += u64::from(taken.is_ok());
            let said = frames::send(&self.stream, if taken.is_ok() { TAKEN } else { NOT_TAKEN }, &[]);
            if said.is_err() {
                return tunnels;
            }
        }
    }
}

impl Server {
    /// This process serves: what the predecessor has comes over now.
    pub(super) fn go_on_from(&mut self, predecessor: Predecessor, lines: UnixStream) -> Result<(), TakeoverError> {
        lines.set_nonblocking(true)?;
        let lines = tokio::net::UnixStream::from_std(lines)?;
        frames::send(&predecessor.stream, SERVING, &[])?;
        predecessor.stream.set_read_timeout(None)?;
        if predecessor.place.watchdog {
            feed_watchdog_of_another();
        }
        let gate = Arc::clone(&self.gate);
        let workers: Vec<Handle> = self.workers.handles().cloned().collect();
        let (done, relayed) = mpsc::channel();
        let relaying = Arc::clone(&gate);
        let (gone, ended) = oneshot::channel();
        self.predecessor = Some(ended);
        self.accepting.spawn(async move {
            // Nobody waits where the thread could not be started.
            let _ = done.send(relay(&relaying, lines).await);
            drop(gone);
        });
        thread::Builder::new().name("takeover".to_owned()).spawn(move || {
            let tunnels = predecessor.take_tunnels(&gate, &workers);
            // Its last lines are read before it is said to have ended. This process may end before.
            let Ok((lines, in_order)) = relayed.recv() else { return };
            let Place { pid, version, .. } = &predecessor.place;
            let what = format!(
                "Process {pid}, of version {version}, has ended{}: {tunnels} tunnels and {lines} lines came from it.",
                if in_order { "" } else { " without a word, and what it had in hand is not in the record" }
            );
            tracing::info!("{what}");
            let mut fields = about(&gate.live().config);
            fields.rare.message = Some(what.into());
            gate.recorder().lifecycle(Lifecycle::TakenOver, fields);
        })?;
        Ok(())
    }
}

/// From here on the tunnel is this process's.
fn take(gate: &Arc<Gate>, octets: &[u8], sockets: Vec<OwnedFd>, worker: &Handle) -> Result<(), ParcelError> {
    let sockets = <[OwnedFd; 2]>::try_from(sockets).map_err(|_| ParcelError::Length)?;
    let parcel = Parcel::read(octets, sockets.into())?;
    let resumed = worker.block_on(parcel.resume(gate))?;
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

/// One line, and nothing behind it: what follows has descriptors.
fn line(stream: &UnixStream) -> Result<Vec<u8>, TakeoverError> {
    let mut line = Vec::new();
    let mut octet = [0];
    while !line.ends_with(b"\n") {
        (&mut &*stream).read_exact(&mut octet)?;
        line.extend(octet);
        if line.len() > MOST_ANSWER {
            return Err(TakeoverError::Foreign);
        }
    }
    Ok(line)
}

fn expect(stream: &UnixStream, word: &[u8]) -> Result<(Vec<u8>, Vec<OwnedFd>), TakeoverError> {
    let message = frames::receive(stream)?;
    if message.0 == word { Ok(message) } else { Err(TakeoverError::Foreign) }
}
