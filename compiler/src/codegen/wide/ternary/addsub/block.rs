//! A block of rows: one instruction per operation of its tape.

use iced_x86::code_asm::{AsmMemoryOperand, ptr};

use super::Frame;
use crate::addsub::Block;
use crate::addsub::tape::{Op, Operand, Place};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::ops::Source;
use crate::codegen::wide::registers::{General, Vector, Width};

/// Inputs that an offset of one byte reaches on either side of a pointer, where it counts whole registers.
const NEAR: i32 = 128;

/// The sums of the block's rows for one batch.
pub(super) fn block(k: &mut Asm, f: &Frame<'_>, block: &Block, s: General, batch: General) {
    let row16 = f.row16();
    k.scope(|k| {
        let [inputs, sums] = k.generals();
        // Pointers into the middle of what they reach: an EVEX instruction then says most places in a byte.
        let near = if k.width == Width::W512 { NEAR } else { 0 };
        k.lea(inputs, batch + (f.scratch.columns as i32 + near * row16));
        let first = f.scratch.sums as i32 + block.chunk() as i32 * f.scratch.chunk_bytes as i32;
        k.lea(sums, batch + (first + block.rows().start as i32 * row16));
        let temps: Vec<Vector> = (0..block.tape().temps()).map(|_| k.vector()).collect();
        let zero = k.zero();
        let accs: Vec<Vector> = block.sums().iter().map(|_| k.vector()).collect();
        let place = |place: Place| -> AsmMemoryOperand {
            match place {
                Place::Input(i) => ptr(inputs + (i as i32 - near) * row16),
                Place::Slot(i) => ptr(s + (f.scratch.slots as i32 + i as i32 * row16)),
            }
        };
        let source = |operand: Operand| match operand {
            Operand::Temp(temp) => Source::Register(temps[temp]),
            Operand::Memory(from) => Source::Memory(place(from)),
        };
        let mut begun = vec![false; accs.len()];
        for op in block.tape().ops() {
            match *op {
                Op::Load { to, from } => k.vmovups(temps[to], place(from)),
                Op::Combine { to, a, minus: false, b } => k.vpaddw(temps[to], temps[a], source(b)),
                Op::Combine { to, a, minus: true, b } => k.vpsubw(temps[to], temps[a], source(b)),
                Op::Keep { from, slot } => k.store(place(Place::Slot(slot)), temps[from]),
                Op::Add { row, first, minus, operand } => {
                    let acc = accs[row as usize];
                    begun[row as usize] = true;
                    match (first, minus) {
                        (true, false) => k.vmovups(acc, source(operand)),
                        (true, true) => k.vpsubw(acc, zero, source(operand)),
                        (false, false) => k.vpaddw(acc, acc, source(operand)),
                        (false, true) => k.vpsubw(acc, acc, source(operand)),
                    }
                }
            }
        }
        for (row, (acc, begun)) in accs.into_iter().zip(begun).enumerate() {
            k.store(ptr(sums + row as i32 * row16), if begun { acc } else { zero });
        }
    });
}
