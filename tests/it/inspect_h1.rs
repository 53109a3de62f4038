//! Only scenes about whole HTTP/1.1 exchanges inside inspection belong here: authorities, upgrades, fields, time limits, pages.

mod answers;
mod pages;
mod smuggling;
mod upgrades;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::support::client::{Tls, Wire};
use super::support::{Config, Origin, Reply, Sekisho, Service};

pub type Inside = Wire<TlsStream<TcpStream>>;

/// The proxy, with `origin` inspected as allowed.test.
pub async fn stage(origin: &Origin) -> Sekisho {
    Sekisho::start(&Config::new().inspect("allowed.test", origin)).await
}

/// A client inside its inspected connection.
pub async fn inside(sekisho: &Sekisho, origin: &Origin) -> Inside {
    Tls::named("allowed.test").trusting(&sekisho.ca()).over(sekisho.tunnel(&origin.at("allowed.test")).await).await
}

#[tokio::test]
async fn a03_a04_a06_a10_the_inner_authority_must_be_the_connects() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin).hosts(&["denied.test"])).await;
    let at = origin.at("allowed.test");
    let port = origin.port();
    for (row, head, status) in [
        ("A03", "GET / HTTP/1.1\r\nHost: denied.test\r\n".to_owned(), 421),
        ("A03 with the port", format!("GET / HTTP/1.1\r\nHost: denied.test:{port}\r\n"), 421),
        ("A03 a name below", format!("GET / HTTP/1.1\r\nHost: a.allowed.test:{port}\r\n"), 421),
        ("A03 another port", "GET / HTTP/1.1\r\nHost: allowed.test:1\r\n".to_owned(), 421),
        ("A03 an address", format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"), 421),
        ("A04 the URI's", format!("GET https://denied.test/ HTTP/1.1\r\nHost: {at}\r\n"), 421),
        ("A04 the Host's", format!("GET https://{at}/ HTTP/1.1\r\nHost: denied.test\r\n"), 421),
        ("A06 two", format!("GET / HTTP/1.1\r\nHost: {at}\r\nHost: {at}\r\n"), 400),
        ("A06 two different", format!("GET / HTTP/1.1\r\nHost: {at}\r\nHost: denied.test\r\n"), 400),
        ("A06 a list", format!("GET / HTTP/1.1\r\nHost: {at}, denied.test\r\n"), 400),
        ("A06 userinfo", "GET / HTTP/1.1\r\nHost: allowed.test@denied.test\r\n".to_owned(), 400),
        ("A06 empty", "GET / HTTP/1.1\r\nHost: \r\n".to_owned(), 400),
        ("A06 none", "GET / HTTP/1.1\r\n".to_owned(), 400),
        ("A04 userinfo", format!("GET https://u:p@{at}/ HTTP/1.1\r\nHost: {at}\r\n"), 400),
        ("A04 http", format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n"), 400),
    ] {
        let mut wire = inside(&sekisho, &origin).await;
        wire.send(format!("{head}\r\n")).await;
        let answer = wire.response("GET").await;
        let record = sekisho.next_request().await;
        // A URI whose scheme is not the connection's may be refused as either.
        let status = if row == "A04 http" && answer.status == 421 { 421 } else { status };
        assert_eq!(answer.status, status, "{row}: {answer:?}");
        assert_eq!(record.outcome(), "denied", "{row}: {record:?}");
        answer.page(status, record.reason());
        wire.closed().await;
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    denied.untouched();
}

#[tokio::test]
async fn a04_an_absolute_form_of_the_right_name_passes() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(format!("GET https://{at}/p?q HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(wire.response("GET").await.status, 200);
    let seen = origin.requests().pop().expect("a request");
    assert_eq!((seen.target.as_str(), seen.authority.as_str()), ("/p?q", at.as_str()), "origin-form goes upstream");
    sekisho.next_request().await.says("allowed", "").with("url.path", "/p");
}

#[tokio::test]
async fn a12_connect_inside_inspection_is_405() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin).hosts(&["denied.test"])).await;
    for target in [denied.at("denied.test"), origin.at("allowed.test")] {
        let mut wire = inside(&sekisho, &origin).await;
        wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        let answer = wire.response("GET").await;
        answer.page(405, "method_not_permitted");
        sekisho.next_request().await.says("denied", "method_not_permitted").with("http.request.method", "CONNECT");
    }
    assert!(origin.requests().is_empty());
    denied.untouched();
}

