//! `sekisho suggest`: what was asked for and is not listed, as `[[service]]` blocks to read, cut down and append.
//!
//! What stands outside of comments is made of parsed names, of the catalogue's references and of the configuration's own group names; what
//! a record says otherwise stands in comments, escaped, as a record may be written by anybody.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use super::records::{Records, foreign};
use super::{DONE, fail, report, say};
use crate::config::{self, Config, Scope};
use crate::learning::{Asked, Block, Of, Seen, Skipped, Tally, suggest as blocks};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    records: Records,
    /// The configuration that the blocks are for: what it decides is left out [default: sekisho.toml, where it is there]
    #[arg(long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn suggest(arguments: &Arguments) -> ExitCode {
    let config = match config(arguments) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let policy = config.as_ref().map(|config| &*config.policy);
    let mut asked = config.as_ref().map_or_else(Asked::default, |config| Asked::but_for(&config.restricted));
    let seen = match arguments.records.each(|attempt| asked.note(attempt, policy)) {
        Ok(seen) => seen,
        Err(error) => return fail(&error),
    };
    let catalogue =
        config.as_ref().map_or_else(|| Arc::new(config::built_in()), |config| Arc::clone(&config.catalogue));
    let days = asked.days;
    let (blocks, groups, skipped) = blocks(asked, &catalogue, policy);
    let mut text = heading(config.as_ref(), &blocks, days, &seen);
    for block in &blocks {
        describe(block, &groups, &mut text);
    }
    left_out(&skipped, config.is_some(), &mut text);
    say(&text);
    DONE.into()
}

/// The configuration that is named, or the usual one where it is there.
fn config(arguments: &Arguments) -> Result<Option<Config>, ExitCode> {
    let usual = PathBuf::from("sekisho.toml");
    let path = match &arguments.config {
        Some(path) => path,
        None if usual.exists() => &usual,
        None => return Ok(None),
    };
    config::load(path, Scope::WithoutIssuingCa, SystemTime::now()).map(Some).map_err(|error| report(&error))
}

fn heading(config: Option<&Config>, blocks: &[Block], days: Option<(u32, u32)>, seen: &Seen) -> String {
    let names: usize = blocks.iter().map(|block| block.hosts.len()).sum();
    let days = days.map_or_else(String::new, |(first, last)| format!(", {} to {}", day(first), day(last)));
    let beside = match config {
        Some(config) => format!("beside {:?}", config.file),
        None => "without a configuration: what yours decides already is not left out".to_owned(),
    };
    let mut text = format!(
        "# `sekisho suggest`, {beside}: {}{days}{}.\n",
        plural(seen.attempts, "line") + " of attempts",
        foreign(seen)
    );
    match blocks.len() {
        0 => text.push_str("# Nothing is proposed: nothing was let through by observing, or refused as not_allowlisted, that could be listed.\n"),
        n => {
            let _ = writeln!(
                text,
                "# {} for {}. A proposal, not an approval: take out what is not to be reached, then\n\
                 # `sekisho check` and `sekisho replay`. Behind the configuration, before its last line where that is site.last_line.\n\
                 # observed: only observing let it through. refused: as not_allowlisted.",
                plural(n as u64, "service"),
                plural(names as u64, "name"),
            );
        }
    }
    text
}

