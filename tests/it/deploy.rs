//! Only scenes with the files of `deploy/` belong here: what the service manager, the packet filter, the monitoring and the timer are
//! given, each checked by the program that reads it and tried on the real binary. The package and a booted systemd are `tests/package`'s.

mod crl;
mod monitoring;
mod units;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::real_clients::stage::have;
use super::support::netns::{self, Office};
use super::support::sekisho::text;

/// A file of `deploy/`.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// What it wrote, which has to have ended well.
#[track_caller]
fn good(output: &Output) -> String {
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}

fn run(command: &mut Command) -> Output {
    command.output().expect("it runs")
}

/// Of every text file below `deploy/` that begins as a shell script does.
#[test]
fn the_shell_scripts_are_clean() {
    if !have("shell scripts", &["shellcheck"]) {
        return;
    }
    let scripts =
        ["crl/crl-fetch", "debian/build", "debian/postinst", "debian/prerm", "debian/postrm", "../tests/package"];
    let said = good(&run(Command::new("shellcheck").args(scripts.map(shipped))));
    assert_eq!(said, "");
}

/// A key that this kernel does not have would be an error at each boot; one that needs a module is marked as such.
#[test]
fn the_kernel_has_every_setting() {
    let text = std::fs::read_to_string(shipped("sysctl.d/60-sekisho.conf")).expect("the file");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        let (key, value) = line.split_once(" = ").expect(line);
        let path = Path::new("/proc/sys").join(key.trim_start_matches('-').replace('.', "/"));
        assert!(key.starts_with('-') || path.exists(), "{line}");
        assert!(value.split(' ').all(|number| number.parse::<u64>().is_ok()), "{line}");
    }
}

/// Nothing gets past this machine where forwarding is off, and browsers are told at once that there is no QUIC.
#[tokio::test]
async fn a16_without_forwarding_quic_is_refused_and_counted_too() {
    if !netns::have("QUIC without forwarding") {
        return;
    }
    let office = Office::new();
    for rules in ["sekisho.nft", "sekisho-tproxy.nft"] {
        office.load(rules);
        for on in ["0", "1"] {
            office.forwarding(on);
            for to in [netns::ORIGIN4, netns::ORIGIN6] {
                let before = office.gate.counted("quic_refused");
                let socket = office.client.enter(|| std::net::UdpSocket::bind((unspecified(to), 0))).expect("a socket");
                socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a limit");
                socket.connect((to, 443)).expect("a route");
                socket.send(b"quic").expect("sent");
                let answer = socket.recv(&mut [0; 1]).map_err(|error| error.kind());
                assert_eq!(answer, Err(std::io::ErrorKind::ConnectionRefused), "{rules}, forwarding {on}, {to}");
                assert_eq!(office.gate.counted("quic_refused"), before + 1, "{rules}, forwarding {on}, {to}");
            }
        }
    }
}

fn unspecified(to: &str) -> &'static str {
    if to.contains(':') { "::" } else { "0.0.0.0" }
}

/// What `sekisho-nftables.service` does with a file that has an error in it, with forwarding on.
#[tokio::test]
async fn a_site_s_broken_rules_leave_the_machine_closed() {
    if !netns::have("broken rules") {
        return;
    }
    let office = Office::new();
    let origin = office.internet.listen(std::net::SocketAddr::new(netns::ORIGIN4.parse().expect("an address"), 443));
    let to = origin.local_addr().expect("an address");
    office.client.connect(to).expect("without rules it passes");
    office.load("closed.nft");
    let broken = tempfile::NamedTempFile::new().expect("a file");
    let whole = std::fs::read_to_string(shipped("nftables/sekisho.nft")).expect("the file");
    std::fs::write(broken.path(), whole.replace("hook forward", "hook backward")).expect("written");
    let refused = office.gate.enter(|| run(Command::new("nft").arg("-f").arg(broken.path())));
    assert!(!refused.status.success() && text(&refused.stderr).contains("unknown chain hook"), "{refused:?}");
    let past = office.client.connect(to).err().map(|error| error.kind());
    assert_eq!(past, Some(std::io::ErrorKind::TimedOut));
    // The whole file takes the place of the closed one.
    office.load("sekisho.nft");
    let past = office.client.connect(std::net::SocketAddr::new(to.ip(), 80)).err().map(|error| error.kind());
    assert_eq!(past, Some(std::io::ErrorKind::ConnectionRefused), "steered to a port on which nobody listens");
}
