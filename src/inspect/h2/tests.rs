//! What the relay does between peers that mean well, and what it answers to requests that may not pass. Raw frames on both sides.

use tokio::time::Instant;

use super::raw::*;
use super::scene::*;
use super::{Ended, Side};
use crate::reason::Reason;

const OK: &[(&str, &str)] = &[(":status", "200")];
const ENABLE_CONNECT: (u16, u32) = (8, 1);
const MAX_STREAMS: u16 = 3;
const INITIAL_WINDOW: u16 = 4;

/// A request with exactly these authorities.
fn named<'a>(authority: Option<&'a str>, host: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
    let authority = authority.map(|name| (":authority", name));
    pseudo.into_iter().chain(authority).chain(host.iter().map(|name| ("host", *name))).collect()
}

fn is(stream: u32, status: &str) -> (u32, String) {
    (stream, status.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a07_only_streams_whose_authorities_agree_go_upstream() {
    let mut scene = scene().await;
    let rows: [(Option<&str>, &[&str], &str); 7] = [
        (Some("other.example.jp"), &[], "421"),
        (Some(HOST), &["other.example.jp"], "421"),
        (Some("other.example.jp"), &[HOST], "421"),
        (None, &["other.example.jp"], "421"),
        (None, &[], "421"),
        (Some(HOST), &[HOST, HOST], "400"),
        (None, &[HOST, "other.example.jp"], "400"),
    ];
    scene.get(1, "/first").await;
    let mut stream = 1;
    for (authority, host, status) in rows {
        stream += 2;
        scene.client.send(&headers(stream, END_STREAM, &named(authority, host))).await;
        let (at, answered, page) = scene.client.answer().await;
        assert_eq!((at, answered.as_str()), (stream, status), "{authority:?} {host:?}");
        assert!(String::from_utf8(page).expect("text").starts_with("<!doctype html>"));
    }
    let (at, fields, _) = scene.upstream.head().await;
    assert_eq!(get(&fields, ":path"), "/first");
    scene.upstream.send(&headers(at, END_STREAM, OK)).await;
    assert_eq!(scene.client.status().await, is(1, "200"));
    scene.client.send(&headers(stream + 2, END_STREAM, &named(None, &[HOST]))).await;
    let (at, fields, _) = scene.upstream.head().await;
    assert_eq!((at, get(&fields, ":authority")), (3, HOST), "the second that ever went upstream");
    assert!(all(&fields, "host").is_empty());
    assert!(scene.record().await.starts_with("421 denied name_mismatch"));
}

#[tokio::test(start_paused = true)]
async fn a07_a_second_authority_pseudo_field_is_a_stream_error() {
    let mut scene = scene().await;
    let twice = [&asking("GET", "/", &[])[..], &[(":authority", "other.example.jp")]].concat();
    scene.client.send(&headers(1, END_STREAM, &twice)).await;
    assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: PROTOCOL_ERROR });
    scene.still_works(3).await;
}

#[tokio::test(start_paused = true)]
async fn a07_scheme_and_path_are_those_of_an_https_uri() {
    let mut scene = scene().await;
    let rows = [("GET", "http", "/"), ("GET", "https", "*"), ("GET", "https", "x"), ("GET", "https", "http://a/b")];
    for (stream, (method, scheme, path)) in (1..).step_by(2).zip(rows) {
        let fields = [(":method", method), (":scheme", scheme), (":authority", HOST), (":path", path)];
        scene.client.send(&headers(stream, END_STREAM, &fields)).await;
        assert_eq!(scene.client.status().await, is(stream, "400"), "{method} {scheme} {path}");
    }
    assert!(scene.records(4).await.iter().all(|record| record.starts_with("400 denied malformed_request")));
    scene.client.send(&headers(9, END_STREAM, &asking("OPTIONS", "*", &[]))).await;
    assert_eq!(get(&scene.upstream.head().await.1, ":path"), "*");
}

