//! How much memory there is for this process: the machine's, or what a control group of ours may use where that is less (v2
//! `memory.max` and `memory.high`, v1 `memory.limit_in_bytes`, of our group and of every group above it).

use std::fs;
use std::path::{Path, PathBuf};

/// `None` where nothing says.
pub(super) fn memory() -> Option<u64> {
    of(Path::new("/"))
}

fn of(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| group_limits(root, line));
    limits.chain(machine(root)).min()
}

/// `MemTotal` of /proc/meminfo, which is in KiB.
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits that a line of /proc/self/cgroup (`hierarchy:controllers:path`) leads to. Inside a container the path may be that of
/// the host, of which only the upper end is mounted: so every group on the way up is looked for.
fn group_limits(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (mounts, files): (&[&str], &[&str]) = match controllers {
        "" => (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], &["memory.max", "memory.high"]),
        v1 if v1.split(',').any(|one| one == "memory") => (&["sys/fs/cgroup/memory"], &["memory.limit_in_bytes"]),
        _ => return Vec::new(),
    };
    let group: PathBuf =
        Path::new(path).components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    let places = group.ancestors().flat_map(|group| mounts.iter().map(move |mount| root.join(mount).join(group)));
    places.flat_map(|place| files.iter().filter_map(move |file| limit(&place.join(file)))).collect()
}

/// `max` is no limit, and no number.
fn limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
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
        const V1: (&str, &str) = ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n0::/\n");
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<u64>);
        let rows: [Row<'_>; 11] = [
            ("nothing", &[], None),
            ("the machine", &[MACHINE], Some(1_024_000)),
            ("no number", &[("proc/meminfo", "MemTotal: many kB\n")], None),
            ("v2", &[MACHINE, V2, ("sys/fs/cgroup/system.slice/sekisho.service/memory.max", "5000\n")], Some(5_000)),
            (
                "v2 without limit",
                &[MACHINE, V2, ("sys/fs/cgroup/system.slice/sekisho.service/memory.max", "max\n")],
                Some(1_024_000),
            ),
            (
                "v2 high",
                &[MACHINE, V2, ("sys/fs/cgroup/system.slice/sekisho.service/memory.high", "4000\n")],
                Some(4_000),
            ),
            ("v2 above", &[MACHINE, V2, ("sys/fs/cgroup/system.slice/memory.max", "3000\n")], Some(3_000)),
            (
                "v2 in a container",
                &[MACHINE, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "2000\n")],
                Some(2_000),
            ),
            ("v1", &[MACHINE, V1, ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "7000\n")], Some(7_000)),
            (
                "v1 in a container",
                &[MACHINE, V1, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "6000\n")],
                Some(6_000),
            ),
            (
                "v1 without limit",
                &[MACHINE, V1, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")],
                Some(1_024_000),
            ),
        ];
        for (what, files, expected) in rows {
            assert_eq!(of(root(files).path()), expected, "{what}");
        }
    }

    #[test]
    fn this_machine_has_some() {
        assert!(memory().expect("Linux says") > 16 << 20);
    }
}
