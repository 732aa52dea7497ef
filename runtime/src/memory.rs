//! Blocks of zeroed memory for weights and states, on huge pages where the system has them.
//!
//! In: a size and an alignment. Out: a [`Block`], zeroed, aligned, given back when dropped; or one whose end is a file's
//! ([`mapped`]). It upholds that a failed allocation is an error and never an abort, and that pages are untouched until somebody
//! writes them. Every `unsafe` of allocation in this crate is here, and in [`mapped`].

#![expect(unsafe_code, reason = "maps and unmaps memory; each block argues its safety")]

pub mod available;
pub mod mapped;

use std::fs::File;
use std::ptr::NonNull;

use crate::error::{Error, Result};

/// The size and the alignment of a huge page, and the largest alignment that a block can have.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The least alignment of a block: a cache line, and the alignment that compiled code expects.
pub const MIN_ALIGNMENT_BYTES: usize = 64;

/// Whether a block of at least [`HUGE_PAGE_BYTES`] asks for huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HugePages {
    /// Ask; the system may still say no, which is not an error.
    #[default]
    Ask,
    /// Do not ask.
    Off,
}

/// Where the weights of experts lie while a model runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Experts {
    /// In memory if it has room for them, else in the file.
    #[default]
    Auto,
    /// In the file, mapped: the system reads what is used, and forgets what it needs room for.
    Mapped,
    /// In memory.
    Resident,
}

impl Experts {
    /// By the name that the knob has for it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Experts::Auto),
            "mapped" => Some(Experts::Mapped),
            "resident" => Some(Experts::Resident),
            _ => None,
        }
    }

    /// Whether experts are mapped, of a model whose packed weights take so many bytes in all.
    pub fn are_mapped(self, weights_bytes: u64) -> bool {
        match self {
            Experts::Mapped => true,
            Experts::Resident => false,
            Experts::Auto => available::for_weights().is_some_and(|available| weights_bytes > available),
        }
    }
}

/// A block of memory of its own, zeroed when made; the end of one may be a file's ([`mapped`]).
#[derive(Debug)]
pub struct Block {
    start: NonNull<u8>,
    len_bytes: usize,
    /// Of these, the bytes that are its own: behind them lies what is mapped.
    own_bytes: usize,
    /// The file that this is a part of.
    file: Option<File>,
    /// What [`system::release`] needs to give back: bytes of the mapping, or of the allocation.
    owned_bytes: usize,
    alignment_bytes: usize,
}

// SAFETY: a Block is the only owner of its memory, as a Box<[u8]> is; shared references to it only read.
unsafe impl Send for Block {}
// SAFETY: as above: `&Block` gives out `&[u8]` and a raw pointer, and dereferencing the latter is its user's promise.
unsafe impl Sync for Block {}

impl Block {
    /// `bytes` zeroed bytes at a multiple of `alignment_bytes` (at least 64), for the purpose `what`.
    ///
    /// A block of 2 MiB or more with [`HugePages::Ask`] starts at a multiple of 2 MiB and advises the system to back
    /// it with huge pages.
    ///
    /// # Errors
    /// `OutOfMemory` if the system refuses; `BadAlignment` if the alignment is no power of two up to 2 MiB.
    pub fn zeroed(bytes: usize, alignment_bytes: usize, huge: HugePages, what: &'static str) -> Result<Self> {
        if !alignment_bytes.is_power_of_two() || alignment_bytes > HUGE_PAGE_BYTES {
            return Err(Error::BadAlignment { found: alignment_bytes });
        }
        let huge = huge == HugePages::Ask && bytes >= HUGE_PAGE_BYTES;
        let alignment_bytes = if huge { HUGE_PAGE_BYTES } else { alignment_bytes.max(MIN_ALIGNMENT_BYTES) };
        let out_of_memory = Error::OutOfMemory { bytes, what };
        // Whole huge pages, so that the last one can be one as well. `isize::MAX` bounds what a slice may span.
        let unit = if huge { HUGE_PAGE_BYTES } else { MIN_ALIGNMENT_BYTES };
        match bytes.max(1).checked_next_multiple_of(unit) {
            Some(owned_bytes) if owned_bytes <= isize::MAX as usize => {
                match system::acquire(owned_bytes, alignment_bytes, huge) {
                    Some((start, owned_bytes)) => {
                        Ok(Self { start, len_bytes: bytes, own_bytes: bytes, file: None, owned_bytes, alignment_bytes })
                    }
                    None => Err(out_of_memory),
                }
            }
            _ => Err(out_of_memory),
        }
    }

    /// Bytes asked for, mapped ones included.
    pub fn len(&self) -> usize {
        self.len_bytes
    }

    /// Whether no bytes were asked for.
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// The first byte's address.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// The first byte's address, for writing.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The bytes that are its own: all, unless its end is mapped.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` is valid for `own_bytes` initialised bytes while self lives, and `&self` keeps writers out.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.own_bytes) }
    }

    /// The same, for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the borrow the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.own_bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: these are what `acquire` gave, they are given back once, and no borrow of the bytes outlives self.
        unsafe { system::release(self.start, self.owned_bytes, self.alignment_bytes) }
    }
}

/// Asks the allocator to give back to the system what was freed: after a stage that freed much, before one that needs much.
/// Where the allocator cannot, nothing happens.
pub fn give_back_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim takes any number and only returns pages that no allocation uses.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(unix)]
mod system {
    use std::ptr::NonNull;

