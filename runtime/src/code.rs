//! Machine code in this process: pages that are written once, then executable and never written again.
//!
//! In: position-independent bytes, the names of their functions, where the entry points start. Out: [`Code`], which owns the
//! pages. It upholds that no page is ever writable and executable at once, that every symbol and entry point lies within
//! the bytes, and that the pages live as long as it. It trusts the bytes themselves: whoever maps code vouches for it.

#![expect(unsafe_code, reason = "makes pages executable and gives out the functions in them")]

use std::fmt::Write as _;

use crate::error::{Error, Result};
use crate::generated::abi::{BatchFn, StateBytesFn, StateInitFn, StepFn, TruncateFn};
use crate::memory::{Block, HugePages};
use crate::model::EntryPoints;

/// What code may start at a multiple of: constants in it rely on 64 bytes, pages on their size.
pub const ALIGN_BYTES: usize = 1 << 16;

/// A function of the code, for people and profilers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// What it is called.
    pub name: String,
    /// Where it starts, from the start of the code.
    pub offset: u64,
    /// Its bytes, constants included.
    pub bytes: u64,
}

/// Where the entry points start, from the start of the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entries {
    /// One forward pass.
    pub step: u64,
    /// One forward pass over several texts.
    pub batch: u64,
    /// The size of a state.
    pub state_bytes: u64,
    /// Makes a zeroed block a state.
    pub state_init: u64,
    /// Forgets the end of a sequence.
    pub truncate: u64,
}

impl Entries {
    /// All of them with their names in the ABI.
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("step", self.step),
            ("batch", self.batch),
            ("state_bytes", self.state_bytes),
            ("state_init", self.state_init),
            ("truncate", self.truncate),
        ]
    }
}

/// Code that can be entered.
#[derive(Debug)]
pub struct Code {
    pages: Block,
    /// Bytes of code on them.
    len_bytes: usize,
    symbols: Vec<Symbol>,
}

impl Code {
    /// Copies `bytes` to pages of their own and makes these executable.
    ///
    /// # Errors
    /// `BadCode` if a symbol lies outside the bytes; `OutOfMemory`; `NotExecutable` if the system refuses.
    pub fn map(bytes: &[u8], symbols: Vec<Symbol>) -> Result<Self> {
        let outside = |s: &&Symbol| s.offset.checked_add(s.bytes).is_none_or(|end| end > bytes.len() as u64);
        if let Some(symbol) = symbols.iter().find(outside) {
            let Symbol { name, offset, bytes: length } = symbol;
            let what = format!("function {name} of {length} bytes at {offset} in code of {} bytes", bytes.len());
            return Err(Error::BadCode { what });
        }
        // A multiple of every page size, so that the last page holds nothing else.
        let whole = bytes.len().checked_next_multiple_of(ALIGN_BYTES).unwrap_or(usize::MAX).max(ALIGN_BYTES);
        let mut pages = Block::zeroed(whole, ALIGN_BYTES, HugePages::Off, "machine code")?;
        pages.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        system::make_executable(&mut pages)?;
        Ok(Self { pages, len_bytes: bytes.len(), symbols })
    }

    /// Its functions, in the order in which they lie.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// The address of the byte at `offset`, valid as long as `self` lives.
    ///
    /// # Errors
    /// `BadCode` if there is none.
    pub fn address(&self, offset: u64) -> Result<*const u8> {
        let code = self.pages.as_slice().get(..self.len_bytes).unwrap_or_default();
        let at = usize::try_from(offset).ok().and_then(|at| code.get(at..)).filter(|rest| !rest.is_empty());
        let what = || format!("an entry point at {offset} in code of {} bytes", self.len_bytes);
        at.map(<[u8]>::as_ptr).ok_or_else(|| Error::BadCode { what: what() })
    }

