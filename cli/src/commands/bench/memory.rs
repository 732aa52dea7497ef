//! The most memory that the process has had, and what is free, as the system counts it.
//!
//! In: `/proc/self/status`, `/proc/meminfo`. Out: bytes; nothing where the system does not say. What only measuring took is left out.

/// The peak, from the start of the program.
pub(super) struct Peak {
    /// Before the measuring buffer was there.
    before: Option<u64>,
    left_out_bytes: u64,
}

impl Peak {
    /// The peak so far.
    pub(super) fn now() -> Self {
        Self { before: most_resident_bytes(), left_out_bytes: 0 }
    }

    /// From now on, `bytes` are always resident that do not count.
    pub(super) fn leave_out(&mut self, bytes: u64) {
        self.left_out_bytes = bytes;
    }

    /// The most that was resident before, or beside what is left out.
    pub(super) fn bytes(&self) -> Option<u64> {
        let since = most_resident_bytes()?.saturating_sub(self.left_out_bytes);
        Some(since.max(self.before.unwrap_or(0)))
    }
}

/// What may still be had without taking it from others.
pub(super) fn available_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn most_resident_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The line `NAME  1234 kB`.
fn parse(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_parses() {
        let status = "VmPeak:\t 9 kB\nVmHWM:\t   1234 kB\nVmRSS:\t 7 kB\n";
        assert_eq!((parse(status, "VmHWM:"), parse(status, "VmRSS:")), (Some(1234 * 1024), Some(7 * 1024)));
        assert_eq!(parse(status, "MemAvailable:"), None);
    }

    #[test]
    fn what_is_left_out_does_not_count() {
        let peak = Peak { before: Some(0), left_out_bytes: u64::MAX };
        assert_eq!(peak.bytes().unwrap_or(0), 0);
        let peak = Peak { before: Some(u64::MAX), left_out_bytes: 0 };
        assert_eq!(peak.bytes().unwrap_or(u64::MAX), u64::MAX);
    }
}
