//! Only a pair of boxes belongs here: two machines between the same two switches, with the services on them that decide which one clients
//! come to.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::netns::{CLIENT4, CLIENT6, GATE4, Namespace, ORIGIN4};
use super::until;

/// The boxes' own addresses, and the balancer's.
pub const SELF4: [&str; 2] = ["10.20.0.2", "10.20.0.3"];
const SELF6: [&str; 2] = ["fd00:20::2", "fd00:20::3"];
const WAN4: [&str; 2] = ["203.0.113.2", "203.0.113.3"];
const WAN6: [&str; 2] = ["2001:db8:113::2", "2001:db8:113::3"];
pub const BALANCER4: &str = "10.20.0.4";
/// What IPv6 terminals have as their gateway.
const GATEWAY6: &str = "fe80::20:1";
/// A terminal of the pair's office: the boxes have the first addresses.
pub const TERMINAL4: &str = "10.20.0.9";
const TERMINAL6: &str = "fd00:20::9";

/// A terminal, two boxes, and the internet's side, each on its switch.
pub struct Pair {
    pub client: Namespace,
    pub boxes: [Namespace; 2],
    pub balancer: Namespace,
    /// The switch of the clients' side.
    lan: Namespace,
    /// The line's side: a switch, and a router behind it.
    pub internet: Namespace,
}

impl Pair {
    pub fn new() -> Self {
        assert!(CLIENT4 != TERMINAL4 && CLIENT6 != TERMINAL6, "the office of one box has its own plan");
        let [client, a, b, balancer, lan, internet] =
            ["client", "a", "b", "balancer", "lan", "internet"].map(Namespace::new);
        for switch in [&lan, &internet] {
            switch.ip(&["link", "add", "br0", "type", "bridge"]);
            switch.ip(&["link", "set", "br0", "up"]);
        }
        let pair = Self { client, boxes: [a, b], balancer, lan, internet };
        plug(&pair.client, "eth0", &pair.lan, "p-client", &[(TERMINAL4, 16), (TERMINAL6, 64)]);
        plug(&pair.balancer, "lan0", &pair.lan, "p-balancer", &[(BALANCER4, 16)]);
        for (n, each) in pair.boxes.iter().enumerate() {
            plug(each, "lan0", &pair.lan, port(n), &[(SELF4[n], 16), (SELF6[n], 64)]);
            plug(each, "wan0", &pair.internet, port(n), &[(WAN4[n], 24), (WAN6[n], 64)]);
            each.ip(&["route", "add", "default", "via", "203.0.113.1"]);
            each.ip(&["-6", "route", "add", "default", "via", "2001:db8:113::1"]);
            each.forwards();
        }
        pair.internet.ip(&["addr", "add", "203.0.113.1/24", "dev", "br0"]);
        pair.internet.ip(&["addr", "add", "2001:db8:113::1/64", "dev", "br0", "nodad"]);
        pair.internet.ip(&["addr", "add", ORIGIN4, "dev", "lo"]);
        pair.client.ip(&["route", "add", "default", "via", GATE4]);
        pair.client.ip(&["-6", "route", "add", "default", "via", GATEWAY6, "dev", "eth0"]);
        pair.internet.counts_packets_of_clients();
        pair
    }

    /// The box of this number loses its cable on the clients' side, or has it back.
    pub fn cable(&self, number: usize, state: &str) {
        self.lan.ip(&["link", "set", port(number), state]);
    }

    /// The same on the line's side.
    pub fn line(&self, number: usize, state: &str) {
        self.internet.ip(&["link", "set", port(number), state]);
    }

    /// The switch passes nothing of this box on, which sees nothing of that; or does again.
    pub fn silence(&self, number: usize, silent: bool) {
        let words: &[&str] = if silent { &["nomaster"] } else { &["master", "br0"] };
        self.lan.ip(&[&["link", "set", port(number)], words].concat());
    }

