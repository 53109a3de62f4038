use std::sync::Barrier;
use std::time::Duration;

use super::*;
use crate::feed::endpoints::Feed;
use crate::feed::endpoints::tests::SMALL;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn staged(text: &str) -> Staged {
    Staged::new(Feed::parse(text.as_bytes()).expect("sound"), text.as_bytes(), "feed.json", None, at(0))
}

fn words(by: &str) -> Words {
    Words { by: by.to_owned(), note: Some("R8-112".to_owned()) }
}

fn shelf() -> (tempfile::TempDir, Shelf) {
    let directory = tempfile::tempdir().expect("a directory");
    let shelf = Shelf::new(directory.path());
    (directory, shelf)
}

/// Another feed of as many hosts.
fn another() -> String {
    SMALL.replace("smtp.office365.com", "smtp.office.com")
}

fn approve(shelf: &Shelf, text: &str) -> State {
    shelf.stage(&staged(text)).expect("staged");
    let state = shelf.approval(&words("山田 花子"), None, at(60)).expect("an approval");
    shelf.put(&state).expect("put");
    state
}

fn names(shelf: &Shelf) -> Vec<String> {
    let files = fs::read_dir(shelf.folder()).expect("a folder");
    let mut names: Vec<_> =
        files.map(|file| file.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn what_is_staged_and_approved_is_read_back_with_who_and_when() {
    let (_directory, shelf) = shelf();
    assert_eq!((shelf.newest().expect("none"), shelf.in_force().expect("none")), (0, None));
    let nothing = shelf.pending().expect_err("nothing").to_string();
    assert!(nothing.starts_with("nothing is pending in ") && nothing.contains("catalog import FILE"), "{nothing}");
    let feed = staged(SMALL);
    shelf.stage(&feed).expect("staged");
    assert_eq!(shelf.pending().expect("pending"), feed);
    assert_eq!(shelf.in_force().expect("nothing yet"), None);
    let state = shelf.approval(&words("山田 花子"), Some(&feed.digest()), at(60)).expect("an approval");
    shelf.put(&state).expect("put");
    shelf.clear(&feed);
    let read = shelf.in_force().expect("in force").expect("in force");
    assert_eq!(read, state);
    assert_eq!((read.number, read.by.as_str(), read.at.as_str()), (1, "山田 花子", "2027-01-15T08:01:00Z"));
    assert_eq!((read.note.as_deref(), read.restores, read.staged), (Some("R8-112"), None, Some(feed)));
    assert_eq!(names(&shelf), ["0001.json"], "nothing pending, nothing temporary");
}

#[test]
fn a_digest_is_of_the_sets_and_guards_what_was_reviewed() {
    let (_directory, shelf) = shelf();
    let (one, other) = (staged(SMALL), staged(&another()));
    assert_eq!(one.digest().len(), 12);
    assert_eq!(one.digest(), staged(&SMALL.replace("Outlook.Office365.com", "outlook.office365.com")).digest());
    assert_ne!(one.digest(), other.digest());
    shelf.stage(&other).expect("staged");
    let said = shelf.approval(&words("a"), Some(&one.digest()), at(0)).expect_err("another").to_string();
    let expected = format!(
        "the pending feed is {} and no longer {}: look at `sekisho catalog diff` again",
        other.digest(),
        one.digest()
    );
    assert_eq!(said, expected);
}

#[test]
fn a_reversal_goes_back_step_by_step_and_never_through_what_was_put_back() {
    let (_directory, shelf) = shelf();
    let back = |to: Option<u32>| shelf.reversal(&words("a"), to, at(120));
    let nothing = back(None).expect_err("nothing").to_string();
    assert_eq!(
        nothing,
        "no feed was approved here: the program's own list is in force, and there is nothing before it"
    );
    let first = approve(&shelf, SMALL);
    approve(&shelf, &another());
    let third = back(None).expect("state 1");
    assert_eq!((third.number, third.restores, &third.staged), (3, Some(1), &first.staged));
    shelf.put(&third).expect("put");
    assert_eq!(shelf.in_force().expect("read"), Some(third));
    // Not to state 2, which was just given up.
    let fourth = back(None).expect("the program's own");
    assert_eq!((fourth.number, fourth.restores, &fourth.staged), (4, Some(0), &None));
    shelf.put(&fourth).expect("put");
    assert!(matches!(back(None), Err(ShelfError::NothingBefore)));
    // By its number any of them can be had; who names a reversal means what that put back.
    assert_eq!(back(Some(3)).expect("state 1").restores, Some(1));
    assert_eq!(back(Some(2)).expect("state 2").restores, Some(2));
    assert_eq!(
        back(Some(7)).expect_err("none").to_string(),
        "no state 7 to go back to; `sekisho catalog history` shows those there are, 0 is the program's own list"
    );
    assert_eq!(back(Some(0)).expect_err("in force").to_string(), "what state 0 holds is in force already");
}

#[test]
fn of_two_who_approve_at_once_one_is_told_that_he_came_second() {
    let (_directory, shelf) = shelf();
    shelf.stage(&staged(SMALL)).expect("staged");
    let (one, other) = (shelf.approval(&words("one"), None, at(1)), shelf.approval(&words("other"), None, at(1)));
    shelf.put(&one.expect("an approval")).expect("put");
    let said = shelf.put(&other.expect("an approval")).expect_err("too late").to_string();
    assert!(
        said.contains("0001.json is there already: somebody else approved or reverted in the same moment"),
        "{said}"
    );
    assert_eq!(shelf.in_force().expect("read").map(|state| state.by), Some("one".to_owned()));
    assert_eq!(names(&shelf), ["0001.json", "pending.json"]);
}

#[test]
fn of_many_who_approve_at_once_exactly_one_succeeds() {
    const MANY: usize = 8;
    let (_directory, shelf) = shelf();
    shelf.stage(&staged(SMALL)).expect("staged");
    let ready = Barrier::new(MANY);
    let won: usize = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..MANY)
            .map(|n| {
                let (shelf, ready) = (&shelf, &ready);
                scope.spawn(move || {
                    let state = shelf.approval(&words(&format!("approver {n}")), None, at(1)).expect("an approval");
                    ready.wait();
                    shelf.put(&state).is_ok()
                })
            })
            .collect();
        tries.into_iter().map(|one| usize::from(one.join().expect("no panic"))).sum()
    });
    assert_eq!((won, shelf.newest().expect("read")), (1, 1));
    shelf.in_force().expect("the one that won is whole");
}

