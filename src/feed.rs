//! Lists of endpoints that a vendor publishes: read strictly, compared with what is in force, kept with who approved them.
//!
//! | file | is |
//! |---|---|
//! | [`endpoints`] | Microsoft's answer to `/endpoints`, taken whole or refused whole |
//! | [`places`] | which part of the catalogue's entry takes which host, and which hosts nothing takes |
//! | [`changes`] | Microsoft's answer to `/changes`: from which day on an added host is used |
//! | [`change`] | what another feed changes, part by part and set by set |
//! | [`leave`] | changes that need nobody, because the site has said so beforehand |
//! | [`hits`] | how often the record has the hosts of a change |
//! | [`state`] | what is kept of a feed: where it is from, who approved it and when |
//! | [`shelf`] | the folder of states: pending, and every one that was approved |
//! | [`poll`] | when the vendor may be asked, and whether there is something newer |
//!
//! A feed names what a vendor uses, not what a site wants: nothing in here changes the policy before somebody approved it. What may
//! not be here: TOML, the network, words for a terminal.

pub mod change;
pub mod changes;
pub mod endpoints;
pub mod hits;
pub mod leave;
pub mod places;
pub mod poll;
pub mod shelf;
pub mod state;

use serde::de::DeserializeOwned;
use serde_json::error::Category as Kind;

use self::endpoints::{MAX_OCTETS, Refusal};

/// The one entry of the catalogue whose hosts a feed replaces.
pub const ENTRY: &str = "microsoft-365";

/// The version of the list that the program's own entry was made from.
pub const OWN_VERSION: &str = "2026081400";

/// Text of a stranger as it may be shown: what is not printable ASCII is escaped, and it is cut.
pub fn printable(text: &str) -> String {
    const MOST: usize = 300;
    let shown = text.chars().take(MOST).map(|c| match c {
        ' '..='~' => c.to_string(),
        c => c.escape_unicode().to_string(),
    });
    let cut = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    format!("{}{cut}", shown.collect::<String>())
}

/// One of Microsoft's lists, `of` endpoint sets or changes. `another` says what a text is that is none, where that can be known.
fn list<T: DeserializeOwned>(
    octets: &[u8],
    of: &str,
    another: fn(&[u8], Kind) -> Option<&'static str>,
) -> Result<Vec<T>, Refusal> {
    if octets.len() > MAX_OCTETS {
        let size = octets.len();
        return Err(Refusal::one(format!("{size} octets, and a list of {of} has at most {MAX_OCTETS}")));
    }
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    serde_json::from_slice(octets).map_err(|error| {
        let (kind, detail) = (error.classify(), printable(&error.to_string()));
        Refusal::one(match (another(octets, kind), kind) {
            (Some(another), _) => another.to_owned(),
            (None, Kind::Eof) => format!("cut short ({detail}): carry the whole file over once more"),
            (None, Kind::Syntax) => format!("not JSON ({detail})"),
            (None, Kind::Data | Kind::Io) => format!("not Microsoft's list of {of} ({detail})"),
        })
    })
}

/// Whether it is a list whose first object has this key.
fn begins_with(octets: &[u8], key: &str) -> bool {
    let list: serde_json::Value = serde_json::from_slice(octets).unwrap_or_default();
    list.get(0).is_some_and(|first| first.get(key).is_some())
}
