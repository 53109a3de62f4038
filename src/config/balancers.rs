//! `proxy_protocol` of a `[[listener]]`: the balancers that are believed whose a connection is.

use ipnet::IpNet;

use super::listener::Balancers;
use super::problem::{At, Problems};
use super::reader::Table;
use super::service::Group;
use super::{settings, units};
use crate::addrs::ListenAddr;

/// Networks of one listener; a pair of balancers takes two.
const MOST: usize = 64;

/// A network and where it stands.
pub(super) type Believed = (IpNet, At);

pub(super) fn believed(table: &Table<'_>, problems: &mut Problems<'_>) -> Vec<Believed> {
    let texts = table.texts("proxy_protocol", problems).unwrap_or_default();
    if table.is_empty_list("proxy_protocol") {
        let expected = "the balancers' addresses, such as [\"10.0.0.5/32\"], or no such key";
        problems.error(&table.place("proxy_protocol"), "an empty list", expected);
    }
    if texts.len() > MOST {
        let found = format!("{} networks", texts.len());
        problems.error(&table.place("proxy_protocol"), found, format!("at most {MOST}"));
    }
    texts.iter().filter_map(|text| Some((settings::network(text, problems)?, text.at.clone()))).collect()
}

/// Whoever has an address of these networks can say to be any client, so clients should have none.
pub(super) fn judge(
    of_each: Vec<(ListenAddr, Vec<Believed>)>,
    groups: &[Group],
    problems: &mut Problems<'_>,
) -> Balancers {
    for (found, at) in of_each.iter().flat_map(|(_, believed)| units::everybody(believed)) {
        problems.error(at, found, "the balancers' addresses alone: who has one is believed whoever it says to be");
    }
    for (network, at) in of_each.iter().flat_map(|(_, believed)| believed) {
        if network.prefix_len() == 0 {
            continue;
        }
        if let Some(group) = groups.iter().find(|group| mixes(*network, group)) {
            let found = format!("\"{network}\", which shares addresses with clients {:?}", group.source.name);
            problems.warning(at, found, "each balancer's address alone: who has one is believed whoever it says to be");
        }
    }
    let networks = |believed: Vec<Believed>| believed.into_iter().map(|(network, _)| network).collect();
    Balancers::new(of_each.into_iter().map(|(listener, believed)| (listener, networks(believed))).collect())
}

/// A single address is a balancer's, wherever it lies.
fn mixes(network: IpNet, group: &Group) -> bool {
    let meets = |other: &IpNet| other.contains(&network) || network.contains(other);
    network.prefix_len() < network.max_prefix_len() && group.source.networks.iter().any(meets)
}
