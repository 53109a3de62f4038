//! What one configuration has otherwise than another, in words: of what they mean, not of their texts.
//!
//! What may not be here: values of headers and keys, of which only is said that they differ.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Debug;
use std::path::PathBuf;

use super::units::show_size;
use super::{
    Balancers, Case, CatalogSettings, Config, IssuingFiles, Listener, OwnEntries, Site, quotas_shown, show_duration,
    summary,
};
use crate::addrs::ListenAddr;
use crate::files::{MAX_CERTIFICATES, regular};
use crate::policy::{Enforcement, HostPattern, Listed, ServiceSummary, SetHeader};
use crate::pressure::Ceiling;
use crate::upstream::resolve::NamedIn;
use crate::upstream::trust::{Roots, Sources};
use crate::upstream::{connect, resolve, vet};
use crate::{admit, control, pac, record};

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
    named("service", &of(old), &of(new), ServiceParts::in_words, ServiceParts::changes)
}

/// What has come, what has gone, and what has changed of the rest.
fn named<T>(
    what: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    in_words: impl Fn(&T) -> String,
    changes: impl Fn(&T, &T) -> Vec<String>,
) -> Vec<String> {
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    let added = added.map(|(name, item)| format!("+ {what} {name:?}: {}", in_words(item)));
    let removed = old.iter().filter(|(name, _)| !new.contains_key(*name));
    let removed = removed.map(|(name, item)| format!("- {what} {name:?}: {}", in_words(item)));
    let changed = old.iter().filter_map(|(name, before)| {
        let parts = changes(before, new.get(name)?);
        (!parts.is_empty()).then(|| format!("~ {what} {name:?}: {}", parts.join("; ")))
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
    headers: Vec<SetHeader>,
}

impl ServiceParts {
    fn of(service: &ServiceSummary<'_>, headers: Vec<SetHeader>) -> Self {
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
    let networks = |before: &Vec<String>, after: &Vec<String>| moved("networks", before, after).into_iter().collect();
    named("clients", &of(old), &of(new), |networks| few(networks), networks)
}

/// Of all, of a client, and of each group and service that has its own.
fn limits(old: &admit::Settings, new: &admit::Settings) -> Vec<String> {
    let of = |limits: &admit::Settings| -> BTreeMap<String, String> {
        let admit::Settings { all, per_client, groups, services, ipv6_prefix } = limits;
        let mut keys = BTreeMap::from([("limits.ipv6_prefix".to_owned(), ipv6_prefix.to_string())]);
        let mut add = |whose: String, quotas: &admit::Quotas| {
            keys.extend(quotas_shown(quotas).into_iter().map(|(key, value)| (format!("{whose} {key}"), value)));
        };
        add("limits".to_owned(), all);
        add("limits of a client:".to_owned(), per_client);
        for group in groups {
            add(format!("limits of clients {:?}:", group.name), &group.whole);
            if group.per_client != *per_client {
                add(format!("limits of a client of {:?}:", group.name), &group.per_client);
            }
        }
        for service in services {
            add(format!("limits of service {:?}:", service.name), &service.whole);
        }
        keys
    };
    let (old, new) = (of(old), of(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |of: &BTreeMap<String, String>, key: &String| of.get(key).map_or("none", |value| value).to_owned();
    let pairs = keys.into_iter().map(|key| (key, value(&old, key), value(&new, key)));
    pairs.filter(|(_, old, new)| old != new).map(|(key, old, new)| format!("~ {key}: {old} -> {new}")).collect()
}

/// Everything that is one value, always in the same order. A part of the configuration that is not named here does not compile: whoever
/// adds one says how a change of it is told.
fn settings(config: &Config) -> Vec<(String, String)> {
    let Config {
        site,
        listeners,
        balancers,
        admin,
        control,
        resolver,
        guard,
        dial,
        verify,
        issuing_files,
        pressure,
        record,
        catalog,
        pac,
        trust,
        own_entries,
        // Told by `services`, `clients`, `limits` and `unsaid`.
        policy: _,
        limits: _,
        restricted: _,
        approvals: _,
        // The timeouts, as `check` shows them.
        identify: _,
        tunnel: _,
        inspect: _,
        connection_life: _,
        drain: _,
        // What follows from the rest.
        crl_folders: _,
        revision: _,
        as_loaded: _,
        file: _,
        text_sha256: _,
        issuing: _,
        catalogue: _,
        warnings: _,
    } = config;
    let rows = [
        of_site(site),
        of_doors((listeners, balancers), *admin, control.as_ref(), pac.as_ref()),
        of_upstream(resolver, guard, dial, trust),
        of_files(issuing_files.as_ref(), record, catalog, own_entries),
    ];
    let memory = match pressure.memory {
        Ceiling::OfMachine => "3/4 of the machine's memory".to_owned(),
        Ceiling::Octets(octets) => show_size(octets),
    };
    let others = [("upstream.verify_cache", show_duration(verify.cache)), ("limits.memory", memory)];
    let timeouts = summary::timeouts(config).map(|(name, span)| (format!("timeouts.{name}"), show_duration(span)));
    let rows = rows.into_iter().flatten().chain(others).map(|(key, value)| (key.to_owned(), value));
    rows.chain(timeouts).collect()
}

type Rows = Vec<(&'static str, String)>;

fn of_site(site: &Site) -> Rows {
    let Site { name, case, enforcement, require_ismap, accept_liu } = site;
    let enforcement = match enforcement {
        Enforcement::Enforce => "enforce".to_owned(),
        Enforcement::Observe(observe) => format!("OBSERVE until {}", observe.until),
    };
    vec![
        ("site.name", name.clone()),
        ("site.case", case.map_or("", Case::as_str).to_owned()),
        ("site.enforcement", enforcement),
        ("site.require_ismap", require_ismap.map_or_else(String::new, debug)),
        ("site.accept_liu", accept_liu.to_string()),
    ]
}

fn of_doors(
    (listeners, balancers): (&[Listener], &Balancers),
    admin: Option<ListenAddr>,
    control: Option<&control::Settings>,
    pac: Option<&pac::Settings>,
) -> Rows {
    let believed = |listener: &Listener| match balancers.networks(listener.address) {
        [] => String::new(),
        networks => {
            format!(", proxy_protocol from {}", few(&networks.iter().map(ToString::to_string).collect::<Vec<_>>()))
        }
    };
    let shown =
        |listener: &Listener| format!("{} ({}{})", listener.address, listener.mode.as_str(), believed(listener));
    let listeners: Vec<_> = listeners.iter().map(shown).collect();
    let group = |group: Option<&control::Group>| group.map_or_else(String::new, |group| group.name.clone());
    vec![
        ("listeners", listeners.join(", ")),
        ("admin.address", or_none(admin)),
        ("control.socket", path(control.map(|control| &control.socket))),
        ("control.viewers", group(control.and_then(|control| control.viewers.as_ref()))),
        ("control.operators", group(control.and_then(|control| control.operators.as_ref()))),
        ("pac.address", or_none(pac.and_then(|pac| pac.address))),
    ]
}

fn of_upstream(resolver: &resolve::Settings, guard: &vet::Settings, dial: &connect::Settings, trust: &Sources) -> Rows {
    let mut hosts: Vec<_> = resolver.hosts.iter().map(|(name, ips)| format!("{name} = {}", join(ips))).collect();
    hosts.sort();
    let (servers, of_system) = (join(&resolver.servers), resolver.named_in == NamedIn::ResolvConf);
    let Sources { roots, extra_roots, crls, crl_unknown, crl_stale, min_tls } = trust;
    vec![
        ("resolver.servers", if of_system { format!("{servers} (resolv.conf)") } else { servers }),
        ("resolver.hosts", hosts.join(", ")),
        ("upstream.roots", of_roots(roots)),
        ("upstream.extra_roots", paths(extra_roots)),
        ("upstream.crls", paths(crls)),
        ("upstream.crl_unknown", debug(crl_unknown)),
        ("upstream.crl_stale", debug(crl_stale)),
        ("upstream.min_tls", debug(min_tls)),
        ("upstream.allow_addresses", join(&guard.allow)),
        ("upstream.nat64", join(&guard.nat64)),
        ("upstream.bind", or_none(dial.bind)),
    ]
}

fn of_files(
    issuing: Option<&IssuingFiles>,
    record: &record::Settings,
    catalog: &CatalogSettings,
    own: &OwnEntries,
) -> Rows {
    let unwritable = match record.when_unwritable {
        record::WhenUnwritable::Deny => "deny",
        record::WhenUnwritable::Continue => "continue",
    };
    let next = issuing.and_then(|files| files.next.as_ref());
    vec![
        ("issuing_ca.certificate", path(issuing.map(|files| &files.certificate))),
        ("issuing_ca.key", path(issuing.map(|files| &files.key))),
        ("issuing_ca.next.certificate", path(next.map(|next| &next.certificate))),
        ("issuing_ca.next.key", path(next.map(|next| &next.key))),
        ("issuing_ca.next.from", or_none(next.map(|next| next.from))),
        ("record.path", path(Some(&record.path))),
        ("record.when_unwritable", unwritable.to_owned()),
        ("catalog.folder", path(catalog.folder.as_ref())),
        ("catalog.feed", or_none(catalog.feed.as_ref())),
        ("catalog.auto_approve", catalog.auto_approve.iter().map(debug).collect::<Vec<_>>().join(", ")),
        ("catalog entries of the site", [&*own.replacing, &*own.added].concat().join(", ")),
    ]
}

/// What differs and is too long to be shown.
fn unsaid(old: &Config, new: &Config) -> Vec<String> {
    let pac = |config: &Config| config.pac.clone().map(|pac| pac::Settings { address: None, ..pac });
    let patterns = |config: &Config| config.restricted.iter().map(HostPattern::to_string).collect::<Vec<_>>();
    let [(old_ends, old_issuing), (new_ends, new_issuing)] = [old, new].map(|config| {
        let issuing =
            config.issuing_files.as_ref().and_then(|files| regular(&files.certificate, MAX_CERTIFICATES).ok());
        (config.policy.closed().to_vec(), issuing)
    });
    let rows = [
        (pac(old) != pac(new), "~ pac: what the script says"),
        (patterns(old) != patterns(new), "~ hosts for which a tenant restriction is known"),
        (old_ends != new_ends, "~ header fields that no client may send to an inspected host"),
        (old_issuing != new_issuing, "~ issuing_ca: another certificate"),
        // Where other files are named, the line that names them says enough.
        (
            old.trust == new.trust && old.verify.trust.revision() != new.verify.trust.revision(),
            "~ upstream: what the roots and CRLs hold",
        ),
        (old.approvals.services != new.approvals.services, "~ registrations of services (ismap)"),
    ];
    rows.into_iter().filter(|(differs, _)| *differs).map(|(_, line)| line.to_owned()).collect()
}

/// What came and what went; `None` where neither did.
fn moved(what: &str, old: &[String], new: &[String]) -> Option<String> {
    let missing = |from: &[String], among: &[String]| -> Vec<String> {
        let among: HashSet<&String> = among.iter().collect();
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

fn of_roots(roots: &Roots) -> String {
    match roots {
        Roots::File(file) => path(Some(file)),
        Roots::Bundled | Roots::System => debug(roots),
    }
}

fn path(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// The words of ours that have no other form than their names in the program.
fn debug(value: impl Debug) -> String {
    format!("{value:?}").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::{Scope, load};
    use super::*;

    const OLD: &str = "[site]\nname = \"A\"\n[[listener]]\naddress = \"127.0.0.1:8080\"\n\
        [[clients]]\nname = \"office\"\nnetworks = [\"10.0.0.0/8\"]\n[[clients]]\nname = \"lab\"\nnetworks = [\"172.16.0.0/12\"]\n\
        [[service]]\nname = \"kept\"\nhosts = [\"a.example.com\", \"b.example.com\"]\n\
        [[service]]\nname = \"gone\"\nhosts = [\"gone.example.com\"]\nplain_http = true\nports = [80]\nclients = [\"lab\"]\n\
        [[service]]\nname = \"seen\"\nhosts = [\"seen.example.com\"]\nmode = \"inspect\"\n[[service.header]]\nname = \"X-Org\"\n\
        value = \"secret-1\"\n\
        [issuing_ca]\ncertificate = \"ca.pem\"\nkey = \"ca.key\"\n";

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("sekisho.toml");
        std::fs::write(&file, text).expect("written");
        load(&file, Scope::WithoutIssuingCa, SystemTime::now()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The two directories differ, so paths are left out.
    fn lines(old: &str, new: &str) -> Vec<String> {
        let lines = difference(&config(old), &config(new));
        lines.into_iter().filter(|line| !["record.path", "issuing_ca."].iter().any(|key| line.contains(key))).collect()
    }

    #[test]
    fn what_means_the_same_is_no_difference() {
        assert_eq!(lines(OLD, &format!("# more\n{OLD}\n\n# and more\n")), Vec::<String>::new());
        let reordered = OLD.replace("[\"a.example.com\", \"b.example.com\"]", "[\"B.example.com\", \"a.example.com\"]");
        assert_eq!(lines(OLD, &reordered), Vec::<String>::new());
    }

    #[test]
    fn every_change_is_a_line_in_words() {
        for (from, to, expected) in [
            (
                "hosts = [\"a.example.com\", \"b.example.com\"]",
                "hosts = [\"b.example.com\", \"*.c.example.com\"]\nports = [443, 8443]\nclients = [\"office\"]",
                "~ service \"kept\": hosts + *.c.example.com - a.example.com; ports + 8443; clients - lab",
            ),
            (
                "\"b.example.com\"]\n",
                "\"b.example.com\"]\n[service.limits]\nconnections = 5\n",
                "~ limits of service \"kept\": connections: none -> 5",
            ),
            ("\"secret-1\"", "\"secret-2\"", "~ service \"seen\": another value of X-Org"),
            (
                "\n[[service.header]]\nname = \"X-Org\"\nvalue = \"secret-1\"\n",
                "\n[[service.header]]\nname = \"X-Group\"\nvalue = \"secret-1\"\n",
                "~ service \"seen\": headers + X-Group - X-Org",
            ),
            ("[\"10.0.0.0/8\"]", "[\"10.0.0.0/9\"]", "~ clients \"office\": networks + 10.0.0.0/9 - 10.0.0.0/8"),
            ("127.0.0.1:8080", "127.0.0.1:8081", "~ listeners: 127.0.0.1:8080 (explicit) -> 127.0.0.1:8081 (explicit)"),
            ("[site]", "[admin]\naddress = \"127.0.0.1:9090\"\n[site]", "~ admin.address: none -> 127.0.0.1:9090"),
            ("[site]", "[timeouts]\ndns = \"2s\"\n[site]", "~ timeouts.dns: 5s -> 2s"),
            ("[site]", "[limits]\nmemory = \"1GB\"\n[site]", "~ limits.memory: 3/4 of the machine's memory -> 1GB"),
            ("[site]", "[upstream]\nmin_tls = \"1.3\"\n[site]", "~ upstream.min_tls: tls12 -> tls13"),
            (
                "[site]",
                "[control]\nsocket = \"/run/s\"\nviewers = \"4242\"\n[site]",
                "~ control.socket: none -> /run/s\n~ control.viewers: none -> 4242",
            ),
            (
                "[site]",
                "[record]\nwhen_unwritable = \"continue\"\n[site]",
                "~ record.when_unwritable: deny -> continue",
            ),
        ] {
            assert!(OLD.contains(from), "{from}");
            let found = lines(OLD, &OLD.replacen(from, to, 1));
            let found: Vec<_> = found.iter().filter(|line| !line.starts_with("~ header fields")).cloned().collect();
            assert_eq!(found.join("\n"), expected);
        }
    }

    #[test]
    fn a_path_is_shown_as_it_is() {
        assert_eq!(of_roots(&Roots::File("/etc/sekisho/Own.pem".into())), "/etc/sekisho/Own.pem");
        assert_eq!([Roots::Bundled, Roots::System].map(|roots| of_roots(&roots)), ["bundled", "system"]);
    }

    #[test]
    fn what_comes_and_goes_says_what_it_is() {
        let new = OLD.replace(
            "name = \"gone\"\nhosts = [\"gone.example.com\"]",
            "name = \"new\"\nhosts = [\"new.example.com\"]",
        );
        assert_eq!(
            lines(OLD, &new),
            [
                "+ service \"new\": tunnel and plain HTTP, hosts new.example.com, ports 80, for lab",
                "- service \"gone\": tunnel and plain HTTP, hosts gone.example.com, ports 80, for lab",
            ]
        );
        let new = OLD.replace("\"lab\"", "\"laboratory\"");
        let found = lines(OLD, &new);
        assert!(found.contains(&"+ clients \"laboratory\": 172.16.0.0/12".to_owned()), "{found:?}");
        assert!(found.contains(&"- clients \"lab\": 172.16.0.0/12".to_owned()), "{found:?}");
        assert!(!found.iter().any(|line| line.contains("secret")), "{found:?}");
    }

    #[test]
    fn a_list_without_end_is_cut_and_counted() {
        let hosts = (0..60).map(|n| format!("\"h{n}.example.com\"")).collect::<Vec<_>>().join(", ");
        let found = lines(OLD, &OLD.replace("\"gone.example.com\"", &hosts));
        assert!(found[0].ends_with("h49.example.com and 10 more - gone.example.com"), "{found:?}");
    }
}
