use std::num::NonZeroU64;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::addrs::ClientAddr;
use crate::admit::{self, Limits, Quotas};

/// Two ends of one TCP connection: ours and the peer's.
#[expect(clippy::disallowed_methods, reason = "the test is the destination")]
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("addr");
    let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(addr));
    (ours.expect("accept").0, theirs.expect("connect"))
}

fn unlimited() -> Arc<Subjects> {
    Subjects::unlimited()
}

fn unbounded() -> Arc<Memory> {
    Arc::new(Memory::new(0))
}

/// With so much to charge.
fn memory(budget: u64) -> Arc<Memory> {
    let memory = Memory::new(0);
    memory.set_ceiling(Some(budget / 3 * 4));
    Arc::new(memory)
}

fn settings(idle: Duration) -> Settings {
    Settings { idle, half_closed: Duration::from_secs(60) }
}

/// From the first octet to the end.
async fn relay(
    prefix: BytesMut,
    client: &TcpStream,
    upstream: &TcpStream,
    counters: &Counters,
    settings: &Settings,
    subjects: &Arc<Subjects>,
    memory: &Arc<Memory>,
) -> TunnelEnd {
    let up = Half { unsent: prefix, ended: false };
    let mut tunnel = Tunnel::new((client, upstream), (up, Half::default()), counters, subjects, memory);
    tunnel.copy(settings).await
}

#[tokio::test]
async fn n05_half_close_passes_on_and_the_other_half_goes_on() {
    let ((ours_client, mut client), (ours_upstream, mut upstream)) = tokio::join!(pair(), pair());
    let counters = Counters::default();
    let peers = async {
        client.write_all(b"request").await.expect("write");
        client.shutdown().await.expect("half-close");
        let mut request = Vec::new();
        upstream.read_to_end(&mut request).await.expect("read to the half-close");
        assert_eq!(request, b"hello request");
        upstream.write_all(b"late answer").await.expect("write");
        drop(upstream);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        assert_eq!(answer, b"late answer");
    };
    let subjects = unlimited();
    let settings = settings(Duration::from_secs(60));
    let relaying = async {
        let hello = "hello ".as_bytes().into();
        let end = relay(hello, &ours_client, &ours_upstream, &counters, &settings, &subjects, &unbounded()).await;
        drop((ours_client, ours_upstream));
        end
    };
    let (end, ()) = tokio::join!(relaying, peers);
    assert_eq!(end, TunnelEnd::Finished);
    assert_eq!(counters.sent.load(Ordering::Relaxed), 13);
    assert_eq!(counters.received.load(Ordering::Relaxed), 11);
}

#[tokio::test]
async fn every_byte_arrives_through_full_socket_buffers() {
    eight_million_arrive(&unbounded()).await;
}

/// Slower than where there is room, and all the same.
#[tokio::test]
async fn h02_every_byte_arrives_where_there_is_no_memory_for_what_is_not_taken() {
    let memory = memory(3);
    eight_million_arrive(&memory).await;
    assert_eq!(memory.refused(), 0, "nothing was read that would have had to be charged");
}

async fn eight_million_arrive(memory: &Arc<Memory>) {
    let ((ours_client, mut client), (ours_upstream, mut upstream)) = tokio::join!(pair(), pair());
    let counters = Counters::default();
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let peers = async move {
        let writing = async {
            upstream.write_all(&sent).await.expect("write");
            upstream.shutdown().await.expect("end");
        };
        let reading = async {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.expect("read");
            assert!(got == expected, "bytes differ");
            client.shutdown().await.expect("end");
        };
        tokio::join!(writing, reading);
        drop((client, upstream));
    };
    let subjects = unlimited();
    let settings = settings(Duration::from_secs(60));
    let (end, ()) = tokio::join!(
        relay(BytesMut::new(), &ours_client, &ours_upstream, &counters, &settings, &subjects, memory),
        peers
    );
    assert_eq!(end, TunnelEnd::Finished);
    assert_eq!(counters.received.load(Ordering::Relaxed), 8_000_000);
}

#[tokio::test]
async fn h02_h07_what_a_slow_reader_leaves_with_us_is_charged_until_it_is_taken() {
    let ((ours_client, mut client), (ours_upstream, mut upstream)) = tokio::join!(pair(), pair());
    SockRef::from(&ours_client).set_send_buffer_size(4096).expect("a small buffer");
    let (memory, counters, subjects) = (memory(3_000_000), Counters::default(), unlimited());
    let settings = settings(Duration::from_secs(60));
    let until = async |charged: fn(u64) -> bool| {
        while !charged(memory.charged()) {
            tokio::task::yield_now().await;
        }
    };
    let peers = async {
        let reading = async {
            until(|charged| charged > TIGHT as u64).await;
            let mut got = vec![0; 2_000_000];
            client.read_exact(&mut got).await.expect("read");
            assert!(got.iter().all(|octet| *octet == 7));
            until(|charged| charged == 0).await;
        };
        let (written, ()) = tokio::join!(upstream.write_all(&[7; 2_000_000]), reading);
        written.expect("written");
        drop((client, upstream));
    };
    let relaying = relay(BytesMut::new(), &ours_client, &ours_upstream, &counters, &settings, &subjects, &memory);
    let (end, ()) = tokio::join!(relaying, peers);
    assert_eq!(end, TunnelEnd::Finished);
}

