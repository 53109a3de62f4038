//! Only scenes with headless Chromium belong here. It trusts what a home's `.pki/nssdb` holds, as it does on a managed terminal;
//! no certificate error is ever ignored.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::stage::{Ran, Scene, Speaks, about, client, have, run};
use crate::support::Record;
use crate::support::pki::Defect;
use crate::support::sekisho::free_port;

const FLAGS: [&str; 8] =
    ["--disable-quic", STEERED[0], STEERED[1], STEERED[2], STEERED[3], STEERED[4], STEERED[5], STEERED[6]];
/// Of one that knows of no proxy, and may try QUIC.
pub const STEERED: [&str; 7] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// ERR_TUNNEL_CONNECTION_FAILED of Chromium's net_error_list.h.
const TUNNEL_CONNECTION_FAILED: i32 = -111;
/// ERR_PROXY_CONNECTION_FAILED of the same.
const PROXY_CONNECTION_FAILED: i32 = -130;

fn have_chromium() -> bool {
    have("Chromium", &["chromium", "certutil", "node"])
}

/// A new home that trusts `root` for web sites.
pub async fn home(root: &Path) -> TempDir {
    let home = TempDir::new().expect("a directory");
    let database = home.path().join(".pki/nssdb");
    fs::create_dir_all(&database).expect("the database's directory");
    let database = format!("sql:{}", database.display());
    let root = root.display().to_string();
    for arguments in
        [vec!["-N", "--empty-password"], vec!["-A", "-t", "C,,", "-n", "the scene's root", "-i", root.as_str()]]
    {
        let mut command = client("certutil");
        command.args(["-d", &database]).args(&arguments);
        let ran = run(command, "").await;
        assert_eq!(ran.code, Some(0), "certutil {arguments:?}: {ran:?}");
    }
    home
}

pub fn profile(home: &TempDir) -> String {
    format!("--user-data-dir={}", home.path().join("profile").display())
}

/// The page's document after it was loaded, by a browser that trusts only the scene's root for `host`.
async fn load(scene: &Scene, host: &str, arguments: &[String]) -> Ran {
    load_path(scene, host, "/", arguments).await
}

async fn load_path(scene: &Scene, host: &str, path: &str, arguments: &[String]) -> Ran {
    load_by(scene, host, path, &format!("--proxy-server={}", scene.proxy()), arguments).await
}

