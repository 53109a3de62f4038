//! System calls, by seccomp: those that a proxy never makes, and that turn a bug into a foothold, fail with EPERM.
//!
//! A list of what is forbidden, not of what is allowed: the C library, the allocator and the kernel's interfaces grow, and a proxy that
//! is killed for a new spelling of an old call is an outage on the day of an update. For the same reason a forbidden call fails, and
//! kills nothing. What is forbidden is stable: it starts programs, looks into other processes, changes the machine or the user, opens kernel
//! interfaces with a history of holes, or makes sockets of other families than IP and Unix. `clone3` hides its flags from a filter
//! and fails with ENOSYS, on which the C library goes back to `clone`, which is allowed for threads.
//!
//! For every thread of the process (`SECCOMP_FILTER_FLAG_TSYNC`, Linux 3.17). Numbers are those of the processor the program was made
//! for; calls by another convention of it (32 bits, x32) fail.

use seccompiler::{BpfProgram, TargetArch, apply_filter_all_threads, compile_from_json, sock_filter};
use serde_json::{Value, json};

use super::Role;

const FORBIDDEN: [&str; 88] = [
    // Starting programs and processes.
    "execve",
    "execveat",
    // Other processes.
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "kcmp",
    "kill",
    "tkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "migrate_pages",
    "move_pages",
    // The file system's tree.
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "move_mount",
    "open_tree",
    "mount_setattr",
    "mknodat",
    "name_to_handle_at",
    "open_by_handle_at",
    "quotactl",
    "quotactl_fd",
    "fanotify_init",
    // Namespaces and who one is.
    "unshare",
    "setns",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "capset",
    "personality",
    // Kernel interfaces that nobody needs here.
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "lookup_dcookie",
    "syslog",
    "vhangup",
    "acct",
    "mbind",
    "set_mempolicy",
    "nfsservctl",
    // The machine.
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "reboot",
    "swapon",
    "swapoff",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "sethostname",
    "setdomainname",
    // Memory that is code.
    "memfd_create",
    "memfd_secret",
    "pkey_mprotect",
    "pkey_alloc",
    "pkey_free",
    "remap_file_pages",
    // System V and POSIX queues.
    "shmget",
    "shmat",
    "semget",
    "msgget",
    "mq_open",
];
const FORBIDDEN_ON_X86: [&str; 9] =
    ["fork", "vfork", "iopl", "ioperm", "modify_ldt", "mknod", "uselib", "ustat", "sysfs"];
/// For the process that has one socket and the key.
const FORBIDDEN_TO_MINTING: [&str; 7] = ["socket", "connect", "bind", "listen", "accept", "accept4", "truncate"];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// Of `clone(2)`.
const CLONE_THREAD: u32 = 0x0001_0000;
/// AF_UNIX, AF_INET, AF_INET6 of socket(2).
const FAMILIES: [u32; 3] = [1, 2, 10];
/// The lower bits of a socket's type, and SOCK_RAW.
const TYPE: (u32, u32) = (0xf, 3);
/// The protocol's own, IPPROTO_TCP, IPPROTO_UDP of socket(2).
const PROTOCOLS: [u32; 3] = [0, 6, 17];
/// MSG_FASTOPEN of sendto(2).
const FAST_OPEN: u32 = 0x2000_0000;
/// PR_SET_DUMPABLE of prctl(2): what was made undumpable stays so.
const SET_DUMPABLE: u32 = 4;

pub(super) fn restrict(role: Role) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("system calls could not be restricted: {error}");
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| failed(&error))?;
    for program in programs(role, arch).map_err(|error| failed(&error))? {
        apply_filter_all_threads(&program).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Each is asked about each call, and the strictest answer counts.
fn programs(role: Role, arch: TargetArch) -> Result<Vec<BpfProgram>, seccompiler::Error> {
    let mut programs = vec![
        compiled(&forbidding(EPERM, &rules(role, arch)), arch)?,
        compiled(&forbidding(ENOSYS, &[json!({"syscall": "clone3"})]), arch)?,
    ];
    if arch == TargetArch::x86_64 {
        programs.push(without_x32());
    }
    Ok(programs)
}

fn compiled(filter: &Value, arch: TargetArch) -> Result<BpfProgram, seccompiler::Error> {
    let compiled = compile_from_json(filter.to_string().as_bytes(), arch)?;
    Ok(compiled.into_values().next().unwrap_or_default())
}

fn forbidding(errno: u32, rules: &[Value]) -> Value {
    json!({"filter": {"mismatch_action": "allow", "match_action": {"errno": errno}, "filter": rules}})
}

fn rules(role: Role, arch: TargetArch) -> Vec<Value> {
    let mut names = FORBIDDEN.to_vec();
    if arch == TargetArch::x86_64 {
        names.extend(FORBIDDEN_ON_X86);
    }
    let mut rules: Vec<Value> = Vec::new();
    let argument = |index: u8, op: Value, value: u32| json!({"index": index, "type": "dword", "op": op, "val": value});
    match role {
        Role::Minting => names.extend(FORBIDDEN_TO_MINTING),
        Role::Serving => {
            let others: Vec<Value> = FAMILIES.iter().map(|family| argument(0, json!("ne"), *family)).collect();
            rules.push(json!({"syscall": "socket", "args": others}));
            let (mask, raw) = TYPE;
            rules.push(json!({"syscall": "socket", "args": [argument(1, json!({"masked_eq": mask}), raw)]}));
            // Multipath TCP, SCTP and their like, and a connection that begins with its first octets, are no TCP to Landlock.
            let others: Vec<Value> = PROTOCOLS.iter().map(|protocol| argument(2, json!("ne"), *protocol)).collect();
            rules.push(json!({"syscall": "socket", "args": others}));
            for (name, flags) in [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)] {
                let fast = argument(flags, json!({"masked_eq": FAST_OPEN}), FAST_OPEN);
                rules.push(json!({"syscall": name, "args": [fast]}));
            }
        }
    }
    rules.push(json!({"syscall": "clone", "args": [argument(0, json!({"masked_eq": CLONE_THREAD}), 0)]}));
    rules.push(json!({"syscall": "prctl", "args": [argument(0, json!("eq"), SET_DUMPABLE)]}));
    rules.extend(names.into_iter().map(|name| json!({"syscall": name})));
    rules
}

/// x32 shares its architecture's name with x86-64 and has numbers of its own, all of them from `__X32_SYSCALL_BIT` on: a list of
/// x86-64's would let its `execve` pass.
fn without_x32() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const ANSWER: u16 = 0x06; // BPF_RET | BPF_K
    const NUMBER: u32 = 0; // the offset of nr in struct seccomp_data
    const X32: u32 = 0x4000_0000;
    const ERRNO: u32 = 0x0005_0000; // SECCOMP_RET_ERRNO
    const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, NUMBER),
        step(AT_LEAST, 0, 1, X32),
        step(ANSWER, 0, 0, ERRNO | ENOSYS),
        step(ANSWER, 0, 0, ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_call_of_both_processors() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            for role in [Role::Serving, Role::Minting] {
                let programs = programs(role, arch).unwrap_or_else(|error| panic!("{arch:?} {role:?}: {error}"));
                assert!(programs.iter().all(|program| (4..4096).contains(&program.len())), "{arch:?} {role:?}");
            }
        }
    }

    #[test]
    fn no_name_stands_there_twice() {
        let names: Vec<&str> =
            FORBIDDEN.iter().chain(&FORBIDDEN_ON_X86).chain(&FORBIDDEN_TO_MINTING).copied().collect();
        let once: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(once.len(), names.len());
    }
}
