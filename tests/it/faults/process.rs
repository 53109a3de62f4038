//! Only scenes in which the machine under the process fails belong here: its disk, its clock, its descriptors, the process itself;
//! and the self-probe, which is to notice.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use tokio::time::sleep;

use super::{HOST, ROUNDS, recovered};
use crate::real_clients::stage::skipped;
use crate::support::by_hand::{inside, inside_h2};
use crate::support::client::{Tls, Wire, connect};
use crate::support::{Config, Origin, Response, Sekisho, until, within};

/// A file system of its own, in memory; only root can have one.
struct Disk(PathBuf);

impl Disk {
    /// Over `directory`, so large; `None` where it cannot be had.
    fn over(directory: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(directory).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "sekisho-test"])
            .arg(directory)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(directory.to_owned()))
    }

    fn remount(&self, options: &str) -> bool {
        let remounted = Command::new("mount").args(["-o", options]).arg(&self.0).stderr(Stdio::null()).status();
        remounted.is_ok_and(|status| status.success())
    }

    /// Writes until nothing more goes in.
    fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.0.join("filler")).expect("a filler");
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn ready(sekisho: &Sekisho, status: u16, word: &str) {
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
async fn k03_a_disk_that_fills_up_and_is_freed_again_costs_no_record() {
    let origin = Origin::https(&[HOST]).start().await;
    let config = Config::new().tunnel(HOST, &origin).set("record", "path", "\"disk/access.jsonl\"");
    let disk = std::sync::Mutex::new(None);
    let arrange = |dir: &Path| {
        *disk.lock().expect("disk") = Disk::over(&dir.join("disk"), "400k");
        // Where the cast looks for it.
        symlink(dir.join("disk/access.jsonl"), dir.join("access.jsonl")).expect("a link");
    };
    let sekisho = Sekisho::start_with(&config, arrange).await;
    let Some(disk) = disk.into_inner().expect("disk") else {
        return skipped("a full disk", "no file system can be mounted");
    };
    let (authority, tls) = (origin.at(HOST), Tls::named(HOST));
    let mut open = tls.over(sekisho.tunnel(&authority).await).await;
    assert_eq!(open.get(&authority, "/").await.expect("an answer").status, 200);
    for round in 0..ROUNDS {
        disk.fill();
        within("a full disk", async {
            while sekisho.admin("/readyz").await.status == 200 {
                sekisho.connect("denied.test:443").await;
            }
        })
        .await;
        ready(&sekisho, 503, "record_unavailable").await;
        let before = origin.connects();
        let (_, answer) = sekisho.connect(&authority).await;
        assert_eq!(answer.status, 503, "{round}: {answer:?}");
        answer.details("record_unavailable");
        assert_eq!(origin.connects(), before, "nothing goes out unrecorded");
        assert_eq!(open.get(&authority, "/").await.expect("an answer").status, 200, "what was established goes on");
        // It is refused like everybody, and takes that for what it is: a new process would have no more room.
        let failed =
            |metrics: &std::collections::BTreeMap<String, f64>| metrics["sekisho_self_probes_total{result=\"failed\"}"];
        assert_eq!(failed(&sekisho.metrics().await), 0.0);
        disk.free();
        recovered("the disk", &sekisho, &authority, &tls).await;
    }
    open.bye().await;
    sekisho.conserved().await;
    assert_eq!(
        sekisho.records().iter().filter(|record| record.text("sekisho.lifecycle") == "record_recovered").count(),
        ROUNDS
    );
    drop(sekisho);
    drop(disk);
}

#[tokio::test]
async fn k03_a_file_system_that_becomes_read_only_keeps_the_record_in_the_file_it_has() {
    let config = Config::new().set("record", "path", "\"disk/access.jsonl\"");
    let disk = std::sync::Mutex::new(None);
    let arrange = |dir: &Path| {
        *disk.lock().expect("disk") = Disk::over(&dir.join("disk"), "400k");
        symlink(dir.join("disk/access.jsonl"), dir.join("access.jsonl")).expect("a link");
    };
    let mut sekisho = Sekisho::start_with(&config, arrange).await;
    let Some(disk) = disk.into_inner().expect("disk") else {
        return skipped("a read-only disk", "no file system can be mounted");
    };
    for round in 1..=ROUNDS {
        sekisho.refused("denied.test:443", 403, "not_allowlisted").await;
        let turned = sekisho.path(&format!("disk/access.{round}.jsonl"));
        fs::rename(sekisho.path("disk/access.jsonl"), &turned).expect("renamed");
        // The file that is open for writing keeps the file system itself from it; the way to it can be closed.
        if !(Command::new("mount").arg("--bind").args([&disk.0, &disk.0]).status().is_ok_and(|status| status.success())
            && disk.remount("remount,ro,bind"))
        {
            return skipped("a read-only disk", "no file system can be mounted read-only");
        }
        sekisho.signal(Signal::USR1);
        until("the failed reopening", || {
            let text = fs::read_to_string(&turned).ok()?;
            text.contains("\"sekisho.lifecycle\":\"reopen_failed\"").then_some(())
        })
        .await;
        assert_eq!(sekisho.connect("denied.test:443").await.1.status, 403);
        assert_eq!(sekisho.admin("/readyz").await.status, 200);
        assert!(Command::new("umount").arg("-l").arg(&disk.0).status().expect("umount").success());
        sekisho.signal(Signal::USR1);
        sekisho.lifecycle("reopen", 1).await;
        // What was refused meanwhile stands in the file before.
        let before = fs::read_to_string(&turned).expect("there");
        assert_eq!(before.matches("\"event.reason\":\"not_allowlisted\"").count(), 2, "{before}");
    }
    let metrics = sekisho.quiet().await;
    assert_eq!(metrics["sekisho_attempts_total{action=\"connection\"}"], 2.0 * ROUNDS as f64);
    assert_eq!(metrics["sekisho_record_lost_total"], 0.0);
    drop(sekisho);
    drop(disk);
}

fn libfaketime() -> Option<PathBuf> {
    let found = glob::glob("/usr/lib/*/faketime/libfaketimeMT.so.1").expect("a pattern").find_map(Result::ok);
    if found.is_none() {
        skipped("libfaketime", "it is not installed; tests/run installs it");
    }
    found
}

#[tokio::test]
async fn o01_whatever_the_wall_clock_says_timers_go_on_and_certificates_go_by_it() {
    let Some(library) = libfaketime() else { return };
    let origin = Origin::https(&[HOST]).start().await;
    // No kept verdict: each tunnel's certificate is judged by the clock of its moment.
    let config = Config::new().tunnel(HOST, &origin).set("upstream", "verify_cache", "\"0s\"");
    let sekisho = Sekisho::start_in(&config, |dir| {
        fs::write(dir.join("clock"), "+0").expect("a clock");
        vec![
            ("LD_PRELOAD", library.clone().into_os_string()),
            ("FAKETIME_TIMESTAMP_FILE", dir.join("clock").into_os_string()),
            ("FAKETIME_NO_CACHE", OsString::from("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsString::from("1")),
        ]
    })
    .await;
    let (authority, tls) = (origin.at(HOST), Tls::named(HOST));
    let set = |clock: &str| {
        fs::write(sekisho.path("next-clock"), clock).expect("a clock");
        fs::rename(sekisho.path("next-clock"), sekisho.path("clock")).expect("renamed");
    };
    let mut open = tls.over(sekisho.tunnel(&authority).await).await;
    assert_eq!(open.get(&authority, "/").await.expect("an answer").status, 200);
    for _ in 0..ROUNDS {
        for (clock, error) in
            [("+1h", ""), ("-1h", ""), ("+10y", "expired"), ("-10y", "not_yet_valid"), ("+10y", "expired"), ("+0", "")]
        {
            set(clock);
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
    }
    recovered("the clock", &sekisho, &authority, &tls).await;
    open.bye().await;
    sekisho.conserved().await;
    let records = sekisho.records();
    let found = |word: &str| records.iter().filter(|record| record.text("sekisho.certificate_error") == word).count();
    assert_eq!((found("expired"), found("not_yet_valid")), (2 * ROUNDS, ROUNDS));
    let years: std::collections::BTreeSet<&str> =
        records.iter().map(|record| &record.text("@timestamp")[..4]).collect();
    assert_eq!(years.len(), 3, "the record says what the clock said: {years:?}");
    for record in records.iter().filter(|record| record.is_terminal()) {
        assert!(record.number("event.duration") < 60_000_000_000, "by a clock that does not jump: {record:?}");
    }
    assert_eq!(sekisho.metrics().await["sekisho_self_probes_total{result=\"failed\"}"], 0.0);
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
async fn o03_a_process_that_is_stopped_and_goes_on_has_lost_nothing() {
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
    for round in 0..ROUNDS {
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
        assert_eq!(tunnel.exactly(4).await.expect("it lives"), b"late");
        assert_eq!(h1.response("GET").await.status, 200);
        assert_eq!(h2.get(&format!("https://{at}/")).await.expect("an answer").status, 200);
        assert_eq!(waiting.response("CONNECT").await.status, 403);
        ready(&sekisho, 200, "ok").await;
    }
    half.send("Host: denied.test:443\r\n\r\n").await;
    assert_eq!(half.response("CONNECT").await.status, 403, "no deadline was over");
    tunnel.bye().await;
    h1.bye().await;
    drop((h2, half));
    sekisho.conserved().await;
    let records = sekisho.records();
    let wrong: Vec<_> = records
        .iter()
        .filter(|record| record.is_terminal() && !["", "not_allowlisted"].contains(&record.reason()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(sekisho.metrics().await["sekisho_self_probe_passing"], 1.0);
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
    let mut admin = connect(sekisho.admin).await.expect("connected");
    for round in 1..=ROUNDS {
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
        sekisho.lifecycle("self_probe_recovered", round).await;
        recovered("the descriptors", &sekisho, &authority, &tls).await;
        until("a fed watchdog", || (watchdog.fed() > 0).then_some(())).await;
    }
    tunnel.bye().await;
    let metrics = sekisho.metrics().await;
    assert!(metrics["sekisho_self_probes_total{result=\"failed\"}"] >= 3.0 * ROUNDS as f64);
    assert_eq!(metrics["sekisho_self_probe_passing"], 1.0);
    sekisho.conserved().await;
    sekisho.signal(Signal::TERM);
    assert!(sekisho.exit().await.success());
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
