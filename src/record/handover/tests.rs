//! Scenes of two processes, played by two recorders: real files, real sockets, no sleeping.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::Value as Json;
use tempfile::TempDir;

use super::*;
use crate::record::queue::{Closing, Queue};
use crate::record::{Ready, Settings, State, WhenUnwritable};

const WITHIN: Duration = Duration::from_secs(30);

fn start(dir: &TempDir) -> Result<Recorder, RecordError> {
    let settings = Settings { path: dir.path().join("access.jsonl"), when_unwritable: WhenUnwritable::Deny };
    Recorder::start(settings, Fields::default())
}

fn ready(dir: &TempDir, lent: OwnedFd) -> (Recorder, Ready) {
    let settings = Settings { path: dir.path().join("access.jsonl"), when_unwritable: WhenUnwritable::Deny };
    Recorder::ready_behind(settings, Fields::default(), lent).expect("a record")
}

fn read(dir: &TempDir) -> Vec<Json> {
    let path: &Path = &dir.path().join("access.jsonl");
    let text = fs::read_to_string(path).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What each line is: its number, its lifecycle word or its reason.
fn said(lines: &[Json]) -> Vec<(u64, &str)> {
    lines
        .iter()
        .map(|line| {
            let word = line["sekisho.lifecycle"].as_str().or(line["event.reason"].as_str());
            (line["event.sequence"].as_u64().expect("a number"), word.unwrap_or("established"))
        })
        .collect()
}

async fn refuse(recorder: &Recorder, reason: Reason) {
    recorder.begin(Action::Connection).await.finish(reason.outcome(), Some(reason));
}

/// Relays what comes from `from` to its end; how many lines that were.
async fn relay_all(recorder: &Recorder, from: UnixStream) -> u64 {
    let mut lines = 0;
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).expect("readable") > 0 {
        lines += u64::from(recorder.relay(&line).await.expect("a line") == Relay::Laid);
        line.clear();
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_has_one_writer_at_a_time_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let old = start(&dir).expect("a record");
    refuse(&old, Reason::NotAllowlisted).await;
    let mut tunnel = old.begin(Action::Connection).await;
    tunnel.established();
    assert!(matches!(start(&dir), Err(RecordError::InUse { .. })));
    let lent = old.release().await.expect("lent");
    refuse(&old, Reason::DnsFailed).await;
    let (new, ready) = ready(&dir, lent);
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    old.forward(ours).await.expect("a socket");
    assert!(matches!(start(&dir), Err(RecordError::InUse { .. })), "its lock is the new one's");
    ready.begin().expect("its file");
    refuse(&new, Reason::IpLiteral).await;
    tunnel.finish(Outcome::Allowed, Some(Reason::IdleTimeout));
    let ending = tokio::task::spawn_blocking({
        let old = old.clone();
        move || old.shutdown(WITHIN)
    });
    assert_eq!(relay_all(&new, theirs).await, 2, "no stop: the new one says that");
    ending.await.expect("no panic").expect("nothing lost");
    let counts = new.snapshot().connections;
    assert!(counts.holds());
    assert_eq!((counts.started, counts.allowed, counts.denied, counts.failed), (3, 1, 1, 1));
    assert!(new.reasons().contains(&(Reason::IdleTimeout, 1)));
    new.shutdown(WITHIN).expect("all written");

    let lines = read(&dir);
    let (before, after) = lines.split_at(4);
    assert_eq!(said(before), [(1, "start"), (2, "not_allowlisted"), (3, "established"), (4, "handed_over")]);
    assert_eq!(after[0]["sekisho.previous_end"], "clean");
    let mut words = said(after);
    assert_eq!((words[0], words[4]), ((1, "start"), (5, "stop")));
    assert!(words.iter().map(|(number, _)| *number).eq(1..=5), "{words:?}");
    words.sort_by_key(|(_, word)| *word);
    assert!(words.iter().map(|(_, word)| *word).eq(["dns_failed", "idle_timeout", "ip_literal", "start", "stop"]));
}

#[tokio::test]
async fn where_the_new_one_does_not_begin_the_old_one_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let old = start(&dir).expect("a record");
    let lent = old.release().await.expect("lent");
    refuse(&old, Reason::DnsFailed).await;
    // It has come as far as it can without the old one's word, and stands still there.
    let (new, ready) = ready(&dir, lent);
    old.reclaim().await;
    refuse(&old, Reason::IpLiteral).await;
    old.flush().await;
    assert!(matches!(start(&dir), Err(RecordError::InUse { .. })), "its lock is the old one's");
    old.shutdown(WITHIN).expect("all written");
    let words = [(1, "start"), (2, "handed_over"), (3, "dns_failed"), (4, "reopen"), (5, "ip_literal"), (6, "stop")];
    assert_eq!(said(&read(&dir)), words);
    // What stands still keeps the file from nobody, and when it goes on it does not write.
    let third = start(&dir).expect("nobody has it");
    third.flush().await;
    assert!(matches!(ready.begin(), Err(RecordError::InUse { .. })), "it is another's by now");
    drop(new);
    third.shutdown(WITHIN).expect("all written");
    let lines = read(&dir);
    assert_eq!(said(&lines[6..]), [(1, "start"), (2, "stop")]);
    assert_eq!(lines[6]["sekisho.previous_end"], "clean");
}

