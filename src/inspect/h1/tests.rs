//! What only a pipe shows for certain: octets that are there before a request goes out.

use std::time::Duration;

use bytes::BytesMut;
use rustls::{AlertDescription, Error as TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::super::h2::scene::{HOST, PIPE, scope};
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
