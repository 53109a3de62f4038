//! The screen of `sekisho check`: the policy as it will be, in at most 80 columns of plain text.
//!
//! Widths are those of a terminal: a Japanese name takes two columns a character. What may not be here: colour (`cli`),
//! values of headers.

use std::fmt::Write;

use super::{Approval, Config, Demand, Listener, OwnEntries, quotas_in_words, show_duration};
use crate::admit::{Quotas, Settings};
use crate::policy::{Enforcement, ServiceSummary};
use crate::pressure::{Ceiling, shown};
use crate::record::WhenUnwritable;
use crate::upstream::resolve::NamedIn;
use crate::upstream::trust::{MinTls, Roots, Stale, Unknown};

const COLUMNS: usize = 80;
/// Where the text behind a label begins.
const INDENT: usize = 11;
/// Rows of clients and services that are shown, so that the whole stays one screen.
const ROWS: usize = 10;

/// The effective policy, one screen, every line ended by a line break.
pub fn summary(config: &Config) -> String {
    let mut screen = Screen::default();
    let case = config.site.case.map_or_else(String::new, |case| format!(" ({})", case.as_str()));
    screen.row("site", [format!("{}{case}", config.site.name)]);
    if let Enforcement::Observe(observe) = &config.site.enforcement {
        let what = "names that no service lists pass on port 443, as verified tunnels".to_owned();
        screen.row("OBSERVING", [format!("until {}:", observe.until), what]);
    }
    screen.row("file", [config.file.display().to_string()]);
    screen.row("revision", [config.revision.to_string()]);
    screen.row("listen", config.listeners.iter().map(|listener| listen(config, *listener)));
    screen.row("admin", [config.admin.map_or_else(|| "none".to_owned(), |address| address.to_string())]);
    if let Some(control) = &config.control {
        let group = |what: &str, group: &Option<crate::control::Group>| {
            format!("{what} {}", group.as_ref().map_or("root only", |group| &group.name))
        };
        let socket = control.socket.display().to_string();
        screen.row("control", [socket, group("viewers", &control.viewers), group("operators", &control.operators)]);
    }
    if let Some(pac) = &config.pac {
        let address = pac.address.map_or_else(|| "served nowhere".to_owned(), |address| address.to_string());
        screen.row("pac", [address, few(pac.proxies.iter().map(ToString::to_string), 4, "no proxy")]);
    }
    clients(config, &mut screen);
    services(config, &mut screen);
    catalogue(config, &mut screen);
    ismap(config, &mut screen);
    upstream(config, &mut screen);
    limits(config, &mut screen);
    screen.row("timeouts", timeouts(config).map(|(name, span)| format!("{name} {}", show_duration(span))));
    let unwritable = match config.record.when_unwritable {
        WhenUnwritable::Deny => "when unwritable: deny",
        WhenUnwritable::Continue => "when unwritable: continue",
    };
    screen.row("record", [config.record.path.display().to_string(), unwritable.to_owned()]);
    screen.text
}

fn listen(config: &Config, listener: Listener) -> String {
    let (address, mode) = (listener.address, listener.mode.as_str());
    let balancers = config.balancers.networks(address).iter().map(ToString::to_string);
    match few(balancers, 4, "") {
        none if none.is_empty() => format!("{address} ({mode})"),
        balancers => format!("{address} ({mode}, PROXY protocol from {balancers})"),
    }
}

fn clients(config: &Config, screen: &mut Screen) {
    let groups: Vec<_> = config.policy.groups().collect();
    for group in groups.iter().take(ROWS) {
        let networks = group.networks.iter().map(ToString::to_string);
        screen.row("clients", std::iter::once(format!("{}:", group.name)).chain([few(networks, 4, "no network")]));
    }
    screen.rest("clients", groups.len());
}

/// Of all, of a client; of each group and service that has its own.
fn limits(config: &Config, screen: &mut Screen) {
    let Settings { all, per_client, groups, services, ipv6_prefix } = &config.limits;
    screen.row("limits", ["all:".to_owned(), memory(config)].into_iter().chain(quotas_in_words(all)));
    let mut row = |label: &str, whose: String, quotas: &Quotas| {
        screen.row(label, std::iter::once(format!("{whose}:")).chain(quotas_in_words(quotas)));
    };
    row("", format!("a client (IPv6 by /{ipv6_prefix})"), per_client);
    let own = |quotas: &Quotas, usual: &Quotas| quotas != usual;
    let of_groups = groups.iter().flat_map(|group| {
        let whole = own(&group.whole, &Quotas::default()).then(|| (group.name.clone(), &group.whole));
        let each =
            own(&group.per_client, per_client).then(|| (format!("a client of {}", group.name), &group.per_client));
        [whole, each]
    });
    let of_services = services
        .iter()
        .map(|service| own(&service.whole, &Quotas::default()).then(|| (service.name.clone(), &service.whole)));
    let rows: Vec<_> = of_groups.chain(of_services).flatten().collect();
    for (whose, quotas) in rows.iter().take(ROWS) {
        row("", whose.clone(), quotas);
    }
    if rows.len() > ROWS {
        screen.rest("limits", rows.len());
    }
}

