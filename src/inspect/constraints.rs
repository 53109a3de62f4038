//! Name constraints (RFC 5280 section 4.2.1.10) of an issuing CA: which names it may sign, and whether that covers a pattern.
//!
//! Pure. Only dNSName subtrees decide, for a leaf has one dNSName and nothing else; the others are kept to be shown.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints};

use crate::names::DnsName;

/// Whether an issuing CA can sign for every name of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// All of the pattern lies within a permitted subtree, and none of it in an excluded one.
    Covered,
    /// The CA permits any DNS name at all: it can sign, and a thief of its key could sign anything.
    Unconstrained,
    /// Some name of the pattern could not be signed.
    NotCovered(Gap),
}

/// What keeps a pattern, or a name, out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    #[error("it is not within the CA's permitted names ({0})")]
    NotPermitted(String),
    #[error("the CA's excluded names ({0}) reach into it")]
    Excluded(String),
}

/// A dNSName subtree as no client reads it (`*.example.com`, a trailing dot): chains with it fail everywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its name constraint {0:?} is not a DNS name, so that clients refuse whatever it signs")]
pub struct MalformedSubtree(String);

/// The constraints of one CA certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Constraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
    other: Others,
}

/// Subtrees of other kinds than dNSName.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Others {
    permitted: Vec<String>,
    excluded: Vec<String>,
    directory_names: bool,
}

/// A dNSName subtree: the names at `base` and below it, or only below it where the constraint began with a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subtree {
    base: String,
    apex: Apex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Apex {
    Within,
    Outside,
}

impl Constraints {
    /// Reads the extension.
    ///
    /// # Errors
    /// [`MalformedSubtree`] where a dNSName subtree is none.
    pub fn read(extension: &NameConstraints<'_>) -> Result<Self, MalformedSubtree> {
        let mut other = Others::default();
        let mut split = |trees: &Option<Vec<GeneralSubtree<'_>>>| {
            let mut names = Vec::new();
            let mut rest = Vec::new();
            for tree in trees.iter().flatten() {
                match &tree.base {
                    GeneralName::DNSName(base) => names.push(Subtree::parse(base)?),
                    base => {
                        other.directory_names |= matches!(base, GeneralName::DirectoryName(_));
                        rest.push(describe(base));
                    }
                }
            }
            Ok((names, rest))
        };
        let (permitted, other_permitted) = split(&extension.permitted_subtrees)?;
        let (excluded, other_excluded) = split(&extension.excluded_subtrees)?;
        other.permitted = other_permitted;
        other.excluded = other_excluded;
        Ok(Self { permitted, excluded, other })
    }

    /// Whether every name of a pattern can be signed. `fixed_suffix` is the pattern's literal end (`example.com` of
    /// `*.example.com`, the name itself where it is exact, "" for none); `wildcard` says that names below it are meant.
    pub fn coverage(&self, fixed_suffix: &str, wildcard: bool) -> Coverage {
        let reaches = |tree: &&Subtree| {
            if wildcard { tree.meets_below(fixed_suffix) } else { tree.holds(fixed_suffix) }
        };
        if let Some(tree) = self.excluded.iter().find(reaches) {
            return Coverage::NotCovered(Gap::Excluded(tree.to_string()));
        }
        if self.permitted.is_empty() {
            return Coverage::Unconstrained;
        }
        let covers = |tree: &Subtree| {
            tree.holds(fixed_suffix) || (wildcard && tree.base == fixed_suffix && tree.apex == Apex::Outside)
        };
        if self.permitted.iter().any(covers) {
            return Coverage::Covered;
        }
        Coverage::NotCovered(Gap::NotPermitted(join(&self.permitted)))
    }

    /// Whether `name` itself may be signed.
    ///
    /// # Errors
    /// [`Gap`].
    pub fn permit(&self, name: &DnsName) -> Result<(), Gap> {
        match self.coverage(name.as_str(), false) {
            Coverage::Covered | Coverage::Unconstrained => Ok(()),
            Coverage::NotCovered(gap) => Err(gap),
        }
    }

    /// Whether the subject of a leaf is constrained too, so that it had better be empty.
    pub fn restrict_subjects(&self) -> bool {
        self.other.directory_names
    }

    /// The permitted subtrees in words; empty where any DNS name is permitted.
    pub fn permitted(&self) -> Vec<String> {
        self.permitted.iter().map(Subtree::to_string).chain(self.other.permitted.iter().cloned()).collect()
    }

    /// The excluded subtrees in words.
    pub fn excluded(&self) -> Vec<String> {
        self.excluded.iter().map(Subtree::to_string).chain(self.other.excluded.iter().cloned()).collect()
    }

    /// Whether any dNSName subtree is permitted, and so every other name is not.
    pub fn bound_names(&self) -> bool {
        !self.permitted.is_empty()
    }
}

impl Subtree {
    /// "" (every name) and a leading dot (subdomains only) are taken as webpki, NSS and OpenSSL take them.
    fn parse(text: &str) -> Result<Self, MalformedSubtree> {
        let (base, apex) = text.strip_prefix('.').map_or((text, Apex::Within), |base| (base, Apex::Outside));
        if text.is_empty() {
            return Ok(Self { base: String::new(), apex });
        }
        let name = DnsName::parse(base.as_bytes()).ok().filter(|_| !base.ends_with('.'));
        let name = name.ok_or_else(|| MalformedSubtree(text.to_owned()))?;
        Ok(Self { base: name.as_str().to_owned(), apex })
    }

    /// Whether `name` is in the subtree.
    fn holds(&self, name: &str) -> bool {
        is_below(name, &self.base) || (self.apex == Apex::Within && name == self.base)
    }

