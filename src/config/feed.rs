//! `[catalog]`, and an approved feed in the place of the hosts that the program brings.
//!
//! What may not be here: what a feed or a state must look like (`crate::feed`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::catalogue::{self, Shelf};
use super::document;
use super::problem::{LoadError, Problem, Problems, quoted};
use super::reader::{Table, Text};
use super::schema;
use super::service::Service;
use crate::catalog::{Catalogue, Entry};
use crate::feed::ENTRY;
use crate::feed::leave::Leave;
use crate::feed::places::compose;
use crate::feed::shelf::{self, ShelfError};
use crate::feed::state::State;
use crate::names::{Authority, Host};

/// Where Microsoft has its endpoint web service.
const FEED: &str = "https://endpoints.office.com";

/// `[catalog]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogSettings {
    /// The site's own files and approved feeds, resolved against the configuration's directory.
    pub folder: Option<PathBuf>,
    /// The server that `sekisho catalog fetch` asks; its host is a name. `None`: what is there is refused.
    pub feed: Option<Authority>,
    /// Changes for which `fetch` needs nobody.
    pub auto_approve: Vec<Leave>,
    /// Hosts that the feed in force has no longer, with the number of the state since which.
    pub gone: BTreeMap<String, u32>,
}

/// Reads the section alone, however broken the rest is: who puts a state back must not need a configuration that loads.
///
/// # Errors
/// The file cannot be read or is no TOML, or a key of the section is wrong.
pub fn catalog_settings(path: &Path) -> Result<CatalogSettings, LoadError> {
    let shown = path.display().to_string();
    let text = super::read(path, &shown)?;
    let mut problems = Problems::new(&shown, &text);
    let settings = document::parse(&mut problems).map(|tree| {
        // What else is wrong is for `check` to say.
        let root = Table::root(&tree, &schema::ROOT, &mut Problems::new(&shown, &text));
        settings(&root, path.parent().unwrap_or(Path::new("")), &mut problems)
    });
    match settings {
        Some(settings) if !problems.any_error() => Ok(settings),
        Some(_) | None => Err(LoadError { file: path.to_owned(), problems: problems.into_sorted() }),
    }
}

pub(super) fn settings<'t>(root: &Table<'t>, base: &Path, problems: &mut Problems<'_>) -> CatalogSettings {
    let table = root.table("catalog", Some(&schema::CATALOG), problems);
    let folder = table.text("folder", problems);
    let folder = folder.filter(|folder| {
        if folder.text.is_empty() {
            problems.error(&folder.at, "an empty text", "a folder, such as \"catalog.d\"");
        }
        !folder.text.is_empty()
    });
    let feed = match table.text("feed", problems) {
        None => server(FEED),
        Some(text) => {
            let feed = server(text.text);
            if feed.is_none() {
                let expected = format!("\"https://\" and a host name, perhaps a port, such as \"{FEED}\"");
                problems.error(&text.at, quoted(text.text), expected);
            }
            feed
        }
    };
    let leaves = table.texts("auto_approve", problems).unwrap_or_default();
    let auto_approve = leaves.iter().filter_map(|text| leave(text, problems)).collect();
    CatalogSettings { folder: folder.map(|folder| base.join(folder.text)), feed, auto_approve, gone: BTreeMap::new() }
}

fn leave(text: &Text<'_>, problems: &mut Problems<'_>) -> Option<Leave> {
    let leave = Leave::parse(text.text);
    if leave.is_none() {
        problems
            .error(
                &text.at,
                quoted(text.text),
                "added, removed, widened or narrowed, perhaps with a category: \"added:allow\"",
            )
            .hint("the categories are optimize, allow and default");
    }
    leave
}