#[tokio::test(start_paused = true)]
async fn a08_a_coalesced_request_for_another_host_gets_421_and_no_field_of_ours_leaves() {
    let mut scene = scene().await;
    scene.still_works(1).await;
    scene.client.send(&headers(3, END_STREAM, &named(Some("graph.example.jp"), &[]))).await;
    let (_, fields, _) = scene.client.head().await;
    assert_eq!(get(&fields, ":status"), "421");
    assert_eq!(get(&fields, "proxy-status"), "sekisho; error=http_request_denied; details=\"name_mismatch\"");
    assert!(all(&fields, OURS).is_empty());
    assert!(matches!(scene.client.next().await, Got::Data { stream: 3, end: true, .. }));
    scene.still_works(5).await;
}

fn connect<'a>(authority: &'a str, protocol: &'a str) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https"), (":authority", authority)];
    [&pseudo[..], &[(":path", "/chat")]].concat()
}

#[tokio::test(start_paused = true)]
async fn a11_extended_connect_that_was_not_announced_is_a_stream_error() {
    let mut scene = scene().await;
    assert!(!scene.settings.iter().any(|(id, _)| *id == ENABLE_CONNECT.0));
    scene.client.send(&headers(1, 0, &connect(HOST, "websocket"))).await;
    assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: PROTOCOL_ERROR });
    scene.still_works(3).await;
}

#[tokio::test(start_paused = true)]
async fn a11_extended_connect_is_for_the_destination_and_for_websocket_alone() {
    let mut scene = with(&[], &[ENABLE_CONNECT]).await;
    assert!(scene.settings.contains(&ENABLE_CONNECT));
    let rows = [(1, "other.example.jp", "websocket", "421"), (3, HOST, "connect-udp", "405")];
    for (stream, authority, protocol, status) in rows {
        scene.client.send(&headers(stream, 0, &connect(authority, protocol))).await;
        assert_eq!(scene.client.status().await, is(stream, status));
        assert_eq!(scene.client.next().await, Got::Reset { stream, code: NO_ERROR });
    }
    scene.still_works(5).await;
}

#[tokio::test(start_paused = true)]
async fn a11_extended_connect_carries_both_ways_and_closes_them_one_by_one() {
    let mut scene = with(&[], &[ENABLE_CONNECT]).await;
    scene.client.send(&headers(1, 0, &[&connect(HOST, "websocket")[..], &[("sec-websocket-version", "13")]].concat())).await;
    let (at, fields, end) = scene.upstream.head().await;
    let value = |name| get(&fields, name);
    assert_eq!((value(":method"), value(":protocol"), value(":path"), end), ("CONNECT", "websocket", "/chat", false));
    assert_eq!((value("sec-websocket-version"), value(OURS)), ("13", TENANT));
    scene.upstream.send(&headers(at, 0, OK)).await;
    assert!(matches!(scene.client.head().await, (1, _, false)));
    for (from, to) in [("ping", "pong"), ("again", "and again")] {
        scene.client.send(&frame(DATA, 0, 1, from.as_bytes())).await;
        assert_eq!(scene.upstream.next().await, Got::Data { stream: at, octets: from.into(), end: false });
        scene.upstream.send(&frame(DATA, 0, at, to.as_bytes())).await;
        assert_eq!(scene.client.next().await, Got::Data { stream: 1, octets: to.into(), end: false });
    }
    scene.upstream.send(&frame(DATA, END_STREAM, at, b"")).await;
    assert_eq!(scene.client.next().await, Got::Data { stream: 1, octets: Vec::new(), end: true });
    scene.client.send(&frame(DATA, END_STREAM, 1, b"bye")).await;
    assert_eq!(scene.upstream.next().await, Got::Data { stream: at, octets: b"bye".into(), end: true });
    assert_eq!(scene.record().await, "200 allowed - sent=12 received=13");
}

#[tokio::test(start_paused = true)]
async fn a12_connect_inside_inspection_is_refused_on_its_stream() {
    let mut scene = scene().await;
    scene.client.send(&headers(1, 0, &[(":method", "CONNECT"), (":authority", "denied.test:443")])).await;
    let (_, fields, _) = scene.client.head().await;
    assert_eq!((get(&fields, ":status"), get(&fields, "allow")), ("405", "GET, HEAD, POST"));
    assert!(matches!(scene.client.next().await, Got::Data { stream: 1, end: true, .. }));
    assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: NO_ERROR });
    assert!(scene.record().await.starts_with("405 denied method_not_permitted"));
    scene.still_works(3).await;
}

