//! Only scenes of the last good configuration belong here: what is kept, and when it is used.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::super::support::sekisho::{mode, run, text};
use super::super::support::{Sekisho, Service};
use super::{controlled, status};

fn state(dir: &Path) -> Vec<(&'static str, OsString)> {
    let state = dir.join("state");
    if !state.exists() {
        fs::create_dir(&state).expect("made");
    }
    // As systemd has it with two names in StateDirectory=.
    vec![("STATE_DIRECTORY", format!("{}:{}", state.display(), dir.display()).into())]
}

#[tokio::test]
async fn l04_a_broken_file_starts_nothing_without_the_flag_and_the_last_good_one_with_it() {
    // A reload may lead to no port that was not known at the start.
    let ports = Service::tunnel("Ports", &["ports.invalid"], 8443);
    let config = controlled().service(ports).service(Service::tunnel("One", &["one.test"], 443));
    let mut sekisho = Sekisho::start_in(&config, state).await;
    let kept = sekisho.path("state/last-good.toml");
    let first = super::super::support::until("the first one kept", || fs::read_to_string(&kept).ok()).await;
    assert_eq!(mode(&kept), 0o600);
    // A reload that is refused is not kept, one that is taken up is.
    sekisho.reload_refused("broken").await;
    assert_eq!(fs::read_to_string(&kept).expect("kept"), first);
    let config = config.service(Service::tunnel("Two", &["two.test"], 8443));
    sekisho.reload(&config).await;
    let revision = status(&sekisho).await["revision"].as_str().expect("a revision").to_owned();
    super::super::support::until("the new one kept", || {
        fs::read_to_string(&kept).is_ok_and(|kept| kept.contains(&revision) && kept.contains("two.test")).then_some(())
    })
    .await;
    sekisho.kill().await;
    let good = fs::read_to_string(sekisho.path("sekisho.toml")).expect("there");
    fs::write(sekisho.path("sekisho.toml"), good.replace("two.test\"]", "two.test\"")).expect("written");

    let dir = sekisho.dir.path().to_owned();
    let refused = tokio::task::spawn_blocking(move || {
        let state = dir.join("state").display().to_string();
        let without = run(&dir, &["run", "--config", "sekisho.toml", "--state-directory", &state]);
        (without, run(&dir, &["run", "--config", "sekisho.toml", "--last-good"]))
    });
    let (without, nowhere) = refused.await.expect("no panic");
    assert_eq!((without.status.code(), nowhere.status.code()), (Some(1), Some(1)));
    assert!(text(&without.stderr).contains("sekisho.toml:"), "{}", text(&without.stderr));
    assert!(text(&nowhere.stderr).contains("--last-good needs --state-directory DIR"), "{}", text(&nowhere.stderr));

    sekisho.start_again_with(&["--last-good"]).await;
    let told = status_of(&sekisho).await;
    assert_eq!((told["revision"].as_str(), told["last_good"].as_bool()), (Some(revision.as_str()), Some(true)));
    let why = told["degraded"].as_str().expect("said");
    assert!(why.starts_with("sekisho.toml is broken: the last good configuration is in force, revision "), "{why}");
    let ready = sekisho.admin("/readyz").await;
    let words = "degraded: the configuration file is broken, the last good configuration is in force\n";
    assert_eq!((ready.status, ready.text().as_str()), (200, words));
    let metrics = sekisho.metrics().await;
    assert_eq!((metrics["sekisho_last_good"], metrics["sekisho_degraded"]), (1.0, 1.0));
    let line = sekisho.lifecycle("last_good", 1).await;
    assert_eq!(line.text("message"), why);
    assert!(sekisho.stderr().contains("sekisho.toml is broken: the last good configuration is in force"));
    assert!(sekisho.stderr().contains("sekisho.toml:"), "what is wrong with the file is said too");
    sekisho.refused("two.test:443", 403, "port_not_permitted").await;
    // The file is mended.
    sekisho.replace_config(&good);
    sekisho.signal(rustix::process::Signal::HUP);
    sekisho.lifecycle("reload", 2).await;
    assert_eq!(sekisho.admin("/readyz").await.text(), "ok\n");
    assert_eq!(sekisho.metrics().await["sekisho_last_good"], 0.0);
}

async fn status_of(sekisho: &Sekisho) -> serde_json::Value {
    let out = super::ask(sekisho, &["status", "--json", "--socket", "control.sock"]).await;
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&out.stderr)))
}
