//! The service's end of the control socket: who asks, whether he may, and what the answer is. Changes go on to the task that reloads.
//!
//! Every request leaves a line in the record, refused ones too. A peer that has no role is told so before anything of it is read, and its
//! lines are one a second at most, so that who may not ask cannot fill the record either.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustix::process::geteuid;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::about;
use crate::admin::{Views, readiness};
use crate::config::{Config, hexadecimal};
use crate::connection::{Session, Wanted, Whom};
use crate::control::Settings;
use crate::control::accounts::Accounts;
use crate::control::protocol::{
    Ask, Done, ListenerStatus, MAX_REQUEST, PAGE, Page, RecordStatus, Refusal, SessionRow, Status, TrialStatus, Word,
    answer, read_request,
};
use crate::control::role::{Peer, Role};
use crate::control::socket::{self, SocketError, SocketFile, Successor};
use crate::record::{EventId, Lifecycle, State, UserId, WhenUnwritable};

/// Where the machine keeps its users and groups.
const ETC: &str = "/etc";
/// From the first octet of a request to its last.
const REQUEST: Duration = Duration::from_secs(5);
/// For a whole answer to be taken.
const ANSWER: Duration = Duration::from_secs(10);
/// Conversations at a time: of one user, of all, and of all with those that are kept for root and the service's own user.
const OF_ONE: usize = 8;
const OF_ALL: usize = 48;
const WITH_RESERVE: usize = 64;
/// How often a user without a role is recorded, and of how many users that is remembered.
const COMPLAINT: Duration = Duration::from_secs(1);
const COMPLAINERS: usize = 64;

/// What a request asks of the task that reloads.
pub(super) enum Change {
    Reload { revision: String },
    Trial { revision: String, seconds: u64 },
    Confirm { revision: String },
    Rollback,
}

/// A change, and who waits for what becomes of it.
pub(super) struct Command {
    pub(super) change: Change,
    pub(super) peer: Peer,
    pub(super) reply: oneshot::Sender<Result<Done, Refusal>>,
}

/// What is in force, beside the configuration itself.
pub(super) struct InForce {
    /// Taken up then.
    pub(super) since: SystemTime,
    pub(super) trial: Option<OnTrial>,
}

pub(super) struct OnTrial {
    pub(super) revision: Arc<str>,
    pub(super) ends: Instant,
    pub(super) until: SystemTime,
    pub(super) by: String,
}

/// What requests are answered from.
pub(super) struct Desk {
    views: Views,
    began: SystemTime,
    pub(super) in_force: ArcSwap<InForce>,
    commands: mpsc::Sender<Command>,
    held: Mutex<HashMap<u32, usize>>,
    complaints: Mutex<HashMap<u32, (Instant, u64)>>,
}

/// The control socket as a configuration wants it.
pub(super) enum Opened {
    None,
    /// It is open already.
    Same,
    New(PathBuf, UnixListener, SocketFile),
}

/// Opens the socket, unless `held` is its path.
///
/// # Errors
/// [`SocketError`].
pub(super) fn open(settings: Option<&Settings>, held: Option<&PathBuf>) -> Result<Opened, SocketError> {
    let Some(settings) = settings else { return Ok(Opened::None) };
    if held == Some(&settings.socket) {
        socket::set_mode(&settings.socket, settings.mode())?;
        return Ok(Opened::Same);
    }
    let (listener, file) = socket::listen(&settings.socket, settings.mode(), Successor::No)?;
    let listener = UnixListener::from_std(listener);
    let listener = listener.map_err(|source| SocketError::Bind { path: settings.socket.clone(), source })?;
    Ok(Opened::New(settings.socket.clone(), listener, file))
}

/// Serves until it is aborted; its conversations and its file end with it.
pub(super) async fn serve(listener: UnixListener, _file: SocketFile, desk: Arc<Desk>) {
    let mut conversations = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "control accept failed");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        conversations.spawn(converse(stream, Arc::clone(&desk)));
        while conversations.try_join_next().is_some() {}
        // As long as too many are there, the rest waits in the kernel's queue.
        if conversations.len() > 2 * WITH_RESERVE {
            conversations.join_next().await;
        }
    }
}

