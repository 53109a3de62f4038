//! Where in the catalogue the hosts of a feed belong: the one place that knows Microsoft's endpoint sets by their ids.
//!
//! The rules, the first that fits answers for a host of a set:
//!
//! 1. a set without TCP port 443 is left out: mail, media by address, plain HTTP;
//! 2. what belongs to everybody is left out ([`LEFT_OUT_HOSTS`], [`EVERYBODYS`], a suffix under which anybody may get a name), a single new
//!    host there too: nothing says whose it is;
//! 3. a host that the program's own entry has is in the part where it is there;
//! 4. a host that another entry of the program has, or reaches by a pattern, is left out, and so is one at a domain of another provider's
//!    entry: who takes both would have it twice, and what is restricted to a tenant there would be open here;
//! 5. a set that is for something else is left out ([`LEFT_OUT_SETS`]);
//! 6. a new wildcard that reaches a sign-in or device host goes to `common-broad`: no part that is inspected for a tenant
//!    restriction, and none that a site takes without thinking;
//! 7. what is new in a known set goes to the part of [`SETS`];
//! 8. a set that is not known here gets a part of its own, `set-204`, which nothing takes until a service names it.
//!
//! To the parts of [`FIXED`] a feed adds nothing, and takes nothing from them: they are lists of other documents.

use std::collections::{BTreeMap, HashSet};

use psl::{Psl, Type};

use super::endpoints::{Category, Feed, Set};
use crate::catalog::{Catalogue, Entry, Part, Source, Template, Why};
use crate::names::DnsName;
use crate::policy::{Breadth, HostPattern};

/// The port that parts of this entry have.
const TLS: u16 = 443;

/// Parts that are of other documents of Microsoft's: the hosts that get headers, and those that take client certificates.
static FIXED: [&str; 5] = ["sign-in", "sign-in-consumer", "device", "sharepoint", "sharepoint-admin"];

/// The part that takes wildcards over sign-in hosts.
pub(super) const BROAD: &str = "common-broad";

/// The part that takes hosts that are new in the set of the sign-in.
pub(super) const NEW_SIGN_IN: &str = "sign-in-other";

/// Known sets, and the part that takes a host that is new in them.
static SETS: [(u32, &str); 57] = [
    // A literal table.
    (1, "exchange"),
    (8, "exchange-discovery"),
    (9, "exchange-protection"),
    (12, "teams"),
    (16, "teams-support"),
    (17, "links"),
    (27, "teams-support"),
    (31, "sharepoint-support"),
    (32, "consumer"),
    (35, "sharepoint-support"),
    (36, "sharepoint-support"),
    (37, "sharepoint-support"),
    (39, "sharepoint-support"),
    (46, "common"),
    (47, "common"),
    (49, "common"),
    (50, BROAD),
    (51, "common"),
    (53, "common"),
    // Whether a new host of the sign-in escapes the tenant restriction is not known.
    (56, NEW_SIGN_IN),
    (59, "identity-cdn"),
    (64, "common"),
    (66, "common"),
    (69, "common"),
    (70, "common"),
    (71, "common"),
    (73, "common"),
    (75, "common-optional"),
    (78, BROAD),
    (79, "links"),
    (83, "common"),
    (86, "common"),
    (89, "links"),
    (91, "common"),
    (92, "common"),
    (93, "common-optional"),
    (95, "common-optional"),
    (96, "common-optional"),
    (97, "consumer"),
    (114, "common-optional"),
    (116, "consumer"),
    (117, "viva-engage"),
    (118, "viva-engage"),
    (121, "consumer"),
    (122, "common-optional"),
    (124, "common-optional"),
    (126, "common-optional"),
    (127, "teams-support"),
    (147, "common"),
    (152, "common-optional"),
    (153, "power-platform"),
    (156, "common"),
    (158, "common"),
    (159, "common"),
    (160, "common"),
    (184, "common"),
    (193, "common"),
];

