//! System calls, by seccomp: those that a proxy never makes, and that turn a bug into a foothold, fail with EPERM.
//!
//! A list of what is forbidden, not of what is allowed: the C library, the allocator and the kernel's interfaces grow, and a proxy that
//! is killed for a new spelling of an old call is an outage on the day of an update. For the same reason a forbidden call fails, and
//! kills nothing. What is forbidden is stable: it starts programs, makes memory executable, reaches other processes, changes the machine or
//! the user, opens kernel interfaces with a history of holes, or makes sockets of other families than IP and Unix. `clone3` and `openat2`
//! hide their flags from a filter and fail with ENOSYS, on which the C library goes back to `clone` and `openat`.
//!
//! For every thread of the process (`SECCOMP_FILTER_FLAG_TSYNC`, Linux 3.17). Numbers are those of the processor the program was made
//! for; calls by another convention of it (32 bits, x32) fail.

use seccompiler::{BpfProgram, TargetArch, apply_filter_all_threads, compile_from_json, sock_filter};
use serde_json::{Value, json};

use super::Role;

const FORBIDDEN: [&str; 99] = [
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
    // Who gets the processor.
    "setpriority",
    "ioprio_set",
    // Owners and attributes, which Landlock leaves to whom a file belongs to.
    "fchown",
    "fchownat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    // Cutting short a file that was not opened for writing.
    "truncate",
];
const FORBIDDEN_ON_X86: [&str; 11] =
    ["fork", "vfork", "iopl", "ioperm", "modify_ldt", "mknod", "uselib", "ustat", "sysfs", "chown", "lchown"];
/// Calls that are for this process alone, as they are where their first argument, a process, is 0.
const OWN: [&str; 5] = ["prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"];
/// Calls that make memory executable: nothing loads code once the service runs.
const EXECUTABLE: [&str; 2] = ["mmap", "mprotect"];
/// For the process that has one socket and the key.
const FORBIDDEN_TO_MINTING: [&str; 8] =
    ["socket", "connect", "bind", "listen", "accept", "accept4", "fchmod", "fchmodat"];

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

