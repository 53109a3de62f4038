//! Only scenes about HTTP/2 inside inspection belong here: authorities, frames no library writes, streams among streams, ends.

use bytes::Bytes;
use http::{HeaderMap, Request};
use tokio::io::AsyncWriteExt;

use crate::support::by_hand::{ByHand, Inside, at_once, inside_as, inside_h2};
use crate::support::client::Tls;
use crate::support::h2c::{self, H2, collect};
use crate::support::pki::Defect;
use crate::support::{Config, Origin, Reply, Sekisho, Service, within};

async fn stage(origin: &Origin) -> Sekisho {
    Sekisho::start(&Config::new().inspect("allowed.test", origin).hosts(&["denied.test"])).await
}

fn h2_client() -> Tls {
    Tls::named("allowed.test").alpn(&["h2"])
}

/// A connection whose frames the scene writes, its preface sent.
async fn raw(sekisho: &Sekisho, port: u16) -> Inside {
    let mut wire = inside_as(sekisho, "allowed.test", port, &h2_client()).await;
    wire.send(h2c::preface()).await;
    wire
}

fn post(uri: &str) -> Request<()> {
    Request::post(uri).body(()).expect("a request")
}

#[tokio::test]
async fn a07_only_the_stream_for_the_connections_own_name_goes_upstream() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let good = format!("https://{at}/good");
    for (row, uri, host, status) in [
        ("another name", format!("https://{}/", denied.at("denied.test")), None, 421),
        ("another port", "https://allowed.test:1/".to_owned(), None, 421),
        ("the default port", "https://allowed.test/".to_owned(), None, 421),
        ("a name below", format!("https://a.{at}/"), None, 421),
        ("an address", format!("https://127.0.0.1:{}/", origin.port()), None, 421),
        ("another Host", format!("https://{at}/"), Some("denied.test".to_owned()), 421),
        ("another :authority, our Host", format!("https://{}/", denied.at("denied.test")), Some(at.clone()), 421),
        ("a list in Host", format!("https://{at}/"), Some(format!("{at}, denied.test")), 400),
        ("userinfo in Host", format!("https://{at}/"), Some(format!("x@{at}")), 400),
        ("another scheme", format!("http://{at}/"), None, 400),
    ] {
        assert_eq!(
            h2.get(&good).await.expect("an answer").text(),
            "origin saw GET /good",
            "{row}: the connection lives"
        );
        sekisho.next_request().await.says("allowed", "");
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let answer = h2.request(request.body(()).expect("a request"), b"", None).await;
        let record = sekisho.next_request().await;
        assert_eq!(record.outcome(), "denied", "{row}: {record:?}");
        answer.unwrap_or_else(|error| panic!("{row}: {error}")).page(status, record.reason());
    }
    assert!(origin.requests().iter().all(|seen| seen.target == "/good" && seen.authority == at && seen.h2));
    denied.untouched();
    drop(h2);
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

