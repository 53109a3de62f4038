//! `sekisho catalog`: what is known of services, for which no configuration is needed; `feed` has the commands about a vendor's feed.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::{DONE, FAILED, complain, fail, feed, fetch, say};
use crate::catalog::{Catalogue, Entry, NotFound, Part};
use crate::config;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Every entry with its parts, a line each
    List {
        #[command(flatten)]
        own: Own,
    },
    /// One entry or part: hosts, ports, what must not be inspected, sources, and a `[[service]]` to begin with
    Show {
        /// `entry` or `entry/part`, such as microsoft-365/sign-in
        name: String,
        #[command(flatten)]
        own: Own,
    },
    /// Parts in which all the words occur; a host name finds the parts that reach it
    Search {
        #[arg(required = true)]
        words: Vec<String>,
        #[command(flatten)]
        own: Own,
    },
    /// Read Microsoft's endpoint list from a file and keep it as pending; nothing is in force before `approve`
    #[command(after_help = "A feed is taken whole or refused whole, with the reason.\n\nExamples:\n  \
        sekisho catalog import endpoints.json --config /etc/sekisho/sekisho.toml\n  \
        sekisho catalog import endpoints.json --changes changes.json    with the days from which on hosts are used")]
    Import(feed::Import),
    /// Ask Microsoft for its endpoint list if there is a newer one, and keep it as pending like `import`; at most hourly
    #[command(
        after_help = "It goes the proxy's own way: [resolver], [upstream], certificate verified. An hourly timer may run it.\n\n\
        Examples:\n  sekisho catalog fetch --config /etc/sekisho/sekisho.toml"
    )]
    Fetch(fetch::Arguments),
    /// Show what the pending list would change: by part, by endpoint set, with the requests that the record has
    #[command(after_help = "Exit code: 0 no difference, 3 differences, 1 error.\n\nExamples:\n  \
        sekisho catalog diff\n  sekisho catalog diff --record access.jsonl --record access.jsonl.1\n  \
        sekisho catalog diff --record access.jsonl --since 2026-11-01")]
    Diff(feed::Diff),
    /// Put the pending list in force, with who decided it and when
    #[command(
        after_help = "Examples:\n  sekisho catalog approve --by 'YAMADA Hanako' --note 'R8-112' && systemctl reload sekisho\n  \
        sekisho catalog approve --by 'YAMADA Hanako' --digest 1f2e3d4c5b6a    only what `diff` showed with it"
    )]
    Approve(feed::Approve),
    /// Put the list before the one in force back, with who decided it and when
    #[command(after_help = "Examples:\n  sekisho catalog revert --by 'YAMADA Hanako'\n  \
        sekisho catalog revert --to 0 --by 'YAMADA Hanako'    the program's own list")]
    Revert(feed::Revert),
    /// Every list that was in force: by whom and when
    #[command(after_help = "Examples:\n  sekisho catalog history --config /etc/sekisho/sekisho.toml")]
    History {
        #[command(flatten)]
        place: feed::Place,
    },
}

/// The site's own entries.
#[derive(clap::Args)]
pub(super) struct Own {
    /// A folder of catalogue files beside the program's own, as `[catalog]` folder names it
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Own {
    fn catalogue(&self) -> Result<Catalogue, ExitCode> {
        let mut catalogue = config::built_in();
        if let Some(folder) = &self.folder
            && let Err(problems) = config::add_folder(&mut catalogue, folder)
        {
            for problem in problems {
                complain(&problem.to_string());
            }
            return Err(FAILED.into());
        }
        Ok(catalogue)
    }
}

pub(super) fn catalog(command: &Command) -> ExitCode {
    let done = match command {
        Command::List { own } => own.catalogue().map(|catalogue| list(&catalogue)),
        Command::Show { name, own } => own.catalogue().map(|catalogue| show(&catalogue, name)),
        Command::Search { words, own } => own.catalogue().map(|catalogue| search(&catalogue, words)),
        Command::Import(arguments) => feed::import(arguments),
        Command::Fetch(arguments) => fetch::fetch(arguments),
        Command::Diff(arguments) => feed::diff(arguments),
        Command::Approve(arguments) => feed::approve(arguments),
        Command::Revert(arguments) => feed::revert(arguments),
        Command::History { place } => feed::history(place),
    };
    done.unwrap_or_else(|code| code)
}

fn list(catalogue: &Catalogue) -> ExitCode {
    let parts = catalogue.entries().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part)));
    say(&lines(parts));
    DONE.into()
}

