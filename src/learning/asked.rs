//! The names that were asked for and are not listed, with how often, by whom and on how many days.

use std::collections::HashMap;

use super::attempts::{Action, Attempt};
use crate::names::{Authority, DnsName, Host};
use crate::policy::{Breadth, Claim, Decision, HostPattern, Method, Policy};
use crate::reason::{Outcome, Reason};

/// Names with their ports that are told apart; past it, attempts are counted and their names are not kept.
const MAX_NAMES: usize = 100_000;
/// Groups of clients that are told apart.
const MAX_GROUPS: usize = 4_096;
/// Groups of one name.
const MAX_GROUPS_OF_NAME: usize = 16;
/// Days of one name.
const MAX_DAYS: usize = 100;
/// Names that are shown of those for which nothing is proposed.
const MAX_SHOWN: usize = 5;

/// What was asked for of one name on one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that only observing let through, and that came about.
    pub observed: u64,
    /// Attempts that were refused because nothing lists the name.
    pub refused: u64,
    /// Requests in plain HTTP are among them.
    pub plain: bool,
    /// By the places of their names in [`Asked`]; each once.
    groups: Vec<(usize, u64)>,
    /// There are further groups, or attempts without one.
    others: bool,
    /// In ascending order, at most [`MAX_DAYS`].
    days: Vec<u32>,
}

impl Tally {
    pub fn total(&self) -> u64 {
        self.observed.saturating_add(self.refused)
    }

    /// Days on which it was asked for, [`MAX_DAYS`] at most.
    pub fn days(&self) -> usize {
        self.days.len()
    }

    /// The groups by their place, with their attempts, the most frequent first; `None` where not all of them are known.
    pub fn groups(&self) -> (&[(usize, u64)], bool) {
        (&self.groups, !self.others)
    }

    /// Adds what was asked of another name.
    pub fn add(&mut self, other: &Self) {
        self.observed = self.observed.saturating_add(other.observed);
        self.refused = self.refused.saturating_add(other.refused);
        self.plain |= other.plain;
        self.others |= other.others;
        for (group, count) in &other.groups {
            self.count_group(Some(*group), *count);
        }
        for day in &other.days {
            self.count_day(*day);
        }
    }

    fn count_group(&mut self, group: Option<usize>, count: u64) {
        let Some(group) = group else {
            self.others = true;
            return;
        };
        let room = self.groups.len() < MAX_GROUPS_OF_NAME;
        match self.groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, counted)) => *counted = counted.saturating_add(count),
            None if room => self.groups.push((group, count)),
            None => self.others = true,
        }
    }

    fn count_day(&mut self, day: u32) {
        if let Err(place) = self.days.binary_search(&day)
            && self.days.len() < MAX_DAYS
        {
            self.days.insert(place, day);
        }
    }
}

/// Attempts for which nothing is proposed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// The configuration of now decides them otherwise.
    pub decided: u64,
    /// Observing let them through, and they failed: no address, a bad certificate.
    pub failed: u64,
    /// Names that nothing may list: LGWAN, a public suffix, a single label.
    pub unlistable: u64,
    /// Hosts that a tenant restriction of the configuration is for.
    pub restricted: u64,
    /// Some of them, each once.
    pub restricted_shown: Vec<String>,
    /// No host name stands in the line.
    pub nameless: u64,
    /// Counted together in the record, so that their names are not known.
    pub together: u64,
    /// On another port than 443, and 80 in plain HTTP.
    pub other_ports: u64,
    /// Some of those, as asked for.
    pub shown: Vec<String>,
    /// For want of room: there are too many different names.
    pub no_room: u64,
}

/// What was asked for. Grows with the number of different names, up to [`MAX_NAMES`].
#[derive(Debug, Default)]
pub struct Asked {
    /// Hosts of tenant restrictions: a tunnel to one that the restricted service leaves out would evade it.
    closed: Vec<HostPattern>,
    names: HashMap<(DnsName, u16), Tally>,
    groups: Vec<String>,
    pub skipped: Skipped,
    /// The first and the last day, such as 20261128.
    pub days: Option<(u32, u32)>,
}

impl Asked {
    /// What was asked for, but for hosts that these patterns match.
    pub fn but_for(closed: &[HostPattern]) -> Self {
        Self { closed: closed.to_vec(), ..Self::default() }
    }

