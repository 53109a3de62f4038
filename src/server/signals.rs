//! What signals ask of the service.

use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServerError;
use super::desk::Command;
use crate::control::role::Peer;

/// What a signal or the clock asks for.
pub(super) enum Asked {
    Load(Loading),
    Reopen,
    Look(time::Date),
    /// The peer wants this process's place.
    Place(UnixStream, Peer),
    Stop,
}

/// Another configuration may be in force afterwards.
pub(super) enum Loading {
    Reload,
    Change(Command),
    TrialOver,
}

/// The signals of a service, caught from its first moment on.
pub struct Signals {
    hangup: Signal,
    user1: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// Past a file size limit the record is to fail like on a full disk, not the process to die.
    _file_size: Signal,
}

impl Signals {
    /// # Errors
    /// The system's.
    pub fn new() -> Result<Self, ServerError> {
        let on = |kind| signal(kind).map_err(ServerError::Signals);
        Ok(Self {
            hangup: on(SignalKind::hangup())?,
            user1: on(SignalKind::user_defined1())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            _file_size: on(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Load(Loading::Reload),
            _ = self.user1.recv() => Asked::Reopen,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }

    /// SIGTERM or SIGINT.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
