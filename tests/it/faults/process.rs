//! Only scenes in which the machine under the process fails belong here: its clock, its descriptors, the process itself;
//! and the self-probe, which is to notice.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use tokio::time::sleep;

use super::{HOST, ROUNDS, Survived, Told, Tried, passes, recovered, settled};
use crate::support::by_hand::{inside, inside_h2};
use crate::support::client::{Tls, Wire, connect};
use crate::support::{Config, Origin, Response, Sekisho, clock, until, within};

pub async fn ready(sekisho: &Sekisho, status: u16, word: &str) {
    within(&format!("readiness {status} {word}"), async {
        loop {
            let answer = sekisho.admin("/readyz").await;
            if answer.status == status && answer.text().contains(word) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn echo(wire: &mut Wire<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>, what: &str) {
    wire.send("ping").await;
    assert_eq!(wire.exactly(4).await.as_deref(), Some(b"ping".as_slice()), "{what}");
}

#[tokio::test]
async fn o01_whatever_the_wall_clock_says_timers_go_on_and_certificates_go_by_it() {
    passes(clock(ROUNDS)).await;
}

pub async fn clock(rounds: usize) -> Told {
    let library = clock::libfaketime().ok_or("libfaketime is not installed; tests/run installs it")?;
    let origin = Origin::https(&[HOST]).start().await;
    // No kept verdict: each tunnel's certificate is judged by the clock of its moment.
    let config = Config::new().tunnel(HOST, &origin).set("upstream", "verify_cache", "\"0s\"");
    let sekisho = clock::start(&config, &library, "+0").await;
    let (authority, tls) = (origin.at(HOST), Tls::named(HOST));
    let mut open = tls.over(sekisho.tunnel(&authority).await).await;
    assert_eq!(open.get(&authority, "/").await.expect("an answer").status, 200);
    let mut survived = Survived::new("forth and back", rounds);
    for _ in 0..rounds {
        for (clock, error) in
            [("+1h", ""), ("-1h", ""), ("+10y", "expired"), ("-10y", "not_yet_valid"), ("+10y", "expired")]
        {
            clock::set(&sekisho, clock);
            let (_, answer) = sekisho.connect(&authority).await;
            if error.is_empty() {
                assert_eq!(answer.status, 200, "{clock}: {answer:?}");
            } else {
                assert_eq!(answer.status, 502, "{clock}: {answer:?}");
                answer.details("certificate_invalid");
            }
            assert_eq!(sekisho.connect("denied.test:443").await.1.status, 403, "{clock}");
            assert_eq!(open.get(&authority, "/").await.expect("an answer").status, 200, "{clock}: an open tunnel");
            let readiness = sekisho.admin("/readyz").await;
            assert_eq!(readiness.status, 200, "{clock}: {readiness:?}");
        }
        clock::set(&sekisho, "+0");
        survived.after(recovered("the clock", &sekisho, &authority, &tls).await);
    }
    open.bye().await;
    let told = settled(&sekisho, vec![survived]).await;
    let records = sekisho.records();
    let found = |word: &str| records.iter().filter(|record| record.text("sekisho.certificate_error") == word).count();
    assert_eq!((found("expired"), found("not_yet_valid")), (2 * rounds, rounds));
    let years: std::collections::BTreeSet<&str> =
        records.iter().map(|record| &record.text("@timestamp")[..4]).collect();
    assert_eq!(years.len(), 3, "the record says what the clock said: {years:?}");
    for record in records.iter().filter(|record| record.is_terminal()) {
        assert!(record.number("event.duration") < 60_000_000_000, "by a clock that does not jump: {record:?}");
    }
    assert_eq!(sekisho.metrics().await["sekisho_self_probes_total{result=\"failed\"}"], 0.0);
    told
}

/// Every other file is broken, and of the others every other one permits something more.
#[tokio::test]
async fn l07_two_hundred_reloads_half_of_them_broken_disturb_nobody() {
    const RELOADS: usize = 200;
    let origin = Origin::https(&[HOST]).echoing().start().await;
    let one = Config::new().tunnel(HOST, &origin).inspect("other.test", &origin);
    let two = one.clone().service(crate::support::Service::tunnel("more", &["more.test"], 443));
    let sekisho = Sekisho::start(&one).await;
    let texts = [
        one.render(&sekisho.listeners, sekisho.admin),
        "broken = [".to_owned(),
        two.render(&sekisho.listeners, sekisho.admin),
        format!("{}unknown = true\n", one.render(&sekisho.listeners, sekisho.admin)),
    ];
    let authority = origin.at(HOST);
    let mut kept = Tls::named(HOST).over(sekisho.tunnel(&authority).await).await;
    let over = tokio::sync::watch::Sender::new(false);
    let reloads = async {
        for turn in 0..RELOADS {
            sekisho.replace_config(&texts[turn % 4]);
            sekisho.signal(Signal::HUP);
            within("the reload", async {
                loop {
                    let metrics = sekisho.metrics().await;
                    let done = metrics["sekisho_reloads_total"] + metrics["sekisho_reloads_failed_total"];
                    if done > turn as f64 {
                        return;
                    }
                }
            })
            .await;
        }
        over.send_replace(true);
    };
    let load = async {
        let mut attempts = 1_u64;
        while !*over.borrow() {
            let mut inside = Tls::named(HOST).over(sekisho.tunnel(&authority).await).await;
            echo(&mut inside, "a new tunnel").await;
            inside.bye().await;
            let (_, answer) = sekisho.connect("denied.test:443").await;
            assert_eq!(answer.status, 403);
            answer.details("not_allowlisted");
            echo(&mut kept, "the tunnel that was there before").await;
            attempts += 2;
        }
        attempts
    };
    let ((), attempts) = tokio::join!(reloads, load);
    kept.bye().await;
    let metrics = sekisho.quiet().await;
    assert_eq!(metrics["sekisho_reloads_failed_total"], RELOADS as f64 / 2.0);
    assert_eq!(metrics["sekisho_reloads_total"], RELOADS as f64 / 2.0);
    let records = sekisho.terminals("connection", attempts).await;
    assert!(records.iter().all(|record| ["", "not_allowlisted"].contains(&record.reason())), "a wrong verdict");
    let of = |outcome: &str| {
        records.iter().filter(|record| record.outcome() == outcome).map(|record| record.count()).sum::<u64>()
    };
    assert_eq!((of("allowed"), of("denied")), (attempts.div_ceil(2), attempts / 2));
    sekisho.conserved().await;
}

#[tokio::test]
async fn l07_a_storm_of_reloads_ends_with_the_last_one() {
    passes(reload_storm(ROUNDS)).await;
}

/// None is waited for, half are broken: what was written last has to be in force in the end, and good requests pass meanwhile.
pub async fn reload_storm(rounds: usize) -> Told {
    const RELOADS: usize = 100;
    let origin = Origin::https(&[HOST]).start().await;
    let good = Config::new().tunnel(HOST, &origin);
    let sekisho = Sekisho::start(&good).await;
    let (authority, tls) = (origin.at(HOST), Tls::named(HOST));
    let mut survived = Survived::new("half of them broken, none waited for", rounds);
    for round in 0..rounds {
        let last = format!("last-{round}.test");
        let with = |name: &str| {
            let service = crate::support::Service::tunnel("more", &[name], 443);
            good.clone().service(service).render(&sekisho.listeners, sekisho.admin)
        };
        for reload in 0..RELOADS {
            let text = if reload % 2 == 0 { "broken = [".to_owned() } else { with(&format!("passing-{reload}.test")) };
            sekisho.replace_config(&text);
            sekisho.signal(Signal::HUP);
            if reload % 10 == 0 {
                let tried = Tried::now(&sekisho, &authority, &tls).await;
                assert!(tried.passed(), "reload {reload}: {:?}", tried.answer);
                assert_eq!(sekisho.connect("denied.test:443").await.1.status, 403, "reload {reload}");
            }
        }
        sekisho.replace_config(&with(&last));
        sekisho.signal(Signal::HUP);
        let over = Instant::now();
        within("the last configuration", async {
            // Permitted, it has no address.
            while sekisho.connect(&format!("{last}:443")).await.1.status == 403 {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        survived.after(over.elapsed());
        survived.after(recovered("the storm", &sekisho, &authority, &tls).await);
    }
    let metrics = sekisho.metrics().await;
    assert!(metrics["sekisho_reloads_total"] > 0.0 && metrics["sekisho_reloads_failed_total"] > 0.0, "{metrics:?}");
    settled(&sekisho, vec![survived]).await
}

#[tokio::test]
async fn o03_a_process_that_is_stopped_and_goes_on_has_lost_nothing() {
    passes(stopped(ROUNDS)).await;
}

pub async fn stopped(rounds: usize) -> Told {
    let echoing = Origin::https(&[HOST]).echoing().start().await;
    let origin = Origin::https(&["inspected.test"]).start().await;
    let config = Config::new().tunnel(HOST, &echoing).inspect("inspected.test", &origin);
    let sekisho = Sekisho::start(&config).await;
    let at = origin.at("inspected.test");
    let mut tunnel = Tls::named(HOST).over(sekisho.tunnel(&echoing.at(HOST)).await).await;
    let mut h1 = inside(&sekisho, "inspected.test", origin.port()).await;
    let mut h2 = inside_h2(&sekisho, "inspected.test", origin.port()).await;
    let mut half = sekisho.client().await;
    half.send("CONNECT denied.test:443 HTTP/1.1\r\n").await;
    let mut survived = Survived::new("and gone on", rounds);
    for round in 0..rounds {
        echo(&mut tunnel, "before").await;
        sekisho.signal(Signal::STOP);
        // What comes meanwhile waits: in a tunnel, as a request, as a connection.
        tunnel.send("late").await;
        h1.send(format!("GET /{round} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        let mut waiting = connect(sekisho.addr()).await.expect("the kernel accepts");
        waiting.send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
        // The standstill itself.
        sleep(Duration::from_secs(if round == 0 { 3 } else { 1 })).await;
        sekisho.signal(Signal::CONT);
        let over = Instant::now();
        assert_eq!(tunnel.exactly(4).await.expect("it lives"), b"late");
        assert_eq!(h1.response("GET").await.status, 200);
        assert_eq!(h2.get(&format!("https://{at}/")).await.expect("an answer").status, 200);
        assert_eq!(waiting.response("CONNECT").await.status, 403);
        ready(&sekisho, 200, "ok").await;
        survived.after(over.elapsed());
    }
    half.send("Host: denied.test:443\r\n\r\n").await;
    assert_eq!(half.response("CONNECT").await.status, 403, "no deadline was over");
    tunnel.bye().await;
    h1.bye().await;
    drop((h2, half));
    let told = settled(&sekisho, vec![survived]).await;
    let records = sekisho.records();
    let wrong: Vec<_> = records
        .iter()
        .filter(|record| record.is_terminal() && !["", "not_allowlisted"].contains(&record.reason()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(sekisho.metrics().await["sekisho_self_probe_passing"], 1.0);
    told
}

/// Where `WATCHDOG=1` goes: systemd's end of it.
struct Watchdog(UnixDatagram);

impl Watchdog {
    /// Told so many times since the last time it was asked.
    fn fed(&self) -> usize {
        self.messages().iter().filter(|message| message.contains("WATCHDOG=1")).count()
    }

    fn messages(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| {
            self.0.recv(&mut buffer).ok().map(|read| String::from_utf8_lossy(&buffer[..read]).into_owned())
        })
        .collect()
    }
}

/// `/readyz` on a connection that was there before descriptors went.
async fn readiness(wire: &mut Wire<tokio::net::TcpStream>) -> Response {
    wire.get("localhost", "/readyz").await.expect("an answer")
}

#[tokio::test]
async fn h05_o04_without_descriptors_the_self_probe_fails_the_watchdog_hungers_and_all_recovers() {
    passes(descriptors(ROUNDS)).await;
}

pub async fn descriptors(rounds: usize) -> Told {
    let origin = Origin::https(&[HOST]).start().await;
    let socket = std::sync::Mutex::new(None);
    let mut sekisho = Sekisho::start_in(&Config::new().tunnel(HOST, &origin), |dir| {
        let bound = UnixDatagram::bind(dir.join("notify")).expect("a socket");
        bound.set_nonblocking(true).expect("non-blocking");
        *socket.lock().expect("socket") = Some(Watchdog(bound));
        let usec = OsString::from("30000000");
        vec![("NOTIFY_SOCKET", dir.join("notify").into_os_string()), ("WATCHDOG_USEC", usec)]
    })
    .await;
    let watchdog = socket.into_inner().expect("socket").expect("bound");
    let (authority, tls) = (origin.at(HOST), Tls::named(HOST));
    let mut tunnel = tls.over(sekisho.tunnel(&authority).await).await;
    until("a fed watchdog", || (watchdog.fed() > 0).then_some(())).await;
    let limit = getrlimit(Resource::Nofile).maximum;
    let mut survived = Survived::new("and raised again", rounds);
    for round in 1..=rounds {
        // Of this round: the admin listener ends what says nothing for seconds, which recovery may take.
        let mut admin = connect(sekisho.admin).await.expect("connected");
        assert_eq!(readiness(&mut admin).await.status, 200);
        let open = fs::read_dir(format!("/proc/{}/fd", sekisho.pid().as_raw_nonzero()))
            .expect("its descriptors")
            .count() as u64;
        // Not one more: whatever number is free lies above this.
        let none = Rlimit { current: Some(open.min(8)), maximum: limit };
        prlimit(Some(sekisho.pid()), Resource::Nofile, none).expect("lowered");
        within("a failing self-probe", async {
            loop {
                // A state of overload may be told before it.
                let answer = readiness(&mut admin).await;
                if answer.status == 503 && answer.text() == "self_probe_failed\n" {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        watchdog.messages();
        let answer = tunnel.get(&authority, "/").await.expect("an open tunnel needs no other descriptor");
        assert_eq!(answer.status, 200);
        sekisho.lifecycle("self_probe_failed", round).await;
        assert_eq!(watchdog.fed(), 0);
        let all = Rlimit { current: limit, maximum: limit };
        prlimit(Some(sekisho.pid()), Resource::Nofile, all).expect("raised");
        let over = Instant::now();
        sekisho.lifecycle("self_probe_recovered", round).await;
        recovered("the descriptors", &sekisho, &authority, &tls).await;
        survived.after(over.elapsed());
        until("a fed watchdog", || (watchdog.fed() > 0).then_some(())).await;
    }
    tunnel.bye().await;
    let metrics = sekisho.metrics().await;
    assert!(metrics["sekisho_self_probes_total{result=\"failed\"}"] >= 3.0 * rounds as f64);
    assert_eq!(metrics["sekisho_self_probe_passing"], 1.0);
    let told = settled(&sekisho, vec![survived]).await;
    sekisho.signal(Signal::TERM);
    assert!(sekisho.exit().await.success());
    told
}

#[tokio::test]
async fn the_self_probe_passes_and_is_nobodys_attempt() {
    // A client nobody is: the probe needs no [[clients]].
    let config = Config::new().clients("[[clients]]\nname = \"office\"\nnetworks = [\"192.0.2.0/24\"]\n");
    let mut sekisho = Sekisho::start(&config).await;
    let passed = within("some self-probes", async {
        loop {
            let metrics = sekisho.metrics().await;
            if metrics["sekisho_self_probes_total{result=\"passed\"}"] >= 4.0 {
                return metrics;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(passed["sekisho_self_probes_total{result=\"failed\"}"], 0.0);
    assert_eq!(passed["sekisho_attempts_total{action=\"connection\"}"], 0.0);
    assert_eq!(passed["sekisho_connections"], 0.0);
    // What it may reach, nobody else may: the name is in no policy of theirs.
    sekisho.refused("allowed.self-probe.invalid:443", 403, "client_not_permitted").await;
    assert!(sekisho.records().iter().filter(|record| record.is_terminal()).count() == 1);
    sekisho.finish().await;
}
