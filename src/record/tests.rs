//! Scenes of the whole record: real files, the real thread, and a reader that parses every line.
//!
//! Nothing here sleeps: a scene waits for the writer's progress. What would change the whole process (a limit, the umask, its
//! death) is played in a process of its own, see [`alone`].

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::*;
use crate::reason::{Outcome, Reason};

const WITHIN: Duration = Duration::from_secs(30);

fn settings(path: &Path) -> Settings {
    Settings { path: path.into(), when_unwritable: WhenUnwritable::Deny }
}

fn start(path: &Path) -> Recorder {
    Recorder::start(settings(path), Fields::default()).expect("a record")
}

/// A directory that goes when the scene ends, and the path of a record in it.
fn stage() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("access.jsonl");
    (dir, path)
}

fn read(path: &Path) -> Vec<Json> {
    let text = fs::read_to_string(path).expect("UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "the file ends in half a line");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn sequences(lines: &[Json]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["event.sequence"].as_u64()).collect()
}

fn assert_gap_free(lines: &[Json]) {
    assert!(sequences(lines).into_iter().eq(1..=lines.len() as u64), "{:?}", sequences(lines));
}

/// Terminal records of connections, by outcome and reason, with their counts.
fn ended(lines: &[Json]) -> HashMap<(String, Option<String>), u64> {
    let mut ended = HashMap::new();
    for line in lines.iter().filter(|line| line["event.action"] == "connection") {
        let word = |key: &str| line[key].as_str().map(str::to_owned);
        let key = (word("event.outcome").expect("an outcome"), word("event.reason"));
        *ended.entry(key).or_insert(0) += line["sekisho.count"].as_u64().unwrap_or(1);
    }
    ended
}

async fn refuse(recorder: &Recorder, reason: Reason) {
    recorder.begin(Action::Connection).await.finish(reason.outcome(), Some(reason));
}

/// Waits for the writer to bring about what `test` asks of the state.
async fn until(recorder: &Recorder, state: State) {
    recorder.inner.shared.until(|_| (recorder.state() == state).then_some(())).await;
}

/// Plays the calling test `name` in a process of its own. True in that process; false in the caller's, when it went well there.
fn alone(name: &str) -> bool {
    if std::env::var_os("SEKISHO_ALONE").is_some() {
        return true;
    }
    let output = again(name, &[("SEKISHO_ALONE", Path::new("1"))]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    false
}

fn again(name: &str, environment: &[(&str, &Path)]) -> Output {
    let (_, module) = module_path!().split_once("::").expect("a module in a crate");
    let mut command = Command::new(std::env::current_exe().expect("the test program"));
    command.args([&format!("{module}::{name}"), "--exact"]).envs(environment.iter().copied());
    command.output().expect("a process")
}

/// The largest file this process may write: the kernel then fails a write in the middle, as a full disk does.
fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).expect("a limit");
}

#[tokio::test]
async fn an_attempt_leaves_one_record_and_an_allowed_one_says_when_it_began() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    let mut attempt = recorder.begin(Action::Connection).await;
    attempt.fields.domain = Some("allowed.test".into());
    let id = attempt.id().to_string();
    attempt.established();
    recorder.flush().await;
    assert_eq!(read(&path).len(), 2, "established is in the file while the tunnel is open");
    assert_eq!(recorder.snapshot().connections.live, 1);
    attempt.fields.source_bytes = Some(10);
    attempt.finish(Outcome::Allowed, None);
    recorder.flush().await;

    let lines = read(&path);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["sekisho.lifecycle"], "start");
    assert_eq!(lines[0]["sekisho.previous_end"], "none");
    let [established, ended] = [&lines[1], &lines[2]];
    assert_eq!((&established["event.action"], &established["event.id"]), (&"established".into(), &id.as_str().into()));
    assert_eq!((&established["event.outcome"], &established["event.reason"]), (&Json::Null, &Json::Null));
    assert_eq!((&ended["event.action"], &ended["event.id"]), (&"connection".into(), &id.as_str().into()));
    assert_eq!((&ended["event.outcome"], &ended["event.reason"]), (&"allowed".into(), &Json::Null));
    assert_eq!((&ended["url.domain"], &ended["source.bytes"]), (&"allowed.test".into(), &10.into()));
    assert_eq!(ended["@timestamp"], established["@timestamp"], "an attempt's time is its beginning");
    assert!(ended["event.duration"].is_u64());
    assert!(recorder.snapshot().connections.holds());
}