static LEFT_OUT_SETS: [(u32, &str); 3] = [
    (19, "updates of devices, see windows-update/*"),
    (84, "lists of revoked certificates, see revocation/*"),
    (125, "lists of revoked certificates, see revocation/*"),
];

static LEFT_OUT_HOSTS: [(&str, &str); 6] = [
    ("*.sharepoint.com", "SharePoint of every tenant in the world: microsoft-365/sharepoint has your own"),
    ("*.onmicrosoft.com", "every tenant in the world"),
    ("*.msecnd.net", "a delivery network with many owners"),
    ("*.microsoftonline-p.com", "there is a sign-in host under it: microsoft-365/sign-in-other"),
    ("*.keydelivery.mediaservices.windows.net", "every customer of Azure may have a name there"),
    ("*.streaming.mediaservices.windows.net", "every customer of Azure may have a name there"),
];

/// Domains under which each tenant has names; what the program does not know there is, or reaches, a stranger's.
static EVERYBODYS: [&str; 2] = ["sharepoint.com", "onmicrosoft.com"];

/// Stands for a tenant where a pattern has a place for one.
const PROBE: &str = "sekisho-probe";

/// What becomes of one host of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The id of a part.
    Part(String),
    /// With the reason.
    LeftOut(String),
}

/// One host of one set, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub set: u32,
    pub host: Template,
    pub place: Place,
}

/// An entry whose hosts are a feed's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    pub entry: Entry,
    /// In the order of the sets and of their hosts.
    pub placed: Vec<Placed>,
}

/// Where a feed came from, for the sources of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    pub url: String,
    /// `YYYY-MM-DD`.
    pub read: String,
}

/// The program's entry, one of `program`, with the hosts of the feed. What else is known of its parts (ports, profiles, what must
/// not be inspected, notes, sources) stays as the program knows it. A part of which the feed has nothing left has no host and permits
/// nothing. A host of several sets is in one part: that of the first set that the program knows, else that of the first.
pub fn compose(built_in: &Entry, program: &Catalogue, feed: &Feed, from: &Provenance) -> Composed {
    let places = Places {
        built_in,
        sign_in: sign_in_hosts(program),
        others: others(built_in, program),
        own_domains: own_domains(built_in, program),
    };
    let listed = feed.sets.iter().flat_map(|set| set.hosts.iter().map(move |host| (set, host)));
    let placed: Vec<Placed> = listed.map(|(set, host)| places.placed(set, host)).collect();
    let mut hosts: BTreeMap<&str, Vec<(u32, &Template)>> = BTreeMap::new();
    let mut taken = HashSet::new();
    let parts = placed.iter().filter_map(|host| match &host.place {
        Place::Part(part) => Some((part, host)),
        Place::LeftOut(_) => None,
    });
    let (of_known, of_unknown): (Vec<_>, Vec<_>) = parts.partition(|(part, host)| **part != own_part(host.set));
    for (part, host) in of_known.into_iter().chain(of_unknown) {
        if taken.insert(&host.host) {
            hosts.entry(part).or_default().push((host.set, &host.host));
        }
    }
    let mut entry = built_in.clone();
    for part in entry.parts.iter_mut().filter(|part| !FIXED.contains(&part.id.as_str())) {
        replace_hosts(part, &hosts.remove(part.id.as_str()).unwrap_or_default(), feed);
    }
    for set in &feed.sets {
        if let Some(hosts) = hosts.remove(own_part(set.id).as_str()) {
            entry.parts.push(part_of(set, hosts.into_iter().map(|(_, host)| host.clone()).collect(), from));
        }
    }
    Composed { entry, placed }
}

/// Each in the order of the program, then what is new.
fn replace_hosts(part: &mut Part, now: &[(u32, &Template)], feed: &Feed) {
    let known = std::mem::take(&mut part.hosts);
    let is_there = |host: &Template| now.iter().any(|(_, there)| *there == host);
    let new: Vec<_> = now.iter().filter(|(_, host)| !known.contains(host)).collect();
    part.hosts = known.iter().filter(|host| is_there(host)).cloned().collect();
    part.hosts.extend(new.iter().map(|(_, host)| (*host).clone()));
    // Microsoft asks it for whole categories, and so for what is new in them.
    let asks = part.never_inspect.iter_mut().find(|exception| exception.why == Why::VendorAsks);
    if let Some(exception) = asks {
        let closed = |set: u32| feed.set(set).is_some_and(|set| set.category != Category::Default);
        exception.hosts.extend(new.iter().filter(|(set, _)| closed(*set)).map(|(_, host)| (*host).clone()));
    }
}

