//! How much memory is left for weights.
//!
//! In: what Linux says in `/proc` and `/sys`. Out: bytes, or nothing where the system does not say. It counts what the system could
//! free at once, within the limits of this process's control groups, and leaves a reserve for keys, values and everybody else.

use std::path::{Path, PathBuf};

/// What is left free at least.
const RESERVE_BYTES: u64 = 256 << 20;
/// And at least this part of what is available.
const RESERVE_SHARE: u64 = 8;

/// Bytes that weights may take: what is available less a reserve of an eighth, 256 MiB at least.
pub fn for_weights() -> Option<u64> {
    let available = of_machine()?.min(of_groups().unwrap_or(u64::MAX));
    Some(without_reserve(available))
}

fn without_reserve(available: u64) -> u64 {
    available.saturating_sub(RESERVE_BYTES.max(available / RESERVE_SHARE))
}

/// What the machine has for new processes without swapping.
fn of_machine() -> Option<u64> {
    parse_available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// The line `MemAvailable:  1234 kB`.
fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What the control groups of this process, and those around them, leave; `None` if none has a limit.
fn of_groups() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut left = None;
    for (folder, names) in folders(&groups) {
        for group in folder.ancestors().take_while(|group| group.starts_with("/sys/fs/cgroup")) {
            let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
            let [limit, used, file] = names;
            // Without a number there is no limit: `max`.
            let number = |name| read(name).and_then(|text| text.trim().parse::<u64>().ok());
            let (Some(limit), Some(used)) = (number(limit), number(used)) else { continue };
            // Pages of files count as used, and go first.
            let of_files = read("memory.stat").and_then(|stat| inactive(&stat, file)).unwrap_or(0);
            let here = limit.saturating_sub(used.saturating_sub(of_files));
            left = Some(left.map_or(here, |left: u64| left.min(here)));
        }
    }
    left
}

/// The folder of each group that may limit memory, and what its files are called: limit, use, the line of pages of files.
fn folders(groups: &str) -> Vec<(PathBuf, [&'static str; 3])> {
    let folder = |root: &str, path: &str| Path::new(root).join(path.trim_start_matches('/'));
    let of_line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => Some((folder("/sys/fs/cgroup", path), ["memory.max", "memory.current", "inactive_file"])),
            list if list.split(',').any(|name| name == "memory") => {
                let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
                Some((folder("/sys/fs/cgroup/memory", path), names))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(of_line).collect()
}

/// A line of `memory.stat`.
fn inactive(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_parses() {
        assert_eq!(parse_available("MemTotal: 9 kB\nMemAvailable:    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_available("MemFree: 9 kB\n"), None);
        let stat = "inactive_file_x 3\ninactive_file 77\ntotal_inactive_file 99\n";
        assert_eq!((inactive(stat, "inactive_file"), inactive(stat, "total_inactive_file")), (Some(77), Some(99)));
        let found = folders("12:memory:/a/b\n3:cpu,cpuacct:/c\n0::/d\n");
        assert_eq!(found[0].0, Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!((found[1].0.as_path(), found.len()), (Path::new("/sys/fs/cgroup/d"), 2));
    }

    #[test]
    fn a_reserve_is_left() {
        assert_eq!(without_reserve(100 << 20), 0);
        assert_eq!(without_reserve(1 << 30), (1 << 30) - (256 << 20));
        assert_eq!(without_reserve(8 << 30), 7 << 30);
    }
}
