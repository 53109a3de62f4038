//! Files, TCP ports and signals, by Landlock: a rule for each path and port that is needed, and no other.
//!
//! | since | of it |
//! |---|---|
//! | Linux 5.13 (ABI 1) | files |
//! | Linux 6.2 (ABI 3) | cutting files short too; before, `calls` sees to that |
//! | Linux 6.7 (ABI 4) | TCP ports |
//! | Linux 6.12 (ABI 6) | signals, abstract Unix sockets |
//! | Linux 7.0 (ABI 8) | threads that are there already |

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, RestrictSelfAttr,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{self, access};
use rustix::process::geteuid;

use super::{Kind, Reach};
use crate::files::open_regular;

/// Everything this knows how to forbid; what the kernel does not know is left out, and told from its version.
const KNOWN: ABI = ABI::V8;

type Results = Vec<(Kind, Result<(), String>)>;

/// Whether files are restricted at all, and what holds. `calls_restricted`: those that cut files short fail, on any kernel.
pub(super) fn restrict(reach: &Reach, calls_restricted: bool) -> (bool, Results) {
    let status = match rule(reach) {
        Ok(status) => status,
        Err(error) => return nothing(&format!("Landlock could not be applied: {error}")),
    };
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        LandlockStatus::NotEnabled => {
            return nothing("this kernel has Landlock switched off: boot it with lsm=landlock,… among the others");
        }
        LandlockStatus::NotImplemented => return nothing("this kernel has no Landlock: Linux 5.13 or later"),
    };
    let since = |abi: i32, what: &str| {
        if version >= abi { Ok(()) } else { Err(format!("{what}, and this kernel has ABI {version} of Landlock")) }
    };
    let files = if calls_restricted { Ok(()) } else { since(3, "files can still be cut short before Linux 6.2") };
    let results = vec![
        (Kind::Files, files),
        (Kind::TcpPorts, since(4, "TCP ports can be restricted from Linux 6.7 on")),
        (Kind::Signals, since(6, "signals can be restricted from Linux 6.12 on")),
        (Kind::EveryThread, every_thread(status.all_threads)),
    ];
    (true, results)
}

fn nothing(why: &str) -> (bool, Results) {
    let mut results: Results =
        [Kind::Files, Kind::TcpPorts, Kind::Signals].map(|kind| (kind, Err(why.to_owned()))).into();
    // Capabilities are given up by each thread for itself, on any kernel.
    results.push((Kind::EveryThread, every_thread(false)));
    (false, results)
}

fn rule(reach: &Reach) -> Result<RestrictionStatus, RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
    let own = write | AccessFs::MakeSock | AccessFs::RemoveFile;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?
        .all_threads(true)?;
    for (paths, access) in [(&reach.read, read), (&reach.write, write), (&reach.own, own)] {
        // What is not there cannot be granted, and is not needed.
        for (path, opened) in paths.iter().filter_map(|path| Some((path, PathFd::new(path).ok()?))) {
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    for (ports, access) in [(&reach.listen, AccessNet::BindTcp), (&reach.connect, AccessNet::ConnectTcp)] {
        for port in ports {
            rules = rules.add_rule(NetPort::new(*port, access))?;
        }
    }
    rules.restrict_self()
}

/// There is none but this one, as long as nothing that was loaded into the process has started another.
fn every_thread(applied: bool) -> Result<(), String> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if applied || threads == 1 {
        return Ok(());
    }
    Err(format!(
        "{} of the process's own threads began before files, ports and capabilities were given up, and can be made to give them up from \
         Linux 7.0 on; system calls are forbidden to them too",
        threads.saturating_sub(1)
    ))
}

/// What an attacker in this process would try.
pub(super) fn are_out_of_reach(keys: &BTreeSet<PathBuf>) -> Result<(), String> {
    let readable: Vec<String> =
        keys.iter().filter(|key| open_regular(key).is_ok()).map(|key| key.display().to_string()).collect();
    if readable.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the issuing key {} lies where the service reads its configuration, so that the process that serves could read it: put it into \
         a folder of its own, or have systemd hand it over (key = \"credential:NAME\")",
        readable.join(" and ")
    ))
}

/// Whether owners and modes let this process's user write there, or what it owns can be made so by it. What is not there nobody writes.
pub(super) fn is_writable(path: &Path) -> bool {
    let owned = std::fs::metadata(path).is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
    owned || access(path, fs::Access::WRITE_OK).is_ok()
}
