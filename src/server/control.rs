//! The service's end of the control socket: who asks, and whether he may.
//!
//! A peer is known by the kernel's word as soon as it has connected. One that has no role, or of whose user too many are there, is told
//! so and let go at once: nothing of it is read or waited for, no task is begun for it, and its lines in the record are one a second at
//! most. So whoever is next is never kept waiting by those who may nothing.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::acquaintance::Acquaintance;
use super::crowd::Place;
use super::desk::{ANSWER, Desk};
use crate::control::Settings;
use crate::control::protocol::{Ask, MAX_REQUEST, read_request};
use crate::control::role::{Peer, Role};
use crate::control::socket::{self, SocketError, SocketFile, Successor};

/// From a connection to the last octet of its request.
const REQUEST: Duration = Duration::from_secs(2);

/// The control socket as a configuration wants it.
pub(super) enum Opened {
    None,
    /// It is open already, and is to have this mode.
    Same(u32),
    New(UnixListener, SocketFile),
}

/// Opens the socket, unless `held` is it and has its place still, in the place of another process's where this one is its `successor`.
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
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "control accept failed, and is tried again 20 times a second");
                }
                failing = true;
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        failing = false;
        // Bounded by the places.
        if let Some((peer, role, place)) = let_in(&stream, &desk, &mut acquaintance).await {
            conversations.spawn(converse(stream, Arc::clone(&desk), (peer, role), place));
        }
        while conversations.try_join_next().is_some() {}
    }
    drop((listener, file));
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
        (None, None) => drop(stream.try_write(&desk.turn_away(&peer))),
        (None, Some(_)) => drop(stream.try_write(&desk.busy())),
    }
    None
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
