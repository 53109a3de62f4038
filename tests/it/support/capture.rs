//! Only the capture of what arrives at an interface belongs here, by a real tcpdump.

use std::fs::{self, File};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::netns::Namespace;
use super::until;

/// Every IP packet that arrives at `eth0` of a network, from the start on.
pub struct Capture {
    child: Child,
    dir: TempDir,
}

/// One packet: seconds since the epoch, and its source, with the port where it has one.
#[derive(Debug)]
pub struct Packet {
    pub at: f64,
    pub source: String,
}

impl Packet {
    /// Of the network of the clients.
    pub fn is_of_a_client(&self) -> bool {
        self.source.starts_with("10.20.") || self.source.starts_with("fd00:20:")
    }
}

impl Capture {
    pub async fn start(network: &Namespace) -> Self {
        let dir = TempDir::new().expect("a directory");
        let file = |name: &str| File::create(dir.path().join(name)).expect("a file");
        let mut command = network.command("tcpdump");
        // In lines as they come; a buffer that holds what arrives while the machine has other things to do.
        command.args(["-i", "eth0", "-Q", "in", "-n", "-tt", "-q", "-l", "-p", "-B", "16384", "--immediate-mode"]);
        command.args(["-s", "96", "ip or ip6"]).stdout(file("packets")).stderr(file("said")).stdin(Stdio::null());
        let capture = Self { child: command.spawn().expect("tcpdump starts"), dir };
        until("the capture", || capture.said().contains("listening on eth0").then_some(())).await;
        capture
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }

    fn read(&self) -> String {
        fs::read_to_string(self.dir.path().join("packets")).expect("UTF-8")
    }

    /// Those of now. The last line may not be whole yet.
    pub fn packets(&self) -> Vec<Packet> {
        let text = self.read();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let packet = |line: &str| {
            let mut words = line.split(' ');
            let at = words.next()?.parse().ok()?;
            matches!(words.next()?, "IP" | "IP6").then_some(())?;
            Some(Packet { at, source: words.next()?.to_owned() })
        };
        whole.lines().map(|line| packet(line).unwrap_or_else(|| panic!("a packet: {line}"))).collect()
    }

    /// Ends it, and gives all. A packet that the kernel did not pass on to it fails the scene.
    pub async fn end(mut self) -> Vec<Packet> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, Signal::INT).expect("it is there");
        until("the capture's end", || self.child.try_wait().expect("wait")).await;
        let said = self.said();
        assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
        self.packets()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
