//! `[limits]`, and the limits of one `[[clients]]` or `[[service]]`: all of the same keys, read by the same code; and how `check`
//! and `explain` show them.
//!
//! The defaults of one client let an office of 500 browsers behind one address (NAT) work, and stop one program that does nothing
//! but open: at 9 o'clock such an office opens some 100 connections a second, of which each has its handshakes behind it in a
//! fifth of a second and most find their name looked up and their leaf made.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;

use super::problem::{At, Problems};
use super::reader::Table;
use super::schema;
use super::units::show_size;
use crate::admit::{GroupQuotas, Quotas, Rate, ServiceQuotas, Settings};

const MANY: RangeInclusive<u64> = 1..=1_000_000;
const OCTETS: RangeInclusive<u64> = 1_000..=100_000_000_000;

/// Of all clients together.
const CONNECTIONS: u32 = 20_000;
/// Of one client.
const CONNECTIONS_OF_CLIENT: u32 = 512;
const NEW_CONNECTIONS: u32 = 100;
const BURST: u32 = 200;
const REQUESTS: u32 = 500;
/// At least; no fewer than the burst.
const HANDSHAKES: u32 = 256;
/// New inspected names, which are few: a service's hosts are the same for all of an office.
const LEAF_MINTS: u32 = 50;
/// A quarter of all the look-ups that are made at a time, so that it takes four such clients to keep the others waiting.
const DNS_LOOKUPS: u32 = 128;

/// The limits of one `[[clients]]`.
#[derive(Default)]
pub(super) struct OfGroup {
    pub whole: Quotas,
    pub per_client: Quotas,
}

/// `[limits]`, without the groups and services.
pub(super) fn limits<'t>(root: &Table<'t>, problems: &mut Problems<'_>) -> Settings {
    let table = root.table("limits", Some(&schema::LIMITS), problems);
    let defaults = Quotas { connections: Some(CONNECTIONS), ..Quotas::default() };
    let all = quotas(&table, &defaults, None, problems);
    let most = all.connections.unwrap_or(CONNECTIONS);
    let inner = table.table("per_client", Some(&schema::PER_CLIENT), problems);
    let mut per_client = quotas(&inner, &of_client(most), Some(most), problems);
    if let (false, Some(rate)) = (inner.has("handshakes"), per_client.new_connections) {
        // Whoever may come at once may be greeted at once.
        per_client.handshakes = Some(HANDSHAKES.max(rate.burst.get()));
    }
    let ipv6_prefix = table.integer("ipv6_prefix", &(32..=128), "a number of bits", problems).map(|(bits, _)| bits);
    let ipv6_prefix = ipv6_prefix.and_then(|bits| u8::try_from(bits).ok()).unwrap_or(64);
    Settings { all, per_client, groups: Vec::new(), services: Vec::new(), ipv6_prefix }
}

fn of_client(most: u32) -> Quotas {
    let rate = |per_second, burst| Some(Rate { per_second: positive(per_second), burst: positive(burst) });
    Quotas {
        connections: Some(most.min(CONNECTIONS_OF_CLIENT)),
        new_connections: rate(NEW_CONNECTIONS, BURST),
        requests: rate(REQUESTS, REQUESTS),
        upload: None,
        download: None,
        handshakes: Some(HANDSHAKES),
        leaf_mints: rate(LEAF_MINTS, LEAF_MINTS),
        dns_lookups: Some(DNS_LOOKUPS),
    }
}

/// `[clients.limits]`. What its `per_client` does not say is as in `[limits.per_client]`.
pub(super) fn of_group<'t>(clients: &Table<'t>, limits: &Settings, problems: &mut Problems<'_>) -> OfGroup {
    let table = clients.table("limits", Some(&schema::CLIENTS_LIMITS), problems);
    let whole = quotas(&table, &Quotas::default(), limits.all.connections, problems);
    let inner = table.table("per_client", Some(&schema::CLIENTS_PER_CLIENT), problems);
    let per_client = quotas(&inner, &limits.per_client, limits.all.connections, problems);
    OfGroup { whole, per_client }
}

/// `[service.limits]`.
pub(super) fn of_service<'t>(service: &Table<'t>, limits: &Settings, problems: &mut Problems<'_>) -> Quotas {
    let table = service.table("limits", Some(&schema::SERVICE_LIMITS), problems);
    quotas(&table, &Quotas::default(), limits.all.connections, problems)
}

