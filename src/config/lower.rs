//! From the tree of values to what a [`super::Config`] is made of: every rule that needs no file but this one.
//!
//! Lowering never stops at a problem: what is wrong is left out or takes its default, and the configuration is refused in the
//! end. The folder of `[catalog]` is read here, as services are made of it. What may not
//! be here: other I/O (`files`).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use toml::de::DeTable;

use super::approval::Approval;
use super::balancers::{self, Believed};
use super::catalogue::{self, Shelf};
use super::enforcement::Observed;
use super::feed::{self, CatalogSettings};
use super::ismap::{self, DatesAt};
use super::problem::{At, MOST, Problems, quoted};
use super::profiles::FIELDS;
use super::reader::Table;
use super::service::{self, Service};
use super::settings::{self, Timeouts, Upstream};
use super::{
    Balancers, Case, IssuingFiles, Listener, ListenerMode, OwnEntries, Site, Steering, control, enforcement, finding,
    issuing, limits, pac, schema, shadowed, units,
};
use crate::addrs::ListenAddr;
use crate::catalog::Catalogue;
use crate::policy::{Conflict, ConflictKind, Enforcement, HostPattern, Mode, Policy, PolicySource};
use crate::upstream::resolve;
use crate::{admit, pressure, record};

/// The configuration before the files it names are read.
pub(super) struct Lowered<'t> {
    /// Enforcing, until a clock has judged `observed`.
    pub site: Site,
    pub observed: Option<Observed>,
    /// Hosts that a tenant restriction of some service is for.
    pub restricted: Vec<HostPattern>,
    pub listeners: Vec<Listener>,
    pub balancers: Balancers,
    pub admin: Option<ListenAddr>,
    pub control: Option<control::Lowered<'t>>,
    /// `None` only where there is an error.
    pub policy: Option<Policy>,
    /// Every inspected pattern and where it stands.
    pub inspected: Vec<(HostPattern, At)>,
    pub resolver: resolve::Settings,
    pub upstream: Upstream<'t>,
    pub issuing: Option<(IssuingFiles, issuing::Places)>,
    pub limits: admit::Settings,
    pub pressure: pressure::Settings,
    pub timeouts: Timeouts,
    pub record: record::Settings,
    pub pac: Option<crate::pac::Settings>,
    pub catalogue: Catalogue,
    pub own_entries: OwnEntries,
    /// The registrations that are asked for or stated, and where their dates stand.
    pub approvals: Vec<(Approval, Option<DatesAt>)>,
    /// What services took from the catalogue, as text: a part of what the revision is of.
    pub taken: String,
    pub catalog: CatalogSettings,
}

/// Paths are resolved against `base`, the directory of the file.
pub(super) fn lower<'t>(
    tree: &'t DeTable<'t>,
    base: &Path,
    shelf: Shelf<'_>,
    problems: &mut Problems<'_>,
) -> Lowered<'t> {
    let root = Table::root(tree, &schema::ROOT, problems);
    let mut catalog = feed::settings(&root, base, problems);
    let catalogue = catalogue::of_site(&mut catalog, shelf, problems);
    let (site, case_at, observed) = site(&root, problems);
    let (listeners, believed, admin, taken_addresses) = doors(&root, problems);
    let limits = limits::limits(&root, problems);
    let mut groups = service::groups(&root, &limits, problems);
    let balancers = balancers::judge(believed, &groups, problems);
    let mut services = service::services(&root, &groups, &limits, &catalogue, problems);
    finding::look(&site, &case_at, &services, &catalogue, problems);
    ismap::judge(&site, &services, problems);
    let approvals = ismap::lodge(&site, &services, problems);
    feed::warn_gone(&services, &catalog, problems);
    let taken = service::taken(&services);
    let restricted = finding::restricted(&services);
    let timeouts = settings::timeouts(&root, problems);
    let resolver = settings::resolver(&root, timeouts.dns, problems);
    let upstream = settings::upstream(&root, base, problems);
    let issuing = issuing::read(&root, base, problems);
    require_issuing_ca(issuing.is_some(), &services, problems);
    let inspected = services.iter().filter(|service| service.mode == Mode::Inspect).flat_map(|service| &service.hosts);
    let inspected = inspected.map(|host| (host.pattern.clone(), host.at.clone())).collect();
    let pressure = settings::pressure(&root, problems);
    let of_groups = groups.iter_mut().map(|group| (group.source.name.clone(), std::mem::take(&mut group.limits)));
    let of_services = services.iter_mut().map(|service| (service.name.clone(), std::mem::take(&mut service.limits)));
    let limits = limits::with(limits, of_groups, of_services);
    let record = settings::record(&root, base, problems);
    let control = control::control(&root, base, problems);
    let pac = pac::pac(&root, &services, &taken_addresses, problems);
    let policy = compile(groups, services, &catalogue, problems);
    Lowered {
        site,
        observed,
        restricted,
        listeners,
        balancers,
        admin,
        control,
        policy,
        inspected,
        resolver,
        upstream,
        issuing,
        limits,
        pressure,
        timeouts,
        record,
        pac,
        own_entries: own_entries(&catalogue),
        catalogue,
        approvals,
        taken,
        catalog,
    }
}

