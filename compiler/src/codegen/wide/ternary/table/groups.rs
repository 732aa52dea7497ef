//! The table product with a scale per group of columns.
//!
//! A group is a few passes. The last one does not store the i16 sum of a row but makes it f32 and adds it to the row's results so
//! far, 16 tokens side by side in the scratch memory: y = madd(acc * (1 / s_x), s_w, y). A group that is too long for i16 is
//! widened to i32 every few passes, and ends in a sweep of its own.

use iced_x86::code_asm::{dword_ptr, ptr, qword_ptr};

use super::passes::{After, End, pass};
use super::{ENTRY, Frame, ROW32, TILE_ROWS, TOKENS, token, var};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector};
use crate::codegen::wide::ternary::slot;
use crate::schedule::groups::{GroupShape, GroupTableScratch};
use crate::schedule::kernel::GroupScales;

const _: () = assert!(ENTRY == 2 * TOKENS && ROW32 == 4 * TOKENS);

/// What a matrix with scales per group has more.
pub(super) struct Groups {
    pub(super) shape: GroupShape,
    pub(super) scratch: GroupTableScratch,
}

/// The results of a block of tiles, group by group.
pub(super) fn sums(k: &mut Asm, f: &Frame<'_>, groups: &Groups) {
    let (s, g) = (f.s, &groups.shape);
    inverse_scales(k, f, groups);
    if groups.scratch.is_long() {
        super::clear(k, f, groups.scratch.table.sums32, TILE_ROWS * ROW32);
    }
    k.scope(|k| {
        let at = k.general();
        k.raw(|a| a.mov(at, qword_ptr(s + var::WEIGHTS)));
        k.raw(|a| a.mov(qword_ptr(s + var::SCALES), at));
        k.raw(|a| a.add(at, g.codes_at()));
        k.raw(|a| a.mov(qword_ptr(s + var::WEIGHTS), at));
        k.lea(at, s + f.scratch.columns as i32);
        k.raw(|a| a.mov(qword_ptr(s + var::COLUMNS), at));
        k.lea(at, s + groups.scratch.inverse as i32);
        k.raw(|a| a.mov(qword_ptr(s + var::INVERSE), at));
    });
    k.raw(|a| a.mov(qword_ptr(s + var::GROUPS), g.count() as i32));
    let mut head = k.label();
    k.bind(&mut head);
    if groups.scratch.is_long() {
        long_group(k, f, groups);
    } else {
        short_group(k, f, g);
    }
    k.raw(|a| a.add(qword_ptr(s + var::SCALES), g.scale_bytes()));
    k.raw(|a| a.add(qword_ptr(s + var::INVERSE), ROW32));
    k.raw(|a| a.sub(qword_ptr(s + var::GROUPS), 1));
    k.raw(|a| a.jnz(head));
}

/// The passes of a group whose sums fit i16: the first one, those between, the last one.
fn short_group(k: &mut Asm, f: &Frame<'_>, g: &GroupShape) {
    let pass_lines = f.scratch.pass_lines as i32;
    let (whole, rest) = (g.lines() as i32 / pass_lines, g.lines() as i32 % pass_lines);
    let (last_lines, before) = if rest > 0 { (rest, whole) } else { (pass_lines, whole - 1) };
    if before > 0 {
        pass(k, f, pass_lines, After { is_first: true, end: End::Keep });
    }
    repeated(k, f, before - 1, |k| pass(k, f, pass_lines, After::KEEP));
    pass(k, f, last_lines, After { is_first: before == 0, end: End::Group });
}

/// `body`, so many times.
fn repeated(k: &mut Asm, f: &Frame<'_>, times: i32, body: impl FnOnce(&mut Asm)) {
    let left = f.s + var::PASSES;
    match times {
        ..=0 => {}
        1 => body(k),
        _ => {
            k.raw(|a| a.mov(qword_ptr(left), times));
            let mut head = k.label();
            k.bind(&mut head);
            body(k);
            k.raw(|a| a.sub(qword_ptr(left), 1));
            k.raw(|a| a.jnz(head));
        }
    }
}

/// The passes of a group whose sums do not: chunks that end in sums of i32, then what these give.
fn long_group(k: &mut Asm, f: &Frame<'_>, groups: &Groups) {
    let (pass_lines, chunk_passes) = (f.scratch.pass_lines as i32, f.scratch.chunk_passes as i32);
    let lines = groups.shape.lines() as i32;
    let (passes, rest) = (lines / pass_lines, lines % pass_lines);
    let chunks = passes / chunk_passes;
    let left = f.s + var::UNTIL_WIDEN;
    if chunks > 0 {
        k.raw(|a| a.mov(qword_ptr(left), chunks));
        let mut head = k.label();
        k.bind(&mut head);
        repeated(k, f, chunk_passes - 1, |k| pass(k, f, pass_lines, After::KEEP));
        pass(k, f, pass_lines, After::WIDEN);
        k.raw(|a| a.sub(qword_ptr(left), 1));
        k.raw(|a| a.jnz(head));
    }
    // What is left is less than a chunk, and a line of less than a pass still fits with it.
    let more = passes % chunk_passes;
    repeated(k, f, more - 1, |k| pass(k, f, pass_lines, After::KEEP));
    if more > 0 {
        pass(k, f, pass_lines, After::WIDEN);
    }
    if rest > 0 {
        pass(k, f, rest, After::WIDEN);
    }
    k.scope(|k| {
        let end = GroupEnd::new(k, f);
        let [n, sums] = k.generals();
        let zero = k.zero();
        k.raw(|a| a.mov(n, qword_ptr(f.s + var::BLOCK_TILES)));
        k.lea(sums, f.s + groups.scratch.table.sums32 as i32);
        let mut head = k.label();
        k.bind(&mut head);
        end.tile(k, f);
        for row in 0..TILE_ROWS {
            for (part, v) in end.values.iter().enumerate() {
                let at = ptr(sums + (row * ROW32 + part as i32 * k.width.bytes()));
                k.vmovups(*v, at);
                k.store(at, zero);
            }
            end.add(k, f, row);
        }
        end.next(k, f);
        k.raw(|a| a.add(sums, TILE_ROWS * ROW32));
        k.raw(|a| a.sub(n, 1));
        k.raw(|a| a.jnz(head));
    });
}

