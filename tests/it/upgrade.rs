//! Only scenes about a process that takes over from another belong here: what waits, what runs, what is recorded, and what fails.

mod memory;
mod row;
mod window;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::control::{ask, complained, said};
use super::support::client::{Tls, connect};
use super::support::record::Record;
use super::support::sekisho::{run, spawn, text};
use super::support::{Config, Origin, Sekisho, Service, until, within};

async fn echo() -> (Origin, Config) {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("control", "socket", "\"control.sock\"");
    (origin, config)
}

pub async fn gone(mut old: Child) {
    let status = until("the old process's end", || old.try_wait().expect("wait")).await;
    assert!(status.success(), "{status}");
}

/// Every attempt that was established has ended once, whichever process began it.
pub fn assert_each_ends_once(records: &[Record]) {
    let mut ends: HashMap<String, u32> = HashMap::new();
    for record in records.iter().filter(|record| record.is_terminal()) {
        *ends.entry(record.text("event.id").to_owned()).or_default() += 1;
    }
    assert!(ends.values().all(|times| *times == 1), "{ends:?}");
    for established in records.iter().filter(|record| record.action() == "established") {
        let id = established.text("event.id");
        assert_eq!(ends.get(id), Some(&1), "{established:?}");
    }
}

#[tokio::test]
async fn what_runs_and_what_waits_goes_on_in_the_new_process() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let tls = Tls::named("allowed.test");
    let mut inside = tls.over(sekisho.tunnel(&at).await).await;
    inside.send("before").await;
    assert_eq!(inside.exactly(6).await.expect("an echo"), b"before");
    let silent = sekisho.client().await;
    let mut half = sekisho.client().await;
    let head = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n");
    half.send(&head[..20]).await;
    let established = sekisho.tunnel(&at).await;

    let old = sekisho.take_over().await;
    inside.send("behind").await;
    assert_eq!(inside.exactly(6).await.expect("an echo"), b"behind");
    let (mut silent, mut half) = (silent, half);
    silent.send(&head).await;
    assert_eq!(silent.response("CONNECT").await.status, 200);
    half.send(&head[20..]).await;
    assert_eq!(half.response("CONNECT").await.status, 200);
    for wire in [silent, half, established, sekisho.tunnel(&at).await] {
        let mut inside = tls.over(wire).await;
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
        inside.bye().await;
    }
    gone(old).await;
    inside.send("alone").await;
    assert_eq!(inside.exactly(5).await.expect("an echo"), b"alone");
    inside.bye().await;
    let taken = sekisho.lifecycle("taken_over", 1).await;
    // The last one may have been accepted by the old process, while it still could.
    let came = |tunnels: u8| taken.text("message").contains(&format!("has ended: {tunnels} tunnels and "));
    assert!(came(4) || came(5), "{taken:?}");
    sekisho.terminals("connection", 5).await;
    sekisho.counted().await;
    let records = sekisho.records();
    assert_each_ends_once(&records);
    // But for what the kernel and the folder leave open.
    let told = records.iter().map(|record| record.text("sekisho.lifecycle"));
    let words: Vec<_> = told.filter(|word| !["", "unrestricted"].contains(word)).collect();
    assert_eq!(words, ["start", "control", "handed_over", "start", "taken_over"]);
    let start = records.iter().filter(|record| record.text("sekisho.lifecycle") == "start").nth(1).expect("a start");
    start.with("sekisho.previous_end", "clean");
    let first =
        records.iter().find(|record| record.is_terminal() && record.number("source.bytes") > 17).expect("the first");
    first.says("allowed", "");
}