fn server(text: &str) -> Option<Authority> {
    let authority = text.strip_prefix("https://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let parsed = Authority::parse_with_default(authority.as_bytes(), 443).ok()?;
    matches!(parsed.host, Host::Name(_)).then_some(parsed)
}

/// The catalogue with the files of the folder and what was approved, or with a state that is only tried.
/// Gives what is gone from it.
pub(super) fn add(
    catalogue: &mut Catalogue,
    folder: &Path,
    shelf: Shelf<'_>,
) -> Result<BTreeMap<String, u32>, Vec<Problem>> {
    match shelf {
        Shelf::BuiltIn => Ok(BTreeMap::new()),
        Shelf::WithFolder => add_approved(catalogue, folder),
        Shelf::Trial(state) => {
            catalogue::add_files(catalogue, folder)?;
            put(catalogue, &shelf::Shelf::new(folder), state)
        }
    }
}

/// A service's own hosts that the feed does not name any more: nobody may be using them, or somebody else may get them.
pub(super) fn warn_gone(services: &[Service], settings: &CatalogSettings, problems: &mut Problems<'_>) {
    for service in services {
        let taken: Vec<usize> = service.catalog.iter().map(|(_, at)| at.offset).collect();
        for host in service.hosts.iter().filter(|host| !taken.contains(&host.at.offset)) {
            let Some(since) = settings.gone.get(host.pattern.as_str()) else { continue };
            let found = format!(
                "{}, which the feed of {ENTRY} has no longer since state {since}",
                quoted(host.pattern.as_str())
            );
            problems
                .warning(&host.at, found, "hosts that are still in use")
                .hint("look for it in the record (url.domain), and remove it where nobody uses it");
        }
    }
}

/// Adds the site's own folder: each `*.toml` in it, in place of the program's of that name, and the feed that was approved last.
///
/// # Errors
/// Every problem of every file, or that the folder cannot be read.
pub fn add_folder(catalogue: &mut Catalogue, folder: &Path) -> Result<(), Vec<Problem>> {
    add_approved(catalogue, folder).map(|_| ())
}

fn add_approved(catalogue: &mut Catalogue, folder: &Path) -> Result<BTreeMap<String, u32>, Vec<Problem>> {
    catalogue::add_files(catalogue, folder)?;
    let shelf = shelf::Shelf::new(folder);
    match shelf.in_force() {
        Ok(None) => Ok(BTreeMap::new()),
        Ok(Some(state)) => put(catalogue, &shelf, &state),
        Err(error) => Err(vec![unreadable(&error, shelf.folder())]),
    }
}

fn unreadable(error: &ShelfError, folder: &Path) -> Problem {
    let (file, why) = match error {
        ShelfError::Read { path, source } => (path.as_path(), source.to_string()),
        ShelfError::Broken { path, why } => (path.as_path(), why.clone()),
        ShelfError::Write { .. }
        | ShelfError::Crowded(_)
        | ShelfError::Random
        | ShelfError::NothingPending(_)
        | ShelfError::Another { .. }
        | ShelfError::Overtaken(_)
        | ShelfError::NoState { .. }
        | ShelfError::NothingBefore
        | ShelfError::InForce { .. }
        | ShelfError::Words(_) => (folder, error.to_string()),
    };
    let found = format!("an approved feed that cannot be taken ({why})");
    let hint = "`sekisho catalog revert --by NAME` puts the one before it back in force";
    Problem::of_file(&file.display().to_string(), &found, "the file as `sekisho catalog approve` wrote it", hint)
}

fn put(catalogue: &mut Catalogue, shelf: &shelf::Shelf, state: &State) -> Result<BTreeMap<String, u32>, Vec<Problem>> {
    let Some(staged) = &state.staged else { return Ok(BTreeMap::new()) };
    let file = shelf.file(state.number).display().to_string();
    if let Some(own) = catalogue.entry(ENTRY).and_then(|entry| entry.file.as_ref()) {
        let found = format!("an approved feed, and {own}, which takes the same entry's place");
        let hint = "move the *.toml away, or `sekisho catalog revert --to 0 --by NAME`";
        return Err(vec![Problem::of_file(&file, &found, "one of the two", hint)]);
    }
    // Of the program's own, as the reviewer saw it.
    let program = catalogue::built_in();
    let Some(known) = program.entry(ENTRY) else { return Ok(BTreeMap::new()) };
    let entry = compose(known, &program, &staged.feed, &staged.provenance()).entry;
    let told =
        format!("Hosts by the endpoint feed that {} approved at {} (state {}).", state.by, state.at, state.number);
    let notes =
        known.notes.as_ref().map_or_else(|| told.clone(), |notes| format!("{told} The program's own list: {notes}"));
    catalogue.put(Entry { file: Some(file), notes: Some(notes), ..entry });
    Ok(state.gone.clone())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::super::{load, problems_of, try_state};
    use super::*;
    use crate::config::Scope;
    use crate::feed::endpoints::Feed;
    use crate::feed::state::{Staged, Words};

    const BASE: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n\
                        [resolver]\nservers = [\"127.0.0.1:53\"]\n";
    const FOLDER: &str = "[catalog]\nfolder = \"catalog.d\"\n";
    const TEAMS: &str = "[[service]]\nname = \"Teams\"\ncatalog = \"microsoft-365/teams\"\n";

    fn staged(hosts: &str) -> Staged {
        let text = format!(
            "[{{\"id\":12,\"serviceArea\":\"Skype\",\"category\":\"Allow\",\"required\":true,\"tcpPorts\":\"443\",\"urls\":[{hosts}]}}]"
        );
        Staged::new(Feed::parse(text.as_bytes()).expect("sound"), text.as_bytes(), "f.json", None, SystemTime::now())
    }

    /// A folder with this feed approved.
    fn approved(directory: &Path, hosts: &str) -> shelf::Shelf {
        let folder = directory.join("catalog.d");
        fs::create_dir_all(&folder).expect("a folder");
        let shelf = shelf::Shelf::new(&folder);
        shelf.stage(&staged(hosts)).expect("staged");
        let words = Words { by: "Hanako".to_owned(), note: None };
        shelf.put(&shelf.approval(&words, None, SystemTime::now()).expect("an approval")).expect("put");
        shelf
    }

    fn config(directory: &Path, services: &str) -> PathBuf {
        let file = directory.join("sekisho.toml");
        fs::write(&file, format!("{BASE}{FOLDER}{services}")).expect("written");
        file
    }

    fn hosts(config: &super::super::Config) -> Vec<String> {
        let services = config.policy.services().flat_map(|service| service.hosts);
        services.map(|host| host.pattern().to_string()).collect()
    }

    #[test]
    fn a_feed_is_asked_of_a_server_by_https_and_name() {
        let said = |value: &str| {
            let problems = problems_of("f", &format!("[catalog]\nfeed = {value:?}\n{BASE}"));
            problems.iter().map(ToString::to_string).filter(|line| line.contains("catalog")).collect::<Vec<_>>()
        };
        for sound in ["https://endpoints.office.com", "https://feed.city.example:8443/"] {
            assert_eq!(said(sound), Vec::<String>::new(), "{sound}");
        }
        for wrong in [
            "",
            "http://endpoints.office.com",
            "endpoints.office.com",
            "https://10.0.0.1",
            "https://a.example/x",
            "https://u@a.example",
        ] {
            let expected = format!(
                "f:2:8: error: catalog.feed: found {wrong:?}, expected \"https://\" and a host name, perhaps a port, such as \
                 \"https://endpoints.office.com\""
            );
            assert_eq!(said(wrong), [expected]);
        }
    }

    #[test]
    fn leave_is_given_by_kind_and_category() {
        let problems = problems_of(
            "f",
            &format!("[catalog]\nauto_approve = [\"removed\", \"added:allow\", \"added:all\"]\n{BASE}"),
        );
        let said: Vec<_> = problems.iter().map(ToString::to_string).filter(|line| line.contains("catalog")).collect();
        assert_eq!(
            said,
            [
                "f:2:43: error: catalog.auto_approve[2]: found \"added:all\", expected added, removed, widened or narrowed, perhaps with \
              a category: \"added:allow\"\n    hint: the categories are optimize, allow and default"
            ]
        );
    }

    #[test]
    fn an_approved_feed_is_what_the_entry_means() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = config(directory.path(), TEAMS);
        let shelf = approved(directory.path(), "\"teams.microsoft.com\", \"new.teams.example\"");
        let now = SystemTime::now();
        let with = load(&file, Scope::Full, now).expect("loads");
        assert_eq!(hosts(&with), ["teams.microsoft.com", "new.teams.example"]);
        let row = "catalog    own in place of the program's: microsoft-365 (0001.json)";
        let screen = super::super::summary(&with);
        assert!(screen.lines().any(|line| line.split_whitespace().eq(row.split_whitespace())), "{screen}");
        let words = Words { by: "Hanako".to_owned(), note: None };
        let back = shelf.reversal(&words, None, now).expect("a way back");
        // Only tried: nothing has changed.
        assert!(hosts(&try_state(&file, Scope::Full, &back, now).expect("loads")).contains(&"*.lync.com".to_owned()));
        assert_eq!(hosts(&load(&file, Scope::Full, now).expect("loads")).len(), 2);
        shelf.put(&back).expect("put");
        let without = load(&file, Scope::Full, now).expect("loads");
        assert_eq!(hosts(&without).len(), 5);
        assert_ne!(with.revision, without.revision);
    }

    #[test]
    fn what_the_feed_says_of_its_parts_is_in_the_entry() {
        let directory = tempfile::tempdir().expect("a directory");
        let shelf = approved(directory.path(), "\"teams.microsoft.com\"");
        let mut catalogue = catalogue::built_in();
        let before = catalogue.entry(ENTRY).and_then(|entry| entry.notes.clone()).expect("notes");
        add_folder(&mut catalogue, &directory.path().join("catalog.d")).expect("sound");
        let entry = catalogue.entry(ENTRY).expect("there");
        assert_eq!(entry.file, Some(shelf.file(1).display().to_string()));
        let notes = entry.notes.as_deref().expect("notes");
        assert!(notes.starts_with("Hosts by the endpoint feed that Hanako approved at 2"), "{notes}");
        assert!(notes.ends_with(&format!("(state 1). The program's own list: {before}")), "{notes}");
    }

    #[test]
    fn a_part_of_which_nothing_is_left_warns_and_permits_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let file =
            config(directory.path(), "[[service]]\nname = \"Flow\"\ncatalog = \"microsoft-365/power-platform\"\n");
        approved(directory.path(), "\"teams.microsoft.com\"");
        let config = load(&file, Scope::Full, SystemTime::now()).expect("loads");
        assert_eq!(hosts(&config), Vec::<String>::new());
        let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        let expected = format!(
            "{}:12:11: warning: service[0].catalog: found \"microsoft-365/power-platform\", of which the approved feed has nothing \
             left, expected another part, or none: nothing is permitted by it",
            file.display()
        );
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn a_host_of_ones_own_that_the_feed_has_no_longer_is_a_warning() {
        let directory = tempfile::tempdir().expect("a directory");
        let own = "[[service]]\nname = \"By hand\"\nhosts = [\"gone.example.com\", \"a.example.com\", \"never.example.com\"]\n";
        let file = config(directory.path(), own);
        let warnings = || -> Vec<String> {
            let config = load(&file, Scope::Full, SystemTime::now()).expect("loads");
            config.warnings.iter().map(ToString::to_string).collect()
        };
        let shelf = approved(directory.path(), "\"gone.example.com\", \"a.example.com\"");
        assert_eq!(warnings(), Vec::<String>::new());
        approved(directory.path(), "\"a.example.com\"");
        let expected = format!(
            "{}:12:10: warning: service[0].hosts[0]: found \"gone.example.com\", which the feed of microsoft-365 has no longer since \
             state 2, expected hosts that are still in use\n    hint: look for it in the record (url.domain), and remove it where nobody uses it",
            file.display()
        );
        assert_eq!(warnings(), [expected]);
        let words = Words { by: "Hanako".to_owned(), note: None };
        shelf.put(&shelf.reversal(&words, Some(0), SystemTime::now()).expect("a way back")).expect("put");
        assert_eq!(warnings(), Vec::<String>::new());
    }

    #[test]
    fn l05_a_broken_state_refuses_the_configuration_with_file_and_reason() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = config(directory.path(), TEAMS);
        let shelf = approved(directory.path(), "\"teams.microsoft.com\"");
        fs::write(shelf.file(2), "{\"number\": 2").expect("written");
        let error = load(&file, Scope::Full, SystemTime::now()).expect_err("refused").to_string();
        let broken = shelf.file(2).display().to_string();
        assert_eq!(
            error.lines().take(2).collect::<Vec<_>>(),
            [
                format!(
                    "{broken}: error: found an approved feed that cannot be taken (it is not as sekisho writes it (EOF \
                     while parsing an object at line 1 column 12)), expected the file as `sekisho catalog approve` wrote it"
                )
                .as_str(),
                "    hint: `sekisho catalog revert --by NAME` puts the one before it back in force",
            ]
        );
        // The section is still readable, so that the way back is open.
        let settings = catalog_settings(&file).expect("readable");
        assert_eq!(settings.folder, Some(directory.path().join("catalog.d")));
    }

    #[test]
    fn an_entry_of_the_sites_own_and_an_approved_feed_exclude_each_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let shelf = approved(directory.path(), "\"teams.microsoft.com\"");
        let folder = directory.path().join("catalog.d");
        let (_, own) = crate::catalog::BUILT_IN.iter().find(|(id, _)| *id == ENTRY).expect("there");
        fs::write(folder.join("microsoft-365.toml"), own).expect("written");
        let mut catalogue = catalogue::built_in();
        let problems = add_folder(&mut catalogue, &folder).expect_err("one of the two");
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let expected = format!(
            "{}: error: found an approved feed, and {}, which takes the same entry's place, expected one of the two\n    hint: move \
             the *.toml away, or `sekisho catalog revert --to 0 --by NAME`",
            shelf.file(1).display(),
            folder.join("microsoft-365.toml").display()
        );
        assert_eq!(said, [expected]);
    }

    #[test]
    fn the_section_is_read_however_broken_the_rest_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("sekisho.toml");
        fs::write(&file, format!("nonsense = 1\n{FOLDER}[[service]]\nmode = 7\n")).expect("written");
        let settings = catalog_settings(&file).expect("readable");
        assert_eq!(settings.folder, Some(directory.path().join("catalog.d")));
        assert_eq!(settings.feed.map(|feed| feed.to_string()).as_deref(), Some("endpoints.office.com:443"));
        fs::write(&file, "[catalog]\nfolder = 7\n").expect("written");
        let error = catalog_settings(&file).expect_err("refused").to_string();
        assert_eq!(
            error,
            format!(
                "{}:2:10: error: catalog.folder: found 7, expected a text in quotes\n    hint: write \"7\"",
                file.display()
            )
        );
    }
}
