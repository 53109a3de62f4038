//! The commands: arguments → one function per subcommand → exit code. What a person reads is written here, and only here.

mod announced;
mod apply;
mod ca;
mod catalog;
mod check;
mod control;
mod delta;
mod demo;
mod explain;
mod feed;
mod fetch;
mod folder;
mod load;
mod outcome;
mod pac;
mod prove;
mod quickstart;
mod records;
mod replace;
mod replay;
mod reviewed;
mod run;
mod suggest;
mod trial;
mod upgrade;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, Config, LoadError, Scope};

/// Everything went as asked; warnings do not count.
const DONE: u8 = 0;
/// Something is wrong; it has been said on standard error.
const FAILED: u8 = 1;
/// `explain`: the flow is denied. `replay`: something would change.
const DENIED: u8 = 3;

#[derive(Parser)]
#[command(name = "sekisho", version, about, long_about = None, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sekisho quickstart                                  try it: no root, no internet, no configuration
  sekisho check --config /etc/sekisho/sekisho.toml    every problem at once, or the policy on one screen
  sekisho explain --client 10.20.0.7 login.microsoftonline.com
  sekisho ca init && sekisho run
  sekisho status                                      what the running service says of itself
  sekisho apply new.toml --confirm 5m                 try a new configuration, and go back by itself";

#[derive(Subcommand)]
enum Command {
    /// Try it without root or internet: makes a folder, shows three requests, runs until Ctrl-C
    #[command(after_help = quickstart::HELP)]
    Quickstart(quickstart::Arguments),
    /// Load the configuration as `run` would and print its problems, or a summary of the policy
    #[command(
        after_help = "Exit code: 0 with warnings too, 1 with errors.\n\nExamples:\n  sekisho check --config /etc/sekisho/sekisho.toml"
    )]
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Run the service: SIGHUP reloads, SIGUSR1 reopens the record, SIGTERM drains (twice: cuts)
    #[command(
        after_help = "Examples:\n  sekisho run --config /etc/sekisho/sekisho.toml\n  sekisho run --last-good --state-directory /var/lib/sekisho\n  kill -HUP PID    reload"
    )]
    Run(run::Arguments),
    /// The process that `run` starts for the issuing key
    #[command(hide = true)]
    Mint(run::MintArguments),
    /// Show the running service: revision, readiness, trial, listeners, connections, record
    #[command(after_help = control::STATUS_HELP)]
    Status(control::StatusArguments),
    /// List the connections that are being relayed, or cut one
    #[command(after_help = control::SESSIONS_HELP, args_conflicts_with_subcommands = true)]
    Sessions(control::SessionsArguments),
    /// Check a new configuration, show what it changes, and put it in force, for good or on trial
    #[command(after_help = apply::HELP)]
    Apply(apply::Arguments),
    /// Keep the configuration that is on trial: it becomes the file
    #[command(after_help = "Examples:\n  sekisho confirm --config /etc/sekisho/sekisho.toml")]
    Confirm(control::At),
    /// End the trial of a configuration now: the file is in force again
    #[command(after_help = "Examples:\n  sekisho rollback --config /etc/sekisho/sekisho.toml")]
    Rollback(control::At),
    /// Put this program in the place of the one that runs, without a refused connection or a broken tunnel
    #[command(after_help = upgrade::HELP)]
    Upgrade(upgrade::Arguments),
    /// Print the decision for one flow: the very function the proxy calls
    #[command(
        after_help = "Exit code: 0 allowed, 3 denied, 1 error. What only observing lets through is allowed, and said to be.\n\n\
        Examples:\n  \
        sekisho explain --client 10.20.0.7 login.microsoftonline.com\n  \
        sekisho explain --client 10.20.0.7 --sni other.example www.example.com:443\n  \
        sekisho explain --client 10.20.0.7 http://crl.example.com/root.crl"
    )]
    Explain(explain::Arguments),
    /// Create or show the issuing CA
    #[command(
        after_help = "Examples:\n  sekisho ca init --config sekisho.toml\n  sekisho ca show --config sekisho.toml"
    )]
    Ca {
        #[command(subcommand)]
        command: ca::Command,
    },
    /// Show what is known of cloud services: hosts, what must stay closed, tenant restriction, sources; approve a vendor's feed
    #[command(after_help = "Examples:\n  sekisho catalog list\n  sekisho catalog show microsoft-365/sign-in\n  \
        sekisho catalog search login.microsoftonline.com\n  \
        sekisho catalog import endpoints.json && sekisho catalog diff --record /var/log/sekisho/access.jsonl\n  \
        sekisho catalog approve --by 'YAMADA Hanako' --note 'R8-112'\n  sekisho catalog revert --by 'YAMADA Hanako'")]
    Catalog {
        #[command(subcommand)]
        command: catalog::Command,
    },
    /// Print the proxy auto-configuration script (PAC) for browsers, made from the policy
    #[command(after_help = "Examples:\n  sekisho pac --config sekisho.toml > proxy.pac\n  \
        sekisho pac --client 10.20.0.7 > office.pac")]
    Pac(pac::Arguments),
    /// Prove that the tenant restriction is in force: what arrives at every inspected host, as a table to file
    #[command(after_help = prove::HELP)]
    Prove(prove::Arguments),
    /// Propose `[[service]]` blocks for what observing let through and what was refused as not_allowlisted
    #[command(
        after_help = "Reads records of any size line by line. The blocks are TOML, to be read, cut down and appended.\n\nExamples:\n  \
        sekisho suggest --config sekisho.toml access.jsonl > proposed.toml\n  \
        zcat access.jsonl.*.gz | sekisho suggest -"
    )]
    Suggest(suggest::Arguments),
    /// Ask a configuration again what a record tells of: every flow whose verdict, mode or headers would change
    #[command(after_help = "Exit code: 0 nothing changes, 3 something would, 1 error.\n\nExamples:\n  \
        sekisho replay --config new.toml access.jsonl\n  \
        zcat access.jsonl.*.gz | sekisho replay --config new.toml --json -")]
    Replay(replay::Arguments),
    /// Measure a proxy: an origin and a client that makes load
    #[command(after_help = "Examples:\n  sekisho load origin\n  \
        sekisho load run --proxy 127.0.0.1:8080 --target https://load.test:8443")]
    Load {
        #[command(subcommand)]
        command: load::Command,
    },
    /// Print a shell completion script
    #[command(after_help = "Examples:\n  sekisho completions bash > /etc/bash_completion.d/sekisho")]
    Completions { shell: Shell },
}

