//! Response heads: row E17 and its neighbours.

use bytes::BytesMut;
use proptest::prelude::*;

use super::fields::LOOKED_AT;
use super::request_tests::{mutated, text};
use super::*;

fn feed<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    request: &Method,
) -> Result<Option<ResponseHead>, ResponseError> {
    let (mut reader, mut buf) = (ResponseReader::default(), BytesMut::new());
    for part in parts {
        buf.extend_from_slice(part);
        match reader.read(&mut buf, request, &Limits::default()) {
            Ok(None) => {}
            Ok(Some(head)) => return Ok(Some(head)),
            Err(error) => {
                let again = reader.read(&mut buf, request, &Limits::default()).map(|_| ());
                assert_eq!(again, Err(error), "a refusal lasts");
                return Err(error);
            }
        }
    }
    Ok(None)
}

fn show(read: Result<Option<ResponseHead>, ResponseError>) -> String {
    match read {
        Ok(None) => "pending".into(),
        Err(error) => format!("refused: {error}"),
        Ok(Some(head)) => {
            let fields: Vec<_> = head.fields().map(|(n, v)| (text(n), text(v))).collect();
            let start = (head.version(), head.status(), text(head.reason_phrase()), head.is_interim());
            let framing = (head.framing(), head.declared_framing(), head.keep_alive(), head.upgrade().map(text));
            let options: Vec<_> = head.connection_options().map(text).collect();
            format!("{start:?} {framing:?} {fields:?} {options:?}")
        }
    }
}

fn accepted_for(request: &Method, bytes: &[u8]) -> ResponseHead {
    match feed([bytes], request) {
        Ok(Some(head)) => head,
        Ok(None) => panic!("pending: {}", text(bytes)),
        Err(error) => panic!("{error}: {}", text(bytes)),
    }
}

fn accepted(bytes: &[u8]) -> ResponseHead {
    accepted_for(&Method::Get, bytes)
}

fn refused_for(request: &Method, bytes: &[u8], why: &str) {
    match feed([bytes], request) {
        Err(error) => {
            assert!(error.to_string().contains(why), "{error} is not {why}: {}", text(bytes));
            assert_eq!(error.reason(), Reason::UpstreamMalformed);
        }
        Ok(_) => panic!("not refused ({why}): {}", text(bytes)),
    }
}

fn refused(bytes: &[u8], why: &str) {
    refused_for(&Method::Get, bytes, why);
}

fn ok(fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes()
}

const CORPUS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello",
    b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
    b"HTTP/1.0 200 \r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81",
    b"HTTP/1.1 404 \xe3\x81\xaa\xe3\x81\x84\r\nUpgrade: h2\r\nUpgrade: h2c\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
    b"HTTP/1.1 200 OK\nServer: x\n\n",
    b"<html>",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
];

#[test]
fn every_way_of_feeding_reads_the_same() {
    for bytes in CORPUS {
        let expected = show(feed([*bytes], &Method::Get));
        assert_eq!(show(feed(bytes.chunks(1), &Method::Get)), expected, "byte by byte: {}", text(bytes));
        for at in 0..=bytes.len() {
            let (left, right) = bytes.split_at(at);
            assert_eq!(show(feed([left, right], &Method::Get)), expected, "at {at}: {}", text(bytes));
        }
    }
}

