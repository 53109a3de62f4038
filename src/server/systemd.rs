//! What the service manager is told (sd_notify(3)).

use sd_notify::NotifyState;

/// Tells systemd, where it listens; elsewhere this is nothing.
pub(super) fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Where systemd restarts a service that no longer says this (`WatchdogSec`).
pub(super) fn feed_watchdog() {
    if sd_notify::watchdog_enabled().is_some() {
        tell_systemd(&[NotifyState::Watchdog]);
    }
}
