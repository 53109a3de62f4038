//! Content: rows E05 to E07, G04, N02, the neighbours of each limit, and feeding in pieces.

use bytes::BytesMut;
use proptest::prelude::*;

use super::fields::LOOKED_AT;
use super::request_tests::{mutated, text};
use super::*;

/// What was read: content, trailers, whether it ended, what stayed behind; or why not.
#[derive(Debug, Default, PartialEq)]
struct Content {
    data: Vec<u8>,
    trailers: Vec<(String, String)>,
    ended: bool,
    behind: Vec<u8>,
    refused: Option<BodyError>,
}

fn feed<'a>(framing: Framing, parts: impl IntoIterator<Item = &'a [u8]>) -> Content {
    let (mut reader, mut buf, mut content) = (BodyReader::new(framing), BytesMut::new(), Content::default());
    for part in parts {
        buf.extend_from_slice(part);
        loop {
            match reader.advance(&mut buf) {
                Ok(Part::Data(data)) => {
                    assert!(!data.is_empty());
                    content.data.extend_from_slice(&data);
                }
                Ok(Part::NeedMore) => break,
                Ok(Part::End(trailers)) => {
                    assert!(reader.has_ended());
                    if let Some(trailers) = trailers {
                        content.trailers = trailers.fields().map(|(n, v)| (text(n), text(v))).collect();
                        assert!(!content.trailers.is_empty());
                    }
                    content.ended = true;
                    break;
                }
                Err(error) => {
                    assert_eq!(reader.advance(&mut buf).map(|_| ()), Err(error), "a refusal lasts");
                    assert_eq!(reader.eof(), Err(Truncated));
                    content.refused = Some(error);
                    return content;
                }
            }
        }
    }
    content.behind = buf.to_vec();
    content
}

fn chunked(bytes: &[u8]) -> Content {
    feed(Framing::Chunked, [bytes])
}

fn accepted(bytes: &[u8]) -> Content {
    let content = chunked(bytes);
    assert!(content.ended && content.refused.is_none(), "{content:?}: {}", text(bytes));
    content
}

fn refused(bytes: &[u8], why: &str) {
    match chunked(bytes).refused {
        Some(error) => assert!(error.to_string().contains(why), "{error} is not {why}: {}", text(bytes)),
        None => panic!("not refused ({why}): {}", text(bytes)),
    }
}

const CORPUS: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
    b"5;a=b;c;d=\"e;f\\\"g\"\r\nhello\r\n0000001\r\n!\r\n000;last\r\n\r\n",
    b"A\r\n0123456789\r\n0\r\nX-Sum: abc\r\nX-Empty:\r\n\r\nbehind",
    b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
];

#[test]
fn every_way_of_feeding_reads_the_same() {
    for bytes in CORPUS {
        let expected = chunked(bytes);
        assert_eq!(feed(Framing::Chunked, bytes.chunks(1)), expected, "byte by byte: {}", text(bytes));
        for at in 0..=bytes.len() {
            let (left, right) = bytes.split_at(at);
            assert_eq!(feed(Framing::Chunked, [left, right]), expected, "at {at}: {}", text(bytes));
        }
    }
    for (framing, ended, behind) in [
        (Framing::None, true, "hello world"),
        (Framing::Length(0), true, "hello world"),
        (Framing::Length(5), true, " world"),
        (Framing::Length(11), true, ""),
        (Framing::Length(12), false, ""),
        (Framing::UntilClose, false, ""),
    ] {
        for piece in 1..=11 {
            let content = feed(framing, b"hello world".chunks(piece));
            assert_eq!((content.ended, text(&content.behind)), (ended, behind.to_owned()), "{framing:?} by {piece}");
            assert_eq!(content.data.len() + content.behind.len(), 11);
        }
    }
}

#[test]
fn content_is_not_copied() {
    let mut buf = BytesMut::from(&b"5\r\nhello\r\n0\r\n\r\n"[..]);
    let at = buf.as_ptr();
    let Ok(Part::Data(data)) = BodyReader::new(Framing::Chunked).advance(&mut buf) else { panic!("no data") };
    assert_eq!((data.as_ptr(), &data[..]), (at.wrapping_add(3), &b"hello"[..]));
}

