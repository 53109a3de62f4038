//! Only scenes about the load tool belong here: what it counts is what the proxy's record counts, what it refuses, what it holds.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Output, Stdio};

use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::support::load_origin::LoadOrigin;
use super::support::sekisho::{free_port, run, text};
use super::support::{Config, Sekisho, Service};

#[track_caller]
fn succeeded(out: &Output, json: &Value, requests: u64, connections: u64) {
    assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
    assert_eq!((&json["requests"], &json["connections"]), (&requests.into(), &connections.into()), "{json}");
    assert_eq!(json["errors"], serde_json::json!({}), "{json}");
}

/// The sums of the seconds are the totals.
#[track_caller]
fn adds_up(json: &Value) {
    let seconds = json["per_second"].as_array().expect("a list");
    for key in ["requests", "bytes_received", "bytes_sent"] {
        let sum: u64 = seconds.iter().map(|second| second[key].as_u64().expect("a number")).sum();
        assert_eq!(Some(sum), json[key].as_u64(), "{key}: {json}");
    }
}

#[tokio::test]
async fn what_the_tool_counts_is_what_the_record_counts() {
    let origin = LoadOrigin::start();
    let sekisho = Sekisho::start(&origin.config()).await;
    let mut recorded = 0;
    for (arguments, requests, connections, received) in [
        (&["--scenario", "new", "--requests", "20"][..], 20, 20, 20 * 13),
        (&["--scenario", "h1", "--requests", "50", "--connections", "3"], 50, 3, 50 * 13),
        (&["--scenario", "h2", "--requests", "60", "--connections", "2", "--streams", "5"], 60, 2, 60 * 13),
        (&["--scenario", "bulk", "--requests", "6", "--connections", "2", "--size", "300000"], 6, 2, 6 * 300_000),
        (&["--scenario", "h1", "--requests", "40", "--connections", "4", "--rate", "400"], 40, 4, 40 * 13),
    ] {
        let (out, json) = origin.run(sekisho.addr().port(), arguments);
        succeeded(&out, &json, requests, connections);
        assert_eq!(json["bytes_received"], received, "{arguments:?}: {json}");
        assert_eq!((&json["scenario"], &json["via"]), (&arguments[1].into(), &"connect".into()));
        adds_up(&json);
        recorded += connections;
        let records = sekisho.terminals("connection", recorded).await;
        assert_eq!(records.len() as u64, recorded, "{arguments:?}");
        for record in &records {
            // An origin that has closed over a goodbye it has not read resets the connection: that is how that tunnel ended.
            let in_order = matches!(record.reason(), "" | "upstream_closed");
            assert!(record.outcome() == "allowed" && in_order, "{record:?}");
            record.with("rule.name", "Load");
        }
    }
}

#[tokio::test]
async fn every_refusal_is_counted_and_recorded() {
    let origin = LoadOrigin::start();
    let sekisho = Sekisho::start(&origin.config()).await;
    let (out, json) = origin.run(sekisho.addr().port(), &["--scenario", "refused", "--requests", "30"]);
    succeeded(&out, &json, 30, 0);
    let records = sekisho.terminals("connection", 30).await;
    assert_eq!(records.len(), 30);
    for record in &records {
        record.says("denied", "not_allowlisted").with("url.domain", "refused.invalid");
    }
}

#[tokio::test]
async fn what_is_not_refused_is_an_error() {
    let origin = LoadOrigin::start();
    let everything = origin
        .config()
        .service(Service::tunnel("Too wide", &["refused.invalid"], 443))
        .host("refused.invalid", "127.0.0.1");
    let sekisho = Sekisho::start(&everything).await;
    // Nothing listens on 443 there: it is permitted, and fails with a 502.
    let (out, json) = origin.run(sekisho.addr().port(), &["--scenario", "refused", "--requests", "3"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stdout));
    assert_eq!(json["errors"], serde_json::json!({"connect_502": 3}));
    for record in sekisho.terminals("connection", 3).await {
        record.says("failed", "connect_failed");
    }
    let (out, json) = origin.run(origin.port, &["--scenario", "refused", "--via", "sni", "--requests", "3"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stdout));
    assert_eq!(json["errors"], serde_json::json!({"not_refused": 3}), "an origin shows its certificate to anyone");
}

