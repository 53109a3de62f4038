//! Only scenes with a balancer in front belong here: whose connection it is by the PROXY protocol, who is believed, and what a balancer's
//! own connections leave. A real HAProxy is in `balanced/haproxy.rs`.

mod haproxy;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::support::client::{Tls, Wire, alert_of, connect_from};
use super::support::sekisho::free_port;
use super::support::{Config, Origin, Record, Sekisho, within};

/// The balancer, by the configuration of these scenes.
const BALANCER: &str = "127.0.0.5";
const ACCESS_DENIED: u8 = 49;

/// A listener behind the balancer, and one transparent.
struct Doors {
    explicit: SocketAddr,
    transparent: SocketAddr,
}

/// Clients are in networks that nobody on this machine has: what they may is by the header alone.
fn config(origin: &Origin) -> (Config, Doors) {
    let [explicit, transparent] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1"))));
    let clients = "[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\", \"fd00:20::/48\"]\n\
                   [[clients]]\nname = \"school\"\nnetworks = [\"10.30.0.0/16\"]\n";
    let config = Config::new().tunnel("allowed.test", origin).clients(clients).tail(&format!(
        "[[listener]]\naddress = \"{explicit}\"\nproxy_protocol = [\"{BALANCER}/32\"]\n\
         [[listener]]\nmode = \"transparent\"\naddress = \"{transparent}\"\nproxy_protocol = [\"{BALANCER}/32\"]\n"
    ));
    (config, Doors { explicit, transparent })
}

/// Version 1 (proxy-protocol.txt, section 2.1).
fn v1(source: &str, destination: &str) -> Vec<u8> {
    let socket = |text: &str| text.parse::<SocketAddr>().expect(text);
    let (from, to) = (socket(source), socket(destination));
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
}

/// Version 2 (section 2.2), with `tlvs` behind the addresses.
fn v2(source: &str, destination: &str, tlvs: &[u8]) -> Vec<u8> {
    let (family, mut block) = match (source.parse().expect(source), destination.parse().expect(destination)) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => (0x11, [from.ip().octets(), to.ip().octets()].concat()),
        (SocketAddr::V6(from), SocketAddr::V6(to)) => (0x21, [from.ip().octets(), to.ip().octets()].concat()),
        mixed => panic!("{mixed:?}"),
    };
    for end in [source, destination] {
        block.extend(end.parse::<SocketAddr>().expect(end).port().to_be_bytes());
    }
    block.extend(tlvs);
    signed(0x21, family, &block)
}

fn signed(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("short").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, block].concat()
}

fn head(authority: &str) -> Vec<u8> {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes()
}

async fn balancer(to: SocketAddr) -> Wire<TcpStream> {
    connect_from(BALANCER, to).await
}

/// The tunnel's other end answers.
async fn is_served(wire: Wire<TcpStream>) {
    let mut inside = Tls::named("allowed.test").over(wire).await;
    assert_eq!(inside.get("allowed.test", "/x").await.expect("an answer").text(), "origin saw GET /x");
    inside.bye().await;
}

/// It was passed on by the balancer.
#[track_caller]
fn was_passed_on(record: &Record) -> &Record {
    let by = record.text("sekisho.balancer");
    assert!(by.starts_with(&format!("{BALANCER}:")), "{record:?}");
    record
}