#[tokio::test]
async fn h02_what_a_tunnel_brings_along_is_charged_too() {
    let ((client, _client), (upstream, _upstream)) = tokio::join!(pair(), pair());
    let (memory, counters, subjects) = (memory(3_000_000), Counters::default(), unlimited());
    let half = |octets| Half { unsent: BytesMut::zeroed(octets), ended: false };
    let halves = (half(60_000), half(100_000));
    let tunnel = Tunnel::new((&client, &upstream), halves, &counters, &subjects, &memory);
    assert_eq!(memory.charged(), 160_000);
    drop(tunnel);
    // What the tunnel's own charge has room for.
    let halves = (half(TIGHT), half(0));
    let tunnel = Tunnel::new((&client, &upstream), halves, &counters, &subjects, &memory);
    assert_eq!(memory.charged(), 0);
    drop(tunnel);
}

#[tokio::test(start_paused = true)]
async fn h03_a_tunnel_over_which_nothing_moves_is_ended() {
    let ((ours_client, _client), (ours_upstream, _upstream)) = tokio::join!(pair(), pair());
    let began = Instant::now();
    let subjects = unlimited();
    let settings = settings(Duration::from_secs(3600));
    let end =
        relay(BytesMut::new(), &ours_client, &ours_upstream, &Counters::default(), &settings, &subjects, &unbounded())
            .await;
    assert_eq!(end, TunnelEnd::Idle);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(3600) && took <= Duration::from_secs(4500), "{took:?}");
}

/// Whose silence it is makes no difference, and neither does a long idle limit.
#[tokio::test(start_paused = true)]
async fn h03_n05_a_tunnel_of_which_one_half_has_ended_does_not_wait_for_the_other_for_ever() {
    for (of_client, idle, least) in [(true, 3600, 60), (false, 3600, 60), (true, 20, 20)] {
        let ((ours_client, mut client), (ours_upstream, mut upstream)) = tokio::join!(pair(), pair());
        let ended = if of_client { &mut client } else { &mut upstream };
        ended.shutdown().await.expect("half-close");
        if of_client { &ours_client } else { &ours_upstream }.readable().await.expect("its end");
        let began = Instant::now();
        let settings = settings(Duration::from_secs(idle));
        let end = relay(
            BytesMut::new(),
            &ours_client,
            &ours_upstream,
            &Counters::default(),
            &settings,
            &Subjects::unlimited(),
            &unbounded(),
        )
        .await;
        assert_eq!(end, TunnelEnd::Idle);
        let took = began.elapsed();
        let latest = Duration::from_secs(least + least / 4 + 1);
        assert!(took >= Duration::from_secs(least) && took <= latest, "{took:?} of {least}");
    }
}