    /// The entry points, valid as long as `self` lives.
    ///
    /// # Errors
    /// `BadCode` if one lies outside the code.
    ///
    /// # Safety
    /// At these offsets functions must start that obey the ABI of [`crate::generated::abi`], made for a CPU like this one.
    pub unsafe fn entry_points(&self, entries: &Entries) -> Result<EntryPoints> {
        let (step, batch) = (self.address(entries.step)?, self.address(entries.batch)?);
        let state_bytes = self.address(entries.state_bytes)?;
        let (state_init, truncate) = (self.address(entries.state_init)?, self.address(entries.truncate)?);
        // SAFETY: promised by the caller; a function pointer is as wide as an address.
        unsafe {
            Ok(EntryPoints {
                step: std::mem::transmute::<*const u8, StepFn>(step),
                batch: std::mem::transmute::<*const u8, BatchFn>(batch),
                state_bytes: std::mem::transmute::<*const u8, StateBytesFn>(state_bytes),
                state_init: std::mem::transmute::<*const u8, StateInitFn>(state_init),
                truncate: std::mem::transmute::<*const u8, TruncateFn>(truncate),
            })
        }
    }

    /// What Linux's `perf` reads from a process's map of generated code: a line for every function, address and size in hexadecimal.
    pub fn perf_map(&self) -> String {
        let base = self.pages.as_ptr() as u64;
        self.symbols.iter().fold(String::new(), |mut text, Symbol { name, offset, bytes }| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:x} {bytes:x} tern::{name}", base + offset);
            text
        })
    }
}

#[cfg(unix)]
mod system {
    use super::{Block, Error, Result};

    /// Makes all pages of a block executable, and no longer writable.
    pub(super) fn make_executable(pages: &mut Block) -> Result<()> {
        let (start, bytes) = (pages.as_mut_ptr(), pages.len());
        synchronise(start, bytes);
        // SAFETY: the block is whole pages of its own; from here on it is only read: `Code` hands out no way to write.
        let refused = unsafe { libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_EXEC) } != 0;
        let reason = || std::io::Error::last_os_error().to_string();
        if refused { Err(Error::NotExecutable { reason: reason() }) } else { Ok(()) }
    }

    /// Instruction caches of x86 see what was written.
    #[cfg(target_arch = "x86_64")]
    fn synchronise(_start: *mut u8, _bytes: usize) {}

    /// Instruction caches elsewhere may hold what was there before.
    #[cfg(not(target_arch = "x86_64"))]
    fn synchronise(start: *mut u8, bytes: usize) {
        unsafe extern "C" {
            fn __clear_cache(start: *mut u8, end: *mut u8);
        }
        // SAFETY: the function of the compiler's own library takes the ends of readable memory, and changes nothing there.
        unsafe { __clear_cache(start, start.add(bytes)) };
    }
}

#[cfg(not(unix))]
mod system {
    use super::{Block, Error, Result};

    /// Compiled code follows the calling convention of Unix.
    pub(super) fn make_executable(_pages: &mut Block) -> Result<()> {
        Err(Error::NotExecutable { reason: "compiled code runs under Unix only".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(offset: u64, bytes: u64) -> Symbol {
        Symbol { name: "f".to_owned(), offset, bytes }
    }

    #[test]
    fn symbols_lie_within_the_code() {
        for (offset, bytes) in [(0, 101), (100, 1), (u64::MAX, 1), (1, u64::MAX)] {
            let e = Code::map(&[0; 100], vec![symbol(offset, bytes)]).expect_err("outside");
            assert!(matches!(e, Error::BadCode { .. }), "{e}");
        }
        let code = Code::map(&[0; 100], vec![symbol(10, 90)]).expect("inside");
        let base = code.address(0).expect("the first byte") as u64;
        assert_eq!(code.perf_map(), format!("{:x} 5a tern::f\n", base + 10));
        for outside in [100, 4096, 1 << 40] {
            assert!(code.address(outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn code_is_entered() {
        // Returns 7.
        let seven: &[u8] = if cfg!(target_arch = "x86_64") {
            &[0xb8, 7, 0, 0, 0, 0xc3]
        } else if cfg!(target_arch = "aarch64") {
            &[0xe0, 0, 0x80, 0x52, 0xc0, 3, 0x5f, 0xd6]
        } else {
            return;
        };
        let code = Code::map(seven, Vec::new()).expect("code");
        // SAFETY: the bytes are a function of this architecture that takes nothing and returns a number.
        let function: extern "C" fn() -> u32 =
            unsafe { std::mem::transmute(code.address(0).expect("it starts there")) };
        assert_eq!(function(), 7);
    }
}
