//! Only scenes of changed configurations belong here: apply, trial, confirm, roll back, and what stays as it was.

use std::fs;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::super::support::client::Tls;
use super::super::support::sekisho::{mode, set_mode};
use super::super::support::{Config, Origin, Sekisho, Service, until};
use super::{ask, complained, controlled, killed_at, said, status};

fn write(sekisho: &Sekisho, name: &str, config: &Config) -> PathBuf {
    let path = sekisho.path(name);
    fs::write(&path, config.render(&sekisho.listeners, sekisho.admin)).expect("written");
    path
}

fn file(sekisho: &Sekisho) -> String {
    fs::read_to_string(sekisho.path("sekisho.toml")).expect("the file")
}

/// `one.test` may be reached, or `one.test` and `two.test`.
fn two_policies() -> (Config, Config) {
    // A change may lead to no port that was not known at the start.
    let ports = Service::tunnel("Ports", &["ports.invalid"], 8443);
    let one = controlled().service(ports).service(Service::tunnel("One", &["one.test"], 443));
    (one.clone(), one.service(Service::tunnel("Two", &["two.test", "*.two.test"], 8443)))
}

#[tokio::test]
async fn what_changes_is_shown_in_words_and_nothing_is_done_without_a_yes() {
    let (one, two) = two_policies();
    let mut sekisho = Sekisho::start(&one).await;
    sekisho.refused("two.test:8443", 403, "not_allowlisted").await;
    let before = file(&sekisho);
    let changed = two
        .set("limits.per_client", "connections", "77")
        .set("timeouts", "drain", "\"4s\"")
        .clients("[[clients]]\nname = \"office\"\nnetworks = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n");
    write(&sekisho, "new.toml", &changed);
    let out = ask(&sekisho, &["apply", "new.toml", "--record", "access.jsonl"]).await;
    let shown = said(&out, 3);
    for line in [
        "  + service \"Two\": tunnel, hosts two.test, *.two.test, ports 8443, for office\n",
        "  ~ clients \"office\": networks + 10.0.0.0/8 - ::1/128\n",
        "  ~ limits of a client: connections: 512 -> 77\n",
        "  ~ timeouts.drain: 3s -> 4s\n",
        "office: CONNECT two.test:8443: deny (not_allowlisted) -> tunnel\n",
        "1 attempts: 0 unchanged, 1 changed (1 different)",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let changes = shown.lines().filter(|line| ["  +", "  -", "  ~"].iter().any(|sign| line.starts_with(sign)));
    assert_eq!(changes.count(), 4, "{shown}");
    assert_eq!(complained(&out, 3), "nothing was changed: nobody said yes (--yes says it beforehand)\n");
    assert_eq!(file(&sekisho), before);
    // What is broken is said as `check` says it, with the place in the new file.
    fs::write(sekisho.path("new.toml"), "[[listener]]\naddress = 7\n").expect("written");
    let said = complained(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 1);
    assert!(said.contains("new.toml:2:11: error: listener[0].address: "), "{said}");
    assert_eq!(file(&sekisho), before);
    sekisho.finish().await;
}

#[tokio::test]
async fn l04_the_file_is_replaced_whole_with_its_mode_and_link_and_taken_up() {
    let (one, two) = two_policies();
    let mut sekisho = Sekisho::start_with(&one, |dir| {
        fs::create_dir(dir.join("etc")).expect("made");
        fs::rename(dir.join("sekisho.toml"), dir.join("etc/real.toml")).expect("moved");
        set_mode(&dir.join("etc/real.toml"), 0o640);
        std::os::unix::fs::symlink("etc/real.toml", dir.join("sekisho.toml")).expect("a link");
    })
    .await;
    let new = fs::read_to_string(write(&sekisho, "new.toml", &two)).expect("there");
    let shown = said(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 0);
    let told = status(&sekisho).await;
    let revision = told["revision"].as_str().expect("a revision");
    assert!(shown.ends_with(&format!("revision {revision} is in force\n")), "{shown}");
    assert_eq!(file(&sekisho), new);
    assert!(sekisho.path("sekisho.toml").is_symlink());
    assert_eq!(mode(&sekisho.path("etc/real.toml")), 0o640);
    assert_eq!(fs::read_dir(sekisho.path("etc")).expect("there").count(), 1, "nothing is left over");
    sekisho.lifecycle("reload", 1).await.with("sekisho.config_revision", revision);
    // Its status is asked before the question and behind it.
    let done = sekisho.lifecycle("control", 3).await;
    done.with("sekisho.control", "reload").with("sekisho.config_revision", revision);
    assert!(done.text("message").ends_with(&format!(": revision {revision} is in force")), "{done:?}");
    let again = said(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 0);
    assert!(again.ends_with("has this text already, and it is in force\n"), "{again}");
    let itself = complained(&ask(&sekisho, &["apply", "etc/real.toml", "--yes"]).await, 1);
    assert!(itself.contains("real.toml is the file in force itself"), "{itself}");
    // And what may be reached is what the new one says.
    sekisho.refused("two.test:443", 403, "port_not_permitted").await;
    sekisho.finish().await;
}

#[tokio::test]
async fn what_the_service_refuses_is_put_back() {
    let (one, two) = two_policies();
    let mut sekisho = Sekisho::start(&one.clone().listen("127.0.0.1")).await;
    let address = sekisho.listeners.pop().expect("a second listener");
    sekisho.reload(&one).await;
    let before = file(&sekisho);
    let _taken = until("the address", || std::net::TcpListener::bind(address).ok()).await;
    let text = two.render(&[sekisho.addr(), address], sekisho.admin);
    fs::write(sekisho.path("new.toml"), &text).expect("written");
    let said = complained(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 1);
    assert!(said.contains(&format!("the service did not take it up: cannot listen on {address}")), "{said}");
    assert!(said.ends_with("sekisho.toml is as it was before\n"), "{said}");
    assert_eq!(file(&sekisho), before);
    assert_eq!(status(&sekisho).await["readiness"], serde_json::json!(["ok"]), "the file is what is in force again");
    sekisho.refused("two.test:8443", 403, "not_allowlisted").await;
    sekisho.lifecycle("reload_failed", 1).await;
    sekisho.lifecycle("control_refused", 1).await.with("sekisho.control", "reload");
    sekisho.finish().await;
}

#[tokio::test]
async fn changes_of_somebody_else_are_told_and_not_lost() {
    let (one, two) = two_policies();
    let sekisho = Sekisho::start(&one).await;
    write(&sekisho, "new.toml", &two);
    // Somebody else holds the lock.
    let folder = fs::File::open(sekisho.dir.path()).expect("opened");
    flock(&folder, FlockOperation::NonBlockingLockExclusive).expect("locked");
    let locked = complained(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 1);
    assert!(locked.contains("somebody else applies or confirms a configuration at this moment"), "{locked}");
    flock(&folder, FlockOperation::Unlock).expect("unlocked");
    // Somebody else has edited the file.
    let edited = format!("{}# somebody's\n", file(&sekisho));
    fs::write(sekisho.path("sekisho.toml"), &edited).expect("written");
    let told = complained(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 1);
    let revision = status(&sekisho).await["revision"].as_str().expect("a revision").to_owned();
    assert!(told.contains(&format!("is not what the service has in force (revision {revision}, since ")), "{told}");
    assert_eq!(file(&sekisho), edited);
    said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--overwrite"]).await, 0);
    assert_ne!(status(&sekisho).await["revision"], revision.as_str());
    // Two at once: one of them at least is told, and the file is one of the two.
    let others = [two.clone().set("timeouts", "drain", "\"5s\""), two.set("timeouts", "drain", "\"6s\"")];
    for (n, other) in others.iter().enumerate() {
        write(&sekisho, &format!("other{n}.toml"), other);
    }
    let (first, second) = tokio::join!(
        ask(&sekisho, &["apply", "other0.toml", "--yes"]),
        ask(&sekisho, &["apply", "other1.toml", "--yes"])
    );
    let codes = [first.status.code(), second.status.code()];
    assert!(codes.contains(&Some(0)), "{codes:?}");
    let drain = file(&sekisho).lines().find(|line| line.starts_with("drain")).expect("there").to_owned();
    assert!(["drain = \"5s\"", "drain = \"6s\""].contains(&drain.as_str()), "{drain}");
    assert_eq!(status(&sekisho).await["readiness"], serde_json::json!(["ok"]));
}

#[tokio::test]
async fn a_trial_that_is_confirmed_becomes_the_file() {
    let (one, two) = two_policies();
    let mut sekisho = Sekisho::start(&one).await;
    let before = file(&sekisho);
    let new = fs::read_to_string(write(&sekisho, "new.toml", &two)).expect("there");
    let none = complained(&ask(&sekisho, &["confirm"]).await, 1);
    assert_eq!(none, "sekisho: nothing is on trial: its time was over, or it was ended\n");
    let shown = said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", "10m"]).await, 0);
    assert!(
        shown.contains(" is on trial until ") && shown.contains("to keep it: sekisho confirm --config "),
        "{shown}"
    );
    assert_eq!(file(&sekisho), before, "the file stays as it was");
    let told = status(&sekisho).await;
    assert_eq!(told["trial"]["revision"], told["revision"]);
    assert!((590..=600).contains(&told["trial"]["seconds_left"].as_u64().expect("a number")), "{told}");
    let ready = sekisho.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    let revision = told["revision"].as_str().expect("a revision").to_owned();
    assert!(ready.text().starts_with(&format!("trial: revision {revision} until ")), "{}", ready.text());
    assert_eq!(sekisho.metrics().await["sekisho_trial"], 1.0);
    sekisho.refused("two.test:443", 403, "port_not_permitted").await;
    // Nothing else is taken up meanwhile, in no way.
    for (arguments, said) in [
        (&["apply", "new.toml", "--yes"][..], "`sekisho confirm` or `sekisho rollback` first"),
        (&["apply", "new.toml", "--yes", "--confirm", "1m"], "`sekisho confirm` or `sekisho rollback` first"),
    ] {
        let told = complained(&ask(&sekisho, arguments).await, 1);
        assert!(told.contains(said), "{arguments:?}: {told}");
    }
    sekisho.signal(Signal::HUP);
    let refused = sekisho.lifecycle("reload_failed", 1).await;
    assert!(refused.text("message").starts_with(&format!("not reloaded: revision {revision} is on trial until ")));
    // Another text in its place is not what was tried.
    fs::write(sekisho.path("sekisho.toml.trial"), format!("{new}# more\n")).expect("written");
    let told = complained(&ask(&sekisho, &["confirm"]).await, 1);
    assert!(told.contains(&format!("is not the text of revision {revision}, which is on trial")), "{told}");
    assert_eq!(file(&sekisho), before);
    fs::write(sekisho.path("sekisho.toml.trial"), &new).expect("written");
    let done = said(&ask(&sekisho, &["confirm"]).await, 0);
    assert!(done.starts_with(&format!("revision {revision} was confirmed by ")), "{done}");
    assert_eq!(file(&sekisho), new);
    assert!(!sekisho.path("sekisho.toml.trial").exists());
    let told = status(&sekisho).await;
    assert_eq!((told["trial"].is_null(), told["revision"].as_str()), (true, Some(revision.as_str())));
    assert_eq!(sekisho.admin("/readyz").await.text(), "ok\n");
    for word in ["trial_begun", "trial_confirmed"] {
        sekisho.lifecycle(word, 1).await.with("user.id", &rustix::process::geteuid().as_raw().to_string());
    }
    sekisho.signal(Signal::TERM);
    assert!(sekisho.exit().await.success());
    sekisho.start_again().await;
    assert_eq!(status(&sekisho).await["revision"].as_str(), Some(revision.as_str()));
}

#[tokio::test]
async fn a_trial_is_confirmed_though_a_registration_is_over() {
    let over = "state = \"registered\"\nnumber = \"C00-0000-0\"\nvalid_until = 2025-03-31\nconfirmed_by = \"IT\"\n\
                confirmed_on = 2024-04-01\ngrace = \"1d\"\nafter_grace = \"deny\"";
    let exempt = "state = \"exempt\"\nscope = \"a test\"\nconfirmed_by = \"IT\"\nconfirmed_on = 2024-04-01";
    let one = controlled()
        .set("site", "require_ismap", "\"enforce\"")
        .service(Service::tunnel("One", &["one.test"], 443).ismap(exempt))
        .service(Service::tunnel("Over", &["over.test"], 443).ismap(over));
    let two = one.clone().service(Service::tunnel("Two", &["two.test"], 443).ismap(exempt));
    let mut sekisho = Sekisho::start(&one).await;
    let new = fs::read_to_string(write(&sekisho, "new.toml", &two)).expect("there");
    let shown = said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", "10m"]).await, 0);
    let told = status(&sekisho).await;
    let (tried, in_force) = (told["trial"]["revision"].as_str().expect("one"), told["revision"].as_str().expect("one"));
    assert_ne!(tried, in_force, "what was loaded, and what of it holds today");
    assert!(
        shown.contains(&format!("-> {tried}\n")) && shown.contains(&format!("\nrevision {tried} is on trial ")),
        "{shown}"
    );
    let done = said(&ask(&sekisho, &["confirm"]).await, 0);
    assert!(done.starts_with(&format!("revision {tried} was confirmed by ")), "{done}");
    assert_eq!(file(&sekisho), new);
    let told = status(&sekisho).await;
    assert_eq!((told["trial"].is_null(), told["revision"].as_str()), (true, Some(in_force)));
    assert_eq!(told["readiness"], serde_json::json!(["ok"]));
    sekisho.refused("over.test:443", 403, "service_not_approved").await;
}

#[tokio::test]
async fn a_trial_is_rolled_back_though_only_the_minting_process_finds_the_file_broken() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let one = controlled().inspect("allowed.test", &origin);
    let sekisho = Sekisho::start(&one).await;
    let revision = status(&sekisho).await["revision"].clone();
    write(&sekisho, "new.toml", &one.clone().service(Service::tunnel("Two", &["two.test"], origin.port())));
    said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", "10m"]).await, 0);
    fs::write(sekisho.path("ca.key"), "no key").expect("written");
    let done = said(&ask(&sekisho, &["rollback"]).await, 0);
    assert!(done.contains(" is in force again, though the file cannot be taken up"), "{done}");
    let told = status(&sekisho).await;
    assert_eq!((&told["revision"], told["trial"].is_null()), (&revision, true));
    let degraded = told["degraded"].as_str().expect("why").to_owned();
    assert!(degraded.starts_with("the minting process refused it: "), "{degraded}");
    // What was in force before is signed for still.
    let at = origin.at("allowed.test");
    let mut inside = Tls::named("allowed.test").trusting(&sekisho.ca()).over(sekisho.tunnel(&at).await).await;
    assert_eq!(inside.get(&at, "/").await.expect("an answer").status, 200);
}

