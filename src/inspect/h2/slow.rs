//! Peers that take their time, on either side: what is due when, and what becomes of a stream or a connection that is late.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::raw::*;
use super::scene::*;
use super::{Ended, Side};
use crate::reason::Reason;

const OK: &[(&str, &str)] = &[(":status", "200")];
const MAX_STREAMS: u16 = 3;
const INITIAL_WINDOW: u16 = 4;
const STREAMS: u32 = 128;
const SECOND: Duration = Duration::from_secs(1);

/// Sends `octets` on each of `streams` every `pause` for as long as `whole`.
async fn trickle(peer: &mut Raw, streams: u32, octets: &[u8], pause: Duration, whole: Duration) {
    let began = Instant::now();
    while began.elapsed() + pause <= whole {
        let frames: Vec<u8> = (0..streams).flat_map(|turn| frame(DATA, 0, turn * 2 + 1, octets)).collect();
        peer.send(&frames).await;
        sleep(pause).await;
    }
}

/// A head of which a part has come is late after as long as one of HTTP/1 is, whatever comes of it meanwhile.
#[tokio::test(start_paused = true)]
async fn f03_h02_half_a_head_is_due_as_a_whole() {
    let block = literal(&asking("GET", "/half", &[]));
    let half_a_frame = headers(3, END_STREAM, &asking("GET", "/half", &[]))[..20].to_vec();
    let no_end = frame(HEADERS, END_STREAM, 3, &block[..10]);
    for (name, first, drip) in [
        ("half a frame", half_a_frame, Vec::new()),
        ("no END_HEADERS", no_end.clone(), Vec::new()),
        ("CONTINUATION now and then", no_end, frame(CONTINUATION, 0, 3, &block[10..11])),
    ] {
        let mut scene = scene().await;
        scene.get(1, "/innocent").await;
        scene.upstream.head().await;
        sleep(IDLE / 2).await;
        let began = Instant::now();
        scene.client.send(&first).await;
        for _ in 0..2 {
            sleep(HEAD / 3).await;
            scene.client.send(&drip).await;
        }
        let rest = scene.client.rest().await;
        assert!(matches!(rest.last(), Some(Got::GoAway { code: ENHANCE_YOUR_CALM, .. })), "{name}: {rest:?}");
        assert_eq!(began.elapsed(), HEAD, "{name}");
        let (ended, mut records) = scene.ended_and_recorded().await;
        assert_eq!(ended, Ended { side: Side::Client, reason: Some(Reason::RequestHeadTimeout) }, "{name}");
        records.sort();
        let due = ["0 failed client_closed sent=0 received=0", "0 failed request_head_timeout sent=0 received=0"];
        assert_eq!(records, due, "{name}");
    }
}

/// Trailers are a head too, and no request of their own.
#[tokio::test(start_paused = true)]
async fn f03_half_of_the_trailers_is_no_second_request() {
    let mut scene = scene().await;
    scene.post(1, &[]).await;
    scene.upstream.head().await;
    scene.client.send(&frame(HEADERS, END_STREAM, 1, b"")).await;
    let began = Instant::now();
    let rest = scene.client.rest().await;
    assert!(matches!(rest.last(), Some(Got::GoAway { code: ENHANCE_YOUR_CALM, .. })), "{rest:?}");
    assert_eq!(began.elapsed(), HEAD);
    let (ended, records) = scene.ended_and_recorded().await;
    assert_eq!(ended.reason, Some(Reason::RequestHeadTimeout));
    assert_eq!(records, ["0 failed client_closed sent=0 received=0"]);
}

/// A head that is whole in time is a head like any other, however many pieces it came in.
#[tokio::test(start_paused = true)]
async fn f03_a_head_in_pieces_that_is_in_time_is_taken() {
    let mut scene = scene().await;
    for stream in [1, 3] {
        let octets = long_headers(stream, END_STREAM, &asking("GET", "/pieces", &[("a", &"x".repeat(20_000))]));
        let pieces: Vec<_> = octets.chunks(octets.len() / 2).collect();
        for piece in pieces {
            scene.client.send(piece).await;
            sleep(HEAD / 3).await;
        }
        let (at, fields, _) = scene.upstream.head().await;
        assert_eq!(get(&fields, ":path"), "/pieces");
        scene.upstream.send(&headers(at, END_STREAM, OK)).await;
        assert_eq!(scene.client.status().await, (stream, "200".to_owned()));
    }
    sleep(HEAD * 2).await;
    scene.still_works(5).await;
}

