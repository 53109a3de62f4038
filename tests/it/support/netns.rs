//! Only networks of a scene's own belong here: namespaces, joined by pairs of interfaces, with real packet filters. Root makes them.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream};

use super::client::Wire;

/// A network namespace; it is gone with the last handle.
#[derive(Clone)]
pub struct Namespace(Arc<Named>);

struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// Whether networks can be made here; where not, says why on standard error, past the test runner's capture.
pub fn have(scene: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let missing = ["ip", "nft"].into_iter().find(|program| Command::new(program).arg("-V").output().is_err());
    let why = match (root, missing) {
        (false, _) => "only root can make networks".to_owned(),
        (true, Some(program)) => format!("{program} is not installed; tests/run installs it"),
        (true, None) => return true,
    };
    crate::real_clients::stage::skipped(scene, &why);
    false
}

/// Runs it to its end, which has to be a good one.
#[track_caller]
fn must(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Namespace {
    #[track_caller]
    pub fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sk{}-{number}-{role}", std::process::id());
        must("ip", &["netns", "add", &name]);
        let new = Self(Arc::new(Named(name)));
        // An address that is looked for first comes a second late; a browser takes that for another network and gives its page up.
        new.enter(|| {
            for of in ["all", "default"] {
                let key = format!("/proc/sys/net/ipv6/conf/{of}/accept_dad");
                std::fs::write(&key, "0").unwrap_or_else(|error| panic!("{key}: {error}"));
            }
        });
        new.ip(&["link", "set", "lo", "up"]);
        new
    }

    pub fn name(&self) -> &str {
        &self.0.0
    }

    #[track_caller]
    pub fn ip(&self, arguments: &[&str]) {
        must("ip", &[&["-n", &self.0.0], arguments].concat());
    }

    /// A program inside, to its end.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        must("ip", &[&["netns", "exec", &self.0.0, program], arguments].concat())
    }

    /// A program inside, to be run.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0.0, program]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `work` on a thread that is inside: sockets and processes it makes stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(Path::new("/run/netns").join(&self.0.0)).expect("the namespace");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
                    .expect("a thread of root may change its network");
                work()
            });
            inside.join().expect("the thread inside")
        })
    }

    /// A connection from inside.
    pub fn connect(&self, to: SocketAddr) -> io::Result<Wire<TcpStream>> {
        self.connect_within(to, Duration::from_secs(5)).map(Wire::new)
    }

    #[expect(clippy::disallowed_methods, reason = "the client of these scenes, whose destination is the proxy")]
    pub fn connect_within(&self, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let stream = self.enter(|| std::net::TcpStream::connect_timeout(&to, limit))?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        TcpStream::from_std(stream)
    }

    pub fn listen(&self, at: SocketAddr) -> TcpListener {
        let listener = self.enter(|| std::net::TcpListener::bind(at)).expect("an address inside");
        listener.set_nonblocking(true).expect("a mode");
        TcpListener::from_std(listener).expect("a listener")
    }

    /// It passes packets on, as far as its filter lets it.
    pub fn forwards(&self) {
        self.enter(|| {
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(Path::new("/proc/sys/net").join(key), "1").expect("root may forward");
            }
        });
    }

    /// Loads a file of `deploy/nftables`.
    pub fn filters(&self, rules: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nftables").join(rules);
        self.run("nft", &["-f", file.to_str().expect("text")]);
    }

    /// The same, of which `edit` makes what is loaded.
    pub fn filters_with(&self, rules: &str, edit: impl FnOnce(&str) -> String) {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nftables").join(rules);
        let edited = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(edited.path(), edit(&std::fs::read_to_string(shipped).expect("the rules"))).expect("written");
        self.run("nft", &["-f", edited.path().to_str().expect("text")]);
    }

    /// Begins to count every packet of a terminal that comes here, by any means.
    pub fn counts_packets_of_clients(&self) {
        let watch = "table inet watch {\n counter past {}\n chain seen {\n type filter hook prerouting priority raw;\n\
                     ip saddr 10.20.0.0/16 counter name past\n ip6 saddr fd00:20::/48 counter name past\n}\n}\n";
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), watch).expect("written");
        self.run("nft", &["-f", file.path().to_str().expect("text")]);
    }

    /// How many those were.
    pub fn packets_of_clients(&self) -> u64 {
        packets(&self.run("nft", &["list", "counter", "inet", "watch", "past"]))
    }

    /// The packets that this counter of the shipped rules has seen.
    pub fn counted(&self, counter: &str) -> u64 {
        packets(&self.run("nft", &["list", "counter", "inet", "sekisho", counter]))
    }
}

