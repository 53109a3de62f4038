//! Only scenes with a real HAProxy in front belong here, which writes the headers and makes its own checks.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{BALANCER, config, head, is_served, was_passed_on};
use crate::real_clients::stage::have;
use crate::support::client::{Tls, connect_from};
use crate::support::sekisho::free_port;
use crate::support::{Origin, Sekisho, until, within};
use crate::upgrade::{assert_each_ends_once, gone};

/// A running HAProxy; it ends with the value.
struct Haproxy {
    child: Child,
    dir: TempDir,
}

impl Haproxy {
    fn start(configuration: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, configuration).expect("written");
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("haproxy starts");
        Self { child, dir }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a steered client meant: the port is the origin's, the address HAProxy's.
fn meant(origin: &Origin) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 2], origin.port()))
}

async fn passes_clients_on(version: &str) {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let (config, doors) = config(&origin);
    let clients = "[[clients]]\nname = \"office\"\nnetworks = [\"127.0.0.77/32\"]\n";
    let mut sekisho = Sekisho::start(&config.clients(clients)).await;
    let explicit = std::net::SocketAddr::from(([127, 0, 0, 2], free_port("127.0.0.2")));
    let meant = meant(&origin);
    let server = format!("{version} source {BALANCER} check inter 100ms");
    let haproxy = Haproxy::start(&format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
         listen explicit\n bind {explicit}\n server one {} {server}\n\
         listen transparent\n bind {meant}\n server one {} {server}\n",
        doors.explicit, doors.transparent
    ));
    let at = origin.at("allowed.test");
    // Its checks are there before the first client, and are in no record.
    within("checks", async {
        while sekisho.metrics().await["sekisho_balancer_checks_total"] < 4.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(sekisho.records().iter().filter(|record| record.is_terminal()).count(), 0, "{}", haproxy.log());
    let mut wire = connect_from("127.0.0.77", explicit).await;
    let port = wire.io.local_addr().expect("an address").port();
    wire.send(head(&at)).await;
    assert_eq!(wire.response("CONNECT").await.status, 200, "{}", haproxy.log());
    is_served(wire).await;
    let record = sekisho.next_connection().await;
    was_passed_on(record.says("allowed", "").with("source.ip", "127.0.0.77").with("sekisho.client", "office"));
    record.with("sekisho.balancer_destination", &explicit.to_string());
    assert_eq!(record.number("source.port"), u64::from(port));

    is_served(connect_from("127.0.0.77", meant).await).await;
    let record = sekisho.next_connection().await;
    was_passed_on(record.says("allowed", "").with("source.ip", "127.0.0.77"));
    record.with("sekisho.original_destination", &meant.to_string());

    // Of another network than the clients'.
    let mut wire = connect_from("127.0.0.78", explicit).await;
    wire.send(head(&at)).await;
    assert_eq!(wire.response("CONNECT").await.status, 403);
    sekisho.next_connection().await.says("denied", "client_not_permitted").with("source.ip", "127.0.0.78");
    drop(haproxy);
    sekisho.conserved().await;
    sekisho.finish().await;
}

#[tokio::test]
async fn a_real_haproxy_passes_clients_on_by_version_1() {
    if have("HAProxy, version 1", &["haproxy"]) {
        passes_clients_on("send-proxy").await;
    }
}

#[tokio::test]
async fn a_real_haproxy_passes_clients_on_by_version_2() {
    if have("HAProxy, version 2", &["haproxy"]) {
        passes_clients_on("send-proxy-v2").await;
    }
}

/// The tunnel, the connection whose header has come and no more, and the next one: the client of each is known behind the upgrade.
#[tokio::test]
async fn b09_whose_connection_it_is_survives_an_upgrade() {
    if !have("HAProxy, with an upgrade behind it", &["haproxy"]) {
        return;
    }
    let origin = Origin::https(&["allowed.test"]).echoing().start().await;
    let (config, doors) = config(&origin);
    let clients = "[[clients]]\nname = \"office\"\nnetworks = [\"127.0.0.77/32\"]\n";
    let config = config.clients(clients).set("control", "socket", "\"control.sock\"");
    let mut sekisho = Sekisho::start(&config).await;
    let meant = meant(&origin);
    let haproxy = Haproxy::start(&format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
         listen transparent\n bind {meant}\n server one {} send-proxy-v2 source {BALANCER}\n",
        doors.transparent
    ));
    until("haproxy", || std::net::TcpListener::bind(meant).is_err().then_some(())).await;
    let tls = Tls::named("allowed.test");
    let mut stays = tls.over(connect_from("127.0.0.77", meant).await).await;
    stays.send("ping").await;
    assert_eq!(stays.exactly(4).await.expect("an echo"), b"ping");
    let waits = connect_from("127.0.0.77", meant).await;
    within("its header", async {
        while sekisho.metrics().await["sekisho_admitted"] < 2.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let old = sekisho.take_over().await;
    stays.send("pong").await;
    assert_eq!(stays.exactly(4).await.expect("an echo"), b"pong", "{}", haproxy.log());
    let comes = connect_from("127.0.0.77", meant).await;
    for wire in [waits, comes] {
        let mut inside = tls.over(wire).await;
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping", "{}", haproxy.log());
        inside.bye().await;
    }
    gone(old).await;
    stays.bye().await;
    let ended = sekisho.terminals("connection", 3).await;
    assert_eq!(ended.len(), 3);
    for record in &ended {
        was_passed_on(record.says("allowed", "").with("source.ip", "127.0.0.77").with("sekisho.client", "office"));
        record.with("sekisho.original_destination", &meant.to_string());
    }
    assert_each_ends_once(&sekisho.records());
    sekisho.counted().await;
}
