//! Only rules about the text of the package belong here: who may import whom, how long a file or function may be, what may be
//! made where, which row of the catalogue of attacks has a test. Each fails with every place at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 60;

/// Every module, each with those it imports. A module may import only what stands above it, so there is no cycle; what it imports
/// must stand in its row, and what stands there must be imported. `cli` may ask anyone.
const MODULES: [(&str, &[&str]); 44] = [
    // A literal table.
    ("names", &[]),
    ("addrs", &[]),
    ("reason", &[]),
    ("drain", &[]),
    ("telemetry", &[]),
    ("locks", &[]),
    ("seldom", &["locks"]),
    ("turns", &[]),
    ("aside", &[]),
    ("files", &[]),
    ("sockets", &[]),
    ("tls", &[]),
    ("admit", &["addrs", "locks", "reason", "turns"]),
    ("pressure", &["locks", "sockets"]),
    ("tunnel", &["admit", "pressure", "seldom", "sockets"]),
    ("flight", &["locks", "reason"]),
    ("client", &["addrs", "sockets"]),
    ("http1", &["reason"]),
    ("reply", &["http1", "reason"]),
    ("record", &["addrs", "aside", "locks", "names", "reason"]),
    ("policy", &["addrs", "names", "reason"]),
    ("catalog", &["names", "policy"]),
    ("feed", &["catalog", "files", "names", "policy"]),
    ("control", &["files"]),
    ("pac", &["addrs", "names", "policy"]),
    ("learning", &["addrs", "catalog", "names", "policy", "reason"]),
    ("identify", &["addrs", "client", "http1", "names", "policy", "reason"]),
    ("upstream", &["addrs", "admit", "files", "flight", "locks", "names", "policy", "reason", "sockets", "tls"]),
    ("exchange", &["pressure", "reason", "record", "reply"]),
    ("forward", &["admit", "exchange", "http1", "reason"]),
    (
        "inspect",
        &[
            "addrs", "admit", "drain", "exchange", "files", "forward", "http1", "locks", "names", "policy", "pressure",
            "reason", "record", "reply", "tls", "turns",
        ],
    ),
    (
        "config",
        &[
            "addrs", "admit", "catalog", "control", "exchange", "feed", "files", "identify", "inspect", "names", "pac",
            "policy", "pressure", "record", "tunnel", "upstream",
        ],
    ),
    ("restrict", &["config", "files", "sockets", "upstream"]),
    ("minter", &["config", "inspect", "locks", "policy", "restrict"]),
    (
        "connection",
        &[
            "addrs", "admit", "client", "config", "drain", "exchange", "forward", "http1", "identify", "inspect",
            "locks", "names", "policy", "pressure", "reason", "record", "reply", "seldom", "tunnel", "upstream",
        ],
    ),
    (
        "proof",
        &["addrs", "admit", "config", "connection", "locks", "names", "policy", "record", "sockets", "tls", "upstream"],
    ),
    ("autoconfig", &["addrs", "admit", "aside", "connection", "flight", "locks", "pac", "policy", "sockets"]),
    (
        "admin",
        &[
            "admit",
            "autoconfig",
            "connection",
            "policy",
            "pressure",
            "proof",
            "reason",
            "record",
            "restrict",
            "sockets",
            "telemetry",
        ],
    ),
    (
        "probe",
        &[
            "addrs",
            "admit",
            "config",
            "connection",
            "identify",
            "names",
            "policy",
            "reason",
            "record",
            "sockets",
            "telemetry",
            "tls",
            "tunnel",
            "upstream",
        ],
    ),
    (
        "server",
        &[
            "addrs",
            "admin",
            "admit",
            "aside",
            "autoconfig",
            "config",
            "connection",
            "control",
            "files",
            "locks",
            "minter",
            "policy",
            "pressure",
            "probe",
            "proof",
            "record",
            "restrict",
            "sockets",
            "telemetry",
            "upstream",
        ],
    ),
    // Nothing of the proxy but its vocabulary: a client that read with the proxy's parsers would share its mistakes.
    ("load", &["addrs", "files", "locks", "names"]),
    ("manual", &[]),
    ("cli", ANYONE),
    ("main", ANYONE),
];
const ANYONE: &[&str] = &["*"];

