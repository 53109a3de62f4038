//! Nothing that was given up comes back, so each of these has a process of its own: this very program, told by an ignored test what to do.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Signal, chroot, getppid, getrlimit, kill_process, pidfd_open, prlimit,
    set_dumpable_behavior,
};
use rustix::thread::{CapabilitySet, sched_getaffinity, sched_setaffinity};
use seccompiler::{TargetArch, apply_filter_all_threads, compile_from_json};
use socket2::{Domain, Socket, Type};

use super::*;

const FOLDER: &str = "SEKISHO_RESTRICT_FOLDER";
const PORTS: &str = "SEKISHO_RESTRICT_PORTS";
const WITHOUT: &str = "SEKISHO_RESTRICT_WITHOUT";
const ROLE: &str = "SEKISHO_RESTRICT_ROLE";

/// Runs this test of this program with a folder that has `read`, `write` and `other`, and says how it ended.
fn child(test: &str, ports: [u16; 2], role: &str, without: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["read", "write", "own", "other"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
        fs::write(folder.path().join(name).join("file"), name).expect("a file");
    }
    Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .env(PORTS, format!("{} {}", ports[0], ports[1]))
        .env(WITHOUT, without)
        .env(ROLE, role)
        .output()
        .expect("it runs")
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    // The harness writes the test's name in front of the first line, without a line break.
    let told = text.lines().filter_map(|line| line.find("TOLD ").and_then(|at| line.get(at + 5..)));
    told.map(str::to_owned).collect()
}

fn tell(what: &str, outcome: &str) {
    let _ = writeln!(io::stdout(), "TOLD {what}: {outcome}");
}

fn reach(folder: &Path, ports: &[u16]) -> Reach {
    let folder = folder.canonicalize().expect("a path");
    let allowed = ports.iter().take(1).copied();
    let read = [folder.join("read"), "/proc/self".into()];
    Reach {
        read: read.into_iter().filter_map(|path: PathBuf| path.canonicalize().ok()).collect(),
        write: [folder.join("write")].into(),
        own: [folder.join("own")].into(),
        listen: [0].into(),
        connect: allowed.collect(),
        capabilities: CapabilitySet::empty(),
        secrets: [folder.join("other/file")].into(),
        obeyed: [folder.join("read")].into(),
    }
}

fn applied() -> (PathBuf, Vec<u16>, Restriction) {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("told by the test"));
    let ports: Vec<u16> =
        std::env::var(PORTS).expect("told").split(' ').map(|port| port.parse().expect("a port")).collect();
    let role = if std::env::var(ROLE).is_ok_and(|role| role == "minting") { Role::Minting } else { Role::Serving };
    let restriction = apply(role, reach(&folder, &ports));
    (folder, ports, restriction)
}

/// What was tried, in a word; EACCES is Landlock's answer, EPERM seccomp's.
fn word<T>(tried: io::Result<T>) -> String {
    match tried {
        Ok(_) => "done".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(13) => "EACCES".to_owned(),
            Some(1) => "EPERM".to_owned(),
            _ => error.to_string(),
        },
    }
}

fn dial(port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
}

fn kernel(family: AddressFamily, kind: SocketType) -> io::Result<()> {
    Ok(socket(family, kind, None).map(drop)?)
}

