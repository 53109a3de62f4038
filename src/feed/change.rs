//! What another feed changes: hosts by the parts of the catalogue that a site takes, and the rest by endpoint sets.
//!
//! What may not be here: whether it is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::endpoints::{Feed, Refusal, Set};
use super::places::{BROAD, Composed, Place, is_fixed, reaches};
use crate::catalog::{Entry, Part, Template};
use crate::policy::HostPattern;

/// The entry before and after, with the feeds they are of; the program's own entry is of no feed that is at hand.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    pub old: &'a Entry,
    pub old_feed: Option<&'a Feed>,
    pub new: &'a Composed,
    pub new_feed: &'a Feed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// By part, in the order of the new entry; within a part what is added first.
    pub hosts: Vec<HostChange>,
    /// By set. None where the old entry is of no feed.
    pub sets: Vec<SetChange>,
    /// What the feed has and nothing takes, by the reason; without what the old feed had too.
    pub left_out: BTreeMap<String, Vec<Template>>,
    /// Hosts of fixed parts that the feed does not have, with their parts. They stay.
    pub kept: Vec<(String, Template)>,
    /// Whether the old entry is of a feed, so that what is left out is news.
    of_feed: bool,
}

impl Changes {
    /// Whether there is something to decide.
    pub fn is_different(&self) -> bool {
        !self.hosts.is_empty() || !self.sets.is_empty() || (self.of_feed && !self.left_out.is_empty())
    }
}

/// One pattern of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostChange {
    /// The part's id.
    pub part: String,
    pub host: Template,
    pub kind: Kind,
    /// The sets that list it, in the feed that has it.
    pub sets: Vec<u32>,
    /// Another pattern of the entry, as it is without this one, that reaches all of it: `part` and pattern.
    pub reached_by: Option<(String, Template)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Added,
    Removed,
    /// In place of these, which it reaches.
    Widened(Vec<Template>),
    /// Only these are left of it.
    Narrowed(Vec<Template>),
}

/// One endpoint set, as a line of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetChange {
    pub id: u32,
    pub area: String,
    pub what: Vec<String>,
}

pub fn compare(compared: &Compared<'_>) -> Changes {
    let mut hosts = Vec::new();
    let old_only = compared.old.parts.iter().filter(|part| of(&compared.new.entry, &part.id).is_none());
    for part in compared.new.entry.parts.iter().chain(old_only) {
        hosts.extend(changes_of(&part.id, compared));
    }
    let had: BTreeSet<&str> = compared
        .old_feed
        .iter()
        .flat_map(|feed| &feed.sets)
        .flat_map(|set| &set.hosts)
        .map(HostPattern::as_str)
        .collect();
    let mut left_out: BTreeMap<String, Vec<Template>> = BTreeMap::new();
    let taken: BTreeSet<&Template> = compared.new.entry.parts.iter().flat_map(|part| &part.hosts).collect();
    for placed in &compared.new.placed {
        if let Place::LeftOut(why) = &placed.place
            && !had.contains(placed.host.as_str())
            && !taken.contains(&placed.host)
        {
            let hosts = left_out.entry(why.clone()).or_default();
            if !hosts.contains(&placed.host) {
                hosts.push(placed.host.clone());
            }
        }
    }
    let fixed = compared.new.entry.parts.iter().filter(|part| is_fixed(&part.id));
    let fixed = fixed.flat_map(|part| part.hosts.iter().map(|host| (part.id.clone(), host.clone())));
    // What only another document has was never in a feed.
    let kept =
        fixed.filter(|(_, host)| had.contains(host.as_str()) && compared.new_feed.listing(host.as_str()).is_empty());
    Changes { hosts, sets: sets(compared), left_out, kept: kept.collect(), of_feed: compared.old_feed.is_some() }
}

/// A list may name as many hosts as before, and be of no use: a set without its ports is taken by no part.
///
/// # Errors
/// [`Refusal`] where the parts that follow a feed have less than half of the hosts that they had.
pub fn refuse_fewer_taken(old: &Entry, new: &Entry) -> Result<(), Refusal> {
    let taken = |entry: &Entry| {
        let parts = entry.parts.iter().filter(|part| !is_fixed(&part.id));
        parts.flat_map(|part| &part.hosts).collect::<BTreeSet<_>>().len()
    };
    let (before, now) = (taken(old), taken(new));
    if now * 2 < before {
        return Err(Refusal::one(format!(
            "{now} hosts that a part of the catalogue takes where there were {before}: suddenly more than half of them are gone, \
             perhaps because sets have no TCP port 443"
        )));
    }
    Ok(())
}

fn of<'e>(entry: &'e Entry, part: &str) -> Option<&'e Part> {
    entry.parts.iter().find(|known| known.id == part)
}

