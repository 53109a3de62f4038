//! `sekisho ca init` and `sekisho ca show`.

use std::process::ExitCode;
use std::time::SystemTime;

use super::{ConfigFile, DONE, fail, say};
use crate::config::{Config, IssuingFiles, Scope};
use crate::inspect::authority::{InitRequest, init};
use crate::inspect::show::describe;
use crate::policy::{Breadth, HostPattern};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Make a root and the issuing CA, constrained to the inspected hosts; never overwrites
    #[command(
        after_help = "Where the root is there and the issuing CA's files are not, a new issuing CA is made under the same root, \
        so that clients keep trusting: this is how a new inspected host is covered.\n\n\
        Examples:\n  sekisho ca init\n  sekisho ca init --reserve example.co.jp --days 365"
    )]
    Init {
        #[command(flatten)]
        config: ConfigFile,
        /// A name to permit beside the inspected hosts, for services to come (again for more)
        #[arg(long, value_name = "NAME")]
        reserve: Vec<String>,
        /// How long the issuing CA is valid
        #[arg(long, default_value_t = 730)]
        days: u32,
    },
    /// Say what is there, what it covers and when it ends
    #[command(after_help = "Examples:\n  sekisho ca show --config /etc/sekisho/sekisho.toml")]
    Show {
        #[command(flatten)]
        config: ConfigFile,
    },
}

pub(super) fn ca(command: &Command) -> ExitCode {
    match command {
        Command::Init { config, reserve, days } => make(config, reserve, *days),
        Command::Show { config } => show(config),
    }
}

fn make(file: &ConfigFile, reserve: &[String], days: u32) -> ExitCode {
    let config = match file.load(Scope::WithoutIssuingCa) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let files = match issuing_files(&config) {
        Ok(files) => files,
        Err(code) => return code,
    };
    let mut permitted: Vec<String> = config.inspected().map(|pattern| pattern.fixed_suffix().to_owned()).collect();
    for name in reserve {
        match reserved(name) {
            Ok(suffix) => permitted.push(suffix),
            Err(why) => return fail(&why),
        }
    }
    let request = InitRequest {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        site: config.site.name.clone(),
        permitted,
        days,
        now: SystemTime::now(),
    };
    match init(&request) {
        Ok(report) => {
            say(&report.to_string());
            DONE.into()
        }
        Err(error) => fail(&error),
    }
}

/// A reserved name goes by the rules of a host pattern: what may not be listed may not be signed for.
fn reserved(name: &str) -> Result<String, String> {
    let pattern = HostPattern::parse(name).map_err(|error| format!("--reserve {name}: {error}"))?;
    match pattern.breadth() {
        Breadth::Fine | Breadth::PrivateSuffix(_) => Ok(pattern.fixed_suffix().to_owned()),
        Breadth::AboveIcann(_) => Err(format!(
            "--reserve {name}: this is at or above a public suffix, and would let the CA sign for everybody there"
        )),
    }
}

fn show(file: &ConfigFile) -> ExitCode {
    let config = match file.load(Scope::WithoutIssuingCa) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let files = match issuing_files(&config) {
        Ok(files) => files,
        Err(code) => return code,
    };
    match describe(&files.certificate, &files.key, SystemTime::now()) {
        Ok(description) => {
            say(&description.to_string());
            DONE.into()
        }
        Err(error) => fail(&error),
    }
}

fn issuing_files(config: &Config) -> Result<&IssuingFiles, ExitCode> {
    config.issuing_files.as_ref().ok_or_else(|| {
        let file = config.file.display();
        fail(&format!(
            "{file} has no [issuing_ca]: add it with certificate = \"ca.pem\" and key = \"ca.key\", then try again"
        ))
    })
}
