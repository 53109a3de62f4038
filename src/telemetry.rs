//! Diagnostics (`tracing`, to standard error) and the health that `/readyz` reports. The access record is elsewhere (`record`):
//! a diagnostic line may be lost, a record may not.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tracing_subscriber::EnvFilter;

/// Installs the subscriber. `SEKISHO_LOG` holds a filter (`info`, `sekisho=debug`), `otherwise` the one without it; colours only on
/// a terminal without `NO_COLOR`.
pub fn init(otherwise: &str) {
    let filter = EnvFilter::try_from_env("SEKISHO_LOG").unwrap_or_else(|_| EnvFilter::new(otherwise));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let built = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        // Said on standard error, that a line could not be written there would end whoever wants to say something.
        .log_internal_errors(false);
    // A second call (tests in one process) finds the first one's subscriber in place.
    let _ = built.try_init();
}

/// What the service knows of its own state beyond the record and the drain.
#[derive(Default)]
pub struct Health {
    started: AtomicBool,
    /// Why the last reload failed; the old configuration is in force.
    degraded: ArcSwapOption<String>,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    /// The last good configuration is in force in the place of the file's; which, in a sentence.
    last_good: ArcSwapOption<String>,
    /// The configuration on trial, in a sentence.
    trial: ArcSwapOption<String>,
    /// Requests on the control socket that were done, and that were refused.
    controlled: AtomicU64,
    control_refused: AtomicU64,
    /// Why the self-probe fails.
    unproven: ArcSwapOption<String>,
    passed_probes: AtomicU64,
    failed_probes: AtomicU64,
    /// Sessions of processes that were taken over from.
    draining: AtomicU64,
    minting: AtomicBool,
    minting_ended: AtomicBool,
    /// Why the minting process gives no answer.
    minting_stalled: ArcSwapOption<String>,
}

impl Health {
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub fn reloaded(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.degraded.store(None);
        self.last_good.store(None);
    }

    pub fn last_good_taken(&self, which: String) {
        self.last_good.store(Some(Arc::new(which)));
    }

    pub fn last_good(&self) -> Option<Arc<String>> {
        self.last_good.load_full()
    }

    /// `None`: no configuration is on trial.
    pub fn set_trial(&self, which: Option<String>) {
        self.trial.store(which.map(Arc::new));
    }

    pub fn trial(&self) -> Option<Arc<String>> {
        self.trial.load_full()
    }

    /// Counts a request on the control socket.
    pub fn asked(&self, was_done: bool) {
        let counter = if was_done { &self.controlled } else { &self.control_refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests on the control socket: done, refused.
    pub fn control_requests(&self) -> (u64, u64) {
        (self.controlled.load(Ordering::Relaxed), self.control_refused.load(Ordering::Relaxed))
    }

    pub fn reload_failed(&self, why: String) {
        self.failed_reloads.fetch_add(1, Ordering::Relaxed);
        self.degraded.store(Some(Arc::new(why)));
    }

    pub fn degraded(&self) -> Option<Arc<String>> {
        self.degraded.load_full()
    }

    /// Reloads that took effect, and reloads that did not.
    pub fn reloads(&self) -> (u64, u64) {
        (self.reloads.load(Ordering::Relaxed), self.failed_reloads.load(Ordering::Relaxed))
    }

    /// Counts a request pair of the self-probe.
    pub fn probed<E>(&self, visited: &Result<(), E>) {
        let counter = if visited.is_ok() { &self.passed_probes } else { &self.failed_probes };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn self_probe_failed(&self, why: String) {
        self.unproven.store(Some(Arc::new(why)));
    }

    pub fn self_probe_recovered(&self) {
        self.unproven.store(None);
    }

    pub fn set_draining(&self, sessions: u64) {
        self.draining.store(sessions, Ordering::Relaxed);
    }

    /// Sessions of processes that were taken over from, as they said lately.
    pub fn draining(&self) -> u64 {
        self.draining.load(Ordering::Relaxed)
    }

    /// Another process has the issuing key, and signs.
    pub fn minting_began(&self) {
        self.minting.store(true, Ordering::Release);
    }

    pub fn minting_ended(&self) {
        self.minting_ended.store(true, Ordering::Release);
    }

    /// `None`: it answers.
    pub fn set_minting_stalled(&self, why: Option<String>) {
        self.minting_stalled.store(why.map(Arc::new));
    }

    pub fn minting_stalled(&self) -> Option<Arc<String>> {
        self.minting_stalled.load_full()
    }

    /// Whether the minting process runs and answers. `None`: there is none.
    pub fn mints(&self) -> Option<bool> {
        let begun = self.minting.load(Ordering::Acquire);
        begun.then(|| !self.minting_ended.load(Ordering::Acquire) && self.minting_stalled.load().is_none())
    }

    /// Why traffic cannot be served safely, as the self-probe finds.
    pub fn unproven(&self) -> Option<Arc<String>> {
        self.unproven.load_full()
    }

    /// Probes that came out as they must, and probes that did not.
    pub fn probes(&self) -> (u64, u64) {
        (self.passed_probes.load(Ordering::Relaxed), self.failed_probes.load(Ordering::Relaxed))
    }
}
