//! Only scenes about whose limit it is belong here: a client's, its group's, a service's, everybody's, and that nothing is spent on
//! what is over one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::slots::from;
use crate::support::by_hand::{inside, inside_h2};
use crate::support::client::Tls;
use crate::support::dns::{Dns, Says};
use crate::support::sekisho::{prepare, run, text};
use crate::support::{Config, Origin, Sekisho, Service, within};

/// Two groups: the office of 127.0.1.0/24, and everybody else on loopback.
fn groups(limits_of_office: &str) -> String {
    format!(
        "[[clients]]\nname = \"office\"\nnetworks = [\"127.0.1.0/24\"]\n{limits_of_office}\n\
         [[clients]]\nname = \"others\"\nnetworks = [\"127.0.0.0/8\"]\n"
    )
}

fn office(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, n)
}

async fn status(sekisho: &Sekisho, ip: Ipv4Addr, authority: &str) -> u16 {
    let mut wire = from(ip, sekisho.addr()).await;
    let _ = wire.try_send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")).await;
    wire.response("CONNECT").await.status
}

#[tokio::test]
async fn a_group_is_limited_as_a_whole_and_its_clients_by_their_own() {
    let limits = "[clients.limits]\nconnections = 3\n[clients.limits.per_client]\nconnections = 2";
    let config = Config::new().clients(&groups(limits)).service(Service::tunnel("Demo", &["allowed.test"], 443));
    let mut sekisho = Sekisho::start(&config).await;
    let mut held = Vec::new();
    for n in [1, 1, 2] {
        let mut wire = from(office(n), sekisho.addr()).await;
        wire.send("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n").await;
        assert_eq!(wire.response("CONNECT").await.status, 403);
        sekisho.next_connection().await.says("denied", "not_allowlisted").with("sekisho.client", "office");
        held.push(wire);
    }
    // A third client of the group finds the group's three held; who holds two already would find its own limit as well.
    for (ip, expected, detail) in [
        (office(3), 503, "as many as clients.limits.connections lets through"),
        (office(1), 503, "as many as clients.limits.connections lets through"),
    ] {
        assert_eq!(status(&sekisho, ip, "denied.test:443").await, expected);
        let record = sekisho.next_connection().await;
        record.says("denied", "too_many_connections").with("sekisho.detail", detail).with("sekisho.side", "sekisho");
    }
    drop(held.pop());
    within("the group's slot", async {
        while status(&sekisho, office(1), "denied.test:443").await != 429 {
            sekisho.next_connection().await;
        }
    })
    .await;
    let record = sekisho.next_connection().await;
    record.says("denied", "too_many_connections").with("sekisho.side", "client");
    record.with("sekisho.detail", "as many as per_client.connections lets through");
    assert_eq!(status(&sekisho, Ipv4Addr::new(127, 0, 0, 9), "denied.test:443").await, 403);
    let metrics = sekisho.metrics().await;
    let reached =
        |whose: &str| metrics[&format!("sekisho_limit_reached_total{{limit=\"connections\",whose=\"{whose}\"}}")];
    assert!(reached("group") >= 2.0 && reached("client") == 1.0, "{metrics:?}");
    assert_eq!((reached("service"), reached("all")), (0.0, 0.0));
}

#[tokio::test]
async fn a_service_is_limited_before_a_name_is_looked_up_and_the_slot_is_its_tunnels() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let other = Origin::https(&["other.test"]).echoing().start().await;
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let service = Service::tunnel("Demo", &["allowed.test"], origin.port()).limits("connections = 2");
    let config =
        Config::new().service(service).service(Service::tunnel("Other", &["other.test"], other.port())).asking(&dns);
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let one = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let two = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let (queries, connects) = (dns.queries().len(), origin.connects());
    let (mut wire, answer) = sekisho.connect(&at).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    answer.details("too_many_connections");
    let record = sekisho.next_connection().await;
    record.says("denied", "too_many_connections").with("sekisho.stage", "decide").with("rule.name", "Demo");
    record.with("sekisho.detail", "as many as service.limits.connections lets through");
    assert_eq!((dns.queries().len(), origin.connects()), (queries, connects), "no query and no SYN");
    // The same connection may go to another service.
    wire.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", other.at("other.test"))).await;
    assert_eq!(wire.response("CONNECT").await.status, 200);
    Tls::named("other.test").over(wire).await.bye().await;
    sekisho.next_connection().await.says("allowed", "").with("rule.name", "Other");
    one.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    two.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.finish().await;
}