/// `--config`, for every command that reads one.
#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long = "config", value_name = "FILE", default_value = "sekisho.toml")]
    path: PathBuf,
}

impl ConfigFile {
    fn path(&self) -> &Path {
        &self.path
    }

    /// Loads it, or says everything that is wrong with it.
    fn load(&self, scope: Scope) -> Result<Config, ExitCode> {
        config::load(&self.path, scope, SystemTime::now()).map_err(|error| report(&error))
    }
}

/// Reads the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and are no errors.
            let _ = error.print();
            return if error.use_stderr() { FAILED.into() } else { DONE.into() };
        }
    };
    match arguments.command {
        Command::Quickstart(arguments) => quickstart::quickstart(&arguments),
        Command::Check { config } => check::check(&config),
        Command::Run(arguments) => run::run(&arguments),
        Command::Mint(arguments) => run::mint(&arguments),
        Command::Status(arguments) => control::status(&arguments),
        Command::Sessions(arguments) => control::sessions(&arguments),
        Command::Apply(arguments) => apply::apply(&arguments),
        Command::Confirm(at) => apply::confirm(&at),
        Command::Rollback(at) => apply::rollback(&at),
        Command::Upgrade(arguments) => upgrade::upgrade(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Ca { command } => ca::ca(&command),
        Command::Catalog { command } => catalog::catalog(&command),
        Command::Pac(arguments) => pac::pac(&arguments),
        Command::Prove(arguments) => prove::prove(&arguments),
        Command::Suggest(arguments) => suggest::suggest(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Load { command } => load::load(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sekisho", &mut script);
            say(&String::from_utf8_lossy(&script));
            DONE.into()
        }
    }
}

/// Whether the words behind `sekisho` are a command line: for pages that show some.
#[cfg(test)]
pub(crate) fn takes(words: &[&str]) -> Result<(), String> {
    let words = std::iter::once("sekisho").chain(words.iter().copied());
    Arguments::try_parse_from(words).map(|_| ()).map_err(|error| error.to_string())
}

/// All problems of a configuration, then how many there are.
fn report(error: &LoadError) -> ExitCode {
    let errors = error.problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = error.problems.len() - errors;
    complain(&format!("{error}\n\n{}: {}", error.file.display(), counted(errors, warnings)));
    FAILED.into()
}

fn counted(errors: usize, warnings: usize) -> String {
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, 0) => "no problems".to_owned(),
        (0, n) => plural(n, "warning"),
        (n, 0) => plural(n, "error"),
        (errors, warnings) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    }
}

/// A failure in one sentence.
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    complain(&format!("sekisho: {error}"));
    FAILED.into()
}

/// Writes to standard output. A reader that has gone (`| head`) is no error of ours.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
