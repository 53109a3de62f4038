//! Only scenes about a vendor's feed belong here: from a file or a server to what the policy permits, and back.

mod fetch;
mod guards;

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use super::support::sekisho::{run, text};
use super::support::{Config, Origin, Sekisho};

const BASE: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n\
                    [catalog]\nfolder = \"catalog.d\"\n[[service]]\nname = \"Teams\"\ncatalog = \"microsoft-365/teams\"\n";

/// A feed with one set of hosts in it beside one that never changes.
fn feed(hosts: &[&str]) -> String {
    format!(
        "[{{\"id\":12,\"serviceArea\":\"Skype\",\"category\":\"Allow\",\"required\":true,\"tcpPorts\":\"80,443\",\"urls\":{hosts:?}}},\
         {{\"id\":46,\"serviceArea\":\"Common\",\"category\":\"Allow\",\"required\":true,\"tcpPorts\":\"443\",\
         \"urls\":[\"*.officeapps.live.com\"]}}]"
    )
}

/// Two changes of set 12: a host that is used from that day on, and one that is gone.
fn changes(from: &str) -> String {
    format!(
        "[{{\"id\":1301,\"endpointSetId\":12,\"disposition\":\"Change\",\"impact\":\"AddedUrl\",\"version\":\"2026090100\",\
         \"add\":{{\"effectiveDate\":\"{from}\",\"urls\":[\"new.example.com\"]}}}},\
         {{\"id\":1302,\"endpointSetId\":12,\"disposition\":\"Change\",\"impact\":\"RemovedIpOrUrl\",\"version\":\"2026090100\",\
         \"remove\":{{\"urls\":[\"gone.example.com\"]}}}}]"
    )
}

/// Without the number of days, which is of today.
fn not_yet(text: &str) -> String {
    let mut parts = text.split(" days ahead)").map(str::to_owned).collect::<Vec<_>>();
    let last = parts.pop().expect("one part at least");
    for part in &mut parts {
        part.truncate(part.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        part.push_str("N days ahead)");
    }
    parts.concat() + &last
}

fn site(services: &str) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("sekisho.toml"), format!("{BASE}{services}")).expect("written");
    fs::create_dir(dir.path().join("catalog.d")).expect("a folder");
    dir
}

fn catalog(dir: &Path, arguments: &[&str]) -> Output {
    run(dir, &[&["catalog"], arguments].concat())
}