/// What may be written in few files only: the text, and the files.
const MADE_IN: [(&str, &[&str]); 25] = [
    // A literal table.
    ("Permit::new(", &["src/policy/decision.rs"]),
    ("Destination {", &["src/policy/decision.rs"]),
    ("Observing {", &["src/policy/observe.rs"]),
    ("Agreed {", &["src/policy/reconcile.rs"]),
    ("VettedAddr(", &["src/upstream/vet.rs"]),
    ("VerifiedUpstream {", &["src/upstream/verify.rs"]),
    ("Admission {", &["src/admit.rs"]),
    ("Visit { slots", &["src/admit.rs"]),
    ("Slots {", &["src/admit/subjects.rs"]),
    ("Established(())", &["src/client.rs"]),
    ("Attempt::new(", &["src/record.rs"]),
    ("BalancerAddr::new(", &["src/config/listener.rs"]),
    (".witnessed()", &["src/probe.rs", "src/proof/standing.rs", "src/record.rs"]),
    ("Disagreement::new(", &["src/policy/reconcile.rs"]),
    ("Denial {", &["src/policy/decision.rs"]),
    ("200 Connection Established", &["src/client.rs"]),
    (".dangerous()", &["src/upstream/trust.rs"]),
    ("StandIn::on_loopback(", &["src/proof.rs"]),
    // It panics where no thread can be started; `aside` says so.
    ("spawn_blocking(", &[]),
    // A lock that was poisoned is taken as it is, and the record's waits with it.
    ("PoisonError", &["src/locks.rs", "src/record/shared.rs"]),
    // What somebody else may have put there is read by `files`. Here: what the kernel writes, and folders.
    ("fs::read(", &[]),
    ("from_pem_file(", &[]),
    ("pem_file_iter(", &[]),
    (
        "fs::read_to_string(",
        &["src/cli/upgrade.rs", "src/load/capacity.rs", "src/pressure/machine.rs", "src/server/watch.rs"],
    ),
    (
        "File::open(",
        &[
            "src/cli/folder.rs",
            "src/cli/replace.rs",
            "src/config/source.rs",
            "src/feed/shelf.rs",
            "src/inspect/install.rs",
            "src/pressure/readings.rs",
            "src/record.rs",
            "src/record/writer.rs",
        ],
    ),
];

/// Tasks nobody waits for: a connection, a run of a look-up (a client that leaves must not end it).
const SPAWNS: [&str; 2] = ["src/flight.rs", "src/server/accept.rs"];

/// Who opens TCP connections: the one place for destinations, and the clients that `quickstart`, `load` and the probes play.
const DIALS: [&str; 4] = ["src/cli/trial.rs", "src/load/dial.rs", "src/sockets.rs", "src/upstream/connect.rs"];

/// The rows of the catalogue (`threats.md`) that apply to a proxy: group and last number, and what stands alone.
const GROUPS: [(char, u32); 14] = [
    // A literal table.
    ('A', 20),
    ('B', 9),
    ('C', 14),
    ('D', 17),
    ('E', 20),
    ('F', 11),
    ('G', 11),
    ('H', 12),
    ('I', 8),
    ('J', 8),
    ('K', 7),
    ('L', 8),
    ('N', 5),
    ('O', 6),
];
const ROWS: [&str; 5] = ["M01", "M02", "M05", "M06", "M07"];

/// A file of `src`, as far as it is in the program.
struct Source {
    /// From the package's directory on.
    path: String,
    /// Without what follows `#[cfg(test)] mod … {`, which stands last.
    text: String,
}

impl Source {
    /// The module right below the crate.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or(below)
    }

    /// The lines that are not comments, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories: Vec<PathBuf> = vec![package().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the package") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path.strip_prefix(package()).expect("inside").to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(package().join(path)).expect(path)
}

/// Files that are there for tests only: `#[cfg(test)]`, perhaps `#[path = "…"]`, `mod name;`.
fn test_files(files: &[String]) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for file in files {
        let text = read(file);
        for (_, rest) in text.match_indices("#[cfg(test)]\n").map(|(at, mark)| text.split_at(at + mark.len())) {
            let (named, rest) = match rest.strip_prefix("#[path = \"").and_then(|rest| rest.split_once("\"]\n")) {
                Some((named, rest)) => (Some(named), rest),
                None => (None, rest),
            };
            let first = rest.lines().next().unwrap_or_default();
            let Some(name) = first.strip_suffix(';').and_then(|line| line.rsplit_once("mod ")).map(|(_, name)| name)
            else {
                continue;
            };
            let beside = file.rsplit_once('/').map_or("src", |(directory, _)| directory);
            let below = file.strip_suffix(".rs").expect("Rust").to_owned();
            let own = if matches!(file.as_str(), "src/lib.rs" | "src/main.rs") { "src".to_owned() } else { below };
            let path = named.map_or_else(|| format!("{own}/{name}.rs"), |named| format!("{beside}/{named}"));
            tests.insert(format!("{}/", path.strip_suffix(".rs").expect("Rust")));
            tests.insert(path);
        }
    }
    tests
}

