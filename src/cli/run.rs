//! `sekisho run`: the service.

use std::process::ExitCode;

use super::{ConfigFile, DONE, fail};
use crate::config::{Config, Scope};
use crate::minter::{self, Begun, TakenUp};
use crate::restrict::{self, Reach, Role, keep_out_of_dumps};
use crate::server::{Inherited, Minting, Server, fit_connections};
use crate::sockets::choose_own_ports;
use crate::telemetry;

/// The self-probe and the tenant proof have an origin each, and a listener for the moment in which a connection of theirs begins.
const OWN_PORTS: usize = 32;

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
    fit_connections(&mut config);
    let begun = match begin_minting(&config) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    if let Err(error) = choose_own_ports(OWN_PORTS) {
        return fail(&format!("there are no ports on loopback for the service's own probes: {error}"));
    }
    // Before the runtime's threads start, which inherit it.
    let restriction = restrict::apply(Role::Serving, Reach::of_service(&config));
    let minting = match begun.map(|(begun, taken_up)| Ok((begun.open()?, taken_up))).transpose() {
        Ok(None) => Minting::Nowhere,
        Ok(Some((minter, taken_up))) => Minting::Elsewhere(minter, taken_up),
        Err::<_, std::io::Error>(error) => return fail(&format!("no thread could be started: {error}")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    match runtime.block_on(async { Server::start(config, inherited, minting, restriction).await?.run().await }) {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// `sekisho mint`: the process that `run` starts for the issuing key.
pub(super) fn mint(file: &ConfigFile) -> ExitCode {
    telemetry::init("warn");
    // Before the key is read; the rest follows when it is known what is needed.
    if let Err(why) = keep_out_of_dumps() {
        tracing::warn!("{why}");
    }
    match minter::serve(file.path()) {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// The process that signs for this configuration, which it has read too. `None`: nobody does.
fn begin_minting(config: &Config) -> Result<Option<(Begun, TakenUp)>, ExitCode> {
    if config.issuing.is_none() {
        return Ok(None);
    }
    let mut begun = minter::start(&config.file)
        .map_err(|error| fail(&format!("the minting process could not be started: {error}")))?;
    let taken_up = begun.take_up(config).map_err(|error| fail(&error))?;
    Ok(taken_up.map(|taken_up| (begun, taken_up)))
}
