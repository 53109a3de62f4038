//! Only scenes about the listener that hands out the script for browsers belong here: to whom, in which forms, and to nobody else.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use socket2::SockRef;

use super::support::client::{Response, Wire, connect, connect_from};
use super::support::sekisho::{free_port, run, text};
use super::support::{Config, Origin, Sekisho, Service, until, within};

const MIME: &str = "application/x-ns-proxy-autoconfig";

fn config(address: SocketAddr) -> Config {
    Config::new()
        .service(Service::tunnel("tunnelled", &["tunnelled.test", "*.below.test"], 443))
        .set("pac", "address", &format!("\"{address}\""))
        .set("pac", "proxies", "[\"proxy.city.example:8080\"]")
        .set("pac", "otherwise", "\"block\"")
}

fn somewhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1")))
}

async fn ask(wire: &mut Wire<tokio::net::TcpStream>, request: &str, fields: &str) -> Response {
    wire.send(format!("{request} HTTP/1.1\r\nHost: wpad\r\n{fields}\r\n")).await;
    wire.response(request.split(' ').next().expect("a method")).await
}

async fn get(address: SocketAddr, path: &str) -> Response {
    let mut wire = connect(address).await.expect("the PAC port accepts");
    ask(&mut wire, &format!("GET {path}"), "").await
}

#[tokio::test]
async fn both_paths_serve_what_the_command_prints() {
    let address = somewhere();
    let sekisho = Sekisho::start(&config(address)).await;
    let printed = run(&sekisho.path(""), &["pac", "--client", "127.0.0.1"]);
    assert_eq!(printed.status.code(), Some(0), "{}", text(&printed.stderr));
    for path in ["/proxy.pac", "/wpad.dat", "/proxy.pac?x=1"] {
        let answer = get(address, path).await;
        assert_eq!((answer.status, answer.value("content-type").as_str()), (200, MIME), "{path}");
        assert_eq!(answer.body, printed.stdout, "{path}");
        assert_eq!(answer.value("cache-control"), "private, no-cache");
        assert_eq!(answer.value("vary"), "accept-encoding");
    }
    for path in ["/", "/proxy.pac/", "/PROXY.PAC", "/metrics", "/../proxy.pac", "/proxy%2epac"] {
        let answer = get(address, path).await;
        assert!([400, 404].contains(&answer.status) && !answer.text().contains("tunnelled"), "{path}: {answer:?}");
    }
    let mut wire = connect(address).await.expect("connected");
    let answer = ask(&mut wire, "POST /proxy.pac", "Content-Length: 0\r\n").await;
    assert_eq!((answer.status, answer.value("allow").as_str()), (405, "GET, HEAD"));
    assert_eq!(sekisho.records().iter().filter(|record| record.is_terminal()).count(), 0, "no attempts");
    let metrics = sekisho.metrics().await;
    for (result, count) in [("script", 3.0), ("astray", 7.0), ("refused", 0.0), ("unchanged", 0.0)] {
        // A target that is no path is turned away before it is a request.
        let counted = metrics[&format!("sekisho_pac_requests_total{{result=\"{result}\"}}")];
        assert!((counted - count).abs() < 0.5, "{result}: {counted}");
    }
}

#[tokio::test]
async fn a_browser_that_has_the_script_is_told_so_and_one_that_takes_gzip_gets_less() {
    let address = somewhere();
    let sekisho = Sekisho::start(&config(address)).await;
    let mut wire = connect(address).await.expect("connected");
    let plain = ask(&mut wire, "GET /proxy.pac", "").await;
    let zipped = ask(&mut wire, "GET /proxy.pac", "Accept-Encoding: deflate, gzip\r\n").await;
    assert_eq!((zipped.status, zipped.value("content-encoding").as_str()), (200, "gzip"));
    assert!(plain.value("content-encoding").is_empty() && zipped.value("etag") != plain.value("etag"));
    assert_eq!(gunzip(&zipped.body), plain.body);
    let head = ask(&mut wire, "HEAD /proxy.pac", "").await;
    assert_eq!((head.status, head.value("content-length")), (200, plain.body.len().to_string()));
    assert_eq!(head.value("etag"), plain.value("etag"));
    let known = format!("If-None-Match: \"other\", {}\r\n", plain.value("etag"));
    let unchanged = ask(&mut wire, "GET /proxy.pac", &known).await;
    assert_eq!((unchanged.status, unchanged.body.len(), unchanged.value("etag")), (304, 0, plain.value("etag")));
    // Another policy, another script, on the connection that is open.
    sekisho.reload(&config(address).service(Service::tunnel("more", &["more.test"], 443))).await;
    let anew = ask(&mut wire, "GET /proxy.pac", &known).await;
    assert!(anew.status == 200 && anew.text().contains("=more.test"), "{anew:?}");
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip runs");
    child.stdin.take().expect("piped").write_all(bytes).expect("gzip reads");
    let out = child.wait_with_output().expect("gzip ends");
    assert!(out.status.success());
    out.stdout
}

