//! Only scenes with the smuggling oracle belong here: how many requests, and which octets, reach the origin before and after a
//! message that leaves its own end open.

use crate::framing::AMBIGUOUS;
use crate::support::by_hand::{ByHand, both_ends, inside, quiet};
use crate::support::client::Tls;
use crate::support::{Config, Origin, Sekisho, Service, within};

/// Whole requests that are none, beside the header fields of [`AMBIGUOUS`]; `@` stands for the authority.
const NO_REQUESTS: [(&str, &[u8]); 23] = [
    (
        "E01 no chunked, and a length",
        b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "E02 three",
        b"POST /a HTTP/1.1\r\nHost: @\r\nContent-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ),
    ("E02 apart", b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nHost: @\r\nContent-Length: 0\r\n\r\nhello"),
    ("E02 a comma behind", b"POST /a HTTP/1.1\r\nHost: @\r\nContent-Length: 5,\r\n\r\nhello"),
    ("E03 two numbers", b"POST /a HTTP/1.1\r\nHost: @\r\nContent-Length: 5 5\r\n\r\nhello"),
    ("E03 a fraction", b"POST /a HTTP/1.1\r\nHost: @\r\nContent-Length: 5.0\r\n\r\nhello"),
    ("E04 empty", b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: \r\n\r\n0\r\n\r\n"),
    ("E04 a parameter", b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    ("E04 in HTTP/1.0", b"POST /a HTTP/1.0\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("E04 NUL behind", b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n"),
    ("E08 a folded Host", b"GET /a HTTP/1.1\r\nHost:\r\n @\r\n\r\n"),
    ("E08 a fold behind Host", b"GET /a HTTP/1.1\r\nHost: @\r\n .denied.test\r\n\r\n"),
    ("E08 a fold before any field", b"GET /a HTTP/1.1\r\n X-Marker: 1\r\nHost: @\r\n\r\n"),
    ("E09 bare LF everywhere", b"GET /a HTTP/1.1\nHost: @\n\n"),
    ("E09 bare LF at the end of the head", b"GET /a HTTP/1.1\r\nHost: @\r\n\n"),
    ("E09 CR in the request line", b"GET /a\r HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("E09 NUL in the target", b"GET /a\0 HTTP/1.1\r\nHost: @\r\n\r\n"),
    ("E10 one octet above ASCII in a name", b"GET /a HTTP/1.1\r\nHost: @\r\nX\x85: 1\r\n\r\n"),
    ("E10 a space in a name", b"GET /a HTTP/1.1\r\nHost: @\r\nX Marker: 1\r\n\r\n"),
    ("E10 parentheses in a name", b"GET /a HTTP/1.1\r\nHost: @\r\nX(1): 1\r\n\r\n"),
    ("E11 HTTP/0.9", b"GET /a\r\n\r\n"),
    (
        "H08 more Connection options than anyone has",
        b"GET /a HTTP/1.1\r\nHost: @\r\nConnection: ,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,x\r\n\r\n",
    ),
    ("E11 two versions", b"GET /a HTTP/1.1 HTTP/1.1\r\nHost: @\r\n\r\n"),
];

fn filled(bytes: &[u8], at: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for octet in bytes {
        if *octet == b'@' { out.extend_from_slice(at.as_bytes()) } else { out.push(*octet) }
    }
    out
}

#[tokio::test]
async fn e01_to_e11_before_and_behind_an_ambiguous_request_nothing_changes_at_the_origin() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin).hosts(&["denied.test"])).await;
    let at = origin.at("allowed.test");
    let fields = AMBIGUOUS
        .iter()
        .map(|(row, fields)| (*row, format!("POST /a HTTP/1.1\r\nHost: @\r\n{fields}\r\n0\r\n\r\n").into_bytes()));
    let rows: Vec<(&str, Vec<u8>)> = fields.chain(NO_REQUESTS.map(|(row, bytes)| (row, bytes.to_vec()))).collect();
    for (n, (row, bytes)) in rows.iter().enumerate() {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        assert_eq!(wire.get(&at, "/before").await.expect("an answer").text(), "origin saw GET /before", "{row}");
        let behind = format!("GET /behind HTTP/1.1\r\nHost: {at}\r\nX-Marker: innocent\r\n\r\n");
        wire.send([filled(bytes, &at), behind.into_bytes()].concat()).await;
        let answer = wire.maybe_response("POST").await.unwrap_or_else(|| panic!("{row}: no answer"));
        answer.page(400, "malformed_request");
        wire.closed().await;
        let heads: Vec<String> = origin.requests().into_iter().map(|seen| seen.head).collect();
        assert_eq!(heads, vec![format!("GET /before HTTP/1.1\r\nHost: {at}\r\n\r\n"); n + 1], "{row}");
        sekisho.next_request().await.says("allowed", "").with("url.path", "/before");
        sekisho.next_request().await.says("denied", "malformed_request");
        sekisho.next_connection().await.says("allowed", "");
    }
    denied.untouched();
    sekisho.finish().await;
}

/// A connection that has answered without `Connection: close` takes the next request, however fast the origin was.
#[tokio::test]
async fn a_connection_that_may_go_on_does() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for round in 0..60 {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        for n in 0..3 {
            let answer = wire.get(&at, "/").await.unwrap_or_else(|| panic!("round {round}: closed before request {n}"));
            assert!(answer.values("connection").is_empty(), "{answer:?}");
            sekisho.next_request().await.says("allowed", "");
        }
        wire.bye().await;
        sekisho.next_connection().await.says("allowed", "");
    }
    assert_eq!(origin.connects(), 60);
    sekisho.finish().await;
}

#[tokio::test]
async fn e11_h01_targets_and_heads_beyond_their_limits_are_431() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for (row, head) in [
        ("E11 a target of 64 KB", format!("GET /{} HTTP/1.1\r\nHost: {at}\r\n\r\n", "a".repeat(65_536))),
        ("H01 a target of 1 MB", format!("GET /{} HTTP/1.1\r\nHost: {at}\r\n\r\n", "a".repeat(1_000_000))),
        ("H01 a field of 1 MB", format!("GET / HTTP/1.1\r\nHost: {at}\r\nX-Marker: {}\r\n\r\n", "a".repeat(1_000_000))),
        ("H01 100 000 fields", format!("GET / HTTP/1.1\r\nHost: {at}\r\n{}\r\n", "X-Marker: 1\r\n".repeat(100_000))),
        ("H08 commas", format!("GET / HTTP/1.1\r\nHost: {at}\r\nConnection: {}\r\n\r\n", ",".repeat(65_536))),
    ] {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        // The answer may come, and the reading end, while this is still being sent.
        let _ = wire.try_send(format!("{head}GET /behind HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        let answer = wire.maybe_response("GET").await.unwrap_or_else(|| panic!("{row}: no answer"));
        answer.page(431, "head_too_large");
        assert!(wire.maybe_response("GET").await.is_none(), "{row}: it goes on");
        sekisho.next_request().await.says("denied", "head_too_large");
        sekisho.next_connection().await;
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    sekisho.finish().await;
}

/// A12: "405/501 and close". Whatever a client glues to a CONNECT is not to be read as requests.
#[tokio::test]
async fn a12_e12_a_connect_inside_ends_the_connection_whatever_is_glued_to_it() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin).hosts(&["denied.test"])).await;
    let (at, other) = (origin.at("allowed.test"), denied.at("denied.test"));
    for (row, target, rest) in [
        ("bare", &other, String::new()),
        ("its own target", &at, String::new()),
        ("a length", &other, "Content-Length: 5\r\n".to_owned()),
        ("chunked", &other, "Transfer-Encoding: chunked\r\n".to_owned()),
    ] {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        let behind = format!("GET /behind HTTP/1.1\r\nHost: {at}\r\nX-Marker: innocent\r\n\r\n");
        wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{rest}\r\n{behind}")).await;
        let answer = wire.response("GET").await;
        assert!([400, 405].contains(&answer.status), "{row}: {answer:?}");
        let more = wire.maybe_response("GET").await;
        assert!(more.is_none(), "{row}: it goes on: {more:?}");
        assert!(origin.requests().is_empty(), "{row}: {:?}", origin.requests());
        assert_eq!(sekisho.next_request().await.outcome(), "denied");
        sekisho.next_connection().await;
    }
    denied.untouched();
    sekisho.finish().await;
}