#[tokio::test]
async fn l08_a_trial_that_nobody_confirms_is_rolled_back_and_cuts_what_it_let_in() {
    let origin = Origin::https(&["two.test"]).echoing().start().await;
    let one = controlled().service(Service::tunnel("One", &["one.test"], 443)).reaching(&origin);
    let mut sekisho = Sekisho::start(&one).await;
    let revision = status(&sekisho).await["revision"].clone();
    write(&sekisho, "new.toml", &one.tunnel("two.test", &origin));
    said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", "4s"]).await, 0);
    let mut inside = Tls::named("two.test").over(sekisho.tunnel(&origin.at("two.test")).await).await;
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    let over = sekisho.lifecycle("trial_rolled_back", 1).await;
    assert!(over.text("message").contains(" is over (nobody confirmed it in time): revision "), "{over:?}");
    over.with("sekisho.config_revision", revision.as_str().expect("a revision"));
    assert!(!over.has("user.id"), "{over:?}");
    let _ = inside.rest().await;
    sekisho.next_connection().await.says("allowed", "policy_withdrawn");
    let told = status(&sekisho).await;
    assert_eq!((&told["revision"], &told["readiness"]), (&revision, &serde_json::json!(["ok"])));
    assert_eq!(sekisho.metrics().await["sekisho_trial"], 0.0);
    let late = complained(&ask(&sekisho, &["confirm"]).await, 1);
    assert_eq!(late, "sekisho: nothing is on trial: its time was over, or it was ended\n");
    sekisho.finish().await;
}