/// It stood still before it had looked at what it was lent, and the old one writes by now.
#[tokio::test]
async fn what_was_lent_and_taken_back_is_not_cut() {
    let dir = tempfile::tempdir().expect("a directory");
    let old = start(&dir).expect("a record");
    let lent = old.release().await.expect("lent");
    old.reclaim().await;
    old.flush().await;
    let path = dir.path().join("access.jsonl");
    let half = [fs::read(&path).expect("there"), b"{\"event.sequence\":4".to_vec()].concat();
    fs::write(&path, &half).expect("written");
    let settings = Settings { path: path.clone(), when_unwritable: WhenUnwritable::Deny };
    let taken = Recorder::ready_behind(settings, Fields::default(), lent);
    assert!(matches!(taken, Err(RecordError::InUse { .. })));
    assert_eq!(fs::read(&path).expect("there"), half);
}

#[tokio::test]
async fn where_the_new_one_ends_before_the_old_the_file_gets_what_is_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let old = start(&dir).expect("a record");
    let (new, ready) = ready(&dir, old.release().await.expect("lent"));
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    old.forward(ours).await.expect("a socket");
    ready.begin().expect("its file");
    // Killed: no stop, and nothing reads the socket.
    drop((new, theirs));
    refuse(&old, Reason::DnsFailed).await;
    old.flush().await;
    old.shutdown(WITHIN).expect("all written");
    let lines = read(&dir);
    let words: Vec<_> = said(&lines).into_iter().map(|(_, word)| word).collect();
    assert!(words.contains(&"dns_failed"), "{words:?}");
    assert_eq!(words.last(), Some(&"stop"));
}

#[tokio::test]
async fn what_is_no_line_of_a_record_is_not_laid() {
    let dir = tempfile::tempdir().expect("a directory");
    let recorder = start(&dir).expect("a record");
    let hostile: [&[u8]; 9] = [
        b"",
        b"\n",
        b"{}\n",
        b"{\"event.sequence\":1}\n",
        b"{\"event.sequence\":,\"event.action\":\"lifecycle\"}\n",
        b"{\"event.sequence\":1,\"event.action\":\"connection\"}\n",
        b"{\"event.sequence\":1,\"event.action\":\"another\"}\n",
        b"{\"event.sequence\":1,\"event.action\":\"lifecycle\"}",
        b"{\"event.sequence\":1,\"event.action\":\"lifecycle\"}\n{}\n",
    ];
    for line in hostile {
        assert_eq!(recorder.relay(line).await, Err(NotALine), "{}", line.escape_ascii());
        assert!(recorder.resume(line).await.is_err());
    }
    assert_eq!(recorder.snapshot().connections.started, 0);
    recorder.relay(b"{\"event.sequence\":9,\"event.action\":\"lifecycle\"}\n").await.expect("a line");
    recorder.shutdown(WITHIN).expect("all written");
    assert_eq!(read(&dir)[1], serde_json::json!({"event.sequence": 2, "event.action": "lifecycle"}));
}

