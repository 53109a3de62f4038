//! Only the scenes of a box whose sekisho is replaced while steered clients come and stay belong here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::test_kill_process;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use super::{FORGED4, FORGED6, at, config, reports, rounds, takes_what_is_marked};
use crate::minting::minter_of;
use crate::real_clients::stage;
use crate::support::client::{Tls, Wire};
use crate::support::netns::{CLIENT4, CLIENT6, Namespace, ORIGIN4, ORIGIN6, Office, have};
use crate::support::{Origin, Sekisho, Service, until};
use crate::upgrade::{assert_each_ends_once, gone};

/// Where what answers requests is.
const WEB4: &str = "198.51.100.8";
/// Of each echo of a tunnel that stays.
const SIZES: [u32; 3] = [1, 1_000, 100_000];

/// What comes and stays meanwhile. Whatever breaks ends its task with a panic.
struct Load {
    over: Arc<AtomicBool>,
    /// Tunnels that came and went, and curl's requests: tunnelled, inspected by HTTP/1.1 and by HTTP/2.
    came: [Arc<AtomicU64>; 5],
    tasks: Vec<JoinHandle<()>>,
}

/// A tunnel to the origin of echoes of one family.
async fn tunnel(client: &Namespace, to: SocketAddr) -> Wire<TlsStream<TcpStream>> {
    let name = if to.is_ipv4() { "tunnelled.test" } else { "six.test" };
    let client = client.clone();
    let connecting = tokio::task::spawn_blocking(move || client.connect(to));
    let wire = connecting.await.expect("it ran").expect("no connection is refused");
    Tls::named(name).over(wire).await
}

