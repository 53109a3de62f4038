//! Only faults between the proxy and an origin belong here.

use std::time::{Duration, Instant};

use super::{HOST, ROUNDS, Survived, Told, Tried, passes, recovered, settled};
use crate::support::by_hand::{inside, inside_as, inside_h2};
use crate::support::client::Tls;
use crate::support::faults::{At, End, Fault, Faulty};
use crate::support::record::Record;
use crate::support::{Config, Origin, Reply, Sekisho, Service, until};

const ENDS: [End; 2] = [End::Close, End::Reset];

/// What a fault before the first octet of a tunnel, or of a request, is told as. A reset at once may come before the connection is
/// known to stand.
const FAULTS: [(Fault, u16, &[&str]); 12] = [
    (Fault::Refused, 502, &["connect_failed"]),
    (Fault::BlackHole, 504, &["connect_timeout"]),
    (Fault::Silent, 504, &["upstream_timeout"]),
    (Fault::Cut(At::Accept, End::Close), 502, &["upstream_closed"]),
    (Fault::Cut(At::Accept, End::Reset), 502, &["upstream_closed", "connect_failed"]),
    (Fault::Cut(At::Hello, End::Close), 502, &["upstream_closed"]),
    (Fault::Cut(At::Hello, End::Reset), 502, &["upstream_closed"]),
    (Fault::Cut(At::Octets(100), End::Close), 502, &["upstream_closed"]),
    (Fault::Cut(At::Octets(100), End::Reset), 502, &["upstream_closed"]),
    (Fault::Late(Duration::from_secs(10)), 504, &["upstream_timeout"]),
    (Fault::Dribbled(Duration::from_millis(20)), 504, &["upstream_timeout"]),
    (Fault::Corrupt(100), 502, &["tls_failed"]),
];

/// Times that a test can wait for.
fn short() -> Config {
    Config::new().set("upstream", "connect_timeout", "\"500ms\"").set("timeouts", "upstream_handshake", "\"2s\"")
}

fn tunnelled(faulty: &Faulty) -> Config {
    short().service(Service::tunnel("line", &[HOST], faulty.port())).hosts(&[HOST])
}

fn inspected(faulty: &Faulty) -> Config {
    short().service(Service::inspect("line", &[HOST], faulty.port())).hosts(&[HOST])
}

