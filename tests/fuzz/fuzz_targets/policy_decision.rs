//! A policy and questions, both from one text, answered by the policy and by a naive reading of the manual (`threats.md` A18 and
//! C14): the same verdict, for the same reason.
//!
//! A line is a service (`s`, a letter for what it is, its patterns) or a question (`?`, a letter for who asks for what, a name).
#![no_main]

use std::cmp::Reverse;
use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use sekisho::addrs::ClientAddr;
use sekisho::names::{Authority, DnsName, Host};
use sekisho::policy::{Claim, Decision, GroupSource, HostPattern, Method, Mode, Policy, PolicySource, ServiceSource};

/// By the bits of a letter.
const PORTS: [&[u16]; 4] = [&[443], &[443, 8443], &[8443], &[]];
const CLIENTS: [Option<&[&str]>; 4] = [None, Some(&["office"]), Some(&["admins"]), Some(&[])];
/// An address and its group; `admins` lies within the network of `office`.
const ASKING: [(&str, &str); 4] =
    [("10.20.1.1:1", "office"), ("10.20.9.1:1", "admins"), ("192.0.2.1:1", ""), ("[::ffff:10.20.9.2]:1", "admins")];
const METHODS: [Method; 4] = [Method::Get, Method::Head, Method::Post, Method::Other];

fuzz_target!(|text: &str| {
    let lines = || text.lines().filter_map(|line| line.split_at_checked(2));
    let services: Vec<ServiceSource> = lines().filter_map(|(kind, rest)| service(kind.as_bytes(), rest)).collect();
    let network = |text: &str| vec![text.parse().expect("a network")];
    let groups = vec![
        GroupSource { name: "office".to_owned(), networks: network("10.20.0.0/16"), line: 1 },
        GroupSource { name: "admins".to_owned(), networks: network("10.20.9.0/24"), line: 2 },
    ];
    let Ok(policy) = Policy::compile(PolicySource { groups, services: services.clone() }) else { return };
    for (kind, rest) in lines() {
        let &[b'?', bits] = kind.as_bytes() else { continue };
        let Ok(name) = DnsName::parse(rest.as_bytes()) else { continue };
        let (address, group) = ASKING[usize::from(bits & 3)];
        let port = if bits & 4 == 0 { 443 } else { 8443 };
        let method = (bits & 8 != 0).then_some(METHODS[usize::from(bits >> 4 & 3)]);
        let authority = Authority { host: Host::Name(name.clone()), port };
        let claim = match method {
            None => Claim::Connect(authority),
            Some(method) => Claim::Request { method, authority },
        };
        let client = ClientAddr::new(address.parse::<SocketAddr>().expect("an address"));
        let verdict = match policy.decide(client, &claim) {
            Decision::Deny(denial) => denial.reason().as_str(),
            Decision::Tunnel(_) => "tunnel",
            Decision::Inspect(_) => "inspect",
            Decision::Plain(_) => "plain",
        };
        assert_eq!(
            verdict,
            naive(&services, group, name.as_str(), port, method),
            "{claim:?} of {address} in {services:#?}"
        );
    }
});

fn service(kind: &[u8], rest: &str) -> Option<ServiceSource> {
    let &[b's', bits] = kind else { return None };
    let patterns = rest.split(' ').filter_map(|text| HostPattern::parse(text).ok());
    Some(ServiceSource {
        name: "s".to_owned(),
        line: 1,
        hosts: patterns.map(|pattern| (pattern, 1)).collect(),
        ports: PORTS[usize::from(bits & 3)].to_vec(),
        mode: if bits & 4 == 0 { Mode::Tunnel } else { Mode::Inspect },
        clients: CLIENTS[usize::from(bits >> 3 & 3)].map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        plain_http: bits & 0x24 == 0x20,
        headers: Vec::new(),
    })
}

/// The precedence of the manual, word by word, over a plain list.
fn naive(services: &[ServiceSource], group: &str, name: &str, port: u16, method: Option<Method>) -> &'static str {
    if group.is_empty() {
        return "client_not_permitted";
    }
    let under = |parent: &str| name == parent || name.ends_with(&format!(".{parent}"));
    let listed =
        services.iter().flat_map(|service| service.hosts.iter().map(move |(host, _)| (host.as_str(), service)));
    let matching: Vec<_> = listed.filter(|(pattern, _)| matches(pattern, name)).collect();
    let winner = matching.iter().map(|(pattern, _)| *pattern).max_by_key(|pattern| rank(pattern));
    let Some(winner) = winner.filter(|_| !under("lgwan.jp") && !under("cloudflare-ech.com")) else {
        return "not_allowlisted";
    };
    let ours =
        |service: &ServiceSource| service.clients.as_ref().is_none_or(|only| only.iter().any(|one| one == group));
    let answering: Vec<_> = matching.iter().filter(|(pattern, service)| *pattern == winner && ours(service)).collect();
    if answering.is_empty() {
        return "client_not_permitted";
    }
    let Some((_, service)) = answering.iter().find(|(_, service)| service.ports.contains(&port)) else {
        return "port_not_permitted";
    };
    match (method, service.mode) {
        (None, Mode::Tunnel) => "tunnel",
        (None, Mode::Inspect) => "inspect",
        (Some(_), _) if !service.plain_http => "plain_http_not_permitted",
        (Some(Method::Other), _) => "method_not_permitted",
        (Some(Method::Get | Method::Head | Method::Post), _) => "plain",
    }
}

/// Label by label from the right; a star in front stands for one label or more.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.rsplit_once('.'), name.rsplit_once('.')) {
        (None, _) if pattern == "*" => true,
        (None, None) => glob(pattern.as_bytes(), name.as_bytes()),
        (Some((more, last)), Some((behind, label))) => {
            (last == "*" || glob(last.as_bytes(), label.as_bytes())) && matches(more, behind)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|from| glob(rest, &text[from..])),
        ([first, rest @ ..], [head, tail @ ..]) => first == head && glob(rest, tail),
        (_, []) => false,
    }
}

/// What decides between two labels: literal, partial, `*`, leading `*`; of two partial ones the more literal octets, then the
/// longer beginning, then the longer end, then the alphabet.
type Rank<'a> = (u8, usize, usize, usize, Reverse<&'a str>);

/// A key for each label from the right; the greatest wins.
fn rank(pattern: &str) -> Vec<Rank<'_>> {
    let count = pattern.split('.').count();
    let of = |(at, label): (usize, &'_ str)| match (label.find('*'), label.rfind('*')) {
        (Some(first), Some(last)) if label != "*" => (2, label.replace('*', "").len(), first, label.len() - 1 - last),
        (Some(_), _) if at + 1 == count => (0, 0, 0, 0),
        (Some(_), _) => (1, 0, 0, 0),
        (None, _) => (3, 0, 0, 0),
    };
    let keys = pattern.rsplit('.').enumerate();
    keys.map(|(at, label)| {
        let (a, b, c, d) = of((at, label));
        (a, b, c, d, Reverse(label))
    })
    .collect()
}
