//! Only the scene of a box whose sekisho is killed, stopped and started over and over belongs here, while terminals never stop trying to
//! get past it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, park_timeout};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use tokio::time::timeout;

use super::{FORGED4, FORGED6, at, config, reports, rounds};
use crate::real_clients::stage;
use crate::support::capture::{Capture, Packet};
use crate::support::client::{Tls, Wire};
use crate::support::netns::{CLIENT4, CLIENT6, Namespace, ORIGIN4, ORIGIN6, Office, have};
use crate::support::{Origin, Sekisho, until};

/// Somebody is there at the first of each family, and nobody at the second, which the internet's side sees just the same.
const DESTINATIONS: [[&str; 2]; 2] = [[ORIGIN4, FORGED4], [ORIGIN6, FORGED6]];
/// Two that are steered, and three that no rule knows.
const TCP: [u16; 5] = [443, 80, 22, 853, 8443];
const UDP: [u16; 3] = [443, 53, 3478];
/// A refusal comes at once, or not at all (icmp(7): `icmp_ratelimit`).
const REFUSAL: Duration = Duration::from_millis(20);
/// Between two tries of one terminal, so that the machine has time for the box.
const PACE: Duration = Duration::from_millis(3);
/// How often each way is tried while the box is as it is.
const ENOUGH: u64 = 20;

/// What can become of the process that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// As the kernel does where memory ends.
    Killed,
    /// As an allocation that fails ends it.
    Aborted,
    Ended,
    Stopped,
    KilledAtItsStart,
    /// It goes on; the rules are loaded again.
    RulesAgain,
}

const ACTS: [Act; 6] = [Act::Killed, Act::KilledAtItsStart, Act::Ended, Act::Aborted, Act::Stopped, Act::RulesAgain];

/// Terminals that try until they are told that it is over: each way in a thread of its own.
struct Terminals {
    over: Arc<AtomicBool>,
    /// TCP by IPv4 and IPv6, UDP by IPv4 and IPv6.
    tried: [Arc<AtomicU64>; 4],
    /// Echoes through tunnels.
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    tunnels: tokio::task::JoinHandle<()>,
}

impl Terminals {
    fn start(client: &Namespace) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let tried: [Arc<AtomicU64>; 4] = Default::default();
        let served = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for (way, tried) in tried.iter().enumerate() {
            let (client, over, tried) = (client.clone(), Arc::clone(&over), Arc::clone(tried));
            let tries = move || {
                let mut terminal = terminal(way);
                while !over.load(Ordering::Relaxed) {
                    tried.fetch_add(terminal(), Ordering::Relaxed);
                }
            };
            threads.push(thread::spawn(move || client.enter(tries)));
        }
        let tunnels = tokio::spawn(tunnels(client.clone(), Arc::clone(&over), Arc::clone(&served)));
        Self { over, tried, served, threads, tunnels }
    }

    fn counts(&self) -> [u64; 4] {
        self.tried.each_ref().map(|tried| tried.load(Ordering::Relaxed))
    }

    /// Every way has been tried as often as is enough, from now on.
    async fn try_on(&self) {
        let before = self.counts();
        let enough = || self.counts().iter().zip(before).all(|(now, before)| *now >= before + ENOUGH);
        until("tries of every way", || enough().then_some(())).await;
    }

    /// A tunnel carries something, from now on.
    async fn are_served(&self) {
        let before = self.served.load(Ordering::Relaxed);
        until("a tunnel that carries", || (self.served.load(Ordering::Relaxed) > before + 1).then_some(())).await;
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no terminal failed");
        }
        self.tunnels.await.expect("no tunnel panicked");
    }
}

/// One round of a way: how many tries it was.
fn terminal(way: usize) -> Box<dyn FnMut() -> u64> {
    let destinations = DESTINATIONS[way % 2];
    if way < 2 {
        return Box::new(move || {
            for to in destinations.iter().flat_map(|ip| TCP.map(|port| at(ip, port))) {
                try_tcp(to);
                park_timeout(PACE);
            }
            (destinations.len() * TCP.len()) as u64
        });
    }
    let socket = UdpSocket::bind(at([CLIENT4, CLIENT6][way % 2], 0)).expect("a socket");
    Box::new(move || {
        for to in destinations.iter().flat_map(|ip| UDP.map(|port| at(ip, port))) {
            // A refusal of the one before may be told here.
            let _ = socket.send_to(b"hello", to);
            park_timeout(PACE);
        }
        (destinations.len() * UDP.len()) as u64
    })
}

#[expect(clippy::disallowed_methods, reason = "a terminal of these scenes, whose destination is its own affair")]
fn try_tcp(to: SocketAddr) {
    drop(std::net::TcpStream::connect_timeout(&to, REFUSAL));
}

