//! What one configuration has otherwise than another, in words: of what they mean, not of their texts.
//!
//! What may not be here: values of headers and keys, of which only is said that they differ.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{Config, quotas_in_words, show_duration, summary};
use crate::admit;
use crate::pac;
use crate::policy::{Enforcement, HostPattern, Listed, ServiceSummary};

/// Hosts, networks and the like that are named one by one.
const NAMED: usize = 50;

/// A line each, the services first: `+` is added, `-` removed, `~` changed. Empty: both mean the same.
///
/// What follows from the files that they name (CRLs, the catalogue) is compared as it was when each was loaded.
pub fn difference(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = services(old, new);
    lines.extend(clients(old, new));
    lines.extend(limits(&old.limits, &new.limits));
    let (before, after) = (settings(old), settings(new));
    let changed = before.into_iter().zip(after).filter(|((_, old), (_, new))| old != new);
    lines.extend(changed.map(|((key, old), (_, new))| format!("~ {key}: {} -> {}", shown(&old), shown(&new))));
    lines.extend(unsaid(old, new));
    lines
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "none" } else { value }
}

fn services(old: &Config, new: &Config) -> Vec<String> {
    let of = |config: &'_ Config| -> BTreeMap<String, ServiceParts> {
        let headers: BTreeMap<_, _> =
            config.policy.inspecting().map(|(service, headers)| (service.name.to_owned(), headers.to_vec())).collect();
        let part = |service: ServiceSummary<'_>| {
            let headers = headers.get(service.name).cloned().unwrap_or_default();
            (service.name.to_owned(), ServiceParts::of(&service, headers))
        };
        config.policy.services().map(part).collect()
    };
    let (old, new) = (of(old), of(new));
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    let added = added.map(|(name, service)| format!("+ service {name:?}: {}", service.in_words()));
    let removed = old.iter().filter(|(name, _)| !new.contains_key(*name));
    let removed = removed.map(|(name, service)| format!("- service {name:?}: {}", service.in_words()));
    let changed = old.iter().filter_map(|(name, before)| {
        let parts = before.changes(new.get(name)?);
        (!parts.is_empty()).then(|| format!("~ service {name:?}: {}", parts.join("; ")))
    });
    added.chain(removed).chain(changed).collect()
}

/// What a service means.
struct ServiceParts {
    mode: &'static str,
    plain_http: bool,
    approved: bool,
    hosts: Vec<String>,
    ports: Vec<String>,
    groups: Vec<String>,
    header_names: Vec<String>,
    headers: Vec<crate::policy::SetHeader>,
}

impl ServiceParts {
    fn of(service: &ServiceSummary<'_>, headers: Vec<crate::policy::SetHeader>) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            mode: service.mode.as_str(),
            plain_http: service.plain_http,
            approved: service.approved,
            hosts: service.hosts.iter().map(|host: &Listed| host.pattern().to_string()).collect(),
            ports: service.ports.iter().map(ToString::to_string).collect(),
            groups: owned(&service.groups),
            header_names: owned(&service.header_names),
            headers,
        }
    }

    fn in_words(&self) -> String {
        let plain = if self.plain_http { " and plain HTTP" } else { "" };
        let refused = if self.approved { "" } else { ", refused as its registration is over" };
        let sets = match self.header_names.as_slice() {
            [] => String::new(),
            names => format!(", sets {}", few(names)),
        };
        format!(
            "{}{plain}, hosts {}, ports {}, for {}{sets}{refused}",
            self.mode,
            few(&self.hosts),
            few(&self.ports),
            few(&self.groups)
        )
    }

    fn changes(&self, new: &Self) -> Vec<String> {
        let mut parts = Vec::new();
        let mut turned = |what: &str, old: &str, new: &str| {
            if old != new {
                parts.push(format!("{what} {old} -> {new}"));
            }
        };
        let word = |flag: bool| if flag { "yes" } else { "no" };
        turned("mode", self.mode, new.mode);
        turned("plain HTTP", word(self.plain_http), word(new.plain_http));
        turned("approved", word(self.approved), word(new.approved));
        parts.extend(moved("hosts", &self.hosts, &new.hosts));
        parts.extend(moved("ports", &self.ports, &new.ports));
        parts.extend(moved("clients", &self.groups, &new.groups));
        parts.extend(moved("headers", &self.header_names, &new.header_names));
        let values: Vec<_> = self.headers.iter().filter(|header| !new.headers.contains(header)).collect();
        let kept = values.iter().filter(|header| new.header_names.contains(&header.name));
        let mut kept: Vec<_> = kept.map(|header| header.name.clone()).collect();
        kept.dedup();
        if !kept.is_empty() {
            parts.push(format!("another value of {}", few(&kept)));
        }
        parts
    }
}