/// The inverse scales of the batch's tokens, group by group: `[group][token]`.
fn inverse_scales(k: &mut Asm, f: &Frame<'_>, groups: &Groups) {
    let g = &groups.shape;
    k.scope(|k| {
        let [row, to, base] = k.generals();
        let v = k.vector();
        k.load_arg(base, slot::CODES);
        for i in 0..TOKENS {
            token(k, f, row, i);
            k.raw(|a| a.imul_3(row, row, f.t.code_row_bytes()));
            k.raw(|a| a.add(row, base));
            k.lea(to, f.s + (groups.scratch.inverse as i32 + 4 * i));
            k.for_constant(g.count() as i32, 1, |k, group| {
                k.raw(|a| a.vmovss(v.xmm(), dword_ptr(row + group * 4 + g.inverse_at())));
                k.raw(|a| a.vmovss(dword_ptr(to), v.xmm()));
                k.raw(|a| a.add(to, ROW32));
            });
        }
    });
}

/// What the end of a group has in registers.
pub(super) struct GroupEnd {
    /// Inverse scales of the activations.
    inverse: Vec<Vector>,
    /// The sums of a row, as i32.
    values: Vec<Vector>,
    scale: Vector,
    /// Results of the tile so far.
    panel: General,
    /// Scales of the tile.
    scales: General,
}

impl GroupEnd {
    pub(super) fn new(k: &mut Asm, f: &Frame<'_>) -> Self {
        let parts = ROW32 / k.width.bytes();
        let inverse: Vec<Vector> = (0..parts).map(|_| k.vector()).collect();
        let values = (0..parts).map(|_| k.vector()).collect();
        let scale = k.vector();
        let [panel, scales] = k.generals();
        k.raw(|a| a.mov(panel, qword_ptr(f.s + var::INVERSE)));
        for (part, v) in inverse.iter().enumerate() {
            k.vmovups(*v, ptr(panel + part as i32 * k.width.bytes()));
        }
        k.lea(panel, f.s + f.scratch.sums32 as i32);
        k.raw(|a| a.mov(scales, qword_ptr(f.s + var::SCALES)));
        Self { inverse, values, scale, panel, scales }
    }

    /// Before the rows of a tile: its scales as f32.
    pub(super) fn tile(&self, k: &mut Asm, f: &Frame<'_>) {
        if scales_of(f) == GroupScales::F16 {
            for part in (0..4 * TILE_ROWS).step_by(k.width.bytes() as usize) {
                k.vcvtph2ps(self.scale, ptr(self.scales + part / 2));
                k.store(ptr(f.s + (f.scratch.gate as i32 + part)), self.scale);
            }
        }
    }

    /// The i16 sums of a row onto its results.
    pub(super) fn row(&self, k: &mut Asm, f: &Frame<'_>, sum: Vector, row: i32) {
        match self.values[..] {
            [low, high] => {
                k.raw(|a| a.vpmovsxwd(low.ymm(), sum.xmm()));
                k.raw(|a| a.vextracti128(high.xmm(), sum.ymm(), 1));
                k.raw(|a| a.vpmovsxwd(high.ymm(), high.xmm()));
            }
            _ => self.values.iter().for_each(|v| k.vpmovsxwd(*v, sum)),
        }
        self.add(k, f, row);
    }

    /// The i32 sums of a row onto its results.
    fn add(&self, k: &mut Asm, f: &Frame<'_>, row: i32) {
        let from = match scales_of(f) {
            GroupScales::F32 => self.scales + 4 * row,
            GroupScales::F16 => f.s + (f.scratch.gate as i32 + 4 * row),
        };
        k.vbroadcastss(self.scale, dword_ptr(from));
        for (part, (v, inverse)) in self.values.iter().zip(&self.inverse).enumerate() {
            let y = ptr(self.panel + (row * ROW32 + part as i32 * k.width.bytes()));
            k.vcvtdq2ps(*v, *v);
            k.vmulps(*v, *v, *inverse);
            k.scale_add(*v, self.scale, y);
            k.store(y, *v);
        }
    }

    /// On to the next tile.
    pub(super) fn next(&self, k: &mut Asm, f: &Frame<'_>) {
        k.raw(|a| a.add(self.panel, TILE_ROWS * ROW32));
        k.raw(|a| a.add(self.scales, f.t.tile_bytes()));
    }
}

fn scales_of(f: &Frame<'_>) -> GroupScales {
    f.groups.as_ref().map_or(GroupScales::F32, |groups| groups.shape.scales)
}
