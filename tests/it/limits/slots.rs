//! Only scenes about limits belong here: slots and rates, whom they count as one, when they are given back, and that a reload
//! changes them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

use crate::support::by_hand::{inside, inside_h2};
use crate::support::client::{Response, Tls, Wire};
use crate::support::{Config, Origin, Sekisho, within};

/// A connection to the proxy from an address of loopback's own choosing.
#[expect(clippy::disallowed_methods, reason = "the test is a client")]
pub(super) async fn from(ip: Ipv4Addr, to: SocketAddr) -> Wire<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(IpAddr::V4(ip), 0)).expect("an address of loopback");
    Wire::new(within("connecting", socket.connect(to)).await.expect("the proxy accepts"))
}

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

async fn asks(wire: &mut Wire<TcpStream>, authority: &str) -> Option<Response> {
    wire.try_send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await.ok()?;
    wire.maybe_response("CONNECT").await
}

/// The answer to a connection that gets no slot: at once, whatever it asks, and closed behind it.
async fn turned_away(wire: &mut Wire<TcpStream>, status: u16, reason: &str) {
    let answer = wire.maybe_response("CONNECT").await.expect("an answer");
    assert_eq!(answer.status, status, "{answer:?}");
    answer.details(reason);
    wire.closed().await;
}

#[tokio::test]
async fn one_clients_connections_are_counted_and_given_back() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits.per_client", "connections", "3");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    // A slot is held by a connection that has not asked yet, by one that was refused and kept, and by a tunnel alike.
    let idle = sekisho.client().await;
    let mut refused = sekisho.client().await;
    assert_eq!(asks(&mut refused, "denied.test:443").await.expect("an answer").status, 403);
    sekisho.next_connection().await.says("denied", "not_allowlisted");
    let mut tunnel = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    tunnel.send("x").await;
    assert_eq!(tunnel.exactly(1).await.expect("an echo"), b"x");
    let before = origin.connects();
    for _ in 0..5 {
        turned_away(&mut sekisho.client().await, 429, "too_many_connections").await;
        sekisho.next_connection().await.says("denied", "too_many_connections").with("sekisho.stage", "admit");
    }
    // Another client is not this one.
    let mut other = from(OTHER, sekisho.addr()).await;
    assert_eq!(asks(&mut other, "denied.test:443").await.expect("an answer").status, 403);
    sekisho.next_connection().await.says("denied", "not_allowlisted").with("source.ip", "127.0.0.77");
    assert_eq!(origin.connects(), before, "who is turned away reaches nobody");
    // Each of the three ways a connection ends gives its slot back.
    idle.bye().await;
    sekisho.next_connection().await.says("failed", "client_closed");
    one_more(&mut sekisho).await;
    refused.bye().await;
    one_more(&mut sekisho).await;
    tunnel.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    one_more(&mut sekisho).await;
    other.bye().await;
    sekisho.finish().await;
}

/// Soon there is a slot again; those that came too early are recorded too.
async fn one_more(sekisho: &mut Sekisho) {
    within("a slot", async {
        loop {
            let mut wire = sekisho.client().await;
            let answer = asks(&mut wire, "denied.test:443").await;
            let record = sekisho.next_connection().await;
            match answer.map(|answer| answer.status) {
                Some(403) => {
                    record.says("denied", "not_allowlisted");
                    return wire.bye().await;
                }
                _ => drop(record.says("denied", "too_many_connections")),
            }
        }
    })
    .await;
}

/// The slot of a CONNECT is its tunnel's until the tunnel has ended on both sides (a proxy that gave it back when the stream
/// was hijacked had no limit at all).
#[tokio::test]
async fn a_slot_is_held_for_the_whole_life_of_a_tunnel_and_of_an_inspected_connection() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let inspected = Origin::https(&["inspected.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).inspect("inspected.test", &inspected).set(
        "limits.per_client",
        "connections",
        "4",
    );
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut one = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let mut two = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let mut three = inside(&sekisho, "inspected.test", inspected.port()).await;
    let mut four = inside_h2(&sekisho, "inspected.test", inspected.port()).await;
    for round in 0..10 {
        one.send("x").await;
        assert_eq!(one.exactly(1).await.expect("an echo"), b"x");
        two.send("y").await;
        assert_eq!(two.exactly(1).await.expect("an echo"), b"y");
        assert_eq!(
            three.get(&inspected.at("inspected.test"), "/3").await.expect("an answer").status,
            200,
            "round {round}"
        );
        sekisho.next_request().await.says("allowed", "");
        let uri = format!("https://{}/4", inspected.at("inspected.test"));
        assert_eq!(four.get(&uri).await.expect("an answer").status, 200);
        sekisho.next_request().await.says("allowed", "");
        turned_away(&mut sekisho.client().await, 429, "too_many_connections").await;
        sekisho.next_connection().await.says("denied", "too_many_connections");
    }
    // One half ended is not the end.
    one.finish_writing().await;
    one.closed().await;
    drop(one);
    sekisho.next_connection().await;
    one_more(&mut sekisho).await;
    drop((two, three, four));
    for _ in 0..3 {
        sekisho.next_connection().await;
    }
    let slots: Vec<_> = futures_of(&sekisho).await;
    assert_eq!(slots.len(), 4, "all four are there again");
    drop(slots);
    for _ in 0..4 {
        sekisho.next_connection().await.says("denied", "not_allowlisted");
    }
    sekisho.finish().await;
}

