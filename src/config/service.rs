//! `[[clients]]` and `[[service]]`: each rule that one of them can break by itself.
//!
//! What may not be here: what concerns several services (`policy::Policy::compile`, `finding`), files (`files`).

use std::collections::HashMap;

use super::header::{self, Placed};
use super::ismap::{self, Stated};
use super::limits;
use super::problem::{At, Problems, quoted};
use super::reader::{Table, Text};
use super::schema;
use super::settings::network;
use super::taken::{self, Taken};
use super::tenant::{self, Tenant};
use super::units;
use crate::admit;
use crate::catalog::{Catalogue, Template, TemplateError};
use crate::policy::{Breadth, GroupSource, HostPattern, Mode, PatternError, ServiceSource};

const MODES: [(&str, Mode); 2] = [("tunnel", Mode::Tunnel), ("inspect", Mode::Inspect)];
const MAX_TITLE: usize = 100;

/// A `[[clients]]` and where it stands.
pub(super) struct Group {
    pub source: GroupSource,
    pub limits: limits::OfGroup,
    pub at: At,
}

/// A `[[service]]` and where its parts stand.
pub(super) struct Service {
    pub name: String,
    pub at: At,
    /// Each `entry/part` of the catalogue that hosts were taken from, and where it stands.
    pub catalog: Vec<(String, At)>,
    /// The tenant's own name, where hosts are made from it.
    pub tenant_name: Option<String>,
    pub hosts: Vec<Host>,
    pub ports: Vec<u16>,
    pub mode: Mode,
    pub mode_at: At,
    /// `None`: every `[[clients]]`.
    pub clients: Option<Vec<String>>,
    pub plain_http: bool,
    pub headers: Vec<Placed>,
    pub tenant: Option<Tenant>,
    pub ismap: Option<Stated>,
    pub limits: admit::Quotas,
}

/// One of `hosts`.
pub(super) struct Host {
    pub pattern: HostPattern,
    pub at: At,
}

impl Service {
    /// A copy, because the places of its parts are still needed where the policy finds conflicts.
    pub fn to_source(&self, problems: &Problems<'_>) -> ServiceSource {
        ServiceSource {
            name: self.name.clone(),
            line: problems.line(self.at.offset),
            hosts: self.hosts.iter().map(|host| (host.pattern.clone(), problems.line(host.at.offset))).collect(),
            ports: self.ports.clone(),
            mode: self.mode,
            clients: self.clients.clone(),
            plain_http: self.plain_http,
            headers: self.headers.iter().map(|placed| placed.header.clone()).collect(),
        }
    }
}

/// What was taken from the catalogue: an entry that changes must change the configuration's revision.
pub(super) fn taken(services: &[Service]) -> String {
    let taken = services.iter().filter(|service| !service.catalog.is_empty());
    let lines = taken.map(|service| {
        let hosts: Vec<_> = service.hosts.iter().map(|host| host.pattern.as_str()).collect();
        format!("{} {:?} {} {:?}\n", service.name, service.ports, service.plain_http, hosts)
    });
    lines.collect()
}

pub(super) fn groups<'t>(root: &Table<'t>, all: &admit::Settings, problems: &mut Problems<'_>) -> Vec<Group> {
    let tables = root.tables("clients", &schema::CLIENTS, problems);
    if !root.has("clients") || root.is_empty_list("clients") {
        problems.warning(&root.place("clients"), "no [[clients]]", "at least one: without it nobody is served");
    }
    let mut groups = Vec::with_capacity(tables.len());
    let mut names = HashMap::new();
    for table in tables {
        let name = title(&table, "a name for this group of clients", &mut names, problems);
        let texts = table.required_texts("networks", "a list of networks, such as [\"10.20.0.0/16\"]", problems);
        if table.is_empty_list("networks") {
            problems.warning(&table.place("networks"), "an empty list", "networks: nobody is in this group");
        }
        let networks: Vec<_> = texts.iter().filter_map(|text| Some((network(text, problems)?, &text.at))).collect();
        for (found, at) in units::everybody(&networks) {
            problems.warning(at, found, "the body's own networks: whoever reaches the listener is served");
        }
        let limits = limits::of_group(&table, all, problems);
        // Without a name nothing can refer to the group, and the missing name is said already.
        let Some(name) = name else { continue };
        let line = problems.line(table.at.offset);
        let networks = networks.into_iter().map(|(net, _)| net).collect();
        groups.push(Group { source: GroupSource { name, networks, line }, limits, at: table.at });
    }
    groups
}

