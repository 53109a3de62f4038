//! `[control]`: where the control socket is, and which groups of this machine may ask what of it.
//!
//! The names of groups are looked up when the file is loaded, so that one that is not there is found by `check` and not by the one who
//! is turned away.

use std::path::{Path, PathBuf};

use super::problem::{LoadError, Problems, quoted};
use super::reader::{Table, Text};
use super::{Scope, document, read, schema, settings};
use crate::control::accounts::Accounts;
use crate::control::socket::MAX_PATH;
use crate::control::{Group, Settings};

/// Where the machine keeps its groups.
const ETC: &str = "/etc";

/// The section before the machine is asked for its groups.
pub(super) struct Lowered<'t> {
    socket: PathBuf,
    viewers: Option<Text<'t>>,
    operators: Option<Text<'t>>,
}

/// `None` where there is no `[control]`, or an error in it.
pub(super) fn control<'t>(root: &Table<'t>, base: &Path, problems: &mut Problems<'_>) -> Option<Lowered<'t>> {
    let table = root.table("control", Some(&schema::CONTROL), problems);
    if !table.is_present() {
        return None;
    }
    let socket = table.required_text("socket", "a path, such as \"/run/sekisho/control.sock\"", problems);
    let (viewers, operators) = (table.text("viewers", problems), table.text("operators", problems));
    let socket = socket.and_then(|text| {
        let path = settings::file(&text, base, problems)?;
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            let expected =
                format!("at most {MAX_PATH}: the system's limit for a socket, and room for a temporary name");
            problems.error(&text.at, format!("a path of {length} octets"), expected);
            return None;
        }
        Some(path)
    });
    Some(Lowered { socket: socket?, viewers, operators })
}

/// With the numbers of the groups. Without the machine that it is for, groups that are not known are nobody's.
pub(super) fn resolve(lowered: Option<Lowered<'_>>, scope: Scope, problems: &mut Problems<'_>) -> Option<Settings> {
    resolve_by(Path::new(ETC), lowered?, scope, problems)
}

