//! The words of the limits, and what each of them allows: the settings as the configuration gives them.
//!
//! What may not be here: anything that counts.

use std::num::{NonZeroU32, NonZeroU64};

use crate::reason::Reason;

/// What a limit is on, by its key in the configuration; one has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Connections,
    NewConnections,
    Requests,
    Upload,
    Download,
    Handshakes,
    LeafMints,
    DnsLookups,
    /// HTTP/2 connections that were flooded.
    Floods,
}

impl Limit {
    pub const ALL: [Self; 9] = [
        Self::Connections,
        Self::NewConnections,
        Self::Requests,
        Self::Upload,
        Self::Download,
        Self::Handshakes,
        Self::LeafMints,
        Self::DnsLookups,
        Self::Floods,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::NewConnections => "new_connections_per_second",
            Self::Requests => "requests_per_second",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Handshakes => "handshakes",
            Self::LeafMints => "leaf_mints_per_second",
            Self::DnsLookups => "dns_lookups",
            Self::Floods => "floods",
        }
    }
}

/// What is counted for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Connections,
    /// From a CONNECT's permission to its relay: the hello, and the TLS handshakes of both sides.
    Handshakes,
    /// Look-ups that are waited for; what is known already is none.
    DnsLookups,
}

impl Counted {
    pub const ALL: [Self; 3] = [Self::Connections, Self::Handshakes, Self::DnsLookups];

    pub fn limit(self) -> Limit {
        match self {
            Self::Connections => Limit::Connections,
            Self::Handshakes => Limit::Handshakes,
            Self::DnsLookups => Limit::DnsLookups,
        }
    }
}

/// What may come so often; what comes faster is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rated {
    NewConnections,
    /// Inspected requests, and plain ones.
    Requests,
    LeafMints,
}

impl Rated {
    pub const ALL: [Self; 3] = [Self::NewConnections, Self::Requests, Self::LeafMints];

    pub fn limit(self) -> Limit {
        match self {
            Self::NewConnections => Limit::NewConnections,
            Self::Requests => Limit::Requests,
            Self::LeafMints => Limit::LeafMints,
        }
    }
}

/// Which way octets go; what goes faster is slowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Client to upstream.
    Upload,
    /// Upstream to client.
    Download,
}

impl Way {
    pub const ALL: [Self; 2] = [Self::Upload, Self::Download];

    pub fn limit(self) -> Limit {
        match self {
            Self::Upload => Limit::Upload,
            Self::Download => Limit::Download,
        }
    }
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// One client address; IPv6 by prefix.
    Client,
    /// A `[[clients]]` as a whole.
    Group,
    /// A `[[service]]` as a whole.
    Service,
    /// Everybody together.
    All,
}

impl Whose {
    pub const ALL: [Self; 4] = [Self::Client, Self::Group, Self::Service, Self::All];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Group => "group",
            Self::Service => "service",
            Self::All => "all",
        }
    }

    fn section(self) -> &'static str {
        match self {
            Self::Client => "per_client",
            Self::Group => "clients.limits",
            Self::Service => "service.limits",
            Self::All => "limits",
        }
    }
}

/// Why there is no leave: which limit is used up, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.in_words())]
pub struct Refused {
    pub limit: Limit,
    pub whose: Whose,
}

impl Refused {
    fn in_words(self) -> String {
        match self.limit {
            Limit::Floods => "the client floods one HTTP/2 connection after the other".to_owned(),
            limit => format!("as many as {}.{} lets through", self.whose.section(), limit.as_str()),
        }
    }

    /// Of one client it is always that client's doing; of several only where it came too fast.
    pub fn reason(self) -> Reason {
        match (self.limit, self.whose) {
            (Limit::Connections, Whose::Client) => Reason::TooManyConnectionsOfClient,
            (Limit::Connections, Whose::Group | Whose::Service | Whose::All) => Reason::TooManyConnections,
            (Limit::Handshakes | Limit::DnsLookups, Whose::Group | Whose::Service | Whose::All) => Reason::Overloaded,
            (Limit::Handshakes | Limit::DnsLookups, Whose::Client)
            | (Limit::NewConnections | Limit::Requests | Limit::LeafMints, _)
            | (Limit::Upload | Limit::Download | Limit::Floods, _) => Reason::RateLimited,
        }
    }
}

