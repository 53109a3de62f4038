//! Only scenes in which something round the proxy fails belong here: what it tells meanwhile, and that all is as before afterwards.

mod process;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::support::by_hand::{inside, inside_as, inside_h2};
use super::support::client::Tls;
use super::support::dns::{Dns, Says};
use super::support::faults::{At, End, Fault, Faulty};
use super::support::record::Record;
use super::support::{Config, Origin, PATIENCE, Reply, Response, Sekisho, Service, until, within};

const HOST: &str = "allowed.test";
/// Each fault comes so many times.
const ROUNDS: usize = 3;

/// From the end of a fault until good requests pass again. Five seconds are promised; a machine that does much else at the time is not
/// held to them.
fn recovery() -> Duration {
    let seconds = std::env::var("SEKISHO_RECOVERY").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(PATIENCE, Duration::from_secs)
}

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

/// One GET in a tunnel that is the client's own, or inside inspection.
struct Tried {
    /// By whatever answered, be it to the CONNECT.
    answer: Option<Response>,
    port: u16,
    /// The record's last number before it.
    since: u64,
}

impl Tried {
    async fn now(sekisho: &Sekisho, authority: &str, tls: &Tls) -> Self {
        let since = sekisho.records().last().map_or(0, |record| record.number("event.sequence"));
        let (wire, answer) = sekisho.connect(authority).await;
        let mut tried = Self { answer: None, port: wire.io.local_addr().expect("connected").port(), since };
        if answer.status != 200 {
            tried.answer = Some(answer);
        } else if let Ok(mut inside) = tls.try_over(wire).await {
            tried.answer = inside.get(authority, "/").await;
            inside.bye().await;
        }
        tried
    }

    fn passed(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.status == 200)
    }

    /// The terminal record of its connection.
    async fn record(&self, sekisho: &Sekisho) -> Record {
        until("the connection's record", || {
            sekisho.records().into_iter().find(|record| {
                record.is_terminal()
                    && record.action() == "connection"
                    && record.number("event.sequence") > self.since
                    && record.number("source.port") == u64::from(self.port)
            })
        })
        .await
    }

    /// It was refused, and is recorded, for one of these.
    async fn failed(&self, what: &str, sekisho: &Sekisho, status: u16, reasons: &[&str]) -> Record {
        let answer = self.answer.as_ref().unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let record = self.record(sekisho).await;
        assert!(reasons.contains(&record.reason()), "{what}: {record:?}");
        answer.details(record.reason());
        record
    }
}

