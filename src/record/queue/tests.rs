//! Tests of the queue alone: what is full, what is counted, what is left.

use super::*;

fn line_of(reason: Reason) -> (Kind, Vec<u8>) {
    let fields = Fields {
        action: Some("connection"),
        outcome: Some(reason.outcome()),
        reason: Some(reason),
        ..Fields::default()
    };
    let mut body = Vec::new();
    fields.write_body(&mut body);
    (Kind::of(&fields), body)
}

fn fill(queue: &mut Queue) {
    let (kind, body) = line_of(Reason::NotAllowlisted);
    for _ in 0..CAPACITY {
        queue.push(kind, 1, &body);
    }
}

fn written(queue: &mut Queue) -> Vec<serde_json::Value> {
    let mut batch = Vec::new();
    queue.take(&mut batch);
    let text = String::from_utf8(batch).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn an_attempt_waits_exactly_from_the_capacity_on() {
    let mut queue = Queue::new();
    let (kind, body) = line_of(Reason::NotAllowlisted);
    for _ in 1..CAPACITY {
        queue.push(kind, 1, &body);
    }
    assert!(queue.admit(Action::Connection), "one below");
    queue.push(kind, 1, &body);
    assert!(!queue.admit(Action::Connection), "full");
    assert_eq!(queue.push(kind, 1, &body), Pushed::Queued, "a live attempt's record is always taken");

    let mut batch = Vec::new();
    queue.take(&mut batch);
    assert!(!queue.admit(Action::Connection), "in the writer's hand is not written");
    queue.wrote(2, batch.len());
    assert!(queue.admit(Action::Connection), "two written");
    assert_eq!(queue.snapshot().connections.started, 2);
}

#[test]
fn k01_long_lines_fill_the_queue_by_their_octets() {
    let mut queue = Queue::new();
    let (kind, _) = line_of(Reason::NotAllowlisted);
    queue.push(kind, 1, &vec![b'x'; CAPACITY_BYTES]);
    assert!(!queue.admit(Action::Request));
}

#[test]
fn k03_nobody_waits_for_a_file_that_cannot_be_written_and_counts_are_exact() {
    let mut queue = Queue::new();
    assert!(queue.fail("disk full"));
    assert!(!queue.fail("still full"));
    fill(&mut queue);
    assert!(queue.admit(Action::Connection), "full, but nobody waits");
    for (reason, times) in [(Reason::RecordUnavailable, 70_000), (Reason::NotAllowlisted, 3), (Reason::ClientClosed, 1)]
    {
        let (kind, body) = line_of(reason);
        for _ in 0..times {
            assert_eq!(queue.push(kind, 1, &body), Pushed::Aggregated);
        }
    }
    assert_eq!(queue.snapshot().aggregated, 70_004);
    assert_eq!(queue.snapshot().queue_length, CAPACITY);

    assert!(queue.recover().is_some());
    assert!(queue.recover().is_none(), "once");
    let lines = written(&mut queue);
    let tail = &lines[CAPACITY..];
    let counted: Vec<_> =
        tail.iter().map(|line| (line["event.reason"].as_str(), line["sekisho.count"].as_u64())).collect();
    let expected = [
        (Some("not_allowlisted"), Some(3)),
        (Some("record_unavailable"), Some(70_000)),
        (Some("client_closed"), Some(1)),
        (None, None),
    ];
    assert_eq!(counted, expected);
    let last = tail.last().expect("a line");
    assert_eq!(last["sekisho.lifecycle"], "record_recovered");
    assert!(
        last["message"].as_str().is_some_and(|text| text.contains("still full") && text.contains("70004 events")),
        "{last}"
    );
    let numbers: Vec<_> = lines.iter().filter_map(|line| line["event.sequence"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
}

#[test]
fn what_comes_late_or_is_given_up_is_counted() {
    let mut queue = Queue::new();
    let (kind, body) = line_of(Reason::ClientClosed);
    queue.push(kind, 1, &body);
    queue.push(kind, 1, &body);
    queue.take(&mut Vec::new());
    queue.fail("dead");
    fill(&mut queue);
    queue.push(kind, 1, &body);
    queue.closing = Some(Closing { deadline: Instant::now(), stop: None });
    assert_eq!(queue.push(kind, 1, &body), Pushed::Late);
    assert!(queue.give_up() > 0);
    let snapshot = queue.snapshot();
    // fill() aggregates its last two, because two lines are in the writer's hand.
    assert_eq!((snapshot.lost, snapshot.queue_length), (CAPACITY as u64 + 4, 0));
}

/// What was counted while the file could not be written is laid when it can, and may be given up then.
#[test]
fn k03_a_line_of_many_that_is_given_up_is_lost_as_often_as_it_counts() {
    let mut queue = Queue::new();
    queue.fail("disk full");
    fill(&mut queue);
    let (kind, body) = line_of(Reason::RecordUnavailable);
    for _ in 0..70_000 {
        queue.push(kind, 1, &body);
    }
    assert_eq!(queue.unwritten(), CAPACITY as u64 + 70_000);
    queue.recover().expect("an outage");
    // What was kept, the line of the 70,000, and the one that says how long it was.
    assert_eq!((queue.snapshot().queue_length, queue.unwritten()), (CAPACITY + 2, CAPACITY as u64 + 70_001));
    queue.take(&mut Vec::new());
    queue.wrote(CAPACITY, 1);
    assert_eq!(queue.unwritten(), 70_001);
    assert_eq!(queue.give_up(), 70_001);
    assert_eq!((queue.snapshot().lost, queue.unwritten()), (70_001, 0));

    // One that is written is not lost.
    let mut queue = Queue::new();
    queue.push(kind, 5, &body);
    queue.push(kind, 3, &body);
    queue.take(&mut Vec::new());
    queue.wrote(1, 1);
    assert_eq!(queue.give_up(), 3);
}

#[test]
fn the_writer_is_woken_for_the_first_line_and_for_a_batch_only() {
    let mut queue = Queue::new();
    let (kind, body) = line_of(Reason::ClientClosed);
    assert!(queue.sleeps());
    queue.push(kind, 1, &body);
    assert!(queue.wakes());
    assert!(queue.lingers());
    for _ in 2..BATCH {
        queue.push(kind, 1, &body);
        assert!(!queue.wakes());
    }
    queue.push(kind, 1, &body);
    assert!(queue.wakes());
    assert!(!queue.lingers());
}

fn refused(client: &str) -> Fields {
    Fields {
        action: Some("connection"),
        outcome: Some(Outcome::Denied),
        reason: Some(Reason::RateLimited),
        source_ip: Some(client.parse().expect("an address")),
        ..Fields::default()
    }
}

/// Ends `times` attempts with `fields`; how many of them wait to be counted together.
fn end(queue: &mut Queue, fields: &Fields, established: bool, times: u64) -> usize {
    let mut body = Vec::new();
    fields.write_body(&mut body);
    let outcome = fields.outcome.expect("an outcome");
    let ended = Ended { action: Action::Connection, outcome, established };
    for _ in 0..times {
        queue.admit(Action::Connection);
    }
    (0..times).filter(|_| queue.end(ended, fields, &body) == Pushed::Aggregated).count()
}

fn counted(lines: &[serde_json::Value]) -> u64 {
    let terminal = lines.iter().filter(|line| line["event.outcome"].is_string());
    terminal.map(|line| line["sekisho.count"].as_u64().unwrap_or(1)).sum()
}

#[test]
fn h10_only_refusals_that_were_never_established_are_counted_together() {
    let mut queue = Queue::new();
    let refused = refused("10.0.0.1");
    let failed = Fields { outcome: Some(Outcome::Failed), ..refused.clone() };
    let allowed = Fields { outcome: Some(Outcome::Allowed), ..refused.clone() };
    assert_eq!(end(&mut queue, &failed, false, 200), 0);
    assert_eq!(end(&mut queue, &allowed, true, 200), 0);
    // A reload that takes a permission away ends every tunnel of a client at once.
    assert_eq!(end(&mut queue, &refused, true, 200), 0);
    assert_eq!(end(&mut queue, &refused, false, 200), 150);
    let mut lines = written(&mut queue);
    assert!(!queue.sleeps(), "what waits to be counted is work");
    queue.settle(Instant::now());
    lines.extend(written(&mut queue));
    assert_eq!((lines.len(), counted(&lines)), (200 * 3 + 50 + 1, 800));
    let snapshot = queue.snapshot();
    assert_eq!((snapshot.connections.denied, snapshot.aggregated), (400, 150));
    assert!(snapshot.connections.holds());
    assert!(queue.sleeps());
}

#[test]
fn h10_a_flood_is_counted_before_every_line_of_a_lifecycle_event() {
    let mut queue = Queue::new();
    assert_eq!(end(&mut queue, &refused("10.0.0.1"), false, 60), 10);
    let reload = lifecycle(Lifecycle::Reload, "again");
    let mut body = Vec::new();
    reload.write_body(&mut body);
    assert_eq!(queue.push(Kind::of(&reload), 1, &body), Pushed::Queued);
    let lines = written(&mut queue);
    assert_eq!(counted(&lines), 60);
    assert_eq!(lines[50]["sekisho.count"], 10);
    assert_eq!(lines[51]["sekisho.lifecycle"], "reload");
}

#[test]
fn h10_k03_a_flood_while_the_file_cannot_be_written_stays_exact() {
    let mut queue = Queue::new();
    queue.fail("disk full");
    fill(&mut queue);
    for n in 0..5 {
        end(&mut queue, &refused(&format!("10.0.0.{n}")), false, 1_000);
        queue.settle(Instant::now());
    }
    assert_eq!(queue.snapshot().aggregated, 5_000);
    assert!(queue.recover().is_some());
    let lines = written(&mut queue);
    assert_eq!(counted(&lines), CAPACITY as u64 + 5_000);
    assert_eq!(lines.len(), CAPACITY + 1 + 1, "one count, and how long it was");
    assert!(queue.snapshot().connections.holds());
}

#[test]
fn h10_a_flood_that_is_given_up_is_counted_as_lost() {
    let mut queue = Queue::new();
    assert_eq!(end(&mut queue, &refused("10.0.0.1"), false, 60), 10);
    assert_eq!(queue.give_up(), 60);
    assert_eq!(queue.snapshot().lost, 60);
    assert_eq!(queue.give_up(), 0, "once");
}