/// The URI's scheme is not the connection's: RFC 9112 section 3.2.2, RFC 9110 section 7.4; HTTP/2 refuses it too.
#[tokio::test]
async fn a04_an_absolute_form_of_another_scheme_is_refused() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    for scheme in ["http", "HTTP", "ftp", "wss"] {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        wire.send(format!("GET {scheme}://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        let answer = wire.response("GET").await;
        assert!([400, 421].contains(&answer.status), "{scheme}: {answer:?}");
        assert_eq!(sekisho.next_request().await.outcome(), "denied");
        assert!(origin.requests().is_empty(), "{scheme}: {:?}", origin.requests());
    }
}

/// What of a chunked request has left before its defect is seen is cut where it stands: the origin never sees its end, nor one
/// octet behind it.
#[tokio::test]
async fn e05_e06_e07_e18_a_request_that_breaks_in_its_content_is_cut_at_the_origin() {
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let service = Service::inspect("allowed.test", &["allowed.test"], origin.port());
    let mut sekisho = Sekisho::start(&Config::new().service(service).hosts(&["allowed.test"])).await;
    let at = origin.at("allowed.test");
    for (row, body, passed) in [
        ("E05 0x", "0x5\r\nhello\r\n0\r\n\r\n", ""),
        ("E05 a minus", "-5\r\nhello\r\n0\r\n\r\n", ""),
        ("E05 garbage", "5\r\nhello\r\nz\r\n\r\n", "5\r\nhello\r\n"),
        ("E05 2^64", "10000000000000000\r\nhello", ""),
        ("E06 a bare LF", "5\r\nhello\r\n0\n\n", "5\r\nhello\r\n"),
        ("E06 no CRLF behind the data", "5\r\nhelloX0\r\n\r\n", "5\r\nhello\r\n"),
        ("E07 a trailer that is none", "5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n", "5\r\nhello\r\n"),
        ("E07 NUL in a trailer", "5\r\nhello\r\n0\r\nX: \0\r\n\r\n", "5\r\nhello\r\n"),
    ] {
        let tls = Tls::named("allowed.test");
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &tls).await;
        let head = format!("POST /a HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send(format!("{head}{body}GET /behind HTTP/1.1\r\nHost: {at}\r\nX-Marker: innocent\r\n\r\n")).await;
        wire.response("POST").await.page(400, "malformed_request");
        wire.closed().await;
        let (seen, _) = within("the origin's end", far.rest()).await;
        let seen = String::from_utf8_lossy(&seen).into_owned();
        let content = seen.split_once("\r\n\r\n").map_or("", |(_, content)| content);
        assert!(passed.starts_with(content), "{row}: {seen:?}");
        sekisho.next_request().await.says("denied", "malformed_request");
        sekisho.next_connection().await;
        origin.untouched();
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn e13_content_waits_for_our_100_and_the_expectation_stays_here() {
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let service = Service::inspect("allowed.test", &["allowed.test"], origin.port());
    let mut sekisho = Sekisho::start(&Config::new().service(service).hosts(&["allowed.test"])).await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    for expectation in ["100-continue", "100-Continue"] {
        wire.send(format!("POST /a HTTP/1.1\r\nHost: {at}\r\nExpect: {expectation}\r\nContent-Length: 5\r\n\r\n"))
            .await;
        let interim = wire.head().await.expect("an interim answer");
        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
        wire.send("hello").await;
        let head = far.head().await.expect("a head");
        assert!(!head.to_ascii_lowercase().contains("expect"), "{head}");
        assert_eq!(far.exactly(5).await.expect("content"), b"hello");
        // The origin's own 100 says nothing to a client that has had ours.
        far.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let answer = wire.head().await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(wire.exactly(2).await.expect("content"), b"ok");
        sekisho.next_request().await.says("allowed", "");
    }
    // A client that does not wait gets no 100 in the middle of its answer, or one in front of it: never one behind.
    wire.send(format!("POST /a HTTP/1.1\r\nHost: {at}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"))
        .await;
    far.head().await.expect("a head");
    assert_eq!(far.exactly(5).await.expect("content"), b"hello");
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(wire.response("POST").await.text(), "ok");
    quiet(&mut wire);
    sekisho.next_request().await.says("allowed", "");
    // Refused at once, without a 100: what would follow is not wanted (Kettle 2025, 0.CL).
    wire.send("POST /a HTTP/1.1\r\nHost: denied.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let head = wire.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    sekisho.next_request().await.says("denied", "name_mismatch");
}

#[tokio::test]
async fn a10_e16_inner_refusals_stand_between_inner_answers_and_in_the_record() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).set("limits.per_client", "requests_per_second", "10");
    let sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
    let batch: String = (0..100).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: {at}\r\n\r\n")).collect();
    wire.send(batch).await;
    let mut forwarded = Vec::new();
    for n in 0..100 {
        let answer = wire.response("GET").await;
        match answer.status {
            200 => {
                assert_eq!(answer.text(), format!("origin saw GET /{n}"), "answers in the order of the requests");
                forwarded.push(format!("/{n}"));
            }
            _ => drop(answer.page(429, "rate_limited")),
        }
    }
    assert!((10..100).contains(&forwarded.len()), "{}", forwarded.len());
    let seen: Vec<String> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, forwarded, "what was refused never left, and what left was answered");
    assert_eq!(origin.connects(), 1);
    wire.bye().await;
    let records = sekisho.terminals("request", 100).await;
    let refused: u64 =
        records.iter().filter(|record| record.reason() == "rate_limited").map(|record| record.count()).sum();
    let allowed: u64 = records.iter().filter(|record| record.outcome() == "allowed").map(|record| record.count()).sum();
    assert_eq!((allowed, refused), (forwarded.len() as u64, 100 - forwarded.len() as u64));
}
