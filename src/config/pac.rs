//! `[pac]`: the script for browsers.

use super::problem::{Problems, quoted};
use super::reader::{Table, Text};
use super::schema;
use super::service::Service;
use crate::names::{Authority, DnsName};
use crate::pac::{Otherwise, Settings};
use crate::policy::{Breadth, HostPattern};

/// `None` where there is no `[pac]`, or an error.
pub(super) fn pac<'t>(root: &Table<'t>, services: &[Service], problems: &mut Problems<'_>) -> Option<Settings> {
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
    let texts = table.required_texts(
        "proxies",
        "this proxy as browsers reach it, such as [\"proxy.city.example.jp:8080\"]",
        problems,
    );
    let proxies = proxies(&texts, problems);
    if table.is_empty_list("proxies") {
        problems.error(&table.place("proxies"), "an empty list", "at least one proxy with its port");
    }
    let domains = table.texts("internal_domains", problems).unwrap_or_default();
    let texts = table.texts("internal_proxies", problems).unwrap_or_default();
    let internal_proxies = self::proxies(&texts, problems);
    let otherwise = table.choice("otherwise", &WAYS, problems).unwrap_or(Otherwise::Proxy);
    let direct_fallback = table.flag("direct_fallback", problems).unwrap_or(false);
    if otherwise == Otherwise::Internal && texts.is_empty() {
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
    let internal_domains = domains.iter().filter_map(|text| domain(text, services, problems)).collect();
    let settings = Settings {
        proxies: proxies?,
        internal_domains,
        internal_proxies: internal_proxies?,
        otherwise,
        direct_fallback,
    };
    (!settings.proxies.is_empty()).then_some(settings)
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
    if let (Ok(_), Ok(Breadth::AboveIcann(_))) = (&name, below)
        && text.text.contains('.')
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
