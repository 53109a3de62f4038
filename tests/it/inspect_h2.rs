//! Only scenes about HTTP/2 inside inspection belong here: streams judged one by one, downgrade injection, trailers, extended CONNECT.

mod streams;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::support::client::{Tls, Wire};
use super::support::h2c::{self, H2};
use super::support::{Config, Origin, Reply, Sekisho, Service, within};

async fn wire(sekisho: &Sekisho, origin: &Origin, host: &str) -> Wire<TlsStream<TcpStream>> {
    let wire =
        Tls::named(host).trusting(&sekisho.ca()).alpn(&["h2"]).over(sekisho.tunnel(&origin.at(host)).await).await;
    assert_eq!(wire.alpn().as_deref(), Some("h2"));
    wire
}

async fn h2(sekisho: &Sekisho, origin: &Origin) -> H2 {
    H2::over(wire(sekisho, origin, "allowed.test").await).await
}

async fn stage(origin: &Origin) -> Sekisho {
    Sekisho::start(&Config::new().inspect("allowed.test", origin)).await
}

#[tokio::test]
async fn streams_are_requests_with_records_of_their_own() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let mut h2 = h2(&sekisho, &origin).await;
    let base = format!("https://{}", origin.at("allowed.test"));
    for n in 0..20 {
        let answer = h2.get(&format!("{base}/{n}?q=secret")).await.expect("an answer");
        assert_eq!(answer.text(), format!("origin saw GET /{n}?q=secret"));
        let record = sekisho.next_request().await;
        record.says("allowed", "").with("url.path", &format!("/{n}")).with("http.request.method", "GET");
    }
    let post = Request::post(format!("{base}/post")).body(()).expect("a request");
    assert_eq!(h2.request(post, b"hello", None).await.expect("an answer").status, 200);
    let seen = origin.requests().pop().expect("a request");
    assert_eq!(
        (seen.body.as_slice(), seen.h2, seen.authority.as_str()),
        (&b"hello"[..], true, &*origin.at("allowed.test"))
    );
    assert_eq!(sekisho.next_request().await.number("source.bytes"), 5);
    let _ = h2.ended().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn many_streams_run_at_once() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let h2 = h2(&sekisho, &origin).await;
    let base = format!("https://{}", origin.at("allowed.test"));
    let requests = (0..60).map(|n| {
        let send = h2.send.clone();
        let uri = format!("{base}/{n}");
        async move {
            let mut send = send.ready().await.expect("ready");
            let request = Request::get(uri).body(()).expect("a request");
            let (response, _) = send.send_request(request, true).expect("sent");
            h2c::collect(response.await.expect("an answer")).await.expect("whole").text()
        }
    });
    let answers = super::support::within("sixty answers", futures_util::future::join_all(requests)).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, format!("origin saw GET /{n}"));
    }
    assert_eq!(sekisho.terminals("request", 60).await.len(), 60);
}

