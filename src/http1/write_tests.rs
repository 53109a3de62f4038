//! What is written, to the octet, and that nothing can be written which would be read as something else.

use std::num::NonZeroUsize;

use bytes::BytesMut;
use proptest::prelude::*;

use super::request_tests::text;
use super::*;

type Fields = [(&'static [u8], &'static [u8])];

fn request(
    method: &str,
    path: &str,
    host: &str,
    fields: &Fields,
    framing: Framing,
    connection: Connection<'_>,
) -> Result<String, WriteError> {
    let mut out = BytesMut::from(&b"before|"[..]);
    let method = Method::parse(method.as_bytes()).expect("a method");
    let written = write_request(&mut out, &method, path.as_bytes(), host, fields.iter().copied(), framing, connection);
    assert!(written.is_ok() || &out[..] == b"before|", "half a message: {}", text(&out));
    written.map(|()| String::from_utf8_lossy(&out[7..]).into_owned())
}

fn response(status: u16, fields: &Fields, framing: Framing, connection: Connection<'_>) -> Result<String, WriteError> {
    let mut out = BytesMut::new();
    let written = write_response(&mut out, status, b"Why", fields.iter().copied(), framing, connection);
    assert!(written.is_ok() || out.is_empty(), "half a message: {}", text(&out));
    written.map(|()| String::from_utf8_lossy(&out).into_owned())
}

