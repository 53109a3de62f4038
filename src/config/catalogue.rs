//! The catalogue's files: one TOML file an entry, read as strictly as the configuration itself.
//!
//! A file with an unknown key, or with anything else wrong, is refused whole. What may not be here: what a service makes of
//! an entry (`service`), what several services make of it (`finding`).

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::document;
use super::feed::{self, CatalogSettings};
use super::problem::{Problem, Problems, quoted};
use super::profiles::PROFILES;
use super::reader::{Table, Text};
use super::schema::Keys;
use crate::catalog::{
    BUILT_IN, CATEGORIES, CONFIDENCES, Catalogue, Entry, Exception, PLACEHOLDER, PURPOSES, Part, Source, Template, Why,
};
use crate::feed::state::State;
use crate::files::regular_text;
use crate::names::DnsName;
use crate::policy::Breadth;

static ENTRY: Keys = Keys { section: "a catalogue file", names: &["name", "provider", "category", "notes", "part"] };
static PART: Keys = Keys {
    section: "[[part]]",
    names: &[
        "id",
        "title",
        "purpose",
        "hosts",
        "ports",
        "plain_http",
        "profiles",
        "no_profile",
        "shared_content",
        "never_inspect",
        "notes",
        "source",
    ],
};
static NEVER_INSPECT: Keys = Keys { section: "[[part.never_inspect]]", names: &["hosts", "why", "notes"] };
static SOURCE: Keys = Keys { section: "[[part.source]]", names: &["url", "read", "confidence"] };

/// Largest file of a folder that is read.
const MAX_FILE: u64 = 1 << 20;
/// Files of a folder.
const MAX_FILES: usize = 1_000;
/// Hosts of a part, and hosts of it that are not inspected, each.
const MAX_HOSTS: usize = 1_000;

/// Where entries are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf<'s> {
    /// The program's, and those of the folder of `[catalog]` with the feed that is in force there.
    WithFolder,
    /// As it would be with this state in force.
    Trial(&'s State),
    /// The program's: no file is read.
    BuiltIn,
}

/// The catalogue of this configuration. The problems of the folder's files are the configuration's.
pub(super) fn of_site(settings: &mut CatalogSettings, shelf: Shelf<'_>, problems: &mut Problems<'_>) -> Catalogue {
    let mut catalogue = built_in();
    if let Some(folder) = &settings.folder {
        match feed::add(&mut catalogue, folder, shelf) {
            Ok(gone) => settings.gone = gone,
            Err(found) => problems.adopt(found),
        }
    }
    catalogue
}

/// What the program brings. Its files are tested, so that one that is wrong here is left out, which permits less.
pub fn built_in() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (id, text) in &BUILT_IN {
        if let Ok(entry) = read(&format!("{id}.toml"), id, text) {
            catalogue.put(entry);
        }
    }
    catalogue
}

