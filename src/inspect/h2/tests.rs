//! What the relay does between peers that mean well, and what it answers to requests that may not pass. Raw frames on both sides.

use tokio::io::{AsyncReadExt, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::raw::*;
use super::scene::*;
use super::{Ended, Opened, Relay, Side, StreamEnd, Watched, open_upstream};
use crate::drain::Drain;
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
        (None, &[], "400"),
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
    // Recorded before the client sees it, though the crate refuses it by itself.
    assert_eq!(scene.log.lines().await, ["0 denied malformed_request sent=0 received=0"]);
    scene.still_works(3).await;
}

#[tokio::test(start_paused = true)]
async fn a07_scheme_and_path_are_those_of_an_https_uri() {
    let mut scene = scene().await;
    for (stream, (scheme, path)) in [(1, ("http", "/")), (3, ("https", "*")), (5, ("ftp", "/"))] {
        let fields = [(":method", "GET"), (":scheme", scheme), (":authority", HOST), (":path", path)];
        scene.client.send(&headers(stream, END_STREAM, &fields)).await;
        assert_eq!(scene.client.status().await, is(stream, "400"), "{scheme} {path}");
    }
    assert!(scene.records(3).await.iter().all(|record| record.starts_with("400 denied malformed_request")));
    // These the crate refuses by itself.
    for (stream, path) in [(7, "x"), (9, "http://other.example.jp/"), (11, "")] {
        scene.client.send(&headers(stream, END_STREAM, &asking("GET", path, &[]))).await;
        assert_eq!(scene.client.next().await, Got::Reset { stream, code: PROTOCOL_ERROR }, "{path}");
    }
    let records = scene.log.lines().await;
    assert_eq!((records.len(), &*records[5]), (6, "0 denied malformed_request sent=0 received=0"));
    scene.client.send(&headers(13, END_STREAM, &asking("OPTIONS", "*", &[]))).await;
    assert_eq!(get(&scene.upstream.head().await.1, ":path"), "*");
}

#[tokio::test(start_paused = true)]
async fn a_method_is_in_upper_case_as_on_http_1() {
    let mut scene = scene().await;
    scene.client.send(&headers(1, END_STREAM, &asking("get", "/", &[]))).await;
    assert_eq!(scene.client.status().await, is(1, "400"));
    assert!(scene.record().await.starts_with("400 denied malformed_request"));
}

#[tokio::test(start_paused = true)]
async fn values_of_an_answer_have_no_blanks_at_their_ends() {
    let mut scene = scene().await;
    scene.get(1, "/").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, &[(":status", "200"), ("x", " a b\t"), ("y", " ")])).await;
    let (_, fields, _) = scene.client.head().await;
    assert_eq!((get(&fields, "x"), get(&fields, "y")), ("a b", ""));
    scene.upstream.send(&headers(at, END_STREAM, &[("z", "c ")])).await;
    assert_eq!(get(&scene.client.head().await.1, "z"), "c");
}

