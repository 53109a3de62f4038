//! `sekisho run`: the service.

use std::process::ExitCode;

use super::{ConfigFile, DONE, fail};
use crate::config::Scope;
use crate::server::{Server, fit_connections};
use crate::telemetry;

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    let mut config = match file.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    telemetry::init("info");
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
