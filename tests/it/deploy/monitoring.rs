//! Only the alert rules and the dashboard belong here: what they name is there, and their own program takes them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{good, run, shipped};
use crate::real_clients::stage::have;
use crate::support::{Config, Origin, Sekisho, Service, pki, within};

const RULES: &str = "prometheus/sekisho.rules.yml";
const RULES_TEST: &str = "prometheus/sekisho.rules.test.yml";
const DASHBOARD: &str = "grafana/sekisho.json";

fn text_of(name: &str) -> String {
    fs::read_to_string(shipped(name)).expect(name)
}

fn dashboard() -> Value {
    serde_json::from_str(&text_of(DASHBOARD)).expect("JSON")
}

/// Every `sekisho_…` in it.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("sekisho_")).map(str::to_owned).collect()
}

/// The panels, those of rows included, and what each asks.
fn panels(dashboard: &Value) -> Vec<(&Value, Vec<&str>)> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let asks = panels.map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        (panel, targets.map(|target| target["expr"].as_str().expect("an expression")).collect())
    });
    asks.collect()
}

/// A service of which no part is left out: every metric there is, is there.
#[tokio::test]
async fn every_metric_that_is_named_exists() {
    let origin = Origin::https(&["inspected.test"]).start().await;
    let registered = "state = \"registered\"\nnumber = \"C26-0001-2\"\nvalid_until = 2027-03-31\n\
                      confirmed_by = \"IT\"\nconfirmed_on = 2026-11-01";
    let inspected = Service::inspect("Inspected", &["inspected.test"], origin.port()).header("X-Allowed-Org", "city");
    let config = Config::new().service(inspected.ismap(registered)).hosts(&["inspected.test"]);
    let config = config.set("upstream", "crls", "[\"*.crl\"]");
    let sekisho = Sekisho::start_with(&config, |dir| {
        fs::write(dir.join("one.crl"), pki::crl_pem(time::Duration::days(5))).expect("written");
    })
    .await;
    sekisho.connect("denied.test:443").await;
    sekisho.terminals("connection", 1).await;
    // The first proof is made behind the start.
    within("a proof", async { while !sekisho.metrics().await.contains_key("sekisho_tenant_proof") {} }).await;
    let there = metrics_in(&sekisho.metrics().await.into_keys().map(|sample| sample + " ").collect::<String>());
    assert!(there.len() > 40, "{there:?}");
    for (file, least) in [(RULES, 15), (RULES_TEST, 15), (DASHBOARD, 25)] {
        let named = metrics_in(&text_of(file));
        assert!(named.len() > least, "{file}: {named:?}");
        let missing: Vec<&String> = named.difference(&there).collect();
        assert!(missing.is_empty(), "{file} names metrics that do not exist: {missing:?}");
    }
    // And the reasons, by the manual's table.
    let manual = fs::read_to_string(shipped("../src/manual/operations.rs")).expect("the manual");
    for file in [RULES, DASHBOARD] {
        let text = text_of(file).replace('\\', "");
        for named in text.split("reason=").skip(1) {
            let words = named.trim_start_matches('~').trim_start_matches('"').split('"').next().expect("a word");
            assert!(words.split('|').all(|word| manual.contains(&format!("//! | `{word}` | "))), "{file}: {words}");
        }
    }
}

#[test]
fn every_alert_says_what_to_do_and_fires_in_the_test() {
    let (rules, test) = (text_of(RULES), text_of(RULES_TEST));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 15, "{}", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().expect("a name");
        for key in ["expr: ", "severity: ", "summary: ", "summary_ja: ", "action: "] {
            assert_eq!(alert.matches(&format!(" {key}")).count(), 1, "{name}: {key}");
        }
        assert!(test.contains(&format!("alertname=\"{name}\"")), "{name} does not fire in {RULES_TEST}");
    }
}

#[test]
fn prometheus_takes_the_rules_and_what_the_dashboard_asks() {
    if !have("alert rules", &["promtool"]) {
        return;
    }
    let said = good(&run(Command::new("promtool").args(["check", "rules"]).arg(shipped(RULES))));
    assert!(said.contains("SUCCESS"), "{said}");
    let said = good(&run(Command::new("promtool").args(["test", "rules"]).arg(shipped(RULES_TEST))));
    assert!(said.contains("SUCCESS"), "{said}");
    // Each expression as a rule of its own, with Grafana's variables filled in.
    let dashboard = dashboard();
    let mut file = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, expression) in panels(&dashboard).into_iter().flat_map(|(_, asks)| asks).enumerate() {
        let filled = expression.replace("$__rate_interval", "5m").replace("$instance", ".+");
        assert!(!filled.contains('$'), "{expression}");
        file += &format!("  - record: expression:{number}\n    expr: {}\n", Value::from(filled));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dashboard.yml");
    fs::write(&path, file).expect("written");
    good(&run(Command::new("promtool").args(["check", "rules"]).arg(&path)));
}

#[test]
fn the_dashboard_has_a_place_and_a_source_for_every_panel() {
    let dashboard = dashboard();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for (panel, asks) in panels(&dashboard) {
        let title = panel["title"].as_str().expect("a title");
        let id = panel["id"].as_u64().expect("an id");
        assert!(ids.insert(id), "{title}: its id stands twice");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
        assert!(x + w <= 24 && w > 0 && h > 0, "{title}: it does not fit");
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row))) {
            assert!(cells.insert(cell), "{title}: it lies over another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(["stat", "timeseries", "table"].contains(&panel["type"].as_str().expect("a type")), "{title}");
        assert!(!asks.is_empty(), "{title} asks nothing");
        assert_eq!(panel["datasource"]["uid"], "${source}", "{title}");
        assert!(asks.iter().all(|expression| expression.contains("$instance")), "{title}: of all instances");
    }
    let variables: Vec<&Value> = dashboard["templating"]["list"].as_array().expect("variables").iter().collect();
    let names: Vec<&str> = variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["source", "instance"]);
}