#[test]
fn e17_the_status_line() {
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.1 200 ", 200, ""),
        ("HTTP/1.1 200", 200, ""),
        ("HTTP/1.0 599  two\twords ", 599, " two\twords "),
        ("HTTP/1.1 100 x", 100, "x"),
    ] {
        let head = accepted(format!("{line}\r\n\r\n").as_bytes());
        assert_eq!((head.status(), head.reason_phrase()), (status, reason.as_bytes()), "{line}");
    }
    assert_eq!(accepted(CORPUS[5]).reason_phrase(), "\u{306a}\u{3044}".as_bytes());
    for line in [
        "HTTP/1.1 099 x",
        "HTTP/1.1 600 x",
        "HTTP/1.1 20 x",
        "HTTP/1.1 2000",
        "HTTP/1.1 +20",
        "HTTP/1.1  200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/2 200",
        "HTTP/1.10 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "<html>",
        "\u{0}",
        "HTTP/1.1 200\n",
    ] {
        refused(format!("{line}\r\n\r\n").as_bytes(), "does not begin with HTTP/1.0 or HTTP/1.1");
    }
    for line in
        ["HTTP/1.1 200 O\u{0}K", "HTTP/1.1 200 O\rK", "HTTP/1.1 200\rOK", "HTTP/1.1 200 OK\n", "HTTP/1.1 200 \u{7f}"]
    {
        refused(format!("{line}\r\n\r\n").as_bytes(), "bare LF or holds a control character");
    }
    // An answer that is none is known at its first octet.
    refused(b"<", "does not begin");
}

#[test]
fn e17_framing_by_status_method_and_fields() {
    use Framing::{Chunked, Length, None, UntilClose};
    let (cl, te) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let cases: [(Method, u16, &str, Framing, Framing); 14] = [
        (Method::Get, 200, cl, Length(5), Length(5)),
        (Method::Get, 200, te, Chunked, Chunked),
        (Method::Get, 200, "", UntilClose, UntilClose),
        (Method::Get, 205, "Content-Length: 0\r\n", Length(0), Length(0)),
        (Method::Get, 204, "", None, None),
        (Method::Get, 204, "Content-Length: 0\r\n", None, None),
        (Method::Get, 100, "", None, None),
        (Method::Get, 304, cl, None, Length(5)),
        (Method::Get, 304, "", None, None),
        (Method::Head, 200, cl, None, Length(5)),
        (Method::Head, 200, te, None, Chunked),
        (Method::Head, 404, "", None, None),
        (Method::Connect, 200, "", None, None),
        (Method::Connect, 403, cl, Length(5), Length(5)),
    ];
    for (method, status, fields, framing, declared) in cases {
        let head = accepted_for(&method, format!("HTTP/1.1 {status} x\r\n{fields}\r\n").as_bytes());
        assert_eq!((head.framing(), head.declared_framing()), (framing, declared), "{method:?} {status} {fields}");
        assert_eq!(head.keep_alive(), framing != UntilClose, "{method:?} {status} {fields}");
    }
    for (method, status) in [(Method::Get, 204), (Method::Get, 103), (Method::Connect, 200), (Method::Connect, 299)] {
        for fields in [cl, te] {
            let head = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
            refused_for(&method, head.as_bytes(), "content is framed in a response that has none");
        }
    }
}

#[test]
fn e17_ambiguous_framing_is_refused() {
    refused(&ok("Content-Length: 5\r\nContent-Length: 5\r\n"), "Content-Length stands more than once");
    refused(&ok("Content-Length: 5, 5\r\n"), "not one plain decimal");
    refused(&ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "side by side");
    refused(&ok("Transfer-Encoding: gzip, chunked\r\n"), "not chunked alone");
    refused(&ok("Transfer-Encoding: identity\r\n"), "not chunked alone");
    refused(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "in an HTTP/1.0 message");
    // HEAD and 304 have no content, but what they say of it is passed on.
    let both = ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    refused_for(&Method::Head, &both, "side by side");
    refused(&ok("X: a\n"), "bare LF");
    refused(&ok(" X: a\r\n"), "obs-fold");
    refused(&ok("X : a\r\n"), "not a token followed by a colon");
    refused(&ok("X: \u{0}\r\n"), "control character");
}

#[test]
fn e17_a_header_flood_is_refused() {
    refused(&ok(&"a: b\r\n".repeat(Limits::FIELDS + 1)), "more field lines");
    assert_eq!(accepted(&ok(&"a: b\r\n".repeat(Limits::FIELDS))).fields().count(), Limits::FIELDS);
    refused(format!("HTTP/1.1 200 {}", "x".repeat(1 << 20)).as_bytes(), "larger than its limit");
}

