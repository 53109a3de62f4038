//! Only scenes about registrations of services and their dates belong here: what a day brings to a running service, and what the
//! commands say of it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::support::client::Tls;
use super::support::sekisho::{run, text};
use super::support::{Config, Origin, Sekisho, Service, clock, until, within};

const DAY: u64 = 86_400;
/// Of Japan.
const ZONE: u64 = 9 * 3600;

/// How many seconds the clock is put forward so that it does not become midnight in Japan while the scene is on, and the days since
/// 1970 there at that moment. A leaf made then holds by the client's clock too.
fn morning() -> (u64, u64) {
    const SCENE: u64 = 600;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + ZONE;
    let ahead = if now % DAY > DAY - SCENE { SCENE } else { 0 };
    (ahead, (now + ahead) / DAY)
}

/// As TOML writes it (days to civil, H. Hinnant's algorithm), by no code of the proxy's.
fn day(days: u64) -> String {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    format!("{:04}-{m:02}-{d:02}", yoe + era * 400 + u64::from(m <= 2))
}

fn registered(until: &str, confirmed: &str, more: &str) -> String {
    format!(
        "state = \"registered\"\nnumber = \"C00-0000-0\"\nvalid_until = {until}\nconfirmed_by = \"IT\"\n\
         confirmed_on = {confirmed}\n{more}"
    )
}

