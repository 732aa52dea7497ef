//! How many threads are worth starting: the physical cores that this process may use.
//!
//! In: what Linux says in `/proc` and `/sys`, elsewhere what the standard library says. Out: a number, at least 1. Two
//! hardware threads of one core share its vector units and its path to memory, so the second gains nothing here.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::available_parallelism;

/// Physical cores within this process's affinity, at most its CPU quota; at least 1.
pub fn physical_cores() -> usize {
    // Honours affinity and control-group quotas, but counts hardware threads.
    let parallelism = available_parallelism().map_or(1, |n| n.get());
    let cores = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| allowed_cpus(&status))
        .map(|cpus| distinct_cores(&cpus, Path::new("/sys/devices/system/cpu")));
    match cores {
        Some(n) if n > 0 => n.min(parallelism),
        _ => parallelism,
    }
}

/// The CPUs of the line `Cpus_allowed_list:` of a process's status.
fn allowed_cpus(status: &str) -> Option<BTreeSet<u32>> {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).and_then(parse_cpu_list)
}

/// Cores among `cpus`: a core is the list of hardware threads that share it. A CPU without a list counts alone.
fn distinct_cores(cpus: &BTreeSet<u32>, sys: &Path) -> usize {
    let mut cores = BTreeSet::new();
    for &cpu in cpus {
        let siblings = std::fs::read_to_string(sys.join(format!("cpu{cpu}/topology/thread_siblings_list")))
            .ok()
            .and_then(|list| parse_cpu_list(&list));
        cores.insert(siblings.and_then(|list| list.first().copied()).unwrap_or(cpu));
    }
    cores.len()
}

/// Most CPUs that Linux can be built for; a longer range is not a list of CPUs.
const MAX_CPUS: u32 = 8192;

/// `0-3,8,10-11` as a set; `None` if it is no such list.
fn parse_cpu_list(list: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MAX_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_parse() {
        assert_eq!(parse_cpu_list("0-2,5\n"), Some(BTreeSet::from([0, 1, 2, 5])));
        assert_eq!(parse_cpu_list("7"), Some(BTreeSet::from([7])));
        for bad in ["", "a", "3-1", "0-4294967295", "1,,2"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad:?}");
        }
        let status = "Name:\tx\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n";
        assert_eq!(allowed_cpus(status), Some(BTreeSet::from([0, 1])));
    }

    #[test]
    fn hardware_threads_of_one_core_count_once() {
        let sys = tempfile::tempdir().expect("a temporary folder");
        for (cpu, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let topology = sys.path().join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&topology).expect("a folder");
            std::fs::write(topology.join("thread_siblings_list"), siblings).expect("a file");
        }
        assert_eq!(distinct_cores(&BTreeSet::from([0, 1, 2, 3]), sys.path()), 2);
        assert_eq!(distinct_cores(&BTreeSet::from([0, 2]), sys.path()), 1);
        assert_eq!(distinct_cores(&BTreeSet::from([2, 3, 9]), sys.path()), 3);
    }

    #[test]
    fn this_machine_has_a_core() {
        let parallelism = available_parallelism().map_or(1, |n| n.get());
        assert!((1..=parallelism).contains(&physical_cores()));
    }
}
