//! `sekisho ca init` and `sekisho ca show`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use super::{ConfigFile, DONE, fail, say};
use crate::config::{Config, IssuingFiles, Scope};
use crate::inspect::authority::{InitRequest, init_under};
use crate::inspect::certificate::CertificateError;
use crate::inspect::issuer::Which;
use crate::inspect::keyfile::is_credential;
use crate::inspect::show::describe;
use crate::policy::{Breadth, HostPattern};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Make a root and the issuing CA, constrained to the inspected hosts; never overwrites
    #[command(
        after_help = "Where the root is there and the issuing CA's files are not, a new issuing CA is made under the same root, \
        so that clients keep trusting: this is how a new inspected host is covered.\n\n\
        Examples:\n  sekisho ca init\n  sekisho ca init --reserve example.co.jp --days 365\n  \
        sekisho ca init --next                              the one that [issuing_ca.next] names\n  \
        sekisho ca init --key /root/ca-key                  for key = \"credential:ca-key\""
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
        /// Make the files of [issuing_ca.next], under the same root
        #[arg(long)]
        next: bool,
        /// Where the key goes, where the file says credential:NAME
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
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
        Command::Init { config, reserve, days, next, key } => {
            let which = if *next { Which::Next } else { Which::First };
            make(config, reserve, *days, which, key.as_deref())
        }
        Command::Show { config } => show(config),
    }
}

fn make(file: &ConfigFile, reserve: &[String], days: u32, which: Which, key: Option<&Path>) -> ExitCode {
    let config = match file.load(Scope::WithoutIssuingCa) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let files = match issuing_files(&config) {
        Ok(files) => files,
        Err(code) => return code,
    };
    let own = match own_files(files, which, key) {
        Ok(own) => own,
        Err(why) => return fail(&format!("{}: {why}", config.file.display())),
    };
    let mut permitted: Vec<String> = config.inspected().map(|pattern| pattern.fixed_suffix().to_owned()).collect();
    for name in reserve {
        match reserved(name) {
            Ok(suffix) => permitted.push(suffix),
            Err(why) => return fail(&why),
        }
    }
    let request = InitRequest {
        certificate: own.0.to_owned(),
        key: own.1.to_owned(),
        site: config.site.name.clone(),
        permitted,
        days,
        now: SystemTime::now(),
    };
    let beside = match which {
        Which::First => own,
        Which::Next => (files.certificate.as_path(), key.unwrap_or(&files.key)),
    };
    match init_under(&request, beside) {
        Ok(report) => {
            say(&report.to_string());
            DONE.into()
        }
        Err(error) => fail(&error),
    }
}

/// The two files to be made.
fn own_files<'f>(files: &'f IssuingFiles, which: Which, key: Option<&'f Path>) -> Result<(&'f Path, &'f Path), String> {
    let (certificate, named) = match (which, &files.next) {
        (Which::First, _) => (&files.certificate, &files.key),
        (Which::Next, Some(next)) => (&next.certificate, &next.key),
        (Which::Next, None) => {
            return Err(
                "there is no [issuing_ca.next]: add it with certificate, key and from, then try again".to_owned()
            );
        }
    };
    match key {
        Some(key) => Ok((certificate, key)),
        None if is_credential(named) => Err(
            "the key is a systemd credential, which only the service has: say with --key FILE where to put it, and give that file to \
             LoadCredential= of the unit, or to `systemd-creds encrypt`"
                .to_owned(),
        ),
        None => Ok((certificate, named)),
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
    let now = SystemTime::now();
    let described = describe(&files.certificate, &files.key, now).and_then(|first| {
        let next = files.next.as_ref();
        let next = next.map(|next| Ok((next.from, describe(&next.certificate, &next.key, now)?))).transpose()?;
        Ok((first, next))
    });
    match described {
        Ok((first, None)) => say(&first.to_string()),
        Ok((first, Some((from, next)))) => say(&format!("{first}\nfrom {from} on\n{next}")),
        Err::<_, CertificateError>(error) => return fail(&error),
    }
    DONE.into()
}

fn issuing_files(config: &Config) -> Result<&IssuingFiles, ExitCode> {
    config.issuing_files.as_ref().ok_or_else(|| {
        let file = config.file.display();
        fail(&format!(
            "{file} has no [issuing_ca]: add it with certificate = \"ca.pem\" and key = \"ca.key\", then try again"
        ))
    })
}