#[tokio::test]
async fn a_date_asks_for_a_decision_and_after_its_grace_ends_the_service_that_was_to_end() {
    let Some(library) = clock::libfaketime() else {
        crate::real_clients::stage::skipped("a date that comes", "libfaketime is not installed; tests/run installs it");
        return;
    };
    let (ahead, today) = morning();
    let (until_day, confirmed) = (day(today), day(today - 1));
    let origin = Origin::https(&["denied.test", "warned.test", "exempt.test", "inspected.test"]).start().await;
    let config = |until: &str| {
        let denied = registered(until, &confirmed, "grace = \"1d\"\nafter_grace = \"deny\"");
        let warned = registered(until, &confirmed, "grace = \"1d\"\nafter_grace = \"warn\"");
        let exempt =
            format!("state = \"exempt\"\nscope = \"a test\"\nconfirmed_by = \"IT\"\nconfirmed_on = {confirmed}");
        let tunnel = |host: &str| Service::tunnel(host, &[host], origin.port());
        Config::new()
            .set("site", "require_ismap", "\"enforce\"")
            .hosts(&["denied.test", "warned.test", "exempt.test", "inspected.test"])
            .service(tunnel("denied.test").ismap(&denied))
            .service(tunnel("warned.test").ismap(&warned))
            .service(tunnel("exempt.test").ismap(&exempt))
            .service(Service::inspect("inspected.test", &["inspected.test"], origin.port()).ismap(&denied))
    };
    let shown = |days: u64| format!("+{}", ahead + days * DAY);
    let mut sekisho = clock::start(&config(&until_day), &library, &shown(0)).await;
    let problems = |sekisho: &Sekisho, with: &str| {
        let records = sekisho.records();
        let said = records.iter().filter(|record| record.text("sekisho.lifecycle") == "config_problem");
        said.filter(|record| record.text("message").contains(with)).count()
    };
    let ending = format!("ismap.valid_until: found {until_day}, the last day is today");
    until("what is told at the start", || (problems(&sekisho, &ending) == 3).then_some(())).await;
    let (denied, warned, exempt) = (origin.at("denied.test"), origin.at("warned.test"), origin.at("exempt.test"));
    let mut open = Tls::named("denied.test").over(sekisho.tunnel(&denied).await).await;
    assert_eq!(open.get(&denied, "/").await.expect("an answer").status, 200);
    let inspected = origin.at("inspected.test");
    let trusting = Tls::named("inspected.test").trusting(&sekisho.ca());
    let mut kept = trusting.over(sekisho.tunnel(&inspected).await).await;
    assert_eq!(kept.get(&inspected, "/").await.expect("an answer").status, 200);

    // The grace: it is told, and nothing is cut.
    clock::set(&sekisho, &shown(1));
    until("the day after", || (problems(&sekisho, "1 day ago") == 3).then_some(())).await;
    for authority in [&denied, &warned, &exempt, &inspected] {
        assert_eq!(sekisho.connect(authority).await.1.status, 200, "{authority}");
    }
    assert_eq!(open.get(&denied, "/").await.expect("an answer").status, 200);
    assert_eq!(sekisho.metrics().await["sekisho_ismap_refused{rule=\"service/1\"}"], 0.0);

    // Its end: the one is refused, in new flows and in what is open; the other goes on.
    clock::set(&sekisho, &shown(2));
    let over = "2 days ago: the service is refused (after_grace = \"deny\")";
    until("the end of the grace", || (problems(&sekisho, over) == 2).then_some(())).await;
    within("the tunnel is cut", open.closed()).await;
    kept.get(&inspected, "/").await.expect("an answer").page(403, "service_not_approved");
    for authority in [&denied, &inspected] {
        let (_, answer) = sekisho.connect(authority).await;
        assert_eq!(answer.status, 403, "{authority}");
        answer.details("service_not_approved");
    }
    for authority in [&warned, &exempt] {
        assert_eq!(sekisho.connect(authority).await.1.status, 200, "{authority}");
    }
    let metrics = sekisho.metrics().await;
    assert_eq!(metrics["sekisho_ismap_refused{rule=\"service/1\"}"], 1.0);
    assert_eq!(metrics["sekisho_ismap_refused{rule=\"service/2\"}"], 0.0);
    assert_eq!(metrics["sekisho_ismap_state{rule=\"service/1\",state=\"registered\"}"], 1.0);
    assert_eq!(metrics["sekisho_ismap_state{rule=\"service/3\",state=\"exempt\"}"], 1.0);
    let end = (today + 1) * DAY - ZONE;
    assert_eq!(metrics["sekisho_ismap_valid_until_timestamp_seconds{rule=\"service/1\"}"], end as f64);
    let cut = |record: &super::support::record::Record| record.reason() == "policy_withdrawn";
    until("the record of the tunnel", || sekisho.records().iter().any(cut).then_some(())).await;
    let refused = |record: &super::support::record::Record| record.reason() == "service_not_approved";
    let refusal = until("the record of a refusal", || sekisho.records().into_iter().find(refused)).await;
    let refusal = refusal.text("sekisho.config_revision").to_owned();
    let records = sekisho.records();
    let said = records.iter().filter(|record| record.text("message").contains(over));
    assert!(said.clone().count() == 2 && said.clone().all(|record| record.text("sekisho.config_revision") == refusal));
    assert_ne!(refusal, sekisho.lifecycle("start", 1).await.text("sekisho.config_revision"));
    assert_eq!(["1 day ago", "2 days ago"].map(|ago| problems(&sekisho, ago)), [3, 3], "each once");

    // Neither a reload of the same file nor a new start brings it back; a decision does.
    sekisho.reload(&config(&until_day)).await;
    assert_eq!(sekisho.connect(&denied).await.1.status, 403);
    assert_eq!(sekisho.lifecycle("reload", 1).await.text("sekisho.config_revision"), refusal);
    sekisho.kill().await;
    sekisho.start_again().await;
    assert_eq!(sekisho.connect(&denied).await.1.status, 403);
    assert_eq!(sekisho.connect(&warned).await.1.status, 200);
    sekisho.reload(&config(&day(today + 300))).await;
    for authority in [&denied, &warned, &exempt, &inspected] {
        assert_eq!(sekisho.connect(authority).await.1.status, 200, "{authority}");
    }
}

