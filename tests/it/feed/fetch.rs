//! Only scenes about asking the vendor belong here: a server on loopback with a certificate of the test's own, asked by the proxy's way.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::super::support::origin::Tcp;
use super::super::support::pki::Defect;
use super::super::support::sekisho::{prepare, run, text};
use super::super::support::{Config, Origin, Reply};
use super::{catalog, changes, done, failed, feed, not_yet, permits};

const VERSION: &str = "{\"instance\":\"Worldwide\",\"latest\":\"2026090100\",\"versions\":[]}";

fn list() -> String {
    feed(&["teams.microsoft.com", "new.example.com"])
}

/// The service as Microsoft has it.
async fn vendor() -> Origin {
    Origin::https(&["feed.test"])
        .answering(|seen| match seen.target.split('?').next() {
            Some("/version/Worldwide") => Reply::ok(VERSION),
            Some("/endpoints/Worldwide") => Reply::ok(list()),
            // Since the version that the program's own entry is of.
            Some("/changes/Worldwide/2026081400") => Reply::ok(changes("20991231")),
            _ => Reply::Raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
        })
        .start()
        .await
}

/// One that answers each question with these octets.
async fn answering(octets: &str) -> Origin {
    let octets = octets.as_bytes().to_vec();
    Origin::https(&["feed.test"]).answering(move |_| Reply::RawThenClose(octets.clone())).start().await
}

fn site(vendor: &Origin) -> TempDir {
    let mut config = Config::new()
        .set("catalog", "folder", "\"catalog.d\"")
        .set("catalog", "feed", &format!("\"https://feed.test:{}\"", vendor.port()))
        .hosts(&["feed.test"]);
    config.clients = "[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n".to_owned();
    config.services.push("[[service]]\nname = \"Teams\"\ncatalog = \"microsoft-365/teams\"\n".to_owned());
    let (dir, ..) = prepare(&config);
    fs::create_dir(dir.path().join("catalog.d")).expect("a folder");
    dir
}

fn state(dir: &Path) -> String {
    fs::read_to_string(dir.join("catalog.d/feeds/microsoft-365/fetch.json")).expect("fetch.json")
}

