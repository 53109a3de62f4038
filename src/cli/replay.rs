//! `sekisho replay`: what another configuration would have decided of what stands in a record, before it is put in force.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::SystemTime;

use serde::Serialize;

use super::records::{Records, foreign};
use super::{ConfigFile, DENIED, DONE, fail, say};
use crate::config::{Config, Scope};
use crate::learning::{Change, Compared, Hits, Replay, Seen};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    records: Records,
    /// For machines: a line for each change, then one with the sums
    #[arg(long)]
    json: bool,
}

/// A change, as `--json` has it.
#[derive(Serialize)]
struct Row {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    method: String,
    authority: String,
    from: String,
    to: String,
    rule: RuleAt,
    /// Of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    client: IpAddr,
}

#[derive(Serialize)]
struct RuleAt {
    id: String,
    name: String,
    /// `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Sums {
    attempts: u64,
    unchanged: u64,
    changed: u64,
    undecided: u64,
    unknown: u64,
    untold: u64,
    foreign_lines: u64,
}

pub(super) fn replay(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Scope::WithoutIssuingCa) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (rows, compared, seen) = match compare(&config, &arguments.records) {
        Ok(compared) => compared,
        Err(error) => return fail(&error),
    };
    let told = if arguments.json { json(&rows, &compared, &seen) } else { Ok(text(&rows, &compared, &seen)) };
    match told {
        Ok(told) => say(&told),
        Err(error) => return fail(&error),
    }
    if compared.changed == 0 { DONE.into() } else { DENIED.into() }
}

/// What would be decided otherwise than the records have it, in words.
///
/// # Errors
/// As [`Records::each`].
pub(super) fn replayed(config: &Config, records: &Records) -> Result<String, String> {
    let (rows, compared, seen) = compare(config, records)?;
    Ok(text(&rows, &compared, &seen))
}

fn compare(config: &Config, records: &Records) -> Result<(Vec<Row>, Compared, Seen), String> {
    let mut replay = Replay::of(&config.policy, config.site.enforcement.at(SystemTime::now()));
    let seen = records.each(|attempt| replay.note(attempt))?;
    let compared = replay.compared;
    let rows = replay.into_changes().into_iter().map(|change| row(config, change)).collect();
    Ok((rows, compared, seen))
}

fn row(config: &Config, (change, hits): (Change, Hits)) -> Row {
    let place = hits.rule.line().map(|line| format!("{}:{line}", config.file.display()));
    Row {
        count: hits.count,
        group: change.group,
        method: change.method,
        authority: change.authority.to_string(),
        from: change.from.to_string(),
        to: change.to.to_string(),
        rule: RuleAt { id: hits.rule.id().to_owned(), name: hits.rule.name().to_owned(), place },
        at: hits.at,
        client: hits.client.ip(),
    }
}

fn json(rows: &[Row], compared: &Compared, seen: &Seen) -> Result<String, serde_json::Error> {
    let Compared { unchanged, changed, undecided, unknown, untold } = *compared;
    let attempts = unchanged + changed + undecided + unknown;
    let sums = Sums { attempts, unchanged, changed, undecided, unknown, untold, foreign_lines: seen.foreign };
    let mut lines = rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    lines.push(serde_json::to_string(&sums)?);
    Ok(lines.join("\n"))
}

fn text(rows: &[Row], compared: &Compared, seen: &Seen) -> String {
    let mut text = String::new();
    for row in rows {
        let group = row.group.as_deref().map_or_else(|| format!("{} (in no group)", row.client), str::to_owned);
        let at = row.at.as_ref().map_or_else(String::new, |at| format!(", first {at}"));
        let place = row.rule.place.as_ref().map_or_else(String::new, |place| format!(" at {place}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>8}  {group}: {} {}: {} -> {}\n          by {} {}{place}{at}",
            row.count, row.method, row.authority, row.from, row.to, row.rule.id, row.rule.name
        );
    }
    let Compared { unchanged, changed, undecided, unknown, untold } = *compared;
    if untold > 0 {
        let _ = writeln!(text, "{untold:>8}  of further flows, too many to be told apart");
    }
    if !rows.is_empty() {
        text.push('\n');
    }
    let attempts = unchanged + changed + undecided + unknown;
    let _ = writeln!(
        text,
        "{attempts} attempts: {unchanged} unchanged, {changed} changed ({} different), {undecided} on which nothing had been decided, \
         {unknown} of unknown clients or names{}.",
        rows.len(),
        foreign(seen)
    );
    text
}
