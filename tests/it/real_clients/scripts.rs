//! Only scenes with Python, Node, OpenSSL's and GnuTLS's own clients belong here.

use serde_json::Value;

use super::stage::{
    Ran, Scene, client, have, node_modules, run, script, skipped, the, was_allowed, was_inspected, was_tunnelled,
};

fn said(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// A Python that has requests: Debian's own first, for another may stand before it on the path.
async fn python() -> Option<&'static str> {
    for python in ["/usr/bin/python3", "python3"] {
        let mut command = client(python);
        command.args(["-c", "import requests"]);
        if run(command, "").await.code == Some(0) {
            return Some(python);
        }
    }
    skipped("Python requests", "no python3 with requests; tests/run installs python3-requests");
    None
}

async fn python_asks(scene: &Scene, python: &str, host: &str) -> Value {
    let mut command = client(python);
    command.env("HTTPS_PROXY", scene.proxy()).env("REQUESTS_CA_BUNDLE", scene.root(host));
    command.arg(script("ask.py")).arg(scene.url(host, "/echo"));
    said(&run(command, "").await)
}

#[tokio::test]
async fn python_requests_tunnels() {
    let (Some(python), true) = (python().await, have("Python requests", &["node"])) else { return };
    let scene = Scene::new().await;
    let said = python_asks(&scene, python, "tunnelled.test").await;
    assert_eq!(said["status"], 200, "{said}");
    assert!(said["body"].as_str().is_some_and(|body| body.starts_with("POST 100000 ")), "{said}");
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 1);
    arrived[0].is_unmarked();
    was_tunnelled(&records);
}

#[tokio::test]
async fn python_requests_is_inspected() {
    let (Some(python), true) = (python().await, have("Python requests", &["node"])) else { return };
    let scene = Scene::new().await;
    let said = python_asks(&scene, python, "inspected.test").await;
    assert_eq!(said["status"], 200, "{said}");
    assert!(said["body"].as_str().is_some_and(|body| body.starts_with("POST 100000 ")), "{said}");
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].is_marked().version, "1.1");
    was_inspected(&records, 1);
}

#[tokio::test]
async fn python_requests_is_refused() {
    let (Some(python), true) = (python().await, have("Python requests", &["node"])) else { return };
    let scene = Scene::new().await;
    let said = python_asks(&scene, python, "refused.test").await;
    let error = said["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("ProxyError") && error.contains("Tunnel connection failed: 403"), "{said}");
    let (arrived, records) = scene.end().await;
    assert!(arrived.is_empty());
    the(&records, "connection", "refused.test").says("denied", "not_allowlisted");
}

/// What Node's fetch, or its https module, gets through `agent` from each of the three hosts; `None` where a part is missing.
async fn node_asks(agent: &str) -> Option<(Scene, [Value; 3])> {
    let client_name = format!("Node with {agent}");
    if !have(&client_name, &["node"]) {
        return None;
    }
    if !node_modules().join(agent).is_dir() {
        skipped(&client_name, &format!("the npm package {agent} is not in {}", node_modules().display()));
        return None;
    }
    let scene = Scene::new().await;
    let mut answers = Vec::new();
    for host in ["tunnelled.test", "inspected.test", "refused.test"] {
        let mut command = client("node");
        command.env("NODE_EXTRA_CA_CERTS", scene.root(host));
        command.arg(script("fetch.mjs")).arg(agent).arg(node_modules()).arg(scene.proxy()).arg(scene.url(host, "/"));
        answers.push(said(&run(command, "").await));
    }
    Some((scene, answers.try_into().expect("three")))
}

async fn node_is_served(agent: &str) {
    let Some((scene, [tunnelled, inspected, refused])) = node_asks(agent).await else { return };
    for answer in [&tunnelled, &inspected] {
        assert_eq!(answer["status"], 200, "{answer}");
        assert!(answer["body"].as_str().is_some_and(|body| body.contains("Reached the origin.")), "{answer}");
    }
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 2);
    assert!(arrived[0].is_unmarked().host.starts_with("tunnelled.test:"));
    assert!(arrived[1].is_marked().host.starts_with("inspected.test:"));
    was_allowed(&records, "connection", "tunnelled.test").with("sekisho.mode", "tunnel");
    was_inspected(&records, 1);
    the(&records, "connection", "refused.test").says("denied", "not_allowlisted");
    // undici throws; https-proxy-agent hands the proxy's own answer to the caller.
    let told = refused["status"] == 403 || refused["error"].as_str().is_some_and(|error| error.contains("403"));
    assert!(told, "{refused}");
}

#[tokio::test]
async fn node_fetch_by_undici_proxy_agent() {
    node_is_served("undici").await;
}

#[tokio::test]
async fn node_https_by_https_proxy_agent() {
    node_is_served("https-proxy-agent").await;
}

/// `openssl s_client -proxy` sends CONNECT in HTTP/1.0 and without a Host.
async fn s_client(scene: &Scene, host: &str) -> Ran {
    let mut command = client("openssl");
    let authority = format!("{host}:{}", scene.origin.port);
    command.args([
        "s_client",
        "-proxy",
        &scene.sekisho.addr().to_string(),
        "-connect",
        &authority,
        "-servername",
        host,
    ]);
    command.args(["-verify_return_error", "-verify_hostname", host, "-ign_eof", "-CAfile"]).arg(scene.root(host));
    run(command, &format!("GET / HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn openssl_s_client_connects_by_http10() {
    if !have("openssl s_client", &["openssl", "node"]) {
        return;
    }
    let scene = Scene::new().await;
    for host in ["tunnelled.test", "inspected.test"] {
        let ran = s_client(&scene, host).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for part in ["Verify return code: 0 (ok)", "HTTP/1.1 200 OK", "Reached the origin."] {
            assert!(ran.stdout.contains(part), "{part}: {ran:?}");
        }
    }
    let ran = s_client(&scene, "refused.test").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("HTTP CONNECT failed"), "{ran:?}");
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 2);
    arrived[0].is_unmarked();
    arrived[1].is_marked();
    was_allowed(&records, "connection", "tunnelled.test").with("sekisho.mode", "tunnel");
    was_inspected(&records, 1);
    the(&records, "connection", "refused.test").says("denied", "not_allowlisted");
}

/// Debian's wget stands on GnuTLS.
#[tokio::test]
async fn wget_tunnels_and_is_inspected() {
    if !have("wget", &["wget", "node"]) {
        return;
    }
    let scene = Scene::new().await;
    let ask = |host: &'static str| {
        let mut command = client("wget");
        command.env("https_proxy", scene.proxy()).args(["-nv", "-O", "-", "--tries=1", "--timeout=30"]);
        command.arg(format!("--ca-certificate={}", scene.root(host).display())).arg(scene.url(host, "/"));
        run(command, "")
    };
    for host in ["tunnelled.test", "inspected.test"] {
        let ran = ask(host).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains("Reached the origin."), "{ran:?}");
    }
    let ran = ask("refused.test").await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("Proxy tunneling failed: Forbidden"), "{ran:?}");
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 2);
    // wget says Proxy-Connection to the origin itself; a tunnel carries that, an inspected connection does not.
    assert_eq!(arrived[0].is_untouched_but_for("proxy-connection").values("proxy-connection"), ["Keep-Alive"]);
    arrived[1].is_marked();
    was_allowed(&records, "connection", "tunnelled.test").with("sekisho.mode", "tunnel");
    was_inspected(&records, 1);
    the(&records, "connection", "refused.test").says("denied", "not_allowlisted");
}
