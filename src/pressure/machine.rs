//! How much memory there is for this process: the machine's, or what a control group of ours may use where that is less (v2
//! `memory.max` and `memory.high`, v1 `memory.limit_in_bytes`, of our group and of every group above it that can be seen from here).

use std::fs;
use std::path::{Component, Path, PathBuf};

/// `None` where nothing says.
pub(super) fn memory() -> Option<u64> {
    of(Path::new("/"))
}

fn of(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let mounts: Vec<Hierarchy<'_>> = mounts.lines().filter_map(Hierarchy::mounted).collect();
    let limits = groups.lines().flat_map(|line| group_limits(root, &mounts, line));
    limits.chain(machine(root)).min()
}

/// `MemTotal` of /proc/meminfo, which is in KiB.
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Where a hierarchy of control groups can be seen.
struct Hierarchy<'t> {
    /// v1, with the memory controller; otherwise v2.
    v1: bool,
    /// The group that is at the mount point: in a container not the topmost.
    top: &'t str,
    /// From the root directory on.
    mount: &'t Path,
}

impl<'t> Hierarchy<'t> {
    /// Out of a line of /proc/self/mountinfo (proc_pid_mountinfo(5)): `…  top mount options - type source options`.
    fn mounted(line: &'t str) -> Option<Self> {
        let (of_mount, of_system) = line.split_once(" - ")?;
        let mut of_mount = of_mount.split(' ').skip(3);
        let (top, mount) = (of_mount.next()?, Path::new(of_mount.next()?).strip_prefix("/").ok()?);
        let of_system: Vec<&str> = of_system.split(' ').collect();
        let v1 = match of_system.as_slice() {
            ["cgroup2", ..] => false,
            ["cgroup", .., options] if options.split(',').any(|one| one == "memory") => true,
            _ => return None,
        };
        Some(Self { v1, top, mount })
    }

    /// The group and those above it, as far as they are mounted. One that is elsewhere is below what is at the mount point.
    fn places(&self, root: &Path, group: &str) -> Vec<PathBuf> {
        let below = Path::new(group).strip_prefix(self.top).unwrap_or(Path::new(""));
        let normal = below.components().all(|part| matches!(part, Component::Normal(_)));
        let below = if normal { below } else { Path::new("") };
        below.ancestors().map(|group| root.join(self.mount).join(group)).collect()
    }
}

/// The limits that a line of /proc/self/cgroup (`hierarchy:controllers:path`) leads to.
fn group_limits(root: &Path, mounts: &[Hierarchy<'_>], line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (v1, files): (bool, &[&str]) = match controllers {
        "" => (false, &["memory.max", "memory.high"]),
        v1 if v1.split(',').any(|one| one == "memory") => (true, &["memory.limit_in_bytes"]),
        _ => return Vec::new(),
    };
    let places = mounts.iter().filter(|mounted| mounted.v1 == v1).flat_map(|mounted| mounted.places(root, group));
    places.flat_map(|place| files.iter().filter_map(move |file| limit(&place.join(file)))).collect()
}

/// No limit is `max` in v2, which is no number, and in v1 the largest there is, in whole pages, whose size differs from machine to
/// machine.
fn limit(file: &Path) -> Option<u64> {
    const NO_LIMIT: u64 = 1 << 62;
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn o02_the_least_of_machine_and_groups_counts() {
        const MACHINE: (&str, &str) = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:    1000 kB\n");
        const V2: (&str, &str) = ("proc/self/cgroup", "0::/system.slice/sekisho.service\n");
        const V1: (&str, &str) = ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc/sub\n0::/\n");
        const ON_V2: (&str, &str) = (
            "proc/self/mountinfo",
            "22 1 0:5 / /proc rw - proc proc rw\n30 22 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n",
        );
        const ON_V1: (&str, &str) = (
            "proc/self/mountinfo",
            "31 30 0:27 / /cg/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             32 30 0:28 / /cg/memory rw shared:10 - cgroup cgroup rw,memory\n33 30 0:29 / /cg/unified rw - cgroup2 none rw\n",
        );
        const IN_CONTAINER: (&str, &str) =
            ("proc/self/mountinfo", "32 30 0:28 /docker/abc /cg/memory ro - cgroup cgroup rw,memory\n");
        const MAX: &str = "9223372036854771712\n";
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<u64>);
        let (v2, v1) = ("sys/fs/cgroup/system.slice", "cg/memory/docker");
        let at = |place: &str, file: &str| format!("{place}/{file}");
        let (v2_max, v2_high) = (at(v2, "sekisho.service/memory.max"), at(v2, "sekisho.service/memory.high"));
        let v2_above = at(v2, "memory.max");
        let (v1_own, v1_above) = (at(v1, "abc/sub/memory.limit_in_bytes"), at(v1, "memory.limit_in_bytes"));
        let v1_sub = "cg/memory/sub/memory.limit_in_bytes";
        let v1_top = "cg/memory/memory.limit_in_bytes";
        let rows: &[Row<'_>] = &[
            ("nothing", &[], None),
            ("the machine", &[MACHINE], Some(1_024_000)),
            ("no number", &[("proc/meminfo", "MemTotal: many kB\n")], None),
            ("v2", &[MACHINE, V2, ON_V2, (&v2_max, "5000\n")], Some(5_000)),
            ("v2 not mounted", &[MACHINE, V2, (&v2_max, "5000\n")], Some(1_024_000)),
            ("v2 without limit", &[MACHINE, V2, ON_V2, (&v2_max, "max\n")], Some(1_024_000)),
            ("v2 high", &[MACHINE, V2, ON_V2, (&v2_high, "4000\n")], Some(4_000)),
            ("v2 above", &[MACHINE, V2, ON_V2, (&v2_max, "5000\n"), (&v2_above, "3000\n")], Some(3_000)),
            ("v2 below it", &[MACHINE, V2, ON_V2, (&v2_max, "3000\n"), (&v2_above, "5000\n")], Some(3_000)),
            (
                "v2 in a container",
                &[MACHINE, ON_V2, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "2000\n")],
                Some(2_000),
            ),
            (
                "v2 seen from a group of another name space",
                &[MACHINE, ON_V2, ("proc/self/cgroup", "0::/../other\n"), ("sys/fs/cgroup/memory.max", "2000\n")],
                Some(2_000),
            ),
            ("v1", &[MACHINE, V1, ON_V1, (&v1_own, "7000\n"), (v1_top, MAX)], Some(7_000)),
            ("v1 above", &[MACHINE, V1, ON_V1, (&v1_own, "7000\n"), (&v1_above, "6500\n")], Some(6_500)),
            ("v1 in a container", &[MACHINE, V1, IN_CONTAINER, (v1_top, "6000\n")], Some(6_000)),
            (
                "v1 below a container's",
                &[MACHINE, V1, IN_CONTAINER, (v1_top, "6000\n"), (v1_sub, "5500\n")],
                Some(5_500),
            ),
            ("v1 without limit", &[MACHINE, V1, ON_V1, (v1_top, MAX)], Some(1_024_000)),
            ("v1 without limit, nor a machine", &[V1, ON_V1, (v1_top, MAX)], None),
            ("v1 without limit, in pages of 64 KiB", &[V1, ON_V1, (v1_top, "9223372036854710272\n")], None),
        ];
        for (what, files, expected) in rows {
            assert_eq!(of(root(files).path()), *expected, "{what}");
        }
    }

    #[test]
    fn this_machine_has_some() {
        assert!(memory().expect("Linux says") > 16 << 20);
    }
}
