//! The compiled allowlist, and the one pattern that answers for a name.
//!
//! At each label, from the right: literal beats partial beats a whole `*` beats a leading `*.`; the first difference decides,
//! and only patterns that match the whole name take part (the walk goes back where a better beginning has no end). Of two
//! partial labels that match the same label the one with more literal characters wins, then the one with the longer prefix,
//! then the longer suffix, then the first in byte order.
//!
//! So of two patterns that match, the one with more literal labels at its right end wins: where the shorter run ends, it has a
//! star against a literal. That run, the *tail*, is found by the hash of its whole text: the name itself for an exact pattern,
//! which beats all others, then `.b.c` and `.c` of `a.b.c`, and the empty tail. A pattern with more than a leading `*.` before
//! its tail goes on in a tree of labels below it.
//!
//! A look-up costs one hash probe for each tail of a length in labels that occurs, and a few for each label in the tree, whatever
//! the size of the list: literal labels are found by hash, partial labels by hash for each *shape* (literal characters, length of
//! prefix and of suffix) that stands at that place. Patterns that differ only between two stars of one label (`*a*`, `*b*`)
//! share a shape and are compared one by one. A probe reads a slot, the listed pattern, its text: of a million patterns each is
//! a cache miss, and all that a look-up waits for.
//!
//! What may not be here: what a pattern permits (`decision`), how a pattern is written (`pattern`).

use std::hash::{Hash, Hasher};

use super::index::{Id, Index, count_step, tag_of};
use super::pattern::{HostPattern, LabelPattern, PartialLabel, labels_from_right};
use crate::names::DnsName;

/// A pattern as a service lists it.
#[derive(Debug)]
pub struct Listed {
    pattern: HostPattern,
    line: u32,
    service: u32,
    /// The same pattern, listed later.
    pub(super) next: Option<Id>,
}

impl Listed {
    pub(super) fn new(pattern: HostPattern, line: usize, service: u32) -> Self {
        let line = u32::try_from(line).expect("a configuration file of at most 4 GiB has fewer than 2^32 lines");
        Self { pattern, line, service, next: None }
    }

    pub fn pattern(&self) -> &HostPattern {
        &self.pattern
    }

    /// In the file, from 1.
    pub fn line(&self) -> usize {
        self.line as usize
    }

    /// The service's ordinal, from 0.
    pub(super) fn service(&self) -> u32 {
        self.service
    }
}

/// A label seen after the labels of its parents, or a tail, which has none. 32 bytes.
#[derive(Debug, Clone, Copy)]
struct Node {
    parent: Option<Id>,
    label_at: u32,
    label_len: u8,
    /// The pattern that ends here.
    here: Option<Id>,
    /// The pattern `*.` before this.
    leading: Option<Id>,
    /// The child for a whole `*`.
    one: Option<Id>,
    /// The shapes of the partial labels below.
    shapes: Option<Id>,
    /// Another partial label of the same shape, prefix and suffix.
    sibling: Option<Id>,
}

/// What partial labels are found by. The order is the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Shape {
    literals: std::cmp::Reverse<u8>,
    prefix: std::cmp::Reverse<u8>,
    suffix: std::cmp::Reverse<u8>,
}

impl Shape {
    fn of(label: PartialLabel<'_>) -> Self {
        // A label has at most 63 literal characters.
        let short = |length: usize| std::cmp::Reverse(u8::try_from(length).unwrap_or(u8::MAX));
        Self {
            literals: short(label.literals()),
            prefix: short(label.prefix().len()),
            suffix: short(label.suffix().len()),
        }
    }

    /// The prefix and the suffix that a label would have to share.
    fn frame(self, label: &str) -> Option<(&str, &str)> {
        if usize::from(self.literals.0) > label.len() {
            return None;
        }
        let prefix = label.get(..usize::from(self.prefix.0))?;
        let suffix = label.get(label.len().checked_sub(usize::from(self.suffix.0))?..)?;
        Some((prefix, suffix))
    }
}

/// The compiled patterns.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order they were inserted.
    pub(super) listed: Vec<Listed>,
    /// The first listed of each exact pattern by its text, of each `*.` before a tail by that tail.
    whole: Index,
    pub(super) leading: Depths,
    /// The tree of all other patterns.
    nodes: Vec<Node>,
    labels: String,
    shapes: Vec<Vec<Shape>>,
    index: Index,
    tails: Depths,
}

/// How many labels the tails of some patterns have.
#[derive(Debug, Default)]
pub(super) struct Depths(u128);