#[tokio::test]
async fn a_trial_is_ended_by_rollback_by_a_broken_file_and_by_a_crash() {
    let (one, two) = two_policies();
    let mut sekisho = Sekisho::start(&one).await;
    let revision = status(&sekisho).await["revision"].clone();
    write(&sekisho, "new.toml", &two);
    let apply = ["apply", "new.toml", "--yes", "--confirm", "10m"];
    said(&ask(&sekisho, &apply).await, 0);
    assert_ne!(status(&sekisho).await["revision"], revision);
    let done = said(&ask(&sekisho, &["rollback"]).await, 0);
    assert!(done.contains(" is in force again, as the file has it"), "{done}");
    assert!(!sekisho.path("sekisho.toml.trial").exists());
    assert_eq!(status(&sekisho).await["revision"], revision);
    let none = complained(&ask(&sekisho, &["rollback"]).await, 1);
    assert_eq!(none, "sekisho: nothing is on trial\n");
    // The file was broken meanwhile: what was in force before is, all the same, and it is said that the file does not load.
    let text = file(&sekisho);
    said(&ask(&sekisho, &apply).await, 0);
    fs::write(sekisho.path("sekisho.toml"), "broken").expect("written");
    let done = said(&ask(&sekisho, &["rollback", "--socket", "control.sock"]).await, 0);
    assert!(done.contains(" is in force again, though the file cannot be taken up"), "{done}");
    let told = status_at(&sekisho).await;
    assert_eq!(told["revision"], revision);
    assert!(told["readiness"][0].as_str().expect("a word").starts_with("degraded"), "{told}");
    sekisho.replace_config(&text);
    // A crash within a trial: the file is in force, and what is left of the trial is not.
    sekisho.signal(Signal::HUP);
    sekisho.lifecycle("reload", 4).await;
    said(&ask(&sekisho, &apply).await, 0);
    sekisho.kill().await;
    sekisho.start_again().await;
    let told = status(&sekisho).await;
    assert_eq!((&told["revision"], told["trial"].is_null()), (&revision, true));
    assert!(sekisho.stderr().contains("of a trial that was not confirmed, and is not in force"));
}

