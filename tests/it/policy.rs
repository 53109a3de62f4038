//! Only scenes about what the policy says belong here: rules, ports, clients, the order of reasons, and plain HTTP.

use super::support::client::{Tls, alert_of, connect_from};
use super::support::dns::{Dns, Says};
use super::support::{Config, Origin, Reply, Sekisho, Service};

#[tokio::test]
async fn a01_the_sni_must_be_the_connects_name_in_both_modes() {
    let allowed = Origin::https(&["allowed.test"]).start().await;
    let inspected = Origin::https(&["inspected.test"]).start().await;
    let denied = Origin::https(&["denied.test"]).start().await;
    let config =
        Config::new().tunnel("allowed.test", &allowed).inspect("inspected.test", &inspected).hosts(&["denied.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    for (name, origin) in [("allowed.test", &allowed), ("inspected.test", &inspected)] {
        for sni in ["denied.test", "inspected.test", "allowed.test", "a.allowed.test"] {
            if sni == name {
                continue;
            }
            let mut wire = sekisho.tunnel(&origin.at(name)).await;
            wire.send(Tls::named(sni).hello()).await;
            assert_eq!(alert_of(&wire.rest().await.0), Some(112), "{name} with {sni}");
            let record = sekisho.next_connection().await;
            record.says("denied", "name_mismatch").with("url.domain", name).with("tls.client.server_name", sni);
        }
    }
    denied.untouched();
    assert!(allowed.snis().iter().all(|sni| sni == "allowed.test"), "{:?}", allowed.snis());
    inspected.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn a02_an_ip_literal_is_refused_whoever_it_is() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    for host in
        ["198.51.100.9", "127.0.0.1", "8.8.8.8", "[::1]", "[::ffff:7f00:1]", "[2606:4700::1111]", "[::127.0.0.1]"]
    {
        let record = sekisho.refused(&origin.at(host), 403, "ip_literal").await;
        record.says("denied", "ip_literal").with("sekisho.authority", &origin.at(host));
    }
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn a15_a_denied_name_is_never_looked_up() {
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let config = Config::new().service(Service::tunnel("allowed", &["allowed.test"], 443)).asking(&dns);
    let mut sekisho = Sekisho::start(&config).await;
    for n in 0..200 {
        sekisho.refused(&format!("mzxw6ytb{n}.denied.test:443"), 403, "not_allowlisted").await;
    }
    assert_eq!(dns.queries(), Vec::<String>::new());
    sekisho.finish().await;
}

#[tokio::test]
async fn a17_m01_the_proxy_does_not_connect_to_itself() {
    let dns = Dns::answering(|_| Says::Addresses(vec!["127.0.0.1"])).await;
    let base = Config::new().asking(&dns);
    let mut sekisho = Sekisho::start(&base.clone().service(Service::tunnel("any port", &["*.self.test"], 443))).await;
    let (proxy, admin) = (sekisho.addr().port(), sekisho.admin.port());
    let ports = Service::tunnel("any port", &["*.self.test", "named.test"], proxy);
    let text = base
        .service(ports)
        .host("named.test", "127.0.0.1")
        .render(&sekisho.listeners, sekisho.admin)
        .replace(&format!("ports = [{proxy}]"), &format!("ports = [{proxy}, {admin}]"));
    // Not by a reload, which may lead to no port that was not known at the start.
    sekisho.replace_config(&text);
    sekisho.signal(rustix::process::Signal::TERM);
    assert!(sekisho.exit().await.success());
    sekisho.start_again().await;
    for port in [proxy, admin] {
        for name in ["x.self.test", "named.test"] {
            sekisho.refused(&format!("{name}:{port}"), 403, "self_connection").await.says("denied", "self_connection");
        }
        sekisho.refused(&format!("127.0.0.1:{port}"), 403, "ip_literal").await;
    }
    sekisho.refused(&format!("localhost:{admin}"), 403, "not_allowlisted").await;
    sekisho.finish().await;
}

#[tokio::test]
async fn a18_a_rule_holds_at_any_size_of_the_list() {
    for size in [1, 99, 100, 101, 10_000] {
        let origin = Origin::https(&["allowed.test"]).start().await;
        let filler: Vec<String> = (1..size).map(|n| format!("filler{n}.test")).collect();
        let mut hosts: Vec<&str> = filler.iter().map(String::as_str).collect();
        hosts.insert(hosts.len() / 2, "allowed.test");
        let config = Config::new().service(Service::tunnel("big", &hosts, origin.port())).hosts(&["allowed.test"]);
        let mut sekisho = Sekisho::start(&config).await;
        for spelling in ["ALLOWED.TEST", "allowed.test."] {
            let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at(spelling)).await).await;
            assert_eq!(inside.get("allowed.test", "/").await.expect("an answer").status, 200, "{spelling} of {size}");
            inside.bye().await;
            sekisho.next_connection().await.says("allowed", "").with("rule.name", "big");
        }
        sekisho.refused(&origin.at("denied.test"), 403, "not_allowlisted").await;
    }
}

