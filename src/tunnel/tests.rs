use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

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

fn settings(idle: Duration) -> Settings {
    Settings { idle, half_closed: Duration::from_secs(60) }
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
        let end = relay(hello, &ours_client, &ours_upstream, &counters, &settings, &subjects).await;
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
    let (end, ()) =
        tokio::join!(relay(BytesMut::new(), &ours_client, &ours_upstream, &counters, &settings, &subjects), peers);
    assert_eq!(end, TunnelEnd::Finished);
    assert_eq!(counters.received.load(Ordering::Relaxed), 8_000_000);
}

#[tokio::test(start_paused = true)]
async fn h03_a_tunnel_over_which_nothing_moves_is_ended() {
    let ((ours_client, _client), (ours_upstream, _upstream)) = tokio::join!(pair(), pair());
    let began = Instant::now();
    let subjects = unlimited();
    let settings = settings(Duration::from_secs(3600));
    let end = relay(BytesMut::new(), &ours_client, &ours_upstream, &Counters::default(), &settings, &subjects).await;
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
    let relaying = relay(BytesMut::new(), &ours_client, &ours_upstream, moved, &settings, &subjects);
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
    let end = relay(BytesMut::new(), &ours_client, &ours_upstream, &Counters::default(), &settings, &subjects).await;
    assert_eq!(end, TunnelEnd::ClientClosed);
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
    let end = tokio::select! {
        end = relay(BytesMut::new(), &ours_client, &ours_upstream, &counters, &settings, &subjects) => end,
        () = async { peers.await; std::future::pending().await } => unreachable!("the relay ends first"),
    };
    assert_eq!(end, TunnelEnd::Finished);
}
