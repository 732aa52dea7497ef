//! Products with a scale per group of columns: codes of i8, or f32.
//!
//! Weights are `t2g_16x16`: a group is lines as of `t2_16x16`, then a line of 16 scales. What a group gives is added to the
//! results with its scales, group by group, by `madd`:
//! - of codes, the exact sums as in [`super::dot`], times the inverse scale of the activations; up to four tokens share
//!   the unfolding;
//! - of f32, a dot product in 16 lanes, a lane a register of rows. A trit is looked up as f32 by the low bits of a dword.
//!   Sixteen registers hold the even lanes, then the odd ones: what they fold to is the same.
//!
//! Args: w, x, out, tokens, lo, hi (tiles).

use iced_x86::code_asm::{dword_bcst, dword_ptr, ptr};

use super::Ternary;
use super::dot::{self, Block, MOST_TOKENS};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector, Width};
use crate::schedule::kernel::{Epilogue, GroupRows, Regime, TritPacking, Variant};
use crate::schedule::{RowKind, layout};

const LINE: i32 = layout::ALIGN_BYTES as i32;
/// Lines per turn of a loop within a group.
const UNROLL: u32 = 8;

/// The slots of the argument struct.
mod slot {
    pub(super) const WEIGHTS: i32 = 0;
    pub(super) const X: i32 = 1;
    pub(super) const OUT: i32 = 2;
    pub(super) const TOKENS: i32 = 3;
    pub(super) const LO: i32 = 4;
    pub(super) const HI: i32 = 5;
}

/// What does not change within a kernel.
struct Groups {
    packing: TritPacking,
    cols: u32,
    group: u32,
    count: u32,
    /// Lines of codes of a group.
    lines: i32,
    /// Bytes from one row of x to the next.
    x_row_bytes: i32,
    out_row_bytes: i32,
}

impl Groups {
    /// From one group's weights to the next.
    fn bytes(&self) -> i32 {
        (self.lines + 1) * LINE
    }
}

/// Writes the body for a matrix of N rows, K columns and groups of so many.
pub(in crate::codegen::wide) fn emit(
    k: &mut Asm,
    packing: TritPacking,
    [rows, cols, group]: [u32; 3],
    kind: GroupRows,
) {
    let count = cols / group;
    let x_row = match kind {
        GroupRows::Codes => layout::row_bytes(RowKind::Q8Groups(count), cols),
        GroupRows::F32 => layout::row_bytes(RowKind::F32, cols),
    };
    let lines = layout::group_lines(packing, group) as i32;
    let out_row_bytes = layout::row_bytes(RowKind::F32, rows) as i32;
    let g = Groups { packing, cols, group, count, lines, x_row_bytes: x_row as i32, out_row_bytes };
    let tile = k.arg(slot::LO);
    match kind {
        GroupRows::Codes => codes(k, &g, tile),
        GroupRows::F32 => f32s(k, &g, tile),
    }
}

/// w = the address of tile `tile`.
fn tile_at(k: &mut Asm, g: &Groups, w: General, tile: General) {
    k.raw(|a| a.imul_3(w, tile, layout::group_tile_bytes(g.packing, g.count, g.group) as i32));
    let base = k.slot(slot::WEIGHTS);
    k.raw(|a| a.add(w, base));
}

/// d = the address of row `token` of the argument `slot`, rows `bytes` apart.
fn row_at(k: &mut Asm, d: General, slot: i32, token: General, bytes: i32) {
    k.raw(|a| a.imul_3(d, token, bytes));
    let base = k.slot(slot);
    k.raw(|a| a.add(d, base));
}

/// out = the address of the tile's results in the row of `token`.
fn out_at(k: &mut Asm, g: &Groups, out: General, tile: General, token: General) {
    row_at(k, out, slot::OUT, token, g.out_row_bytes);
    k.scope(|k| {
        let offset = k.general();
        k.raw(|a| a.imul_3(offset, tile, LINE));
        k.raw(|a| a.add(out, offset));
    });
}

fn codes(k: &mut Asm, g: &Groups, tile: General) {
    // A group as a matrix of its own, as far as its sums go.
    let unroll_lines = Some(g.lines.clamp(1, UNROLL as i32) as u8);
    let t = Ternary {
        rows: 16,
        cols: g.group,
        packing: g.packing,
        epilogue: Epilogue::Sums,
        regime: Regime::Gemm,
        variant: Variant { unroll_lines, ..Variant::default() },
        code_row_bytes: Some(g.x_row_bytes),
    };
    let constants = dot::constants(k, &t);
    let hi = k.arg(slot::HI);
    k.for_range(tile, hi, 1, |k| {
        let [w, token, end] = k.generals();
        tile_at(k, g, w, tile);
        k.set(token, 0);
        // Fours, then twos, then the odd one.
        for tokens in [MOST_TOKENS, 2, 1] {
            if tokens > dot::most_tokens(k.width) {
                continue;
            }
            k.load_arg(end, slot::TOKENS);
            k.raw(|a| a.sub(end, tokens - 1));
            k.for_range(token, end, tokens, |k| {
                code_block(k, g, &Block { t: &t, constants: &constants, tokens }, w, tile, token);
            });
        }
    });
}

