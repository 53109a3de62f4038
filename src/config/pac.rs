//! `[pac]`: the script for browsers.

use ipnet::{IpNet, Ipv4Net};

use super::lower::{address, collide};
use super::problem::{At, Problems, quoted};
use super::reader::{Table, Text};
use super::service::Service;
use super::{schema, settings, units};
use crate::addrs::ListenAddr;
use crate::names::{Authority, DnsName};
use crate::pac::{Network, Otherwise, Settings};
use crate::policy::{Breadth, HostPattern, is_top_level};

/// Where something else of ours listens, what it is, and where that stands.
pub(super) type Taken = (ListenAddr, &'static str, At);

/// `None` where there is no `[pac]`, or an error.
pub(super) fn pac<'t>(
    root: &Table<'t>,
    services: &[Service],
    taken: &[Taken],
    problems: &mut Problems<'_>,
) -> Option<Settings> {
    const WAYS: [(&str, Otherwise); 4] = [
        ("proxy", Otherwise::Proxy),
        ("internal", Otherwise::Internal),
        ("block", Otherwise::Block),
        ("direct", Otherwise::Direct),
    ];
    let table = root.table("pac", Some(&schema::PAC), problems);
    if !table.is_present() {
        return None;
    }
    let address = listener(&table, taken, problems);
    let proxies = own_proxies(&table, problems);
    let networks = networks(&table, problems);
    let domains = table.texts("internal_domains", problems).unwrap_or_default();
    let texts = table.texts("internal_proxies", problems).unwrap_or_default();
    let internal_proxies = self::proxies(&texts, problems);
    let internal_networks = internal_networks(&table, problems);
    let internal_plain_names = table.flag("internal_plain_names", problems).unwrap_or(false);
    let otherwise = table.choice("otherwise", &WAYS, problems).unwrap_or(Otherwise::Proxy);
    let direct_fallback = table.flag("direct_fallback", problems).unwrap_or(false);
    warn_of_ways_past(&table, otherwise, texts.is_empty(), direct_fallback, problems);
    let internal_domains = domains.iter().filter_map(|text| domain(text, services, problems)).collect();
    let settings = Settings {
        address,
        proxies: proxies?,
        networks,
        internal_domains,
        internal_networks,
        internal_plain_names,
        internal_proxies: internal_proxies?,
        otherwise,
        direct_fallback,
    };
    (!settings.proxies.is_empty()).then_some(settings)
}

fn warn_of_ways_past(
    table: &Table<'_>,
    otherwise: Otherwise,
    no_internal_proxies: bool,
    direct_fallback: bool,
    problems: &mut Problems<'_>,
) {
    if otherwise == Otherwise::Internal && no_internal_proxies {
        let expected =
            "internal_proxies, or \"proxy\" or \"block\": the way inside is DIRECT without them, past everything";
        problems.warning(&table.place("otherwise"), "otherwise = \"internal\" without internal_proxies", expected);
    }
    if otherwise == Otherwise::Direct {
        let expected =
            "\"proxy\", \"internal\" or \"block\": only a firewall keeps what is not permitted from going straight out";
        problems.warning(&table.place("otherwise"), "otherwise = \"direct\"", expected);
    }
    if direct_fallback {
        let expected = "false: with a proxy that is dead, browsers go past it, unless a firewall stops them";
        problems.warning(&table.place("direct_fallback"), "direct_fallback = true", expected);
    }
}

/// Where the script is served, if anywhere: an address and port that nothing else of ours has.
fn listener(table: &Table<'_>, taken: &[Taken], problems: &mut Problems<'_>) -> Option<ListenAddr> {
    if !table.has("address") {
        return None;
    }
    let (address, at) = address(table, problems)?;
    if let Some((other, what, first)) = taken.iter().find(|(other, ..)| collide(*other, address)) {
        let line = problems.line(first.offset);
        let found = format!("\"{address}\", which collides with the {what} \"{other}\" (line {line})");
        problems.error(&at, found, "an address and port that nothing else of sekisho has");
    }
    Some(address)
}

fn own_proxies(table: &Table<'_>, problems: &mut Problems<'_>) -> Option<Vec<Authority>> {
    let expected = "this proxy as browsers reach it, such as [\"proxy.city.example.jp:8080\"]";
    let texts = table.required_texts("proxies", expected, problems);
    if table.is_empty_list("proxies") {
        problems.error(&table.place("proxies"), "an empty list", "at least one proxy with its port");
    }
    proxies(&texts, problems)
}