#[tokio::test]
async fn a19_patterns_match_label_by_label() {
    let rows = [
        ("example.test", "exact"),
        ("www.example.test", "below"),
        ("a.b.example.test", "below"),
        ("xexample.test", ""),
        ("example.test.evil.test", ""),
        ("example.tes", ""),
        ("autodiscover.city.inner.test", "inner"),
        ("autodiscover.a.b.inner.test", ""),
        ("autodiscover.inner.test", ""),
        ("mycdn.partial.test", "partial"),
        ("cdn.partial.test", "partial"),
        ("my.cdn.partial.test", ""),
        ("cdnx.partial.test", ""),
        ("special.example.test", "special"),
    ];
    let port = 4443;
    let config = Config::new()
        .service(Service::tunnel("exact", &["example.test"], port))
        .service(Service::tunnel("below", &["*.example.test"], port))
        .service(Service::tunnel("special", &["special.example.test"], port))
        .service(Service::tunnel("inner", &["autodiscover.*.inner.test"], port))
        .service(Service::tunnel("partial", &["*cdn.partial.test"], port));
    let dns = Dns::answering(|_| Says::Nothing).await;
    let mut sekisho = Sekisho::start(&config.asking(&dns)).await;
    for (host, rule) in rows {
        let (_, answer) = sekisho.connect(&format!("{host}:{port}")).await;
        let record = sekisho.next_connection().await;
        if rule.is_empty() {
            assert!(record.text("rule.id").starts_with("builtin/"), "{host}: {record:?}");
        } else {
            record.with("rule.name", rule);
        }
        // A permitted name has no address here; a denied one is not even asked for.
        let (status, reason) = if rule.is_empty() { (403, "not_allowlisted") } else { (502, "dns_failed") };
        assert_eq!((answer.status, record.reason()), (status, reason), "{host}");
        assert_eq!(dns.queries().iter().any(|asked| asked == host), !rule.is_empty(), "{host}");
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn b08_only_configured_ports_and_only_of_the_winning_rule() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new()
        .service(Service::tunnel("narrow", &["allowed.test"], 8443))
        .service(Service::tunnel("wide", &["*.test"], origin.port()).line("allow_broad = true"))
        .hosts(&["allowed.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    for port in ["25", "22", "80", "1", "65535", &origin.port().to_string()] {
        let record = sekisho.refused(&format!("allowed.test:{port}"), 403, "port_not_permitted").await;
        record.says("denied", "port_not_permitted").with("rule.name", "narrow");
    }
    origin.untouched();
    sekisho.finish().await;
}

#[tokio::test]
async fn l01_an_empty_policy_denies_all() {
    for config in [
        Config::new(),
        Config::new().service(Service::tunnel("none", &[], 443)),
        Config::new().service(Service::tunnel("no ports", &["allowed.test"], 443).line("clients = []")),
    ] {
        let rendered = super::support::sekisho::prepare(&config);
        let checked = super::support::sekisho::run(rendered.0.path(), &["check", "--config", "sekisho.toml"]);
        if !checked.status.success() {
            continue;
        }
        let sekisho = Sekisho::start(&config).await;
        let (_, answer) = sekisho.connect("allowed.test:443").await;
        assert_eq!(answer.status, 403);
        assert_eq!(sekisho.terminals("connection", 1).await[0].outcome(), "denied");
    }
}

#[tokio::test]
async fn clients_are_told_apart_by_their_address() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let clients = "[[clients]]\nname = \"office\"\nnetworks = [\"127.0.0.0/24\"]\n[[clients]]\nname = \"school\"\nnetworks = [\"127.0.1.0/24\"]\n";
    let config = Config::new()
        .clients(clients)
        .service(Service::tunnel("for the office", &["allowed.test"], origin.port()).line("clients = [\"office\"]"))
        .service(Service::tunnel("for all", &["all.test"], origin.port()))
        .hosts(&["allowed.test", "all.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    for (from, host, status, reason, group) in [
        ("127.0.0.1", "allowed.test", 200, "", "office"),
        ("127.0.0.77", "allowed.test", 200, "", "office"),
        ("127.0.1.1", "allowed.test", 403, "client_not_permitted", "school"),
        ("127.0.2.1", "allowed.test", 403, "client_not_permitted", ""),
        ("127.0.2.1", "denied.test", 403, "client_not_permitted", ""),
        ("127.0.1.1", "denied.test", 403, "not_allowlisted", "school"),
    ] {
        let mut wire = connect_from(from, sekisho.addr()).await;
        let at = origin.at(host);
        // B09: nothing a client sends changes who it is.
        wire.send(format!(
            "CONNECT {at} HTTP/1.1\r\nHost: {at}\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.response("CONNECT").await.status, status, "{from} to {host}");
        drop(wire);
        let record = sekisho.next_connection().await;
        record.with("source.ip", from).with("sekisho.client", group);
        if status != 200 {
            record.says("denied", reason);
        }
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn reasons_come_in_their_order() {
    let clients = "[[clients]]\nname = \"office\"\nnetworks = [\"127.0.5.0/24\"]\n[[clients]]\nname = \"here\"\nnetworks = [\"127.0.0.0/24\"]\n";
    let config = Config::new()
        .clients(clients)
        .service(Service::tunnel("office only", &["allowed.test"], 443).line("clients = [\"office\"]"))
        .service(Service::tunnel("here", &["here.test"], 443));
    let mut sekisho = Sekisho::start(&config).await;
    for (authority, status, reason) in [
        ("127.0.0.1:99999", 400, "malformed_request"),
        ("127.0.0.1:25", 403, "ip_literal"),
        ("denied.test:25", 403, "not_allowlisted"),
        ("here.test:25", 403, "port_not_permitted"),
        ("allowed.test:443", 403, "client_not_permitted"),
    ] {
        let (_, answer) = sekisho.connect(authority).await;
        assert_eq!(answer.status, status, "{authority}: {answer:?}");
        let record = sekisho.next_connection().await;
        assert_eq!(record.reason(), reason, "{authority}");
        answer.details(reason);
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn plain_http_serves_what_is_asked_and_names_itself() {
    let origin = Origin::http()
        .answering(|seen| {
            Reply::Raw(
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: {}\r\n\r\n{}",
                    seen.target.len(),
                    if seen.method == "HEAD" { "" } else { &seen.target }
                )
                .into_bytes(),
            )
        })
        .start()
        .await;
    let mut sekisho = Sekisho::start(&Config::new().plain("crl.test", &origin)).await;
    let at = origin.at("crl.test");
    let mut wire = sekisho.client().await;
    for (method, body) in [("GET", ""), ("HEAD", ""), ("POST", "ocsp request")] {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        wire.send(format!("{method} http://{at}/a.crl?x=1 HTTP/1.1\r\nHost: {at}\r\n{length}\r\n{body}")).await;
        let answer = wire.response(method).await;
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        let record = sekisho.next_request().await;
        record
            .says("allowed", "")
            .with("http.request.method", method)
            .with("url.path", "/a.crl")
            .with("rule.name", "crl.test");
        assert_eq!(record.number("http.response.status_code"), 200);
        let seen = origin.requests().pop().expect("a request");
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str(), seen.body.as_slice()),
            (method, "/a.crl?x=1", body.as_bytes())
        );
        assert_eq!(seen.authority, at);
        assert_eq!(seen.values("via"), ["1.1 sekisho"]);
        assert_eq!(seen.values("connection"), ["close"], "RFC 9112 section 9.3: its connection is for one request");
    }
}

#[tokio::test]
async fn a17_a_plain_request_that_has_been_here_is_refused() {
    let origin = Origin::http().start().await;
    let mut sekisho = Sekisho::start(&Config::new().plain("crl.test", &origin)).await;
    let at = origin.at("crl.test");
    for (via, passes) in [
        ("1.1 sekisho", false),
        ("1.0 a.example, 1.1 sekisho", false),
        ("1.1 a\r\nVia: 1.1 sekisho, 1.1 b", false),
        ("HTTP/1.1 Sekisho", false),
        ("1.1\tsekisho  (at the gate)", false),
        ("1.1 a (not sekisho", true),
        ("1.1 sekisho.example", true),
        ("sekisho", true),
    ] {
        let mut wire = sekisho.client().await;
        wire.send(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nVia: {via}\r\n\r\n")).await;
        let answer = wire.response("GET").await;
        let record = sekisho.next_request().await;
        if passes {
            assert_eq!(answer.status, 200, "{via:?}: {answer:?}");
            record.says("allowed", "");
        } else {
            answer.page(403, "self_connection");
            record.says("denied", "self_connection");
        }
    }
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn plain_http_is_refused_where_it_is_not_permitted() {
    let plain = Origin::http().start().await;
    let tls = Origin::https(&["allowed.test"]).start().await;
    let denied = Origin::http().start().await;
    let config = Config::new().plain("crl.test", &plain).tunnel("allowed.test", &tls).hosts(&["denied.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    for (method, uri, status, reason) in [
        ("GET", format!("http://{}/", tls.at("allowed.test")), 403, "plain_http_not_permitted"),
        ("GET", format!("http://{}/", denied.at("denied.test")), 403, "not_allowlisted"),
        ("GET", "http://crl.test:1/".to_owned(), 403, "port_not_permitted"),
        ("GET", "http://127.0.0.1/".to_owned(), 403, "ip_literal"),
        ("PUT", format!("http://{}/", plain.at("crl.test")), 405, "method_not_permitted"),
        ("DELETE", format!("http://{}/", plain.at("crl.test")), 405, "method_not_permitted"),
        ("OPTIONS", format!("http://{}/", plain.at("crl.test")), 405, "method_not_permitted"),
    ] {
        let host = uri.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut wire = sekisho.client().await;
        wire.send(format!("{method} {uri} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = wire.response(method).await;
        answer.page(status, reason);
        let record = sekisho.next_request().await;
        record.says("denied", reason);
        assert!(answer.text().contains(record.text("event.id")), "the page's reference is the record's");
        assert!(!answer.text().contains("crl.test") || uri.contains("crl.test"), "no other rule is in a reply");
    }
    plain.untouched();
    tls.untouched();
    denied.untouched();
}

#[tokio::test]
async fn a05_beside_an_absolute_uri_another_host_counts_for_nothing() {
    let origin = Origin::http().start().await;
    let denied = Origin::http().start().await;
    let mut sekisho = Sekisho::start(&Config::new().plain("crl.test", &origin).hosts(&["denied.test"])).await;
    let mut wire = sekisho.client().await;
    let at = origin.at("crl.test");
    wire.send(format!("GET http://{at}/ HTTP/1.1\r\nHost: {}\r\n\r\n", denied.at("denied.test"))).await;
    let answer = wire.response("GET").await;
    match answer.status {
        200 => assert!(origin.requests().iter().all(|seen| seen.authority == at && !seen.head.contains("denied.test"))),
        400 => assert!(origin.requests().is_empty()),
        other => panic!("{other}"),
    }
    sekisho.next_request().await;
    denied.untouched();
}

#[tokio::test]
async fn a09_policy_is_asked_for_every_request_of_a_connection() {
    let one = Origin::http().start().await;
    let two = Origin::http().start().await;
    let denied = Origin::http().start().await;
    let config = Config::new().plain("one.test", &one).plain("two.test", &two).hosts(&["denied.test"]);
    let mut sekisho = Sekisho::start(&config).await;
    let mut wire = sekisho.client().await;
    for (at, status) in [
        (one.at("one.test"), 200),
        (denied.at("denied.test"), 403),
        (two.at("two.test"), 200),
        (one.at("two.test"), 403),
        (one.at("one.test"), 200),
    ] {
        wire.send(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        let answer = wire.response("GET").await;
        assert_eq!(answer.status, status, "{at}");
        if answer.value("connection") == "close" {
            wire = sekisho.client().await;
        }
        let record = sekisho.next_request().await;
        assert_eq!(record.outcome(), if status == 200 { "allowed" } else { "denied" });
    }
    assert_eq!((one.requests().len(), two.requests().len()), (2, 1));
    denied.untouched();
}

#[tokio::test]
async fn k06_e19_hop_by_hop_and_proxy_fields_stay_here() {
    let origin = Origin::http().expecting(&["x-kept", "cookie", "authorization"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().plain("crl.test", &origin)).await;
    let at = origin.at("crl.test");
    let mut wire = sekisho.client().await;
    wire.send(format!(
        "GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nProxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\n\
         Connection: Upgrade, HTTP2-Settings, X-Gone\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Gone: 1\r\nX-Kept: 1\r\n\
         TE: trailers\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nCookie: a=b\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.response("GET").await.status, 200);
    let seen = origin.requests().pop().expect("a request");
    assert_eq!(seen.values("x-kept"), ["1"]);
    for gone in [
        "proxy-authorization",
        "proxy-connection",
        "upgrade",
        "http2-settings",
        "x-gone",
        "te",
        "forwarded",
        "x-forwarded-for",
    ] {
        assert!(seen.values(gone).is_empty(), "{gone}: {}", seen.head);
    }
    assert_eq!(seen.values("via"), ["1.1 sekisho"]);
    sekisho.next_request().await.says("allowed", "");
    let everything = format!("{:?}{}", sekisho.records(), sekisho.stderr());
    assert!(!everything.contains("c2VjcmV0"));
}

#[tokio::test]
async fn e01_e13_ambiguous_plain_requests_never_leave() {
    let origin = Origin::http().start().await;
    let sekisho = Sekisho::start(&Config::new().plain("crl.test", &origin)).await;
    let at = origin.at("crl.test");
    for (row, fields) in super::framing::AMBIGUOUS {
        let mut wire = sekisho.client().await;
        wire.send(format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{fields}\r\n0\r\n\r\nGET http://{at}/smuggled HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
        let answer = wire.maybe_response("POST").await.unwrap_or_else(|| panic!("{row}: no answer"));
        assert_eq!(answer.status, 400, "{row}: {answer:?}");
        wire.closed().await;
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    let count = super::framing::AMBIGUOUS.len() as u64;
    let denied = |action: &'static str, sekisho: &Sekisho| {
        sekisho.records().iter().filter(|record| record.is_terminal() && record.action() == action).count() as u64
    };
    super::support::until("a record of each", || {
        (denied("request", &sekisho) + denied("connection", &sekisho) == count).then_some(())
    })
    .await;
}