/// F10: as many streams as there may be, none of which ever ends. The connection is the client's to go on with.
#[tokio::test(start_paused = true)]
async fn f10_h02_streams_that_never_finish_are_ended() {
    let mut scene = scene().await;
    scene.client.send(&window(0, 1 << 30)).await;
    let open: Vec<u8> = (0..STREAMS).flat_map(|turn| headers(turn * 2 + 1, 0, &asking("POST", "/", &[]))).collect();
    let began = Instant::now();
    scene.client.send(&open).await;
    trickle(&mut scene.client, STREAMS, b"x", SECOND * 7, PROGRESS).await;
    for _ in 0..STREAMS {
        assert!(matches!(scene.client.answered().await, (_, status) if status == "408"));
    }
    assert_eq!(began.elapsed(), PROGRESS);
    let records = scene.records(STREAMS as usize).await;
    assert!(records.iter().all(|record| record.starts_with("408 failed too_slow sent=8")), "{records:?}");
    let resets = scene.upstream.frames_within(SECOND).await;
    let resets = resets.iter().filter(|got| matches!(got, Got::Reset { code: CANCEL, .. })).count();
    assert_eq!(resets, STREAMS as usize, "the upstream has none of them left");
    scene.client.frames_within(SECOND).await;
    scene.still_works(STREAMS * 2 + 1).await;
}

/// F06, F07, F10: answers that nobody takes, of a client that opens its windows an octet at a time, or never.
#[tokio::test(start_paused = true)]
async fn f06_f07_f10_answers_that_nobody_takes_are_given_up() {
    let mut scene = with(&[(INITIAL_WINDOW, 0)], &[]).await;
    let began = Instant::now();
    for turn in 0..STREAMS {
        scene.get(turn * 2 + 1, "/large").await;
        let (at, _, _) = scene.upstream.head().await;
        let answer = [headers(at, 0, OK), frame(DATA, 0, at, &[b'x'; 8 * 1024])].concat();
        scene.upstream.send(&answer).await;
        scene.client.head().await;
    }
    for _ in 0..5 {
        sleep(SECOND * 10).await;
        let open: Vec<u8> = (0..STREAMS / 2).flat_map(|turn| window(turn * 2 + 1, 1)).collect();
        scene.client.send(&open).await;
    }
    let (mut octets, mut resets) = (0, 0);
    while resets < STREAMS {
        match scene.client.next().await {
            Got::Data { octets: taken, end: false, .. } => octets += taken.len(),
            Got::Reset { code: CANCEL, .. } => resets += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((octets, began.elapsed()), (5 * 64, PROGRESS));
    let records = scene.records(STREAMS as usize).await;
    // Half of them took five octets each, and that is what is recorded.
    for (received, streams) in [(0, 64), (5, 64)] {
        let due = format!("200 allowed too_slow sent=0 received={received}");
        assert_eq!(records.iter().filter(|record| **record == due).count(), streams, "{records:?}");
    }
    // What was held for them has been given back to the upstream's connection.
    scene.client.send(&settings(&[(INITIAL_WINDOW, 65_535)])).await;
    scene.upstream.frames_within(SECOND).await;
    scene.still_works(STREAMS * 2 + 1).await;
}

/// Both sides speak when they have something to say (gRPC): that is slow, and not late.
#[tokio::test(start_paused = true)]
async fn f10_a_conversation_takes_its_time() {
    let mut scene = scene().await;
    scene.post(1, &[("content-type", "application/grpc")]).await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, OK)).await;
    scene.client.head().await;
    for _ in 0..10 {
        sleep(IDLE - SECOND).await;
        scene.client.send(&frame(DATA, 0, 1, b"x")).await;
        assert!(matches!(scene.upstream.next().await, Got::Data { .. }));
    }
    for _ in 0..10 {
        sleep(IDLE - SECOND).await;
        scene.upstream.send(&frame(DATA, 0, at, b"y")).await;
        assert!(matches!(scene.client.next().await, Got::Data { .. }));
    }
    // Silence ends it all the same.
    let began = Instant::now();
    assert_eq!(scene.client.next().await, Got::Reset { stream: 1, code: CANCEL });
    assert_eq!(
        (began.elapsed(), scene.record().await.as_str()),
        (IDLE, "200 allowed idle_timeout sent=10 received=10")
    );
}