/// Good requests pass within the time.
async fn recovered(what: &str, sekisho: &Sekisho, authority: &str, tls: &Tls) {
    let passing = async {
        while !Tried::now(sekisho, authority, tls).await.passed() || sekisho.admin("/readyz").await.status != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let limit = recovery();
    assert!(timeout(limit, passing).await.is_ok(), "{what}: not as before within {limit:?}");
}

/// Every fault at once, each on a line of its own, the service of which `of` makes.
async fn every_fault(config: Config, of: impl Fn(&str, &[&str], u16) -> Service) {
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
    let trusted = if config.inspects { sekisho.ca() } else { super::support::pki::root_pem() };
    let each = names.iter().zip(&mut lines).zip(FAULTS).map(async |((name, line), (fault, status, reasons))| {
        let (what, authority, tls) = (format!("{fault:?}"), line.at(name), Tls::named(name).trusting(&trusted));
        for _ in 0..ROUNDS {
            line.now(fault).await;
            let tried = Tried::now(&sekisho, &authority, &tls).await;
            let record = tried.failed(&what, &sekisho, status, reasons).await;
            record.says("failed", record.reason()).with("sekisho.side", "upstream");
            line.now(Fault::None).await;
            recovered(&what, &sekisho, &authority, &tls).await;
        }
    });
    futures_util::future::join_all(each).await;
    assert!(origin.requests().len() >= FAULTS.len() * ROUNDS);
    sekisho.conserved().await;
}

#[tokio::test]
async fn n03_whatever_ends_a_tunnels_upstream_is_told_and_recovered_from() {
    // A handshake before every tunnel: with a verdict that is kept only a refused connection would be seen before the 200.
    every_fault(short().set("upstream", "verify_cache", "\"0s\""), Service::tunnel).await;
}

#[tokio::test]
async fn n03_whatever_ends_an_inspected_upstream_is_a_page_and_recovered_from() {
    every_fault(short(), Service::inspect).await;
}

/// A verdict that could not be had is kept for a moment too; not longer than the line may take to recover.
#[tokio::test]
async fn n03_where_verdicts_are_kept_a_failed_one_is_soon_asked_for_again() {
    let origin = Origin::https(&[HOST]).start().await;
    let mut faulty = Faulty::before(&origin).await;
    let (authority, tls) = (faulty.at(HOST), Tls::named(HOST));
    for (fault, status, reasons) in FAULTS {
        if !matches!(fault, Fault::Silent | Fault::Cut(At::Hello, _) | Fault::Corrupt(_)) {
            continue;
        }
        let sekisho = Sekisho::start(&tunnelled(&faulty)).await;
        faulty.now(fault).await;
        let what = format!("{fault:?}");
        for _ in 0..ROUNDS {
            Tried::now(&sekisho, &authority, &tls).await.failed(&what, &sekisho, status, reasons).await;
        }
        faulty.now(Fault::None).await;
        recovered(&what, &sekisho, &authority, &tls).await;
        sekisho.conserved().await;
    }
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
    let origin = Origin::https(&[HOST]).start().await;
    let faulty = Faulty::before(&origin).await;
    let sekisho = Sekisho::start(&tunnelled(&faulty)).await;
    let (authority, tls) = (faulty.at(HOST), Tls::named(HOST));
    for end in ENDS {
        for _ in 0..ROUNDS {
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
            recovered(&format!("{end:?}"), &sekisho, &authority, &tls).await;
        }
    }
    sekisho.conserved().await;
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
    let origin = halves().await;
    let faulty = Faulty::before(&origin).await;
    let mut sekisho = Sekisho::start(&inspected(&faulty)).await;
    let (authority, tls) = (faulty.at(HOST), Tls::named(HOST).trusting(&sekisho.ca()));
    for path in ["/length", "/chunked", "/chunk"] {
        for end in ENDS {
            for _ in 0..ROUNDS {
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
                recovered(path, &sekisho, &authority, &tls).await;
            }
        }
    }
    sekisho.conserved().await;
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
    let origin = halves().await;
    let faulty = Faulty::before(&origin).await;
    let mut sekisho = Sekisho::start(&inspected(&faulty)).await;
    let (authority, tls) = (faulty.at(HOST), Tls::named(HOST).trusting(&sekisho.ca()));
    for path in ["/stalled", "/head"] {
        for end in ENDS {
            for _ in 0..ROUNDS {
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
                recovered(path, &sekisho, &authority, &tls).await;
            }
        }
    }
    assert_eq!(
        origin.requests().iter().filter(|seen| seen.target != "/").count(),
        2 * ENDS.len() * ROUNDS,
        "none twice"
    );
    sekisho.conserved().await;
}

#[tokio::test]
async fn n02_f11_an_http2_upstream_that_breaks_resets_its_streams_and_nothing_of_it_is_used_again() {
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
    for end in ENDS {
        for _ in 0..ROUNDS {
            faulty.now(Fault::Cut(At::Octets(100_000), end)).await;
            let mut client = inside_h2(&sekisho, HOST, faulty.port()).await;
            let error = client.get(&uri).await.expect_err("cut in the middle");
            assert!(error.is_reset() || error.is_go_away() || error.is_io(), "{end:?}: {error}");
            let record = taken(&mut sekisho, "/large").await;
            record.says("failed", "upstream_truncated").with("sekisho.side", "upstream");
            assert!((1..500_000).contains(&record.number("destination.bytes")), "{record:?}");
            faulty.now(Fault::None).await;
            let mut client = inside_h2(&sekisho, HOST, faulty.port()).await;
            let answer = client.get(&uri).await.expect("whole");
            assert_eq!((answer.status, answer.body.len()), (200, 500_000));
            taken(&mut sekisho, "/large").await.says("allowed", "");
        }
    }
    sekisho.conserved().await;
}

#[tokio::test]
async fn n02_a_corrupted_octet_never_reaches_the_client() {
    let origin = Origin::https(&[HOST]).answering(|_| Reply::ok(vec![b'a'; 200_000])).start().await;
    let mut faulty = Faulty::before(&origin).await;
    let sekisho = Sekisho::start(&inspected(&faulty)).await;
    let tls = Tls::named(HOST).trusting(&sekisho.ca());
    for protocol in ["h2", "http/1.1"] {
        for _ in 0..ROUNDS {
            faulty.now(Fault::Corrupt(100_000)).await;
            let wire = inside_as(&sekisho, HOST, faulty.port(), &Tls::named(HOST).alpn(&[protocol])).await;
            let (got, failed) = if protocol == "h2" {
                let mut client = super::support::h2c::H2::over(wire).await;
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
            recovered(protocol, &sekisho, &faulty.at(HOST), &tls).await;
        }
    }
    sekisho.conserved().await;
}

#[tokio::test]
async fn b05_dns_that_is_dead_slow_or_lying_is_told_and_recovered_from() {
    let good = || vec!["127.0.0.1"];
    let faults = [
        (Says::Silence, 504, "dns_timeout"),
        (Says::Later(Duration::from_secs(10), good()), 504, "dns_timeout"),
        (Says::WrongId(good()), 504, "dns_timeout"),
        (Says::ServFail, 502, "dns_failed"),
        (Says::NxDomain, 502, "dns_failed"),
        (Says::Nothing, 502, "dns_failed"),
        // Lies: an address that is nobody's to name, and one where nobody listens.
        (Says::Addresses(vec!["10.0.0.1"]), 403, "address_denied"),
        (Says::Addresses(vec!["127.0.0.9"]), 502, "connect_failed"),
    ];
    let names: Vec<String> = (0..faults.len()).map(|number| format!("{number}.names.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let origin = Origin::https(&names).start().await;
    let said: Arc<Vec<Mutex<Says>>> = Arc::new(names.iter().map(|_| Mutex::new(Says::Addresses(good()))).collect());
    let script = Arc::clone(&said);
    let dns = Dns::answering(move |name| {
        let number: usize = name.split('.').next().and_then(|label| label.parse().ok()).expect("a number");
        script[number].lock().expect("script").clone()
    })
    .await;
    let config = Config::new()
        .service(Service::tunnel("line", &["*.names.test"], origin.port()))
        .set("resolver", "servers", &dns.servers())
        .set("upstream", "allow_addresses", "[\"127.0.0.1/32\", \"127.0.0.9/32\"]")
        .set("timeouts", "dns", "\"2s\"");
    let sekisho = Sekisho::start(&config).await;
    let each = names.iter().zip(said.iter()).zip(&faults).map(async |((name, says), (fault, status, reason))| {
        let (what, authority, tls) = (format!("{fault:?}"), origin.at(name), Tls::named(name));
        for _ in 0..ROUNDS {
            *says.lock().expect("script") = fault.clone();
            // A good answer is kept for a moment.
            let tried = within(&what, async {
                loop {
                    let tried = Tried::now(&sekisho, &authority, &tls).await;
                    if !tried.passed() {
                        return tried;
                    }
                }
            })
            .await;
            let record = tried.failed(&what, &sekisho, *status, &[reason]).await;
            record.says(if *status == 403 { "denied" } else { "failed" }, reason);
            *says.lock().expect("script") = Says::Addresses(good());
            recovered(&what, &sekisho, &authority, &tls).await;
        }
        // Slow is not dead.
        *says.lock().expect("script") = Says::Later(Duration::from_millis(50), good());
        recovered("slow answers", &sekisho, &authority, &tls).await;
    });
    futures_util::future::join_all(each).await;
    sekisho.conserved().await;
}

#[tokio::test]
async fn b05_a_name_server_that_is_gone_is_told_and_the_next_reload_can_name_another() {
    let origin = Origin::https(&[HOST]).start().await;
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let gone = format!("[\"127.0.0.1:{}\"]", super::support::sekisho::free_port("127.0.0.1"));
    let config = Config::new()
        .service(Service::tunnel("line", &[HOST], origin.port()))
        .set("timeouts", "dns", "\"1s\"")
        .set("resolver", "servers", &gone);
    let sekisho = Sekisho::start(&config).await;
    let (authority, tls) = (origin.at(HOST), Tls::named(HOST));
    for _ in 0..ROUNDS {
        sekisho.reload(&config).await;
        let tried = Tried::now(&sekisho, &authority, &tls).await;
        tried.failed("gone", &sekisho, 504, &["dns_timeout"]).await.says("failed", "dns_timeout");
        sekisho.reload(&config.clone().set("resolver", "servers", &dns.servers())).await;
        recovered("another name server", &sekisho, &authority, &tls).await;
    }
    sekisho.conserved().await;
}