/// As many connections at once as are answered by the policy and not by the limit.
async fn futures_of(sekisho: &Sekisho) -> Vec<Wire<TcpStream>> {
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut wire = sekisho.client().await;
        if asks(&mut wire, "denied.test:443").await.is_some_and(|answer| answer.status == 403) {
            held.push(wire);
        }
    }
    held
}

#[tokio::test]
async fn all_connections_together_are_counted_over_every_client_and_listener() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).listen("127.0.0.1").set("limits", "connections", "3");
    let mut sekisho = Sekisho::start(&config).await;
    let (first, second) = (sekisho.listeners[0], sekisho.listeners[1]);
    let mut held =
        vec![from(Ipv4Addr::new(127, 0, 0, 2), first).await, from(Ipv4Addr::new(127, 0, 0, 3), second).await];
    held.push(from(Ipv4Addr::new(127, 0, 0, 4), first).await);
    for wire in &mut held {
        assert_eq!(asks(wire, "denied.test:443").await.expect("an answer").status, 403);
        sekisho.next_connection().await.says("denied", "not_allowlisted");
    }
    for to in [first, second] {
        turned_away(&mut from(OTHER, to).await, 503, "too_many_connections").await;
        let record = sekisho.next_connection().await;
        record
            .says("denied", "too_many_connections")
            .with("source.ip", "127.0.0.77")
            .with("sekisho.listener", &to.to_string());
    }
    origin.untouched();
    drop(held.pop());
    within("a slot", async {
        loop {
            let mut wire = from(OTHER, first).await;
            let answer = asks(&mut wire, "denied.test:443").await;
            let record = sekisho.next_connection().await;
            if answer.is_some_and(|answer| answer.status == 403) {
                record.says("denied", "not_allowlisted");
                return;
            }
        }
    })
    .await;
    drop(held);
    sekisho.finish().await;
}

#[tokio::test]
async fn new_connections_are_a_burst_then_a_stream() {
    let config = Config::new().set("limits.per_client", "new_connections_per_second", "1").set(
        "limits.per_client",
        "burst",
        "5",
    );
    let mut sekisho = Sekisho::start(&config).await;
    let begun = std::time::Instant::now();
    let (mut served, mut limited) = (0, 0);
    for _ in 0..20 {
        let mut wire = sekisho.client().await;
        let answer = asks(&mut wire, "denied.test:443").await.expect("an answer");
        let record = sekisho.next_connection().await;
        match answer.status {
            403 => {
                served += 1;
                record.says("denied", "not_allowlisted");
            }
            _ => {
                assert_eq!(answer.status, 429, "{answer:?}");
                answer.details("rate_limited");
                assert!(!answer.value("retry-after").is_empty(), "{answer:?}");
                record.says("denied", "rate_limited").with("sekisho.stage", "admit");
                limited += 1;
            }
        }
    }
    let at_most = 5 + begun.elapsed().as_secs() + 1;
    assert!((5..=at_most).contains(&served) && limited >= 1, "{served} served, {limited} limited");
    // Another client has a burst of its own, and this one gets its next in time.
    let mut other = from(OTHER, sekisho.addr()).await;
    assert_eq!(asks(&mut other, "denied.test:443").await.expect("an answer").status, 403);
    sekisho.next_connection().await.says("denied", "not_allowlisted");
    within("the next of the stream", async {
        loop {
            let mut wire = sekisho.client().await;
            let status = asks(&mut wire, "denied.test:443").await.expect("an answer").status;
            sekisho.next_connection().await;
            if status == 403 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    sekisho.finish().await;
}

/// The limit is a client's, not a connection's: over HTTP/1.1, HTTP/2 and two connections together.
#[tokio::test]
async fn inspected_requests_are_counted_per_client_over_all_its_connections() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).set("limits.per_client", "requests_per_second", "10");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let mut other = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let begun = std::time::Instant::now();
    let (mut served, mut limited) = (0_u64, 0_u64);
    for n in 0..60 {
        let connection = if n % 2 == 0 { &mut h2 } else { &mut other };
        let answer = connection.get(&format!("https://{at}/{n}")).await.expect("an answer");
        let record = sekisho.next_request().await;
        if answer.status == 200 {
            served += 1;
            record.says("allowed", "");
        } else {
            answer.page(429, "rate_limited");
            record.says("denied", "rate_limited");
            assert_eq!(record.number("http.response.status_code"), 429);
            limited += 1;
        }
    }
    let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
    let answer = wire.get(&at, "/h1").await.expect("an answer");
    let record = sekisho.next_request().await;
    if answer.status == 429 {
        answer.page(429, record.reason())
    } else {
        &answer
    };
    served += u64::from(answer.status == 200);
    let at_most = 10 + 10 * (begun.elapsed().as_secs() + 1);
    assert!((10..=at_most).contains(&served) && limited > 0, "{served} served, {limited} limited");
    assert_eq!(origin.requests().len() as u64, served, "what was refused never left");
    drop((h2, other, wire));
    for _ in 0..3 {
        sekisho.next_connection().await;
    }
    sekisho.finish().await;
}

/// Loopback's IPv6 has one address, so that two of one /64 cannot be had here (the unit test of `admit` has them); what can be
/// shown is that ::1 is counted, and that an IPv4 client is not the same.
#[tokio::test]
async fn ipv6_clients_are_counted_apart_from_ipv4_ones() {
    let config = Config::new().listen("::1").set("limits.per_client", "connections", "2");
    let mut sekisho = Sekisho::start(&config).await;
    let v6 = sekisho.listeners[1];
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut wire = crate::support::client::connect(v6).await.expect("the proxy accepts");
        assert_eq!(asks(&mut wire, "denied.test:443").await.expect("an answer").status, 403);
        sekisho.next_connection().await.says("denied", "not_allowlisted").with("source.ip", "::1");
        held.push(wire);
    }
    turned_away(
        &mut crate::support::client::connect(v6).await.expect("the proxy accepts"),
        429,
        "too_many_connections",
    )
    .await;
    sekisho.next_connection().await.says("denied", "too_many_connections").with("source.ip", "::1");
    let mut v4 = sekisho.client().await;
    assert_eq!(asks(&mut v4, "denied.test:443").await.expect("an answer").status, 403);
    sekisho.next_connection().await.says("denied", "not_allowlisted").with("source.ip", "127.0.0.1");
    sekisho.finish().await;
}