    /// Counts an attempt, if it was observed or is refused because nothing lists the name; `policy` is the configuration of now.
    pub fn note(&mut self, attempt: &Attempt, policy: Option<&Policy>) {
        let observed = attempt.would_refuse == Some(Reason::NotAllowlisted);
        let refused = attempt.reason == Some(Reason::NotAllowlisted);
        // A request inside an inspected connection was refused by a reload, under a name that had been listed.
        if (!observed && !refused) || attempt.inside {
            return;
        }
        if let Some(day) = attempt.day() {
            let (first, last) = self.days.unwrap_or((day, day));
            self.days = Some((first.min(day), last.max(day)));
        }
        if observed && attempt.outcome != Outcome::Allowed {
            self.skipped.failed += attempt.count;
            return;
        }
        let group = attempt.group.as_deref().and_then(|group| self.group(group));
        let mut counted = 0;
        let one = attempt.authority.iter().map(|authority| (authority, attempt.count));
        let sample = attempt.authorities.iter().filter(|_| attempt.authority.is_none()).map(|authority| (authority, 1));
        for (authority, count) in one.chain(sample) {
            let count = count.min(attempt.count - counted);
            counted += count;
            self.count(attempt, authority, (count, observed), group, policy);
        }
        let rest = attempt.count - counted;
        let nameless = attempt.count == 1 && attempt.authorities.is_empty();
        *(if nameless { &mut self.skipped.nameless } else { &mut self.skipped.together }) += rest;
    }

    /// Each name with its port, in no order; the names of groups by their places.
    pub fn into_names(self) -> (HashMap<(DnsName, u16), Tally>, Vec<String>, Skipped) {
        (self.names, self.groups, self.skipped)
    }

    fn count(
        &mut self,
        attempt: &Attempt,
        authority: &Authority,
        (count, observed): (u64, bool),
        group: Option<usize>,
        policy: Option<&Policy>,
    ) {
        let plain = attempt.action == Action::Request;
        let Host::Name(name) = &authority.host else {
            self.skipped.nameless += count;
            return;
        };
        if self.closed.iter().any(|pattern| pattern.matches(name)) {
            self.skipped.restricted += count;
            let name = name.to_string();
            if self.skipped.restricted_shown.len() < MAX_SHOWN && !self.skipped.restricted_shown.contains(&name) {
                self.skipped.restricted_shown.push(name);
            }
            return;
        }
        if policy.zip(attempt.client).is_some_and(|(policy, client)| {
            let authority = authority.clone();
            let claim =
                if plain { Claim::Request { method: Method::Get, authority } } else { Claim::Connect(authority) };
            let decision = policy.decide(client, &claim);
            !matches!(decision, Decision::Deny(denial) if denial.reason() == Reason::NotAllowlisted)
        }) {
            self.skipped.decided += count;
            return;
        }
        if !is_listable(name) {
            self.skipped.unlistable += count;
            return;
        }
        if authority.port != if plain { 80 } else { 443 } {
            self.skipped.other_ports += count;
            let shown = authority.to_string();
            if self.skipped.shown.len() < MAX_SHOWN && !self.skipped.shown.contains(&shown) {
                self.skipped.shown.push(shown);
            }
            return;
        }
        let key = (name.clone(), authority.port);
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&key) {
            self.skipped.no_room += count;
            return;
        }
        let tally = self.names.entry(key).or_default();
        let counter = if observed { &mut tally.observed } else { &mut tally.refused };
        *counter = counter.saturating_add(count);
        tally.plain |= plain;
        tally.count_group(group, count);
        if let Some(day) = attempt.day() {
            tally.count_day(day);
        }
    }

    /// The group's place; `None` where there are too many.
    fn group(&mut self, name: &str) -> Option<usize> {
        let known = self.groups.iter().position(|known| known == name);
        if known.is_none() && self.groups.len() < MAX_GROUPS {
            self.groups.push(name.to_owned());
            return Some(self.groups.len() - 1);
        }
        known
    }
}

/// Whether a service may list it.
fn is_listable(name: &DnsName) -> bool {
    HostPattern::parse(name.as_str()).is_ok_and(|pattern| !matches!(pattern.breadth(), Breadth::AboveIcann(_)))
}
