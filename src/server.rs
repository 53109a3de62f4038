//! The service around the spine: bind, accept, spawn, reload, drain. Knows no protocol.

mod accept;
mod acquaintance;
mod before;
mod bind;
mod changes;
mod control;
mod crowd;
mod days;
mod desk;
mod enforce;
mod fit;
mod handover;
mod inherited;
mod minting;
mod reload;
mod restricted;
mod serving;
mod signals;
mod start;
mod systemd;
mod takeover;
mod watch;
mod workers;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use self::accept::accept;
use self::bind::{Bound, remedy};
use self::changes::{Trial, over};
use self::days::Days;
use self::desk::Desk;
use self::enforce::enforce;
pub use self::fit::fit_connections;
pub use self::inherited::Inherited;
use self::minting::end_of;
pub use self::minting::{Apart, Minting};
use self::restricted::GivenUp;
use self::serving::Serving;
pub use self::signals::Signals;
use self::signals::{Asked, Loading};
pub use self::systemd::keep_way_to_systemd;
use self::systemd::tell_systemd;
pub use self::takeover::{Predecessor, TakeoverError};
use self::watch::watch;
use self::workers::Workers;
use crate::addrs::ListenAddr;
use crate::admin;
use crate::aside::NO_THREAD;
use crate::autoconfig;
use crate::config::{Config, LastGood, Listener, LoadError, Scope};
use crate::connection::Gate;
use crate::control::protocol::Refusal;
use crate::control::role::Peer;
use crate::control::socket::SocketFile;
use crate::minter::{Minter, TakeUpError};
use crate::pressure;
use crate::probe::ProbeError;
use crate::proof;
use crate::record::{Fields, Lifecycle, UserId};
use crate::restrict::Restriction;
use crate::telemetry::Health;

/// How long writing out the record may take at the end.
const RECORD_END: Duration = Duration::from_secs(5);

/// Octets of memory that connections must have, for a service to be one.
const LEAST_MEMORY: u64 = 100 * pressure::NEWCOMER;

/// Why the service could not start, or not take up a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{0}")]
    Config(#[from] LoadError),
    #[error("cannot listen on {address}: {source} ({key}): {}", remedy(.source))]
    Bind { key: &'static str, address: ListenAddr, source: io::Error },
    #[error(
        "cannot listen on {address} with steering = \"tproxy\": {source}: it takes CAP_NET_ADMIN; steering = \"redirect\" takes nothing"
    )]
    Tproxy { address: ListenAddr, source: io::Error },
    #[error(
        "cannot listen on {address} while sekisho itself listens on {own}: restart it to change the address or mode of a port"
    )]
    OwnPort { address: ListenAddr, own: ListenAddr },
    #[error("{0} (control.socket)")]
    Control(#[from] crate::control::socket::SocketError),
    #[error("a trial cannot move control.socket or take it away: nobody could confirm it; apply it without --confirm")]
    TrialMovesControl,
    #[error(
        "it was read as revision {found} and not as {expected}: the file, one it names, or the version of sekisho is another \
         than for whoever checked it"
    )]
    AnotherRevision { found: Arc<str>, expected: String },
    #[error(
        "socket {number} of those the service manager hands over (LISTEN_FDS) cannot be used: {source}: correct the socket unit, which is for ListenStream= of TCP alone"
    )]
    Inherited { number: usize, source: io::Error },
    #[error(
        "the service manager hands over a socket that listens on {address}, and no [[listener]], [admin] or [pac] has this address{instead}: correct the socket unit or the configuration"
    )]
    Unasked { address: ListenAddr, instead: String },
    #[error(
        "--take-over asks the service that runs by its control socket, and the configuration has none: add [control] socket, and restart once"
    )]
    NoControl,
    #[error("the process that runs is not taken over from, and goes on: {0}")]
    Takeover(#[from] TakeoverError),
    #[error("{0}")]
    Record(#[from] crate::record::RecordError),
    #[error("the configuration could not be read: {0}")]
    Loading(io::Error),
    #[error("cannot install signal handlers: {0}")]
    Signals(io::Error),
    #[error("cannot start the threads that serve connections: {0}; {NO_THREAD}")]
    Threads(io::Error),
    #[error("{0}")]
    Probe(#[from] ProbeError),
    #[error("{0}")]
    TakeUp(#[from] TakeUpError),
    #[error("{0}")]
    GivenUp(#[from] GivenUp),
    #[error(
        "the minting process has ended ({0}): without it nothing new can be inspected, so the service stops and is to be started anew"
    )]
    MintingEnded(String),
    #[error(
        "limits.memory is {}, and {} are taken before the first connection: raise it, or the limit of the control group", pressure::shown(*.ceiling), pressure::shown(*.baseline)
    )]
    Memory { ceiling: u64, baseline: u64 },
    #[error(
        "{open} of the {limit} descriptors that this process may have are open before the first connection, more than half: raise \
         LimitNOFILE of the unit, or `ulimit -n`"
    )]
    Descriptors { open: u64, limit: u64 },
}