#[tokio::test]
async fn errors_beside_successes_end_with_4() {
    let origin = LoadOrigin::start();
    let sekisho = Sekisho::start(&origin.config().set("limits.per_client", "connections", "2")).await;
    let arguments = ["--scenario", "h1", "--requests", "200", "--connections", "5"];
    let (out, json) = origin.run(sekisho.addr().port(), &arguments);
    assert_eq!(out.status.code(), Some(4), "{}{}", text(&out.stdout), text(&out.stderr));
    let refused = json["errors"]["connect_429"].as_u64().expect("refusals");
    assert!(refused >= 3, "{json}");
    assert_eq!(json["errors"].as_object().map(serde_json::Map::len), Some(1), "{json}");
    assert_eq!(json["connections"], 2);
    assert!(text(&out.stdout).contains("connect_429; the first: CONNECT load.test:"), "{}", text(&out.stdout));
    let records = sekisho.terminals("connection", 2 + refused).await;
    let denied: u64 = records.iter().filter(|record| record.outcome() == "denied").map(|record| record.count()).sum();
    assert_eq!(denied, refused);
}

#[tokio::test]
async fn nothing_but_failures_ends_with_1() {
    let origin = LoadOrigin::start();
    let sekisho = Sekisho::start(&Config::new()).await;
    let (out, json) = origin.run(sekisho.addr().port(), &["--requests", "5"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(json["errors"], serde_json::json!({"connect_403": 5}));
    assert!(text(&out.stderr).contains("not one request succeeded: CONNECT load.test:"), "{}", text(&out.stderr));
    for record in sekisho.terminals("connection", 5).await {
        record.says("denied", "not_allowlisted");
    }
    let (out, json) = origin.run(free_port("127.0.0.1"), &["--requests", "2"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(json["errors"], serde_json::json!({"connect_refused": 2}));
}

#[test]
fn a_public_target_is_refused_unless_it_is_owned() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("root.pem"), super::support::pki::root_pem()).expect("written");
    let nobody = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let load = |proxy: &str, target: &str, more: &[&str]| {
        let arguments = ["load", "run", "--ca", "root.pem", "--requests", "1", "--proxy", proxy, "--target", target];
        let out = run(dir.path(), &[&arguments[..], more].concat());
        (out.status.code(), text(&out.stderr))
    };
    for (proxy, target, why) in [
        ("192.0.2.1:8080", "https://load.test:8443", "--proxy 192.0.2.1:8080 is a documentation address"),
        ("[2001:4860::1]:8080", "https://load.test:8443", "is a global address"),
        (&nobody, "https://no-such-name.example:8443", "--target no-such-name.example"),
    ] {
        let (code, said) = load(proxy, target, &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(why) && said.contains("--i-own-the-target"), "{said}");
    }
    let (code, said) = load(&nobody, "https://no-such-name.example:8443", &["--i-own-the-target"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not one request succeeded: connecting to 127.0.0.1"), "it went on: {said}");
    for (arguments, why) in [
        (&["--scenario", "office", "--requests", "5"][..], "--duration"),
        (&["--scenario", "idle", "--rate", "5"], "--rate"),
    ] {
        let all = [&["load", "run", "--proxy", "127.0.0.1:1", "--target", "https://load.test"][..], arguments].concat();
        let out = run(dir.path(), &all);
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains(why), "{}", text(&out.stderr));
    }
}

/// The keys are an interface.
#[test]
fn the_figures_have_their_keys_and_the_report_stands_alone() {
    let origin = LoadOrigin::start();
    let arguments = ["--via", "sni", "--scenario", "office", "--duration", "2s", "--report", "report.html"];
    let (out, json) = origin.run(origin.port, &arguments);
    assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
    let expected = [
        "scenario",
        "via",
        "requests",
        "errors",
        "seconds",
        "bytes_received",
        "bytes_sent",
        "latency_us",
        "connections",
        "per_second",
        "opening_seconds",
        "generator_threads",
        "generator_cpu_seconds",
    ];
    let found = keys(&json);
    assert!(expected.iter().all(|key| found.contains(*key)), "{found:?}");
    assert_eq!(keys(&json["latency_us"]), ["p50", "p90", "p99", "p999", "max"].map(str::to_owned).into());
    adds_up(&json);
    let connections = json["connections"].as_u64().expect("a number");
    assert!(connections >= 94, "a hundred clients, six of which keep none: {json}");
    let report = fs::read_to_string(origin.dir.path().join("report.html")).expect("the report");
    for part in ["<!doctype html>", "負荷試験の結果", "<svg", "Capacity, estimated", "quiet", "uploads"] {
        assert!(report.contains(part), "{part}");
    }
    assert!(!report.contains("<script") && !report.contains("src=") && !report.contains("href="));
}

#[test]
fn json_on_standard_output_is_one_line() {
    let origin = LoadOrigin::start();
    let proxy = format!("127.0.0.1:{}", origin.port);
    let root = origin.root();
    let arguments = ["load", "run", "--proxy", &proxy, "--target", &origin.target(), "--via", "sni", "--ca"];
    let rest = [root.to_str().expect("UTF-8"), "--scenario", "h1", "--requests", "10", "--json"];
    let out = run(origin.dir.path(), &[&arguments[..], &rest].concat());
    let json: Value = serde_json::from_slice(&out.stdout).expect("JSON and nothing else");
    assert_eq!((&json["requests"], out.status.code()), (&10.into(), Some(0)));
    assert!(text(&out.stderr).contains("h1 via sni: 10 requests"), "{}", text(&out.stderr));
}

/// What it prints is a configuration that is taken as it is.
#[test]
fn the_lines_that_the_origin_prints_load() {
    let mut origin = LoadOrigin::start();
    let begin = origin.said.find("[[listener]]").expect("a listener");
    let end = origin.said.find("Then (").expect("an end");
    let file = origin.dir.path().join("sekisho.toml");
    fs::write(&file, &origin.said[begin..end]).expect("written");
    let out = run(origin.dir.path(), &["check", "--config", "sekisho.toml"]);
    assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stdout), text(&out.stderr));
    assert!(text(&out.stdout).contains("Load test: tunnel, 1 host"), "{}", text(&out.stdout));
    let key = fs::read(origin.dir.path().join("files/leaf.key")).expect("the key");
    assert_eq!(super::support::sekisho::mode(&origin.dir.path().join("files/leaf.key")), 0o600);
    origin.child.kill().expect("killed");
    let other = ["load", "origin", "--listen", "127.0.0.1:0", "--dir", "files", "--name", "other.test"];
    let out = run(origin.dir.path(), &other);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("is for load.test, not for other.test"), "{}", text(&out.stderr));
    assert_eq!(fs::read(origin.dir.path().join("files/leaf.key")).expect("the key"), key, "nothing was overwritten");
}

