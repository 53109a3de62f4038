use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn pair() -> (UnixStream, UnixStream) {
    let (one, other): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
    (one.into(), other.into())
}

/// The number of the next question.
fn question(socket: &mut UnixStream) -> u64 {
    let mut buffer = [0; 600];
    let octets = socket.read(&mut buffer).expect("read");
    Question::decode(&buffer[..octets]).expect("a question").0
}

fn started(socket: UnixStream) -> Link {
    let (link, line) = open(socket);
    line.start().expect("a thread");
    link
}

fn ask(link: &Link, limit: Duration) -> Result<Answer, LinkError> {
    link.put(keep(), limit)?.blocking_recv().unwrap_or(Err(LinkError::Ended))
}

fn keep() -> Question {
    Question::Keep { generation: 1 }
}

#[test]
fn a_question_has_its_answer() {
    let (ours, mut theirs) = pair();
    let link = started(ours);
    let answering = thread::spawn(move || {
        let number = question(&mut theirs);
        theirs.write_all(&Answer::Kept.encode(number)).expect("sent");
    });
    assert_eq!(ask(&link, LONG), Ok(Answer::Kept));
    answering.join().expect("joined");
}

#[test]
fn j07_an_answer_that_comes_too_late_is_not_taken_for_the_next() {
    let (ours, mut theirs) = pair();
    let link = started(ours);
    let late = ask(&link, Duration::from_millis(20));
    assert!(matches!(late, Err(LinkError::Late(_))), "{late:?}");
    let answering = thread::spawn(move || {
        let late = question(&mut theirs);
        theirs.write_all(&Answer::Refused("late".to_owned()).encode(late)).expect("sent");
        let number = question(&mut theirs);
        theirs.write_all(&Answer::Kept.encode(number)).expect("sent");
    });
    assert_eq!(ask(&link, LONG), Ok(Answer::Kept));
    answering.join().expect("joined");
}

#[test]
fn j07_an_answer_that_makes_no_sense_is_the_end() {
    for garbage in [b"no answer".to_vec(), vec![0; MAX_ANSWER + 1], Answer::Kept.encode(7)] {
        let (ours, mut theirs) = pair();
        let link = started(ours);
        theirs.write_all(&garbage).expect("sent");
        assert_eq!(ask(&link, LONG), Err(LinkError::Garbled));
        assert_eq!(ask(&link, LONG), Err(LinkError::Ended));
        // The other end sees it too: the question, then the end.
        question(&mut theirs);
        assert_eq!(theirs.read(&mut [0; 8]).expect("read"), 0);
    }
}

#[test]
fn j07_the_end_of_the_process_is_the_end_of_minting() {
    let (ours, theirs) = pair();
    let link = started(ours);
    drop(theirs);
    for _ in 0..2 {
        assert_eq!(ask(&link, LONG), Err(LinkError::Ended));
    }
}

#[tokio::test]
async fn j07_so_many_questions_wait_and_no_more() {
    let (ours, mut theirs) = pair();
    let link = started(ours);
    let first = link.put(keep(), LONG).expect("room");
    // It has been taken out of the queue.
    let number = question(&mut theirs);
    let waiting: Vec<_> = (0..WAITING).map(|_| link.put(keep(), LONG).expect("room")).collect();
    assert_eq!(link.ask(keep(), LONG).await, Err(LinkError::Busy));
    // Nobody waits for them: they are not put.
    drop(waiting);
    theirs.write_all(&Answer::Kept.encode(number)).expect("sent");
    assert_eq!(first.await.expect("answered"), Ok(Answer::Kept));
    let last = loop {
        match link.put(keep(), LONG) {
            Ok(last) => break last,
            Err(error) => assert_eq!(error, LinkError::Busy),
        }
    };
    let number = question(&mut theirs);
    assert_eq!(number, 2);
    theirs.write_all(&Answer::Kept.encode(number)).expect("sent");
    assert_eq!(last.await.expect("answered"), Ok(Answer::Kept));
}
