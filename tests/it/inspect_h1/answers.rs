//! Only scenes about what an origin's answer does to its client belong here: hostile framing, cuts, large bodies, ends.

use crate::support::by_hand::{ByHand, at_once, both_ends, inside, quiet};
use crate::support::client::Tls;
use crate::support::{Config, Origin, Reply, Sekisho, Service, until, within};

async fn stage() -> (ByHand, Sekisho) {
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let service = Service::inspect("allowed.test", &["allowed.test"], origin.port());
    let config = Config::new().service(service).hosts(&["allowed.test"]);
    let sekisho = Sekisho::start(&config).await;
    (origin, sekisho)
}

fn get(at: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n")
}

/// E17 and E18: what stands behind an answer that has ended is no answer to the next request.
#[tokio::test]
async fn e17_octets_behind_an_answer_are_never_the_next_answer() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for (row, answer, status) in [
        ("204 with content", format!("HTTP/1.1 204 No Content\r\n\r\n{forged}"), 204),
        (
            "204 with a length",
            format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n{forged}", forged.len()),
            204,
        ),
        ("304 with content", format!("HTTP/1.1 304 Not Modified\r\n\r\n{forged}"), 304),
        ("304 with chunks", format!("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n{forged}"), 304),
        ("two answers to one request", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{forged}"), 200),
        (
            "behind the last chunk",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{forged}"),
            200,
        ),
    ] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(get(&at, "/")).await;
        far.head().await.expect("a head");
        far.send(answer).await;
        let answer = wire.response("GET").await;
        // Refusing the whole of it is as good as passing its first half.
        assert!(answer.status == status || answer.status == 502, "{row}: {answer:?}");
        assert!(!answer.text().contains("forged"), "{row}: {answer:?}");
        let _ = wire.try_send(get(&at, "/next")).await;
        if let Some(next) = wire.maybe_response("GET").await {
            assert!(!next.text().contains("forged"), "{row}: {next:?}");
        }
        drop((wire, far));
        sekisho.next_connection().await;
    }
    origin.untouched();
}

