//! Only scenes about the tenant proof belong here: what the command prints, and what the service does with it. That it finds what it is
//! there to find is shown beside it (`src/proof/tests.rs`), at proxies that are wrong on purpose.

use super::support::sekisho::{prepare, run, text};
use super::support::{Config, Origin, Sekisho, Service, within};

const TENANT: &str = "profile = \"microsoft-v1\"\nallowed = [\"city.example.lg.jp\"]\n\
                      context = \"11111111-2222-3333-4444-555555555555\"";

fn config() -> Config {
    let sign_in = Service::inspect("Sign-in", &["login.microsoftonline.com", "login.windows.net"], 443).tenant(TENANT);
    let own = Service::inspect("Own", &["*.own.test"], 8443).header("X-Allowed-Org", "secret-of-the-city");
    Config::new()
        .service(sign_in)
        .service(own)
        .service(Service::inspect("Seen", &["seen.test"], 443))
        .service(Service::tunnel("Closed", &["closed.test"], 443))
}

#[test]
fn g01_g06_g11_the_command_proves_every_inspected_host_by_both_protocols() {
    let (dir, ..) = prepare(&config());
    let out = run(dir.path(), &["prove"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said}{}", text(&out.stderr));
    let rows: Vec<&str> =
        said.lines().skip_while(|line| !line.starts_with("service")).take_while(|line| !line.is_empty()).collect();
    let fields = "Restrict-Access-To-Tenants, Restrict-Access-Context: once, as configured";
    let mut expected = vec!["service  host                         protocol  result".to_owned()];
    for (service, host, result) in [
        ("Sign-in", "login.microsoftonline.com", fields),
        ("Sign-in", "login.windows.net", fields),
        ("Own", "sekisho-proof.own.test:8443", "X-Allowed-Org: once, as configured"),
        ("Seen", "seen.test", "no field is due, and none arrived"),
    ] {
        for protocol in ["HTTP/1.1", "HTTP/2"] {
            expected.push(format!("{service:7}  {host:27}  {protocol:8}  {result}"));
        }
    }
    assert_eq!(rows, expected);
    let result = "Result: holds: every field arrived as it is due (hosts: 3, connections: 8).";
    assert!(said.lines().any(|line| line == result), "{said}");
    assert!(!said.contains("secret-of-the-city") && !said.contains("city.example.lg.jp"), "{said}");
    assert!(!dir.path().join("access.jsonl").exists(), "the command wrote a record");
    let out = run(dir.path(), &["prove", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!((&json["result"], json["rows"].as_array().map(Vec::len)), (&"holds".into(), Some(8)), "{json}");
}

#[test]
fn where_nothing_is_inspected_nothing_is_proven() {
    let (dir, ..) = prepare(&Config::new().service(Service::tunnel("Closed", &["closed.test"], 443)));
    let out = run(dir.path(), &["prove"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("Result: nothing to prove: no service inspects: there is nothing to prove."), "{said}");
}

#[tokio::test]
async fn the_service_proves_at_its_start_and_after_a_reload_and_makes_no_attempts() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&config().tunnel("allowed.test", &origin)).await;
    let held =
        |metrics: &std::collections::BTreeMap<String, f64>| metrics["sekisho_tenant_proofs_total{result=\"held\"}"];
    let line = sekisho.lifecycle("tenant_proof_holds", 1).await;
    line.with("message", "The tenant proof holds: every field arrived as it is due (hosts: 3, connections: 8).");
    within("the first proof in the metrics", async { while held(&sekisho.metrics().await) < 1.0 {} }).await;
    let metrics = sekisho.metrics().await;
    for (name, value) in [
        ("sekisho_tenant_proof", 1.0),
        ("sekisho_tenant_proof_hosts", 3.0),
        ("sekisho_tenant_proofs_total{result=\"failed\"}", 0.0),
        ("sekisho_attempts_total{action=\"connection\"}", 0.0),
        ("sekisho_attempts_total{action=\"request\"}", 0.0),
    ] {
        assert!((metrics[name] - value).abs() < 0.5, "{name}: {}", metrics[name]);
    }
    assert!(metrics["sekisho_tenant_proof_held_timestamp_seconds"] > 1.7e9);
    assert_eq!(sekisho.admin("/readyz").await.text(), "ok\n");
    sekisho.reload(&Config::new().tunnel("allowed.test", &origin)).await;
    // Nothing is inspected now: no number would be right.
    let gone = async { while sekisho.metrics().await.contains_key("sekisho_tenant_proof") {} };
    within("a proof of nothing", gone).await;
    sekisho.reload(&config().tunnel("allowed.test", &origin)).await;
    within("a proof after the reload", async { while held(&sekisho.metrics().await) < 2.0 {} }).await;
    assert_eq!(sekisho.records().iter().filter(|record| record.is_terminal()).count(), 0);
}