/// F11: an upstream whose answer never quite comes.
#[tokio::test(start_paused = true)]
async fn f11_an_answer_is_due_as_a_whole_from_the_whole_request_on() {
    // (what the upstream does with the stream it has got)
    for name in ["silence", "half a head", "informational now and then", "no stream at all"] {
        let streams = if name == "no stream at all" { 0 } else { 10 };
        let mut scene = with(&[], &[(MAX_STREAMS, streams)]).await;
        let mut began = Instant::now();
        if streams == 0 {
            scene.get(1, "/").await;
        } else {
            scene.post(1, &[]).await;
            let (at, _, _) = scene.upstream.head().await;
            scene.upstream.send(&[window(0, 1 << 20), window(at, 1 << 20)].concat()).await;
            // An upload that takes long does not count.
            for _ in 0..4 {
                sleep(PROGRESS - SECOND).await;
                scene.client.send(&frame(DATA, 0, 1, &[b'x'; 16 * 1024]).repeat(4)).await;
                take(&mut scene.upstream, 64 * 1024).await;
            }
            scene.client.send(&frame(DATA, END_STREAM, 1, b"")).await;
            began = Instant::now();
            match name {
                "half a head" => scene.upstream.send(&frame(HEADERS, 0, at, b"")).await,
                "informational now and then" => {
                    for _ in 0..9 {
                        sleep(SECOND * 10).await;
                        scene.upstream.send(&headers(at, 0, &[(":status", "102")])).await;
                    }
                }
                _ => {}
            }
        }
        assert_eq!(scene.client.status().await, (1, "504".to_owned()), "{name}");
        assert_eq!(began.elapsed(), RESPONSE, "{name}");
        assert!(scene.record().await.starts_with("504 failed upstream_timeout"), "{name}");
    }
}

async fn take(peer: &mut Raw, octets: usize) {
    let mut taken = 0;
    while taken < octets {
        match peer.next().await {
            Got::Data { octets, .. } => taken += octets.len(),
            other => panic!("{other:?}"),
        }
    }
}

/// F11: an upstream that takes nothing, or an octet at a time, is the one that is late, not its client.
#[tokio::test(start_paused = true)]
async fn f11_h02_an_upstream_that_does_not_take_the_request_is_504() {
    for opens in [0, 1] {
        let mut scene = with(&[], &[(INITIAL_WINDOW, 0)]).await;
        let began = Instant::now();
        scene.post(1, &[]).await;
        let (at, _, _) = scene.upstream.head().await;
        scene.client.send(&frame(DATA, 0, 1, &[b'x'; 1000])).await;
        for _ in 0..5 {
            sleep(SECOND * 10).await;
            if opens > 0 {
                scene.upstream.send(&window(at, opens)).await;
            }
        }
        assert_eq!(scene.client.status().await, (1, "504".to_owned()), "{opens}");
        assert_eq!(began.elapsed(), PROGRESS, "{opens}");
        assert!(scene.record().await.starts_with("504 failed upstream_timeout"), "{opens}");
    }
}

/// A client that takes nothing of the connection itself: its streams end by their paces, then the connection by its idle limit.
#[tokio::test(start_paused = true)]
async fn f10_h07_a_client_that_never_reads_is_let_go() {
    let mut scene = with(&[(INITIAL_WINDOW, 1 << 30)], &[]).await;
    scene.client.send(&window(0, 1 << 30)).await;
    let began = Instant::now();
    scene.get(1, "/large").await;
    let (at, _, _) = scene.upstream.head().await;
    scene.upstream.send(&headers(at, 0, OK)).await;
    let content = frame(DATA, 0, at, &[b'x'; 16 * 1024]);
    // As much as its window holds.
    scene.upstream.send(&content.repeat(16)).await;
    let Scene { client, running, .. } = scene;
    let ended = running.await.expect("no panic").expect("an upstream");
    assert_eq!(ended.side, Side::Sekisho);
    let took = began.elapsed();
    assert!(took > PROGRESS + IDLE && took < PROGRESS + IDLE + SECOND * 40, "{took:?}");
    drop(client);
}