/// A running service.
pub struct Server {
    gate: Arc<Gate>,
    health: Arc<Health>,
    file: PathBuf,
    workers: Workers,
    listeners: HashMap<Listener, Serving>,
    admin: Option<(ListenAddr, Serving)>,
    pac: Option<(ListenAddr, Serving)>,
    /// Its file, and what serves it: dropped, nobody is taken up any more, and who is there gets his answer.
    control: Option<(Arc<SocketFile>, oneshot::Sender<()>)>,
    desk: Arc<Desk>,
    commands: mpsc::Receiver<Asked>,
    trial: Option<Arc<Trial>>,
    /// Where the configuration is kept that was taken up last.
    last_good: Option<LastGood>,
    /// What was asked of the PAC listeners, over reloads.
    scripts: Arc<autoconfig::Counts>,
    proof: Arc<proof::Standing>,
    /// Resolves when the process that was taken over from has ended.
    predecessor: Option<oneshot::Receiver<()>>,
    /// What another process does from when it takes over.
    tending: Vec<AbortHandle>,
    accepting: JoinSet<()>,
    /// `None`: the issuing key is in this process, or nowhere.
    minter: Option<Minter>,
    scope: Scope,
    restriction: Arc<ArcSwap<Restriction>>,
}

impl Server {
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Runs until a signal ends it: SIGHUP reloads, SIGUSR1 reopens the record, SIGTERM or SIGINT drains, a second one cuts.
    ///
    /// # Errors
    /// The minting process has ended, and this one with it, in the same order as after a signal.
    pub async fn run(mut self, mut signals: Signals) -> Result<(), ServerError> {
        tell_systemd(&[NotifyState::Ready]);
        let mut days = Days::new(self.gate.live().config.approvals.day);
        let mut minter = self.minter.clone();
        let ended = loop {
            let asked = tokio::select! {
                asked = signals.next() => asked,
                today = days.next() => Asked::Look(today),
                Some(asked) = self.commands.recv() => asked,
                () = over(self.trial.as_deref()) => Asked::Load(Loading::TrialOver),
                how = end_of(minter.as_mut()) => break Err(self.minting_ended(how)),
            };
            let loading = match asked {
                Asked::Load(loading) => loading,
                Asked::Place(stream, peer) => {
                    if self.hand_over(stream, &peer).await {
                        let limit = self.gate.live().config.drain;
                        self.empty(limit, &mut signals).await;
                        return Ok(());
                    }
                    continue;
                }
                Asked::Reopen => {
                    self.reopen().await;
                    continue;
                }
                Asked::Look(today) => {
                    days.look(&self.gate, today);
                    continue;
                }
                Asked::Stop => break Ok(()),
            };
            // It waits for files and for the minting process, and whoever wants the service to end does not.
            let changed = tokio::select! {
                changed = self.load(loading) => changed,
                () = signals.stop() => {
                    tracing::warn!("a reload is under way, and is given up");
                    break Ok(());
                }
            };
            if changed {
                days.loaded(self.gate.live().config.approvals.day);
            }
        };
        self.stop(&mut signals).await;
        ended
    }

    /// Whether another configuration is in force.
    async fn load(&mut self, loading: Loading) -> bool {
        match loading {
            Loading::Reload => self.reload().await,
            Loading::Change(command) => self.change(command).await,
            Loading::TrialOver => self.trial_over().await,
        }
    }

    /// The tasks that know how hard pressed the service is, and how long it is observed.
    fn look_after(&mut self) {
        for worker in self.workers.handles() {
            let pulse = self.gate.pressure().pulse();
            self.accepting.spawn_on(async move { pulse.beat().await }, worker);
        }
        self.accepting.spawn(watch(Arc::clone(&self.gate)));
        self.accepting.spawn(enforce(Arc::clone(&self.gate)));
        let proving = self.accepting.spawn(proof::keep_proving(Arc::clone(&self.gate), Arc::clone(&self.proof)));
        self.tending.push(proving);
    }