#[test]
fn a_crash_leaves_the_state_before_or_the_state_after() {
    let (_directory, shelf) = shelf();
    let first = approve(&shelf, SMALL);
    shelf.stage(&staged(&another())).expect("staged");
    // Before the file has its name: whatever part of it is there counts for nothing.
    let whole = fs::read(shelf.file(1)).expect("read");
    for cut in [0, 1, whole.len() / 2, whole.len()] {
        fs::write(shelf.folder().join(".0002.json.1.tmp"), &whole[..cut]).expect("written");
        assert_eq!(shelf.in_force().expect("read"), Some(first.clone()), "{cut}");
    }
    // After that, and before what was pending is taken away.
    let state = shelf.approval(&words("a"), None, at(60)).expect("an approval");
    shelf.put(&state).expect("put");
    assert_eq!(shelf.in_force().expect("read"), Some(state));
    assert!(shelf.pending().is_ok());
    // Another pending feed than the approved one is nobody's to take away.
    shelf.clear(&staged(SMALL));
    assert!(shelf.pending().is_ok());
    shelf.clear(&staged(&another()));
    assert!(matches!(shelf.pending(), Err(ShelfError::NothingPending(_))));
}

#[test]
fn l05_a_state_that_is_not_as_it_was_written_is_refused_and_none_before_it_taken() {
    let (_directory, shelf) = shelf();
    approve(&shelf, SMALL);
    approve(&shelf, &another());
    let file = shelf.file(2);
    let whole = fs::read_to_string(&file).expect("read");
    for (from, to, why) in [
        ("\"number\": 2", "\"number\": 1", "it says that it is state 1: it is a copy"),
        (
            "\"by\":",
            "\"who\":",
            "it is not as sekisho writes it (unknown field `who`, expected one of `number`, `by`, `at`, `note`, `restores`, `gone`, `feed` at line 3 column 7)",
        ),
        ("R8-112", "R8\\u001b[2J", "by, at or note is not as sekisho writes it"),
        ("2027-01-15T08:01:00Z", "yesterday", "by, at or note is not as sekisho writes it"),
        ("feed.json", "", "origin, taken, version or sha256 is not as sekisho writes it"),
        ("smtp.office.com", "*.com", "set 2: url \"*.com\", at or above the public suffix \"com\""),
        ("\"Allow\"", "\"Deny\"", "set 2: category \"Deny\", which is not Optimize, Allow or Default"),
    ] {
        fs::write(&file, whole.replacen(from, to, 1)).expect("written");
        let said = shelf.in_force().expect_err(from).to_string();
        assert_eq!(said, format!("{}: {why}", file.display()), "{from}");
    }
    for cut in 0..whole.trim_end().len() {
        fs::write(&file, &whole.as_bytes()[..cut]).expect("written");
        assert!(matches!(shelf.in_force(), Err(ShelfError::Broken { .. })), "{cut}");
    }
    // Still there is a way back.
    let back = shelf.reversal(&words("a"), None, at(120)).expect("a way back");
    assert_eq!((back.number, back.restores), (3, Some(1)));
}

