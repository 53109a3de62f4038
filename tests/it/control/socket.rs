//! Only scenes of the socket itself belong here: what comes in, its file, and that there is no other way to it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::super::support::client::connect;
use super::super::support::sekisho::{mode, prepare, run, set_mode, text};
use super::super::support::{Sekisho, until, within};
use super::{ask, complained, controlled, said, status};

/// Says `octets` and reads to the end of the conversation.
async fn say(path: &Path, octets: Vec<u8>) -> String {
    let path = path.to_owned();
    let talk = move || {
        let mut stream = UnixStream::connect(path).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        // It may be answered, and closed, before all of it is taken.
        let _ = stream.write_all(&octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        text(&answer)
    };
    tokio::task::spawn_blocking(talk).await.expect("no panic")
}

#[tokio::test]
async fn hostile_octets_are_answered_in_a_line_and_change_nothing() {
    let sekisho = Sekisho::start(&controlled()).await;
    let path = sekisho.path("control.sock");
    let revision = status(&sekisho).await["revision"].clone();
    let deep = [b"{\"v\":1,\"ask\":".to_vec(), vec![b'['; 4000], b"\n".to_vec()].concat();
    let rows: [(Vec<u8>, &str); 9] = [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\n".to_vec(), "malformed"),
        (b"\n".to_vec(), "malformed"),
        (b"{\"v\":1,\"ask\":{\"do\":\"reload\"}}\n".to_vec(), "malformed"),
        (b"{\"v\":9,\"ask\":{\"do\":\"status\"}}\n".to_vec(), "version"),
        (b"{\"v\":1,\"ask\":{\"do\":\"trial\",\"revision\":\"x\",\"seconds\":99999999}}\n".to_vec(), "malformed"),
        (b"{\"v\":1,\"ask\":{\"do\":\"cut\",\"id\":\"\\u001b[2J\\r\\n\"}}\n".to_vec(), "malformed"),
        (deep, "malformed"),
        (vec![b'a'; 100_000], "malformed"),
    ];
    for (n, (octets, word)) in rows.into_iter().enumerate() {
        let answer = say(&path, octets).await;
        let expected = format!("{{\"v\":1,\"error\":{{\"word\":\"{word}\",\"message\":\"");
        // What is longer than a request may find the conversation closed before its answer is read.
        assert!(answer.starts_with(&expected) || (n == 8 && answer.is_empty()), "{n}: {answer}");
        assert!(answer.lines().count() <= 1 && !answer.contains('\u{1b}'), "{answer:?}");
    }
    // Who says nothing is let go without a word.
    assert_eq!(say(&path, Vec::new()).await, "");
    sekisho.lifecycle("control_refused", 9).await;
    assert_eq!(status(&sekisho).await["revision"], revision);
    let metrics = sekisho.metrics().await;
    assert_eq!(metrics["sekisho_control_requests_total{result=\"refused\"}"], 9.0);
}

#[tokio::test]
async fn peers_that_are_slow_are_let_go_and_keep_nobody_out() {
    let sekisho = Sekisho::start(&controlled()).await;
    let path = sekisho.path("control.sock");
    let mut slow: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&path).expect("connected")).collect();
    for stream in &mut slow {
        stream.write_all(b"{\"v\":1,").expect("written");
    }
    assert_eq!(status(&sekisho).await["ready"], true);
    let ended = tokio::task::spawn_blocking(move || {
        for mut stream in slow {
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
            assert_eq!(stream.read(&mut [0; 16]).expect("closed in time"), 0);
        }
    });
    ended.await.expect("all were closed");
    assert_eq!(status(&sekisho).await["ready"], true);
}