fn clients(old: &Config, new: &Config) -> Vec<String> {
    let of = |config: &Config| -> BTreeMap<String, Vec<String>> {
        let networks = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect();
        config.policy.groups().map(|group| (group.name.to_owned(), networks(group.networks))).collect()
    };
    let (old, new) = (of(old), of(new));
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    let removed = old.iter().filter(|(name, _)| !new.contains_key(*name));
    let changed = old.iter().filter_map(|(name, before)| {
        let parts: Vec<_> = moved("networks", before, new.get(name)?).into_iter().collect();
        (!parts.is_empty()).then(|| format!("~ clients {name:?}: {}", parts.join("; ")))
    });
    let added = added.map(|(name, networks)| format!("+ clients {name:?}: {}", few(networks)));
    let removed = removed.map(|(name, networks)| format!("- clients {name:?}: {}", few(networks)));
    added.chain(removed).chain(changed).collect()
}

/// Of all, of a client, and of each group and service that is in both.
fn limits(old: &admit::Settings, new: &admit::Settings) -> Vec<String> {
    let of = |limits: &admit::Settings| -> BTreeMap<String, String> {
        let admit::Settings { all, per_client, groups, services, ipv6_prefix } = limits;
        let words = |quotas: &admit::Quotas| quotas_in_words(quotas).join(", ");
        let mut whose = BTreeMap::from([
            ("limits of all".to_owned(), words(all)),
            ("limits of a client".to_owned(), words(per_client)),
            ("limits.ipv6_prefix".to_owned(), ipv6_prefix.to_string()),
        ]);
        for group in groups {
            whose.insert(format!("limits of clients {:?}", group.name), words(&group.whole));
            whose.insert(format!("limits of a client of {:?}", group.name), words(&group.per_client));
        }
        whose.extend(services.iter().map(|of| (format!("limits of service {:?}", of.name), words(&of.whole))));
        whose
    };
    let (old, new) = (of(old), of(new));
    let changed = new.into_iter().filter_map(|(whose, after)| {
        let before = old.get(&whose)?;
        (*before != after).then(|| format!("~ {whose}: {} -> {}", shown(before), shown(&after)))
    });
    changed.collect()
}