/// As if the hour were over.
fn later(dir: &Path) {
    let file = dir.join("catalog.d/feeds/microsoft-365/fetch.json");
    let mut kept: serde_json::Value = serde_json::from_str(&state(dir)).expect("JSON");
    kept["not_before"] = "1970-01-01T00:00:00Z".into();
    fs::write(file, kept.to_string()).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_list_is_fetched_and_staged_like_a_file() {
    let vendor = vendor().await;
    let dir = site(&vendor);
    let dir = dir.path();
    let said = done(&catalog(dir, &["fetch", "--accept-shrunk"]));
    let url = format!("https://feed.test:{}/endpoints/Worldwide version 2026090100, taken ", vendor.port());
    assert!(said.starts_with(&format!("pending: {url}")) && said.contains(", 2 sets, 3 hosts, digest "), "{said}");
    assert!(said.contains("\nwith what the vendor announced: 2 changes of endpoint sets\n"), "{said}");
    permits(dir, "new.example.com", false);
    let diff = catalog(dir, &["diff"]);
    assert_eq!(diff.status.code(), Some(3));
    let shown = not_yet(&text(&diff.stdout));
    assert!(
        shown.contains(
            "\n  added     new.example.com                          from 2099-12-31 (N days ahead); announced as AddedUrl; set 12\n"
        ),
        "{shown}"
    );
    let said = not_yet(&done(&catalog(dir, &["approve", "--by", "a"])));
    assert!(
        said.ends_with(
            "\nnot in use before 2099-12-31 (N days ahead): new.example.com\n\
             The proxy takes it with its next reload (systemctl reload sekisho, or SIGHUP).\n"
        ),
        "{said}"
    );
    permits(dir, "new.example.com", true);
    let asked = vendor.requests();
    let id = asked[0].target.split("ClientRequestId=").nth(1).expect("an identifier").to_owned();
    assert_eq!(id.len(), 36);
    let targets: Vec<_> = asked.iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(
        targets,
        ["version/Worldwide", "endpoints/Worldwide", "changes/Worldwide/2026081400"]
            .map(|path| format!("/{path}?ClientRequestId={id}"))
    );
    assert!(asked.iter().all(|seen| seen.authority == vendor.at("feed.test") && seen.method == "GET"));

    // Not again within the hour, and nobody is asked.
    let said = failed(&catalog(dir, &["fetch"]));
    let until = state(dir).split("not_before\": \"").nth(1).expect("a time").chars().take(20).collect::<String>();
    let expected = format!(
        "sekisho: https://feed.test:{}: it was asked less than an hour ago, or said to wait: not before {until}\n",
        vendor.port()
    );
    assert_eq!((said, vendor.requests().len()), (expected, 3));
    // After it there is nothing newer, and only that is asked, under the same identifier.
    later(dir);
    assert_eq!(done(&catalog(dir, &["fetch"])), "nothing newer than version 2026090100, which was fetched before\n");
    let asked = vendor.requests();
    assert_eq!((asked.len(), asked[3].target.clone()), (4, format!("/version/Worldwide?ClientRequestId={id}")));
}

/// What is asked of the vendor's list; where there is nothing to ask for, this one's.
async fn with_changes(octets: &str) -> Origin {
    let octets = octets.as_bytes().to_vec();
    Origin::https(&["feed.test"])
        .answering(move |seen| match seen.target.split('/').nth(1) {
            Some("version") => Reply::ok(VERSION),
            Some("endpoints") => Reply::ok(list()),
            _ => Reply::RawThenClose(octets.clone()),
        })
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_kept_whatever_becomes_of_its_changes() {
    let sound = changes("20991231");
    let with = |length: usize, content: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}");
    let large = with(1_048_577, &" ".repeat(1_048_577));
    for (octets, why) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), ": it answered 404, and only 200 is taken"),
        (
            with(2, "{}"),
            " is refused whole:\n  not Microsoft's list of changes (invalid type: map, expected a sequence at line 1 column 0)",
        ),
        (
            with(sound.len() - 9, &sound[..sound.len() - 9]),
            " is refused whole:\n  cut short (EOF while parsing a string at line 1 column 293): carry the whole file over once more",
        ),
        (
            with(sound.len(), &sound[..9]),
            ": no whole answer of at most 1048576 octets (error reading a body from connection)",
        ),
        (large, ": no whole answer of at most 1048576 octets (length limit exceeded)"),
    ] {
        let vendor = with_changes(&octets).await;
        let dir = site(&vendor);
        let out = catalog(dir.path(), &["fetch", "--accept-shrunk"]);
        let said = done(&out);
        assert!(said.starts_with("pending: ") && !said.contains("announced"), "{said}");
        let url = format!("https://feed.test:{}/changes/Worldwide/2026081400", vendor.port());
        assert_eq!(
            text(&out.stderr),
            format!(
                "warning: {url}{why}\nThe list is kept without it: no day is known from which on a host is used.\n"
            )
        );
        assert!(state(dir.path()).contains("2026090100"), "the list is fetched");
        done(&catalog(dir.path(), &["approve", "--by", "a"]));
        permits(dir.path(), "new.example.com", true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_of_the_changes_puts_off_the_next_look() {
    let vendor = with_changes("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7200\r\nContent-Length: 0\r\n\r\n").await;
    let dir = site(&vendor);
    let out = catalog(dir.path(), &["fetch", "--accept-shrunk"]);
    done(&out);
    let kept: serde_json::Value = serde_json::from_str(&state(dir.path())).expect("JSON");
    let until = kept["not_before"].as_str().expect("a time");
    let url = format!("https://feed.test:{}/changes/Worldwide/2026081400", vendor.port());
    assert_eq!(
        text(&out.stderr),
        format!(
            "warning: {url}: 429, it was asked too often; not again before {until}\n\
             The list is kept without it: no day is known from which on a host is used.\n"
        )
    );
    assert!(failed(&catalog(dir.path(), &["fetch"])).ends_with(&format!("not before {until}\n")));
    assert_eq!((vendor.requests().len(), kept["version"].as_str()), (3, Some("2026090100")));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_asked_for_since_the_version_in_force_where_that_is_known() {
    let vendor = vendor().await;
    let dir = site(&vendor);
    let dir = dir.path();
    // A list from a file has no version.
    super::import(dir, &feed(&["teams.microsoft.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    let out = catalog(dir, &["fetch"]);
    done(&out);
    assert_eq!(
        text(&out.stderr),
        "note: the list in force came from a file, and its version is not known: /changes was not asked, and no day is known from which on a \
         host is used.\n"
    );
    assert_eq!(vendor.requests().len(), 2);
    // One that was fetched has.
    done(&catalog(dir, &["approve", "--by", "a"]));
    let newer = Origin::https(&["feed.test"])
        .answering(|seen| match seen.target.split('?').next() {
            Some("/version/Worldwide") => Reply::ok(VERSION.replace("2026090100", "2026100100")),
            Some("/endpoints/Worldwide") => Reply::ok(list()),
            Some("/changes/Worldwide/2026090100") => Reply::ok("[]"),
            _ => Reply::Raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
        })
        .start()
        .await;
    let file = dir.join("sekisho.toml");
    let config = fs::read_to_string(&file).expect("read");
    let port = |origin: &Origin| format!("feed.test:{}\"", origin.port());
    fs::write(&file, config.replace(&port(&vendor), &port(&newer))).expect("written");
    later(dir);
    let out = catalog(dir, &["fetch"]);
    let said = done(&out);
    assert!(said.contains("\nwith what the vendor announced: 0 changes of endpoint sets\n"), "{said}");
    assert_eq!((text(&out.stderr), newer.requests().len()), (String::new(), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_is_obeyed_as_long_as_it_says() {
    let vendor = answering("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7200\r\nContent-Length: 0\r\n\r\n").await;
    let dir = site(&vendor);
    let dir = dir.path();
    let said = failed(&catalog(dir, &["fetch"]));
    let until = state(dir).split("not_before\": \"").nth(1).expect("a time").chars().take(20).collect::<String>();
    let url = format!("https://feed.test:{}", vendor.port());
    assert_eq!(
        said,
        format!("sekisho: {url}/version/Worldwide: 429, it was asked too often; not again before {until}\n")
    );
    let said = failed(&catalog(dir, &["fetch"]));
    assert!(said.ends_with(&format!("not before {until}\n")), "{said}");
    assert_eq!(vendor.connects(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_the_vendors_changes_nothing() {
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", 70 << 10, " ".repeat(70 << 10));
    for (octets, why) in [
        (
            "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.test/\r\nContent-Length: 0\r\n\r\n",
            "it answered 302, and only 200 is taken",
        ),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "it answered 503, and only 200 is taken"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            "not the answer to /version (invalid length 0, expected struct Answer with 2 elements at line 1 column 2)",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"instance\"",
            "no whole answer of at most 65536 octets (error reading a body from connection)",
        ),
        (large.as_str(), "no whole answer of at most 65536 octets (length limit exceeded)"),
        ("no HTTP\r\n\r\n", "the exchange failed (invalid HTTP version parsed)"),
    ] {
        let vendor = answering(octets).await;
        let dir = site(&vendor);
        let said = failed(&catalog(dir.path(), &["fetch"]));
        assert_eq!(said, format!("sekisho: https://feed.test:{}/version/Worldwide: {why}\n", vendor.port()));
        assert!(!dir.path().join("catalog.d/feeds/microsoft-365/pending.json").exists(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_refused_is_asked_for_again_and_nothing_is_pending() {
    let vendor = Origin::https(&["feed.test"])
        .answering(|seen| {
            if seen.target.starts_with("/version") { Reply::ok(VERSION) } else { Reply::ok(&list().as_bytes()[..100]) }
        })
        .start()
        .await;
    let dir = site(&vendor);
    let said = failed(&catalog(dir.path(), &["fetch"]));
    assert!(said.contains("/endpoints/Worldwide is refused whole, and nothing was changed:\n  cut short ("), "{said}");
    assert!(!state(dir.path()).contains("2026090100"), "it would pass for fetched");
    assert!(!dir.path().join("catalog.d/feeds/microsoft-365/pending.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_prove_its_name_is_not_asked() {
    for (defect, words) in [
        (Defect::UnknownIssuer, "the certificate of feed.test at "),
        (Defect::Expired, "the certificate of feed.test at "),
    ] {
        let vendor = Origin::https(&["feed.test"]).defect(defect).start().await;
        let dir = site(&vendor);
        let said = failed(&catalog(dir.path(), &["fetch"]));
        assert!(said.contains(words), "{defect:?}: {said}");
        assert_eq!(vendor.requests().len(), 0, "{defect:?}");
    }
    let silent = Origin::https(&["feed.test"]).tcp(Tcp::Silent).start().await;
    let said = failed(&catalog(site(&silent).path(), &["fetch"]));
    assert!(said.contains("did not finish the TLS handshake within 3s"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b01_the_vendors_address_passes_the_guard_like_any_other() {
    let vendor = vendor().await;
    let dir = site(&vendor);
    let file = dir.path().join("sekisho.toml");
    let text_of = fs::read_to_string(&file).expect("read");
    fs::write(&file, text_of.replace("allow_addresses = [\"127.0.0.0/8\"]", "allow_addresses = []")).expect("written");
    let said = failed(&catalog(dir.path(), &["fetch"]));
    assert!(said.contains("every address of feed.test is special-purpose"), "{said}");
    vendor.untouched();
}

#[test]
fn help_says_how_often() {
    let dir = TempDir::new().expect("a directory");
    for command in ["import", "fetch", "diff", "approve", "revert", "history"] {
        let help = run(dir.path(), &["catalog", command, "--help"]);
        assert!(help.status.success() && text(&help.stdout).contains("Examples:"), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_site_has_given_leave_for_needs_nobody_and_all_else_does() {
    const LISTS: [&[&str]; 3] = [
        &["a.example.com", "b.example.com"],
        &["a.example.com", "b.example.com", "c.example.com"],
        &["b.example.com", "c.example.com"],
    ];
    let step = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&step);
    let vendor = Origin::https(&["feed.test"])
        .answering(move |seen| {
            let step = told.load(Ordering::Relaxed);
            match seen.target.split('/').nth(1) {
                Some("version") => Reply::ok(VERSION.replace("2026090100", &format!("202609010{step}"))),
                Some("changes") => Reply::ok(changes("20991231").replace("new.example.com", "c.example.com")),
                _ => Reply::ok(feed(LISTS[step])),
            }
        })
        .start()
        .await;
    let dir = site(&vendor);
    let dir = dir.path();
    let file = dir.join("sekisho.toml");
    let config = fs::read_to_string(&file).expect("read");
    fs::write(&file, config.replace("[catalog]\n", "[catalog]\nauto_approve = [\"added:allow\"]\n")).expect("written");
    // The first list is somebody's to approve.
    done(&catalog(dir, &["fetch", "--accept-shrunk"]));
    permits(dir, "a.example.com", false);
    done(&catalog(dir, &["approve", "--by", "a"]));
    let newer = |now: usize| {
        step.store(now, Ordering::Relaxed);
        later(dir);
        done(&catalog(dir, &["fetch"]))
    };
    let said = newer(1);
    assert!(
        said.contains("\nin force: 0002  2")
            && said.contains(" by [catalog] auto_approve (1 changes of hosts, each with leave): "),
        "{said}"
    );
    // Before its day: the next list would come before that, and hold up this one.
    assert!(not_yet(&said).contains("\nnot in use before 2099-12-31 (N days ahead): c.example.com\n"), "{said}");
    permits(dir, "c.example.com", true);
    let said = newer(2);
    assert!(
        said.ends_with("\n1 of 1 changes of hosts have no leave by [catalog] auto_approve: it stays pending\n"),
        "{said}"
    );
    permits(dir, "a.example.com", true);
    assert_eq!(catalog(dir, &["diff"]).status.code(), Some(3));
}

/// Whoever took a list back does not get it again from the clock.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_reversal_the_next_list_is_somebodys() {
    let vendor = vendor().await;
    let dir = site(&vendor);
    let dir = dir.path();
    let file = dir.join("sekisho.toml");
    let config = fs::read_to_string(&file).expect("read");
    let all = "[catalog]\nauto_approve = [\"added\", \"removed\", \"widened\", \"narrowed\"]\n";
    fs::write(&file, config.replace("[catalog]\n", all)).expect("written");
    super::import(dir, &feed(&["teams.microsoft.com", "a.example.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    super::import(dir, &feed(&["teams.microsoft.com", "b.example.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    done(&catalog(dir, &["revert", "--by", "花子"]));
    let said = done(&catalog(dir, &["fetch"]));
    let wanted = "\nthe state in force is a reversal, after which [catalog] auto_approve is no leave: it stays pending\n  0003  2";
    assert!(said.contains(wanted) && said.ends_with(" by 花子: back to state 1\n"), "{said}");
    permits(dir, "new.example.com", false);
    done(&catalog(dir, &["approve", "--by", "a"]));
    permits(dir, "new.example.com", true);
}

/// A list of which the configuration warns is looked at by somebody, and one without any difference is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_warning_and_no_difference_stay_pending() {
    let vendor = vendor().await;
    let dir = site(&vendor);
    let dir = dir.path();
    let file = dir.join("sekisho.toml");
    let all = "[catalog]\nauto_approve = [\"added\", \"removed\", \"widened\", \"narrowed\"]\n";
    let config = fs::read_to_string(&file).expect("read").replace("[catalog]\n", all);
    let own = "[[service]]\nname = \"By hand\"\nhosts = [\"gone.example.com\"]\n";
    fs::write(&file, format!("{config}{own}").replace("microsoft-365/teams", "microsoft-365/common")).expect("written");
    super::import(dir, &feed(&["teams.microsoft.com", "new.example.com", "gone.example.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    let out = catalog(dir, &["fetch"]);
    let said = done(&out);
    let wanted = "\nwith it the configuration warns of what it does not now, for which [catalog] auto_approve is no leave: it stays pending\n";
    assert!(said.ends_with(wanted), "{said}");
    let complained = text(&out.stderr);
    assert!(
        complained.contains("found \"gone.example.com\", which the feed of microsoft-365 has no longer since state 2"),
        "{complained}"
    );
    done(&catalog(dir, &["approve", "--by", "a"]));
    fs::remove_file(dir.join("catalog.d/feeds/microsoft-365/fetch.json")).expect("removed");
    super::import(dir, &feed(&["teams.microsoft.com", "other.example.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    super::import(dir, &list());
    done(&catalog(dir, &["approve", "--by", "a"]));
    let said = done(&catalog(dir, &["fetch"]));
    assert!(said.ends_with("\nno difference from what is in force: it stays pending\n"), "{said}");
    assert!(!dir.join("catalog.d/feeds/microsoft-365/0005.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_refused_as_shrunk_can_be_accepted_within_the_hour() {
    let vendor = vendor().await;
    let dir = site(&vendor);
    let dir = dir.path();
    let said = failed(&catalog(dir, &["fetch"]));
    assert!(said.ends_with("\n  if that is what the vendor means: --accept-shrunk\n"), "{said}");
    assert!(failed(&catalog(dir, &["fetch"])).contains("it was asked less than an hour ago"));
    assert!(done(&catalog(dir, &["fetch", "--accept-shrunk"])).starts_with("pending: "));
    assert!(failed(&catalog(dir, &["fetch", "--accept-shrunk"])).contains("it was asked less than an hour ago"));
}

/// The unit of `deploy/systemd` runs what there is: everything but the file it names is right.
#[test]
fn the_units_command_is_one() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/sekisho-catalog-fetch.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/sekisho ")).expect("a command");
    let dir = TempDir::new().expect("a directory");
    let command = command.replace("/etc/sekisho/sekisho.toml", "none.toml");
    let said = failed(&run(dir.path(), &command.split(' ').collect::<Vec<_>>()));
    assert!(said.starts_with("none.toml: error: found no readable file ("), "{said}");
}
