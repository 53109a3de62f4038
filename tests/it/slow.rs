//! Only scenes about peers that take their time belong here: what is due by when, on the wire and in the record, and that nobody
//! else waits for them. The limits themselves are tested beside their code, with time paused.

use std::io::Write as _;
use std::time::Duration;

use super::support::by_hand::{ByHand, both_ends, inside, inside_as, inside_h2};
use super::support::client::{Tls, Wire};
use super::support::h2c::{self, end_of};
use super::support::hellos::Hello;
use super::support::{Config, Origin, Reply, Sekisho, Service, until, within};

/// Far more than every buffer between two ends of this machine.
const LARGE: usize = 24 * 1024 * 1024;

/// One inspected origin, and one key of `[timeouts]`.
async fn stage(origin: &Origin, key: &str, value: &str) -> Sekisho {
    Sekisho::start(&Config::new().inspect("allowed.test", origin).set("timeouts", key, &format!("{value:?}"))).await
}

async fn large() -> Origin {
    Origin::https(&["allowed.test"]).answering(|_| Reply::ok(vec![7; LARGE])).start().await
}

/// Somebody else is served meanwhile; their records are taken.
async fn others_are_served(sekisho: &mut Sekisho, origin: &Origin) {
    let mut wire = inside(sekisho, "allowed.test", origin.port()).await;
    assert_eq!(wire.get(&origin.at("allowed.test"), "/other").await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "");
    wire.bye().await;
    sekisho.next_connection().await.says("allowed", "");
}

#[tokio::test]
async fn h02_content_that_does_not_come_is_408_on_every_way_in() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let plain = Origin::http().start().await;
    let config = Config::new().inspect("allowed.test", &origin).plain("plain.test", &plain);
    let mut sekisho = Sekisho::start(&config.set("timeouts", "body_progress", "\"400ms\"")).await;

    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
    wire.send(format!("POST /a HTTP/1.1\r\nHost: {at}\r\nContent-Length: 1000\r\n\r\nx")).await;
    wire.response("POST").await.page(408, "too_slow");
    wire.closed().await;
    let record = sekisho.next_request().await;
    record.says("failed", "too_slow").with("sekisho.side", "client").with("url.path", "/a");
    assert_eq!(record.number("source.bytes"), 1);
    sekisho.next_connection().await.says("allowed", "");

    let at = plain.at("plain.test");
    let mut wire = sekisho.client().await;
    wire.send(format!("POST http://{at}/b HTTP/1.1\r\nHost: {at}\r\nContent-Length: 1000\r\n\r\nx")).await;
    wire.response("POST").await.page(408, "too_slow");
    wire.closed().await;
    sekisho.next_request().await.says("failed", "too_slow").with("url.path", "/b");

    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let request = http::Request::post(format!("https://{}/c", origin.at("allowed.test"))).body(()).expect("a request");
    let (response, never_ended) = h2.send.send_request(request, false).expect("sent");
    let response = within("a page", response).await.expect("a page");
    assert_eq!(response.status().as_u16(), 408);
    sekisho.next_request().await.says("failed", "too_slow").with("url.path", "/c");
    // The connection is the client's to go on with.
    let answer = h2.get(&format!("https://{}/d", origin.at("allowed.test"))).await.expect("an answer");
    assert_eq!(answer.status, 200);
    sekisho.next_request().await.says("allowed", "");
    drop((h2, response, never_ended));
    sekisho.next_connection().await;
    others_are_served(&mut sekisho, &origin).await;
    sekisho.finish().await;
    assert!(origin.requests().iter().all(|seen| seen.method == "GET"), "no half request is a request");
}

