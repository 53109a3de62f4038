//! Changes that the site has given leave for beforehand, by kind and category: `added:optimize`, `removed`.
//!
//! What may not be here: approving (`shelf`).

use super::change::{Changes, HostChange, Kind};
use super::endpoints::{Category, Feed};
use super::places::{BROAD, NEW_SIGN_IN};

/// One word of `[catalog] auto_approve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    kind: Word,
    /// `None`: whatever the category of the sets that list the host.
    category: Option<Category>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Added,
    Removed,
    Widened,
    Narrowed,
}

const WORDS: [(&str, Word); 4] =
    [("added", Word::Added), ("removed", Word::Removed), ("widened", Word::Widened), ("narrowed", Word::Narrowed)];
const CATEGORIES: [(&str, Category); 3] =
    [("optimize", Category::Optimize), ("allow", Category::Allow), ("default", Category::Default)];

impl Leave {
    /// `added`, or with a category `added:allow`; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, category) = text.split_once(':').map_or((text, None), |(kind, category)| (kind, Some(category)));
        let kind = WORDS.iter().find(|(word, _)| *word == kind)?.1;
        let category = match category {
            None => None,
            Some(category) => Some(CATEGORIES.iter().find(|(word, _)| *word == category)?.1),
        };
        Some(Self { kind, category })
    }

    fn covers(self, change: &HostChange, feed: &Feed) -> bool {
        let kind = match change.kind {
            Kind::Added => Word::Added,
            Kind::Removed => Word::Removed,
            Kind::Widened(_) => Word::Widened,
            Kind::Narrowed(_) => Word::Narrowed,
        };
        let fits =
            |id: &u32| feed.set(*id).is_some_and(|set| self.category.is_none_or(|category| set.category == category));
        // Of several sets each has to be of the category: the strictest reading.
        kind == self.kind && !change.sets.is_empty() && change.sets.iter().all(fits)
    }
}

/// The changes that somebody has to decide. What is new under or beside hosts of the sign-in always is one of them.
pub fn without_leave<'c>(changes: &'c Changes, old: &Feed, new: &Feed, leaves: &[Leave]) -> Vec<&'c HostChange> {
    let covered = |change: &&HostChange| {
        let is_new = matches!(change.kind, Kind::Added | Kind::Widened(_));
        let feed = if is_new { new } else { old };
        let sensitive = is_new && [BROAD, NEW_SIGN_IN].contains(&change.part.as_str());
        !sensitive && leaves.iter().any(|leave| leave.covers(change, feed))
    };
    changes.hosts.iter().filter(|change| !covered(change)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::change::{Compared, compare};
    use crate::feed::places::{Provenance, compose};

    fn feed(sets: &[(u32, &str, &[&str])]) -> Feed {
        let set = |(id, category, urls): &(u32, &str, &[&str])| {
            format!(
                "{{\"id\":{id},\"serviceArea\":\"Common\",\"category\":\"{category}\",\"required\":true,\"urls\":{urls:?},\
                 \"tcpPorts\":\"443\"}}"
            )
        };
        let sets: Vec<_> = sets.iter().map(set).collect();
        Feed::parse(format!("[{}]", sets.join(",")).as_bytes()).expect("sound")
    }

    /// The hosts that somebody has to decide.
    fn due(old: &Feed, new: &Feed, leaves: &[&str]) -> Vec<String> {
        let program = crate::config::built_in();
        let own = program.entry(crate::feed::ENTRY).expect("there");
        let from = Provenance { url: "f".to_owned(), read: "2026-11-28".to_owned() };
        let (before, after) = (compose(own, &program, old, &from), compose(own, &program, new, &from));
        let changes = compare(&Compared { old: &before.entry, old_feed: Some(old), new: &after, new_feed: new });
        let leaves: Vec<_> = leaves.iter().map(|text| Leave::parse(text).expect(text)).collect();
        let due = without_leave(&changes, old, new, &leaves);
        due.iter().map(|change| change.host.to_string()).collect()
    }

    #[test]
    fn a_leave_is_a_kind_and_perhaps_a_category() {
        for text in ["added", "removed:default", "widened:allow", "narrowed:optimize"] {
            assert!(Leave::parse(text).is_some(), "{text}");
        }
        for text in ["", "all", "Added", "added:", "added:Allow", "added:allow:default", ":allow", "added allow"] {
            assert_eq!(Leave::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_what_there_is_leave_for_needs_nobody() {
        let old = feed(&[(46, "Allow", &["gone.example.com", "a.old.example"]), (47, "Default", &["x.example.com"])]);
        let new = feed(&[
            (46, "Allow", &["new.example.com", "*.old.example"]),
            (47, "Default", &["x.example.com", "y.example.com"]),
        ]);
        for (leaves, expected) in [
            (&[][..], "*.old.example new.example.com y.example.com gone.example.com"),
            (&["added"], "*.old.example gone.example.com"),
            (&["added:allow", "removed:default"], "*.old.example y.example.com gone.example.com"),
            (&["added:allow", "removed:allow"], "*.old.example y.example.com"),
            (&["added", "removed", "widened:default"], "*.old.example"),
            (&["added", "removed", "widened"], ""),
        ] {
            assert_eq!(due(&old, &new, leaves).join(" "), expected, "{leaves:?}");
        }
        assert!(due(&old, &old, &[]).is_empty());
    }

    #[test]
    fn every_set_that_lists_a_host_has_to_be_of_the_category() {
        let old = feed(&[(46, "Allow", &["x.example.com"])]);
        let new = feed(&[(46, "Allow", &["x.example.com", "new.example.com"]), (47, "Default", &["new.example.com"])]);
        assert_eq!(due(&old, &new, &["added:allow"]), ["new.example.com"]);
        assert!(due(&old, &new, &["added:allow", "added"]).is_empty());
    }

    #[test]
    fn what_is_new_beside_the_sign_in_is_decided_by_somebody() {
        let old = feed(&[(56, "Allow", &["graph.microsoft.com"])]);
        let new = feed(&[(
            56,
            "Allow",
            &["graph.microsoft.com", "login9.microsoftonline.com", "*.login.microsoftonline.com"],
        )]);
        let all = ["added", "removed", "widened", "narrowed"];
        assert_eq!(due(&old, &new, &all), ["login9.microsoftonline.com", "*.login.microsoftonline.com"]);
        // Fewer of them need nobody.
        assert!(due(&new, &old, &all).is_empty());
    }
}
