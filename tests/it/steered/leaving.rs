//! Only scenes in which a steered client's connection is refused for want of a slot, or ended by a reload, belong here.

use super::{ACCESS_DENIED, FORGED4, answered, asks, at, config, request};
use crate::support::client::{Tls, alert_of};
use crate::support::netns::{CLIENT4, ORIGIN4, Office, have};
use crate::support::{Origin, Sekisho, Service};

fn echoing(office: &Office) -> Origin {
    Origin::https(&["tunnelled.test"]).echoing().start_on(office.internet.listen(at(ORIGIN4, 443)))
}

#[tokio::test]
async fn h03_steered_clients_hold_as_many_connections_as_they_may() {
    if !have("slots of steered clients") {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let origin = echoing(&office);
    let config = config("").set("limits.per_client", "connections", "2");
    let mut sekisho = Sekisho::start_inside(&config, &office.gate).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let wire = office.client.connect(at(FORGED4, 443)).expect("connected");
        let mut tunnel = Tls::named("tunnelled.test").over(wire).await;
        tunnel.send("ping").await;
        assert_eq!(tunnel.exactly(4).await.expect("an echo"), b"ping");
        held.push(tunnel);
    }
    let before = origin.connects();
    // In the manner that each understands.
    let said = answered(&office, at(FORGED4, 443), Tls::named("tunnelled.test").hello()).await;
    assert_eq!(alert_of(&said), Some(ACCESS_DENIED));
    let mut wire = office.client.connect(at(FORGED4, 80)).expect("connected");
    let answer = request(&mut wire, "GET / HTTP/1.1\r\nHost: crl.test").await;
    assert_eq!(answer.status, 429, "{answer:?}");
    for port in [443, 80] {
        let record = sekisho.next("connection").await;
        record.says("denied", "too_many_connections").with("sekisho.stage", "admit").with("source.ip", CLIENT4);
        record.with("sekisho.original_destination", &format!("{FORGED4}:{port}"));
    }
    assert_eq!(origin.connects(), before, "who is turned away reaches nobody");
    // A slot that is given back is another's.
    held.pop().expect("a tunnel").bye().await;
    sekisho.next("connection").await.says("allowed", "");
    let wire = office.client.connect(at(FORGED4, 443)).expect("connected");
    let mut tunnel = Tls::named("tunnelled.test").over(wire).await;
    tunnel.send("pong").await;
    assert_eq!(tunnel.exactly(4).await.expect("an echo"), b"pong");
    assert_eq!(sekisho.metrics().await["sekisho_admitted"], 2.0);
}

#[tokio::test]
async fn l08_a_withdrawn_rule_ends_steered_connections() {
    if !have("a rule withdrawn from steered clients") {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let _origin = echoing(&office);
    let with = config("");
    let mut sekisho = Sekisho::start_inside(&with, &office.gate).await;
    let wire = office.client.connect(at(FORGED4, 443)).expect("connected");
    let mut tunnel = Tls::named("tunnelled.test").over(wire).await;
    tunnel.send("ping").await;
    assert_eq!(tunnel.exactly(4).await.expect("an echo"), b"ping");
    let without = with
        .clone()
        .no_services()
        .service(Service::inspect("Inspected", &["inspected.test"], 443).header("X-Allowed-Org", "city"));
    sekisho.reload(&without).await;
    let _ = tunnel.rest().await;
    let record = sekisho.next("connection").await;
    record.says("allowed", "policy_withdrawn").with("sekisho.side", "sekisho").with("source.ip", CLIENT4);
    record.with("sekisho.original_destination", &format!("{FORGED4}:443")).with("url.domain", "tunnelled.test");
    let said = answered(&office, at(FORGED4, 443), Tls::named("tunnelled.test").hello()).await;
    assert_eq!(alert_of(&said), Some(ACCESS_DENIED));
    sekisho.next("connection").await.says("denied", "not_allowlisted");
}

/// The next request of an open inspected connection is decided by the policy of its own moment.
#[tokio::test]
async fn l08_a_withdrawn_rule_refuses_the_next_request_of_a_steered_connection() {
    if !have("a rule withdrawn from inspected steered clients") {
        return;
    }
    let office = Office::new();
    office.load("sekisho.nft");
    let origin = super::origin(&office);
    let with = config("");
    let mut sekisho = Sekisho::start_inside(&with, &office.gate).await;
    let wire = office.client.connect(at(FORGED4, 443)).expect("connected");
    let mut inside = Tls::named("inspected.test").trusting(&sekisho.ca()).alpn(&["http/1.1"]).over(wire).await;
    assert_eq!(inside.get("inspected.test", "/a").await.expect("an answer").text(), "origin saw GET /a");
    sekisho.next("request").await.says("allowed", "");
    let without = with.clone().no_services().service(Service::tunnel("Tunnelled", &["tunnelled.test"], 443));
    sekisho.reload(&without).await;
    // Refused or ended: never passed on.
    if let Some(answer) = inside.get("inspected.test", "/b").await {
        answer.page(403, "not_allowlisted");
    }
    assert_eq!(origin.requests().iter().filter(|seen| seen.target == "/b").count(), 0);
    let origins = std::fs::read_to_string(sekisho.path("origins.pem")).expect("roots");
    assert_eq!(asks(&office, at(FORGED4, 443), "tunnelled.test", &origins).await, "origin saw GET /");
}
