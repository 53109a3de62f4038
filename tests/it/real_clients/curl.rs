//! Only scenes with curl belong here.

use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};

use super::stage::{
    HEADER, Origin, Ran, Scene, Speaks, about, client, end, have, run, the, was_allowed, was_inspected, was_tunnelled,
};
use crate::support::pki::Defect;
use crate::support::{Config, Sekisho, Service};

const LENGTH: usize = 3_000_000;

/// curl through the proxy, quiet but for errors, its verdict on the last line: status, version, status of the CONNECT, octets.
fn curl(scene: &Scene, host: &str) -> Command {
    let mut command = client("curl");
    command.args(["-sS", "--max-time", "30", "--proxy", &scene.proxy(), "--cacert"]).arg(scene.root(host));
    command.args(["-w", "\n%{http_code} %{http_version} %{http_connect} %{size_download}"]);
    command
}

#[track_caller]
fn verdict(ran: &Ran) -> &str {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout.lines().last().unwrap_or_default()
}

/// Three megabytes up and three down over one connection, and what they were on arrival.
async fn moves(host: &str, option: &str, version: &str) -> Option<(Scene, String)> {
    if !have("curl", &["curl", "node"]) {
        return None;
    }
    let scene = Scene::new().await;
    let upload: Vec<u8> = (0..LENGTH).map(|at| (at * 31 / 7) as u8).collect();
    let file = scene.sekisho.path("upload");
    std::fs::write(&file, &upload).expect("write");
    let mut command = curl(&scene, host);
    command.args([option, "-H", "Expect:", "--data-binary"]).arg(format!("@{}", file.display()));
    command.arg(scene.url(host, "/echo"));
    command
        .args(["--next", "-sS", "--max-time", "30", "--proxy", &scene.proxy(), option, "--cacert"])
        .arg(scene.root(host));
    command.args(["-o", "/dev/null", "-w", "\n%{http_code} %{http_version} %{num_connects} %{size_download}"]);
    command.arg(scene.url(host, &format!("/zeros?length={LENGTH}")));
    let ran = run(command, "").await;

    let sum: String = digest(&SHA256, &upload).as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    let spoken = if version == "2" { "2.0" } else { version };
    assert!(ran.stdout.contains(&format!("POST {LENGTH} {sum} HTTP/{spoken}\n")), "{ran:?}");
    assert!(ran.stdout.contains(&format!("\n200 {version} 200 ")), "{ran:?}");
    assert_eq!(verdict(&ran), format!("200 {version} 0 {LENGTH}"), "{ran:?}");
    Some((scene, spoken.to_owned()))
}

async fn tunnels(option: &str, version: &str) {
    let Some((scene, spoken)) = moves("tunnelled.test", option, version).await else { return };
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 2);
    assert!(arrived.iter().all(|request| request.is_unmarked().version == spoken), "{arrived:?}");
    was_tunnelled(&records);
    let record = the(&records, "connection", "tunnelled.test");
    let length = LENGTH as u64;
    assert!(record.number("source.bytes") > length && record.number("destination.bytes") > length, "{record:?}");
}

async fn is_inspected(option: &str, version: &str) {
    let Some((scene, spoken)) = moves("inspected.test", option, version).await else { return };
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 2);
    assert!(arrived.iter().all(|request| request.is_marked().version == spoken), "{arrived:?}");
    was_inspected(&records, 2);
    let sizes: Vec<u64> = about(&records, "request", "inspected.test")
        .iter()
        .map(|record| record.number("source.bytes").max(record.number("destination.bytes")))
        .collect();
    assert!(sizes.iter().all(|size| *size >= LENGTH as u64), "{sizes:?} {records:#?}");
}

#[tokio::test]
async fn curl_tunnels_http1() {
    tunnels("--http1.1", "1.1").await;
}

#[tokio::test]
async fn curl_tunnels_http2() {
    tunnels("--http2", "2").await;
}

#[tokio::test]
async fn curl_is_inspected_over_http1() {
    is_inspected("--http1.1", "1.1").await;
}

#[tokio::test]
async fn curl_is_inspected_over_http2() {
    is_inspected("--http2", "2").await;
}

