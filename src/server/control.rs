//! The service's end of the control socket: who asks, and whether he may.
//!
//! A peer is known by the kernel's word as soon as it has connected. One that has no role, or of whose user too many are there, is told
//! so and let go at once: nothing of it is read or waited for, no task is begun for it, and its lines in the record are one a second at
//! most, the last of which comes by itself. So whoever is next is never kept waiting by those who may nothing.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::acquaintance::Acquaintance;
use super::crowd::Place;
use super::desk::{ANSWER, Desk};
use crate::control::Settings;
use crate::control::protocol::{Ask, Done, MAX_REQUEST, Refusal, Word, answer, read_request};
use crate::control::role::{Peer, Role};
use crate::control::socket::{self, SocketError, SocketFile, Successor};
use crate::record::Lifecycle;
use crate::sockets::Failures;

/// From a connection to the last octet of its request.
const REQUEST: Duration = Duration::from_secs(2);

/// The control socket as a configuration wants it.
pub(super) enum Opened {
    None,
    /// It is open already, and is to have this mode.
    Same(u32),
    New(UnixListener, SocketFile),
}

/// Opens the socket, unless `held` is it and has its place still. Where this process is another's `successor` it is put in that one's place
/// later.
///
/// # Errors
/// [`SocketError`].
pub(super) fn open(
    settings: Option<&Settings>,
    held: Option<&SocketFile>,
    successor: Successor,
) -> Result<Opened, SocketError> {
    let Some(settings) = settings else { return Ok(Opened::None) };
    if held.is_some_and(|held| held.path() == settings.socket && held.is_in_place()) {
        return Ok(Opened::Same(settings.mode()));
    }
    let (listener, file) = socket::listen(&settings.socket, settings.mode(), successor)?;
    let listener = UnixListener::from_std(listener);
    let listener = listener.map_err(|source| SocketError::Bind { path: settings.socket.clone(), source })?;
    Ok(Opened::New(listener, file))
}

/// Serves until the other end of `stopped` is gone. Then its file is removed, and who is there gets his answer: it may be that which took
/// the socket away.
pub(super) async fn serve(
    listener: UnixListener,
    file: Arc<SocketFile>,
    desk: Arc<Desk>,
    mut stopped: oneshot::Receiver<()>,
) {
    let (mut conversations, mut acquaintance) = (JoinSet::new(), Acquaintance::default());
    let mut failures = Failures::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = at(desk.crowd.due()) => {
                tell_turned_away(&desk, false);
                continue;
            }
            _ = &mut stopped => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if failures.are_new() {
                    tracing::warn!(%error, "control accept failed, and is tried again 20 times a second");
                }
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Bounded by the places.
        if let Some((peer, role, place)) = let_in(&stream, &desk, &mut acquaintance).await {
            conversations.spawn(converse(stream, Arc::clone(&desk), (peer, role), place));
        }
        while conversations.try_join_next().is_some() {}
    }
    drop((listener, file));
    tell_turned_away(&desk, true);
    let _ = timeout(ANSWER, async { while conversations.join_next().await.is_some() {} }).await;
}

/// Who may ask, and his place. `None`: he has his answer.
async fn let_in(stream: &UnixStream, desk: &Desk, acquaintance: &mut Acquaintance) -> Option<(Peer, Role, Place)> {
    let (credentials, service) = (stream.peer_cred().ok()?, geteuid().as_raw());
    let live = desk.views.gate.live();
    let (peer, role) = acquaintance.of(&credentials, live.config.control.as_ref(), service).await;
    let place = role.and_then(|role| Some((role, desk.crowd.place(peer.user, service)?)));
    match (place, role) {
        (Some((role, place)), _) => return Some((peer, role, place)),
        // A first answer always finds room in the socket.
        (None, None) => drop(stream.try_write(&turn_away(desk, &peer))),
        (None, Some(_)) => drop(stream.try_write(&busy(desk))),
    }
    None
}

/// The answer to one more of whom too many are there.
fn busy(desk: &Desk) -> Vec<u8> {
    desk.views.health.asked(false);
    answer::<Done>(Err(Refusal::new(Word::Busy, "too many ask at once: try again")))
}

/// The answer to who has no role. He is recorded at once, or behind others of his with how often he came.
fn turn_away(desk: &Desk, peer: &Peer) -> Vec<u8> {
    desk.views.health.asked(false);
    let message = format!("{peer} is neither a viewer nor an operator");
    if desk.crowd.complain(peer, Instant::now()) {
        desk.record(Lifecycle::ControlRefused, &message, peer, None);
    }
    let hint = "be root, or of the group [control] viewers or operators";
    answer::<Done>(Err(Refusal::new(Word::NotPermitted, format!("{message}: {hint}"))))
}

/// Records how often those came who have no role, where it is time to, or at the `end`.
pub(super) fn tell_turned_away(desk: &Desk, end: bool) {
    for (more, peer) in desk.crowd.complaints(Instant::now(), end) {
        let message =
            format!("{peer} is neither a viewer nor an operator, and came {more} times more since the last such line");
        desk.record(Lifecycle::ControlRefused, &message, &peer, None);
    }
}

/// At `due`, or never.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

/// One request and its answer.
async fn converse(mut stream: UnixStream, desk: Arc<Desk>, (peer, role): (Peer, Role), _place: Place) {
    let line = match timeout(REQUEST, request(&mut stream)).await {
        // It has gone without asking for anything, or could not in time.
        Err(_) | Ok(None) => return,
        Ok(Some(line)) => match (read_request(&line), role) {
            (Ok(Ask::TakeOver {}), Role::Itself) => return desk.ask_place(stream, peer).await,
            (Ok(Ask::Stderr {}), Role::Itself) => return desk.give_stderr(stream, &peer).await,
            _ => desk.answer(&line, &peer, role).await,
        },
    };
    let _ = timeout(ANSWER, async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    })
    .await;
}

/// One line, without its line break; what is longer than a request is cut there. `None`: nothing came.
async fn request(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut line = Vec::with_capacity(256);
    loop {
        let mut part = [0; 512];
        let room = (MAX_REQUEST + 1).saturating_sub(line.len()).min(part.len());
        let n = stream.read(part.get_mut(..room)?).await.ok()?;
        line.extend_from_slice(part.get(..n)?);
        if let Some(end) = line.iter().position(|octet| *octet == b'\n') {
            line.truncate(end);
            return Some(line);
        }
        if n == 0 {
            return (!line.is_empty()).then_some(line);
        }
    }
}