/// What it printed, having ended with 0.
#[track_caller]
fn done(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

/// What it complained of, having ended with 1.
#[track_caller]
fn failed(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(1), "{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stderr)
}

/// Imports this text as `feed.json`, though most of what the program knows is not in it.
#[track_caller]
fn import(dir: &Path, content: &str) -> String {
    fs::write(dir.join("feed.json"), content).expect("written");
    done(&catalog(dir, &["import", "feed.json", "--accept-shrunk"]))
}

#[track_caller]
fn permits(dir: &Path, host: &str, permitted: bool) {
    let out = run(dir, &["explain", "--client", "10.20.0.7", host]);
    let code = if permitted { 0 } else { 3 };
    assert_eq!(out.status.code(), Some(code), "{host}: {}{}", text(&out.stdout), text(&out.stderr));
}

/// The digest that a line of `import` or `diff` has.
fn digest(text: &str) -> String {
    text.split("digest ").nth(1).expect("a digest").chars().take(12).collect()
}

/// Without the times, which are of now.
fn timeless(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let comma = if word.ends_with(',') { "," } else { "" };
        let is_time = word.starts_with("20") && word.trim_end_matches(',').ends_with('Z');
        if is_time { format!("TIME{comma}") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_feed_changes_nothing_until_it_is_approved_and_can_be_put_back() {
    let dir = site("");
    let dir = dir.path();
    let said = import(dir, &feed(&["teams.microsoft.com", "*.new.example"]));
    assert_eq!(
        timeless(&said),
        format!(
            "pending: feed.json, taken TIME, 2 sets, 3 hosts, digest {}\nNothing is changed yet: `sekisho catalog diff` shows what would \
             be, `sekisho catalog approve --by NAME` puts it in force.\n",
            digest(&said)
        )
    );
    permits(dir, "a.new.example", false);
    let diff = catalog(dir, &["diff"]);
    assert_eq!(diff.status.code(), Some(3), "{}", text(&diff.stderr));
    let shown = text(&diff.stdout);
    assert!(shown.contains("\nin force  0     the program's own list\n"), "{shown}");
    assert!(shown.contains("\nmicrosoft-365/teams\n  added     *.new.example "), "{shown}");
    let said = done(&catalog(dir, &["approve", "--by", "山田 花子", "--note", "R8-112", "--digest", &digest(&shown)]));
    assert!(
        timeless(&said).starts_with("in force: 0001  TIME by 山田 花子 (R8-112): feed.json, taken TIME, 2 sets"),
        "{said}"
    );
    permits(dir, "a.new.example", true);
    permits(dir, "teams.cloud.microsoft", false);
    let listed = done(&catalog(dir, &["list", "--folder", "catalog.d"]));
    assert!(
        listed.contains("microsoft-365/teams") && listed.contains("catalog.d/feeds/microsoft-365/0001.json"),
        "{listed}"
    );

    let said = import(dir, &feed(&["teams.microsoft.com", "x.new.example"]));
    assert_eq!(catalog(dir, &["diff"]).status.code(), Some(3));
    done(&catalog(dir, &["approve", "--by", "b"]));
    permits(dir, "x.new.example", true);
    permits(dir, "a.new.example", false);
    let said_back = done(&catalog(dir, &["revert", "--by", "c"]));
    assert!(timeless(&said_back).starts_with("in force: 0003  TIME by c: back to state 1\n"), "{said_back}");
    permits(dir, "a.new.example", true);
    done(&catalog(dir, &["revert", "--by", "c", "--to", "0"]));
    permits(dir, "a.new.example", false);
    permits(dir, "teams.cloud.microsoft", true);
    let history = timeless(&done(&catalog(dir, &["history"])));
    let lines: Vec<_> = history.lines().collect();
    assert_eq!(lines.len(), 5, "{history}");
    assert_eq!(lines[0], "0     the program's own list");
    assert!(
        lines[2].starts_with("0002  TIME by b: feed.json, taken TIME, 2 sets, 3 hosts, digest ")
            && lines[2].ends_with(&digest(&said))
    );
    assert_eq!(lines[4], "0004  TIME by c: back to the program's own list");
    // What is missing, or cannot be read, is told and nothing else left out.
    let states = dir.join("catalog.d/feeds/microsoft-365");
    fs::remove_file(states.join("0002.json")).expect("removed");
    fs::write(states.join("0003.json"), "{}").expect("written");
    let broken = catalog(dir, &["history"]);
    assert_eq!(
        failed(&broken),
        "sekisho: catalog.d/feeds/microsoft-365/0002.json and what follows up to 0003.json is not there\n\
         0003  catalog.d/feeds/microsoft-365/0003.json: it is not as sekisho writes it (missing field `number` at line 1 column 2)\n"
    );
    assert_eq!(text(&broken.stdout).lines().count(), 3, "{}", text(&broken.stdout));
}

#[test]
fn a_diff_counts_the_requests_that_the_record_has() {
    let dir = site("");
    let dir = dir.path();
    import(dir, &feed(&["gone.example.com", "stays.example.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    import(dir, &feed(&["stays.example.com", "new.example.com"]));
    let line = |at: &str, outcome: &str, host: &str| {
        format!(
            "{{\"@timestamp\":\"{at}\",\"event.action\":\"connection\",\"event.outcome\":\"{outcome}\",\"url.domain\":\"{host}\"}}\n"
        )
    };
    let yesterday: String = (0..240)
        .map(|n| line(&format!("2026-10-02T{:02}:00:00.000Z", n % 24), "allowed", "gone.example.com"))
        .collect();
    let record = [
        line("2026-10-01T23:59:59.999Z", "allowed", "gone.example.com"),
        yesterday,
        line("2026-10-02T09:00:00.000Z", "denied", "new.example.com"),
        "{\"@timestamp\":\"2026-10-02T09:".to_owned(),
    ]
    .concat();
    fs::write(dir.join("access.jsonl"), record).expect("written");
    let diff = catalog(dir, &["diff", "--record", "access.jsonl"]);
    assert_eq!(diff.status.code(), Some(3));
    assert_eq!(text(&diff.stderr), "note: 1 lines of the record are not whole and were passed over\n");
    let shown = text(&diff.stdout);
    let wanted = "\nrequests  on 2026-10-02 (UTC)\n\nmicrosoft-365/teams\n  \
                  added     new.example.com                          1 request refused; set 12\n  \
                  removed   gone.example.com                         240 requests; set 12\n";
    assert!(shown.ends_with(wanted), "{shown}");
    let since = catalog(dir, &["diff", "--record", "access.jsonl", "--since", "2026-10-01"]);
    let shown = text(&since.stdout);
    assert!(shown.contains("requests  since 2026-10-01 (UTC)") && shown.contains(" 241 requests; set 12\n"), "{shown}");
    let missing = failed(&catalog(dir, &["diff", "--record", "none.jsonl"]));
    assert_eq!(missing, "sekisho: none.jsonl: No such file or directory (os error 2)\n");
}

#[test]
fn what_the_sites_own_file_makes_of_a_feed_is_known_before_it_is_in_force() {
    let own = "[[service]]\nname = \"By hand\"\nhosts = [\"new.example.com\", \"gone.example.com\"]\n";
    let dir = site("");
    let (dir, file) = (dir.path(), dir.path().join("sekisho.toml"));
    import(dir, &feed(&["gone.example.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    import(dir, &feed(&["new.example.com"]));
    fs::write(&file, format!("{BASE}{own}")).expect("written");
    let shown = text(&catalog(dir, &["diff"]).stdout);
    assert!(shown.contains("\nWith it sekisho.toml would not load:\nsekisho.toml:13:10: error: service[1].hosts[0]: found \"new.example.com\""), "{shown}");
    let said = failed(&catalog(dir, &["approve", "--by", "a"]));
    assert!(said.contains("found \"new.example.com\", which service \"Teams\" (line 10) has too"), "{said}");
    assert!(said.ends_with("(--folder DIR), which tries no configuration\n"), "{said}");
    assert!(!dir.join("catalog.d/feeds/microsoft-365/0002.json").exists());
    fs::write(&file, format!("{BASE}{}", own.replace("\"new.example.com\", ", ""))).expect("written");
    let shown = text(&catalog(dir, &["diff"]).stdout);
    let wanted = "\ngone.example.com is removed from the catalogue and stays permitted: service \"By hand\" (line 13) lists it\n";
    assert!(shown.ends_with(wanted), "{shown}");
    done(&catalog(dir, &["approve", "--by", "a"]));
    permits(dir, "gone.example.com", true);
}

/// A host that the issuing CA does not cover would keep the proxy from starting.
#[test]
fn j05_a_feed_with_an_inspected_host_that_the_issuing_ca_does_not_cover_is_not_put_in_force() {
    let inspected = "[issuing_ca]\ncertificate = \"ca.pem\"\nkey = \"ca.key\"\n";
    let dir = site("");
    let (dir, file) = (dir.path(), dir.path().join("sekisho.toml"));
    fs::write(&file, format!("{BASE}mode = \"inspect\"\n{inspected}")).expect("written");
    import(dir, &feed(&["teams.microsoft.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    done(&run(dir, &["ca", "init"]));
    import(dir, &feed(&["teams.microsoft.com", "new.example.com"]));
    let said = failed(&catalog(dir, &["approve", "--by", "a"]));
    assert!(said.contains("new.example.com") && said.contains("sekisho: nothing was put in force: "), "{said}");
    assert!(!dir.join("catalog.d/feeds/microsoft-365/0002.json").exists());
    // Who may not read the key is told what was not tried.
    fs::remove_file(dir.join("ca.key")).expect("removed");
    let blind = catalog(dir, &["approve", "--by", "a"]);
    done(&blind);
    assert!(
        text(&blind.stderr).starts_with("note: the configuration does not load here as it is"),
        "{}",
        text(&blind.stderr)
    );
}

#[test]
fn l05_a_bad_feed_is_refused_whole_and_what_was_there_stays() {
    let dir = site("");
    let dir = dir.path();
    let sound = feed(&["teams.microsoft.com", "a.example.com", "b.example.com", "c.example.com"]);
    import(dir, &sound);
    done(&catalog(dir, &["approve", "--by", "a"]));
    import(dir, &sound);
    let pending = || fs::read(dir.join("catalog.d/feeds/microsoft-365/pending.json")).expect("pending");
    let before = pending();
    for (content, why) in [
        (
            sound[..sound.len() - 9].to_owned(),
            "cut short (EOF while parsing a string at line 1 column 279): carry the whole file over once more",
        ),
        ("<html>".to_owned(), "not JSON (expected value at line 1 column 1)"),
        (
            sound.replace("a.example.com", "a.example.com\\r\\nX: y"),
            "set 12: url \"a.example.com\\\\u{d}\\\\u{a}X: y\", which is not printable ASCII",
        ),
        (
            feed(&["teams.microsoft.com"]),
            "2 hosts where there were 5: suddenly more than half of them are gone\n  if that is what the vendor means: --accept-shrunk",
        ),
        (
            "{\"prefixes\":[]}".to_owned(),
            "a list of addresses without any name: sekisho permits names, never addresses, so that it is of no use here",
        ),
    ] {
        fs::write(dir.join("bad.json"), &content).expect("written");
        let said = failed(&catalog(dir, &["import", "bad.json"]));
        assert_eq!(said, format!("sekisho: bad.json is refused whole, and nothing was changed:\n  {why}\n"));
        assert!(pending() == before, "{why}");
    }
    fs::write(dir.join("bad.json"), " ".repeat((1 << 20) + 1)).expect("written");
    assert_eq!(failed(&catalog(dir, &["import", "bad.json"])), "sekisho: bad.json: it is larger than 1 MiB\n");
    assert_eq!(failed(&catalog(dir, &["import", "/dev/zero"])), "sekisho: /dev/zero: it is no ordinary file\n");
    permits(dir, "a.example.com", true);
}

#[test]
fn changes_that_were_carried_in_say_from_when_on_hosts_are_used() {
    let dir = site("");
    let dir = dir.path();
    import(dir, &feed(&["teams.microsoft.com", "gone.example.com"]));
    done(&catalog(dir, &["approve", "--by", "a"]));
    fs::write(dir.join("feed.json"), feed(&["teams.microsoft.com", "new.example.com", "soon.example.com"]))
        .expect("written");
    let soon = changes("20261101").replace("new.", "soon.").replace("1301", "1299").replace("1302", "1300");
    let both = format!("{},{}", soon.trim_end_matches(']'), changes("20991231").trim_start_matches('['));
    fs::write(dir.join("changes.json"), both).expect("written");
    let said = done(&catalog(dir, &["import", "feed.json", "--changes", "changes.json"]));
    assert!(said.contains("\nwith what the vendor announced: 4 changes of endpoint sets\n"), "{said}");
    let shown = not_yet(&text(&catalog(dir, &["diff"]).stdout));
    let wanted = "\nmicrosoft-365/teams\n  \
                  added     new.example.com                          from 2099-12-31 (N days ahead); announced as AddedUrl; set 12\n  \
                  added     soon.example.com                         from 2026-11-01; announced as AddedUrl; set 12\n  \
                  removed   gone.example.com                         announced as RemovedIpOrUrl; set 12\n";
    assert!(shown.ends_with(wanted), "{shown}");
    // Nothing is refused for it: the host is permitted from now on.
    let said = not_yet(&done(&catalog(dir, &["approve", "--by", "a"])));
    let line = "\nnot in use before 2099-12-31 (N days ahead): new.example.com\nThe proxy takes it";
    assert!(said.contains(line), "{said}");
    permits(dir, "new.example.com", true);
    // What was announced is kept with the state, and said again by who puts it back.
    import(dir, &feed(&["teams.microsoft.com", "new.example.com"]));
    let said = done(&catalog(dir, &["approve", "--by", "a"]));
    assert!(!said.contains("not in use"), "{said}");
    let said = not_yet(&done(&catalog(dir, &["revert", "--by", "a"])));
    assert!(said.contains(": back to state 2\n") && said.contains(line), "{said}");
}

#[test]
fn l05_changes_that_are_none_are_refused_and_nothing_is_pending() {
    let dir = site("");
    let dir = dir.path();
    fs::write(dir.join("feed.json"), feed(&["teams.microsoft.com"])).expect("written");
    fs::write(dir.join("changes.json"), changes("20991231")).expect("written");
    let import =
        |list: &str, changes: &str| failed(&catalog(dir, &["import", list, "--changes", changes, "--accept-shrunk"]));
    for (list, changes, why) in [
        (
            "feed.json",
            "feed.json",
            "feed.json is refused whole, and nothing was changed:\n  the answer to /endpoints and not the one to /changes",
        ),
        (
            "changes.json",
            "feed.json",
            "changes.json is refused whole, and nothing was changed:\n  the answer to /changes and not the one to /endpoints",
        ),
        ("feed.json", "none.json", "none.json: No such file or directory (os error 2)"),
        ("feed.json", "/dev/zero", "/dev/zero: it is no ordinary file"),
    ] {
        assert_eq!(import(list, changes), format!("sekisho: {why}\n"));
        assert!(!dir.join("catalog.d/feeds/microsoft-365/pending.json").exists(), "{why}");
    }
    fs::write(dir.join("changes.json"), " ".repeat((1 << 20) + 1)).expect("written");
    assert_eq!(import("feed.json", "changes.json"), "sekisho: changes.json: it is larger than 1 MiB\n");
}

#[test]
fn a_place_that_is_not_there_is_said() {
    let dir = site("");
    let dir = dir.path();
    assert!(
        failed(&catalog(dir, &["diff"]))
            .starts_with("sekisho: nothing is pending in catalog.d/feeds/microsoft-365: begin with")
    );
    assert!(failed(&catalog(dir, &["approve", "--by", "a"])).starts_with("sekisho: nothing is pending in "));
    assert!(failed(&catalog(dir, &["revert", "--by", "a"])).starts_with("sekisho: no feed was approved here: "));
    assert!(failed(&catalog(dir, &["approve"])).contains("--by <NAME>"), "nobody approves without a name");
    let said = failed(&catalog(dir, &["diff", "--folder", "nowhere"]));
    assert_eq!(said, "sekisho: the folder nowhere is not there: make it, or correct its name\n");
    fs::write(dir.join("sekisho.toml"), BASE.replace("[catalog]\nfolder = \"catalog.d\"\n", "")).expect("written");
    let said = failed(&catalog(dir, &["diff"]));
    assert!(
        said.starts_with("sekisho: sekisho.toml has no folder for feeds: add [catalog] with folder = \"catalog.d\""),
        "{said}"
    );
}

/// The real lists: an older one, then the one that the program's own entry was made from.
#[test]
fn both_real_lists_are_imported_compared_and_approved() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let list = |name: &str| data.join(name).to_str().expect("UTF-8").to_owned();
    let (older, newer) = (list("m365-endpoints-worldwide-older.json"), list("m365-endpoints-worldwide.json"));
    if !Path::new(&older).exists() || !Path::new(&newer).exists() {
        println!("skipped: the real lists are not in {}", data.display());
        return;
    }
    let services = "[[service]]\nname = \"Common\"\ncatalog = \"microsoft-365/common\"\n[[service]]\nname = \"Sign-in\"\n\
                    catalog = \"microsoft-365/sign-in\"\n";
    let dir = site(services);
    let dir = dir.path();
    done(&catalog(dir, &["import", &newer]));
    let same = catalog(dir, &["diff"]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stdout));
    assert!(text(&same.stdout).contains("\nno difference\n"));
    done(&catalog(dir, &["import", &older]));
    assert_eq!(catalog(dir, &["diff"]).status.code(), Some(3));
    done(&catalog(dir, &["approve", "--by", "a"]));
    for (host, permitted) in [
        ("new.cloud.microsoft", false),
        ("suite.office.net", true),
        ("teams.cloud.microsoft", false),
        ("login.microsoft.com", true),
    ] {
        permits(dir, host, permitted);
    }
    done(&catalog(dir, &["import", &newer]));
    let diff = text(&catalog(dir, &["diff"]).stdout);
    assert!(diff.contains("\n  removed   *.cdn.office.net                         still reached by microsoft-365/common *.office.net; set 47\n"), "{diff}");
    done(&catalog(dir, &["approve", "--by", "a"]));
    for (host, permitted) in [
        ("new.cloud.microsoft", true),
        ("teams.cloud.microsoft", true),
        ("cdn.optimizely.com", false),
        ("login.microsoft.com", true),
    ] {
        permits(dir, host, permitted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_what_was_approved_and_keeps_the_old_where_it_is_broken() {
    let origin = Origin::https(&["new.teams.test", "old.teams.test"]).start().await;
    let mut config =
        Config::new().set("catalog", "folder", "\"catalog.d\"").hosts(&["new.teams.test", "old.teams.test"]);
    config.services.push(format!(
        "[[service]]\nname = \"Teams\"\ncatalog = \"microsoft-365/teams\"\nports = [{}]\n",
        origin.port()
    ));
    let mut sekisho =
        Sekisho::start_with(&config, |dir| fs::create_dir(dir.join("catalog.d")).expect("a folder")).await;
    let dir = sekisho.dir.path().to_owned();
    import(&dir, &feed(&["new.teams.test"]));
    done(&catalog(&dir, &["approve", "--by", "a"]));
    // Nobody has told the proxy yet.
    sekisho.refused(&origin.at("new.teams.test"), 403, "not_allowlisted").await;
    sekisho.reload(&config).await;
    drop(sekisho.tunnel(&origin.at("new.teams.test")).await);
    sekisho.next_connection().await;
    fs::write(dir.join("catalog.d/feeds/microsoft-365/0002.json"), "{\"number\":2").expect("written");
    sekisho.reload_refused(&fs::read_to_string(sekisho.path("sekisho.toml")).expect("read")).await;
    let said = sekisho.stderr();
    assert!(
        said.contains("0002.json: error: found an approved feed that cannot be taken (it is not as sekisho writes it"),
        "{said}"
    );
    drop(sekisho.tunnel(&origin.at("new.teams.test")).await);
    sekisho.next_connection().await;
    done(&catalog(&dir, &["revert", "--by", "a"]));
    sekisho.reload(&config).await;
    drop(sekisho.tunnel(&origin.at("new.teams.test")).await);
    sekisho.next_connection().await;
    sekisho.finish().await;
}
