use std::sync::mpsc as blocking;
use std::time::SystemTime;

use tempfile::TempDir;

use super::*;
use crate::admit::Counted;
use crate::config::{self, Scope};
use crate::record::{Settings, Snapshot, WhenUnwritable};

/// A service without services, and nothing of it but what a probe needs.
struct Scene {
    gate: Arc<Gate>,
    directory: TempDir,
}

impl Scene {
    fn new(more: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("sekisho.toml");
        std::fs::write(&file, format!("[[listener]]\naddress = \"192.0.2.1:8080\"\n{more}")).expect("written");
        let config = config::load(&file, Scope::Full, SystemTime::now()).expect("loads");
        let record = Settings { path: directory.path().join("record.jsonl"), when_unwritable: WhenUnwritable::Deny };
        let recorder = Recorder::start(record, Fields::default()).expect("a record");
        Self { gate: Gate::new(Live::new(config, None), recorder), directory }
    }

    fn probe(&self, threads: &[Handle]) -> (Probe, Arc<Health>) {
        let health = Arc::new(Health::default());
        (Probe::new(&self.gate, threads.iter(), Arc::clone(&health)).expect("a probe"), health)
    }

    fn record(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("record.jsonl")).expect("a record")
    }

    fn snapshot(&self) -> Snapshot {
        self.gate.recorder().snapshot()
    }
}

/// A thread that serves, as `server` has them; it ends when the sender is dropped.
fn thread() -> (Handle, tokio::sync::oneshot::Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || runtime.block_on(stopped));
    (handle, stop)
}

fn only(probe: Probe) -> (Origin, Visitor) {
    let Probe { origin, mut visitors, .. } = probe;
    (origin, visitors.pop().expect("a visitor"))
}

/// The configuration has no client on loopback, one connection for all, one in a second, and a listener that is not this machine's.
#[tokio::test]
async fn a_visit_passes_whatever_the_configuration_and_leaves_no_record() {
    let scene = Scene::new(
        "[limits]\nconnections = 1\n[limits.per_client]\nnew_connections_per_second = 1\nburst = 1\n\
         [timeouts]\nclient_hello = \"1ms\"\nrequest_head = \"1ms\"\n[upstream]\nconnect_timeout = \"1ms\"\nbind = \"192.0.2.9\"\n",
    );
    let (probe, _) = scene.probe(&[Handle::current()]);
    let (origin, mut visitor) = only(probe);
    let _origin = JoinSet::from_iter([origin.serve()]);
    for _ in 0..5 {
        visitor.visit().await.expect("passes");
    }
    scene.gate.recorder().flush().await;
    let snapshot = scene.snapshot();
    assert_eq!((snapshot.connections.started, snapshot.requests.started, snapshot.lines_written), (0, 0, 1));
    assert!(!scene.record().contains("self-probe"), "{}", scene.record());
    assert_eq!(
        (scene.gate.connections(), scene.gate.limits().held(Counted::Connections)),
        (0, 0),
        "of the clients' slots it has none"
    );
}

#[tokio::test]
async fn without_its_origin_a_visit_fails_and_says_what_it_was_answered() {
    let scene = Scene::new("");
    let (probe, _) = scene.probe(&[Handle::current()]);
    let (origin, mut visitor) = only(probe);
    drop(origin);
    let failure = visitor.visit().await.expect_err("nobody is there");
    assert!(matches!(&failure, Failure::Verdict { answered, .. } if answered.contains("connect_failed")), "{failure}");
}

#[tokio::test]
async fn o04_a_stopped_thread_is_found_and_given_no_more_and_passes_when_it_goes_on() {
    let scene = Scene::new("");
    let (stopped, _end) = thread();
    let (running, _end_too) = thread();
    let (probe, _) = scene.probe(&[running, stopped.clone()]);
    let Probe { origin, mut visitors, .. } = probe;
    let _origin = JoinSet::from_iter([origin.serve()]);
    for visitor in &mut visitors {
        visitor.visit().await.expect("passes");
    }
    let (go_on, told) = blocking::channel::<()>();
    let (blocked, is_blocked) = tokio::sync::oneshot::channel();
    stopped.spawn(async move {
        let _ = blocked.send(());
        let _ = told.recv();
    });
    is_blocked.await.expect("it stands");
    let [one, other] = visitors.as_mut_slice() else { panic!("two") };
    other.hurry(Duration::from_millis(100));
    assert!(matches!(other.visit().await, Err(Failure::Late(_))));
    for _ in 0..3 {
        assert!(matches!(other.visit().await, Err(Failure::Stuck)));
        one.visit().await.expect("the other thread goes on");
    }
    other.hurry(DEADLINE);
    drop(go_on);
    loop {
        match other.visit().await {
            Ok(()) => break,
            Err(Failure::Stuck) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_stranger_at_the_origin_gets_a_handshake_or_nothing() {
    let (origin, known) = Origin::open().expect("an origin");
    let port = known.port;
    let _origin = JoinSet::from_iter([origin.serve()]);
    #[expect(clippy::disallowed_methods, reason = "the test is the stranger")]
    let mut stranger = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("connected");
    tokio::io::AsyncWriteExt::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    let mut said = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stranger, &mut said).await;
    assert!(!String::from_utf8_lossy(&said).contains("self-probe"), "{said:?}");
}

#[test]
fn it_fails_at_the_third_in_a_row_on_one_thread_and_recovers_when_all_pass() {
    let (pass, fail) = (Ok(()), Err(()));
    let rows = [
        // thread, visit, what it changes, whether the watchdog is fed
        (0, fail, Turn::Same, false),
        (1, fail, Turn::Same, false),
        (0, fail, Turn::Same, false),
        (0, pass, Turn::Same, false),
        (1, pass, Turn::Same, true),
        (0, fail, Turn::Same, false),
        (0, fail, Turn::Same, false),
        (1, pass, Turn::Same, false),
        (0, fail, Turn::Fails, false),
        (0, fail, Turn::Same, false),
        (1, fail, Turn::Same, false),
        (0, pass, Turn::Same, false),
        (1, pass, Turn::Recovers, true),
        (1, fail, Turn::Same, false),
        (9, fail, Turn::Same, false),
    ];
    let mut tally = Tally::new(2);
    for (at, (thread, visited, turn, fed)) in rows.into_iter().enumerate() {
        assert_eq!((tally.note(thread, &visited), tally.all_passed()), (turn, fed), "row {at}");
    }
}
