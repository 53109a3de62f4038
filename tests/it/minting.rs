//! Only scenes about the process that has the issuing key belong here: who holds it, what the other one is given, how both end.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};

use super::support::by_hand::inside;
use super::support::client::Tls;
use super::support::sekisho::{APART, apart, binary, run, text};
use super::support::{Config, Origin, Sekisho, Service, until, within};

/// The process that `sekisho run` started.
pub fn minter_of(sekisho: &Sekisho) -> Pid {
    let parent = sekisho.pid().as_raw_nonzero().to_string();
    let processes = fs::read_dir("/proc").expect("proc").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let child_of = |pid: &String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // pid (name) state ppid: the name may hold anything.
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1).map(str::to_owned)) == Some(parent.clone())
    };
    let children: Vec<String> =
        processes.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).filter(child_of).collect();
    let [child] = &children[..] else { panic!("one child: {children:?}") };
    let line = fs::read(format!("/proc/{child}/cmdline")).expect("cmdline");
    assert_eq!(line.split(|b| *b == 0).nth(1), Some(&b"mint"[..]));
    Pid::from_raw(child.parse().expect("a pid")).expect("a pid")
}

/// Whether the process's writable memory holds one of the needles.
fn holds(pid: Pid, needles: &[Vec<u8>]) -> bool {
    let pid = pid.as_raw_nonzero();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).expect("mem");
    let mut searched = 0;
    let mut found = false;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().expect("a range").split_once('-').expect("a range");
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        let mut block = vec![0; usize::try_from(to - from).expect("small")];
        memory.seek(SeekFrom::Start(from)).expect("seek");
        // What cannot be read (a guard page, a device) holds nothing of ours.
        if memory.read_exact(&mut block).is_ok() {
            searched += block.len();
            found |= needles.iter().any(|needle| memchr::memmem::find(&block, needle).is_some());
        }
    }
    assert!(searched > 1 << 20, "{searched} octets were searched");
    found
}

/// The key's secret scalar, and a line of its PEM.
fn secrets(sekisho: &Sekisho) -> [Vec<u8>; 2] {
    let pem = fs::read_to_string(sekisho.path("ca.key")).expect("ca.key");
    let (_, parsed) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    // PKCS#8 of a P-256 key, as `ca init` writes it.
    let scalar = parsed.contents[36..68].to_vec();
    [scalar, pem.lines().nth(1).expect("a line").as_bytes().to_vec()]
}

fn config(origin: &Origin) -> Config {
    Config::new().inspect("allowed.test", origin)
}

/// One request to an inspected host.
async fn ask(sekisho: &mut Sekisho, origin: &Origin, host: &str) {
    let mut wire = inside(sekisho, host, origin.port()).await;
    assert_eq!(wire.get(&origin.at(host), "/").await.expect("an answer").status, 200);
    sekisho.next_request().await.says("allowed", "");
    wire.bye().await;
    sekisho.next_connection().await;
}

#[tokio::test]
async fn j02_j07_the_process_that_serves_never_holds_the_key() {
    if !geteuid().is_root() {
        crate::real_clients::stage::skipped("the key in memory", "it takes root");
        return;
    }
    let origin = Origin::https(&["allowed.test"]).start().await;
    let config = config(&origin);
    let mut sekisho = Sekisho::start(&config).await;
    ask(&mut sekisho, &origin, "allowed.test").await;
    sekisho.reload(&config.clone().tail("# again\n")).await;
    ask(&mut sekisho, &origin, "allowed.test").await;
    let secrets = secrets(&sekisho);
    assert!(!holds(sekisho.pid(), &secrets), "the key is in the memory of the process that serves");
    assert!(holds(minter_of(&sekisho), &secrets[..1]), "the search finds it where it is");
    let metrics = sekisho.metrics().await;
    assert_eq!(metrics["sekisho_minting"], 1.0);
    let outputs = [
        fs::read(sekisho.path("access.jsonl")).expect("a record"),
        sekisho.stderr().into_bytes(),
        sekisho.admin("/metrics").await.body,
        sekisho.admin("/readyz").await.body,
    ];
    for output in outputs {
        assert!(secrets.iter().all(|secret| memchr::memmem::find(&output, secret).is_none()));
    }
    sekisho.finish().await;
}

