//! The sections that become one phase's settings each: resolver, upstream, timeouts, record.
//!
//! Every default of the configuration's sample stands here. No file is opened here (`files`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::problem::{At, Problems, quoted};
use super::reader::{Table, Text};
use super::schema;
use super::units::{self, NetworkError};
use crate::exchange::patience::Deadlines;
use crate::names::DnsName;
use crate::pressure::{self, Ceiling};
use crate::record::{self, WhenUnwritable};
use crate::upstream::trust::{MinTls, Roots, Stale, Unknown};
use crate::upstream::{connect, resolve, vet};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Less than the least is taken before the first connection.
const MEMORY: RangeInclusive<u64> = 64_000_000..=16_000_000_000_000;

/// How long each phase may take.
#[derive(Debug)]
pub(super) struct Timeouts {
    pub client_hello: Duration,
    pub client_handshake: Duration,
    pub upstream_handshake: Duration,
    pub dns: Duration,
    pub request_head: Duration,
    pub tunnel_idle: Duration,
    pub tunnel_half_closed: Duration,
    pub exchange: Deadlines,
    pub connection_life: Option<Duration>,
    pub drain: Duration,
}

/// `[upstream]` before its files are read.
#[derive(Debug)]
pub(super) struct Upstream<'t> {
    pub at: At,
    pub roots: Roots,
    pub roots_at: At,
    pub extra_roots: Vec<(PathBuf, At)>,
    /// Globs not yet expanded.
    pub crls: Vec<Text<'t>>,
    pub crl_unknown: Unknown,
    pub crl_stale: Stale,
    pub min_tls: MinTls,
    pub verify_cache: Duration,
    pub guard: vet::Settings,
    pub dial: connect::Settings,
}

pub(super) fn timeouts<'t>(root: &Table<'t>, problems: &mut Problems<'_>) -> Timeouts {
    let table = root.table("timeouts", Some(&schema::TIMEOUTS), problems);
    let life = table.duration("connection_life", &(Duration::ZERO..=30 * 24 * HOUR), problems);
    let mut read = |name: &str, ceiling: Duration, default: Duration| {
        table.duration(name, &(MILLISECOND..=ceiling), problems).unwrap_or(default)
    };
    let seconds = Duration::from_secs;
    Timeouts {
        client_hello: read("client_hello", 2 * MINUTE, seconds(10)),
        client_handshake: read("client_handshake", 2 * MINUTE, seconds(10)),
        upstream_handshake: read("upstream_handshake", 2 * MINUTE, seconds(10)),
        dns: read("dns", MINUTE, seconds(5)),
        request_head: read("request_head", 5 * MINUTE, seconds(15)),
        tunnel_idle: read("tunnel_idle", 24 * HOUR, HOUR),
        tunnel_half_closed: read("tunnel_half_closed", HOUR, MINUTE),
        exchange: Deadlines {
            idle: read("inspected_idle", HOUR, 2 * MINUTE),
            response: read("upstream_response", HOUR, 2 * MINUTE),
            progress: read("body_progress", HOUR, MINUTE),
        },
        connection_life: life.filter(|life| !life.is_zero()),
        drain: read("drain", HOUR, seconds(30)),
    }
}

pub(super) fn resolver<'t>(root: &Table<'t>, timeout: Duration, problems: &mut Problems<'_>) -> resolve::Settings {
    let table = root.table("resolver", Some(&schema::RESOLVER), problems);
    let mut servers = Vec::new();
    for text in table.texts("servers", problems).unwrap_or_default() {
        match units::socket_or_port(text.text, 53) {
            Some(server) if server.port() != 0 && !server.ip().is_unspecified() => servers.push(server),
            _ => {
                let expected =
                    "a name server's address, with a port where it is not 53: \"10.0.0.53\" or \"[2001:db8::53]:5353\"";
                problems.error(&text.at, quoted(text.text), expected);
            }
        }
    }
    let mut hosts: HashMap<DnsName, Vec<IpAddr>> = HashMap::new();
    let free = table.table("hosts", None, problems);
    for (name, texts) in free.free_lists(problems) {
        let addresses = texts.iter().filter_map(|text| address(text, problems)).collect();
        if free.is_empty_list(name.text) {
            problems.error(&name.at, "no address", "at least one IP address");
        }
        match DnsName::parse_unicode(name.text) {
            Ok(host) => {
                if hosts.insert(host, addresses).is_some() {
                    problems.error(&name.at, "the same name a second time", "each name once, whatever its letter case");
                }
            }
            Err(error) => {
                problems.error(&name.at, format!("{} ({error})", quoted(name.text)), "a host name");
            }
        }
    }
    let named_in = if servers.is_empty() { resolve::NamedIn::ResolvConf } else { resolve::NamedIn::Configuration };
    resolve::Settings { servers, named_in, hosts, timeout }
}

