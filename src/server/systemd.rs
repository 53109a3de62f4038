//! What the service manager is told (sd_notify(3)).

use std::sync::atomic::{AtomicBool, Ordering};

use sd_notify::NotifyState;

/// Tells systemd, where it listens; elsewhere this is nothing.
pub(super) fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Where systemd restarts a service that no longer says this (`WatchdogSec`).
pub(super) fn feed_watchdog() {
    if feeds_watchdog() {
        tell_systemd(&[NotifyState::Watchdog]);
    }
}

/// Of a process that was taken over from: the service manager has not told this one.
static FEEDS: AtomicBool = AtomicBool::new(false);

pub(super) fn feed_watchdog_of_another() {
    FEEDS.store(true, Ordering::Relaxed);
}

pub(super) fn feeds_watchdog() -> bool {
    FEEDS.load(Ordering::Relaxed) || sd_notify::watchdog_enabled().is_some()
}