#[tokio::test(start_paused = true)]
async fn a_path_is_ascii_and_there_is_one_expectation_as_on_http_1() {
    let expecting = |values: &[&'static str]| values.iter().map(|value| ("expect", *value)).collect::<Vec<_>>();
    for (path, more, status) in [
        ("/\u{e9}", vec![], "400"),
        ("/?q=\u{e9}", vec![], "400"),
        ("/", expecting(&["200-ok"]), "400"),
        ("/", expecting(&["100-continue", "100-continue"]), "400"),
        ("/", vec![("x", " padded")], "400"),
        ("/", vec![("x", "padded\t")], "400"),
        ("/%C3%A9", expecting(&["100-Continue"]), "-"),
    ] {
        let mut scene = scene().await;
        scene.client.send(&headers(1, 0, &asking("POST", path, &more))).await;
        if status == "400" {
            assert_eq!(scene.client.status().await, is(1, status), "{path} {more:?}");
            assert!(scene.record().await.starts_with("400 denied malformed_request"));
        } else {
            assert_eq!(get(&scene.upstream.head().await.1, ":path"), path);
        }
    }
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
    scene
        .client
        .send(&headers(1, 0, &[&connect(HOST, "websocket")[..], &[("sec-websocket-version", "13")]].concat()))
        .await;
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
    assert_eq!(
        (get(&fields, ":status"), get(&fields, "allow")),
        ("405", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
    );
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
    let rows = [
        ("connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("keep-alive", "1"),
        ("te", "gzip"),
    ];
    for (stream, field) in (1..).step_by(2).zip(rows) {
        scene.client.send(&headers(stream, END_STREAM, &asking("GET", "/", &[field]))).await;
        assert_eq!(scene.client.next().await, Got::Reset { stream, code: PROTOCOL_ERROR }, "{field:?}");
    }
    let records = scene.log.lines().await;
    assert_eq!(records, vec!["0 denied malformed_request sent=0 received=0"; rows.len()]);
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
    assert!(scene.records(2).await.iter().all(|record| record.starts_with("0 denied malformed_request")));
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
    scene
        .client
        .send(&headers(1, END_STREAM, &[(OURS, "evil"), ("content-digest", "sha-256=:AA==:"), ("host", "evil")]))
        .await;
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
    let room = 48 * 1024 - framing - ours;
    for (octets, fits) in [(room, true), (room + 1, false)] {
        let mut scene = scene().await;
        let long = "x".repeat(octets);
        scene.client.send(&long_headers(1, END_STREAM, &asking("GET", "/", &[("a", &long)]))).await;
        if fits {
            let (_, fields, _) = scene.upstream.head().await;
            assert_eq!((get(&fields, "a").len(), get(&fields, OURS)), (octets, TENANT));
        } else {
            assert_eq!(scene.client.status().await, is(1, "431"));
            assert!(scene.record().await.starts_with("431 denied head_too_large"));
            scene.still_works(3).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_arrives_as_it_was_but_for_what_tells_of_the_way_here() {
    let mut scene = scene().await;
    let kept = [
        ("accept", "*/*"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("content-length", "3"),
        ("priority", "u=1"),
        ("user-agent", "x"),
    ];
    let dropped = [
        ("host", HOST),
        ("expect", "100-continue"),
        ("proxy-authorization", "Basic x"),
        ("forwarded", "for=10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x_forwarded_host", "a"),
        ("x-real-ip", "10.0.0.1"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ];
    scene.client.send(&headers(1, 0, &asking("PUT", "/a?b=%2F", &[&kept[..], &dropped].concat()))).await;
    let (at, fields, _) = scene.upstream.head().await;
    let expected = asking("PUT", "/a?b=%2F", &[&kept[..], &[(OURS, TENANT)]].concat());
    let got: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(sorted(got), sorted(expected));
    // `Expect` is answered by us.
    assert_eq!(scene.client.head().await, (1, vec![(":status".to_owned(), "100".to_owned())], false));
    scene.client.send(&frame(DATA, END_STREAM, 1, b"abc")).await;
    assert_eq!(scene.upstream.next().await, Got::Data { stream: at, octets: b"abc".into(), end: true });
    scene.upstream.send(&headers(at, END_STREAM, &[(":status", "201")])).await;
    assert_eq!(scene.client.status().await, is(1, "201"));
    assert_eq!(scene.record().await, "201 allowed - sent=3 received=0");
}

#[tokio::test(start_paused = true)]
async fn grpc_streams_both_ways_and_keeps_its_trailers() {
    let mut scene = scene().await;
    scene.post(1, &[("te", "trailers"), ("content-type", "application/grpc")]).await;
    let (at, fields, _) = scene.upstream.head().await;
    assert_eq!(get(&fields, "te"), "trailers");
    scene.upstream.send(&headers(at, 0, &[(":status", "200"), ("content-type", "application/grpc")])).await;
    assert!(matches!(scene.client.head().await, (1, _, false)));
    for message in [b"one", b"two"] {
        scene.client.send(&frame(DATA, 0, 1, message)).await;
        assert_eq!(scene.upstream.next().await, Got::Data { stream: at, octets: message.to_vec(), end: false });
        scene.upstream.send(&frame(DATA, 0, at, message)).await;
        assert_eq!(scene.client.next().await, Got::Data { stream: 1, octets: message.to_vec(), end: false });
    }
    scene.client.send(&frame(DATA, END_STREAM, 1, b"")).await;
    assert_eq!(scene.upstream.next().await, Got::Data { stream: at, octets: Vec::new(), end: true });
    let trailers = [("grpc-status", "0"), ("alt-svc", "h3"), ("content-length", "6")];
    scene.upstream.send(&headers(at, END_STREAM, &trailers)).await;
    assert_eq!(scene.client.head().await, (1, vec![("grpc-status".to_owned(), "0".to_owned())], true));
    assert_eq!(scene.record().await, "200 allowed - sent=6 received=6");
}

#[tokio::test(start_paused = true)]
async fn answers_without_content_end_with_their_head() {
    let mut scene = scene().await;
    let rows = [("HEAD", "200", Some("5")), ("GET", "304", Some("5")), ("GET", "204", None), ("GET", "200", Some("0"))];
    for (stream, (method, status, length)) in (1..).step_by(2).zip(rows) {
        scene.client.send(&headers(stream, END_STREAM, &asking(method, "/", &[]))).await;
        let (at, _, _) = scene.upstream.head().await;
        let length = length.map(|length| ("content-length", length));
        let head: Vec<_> = [(":status", status)].into_iter().chain(length).collect();
        scene.upstream.send(&headers(at, END_STREAM, &head)).await;
        let (of, fields, end) = scene.client.head().await;
        assert_eq!((of, get(&fields, ":status"), end), (stream, status, true));
        assert_eq!(all(&fields, "content-length"), length.map(|(_, value)| value).into_iter().collect::<Vec<_>>());
    }
    // A page to HEAD has no content either, and says how long it would be.
    scene.client.send(&headers(9, END_STREAM, &asking("HEAD", "/", &[("host", "other.example.jp")]))).await;
    let (_, fields, end) = scene.client.head().await;
    assert_eq!((get(&fields, ":status"), end, get(&fields, "content-length").len()), ("421", true, 4));
}

#[tokio::test(start_paused = true)]
async fn e17_content_where_none_may_be_is_not_relayed() {
    let mut scene = scene().await;
    scene.get(1, "/").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, &[(":status", "204"), ("content-length", "4")])).await;
    scene.upstream.send(&frame(DATA, END_STREAM, at, b"evil")).await;
    assert_eq!(scene.client.head().await, (1, vec![(":status".to_owned(), "204".to_owned())], true));
    scene.still_works(3).await;
}

#[tokio::test(start_paused = true)]
async fn early_hints_pass_and_other_informational_answers_do_not() {
    let mut scene = scene().await;
    scene.get(1, "/").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, &[(":status", "100")])).await;
    scene.upstream.send(&headers(at, 0, &[(":status", "103"), ("link", "</a.css>"), ("alt-svc", "h3")])).await;
    let (_, fields, _) = scene.client.head().await;
    assert_eq!(fields, [(":status", "103"), ("link", "</a.css>")].map(|(n, v)| (n.to_owned(), v.to_owned())));
    scene.upstream.send(&headers(at, END_STREAM, OK)).await;
    assert_eq!(scene.client.status().await, is(1, "200"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_before_the_request_is_complete() {
    let mut scene = scene().await;
    scene.post(1, &[]).await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, END_STREAM, &[(":status", "413")])).await;
    assert_eq!(scene.client.status().await, is(1, "413"));
    // The upstream takes the rest, until it says that it does not.
    scene.client.send(&frame(DATA, 0, 1, b"more")).await;
    assert_eq!(scene.upstream.next().await, Got::Data { stream: at, octets: b"more".into(), end: false });
    scene.upstream.send(&reset(at, NO_ERROR)).await;
    assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: NO_ERROR });
    assert_eq!(scene.record().await, "413 allowed - sent=4 received=0");
    scene.still_works(3).await;
}

#[tokio::test(start_paused = true)]
async fn n02_an_answer_cut_short_is_reset_and_never_looks_complete() {
    enum Cut {
        Reset(u32),
        Short,
        Close,
    }
    let rows = [(Cut::Reset(CANCEL), CANCEL), (Cut::Reset(NO_ERROR), INTERNAL_ERROR)];
    for (cut, code) in rows.into_iter().chain([(Cut::Short, INTERNAL_ERROR), (Cut::Close, INTERNAL_ERROR)]) {
        let mut scene = scene().await;
        scene.get(1, "/").await;
        let (at, _, _) = scene.upstream.head().await;
        scene.upstream.send(&headers(at, 0, &[(":status", "200"), ("content-length", "9")])).await;
        scene.upstream.send(&frame(DATA, 0, at, b"part")).await;
        assert!(matches!(scene.client.head().await, (1, _, false)));
        assert_eq!(scene.client.next().await, Got::Data { stream: 1, octets: b"part".into(), end: false });
        match cut {
            Cut::Reset(code) => scene.upstream.send(&reset(at, code)).await,
            Cut::Short => scene.upstream.send(&frame(DATA, END_STREAM, at, b"")).await,
            Cut::Close => scene.upstream = Raw::new(tokio::io::duplex(1).0),
        }
        loop {
            match scene.client.next().await {
                Got::GoAway { code, .. } => assert_eq!(code, NO_ERROR),
                got => break assert_eq!(got, Got::Reset { stream: 1, code }),
            }
        }
        assert_eq!(scene.record().await, "200 failed upstream_truncated sent=0 received=4");
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_head_an_upstream_that_fails_is_a_page_or_a_reset_that_permits_another_try() {
    let mut scene = scene().await;
    for (stream, code) in [(1, INTERNAL_ERROR), (3, CANCEL), (5, NO_ERROR)] {
        scene.get(stream, "/").await;
        let (at, _, _) = scene.upstream.head().await;
        scene.upstream.send(&reset(at, code)).await;
        assert_eq!(scene.client.status().await, is(stream, "502"));
    }
    for (stream, code) in [(7, REFUSED_STREAM), (9, HTTP_1_1_REQUIRED)] {
        scene.get(stream, "/").await;
        let (at, _, _) = scene.upstream.head().await;
        scene.upstream.send(&reset(at, code)).await;
        assert_eq!(scene.client.next().await, Got::Reset { stream, code });
    }
    let records = scene.records(5).await;
    assert!(records[..3].iter().all(|record| record == "502 failed upstream_closed sent=0 received=0"), "{records:?}");
    assert!(records[3..].iter().all(|record| record == "0 failed upstream_closed sent=0 received=0"), "{records:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cancels_cancels_upstream() {
    let mut scene = scene().await;
    scene.get(1, "/before").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.client.send(&reset(1, CANCEL)).await;
    assert_eq!(scene.upstream.next().await, Got::Reset { stream: at, code: CANCEL });

    scene.get(3, "/behind").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, OK)).await;
    scene.client.head().await;
    scene.client.send(&reset(3, CANCEL)).await;
    assert_eq!(scene.upstream.next().await, Got::Reset { stream: at, code: CANCEL });
    let records = scene.records(2).await;
    assert_eq!(records[0], "0 failed client_closed sent=0 received=0");
    assert_eq!(records[1], "200 allowed client_closed sent=0 received=0");
    scene.still_works(5).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_disconnects_is_recorded_by_how_far_it_got() {
    let mut scene = scene().await;
    scene.get(1, "/").await;
    scene.get(3, "/").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, OK)).await;
    scene.client.head().await;
    scene.client = Raw::new(tokio::io::duplex(1).0);
    let rest = scene.upstream.rest().await;
    assert!(matches!(rest.last(), Some(Got::GoAway { code: NO_ERROR, .. })), "{rest:?}");
    let records = sorted(scene.records(2).await);
    assert_eq!(records[0], "0 failed client_closed sent=0 received=0");
    assert_eq!(records[1], "200 allowed client_closed sent=0 received=0");
    assert_eq!(scene.ended().await, Ended { side: Side::Client, reason: Some(Reason::ClientClosed) });
}

/// Octets of `wanted` a sender gets rid of before it is stalled, given the windows that the relay announces at the start.
async fn stalled_at(peer: &mut Raw, stream: u32, wanted: usize) -> usize {
    let (mut of_stream, mut of_connection, mut sent) = (WINDOW, 1024 * 1024, 0);
    loop {
        while of_stream.min(of_connection).min(wanted - sent) > 0 {
            let octets = of_stream.min(of_connection).min(wanted - sent).min(16 * 1024);
            peer.send(&frame(DATA, 0, stream, &vec![b'x'; octets])).await;
            (of_stream, of_connection, sent) = (of_stream - octets, of_connection - octets, sent + octets);
        }
        if sent == wanted {
            return sent;
        }
        // With time paused, this fires when everything has come to rest.
        match tokio::time::timeout(std::time::Duration::from_secs(1), peer.any()).await {
            Ok(Got::Window { stream: 0, octets }) => of_connection += octets as usize,
            Ok(Got::Window { octets, .. }) => of_stream += octets as usize,
            Ok(Got::Settings(_) | Got::SettingsAck | Got::Pong) => {}
            Ok(other) => panic!("a window was due: {other:?}"),
            Err(_) => return sent,
        }
    }
}

/// More than every window.
const LARGE: usize = 3 * 1024 * 1024;
const WINDOW: usize = 256 * 1024;
const SEND_BUFFER: usize = 32 * 1024;

#[tokio::test(start_paused = true)]
async fn h07_a_client_that_does_not_read_stalls_its_upstream() {
    // (the client's window, what it takes of the relay in all): none at all, and one that only the socket limits.
    for (window, taken) in [(0, 0), (1 << 30, SEND_BUFFER + PIPE)] {
        let mut scene = with(&[(INITIAL_WINDOW, window)], &[]).await;
        scene.client.send(&self::window(0, 1 << 30)).await;
        scene.get(1, "/large").await;
        let (at, _, _) = scene.upstream.head().await;
        scene.upstream.send(&headers(at, 0, OK)).await;
        let sent = stalled_at(&mut scene.upstream, at, LARGE).await;
        assert!((WINDOW..=WINDOW + taken + 32 * 1024).contains(&sent), "{sent} octets for a window of {window}");
        // And nothing of it was lost.
        scene.client.send(&self::window(1, 1 << 30)).await;
        scene.client.head().await;
        take(&mut scene.client, sent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn h07_an_upstream_that_does_not_read_stalls_its_client() {
    let mut scene = with(&[], &[(INITIAL_WINDOW, 0)]).await;
    scene.post(1, &[]).await;
    scene.upstream.head().await;
    let sent = stalled_at(&mut scene.client, 1, LARGE).await;
    assert!((WINDOW..=WINDOW + 16 * 1024).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn f06_h07_a_body_that_waits_without_room_in_memory_is_reset_and_others_are_not() {
    let mut scene = with(&[(INITIAL_WINDOW, 0)], &[]).await;
    for stream in [1, 3] {
        scene.get(stream, "/large").await;
        let (at, _, _) = scene.upstream.head().await;
        scene.upstream.send(&headers(at, 0, OK)).await;
        scene.client.head().await;
        if stream == 1 {
            scene.leave_room_for(300 * 1024);
        }
        scene.upstream.send(&frame(DATA, 0, at, &[0; 1000])).await;
    }
    assert_eq!(scene.client.next().await, Got::Reset { stream: 3, code: ENHANCE_YOUR_CALM });
    assert_eq!(scene.record().await, "200 allowed overloaded sent=0 received=0");
    scene.client.send(&window(1, 1 << 20)).await;
    take(&mut scene.client, 1000).await;
}

#[tokio::test(start_paused = true)]
async fn f10_a_request_without_room_in_memory_is_answered_and_the_connection_goes_on() {
    let mut scene = scene().await;
    scene.leave_room_for(0);
    scene.get(1, "/none").await;
    let (at, status, page) = scene.client.answer().await;
    assert_eq!((at, status.as_str()), (1, "503"));
    assert!(String::from_utf8(page).expect("text").contains("overloaded"));
    assert!(scene.record().await.starts_with("503 denied overloaded"));
    scene.leave_room_for(1 << 20);
    scene.still_works(3).await;
}

/// Reads content of any stream until `octets` have come.
async fn take(peer: &mut Raw, octets: usize) {
    let mut taken = 0;
    while taken < octets {
        match peer.next().await {
            Got::Data { octets, .. } => taken += octets.len(),
            other => panic!("{other:?} after {taken}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn content_larger_than_every_window_flows_on() {
    let wide = [(INITIAL_WINDOW, 1 << 30)];
    let mut scene = with(&wide, &wide).await;
    scene.client.send(&window(0, 1 << 30)).await;
    scene.upstream.send(&window(0, 1 << 30)).await;
    scene.post(1, &[]).await;
    let (at, _, _) = scene.upstream.head().await;
    let (sent, ()) = tokio::join!(stalled_at(&mut scene.client, 1, LARGE), take(&mut scene.upstream, LARGE));
    assert_eq!(sent, LARGE);
    scene.upstream.send(&headers(at, 0, OK)).await;
    scene.client.head().await;
    let (sent, ()) = tokio::join!(stalled_at(&mut scene.upstream, at, LARGE), take(&mut scene.client, LARGE));
    assert_eq!(sent, LARGE);
    scene.client.send(&frame(DATA, END_STREAM, 1, b"")).await;
    scene.upstream.send(&frame(DATA, END_STREAM, at, b"")).await;
    assert_eq!(scene.record().await, format!("200 allowed - sent={LARGE} received={LARGE}"));
}

#[tokio::test(start_paused = true)]
async fn no_more_streams_go_upstream_than_it_takes_and_none_whose_client_has_gone() {
    let mut scene = with(&[], &[(MAX_STREAMS, 1)]).await;
    for (stream, path) in [(1, "/one"), (3, "/two"), (5, "/three"), (7, "/four")] {
        scene.get(stream, path).await;
    }
    let (first, fields, _) = scene.upstream.head().await;
    assert_eq!(get(&fields, ":path"), "/one");
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(1), scene.upstream.next()).await;
    assert!(quiet.is_err(), "one at a time: {quiet:?}");
    scene.client.send(&reset(5, CANCEL)).await;
    scene.records(1).await;
    let mut at = first;
    for path in ["/two", "/four"] {
        scene.upstream.send(&headers(at, END_STREAM, OK)).await;
        let (next, fields, _) = scene.upstream.head().await;
        assert_eq!(get(&fields, ":path"), path);
        at = next;
    }
}

#[tokio::test(start_paused = true)]
async fn f11_goaway_of_the_upstream_is_goaway_for_the_client() {
    let mut scene = scene().await;
    scene.get(1, "/runs").await;
    scene.get(3, "/too-late").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.head().await;
    scene.upstream.send(&frame(GOAWAY, 0, 0, &[at.to_be_bytes(), NO_ERROR.to_be_bytes()].concat())).await;
    let told = [scene.client.next().await, scene.client.next().await];
    assert!(told.contains(&Got::Reset { stream: 3, code: REFUSED_STREAM }), "{told:?}");
    assert!(told.contains(&Got::GoAway { last: i32::MAX as u32, code: NO_ERROR }), "{told:?}");
    // One that was on its way meanwhile may be tried again elsewhere.
    scene.get(5, "/in-flight").await;
    scene.upstream.send(&headers(at, END_STREAM, OK)).await;
    let rest = scene.client.rest().await;
    assert!(
        rest.contains(&Got::Reset { stream: 5, code: REFUSED_STREAM })
            || !rest.iter().any(|got| matches!(got, Got::Head { stream: 5, .. })),
        "{rest:?}"
    );
    assert!(rest.iter().any(|got| matches!(got, Got::Head { stream: 1, end: true, .. })), "{rest:?}");
    assert_eq!(scene.ended().await, Ended { side: Side::Upstream, reason: None });
}

#[tokio::test(start_paused = true)]
async fn draining_lets_streams_finish_and_takes_no_more() {
    let mut scene = scene().await;
    scene.get(1, "/runs").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.stopper.drain();
    assert_eq!(scene.client.next().await, Got::GoAway { last: i32::MAX as u32, code: NO_ERROR });
    scene.upstream.send(&headers(at, END_STREAM, OK)).await;
    let rest = scene.client.rest().await;
    assert!(rest.contains(&Got::GoAway { last: 1, code: NO_ERROR }), "{rest:?}");
    assert!(rest.iter().any(|got| matches!(got, Got::Head { stream: 1, end: true, .. })), "{rest:?}");
    assert_eq!(scene.ended().await, Ended { side: Side::Sekisho, reason: None });
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_left_with_goaway() {
    let mut scene = scene().await;
    scene.still_works(1).await;
    let start = Instant::now();
    assert_eq!(scene.client.rest().await, [i32::MAX as u32, 1].map(|last| Got::GoAway { last, code: NO_ERROR }));
    assert_eq!(start.elapsed(), IDLE);
    assert!(matches!(scene.upstream.rest().await[..], [Got::GoAway { code: NO_ERROR, .. }]));
    assert_eq!(scene.ended().await, Ended { side: Side::Sekisho, reason: Some(Reason::IdleTimeout) });
}

#[tokio::test(start_paused = true)]
async fn f10_silence_ends_a_stream_and_says_whose_it_was() {
    let mut scene = scene().await;
    let start = Instant::now();
    scene.get(1, "/").await;
    scene.upstream.head().await;
    assert_eq!(scene.client.status().await, is(1, "504"));
    assert_eq!(start.elapsed(), RESPONSE);
    scene.post(3, &[]).await;
    assert_eq!(scene.client.status().await, is(3, "408"));
    assert_eq!(scene.client.next().await, Got::Reset { stream: 3, code: NO_ERROR });
    scene.get(5, "/").await;
    loop {
        match scene.upstream.next().await {
            Got::Head { fields, stream, .. } if get(&fields, ":method") == "GET" => {
                break scene.upstream.send(&headers(stream, 0, OK)).await;
            }
            Got::Head { .. } | Got::Reset { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(scene.client.head().await, (5, _, false)));
    assert_eq!(scene.client.next().await, Got::Reset { stream: 5, code: CANCEL });
    assert!(matches!(scene.upstream.next().await, Got::Reset { code: CANCEL, .. }));
    let records = scene.records(3).await;
    assert!(records[0].starts_with("504 failed upstream_timeout"), "{records:?}");
    assert!(records[1].starts_with("408 failed too_slow"), "{records:?}");
    assert!(records[2].starts_with("200 allowed idle_timeout"), "{records:?}");
    scene.still_works(7).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_relay_ends_every_stream() {
    let mut scene = scene().await;
    scene.get(1, "/").await;
    scene.upstream.head().await;
    scene.running.abort();
    assert!(scene.client.rest().await.is_empty());
    assert!(scene.upstream.rest().await.is_empty());
    assert_eq!(scene.record().await, "0 failed client_closed sent=0 received=0");
}

/// A relay that already runs `task` as one of its streams.
async fn beside(task: impl Future<Output = StreamEnd> + Send + 'static) -> (Raw, Raw, JoinHandle<Ended>, Log) {
    let ((client, client_io), (upstream, upstream_io)) = (duplex(PIPE), duplex(PIPE));
    let (mut client, mut upstream) = (Raw::new(client), Raw::new(upstream));
    upstream.send(&settings(&[])).await;
    client.preface(&[]).await;
    let opened = open_upstream(upstream_io).await.expect("SETTINGS");
    let streams = Opened::default();
    let client_io = Watched::client(client_io, streams.clone());
    let greeted = super::settings::server(opened.extended_connect()).handshake(client_io).await.expect("a preface");
    let (scope, log) = scope(Drain::never());
    let mut relay = Relay::new(scope, greeted, streams, opened, HEAD);
    relay.streams.spawn(task);
    let running = tokio::spawn(async move { relay.run().await });
    let mut preface = [0; 24];
    upstream.io.read_exact(&mut preface).await.expect("a preface");
    (client, upstream, running, log)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_by_a_defect_does_not_hurt_the_others() {
    let (mut client, mut upstream, running, _log) = beside(async { panic!("a defect") }).await;
    client.send(&headers(1, END_STREAM, &asking("GET", "/", &[]))).await;
    let (at, _, _) = upstream.head().await;
    upstream.send(&headers(at, END_STREAM, OK)).await;
    assert_eq!(client.status().await, is(1, "200"));
    drop(client);
    assert_eq!(running.await.expect("no panic"), Ended { side: Side::Client, reason: None });
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_ends_the_connection_is_followed_by_goaway() {
    let (mut client, _upstream, running, _log) =
        beside(async { StreamEnd::EndConnection(Reason::PolicyWithdrawn) }).await;
    assert_eq!(client.rest().await, [i32::MAX as u32, 0].map(|last| Got::GoAway { last, code: NO_ERROR }));
    let ended = Ended { side: Side::Sekisho, reason: Some(Reason::PolicyWithdrawn) };
    assert_eq!(running.await.expect("no panic"), ended);
}
