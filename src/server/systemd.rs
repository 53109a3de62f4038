//! What the service manager is told (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, io};

use sd_notify::NotifyState;

/// The way to a manager that listens on an abstract socket (`NOTIFY_SOCKET=@…`), which the restricted process cannot connect to any more.
static KEPT: OnceLock<UnixDatagram> = OnceLock::new();

/// Connects to a service manager on an abstract socket. To be called before the process restricts itself.
///
/// # Errors
/// Nobody listens there.
pub fn keep_way_to_systemd() -> io::Result<()> {
    let named = env::var_os("NOTIFY_SOCKET");
    let Some(name) = named.as_ref().and_then(|name| name.as_encoded_bytes().strip_prefix(b"@")) else { return Ok(()) };
    let way = UnixDatagram::unbound()?;
    way.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    // There is one only, since a process starts once.
    KEPT.get_or_init(|| way);
    Ok(())
}

/// Tells systemd, where it listens; elsewhere this is nothing.
pub(super) fn tell_systemd(states: &[NotifyState<'_>]) {
    let told = match KEPT.get() {
        None => sd_notify::notify(states),
        Some(way) => {
            let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
            way.send(lines.as_bytes()).map(drop)
        }
    };
    // Said once, until it has heard something again.
    static UNHEARD: AtomicBool = AtomicBool::new(false);
    if let Err(error) = &told
        && !UNHEARD.load(Ordering::Relaxed)
    {
        tracing::warn!(%error, "the service manager was not told (NOTIFY_SOCKET): it may end the service for that");
    }
    UNHEARD.store(told.is_err(), Ordering::Relaxed);
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
