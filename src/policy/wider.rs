//! Each pattern once, and the wider one above it, for those who look at the list as a whole.
//!
//! What may not be here: the look-up of a name.

use super::HostPattern;
use super::index::Id;
use super::table::{Found, Table, dots};

impl Table {
    /// Each pattern once, by all who list it, in the order in which it was first inserted.
    pub(super) fn patterns(&self) -> impl Iterator<Item = Found<'_>> {
        let mut later = vec![false; self.listed.len()];
        for next in self.listed.iter().filter_map(|listed| listed.next) {
            later[next.index()] = true;
        }
        let first = later.into_iter().enumerate().filter(|(_, later)| !later).map(|(index, _)| Id::of_index(index));
        first.map(|first| Found { table: self, first })
    }

    /// The nearest pattern of a leading `*.` and literal labels that matches every name of `pattern` and never wins one of them.
    /// Wider patterns of other forms are not looked for: few write them.
    pub(super) fn wider(&self, pattern: &HostPattern) -> Option<Found<'_>> {
        let text = pattern.as_str();
        let ends = text.match_indices('.').map(|(at, _)| at).chain([text.len()]);
        let tails = ends.map(|at| &text[at..]).filter(|tail| !tail.contains('*') && self.leading.have(dots(tail)));
        let found = tails.filter_map(|tail| self.whole(tail)).map(|first| Found { table: self, first });
        found.into_iter().find(|found| found.first().pattern() != pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Listed;
    use super::*;

    #[test]
    fn the_nearest_leading_star_above() {
        let mut table = Table::default();
        for (service, text) in (0..).zip([
            "*.a.test",
            "b.a.test",
            "*.b.a.test",
            "*.*.a.test",
            "c*.a.test",
            "a.test",
            "*",
            "*.a.test",
            "x.*.test",
        ]) {
            let pattern = HostPattern::parse(text).expect("a pattern");
            table.insert(Listed::new(pattern, 1, service), |_| false).expect("nothing is excluded");
        }
        let patterns: Vec<_> = table.patterns().map(|found| found.first().pattern().as_str().to_owned()).collect();
        assert_eq!(
            patterns,
            ["*.a.test", "b.a.test", "*.b.a.test", "*.*.a.test", "c*.a.test", "a.test", "*", "x.*.test"]
        );
        let listed: Vec<_> = table.patterns().map(|found| found.listed().count()).collect();
        assert_eq!(listed, [2, 1, 1, 1, 1, 1, 1, 1]);
        for (text, wider) in [
            ("b.a.test", Some("*.a.test")),
            ("*.b.a.test", Some("*.a.test")),
            ("x.b.a.test", Some("*.b.a.test")),
            ("*.*.a.test", Some("*.a.test")),
            ("c*.a.test", Some("*.a.test")),
            ("*.a.test", Some("*")),
            ("a.test", Some("*")),
            ("x.*.test", Some("*")),
            ("*", None),
        ] {
            let found = table.wider(&HostPattern::parse(text).expect("a pattern"));
            assert_eq!(found.map(|found| found.first().pattern().as_str()), wider, "{text}");
        }
    }
}