/// Frames the `h2` crate would not write (A07, E14, E15): none of them becomes a request, and the streams beside them live.
#[tokio::test]
async fn a07_e14_e15_heads_that_are_none_never_leave() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let base = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", at.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [base.as_slice(), more].concat();
    let instead = |name: &'static str, value: &'static str| -> Vec<(&str, &str)> {
        base.iter().map(|field| if field.0 == name { (name, value) } else { *field }).collect()
    };
    let without =
        |name: &'static str| -> Vec<(&str, &str)> { base.iter().copied().filter(|field| field.0 != name).collect() };
    let rows: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("A07 two :authority", with(&[(":authority", "denied.test")])),
        ("A07 no :authority and no Host", without(":authority")),
        ("A07 an empty :authority", instead(":authority", "")),
        ("A07 userinfo", instead(":authority", "allowed.test@denied.test")),
        ("A07 two Hosts", with(&[("host", "denied.test"), ("host", "denied.test")])),
        ("E14 CR LF in a value", with(&[("x-marker", "a\r\nx: y")])),
        ("E14 LF in a value", with(&[("x-marker", "a\nx: y")])),
        ("E14 NUL in a value", with(&[("x-marker", "a\0b")])),
        ("E14 CR LF in a name", with(&[("x\r\ny", "a")])),
        ("E14 a colon in a name", with(&[("x:y", "a")])),
        ("E14 a space in a name", with(&[("x y", "a")])),
        ("E14 CR LF in :path", instead(":path", "/ HTTP/1.1\r\nHost: denied.test\r\n\r\n")),
        ("E14 a space in :path", instead(":path", "/a b")),
        ("E14 a relative :path", instead(":path", "a")),
        ("E14 an absolute :path", instead(":path", "https://denied.test/")),
        ("E14 an empty :path", instead(":path", "")),
        ("E14 CR LF in :method", instead(":method", "GET / HTTP/1.1\r\nX:")),
        ("E14 a space in :method", instead(":method", "GET /")),
        ("E14 CR LF in :scheme", instead(":scheme", "https\r\nx: y")),
        ("E14 CR LF in :authority", instead(":authority", "allowed.test\r\nx: y")),
        ("E15 transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("E15 connection", with(&[("connection", "close")])),
        ("E15 upgrade", with(&[("upgrade", "websocket")])),
        ("E15 keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("E15 proxy-connection", with(&[("proxy-connection", "close")])),
        ("E15 te", with(&[("te", "gzip")])),
        ("G05 upper case", with(&[("X-Marker", "a")])),
        ("E15 an unknown pseudo-field", with(&[(":x", "a")])),
        ("E15 a pseudo-field of answers", with(&[(":status", "200")])),
        ("E15 a pseudo-field behind a field", [&[("x-marker", "a")][..], &base].concat()),
        ("E15 two :path", with(&[(":path", "/b")])),
        ("E15 a length and no content", with(&[("content-length", "5")])),
        ("E15 two lengths", with(&[("content-length", "0"), ("content-length", "1")])),
    ];
    for (row, fields) in &rows {
        let before = origin.requests().len();
        let mut wire = raw(&sekisho, origin.port()).await;
        let innocent = with(&[("x-marker", "innocent")]);
        wire.send([h2c::headers(1, true, fields), h2c::headers(3, true, &innocent)].concat()).await;
        // Refused with an answer, a reset or the end of the connection; where it goes on, the innocent stream is served.
        let mut refused = false;
        while let Some(frame) = h2c::next(&mut wire).await {
            refused |= frame.kind == 7 || (frame.stream == 1 && matches!(frame.kind, 1 | 3));
            let innocents_end = frame.stream == 3 && frame.kind <= 1 && frame.flags & 1 == 1;
            if innocents_end && refused || frame.kind == 7 {
                break;
            }
        }
        assert!(refused, "{row}");
        let seen: Vec<_> = origin.requests().split_off(before);
        assert!(seen.iter().all(|seen| seen.values("x-marker") == ["innocent"]), "{row}: {seen:?}");
        assert!(seen.len() <= 1, "{row}: {seen:?}");
        drop(wire);
    }
    let connections = sekisho.terminals("connection", rows.len() as u64).await;
    assert_eq!(connections.len(), rows.len());
    let requests: Vec<_> =
        sekisho.records().into_iter().filter(|record| record.is_terminal() && record.action() == "request").collect();
    let allowed = requests.iter().filter(|record| record.outcome() == "allowed").count();
    assert_eq!(allowed, origin.requests().len(), "as many allowed requests as the origin saw: {requests:#?}");
}

