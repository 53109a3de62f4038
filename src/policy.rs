//! The policy: who may reach which name on which port, and how. A pure core: facts in, decisions out.
//!
//! `pattern` is how names are listed, `table` which pattern answers for a name, `clients` who a client is, `decision` the
//! decision and its evidence, `observe` what a time of learning makes of a denial, `reach` all that a client can reach, `shadow` (with
//! `wider`) what hides what, `reconcile` the comparison with the ClientHello, `compile` how all of it is made from the
//! configuration. What may not be here: I/O, a clock, a logger, metrics; and no `Result` on the way of a decision.

mod clients;
mod compile;
mod decision;
mod index;
mod observe;
mod pattern;
mod reach;
mod reconcile;
mod rule;
mod shadow;
mod table;
mod wider;

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;

use self::clients::{GroupId, Networks};
pub use self::compile::{Conflict, ConflictKind, GroupSource, HeaderHosts, PolicySource, ServiceSource, SetHeader};
pub use self::decision::{Claim, Decision, Denial, Destination, Inspect, Method, Permit, Plain, Tunnel};
pub use self::observe::{Enforcement, Observe, Observing, Until};
use self::pattern::Forbidden;
pub use self::pattern::{Breadth, HostPattern, PatternError, is_top_level};
pub use self::reach::Reach;
pub use self::reconcile::{Agreed, Disagreement, reconcile_inspect, reconcile_tunnel};
pub use self::rule::Rule;
use self::rule::Title;
pub use self::shadow::{Lost, Shadow};
pub use self::table::Listed;
use self::table::Table;
use crate::addrs::ClientAddr;
use crate::names::DnsName;

/// The way in which a CONNECT to a service is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Copied untouched, after the origin's certificate was verified.
    Tunnel,
    /// TLS ends here; requests are read, headers set.
    Inspect,
}

impl Mode {
    /// The word of the configuration and of the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Inspect => "inspect",
        }
    }
}

/// A compiled policy, immutable. Made only by [`Policy::compile`]; asked by [`Policy::decide`].
#[derive(Debug)]
pub struct Policy {
    groups: Arc<[Group]>,
    networks: Arc<Networks>,
    services: Vec<Service>,
    table: Arc<Table>,
    /// In lower case, sorted.
    closed: Arc<[String]>,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    networks: Vec<IpNet>,
    line: usize,
}

#[derive(Debug, Clone)]
struct Service {
    title: Arc<Title>,
    line: usize,
    /// Sorted.
    ports: Vec<u16>,
    mode: Mode,
    clients: Clients,
    plain_http: bool,
    headers: Arc<[SetHeader]>,
    /// Whether it is still one that may be reached at all.
    approved: bool,
}

impl Service {
    fn has_port(&self, port: u16) -> bool {
        self.ports.binary_search(&port).is_ok()
    }
}

#[derive(Debug, Clone)]
enum Clients {
    Everyone,
    /// Sorted.
    Only(Vec<GroupId>),
}

impl Clients {
    fn include(&self, group: GroupId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(groups) => groups.binary_search(&group).is_ok(),
        }
    }
}

/// A service as `check` and `explain` show it.
#[derive(Debug, Clone)]
pub struct ServiceSummary<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub line: usize,
    pub mode: Mode,
    pub plain_http: bool,
    /// `false`: its registration is over, and it is refused.
    pub approved: bool,
    /// In the order of the file.
    pub hosts: &'a [Listed],
    /// In ascending order, each once.
    pub ports: &'a [u16],
    /// The groups it is for, by name: all of them where the configuration names none.
    pub groups: Vec<&'a str>,
    /// Names only: values are never shown.
    pub header_names: Vec<&'a str>,
}

/// A group as `check` and `explain` show it.
#[derive(Debug, Clone, Copy)]
pub struct GroupSummary<'a> {
    pub name: &'a str,
    pub line: usize,
    pub networks: &'a [IpNet],
}

impl Policy {
    /// The name of the client's group.
    pub fn group_of(&self, client: ClientAddr) -> Option<&str> {
        let id = self.networks.group_of(client)?;
        self.groups.get(id as usize).map(|group| &*group.name)
    }