#[tokio::test]
async fn a07_one_bad_stream_does_not_harm_the_others() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = wire(&sekisho, &origin, "allowed.test").await;
    wire.send(h2c::preface()).await;
    let base = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
    let with = |more: &[(&'static str, &str)]| -> Vec<(String, String)> {
        base.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    type Fields = Vec<(String, String)>;
    let rows: Vec<(&str, Fields, bool)> = vec![
        ("right", with(&[(":authority", &at)]), true),
        ("another :authority", with(&[(":authority", "denied.test")]), false),
        ("another host", with(&[(":authority", &at), ("host", "denied.test")]), false),
        ("host alone, another", with(&[("host", "denied.test")]), false),
        ("neither", with(&[]), false),
        ("the same twice over", with(&[(":authority", &at), ("host", &at)]), true),
        ("right again", with(&[(":authority", &at)]), true),
    ];
    let mut allowed = 0;
    for (index, (row, fields, passes)) in rows.iter().enumerate() {
        let stream = u32::try_from(index * 2 + 1).expect("small");
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        wire.send(h2c::headers(stream, true, &fields)).await;
        let end = h2c::end_of(&mut wire, stream).await.unwrap_or_else(|| panic!("{row}: the connection ended"));
        assert_ne!(end.kind, 7, "{row}: GOAWAY; a bad stream is a stream's error");
        allowed += usize::from(*passes);
        assert_eq!(origin.requests().len(), allowed, "{row}");
    }
    for (row, _, passes) in rows {
        let record = sekisho.next_request().await;
        assert_eq!(record.outcome() == "allowed", passes, "{row}: {record:?}");
        if !passes {
            assert!(["name_mismatch", "malformed_request"].contains(&record.reason()), "{row}: {record:?}");
        }
    }
    assert!(origin.requests().iter().all(|seen| seen.authority == at));
}

#[tokio::test]
async fn a07_two_authorities_and_other_malformed_heads_never_go_upstream() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let rows: Vec<(&str, Vec<(&str, &str)>)> = vec![
        (
            "two :authority",
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", &at),
                (":authority", "denied.test"),
            ],
        ),
        (
            "E15 transfer-encoding",
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", &at),
                ("transfer-encoding", "chunked"),
            ],
        ),
        (
            "E15 connection",
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", &at),
                ("connection", "x-marker"),
            ],
        ),
        (
            "E15 upgrade",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &at), ("upgrade", "h2c")],
        ),
        ("E15 te", vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &at), ("te", "gzip")]),
        (
            "G05 upper case",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &at), ("X-Marker", "1")],
        ),
        (
            "E14 CRLF in a value",
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", &at),
                ("x-marker", "a\r\nx-evil: 1"),
            ],
        ),
        (
            "E14 LF in a value",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &at), ("x-marker", "a\nb")],
        ),
        (
            "E14 NUL in a value",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &at), ("x-marker", "a\0b")],
        ),
        (
            "E14 CRLF in a name",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &at), ("x\r\nx-evil", "1")],
        ),
        (
            "E14 colon in a name",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &at), ("x:y", "1")],
        ),
        (
            "E14 CRLF in :path",
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/ HTTP/1.1\r\nHost: denied.test\r\n\r\n"),
                (":authority", &at),
            ],
        ),
        ("E14 space in :path", vec![(":method", "GET"), (":scheme", "https"), (":path", "/a b"), (":authority", &at)]),
        (
            "E14 CRLF in :method",
            vec![(":method", "GET / HTTP/1.1\r\nx: y"), (":scheme", "https"), (":path", "/"), (":authority", &at)],
        ),
        (
            "E14 CRLF in :authority",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "allowed.test\r\nx: y")],
        ),
        (
            "E14 :scheme",
            vec![(":method", "GET"), (":scheme", "https://denied.test/x?"), (":path", "/"), (":authority", &at)],
        ),
        ("no :path", vec![(":method", "GET"), (":scheme", "https"), (":authority", &at)]),
        ("an empty :path", vec![(":method", "GET"), (":scheme", "https"), (":path", ""), (":authority", &at)]),
        ("no :method", vec![(":scheme", "https"), (":path", "/"), (":authority", &at)]),
        (
            "a pseudo-field behind a field",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), ("x-marker", "1"), (":authority", &at)],
        ),
        (
            "an unknown pseudo-field",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &at), (":x", "1")],
        ),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", &at)]),
        (
            "extended CONNECT unannounced",
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", &at),
            ],
        ),
        (
            "content-length without content",
            vec![
                (":method", "POST"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", &at),
                ("content-length", "5"),
            ],
        ),
        (
            "two content-lengths",
            vec![
                (":method", "POST"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", &at),
                ("content-length", "0"),
                ("content-length", "5"),
            ],
        ),
    ];
    for (row, fields) in rows {
        let mut wire = wire(&sekisho, &origin, "allowed.test").await;
        wire.send(h2c::preface()).await;
        wire.send(h2c::headers(1, true, &fields)).await;
        let end = h2c::end_of(&mut wire, 1).await;
        if let Some(end) = end.as_ref().filter(|end| matches!(end.kind, 3 | 7)) {
            assert_ne!(end.code(), 2, "{row}: INTERNAL_ERROR");
        }
        let strict = !["content-length without content", "extended CONNECT unannounced"].contains(&row);
        assert!(end.is_some() || !strict, "{row}: neither an answer nor an error");
        let te = row == "E15 te";
        let seen = origin.requests();
        assert!(te || seen.is_empty(), "{row}: {seen:?}");
    }
    assert!(origin.requests().iter().all(|seen| seen.values("te").iter().all(|value| *value == "trailers")));
}