fn own_part(set: u32) -> String {
    format!("set-{set}")
}

fn part_of(set: &Set, hosts: Vec<Template>, from: &Provenance) -> Part {
    Part {
        id: own_part(set.id),
        title: format!("Set {} of the feed, {}", set.id, set.area_name.as_ref().unwrap_or(&set.area)),
        purpose: "application",
        hosts,
        ports: vec![TLS],
        plain_http: false,
        profiles: Vec::new(),
        no_profile: Some(
            "This program does not know the set: see whose hosts these are before they are taken.".to_owned(),
        ),
        shared_content: None,
        never_inspect: Vec::new(),
        notes: set.notes.clone(),
        sources: vec![Source { url: from.url.clone(), read: from.read.clone(), confidence: "H" }],
    }
}

/// What the rules ask.
struct Places<'c> {
    built_in: &'c Entry,
    sign_in: Vec<&'c Template>,
    others: Vec<Other<'c>>,
    own_domains: HashSet<String>,
}

impl Places<'_> {
    fn placed(&self, set: &Set, pattern: &HostPattern) -> Placed {
        let host = Template::from(pattern);
        Placed { set: set.id, place: self.place(set, pattern, &host), host }
    }

    fn place(&self, set: &Set, pattern: &HostPattern, host: &Template) -> Place {
        let part = |id: &str| Place::Part(id.to_owned());
        let left_out = |why: &str| Place::LeftOut(why.to_owned());
        let known = self.built_in.parts.iter().find(|part| part.hosts.contains(host)).map(|part| part.id.as_str());
        if !set.tcp.contains(&TLS) {
            return left_out("no TCP port 443 in its set: mail, plain HTTP or media by address");
        }
        if let Some(why) = everybodys(pattern, known.is_some()) {
            return Place::LeftOut(why);
        }
        if let Some(known) = known {
            return part(known);
        }
        if let Some(why) = self.elsewhere(pattern, host) {
            return Place::LeftOut(why);
        }
        if let Some((_, why)) = LEFT_OUT_SETS.iter().find(|(id, _)| *id == set.id) {
            return left_out(why);
        }
        if pattern.is_wildcard() && self.sign_in.iter().any(|host| reaches(pattern, host.as_str())) {
            return part(BROAD);
        }
        let of_set = SETS.iter().find(|(id, _)| *id == set.id);
        Place::Part(of_set.map_or_else(|| own_part(set.id), |(_, part)| (*part).to_owned()))
    }
}

impl Places<'_> {
    /// Why the host is the matter of another entry.
    fn elsewhere(&self, pattern: &HostPattern, host: &Template) -> Option<String> {
        if let Some(other) = self.others.iter().find(|other| other.host == host) {
            return Some(format!("in {}/{}", other.entry.id, other.part.id));
        }
        let ends_so = |other: &&Other<'_>| pattern.as_str().ends_with(other.pattern.fixed_suffix());
        let mut reaching = self.others.iter().filter(ends_so).filter(|other| reaches(&other.pattern, pattern.as_str()));
        if let Some(Other { entry, part, host, .. }) = reaching.next() {
            return Some(format!("{} of {}/{} reaches it", host.as_str(), entry.id, part.id));
        }
        let domain = domain_of(pattern.fixed_suffix()).filter(|domain| !self.own_domains.contains(*domain))?;
        let other = self.others.iter().find(|other| domain_of(other.pattern.fixed_suffix()) == Some(domain))?;
        Some(format!("{domain} is of {}: see {}/*", other.entry.provider, other.entry.id))
    }
}