fn describe(block: &Block, groups: &[String], text: &mut String) {
    let days = plural(block.tally.days() as u64, "day");
    let _ = writeln!(text, "\n# {}, on {days}{}", how_often(&block.tally), by(&block.tally, groups));
    match &block.of {
        Of::Catalogue { reference, patterns, profiles } => {
            let _ = writeln!(text, "# Asked for, of the {} of {reference}:", plural(*patterns as u64, "pattern"));
            few_hosts(block, text);
            if !profiles.is_empty() {
                let _ = writeln!(
                    text,
                    "# Without mode = \"inspect\" and [service.tenant] with {} anybody's tenant can be signed in to.",
                    profiles.join(" or ")
                );
            }
        }
        Of::Domain { shared: Some(suffix), .. } => {
            let _ = writeln!(text, "# Under {suffix} anybody may get a name: make sure whose these are.");
        }
        Of::Domain { shared: None, .. } => {}
    }
    let _ = writeln!(text, "[[service]]\nname = {}", quoted(&block.name));
    match &block.of {
        Of::Catalogue { reference, .. } => {
            let _ = writeln!(text, "catalog = {}", quoted(reference));
        }
        Of::Domain { port, plain_http, .. } => {
            text.push_str("hosts = [\n");
            for host in &block.hosts {
                let _ = writeln!(text, "    {},  # {}", quoted(host.name.as_str()), how_often(&host.tally));
            }
            text.push_str("]\n");
            if *plain_http {
                let _ = writeln!(text, "ports = [{port}]\nplain_http = true");
            }
        }
    }
    if let Some(clients) = &block.clients {
        let clients: Vec<_> = clients.iter().map(|name| quoted(name)).collect();
        let _ = writeln!(text, "clients = [{}]", clients.join(", "));
    }
}

/// The names of a part of the catalogue that were asked for.
fn few_hosts(block: &Block, text: &mut String) {
    const SHOWN: usize = 10;
    for host in block.hosts.iter().take(SHOWN) {
        let _ = writeln!(text, "#   {} ({})", host.name, how_often(&host.tally));
    }
    if block.hosts.len() > SHOWN {
        let _ = writeln!(text, "#   and {} more", block.hosts.len() - SHOWN);
    }
}

fn how_often(tally: &Tally) -> String {
    let counted = [(tally.observed, "observed"), (tally.refused, "refused")];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    counted.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

/// The groups of clients, as the record names them: in a comment, so that nothing in them may end it.
fn by(tally: &Tally, groups: &[String]) -> String {
    let (seen, all) = tally.groups();
    let mut seen = seen.to_vec();
    seen.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = seen.iter().filter_map(|(place, count)| Some(format!("{:?} ({count})", groups.get(*place)?)));
    let others = (!all).then(|| "others".to_owned());
    let named: Vec<_> = named.chain(others).collect();
    if named.is_empty() { String::new() } else { format!(", by {}", named.join(", ")) }
}

fn left_out(skipped: &Skipped, configured: bool, text: &mut String) {
    let Skipped { decided, failed, unlistable, nameless, together, other_ports, shown, no_room, .. } = skipped;
    let restricted = format!(
        "to hosts that a tenant restriction of this configuration is for, such as {}: a tunnel there evades it; add them to the restricted \
         service",
        skipped.restricted_shown.join(", ")
    );
    let ports = format!("on other ports than 443, and 80 in plain HTTP, such as {}", shown.join(", "));
    let decided_now = if configured { "that this configuration decides otherwise" } else { "" };
    let rows = [
        (*decided, decided_now),
        (*failed, "that observing let through and that failed: no address, a bad certificate, a client that left"),
        (*unlistable, "for names that no service may list: LGWAN-ASP, a public suffix, a single label"),
        (skipped.restricted, restricted.as_str()),
        (*nameless, "without a host name"),
        (*together, "that the record counted together, so that their names are not known"),
        (*other_ports, ports.as_str()),
        (
            *no_room,
            "for further names: as many different ones as are told apart had been seen; give fewer files at a time",
        ),
    ];
    for (n, (count, what)) in rows.into_iter().filter(|(count, _)| *count > 0).enumerate() {
        let _ = writeln!(text, "{}# Left out: {} {what}.", if n == 0 { "\n" } else { "" }, plural(count, "attempt"));
    }
}

/// `20261128` as a day.
fn day(day: u32) -> String {
    format!("{:04}-{:02}-{:02}", day / 10_000, day / 100 % 100, day % 100)
}

fn plural(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// As TOML's basic string. JSON's escapes are TOML's, and no name that comes here has a control character.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