#[tokio::test(start_paused = true)]
async fn o01_the_duration_is_monotonic_time() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    let attempt = recorder.begin(Action::Request).await;
    tokio::time::advance(Duration::from_millis(1500)).await;
    attempt.finish(Outcome::Allowed, None);
    recorder.flush().await;
    assert_eq!(read(&path)[1]["event.duration"], 1_500_000_000u64);
}

#[tokio::test]
async fn a_panic_an_abort_and_a_forgotten_conclusion_each_leave_a_record() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    drop(recorder.begin(Action::Connection).await);
    let in_panic = recorder.clone();
    let panicked = tokio::spawn(async move {
        let _attempt = in_panic.begin(Action::Connection).await;
        panic!("played");
    });
    assert!(panicked.await.is_err());
    let attempt = recorder.begin(Action::Connection).await;
    let aborted = tokio::spawn(async move {
        let _attempt = attempt;
        std::future::pending::<()>().await;
    });
    aborted.abort();
    assert!(aborted.await.is_err());
    recorder.flush().await;
    let expected = HashMap::from([(("failed".to_owned(), Some("internal_error".to_owned())), 3)]);
    assert_eq!(ended(&read(&path)), expected);
    assert!(recorder.snapshot().connections.holds());
}

#[tokio::test]
async fn k01_hostile_strings_stay_in_their_lines() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    let long = vec![b'\n'; 64 << 10];
    let hostile: [&[u8]; 10] = [
        b"a\r\n{\"event.sequence\":1}",
        b"\",\"event.outcome\":\"allowed",
        b"\\\",\"x\":\"",
        b"\x1b[2J\x1b]0;title\x07",
        b"\xff\xfe\x80",
        "gpj.\u{202e}exe".as_bytes(),
        "\u{2028}\u{2029}\u{85}".as_bytes(),
        b"\0\x7f",
        b"",
        &long,
    ];
    for bytes in hostile {
        let mut attempt = recorder.begin(Action::Connection).await;
        attempt.fields.authority = Some(bytes.into());
        attempt.fields.server_name = Some(bytes.into());
        attempt.fields.method = Some(bytes.into());
        attempt.fields.path = Some(bytes.into());
        attempt.fields.server_subject = Some(bytes.into());
        attempt.finish(Outcome::Denied, Some(Reason::MalformedName));
    }
    recorder.flush().await;
    let lines = read(&path);
    assert_eq!(lines.len(), 1 + hostile.len(), "line count = attempts");
    assert!(lines[1..].iter().all(|line| line["event.outcome"] == "denied"));
    assert!(
        fs::read(&path)
            .expect("a file")
            .split(|b| *b == b'\n')
            .all(|line| line.iter().all(|b| *b >= b' ' && *b != 0x7f))
    );
}

#[tokio::test]
async fn k06_no_secret_of_a_url_is_in_the_file() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    let mut attempt = recorder.begin(Action::Request).await;
    attempt.fields.authority = Some("http://user:canary@allowed.test/p?token=canary".into());
    attempt.fields.path = Some("/p?token=canary#canary".into());
    attempt.fields.headers_set = Some(["Restrict-Access-To-Tenants"].into_iter().collect());
    attempt.finish(Outcome::Allowed, None);
    recorder.flush().await;
    let text = fs::read_to_string(&path).expect("a file");
    assert!(text.contains("\"url.path\":\"/p\"") && !text.contains("canary"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k07_numbers_have_no_gap_and_h10_a_flood_waits() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    let flood: Vec<_> = (0..8)
        .map(|_| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                let mut longest = 0;
                for _ in 0..2_500 {
                    refuse(&recorder, Reason::NotAllowlisted).await;
                    longest = longest.max(recorder.snapshot().queue_length);
                }
                longest
            })
        })
        .collect();
    for task in flood {
        let longest = task.await.expect("no panic");
        assert!(longest <= queue::CAPACITY + 8, "{longest}");
    }
    recorder.shutdown(WITHIN).expect("all written");
    let lines = read(&path);
    assert_eq!(lines.len(), 1 + 20_000 + 1);
    assert_gap_free(&lines);
    let snapshot = recorder.snapshot();
    assert_eq!((snapshot.connections.denied, snapshot.lines_written, snapshot.lost), (20_000, 20_002, 0));
}