#[tokio::test]
async fn e15_a_body_that_is_not_as_long_as_it_said_is_a_streams_error() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    for (row, said, body) in [("shorter", "10", &b"hello"[..]), ("longer", "2", b"hello")] {
        let mut wire = wire(&sekisho, &origin, "allowed.test").await;
        wire.send(h2c::preface()).await;
        let fields =
            [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", &*at), ("content-length", said)];
        wire.send(h2c::headers(1, false, &fields)).await;
        wire.send(h2c::frame(0, 1, 1, body)).await;
        let end = h2c::end_of(&mut wire, 1).await;
        assert!(end.as_ref().is_none_or(|end| end.kind != 0), "{row}: {end:?}");
        assert!(origin.requests().is_empty(), "{row}: a whole request reached the origin");
    }
    let records = sekisho.terminals("request", 2).await;
    assert!(records.iter().all(|record| record.outcome() != "allowed"), "{records:#?}");
}

#[tokio::test]
async fn a08_coalescing_onto_another_policy_is_421() {
    let origin = Origin::https(&["one.test", "two.test"]).expecting(&["x-one", "x-two"]).start().await;
    let config = Config::new()
        .service(Service::inspect("one", &["one.test"], origin.port()).header("X-One", "1"))
        .service(Service::inspect("two", &["two.test"], origin.port()).header("X-Two", "2"))
        .hosts(&["one.test", "two.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    let mut h2 = H2::over(wire(&sekisho, &origin, "one.test").await).await;
    assert_eq!(h2.get(&format!("https://{}/a", origin.at("one.test"))).await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "").with("rule.name", "one");
    h2.get(&format!("https://{}/b", origin.at("two.test"))).await.expect("an answer").page(421, "name_mismatch");
    sekisho.next_request().await.says("denied", "name_mismatch");
    assert_eq!(h2.get(&format!("https://{}/c", origin.at("one.test"))).await.expect("unharmed").status, 200);
    sekisho.next_request().await.says("allowed", "");
    let seen = origin.requests();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.values("x-one") == ["1"] && seen.values("x-two").is_empty()), "{seen:?}");
}

#[tokio::test]
async fn trailers_of_both_directions_as_grpc_uses_them() {
    let origin = Origin::https(&["allowed.test"])
        .expecting(&["content-digest", "grpc-timeout"])
        .answering(|_| Reply::H2 {
            status: 200,
            headers: vec![("content-type", "application/grpc".into()), ("alt-svc", "h3=\":443\"".into())],
            body: b"message".to_vec(),
            trailers: vec![("grpc-status", "0".into()), ("grpc-message", "fine".into())],
        })
        .start()
        .await;
    let mut sekisho = stage(&origin).await;
    let mut h2 = h2(&sekisho, &origin).await;
    let request = Request::post(format!("https://{}/pkg.Service/Call", origin.at("allowed.test")))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .expect("a request");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-secret", "1".parse().expect("a value"));
    trailers.insert("content-digest", "sha-256=:AA==:".parse().expect("a value"));
    let answer = h2.request(request, b"question", Some(trailers)).await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"message"[..]));
    assert_eq!(answer.trailers.get("grpc-status").map(|value| value.as_bytes()), Some(&b"0"[..]));
    assert!(answer.headers.get("alt-svc").is_none());
    let seen = origin.requests().pop().expect("a request");
    assert_eq!(seen.values("te"), ["trailers"], "gRPC servers ask for it");
    assert!(seen.trailers.iter().all(|(name, _)| name == "content-digest"), "{:?}", seen.trailers);
    let record = sekisho.next_request().await;
    record.says("allowed", "");
    assert_eq!((record.number("source.bytes"), record.number("destination.bytes")), (8, 7));
}