#[test]
fn what_a_chunked_content_says() {
    let content = accepted(CORPUS[1]);
    assert_eq!((text(&content.data), content.behind.len()), ("hello!".to_owned(), 0));
    let content = accepted(CORPUS[2]);
    let trailers = [("X-Sum", "abc"), ("X-Empty", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!((content.trailers, text(&content.behind)), (trailers.to_vec(), "behind".to_owned()));
}

#[test]
fn n02_an_end_inside_the_content_is_truncation() {
    for (framing, bytes, whole) in [
        (Framing::None, &b""[..], true),
        (Framing::Length(5), b"hello", true),
        (Framing::Length(5), b"hell", false),
        (Framing::Length(5), b"", false),
        (Framing::UntilClose, b"", true),
        (Framing::UntilClose, b"hell", true),
        (Framing::Chunked, b"", false),
        (Framing::Chunked, b"5", false),
        (Framing::Chunked, b"5\r\nhell", false),
        (Framing::Chunked, b"5\r\nhello", false),
        (Framing::Chunked, b"5\r\nhello\r\n", false),
        (Framing::Chunked, b"5\r\nhello\r\n0\r\n", false),
        (Framing::Chunked, b"5\r\nhello\r\n0\r\nX: y\r\n", false),
        (Framing::Chunked, b"5\r\nhello\r\n0\r\n\r\n", true),
    ] {
        let (mut reader, mut buf) = (BodyReader::new(framing), BytesMut::from(bytes));
        while let Ok(Part::Data(_)) = reader.advance(&mut buf) {}
        assert_eq!(reader.eof().is_ok(), whole, "{framing:?} {}", text(bytes));
        assert_eq!(reader.has_ended(), whole, "{framing:?} {}", text(bytes));
    }
}

#[test]
fn e05_chunk_sizes() {
    for size in ["", "+5", "-5", " 5", "\t5", "x5", ";a", "00000000000000005", "10000000000000000", "\u{665}"] {
        refused(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes(), "1 to 16 hexadecimal digits");
    }
    for size in ["0x5", "5 ", "5\t", "5 ;a", "5h", "5,5", "5_0", "5.0", "5\u{0}", "5\r"] {
        refused(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes(), "something else than ';' or CRLF");
    }
    for size in ["8000000000000000", "ffffffffffffffff"] {
        refused(format!("{size}\r\nhello").as_bytes(), "above 2^63 - 1");
    }
    for (size, length) in [("5", 5), ("05", 5), ("0000000000000005", 5), ("f", 15), ("F", 15), ("aB", 0xab)] {
        let content = accepted(format!("{size}\r\n{}\r\n0\r\n\r\n", "x".repeat(length)).as_bytes());
        assert_eq!(content.data.len(), length, "{size}");
    }
    // The largest is taken as it is, and never ends.
    let content = chunked(b"7fffffffffffffff\r\nhello");
    assert_eq!((content.refused, content.ended, content.data.len()), (None, false, 5));
}

#[test]
fn e06_line_ends_of_chunks() {
    refused(b"5\nhello\r\n0\r\n\r\n", "bare LF");
    refused(b"5;a\nhello\r\n0\r\n\r\n", "bare LF");
    refused(b"5;a\nb\r\nhello\r\n0\r\n\r\n", "bare LF");
    refused(b"5\r;a\r\nhello\r\n0\r\n\r\n", "something else than ';' or CRLF");
    refused(b"5;a\r;b\r\nhello\r\n0\r\n\r\n", "extension");
    for after in ["0\r\n\r\n", "\n0\r\n\r\n", "\r0\r\n\r\n", "x\r\n0\r\n\r\n", " \r\n0\r\n\r\n"] {
        refused(format!("5\r\nhello{after}").as_bytes(), "does not end in CRLF");
    }
    refused(b"5\r\nhello!", "does not end in CRLF");
    refused(b"4\r\nhello\r\n0\r\n\r\n", "does not end in CRLF");
    refused(b"6\r\nhello\r\n0\r\n\r\n", "does not end in CRLF");
}

#[test]
fn e06_chunk_extensions_are_checked_bounded_and_dropped() {
    for extension in [";a", ";a=b", ";a=\"b\"", ";a=\"\"", ";a=\"\\\"\\\\\"", ";a;b=c;d=\"; \t\";e", ";a=\"\u{e9}\""] {
        assert_eq!(accepted(format!("1{extension}\r\nx\r\n0{extension}\r\n\r\n").as_bytes()).data, b"x");
    }
    for extension in [
        ";",
        ";;",
        ";a;",
        ";a=",
        ";=b",
        "; a",
        ";a =b",
        ";a= b",
        ";a b",
        ";a=\"",
        ";a=\"b",
        ";a=\"b\\\"",
        ";a=\"b\"c",
        ";a=b c",
        ";a=\"\u{0}\"",
        ";a=\"\\\u{1}\"",
        ";\u{e9}",
    ] {
        refused(format!("1{extension}\r\nx\r\n0\r\n\r\n").as_bytes(), "extension");
    }
    let line = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length - 4));
    accepted(line(MAX_CHUNK_LINE).as_bytes());
    refused(line(MAX_CHUNK_LINE + 1).as_bytes(), "longer than 256");
    refused(&[b'0'; MAX_CHUNK_LINE], "longer than 256");
    assert_eq!(chunked(&[b'0'; MAX_CHUNK_LINE - 1]).refused, None);

    // 128 chunks with 128 octets of extensions each are exactly the bound.
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(127));
    let full = chunk.repeat(MAX_CHUNK_EXTENSIONS / 128);
    assert_eq!(accepted(format!("{full}0\r\n\r\n").as_bytes()).data.len(), 128);
    refused(format!("{full}0;a\r\n\r\n").as_bytes(), "exceed 16 KiB");
}

