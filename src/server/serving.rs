//! What accepts at one address: its tasks, and its sockets, kept for a process that may take over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// The sockets of one address, each twice: to accept on, and to be kept.
pub(super) struct Sockets {
    pub(super) accepting: Vec<TcpListener>,
    kept: Vec<OwnedFd>,
}

impl Sockets {
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn new(accepting: Vec<TcpListener>) -> io::Result<Self> {
        let kept = accepting.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect::<io::Result<_>>()?;
        Ok(Self { accepting, kept })
    }
}

/// Ended when it is dropped; this process's sockets are closed then.
pub(super) struct Serving {
    tasks: Vec<AbortHandle>,
    kept: Vec<OwnedFd>,
}

impl Serving {
    /// `begin` has a socket served.
    pub(super) fn new(sockets: Sockets, begin: impl FnMut(TcpListener) -> AbortHandle) -> Self {
        Self { kept: sockets.kept, tasks: sockets.accepting.into_iter().map(begin).collect() }
    }

    pub(super) fn sockets(&self) -> &[OwnedFd] {
        &self.kept
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