fn search(catalogue: &Catalogue, words: &[String]) -> ExitCode {
    match catalogue.search(words) {
        found if found.is_empty() => fail(&format!(
            "nothing in the catalogue has {}; `sekisho catalog list` shows all of it",
            words.join(" and ")
        )),
        found => {
            say(&lines(found.into_iter()));
            DONE.into()
        }
    }
}

/// A line for each part, in columns.
fn lines<'c>(parts: impl Iterator<Item = (&'c Entry, &'c Part)>) -> String {
    let rows: Vec<_> = parts
        .map(|(entry, part)| {
            let own = entry.file.as_ref().map_or_else(String::new, |file| format!(" ({file})"));
            let what = format!("{}: {}{own}", entry.name, part.title);
            (format!("{}/{}", entry.id, part.id), part.hosts.len(), part.purpose, what)
        })
        .collect();
    let width =
        |column: fn(&(String, usize, &'static str, String)) -> usize| rows.iter().map(column).max().unwrap_or(0);
    let (name, purpose) = (width(|row| row.0.len()), width(|row| row.2.len()));
    let mut text = String::new();
    for (reference, hosts, aim, what) in &rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{reference:name$}  {hosts:>3} hosts  {aim:purpose$}  {what}");
    }
    text
}

fn show(catalogue: &Catalogue, name: &str) -> ExitCode {
    if let Some(entry) = catalogue.entry(name) {
        let parts: Vec<String> = entry.parts.iter().map(|part| described(entry, part)).collect();
        say(&format!("{}\n{}", head(entry), parts.join("\n")));
        return DONE.into();
    }
    match catalogue.part(name) {
        Ok((entry, part)) => {
            say(&format!("{}\n{}\n{}", head(entry), described(entry, part), example(entry, part)));
            DONE.into()
        }
        Err(NotFound::Part(near) | NotFound::PartMissing(near) | NotFound::Entry(near)) => {
            let near = if near.is_empty() { String::new() } else { format!("; there is {}", near.join(", ")) };
            fail(&format!("no {name:?} in the catalogue{near}; `sekisho catalog list` shows all of it"))
        }
    }
}

fn head(entry: &Entry) -> String {
    let mut text = format!("{} by {} ({})\n", entry.name, entry.provider, entry.category);
    if let Some(note) = &entry.notes {
        let _ = writeln!(text, "  {note}");
    }
    if let Some(file) = &entry.file {
        let _ = writeln!(text, "  from {file}");
    }
    text
}

fn described(entry: &Entry, part: &Part) -> String {
    let mut text = format!("{}/{}: {} ({})\n", entry.id, part.id, part.title, part.purpose);
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "  {label:<14} {value}");
    };
    for (n, host) in part.hosts.iter().enumerate() {
        line(if n == 0 { "hosts" } else { "" }, host.as_str());
    }
    let ports: Vec<_> = part.ports.iter().map(u16::to_string).collect();
    line("ports", &format!("{}{}", ports.join(", "), if part.plain_http { " (plain HTTP)" } else { "" }));
    if !part.profiles.is_empty() {
        line("tenant profile", &part.profiles.join(" or "));
    }
    if let Some(advice) = &part.no_profile {
        line("no profile", advice);
    }
    if let Some(content) = &part.shared_content {
        line("shared", content);
    }
    for exception in &part.never_inspect {
        let hosts: Vec<_> = exception.hosts.iter().map(ToString::to_string).collect();
        line("never inspect", &format!("{}: {}", hosts.join(", "), exception.why.sentence()));
        if let Some(note) = &exception.notes {
            line("", note);
        }
    }
    if let Some(note) = &part.notes {
        line("note", note);
    }
    for source in &part.sources {
        line("source", &format!("{} (read {}, {})", source.url, source.read, trust(source.confidence)));
    }
    text
}

