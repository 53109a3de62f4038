//! The process that was taken over from, while it drains: what it still has is asked of it, so that it can be listed and cut from here.
//!
//! It answers on a socket of the two alone, which comes with the record. A process in the middle of three asks the one before it in turn,
//! for which whoever asks it has the patience. Of one that was silent once nothing is waited for until it has answered, so that those
//! behind it do not fall silent with it.

use std::os::unix::net;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::desk::Desk;
use crate::control::protocol::{
    Ask, Done, Draining, MAX_ANSWER, MAX_REQUEST, Page, Refusal, Status, read_answer, request,
};

/// For an answer, of it and of each process that it asks in turn; and at most, since whoever asks waits no longer than for that many.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_IN_TURN: u32 = 4;
/// How often it is asked what it has.
const PAUSE: Duration = Duration::from_secs(1);

/// The process before this one.
pub(super) struct Before {
    pub(super) pid: u32,
    version: String,
    line: Mutex<Line>,
    /// An answer is overdue: nobody but [`Before::draining`] waits for it any more.
    silent: AtomicBool,
    /// It, and those before it.
    in_turn: AtomicU32,
}

/// The way to it. One question is under way at most, so that there is always room for the next one.
struct Line {
    stream: BufReader<UnixStream>,
    /// What has come of the answer that is due.
    came: Vec<u8>,
    due: bool,
}

impl Line {
    /// The answer to the last question. May be given up at any time, and asked for again. `None`: there will be none.
    async fn answer(&mut self) -> Option<Vec<u8>> {
        let room = MAX_ANSWER.saturating_sub(self.came.len() as u64);
        (&mut self.stream).take(room).read_until(b'\n', &mut self.came).await.ok()?;
        let whole = self.came.ends_with(b"\n");
        self.due &= !whole;
        whole.then(|| std::mem::take(&mut self.came))
    }

    async fn ask(&mut self, ask: &Ask) -> Option<Vec<u8>> {
        if self.due {
            // Whoever asked for it waits no longer.
            self.answer().await?;
        }
        // There is room for the whole of it, or for none yet.
        self.stream.write_all(&request(ask)).await.ok()?;
        self.due = true;
        self.answer().await
    }
}

impl Before {
    /// # Errors
    /// The socket is none that can be waited for.
    pub(super) fn new(pid: u32, version: String, line: net::UnixStream) -> std::io::Result<Self> {
        line.set_nonblocking(true)?;
        let stream = BufReader::new(UnixStream::from_std(line)?);
        let line = Mutex::new(Line { stream, came: Vec::new(), due: false });
        Ok(Self { pid, version, line, silent: AtomicBool::new(false), in_turn: AtomicU32::new(1) })
    }

    /// `None`: it does not answer.
    async fn ask<T: for<'d> Deserialize<'d>>(&self, ask: &Ask) -> Option<Result<T, Refusal>> {
        let in_turn = self.in_turn.load(Ordering::Relaxed).min(MOST_IN_TURN);
        let asked = async { self.line.lock().await.ask(ask).await };
        let answer = timeout(PATIENCE * in_turn, asked).await.ok().flatten();
        self.silent.store(answer.is_none(), Ordering::Relaxed);
        read_answer(&answer?)
    }

    /// As [`Before::ask`], where it is known to answer.
    async fn ask_now<T: for<'d> Deserialize<'d>>(&self, ask: &Ask) -> Option<Result<T, Refusal>> {
        if self.silent.load(Ordering::Relaxed) { None } else { self.ask(ask).await }
    }

    /// What it has, and those before it have.
    pub(super) async fn draining(&self) -> Vec<Draining> {
        let (pid, version) = (self.pid, self.version.clone());
        match self.ask::<Status>(&Ask::Status {}).await {
            Some(Ok(status)) => {
                let before = u32::try_from(status.draining.len()).unwrap_or(MOST_IN_TURN);
                self.in_turn.store(before.saturating_add(1), Ordering::Relaxed);
                let sessions = Some(status.tunnels + status.inspected + status.plain);
                [Draining { pid, version, sessions }].into_iter().chain(status.draining).collect()
            }
            Some(Err(_)) | None => vec![Draining { pid, version, sessions: None }],
        }
    }

    pub(super) async fn sessions(&self, asked: &Ask) -> Option<Page> {
        self.ask_now(asked).await.and_then(Result::ok)
    }

    /// `None`: it does not answer.
    pub(super) async fn cut(&self, id: &str) -> Option<Result<Done, Refusal>> {
        self.ask_now(&Ask::Cut { id: id.to_owned() }).await
    }
}

/// Keeps what is told of the processes before this one, until there is none any more. Asked at each status it would be waited for in a row,
/// where one of several does not answer.
pub(super) async fn watch_draining(desk: Arc<Desk>) {
    while let Some(before) = desk.before.load_full() {
        let draining = before.draining().await;
        desk.views.health.set_draining(draining.iter().filter_map(|draining| draining.sessions).sum());
        desk.draining.store(Arc::new(draining));
        sleep(PAUSE).await;
    }
    desk.views.health.set_draining(0);
    desk.draining.store(Arc::default());
}

