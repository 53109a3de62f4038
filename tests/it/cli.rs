//! Only scenes about the commands belong here: what they print, and their exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use super::support::sekisho::{binary, free_port, prepare, run, text};
use super::support::{Config, Service};

fn config() -> Config {
    Config::new()
        .service(Service::tunnel("Tunnelled", &["tunnel.test", "*.wide.test"], 443))
        .service(Service::inspect("Inspected", &["inspect.test"], 443).header("X-Org", "hidden-value"))
        .service(Service::plain("Plain", &["crl.test"], 80))
}

#[test]
fn help_version_and_completions() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let out = run(dir.path(), &["--version"]);
    assert_eq!(
        (out.status.code(), text(&out.stdout).trim()),
        (Some(0), concat!("sekisho ", env!("CARGO_PKG_VERSION")))
    );
    for command in [
        &["--help"][..],
        &["run", "--help"],
        &["check", "--help"],
        &["explain", "--help"],
        &["ca", "init", "--help"],
        &["ca", "show", "--help"],
        &["quickstart", "--help"],
        &["load", "origin", "--help"],
        &["load", "run", "--help"],
        &["status", "--help"],
        &["sessions", "--help"],
        &["sessions", "cut", "--help"],
        &["apply", "--help"],
        &["confirm", "--help"],
        &["rollback", "--help"],
    ] {
        let out = run(dir.path(), command);
        assert_eq!(out.status.code(), Some(0), "{command:?}: {}", text(&out.stderr));
        assert!(text(&out.stdout).contains("xample"), "{command:?} shows examples: {}", text(&out.stdout));
    }
    for shell in ["bash", "zsh", "fish"] {
        let out = run(dir.path(), &["completions", shell]);
        assert_eq!(out.status.code(), Some(0), "{shell}");
        assert!(text(&out.stdout).contains("sekisho"));
    }
    assert_eq!(run(dir.path(), &["nonsense"]).status.code(), Some(1));
}

