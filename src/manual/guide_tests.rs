//! What the two pages of the guide say is there: commands, files, keys, alerts; and the same in both languages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::cli;
use crate::config::{self, Scope};
use crate::reason::Reason;

const PAGES: [&str; 2] = [include_str!("guide.md"), include_str!("guide_ja.md")];
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The fenced blocks: what the fence says they are, and their text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("```").skip(1).step_by(2);
    parts.map(|block| block.split_once('\n').expect("a fence of its own line")).collect()
}

/// What stands in backticks outside of the fenced blocks.
fn quoted(page: &str) -> Vec<&str> {
    page.split("```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

/// The words of a line as a shell takes them; of its quotes only the single ones.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.last_mut().expect("one at least").push_str(part);
            continue;
        }
        for (at, word) in part.split(' ').enumerate() {
            if at > 0 {
                words.push(String::new());
            }
            words.last_mut().expect("one at least").push_str(word);
        }
    }
    words
}

/// What is told to `sekisho`, where the line runs it: as its first word, or behind the options of what runs it.
fn told(line: &str) -> Option<Vec<String>> {
    let words = words(line);
    let runner = ["sekisho", "systemd-run", "runuser"].contains(&words.first()?.as_str());
    // The user of `runuser -u` is another.
    let at = words.iter().position(|word| word == "sekisho")?;
    runner.then(|| words.into_iter().skip(at + 1).collect())
}

fn lines_of_shell(page: &str) -> impl Iterator<Item = &str> {
    blocks(page).into_iter().filter(|(kind, _)| *kind == "sh").flat_map(|(_, text)| text.lines())
}

#[test]
fn both_languages_have_the_same_chapters_and_the_same_blocks() {
    let numbers = |page: &'static str| -> Vec<_> {
        let heads = page.split("```").step_by(2).flat_map(str::lines).filter_map(|line| line.strip_prefix("# "));
        heads.map(|head| head.split_once(". ").expect(head).0).collect()
    };
    let [english, japanese] = PAGES;
    assert_eq!(numbers(english), (1..=14).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(numbers(english), numbers(japanese));
    assert_eq!(blocks(english), blocks(japanese));
}

/// As rustdoc names a heading: small letters, a hyphen for each space, no punctuation.
#[test]
fn every_link_to_a_chapter_leads_to_one() {
    for page in PAGES {
        let heads = page.split("```").step_by(2).flat_map(str::lines).filter_map(|line| line.strip_prefix("# "));
        let kept = |c: char| c.is_alphanumeric() || ['-', '_', ' '].contains(&c);
        let anchors: BTreeSet<_> =
            heads.map(|head| head.to_lowercase().replace(|c| !kept(c), "").replace(' ', "-")).collect();
        let links: Vec<_> = page.split("](#").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
        assert!(links.len() > 5, "{links:?}");
        for link in links {
            assert!(anchors.contains(link), "{link}: {anchors:?}");
        }
    }
}

