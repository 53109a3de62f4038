//! Which group a client belongs to: the most specific network that holds its address, and no other.
//!
//! What may not be here: what a group may reach (`decision`). No network at all: no client is in a group.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::index::Folded;
use crate::addrs::ClientAddr;

/// A group by its ordinal in the source, from 0.
pub(super) type GroupId = u32;

/// The networks of all groups.
#[derive(Debug, Default)]
pub(super) struct Networks {
    groups: HashMap<IpNet, GroupId, BuildHasherDefault<Folded>>,
    /// Prefix lengths that occur, the longest first: a look-up costs one probe for each.
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
}

impl Networks {
    /// Adds `network` to `group` and returns the group that has it already; that one keeps it.
    pub(super) fn insert(&mut self, network: IpNet, group: GroupId) -> Option<GroupId> {
        let network = canonical(network);
        if let Some(holder) = self.groups.get(&network) {
            return Some(*holder);
        }
        self.groups.insert(network, group);
        let lengths = match network {
            IpNet::V4(_) => &mut self.v4_lengths,
            IpNet::V6(_) => &mut self.v6_lengths,
        };
        if let Err(place) = lengths.binary_search_by_key(&Reverse(network.prefix_len()), |length| Reverse(*length)) {
            lengths.insert(place, network.prefix_len());
        }
        None
    }

    /// The group of the longest prefix that holds the client's address.
    pub(super) fn group_of(&self, client: ClientAddr) -> Option<GroupId> {
        let ip = client.ip();
        let lengths = match ip {
            IpAddr::V4(_) => &self.v4_lengths,
            IpAddr::V6(_) => &self.v6_lengths,
        };
        lengths.iter().find_map(|length| self.groups.get(&IpNet::new(ip, *length).ok()?.trunc()).copied())
    }
}

/// Host bits cleared, and a network of IPv4-mapped addresses as the IPv4 network it is, since [`ClientAddr`] is so too.
fn canonical(network: IpNet) -> IpNet {
    let network = network.trunc();
    let mapped = match network {
        IpNet::V6(v6) => v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(ip, length)| Ipv4Net::new(ip, length).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(rows: &[(&str, GroupId)]) -> Networks {
        let mut networks = Networks::default();
        for (network, group) in rows {
            assert_eq!(networks.insert(network.parse().expect("network"), *group), None, "{network}");
        }
        networks
    }

    fn client(ip: &str) -> ClientAddr {
        ClientAddr::new((ip.parse::<IpAddr>().expect("address"), 40000).into())
    }

    #[test]
    fn the_most_specific_network_holds_the_client() {
        let networks = networks(&[
            ("10.0.0.0/8", 0),
            ("10.20.0.0/16", 1),
            ("10.20.0.7/32", 2),
            ("::ffff:192.168.0.0/112", 3),
            ("fd00:20::/48", 4),
            ("fd00:20:0:1::/64", 5),
            ("203.0.113.77/24", 6),
        ]);
        for (ip, group) in [
            ("9.255.255.255", None),
            ("10.0.0.0", Some(0)),
            ("10.19.255.255", Some(0)),
            ("10.20.0.0", Some(1)),
            ("10.20.0.6", Some(1)),
            ("10.20.0.7", Some(2)),
            ("10.20.0.8", Some(1)),
            ("10.20.255.255", Some(1)),
            ("10.21.0.0", Some(0)),
            ("11.0.0.0", None),
            ("::ffff:10.20.0.7", Some(2)),
            ("192.168.0.0", Some(3)),
            ("192.168.255.255", Some(3)),
            ("192.169.0.0", None),
            ("::10.20.0.7", None),
            ("fd00:20::1", Some(4)),
            ("fd00:20:0:1::1", Some(5)),
            ("fd00:20:0:2::1", Some(4)),
            ("fd00:21::1", None),
            ("203.0.113.0", Some(6)),
            ("203.0.113.255", Some(6)),
            ("203.0.114.0", None),
        ] {
            assert_eq!(networks.group_of(client(ip)), group, "{ip}");
        }
    }

    #[test]
    fn everything_of_one_family_is_not_everything() {
        let v4 = networks(&[("0.0.0.0/0", 0)]);
        assert_eq!(v4.group_of(client("255.255.255.255")), Some(0));
        assert_eq!(v4.group_of(client("2001:db8::1")), None);
        let v6 = networks(&[("::/0", 0)]);
        assert_eq!(v6.group_of(client("2001:db8::1")), Some(0));
        assert_eq!(v6.group_of(client("192.0.2.1")), None);
    }

    #[test]
    fn l01_no_network_holds_nobody() {
        for ip in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
            assert_eq!(Networks::default().group_of(client(ip)), None, "{ip}");
        }
    }

    #[test]
    fn the_same_network_is_reported_however_it_is_written() {
        let mut networks = networks(&[("10.20.0.0/16", 7)]);
        for text in ["10.20.0.0/16", "10.20.3.4/16", "::ffff:10.20.0.0/112"] {
            assert_eq!(networks.insert(text.parse().expect("network"), 8), Some(7), "{text}");
        }
        assert_eq!(networks.insert("10.20.0.0/17".parse().expect("network"), 8), None);
    }
}