/// One request and its answer.
async fn converse(mut stream: UnixStream, desk: Arc<Desk>) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let user = credentials.uid();
    let Some(_place) = desk.place(user) else {
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
    let own = geteuid().as_raw();
    let role = settings.and_then(|settings| peer.role(&settings, own, &accounts));
    let line = match role {
        None => desk.turn_away(&peer),
        Some(role) => match timeout(REQUEST, request(&mut stream)).await {
            // It has gone without asking for anything, or could not in time.
            Err(_) | Ok(None) => return,
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

/// A conversation's place, given back when it is dropped.
struct Place<'a> {
    desk: &'a Desk,
    user: u32,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.desk.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = held.get_mut(&self.user) {
            *number -= 1;
            if *number == 0 {
                held.remove(&self.user);
            }
        }
    }
}

impl Desk {
    pub(super) fn new(views: Views) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(1);
        let began = SystemTime::now();
        let in_force = ArcSwap::from_pointee(InForce { since: began, trial: None });
        let (held, complaints) = Default::default();
        (Arc::new(Self { views, began, in_force, commands, held, complaints }), receiver)
    }

    fn place(&self, user: u32) -> Option<Place<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = user == 0 || user == geteuid().as_raw();
        let all: usize = held.values().sum();
        let number = held.entry(user).or_default();
        let (of_one, of_all) = if own { (WITH_RESERVE, WITH_RESERVE) } else { (OF_ONE, OF_ALL) };
        if *number >= of_one || all >= of_all {
            if *number == 0 {
                held.remove(&user);
            }
            return None;
        }
        *number += 1;
        Some(Place { desk: self, user })
    }

    /// Who has no role is recorded once a second at most, with how often he came meanwhile.
    fn turn_away(&self, peer: &Peer) -> Vec<u8> {
        self.views.health.asked(false);
        let now = Instant::now();
        let more = {
            let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
            if complaints.len() >= COMPLAINERS && !complaints.contains_key(&peer.user) {
                complaints.retain(|_, (at, _)| now.duration_since(*at) < COMPLAINT);
            }
            let crowded = complaints.len() >= COMPLAINERS && !complaints.contains_key(&peer.user);
            match complaints.entry(if crowded { u32::MAX } else { peer.user }) {
                Entry::Vacant(vacant) => {
                    vacant.insert((now, 0));
                    Some(0)
                }
                Entry::Occupied(mut known) => {
                    let (at, more) = known.get_mut();
                    if now.duration_since(*at) < COMPLAINT {
                        *more += 1;
                        None
                    } else {
                        *at = now;
                        Some(std::mem::take(more))
                    }
                }
            }
        };
        let message = format!("{peer} is neither a viewer nor an operator");
        if let Some(more) = more {
            let since =
                if more > 0 { format!(", and {more} times more since the last such line") } else { String::new() };
            self.record(Lifecycle::ControlRefused, &format!("{message}{since}"), peer, None);
        }
        let hint = "be root, or of the group [control] viewers or operators";
        answer::<Done>(Err(Refusal::new(Word::NotPermitted, format!("{message}: {hint}"))))
    }

    async fn answer(&self, line: &[u8], peer: &Peer, role: Role) -> Vec<u8> {
        let asked = if line.len() > MAX_REQUEST {
            Err(Refusal::new(Word::Malformed, format!("no request: more than {MAX_REQUEST} octets")))
        } else {
            read_request(line)
        };
        let word = asked.as_ref().ok().map(Ask::word);
        let permitted = asked.and_then(|ask| match role >= Role::for_asking(&ask) {
            true => Ok(ask),
            false => {
                let message = format!("{peer} is a {} and may not {}", role.as_str(), ask.word());
                Err(Refusal::new(Word::NotPermitted, message))
            }
        });
        let outcome = match permitted {
            Ok(ask) => self.carry_out(ask, peer).await,
            Err(refusal) => Err(refusal),
        };
        self.views.health.asked(outcome.is_ok());
        match outcome {
            Ok((what, line)) => {
                self.record(Lifecycle::Control, &format!("{peer}: {what}"), peer, word);
                line
            }
            Err(refusal) => {
                self.record(Lifecycle::ControlRefused, &format!("{peer}: {refusal}"), peer, word);
                answer::<Done>(Err(refusal))
            }
        }
    }

    /// What was done, for the record, and the line of the answer.
    async fn carry_out(&self, ask: Ask, peer: &Peer) -> Result<(String, Vec<u8>), Refusal> {
        let change = match ask {
            Ask::Status {} => return Ok(("asked for the status".to_owned(), answer(Ok(self.status())))),
            Ask::Sessions { client, service, after } => {
                let of = |what: &str, whom: &Option<String>| whom.as_ref().map(|whom| format!(" of {what} {whom:?}"));
                let of = [of("client", &client), of("service", &service)].into_iter().flatten().collect::<String>();
                let page = self.sessions(client, service, after)?;
                let what = format!("listed {} sessions{of}", page.sessions.len());
                return Ok((what, answer(Ok(page))));
            }
            Ask::Cut { id } => {
                let message = self.cut(&id)?;
                let revision = self.views.gate.live().config.revision.to_string();
                return Ok((message.clone(), answer(Ok(Done { message, revision }))));
            }
            Ask::Reload { revision } => Change::Reload { revision },
            Ask::Trial { revision, seconds } => Change::Trial { revision, seconds },
            Ask::Confirm { revision } => Change::Confirm { revision },
            Ask::Rollback {} => Change::Rollback,
        };
        let stopping = || Refusal::new(Word::Busy, "the service is stopping: nothing is changed any more");
        let (reply, done) = oneshot::channel();
        let command = Command { change, peer: peer.clone(), reply };
        self.commands.send(command).await.map_err(|_| stopping())?;
        let done = done.await.map_err(|_| stopping())??;
        Ok((done.message.clone(), answer(Ok(done))))
    }

    fn status(&self) -> Status {
        let Views { health, gate, .. } = &self.views;
        let (live, in_force) = (gate.live(), self.in_force.load());
        let Config { listeners, admin, pac, record, .. } = &live.config;
        let (http, body) = readiness(&self.views);
        let (assessment, _) = gate.pressure().last();
        let (numbers, snapshot) = (gate.sessions().numbers(), gate.recorder().snapshot());
        let (reloads, failed_reloads) = health.reloads();
        let listener = |listener: &crate::config::Listener| ListenerStatus {
            address: listener.address.to_string(),
            mode: listener.mode.as_str().to_owned(),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: stamp(self.began),
            revision: live.config.revision.to_string(),
            revision_since: stamp(in_force.since),
            file: absolute(&live.config.file),
            text_sha256: hexadecimal(&live.config.text_sha256),
            ready: http.is_success(),
            readiness: body.lines().map(str::to_owned).collect(),
            degraded: health.degraded().or_else(|| health.last_good()).map(|why| why.to_string()),
            trial: in_force.trial.as_ref().map(|trial| TrialStatus {
                revision: trial.revision.to_string(),
                until: stamp(trial.until),
                seconds_left: trial.ends.saturating_duration_since(Instant::now()).as_secs(),
                by: trial.by.clone(),
            }),
            last_good: health.last_good().is_some(),
            listeners: listeners.iter().map(listener).collect(),
            admin: admin.map(|address| address.to_string()),
            pac: pac.as_ref().and_then(|pac| pac.address).map(|address| address.to_string()),
            connections: gate.connections() as u64,
            tunnels: numbers.tunnels,
            inspected: numbers.inspected,
            plain: numbers.plain,
            pressure: assessment.state().as_str().to_owned(),
            pressure_cause: assessment.cause().map(|cause| cause.as_str().to_owned()),
            record: RecordStatus {
                path: absolute(&record.path),
                writable: gate.recorder().state() == State::Writable,
                when_unwritable: match record.when_unwritable {
                    WhenUnwritable::Deny => "deny".to_owned(),
                    WhenUnwritable::Continue => "continue".to_owned(),
                },
                waiting: snapshot.queue_length as u64,
                lost: snapshot.lost,
            },
            reloads,
            failed_reloads,
        }
    }

    fn sessions(
        &self,
        client: Option<String>,
        service: Option<String>,
        after: Option<String>,
    ) -> Result<Page, Refusal> {
        let after = after.map(|after| identifier(&after)).transpose()?;
        let wanted = Wanted { client: client.as_deref().map(Whom::parse), service };
        let (sessions, more) = self.views.gate.sessions().page(&wanted, after, PAGE);
        let next = sessions.last().filter(|_| more).map(|session| session.id.to_string());
        Ok(Page { sessions: sessions.iter().map(|session| row(session)).collect(), next })
    }

    fn cut(&self, id: &str) -> Result<String, Refusal> {
        let Some(session) = self.views.gate.sessions().cut(identifier(id)?) else {
            let message = format!("no session {id}: it has ended, or never was one");
            return Err(Refusal::new(Word::NoSuchSession, message));
        };
        let to = session.authority.as_ref().map_or("an unknown destination", |authority| authority.as_str());
        Ok(format!("cut {}: {} of {} to {to}", session.id, session.mode(), session.client.ip()))
    }

    fn record(&self, kind: Lifecycle, message: &str, peer: &Peer, word: Option<&'static str>) {
        match kind {
            Lifecycle::ControlRefused => tracing::warn!("control: {message}"),
            _ => tracing::info!("control: {message}"),
        }
        let mut fields = about(&self.views.gate.live().config);
        fields.message = Some(message.into());
        fields.control = word;
        fields.user_id = Some(UserId(peer.user));
        fields.user_name = peer.name.as_deref().map(Into::into);
        fields.process = peer.process;
        self.views.gate.recorder().lifecycle(kind, fields);
    }
}

fn identifier(text: &str) -> Result<EventId, Refusal> {
    text.parse().map_err(|error| Refusal::new(Word::Malformed, format!("{text:?} is no session's identifier: {error}")))
}

fn row(session: &Session) -> SessionRow {
    let (sent, received) = session.octets();
    let text = |text: &Option<crate::record::Text>| text.as_ref().map(|text| text.as_str().to_owned());
    SessionRow {
        id: session.id.to_string(),
        at: stamp(session.at),
        source_ip: session.client.ip().to_string(),
        source_port: session.client.port(),
        client: text(&session.group),
        authority: session.authority.as_ref().map(|authority| authority.as_str().to_owned()),
        server_name: text(&session.server_name),
        service: text(&session.service),
        mode: session.mode().to_owned(),
        observed: session.observed,
        sent,
        received,
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// UTC, to the second (RFC 3339).
pub(super) fn stamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}
