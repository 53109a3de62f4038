//! Only scenes of the control socket belong here: who is answered, what is told, what is cut. Changes of the configuration are in
//! `changes`.

mod changes;
mod last_good;
mod socket;

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::support::client::Tls;
use super::support::sekisho::{binary, for_everybody, mode, text};
use super::support::{Config, Origin, Record, Sekisho, within};

pub(super) fn controlled() -> Config {
    Config::new().set("control", "socket", "\"control.sock\"")
}

/// `sekisho ARGUMENTS --config sekisho.toml` beside the service, to its end; not on a thread that serves the test's origins.
pub(super) async fn ask(sekisho: &Sekisho, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--config", "sekisho.toml"]).current_dir(sekisho.dir.path()).env("NO_COLOR", "1");
    output(command).await
}

pub(super) async fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic")
}

/// What it says on standard output, after which it must end with `code`.
#[track_caller]
pub(super) fn said(out: &Output, code: i32) -> String {
    assert_eq!(out.status.code(), Some(code), "{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

/// What it complains of, after which it must end with `code`.
#[track_caller]
pub(super) fn complained(out: &Output, code: i32) -> String {
    assert_eq!(out.status.code(), Some(code), "{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stderr)
}

pub(super) async fn status(sekisho: &Sekisho) -> Value {
    let out = ask(sekisho, &["status", "--json"]).await;
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&out.stderr)))
}

pub(super) async fn sessions(sekisho: &Sekisho, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["sessions", "--json"], arguments].concat();
    let out = ask(sekisho, &arguments).await;
    said(&out, 0).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The same, killed as it makes this system call, which is not made; `:when=2` after its name is the second one. False: there is no
