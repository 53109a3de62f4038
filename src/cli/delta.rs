//! What a pending feed changes, in words: the screen of `sekisho catalog diff`, and the lines of `history`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use time::Date;

use super::announced;
use crate::catalog::{Entry, Template};
use crate::feed::ENTRY;
use crate::feed::change::{Changes, HostChange, Kind};
use crate::feed::hits::{Hits, Told};
use crate::feed::state::{Staged, State};
use crate::policy::Policy;

/// Hosts that are named in one line.
const NAMED: usize = 4;

/// What is shown.
pub(super) struct Shown<'s> {
    pub pending: &'s Staged,
    pub in_force: Option<&'s State>,
    /// The entry in force.
    pub old: &'s Entry,
    pub changes: &'s Changes,
    pub told: Option<&'s Told>,
    /// UTC.
    pub today: Date,
}

pub(super) fn text(shown: &Shown<'_>) -> String {
    let mut text = format!("pending   {}\n", described(shown.pending));
    let in_force = shown.in_force.map_or_else(|| "0     the program's own list".to_owned(), state_line);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "in force  {in_force}");
    if !shown.changes.is_different() {
        text.push_str("\nno difference\n");
    } else if let Some(told) = shown.told {
        let _ = writeln!(text, "requests  {}", told.when);
    }
    push_parts(&mut text, shown);
    if !shown.changes.sets.is_empty() {
        text.push_str("\nendpoint sets\n");
        for set in &shown.changes.sets {
            let _ = writeln!(text, "  {:<4} {:<10} {}", set.id, set.area, set.what.join("; "));
        }
    }
    if !shown.changes.left_out.is_empty() {
        text.push_str("\nin the feed and left out of the catalogue\n");
        for (why, hosts) in &shown.changes.left_out {
            let _ = writeln!(text, "  {}: {why}", few(hosts));
        }
    }
    if !shown.changes.kept.is_empty() {
        text.push_str("\nno longer in the feed, and kept: they are of another list of Microsoft's\n");
        for (part, host) in &shown.changes.kept {
            let _ = writeln!(text, "  {ENTRY}/{part} {host}");
        }
    }
    text
}

fn push_parts(text: &mut String, shown: &Shown<'_>) {
    // In the order of their first change.
    let mut last = "";
    for (n, change) in shown.changes.hosts.iter().enumerate() {
        if change.part != last {
            let known = shown.old.parts.iter().any(|part| part.id == change.part);
            let new = if known { "" } else { " (new: nothing takes it until a [[service]] names it)" };
            let _ = writeln!(text, "\n{ENTRY}/{}{new}", change.part);
            last = &change.part;
        }
        let hits = shown.told.and_then(|told| told.hits.get(n).copied());
        let announced = shown.pending.announced.as_ref();
        let announced = announced.map(|announced| announced::notes(announced, change, shown.today));
        let _ = writeln!(text, "  {}", change_line(change, hits, announced.unwrap_or_default()));
    }
}

fn change_line(change: &HostChange, hits: Option<Hits>, announced: Vec<String>) -> String {
    let (word, more) = match &change.kind {
        Kind::Added => ("added", String::new()),
        Kind::Removed => ("removed", String::new()),
        Kind::Widened(from) => ("widened", format!("in place of {}", few(from))),
        Kind::Narrowed(to) => ("narrowed", format!("to {}", few(to))),
    };
    let mut notes: Vec<String> = Vec::new();
    notes.extend(Some(more).filter(|more| !more.is_empty()));
    notes.extend(announced);
    if let Some(hits) = hits {
        notes.push(requests(hits));
    }
    if let Some((part, by)) = &change.reached_by {
        let when = if matches!(change.kind, Kind::Added | Kind::Widened(_)) { "already" } else { "still" };
        notes.push(format!("{when} reached by {ENTRY}/{part} {by}"));
    }
    let sets: Vec<_> = change.sets.iter().map(u32::to_string).collect();
    if !sets.is_empty() {
        notes.push(format!("set {}", sets.join(", ")));
    }
    format!("{word:<9} {:<40} {}", change.host.as_str(), notes.join("; ")).trim_end().to_owned()
}

fn requests(hits: Hits) -> String {
    let plural = |n: u64, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (hits.passed, hits.refused) {
        (0, 0) => "no request".to_owned(),
        (passed, 0) => plural(passed, "request"),
        (0, refused) => format!("{} refused", plural(refused, "request")),
        (passed, refused) => format!("{}, {refused} refused", plural(passed, "request")),
    }
}

fn few(hosts: &[Template]) -> String {
    let named: Vec<_> = hosts.iter().take(NAMED).map(Template::as_str).collect();
    let more = hosts.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// Services that list a removed host by themselves: the policy as it would be then still has the pattern.
pub(super) fn own_hosts(policy: &Policy, changes: &[HostChange]) -> Vec<String> {
    let removed = changes.iter().filter(|change| matches!(change.kind, Kind::Removed | Kind::Narrowed(_)));
    let mut owners: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for change in removed {
        for service in policy.services() {
            let own = service.hosts.iter().find(|host| host.pattern().as_str() == change.host.as_str());
            if let Some(own) = own {
                let owner = format!("service {:?} (line {})", service.name, own.line());
                owners.entry(change.host.as_str()).or_default().push(owner);
            }
        }
    }
    let line = |(host, owners): (&str, Vec<String>)| {
        format!("\n{host} is removed from the catalogue and stays permitted: {} lists it", owners.join(", "))
    };
    owners.into_iter().map(line).collect()
}

/// One feed in a line.
pub(super) fn described(staged: &Staged) -> String {
    let version = staged.version.as_ref().map(|version| format!(" version {version}")).unwrap_or_default();
    format!(
        "{}{version}, taken {}, {} sets, {} hosts, digest {}",
        staged.origin,
        staged.taken,
        staged.feed.sets.len(),
        staged.feed.hosts(),
        staged.digest()
    )
}

/// One state in a line.
pub(super) fn state_line(state: &State) -> String {
    let what = match (&state.staged, state.restores) {
        (_, Some(0)) => "back to the program's own list".to_owned(),
        (_, Some(number)) => format!("back to state {number}"),
        (Some(staged), None) => described(staged),
        (None, None) => "the program's own list".to_owned(),
    };
    let note = state.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    format!("{:04}  {} by {}{note}: {what}", state.number, state.at, state.by)
}

/// `YYYY-MM-DD`, UTC.
pub(super) fn today(now: SystemTime) -> String {
    announced::today(now).to_string()
}