#[tokio::test]
async fn j07_the_end_of_the_minting_process_ends_the_service_and_is_said() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&config(&origin)).await;
    ask(&mut sekisho, &origin, "allowed.test").await;
    kill_process(minter_of(&sekisho), Signal::KILL).expect("killed");
    let status = sekisho.exit().await;
    assert_eq!(status.code(), Some(1));
    let why = "the minting process has ended (signal: 9 (SIGKILL)): without it nothing new can be inspected, so the service stops \
               and is to be started anew";
    assert_eq!(sekisho.lifecycle("minting_ended", 1).await.text("message"), why);
    assert!(sekisho.stderr().contains(why), "{}", sekisho.stderr());
    assert_eq!(sekisho.records().last().expect("a line").text("sekisho.lifecycle"), "stop", "it stopped in order");
}

#[tokio::test]
async fn j07_the_minting_process_ends_with_the_one_that_serves() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&config(&origin)).await;
    let minter = minter_of(&sekisho);
    // A service manager's SIGTERM reaches it too, and is not for it.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1] {
        kill_process(minter, signal).expect("there");
    }
    ask(&mut sekisho, &origin, "allowed.test").await;
    sekisho.kill().await;
    gone(minter).await;
}

async fn gone(minter: Pid) {
    let state = format!("/proc/{}/stat", minter.as_raw_nonzero());
    until("the minting process's end", || {
        let gone = test_kill_process(minter).is_err();
        // Nobody may have collected it here.
        let ended = fs::read_to_string(&state).is_ok_and(|stat| stat.contains(") Z "));
        (gone || ended).then_some(())
    })
    .await;
}

/// Stopped, it sees no end of its socket, and would keep the key in memory for as long as nobody looks.
#[tokio::test]
async fn j07_a_stopped_minting_process_does_not_outlive_the_one_that_serves() {
    // Behind pid and name: state, parent, group, session.
    let stat = |pid: &str, field| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(field).map(str::to_owned)).expect("a field")
    };
    if stat("1", 3) == stat("self", 3) {
        crate::real_clients::stage::skipped("a stopped minting process", "who takes orphans is of this session");
        return;
    }
    let origin = Origin::https(&["allowed.test"]).start().await;
    for kill in [true, false] {
        let mut sekisho = Sekisho::start(&config(&origin)).await;
        ask(&mut sekisho, &origin, "allowed.test").await;
        let minter = minter_of(&sekisho);
        kill_process(minter, Signal::STOP).expect("stopped");
        // It has been told; on a busy machine it is some time until it stands.
        let number = minter.as_raw_nonzero().to_string();
        until("the minting process stands still", || (stat(&number, 0) == "T").then_some(())).await;
        if kill {
            sekisho.kill().await;
        } else {
            sekisho.signal(Signal::TERM);
            assert_eq!(sekisho.exit().await.code(), Some(0));
        }
        gone(minter).await;
    }
}

#[tokio::test]
async fn j07_a_reload_reaches_both_processes() {
    let origin = Origin::https(&["allowed.test", "other.test"]).start().await;
    let both = Config::new().hosts(&["allowed.test", "other.test"]);
    let inspects = |hosts: &[&str]| both.clone().service(Service::inspect("one", hosts, origin.port()));
    let mut sekisho = Sekisho::start(&inspects(&["allowed.test", "other.test"])).await;
    ask(&mut sekisho, &origin, "other.test").await;
    let fewer = inspects(&["allowed.test"]);
    sekisho.reload(&fewer).await;
    sekisho.refused(&format!("other.test:{}", origin.port()), 403, "not_allowlisted").await;
    ask(&mut sekisho, &origin, "allowed.test").await;
    sekisho.reload(&inspects(&["other.test", "allowed.test"])).await;
    ask(&mut sekisho, &origin, "other.test").await;
    sekisho.finish().await;
}

