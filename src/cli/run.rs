//! `sekisho run`: the service.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use tikv_jemalloc_ctl::background_thread;

use super::{ConfigFile, DONE, complain, fail, report, say};
use crate::config::{Config, LastGood, MAX_FILE, Scope, Source, text_sha256};
use crate::files::regular;
use crate::inspect::question;
use crate::minter::{self, Begun, TakenUp};
use crate::restrict::{self, Reach, Role, keep_out_of_dumps};
use crate::server::{
    Apart, Inherited, Minting, Predecessor, Server, ServerError, Signals, fit_connections, keep_way_to_systemd,
};
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

    /// Of one that takes over `upgrade` says why not, which reads its standard output.
    fn fail(&self, why: &impl std::fmt::Display) -> ExitCode {
        if self.take_over {
            say(&why.to_string());
        }
        fail(why)
    }

    /// The configuration to start with; where it is the last good one, with a sentence that says so.
    fn load(&self, last_good: Option<&LastGood>) -> Result<(Config, Option<String>), ExitCode> {
        let broken = match Source::File.load(self.config.path(), Scope::WithoutIssuingKey, SystemTime::now()) {
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
        match last_good.load(self.config.path(), Scope::WithoutIssuingKey, SystemTime::now()) {
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
    // Before another process is started, which would have them too.
    let inherited = match Inherited::from_manager() {
        Ok(inherited) => inherited,
        Err(error) => return fail(&error),
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    tell_of_trial(&Source::Trial.path(arguments.config.path()), &config);
    fit_connections(&mut config);
    let folder = arguments.state_directory();
    let source = if instead.is_some() { question::Source::LastGood } else { question::Source::File };
    // Away from the terminal of whoever called `upgrade`; a process that leads a group already is.
    if arguments.take_over {
        let _ = rustix::process::setsid();
    }
    let begun = match begin_minting(&config, folder.as_deref(), source) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    // Only now: it does not wait long for what follows.
    let (inherited, predecessor) = match arguments.take_over.then(|| predecessor(&config)).transpose() {
        Ok(None) => (inherited, None),
        Ok(Some((predecessor, inherited))) => (inherited, Some(predecessor)),
        Err(error) => return arguments.fail(&error),
    };
    let apart = match stand_apart(&config, folder.as_deref(), begun) {
        Ok(apart) => apart,
        Err(error) => return arguments.fail(&format!("the process could not be prepared: {error}")),
    };
    // What serves connections has threads of its own; without a pool there is none whose threads are missing.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime could not be started: {error}")),
    };
    let ran = runtime.block_on(async {
        let signals = Signals::new()?;
        let mut server = Server::start(config, inherited, predecessor, apart).await?;
        if let Some(last_good) = last_good {
            server.keep_in(last_good, instead).await;
        }
        server.run(signals).await
    });
    // A file that is still being read is of no use any more.
    runtime.shutdown_background();
    match ran {
        Ok(()) => DONE.into(),
        Err(error) => arguments.fail(&error),
    }
}

/// What is left of a trial is told, unless it was confirmed and is in force.
fn tell_of_trial(trial: &Path, config: &Config) {
    let was_confirmed = || regular(trial, MAX_FILE).is_ok_and(|octets| text_sha256(&octets) == config.text_sha256);
    if trial.exists() && !was_confirmed() {
        tracing::warn!("{} is there, of a trial that was not confirmed, and is not in force", trial.display());
    }
}

/// The process that is to be taken over from, and its listening sockets.
fn predecessor(config: &Config) -> Result<(Predecessor, Inherited), ServerError> {
    let Some(control) = &config.control else { return Err(ServerError::NoControl) };
    Ok(Predecessor::ask(&control.socket)?)
}

/// The process that signs for this configuration, which it has read too. `None`: nobody does.
fn begin_minting(
    config: &Config,
    folder: Option<&Path>,
    source: question::Source,
) -> Result<Option<(Begun, TakenUp)>, ExitCode> {
    if config.issuing.is_none() {
        return Ok(None);
    }
    let mut begun = minter::start(&config.file, folder)
        .map_err(|error| fail(&format!("the minting process could not be started: {error}")))?;
    let taken_up = begun.take_up(config, source).map_err(|error| fail(&error))?;
    Ok(taken_up.map(|taken_up| (begun, taken_up)))
}

/// Gives up what is not needed, before there are threads of ours, which inherit that.
fn stand_apart(config: &Config, folder: Option<&Path>, begun: Option<(Begun, TakenUp)>) -> io::Result<Apart> {
    choose_own_ports(OWN_PORTS)?;
    if let Err(error) = keep_way_to_systemd() {
        tracing::warn!(%error, "the service manager cannot be told anything (NOTIFY_SOCKET): it may end the service for that");
    }
    let restriction = restrict::apply(Role::Serving, Reach::of_service(config, folder));
    give_memory_back();
    let minting = match begun {
        None => Minting::Nowhere,
        Some((begun, taken_up)) => Minting::Elsewhere(begun.open()?, taken_up),
    };
    Ok(Apart { minting, restriction })
}

/// Starts the allocator's own thread, by which freed memory goes back to the system. It has given up what this one has.
fn give_memory_back() {
    if let Err(error) = background_thread::write(true) {
        tracing::warn!("freed memory goes back late: the allocator has no thread of its own: {error}");
    }
}

#[derive(clap::Args)]
pub(super) struct MintArguments {
    #[command(flatten)]
    config: ConfigFile,
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
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