/// An answer before its question has nobody to go to; the next question must not get it.
#[tokio::test]
async fn e17_an_answer_nobody_asked_for_ends_the_connection() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    wire.send(get(&at, "/1")).await;
    far.head().await.expect("a head");
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(wire.response("GET").await.text(), "ok");
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await;
    wire.closed().await;
    sekisho.next_request().await.says("allowed", "");
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn e17_heads_of_answers_that_are_none_are_pages() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for (row, head) in [
        ("a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 6\r\n\r\n"),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 6\r\n\r\n"),
        ("no colon", "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 6\r\n\r\n"),
        ("an empty name", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 6\r\n\r\n"),
        ("NUL", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 6\r\n\r\n"),
        ("CR", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 6\r\n\r\n"),
        ("LF in a field", "HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: forged\r\nContent-Length: 6\r\n\r\n"),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 6, 7\r\n\r\n"),
        ("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +6\r\n\r\n"),
        ("an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ("chunked in the middle", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"),
        ("chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 6\r\n\r\n"),
        ("a status beyond 599", "HTTP/1.1 600 OK\r\nContent-Length: 6\r\n\r\n"),
        ("SSH", "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    ] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(get(&at, "/")).await;
        far.head().await.expect("a head");
        far.send(format!("{head}forged")).await;
        let answer = wire.response("GET").await;
        assert_eq!(answer.status, 502, "{row}: {answer:?}");
        answer.page(502, "upstream_malformed");
        assert!(!answer.text().contains("forged") && !answer.head.contains("forged"), "{row}: {answer:?}");
        wire.closed().await;
        sekisho.next_request().await.says("failed", "upstream_malformed");
        sekisho.next_connection().await.says("allowed", "");
    }
    origin.untouched();
    sekisho.finish().await;
}

/// E17: broken chunks behind a good head: the client must see that the answer is not whole.
#[tokio::test]
async fn e17_n02_chunks_of_answers_that_are_none_are_a_visible_cut() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for (row, chunks) in [
        ("0x", "5\r\nhello\r\n0x0\r\n\r\n"),
        ("LF", "5\r\nhello\r\n0\n\n"),
        ("no CRLF", "5\r\nhello0\r\n\r\n"),
        ("2^64", "5\r\nhello\r\n10000000000000000\r\n"),
        ("a trailer that is none", "5\r\nhello\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(get(&at, "/")).await;
        far.head().await.expect("a head");
        far.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")).await;
        match wire.maybe_response("GET").await {
            Some(answer) if answer.status == 502 => drop(answer.page(502, "upstream_malformed")),
            Some(answer) => assert!(!answer.complete && b"hello".starts_with(&answer.body), "{row}: {answer:?}"),
            None => {}
        }
        sekisho.next_request().await.says("failed", "upstream_malformed");
        sekisho.next_connection().await;
    }
    sekisho.finish().await;
}

/// E17: while not one octet of it has gone out, an answer that breaks is a page like any other failure.
#[tokio::test]
async fn e17_an_answer_that_breaks_in_its_first_octets_is_a_page() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for chunks in ["0x5\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n"] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(get(&at, "/")).await;
        far.head().await.expect("a head");
        far.send(format!("HTTP/1.1 200 OK\r\nX-Marker: forged\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")).await;
        let answer = wire.response("GET").await;
        answer.page(502, "upstream_malformed");
        assert!(!answer.head.contains("forged"), "{answer:?}");
        wire.closed().await;
        let record = sekisho.next_request().await;
        record.says("failed", "upstream_malformed");
        assert_eq!(record.number("http.response.status_code"), 502);
        assert_eq!(record.number("destination.bytes"), 0, "{record:?}");
        sekisho.next_connection().await;
    }
    sekisho.finish().await;
}

/// H08: chunks of one octet cost a write together, not one each; whole they are all the same.
#[tokio::test]
async fn h08_chunks_of_one_octet_arrive_whole_in_both_directions() {
    const OCTETS: usize = 50_000;
    let content = "1\r\nx\r\n".repeat(OCTETS) + "0\r\n\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{content}").into_bytes();
    let origin = Origin::https(&["allowed.test"])
        .alpn(&["http/1.1"])
        .answering(move |_| Reply::Raw(answer.clone()))
        .start()
        .await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
    for _ in 0..2 {
        wire.send(format!("POST / HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n{content}")).await;
        let answer = wire.response("POST").await;
        assert!(answer.complete && answer.body == vec![b'x'; OCTETS], "{} octets", answer.body.len());
        assert!(origin.requests().last().expect("a request").body == vec![b'x'; OCTETS]);
        let record = sekisho.next_request().await;
        record.says("allowed", "");
        let counted = (record.number("source.bytes"), record.number("destination.bytes"));
        assert_eq!(counted, (OCTETS as u64, OCTETS as u64));
    }
    wire.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

/// Without close_notify the end of a close-delimited answer may be an attacker's (RFC 9112 section 9.8).
#[tokio::test]
async fn n02_a_close_delimited_answer_ends_with_close_notify_or_is_truncated() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for notified in [true, false] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(get(&at, "/")).await;
        far.head().await.expect("a head");
        far.send("HTTP/1.1 200 OK\r\n\r\nhalf").await;
        if notified {
            far.finish_writing().await;
        }
        drop(far);
        let answer = wire.response("GET").await;
        assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "half", notified), "{answer:?}");
        let record = sekisho.next_request().await;
        if notified {
            record.says("allowed", "")
        } else {
            record.says("failed", "upstream_truncated")
        };
        assert_eq!(record.number("destination.bytes"), 4);
        sekisho.next_connection().await;
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn n02_a_cut_answer_ends_the_clients_connection_without_close_notify() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    wire.send(get(&at, "/")).await;
    far.head().await.expect("a head");
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let head = wire.head().await.expect("a head");
    assert!(head.contains("Content-Length: 100"), "{head}");
    far.finish_writing().await;
    let (rest, end) = wire.rest().await;
    assert_eq!(rest, b"half");
    assert!(end.is_err(), "an end in order hides the cut");
    let record = sekisho.next_request().await;
    record.says("failed", "upstream_truncated").with("url.path", "/");
    assert_eq!(record.number("destination.bytes"), 4);
    assert_eq!(record.number("http.response.status_code"), 200);
    sekisho.next_connection().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn trailers_of_answers_are_kept_less_what_frames() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    wire.send(get(&at, "/")).await;
    far.head().await.expect("a head");
    far.send(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n3\r\nabc\r\n0\r\nX-Checksum: 1\r\n\
         Server-Timing: t\r\nSet-Cookie: a=b\r\nAlt-Svc: h3=\":443\"\r\n\r\n",
    )
    .await;
    let answer = wire.response("GET").await;
    assert_eq!(answer.text(), "abc");
    let kept: Vec<String> =
        answer.trailers.iter().map(|(name, value)| format!("{}: {value}", name.to_lowercase())).collect();
    assert_eq!(kept, ["x-checksum: 1", "server-timing: t"]);
    assert!(answer.values("alt-svc").is_empty() && answer.values("connection").is_empty(), "{}", answer.head);
    sekisho.next_request().await.says("allowed", "");
    quiet(&mut far);
}

