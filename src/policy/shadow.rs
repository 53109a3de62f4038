//! Where the winner alone answers, and a wider pattern of another service would permit more: what an administrator may not expect.
//!
//! What may not be here: a decision, and whether what is found is meant (`config`).

use std::collections::{BTreeSet, HashMap};

use super::compile::HeaderHosts;
use super::table::Found;
use super::{HostPattern, Listed, Mode, Policy, Service};

/// What a service permits or sets by a wider pattern, and those that list a narrower do not for its names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lost<'a> {
    /// Groups that reach nothing by the narrower pattern.
    pub groups: Vec<&'a str>,
    /// Ports, of groups that do.
    pub ports: Vec<u16>,
    /// These groups; none where it is all that reach something by both.
    pub ports_for: Vec<&'a str>,
    /// Those of the ports they have in common on which only the wider is for plain HTTP.
    pub plain: Vec<u16>,
    /// Names of headers.
    pub headers: Vec<&'a str>,
}

impl Lost<'_> {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Patterns that answer alone where a wider one of another service would permit more, all for the same reason.
#[derive(Debug)]
pub struct Shadow<'a> {
    /// Ordinals, from 0, of the services that list each of `narrow`.
    pub by: Vec<usize>,
    /// In the order of the file, by the first who lists it; at least one.
    pub narrow: Vec<&'a Listed>,
    pub wide: &'a Listed,
    /// Of the service that lists `wide`.
    pub of: usize,
    pub lost: Lost<'a>,
}

impl Policy {
    /// Every pattern that hides a permission of the nearest wider one, in the order of the file, those of the same services together.
    pub fn shadows(&self) -> Vec<Shadow<'_>> {
        let mut places: HashMap<(Vec<u32>, u32, &HostPattern), Option<usize>> = HashMap::new();
        let mut shadows: Vec<Shadow<'_>> = Vec::new();
        for narrow in self.table.patterns() {
            let Some(wide) = self.table.wider(narrow.first().pattern()) else { continue };
            let by: Vec<u32> = narrow.listed().map(Listed::service).collect();
            // Where it lists the narrower one too, nothing of it is lost but what the others take by their ports and clients.
            for wide in wide.listed() {
                let key = (by.clone(), wide.service(), wide.pattern());
                let place = places.entry(key).or_insert_with(|| {
                    let lost = self.lost(narrow, wide);
                    if lost.is_nothing() {
                        return None;
                    }
                    let by = by.iter().map(|service| *service as usize).collect();
                    shadows.push(Shadow { by, narrow: Vec::new(), wide, of: wide.service() as usize, lost });
                    Some(shadows.len() - 1)
                });
                if let Some(shadow) = place.and_then(|place| shadows.get_mut(place)) {
                    shadow.narrow.push(narrow.first());
                }
            }
        }
        shadows
    }

    fn lost<'a>(&'a self, narrow: Found<'a>, wide: &'a Listed) -> Lost<'a> {
        let service = self.service(wide);
        let others: Vec<&Service> = narrow.listed().map(|listed| self.service(listed)).collect();
        let mut lost = Lost::default();
        let (mut ports, mut plain, mut headers, mut both) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), 0);
        for (id, group) in (0..).zip(&*self.groups).filter(|(id, _)| service.clients.include(*id)) {
            let others: Vec<&&Service> = others.iter().filter(|other| other.clients.include(id)).collect();
            if others.is_empty() {
                lost.groups.push(&group.name);
                continue;
            }
            both += 1;
            let (with, without): (Vec<u16>, Vec<u16>) =
                service.ports.iter().partition(|port| others.iter().any(|other| other.has_port(**port)));
            if !without.is_empty() {
                lost.ports_for.push(&group.name);
            }
            ports.extend(without);
            for port in with {
                let Some(other) = others.iter().find(|other| other.has_port(port)) else { continue };
                if service.plain_http && !other.plain_http {
                    plain.insert(port);
                }
                headers.extend(unset(service, wide, other));
            }
        }
        if lost.ports_for.len() == both {
            lost.ports_for.clear();
        }
        lost.ports = ports.into_iter().collect();
        lost.plain = plain.into_iter().collect();
        lost.headers = headers.into_iter().collect();
        lost
    }
}