pub(super) fn upstream<'t>(root: &Table<'t>, base: &Path, problems: &mut Problems<'_>) -> Upstream<'t> {
    let table = root.table("upstream", Some(&schema::UPSTREAM), problems);
    let (roots, roots_at) = roots(&table, base, problems);
    let extra = table.texts("extra_roots", problems).unwrap_or_default();
    let extra_roots = extra.into_iter().filter_map(|text| Some((file(&text, base, problems)?, text.at))).collect();
    let mut crls = table.texts("crls", problems).unwrap_or_default();
    crls.retain(|text| file(text, base, problems).is_some());
    let unknown = [("allow", Unknown::Allow), ("deny", Unknown::Deny)];
    let stale = [("deny", Stale::Deny), ("allow", Stale::Allow)];
    let tls = [("1.2", MinTls::Tls12), ("1.3", MinTls::Tls13)];
    Upstream {
        roots,
        roots_at,
        extra_roots,
        crls,
        crl_unknown: table.choice("crl_unknown", &unknown, problems).unwrap_or(Unknown::Allow),
        crl_stale: table.choice("crl_stale", &stale, problems).unwrap_or(Stale::Deny),
        min_tls: table.choice("min_tls", &tls, problems).unwrap_or(MinTls::Tls12),
        verify_cache: table.duration("verify_cache", &(Duration::ZERO..=24 * HOUR), problems).unwrap_or(10 * MINUTE),
        guard: guard(&table, problems),
        dial: dial(&table, problems),
        at: table.at,
    }
}

fn roots<'t>(table: &Table<'t>, base: &Path, problems: &mut Problems<'_>) -> (Roots, At) {
    let Some(text) = table.text("roots", problems) else { return (Roots::Bundled, table.at.clone()) };
    let roots = match text.text {
        "bundled" => Roots::Bundled,
        "system" => Roots::System,
        _ => file(&text, base, problems).map_or(Roots::Bundled, Roots::File),
    };
    (roots, text.at)
}

fn guard<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> vet::Settings {
    let mut allow = Vec::new();
    for text in table.texts("allow_addresses", problems).unwrap_or_default() {
        allow.extend(network(&text, problems).map(|net| (net, text.at)));
    }
    for (found, at) in units::everybody(&allow) {
        let expected = "only the networks that a permitted name may really lead to";
        problems.warning(at, format!("{found}, which switches the address guard off"), expected);
    }
    let allow = allow.into_iter().map(|(net, _)| net).collect();
    let mut nat64 = Vec::new();
    for text in table.texts("nat64", problems).unwrap_or_default() {
        match network(&text, problems) {
            Some(IpNet::V6(prefix)) if prefix.prefix_len() == 96 => nat64.push(prefix),
            Some(_) => {
                problems.error(&text.at, quoted(text.text), "an IPv6 prefix of 96 bits, such as \"2001:db8:64::/96\"");
            }
            None => {}
        }
    }
    vet::Settings { allow, nat64, stand_in: None }
}

fn dial<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> connect::Settings {
    let bind = table.text("bind", problems).and_then(|text| {
        let ip = address(&text, problems)?;
        if ip.is_unspecified() || ip.is_multicast() {
            problems.error(&text.at, quoted(text.text), "the address of this machine that faces the breakout line");
            return None;
        }
        Some(ip)
    });
    let timeout =
        table.duration("connect_timeout", &(MILLISECOND..=MINUTE), problems).unwrap_or(Duration::from_secs(5));
    connect::Settings { bind, timeout }
}

pub(super) fn pressure<'t>(root: &Table<'t>, problems: &mut Problems<'_>) -> pressure::Settings {
    // Its keys are judged where the limits are read.
    let table = root.table("limits", None, problems);
    pressure::Settings { memory: table.size("memory", &MEMORY, problems).map_or(Ceiling::OfMachine, Ceiling::Octets) }
}

pub(super) fn record<'t>(root: &Table<'t>, base: &Path, problems: &mut Problems<'_>) -> record::Settings {
    let table = root.table("record", Some(&schema::RECORD), problems);
    let path = table.text("path", problems).and_then(|text| file(&text, base, problems));
    let words = [("deny", WhenUnwritable::Deny), ("continue", WhenUnwritable::Continue)];
    let when_unwritable = table.choice("when_unwritable", &words, problems).unwrap_or(WhenUnwritable::Deny);
    record::Settings { path: path.unwrap_or_else(|| base.join("access.jsonl")), when_unwritable }
}

/// A CIDR block; what is wrong with it is said with its corrected form.
pub(super) fn network(text: &Text<'_>, problems: &mut Problems<'_>) -> Option<IpNet> {
    let (found, fixed) = match units::network(text.text) {
        Ok(net) => return Some(net),
        Err(NetworkError::HostBits(net)) => {
            (format!("{}, an address inside its network", quoted(text.text)), Some(net))
        }
        Err(NetworkError::NoPrefix(net)) => (format!("{} without a prefix length", quoted(text.text)), Some(net)),
        Err(NetworkError::Form) => (quoted(text.text), None),
    };
    let problem = problems.error(&text.at, found, "a network such as \"10.20.0.0/16\" or \"fd00:20::/48\"");
    if let Some(net) = fixed {
        problem.hint(format!("write \"{net}\""));
    }
    None
}

fn address(text: &Text<'_>, problems: &mut Problems<'_>) -> Option<IpAddr> {
    let ip = text.text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    if ip.is_none() {
        problems.error(&text.at, quoted(text.text), "an IP address");
    }
    ip
}

/// A path, relative to the configuration's directory.
pub(super) fn file(text: &Text<'_>, base: &Path, problems: &mut Problems<'_>) -> Option<PathBuf> {
    if text.text.is_empty() || text.text.contains('\0') {
        problems.error(&text.at, quoted(text.text), "a file, relative to this one or absolute");
        return None;
    }
    Some(base.join(text.text))
}