/// A client's refusal, as the spine leaves it.
async fn refuse_client(recorder: &Recorder, asked: &str) {
    let mut attempt = recorder.begin(Action::Connection).await;
    attempt.fields.source_ip = Some([10, 0, 0, 1].into());
    attempt.fields.authority = Some(asked.into());
    attempt.finish(Outcome::Denied, Some(Reason::NotAllowlisted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h10_a_flood_of_refusals_is_a_line_a_second_and_every_one_is_counted() {
    const ATTEMPTS: u64 = 40_000;
    let (dir, path) = stage();
    let recorder = start(&path);
    let flood: Vec<_> = (0..4)
        .map(|_| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                for n in 0..ATTEMPTS / 4 {
                    refuse_client(&recorder, &format!("h{n}.test:443")).await;
                }
            })
        })
        .collect();
    let old = dir.path().join("old");
    fs::rename(&path, &old).expect("renamed");
    recorder.reopen().await.expect("a new file");
    for task in flood {
        task.await.expect("no panic");
    }
    recorder.lifecycle(Lifecycle::Reload, Fields::default());
    recorder.shutdown(WITHIN).expect("all written");

    let (before, after) = (read(&old), read(&path));
    assert_eq!(before.last().expect("a line")["sekisho.lifecycle"], "continued");
    let lifecycle: Vec<_> = after.iter().filter_map(|line| line["sekisho.lifecycle"].as_str()).collect();
    assert_eq!(lifecycle, ["reopen", "reload", "stop"]);
    assert!(after[after.len() - 2..].iter().all(|line| line["event.action"] == "lifecycle"), "counted before them");
    let lines = [before, after].concat();
    assert_gap_free(&lines);
    let expected = HashMap::from([(("denied".to_owned(), Some("not_allowlisted".to_owned())), ATTEMPTS)]);
    assert_eq!(ended(&lines), expected);
    let snapshot = recorder.snapshot();
    assert!(snapshot.connections.holds());
    let whole = lines.iter().filter(|line| line["event.id"].is_string()).count() as u64;
    assert_eq!(whole + snapshot.aggregated, ATTEMPTS);
    let flood = lines.iter().max_by_key(|line| line["sekisho.count"].as_u64()).expect("a line");
    assert_eq!((&flood["source.ip"], &flood["event.id"]), (&"10.0.0.1".into(), &Json::Null));
    assert!(flood["sekisho.authorities"].as_array().is_some_and(|sample| sample.len() == 16), "{flood}");
}

#[tokio::test]
async fn h10_a_count_is_written_though_nothing_follows_it() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    for _ in 0..60 {
        refuse_client(&recorder, "denied.test:443").await;
    }
    recorder.inner.shared.until(|_| (ended(&read(&path)).values().sum::<u64>() == 60).then_some(())).await;
    let lines = read(&path);
    let count = lines.iter().find(|line| line["sekisho.count"].is_u64()).expect("a count");
    assert_eq!((&count["sekisho.authority"], &count["sekisho.authorities"]), (&"denied.test:443".into(), &Json::Null));
}

#[tokio::test]
async fn h10_an_established_attempt_has_a_line_of_its_own() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    for _ in 0..120 {
        let mut attempt = recorder.begin(Action::Connection).await;
        attempt.fields.source_ip = Some([10, 0, 0, 1].into());
        attempt.established();
        attempt.hand_over().finish(Outcome::Denied, Some(Reason::PolicyWithdrawn));
    }
    recorder.flush().await;
    let lines = read(&path);
    assert_eq!(lines.len(), 1 + 240);
    assert!(lines.iter().all(|line| line["sekisho.count"] == Json::Null));
}

