//! `sekisho ca init` and `sekisho ca show`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use super::{ConfigFile, DONE, fail, say};
use crate::config::{Config, IssuingFiles, Scope};
use crate::inspect::authority::{InitReport, InitRequest, RootFiles, RootOrigin, init_under, init_with};
use crate::inspect::issuer::Which;
use crate::inspect::keyfile::credential_name;
use crate::inspect::show::describe;
use crate::policy::{Breadth, HostPattern};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Make a root and the issuing CA, constrained to the inspected hosts; never overwrites
    #[command(
        after_help = "Where the root is there and the issuing CA's files are not, a new issuing CA is made under the same root, \
        so that clients keep trusting: this is how a new inspected host is covered. The root's files lie beside the certificate of \
        [issuing_ca] (ca.pem: ca-root.pem and ca-root.key), with --next too.\n\n\
        Examples:\n  sekisho ca init\n  sekisho ca init --reserve example.co.jp --days 365\n  \
        sekisho ca init --next                              the one that [issuing_ca.next] names\n  \
        sekisho ca init --key /etc/credstore/sekisho.ca-key --root-key /media/offline/ca-root.key\n                     \
                                      for key = \"credential:ca-key\"; the root's key never lies on the machine"
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
        /// Make the files of `[issuing_ca.next]`, under the same root
        #[arg(long)]
        next: bool,
        /// Where the key goes, where the file says credential:NAME
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Where the root's key is, or goes [default: beside the certificate of `[issuing_ca]`]
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
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
        Command::Init { config, reserve, days, next, key, root_key } => {
            let which = if *next { Which::Next } else { Which::First };
            let placed = Placed { key: key.as_deref(), root_key: root_key.as_deref() };
            make(config, reserve, *days, which, &placed)
        }
        Command::Show { config } => show(config),
    }
    .unwrap_or_else(|code| code)
}

/// Where keys go that the file does not say.
struct Placed<'a> {
    key: Option<&'a Path>,
    root_key: Option<&'a Path>,
}

fn make(
    file: &ConfigFile,
    reserve: &[String],
    days: u32,
    which: Which,
    placed: &Placed<'_>,
) -> Result<ExitCode, ExitCode> {
    let config = file.load(Scope::WithoutIssuingCa)?;
    let files = issuing_files(&config)?;
    let own = own_files(files, which, placed.key).map_err(|why| fail(&format!("{}: {why}", config.file.display())))?;
    let mut permitted: Vec<String> = config.inspected().map(|pattern| pattern.fixed_suffix().to_owned()).collect();
    for name in reserve {
        permitted.push(reserved(name).map_err(|why| fail(&why))?);
    }
    let request = InitRequest {
        certificate: own.certificate.to_owned(),
        key: own.key.to_owned(),
        site: config.site.name.clone(),
        permitted,
        days,
        now: SystemTime::now(),
    };
    let mut root = RootFiles::beside(&files.certificate);
    if let Some(key) = placed.root_key {
        key.clone_into(&mut root.key);
    }
    let made = match which {
        Which::First => init_with(&request, &root),
        Which::Next => init_under(&request, &root),
    };
    let report = made.map_err(|error| fail(&error))?;
    say(&format!("{report}\n{}", steps(&report, own.credential)));
    Ok(DONE.into())
}

/// What is to be done next.
fn steps(report: &InitReport, credential: Option<&str>) -> String {
    let key = match credential {
        None => format!("must belong to the user that sekisho runs as: chown USER {}", report.key.display()),
        Some(name) => {
            format!("stays root's: LoadCredential={name}:FILE of the unit hands it over when the service starts.")
        }
    };
    let last = match (report.root, credential) {
        (RootOrigin::Made, _) => "Install the root certificate on the clients (compare its SHA-256 there).",
        (RootOrigin::Kept, None) => "Reload sekisho (SIGHUP).",
        (RootOrigin::Kept, Some(_)) => "Restart sekisho: a reload does not read a credential anew.",
    };
    format!(
        "Now: 1. Take the root key {} away, to where it is kept offline. sekisho does not need it, and who has it\n        \
         can sign for any name that the clients look up.\n     \
         2. The issuing key {key}\n     \
         3. {last}\n",
        report.root_files.key.display()
    )
}

/// What is to be made.
struct OwnFiles<'f> {
    certificate: &'f Path,
    key: &'f Path,
    /// By what name the unit hands the key over.
    credential: Option<&'f str>,
}

fn own_files<'f>(files: &'f IssuingFiles, which: Which, placed: Option<&'f Path>) -> Result<OwnFiles<'f>, String> {
    let (certificate, named) = match (which, &files.next) {
        (Which::First, _) => (&files.certificate, &files.key),
        (Which::Next, Some(next)) => (&next.certificate, &next.key),
        (Which::Next, None) => {
            return Err(
                "there is no [issuing_ca.next]: add it with certificate, key and from, then try again".to_owned()
            );
        }
    };
    let credential = credential_name(named);
    match (placed, credential) {
        (None, Some(name)) => Err(format!(
            "the key is the systemd credential {name}, which only the service has: say with --key FILE where to put it, and give that file \
             to LoadCredential={name}:FILE of the unit, or to `systemd-creds encrypt --name={name}` (the package's unit takes \
             /etc/credstore/sekisho.{name})"
        )),
        (placed, credential) => Ok(OwnFiles { certificate, key: placed.unwrap_or(named), credential }),
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

fn show(file: &ConfigFile) -> Result<ExitCode, ExitCode> {
    let config = file.load(Scope::WithoutIssuingCa)?;
    let files = issuing_files(&config)?;
    let now = SystemTime::now();
    let described = |certificate: &Path, key: &Path| describe(certificate, key, now).map_err(|error| fail(&error));
    let mut text = described(&files.certificate, &files.key)?.to_string();
    if let Some(next) = &files.next {
        text = format!("{text}\nfrom {} on\n{}", next.from, described(&next.certificate, &next.key)?);
    }
    say(&text);
    Ok(DONE.into())
}

fn issuing_files(config: &Config) -> Result<&IssuingFiles, ExitCode> {
    config.issuing_files.as_ref().ok_or_else(|| {
        let file = config.file.display();
        fail(&format!(
            "{file} has no [issuing_ca]: add it with certificate = \"ca.pem\" and key = \"ca.key\", then try again"
        ))
    })
}