/// Of one counter as nft lists it.
fn packets(listed: &str) -> u64 {
    let number = listed.split_whitespace().skip_while(|word| *word != "packets").nth(1);
    number.and_then(|number| number.parse().ok()).expect("a counter")
}

/// Terminals, the box that sekisho runs on, and the internet's side of it.
pub struct Office {
    pub client: Namespace,
    pub gate: Namespace,
    pub internet: Namespace,
}

/// Where origins are, on the internet's side.
pub const ORIGIN4: &str = "198.51.100.7";
pub const ORIGIN6: &str = "2001:db8:51::7";
/// A terminal's addresses.
pub const CLIENT4: &str = "10.20.0.2";
pub const CLIENT6: &str = "fd00:20::2";
/// The box, as terminals see it.
pub const GATE4: &str = "10.20.0.1";

impl Office {
    /// With forwarding on: what keeps packets from passing is the rules alone.
    pub fn new() -> Self {
        let [client, gate, internet] = ["client", "gate", "internet"].map(Namespace::new);
        let join = |one: (&Namespace, &str), other: (&Namespace, &str), nets: [(&str, &str); 2]| {
            let ends = ["link", "add", one.1, "type", "veth", "peer", "name", other.1, "netns", &other.0.0.0];
            one.0.ip(&ends);
            for (mine, others) in nets {
                for ((namespace, interface), address) in [(one, mine), (other, others)] {
                    let nodad: &[&str] = if address.contains("::") { &["nodad"] } else { &[] };
                    namespace.ip(&[&["addr", "add", address, "dev", interface], nodad].concat());
                }
            }
            for (namespace, interface) in [one, other] {
                namespace.ip(&["link", "set", interface, "up"]);
            }
        };
        let lan = [("10.20.0.2/16", "10.20.0.1/16"), ("fd00:20::2/64", "fd00:20::1/64")];
        join((&client, "eth0"), (&gate, "lan0"), lan);
        let wan = [("203.0.113.2/24", "203.0.113.1/24"), ("2001:db8:113::2/64", "2001:db8:113::1/64")];
        join((&gate, "wan0"), (&internet, "eth0"), wan);
        client.ip(&["route", "add", "default", "via", GATE4]);
        client.ip(&["-6", "route", "add", "default", "via", "fd00:20::1"]);
        gate.ip(&["route", "add", "default", "via", "203.0.113.1"]);
        gate.ip(&["-6", "route", "add", "default", "via", "2001:db8:113::1"]);
        internet.ip(&["addr", "add", ORIGIN4, "dev", "lo"]);
        internet.ip(&["addr", "add", ORIGIN6, "dev", "lo", "nodad"]);
        internet.ip(&["route", "add", "10.20.0.0/16", "via", "203.0.113.2"]);
        internet.ip(&["-6", "route", "add", "fd00:20::/48", "via", "2001:db8:113::2"]);
        let office = Self { client, gate, internet };
        office.forwarding("1");
        office
    }

    /// Whether the box forwards packets at all, `"1"` or `"0"`.
    pub fn forwarding(&self, on: &str) {
        self.gate.enter(|| {
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(Path::new("/proc/sys/net").join(key), on).expect("root may forward");
            }
        });
    }

    /// Loads a file of `deploy/nftables` into the box.
    pub fn load(&self, rules: &str) {
        self.gate.filters(rules);
    }
}