/// One tile for a block of tokens: y = madd((acc - sum) * (1 / s_x), s_w, y) over the groups.
fn code_block(k: &mut Asm, g: &Groups, block: &Block<'_>, w: General, tile: General, token: General) {
    let parts = LINE / k.width.bytes();
    // y[part][token]
    let y: Vec<Vec<Vector>> = (0..parts).map(|_| (0..block.tokens).map(|_| k.zero()).collect()).collect();
    k.scope(|k| {
        let [wg, xg, sg, stop] = k.generals();
        k.copy(wg, w);
        k.lea(stop, w + g.count as i32 * g.bytes());
        row_at(k, xg, slot::X, token, g.x_row_bytes);
        k.copy(sg, xg);
        let mut head = k.label();
        k.bind(&mut head);
        for (part, y) in y.iter().enumerate() {
            let part = part as i32 * k.width.bytes();
            k.scope(|k| {
                let into: Vec<Vector> = (0..block.tokens).map(|_| k.vector()).collect();
                k.scope(|k| {
                    let [p, x, end] = k.generals();
                    k.lea(p, wg + part);
                    k.copy(x, xg);
                    dot::code_sums(k, block, p, x, end, &into);
                });
                let own = k.vector();
                for (i, (v, y)) in into.iter().zip(y).enumerate() {
                    let row = sg + i as i32 * g.x_row_bytes;
                    k.vbroadcastss(own, dword_ptr(row + layout::group_sums_at(g.cols, g.count) as i32));
                    k.vpsubd(*v, *v, own);
                    k.vcvtdq2ps(*v, *v);
                    k.vbroadcastss(own, dword_ptr(row + layout::group_scales_at(g.cols) as i32));
                    k.vmulps(*v, *v, own);
                    k.madd(*y, *v, ptr(wg + (g.lines * LINE + part)));
                }
            });
        }
        k.raw(|a| a.add(wg, g.bytes()));
        k.raw(|a| a.add(xg, g.group as i32));
        k.raw(|a| a.add(sg, 4));
        k.raw(|a| a.cmp(wg, stop));
        k.raw(|a| a.jb(head));
    });
    k.scope(|k| {
        let out = k.general();
        out_at(k, g, out, tile, token);
        for (part, y) in y.iter().enumerate() {
            for (i, y) in y.iter().enumerate() {
                let place = part as i32 * k.width.bytes() + i as i32 * g.out_row_bytes;
                k.store(ptr(out + place), *y);
            }
        }
    });
}

fn f32s(k: &mut Asm, g: &Groups, tile: General) {
    // By the low bits of a dword: codes 0, 1 and 2, whatever stands above them.
    let trits: Vec<u8> = [-1.0f32, 0.0, 1.0, 0.0].repeat(4).iter().flat_map(|t| t.to_le_bytes()).collect();
    let from = k.constant(&trits);
    let table = k.vector();
    k.vmovups(table, from);
    let hi = k.arg(slot::HI);
    k.for_range(tile, hi, 1, |k| {
        let [w, token, end] = k.generals();
        tile_at(k, g, w, tile);
        k.set(token, 0);
        k.load_arg(end, slot::TOKENS);
        k.for_range(token, end, 1, |k| {
            for part in (0..LINE).step_by(k.width.bytes() as usize) {
                k.scope(|k| f32_part(k, g, table, w, tile, token, part));
            }
        });
    });
}

/// The rows of one register for one token: y = madd(dot, s_w, y) over the groups.
fn f32_part(k: &mut Asm, g: &Groups, table: Vector, w: General, tile: General, token: General, part: i32) {
    let y = k.zero();
    let [wg, xg, stop] = k.generals();
    k.lea(wg, w + part);
    k.lea(stop, w + (part + g.count as i32 * g.bytes()));
    row_at(k, xg, slot::X, token, g.x_row_bytes);
    let mut head = k.label();
    k.bind(&mut head);
    k.scope(|k| {
        // Whole tiles have all lanes in registers; halves the even ones first.
        let step = if k.width == Width::W512 { 1 } else { 2 };
        let sums: Vec<Vector> = (0..step).map(|first| lanes(k, g, table, wg, xg, first, step)).collect();
        if let [even, odd] = sums[..] {
            k.vaddps(even, even, odd);
        }
        k.madd(y, sums[0], ptr(wg + g.lines * LINE));
    });
    k.raw(|a| a.add(wg, g.bytes()));
    k.raw(|a| a.add(xg, 4 * g.group as i32));
    k.raw(|a| a.cmp(wg, stop));
    k.raw(|a| a.jb(head));
    out_at(k, g, xg, tile, token);
    k.store(ptr(xg + part), y);
}

/// The sum of the lanes `first`, `first + step`, ... of one group.
fn lanes(k: &mut Asm, g: &Groups, table: Vector, wg: General, xg: General, first: i32, step: i32) -> Vector {
    let total = k.zero();
    k.scope(|k| {
        let mut lanes = vec![total];
        lanes.extend((first + step..16).step_by(step as usize).map(|_| k.zero()));
        k.scope(|k| {
            let [packed, trit] = k.vectors();
            let embedded = k.width == Width::W512;
            let broadcast = if embedded { trit } else { k.vector() };
            // A line is 64 bytes, and so are the 16 elements of x that it meets.
            k.for_constant(g.lines * LINE, LINE, |k, offset| {
                k.vmovups(packed, ptr(wg + offset));
                for (i, lane) in lanes.iter().enumerate() {
                    let column = first + step * i as i32;
                    // Column 4 f + b is field f of byte b.
                    let bit = 8 * (column % 4) + 2 * (column / 4);
                    k.vpsrld(trit, packed, bit);
                    k.vpermps(trit, trit, table);
                    let element = xg + offset + 4 * column;
                    if embedded {
                        k.madd(*lane, trit, dword_bcst(element));
                    } else {
                        k.vbroadcastss(broadcast, dword_ptr(element));
                        k.madd(*lane, trit, broadcast);
                    }
                }
            });
        });
        let mut width = lanes.len() / 2;
        while width > 0 {
            for i in 0..width {
                k.vaddps(lanes[i], lanes[i], lanes[i + width]);
            }
            width /= 2;
        }
    });
    total
}