    /// Whether some name below `suffix` is in the subtree.
    fn meets_below(&self, suffix: &str) -> bool {
        self.base == suffix || is_below(suffix, &self.base) || is_below(&self.base, suffix)
    }
}

impl std::fmt::Display for Subtree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.apex {
            Apex::Within => f.write_str(&self.base),
            Apex::Outside => write!(f, ".{}", self.base),
        }
    }
}

/// Whether `name` has at least one label in front of `base`. Everything is below "".
fn is_below(name: &str, base: &str) -> bool {
    if base.is_empty() {
        return !name.is_empty();
    }
    name.strip_suffix(base).is_some_and(|head| head.ends_with('.'))
}

fn join(trees: &[Subtree]) -> String {
    trees.iter().map(Subtree::to_string).collect::<Vec<_>>().join(", ")
}

fn describe(name: &GeneralName<'_>) -> String {
    let net = match name {
        GeneralName::IPAddress(bytes) => address_block(bytes),
        _ => None,
    };
    net.map_or_else(|| name.to_string(), |net| format!("IP {net}"))
}

/// Address and mask, 4 or 16 octets each.
fn address_block(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 8]>::try_from(bytes) {
        let [a, b, c, d, mask @ ..] = bytes;
        let net = Ipv4Net::with_netmask(Ipv4Addr::new(a, b, c, d), Ipv4Addr::from(mask)).ok()?;
        return Some(net.to_string());
    }
    let (address, mask) = bytes.split_at_checked(16)?;
    let address: [u8; 16] = address.try_into().ok()?;
    let mask: [u8; 16] = mask.try_into().ok()?;
    Some(Ipv6Net::with_netmask(Ipv6Addr::from(address), Ipv6Addr::from(mask)).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Bases = &'static [&'static str];

    fn constraints(permitted: Bases, excluded: Bases) -> Result<Constraints, MalformedSubtree> {
        let trees = |bases: Bases| {
            let trees: Vec<_> = bases.iter().map(|base| GeneralSubtree { base: GeneralName::DNSName(base) }).collect();
            (!trees.is_empty()).then_some(trees)
        };
        let extension = NameConstraints { permitted_subtrees: trees(permitted), excluded_subtrees: trees(excluded) };
        Constraints::read(&extension)
    }

    #[test]
    fn j05_coverage_of_patterns_with_their_neighbours() {
        enum Is {
            In,
            Any,
            Out,
        }
        use Is::{Any, In, Out};
        let rows: [(Bases, Bases, &str, bool, Is); 26] = [
            (&[], &[], "example.com", false, Any),
            (&[], &[], "", true, Any),
            (&["example.com"], &[], "example.com", false, In),
            (&["example.com"], &[], "example.com", true, In),
            (&["example.com"], &[], "a.example.com", true, In),
            (&["example.com"], &[], "badexample.com", false, Out),
            (&["example.com"], &[], "com", true, Out),
            (&["example.com"], &[], "com", false, Out),
            (&["example.com"], &[], "example.com.test", false, Out),
            (&["example.com"], &[], "", true, Out),
            (&["EXAMPLE.com"], &[], "a.example.com", false, In),
            (&["other.test", "example.com"], &[], "example.com", true, In),
            (&[".example.com"], &[], "example.com", true, In),
            (&[".example.com"], &[], "example.com", false, Out),
            (&[".example.com"], &[], "a.example.com", false, In),
            (&[""], &[], "anything.test", true, In),
            (&["a.example.com"], &[], "example.com", true, Out),
            (&["example.com"], &["secret.example.com"], "example.com", true, Out),
            (&["example.com"], &["secret.example.com"], "example.com", false, In),
            (&["example.com"], &["secret.example.com"], "a.secret.example.com", false, Out),
            (&["example.com"], &["secret.example.com"], "notsecret.example.com", false, In),
            (&["example.com"], &[".example.com"], "example.com", false, In),
            (&["example.com"], &[".example.com"], "example.com", true, Out),
            (&["example.com"], &["example.com"], "a.example.com", true, Out),
            (&[], &["example.com"], "example.com", false, Out),
            (&[], &[""], "example.com", false, Out),
        ];
        for (permitted, excluded, suffix, wildcard, expected) in rows {
            let coverage = constraints(permitted, excluded).expect("constraints").coverage(suffix, wildcard);
            let agrees = match expected {
                In => coverage == Coverage::Covered,
                Any => coverage == Coverage::Unconstrained,
                Out => matches!(coverage, Coverage::NotCovered(_)),
            };
            assert!(agrees, "permitted {permitted:?} excluded {excluded:?} {suffix:?} {wildcard}: {coverage:?}");
        }
    }

    #[test]
    fn subtrees_that_clients_cannot_read_are_refused() {
        let rows: [Bases; 6] =
            [&["*.example.com"], &["example.com."], &["."], &["..example.com"], &["192.0.2.1"], &["a b"]];
        for bases in rows {
            assert!(constraints(bases, &[]).is_err(), "{bases:?}");
            assert!(constraints(&[], bases).is_err(), "{bases:?}");
        }
    }

    #[test]
    fn address_blocks_are_shown_as_blocks() {
        assert_eq!(address_block(&[0; 8]).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(address_block(&[0; 32]).as_deref(), Some("::/0"));
        assert_eq!(address_block(&[10, 0, 0, 0, 255, 0, 0, 0]).as_deref(), Some("10.0.0.0/8"));
        assert_eq!(address_block(&[0; 7]), None);
        assert_eq!(address_block(&[0; 33]), None);
    }
}
