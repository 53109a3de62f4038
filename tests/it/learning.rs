//! Only scenes about learning belong here: what observing lets through and how it ends, what is suggested from the record, and what
//! another configuration would change of it.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::support::client::{Tls, Wire, alert_of, connect_from};
use super::support::pki::Defect;
use super::support::sekisho::{binary, run, text};
use super::support::{Config, Origin, Sekisho, Service, within};

const HOUR: Duration = Duration::from_secs(3600);

/// An address of loopback with a free port 443, which only root may use: a scene for which there is none says so and ends.
fn https_address() -> Option<String> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let (high, low) = ((std::process::id() >> 8) & 0xff, std::process::id() & 0xff);
    let free = |last: u8| {
        let ip = format!("127.{high}.{low}.{last}");
        TcpListener::bind((ip.as_str(), 443)).is_ok().then_some(ip)
    };
    let found = (0..20).find_map(|_| free(NEXT.fetch_add(1, Ordering::Relaxed)));
    if found.is_none() {
        crate::real_clients::stage::skipped("observing", "port 443 of loopback cannot be listened on here");
    }
    found
}

/// An origin for `name` on port 443, and its address.
async fn origin(name: &str) -> Option<(Origin, String)> {
    let ip = https_address()?;
    let origin = Origin::https(&[name]).echoing().listening(&format!("{ip}:443")).start().await;
    Some((origin, ip))
}

fn later(by: Duration) -> String {
    (OffsetDateTime::now_utc() + by).replace_nanosecond(0).expect("a moment").format(&Rfc3339).expect("a moment")
}

fn observing(config: Config, until: &str) -> Config {
    config.set("site", "enforcement", "\"observe\"").set("site", "observe_until", until)
}

/// A tunnel to `name` that has carried one octet there and back.
async fn echoed(sekisho: &Sekisho, name: &str) -> Wire<TlsStream<TcpStream>> {
    let mut inside = Tls::named(name).over(sekisho.tunnel(&format!("{name}:443")).await).await;
    inside.send("x").await;
    assert_eq!(inside.exactly(1).await.expect("an echo"), b"x");
    inside
}

