//! What is kept of a feed: where it is from, and, once it was approved, by whom and when.
//!
//! What may not be here: files (`shelf`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::changes::{Announced, Written as WrittenChange};
use super::endpoints::{Feed, Written};
use super::places::Provenance;
use crate::policy::HostPattern;

/// Hosts that are remembered as gone; of more, those that went last.
const MAX_GONE: usize = 5_000;
/// Characters of a name, a note, an origin.
const MAX_WORDS: usize = 300;

/// A feed with where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// A file's name, or the URL that was asked.
    pub origin: String,
    /// When it was imported or fetched, RFC 3339, UTC.
    pub taken: String,
    /// What `/version` called it, where that was asked.
    pub version: Option<String>,
    /// SHA-256 of the octets as they came, hexadecimal.
    pub sha256: String,
    pub feed: Feed,
    /// What `/changes` told of it, where that was asked or carried in.
    pub announced: Option<Announced>,
}

/// One numbered file: what was put in force, by whom and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// From 1.
    pub number: u32,
    pub by: String,
    /// RFC 3339, UTC.
    pub at: String,
    pub note: Option<String>,
    /// The state whose content this is, where it was put back; 0: the program's own list.
    pub restores: Option<u32>,
    /// Hosts that a list in force before had and this one has not, with the number of the state since which.
    pub gone: BTreeMap<String, u32>,
    /// `None`: the program's own list.
    pub staged: Option<Staged>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenStaged {
    origin: String,
    taken: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    sha256: String,
    sets: Vec<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<WrittenChange>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenState {
    number: u32,
    by: String,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restores: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gone: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    feed: Option<WrittenStaged>,
}

impl Staged {
    pub fn new(feed: Feed, octets: &[u8], origin: &str, version: Option<String>, now: SystemTime) -> Self {
        Self { origin: words_of(origin), taken: moment(now), version, sha256: hex(octets), feed, announced: None }
    }

    /// 12 hexadecimal digits of the SHA-256 of the sets in their normal form: what a reviewer has seen, and approves.
    pub fn digest(&self) -> String {
        // Writing texts and numbers as JSON cannot fail.
        let sets = serde_json::to_vec(&self.feed.written()).unwrap_or_default();
        hex(&sets).chars().take(12).collect()
    }

    pub fn provenance(&self) -> Provenance {
        Provenance { url: self.origin.clone(), read: self.taken.chars().take(10).collect() }
    }

    pub(super) fn read(written: WrittenStaged) -> Result<Self, String> {
        let feed = Feed::judge(&written.sets).map_err(|refusal| refusal.to_string())?;
        let announced = written.changes.as_deref().map(Announced::judge).transpose();
        let announced = announced.map_err(|refusal| refusal.to_string())?;
        let WrittenStaged { origin, taken, version, sha256, .. } = written;
        let staged = Self { origin, taken, version, sha256, feed, announced };
        let words = [Some(&staged.origin), staged.version.as_ref(), Some(&staged.sha256)];
        let sound = words.into_iter().flatten().all(|text| is_words(text)) && is_moment(&staged.taken);
        sound.then_some(staged).ok_or_else(|| "origin, taken, version or sha256 is not as sekisho writes it".to_owned())
    }

    pub(super) fn written(&self) -> WrittenStaged {
        WrittenStaged {
            origin: self.origin.clone(),
            taken: self.taken.clone(),
            version: self.version.clone(),
            sha256: self.sha256.clone(),
            sets: self.feed.written(),
            changes: self.announced.as_ref().map(Announced::written),
        }
    }
}

impl State {
    /// What is only tried: it has no number and is nobody's.
    pub fn trial(staged: Staged) -> Self {
        let at = staged.taken.clone();
        Self {
            number: 0,
            by: String::new(),
            at,
            note: None,
            restores: None,
            gone: BTreeMap::new(),
            staged: Some(staged),
        }
    }

    pub(super) fn read(written: WrittenState) -> Result<Self, String> {
        let WrittenState { number, by, at, note, restores, gone, feed } = written;
        if ![Some(&by), note.as_ref()].into_iter().flatten().all(|text| is_words(text)) || !is_moment(&at) {
            return Err("by, at or note is not as sekisho writes it".to_owned());
        }
        Ok(Self { number, by, at, note, restores, gone, staged: feed.map(Staged::read).transpose()? })
    }

    pub(super) fn written(&self) -> WrittenState {
        WrittenState {
            number: self.number,
            by: self.by.clone(),
            at: self.at.clone(),
            note: self.note.clone(),
            restores: self.restores,
            gone: self.gone.clone(),
            feed: self.staged.as_ref().map(Staged::written),
        }
    }
}

/// Who decides, and what he says to it.
#[derive(Debug, Clone)]
pub struct Words {
    pub by: String,
    pub note: Option<String>,
}

impl Words {
    pub(super) fn judge(&self) -> Result<(), WordsError> {
        match () {
            () if !is_words(&self.by) => Err(WordsError("--by")),
            () if self.note.as_ref().is_some_and(|note| !is_words(note)) => Err(WordsError("--note")),
            () => Ok(()),
        }
    }

    /// What comes after `before`, the newest state as far as it can be read, whose number is `newest`.
    pub(super) fn state(&self, next: Next<'_>, restores: Option<u32>, now: SystemTime) -> State {
        let number = next.newest + 1;
        let gone = gone(next.before, next.staged.as_ref(), number);
        State {
            number,
            by: self.by.clone(),
            at: moment(now),
            note: self.note.clone(),
            restores,
            gone,
            staged: next.staged,
        }
    }
}

/// What a state is made of.
pub(super) struct Next<'s> {
    pub newest: u32,
    pub before: Option<&'s State>,
    pub staged: Option<Staged>,
}

fn gone(before: Option<&State>, staged: Option<&Staged>, number: u32) -> BTreeMap<String, u32> {
    let mut gone = before.map(|state| state.gone.clone()).unwrap_or_default();
    // The program's own list is no list of the vendor's that something could be missing in.
    let Some(staged) = staged else { return gone };
    let had = before.and_then(|state| state.staged.as_ref()).into_iter().flat_map(|staged| &staged.feed.sets);
    for host in had.flat_map(|set| &set.hosts) {
        gone.entry(host.as_str().to_owned()).or_insert(number);
    }
    let has: HashSet<&str> = staged.feed.sets.iter().flat_map(|set| &set.hosts).map(HostPattern::as_str).collect();
    gone.retain(|host, _| !has.contains(host.as_str()));
    let mut last: Vec<_> = gone.into_iter().collect();
    last.sort_by_key(|(_, since)| Reverse(*since));
    last.truncate(MAX_GONE);
    last.into_iter().collect()
}

/// Words that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is 1 to {MAX_WORDS} printable characters on one line")]
pub struct WordsError(&'static str);

/// A file's name may hold anything.
fn words_of(text: &str) -> String {
    let text: String = text.chars().take(MAX_WORDS).map(|c| if is_no_text(c) { '?' } else { c }).collect();
    if text.trim().is_empty() { "?".to_owned() } else { text }
}

fn is_words(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_WORDS && !text.chars().any(is_no_text)
}

/// A control character, or one that turns the direction of what stands around it: `history` would show another name.
fn is_no_text(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_moment(text: &str) -> bool {
    text.is_ascii() && OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

/// RFC 3339 to the second, UTC.
pub(super) fn moment(now: SystemTime) -> String {
    let now = OffsetDateTime::from(now).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    now.format(&Rfc3339).unwrap_or_default()
}

fn hex(octets: &[u8]) -> String {
    digest(&SHA256, octets).as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