#[test]
fn every_command_of_the_guide_is_one() {
    let mut tried = BTreeSet::new();
    for line in PAGES.iter().flat_map(|page| lines_of_shell(page)) {
        let Some(told) = told(line) else { continue };
        let told: Vec<_> = told.iter().map(String::as_str).collect();
        cli::takes(&told).unwrap_or_else(|error| panic!("{line}\n{error}"));
        tried.insert(told.first().copied().unwrap_or_default().to_owned());
    }
    let expected = ["apply", "ca", "catalog", "check", "confirm", "explain", "prove", "rollback", "sessions", "status"];
    assert_eq!(tried.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    cli::takes(&["apply", "--no-such-option"]).expect_err("a command that is none");
}

#[test]
fn what_the_text_of_the_guide_quotes_of_commands_is_there() {
    for quoted in PAGES.iter().flat_map(|page| quoted(page)) {
        if let Some(told) = quoted.strip_prefix("sekisho ") {
            cli::takes(&told.split(' ').collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{quoted}\n{error}"));
        }
    }
}

/// Where the package puts its files, by the assets of Cargo.toml.
fn packaged() -> BTreeSet<String> {
    let manifest = fs::read_to_string(format!("{ROOT}/Cargo.toml")).expect("Cargo.toml");
    let assets = manifest.split_once("\nassets = [\n").expect("assets").1.split_once("\n]").expect("their end").0;
    let mut found = BTreeSet::new();
    for line in assets.lines() {
        let cells: Vec<_> = line.split('"').skip(1).step_by(2).collect();
        let [from, to, _mode] = cells.as_slice() else { panic!("{line}") };
        if !to.ends_with('/') {
            // The package has its changelog compressed, as Debian asks for.
            let packed = if to.ends_with("/changelog") { ".gz" } else { "" };
            found.insert(format!("/{to}{packed}"));
            continue;
        }
        // What is built is there after a release build only.
        let built = [Path::new(from).to_path_buf()].into_iter().filter(|_| from.starts_with("target/"));
        for file in glob::glob(&format!("{ROOT}/{from}")).expect(from).map(|file| file.expect("read")).chain(built) {
            found.insert(format!("/{to}{}", file.file_name().expect("a name").to_string_lossy()));
        }
    }
    found
}

#[test]
fn every_file_that_the_guide_names_is_there() {
    let packaged = packaged();
    let mut seen = 0;
    for page in PAGES {
        let shell = lines_of_shell(page).flat_map(|line| line.split(' '));
        for name in quoted(page).into_iter().chain(shell) {
            let here = ["deploy/", "config/", "tests/"].iter().any(|folder| name.starts_with(folder));
            if here {
                assert!(Path::new(ROOT).join(name).exists(), "{name}");
            } else if name.starts_with("/usr/share/doc/sekisho/") {
                let inside = packaged.range(name.to_owned()..).next().is_some_and(|first| first.starts_with(name));
                assert!(inside, "{name}: {packaged:?}");
            } else {
                continue;
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// `section.key` of every key that config/sekisho.toml shows, live or commented.
fn keys() -> BTreeSet<String> {
    let sample = fs::read_to_string(format!("{ROOT}/config/sekisho.toml")).expect("the sample");
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in sample.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            let name = line.trim_start_matches('[').split(']').next().unwrap_or_default();
            name.clone_into(&mut section);
            keys.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn every_key_that_the_guide_names_is_in_the_sample_of_the_configuration() {
    let keys = keys();
    let sections: BTreeSet<_> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let mut seen = BTreeSet::new();
    for name in PAGES.iter().flat_map(|page| quoted(page)) {
        let header = name.starts_with('[') && name.ends_with(']');
        let plain = name.trim_matches(['[', ']']);
        let word = plain.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.');
        let section = plain.split('.').next().unwrap_or_default();
        // catalog.d is a folder.
        if word && (header || plain.contains('.') && sections.contains(section)) && plain != "catalog.d" {
            assert!(keys.contains(plain), "{name}");
            seen.insert(plain);
        }
    }
    for known in
        ["control.viewers", "issuing_ca.next", "listener.proxy_protocol", "upstream.crl_stale", "service.ismap"]
    {
        assert!(seen.contains(known), "{known}: {seen:?}");
    }
}

/// The groups are the package's, the folder and the certificates are made in chapter 3.
#[test]
fn the_configuration_of_the_guide_loads() {
    let directory = tempfile::tempdir().expect("directory");
    fs::create_dir(directory.path().join("catalog.d")).expect("a folder");
    let file = directory.path().join("sekisho.toml");
    let [(_, text)] = blocks(PAGES[0]).into_iter().filter(|(kind, _)| *kind == "toml").collect::<Vec<_>>()[..] else {
        panic!("one whole configuration");
    };
    let text = text.replace("\"sekisho-viewers\"", "\"4001\"").replace("\"sekisho-operators\"", "\"4002\"");
    fs::write(&file, text).expect("written");
    let config = config::load(&file, Scope::WithoutIssuingCa, SystemTime::now());
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.inspected().count(), 3, "the three hosts of chapter 4");
}

#[test]
fn every_alert_is_in_the_guide_with_its_severity() {
    let rules = include_str!("../../deploy/prometheus/sekisho.rules.yml");
    let alerts = rules.split("- alert: ").skip(1).map(|rule| {
        let severity = rule.split_once("severity: ").expect("a severity").1.lines().next().expect("a line");
        (rule.lines().next().expect("a name"), severity)
    });
    let alerts: Vec<_> = alerts.collect();
    for page in PAGES {
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `Sekisho"));
        let rows: Vec<_> = rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>()).collect();
        let expected: Vec<_> = alerts
            .iter()
            .map(|(name, severity)| vec![format!("{}`", name.trim_start_matches("Sekisho")), (*severity).to_owned()])
            .collect();
        assert_eq!(rows, expected);
    }
}

#[test]
fn the_reasons_that_the_guide_names_are_reasons() {
    for page in PAGES {
        let quoted = quoted(page);
        for reason in [
            "certificate_invalid",
            "client_rejected_certificate",
            "overloaded",
            "policy_withdrawn",
            "record_unavailable",
        ] {
            assert!(quoted.contains(&reason), "{reason}");
            assert!(Reason::ALL.iter().any(|known| known.to_string() == reason), "{reason}");
        }
    }
}