#[test]
fn what_is_no_ordinary_file_is_neither_waited_for_nor_read_for_ever() {
    let (_directory, shelf) = shelf();
    approve(&shelf, SMALL);
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, shelf.file(2), rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    let said = shelf.in_force().expect_err("a FIFO").to_string();
    assert_eq!(said, format!("cannot read {}: it is no ordinary file", shelf.file(2).display()));
    fs::remove_file(shelf.file(2)).expect("removed");
    fs::write(shelf.file(2), " ".repeat((4 << 20) + 1)).expect("written");
    let said = shelf.in_force().expect_err("too large").to_string();
    assert_eq!(said, format!("cannot read {}: it is larger than 4 MiB", shelf.file(2).display()));
}

#[test]
fn only_numbers_as_they_are_written_count() {
    for (name, number) in [
        ("0001.json", Some(1)),
        ("12345.json", Some(12_345)),
        ("999999.json", Some(999_999)),
        ("1000000.json", None),
        ("0000.json", None),
        ("1.json", None),
        ("00001.json", None),
        ("+001.json", None),
        ("0001.json~", None),
        (".0001.json.7.tmp", None),
        ("pending.json", None),
        ("99999999999.json", None),
    ] {
        assert_eq!(number_of(name), number, "{name}");
    }
}

#[test]
fn what_is_gone_is_remembered_until_a_list_has_it_again() {
    let (_directory, shelf) = shelf();
    let gone = |state: &State| state.gone.clone().into_iter().collect::<Vec<_>>();
    let named = |host: &str, since: u32| (host.to_owned(), since);
    assert_eq!(gone(&approve(&shelf, SMALL)), []);
    assert_eq!(gone(&approve(&shelf, &another())), [named("smtp.office365.com", 2)]);
    let third = approve(&shelf, &SMALL.replace("\"smtp.office365.com\"", ""));
    assert_eq!(gone(&third), [named("smtp.office.com", 3), named("smtp.office365.com", 2)]);
    assert_eq!(shelf.in_force().expect("read"), Some(third));
    // To state 2: what it has is there again.
    let back = shelf.reversal(&words("a"), None, at(9)).expect("state 2");
    assert_eq!(gone(&back), [named("smtp.office365.com", 2)]);
    // The program's own list says nothing of it.
    let own = shelf.reversal(&words("a"), Some(0), at(9)).expect("the program's own");
    assert_eq!(gone(&own).len(), 2);
}