type Doors = (Vec<Listener>, Vec<(ListenAddr, Vec<Believed>)>, Option<ListenAddr>, Vec<pac::Taken>);

/// Where clients and the monitoring come in, who is believed there, and every address that is taken by it.
fn doors<'t>(root: &Table<'t>, problems: &mut Problems<'_>) -> Doors {
    let (opened, believed) = listeners(root, problems);
    let addresses: Vec<_> = opened.iter().map(|(listener, at)| (listener.address, at.clone())).collect();
    let admin = admin(root, &addresses, problems);
    let mut taken: Vec<pac::Taken> = addresses.into_iter().map(|(address, at)| (address, "listener", at)).collect();
    taken.extend(admin.iter().map(|(address, at)| (*address, "admin listener", at.clone())));
    let opened = opened.into_iter().map(|(listener, _)| listener).collect();
    (opened, believed, admin.map(|(address, _)| address), taken)
}

fn own_entries(catalogue: &Catalogue) -> OwnEntries {
    let (mut replacing, mut added) = (Vec::new(), Vec::new());
    for (entry, replaces) in catalogue.own() {
        let file = entry.file.as_deref().and_then(|file| Path::new(file).file_name()).unwrap_or_default();
        let shown = format!("{} ({})", entry.id, file.to_string_lossy());
        if replaces { replacing.push(shown) } else { added.push(shown) }
    }
    OwnEntries { replacing, added }
}

fn site<'t>(root: &Table<'t>, problems: &mut Problems<'_>) -> (Site, At, Option<Observed>) {
    const CASES: [(&str, Case); 3] = [
        ("authentication", Case::Authentication),
        ("collaboration", Case::Collaboration),
        ("file-exchange", Case::FileExchange),
    ];
    let table = root.table("site", Some(&schema::SITE), problems);
    let name = table.text("name", problems).and_then(|text| {
        let sound = !text.text.trim().is_empty()
            && text.text.chars().count() <= 100
            && !text.text.chars().any(char::is_control);
        if !sound {
            problems.error(&text.at, quoted(text.text), "the body's name: 1 to 100 printable characters");
        }
        sound.then(|| text.text.to_owned())
    });
    let case = table.choice("case", &CASES, problems);
    let observed = enforcement::read(&table, problems);
    last_line(&table, problems);
    let site = Site {
        name: name.unwrap_or_else(|| "sekisho".to_owned()),
        case,
        enforcement: Enforcement::Enforce,
        require_ismap: table.choice("require_ismap", &ismap::DEMANDS, problems),
        accept_liu: table.flag("accept_liu", problems).unwrap_or(false),
    };
    if site.accept_liu && !table.has("require_ismap") {
        let expected = "require_ismap = \"enforce\" or \"warn\" beside it: nothing asks for a registration";
        problems.error(&table.place("accept_liu"), "accept_liu = true", expected);
    }
    (site, table.place("case"), observed)
}

