//! How slowly bytes may come.
//!
//! In: a reader, and how long some bytes may take. Out: a reader that fails when fewer came: a server that sends a byte now and then
//! holds nobody for ever. Only a read that returns is judged; one that does not is the agent's to end.

use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// The fewest bytes that count as something.
const FLOOR_BYTES: u64 = 64 << 10;

/// Fewer bytes came than must.
#[derive(Debug)]
pub(super) struct TooSlow {
    bytes: u64,
    window: Duration,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, window } = self;
        let seconds = window.as_secs();
        write!(
            f,
            "{bytes} bytes came in {seconds} s, expected at least {FLOOR_BYTES}: what came is kept, and `tern pull` goes "
        )?;
        write!(f, "on with it; --pull-seconds says how long so many bytes may take")
    }
}

impl std::error::Error for TooSlow {}

/// A reader with a floor.
pub(super) struct Paced<R> {
    inner: R,
    window: Duration,
    began: Instant,
    /// Bytes since then.
    bytes: u64,
}

impl<R> Paced<R> {
    /// Reads `inner`; no floor if `window` is zero.
    pub(super) fn new(inner: R, window: Duration) -> Self {
        Self { inner, window, began: Instant::now(), bytes: 0 }
    }

    /// Judges the time until `now`.
    fn judge(&mut self, now: Instant) -> Result<(), TooSlow> {
        let took = now.saturating_duration_since(self.began);
        if self.window.is_zero() || took < self.window {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.began = now;
        if bytes < FLOOR_BYTES { Err(TooSlow { bytes, window: self.window }) } else { Ok(()) }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.bytes = self.bytes.saturating_add(n as u64);
        // At the end nobody waits any more.
        if n > 0 {
            self.judge(Instant::now()).map_err(io::Error::other)?;
        }
        Ok(n)
    }
}

/// Whether that is what `error` says.
pub(super) fn is_too_slow(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<TooSlow>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_judged_one_by_one() {
        let window = Duration::from_secs(60);
        let mut paced = Paced::new(io::empty(), window);
        let began = paced.began;
        paced.bytes = 10;
        assert!(paced.judge(began + window - Duration::from_secs(1)).is_ok());
        paced.bytes = FLOOR_BYTES;
        assert!(paced.judge(began + window).is_ok());
        // A new one begins, and what came before does not count.
        paced.bytes += 10;
        assert!(paced.judge(began + window + Duration::from_secs(59)).is_ok());
        let slow = paced.judge(began + 2 * window).expect_err("ten bytes in a minute");
        assert!(slow.to_string().starts_with("10 bytes came in 60 s, expected at least 65536"), "{slow}");
        assert!(is_too_slow(&io::Error::other(slow)) && !is_too_slow(&io::ErrorKind::TimedOut.into()));
        let mut unhurried = Paced::new(io::empty(), Duration::ZERO);
        assert!(unhurried.judge(began + 100 * window).is_ok());
    }
}