    /// Bytes of a page.
    pub(super) fn page_bytes() -> usize {
        // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
        let found = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(found).ok().filter(|n| n.is_power_of_two()).unwrap_or(4096)
    }

    /// Maps at least `bytes` at a multiple of `alignment_bytes`; the address and the mapping's length.
    pub(super) fn acquire(bytes: usize, alignment_bytes: usize, huge: bool) -> Option<(NonNull<u8>, usize)> {
        let (start, bytes) = reserve(bytes, alignment_bytes, libc::PROT_READ | libc::PROT_WRITE)?;
        if huge {
            advise_huge(start.as_ptr(), bytes);
        }
        Some((start, bytes))
    }

    /// The same, of pages with the access `protection`. The system counts no memory for pages that may not be touched.
    pub(super) fn reserve(
        bytes: usize,
        alignment_bytes: usize,
        protection: libc::c_int,
    ) -> Option<(NonNull<u8>, usize)> {
        let page = page_bytes();
        let bytes = bytes.checked_next_multiple_of(page)?;
        // A mapping starts at a page; a stricter alignment needs room to move the start.
        let slack = alignment_bytes.saturating_sub(page);
        let total = bytes.checked_add(slack)?;
        // SAFETY: a fresh anonymous private mapping at an address of the system's choice overlaps nothing.
        let mapped =
            unsafe { libc::mmap(std::ptr::null_mut(), total, protection, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return None;
        }
        let mapped = mapped.cast::<u8>();
        let head = mapped.align_offset(alignment_bytes.max(page));
        debug_assert!(head <= slack);
        // SAFETY: head <= slack, so `start..start + bytes` lies within the mapping of `total` bytes.
        let start = unsafe { mapped.add(head) };
        if head > 0 {
            // SAFETY: the first `head` bytes are whole pages of our own mapping that nobody has seen.
            unsafe { libc::munmap(mapped.cast(), head) };
        }
        let tail = slack - head;
        if tail > 0 {
            // SAFETY: likewise the last `tail` bytes, which start right after the block.
            unsafe { libc::munmap(start.add(bytes).cast(), tail) };
        }
        NonNull::new(start).map(|start| (start, bytes))
    }

    /// Gives back what `acquire` mapped.
    ///
    /// # Safety
    /// `start` and `bytes` come from one `acquire`, and nothing refers to the bytes any more.
    pub(super) unsafe fn release(start: NonNull<u8>, bytes: usize, _alignment_bytes: usize) {
        // SAFETY: the caller's promise: this is exactly one mapping, still ours.
        unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }

    #[cfg(target_os = "linux")]
    pub(super) fn advise_huge(start: *mut u8, bytes: usize) {
        // SAFETY: advice about whole pages of our own mapping; it changes no contents. A refusal only costs speed.
        unsafe { libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE) };
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn advise_huge(_start: *mut u8, _bytes: usize) {}
}

#[cfg(not(unix))]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::ptr::NonNull;

    /// Allocates `bytes` at a multiple of `alignment_bytes`; there is no advice about pages here.
    pub(super) fn acquire(bytes: usize, alignment_bytes: usize, _huge: bool) -> Option<(NonNull<u8>, usize)> {
        let layout = Layout::from_size_align(bytes, alignment_bytes).ok()?;
        // SAFETY: the size is not zero: the caller rounds up from at least one byte.
        NonNull::new(unsafe { alloc_zeroed(layout) }).map(|start| (start, bytes))
    }

    /// Gives back what `acquire` allocated.
    ///
    /// # Safety
    /// The arguments are those of one `acquire`, and nothing refers to the bytes any more.
    pub(super) unsafe fn release(start: NonNull<u8>, bytes: usize, alignment_bytes: usize) {
        if let Ok(layout) = Layout::from_size_align(bytes, alignment_bytes) {
            // SAFETY: the caller's promise: the same layout allocated `start`.
            unsafe { dealloc(start.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zeroed_aligned_and_writable() {
        for (bytes, alignment) in [(0, 1), (1, 64), (4097, 64), (100_000, 1 << 16), (5 << 20, 4096)] {
            for huge in [HugePages::Ask, HugePages::Off] {
                let mut block = Block::zeroed(bytes, alignment, huge, "a test").expect("memory for a test");
                assert_eq!(block.len(), bytes);
                assert_eq!(block.as_ptr().align_offset(alignment.max(MIN_ALIGNMENT_BYTES)), 0);
                if huge == HugePages::Ask && bytes >= HUGE_PAGE_BYTES {
                    assert_eq!(block.as_ptr().align_offset(HUGE_PAGE_BYTES), 0);
                }
                assert!(block.as_slice().iter().all(|b| *b == 0));
                block.as_mut_slice().fill(0xa5);
                assert!(block.as_slice().iter().all(|b| *b == 0xa5));
            }
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 62] {
            for huge in [HugePages::Ask, HugePages::Off] {
                let e = Block::zeroed(bytes, 64, huge, "a test").expect_err("no machine has so much");
                assert!(matches!(e, Error::OutOfMemory { .. }), "{e}");
            }
        }
    }

    #[test]
    fn impossible_alignments_are_errors() {
        for alignment in [0, 3, HUGE_PAGE_BYTES * 2] {
            let e = Block::zeroed(64, alignment, HugePages::Off, "a test").expect_err("a bad alignment");
            assert!(matches!(e, Error::BadAlignment { .. }), "{e}");
        }
    }
}