/// It is killed at each of the calls that change something.
#[tokio::test]
async fn a_confirm_that_is_killed_has_confirmed_or_has_not_and_nothing_in_between() {
    // Behind the lock, in order: the new file beside the old one, its place, the directory, and the question.
    const STEPS: [(&str, bool); 5] =
        [("fchmod", false), ("write", false), ("fsync", false), ("rename", false), ("fsync:when=2", true)];
    let (one, two) = two_policies();
    let mut sekisho = Sekisho::start(&one).await;
    let before = file(&sekisho);
    let new = fs::read_to_string(write(&sekisho, "new.toml", &two)).expect("there");
    let mut rolled_back = 0;
    for (step, confirmed) in STEPS {
        let revision = status(&sekisho).await["revision"].clone();
        said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", "10m"]).await, 0);
        if !killed_at(&sekisho, step, &["confirm"]).await {
            crate::real_clients::stage::skipped("a command that is killed", "no strace, or it may not trace");
            return;
        }
        assert_eq!(file(&sekisho), if confirmed { new.as_str() } else { before.as_str() }, "{step}");
        assert!(!status(&sekisho).await["trial"].is_null(), "{step}: the service was not told");
        let back = ask(&sekisho, &["rollback"]).await;
        if confirmed {
            let told = status(&sekisho).await;
            assert_eq!(
                complained(&back, 1),
                format!(
                    "sekisho: revision {} is the file's: it was confirmed, by somebody who was ended before he could say so: there is \
                     nothing to go back to; apply the configuration that is to be in force\n",
                    told["revision"].as_str().expect("a revision")
                ),
                "{step}"
            );
            assert_ne!(told["revision"], revision, "{step}");
            assert_eq!((told["trial"].is_null(), &told["readiness"]), (true, &serde_json::json!(["ok"])), "{step}");
        } else {
            said(&back, 0);
            rolled_back += 1;
            assert_eq!(status(&sekisho).await["revision"], revision, "{step}");
        }
    }
    sekisho.lifecycle("trial_rolled_back", rolled_back).await;
    sekisho.lifecycle("trial_confirmed", 1).await;
    // It is the file's at the next start too, and nothing is said of a trial that was not confirmed.
    sekisho.signal(Signal::TERM);
    assert!(sekisho.exit().await.success());
    sekisho.start_again().await;
    assert!(sekisho.path("sekisho.toml.trial").exists());
    assert!(!sekisho.stderr().contains("of a trial that was not confirmed"), "{}", sekisho.stderr());
}