/// Answers the process that has taken over, until one of the two ends.
pub(super) async fn answer_successor(line: net::UnixStream, desk: Arc<Desk>) {
    let stream = line.set_nonblocking(true).and_then(|()| UnixStream::from_std(line));
    let mut stream = match stream {
        Ok(stream) => BufReader::new(stream),
        Err(error) => return tracing::error!(%error, "the process that took over cannot ask what is left here"),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut stream).take(MAX_REQUEST as u64).read_until(b'\n', &mut line).await;
        if read.is_err() || !line.ends_with(b"\n") {
            return;
        }
        if stream.write_all(&desk.answer_successor(&line).await).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::{Instant, pause, resume};

    use super::*;
    use crate::control::protocol::{answer, read_request};

    /// The other end, played.
    struct Drains(BufReader<UnixStream>);

    impl Drains {
        async fn is_asked(&mut self) -> Ask {
            let mut line = Vec::new();
            self.0.read_until(b'\n', &mut line).await.expect("a question");
            read_request(&line).expect("a question")
        }

        async fn says(&mut self, octets: &[u8]) {
            self.0.write_all(octets).await.expect("taken");
        }

        /// Is asked for the status, and says that it has `tunnels`.
        async fn tells(&mut self, tunnels: u64, before: &[Draining]) {
            assert_eq!(self.is_asked().await, Ask::Status {});
            let status = json!({
                "version": "0", "pid": 1, "since": "", "revision": "", "revision_since": "", "file": "", "text_sha256": "", "ready": false,
                "readiness": [], "last_good": false, "listeners": [], "connections": 0, "tunnels": tunnels, "inspected": 0, "plain": 0,
                "draining": before, "pressure": "normal", "reloads": 0, "failed_reloads": 0,
                "record": {"path": "", "writable": true, "when_unwritable": "deny", "waiting": 0, "lost": 0},
            });
            self.says(&answer(Ok(status))).await;
        }
    }

    fn two() -> (Before, Drains) {
        let (near, far) = net::UnixStream::pair().expect("sockets");
        far.set_nonblocking(true).expect("set");
        let far = UnixStream::from_std(far).expect("a socket");
        (Before::new(7, "0".to_owned(), near).expect("a socket"), Drains(BufReader::new(far)))
    }

    /// For how many seconds a process is waited for that does not answer.
    async fn waits(before: &Before) -> u64 {
        pause();
        let asked = Instant::now();
        assert!(before.cut("ID").await.is_none());
        let waited = asked.elapsed().as_secs();
        resume();
        waited
    }

    fn says(pid: u32, sessions: Option<u64>) -> Draining {
        Draining { pid, version: "0".to_owned(), sessions }
    }

    #[tokio::test]
    async fn who_was_silent_is_waited_for_by_nobody_and_asked_again_when_it_has_answered() {
        let (before, mut drains) = two();
        let told = tokio::join!(before.draining(), drains.tells(3, &[])).0;
        assert_eq!(told, [says(7, Some(3))]);
        assert_eq!(waits(&before).await, 2);
        assert_eq!(waits(&before).await, 0, "nobody waits twice");
        pause();
        assert_eq!(before.draining().await, [says(7, None)]);
        resume();
        assert_eq!(drains.is_asked().await, Ask::Cut { id: "ID".to_owned() });
        let late = answer(Ok(Done { message: "cut".to_owned(), revision: "0".to_owned() }));
        // It comes in two parts, between which it is asked for.
        let (first, second) = late.split_at(9);
        drains.says(first).await;
        pause();
        assert_eq!(before.draining().await, [says(7, None)]);
        resume();
        drains.says(second).await;
        // It was asked once, and its late answer is taken for none to another question.
        let told = tokio::join!(before.draining(), drains.tells(2, &[])).0;
        assert_eq!(told, [says(7, Some(2))]);
        let cut = async {
            assert_eq!(drains.is_asked().await, Ask::Cut { id: "OTHER".to_owned() });
            drains.says(&late).await;
        };
        assert_eq!(tokio::join!(before.cut("OTHER"), cut).0.expect("an answer").expect("done").message, "cut");
    }

    #[tokio::test]
    async fn who_asks_others_in_turn_is_waited_for_as_much_longer() {
        let (before, mut drains) = two();
        let behind = [says(6, Some(1)), says(5, None)];
        let told = tokio::join!(before.draining(), drains.tells(0, &behind)).0;
        assert_eq!(told, [says(7, Some(0)), says(6, Some(1)), says(5, None)]);
        assert_eq!(waits(&before).await, 6);
    }

    #[tokio::test]
    async fn who_has_ended_is_waited_for_by_nobody() {
        let (before, drains) = two();
        drop(drains);
        assert_eq!(before.draining().await, [says(7, None)]);
        assert_eq!(waits(&before).await, 0);
    }
}