#[tokio::test]
async fn begin_waits_while_the_queue_is_full_and_goes_on_when_it_is_not() {
    let shared = Shared::new(WhenUnwritable::Deny).expect("random bytes");
    let fields = Fields { action: Some("connection"), ..Fields::default() };
    for _ in 0..queue::CAPACITY {
        shared.push(&fields);
    }
    let mut waiting = Box::pin(shared.admit(Action::Connection));
    assert!(waiting.as_mut().now_or_never().is_none(), "full");
    assert_eq!(shared.snapshot().connections.started, 0);
    let mut batch = Vec::new();
    assert!(matches!(shared.next(&mut batch), shared::Task::Write));
    assert!(waiting.as_mut().now_or_never().is_none(), "taken, not written");
    shared.wrote_all(queue::CAPACITY);
    assert!(waiting.as_mut().now_or_never().is_some(), "written");

    for _ in 0..queue::CAPACITY {
        shared.push(&fields);
    }
    let mut waiting = Box::pin(shared.admit(Action::Connection));
    assert!(waiting.as_mut().now_or_never().is_none(), "full again");
    shared.wrote_part(0, 0, "disk full");
    assert!(waiting.as_mut().now_or_never().is_some(), "nobody waits for a full disk");
    assert_eq!(shared.state(), State::Unwritable(WhenUnwritable::Deny));
}

#[tokio::test]
async fn k03_a_full_disk_loses_nothing_and_heals_by_itself() {
    if !alone("k03_a_full_disk_loses_nothing_and_heals_by_itself") {
        return;
    }
    let _caught = signal(SignalKind::from_raw(25)).expect("SIGXFSZ is caught");
    for when_unwritable in [WhenUnwritable::Deny, WhenUnwritable::Continue] {
        let (_dir, path) = stage();
        let recorder =
            Recorder::start(Settings { path: path.clone(), when_unwritable }, Fields::default()).expect("a record");
        for _ in 0..10 {
            refuse(&recorder, Reason::NotAllowlisted).await;
        }
        recorder.flush().await;
        assert_eq!(recorder.state(), State::Writable);

        // A batch that fits by two lines and a half.
        let line = fs::read_to_string(&path).expect("a file").lines().last().expect("a line").len() as u64 + 1;
        limit_files(Some(fs::metadata(&path).expect("a file").len() + line * 5 / 2));
        for _ in 0..10 {
            refuse(&recorder, Reason::DnsFailed).await;
        }
        until(&recorder, State::Unwritable(when_unwritable)).await;
        assert_eq!(read(&path).len(), 1 + 10 + 2, "whole lines only");

        // More than the queue holds: begin() does not wait, and what has no room is counted.
        let flood = queue::CAPACITY as u64 + 500;
        for _ in 0..flood {
            refuse(&recorder, Reason::RecordUnavailable).await;
        }
        let snapshot = recorder.snapshot();
        assert_eq!(snapshot.queue_length, queue::CAPACITY);
        assert_eq!(snapshot.aggregated, flood + 10 - 2 - queue::CAPACITY as u64);
        assert!(snapshot.connections.holds());
        assert!(snapshot.unwritable > Duration::ZERO);

        limit_files(None);
        recorder.flush().await;
        assert_eq!(recorder.state(), State::Writable);
        let lines = read(&path);
        assert_gap_free(&lines);
        let expected =
            [("denied", "not_allowlisted", 10), ("failed", "dns_failed", 10), ("denied", "record_unavailable", flood)];
        let expected = expected.map(|(outcome, reason, count)| ((outcome.to_owned(), Some(reason.to_owned())), count));
        assert_eq!(ended(&lines), HashMap::from(expected));
        let last = lines.last().expect("a line");
        assert_eq!(last["sekisho.lifecycle"], "record_recovered");
        assert!(last["event.duration"].as_u64().is_some_and(|lasted| lasted > 0));
        recorder.shutdown(WITHIN).expect("all written");
        assert_eq!(recorder.snapshot().lost, 0);
    }
}

