//! Only scenes about where an HTTP/1.1 message ends belong here: heads and content that are ambiguous, in both directions (group E).

use super::inspect_h1::{inside, stage};
use super::support::{Origin, Reply};

/// Fields that leave the framing of a request open, or are none (E01 to E04, E08 to E10).
pub const AMBIGUOUS: [(&str, &str); 33] = [
    ("E01 CL.TE", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    ("E01 TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    ("E02 different", "Content-Length: 5\r\nContent-Length: 6\r\n"),
    ("E02 same", "Content-Length: 5\r\nContent-Length: 5\r\n"),
    ("E02 list", "Content-Length: 5, 5\r\n"),
    ("E02 empty", "Content-Length: \r\n"),
    ("E02 empty, then 5", "Content-Length: \r\nContent-Length: 5\r\n"),
    ("E03 plus", "Content-Length: +5\r\n"),
    ("E03 minus", "Content-Length: -1\r\n"),
    ("E03 hex", "Content-Length: 0x10\r\n"),
    ("E03 underscore", "Content-Length: 5_0\r\n"),
    ("E03 leading zero", "Content-Length: 05\r\n"),
    ("E03 2^64", "Content-Length: 18446744073709551616\r\n"),
    ("E03 2^64 - 1", "Content-Length: 18446744073709551615\r\n"),
    ("E04 x", "Transfer-Encoding: xchunked\r\n"),
    ("E04 comma", "Transfer-Encoding: ,chunked\r\n"),
    ("E04 identity behind", "Transfer-Encoding: chunked, identity\r\n"),
    ("E04 identity", "Transfer-Encoding: identity\r\n"),
    ("E04 twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    ("E04 twice in one", "Transfer-Encoding: chunked, chunked\r\n"),
    ("E04 VT", "Transfer-Encoding: \x0bchunked\r\n"),
    ("E04 gzip", "Transfer-Encoding: gzip, chunked\r\n"),
    ("E04 quoted", "Transfer-Encoding: \"chunked\"\r\n"),
    ("E08 folded", "X-Marker: a\r\n b\r\n"),
    ("E08 folded TE", "Transfer-Encoding:\r\n chunked\r\n"),
    ("E09 bare LF", "X-Marker: a\nContent-Length: 5\r\n"),
    ("E09 bare CR", "X-Marker: a\rContent-Length: 5\r\n"),
    ("E09 NUL", "X-Marker: a\0b\r\n"),
    ("E10 space before the colon", "Content-Length : 5\r\n"),
    ("E10 tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
    ("E10 no colon", "Content-Length 5\r\n"),
    ("E10 empty name", ": 5\r\n"),
    ("E10 octet in the name", "X\u{85}: 5\r\n"),
];

#[tokio::test]
async fn e16_requests_follow_each_other_on_one_connection() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    for n in 0..100 {
        assert_eq!(
            wire.get(&at, &format!("/{n}?q=1")).await.expect("an answer").text(),
            format!("origin saw GET /{n}?q=1")
        );
    }
    wire.bye().await;
    let one = sekisho.next_connection().await;
    one.says("allowed", "");
    for n in 0..100 {
        let record = sekisho.next_request().await;
        record.says("allowed", "").with("url.path", &format!("/{n}")).with("sekisho.connection", one.text("event.id"));
        assert_eq!(record.number("http.response.status_code"), 200);
    }
    assert!(origin.connects() <= 2, "one upstream connection for one client connection: {}", origin.connects());
    sekisho.finish().await;
}

#[tokio::test]
async fn e16_pipelined_requests_are_answered_in_order_and_each_is_judged() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    let batch: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: {at}\r\n\r\n")).collect();
    let behind: String = (0..50).map(|n| format!("GET /behind{n} HTTP/1.1\r\nHost: {at}\r\n\r\n")).collect();
    wire.send(format!("{batch}GET /x HTTP/1.1\r\nHost: denied.test\r\n\r\n{behind}")).await;
    for n in 0..50 {
        assert_eq!(wire.response("GET").await.text(), format!("origin saw GET /{n}"));
    }
    wire.response("GET").await.page(421, "name_mismatch");
    let mut after = 0;
    while let Some(answer) = wire.maybe_response("GET").await {
        assert_eq!(answer.text(), format!("origin saw GET /behind{after}"));
        after += 1;
    }
    let seen = origin.requests();
    assert!(seen.iter().all(|seen| seen.authority == at && seen.target != "/x"));
    assert_eq!(seen.len(), 50 + after);
    let records = sekisho.terminals("request", 51 + after as u64).await;
    assert_eq!(records.len(), 51 + after);
    assert_eq!(records.iter().filter(|record| record.reason() == "name_mismatch").count(), 1);
}

#[tokio::test]
async fn e01_to_e10_ambiguous_requests_are_400_and_the_end() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let bodies =
        ["Content-Length: 5_\r\n", "X-Marker: 1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"];
    for (row, fields) in AMBIGUOUS.iter().copied().chain(bodies.map(|fields| ("more", fields))) {
        let mut wire = inside(&sekisho, &origin).await;
        wire.send(format!(
            "POST /a HTTP/1.1\r\nHost: {at}\r\n{fields}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {at}\r\n\r\n"
        ))
        .await;
        let answer = wire.maybe_response("POST").await.unwrap_or_else(|| panic!("{row}: no answer"));
        answer.page(400, "malformed_request");
        wire.closed().await;
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    let records = sekisho.terminals("request", AMBIGUOUS.len() as u64 + 2).await;
    assert!(records.iter().all(|record| record.reason() == "malformed_request"), "{records:#?}");
}

#[tokio::test]
async fn e11_request_lines_that_are_none_are_400() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let lines = [
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / HTTP/1.?",
        "GET /",
        "get / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / http/1.1",
        "GET /a b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /\u{e9} HTTP/1.1",
    ];
    for line in lines {
        let mut wire = inside(&sekisho, &origin).await;
        wire.send(format!("{line}\r\nHost: {at}\r\n\r\n")).await;
        let answer = wire.maybe_response("GET").await.unwrap_or_else(|| panic!("{line:?}: no answer"));
        assert_eq!(answer.status, 400, "{line:?}: {answer:?}");
        wire.closed().await;
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    let records = sekisho.terminals("request", lines.len() as u64).await;
    assert!(records.iter().all(|record| record.reason() == "malformed_request"));
}

#[tokio::test]
async fn e05_e06_e07_chunks_that_are_none_never_reach_the_origin_whole() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let rows = [
        ("E05 0x", "0x5\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E05 plus", "+5\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E05 space before", " 5\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E05 empty", "\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E05 17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E05 2^63", "8000000000000000\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E05 garbage behind", "5g\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E06 bare LF", "5\nhello\r\n0\r\n\r\n".to_owned()),
        ("E06 bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E06 CR before ;", "5\r;a\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E06 1 MB of extension", format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(1_000_000))),
        ("E06 no CRLF behind the data", "5\r\nhello0\r\n\r\n".to_owned()),
        ("E06 more data than said", "4\r\nhello\r\n0\r\n\r\n".to_owned()),
        ("E07 a CRLF too many", "5\r\nhello\r\n\r\n0\r\n\r\n".to_owned()),
        ("E07 a trailer without colon", "5\r\nhello\r\n0\r\nX\r\n\r\n".to_owned()),
        ("E07 a folded trailer", "5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n".to_owned()),
        ("E07 framing in a trailer", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n".to_owned()),
    ];
    let count = rows.len() as u64;
    for (row, body) in rows {
        let mut wire = inside(&sekisho, &origin).await;
        let head = format!("POST /a HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let _ = wire.try_send(format!("{head}{body}GET /smuggled HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        if let Some(answer) = wire.maybe_response("POST").await {
            assert_eq!(answer.status, 400, "{row}: {answer:?}");
        }
        assert!(wire.maybe_response("GET").await.is_none(), "{row}: the connection goes on");
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    let records = sekisho.terminals("request", count).await;
    assert!(records.iter().all(|record| record.reason() == "malformed_request"), "{records:#?}");
}

#[tokio::test]
async fn bodies_arrive_as_they_were_sent() {
    let origin = Origin::https(&["allowed.test"]).expecting(&["content-digest"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    let long = "z".repeat(300_000);
    let rows: Vec<(&str, String, String)> = vec![
        ("Content-Length", "Content-Length: 5\r\n\r\nhello".into(), "hello".into()),
        ("Content-Length: 0", "Content-Length: 0\r\n\r\n".into(), String::new()),
        (
            "chunked",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".into(),
            "hello world".into(),
        ),
        ("E04 in any case", "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(), "hello".into()),
        ("E06 an extension", "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n".into(), "hello".into()),
        ("long", format!("Content-Length: {}\r\n\r\n{long}", long.len()), long.clone()),
    ];
    for (row, rest, body) in rows {
        wire.send(format!("POST /{} HTTP/1.1\r\nHost: {at}\r\n{rest}", row.len())).await;
        assert_eq!(wire.response("POST").await.status, 200, "{row}");
        let seen = origin.requests().pop().expect("a request");
        assert_eq!(seen.body, body.as_bytes(), "{row}");
        let framings = seen.values("content-length").len() + seen.values("transfer-encoding").len();
        assert_eq!(framings, 1, "{row}: exactly one framing: {}", seen.head);
        let record = sekisho.next_request().await;
        record.says("allowed", "");
        assert_eq!(record.number("source.bytes"), body.len() as u64, "{row}: {record:?}");
    }
}

#[tokio::test]
async fn g04_request_trailers_pass_by_allowlist_alone() {
    let origin = Origin::https(&["allowed.test"]).expecting(&["content-digest"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Secret, Restrict-Access-To-Tenants\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Secret: 1\r\nRestrict-Access-To-Tenants: evil\r\nContent-Digest: sha-256=:AA==:\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.response("POST").await.status, 200);
    let seen = origin.requests().pop().expect("a request");
    assert!(seen.trailers.iter().all(|(name, _)| name.eq_ignore_ascii_case("content-digest")), "{:?}", seen.trailers);
    assert!(seen.values("trailer").is_empty());
    sekisho.next_request().await.says("allowed", "");
}

#[tokio::test]
async fn e12_content_where_none_is_expected_does_not_outlive_its_request() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let mut wire = inside(&sekisho, &origin).await;
        wire.send(format!("{method} / HTTP/1.1\r\nHost: {at}\r\nContent-Length: 5\r\n\r\nhello")).await;
        let answer = wire.response(method).await;
        assert!([200, 400].contains(&answer.status), "{method}: {answer:?}");
        sekisho.next_request().await;
    }
    assert!(origin.requests().iter().all(|seen| seen.body == b"hello"), "{:?}", origin.requests());
}

#[tokio::test]
async fn e13_an_expectation_is_met_here_and_odd_ones_are_refused() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(format!("POST / HTTP/1.1\r\nHost: {at}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")).await;
    let interim = wire.head().await.expect("an interim answer");
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    wire.send("hello").await;
    assert_eq!(wire.response("POST").await.status, 200);
    let seen = origin.requests().pop().expect("a request");
    assert_eq!(seen.body, b"hello");
    assert!(seen.values("expect").is_empty());
    sekisho.next_request().await.says("allowed", "");
    for fields in [
        "Expect: 200-ok\r\nContent-Length: 5\r\n",
        "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
        "Expect: 100-continue, x\r\nContent-Length: 5\r\n",
        "Expect: 100-continue\r\n",
        "Expect : 100-continue\r\nContent-Length: 5\r\n",
    ] {
        let mut wire = inside(&sekisho, &origin).await;
        wire.send(format!("POST / HTTP/1.1\r\nHost: {at}\r\n{fields}\r\n")).await;
        let answer = wire.response("POST").await;
        assert!([400, 417].contains(&answer.status), "{fields:?}: {answer:?}");
        assert_eq!(sekisho.next_request().await.outcome(), "denied");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_head_answer_has_no_content() {
    let origin = Origin::https(&["allowed.test"])
        .answering(|seen| {
            Reply::Raw(match seen.method.as_str() {
                "HEAD" => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec(),
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            })
        })
        .start()
        .await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(format!("HEAD / HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    let answer = wire.response("HEAD").await;
    assert_eq!((answer.status, answer.value("content-length").as_str()), (200, "1000"));
    assert_eq!(wire.get(&at, "/next").await.expect("an answer").text(), "ok", "nothing of a body in between");
    sekisho.next_request().await.says("allowed", "").with("http.request.method", "HEAD");
    sekisho.next_request().await.says("allowed", "").with("http.request.method", "GET");
}

#[tokio::test]
async fn answers_of_every_framing_arrive_whole() {
    let origin = Origin::https(&["allowed.test"])
        .answering(|seen| match seen.target.as_str() {
            "/length" => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
            "/chunked" => Reply::Raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum: 1\r\nContent-Length: 9\r\n\r\n".to_vec(),
            ),
            "/chunked-plain" => {
                Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Checksum: 1\r\n\r\n".to_vec())
            }
            "/close" => Reply::RawThenClose(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec()),
            "/close10" => Reply::RawThenClose(b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec()),
            "/204" => Reply::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
            "/304" => Reply::Raw(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec()),
            "/early" => Reply::Raw(
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
                    .to_vec(),
            ),
            other => panic!("{other}"),
        })
        .start()
        .await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    for (path, status, body) in [
        ("/length", 200, "hello"),
        ("/chunked-plain", 200, "hello"),
        ("/204", 204, ""),
        ("/304", 304, ""),
        ("/early", 200, "hello"),
        ("/close", 200, "hello"),
        ("/close10", 200, "hello"),
    ] {
        let mut wire = inside(&sekisho, &origin).await;
        let answer = wire.get(&at, path).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.complete),
            (status, body, true),
            "{path}: {answer:?}"
        );
        let record = sekisho.next_request().await;
        record.says("allowed", "");
        assert_eq!(record.number("destination.bytes"), body.len() as u64, "{path}");
    }
    let mut wire = inside(&sekisho, &origin).await;
    let answer = wire.get(&at, "/chunked").await.expect("an answer");
    assert!(answer.trailers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("content-length")), "{answer:?}");
}

#[tokio::test]
async fn e17_answers_that_are_ambiguous_become_a_page_or_a_visible_cut() {
    let rows: Vec<(&str, &[u8])> = vec![
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ("CL and TE", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a bare LF", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
        ("LF in a value", b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\nhello"),
        ("HTTP/0.9", b"<html>hello</html>"),
        ("101 unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello"),
        ("a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("a 1xx flood", b"FLOOD"),
        ("a header flood", b"HEADERS"),
        ("nothing", b""),
    ];
    for (row, bytes) in rows {
        let bytes = match bytes {
            b"FLOOD" => [
                b"HTTP/1.1 100 Continue\r\n\r\n".repeat(5000),
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
            ]
            .concat(),
            b"HEADERS" => {
                [&b"HTTP/1.1 200 OK\r\n"[..], &b"X: y\r\n".repeat(100_000), b"Content-Length: 0\r\n\r\n"].concat()
            }
            other => other.to_vec(),
        };
        let origin = Origin::https(&["allowed.test"])
            .alpn(&["http/1.1"])
            .answering(move |_| Reply::RawThenClose(bytes.clone()))
            .start()
            .await;
        let mut sekisho = stage(&origin).await;
        let mut wire = inside(&sekisho, &origin).await;
        let answer = wire.get(&origin.at("allowed.test"), "/").await.unwrap_or_else(|| panic!("{row}: no answer"));
        let record = sekisho.next_request().await;
        assert_eq!(answer.status, 502, "{row}: {answer:?}");
        answer.page(502, record.reason());
        assert_eq!(record.outcome(), "failed", "{row}: {record:?}");
        assert!(!answer.text().contains("hello"), "{row}: {answer:?}");
    }
}

#[tokio::test]
async fn n02_a_truncated_answer_looks_truncated() {
    for (row, bytes) in [
        ("Content-Length", &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"[..]),
        ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf of it"),
        ("chunked, no last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n"),
    ] {
        for resets in [false, true] {
            let origin = Origin::https(&["allowed.test"])
                .alpn(&["http/1.1"])
                .answering(move |_| Reply::RawThenClose(bytes.to_vec()));
            let origin = if resets { origin.resetting() } else { origin }.start().await;
            let mut sekisho = stage(&origin).await;
            let mut wire = inside(&sekisho, &origin).await;
            let answer = wire.get(&origin.at("allowed.test"), "/").await;
            let record = sekisho.next_request().await;
            match answer {
                Some(answer) if answer.status == 200 => {
                    assert!(!answer.complete, "{row}: {answer:?}");
                    record.says("failed", "upstream_truncated");
                    assert!(record.number("destination.bytes") <= 10, "{record:?}");
                }
                // A reset may take the head with it.
                Some(answer) => assert!(resets && answer.status == 502, "{row}: {answer:?}"),
                None => assert!(resets, "{row}"),
            }
        }
    }
}

#[tokio::test]
async fn e18_nothing_is_reused_behind_a_half_read_body() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    let hidden = format!("GET /smuggled HTTP/1.1\r\nHost: {at}\r\n\r\n");
    wire.send(format!("POST / HTTP/1.1\r\nHost: denied.test\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()))
        .await;
    wire.response("POST").await.page(421, "name_mismatch");
    wire.closed().await;
    sekisho.next_request().await.says("denied", "name_mismatch");
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
}