#[test]
fn any_name_of_a_file_can_be_an_origin() {
    let (_directory, shelf) = shelf();
    for (origin, kept) in [
        ("一覧.json", "一覧.json"),
        ("a\u{1b}[2J\nb.json", "a?[2J?b.json"),
        ("a\u{202e}b", "a?b"),
        ("", "?"),
        (" ", "?"),
        (&"x".repeat(400), &*"x".repeat(300)),
    ] {
        let feed = Staged::new(Feed::parse(SMALL.as_bytes()).expect("sound"), SMALL.as_bytes(), origin, None, at(0));
        shelf.stage(&feed).expect("staged");
        assert_eq!(shelf.pending().expect("readable").origin, kept);
    }
}

#[test]
fn names_and_notes_are_words() {
    let (_directory, shelf) = shelf();
    shelf.stage(&staged(SMALL)).expect("staged");
    let said = |by: &str, note: Option<&str>| {
        let words = Words { by: by.to_owned(), note: note.map(str::to_owned) };
        shelf.approval(&words, None, at(0)).map(|_| ()).map_err(|error| error.to_string())
    };
    let by = || Err("--by is 1 to 300 printable characters on one line".to_owned());
    let note = || Err("--note is 1 to 300 printable characters on one line".to_owned());
    assert_eq!(said("山田", None), Ok(()));
    assert_eq!((said("", None), said(" ", None), said("a\nb", None)), (by(), by(), by()));
    for turning in ['\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{1b}', '\u{9b}'] {
        let text = format!("a{turning}b");
        assert_eq!((said(&text, None), said("a", Some(&text))), (by(), note()), "{turning:?}");
    }
    assert_eq!((said("a", Some("")), said("a", Some(&"x".repeat(301)))), (note(), note()));
}

#[test]
fn a_reversal_passes_over_states_with_the_same_list() {
    let (_directory, shelf) = shelf();
    let back = || shelf.reversal(&words("a"), None, at(120));
    approve(&shelf, SMALL);
    approve(&shelf, &another());
    approve(&shelf, &another());
    assert_eq!(back().expect("state 1").restores, Some(1));
    // A reversal to the same list leads on from what it put back, not through what was given up.
    shelf.put(&back().expect("state 1")).expect("put");
    approve(&shelf, SMALL);
    let own = back().expect("the program's own");
    assert_eq!((own.number, own.restores), (6, Some(0)));
    shelf.put(&own).expect("put");
    assert!(matches!(back(), Err(ShelfError::NothingBefore)));
}

#[test]
fn what_an_interrupted_write_left_is_taken_away_by_the_next() {
    let (_directory, shelf) = shelf();
    shelf.stage(&staged(SMALL)).expect("staged");
    let old = SystemTime::now() - Duration::from_secs(61);
    let leave = |name: &str, written: SystemTime| {
        let file = File::create_new(shelf.folder().join(name)).expect("made");
        file.set_modified(written).expect("a time");
    };
    for name in
        [".0001.json.0123456789abcdef.tmp", ".pending.json.0123456789abcdef.tmp", ".fetch.json.0123456789abcdef.tmp"]
    {
        leave(name, old);
    }
    let kept = [
        ".0002.json.0123456789abcde.tmp",
        ".0002.json.0123456789abcdeX.tmp",
        ".0003.json.0123456789abcdef.tmp",
        ".other.json.0123456789abcdef.tmp",
        "0002.json.0123456789abcdef.tmp",
        "pending.json",
    ];
    for name in kept.iter().take(5) {
        leave(name, if name.starts_with(".0003") { SystemTime::now() } else { old });
    }
    shelf.stage(&staged(SMALL)).expect("staged");
    assert_eq!(names(&shelf), kept);
}