#[tokio::test]
async fn k03_the_end_does_not_wait_for_a_full_disk_and_says_what_it_cost() {
    if !alone("k03_the_end_does_not_wait_for_a_full_disk_and_says_what_it_cost") {
        return;
    }
    let _caught = signal(SignalKind::from_raw(25)).expect("SIGXFSZ is caught");
    let (_dir, path) = stage();
    let recorder = start(&path);
    recorder.flush().await;
    limit_files(Some(fs::metadata(&path).expect("a file").len()));
    for _ in 0..3 {
        refuse(&recorder, Reason::NotAllowlisted).await;
    }
    let error = recorder.shutdown(Duration::ZERO).expect_err("a full disk");
    assert!(matches!(error, RecordError::Lost { lost: 3 }), "{error}");
    assert_eq!(read(&path).len(), 1);
    limit_files(None);
    let next = start(&path);
    next.flush().await;
    let lines = read(&path);
    assert_eq!(
        (&lines[1]["sekisho.previous_end"], &lines[1]["sekisho.previous_sequence"]),
        (&"unclean".into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k05_a_thousand_rotations_under_load_lose_nothing() {
    const ROTATIONS: usize = 1_000;
    let (dir, path) = stage();
    let recorder = start(&path);
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..3)
        .map(|_| {
            let (recorder, stop) = (recorder.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    refuse(&recorder, Reason::NotAllowlisted).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for number in 0..ROTATIONS {
        fs::rename(&path, dir.path().join(number.to_string())).expect("renamed");
        recorder.reopen().await.expect("a new file");
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("no panic");
    }
    recorder.shutdown(WITHIN).expect("all written");

    let mut lines = Vec::new();
    for number in 0..ROTATIONS {
        let file = read(&dir.path().join(number.to_string()));
        let first = if number == 0 { "start" } else { "reopen" };
        assert_eq!(file.first().expect("a line")["sekisho.lifecycle"], first);
        assert_eq!(file.last().expect("a line")["sekisho.lifecycle"], "continued");
        lines.extend(file);
    }
    lines.extend(read(&path));
    assert_eq!(lines.last().expect("a line")["sekisho.lifecycle"], "stop");
    assert_gap_free(&lines);
    let attempts = recorder.snapshot().connections.started;
    assert!(attempts > 0);
    assert_eq!(ended(&lines).into_values().sum::<u64>(), attempts);
}

#[tokio::test]
async fn k05_half_a_line_is_cut_off_and_kept_as_text() {
    let (_dir, path) = stage();
    start(&path).shutdown(WITHIN).expect("all written");
    let whole = fs::read(&path).expect("a file");
    for torn in ["{", "{\"event.sequence\":3,\"event.id\":\"X\u{7f}", &"\0".repeat(70_000)] {
        fs::write(&path, [whole.as_slice(), torn.as_bytes()].concat()).expect("written");
        let recorder = start(&path);
        recorder.shutdown(WITHIN).expect("all written");
        let lines = read(&path);
        assert_eq!(lines.len(), 4);
        let told = &lines[2];
        assert_eq!((&told["sekisho.lifecycle"], &told["sekisho.previous_end"]), (&"start".into(), &"unclean".into()));
        assert_eq!((&told["sekisho.previous_sequence"], &told["sekisho.torn_bytes"]), (&2.into(), &torn.len().into()));
        assert!(told["sekisho.torn"].as_str().is_some_and(|text| torn.starts_with(text)), "{told}");
    }
    fs::write(&path, "{\"event.seq").expect("written");
    start(&path).shutdown(WITHIN).expect("all written");
    assert_eq!(read(&path)[0]["sekisho.torn"], "{\"event.seq");
}

#[tokio::test]
async fn k05_the_next_start_knows_a_killed_run_from_a_stopped_one() {
    const SCENE: &str = "k05_the_next_start_knows_a_killed_run_from_a_stopped_one";
    if let Some(path) = std::env::var_os("SEKISHO_KILLED") {
        let recorder = start(Path::new(&path));
        recorder.begin(Action::Connection).await.established();
        recorder.flush().await;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("killed");
    }
    let (_dir, path) = stage();
    assert_eq!(again(SCENE, &[("SEKISHO_KILLED", &path)]).status.signal(), Some(9));
    assert_eq!(read(&path).last().expect("a line")["event.action"], "connection");
    for (end, sequence) in [("unclean", 3), ("clean", 2)] {
        let recorder = start(&path);
        recorder.shutdown(WITHIN).expect("all written");
        let lines = read(&path);
        let told = &lines[lines.len() - 2];
        assert_eq!(
            (&told["sekisho.previous_end"], &told["sekisho.previous_sequence"]),
            (&end.into(), &sequence.into())
        );
    }
}

#[tokio::test]
async fn k05_a_removed_file_is_made_anew() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    recorder.flush().await;
    fs::remove_file(&path).expect("removed");
    refuse(&recorder, Reason::NotAllowlisted).await;
    recorder.flush().await;
    recorder.shutdown(WITHIN).expect("all written");
    let lines = read(&path);
    assert_eq!(sequences(&lines), [2, 3, 4]);
    assert_eq!(lines[1]["sekisho.lifecycle"], "reopen");
}

#[tokio::test]
async fn a_reload_moves_the_record_or_changes_nothing() {
    let (dir, path) = stage();
    let recorder = start(&path);
    let error = recorder.reconfigure(settings(&dir.path().join("no/such/directory"))).await.expect_err("no directory");
    assert!(matches!(error, RecordError::Open { .. }), "{error}");
    refuse(&recorder, Reason::NotAllowlisted).await;
    let moved = dir.path().join("moved.jsonl");
    let same = Settings { path: moved.clone(), when_unwritable: WhenUnwritable::Continue };
    recorder.reconfigure(same.clone()).await.expect("a new file");
    recorder.reconfigure(same).await.expect("the same file again");
    recorder.reopen().await.expect("nothing was renamed");
    refuse(&recorder, Reason::NotAllowlisted).await;
    recorder.shutdown(WITHIN).expect("all written");
    let words = |path: &Path| -> Vec<_> {
        let word =
            |line: &Json| line["sekisho.lifecycle"].as_str().or(line["event.action"].as_str()).map(str::to_owned);
        read(path).iter().filter_map(word).collect()
    };
    assert_eq!(words(&path), ["start", "connection", "continued"]);
    assert_eq!(words(&moved), ["reopen", "connection", "stop"]);
}

#[tokio::test]
async fn a_failed_reopen_is_said_in_the_old_file() {
    let (dir, path) = stage();
    let recorder = start(&path);
    let old = dir.path().join("old");
    fs::rename(&path, &old).expect("renamed");
    fs::create_dir(&path).expect("a directory in the way");
    let error = recorder.reopen().await.expect_err("a directory");
    recorder.flush().await;
    let lines = read(&old);
    assert_eq!(lines[1]["sekisho.lifecycle"], "reopen_failed");
    assert_eq!(lines[1]["message"], error.to_string());
}

#[tokio::test]
async fn after_the_end_nothing_waits_and_what_comes_is_counted_as_lost() {
    let (_dir, path) = stage();
    let recorder = start(&path);
    let attempt = recorder.begin(Action::Connection).await;
    recorder.shutdown(WITHIN).expect("all written");
    drop(attempt);
    drop(recorder.begin(Action::Request).await);
    recorder.flush().await;
    assert!(matches!(recorder.reopen().await, Err(RecordError::Closed)));
    assert!(matches!(recorder.shutdown(WITHIN), Err(RecordError::Lost { lost: 2 })));
    assert_eq!(read(&path).len(), 2);
    assert!(recorder.snapshot().connections.holds());
}

#[test]
fn what_is_not_a_record_is_refused_in_words() {
    let (dir, path) = stage();
    let text = dir.path().join("text");
    fs::write(&text, "-----BEGIN PRIVATE KEY-----").expect("written");
    let link = dir.path().join("link");
    symlink(&path, &link).expect("a link");
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("a FIFO");
    let _running = start(&path);
    let rows = [
        (text.as_path(), "does not begin like a record of sekisho"),
        (&link, "is a symbolic link; it must be an ordinary file"),
        (dir.path(), "is a directory; it must be an ordinary file"),
        (&fifo, "is a FIFO, socket or device; it must be an ordinary file"),
        (Path::new("/dev/null"), "is a FIFO, socket or device; it must be an ordinary file"),
        (&path, "is in use by another sekisho"),
        (Path::new("/proc/no/such"), "its directory must exist"),
    ];
    for (path, says) in rows {
        let Err(error) = Recorder::start(settings(path), Fields::default()) else {
            panic!("{} was taken", path.display())
        };
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
    assert_eq!(fs::read_to_string(&text).expect("a file"), "-----BEGIN PRIVATE KEY-----");
}

#[test]
fn the_file_is_0640_whatever_the_umask() {
    if !alone("the_file_is_0640_whatever_the_umask") {
        return;
    }
    for mask in [0o000, 0o022, 0o077] {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        let (_dir, path) = stage();
        let _recorder = start(&path);
        let mode = fs::metadata(&path).expect("a file").permissions().mode() & 0o7777;
        assert_eq!(mode, 0o640, "umask {mask:o}");
    }
    // One that was there keeps its own.
    let (_dir, path) = stage();
    fs::write(&path, "").expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
    let _recorder = start(&path);
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o7777, 0o600);
}