/// The count. Bulk and small messages move, connections come, others are idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l07_twenty_upgrades_in_a_row_under_load_refuse_and_break_nothing() {
    const UPGRADES: usize = 20;
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let (at, addr) = (origin.at("allowed.test"), sekisho.addr());
    let tls = Tls::named("allowed.test");
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(tls.over(sekisho.tunnel(&at).await).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let came = Arc::new(AtomicU64::new(0));
    let mut load = Vec::new();
    for size in [1, 100, 70_000, 400_000] {
        let (over, mut inside) = (Arc::clone(&over), tls.over(sekisho.tunnel(&at).await).await);
        load.push(tokio::spawn(async move {
            let mut round = 0_u8;
            while !over.load(Ordering::Relaxed) {
                let sent: Vec<u8> = (0..size).map(|n: u32| round.wrapping_add((n % 251) as u8)).collect();
                inside.send(&sent).await;
                assert!(inside.exactly(sent.len()).await.expect("a whole echo") == sent, "round {round}");
                round = round.wrapping_add(1);
            }
            inside.bye().await;
        }));
    }
    for _ in 0..3 {
        let (over, came, at) = (Arc::clone(&over), Arc::clone(&came), at.clone());
        load.push(tokio::spawn(async move {
            let tls = Tls::named("allowed.test");
            while !over.load(Ordering::Relaxed) {
                let mut wire = connect(addr).await.expect("no connection is refused");
                wire.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
                assert_eq!(wire.response("CONNECT").await.status, 200);
                let mut inside = tls.over(wire).await;
                inside.send("ping").await;
                assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
                inside.bye().await;
                came.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let mut old = Vec::new();
    for _ in 0..UPGRADES {
        let before = came.load(Ordering::Relaxed);
        old.push(sekisho.take_over().await);
        until("connections that came since", || (came.load(Ordering::Relaxed) > before + 3).then_some(())).await;
    }
    over.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("nothing broke");
    }
    for mut inside in idle {
        inside.send("still").await;
        assert_eq!(inside.exactly(5).await.expect("an echo"), b"still");
        inside.bye().await;
    }
    for process in old {
        gone(process).await;
    }
    sekisho.lifecycle("taken_over", UPGRADES).await;
    let expected = 44 + came.load(Ordering::Relaxed);
    let ended = sekisho.terminals("connection", expected).await;
    assert_eq!(ended.len() as u64, expected);
    assert!(ended.iter().all(|record| record.outcome() == "allowed" && record.reason().is_empty()), "{ended:#?}");
    let records = sekisho.records();
    assert_each_ends_once(&records);
    // One writer at a time: the numbers go up by one from each process's first line to the next one's.
    let mut due = 1;
    for record in &records {
        let starts = record.text("sekisho.lifecycle") == "start";
        assert_eq!(record.number("event.sequence"), if starts { 1 } else { due }, "{record:?}");
        due = record.number("event.sequence") + 1;
    }
    let ends = records.iter().filter(|record| record.has("sekisho.previous_end"));
    assert!(ends.map(|record| record.text("sekisho.previous_end")).eq(["none"].into_iter().chain(["clean"; UPGRADES])));
}

#[tokio::test]
async fn an_inspected_connection_finishes_its_request_in_the_old_process_and_no_other() {
    let origin = Origin::https(&["allowed.test"]).alpn(&["http/1.1"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).set("control", "socket", "\"control.sock\"");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let tls = Tls::named("allowed.test").trusting(&sekisho.ca());
    let mut idle = tls.over(sekisho.tunnel(&at).await).await;
    assert_eq!(idle.get(&at, "/").await.expect("an answer").status, 200);
    let mut busy = tls.over(sekisho.tunnel(&at).await).await;
    busy.send(format!("POST /slow HTTP/1.1\r\nHost: {at}\r\nContent-Length: 4\r\n\r\nha")).await;
    within("the request under way", async {
        while sekisho.metrics().await["sekisho_attempts_in_progress{action=\"request\"}"] < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut old = sekisho.take_over().await;
    idle.closed().await;
    let mut new = tls.over(sekisho.tunnel(&at).await).await;
    assert_eq!(new.get(&at, "/").await.expect("an answer of the new process").status, 200);
    assert!(old.try_wait().expect("wait").is_none(), "a request is under way");
    busy.send("lf").await;
    assert_eq!(busy.response("POST").await.status, 200);
    busy.closed().await;
    gone(old).await;
    new.bye().await;
    let requests = sekisho.terminals("request", 3).await;
    assert!(requests.iter().all(|request| request.outcome() == "allowed"), "{requests:#?}");
    sekisho.terminals("connection", 3).await;
    sekisho.counted().await;
    assert_each_ends_once(&sekisho.records());
}

/// What another process says to the one that runs.
struct Other(UnixStream);

impl Other {
    fn asks(sekisho: &Sekisho) -> Self {
        let mut stream = UnixStream::connect(sekisho.path("control.sock")).expect("a control socket");
        stream.write_all(b"{\"v\":1,\"ask\":{\"do\":\"take_over\"}}\n").expect("written");
        let mut answer = Vec::new();
        let mut octet = [0];
        while !answer.ends_with(b"\n") {
            stream.read_exact(&mut octet).expect("an answer");
            answer.extend(octet);
        }
        assert!(text(&answer).contains("\"sockets\":"), "{}", text(&answer));
        Self(stream)
    }

    fn says(&mut self, word: &[u8]) {
        self.0.write_all(&u32::try_from(word.len()).expect("short").to_le_bytes()).expect("written");
        self.0.write_all(word).expect("written");
    }

    /// A message, without what comes with it.
    fn hears(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("a length");
        let mut word = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut word).expect("a message");
        word
    }
}

#[tokio::test]
async fn who_asks_for_the_place_and_does_not_come_to_serve_changes_nothing() {
    let (origin, config) = echo().await;
    let sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    for step in 0..4 {
        let mut other = Other::asks(&sekisho);
        assert_eq!(other.hears(), b"sockets");
        match step {
            0 => {}
            1 => other.says(b"something else"),
            2 => other.0.write_all(&u32::MAX.to_le_bytes()).expect("written"),
            _ => {
                other.says(b"record");
                assert_eq!(other.hears(), b"released");
            }
        }
        drop(other);
        sekisho.lifecycle("takeover_failed", step + 1).await;
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
        assert_eq!(sekisho.admin("/readyz").await.status, 200);
        let (_, refused) = sekisho.connect("denied.test:443").await;
        assert_eq!(refused.status, 403);
        sekisho.terminals("connection", step as u64 + 1).await;
    }
    inside.bye().await;
    sekisho.terminals("connection", 5).await;
    sekisho.conserved().await;
    let said = sekisho.records().into_iter().map(|record| record.text("message").to_owned()).collect::<Vec<_>>();
    assert!(
        said.iter().any(|message| message.contains("it said \"something else\" where something else is due")),
        "{said:#?}"
    );
}

#[tokio::test]
async fn who_asks_for_a_change_while_the_place_is_given_is_told_that_there_is_none() {
    let (origin, config) = echo().await;
    let sekisho = Sekisho::start(&config).await;
    // It keeps the old process there until its drain is over.
    let _inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let mut other = Other::asks(&sekisho);
    assert_eq!(other.hears(), b"sockets");
    other.says(b"record");
    assert_eq!(other.hears(), b"released");
    let mut asking = UnixStream::connect(sekisho.path("control.sock")).expect("a control socket");
    asking.write_all(b"{\"v\":1,\"ask\":{\"do\":\"rollback\"}}\n").expect("written");
    // Whoever comes later is answered later. No more of them: a process that is not ready after 5 s does not take over.
    for _ in 0..2 {
        said(&ask(&sekisho, &["status"]).await, 0);
    }
    other.says(b"ready");
    assert_eq!(other.hears(), b"go");
    let mut answer = String::new();
    asking.read_to_string(&mut answer).expect("an answer");
    let refused = "{\"v\":1,\"error\":{\"word\":\"busy\",\"message\":\"the service is stopping: nothing is changed any more\"}}\n";
    assert_eq!(answer, refused);
}

#[tokio::test]
async fn nobody_takes_over_while_something_is_on_trial_and_the_record_says_so() {
    let (_origin, config) = echo().await;
    let sekisho = Sekisho::start(&config).await;
    let new = config.clone().tail("# new\n").render(&sekisho.listeners, sekisho.admin);
    fs::write(sekisho.path("new.toml"), new).expect("written");
    said(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", "10m"]).await, 0);
    let [done, refused] =
        ["done", "refused"].map(|result| format!("sekisho_control_requests_total{{result=\"{result}\"}}"));
    let before = sekisho.metrics().await;
    let mut new = spawn(sekisho.dir.path(), &["--take-over"], &[], None);
    let status = until("its end", || new.try_wait().expect("wait")).await;
    assert_eq!(status.code(), Some(1));
    let said = sekisho.lifecycle("control_refused", 1).await;
    said.with("sekisho.control", "take_over");
    assert!(
        said.text("message").contains(": revision ") && said.text("message").contains(" is on trial until "),
        "{said:?}"
    );
    let granted = |record: &Record| {
        record.text("sekisho.lifecycle") == "control" && record.text("sekisho.control") == "take_over"
    };
    assert!(!sekisho.records().iter().any(granted));
    let after = sekisho.metrics().await;
    assert_eq!((after[&done], after[&refused]), (before[&done], before[&refused] + 1.0));
}

#[tokio::test]
async fn a_new_process_that_cannot_serve_says_why_and_the_old_one_goes_on() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let text = |config: Config| config.render(&sekisho.listeners, sekisho.admin);
    let (here, everywhere) = (sekisho.addr(), SocketAddr::from(([0, 0, 0, 0], sekisho.addr().port())));
    let own_port = format!(
        "cannot listen on {everywhere} while sekisho itself listens on {here}: restart it to change the address or mode of a port"
    );
    let rows = [
        (
            text(config.clone().set("record", "path", "\"nowhere/access.jsonl\"")),
            "nowhere/access.jsonl cannot be opened",
        ),
        (text(config.clone().set("site", "case", "\"none\"")), "site.case: found \"none\""),
        (text(config.clone().set("control", "socket", "\"other.sock\"")), "no service answers at"),
        (config.render(&[everywhere], sekisho.admin), &*own_port),
    ];
    for (broken, why) in rows {
        sekisho.replace_config(&broken);
        let mut new = spawn(sekisho.dir.path(), &["--take-over"], &[], None);
        let status = until("its end", || new.try_wait().expect("wait")).await;
        assert_eq!(status.code(), Some(1));
        until("what it says", || sekisho.stderr().contains(why).then_some(())).await;
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
        assert_eq!(sekisho.connect(&at).await.1.status, 200);
    }
    sekisho.replace_config(&config.render(&sekisho.listeners, sekisho.admin));
    let old = sekisho.take_over().await;
    gone(old).await;
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    inside.bye().await;
    sekisho.counted().await;
}

#[tokio::test]
async fn l08_what_the_new_configuration_does_not_permit_ends_in_the_new_process() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let other = Config::new().service(Service::tunnel("other.test", &["other.test"], 443));
    let other = other.set("control", "socket", "\"control.sock\"");
    sekisho.replace_config(&other.render(&sekisho.listeners, sekisho.admin));
    let old = sekisho.take_over().await;
    inside.closed().await;
    gone(old).await;
    sekisho.next_connection().await.says("allowed", "policy_withdrawn");
    sekisho.counted().await;
}

#[tokio::test]
async fn h03_limits_count_what_came_from_the_process_before() {
    let (origin, config) = echo().await;
    let config = config.set("limits.per_client", "connections", "2");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let tls = Tls::named("allowed.test");
    let (first, second) = (tls.over(sekisho.tunnel(&at).await).await, tls.over(sekisho.tunnel(&at).await).await);
    let old = sekisho.take_over().await;
    gone(old).await;
    sekisho.refused(&at, 429, "too_many_connections").await;
    first.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.tunnel(&at).await;
    second.bye().await;
}

/// One that goes no further than this is stopped, or was made to stand still.
#[tokio::test]
async fn l07_who_stands_still_with_the_record_keeps_it_from_nobody() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let mut other = Other::asks(&sekisho);
    assert_eq!(other.hears(), b"sockets");
    other.says(b"record");
    assert_eq!(other.hears(), b"released");
    // It is served meanwhile, and recorded behind.
    for _ in 0..3 {
        assert_eq!(sekisho.connect("denied.test:443").await.1.status, 403);
    }
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    assert_eq!(sekisho.admin("/readyz").await.status, 200);
    let failed = sekisho.lifecycle("takeover_failed", 1).await;
    let why = ", and this one goes on: it did not come as far as to serve: it stood still for too long";
    assert!(failed.text("message").ends_with(why), "{failed:?}");
    // What it says when it goes on is too late, which it is told.
    assert_eq!(other.hears(), b"kept");
    let mut end = Vec::new();
    other.0.read_to_end(&mut end).expect("closed");
    assert!(end.is_empty(), "{end:?}");
    assert_eq!(sekisho.connect("denied.test:443").await.1.status, 403);
    inside.bye().await;
    sekisho.terminals("connection", 5).await;
    sekisho.conserved().await;
    let records = sekisho.records();
    assert!(records.iter().map(|record| record.number("event.sequence")).eq(1..=records.len() as u64), "one run");
    // But for what the kernel and the folder leave open.
    let told = records.iter().map(|record| record.text("sekisho.lifecycle"));
    let words: Vec<_> = told.filter(|word| !["", "unrestricted"].contains(word)).collect();
    assert_eq!(words, ["start", "control", "handed_over", "reopen", "takeover_failed"]);
    // And the next one takes over.
    gone(sekisho.take_over().await).await;
}

/// What a process is to others: its open files, by proc(5).
fn sockets_of(pid: u32) -> Vec<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let targets = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
    targets
        .filter_map(|target| Some(target.to_str()?.to_owned()))
        .filter(|target| target.starts_with("socket:"))
        .collect()
}

/// A new process under strace, which ends with the scene, stopped or not.
struct Traced(Child);

impl Traced {
    /// As soon as there is one.
    fn process(&self) -> Option<Pid> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0.id())).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    async fn end(&mut self) -> std::process::ExitStatus {
        until("its end", || self.0.try_wait().expect("wait")).await
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if let Some(process) = self.process() {
            let _ = kill_process(process, Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A new process that strace does this to; nothing where there is none.
fn traced(sekisho: &Sekisho, what: &[&str]) -> Option<Traced> {
    let mut strace = std::process::Command::new("strace");
    strace.args(["-qqq", "-o", "strace.log"]).args(what);
    strace.arg(super::support::sekisho::binary()).args(["run", "--config", "sekisho.toml", "--take-over"]);
    let log = fs::File::options().append(true).open(sekisho.path("stderr.log")).expect("a log");
    let strace = strace.current_dir(sekisho.dir.path()).stdin(std::process::Stdio::null()).stderr(log).spawn();
    if strace.is_err() {
        crate::real_clients::stage::skipped("an upgrade that stands still", "no strace; tests/run installs it");
    }
    strace.ok().map(Traced)
}

/// The old process is killed when the new one has its sockets and nothing else yet.
#[tokio::test]
async fn l07_where_the_old_process_is_killed_half_way_the_new_one_serves() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    sekisho.tunnel(&at).await;
    // The first message with descriptors, by which it asks for the record, waits.
    let Some(mut strace) = traced(&sekisho, &["-e", "inject=sendmsg:delay_enter=4000000:when=1"]) else { return };
    let number = |pid: Pid| pid.as_raw_nonzero().get().unsigned_abs();
    let listening = sockets_of(number(sekisho.pid()));
    let new = until("the sockets in the new process", || {
        let shared = |pid: &Pid| sockets_of(number(*pid)).iter().filter(|socket| listening.contains(socket)).count();
        strace.process().filter(|pid| shared(pid) > 1)
    })
    .await;
    sekisho.kill().await;
    // It is served by the sockets that were never closed: who comes now waits.
    let mut waiting = sekisho.client().await;
    waiting.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(waiting.response("CONNECT").await.status, 200);
    let mut inside = Tls::named("allowed.test").over(waiting).await;
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    inside.bye().await;
    let ended = sekisho.lifecycle("taken_over", 1).await;
    let why =
        "has ended without a word, and what it had in hand is not in the record: 0 tunnels and 0 lines came from it.";
    assert!(ended.text("message").ends_with(why), "{ended:?}");
    sekisho.lifecycle("start", 2).await.with("sekisho.previous_end", "unclean");
    kill_process(new, Signal::TERM).expect("it is there");
    strace.end().await;
}

#[tokio::test]
async fn what_does_not_fit_the_new_process_stays_with_the_old_and_is_seen_and_cut_there() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config.set("timeouts", "drain", "\"60s\"")).await;
    let at = origin.at("allowed.test");
    let tls = Tls::named("allowed.test");
    let mut tunnels = Vec::new();
    for _ in 0..50 {
        tunnels.push(tls.over(sekisho.tunnel(&at).await).await);
    }
    let before = sekisho.pid();
    let mut old = sekisho.take_over_within(Some("ulimit -n 120")).await;
    let drained = |told: &serde_json::Value| told["draining"][0]["sessions"].as_u64();
    let stay = within("what stays", async {
        loop {
            let told = super::control::status(&sekisho).await;
            if let Some(stay) = drained(&told).filter(|stay| told["tunnels"].as_u64() == Some(50 - stay)) {
                break stay;
            }
        }
    })
    .await;
    assert!((1..50).contains(&stay), "{stay}");
    let told = super::control::status(&sekisho).await;
    assert_eq!(told["draining"][0]["pid"].as_u64(), Some(u64::from(old.id())));
    until_metric(&sekisho, "sekisho_draining_sessions", stay).await;
    for inside in &mut tunnels {
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    }
    let screen = text(&super::control::ask(&sekisho, &["status"]).await.stdout);
    let line = format!(
        "before      {stay} sessions of process {} (version {}), which is draining\n",
        old.id(),
        env!("CARGO_PKG_VERSION")
    );
    assert!(screen.contains(&line) || stay == 1, "{screen}");
    // All of them are listed, and one of the old process's is cut.
    let listed = super::control::sessions(&sekisho, &[]).await;
    assert_eq!(listed.len(), 50);
    let old_ones: Vec<_> = listed.iter().filter(|row| !row["process.pid"].is_null()).collect();
    assert_eq!(old_ones.len() as u64, stay);
    let id = old_ones[0]["event.id"].as_str().expect("an identifier");
    let cut = text(&super::control::ask(&sekisho, &["sessions", "cut", id]).await.stdout);
    assert_eq!(cut, format!("cut {id}: tunnel of 127.0.0.1 to {at}\n"));
    sekisho.next_connection().await.says("allowed", "cut_by_operator").with("event.id", id);
    let gone_one = super::control::ask(&sekisho, &["sessions", "cut", id]).await;
    assert_eq!(text(&gone_one.stderr), format!("sekisho: no session {id}: it has ended, or never was one\n"));
    // Stopped, it cannot be asked, and that is said.
    kill_process(before, Signal::STOP).expect("it is there");
    let silent = super::control::ask(&sekisho, &["sessions", "cut", id]).await;
    let pid = old.id();
    assert_eq!(
        text(&silent.stderr),
        format!(
            "sekisho: no session {id} here, and process {pid}, which drains, does not answer: it may have it; `kill {pid}` ends all that \
             it has\n"
        )
    );
    let listing = super::control::ask(&sekisho, &["sessions"]).await;
    assert_eq!(
        text(&listing.stderr),
        format!("process {pid} is draining and does not answer: what it has is not listed; `kill {pid}` ends it\n")
    );
    assert!(text(&listing.stdout).ends_with(&format!("{} sessions\n", 50 - stay)), "{}", text(&listing.stdout));
    kill_process(before, Signal::CONT).expect("it is there");
    assert!(old.try_wait().expect("wait").is_none(), "it has what stayed");
    for inside in tunnels {
        inside.bye().await;
    }
    gone(old).await;
    let taken = sekisho.lifecycle("taken_over", 1).await;
    let why =
        format!(" {stay} tunnels stayed with it to its end: there was no descriptor for them here (LimitNOFILE).");
    assert!(taken.text("message").ends_with(&why), "{taken:?}");
    let records = sekisho.terminals("connection", 50).await;
    let cut = records.iter().filter(|record| !record.reason().is_empty());
    assert!(cut.map(|record| record.reason()).eq(["cut_by_operator"]), "nothing else was ended");
    until_metric(&sekisho, "sekisho_draining_sessions", 0).await;
    within("nothing before it", async { while !super::control::status(&sekisho).await["draining"].is_null() {} }).await;
    assert_each_ends_once(&sekisho.records());
}

#[expect(clippy::cast_precision_loss, reason = "a few dozen")]
async fn until_metric(sekisho: &Sekisho, name: &str, value: u64) {
    within(name, async {
        while sekisho.metrics().await[name] != value as f64 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_command_starts_the_new_process_and_says_who_took_over() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let before = sekisho.pid().as_raw_nonzero();
    let same = run(sekisho.dir.path(), &["upgrade", "--if-changed"]);
    assert_eq!(text(&same.stdout), format!("process {before} runs this program already: nothing to upgrade\n"));
    // What it cannot do it says to whoever called, and in the service's log.
    let broken = config.clone().set("record", "path", "\"nowhere/access.jsonl\"");
    sekisho.replace_config(&broken.render(&sekisho.listeners, sekisho.admin));
    let failed = super::control::ask(&sekisho, &["upgrade"]).await;
    let why = "nowhere/access.jsonl cannot be opened: No such file or directory (os error 2)";
    let goes_on = format!(": process {before} goes on\n");
    let failed = text(&failed.stderr);
    assert!(failed.starts_with("sekisho: the new process ended with exit status: 1: the record "), "{failed}");
    assert!(failed.contains(why) && failed.ends_with(&goes_on), "{failed}");
    assert!(sekisho.stderr().contains(why));
    sekisho.replace_config(&config.render(&sekisho.listeners, sekisho.admin));
    // Through two pipes, which it must leave when it has ended.
    let done = within("its end, and that of its output", super::control::ask(&sekisho, &["upgrade"])).await;
    assert_eq!((done.status.code(), text(&done.stderr).as_str()), (Some(0), ""));
    let said = text(&done.stdout);
    let line = said.lines().find(|line| line.contains("has taken over")).expect("a line");
    let new: i32 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a process");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        line,
        format!(
            "process {new} (version {version}) has taken over from process {before} (version {version}), which ends as soon as its \
             connections have"
        )
    );
    // What the new one says goes where the old one said it, and no terminal reaches it.
    assert_eq!(sekisho.stderr().matches(" ready ").count(), 2, "{}", sekisho.stderr());
    let stat = fs::read_to_string(format!("/proc/{new}/stat")).expect("a process");
    let session = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(3)).expect("a session");
    assert_eq!(session, new.to_string());
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    inside.bye().await;
    assert!(sekisho.exit().await.success());
    sekisho.terminals("connection", 1).await;
    kill_process(Pid::from_raw(new).expect("a process"), Signal::TERM).expect("it is there");
    until("its last line", || {
        sekisho.records().last().filter(|record| record.text("sekisho.lifecycle") == "stop").map(drop)
    })
    .await;
}

/// The hierarchy by which a service manager knows its processes.
fn control_groups() -> Option<&'static Path> {
    let hierarchies = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].map(Path::new);
    hierarchies.into_iter().find(|folder| folder.join("cgroup.procs").exists())
}

#[tokio::test]
async fn a_process_of_a_unit_is_not_replaced_by_one_that_is_not() {
    let (_origin, config) = echo().await;
    let sekisho = Sekisho::start(&config).await;
    let name = format!("sekisho-it-{}.service", std::process::id());
    let Some(unit) = control_groups().map(|folder| folder.join(&name)).filter(|unit| fs::create_dir(unit).is_ok())
    else {
        crate::real_clients::stage::skipped("a unit's process", "no control group can be made here");
        return;
    };
    let pid = sekisho.pid().as_raw_nonzero().to_string();
    fs::write(unit.join("cgroup.procs"), &pid).expect("moved");
    let refused = ask(&sekisho, &["upgrade"]).await;
    fs::write(unit.with_file_name("cgroup.procs"), &pid).expect("moved back");
    fs::remove_dir(&unit).expect("nothing is left in it");
    let why = format!(
        "sekisho: process {pid} is the service manager's, of the unit {name}, and what is started here would not be: it would be taken for \
         ended, and started again beside this; use `systemctl reload {name}`\n"
    );
    assert_eq!(complained(&refused, 1), why);
    assert_eq!(sekisho.admin("/readyz").await.status, 200);
}
