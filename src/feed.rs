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
