//! All that one client can reach, pattern by pattern, for those who make something else of the policy (a PAC script).
//!
//! What may not be here: a decision. Whoever evaluates this has to come to those of `decision`.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use super::pattern::{LabelPattern, PartialLabel, labels_from_right};
use super::{HostPattern, Policy};
use crate::addrs::ClientAddr;

/// A pattern and the ports it permits; none where it answers for its names and permits the client nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach<'a> {
    pub pattern: &'a HostPattern,
    /// By CONNECT, in ascending order.
    pub connect: Vec<u16>,
    /// In plain HTTP.
    pub plain: Vec<u16>,
}

impl Policy {
    /// Every pattern of the policy, whoever it is for, in byte order; `None` for a client in no group, which reaches nothing.
    pub fn reach(&self, client: ClientAddr) -> Option<Vec<Reach<'_>>> {
        let group = self.networks.group_of(client)?;
        let mut patterns: BTreeMap<&HostPattern, (Vec<u16>, Vec<u16>)> = BTreeMap::new();
        for (number, service) in (0..).zip(&self.services) {
            let admits = service.approved && service.clients.include(group);
            for listed in self.table.of_service(number) {
                let (connect, plain) = patterns.entry(listed.pattern()).or_default();
                if admits {
                    connect.extend(&service.ports);
                }
                if admits && service.plain_http {
                    plain.extend(&service.ports);
                }
            }
        }
        let sorted = |mut ports: Vec<u16>| {
            ports.sort_unstable();
            ports.dedup();
            ports
        };
        let reach = |(pattern, (connect, plain))| Reach { pattern, connect: sorted(connect), plain: sorted(plain) };
        Some(patterns.into_iter().map(reach).collect())
    }
}

/// How much a label says; what says more comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank<'a> {
    Literal(&'a str),
    Partial(Reverse<usize>, Reverse<usize>, Reverse<usize>, &'a str),
    One,
    Leading,
}

impl<'a> Rank<'a> {
    fn of(label: &LabelPattern<'a>) -> Self {
        match label {
            LabelPattern::Literal(text) => Self::Literal(text),
            LabelPattern::Partial(PartialLabel(text)) => {
                let label = PartialLabel(text);
                let length = |text: &str| Reverse(text.len());
                Self::Partial(Reverse(label.literals()), length(label.prefix()), length(label.suffix()), text)
            }
            LabelPattern::One => Self::One,
            LabelPattern::Leading => Self::Leading,
        }
    }
}

impl HostPattern {
    /// Of two patterns that match one name, the one that answers for it is the lesser.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let (mut one, mut two) = (labels_from_right(self.as_str()), labels_from_right(other.as_str()));
        loop {
            match (one.next(), two.next()) {
                (Some(a), Some(b)) => match Rank::of(&a).cmp(&Rank::of(&b)) {
                    Ordering::Equal => {}
                    other => return other,
                },
                // Patterns of different lengths match one name only by a leading star, which has been compared.
                (a, b) => return a.is_some().cmp(&b.is_some()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::table::{Listed, Table};
    use super::*;
    use crate::names::DnsName;

    proptest! {
        /// The order says of every two patterns what the table says.
        #[test]
        fn precedence_is_the_tables(
            one in "(\\*\\.)?([ab*]{1,3}\\.){0,3}[ab]",
            two in "(\\*\\.)?([ab*]{1,3}\\.){0,3}[ab]",
            name in "([ab]{1,3}\\.){0,4}[ab]",
        ) {
            let (Ok(one), Ok(two)) = (HostPattern::parse(&one), HostPattern::parse(&two)) else { return Ok(()) };
            let name = DnsName::parse(name.as_bytes()).expect("a name");
            if one == two || !one.matches(&name) || !two.matches(&name) {
                return Ok(());
            }
            let mut table = Table::default();
            for pattern in [&one, &two] {
                table.insert(Listed::new(pattern.clone(), 1, 0), |_| true).expect("two patterns");
            }
            let winner = table.lookup(&name).expect("both match").first().pattern().clone();
            let lesser = if one.precedence(&two).is_lt() { &one } else { &two };
            prop_assert_eq!(&winner, lesser, "{} or {} for {}", one, two, name);
            prop_assert_eq!(one.precedence(&two), two.precedence(&one).reverse());
        }
    }
}
