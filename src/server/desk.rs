//! What is answered on the control socket. Changes go on to the task that reloads.
//!
//! Every request leaves a line in the record, refused ones too, but where too many ask at once: those are counted alone.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::UnixStream;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::before::Before;
use super::changes::Trial;
use super::crowd::Crowd;
use super::signals::{Asked, Loading};
use super::tell_of;
use crate::admin::{Views, readiness};
use crate::aside::aside;
use crate::config::{Config, hexadecimal};
use crate::connection::{Session, Wanted, Whom};
use crate::control::protocol::{
    Ask, Done, Draining, ListenerStatus, MAX_REQUEST, PAGE, Page, RecordStatus, Refusal, SessionRow, Status,
    TrialStatus, Word, answer, read_request,
};
use crate::control::role::{Peer, Role};
use crate::control::{self, frames};
use crate::record::{EventId, Lifecycle, State, WhenUnwritable};

/// For a whole answer to be taken.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

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
    pub(super) trial: Option<Arc<Trial>>,
}

/// What requests are answered from.
pub(super) struct Desk {
    pub(super) views: Views,
    began: SystemTime,
    program: Option<String>,
    pub(super) in_force: ArcSwap<InForce>,
    /// The process that was taken over from, until it has ended.
    pub(super) before: ArcSwapOption<Before>,
    /// What that, and those before it, said last.
    pub(super) draining: ArcSwap<Vec<Draining>>,
    commands: mpsc::Sender<Asked>,
    pub(super) crowd: Arc<Crowd>,
}

impl Desk {
    pub(super) fn new(views: Views) -> (Arc<Self>, mpsc::Receiver<Asked>) {
        let (commands, receiver) = mpsc::channel(1);
        let began = SystemTime::now();
        let in_force = ArcSwap::from_pointee(InForce { since: began, trial: None });
        let program = control::program(Path::new("/proc/self/exe"));
        let (before, draining, crowd) = (ArcSwapOption::empty(), ArcSwap::default(), Arc::default());
        (Arc::new(Self { views, began, program, in_force, before, draining, commands, crowd }), receiver)
    }

