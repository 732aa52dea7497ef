//! Reads little-endian numbers and texts from the front of a file, and knows where it stands.
//!
//! In: the bytes of a file. Out: one value after another, or an error that names the byte. Upholds: nothing beyond the end
//! is read, and nothing is allocated before the bytes that it is for were seen to be there.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::error::{Error, Fault};

/// The most of a file that may be metadata: a vocabulary of a million tokens needs less.
const MAX_HEADER_BYTES: usize = 256 << 20;
pub(super) const DAMAGED: &str = "the file is damaged or its download is incomplete: fetch it again";

/// A place in the header of `file`.
pub(super) struct Cursor<'b> {
    file: &'b str,
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    /// The beginning of `bytes`, the content of `file`.
    pub(super) fn new(file: &'b str, bytes: &'b [u8]) -> Self {
        Self { file, bytes: bytes.get(..MAX_HEADER_BYTES).unwrap_or(bytes), at: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// A finding at the byte `at`.
    pub(super) fn fault(&self, at: usize, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault::new(self.file, found, expected).byte(at as u64)
    }

    /// The next `len` bytes, which are `what`.
    pub(super) fn take(&mut self, len: usize, what: &str) -> Result<&'b [u8], Error> {
        let end = self.at.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(bytes) => {
                self.at = self.at.saturating_add(len);
                Ok(bytes)
            }
            None => {
                let found = format!("{} bytes up to the end of the header", self.left());
                let fault = self.fault(self.at, found, format!("{len} bytes of {what}"));
                Err(Error::input(fault.next(DAMAGED)))
            }
        }
    }

    /// The next `N` bytes, which are `what`.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let bytes = self.take(N, what)?;
        // `take` gave as many as were asked for.
        Ok(bytes.first_chunk::<N>().copied().unwrap_or([0; N]))
    }

    /// The next number of 32 bits.
    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// The next number of 64 bits.
    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of `what`, at most `limit` and of at least `least_bytes` each in what is left of the header.
    pub(super) fn count(&mut self, what: &str, limit: u64, least_bytes: usize) -> Result<usize, Error> {
        let at = self.at;
        let count = self.u64(what)?;
        let room = (self.left() as u64).checked_div(least_bytes.max(1) as u64).unwrap_or(0);
        match usize::try_from(count) {
            Ok(n) if count <= limit && count <= room => Ok(n),
            _ => {
                let expected =
                    format!("at most {} (the limit is {limit}, {} bytes are left)", limit.min(room), self.left());
                Err(Error::input(self.fault(at, format!("{count} {what}"), expected).next(DAMAGED)))
            }
        }
    }

    /// A text of at most `limit` bytes: its length, then UTF-8.
    pub(super) fn text(&mut self, what: &str, limit: u64) -> Result<&'b str, Error> {
        let len = self.count(&format!("bytes of {what}"), limit, 1)?;
        let start = self.at;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|e| {
            let at = start.saturating_add(e.valid_up_to());
            Error::input(self.fault(at, format!("bytes that are no UTF-8 in {what}"), "a text in UTF-8").next(DAMAGED))
        })
    }
}