impl Depths {
    /// A pattern has at most 127 labels, and a star in one of them.
    fn add(&mut self, tail: &str) {
        self.0 |= 1 << dots(tail);
    }

    pub(super) fn have(&self, labels: usize) -> bool {
        self.0 >> labels & 1 == 1
    }
}

/// The one pattern that answers for a name, by all who list it in the order they were inserted; there is at least one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) table: &'a Table,
    pub(super) first: Id,
}

impl<'a> Found<'a> {
    pub(super) fn first(self) -> &'a Listed {
        &self.table.listed[self.first.index()]
    }

    pub(super) fn listed(self) -> impl Iterator<Item = &'a Listed> {
        let table = self.table;
        std::iter::successors(Some(self.first()), move |listed| Some(&table.listed[listed.next?.index()]))
    }
}

impl Table {
    /// Adds a pattern, behind those that list the same.
    ///
    /// # Errors
    /// It and the first of those for which `excludes` holds; then it is not added.
    pub(super) fn insert(&mut self, new: Listed, excludes: impl Fn(&Listed) -> bool) -> Result<(), (Listed, &Listed)> {
        let id = Id::of_index(self.listed.len());
        let mut end = self.first_or_set(&new.pattern, id);
        if end == id {
            self.listed.push(new);
            return Ok(());
        }
        loop {
            let before = &self.listed[end.index()];
            if excludes(before) {
                return Err((new, &self.listed[end.index()]));
            }
            let Some(next) = before.next else { break };
            end = next;
        }
        self.listed[end.index()].next = Some(id);
        self.listed.push(new);
        Ok(())
    }

