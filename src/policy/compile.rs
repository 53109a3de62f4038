//! From the configuration's view ([`PolicySource`]) to a [`Policy`]: every conflict at once, or a policy without one.
//!
//! What may not be here: TOML (`config`), the width of patterns (`pattern::Breadth`, which `config` judges with `allow_broad`).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::clients::{GroupId, Networks};
use super::pattern::HostPattern;
use super::rule::Title;
use super::table::{Listed, Table};
use super::{Clients, Group, Mode, Policy, Service};
use crate::names::DnsName;

/// All that the policy is made of. Empty: everything is denied. Lines are those of the file, from 1.
#[derive(Debug, Clone, Default)]
pub struct PolicySource {
    pub groups: Vec<GroupSource>,
    pub services: Vec<ServiceSource>,
}

/// A `[[clients]]`.
#[derive(Debug, Clone)]
pub struct GroupSource {
    pub name: String,
    /// Host bits are ignored; IPv4-mapped networks are IPv4 networks. Empty: no client is in the group.
    pub networks: Vec<IpNet>,
    pub line: usize,
}

/// A `[[service]]`.
#[derive(Debug, Clone)]
pub struct ServiceSource {
    pub name: String,
    pub line: usize,
    /// Each with its line. Empty: the service permits nothing.
    pub hosts: Vec<(HostPattern, usize)>,
    /// Empty: the service permits nothing.
    pub ports: Vec<u16>,
    pub mode: Mode,
    /// Names of groups; `None`: every group. Empty: nobody.
    pub clients: Option<Vec<String>>,
    pub plain_http: bool,
    /// Only with [`Mode::Inspect`].
    pub headers: Vec<SetHeader>,
}

/// A header that is set on requests to a service, after every copy of the client's is gone.
#[derive(Clone, PartialEq, Eq)]
pub struct SetHeader {
    /// As configured.
    pub name: String,
    /// Never printed.
    pub value: String,
    pub hosts: HeaderHosts,
}

/// Neither name nor value of a tenant belongs in a log; the header's own name does.
impl fmt::Debug for SetHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetHeader").field("name", &self.name).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl fmt::Display for SetHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The destinations of a service that a header is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderHosts {
    All,
    /// Those whose name one of these matches. Empty: none.
    Only(Vec<HostPattern>),
}

impl HeaderHosts {
    pub(super) fn include(&self, name: &DnsName) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
        }
    }
}

/// Two parts of the source that cannot both hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct Conflict {
    pub kind: ConflictKind,
    /// Of the later of the two.
    pub line: usize,
}

/// What is in conflict. Each pair is a service or group and a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConflictKind {
    #[error(
        "{pattern} stands in service \"{}\" (line {}) and in service \"{}\" (line {}) with ports and clients that overlap, \
         so that neither would decide: remove it from one, or part their ports or clients",
        first.0, first.1, second.0, second.1
    )]
    SamePattern { pattern: HostPattern, first: (String, usize), second: (String, usize) },
    #[error("{pattern} stands twice in service \"{service}\" (first in line {first}): remove one")]
    PatternTwice { pattern: HostPattern, service: String, first: usize },
    #[error("service \"{service}\" is for clients \"{group}\", and there is no [[clients]] of that name")]
    UnknownGroup { service: String, group: String },
    #[error(
        "network {network} stands in clients \"{}\" (line {}) and in clients \"{}\" (line {}): a client is in one group only, \
         remove it from one",
        first.0, first.1, second.0, second.1
    )]
    SameNetwork { network: IpNet, first: (String, usize), second: (String, usize) },
    #[error("two [[clients]] are named \"{name}\" (first in line {first}): give one of them another name")]
    SameGroupName { name: String, first: usize },
    #[error(
        "service \"{service}\" sets headers, which takes mode = \"inspect\" without plain_http: in any other way they would \
         not be on every request"
    )]
    HeadersNotEverywhere { service: String },
    #[error("service \"{service}\" has plain_http and mode = \"inspect\": make two services of it")]
    PlainHttpInspected { service: String },
}

impl Policy {
    /// Compiles `source`.
    ///
    /// # Errors
    /// Every [`Conflict`] in it, in the order of the source: groups, then services.
    pub fn compile(source: PolicySource) -> Result<Self, Vec<Conflict>> {
        let mut conflicts = Vec::new();
        let networks = compile_groups(&source.groups, &mut conflicts);
        let mut services = source.services;
        let hosts = services.iter_mut().map(|service| std::mem::take(&mut service.hosts)).collect();
        let services = compile_services(services, &source.groups, &mut conflicts);
        let table = compile_table(hosts, &services, &mut conflicts);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let groups = source.groups.into_iter();
        let groups = groups.map(|group| Group { name: group.name.into(), networks: group.networks, line: group.line });
        // A service may set a field that every request has (Authorization, Cookie): elsewhere that is the client's own.
        let set = services.iter().flat_map(|service| service.headers.iter());
        let closed = set.map(|header| header.name.to_ascii_lowercase()).filter(|name| name.starts_with("x-")).collect();
        let (networks, table) = (Arc::new(networks), Arc::new(table));
        Ok(Self { groups: groups.collect(), networks, services, table, closed }.closing([]))
    }
}