/// L04: a file cut short can still be sound TOML with a rule, or the half of one, missing.
fn last_line<'t>(site: &Table<'t>, problems: &mut Problems<'_>) {
    const HINT: &str = "the file may be cut short: compare it with its source before anything else";
    let text = problems.text();
    let end = At { offset: text.len(), key: String::new() };
    let marker = site.text("last_line", problems);
    let Some(marker) = marker else {
        if !text.is_empty() && !text.ends_with('\n') {
            let problem = problems.error(&end, "no line break at the end of the file", "a last line that is whole");
            problem.hint(format!("{HINT};\nif it is complete, add a line break"));
        }
        return;
    };
    if !marker.text.starts_with('#') {
        problems.error(&marker.at, quoted(marker.text), "a comment, such as \"# end of sekisho.toml\"");
    } else if text.lines().next_back() != Some(marker.text) {
        let expected = format!("{}, as site.last_line says", quoted(marker.text));
        problems.error(&end, "another last line", expected).hint(HINT);
    }
}

type Opened = (Vec<(Listener, At)>, Vec<(ListenAddr, Vec<Believed>)>);

fn listeners<'t>(root: &Table<'t>, problems: &mut Problems<'_>) -> Opened {
    let tables = root.tables("listener", &schema::LISTENER, problems);
    if !root.has("listener") || root.is_empty_list("listener") {
        root.missing("listener", "at least one [[listener]] with an address, such as \"0.0.0.0:8080\"", problems);
    }
    let (mut listeners, mut believed): Opened = (Vec::new(), Vec::new());
    for table in tables {
        let (mode, of_this) = (mode(&table, problems), balancers::believed(&table, problems));
        let Some((address, at)) = address(&table, problems) else { continue };
        if let Some((other, first)) = listeners.iter().find(|(other, _)| collide(other.address, address)) {
            let line = problems.line(first.offset);
            let found = format!("\"{address}\", which collides with \"{}\" (line {line})", other.address);
            problems.error(&at, found, "an address and port of its own for each listener");
        }
        listeners.push((Listener { address, mode }, at));
        believed.push((address, of_this));
    }
    (listeners, believed)
}

fn mode(table: &Table<'_>, problems: &mut Problems<'_>) -> ListenerMode {
    let transparent = table.choice("mode", &[("explicit", false), ("transparent", true)], problems).unwrap_or(false);
    let means = [("redirect", Steering::Redirect), ("tproxy", Steering::Tproxy)];
    let steering = table.choice("steering", &means, problems);
    if steering.is_some() && !transparent {
        let expected = "mode = \"transparent\" beside it: who names this proxy is steered by nothing";
        problems.error(&table.place("steering"), "steering on an explicit listener", expected);
    }
    match transparent {
        true => ListenerMode::Transparent(steering.unwrap_or(Steering::Redirect)),
        false => ListenerMode::Explicit,
    }
}

fn admin<'t>(
    root: &Table<'t>,
    listeners: &[(ListenAddr, At)],
    problems: &mut Problems<'_>,
) -> Option<(ListenAddr, At)> {
    let table = root.table("admin", Some(&schema::ADMIN), problems);
    if !table.is_present() {
        return None;
    }
    let (address, at) = address(&table, problems)?;
    if let Some((other, first)) = listeners.iter().find(|(other, _)| collide(*other, address)) {
        let line = problems.line(first.offset);
        let found = format!("\"{address}\", which collides with the listener \"{other}\" (line {line})");
        problems.error(&at, found, "an address and port that no listener has");
    } else if !address.ip().is_loopback() {
        let found = format!("\"{address}\", which other machines reach");
        problems.warning(
            &at,
            found,
            "a loopback address such as \"127.0.0.1:9090\", or a firewall rule in front of it",
        );
    }
    Some((address, at))
}

pub(super) fn address<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> Option<(ListenAddr, At)> {
    const EXPECTED: &str = "an IP address and a port, such as \"0.0.0.0:8080\" or \"[::]:8080\"";
    let text = table.required_text("address", EXPECTED, problems)?;
    // Port 0 (one the kernel chooses) is for trials on one machine: nobody else could be told of it.
    let usable = |socket: &SocketAddr| socket.port() != 0 || socket.ip().is_loopback();
    match units::socket(text.text).filter(usable) {
        Some(socket) => Some((ListenAddr::new(socket), text.at)),
        None => {
            problems.error(&text.at, quoted(text.text), EXPECTED);
            None
        }
    }
}

