//! Frames cut at every octet, and the order of a refusal's record and its frame.

use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::super::h2_boundaries::{HEAD, PREFACE};
use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).expect("a length").to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

fn seen(frames: &mut Frames, octets: &[u8]) -> Vec<Frame> {
    let mut all = Vec::new();
    let _ = frames.feed(octets, |frame| {
        all.push(frame);
        ControlFlow::Continue(())
    });
    all
}

#[test]
fn boundaries_are_the_same_wherever_the_octets_are_cut() {
    let octets = [
        frame(4, 0, 0, b""),
        frame(HEADERS, END_HEADERS, 1, &[7; 300]),
        reset(0x8000_0001, REFUSED_STREAM),
        // Not a reset's length: its payload is not one.
        frame(RST_STREAM, 0, 3, b"abc"),
        frame(0, 1, 1, &[HEADERS; 70_000]),
        frame(6, 0, 0, b"12345678"),
    ]
    .concat();
    let whole = seen(&mut Frames::default(), &octets);
    let kinds: Vec<_> = whole.iter().map(|frame| (frame.kind, frame.stream, frame.code)).collect();
    assert_eq!(kinds, [(4, 0, None), (1, 1, None), (3, 1, Some(7)), (3, 3, None), (0, 1, None), (6, 0, None)]);
    for cut in 0..octets.len() {
        let mut frames = Frames::default();
        let mut parts = seen(&mut frames, &octets[..cut]);
        parts.extend(seen(&mut frames, &octets[cut..]));
        assert_eq!(parts, whole, "cut at {cut}");
    }
    let mut frames = Frames::default();
    let singly: Vec<_> = octets.iter().flat_map(|octet| seen(&mut frames, &[*octet])).collect();
    assert_eq!(singly, whole);
}

/// A connection whose client has sent `octets` behind its preface, all of them read.
async fn opened_by(octets: &[u8]) -> (Watched<tokio::io::DuplexStream>, tokio::io::DuplexStream, Streams) {
    let (mut client, io) = duplex(1 << 16);
    let streams = Streams::default();
    let mut watched = Watched::client(io, streams.clone());
    let all = [&[b'P'; PREFACE][..], octets].concat();
    client.write_all(&all).await.expect("sent");
    let mut read = vec![0; all.len()];
    watched.read_exact(&mut read).await.expect("read");
    assert_eq!(read, all, "octets pass unchanged");
    (watched, client, streams)
}

#[tokio::test]
async fn a_refusal_waits_for_its_record_and_no_other_frame_does() {
    let heads = [1, 3, 5, 7].map(|stream| frame(HEADERS, END_HEADERS, stream, b"fields")).concat();
    let (mut watched, mut client, streams) = opened_by(&heads).await;
    streams.accepted(1);
    // Of an accepted stream, of one that never was, of the connection.
    let free = [reset(1, 1), reset(99, 1), frame(0, 0, 1, b"content")].concat();
    watched.write_all(&free).await.expect("written");
    assert_eq!((streams.news().0, streams.unanswered()), (None, (3, 0)));

    let cases = [
        (3, reset(3, 1), Why::Malformed),
        (5, reset(5, REFUSED_STREAM), Why::TooManyStreams),
        (7, frame(HEADERS, END_HEADERS, 7, b"431"), Why::Oversized),
    ];
    let mut expected = free;
    for (stream, refusal, why) in cases {
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut watched).poll_write(cx, &refusal))).await;
        assert!(polled.is_pending(), "{why:?} goes out before it is recorded");
        let refused = streams.news().0.expect("held");
        assert_eq!(refused, Refused { stream, why });
        streams.recorded(refused);
        assert_eq!(streams.news().0, None);
        watched.write_all(&refusal).await.expect("written");
        expected.extend(refusal);
    }
    let mut read = vec![0; expected.len()];
    client.read_exact(&mut read).await.expect("read");
    assert_eq!((read, streams.unanswered()), (expected, (0, 0)));
}

#[tokio::test]
async fn a_stream_accepted_while_its_reset_is_held_is_no_refusal() {
    let (mut watched, _client, streams) = opened_by(&frame(HEADERS, END_HEADERS, 1, b"")).await;
    let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut watched).poll_write(cx, &reset(1, 1)))).await;
    assert!(polled.is_pending());
    streams.accepted(1);
    assert_eq!(streams.news().0, None);
    watched.write_all(&reset(1, 1)).await.expect("written");
}

