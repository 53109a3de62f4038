//! Peers that mean harm, on either side: what they cost, and how their connection ends. Every frame here is written by hand.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, duplex};
use tokio::time::{Instant, advance, timeout};

use super::raw::*;
use super::scene::*;
use super::{Ended, Side, UpstreamError, open_upstream, run};
use crate::drain::Drain;
use crate::reason::Reason;

const OK: &[(&str, &str)] = &[(":status", "200")];
const INITIAL_WINDOW: u16 = 4;
const FLOW_CONTROL_ERROR: u32 = 3;
/// The limit on resets that a client provokes or asks for.
const RESETS: usize = 256;

/// What a row of a table sends on a stream.
type Frames<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;

/// Writes until the relay takes no more; what it took.
async fn flood(peer: &mut Raw, bytes: &[u8]) -> usize {
    let mut taken = 0;
    while taken < bytes.len() {
        match timeout(Duration::from_secs(1), peer.io.write(&bytes[taken..])).await {
            Ok(Ok(octets)) => taken += octets,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    taken
}

/// Everything until the end, which must be a GOAWAY with `code`; how many frames came before it.
async fn sent_away(peer: &mut Raw, code: u32) -> Vec<Got> {
    let mut rest = peer.rest().await;
    match rest.pop() {
        Some(Got::GoAway { code: last, .. }) => assert_eq!(last, code, "{rest:?}"),
        other => panic!("GOAWAY was due: {other:?} after {rest:?}"),
    }
    rest
}

fn calm() -> Ended {
    Ended { side: Side::Client, reason: Some(Reason::RateLimited) }
}

#[tokio::test(start_paused = true)]
async fn e14_line_ends_and_other_controls_pass_in_no_part_of_a_head() {
    let good = asking("GET", "/", &[("x-a", "b"), ("host", HOST)]);
    for at in 0..good.len() {
        for evil in ["\r\nx: y", "\n", "\r", "\0", " HTTP/1.1\r\nx: y"] {
            let mut fields = good.clone();
            let value = format!("{}{evil}", fields[at].1);
            fields[at].1 = &value;
            let mut scene = scene().await;
            scene.client.send(&headers(1, END_STREAM, &fields)).await;
            match scene.client.next().await {
                Got::Reset { stream: 1, code: PROTOCOL_ERROR } | Got::GoAway { code: PROTOCOL_ERROR, .. } => {}
                other => panic!("{:?}: {other:?}", fields[at]),
            }
            let quiet = timeout(Duration::from_secs(1), scene.upstream.next()).await;
            assert!(!matches!(quiet, Ok(Got::Head { .. })), "{:?}", fields[at]);
        }
    }
    for name in ["a\r\nx", "a\n", "a:", "a b"] {
        let mut scene = scene().await;
        scene.client.send(&headers(1, END_STREAM, &asking("GET", "/", &[(name, "b")]))).await;
        sent_away(&mut scene.client, PROTOCOL_ERROR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f01_rapid_reset_is_sent_away_and_hardly_reaches_the_upstream() {
    let mut scene = scene().await;
    let pairs: Vec<u8> = (0..10_000u32)
        .flat_map(|turn| {
            let stream = turn * 2 + 1;
            [headers(stream, END_STREAM, &asking("GET", "/", &[])), reset(stream, CANCEL)].concat()
        })
        .collect();
    let taken = flood(&mut scene.client, &pairs).await;
    assert!(taken < pairs.len());
    sent_away(&mut scene.client, ENHANCE_YOUR_CALM).await;
    let heads = scene.upstream.rest().await.iter().filter(|got| matches!(got, Got::Head { .. })).count();
    assert!(heads < RESETS, "{heads}");
    assert_eq!(scene.ended().await, calm());
}

#[tokio::test(start_paused = true)]
async fn f01_a_patient_rapid_reset_is_sent_away_too() {
    let mut scene = scene().await;
    for turn in 0..RESETS {
        let stream = u32::try_from(turn * 2 + 1).expect("a stream");
        scene.get(stream, "/").await;
        let (at, _, _) = scene.upstream.head().await;
        scene.client.send(&reset(stream, CANCEL)).await;
        assert_eq!(scene.upstream.next().await, Got::Reset { stream: at, code: CANCEL });
    }
    sent_away(&mut scene.client, ENHANCE_YOUR_CALM).await;
    assert_eq!(scene.ended().await, calm());
}

#[tokio::test(start_paused = true)]
async fn f01_a_client_whose_streams_are_answered_may_cancel_as_many() {
    let mut scene = scene().await;
    for turn in 0..RESETS {
        let stream = u32::try_from(turn * 4 + 1).expect("a stream");
        scene.get(stream, "/").await;
        scene.upstream.head().await;
        scene.client.send(&reset(stream, CANCEL)).await;
        assert!(matches!(scene.upstream.next().await, Got::Reset { .. }));
        scene.still_works(stream + 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f02_resets_that_a_client_provokes_are_counted() {
    let open = |stream| headers(stream, 0, &asking("POST", "/", &[]));
    let variants: [(&str, u32, Frames); 5] = [
        (
            "window overflow",
            FLOW_CONTROL_ERROR,
            Box::new(move |stream| [open(stream), window(stream, i32::MAX as u32)].concat()),
        ),
        (
            "content-length without content",
            PROTOCOL_ERROR,
            Box::new(|stream| headers(stream, END_STREAM, &asking("GET", "/", &[("content-length", "9")]))),
        ),
        (
            "no :path",
            PROTOCOL_ERROR,
            Box::new(|stream| {
                headers(stream, END_STREAM, &[(":method", "GET"), (":scheme", "https"), (":authority", HOST)])
            }),
        ),
        (
            "depends on itself",
            PROTOCOL_ERROR,
            Box::new(|stream| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat())),
        ),
        ("more streams than announced", REFUSED_STREAM, Box::new(open)),
    ];
    for (name, code, provoke) in variants {
        let mut scene = scene().await;
        let frames: Vec<u8> = (0..RESETS as u32 * 4).flat_map(|turn| provoke(turn * 2 + 1)).collect();
        flood(&mut scene.client, &frames).await;
        let rest = sent_away(&mut scene.client, ENHANCE_YOUR_CALM).await;
        let resets = rest.iter().filter(|got| matches!(got, Got::Reset { code: of, .. } if *of == code)).count();
        assert!(resets <= RESETS, "{name}: {resets}");
        assert_eq!(scene.ended().await, calm(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn f03_a_continuation_flood_is_cut() {
    let mut scene = scene().await;
    let mut frames = frame(HEADERS, END_STREAM, 1, &literal(&asking("GET", "/", &[])));
    for _ in 0..10_000 {
        frames.extend(frame(CONTINUATION, 0, 1, b""));
    }
    let taken = flood(&mut scene.client, &frames).await;
    assert!(taken < frames.len(), "{taken}");
    sent_away(&mut scene.client, ENHANCE_YOUR_CALM).await;
    assert_eq!(scene.ended().await, calm());
}

#[tokio::test(start_paused = true)]
async fn f04_frames_that_must_be_answered_stall_the_client_that_does_not_read() {
    for one in [frame(PING, 0, 0, b"12345678"), settings(&[(INITIAL_WINDOW, 65_535)])] {
        let mut scene = scene().await;
        let frames = one.repeat(40_000);
        let taken = flood(&mut scene.client, &frames).await;
        // What lies in the two pipes and the crate's buffers, each counted generously.
        assert!(taken < 4 * PIPE, "{taken} of {}", frames.len());
        // Not even why it is sent away is read.
        let Scene { client: _stalled, upstream: _waiting, running, .. } = scene;
        assert_eq!(running.await.expect("no panic").expect("an upstream"), calm());
    }
}

/// Frames of every type that carry nothing of a message.
fn idle_frames() -> [(&'static str, Vec<u8>); 9] {
    [
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("PING that answers none", frame(PING, ACK, 0, b"12345678")),
        ("SETTINGS", settings(&[(INITIAL_WINDOW, 65_535)])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 255])),
        ("WINDOW_UPDATE", window(1, 1)),
        ("WINDOW_UPDATE of the connection", window(0, 1)),
        ("RST_STREAM of what is over", reset(1, CANCEL)),
        ("PRIORITY_UPDATE", frame(0x10, 0, 0, &[0, 0, 0, 1])),
        ("a type of its own", frame(0xbb, 0, 0, b"")),
    ]
}

#[tokio::test(start_paused = true)]
async fn f04_frames_that_carry_nothing_are_few() {
    for (name, one) in idle_frames() {
        let mut scene = scene().await;
        scene.still_works(1).await;
        // As many as are let stop nothing.
        scene.client.send(&one.repeat(900)).await;
        scene.still_works(3).await;
        flood(&mut scene.client, &one.repeat(100_000)).await;
        sent_away(&mut scene.client, ENHANCE_YOUR_CALM).await;
        assert_eq!(scene.ended().await, calm(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn f04_f11_an_upstream_that_floods_is_left() {
    for (name, one) in idle_frames() {
        let mut scene = scene().await;
        scene.still_works(1).await;
        scene.get(3, "/").await;
        scene.upstream.head().await;
        let taken = flood(&mut scene.upstream, &one.repeat(100_000)).await;
        assert!(taken < 4 * PIPE, "{name}: {taken}");
        let rest = scene.client.rest().await;
        let page = |got: &Got| matches!(got, Got::Head { stream: 3, fields, .. } if get(fields, ":status") == "502");
        assert!(rest.iter().any(page), "{name}: {rest:?}");
        let (ended, records) = scene.ended_and_recorded().await;
        assert_eq!(ended, Ended { side: Side::Upstream, reason: Some(Reason::UpstreamMalformed) }, "{name}");
        assert!(
            records.iter().any(|record| record.starts_with("502 failed upstream_malformed")),
            "{name}: {records:?}"
        );
    }
}

/// As Go's transport does that was handed 4 MiB and reads it 4 KiB at a time when it comes to it.
#[tokio::test(start_paused = true)]
async fn f04_who_takes_a_body_late_and_in_small_steps_is_no_flood() {
    const STEP: u32 = 4096;
    const STEPS: usize = 1024;
    let mut scene = with(&[(INITIAL_WINDOW, STEP * STEPS as u32)], &[]).await;
    scene.client.send(&window(0, STEP * STEPS as u32)).await;
    scene.get(1, "/").await;
    let (at, ..) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, OK)).await;
    let (mut sent, mut taken, body) = (0, 0, STEP as usize * STEPS);
    while taken < body {
        if sent < body {
            scene.upstream.send(&frame(DATA, 0, at, &[b'x'; 16 * 1024])).await;
            sent += 16 * 1024;
        }
        match scene.client.next().await {
            Got::Data { octets, .. } => taken += octets.len(),
            Got::Head { .. } => {}
            other => panic!("{other:?} behind {taken}"),
        }
    }
    scene.client.send(&[window(0, STEP), window(1, STEP)].concat().repeat(STEPS)).await;
    scene.upstream.send(&frame(DATA, END_STREAM, at, b"y")).await;
    assert_eq!(scene.client.next().await, Got::Data { stream: 1, octets: b"y".into(), end: true });
    scene.still_works(3).await;
}

/// The same the other way: an upstream opens windows for what it is sent.
#[tokio::test(start_paused = true)]
async fn f04_an_upstream_that_takes_content_in_small_steps_is_no_flood() {
    let mut scene = scene().await;
    scene.post(1, &[]).await;
    let (at, ..) = scene.upstream.head().await;
    for _ in 0..2_000 {
        scene.client.send(&frame(DATA, 0, 1, &[b'x'; 1024])).await;
        while !matches!(scene.upstream.next().await, Got::Data { .. }) {}
        scene.upstream.send(&[window(0, 512), window(at, 512)].concat().repeat(2)).await;
    }
    scene.upstream.send(&headers(at, END_STREAM, OK)).await;
    assert_eq!(scene.client.status().await, (1, "200".to_owned()));
}

/// A body given octet by octet pays for no flood beside it.
#[tokio::test(start_paused = true)]
async fn f04_a_window_opened_octet_by_octet_earns_no_flood() {
    let mut scene = with(&[(INITIAL_WINDOW, 0)], &[]).await;
    scene.get(1, "/").await;
    let (at, ..) = scene.upstream.head().await;
    scene.upstream.send(&[headers(at, 0, OK), frame(DATA, 0, at, &[b'x'; 16 * 1024])].concat()).await;
    scene.client.head().await;
    let turn = [window(1, 1), frame(PING, 0, 0, b"12345678").repeat(9)].concat();
    flood(&mut scene.client, &turn.repeat(10_000)).await;
    sent_away(&mut scene.client, ENHANCE_YOUR_CALM).await;
    assert_eq!(scene.ended().await, calm());
}

/// Before its SETTINGS, which are waited for.
#[tokio::test(start_paused = true)]
async fn f04_f11_an_upstream_that_floods_before_its_settings_is_malformed() {
    let (near, far) = duplex(PIPE);
    let mut upstream = Raw::new(far);
    let opening = tokio::spawn(async move { open_upstream(near).await.map(drop) });
    flood(&mut upstream, &frame(PING, 0, 0, b"12345678").repeat(5_000)).await;
    let error = opening.await.expect("no panic").expect_err("left");
    assert_eq!(error.reason(), Reason::UpstreamMalformed, "{error}");
}

/// A window is opened in small steps, and priorities change with each request.
#[tokio::test(start_paused = true)]
async fn f04_a_client_that_asks_and_is_answered_may_send_as_many_as_that_takes() {
    let mut scene = scene().await;
    for turn in 0..1_000 {
        let stream = turn * 2 + 1;
        let more = [window(0, 1).repeat(5), frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9]).repeat(5)].concat();
        scene.client.send(&more).await;
        scene.still_works(stream).await;
    }
}

#[tokio::test(start_paused = true)]
async fn f04_f11_settings_that_are_never_acknowledged_stop_nothing() {
    let mut scene = scene().await;
    (scene.client.acknowledges, scene.upstream.acknowledges) = (false, false);
    for turn in 0..10 {
        scene.still_works(turn * 2 + 1).await;
    }
    scene.client.send(&settings(&[]).repeat(20)).await;
    scene.upstream.send(&settings(&[]).repeat(20)).await;
    scene.still_works(21).await;
}

#[tokio::test(start_paused = true)]
async fn f05_empty_data_frames_are_few() {
    let mut scene = scene().await;
    scene.post(1, &[]).await;
    scene.upstream.head().await;
    let frames = frame(DATA, 0, 1, b"").repeat(10_000);
    flood(&mut scene.client, &frames).await;
    sent_away(&mut scene.client, ENHANCE_YOUR_CALM).await;
    assert_eq!(scene.ended().await, calm());
}

/// A head whose last field is one octet long on the wire: an index into the dynamic table.
fn bomb(fields: usize) -> Vec<u8> {
    let mut block = literal(&asking("GET", "/", &[]));
    // Literal with incremental indexing, the name from the static table: cookie.
    block.extend([0x40 | 32, 1, b'a']);
    block.extend(vec![0x80 | 62; fields - 1]);
    block
}

#[tokio::test(start_paused = true)]
async fn f06_a_header_bomb_is_counted_as_what_it_unpacks_to() {
    // (fields, whether our page answers): many fields, more than the header list holds.
    for (fields, page) in [(256, false), (257, true), (2000, false)] {
        let mut scene = scene().await;
        scene.client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb(fields))).await;
        if fields == 256 {
            assert_eq!(all(&scene.upstream.head().await.1, "cookie").len(), fields);
            continue;
        }
        let (stream, status, body) = scene.client.answer().await;
        assert_eq!((stream, status.as_str(), !body.is_empty()), (1, "431", page), "{fields}");
        // Recorded either way, and before the answer.
        let records = scene.log.lines().await;
        assert!(records.len() == 1 && records[0].starts_with("431 denied head_too_large"), "{records:?}");
    }
    let mut scene = scene().await;
    scene.client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb(10_000))).await;
    sent_away(&mut scene.client, ENHANCE_YOUR_CALM).await;
    assert_eq!(scene.ended_and_recorded().await, (calm(), vec!["0 denied rate_limited sent=0 received=0".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn f07_a_window_that_opens_octet_by_octet_does_not_keep_a_stream() {
    let mut scene = with(&[(INITIAL_WINDOW, 0)], &[]).await;
    scene.get(1, "/").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, OK)).await;
    scene.upstream.send(&frame(DATA, 0, at, &[b'x'; 1000])).await;
    scene.client.head().await;
    let (start, mut taken) = (Instant::now(), 0);
    loop {
        taken += 1;
        scene.client.send(&window(1, 1)).await;
        assert_eq!(scene.client.next().await, Got::Data { stream: 1, octets: b"x".into(), end: false });
        if start.elapsed() >= PROGRESS - Duration::from_secs(10) {
            break;
        }
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: CANCEL });
    assert_eq!(start.elapsed(), PROGRESS);
    assert_eq!(scene.upstream.next().await, Got::Reset { stream: at, code: CANCEL });
    assert_eq!(scene.record().await, format!("200 allowed too_slow sent=0 received={taken}"));
}

#[tokio::test(start_paused = true)]
async fn f07_a_page_nobody_takes_is_given_up() {
    let mut scene = with(&[(INITIAL_WINDOW, 0)], &[]).await;
    scene.client.send(&headers(1, END_STREAM, &asking("GET", "/", &[("host", "other.example.jp")]))).await;
    assert!(matches!(scene.client.head().await, (1, _, false)));
    assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: CANCEL });
    scene.still_works(3).await;
}

/// RFC 7541: what is no header block ends the connection (the crate calls it PROTOCOL_ERROR), and costs no more than its octets.
#[tokio::test(start_paused = true)]
async fn f08_header_blocks_that_are_none_end_the_connection() {
    let good = literal(&asking("GET", "/", &[]));
    let behind = |more: &[u8]| [&good[..], more].concat();
    let before = |more: &[u8]| [more, &good[..]].concat();
    for (name, block) in [
        ("index 0", behind(&[0x80])),
        ("an index beyond both tables", behind(&[0xff, 0x80, 0x01])),
        ("an index without end", behind(&[&[0xff][..], &[0x80; 12]].concat())),
        ("a length beyond the block", behind(&[0, 1, b'a', 0x7f, 0xff, 0xff, 0x03])),
        ("a length without end", behind(&[&[0, 1, b'a', 0x7f][..], &[0xff; 12]].concat())),
        ("Huffman padding of a whole octet", behind(&[0, 1, b'a', 0x81, 0xff])),
        ("Huffman padding of zeros", behind(&[0, 1, b'a', 0x81, 0x00])),
        ("Huffman's end of string", behind(&[0, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff])),
        ("a table larger than announced", before(&[0x3f, 0xe2, 0x1f])),
        ("a table size behind a field", behind(&[0x20])),
    ] {
        let mut scene = scene().await;
        scene.client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        let rest = scene.client.rest().await;
        assert!(
            matches!(rest.last(), Some(Got::GoAway { code: PROTOCOL_ERROR | COMPRESSION_ERROR, .. })),
            "{name}: {rest:?}"
        );
        let (ended, records) = scene.ended_and_recorded().await;
        assert_eq!(ended, Ended { side: Side::Client, reason: Some(Reason::MalformedRequest) }, "{name}");
        assert_eq!(records, ["0 denied malformed_request sent=0 received=0"], "{name}");
    }
    // A table that is emptied and grown again and again is lawful, and nothing is kept of it.
    let mut scene = scene().await;
    let churn = [0x20, 0x3f, 0xe1, 0x1f].repeat(1000);
    scene.client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &before(&churn))).await;
    assert_eq!(get(&scene.upstream.head().await.1, ":path"), "/");
}

#[tokio::test(start_paused = true)]
async fn f09_frames_that_break_the_protocol_end_the_connection() {
    let request = headers(3, END_STREAM, &asking("GET", "/", &[]));
    let open = headers(3, 0, &asking("POST", "/", &[]));
    let long = vec![0; 16 * 1024 + 1];
    // (what, frames, the connection's error, the requests it held)
    let rows: [(&str, Vec<u8>, u32, usize); 13] = [
        ("an even stream", headers(2, END_STREAM, &asking("GET", "/", &[])), PROTOCOL_ERROR, 1),
        (
            "a lower stream",
            [&request[..], &headers(1, END_STREAM, &asking("GET", "/", &[]))].concat(),
            PROTOCOL_ERROR,
            1,
        ),
        ("the same stream", [&request[..], &request].concat(), PROTOCOL_ERROR, 1),
        (
            "push by a client",
            [&open[..], &frame(PUSH_PROMISE, END_HEADERS, 3, &[0, 0, 0, 4])].concat(),
            PROTOCOL_ERROR,
            1,
        ),
        ("a frame too long", frame(PING, 0, 0, &long), FRAME_SIZE_ERROR, 0),
        ("all padding", [&open[..], &frame(DATA, PADDED, 3, &[4, 0, 0, 0])].concat(), PROTOCOL_ERROR, 1),
        ("content behind the end", [&request[..], &frame(DATA, 0, 3, b"x")].concat(), PROTOCOL_ERROR, 1),
        ("content of no stream", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR, 0),
        ("content of an idle stream", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR, 0),
        ("a window of nothing", window(0, 0), PROTOCOL_ERROR, 0),
        ("a stream's window of nothing", [&open[..], &window(3, 0)].concat(), PROTOCOL_ERROR, 1),
        ("a window too short", [&open[..], &frame(WINDOW_UPDATE, 0, 3, &[0, 0, 1])].concat(), PROTOCOL_ERROR, 1),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR, 0),
    ];
    for (name, frames, code, requests) in rows {
        let mut scene = scene().await;
        scene.client.send(&frames).await;
        let rest = scene.client.rest().await;
        assert!(matches!(rest.last(), Some(Got::GoAway { code: of, .. }) if *of == code), "{name}: {rest:?}");
        let (ended, records) = scene.ended_and_recorded().await;
        assert_eq!(ended, Ended { side: Side::Client, reason: Some(Reason::MalformedRequest) }, "{name}");
        assert_eq!(records.len(), requests, "{name}: {records:?}");
    }
    let mut scene = scene().await;
    scene.client.send(&frame(0xfa, 0xff, 1, b"unknown")).await;
    scene.still_works(1).await;
}

#[tokio::test(start_paused = true)]
async fn every_stream_over_the_limit_and_every_one_below_it_is_recorded_once() {
    let mut scene = scene().await;
    let open: Vec<u8> = (0..140).flat_map(|turn| headers(turn * 2 + 1, 0, &asking("POST", "/", &[]))).collect();
    scene.client.send(&open).await;
    for over in 128..140 {
        assert_eq!(scene.client.next().await, Got::Reset { stream: over * 2 + 1, code: REFUSED_STREAM });
    }
    assert_eq!(scene.log.lines().await, vec!["0 denied rate_limited sent=0 received=0"; 12]);
    let (_, records) = scene.ended_and_recorded().await;
    let of = |reason| records.iter().filter(|record| record.contains(reason)).count();
    assert_eq!((records.len(), of("rate_limited"), of("client_closed")), (140, 12, 128), "{records:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_client_that_leaves_at_once_are_recorded_and_half_a_head_is_none() {
    let (mut client, client_io) = duplex(PIPE);
    let (upstream, upstream_io) = duplex(PIPE);
    let mut peer = Raw::new(upstream);
    peer.send(&settings(&[])).await;
    let get = |stream| headers(stream, END_STREAM, &asking("GET", "/", &[]));
    let half = frame(HEADERS, END_STREAM, 5, &literal(&asking("GET", "/", &[])));
    let all = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings(&[])[..], &get(1), &get(3), &half].concat();
    client.write_all(&all).await.expect("sent");
    client.shutdown().await.expect("its FIN");
    let (scope, log) = scope(Drain::never());
    let ended = run(scope, client_io, open_upstream(upstream_io).await.expect("SETTINGS"), HEAD).await;
    assert_eq!(ended.side, Side::Client);
    assert_eq!(log.lines().await, vec!["0 failed client_closed sent=0 received=0"; 2]);
}

#[tokio::test(start_paused = true)]
async fn f10_a_client_that_says_nothing_is_let_go() {
    let (_client, client_io) = duplex(PIPE);
    let (upstream, upstream_io) = duplex(PIPE);
    let mut peer = Raw::new(upstream);
    peer.send(&settings(&[])).await;
    let upstream = open_upstream(upstream_io).await.expect("SETTINGS");
    let start = Instant::now();
    let ended = run(scope(Drain::never()).0, client_io, upstream, HEAD).await;
    assert_eq!(ended, Ended { side: Side::Sekisho, reason: Some(Reason::IdleTimeout) });
    assert_eq!(start.elapsed(), IDLE);
}

#[tokio::test(start_paused = true)]
async fn f11_an_upstream_that_pushes_is_malformed() {
    let mut scene = scene().await;
    scene.get(1, "/").await;
    let (at, _, _) = scene.upstream.head().await;
    let pushed = [&2u32.to_be_bytes()[..], &literal(&asking("GET", "/pushed", &[]))].concat();
    scene.upstream.send(&frame(PUSH_PROMISE, END_HEADERS, at, &pushed)).await;
    sent_away(&mut scene.upstream, PROTOCOL_ERROR).await;
    let rest = scene.client.rest().await;
    let answered = |got: &Got| matches!(got, Got::Head { stream: 1, fields, .. } if get(fields, ":status") == "502");
    assert!(rest.iter().any(answered), "{rest:?}");
    assert!(scene.record().await.starts_with("502 failed upstream_malformed"));
    assert_eq!(scene.ended().await, Ended { side: Side::Upstream, reason: Some(Reason::UpstreamMalformed) });
}

/// F11: an upstream that floods is malformed, as a client is: what it has answered stands, the rest is 502.
#[tokio::test(start_paused = true)]
async fn f11_floods_of_an_upstream_end_its_connection() {
    let floods: [(&str, Frames); 4] = [
        ("CONTINUATION", {
            let more = frame(CONTINUATION, 0, 3, b"").repeat(10_000);
            Box::new(move |at| [frame(HEADERS, 0, at, &literal(OK)), more.clone()].concat())
        }),
        ("empty DATA", Box::new(|at| [headers(at, 0, OK), frame(DATA, 0, at, b"").repeat(10_000)].concat())),
        ("a header bomb", {
            // One field of 1,000 octets in the table, then one octet for each copy of it.
            let field = "x".repeat(1000);
            let mut block = literal(OK);
            block.extend([0x40, 1, b'a', 0x7f]);
            block.extend([(1000 - 127) as u8 & 0x7f | 0x80, ((1000 - 127) >> 7) as u8]);
            block.extend(field.as_bytes());
            block.extend(vec![0x80 | 62; 10_000]);
            Box::new(move |at| frame(HEADERS, END_HEADERS | END_STREAM, at, &block))
        }),
        (
            "resets of streams that were none",
            Box::new(|_| (1..20_000).flat_map(|turn| reset(turn * 2, CANCEL)).collect()),
        ),
    ];
    for (name, answer) in floods {
        let mut scene = scene().await;
        scene.still_works(1).await;
        scene.get(3, "/").await;
        let (at, _, _) = scene.upstream.head().await;
        let frames = answer(at);
        flood(&mut scene.upstream, &frames).await;
        let rest = scene.client.frames_within(Duration::from_secs(1)).await;
        let cut = rest.iter().any(|got| match got {
            Got::Head { stream: 3, fields, .. } => get(fields, ":status") == "502",
            Got::Reset { stream: 3, code: INTERNAL_ERROR } => true,
            _ => false,
        });
        assert!(cut, "{name}: {rest:?}");
        assert!(rest.iter().any(|got| matches!(got, Got::GoAway { .. })), "{name}: {rest:?}");
        let (ended, records) = scene.ended_and_recorded().await;
        assert_eq!(ended, Ended { side: Side::Upstream, reason: Some(Reason::UpstreamMalformed) }, "{name}");
        assert_eq!(records.len(), 2, "{name}: {records:?}");
    }
}

/// F11: GOAWAY over and over is GOAWAY once.
#[tokio::test(start_paused = true)]
async fn f11_goaway_without_end_lets_what_runs_finish() {
    let mut scene = scene().await;
    scene.get(1, "/runs").await;
    let (at, _, _) = scene.upstream.head().await;
    let goaway = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat());
    flood(&mut scene.upstream, &[goaway(i32::MAX as u32), goaway(at).repeat(1000)].concat()).await;
    scene.upstream.send(&headers(at, END_STREAM, OK)).await;
    let rest = scene.client.rest().await;
    assert!(rest.iter().any(|got| matches!(got, Got::Head { stream: 1, end: true, .. })), "{rest:?}");
    assert!(rest.iter().filter(|got| matches!(got, Got::GoAway { .. })).count() <= 2, "{rest:?}");
    assert_eq!(scene.ended().await.side, Side::Upstream);
}

#[tokio::test(start_paused = true)]
async fn f11_e17_answers_that_are_too_much_or_wrong_are_502_for_their_stream_alone() {
    let long = "x".repeat(70_000);
    let interim = [(":status", "102")];
    let rows: [(&str, Frames); 7] = [
        ("a status that is none", Box::new(|at| headers(at, END_STREAM, &[(":status", "600")]))),
        ("a header list too long", Box::new(|at| long_headers(at, END_STREAM, &[(":status", "200"), ("a", &long)]))),
        ("informational without end", Box::new(|at| headers(at, 0, &interim).repeat(17))),
        ("lengths that differ", {
            let lengths = [(":status", "200"), ("content-length", "1"), ("content-length", "2")];
            Box::new(move |at| headers(at, 0, &lengths))
        }),
        ("a length that is none", Box::new(|at| headers(at, 0, &[(":status", "200"), ("content-length", "")]))),
        ("no status", Box::new(|at| headers(at, END_STREAM, &[("a", "b")]))),
        ("connection", Box::new(|at| headers(at, END_STREAM, &[(":status", "200"), ("connection", "close")]))),
    ];
    let mut scene = scene().await;
    for (stream, (name, answer)) in (1..).step_by(2).zip(rows) {
        scene.get(stream, "/").await;
        let (at, _, _) = loop {
            match scene.upstream.next().await {
                Got::Head { stream, fields, end } => break (stream, fields, end),
                Got::Reset { .. } => {}
                other => panic!("{name}: {other:?}"),
            }
        };
        scene.upstream.send(&answer(at)).await;
        let (of, status, _) = scene.client.answer().await;
        assert_eq!((of, status.as_str()), (stream, "502"), "{name}");
        let records = scene.records((stream as usize).div_ceil(2)).await;
        assert!(records.last().expect("one").starts_with("502 failed upstream_malformed"), "{name}: {records:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f11_before_settings_an_upstream_is_not_one() {
    let (peer, io) = duplex(PIPE);
    let waits = timeout(Duration::from_secs(30), open_upstream(io)).await;
    assert!(waits.is_err(), "SETTINGS are awaited for as long as the caller likes");
    drop(peer);

    let (mut peer, io) = duplex(PIPE);
    peer.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.expect("room");
    let error = open_upstream(io).await.err().expect("not h2");
    assert!(matches!(error, UpstreamError::Malformed(_)), "{error}");
    assert_eq!(error.reason(), Reason::UpstreamMalformed);

    let (peer, io) = duplex(PIPE);
    drop(peer);
    assert_eq!(open_upstream(io).await.err().expect("closed").reason(), Reason::UpstreamClosed);

    // A zero limit on streams is SETTINGS like any other.
    let (mut peer, io) = duplex(PIPE);
    peer.write_all(&settings(&[(3, 0)])).await.expect("room");
    assert!(open_upstream(io).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_connection_falls_by_another_is_not_called_malformed() {
    let bad_head = frame(HEADERS, END_HEADERS | END_STREAM, 3, &literal_bytes(&[(b"X-Upper", b"1")]));
    let content = [frame(DATA, 0, 1, b"x"), frame(DATA, 0, 1, &vec![0; 300_000])[..100].to_vec()].concat();
    // (what, how the innocent request begins, what brings the connection down, the records)
    let innocent = "0 failed client_closed sent=0 received=0";
    let malformed = "0 denied malformed_request sent=0 received=0";
    for (name, flags, frames, records) in [
        ("another stream's head, without content", END_STREAM, bad_head.clone(), vec![malformed, innocent]),
        ("another stream's head, with content", 0, bad_head, vec![malformed, innocent]),
        ("the client's own reset, whatever its code", END_STREAM, reset(1, PROTOCOL_ERROR), vec![innocent]),
        ("a frame too long", 0, content, vec!["0 failed client_closed sent=1 received=0"]),
    ] {
        let mut scene = scene().await;
        scene.client.send(&headers(1, flags, &asking("POST", "/", &[]))).await;
        scene.upstream.head().await;
        scene.client.send(&frames).await;
        assert!(!matches!(scene.upstream.next().await, Got::Head { .. }));
        let (_, mut got) = scene.ended_and_recorded().await;
        got.sort();
        assert_eq!(got, records, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_of_which_the_crate_keeps_a_part_are_refused_on_both_legs() {
    let field = "x".repeat(3_900);
    let many: Vec<(&str, &str)> = (0..18).map(|_| ("content-digest", &*field)).chain([("grpc-status", "0")]).collect();
    let huge = "x".repeat(40_000);
    let one = [("content-digest", &*huge), ("grpc-status", "0")];
    let fits = "x".repeat(12_000);
    let small = [("content-digest", &*fits), ("grpc-status", "0")];
    for (name, trailers, passes) in [("many", &many[..], false), ("one", &one, false), ("small", &small, true)] {
        let mut scene = scene().await;
        scene.post(1, &[]).await;
        let (at, _, _) = scene.upstream.head().await;
        scene.client.send(&long_headers(1, END_STREAM, trailers)).await;
        if passes {
            let (_, fields, end) = scene.upstream.head().await;
            assert_eq!((get(&fields, "content-digest").len(), end), (12_000, true));
        } else {
            assert_eq!(scene.upstream.next().await, Got::Reset { stream: at, code: CANCEL }, "{name}");
            assert_eq!(scene.client.status().await, (1, "431".to_owned()), "{name}");
            assert!(scene.record().await.starts_with("431 denied head_too_large"), "{name}");
        }
        let mut scene = self::scene().await;
        scene.get(1, "/").await;
        let (at, _, _) = scene.upstream.head().await;
        scene.upstream.send(&headers(at, 0, OK)).await;
        let (_, fields, end) = scene.client.head().await;
        assert_eq!((get(&fields, ":status"), end), ("200", false));
        scene.upstream.send(&long_headers(at, END_STREAM, trailers)).await;
        if passes {
            let (_, fields, end) = scene.client.head().await;
            assert_eq!((get(&fields, "grpc-status"), end), ("0", true));
        } else {
            assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: INTERNAL_ERROR }, "{name}");
            assert_eq!(scene.record().await, "200 failed upstream_truncated sent=0 received=0", "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_behind_the_head_of_an_answer_permits_no_second_try() {
    for code in [REFUSED_STREAM, HTTP_1_1_REQUIRED] {
        let mut scene = scene().await;
        scene.get(1, "/").await;
        let (at, _, _) = scene.upstream.head().await;
        scene.upstream.send(&headers(at, 0, OK)).await;
        scene.client.head().await;
        scene.upstream.send(&reset(at, code)).await;
        assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: INTERNAL_ERROR });
        assert_eq!(scene.record().await, "200 failed upstream_truncated sent=0 received=0");
    }
}
