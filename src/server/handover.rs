//! Another process takes this one's place: it gets the listening sockets, then the record, then the tunnels.
//!
//! Until it says that it can serve, and has the answer, nothing is given up: whatever goes wrong before, or is not done in time, this
//! process goes on as if nobody had asked, and says so to the other, which may hear it much later. The record is lent until then, and the
//! other writes nothing into it. From then on this one accepts nothing, serves what waits with it already, sends each tunnel over as soon as
//! there is room on the way, and lets inspected connections finish. What has not ended or gone at `timeouts.drain` is cut.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use sd_notify::NotifyState;
use tokio::sync::mpsc;

use super::before::answer_successor;
use super::systemd::{feeds_watchdog, tell_systemd};
use super::{Server, tell};
use crate::aside::aside;
use crate::connection::{Handed, ON_THE_WAY};
use crate::control::frames::{self, MOST_DESCRIPTORS};
use crate::control::protocol::{Done, Place, Refusal, Word, answer};
use crate::control::role::Peer;
use crate::record::{Lifecycle, RecordError};

/// For each step of the other process, which has loaded its configuration before it asks.
const STEP: Duration = Duration::from_secs(10);
/// For the last one, in which nothing of this process is recorded: the record has room for a few thousand lines meanwhile.
const LAST_STEP: Duration = Duration::from_secs(5);

/// What the two say to each other.
pub(super) const SOCKETS: &[u8] = b"sockets";
pub(super) const RECORD: &[u8] = b"record";
pub(super) const RELEASED: &[u8] = b"released";
pub(super) const READY: &[u8] = b"ready";
pub(super) const GO: &[u8] = b"go";
pub(super) const KEPT: &[u8] = b"kept";
pub(super) const TAKEN: &[u8] = b"taken";
pub(super) const NOT_TAKEN: &[u8] = b"not taken";

#[derive(Debug, thiserror::Error)]
enum HandoverError {
    #[error("it said {0:?} where something else is due")]
    Unexpected(String),
    #[error("it did not come as far as to serve: {}", came_of(.0))]
    Ended(#[from] io::Error),
    #[error("what it is to be given cannot be made here: {0}")]
    Here(#[source] io::Error),
    #[error(
        "it ended when it was to serve, and with it what came to be recorded meanwhile, which event.sequence lacks: {0}"
    )]
    EndedLate(#[source] io::Error),
    #[error("the record cannot be given to it: {0}")]
    Record(#[from] RecordError),
}

/// The process that is to take over. One that is let go before it has the place is told so: it is not to take the end of this
/// one, whenever that comes, for a word to serve.
struct Heir {
    stream: UnixStream,
    has_place: bool,
}

impl Drop for Heir {
    fn drop(&mut self) {
        if !self.has_place {
            // It may have ended.
            let _ = frames::send(&self.stream, KEPT, &[]);
        }
    }
}

fn came_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it stood still for too long".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => "it ended, and has said why".to_owned(),
        _ => error.to_string(),
    }
}

impl Server {
    /// Gives this process's place to the one at the other end. False: it has it still.
    pub(super) async fn hand_over(&mut self, stream: tokio::net::UnixStream, peer: &Peer) -> bool {
        if let Some(trial) = &self.trial {
            let refusal = Refusal::new(Word::OnTrial, format!("{trial}: confirm it or roll it back first"));
            self.desk.refuse_place(&stream, peer, refusal);
            return false;
        }
        self.desk.grant_place(peer);
        let who = peer.process.map_or_else(|| "a process".to_owned(), |process| format!("process {process}"));
        match self.give(stream).await {
            Ok((heir, questions)) => {
                tracing::info!("{who} has taken over");
                self.move_out(heir, questions);
                true
            }
            Err(error) => {
                let what = format!("{who} wanted to take over, and this one goes on: {error}");
                tracing::error!("{what}");
                tell(&self.gate, Lifecycle::TakeoverFailed, &what);
                false
            }
        }
    }

