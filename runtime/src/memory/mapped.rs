//! Blocks whose end is a file's: weights that are paged instead of read.
//!
//! In: a file and the place in it where a block's end lies. Out: a [`Block`] at one range of addresses, its beginning zeroed
//! memory of its own, its end the file's pages, read only. It upholds that the two do not overlap and that nobody is handed
//! mapped bytes as a slice: another program may change the file, and only compiled code, which takes any bytes, reads them. A
//! file that becomes shorter ends the program ([`crate::lost_pages`]). It checks no sums: that would read everything.

#![expect(unsafe_code, reason = "maps files; each block argues its safety")]

use std::fs::File;
use std::ops::Range;

use super::{Block, HugePages};
use crate::error::{Error, Result};

/// Which mapped pages of a block were in memory at some time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResidentPages {
    page_bytes: usize,
    /// Where the mapped pages begin in the block.
    start: usize,
    /// Of each, whether.
    pages: Vec<bool>,
}

impl ResidentPages {
    /// Bytes of the mapped pages of `range`, and of those of them that were in memory.
    pub fn of(&self, range: Range<usize>) -> (u64, u64) {
        let first = range.start.saturating_sub(self.start) / self.page_bytes;
        let end = range.end.saturating_sub(self.start).div_ceil(self.page_bytes).min(self.pages.len());
        let pages = self.pages.get(first..end).unwrap_or_default();
        let bytes = |pages: usize| (pages * self.page_bytes) as u64;
        (bytes(pages.len()), bytes(pages.iter().filter(|is_resident| **is_resident).count()))
    }

    /// Bytes of all that were in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.of(0..usize::MAX).1
    }

    /// Bytes of pages that are in memory and were not `before`.
    pub fn bytes_since(&self, before: &Self) -> u64 {
        let come = self.pages.iter().zip(&before.pages).filter(|(now, before)| **now && !**before).count();
        (come * self.page_bytes) as u64
    }
}

/// Why the end of a block could not be mapped.
#[derive(Debug)]
pub enum MapError {
    /// The system has pages so large that the place in the file, or in the block, is none of theirs.
    Pages(usize),
    /// The file ends before the block does, at this byte.
    Short(u64),
    /// The system refused.
    System(std::io::Error),
    /// This system maps no files.
    Unsupported,
}

impl std::fmt::Display for MapError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MapError::Pages(bytes) => write!(f, "pages of {bytes} bytes here, and the experts start at none of them"),
            MapError::Short(end) => write!(f, "the file ends at byte {end}, before its experts do"),
            MapError::System(e) => write!(f, "{e}"),
            MapError::Unsupported => f.write_str("this system maps no files"),
        }
    }
}

impl Block {
    /// A block of `bytes` bytes, of which the first `own_bytes` are zeroed memory and the others those of `file` from `at` on,
    /// read only. Both places must be multiples of the system's pages.
    ///
    /// # Errors
    /// `NotMapped`, with a [`MapError`].
    pub fn before_file(bytes: usize, own_bytes: usize, (file, at): (&File, u64), huge: HugePages) -> Result<Self> {
        system::before_file(bytes, own_bytes, (file, at), huge).map_err(|reason| Error::NotMapped { reason })
    }

    /// Bytes of a file that are mapped at its end.
    pub fn mapped_bytes(&self) -> usize {
        self.len_bytes - self.own_bytes
    }

    /// Which mapped pages are in memory, whoever brought them there; `None` if nothing is mapped, or the system does not say.
    /// (Linux tells only those who own the file or may write it: to others all of it seems to be there.)
    pub fn resident_pages(&self) -> Option<ResidentPages> {
        if self.mapped_bytes() == 0 { None } else { system::resident_pages(self) }
    }

    /// Asks the system to forget the mapped pages, and the rest of their file, so that they must be read again; whether it takes that.
    pub fn forget_mapped(&self) -> bool {
        self.mapped_bytes() > 0 && system::forget(self)
    }
}

#[cfg(unix)]
mod system {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::super::{Block, HUGE_PAGE_BYTES, HugePages, MIN_ALIGNMENT_BYTES, system};
    use super::{MapError, ResidentPages};

    pub(super) fn before_file(
        bytes: usize,
        own_bytes: usize,
        (file, at): (&File, u64),
        huge: HugePages,
    ) -> Result<Block, MapError> {
        let page = system::page_bytes();
        if !own_bytes.is_multiple_of(page) || !at.is_multiple_of(page as u64) || own_bytes >= bytes {
            return Err(MapError::Pages(page));
        }
        let mapped_bytes = bytes - own_bytes;
        let file_bytes = file.metadata().map_err(MapError::System)?.len();
        if at.checked_add(mapped_bytes as u64).is_none_or(|end| end > file_bytes) {
            return Err(MapError::Short(file_bytes));
        }
        let offset = libc::off_t::try_from(at).map_err(|_| MapError::Short(file_bytes))?;
        let huge = huge == HugePages::Ask && own_bytes >= HUGE_PAGE_BYTES;
        let alignment_bytes = if huge { HUGE_PAGE_BYTES } else { MIN_ALIGNMENT_BYTES };
        let kept = file.try_clone().map_err(MapError::System)?;
        let failed = || MapError::System(std::io::Error::last_os_error());
        let (start, owned_bytes) = system::reserve(bytes, alignment_bytes, libc::PROT_NONE).ok_or_else(failed)?;
        // From here on dropping it gives everything back.
        let block = Block { start, len_bytes: bytes, own_bytes, file: Some(kept), owned_bytes, alignment_bytes };
        // SAFETY: the first `own_bytes` are whole pages of the range that was just reserved and that nobody has seen.
        let opened = unsafe { libc::mprotect(start.as_ptr().cast(), own_bytes, libc::PROT_READ | libc::PROT_WRITE) };
        if opened != 0 {
            return Err(failed());
        }
        if huge {
            system::advise_huge(start.as_ptr(), own_bytes);
        }
        // SAFETY: `own_bytes` is below the range's length, so the address lies in it.
        let end = unsafe { start.as_ptr().add(own_bytes) };
        // SAFETY: the pages from `end` on are the rest of the reserved range, which nobody has seen; the mapping that replaces
        // them is read only and ends within it, since `reserve` rounds up to whole pages as well.
        let mapped = unsafe {
            libc::mmap(
                end.cast(),
                mapped_bytes,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_FIXED,
                file.as_raw_fd(),
                offset,
            )
        };
        if mapped == libc::MAP_FAILED { Err(failed()) } else { Ok(block) }
    }

