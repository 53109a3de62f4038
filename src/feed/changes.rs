//! Microsoft's answer to `/changes`: what became of endpoint sets since a version, and from which day on an added host is used.
//! Anything unexpected refuses it whole.
//!
//! Every key but `id`, `endpointSetId`, `disposition` and `version` may be missing. Words of `disposition` and `impact` are kept as they
//! come: nothing here depends on them, and there may be more of them one day. Source: MicrosoftDocs/microsoft-365-docs,
//! microsoft-365-ip-web-service.md. What may not be here: which hosts there are, for which the list itself is asked (`endpoints`).

use std::collections::{BTreeMap, HashSet};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::error::Category as Kind;
use time::{Date, Month};

use super::endpoints::{Feed, Refusal, host, is_plain, network, once};
use super::poll::is_version;
use super::{begins_with, list, printable};
use crate::policy::HostPattern;

/// Changes of an answer. About ten are published in a month.
const MAX_CHANGES: usize = 1_000;
/// Hosts of an answer, those added and those removed, and likewise addresses.
const MAX_HOSTS: usize = 2_000;
const MAX_NETWORKS: usize = 20_000;
/// Octets of a word. The longest known one, `RemovedDuplicateIpOrUrl`, has 23.
const MAX_WORD: usize = 50;
/// Octets of a description.
const MAX_TEXT: usize = 2_000;

/// An answer that holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    /// In ascending order of versions, then of ids; none where nothing has changed.
    pub changes: Vec<Announcement>,
}

/// One change of one endpoint set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub id: u32,
    /// The endpoint set's id.
    pub set: u32,
    /// `Change`, `Add`, `Remove`, or what the vendor writes.
    pub disposition: String,
    /// `AddedUrl`, `MovedIpOrUrl`, or what the vendor writes.
    pub impact: Option<String>,
    /// Of the list that has it first, ten digits.
    pub version: String,
    /// `effectiveDate`: the day from which on what is added is used.
    pub from: Option<Date>,
    /// Each once, in the answer's order.
    pub added: Vec<HostPattern>,
    pub removed: Vec<HostPattern>,
}

/// A change as Microsoft writes it; states are kept in this shape too, without what is not of hosts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    id: u32,
    endpoint_set_id: u32,
    disposition: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    impact: Option<String>,
    version: String,
    #[serde(skip_serializing)]
    change_description: Option<String>,
    #[serde(skip_serializing)]
    #[expect(dead_code, reason = "only its shape matters: the list itself has the values that hold")]
    previous: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(skip_serializing)]
    #[expect(dead_code, reason = "as `previous`")]
    current: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add: Option<Items>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove: Option<Items>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Items {
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_date: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ips: Vec<String>,
}

impl Announced {
    /// # Errors
    /// [`Refusal`]: cut short, no JSON, another shape, too large, or a value that is not as it must be.
    pub fn parse(octets: &[u8]) -> Result<Self, Refusal> {
        Self::judge(&list::<Written>(octets, "changes", another)?)
    }

    pub(super) fn judge(changes: &[Written]) -> Result<Self, Refusal> {
        let items = || changes.iter().flat_map(|change| [&change.add, &change.remove]).flatten();
        for (what, size, most) in [
            ("changes", changes.len(), MAX_CHANGES),
            ("urls", items().map(|items| items.urls.len()).sum(), MAX_HOSTS),
            ("ips", items().map(|items| items.ips.len()).sum(), MAX_NETWORKS),
        ] {
            if size > most {
                return Err(Refusal::one(format!("{size} {what}, and a list of changes has at most {most}")));
            }
        }
        let mut problems = Vec::new();
        let mut ids = HashSet::new();
        let mut judged = Vec::with_capacity(changes.len());
        for change in changes {
            if !ids.insert(change.id) {
                problems.push(format!("change {}: the same id a second time", change.id));
            }
            judged.push(judge(change, &mut problems));
        }
        if problems.is_empty() {
            judged.sort_by(|one, other| (&one.version, one.id).cmp(&(&other.version, other.id)));
            return Ok(Self { changes: judged });
        }
        Err(Refusal::of(problems))
    }

    pub(super) fn written(&self) -> Vec<Written> {
        self.changes.iter().map(written).collect()
    }

    /// The last change that added the host to one of these sets; to any set where there are none.
    pub fn adding(&self, host: &str, sets: &[u32]) -> Option<&Announcement> {
        self.last(sets, |change| has(&change.added, host))
    }

    /// The last change that removed the host from one of these sets; from any set where there are none.
    pub fn removing(&self, host: &str, sets: &[u32]) -> Option<&Announcement> {
        self.last(sets, |change| has(&change.removed, host))
    }

