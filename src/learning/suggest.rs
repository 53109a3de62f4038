//! Blocks of configuration for what was asked for: parts of the catalogue first, then exact names by the domain somebody registered.
//!
//! No pattern is made here: a name that was asked for is proposed as it is, and what is wider stands in the catalogue with its source.
//! The blocks fit beside the configuration's own: no pattern stands twice, no exact name takes a port away from a wider pattern.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use psl::{Psl, Type};

use super::asked::{Asked, Skipped, Tally};
use crate::catalog::{self, Catalogue, Entry, Template};
use crate::names::DnsName;
use crate::policy::{HostPattern, Policy};

/// A `[[service]]` that is proposed.
#[derive(Debug, Clone)]
pub struct Block {
    /// Of no other service, at most 100 characters.
    pub name: String,
    pub of: Of,
    /// The only groups that asked, where there are others in the configuration.
    pub clients: Option<Vec<String>>,
    /// The names that were asked for, the most frequent first.
    pub hosts: Vec<Host>,
    /// Of all of them.
    pub tally: Tally,
}

/// A name of a block.
#[derive(Debug, Clone)]
pub struct Host {
    pub name: DnsName,
    pub tally: Tally,
}

/// Where the hosts of a block come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    Catalogue {
        /// `entry/part`.
        reference: String,
        /// How many patterns the part permits.
        patterns: usize,
        /// Tenant profiles that restrict it.
        profiles: Vec<String>,
    },
    /// The names themselves, under one registered domain, on one port.
    Domain {
        port: u16,
        plain_http: bool,
        /// The suffix, where its owner gives names under it to anybody.
        shared: Option<String>,
    },
}

/// A part of the catalogue whose hosts are known without a tenant's name.
struct Part {
    reference: String,
    ports: Vec<u16>,
    plain_http: bool,
    profiles: Vec<String>,
    patterns: Vec<HostPattern>,
}

/// Blocks for what was asked for, to stand beside those of `policy`: parts of the catalogue first, each kind by how often; with the names
/// of groups, and what is left out.
pub fn suggest(asked: Asked, catalogue: &Catalogue, policy: Option<&Policy>) -> (Vec<Block>, Vec<String>, Skipped) {
    let (names, groups, skipped) = asked.into_names();
    let names: BTreeMap<(DnsName, u16), Tally> = names.into_iter().collect();
    let parts = parts(catalogue);
    let accepted = accept(&names, &parts, policy);
    // The part that would answer for the name, and whether on this port too.
    let reached = |name: &DnsName, port: u16, tally: &Tally| {
        let matching = accepted.iter().filter_map(|place| Some((*place, best_pattern(&parts[*place], name)?)));
        let winner = matching.min_by(|(_, one), (_, other)| one.precedence(other));
        winner.filter(|(place, _)| parts[*place].takes(port, tally))
    };
    // An exact name answers alone, so that it has to have every port that was asked for.
    let exact = names.iter().filter(|((name, port), tally)| reached(name, *port, tally).is_none());
    let exact: HashSet<&DnsName> = exact.map(|((name, _), _)| name).collect();
    let mut gathered: BTreeMap<Key, Vec<Host>> = BTreeMap::new();
    for ((name, port), tally) in &names {
        let part = reached(name, *port, tally).filter(|(_, pattern)| pattern.is_exact() || !exact.contains(name));
        let key = match part {
            Some((place, _)) => Key::Part(place),
            None => Key::Domain(domain(name), *port, tally.plain),
        };
        gathered.entry(key).or_default().push(Host { name: name.clone(), tally: tally.clone() });
    }
    let mut taken: HashSet<String> =
        policy.into_iter().flat_map(Policy::services).map(|service| service.name.to_owned()).collect();
    let mut blocks: Vec<Block> = gathered
        .into_iter()
        .map(|(key, hosts)| block(key, hosts, &parts))
        .map(|block| Block { clients: narrowed(&block.tally, &groups, policy), ..block })
        .collect();
    blocks.sort_by_key(|block| (matches!(block.of, Of::Domain { .. }), Reverse(block.tally.total())));
    for block in &mut blocks {
        block.name = unused(&block.name, &mut taken);
    }
    (blocks, groups, skipped)
}

/// What a block is gathered by: a part by its place, or a domain with its port and whether it is spoken in plain HTTP.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Part(usize),
    Domain(String, u16, bool),
}

impl Part {
    fn takes(&self, port: u16, tally: &Tally) -> bool {
        self.ports.contains(&port) && (self.plain_http || !tally.plain)
    }
}

/// Without those that need a tenant's name, and those on whose port 80 a name could not be added in plain HTTP.
fn parts(catalogue: &Catalogue) -> Vec<Part> {
    let all = catalogue.entries().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part)));
    let fitting = all.filter(|(_, part)| {
        !part.hosts.iter().any(Template::needs_tenant) && (part.plain_http || !part.ports.contains(&80))
    });
    let part = |(entry, part): (&Entry, &'_ catalog::Part)| Part {
        reference: format!("{}/{}", entry.id, part.id),
        ports: part.ports.clone(),
        plain_http: part.plain_http,
        profiles: part.profiles.clone(),
        patterns: part.hosts.iter().filter_map(|host| host.fill(None).ok()).collect(),
    };
    fitting.map(part).collect()
}