#[tokio::test]
async fn an_origin_that_stalls_is_504_in_time() {
    let origin = Origin::https(&["allowed.test"]).alpn(&["http/1.1"]).answering(|_| Reply::Stall).start().await;
    let config = Config::new().inspect("allowed.test", &origin).set("timeouts", "upstream_response", "\"1s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let mut wire = inside(&sekisho, &origin).await;
    let answer = wire.get(&origin.at("allowed.test"), "/").await.expect("a page");
    answer.page(504, "upstream_timeout");
    sekisho.next_request().await.says("failed", "upstream_timeout");
}

#[tokio::test]
async fn an_idle_inspected_connection_is_closed() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().inspect("allowed.test", &origin).set("timeouts", "inspected_idle", "\"1s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let mut wire = inside(&sekisho, &origin).await;
    assert_eq!(wire.get(&origin.at("allowed.test"), "/").await.expect("an answer").status, 200);
    wire.closed().await;
    sekisho.next_request().await.says("allowed", "");
    let record = sekisho.next_connection().await;
    assert_eq!((record.outcome(), record.reason()), ("allowed", "idle_timeout"), "{record:?}");
}

#[tokio::test]
async fn e19_h2c_is_stripped_and_a_preface_is_400() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(format!(
        "GET / HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.response("GET").await.status, 200);
    let seen = origin.requests().pop().expect("a request");
    assert!(seen.values("upgrade").is_empty() && seen.values("http2-settings").is_empty(), "{}", seen.head);
    sekisho.next_request().await.says("allowed", "");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(wire.response("GET").await.status, 400);
    sekisho.next_request().await.says("denied", "malformed_request");
}

const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";

fn upgrade(at: &str, extra: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

const WEBSOCKET_FIELDS: [&str; 5] =
    ["upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "origin"];

#[tokio::test]
async fn a11_a_websocket_is_passed_on_once_the_origin_agrees() {
    let origin = Origin::https(&["allowed.test"])
        .expecting(&WEBSOCKET_FIELDS)
        .answering(|_| Reply::RawThenEcho(SWITCHING.to_vec()))
        .start()
        .await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(upgrade(&at, "")).await;
    let answer = wire.response("GET").await;
    assert_eq!(answer.status, 101, "{answer:?}");
    wire.send("frames").await;
    assert_eq!(wire.exactly(6).await.expect("an echo"), b"frames");
    wire.bye().await;
    let record = sekisho.next_request().await;
    record.says("allowed", "");
    assert_eq!(record.number("http.response.status_code"), 101);
    assert_eq!((record.number("source.bytes"), record.number("destination.bytes")), (6, 6));

    let mut wire = inside(&sekisho, &origin).await;
    wire.send(upgrade("denied.test", "")).await;
    wire.response("GET").await.page(421, "name_mismatch");
    sekisho.next_request().await.says("denied", "name_mismatch");
}

#[tokio::test]
async fn e20_bytes_behind_an_upgrade_wait_for_the_101() {
    let origin = Origin::https(&["allowed.test"])
        .expecting(&WEBSOCKET_FIELDS)
        .answering(|_| Reply::ok("no upgrade here"))
        .start()
        .await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(format!("{}GET /behind HTTP/1.1\r\nHost: denied.test\r\n\r\n", upgrade(&at, ""))).await;
    assert_eq!(wire.response("GET").await.text(), "no upgrade here");
    if let Some(next) = wire.maybe_response("GET").await {
        assert_eq!(next.status, 421, "it is judged as a request, not passed on as it is: {next:?}");
        sekisho.next_request().await;
    }
    assert_eq!(origin.requests().len(), 1);
    assert!(origin.echoed().is_empty());
    // An upgrade with content is no upgrade.
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(format!("{}hello", upgrade(&at, "Content-Length: 5\r\n"))).await;
    assert_eq!(wire.response("GET").await.status, 200);
    assert!(origin.requests().last().expect("a request").values("upgrade").is_empty());
}

#[tokio::test]
async fn a16_alt_svc_and_the_origins_proxy_fields_stay_here() {
    let origin = Origin::https(&["allowed.test"])
        .answering(|_| {
            Reply::Raw(
                b"HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":443\"\r\nProxy-Status: forged; error=x\r\nProxy-Authenticate: Basic\r\n\
                  Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 2\r\n\r\nok"
                    .to_vec(),
            )
        })
        .start()
        .await;
    let mut sekisho = stage(&origin).await;
    let mut wire = inside(&sekisho, &origin).await;
    let answer = wire.get(&origin.at("allowed.test"), "/").await.expect("an answer");
    for gone in ["alt-svc", "proxy-status", "proxy-authenticate", "x-hop", "keep-alive"] {
        assert!(answer.values(gone).is_empty(), "{gone}: {}", answer.head);
    }
    assert_eq!(answer.values("x-kept"), ["1"]);
    assert_eq!(answer.values("set-cookie"), ["a=b", "c=d"]);
    sekisho.next_request().await.says("allowed", "");
}

#[tokio::test]
async fn b09_fields_that_speak_of_the_way_are_not_passed_on() {
    let origin = Origin::https(&["allowed.test"]).expecting(&["cookie", "authorization", "x-kept"]).start().await;
    let mut sekisho = stage(&origin).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    wire.send(format!(
        "GET / HTTP/1.1\r\nHost: {at}\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_Host: x\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
         Proxy-Authorization: Basic x\r\nProxy-Connection: close\r\nConnection: close-notify, X-Named\r\nX-Named: 1\r\nTE: trailers\r\n\
         Cookie: a=b\r\nAuthorization: Bearer t\r\nX-Kept: 1\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.response("GET").await.status, 200);
    let seen = origin.requests().pop().expect("a request");
    assert_eq!((seen.values("cookie"), seen.values("authorization")), (vec!["a=b"], vec!["Bearer t"]));
    assert!(seen.values("via").is_empty(), "a proxy that inspects does not name itself to the origin");
    sekisho.next_request().await.says("allowed", "");
}

#[tokio::test]
async fn pages_escape_what_they_show() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(
        &Config::new().plain("crl.test", &Origin::http().start().await).inspect("allowed.test", &origin),
    )
    .await;
    let mut wire = inside(&sekisho, &origin).await;
    wire.send("GET /<script>alert(1)</script>?a=<b> HTTP/1.1\r\nHost: \"><img\r\n\r\n").await;
    let answer = wire.response("GET").await;
    assert!([400, 421].contains(&answer.status));
    assert!(!answer.text().contains("<script") && !answer.text().contains("<img"), "{}", answer.text());
    let id = sekisho.next_request().await.text("event.id").to_owned();
    assert!(answer.text().contains(&id), "the reference to tell the help desk: {}", answer.text());
    let mut wire = sekisho.client().await;
    wire.send("GET http://<script>.test/ HTTP/1.1\r\nHost: <script>.test\r\n\r\n").await;
    let answer = wire.response("GET").await;
    assert_eq!(answer.status, 400);
    assert!(!answer.text().contains("<script"), "{}", answer.text());
}

#[tokio::test]
async fn a_request_decides_by_the_configuration_of_its_moment() {
    let origin = Origin::https(&["allowed.test"]).expecting(&["x-first", "x-second"]).start().await;
    let with = |name: &str| {
        Config::new()
            .service(Service::inspect("one", &["allowed.test"], origin.port()).header(name, "v"))
            .hosts(&["allowed.test"])
    };
    let mut sekisho = Sekisho::start(&with("X-First")).await;
    let at = origin.at("allowed.test");
    let mut wire = inside(&sekisho, &origin).await;
    assert_eq!(wire.get(&at, "/1").await.expect("an answer").status, 200);
    sekisho.reload(&with("X-Second")).await;
    assert_eq!(wire.get(&at, "/2").await.expect("an answer").status, 200);
    let seen = origin.requests();
    assert_eq!((seen[0].values("x-first").len(), seen[0].values("x-second").len()), (1, 0));
    assert_eq!((seen[1].values("x-first").len(), seen[1].values("x-second").len()), (0, 1));
    let (one, two) = (sekisho.next_request().await, sekisho.next_request().await);
    assert_ne!(one.text("sekisho.config_revision"), two.text("sekisho.config_revision"));
    assert_eq!(two.0["sekisho.headers_set"], serde_json::json!(["x-second"]), "{two:?}");
}