#[tokio::test]
async fn e15_content_that_is_not_as_long_as_announced_is_reset_and_never_whole_upstream() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut reasons = Vec::new();
    for (row, length, content) in [("less", "10", "hello"), ("more", "3", "hello"), ("none", "5", "")] {
        let mut wire = raw(&sekisho, origin.port()).await;
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", at.as_str()),
            ("content-length", length),
        ];
        wire.send([h2c::headers(1, false, &fields), h2c::frame(0, 1, 1, content.as_bytes())].concat()).await;
        let end = h2c::end_of(&mut wire, 1).await.expect("an end");
        assert!(end.kind == 3 || end.kind == 7, "{row}: {end:?}");
        reasons.push((row, sekisho.next_request().await.reason().to_owned()));
        drop(wire);
        sekisho.next_connection().await;
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    assert!(reasons.iter().all(|(_, reason)| reason == "malformed_request"), "{reasons:?}");
    sekisho.finish().await;
}

/// A08: two inspected services, each with its own header, on one certificate and one address, as a CDN has them.
#[tokio::test]
async fn a08_a_connection_is_never_coalesced_onto_another_service() {
    let origin = Origin::https(&["one.test", "two.test"]).expecting(&["x-org"]).start().await;
    let service = |host: &str| Service::inspect(host, &[host], origin.port()).header("X-Org", host);
    let config =
        Config::new().service(service("one.test")).service(service("two.test")).hosts(&["one.test", "two.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    let (one, two) = (origin.at("one.test"), origin.at("two.test"));
    let mut h2 = inside_h2(&sekisho, "one.test", origin.port()).await;
    assert_eq!(h2.get(&format!("https://{one}/1")).await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "");
    h2.get(&format!("https://{two}/2")).await.expect("an answer").page(421, "name_mismatch");
    sekisho.next_request().await.says("denied", "name_mismatch");
    assert_eq!(h2.get(&format!("https://{one}/3")).await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "");
    for seen in origin.requests() {
        assert_eq!((seen.authority.as_str(), seen.values("x-org")), (one.as_str(), vec!["one.test"]));
    }
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn a07_a_421_leaves_the_other_streams_alone() {
    let (origin, mut sekisho) = by_hand().await;
    let at = origin.at("allowed.test");
    let (mut client, mut far) = h2_ends(&sekisho, &origin).await;
    let (slow, _) = client
        .send
        .send_request(Request::get(format!("https://{at}/slow")).body(()).expect("a request"), true)
        .expect("sent");
    let (_, mut respond) = within("the stream", far.accept()).await.expect("a stream").expect("a request");
    let driver = tokio::spawn(async move { while far.accept().await.is_some() {} });
    client.get("https://denied.test/").await.expect("an answer").page(421, "name_mismatch");
    let mut body = respond.send_response(http::Response::new(()), false).expect("a response");
    body.send_data(Bytes::from_static(b"unharmed"), true).expect("content");
    assert_eq!(collect(slow.await.expect("an answer")).await.expect("whole").text(), "unharmed");
    sekisho.next_request().await.says("denied", "name_mismatch");
    sekisho.next_request().await.says("allowed", "").with("url.path", "/slow");
    driver.abort();
}

async fn by_hand() -> (ByHand, Sekisho) {
    let origin = ByHand::start(&["allowed.test"], &["h2"]).await;
    let service = Service::inspect("allowed.test", &["allowed.test"], origin.port());
    let config = Config::new().service(service).hosts(&["allowed.test", "denied.test"]);
    let sekisho = Sekisho::start(&config).await;
    (origin, sekisho)
}

type Far = h2::server::Connection<tokio_rustls::server::TlsStream<tokio::net::TcpStream>, Bytes>;

/// A client over HTTP/2 and the origin's end of its connection.
async fn h2_ends(sekisho: &Sekisho, origin: &ByHand) -> (H2, Far) {
    at_once(async { H2::over(inside_as(sekisho, "allowed.test", origin.port(), &h2_client()).await).await }, async {
        h2::server::handshake(origin.accept().await.io).await.expect("HTTP/2")
    })
    .await
}

#[tokio::test]
async fn trailers_pass_as_grpc_needs_them() {
    let origin = Origin::https(&["allowed.test"])
        .expecting(&["content-digest"])
        .answering(|_| Reply::H2 {
            status: 200,
            headers: vec![("content-type", "application/grpc".into()), ("alt-svc", "h3=\":443\"".into())],
            body: b"message".to_vec(),
            trailers: vec![
                ("grpc-status", "0".into()),
                ("grpc-message", "fine".into()),
                ("alt-svc", "h3=\":443\"".into()),
            ],
        })
        .start()
        .await;
    let mut sekisho = stage(&origin).await;
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let request = Request::post(format!("https://{}/package.Service/Method", origin.at("allowed.test")))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut trailers = HeaderMap::new();
    trailers.insert("content-digest", "sha-256=:AA==:".parse().expect("a value"));
    trailers.insert("restrict-access-to-tenants", "evil".parse().expect("a value"));
    let answer =
        h2.request(request.body(()).expect("a request"), b"question", Some(trailers)).await.expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "message"));
    assert!(answer.headers.get("alt-svc").is_none() && answer.trailers.get("alt-svc").is_none());
    assert_eq!(
        (&answer.trailers["grpc-status"], &answer.trailers["grpc-message"]),
        (&"0".parse().expect("value"), &"fine".parse().expect("value"))
    );
    let seen = origin.requests().pop().expect("a request");
    assert_eq!((seen.body.as_slice(), seen.values("te")), (b"question".as_slice(), vec!["trailers"]));
    assert!(seen.trailers.iter().all(|(name, _)| name == "content-digest"), "G04: {:?}", seen.trailers);
    let record = sekisho.next_request().await;
    record.says("allowed", "").with("url.path", "/package.Service/Method");
    assert_eq!((record.number("source.bytes"), record.number("destination.bytes")), (8, 7));
}

#[tokio::test]
async fn a_head_answer_has_no_content_and_the_next_stream_has_its_own() {
    let origin = Origin::https(&["allowed.test"])
        .answering(|seen| match seen.method.as_str() {
            "HEAD" => Reply::H2 {
                status: 200,
                headers: vec![("content-length", "1000".into())],
                body: vec![],
                trailers: vec![],
            },
            _ => Reply::ok("own"),
        })
        .start()
        .await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let head = Request::head(format!("https://{at}/")).body(()).expect("a request");
    let answer = h2.request(head, b"", None).await.expect("an answer");
    assert_eq!((answer.value("content-length").as_str(), answer.body.len()), ("1000", 0));
    assert_eq!(h2.get(&format!("https://{at}/")).await.expect("an answer").text(), "own");
    sekisho.next_request().await.says("allowed", "").with("http.request.method", "HEAD");
    sekisho.next_request().await.says("allowed", "").with("http.request.method", "GET");
}

#[tokio::test]
async fn a11_extended_connect_is_announced_where_the_origin_does_and_carries_an_echo() {
    for announced in [true, false] {
        let origin = Origin::https(&["allowed.test"]).expecting(&["sec-websocket-version"]);
        let origin = if announced { origin.extended_connect() } else { origin }.start().await;
        let mut sekisho = stage(&origin).await;
        let at = origin.at("allowed.test");
        // The announcement: SETTINGS_ENABLE_CONNECT_PROTOCOL (8) in our first frame.
        let mut wire = raw(&sekisho, origin.port()).await;
        let settings = h2c::next(&mut wire).await.expect("SETTINGS");
        assert_eq!(settings.kind, 4);
        let says = settings.payload.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]);
        assert_eq!(says, announced, "{settings:?}");
        let asked = |authority: &'static str, protocol: &'static str| {
            vec![
                (":method", "CONNECT"),
                (":scheme", "https"),
                (":path", "/ws"),
                (":authority", authority),
                (":protocol", protocol),
            ]
        };
        let own: &'static str = Box::leak(at.clone().into_boxed_str());
        if announced {
            wire.send(h2c::headers(1, false, &asked(own, "websocket"))).await;
            wire.send(h2c::frame(0, 1, 1, b"frames")).await;
            let (mut echo, mut ended) = (Vec::new(), false);
            while !ended {
                let frame = h2c::next(&mut wire).await.expect("a frame");
                assert!(frame.kind != 3 && frame.kind != 7, "{frame:?}");
                if frame.stream == 1 && frame.kind == 0 {
                    echo.extend(frame.payload);
                    ended = frame.flags & 1 == 1;
                }
            }
            assert_eq!(echo, b"frames");
            let record = sekisho.next_request().await;
            record.says("allowed", "").with("http.request.method", "CONNECT").with("url.path", "/ws");
            assert_eq!((record.number("source.bytes"), record.number("destination.bytes")), (6, 6));
            assert_eq!(origin.requests().len(), 1);
            // Another authority, another protocol: not upstream.
            wire.send(h2c::headers(3, false, &asked("denied.test", "websocket"))).await;
            h2c::end_of(&mut wire, 3).await.expect("an end");
            sekisho.next_request().await.says("denied", "name_mismatch");
            wire.send(h2c::headers(5, false, &asked(own, "connect-udp"))).await;
            h2c::end_of(&mut wire, 5).await.expect("an end");
            sekisho.next_request().await.says("denied", "method_not_permitted");
            assert_eq!(origin.requests().len(), 1);
        } else {
            wire.send(h2c::headers(1, false, &asked(own, "websocket"))).await;
            let end = h2c::end_of(&mut wire, 1).await.expect("an end");
            assert_eq!(end.kind, 3, "a stream error: {end:?}");
            assert!(origin.requests().is_empty());
        }
    }
}