/// Of dates that are long past on whatever day this runs.
/// O01: a clock that had run ahead and was put right, with a reload behind it: the last day still comes.
#[tokio::test]
async fn o01_a_day_that_a_wrong_clock_had_shown_is_noticed_when_it_comes() {
    let Some(library) = clock::libfaketime() else {
        crate::real_clients::stage::skipped("a date that comes", "libfaketime is not installed; tests/run installs it");
        return;
    };
    let (ahead, today) = morning();
    let denied = registered(&day(today), &day(today - 1), "grace = \"1d\"\nafter_grace = \"deny\"");
    let origin = Origin::https(&["denied.test"]).start().await;
    let config = Config::new()
        .set("site", "require_ismap", "\"enforce\"")
        .hosts(&["denied.test"])
        .service(Service::tunnel("denied.test", &["denied.test"], origin.port()).ismap(&denied));
    let shown = |days: u64| format!("+{}", ahead + days * DAY);
    let sekisho = clock::start(&config, &library, &shown(200)).await;
    let at = origin.at("denied.test");
    assert_eq!(sekisho.connect(&at).await.1.status, 403, "the wrong clock's day");
    clock::set(&sekisho, &shown(0));
    sekisho.reload(&config).await;
    assert_ne!(sekisho.connect(&at).await.1.status, 403, "the right clock's day");
    clock::set(&sekisho, &shown(2));
    until_refused(&sekisho, &at).await;
}

async fn until_refused(sekisho: &Sekisho, at: &str) {
    within("the day is noticed", async {
        while sekisho.connect(at).await.1.status != 403 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[test]
fn the_commands_say_where_a_registration_stands() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let service = |name: &str, host: &str, lines: &str| {
        format!("[[service]]\nname = \"{name}\"\nhosts = [\"{host}\"]\n[service.ismap]\n{lines}\n")
    };
    let config = format!(
        "[site]\nrequire_ismap = \"enforce\"\n[[listener]]\naddress = \"127.0.0.1:8080\"\n[[clients]]\nname = \"office\"\n\
         networks = [\"10.20.0.0/16\"]\n{}{}{}",
        service(
            "Exempt",
            "exempt.example.com",
            "state = \"exempt\"\nscope = \"x\"\nconfirmed_by = \"IT\"\nconfirmed_on = 2024-04-01"
        ),
        service("Over", "over.example.com", &registered("2025-03-31", "2024-04-01", "after_grace = \"deny\"")),
        service("Warned", "warned.example.com", &registered("2025-03-31", "2024-04-01", "after_grace = \"warn\"")),
    );
    fs::write(dir.path().join("sekisho.toml"), config).expect("written");
    let said = |arguments: &[&str]| {
        let out = run(dir.path(), arguments);
        (out.status.code(), text(&out.stdout))
    };
    let (code, screen) = said(&["check"]);
    assert_eq!(code, Some(0), "{screen}");
    let rows: Vec<_> = screen.lines().skip_while(|line| !line.starts_with("ismap")).take(4).collect();
    assert!(rows[0].starts_with("ismap      require_ismap enforce, accept_liu false, today is 20"), "{screen}");
    assert!(rows[1].starts_with("ismap      Over: registered, C00-0000-0, until 2025-03-31 ("), "{screen}");
    let squeezed = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        squeezed.contains("days ago), refused ismap Warned: registered, C00-0000-0, until 2025-03-31 ("),
        "{squeezed}"
    );
    assert!(squeezed.contains("days ago) ismap Exempt: exempt trust"), "{squeezed}");
    let explain = |host: &str| said(&["explain", "--client", "10.20.0.7", host]);
    let (code, told) = explain("over.example.com");
    assert!(code == Some(3) && told.starts_with("decision      deny (service_not_approved)\n"), "{told}");
    assert!(told.contains("ismap         registered, C00-0000-0, until 2025-03-31 ("), "{told}");
    let (code, told) = explain("warned.example.com");
    assert!(code == Some(0) && told.contains("ismap         registered, C00-0000-0, until 2025-03-31 ("), "{told}");
    let (_, json) = said(&["explain", "--json", "--client", "10.20.0.7", "over.example.com"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let ismap = json["ismap"].as_object().expect("an object");
    assert_eq!(
        [&ismap["state"], &ismap["list"], &ismap["number"], &ismap["valid_until"]],
        ["registered", "ismap", "C00-0000-0", "2025-03-31"]
    );
    assert!(ismap["days_left"].as_i64().is_some_and(|left| left < -600), "{json}");
}