#[tokio::test]
async fn n02_a_reset_upstream_stream_is_a_reset_client_stream() {
    let origin = Origin::https(&["allowed.test"]).answering(|_| Reply::Stall).start().await;
    let config = Config::new().inspect("allowed.test", &origin).set("timeouts", "upstream_response", "\"1s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let mut h2 = h2(&sekisho, &origin).await;
    let answer = h2.get(&format!("https://{}/", origin.at("allowed.test"))).await;
    let record = sekisho.next_request().await;
    match answer {
        Ok(answer) => {
            answer.page(504, "upstream_timeout");
        }
        Err(error) => assert!(error.is_reset() || error.is_go_away(), "{error}"),
    }
    assert_eq!(record.outcome(), "failed", "{record:?}");
}

#[tokio::test]
async fn a11_extended_connect_is_announced_only_where_the_origin_takes_it() {
    for takes in [true, false] {
        let origin = Origin::https(&["allowed.test"]).expecting(&["sec-websocket-version"]);
        let origin = if takes { origin.extended_connect() } else { origin };
        let origin = origin
            .answering(|_| Reply::H2 { status: 200, headers: vec![], body: vec![], trailers: vec![] })
            .start()
            .await;
        let mut sekisho = stage(&origin).await;
        let mut h2 = h2(&sekisho, &origin).await;
        // An answered request means that the peer's SETTINGS have been read.
        assert_eq!(h2.get(&format!("https://{}/", origin.at("allowed.test"))).await.expect("an answer").status, 200);
        sekisho.next_request().await.says("allowed", "");
        assert_eq!(h2.send.is_extended_connect_protocol_enabled(), takes);
        if !takes {
            continue;
        }
        for (authority, status) in [(origin.at("allowed.test"), 200), ("denied.test".to_owned(), 421)] {
            let request = Request::builder()
                .method(Method::CONNECT)
                .version(Version::HTTP_2)
                .uri(format!("https://{authority}/chat"))
                .extension(h2::ext::Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13")
                .body(())
                .expect("a request");
            let mut send = h2.send.clone().ready().await.expect("ready");
            let (response, mut stream) = send.send_request(request, false).expect("sent");
            let response = super::support::within("an answer", response).await.expect("an answer");
            assert_eq!(response.status().as_u16(), status, "{authority}");
            if status == 200 {
                let mut content = response.into_body();
                stream.send_data(Bytes::from_static(b"frames"), false).expect("sent");
                let echo = super::support::within("an echo", content.data()).await.expect("data").expect("data");
                assert_eq!(&echo[..], b"frames");
                stream.send_data(Bytes::new(), true).expect("sent");
                while content.data().await.is_some() {}
            }
            let record = sekisho.next_request().await;
            assert_eq!(record.outcome(), if status == 200 { "allowed" } else { "denied" }, "{record:?}");
        }
    }
}

#[tokio::test]
async fn pages_come_over_h2_too() {
    let origin = Origin::https(&["allowed.test"]).defect(super::support::pki::Defect::Expired).start().await;
    let mut sekisho = stage(&origin).await;
    let tls = Tls::named("allowed.test").trusting(&sekisho.ca()).alpn(&["h2", "http/1.1"]);
    let wire = tls.over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    if wire.alpn().as_deref() == Some("h2") {
        let mut h2 = H2::over(wire).await;
        h2.get(&format!("https://{}/", origin.at("allowed.test")))
            .await
            .expect("a page")
            .page(502, "certificate_invalid");
    } else {
        let mut wire = wire;
        wire.get(&origin.at("allowed.test"), "/").await.expect("a page").page(502, "certificate_invalid");
    }
    sekisho.next_connection().await.says("failed", "certificate_invalid");
    let mut only = Tls::named("allowed.test").trusting(&sekisho.ca()).alpn(&["h2"]);
    only = only.trusting(&sekisho.ca());
    let mut h2 = H2::over(only.over(sekisho.tunnel(&origin.at("allowed.test")).await).await).await;
    h2.get(&format!("https://{}/", origin.at("allowed.test"))).await.expect("a page").page(502, "certificate_invalid");
    assert!(origin.requests().is_empty());
}

/// Resets that the client sends, and resets that it makes us send by a window beyond its bound (MadeYouReset).
#[tokio::test]
async fn f01_f02_a_reset_flood_ends_the_connection_and_each_request_has_its_record() {
    for (kind, payload, ends) in [(3, 8_u32.to_be_bytes(), true), (8, 0x7fff_ffff_u32.to_be_bytes(), false)] {
        let origin = Origin::https(&["allowed.test"]).answering(|_| Reply::Stall).start().await;
        let mut sekisho = stage(&origin).await;
        let at = origin.at("allowed.test");
        let mut wire = wire(&sekisho, &origin, "allowed.test").await;
        wire.send(h2c::preface()).await;
        let method = if ends { "GET" } else { "POST" };
        let fields = [(":method", method), (":scheme", "https"), (":path", "/"), (":authority", &*at)];
        let mut sent = 0;
        for stream in (1..20_000).step_by(2) {
            let bytes = [h2c::headers(stream, ends, &fields), h2c::frame(kind, 0, stream, &payload)].concat();
            if wire.try_send(bytes).await.is_err() {
                break;
            }
            sent += 1;
        }
        let _ = wire.rest().await;
        assert!(sent < 10_000, "ten thousand resets were taken without complaint");
        let record = sekisho.next_connection().await;
        record.says("allowed", "rate_limited").with("sekisho.side", "client");
        let metrics = sekisho.quiet().await;
        let begun = metrics["sekisho_attempts_total{action=\"request\"}"];
        assert!(begun > 1.0, "{begun}");
        let records = sekisho.terminals("request", begun as u64).await;
        assert_eq!(records.iter().map(super::support::Record::count).sum::<u64>(), begun as u64);
        for record in &records {
            assert_ne!(record.outcome(), "allowed", "{record:?}");
            record.with("sekisho.side", "client");
        }
        assert!(origin.requests().len() < 1_000, "hardly any goes to the origin: {}", origin.requests().len());
    }
}

/// Each flood costs a handshake: who goes on with them is let open nothing for a while, and then again.
#[tokio::test]
async fn f01_f04_who_floods_one_connection_after_the_other_has_to_wait() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let pings = h2c::frame(6, 0, 0, &[0; 8]).repeat(3_000);
    let mut floods = 0;
    let refused = within("a refusal", async {
        loop {
            let (tunnel, answer) = sekisho.connect(&at).await;
            if answer.status != 200 {
                return answer;
            }
            let mut wire = Tls::named("allowed.test").trusting(&sekisho.ca()).alpn(&["h2"]).over(tunnel).await;
            wire.send(h2c::preface()).await;
            let _ = wire.try_send(&pings).await;
            let _ = wire.rest().await;
            floods += 1;
            sekisho.next_connection().await.says("allowed", "rate_limited");
        }
    })
    .await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(floods > 10, "a few are let: {floods}");
    let record = sekisho.next_connection().await;
    record.says("denied", "rate_limited");
    record.with("sekisho.detail", "the client floods one HTTP/2 connection after the other");
    within("another connection", async { while sekisho.connect(&at).await.1.status != 200 {} }).await;
}

#[tokio::test]
async fn h01_a_header_list_beyond_its_bound_is_431_or_an_error() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = wire(&sekisho, &origin, "allowed.test").await;
    wire.send(h2c::preface()).await;
    let value = "v".repeat(120);
    let mut fields = vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", &*at)];
    fields.extend((0..120).map(|_| ("x-marker", value.as_str())));
    wire.send(h2c::headers(1, true, &fields)).await;
    for _ in 0..200 {
        // A header block that goes on and on (F03).
        if wire.try_send(h2c::frame(9, 0, 1, &[0; 1000])).await.is_err() {
            break;
        }
    }
    let end = h2c::end_of(&mut wire, 1).await;
    assert!(end.is_none_or(|end| end.kind != 0), "an answer to a flood");
    assert!(sekisho.records().iter().all(|record| record.reason() != "internal_error"));
}
