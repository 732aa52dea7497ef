//! The constants of a kernel: bytes behind its code, addressed relative to the instruction.
//!
//! In: bytes. Out: memory operands; at the end one aligned block. The same bytes are kept once.

use iced_x86::code_asm::{AsmMemoryOperand, CodeAssembler, CodeLabel, ptr};
use iced_x86::{IcedError, Instruction};

/// Alignment of the block, and of the code before it.
pub(crate) const ALIGN_BYTES: usize = 64;

/// What `int3` is: between code and constants nothing must run.
const TRAP: u8 = 0xcc;

/// Constants in the making.
#[derive(Default)]
pub(super) struct Pool {
    constants: Vec<(Vec<u8>, CodeLabel)>,
}

impl Pool {
    /// The operand of a constant of 4, 16, 32 or 64 bytes (or several registers, one after another); it is aligned to
    /// the largest power of two that divides its length, 64 at most.
    pub(super) fn operand(&mut self, a: &mut CodeAssembler, bytes: &[u8]) -> AsmMemoryOperand {
        let known = self.constants.iter().find(|(have, _)| have == bytes);
        let label = match known {
            Some((_, label)) => *label,
            None => {
                let label = a.create_label();
                self.constants.push((bytes.to_vec(), label));
                label
            }
        };
        ptr(label)
    }

    /// Appends the constants to `a`, most aligned first, so that none needs padding; gives their size in bytes.
    pub(super) fn write(&mut self, a: &mut CodeAssembler) -> Result<usize, IcedError> {
        self.constants.sort_by_key(|(bytes, _)| std::cmp::Reverse(alignment(bytes.len())));
        for (bytes, label) in &mut self.constants {
            a.set_label(label)?;
            a.db(bytes)?;
        }
        Ok(self.constants.iter().map(|(bytes, _)| bytes.len()).sum())
    }
}

fn alignment(bytes: usize) -> usize {
    1 << bytes.trailing_zeros().min(ALIGN_BYTES.trailing_zeros())
}

/// What lies between `code_bytes` of code and the constants.
pub(super) fn padding(code_bytes: usize) -> Result<Vec<Instruction>, IcedError> {
    let missing = code_bytes.next_multiple_of(ALIGN_BYTES) - code_bytes;
    (0..missing).map(|_| Instruction::with_declare_byte(&[TRAP])).collect()
}