    fn accept_on(&mut self, bound: Bound) {
        for (listener, sockets) in bound.proxying {
            // Adopted sockets can be more than there are workers.
            let mut workers = self.workers.handles().cycle();
            let here = Handle::current();
            let serving = Serving::new(sockets, |socket| {
                let worker = workers.next().unwrap_or(&here);
                self.accepting.spawn_on(accept(socket, listener, Arc::clone(&self.gate)), worker)
            });
            self.listeners.insert(listener, serving);
            tracing::info!(address = %listener.address, mode = listener.mode.as_str(), "listening");
        }
        if let Some((address, sockets)) = bound.admin {
            let views = self.desk.views.clone();
            let serving = Serving::new(sockets, |socket| self.accepting.spawn(admin::serve(socket, views.clone())));
            self.admin = Some((address, serving));
            tracing::info!(%address, "admin listening");
        }
        if let Some((address, sockets)) = bound.pac {
            let serving = Serving::new(sockets, |socket| {
                let serving = autoconfig::serve(socket, Arc::clone(&self.gate), Arc::clone(&self.scripts));
                self.accepting.spawn(serving)
            });
            self.pac = Some((address, serving));
            tracing::info!(%address, "PAC listening");
        }
    }

    /// Not ready, listeners closed, requests finish; at `drain`, or at a second signal, the rest is cut.
    async fn stop(mut self, signals: &mut Signals) {
        let limit = self.gate.live().config.drain;
        tracing::info!(?limit, connections = self.gate.connections(), "draining");
        tell_systemd(&[NotifyState::Stopping]);
        self.end_changes();
        self.gate.begin_draining();
        self.listeners.clear();
        self.pac = None;
        self.empty(limit, signals).await;
    }

    /// Whoever asks for a change from here on is told that there will be none; status and sessions go on.
    fn end_changes(&mut self) {
        self.commands.close();
        while let Ok(asked) = self.commands.try_recv() {
            if let Asked::Place(stream, peer) = asked {
                self.desk.refuse_place(&stream, &peer, Refusal::stopping());
            }
        }
    }

    /// Waits for the connections to end, and ends what is left.
    async fn empty(mut self, limit: Duration, signals: &mut Signals) {
        let mut predecessor = self.predecessor.take();
        let over = async {
            // Its lines come by this process, and tunnels that it still hands over go on from here.
            if let Some(gone) = &mut predecessor {
                let _ = gone.await;
            }
            self.gate.idle().await;
        };
        tokio::select! {
            () = over => {}
            () = sleep(limit) => tracing::warn!(connections = self.gate.connections(), "drain time is over, cutting the rest"),
            () = signals.stop() => tracing::warn!(connections = self.gate.connections(), "second signal, cutting the rest"),
        }
        self.shut_down().await;
    }

    /// Ends what still runs and writes the record out.
    pub async fn shut_down(mut self) {
        self.gate.cut();
        let deadline = Instant::now() + Duration::from_secs(2);
        if timeout_at(deadline, self.gate.idle()).await.is_err() {
            tracing::error!(connections = self.gate.connections(), "connections that would not end");
        }
        self.accepting.shutdown().await;
        control::tell_turned_away(&self.desk, true);
        // Nothing of this process runs any more that could not wait.
        match self.gate.recorder().shutdown(RECORD_END) {
            Ok(()) => tracing::info!("stopped"),
            Err(error) => tracing::error!("{error}"),
        }
    }
}

/// What every lifecycle line says.
fn about(config: &Config) -> Fields {
    let mut fields = Fields::default();
    fields.config_revision = Some((&*config.revision).into());
    fields.rare.version = Some(env!("CARGO_PKG_VERSION"));
    fields
}

/// Has it in the record.
fn tell(gate: &Gate, kind: Lifecycle, message: &str) {
    tell_of(gate, kind, message, None, None);
}

/// The same of what somebody asked for, by this word.
fn tell_of(gate: &Gate, kind: Lifecycle, message: &str, peer: Option<&Peer>, word: Option<&'static str>) {
    let mut fields = about(&gate.live().config);
    fields.rare.message = Some(message.into());
    fields.rare.control = word;
    if let Some(peer) = peer {
        fields.rare.user_id = Some(UserId(peer.user));
        fields.rare.user_name = peer.name.as_deref().map(Into::into);
        fields.rare.process = peer.process;
    }
    gate.recorder().lifecycle(kind, fields);
}