    /// The mapped pages.
    fn mapped(block: &Block) -> (*mut libc::c_void, usize) {
        // SAFETY: `own_bytes` is at most the block's length.
        let start = unsafe { block.start.as_ptr().add(block.own_bytes) };
        (start.cast(), block.mapped_bytes())
    }

    #[cfg(target_os = "linux")]
    pub(super) fn resident_pages(block: &Block) -> Option<ResidentPages> {
        let page_bytes = system::page_bytes();
        let (start, bytes) = mapped(block);
        let mut flags = vec![0u8; bytes.div_ceil(page_bytes)];
        // SAFETY: the pages are mapped, and `flags` has a byte for each of them.
        let status = unsafe { libc::mincore(start, bytes, flags.as_mut_ptr()) };
        let pages = flags.into_iter().map(|flags| flags & 1 != 0).collect();
        (status == 0).then_some(ResidentPages { page_bytes, start: block.own_bytes, pages })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn resident_pages(_block: &Block) -> Option<ResidentPages> {
        None
    }

    #[cfg(target_os = "linux")]
    pub(super) fn forget(block: &Block) -> bool {
        let (Some(file), (start, bytes)) = (&block.file, mapped(block)) else { return false };
        // SAFETY: the pages are mapped and read only, so whatever is touched again is what the file has.
        let unmapped = unsafe { libc::madvise(start, bytes, libc::MADV_DONTNEED) } == 0;
        // What is not on the disk yet cannot be forgotten.
        if !unmapped || file.sync_data().is_err() {
            return false;
        }
        // All of the file: the system keeps pieces that lie only in part in a range that is to go.
        // SAFETY: advice about a file that is open; it changes no contents.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) == 0 }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn forget(_block: &Block) -> bool {
        false
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::File;

    use super::super::{Block, HugePages};
    use super::{MapError, ResidentPages};

    pub(super) fn before_file(
        _bytes: usize,
        _own_bytes: usize,
        _from: (&File, u64),
        _huge: HugePages,
    ) -> Result<Block, MapError> {
        Err(MapError::Unsupported)
    }

    pub(super) fn resident_pages(_block: &Block) -> Option<ResidentPages> {
        None
    }

    pub(super) fn forget(_block: &Block) -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file of `bytes` bytes that nobody else can reach.
    fn file(bytes: usize) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        let contents: Vec<u8> = (0..bytes).map(|i| (i / 4096 + i) as u8).collect();
        file.write_all(&contents).expect("written");
        file
    }

    /// The byte at `at`, mapped or not.
    fn byte(block: &Block, at: usize) -> u8 {
        assert!(at < block.len());
        // SAFETY: within the block, whose pages are mapped; nobody changes the file.
        unsafe { block.as_ptr().add(at).read_volatile() }
    }

    #[test]
    fn the_end_is_the_files() {
        let file = file(1 << 20);
        for (own, bytes, at) in [(4096, 10_000, 8192), (3 << 20, (3 << 20) + 5, 0), (65536, 65536 + (1 << 19), 65536)] {
            for huge in [HugePages::Ask, HugePages::Off] {
                let mut block = Block::before_file(bytes, own, (&file, at), huge).expect("mapped");
                assert_eq!((block.len(), block.mapped_bytes()), (bytes, bytes - own));
                assert_eq!(block.as_mut_slice().len(), own);
                assert!(block.as_slice().iter().all(|byte| *byte == 0));
                block.as_mut_slice().fill(7);
                for i in [0, 1, (bytes - own) / 2, bytes - own - 1] {
                    let from = at as usize + i;
                    assert_eq!(byte(&block, own + i), (from / 4096 + from) as u8, "{own} {bytes} {at} {i}");
                }
                let pages = block.resident_pages().expect("mapped pages");
                let (all, resident) = pages.of(0..bytes);
                assert_eq!(all, (bytes - own).next_multiple_of(4096) as u64);
                assert!(resident > 0 && resident <= all && pages.resident_bytes() == resident);
                assert_eq!((pages.of(0..own), pages.of(own..own + 1).0, pages.bytes_since(&pages)), ((0, 0), 4096, 0));
            }
        }
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        let file = file(100_000);
        let refused = |bytes, own, at| match Block::before_file(bytes, own, (&file, at), HugePages::Off) {
            Err(Error::NotMapped { reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refused(10_000, 4097, 0), MapError::Pages(_)));
        assert!(matches!(refused(10_000, 4096, 64), MapError::Pages(_)));
        assert!(matches!(refused(4096, 4096, 0), MapError::Pages(_)));
        assert!(matches!(refused(4096 + 100_001, 4096, 0), MapError::Short(100_000)));
        assert!(matches!(refused(8192, 4096, 1 << 40), MapError::Short(_)));
        assert!(matches!(refused(8192, 4096, u64::MAX - 4095), MapError::Short(_)));
        assert!(matches!(refused(usize::MAX, 4096, 0), MapError::Short(_)));
    }
}
