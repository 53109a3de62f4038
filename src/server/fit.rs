//! How many connections the descriptors carry.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::pressure::descriptors;
use crate::sockets;
use crate::upstream::verify;

use super::ServerError;

/// Descriptors of one connection: the client's and the upstream's.
const PER_CONNECTION: u64 = 2;
/// Descriptors kept for listeners, the record, DNS, the admin listener and the tunnels' pipes; at most half of all.
const RESERVED: u64 = 256;

/// The service itself takes no more than half of the descriptors, which leaves the connections theirs.
///
/// # Errors
/// [`ServerError::Descriptors`]. It would take up connections, or another process's place, and refuse whoever comes.
pub(super) fn fits_itself() -> Result<(), ServerError> {
    let (open, limit) = descriptors();
    if open > limit / 2 { Err(ServerError::Descriptors { open, limit }) } else { Ok(()) }
}

/// Raises the soft descriptor limit to the hard one, and lowers `limits.connections` to what that carries.
pub fn fit_connections(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the descriptor limit could not be raised");
    }
    let Some(descriptors) = getrlimit(Resource::Nofile).current else { return };
    sockets::reserve(descriptors);
    // A handshake for a verdict has a connection of its own: a few at a time where verdicts are kept, else one with each tunnel.
    let (verifying, each) = match config.verify.cache.is_zero() {
        true => (0, PER_CONNECTION + 1),
        false => ((verify::MAX_RUNNING.get() as u64).min(descriptors / 8), PER_CONNECTION),
    };
    let carried = descriptors.saturating_sub(RESERVED.min(descriptors / 2) + verifying) / each;
    let carried = u32::try_from(carried).unwrap_or(u32::MAX).max(1);
    let limits = &mut config.limits;
    if let Some(configured) = limits.all.connections.filter(|configured| *configured > carried) {
        tracing::warn!(
            configured,
            carried,
            descriptors,
            "limits.connections is lowered to what the descriptor limit carries; raise LimitNOFILE for more"
        );
        limits.all.connections = Some(carried);
        limits.per_client.connections = limits.per_client.connections.map(|number| number.min(carried));
    }
}
