//! `sekisho run`: the service.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use super::{ConfigFile, DONE, complain, fail, report};
use crate::config::{Config, LastGood, Scope, Source, load_source, trial_of};
use crate::minter::{self, Begun, TakenUp};
use crate::restrict::{self, Reach, Role, keep_out_of_dumps};
use crate::server::{Inherited, Minting, Predecessor, Server, ServerError, fit_connections};
use crate::sockets::choose_own_ports;
use crate::telemetry;

/// The self-probe and the tenant proof have an origin each, and a listener for the moment in which a connection of theirs begins.
const OWN_PORTS: usize = 32;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Start with the configuration that was in force last, where the file is broken; said in log, record, /readyz and status
    #[arg(long)]
    last_good: bool,
    /// Take over from the service that runs: its listening sockets, its record and its tunnels (see `sekisho upgrade`)
    #[arg(long, conflicts_with = "last_good")]
    take_over: bool,
    /// Where the last good configuration is kept [default: $STATE_DIRECTORY, as systemd sets it; without, none is kept]
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
}

impl Arguments {
    fn state_directory(&self) -> Option<PathBuf> {
        // systemd separates several by colons.
        let of_systemd = || std::env::var("STATE_DIRECTORY").ok()?.split(':').next().map(PathBuf::from);
        self.state_directory.clone().or_else(of_systemd).filter(|directory| !directory.as_os_str().is_empty())
    }

    /// The configuration to start with; where it is the last good one, with a sentence that says so.
    fn load(&self, last_good: Option<&LastGood>) -> Result<(Config, Option<String>), ExitCode> {
        let broken = match load_source(Source::File, self.config.path(), None, SCOPE, SystemTime::now()) {
            Ok(config) => return Ok((config, None)),
            Err(error) => error,
        };
        let code = report(&broken);
        if !self.last_good {
            return Err(code);
        }
        let Some(last_good) = last_good else {
            return Err(fail(&"--last-good needs --state-directory DIR, or STATE_DIRECTORY as systemd sets it"));
        };
        match last_good.load(self.config.path(), SCOPE, SystemTime::now()) {
            Ok((config, taken_up)) => {
                let file = self.config.path().display();
                let what = format!(
                    "{file} is broken: the last good configuration is in force, revision {}, taken up {taken_up}; the files it names \
                     are read as they are now",
                    config.revision
                );
                Ok((config, Some(what)))
            }
            Err(error) => {
                complain("\nsekisho: and the last good configuration cannot be used either:");
                Err(report(&error))
            }
        }
    }
}

/// The issuing key is the minting process's.
const SCOPE: Scope = Scope::WithoutIssuingKey;

#[derive(clap::Args)]
pub(super) struct MintArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Where the last good configuration is kept
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let state = arguments.state_directory();
    let last_good = state.as_deref().map(LastGood::new);
    let (mut config, instead) = match arguments.load(last_good.as_ref()) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    telemetry::init("info");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let trial = trial_of(arguments.config.path());
    if trial.exists() {
        tracing::warn!("{} is there, of a trial that was not confirmed, and is not in force", trial.display());
    }
    fit_connections(&mut config);
    // Before another process is started, which would have them too.
    let inherited = match Inherited::from_manager() {
        Ok(inherited) => inherited,
        Err(error) => return fail(&error),
    };
    let source = if instead.is_some() { Source::LastGood } else { Source::File };
    let begun = match begin_minting(&config, source, state.as_deref()) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    // Only now, as it does not wait long for what follows.
    let (inherited, predecessor) = match arguments.take_over.then(|| predecessor(&config)).transpose() {
        Ok(None) => (inherited, None),
        Ok(Some((predecessor, inherited))) => (inherited, Some(predecessor)),
        Err(error) => return fail(&error),
    };
    if let Err(error) = choose_own_ports(OWN_PORTS) {
        return fail(&format!("there are no ports on loopback for the service's own probes: {error}"));
    }
    // Before the runtime's threads start, which inherit it.
    let restriction = restrict::apply(Role::Serving, Reach::of_service(&config).and_state(state.as_deref()));
    let minting = match begun.map(|(begun, taken_up)| Ok((begun.open()?, taken_up))).transpose() {
        Ok(None) => Minting::Nowhere,
        Ok(Some((minter, taken_up))) => Minting::Elsewhere(minter, taken_up),
        Err::<_, std::io::Error>(error) => return fail(&format!("no thread could be started: {error}")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let ran = runtime.block_on(async {
        let mut server = Server::start(config, inherited, predecessor, minting, restriction).await?;
        if let Some(last_good) = last_good {
            server.keep_in(last_good, instead).await;
        }
        server.run().await
    });
    match ran {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// The process that is to be taken over from, and its listening sockets.
fn predecessor(config: &Config) -> Result<(Predecessor, Inherited), ServerError> {
    let Some(control) = &config.control else { return Err(ServerError::NoControl) };
    Ok(Predecessor::ask(&control.socket)?)
}

/// `sekisho mint`: the process that `run` starts for the issuing key.
pub(super) fn mint(arguments: &MintArguments) -> ExitCode {
    telemetry::init("warn");
    // Before the key is read; the rest follows when it is known what is needed.
    if let Err(why) = keep_out_of_dumps() {
        tracing::warn!("{why}");
    }
    match minter::serve(arguments.config.path(), arguments.state_directory.as_deref()) {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// The process that signs for this configuration, which it has read too. `None`: nobody does.
fn begin_minting(config: &Config, source: Source, state: Option<&Path>) -> Result<Option<(Begun, TakenUp)>, ExitCode> {
    if config.issuing.is_none() {
        return Ok(None);
    }
    let mut begun = minter::start(&config.file, state)
        .map_err(|error| fail(&format!("the minting process could not be started: {error}")))?;
    let taken_up = begun.take_up(config, source).map_err(|error| fail(&error))?;
    Ok(taken_up.map(|taken_up| (begun, taken_up)))
}
