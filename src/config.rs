//! The configuration: one TOML file in, one immutable [`Config`] out, or every problem at once.
//!
//! `document` is the text as TOML, `reader` (with `quantity`) the typed reading of it, `schema` its keys, `lower` (with `service`,
//! `taken`, `tenant`, `profiles`, `header`, `settings`, `issuing`, `limits`, `balancers`, `pac`, `enforcement`, `finding`, `shadowed`, `ismap`) the rules that need
//! no other file, `approval` what follows from a registration on a day, `catalogue` (with `feed`) the files of the catalogue, `files` the files it names, `problem` what is
//! wrong,
//! `summary` the screen of `sekisho check`. No phase imports this module: a [`Config`] is a struct of the phases' `Settings`.
//! The module knows its raw form as the spanned tree itself; nothing outside sees a value that was not judged.
//!
//! Deny is what is left when something is missing: no service, no client, an empty list all permit nothing (L01); a file that
//! is missing, broken or holds an unknown key gives no `Config` at all (L02, L05, L06).

mod approval;
mod balancers;
mod catalogue;
mod control;
mod difference;
mod document;
mod enforcement;
mod feed;
mod files;
mod finding;
mod header;
mod ismap;
mod issuing;
mod limits;
mod listener;
mod lower;
mod pac;
mod problem;
mod profiles;
mod quantity;
mod reader;
mod schema;
mod service;
mod settings;
mod shadowed;
mod source;
mod summary;
mod taken;
mod tenant;
mod units;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use time::Date;

pub use self::approval::{AfterGrace, Approval, Approvals, Demand, List, Registration, State, day_of};
use self::catalogue::Shelf;
pub use self::catalogue::built_in;
pub use self::control::control_socket;
pub use self::difference::difference;
pub use self::feed::{CatalogSettings, add_folder, catalog_settings};
pub use self::limits::{quotas_in_words, quotas_shown};
pub use self::listener::{Balancers, Listener, ListenerMode, Steering};
use self::problem::Problems;
pub use self::problem::{LoadError, Problem, Severity};
pub use self::profiles::tenant_example;
use self::source::load_from;
pub use self::source::{LastGood, Source, hexadecimal, load_as, text_sha256};
pub use self::summary::summary;
pub use self::units::show_duration;
use crate::addrs::ListenAddr;
use crate::catalog::Catalogue;
use crate::feed::state;
use crate::files::{MAX_CERTIFICATES, regular};
use crate::inspect::issuer::Issuer;
use crate::pac as pac_script;
use crate::policy::{Enforcement, HostPattern, Listed, Mode, Policy};
use crate::upstream::trust::Sources;
use crate::upstream::{connect, resolve, verify, vet};
use crate::{admit, identify, inspect, pressure, record, tunnel};

/// Largest file that is read: a million names take about a third of it.
pub const MAX_FILE: u64 = 64 << 20;

/// A configuration that holds: compiled, loaded, immutable.
#[derive(Clone)]
pub struct Config {
    /// 12 hexadecimal digits of the SHA-256 of the file, what it takes from the catalogue, its trust sources and the issuing certificate;
    /// and of which services are refused, where any is. The same revision decides the same.
    pub revision: Arc<str>,
    /// Without the last of these.
    pub as_loaded: Arc<str>,
    pub file: PathBuf,
    /// SHA-256 of the file's text.
    pub text_sha256: [u8; 32],
    pub site: Site,
    /// At least one.
    pub listeners: Vec<Listener>,
    pub balancers: Balancers,
    /// `None`: no admin listener.
    pub admin: Option<ListenAddr>,
    /// `None`: no control socket.
    pub control: Option<crate::control::Settings>,
    pub policy: Arc<Policy>,
    pub resolver: resolve::Settings,
    pub guard: vet::Settings,
    pub dial: connect::Settings,
    pub verify: verify::Settings,
    /// Where `[issuing_ca]` says the files are, whether they exist or not.
    pub issuing_files: Option<IssuingFiles>,
    /// Present wherever a service inspects, unless the issuing CA was out of scope. With [`Scope::WithoutIssuingKey`] it signs nothing yet.
    pub issuing: Option<Arc<Issuer>>,
    pub limits: admit::Settings,
    pub pressure: pressure::Settings,
    pub identify: identify::Settings,
    pub tunnel: tunnel::Settings,
    pub inspect: inspect::Settings,
    /// How long a client's connection may be open, whatever moves on it.
    pub connection_life: Option<Duration>,
    /// How long open connections may go on after SIGTERM.
    pub drain: Duration,
    pub record: record::Settings,
    pub catalog: CatalogSettings,
    /// `None`: no script is made.
    pub pac: Option<pac_script::Settings>,
    /// Hosts that a tenant restriction of some service is for, by the vendors' lists, whether a service lists them or not.
    pub restricted: Arc<[HostPattern]>,
    /// What services could take hosts from.
    pub catalogue: Arc<Catalogue>,
    /// What `verify` trusts, as configured, globs expanded.
    pub trust: Sources,
    /// Where the globs of `upstream.crls` look.
    pub crl_folders: Vec<PathBuf>,
    /// The entries of `[catalog] folder`.
    pub own_entries: OwnEntries,
    /// What is known of the services' registrations, and the day for which `policy` holds.
    pub approvals: Approvals,
    /// What is worth knowing, in file order; no errors.
    pub warnings: Vec<Problem>,
}

