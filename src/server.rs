//! The service around the spine: bind, accept, spawn, reload, drain. Knows no protocol.

mod accept;
mod bind;
mod days;
mod enforce;
mod fit;
mod inherited;
mod minting;
mod restricted;
mod signals;
mod systemd;
mod watch;
mod workers;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use self::accept::accept;
use self::bind::{Bound, Held};
use self::days::Days;
use self::enforce::enforce;
pub use self::fit::fit_connections;
pub use self::inherited::Inherited;
pub use self::minting::Minting;
use self::minting::end_of;
use self::restricted::GivenUp;
use self::signals::{Asked, Signals};
use self::systemd::{feed_watchdog, tell_systemd};
use self::watch::watch;
use self::workers::Workers;
use crate::addrs::ListenAddr;
use crate::admin;
use crate::autoconfig;
use crate::config::{self, Config, Listener, LoadError, Scope};
use crate::connection::{Gate, Live};
use crate::drain::Stopper;
use crate::inspect::question::Source;
use crate::minter::{Minter, TakeUpError};
use crate::pressure;
use crate::probe::{Probe, ProbeError};
use crate::proof;
use crate::record::{Fields, Lifecycle, Recorder};
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
    #[error(
        "socket {number} of those the service manager hands over (LISTEN_FDS) cannot be used: {source}: the socket unit is for ListenStream= of TCP alone"
    )]
    Inherited { number: usize, source: io::Error },
    #[error(
        "the service manager hands over a socket that listens on {address}, and no [[listener]], [admin] or [pac] has this address: correct the socket unit or the configuration"
    )]
    Unasked { address: ListenAddr },
    #[error("{0}")]
    Record(#[from] crate::record::RecordError),
    #[error("the configuration could not be read: {0}")]
    Loading(tokio::task::JoinError),
    #[error("cannot install signal handlers: {0}")]
    Signals(io::Error),
    #[error("cannot start the threads that serve connections: {0}")]
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
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: find it with `ss -ltnp`, or choose another port",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: see `ip addr`, or listen on 0.0.0.0",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE: choose one above",
        _ => "is another program there, or the address not this machine's?",
    }
}

/// A running service.
pub struct Server {
    gate: Arc<Gate>,
    health: Arc<Health>,
    stopper: Stopper,
    signals: Signals,
    file: PathBuf,
    workers: Workers,
    /// Each with the tasks that accept on it, one for each worker.
    listeners: HashMap<Listener, Vec<AbortHandle>>,
    admin: Option<(ListenAddr, AbortHandle)>,
    pac: Option<(ListenAddr, AbortHandle)>,
    /// What was asked of the PAC listeners, over reloads.
    scripts: Arc<autoconfig::Counts>,
    proof: Arc<proof::Standing>,
    accepting: JoinSet<()>,
    /// `None`: the issuing key is in this process, or nowhere.
    minter: Option<Minter>,
    scope: Scope,
    restriction: Arc<Restriction>,
}