/// Everything that is one value, always in the same order.
fn settings(config: &Config) -> Vec<(String, String)> {
    let address = |address: Option<crate::addrs::ListenAddr>| address.map_or_else(String::new, |a| a.to_string());
    let listeners =
        config.listeners.iter().map(|listener| format!("{} ({})", listener.address, listener.mode.as_str()));
    let case = config.site.case.map_or("", super::Case::as_str);
    let enforcement = match &config.site.enforcement {
        Enforcement::Enforce => "enforce".to_owned(),
        Enforcement::Observe(observe) => format!("OBSERVE until {}", observe.until),
    };
    let control = config.control.as_ref();
    let socket = control.map_or_else(String::new, |control| control.socket.display().to_string());
    let group = |group: Option<&crate::control::Group>| group.map_or_else(String::new, |group| group.name.clone());
    let hosts: BTreeMap<_, _> = config.resolver.hosts.iter().map(|(name, ips)| (name.to_string(), ips)).collect();
    let unwritable = match config.record.when_unwritable {
        crate::record::WhenUnwritable::Deny => "deny",
        crate::record::WhenUnwritable::Continue => "continue",
    };
    let issuing = config.issuing_files.as_ref();
    let rows = [
        ("site.name", config.site.name.clone()),
        ("site.case", case.to_owned()),
        ("site.enforcement", enforcement),
        ("site.require_ismap", config.site.require_ismap.map_or_else(String::new, debug)),
        ("site.accept_liu", config.site.accept_liu.to_string()),
        ("listeners", listeners.collect::<Vec<_>>().join(", ")),
        ("admin.address", address(config.admin)),
        ("control.socket", socket),
        ("control.viewers", group(control.and_then(|control| control.viewers.as_ref()))),
        ("control.operators", group(control.and_then(|control| control.operators.as_ref()))),
        ("pac.address", address(config.pac.as_ref().and_then(|pac| pac.address))),
        ("resolver.servers", config.resolver.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ("resolver.hosts", debug(hosts)),
        ("upstream.roots and CRLs", debug(&config.trust)),
        ("upstream.allow_addresses", join(&config.guard.allow)),
        ("upstream.nat64", join(&config.guard.nat64)),
        ("upstream.bind", config.dial.bind.map_or_else(String::new, |ip| ip.to_string())),
        ("upstream.verify_cache", show_duration(config.verify.cache)),
        ("issuing_ca.certificate", issuing.map_or_else(String::new, |files| files.certificate.display().to_string())),
        ("issuing_ca.key", issuing.map_or_else(String::new, |files| files.key.display().to_string())),
        ("limits.memory", debug(config.pressure.memory)),
        ("record.path", config.record.path.display().to_string()),
        ("record.when_unwritable", unwritable.to_owned()),
        ("catalog", debug(&config.catalog)),
        ("catalog: files of the site", debug(&config.own_entries)),
    ];
    let timeouts = summary::timeouts(config).map(|(name, span)| (format!("timeouts.{name}"), show_duration(span)));
    rows.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(timeouts).collect()
}

/// What differs and is too long to be shown.
fn unsaid(old: &Config, new: &Config) -> Vec<String> {
    let pac = |config: &Config| config.pac.clone().map(|pac| pac::Settings { address: None, ..pac });
    let patterns = |config: &Config| config.restricted.iter().map(HostPattern::to_string).collect::<Vec<_>>();
    let [(old_ends, old_issuing), (new_ends, new_issuing)] = [old, new].map(|config| {
        let issuing = config.issuing_files.as_ref().and_then(|files| std::fs::read(&files.certificate).ok());
        (config.policy.closed().to_vec(), issuing)
    });
    let rows = [
        (pac(old) != pac(new), "~ pac: what the script says"),
        (patterns(old) != patterns(new), "~ hosts for which a tenant restriction is known"),
        (old_ends != new_ends, "~ header fields that no client may send to an inspected host"),
        (old_issuing != new_issuing, "~ issuing_ca: another certificate"),
        (old.verify.trust.revision() != new.verify.trust.revision(), "~ upstream: what the roots and CRLs hold"),
        (old.approvals.services != new.approvals.services, "~ registrations of services (ismap)"),
    ];
    rows.into_iter().filter(|(differs, _)| *differs).map(|(_, line)| line.to_owned()).collect()
}

/// What came and what went; `None` where neither did.
fn moved(what: &str, old: &[String], new: &[String]) -> Option<String> {
    let missing = |from: &[String], among: &[String]| -> Vec<String> {
        let among: std::collections::HashSet<&String> = among.iter().collect();
        from.iter().filter(|item| !among.contains(item)).cloned().collect()
    };
    let (added, removed) = (missing(new, old), missing(old, new));
    let part = |sign: &str, items: &[String]| (!items.is_empty()).then(|| format!("{sign} {}", few(items)));
    let parts: Vec<_> = [part("+", &added), part("-", &removed)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{what} {}", parts.join(" ")))
}

fn few(items: &[String]) -> String {
    let named = items.get(..items.len().min(NAMED)).unwrap_or_default().join(", ");
    match items.len() {
        0 => "none".to_owned(),
        n if n > NAMED => format!("{named} and {} more", n - NAMED),
        _ => named,
    }
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn debug(value: impl Debug) -> String {
    format!("{value:?}")
}
