//! The tables of one token: for each two neighbouring columns all sums of theirs.
//!
//! In: codes of activations. Out: L and H of `(c0 - 1) a + (c1 - 1) b`, sixteen bytes each, `c0 + 4 c1` the index.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::super::{Frame, LINE_COLS};
use super::VECTOR;
use crate::codegen::emitter::{Emitter, I8X16, I16X8, flags};
use crate::codegen::isa::Arch;
use crate::schedule::lut::{HIGH_UNIT, LINE_BYTES, LutScratch, ROUNDING};

/// Groups of two columns in a line.
const GROUPS: i32 = LINE_COLS as i32 / 2;

/// What does not change between groups.
struct Constants {
    /// What the two columns are multiplied with, for the entries of c1 < 2 and the others: pairs of bytes on x86, codes; else
    /// i16 of the first column, then of the second for either half, trits.
    factors: [Value; 3],
    rounding: Value,
    low_bits: Value,
    rounding_bytes: Value,
}

/// Writes the tables of all columns of a token.
pub(super) fn tables(k: &mut Emitter<'_, '_>, f: &Frame, scratch: &LutScratch, token: Value) {
    let codes = k.row(f.codes, token, f.shape.code_row_bytes());
    let to = k.at(f.scratch, scratch.tables.into());
    let constants = constants(k);
    k.for_bytes(f.shape.lines(), 1, |k, line| {
        let codes = k.row(codes, line, LINE_COLS);
        let to = k.row(to, line, LINE_BYTES.into());
        let all = (k.isa.arch() == Arch::X86_64).then(|| k.load(I8X16, codes, 0));
        for group in 0..GROUPS {
            let sums = match all {
                Some(all) => sums_of_pairs(k, &constants, all, group),
                None => sums(k, &constants, codes, group),
            };
            let [low, high] = split(k, &constants, sums);
            // The two groups of a part are the halves of its bytes.
            let (part, half) = (group / 2, group % 2);
            k.store(low, to, (8 * half + part) * VECTOR);
            k.store(high, to, (8 * half + 4 + part) * VECTOR);
        }
    });
}

fn constants(k: &mut Emitter<'_, '_>) -> Constants {
    // Index c0 + 4 c1, entries 0 to 7 or 8 to 15.
    let code = |half: usize, entry: usize, column: usize| ((8 * half + entry) >> (2 * column) & 3) as i16;
    let factors = match k.isa.arch() {
        Arch::X86_64 => {
            let [low, high] = [0, 1].map(|half| k.bytes(&std::array::from_fn(|i| code(half, i / 2, i % 2) as u8)));
            [low, high, k.splat_u8(1)]
        }
        Arch::Aarch64 | Arch::Riscv64 => [(0, 0), (0, 1), (1, 1)].map(|(half, column)| {
            let trits: [i16; 8] = std::array::from_fn(|entry| code(half, entry, column) - 1);
            let bytes = k.bytes(&std::array::from_fn(|i| trits[i / 2].to_le_bytes()[i % 2]));
            k.cast(I16X8, bytes)
        }),
    };
    Constants {
        factors,
        rounding: k.splat_i16(ROUNDING as i16),
        low_bits: k.splat_i16(HIGH_UNIT as i16 - 1),
        rounding_bytes: k.splat_u8(ROUNDING as u8),
    }
}

/// All sums of a group plus the rounding, i16, by products of unsigned codes: c0 a + c1 b - (a + b).
fn sums_of_pairs(k: &mut Emitter<'_, '_>, c: &Constants, codes: Value, group: i32) -> [Value; 2] {
    let places = k.bytes(&std::array::from_fn(|i| (2 * group) as u8 + (i % 2) as u8));
    let pairs = k.lookup(codes, places);
    let [first, second, both] = c.factors.map(|factors| k.b.ins().x86_pmaddubsw(pairs, factors));
    let less = k.b.ins().isub(both, c.rounding);
    [first, second].map(|sums| k.b.ins().isub(sums, less))
}

/// The same by products of trits in i16.
fn sums(k: &mut Emitter<'_, '_>, c: &Constants, codes: Value, group: i32) -> [Value; 2] {
    let [a, b] = [0, 1].map(|column| {
        let code = k.b.ins().sload8(types::I32, flags(), codes, 2 * group + column);
        let code = k.b.ins().ireduce(types::I16, code);
        k.b.ins().splat(I16X8, code)
    });
    let [of_first, of_second @ ..] = c.factors;
    let first = k.b.ins().imul(a, of_first);
    let first = k.b.ins().iadd(first, c.rounding);
    of_second.map(|factors| {
        let second = k.b.ins().imul(b, factors);
        k.b.ins().iadd(first, second)
    })
}

/// L and H of sums s to which the rounding is added: H = s >> 5, L = (s & 31) - 16. All fit bytes.
fn split(k: &mut Emitter<'_, '_>, c: &Constants, sums: [Value; 2]) -> [Value; 2] {
    let [low, low_of_second] = sums.map(|s| k.b.ins().band(s, c.low_bits));
    let low = k.b.ins().snarrow(low, low_of_second);
    let low = k.b.ins().isub(low, c.rounding_bytes);
    let [high, high_of_second] = sums.map(|s| k.b.ins().sshr_imm_u(s, i64::from(HIGH_UNIT.trailing_zeros())));
    [low, k.b.ins().snarrow(high, high_of_second)]
}
