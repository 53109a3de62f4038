//! Only scenes about the admin listener belong here: what it tells, to whom, and what it never tells.

use super::support::client::{Tls, connect};
use super::support::{Config, Origin, Sekisho, Service};

#[tokio::test]
async fn the_three_views_answer() {
    let sekisho = Sekisho::start(&Config::new()).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(sekisho.admin(path).await.status, 200, "{path}");
    }
    assert!(sekisho.admin("/metrics").await.text().trim_end().ends_with("# EOF"), "OpenMetrics");
    assert_eq!(sekisho.lifecycle("start", 1).await.action(), "lifecycle");
}

#[tokio::test]
async fn m07_there_is_nothing_else_to_read_and_nothing_to_change() {
    let sekisho =
        Sekisho::start(&Config::new().service(Service::tunnel("Secret rule", &["secret-rule.test"], 443))).await;
    for path in
        ["/", "/config", "/sekisho.toml", "/ca.key", "/rules", "/debug", "/../ca.key", "/metrics/../config", "//livez"]
    {
        let answer = sekisho.admin(path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.text().contains("Secret") && !answer.text().contains("secret-rule"), "{answer:?}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"] {
        let mut wire = connect(sekisho.admin).await.expect("connected");
        wire.send(format!("{method} /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
        let answer = wire.response("GET").await;
        assert!([400, 404, 405].contains(&answer.status), "{method}: {answer:?}");
    }
    assert_eq!(
        sekisho.records().iter().filter(|record| record.is_terminal()).count(),
        0,
        "the admin port makes no attempts"
    );
}

#[tokio::test]
async fn m06_labels_are_words_of_closed_lists() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let before = sekisho.metrics().await.len();
    for n in 0..100 {
        sekisho.connect(&format!("host{n}.test:443")).await;
    }
    sekisho.terminals("connection", 100).await;
    let metrics = sekisho.metrics().await;
    let named: Vec<&String> =
        metrics.keys().filter(|name| name.contains("host") || name.contains("127.0.0.1")).collect();
    assert!(named.is_empty(), "{named:?}");
    assert!(metrics.len() <= before + 5, "a hundred hosts made {} more samples", metrics.len() - before);
}

#[tokio::test]
async fn l03_a_failed_reload_is_degraded_and_still_ready() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = Config::new().tunnel("allowed.test", &origin);
    let mut sekisho = Sekisho::start(&config).await;
    assert!(!sekisho.admin("/readyz").await.text().contains("degraded"));
    let before = sekisho.metrics().await;
    sekisho.reload_refused("this is = not [toml").await;
    let answer = sekisho.admin("/readyz").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("degraded"), "{answer:?}");
    let after = sekisho.metrics().await;
    let changed: Vec<&String> =
        after.iter().filter(|(name, value)| before.get(*name) != Some(*value)).map(|(name, _)| name).collect();
    assert!(changed.iter().any(|name| name.contains("reload")), "{changed:?}");
    assert!(sekisho.stderr().contains("sekisho.toml"), "a log line says why: {}", sekisho.stderr());
    Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await.bye().await;
    sekisho.next_connection().await.says("allowed", "");
    sekisho.reload(&config).await;
    assert!(!sekisho.admin("/readyz").await.text().contains("degraded"));
    sekisho.finish().await;
}

#[tokio::test]
async fn readyz_is_503_while_draining_and_livez_is_not() {
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let config = Config::new().tunnel("allowed.test", &origin).set("timeouts", "drain", "\"20s\"");
    let mut sekisho = Sekisho::start(&config).await;
    let inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
    sekisho.signal(rustix::process::Signal::TERM);
    super::support::within("draining", async {
        while sekisho.admin("/readyz").await.status != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(sekisho.admin("/livez").await.status, 200);
    inside.bye().await;
    assert!(sekisho.exit().await.success());
    sekisho.next_connection().await.says("allowed", "");
}

#[tokio::test]
async fn the_admin_listener_survives_bad_clients() {
    let sekisho = Sekisho::start(&Config::new()).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect(sekisho.admin).await.expect("connected"));
    }
    let mut wire = connect(sekisho.admin).await.expect("connected");
    let _ = wire.try_send([0xff; 100_000]).await;
    let _ = wire.rest().await;
    assert_eq!(sekisho.admin("/livez").await.status, 200);
    assert!(sekisho.records().iter().all(|record| !record.is_terminal()));
}
