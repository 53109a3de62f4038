//! A list beside the one in force, and what the site's own configuration makes of it, before it is in force.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use super::announced;
use super::delta;
use super::feed::{Opened, failed};
use super::{complain, fail, report, say};
use crate::catalog::{Catalogue, Entry};
use crate::config::{self, Config, LoadError, Scope};
use crate::feed::ENTRY;
use crate::feed::change::{Changes, Compared, HostChange, compare};
use crate::feed::leave::{Leave, without_leave};
use crate::feed::places::compose;
use crate::feed::state::{Staged, State, Words};

/// The entry of the program's own catalogue.
fn own(program: &Catalogue) -> Result<&Entry, ExitCode> {
    program.entry(ENTRY).ok_or_else(|| fail(&format!("the program has no catalogue entry {ENTRY}")))
}

/// The entry that a list makes; without one, the program's own.
pub(super) fn entry(staged: Option<&Staged>) -> Result<Entry, ExitCode> {
    let program = config::built_in();
    let own = own(&program)?;
    let composed = staged.map(|staged| compose(own, &program, &staged.feed, &staged.provenance()).entry);
    Ok(composed.unwrap_or_else(|| own.clone()))
}

/// The entry before, and what is different after.
pub(super) struct Sides {
    pub old: Entry,
    pub changes: Changes,
}

pub(super) fn sides(old: Option<&Staged>, new: &Staged) -> Result<Sides, ExitCode> {
    let program = config::built_in();
    let composed = compose(own(&program)?, &program, &new.feed, &new.provenance());
    let (old, old_feed) = (entry(old)?, old.map(|staged| &staged.feed));
    let changes = compare(&Compared { old: &old, old_feed, new: &composed, new_feed: &new.feed });
    Ok(Sides { old, changes })
}

/// The site's configuration with a state that is not in force.
struct Tried {
    config: Config,
    /// What it warns of and does not with the state in force, as `check` would print it.
    new_warnings: Vec<String>,
}

/// As `run` would load it where that can be told from here: the issuing key may be another user's.
fn tried(file: &Path, state: &State) -> Result<Tried, LoadError> {
    let now = SystemTime::now();
    let (scope, before) = match config::load(file, Scope::Full, now) {
        Ok(before) => (Scope::Full, Some(before)),
        Err(_) => (Scope::WithoutIssuingCa, config::load(file, Scope::WithoutIssuingCa, now).ok()),
    };
    let config = config::try_state(file, scope, state, now)?;
    if scope == Scope::WithoutIssuingCa && config.issuing_files.is_some() {
        complain(
            "note: the configuration does not load here as it is (`sekisho check` says why), so that whether the issuing CA covers \
             new hosts was not tried",
        );
    }
    let known = before.map(|before| before.warnings.iter().map(ToString::to_string).collect()).unwrap_or_default();
    let known: Vec<String> = known;
    let warnings = config.warnings.iter().map(ToString::to_string);
    let new_warnings = warnings.filter(|warning| !known.contains(warning)).collect();
    Ok(Tried { config, new_warnings })
}

/// What the site's own configuration makes of it: it would not load, warns of something new, or has a removed host by itself.
pub(super) fn try_with(file: &Path, state: &State, changes: &[HostChange]) {
    let tried = match tried(file, state) {
        Ok(tried) => tried,
        Err(error) => {
            say(&format!("\nWith it {} would not load:\n{error}", file.display()));
            return;
        }
    };
    if !tried.new_warnings.is_empty() {
        say(&format!("\nWith it {} warns of what it does not now:\n{}", file.display(), tried.new_warnings.join("\n")));
    }
    for line in delta::own_hosts(&tried.config.policy, changes) {
        say(&line);
    }
}

/// A state with which the site's configuration does not load is not put in force: the proxy would refuse it at the next start.
/// Gives the warnings that are new with it.
fn judged(opened: &Opened, state: &State) -> Result<Vec<String>, ExitCode> {
    let Some(file) = &opened.config else { return Ok(Vec::new()) };
    match tried(file, state) {
        Ok(tried) => Ok(tried.new_warnings),
        Err(error) => {
            let code = report(&error);
            complain(&format!(
                "sekisho: nothing was put in force: with this state {} does not load. Correct it first, or name the folder alone \
                 (--folder DIR), which tries no configuration",
                file.display()
            ));
            Err(code)
        }
    }
}

/// Puts it in force, with the warnings that are new.
pub(super) fn enforce(opened: &Opened, state: &State) -> Result<(), ExitCode> {
    for warning in judged(opened, state)? {
        complain(&warning);
    }
    put(opened, state)
}

fn put(opened: &Opened, state: &State) -> Result<(), ExitCode> {
    let not_yet = not_yet(state)?;
    opened.shelf.put(state).map_err(failed)?;
    say(&format!(
        "in force: {}\n{not_yet}The proxy takes it with its next reload (systemctl reload sekisho, or SIGHUP).",
        delta::state_line(state)
    ));
    Ok(())
}

/// Hosts of the state that are not used yet, in lines.
fn not_yet(state: &State) -> Result<String, ExitCode> {
    let Some((staged, announced)) = state.staged.as_ref().and_then(|staged| Some((staged, staged.announced.as_ref()?)))
    else {
        return Ok(String::new());
    };
    Ok(announced::not_yet(announced, &staged.feed, &entry(Some(staged))?, announced::today(SystemTime::now())))
}

/// Approves what was just fetched where the site has given leave for each of its changes, and nothing else speaks against it. The first
/// list is always somebody's, and so is the next one after a reversal: it may be what was reverted.
pub(super) fn approve_by_leave(opened: &Opened, leaves: &[Leave]) -> Result<(), ExitCode> {
    let in_force = opened.shelf.in_force().map_err(failed)?;
    let Some(in_force) = in_force.filter(|_| !leaves.is_empty()) else { return Ok(()) };
    if in_force.restores.is_some() {
        let state = delta::state_line(&in_force);
        say(&format!(
            "the state in force is a reversal, after which [catalog] auto_approve is no leave: it stays pending\n  {state}"
        ));
        return Ok(());
    }
    let Some(before) = &in_force.staged else { return Ok(()) };
    let pending = opened.shelf.pending().map_err(failed)?;
    let Sides { changes, .. } = sides(Some(before), &pending)?;
    if !changes.is_different() {
        say("no difference from what is in force: it stays pending");
        return Ok(());
    }
    let due = without_leave(&changes, &before.feed, &pending.feed, leaves).len();
    if due > 0 {
        say(&format!(
            "{due} of {} changes of hosts have no leave by [catalog] auto_approve: it stays pending",
            changes.hosts.len()
        ));
        return Ok(());
    }
    let note = format!("{} changes of hosts, each with leave", changes.hosts.len());
    let words = Words { by: "[catalog] auto_approve".to_owned(), note: Some(note) };
    let state = opened.shelf.approval(&words, Some(&pending.digest()), SystemTime::now()).map_err(failed)?;
    let warnings = judged(opened, &state)?;
    if !warnings.is_empty() {
        for warning in warnings {
            complain(&warning);
        }
        say(
            "with it the configuration warns of what it does not now, for which [catalog] auto_approve is no leave: it stays pending",
        );
        return Ok(());
    }
    put(opened, &state)?;
    opened.shelf.clear(&pending);
    Ok(())
}
