//! As much of machine code as the inner-loop test asks for: where control goes, and whether memory of the stack is named.
//!
//! x86-64 is decoded by iced. Instructions of aarch64 and, as compiled here, of riscv64 are 32 bits each, and the few
//! classes asked for are told apart by a mask (Arm ARM, C4.1, the encoding index; the RISC-V unprivileged manual, opcodes).

use iced_x86::{Decoder, DecoderOptions, FlowControl, OpKind, Register};
use tern_compiler::codegen::Arch;

/// What may run after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// What follows it.
    Next,
    /// That, or this address.
    Branch(u64),
    /// This address.
    Jump(u64),
    /// Nothing: it returns or traps.
    End,
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    /// What runs after it.
    pub(crate) flow: Flow,
    /// Whether it names memory by the stack or frame pointer.
    pub(crate) uses_stack: bool,
    /// How long it is.
    pub(crate) bytes: u64,
    /// Its word, zero on x86-64.
    word: u32,
}

impl Instruction {
    /// aarch64: `sdot`, of sixteen bytes.
    pub(crate) fn is_dot(&self) -> bool {
        self.word & 0xffe0_fc00 == 0x4e80_9400
    }

    /// aarch64: `smull` or `smull2` of bytes.
    pub(crate) fn is_widening_product(&self) -> bool {
        self.word & 0xbfe0_fc00 == 0x0e20_c000
    }
}

/// The instruction at `at`.
///
/// # Panics
/// If there is none, or one that no leaf function has.
pub(crate) fn decode(arch: Arch, code: &[u8], at: u64) -> Instruction {
    match arch {
        Arch::X86_64 => x86_64(code, at),
        Arch::Aarch64 => aarch64(code, at),
        Arch::Riscv64 => riscv64(code, at),
    }
}

fn x86_64(code: &[u8], at: u64) -> Instruction {
    let mut decoder = Decoder::with_ip(64, &code[at as usize..], at, DecoderOptions::NONE);
    let i = decoder.decode();
    assert!(!i.is_invalid(), "no instruction at {at:#x}");
    let flow = match i.flow_control() {
        FlowControl::Next => Flow::Next,
        FlowControl::ConditionalBranch => Flow::Branch(i.near_branch_target()),
        FlowControl::UnconditionalBranch => Flow::Jump(i.near_branch_target()),
        FlowControl::Return | FlowControl::Exception => Flow::End,
        other => panic!("{other:?} at {at:#x} in a leaf function"),
    };
    let is_stack = |r: Register| matches!(r, Register::RSP | Register::RBP | Register::ESP | Register::EBP);
    let in_memory = (0..i.op_count()).any(|op| i.op_kind(op) == OpKind::Memory);
    let uses_stack = (in_memory && is_stack(i.memory_base())) || i.is_stack_instruction();
    Instruction { flow, uses_stack, bytes: i.len() as u64, word: 0 }
}

/// The 32 bits at `at`.
fn word(code: &[u8], at: u64) -> u32 {
    let word = code.get(at as usize..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(*word.unwrap_or_else(|| panic!("no instruction at {at:#x}")))
}

fn aarch64(code: &[u8], at: u64) -> Instruction {
    let word = word(code, at);
    let is = |mask: u32, bits: u32| word & mask == bits;
    // A signed number of words in the `bits` bits from `low` on.
    let target = |low: u32, bits: u32| {
        let words = i64::from((word << (32 - low - bits)) as i32 >> (32 - bits));
        at.checked_add_signed(4 * words).unwrap_or_else(|| panic!("{at:#x} branches in front of the code"))
    };
    let flow = if is(0xfc00_0000, 0x1400_0000) {
        Flow::Jump(target(0, 26))
    } else if is(0xff00_0010, 0x5400_0000) || is(0x7e00_0000, 0x3400_0000) {
        // b.cond, cbz and cbnz.
        Flow::Branch(target(5, 19))
    } else if is(0x7e00_0000, 0x3600_0000) {
        // tbz and tbnz.
        Flow::Branch(target(5, 14))
    } else if is(0xffff_fc1f, 0xd65f_0000) || is(0xffe0_001f, 0xd420_0000) || is(0xffff_0000, 0) {
        // ret, brk, udf.
        Flow::End
    } else {
        // bl; br and blr.
        let leaves = is(0xfc00_0000, 0x9400_0000) || is(0xfe00_0000, 0xd600_0000);
        assert!(!leaves, "{word:08x} at {at:#x} in a leaf function");
        Flow::Next
    };
    let (is_access, is_literal) = (is(0x0a00_0000, 0x0800_0000), is(0x3b00_0000, 0x1800_0000));
    // sp has number 31 here, the frame pointer 29.
    let uses_stack = is_access && !is_literal && matches!(word >> 5 & 31, 29 | 31);
    Instruction { flow, uses_stack, bytes: 4, word }
}

fn riscv64(code: &[u8], at: u64) -> Instruction {
    let instruction = word(code, at);
    let (opcode, first) = (instruction & 0x7f, instruction >> 15 & 31);
    // `count` bits of the word from `low` on, as bits of a number from `to` on.
    let bits = |low: u32, count: u32, to: u32| (instruction >> low & ((1 << count) - 1)) << to;
    let target = |offset: u32, sign: u32| {
        let offset = i64::from((offset << (31 - sign)) as i32 >> (31 - sign));
        at.checked_add_signed(offset).unwrap_or_else(|| panic!("{at:#x} branches in front of the code"))
    };
    let flow = match opcode {
        0x63 => {
            let to = target(bits(31, 1, 12) | bits(7, 1, 11) | bits(25, 6, 5) | bits(8, 4, 1), 12);
            // A branch that would not reach leads to a jump behind the function that does.
            Flow::Branch(far_jump(code, to).unwrap_or(to))
        }
        // jal, without a link.
        0x6f if instruction >> 7 & 31 == 0 => {
            Flow::Jump(target(bits(31, 1, 20) | bits(12, 8, 12) | bits(20, 1, 11) | bits(21, 10, 1), 20))
        }
        0x17 => far_jump(code, at).map_or(Flow::Next, Flow::Jump),
        // jalr: `ret` alone.
        0x67 if instruction == 0x0000_8067 => Flow::End,
        0x6f | 0x67 => panic!("{instruction:08x} at {at:#x} in a leaf function"),
        // No instruction, as a trap.
        0 => Flow::End,
        // Three of four patterns of the two lowest bits are shorter instructions.
        _ if opcode & 3 != 3 => panic!("{instruction:08x} at {at:#x} is a short instruction"),
        _ => Flow::Next,
    };
    // Loads and stores, of integers, and of floats and vectors.
    let is_access = matches!(opcode, 0x03 | 0x23 | 0x07 | 0x27);
    // sp has number 2, the frame pointer 8.
    let uses_stack = is_access && matches!(first, 2 | 8);
    Instruction { flow, uses_stack, bytes: 4, word: instruction }
}

/// Where the two instructions at `at` jump to, if they are an `auipc` and a `jalr` by its result, without a link.
fn far_jump(code: &[u8], at: u64) -> Option<u64> {
    let rest = code.get(at as usize..)?.first_chunk::<8>()?;
    let [auipc, jalr] = [word(rest, 0), word(rest, 4)];
    let register = auipc >> 7 & 31;
    let is_jump = auipc & 0x7f == 0x17 && jalr & 0x000f_ffff == register << 15 | 0x67;
    let offset = i64::from((auipc & !0xfff) as i32) + i64::from(jalr as i32 >> 20);
    is_jump.then(|| at.checked_add_signed(offset)).flatten()
}