/// A host of another entry, with a tenant's name in the place for one.
struct Other<'c> {
    entry: &'c Entry,
    part: &'c Part,
    host: &'c Template,
    pattern: HostPattern,
}

fn others<'c>(built_in: &Entry, program: &'c Catalogue) -> Vec<Other<'c>> {
    let entries = program.entries().filter(|entry| entry.id != built_in.id);
    let hosts = entries.flat_map(|entry| hosts_of(entry).map(move |(part, host)| (entry, part, host)));
    hosts
        .filter_map(|(entry, part, host)| Some(Other { entry, part, host, pattern: host.fill(Some(PROBE)).ok()? }))
        .collect()
}

/// Registered names at which the provider has hosts, in any of its entries.
fn own_domains(built_in: &Entry, program: &Catalogue) -> HashSet<String> {
    let own = program.entries().filter(|entry| entry.provider == built_in.provider).flat_map(hosts_of);
    let patterns = own.filter_map(|(_, host)| host.fill(Some(PROBE)).ok());
    patterns.filter_map(|pattern| domain_of(pattern.fixed_suffix()).map(str::to_owned)).collect()
}

fn hosts_of(entry: &Entry) -> impl Iterator<Item = (&Part, &Template)> {
    entry.parts.iter().flat_map(|part| part.hosts.iter().map(move |host| (part, host)))
}

/// The name that somebody registered, of a name at or under it.
fn domain_of(name: &str) -> Option<&str> {
    psl::List.domain(name.as_bytes()).and_then(|domain| std::str::from_utf8(domain.as_bytes()).ok())
}

/// The suffix under which anybody may get a name, of a name under it.
fn private_suffix(name: &str) -> Option<&str> {
    let suffix = psl::List.suffix(name.as_bytes()).filter(|suffix| suffix.typ() == Some(Type::Private))?;
    std::str::from_utf8(suffix.as_bytes()).ok()
}

/// Why nobody holds alone what the pattern reaches.
fn everybodys(pattern: &HostPattern, known: bool) -> Option<String> {
    if let Some((_, why)) = LEFT_OUT_HOSTS.iter().find(|(left, _)| *left == pattern.as_str()) {
        return Some((*why).to_owned());
    }
    if let Breadth::PrivateSuffix(suffix) = pattern.breadth() {
        return Some(format!("under {suffix} anybody may get a name"));
    }
    if known {
        return None;
    }
    let suffix = pattern.fixed_suffix();
    if let Some(private) = private_suffix(suffix) {
        return Some(format!("under {private} anybody may get a name"));
    }
    let is_at =
        |domain: &&&str| suffix.strip_suffix(**domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let domain = EVERYBODYS.iter().find(is_at)?;
    Some(match pattern.is_wildcard() {
        true => format!("it reaches names of other tenants under {domain}"),
        false => format!("whose it is under {domain} is not known"),
    })
}

/// Every host that people or devices sign in at.
fn sign_in_hosts(program: &Catalogue) -> Vec<&Template> {
    let parts = program.entries().flat_map(|entry| &entry.parts);
    parts.filter(|part| part.purpose == "sign-in").flat_map(|part| &part.hosts).collect()
}

/// Whether every name that `inner` matches is one of `pattern`'s, but for what only letters within a label could tell.
pub fn reaches(pattern: &HostPattern, inner: &str) -> bool {
    let matches = |stars: &str| {
        // One label stands for each whole star, and for a leading one several.
        let name = match inner.strip_prefix("*.") {
            Some(rest) => format!("{stars}.{}", rest.replace('*', "sekisho-probe")),
            None => inner.replace('*', "sekisho-probe"),
        };
        DnsName::parse(name.as_bytes()).is_ok_and(|name| pattern.matches(&name))
    };
    pattern.as_str() == inner || (matches("sekisho-probe") && matches("sekisho-probe.sekisho-probe"))
}

/// Whether a feed changes nothing in the part.
pub fn is_fixed(part: &str) -> bool {
    FIXED.contains(&part)
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