impl Server {
    /// Opens the record, binds every listener that is not inherited and begins to accept.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left running.
    pub async fn start(
        mut config: Config,
        mut inherited: Inherited,
        minting: Minting,
        restriction: Restriction,
    ) -> Result<Self, ServerError> {
        let (scope, minter) = match minting {
            Minting::Here => (Scope::Full, None),
            Minting::Nowhere => (Scope::WithoutIssuingKey, None),
            Minting::Elsewhere(minter, taken_up) => {
                minter.keep(Some(&taken_up)).await;
                config.issuing = Some(taken_up.issuer);
                (Scope::WithoutIssuingKey, Some(minter))
            }
        };
        let file = config.file.clone();
        let (stopper, drain) = Stopper::new();
        let signals = Signals::new()?;
        let health = Arc::new(Health::default());
        if minter.is_some() {
            health.minting_began();
        }
        let workers = Workers::start().map_err(ServerError::Threads)?;
        let bound = Bound::new(&config, &workers, &HashMap::new(), Held::default(), &mut inherited)?;
        inherited.all_taken()?;
        let recorder = Recorder::start(config.record.clone(), about(&config))?;
        let gate = Gate::new(Live::new(config, None), recorder, drain);
        let memory = gate.pressure().memory();
        if memory.budget() < LEAST_MEMORY {
            return Err(ServerError::Memory { ceiling: memory.ceiling(), baseline: memory.baseline() });
        }
        let probe = Probe::new(&gate, workers.handles(), Arc::clone(&health))?;
        let mut server = Self {
            gate,
            health,
            stopper,
            signals,
            file,
            workers,
            listeners: HashMap::new(),
            admin: None,
            pac: None,
            scripts: Arc::default(),
            proof: Arc::default(),
            accepting: JoinSet::new(),
            minter,
            scope,
            restriction: Arc::new(restriction),
        };
        server.look_after();
        server.accept_on(bound);
        server.accepting.spawn(probe.run(feed_watchdog));
        server.health.started();
        server.record_problems();
        server.tell_restriction();
        tracing::info!(revision = %server.gate.live().config.revision, "ready");
        Ok(server)
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Runs until a signal ends it: SIGHUP reloads, SIGUSR1 reopens the record, SIGTERM or SIGINT drains, a second one cuts.
    ///
    /// # Errors
    /// The minting process has ended, and this one with it, in the same order as after a signal.
    pub async fn run(mut self) -> Result<(), ServerError> {
        tell_systemd(&[NotifyState::Ready]);
        let mut days = Days::new(self.gate.live().config.approvals.day);
        let mut minter = self.minter.clone();
        let ended = loop {
            let asked = tokio::select! {
                asked = self.signals.next() => asked,
                today = days.next() => Asked::Look(today),
                how = end_of(minter.as_mut()) => break Err(self.minting_ended(how)),
            };
            match asked {
                Asked::Reload => {
                    if self.reload().await {
                        days.loaded(self.gate.live().config.approvals.day);
                    }
                }
                Asked::Reopen => self.reopen().await,
                Asked::Look(today) => days.look(&self.gate, today),
                Asked::Stop => break Ok(()),
            }
        };
        self.stop().await;
        ended
    }

    /// Takes up the file as it is now and says so; or keeps everything as it was and says that everywhere.
    pub async fn reload(&mut self) -> bool {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell_systemd(&[NotifyState::Reloading, now]);
        }
        let reloaded = self.try_reload().await;
        let taken_up = reloaded.is_ok();
        match reloaded {
            Ok(revision) => {
                self.health.reloaded();
                tracing::info!(%revision, "reloaded");
                self.gate.recorder().lifecycle(Lifecycle::Reload, about(&self.gate.live().config));
                self.record_problems();
            }
            Err(error) => {
                let why = error.to_string();
                tracing::error!("reload failed, the old configuration stays in force: {why}");
                self.health.reload_failed(why.clone());
                let mut fields = about(&self.gate.live().config);
                fields.message = Some(why.as_str().into());
                self.gate.recorder().lifecycle(Lifecycle::ReloadFailed, fields);
            }
        }
        tell_systemd(&[NotifyState::Ready]);
        taken_up
    }

    /// What is not as it should be in the configuration that is now in force.
    fn record_problems(&self) {
        let live = self.gate.live();
        for warning in &live.config.warnings {
            let mut fields = about(&live.config);
            fields.message = Some(warning.to_string().as_str().into());
            self.gate.recorder().lifecycle(Lifecycle::ConfigProblem, fields);
        }
    }

    /// For logrotate: the record goes on in a new file, nothing else changes.
    async fn reopen(&self) {
        match self.gate.recorder().reopen().await {
            Ok(()) => tracing::info!("record reopened"),
            Err(error) => tracing::error!("the record goes on in the old file: {error}"),
        }
    }