    /// Gives back what was reserved for growth.
    pub(super) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.labels.shrink_to_fit();
        self.listed.shrink_to_fit();
    }

    /// All that `service` lists, which was inserted in the order of the services.
    pub(super) fn of_service(&self, service: u32) -> &[Listed] {
        let from = self.listed.partition_point(|listed| listed.service < service);
        let to = self.listed.partition_point(|listed| listed.service <= service);
        &self.listed[from..to]
    }

    /// The best of the patterns that match `name`.
    pub(super) fn lookup(&self, name: &DnsName) -> Option<Found<'_>> {
        let name = name.as_str();
        self.whole(name).or_else(|| self.starred(name)).map(|first| Found { table: self, first })
    }

    fn starred(&self, name: &str) -> Option<Id> {
        let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        ends.zip((0..=dots(name)).rev()).find_map(|(at, labels)| {
            let (rest, tail) = name.split_at(at);
            let root = if self.tails.have(labels) { self.literal(None, tail) } else { None };
            let found = root.and_then(|root| self.walk(root, Some(rest)));
            found.or_else(|| if self.leading.have(labels) { self.whole(tail) } else { None })
        })
    }

    /// The first listed of the exact pattern `key`, or of `*` and the tail `key`.
    pub(super) fn whole(&self, key: &str) -> Option<Id> {
        count_step();
        self.whole.find(tag_of(|hasher| hasher.write(key.as_bytes())), |id| {
            let text = self.listed[id.index()].pattern.as_str();
            text.strip_prefix('*').unwrap_or(text) == key
        })
    }

    /// The first that lists `pattern`; where none does, that is `id` from now on.
    fn first_or_set(&mut self, pattern: &HostPattern, id: Id) -> Id {
        let (stars, tail) = pattern.split_at_tail();
        if stars.is_empty() || stars == "*" {
            if let Some(first) = self.whole(tail) {
                return first;
            }
            self.whole.insert(tag_of(|hasher| hasher.write(tail.as_bytes())), id);
            if stars == "*" {
                self.leading.add(tail);
            }
            return id;
        }
        self.tails.add(tail);
        let mut at = self.literal_or_new(None, tail);
        for label in labels_from_right(stars) {
            at = match label {
                LabelPattern::Literal(text) => self.literal_or_new(Some(at), text),
                LabelPattern::Partial(partial) => self.partial_or_new(at, partial),
                LabelPattern::One => self.one_or_new(at),
                LabelPattern::Leading => return *self.nodes[at.index()].leading.get_or_insert(id),
            }
        }
        *self.nodes[at.index()].here.get_or_insert(id)
    }

    /// `rest` is what stands left of the labels already read. As deep as the deepest pattern, at most 127 labels.
    fn walk(&self, at: Id, rest: Option<&str>) -> Option<Id> {
        count_step();
        let node = self.node(at);
        let Some(rest) = rest else { return node.here };
        let (left, label) = rest.rsplit_once('.').map_or((None, rest), |(left, label)| (Some(left), label));
        if let Some(found) = self.literal(Some(at), label).and_then(|child| self.walk(child, left)) {
            return Some(found);
        }
        for &shape in node.shapes.map_or(&[][..], |id| &self.shapes[id.index()]) {
            if let Some(found) = self.walk_partial(at, shape, label, left) {
                return Some(found);
            }
        }
        node.one.and_then(|child| self.walk(child, left)).or(node.leading)
    }

    fn walk_partial(&self, at: Id, shape: Shape, label: &str, left: Option<&str>) -> Option<Id> {
        count_step();
        let (prefix, suffix) = shape.frame(label)?;
        let head = self.partial(at, shape, prefix, suffix)?;
        if self.node(head).sibling.is_none() {
            return PartialLabel(self.label(head)).matches(label).then(|| self.walk(head, left)).flatten();
        }
        let fits = |id: &Id| {
            count_step();
            PartialLabel(self.label(*id)).matches(label)
        };
        let mut fitting: Vec<Id> = self.siblings(head).filter(fits).collect();
        fitting.sort_unstable_by_key(|id| self.label(*id));
        fitting.into_iter().find_map(|child| self.walk(child, left))
    }

    fn literal(&self, parent: Option<Id>, label: &str) -> Option<Id> {
        count_step();
        self.index.find(tag_of_literal(parent, label), |id| self.node(id).parent == parent && self.label(id) == label)
    }

    /// The first of the children with this shape, prefix and suffix.
    fn partial(&self, parent: Id, shape: Shape, prefix: &str, suffix: &str) -> Option<Id> {
        self.index.find(tag_of_partial(parent, shape, prefix, suffix), |id| {
            let label = PartialLabel(self.label(id));
            self.node(id).parent == Some(parent)
                && label.0.contains('*')
                && Shape::of(label) == shape
                && label.prefix() == prefix
                && label.suffix() == suffix
        })
    }

    fn siblings(&self, head: Id) -> impl Iterator<Item = Id> {
        std::iter::successors(Some(head), |id| self.node(*id).sibling)
    }

    fn literal_or_new(&mut self, parent: Option<Id>, label: &str) -> Id {
        if let Some(child) = self.literal(parent, label) {
            return child;
        }
        let child = self.push_node(parent, label);
        self.index.insert(tag_of_literal(parent, label), child);
        child
    }

    fn one_or_new(&mut self, parent: Id) -> Id {
        if let Some(child) = self.node(parent).one {
            return child;
        }
        let child = self.push_node(Some(parent), "*");
        self.nodes[parent.index()].one = Some(child);
        child
    }

    fn partial_or_new(&mut self, parent: Id, label: PartialLabel<'_>) -> Id {
        if let Some(child) = self.literal(Some(parent), label.0) {
            return child;
        }
        let shape = Shape::of(label);
        let head = self.partial(parent, shape, label.prefix(), label.suffix());
        let child = self.push_node(Some(parent), label.0);
        // Under its whole text too, by which the same label is found again; no name has a star in it.
        self.index.insert(tag_of_literal(Some(parent), label.0), child);
        match head {
            Some(head) => {
                self.nodes[child.index()].sibling = self.node(head).sibling;
                self.nodes[head.index()].sibling = Some(child);
            }
            None => self.index.insert(tag_of_partial(parent, shape, label.prefix(), label.suffix()), child),
        }
        self.add_shape(parent, shape);
        child
    }

    fn add_shape(&mut self, parent: Id, shape: Shape) {
        let id = self.node(parent).shapes.unwrap_or_else(|| {
            self.shapes.push(Vec::new());
            Id::of_index(self.shapes.len() - 1)
        });
        self.nodes[parent.index()].shapes = Some(id);
        let shapes = &mut self.shapes[id.index()];
        if let Err(place) = shapes.binary_search(&shape) {
            shapes.insert(place, shape);
        }
    }

    fn push_node(&mut self, parent: Option<Id>, label: &str) -> Id {
        let id = Id::of_index(self.nodes.len());
        let label_at = u32::try_from(self.labels.len()).expect("a configuration file is smaller than 4 GiB");
        let label_len = u8::try_from(label.len())
            .expect("a label has 63 literal characters and at most 64 stars, a tail at most 253 octets");
        self.labels.push_str(label);
        self.nodes.push(Node {
            parent,
            label_at,
            label_len,
            here: None,
            leading: None,
            one: None,
            shapes: None,
            sibling: None,
        });
        id
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }

    fn label(&self, id: Id) -> &str {
        let node = self.node(id);
        let start = node.label_at as usize;
        &self.labels[start..start + usize::from(node.label_len)]
    }
}

