//! `sekisho run`: the service.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::{ConfigFile, DONE, complain, fail, report};
use crate::config::{Config, LastGood, Source};
use crate::server::{Inherited, Predecessor, Server, ServerError, fit_connections};
use crate::telemetry;

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
        let broken = match Source::File.load(self.config.path(), SystemTime::now()) {
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
        match last_good.load(self.config.path(), SystemTime::now()) {
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

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let last_good = arguments.state_directory().map(|directory| LastGood::new(&directory));
    let (mut config, instead) = match arguments.load(last_good.as_ref()) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    telemetry::init("info");
    let (inherited, predecessor) = match places(arguments, &config) {
        Ok(places) => places,
        Err(error) => return fail(&error),
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let trial = Source::Trial.path(arguments.config.path());
    if trial.exists() {
        tracing::warn!("{} is there, of a trial that was not confirmed, and is not in force", trial.display());
    }
    keep_out_of_dumps();
    fit_connections(&mut config);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let ran = runtime.block_on(async {
        let mut server = Server::start(config, inherited, predecessor).await?;
        if let Some(last_good) = last_good {
            server.keep_in(last_good, instead).await;
        }
        server.run().await;
        Ok::<_, ServerError>(())
    });
    match ran {
        Ok(()) => DONE.into(),
        Err(error) => fail(&error),
    }
}

/// The listening sockets that are there, and the process that is to be taken over from.
fn places(arguments: &Arguments, config: &Config) -> Result<(Inherited, Option<Predecessor>), ServerError> {
    if !arguments.take_over {
        return Ok((Inherited::from_manager()?, None));
    }
    let Some(control) = &config.control else { return Err(ServerError::NoControl) };
    let (predecessor, inherited) = Predecessor::ask(&control.socket)?;
    Ok((inherited, Some(predecessor)))
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
