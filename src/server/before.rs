//! The process that was taken over from, while it drains: what it still has is asked of it, so that it can be listed and cut from here.
//!
//! It answers on a socket of the two alone, which comes with the record. A process in the middle of three asks the one before it in turn.

use std::os::unix::net;
use std::sync::Arc;
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

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked what it has.
const PAUSE: Duration = Duration::from_secs(1);

/// The process before this one.
pub(super) struct Before {
    pub(super) pid: u32,
    version: String,
    /// `None`: it did not answer in time, and what came now might be the answer to another question.
    line: Mutex<Option<BufReader<UnixStream>>>,
}

impl Before {
    /// # Errors
    /// The socket is none that can be waited for.
    pub(super) fn new(pid: u32, version: String, line: net::UnixStream) -> std::io::Result<Self> {
        line.set_nonblocking(true)?;
        let line = BufReader::new(UnixStream::from_std(line)?);
        Ok(Self { pid, version, line: Mutex::new(Some(line)) })
    }

    /// `None`: it does not answer.
    async fn ask<T: for<'d> Deserialize<'d>>(&self, ask: &Ask) -> Option<Result<T, Refusal>> {
        let mut line = self.line.lock().await;
        let asked = async {
            let stream = line.as_mut()?;
            stream.write_all(&request(ask)).await.ok()?;
            let mut answer = Vec::new();
            stream.take(MAX_ANSWER).read_until(b'\n', &mut answer).await.ok()?;
            read_answer(&answer)
        };
        let answer = timeout(PATIENCE, asked).await.ok().flatten();
        if answer.is_none() {
            *line = None;
        }
        answer
    }

    /// What it has, and those before it have.
    pub(super) async fn draining(&self) -> Vec<Draining> {
        let (pid, version) = (self.pid, self.version.clone());
        match self.ask::<Status>(&Ask::Status {}).await {
            Some(Ok(status)) => {
                let sessions = Some(status.tunnels + status.inspected + status.plain);
                [Draining { pid, version, sessions }].into_iter().chain(status.draining).collect()
            }
            Some(Err(_)) | None => vec![Draining { pid, version, sessions: None }],
        }
    }

    pub(super) async fn sessions(&self, asked: &Ask) -> Option<Page> {
        self.ask(asked).await.and_then(Result::ok)
    }

    /// `None`: it does not answer.
    pub(super) async fn cut(&self, id: &str) -> Option<Result<Done, Refusal>> {
        self.ask(&Ask::Cut { id: id.to_owned() }).await
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