#[tokio::test]
async fn b09_whose_connection_it_is_stands_in_the_balancers_header() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let (four, four_to) = ("10.20.0.7:4711", "10.20.0.1:8080");
    let (six, six_to) = ("[fd00:20::7]:4711", "[fd00:20::1]:8080");
    let (mapped, mapped_to) = ("[::ffff:10.20.0.7]:4711", "[::ffff:10.20.0.1]:8080");
    for (header, ip, to) in [
        (v1(four, four_to), "10.20.0.7", four_to),
        (v1(six, six_to), "fd00:20::7", six_to),
        (v1(mapped, mapped_to), "10.20.0.7", four_to),
        (v2(four, four_to, b""), "10.20.0.7", four_to),
        (v2(six, six_to, b""), "fd00:20::7", six_to),
        (v2(mapped, mapped_to, b""), "10.20.0.7", four_to),
        // A checksum and an unknown TLV that ends in nothing: skipped.
        (v2(four, four_to, &[3, 0, 4, 1, 2, 3, 4, 0xee, 0xff, 0xff]), "10.20.0.7", four_to),
    ] {
        for whole in [true, false] {
            let mut wire = balancer(doors.explicit).await;
            let says = [header.clone(), head(&at)].concat();
            if whole {
                wire.send(&says).await
            } else {
                wire.dribble(&says).await
            }
            assert_eq!(wire.response("CONNECT").await.status, 200, "{}", header.escape_ascii());
            is_served(wire).await;
            let record = sekisho.next_connection().await;
            was_passed_on(record.says("allowed", "").with("source.ip", ip).with("sekisho.client", "office"));
            record.with("sekisho.balancer_destination", to).with("sekisho.listener", &doors.explicit.to_string());
            assert_eq!(record.number("source.port"), 4711);
            assert!(!record.has("sekisho.original_destination"), "{record:?}");
        }
    }
    // The group is the client's.
    let mut wire = balancer(doors.explicit).await;
    wire.send([v2("10.99.0.1:1", four_to, b""), head(&at)].concat()).await;
    wire.response("CONNECT").await.details("client_not_permitted");
    let record = sekisho.next_connection().await;
    was_passed_on(record.says("denied", "client_not_permitted").with("source.ip", "10.99.0.1"));
    sekisho.conserved().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn b09_who_is_no_balancer_is_not_believed() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let mut sekisho = Sekisho::start(&config).await;
    let says = |header: Vec<u8>| [header, head("allowed.test:443")].concat();
    let headers = [v1("10.20.0.7:4711", "10.20.0.1:8080"), v2("10.20.0.7:4711", "10.20.0.1:8080", b"")];
    let own = sekisho.addr();
    for header in headers {
        // Another address; the balancer's at a listener that believes nobody.
        for (from, to) in [("127.0.0.6", doors.explicit), (BALANCER, own)] {
            let mut wire = connect_from(from, to).await;
            wire.send(says(header.clone())).await;
            let answer = wire.response("CONNECT").await;
            assert_eq!(answer.status, 400, "{answer:?}");
            let record = sekisho.next_connection().await;
            record.says("denied", "malformed_request").with("source.ip", from);
            assert!(!record.has("sekisho.balancer"), "{record:?}");
        }
        let mut wire = connect_from("127.0.0.6", doors.transparent).await;
        wire.send(says(header)).await;
        assert_eq!(wire.rest().await.0, b"");
        assert_eq!(sekisho.next_connection().await.with("source.ip", "127.0.0.6").outcome(), "denied");
    }
    // Not even by a header behind the first.
    let mut wire = balancer(doors.explicit).await;
    wire.send([v1("10.20.0.7:1", "10.20.0.1:8080"), says(v1("10.20.0.8:1", "10.20.0.1:8080"))].concat()).await;
    assert_eq!(wire.response("CONNECT").await.status, 400);
    sekisho.next_connection().await.says("denied", "malformed_request").with("source.ip", "10.20.0.7");
    origin.untouched();
    sekisho.conserved().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn b09_a_balancer_that_says_nothing_of_its_client_is_closed_without_a_word() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let mut sekisho = Sekisho::start(&config).await;
    for (says, detail) in [
        (head("allowed.test:443"), "the balancer is in proxy_protocol, but its first octets are no PROXY header"),
        (
            Tls::named("allowed.test").hello(),
            "the balancer is in proxy_protocol, but its first octets are no PROXY header",
        ),
        (
            b"PROXY TCP4 10.20.0.7 10.20.0.1 4711 8080\n".to_vec(),
            "the balancer is in proxy_protocol, but its PROXY header is malformed: a line of version 1 is PROXY, TCP4 or TCP6, two \
             addresses, two ports and CRLF",
        ),
        (
            signed(0x21, 0x31, &[0; 216]),
            "the balancer is in proxy_protocol, but its PROXY header is malformed: its client is of another family than TCP over IPv4 or \
             IPv6",
        ),
        (
            [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat(),
            "the balancer is in proxy_protocol, but its PROXY header is longer than 4096 octets",
        ),
    ] {
        for door in [doors.explicit, doors.transparent] {
            let mut wire = balancer(door).await;
            wire.send(&says).await;
            assert_eq!(wire.rest().await.0, b"", "{}", says.escape_ascii());
            let record = sekisho.next_connection().await;
            was_passed_on(record.says("denied", "malformed_request").with("source.ip", BALANCER));
            record.with("sekisho.detail", detail).with("sekisho.stage", "claim");
        }
    }
    // It ends within its header.
    let mut wire = balancer(doors.explicit).await;
    wire.send(b"PROXY TCP4 10.20").await;
    wire.bye().await;
    was_passed_on(sekisho.next_connection().await.says("failed", "client_closed"));
    // And it never ends it.
    let mut wire = balancer(doors.explicit).await;
    wire.send(b"PROXY TCP4 10.20").await;
    let record = sekisho.next_connection().await;
    was_passed_on(record.says("failed", "request_head_timeout"));
    record.with("sekisho.detail", "no whole PROXY header of the balancer within 5s");
    let took = Duration::from_nanos(record.number("event.duration"));
    assert!(took < Duration::from_secs(9), "{took:?}");
    wire.closed().await;
    sekisho.conserved().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn h10_a_balancers_checks_are_counted_and_leave_no_record() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let mut sekisho = Sekisho::start(&config).await;
    let nothing = [b"".to_vec(), b"PROXY UNKNOWN\r\n".to_vec(), signed(0x20, 0, b""), signed(0x21, 0, b"")];
    let mut checks = 0.0;
    for door in [doors.explicit, doors.transparent] {
        for says in &nothing {
            let mut wire = balancer(door).await;
            wire.send(says).await;
            wire.bye().await;
            checks += 1.0;
        }
    }
    within("the checks are counted", async {
        while sekisho.metrics().await["sekisho_balancer_checks_total"] < checks {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(sekisho.quiet().await["sekisho_attempts_total{action=\"connection\"}"], 0.0);
    // What asks for something is an attempt of the balancer's own, whatever clients may.
    for says in nothing.iter().skip(1) {
        let mut wire = balancer(doors.explicit).await;
        wire.send([says.clone(), head(&origin.at("allowed.test"))].concat()).await;
        wire.response("CONNECT").await.details("client_not_permitted");
        was_passed_on(
            sekisho.next_connection().await.says("denied", "client_not_permitted").with("source.ip", BALANCER),
        );
        // Nobody steered it.
        let mut wire = balancer(doors.transparent).await;
        wire.send([says.clone(), Tls::named("allowed.test").hello()].concat()).await;
        assert_eq!(alert_of(&wire.rest().await.0), Some(ACCESS_DENIED));
        was_passed_on(sekisho.next_connection().await.says("denied", "self_connection").with("source.ip", BALANCER));
    }
    // A client's connection on which nothing was asked is a client's.
    let mut wire = balancer(doors.explicit).await;
    wire.send(v2("10.20.0.7:4711", "10.20.0.1:8080", b"")).await;
    wire.bye().await;
    sekisho.next_connection().await.says("failed", "client_closed").with("source.ip", "10.20.0.7");
    assert_eq!(sekisho.metrics().await["sekisho_balancer_checks_total"], checks);
    origin.untouched();
    sekisho.conserved().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn a13_behind_a_balancer_the_header_says_what_a_steered_client_meant() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let mut sekisho = Sekisho::start(&config).await;
    let meant = format!("203.0.113.99:{}", origin.port());
    for header in [v1("10.20.0.7:4711", &meant), v2("10.20.0.7:4711", &meant, b"")] {
        let mut wire = balancer(doors.transparent).await;
        wire.send(header).await;
        is_served(wire).await;
        let record = sekisho.next_connection().await;
        was_passed_on(record.says("allowed", "").with("source.ip", "10.20.0.7").with("sekisho.client", "office"));
        record.with("sekisho.original_destination", &meant).with("destination.ip", "127.0.0.1");
        assert!(!record.has("sekisho.balancer_destination"), "{record:?}");
    }
    // The port that was meant is part of the claim.
    let mut wire = balancer(doors.transparent).await;
    wire.send([v2("10.20.0.7:4711", "203.0.113.99:444", b""), Tls::named("allowed.test").hello()].concat()).await;
    assert_eq!(alert_of(&wire.rest().await.0), Some(ACCESS_DENIED));
    was_passed_on(sekisho.next_connection().await.says("denied", "port_not_permitted"));
    sekisho.finish().await;
}

#[tokio::test]
async fn h03_limits_are_the_clients_and_not_the_balancers() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let mut sekisho = Sekisho::start(&config.set("limits.per_client", "connections", "2")).await;
    let passed_on = async |source: &str| {
        let mut wire = balancer(doors.explicit).await;
        wire.send(v2(source, "10.20.0.1:8080", b"")).await;
        wire
    };
    let held = [passed_on("10.20.0.7:1").await, passed_on("10.20.0.7:2").await];
    within("two slots", async {
        while sekisho.metrics().await["sekisho_admitted"] < 2.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut third = passed_on("10.20.0.7:3").await;
    let answer = third.response("CONNECT").await;
    assert_eq!(answer.status, 429, "{answer:?}");
    was_passed_on(
        sekisho.next_connection().await.says("denied", "too_many_connections").with("source.ip", "10.20.0.7"),
    );
    // Others by the same balancer are not the worse for it.
    for other in ["10.20.0.8:1", "10.30.0.7:1"] {
        let mut wire = passed_on(other).await;
        wire.send(head(&origin.at("allowed.test"))).await;
        assert_eq!(wire.response("CONNECT").await.status, 200);
        is_served(wire).await;
        was_passed_on(sekisho.next_connection().await.says("allowed", ""));
    }
    drop(held);
    for _ in 0..2 {
        sekisho.next_connection().await.says("failed", "client_closed");
    }
    sekisho.conserved().await;
    sekisho.finish().await;
}

/// As many as there may be without a header: the next is told by its record, and who comes by himself is served.
#[tokio::test]
async fn h05_connections_without_a_header_are_bounded_and_keep_nobody_else_out() {
    const WITHOUT: usize = 256;
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let config = config.clients("[[clients]]\nname = \"office\"\nnetworks = [\"127.0.0.1/32\"]\n");
    let mut sekisho = Sekisho::start(&config).await;
    let mut silent = Vec::new();
    for _ in 0..WITHOUT {
        silent.push(balancer(doors.explicit).await);
    }
    within("all of them wait", async {
        while sekisho.metrics().await["sekisho_newcomers"] < WITHOUT as f64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut more = balancer(doors.explicit).await;
    assert_eq!(more.rest().await.0, b"");
    let record = sekisho.next_connection().await;
    was_passed_on(record.says("denied", "overloaded").with("sekisho.stage", "admit"));
    is_served(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    sekisho.next_connection().await.says("allowed", "");
    drop(silent);
    within("nobody waits", async {
        while sekisho.metrics().await["sekisho_balancer_checks_total"] < WITHOUT as f64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    sekisho.conserved().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn a_reload_changes_who_is_believed_and_keeps_the_listener() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let mut sekisho = Sekisho::start(&config).await;
    let mut changed = config.clone();
    changed.tail = changed.tail.replace("127.0.0.5/32", "127.0.0.6/32");
    sekisho.reload(&changed).await;
    let header = v1("10.20.0.7:4711", "10.20.0.1:8080");
    for (from, status, reason) in [("127.0.0.6", 403, "not_allowlisted"), (BALANCER, 400, "malformed_request")] {
        let mut wire = connect_from(from, doors.explicit).await;
        wire.send([header.clone(), head("denied.test:443")].concat()).await;
        assert_eq!(wire.response("CONNECT").await.status, status);
        sekisho.next_connection().await.says("denied", reason);
    }
    sekisho.finish().await;
}

/// The network steers clients to the wrong listener: each record says what is wrong, and the log once.
#[tokio::test]
async fn tls_at_an_explicit_listener_is_told_to_be_steered_traffic() {
    const HINT: &str = "TLS came where CONNECT is due, as it does when the network steers clients to an explicit listener: steered clients \
                        need a [[listener]] with mode = \"transparent\"";
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    for says in [Tls::named("allowed.test").hello(), vec![0x16]] {
        let mut wire = sekisho.client().await;
        wire.send(says).await;
        assert_eq!(wire.response("GET").await.status, 400);
        let record = sekisho.next_connection().await;
        record.says("denied", "malformed_request").with("sekisho.detail", HINT);
    }
    // Behind a refused CONNECT it is a client's that did not wait.
    let (mut wire, answer) = sekisho.connect("denied.test:443").await;
    assert_eq!(answer.status, 403);
    wire.send(Tls::named("denied.test").hello()).await;
    assert_eq!(wire.response("GET").await.status, 400);
    sekisho.next_connection().await.says("denied", "not_allowlisted");
    let record = sekisho.next_connection().await;
    record.says("denied", "malformed_request").with("sekisho.detail", "TLS came where a request head is due");
    assert_eq!(sekisho.stderr().matches(HINT).count(), 1, "{}", sekisho.stderr());
    sekisho.finish().await;
}