#[tokio::test(start_paused = true)]
async fn a16_answers_lose_alt_svc_and_what_speaks_in_our_name_and_gain_nothing() {
    let mut scene = scene().await;
    scene.get(1, "/").await;
    let (at, _, _) = scene.upstream.head().await;
    let dropped = [("alt-svc", "h3=\":443\""), ("proxy-status", "other"), ("proxy-authenticate", "Basic")];
    let kept = [(":status", "200"), ("server", "origin"), ("set-cookie", "a=1"), ("set-cookie", "b=2")];
    scene.upstream.send(&headers(at, END_STREAM, &[&kept[..], &dropped].concat())).await;
    let (_, fields, end) = scene.client.head().await;
    assert_eq!(fields, kept.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(end);
}

#[tokio::test(start_paused = true)]
async fn e15_connection_specific_fields_are_a_stream_error() {
    let mut scene = scene().await;
    let rows = [("connection", "x"), ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("keep-alive", "1"), ("te", "gzip")];
    for (stream, field) in (1..).step_by(2).zip(rows) {
        scene.client.send(&headers(stream, END_STREAM, &asking("GET", "/", &[field]))).await;
        assert_eq!(scene.client.next().await, Got::Reset { stream, code: PROTOCOL_ERROR }, "{field:?}");
    }
    scene.still_works(21).await;
}

#[tokio::test(start_paused = true)]
async fn e15_content_that_is_not_as_long_as_announced_is_cut_on_both_legs() {
    let mut scene = scene().await;
    // (announced, sent): too little, too much.
    for (stream, (announced, sent)) in (1..).step_by(2).zip([("5", "abc"), ("2", "abc")]) {
        scene.post(stream, &[("content-length", announced)]).await;
        let (at, fields, _) = scene.upstream.head().await;
        assert_eq!(get(&fields, "content-length"), announced);
        scene.client.send(&frame(DATA, END_STREAM, stream, sent.as_bytes())).await;
        assert_eq!(scene.client.next().await, Got::Reset { stream, code: PROTOCOL_ERROR });
        assert_eq!(scene.upstream.next().await, Got::Reset { stream: at, code: CANCEL });
    }
    for value in ["", "+1", "1,1", "0x1"] {
        scene.client.send(&headers(11, 0, &asking("POST", "/", &[("content-length", value)]))).await;
        // The crate refuses what it cannot read; what it reads and we do not, gets a page.
        match scene.client.next().await {
            Got::Reset { stream: 11, code } => assert_eq!(code, PROTOCOL_ERROR),
            Got::Head { stream: 11, fields, .. } => assert_eq!(get(&fields, ":status"), "400"),
            other => panic!("{value:?}: {other:?}"),
        }
        scene = self::scene().await;
    }
}

#[tokio::test(start_paused = true)]
async fn g01_g02_g03_ours_replaces_every_spelling_and_comes_last() {
    let mut scene = scene().await;
    let theirs = [
        (OURS, "evil.example"),
        (OURS, ""),
        (OURS, "a, b"),
        ("restrict_access_to_tenants", "evil.example"),
        ("restrict-access_to-tenants", "evil.example"),
        ("x-kept", "yes"),
    ];
    scene.client.send(&headers(1, END_STREAM, &asking("GET", "/", &theirs))).await;
    let (_, fields, _) = scene.upstream.head().await;
    let expected = [&asking("GET", "/", &[("x-kept", "yes"), (OURS, TENANT)])[..]].concat();
    let mut got: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(got.pop(), Some((OURS, TENANT)), "the last field is ours");
    assert_eq!(sorted(got), sorted(expected[..expected.len() - 1].to_vec()));
}

fn sorted<T: Ord>(mut fields: Vec<T>) -> Vec<T> {
    fields.sort();
    fields
}

#[tokio::test(start_paused = true)]
async fn g04_request_trailers_carry_nothing_but_digests() {
    let mut scene = scene().await;
    scene.post(1, &[("trailer", OURS)]).await;
    let (at, fields, _) = scene.upstream.head().await;
    assert!(all(&fields, "trailer").is_empty());
    scene.client.send(&frame(DATA, 0, 1, b"x")).await;
    scene.client.send(&headers(1, END_STREAM, &[(OURS, "evil"), ("content-digest", "sha-256=:AA==:"), ("host", "evil")])).await;
    assert_eq!(scene.upstream.next().await, Got::Data { stream: at, octets: b"x".into(), end: false });
    let (_, trailers, end) = scene.upstream.head().await;
    assert_eq!((trailers, end), (vec![("content-digest".to_owned(), "sha-256=:AA==:".to_owned())], true));

    scene.post(3, &[]).await;
    let (at, _, _) = scene.upstream.head().await;
    scene.client.send(&headers(3, END_STREAM, &[(OURS, "evil")])).await;
    assert_eq!(scene.upstream.next().await, Got::Data { stream: at, octets: Vec::new(), end: true });
}

#[tokio::test(start_paused = true)]
async fn g05_names_that_are_none_end_the_connection() {
    for name in [&b"Restrict-Access-To-Tenants"[..], b"restrict-access-to-tenants ", b"restrict\0", b"a:b", b"\x85"] {
        let mut scene = scene().await;
        let good = asking("GET", "/", &[]);
        let block = [literal(&good), literal_bytes(&[(name, b"evil")])].concat();
        scene.client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        assert_eq!(scene.client.next().await, Got::GoAway { last: 0, code: PROTOCOL_ERROR }, "{name:?}");
        assert!(scene.upstream.rest().await.iter().all(|got| matches!(got, Got::GoAway { .. })));
        let ended = scene.ended().await;
        assert_eq!(ended, Ended { side: Side::Client, reason: Some(Reason::MalformedRequest) });
    }
}

#[tokio::test(start_paused = true)]
async fn g06_every_request_of_every_stream_carries_ours() {
    let mut scene = with(&[], &[ENABLE_CONNECT]).await;
    let rows = [
        asking("GET", "/", &[]),
        asking("HEAD", "/", &[]),
        asking("OPTIONS", "*", &[]),
        asking("POST", "/", &[("expect", "100-continue")]),
        connect(HOST, "websocket"),
        named(None, &[HOST]),
        asking("QUERY", "/redirected?a=b", &[("referer", "https://a/")]),
    ];
    for (stream, fields) in (1..).step_by(2).zip(rows) {
        scene.client.send(&headers(stream, 0, &fields)).await;
        let (_, fields, _) = scene.upstream.head().await;
        assert_eq!(get(&fields, OURS), TENANT, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn g07_a_head_with_no_room_for_ours_is_431_and_never_sent_without() {
    let ours = OURS.len() + TENANT.len() + 4;
    let framing = "GET / HTTP/1.1\r\nhost: login.example.jp\r\na: \r\n\r\n".len();
    for (octets, fits) in [(64 * 1024 - framing - ours, true), (64 * 1024 - framing - ours + 1, false)] {
        let mut scene = scene().await;
        let long = "x".repeat(octets);
        let block = literal(&asking("GET", "/", &[("a", &long)]));
        let (first, rest) = block.split_at(16 * 1024);
        scene.client.send(&frame(HEADERS, END_STREAM, 1, first)).await;
        let mut parts = rest.chunks(16 * 1024).peekable();
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
            scene.client.send(&frame(CONTINUATION, last, 1, part)).await;
        }
        if fits {
            // Its head is several frames long here too: only its beginning is looked at.
            let mut start = [0; 4];
            tokio::io::AsyncReadExt::read_exact(&mut skip_to_headers(&mut scene.upstream).await, &mut start).await.expect("a head");
        } else {
            assert_eq!(scene.client.status().await, is(1, "431"));
            assert!(scene.record().await.starts_with("431 denied head_too_large"));
            scene.still_works(3).await;
        }
    }
}