/// By the proxy that `by` names.
async fn load_by(scene: &Scene, host: &str, path: &str, by: &str, arguments: &[String]) -> Ran {
    let home = home(&scene.root(host)).await;
    let mut command = client("chromium");
    command.env("HOME", home.path()).args(FLAGS).arg(profile(&home));
    command.arg(by).args(arguments).arg("--dump-dom").arg(scene.url(host, path));
    let ran = run(command, "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

/// Page, script, style and picture, all over HTTP/2 on both sides, each with the header once.
#[tokio::test]
async fn chromium_is_inspected_over_http2() {
    if !have_chromium() {
        return;
    }
    let scene = Scene::new().await;
    let ran = load(&scene, "inspected.test", &[]).await;
    assert!(ran.stdout.contains("Reached the origin."), "{ran:?}");
    assert!(ran.stdout.contains("script ran over h2"), "{ran:?}");
    let (arrived, records) = scene.end().await;
    for path in ["/", "/script.js", "/style.css", "/picture.svg"] {
        assert_eq!(arrived.iter().filter(|request| request.path == path).count(), 1, "{path}: {arrived:?}");
    }
    assert!(arrived.iter().all(|request| request.is_marked().version == "2.0"), "{arrived:?}");
    let requests = about(&records, "request", "inspected.test");
    assert_eq!(requests.len(), arrived.len(), "{records:#?}");
    // The browser asks for a favicon of its own accord, and may be gone before that is answered.
    let served = |record: &&&Record| record.text("url.path") != "/favicon.ico";
    assert!(requests.iter().filter(served).all(|record| record.outcome() == "allowed"), "{records:#?}");
    assert!(about(&records, "connection", "inspected.test").iter().all(|record| record.outcome() == "allowed"));
}

/// A socket beside HTTP/2: the browser opens a connection of its own for it and offers HTTP/1.1 there.
#[tokio::test]
async fn chromium_opens_a_websocket_through_inspection() {
    if !have_chromium() {
        return;
    }
    let scene = Scene::new().await;
    let ran = load_path(&scene, "inspected.test", "/socket", &[]).await;
    assert!(ran.stdout.contains("the socket said hello"), "{ran:?}");
    let (arrived, records) = scene.end().await;
    assert!(arrived.iter().all(|request| request.is_marked().method == "GET"), "{arrived:?}");
    assert_eq!(arrived.iter().filter(|request| request.path == "/speak" && request.version == "1.1").count(), 1);
    let spoken: Vec<_> =
        records.iter().filter(|record| record.is_terminal() && record.text("url.path") == "/speak").collect();
    assert_eq!(spoken.len(), 1, "{records:#?}");
    assert_eq!(
        (spoken[0].outcome(), spoken[0].number("http.response.status_code")),
        ("allowed", 101),
        "{:?}",
        spoken[0]
    );
    assert!(spoken[0].number("source.bytes") > 0 && spoken[0].number("destination.bytes") > 0, "{:?}", spoken[0]);
}

#[tokio::test]
async fn chromium_tunnels() {
    if !have_chromium() {
        return;
    }
    let scene = Scene::new().await;
    let ran = load(&scene, "tunnelled.test", &[]).await;
    assert!(ran.stdout.contains("Reached the origin."), "{ran:?}");
    assert!(ran.stdout.contains("script ran over h2"), "{ran:?}");
    let (arrived, records) = scene.end().await;
    assert!(arrived.len() >= 4, "{arrived:?}");
    assert!(arrived.iter().all(|request| request.is_unmarked().version == "2.0"), "{arrived:?}");
    let connections = about(&records, "connection", "tunnelled.test");
    assert!(!connections.is_empty(), "{records:#?}");
    // A socket that the browser opened ahead of need and never used ends as client_closed.
    for record in connections {
        record.with("sekisho.mode", "tunnel");
        assert!(record.outcome() == "allowed" || record.reason() == "client_closed", "{record:?}");
    }
    assert!(about(&records, "request", "tunnelled.test").is_empty());
}

/// Staff read words, over TLS they trust, with status 502; `SEKISHO_PAGE` names a file for a picture of it.
#[tokio::test]
async fn chromium_shows_the_page_for_a_bad_certificate() {
    if !have_chromium() {
        return;
    }
    let scene = Scene::with(Defect::UnknownIssuer, Speaks::Both).await;
    let log = scene.sekisho.path("net.json");
    let mut arguments = vec![format!("--log-net-log={}", log.display())];
    if let Some(picture) = std::env::var_os("SEKISHO_PAGE") {
        arguments.push(format!("--screenshot={}", Path::new(&picture).display()));
        arguments.push("--window-size=1000,760".to_owned());
    }
    let ran = load(&scene, "inspected.test", &arguments).await;
    for words in ["接続できません", "接続先の証明書を確認できませんでした。", "inspected.test", "certificate_invalid"]
    {
        assert!(ran.stdout.contains(words), "{words}: {ran:?}");
    }
    assert!(!ran.stdout.contains("ERR_"), "the browser's own error page: {ran:?}");
    let net = fs::read_to_string(&log).expect("the browser's log");
    assert!(net.contains("HTTP/1.1 502 "), "no 502 in the browser's log");
    let (arrived, records) = scene.end().await;
    assert!(arrived.is_empty(), "{arrived:?}");
    let failed: Vec<&Record> = records.iter().filter(|record| record.reason() == "certificate_invalid").collect();
    let page = failed.iter().find(|record| ran.stdout.contains(record.text("event.id")));
    let page = page.unwrap_or_else(|| panic!("the page's reference is nowhere in {records:#?}\n{}", ran.stdout));
    page.says("failed", "certificate_invalid").with("sekisho.certificate_error", "unknown_issuer");
    assert_eq!(page.number("http.response.status_code"), 502, "{page:?}");
}

/// A browser shows no body of a refused CONNECT: its own error page, which headless does not dump, and the record are all there is.
#[tokio::test]
async fn chromium_is_refused() {
    if !have_chromium() {
        return;
    }
    let scene = Scene::new().await;
    let log = scene.sekisho.path("net.json");
    load(&scene, "refused.test", &[format!("--log-net-log={}", log.display())]).await;
    let net = fs::read_to_string(&log).expect("the browser's log");
    assert!(net.contains("HTTP/1.1 403 ") && net.contains("not_allowlisted"), "no 403 in the browser's log");
    assert!(net.contains(&format!("\"net_error\":{TUNNEL_CONNECTION_FAILED}")), "not ended by the refusal");
    let (arrived, records) = scene.end().await;
    assert!(arrived.is_empty());
    let refused = about(&records, "connection", "refused.test");
    assert!(!refused.is_empty(), "{records:#?}");
    assert!(refused.iter().all(|record| record.reason() == "not_allowlisted"), "{records:#?}");
}

/// The browser fetches the script itself, comes to the proxy for what is permitted, and for what is not goes to a port on which nobody
/// listens.
#[tokio::test]
async fn chromium_finds_the_proxy_by_the_script_it_is_served() {
    if !have_chromium() {
        return;
    }
    let pac = std::net::SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1")));
    let scene = Scene::served(pac).await;
    let by = format!("--proxy-pac-url=http://{pac}/proxy.pac");
    let ran = load_by(&scene, "tunnelled.test", "/", &by, &[]).await;
    assert!(ran.stdout.contains("Reached the origin."), "{ran:?}");
    let log = scene.sekisho.path("net.json");
    load_by(&scene, "refused.test", "/", &by, &[format!("--log-net-log={}", log.display())]).await;
    let net = fs::read_to_string(&log).expect("the browser's log");
    assert!(net.contains(&format!("\"net_error\":{PROXY_CONNECTION_FAILED}")), "another end than the closed port");
    let metrics = scene.sekisho.metrics().await;
    assert!(metrics["sekisho_pac_requests_total{result=\"script\"}"] >= 2.0, "{metrics:?}");
    let (arrived, records) = scene.end().await;
    assert!(!arrived.is_empty());
    assert!(!about(&records, "connection", "tunnelled.test").is_empty(), "{records:#?}");
    assert!(about(&records, "connection", "refused.test").is_empty(), "{records:#?}");
}