/// The time of a trial that was confirmed by somebody who could not say so.
#[tokio::test]
async fn a_trial_whose_file_is_confirmed_ends_so_when_its_time_is_over_or_it_is_confirmed_again() {
    let (one, two) = two_policies();
    let sekisho = Sekisho::start(&one).await;
    let new = fs::read_to_string(write(&sekisho, "new.toml", &two)).expect("there");
    let before = file(&sekisho);
    for (n, time) in ["1s", "10m"].into_iter().enumerate() {
        said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", time]).await, 0);
        sekisho.replace_config(&new);
        if time == "10m" {
            said(&ask(&sekisho, &["confirm"]).await, 0);
            assert!(!sekisho.path("sekisho.toml.trial").exists());
        }
        let confirmed = sekisho.lifecycle("trial_confirmed", n + 1).await;
        assert_eq!(confirmed.has("user.id"), time == "10m", "{confirmed:?}");
        let told = status(&sekisho).await;
        assert_eq!((told["trial"].is_null(), &told["readiness"]), (true, &serde_json::json!(["ok"])), "{time}");
        assert_eq!(told["revision"], confirmed.text("sekisho.config_revision"));
        sekisho.replace_config(&before);
        sekisho.signal(Signal::HUP);
        until("the old file", || (sekisho.records().last()?.text("sekisho.lifecycle") == "reload").then_some(())).await;
    }
    assert!(sekisho.records().iter().all(|record| record.text("sekisho.lifecycle") != "trial_rolled_back"));
}