/// strace, or it may not trace.
pub(super) async fn killed_at(sekisho: &Sekisho, call: &str, arguments: &[&str]) -> bool {
    let (name, when) = call.split_once(':').unwrap_or((call, "when=1"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qqq", "-o", "strace.log", "-e", &format!("inject={name}:signal=KILL:{when}")]);
    command.arg(binary()).args(arguments).args(["--config", "sekisho.toml"]);
    command.current_dir(sekisho.dir.path()).stdin(Stdio::null());
    let Ok(out) = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic") else { return false };
    let traced = std::fs::read_to_string(sekisho.path("strace.log")).unwrap_or_default();
    if traced.is_empty() {
        return false;
    }
    assert!(traced.contains("+++ killed by SIGKILL +++"), "{call}: {traced}{}{}", text(&out.stdout), text(&out.stderr));
    true
}

#[tokio::test]
async fn status_tells_what_runs() {
    let origin = Origin::https(&["one.test"]).echoing().start().await;
    let sekisho = Sekisho::start(&controlled().tunnel("one.test", &origin)).await;
    let tls = Tls::named("one.test");
    let mut inside = tls.over(sekisho.tunnel(&origin.at("one.test")).await).await;
    inside.send("ping").await;
    inside.exactly(4).await.expect("an echo");
    let told = status(&sekisho).await;
    let started = sekisho.lifecycle("start", 1).await;
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["pid"].as_i64(), Some(sekisho.pid().as_raw_nonzero().get().into()));
    assert_eq!(told["revision"], started.text("sekisho.config_revision"));
    assert_eq!(told["file"], sekisho.path("sekisho.toml").display().to_string());
    assert_eq!((told["ready"].as_bool(), &told["readiness"]), (Some(true), &serde_json::json!(["ok"])));
    assert_eq!(
        (told["tunnels"].as_u64(), told["inspected"].as_u64(), told["plain"].as_u64()),
        (Some(1), Some(0), Some(0))
    );
    assert!(told["connections"].as_u64() >= Some(1));
    assert_eq!(told["listeners"][0]["address"], sekisho.addr().to_string());
    assert_eq!((told["pressure"].as_str(), told["record"]["writable"].as_bool()), (Some("normal"), Some(true)));
    let screen = said(&ask(&sekisho, &["status"]).await, 0);
    for part in
        ["ready       ok", "1 tunnels, 0 inspected", started.text("sekisho.config_revision"), "taken up, 0 refused"]
    {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    let asked = sekisho.lifecycle("control", 2).await;
    asked.with("sekisho.control", "status").with("user.id", &rustix::process::geteuid().as_raw().to_string());
    assert!(asked.text("message").ends_with(": asked for the status") && asked.number("process.pid") > 1, "{asked:?}");
    let metrics = sekisho.metrics().await;
    assert_eq!(metrics["sekisho_control_requests_total{result=\"done\"}"], 2.0);
    assert_eq!(metrics["sekisho_sessions{mode=\"tunnel\"}"], 1.0);
    drop(inside);
}

#[tokio::test]
async fn sessions_are_listed_in_the_words_of_the_record_and_cut_one_by_one() {
    let tunnelled = Origin::https(&["one.test"]).echoing().start().await;
    let inspected = Origin::https(&["two.test"]).alpn(&["http/1.1"]).start().await;
    let config = controlled().tunnel("one.test", &tunnelled).inspect("two.test", &inspected);
    let mut sekisho = Sekisho::start(&config).await;
    let (one, two) = (tunnelled.at("one.test"), inspected.at("two.test"));
    let mut first = Tls::named("one.test").over(sekisho.tunnel(&one).await).await;
    let tunnel = super::support::until("the first one's record", || {
        sekisho.records().into_iter().find(|record| record.action() == "established")
    })
    .await;
    let mut second = Tls::named("one.test").over(sekisho.tunnel(&one).await).await;
    let mut third = Tls::named("two.test").trusting(&sekisho.ca()).over(sekisho.tunnel(&two).await).await;
    assert_eq!(third.get(&two, "/").await.expect("an answer").status, 200);
    for tunnel in [&mut first, &mut second] {
        tunnel.send("ping").await;
        tunnel.exactly(4).await.expect("an echo");
    }
    let established: Vec<Record> = super::support::until("three records", || {
        let records = sekisho.records().into_iter();
        let established: Vec<Record> = records.filter(|record| record.action() == "established").collect();
        (established.len() == 3).then_some(established)
    })
    .await;

    let all = sessions(&sekisho, &[]).await;
    let mut ids: Vec<&str> = all.iter().filter_map(|row| row["event.id"].as_str()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let mut recorded: Vec<&str> = established.iter().map(|record| record.text("event.id")).collect();
    ids.sort_unstable();
    recorded.sort_unstable();
    assert_eq!(ids, recorded);
    let row = |id: &str| all.iter().find(|row| row["event.id"] == *id).expect("listed");
    for record in &established {
        let row = row(record.text("event.id"));
        for key in
            ["source.ip", "sekisho.client", "sekisho.authority", "tls.client.server_name", "rule.name", "sekisho.mode"]
        {
            assert_eq!(row[key], record.text(key), "{key}");
        }
        assert_eq!(row["source.port"].as_u64(), Some(record.number("source.port")));
        if record.text("sekisho.mode") == "tunnel" {
            assert!(row["source.bytes"].as_u64() > Some(300), "its ClientHello is counted: {row}");
        }
    }
    for (arguments, count) in [
        (&["--client", "127.0.0.1"][..], 3),
        (&["--client", "127.0.0.0/8", "--service", "one.test"], 2),
        (&["--client", "office", "--service", "two.test"], 1),
        (&["--client", "10.0.0.0/8"], 0),
        (&["--service", "three.test"], 0),
    ] {
        assert_eq!(sessions(&sekisho, arguments).await.len(), count, "{arguments:?}");
    }
    assert!(said(&ask(&sekisho, &["sessions"]).await, 0).ends_with("3 sessions\n"));

    let inspect = established.iter().find(|record| record.text("sekisho.mode") == "inspect").expect("one");
    let cut = said(&ask(&sekisho, &["sessions", "cut", &tunnel.text("event.id").to_lowercase()]).await, 0);
    assert_eq!(cut, format!("cut {}: tunnel of 127.0.0.1 to {one}\n", tunnel.text("event.id")));
    let record = sekisho.next_connection().await;
    record.says("allowed", "cut_by_operator").with("event.id", tunnel.text("event.id")).with("sekisho.side", "sekisho");
    let _ = first.rest().await;
    said(&ask(&sekisho, &["sessions", "cut", inspect.text("event.id")]).await, 0);
    third.closed().await;
    let record = sekisho.next_connection().await;
    record.says("allowed", "cut_by_operator").with("event.id", inspect.text("event.id"));
    sekisho.next_request().await.says("allowed", "");
    let left = sessions(&sekisho, &[]).await;
    assert_eq!(left.len(), 1, "{left:?}");
    // The other tunnel goes on.
    second.send("pong").await;
    assert_eq!(second.exactly(4).await.expect("an echo"), b"pong");
    let gone = complained(&ask(&sekisho, &["sessions", "cut", tunnel.text("event.id")]).await, 1);
    let id = tunnel.text("event.id");
    assert_eq!(gone, format!("sekisho: no session {id}: it has ended, or never was one\n"));
    let none = complained(&ask(&sekisho, &["sessions", "cut", "all"]).await, 1);
    assert_eq!(none, "sekisho: \"all\" is no session's identifier, such as 7ZK3-0Q9M-V2XD-TB61\n");
    sekisho.lifecycle("control_refused", 2).await.with("sekisho.control", "cut");
    let lines: Vec<String> = sekisho
        .records()
        .iter()
        .filter(|record| record.text("sekisho.control") == "cut" && record.text("sekisho.lifecycle") == "control")
        .map(|record| record.text("message").to_owned())
        .collect();
    assert!(lines[0].ends_with(cut.trim_end()), "{lines:?}");
    second.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.conserved().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn m02_m07_a_role_is_what_the_kernel_says_and_every_request_is_recorded() {
    if !rustix::process::geteuid().is_root() {
        crate::real_clients::stage::skipped("roles", "it takes root");
        return;
    }
    let config = controlled().set("control", "viewers", "\"64001\"").set("control", "operators", "\"64002\"");
    let sekisho = Sekisho::start(&config).await;
    let copy = for_everybody(sekisho.dir.path());
    assert_eq!(mode(&sekisho.path("control.sock")), 0o666);
    let asking = |user: &str, group: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", group, "--clear-groups"]).arg(&copy).args(arguments);
        command.args(["--socket", "control.sock"]).current_dir(sekisho.dir.path());
        output(command)
    };
    let cut = ["sessions", "cut", "7ZK3-0Q9M-V2XD-TB61"];
    // A viewer looks, and changes nothing.
    said(&asking("64100", "64001", &["status"]).await, 0);
    let refused = complained(&asking("64100", "64001", &cut).await, 1);
    assert_eq!(refused, "sekisho: a viewer may not ask for cut: an operator may\n");
    for change in [&["rollback"][..], &["confirm"]] {
        let refused = complained(&asking("64100", "64001", change).await, 1);
        assert!(!refused.is_empty(), "{change:?}");
    }
    // An operator does, where there is something to be done.
    let none = complained(&asking("64101", "64002", &cut).await, 1);
    assert!(none.starts_with("sekisho: no session "), "{none}");
    let place = "{\"v\":1,\"ask\":{\"do\":\"take_over\"}}\n";
    for (user, group, whom) in [("64100", "64001", "a viewer"), ("64101", "64002", "an operator")] {
        let script = "socket(S,1,1,0); connect(S,pack('Sa*',1,'control.sock')) or die; syswrite S,$ARGV[0]; print <S>";
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", group, "--clear-groups", "perl", "-e", script, place]);
        command.current_dir(sekisho.dir.path());
        assert_eq!(
            said(&output(command).await, 0),
            format!(
                "{{\"v\":1,\"error\":{{\"word\":\"not_permitted\",\"message\":\"{whom} may not ask for take_over: root or the \
                 service's own user may\"}}}}\n"
            )
        );
    }
    // Who is neither is told nothing.
    let stranger = complained(&asking("64102", "64102", &["status"]).await, 1);
    assert_eq!(
        stranger,
        "sekisho: user 64102 is neither a viewer nor an operator: be root, or of the group [control] viewers or operators\n"
    );
    sekisho.lifecycle("control_refused", 6).await;
    let records = sekisho.records();
    let refused = records.iter().filter(|record| record.text("sekisho.lifecycle") == "control_refused");
    let by: Vec<(&str, &str)> =
        refused.map(|record| (record.text("user.id"), record.text("sekisho.control"))).collect();
    // A viewer's `confirm` asks for the status first, and ends there.
    assert_eq!(
        by,
        [
            ("64100", "cut"),
            ("64100", "rollback"),
            ("64101", "cut"),
            ("64100", "take_over"),
            ("64101", "take_over"),
            ("64102", "")
        ]
    );
    sekisho.lifecycle("control", 1).await.with("user.id", "64100").with("sekisho.control", "status");
    // Without groups the file itself keeps them out.
    sekisho.reload(&controlled()).await;
    assert_eq!(mode(&sekisho.path("control.sock")), 0o600);
    let closed = complained(&asking("64100", "64001", &["status"]).await, 1);
    assert!(closed.contains("control.sock may not be opened: Permission denied"), "{closed}");
}

/// It connects as often as it can, says nothing, and stays; never for longer than the scene may take.
const CROWD: &str = "use Fcntl; alarm 60; while (1) { for (my $n = 0; $n < 900; $n++) { my $s; socket($s, 1, 1, 0); \
                     fcntl($s, F_SETFL, O_NONBLOCK); connect($s, pack('Sa*', 1, 'control.sock')); push @held, $s } @held = () }";

struct Crowd(std::process::Child);

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How often the lines say that this user was refused.
fn recorded(sekisho: &Sekisho, user: &str) -> u64 {
    let lines = sekisho.records().into_iter().filter(|record| record.text("user.id") == user);
    let times = lines.map(|record| {
        let more = record.text("message").split(", and came ").nth(1).and_then(|rest| rest.split(' ').next());
        more.map_or(1, |more| more.parse().expect("a number"))
    });
    times.sum()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
async fn refusals(sekisho: &Sekisho) -> u64 {
    sekisho.metrics().await["sekisho_control_requests_total{result=\"refused\"}"] as u64
}

#[tokio::test]
async fn m07_who_only_connects_keeps_nobody_out() {
    if !rustix::process::geteuid().is_root() {
        crate::real_clients::stage::skipped("a crowd", "it takes root");
        return;
    }
    let config = controlled().set("control", "viewers", "\"64001\"").set("control", "operators", "\"64002\"");
    let sekisho = Sekisho::start(&config).await;
    let copy = for_everybody(sekisho.dir.path());
    // A stranger, and a viewer, who may ask and does not.
    for (user, group) in [("64102", "64102"), ("64100", "64001")] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", group, "--clear-groups", "perl", "-e", CROWD]);
        let crowd = command.current_dir(sekisho.dir.path()).stdin(Stdio::null()).spawn().expect("perl runs");
        let mut crowd = Crowd(crowd);
        let refused = || sekisho.records().iter().any(|record| record.text("user.id") == user);
        if group == "64102" {
            super::support::until("the first of them", || refused().then_some(())).await;
        }
        for _ in 0..5 {
            said(&ask(&sekisho, &["status"]).await, 0);
            let mut other = Command::new("setpriv");
            other.args(["--reuid", "64101", "--regid", "64002", "--clear-groups"]).arg(&copy);
            other.args(["status", "--socket", "control.sock"]).current_dir(sekisho.dir.path());
            said(&output(other).await, 0);
        }
        assert!(crowd.0.try_wait().expect("wait").is_none(), "it is there still");
        drop(crowd);
        if group == "64102" {
            // The last of them are counted though nobody comes any more.
            within("all of them in the record", async {
                while recorded(&sekisho, user) != refusals(&sekisho).await {}
            })
            .await;
        }
    }
}