    /// Whether some pattern matches the name, whoever it is for: what is listed is decided by that pattern's services alone.
    pub fn lists(&self, name: &DnsName) -> bool {
        self.table.lookup(name).is_some()
    }

    /// Whether a connection to the name could be one that is inspected, by some client on some port: for no other is a leaf ever due.
    pub fn inspects(&self, name: &DnsName) -> bool {
        let found = self.table.lookup(name).filter(|_| Forbidden::of(name).is_none());
        found.is_some_and(|found| found.listed().any(|listed| self.service(listed).mode == Mode::Inspect))
    }

    /// A pattern that is inspected here and is in no list of inspected ones of `other`.
    pub fn newly_inspected(&self, other: &Self) -> Option<&HostPattern> {
        let known: HashSet<&HostPattern> = other.inspected().collect();
        self.inspected().find(|pattern| !known.contains(pattern))
    }

    fn inspected(&self) -> impl Iterator<Item = &HostPattern> {
        let services = (0..).zip(&self.services).filter(|(_, service)| service.mode == Mode::Inspect);
        services.flat_map(|(id, _)| self.table.of_service(id)).map(Listed::pattern)
    }

    /// This policy with the services refused whose `rule.id` is `over`, beside those that are already; `None` where there is no other.
    /// The lists of names are shared.
    pub fn refusing(&self, over: impl Fn(&str) -> bool) -> Option<Self> {
        let mut services = self.services.clone();
        for service in &mut services {
            service.approved &= !over(&service.title.id);
        }
        let changed = services.iter().zip(&self.services).any(|(new, old)| new.approved != old.approved);
        changed.then(|| Self {
            groups: Arc::clone(&self.groups),
            networks: Arc::clone(&self.networks),
            services,
            table: Arc::clone(&self.table),
            closed: Arc::clone(&self.closed),
        })
    }

    /// The services in the order of the file.
    pub fn services(&self) -> impl Iterator<Item = ServiceSummary<'_>> {
        (0..).zip(&self.services).map(|(id, service)| ServiceSummary {
            id: &service.title.id,
            name: &service.title.name,
            line: service.line,
            mode: service.mode,
            plain_http: service.plain_http,
            approved: service.approved,
            hosts: self.table.of_service(id),
            ports: &service.ports,
            groups: self.group_names(&service.clients),
            header_names: service.headers.iter().map(|header| header.name.as_str()).collect(),
        })
    }

    /// The services that inspect, each with what it sets on requests to its hosts.
    pub fn inspecting(&self) -> impl Iterator<Item = (ServiceSummary<'_>, &[SetHeader])> {
        let headers = self.services.iter().map(|service| &*service.headers);
        self.services().zip(headers).filter(|(service, _)| service.mode == Mode::Inspect)
    }

    /// With these names of fields closed too, beside those that a service sets: what is known to restrict a tenant somewhere.
    #[must_use]
    pub fn closing(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        let mut closed: Vec<String> = names.into_iter().map(str::to_ascii_lowercase).collect();
        closed.extend(self.closed.iter().cloned());
        closed.sort_unstable();
        closed.dedup();
        self.closed = closed.into();
        self
    }

    /// Names of fields, in lower case, that no client may send of its own to an inspected host: an `X-` field that one service sets, or what
    /// some vendor obeys, could answer another one of ours (version 2 of Microsoft's beside version 1).
    pub fn closed(&self) -> &[String] {
        &self.closed
    }

    /// The groups in the order of the file.
    pub fn groups(&self) -> impl Iterator<Item = GroupSummary<'_>> {
        self.groups.iter().map(|group| GroupSummary { name: &group.name, line: group.line, networks: &group.networks })
    }

    fn group_names(&self, clients: &Clients) -> Vec<&str> {
        (0..).zip(&*self.groups).filter(|(id, _)| clients.include(*id)).map(|(_, group)| &*group.name).collect()
    }

    fn service(&self, listed: &Listed) -> &Service {
        &self.services[listed.service() as usize]
    }

    fn rule(&self, listed: &Listed) -> Rule {
        Rule::service(Arc::clone(&self.service(listed).title), listed.pattern().clone(), listed.line())
    }
}

#[cfg(test)]
mod tests;
