//! What the record teaches: what was asked for and is not listed ([`Asked`], and the [`Block`]s proposed for it), and what another
//! policy would do with what was asked for before ([`Replay`]).
//!
//! `attempts` reads lines of a record, torn and foreign ones too, `asked` counts names, `suggest` makes blocks of them, `replay` asks a policy
//! again. A record is a file like any other, which somebody else may have written: every name in it passes [`crate::names::DnsName::parse`] before it is
//! used, and what is kept of it is bounded. What may not be here: the configuration's text, files, what is printed.

mod asked;
mod attempts;
mod replay;
mod suggest;

pub use self::asked::{Asked, Skipped, Tally};
pub use self::attempts::{Action, Attempt, Seen, each_attempt};
pub use self::replay::{Change, Compared, Hits, Replay, Verdict};
pub use self::suggest::{Block, Host, Of, suggest};

#[cfg(test)]
mod tests;