/// PROT_EXEC of mmap(2).
const EXECUTE: u32 = 4;
/// F_SETOWN, F_SETSIG, F_SETOWN_EX of fcntl(2) and FIOSETOWN, SIOCSPGRP of ioctl(2), by which a descriptor sends another process signals;
/// TIOCSTI and TIOCLINUX of ioctl_tty(2), by which a terminal is typed on.
const BY_DESCRIPTOR: [(&str, u32); 7] = [
    ("fcntl", 8),
    ("fcntl", 10),
    ("fcntl", 15),
    ("ioctl", 0x8901),
    ("ioctl", 0x8902),
    ("ioctl", 0x5412),
    ("ioctl", 0x541c),
];
/// O_TRUNC and O_ACCMODE of open(2): a file that is opened to be read, or for neither (3), and is cut short by that. Landlock sees it from
/// ABI 3 on.
const TRUNCATE: u32 = 0x200;
const ACCESS: u32 = 3;
const READ_MODES: [u32; 2] = [0, 3];

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
        // Both hide what is asked for behind a pointer, and have an older call that does not.
        compiled(&forbidding(ENOSYS, &[json!({"syscall": "clone3"}), json!({"syscall": "openat2"})]), arch)?,
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
    rules.extend(OWN.map(|name| json!({"syscall": name, "args": [argument(0, json!("ne"), 0)]})));
    rules.push(json!({"syscall": "tgkill", "args": [argument(0, json!("ne"), std::process::id())]}));
    rules.extend(
        EXECUTABLE.map(|name| json!({"syscall": name, "args": [argument(2, json!({"masked_eq": EXECUTE}), EXECUTE)]})),
    );
    rules.extend(BY_DESCRIPTOR.map(|(name, what)| json!({"syscall": name, "args": [argument(1, json!("eq"), what)]})));
    for mode in READ_MODES {
        let cut = |flags: u8| argument(flags, json!({"masked_eq": TRUNCATE | ACCESS}), TRUNCATE | mode);
        rules.push(json!({"syscall": "openat", "args": [cut(2)]}));
        if arch == TargetArch::x86_64 {
            rules.push(json!({"syscall": "open", "args": [cut(1)]}));
        }
    }
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

    /// What the kernel does with one call: seccomp(2)'s data through each program, and the strictest answer.
    fn errno_of(programs: &[BpfProgram], number: u32, arguments: [u64; 6]) -> Option<u32> {
        const X86_64: u32 = 0xc000_003e;
        let mut data = [number, X86_64, 0, 0].map(u32::to_ne_bytes).concat();
        data.extend(arguments.map(u64::to_ne_bytes).concat());
        let answers = programs.iter().map(|program| answer_of(program, &data));
        answers.filter(|answer| answer & 0xffff_0000 == 0x0005_0000).map(|answer| answer & 0xffff).max()
    }

    fn answer_of(program: &[sock_filter], data: &[u8]) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let step = &program[at];
            let way = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            at += 1;
            match step.code {
                0x20 => {
                    let from = usize::try_from(step.k).expect("small");
                    held = u32::from_ne_bytes(data[from..from + 4].try_into().expect("four"));
                }
                0x54 => held &= step.k,
                0x05 => at += usize::try_from(step.k).expect("small"),
                0x15 => at += way(held == step.k),
                0x25 => at += way(held > step.k),
                0x35 => at += way(held >= step.k),
                0x06 => return step.k,
                other => panic!("{other:#x} is not understood here"),
            }
        }
    }

    #[test]
    fn j07_arguments_tell_what_is_refused() {
        let own = u64::from(std::process::id());
        for role in [Role::Serving, Role::Minting] {
            let programs = programs(role, TargetArch::x86_64).expect("compiled");
            // Numbers are x86-64's (syscall(2), arch/x86/entry/syscalls/syscall_64.tbl).
            for (call, number, arguments, errno) in [
                ("mmap, read and write", 9, [0, 4096, 3, 0x22, u64::MAX, 0], None),
                ("mmap, read and execute", 9, [0, 4096, 5, 2, 3, 0], Some(1)),
                ("mmap, write and execute", 9, [0, 4096, 7, 0x22, u64::MAX, 0], Some(1)),
                ("mprotect, read", 10, [4096, 4096, 1, 0, 0, 0], None),
                ("mprotect, execute", 10, [4096, 4096, 4, 0, 0, 0], Some(1)),
                ("prlimit64, own", 302, [0, 7, 0, 0, 0, 0], None),
                ("prlimit64, another's", 302, [own + 1, 7, 1, 0, 0, 0], Some(1)),
                ("sched_setscheduler, own", 144, [0, 0, 0, 0, 0, 0], None),
                ("sched_setscheduler, another's", 144, [own + 1, 0, 0, 0, 0, 0], Some(1)),
                ("sched_setattr, another's", 314, [own + 1, 0, 0, 0, 0, 0], Some(1)),
                ("sched_setparam, another's", 142, [own + 1, 0, 0, 0, 0, 0], Some(1)),
                ("tgkill, own", 234, [own, own, 6, 0, 0, 0], None),
                ("tgkill, another", 234, [own + 1, own + 1, 9, 0, 0, 0], Some(1)),
                ("fcntl, F_GETFL", 72, [3, 3, 0, 0, 0, 0], None),
                ("fcntl, F_SETOWN", 72, [3, 8, own + 1, 0, 0, 0], Some(1)),
                ("fcntl, F_SETOWN_EX", 72, [3, 15, 0, 0, 0, 0], Some(1)),
                ("ioctl, FIONREAD", 16, [3, 0x541b, 0, 0, 0, 0], None),
                ("ioctl, TIOCSTI", 16, [0, 0x5412, 0, 0, 0, 0], Some(1)),
                ("openat, to read", 257, [0, 0, 0x8_0000, 0, 0, 0], None),
                ("openat, to write anew", 257, [0, 0, 0x241, 0o640, 0, 0], None),
                ("openat, to read what is cut short", 257, [0, 0, 0x200, 0, 0, 0], Some(1)),
                ("open, for neither, cut short", 2, [0, 0x203, 0, 0, 0, 0], Some(1)),
                ("openat2", 437, [0, 0, 0, 24, 0, 0], Some(38)),
                ("truncate", 76, [0, 0, 0, 0, 0, 0], Some(1)),
                ("ftruncate", 77, [3, 0, 0, 0, 0, 0], None),
                ("execve", 59, [0, 0, 0, 0, 0, 0], Some(1)),
                ("execve of x32", 0x4000_0208, [0, 0, 0, 0, 0, 0], Some(38)),
            ] {
                assert_eq!(errno_of(&programs, number, arguments), errno, "{role:?}: {call}");
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