/// The limits that stand in `table`; what does not is as in `defaults`. `most` are the connections of all together.
fn quotas<'t>(table: &Table<'t>, defaults: &Quotas, most: Option<u32>, problems: &mut Problems<'_>) -> Quotas {
    let mut number = |name: &str| {
        let (number, at) = table.integer(name, &MANY, "a number", problems)?;
        Some((u32::try_from(number).unwrap_or(u32::MAX), at))
    };
    let connections = number("connections");
    let (new_connections, burst) = (number("new_connections_per_second"), number("burst"));
    let (requests, mints) = (number("requests_per_second"), number("leaf_mints_per_second"));
    let (handshakes, dns_lookups) = (number("handshakes"), number("dns_lookups"));
    if let (Some((number, at)), Some(most)) = (&connections, most)
        && *number > most
    {
        problems.error(at, number.to_string(), format!("at most limits.connections, which is {most}"));
    }
    let new_connections = rate_of_new(table, new_connections, burst, defaults, problems);
    let count = |read: Option<(u32, At)>, default| read.map_or(default, |(number, _)| Some(number));
    let steady = |read: Option<(u32, At)>, default| {
        read.map_or(default, |(number, _)| Some(Rate { per_second: positive(number), burst: positive(number) }))
    };
    let mut octets = |name: &str| table.size(name, &OCTETS, problems).and_then(NonZeroU64::new);
    let (upload, download) = (octets("upload"), octets("download"));
    Quotas {
        connections: count(connections, defaults.connections),
        new_connections,
        requests: steady(requests, defaults.requests),
        upload: upload.or(defaults.upload),
        download: download.or(defaults.download),
        handshakes: count(handshakes, defaults.handshakes),
        leaf_mints: steady(mints, defaults.leaf_mints),
        dns_lookups: count(dns_lookups, defaults.dns_lookups),
    }
}

/// `new_connections_per_second` with its `burst`, which without a default is two seconds' worth.
fn rate_of_new(
    table: &Table<'_>,
    rate: Option<(u32, At)>,
    burst: Option<(u32, At)>,
    defaults: &Quotas,
    problems: &mut Problems<'_>,
) -> Option<Rate> {
    let default = defaults.new_connections;
    let Some(per_second) = rate.map(|(rate, _)| rate).or(default.map(|rate| rate.per_second.get())) else {
        if let (Some((burst, at)), false) = (burst, table.has("new_connections_per_second")) {
            problems.error(&at, burst.to_string(), "new_connections_per_second beside it, of which this is the burst");
        }
        return None;
    };
    let burst = match burst {
        Some((burst, at)) => {
            if burst < per_second {
                let expected =
                    format!("at least new_connections_per_second, which is {per_second}: fewer come through at once");
                problems.warning(&at, burst.to_string(), expected);
            }
            burst
        }
        None => default.map_or(per_second.saturating_mul(2), |rate| rate.burst.get().max(per_second)),
    };
    Some(Rate { per_second: positive(per_second), burst: positive(burst) })
}

fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// With the groups and services, which were read before it.
pub(super) fn with(
    limits: Settings,
    groups: impl Iterator<Item = (String, OfGroup)>,
    services: impl Iterator<Item = (String, Quotas)>,
) -> Settings {
    let groups = groups.map(|(name, OfGroup { whole, per_client })| GroupQuotas { name, whole, per_client });
    let services = services.map(|(name, whole)| ServiceQuotas { name, whole });
    Settings { groups: groups.collect(), services: services.collect(), ..limits }
}

/// The limits there are, for a reader.
pub fn quotas_in_words(quotas: &Quotas) -> Vec<String> {
    let Quotas { connections, new_connections, requests, upload, download, handshakes, leaf_mints, dns_lookups } =
        quotas;
    let count = |number: &Option<u32>, what: &str| number.map(|number| format!("{number} {what}"));
    let rate = |rate: &Option<Rate>, what: &str| rate.map(|rate| format!("{} {what}/s", rate.per_second));
    let octets = |octets: &Option<NonZeroU64>, what: &str| octets.map(|n| format!("{what} {}/s", show_size(n.get())));
    let all = [
        count(connections, "connections"),
        new_connections.map(|rate| format!("{} new/s (burst {})", rate.per_second, rate.burst)),
        rate(requests, "requests"),
        octets(upload, "upload"),
        octets(download, "download"),
        count(handshakes, "handshakes"),
        rate(leaf_mints, "leaf mints"),
        count(dns_lookups, "look-ups"),
    ];
    all.into_iter().flatten().collect()
}

/// The limits there are, each with its key.
pub fn quotas_shown(quotas: &Quotas) -> Vec<(&'static str, String)> {
    let Quotas { connections, new_connections, requests, upload, download, handshakes, leaf_mints, dns_lookups } =
        quotas;
    let rate = |rate: &Option<Rate>| rate.map(|rate| rate.per_second.to_string());
    let octets = |octets: &Option<NonZeroU64>| octets.map(|octets| show_size(octets.get()));
    let all = [
        ("connections", connections.map(|number| number.to_string())),
        ("new_connections_per_second", rate(new_connections)),
        ("burst", new_connections.map(|rate| rate.burst.to_string())),
        ("requests_per_second", rate(requests)),
        ("upload", octets(upload)),
        ("download", octets(download)),
        ("handshakes", handshakes.map(|number| number.to_string())),
        ("leaf_mints_per_second", rate(leaf_mints)),
        ("dns_lookups", dns_lookups.map(|number| number.to_string())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}
