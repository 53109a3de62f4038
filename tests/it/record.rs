//! Only scenes about the record itself belong here: that every attempt is in it once, whatever a client, a disk or a signal does.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;

use super::support::client::{Tls, connect, connect_from};
use super::support::h2c::H2;
use super::support::record::{Record, parse};
use super::support::sekisho::{binary, mode, prepare, run, text};
use super::support::{Config, Origin, Sekisho, Service, until, within};

fn terminals(records: &[Record], action: &str, outcome: &str) -> u64 {
    let of = records.iter().filter(|record| record.action() == action && record.outcome() == outcome);
    of.map(Record::count).sum()
}

#[tokio::test]
async fn the_file_is_0640_and_never_behind_a_link() {
    let sekisho = Sekisho::start(&Config::new()).await;
    assert_eq!(mode(&sekisho.path("access.jsonl")), 0o640);
    assert_eq!(sekisho.lifecycle("start", 1).await.text("sekisho.previous_end"), "none");
    let (dir, ..) = prepare(&Config::new());
    fs::write(dir.path().join("precious"), "keep me").expect("written");
    symlink(dir.path().join("precious"), dir.path().join("access.jsonl")).expect("symlink");
    let out = run(dir.path(), &["run", "--config", "sekisho.toml"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("access.jsonl"), "{}", text(&out.stderr));
    assert_eq!(fs::read_to_string(dir.path().join("precious")).expect("there"), "keep me");
}

#[tokio::test]
async fn k07_lines_are_numbered_without_a_gap_and_named_once() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    for _ in 0..10 {
        sekisho.refused("denied.test:443", 403, "not_allowlisted").await;
        Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await.bye().await;
        sekisho.next_connection().await.says("allowed", "");
    }
    let records = sekisho.finish().await;
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.number("event.sequence"), index as u64 + 1);
        let at = record.text("@timestamp");
        assert!(at.len() == 24 && at.ends_with('Z'), "UTC, milliseconds: {at}");
    }
    let mut ids: Vec<&str> =
        records.iter().filter(|record| record.is_terminal()).map(|record| record.text("event.id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn every_terminal_record_holds_what_the_contract_names() {
    let origin = Origin::https(&["allowed.test", "inspected.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).inspect("inspected.test", &origin);
    let mut sekisho = Sekisho::start(&config).await;
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    inside.get("allowed.test", "/").await.expect("an answer");
    inside.bye().await;
    let tunnel = sekisho.next_connection().await;
    let tls = Tls::named("inspected.test").trusting(&sekisho.ca());
    let mut inside = tls.over(sekisho.tunnel(&origin.at("inspected.test")).await).await;
    inside.get(&origin.at("inspected.test"), "/p?q=1").await.expect("an answer");
    inside.bye().await;
    let (request, inspected) = (sekisho.next_request().await, sekisho.next_connection().await);
    let refused = sekisho.refused("denied.test:443", 403, "not_allowlisted").await;
    let common = [
        "@timestamp",
        "event.sequence",
        "event.id",
        "event.action",
        "event.outcome",
        "event.duration",
        "rule.id",
        "rule.name",
        "source.ip",
        "source.port",
        "sekisho.client",
        "sekisho.listener",
        "sekisho.config_revision",
        "sekisho.authority",
    ];
    let allowed = [
        "sekisho.mode",
        "tls.client.server_name",
        "url.domain",
        "destination.ip",
        "destination.port",
        "source.bytes",
        "destination.bytes",
        "sekisho.upstream_verdict",
        "tls.server.subject",
        "tls.server.not_after",
    ];
    for record in [&tunnel, &inspected, &request, &refused] {
        for key in common {
            assert!(record.has(key), "{key} is missing in {record:?}");
        }
    }
    for record in [&tunnel, &inspected] {
        for key in allowed {
            assert!(record.has(key), "{key} is missing in {record:?}");
        }
    }
    assert!(inspected.has("tls.version") && inspected.has("tls.cipher"), "{inspected:?}");
    for key in ["http.request.method", "url.path", "http.response.status_code", "sekisho.headers_set"] {
        assert!(request.has(key), "{key} is missing in {request:?}");
    }
    assert!(refused.has("event.reason") && refused.has("sekisho.stage") && refused.has("sekisho.side"), "{refused:?}");
}

#[tokio::test]
async fn k01_whatever_a_client_sends_every_line_is_json() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&Config::new().inspect("allowed.test", &origin)).await;
    let at = origin.at("allowed.test");
    let nasty: Vec<Vec<u8>> = vec![
        b"a\"b".to_vec(),
        b"a\\b".to_vec(),
        b"a\x1b[31mb".to_vec(),
        b"\xff\xfe\xc3\x28".to_vec(),
        "\u{202e}\u{2028}\u{0}".as_bytes().to_vec(),
        b"a\r\nX: {\"event.action\":\"connection\"}".to_vec(),
        vec![b'a'; 16_000],
        vec![b'\\'; 8_000],
    ];
    let mut attempts = 0;
    for bytes in &nasty {
        let mut wire = sekisho.client().await;
        let _ = wire
            .try_send(
                [b"CONNECT ", &bytes[..], b":443 HTTP/1.1\r\nHost: ", bytes, b"\r\nUser-Agent: ", bytes, b"\r\n\r\n"]
                    .concat(),
            )
            .await;
        wire.rest_until_answered().await;
        attempts += 1;
    }
    let mut requests = 0;
    for bytes in &nasty {
        let mut wire = Tls::named("allowed.test").trusting(&sekisho.ca()).over(sekisho.tunnel(&at).await).await;
        let _ = wire
            .try_send(
                [b"GET /", &bytes[..], b" HTTP/1.1\r\nHost: ", at.as_bytes(), b"\r\nUser-Agent: ", bytes, b"\r\n\r\n"]
                    .concat(),
            )
            .await;
        wire.rest_until_answered().await;
        requests += 1;
    }
    drop(sekisho.terminals("request", requests).await);
    let records = sekisho.terminals("connection", attempts).await;
    assert!(records.iter().all(|record| record.text("event.action") == "connection"));
    let longest =
        fs::read_to_string(sekisho.path("access.jsonl")).expect("a record").lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 8_192, "long values are cut: {longest}");
    let cut =
        sekisho.records().into_iter().filter(|record| record.text("url.path").starts_with("/aaaa")).collect::<Vec<_>>();
    assert!(
        !cut.is_empty() && cut.iter().all(|record| !record.text("url.path").ends_with("aaaa")),
        "with a marker: {cut:?}"
    );
}