/// `[site]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The body's name, `sekisho` where the file gives none. 1 to 100 printable characters.
    pub name: String,
    /// `None`: no measures are looked for.
    pub case: Option<Case>,
    /// [`Enforcement::Enforce`] where `observe_until` had passed when the file was read.
    pub enforcement: Enforcement,
    /// `None`: no registration is asked for.
    pub require_ismap: Option<Demand>,
    /// Whether registrations on the ISMAP-LIU list count.
    pub accept_liu: bool,
}

/// The three uses of the guideline's draft (案, 2024-02-01), by which its mandatory measures differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// ア: licence authentication and pattern files only.
    Authentication,
    /// イ: cloud tools are used, nothing is taken in.
    Collaboration,
    /// ウ: files are exchanged with others.
    FileExchange,
}

impl Case {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Collaboration => "collaboration",
            Self::FileExchange => "file-exchange",
        }
    }
}

/// What the site's own catalogue files are, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnEntries {
    /// In the place of one of the program's.
    pub replacing: Vec<String>,
    pub added: Vec<String>,
}

/// `[issuing_ca]`, resolved against the configuration's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuingFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who takes over.
    pub next: Option<NextFiles>,
}

/// `[issuing_ca.next]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The day, in Japan, from whose beginning on leaves are its.
    pub from: Date,
}

/// How much of what the file names must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything, the issuing key too.
    Full,
    /// As the process that serves needs it: the issuing key is the minting process's.
    WithoutIssuingKey,
    /// For `ca init`: the files of `[issuing_ca]` are not looked at.
    WithoutIssuingCa,
}

impl Config {
    /// Every address this program listens on: what it must never dial.
    pub fn own_addresses(&self) -> Vec<ListenAddr> {
        let pac = self.pac.as_ref().and_then(|pac| pac.address);
        self.listeners.iter().map(|listener| listener.address).chain(self.admin).chain(pac).collect()
    }

    /// Every pattern of every inspected service, in file order: what an issuing CA must cover.
    pub fn inspected(&self) -> impl Iterator<Item = &HostPattern> {
        let inspected = self.policy.services().filter(|service| service.mode == Mode::Inspect);
        inspected.flat_map(|service| service.hosts).map(Listed::pattern)
    }

    /// This configuration as it is on `today`: the services whose registration is over are refused. `None` where nothing changes.
    /// What is refused stays so, also where the clock goes back.
    pub fn on(&self, today: Date) -> Option<Self> {
        let over = self.approvals.services.iter().filter(|approval| approval.registration.is_over(today));
        let over: HashSet<&str> = over.map(|approval| approval.rule.as_str()).collect();
        let policy = self.policy.refusing(|rule| over.contains(rule))?;
        let refused = policy.services().filter(|service| !service.approved).map(|service| service.id);
        let text = refused.fold(self.as_loaded.to_string(), |text, rule| text + " " + rule);
        let revision = shortened(digest::digest(&digest::SHA256, text.as_bytes()));
        let approvals = Approvals { day: today, ..self.approvals.clone() };
        Some(Self { revision, policy: Arc::new(policy), approvals, ..self.clone() })
    }

    /// What `check` says of registrations on `today` and did not say on `since`.
    pub fn turned(&self, since: Date, today: Date) -> Vec<Problem> {
        let file: Arc<str> = self.file.display().to_string().into();
        let turned = self.approvals.services.iter().filter(|approval| approval.registration.turns(since, today));
        let problem = |approval: &Approval| {
            let notice = approval.registration.notice(today)?;
            let (line, column, key) = approval.place.clone();
            let (severity, file, expected) = (Severity::Warning, Arc::clone(&file), notice.expected.to_owned());
            Some(Problem { severity, file, line, column, key, found: notice.found, expected, hint: notice.hint })
        };
        turned.filter_map(problem).collect()
    }
}

/// Reads the configuration at `path`. `now` is the wall clock, for the validity of certificates and CRLs.
///
/// # Errors
/// Every problem of the file at once, warnings with them. A file that cannot be read is one problem.
pub fn load(path: &Path, scope: Scope, now: SystemTime) -> Result<Config, LoadError> {
    load_from(path, path, scope, Shelf::WithFolder, now)
}

/// As [`load`], with this state of the feed instead of the one in force.
///
/// # Errors
/// As [`load`].
pub fn try_state(path: &Path, scope: Scope, state: &state::State, now: SystemTime) -> Result<Config, LoadError> {
    load_from(path, path, scope, Shelf::Trial(state), now)
}

