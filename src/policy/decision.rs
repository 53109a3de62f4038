//! The decision: facts in, [`Decision`] out, and the evidence ([`Permit`], [`Destination`]) that nothing else can make.
//!
//! What may not be here: I/O, a clock, a logger, metrics, `Result`, or anything that is not in the arguments.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::compile::SetHeader;
use super::pattern::Forbidden;
use super::rule::{Builtin, Rule};
use super::{Group, Mode, Policy, Service};
use crate::addrs::ClientAddr;
use crate::names::{Authority, DnsName, Host};
use crate::reason::Reason;

/// The only port that observing lets through.
const HTTPS: u16 = 443;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// CONNECT, or the flow it opened.
    Connect(Authority),
    /// An absolute-form request with `http:`.
    Request { method: Method, authority: Authority },
}

impl Claim {
    pub fn authority(&self) -> &Authority {
        match self {
            Self::Connect(authority) | Self::Request { authority, .. } => authority,
        }
    }
}

/// The methods that plain HTTP tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Other,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Decision {
    Deny(Denial),
    Tunnel(Permit<Tunnel>),
    Inspect(Permit<Inspect>),
    Plain(Permit<Plain>),
}

/// Leave to copy bytes untouched.
#[derive(Debug)]
pub struct Tunnel(());

/// Leave to end TLS here and forward requests.
#[derive(Debug)]
pub struct Inspect(());

/// Leave to forward one `http:` request.
#[derive(Debug)]
pub struct Plain(());

/// Leave to reach one destination in one way. Made only by [`Policy::decide`] and, where it observes, [`Policy::judge`]; it does not
/// outlive a question asked anew.
#[derive(Debug)]
pub struct Permit<M> {
    destination: Destination,
    rule: Rule,
    group: Arc<str>,
    headers: Arc<[SetHeader]>,
    would_refuse: Option<Reason>,
    way: PhantomData<fn() -> M>,
}

impl<M> Permit<M> {
    fn new(name: &DnsName, port: u16, rule: Rule, service: &Service, group: &Group) -> Self {
        Self {
            destination: Destination { name: name.clone(), port },
            rule,
            group: Arc::clone(&group.name),
            headers: Arc::clone(&service.headers),
            would_refuse: None,
            way: PhantomData,
        }
    }

    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The name of the client's group.
    pub fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// Why it would be refused if it were not a time of observing.
    pub fn would_refuse(&self) -> Option<Reason> {
        self.would_refuse
    }
}

impl Permit<Tunnel> {
    /// Leave in the place of a denial, which it takes with it.
    ///
    /// # Errors
    /// The denial, where it has another ground than that the name is not listed.
    pub(super) fn observed(denial: Denial) -> Result<Self, Denial> {
        match denial {
            Denial { unlisted: Some(destination), group: Some(group), reason, .. } => Ok(Self {
                destination,
                rule: Rule::builtin(Builtin::Observe),
                group,
                headers: Arc::default(),
                would_refuse: Some(reason),
                way: PhantomData,
            }),
            denial => Err(denial),
        }
    }
}

impl Permit<Inspect> {
    /// The headers to set on every request to this destination, in the order of the configuration.
    pub fn headers(&self) -> impl Iterator<Item = &SetHeader> {
        self.headers.iter().filter(|header| header.hosts.include(&self.destination.name))
    }
}

/// The one name and port a permit is for. Immutable; made only by [`Policy::decide`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    name: DnsName,
    port: u16,
}

impl Destination {
    /// For the tests of what asks for one.
    #[cfg(test)]
    pub fn new(name: DnsName, port: u16) -> Self {
        Self { name, port }
    }

    pub fn name(&self) -> &DnsName {
        &self.name
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// `name:port`
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// A refusal, with the rule that refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    reason: Reason,
    rule: Rule,
    group: Option<Arc<str>>,
    /// Where a CONNECT to port 443 was denied for one ground only: no pattern matches the name.
    unlisted: Option<Destination>,
}

impl Denial {
    /// A name that no pattern matches.
    fn not_listed(name: &DnsName, claim: &Claim, group: &Group) -> Self {
        let unlisted = match claim {
            Claim::Connect(Authority { port: HTTPS, .. }) => Some(Destination { name: name.clone(), port: HTTPS }),
            Claim::Connect(_) | Claim::Request { .. } => None,
        };
        let (rule, group) = (Builtin::NotAllowlisted, Some(Arc::clone(&group.name)));
        Self { reason: rule.reason(), rule: Rule::builtin(rule), group, unlisted }
    }