/// Each `*.toml` of the folder; every problem of every file, or that the folder cannot be read.
pub(super) fn add_files(catalogue: &mut Catalogue, folder: &Path) -> Result<(), Vec<Problem>> {
    let shown = folder.display().to_string();
    let broken = |what: &str, expected: &str, hint: &str| vec![Problem::of_file(&shown, what, expected, hint)];
    let unreadable = |error: std::io::Error| {
        let found = format!("no readable folder ({error})");
        broken(&found, "the site's own catalogue files", "check that it is there, its owner and mode")
    };
    let mut files = Vec::new();
    for found in fs::read_dir(folder).map_err(unreadable)? {
        let path = found.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    if files.len() > MAX_FILES {
        let found = format!("{} files", files.len());
        return Err(broken(&found, &format!("at most {MAX_FILES}"), "is this the right folder?"));
    }
    files.sort();
    let mut problems = Vec::new();
    for path in &files {
        match read_file(path) {
            Ok(entry) => catalogue.put(entry),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn read_file(path: &Path) -> Result<Entry, Vec<Problem>> {
    let shown = path.display().to_string();
    let broken =
        |found: &str, expected: &str| vec![Problem::of_file(&shown, found, expected, "remove it, or repair it")];
    let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if !is_id(id) {
        return Err(broken("a name that is no id", "lower-case letters, digits and hyphens, then .toml"));
    }
    let text = regular_text(path, MAX_FILE)
        .map_err(|error| broken(&format!("no readable file ({error})"), "UTF-8 text of at most 1 MiB"))?;
    let entry = read(&shown, id, &text)?;
    Ok(Entry { file: Some(shown), ..entry })
}

/// # Errors
/// Every problem of the file at once. There are no warnings.
fn read(file: &str, id: &str, text: &str) -> Result<Entry, Vec<Problem>> {
    let mut problems = Problems::new(file, text);
    let tree = document::parse(&mut problems);
    let entry = tree.as_ref().map(|tree| entry(&Table::root(tree, &ENTRY, &mut problems), id, &mut problems));
    match entry {
        Some(entry) if !problems.any_error() => Ok(entry),
        Some(_) | None => Err(problems.into_sorted()),
    }
}

fn entry<'t>(root: &Table<'t>, id: &str, problems: &mut Problems<'_>) -> Entry {
    let tables = root.tables("part", &PART, problems);
    if tables.is_empty() {
        root.missing("part", "at least one [[part]]", problems);
    }
    let (mut ids, mut patterns) = (HashSet::new(), HashSet::new());
    let parts = tables.iter().map(|table| part(table, &mut ids, &mut patterns, problems)).collect();
    Entry {
        id: id.to_owned(),
        name: words(root, "name", "the service's name", problems).unwrap_or_default(),
        provider: words(root, "provider", "who provides it", problems).unwrap_or_default(),
        category: word(root, "category", &CATEGORIES, problems),
        notes: words(root, "notes", "", problems),
        parts,
        file: None,
    }
}

fn part<'t>(
    table: &Table<'t>,
    ids: &mut HashSet<String>,
    patterns: &mut HashSet<Template>,
    problems: &mut Problems<'_>,
) -> Part {
    let id = table.required_text("id", "the part's id, such as \"sign-in\"", problems);
    let id = id.filter(|text| {
        let sound = is_id(text.text) && ids.insert(text.text.to_owned());
        if !sound {
            let expected = "lower-case letters, digits and hyphens, each id once in a file";
            problems.error(&text.at, quoted(text.text), expected);
        }
        sound
    });
    let hosts = hosts(table, problems);
    for (text, template) in &hosts {
        if !patterns.insert(template.clone()) {
            problems.error(&text.at, quoted(text.text), "each pattern once in a file");
        }
    }
    let hosts: Vec<Template> = hosts.into_iter().map(|(_, template)| template).collect();
    if hosts.is_empty() && table.has("hosts") {
        problems.error(&table.place("hosts"), "no host pattern", "at least one");
    }
    let ports = table.integers("ports", &(1..=65535), "a port", problems);
    let ports =
        ports.map_or_else(|| vec![443], |list| list.iter().filter_map(|(n, _)| u16::try_from(*n).ok()).collect());
    let profiles = table.texts("profiles", problems).unwrap_or_default();
    Part {
        id: id.map(|text| text.text.to_owned()).unwrap_or_default(),
        title: words(table, "title", "what it is, in a few words", problems).unwrap_or_default(),
        purpose: word(table, "purpose", &PURPOSES, problems),
        never_inspect: exceptions(table, &hosts, problems),
        hosts,
        ports,
        plain_http: table.flag("plain_http", problems).unwrap_or(false),
        profiles: profiles.iter().filter(|text| is_profile(text, problems)).map(|text| text.text.to_owned()).collect(),
        no_profile: words(table, "no_profile", "", problems),
        shared_content: words(table, "shared_content", "", problems),
        notes: words(table, "notes", "", problems),
        sources: sources(table, problems),
    }
}

fn hosts<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> Vec<(Text<'t>, Template)> {
    let mut hosts = Vec::new();
    let texts = table.required_texts("hosts", "a list of host patterns", problems);
    if let Some(text) = texts.get(MAX_HOSTS) {
        problems.error(&text.at, format!("{} host patterns", texts.len()), format!("at most {MAX_HOSTS} in a list"));
        return hosts;
    }
    for text in texts {
        match Template::parse(text.text) {
            Ok(template) => {
                refuse_breadth(&text, &template, problems);
                hosts.push((text, template));
            }
            Err(error) => {
                problems.error(&text.at, quoted(text.text), "a host pattern").hint(error.to_string());
            }
        }
    }
    hosts
}

/// The catalogue never permits what one organisation does not hold alone.
fn refuse_breadth(text: &Text<'_>, template: &Template, problems: &mut Problems<'_>) {
    let pattern = template.fill(Some("tenant"));
    if let Ok(Breadth::AboveIcann(_)) = pattern.map(|pattern| pattern.breadth()) {
        problems.error(&text.at, quoted(text.text), "a pattern below what one organisation holds");
    }
}

fn exceptions<'t>(table: &Table<'t>, hosts: &[Template], problems: &mut Problems<'_>) -> Vec<Exception> {
    let words: Vec<(&str, Why)> = Why::ALL.into_iter().map(|why| (why.as_str(), why)).collect();
    let mut exceptions = Vec::new();
    for table in table.tables("never_inspect", &NEVER_INSPECT, problems) {
        let found = self::hosts(&table, problems);
        for (text, template) in &found {
            if !hosts.iter().any(|host| holds(host, template)) {
                problems.error(&text.at, quoted(text.text), "a pattern within one of the part's hosts");
            }
        }
        if !table.has("why") {
            table.missing("why", "why it is never inspected", problems);
        }
        let Some(why) = table.choice("why", &words, problems) else { continue };
        let notes = self::words(&table, "notes", "", problems);
        exceptions.push(Exception { hosts: found.into_iter().map(|(_, template)| template).collect(), why, notes });
    }
    exceptions
}

/// Whether the pattern is the other one, or reaches a name it matches.
fn holds(host: &Template, inner: &Template) -> bool {
    let probe = inner.as_str().replace(PLACEHOLDER, "tenant").replace('*', "probe");
    let name = DnsName::parse(probe.as_bytes());
    host == inner || name.is_ok_and(|name| host.fill(Some("tenant")).is_ok_and(|pattern| pattern.matches(&name)))
}

fn sources<'t>(table: &Table<'t>, problems: &mut Problems<'_>) -> Vec<Source> {
    let tables = table.tables("source", &SOURCE, problems);
    if tables.is_empty() {
        table.missing("source", "at least one [[part.source]]: where it was read", problems);
    }
    let mut sources = Vec::new();
    for table in &tables {
        let url = words(table, "url", "where it was read", problems);
        let read =
            table.value("read").and_then(|value| value.node.as_datetime().map(|date| (date.to_string(), value.at)));
        match read {
            Some((read, _)) if read.len() == 10 => {
                let confidence = word(table, "confidence", &CONFIDENCES, problems);
                sources.extend(url.map(|url| Source { url, read, confidence }));
            }
            Some((read, at)) => {
                problems.error(&at, read, "a day, such as 2026-11-28");
            }
            None => table.missing("read", "the day it was read, such as 2026-11-28, without quotes", problems),
        }
    }
    sources
}