/// The problems of `text` as far as they show without any other file. Does no I/O and never panics, whatever the text.
pub fn problems_of(file: &str, text: &str) -> Vec<Problem> {
    let mut problems = Problems::new(file, text);
    if let Some(tree) = document::parse(&mut problems) {
        lower::lower(&tree, Path::new(""), Shelf::BuiltIn, &mut problems);
    }
    problems.into_sorted()
}

/// The file's text without a byte order mark, which some editors put in front.
fn read(path: &Path, shown: &str) -> Result<String, LoadError> {
    let refuse = |found: &str, expected: &str, hint: &str| {
        let problem = Problem::of_file(shown, found, expected, hint);
        LoadError { file: path.to_owned(), problems: vec![problem] }
    };
    let bytes = regular(path, MAX_FILE).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "name it with --config FILE; `sekisho quickstart` writes one to begin with",
            io::ErrorKind::Other => "is this the right file? An ordinary one of at most 64 MiB is read",
            _ => "check the file's owner and mode: the user that runs sekisho must be able to read it",
        };
        refuse(&format!("no readable file ({error})"), "the configuration", hint)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count() + 1;
        let found = format!("text that is not UTF-8 in line {line}");
        refuse(&found, "UTF-8", "save it as UTF-8 (文字コード: UTF-8), not as Shift_JIS or UTF-16")
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// `None` where an error stands in `problems`.
fn assemble(
    path: &Path,
    scope: Scope,
    shelf: Shelf<'_>,
    now: SystemTime,
    problems: &mut Problems<'_>,
) -> Option<Config> {
    let text = problems.text();
    let tree = document::parse(problems)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut lowered = lower::lower(&tree, base, shelf, problems);
    let enforcement = enforcement::judge(lowered.observed.take(), &lowered.restricted, now, problems);
    let approvals = ismap::judge_day(take(&mut lowered.approvals), day_of(now), problems);
    let control = control::resolve(lowered.control.take(), scope, problems);
    let pulled = files::pull_in(&lowered, base, scope, now, problems)?;
    let (policy, timeouts) = (lowered.policy?, lowered.timeouts);
    let issuing_files = lowered.issuing.map(|(files, _)| files);
    let today = approvals.day;
    let revision = revision(text, &lowered.taken, pulled.trust.revision(), issuing_files.as_ref());
    let config = Config {
        as_loaded: Arc::clone(&revision),
        revision,
        file: path.to_owned(),
        text_sha256: source::sha256(text.as_bytes()),
        site: Site { enforcement, ..lowered.site },
        listeners: lowered.listeners,
        balancers: lowered.balancers,
        admin: lowered.admin,
        control,
        policy: Arc::new(policy),
        resolver: pulled.resolver,
        guard: lowered.upstream.guard,
        dial: lowered.upstream.dial,
        verify: verify::Settings {
            trust: pulled.trust,
            handshake: timeouts.upstream_handshake,
            cache: lowered.upstream.verify_cache,
        },
        issuing_files,
        issuing: pulled.issuer,
        limits: lowered.limits,
        pressure: lowered.pressure,
        identify: identify::Settings { request_head: timeouts.request_head, client_hello: timeouts.client_hello },
        tunnel: tunnel::Settings { idle: timeouts.tunnel_idle, half_closed: timeouts.tunnel_half_closed },
        inspect: inspect::Settings { client_handshake: timeouts.client_handshake, deadlines: timeouts.exchange },
        connection_life: timeouts.connection_life,
        drain: timeouts.drain,
        record: lowered.record,
        catalog: lowered.catalog,
        pac: lowered.pac,
        restricted: take(&mut lowered.restricted).into(),
        catalogue: Arc::new(lowered.catalogue),
        trust: pulled.sources,
        crl_folders: pulled.crl_folders,
        own_entries: lowered.own_entries,
        approvals,
        warnings: Vec::new(),
    };
    Some(config.on(today).unwrap_or(config))
}

/// The issuing key is not in it: the certificate says which one it is.
fn revision(text: &str, taken: &str, trust: &str, issuing: Option<&IssuingFiles>) -> Arc<str> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(text.as_bytes());
    context.update(b"\0");
    if !taken.is_empty() {
        context.update(taken.as_bytes());
        context.update(b"\0");
    }
    context.update(trust.as_bytes());
    let next = issuing.and_then(|files| files.next.as_ref()).map(|next| &next.certificate);
    for certificate in issuing.map(|files| &files.certificate).into_iter().chain(next) {
        if let Ok(certificate) = regular(certificate, MAX_CERTIFICATES) {
            context.update(b"\0");
            context.update(&certificate);
        }
    }
    shortened(context.finish())
}

fn shortened(hash: digest::Digest) -> Arc<str> {
    hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// Short: its parts hold secrets and a million names.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("file", &self.file).field("revision", &self.revision).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