#[tokio::test]
async fn a_stranger_gets_no_script_and_a_group_its_own() {
    let address = somewhere();
    let mut config = config(address).service(Service::tunnel("B", &["of-b.test"], 443).line("clients = [\"b\"]"));
    config.clients = "[[clients]]\nname = \"a\"\nnetworks = [\"127.0.0.2/32\"]\n\
                      [[clients]]\nname = \"b\"\nnetworks = [\"127.0.0.3/32\", \"127.0.0.4/32\"]\n"
        .to_owned();
    config.tail =
        "[[pac.network]]\nnetworks = [\"127.0.0.4/32\"]\nproxies = [\"floor.city.example:8080\"]\n".to_owned();
    let sekisho = Sekisho::start(&config).await;
    let answer = get(address, "/proxy.pac").await;
    assert_eq!((answer.status, answer.text().as_str()), (403, "127.0.0.1 is in no [[clients]] of this proxy\n"));
    for (client, its, proxy) in [
        ("127.0.0.2", false, "PROXY proxy.city.example:8080"),
        ("127.0.0.3", true, "PROXY proxy.city.example:8080"),
        ("127.0.0.4", true, "PROXY floor.city.example:8080"),
    ] {
        let mut wire = connect_from(client, address).await;
        let script = ask(&mut wire, "GET /proxy.pac", "").await.text();
        let permitted = format!("var PERMITTED = \"{proxy}\"");
        assert!(script.contains(&permitted) && script.contains("=tunnelled.test"), "{client}: {script}");
        // A pattern that answers for nothing has to be there: a wider one must not speak for it.
        let ports = script.lines().find(|line| line.starts_with("var PORTS")).expect("ports").to_owned();
        let number = script.lines().find(|line| line.contains("=of-b.test")).expect("the pattern")[4..5].to_owned();
        let nothing = ports.contains("[[],[]]");
        assert_eq!((nothing, number.as_str()), (!its, if its { "0" } else { "1" }), "{client}: {script}");
    }
    let metrics = sekisho.metrics().await;
    assert!((metrics["sekisho_pac_requests_total{result=\"refused\"}"] - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn h03_one_address_cannot_take_every_place() {
    let address = somewhere();
    let mut config = config(address);
    config.clients = "[[clients]]\nname = \"a\"\nnetworks = [\"127.0.0.2/32\", \"127.0.0.9/32\"]\n".to_owned();
    let sekisho = Sekisho::start(&config).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(connect_from("127.0.0.9", address).await);
    }
    let mut wire = connect_from("127.0.0.2", address).await;
    assert_eq!(ask(&mut wire, "GET /proxy.pac", "").await.status, 200);
    // The eight that it may have are served still, and the ninth is nobody's: no stranger has to make room for it.
    assert_eq!(ask(&mut held[7], "GET /proxy.pac", "").await.status, 200);
    for one_too_many in &mut held[8..] {
        one_too_many.closed().await;
    }
    assert_eq!(get(address, "/proxy.pac").await.status, 403);
    let refused = sekisho.metrics().await["sekisho_pac_requests_total{result=\"refused\"}"];
    assert!((refused - 293.0).abs() < 0.5, "292 and the stranger: {refused}");
}

/// Thirty-two clients that hold on to all there is, and are not silent either.
#[tokio::test]
async fn h03_who_holds_every_place_keeps_others_waiting_for_a_moment() {
    let address = somewhere();
    let _sekisho = Sekisho::start(&config(address)).await;
    let mut held = Vec::new();
    for n in 0..256 {
        held.push(connect_from(&format!("127.0.1.{}", n / 8), address).await);
    }
    for wire in &mut held {
        assert_eq!(ask(wire, "HEAD /proxy.pac", "").await.status, 200);
    }
    let asked = std::time::Instant::now();
    let mut wire = connect_from("127.0.0.2", address).await;
    assert_eq!(ask(&mut wire, "GET /proxy.pac", "").await.status, 200);
    // Two, where none of them would be ended for being silent before five.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    held[0].closed().await;
    assert_eq!(ask(&mut held[255], "GET /proxy.pac", "").await.status, 200);
}

/// A script that no browser takes is made, and complained of, once for all who ask and leave, of whatever address.
#[tokio::test]
async fn h04_h11_who_asks_and_leaves_begins_no_work_anew() {
    let address = somewhere();
    let hosts: Vec<_> = (0..20_000).map(|n| format!("{}.n{n}.test", "a".repeat(60))).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let sekisho = Sekisho::start(&config(address).service(Service::tunnel("many", &hosts, 443))).await;
    for n in 0..200 {
        let mut wire = connect_from(&format!("127.0.1.{n}"), address).await;
        wire.send("GET /proxy.pac HTTP/1.1\r\nHost: wpad\r\n\r\n").await;
        SockRef::from(&wire.io).set_linger(Some(Duration::ZERO)).expect("a reset");
    }
    let answer = get(address, "/proxy.pac").await;
    let said = "the script is larger than browsers take: see the log of the proxy\n";
    assert_eq!((answer.status, answer.text().as_str()), (500, said));
    // Work that was begun for another is over before this is: it would be in the log too.
    assert_eq!(get(address, "/proxy.pac").await.status, 500);
    let lines = sekisho.stderr().matches("the PAC script is larger than browsers take and is not served").count();
    assert_eq!(lines, 1, "{}", sekisho.stderr());
}

/// The descriptors kept for the service stay free, however many come here.
#[tokio::test]
async fn h05_the_pac_listener_leaves_descriptors_for_the_service() {
    let address = somewhere();
    let config = config(address);
    let sekisho = Sekisho::start_under(&config, "ulimit -n 256").await;
    let mut held = Vec::new();
    for n in 0..320 {
        held.push(connect_from(&format!("127.0.1.{}", 1 + n / 8), address).await);
    }
    let counted = "sekisho_pac_requests_total{result=\"refused\"}";
    // An eighth of the table, 32, is kept free, of which the admin listener and the probes use a few.
    within("refusals", async { while sekisho.metrics().await[counted] < 64.0 {} }).await;
    assert!((128..=240).contains(&sekisho.descriptors()), "{}", sekisho.descriptors());
    sekisho.reload(&config).await;
    assert!(!sekisho.stderr().contains("accept failed"), "{}", sekisho.stderr());
    drop(held);
    assert_eq!(get(address, "/proxy.pac").await.status, 200);
}

/// No descriptor at all: accept fails for a while, which the log says once, and the listener is there again by itself.
#[tokio::test]
async fn h05_n05_a_pac_listener_without_descriptors_says_so_once() {
    let address = somewhere();
    let sekisho = Sekisho::start(&config(address)).await;
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(sekisho.descriptors()), maximum: before.maximum };
    prlimit(Some(sekisho.pid()), Resource::Nofile, none).expect("lowered");
    // More than the self-probe can give descriptors back for.
    let mut waiting = Vec::new();
    for n in 1..=16 {
        waiting.push(connect_from(&format!("127.0.1.{n}"), address).await);
    }
    let said = || sekisho.stderr().matches("PAC accept failed").count();
    until("a line", || (said() > 0).then_some(())).await;
    let last = waiting.last_mut().expect("sixteen");
    let served = tokio::time::timeout(Duration::from_secs(2), last.closed()).await;
    assert!(served.is_err(), "for as long as forty attempts take it waits");
    assert!((1..=5).contains(&said()), "a line for each time, not for each attempt: {}", said());
    prlimit(Some(sekisho.pid()), Resource::Nofile, before).expect("raised");
    assert_eq!(get(address, "/proxy.pac").await.status, 200);
}

#[tokio::test]
async fn h08_a_head_that_is_too_long_or_too_slow_ends_its_connection() {
    let address = somewhere();
    let _sekisho = Sekisho::start(&config(address)).await;
    let mut long = connect(address).await.expect("connected");
    let _ = long.try_send(format!("GET /proxy.pac HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024))).await;
    let (said, _) = long.rest().await;
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431 "), "{}", text(&said));
    let mut slow = connect(address).await.expect("connected");
    slow.send("GET /proxy.pac HTTP/1.1\r\nX: ").await;
    slow.closed().await;
}

#[tokio::test]
async fn a17_the_pac_listener_is_no_destination() {
    let address = somewhere();
    let config =
        config(address).service(Service::tunnel("itself", &["itself.test"], address.port())).hosts(&["itself.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    let authority = format!("itself.test:{}", address.port());
    sekisho.refused(&authority, 403, "self_connection").await.says("denied", "self_connection");
}

#[tokio::test]
async fn a_reload_moves_the_listener_and_a_taken_address_keeps_it() {
    let first = somewhere();
    let origin = Origin::https(&["allowed.test"]).start().await;
    let base = |address| config(address).tunnel("allowed.test", &origin);
    // A reload opens ports that the service had at its start.
    let mut sekisho = Sekisho::start(&base(first).listen("127.0.0.1").listen("127.0.0.1")).await;
    let [_, second, there] = sekisho.listeners[..] else { panic!("three listeners") };
    sekisho.listeners.truncate(1);
    sekisho.reload(&base(first)).await;
    let _taken = until("the port's end", || std::net::TcpListener::bind(there).ok()).await;
    sekisho.reload(&base(second)).await;
    assert_eq!(get(second, "/proxy.pac").await.status, 200);
    assert!(connect(first).await.is_err(), "the old address still listens");
    sekisho.reload_refused(&base(there).render(&[sekisho.addr()], sekisho.admin)).await;
    assert!(
        sekisho.stderr().contains(&format!("cannot listen on {there}")) && sekisho.stderr().contains("pac.address")
    );
    assert_eq!(get(second, "/proxy.pac").await.status, 200);
    sekisho.reload(&Config::new().tunnel("allowed.test", &origin)).await;
    assert!(connect(second).await.is_err(), "it still listens without [pac]");
    sekisho.signal(rustix::process::Signal::TERM);
    assert!(sekisho.exit().await.success());
}