fn services(config: &Config, screen: &mut Screen) {
    let groups = config.policy.groups().count();
    let services: Vec<_> = config.policy.services().collect();
    for service in services.iter().take(ROWS) {
        screen.row("service", service_parts(service, groups));
    }
    screen.rest("services", services.len());
}

fn service_parts(service: &ServiceSummary<'_>, groups: usize) -> Vec<String> {
    let hosts = service.hosts.len();
    let ports = few(service.ports.iter().map(ToString::to_string), 6, "none");
    let mut parts = vec![
        format!("{}:", service.name),
        format!("{}{}", service.mode.as_str(), if service.plain_http { " and plain HTTP" } else { "" }),
        format!("{hosts} {}", if hosts == 1 { "host" } else { "hosts" }),
        format!("{} {ports}", if service.ports.len() == 1 { "port" } else { "ports" }),
    ];
    if service.groups.len() < groups {
        parts.push(format!("for {}", few(service.groups.iter().map(ToString::to_string), 4, "nobody")));
    }
    if !service.header_names.is_empty() {
        parts.push(format!("sets {}", few(service.header_names.iter().map(ToString::to_string), 4, "")));
    }
    parts
}

/// The site's own files, as they may change what a name of the catalogue means.
fn catalogue(config: &Config, screen: &mut Screen) {
    let OwnEntries { replacing, added } = &config.own_entries;
    let of = |what: &str, ids: &[String]| {
        (!ids.is_empty()).then(|| format!("{what}: {}", few(ids.iter().cloned(), ROWS, "")))
    };
    let parts = [of("own in place of the program's", replacing), of("own", added)];
    if parts.iter().any(Option::is_some) {
        screen.row("catalog", parts.into_iter().flatten());
    }
}

/// The registrations, those that want a decision first.
fn ismap(config: &Config, screen: &mut Screen) {
    let (site, today) = (&config.site, config.approvals.day);
    if let Some(demand) = site.require_ismap {
        let demand = match demand {
            Demand::Enforce => "require_ismap enforce",
            Demand::Warn => "require_ismap warn",
        };
        let liu = format!("accept_liu {}", site.accept_liu);
        screen.row("ismap", [demand.to_owned(), liu, format!("today is {today}")]);
    }
    let refused: Vec<_> = config.policy.services().filter(|service| !service.approved).map(|s| s.id).collect();
    let is_refused = |approval: &Approval| refused.contains(&approval.rule.as_str());
    let mut approvals: Vec<_> = config.approvals.services.iter().collect();
    approvals.sort_by_cached_key(|approval| {
        let Approval { registration, .. } = approval;
        (!is_refused(approval), registration.is_settled(), registration.days_left(today).unwrap_or(i64::MAX))
    });
    for approval in approvals.iter().take(ROWS) {
        let words = approval.registration.in_words(today).split(", ").map(str::to_owned).collect::<Vec<_>>();
        let refused = is_refused(approval).then(|| "refused".to_owned());
        screen.row("ismap", std::iter::once(format!("{}:", approval.service)).chain(words).chain(refused));
    }
    if approvals.len() > ROWS {
        screen.rest("registrations", approvals.len());
    }
}

fn upstream(config: &Config, screen: &mut Screen) {
    let trust = &config.trust;
    let roots = match &trust.roots {
        Roots::Bundled => "bundled roots".to_owned(),
        Roots::System => "the system's roots".to_owned(),
        Roots::File(path) => format!("roots of {}", path.display()),
    };
    let min_tls = match trust.min_tls {
        MinTls::Tls12 => "TLS 1.2 or later",
        MinTls::Tls13 => "TLS 1.3 or later",
    };
    let unknown = match trust.crl_unknown {
        Unknown::Allow => "issuer without CRL: allow",
        Unknown::Deny => "issuer without CRL: deny",
    };
    let stale = match trust.crl_stale {
        Stale::Deny => "stale CRL: deny",
        Stale::Allow => "stale CRL: allow",
    };
    screen.row(
        "trust",
        [
            roots,
            format!("extra root files: {}", trust.extra_roots.len()),
            format!("CRL files: {}", trust.crls.len()),
            unknown.to_owned(),
            stale.to_owned(),
            min_tls.to_owned(),
            format!("verdicts kept {}", show_duration(config.verify.cache)),
        ],
    );
    let servers = few(config.resolver.servers.iter().map(ToString::to_string), 4, "nobody");
    let named = match config.resolver.named_in {
        NamedIn::Configuration => servers,
        NamedIn::ResolvConf => format!("{servers} (resolv.conf)"),
    };
    screen.row("resolver", [named, format!("static names: {}", config.resolver.hosts.len())]);
    let exceptions = few(config.guard.allow.iter().map(ToString::to_string), 4, "none");
    let from = config.dial.bind.map(|address| format!("dials from {address}"));
    screen.row("guard", [format!("exceptions: {exceptions}")].into_iter().chain(from));
    if let Some(files) = &config.issuing_files {
        let next = files.next.as_ref().map(|next| format!("from {} on {}", next.from, next.certificate.display()));
        screen.row("issuing CA", [files.certificate.display().to_string()].into_iter().chain(next));
    }
}

