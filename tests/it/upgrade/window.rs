//! Only scenes about what goes wrong between the new process's question and its first line belong here: it is stopped, or one of the two has
//! no descriptor left.

use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::super::control::status;
use super::super::support::client::Tls;
use super::super::support::record::Record;
use super::super::support::sekisho::{free_port, spawn};
use super::super::support::{Config, Sekisho, until};
use super::{Other, echo, gone, traced};

fn starts(records: &[Record]) -> usize {
    records.iter().filter(|record| record.text("sekisho.lifecycle") == "start").count()
}

/// A real one, stopped as it looks at the record, and as it is to say that it can serve.
#[tokio::test]
async fn l07_a_new_process_that_stays_stopped_keeps_the_record_from_nobody_and_never_writes_it() {
    for at in ["sendmsg:signal=SIGSTOP:when=2", "pread64:signal=SIGSTOP:when=1"] {
        let (origin, config) = echo().await;
        let mut sekisho = Sekisho::start(&config).await;
        let inject = format!("inject={at}");
        let record = sekisho.path("access.jsonl").display().to_string();
        let of_the_record = ["-P", &record, "-e", &inject];
        let what = if at.starts_with("pread64") { &of_the_record[..] } else { &of_the_record[2..] };
        let Some(mut strace) = traced(&sekisho, what) else { return };
        sekisho.lifecycle("handed_over", 1).await;
        let new = strace.process().expect("it is stopped");
        let failed = sekisho.lifecycle("takeover_failed", 1).await;
        assert!(failed.text("message").ends_with(": it stood still for too long"), "{at}: {failed:?}");
        // The old one ends, and a third begins with the same record; the addresses are held as the record was.
        sekisho.signal(Signal::TERM);
        assert!(sekisho.exit().await.success());
        sekisho.listeners = vec![([127, 0, 0, 1], free_port("127.0.0.1")).into()];
        sekisho.admin = ([127, 0, 0, 1], free_port("127.0.0.1")).into();
        sekisho.replace_config(&config.render(&sekisho.listeners, sekisho.admin));
        sekisho.start_again().await;
        let third = status(&sekisho).await["pid"].clone();
        kill_process(new, Signal::CONT).expect("it is there");
        assert_eq!(strace.end().await.code(), Some(1), "{at}");
        let why = "is not taken over from, and goes on: it has kept its place, for a reason that stands in its own log";
        assert!(sekisho.stderr().contains(why), "{at}: {}", sekisho.stderr());
        assert_eq!(status(&sekisho).await["pid"], third, "its control socket is the third's still");
        let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&origin.at("allowed.test")).await).await;
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
        inside.bye().await;
        sekisho.terminals("connection", 1).await;
        sekisho.conserved().await;
        let records = sekisho.records();
        assert_eq!(starts(&records), 2, "{at}");
        records
            .iter()
            .rfind(|record| record.has("sekisho.previous_end"))
            .expect("a start")
            .with("sekisho.previous_end", "clean");
    }
}

/// The process may have no descriptor more, or as many as before.
fn limit(sekisho: &Sekisho, descriptors: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limits = Rlimit { current: descriptors.or(maximum), maximum };
    prlimit(Some(sekisho.pid()), Resource::Nofile, limits).expect("set");
}

#[tokio::test]
async fn h05_a_process_without_a_descriptor_left_keeps_its_place_and_gives_it_away_when_it_has_some() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    let mut other = Other::asks(&sekisho);
    assert_eq!(other.hears(), b"sockets");
    limit(&sekisho, Some(0));
    other.says(b"record");
    assert_eq!(other.hears(), b"kept");
    limit(&sekisho, None);
    let failed = sekisho.lifecycle("takeover_failed", 1).await;
    let why = ", and this one goes on: what it is to be given cannot be made here: Too many open files (os error 24)";
    assert!(failed.text("message").ends_with(why), "{failed:?}");
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    let old = sekisho.take_over().await;
    gone(old).await;
    inside.send("ping").await;
    assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping");
    inside.bye().await;
    sekisho.terminals("connection", 1).await;
    sekisho.conserved().await;
}

/// From too few to begin to just enough: whatever it lacks one for, either it has the place, or the old one has it still.
#[tokio::test]
async fn h05_a_new_process_with_few_descriptors_takes_over_or_changes_nothing() {
    let (origin, config) = echo().await;
    let mut sekisho = Sekisho::start(&config).await;
    let at = origin.at("allowed.test");
    let mut inside = Tls::named("allowed.test").over(sekisho.tunnel(&at).await).await;
    sekisho.lifecycle("start", 1).await;
    let mut told = Vec::new();
    // Each, as there is a limit with which it would come as far as to serve, and refuse whoever comes.
    for limit in 12.. {
        assert!(limit < 200, "{told:?}");
        let before = (starts(&sekisho.records()), sekisho.stderr().len());
        let mut new = spawn(sekisho.dir.path(), &["--take-over"], &[], Some(&format!("ulimit -n {limit}")));
        let ended = until("its end or its first line", || {
            let ended = new.try_wait().expect("wait");
            (ended.is_some() || starts(&sekisho.records()) > before.0).then_some(ended)
        })
        .await;
        inside.send("ping").await;
        assert_eq!(inside.exactly(4).await.expect("an echo"), b"ping", "{limit}");
        let Some(ended) = ended else {
            gone(sekisho.becomes(new)).await;
            break;
        };
        assert!(!ended.success(), "{limit}: {ended}");
        told.push(sekisho.stderr()[before.1..].to_owned());
        assert_eq!(sekisho.admin("/readyz").await.status, 200, "{limit}");
    }
    assert!(told.len() > 2, "{told:?}");
    let why = ["Too many open files", "more descriptors than this process has", "are open before the first connection"];
    for told in &told {
        assert!(why.iter().any(|why| told.contains(why)), "{told}");
    }
    assert!(told.last().is_some_and(|told| told.contains(why[2])), "{told:#?}");
    assert_eq!(sekisho.connect(&at).await.1.status, 200);
    inside.bye().await;
    sekisho.terminals("connection", 2).await;
    let records = sekisho.records();
    assert_eq!(starts(&records), 2);
    super::assert_each_ends_once(&records);
}

#[tokio::test]
async fn h05_a_control_socket_that_cannot_accept_says_so_once() {
    let sekisho = Sekisho::start(&Config::new().set("control", "socket", "\"control.sock\"")).await;
    // One that is answered in between is not the end of it.
    for round in 1..=3 {
        limit(&sekisho, Some(0));
        let waiting = UnixStream::connect(sekisho.path("control.sock")).expect("the kernel accepts");
        let client = sekisho.client().await;
        sekisho.lifecycle("refusing", round).await;
        limit(&sekisho, None);
        status(&sekisho).await;
        sekisho.lifecycle("normal", round).await;
        drop((waiting, client));
    }
    let told = sekisho.stderr().matches("control accept failed, and is tried again 20 times a second").count();
    assert_eq!(told, 1, "{}", sekisho.stderr());
}
