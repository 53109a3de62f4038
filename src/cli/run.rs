//! `sekisho run`: the service.

use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{ConfigFile, DONE, fail};
use crate::config::{Config, Scope};
use crate::server::Server;
use crate::telemetry;

/// Descriptors of one connection at its most: the client's, the upstream's, and the verifying one's.
const PER_CONNECTION: u64 = 3;
/// Descriptors kept for listeners, the record, DNS and the admin listener.
const RESERVED: u64 = 256;

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    let mut config = match file.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    telemetry::init();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    fit_connections(&mut config);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let ended = runtime.block_on(async { Server::start(config).await?.run().await });
    match ended {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// Raises the soft descriptor limit to the hard one, and lowers `limits.connections` to what that carries.
pub(super) fn fit_connections(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the descriptor limit could not be raised");
    }
    let Some(descriptors) = getrlimit(Resource::Nofile).current else { return };
    let carried = usize::try_from(descriptors.saturating_sub(RESERVED) / PER_CONNECTION).unwrap_or(usize::MAX).max(1);
    if config.limits.connections > carried {
        tracing::warn!(
            configured = config.limits.connections,
            carried,
            descriptors,
            "limits.connections is lowered to what the descriptor limit carries; raise LimitNOFILE for more"
        );
        config.limits.connections = carried;
        config.limits.per_client.connections = config.limits.per_client.connections.min(carried);
    }
}