#[test]
#[ignore = "a process of its own, for the tests below"]
fn forbidden_things_are_tried() {
    let (folder, ports, restriction) = applied();
    for (kind, why_not) in restriction.results() {
        tell(kind.as_str(), why_not.unwrap_or("holds"));
    }
    let path = |name: &str| folder.join(name);
    for name in ["read", "read/file", "write", "write/file", "own"] {
        let exposed = restriction.exposes(&reach(&folder, &ports), &[folder.join(name)].into());
        tell(&format!("exposed {name}"), if exposed.is_some() { "yes" } else { "no" });
    }
    tell("read", &word(fs::read(path("read/file"))));
    for flags in [OFlags::RDONLY, OFlags::from_bits_retain(3)] {
        let tried = open(path("read/file"), flags | OFlags::TRUNC, Mode::empty());
        tell("cut short while reading", &word(tried.map_err(io::Error::from)));
    }
    tell("read own state", &word(fs::read("/proc/self/status")));
    tell("read elsewhere", &word(fs::read(path("other/file"))));
    tell("read /etc/shadow", &word(fs::read("/etc/shadow")));
    tell("write", &word(fs::write(path("write/new"), "x")));
    tell("write where only read", &word(fs::write(path("read/new"), "x")));
    tell("remove", &word(fs::remove_file(path("write/file"))));
    tell("rename its own", &word(fs::rename(path("own/file"), path("own/new"))));
    tell("make a socket", &word(std::os::unix::net::UnixListener::bind(path("own/socket"))));
    tell("make a socket elsewhere", &word(std::os::unix::net::UnixListener::bind(path("write/socket"))));
    tell("connect", &word(dial(ports[0])));
    tell("connect elsewhere", &word(dial(ports[1])));
    tell("listen", &word(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))));
    tell("listen elsewhere", &word(TcpListener::bind((Ipv4Addr::LOCALHOST, ports[1] ^ 1))));
    tell("execve", &word::<()>(Err(Command::new("/bin/true").exec())));
    tell("fork", &word(Command::new("/bin/true").spawn()));
    tell("kill", &word(kill_process(getppid().unwrap_or(Pid::INIT), Signal::CONT).map_err(io::Error::from)));
    let parent = getppid();
    tell(
        "limits of another",
        &word(prlimit(parent, Resource::Nofile, getrlimit(Resource::Nofile)).map_err(io::Error::from)),
    );
    tell("own limits", &word(prlimit(None, Resource::Nofile, getrlimit(Resource::Nofile)).map_err(io::Error::from)));
    let processors = sched_getaffinity(None).expect("known");
    tell("processors of another", &word(sched_setaffinity(parent, &processors).map_err(io::Error::from)));
    tell("own processors", &word(sched_setaffinity(None, &processors).map_err(io::Error::from)));
    tell("pidfd_open", &word(pidfd_open(Pid::INIT, PidfdFlags::empty()).map_err(io::Error::from)));
    tell("chroot", &word(chroot(c"/").map_err(io::Error::from)));
    tell("dumpable", &word(set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(io::Error::from)));
    tell("netlink", &word(kernel(AddressFamily::NETLINK, SocketType::RAW)));
    tell("raw", &word(kernel(AddressFamily::INET, SocketType::RAW)));
    tell("unix", &word(kernel(AddressFamily::UNIX, SocketType::STREAM)));
    let thread = std::thread::spawn(move || word(fs::read("/etc/shadow")));
    tell("a thread", &thread.join().expect("joined"));
}

/// What this machine's kernel cannot do is no failure of ours, and is said.
fn has_landlock() -> bool {
    let version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = version.split('.').filter_map(|part| part.parse::<u32>().ok());
    let recent = (parts.next(), parts.next()) >= (Some(6), Some(12));
    if !recent {
        eprintln!("SKIPPED: Linux {version} cannot restrict all of it");
    }
    recent
}