/// An idle run to its end. It has to say that it holds all of them, before anything else.
fn hold(origin: &LoadOrigin, proxy: u16, count: u64, via: &str) -> Value {
    let count = count.to_string();
    let arguments = ["--scenario", "idle", "--connections", &count, "--hold", HOLD, "--via", via];
    let mut child = origin.command(proxy, &arguments).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = String::new();
    stdout.read_line(&mut said).expect("text");
    assert_eq!(said.trim_end(), format!("holding {count}"));
    assert!(child.try_wait().expect("wait").is_none(), "it holds them");
    stdout.read_to_string(&mut said).expect("text");
    let status = child.wait().expect("waited");
    let out = Output { status, stdout: said.into_bytes(), stderr: Vec::new() };
    let json = origin.json(&out);
    succeeded(&out, &json, count.parse().expect("a number"), count.parse().expect("a number"));
    json
}

const HOLD: &str = "1s";
const HOLD_NANOSECONDS: u64 = 1_000_000_000;

#[tokio::test]
async fn idle_tunnels_are_held_and_work_afterwards() {
    let origin = LoadOrigin::start();
    let sekisho = Sekisho::start(&origin.config()).await;
    let json = hold(&origin, sekisho.addr().port(), 300, "connect");
    assert!(json["seconds"].as_f64().expect("a number") >= 1.0, "{json}");
    assert_eq!(json["bytes_received"], 300 * 13);
    let records = sekisho.terminals("connection", 300).await;
    for record in &records {
        record.says("allowed", "");
        assert!(record.number("event.duration") >= HOLD_NANOSECONDS, "{record:?}");
    }
    assert_eq!(records.len(), 300);
}

/// Half of what nine thousand tunnels need is descriptors: of the tool one each, of the origin one each, of the proxy two each.
/// What the proxy keeps for itself is `server`'s to say; the count here is what that leaves.
#[tokio::test]
async fn idle_tunnels_by_the_thousand() {
    const WANTED: u64 = 9_000;
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let direct = WANTED.min(descriptors.saturating_sub(500));
    let through = WANTED.min(descriptors.saturating_sub(256 + 512) / 2);
    for (count, what) in [(direct, "straight to the origin"), (through, "through sekisho")] {
        if count < WANTED {
            let why = format!("{count} instead of {WANTED} {what}: the hard limit of descriptors is {descriptors}");
            let _ = writeln!(std::io::stderr().lock(), "\nSMALLER idle tunnels: {why}");
        }
    }
    let origin = LoadOrigin::start();
    hold(&origin, origin.port, direct, "sni");
    let sekisho = Sekisho::start(&origin.config()).await;
    hold(&origin, sekisho.addr().port(), through, "connect");
    let records = sekisho.terminals("connection", through).await;
    assert_eq!(records.len() as u64, through);
    assert!(records.iter().all(|record| record.number("event.duration") >= HOLD_NANOSECONDS));
}