#[tokio::test]
async fn h02_f07_an_answer_that_nobody_takes_is_cut() {
    let origin = large().await;
    let mut sekisho = stage(&origin, "body_progress", "400ms").await;
    let at = origin.at("allowed.test");
    let mut slow =
        inside_as(&sekisho, "allowed.test", origin.port(), &Tls::named("allowed.test").alpn(&["http/1.1"])).await;
    slow.send(format!("GET /h1 HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    let record = sekisho.next_request().await;
    record.says("allowed", "too_slow").with("url.path", "/h1");
    assert!(record.number("destination.bytes") < LARGE as u64, "{record:?}");
    sekisho.next_connection().await;
    let (rest, end) = slow.rest().await;
    assert!(rest.len() < LARGE && end.is_err(), "a cut answer does not look whole: {} {end:?}", rest.len());

    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let request = http::Request::get(format!("https://{at}/h2")).body(()).expect("a request");
    let (response, _) = h2.send.send_request(request, true).expect("sent");
    let mut content = within("a head", response).await.expect("an answer").into_body();
    // What is read and never given back leaves the window as it is.
    let error = within("the stream's end", async {
        loop {
            match content.data().await.expect("no end in order") {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    })
    .await;
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
    sekisho.next_request().await.says("allowed", "too_slow").with("url.path", "/h2");
    drop((content, h2));
    sekisho.next_connection().await;
    sekisho.finish().await;
}

/// H03: a handshake of which the client's part does not come, or comes octet by octet, is due as a whole.
#[tokio::test]
async fn h02_h03_a_handshake_that_is_not_finished_is_given_up() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin, "client_handshake", "500ms").await;
    for dribbles in [false, true] {
        let mut wire = sekisho.tunnel(&origin.at("allowed.test")).await;
        wire.send(Tls::named("allowed.test").hello()).await;
        let answered = wire.exactly(5).await.expect("the head of a record");
        assert_eq!(answered[0], 22, "a handshake");
        // A record that begins as the client's Finished does, and goes on for ever.
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        let mut more = [&[23, 3, 3, 0x40, 0][..], &[0; 1000]].concat().into_iter();
        while dribbles && wire.try_send([more.next().expect("more")]).await.is_ok() {
            beat.tick().await;
        }
        let _ = wire.rest().await;
        let record = sekisho.next_connection().await;
        record.says("failed", "tls_failed").with("sekisho.side", "client");
    }
    others_are_served(&mut sekisho, &origin).await;
    sekisho.finish().await;
}

/// N03: an origin that says nothing, or a part of a head, has answered nothing.
#[tokio::test]
async fn n03_an_answer_that_does_not_come_whole_is_504() {
    let origin = ByHand::start(&["allowed.test"], &["http/1.1"]).await;
    let service = Service::inspect("by hand", &["allowed.test"], origin.port());
    let config = Config::new().service(service).hosts(&["allowed.test"]);
    let mut sekisho = Sekisho::start(&config.set("timeouts", "upstream_response", "\"400ms\"")).await;
    let at = origin.at("allowed.test");
    for part in ["", "HTTP/1.1 200 OK\r\nX-Part: of a he"] {
        let (mut wire, mut far) = both_ends(&sekisho, "allowed.test", &origin, &Tls::named("allowed.test")).await;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        far.head().await.expect("a head");
        far.send(part).await;
        wire.response("GET").await.page(504, "upstream_timeout");
        wire.closed().await;
        sekisho.next_request().await.says("failed", "upstream_timeout").with("sekisho.side", "upstream");
        sekisho.next_connection().await;
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn f03_half_a_head_ends_its_connection_and_no_other() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin, "request_head", "1s").await;
    let mut wire = inside_as(&sekisho, "allowed.test", origin.port(), &Tls::named("allowed.test").alpn(&["h2"])).await;
    // HEADERS without END_HEADERS.
    wire.send([h2c::preface(), h2c::frame(1, 1, 1, &[0x82])].concat()).await;
    let goaway = loop {
        let frame = end_of(&mut wire, 1).await.expect("GOAWAY");
        if frame.kind != 7 || frame.code() != 0 {
            break frame;
        }
    };
    assert_eq!((goaway.kind, goaway.code()), (7, 11), "ENHANCE_YOUR_CALM");
    sekisho.next_request().await.says("failed", "request_head_timeout");
    let record = sekisho.next_connection().await;
    record.says("allowed", "request_head_timeout").with("sekisho.side", "client");
    others_are_served(&mut sekisho, &origin).await;
    sekisho.finish().await;
}

/// N05, H03: a client that has said its end and an origin that never does.
#[tokio::test]
async fn h03_n05_a_half_closed_tunnel_does_not_stay() {
    let origin = Origin::https(&["allowed.test"]).answering(|_| Reply::Stall).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("timeouts", "tunnel_half_closed", "\"400ms\"");
    let mut sekisho = Sekisho::start(&config).await;
    let tls = Tls::named("allowed.test").alpn(&["http/1.1"]);
    let mut open: Wire<_> = tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    let mut half: Wire<_> = tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    half.send("GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n").await;
    half.finish_writing().await;
    let _ = half.rest().await;
    sekisho.next_connection().await.says("allowed", "idle_timeout").with("sekisho.side", "sekisho");
    // One that is open on both sides has its own, longer limit.
    open.send("GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n").await;
    until("the request", || (origin.requests().len() == 2).then_some(())).await;
    drop(open);
    sekisho.next_connection().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn h03_a_connection_that_has_had_its_time_is_drained() {
    let echo = Origin::https(&["tunnel.test"]).echoing().start().await;
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).tunnel("tunnel.test", &echo);
    let config = config.set("timeouts", "connection_life", "\"3s\"").set("timeouts", "drain", "\"300ms\"");
    let mut sekisho = Sekisho::start(&config).await;

    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let mut h1 = inside(&sekisho, "allowed.test", origin.port()).await;
    let mut busy = Tls::named("tunnel.test").over(sekisho.tunnel(&echo.at("tunnel.test")).await).await;
    let at = origin.at("allowed.test");
    assert_eq!(h2.get(&format!("https://{at}/")).await.expect("an answer").status, 200);
    assert_eq!(h1.get(&at, "/").await.expect("an answer").status, 200);
    for _ in 0..2 {
        sekisho.next_request().await.says("allowed", "");
    }
    // However busy.
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    while busy.try_send("x").await.is_ok() && busy.exactly(1).await.is_some() {
        beat.tick().await;
    }
    h1.closed().await;
    for _ in 0..3 {
        sekisho.next_connection().await.says("allowed", "connection_expired").with("sekisho.side", "sekisho");
    }
    h2.ended().await.expect("GOAWAY without an error");
    sekisho.finish().await;
}

/// D16: rustls takes so many key updates between two messages and no more.
#[tokio::test]
async fn d16_a_flood_of_key_updates_ends_its_connection() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin, "inspected_idle", "20s").await;
    for (updates, served) in [(8, true), (10_000, false)] {
        let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
        assert_eq!(wire.get(&origin.at("allowed.test"), "/").await.expect("an answer").status, 200);
        sekisho.next_request().await.says("allowed", "");
        for _ in 0..updates {
            wire.io.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        }
        let answer = wire.get(&origin.at("allowed.test"), "/").await;
        assert_eq!(answer.is_some_and(|answer| answer.status == 200), served, "{updates} key updates");
        if served {
            sekisho.next_request().await.says("allowed", "");
            wire.bye().await;
        }
        let record = sekisho.next_connection().await;
        assert_eq!(record.outcome(), "allowed", "{record:?}");
    }
    others_are_served(&mut sekisho, &origin).await;
    sekisho.finish().await;
}