#[tokio::test]
async fn what_was_written_in_part_is_followed_in_part() {
    let (mut client, io) = duplex(16);
    let streams = Streams::default();
    let mut watched = Watched::client(io, streams.clone());
    let data = frame(0, 0, 1, &reset(3, 1));
    let all = [&data[..], &reset(5, 1)].concat();
    streams.ledger().opened.extend([(3, Opened::Whole), (5, Opened::Whole)]);
    let reader = tokio::spawn(async move {
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.map(|_| read)
    });
    // What looks like a reset within DATA is content; the one behind it is held back with all that has not gone before it.
    let mut rest = &data[..];
    while !rest.is_empty() {
        let octets = watched.write(rest).await.expect("written");
        rest = &rest[octets..];
    }
    assert_eq!(streams.news().0, None);
    let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut watched).poll_write(cx, &all[data.len()..]))).await;
    assert!(polled.is_pending());
    streams.recorded(streams.news().0.expect("held"));
    watched.write_all(&all[data.len()..]).await.expect("written");
    drop(watched);
    assert_eq!(reader.await.expect("no panic").expect("read"), all);
}

#[tokio::test]
async fn a_head_in_part_is_told_from_a_whole_one_and_trailers_open_nothing() {
    let octets = [
        frame(HEADERS, 0, 1, b"fie"),
        frame(CONTINUATION, 0, 1, b"l"),
        frame(CONTINUATION, END_HEADERS, 1, b"ds"),
        frame(HEADERS, END_HEADERS, 3, b"fields"),
    ];
    let (_watched, _client, streams) = opened_by(&octets[..2].concat()).await;
    assert_eq!(streams.unanswered(), (0, 1));
    let (_watched, _client, streams) = opened_by(&octets.concat()).await;
    assert_eq!(streams.unanswered(), (2, 0));
    streams.accepted(1);
    let trailers = frame(HEADERS, END_HEADERS, 1, b"trailers");
    streams.ledger().received(seen(&mut Frames::default(), &trailers)[0], Peer::Client);
    assert_eq!(streams.unanswered(), (1, 0));
}

#[test]
fn a_last_header_block_of_more_than_a_frame_is_remembered_and_few_are() {
    let streams = Streams::default();
    let receive = |flags, stream| {
        let frame = Frame { kind: HEADERS, flags, stream, length: 0, code: None };
        streams.ledger().received(frame, Peer::Upstream);
    };
    for (stream, flags) in [(1, END_STREAM | END_HEADERS), (3, END_HEADERS), (5, 0), (7, END_STREAM)] {
        receive(flags, stream);
        assert_eq!(streams.has_long_trailers(stream), stream == 7, "{stream}");
    }
    assert!(!streams.has_long_trailers(7), "asked once");
    assert_eq!(streams.unanswered(), (0, 0), "an upstream opens nothing");
    for stream in 0..1000 {
        receive(END_STREAM, stream);
    }
    assert_eq!(streams.ledger().long_ends.len(), LONG_ENDS);
    assert!(streams.has_long_trailers(999));
}

/// F03: what is counted is the block, whatever frames it comes in and wherever they are cut.
#[tokio::test]
async fn f03_a_head_is_under_way_until_its_last_octet() {
    let octets =
        [frame(HEADERS, 0, 1, b"fie"), frame(CONTINUATION, 0, 1, b""), frame(CONTINUATION, END_HEADERS, 1, b"lds")]
            .concat();
    for cut in 0..=octets.len() {
        let (mut watched, mut client, streams) = opened_by(&octets[..cut]).await;
        let since = streams.news().1;
        assert_eq!(since.is_some(), (HEAD..octets.len()).contains(&cut), "cut at {cut}");
        // What comes meanwhile does not begin it anew; its end ends it, and so does another frame.
        for octet in &octets[cut..octets.len().max(cut + 1) - 1] {
            client.write_all(&[*octet]).await.expect("sent");
            watched.read_exact(&mut [0]).await.expect("read");
            assert!(since.is_none() || streams.news().1 == since, "cut at {cut}");
        }
        assert_eq!(streams.abandon_head(), cut < octets.len(), "cut at {cut}");
    }
    let (_, _, streams) = opened_by(&[&octets[..12], &frame(6, 0, 0, b"12345678")[..]].concat()).await;
    assert_eq!(streams.news().1, None);
    let whole = frame(HEADERS, END_HEADERS, 1, b"fields");
    let (_, _, streams) = opened_by(&[&whole[..], &frame(HEADERS, 0, 3, b"")[..]].concat()).await;
    assert!(streams.news().1.is_some() && streams.abandon_head());
    assert_eq!((streams.news().1, streams.unanswered(), streams.abandon_head()), (None, (1, 0), false));
}