#[tokio::test]
async fn k06_secrets_stand_in_no_output() {
    const CANARIES: [&str; 9] = [
        "canary-authorization",
        "canary-cookie",
        "canary-proxy",
        "canary-query",
        "canary-header-value",
        "canary-userinfo",
        "canary-set-cookie",
        "canary-body",
        "canary-fragment",
    ];
    let origin = Origin::https(&["allowed.test"])
        .expecting(&["authorization", "cookie", "x-org"])
        .answering(|_| {
            super::support::Reply::Raw(
                b"HTTP/1.1 200 OK\r\nSet-Cookie: canary-set-cookie\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            )
        })
        .start()
        .await;
    let plain = Origin::http().expecting(&["authorization", "cookie"]).start().await;
    let config = Config::new()
        .service(Service::inspect("one", &["allowed.test"], origin.port()).header("X-Org", "canary-header-value"))
        .hosts(&["allowed.test"])
        .plain("crl.test", &plain);
    let sekisho = Sekisho::start(&config).await;
    let (at, crl) = (origin.at("allowed.test"), plain.at("crl.test"));
    let secrets = "Authorization: Bearer canary-authorization\r\nCookie: s=canary-cookie\r\nProxy-Authorization: Basic canary-proxy\r\n";
    let mut pages = String::new();
    let mut wire = Tls::named("allowed.test").trusting(&sekisho.ca()).over(sekisho.tunnel(&at).await).await;
    for host in [at.as_str(), "denied.test"] {
        wire.send(format!(
            "POST /p?token=canary-query HTTP/1.1\r\nHost: {host}\r\n{secrets}Content-Length: 11\r\n\r\ncanary-body"
        ))
        .await;
        let answer = wire.response("POST").await;
        if answer.status != 200 {
            pages.push_str(&answer.text());
        }
    }
    for uri in [
        format!("http://{crl}/?t=canary-query"),
        "http://denied.test/?t=canary-query".to_owned(),
        format!("http://u:canary-userinfo@{crl}/"),
    ] {
        let mut wire = sekisho.client().await;
        let host = uri.split('/').nth(2).expect("a host").to_owned();
        wire.send(format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\n{secrets}\r\n")).await;
        let answer = wire.response("GET").await;
        if answer.status != 200 {
            pages.push_str(&answer.text());
        }
    }
    let mut wire = sekisho.client().await;
    wire.send(format!("CONNECT u:canary-userinfo@denied.test:443 HTTP/1.1\r\nHost: x\r\n{secrets}\r\n")).await;
    pages.push_str(&wire.response("CONNECT").await.head);
    let mut wire = sekisho.client().await;
    wire.send(format!(
        "GET http://denied.test/?t=canary-query#canary-fragment HTTP/1.1\r\nHost: denied.test\r\n{secrets}\r\n"
    ))
    .await;
    pages.push_str(&wire.response("GET").await.text());
    sekisho.terminals("request", 4).await;
    sekisho.reload(&config).await;
    let record = fs::read_to_string(sekisho.path("access.jsonl")).expect("a record");
    let checked = run(sekisho.dir.path(), &["check", "--config", "sekisho.toml"]);
    let all = [
        record,
        sekisho.stderr(),
        sekisho.admin("/metrics").await.text(),
        pages,
        text(&checked.stdout),
        text(&checked.stderr),
    ]
    .concat();
    for canary in CANARIES {
        assert!(!all.contains(canary), "{canary} in {}", &all[all.find(canary).unwrap_or(0).saturating_sub(300)..]);
    }
}

#[tokio::test]
async fn h10_a_flood_of_refusals_is_answered_one_by_one_and_recorded_as_a_count() {
    const ATTEMPTS: usize = 600;
    let sekisho = Sekisho::start(&Config::new()).await;
    let mut wire = sekisho.client().await;
    for batch in 0..ATTEMPTS / 20 {
        let asked = (0..20).map(|n| format!("h{}.test:443", batch * 20 + n));
        wire.send(asked.map(|at| format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).collect::<String>()).await;
        for _ in 0..20 {
            let answer = wire.response("CONNECT").await;
            assert_eq!(answer.status, 403);
            answer.details("not_allowlisted");
        }
    }
    let records = sekisho.terminals("connection", ATTEMPTS as u64).await;
    assert_eq!(terminals(&records, "connection", "denied"), ATTEMPTS as u64, "none lost, none twice");
    let counts: Vec<&Record> = records.iter().filter(|record| record.has("sekisho.count")).collect();
    assert!(!counts.is_empty() && records.len() < ATTEMPTS, "{} lines", records.len());
    for count in counts {
        count.says("denied", "not_allowlisted").with("source.ip", "127.0.0.1").with("sekisho.stage", "decide");
        let sample = count.0["sekisho.authorities"].as_array().expect("a sample of what was asked for");
        assert!((2..=16).contains(&sample.len()) && !count.has("sekisho.authority"), "{count:?}");
    }
    for (name, value) in [("denied", ATTEMPTS as f64), ("allowed", 0.0), ("failed", 0.0)] {
        let name = format!("sekisho_records_total{{action=\"connection\",outcome=\"{name}\"}}");
        assert_eq!(sekisho.metrics().await[&name], value, "{name}");
    }
}

#[tokio::test]
async fn k05_rotation_under_load_loses_nothing() {
    let sekisho = Sekisho::start(&Config::new()).await;
    const ROTATIONS: usize = 30;
    let load = async {
        let mut wire = sekisho.client().await;
        for n in 0..600 {
            wire.send(format!("CONNECT h{n}.test:443 HTTP/1.1\r\nHost: h{n}.test:443\r\n\r\n")).await;
            assert_eq!(wire.response("CONNECT").await.status, 403);
        }
    };
    let rotate = async {
        for turn in 0..ROTATIONS {
            fs::rename(sekisho.path("access.jsonl"), sekisho.path(&format!("access.{turn}.jsonl"))).expect("rename");
            sekisho.signal(Signal::USR1);
            until("a new file", || sekisho.path("access.jsonl").exists().then_some(())).await;
        }
    };
    tokio::join!(load, rotate);
    let all = || -> Vec<Record> {
        let old = (0..ROTATIONS).map(|turn| sekisho.path(&format!("access.{turn}.jsonl")));
        old.chain([sekisho.path("access.jsonl")])
            .flat_map(|path| parse(&fs::read_to_string(path).expect("a file")))
            .collect()
    };
    let records = until("six hundred records", || {
        let records = all();
        (terminals(&records, "connection", "denied") >= 600).then_some(records)
    })
    .await;
    assert_eq!(terminals(&records, "connection", "denied"), 600);
    let sequence: Vec<u64> = records.iter().map(|record| record.number("event.sequence")).collect();
    assert!(sequence.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap or a step back: {sequence:?}");
}

#[tokio::test]
async fn k05_a_kill_is_reported_at_the_next_start() {
    let mut sekisho = Sekisho::start(&Config::new()).await;
    for _ in 0..5 {
        sekisho.refused("denied.test:443", 403, "not_allowlisted").await;
    }
    sekisho.kill().await;
    let path = sekisho.path("access.jsonl");
    let whole = fs::read_to_string(&path).expect("a record");
    let lines = whole.lines().count();
    // A line torn in the middle, as a machine that lost its power leaves it.
    fs::write(&path, &whole[..whole.len() - 40]).expect("torn");
    sekisho.start_again().await;
    let start = sekisho.lifecycle("start", 2).await;
    start.with("sekisho.previous_end", "unclean");
    assert_eq!(start.number("sekisho.previous_sequence"), lines as u64 - 1);
    assert!(start.number("sekisho.torn_bytes") > 40);
    let mut records = sekisho.records().into_iter().skip(1);
    let kept = 1 + records.position(|record| record.text("sekisho.lifecycle") == "start").expect("the start");
    assert_eq!(kept, lines - 1, "the torn line is out of the file, and the start is in it");
    sekisho.kill().await;
    sekisho.start_again().await;
    sekisho.lifecycle("start", 3).await.with("sekisho.previous_end", "unclean");
    sekisho.signal(Signal::TERM);
    assert!(sekisho.exit().await.success());
    sekisho.start_again().await;
    sekisho.lifecycle("start", 4).await.with("sekisho.previous_end", "clean");
}

#[tokio::test]
async fn k05_what_a_client_was_told_is_written_within_a_second_of_a_kill() {
    let mut sekisho = Sekisho::start(&Config::new()).await;
    let mut wire = sekisho.client().await;
    for n in 0..50 {
        wire.send(format!("CONNECT h{n}.test:443 HTTP/1.1\r\nHost: h{n}.test:443\r\n\r\n")).await;
        assert_eq!(wire.response("CONNECT").await.status, 403);
    }
    // A second later everything must be in the file: the condition, not the pause, is what is waited for.
    let began = std::time::Instant::now();
    sekisho.terminals("connection", 50).await;
    assert!(began.elapsed() < std::time::Duration::from_millis(1500), "{:?}", began.elapsed());
    sekisho.kill().await;
    assert_eq!(terminals(&sekisho.records(), "connection", "denied"), 50);
}

/// `sekisho run` whose files may not grow beyond `blocks` of 512 octets.
struct Limited {
    dir: tempfile::TempDir,
    child: Child,
    proxy: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    turns: AtomicU16,
}

impl Limited {
    async fn start(config: &Config, blocks: usize) -> Self {
        let (dir, listeners, admin) = prepare(config);
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" run --config sekisho.toml 2>/dev/null");
        let child = Command::new("sh")
            .args(["-c", &script])
            .arg(binary())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("sh");
        let limited = Self { dir, child, proxy: listeners[0], admin, turns: AtomicU16::new(0) };
        within("readiness", async {
            while limited.ready().await != Some(200) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        limited
    }

    async fn ready(&self) -> Option<u16> {
        let mut wire = connect(self.admin).await.ok()?;
        wire.get("localhost", "/readyz").await.map(|answer| answer.status)
    }

    /// From an address of its own each time: refusals of one client would become a count.
    async fn refused(&self) -> u16 {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let mut wire = connect_from(&format!("127.1.{}.{}", turn / 250, turn % 250 + 1), self.proxy).await;
        let long = "a"
            .repeat(200)
            .as_bytes()
            .chunks(60)
            .map(|label| String::from_utf8_lossy(label).into_owned())
            .collect::<Vec<_>>()
            .join(".");
        wire.send(format!("CONNECT {long}.test:443 HTTP/1.1\r\nHost: {long}.test:443\r\n\r\n")).await;
        wire.response("CONNECT").await.status
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn k03_a_full_disk_denies_until_it_is_free_and_loses_nothing() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    // Room enough in the file that follows for all that waits while this one is full.
    let limited = Limited::start(&Config::new().tunnel("allowed.test", &origin), 400).await;
    let permitted = async || {
        let mut wire = connect(limited.proxy).await.expect("connected");
        let at = origin.at("allowed.test");
        wire.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        let answer = wire.response("CONNECT").await;
        if answer.status != 200 {
            answer.details("record_unavailable");
        }
        answer.status
    };
    let mut attempts = 0_u64;
    within("a full disk", async {
        while limited.ready().await == Some(200) {
            assert!([403, 503].contains(&limited.refused().await));
            attempts += 1;
        }
    })
    .await;
    assert!(attempts > 10, "{attempts}");
    let before = origin.connects();
    for _ in 0..20 {
        assert_eq!(permitted().await, 503);
        assert!([403, 503].contains(&limited.refused().await), "what the policy refuses stays refused");
        attempts += 2;
    }
    assert_eq!(origin.connects(), before, "nothing goes out unrecorded");
    // The administrator makes room.
    fs::rename(limited.dir.path().join("access.jsonl"), limited.dir.path().join("full.jsonl")).expect("rename");
    let pid = rustix::process::Pid::from_raw(i32::try_from(limited.child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::USR1).expect("signalled");
    within("recovery", async {
        while limited.ready().await != Some(200) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(permitted().await, 200, "it recovers by itself");
    attempts += 1;
    let records = until("every attempt", || {
        let mut records = parse(&fs::read_to_string(limited.dir.path().join("full.jsonl")).ok()?);
        records.extend(parse(&fs::read_to_string(limited.dir.path().join("access.jsonl")).ok()?));
        let total: u64 = ["denied", "failed"].iter().map(|outcome| terminals(&records, "connection", outcome)).sum();
        (total >= attempts).then_some(records)
    })
    .await;
    let of = |reason: &str| records.iter().filter(|record| record.reason() == reason).map(Record::count).sum::<u64>();
    assert!(of("record_unavailable") >= 20, "{}", of("record_unavailable"));
    assert_eq!(
        of("record_unavailable") + of("not_allowlisted") + of("client_closed"),
        attempts,
        "none lost, none twice"
    );
    assert!(records.iter().any(|record| record.text("sekisho.lifecycle") == "record_recovered"));
}

#[tokio::test]
async fn k03_under_continue_service_goes_on_and_says_so() {
    let limited = Limited::start(&Config::new().set("record", "when_unwritable", "\"continue\""), 64).await;
    within("a full disk", async {
        loop {
            assert_eq!(limited.refused().await, 403);
            let mut wire = connect(limited.admin).await.expect("connected");
            let answer = wire.get("localhost", "/readyz").await.expect("an answer");
            assert_eq!(answer.status, 200);
            if answer.text().contains("degraded") {
                return;
            }
        }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(limited.refused().await, 403);
    }
    assert!(fs::metadata(limited.dir.path().join("access.jsonl")).expect("there").len() <= 64 * 512);
}

#[tokio::test]
async fn conservation_mixed_requests_leave_exactly_as_many_records() {
    let mixed: u64 = std::env::var("SEKISHO_MIXED").ok().and_then(|count| count.parse().ok()).unwrap_or(10_000);
    let tunnelled = Origin::https(&["tunnel.test"]).start().await;
    let inspected = Origin::https(&["inspect.test"]).start().await;
    let expired = Origin::https(&["expired.test"]).defect(super::support::pki::Defect::Expired).start().await;
    let plain = Origin::http().start().await;
    let config = Config::new()
        .tunnel("tunnel.test", &tunnelled)
        .inspect("inspect.test", &inspected)
        .tunnel("expired.test", &expired)
        .plain("plain.test", &plain);
    let sekisho = Sekisho::start(&config).await;
    let ca = sekisho.ca();
    let one = async |turn: u64| -> (u64, u64) {
        match turn % 10 {
            0 | 1 => {
                assert_eq!(sekisho.connect("denied.test:443").await.1.status, 403);
                (1, 0)
            }
            2 => {
                let mut inside =
                    Tls::named("tunnel.test").over(sekisho.tunnel(&tunnelled.at("tunnel.test")).await).await;
                assert_eq!(inside.get("tunnel.test", "/").await.expect("an answer").status, 200);
                inside.bye().await;
                (1, 0)
            }
            3 => {
                let at = inspected.at("inspect.test");
                let mut inside = Tls::named("inspect.test").trusting(&ca).over(sekisho.tunnel(&at).await).await;
                for n in 0..3 {
                    assert_eq!(inside.get(&at, &format!("/{n}")).await.expect("an answer").status, 200);
                }
                assert_eq!(inside.get("other.test", "/").await.expect("a page").status, 421);
                (1, 4)
            }
            4 => {
                let at = inspected.at("inspect.test");
                let tls = Tls::named("inspect.test").trusting(&ca).alpn(&["h2"]);
                let mut h2 = H2::over(tls.over(sekisho.tunnel(&at).await).await).await;
                for n in 0..3 {
                    assert_eq!(h2.get(&format!("https://{at}/{n}")).await.expect("an answer").status, 200);
                }
                (1, 3)
            }
            5 => {
                assert_eq!(sekisho.connect(&expired.at("expired.test")).await.1.status, 502);
                (1, 0)
            }
            6 => {
                let at = plain.at("plain.test");
                let mut wire = sekisho.client().await;
                wire.send(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
                assert_eq!(wire.response("GET").await.status, 200);
                (0, 1)
            }
            7 => {
                let mut wire = sekisho.client().await;
                wire.send("\0garbage\r\n\r\n").await;
                assert_eq!(wire.response("GET").await.status, 400);
                (1, 0)
            }
            8 => {
                let mut wire = sekisho.tunnel(&tunnelled.at("tunnel.test")).await;
                wire.send("not TLS at all").await;
                wire.closed().await;
                (1, 0)
            }
            _ => {
                drop(sekisho.tunnel(&tunnelled.at("tunnel.test")).await);
                (1, 0)
            }
        }
    };
    let (mut connections, mut requests) = (0, 0);
    for batch in 0..mixed / 20 {
        let outcomes = futures_util::future::join_all((0..20).map(|turn| one(batch * 20 + turn))).await;
        for (of_connections, of_requests) in outcomes {
            connections += of_connections;
            requests += of_requests;
        }
    }
    sekisho.terminals("connection", connections).await;
    sekisho.terminals("request", requests).await;
    let metrics = sekisho.quiet().await;
    let records = sekisho.records();
    for (action, expected) in [("connection", connections), ("request", requests)] {
        let mut total = 0;
        for outcome in ["allowed", "denied", "failed"] {
            let written = terminals(&records, action, outcome);
            let name = format!("sekisho_records_total{{action=\"{action}\",outcome=\"{outcome}\"}}");
            assert_eq!(metrics.get(&name).copied().unwrap_or_default(), written as f64, "{name}");
            total += written;
        }
        assert_eq!(total, expected, "{action}");
        let attempts = metrics[&format!("sekisho_attempts_total{{action=\"{action}\"}}")];
        assert_eq!(attempts, expected as f64, "{action}");
    }
}
