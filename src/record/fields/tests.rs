//! Tests of the table: every row is written, under its key, and none is needed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::record::id::EventIds;

/// Every field set, those that can come from a client to `wire`.
fn full(wire: &[u8]) -> Fields {
    let ids = EventIds::new().expect("random bytes");
    let rare = RareFields {
        count: Some(2),
        authorities: Some(["allowed.test:443", "b.test:443"].into_iter().collect()),
        balancer: Some(BalancerAddr::new(([10, 0, 0, 5], 40_001).into())),
        balancer_destination: Some(OriginalAddr::new(([10, 20, 0, 1], 8080).into())),
        certificate_error: Some("expired"),
        lifecycle: Some(Lifecycle::Start),
        message: Some(wire.into()),
        control: Some("cut"),
        user_id: Some(UserId(1000)),
        user_name: Some(wire.into()),
        process: Some(42),
        version: Some("0.1.0"),
        previous_end: Some("clean"),
        previous_sequence: Some(7),
        torn_bytes: Some(3),
        torn: Some(wire.into()),
    };
    Fields {
        at: Some(UNIX_EPOCH),
        id: Some(ids.next()),
        action: Some("request"),
        outcome: Some(Outcome::Allowed),
        reason: Some(Reason::IdleTimeout),
        duration: Some(Duration::from_micros(3)),
        config_revision: Some("abc".into()),
        source_ip: Some(Ipv4Addr::LOCALHOST.into()),
        source_port: Some(40_000),
        client: Some("office".into()),
        listener: Some(ListenAddr::new(([0, 0, 0, 0], 8080).into())),
        original: Some(OriginalAddr::new(([203, 0, 113, 9], 443).into())),
        connection: Some(ids.next()),
        rule_id: Some("r1".into()),
        rule_name: Some("関所".into()),
        mode: Some("inspect"),
        would_refuse: Some(Reason::NotAllowlisted),
        stage: Some("relay"),
        side: Some(Side::Client),
        authority: Some(wire.into()),
        server_name: Some(wire.into()),
        domain: Some(wire.into()),
        method: Some(wire.into()),
        path: Some(wire.into()),
        status: Some(200),
        headers_set: Some(["Restrict-Access-To-Tenants", "b"].into_iter().collect()),
        destination_ip: Some(Ipv6Addr::LOCALHOST.into()),
        destination_port: Some(443),
        source_bytes: Some(1),
        destination_bytes: Some(u64::MAX),
        tls_version: Some("TLSv1.3".into()),
        tls_cipher: Some("TLS13_AES_128_GCM_SHA256".into()),
        server_subject: Some(wire.into()),
        server_not_after: Some(UNIX_EPOCH),
        upstream_verdict: Some("verified"),
        detail: Some(wire.into()),
        rare: Rare(Some(Box::new(rare))),
    }
}

fn parse(line: &[u8]) -> serde_json::Map<String, Json> {
    let body = line.strip_suffix(b"\n").expect("a line ends in a newline");
    assert!(!body.contains(&b'\n'), "one line is one line");
    let Ok(Json::Object(object)) = serde_json::from_slice(body) else {
        panic!("not an object: {}", body.escape_ascii())
    };
    object
}

#[test]
fn every_row_of_the_table_is_in_a_full_line_in_its_order() {
    let line = full(b"x").line(1);
    let text = String::from_utf8(line.clone()).expect("UTF-8");
    let places: Vec<_> = TABLE.iter().map(|row| text.find(&format!("\"{}\":", row.key))).collect();
    assert!(places.iter().all(Option::is_some), "{places:?}");
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(parse(&line).len(), TABLE.len());
}

#[test]
fn a_key_stands_once_and_has_a_type_and_a_meaning() {
    let kinds = ["keyword", "keyword[]", "ip", "long", "date"];
    let mut keys: Vec<_> = TABLE.iter().map(|row| row.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), TABLE.len());
    for row in TABLE {
        assert!(kinds.contains(&row.kind), "{row:?}");
        assert!(row.meaning.ends_with('.'), "{row:?}");
    }
}

#[test]
fn every_field_of_the_contract_is_in_the_table() {
    let contract = "@timestamp event.sequence event.id event.action event.outcome event.reason event.duration rule.id rule.name \
        source.ip source.port sekisho.client sekisho.listener sekisho.mode sekisho.stage sekisho.side sekisho.authority \
        tls.client.server_name url.domain destination.ip destination.port source.bytes destination.bytes tls.version tls.cipher \
        tls.server.subject tls.server.not_after sekisho.upstream_verdict sekisho.config_revision http.request.method url.path \
        http.response.status_code sekisho.headers_set sekisho.certificate_error sekisho.count";
    let missing: Vec<_> = contract.split_whitespace().filter(|key| TABLE.iter().all(|row| row.key != *key)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn k02_no_field_is_needed() {
    assert_eq!(Fields::default().line(1), b"{\"event.sequence\":1}\n");
}

#[test]
fn values_have_the_form_their_kind_says() {
    let object = parse(&full(b"/p").line(9));
    let rows = [
        ("event.sequence", Json::from(9)),
        ("@timestamp", "1970-01-01T00:00:00.000Z".into()),
        ("event.duration", 3000.into()),
        ("event.outcome", "allowed".into()),
        ("event.reason", "idle_timeout".into()),
        ("source.ip", "127.0.0.1".into()),
        ("destination.ip", "::1".into()),
        ("destination.bytes", u64::MAX.into()),
        ("sekisho.headers_set", vec!["Restrict-Access-To-Tenants", "b"].into()),
        ("sekisho.lifecycle", "start".into()),
    ];
    for (key, value) in rows {
        assert_eq!(object.get(key), Some(&value), "{key}");
    }
}

#[test]
fn addresses_are_those_of_their_own_side() {
    let mut fields = Fields::default();
    fields.set_source(ClientAddr::new("[::ffff:10.20.0.9]:5000".parse().expect("an address")));
    fields.set_destination(UpstreamAddr::new("203.0.113.5:443".parse().expect("an address")));
    let expected = "{\"event.sequence\":1,\"source.ip\":\"10.20.0.9\",\"source.port\":5000,\
        \"destination.ip\":\"203.0.113.5\",\"destination.port\":443}\n";
    assert_eq!(String::from_utf8_lossy(&fields.line(1)), expected);
}

proptest! {
    #[test]
    fn k01_any_bytes_in_every_field_leave_one_line(wire in proptest::collection::vec(any::<u8>(), 0..3000), sequence in any::<u64>()) {
        let line = full(&wire).line(sequence);
        prop_assert_eq!(parse(&line).len(), TABLE.len());
        prop_assert!(!String::from_utf8(line).expect("UTF-8").trim_end_matches('\n').chars().any(char::is_control));
    }
}