pub(super) fn services<'t>(
    root: &Table<'t>,
    groups: &[Group],
    all: &admit::Settings,
    catalogue: &Catalogue,
    problems: &mut Problems<'_>,
) -> Vec<Service> {
    let tables = root.tables("service", &schema::SERVICE, problems);
    if !root.has("service") || root.is_empty_list("service") {
        problems.warning(&root.place("service"), "no [[service]]", "at least one: without it everything is refused");
    }
    let mut names = HashMap::new();
    let mut services = Vec::with_capacity(tables.len());
    let mut every_client_read = true;
    for table in &tables {
        let (clients, read) = clients(table, groups, problems);
        every_client_read &= read;
        let limits = limits::of_service(table, all, problems);
        services.push(service(table, clients, limits, catalogue, &mut names, problems));
    }
    if every_client_read {
        refuse_unused(groups, &services, problems);
    }
    services
}

fn service<'t>(
    table: &Table<'t>,
    clients: Option<Vec<String>>,
    limits: admit::Quotas,
    catalogue: &Catalogue,
    names: &mut HashMap<String, usize>,
    problems: &mut Problems<'_>,
) -> Service {
    let name = title(table, "a name for this service", names, problems).unwrap_or_default();
    let taken = taken::read(table, catalogue, problems);
    taken::judge_beside(table, &taken, problems);
    let hosts = hosts(table, &taken, problems);
    let (tenant, headers) = tenant::read(table, &hosts, problems).unzip();
    let mut headers: Vec<Placed> = headers.unwrap_or_default();
    headers.extend(header::read(table, problems));
    header::refuse_duplicates(&headers, problems);
    let mode = table.choice("mode", &MODES, problems);
    let service = Service {
        name,
        at: table.at.clone(),
        hosts,
        ports: ports(table, &taken, problems),
        catalog: taken.parts,
        tenant_name: taken.tenant_name,
        mode: mode.unwrap_or(Mode::Tunnel),
        mode_at: table.place("mode"),
        clients,
        plain_http: table.flag("plain_http", problems).unwrap_or(taken.plain_http),
        headers,
        tenant,
        ismap: ismap::read(table, problems),
        limits,
    };
    // A misspelt mode is an error already; what follows from reading it as the default would only mislead.
    if mode.is_some() || !table.has("mode") {
        judge_together(&service, table, problems);
    }
    service
}

/// What the keys of one service say about each other.
fn judge_together(service: &Service, table: &Table<'_>, problems: &mut Problems<'_>) {
    let restricted = table.has("tenant") || table.has("header");
    let plain_at = table.place("plain_http");
    if service.plain_http && (service.mode == Mode::Inspect || restricted) {
        let found = "plain_http = true together with mode = \"inspect\", a tenant or a header";
        problems
            .error(&plain_at, found, "one or the other")
            .hint("a header on plain HTTP could be read on its way: give the http:// hosts a service of their own");
    } else if restricted && service.mode == Mode::Tunnel {
        let found = "a tenant or a header without mode = \"inspect\"";
        problems
            .error(&service.mode_at, found, "mode = \"inspect\"")
            .hint("a tunnel is not opened, so that nothing can be set in it: write mode = \"inspect\"");
    } else if service.plain_http && service.ports == [443] {
        let found = "plain HTTP on port 443 alone";
        problems.warning(&plain_at, found, "ports = [80] or [80, 443]: http:// is on port 80");
    } else if !service.plain_http && service.ports.contains(&80) {
        let found = "port 80 without plain_http = true";
        problems.warning(&table.place("ports"), found, "plain_http = true, or ports without 80").hint(
            "only TLS passes unless a service says plain_http = true, and on port 80 hardly anything is TLS; where this one \
             inspects, give the http:// hosts a service of their own",
        );
    }
}

/// Those of the catalogue, then the service's own.
fn hosts<'t>(table: &Table<'t>, taken: &Taken, problems: &mut Problems<'_>) -> Vec<Host> {
    const EXPECTED: &str = "a list of host patterns, such as [\"example.com\", \"*.example.com\"], or a part of the catalogue (catalog = …)";
    let mut hosts: Vec<Host> =
        taken.hosts.iter().map(|(pattern, at)| Host { pattern: pattern.clone(), at: at.clone() }).collect();
    let texts = match table.has("catalog") {
        true => table.texts("hosts", problems).unwrap_or_default(),
        false => table.required_texts("hosts", EXPECTED, problems),
    };
    let allow_broad = table.flag("allow_broad", problems).unwrap_or(false);
    if table.is_empty_list("hosts") {
        problems.warning(&table.place("hosts"), "an empty list", "host patterns: the service permits nothing");
    }
    for text in texts {
        let pattern = Template::parse(text.text).and_then(|template| template.fill(taken.tenant_name.as_deref()));
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err(error) => {
                refuse_pattern(&text, error, problems);
                continue;
            }
        };
        if !allow_broad {
            judge_breadth(&text, pattern.breadth(), problems);
        }
        hosts.push(Host { pattern, at: text.at });
    }
    hosts
}