/// D16: change_cipher_spec records, of which TLS 1.3 allows some for the sake of old middleboxes and no flood (RFC 8446 appendix D.4).
#[tokio::test]
async fn d16_a_flood_of_change_cipher_specs_ends_its_connection() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    // Its time is not over before this test has lost its patience.
    let mut sekisho = stage(&origin, "client_handshake", "60s").await;
    let mut wire = sekisho.tunnel(&origin.at("allowed.test")).await;
    wire.send(Hello::named("allowed.test").bytes()).await;
    let _ = wire.try_send([20, 3, 3, 0, 1, 1].repeat(10_000)).await;
    let _ = wire.rest().await;
    let record = sekisho.next_connection().await;
    record.says("failed", "tls_failed").with("sekisho.side", "client");
    others_are_served(&mut sekisho, &origin).await;
    sekisho.finish().await;
}

/// D16: TLS 1.2's renegotiation is refused, whoever asks for it.
#[tokio::test]
async fn d16_renegotiation_is_refused() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin, "inspected_idle", "20s").await;
    let at = origin.at("allowed.test");
    let proxy = sekisho.addr().to_string();
    let client = ["s_client", "-proxy", &*proxy, "-connect", &*at, "-servername", "allowed.test", "-tls1_2", "-CAfile"];
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(client).arg(sekisho.path("ca-root.pem")).stdin(std::process::Stdio::piped());
    let Ok(mut openssl) = openssl.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()
    else {
        let _ = writeln!(std::io::stderr().lock(), "\nSKIPPED real client openssl: it is not installed");
        return;
    };
    openssl.stdin.take().expect("piped").write_all(b"R\n").expect("written");
    let output =
        tokio::task::spawn_blocking(move || openssl.wait_with_output()).await.expect("joined").expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    let record = sekisho.next_connection().await;
    assert_eq!(record.outcome(), "allowed", "{record:?}");
    others_are_served(&mut sekisho, &origin).await;
    sekisho.finish().await;
}