fn compile_groups(groups: &[GroupSource], conflicts: &mut Vec<Conflict>) -> Networks {
    let mut networks = Networks::default();
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (id, group) in numbered(groups) {
        if let Some(first) = names.get(group.name.as_str()) {
            let kind = ConflictKind::SameGroupName { name: group.name.clone(), first: *first };
            conflicts.push(Conflict { kind, line: group.line });
        }
        names.entry(&group.name).or_insert(group.line);
        for network in &group.networks {
            let holder = networks.insert(*network, id).filter(|holder| *holder != id);
            let Some(first) = holder.and_then(|holder| groups.get(holder as usize)) else { continue };
            let kind = ConflictKind::SameNetwork {
                network: *network,
                first: (first.name.clone(), first.line),
                second: (group.name.clone(), group.line),
            };
            conflicts.push(Conflict { kind, line: group.line });
        }
    }
    networks
}

fn compile_services(
    sources: Vec<ServiceSource>,
    groups: &[GroupSource],
    conflicts: &mut Vec<Conflict>,
) -> Vec<Service> {
    let ids: HashMap<&str, GroupId> = numbered(groups).map(|(id, group)| (group.name.as_str(), id)).collect();
    let mut services = Vec::with_capacity(sources.len());
    for (ordinal, source) in (1usize..).zip(sources) {
        let mut conflict = |kind| conflicts.push(Conflict { kind, line: source.line });
        let inspected_only = source.mode == Mode::Inspect && !source.plain_http;
        if !source.headers.is_empty() && !inspected_only {
            conflict(ConflictKind::HeadersNotEverywhere { service: source.name.clone() });
        }
        if source.plain_http && source.mode == Mode::Inspect {
            conflict(ConflictKind::PlainHttpInspected { service: source.name.clone() });
        }
        let clients = source.clients.map_or(Clients::Everyone, |names| {
            let mut only = Vec::with_capacity(names.len());
            for group in names {
                match ids.get(group.as_str()) {
                    Some(id) => only.push(*id),
                    None => conflict(ConflictKind::UnknownGroup { service: source.name.clone(), group }),
                }
            }
            Clients::Only(sorted(only))
        });
        services.push(Service {
            title: Arc::new(Title { id: format!("service/{ordinal}").into(), name: source.name.into() }),
            line: source.line,
            ports: sorted(source.ports),
            mode: source.mode,
            clients,
            plain_http: source.plain_http,
            headers: source.headers.into(),
            approved: true,
        });
    }
    services
}

/// `hosts` are those of each of the services.
fn compile_table(hosts: Vec<Vec<(HostPattern, usize)>>, services: &[Service], conflicts: &mut Vec<Conflict>) -> Table {
    let mut table = Table::default();
    for ((id, service), hosts) in numbered(services).zip(hosts) {
        let other = |listed: &Listed| services.get(listed.service() as usize).filter(|_| listed.service() != id);
        let excludes = |listed: &Listed| other(listed).is_none_or(|other| overlap(service, other));
        for (pattern, line) in hosts {
            let Err((new, before)) = table.insert(Listed::new(pattern, line, id), excludes) else { continue };
            let (pattern, name, first) = (new.pattern().clone(), service.title.name.to_string(), before.line());
            let kind = match other(before) {
                None => ConflictKind::PatternTwice { pattern, service: name, first },
                Some(other) => ConflictKind::SamePattern {
                    pattern,
                    first: (other.title.name.to_string(), first),
                    second: (name, line),
                },
            };
            conflicts.push(Conflict { kind, line });
        }
    }
    table.shrink();
    table
}

/// Whether one client could reach one port through both.
fn overlap(one: &Service, other: &Service) -> bool {
    let ports = one.ports.iter().any(|port| other.has_port(*port));
    let clients = match (&one.clients, &other.clients) {
        (Clients::Everyone, Clients::Everyone) => true,
        (Clients::Everyone, Clients::Only(ids)) | (Clients::Only(ids), Clients::Everyone) => !ids.is_empty(),
        (Clients::Only(ids), Clients::Only(_)) => ids.iter().any(|id| other.clients.include(*id)),
    };
    ports && clients
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list.dedup();
    list
}

/// Each with its ordinal from 0, in the four bytes in which the table keeps it.
fn numbered<T>(list: &[T]) -> impl Iterator<Item = (u32, &T)> {
    (0u32..).zip(list)
}
