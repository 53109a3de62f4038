//! Only scenes with clients that the network steers here belong here: terminals, the box and the internet's side in networks of their
//! own, with the packet filter's rules as they are shipped.

mod browser;
mod leaving;
mod reloads;
mod siege;
mod upgrades;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::support::client::{Tls, Wire, alert_of};
use super::support::netns::{CLIENT4, CLIENT6, GATE4, ORIGIN4, ORIGIN6, Office, have};
use super::support::{Config, Origin, Sekisho, Service};

/// Nobody is there: a destination that is not dialled cannot fail.
const FORGED4: &str = "203.0.113.99";
const FORGED6: &str = "2001:db8:113::99";
const ACCESS_DENIED: u8 = 49;
const UNRECOGNIZED_NAME: u8 = 112;

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect(ip), port)
}

/// How many rounds a scene goes that proves by their number: as many as the issue says where `tests/run --long` wants them.
fn rounds(ordinary: usize, long: usize) -> usize {
    if std::env::var_os("SEKISHO_SYSTEM").is_some_and(|length| length == "long") { long } else { ordinary }
}

/// Past the test runner's capture: `tests/run` shows it.
fn reports(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "\n{line}");
}

fn config(steering: &str) -> Config {
    unresolved(steering)
        .host("tunnelled.test", ORIGIN4)
        .host("inspected.test", ORIGIN4)
        .host("crl.test", ORIGIN4)
        .host("six.test", ORIGIN6)
}

/// Without an answer for any name.
fn unresolved(steering: &str) -> Config {
    let mut config = Config::new()
        .service(Service::tunnel("Tunnelled", &["tunnelled.test"], 443))
        .service(Service::inspect("Inspected", &["inspected.test"], 443).header("X-Allowed-Org", "city"))
        .service(Service::plain("Lists", &["crl.test"], 80))
        .service(Service::tunnel("Six", &["six.test"], 443))
        .set("upstream", "allow_addresses", "[\"198.51.100.0/24\", \"2001:db8:51::/48\"]");
    config.listeners = vec!["0.0.0.0".to_owned()];
    config.clients = "[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\", \"fd00:20::/48\"]\n".to_owned();
    for address in ["0.0.0.0:8443", "[::]:8443"] {
        config.tail += &format!("[[listener]]\nmode = \"transparent\"\n{steering}address = \"{address}\"\n");
    }
    config
}

fn origin(office: &Office) -> Origin {
    let names = ["tunnelled.test", "inspected.test"];
    Origin::https(&names).expecting(&["x-allowed-org"]).start_on(office.internet.listen(at(ORIGIN4, 443)))
}

/// What a terminal sees that meant `to` and says `sni`.
async fn asks(office: &Office, to: SocketAddr, sni: &str, root: &str) -> String {
    let wire = office.client.connect(to).expect("somebody answers for every address");
    let mut tls = Tls::named(sni).trusting(root).alpn(&["http/1.1"]).over(wire).await;
    tls.get(sni, "/").await.expect("an answer").text()
}

/// The octets that come back for these.
async fn answered(office: &Office, to: SocketAddr, says: impl AsRef<[u8]>) -> Vec<u8> {
    let mut wire = office.client.connect(to).expect("somebody answers for every address");
    wire.send(says).await;
    wire.rest().await.0
}

