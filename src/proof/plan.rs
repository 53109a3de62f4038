//! What is to be proven: for each pattern that is inspected a host that it answers for, a client that may go there, and the fields that
//! are due.
//!
//! What is due is read from the configuration's own texts by a matcher of this file, not by the policy's: where the two differ, the
//! proof fails.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::addrs::ClientAddr;
use crate::names::{Authority, DnsName, Host};
use crate::policy::{Claim, Decision, HeaderHosts, Policy, ServiceSummary, SetHeader};

/// What stands for a star, in the order in which they are tried: another pattern may answer for the first.
const SAMPLES: [&str; 3] = ["sekisho-proof", "tenant-proof-of-sekisho", "x7q2v9"];
/// Addresses of a group's network that are tried for one that no other group has.
const TRIED: usize = 256;

/// A field that is due at a host.
#[derive(Clone)]
pub(super) struct Due {
    pub name: String,
    /// Never printed.
    pub value: String,
}

/// One host to go to.
pub(super) struct Case {
    pub service: String,
    pub line: usize,
    pub host: DnsName,
    pub port: u16,
    pub client: ClientAddr,
    pub due: Vec<Due>,
    /// Names of fields that services set elsewhere, and that must not arrive here.
    pub foreign: Vec<String>,
}

impl Case {
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

pub(super) struct Plan {
    pub cases: Vec<Case>,
    /// A sentence for each pattern that cannot be tried.
    pub unproven: Vec<String>,
}

/// Every pattern of every service that inspects, and every host that a profile names, once for each service.
pub(super) fn plan(policy: &Policy) -> Plan {
    let all: BTreeSet<String> =
        policy.inspecting().flat_map(|(_, headers)| headers).map(|header| header.name.to_ascii_lowercase()).collect();
    let (mut cases, mut unproven) = (Vec::new(), Vec::new());
    for (service, headers) in policy.inspecting() {
        let Some(&port) = service.ports.first() else { continue };
        let Some(client) = service.groups.iter().find_map(|group| client_of(policy, group)) else {
            let (name, line) = (service.name, service.line);
            unproven.push(format!("service {name:?} (line {line}): no [[clients]] of it has an address of its own"));
            continue;
        };
        let mut seen = BTreeSet::new();
        for pattern in patterns(&service, headers) {
            let Some(host) = host_of(policy, &service, &pattern, client, port) else {
                // A host of a profile need not be one of this service's.
                if service.hosts.iter().any(|listed| listed.pattern().as_str() == pattern) {
                    unproven.push(format!(
                        "{pattern} of service {:?}: another pattern answers for its names",
                        service.name
                    ));
                }
                continue;
            };
            if !seen.insert(host.clone()) {
                continue;
            }
            let due: Vec<Due> = headers.iter().filter(|header| is_due(header, &host)).map(due).collect();
            let foreign = all.iter().filter(|name| !due.iter().any(|due| due.name.eq_ignore_ascii_case(name)));
            let foreign = foreign.cloned().collect();
            let (service, line) = (service.name.to_owned(), service.line);
            cases.push(Case { service, line, host, port, client, due, foreign });
        }
    }
    Plan { cases, unproven }
}

fn due(header: &SetHeader) -> Due {
    Due { name: header.name.clone(), value: header.value.clone() }
}

/// The service's own patterns, and those by which its headers are confined.
fn patterns(service: &ServiceSummary<'_>, headers: &[SetHeader]) -> Vec<String> {
    let own = service.hosts.iter().map(|listed| listed.pattern().to_string());
    let confined = headers.iter().filter_map(|header| match &header.hosts {
        HeaderHosts::All => None,
        HeaderHosts::Only(patterns) => Some(patterns.iter().map(ToString::to_string)),
    });
    own.chain(confined.flatten()).collect()
}

/// An address of the group that is in no narrower network of another.
fn client_of(policy: &Policy, group: &str) -> Option<ClientAddr> {
    let group = policy.groups().find(|known| known.name == group)?;
    let addresses = group.networks.iter().flat_map(|network| -> Box<dyn Iterator<Item = IpAddr>> {
        match network {
            IpNet::V4(net) => Box::new(net.hosts().take(TRIED).map(IpAddr::V4)),
            IpNet::V6(net) => Box::new(net.hosts().take(TRIED).map(IpAddr::V6)),
        }
    });
    let mut clients = addresses.map(|ip| ClientAddr::new((ip, 1).into()));
    clients.find(|client| policy.group_of(*client) == Some(group.name))
}

/// A host that the pattern matches and that the service answers for.
fn host_of(
    policy: &Policy,
    service: &ServiceSummary<'_>,
    pattern: &str,
    client: ClientAddr,
    port: u16,
) -> Option<DnsName> {
    let hosts = SAMPLES.iter().filter_map(|sample| DnsName::parse(pattern.replace('*', sample).as_bytes()).ok());
    hosts.into_iter().find(|host| {
        let claim = Claim::Connect(Authority { host: Host::Name(host.clone()), port });
        match policy.decide(client, &claim) {
            Decision::Inspect(permit) => permit.rule().id() == service.id,
            Decision::Deny(_) | Decision::Tunnel(_) | Decision::Plain(_) => false,
        }
    })
}

fn is_due(header: &SetHeader, host: &DnsName) -> bool {
    match &header.hosts {
        HeaderHosts::All => true,
        HeaderHosts::Only(patterns) => patterns.iter().any(|pattern| fits(pattern.as_str(), host.as_str())),
    }
}

/// Whether the pattern's text means the host: a leading `*.` is one or more labels, another whole `*` one, a `*` within a label any
/// characters of it.
fn fits(pattern: &str, host: &str) -> bool {
    if let Some(tail) = pattern.strip_prefix("*.") {
        let mut rest = host;
        while let Some((_, below)) = rest.split_once('.') {
            if labels_fit(tail, below) {
                return true;
            }
            rest = below;
        }
        return false;
    }
    labels_fit(pattern, host)
}

fn labels_fit(pattern: &str, host: &str) -> bool {
    let (patterns, labels): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len() && patterns.iter().zip(&labels).all(|(pattern, label)| label_fits(pattern, label))
}

fn label_fits(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((head, tail)) => label.strip_prefix(head).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.into_iter().any(|at| label_fits(tail, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_the_manual_says() {
        for (pattern, host, fitting) in [
            ("a.example", "a.example", true),
            ("a.example", "b.a.example", false),
            ("*.a.example", "b.a.example", true),
            ("*.a.example", "c.b.a.example", true),
            ("*.a.example", "a.example", false),
            ("x.*.example", "x.b.example", true),
            ("x.*.example", "x.b.c.example", false),
            ("*cdn.example", "acdn.example", true),
            ("*cdn.example", "cdn.example", true),
            ("*cdn.example", "a.cdn.example", false),
            ("a*b*c.example", "a1b2c.example", true),
            ("a*b*c.example", "abcd.example", false),
        ] {
            assert_eq!(fits(pattern, host), fitting, "{pattern} {host}");
        }
    }
}