/// Opens a tunnel, has it carry something again and again until it breaks, and opens another.
async fn tunnels(client: Namespace, over: Arc<AtomicBool>, served: Arc<AtomicU64>) {
    let tls = Tls::named("tunnelled.test");
    while !over.load(Ordering::Relaxed) {
        let client = client.clone();
        let connecting = tokio::task::spawn_blocking(move || client.connect_within(at(FORGED4, 443), REFUSAL));
        let Ok(stream) = connecting.await.expect("it ran") else {
            tokio::time::sleep(PACE).await;
            continue;
        };
        let Ok(Ok(mut inside)) = timeout(Duration::from_secs(1), tls.try_over(Wire::new(stream))).await else {
            continue;
        };
        let echo = async |inside: &mut Wire<_>| {
            inside.try_send("ping").await.ok()?;
            inside.exactly(4).await
        };
        while let Ok(Some(_)) = timeout(Duration::from_secs(1), echo(&mut inside)).await {
            served.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PACE).await;
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

struct Siege {
    office: Office,
    sekisho: Sekisho,
    terminals: Terminals,
    /// Descriptors of a process that is ready and has no client.
    ready: u64,
    /// Processes that were killed before their first line.
    unready: usize,
}

impl Siege {
    fn starts(&self) -> usize {
        self.sekisho.records().iter().filter(|record| record.text("sekisho.lifecycle") == "start").count()
    }

    /// What was asked of the process has happened, the terminals went on trying, and it serves again.
    async fn round(&mut self, number: usize) {
        let act = ACTS[number % ACTS.len()];
        match act {
            Act::Killed => self.sekisho.kill().await,
            Act::Aborted => {
                self.sekisho.signal(Signal::ABORT);
                self.sekisho.kill_was_seen().await;
            }
            Act::Ended => {
                self.sekisho.signal(Signal::TERM);
                // While it drains, and behind it.
                self.terminals.try_on().await;
                self.sekisho.exit().await;
            }
            Act::KilledAtItsStart => {
                self.sekisho.kill().await;
                self.kill_one_that_starts(number as u64).await;
            }
            Act::Stopped => self.sekisho.signal(Signal::STOP),
            Act::RulesAgain => self.office.load("sekisho.nft"),
        }
        self.terminals.try_on().await;
        match act {
            Act::Stopped => self.sekisho.signal(Signal::CONT),
            Act::RulesAgain => {}
            Act::Killed | Act::Aborted | Act::Ended | Act::KilledAtItsStart => self.sekisho.start_again().await,
        }
        self.terminals.are_served().await;
        assert_eq!(self.office.internet.packets_of_clients(), 0, "round {number}, {act:?}: packets got past");
    }

    /// It is further at every turn: measured by the descriptors that it has.
    async fn kill_one_that_starts(&mut self, turn: u64) {
        let before = self.starts();
        self.sekisho.begin_again(&[]);
        let far = turn * 3 % self.ready;
        until("a start that is so far", || (self.sekisho.descriptors() >= far).then_some(())).await;
        self.sekisho.kill().await;
        self.unready += usize::from(self.starts() == before);
    }

    /// Without the rules both watches see them.
    async fn lift(&self, capture: &Capture) -> SystemTime {
        let lifted = SystemTime::now();
        self.office.gate.run("nft", &["flush", "ruleset"]);
        for network in ["10.20.", "fd00:20:"] {
            let seen = |packet: &Packet| packet.source.starts_with(network);
            until("packets that got past", || capture.packets().iter().any(seen).then_some(())).await;
        }
        assert!(self.office.internet.packets_of_clients() > 0, "the counter counts");
        lifted
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o02_o03_o06_nothing_gets_past_a_box_that_is_killed_stopped_and_started_all_the_time() {
    if !have("a box under siege") || !stage::have("a box under siege", &["tcpdump"]) {
        return;
    }
    let rounds = rounds(10, 100);
    let office = Office::new();
    office.load("sekisho.nft");
    office.internet.counts_packets_of_clients();
    let capture = Capture::start(&office.internet).await;
    let origin = Origin::https(&["tunnelled.test"]).echoing().start_on(office.internet.listen(at(ORIGIN4, 443)));
    let config = config("").set("timeouts", "drain", "\"1s\"");
    let sekisho = Sekisho::start_inside(&config, &office.gate).await;
    let ready = sekisho.descriptors();
    let terminals = Terminals::start(&office.client);
    terminals.are_served().await;
    let mut siege = Siege { office, sekisho, terminals, ready, unready: 0 };
    for number in 0..rounds {
        siege.round(number).await;
    }
    let tried = siege.terminals.counts();
    let served = siege.terminals.served.load(Ordering::Relaxed);
    let lifted = siege.lift(&capture).await;
    siege.terminals.end().await;

    let lifted = lifted.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let (before, behind): (Vec<_>, Vec<_>) = capture.end().await.into_iter().partition(|packet| packet.at < lifted);
    let past: Vec<_> = before.iter().filter(|packet| packet.is_of_a_client()).collect();
    assert!(past.is_empty(), "{past:#?}");
    let unready = siege.unready;
    reports(&format!(
        "siege: {rounds} rounds, {unready} processes killed before they were ready; tried TCP by IPv4 {}, by IPv6 {}, UDP by IPv4 {}, by \
         IPv6 {}; served {served} echoes through {} connections; on the internet's side {} packets of the box, 0 of clients; \
         without the rules {} of clients",
        tried[0],
        tried[1],
        tried[2],
        tried[3],
        origin.connects(),
        before.len(),
        behind.iter().filter(|packet| packet.is_of_a_client()).count(),
    ));
    assert!(!before.is_empty(), "the box's own packets are seen");
    assert!(unready > 0, "none was killed before its first line");
}
