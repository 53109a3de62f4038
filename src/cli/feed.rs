//! `sekisho catalog import | diff | approve | revert | history`: a vendor's list of endpoints, from a file to what is in force.
//!
//! None of them needs a running proxy, and none tells it anything: it takes what was approved with its next reload.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use super::announced;
use super::delta::{self, Shown};
use super::reviewed::{self, Sides, enforce, sides};
use super::{DONE, FAILED, complain, fail, report, say};
use crate::config::{self, CatalogSettings};
use crate::feed::change::refuse_fewer_taken;
use crate::feed::endpoints::{Feed, MAX_OCTETS, Refusal};
use crate::feed::hits::{Counter, Told, Window, since};
use crate::feed::shelf::{Shelf, ShelfError};
use crate::feed::state::{Staged, State, Words};
use crate::files::{open_regular, regular};
use crate::policy::HostPattern;

/// `diff`: the pending feed changes something.
const DIFFERENT: u8 = 3;

/// Where the states are.
#[derive(clap::Args)]
pub(super) struct Place {
    /// The configuration, whose `[catalog]` folder it is; ./sekisho.toml if neither is named
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder itself; no configuration is tried with what is approved
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    folder: Option<PathBuf>,
}

/// An open place.
pub(super) struct Opened {
    pub shelf: Shelf,
    /// `None`: only the folder was named.
    pub config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct Import {
    /// The answer of `https://endpoints.office.com/endpoints/worldwide`, carried in as a file
    file: PathBuf,
    /// The answer of `https://endpoints.office.com/changes/worldwide/VERSION` with the version in force: from which days on hosts are used
    #[arg(long, value_name = "FILE")]
    changes: Option<PathBuf>,
    /// Take it though more than half of the hosts, or a whole service area, are gone
    #[arg(long)]
    accept_shrunk: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
pub(super) struct Diff {
    /// Count requests in this access record; several are added up
    #[arg(long, value_name = "FILE")]
    record: Vec<PathBuf>,
    /// Count from this time (UTC) on, such as 2026-11-01 or 2026-11-01T09; default: the record's last day that is over
    #[arg(long, value_name = "TIME", requires = "record", value_parser = since)]
    since: Option<Window>,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
pub(super) struct Approve {
    #[command(flatten)]
    words: Signed,
    /// Only if the pending feed is the one that `diff` showed with this digest
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
pub(super) struct Revert {
    #[command(flatten)]
    words: Signed,
    /// The state to go back to, by its number in `history`; 0: the program's own list
    #[arg(long, value_name = "NUMBER")]
    to: Option<u32>,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
struct Signed {
    /// Who decides
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Why, or under which number it was decided
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl Signed {
    fn words(&self) -> Words {
        Words { by: self.by.clone(), note: self.note.clone() }
    }
}

impl Place {
    pub fn open(&self) -> Result<Opened, ExitCode> {
        if let Some(folder) = &self.folder {
            return open_folder(folder, None);
        }
        let file = self.config.clone().unwrap_or_else(|| PathBuf::from("sekisho.toml"));
        let CatalogSettings { folder, .. } = config::catalog_settings(&file).map_err(|error| report(&error))?;
        let Some(folder) = folder else {
            return Err(fail(&format!(
                "{} has no folder for feeds: add [catalog] with folder = \"catalog.d\" and make that folder, or name one with \
                 --folder DIR",
                file.display()
            )));
        };
        open_folder(&folder, Some(file))
    }
}

pub(super) fn open_folder(folder: &Path, config: Option<PathBuf>) -> Result<Opened, ExitCode> {
    if !folder.is_dir() {
        return Err(fail(&format!("the folder {} is not there: make it, or correct its name", folder.display())));
    }
    Ok(Opened { shelf: Shelf::new(folder), config })
}

pub(super) fn failed(error: ShelfError) -> ExitCode {
    fail(&error)
}

pub(super) fn import(arguments: &Import) -> Result<ExitCode, ExitCode> {
    let opened = arguments.place.open()?;
    let shown = arguments.file.display().to_string();
    let octets = regular(&arguments.file, MAX_OCTETS as u64).map_err(|error| fail(&format!("{shown}: {error}")))?;
    let name = arguments.file.file_name().map_or(shown, |name| name.to_string_lossy().into_owned());
    let source = Source { origin: &name, version: None, accept_shrunk: arguments.accept_shrunk };
    let mut staged = judge(&opened.shelf, &octets, &source).map_err(|refused| refused.code)?;
    staged.announced = arguments.changes.as_deref().map(announced::carried).transpose()?;
    stage(&opened.shelf, &staged)?;
    Ok(DONE.into())
}

/// Where octets that are to be staged came from.
pub(super) struct Source<'s> {
    pub origin: &'s str,
    pub version: Option<String>,
    pub accept_shrunk: bool,
}

/// Why octets are not staged; it has been said.
pub(super) struct Refused {
    pub code: ExitCode,
    /// For being so much less than what is in force, and for nothing else.
    pub shrunk: bool,
}

impl From<ExitCode> for Refused {
    fn from(code: ExitCode) -> Self {
        Self { code, shrunk: false }
    }
}

/// Parses, and judges against what is in force.
pub(super) fn judge(shelf: &Shelf, octets: &[u8], source: &Source<'_>) -> Result<Staged, Refused> {
    let refuse = |refusal: Refusal, more: &str| {
        fail(&format!(
            "{} is refused whole, and nothing was changed:\n  {}{more}",
            source.origin,
            refusal.0.join("\n  ")
        ))
    };
    let feed = Feed::parse(octets).map_err(|refusal| refuse(refusal, ""))?;
    let in_force = shelf.in_force().map_err(failed)?.and_then(|state| state.staged);
    let staged = Staged::new(feed, octets, source.origin, source.version.clone(), SystemTime::now());
    let before = reviewed::entry(in_force.as_ref())?;
    let (hosts, areas) = match &in_force {
        Some(staged) => (staged.feed.hosts(), staged.feed.areas()),
        None => (before.parts.iter().map(|part| part.hosts.len()).sum(), Vec::new()),
    };
    let after = reviewed::entry(Some(&staged))?;
    let shrunk = staged.feed.refuse_collapse(hosts, &areas).and_then(|()| refuse_fewer_taken(&before, &after));
    match shrunk {
        Err(refusal) if !source.accept_shrunk => {
            let code = refuse(refusal, "\n  if that is what the vendor means: --accept-shrunk");
            Err(Refused { code, shrunk: true })
        }
        Ok(()) | Err(_) => Ok(staged),
    }
}

/// Puts it in the place of what is pending.
pub(super) fn stage(shelf: &Shelf, staged: &Staged) -> Result<(), ExitCode> {
    shelf.stage(staged).map_err(failed)?;
    let mut text = format!("pending: {}\n", delta::described(staged));
    if let Some(announced) = &staged.announced {
        text.push_str(&format!(
            "with what the vendor announced: {} changes of endpoint sets\n",
            announced.changes.len()
        ));
    }
    for wide in staged.feed.wide_ranges() {
        text.push_str(&format!("note: {wide}; sekisho takes no addresses, a firewall's list might\n"));
    }
    say(&format!(
        "{text}Nothing is changed yet: `sekisho catalog diff` shows what would be, `sekisho catalog approve --by NAME` puts it in force."
    ));
    Ok(())
}

pub(super) fn diff(arguments: &Diff) -> Result<ExitCode, ExitCode> {
    let opened = arguments.place.open()?;
    let pending = opened.shelf.pending().map_err(failed)?;
    let in_force = opened.shelf.in_force().map_err(failed)?;
    let Sides { old, changes } = sides(in_force.as_ref().and_then(|state| state.staged.as_ref()), &pending)?;
    let patterns: Vec<HostPattern> = changes.hosts.iter().filter_map(|change| change.host.fill(None).ok()).collect();
    let told = match arguments.record.as_slice() {
        [] => None,
        files => Some(counted(&patterns, files, arguments.since.as_ref())?),
    };
    if let Some(unread) = told.as_ref().map(|told| told.unread).filter(|unread| *unread > 0) {
        complain(&format!("note: {unread} lines of the record are not whole and were passed over"));
    }
    let different = changes.is_different();
    let today = announced::today(SystemTime::now());
    let shown = Shown {
        pending: &pending,
        in_force: in_force.as_ref(),
        old: &old,
        changes: &changes,
        told: told.as_ref(),
        today,
    };
    say(&delta::text(&shown));
    if let (true, Some(file)) = (different, &opened.config) {
        reviewed::try_with(file, &State::trial(pending), &changes.hosts);
    }
    Ok(if different { DIFFERENT.into() } else { DONE.into() })
}

fn counted(patterns: &[HostPattern], files: &[PathBuf], since: Option<&Window>) -> Result<Told, ExitCode> {
    let last_day = || Window::LastDay { today: delta::today(SystemTime::now()) };
    let window = since.cloned().unwrap_or_else(last_day);
    let mut counter = Counter::new(patterns, window);
    for file in files {
        let read = open_regular(file).and_then(|opened| counter.read(BufReader::with_capacity(1 << 16, opened)));
        read.map_err(|error| fail(&format!("{}: {error}", file.display())))?;
    }
    Ok(counter.told())
}

pub(super) fn approve(arguments: &Approve) -> Result<ExitCode, ExitCode> {
    let opened = arguments.place.open()?;
    let approval = opened.shelf.approval(&arguments.words.words(), arguments.digest.as_deref(), SystemTime::now());
    let state = approval.map_err(failed)?;
    refuse_same(&opened.shelf, &state)?;
    enforce(&opened, &state)?;
    if let Some(staged) = &state.staged {
        opened.shelf.clear(staged);
    }
    Ok(DONE.into())
}

/// A list without any difference is nothing to approve: it would only stand in the way of the next reversal. A state in force that cannot
/// be read is different from anything.
fn refuse_same(shelf: &Shelf, state: &State) -> Result<(), ExitCode> {
    let (Some(pending), Ok(in_force)) = (&state.staged, shelf.in_force()) else { return Ok(()) };
    if sides(in_force.and_then(|state| state.staged).as_ref(), pending)?.changes.is_different() {
        return Ok(());
    }
    Err(fail(&"the pending feed makes no difference to what is in force: there is nothing to approve"))
}

pub(super) fn revert(arguments: &Revert) -> Result<ExitCode, ExitCode> {
    let opened = arguments.place.open()?;
    let reversal = opened.shelf.reversal(&arguments.words.words(), arguments.to, SystemTime::now());
    enforce(&opened, &reversal.map_err(failed)?)?;
    Ok(DONE.into())
}

pub(super) fn history(place: &Place) -> Result<ExitCode, ExitCode> {
    let opened = place.open()?;
    let numbers = opened.shelf.numbers().map_err(failed)?;
    let mut code = ExitCode::from(DONE);
    say("0     the program's own list");
    let mut due = 1;
    for number in numbers {
        if number > due {
            complain(&format!(
                "sekisho: {} and what follows up to {number:04}.json is not there",
                opened.shelf.file(due).display()
            ));
            code = FAILED.into();
        }
        due = number + 1;
        match opened.shelf.state(number) {
            Ok(state) => say(&delta::state_line(&state)),
            Err(error) => {
                complain(&format!("{number:04}  {error}"));
                code = FAILED.into();
            }
        }
    }
    match opened.shelf.pending() {
        Ok(staged) => say(&format!("pending: {}", delta::described(&staged))),
        Err(ShelfError::NothingPending(_)) => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(code)
}