/// Whether the kernel refuses the second of two: the same port, and the same address or the family's any-address.
pub(super) fn collide(one: ListenAddr, other: ListenAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    let family = one.ip().is_ipv4() == other.ip().is_ipv4();
    let meet = one.ip() == other.ip() || (family && (any(one.ip()) || any(other.ip())));
    one.port() == other.port() && one.port() != 0 && meet
}

fn require_issuing_ca(present: bool, services: &[Service], problems: &mut Problems<'_>) {
    let first = services.iter().find(|service| service.mode == Mode::Inspect);
    if let (false, Some(service)) = (present, first) {
        problems
            .error(&service.mode_at, "mode = \"inspect\" without [issuing_ca]", "an issuing CA to inspect with")
            .hint("add [issuing_ca] with certificate = \"ca.pem\" and key = \"ca.key\"; `sekisho ca init` makes both files");
    }
}

fn compile(
    groups: Vec<service::Group>,
    services: Vec<Service>,
    catalogue: &Catalogue,
    problems: &mut Problems<'_>,
) -> Option<Policy> {
    let at_line = |line: usize, problems: &Problems<'_>, services: &[Service], pattern: Option<&HostPattern>| {
        let hosts = services.iter().flat_map(|service| &service.hosts);
        let mut hosts = hosts.filter(|host| problems.line(host.at.offset) == line && pattern == Some(&host.pattern));
        hosts.next_back().map(|host| host.at.clone())
    };
    let places: Vec<At> = groups.iter().map(|group| group.at.clone()).collect();
    let at_group =
        |line: usize, problems: &Problems<'_>| places.iter().find(|at| problems.line(at.offset) == line).cloned();
    let sources: Vec<_> = services.iter().map(|service| service.to_source(problems)).collect();
    let source = PolicySource { groups: groups.into_iter().map(|group| group.source).collect(), services: sources };
    match Policy::compile(source) {
        Ok(policy) => {
            // Of a file with errors, what hides what may be for the very error.
            if !problems.any_error() {
                shadowed::warn(&policy, &services, catalogue, problems);
            }
            return Some(policy.closing(FIELDS));
        }
        Err(conflicts) => {
            for conflict in conflicts.into_iter().take(MOST) {
                let pattern = pattern_of(&conflict);
                let at =
                    at_line(conflict.line, problems, &services, pattern).or_else(|| at_group(conflict.line, problems));
                report(&conflict, at, problems);
            }
        }
    }
    None
}

fn pattern_of(conflict: &Conflict) -> Option<&HostPattern> {
    match &conflict.kind {
        ConflictKind::SamePattern { pattern, .. } | ConflictKind::PatternTwice { pattern, .. } => Some(pattern),
        ConflictKind::UnknownGroup { .. }
        | ConflictKind::SameNetwork { .. }
        | ConflictKind::SameGroupName { .. }
        | ConflictKind::HeadersNotEverywhere { .. }
        | ConflictKind::PlainHttpInspected { .. } => None,
    }
}

fn report(conflict: &Conflict, at: Option<At>, problems: &mut Problems<'_>) {
    let at = at.unwrap_or_else(|| At { offset: problems.line_start(conflict.line), key: String::new() });
    let (found, expected) = match &conflict.kind {
        ConflictKind::SamePattern { pattern, first, .. } => (
            format!(
                "\"{pattern}\", which service {:?} (line {}) has too, with ports and clients that overlap",
                first.0, first.1
            ),
            "each pattern in one service, or in two whose ports or clients have nothing in common".to_owned(),
        ),
        ConflictKind::PatternTwice { pattern, first, .. } => (
            format!("\"{pattern}\" a second time (first in line {first})"),
            "each pattern once in a service".to_owned(),
        ),
        ConflictKind::SameNetwork { network, first, .. } => (
            format!("\"{network}\", which clients {:?} (line {}) has too", first.0, first.1),
            "each network in one [[clients]]: a client is in one group".to_owned(),
        ),
        // These are said already where the service was read, with the very key.
        ConflictKind::UnknownGroup { .. }
        | ConflictKind::SameGroupName { .. }
        | ConflictKind::HeadersNotEverywhere { .. }
        | ConflictKind::PlainHttpInspected { .. } => {
            if problems.any_error() {
                return;
            }
            (conflict.to_string(), String::new())
        }
    };
    problems.error(&at, found, expected);
}
