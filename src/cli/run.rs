//! `sekisho run`: the service.

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::{ConfigFile, DONE, fail};
use crate::config::Scope;
use crate::server::{Inherited, Server, ServerError, fit_connections};
use crate::telemetry;

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    let mut config = match file.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    telemetry::init("info");
    let inherited = match Inherited::from_manager() {
        Ok(inherited) => inherited,
        Err(error) => return fail(&error),
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    keep_out_of_dumps();
    fit_connections(&mut config);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let ran = runtime.block_on(async {
        Server::start(config, inherited).await?.run().await;
        Ok::<_, ServerError>(())
    });
    match ran {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// The issuing key must be in no core dump and in no other process's reach (J02).
fn keep_out_of_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process could not be made undumpable");
    }
}