/// The clients with proxies of their own. Each network stands once.
fn networks(table: &Table<'_>, problems: &mut Problems<'_>) -> Vec<Network> {
    let mut seen: Vec<(IpNet, At)> = Vec::new();
    let mut networks = Vec::new();
    for table in table.tables("network", &schema::PAC_NETWORK, problems) {
        let texts = table.required_texts("networks", "whose they are, such as [\"10.20.8.0/24\"]", problems);
        if table.is_empty_list("networks") {
            problems.error(&table.place("networks"), "an empty list", "at least one network");
        }
        let mut nets = Vec::with_capacity(texts.len());
        for text in &texts {
            let Some(net) = settings::network(text, problems) else { continue };
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == net) {
                let found = format!("{}, which stands in line {} too", quoted(text.text), problems.line(first.offset));
                problems.error(&text.at, found, "each network in one [[pac.network]]");
            }
            seen.push((net, text.at.clone()));
            nets.push(net);
        }
        if let Some(proxies) = own_proxies(&table, problems) {
            networks.push(Network { networks: nets, proxies });
        }
    }
    networks
}

fn internal_networks(table: &Table<'_>, problems: &mut Problems<'_>) -> Vec<Ipv4Net> {
    let texts = table.texts("internal_networks", problems).unwrap_or_default();
    let nets: Vec<_> = texts.iter().filter_map(|text| Some((internal(text, problems)?, &text.at))).collect();
    let each: Vec<_> = nets.iter().map(|(net, at)| (IpNet::V4(*net), *at)).collect();
    for (found, at) in units::everybody(&each) {
        problems.error(at, found, "networks of your own: addresses in them go past this proxy");
    }
    nets.into_iter().map(|(net, _)| net).collect()
}

fn internal(text: &Text<'_>, problems: &mut Problems<'_>) -> Option<Ipv4Net> {
    match settings::network(text, problems)? {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => {
            let expected = "an IPv4 network: browsers' scripts have no common way to tell IPv6 networks apart";
            problems.error(&text.at, quoted(text.text), expected);
            None
        }
    }
}

fn proxies(texts: &[Text<'_>], problems: &mut Problems<'_>) -> Option<Vec<Authority>> {
    let mut sound = true;
    let mut proxies = Vec::with_capacity(texts.len());
    for text in texts {
        match Authority::parse(text.text.as_bytes()) {
            Ok(authority) => proxies.push(authority),
            Err(error) => {
                sound = false;
                let problem = problems.error(
                    &text.at,
                    quoted(text.text),
                    "a host and a port, such as \"proxy.city.example.jp:8080\"",
                );
                problem.hint(error.to_string());
            }
        }
    }
    sound.then_some(proxies)
}

fn domain(text: &Text<'_>, services: &[Service], problems: &mut Problems<'_>) -> Option<DnsName> {
    let name = DnsName::parse(text.text.as_bytes());
    let below = HostPattern::parse(&format!("*.{}", text.text)).map(|pattern| pattern.breadth());
    if let (Ok(name), Ok(Breadth::AboveIcann(_))) = (&name, below)
        && (name.as_str().contains('.') || is_top_level(name))
    {
        let expected = "a domain of your own: names at and under it go past this proxy";
        problems.error(&text.at, format!("{}, a public suffix", quoted(text.text)), expected);
        return None;
    }
    if let Ok(name) = &name {
        let mut hosts = services.iter().flat_map(|service| &service.hosts);
        let inside = hosts.find(|host| {
            let fixed = host.pattern.fixed_suffix();
            fixed == name.as_str() || fixed.strip_suffix(name.as_str()).is_some_and(|head| head.ends_with('.'))
        });
        if let Some(host) = inside {
            let found = format!("{}, under which {} is permitted", quoted(text.text), quoted(host.pattern.as_str()));
            problems.warning(
                &text.at,
                found,
                "only domains that are inside: browsers do not bring these hosts to this proxy",
            );
        }
    }
    if name.is_err() {
        let expected = "a domain, such as \"city.example.lg.jp\": the names at and under it";
        problems.error(&text.at, quoted(text.text), expected);
    }
    name.ok()
}