/// What moves in the half that is left keeps it.
#[tokio::test(start_paused = true)]
async fn n05_the_other_half_may_take_its_time_while_it_speaks() {
    let ((ours_client, mut client), (ours_upstream, mut upstream)) = tokio::join!(pair(), pair());
    let counters = Counters::default();
    let peers = async {
        client.shutdown().await.expect("half-close");
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            upstream.write_all(b"x").await.expect("write");
            client.read_u8().await.expect("read");
        }
        drop(upstream);
    };
    let settings = settings(Duration::from_secs(3600));
    let (subjects, moved) = (unlimited(), &counters);
    let memory = unbounded();
    let relaying = relay(BytesMut::new(), &ours_client, &ours_upstream, moved, &settings, &subjects, &memory);
    let (end, ()) = tokio::join!(relaying, peers);
    assert_eq!(end, TunnelEnd::Finished);
    assert_eq!(counters.received.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn a_reset_says_whose_side_broke() {
    let ((ours_client, client), (ours_upstream, _upstream)) = tokio::join!(pair(), pair());
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(client);
    let subjects = unlimited();
    let settings = settings(Duration::from_secs(60));
    let end =
        relay(BytesMut::new(), &ours_client, &ours_upstream, &Counters::default(), &settings, &subjects, &unbounded())
            .await;
    assert_eq!(end, TunnelEnd::ClientClosed);
}

/// Its turn would come behind 20 s.
#[tokio::test]
async fn h03_a_client_that_is_gone_while_its_octets_wait_for_their_turn_is_noticed() {
    let ((ours_client, mut client), (ours_upstream, _upstream)) = tokio::join!(pair(), pair());
    let per_client = Quotas { upload: NonZeroU64::new(1_000), ..Quotas::default() };
    let limits = Limits::new(&admit::Settings { per_client, ..admit::Settings::unlimited() });
    let peer = ClientAddr::new(ours_client.peer_addr().expect("an address"));
    let admission = limits.admit(peer, None).expect("admitted");
    let (counters, memory, settings) = (Counters::default(), unbounded(), settings(Duration::from_secs(60)));
    let leaves = async {
        client.write_all(&[7; 20_000]).await.expect("write");
        while counters.sent.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
        drop(client);
    };
    let subjects = admission.subjects();
    let (end, ()) = tokio::join!(
        relay(BytesMut::new(), &ours_client, &ours_upstream, &counters, &settings, subjects, &memory),
        leaves
    );
    assert_eq!(end, TunnelEnd::ClientClosed);
    let sent = counters.sent.load(Ordering::Relaxed);
    assert!((1..10_000).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_client_that_ended_in_order_and_is_then_gone_has_finished() {
    let ((ours_client, client), (ours_upstream, mut upstream)) = tokio::join!(pair(), pair());
    let peers = async {
        // Its end comes first, then a reset: closing over the unread late answer.
        ours_client.readable().await.expect("the end");
        upstream.write_all(b"late").await.expect("write");
        let mut rest = Vec::new();
        upstream.read_to_end(&mut rest).await.expect("the half-close");
        while upstream.write_all(b"later still").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    drop(client);
    let subjects = unlimited();
    let settings = settings(Duration::from_secs(60));
    let counters = Counters::default();
    let memory = unbounded();
    let end = tokio::select! {
        end = relay(BytesMut::new(), &ours_client, &ours_upstream, &counters, &settings, &subjects, &memory) => end,
        () = async { peers.await; std::future::pending().await } => unreachable!("the relay ends first"),
    };
    assert_eq!(end, TunnelEnd::Finished);
}

/// Its answer may still be on the way to the client, which has not said its end: that connection must not be closed over unread octets.
#[tokio::test]
async fn n02_an_upstream_that_ended_and_is_gone_leaves_the_client_its_time() {
    let ((ours_client, mut client), (ours_upstream, mut upstream)) = tokio::join!(pair(), pair());
    let (counters, subjects, memory) = (Counters::default(), unlimited(), unbounded());
    let settings = settings(Duration::from_secs(60));
    let peers = async {
        upstream.write_all(b"answer").await.expect("write");
        drop(upstream);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read to the end");
        assert_eq!(answer, b"answer");
        loop {
            client.write_all(b"x").await.expect("our side takes it");
            tokio::task::yield_now().await;
        }
    };
    let end = tokio::select! {
        end = relay(BytesMut::new(), &ours_client, &ours_upstream, &counters, &settings, &subjects, &memory) => end,
        () = peers => unreachable!("the relay ends first"),
    };
    assert_eq!(end, TunnelEnd::UpstreamFinished);
}

/// As another process would: at whatever moment the copying is given up, nothing is lost and nothing comes twice.
#[tokio::test]
async fn a_tunnel_goes_on_elsewhere_from_where_it_was() {
    let ((ours_client, mut client), (ours_upstream, mut upstream)) = tokio::join!(pair(), pair());
    SockRef::from(&ours_client).set_send_buffer_size(4096).expect("a small buffer");
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let half_closed = Cell::new(0_u32);
    let peers = async {
        let writing = async {
            upstream.write_all(&sent).await.expect("write");
            upstream.shutdown().await.expect("half-close");
            let mut asked = Vec::new();
            upstream.read_to_end(&mut asked).await.expect("read");
            assert_eq!(asked, b"hello, and more");
        };
        let reading = async {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.expect("read");
            assert!(got == expected, "bytes differ");
            while half_closed.get() == 0 {
                tokio::task::yield_now().await;
            }
            client.write_all(b", and more").await.expect("write");
            client.shutdown().await.expect("end");
        };
        tokio::join!(writing, reading);
    };
    let (memory, subjects, settings) = (unbounded(), unlimited(), settings(Duration::from_secs(60)));
    // Its sockets are its own: their end is the last that the peers are told.
    let half_closed = &half_closed;
    let relaying = async move {
        let mut halves = (Half { unsent: b"hello".as_slice().into(), ended: false }, Half::default());
        let (mut moves, mut with_octets) = (0_u32, 0_u32);
        let mut total = 0;
        loop {
            let counters = Counters::default();
            let mut tunnel = Tunnel::new((&ours_client, &ours_upstream), halves, &counters, &subjects, &memory);
            // Given up behind a few of its own turns, another number each time.
            let mut turns = moves % 7;
            let given_up = poll_fn(|cx| {
                turns = turns.saturating_sub(1);
                if turns > 0 {
                    cx.waker().wake_by_ref();
                }
                if turns == 0 { Poll::Ready(()) } else { Poll::Pending }
            });
            let end = tokio::select! {
                biased;
                end = tunnel.copy(&settings) => Some(end),
                () = given_up => None,
            };
            halves = tunnel.halves().expect("a pipe that is read");
            total += counters.received.load(Ordering::Relaxed);
            with_octets += u32::from(!halves.1.unsent.is_empty());
            half_closed.set(half_closed.get() + u32::from(halves.1.ended && !halves.0.ended));
            moves += 1;
            if let Some(end) = end {
                return (end, total, with_octets);
            }
            tokio::task::yield_now().await;
        }
    };
    let ((end, total, with_octets), ()) = tokio::join!(relaying, peers);
    assert_eq!((end, total), (TunnelEnd::Finished, 8_000_000));
    assert!(with_octets > 10, "{with_octets}");
}