#[test]
fn check_prints_one_screen_and_its_exit_code() {
    let (dir, ..) = prepare(&config());
    let out = run(dir.path(), &["check", "--config", "sekisho.toml"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said}{}", text(&out.stderr));
    for word in ["Tunnelled", "Inspected", "Plain", "office", "Example City"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("hidden-value"), "values are never printed");
    assert!(said.lines().count() <= 50, "one screen");
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal");
    assert!(!dir.path().join("access.jsonl").exists(), "check changes nothing");
}

#[test]
fn check_warns_where_a_measure_of_the_case_is_missing() {
    let (dir, ..) = prepare(&Config::new().service(Service::tunnel("Tunnelled", &["tunnel.test"], 443)).set(
        "site",
        "case",
        "\"collaboration\"",
    ));
    let out = run(dir.path(), &["check", "--config", "sekisho.toml"]);
    assert_eq!(out.status.code(), Some(0), "warnings are no errors");
    assert!((text(&out.stdout) + &text(&out.stderr)).contains("warning"), "{}", text(&out.stdout));
}

#[test]
fn explain_tells_the_decision_and_where_it_stands() {
    let (dir, ..) = prepare(&config());
    let explain = |arguments: &[&str]| {
        let all = [&["explain", "--config", "sekisho.toml"][..], arguments].concat();
        let out = run(dir.path(), &all);
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    for (arguments, code, words) in [
        (&["--client", "127.0.0.1", "tunnel.test"][..], 0, &["Tunnelled", "tunnel", "sekisho.toml:"][..]),
        (&["--client", "127.0.0.1", "TUNNEL.test.:443"], 0, &["Tunnelled"]),
        (&["--client", "127.0.0.1", "a.wide.test"], 0, &["Tunnelled", "*.wide.test"]),
        (&["--client", "127.0.0.1", "inspect.test"], 0, &["Inspected", "inspect", "org"]),
        (&["--client", "127.0.0.1", "http://crl.test/x"], 0, &["Plain"]),
        (&["--client", "::1", "tunnel.test"], 0, &["Tunnelled"]),
        (&["--client", "::ffff:127.0.0.1", "tunnel.test"], 0, &["Tunnelled"]),
        (&["--client", "127.0.0.1", "denied.test"], 3, &["not_allowlisted"]),
        (&["--client", "10.0.0.1", "tunnel.test"], 3, &["client_not_permitted"]),
        (&["--client", "127.0.0.1", "tunnel.test:80"], 3, &["port_not_permitted"]),
        (&["--client", "127.0.0.1", "192.0.2.1"], 3, &["ip_literal"]),
        (&["--client", "127.0.0.1", "http://tunnel.test/"], 3, &[]),
        (&["--client", "127.0.0.1", "--sni", "other.test", "tunnel.test"], 3, &["name_mismatch"]),
        (&["--client", "127.0.0.1", "a b"], 3, &["malformed_name"]),
    ] {
        let (status, out, err) = explain(arguments);
        assert_eq!(status, Some(code), "{arguments:?}: {out}{err}");
        assert!(words.iter().all(|word| out.to_lowercase().contains(&word.to_lowercase())), "{arguments:?}: {out}");
        assert!(!out.contains("hidden-value"));
    }
    assert_ne!(explain(&["--client", "nobody", "tunnel.test"]).0, Some(0));
    let missing = run(dir.path(), &["explain", "--config", "none.toml", "--client", "127.0.0.1", "tunnel.test"]);
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn explain_speaks_json() {
    let (dir, ..) = prepare(&config());
    for (host, code) in [("inspect.test", 0), ("denied.test", 3)] {
        let out = run(dir.path(), &["explain", "--config", "sekisho.toml", "--json", "--client", "127.0.0.1", host]);
        assert_eq!(out.status.code(), Some(code));
        let told: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert!(told.to_string().contains(host), "{told}");
        if code == 3 {
            assert_eq!(told["reason"], "not_allowlisted");
        } else {
            assert_eq!(told["rule"]["name"], "Inspected");
            let place = told["rule"]["place"].as_str().expect("a place");
            let line: usize = place.rsplit(':').next().and_then(|line| line.parse().ok()).expect("file:line");
            let file = fs::read_to_string(dir.path().join("sekisho.toml")).expect("file");
            assert!(
                file.lines().nth(line - 1).expect("that line").contains("service")
                    || file.lines().nth(line - 1).expect("that line").contains("inspect.test"),
                "{place}"
            );
            assert!(!told.to_string().contains("hidden-value"));
        }
    }
}

#[test]
fn ca_init_never_overwrites_and_show_tells_what_is_there() {
    let (dir, ..) = prepare(&config().without_ca_init());
    let shown = run(dir.path(), &["ca", "show", "--config", "sekisho.toml"]);
    assert!(!text(&shown.stderr).contains("panicked"));
    let made = run(dir.path(), &["ca", "init", "--config", "sekisho.toml", "--reserve", "later.test", "--days", "365"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let files: Vec<Vec<u8>> = ["ca.pem", "ca.key", "ca-root.pem", "ca-root.key"]
        .iter()
        .map(|file| fs::read(dir.path().join(file)).expect(file))
        .collect();
    let again = run(dir.path(), &["ca", "init", "--config", "sekisho.toml"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stdout));
    let after: Vec<Vec<u8>> = ["ca.pem", "ca.key", "ca-root.pem", "ca-root.key"]
        .iter()
        .map(|file| fs::read(dir.path().join(file)).expect(file))
        .collect();
    assert_eq!(files, after);
    let shown = run(dir.path(), &["ca", "show", "--config", "sekisho.toml"]);
    let said = text(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    for word in ["inspect.test", "later.test", "20"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("PRIVATE"), "{said}");
}

#[test]
fn ca_init_refuses_an_unconstrained_ca() {
    let (dir, listeners, admin) = prepare(&config());
    let text_of = config().no_services().service(Service::tunnel("t", &["tunnel.test"], 443)).render(&listeners, admin);
    for file in ["ca.pem", "ca.key", "ca-root.pem", "ca-root.key"] {
        fs::remove_file(dir.path().join(file)).expect("removed");
    }
    fs::write(dir.path().join("sekisho.toml"), text_of).expect("written");
    let out = run(dir.path(), &["ca", "init", "--config", "sekisho.toml"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stdout));
    assert!(!dir.path().join("ca.pem").exists());
}

#[test]
fn quickstart_sends_three_requests_and_runs_on() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let listen = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let mut child = Command::new(binary())
        .args(["quickstart", "--dir", "demo", "--listen", &listen])
        .current_dir(dir.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while !(said.contains("curl") && said.contains("not_allowlisted")) {
        match lines.next() {
            Some(Ok(line)) => said.push_str(&(line + "\n")),
            _ => break,
        }
    }
    let running = child.try_wait().expect("wait").is_none();
    child.kill().expect("killed");
    child.wait().expect("waited");
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
    assert!(running, "it keeps running: {said}{errors}");
    for word in ["tunnel", "inspect", "not_allowlisted", "curl", "demo"] {
        assert!(said.contains(word), "{word}: {said}{errors}");
    }
    for file in ["sekisho.toml", "ca.pem", "ca.key"] {
        assert!(dir.path().join("demo").join(file).exists(), "{file}");
    }
    let record = fs::read_dir(dir.path().join("demo"))
        .expect("demo")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .expect("a record");
    let records = super::support::record::parse(&fs::read_to_string(record).expect("a record"));
    let connections: Vec<_> =
        records.iter().filter(|record| record.is_terminal() && record.action() == "connection").collect();
    assert!(connections.iter().any(|record| record.reason() == "not_allowlisted"), "{connections:?}");
}

#[test]
fn the_catalogue_is_shown_without_a_configuration() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let shown = |arguments: &[&str]| {
        let out = run(dir.path(), &[&["catalog"], arguments].concat());
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let (code, list, _) = shown(&["list"]);
    assert_eq!(code, Some(0));
    for part in ["microsoft-365/sign-in ", "google-workspace/sign-in ", "revocation/digicert ", "kintone/tenant "] {
        assert!(list.lines().any(|line| line.starts_with(part)), "{part}: {list}");
    }
    let (code, part, _) = shown(&["show", "microsoft-365/sign-in"]);
    assert_eq!(code, Some(0));
    for words in [
        "  hosts          login.microsoftonline.com\n                 login.microsoft.com\n",
        "  tenant profile microsoft-v1 or microsoft-v2\n",
        "the vendor's own)\n",
        "catalog = \"microsoft-365/sign-in\"\n",
    ] {
        assert!(part.contains(words), "{words}: {part}");
    }
    let (code, entry, _) = shown(&["show", "defender"]);
    assert!(code == Some(0) && entry.contains("never inspect"), "{entry}");
    assert!(entry.contains("its clients accept the vendor's own certificate only"), "{entry}");
    let (_, content, _) = shown(&["show", "box/content"]);
    assert!(content.contains("  shared         Files of every customer are downloaded from boxcloud.com"), "{content}");
    let (_, found, _) = shown(&["search", "login.microsoftonline.com"]);
    let parts: Vec<_> = found.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(parts.first(), Some(&"microsoft-365/sign-in"), "{found}");
    assert!(!parts.contains(&"slack/app"), "{found}");
    let (code, _, why) = shown(&["show", "slak"]);
    assert_eq!(
        (code, why.as_str()),
        (Some(1), "sekisho: no \"slak\" in the catalogue; there is slack; `sekisho catalog list` shows all of it\n")
    );
    let (code, _, why) = shown(&["search", "nothing-like-this"]);
    assert!(code == Some(1) && why.contains("nothing in the catalogue has nothing-like-this"), "{why}");
    // The site's own come beside, or in place.
    fs::create_dir(dir.path().join("own")).expect("a folder");
    let own = "name = \"Own\"\nprovider = \"Us\"\ncategory = \"business\"\n[[part]]\nid = \"app\"\ntitle = \"Ours\"\n\
               purpose = \"application\"\nhosts = [\"own.example.jp\"]\n[[part.source]]\nurl = \"https://own.example.jp/\"\n\
               read = 2026-11-28\nconfidence = \"H\"\n";
    fs::write(dir.path().join("own/own.toml"), own).expect("written");
    let (code, found, _) = shown(&["search", "--folder", "own", "own.example.jp"]);
    assert!(code == Some(0) && found.starts_with("own/app ") && found.contains("(own/own.toml)"), "{found}");
    fs::write(dir.path().join("own/own.toml"), own.replace("title", "titel")).expect("written");
    let (code, _, why) = shown(&["list", "--folder", "own"]);
    assert!(code == Some(1) && why.contains("own/own.toml:6:1: error: part[0].titel: found an unknown key"), "{why}");
}

/// What is taken from the catalogue is decided as if it were written out, and a folder of the site's own counts.
#[test]
fn a_service_of_the_catalogue_is_decided_like_any_other() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n\
                  [catalog]\nfolder = \"own\"\n[[service]]\nname = \"Kintone\"\ncatalog = \"kintone/tenant\"\n\
                  tenant_name = \"city-x\"\n[[service]]\nname = \"Claude\"\ncatalog = \"claude/app\"\n";
    fs::write(dir.path().join("sekisho.toml"), config).expect("written");
    let own = "name = \"Claude here\"\nprovider = \"Us\"\ncategory = \"ai\"\n[[part]]\nid = \"app\"\ntitle = \"Ours\"\n\
               purpose = \"application\"\nhosts = [\"claude.example.jp\"]\n[[part.source]]\nurl = \"https://claude.example.jp/\"\n\
               read = 2026-11-28\nconfidence = \"H\"\n";
    let missing = run(dir.path(), &["check"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("own: error: found no readable folder"), "{}", text(&missing.stderr));
    fs::create_dir(dir.path().join("own")).expect("a folder");
    fs::write(dir.path().join("own/claude.toml"), own).expect("written");
    let explained = |host: &str| {
        let out = run(dir.path(), &["explain", "--client", "10.20.0.7", host]);
        (out.status.code(), text(&out.stdout))
    };
    for (host, code) in [("city-x.cybozu.com", 0), ("city-y.cybozu.com", 3), ("claude.example.jp", 0), ("claude.ai", 3)]
    {
        let (exit, said) = explained(host);
        assert_eq!(exit, Some(code), "{host}: {said}");
    }
    let (_, said) = explained("city-x.cybozu.com");
    assert!(said.contains("sekisho.toml:10"), "the line of the catalog key: {said}");
    let revision = |text: &str| text.lines().find(|line| line.contains("revision")).map(str::to_owned);
    let before = text(&run(dir.path(), &["check"]).stdout);
    assert!(before.contains("\ncatalog    own in place of the program's: claude (claude.toml)\n"), "{before}");
    fs::write(dir.path().join("own/another.toml"), own.replace("claude", "another")).expect("written");
    let two = text(&run(dir.path(), &["check"]).stdout);
    assert!(
        two.contains("\ncatalog    own in place of the program's: claude (claude.toml), own: another\n           (another.toml)\n"),
        "{two}"
    );
    fs::write(dir.path().join("own/claude.toml"), own.replace("claude.example.jp\"]", "claude2.example.jp\"]"))
        .expect("written");
    let after = text(&run(dir.path(), &["check"]).stdout);
    assert!(revision(&before).is_some() && revision(&before) != revision(&after), "{before}\n{after}");
}

/// No name of a tenant, and no file of the site's own, makes the catalogue permit what nobody holds alone.
#[test]
fn c13_what_is_taken_from_the_catalogue_is_no_wider_than_what_is_written_out() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let entry = |host: &str| {
        format!(
            "name = \"Own\"\nprovider = \"Us\"\ncategory = \"business\"\n[[part]]\nid = \"app\"\ntitle = \"Ours\"\n\
             purpose = \"application\"\nhosts = [\"{host}\"]\n[[part.source]]\nurl = \"https://own.example.jp/\"\n\
             read = 2026-11-28\nconfidence = \"H\"\n"
        )
    };
    fs::create_dir(dir.path().join("own")).expect("a folder");
    for (host, name, code, expected) in [
        (
            "*.{tenant}.jp",
            "co",
            1,
            "found \"own/app\", which permits \"*.co.jp\", at or above the public suffix \"co.jp\"",
        ),
        ("*.{tenant}.jp", "city-x", 0, "no problems"),
        ("*.github.io", "", 0, "which permits \"*.github.io\": under github.io anybody may get a name"),
    ] {
        let tenant = if name.is_empty() { String::new() } else { format!("tenant_name = \"{name}\"\n") };
        let config = format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n\
             [catalog]\nfolder = \"own\"\n[[service]]\nname = \"Own\"\ncatalog = \"own/app\"\n{tenant}"
        );
        fs::write(dir.path().join("sekisho.toml"), config).expect("written");
        fs::write(dir.path().join("own/own.toml"), entry(host)).expect("written");
        let out = run(dir.path(), &["check"]);
        let said = text(&out.stdout) + &text(&out.stderr);
        assert!(out.status.code() == Some(code) && said.contains(expected), "{host} {name}: {said}");
    }
}

/// What only `run` would come upon is a warning, and is counted as one.
#[test]
fn check_warns_of_a_record_whose_folder_is_missing() {
    let (dir, ..) = prepare(&config().set("record", "path", "\"missing/access.jsonl\""));
    let checked = run(dir.path(), &["check"]);
    let (said, warned) = (text(&checked.stdout), text(&checked.stderr));
    assert_eq!(checked.status.code(), Some(0), "{said}{warned}");
    let expected = "warning: record.path: the directory missing is not there (for example: install -d -m 0750 -o USER missing); \
                    `run` would refuse to start\n";
    assert!(warned.contains(expected), "{warned}");
    assert!(said.ends_with("sekisho.toml: 1 warning\n"), "{said}");
}

/// A reload of the unit asks for it each time.
#[test]
fn an_upgrade_without_a_control_socket_is_refused_but_where_it_is_only_asked_for() {
    let (dir, ..) = prepare(&config());
    let said = run(dir.path(), &["upgrade", "--if-changed", "--config", "sekisho.toml"]);
    let expected = "no [control], so that the service that runs is not asked whether this program is another one: a new program needs a restart\n";
    assert_eq!((said.status.code(), text(&said.stdout).as_str(), text(&said.stderr).as_str()), (Some(0), expected, ""));
    let said = run(dir.path(), &["upgrade", "--config", "sekisho.toml"]);
    let expected = "sekisho: the service that runs is asked by its control socket, and the configuration has none: add [control] socket, and \
                    restart once\n";
    assert_eq!((said.status.code(), text(&said.stderr).as_str()), (Some(1), expected));
}