fn refuse_pattern(text: &Text<'_>, error: TemplateError, problems: &mut Problems<'_>) {
    let expected = match error {
        TemplateError::NoTenant => "tenant_name = \"…\" beside it, or the name itself in its place",
        TemplateError::Pattern(PatternError::IpLiteral) => "a host name, never an address",
        TemplateError::Pattern(PatternError::Lgwan) => "a name outside lgwan.jp",
        TemplateError::Pattern(PatternError::EchOuter) => "the name of a site",
        TemplateError::Braces
        | TemplateError::Pattern(
            PatternError::Empty
            | PatternError::Name(_)
            | PatternError::NotOnlyAName
            | PatternError::StarsInARow
            | PatternError::StarLabel,
        ) => "a host pattern such as \"example.com\" or \"*.example.com\"",
    };
    problems.error(&text.at, quoted(text.text), expected).hint(error.to_string());
}

fn judge_breadth(text: &Text<'_>, breadth: Breadth, problems: &mut Problems<'_>) {
    match breadth {
        Breadth::Fine => {}
        Breadth::AboveIcann(suffix) => {
            let reach = match suffix.as_str() {
                "" => "which reaches names under every suffix".to_owned(),
                top if !top.contains('.') => format!("the top-level name {top:?} or all right under it"),
                _ => format!("at or above the public suffix {suffix:?}"),
            };
            let found = format!("{}, {reach}", quoted(text.text));
            problems.error(&text.at, found, "a pattern below what one organisation holds").hint(
                "list the hosts the service really uses; allow_broad = true on the service permits it all the same",
            );
        }
        Breadth::PrivateSuffix(suffix) => {
            let found = format!("{}: under {suffix} anybody may get a name", quoted(text.text));
            problems
                .warning(&text.at, found, "the names the service really uses")
                .hint("allow_broad = true on the service says that it is meant");
        }
    }
}

fn ports<'t>(table: &Table<'t>, taken: &Taken, problems: &mut Problems<'_>) -> Vec<u16> {
    let Some(ports) = table.integers("ports", &(1..=65535), "a port", problems) else { return taken.ports.clone() };
    if table.is_empty_list("ports") {
        problems.warning(&table.place("ports"), "an empty list", "ports: the service permits nothing");
    }
    ports.into_iter().filter_map(|(port, _)| u16::try_from(port).ok()).collect()
}

/// The names of `clients`, and whether all of it could be read.
fn clients<'t>(table: &Table<'t>, groups: &[Group], problems: &mut Problems<'_>) -> (Option<Vec<String>>, bool) {
    if !table.has("clients") {
        return (None, true);
    }
    // What is no list must not become "every group" on the way.
    let Some(texts) = table.texts("clients", problems) else { return (Some(Vec::new()), false) };
    if table.is_empty_list("clients") {
        problems.warning(&table.place("clients"), "an empty list", "names of [[clients]]: nobody may use the service");
    }
    let mut names = Vec::with_capacity(texts.len());
    for text in &texts {
        if groups.iter().any(|group| group.source.name == text.text) {
            names.push(text.text.to_owned());
            continue;
        }
        let known: Vec<_> = groups.iter().map(|group| quoted(&group.source.name)).collect();
        let problem = problems.error(&text.at, quoted(text.text), "the name of a [[clients]] of this file");
        let hint =
            if known.is_empty() { "there is none".to_owned() } else { format!("there are: {}", known.join(", ")) };
        problem.hint(hint);
    }
    let read = names.len() == texts.len();
    (Some(names), read)
}

/// A group that no service admits is a mistake: its clients are refused everything, or a service forgot it.
fn refuse_unused(groups: &[Group], services: &[Service], problems: &mut Problems<'_>) {
    for group in groups {
        let admits =
            |service: &Service| service.clients.as_ref().is_none_or(|names| names.contains(&group.source.name));
        if !services.is_empty() && !services.iter().any(admits) {
            let found = format!("{}, which no service names", quoted(&group.source.name));
            problems
                .error(&group.at, found, "every [[clients]] in the clients of some [[service]]")
                .hint("add it to a service's clients, or remove it");
        }
    }
}

/// The unique `name` of a table.
fn title<'t>(
    table: &Table<'t>,
    expected: &str,
    names: &mut HashMap<String, usize>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let text = table.required_text("name", expected, problems)?;
    if text.text.trim().is_empty() || text.text.chars().count() > MAX_TITLE || text.text.chars().any(char::is_control) {
        problems.error(&text.at, quoted(text.text), format!("{expected}: 1 to {MAX_TITLE} printable characters"));
        return None;
    }
    let line = problems.line(text.at.offset);
    match names.insert(text.text.to_owned(), line) {
        None => Some(text.text.to_owned()),
        Some(first) => {
            let found = format!("{} a second time (first in line {first})", quoted(text.text));
            problems.error(&text.at, found, "a name of its own for each");
            None
        }
    }
}