const MEGABYTES: usize = 6 * 1024 * 1024;

fn pattern(seed: u8) -> Vec<u8> {
    (0..MEGABYTES).map(|n| (n.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let chunks =
        body.chunks(size).flat_map(|part| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
    chunks.chain(*b"0\r\n\r\n").collect()
}

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions_and_framings() {
    let answer = pattern(1);
    let (length, chunks) = (answer.clone(), chunked(&answer, 70_000));
    let origin = Origin::https(&["allowed.test"])
        .alpn(&["http/1.1"])
        .answering(move |seen| match seen.target.as_str() {
            "/length" => Reply::Ok(length.clone()),
            _ => Reply::Raw([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks.as_slice()].concat()),
        })
        .start()
        .await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let question = pattern(2);
    let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
    for (path, framing, body) in [
        ("/length", format!("Content-Length: {MEGABYTES}"), question.clone()),
        ("/chunked", "Transfer-Encoding: chunked".to_owned(), chunked(&question, 9_999)),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {at}\r\n{framing}\r\n\r\n");
        wire.send([head.as_bytes(), &body].concat()).await;
        let got = wire.response("POST").await;
        assert!(got.complete && got.body == answer, "{path}: {} octets", got.body.len());
        assert!(origin.requests().last().expect("a request").body == question, "{path}");
        let record = sekisho.next_request().await;
        record.says("allowed", "");
        let bytes = (record.number("source.bytes"), record.number("destination.bytes"));
        assert_eq!(bytes, (MEGABYTES as u64, MEGABYTES as u64), "{path}");
    }
    wire.bye().await;
    let record = sekisho.next_connection().await;
    assert!(record.number("source.bytes") >= 2 * MEGABYTES as u64, "{record:?}");
    sekisho.finish().await;
}

/// H07: a client that does not read stops the origin, not the proxy's memory.
#[tokio::test]
async fn h07_a_client_that_does_not_read_holds_the_origin_back() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    wire.send(get(&at, "/")).await;
    far.head().await.expect("a head");
    let whole = 256 * 1024 * 1024_usize;
    far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {whole}\r\n\r\n")).await;
    let block = vec![7; 1024 * 1024];
    // Two writes in a row that do not end: the kernel's buffers and the proxy's are full.
    let mut taken = 0;
    loop {
        let writing = tokio::io::AsyncWriteExt::write_all(&mut far.io, &block);
        if tokio::time::timeout(std::time::Duration::from_millis(700), writing).await.is_err() {
            break;
        }
        taken += block.len();
        assert!(taken < whole / 2, "{taken} octets taken for a client that reads nothing");
    }
    drop(wire);
    let record = sekisho.next_request().await;
    record.says("allowed", "client_closed");
    assert!(record.number("destination.bytes") < whole as u64, "{record:?}");
    sekisho.next_connection().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_ends_the_origins_work() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for (row, behind_the_head) in [("before the answer", false), ("in its content", true)] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(get(&at, "/")).await;
        far.head().await.expect("a head");
        if behind_the_head {
            far.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome of it").await;
            wire.head().await.expect("a head");
            assert_eq!(wire.exactly(10).await.expect("content"), b"some of it");
        }
        drop(wire);
        let _ = within("the origin's end", far.rest()).await;
        let record = sekisho.next_request().await;
        let outcome = if behind_the_head { "allowed" } else { "failed" };
        record.says(outcome, "client_closed");
        assert_eq!(record.number("destination.bytes"), if behind_the_head { 10 } else { 0 }, "{row}: {record:?}");
        sekisho.next_connection().await;
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn an_origin_that_closes_between_requests_ends_the_client_in_order() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for closing in ["Connection: close\r\n", ""] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(get(&at, "/")).await;
        far.head().await.expect("a head");
        far.send(format!("HTTP/1.1 200 OK\r\n{closing}Content-Length: 2\r\n\r\nok")).await;
        assert_eq!(wire.response("GET").await.text(), "ok", "{closing:?}");
        far.finish_writing().await;
        let (rest, end) = wire.rest().await;
        assert!(rest.is_empty() && end.is_ok(), "{closing:?}: {end:?}");
        sekisho.next_request().await.says("allowed", "");
        sekisho.next_connection().await.says("allowed", "");
    }
    origin.untouched();
    sekisho.finish().await;
}

/// E18: the origin hangs up on a request it has not answered: a page, and nothing is sent twice.
#[tokio::test]
async fn e18_a_request_the_origin_hung_up_on_is_a_page_and_never_repeated() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    for method in ["GET", "POST"] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(format!("{method} / HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\n\r\n")).await;
        far.head().await.expect("a head");
        far.finish_writing().await;
        drop(far);
        wire.response(method).await.page(502, "upstream_closed");
        wire.closed().await;
        sekisho.next_request().await.says("failed", "upstream_closed");
        sekisho.next_connection().await;
        origin.untouched();
    }
    sekisho.finish().await;
}