    /// Everything up to the answer that it may serve: the way to it, and the way its questions come.
    async fn give(&self, stream: tokio::net::UnixStream) -> Result<(Heir, UnixStream), HandoverError> {
        let sockets = self.sockets().map_err(|error| {
            let refusal = Refusal::new(Word::Busy, format!("its listening sockets cannot be given away: {error}"));
            // The first that is said to it, for which there is room.
            let _ = stream.try_write(&answer::<Done>(Err(refusal)));
            HandoverError::Here(error)
        })?;
        let heir = Heir { stream: stream.into_std().map_err(HandoverError::Here)?, has_place: false };
        heir.stream.set_nonblocking(false).map_err(HandoverError::Here)?;
        heir.stream.set_read_timeout(Some(STEP)).map_err(HandoverError::Here)?;
        heir.stream.set_write_timeout(Some(STEP)).map_err(HandoverError::Here)?;
        let place = Place {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            sockets: sockets.len(),
            watchdog: feeds_watchdog(),
        };
        let heir = blocking(move || offer(heir, place, &sockets)).await?;
        // Before the record is lent: what fails now leaves it as it is.
        let pair = || UnixStream::pair().map_err(HandoverError::Here);
        let ((lines, to_lines), (questions, to_questions)) = (pair()?, pair()?);
        let recorder = self.gate.recorder();
        let record = recorder.release().await?;
        let lent = [to_lines.into(), to_questions.into(), record];
        match blocking(move || lend(heir, lent)).await {
            Ok(mut heir) => {
                if let Err(error) = recorder.forward(lines).await {
                    recorder.reclaim().await;
                    return Err(error.into());
                }
                let go = blocking(move || {
                    frames::send(&heir.stream, GO, &[]).map_err(HandoverError::EndedLate)?;
                    heir.has_place = true;
                    Ok(heir)
                });
                Ok((go.await?, questions))
            }
            Err(error) => {
                recorder.reclaim().await;
                Err(error)
            }
        }
    }

    /// Every socket that is accepted on.
    fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let single = [&self.admin, &self.pac].into_iter().flatten().map(|(_, serving)| serving);
        self.listeners.values().chain(single).flat_map(|serving| serving.sockets()).map(OwnedFd::try_clone).collect()
    }

    fn move_out(&mut self, heir: Heir, questions: UnixStream) {
        if let Ok(other) = socket_peercred(&heir.stream) {
            tell_systemd(&[NotifyState::MainPid(other.pid.as_raw_nonzero().get().unsigned_abs())]);
        }
        self.tending.drain(..).for_each(|task| task.abort());
        let (mover, handed) = mpsc::channel(ON_THE_WAY);
        let carrier = thread::Builder::new().name("handover".to_owned()).spawn(move || carry(&heir.stream, handed));
        if let Err(error) = &carrier {
            tracing::error!(%error, "the tunnels cannot be handed over, and end with this process");
        }
        self.accepting.spawn(answer_successor(questions, Arc::clone(&self.desk)));
        self.gate.move_out(carrier.is_ok().then_some(mover));
        self.end_changes();
        self.listeners.clear();
        (self.admin, self.pac) = (None, None);
        // It is answered to the end; the other puts its own in the place when it serves.
        if let Some((file, _)) = &self.control {
            file.give_up();
        }
    }
}

async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, HandoverError> + Send + 'static,
) -> Result<T, HandoverError> {
    aside(step).await.map_err(HandoverError::Here)?
}

/// The answer, the sockets, and the other's word that it has them.
fn offer(heir: Heir, place: Place, sockets: &[OwnedFd]) -> Result<Heir, HandoverError> {
    io::Write::write_all(&mut &heir.stream, &answer(Ok(place)))?;
    for some in sockets.chunks(MOST_DESCRIPTORS) {
        let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
        frames::send(&heir.stream, SOCKETS, &some)?;
    }
    expect(&heir.stream, RECORD)?;
    Ok(heir)
}

/// The ways by which lines go to it and its questions come, the record's file, and its word that it can serve.
fn lend(heir: Heir, lent: [OwnedFd; 3]) -> Result<Heir, HandoverError> {
    frames::send(&heir.stream, RELEASED, &lent.each_ref().map(AsFd::as_fd))?;
    heir.stream.set_read_timeout(Some(LAST_STEP))?;
    expect(&heir.stream, READY)?;
    // A process that is gone is noticed without; of one that hangs nothing is certain.
    heir.stream.set_read_timeout(None)?;
    Ok(heir)
}

fn expect(stream: &UnixStream, word: &[u8]) -> Result<(), HandoverError> {
    let (said, _) = frames::receive(stream)?;
    if said == word { Ok(()) } else { Err(HandoverError::Unexpected(String::from_utf8_lossy(&said).into_owned())) }
}

/// Carries tunnels over, one after the other, until this process ends or the other does.
fn carry(stream: &UnixStream, mut handed: mpsc::Receiver<Handed>) {
    while let Some(handed) = handed.blocking_recv() {
        let Some((parcel, taken)) = handed.send() else { continue };
        let sockets = parcel.sockets().map(AsFd::as_fd);
        let answer = frames::send(stream, &parcel.octets(), &sockets).and_then(|()| frames::receive(stream));
        // Whoever waits may have been cut.
        let _ = taken.send(matches!(&answer, Ok((said, _)) if said == TAKEN));
        if let Err(error) = answer {
            tracing::error!(%error, "the process that took over takes no more tunnels: they end with this one");
            return;
        }
    }
}