fn memory(config: &Config) -> String {
    let ceiling = config.pressure.memory.octets().map_or_else(|| "unknown".to_owned(), shown);
    match config.pressure.memory {
        Ceiling::Octets(_) => format!("{ceiling} of memory"),
        Ceiling::OfMachine => format!("3/4 of the machine's memory ({ceiling} here)"),
    }
}

pub(super) fn timeouts(config: &Config) -> [(&'static str, std::time::Duration); 13] {
    [
        ("client_hello", config.identify.client_hello),
        ("request_head", config.identify.request_head),
        ("client_handshake", config.inspect.client_handshake),
        ("upstream_handshake", config.verify.handshake),
        ("dns", config.resolver.timeout),
        ("connect", config.dial.timeout),
        ("upstream_response", config.inspect.deadlines.response),
        ("body_progress", config.inspect.deadlines.progress),
        ("tunnel_idle", config.tunnel.idle),
        ("tunnel_half_closed", config.tunnel.half_closed),
        ("inspected_idle", config.inspect.deadlines.idle),
        ("connection_life", config.connection_life.unwrap_or_default()),
        ("drain", config.drain),
    ]
}

/// The first `shown` of `items`, and how many more.
fn few(items: impl Iterator<Item = String>, shown: usize, none: &str) -> String {
    let items: Vec<String> = items.collect();
    let head = items.get(..shown.min(items.len())).unwrap_or_default().join(", ");
    match items.len() {
        0 => none.to_owned(),
        n if n > shown => format!("{head} and {} more", n - shown),
        _ => head,
    }
}

/// Lines under way.
#[derive(Default)]
struct Screen {
    text: String,
}

impl Screen {
    /// A label and its parts, joined by commas, continued on the next line where the columns end.
    fn row(&mut self, label: &str, parts: impl IntoIterator<Item = String>) {
        let mut line = format!("{label:<INDENT$}");
        let mut used = INDENT;
        let mut parts = parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            let comma = if parts.peek().is_some() && !part.ends_with(':') { "," } else { "" };
            for word in format!("{part}{comma}").split(' ') {
                self.word(word, &mut line, &mut used);
            }
        }
        self.end(&line);
    }

    fn word(&mut self, word: &str, line: &mut String, used: &mut usize) {
        let mut room = width(word);
        if *used > INDENT && *used + 1 + room <= COLUMNS {
            line.push(' ');
            *used += 1;
        } else if *used > INDENT {
            self.end(line);
            *line = " ".repeat(INDENT);
            *used = INDENT;
        }
        let mut rest = word;
        while *used + room > COLUMNS {
            // A word longer than a line (a path, a name without spaces) is broken where the line ends.
            let mut cut = 0;
            for (at, c) in rest.char_indices() {
                if *used + width_of(c) > COLUMNS {
                    break;
                }
                *used += width_of(c);
                cut = at + c.len_utf8();
            }
            let (head, tail) = rest.split_at(cut);
            line.push_str(head);
            self.end(line);
            *line = " ".repeat(INDENT);
            (*used, rest, room) = (INDENT, tail, width(tail));
        }
        line.push_str(rest);
        *used += room;
    }

    fn rest(&mut self, what: &str, all: usize) {
        if all > ROWS {
            let _ = writeln!(self.text, "{:INDENT$}and {} more {what}", "", all - ROWS);
        } else if all == 0 {
            let _ = writeln!(self.text, "{what:<INDENT$}none");
        }
    }

    fn end(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}

fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// Columns of a character on a terminal, after Unicode's East Asian Width: W and F are two.
fn width_of(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_never_exceeds_the_columns() {
        let mut screen = Screen::default();
        screen.row("service", ["例示市の長い名前".repeat(9), "short".to_owned(), "x".repeat(200), "a b".repeat(40)]);
        assert!(screen.text.lines().count() > 5);
        for line in screen.text.lines() {
            assert!(width(line) <= COLUMNS, "{} {line}", width(line));
        }
        assert_eq!(screen.text.replace(['\n', ' '], "").matches('市').count(), 9);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        for (text, columns) in [("abc", 3), ("市", 2), ("ｱ", 1), ("Ａ", 2), ("…", 1), ("", 0), ("かな", 4)] {
            assert_eq!(width(text), columns, "{text}");
        }
    }
}
