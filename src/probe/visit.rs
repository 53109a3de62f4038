//! One visit to one thread: a connection to it, the two requests, what must be answered, and how the attempts must have ended.
//!
//! The client runs on the main runtime and the connection is served on the thread, so that a thread that has stopped is seen from
//! outside. While what it was given last has not ended, it is given nothing more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use super::origin::{ALLOWED, ANSWER, Known};
use crate::addrs::{ClientAddr, ListenAddr};
use crate::connection::{Gate, serve};
use crate::reason::{Outcome, Reason};
use crate::record::{Ending, Witness};
use crate::sockets::{LoopbackPair, loopback_pair};

/// In no policy.
const REFUSED: &str = "refused.self-probe.invalid:443";
/// Longest answer that is read; ours are shorter.
const MAX_HEAD: usize = 4096;
/// Of an answer, in a failure.
const SHOWN: usize = 200;

/// How a visit went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("what it was given before has not ended")]
    Stuck,
    #[error("it took longer than {0:?}")]
    Late(Duration),
    #[error("a connection to it failed ({0})")]
    Io(#[from] io::Error),
    #[error("CONNECT {asked} was answered {answered:?}")]
    Verdict { asked: String, answered: String },
    #[error("the tunnel carried {0:?} back")]
    Relay(String),
    #[error("the connection's task ended badly ({0})")]
    Task(#[from] JoinError),
    #[error("its attempts ended as {found:?}, and as {due:?} they should have")]
    Endings { found: Vec<Ending>, due: Vec<Ending> },
}

/// Who visits one thread.
pub(super) struct Visitor {
    thread: Handle,
    gate: Arc<Gate>,
    witness: Witness,
    known: Arc<Known>,
    deadline: Duration,
    /// What the thread was given last.
    served: Option<JoinHandle<()>>,
}

impl Visitor {
    pub fn new(thread: Handle, gate: Arc<Gate>, witness: Witness, known: Arc<Known>, deadline: Duration) -> Self {
        Self { thread, gate, witness, known, deadline, served: None }
    }

    #[cfg(test)]
    pub fn hurry(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Visits once.
    ///
    /// # Errors
    /// [`Failure`], at the latest at the deadline.
    pub async fn visit(&mut self) -> Result<(), Failure> {
        if self.served.as_ref().is_some_and(|served| !served.is_finished()) {
            return Err(Failure::Stuck);
        }
        drop(self.witness.take());
        let limit = self.deadline;
        let visited = timeout(limit, self.requests()).await.unwrap_or(Err(Failure::Late(limit)));
        if let (Err(_), Some(served)) = (&visited, &self.served) {
            served.abort();
        }
        visited
    }

    async fn requests(&mut self) -> Result<(), Failure> {
        let recordable = self.gate.recordable();
        let LoopbackPair { mut client, accepted, from, to } = loopback_pair().await?;
        let (from, to) = (ClientAddr::new(from), ListenAddr::new(to));
        let present = self.gate.enter();
        let serving = async move {
            match TcpStream::from_std(accepted) {
                Ok(stream) => serve(present, stream, from, to).await,
                Err(error) => tracing::warn!(%error, "a connection of the self-probe could not be served"),
            }
        };
        let served = self.served.insert(self.thread.spawn(serving));
        // While the record cannot be written everybody is refused, and that is said elsewhere. It may begin or end meanwhile.
        let unrecordable = |answer: &str| {
            let reason = Reason::RecordUnavailable;
            refused(answer, 503, reason) && (recordable.is_err() || self.gate.recordable().is_err())
        };
        let mut due = Vec::new();
        let answer = ask(&mut client, REFUSED).await?;
        match () {
            () if unrecordable(&answer) => due.push(Ending::from(Reason::RecordUnavailable)),
            () if !refused(&answer, 403, Reason::NotAllowlisted) => return Err(verdict(REFUSED, &answer)),
            () => due.push(Ending::from(Reason::NotAllowlisted)),
        }
        let allowed = format!("{ALLOWED}:{}", self.known.port);
        let answer = ask(&mut client, &allowed).await?;
        match () {
            () if unrecordable(&answer) => due.push(Ending::from(Reason::RecordUnavailable)),
            () if !answer.starts_with("HTTP/1.1 200 ") => return Err(verdict(&allowed, &answer)),
            () => {
                carries(&mut client, &self.known.hello).await?;
                due.push(Ending { outcome: Outcome::Allowed, reason: None });
            }
        }
        client.shutdown().await?;
        served.await?;
        let found = self.witness.take();
        if found == due { Ok(()) } else { Err(Failure::Endings { found, due }) }
    }
}

/// Sends a CONNECT and reads the head of the answer, which has no content.
async fn ask(client: &mut TcpStream, authority: &str) -> io::Result<String> {
    client.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        if client.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Read as a stranger would: by the text on the wire, not by the proxy's own parsers.
fn refused(answer: &str, status: u16, reason: Reason) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(&format!("details=\"{reason}\""))
}

fn verdict(asked: &str, answer: &str) -> Failure {
    Failure::Verdict { asked: asked.to_owned(), answered: answer.chars().take(SHOWN).collect() }
}

/// A ClientHello goes through the tunnel, and the origin's answer to it comes back.
async fn carries(client: &mut TcpStream, hello: &[u8]) -> Result<(), Failure> {
    client.write_all(hello).await?;
    let mut answer = [0; ANSWER.len()];
    client.read_exact(&mut answer).await?;
    if answer == *ANSWER { Ok(()) } else { Err(Failure::Relay(String::from_utf8_lossy(&answer).into_owned())) }
}
