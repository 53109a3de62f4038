//! Only what stands in for machines of their own belongs here. Clients, origin, proxy and attackers share this one's processors; so
//! that what is measured is the proxy's delay, and not the wait of a client or the origin for a processor that an attacker has, the
//! well-behaved clients and their origin run at once when they have something to do (`SCHED_FIFO`), and attackers and theirs when
//! nobody else does (`SCHED_IDLE`): one origin for both, before everybody else, would fill the sockets of sixty slow readers before
//! the proxy has a turn, and that wait be taken for the proxy's. Where that may not be set, all wait for each other, and the figures say less.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::support::netns::{Namespace, have};
use super::say;

/// Sets how a process or a thread is scheduled (util-linux).
const CHRT: &str = "chrt";
const AT_ONCE: [&str; 2] = ["--fifo", "1"];

static FILTERED: AtomicBool = AtomicBool::new(false);

/// Where networks can be made, runs it in one that has the packet filter's rules as they are shipped, with the loopback for the clients'
/// side: who floods with connections meets them before the proxy. The rules are those that track no connection, as a network card's
/// machine would for an explicit listener that nobody is steered to.
pub fn behind_the_rules(work: impl FnOnce() + Send) {
    if !have("the scorecard's packet filter") {
        return work();
    }
    FILTERED.store(true, Ordering::Relaxed);
    let machine = Namespace::new("scorecard");
    machine.filters_with("sekisho-tproxy.nft", |rules| rules.replace("\"lan0\"", "\"lo\""));
    machine.enter(work);
    let dropped = machine.counted("flood_dropped");
    say(&format!("connections dropped by source: {dropped}"));
    assert!(dropped > 1_000, "they were not in force: {dropped}");
}

/// Whether the rules stand before the proxies.
pub fn are_filtered() -> bool {
    FILTERED.load(Ordering::Relaxed)
}

/// Whether they may be told apart here.
pub fn are_apart() -> bool {
    static APART: LazyLock<bool> = LazyLock::new(|| {
        let mut command = Command::new(CHRT);
        command.args(AT_ONCE).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    *APART
}

/// `program`, which is to run before everybody else.
pub fn at_once(program: &Path) -> Command {
    if !are_apart() {
        return Command::new(program);
    }
    let mut command = Command::new(CHRT);
    command.args(AT_ONCE).arg(program);
    command
}

/// All threads of a process run before everybody else from here on.
pub fn hurry(process: u32) {
    set(&["--all-tasks", "--fifo", "--pid", "1"], process);
}

/// All threads of a process run when nobody else does from here on.
pub fn hold_back(process: u32) {
    set(&["--all-tasks", "--idle", "--pid", "0"], process);
}

/// This thread runs when nobody else does from here on.
pub fn give_way() {
    set(&["--idle", "--pid", "0"], rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
}

fn set(how: &[&str], whose: u32) {
    if are_apart() {
        let status = Command::new(CHRT).args(how).arg(whose.to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "{CHRT} {how:?} {whose}");
    }
}
