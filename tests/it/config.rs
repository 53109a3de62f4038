//! Only scenes about the configuration file belong here: what is refused at the start, what a reload keeps, changes and withdraws.

use std::fs;

use super::support::client::{Tls, connect};
use super::support::sekisho::{APART, apart, prepare, run, text};
use super::support::{Config, Origin, Sekisho, Service};

/// `run` and `check` on this text: both must refuse it, with the same words.
fn refused(text_of: impl Fn(&str) -> String) -> String {
    let (dir, listeners, admin) = prepare(&base());
    let path = dir.path().join("sekisho.toml");
    let good = base().render(&listeners, admin);
    fs::write(&path, text_of(&good)).expect("written");
    let checked = run(dir.path(), &["check", "--config", "sekisho.toml"]);
    let said = text(&checked.stdout) + &text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    let ran = run(dir.path(), &["run", "--config", "sekisho.toml"]);
    assert_eq!(ran.status.code(), Some(1), "{}", text(&ran.stderr));
    said
}

fn base() -> Config {
    Config::new().service(Service::tunnel("Demo", &["allowed.test"], 443))
}

#[test]
fn l02_a_missing_file_is_a_refused_start() {
    let dir = tempfile::TempDir::new().expect("a directory");
    for command in ["run", "check"] {
        let out = run(dir.path(), &[command, "--config", "nowhere.toml"]);
        assert_eq!(out.status.code(), Some(1), "{command}");
        assert!((text(&out.stdout) + &text(&out.stderr)).contains("nowhere.toml"), "{command}");
        let out = run(dir.path(), &[command]);
        assert_eq!(out.status.code(), Some(1), "{command}: ./sekisho.toml is the file where none is named");
        assert!((text(&out.stdout) + &text(&out.stderr)).contains("sekisho.toml"), "{command}");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0, "nothing is made in its place");
}