/// One of the words, which are these very texts; the first where it is none, with a problem.
fn word<'t>(
    table: &Table<'t>,
    name: &str,
    known: &'static [&'static str],
    problems: &mut Problems<'_>,
) -> &'static str {
    let words: Vec<(&str, &'static str)> = known.iter().map(|word| (*word, *word)).collect();
    if !table.has(name) {
        table.missing(name, &known.join(", "), problems);
    }
    table.choice(name, &words, problems).or(known.first().copied()).unwrap_or_default()
}

/// Printable text; where `expected` is not empty, the key is due.
fn words<'t>(table: &Table<'t>, name: &str, expected: &str, problems: &mut Problems<'_>) -> Option<String> {
    const MOST: usize = 500;
    let text = match expected {
        "" => table.text(name, problems),
        expected => table.required_text(name, expected, problems),
    }?;
    let sound =
        !text.text.trim().is_empty() && text.text.chars().count() <= MOST && !text.text.chars().any(char::is_control);
    if !sound {
        problems.error(&text.at, quoted(text.text), format!("1 to {MOST} printable characters on one line"));
    }
    sound.then(|| text.text.to_owned())
}

fn is_profile(text: &Text<'_>, problems: &mut Problems<'_>) -> bool {
    let sound = PROFILES.iter().any(|profile| profile.name == text.text);
    if !sound {
        let known: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
        problems.error(&text.at, quoted(text.text), format!("the name of a tenant profile: {}", known.join(", ")));
    }
    sound
}