#[tokio::test]
async fn its_file_is_taken_over_where_nobody_answers_and_removed_at_the_end() {
    let mut sekisho = Sekisho::start_with(&controlled(), |dir| {
        drop(UnixListener::bind(dir.join("control.sock")).expect("a socket that was left"));
    })
    .await;
    let path = sekisho.path("control.sock");
    assert_eq!(status(&sekisho).await["ready"], true);
    // A second service is not started over it.
    let (dir, ..) = prepare(&controlled().set("control", "socket", &format!("{path:?}")));
    let out =
        tokio::task::spawn_blocking(move || run(dir.path(), &["run", "--config", "sekisho.toml"])).await.expect("ran");
    assert_eq!(out.status.code(), Some(1));
    let taken = format!(
        "sekisho: another service answers at {}: stop it, or give each a [control] socket of its own (control.socket)",
        path.display()
    );
    assert!(text(&out.stderr).contains(&taken), "{}", text(&out.stderr));
    assert_eq!(status(&sekisho).await["ready"], true);
    // Killed, it leaves the file; started again, it takes it.
    sekisho.kill().await;
    assert!(path.exists());
    sekisho.start_again().await;
    assert_eq!(status(&sekisho).await["ready"], true);
    sekisho.signal(Signal::TERM);
    assert!(sekisho.exit().await.success());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_reload_opens_the_new_socket_first_or_keeps_the_old() {
    let sekisho = Sekisho::start(&controlled()).await;
    std::fs::write(sekisho.path("precious"), "a file").expect("written");
    let text = controlled().set("control", "socket", "\"precious\"").render(&sekisho.listeners, sekisho.admin);
    sekisho.reload_refused(&text).await;
    let why = sekisho.lifecycle("reload_failed", 1).await;
    assert!(why.text("message").contains("precious is there and is no socket: it is left alone"), "{why:?}");
    assert_eq!(std::fs::read_to_string(sekisho.path("precious")).expect("there"), "a file");
    let old = ["status", "--socket", "control.sock"];
    said(&ask(&sekisho, &old).await, 0);
    sekisho.reload(&controlled().set("control", "socket", "\"moved.sock\"")).await;
    assert_eq!(status(&sekisho).await["ready"], true);
    within("the old socket's end", async {
        while sekisho.path("control.sock").exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    sekisho.reload(&super::super::support::Config::new()).await;
    within("the socket's end", async {
        while sekisho.path("moved.sock").exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_reload_makes_the_socket_anew_where_it_is_gone_and_touches_no_other() {
    let sekisho = Sekisho::start(&controlled()).await;
    let path = sekisho.path("control.sock");
    std::fs::remove_file(&path).expect("removed");
    sekisho.reload(&controlled().tail("# again\n")).await;
    assert_eq!(status(&sekisho).await["ready"], true);
    // Another service's in its place.
    std::fs::remove_file(&path).expect("removed");
    let other = UnixListener::bind(&path).expect("bound");
    set_mode(&path, 0o640);
    let text = controlled().tail("# once more\n").render(&sekisho.listeners, sekisho.admin);
    sekisho.reload_refused(&text).await;
    let why = sekisho.lifecycle("reload_failed", 1).await;
    assert!(why.text("message").starts_with("another service answers at control.sock: "), "{why:?}");
    assert_eq!(mode(&path), 0o640, "it is the other's");
    drop(other);
    sekisho.reload(&controlled()).await;
    assert_eq!((status(&sekisho).await["ready"].clone(), mode(&path)), (true.into(), 0o600));
}

#[tokio::test]
async fn a_reload_that_is_refused_leaves_the_sockets_mode() {
    // The first group that is named wants a restart: who is in it is read in /etc.
    let open = controlled().set("control", "viewers", "\"64001\"");
    let sekisho = Sekisho::start(&open).await;
    sekisho.reload(&controlled()).await;
    let text = open.clone().set("record", "path", "\"nowhere/access.jsonl\"").render(&sekisho.listeners, sekisho.admin);
    sekisho.reload_refused(&text).await;
    assert_eq!(mode(&sekisho.path("control.sock")), 0o600);
    sekisho.reload(&open).await;
    assert_eq!(mode(&sekisho.path("control.sock")), 0o666);
}

#[tokio::test]
async fn who_moves_the_socket_is_answered_and_no_trial_moves_it() {
    let sekisho = Sekisho::start(&controlled()).await;
    let moved = controlled().set("control", "socket", "\"moved.sock\"");
    let away = super::super::support::Config::new();
    let write = |config: &super::super::support::Config| {
        std::fs::write(sekisho.path("new.toml"), config.render(&sekisho.listeners, sekisho.admin)).expect("written");
    };
    for config in [&moved, &away] {
        write(config);
        let refused = complained(&ask(&sekisho, &["apply", "new.toml", "--yes", "--confirm", "1m"]).await, 1);
        let expected = "sekisho: a trial cannot move control.socket or take it away: nobody could confirm it; apply it without \
                        --confirm\n";
        assert!(refused.ends_with(expected), "{refused}");
        assert!(!sekisho.path("sekisho.toml.trial").exists());
        assert_eq!(status(&sekisho).await["readiness"], serde_json::json!(["ok"]), "the file is in force");
    }
    write(&moved);
    let done = said(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 0);
    assert!(done.contains("  ~ control.socket: ") && done.ends_with(" is in force\n"), "{done}");
    assert_eq!(status(&sekisho).await["readiness"], serde_json::json!(["ok"]));
    write(&away);
    let done = said(&ask(&sekisho, &["apply", "new.toml", "--yes"]).await, 0);
    assert!(done.ends_with(" is in force\n"), "{done}");
    let is_gone = || (!sekisho.path("moved.sock").exists() && !sekisho.path("control.sock").exists()).then_some(());
    until("the sockets' end", is_gone).await;
    let text = std::fs::read_to_string(sekisho.path("sekisho.toml")).expect("there");
    assert!(!text.contains("[control]"), "{text}");
}

/// Inodes of the TCP sockets that the process listens on, by proc(5), with their ports.
fn listening(sekisho: &Sekisho) -> Vec<u16> {
    let pid = sekisho.pid().as_raw_nonzero();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    let own: Vec<String> = links
        .filter_map(|link| std::fs::read_link(link.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).expect("a table");
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == "0A" && own.iter().any(|inode| inode == fields[9]) {
                let port = fields[1].rsplit_once(':').expect("a port").1;
                ports.push(u16::from_str_radix(port, 16).expect("a port"));
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[tokio::test]
async fn m02_nothing_that_changes_is_reached_by_a_network_or_by_a_browsers_page() {
    let sekisho = Sekisho::start(&controlled()).await;
    let ports = listening(&sekisho);
    assert!(ports.contains(&sekisho.addr().port()) && ports.contains(&sekisho.admin.port()), "{ports:?}");
    let request = b"{\"v\":1,\"ask\":{\"do\":\"status\"}}\n";
    for port in ports {
        let address = std::net::SocketAddr::new(sekisho.addr().ip(), port);
        // The proof's own listeners are there for a moment.
        let Ok(mut wire) = connect(address).await else {
            assert!(![sekisho.addr(), sekisho.admin].contains(&address), "{address}");
            continue;
        };
        let _ = wire.try_send(request).await;
        wire.finish_writing().await;
        let (answer, _) = wire.rest().await;
        assert!(!text(&answer).contains("\"v\":1"), "{address}: {}", text(&answer));
    }
    for (head, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: evil.test\r\n", 403),
        ("GET /readyz HTTP/1.1\r\nHost: evil.test:9090\r\n", 403),
        ("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1.evil.test\r\n", 403),
        ("GET /readyz HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.test\r\n", 403),
        ("GET /readyz HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n", 403),
        ("POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n", 405),
        ("POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n", 405),
        ("OPTIONS /metrics HTTP/1.1\r\nHost: localhost\r\nAccess-Control-Request-Method: PUT\r\n", 405),
        ("GET /readyz HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET /readyz HTTP/1.1\r\nHost: LOCALHOST:9090\r\n", 200),
        ("GET /readyz HTTP/1.1\r\nHost: [::1]:9090\r\n", 200),
        ("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n", 200),
    ] {
        let mut wire = connect(sekisho.admin).await.expect("connected");
        wire.send(format!("{head}\r\n")).await;
        let answer = wire.response("GET").await;
        assert_eq!(answer.status, status, "{head}: {answer:?}");
        assert!(answer.values("access-control-allow-origin").is_empty(), "{answer:?}");
    }
}