pub(super) fn dots(text: &str) -> usize {
    text.bytes().filter(|&b| b == b'.').count()
}

fn tag_of_literal(parent: Option<Id>, label: &str) -> u32 {
    tag_of(|hasher| {
        hasher.write_u32(parent.map_or(0, Id::number));
        hasher.write(label.as_bytes());
    })
}

fn tag_of_partial(parent: Id, shape: Shape, prefix: &str, suffix: &str) -> u32 {
    tag_of(|hasher| (parent.number(), shape, prefix, suffix).hash(hasher))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::index::STEPS;

    fn table<T: AsRef<str>>(patterns: &[T]) -> Table {
        let mut table = Table::default();
        for text in patterns {
            let pattern = HostPattern::parse(text.as_ref()).expect("a pattern");
            table.insert(Listed::new(pattern, 1, 0), |_| false).expect("nothing is excluded");
        }
        table
    }

    fn name(text: &str) -> DnsName {
        DnsName::parse(text.as_bytes()).expect(text)
    }

    fn winner<'a>(table: &'a Table, host: &str) -> Option<&'a str> {
        table.lookup(&name(host)).map(|found| found.first().pattern().as_str())
    }

    #[test]
    fn the_more_specific_label_from_the_right_wins() {
        let patterns = [
            "*.example.com",
            "a.example.com",
            "a*.example.com",
            "x.*.example.com",
            "*.b.example.com",
            "x.b*.example.com",
            "*.*.example.com",
            "x.b.example.com",
            "*",
        ];
        let table = table(&patterns);
        for (host, expected) in [
            ("a.example.com", "a.example.com"),
            ("ab.example.com", "a*.example.com"),
            ("b.example.com", "*.example.com"),
            ("x.b.example.com", "x.b.example.com"),
            ("y.b.example.com", "*.b.example.com"),
            ("x.bc.example.com", "x.b*.example.com"),
            ("x.c.example.com", "x.*.example.com"),
            // Literal `b` first, but nothing below it fits: back to `b*`, then to `*`.
            ("y.bc.example.com", "*.*.example.com"),
            ("y.c.example.com", "*.*.example.com"),
            ("x.a.example.com", "x.*.example.com"),
            ("y.a.example.com", "*.*.example.com"),
            ("z.x.b.example.com", "*.b.example.com"),
            ("z.x.c.example.com", "*.*.example.com"),
            ("example.com", "*"),
            ("com", "*"),
        ] {
            assert_eq!(winner(&table, host), Some(expected), "{host}");
        }
    }

    #[test]
    fn a_better_beginning_without_an_end_gives_way() {
        let patterns = ["a.b.example.com", "c.b*.example.com", "d.*.example.com", "*.test", "x.y.allowed.test"];
        let table = table(&patterns);
        for (host, expected) in [
            ("a.b.example.com", Some("a.b.example.com")),
            ("c.b.example.com", Some("c.b*.example.com")),
            ("d.b.example.com", Some("d.*.example.com")),
            ("e.b.example.com", None),
            ("b.example.com", None),
            ("example.com", None),
            ("a.a.b.example.com", None),
            ("x.y.allowed.test", Some("x.y.allowed.test")),
            ("z.y.allowed.test", Some("*.test")),
            ("y.allowed.test", Some("*.test")),
            ("allowed.test", Some("*.test")),
            ("test", None),
        ] {
            assert_eq!(winner(&table, host), expected, "{host}");
        }
    }

    #[test]
    fn partial_labels_have_one_order() {
        let patterns = [
            "*.x.test",
            "a*.x.test",
            "*a.x.test",
            "ab*.x.test",
            "a*b.x.test",
            "*ab.x.test",
            "*b*.x.test",
            "*a*.x.test",
            "a*a*b.x.test",
            "a*b*b.x.test",
            "a*bb.x.test",
        ];
        let table = table(&patterns);
        for (host, expected) in [
            ("a.x.test", "a*.x.test"),
            ("xa.x.test", "*a.x.test"),
            ("ax.x.test", "a*.x.test"),
            ("abx.x.test", "ab*.x.test"),
            ("ab.x.test", "ab*.x.test"),
            ("axb.x.test", "a*b.x.test"),
            ("xab.x.test", "*ab.x.test"),
            ("xbx.x.test", "*b*.x.test"),
            ("xabx.x.test", "*a*.x.test"),
            ("axabb.x.test", "a*bb.x.test"),
            ("axabxb.x.test", "a*a*b.x.test"),
            ("axbxb.x.test", "a*b*b.x.test"),
            ("x.x.test", "*.x.test"),
        ] {
            assert_eq!(winner(&table, host), Some(expected), "{host}");
        }
    }

    /// The reference: octet by octet, every pattern against every name, no table.
    fn naive_matches(pattern: &str, name: &str) -> bool {
        let (mut patterns, mut names) = (pattern.split('.').rev().peekable(), name.split('.').rev());
        while let Some(label) = patterns.next() {
            let Some(given) = names.next() else { return false };
            if label == "*" && patterns.peek().is_none() {
                return true;
            }
            if label != "*" && !naive_glob(label.as_bytes(), given.as_bytes()) {
                return false;
            }
        }
        names.next().is_none()
    }

    fn naive_glob(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|from| naive_glob(rest, &text[from..])),
            ([first, rest @ ..], [head, tail @ ..]) => first == head && naive_glob(rest, tail),
            (_, []) => false,
        }
    }

    /// One key for each label from the right; the greatest wins.
    fn naive_rank(pattern: &str) -> Vec<(u8, usize, usize, usize, std::cmp::Reverse<&str>)> {
        let labels: Vec<&str> = pattern.split('.').collect();
        let rank = |(at, label): (usize, &&'_ str)| match *label {
            "*" => (u8::from(at > 0), 0, 0, 0),
            _ if !label.contains('*') => (3, 0, 0, 0),
            _ => {
                let literals = label.chars().filter(|c| *c != '*').count();
                (2, literals, label.find('*').unwrap_or(0), label.len() - 1 - label.rfind('*').unwrap_or(0))
            }
        };
        let keys = labels.iter().enumerate().rev().map(rank);
        keys.zip(labels.iter().rev()).map(|((a, b, c, d), label)| (a, b, c, d, std::cmp::Reverse(*label))).collect()
    }

    fn naive_winner<'a>(patterns: &'a [String], name: &str) -> Option<&'a str> {
        let matching = patterns.iter().map(String::as_str).filter(|pattern| naive_matches(pattern, name));
        matching.max_by_key(|pattern| naive_rank(pattern))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn c14_the_table_agrees_with_the_reference(
            patterns in prop::collection::btree_set("([abc]|\\*|[ab]{1,3}|[ab]?(\\*[ab]{1,2}){1,3}\\*?)(\\.([ab]|\\*|a\\*|\\*b|ab|a\\*b)){0,4}", 1..24),
            names in prop::collection::vec("[ab]{1,5}(\\.[abc]{1,3}){0,4}", 1..24),
        ) {
            let patterns: Vec<String> = patterns.into_iter().collect();
            let table = table(&patterns);
            for host in names {
                prop_assert_eq!(winner(&table, &host), naive_winner(&patterns, &host), "{} in {:?}", host, patterns);
            }
        }

        /// Names one step from a pattern: its stars filled in with nothing, a letter, two or three labels; a label more or less.
        #[test]
        fn c14_the_table_agrees_with_the_reference_next_to_its_patterns(
            patterns in prop::collection::btree_set(
                "([ab]|\\*|a\\*|\\*b|\\*a\\*)(\\.([ab]|\\*|[ab]\\*)){0,2}(\\.[ab]{1,9}){0,4}|(\\*\\.)?([ab]\\.){1,6}[ab]", 1..40),
            filled in prop::collection::vec("|a|b|ab|a\\.b|b\\.a\\.b", 1..8),
        ) {
            let patterns: Vec<String> = patterns.into_iter().collect();
            let table = table(&patterns);
            for pattern in &patterns {
                let hosts = filled.iter().map(|filled| pattern.replace('*', filled));
                for host in hosts.flat_map(|host| [format!("a.{host}"), format!("{host}.a"), format!("b{host}"), host]) {
                    let less = host.split_once('.').map_or("", |(_, less)| less);
                    for host in [host.as_str(), less].into_iter().filter_map(|host| DnsName::parse(host.as_bytes()).ok()) {
                        let expected = naive_winner(&patterns, host.as_str());
                        prop_assert_eq!(winner(&table, host.as_str()), expected, "{} in {:?}", host, patterns);
                    }
                }
            }
        }

        #[test]
        fn one_pattern_alone_agrees_with_the_reference(
            text in "([abc]|\\*|[ab]?(\\*[ab]{1,2}){1,3}\\*?)(\\.([ab]|\\*|a\\*|\\*b)){0,3}", host in "[ab]{1,5}(\\.[ab]{1,2}){0,3}",
        ) {
            let pattern = HostPattern::parse(&text).expect("a pattern");
            prop_assert_eq!(pattern.matches(&name(&host)), naive_matches(&text, &host), "{} against {}", text, host);
        }
    }

    #[test]
    fn c14_a_quarter_of_a_million_names_one_character_away() {
        let patterns =
            ["login.allowed.test", "*.files.allowed.test", "*cdn.allowed.test", "a.*.b.allowed.test"].map(String::from);
        let table = table(&patterns);
        let seeds = ["login.allowed.test", "x.files.allowed.test", "xcdn.allowed.test", "a.m.b.allowed.test"];
        // A linear congruential generator (Knuth's MMIX): the same names in every run.
        let mut state = 0x5eed_u64;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % limit
        };
        let mut allowed = 0;
        for _ in 0..250_000 {
            let mut host = seeds[below(seeds.len())].as_bytes().to_vec();
            let (at, character) = (below(host.len()), b"abcdefghijklmnopqrstuvwxyz0123456789.-_"[below(39)]);
            match below(3) {
                0 => host[at] = character,
                1 => host.insert(at, character),
                _ => drop(host.remove(at)),
            }
            let Ok(read) = DnsName::parse(&host) else { continue };
            let found = winner(&table, read.as_str());
            assert_eq!(found, naive_winner(&patterns, read.as_str()), "{read}");
            allowed += usize::from(found.is_some());
        }
        assert!((10_000..200_000).contains(&allowed), "{allowed} allowed: both verdicts are to be seen");
    }

    #[test]
    fn c14_as_many_labels_as_a_name_can_have() {
        let labels = |count: usize| vec!["a"; count].join(".");
        let (most, fewer) = (labels(127), labels(126));
        let patterns = [labels(127), labels(126), format!("*.{}", labels(126)), format!("*b.{}", labels(125))];
        let exact = table(&patterns);
        assert_eq!(winner(&exact, &most), Some(&*most));
        assert_eq!(winner(&exact, &fewer), Some(&*fewer));
        let starred = table(&patterns[2..]);
        assert_eq!(winner(&starred, &most), Some(&*patterns[2]));
        assert_eq!(winner(&starred, &fewer), None);
        assert_eq!(winner(&starred, &format!("b.{}", labels(125))), Some(&*patterns[3]));
    }

    /// The most steps that one of `names` took.
    fn steps(table: &Table, names: &[&str]) -> usize {
        let cost = |host: &&str| {
            STEPS.set(0);
            table.lookup(&name(host));
            STEPS.get()
        };
        names.iter().map(cost).max().unwrap_or(0)
    }

    /// A million rules: what a look-up costs is in its steps, and not in their number.
    #[test]
    fn h09_the_steps_of_a_look_up_do_not_grow_with_the_list() {
        let kinds: [fn(usize) -> String; 6] = [
            |n| format!("host{n}.allowed.test"),
            |n| format!("*.host{n}.test"),
            |n| format!("host{n}*.allowed.test"),
            |n| format!("*host{n}.allowed.test"),
            |n| format!("a*host{n}.allowed.test"),
            |n| format!("a.*.host{n}*.allowed.test"),
        ];
        let names = [
            "host7.allowed.test",
            "x.host7.test",
            "xhost7.allowed.test",
            "ahost7.allowed.test",
            "no.allowed.test",
            "a.b.host7.allowed.test",
            "host7777777.allowed.test",
            "unknown.example",
        ];
        let sized = |count: usize| {
            let patterns: Vec<String> = (0..count).flat_map(|n| kinds.map(|kind| kind(n))).collect();
            steps(&table(&patterns), &names)
        };
        // Each number of digits makes a shape for each partial kind; clusters of the hash index vary a little.
        let (small, large) = (sized(1_001), sized(170_000));
        assert!(large <= small + small / 2, "{small} steps, then {large}");
        assert!(large < 150, "{large} steps");
        // But for patterns of one shape that stand at one place: of these each is looked at, and once.
        let between_stars: Vec<String> = (1_000..2_000).map(|n| format!("*host{n}*.allowed.test")).collect();
        let one_by_one = steps(&table(&between_stars), &names);
        assert!(one_by_one < 1_050, "{one_by_one} steps");
    }
}