    /// The answer to a request of who has this role.
    pub(super) async fn answer(&self, line: &[u8], peer: &Peer, role: Role) -> Vec<u8> {
        let asked = if line.len() > MAX_REQUEST {
            Err(Refusal::new(Word::Malformed, format!("no request: more than {MAX_REQUEST} octets")))
        } else {
            read_request(line)
        };
        let word = asked.as_ref().ok().map(Ask::word);
        let permitted = asked.and_then(|ask| match Role::for_asking(&ask) {
            due if role >= due => Ok(ask),
            due => {
                let message = format!("{} may not ask for {}: {} may", role.somebody(), ask.word(), due.somebody());
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

    /// The answer to the process that has taken over: what is still here, and the end of one of it.
    pub(super) async fn answer_successor(&self, line: &[u8]) -> Vec<u8> {
        let looked = match read_request(line) {
            Ok(ask) => self.look(&ask).await,
            Err(refusal) => Some(Err(refusal)),
        };
        match looked {
            Some(Ok((_, line))) => line,
            Some(Err(refusal)) => answer::<Done>(Err(refusal)),
            None => answer::<Done>(Err(Refusal::new(Word::NotPermitted, "another process has taken over"))),
        }
    }

    /// What was done, for the record, and the line of the answer. `None`: the task that reloads is to do it.
    async fn look(&self, ask: &Ask) -> Option<Result<(String, Vec<u8>), Refusal>> {
        match ask {
            Ask::Status {} => Some(Ok(("asked for the status".to_owned(), answer(Ok(self.status()))))),
            Ask::Sessions { client, service, .. } => {
                let of = |what: &str, whom: &Option<String>| whom.as_ref().map(|whom| format!(" of {what} {whom:?}"));
                let of = [of("client", client), of("service", service)].into_iter().flatten().collect::<String>();
                Some(self.sessions(ask).await.map(|page| {
                    let what = format!("listed {} sessions{of}", page.sessions.len());
                    (what, answer(Ok(page)))
                }))
            }
            Ask::Cut { id } => Some(self.cut(id).await.map(|message| {
                let revision = self.views.gate.live().config.revision.to_string();
                (message.clone(), answer(Ok(Done { message, revision })))
            })),
            Ask::Reload { .. }
            | Ask::Trial { .. }
            | Ask::Confirm { .. }
            | Ask::Rollback {}
            | Ask::Stderr {}
            | Ask::TakeOver {} => None,
        }
    }

    async fn carry_out(&self, ask: Ask, peer: &Peer) -> Result<(String, Vec<u8>), Refusal> {
        if let Some(looked) = self.look(&ask).await {
            return looked;
        }
        let change = match ask {
            Ask::Reload { revision } => Change::Reload { revision },
            Ask::Trial { revision, seconds } => Change::Trial { revision, seconds },
            Ask::Confirm { revision } => Change::Confirm { revision },
            Ask::Rollback {} => Change::Rollback,
            // Looked at above, or answered elsewhere.
            Ask::Status {} | Ask::Sessions { .. } | Ask::Cut { .. } | Ask::Stderr {} | Ask::TakeOver {} => {
                return Err(Refusal::new(Word::NotPermitted, "not asked in this way"));
            }
        };
        let (reply, done) = oneshot::channel();
        let command = Command { change, peer: peer.clone(), reply };
        self.commands.send(Asked::Load(Loading::Change(command))).await.map_err(|_| Refusal::stopping())?;
        let done = done.await.map_err(|_| Refusal::stopping())??;
        Ok((done.message.clone(), answer(Ok(done))))
    }

    /// The peer wants the place of this process.
    pub(super) async fn ask_place(&self, stream: UnixStream, peer: Peer) {
        if let Err(SendError(Asked::Place(stream, peer))) = self.commands.send(Asked::Place(stream, peer)).await {
            self.refuse_place(&stream, &peer, Refusal::stopping());
        }
    }

    /// The peer is given what it needs for that.
    pub(super) fn grant_place(&self, peer: &Peer) {
        self.views.health.asked(true);
        self.record(Lifecycle::Control, &format!("{peer}: wants to take over"), peer, Some(Ask::TakeOver {}.word()));
    }

    pub(super) fn refuse_place(&self, stream: &UnixStream, peer: &Peer, refusal: Refusal) {
        self.views.health.asked(false);
        let message = format!("{peer}: {refusal}");
        self.record(Lifecycle::ControlRefused, &message, peer, Some(Ask::TakeOver {}.word()));
        // The first that is said to it, for which there is room.
        let _ = stream.try_write(&answer::<Done>(Err(refusal)));
    }

    /// The peer is to say what it has to say where this process does.
    pub(super) async fn give_stderr(&self, stream: UnixStream, peer: &Peer) {
        self.views.health.asked(true);
        let what = format!("{peer}: got the standard error");
        self.record(Lifecycle::Control, &what, peer, Some(Ask::Stderr {}.word()));
        let revision = self.views.gate.live().config.revision.to_string();
        let line = answer(Ok(Done { message: "my standard error".to_owned(), revision }));
        let sending = aside(move || {
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(ANSWER))?;
            (&stream).write_all(&line)?;
            frames::send(&stream, b"stderr", &[io::stderr().as_fd()])
        });
        // Who asked may have gone.
        let _ = sending.await;
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
            program: self.program.clone(),
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
            draining: self.draining.load().to_vec(),
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

    /// Of this process and of those before it, in one order.
    async fn sessions(&self, ask: &Ask) -> Result<Page, Refusal> {
        let Ask::Sessions { client, service, after } = ask else { return Ok(Page::default()) };
        let after = after.as_deref().map(identifier).transpose()?;
        let wanted = Wanted { client: client.as_deref().map(Whom::parse), service: service.clone() };
        let before = self.before.load_full();
        let theirs = match &before {
            Some(before) => before.sessions(ask).await.map(|page| page.of(before.pid)),
            None => Some(Page::default()),
        };
        // Asked behind theirs: what comes over meanwhile is here.
        let (sessions, more) = self.views.gate.sessions().page(&wanted, after, PAGE);
        let next = sessions.last().filter(|_| more).map(|session| session.id.to_string());
        let ours = Page { sessions: sessions.iter().map(|session| row(session)).collect(), next, silent: Vec::new() };
        let silent = || before.iter().map(|before| before.pid).collect();
        Ok(ours.with(theirs.unwrap_or_else(|| Page { silent: silent(), ..Page::default() })))
    }

    async fn cut(&self, id: &str) -> Result<String, Refusal> {
        let identifier = identifier(id)?;
        if let Some(done) = self.cut_here(identifier) {
            return Ok(done);
        }
        let Some(before) = self.before.load_full() else {
            let message = format!("no session {id}: it has ended, or never was one");
            return Err(Refusal::new(Word::NoSuchSession, message));
        };
        let theirs = before.cut(id).await;
        if let Some(Ok(done)) = theirs {
            return Ok(done.message);
        }
        // It may have come over meanwhile.
        if let Some(done) = self.cut_here(identifier) {
            return Ok(done);
        }
        match theirs {
            Some(cut) => cut.map(|done| done.message),
            None => {
                let pid = before.pid;
                let silent = format!(
                    "process {pid}, which drains, does not answer: it may have it; `kill {pid}` ends all that it has"
                );
                Err(Refusal::new(Word::NoSuchSession, format!("no session {id} here, and {silent}")))
            }
        }
    }

    fn cut_here(&self, id: EventId) -> Option<String> {
        let session = self.views.gate.sessions().cut(id)?;
        let to = session.authority.as_ref().map_or("an unknown destination", |authority| authority.as_str());
        Some(format!("cut {}: {} of {} to {to}", session.id, session.mode(), session.client.ip()))
    }

    pub(super) fn record(&self, kind: Lifecycle, message: &str, peer: &Peer, word: Option<&'static str>) {
        match kind {
            Lifecycle::ControlRefused => tracing::warn!("control: {message}"),
            _ => tracing::info!("control: {message}"),
        }
        tell_of(&self.views.gate, kind, message, Some(peer), word);
    }
}

/// As it is shown; small letters too, as it may have been read out.
fn identifier(text: &str) -> Result<EventId, Refusal> {
    EventId::parse(&text.to_ascii_uppercase()).ok_or_else(|| {
        let message = format!("{text:?} is no session's identifier, such as 7ZK3-0Q9M-V2XD-TB61");
        Refusal::new(Word::Malformed, message)
    })
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
        process: None,
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