/// Lower-case letters, digits and hyphens.
fn is_id(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=60).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::add_folder;
    use super::*;

    const SOUND: &str = "name = \"Talk\"\nprovider = \"Somebody\"\ncategory = \"chat\"\n[[part]]\nid = \"app\"\n\
                         title = \"Application\"\npurpose = \"application\"\nhosts = [\"talk.example\", \"*.talk.example\"]\n\
                         [[part.never_inspect]]\nhosts = [\"pinned.talk.example\"]\nwhy = \"certificate-pinned\"\n\
                         [[part.source]]\nurl = \"https://talk.example/hosts\"\nread = 2026-11-28\nconfidence = \"H\"\n";

    fn refusals(text: &str) -> Vec<String> {
        let problems = read("talk.toml", "talk", text).err().unwrap_or_default();
        problems.iter().map(|problem| problem.to_string().lines().next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_sound_file_is_an_entry() {
        let entry = read("talk.toml", "talk", SOUND).expect("sound");
        assert_eq!((entry.id.as_str(), entry.parts.len(), entry.file), ("talk", 1, None));
        let part = entry.parts.first().expect("a part");
        assert_eq!((part.ports.as_slice(), part.plain_http, part.hosts.len()), ([443].as_slice(), false, 2));
        assert_eq!(part.never_inspect.first().map(|exception| exception.why), Some(Why::CertificatePinned));
        assert_eq!(part.sources.first().map(|source| source.read.as_str()), Some("2026-11-28"));
    }

    #[test]
    fn l05_whatever_is_wrong_in_a_file_refuses_it_with_its_place() {
        for (from, to, expected) in [
            (
                "title",
                "titel",
                "talk.toml:6:1: error: part[0].titel: found an unknown key, expected a key of [[part]]: ",
            ),
            ("\"chat\"", "\"gossip\"", "talk.toml:3:12: error: category: found \"gossip\", expected \"identity\" or "),
            (
                "\"app\"",
                "\"The App\"",
                "talk.toml:5:6: error: part[0].id: found \"The App\", expected lower-case letters",
            ),
            (
                "\"*.talk.example\"",
                "\"talk.example\"",
                "talk.toml:8:26: error: part[0].hosts[1]: found \"talk.example\", expected each pattern once",
            ),
            (
                "\"*.talk.example\"",
                "\"*.com\"",
                "talk.toml:8:26: error: part[0].hosts[1]: found \"*.com\", expected a pattern below what one",
            ),
            (
                "\"*.talk.example\"",
                "\"{name}.example\"",
                "talk.toml:8:26: error: part[0].hosts[1]: found \"{name}.example\", expected a host pattern",
            ),
            (
                "pinned.talk",
                "pinned.chat",
                "talk.toml:10:10: error: part[0].never_inspect[0].hosts[0]: found \"pinned.chat.example\", expected a pattern within",
            ),
            (
                "certificate-pinned",
                "pinned",
                "talk.toml:11:7: error: part[0].never_inspect[0].why: found \"pinned\", expected \"certificate-pinned\" or ",
            ),
            (
                "2026-11-28",
                "\"2026\"",
                "talk.toml:12:1: error: part[0].source[0].read: found nothing, expected the day it was read",
            ),
            (
                "confidence = \"H\"",
                "",
                "talk.toml:12:1: error: part[0].source[0].confidence: found nothing, expected H, M, L",
            ),
        ] {
            let text = SOUND.replacen(from, to, 1);
            let found = refusals(&text);
            assert!(found.iter().any(|line| line.starts_with(expected)), "{to}: {found:#?}");
        }
        assert_eq!(refusals(SOUND), Vec::<String>::new());
        for cut in 0..SOUND.len() {
            // A file cut short may still be sound where only a later part of it is gone; never may it do harm.
            let _ = refusals(&SOUND[..cut]);
        }
    }

    #[test]
    fn every_file_of_the_program_is_sound_and_in_the_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalog");
        let mut read_here = Catalogue::default();
        add_folder(&mut read_here, &folder).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let names = |catalogue: &Catalogue| catalogue.entries().map(|entry| entry.id.clone()).collect::<BTreeSet<_>>();
        assert_eq!(names(&read_here), names(&built_in()));
    }

    #[test]
    fn a_folder_replaces_and_adds_and_a_broken_file_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = directory.path().join("catalog");
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("slack.toml"), SOUND).expect("written");
        let mut catalogue = built_in();
        add_folder(&mut catalogue, &folder).expect("sound");
        let slack = catalogue.entry("slack").expect("there");
        assert!(slack.name == "Talk" && slack.file.as_ref().is_some_and(|file| file.ends_with("slack.toml")));
        fs::write(folder.join("Upper.toml"), SOUND).expect("written");
        fs::write(folder.join("broken.toml"), "name = 1\n").expect("written");
        fs::write(folder.join("ignored.txt"), "no TOML").expect("written");
        // Neither is waited for, nor read for ever.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.join("pipe.toml"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .expect("a FIFO");
        std::os::unix::fs::symlink("/dev/zero", folder.join("zero.toml")).expect("a link");
        let problems = add_folder(&mut catalogue, &folder).expect_err("two are broken");
        let shown: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
        assert!(shown.contains("Upper.toml: error: found a name that is no id"), "{shown}");
        assert!(shown.contains("broken.toml:1:8: error: name: found 1, expected a text in quotes"), "{shown}");
        for name in ["pipe", "zero"] {
            assert!(
                shown.contains(&format!("{name}.toml: error: found no readable file (it is no ordinary file)")),
                "{shown}"
            );
        }
        fs::remove_dir_all(&folder).expect("removed");
        let missing = add_folder(&mut catalogue, &folder).expect_err("no folder");
        assert!(missing.first().is_some_and(|problem| problem.found.starts_with("no readable folder")), "{missing:?}");
    }
}