/// The headers that `service` sets by the pattern `wide`, and `other` does not.
fn unset<'a>(service: &'a Service, wide: &'a Listed, other: &'a Service) -> impl Iterator<Item = &'a str> {
    let set = move |name: &str| {
        other.mode == Mode::Inspect && other.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
    };
    let for_pattern = move |hosts: &HeaderHosts| match hosts {
        HeaderHosts::All => true,
        HeaderHosts::Only(patterns) => patterns.contains(wide.pattern()),
    };
    let headers = service.headers.iter().filter(move |header| for_pattern(&header.hosts));
    headers.map(|header| header.name.as_str()).filter(move |name| !set(name))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::{Claim, Decision, GroupSource, PolicySource, ServiceSource};
    use super::*;
    use crate::addrs::ClientAddr;
    use crate::names::{Authority, DnsName};

    const PATTERNS: [&str; 6] = ["*.test", "*.a.test", "b.a.test", "a.test", "*.b.a.test", "c*.a.test"];
    const NAMES: [&str; 8] =
        ["a.test", "x.test", "b.a.test", "x.a.test", "x.b.a.test", "y.x.b.a.test", "cx.a.test", "x.cx.a.test"];
    const PORTS: [u16; 3] = [443, 8443, 80];
    const GROUPS: [(&str, &str); 2] = [("office", "10.20.0.7"), ("school", "10.30.0.7")];

    /// Bits say which of the constants a service has.
    fn source(services: &[(u8, u8, u8)]) -> PolicySource {
        fn some<T: Copy>(all: &[T], bits: u8) -> Vec<T> {
            (0..).zip(all).filter(|(n, _)| bits >> n & 1 == 1).map(|(_, one)| *one).collect()
        }
        let group = |(name, ip): (&str, &str)| GroupSource {
            name: name.to_owned(),
            networks: vec![ip.parse::<IpAddr>().expect("an address").into()],
            line: 1,
        };
        let service = |(n, (patterns, ports, groups)): (usize, &(u8, u8, u8))| ServiceSource {
            name: n.to_string(),
            line: n,
            hosts: some(&PATTERNS, *patterns)
                .iter()
                .map(|text| (HostPattern::parse(text).expect("a pattern"), n))
                .collect(),
            ports: some(&PORTS, *ports),
            mode: Mode::Tunnel,
            clients: Some(some(&GROUPS, *groups).iter().map(|(name, _)| (*name).to_owned()).collect()),
            plain_http: false,
            headers: Vec::new(),
        };
        PolicySource {
            groups: GROUPS.into_iter().map(group).collect(),
            services: services.iter().enumerate().map(service).collect(),
        }
    }

    proptest! {
        /// Something is told if and only if some name is refused that a pattern of some service permits.
        #[test]
        fn what_is_told_is_what_is_hidden(
            services in proptest::collection::vec((1_u8..64, 1_u8..8, 1_u8..4), 1..5),
        ) {
            let source = source(&services);
            let listed = source.services.clone();
            let Ok(policy) = Policy::compile(source) else { return Ok(()) };
            let mut hidden = false;
            for (host, (group, ip), port) in NAMES.iter().flat_map(|host| {
                GROUPS.iter().flat_map(move |group| PORTS.iter().map(move |port| (host, group, port)))
            }) {
                let name = DnsName::parse(host.as_bytes()).expect("a name");
                let permits = |service: &ServiceSource| {
                    let clients = service.clients.iter().flatten().any(|name| name == group);
                    clients && service.ports.contains(port) && service.hosts.iter().any(|(pattern, _)| pattern.matches(&name))
                };
                let authority = Authority::parse(format!("{host}:{port}").as_bytes()).expect("an authority");
                let client = ClientAddr::new((ip.parse::<IpAddr>().expect("an address"), 40000).into());
                let refused = matches!(policy.decide(client, &Claim::Connect(authority)), Decision::Deny(_));
                hidden |= refused && listed.iter().any(permits);
            }
            prop_assert_eq!(!policy.shadows().is_empty(), hidden, "{:#?}", policy.shadows());
        }
    }
}
