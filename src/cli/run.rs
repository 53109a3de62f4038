//! `sekisho run`: the service.

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::{ConfigFile, DONE, fail};
use crate::config::{Config, Scope};
use crate::minter;
use crate::server::{Inherited, Minting, Server, fit_connections};
use crate::telemetry;

pub(super) fn run(file: &ConfigFile) -> ExitCode {
    let mut config = match file.load(Scope::WithoutIssuingKey) {
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
    let minting = match minting(&config) {
        Ok(minting) => minting,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    match runtime.block_on(async { Server::start(config, inherited, minting).await?.run().await }) {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// `sekisho mint`: the process that `run` starts for the issuing key.
pub(super) fn mint(file: &ConfigFile) -> ExitCode {
    telemetry::init("warn");
    keep_out_of_dumps();
    match minter::serve(file.path()) {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// Who signs for this configuration: a process of its own, which has read it too.
fn minting(config: &Config) -> Result<Minting, ExitCode> {
    if config.issuing.is_none() {
        return Ok(Minting::Nowhere);
    }
    let minter = minter::start(&config.file)
        .map_err(|error| fail(&format!("the minting process could not be started: {error}")))?;
    match minter.take_up_first(config) {
        Ok(Some(taken_up)) => Ok(Minting::Elsewhere(minter, taken_up)),
        Ok(None) => Ok(Minting::Nowhere),
        Err(error) => Err(fail(&error)),
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
