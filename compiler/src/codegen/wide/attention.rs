//! Causal attention over the cache, several query heads at a time.
//!
//! The equations are those of `kernels::attention`; what is shared differs. The query heads of one key/value head go through a
//! block of 64 positions together, up to four of them: a key or a value is loaded and widened once for all. Scores lie
//! position by position, the heads side by side (`s[position][head]`), so that maxima, sums and exponentials are computed for
//! all heads in the same registers: [`scores`], [`softmax`], [`values`].
//!
//! Keys are read in tiles, and the last tile may reach behind the last position: the state has room for that
//! ([`KV_SLACK_ROWS`](crate::schedule::layout::KV_SLACK_ROWS)), and what comes of it is masked.

mod scores;
mod softmax;
mod values;

use iced_x86::code_asm::registers::{rax, rdx};
use iced_x86::code_asm::{AsmMemoryOperand, dword_ptr, ptr, qword_ptr};

use super::asm::Asm;
use super::registers::{General, Vector, low32};
use super::row_bytes;
use crate::codegen::kernels::attention::Shape;
use crate::graph::arith::ATTENTION_BLOCK;
use crate::schedule::kernel::KvElem;

impl Shape {
    /// Whether there is a wide kernel for the shape: rows of whole 16-lane steps, of a length that is unrolled.
    pub(super) const fn is_taken(&self) -> bool {
        self.head_dim.is_multiple_of(16) && self.head_dim > 0 && self.head_dim <= 512
    }

    /// Bytes of a cached row.
    const fn row_bytes(&self) -> i32 {
        (self.head_dim * self.elem.bytes()) as i32
    }

    /// Bytes of a head of the query or the result.
    const fn head_bytes(&self) -> i32 {
        (self.head_dim * 4) as i32
    }
}

/// Positions of a block.
const BLOCK: i32 = ATTENTION_BLOCK as i32;
/// The most query heads that go together.
const MAX_HEADS: i32 = 4;
/// What a block leaves for the next one, behind the scores: one register each, a period of `heads` elements repeated.
const MAX_AT: i32 = BLOCK * MAX_HEADS * 4;
const SUM_AT: i32 = MAX_AT + 64;
const CORRECTION_AT: i32 = SUM_AT + 64;
/// Query heads that are still to come.
const REMAINING_AT: i32 = CORRECTION_AT + 64;
const SCRATCH_BYTES: i32 = REMAINING_AT + 64;

/// Slots of the argument struct.
const Q: i32 = 0;
const CACHE: i32 = 1;
const PLANE_BYTES: i32 = 2;
const OUT: i32 = 3;
const POSITION: i32 = 4;
const ROWS: i32 = 5;
const LO: i32 = 6;
const HI: i32 = 7;

/// The heads that go together, and where their data lies.
struct Tile {
    shape: Shape,
    /// How many query heads: 1, 2 or 4.
    heads: i32,
    /// Their query, head after head.
    q: General,
    /// Their result, likewise.
    y: General,
    /// Keys of the block.
    keys: General,
    /// Values of the block.
    values: General,
    /// Positions that they attend to.
    n: General,
    /// Positions of the block.
    count: General,
    /// Scores of the block, and behind them what goes from block to block.
    scratch: General,
}

/// Args: q, cache, plane bytes, out, position, rows, lo, hi (key/value head, token, query head of the group).
pub(super) fn attention(k: &mut Asm, shape: &Shape) {
    let group = (shape.q_heads / shape.kv_heads) as i32;
    // Division has its fixed registers.
    for fixed in [rax, rdx] {
        k.take(fixed);
    }
    let scratch = k.scratch(SCRATCH_BYTES);
    let unit = k.arg(LO);
    let [q, y, keys, values, n, count, left] = k.generals();
    let remaining = qword_ptr(scratch + REMAINING_AT);
    k.load_arg(n, HI);
    k.raw(|a| a.sub(n, unit));
    k.raw(|a| a.mov(remaining, n));
    first_unit(k, unit, group, [left, n]);
    let (mut next, mut inside, mut done) = (k.label(), k.label(), k.label());
    k.bind(&mut next);
    k.raw(|a| a.cmp(remaining, 0));
    k.raw(|a| a.jle(done));
    let hi = k.slot(HI);
    k.raw(|a| a.cmp(unit, hi));
    k.raw(|a| a.jl(inside));
    k.load_arg(unit, LO);
    k.bind(&mut inside);
    // left = query heads of the group in this range, from this one on.
    k.set(left, group);
    k.copy(rax, unit);
    divide(k, left);
    k.raw(|a| a.sub(left, rdx));
    k.load_arg(n, HI);
    k.raw(|a| a.sub(n, unit));
    k.raw(|a| a.cmp(left, n));
    k.raw(|a| a.cmovg(left, n));
    // q = the query head within the whole row, as long as n counts something else.
    k.copy(q, rdx);
    k.load_arg(n, ROWS);
    divide(k, n);
    let (plane_bytes, cache) = (k.slot(PLANE_BYTES), k.slot(CACHE));
    k.raw(|a| a.lea(keys, ptr(rax + rax)));
    k.raw(|a| a.imul_2(keys, plane_bytes));
    k.raw(|a| a.add(keys, cache));
    k.copy(values, keys);
    k.raw(|a| a.add(values, plane_bytes));
    k.raw(|a| a.imul_3(rax, rax, group));
    k.raw(|a| a.add(rax, q));
    k.raw(|a| a.imul_3(rax, rax, shape.head_bytes()));
    // rax = the head's offset in the row, rdx = the token.
    let row = row_bytes(shape.q_heads * shape.head_dim) as i32;
    k.raw(|a| a.imul_3(y, rdx, row));
    k.raw(|a| a.add(y, rax));
    k.copy(q, y);
    let (q0, out0, position) = (k.slot(Q), k.slot(OUT), k.slot(POSITION));
    k.raw(|a| a.add(q, q0));
    k.raw(|a| a.add(y, out0));
    k.copy(n, rdx);
    k.raw(|a| a.add(n, position));
    k.raw(|a| a.add(n, 1));
    for heads in [4, 2, 1].into_iter().filter(|heads| *heads <= group) {
        let mut fewer = k.label();
        if heads > 1 {
            k.raw(|a| a.cmp(left, heads));
            k.raw(|a| a.jl(fewer));
        }
        let tile = Tile { shape: *shape, heads, q, y, keys, values, n, count, scratch };
        k.scope(|k| {
            for free in [rax, rdx, left] {
                k.release_general(free);
            }
            tile.emit(k);
        });
        k.raw(|a| a.add(unit, heads));
        k.raw(|a| a.sub(remaining, heads));
        k.raw(|a| a.jmp(next));
        if heads > 1 {
            k.bind(&mut fewer);
        }
    }
    k.bind(&mut done);
}