#[tokio::test]
async fn an_attempt_goes_on_in_another_process_as_it_was() {
    let (old_dir, new_dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (old, new) = (start(&old_dir).expect("a record"), start(&new_dir).expect("a record"));
    let mut attempt = old.begin(Action::Connection).await;
    attempt.fields.source_ip = Some(Ipv4Addr::LOCALHOST.into());
    attempt.fields.mode = Some("tunnel");
    attempt.fields.upstream_verdict = Some("kept");
    attempt.fields.authority = Some("user:secret@allowed.test:443".into());
    attempt.fields.server_name = Some("x".repeat(2000).as_str().into());
    attempt.fields.server_not_after = Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    attempt.fields.would_refuse = Some(Reason::NotAllowlisted);
    attempt.established();
    let line = attempt.portable();
    let id = attempt.id();
    let mut resumed = new.resume(&line).await.expect("an attempt");
    attempt.handed_over();
    drop(attempt);
    assert_eq!(resumed.id(), id);
    let counts = (old.snapshot().connections, new.snapshot().connections);
    assert!(counts.0.holds() && counts.1.holds());
    assert_eq!((counts.0.handed_over, counts.0.live, counts.1.live), (1, 0, 1));
    resumed.conclude(Outcome::Allowed, None);
    drop(resumed);
    old.lifecycle(Lifecycle::Reload, Fields::default());
    for recorder in [old, new] {
        recorder.shutdown(WITHIN).expect("all written");
    }
    let (old, new) = (read(&old_dir), read(&new_dir));
    assert_eq!(said(&old), [(1, "start"), (2, "established"), (3, "reload"), (4, "stop")]);
    let (mut begun, mut ended) = (old[1].clone(), new[1].clone());
    assert_eq!((&begun["event.action"], &ended["event.action"]), (&"established".into(), &"connection".into()));
    assert!(ended["event.duration"].as_u64() >= begun["event.duration"].as_u64());
    assert_eq!(ended["event.outcome"], "allowed");
    for line in [&mut begun, &mut ended] {
        let line = line.as_object_mut().expect("an object");
        for key in ["event.sequence", "event.action", "event.duration", "event.outcome"] {
            line.remove(key);
        }
    }
    assert_eq!(begun, ended);
}

#[tokio::test]
async fn k05_what_a_killed_process_had_not_handed_on_is_told_to_be_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let old = start(&dir).expect("a record");
    let _lent = old.release().await.expect("lent");
    refuse(&old, Reason::DnsFailed).await;
    // Killed: nobody has taken over.
    let copy = fs::read(dir.path().join("access.jsonl")).expect("there");
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("access.jsonl"), copy).expect("written");
    start(&dir).expect("a record").shutdown(WITHIN).expect("all written");
    let lines = read(&dir);
    assert_eq!(said(&lines), [(1, "start"), (2, "handed_over"), (1, "start"), (2, "stop")]);
    assert_eq!(lines[2]["sekisho.previous_end"], "unclean");
}

#[tokio::test]
async fn a_record_that_is_elsewhere_by_now_is_not_the_one_that_is_lent() {
    let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let old = start(&dir).expect("a record");
    let (new, ready) = ready(&other, old.release().await.expect("lent"));
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    old.forward(ours).await.expect("a socket");
    ready.begin().expect("its file");
    drop(theirs);
    for recorder in [&old, &new] {
        recorder.shutdown(WITHIN).expect("all written");
    }
    assert_eq!(said(&read(&other)), [(1, "start"), (2, "stop")]);
    let words: Vec<_> = said(&read(&dir)).into_iter().map(|(_, word)| word.to_owned()).collect();
    // What the other end of the way does not take goes into its own file.
    assert_eq!(words, ["start", "handed_over", "stop", "record_recovered"]);
}

