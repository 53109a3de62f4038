use tokio::net::TcpListener;

use super::*;
use crate::addrs::ListenAddr;
use crate::upstream::testing::{name, vetted};

fn all(sockets: &[&str]) -> Vec<VettedAddr> {
    sockets.iter().map(|text| vetted(text.parse().expect(text))).collect()
}

fn settings() -> Settings {
    Settings { bind: None, timeout: Duration::from_secs(5) }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

/// A port of loopback on which nothing listens.
async fn closed_port() -> SocketAddr {
    listener().await.1
}

#[test]
fn families_alternate_and_a_source_address_leaves_only_its_own() {
    let addresses = all(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"]);
    let order = |bind: Option<&str>| -> Vec<_> {
        let bind = bind.map(|bind| bind.parse().expect(bind));
        interleaved(addresses.clone(), bind).iter().map(|address| address.upstream().ip().to_string()).collect()
    };
    assert_eq!(order(None), ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]);
    assert_eq!(order(Some("127.0.0.1")), ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(order(Some("::1")), ["::1", "::2", "::3"]);
}

#[tokio::test]
async fn b02_the_vetted_address_is_the_one_that_is_dialled_and_it_is_tuned() {
    let (listener, address) = listener().await;
    let connection = connect(&name("allowed.test"), vec![vetted(address)], &settings(), &SelfAddrs::default())
        .await
        .expect("connected");
    let (accepted, from) = listener.accept().await.expect("accepted");
    assert_eq!(connection.address().socket(), address);
    let stream = connection.into_unverified_stream();
    assert_eq!(stream.peer_addr().expect("peer"), address);
    assert_eq!(stream.local_addr().expect("local"), from);
    assert!(stream.nodelay().expect("nodelay"));
    let socket = SockRef::from(&stream);
    assert!(socket.keepalive().expect("keepalive"));
    assert_eq!(socket.tcp_user_timeout().expect("timeout"), Some(Duration::from_secs(180)));
    drop(accepted);
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let (_listener, open) = listener().await;
    let addresses = vec![vetted(closed_port().await), vetted(open)];
    let connection =
        connect(&name("allowed.test"), addresses, &settings(), &SelfAddrs::default()).await.expect("connected");
    assert_eq!(connection.address().socket(), open);
}

#[tokio::test]
async fn b04_when_every_vetted_address_refuses_nothing_else_is_tried() {
    let (private, private_address) = listener().await;
    let closed = closed_port().await;
    let error = connect(&name("allowed.test"), vec![vetted(closed)], &settings(), &SelfAddrs::default())
        .await
        .expect_err("refused");
    assert_eq!(error.reason(), Reason::ConnectFailed);
    assert_eq!(
        error.to_string(),
        format!(
            "no connection to allowed.test: {closed}: Connection refused (os error 111); is the way to the Internet open for \
             this machine?"
        )
    );
    assert_ne!(private_address, closed);
    let unused = tokio::time::timeout(Duration::ZERO, private.accept()).await;
    assert!(unused.is_err(), "the address that was dropped must see no connection");
}

#[tokio::test]
async fn silence_ends_at_the_timeout() {
    // A full backlog drops further SYNs, so that a connection neither stands nor fails.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
    socket.listen(0).expect("listen");
    let address = socket.local_addr().expect("address").as_socket().expect("inet");
    let settings = Settings { bind: None, timeout: Duration::from_millis(100) };
    let mut held = Vec::new();
    let error = loop {
        match connect(&name("allowed.test"), vec![vetted(address)], &settings, &SelfAddrs::default()).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Reason::ConnectTimeout);
    assert_eq!(
        error.to_string(),
        format!("no address of allowed.test accepted a connection within 100ms; tried {address}")
    );
}

#[tokio::test]
async fn the_source_address_is_used_and_its_family_named_where_it_fits_nothing() {
    let (listener, address) = listener().await;
    let bound = Settings { bind: Some("127.0.0.9".parse().expect("ip")), ..settings() };
    let _connection =
        connect(&name("allowed.test"), vec![vetted(address)], &bound, &SelfAddrs::default()).await.expect("connected");
    assert_eq!(listener.accept().await.expect("accepted").1.ip(), bound.bind.expect("bind"));

    let v6 = Settings { bind: Some("::1".parse().expect("ip")), ..settings() };
    let error =
        connect(&name("allowed.test"), vec![vetted(address)], &v6, &SelfAddrs::default()).await.expect_err("family");
    assert_eq!(
        error.to_string(),
        "allowed.test has no IPv6 address, and [upstream] bind = \"::1\" can only reach those"
    );
    let foreign = Settings { bind: Some("192.0.2.1".parse().expect("ip")), ..settings() };
    let error = connect(&name("allowed.test"), vec![vetted(address)], &foreign, &SelfAddrs::default())
        .await
        .expect_err("foreign");
    assert!(error.to_string().contains("cannot send from [upstream] bind = \"192.0.2.1\""), "{error}");
}

#[tokio::test]
async fn a17_a_connection_that_turns_out_to_be_our_own_is_closed() {
    let (_listener, address) = listener().await;
    let selves = SelfAddrs::new(vec![ListenAddr::new(SocketAddr::from(([0, 0, 0, 0], address.port())))]);
    let error = connect(&name("allowed.test"), vec![vetted(address)], &settings(), &selves).await.expect_err("self");
    assert_eq!(error.reason(), Reason::SelfConnection);
}

#[test]
fn h05_no_free_descriptor_is_our_own_trouble() {
    let address = UpstreamAddr::new("8.8.8.8:443".parse().expect("socket"));
    let error = failed(&name("allowed.test"), vec![(address, io::Error::from_raw_os_error(24))]);
    assert_eq!(error.reason(), Reason::Overloaded);
}
