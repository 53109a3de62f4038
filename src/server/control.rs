//! The service's end of the control socket: who asks, and whether he may.
//!
//! A peer that has no role is told so before anything of it is read, and its lines in the record are one a second at most, so that who
//! may not ask cannot fill the record either.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::crowd::WITH_RESERVE;
use super::desk::Desk;
use crate::control::Settings;
use crate::control::accounts::Accounts;
use crate::control::protocol::{Ask, Done, MAX_REQUEST, Refusal, Word, answer, read_request};
use crate::control::role::{Peer, Role};
use crate::control::socket::{self, SocketError, SocketFile, Successor};

/// Where the machine keeps its users and groups.
const ETC: &str = "/etc";
/// From the first octet of a request to its last.
const REQUEST: Duration = Duration::from_secs(5);
/// For a whole answer to be taken.
const ANSWER: Duration = Duration::from_secs(10);

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
    let mut conversations = JoinSet::new();
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
        conversations.spawn(converse(stream, Arc::clone(&desk)));
        while conversations.try_join_next().is_some() {}
        // As long as too many are there, the rest waits in the kernel's queue.
        if conversations.len() > 2 * WITH_RESERVE {
            conversations.join_next().await;
        }
    }
    drop((listener, file));
    let _ = timeout(ANSWER, async { while conversations.join_next().await.is_some() {} }).await;
}

/// One request and its answer.
async fn converse(mut stream: UnixStream, desk: Arc<Desk>) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let (user, own) = (credentials.uid(), geteuid().as_raw());
    let Some(_place) = desk.crowd.place(user, user == 0 || user == own) else {
        desk.views.health.asked(false);
        let refusal = Refusal::new(Word::Busy, "too many ask at once: try again");
        let _ = stream.try_write(&answer::<Done>(Err(refusal)));
        return;
    };
    let settings = desk.views.gate.live().config.control.clone();
    let process = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    let mut peer = Peer { user, name: None, group: credentials.gid(), process };
    let accounts = tokio::task::spawn_blocking(|| Accounts::read(Path::new(ETC))).await.map_err(std::io::Error::other);
    let accounts = accounts.flatten().unwrap_or_else(|error| {
        tracing::warn!("whose groups are not known is no member of any: {error}");
        Accounts::default()
    });
    peer.name = accounts.user_name(user).map(str::to_owned);
    let role = settings.and_then(|settings| peer.role(&settings, own, &accounts));
    let line = match role {
        None => desk.turn_away(&peer),
        Some(role) => match timeout(REQUEST, request(&mut stream)).await {
            // It has gone without asking for anything, or could not in time.
            Err(_) | Ok(None) => return,
            Ok(Some(line)) if matches!(read_request(&line), Ok(Ask::TakeOver {})) && role == Role::Itself => {
                return desk.ask_place(stream, peer).await;
            }
            Ok(Some(line)) => desk.answer(&line, &peer, role).await,
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