fn sources() -> Vec<Source> {
    let files = rust_files("src");
    let tests = test_files(&files);
    let in_tests =
        |path: &String| tests.iter().any(|test| path == test || (test.ends_with('/') && path.starts_with(test)));
    let sources: Vec<_> = files.iter().filter(|path| !in_tests(path)).map(|path| source(path)).collect();
    assert!(sources.len() > 60, "{} files: is this the package?", sources.len());
    sources
}

fn source(path: &str) -> Source {
    let text = read(path);
    let inline = text.match_indices("#[cfg(test)]\nmod ").find(|(at, mark)| {
        let line = text[at + mark.len()..].lines().next().unwrap_or_default();
        line.ends_with('{')
    });
    let text = inline.map_or(text.as_str(), |(at, _)| &text[..at]).to_owned();
    Source { path: path.to_owned(), text }
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn files_stand_where_a_guess_finds_them() {
    let mut found = Vec::new();
    let files = rust_files("src");
    let tests = test_files(&files);
    for file in files {
        let depth = file.matches('/').count();
        // The tests of src/x/y.rs stand in src/x/y/.
        let of_tests = tests.iter().any(|test| file == *test || file.starts_with(test));
        if file.ends_with("/mod.rs") || depth > 2 && !of_tests {
            found.push(file);
        }
    }
    none("no mod.rs, nothing deeper than src/x/y.rs", &found);
}

#[test]
fn every_file_says_what_it_is() {
    let mut found: Vec<_> =
        sources().into_iter().filter(|source| !source.text.starts_with("//!")).map(|s| s.path).collect();
    found.extend(rust_files("tests/it").into_iter().filter(|path| !read(path).starts_with("//!")));
    none("these files do not begin with //!", &found);
}

#[test]
fn files_are_read_in_one_sitting() {
    let long = |source: &Source| source.text.lines().count() > MAX_FILE_LINES;
    let found: Vec<_> = sources()
        .iter()
        .filter(|source| long(source))
        .map(|s| format!("{} ({})", s.path, s.text.lines().count()))
        .collect();
    none(&format!("more than {MAX_FILE_LINES} lines without tests"), &found);
}

/// rustfmt puts a function's last brace below its first letter.
#[test]
fn functions_fit_on_a_screen() {
    let mut found = Vec::new();
    for source in sources() {
        let lines: Vec<_> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let is_fn = ["fn ", "pub fn ", "async fn ", "pub async fn ", "const fn ", "pub const fn "]
                .iter()
                .any(|start| code.starts_with(start))
                || (code.starts_with("pub(") && code.contains(") fn ") || code.contains(") async fn "));
            if !is_fn {
                continue;
            }
            let last = format!("{}}}", &line[..line.len() - code.len()]);
            let opens =
                lines[at..].iter().position(|line| line.ends_with('{') || line.ends_with("}") || line.ends_with(';'));
            let Some(opens) = opens.filter(|opens| lines[at + opens].ends_with('{')) else { continue };
            let Some(length) = lines[at..].iter().position(|line| *line == last) else { continue };
            let is_table = lines.get(at + opens + 1).is_some_and(|line| line.trim() == "// A literal table.");
            if length > MAX_FUNCTION_LINES && !is_table {
                found.push(format!("{}:{} ({length})", source.path, at + 1));
            }
        }
    }
    none(&format!("functions of more than {MAX_FUNCTION_LINES} lines"), &found);
}

#[test]
fn imports_follow_the_table() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| source.path != "src/lib.rs") {
        let found = imports.entry(source.module().to_owned()).or_default();
        for (_, line) in source.code() {
            for (at, mark) in line.match_indices("crate::") {
                let rest = &line[at + mark.len()..];
                let names = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap_or(list));
                let one = |text: &str| {
                    text.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
                };
                let several: Vec<_> =
                    if rest.starts_with('{') { names.split(',').map(one).collect() } else { vec![one(names)] };
                found.extend(several.into_iter().filter(|name| name != source.module()));
            }
        }
    }
    let mut wrong = Vec::new();
    for (at, (module, allowed)) in MODULES.iter().enumerate() {
        let above: BTreeSet<_> = MODULES[..at].iter().map(|(name, _)| *name).collect();
        let found = imports.remove(*module).unwrap_or_default();
        if *allowed == ANYONE {
            continue;
        }
        let listed = |name: &str| allowed.contains(&name);
        wrong.extend(found.iter().filter(|name| !listed(name)).map(|name| format!("{module} imports {name}")));
        wrong.extend(
            allowed
                .iter()
                .filter(|name| !found.contains(**name))
                .map(|name| format!("{module} no longer imports {name}: take it out of the table")),
        );
        wrong.extend(
            allowed
                .iter()
                .filter(|name| !above.contains(**name))
                .map(|name| format!("{module} may not import {name}, which stands below it")),
        );
    }
    wrong.extend(imports.into_keys().map(|module| format!("{module} is not in the table")));
    none("imports", &wrong);
}