fn resolve_by(etc: &Path, lowered: Lowered<'_>, scope: Scope, problems: &mut Problems<'_>) -> Option<Settings> {
    let Lowered { socket, viewers, operators } = lowered;
    let named = [&viewers, &operators].into_iter().flatten().find(|text| number(text.text).is_none());
    let accounts = named.and_then(|text| match Accounts::read(etc) {
        Ok(accounts) => Some(accounts),
        Err(error) => {
            if scope != Scope::WithoutIssuingCa {
                let found = format!("no readable /etc/passwd and /etc/group ({error})");
                problems.error(&text.at, found, "the machine's groups");
            }
            None
        }
    });
    let mut group = |text: Option<Text<'_>>| {
        let text = text?;
        let id = number(text.text).or_else(|| accounts.as_ref()?.group(text.text));
        if id.is_none() && accounts.is_some() && scope != Scope::WithoutIssuingCa {
            let problem = problems.error(
                &text.at,
                quoted(text.text),
                "a group of this machine's /etc/group, or a group's number",
            );
            problem.hint("make it with `groupadd --system NAME`; of a group that only a directory service knows, write the number");
        }
        Some(Group { name: text.text.to_owned(), id: id? })
    };
    Some(Settings { socket, viewers: group(viewers), operators: group(operators) })
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// The socket of the section alone, however broken the rest is: who looks at a service or puts a configuration back must not need one
/// that loads.
///
/// # Errors
/// The file cannot be read or is no TOML, or the section is wrong or not there.
pub fn control_socket(path: &Path) -> Result<PathBuf, LoadError> {
    let shown = path.display().to_string();
    let text = read(path, &shown)?;
    let mut problems = Problems::new(&shown, &text);
    let socket = document::parse(&mut problems).and_then(|tree| {
        // What else is wrong is for `check` to say.
        let root = Table::root(&tree, &schema::ROOT, &mut Problems::new(&shown, &text));
        let base = path.parent().unwrap_or(Path::new(""));
        let socket = control(&root, base, &mut problems).map(|lowered| lowered.socket);
        if !root.has("control") {
            root.missing("control", "[control] with a socket, or --socket PATH on the command line", &mut problems);
        }
        socket
    });
    match socket {
        Some(socket) if !problems.any_error() => Ok(socket),
        Some(_) | None => Err(LoadError { file: path.to_owned(), problems: problems.into_sorted() }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::*;
    use crate::config::load;

    const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n";

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sekisho.toml");
        fs::write(&path, text).expect("written");
        (dir, path)
    }

    #[test]
    fn groups_are_looked_up_on_the_machine() {
        let (dir, path) =
            file(&format!("{LISTENER}[control]\nsocket = \"c.sock\"\nviewers = \"root\"\noperators = \"4242\"\n"));
        let settings = load(&path, Scope::Full, SystemTime::now()).expect("loads").control.expect("there");
        assert_eq!(settings.socket, dir.path().join("c.sock"));
        assert_eq!(settings.viewers, Some(Group { name: "root".to_owned(), id: 0 }));
        assert_eq!(settings.operators, Some(Group { name: "4242".to_owned(), id: 4242 }));
        let (_dir, path) = file(&format!("{LISTENER}[control]\nsocket = \"c.sock\"\noperators = \"no such group\"\n"));
        let error = load(&path, Scope::Full, SystemTime::now()).expect_err("no such group");
        let mut errors = error.problems.iter().filter(|problem| problem.is_error());
        let (Some(problem), None) = (errors.next(), errors.next()) else { panic!("{error}") };
        assert_eq!((problem.line, problem.key.as_str()), (5, "control.operators"));
        assert_eq!(problem.found, "\"no such group\"");
        assert_eq!(problem.expected, "a group of this machine's /etc/group, or a group's number");
        let elsewhere = load(&path, Scope::WithoutIssuingCa, SystemTime::now()).expect("loads elsewhere");
        assert_eq!(elsewhere.control.expect("there").operators, None);
    }

    #[test]
    fn where_the_groups_cannot_be_read_no_group_is_said_to_be_missing() {
        let text = "[control]\nsocket = \"c.sock\"\nviewers = \"4242\"\noperators = \"adm\"\n";
        let (dir, _) = file(text);
        let mut problems = Problems::new("sekisho.toml", text);
        let tree = document::parse(&mut problems).expect("TOML");
        let root = Table::root(&tree, &schema::ROOT, &mut problems);
        let lowered = control(&root, dir.path(), &mut problems).expect("a section");
        let settings = resolve_by(dir.path(), lowered, Scope::Full, &mut problems).expect("settings");
        assert_eq!((settings.viewers.map(|group| group.id), settings.operators), (Some(4242), None));
        let problems = problems.into_sorted();
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!((problem.line, problem.key.as_str()), (4, "control.operators"));
        assert!(problem.found.starts_with("no readable /etc/passwd and /etc/group ("), "{problem}");
    }

    #[test]
    fn the_socket_is_found_in_a_file_that_does_not_load() {
        let (dir, path) = file("[control]\nsocket = \"run/c.sock\"\nviewers = \"no such group\"\n[nonsense]\n");
        assert_eq!(control_socket(&path).expect("found"), dir.path().join("run/c.sock"));
        for (text, said) in [
            ("[control]\nviewers = \"root\"\n", "control.socket"),
            ("[site]\n", "or --socket PATH on the command line"),
            ("[control", "sekisho.toml:1"),
            ("[control]\nsocket = \"\"\n", "a file, relative to this one or absolute"),
        ] {
            let (_dir, path) = file(text);
            let error = control_socket(&path).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let (_dir, path) = file(&format!("[control]\nsocket = \"/{}\"\n", "x".repeat(MAX_PATH)));
        assert!(control_socket(&path).expect_err("long").to_string().contains("a path of 91 octets"));
    }
}