#[test]
fn l05_l06_mistakes_are_refused_with_their_place() {
    let replace = |from: &'static str, to: &'static str| {
        move |good: &str| {
            assert!(good.contains(from), "{from}");
            good.replace(from, to)
        }
    };
    let append = |more: &'static str| move |good: &str| format!("{good}\n{more}\n");
    type Edit = Box<dyn Fn(&str) -> String>;
    let rows: Vec<(&str, Edit, &[&str])> = vec![
        (
            "L05 an unknown key",
            Box::new(replace("name = \"Demo\"", "name = \"Demo\"\nhost = [\"x.test\"]")),
            &["host", "sekisho.toml:"],
        ),
        ("L05 an unknown section", Box::new(append("[limit]\nconnections = 5")), &["limit"]),
        ("L05 a key twice", Box::new(replace("name = \"Demo\"", "name = \"Demo\"\nname = \"Demo\"")), &["name"]),
        ("L05 a section twice", Box::new(append("[site]\nname = \"again\"")), &["site"]),
        ("L05 a wrong type", Box::new(replace("ports = [443]", "ports = \"443\"")), &["ports"]),
        (
            "L05 two services of one name",
            Box::new(append("[[service]]\nname = \"Demo\"\nhosts = [\"b.test\"]")),
            &["Demo"],
        ),
        ("L05 no TOML", Box::new(|_| "this is = not [toml".to_owned()), &["sekisho.toml:1"]),
        ("L05 no UTF-8 is no name", Box::new(append("[[service]]\nname = \"\"\nhosts = [\"b.test\"]")), &["name"]),
        ("an unknown group", Box::new(replace("ports = [443]", "clients = [\"nobody\"]")), &["nobody"]),
        ("a value without a unit", Box::new(replace("drain = \"3s\"", "drain = \"3\"")), &["drain"]),
        ("a number without a unit", Box::new(replace("drain = \"3s\"", "drain = 3")), &["drain"]),
        ("C13 *", Box::new(replace("[\"allowed.test\"]", "[\"*\"]")), &["*"]),
        ("C13 *.com", Box::new(replace("[\"allowed.test\"]", "[\"*.com\"]")), &["*.com"]),
        ("C13 *.co.jp", Box::new(replace("[\"allowed.test\"]", "[\"*.co.jp\"]")), &["*.co.jp"]),
        ("C13 **.x", Box::new(replace("[\"allowed.test\"]", "[\"**.x.test\"]")), &["**.x.test"]),
        ("C13 *.*", Box::new(replace("[\"allowed.test\"]", "[\"*.*\"]")), &["*.*"]),
        ("C13 x.*", Box::new(replace("[\"allowed.test\"]", "[\"x.*\"]")), &["x.*"]),
        ("C13 empty", Box::new(replace("[\"allowed.test\"]", "[\"\"]")), &["hosts"]),
        ("an IP literal", Box::new(replace("[\"allowed.test\"]", "[\"192.0.2.1\"]")), &["192.0.2.1"]),
        ("lgwan.jp", Box::new(replace("[\"allowed.test\"]", "[\"asp.lgwan.jp\"]")), &["lgwan.jp"]),
        (
            "a host with a port",
            Box::new(replace("[\"allowed.test\"]", "[\"allowed.test:443\"]")),
            &["allowed.test:443"],
        ),
        (
            "the same pattern twice",
            Box::new(append("[[service]]\nname = \"b\"\nhosts = [\"allowed.test\"]")),
            &["allowed.test"],
        ),
        ("port 0", Box::new(replace("ports = [443]", "ports = [0]")), &["ports"]),
        (
            "steering",
            Box::new(replace("mode = \"explicit\"", "mode = \"explicit\"\nsteering = \"redirect\"")),
            &["steering"],
        ),
        (
            "plain_http and inspect",
            Box::new(replace("ports = [443]", "plain_http = true\nmode = \"inspect\"")),
            &["plain_http"],
        ),
        (
            "plain_http and a header",
            Box::new(replace("ports = [443]", "plain_http = true\n[[service.header]]\nname = \"X-A\"\nvalue = \"b\"")),
            &["plain_http"],
        ),
        (
            "a header without inspection",
            Box::new(replace("ports = [443]", "[[service.header]]\nname = \"X-A\"\nvalue = \"b\"")),
            &["header"],
        ),
        (
            "G10 CRLF in a value",
            Box::new(replace(
                "ports = [443]",
                "mode = \"inspect\"\n[[service.header]]\nname = \"X-A\"\nvalue = \"b\\r\\nX: y\"",
            )),
            &["value"],
        ),
        (
            "G10 non-ASCII in a value",
            Box::new(replace(
                "ports = [443]",
                "mode = \"inspect\"\n[[service.header]]\nname = \"X-A\"\nvalue = \"市\"",
            )),
            &["value"],
        ),
        (
            "G10 a name that is none",
            Box::new(replace("ports = [443]", "mode = \"inspect\"\n[[service.header]]\nname = \"X A\"\nvalue = \"b\"")),
            &["name"],
        ),
        (
            "a framing header",
            Box::new(replace(
                "ports = [443]",
                "mode = \"inspect\"\n[[service.header]]\nname = \"Content-Length\"\nvalue = \"5\"",
            )),
            &["Content-Length"],
        ),
        (
            "an unknown profile",
            Box::new(replace("ports = [443]", "mode = \"inspect\"\n[service.tenant]\nprofile = \"microsoft-v9\"")),
            &["microsoft-v9"],
        ),
        ("L06 a missing root file", Box::new(replace("\"origins.pem\"", "\"missing.pem\"")), &["missing.pem"]),
        ("L06 roots that are none", Box::new(replace("\"origins.pem\"", "\"sekisho.toml\"")), &["sekisho.toml"]),
        ("L06 a TLS version", Box::new(replace("connect_timeout", "min_tls = \"1.1\"\nconnect_timeout")), &["min_tls"]),
        (
            "a network that is none",
            Box::new(replace("\"127.0.0.0/8\", \"::1/128\"", "\"127.0.0.0/33\"")),
            &["127.0.0.0/33"],
        ),
        (
            "a network with host bits",
            Box::new(replace("\"127.0.0.0/8\", \"::1/128\"", "\"127.0.0.1/8\"")),
            &["127.0.0.1/8"],
        ),
        (
            "a listener that is none",
            Box::new(replace(
                "[[listener]]\nmode = \"explicit\"\naddress = \"",
                "[[listener]]\nmode = \"explicit\"\naddress = \"x",
            )),
            &["address"],
        ),
        (
            "a static answer that is none",
            Box::new(append("[resolver.hosts]\n\"a.test\" = [\"not an address\"]")),
            &["a.test"],
        ),
    ];
    for (row, edit, words) in rows {
        let said = refused(edit);
        assert!(words.iter().all(|word| said.contains(word)), "{row}: {said}");
        assert!(!said.contains("panicked"), "{row}: {said}");
    }
}

#[test]
fn an_unused_group_is_an_error() {
    let said = refused(|good| {
        good.replace("ports = [443]", "ports = [443]\nclients = [\"office\"]")
            + "\n[[clients]]\nname = \"unused\"\nnetworks = [\"10.0.0.0/8\"]\n"
    });
    assert!(said.contains("unused"), "{said}");
}