#[test]
fn e07_the_end_of_chunked_content() {
    refused(b"5\r\nhello\r\n\r\n0\r\n\r\n", "1 to 16 hexadecimal digits");
    refused(b"0\r\nhello\r\n\r\n", "no colon");
    refused(b"0\r\nX : y\r\n\r\n", "not a token");
    refused(b"0\r\n X: y\r\n\r\n", "obs-fold");
    refused(b"0\r\nX: y\n\r\n", "bare LF");
    refused(b"0\r\n\n", "bare LF");
    refused(b"0\r\nX: \0\r\n\r\n", "control character");
    assert_eq!(accepted(b"0\r\n\r\nhello").behind, b"hello");
}

#[test]
fn e07_g04_trailers_neither_frame_nor_route() {
    for name in [
        "Content-Length",
        "content_length",
        "Transfer-Encoding",
        "Transfer_Encoding",
        "Host",
        "CONNECTION",
        "Upgrade",
        "TE",
        "Expect",
        "Trailer",
        "Keep-Alive",
        "keep_alive",
        "Proxy-Connection",
    ] {
        refused(format!("0\r\nX: y\r\n{name}: 5\r\n\r\n").as_bytes(), "a trailer field frames");
    }
    // Any other is for the caller's allowlist.
    assert_eq!(accepted(b"0\r\nRestrict-Access-To-Tenants: x\r\n\r\n").trailers.len(), 1);
}

#[test]
fn h01_trailers_hold_their_limits_to_the_octet() {
    let of = |size: usize| format!("0\r\nX: {}\r\n\r\n", "y".repeat(size - 7)).into_bytes();
    accepted(&of(MAX_TRAILERS));
    refused(&of(MAX_TRAILERS + 1), "trailer section exceeds");
    assert_eq!(feed(Framing::Chunked, of(MAX_TRAILERS + 1).chunks(1)), chunked(&of(MAX_TRAILERS + 1)));
    let fields = |count: usize| format!("0\r\n{}\r\n", "X: y\r\n".repeat(count)).into_bytes();
    assert_eq!(accepted(&fields(MAX_TRAILER_FIELDS)).trailers.len(), MAX_TRAILER_FIELDS);
    refused(&fields(MAX_TRAILER_FIELDS + 1), "trailer section exceeds");
}

#[test]
fn h08_dribbled_trailers_are_looked_at_once() {
    let section = format!("X: {}\r\n\r\n", "y".repeat(8000));
    LOOKED_AT.set(0);
    assert!(feed(Framing::Chunked, ["0\r\n", &section].concat().as_bytes().chunks(1)).ended);
    assert_eq!(LOOKED_AT.get(), section.len());
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        chunked(&bytes);
    }

    #[test]
    fn any_octets_read_the_same_in_any_pieces(bytes in mutated(CORPUS), piece in 1..40usize) {
        prop_assert_eq!(feed(Framing::Chunked, bytes.chunks(piece)), chunked(&bytes));
    }

    #[test]
    fn what_is_written_is_read_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..8),
        trailers in prop::collection::vec(("x-[a-z]{1,8}", "[!-~]{0,20}"), 0..4),
        piece in 1..700usize,
    ) {
        let mut out = BytesMut::new();
        chunks.iter().for_each(|chunk| write_chunk(&mut out, chunk));
        let fields = trailers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        write_last_chunk(&mut out, fields).expect("tokens and visible text");
        out.extend_from_slice(b"behind");
        let content = feed(Framing::Chunked, out.chunks(piece));
        prop_assert!(content.ended && content.behind.len() <= 6);
        prop_assert_eq!(content.data, chunks.concat());
        let shown: Vec<_> = trailers.iter().map(|(n, v)| (text(n.as_bytes()), text(v.as_bytes()))).collect();
        prop_assert_eq!(content.trailers, shown);
    }
}
