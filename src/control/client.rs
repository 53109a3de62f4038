//! The end of the commands: asks once, waits for the answer, with a limit to everything.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use socket2::{Domain, SockAddr, Socket, Type};

use super::frames;
use super::protocol::{Ask, Done, MAX_ANSWER, Refusal, read_answer, request};

/// For what was asked to be done: a configuration with a million names is loaded in seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// For a place in the service's queue, which others may fill.
const QUEUE: Duration = Duration::from_secs(10);
/// Octets of an answer behind which descriptors follow.
const MAX_LINE: usize = 4096;
const SENDING: Duration = Duration::from_secs(5);

/// Why there is no answer, or which it is.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no service answers at {path}: {source}; is it running, and does its [control] socket name this file?",
        path = .path.display()
    )]
    Nobody { path: PathBuf, source: io::Error },
    #[error(
        "{path} may not be opened: {source}; be root, the service's user, or of the group [control] viewers or operators",
        path = .path.display()
    )]
    NotPermitted { path: PathBuf, source: io::Error },
    #[error("the service at {path} ended the conversation: {source}", path = .path.display())]
    Broken { path: PathBuf, source: io::Error },
    #[error("what answers at {path} is not sekisho, or another version of it", path = .path.display())]
    Foreign { path: PathBuf },
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// Asks the service at `path`.
///
/// # Errors
/// [`ClientError`].
pub fn ask<T: for<'d> Deserialize<'d>>(path: &Path, ask: &Ask) -> Result<T, ClientError> {
    let mut stream = connect(path)?;
    // Who may ask for nothing is answered before he has asked.
    let sent = stream.write_all(&request(ask));
    let mut answer = Vec::new();
    let asked = sent.and((&mut stream).take(MAX_ANSWER).read_to_end(&mut answer));
    match (asked, read_answer(&answer)) {
        (_, Some(outcome)) => Ok(outcome?),
        (Err(source), None) => Err(ClientError::Broken { path: path.to_owned(), source }),
        (Ok(_), None) if answer.is_empty() => {
            let source = io::Error::from(io::ErrorKind::UnexpectedEof);
            Err(ClientError::Broken { path: path.to_owned(), source })
        }
        (Ok(_), None) => Err(ClientError::Foreign { path: path.to_owned() }),
    }
}

/// One line of an answer behind which messages with descriptors follow, and nothing of those.
///
/// # Errors
/// The socket's, and `InvalidData` where it is longer than such a line.
pub fn read_line(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let (mut line, mut octet) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        (&mut &*stream).read_exact(&mut octet)?;
        line.extend(octet);
        if line.len() > MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(line)
}

/// Where the service at `path` says what it has to say: its standard error.
///
/// # Errors
/// [`ClientError`].
pub fn standard_error(path: &Path) -> Result<OwnedFd, ClientError> {
    let stream = connect(path)?;
    let broken = |source| ClientError::Broken { path: path.to_owned(), source };
    let foreign = || ClientError::Foreign { path: path.to_owned() };
    (&stream).write_all(&request(&Ask::Stderr {})).map_err(broken)?;
    let answer = read_line(&stream).map_err(broken)?;
    read_answer::<Done>(&answer).ok_or_else(foreign)??;
    frames::receive(&stream).map_err(broken)?.1.pop().ok_or_else(foreign)
}

/// Whether somebody takes connections at `path`.
///
/// # Errors
/// Nobody does, or it cannot be found out.
pub fn is_answered(path: &Path) -> io::Result<()> {
    open(path, None).map(drop)
}

/// A conversation with the service at `path`.
///
/// # Errors
/// [`ClientError`].
pub fn connect(path: &Path) -> Result<UnixStream, ClientError> {
    open(path, Some(QUEUE)).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path: path.to_owned(), source },
        _ => ClientError::Nobody { path: path.to_owned(), source },
    })
}

/// Where its queue is full it is waited for at most `patience`; without, not at all.
fn open(path: &Path, patience: Option<Duration>) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Of a Unix socket this is what connect(2) waits for too (unix(7)).
    socket.set_write_timeout(patience)?;
    socket.set_nonblocking(patience.is_none())?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    let stream = UnixStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(SENDING))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::super::protocol::{Status, Word, answer};
    use super::*;

    /// Answers one request with `octets`, and says what was asked.
    fn answering(octets: Vec<u8>) -> (tempfile::TempDir, PathBuf, thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("bound");
        let asked = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut line = String::new();
            io::BufReader::new(&stream).read_line(&mut line).expect("a line");
            let _ = (&stream).write_all(&octets);
            line
        });
        (dir, path, asked)
    }

    #[test]
    fn an_answer_and_a_refusal() {
        let done = Done { message: "m".to_owned(), revision: "r".to_owned() };
        let (_dir, path, asked) = answering(answer(Ok(&done)));
        assert_eq!(ask::<Done>(&path, &Ask::Rollback {}).expect("done"), done);
        assert_eq!(asked.join().expect("asked"), "{\"v\":1,\"ask\":{\"do\":\"rollback\"}}\n");
        let (_dir, path, _) = answering(answer::<Done>(Err(Refusal::new(Word::OnTrial, "on trial"))));
        let refused = ask::<Done>(&path, &Ask::Rollback {}).expect_err("refused");
        assert!(matches!(refused, ClientError::Refused(Refusal { word: Word::OnTrial, .. })), "{refused}");
    }

    #[test]
    fn a_queue_that_is_full_is_waited_for_and_not_where_only_somebody_is_looked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.bind(&SockAddr::unix(&path).expect("a path")).expect("bound");
        socket.listen(0).expect("listens");
        let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
        let mut waiting = Vec::new();
        let full = loop {
            match open(&path, None) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let connecting = thread::spawn({
            let path = path.clone();
            move || connect(&path).map(drop)
        });
        let _first = listener.accept().expect("one of those that waited");
        connecting.join().expect("no panic").expect("its place");
    }

    #[test]
    fn what_is_no_service_is_said_to_be_none() {
        let (_dir, path, _) = answering(b"220 mail.example.com ESMTP\r\n".to_vec());
        let error = ask::<Status>(&path, &Ask::Status {}).expect_err("foreign");
        assert!(matches!(error, ClientError::Foreign { .. }), "{error}");
        let (dir, path, _) = answering(Vec::new());
        assert!(matches!(ask::<Status>(&path, &Ask::Status {}), Err(ClientError::Broken { .. })));
        for name in ["missing", "a.file"] {
            std::fs::write(dir.path().join("a.file"), "").expect("written");
            let error = ask::<Status>(&dir.path().join(name), &Ask::Status {}).expect_err("nobody");
            assert!(matches!(error, ClientError::Nobody { .. }), "{name}: {error}");
        }
        // More than an answer has: it is cut, and then it is none.
        let (_dir, path, _) = answering(vec![b' '; usize::try_from(MAX_ANSWER).expect("small") + 10]);
        assert!(ask::<Status>(&path, &Ask::Status {}).is_err());
    }
}