/// A line that stands for many does so wherever it comes to.
#[test]
fn k03_a_line_of_many_counts_as_many_in_an_outage_and_at_the_end() {
    let line = b"{\"event.sequence\":9,\"event.action\":\"connection\",\"event.outcome\":\"denied\",\
        \"event.reason\":\"not_allowlisted\",\"sekisho.count\":1000}\n";
    let relayed = Relayed::read(line).expect("a line");
    let mut queue = Queue::new();
    queue.fail("disk full");
    while queue.relay(&relayed) == Pushed::Queued {}
    assert_eq!(queue.relay(&relayed), Pushed::Aggregated);
    queue.recover().expect("an outage");
    let mut lines = Vec::new();
    queue.take(&mut lines);
    let lines = String::from_utf8(lines).expect("UTF-8");
    let lines = lines.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
    let denied = lines.filter(|line| line["event.outcome"] == "denied");
    let counted: u64 = denied.map(|line| line["sekisho.count"].as_u64().expect("a number")).sum();
    assert_eq!(counted, queue.snapshot().connections.denied);
    queue.closing = Some(Closing { deadline: std::time::Instant::now(), stop: None });
    assert_eq!(queue.relay(&relayed), Pushed::Late);
    assert_eq!(queue.snapshot().lost, 1000);
}

#[test]
fn k03_a_lifecycle_line_of_the_process_before_keeps_its_word_in_an_outage() {
    let line = |word: &str| {
        format!("{{\"event.sequence\":9,\"event.action\":\"lifecycle\",\"sekisho.lifecycle\":\"{word}\"}}\n")
    };
    let (reload, later) = (line("reload"), line("of_a_later_version"));
    let [reload, later] = [&reload, &later].map(|line| Relayed::read(line.as_bytes()).expect("a line"));
    let mut queue = Queue::new();
    queue.fail("disk full");
    while queue.relay(&reload) == Pushed::Queued {}
    for relayed in [&reload, &reload, &later] {
        assert_eq!(queue.relay(relayed), Pushed::Aggregated);
    }
    queue.recover().expect("an outage");
    let mut lines = Vec::new();
    queue.take(&mut lines);
    let lines: Vec<Json> = String::from_utf8(lines)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let counted: Vec<_> = lines.iter().filter(|line| line["sekisho.count"].is_u64()).collect();
    let told = counted.iter().map(|line| (line["sekisho.lifecycle"].as_str(), line["sekisho.count"].as_u64()));
    assert!(told.eq([(None, Some(1)), (Some("reload"), Some(3))]), "{counted:?}");
}

#[tokio::test]
async fn k05_a_record_that_cannot_be_completed_is_not_said_to_be_handed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let old = start(&dir).expect("a record");
    old.flush().await;
    fs::remove_dir_all(dir.path()).expect("removed");
    assert!(matches!(old.release().await, Err(RecordError::Unwritable)));
    refuse(&old, Reason::DnsFailed).await;
    fs::create_dir(dir.path()).expect("made");
    old.flush().await;
    old.shutdown(WITHIN).expect("all written");
    let words = [(2, "takeover_failed"), (3, "dns_failed"), (4, "reopen"), (5, "record_recovered"), (6, "stop")];
    assert_eq!(said(&read(&dir)), words);
}

/// Stopped, or behind a disk that hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_stands_still_gets_every_line_when_it_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let old = start(&dir).expect("a record");
    let (new, ready) = ready(&dir, old.release().await.expect("lent"));
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    old.forward(ours).await.expect("a socket");
    ready.begin().expect("its file");
    let mut failed = 0;
    // As many as the socket holds, and then until the old one waits no longer.
    while old.state() == State::Writable {
        refuse(&old, Reason::DnsFailed).await;
        failed += 1;
    }
    let ending = tokio::task::spawn_blocking({
        let old = old.clone();
        move || old.shutdown(WITHIN)
    });
    relay_all(&new, theirs).await;
    ending.await.expect("no panic").expect("nothing lost");
    assert_eq!((new.snapshot().connections.failed, old.snapshot().lost), (failed, 0));
    new.shutdown(WITHIN).expect("all written");
    assert!(said(&read(&dir)).iter().any(|(_, word)| *word == "record_recovered"));
}