    /// The destination, where observing could let it through.
    pub(super) fn unlisted(&self) -> Option<&Destination> {
        self.unlisted.as_ref()
    }

    pub fn reason(&self) -> Reason {
        self.reason
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The name of the client's group, where it is in one.
    pub fn group(&self) -> Option<&Arc<str>> {
        self.group.as_ref()
    }
}

impl Policy {
    /// The decision on `claim` of `client`. The first that applies:
    ///
    /// 1. An IP address as host: `ip_literal`.
    /// 2. A client in no group: `client_not_permitted`.
    /// 3. A name that is never permitted (LGWAN, the ECH outer name) or that no pattern matches: `not_allowlisted`. Of the
    ///    patterns that match, the most specific alone answers from here on.
    /// 4. Its services are not for the client's group: `client_not_permitted`.
    /// 5. Those that are do not have the port: `port_not_permitted`. One service remains, since no pattern stands twice
    ///    with ports and clients that overlap.
    /// 6. A CONNECT: permitted, in the service's mode.
    /// 7. A request, and the service is not for plain HTTP: `plain_http_not_permitted`.
    /// 8. A request with GET, HEAD or POST: permitted.
    /// 9. Else denied: `method_not_permitted`.
    pub fn decide(&self, client: ClientAddr, claim: &Claim) -> Decision {
        let group = self.networks.group_of(client).and_then(|id| Some((id, self.groups.get(id as usize)?)));
        // 1
        let Authority { host: Host::Name(name), port } = claim.authority() else {
            return deny_builtin(Builtin::IpLiteral, group.map(|(_, group)| group));
        };
        // 2
        let Some((id, group)) = group else {
            return deny_builtin(Builtin::ClientNotPermitted, None);
        };
        // 3
        match Forbidden::of(name) {
            None => {}
            Some(Forbidden::Lgwan) => return deny_builtin(Builtin::Lgwan, Some(group)),
            Some(Forbidden::EchOuter) => return deny_builtin(Builtin::EchOuter, Some(group)),
        }
        let Some(winner) = self.table.lookup(name) else {
            return Decision::Deny(Denial::not_listed(name, claim, group));
        };
        // 4
        let for_group = || winner.listed().filter(|listed| self.service(listed).clients.include(id));
        let Some(first) = for_group().next() else {
            return deny(Reason::ClientNotPermitted, self.rule(winner.first()), group);
        };
        // 5
        let Some(listed) = for_group().find(|listed| self.service(listed).has_port(*port)) else {
            return deny(Reason::PortNotPermitted, self.rule(first), group);
        };
        let (service, rule) = (self.service(listed), self.rule(listed));
        // 6
        let method = match (claim, service.mode) {
            (Claim::Connect(_), Mode::Tunnel) => {
                return Decision::Tunnel(Permit::new(name, *port, rule, service, group));
            }
            (Claim::Connect(_), Mode::Inspect) => {
                return Decision::Inspect(Permit::new(name, *port, rule, service, group));
            }
            (Claim::Request { method, .. }, _) => *method,
        };
        // 7
        if !service.plain_http {
            return deny(Reason::PlainHttpNotPermitted, rule, group);
        }
        // 8
        if matches!(method, Method::Get | Method::Head | Method::Post) {
            return Decision::Plain(Permit::new(name, *port, rule, service, group));
        }
        // 9
        deny(Reason::MethodNotPermitted, rule, group)
    }
}

fn deny(reason: Reason, rule: Rule, group: &Group) -> Decision {
    Decision::Deny(Denial { reason, rule, group: Some(Arc::clone(&group.name)), unlisted: None })
}

fn deny_builtin(rule: Builtin, group: Option<&Group>) -> Decision {
    let group = group.map(|group| Arc::clone(&group.name));
    Decision::Deny(Denial { reason: rule.reason(), rule: Rule::builtin(rule), group, unlisted: None })
}