/// Beside the record the configuration is the serving process's to write, and a reload inspects nothing new; apart from it, it does.
#[tokio::test]
async fn j07_a_configuration_beside_the_record_inspects_nothing_new_without_a_restart() {
    let origin = Origin::https(&["allowed.test", "other.test"]).start().await;
    let inspects = |base: &Config, hosts: &[&str]| base.clone().service(Service::inspect("one", hosts, origin.port()));
    let base = Config::new().hosts(&["allowed.test", "other.test"]);
    for (record, follows) in [("\"access.jsonl\"", false), (APART, true)] {
        let base = base.clone().set("record", "path", record);
        let (one, both) = (inspects(&base, &["allowed.test"]), inspects(&base, &["allowed.test", "other.test"]));
        // The CA is made for both names.
        let mut sekisho = Sekisho::start_with(&both, |dir| {
            if follows {
                apart(dir);
            }
            let file = dir.join("sekisho.toml");
            let text = fs::read_to_string(&file).expect("sekisho.toml");
            fs::write(&file, text.replace(", \"other.test\"]\nports", "]\nports")).expect("written");
        })
        .await;
        let metrics = sekisho.metrics().await;
        if metrics["sekisho_restriction{kind=\"files\"}"] != 1.0 {
            crate::real_clients::stage::skipped(
                "a record beside the configuration",
                &format!("this kernel restricts no files: {}", sekisho.stderr()),
            );
            return;
        }
        assert_eq!(metrics["sekisho_restriction{kind=\"configuration\"}"], f64::from(u8::from(follows)));
        let said = sekisho.lifecycle("unrestricted", 1).await.text("message").to_owned();
        assert_eq!(said.contains("configuration: the process that serves could write /"), !follows, "{said}");
        ask(&mut sekisho, &origin, "allowed.test").await;
        if follows {
            sekisho.reload(&both).await;
            ask(&mut sekisho, &origin, "other.test").await;
        } else {
            sekisho.reload_refused(&both.render(&sekisho.listeners, sekisho.admin)).await;
            let why = sekisho.lifecycle("reload_failed", 1).await.text("message").to_owned();
            let begins = "the minting process refused it: restart needed: \"other.test\" was not inspected when the service began, and the \
                          process that serves could write /";
            assert!(why.starts_with(begins), "{why}");
            sekisho.reload(&one).await;
            ask(&mut sekisho, &origin, "allowed.test").await;
        }
        sekisho.finish().await;
    }
}

/// Stopped, as by a debugger or a frozen control group: it has not ended, and nothing new can be inspected.
#[tokio::test]
async fn j07_a_minting_process_that_gives_no_answer_is_told_and_comes_back() {
    let origin = Origin::https(&["allowed.test", "*.wide.test"]).start().await;
    let names = Config::new().hosts(&["allowed.test", "fresh.wide.test"]);
    let config = names.service(Service::inspect("one", &["allowed.test", "*.wide.test"], origin.port()));
    let mut sekisho = Sekisho::start(&config).await;
    ask(&mut sekisho, &origin, "allowed.test").await;
    let minter = minter_of(&sekisho);
    kill_process(minter, Signal::STOP).expect("stopped");
    let why = "the minting process gave no answer within 5 s: what has no leaf yet cannot be inspected; if it does not come back, \
               restart sekisho";
    assert_eq!(sekisho.lifecycle("minting_stalled", 1).await.text("message"), why);
    let ready = sekisho.admin("/readyz").await;
    assert_eq!((ready.status, ready.text().as_str()), (503, "minting_stalled\n"));
    assert_eq!(sekisho.metrics().await["sekisho_minting"], 0.0);
    // What has a leaf goes on; what has none, not even from the tenant proof, is refused for what it is.
    ask(&mut sekisho, &origin, "allowed.test").await;
    let tls = Tls::named("fresh.wide.test").trusting(&sekisho.ca());
    let refused = tls.try_over(sekisho.tunnel(&origin.at("fresh.wide.test")).await).await.map(drop);
    refused.expect_err("no leaf");
    let record = sekisho.next_connection().await;
    record.says("failed", "issuing_failed").with("url.domain", "fresh.wide.test");
    kill_process(minter, Signal::CONT).expect("continued");
    sekisho.lifecycle("minting_recovered", 1).await;
    assert_eq!(sekisho.admin("/readyz").await.status, 200);
    assert_eq!(sekisho.metrics().await["sekisho_minting"], 1.0);
    ask(&mut sekisho, &origin, "fresh.wide.test").await;
    sekisho.finish().await;
}

/// Whoever wants the service to end does not wait for a reload that waits for the minting process.
#[tokio::test]
async fn m02_a_stop_ends_a_reload_that_is_under_way() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&config(&origin)).await;
    let minter = minter_of(&sekisho);
    kill_process(minter, Signal::STOP).expect("stopped");
    sekisho.signal(Signal::HUP);
    until("the reload", || sekisho.stderr().contains("reloading").then_some(())).await;
    sekisho.signal(Signal::TERM);
    assert_eq!(sekisho.exit().await.code(), Some(0));
    // The system lets it go on, unless whoever takes orphans is of this session.
    let _ = kill_process(minter, Signal::CONT);
    assert!(sekisho.stderr().contains("a reload is under way, and is given up"), "{}", sekisho.stderr());
    let words = sekisho.records().iter().map(|record| record.text("sekisho.lifecycle").to_owned()).collect::<Vec<_>>();
    assert!(!words.iter().any(|word| word == "reload_failed"), "{words:?}");
    assert_eq!(words.last().map(String::as_str), Some("stop"));
}

