//! Only scenes about the service's own life belong here: the drain, the cut, and what a reload does to connections that are open.

use http::Request;
use rustix::process::Signal;

use crate::support::by_hand::{ByHand, at_once, both_ends, inside, inside_as, inside_h2};
use crate::support::client::{Tls, Wire, connect};
use crate::support::h2c::{self, H2, collect};
use crate::support::{Config, Origin, Sekisho, Service, until, within};

/// No one listens on the proxy port any more.
async fn listeners_closed(sekisho: &Sekisho) {
    within("closed listeners", async {
        while connect(sekisho.addr()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A tunnel and an inspected service.
fn one_of_each(echo: &Origin, origin: &ByHand, drain: &str) -> Config {
    Config::new()
        .tunnel("tunnel.test", echo)
        .service(Service::inspect("allowed.test", &["allowed.test"], origin.port()))
        .hosts(&["allowed.test"])
        .set("timeouts", "drain", &format!("{drain:?}"))
}

fn get(at: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n")
}

#[tokio::test]
async fn sigterm_closes_the_idle_finishes_requests_and_cuts_tunnels_at_drain() {
    let echo = Origin::https(&["tunnel.test"]).echoing().start().await;
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let config = one_of_each(&echo, &origin, "2s");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut tunnel = Tls::named("tunnel.test").over(sekisho.tunnel(&echo.at("tunnel.test")).await).await;
    tunnel.send("x").await;
    assert_eq!(tunnel.exactly(1).await.expect("an echo"), b"x");
    let tls = Tls::named("allowed.test");
    // One inspected connection waits for its next request, the other for its answer.
    let (mut idle, mut idle_far) = both_ends(&sekisho, "allowed.test", &origin, &tls).await;
    idle.send(get(&at, "/idle")).await;
    idle_far.head().await.expect("a head");
    idle_far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(idle.response("GET").await.text(), "ok");
    let (mut busy, mut busy_far) = both_ends(&sekisho, "allowed.test", &origin, &tls).await;
    busy.send(get(&at, "/busy")).await;
    busy_far.head().await.expect("a head");
    // And one has asked for nothing but a refusal.
    let (mut refused, answer) = sekisho.connect("denied.test:443").await;
    assert_eq!(answer.status, 403);
    sekisho.next_connection().await.says("denied", "not_allowlisted");
    sekisho.next_request().await.with("url.path", "/idle");

    let begun = std::time::Instant::now();
    sekisho.signal(Signal::TERM);
    listeners_closed(&sekisho).await;
    assert_eq!(sekisho.admin("/readyz").await.status, 503);
    assert_eq!(sekisho.admin("/livez").await.status, 200);
    let (rest, end) = idle.rest().await;
    assert!(rest.is_empty() && end.is_ok(), "an idle connection ends in order: {end:?}");
    let (rest, end) = refused.rest().await;
    assert!(rest.is_empty() && end.is_ok(), "{end:?}");
    // The request under way finishes, and is the last of its connection.
    busy_far.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nd").await;
    tunnel.send("y").await;
    assert_eq!(tunnel.exactly(1).await.expect("an echo"), b"y", "a tunnel goes on until drain");
    busy_far.send("one").await;
    drop(busy_far);
    busy_far_is_done(&mut busy).await;
    assert!(!sekisho.has_exited());
    tunnel.rest().await.1.expect_err("cut, not ended in order");
    assert!(begun.elapsed().as_millis() >= 1900, "cut at drain, not before: {:?}", begun.elapsed());
    assert!(sekisho.exit().await.success());
    sekisho.next_request().await.says("allowed", "").with("url.path", "/busy");
    let records: Vec<_> = sekisho.records();
    let reasons: Vec<(&str, &str, &str)> = records
        .iter()
        .filter(|record| record.is_terminal() && record.action() == "connection" && record.outcome() != "denied")
        .map(|record| (record.text("url.domain"), record.outcome(), record.reason()))
        .collect();
    assert!(reasons.contains(&("tunnel.test", "allowed", "shutting_down")), "{reasons:?}");
    assert_eq!(
        reasons.iter().filter(|(domain, outcome, _)| (*domain, *outcome) == ("allowed.test", "allowed")).count(),
        2,
        "{reasons:?}"
    );
    assert_eq!(records.last().expect("records").text("sekisho.lifecycle"), "stop");
    origin.untouched();
}

async fn busy_far_is_done<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(busy: &mut Wire<S>) {
    let answer = busy.response("GET").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "done", true), "{answer:?}");
    busy.closed().await;
}

#[tokio::test]
async fn a_drain_over_h2_is_goaway_and_the_running_stream_finishes() {
    let origin = ByHand::start(&["allowed.test"], &["h2"]).await;
    let service = Service::inspect("allowed.test", &["allowed.test"], origin.port());
    let config = Config::new().service(service).hosts(&["allowed.test"]).set("timeouts", "drain", "\"20s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let tls = Tls::named("allowed.test").alpn(&["h2"]);
    let (mut client, mut far) =
        at_once(async { H2::over(inside_as(&sekisho, "allowed.test", origin.port(), &tls).await).await }, async {
            h2::server::handshake(origin.accept().await.io).await.expect("HTTP/2")
        })
        .await;
    let request = Request::get(format!("https://{at}/running")).body(()).expect("a request");
    let (answer, _) = client.send.send_request(request, true).expect("sent");
    let (_, mut respond) = within("the stream", far.accept()).await.expect("a stream").expect("a request");
    let driver = tokio::spawn(async move { while far.accept().await.is_some() {} });
    let begun = std::time::Instant::now();
    sekisho.signal(Signal::TERM);
    within("GOAWAY", async {
        while client.send.clone().ready().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut body = respond.send_response(http::Response::new(()), false).expect("a response");
    body.send_data(bytes::Bytes::from_static(b"finished"), true).expect("content");
    drop((body, respond));
    assert_eq!(collect(answer.await.expect("an answer")).await.expect("whole").text(), "finished");
    client.ended().await.expect("an end in order");
    assert!(sekisho.exit().await.success());
    assert!(begun.elapsed().as_secs() < 10, "nothing is left to wait for: {:?}", begun.elapsed());
    sekisho.next_request().await.says("allowed", "");
    sekisho.next_connection().await.with("event.outcome", "allowed");
    let _ = within("the origin's end", driver).await;
}

#[tokio::test]
async fn a_second_sigterm_cuts_now() {
    let echo = Origin::https(&["tunnel.test"]).echoing().start().await;
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let config = one_of_each(&echo, &origin, "1h");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut tunnel = Tls::named("tunnel.test").over(sekisho.tunnel(&echo.at("tunnel.test")).await).await;
    let (mut busy, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    busy.send(get(&at, "/busy")).await;
    far.head().await.expect("a head");
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    busy.head().await.expect("a head");
    sekisho.signal(Signal::TERM);
    listeners_closed(&sekisho).await;
    tunnel.send("x").await;
    assert_eq!(tunnel.exactly(1).await.expect("an echo"), b"x");
    let begun = std::time::Instant::now();
    sekisho.signal(Signal::TERM);
    tunnel.rest().await.1.expect_err("cut");
    assert!(busy.rest().await.1.is_err(), "a cut answer looks cut (N02)");
    assert!(sekisho.exit().await.success(), "{}", sekisho.stderr());
    assert!(begun.elapsed().as_secs() < 6, "{:?}", begun.elapsed());
    sekisho.next_request().await.with("event.reason", "shutting_down").with("url.path", "/busy");
    let records = sekisho.records();
    // The others are those of this scene's own knocking.
    let cut = records
        .iter()
        .filter(|record| record.is_terminal() && record.action() == "connection" && record.has("url.domain"));
    let cut: Vec<_> = cut.map(|record| (record.outcome(), record.reason())).collect();
    assert_eq!(cut, [("allowed", "shutting_down"); 2]);
    assert_eq!(records.last().expect("records").text("sekisho.lifecycle"), "stop");
    assert!(!sekisho.stderr().contains("would not end"), "{}", sekisho.stderr());
}

#[tokio::test]
async fn with_nothing_open_sigterm_and_sigint_end_at_once_with_zero() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut sekisho = Sekisho::start(&Config::new().set("timeouts", "drain", "\"1h\"")).await;
        let begun = std::time::Instant::now();
        sekisho.signal(signal);
        let status = sekisho.exit().await;
        assert_eq!(status.code(), Some(0));
        assert!(begun.elapsed().as_secs() < 5);
        let mut words: Vec<String> =
            sekisho.records().iter().map(|record| record.text("sekisho.lifecycle").to_owned()).collect();
        // What the kernel and the folder leave open.
        words.retain(|word| word != "unrestricted");
        // A configuration without services is worth a word.
        assert_eq!(words, ["start", "config_problem", "stop"]);
    }
}

/// A connection that comes while the service drains but before its listener has closed is told so.
#[tokio::test]
async fn a_claim_during_the_drain_is_refused_or_closed_and_reaches_nobody() {
    let echo = Origin::https(&["tunnel.test"]).echoing().start().await;
    let config = Config::new().tunnel("tunnel.test", &echo).set("timeouts", "drain", "\"20s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let mut tunnel = Tls::named("tunnel.test").over(sekisho.tunnel(&echo.at("tunnel.test")).await).await;
    let before = echo.connects();
    let mut early = sekisho.client().await;
    early.send("CONN").await;
    // Accepted: what only waits in the kernel goes with the listener, and is no attempt.
    sekisho.connected(2).await;
    sekisho.signal(Signal::TERM);
    listeners_closed(&sekisho).await;
    let at = echo.at("denied.test");
    let _ = early.try_send(format!("ECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    let answer = early.maybe_response("CONNECT").await;
    assert!(answer.as_ref().is_none_or(|answer| answer.status >= 400), "{answer:?}");
    assert_eq!(echo.connects(), before);
    drop(early);
    tunnel.finish_writing().await;
    tunnel.closed().await;
    drop(tunnel);
    assert!(sekisho.exit().await.success());
    let records = sekisho.terminals("connection", 2).await;
    assert!(
        records.iter().all(|record| record.outcome() != "allowed" || record.text("url.domain") == "tunnel.test"),
        "{records:#?}"
    );
}

fn two(first: &Origin, second: &Origin) -> Config {
    Config::new().tunnel("one.test", first).tunnel("two.test", second)
}

#[tokio::test]
async fn l08_a_tunnel_no_longer_permitted_is_cut_at_the_reload_and_others_live() {
    let one = Origin::https(&["one.test"]).echoing().start().await;
    let other = Origin::https(&["two.test"]).echoing().start().await;
    let mut sekisho = Sekisho::start(&two(&one, &other)).await;
    let mut cut = Tls::named("one.test").over(sekisho.tunnel(&one.at("one.test")).await).await;
    let mut kept = Tls::named("two.test").over(sekisho.tunnel(&other.at("two.test")).await).await;
    for wire in [&mut cut, &mut kept] {
        wire.send("abc").await;
        assert_eq!(wire.exactly(3).await.expect("an echo"), b"abc");
    }
    // A reload that changes nothing cuts nobody, nor does one that fails.
    sekisho.reload(&two(&one, &other)).await;
    sekisho.reload_refused("nonsense").await;
    for wire in [&mut cut, &mut kept] {
        wire.send("d").await;
        assert_eq!(wire.exactly(1).await.expect("an echo"), b"d");
    }
    sekisho.reload(&Config::new().tunnel("two.test", &other)).await;
    assert!(cut.rest().await.1.is_err(), "cut, not ended in order");
    let record = sekisho.next_connection().await;
    record.says("allowed", "policy_withdrawn").with("url.domain", "one.test").with("sekisho.side", "sekisho");
    assert!(record.number("source.bytes") > 4);
    kept.send("e").await;
    assert_eq!(kept.exactly(1).await.expect("an echo"), b"e");
    sekisho.refused(&one.at("one.test"), 403, "not_allowlisted").await;
    kept.bye().await;
    sekisho.next_connection().await.says("allowed", "").with("url.domain", "two.test");
    sekisho.finish().await;
}

/// Each way in which a reload can take a tunnel's permission away, not only the service's removal.
#[tokio::test]
async fn l08_every_way_to_withdraw_a_tunnel_cuts_it() {
    let origin = Origin::https(&["one.test"]).echoing().start().await;
    let start = Config::new().tunnel("one.test", &origin);
    let elsewhere = "[[clients]]\nname = \"office\"\nnetworks = [\"10.0.0.0/8\"]\n";
    let rows: [(&str, Config); 5] = [
        ("no services", Config::new()),
        ("another port", Config::new().service(Service::tunnel("one.test", &["one.test"], 443)).hosts(&["one.test"])),
        ("another client", start.clone().clients(elsewhere)),
        ("inspected now", Config::new().inspect("one.test", &origin)),
        ("another pattern", Config::new().service(Service::tunnel("one.test", &["*.one.test"], origin.port()))),
    ];
    let mut sekisho = Sekisho::start(&Config::new().inspect("one.test", &origin)).await;
    for (row, withdrawn) in rows {
        sekisho.reload(&start).await;
        let mut wire = Tls::named("one.test").over(sekisho.tunnel(&origin.at("one.test")).await).await;
        wire.send("x").await;
        assert_eq!(wire.exactly(1).await.expect("an echo"), b"x");
        sekisho.reload(&withdrawn).await;
        assert!(wire.rest().await.1.is_err(), "{row}");
        sekisho.next_connection().await.says("allowed", "policy_withdrawn");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn l08_an_inspected_connection_gets_the_page_and_its_end() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let other = Origin::https(&["other.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).inspect("other.test", &other);
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut h1 = inside(&sekisho, "allowed.test", origin.port()).await;
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let mut kept = inside_h2(&sekisho, "other.test", other.port()).await;
    assert_eq!(h1.get(&at, "/").await.expect("an answer").status, 200);
    assert_eq!(h2.get(&format!("https://{at}/")).await.expect("an answer").status, 200);
    assert_eq!(kept.get(&format!("https://{}/", other.at("other.test"))).await.expect("an answer").status, 200);
    for _ in 0..3 {
        sekisho.next_request().await.says("allowed", "");
    }
    sekisho.reload(&Config::new().inspect("other.test", &other)).await;
    let before = origin.requests().len();
    let page = h1.get(&at, "/withdrawn").await.expect("a page");
    let record = sekisho.next_request().await;
    assert_eq!(record.outcome(), "denied");
    page.page(403, record.reason());
    assert!(["policy_withdrawn", "not_allowlisted"].contains(&record.reason()), "{record:?}");
    h1.closed().await;
    let page = h2.get(&format!("https://{at}/withdrawn")).await.expect("a page");
    let record = sekisho.next_request().await;
    page.page(403, record.reason());
    h2.ended().await.expect("GOAWAY, and an end in order");
    for _ in 0..2 {
        sekisho.next_connection().await.says("allowed", "policy_withdrawn").with("url.domain", "allowed.test");
    }
    assert_eq!(origin.requests().len(), before, "nothing more reached it");
    let uri = format!("https://{}/", other.at("other.test"));
    assert_eq!(kept.get(&uri).await.expect("an answer").status, 200, "the service beside it goes on");
    sekisho.next_request().await.says("allowed", "");
    drop(kept);
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

/// The frame itself: GOAWAY, not only an end.
#[tokio::test]
async fn l08_over_h2_the_end_is_announced_by_goaway() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let mut wire = inside_as(&sekisho, "allowed.test", origin.port(), &Tls::named("allowed.test").alpn(&["h2"])).await;
    let fields = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", at.as_str())];
    wire.send([h2c::preface(), h2c::headers(1, true, &fields)].concat()).await;
    h2c::end_of(&mut wire, 1).await.expect("an answer");
    sekisho.next_request().await.says("allowed", "");
    let after = Config::new().tunnel("other.test", &origin);
    sekisho.reload(&after).await;
    wire.send(h2c::headers(3, true, &fields)).await;
    let mut kinds = Vec::new();
    while let Some(frame) = h2c::next(&mut wire).await {
        kinds.push((frame.kind, frame.stream));
        if frame.kind == 7 && kinds.contains(&(1, 3)) {
            break;
        }
    }
    assert!(kinds.contains(&(1, 3)), "the page on its stream: {kinds:?}");
    assert!(kinds.iter().any(|(kind, _)| *kind == 7), "GOAWAY: {kinds:?}");
    assert_eq!(sekisho.next_request().await.outcome(), "denied");
    drop(wire);
    sekisho.next_connection().await.says("allowed", "policy_withdrawn");
}

/// design.md: "a withdrawn rule does not live on". A WebSocket makes no further request, so that nobody would ever ask again.
#[tokio::test]
async fn l08_a_websocket_no_longer_permitted_is_cut_at_the_reload() {
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let service = Service::inspect("allowed.test", &["allowed.test"], origin.port());
    let other = Origin::https(&["other.test"]).start().await;
    let config = Config::new().service(service).hosts(&["allowed.test"]).tunnel("other.test", &other);
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
    wire.send(format!("GET /ws HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n")).await;
    far.head().await.expect("a head");
    far.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(wire.response("GET").await.status, 101);
    wire.send("before").await;
    assert_eq!(far.exactly(6).await.expect("frames"), b"before");
    sekisho.reload(&Config::new().tunnel("other.test", &other)).await;
    let cut = tokio::time::timeout(std::time::Duration::from_secs(3), wire.rest()).await;
    assert!(cut.is_ok(), "it lives on after its permission");
    sekisho.next_request().await.with("event.reason", "policy_withdrawn");
    sekisho.next_connection().await.says("allowed", "policy_withdrawn");
}

#[tokio::test]
async fn headers_changed_by_a_reload_are_on_the_next_request_of_an_open_connection() {
    let origin = Origin::https(&["allowed.test"]).expecting(&["x-first", "x-second"]).start().await;
    let with = |name: &str, value: &str| {
        let service = Service::inspect("one", &["allowed.test"], origin.port()).header(name, value);
        Config::new().service(service).hosts(&["allowed.test"])
    };
    let mut sekisho = Sekisho::start(&with("X-First", "a")).await;
    let at = origin.at("allowed.test");
    let mut h1 = inside(&sekisho, "allowed.test", origin.port()).await;
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let mut revisions = Vec::new();
    for (n, (name, value)) in [("X-First", "a"), ("X-First", "b"), ("X-Second", "b")].into_iter().enumerate() {
        if n > 0 {
            sekisho.reload(&with(name, value)).await;
        }
        assert_eq!(h1.get(&at, &format!("/{n}")).await.expect("an answer").status, 200);
        assert_eq!(h2.get(&format!("https://{at}/{n}")).await.expect("an answer").status, 200);
        for _ in 0..2 {
            let record = sekisho.next_request().await;
            record.says("allowed", "");
            assert_eq!(record.0["sekisho.headers_set"], serde_json::json!([name.to_lowercase()]));
            revisions.push(record.text("sekisho.config_revision").to_owned());
        }
        for seen in origin.requests().iter().filter(|seen| seen.target == format!("/{n}")) {
            let ours: Vec<_> = [("x-first", seen.values("x-first")), ("x-second", seen.values("x-second"))]
                .into_iter()
                .filter(|(_, values)| !values.is_empty())
                .collect();
            assert_eq!(ours, [(name.to_lowercase().as_str(), vec![value])], "{n}");
        }
    }
    revisions.dedup();
    assert_eq!(revisions.len(), 3, "each under its own revision: {revisions:?}");
    assert_eq!(origin.requests().len(), 6);
}

#[tokio::test]
async fn a_reload_opens_new_listeners_before_it_closes_old_ones() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin);
    // A reload opens ports that the service had at its start.
    let mut sekisho = Sekisho::start(&config.clone().listen("127.0.0.1")).await;
    let new = sekisho.listeners.pop().expect("a second listener");
    sekisho.reload(&config).await;
    let old = sekisho.addr();
    let mut wire = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let admin = sekisho.admin;
    sekisho.replace_config(&config.render(&[new], admin));
    sekisho.signal(Signal::HUP);
    sekisho.lifecycle("reload", 2).await;
    within("the old listener's end", async {
        while connect(old).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut client = connect(new).await.expect("the new listener accepts");
    client.send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
    assert_eq!(client.response("CONNECT").await.status, 403);
    wire.send("x").await;
    assert_eq!(wire.exactly(1).await.expect("an echo"), b"x", "what came by the old one lives on");
    assert_eq!(sekisho.admin("/readyz").await.status, 200);
    let found =
        until("the refusal", || sekisho.records().into_iter().find(|record| record.reason() == "not_allowlisted"))
            .await;
    found.with("sekisho.listener", &new.to_string());
}

#[tokio::test]
async fn a_reload_whose_new_listener_clashes_keeps_everything() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin);
    let mut sekisho = Sekisho::start(&config.clone().listen("127.0.0.1").listen("127.0.0.1")).await;
    let [_, free, clash] = sekisho.listeners[..] else { panic!("three listeners") };
    sekisho.listeners.truncate(1);
    sekisho.reload(&config).await;
    let _taken = until("the port's end", || std::net::TcpListener::bind(clash).ok()).await;
    let (old, admin) = (sekisho.addr(), sekisho.admin);
    let mut wire = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    for (n, (row, text)) in [
        ("a listener", Config::new().render(&[free, clash], admin)),
        ("the admin listener", Config::new().render(&[free], clash)),
        (
            "the record",
            Config::new().set("record", "path", "\"no/such/directory/access.jsonl\"").render(&[free], admin),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        sekisho.replace_config(&text);
        sekisho.signal(Signal::HUP);
        sekisho.lifecycle("reload_failed", n + 1).await;
        // Not half of it: the free listener is not open either, the old policy decides, tunnels live.
        within("no new listener", async {
            while connect(free).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        wire.send("x").await;
        assert_eq!(wire.exactly(1).await.expect("an echo"), b"x", "{row}");
        drop(sekisho.tunnel(&origin.at("allowed.test")).await);
        sekisho.next_connection().await.says("failed", "client_closed");
        let ready = sekisho.admin("/readyz").await;
        assert_eq!(ready.status, 200, "{row}");
        assert!(ready.text().contains("degraded"), "{row}: {}", ready.text());
    }
    sekisho.reload(&config).await;
    assert!(!sekisho.admin("/readyz").await.text().contains("degraded"));
    assert_eq!(old, sekisho.addr());
    wire.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn sigusr1_reopens_the_record_and_nothing_else() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin);
    let mut sekisho = Sekisho::start(&config).await;
    let mut wire = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    // A configuration that would be taken up, and one that would not: neither is looked at.
    for (n, text) in
        [Config::new().render(&sekisho.listeners, sekisho.admin), "nonsense".to_owned()].into_iter().enumerate()
    {
        sekisho.replace_config(&text);
        std::fs::rename(sekisho.path("access.jsonl"), sekisho.path(&format!("access.{n}"))).expect("rename");
        sekisho.signal(Signal::USR1);
        sekisho.lifecycle("reopen", 1).await;
        wire.send("x").await;
        assert_eq!(wire.exactly(1).await.expect("an echo"), b"x");
        drop(sekisho.tunnel(&origin.at("allowed.test")).await);
        sekisho.next_connection().await.says("failed", "client_closed");
        let words: Vec<String> = sekisho
            .records()
            .iter()
            .map(|record| record.text("sekisho.lifecycle").to_owned())
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(words, ["reopen"]);
        assert!(!sekisho.admin("/readyz").await.text().contains("degraded"));
    }
    wire.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}