#[tokio::test]
async fn a_reload_changes_limits_and_keeps_what_is_held() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let with = |n: &str| Config::new().tunnel("allowed.test", &origin).set("limits.per_client", "connections", n);
    let mut sekisho = Sekisho::start(&with("2")).await;
    let at = origin.at("allowed.test");
    let mut one = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let mut two = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    turned_away(&mut sekisho.client().await, 429, "too_many_connections").await;
    sekisho.next_connection().await.says("denied", "too_many_connections");
    sekisho.reload(&with("3")).await;
    let mut three = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    turned_away(&mut sekisho.client().await, 429, "too_many_connections").await;
    sekisho.next_connection().await.says("denied", "too_many_connections");
    // Below what is held: nobody is cut, nobody comes in, and one given back is not yet one too few.
    sekisho.reload(&with("1")).await;
    for wire in [&mut one, &mut two, &mut three] {
        wire.send("x").await;
        assert_eq!(wire.exactly(1).await.expect("an echo"), b"x");
    }
    one.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    turned_away(&mut sekisho.client().await, 429, "too_many_connections").await;
    sekisho.next_connection().await.says("denied", "too_many_connections");
    two.bye().await;
    three.bye().await;
    for _ in 0..2 {
        sekisho.next_connection().await.says("allowed", "");
    }
    one_more(&mut sekisho).await;
    sekisho.finish().await;
}

#[tokio::test]
async fn a_reload_changes_rates_too() {
    let with = |burst: &str| {
        Config::new().set("limits.per_client", "new_connections_per_second", "1").set(
            "limits.per_client",
            "burst",
            burst,
        )
    };
    let mut sekisho = Sekisho::start(&with("100")).await;
    for _ in 0..10 {
        let mut wire = sekisho.client().await;
        assert_eq!(asks(&mut wire, "denied.test:443").await.expect("an answer").status, 403);
        sekisho.next_connection().await.says("denied", "not_allowlisted");
    }
    sekisho.reload(&with("2")).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let mut wire = sekisho.client().await;
        statuses.push(asks(&mut wire, "denied.test:443").await.expect("an answer").status);
        sekisho.next_connection().await;
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    sekisho.finish().await;
}

/// H02, H05 as they touch limits: a client that opens all it may and says nothing hinders nobody else.
#[tokio::test]
async fn h02_h05_a_client_at_its_limit_hinders_nobody_else() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits.per_client", "connections", "50");
    let sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(from(OTHER, sekisho.addr()).await);
    }
    let refused = sekisho.terminals("connection", 150).await;
    assert!(refused.iter().all(|record| record.reason() == "too_many_connections"), "{refused:#?}");
    let mut wire = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    assert_eq!(wire.get("allowed.test", "/").await.expect("an answer").status, 200);
    wire.bye().await;
    drop(silent);
    let all = sekisho.terminals("connection", 201).await;
    assert_eq!(all.iter().map(|record| record.count()).sum::<u64>(), 201);
}
