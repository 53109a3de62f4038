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
        .with_target(false);
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
}