    async fn try_reload(&mut self) -> Result<Arc<str>, ServerError> {
        let (file, scope) = (Source::File.path(&self.file), self.scope);
        // It reads files: not on a thread that serves connections.
        let loading = tokio::task::spawn_blocking(move || config::load(&file, scope, SystemTime::now()));
        let loaded = loading.await.map_err(ServerError::Loading)?;
        let mut config = loaded.map_err(|error| self.explained(error))?;
        self.needs_nothing_given_up(&config)?;
        let taken_up = self.take_up(&mut config, Source::File).await?;
        fit_connections(&mut config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let held = |listener: &Option<(ListenAddr, AbortHandle)>| listener.as_ref().map(|(address, _)| *address);
        let held = Held { admin: held(&self.admin), pac: held(&self.pac) };
        let bound = Bound::new(&config, &self.workers, &self.listeners, held, &mut Inherited::default())?;
        let (wanted, admin, pac) =
            (config.listeners.clone(), config.admin, config.pac.as_ref().and_then(|pac| pac.address));
        let record = config.record.clone();
        let live = Live::new(config, Some(&self.gate.live()));
        self.gate.recorder().reconfigure(record).await?;
        let revision = Arc::clone(&live.config.revision);
        self.gate.replace(live);
        if let Some(minter) = &self.minter {
            minter.keep(taken_up.as_ref()).await;
        }
        self.listeners.retain(|listener, accepting| {
            let kept = wanted.contains(listener);
            if !kept {
                accepting.iter().for_each(AbortHandle::abort);
            }
            kept
        });
        for (held, wanted) in [(&mut self.admin, admin), (&mut self.pac, pac)] {
            if let Some((_, serving)) = held.take_if(|(address, _)| Some(*address) != wanted) {
                serving.abort();
            }
        }
        self.accept_on(bound);
        Ok(revision)
    }

    /// The tasks that know how hard pressed the service is, and how long it is observed.
    fn look_after(&mut self) {
        for worker in self.workers.handles() {
            let pulse = self.gate.pressure().pulse();
            self.accepting.spawn_on(async move { pulse.beat().await }, worker);
        }
        self.accepting.spawn(watch(Arc::clone(&self.gate)));
        self.accepting.spawn(enforce(Arc::clone(&self.gate)));
        self.accepting.spawn(proof::keep_proving(Arc::clone(&self.gate), Arc::clone(&self.proof)));
    }

    fn accept_on(&mut self, bound: Bound) {
        for (listener, sockets) in bound.proxying {
            let each = self.workers.handles().cycle().zip(sockets);
            let accepting = each.map(|(worker, socket)| {
                self.accepting.spawn_on(accept(socket, listener, Arc::clone(&self.gate)), worker)
            });
            self.listeners.insert(listener, accepting.collect());
            tracing::info!(address = %listener.address, mode = listener.mode.as_str(), "listening");
        }
        if let Some((address, listener)) = bound.admin {
            let views = admin::Views {
                health: Arc::clone(&self.health),
                gate: Arc::clone(&self.gate),
                scripts: Arc::clone(&self.scripts),
                proof: Arc::clone(&self.proof),
                restriction: Arc::clone(&self.restriction),
            };
            self.admin = Some((address, self.accepting.spawn(admin::serve(listener, views))));
            tracing::info!(%address, "admin listening");
        }
        if let Some((address, listener)) = bound.pac {
            let serving = autoconfig::serve(listener, Arc::clone(&self.gate), Arc::clone(&self.scripts));
            self.pac = Some((address, self.accepting.spawn(serving)));
            tracing::info!(%address, "PAC listening");
        }
    }

    /// Not ready, listeners closed, requests finish; at `drain`, or at a second signal, the rest is cut.
    async fn stop(mut self) {
        let limit = self.gate.live().config.drain;
        tracing::info!(?limit, connections = self.gate.connections(), "draining");
        tell_systemd(&[NotifyState::Stopping]);
        self.stopper.drain();
        for accepting in self.listeners.values().flatten().chain(self.pac.iter().map(|(_, serving)| serving)) {
            accepting.abort();
        }
        tokio::select! {
            () = self.gate.idle() => {}
            () = sleep(limit) => tracing::warn!(connections = self.gate.connections(), "drain time is over, cutting the rest"),
            () = self.signals.stop() => tracing::warn!(connections = self.gate.connections(), "second signal, cutting the rest"),
        }
        self.shut_down().await;
    }

    /// Ends what still runs and writes the record out.
    pub async fn shut_down(mut self) {
        self.stopper.cut();
        let deadline = Instant::now() + Duration::from_secs(2);
        if timeout_at(deadline, self.gate.idle()).await.is_err() {
            tracing::error!(connections = self.gate.connections(), "connections that would not end");
        }
        self.accepting.shutdown().await;
        let recorder = self.gate.recorder().clone();
        match tokio::task::spawn_blocking(move || recorder.shutdown(RECORD_END)).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(error) => tracing::error!(%error, "the record was not closed in order"),
        }
    }
}

/// What every lifecycle line says.
fn about(config: &Config) -> Fields {
    let mut fields = Fields::default();
    fields.config_revision = Some((&*config.revision).into());
    fields.version = Some(env!("CARGO_PKG_VERSION"));
    fields
}