/// Whatever spelling a client gives the header, its own copy does not arrive.
#[tokio::test]
async fn curl_cannot_bring_its_own_tenant_header() {
    if !have("curl", &["curl", "node"]) {
        return;
    }
    let scene = Scene::new().await;
    for version in ["--http1.1", "--http2"] {
        let mut command = curl(&scene, "inspected.test");
        command.args([version, "-H", "X-Allowed-Org: evil", "-H", "x_allowed_org: evil", "-H", "X-ALLOWED-ORG: evil"]);
        command.arg(scene.url("inspected.test", "/"));
        let ran = run(command, "").await;
        assert!(verdict(&ran).starts_with("200 "), "{ran:?}");
    }
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 2);
    for request in &arrived {
        request.is_marked();
        assert!(request.fields.iter().all(|(_, value)| value != "evil"), "{HEADER}: {request:?}");
    }
    assert_eq!(about(&records, "request", "inspected.test").len(), 2);
}

#[tokio::test]
async fn curl_sees_why_a_connect_is_refused() {
    if !have("curl", &["curl", "node"]) {
        return;
    }
    let scene = Scene::new().await;
    let mut command = curl(&scene, "refused.test");
    command.args(["-D", "-", "https://refused.test/"]);
    let ran = run(command, "").await;
    assert_eq!(ran.code, Some(56), "{ran:?}");
    assert!(ran.stdout.starts_with("HTTP/1.1 403 "), "{ran:?}");
    assert!(
        ran.stdout.contains("\r\nProxy-Status: sekisho; error=http_request_denied; details=\"not_allowlisted\"\r\n"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("403"), "{ran:?}");
    let (arrived, records) = scene.end().await;
    assert!(arrived.is_empty());
    the(&records, "connection", "refused.test")
        .says("denied", "not_allowlisted")
        .with("sekisho.authority", "refused.test:443");
}

#[tokio::test]
async fn curl_is_told_of_a_bad_certificate() {
    if !have("curl", &["curl", "node"]) {
        return;
    }
    let scene = Scene::with(Defect::Expired, Speaks::Both).await;
    // Inspected: words, over TLS that the client trusts.
    for version in ["--http1.1", "--http2"] {
        let mut command = curl(&scene, "inspected.test");
        command.args([version, "-D", "-"]).arg(scene.url("inspected.test", "/"));
        let ran = run(command, "").await;
        // The page speaks HTTP/1.1, also to a client that would rather have HTTP/2.
        assert!(verdict(&ran).starts_with("502 1.1 200 "), "{ran:?}");
        assert!(ran.stdout.contains("接続先の証明書を確認できませんでした。"), "{ran:?}");
        let status = "proxy-status: sekisho; error=tls_certificate_error; details=\"certificate_invalid\"";
        assert!(ran.stdout.to_ascii_lowercase().contains(status), "{ran:?}");
    }
    // Tunnelled: an honest status on the CONNECT itself.
    let mut command = curl(&scene, "tunnelled.test");
    command.args(["-D", "-"]).arg(scene.url("tunnelled.test", "/"));
    let ran = run(command, "").await;
    assert_eq!(ran.code, Some(56), "{ran:?}");
    assert!(ran.stdout.starts_with("HTTP/1.1 502 "), "{ran:?}");
    assert!(ran.stdout.contains("error=tls_certificate_error"), "{ran:?}");
    let (arrived, records) = scene.end().await;
    assert!(arrived.is_empty(), "nothing was asked of an origin that could not be verified: {arrived:?}");
    the(&records, "connection", "tunnelled.test")
        .says("failed", "certificate_invalid")
        .with("sekisho.certificate_error", "expired");
    let failed: Vec<_> = records.iter().filter(|record| record.reason() == "certificate_invalid").collect();
    assert!(failed.iter().filter(|record| record.text("url.domain") == "inspected.test").count() >= 2, "{records:#?}");
}

#[tokio::test]
async fn curl_without_the_issuing_root_is_recorded_as_refusing_it() {
    if !have("curl", &["curl", "node"]) {
        return;
    }
    let scene = Scene::new().await;
    let mut command = curl(&scene, "tunnelled.test");
    command.arg(scene.url("inspected.test", "/"));
    let ran = run(command, "").await;
    assert_eq!(ran.code, Some(60), "{ran:?}");
    let (arrived, records) = scene.end().await;
    assert!(arrived.is_empty(), "{arrived:?}");
    the(&records, "connection", "inspected.test").says("failed", "client_rejected_certificate");
}

#[tokio::test]
async fn curl_speaks_tls12() {
    if !have("curl", &["curl", "node"]) {
        return;
    }
    let scene = Scene::new().await;
    for host in ["tunnelled.test", "inspected.test"] {
        let mut command = curl(&scene, host);
        command.args(["--tls-max", "1.2"]).arg(scene.url(host, "/"));
        let ran = run(command, "").await;
        assert!(verdict(&ran).starts_with("200 2 200 "), "{ran:?}");
    }
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 2);
    was_allowed(&records, "connection", "tunnelled.test");
    was_inspected(&records, 1);
}