#[tokio::test]
async fn a12_a_connect_stream_is_405_and_the_connection_goes_on() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let mut wire = raw(&sekisho, origin.port()).await;
    let target: &str = &denied.at("denied.test");
    wire.send(h2c::headers(1, false, &[(":method", "CONNECT"), (":authority", target)])).await;
    let end = h2c::end_of(&mut wire, 1).await.expect("an end");
    assert!(end.kind <= 3, "{end:?}");
    sekisho.next_request().await.says("denied", "method_not_permitted");
    assert!(origin.requests().is_empty());
    denied.untouched();
}

#[tokio::test]
async fn i02_a_client_that_offers_only_h2_gets_its_page_over_h2() {
    let origin = Origin::https(&["allowed.test"]).defect(Defect::Expired).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let answer = h2.get(&format!("https://{at}/%3Cscript%3E")).await.expect("a page");
    answer.page(502, "certificate_invalid");
    assert_eq!(answer.value("content-security-policy"), "default-src 'none'; style-src 'unsafe-inline'");
    let text = answer.text();
    assert!(text.contains("接続できません") && text.contains("Not connected") && !text.contains("<script"), "{text}");
    let record = sekisho.next_request().await;
    record.says("failed", "certificate_invalid");
    assert!(text.contains(record.text("event.id")));
    let head = Request::head(format!("https://{at}/")).body(()).expect("a request");
    let answer = h2.request(head, b"", None).await.expect("a page");
    assert_eq!((answer.status, answer.body.len()), (502, 0));
    sekisho.next_request().await.says("failed", "certificate_invalid");
    drop(h2);
    sekisho.next_connection().await.says("failed", "certificate_invalid");
    assert!(origin.requests().is_empty());
    sekisho.finish().await;
}