#[tokio::test]
async fn f01_requests_of_a_service_are_counted_over_its_clients_streams_and_protocols() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let service = Service::inspect("Demo", &["allowed.test"], origin.port()).limits("requests_per_second = 2");
    let config = Config::new().service(service).hosts(&["allowed.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut h2 = inside_h2(&sekisho, "allowed.test", origin.port()).await;
    let mut h1 = inside(&sekisho, "allowed.test", origin.port()).await;
    let mut limited = 0;
    for n in 0..40 {
        let status = match n % 2 {
            0 => h2.get(&format!("https://{at}/{n}")).await.expect("an answer").status,
            _ => h1.get(&at, &format!("/{n}")).await.expect("an answer").status,
        };
        let record = sekisho.next_request().await;
        if status == 429 {
            record.says("denied", "rate_limited");
            record.with("sekisho.detail", "as many as service.limits.requests_per_second lets through");
            limited += 1;
        } else {
            assert_eq!(status, 200);
            record.says("allowed", "");
        }
    }
    assert!(limited > 0 && limited <= 38, "{limited}");
    assert_eq!(origin.requests().len(), 40 - limited, "what was refused never left");
}

/// A client that opens and does not greet holds its own handshakes, and nobody else's.
#[tokio::test]
async fn h02_h03_d16_handshakes_under_way_are_counted_and_a_relay_is_none() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let inspected = Origin::https(&["inspected.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin).inspect("inspected.test", &inspected).set(
        "limits.per_client",
        "handshakes",
        "3",
    );
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    // What relays has its handshakes behind it.
    let tunnel = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let mut requests = inside(&sekisho, "inspected.test", inspected.port()).await;
    assert_eq!(requests.get(&inspected.at("inspected.test"), "/").await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "");
    let dribbling =
        [sekisho.tunnel(&at).await, sekisho.tunnel(&at).await, sekisho.tunnel(&inspected.at("inspected.test")).await];
    for refused in [at.clone(), inspected.at("inspected.test")] {
        let record = sekisho.refused(&refused, 429, "rate_limited").await;
        record.says("denied", "rate_limited").with("sekisho.side", "client");
        record.with("sekisho.detail", "as many as per_client.handshakes lets through");
    }
    let metrics = sekisho.metrics().await;
    assert_eq!(metrics["sekisho_limit_held{limit=\"handshakes\"}"], 3.0);
    let mut other = from(Ipv4Addr::new(127, 0, 0, 9), sekisho.addr()).await;
    other.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(other.response("CONNECT").await.status, 200, "another client");
    Tls::named("allowed.test").over(other).await.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    let [first, ..] = dribbling;
    Tls::named("allowed.test").over(first).await.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    within("a handshake's slot", async {
        while sekisho.connect(&at).await.1.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((tunnel, requests));
}

#[tokio::test]
async fn h06_new_inspected_names_come_at_a_rate_and_known_ones_do_not_count() {
    let names: Vec<String> = (0..12).map(|n| format!("n{n}.allowed.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let origin = Origin::https(&names).start().await;
    let config = Config::new().service(Service::inspect("Demo", &["*.allowed.test"], origin.port())).hosts(&names).set(
        "limits.per_client",
        "leaf_mints_per_second",
        "1",
    );
    let mut sekisho = Sekisho::start(&config).await;
    let ca = sekisho.ca();
    let (mut served, mut refused) = (Vec::new(), 0);
    for name in &names {
        let wire = sekisho.tunnel(&origin.at(name)).await;
        match Tls::named(name).trusting(&ca).try_over(wire).await {
            Ok(wire) => {
                wire.bye().await;
                sekisho.next_connection().await.says("allowed", "");
                served.push(*name);
            }
            Err(error) => {
                assert!(format!("{error:?}").contains("AccessDenied"), "{error:?}");
                let record = sekisho.next_connection().await;
                record.says("denied", "rate_limited").with("sekisho.stage", "relay");
                assert!(record.text("sekisho.detail").contains("per_client.leaf_mints_per_second"), "{record:?}");
                refused += 1;
            }
        }
    }
    assert!(!served.is_empty() && refused >= 1, "{served:?}");
    assert_eq!(origin.connects(), served.len(), "nobody is dialled for a name that gets no leaf");
    for name in served {
        let wire = sekisho.tunnel(&origin.at(name)).await;
        Tls::named(name).trusting(&ca).over(wire).await.bye().await;
        sekisho.next_connection().await.says("allowed", "");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn h11_look_ups_that_wait_are_counted_and_known_names_are_none() {
    let silent = Arc::new(AtomicBool::new(true));
    let is_silent = Arc::clone(&silent);
    let dns = Dns::answering(move |name| {
        if name.starts_with("slow") && is_silent.load(Ordering::Relaxed) {
            Says::Silence
        } else {
            Says::Addresses(vec!["127.0.0.1"])
        }
    })
    .await;
    let origin = Origin::https(&["known.allowed.test", "slow9.allowed.test"]).echoing().start().await;
    let config = Config::new()
        .service(Service::tunnel("Demo", &["*.allowed.test"], origin.port()))
        .asking(&dns)
        .set("timeouts", "dns", "\"60s\"")
        .set("limits.per_client", "dns_lookups", "2");
    let mut sekisho = Sekisho::start(&config).await;
    let known = origin.at("known.allowed.test");
    Tls::named("known.allowed.test").over(sekisho.tunnel(&known).await).await.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    let mut waiting = Vec::new();
    for n in 0..2 {
        let mut wire = sekisho.client().await;
        let at = origin.at(&format!("slow{n}.allowed.test"));
        wire.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        waiting.push(wire);
    }
    within("two look-ups", async {
        while sekisho.metrics().await["sekisho_limit_held{limit=\"dns_lookups\"}"] < 2.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    Tls::named("known.allowed.test").over(sekisho.tunnel(&known).await).await.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    let asked = dns.queries().len();
    let record = sekisho.refused(&origin.at("slow9.allowed.test"), 429, "rate_limited").await;
    record.says("denied", "rate_limited").with("sekisho.stage", "dial");
    assert!(record.text("sekisho.detail").contains("per_client.dns_lookups"), "{record:?}");
    assert!(dns.queries()[asked.min(dns.queries().len())..].iter().all(|query| !query.contains("slow9")));
    // Another client has look-ups of its own.
    silent.store(false, Ordering::Relaxed);
    assert_eq!(status(&sekisho, Ipv4Addr::new(127, 0, 0, 9), &origin.at("slow9.allowed.test")).await, 200);
    drop(waiting);
}

#[tokio::test]
async fn everybody_together_is_limited_like_anybody() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("limits", "handshakes", "1");
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let held = sekisho.tunnel(&at).await;
    let mut other = from(Ipv4Addr::new(127, 0, 0, 9), sekisho.addr()).await;
    other.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    let answer = other.response("CONNECT").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    answer.details("overloaded");
    let record = sekisho.next_connection().await;
    record.says("denied", "overloaded").with("sekisho.detail", "as many as limits.handshakes lets through");
    drop(held);
}

/// The limits of a flow are told beforehand, each with whose it is.
#[test]
fn explain_tells_every_limit_that_applies() {
    let limits = "[clients.limits]\nupload = \"5MB\"\n[clients.limits.per_client]\nconnections = 7";
    let service = Service::tunnel("Demo", &["allowed.test"], 443).limits("download = \"9MB\"");
    let config = Config::new().clients(&groups(limits)).service(service);
    let (dir, listeners, admin) = prepare(&config);
    std::fs::write(dir.path().join("sekisho.toml"), config.render(&listeners, admin)).expect("written");
    let explain = |client: &str, more: &[&str]| {
        let arguments = ["explain", "--config", "sekisho.toml", "--client", client, "allowed.test"];
        let out = run(dir.path(), &[arguments.as_slice(), more].concat());
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        text(&out.stdout)
    };
    let said = explain("127.0.1.4", &[]);
    for line in [
        "this client: 7 connections,",
        "its group: upload 5MB/s",
        "the service: download 9MB/s",
        "all: 20000 connections",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!explain("127.0.0.4", &[]).contains("its group"));
    let json: serde_json::Value = serde_json::from_str(&explain("127.0.1.4", &["--json"])).expect("JSON");
    assert_eq!(json["limits"]["client"]["connections"], "7");
    assert_eq!(json["limits"]["group"]["upload"], "5MB");
    assert_eq!(json["limits"]["service"]["download"], "9MB");
    let out = run(dir.path(), &["check", "--config", "sekisho.toml"]);
    let said = text(&out.stdout);
    for words in ["a client of office: 7 connections", "office: upload 5MB/s", "Demo: download 9MB/s"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// Whatever a client says of whom it speaks for, it is one client.
#[tokio::test]
async fn b09_a_forged_address_is_no_other_client() {
    let config = Config::new().set("limits.per_client", "new_connections_per_second", "1").set(
        "limits.per_client",
        "burst",
        "3",
    );
    let mut sekisho = Sekisho::start(&config).await;
    let mut limited = 0;
    for n in 0..12 {
        let mut wire = sekisho.client().await;
        let forged = format!("X-Forwarded-For: 10.0.0.{n}\r\nForwarded: for=10.0.0.{n}\r\nX-Real-IP: 10.0.0.{n}");
        let _ = wire
            .try_send(format!("CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n{forged}\r\n\r\n"))
            .await;
        let status = wire.response("CONNECT").await.status;
        let record = sekisho.next_connection().await;
        record.with("source.ip", "127.0.0.1");
        if status == 429 {
            record.says("denied", "rate_limited").with("sekisho.side", "client");
            limited += 1;
        }
    }
    assert!(limited >= 1);
    sekisho.finish().await;
}