/// Where to begin, `unit` being the first of the range: at the next whole group, if it has one. Two threads that share the
/// heads of a group then come to them at the same time, at the end, and read its keys and values from memory once.
fn first_unit(k: &mut Asm, unit: General, group: i32, [by, first]: [General; 2]) {
    let mut whole = k.label();
    k.set(by, group);
    k.copy(rax, unit);
    divide(k, by);
    k.raw(|a| a.test(rdx, rdx));
    k.raw(|a| a.jz(whole));
    k.raw(|a| a.lea(first, ptr(unit + group)));
    k.raw(|a| a.sub(first, rdx));
    let hi = k.slot(HI);
    k.raw(|a| a.cmp(first, hi));
    k.raw(|a| a.cmovl(unit, first));
    k.bind(&mut whole);
}

/// rax = rax / by, rdx = the rest.
fn divide(k: &mut Asm, by: General) {
    k.raw(|a| a.xor(low32(rdx), low32(rdx)));
    k.raw(|a| a.div(by));
}

impl Tile {
    fn emit(&self, k: &mut Asm) {
        self.start(k);
        let start = k.general();
        k.set(start, 0);
        k.turns(start, self.n, BLOCK, |k| {
            // count = min(n - start, 64)
            let full = k.general();
            k.set(full, BLOCK);
            k.copy(self.count, self.n);
            k.raw(|a| a.sub(self.count, start));
            k.raw(|a| a.cmp(self.count, full));
            k.raw(|a| a.cmovg(self.count, full));
            k.release_general(full);
            k.scope(|k| self.scores(k));
            k.scope(|k| self.softmax(k));
            k.scope(|k| self.add_values(k));
            let block_bytes = BLOCK * self.shape.row_bytes();
            k.raw(|a| a.add(self.keys, block_bytes));
            k.raw(|a| a.add(self.values, block_bytes));
        });
        self.finish(k);
    }

    /// The result zero, the maximum the least number, the sum zero.
    fn start(&self, k: &mut Asm) {
        k.scope(|k| {
            let zero = k.zero();
            let bytes = zero.width().bytes();
            for offset in (0..self.heads * self.shape.head_bytes()).step_by(bytes as usize) {
                k.store(ptr(self.y + offset), zero);
            }
            k.store(ptr(self.scratch + SUM_AT), zero);
            let least = k.splat_f32(f32::MIN);
            k.store(ptr(self.scratch + MAX_AT), least);
        });
    }

    /// Divides the result by the sum.
    fn finish(&self, k: &mut Asm) {
        k.scope(|k| {
            let [inverse, sum] = k.vectors();
            k.vmovups(sum, ptr(self.scratch + SUM_AT));
            let one = k.all_f32(1.0);
            k.vmovups(inverse, one);
            k.vdivps(inverse, inverse, sum);
            k.store(ptr(self.scratch + CORRECTION_AT), inverse);
            let (factor, v, bytes) = (inverse, sum, sum.width().bytes());
            for head in 0..self.heads {
                k.vbroadcastss(factor, dword_ptr(self.scratch + (CORRECTION_AT + 4 * head)));
                for offset in (0..self.shape.head_bytes()).step_by(bytes as usize) {
                    let at = self.y + (head * self.shape.head_bytes() + offset);
                    k.vmulps(v, factor, ptr(at));
                    k.store(ptr(at), v);
                }
            }
        });
    }

    /// Bytes of the scores of one position.
    const fn position_bytes(&self) -> i32 {
        self.heads * 4
    }

    /// Loads a part of a cached row, as wide as `d`, widened to f32.
    fn load_cached(&self, k: &mut Asm, d: Vector, row: General, elem: i32) {
        let at = ptr(row + elem * self.shape.elem.bytes() as i32);
        match self.shape.elem {
            KvElem::F32 => k.vmovups(d, at),
            KvElem::F16 => k.vcvtph2ps(d, at),
        }
    }

    /// The address of what goes from block to block.
    fn carried(&self, at: i32) -> AsmMemoryOperand {
        ptr(self.scratch + at)
    }
}