/// The pattern of the part by which it reaches the name.
fn best_pattern<'p>(part: &'p Part, name: &DnsName) -> Option<&'p HostPattern> {
    part.patterns.iter().filter(|pattern| pattern.matches(name)).min_by(|one, other| one.precedence(other))
}

/// The parts that are proposed, by their places: for each name the one that reaches it by the most specific pattern, the most asked for
/// first, unless a pattern of it is decided by the configuration or stands in another that is proposed.
fn accept(names: &BTreeMap<(DnsName, u16), Tally>, parts: &[Part], policy: Option<&Policy>) -> Vec<usize> {
    let mut asked: BTreeMap<usize, u64> = BTreeMap::new();
    for ((name, port), tally) in names {
        let reaching = parts.iter().enumerate().filter(|(_, part)| part.takes(*port, tally));
        let with = reaching.filter_map(|(place, part)| Some((place, best_pattern(part, name)?)));
        if let Some((part, _)) = with.min_by(|(_, one), (_, other)| one.precedence(other)) {
            let counted = asked.entry(part).or_default();
            *counted = counted.saturating_add(tally.total());
        }
    }
    // A part that is more exact than what is listed would take names away from it, headers and all.
    let decided =
        |pattern: &HostPattern| policy.zip(example(pattern)).is_some_and(|(policy, name)| policy.lists(&name));
    let mut taken: HashSet<&str> = HashSet::new();
    let mut wanted: Vec<_> = asked.into_iter().collect();
    wanted.sort_by_key(|(_, count)| Reverse(*count));
    let mut accepted = Vec::new();
    for (place, _) in wanted {
        let patterns = &parts[place].patterns;
        if patterns.iter().all(|pattern| !taken.contains(pattern.as_str()) && !decided(pattern)) {
            taken.extend(patterns.iter().map(HostPattern::as_str));
            accepted.push(place);
        }
    }
    accepted
}

/// A name that the pattern matches.
fn example(pattern: &HostPattern) -> Option<DnsName> {
    DnsName::parse(pattern.as_str().replace('*', "sekisho-probe").as_bytes()).ok()
}

/// The part of the name that somebody registered.
fn domain(name: &DnsName) -> String {
    let domain = psl::List.domain(name.as_str().as_bytes());
    domain.and_then(|domain| std::str::from_utf8(domain.as_bytes()).ok()).unwrap_or(name.as_str()).to_owned()
}

/// The suffix of the name, where names under it are anybody's.
fn shared(name: &DnsName) -> Option<String> {
    let suffix = psl::List.suffix(name.as_str().as_bytes())?;
    let suffix = (suffix.typ() == Some(Type::Private)).then(|| suffix.as_bytes())?;
    std::str::from_utf8(suffix).ok().map(str::to_owned)
}

fn block(key: Key, mut hosts: Vec<Host>, parts: &[Part]) -> Block {
    hosts.sort_by_key(|host| Reverse(host.tally.total()));
    let mut tally = Tally::default();
    for host in &hosts {
        tally.add(&host.tally);
    }
    match key {
        Key::Part(place) => {
            let Part { reference, profiles, patterns, .. } = &parts[place];
            let (patterns, profiles) = (patterns.len(), profiles.clone());
            let of = Of::Catalogue { reference: reference.clone(), patterns, profiles };
            Block { name: reference.clone(), of, clients: None, hosts, tally }
        }
        Key::Domain(domain, port, plain_http) => {
            let shared = hosts.first().and_then(|host| shared(&host.name));
            let name = if plain_http { format!("{domain}, plain HTTP") } else { domain };
            Block { name, of: Of::Domain { port, plain_http, shared }, clients: None, hosts, tally }
        }
    }
}

/// Least privilege, where the configuration says who else there is.
fn narrowed(tally: &Tally, groups: &[String], policy: Option<&Policy>) -> Option<Vec<String>> {
    let (seen, all_known) = tally.groups();
    let there: BTreeSet<&str> = policy?.groups().map(|group| group.name).collect();
    let seen: Option<BTreeSet<&str>> =
        seen.iter().map(|(place, _)| groups.get(*place).and_then(|name| there.get(name.as_str()).copied())).collect();
    let seen = seen.filter(|seen| all_known && !seen.is_empty() && seen.len() < there.len())?;
    Some(seen.into_iter().map(str::to_owned).collect())
}

/// `name`, cut to what a service may be called and with a number where another has it.
fn unused(name: &str, taken: &mut HashSet<String>) -> String {
    const LONGEST: usize = 80;
    let cut = if name.len() > LONGEST { format!("…{}", &name[name.len() - LONGEST..]) } else { name.to_owned() };
    let numbered = (2_u32..).map(|n| format!("{cut} ({n})"));
    let free = std::iter::once(cut.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(cut);
    taken.insert(free.clone());
    free
}