#[tokio::test]
async fn what_a_killed_apply_leaves_behind_is_gone_with_the_next_one() {
    let (one, two) = two_policies();
    let sekisho = Sekisho::start(&one).await;
    write(&sekisho, "new.toml", &two);
    let left = || {
        let names =
            fs::read_dir(sekisho.dir.path()).expect("a directory").map(|entry| entry.expect("an entry").file_name());
        let mut left: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        left.retain(|name| name.starts_with('.'));
        left.sort();
        left
    };
    for arguments in [&["apply", "new.toml", "--yes"][..], &["apply", "new.toml", "--yes", "--confirm", "1m"]] {
        if !killed_at(&sekisho, "rename", arguments).await {
            crate::real_clients::stage::skipped("a command that is killed", "no strace, or it may not trace");
            return;
        }
        assert_eq!(left().len(), 1, "{arguments:?}: {:?}", left());
    }
    assert_eq!(left(), [".sekisho.toml.trial.new"], "the second one has found what the first one left");
    said(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 0);
    assert!(left().is_empty(), "{:?}", left());
}

#[tokio::test]
async fn a_trial_whose_way_back_is_barred_goes_on_and_says_so() {
    let one = controlled();
    // A trial opens ports that the service had at its start.
    let mut sekisho = Sekisho::start(&one.clone().listen("127.0.0.1")).await;
    let elsewhere = sekisho.listeners.pop().expect("a second listener");
    sekisho.reload(&one).await;
    let revision = status(&sekisho).await["revision"].clone();
    let old = sekisho.addr();
    fs::write(sekisho.path("new.toml"), one.render(&[elsewhere], sekisho.admin)).expect("written");
    said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", "10m"]).await, 0);
    // Another program takes the address as soon as it is free.
    let taken = until("the old address", || std::net::TcpListener::bind(old).ok()).await;
    let barred = complained(&ask(&sekisho, &["rollback"]).await, 1);
    assert!(barred.starts_with(&format!("sekisho: cannot listen on {old}: ")), "{barred}");
    let told = status(&sekisho).await;
    assert_eq!(told["trial"]["revision"], told["revision"], "it goes on");
    assert_ne!(told["revision"], revision);
    drop(taken);
    said(&ask(&sekisho, &["rollback"]).await, 0);
    assert_eq!(status(&sekisho).await["revision"], revision);
    sekisho.refused("one.test:443", 403, "not_allowlisted").await;
    sekisho.finish().await;
}

/// With the socket on the command line, as the file does not say where it is.
async fn status_at(sekisho: &Sekisho) -> serde_json::Value {
    let out = ask(sekisho, &["status", "--json", "--socket", "control.sock"]).await;
    serde_json::from_slice(&out.stdout).expect("JSON")
}