fn changes_of(part: &str, compared: &Compared<'_>) -> Vec<HostChange> {
    let hosts = |entry| of(entry, part).map_or(&[][..], |part: &Part| part.hosts.as_slice());
    let (old, new) = (hosts(compared.old), hosts(&compared.new.entry));
    let mut added: Vec<&Template> = new.iter().filter(|host| !old.contains(host)).collect();
    let mut removed: Vec<&Template> = old.iter().filter(|host| !new.contains(host)).collect();
    let mut changes = Vec::new();
    let change = |host: &Template, kind: Kind| {
        let is_new = !matches!(kind, Kind::Removed | Kind::Narrowed(_));
        let (feed, beside) =
            if is_new { (Some(compared.new_feed), compared.old) } else { (compared.old_feed, &compared.new.entry) };
        HostChange {
            part: part.to_owned(),
            host: host.clone(),
            sets: feed.map(|feed| feed.listing(host.as_str())).unwrap_or_default(),
            reached_by: reached_by(beside, part, host),
            kind,
        }
    };
    for wide in std::mem::take(&mut added) {
        let within: Vec<Template> =
            removed.iter().filter(|host| over(wide, host)).map(|host| (*host).clone()).collect();
        if within.is_empty() {
            added.push(wide);
        } else {
            removed.retain(|host| !within.contains(host));
            changes.push(change(wide, Kind::Widened(within)));
        }
    }
    for wide in std::mem::take(&mut removed) {
        let left: Vec<Template> = added.iter().filter(|host| over(wide, host)).map(|host| (*host).clone()).collect();
        if left.is_empty() {
            removed.push(wide);
        } else {
            added.retain(|host| !left.contains(host));
            changes.push(change(wide, Kind::Narrowed(left)));
        }
    }
    changes.extend(added.into_iter().map(|host| change(host, Kind::Added)));
    changes.extend(removed.into_iter().map(|host| change(host, Kind::Removed)));
    changes.sort_by_key(|change| matches!(change.kind, Kind::Removed | Kind::Narrowed(_)));
    changes
}

fn over(wide: &Template, inner: &Template) -> bool {
    // Most pairs end in something else, and to make a pattern costs far more than to see that.
    let tail = wide.as_str().rsplit('*').next().unwrap_or_default();
    inner.as_str().ends_with(tail) && wide.fill(None).is_ok_and(|pattern| reaches(&pattern, inner.as_str()))
}

/// Of its own part before others; the part of whole domains, which few take, is no comfort.
fn reached_by(entry: &Entry, part: &str, host: &Template) -> Option<(String, Template)> {
    let (own, others): (Vec<_>, Vec<_>) =
        entry.parts.iter().filter(|known| known.id != BROAD).partition(|known| known.id == part);
    let all = own.into_iter().chain(others).flat_map(|part| part.hosts.iter().map(move |known| (part, known)));
    let mut reaching = all.filter(|(_, known)| over(known, host));
    reaching.next().map(|(part, known)| (part.id.clone(), known.clone()))
}

fn sets(compared: &Compared<'_>) -> Vec<SetChange> {
    let Some(old_feed) = compared.old_feed else { return Vec::new() };
    let ids: BTreeSet<u32> = old_feed.sets.iter().chain(&compared.new_feed.sets).map(|set| set.id).collect();
    let change = |id| {
        let (set, what) = match (old_feed.set(id), compared.new_feed.set(id)) {
            (Some(old), Some(new)) => (new, between(old, new)),
            (None, Some(new)) => (new, vec![format!("new, category {}, {}", new.category, needed(new.required))]),
            (Some(old), None) => (old, vec!["gone".to_owned()]),
            (None, None) => return None,
        };
        (!what.is_empty()).then(|| SetChange { id, area: set.area.clone(), what })
    };
    ids.into_iter().filter_map(change).collect()
}

fn needed(required: bool) -> &'static str {
    if required { "required" } else { "optional" }
}

/// All but the hosts, which stand by the parts.
fn between(old: &Set, new: &Set) -> Vec<String> {
    let mut what = Vec::new();
    let mut differs = |name: &str, old: String, new: String| {
        if old != new {
            what.push(format!("{name} {old} → {new}"));
        }
    };
    differs("area", old.area.clone(), new.area.clone());
    differs("category", old.category.to_string(), new.category.to_string());
    differs("", needed(old.required).to_owned(), needed(new.required).to_owned());
    differs("TCP ports", shown(&old.tcp), shown(&new.tcp));
    differs("UDP ports", shown(&old.udp), shown(&new.udp));
    let gone = old.networks.iter().filter(|net| !new.networks.contains(net)).count();
    let come = new.networks.iter().filter(|net| !old.networks.contains(net)).count();
    if gone + come > 0 {
        what.push(format!("addresses: {come} added, {gone} removed"));
    }
    what.iter().map(|text| text.trim_start().to_owned()).collect()
}

fn shown(ports: &[u16]) -> String {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    if ports.is_empty() { "none".to_owned() } else { ports.join(",") }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