#[test]
fn three_mistakes_are_three_lines_at_once() {
    let said = refused(|good| {
        good.replace("drain = \"3s\"", "drain = \"3\"")
            .replace("ports = [443]", "ports = [0]")
            .replace("[\"allowed.test\"]", "[\"*.com\"]")
    });
    for word in ["drain", "ports", "*.com"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(said.matches("sekisho.toml:").count() >= 3, "{said}");
}

#[test]
fn l01_empty_lists_deny_and_warn() {
    let (dir, listeners, admin) = prepare(&Config::new());
    let good = base().render(&listeners, admin);
    for (from, to) in
        [("networks = [\"127.0.0.0/8\", \"::1/128\"]", "networks = []"), ("hosts = [\"allowed.test\"]", "hosts = []")]
    {
        assert!(good.contains(from));
        fs::write(dir.path().join("sekisho.toml"), good.replace(from, to)).expect("written");
        let out = run(dir.path(), &["explain", "--config", "sekisho.toml", "--client", "127.0.0.1", "allowed.test"]);
        assert_ne!(out.status.code(), Some(0), "{to}: never allowed: {}", text(&out.stdout));
    }
}

#[tokio::test]
async fn l03_l05_a_broken_reload_keeps_the_old_policy_whole() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let other = Origin::https(&["other.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).reaching(&other);
    let mut sekisho = Sekisho::start(&config).await;
    let wider = config.clone().tunnel("other.test", &other);
    let broken = [
        wider.render(&sekisho.listeners, sekisho.admin).replace("drain = ", "dran = "),
        wider.render(&sekisho.listeners, sekisho.admin).replace("[\"other.test\"]", "[\"other.test\", \"*\"]"),
        wider.render(&sekisho.listeners, sekisho.admin).replace("origins.pem", "gone.pem"),
        String::new(),
        "\u{0}".to_owned(),
    ];
    let before = sekisho.lifecycle("start", 1).await.text("sekisho.config_revision").to_owned();
    for text in broken {
        if text.is_empty() {
            // An empty file may be a valid configuration of nothing; then it has no listener, and that is a mistake.
            sekisho.replace_config("");
            sekisho.signal(rustix::process::Signal::HUP);
        } else {
            sekisho.reload_refused(&text).await;
        }
        Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await.bye().await;
        sekisho.next_connection().await.says("allowed", "").with("sekisho.config_revision", &before);
        sekisho.refused(&other.at("other.test"), 403, "not_allowlisted").await.with("sekisho.config_revision", &before);
    }
    other.untouched();
    fs::remove_file(sekisho.path("sekisho.toml")).expect("removed");
    sekisho.signal(rustix::process::Signal::HUP);
    sekisho.refused(&other.at("other.test"), 403, "not_allowlisted").await;
    sekisho.reload(&wider).await;
    Tls::named("other.test").over(sekisho.tunnel(&other.at("other.test")).await).await.bye().await;
    let record = sekisho.next_connection().await;
    assert_ne!(record.says("allowed", "").text("sekisho.config_revision"), before);
}

#[test]
fn l04_a_file_without_its_last_line_is_refused_where_one_is_promised() {
    let (dir, listeners, admin) = prepare(&Config::new());
    let config = base().set("site", "last_line", "\"# the end\"");
    let whole = config.clone().tail("# the end\n").render(&listeners, admin);
    fs::write(dir.path().join("sekisho.toml"), &whole).expect("written");
    assert_eq!(run(dir.path(), &["check", "--config", "sekisho.toml"]).status.code(), Some(0));
    fs::write(dir.path().join("sekisho.toml"), config.render(&listeners, admin)).expect("written");
    let out = run(dir.path(), &["check", "--config", "sekisho.toml"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stdout));
}

#[tokio::test]
async fn l07_reloads_under_load_give_no_wrong_verdict() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let one = Config::new().tunnel("allowed.test", &origin);
    let two = one.clone().service(Service::tunnel("more", &["more.test"], 443));
    let sekisho = Sekisho::start(&one).await;
    let at = origin.at("allowed.test");
    let texts = [
        one.render(&sekisho.listeners, sekisho.admin),
        two.render(&sekisho.listeners, sekisho.admin),
        "broken = [".to_owned(),
    ];
    let load = async {
        let mut attempts = 0;
        for _ in 0..60 {
            let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
            inside.send("ping").await;
            assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
            inside.bye().await;
            assert_eq!(sekisho.connect("denied.test:443").await.1.status, 403);
            attempts += 2;
        }
        attempts
    };
    let reloads = async {
        for turn in 0..60 {
            sekisho.replace_config(&texts[turn % 3]);
            sekisho.signal(rustix::process::Signal::HUP);
            if turn % 7 == 0 {
                sekisho.signal(rustix::process::Signal::USR1);
            }
            tokio::task::yield_now().await;
            let _ = sekisho.admin("/readyz").await;
        }
    };
    let (attempts, ()) = tokio::join!(load, reloads);
    let records = sekisho.terminals("connection", attempts).await;
    assert_eq!(records.iter().filter(|record| record.outcome() == "allowed").count(), 60);
    // More than 50 within a second are counted together.
    let refused = records.iter().filter(|record| record.reason() == "not_allowlisted");
    assert_eq!(refused.map(|record| record.count()).sum::<u64>(), 60);
    assert!(connect(sekisho.addr()).await.is_ok());
}

#[tokio::test]
async fn l08_a_withdrawn_rule_cuts_its_tunnels() {
    let gone = Origin::https(&["gone.test"]).echoing().start().await;
    let kept = Origin::https(&["kept.test"]).echoing().start().await;
    let config = Config::new().tunnel("kept.test", &kept);
    let mut sekisho = Sekisho::start(&config.clone().tunnel("gone.test", &gone)).await;
    let mut cut = Tls::named("gone.test").over(sekisho.tunnel(&gone.at("gone.test")).await).await;
    let mut stays = Tls::named("kept.test").over(sekisho.tunnel(&kept.at("kept.test")).await).await;
    sekisho.reload(&config).await;
    let _ = cut.rest().await;
    let record = sekisho.next_connection().await;
    assert_eq!(record.reason(), "policy_withdrawn");
    record.with("url.domain", "gone.test").with("sekisho.side", "sekisho");
    stays.send("ping").await;
    assert_eq!(stays.exactly(4).await.expect("an echo"), b"ping");
    sekisho.refused(&gone.at("gone.test"), 403, "not_allowlisted").await;
    stays.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn l08_a_tunnel_is_cut_where_its_service_is_now_inspected() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let base = Config::new().set("record", "path", APART);
    let config = base.clone().inspect("allowed.test", &origin);
    let other = Origin::https(&["other.test"]).start().await;
    let before = base.inspect("other.test", &other).tunnel("allowed.test", &origin);
    let mut sekisho = Sekisho::start_with(&before, apart).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    fs::remove_file(sekisho.path("ca.pem")).expect("removed");
    fs::remove_file(sekisho.path("ca.key")).expect("removed");
    sekisho.replace_config(&config.render(&sekisho.listeners, sekisho.admin));
    let made = run(sekisho.dir.path(), &["ca", "init", "--config", "sekisho.toml"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    sekisho.reload(&config).await;
    let _ = inside.rest().await;
    assert_eq!(sekisho.next_connection().await.reason(), "policy_withdrawn");
}

#[tokio::test]
async fn l08_a_withdrawn_inspected_service_answers_with_the_page() {
    let gone = Origin::https(&["gone.test"]).start().await;
    let kept = Origin::https(&["kept.test"]).start().await;
    let both = Config::new().inspect("kept.test", &kept).inspect("gone.test", &gone);
    let mut sekisho = Sekisho::start(&both).await;
    let at = gone.at("gone.test");
    let tls = Tls::named("gone.test").trusting(&sekisho.ca());
    let mut h1 = tls.over(sekisho.tunnel(&at).await).await;
    let mut h2 = super::support::h2c::H2::over(tls.clone().alpn(&["h2"]).over(sekisho.tunnel(&at).await).await).await;
    assert_eq!(h1.get(&at, "/").await.expect("an answer").status, 200);
    assert_eq!(h2.get(&format!("https://{at}/")).await.expect("an answer").status, 200);
    sekisho.reload(&Config::new().inspect("kept.test", &kept)).await;
    let answer = h1.get(&at, "/after").await.expect("a page");
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(!answer.values("proxy-status").is_empty());
    h1.closed().await;
    match h2.get(&format!("https://{at}/after")).await {
        Ok(answer) => assert_eq!(answer.status, 403),
        Err(error) => assert!(error.is_go_away(), "{error}"),
    }
    let _ = h2.ended().await;
    assert_eq!(gone.requests().len(), 2, "nothing more goes upstream");
    let records = sekisho.terminals("request", 3).await;
    assert!(records.iter().filter(|record| record.outcome() == "denied").count() >= 1, "{records:?}");
    for _ in 0..2 {
        assert_eq!(sekisho.next_connection().await.reason(), "policy_withdrawn");
    }
}