    /// Which box has which of the two addresses, IPv4 and IPv6.
    pub fn holders(&self) -> [[bool; 2]; 2] {
        [0, 1].map(|number| {
            let addresses = self.boxes[number].run("ip", &["-oneline", "address", "show", "dev", "lan0"]);
            [GATE4, GATEWAY6].map(|address| addresses.contains(&format!(" {address}/")))
        })
    }

    /// The one box that has both, and the other has neither.
    pub async fn holder(&self) -> usize {
        until("one box has both addresses", || {
            self.holders().iter().position(|held| *held == [true; 2]).filter(|one| self.is_held_by(*one))
        })
        .await
    }

    pub fn is_held_by(&self, number: usize) -> bool {
        self.holders()[number] == [true; 2] && self.holders()[1 - number] == [false; 2]
    }
}

fn port(number: usize) -> &'static str {
    ["p-a", "p-b"][number]
}

/// A cable from an interface of `machine` to a port of the switch.
fn plug(machine: &Namespace, interface: &str, switch: &Namespace, port: &str, addresses: &[(&str, u8)]) {
    switch.ip(&["link", "add", port, "type", "veth", "peer", "name", interface, "netns", machine.name()]);
    switch.ip(&["link", "set", port, "master", "br0", "up"]);
    machine.ip(&["link", "set", interface, "up"]);
    for (address, length) in addresses {
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        machine.ip(&[&["addr", "add", &format!("{address}/{length}"), "dev", interface], nodad].concat());
    }
}

/// A service of a box as it is shipped: its program, what it is told, what it said.
pub struct Daemon {
    pub dir: TempDir,
    child: Child,
}

impl Daemon {
    /// `arguments` with `FILE` for the configuration and `DIR` for a directory of its own.
    pub fn start(inside: &Namespace, program: &str, arguments: &[&str], configuration: &str) -> Self {
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join("configuration");
        fs::write(&file, configuration).expect("written");
        let log = File::create(dir.path().join("log")).expect("a log");
        let mut command = inside.command(program);
        for argument in arguments {
            let argument = argument.replace("FILE", file.to_str().expect("text"));
            command.arg(argument.replace("DIR", dir.path().to_str().expect("text")));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Self { child: command.spawn().expect("it starts"), dir }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid")
    }

    /// The process and, where it has any, those that it started, without a chance to tidy up.
    pub fn kill_all(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        // First: they would notice.
        for child in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(child, Signal::STOP);
        }
        self.kill();
        for child in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(child, Signal::KILL);
        }
    }

    /// The process alone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(self.pid(), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// A file below `deploy/`.
pub fn shipped(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)).expect(file)
}

/// keepalived of this box as it is shipped, with the definitions of this box, and its admin listener.
pub fn keepalived(pair: &Pair, number: usize, admin: std::net::SocketAddr) -> Daemon {
    let other = 1 - number;
    let own = [
        ("$SELF4=", SELF4[number]),
        ("$PEER4=", SELF4[other]),
        ("$SELF6=", SELF6[number]),
        ("$PEER6=", SELF6[other]),
        ("$PRIORITY=", ["110", "100"][number]),
    ];
    let text = shipped("keepalived/keepalived.conf");
    let text = text.lines().map(|line| match own.iter().find(|(definition, _)| line.starts_with(definition)) {
        Some((definition, value)) => format!("{definition}{value}\n"),
        None => format!("{line}\n"),
    });
    let text: String = text.collect();
    let shown = "http://127.0.0.1:9090/readyz";
    assert!(text.contains(shown), "the check asks the admin listener");
    let text = text.replace(shown, &format!("http://{admin}/readyz"));
    let arguments = ["--dont-fork", "--log-console", "--vrrp", "-f", "FILE", "-p", "DIR/pid", "-r", "DIR/vrrp.pid"];
    Daemon::start(&pair.boxes[number], "keepalived", &arguments, &text)
}