async fn by_name_and_port(steering: &str, rules: &str, prepare: impl Fn(&Office)) {
    let office = Office::new();
    prepare(&office);
    office.load(rules);
    let origin = origin(&office);
    let mut sekisho = Sekisho::start_inside(&config(steering), &office.gate).await;
    let (origins, issuing) = (std::fs::read_to_string(sekisho.path("origins.pem")).expect("roots"), sekisho.ca());

    // The name leads, whatever address the client meant.
    assert_eq!(asks(&office, at(FORGED4, 443), "tunnelled.test", &origins).await, "origin saw GET /");
    let record = sekisho.next("connection").await;
    record.says("allowed", "").with("sekisho.mode", "tunnel").with("tls.client.server_name", "tunnelled.test");
    record.with("source.ip", CLIENT4).with("sekisho.original_destination", &format!("{FORGED4}:443"));
    record
        .with("destination.ip", ORIGIN4)
        .with("url.domain", "tunnelled.test")
        .with("sekisho.listener", "0.0.0.0:8443");

    assert_eq!(asks(&office, at(FORGED4, 443), "inspected.test", &issuing).await, "origin saw GET /");
    assert_eq!(origin.requests().last().expect("it arrived").values("x-allowed-org"), ["city"]);
    sekisho.next("request").await.says("allowed", "").with("sekisho.original_destination", &format!("{FORGED4}:443"));
    sekisho.next("connection").await.says("allowed", "").with("sekisho.mode", "inspect");

    // Not on the list; on it, at another port that is steered; no name; neither TLS nor HTTP.
    let denied = answered(&office, at(ORIGIN4, 443), Tls::named("denied.test").hello()).await;
    assert_eq!(alert_of(&denied), Some(ACCESS_DENIED));
    sekisho
        .next("connection")
        .await
        .says("denied", "not_allowlisted")
        .with("sekisho.original_destination", &format!("{ORIGIN4}:443"));
    let port = answered(&office, at(ORIGIN4, 80), Tls::named("tunnelled.test").hello()).await;
    assert_eq!(alert_of(&port), Some(ACCESS_DENIED));
    sekisho.next("connection").await.says("denied", "port_not_permitted");
    let unnamed = answered(&office, at(ORIGIN4, 443), Tls::named("tunnelled.test").without_sni().hello()).await;
    assert_eq!(alert_of(&unnamed), Some(UNRECOGNIZED_NAME));
    sekisho.next("connection").await.says("denied", "no_sni");
    for neither in [b"\0\0\0\0".as_slice(), b"SSH-2.0-x\r\n", b"get / HTTP/1.1\r\n\r\n", b"\r\n"] {
        for port in [443, 80] {
            assert_eq!(answered(&office, at(ORIGIN4, port), neither).await, b"", "{neither:?} at {port}");
            sekisho.next("connection").await.says("denied", "not_tls");
        }
    }
    // The head of a request at a port that Host does not name.
    let answer = answered(&office, at(ORIGIN4, 443), "GET / HTTP/1.1\r\nHost: crl.test\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
    sekisho.next("request").await.says("denied", "malformed_request");
    assert_eq!(origin.connects(), 3, "the tunnel, the verdict's handshake and the inspected connection");
    let _ = sekisho.finish().await;
}

#[tokio::test]
async fn a13_a_redirected_client_is_let_to_the_name_it_says_and_never_to_an_address() {
    if have("steering by redirect") {
        by_name_and_port("", "sekisho.nft", |_| {}).await;
    }
}

#[tokio::test]
async fn a13_the_same_by_tproxy() {
    if !have("steering by tproxy") {
        return;
    }
    by_name_and_port("steering = \"tproxy\"\n", "sekisho-tproxy.nft", takes_what_is_marked).await;
}

/// The routes of `sekisho-tproxy.nft`.
fn takes_what_is_marked(office: &Office) {
    for family in ["-4", "-6"] {
        office.gate.ip(&[family, "rule", "add", "fwmark", "0x5e/0xff", "lookup", "94"]);
        office.gate.ip(&[family, "route", "add", "local", "default", "dev", "lo", "table", "94"]);
    }
}

/// One limit for all of what comes first, whatever the first octet is and whenever it comes.
#[tokio::test]
async fn h02_a_steered_client_has_one_time_limit_from_its_beginning() {
    if !have("slow steered clients") {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let config = config("").set("timeouts", "client_hello", "\"2s\"").set("timeouts", "request_head", "\"2s\"");
    let mut sekisho = Sekisho::start_inside(&config, &office.gate).await;
    for (port, octet, reason) in [
        (443, b"\x16", "client_hello_timeout"),
        (443, b"G", "client_hello_timeout"),
        (80, b"G", "request_head_timeout"),
    ] {
        let began = tokio::time::Instant::now();
        let mut wire = office.client.connect(at(ORIGIN4, port)).expect("connected");
        tokio::time::sleep_until(began + std::time::Duration::from_millis(1_500)).await;
        wire.send(octet).await;
        let record = sekisho.next("connection").await;
        let took = std::time::Duration::from_nanos(record.number("event.duration"));
        assert!(record.reason() == reason, "{record:?}");
        // Two limits, one behind the other, would be 3.5 s.
        assert!(took < std::time::Duration::from_millis(3_300), "{port} {octet:?}: {took:?}");
    }
}

#[tokio::test]
async fn steering_takes_ipv6_too() {
    if !have("steering of IPv6") {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let origin = Origin::https(&["six.test"]).start_on(office.internet.listen(at(ORIGIN6, 443)));
    let mut sekisho = Sekisho::start_inside(&config(""), &office.gate).await;
    let origins = std::fs::read_to_string(sekisho.path("origins.pem")).expect("roots");
    assert_eq!(asks(&office, at(FORGED6, 443), "six.test", &origins).await, "origin saw GET /");
    let record = sekisho.next("connection").await;
    record.says("allowed", "").with("source.ip", CLIENT6).with("destination.ip", ORIGIN6);
    record.with("sekisho.original_destination", &format!("[{FORGED6}]:443")).with("sekisho.listener", "[::]:8443");
    assert_eq!(origin.requests().len(), 1);
}

/// Opens so many as fast as it can, and waits for none.
fn floods(office: &Office, from: &[&str], to: SocketAddr, connections: usize) -> Vec<Socket> {
    let open = |from: &&str| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.bind(&at(from, 0).into()).expect("an address of the terminal");
        socket.set_nonblocking(true).expect("a mode");
        let _ = socket.connect(&to.into());
        socket
    };
    office.client.enter(|| from.iter().cycle().take(connections).map(open).collect())
}

/// Who opens more than sekisho would serve is stopped where it costs hardly anything, and nobody else is.
#[tokio::test]
async fn h03_a_flood_of_connections_is_dropped_by_source_before_it_reaches_the_service() {
    if !have("a flood of connections") {
        return;
    }
    for rules in ["sekisho.nft", "sekisho-tproxy.nft"] {
        let office = Office::new();
        takes_what_is_marked(&office);
        office.client.ip(&["addr", "add", "fd00:20::3/64", "dev", "eth0", "nodad"]);
        office.load(rules);
        let sekisho = Sekisho::start_inside(&config(""), &office.gate).await;
        for (flooding, to, others) in [
            (&[CLIENT4][..], at(GATE4, sekisho.addr().port()), at("fd00:20::1", 8443)),
            (&[CLIENT6, "fd00:20::3"], at("fd00:20::1", 8443), at(GATE4, 8443)),
        ] {
            office.client.connect(others).expect("the neighbours know each other");
            let (began, before) = (std::time::Instant::now(), office.gate.counted("flood_dropped"));
            let held = floods(&office, flooding, to, 1_000);
            let dropped = office.gate.counted("flood_dropped") - before;
            let let_in = 400 + 200 * (began.elapsed().as_secs() + 1);
            // Here it takes some 20 ms; where it took two seconds, as many would be let in.
            assert!(dropped > 0 && dropped >= 1_000_u64.saturating_sub(let_in), "{rules}, {flooding:?}: {dropped}");
            office.client.connect_within(others, std::time::Duration::from_millis(900)).expect("at the first attempt");
            drop(held);
            // By and by it is let again.
            office.client.connect(to).expect("within some attempts");
        }
    }
}

async fn request(wire: &mut Wire<tokio::net::TcpStream>, head: &str) -> super::support::Response {
    wire.send(format!("{head}\r\n\r\n")).await;
    wire.response(head.split(' ').next().expect("a method")).await
}

#[tokio::test]
async fn a13_plain_http_goes_by_its_host_and_the_port_that_was_meant() {
    if !have("steering of plain HTTP") {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let origin = Origin::http().start_on(office.internet.listen(at(ORIGIN4, 80)));
    let mut sekisho = Sekisho::start_inside(&config(""), &office.gate).await;
    let mut wire = office.client.connect(at(FORGED4, 80)).expect("connected");
    // Twice on one connection.
    for path in ["/a.crl", "/b.crl"] {
        let answer = request(&mut wire, &format!("GET {path} HTTP/1.1\r\nHost: crl.test")).await;
        assert_eq!((answer.status, answer.text()), (200, format!("origin saw GET {path}")));
        let record = sekisho.next("request").await;
        record
            .says("allowed", "")
            .with("url.domain", "crl.test")
            .with("url.path", path)
            .with("destination.ip", ORIGIN4);
        record.with("sekisho.original_destination", &format!("{FORGED4}:80"));
    }
    for (head, status, reason) in [
        ("GET / HTTP/1.1\r\nHost: denied.test", 403, "not_allowlisted"),
        ("GET / HTTP/1.1\r\nHost: tunnelled.test", 403, "port_not_permitted"),
        ("GET / HTTP/1.1\r\nHost: 198.51.100.7", 403, "ip_literal"),
        ("GET / HTTP/1.1\r\nHost: crl.test:8080", 400, "malformed_request"),
        ("GET http://crl.test/ HTTP/1.1\r\nHost: crl.test", 400, "malformed_request"),
        ("GET / HTTP/1.1\r\nHost: crl.test\r\nHost: crl.test", 400, "malformed_request"),
        ("GET / HTTP/1.0", 400, "malformed_request"),
        ("PUT / HTTP/1.1\r\nHost: crl.test\r\nContent-Length: 0", 405, "method_not_permitted"),
    ] {
        let mut wire = office.client.connect(at(FORGED4, 80)).expect("connected");
        let answer = request(&mut wire, head).await;
        assert_eq!(answer.status, status, "{head}: {answer:?}");
        // A head that cannot be read is no request yet.
        let action = if head.contains("test\r\nHost") { "connection" } else { "request" };
        sekisho.next(action).await.says("denied", reason);
    }
    // Who takes the box for a proxy asks at the wrong port.
    let mut wire = office.client.connect(at(FORGED4, 80)).expect("connected");
    let answer = request(&mut wire, "CONNECT tunnelled.test:443 HTTP/1.1\r\nHost: tunnelled.test:443").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    sekisho.next("connection").await.says("denied", "malformed_request");
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn a17_a_transparent_listener_is_nothing_to_connect_to() {
    if !have("a transparent listener itself") {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let origin = origin(&office);
    let mut sekisho = Sekisho::start_inside(&config(""), &office.gate).await;
    let said = answered(&office, at(GATE4, 8443), Tls::named("tunnelled.test").hello()).await;
    assert_eq!(alert_of(&said), Some(ACCESS_DENIED));
    sekisho.next("connection").await.says("denied", "self_connection");
    origin.untouched();
    // The explicit listener of the same box is not steered past.
    let explicit = at(GATE4, sekisho.addr().port());
    let mut wire = office.client.connect(explicit).expect("connected");
    let answer = request(&mut wire, "CONNECT tunnelled.test:443 HTTP/1.1\r\nHost: tunnelled.test:443").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a16_o06_nothing_gets_past_the_box_whether_sekisho_runs_or_not() {
    if !have("the rules without sekisho") {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let origin = origin(&office);
    let quic = office.internet.enter(|| UdpSocket::bind(at(ORIGIN4, 443))).expect("a socket");
    quic.set_nonblocking(true).expect("a mode");
    office.internet.counts_packets_of_clients();
    let mut sekisho = Sekisho::start_inside(&config(""), &office.gate).await;
    let try_everything = |runs: bool| {
        let tcp = |port| office.client.connect(at(ORIGIN4, port)).map(drop);
        // Steered, and refused by the port where nobody listens.
        assert_eq!(tcp(443).is_ok(), runs);
        assert_eq!(tcp(80).is_ok(), runs);
        for port in [22, 853, 8080, 8443] {
            assert!(tcp(port).is_err(), "TCP {port}");
        }
        let terminal = office.client.enter(|| UdpSocket::bind(at(CLIENT4, 0))).expect("a socket");
        for port in [443, 53, 3478] {
            // A refusal of the one before may be told here.
            let _ = terminal.connect(at(ORIGIN4, port)).and_then(|()| terminal.send(b"hello"));
        }
    };
    // The box says so at once, and browsers fall back. Later refusals it may keep to itself (icmp(7): `icmp_ratelimit`).
    let browser = office.client.enter(|| UdpSocket::bind(at(CLIENT4, 0))).expect("a socket");
    browser.connect(at(ORIGIN4, 443)).expect("a route");
    browser.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a time");
    browser.send(b"hello").expect("sent");
    let error = browser.recv(&mut [0; 16]).expect_err("a refusal");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    try_everything(true);
    assert!(office.gate.counted("quic_refused") >= 1 && office.gate.counted("steered") >= 2);
    sekisho.kill().await;
    try_everything(false);
    assert_eq!(office.internet.packets_of_clients(), 0, "packets of the terminal on the internet's side");
    assert!(quic.recv(&mut [0; 16]).is_err());
    origin.untouched();
    sekisho.start_again().await;
    try_everything(true);
    assert_eq!(office.internet.packets_of_clients(), 0, "packets of the terminal on the internet's side");
}