impl Load {
    async fn start(office: &Office, sekisho: &Sekisho) -> Self {
        let mut load = Self { over: Arc::default(), came: Default::default(), tasks: Vec::new() };
        for to in [at(FORGED4, 443), at(FORGED6, 443)] {
            for size in SIZES {
                let tunnel = tunnel(&office.client, to).await;
                load.tasks.push(tokio::spawn(stays(tunnel, size, Arc::clone(&load.over))));
            }
        }
        for (to, came) in [at(FORGED4, 443), at(FORGED6, 443)].into_iter().zip(&load.came) {
            let (over, came, client) = (Arc::clone(&load.over), Arc::clone(came), office.client.clone());
            load.tasks.push(tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let mut inside = tunnel(&client, to).await;
                    inside.send("ping").await;
                    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
                    inside.bye().await;
                    came.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        let asks = [
            ("web.test", "origins.pem", "--http1.1"),
            ("inspected.test", "ca-root.pem", "--http1.1"),
            ("inspected.test", "ca-root.pem", "--http2"),
        ];
        for ((host, root, version), came) in asks.into_iter().zip(&load.came[2..]) {
            let (over, came, client) = (Arc::clone(&load.over), Arc::clone(came), office.client.clone());
            let root = sekisho.path(root);
            load.tasks.push(tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let mut curl = client.command("curl");
                    curl.args(["-q", "-sS", "--fail", version, "--max-time", "20", "--cacert"]).arg(&root);
                    curl.arg("--resolve").arg(format!("{host}:443:{FORGED4}")).arg(format!("https://{host}/"));
                    let ran = stage::run(curl, "").await;
                    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "origin saw GET /"), "{host}: {ran:?}");
                    came.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    fn counts(&self) -> [u64; 5] {
        self.came.each_ref().map(|came| came.load(Ordering::Relaxed))
    }

    /// Some of each have come and gone, from now on.
    async fn goes_on(&self) {
        let before = self.counts();
        let all = || self.counts().iter().zip(before).all(|(now, before)| *now > before + 1);
        until("all that comes", || {
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "something broke");
            all().then_some(())
        })
        .await;
    }

    async fn end(self) -> [u64; 5] {
        self.over.store(true, Ordering::Relaxed);
        let Self { came, tasks, .. } = self;
        for task in tasks {
            task.await.expect("nothing broke");
        }
        came.map(|came| came.load(Ordering::Relaxed))
    }
}

async fn stays(mut inside: Wire<TlsStream<TcpStream>>, size: u32, over: Arc<AtomicBool>) {
    let sent: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    while !over.load(Ordering::Relaxed) {
        inside.send(&sent).await;
        assert!(inside.exactly(sent.len()).await.expect("a whole echo") == sent);
    }
    inside.bye().await;
}

/// Upgrades under steering: nothing is refused, nothing breaks, and where a client meant to go is known on both sides of each.
async fn upgrades(steering: &str, rules: &str, prepare: impl Fn(&Office)) {
    let rounds = rounds(3, 20);
    let office = Office::new();
    prepare(&office);
    office.load(rules);
    office.internet.counts_packets_of_clients();
    office.internet.ip(&["addr", "add", WEB4, "dev", "lo"]);
    let _echoes = [ORIGIN4, ORIGIN6].map(|ip| {
        let names = ["tunnelled.test", "six.test"];
        Origin::https(&names).echoing().start_on(office.internet.listen(at(ip, 443)))
    });
    let web = Origin::https(&["web.test", "inspected.test"]).expecting(&["x-allowed-org"]);
    let web = web.start_on(office.internet.listen(at(WEB4, 443)));
    let config = config(steering)
        .set("control", "socket", "\"control.sock\"")
        .service(Service::tunnel("Web", &["web.test"], 443))
        .host("web.test", WEB4)
        .host("inspected.test", WEB4);
    let mut sekisho = Sekisho::start_inside(&config, &office.gate).await;
    let load = Load::start(&office, &sekisho).await;
    load.goes_on().await;
    let mut old = Vec::new();
    for _ in 0..rounds {
        let minter = minter_of(&sekisho);
        old.push((sekisho.take_over().await, minter));
        load.goes_on().await;
    }
    let came = load.end().await;
    let minters: Vec<_> = old.iter().map(|(_, minter)| *minter).chain([minter_of(&sekisho)]).collect();
    assert!(minters.iter().enumerate().all(|(at, one)| !minters[..at].contains(one)), "each has its own: {minters:?}");
    for (process, minter) in old {
        gone(process).await;
        until("its minter's end", || test_kill_process(minter).is_err().then_some(())).await;
    }
    assert_eq!(office.internet.packets_of_clients(), 0, "packets of the clients on the internet's side");
    sekisho.lifecycle("taken_over", rounds).await;

    let expected = came.iter().sum::<u64>() + 2 * SIZES.len() as u64;
    let ended = sekisho.terminals("connection", expected).await;
    assert_eq!(ended.len() as u64, expected, "no connection but those that the clients know of");
    for record in &ended {
        record.says("allowed", "");
        let six = record.text("url.domain") == "six.test";
        let (from, meant) = if six { (CLIENT6, format!("[{FORGED6}]")) } else { (CLIENT4, FORGED4.to_owned()) };
        record.with("source.ip", from).with("sekisho.original_destination", &format!("{meant}:443"));
    }
    assert_each_ends_once(&sekisho.records());
    let marked = web.requests().iter().filter(|seen| seen.values("x-allowed-org") == ["city"]).count() as u64;
    assert_eq!(marked, came[3] + came[4], "every inspected request has its field");
    sekisho.counted().await;
    reports(&format!(
        "{rules}: {rounds} upgrades, {} tunnels stayed, came by IPv4 {}, by IPv6 {}, curl tunnelled {}, inspected by HTTP/1.1 {}, by HTTP/2 {}: 0 refused, 0 broken",
        2 * SIZES.len(),
        came[0],
        came[1],
        came[2],
        came[3],
        came[4],
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l07_steered_clients_notice_no_upgrade() {
    if have("upgrades under steering") && stage::have("upgrades under steering", &["curl"]) {
        upgrades("", "sekisho.nft", |_| {}).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l07_the_same_by_tproxy() {
    if have("upgrades under steering by tproxy") && stage::have("upgrades under steering by tproxy", &["curl"]) {
        upgrades("steering = \"tproxy\"\n", "sekisho-tproxy.nft", takes_what_is_marked).await;
    }
}