/// Every fault at once, each on a line of its own, the service of which `of` makes.
async fn every_fault(rounds: usize, config: Config, of: impl Fn(&str, &[&str], u16) -> Service) -> Told {
    let names: Vec<String> = (0..FAULTS.len()).map(|number| format!("line{number}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let origin = Origin::https(&names).start().await;
    let mut lines = Vec::new();
    let mut config = config.hosts(&names);
    for name in &names {
        let line = Faulty::before(&origin).await;
        config = config.service(of(name, &[name], line.port()));
        lines.push(line);
    }
    let sekisho = Sekisho::start(&config).await;
    let trusted = if config.inspects { sekisho.ca() } else { crate::support::pki::root_pem() };
    let each = names.iter().zip(&mut lines).zip(FAULTS).map(async |((name, line), (fault, status, reasons))| {
        let (what, authority, tls) = (format!("{fault:?}"), line.at(name), Tls::named(name).trusting(&trusted));
        let mut survived = Survived::new(&what, rounds);
        for _ in 0..rounds {
            line.now(fault).await;
            let tried = Tried::now(&sekisho, &authority, &tls).await;
            let record = tried.failed(&what, &sekisho, status, reasons).await;
            record.says("failed", record.reason()).with("sekisho.side", "upstream");
            line.now(Fault::None).await;
            survived.after(recovered(&what, &sekisho, &authority, &tls).await);
        }
        survived
    });
    let faults = futures_util::future::join_all(each).await;
    assert!(origin.requests().len() >= FAULTS.len() * rounds);
    settled(&sekisho, faults).await
}

#[tokio::test]
async fn n03_whatever_ends_a_tunnels_upstream_is_told_and_recovered_from() {
    passes(tunnelled_upstreams(ROUNDS)).await;
}

pub async fn tunnelled_upstreams(rounds: usize) -> Told {
    // A handshake before every tunnel: with a verdict that is kept only a refused connection would be seen before the 200.
    every_fault(rounds, short().set("upstream", "verify_cache", "\"0s\""), Service::tunnel).await
}

#[tokio::test]
async fn n03_whatever_ends_an_inspected_upstream_is_a_page_and_recovered_from() {
    passes(inspected_upstreams(ROUNDS)).await;
}

pub async fn inspected_upstreams(rounds: usize) -> Told {
    every_fault(rounds, short(), Service::inspect).await
}

#[tokio::test]
async fn n03_where_verdicts_are_kept_a_failed_one_is_soon_asked_for_again() {
    passes(kept_verdicts(ROUNDS)).await;
}

/// A verdict that could not be had is kept for a moment too; not longer than the line may take to recover.
pub async fn kept_verdicts(rounds: usize) -> Told {
    let mut faults = Vec::new();
    let origin = Origin::https(&[HOST]).start().await;
    let mut faulty = Faulty::before(&origin).await;
    let (authority, tls) = (faulty.at(HOST), Tls::named(HOST));
    for (fault, status, reasons) in FAULTS {
        if !matches!(fault, Fault::Silent | Fault::Cut(At::Hello, _) | Fault::Corrupt(_)) {
            continue;
        }
        let what = format!("{fault:?}");
        let mut survived = Survived::new(&what, rounds);
        for _ in 0..rounds {
            // A good verdict is kept for longer, and lets the next tunnel pass: each round has a proxy of its own.
            let sekisho = Sekisho::start(&tunnelled(&faulty)).await;
            faulty.now(fault).await;
            for _ in 0..2 {
                Tried::now(&sekisho, &authority, &tls).await.failed(&what, &sekisho, status, reasons).await;
            }
            faulty.now(Fault::None).await;
            survived.after(recovered(&what, &sekisho, &authority, &tls).await);
            survived.unrecorded += sekisho.unrecorded().await;
        }
        faults.push(survived);
    }
    Ok(faults)
}

#[tokio::test]
async fn n03_a_line_that_is_only_slow_carries_everything() {
    let other = "inspected.test";
    let origin = Origin::https(&[HOST, other]).start().await;
    let mut faulty = Faulty::before(&origin).await;
    let config = tunnelled(&faulty)
        .service(Service::inspect("inspected", &[other], faulty.port()))
        .hosts(&[other])
        .set("timeouts", "upstream_handshake", "\"20s\"");
    let sekisho = Sekisho::start(&config).await;
    faulty.now(Fault::Late(Duration::from_millis(100))).await;
    for (host, tls) in [(HOST, Tls::named(HOST)), (other, Tls::named(other).trusting(&sekisho.ca()))] {
        let tried = Tried::now(&sekisho, &faulty.at(host), &tls).await;
        assert!(tried.passed(), "{host}: {:?}", tried.answer);
        tried.record(&sekisho).await.says("allowed", "");
    }
    sekisho.conserved().await;
}

#[tokio::test]
async fn n02_a_tunnel_that_breaks_upstream_breaks_for_its_client() {
    passes(broken_tunnels(ROUNDS)).await;
}

pub async fn broken_tunnels(rounds: usize) -> Told {
    let origin = Origin::https(&[HOST]).start().await;
    let faulty = Faulty::before(&origin).await;
    let sekisho = Sekisho::start(&tunnelled(&faulty)).await;
    let (authority, tls) = (faulty.at(HOST), Tls::named(HOST));
    let mut faults = Vec::new();
    for end in ENDS {
        let mut survived = Survived::new(format!("{end:?}"), rounds);
        for _ in 0..rounds {
            let since = sekisho.records().last().map_or(0, |record| record.number("event.sequence"));
            let wire = sekisho.tunnel(&authority).await;
            let port = wire.io.local_addr().expect("connected").port();
            let mut inside = tls.over(wire).await;
            assert_eq!(inside.get(&authority, "/").await.expect("an answer").status, 200);
            faulty.cut(end);
            let (rest, ended) = inside.rest().await;
            assert!(rest.is_empty() && ended.is_err(), "no close_notify that the origin did not send: {ended:?}");
            drop(inside);
            let record = Tried { answer: None, port, since }.record(&sekisho).await;
            record.says("allowed", if end == End::Reset { "upstream_closed" } else { "" });
            assert!(record.number("destination.bytes") > 0, "{record:?}");
            survived.after(recovered(&survived.fault, &sekisho, &authority, &tls).await);
        }
        faults.push(survived);
    }
    settled(&sekisho, faults).await
}

/// An origin of HTTP/1.1 that begins its answers and does not end them.
async fn halves() -> Origin {
    let origin = Origin::https(&[HOST]).alpn(&["http/1.1"]);
    let origin = origin.answering(|seen| match seen.target.as_str() {
        "/length" => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()),
        "/chunked" => Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec()),
        "/chunk" => Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf".to_vec()),
        "/head" => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        "/stalled" => Reply::Stall,
        _ => Reply::ok("whole"),
    });
    origin.start().await
}