#[test]
fn j07_o_what_was_given_up_is_gone() {
    if !has_landlock() {
        return;
    }
    let listening = [0, 0].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port"));
    let ports = [0, 1].map(|at: usize| listening[at].local_addr().expect("an address").port());
    let output = child("restrict::tests::forbidden_things_are_tried", ports, "serving", "");
    let told: Vec<String> = lines(&output).into_iter().filter(|line| !line.starts_with("every_thread: ")).collect();
    let expected = [
        "dumps: holds",
        "capabilities: holds",
        "files: holds",
        "tcp_ports: holds",
        "signals: holds",
        "system_calls: holds",
        "issuing_key: holds",
        "configuration: holds",
        "exposed read: no",
        "exposed read/file: no",
        "exposed write: yes",
        "exposed write/file: yes",
        "exposed own: yes",
        "read: done",
        "cut short while reading: EPERM",
        "cut short while reading: EPERM",
        "read own state: done",
        "read elsewhere: EACCES",
        "read /etc/shadow: EACCES",
        "write: done",
        "write where only read: EACCES",
        "remove: EACCES",
        "rename its own: done",
        "make a socket: done",
        "make a socket elsewhere: EACCES",
        "connect: done",
        "connect elsewhere: EACCES",
        "listen: done",
        "listen elsewhere: EACCES",
        "execve: EPERM",
        "fork: EPERM",
        "kill: EPERM",
        "limits of another: EPERM",
        "own limits: done",
        "processors of another: EPERM",
        "own processors: done",
        "pidfd_open: EPERM",
        "chroot: EPERM",
        "dumpable: EPERM",
        "netlink: EPERM",
        "raw: EPERM",
        "unix: done",
        "a thread: EACCES",
    ];
    assert_eq!(told, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn j07_the_minting_process_has_no_network() {
    if !has_landlock() {
        return;
    }
    let output = child("restrict::tests::forbidden_things_are_tried", [1, 3], "minting", "");
    let told = lines(&output);
    for line in
        ["connect: EPERM", "listen: EPERM", "unix: EPERM", "execve: EPERM", "read: done", "read elsewhere: EACCES"]
    {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
}

#[test]
#[ignore = "a process of its own, for the test below"]
fn a_kernel_that_lacks_something_is_restricted() {
    let without = std::env::var(WITHOUT).expect("told by the test");
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture");
    let rule = serde_json::json!({"a": {"mismatch_action": "allow", "match_action": {"errno": 38}, "filter": [{"syscall": without}]}});
    let compiled = compile_from_json(rule.to_string().as_bytes(), arch).expect("a filter");
    apply_filter_all_threads(&compiled["a"]).expect("applied");
    let (folder, ports, restriction) = applied();
    for (kind, why_not) in restriction.results() {
        tell(kind.as_str(), why_not.unwrap_or("holds"));
    }
    let mut wider = reach(&folder, &ports);
    wider.read.insert("/somewhere".into());
    wider.connect.insert(25);
    tell("missing", &format!("{:?}", restriction.missing(&wider)));
}

#[test]
fn what_a_kernel_lacks_is_reported_and_not_assumed() {
    if !has_landlock() {
        return;
    }
    let no_landlock = "this kernel has no Landlock: Linux 5.13 or later";
    for (call, kinds, why, missing) in [
        ("landlock_create_ruleset", &["files", "tcp_ports", "signals"][..], no_landlock, "[]"),
        (
            "capset",
            &["capabilities"],
            "capabilities could not be given up: Function not implemented (os error 38)",
            "[Read(\"/somewhere\"), Connect(25)]",
        ),
        (
            "seccomp",
            &["system_calls"],
            "system calls could not be restricted: Error calling `seccomp`: Function not implemented (os error 38)",
            "[Read(\"/somewhere\"), Connect(25)]",
        ),
        (
            "prlimit64",
            &["dumps"],
            "core dumps could not be switched off: Function not implemented (os error 38)",
            "[Read(\"/somewhere\"), Connect(25)]",
        ),
    ] {
        let output = child("restrict::tests::a_kernel_that_lacks_something_is_restricted", [1, 3], "serving", call);
        let told = lines(&output);
        let lacking: Vec<&String> = told
            .iter()
            .filter(|line| {
                !line.ends_with(": holds") && !line.starts_with("every_thread") && !line.starts_with("missing")
            })
            .filter(|line| !line.starts_with("issuing_key") && !line.starts_with("configuration"))
            .collect();
        let expected: Vec<String> = kinds.iter().map(|kind| format!("{kind}: {why}")).collect();
        assert_eq!(lacking, expected.iter().collect::<Vec<_>>(), "{call}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains(&format!("missing: {missing}")), "{call}: {told:?}");
        // Where nothing keeps it from a path, owners and modes do, and they let it.
        let exposed = told.iter().any(|line| line.starts_with("configuration: the process that serves could write /"));
        assert_eq!(exposed, call == "landlock_create_ruleset", "{call}: {told:?}");
    }
}

#[test]
fn who_did_not_restrict_itself_misses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["read", "write", "own", "other"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    assert_eq!(Restriction::default().missing(&reach(folder.path(), &[1, 2])), []);
}
