//! Only the scene of reloads under steering belongs here, half of them of files that cannot be loaded, with a real name server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{FORGED4, at, reports, rounds, unresolved};
use crate::real_clients::stage::{self, Ran};
use crate::support::client::Tls;
use crate::support::netns::{Namespace, ORIGIN4, Office, have};
use crate::support::pair::Daemon;
use crate::support::{Config, Origin, Reply, Sekisho, Service, until};

const NAMES: &str = "port=53\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\npid-file=\nlog-queries\n\
                     log-facility=-\naddress=/tunnelled.test/198.51.100.8\naddress=/inspected.test/198.51.100.7\n\
                     address=/denied.test/198.51.100.7\n";
/// Where the origin of echoes is.
const ECHO4: &str = "198.51.100.8";

fn config(value: &str) -> Config {
    let inspected = Service::inspect("Inspected", &["inspected.test"], 443).header("X-Allowed-Org", value);
    let tunnelled = Service::tunnel("Tunnelled", &["tunnelled.test"], 443);
    unresolved("").no_services().service(tunnelled).service(inspected).set("resolver", "servers", "[\"127.0.0.1:53\"]")
}

/// What a terminal's curl makes of `https://HOST/`.
async fn curl(client: &Namespace, host: &str, root: &std::path::Path) -> Ran {
    let mut curl = client.command("curl");
    curl.args(["-q", "-sS", "--fail", "--max-time", "20", "--cacert"]).arg(root);
    curl.arg("--resolve").arg(format!("{host}:443:{FORGED4}")).arg(format!("https://{host}/"));
    stage::run(curl, "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l07_a15_reloads_under_steering_half_of_them_broken_change_what_they_say_and_nothing_else() {
    let scene = "reloads under steering";
    if !have(scene) || !stage::have(scene, &["dnsmasq", "curl"]) {
        return;
    }
    let rounds = rounds(8, 100);
    let office = Office::new();
    office.load("sekisho.nft");
    office.internet.counts_packets_of_clients();
    office.internet.ip(&["addr", "add", ECHO4, "dev", "lo"]);
    let names = Daemon::start(&office.gate, "dnsmasq", &["--keep-in-foreground", "--conf-file=FILE"], NAMES);
    until("the name server", || names.log().contains("started, version").then_some(())).await;
    let echo = Origin::https(&["tunnelled.test"]).echoing().start_on(office.internet.listen(at(ECHO4, 443)));
    let web = Origin::https(&["inspected.test"]).alpn(&["http/1.1"]).expecting(&["x-allowed-org"]);
    let web = web.answering(|seen| Reply::ok(seen.values("x-allowed-org").join(",")));
    let _web = web.start_on(office.internet.listen(at(ORIGIN4, 443)));
    let mut sekisho = Sekisho::start_inside(&config("value-0"), &office.gate).await;
    let root = sekisho.path("ca-root.pem");

    // One tunnel stays, and one terminal asks all the time for what it does not get.
    let over = Arc::new(AtomicBool::new(false));
    let mut inside =
        Tls::named("tunnelled.test").over(office.client.connect(at(FORGED4, 443)).expect("connected")).await;
    let refused = Arc::new(AtomicU64::new(0));
    let denied = tokio::spawn({
        let (over, refused, client, root) =
            (Arc::clone(&over), Arc::clone(&refused), office.client.clone(), root.clone());
        async move {
            while !over.load(Ordering::Relaxed) {
                let ran = curl(&client, "denied.test", &root).await;
                // Of curl(1): the handshake failed.
                assert_eq!(ran.code, Some(35), "{ran:?}");
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for number in 1..=rounds {
        let before = format!("value-{}", number - 1);
        let good = config(&format!("value-{number}"));
        let text = good.render(&sekisho.listeners, sekisho.admin);
        let broken = match number % 3 {
            0 => text[..text.len() / 2].to_owned(),
            1 => text.replace("[upstream]", "[upstraem]"),
            _ => text.replace("\"inspected.test\"", "\"*.com\""),
        };
        assert_ne!(broken, text);
        sekisho.reload_refused(&broken).await;
        let ran = curl(&office.client, "inspected.test", &root).await;
        assert_eq!(ran.stdout, before, "what was in force stays: {ran:?}");
        sekisho.reload(&good).await;
        let ran = curl(&office.client, "inspected.test", &root).await;
        assert_eq!(ran.stdout, format!("value-{number}"), "what is new holds: {ran:?}");
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    }
    over.store(true, Ordering::Relaxed);
    denied.await.expect("it was never let through");
    inside.bye().await;
    assert_eq!(office.internet.packets_of_clients(), 0, "packets of the clients on the internet's side");
    assert!(echo.connects() >= 1);

    let refused = refused.load(Ordering::Relaxed);
    let records = sekisho.terminals("connection", refused + 2 * rounds as u64 + 1).await;
    let of =
        |host: &str| records.iter().filter(|record| record.text("tls.client.server_name") == host).collect::<Vec<_>>();
    assert_eq!(of("denied.test").len() as u64, refused);
    of("denied.test").iter().for_each(|record| assert_eq!(record.reason(), "not_allowlisted", "{record:?}"));
    assert_eq!(of("inspected.test").len(), 2 * rounds);
    of("inspected.test").iter().for_each(|record| assert_eq!(record.outcome(), "allowed", "{record:?}"));
    for record in &records {
        record.with("sekisho.original_destination", &format!("{FORGED4}:443"));
    }
    let log = names.log();
    assert!(log.contains("] inspected.test from 127.0.0.1") && log.contains("] tunnelled.test from"), "{log}");
    assert!(!log.contains("denied.test"), "a denied name was looked up: {log}");
    sekisho.signal(rustix::process::Signal::TERM);
    assert!(sekisho.exit().await.success());
    reports(&format!(
        "reloads under steering: {rounds} good, {rounds} broken; {refused} denied, none of them looked up"
    ));
}