/// The client is offered what its origin speaks, not what the proxy could.
#[tokio::test]
async fn curl_is_inspected_where_the_origin_has_only_http1() {
    if !have("curl", &["curl", "node"]) {
        return;
    }
    let scene = Scene::with(Defect::None, Speaks::Http1).await;
    let mut command = curl(&scene, "inspected.test");
    command.arg("--http2").arg(scene.url("inspected.test", "/"));
    let ran = run(command, "").await;
    assert!(verdict(&ran).starts_with("200 1.1 200 "), "{ran:?}");
    let (arrived, records) = scene.end().await;
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].is_marked().version, "1.1");
    was_inspected(&records, 1);
}

#[tokio::test]
async fn curl_asks_in_plain_http() {
    if !have("curl", &["curl", "node"]) {
        return;
    }
    let origin = Origin::http();
    let config = Config::new().service(Service::plain("plain", &["plain.test"], origin.port)).hosts(&["plain.test"]);
    let sekisho = Sekisho::start(&config).await;
    let proxy = format!("http://{}", sekisho.addr());
    let ask = |arguments: &[&str], host: &str| {
        let mut command = client("curl");
        command.args(["-sS", "--max-time", "30", "-i", "-x", &proxy]).args(arguments);
        command.arg(format!("http://{host}:{}/echo", origin.port));
        run(command, "")
    };
    let (taken, method, refused) = (
        ask(&["-d", "abc"], "plain.test").await,
        ask(&["-X", "PUT"], "plain.test").await,
        ask(&[], "refused.test").await,
    );
    assert!(taken.stdout.starts_with("HTTP/1.1 200 "), "{taken:?}");
    assert!(taken.stdout.contains("POST 3 "), "{taken:?}");
    assert!(method.stdout.starts_with("HTTP/1.1 405 "), "{method:?}");
    assert!(refused.stdout.starts_with("HTTP/1.1 403 "), "{refused:?}");
    assert!(refused.stdout.contains("接続できません") && refused.stdout.contains("refused.test"), "{refused:?}");

    let records = end(sekisho).await;
    let arrived = origin.end();
    assert_eq!(arrived.len(), 1);
    // Here the proxy is one of HTTP's own, and says so (RFC 9110 section 7.6.3).
    assert_eq!(arrived[0].is_untouched_but_for("via").values("via"), ["1.1 sekisho"]);
    assert_eq!(arrived[0].path, "/echo");
    let said: Vec<_> = records
        .iter()
        .filter(|record| record.is_terminal() && record.action() == "request")
        .map(|record| (record.outcome(), record.reason(), record.number("http.response.status_code")))
        .collect();
    assert_eq!(
        said,
        [("allowed", "", 200), ("denied", "method_not_permitted", 405), ("denied", "not_allowlisted", 403)],
        "{records:#?}"
    );
    // The page's reference is the record's.
    let reference =
        records.iter().find(|record| record.reason() == "not_allowlisted").map(|record| record.text("event.id"));
    assert!(reference.is_some_and(|id| !id.is_empty() && refused.stdout.contains(id)), "{reference:?} {refused:?}");
}
