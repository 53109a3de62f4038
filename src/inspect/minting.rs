//! The way to the minting process: what is asked of it goes over one socket, one question at a time, from a thread of its own ([`Line`]).
//!
//! The process that serves clients has no issuing key (J07). It asks by name, and what it gets is a signed leaf for the public key it
//! gave when the configuration was taken up: no private key crosses, neither the CA's nor the leaf's. What may be asked for is for the
//! other end to say (`minter`), by a configuration it has read itself.
//!
//! Bounded: [`WAITING`] questions wait, each answer has a deadline, each message a size ([`question`](super::question)). Questions are answered in order, so
//! that there is nothing to match but a number; an answer that comes after its deadline is known by it and dropped.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::question::{Answer, MAX_ANSWER, Question};

/// Questions that wait for their turn; more are refused at once. A leaf takes some 100 µs, so this many are over in a tenth of a second.
const WAITING: usize = 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("the minting process has ended")]
    Ended,
    #[error("{WAITING} questions to the minting process wait already")]
    Busy,
    #[error("the minting process gave no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("the minting process answered what was not asked")]
    Garbled,
    #[error("the minting process cannot be asked: {0}")]
    Io(String),
}

/// A question with its deadline and the place for its answer.
struct Ask {
    question: Question,
    deadline: Instant,
    reply: oneshot::Sender<Result<Answer, LinkError>>,
}

/// Where questions are put. Shared by all who have some.
#[derive(Debug)]
pub struct Link {
    asks: SyncSender<Ask>,
}

/// The other side of a [`Link`]: the socket, and the questions for it.
#[derive(Debug)]
pub struct Line {
    socket: UnixStream,
    asked: Receiver<Ask>,
    /// Of the last question.
    number: u64,
}

/// A way to ask over `socket`, of type SOCK_SEQPACKET, once the line has started.
pub fn open(socket: UnixStream) -> (Link, Line) {
    let (asks, asked) = sync_channel(WAITING);
    (Link { asks }, Line { socket, asked, number: 0 })
}

impl Line {
    /// Asks from this thread, before there are others.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn ask(&mut self, question: &Question, limit: Duration) -> Result<Answer, LinkError> {
        self.exchange(question, Instant::now() + limit)
    }

    /// Starts the thread that asks. It ends with the last who could, or with the socket.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(self) -> io::Result<()> {
        thread::Builder::new().name("minting".to_owned()).spawn(move || self.carry()).map(drop)
    }

    /// Puts one question after the other, and leaves those alone that nobody waits for any more. After an answer that makes no sense, or
    /// the socket's end, nothing is asked again: who would ask is told that the process has ended, which this end of the socket makes
    /// sure of.
    fn carry(mut self) {
        while let Ok(Ask { question, deadline, reply }) = self.asked.recv() {
            if reply.is_closed() {
                continue;
            }
            let answered = self.exchange(&question, deadline);
            let over = matches!(answered, Err(LinkError::Ended | LinkError::Garbled | LinkError::Io(_)));
            let _ = reply.send(answered);
            if over {
                return;
            }
        }
    }

    fn exchange(&mut self, question: &Question, deadline: Instant) -> Result<Answer, LinkError> {
        self.number += 1;
        let limit = deadline.saturating_duration_since(Instant::now());
        // The question fits the socket's buffer, which is empty but for questions whose answers came too late.
        let sent = self.within(deadline).and_then(|()| self.socket.write(&question.encode(self.number)));
        sent.map_err(|error| failed(&error, limit))?;
        let mut buffer = vec![0; MAX_ANSWER + 1];
        loop {
            let octets = match self.within(deadline).and_then(|()| self.socket.read(&mut buffer)) {
                Ok(0) => return Err(LinkError::Ended),
                Ok(octets) => octets,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(&error, limit)),
            };
            match Answer::decode(&buffer[..octets]) {
                Some((answered, answer)) if answered == self.number => return Ok(answer),
                Some((answered, _)) if answered < self.number => {}
                Some(_) | None => return Err(LinkError::Garbled),
            }
        }
    }

    /// Lets the socket's calls take until `deadline`, and not less than a millisecond, as none at all would be for ever.
    fn within(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left))?;
        self.socket.set_write_timeout(Some(left))
    }
}

impl Link {
    /// Asks, and waits for the answer for `limit` at most.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn ask(&self, question: Question, limit: Duration) -> Result<Answer, LinkError> {
        let answer = self.put(question, limit)?;
        match timeout(limit, answer).await {
            Ok(answered) => answered.unwrap_or(Err(LinkError::Ended)),
            Err(_) => Err(LinkError::Late(limit)),
        }
    }

    fn put(
        &self,
        question: Question,
        limit: Duration,
    ) -> Result<oneshot::Receiver<Result<Answer, LinkError>>, LinkError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask { question, deadline: Instant::now() + limit, reply };
        match self.asks.try_send(ask) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(LinkError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(LinkError::Ended),
        }
    }
}

fn failed(error: &io::Error, limit: Duration) -> LinkError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => LinkError::Late(limit),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => LinkError::Ended,
        _ => LinkError::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
