//! What only a pipe shows for certain: octets that are there before a request goes out.

use std::time::Duration;

use bytes::BytesMut;
use rustls::{AlertDescription, Error as TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::super::h2::scene::{HEAD, HOST, IDLE, Log, PIPE, PROGRESS, RESPONSE, scope};
use super::*;
use crate::drain::Stopper;

/// E17: an answer that was there before its question is nobody's, however soon the next request comes.
#[tokio::test]
async fn e17_octets_before_a_request_are_not_its_answer() {
    let (_stopper, drain) = Stopper::new();
    let (scope, log) = scope(drain);
    let (mut near, client) = duplex(PIPE);
    let (mut far, upstream) = duplex(PIPE);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await.expect("room");
    let request = format!("GET /next HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let client = Leg::new(client, BytesMut::from(request.as_bytes()));
    let ended = run(&scope, client, Leg::new(upstream, BytesMut::new()), Duration::from_secs(5)).await;
    assert_eq!(ended, FINISHED);
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.expect("the answer");
    assert!(answer.starts_with("HTTP/1.1 502 ") && !answer.contains("forged"), "{answer}");
    let mut asked = Vec::new();
    far.read_to_end(&mut asked).await.expect("the end");
    assert_eq!(asked, b"", "nothing was asked of an upstream that has lost its place");
    assert_eq!(log.lines().await, ["502 failed upstream_malformed sent=0 received=0"]);
}

/// A client that sent a HEAD takes what stands behind the answer's head for the next answer.
#[tokio::test]
async fn e11_an_answer_to_a_head_request_has_no_content_whatever_is_wrong_with_it() {
    for (request, status) in [
        (format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\nHost: {HOST}\r\n\r\n"), "400"),
        (format!("HEAD / HTTP/1.2\r\nHost: {HOST}\r\n\r\n"), "400"),
        (format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\nX: {}\r\n\r\n", "x".repeat(100_000)), "431"),
    ] {
        let (_stopper, drain) = Stopper::new();
        let (scope, _log) = scope(drain);
        let (mut near, client) = duplex(PIPE);
        let (_far, upstream) = duplex(PIPE);
        let client = Leg::new(client, BytesMut::from(request.as_bytes()));
        run(&scope, client, Leg::new(upstream, BytesMut::new()), Duration::from_secs(5)).await;
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("the answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\ncontent-length: ") || answer.contains("\r\nContent-Length: "), "{answer}");
        assert!(answer.ends_with("\r\n\r\n") && answer.matches("\r\n\r\n").count() == 1, "{answer}");
    }
}

#[test]
fn only_an_alert_of_certificates_says_that_the_leaf_was_rejected() {
    for (error, reason) in [
        (TlsError::AlertReceived(AlertDescription::CertificateUnknown), Reason::ClientRejectedCertificate),
        (TlsError::AlertReceived(AlertDescription::UnknownCA), Reason::ClientRejectedCertificate),
        (TlsError::AlertReceived(AlertDescription::InternalError), Reason::ClientClosed),
        (TlsError::AlertReceived(AlertDescription::BadRecordMac), Reason::ClientClosed),
        (TlsError::DecryptError, Reason::ClientClosed),
    ] {
        let text = error.to_string();
        let ended = lost(&std::io::Error::new(ErrorKind::InvalidData, error));
        assert_eq!((ended.side, ended.reason), (Side::Client, Some(reason)), "{text}");
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// An inspected connection between two pipes.
struct Pair {
    client: DuplexStream,
    upstream: DuplexStream,
    running: JoinHandle<Ended>,
    log: Log,
    stopper: Stopper,
}

fn pair() -> Pair {
    let (stopper, drain) = Stopper::new();
    let (scope, log) = scope(drain);
    let (client, near) = duplex(PIPE);
    let (upstream, far) = duplex(PIPE);
    let legs = (Leg::new(near, BytesMut::new()), Leg::new(far, BytesMut::new()));
    let running = tokio::spawn(async move { run(&scope, legs.0, legs.1, HEAD).await });
    Pair { client, upstream, running, log, stopper }
}

impl Pair {
    /// Sends a request head of `method` with `fields`, which the upstream then has.
    async fn ask(&mut self, method: &str, fields: &str) {
        let head = format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
        self.client.write_all(head.as_bytes()).await.expect("room");
        until(&mut self.upstream, b"\r\n\r\n").await;
    }

    /// The status of the answer, and everything behind it.
    async fn answer(&mut self) -> (String, Vec<u8>) {
        let mut rest = Vec::new();
        self.client.read_to_end(&mut rest).await.expect("the end");
        (String::from_utf8_lossy(rest.get(9..12).unwrap_or_default()).into_owned(), rest)
    }
}

async fn until(peer: &mut DuplexStream, end: &[u8]) {
    let mut all = Vec::new();
    while !all.ends_with(end) {
        all.push(peer.read_u8().await.expect("more"));
    }
}

#[tokio::test(start_paused = true)]
async fn h02_a_head_is_due_as_a_whole_and_so_is_its_first_octet() {
    let mut pair = pair();
    let began = Instant::now();
    pair.client.write_all(b"GET / HTTP/1.1\r\nX: ").await.expect("room");
    let answer = async {
        let (mut reading, mut writing) = tokio::io::split(&mut pair.client);
        tokio::select! {
            read = async { let mut rest = Vec::new(); reading.read_to_end(&mut rest).await.map(|_| rest) } => read.expect("the end"),
            () = async { loop { sleep(SECOND * 4).await; let _ = writing.write_all(b"y").await; } } => unreachable!(),
        }
    };
    assert!(answer.await.starts_with(b"HTTP/1.1 408 "));
    assert_eq!(began.elapsed(), HEAD);
    assert_eq!(pair.log.lines().await, ["408 failed request_head_timeout sent=0 received=0"]);
}

/// H02: content of either framing, by an octet now and then, or none at all.
#[tokio::test(start_paused = true)]
async fn h02_content_that_trickles_is_408() {
    for (fields, one, sent) in [
        ("Content-Length: 1000\r\n", &b"x"[..], 12),
        ("Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n", 12),
        ("Content-Length: 1000\r\n", b"", 0),
    ] {
        let mut pair = pair();
        pair.ask("POST", fields).await;
        let began = Instant::now();
        for _ in 0..12 {
            pair.client.write_all(one).await.expect("room");
            sleep(SECOND * 4).await;
        }
        let (status, _) = pair.answer().await;
        assert_eq!((status.as_str(), began.elapsed()), ("408", PROGRESS), "{fields}");
        assert_eq!(pair.log.lines().await, [format!("408 failed too_slow sent={sent} received=0")], "{fields}");
        assert_eq!(pair.running.await.expect("no panic"), FINISHED);
        let mut rest = Vec::new();
        pair.upstream.read_to_end(&mut rest).await.expect("the upstream's connection has ended too");
    }
}

/// H02: an upload that is slow and fast enough, to an upstream that is slow itself.
#[tokio::test(start_paused = true)]
async fn h02_content_that_is_slow_because_of_the_upstream_is_the_upstreams() {
    let mut pair = pair();
    pair.ask("POST", "Content-Length: 1000000\r\n").await;
    let began = Instant::now();
    let (mut reading, mut writing) = tokio::io::split(&mut pair.client);
    let content = vec![b'x'; 1_000_000];
    let mut rest = Vec::new();
    tokio::select! {
        read = reading.read_to_end(&mut rest) => drop(read.expect("the end")),
        () = async { let _ = writing.write_all(&content).await; std::future::pending().await } => unreachable!(),
        () = async { loop { sleep(SECOND).await; let _ = pair.upstream.read_u8().await; } } => unreachable!(),
    }
    assert!(rest.starts_with(b"HTTP/1.1 504 "));
    let took = began.elapsed();
    assert!(took >= PROGRESS && took < PROGRESS + SECOND * 2, "{took:?}");
    let lines = pair.log.lines().await;
    assert!(lines.len() == 1 && lines[0].starts_with("504 failed upstream_timeout"), "{lines:?}");
}

/// H02: slow read. What is held meanwhile is a buffer, not the answer.
#[tokio::test(start_paused = true)]
async fn h02_h07_an_answer_that_is_taken_by_the_octet_is_cut() {
    for takes in [0, 1] {
        let mut pair = pair();
        pair.ask("GET", "").await;
        let began = Instant::now();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n";
        pair.upstream.write_all(head).await.expect("room");
        let mut given = 0;
        let ended = tokio::select! {
            ended = &mut pair.running => ended.expect("no panic"),
            () = async {
                while let Ok(octets) = pair.upstream.write(&[b'x'; 1024]).await { given += octets }
                std::future::pending().await
            } => unreachable!(),
            () = async { loop { sleep(SECOND).await; let _ = pair.client.read_exact(&mut vec![0; takes]).await; } } => unreachable!(),
        };
        assert_eq!((ended, began.elapsed()), (FINISHED, PROGRESS));
        // Two pipes and the chunk between them.
        assert!(given <= 2 * PIPE + 2 * 16 * 1024, "{given}");
        let lines = pair.log.lines().await;
        assert!(lines.len() == 1 && lines[0].starts_with("200 allowed too_slow"), "{lines:?}");
    }
}

/// An event stream says little, and seldom, for as long as it likes.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_slowly_is_none_of_the_clients_fault() {
    let mut pair = pair();
    pair.ask("GET", "").await;
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    pair.upstream.write_all(head).await.expect("room");
    until(&mut pair.client, b"\r\n\r\n").await;
    for _ in 0..20 {
        sleep(IDLE - SECOND).await;
        pair.upstream.write_all(b"1\r\nx\r\n").await.expect("room");
        until(&mut pair.client, b"1\r\nx\r\n").await;
    }
    pair.upstream.write_all(b"0\r\n\r\n").await.expect("room");
    until(&mut pair.client, b"0\r\n\r\n").await;
    drop(pair.client);
    assert_eq!(pair.running.await.expect("no panic"), FINISHED);
    assert_eq!(pair.log.lines().await, ["200 allowed - sent=0 received=20"]);
}

/// N03, E17: the head of an answer is due as a whole, from the whole request on.
#[tokio::test(start_paused = true)]
async fn n03_e17_an_answer_that_dribbles_is_504() {
    for drips in [false, true] {
        let mut pair = pair();
        pair.ask("POST", "Content-Length: 4\r\n").await;
        for _ in 0..4 {
            sleep(PROGRESS / 5).await;
            pair.client.write_all(b"x").await.expect("room");
        }
        until(&mut pair.upstream, b"xxxx").await;
        let began = Instant::now();
        let mut head = if drips { b"HTTP/1.1 200 OK\r\nX: yyyyyyyyyyyyyyyy" } else { &b""[..] };
        let (mut reading, _writing) = tokio::io::split(&mut pair.client);
        let mut rest = Vec::new();
        tokio::select! {
            read = reading.read_to_end(&mut rest) => drop(read.expect("the end")),
            () = async {
                while let Some((first, more)) = head.split_first() {
                    sleep(SECOND * 5).await;
                    pair.upstream.write_all(&[*first]).await.expect("room");
                    head = more;
                }
                std::future::pending().await
            } => unreachable!(),
        }
        assert!(rest.starts_with(b"HTTP/1.1 504 "), "{drips}");
        assert_eq!(began.elapsed(), RESPONSE, "{drips}");
        let lines = pair.log.lines().await;
        assert_eq!(lines, ["504 failed upstream_timeout sent=4 received=0"], "{drips}");
    }
}

/// The head may take its time while the request is still coming.
#[tokio::test(start_paused = true)]
async fn an_answer_is_not_late_before_its_request_is_whole() {
    let mut pair = pair();
    pair.ask("POST", "Content-Length: 655360\r\n").await;
    let mut content = vec![0; 64 * 1024];
    for _ in 0..10 {
        sleep(PROGRESS - SECOND).await;
        pair.client.write_all(&[b'x'; 64 * 1024]).await.expect("room");
        pair.upstream.read_exact(&mut content).await.expect("content");
    }
    sleep(RESPONSE - SECOND).await;
    pair.upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("room");
    until(&mut pair.client, b"\r\n\r\n").await;
    assert_eq!(pair.log.lines().await, ["204 allowed - sent=655360 received=0"]);
}

/// A client that was let in has its first request answered; one that was answered, or asks for nothing, is told.
#[tokio::test(start_paused = true)]
async fn the_first_request_of_a_connection_is_answered_where_the_service_leaves_meanwhile() {
    for asks in [true, false] {
        let mut pair = pair();
        let began = Instant::now();
        pair.stopper.move_out();
        if asks {
            sleep(SECOND / 2).await;
            pair.ask("GET", "").await;
            pair.upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("room");
        }
        let (status, rest) = pair.answer().await;
        assert_eq!(status, if asks { "204" } else { "" }, "{rest:?}");
        let took = if asks { SECOND / 2 } else { SECOND };
        assert!(began.elapsed() >= took && began.elapsed() < took + SECOND / 100, "{:?}", began.elapsed());
        let ended = pair.running.await.expect("it ended");
        assert_eq!(ended, Ended { side: Side::Sekisho, reason: None }, "in order, by the service, as over HTTP/2");
    }
}