/// So many a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
}

/// What one of [`Whose`] may have. `None`: no limit of that kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    pub connections: Option<u32>,
    pub new_connections: Option<Rate>,
    pub requests: Option<Rate>,
    /// Octets a second.
    pub upload: Option<NonZeroU64>,
    pub download: Option<NonZeroU64>,
    pub handshakes: Option<u32>,
    pub leaf_mints: Option<Rate>,
    pub dns_lookups: Option<u32>,
}

impl Quotas {
    pub fn most(&self, what: Counted) -> Option<u32> {
        match what {
            Counted::Connections => self.connections,
            Counted::Handshakes => self.handshakes,
            Counted::DnsLookups => self.dns_lookups,
        }
    }

    pub fn rate(&self, what: Rated) -> Option<Rate> {
        match what {
            Rated::NewConnections => self.new_connections,
            Rated::Requests => self.requests,
            Rated::LeafMints => self.leaf_mints,
        }
    }

    /// Octets a second.
    pub fn octets(&self, way: Way) -> Option<NonZeroU64> {
        match way {
            Way::Upload => self.upload,
            Way::Download => self.download,
        }
    }

    fn paces(&self) -> bool {
        self.upload.is_some() || self.download.is_some()
    }
}

/// The limits of everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub all: Quotas,
    /// Of a client in no group.
    pub per_client: Quotas,
    /// Every `[[clients]]`, limited or not.
    pub groups: Vec<GroupQuotas>,
    /// Every `[[service]]`, limited or not.
    pub services: Vec<ServiceQuotas>,
    /// IPv6 addresses with so many leading bits in common are one client.
    pub ipv6_prefix: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupQuotas {
    pub name: String,
    pub whole: Quotas,
    /// Of each of its clients.
    pub per_client: Quotas,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceQuotas {
    pub name: String,
    pub whole: Quotas,
}

impl Settings {
    /// For tests and measurements of what stands behind the limits.
    pub fn unlimited() -> Self {
        let nothing = Quotas::default;
        Self { all: nothing(), per_client: nothing(), groups: Vec::new(), services: Vec::new(), ipv6_prefix: 64 }
    }

    /// The quotas of a client in this group, or in none.
    pub fn of_client(&self, group: Option<&str>) -> &Quotas {
        let group = group.and_then(|name| self.group(name));
        group.map_or(&self.per_client, |group| &group.per_client)
    }

    pub fn group(&self, name: &str) -> Option<&GroupQuotas> {
        self.groups.iter().find(|group| group.name == name)
    }

    pub fn service(&self, name: &str) -> Option<&ServiceQuotas> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Whether octets are limited for anybody.
    pub(super) fn paces(&self) -> bool {
        let groups = self.groups.iter().flat_map(|group| [&group.whole, &group.per_client]);
        let services = self.services.iter().map(|service| &service.whole);
        [&self.all, &self.per_client].into_iter().chain(groups).chain(services).any(Quotas::paces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_whether_it_is_the_clients_own_doing() {
        for (limit, whose, word, own) in [
            (Limit::Connections, Whose::Client, "too_many_connections", true),
            (Limit::Connections, Whose::Group, "too_many_connections", false),
            (Limit::Connections, Whose::Service, "too_many_connections", false),
            (Limit::Connections, Whose::All, "too_many_connections", false),
            (Limit::NewConnections, Whose::All, "rate_limited", true),
            (Limit::Requests, Whose::Service, "rate_limited", true),
            (Limit::LeafMints, Whose::Client, "rate_limited", true),
            (Limit::Handshakes, Whose::Client, "rate_limited", true),
            (Limit::Handshakes, Whose::All, "overloaded", false),
            (Limit::DnsLookups, Whose::Client, "rate_limited", true),
            (Limit::DnsLookups, Whose::Group, "overloaded", false),
        ] {
            let reason = Refused { limit, whose }.reason();
            assert_eq!(reason.as_str(), word, "{limit:?} {whose:?}");
            let blames = matches!(reason, Reason::RateLimited | Reason::TooManyConnectionsOfClient);
            assert_eq!(blames, own, "{limit:?} {whose:?}");
        }
    }
}