#[tokio::test]
async fn observing_lets_an_unlisted_name_through_as_a_verified_tunnel_and_nothing_else() {
    let Some((unlisted, ip)) = origin("unlisted.test").await else { return };
    let Some(bad_ip) = https_address() else { return };
    let bad = Origin::https(&["bad.test"]).defect(Defect::Expired).listening(&format!("{bad_ip}:443")).start().await;
    let listed = Origin::https(&["listed.test"]).start().await;
    let until = later(HOUR);
    let config = Config::new()
        .clients("[[clients]]\nname = \"office\"\nnetworks = [\"127.0.0.0/24\"]\n")
        .tunnel("listed.test", &listed)
        .host("unlisted.test", &ip)
        .host("bad.test", &bad_ip)
        .host("guarded.test", "10.9.9.9")
        .host("asp.lgwan.jp", &ip);
    let mut sekisho = Sekisho::start(&observing(config, &until)).await;

    // Loud from the first moment on.
    let said = format!(
        "Observing until {until}: names that no [[service]] lists are let through on port 443, as verified tunnels."
    );
    sekisho.lifecycle("observing", 1).await.with("message", &said);
    assert!(sekisho.stderr().contains(&said), "{}", sekisho.stderr());
    let problem = sekisho.lifecycle("config_problem", 1).await;
    assert!(problem.text("message").contains("site.enforcement: found \"observe\""), "{problem:?}");
    let ready = sekisho.admin("/readyz").await;
    let body = format!("observing: names that no service lists are let through until {until}\n");
    assert_eq!((ready.status, ready.text()), (200, body));
    let metrics = sekisho.metrics().await;
    assert_eq!(metrics["sekisho_enforcement{mode=\"observe\"}"], 1.0);
    assert_eq!(metrics["sekisho_enforcement{mode=\"enforce\"}"], 0.0);
    assert!(metrics["sekisho_observe_until_seconds"] > 1.7e9);

    echoed(&sekisho, "unlisted.test").await.bye().await;
    let record = sekisho.next_connection().await;
    record.says("allowed", "").with("sekisho.would_refuse", "not_allowlisted").with("sekisho.mode", "tunnel");
    record.with("rule.id", "builtin/observe").with("rule.name", "Observing: no [[service]] lists the name");
    record.with("sekisho.client", "office").with("sekisho.upstream_verdict", "probed");
    let established = sekisho.records().into_iter().find(|record| record.action() == "established").expect("a line");
    established.with("sekisho.would_refuse", "not_allowlisted");

    // The names must agree, and the certificate be good, as in any tunnel.
    let mut wire = sekisho.tunnel("unlisted.test:443").await;
    wire.send(Tls::named("listed.test").hello()).await;
    assert_eq!(alert_of(&wire.rest().await.0), Some(112));
    let record = sekisho.next_connection().await;
    record.says("denied", "name_mismatch").with("sekisho.would_refuse", "not_allowlisted");
    let record = sekisho.refused("bad.test:443", 502, "certificate_invalid").await;
    record.with("sekisho.certificate_error", "expired").with("sekisho.would_refuse", "not_allowlisted");
    sekisho.refused("guarded.test:443", 403, "address_denied").await.with("sekisho.would_refuse", "not_allowlisted");

    // What has another reason, or is no CONNECT to 443, is refused as always.
    for (authority, reason) in [
        ("unlisted.test:8443", "not_allowlisted"),
        ("unlisted.test:80", "not_allowlisted"),
        ("listed.test:443", "port_not_permitted"),
        ("asp.lgwan.jp:443", "not_allowlisted"),
        ("lgwan.jp:443", "not_allowlisted"),
        ("cloudflare-ech.com:443", "not_allowlisted"),
        (&format!("{ip}:443"), "ip_literal"),
    ] {
        let record = sekisho.refused(authority, 403, reason).await;
        assert!(!record.has("sekisho.would_refuse"), "{record:?}");
    }
    let mut wire = sekisho.client().await;
    wire.send("GET http://unlisted.test/ HTTP/1.1\r\nHost: unlisted.test\r\n\r\n").await;
    assert_eq!(wire.response("GET").await.status, 403);
    sekisho.next_request().await.says("denied", "not_allowlisted");
    let mut wire = connect_from("127.0.1.1", sekisho.addr()).await;
    wire.send("CONNECT unlisted.test:443 HTTP/1.1\r\nHost: unlisted.test:443\r\n\r\n").await;
    assert_eq!(wire.response("CONNECT").await.status, 403);
    sekisho.next_connection().await.says("denied", "client_not_permitted");
    drop(wire);
    assert_eq!(unlisted.snis(), ["unlisted.test", "unlisted.test"], "one for the verdict, one by the client");
    assert_eq!(bad.requests().len(), 0);
    sekisho.conserved().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn a_name_that_is_listed_is_decided_by_its_list_alone_while_observing() {
    let Some((inspected, ip)) = origin("inspected.test").await else { return };
    let config = Config::new()
        .service(
            Service::inspect("inspected", &["inspected.test", "login.microsoftonline.com"], 443)
                .header("Restrict-Access-To-Tenants", "city.test"),
        )
        .host("inspected.test", &ip)
        .host("login.windows.net", &ip);
    let mut sekisho = Sekisho::start(&observing(config, &later(HOUR))).await;
    // A handshake with our own leaf: it is inspected, not tunnelled.
    let tls = Tls::named("inspected.test").trusting(&sekisho.ca());
    let inside = tls.over(sekisho.tunnel("inspected.test:443").await).await;
    drop(inside);
    let record = sekisho.next_connection().await;
    record.with("sekisho.mode", "inspect").with("rule.name", "inspected");
    assert!(!record.has("sekisho.would_refuse"), "{record:?}");
    // G09: a host that the restriction is for, and that is not listed, is no way past it.
    let record = sekisho.refused("login.windows.net:443", 403, "not_allowlisted").await;
    assert!(!record.has("sekisho.would_refuse"), "{record:?}");
    drop(inspected);
    sekisho.finish().await;
}

#[tokio::test]
async fn when_the_moment_has_come_it_enforces_by_itself_and_cuts_what_was_only_observed() {
    let Some((_unlisted, ip)) = origin("unlisted.test").await else { return };
    let Some((_listed, listed_ip)) = origin("listed.test").await else { return };
    let config = Config::new()
        .service(Service::tunnel("listed", &["listed.test"], 443))
        .host("listed.test", &listed_ip)
        .host("unlisted.test", &ip);
    let end = OffsetDateTime::now_utc() + Duration::from_secs(8);
    let until = end.replace_nanosecond(0).expect("a moment").format(&Rfc3339).expect("a moment");
    let mut sekisho = Sekisho::start(&observing(config, &until)).await;
    let mut observed = echoed(&sekisho, "unlisted.test").await;
    let mut permitted = echoed(&sekisho, "listed.test").await;
    within("the end of observing", observed.rest()).await.1.expect_err("cut, not ended in order");
    assert!(OffsetDateTime::now_utc() >= end.replace_nanosecond(0).expect("a moment"), "not before its time");
    let record = sekisho.next_connection().await;
    record.says("allowed", "policy_withdrawn").with("sekisho.would_refuse", "not_allowlisted");
    let said = format!("Enforcing: observing, until {until}, is over. Tunnels that were only observed are cut.");
    sekisho.lifecycle("enforcing", 1).await.with("message", &said);
    // What a rule permits goes on.
    permitted.send("y").await;
    assert_eq!(permitted.exactly(1).await.expect("an echo"), b"y");
    permitted.bye().await;
    sekisho.next_connection().await.says("allowed", "").with("rule.name", "listed");
    let record = sekisho.refused("unlisted.test:443", 403, "not_allowlisted").await;
    assert!(!record.has("sekisho.would_refuse"), "{record:?}");
    assert_eq!(sekisho.admin("/readyz").await.text(), "ok\n");
    let metrics = sekisho.metrics().await;
    assert_eq!(metrics["sekisho_enforcement{mode=\"enforce\"}"], 1.0);
    assert_eq!(metrics["sekisho_observe_until_seconds"], 0.0);
    // The file that had it is no reason to begin anew.
    sekisho.signal(rustix::process::Signal::HUP);
    sekisho.lifecycle("reload", 1).await;
    sekisho.refused("unlisted.test:443", 403, "not_allowlisted").await;
    sekisho.finish().await;
}

#[tokio::test]
async fn a_reload_to_enforce_cuts_what_was_only_observed() {
    let Some((_unlisted, ip)) = origin("unlisted.test").await else { return };
    let Some((_listed, listed_ip)) = origin("listed.test").await else { return };
    let base = Config::new().host("listed.test", &listed_ip).host("unlisted.test", &ip);
    let listed = base.clone().service(Service::tunnel("listed", &["listed.test"], 443));
    let until = later(HOUR);
    let mut sekisho = Sekisho::start(&observing(listed.clone(), &until)).await;
    let mut observed = echoed(&sekisho, "unlisted.test").await;
    let mut permitted = echoed(&sekisho, "listed.test").await;
    // Its rule is gone: it does not go on as observed, as its record says nothing of that. The other one goes on.
    sekisho.reload(&observing(base, &until)).await;
    within("the cut", permitted.rest()).await.1.expect_err("cut");
    let record = sekisho.next_connection().await;
    record.says("allowed", "policy_withdrawn").with("rule.name", "listed");
    assert!(!record.has("sekisho.would_refuse"), "{record:?}");
    observed.send("y").await;
    assert_eq!(observed.exactly(1).await.expect("an echo"), b"y");
    sekisho.reload(&listed).await;
    within("the cut", observed.rest()).await.1.expect_err("cut");
    let record = sekisho.next_connection().await;
    record.says("allowed", "policy_withdrawn").with("sekisho.would_refuse", "not_allowlisted");
    sekisho.lifecycle("enforcing", 1).await;
    sekisho.refused("unlisted.test:443", 403, "not_allowlisted").await;
    sekisho.finish().await;
}

#[tokio::test]
async fn check_and_explain_say_that_it_is_only_observed() {
    let until = later(HOUR);
    let (dir, ..) = super::support::sekisho::prepare(&observing(Config::new(), &until));
    let checked = run(dir.path(), &["check", "--config", "sekisho.toml"]);
    assert_eq!(checked.status.code(), Some(0));
    let warning = format!(
        "warning: site.enforcement: found \"observe\": until {until} clients reach names that no [[service]] lists, on port 443, \
         expected \"enforce\", as soon as it is known what is used\n"
    );
    assert!(text(&checked.stderr).contains(&warning), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains(&format!("OBSERVING  until {until}: ")), "{}", text(&checked.stdout));
    let explain = |arguments: &[&str]| {
        let out = run(dir.path(), &[&["explain", "--client", "127.0.0.1"], arguments].concat());
        (out.status.code(), text(&out.stdout))
    };
    let (code, said) = explain(&["unlisted.test"]);
    assert_eq!(code, Some(0));
    let loud = format!(
        "decision      tunnel\nOBSERVING     only because of enforcement = \"observe\"; from {until} on: deny (not_allowlisted)\n"
    );
    assert!(said.starts_with(&loud), "{said}");
    let (code, said) = explain(&["--json", "unlisted.test"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (code, &said["decision"], &said["would_refuse"]),
        (Some(0), &"tunnel".into(), &"not_allowlisted".into())
    );
    assert_eq!(said["observe_until"], until.as_str());
    let (code, said) = explain(&["--json", "unlisted.test:8443"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &said["reason"], said.get("would_refuse")), (Some(3), &"not_allowlisted".into(), None));
    // The hello would have to agree, as ever.
    assert_eq!(explain(&["--sni", "other.test", "unlisted.test"]).0, Some(3));
}

/// The walk of an administrator: observe, suggest, check, replay, enforce.
#[tokio::test]
async fn what_was_observed_is_suggested_checked_replayed_and_enforced() {
    let Some((_unlisted, ip)) = origin("www.unlisted.test").await else { return };
    let listed = Origin::https(&["listed.test"]).start().await;
    let config =
        Config::new().tunnel("listed.test", &listed).host("www.unlisted.test", &ip).hosts(&["login.windows.net"]);
    let mut sekisho = Sekisho::start(&observing(config.clone(), &later(HOUR))).await;
    for _ in 0..2 {
        echoed(&sekisho, "www.unlisted.test").await.bye().await;
        sekisho.next_connection().await;
    }
    Tls::named("listed.test").over(sekisho.tunnel(&listed.at("listed.test")).await).await.bye().await;
    sekisho.next_connection().await;
    sekisho.refused("only.refused.test:8443", 403, "not_allowlisted").await;
    sekisho.refused("a.lgwan.jp:443", 403, "not_allowlisted").await;
    // No origin is there: it fails, and shows nothing to be permitted.
    sekisho.refused("login.windows.net:443", 502, "connect_failed").await;

    let suggested = run(sekisho.dir.path(), &["suggest", "access.jsonl"]);
    assert_eq!(suggested.status.code(), Some(0), "{}", text(&suggested.stderr));
    let proposed = text(&suggested.stdout);
    let today = OffsetDateTime::now_utc().date();
    let (heading, blocks) = proposed.split_once("\n\n").expect("blocks");
    let first = format!("# `sekisho suggest`, beside \"sekisho.toml\": 6 lines of attempts, {today} to {today}.\n");
    assert!(heading.starts_with(&first), "{heading}");
    assert_eq!(
        blocks,
        "# 2 observed, on 1 day, by \"office\" (2)\n[[service]]\nname = \"unlisted.test\"\nhosts = [\n    \
         \"www.unlisted.test\",  # 2 observed\n]\n\n\
         # Left out: 1 attempt that observing let through and that failed: no address, a bad certificate, a client that left.\n\
         # Left out: 1 attempt for names that no service may list: LGWAN-ASP, a public suffix, a single label.\n\
         # Left out: 1 attempt on other ports than 443, and 80 in plain HTTP, such as only.refused.test:8443.\n"
    );

    // Behind the configuration that enforces, it is one that holds.
    let enforced = config.clone().tail(&proposed).render(&sekisho.listeners, sekisho.admin);
    fs::write(sekisho.path("new.toml"), &enforced).expect("new.toml");
    let checked = run(sekisho.dir.path(), &["check", "--config", "new.toml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));

    let line = enforced.lines().position(|line| line.contains("\"www.unlisted.test\",")).expect("the host") + 1;
    let replayed = run(sekisho.dir.path(), &["replay", "--config", "new.toml", "access.jsonl"]);
    assert_eq!(replayed.status.code(), Some(3));
    let said = text(&replayed.stdout);
    let changes: Vec<&str> = said.lines().filter(|line| line.contains("->")).collect();
    assert_eq!(
        changes,
        [
            "       2  office: CONNECT www.unlisted.test:443: tunnel (observed) -> tunnel",
            "       1  office: CONNECT login.windows.net:443: tunnel (observed) -> deny (not_allowlisted)",
        ]
    );
    assert!(
        said.contains(&format!("          by service/2 unlisted.test at new.toml:{line}, first {today}T")),
        "{said}"
    );
    let sums = "6 attempts: 3 unchanged, 3 changed (2 different), 0 on which nothing had been decided, 0 of unknown clients or names.\n";
    assert!(said.ends_with(&format!("\n\n{sums}")), "{said}");

    // In force, it decides as was said: what was observed is permitted, and nothing else is.
    sekisho.reload(&config.tail(&proposed)).await;
    echoed(&sekisho, "www.unlisted.test").await.bye().await;
    let record = sekisho.next_connection().await;
    record.says("allowed", "").with("rule.name", "unlisted.test");
    assert!(!record.has("sekisho.would_refuse"), "{record:?}");
    sekisho.refused("login.windows.net:443", 403, "not_allowlisted").await;
    let nothing = run(sekisho.dir.path(), &["suggest", "access.jsonl", "--config", "sekisho.toml"]);
    assert!(
        text(&nothing.stdout).contains("# Left out: 2 attempts that this configuration decides otherwise.\n"),
        "{}",
        text(&nothing.stdout)
    );
    sekisho.finish().await;
}

/// A line of a record with these fields behind the ones that every line has.
fn line(fields: &serde_json::Value) -> String {
    let mut line = serde_json::json!({"event.sequence": 1, "@timestamp": "2026-11-28T01:02:03.004Z", "event.action": "connection",
        "event.outcome": "denied", "event.reason": "not_allowlisted", "rule.id": "builtin/not-allowlisted",
        "source.ip": "10.20.0.7", "sekisho.client": "office"});
    for (key, value) in fields.as_object().expect("an object") {
        line[key] = value.clone();
    }
    format!("{line}\n")
}

fn asked_for(name: &str, port: u16) -> String {
    line(
        &serde_json::json!({"url.domain": name, "destination.port": port, "sekisho.authority": format!("{name}:{port}")}),
    )
}

const OFFICE: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\nnetworks = [\"10.20.0.0/16\"]\n\
                      [[service]]\nname = \"first\"\nhosts = [\"first.example.com\"]\n";

/// A directory with a configuration and a record.
fn site(config: &str, record: &str) -> tempfile::TempDir {
    let dir = tempfile::TempDir::new().expect("a directory");
    fs::write(dir.path().join("sekisho.toml"), config).expect("sekisho.toml");
    fs::write(dir.path().join("access.jsonl"), record).expect("access.jsonl");
    dir
}

/// Everything suggested, appended to the configuration and checked.
fn checked(dir: &tempfile::TempDir) -> String {
    let suggested = run(dir.path(), &["suggest", "access.jsonl"]);
    assert_eq!(suggested.status.code(), Some(0), "{}", text(&suggested.stderr));
    let proposed = text(&suggested.stdout);
    let config = fs::read_to_string(dir.path().join("sekisho.toml")).expect("sekisho.toml");
    fs::write(dir.path().join("new.toml"), config + &proposed).expect("new.toml");
    let checked = run(dir.path(), &["check", "--config", "new.toml"]);
    assert_eq!(checked.status.code(), Some(0), "{}\n{proposed}", text(&checked.stderr));
    proposed
}

#[tokio::test]
async fn k01_a_hostile_record_puts_nothing_into_the_configuration() {
    let evil = "evil\"]\n[[service]]\nname = \"pwned\"\nhosts = [\"*\"]\nallow_broad = true\n#";
    let mut record = asked_for("good.example.com", 443);
    for name in [
        evil,
        "*.example.com",
        "*",
        "{tenant}.sharepoint.com",
        "a\u{2028}b.example.com",
        "10.0.0.1",
        "",
        "市.example.com",
        "a.b\\n.c",
    ] {
        record += &asked_for(name, 443);
        record += &line(&serde_json::json!({"sekisho.count": 9, "sekisho.authorities": [name, format!("{name}:443")]}));
    }
    // What the record says of groups and times stands in comments, on one line.
    record += &line(
        &serde_json::json!({"url.domain": "b.example.com", "destination.port": 443, "sekisho.client": evil, "@timestamp": evil}),
    );
    record += "{\"event.sequence\": 1, \"event.action\": \"conn";
    let dir = site(OFFICE, &record);
    let proposed = checked(&dir);
    let code: Vec<&str> = proposed.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(
        code,
        [
            "[[service]]",
            "name = \"example.com\"",
            "hosts = [",
            "    \"b.example.com\",  # 1 refused",
            "    \"good.example.com\",  # 1 refused",
            "]",
        ]
    );
    assert!(
        proposed.contains("; 1 line is none of a record's (torn, cut or foreign) and was passed over.\n"),
        "{proposed}"
    );
    // Replay shows names that are names, and no time that is none.
    let replayed = run(dir.path(), &["replay", "--config", "new.toml", "access.jsonl"]);
    assert_eq!(replayed.status.code(), Some(3));
    let said = text(&replayed.stdout);
    assert!(!said.contains("evil") && said.contains("b.example.com:443"), "{said}");
}

/// Whatever of the catalogue is asked for, and on whichever of its ports: the blocks fit beside each other.
#[tokio::test]
async fn everything_in_the_catalogue_at_once_is_suggested_without_a_conflict() {
    let catalogue = run(std::path::Path::new("."), &["catalog", "list"]);
    let entries: std::collections::BTreeSet<String> =
        text(&catalogue.stdout).lines().filter_map(|line| Some(line.split_once('/')?.0.to_owned())).collect();
    assert!(entries.len() >= 20, "{entries:?}");
    let mut record = String::new();
    for entry in entries {
        let shown = text(&run(std::path::Path::new("."), &["catalog", "show", &entry]).stdout);
        let of_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*{}".contains(c);
        let is_host = |word: &&str| word.chars().all(of_host) && word.contains('.') && !word.ends_with('.');
        let patterns = shown.split_whitespace().filter(is_host);
        for name in patterns.map(|pattern| pattern.replace("{tenant}", "city").replace('*', "x")) {
            record += &asked_for(&name, 443);
            let plain = serde_json::json!({"url.domain": name, "destination.port": 80, "event.action": "request", "http.request.method": "GET"});
            record += &line(&plain);
        }
    }
    assert!(record.lines().count() > 400, "{}", record.lines().count());
    let dir = site(OFFICE, &record);
    let proposed = checked(&dir);
    let (parts, blocks) = (proposed.matches("\ncatalog = ").count(), proposed.matches("[[service]]").count());
    assert!(parts > 20 && blocks > parts, "{parts} parts of {blocks}");
    assert!(!proposed.contains('*'), "no wildcard is made here");
    // And then everything is permitted, as it was asked for.
    let replayed = run(dir.path(), &["replay", "--config", "new.toml", "--json", "access.jsonl"]);
    let rows: Vec<serde_json::Value> =
        text(&replayed.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let (sums, changes) = rows.split_last().expect("sums");
    let left: Vec<_> = changes
        .iter()
        .filter(|row| !["tunnel", "plain_http"].contains(&row["to"].as_str().expect("a verdict")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let left_out = proposed.lines().filter(|line| line.starts_with("# Left out: ")).collect::<Vec<_>>();
    assert_eq!((sums["unchanged"].as_u64(), sums["unknown"].as_u64()), (Some(0), Some(0)), "{left_out:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_nothing_hangs() {
    let dir = site(OFFICE, &asked_for("first.example.com", 443));
    let path = |name: &str| dir.path().join(name);
    fs::write(path("gone.gz"), [0x1f, 0x8b, 8, 0]).expect("gone.gz");
    fs::write(path("syslog"), "Nov 28 squid[1]: TCP_DENIED\n\n").expect("syslog");
    fs::write(path("empty.jsonl"), "").expect("empty.jsonl");
    let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status().expect("mkfifo");
    assert!(fifo.success());
    for (name, expected) in [
        ("missing.jsonl", "sekisho: missing.jsonl: No such file or directory (os error 2)\n"),
        ("fifo", "sekisho: fifo: it is no ordinary file; - reads standard input\n"),
        (".", "sekisho: .: it is no ordinary file; - reads standard input\n"),
        ("gone.gz", "sekisho: gone.gz: it is compressed: zcat FILE | sekisho … -\n"),
        ("syslog", "sekisho: none of the 1 lines is one of a record of sekisho\n"),
    ] {
        for command in ["suggest", "replay"] {
            let out = run(dir.path(), &[command, "--config", "sekisho.toml", name]);
            assert_eq!((out.status.code(), text(&out.stderr)), (Some(1), expected.to_owned()), "{command} {name}");
        }
    }
    let piped = std::process::Command::new("sh")
        .args(["-c", "gzip -c access.jsonl | gzip -dc | \"$0\" replay -"])
        .arg(binary())
        .current_dir(dir.path())
        .output()
        .expect("sh");
    assert!(text(&piped.stdout).contains("1 attempts: 0 unchanged, 1 changed"), "{}", text(&piped.stderr));
    let nothing = run(dir.path(), &["suggest", "empty.jsonl"]);
    let said = "# `sekisho suggest`, beside \"sekisho.toml\": 0 lines of attempts.\n# Nothing is proposed: nothing was let through by \
                observing, or refused as not_allowlisted, that could be listed.\n";
    assert_eq!((nothing.status.code(), text(&nothing.stdout)), (Some(0), said.to_owned()));
    // Without a configuration at hand, the heading says so.
    fs::rename(path("sekisho.toml"), path("other.toml")).expect("rename");
    let alone = text(&run(dir.path(), &["suggest", "access.jsonl", "empty.jsonl"]).stdout);
    let said = "# `sekisho suggest`, without a configuration: what yours decides already is not left out: 1 line of attempts, \
                2026-11-28 to 2026-11-28.\n";
    assert!(alone.starts_with(said), "{alone}");
    let lost = run(dir.path(), &["replay", "access.jsonl"]);
    assert_eq!(lost.status.code(), Some(1));
    assert!(text(&lost.stderr).starts_with("sekisho.toml: error: found no readable file"), "{}", text(&lost.stderr));
}

#[tokio::test]
async fn replay_says_what_would_change_in_words_and_in_json_and_by_its_exit_code() {
    let record = asked_for("first.example.com", 443) + &asked_for("second.example.com", 443) + "torn\n";
    let dir = site(OFFICE, &record);
    let said = "       1  office: CONNECT first.example.com:443: deny (not_allowlisted) -> tunnel\n          by service/1 first at \
                sekisho.toml:8, first 2026-11-28T01:02:03.004Z\n\n2 attempts: 1 unchanged, 1 changed (1 different), 0 on which \
                nothing had been decided, 0 of unknown clients or names; 1 line is none of a record's (torn, cut or foreign) and was \
                passed over.\n";
    let words = run(dir.path(), &["replay", "access.jsonl"]);
    assert_eq!((words.status.code(), text(&words.stdout)), (Some(3), said.to_owned()));
    let json = run(dir.path(), &["replay", "--json", "access.jsonl"]);
    let rows: Vec<serde_json::Value> =
        text(&json.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let change = serde_json::json!({"count": 1, "group": "office", "method": "CONNECT", "authority": "first.example.com:443",
        "from": "deny (not_allowlisted)", "to": "tunnel", "rule": {"id": "service/1", "name": "first", "place": "sekisho.toml:8"},
        "at": "2026-11-28T01:02:03.004Z", "client": "10.20.0.7"});
    let sums = serde_json::json!({"attempts": 2, "unchanged": 1, "changed": 1, "undecided": 0, "unknown": 0, "untold": 0, "foreign_lines": 1});
    assert_eq!((json.status.code(), rows), (Some(3), vec![change, sums]));
    fs::write(dir.path().join("access.jsonl"), asked_for("second.example.com", 443)).expect("access.jsonl");
    let same = run(dir.path(), &["replay", "access.jsonl"]);
    let said = "1 attempts: 1 unchanged, 0 changed (0 different), 0 on which nothing had been decided, 0 of unknown clients or names.\n";
    assert_eq!((same.status.code(), text(&same.stdout)), (Some(0), said.to_owned()));
}