/// An answer before the request is whole: it passes, and the rest of the request is not the next one.
#[tokio::test]
async fn e18_an_early_answer_leaves_no_half_request_behind() {
    let (origin, mut sekisho) = stage().await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    let smuggled = get(&at, "/smuggled");
    wire.send(format!("POST /a HTTP/1.1\r\nHost: {at}\r\nContent-Length: {}\r\n\r\n12345", smuggled.len() + 5)).await;
    far.head().await.expect("a head");
    assert_eq!(far.exactly(5).await.expect("content"), b"12345");
    far.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
    let answer = wire.response("POST").await;
    assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
    assert_eq!(answer.value("connection"), "close", "RFC 9112 section 9.6: {answer:?}");
    let _ = wire.try_send(smuggled).await;
    let (rest, _) = at_once(wire.rest(), async {
        let (seen, _) = far.rest().await;
        assert!(
            !String::from_utf8_lossy(&seen).contains("HTTP/1.1\r\nHost") || seen.starts_with(b"GET /smuggled"),
            "as content alone"
        );
    })
    .await;
    assert!(rest.0.is_empty(), "one answer, not two: {:?}", String::from_utf8_lossy(&rest.0));
    sekisho.next_request().await.with("url.path", "/a");
    sekisho.next_connection().await;
    let requests =
        until("the records", || Some(sekisho.records().iter().filter(|record| record.action() == "request").count()))
            .await;
    assert_eq!(requests, 1);
}