#[tokio::test]
async fn n02_an_inspected_answer_that_breaks_is_seen_to_be_broken() {
    passes(broken_answers(ROUNDS)).await;
}

pub async fn broken_answers(rounds: usize) -> Told {
    let origin = halves().await;
    let faulty = Faulty::before(&origin).await;
    let mut sekisho = Sekisho::start(&inspected(&faulty)).await;
    let (authority, tls) = (faulty.at(HOST), Tls::named(HOST).trusting(&sekisho.ca()));
    let mut faults = Vec::new();
    for path in ["/length", "/chunked", "/chunk"] {
        for end in ENDS {
            let mut survived = Survived::new(format!("{path}, {end:?}"), rounds);
            for _ in 0..rounds {
                let mut wire = inside(&sekisho, HOST, faulty.port()).await;
                wire.send(format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
                assert!(wire.head().await.expect("a head").starts_with("HTTP/1.1 200"));
                wire.until(b"half").await.expect("its beginning");
                faulty.cut(end);
                let (rest, ended) = wire.rest().await;
                assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"), "{path}, {end:?}: {rest:?}");
                assert!(ended.is_err(), "{path}, {end:?}: ended as a whole answer does");
                let record = taken(&mut sekisho, path).await;
                record.says("failed", "upstream_truncated").with("sekisho.side", "upstream");
                assert_eq!(record.number("destination.bytes"), 4, "{path}, {end:?}: {record:?}");
                survived.after(recovered(path, &sekisho, &authority, &tls).await);
            }
            faults.push(survived);
        }
    }
    settled(&sekisho, faults).await
}

/// The next record of a request for `path`.
async fn taken(sekisho: &mut Sekisho, path: &str) -> Record {
    loop {
        let record = sekisho.next_request().await;
        if record.text("url.path") == path {
            return record;
        }
    }
}

#[tokio::test]
async fn n02_n03_a_break_before_the_answer_is_a_page() {
    passes(breaks_before(ROUNDS)).await;
}

pub async fn breaks_before(rounds: usize) -> Told {
    let origin = halves().await;
    let faulty = Faulty::before(&origin).await;
    let mut sekisho = Sekisho::start(&inspected(&faulty)).await;
    let (authority, tls) = (faulty.at(HOST), Tls::named(HOST).trusting(&sekisho.ca()));
    let mut faults = Vec::new();
    for path in ["/stalled", "/head"] {
        for end in ENDS {
            let mut survived = Survived::new(format!("{path}, {end:?}"), rounds);
            for _ in 0..rounds {
                let mut wire = inside(&sekisho, HOST, faulty.port()).await;
                let before = origin.requests().len();
                wire.send(format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
                until("the request at the origin", || (origin.requests().len() > before).then_some(())).await;
                faulty.cut(end);
                let answer = wire.response("GET").await;
                assert_eq!(answer.status, 502, "{path}, {end:?}: {answer:?}");
                let record = taken(&mut sekisho, path).await;
                assert!(["upstream_closed", "upstream_truncated"].contains(&record.reason()), "{record:?}");
                answer.page(502, record.reason());
                record.says("failed", record.reason()).with("sekisho.side", "upstream");
                survived.after(recovered(path, &sekisho, &authority, &tls).await);
            }
            faults.push(survived);
        }
    }
    assert_eq!(
        origin.requests().iter().filter(|seen| seen.target != "/").count(),
        2 * ENDS.len() * rounds,
        "none twice"
    );
    settled(&sekisho, faults).await
}

#[tokio::test]
async fn n02_f11_an_http2_upstream_that_breaks_resets_its_streams_and_nothing_of_it_is_used_again() {
    passes(broken_http2(ROUNDS)).await;
}

pub async fn broken_http2(rounds: usize) -> Told {
    let origin = Origin::https(&[HOST]).alpn(&["h2"]);
    let body = vec![7; 500_000];
    let origin = origin.answering(move |seen| match seen.target.as_str() {
        "/" => Reply::ok("whole"),
        _ => Reply::ok(body.clone()),
    });
    let origin = origin.start().await;
    let mut faulty = Faulty::before(&origin).await;
    let mut sekisho = Sekisho::start(&inspected(&faulty)).await;
    let uri = format!("https://{}/large", faulty.at(HOST));
    let mut faults = Vec::new();
    for end in ENDS {
        let mut survived = Survived::new(format!("{end:?}"), rounds);
        for _ in 0..rounds {
            faulty.now(Fault::Cut(At::Octets(100_000), end)).await;
            let mut client = inside_h2(&sekisho, HOST, faulty.port()).await;
            let error = client.get(&uri).await.expect_err("cut in the middle");
            assert!(error.is_reset() || error.is_go_away() || error.is_io(), "{end:?}: {error}");
            let record = taken(&mut sekisho, "/large").await;
            record.says("failed", "upstream_truncated").with("sekisho.side", "upstream");
            assert!((1..500_000).contains(&record.number("destination.bytes")), "{record:?}");
            faulty.now(Fault::None).await;
            let over = Instant::now();
            let mut client = inside_h2(&sekisho, HOST, faulty.port()).await;
            let answer = client.get(&uri).await.expect("whole");
            assert_eq!((answer.status, answer.body.len()), (200, 500_000));
            survived.after(over.elapsed());
            taken(&mut sekisho, "/large").await.says("allowed", "");
        }
        faults.push(survived);
    }
    settled(&sekisho, faults).await
}

#[tokio::test]
async fn n02_a_corrupted_octet_never_reaches_the_client() {
    passes(corrupted_octets(ROUNDS)).await;
}

pub async fn corrupted_octets(rounds: usize) -> Told {
    let origin = Origin::https(&[HOST]).answering(|_| Reply::ok(vec![b'a'; 200_000])).start().await;
    let mut faulty = Faulty::before(&origin).await;
    let sekisho = Sekisho::start(&inspected(&faulty)).await;
    let tls = Tls::named(HOST).trusting(&sekisho.ca());
    let mut faults = Vec::new();
    for protocol in ["h2", "http/1.1"] {
        let mut survived = Survived::new(protocol, rounds);
        for _ in 0..rounds {
            faulty.now(Fault::Corrupt(100_000)).await;
            let wire = inside_as(&sekisho, HOST, faulty.port(), &Tls::named(HOST).alpn(&[protocol])).await;
            let (got, failed) = if protocol == "h2" {
                let mut client = crate::support::h2c::H2::over(wire).await;
                let answer = client.get(&format!("https://{}/", faulty.at(HOST))).await;
                (answer.as_ref().map(|answer| answer.body.clone()).unwrap_or_default(), answer.is_err())
            } else {
                let mut wire = wire;
                let answer = wire.get(&faulty.at(HOST), "/").await.expect("a beginning");
                (answer.body.clone(), !answer.complete)
            };
            assert!(failed, "{protocol}: passed for whole");
            assert!(got.iter().all(|octet| *octet == b'a'), "{protocol}: the octet came through");
            faulty.now(Fault::None).await;
            survived.after(recovered(protocol, &sekisho, &faulty.at(HOST), &tls).await);
        }
        faults.push(survived);
    }
    settled(&sekisho, faults).await
}