#[test]
fn requests_to_the_octet() {
    use Connection::{Close, KeepAlive, Persist, Upgrade};
    let fields: &Fields = &[(b"accept", b"*/*"), (b"X", b" \ty z "), (b"Empty", b"")];
    assert_eq!(
        request("POST", "/p?q", "a.test:8443", fields, Framing::Length(1_234_567_890), Close).as_deref(),
        Ok(
            "POST /p?q HTTP/1.1\r\nHost: a.test:8443\r\naccept: */*\r\nX: y z\r\nEmpty: \r\nContent-Length: 1234567890\r\n\
            Connection: close\r\n\r\n"
        )
    );
    let cases = [
        ("GET", "", Framing::None, Persist, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET", "?q", Framing::None, Persist, "GET /?q HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("OPTIONS", "", Framing::None, Persist, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("OPTIONS", "*", Framing::None, Persist, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("OPTIONS", "/", Framing::None, Persist, "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("PUT", "/", Framing::Length(0), Persist, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        ("PUT", "/", Framing::Chunked, Persist, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "/", Framing::None, KeepAlive, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
        (
            "GET",
            "/",
            Framing::None,
            Upgrade(b"websocket"),
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
    ];
    for (method, path, framing, connection, expected) in cases {
        assert_eq!(request(method, path, "a", &[], framing, connection).as_deref(), Ok(expected));
    }
}

#[test]
fn responses_to_the_octet() {
    use Connection::{Close, KeepAlive, Persist, Upgrade};
    let cases = [
        (200, Framing::Length(5), Persist, "HTTP/1.1 200 Why\r\nX: y\r\nContent-Length: 5\r\n\r\n"),
        (
            200,
            Framing::Length(MAX_LENGTH),
            Close,
            "HTTP/1.1 200 Why\r\nX: y\r\nContent-Length: 9223372036854775807\r\nConnection: close\r\n\r\n",
        ),
        (
            599,
            Framing::Chunked,
            KeepAlive,
            "HTTP/1.1 599 Why\r\nX: y\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
        ),
        (200, Framing::UntilClose, Persist, "HTTP/1.1 200 Why\r\nX: y\r\nConnection: close\r\n\r\n"),
        (100, Framing::None, Persist, "HTTP/1.1 100 Why\r\nX: y\r\n\r\n"),
        (
            101,
            Framing::None,
            Upgrade(b"websocket"),
            "HTTP/1.1 101 Why\r\nX: y\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
    ];
    for (status, framing, connection, expected) in cases {
        assert_eq!(response(status, &[(b"X", b"y")], framing, connection).as_deref(), Ok(expected));
    }
}

#[test]
fn e01_the_writer_alone_frames_and_routes() {
    let fields: &Fields = &[
        (b"HOST", b"evil"),
        (b"Content-Length", b"7"),
        (b"content_length", b"7"),
        (b"Transfer-Encoding", b"chunked"),
        (b"transfer_encoding", b"x"),
        (b"connection", b"X"),
        (b"Upgrade", b"h2c"),
        (b"X", b"y"),
    ];
    let written = request("POST", "/", "a", fields, Framing::Length(5), Connection::Persist);
    assert_eq!(written.as_deref(), Ok("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 5\r\n\r\n"));
    let written = response(200, fields, Framing::Chunked, Connection::Persist);
    assert_eq!(written.as_deref(), Ok("HTTP/1.1 200 Why\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n"));
    let mut out = BytesMut::new();
    assert_eq!(write_last_chunk(&mut out, fields.iter().copied()), Ok(()));
    assert_eq!(&out[..], b"0\r\nX: y\r\n\r\n");
}

#[test]
fn e12_unexpected_content_closes_the_connection() {
    for (method, framing, closes) in [
        ("GET", Framing::Length(1), true),
        ("HEAD", Framing::Chunked, true),
        ("DELETE", Framing::Length(1), true),
        ("OPTIONS", Framing::Length(1), true),
        ("GET", Framing::Length(0), false),
        ("GET", Framing::None, false),
        ("POST", Framing::Length(1), false),
        ("PROPFIND", Framing::Length(1), false),
    ] {
        let written = request(method, "/", "a", &[], framing, Connection::Persist).expect("written");
        assert_eq!(written.contains("Connection: close\r\n"), closes, "{method} {framing:?}");
    }
}

#[test]
fn e14_g10_no_text_ends_a_line() {
    for octets in [&b"a\r\nX: y"[..], b"a\nb", b"a\rb", b"a\0b", b"\x7f", b"a b:\r\n\r\nGET / HTTP/1.1"] {
        let mut out = BytesMut::new();
        let host = String::from_utf8_lossy(octets);
        let none = || std::iter::empty::<(&[u8], &[u8])>();
        let persist = Connection::Persist;
        let get = &Method::Get;
        let path = [b"/", octets].concat();
        assert_eq!(write_request(&mut out, get, &path, "a", none(), Framing::None, persist), Err(WriteError::Target));
        assert_eq!(write_request(&mut out, get, b"/", &host, none(), Framing::None, persist), Err(WriteError::Host));
        let protocols = Connection::Upgrade(octets);
        assert_eq!(write_request(&mut out, get, b"/", "a", none(), Framing::None, protocols), Err(WriteError::Upgrade));
        assert_eq!(write_response(&mut out, 200, octets, none(), Framing::None, persist), Err(WriteError::Status));
        for field in [(&b"X"[..], octets), (octets, b"y")] {
            let written = write_request(&mut out, get, b"/", "a", [field], Framing::None, persist);
            assert_eq!(written, Err(WriteError::Field), "{}", text(octets));
            assert_eq!(write_response(&mut out, 200, b"", [field], Framing::None, persist), Err(WriteError::Field));
            assert_eq!(write_last_chunk(&mut out, [field]), Err(WriteError::Field));
            assert!(out.is_empty());
        }
        assert!(Method::parse(octets).is_err());
    }
}

#[test]
fn what_does_not_fit_together_is_not_written() {
    use Connection::{Persist, Upgrade};
    let cases = [
        (request("CONNECT", "/", "a", &[], Framing::None, Persist), WriteError::Target),
        (request("GET", "*", "a", &[], Framing::None, Persist), WriteError::Target),
        (request("GET", "x", "a", &[], Framing::None, Persist), WriteError::Target),
        (request("GET", "/#", "a", &[], Framing::None, Persist), WriteError::Target),
        (request("GET", "/", "", &[], Framing::None, Persist), WriteError::Host),
        (request("GET", "/", "a,b", &[], Framing::None, Persist), WriteError::Host),
        (request("GET", "/", "a", &[(b"", b"y")], Framing::None, Persist), WriteError::Field),
        (request("GET", "/", "a", &[], Framing::UntilClose, Persist), WriteError::Framing),
        (request("TRACE", "/", "a", &[], Framing::Length(1), Persist), WriteError::Framing),
        (request("POST", "/", "a", &[], Framing::Length(MAX_LENGTH + 1), Persist), WriteError::Framing),
        (request("POST", "/", "a", &[], Framing::Length(1), Upgrade(b"websocket")), WriteError::Upgrade),
        (request("GET", "/", "a", &[], Framing::None, Upgrade(b"")), WriteError::Upgrade),
        (response(99, &[], Framing::None, Persist), WriteError::Status),
        (response(600, &[], Framing::None, Persist), WriteError::Status),
        (response(204, &[], Framing::Length(0), Persist), WriteError::Framing),
        (response(100, &[], Framing::Chunked, Persist), WriteError::Framing),
        (response(101, &[], Framing::None, Persist), WriteError::Upgrade),
        (response(200, &[], Framing::None, Upgrade(b"websocket")), WriteError::Upgrade),
    ];
    for (written, expected) in cases {
        assert_eq!(written, Err(expected));
    }
}

#[test]
fn chunk_sizes_are_shortest_hexadecimal() {
    for (length, digits) in
        [(1, "1"), (15, "f"), (16, "10"), (255, "ff"), (4096, "1000"), (usize::MAX, "ffffffffffffffff")]
    {
        let mut out = BytesMut::new();
        begin_chunk(&mut out, NonZeroUsize::new(length).expect("not zero"));
        assert_eq!(&out[..], format!("{digits}\r\n").as_bytes());
    }
    let mut out = BytesMut::new();
    write_chunk(&mut out, b"");
    assert!(out.is_empty(), "an empty chunk would be the last one");
}

proptest! {
    /// Whatever is given to it, what the writer takes reads back as exactly that: one message, nothing behind it.
    #[test]
    fn e14_what_is_written_is_read_back(
        method in prop_oneof![Just("GET".to_owned()), Just("POST".to_owned()), "[A-Z-]{1,12}"],
        path in prop_oneof!["/[!-~]{0,20}", "[\\PC\r\n]{0,8}"],
        host in prop_oneof!["[a-z.]{1,12}", "[\\PC\r\n]{0,8}"],
        fields in prop::collection::vec((prop_oneof![4 => "[A-Za-z_-]{1,18}", 1 => "\\PC{0,4}"],
            prop_oneof![4 => prop::collection::vec(0x20..0xffu8, 0..30), 1 => prop::collection::vec(any::<u8>(), 0..9)]), 0..8),
        length in prop_oneof![Just(None), (0..=MAX_LENGTH).prop_map(Some)],
    ) {
        let Ok(method) = Method::parse(method.as_bytes()) else { return Ok(()) };
        let framing = length.map_or(Framing::None, Framing::Length);
        let pairs = || fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
        let mut out = BytesMut::new();
        if write_request(&mut out, &method, path.as_bytes(), &host, pairs(), framing, Connection::Persist).is_err() {
            prop_assert!(out.is_empty());
            return Ok(());
        }
        // The writer knows nothing of Expect; the reader asks that it fit the framing.
        prop_assume!(!fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("expect")) && method.as_str() != "PRI");
        let head = RequestReader::default().read(&mut out, &Limits::default());
        let head = head.expect("what was written is unambiguous").expect("and complete");
        prop_assert!(out.is_empty());
        prop_assert_eq!((head.method(), head.framing()), (&method, framing));
        prop_assert_eq!(head.host(), Some(host.as_bytes()));
        let own = |(name, _): &(&[u8], &[u8])| !super::framing::is_writers_own(name);
        let given: Vec<_> = pairs().map(|(name, value)| (name, super::fields::trim(value))).filter(own).collect();
        prop_assert_eq!(head.fields().filter(own).collect::<Vec<_>>(), given);
    }
}