/// H12: what is compressed passes as it is; a bomb goes off nowhere on the way.
#[tokio::test]
async fn h12_compressed_content_is_not_looked_into() {
    // The first octets of a gzip stream of zeros, a thousandth of what it unpacks to.
    let bomb: Vec<u8> = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &vec![0; 100_000]].concat();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len());
    let answer = [head.as_bytes(), &bomb].concat();
    let origin = Origin::https(&["allowed.test"])
        .alpn(&["http/1.1"])
        .expecting(&["content-encoding"])
        .answering(move |_| Reply::Raw(answer.clone()))
        .start()
        .await;
    let mut sekisho = stage(&origin, "inspected_idle", "20s").await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, "allowed.test", origin.port()).await;
    let head =
        format!("POST / HTTP/1.1\r\nHost: {at}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len());
    wire.send([head.as_bytes(), &bomb].concat()).await;
    let got = wire.response("POST").await;
    assert_eq!(got.value("content-encoding"), "gzip");
    assert!(got.body == bomb && origin.requests()[0].body == bomb);
    let record = sekisho.next_request().await;
    let bytes = (record.number("source.bytes"), record.number("destination.bytes"));
    assert_eq!(bytes, (bomb.len() as u64, bomb.len() as u64));
    wire.bye().await;
    sekisho.next_connection().await;
    sekisho.finish().await;
}

/// The HTTP/2 bomb (F06): heads that unpack to many fields, answers held by a window of nothing, on every stream there may be.
#[tokio::test]
async fn f06_h07_streams_held_by_zero_windows_cost_what_is_written_down_and_come_back() {
    const CONNECTIONS: usize = 4;
    const STREAMS: usize = 128;
    let origin =
        Origin::https(&["allowed.test"]).expecting(&["cookie"]).answering(|_| Reply::ok(vec![7; 8_000])).start().await;
    let mut sekisho = stage(&origin, "body_progress", "3s").await;
    others_are_served(&mut sekisho, &origin).await;
    let before = sekisho.resident();
    let at = origin.at("allowed.test");
    let mut fields = vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", at.as_str())];
    fields.extend([("cookie", "a"); 250]);
    let mut wires = Vec::new();
    for _ in 0..CONNECTIONS {
        let tls = Tls::named("allowed.test").alpn(&["h2"]);
        let mut wire = inside_as(&sekisho, "allowed.test", origin.port(), &tls).await;
        // SETTINGS_INITIAL_WINDOW_SIZE 0.
        wire.send([h2c::preface(), h2c::frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat()).await;
        for turn in 0..STREAMS {
            wire.send(h2c::headers(u32::try_from(turn * 2 + 1).expect("small"), true, &fields)).await;
        }
        wires.push(wire);
    }
    let mut most = before;
    let total = (CONNECTIONS * STREAMS) as u64 + 1;
    let records = until("every stream's end", || {
        most = most.max(sekisho.resident());
        let records = sekisho.records();
        let ended = records.iter().filter(|record| record.is_terminal() && record.action() == "request");
        (ended.map(|record| record.count()).sum::<u64>() >= total).then_some(records)
    })
    .await;
    let slow = records.iter().filter(|record| record.reason() == "too_slow").count() as u64;
    assert_eq!(slow, total - 1, "each stream that was held was ended, and recorded once");
    // The windows of both legs and the buffers of the streams (`h2_settings`), and as much again for what surrounds them.
    let bound = (CONNECTIONS * (2 * 1024 * 1024 + STREAMS * 32 * 1024) * 2) as u64;
    assert!(most - before < bound, "{before} to {most} octets: more than {bound}");
    drop(wires);
    until("the connections' records", || {
        let ended =
            sekisho.records().into_iter().filter(|record| record.is_terminal() && record.action() == "connection");
        (ended.count() == CONNECTIONS + 1).then_some(())
    })
    .await;
}