fn trust(confidence: &str) -> &'static str {
    match confidence {
        "H" => "the vendor's own",
        "M" => "not the vendor's own",
        _ => "weak: 要確認",
    }
}

/// What takes the part into a configuration. What the administrator alone knows stands as `…`, which `check` refuses.
fn example(entry: &Entry, part: &Part) -> String {
    let mut text = format!(
        "In sekisho.toml:\n\n[[service]]\nname = {}\ncatalog = \"{}/{}\"\n",
        toml_text(&format!("{} {}", entry.name, part.id)),
        entry.id,
        part.id
    );
    if part.hosts.iter().any(crate::catalog::Template::needs_tenant) {
        text.push_str("tenant_name = \"…\"          # your tenant's name in these hosts\n");
    }
    if let Some(tenant) = part.profiles.first().and_then(|profile| config::tenant_example(profile)) {
        let _ = write!(text, "mode = \"inspect\"           # for the restriction to your own tenant\n{tenant}");
    }
    text
}

/// A basic string of TOML; there are no control characters in the texts of the catalogue.
fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n\
                        [issuing_ca]\ncertificate = \"ca.pem\"\nkey = \"ca.key\"\n";

    /// The keys that are refused for the service that `text` shows.
    fn refused(text: &str) -> Vec<String> {
        let service = text.strip_prefix("In sekisho.toml:\n\n").expect("a heading");
        let problems = config::problems_of("f", &format!("{BASE}{service}"));
        let errors = problems.iter().filter(|problem| problem.is_error());
        errors.map(|problem| format!("{} {}", problem.key, problem.found)).collect()
    }

    /// What is shown is whole: nothing is missing or unknown, and it cannot be left as it is.
    #[test]
    fn every_example_is_refused_for_its_placeholders_alone() {
        for entry in config::built_in().entries() {
            for part in &entry.parts {
                let text = example(entry, part);
                let places = text.lines().filter(|line| line.contains("\"…\"")).count();
                let refused = refused(&text);
                assert_eq!(refused.len(), places, "{text}{refused:#?}");
                let placeholder =
                    |found: &String| found.ends_with("a value of 1 character") || found.ends_with("\"…\"");
                assert!(refused.iter().all(placeholder), "{text}{refused:#?}");
            }
        }
    }

    #[test]
    fn a_tenant_is_shown_with_each_key_that_is_due() {
        let catalogue = config::built_in();
        let (entry, part) = catalogue.part("slack/app").expect("a part");
        assert_eq!(
            example(entry, part),
            "In sekisho.toml:\n\n[[service]]\nname = \"Slack app\"\ncatalog = \"slack/app\"\n\
             mode = \"inspect\"           # for the restriction to your own tenant\n[service.tenant]\nprofile = \"slack\"\n\
             requester = \"…\"  # the id of your own workspace or organisation (T… or E…)\n\
             allowed = [\"…\"]  # ids of the workspaces or organisations that may be signed in to\n"
        );
    }

    #[test]
    fn names_are_written_as_toml_reads_them() {
        let catalogue = config::built_in();
        let (entry, part) = catalogue.part("claude/content").expect("a part");
        let odd = Entry { name: "a \"b\" \\ c".to_owned(), ..entry.clone() };
        let text = example(&odd, part);
        assert!(text.contains("name = \"a \\\"b\\\" \\\\ c content\"\n"), "{text}");
        assert_eq!(refused(&text), Vec::<String>::new());
    }
}