#[test]
fn no_phase_knows_the_configuration_or_the_spine() {
    let importing = |what: &str| -> Vec<&str> {
        let imports = |(module, allowed): &&(&'static str, &[&str])| allowed.contains(&what) && *module != what;
        MODULES.iter().filter(imports).map(|(module, _)| *module).collect()
    };
    assert_eq!(importing("config"), ["restrict", "minter", "connection", "proof", "probe", "server"]);
    assert_eq!(importing("connection"), ["proof", "autoconfig", "admin", "probe", "server"]);
}

#[test]
fn evidence_is_made_in_one_place() {
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.code() {
            for (text, homes) in MADE_IN {
                let before = |at: usize| line[..at].chars().next_back();
                let made =
                    line.match_indices(text).any(|(at, _)| before(at).is_none_or(|c| !c.is_alphanumeric() && c != '_'));
                // Naming the type is not making it.
                let names = ["struct ", "impl ", "for ", "-> ", "-> &"]
                    .iter()
                    .any(|word| line.contains(&format!("{word}{text}")));
                if made && !names && !homes.contains(&source.path.as_str()) {
                    found.push(format!("{}:{number}: {text} belongs in {}", source.path, homes.join(", ")));
                }
            }
            let dials = line.contains("TcpStream::connect") || line.contains("TcpSocket::");
            if dials && !DIALS.contains(&source.path.as_str()) {
                found.push(format!("{}:{number}: only src/upstream/connect.rs dials", source.path));
            }
            if line.contains("tokio::spawn(") && !SPAWNS.contains(&source.path.as_str()) {
                found.push(format!("{}:{number}: a task nobody waits for", source.path));
            }
        }
    }
    for (text, homes) in MADE_IN {
        for home in homes {
            let made = source(home)
                .code()
                .any(|(_, line)| line.contains(text) || line.contains("Self {") || line.contains("Self("));
            if !made {
                found.push(format!("{text} is not in {home}"));
            }
        }
    }
    none("made elsewhere", &found);
}

/// `c01_c02_…` names two rows.
fn tested_rows() -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        for line in read(&file).lines() {
            let Some((_, name)) = line.split_once("fn ") else { continue };
            let ids =
                name.split('_').take_while(|part| matches!(part.as_bytes(), [b'a'..=b'z', b'0'..=b'9', b'0'..=b'9']));
            rows.extend(ids.map(str::to_uppercase));
        }
    }
    rows
}

/// The first cells of the rows of the manual's page, those above and those below the heading.
fn manual_rows() -> (BTreeSet<String>, BTreeSet<String>) {
    let page = read("src/manual/threats.rs");
    let (stopped, left_out) = page.split_once("//! # Rows left out\n").expect("the heading");
    let ids = |text: &str| -> BTreeSet<String> {
        let cells = text.lines().filter_map(|line| line.strip_prefix("//! | ")?.split(" | ").next());
        cells
            .filter(|cell| matches!(cell.as_bytes(), [b'A'..=b'Z', b'0'..=b'9', b'0'..=b'9']))
            .map(str::to_owned)
            .collect()
    };
    (ids(stopped), ids(left_out))
}

#[test]
fn every_attack_is_in_the_manual_and_has_a_test_or_a_reason() {
    let numbered = GROUPS.iter().flat_map(|(group, last)| (1..=*last).map(move |number| format!("{group}{number:02}")));
    let rows: BTreeSet<String> = numbered.chain(ROWS.iter().map(|row| (*row).to_owned())).collect();
    let (stopped, left_out) = manual_rows();
    let tested = tested_rows();
    let mut found = Vec::new();
    for row in &rows {
        match (stopped.contains(row), left_out.contains(row)) {
            (true, false) if !tested.contains(row) => found.push(format!("{row}: no test has it in its name")),
            (false, false) => found.push(format!("{row}: the manual does not know it")),
            (true, true) => found.push(format!("{row}: the manual both stops it and leaves it out")),
            (true, false) | (false, true) => {}
        }
    }
    found.extend(stopped.difference(&rows).map(|row| format!("{row}: not a row of the groups named here")));
    none("attacks", &found);
}