const MEGABYTES: usize = 5 * 1024 * 1024;

/// Sends all of `body` as the flow control lets it.
async fn upload(mut stream: h2::SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.expect("open").expect("capacity");
        let part = body.split_to(room.min(body.len()));
        stream.send_data(part, body.is_empty()).expect("sent");
    }
}

#[tokio::test]
async fn large_bodies_pass_whole_on_several_streams_at_once() {
    let body: Vec<u8> = (0..MEGABYTES).map(|n| (n.wrapping_mul(31) >> 3) as u8).collect();
    let answer = body.clone();
    let origin = Origin::https(&["allowed.test"]).answering(move |_| Reply::Ok(answer.clone())).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let mut streams = tokio::task::JoinSet::new();
    for n in 0..3 {
        let (response, stream) = h2.send.send_request(post(&format!("https://{at}/{n}")), false).expect("sent");
        streams.spawn(upload(stream, Bytes::from(body.clone())));
        let body = body.clone();
        streams.spawn(async move {
            let got = collect(response.await.expect("an answer")).await.expect("whole");
            assert!(got.body == body, "{} octets", got.body.len());
        });
    }
    within("all streams", async {
        while let Some(done) = streams.join_next().await {
            done.expect("a stream")
        }
    })
    .await;
    for _ in 0..3 {
        let record = sekisho.next_request().await;
        record.says("allowed", "");
        assert_eq!(
            (record.number("source.bytes"), record.number("destination.bytes")),
            (MEGABYTES as u64, MEGABYTES as u64)
        );
    }
    assert!(origin.requests().iter().all(|seen| seen.body.len() == MEGABYTES && seen.body == body));
    assert_eq!((origin.requests().len(), origin.connects()), (3, 1));
    drop(h2);
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn a_cancelled_stream_is_cancelled_upstream_and_its_neighbours_live() {
    let (origin, mut sekisho) = by_hand().await;
    let at = origin.at("allowed.test");
    let (mut client, mut far) = h2_ends(&sekisho, &origin).await;
    let (answer, mut stream) = client.send.send_request(post(&format!("https://{at}/cancelled")), false).expect("sent");
    let (_, mut respond) = within("the stream", far.accept()).await.expect("a stream").expect("a request");
    let driver = tokio::spawn(async move {
        while let Some(Ok((_, mut respond))) = far.accept().await {
            respond.send_response(http::Response::new(()), true).expect("a response");
        }
    });
    stream.send_reset(h2::Reason::CANCEL);
    let code = within("the reset upstream", std::future::poll_fn(|cx| respond.poll_reset(cx))).await.expect("a reset");
    assert_eq!(code, h2::Reason::CANCEL);
    drop((answer, stream));
    sekisho.next_request().await.says("failed", "client_closed").with("url.path", "/cancelled");
    assert_eq!(client.get(&format!("https://{at}/beside")).await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "").with("url.path", "/beside");
    driver.abort();
}

#[tokio::test]
async fn n02_an_answer_cut_upstream_is_a_reset_and_never_an_end() {
    let (origin, mut sekisho) = by_hand().await;
    let at = origin.at("allowed.test");
    for (row, whole_connection) in [("the stream is reset", false), ("the connection breaks", true)] {
        let (mut client, mut far) = h2_ends(&sekisho, &origin).await;
        let (answer, _) = client
            .send
            .send_request(Request::get(format!("https://{at}/")).body(()).expect("a request"), true)
            .expect("sent");
        let (_, mut respond) = within("the stream", far.accept()).await.expect("a stream").expect("a request");
        let mut body = respond.send_response(http::Response::new(()), false).expect("a response");
        body.send_data(Bytes::from_static(b"half"), false).expect("content");
        let driver = tokio::spawn(async move { while far.accept().await.is_some() {} });
        let mut answer = within("a head", answer).await.expect("a head");
        let first = within("content", answer.body_mut().data()).await.expect("content").expect("content");
        assert_eq!(first, "half", "{row}");
        if whole_connection {
            driver.abort()
        } else {
            body.send_reset(h2::Reason::INTERNAL_ERROR)
        }
        let cut = within("the cut", answer.body_mut().data()).await;
        assert!(matches!(cut, Some(Err(_))), "{row}: {cut:?}");
        driver.abort();
        let record = sekisho.next_request().await;
        record.says("failed", "upstream_truncated");
        assert_eq!(record.number("destination.bytes"), 4, "{row}: {record:?}");
        drop(client);
        sekisho.next_connection().await;
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn f11_a_goaway_from_the_origin_lets_streams_finish_and_is_passed_on() {
    let (origin, mut sekisho) = by_hand().await;
    let at = origin.at("allowed.test");
    let (mut client, mut far) = h2_ends(&sekisho, &origin).await;
    let (answer, _) = client
        .send
        .send_request(Request::get(format!("https://{at}/running")).body(()).expect("a request"), true)
        .expect("sent");
    let (_, mut respond) = within("the stream", far.accept()).await.expect("a stream").expect("a request");
    far.graceful_shutdown();
    let driver = tokio::spawn(async move { while far.accept().await.is_some() {} });
    within("GOAWAY at the client", async {
        while client.send.clone().ready().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut body = respond.send_response(http::Response::new(()), false).expect("a response");
    body.send_data(Bytes::from_static(b"finished"), true).expect("content");
    drop((body, respond));
    assert_eq!(collect(answer.await.expect("an answer")).await.expect("whole").text(), "finished");
    client.ended().await.expect("an end in order");
    sekisho.next_request().await.says("allowed", "");
    sekisho.next_connection().await.says("allowed", "");
    within("the origin's end", driver).await.expect("joined");
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn f01_rapid_reset_is_told_to_calm_down_and_others_are_unaffected() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut other = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let wire = raw(&sekisho, origin.port()).await;
    let fields = [(":method", "GET"), (":scheme", "https"), (":path", "/rapid"), (":authority", at.as_str())];
    let batch: Vec<u8> = (0..4000_u32)
        .flat_map(|n| {
            [h2c::headers(2 * n + 1, true, &fields), h2c::frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    let (reading, writing) = tokio::io::split(wire.io);
    let flood = tokio::spawn(async move {
        let mut writing = writing;
        let _ = writing.write_all(&batch).await;
        writing
    });
    let mut far = crate::support::client::Wire::new(tokio::io::join(reading, tokio::io::sink()));
    let goaway = within("GOAWAY", async {
        loop {
            match h2c::next(&mut far).await {
                Some(frame) if frame.kind == 7 => return frame,
                Some(_) => {}
                None => panic!("the end without GOAWAY"),
            }
        }
    })
    .await;
    assert_eq!(goaway.code(), 11, "ENHANCE_YOUR_CALM: {goaway:?}");
    for _ in 0..20 {
        assert_eq!(other.get(&format!("https://{at}/other")).await.expect("an answer").status, 200);
    }
    let _ = flood.await;
    drop(far);
    let record = sekisho.next_connection().await;
    assert_eq!(record.reason(), "rate_limited", "{record:?}");
    let reached = origin.requests().iter().filter(|seen| seen.target == "/rapid").count();
    assert!(reached <= 300, "{reached} of 4000 reached the origin");
}

/// D15: client × origin. A protocol is never translated, and never mixed up.
#[tokio::test]
async fn d15_every_offer_against_every_origin() {
    let clients: [(&str, &[&str]); 5] =
        [("none", &[]), ("h1", &["http/1.1"]), ("h2", &["h2"]), ("both", &["h2", "http/1.1"]), ("bogus", &["bogus"])];
    let origins: [(&str, &[&str]); 4] =
        [("h1", &["http/1.1"]), ("h2", &["h2"]), ("both", &["h2", "http/1.1"]), ("none", &[])];
    for (origin_row, upstream) in origins {
        let origin = Origin::https(&["allowed.test"]).alpn(upstream).start().await;
        let mut sekisho = stage(&origin).await;
        let at = origin.at("allowed.test");
        for (client_row, offer) in clients {
            let row = format!("client {client_row}, origin {origin_row}");
            let agreed = match (client_row, origin_row) {
                ("none" | "h1", "h1" | "both" | "none") => Some(false),
                ("h2", "h2" | "both") | ("both", "h2" | "both") => Some(true),
                ("both", "h1" | "none") => Some(false),
                _ => None,
            };
            let before = origin.requests().len();
            let tls = Tls::named("allowed.test").trusting(&sekisho.ca()).alpn(offer);
            let wire = tls.try_over(sekisho.tunnel(&at).await).await;
            match (wire, agreed) {
                (Ok(wire), Some(h2)) => {
                    let protocol =
                        if offer.is_empty() { None } else { Some(if h2 { "h2" } else { "http/1.1" }.to_owned()) };
                    assert_eq!(wire.alpn(), protocol, "{row}");
                    let status = if h2 {
                        H2::over(wire).await.get(&format!("https://{at}/")).await.expect("an answer").status
                    } else {
                        let mut wire = wire;
                        wire.get(&at, "/").await.expect("an answer").status
                    };
                    assert_eq!(status, 200, "{row}");
                    assert_eq!(
                        origin.requests()[before..].iter().map(|seen| seen.h2).collect::<Vec<_>>(),
                        [h2],
                        "{row}"
                    );
                    sekisho.next_request().await.says("allowed", "");
                    sekisho.next_connection().await;
                }
                (Ok(mut wire), None) => {
                    assert_ne!(client_row, "bogus", "{row}: a handshake in a protocol nobody speaks");
                    if wire.alpn().as_deref() != Some("h2") {
                        let page = wire.get(&at, "/").await.expect("a page");
                        page.page(page.status, "no_application_protocol");
                        sekisho.next_request().await;
                    }
                    drop(wire);
                    assert_eq!(sekisho.next_connection().await.reason(), "no_application_protocol", "{row}");
                    assert_eq!(origin.requests().len(), before, "{row}");
                }
                (Err(error), None) => {
                    assert!(error.to_string().contains("NoApplicationProtocol"), "{row}: {error}");
                    assert_eq!(sekisho.next_connection().await.reason(), "no_application_protocol", "{row}");
                    assert_eq!(origin.requests().len(), before, "{row}");
                }
                (Err(error), Some(_)) => panic!("{row}: {error}"),
            }
        }
        sekisho.finish().await;
    }
}

#[tokio::test]
async fn both_ends_of_h2_agree_on_what_is_forwarded() {
    let (origin, mut sekisho) = by_hand().await;
    let at = origin.at("allowed.test");
    let (mut client, mut far) = h2_ends(&sekisho, &origin).await;
    let request = Request::get(format!("https://{at}/p?q=1"))
        .header("x-forwarded-for", "1.2.3.4")
        .header("forwarded", "for=1.2.3.4")
        .header("x-real-ip", "1.2.3.4")
        .header("proxy-authorization", "Basic x")
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .body(())
        .expect("a request");
    let (answer, _) = client.send.send_request(request, true).expect("sent");
    let (seen, mut respond) = within("the stream", far.accept()).await.expect("a stream").expect("a request");
    assert_eq!(seen.uri().to_string(), format!("https://{at}/p?q=1"));
    let mut names: Vec<&str> = seen.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cookie"], "no Via, no way told");
    respond
        .send_response(
            http::Response::builder().status(204).header("alt-svc", "h3=\":443\"").body(()).expect("a response"),
            true,
        )
        .expect("sent");
    let driver = tokio::spawn(async move { while far.accept().await.is_some() {} });
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), 204);
    assert!(answer.headers().is_empty(), "{:?}", answer.headers());
    sekisho.next_request().await.says("allowed", "").with("url.path", "/p");
    driver.abort();
}

/// H01, K05: whoever refuses a request, it was one, and the record says so.
#[tokio::test]
async fn h01_a_head_beyond_every_limit_is_431_and_leaves_its_record() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    for octets in [50_000, 62_000, 70_000] {
        let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
        let mut request = Request::get(format!("https://{at}/"));
        for part in vec![b'a'; octets].chunks(4000) {
            request = request.header("x-marker", part);
        }
        let answer = h2.request(request.body(()).expect("a request"), b"", None).await.expect("an answer");
        assert_eq!(answer.status, 431, "{octets}: {answer:?}");
        drop(h2);
        sekisho.next_connection().await;
        // Past the announced header list the library answers by itself.
        sekisho.next_request().await.says("denied", "head_too_large");
        assert!(origin.requests().is_empty());
        sekisho.finish().await;
        sekisho = stage(&origin).await;
    }
}
