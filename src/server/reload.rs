//! Another configuration is taken up: everything that can fail comes first, then it is in force as a whole.

use std::sync::Arc;
use std::time::SystemTime;

use sd_notify::NotifyState;

use super::bind::{Bound, Held};
use super::control;
use super::desk::InForce;
use super::serving::Serving;
use super::{Inherited, Server, ServerError, about, fit_connections, tell, tell_systemd};
use crate::addrs::ListenAddr;
use crate::aside::aside;
use crate::config::{Config, Source};
use crate::connection::Live;
use crate::control::socket::Successor;
use crate::record::Lifecycle;

impl Server {
    /// Takes up the file as it is now and says so; or keeps everything as it was and says that everywhere.
    pub async fn reload(&mut self) -> bool {
        if let Some(trial) = &self.trial {
            let why = format!("not reloaded: {trial}; confirm it or roll it back first");
            self.health.reload_failed(why.clone());
            self.not_taken_up(&why);
            return false;
        }
        self.take_up(Source::File, None).await.is_ok()
    }

    /// Takes up this text, which must be of the revision `expected` where one is.
    pub(super) async fn take_up(&mut self, source: Source, expected: Option<&str>) -> Result<Arc<str>, ServerError> {
        tracing::info!("reloading");
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell_systemd(&[NotifyState::Reloading, now]);
        }
        let reloaded = self.try_reload(source, expected).await;
        match &reloaded {
            Ok(revision) => {
                self.health.reloaded();
                tracing::info!(%revision, "reloaded");
                self.gate.recorder().lifecycle(Lifecycle::Reload, about(&self.gate.live().config));
                self.record_problems();
                self.look_at_restriction_again();
            }
            Err(error) => {
                // What was to be tried is no file's: the file is in force as before.
                if source == Source::File {
                    self.health.reload_failed(error.to_string());
                }
                self.not_taken_up(&error.to_string());
            }
        }
        if reloaded.is_ok() && source == Source::File {
            self.keep_last_good().await;
        }
        tell_systemd(&[NotifyState::Ready]);
        reloaded
    }

    pub(super) fn not_taken_up(&self, why: &str) {
        tracing::error!("reload failed, the old configuration stays in force: {why}");
        tell(&self.gate, Lifecycle::ReloadFailed, why);
    }

    /// What is not as it should be in the configuration that is now in force.
    pub(super) fn record_problems(&self) {
        let live = self.gate.live();
        for warning in &live.config.warnings {
            tell(&self.gate, Lifecycle::ConfigProblem, &warning.to_string());
        }
    }

    /// For logrotate: the record goes on in a new file, nothing else changes.
    pub(super) async fn reopen(&self) {
        match self.gate.recorder().reopen().await {
            Ok(()) => tracing::info!("record reopened"),
            Err(error) => tracing::error!("the record goes on in the old file: {error}"),
        }
    }

    async fn try_reload(&mut self, source: Source, expected: Option<&str>) -> Result<Arc<str>, ServerError> {
        let (file, scope) = (self.file.clone(), self.scope);
        // It reads files: not on a thread that serves connections.
        let loading = aside(move || source.load(&file, scope, SystemTime::now()));
        let loaded = loading.await.map_err(ServerError::Loading)?;
        let mut config = loaded.map_err(|error| self.explained(error))?;
        let socket = config.control.as_ref().map(|control| &*control.socket);
        if source == Source::Trial && socket != self.control.as_ref().map(|(file, _)| file.path()) {
            return Err(ServerError::TrialMovesControl);
        }
        if let Some(expected) = expected.filter(|expected| **expected != *config.as_loaded) {
            return Err(ServerError::AnotherRevision { found: config.as_loaded, expected: expected.to_owned() });
        }
        self.needs_nothing_given_up(&mut config)?;
        let taken_up = self.have_minted(&mut config, source).await?;
        let revision = self.put_in_force(config).await?;
        // What was in force before a trial is signed for as long as it lasts: it may be put back.
        if let (Some(minter), Source::File) = (&self.minter, source) {
            minter.keep(taken_up.as_ref()).await;
        }
        Ok(revision)
    }

    pub(super) async fn put_in_force(&mut self, mut config: Config) -> Result<Arc<str>, ServerError> {
        fit_connections(&mut config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let held = |listener: &Option<(ListenAddr, Serving)>| listener.as_ref().map(|(address, _)| *address);
        let held = Held { admin: held(&self.admin), pac: held(&self.pac) };
        let bound = Bound::new(&config, &self.workers, &self.listeners, held, &mut Inherited::default())?;
        let (wanted, admin, pac) =
            (config.listeners.clone(), config.admin, config.pac.as_ref().and_then(|pac| pac.address));
        let held = self.control.as_ref().map(|(file, _)| &**file);
        let control = control::open(config.control.as_ref(), held, Successor::No)?;
        let record = config.record.clone();
        let before = self.gate.live();
        let live = Live::new(config, Some(&before));
        self.gate.recorder().reconfigure(record).await?;
        let revision = Arc::clone(&live.config.revision);
        if live.config.resolver.servers != before.config.resolver.servers {
            tracing::info!(servers = ?live.config.resolver.servers, "other name servers");
        }
        self.gate.replace(live);
        self.listeners.retain(|listener, _| wanted.contains(listener));
        for (held, wanted) in [(&mut self.admin, admin), (&mut self.pac, pac)] {
            drop(held.take_if(|(address, _)| Some(*address) != wanted));
        }
        self.accept_on(bound);
        self.serve_control(control);
        self.desk.in_force.store(Arc::new(InForce { since: SystemTime::now(), trial: None }));
        Ok(revision)
    }
}