#[test]
fn e17_e20_101_names_the_protocol_it_switches_to() {
    let switching = |fields: &str| format!("HTTP/1.1 101 x\r\n{fields}\r\n").into_bytes();
    let head = accepted(&switching("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    assert_eq!((head.upgrade(), head.framing()), (Some(&b"websocket"[..]), Framing::None));
    assert!(!head.keep_alive() && !head.is_interim());
    for fields in ["", "Upgrade: websocket\r\n", "Connection: Upgrade\r\n"] {
        refused(&switching(fields), "101 does not name");
    }
    refused(&switching("Connection: Upgrade\r\nUpgrade: a\r\nUpgrade: a\r\n"), "101 does not name");
    refused(b"HTTP/1.0 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "101 does not name");
    let advertised = accepted(&ok("Connection: Upgrade\r\nUpgrade: h2\r\nUpgrade: h2c\r\n"));
    assert_eq!(advertised.upgrade(), None);
}

#[test]
fn interim_responses_come_one_by_one() {
    let mut buf =
        BytesMut::from(&b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest"[..]);
    let mut reader = ResponseReader::default();
    let mut statuses = Vec::new();
    while let Ok(Some(head)) = reader.read(&mut buf, &Method::Get, &Limits::default()) {
        statuses.push((head.status(), head.is_interim()));
        if !head.is_interim() {
            break;
        }
    }
    assert_eq!(statuses, [(100, true), (103, true), (200, false)]);
    assert_eq!(&buf[..], b"rest");
}

#[test]
fn a_connection_persists_by_version_and_option() {
    for (bytes, keep_alive) in [
        ("HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 x\r\nConnection: keep-alive\r\n\r\n", false),
        ("HTTP/1.0 200 x\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.0 200 x\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        assert_eq!(accepted(bytes.as_bytes()).keep_alive(), keep_alive, "{bytes}");
    }
}

#[test]
fn h08_a_dribbled_head_is_looked_at_once() {
    let head = format!("HTTP/1.1 200 {}\r\nX: {}\r\n\r\n", "r".repeat(30_000), "y".repeat(30_000));
    LOOKED_AT.set(0);
    assert!(matches!(feed(head.as_bytes().chunks(1), &Method::Get), Ok(Some(_))));
    assert!((head.len() - 20..=head.len()).contains(&LOOKED_AT.get()), "{} of {}", LOOKED_AT.get(), head.len());
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        show(feed([&bytes[..]], &Method::Get));
    }

    #[test]
    fn any_octets_read_the_same_in_any_pieces(bytes in mutated(CORPUS), piece in 1..40usize) {
        prop_assert_eq!(show(feed(bytes.chunks(piece), &Method::Head)), show(feed([&bytes[..]], &Method::Head)));
    }

    #[test]
    fn what_is_taken_is_written_and_read_back(bytes in mutated(CORPUS), head_request in any::<bool>()) {
        let request = if head_request { Method::Head } else { Method::Get };
        let Ok(Some(head)) = feed([&bytes[..]], &request) else { return Ok(()) };
        let connection = head.upgrade().map_or(Connection::Persist, Connection::Upgrade);
        let mut out = BytesMut::new();
        write_response(&mut out, head.status(), head.reason_phrase(), head.fields(), head.declared_framing(), connection)
            .expect("what was read can be written");
        let again = accepted_for(&request, &out);
        prop_assert_eq!((again.status(), again.reason_phrase()), (head.status(), head.reason_phrase()));
        prop_assert_eq!((again.framing(), again.declared_framing()), (head.framing(), head.declared_framing()));
        prop_assert_eq!(again.upgrade(), head.upgrade());
        let passed_on = |(name, _): &(&[u8], &[u8])| !super::framing::is_writers_own(name);
        let fields: Vec<_> = head.fields().filter(passed_on).collect();
        prop_assert_eq!(again.fields().filter(passed_on).collect::<Vec<_>>(), fields);
    }
}