    fn last(&self, sets: &[u32], fits: impl Fn(&Announcement) -> bool) -> Option<&Announcement> {
        let of_set = |change: &&Announcement| sets.is_empty() || sets.contains(&change.set);
        self.changes.iter().rev().filter(of_set).find(|change| fits(change))
    }

    /// The first day on which the vendor uses a host that these sets list. `None` where that is not known: one of them lists it without
    /// a day, so that it may be in use by that one, or it was removed from a set, so that it was in use before.
    pub fn first_use(&self, host: &str, sets: &[u32]) -> Option<Date> {
        if self.removing(host, &[]).is_some() {
            return None;
        }
        let days: Option<Vec<Date>> = sets.iter().map(|set| self.adding(host, &[*set])?.from).collect();
        days?.into_iter().min()
    }

    /// Hosts of the list that the vendor does not use before a day after `today`, by that day.
    pub fn not_yet<'a>(&'a self, feed: &Feed, today: Date) -> BTreeMap<Date, Vec<&'a str>> {
        let coming = self.changes.iter().filter(|change| change.from.is_some_and(|from| from > today));
        let hosts: HashSet<&str> = coming.flat_map(|change| &change.added).map(HostPattern::as_str).collect();
        let mut by_day: BTreeMap<Date, Vec<&str>> = BTreeMap::new();
        for host in hosts {
            if let Some(from) = self.first_use(host, &feed.listing(host)).filter(|from| *from > today) {
                by_day.entry(from).or_default().push(host);
            }
        }
        by_day.values_mut().for_each(|hosts| hosts.sort_unstable());
        by_day
    }
}

fn has(hosts: &[HostPattern], host: &str) -> bool {
    hosts.iter().any(|known| known.as_str() == host)
}

fn another(octets: &[u8], kind: Kind) -> Option<&'static str> {
    let of_sets = kind == Kind::Data && begins_with(octets, "serviceArea");
    of_sets.then_some("the answer to /endpoints and not the one to /changes")
}

fn judge(change: &Written, problems: &mut Vec<String>) -> Announcement {
    let id = change.id;
    let mut say = |what: String| problems.push(format!("change {id}: {what}"));
    for (key, word) in [("disposition", Some(&change.disposition)), ("impact", change.impact.as_ref())] {
        if let Some(word) = word.filter(|word| word.trim().is_empty() || !is_plain(word, MAX_WORD)) {
            say(format!("{key} {:?}, which is not 1 to {MAX_WORD} printable ASCII characters", printable(word)));
        }
    }
    if let Some(text) = change.change_description.as_ref().filter(|text| !is_plain(text, MAX_TEXT)) {
        let shown = printable(text);
        say(format!("changeDescription {shown:?}, which is not at most {MAX_TEXT} printable ASCII characters"));
    }
    if !is_version(&change.version) {
        say(format!("version {:?}, which is not ten digits", printable(&change.version)));
    }
    let nothing = Items::default();
    let (add, remove) = (change.add.as_ref().unwrap_or(&nothing), change.remove.as_ref().unwrap_or(&nothing));
    let mut day = |text: &String| {
        let day = date(text);
        if day.is_none() {
            say(format!("effectiveDate {:?}, which is no day such as 20261201", printable(text)));
        }
        day
    };
    let from = add.effective_date.as_ref().and_then(&mut day);
    // A removal has none as of now; if it gets one it has to be a day.
    remove.effective_date.as_ref().map(&mut day);
    let mut hosts = |items: &Items| {
        for text in &items.ips {
            let _ = network(text).map_err(&mut say);
        }
        once(items.urls.iter().filter_map(|text| host(text).map_err(&mut say).ok()).collect())
    };
    Announcement {
        id,
        set: change.endpoint_set_id,
        disposition: change.disposition.clone(),
        impact: change.impact.clone(),
        version: change.version.clone(),
        from,
        added: hosts(add),
        removed: hosts(remove),
    }
}

/// `YYYYMMDD`.
fn date(text: &str) -> Option<Date> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let month: u8 = text.get(4..6)?.parse().ok()?;
    Date::from_calendar_date(text.get(..4)?.parse().ok()?, Month::try_from(month).ok()?, text.get(6..)?.parse().ok()?)
        .ok()
}

fn written(change: &Announcement) -> Written {
    let items = |from: Option<Date>, hosts: &[HostPattern]| {
        let effective_date = from.map(|day| format!("{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day()));
        let urls = hosts.iter().map(|host| host.as_str().to_owned()).collect();
        Some(Items { effective_date, urls, ips: Vec::new() }).filter(|items| *items != Items::default())
    };
    Written {
        id: change.id,
        endpoint_set_id: change.set,
        disposition: change.disposition.clone(),
        impact: change.impact.clone(),
        version: change.version.clone(),
        change_description: None,
        previous: None,
        current: None,
        add: items(change.from, &change.added),
        remove: items(None, &change.removed),
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
