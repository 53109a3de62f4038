//! Only what the machine lacks or has changed when the service begins or reloads belongs here: threads, files that are none, other name
//! servers.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::real_clients::stage::skipped;
use crate::support::client::connect;
use crate::support::dns::{Dns, Says};
use crate::support::sekisho::{binary, for_everybody, prepare, text};
use crate::support::{Config, Origin, Sekisho, Service, until, within};

use super::HOST;

fn is_root(scene: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(scene, "it takes root");
    }
    root
}

/// What became of a start.
enum Began {
    Ready,
    Ended(Option<i32>, String),
}

/// The service of a user of its own, whose tasks are counted, with so many of them.
async fn with_tasks(dir: &Path, admin: SocketAddr, tasks: u32) -> Began {
    const USER: &str = "61234";
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "prlimit", &format!("--nproc={tasks}")]);
    command.arg(dir.join("sekisho"));
    begun(command, dir, admin).await
}

/// The service as `command` starts it.
async fn begun(mut command: Command, dir: &Path, admin: SocketAddr) -> Began {
    let stderr = dir.join("stderr.log");
    let mut child = command
        .args(["run", "--config", "sekisho.toml"])
        .current_dir(dir)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stderr(fs::File::create(&stderr).expect("stderr.log"))
        .spawn()
        .expect("it runs");
    let began = within(&format!("an end or readiness of {command:?}"), async {
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                return Began::Ended(status.code(), fs::read_to_string(&stderr).expect("stderr.log"));
            }
            if let Ok(mut wire) = connect(admin).await
                && wire.get("localhost", "/readyz").await.is_some_and(|answer| answer.status == 200)
            {
                return Began::Ready;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let _ = child.kill();
    child.wait().expect("waited for");
    began
}

#[tokio::test]
async fn o04_without_the_threads_it_needs_it_says_so_and_ends() {
    if !is_root("a user of its own") {
        return;
    }
    let origin = Origin::https(&[HOST]).start().await;
    let tunnelling = Config::new().tunnel(HOST, &origin);
    let inspecting = Config::new().inspect(HOST, &origin);
    for config in [tunnelling, inspecting] {
        let (dir, _, admin) = prepare(&config);
        let dir = dir.path();
        for_everybody(dir);
        for file in
            fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()).chain([dir.into()])
        {
            chown(file, Some(61_234), Some(61_234)).expect("given away");
        }
        let mut ended = 0;
        for tasks in 1.. {
            assert!(tasks < 64, "never ready");
            match with_tasks(dir, admin, tasks).await {
                Began::Ready => break,
                Began::Ended(code, said) => {
                    // The allocator's thread may have a word of its own behind it.
                    let last = said.lines().rfind(|line| line.starts_with("sekisho: ")).unwrap_or_default();
                    assert_eq!(code, Some(1), "{tasks} tasks: {said}");
                    assert!(!said.contains("panicked"), "{tasks} tasks: {said}");
                    assert!(last.contains("Resource temporarily unavailable"), "{tasks} tasks: {said}");
                    ended += 1;
                }
            }
        }
        assert!(ended > 1, "a service has more than one thread");
    }
}

#[tokio::test]
async fn h05_with_too_few_descriptors_it_says_so_and_ends() {
    let (dir, _, admin) = prepare(&Config::new());
    let dir = dir.path();
    let (mut least, mut half) = (12, 0);
    loop {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={least}")).arg(binary());
        match begun(command, dir, admin).await {
            Began::Ready => break,
            Began::Ended(code, told) => {
                assert_eq!(code, Some(1), "{least}: {told}");
                assert!(told.contains("Too many open files") || told.contains("LimitNOFILE"), "{least}: {told}");
                half += u32::from(told.contains("descriptors that this process may have are open before"));
            }
        }
        least += 1;
        assert!(least < 200);
    }
    assert!(half > 0, "{least}");
}

/// A folder with a FIFO in it, which nobody writes to.
fn with_pipe(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let fifo = dir.path().join(name);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("a FIFO");
    dir
}

/// What a command says that is told of the FIFO by this argument, and by this variable.
async fn told_of_a_pipe(dir: &Path, arguments: &[&str], variable: Option<(&str, &str)>) -> String {
    let mut child = Command::new(binary())
        .args(arguments)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR")
        .envs(variable)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    until("the end", || child.try_wait().expect("wait")).await;
    let out = child.wait_with_output().expect("it has ended");
    assert_eq!(out.status.code(), Some(1), "{arguments:?}");
    text(&out.stderr)
}

#[tokio::test]
async fn l02_a_configuration_that_is_a_pipe_is_not_waited_for() {
    let dir = with_pipe("sekisho.toml");
    for command in ["run", "check"] {
        assert_eq!(
            told_of_a_pipe(dir.path(), &[command, "--config", "sekisho.toml"], None).await,
            "sekisho.toml: error: found no readable file (it is no ordinary file), expected the configuration\n    hint: is this the \
             right file? An ordinary one of at most 64 MiB is read\n\nsekisho.toml: 1 error\n",
            "{command}"
        );
    }
}

#[tokio::test]
async fn l02_roots_that_are_a_pipe_are_not_waited_for() {
    let dir = with_pipe("roots.pem");
    let config = "[[listener]]\naddress = \"127.0.0.1:0\"\n[resolver]\nservers = [\"192.0.2.1:53\"]\n[upstream]\nroots = \"system\"\n";
    fs::write(dir.path().join("sekisho.toml"), config).expect("written");
    let empty = "sekisho.toml:6:9: error: upstream.roots: the system's store of root certificates is empty; install ca-certificates ";
    for (variable, named, said) in [
        ("SSL_CERT_FILE", "roots.pem", "roots.pem: it is no ordinary file"),
        // A folder's FIFO is none of its certificates.
        ("SSL_CERT_DIR", ".", ""),
    ] {
        let told = told_of_a_pipe(dir.path(), &["check"], Some((variable, named))).await;
        let error = told.lines().find(|line| line.contains(": error: "));
        assert_eq!(error, Some(format!("{empty}{said}").trim_end()), "{variable}");
    }
    let load = ["load", "run", "--proxy", "127.0.0.1:1", "--target", "https://load.test:1", "--ca", "roots.pem"];
    assert_eq!(told_of_a_pipe(dir.path(), &load, None).await, "sekisho: --ca roots.pem: it is no ordinary file\n");
}

#[tokio::test]
async fn l02_a_folder_that_is_a_pipe_is_not_waited_for() {
    let dir = with_pipe("pipe");
    assert_eq!(
        told_of_a_pipe(dir.path(), &["quickstart", "--dir", "pipe"], None).await,
        "sekisho: cannot read pipe/sekisho.toml: Not a directory (os error 20); choose another folder with --dir DIR\n"
    );
}

/// /etc is one of the scene's own, in a mount namespace.
#[tokio::test]
async fn b05_a_reload_takes_up_another_resolv_conf() {
    if !is_root("an /etc of its own") {
        return;
    }
    let origin = Origin::https(&[HOST]).start().await;
    // resolv.conf has no ports; these addresses are nobody else's.
    let [high, low] = [std::process::id() / 250 % 250, std::process::id() % 250];
    let servers = [1, 2].map(|last| format!("127.{}.{low}.{last}", high + 1));
    let answers = |_: &str| Says::Addresses(vec!["127.0.0.1"]);
    let before = Dns::at(format!("{}:53", servers[0]).parse().expect("an address"), answers).await;
    let after = Dns::at(format!("{}:53", servers[1]).parse().expect("an address"), answers).await;
    let config = Config::new().service(Service::tunnel("line", &[HOST], origin.port()));
    let naming = |server: &str| format!("search example.test\nnameserver {server}\n");
    let prefix = "mkdir etc && printf 'search example.test\\nnameserver %s\\n' SERVER >etc/resolv.conf";
    let enter = "exec unshare --mount sh -c 'mount --bind etc /etc && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    let arrange = format!("{} && {enter}", prefix.replace("SERVER", &servers[0]));
    let mut sekisho = Sekisho::start_under(&config, &arrange).await;
    let authority = origin.at(HOST);
    drop(sekisho.tunnel(&authority).await);
    sekisho.next_connection().await;
    assert_eq!((before.queries().is_empty(), after.queries().is_empty()), (false, true));
    // Written into: it is the file that may be read.
    fs::write(sekisho.path("etc/resolv.conf"), naming(&servers[1])).expect("written");
    sekisho.reload(&config).await;
    let asked = before.queries().len();
    drop(sekisho.tunnel(&authority).await);
    sekisho.next_connection().await;
    assert_eq!((before.queries().len(), after.queries().is_empty()), (asked, false));
    // Another one in its place: where files were given up, that is told, and nothing is lost.
    fs::write(sekisho.path("etc/next"), naming(&servers[0])).expect("written");
    fs::rename(sekisho.path("etc/next"), sekisho.path("etc/resolv.conf")).expect("renamed");
    sekisho.reload(&config).await;
    drop(sekisho.tunnel(&authority).await);
    sekisho.next_connection().await;
    if sekisho.metrics().await["sekisho_restriction{kind=\"files\"}"] == 1.0 {
        assert_eq!(before.queries().len(), asked);
        assert_eq!(
            sekisho.lifecycle("config_problem", 1).await.text("message"),
            format!(
                "/etc/resolv.conf: warning: another file was put in its place since the start, which the service gave up reading; it \
                 goes on with {}:53\n    hint: restart, or name [resolver] servers",
                servers[1]
            )
        );
    } else {
        assert!(before.queries().len() > asked);
    }
}