/// The allocator's thread, too, begins only when everything has been given up: the kernel says what holds for it.
#[tokio::test]
async fn j07_every_thread_of_both_processes_is_held() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&config(&origin)).await;
    for (process, allocators) in [(sekisho.pid(), true), (minter_of(&sekisho), false)] {
        let tasks = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())).expect("tasks");
        let states: Vec<String> =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok()).collect();
        let is_allocators = |state: &String| state.starts_with("Name:\tjemalloc_bg_thd\n");
        assert_eq!(states.iter().any(is_allocators), allocators, "{states:?}");
        for state in states {
            let says = |line: &str| state.lines().any(|found| found == line);
            assert!(says("Seccomp:\t2") && says("NoNewPrivs:\t1") && says("CapPrm:\t0000000000000000"), "{state}");
        }
    }
    let metrics = sekisho.metrics().await;
    if metrics["sekisho_restriction{kind=\"files\"}"] == 1.0 {
        assert_eq!(metrics["sekisho_restriction{kind=\"every_thread\"}"], 1.0, "{}", sekisho.stderr());
    }
}

#[tokio::test]
async fn j07_an_issuing_ca_that_comes_later_wants_a_restart() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let mut sekisho = Sekisho::start(&Config::new().tunnel("allowed.test", &origin)).await;
    let inspecting = config(&origin).render(&sekisho.listeners, sekisho.admin);
    fs::write(sekisho.path("inspecting.toml"), &inspecting).expect("written");
    let made = run(sekisho.dir.path(), &["ca", "init", "--config", "inspecting.toml"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    sekisho.reload_refused(&inspecting).await;
    let why = "[issuing_ca] is new, and the process that would hold its key is started with the service only: restart sekisho to \
               begin to inspect";
    assert_eq!(sekisho.lifecycle("reload_failed", 1).await.text("message"), why);
    assert!(!sekisho.metrics().await.contains_key("sekisho_minting"));
    sekisho.signal(Signal::TERM);
    sekisho.exit().await;
    sekisho.start_again().await;
    ask(&mut sekisho, &origin, "allowed.test").await;
}

/// `sekisho mint`, by hand, and the other end of its socket.
fn by_hand(sekisho: &Sekisho) -> (std::process::Child, UnixStream) {
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
    let child = Command::new(binary())
        .args(["mint", "--config", "sekisho.toml"])
        .current_dir(sekisho.dir.path())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    (child, ours.into())
}

#[tokio::test]
async fn j07_hostile_octets_end_the_minting_process_and_sign_nothing() {
    let origin = Origin::https(&["allowed.test"]).start().await;
    let sekisho = Sekisho::start(&config(&origin)).await;
    let number = 1u64.to_be_bytes();
    let mint = |name: &[u8]| [&number[..], &[3, 0, 0, 0, 1, 0], name].concat();
    let garbage: [&[u8]; 6] =
        [b"x", b"GET / HTTP/1.1\r\n\r\n", &[0; 512], &[0xff; 513], &mint(b"*.allowed.test"), &mint(b"../ca.key")];
    for octets in garbage {
        let (child, mut socket) = by_hand(&sekisho);
        socket.write_all(octets).expect("sent");
        let ended = within("its end", async { child.wait_with_output() }).await.expect("waited");
        assert_eq!(ended.status.code(), Some(1), "{octets:?}");
        let said = "sekisho: what came from the serving process is no question: nothing more is signed\n";
        assert_eq!(text(&ended.stderr), said);
        assert!(socket.read(&mut [0; 64]).is_ok_and(|octets| octets == 0), "no answer");
    }
    // A sound question before anything is taken up is refused, and the end of the socket is the end.
    let (child, mut socket) = by_hand(&sekisho);
    socket.write_all(&mint(b"allowed.test")).expect("sent");
    let mut answer = [0; 256];
    let octets = socket.read(&mut answer).expect("an answer");
    assert_eq!(answer[8], 4, "refused");
    assert_eq!(&answer[9..octets], b"it was asked by a configuration that is no longer in force");
    drop(socket);
    let ended = child.wait_with_output().expect("waited");
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", text(&ended.stderr));
    let alone = run(sekisho.dir.path(), &["mint", "--config", "sekisho.toml"]);
    let said = "sekisho: this is the other end of `sekisho run`, which starts it; it is of no use by hand\n";
    assert_eq!((alone.status.code(), text(&alone.stderr).as_str()), (Some(1), said));
}
