//! Products with a scale per group of columns: codes of i8, or f32.
//!
//! Weights are `t2g_16x16`, `b1g_16x32` or either with scales of f16: a group is lines as of `t2_16x16` or `b1_16x32`; the scales of all
//! groups stand before them. What a group gives is added to the results with its scales, group by group, by `madd`:
//! - of codes, the exact sums as in [`super::dot`], times the inverse scale of the activations; up to four tokens share
//!   the unfolding;
//! - of f32, a dot product in 16 lanes, a lane a register of rows. A trit is looked up as f32 by the low bits of a dword.
//!   Sixteen registers hold the even lanes, then the odd ones: what they fold to is the same. Where there are 32, four tokens
//!   share the unfolding, four lanes of each at a time.
//!
//! Residual rows are added last. Args as in the module's head; `lo` and `hi` count tiles.

use iced_x86::code_asm::{AsmMemoryOperand, dword_bcst, dword_ptr, ptr};

use super::dot::{self, Block, MOST_TOKENS};
use super::{Ternary, slot, table};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::ops::Source;
use crate::codegen::wide::registers::{General, Vector, Width};
use crate::schedule::groups::GroupShape;
use crate::schedule::kernel::{Epilogue, GroupRows, GroupScales, Regime, Variant};
use crate::schedule::{RowKind, layout};

const LINE: i32 = layout::ALIGN_BYTES as i32;
/// Lanes of a dot product of f32.
const LANES: i32 = 16;
/// Lines per turn of a loop within a group.
const UNROLL: i32 = 8;

/// What does not change within a kernel.
struct Groups {
    shape: GroupShape,
    /// Bytes from one row of x to the next.
    x_row_bytes: i32,
    out_row_bytes: i32,
    /// Whether there are residual rows, as long as those of results.
    adds: bool,
}

/// Writes the body.
pub(in crate::codegen::wide) fn emit(k: &mut Asm, shape: GroupShape, kind: GroupRows, regime: Regime, adds: bool) {
    if let Regime::Table { .. } = regime {
        return table::of_groups(k, shape, adds);
    }
    let out_row_bytes = layout::row_bytes(RowKind::F32, shape.rows) as i32;
    let g = Groups { shape, x_row_bytes: shape.x_row_bytes(kind), out_row_bytes, adds };
    let tile = k.arg(slot::LO);
    match kind {
        GroupRows::Codes => codes(k, &g, tile),
        GroupRows::F32 => f32s(k, &g, tile),
    }
}

/// The scales of the rows of one register, from row `part / 4` on, of the group whose scales are at `at`: in memory, or in
/// `spare`.
fn scales(k: &mut Asm, g: &Groups, at: General, part: i32, spare: Vector) -> Source {
    match g.shape.scales {
        GroupScales::F32 => ptr(at + part).into(),
        GroupScales::F16 => {
            k.vcvtph2ps(spare, ptr(at + part / 2));
            spare.into()
        }
    }
}

/// w = the address of tile `tile`.
fn tile_at(k: &mut Asm, g: &Groups, w: General, tile: General) {
    k.raw(|a| a.imul_3(w, tile, g.shape.tile_bytes()));
    let base = k.slot(slot::WEIGHTS);
    k.raw(|a| a.add(w, base));
}

/// d = the address of row `token` of the argument `slot`, rows `bytes` apart.
fn row_at(k: &mut Asm, d: General, slot: i32, token: General, bytes: i32) {
    k.raw(|a| a.imul_3(d, token, bytes));
    let base = k.slot(slot);
    k.raw(|a| a.add(d, base));
}

/// Stores y = residual + y, of as many tokens from `token` on, for the rows of one register: those at byte `part` of the tile.
fn store(k: &mut Asm, g: &Groups, y: &[Vector], (tile, part): (General, i32), token: General) {
    let place = |i: usize| part + i as i32 * g.out_row_bytes;
    k.scope(|k| {
        let [at, offset] = k.generals();
        k.raw(|a| a.imul_3(offset, tile, LINE));
        if g.adds {
            row_at(k, at, slot::LAST, token, g.out_row_bytes);
            k.raw(|a| a.add(at, offset));
            for (i, y) in y.iter().enumerate() {
                k.vaddps(*y, *y, ptr(at + place(i)));
            }
        }
        row_at(k, at, slot::OUT, token, g.out_row_bytes);
        k.raw(|a| a.add(at, offset));
        for (i, y) in y.iter().enumerate() {
            k.store(ptr(at + place(i)), *y);
        }
    });
}

fn codes(k: &mut Asm, g: &Groups, tile: General) {
    // A group as a matrix of its own, as far as its sums go.
    let unroll_lines = Some((g.shape.lines() as i32).clamp(1, UNROLL) as u8);
    let t = Ternary {
        rows: 16,
        cols: g.shape.group,
        packing: g.shape.packing,
        epilogue: Epilogue::Sums,
        // With the masks in registers: there is room for them.
        regime: Regime::Gemv,
        variant: Variant { unroll_lines, ..Variant::default() },
        code_row_bytes: Some(g.x_row_bytes),
        tile_bytes: None,
    };
    let constants = dot::constants(k, &t);
    let hi = k.arg(slot::HI);
    k.for_range(tile, hi, 1, |k| {
        let [w, token, end] = k.generals();
        tile_at(k, g, w, tile);
        tile_scales(k, g, w);
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

/// The scales of a tile as f32 in the scratch memory, `[group][row]`, once for all tokens: read before its codes, as one stream.
fn tile_scales(k: &mut Asm, g: &Groups, w: General) {
    k.scope(|k| {
        let [from, to, stop] = k.generals();
        let v = k.vector();
        k.copy(from, w);
        k.lea(stop, w + g.shape.count() as i32 * g.shape.scale_bytes());
        k.load_arg(to, slot::SCRATCH);
        let mut head = k.label();
        k.bind(&mut head);
        // As far ahead as the loop over lines: what it fetches begins behind the scales.
        k.raw(|a| a.prefetcht0(ptr(from + dot::PREFETCH_LINES as i32 * LINE)));
        for part in (0..LINE).step_by(k.width.bytes() as usize) {
            match g.shape.scales {
                GroupScales::F32 => k.vmovups(v, ptr(from + part)),
                GroupScales::F16 => k.vcvtph2ps(v, ptr(from + part / 2)),
            }
            k.store(ptr(to + part), v);
        }
        k.raw(|a| a.add(from, g.shape.scale_bytes()));
        k.raw(|a| a.add(to, LINE));
        k.raw(|a| a.cmp(from, stop));
        k.raw(|a| a.jb(head));
    });
}

/// One tile for a block of tokens: y = madd((acc - sum) * (1 / s_x), s_w, y) over the groups.
fn code_block(k: &mut Asm, g: &Groups, block: &Block<'_>, w: General, tile: General, token: General) {
    let parts = LINE / k.width.bytes();
    // y[part][token]
    let y: Vec<Vec<Vector>> = (0..parts).map(|_| (0..block.tokens).map(|_| k.zero()).collect()).collect();
    k.scope(|k| {
        // Codes of weights and of x, scales of weights (as f32) and of x.
        let [wg, xg, own_scales, x_scales, stop] = k.generals();
        k.lea(wg, w + g.shape.codes_at());
        k.load_arg(own_scales, slot::SCRATCH);
        k.lea(stop, wg + g.shape.count() as i32 * g.shape.code_bytes());
        row_at(k, xg, slot::CODES, token, g.x_row_bytes);
        k.copy(x_scales, xg);
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
                    let row = x_scales + i as i32 * g.x_row_bytes;
                    let (sum, inverse) = (row + g.shape.sums_at(), row + g.shape.inverse_at());
                    if k.width == Width::W512 {
                        k.vpsubd(*v, *v, dword_bcst(sum));
                        k.vcvtdq2ps(*v, *v);
                        k.vmulps(*v, *v, dword_bcst(inverse));
                    } else {
                        k.vbroadcastss(own, dword_ptr(sum));
                        k.vpsubd(*v, *v, own);
                        k.vcvtdq2ps(*v, *v);
                        k.vbroadcastss(own, dword_ptr(inverse));
                        k.vmulps(*v, *v, own);
                    }
                    k.madd(*y, *v, ptr(own_scales + part));
                }
            });
        }
        k.raw(|a| a.add(wg, g.shape.code_bytes()));
        k.raw(|a| a.add(xg, g.shape.group as i32));
        k.raw(|a| a.add(own_scales, LINE));
        k.raw(|a| a.add(x_scales, 4));
        k.raw(|a| a.cmp(wg, stop));
        k.raw(|a| a.jb(head));
    });
    for (part, y) in y.iter().enumerate() {
        store(k, g, y, (tile, part as i32 * k.width.bytes()), token);
    }
}

fn f32s(k: &mut Asm, g: &Groups, tile: General) {
    // By the low bits of a dword: codes 0, 1 and 2, or 0 and 1, whatever stands above them.
    let trits = if g.shape.packing.has_zero() { [-1.0f32, 0.0, 1.0, 0.0] } else { [-1.0, 1.0, -1.0, 1.0] };
    let trits: Vec<u8> = trits.repeat(4).iter().flat_map(|t| t.to_le_bytes()).collect();
    let from = k.constant(&trits);
    let table = k.vector();
    k.vmovups(table, from);
    let hi = k.arg(slot::HI);
    k.for_range(tile, hi, 1, |k| {
        let [w, token, end] = k.generals();
        tile_at(k, g, w, tile);
        k.set(token, 0);
        // Sixteen registers have room for one token only.
        for tokens in [MOST_TOKENS, 1] {
            if tokens > dot::most_tokens(k.width) {
                continue;
            }
            k.load_arg(end, slot::TOKENS);
            k.raw(|a| a.sub(end, tokens - 1));
            k.for_range(token, end, tokens, |k| {
                for part in (0..LINE).step_by(k.width.bytes() as usize) {
                    k.scope(|k| f32_part(k, g, table, w, tile, (token, tokens), part));
                }
            });
        }
    });
}

/// The rows of one register for `tokens` tokens from `token` on: y = madd(dot, s_w, y) over the groups.
fn f32_part(
    k: &mut Asm,
    g: &Groups,
    table: Vector,
    w: General,
    tile: General,
    (token, tokens): (General, i32),
    part: i32,
) {
    let y: Vec<Vector> = (0..tokens).map(|_| k.zero()).collect();
    let [wg, xg, own_scales, stop] = k.generals();
    k.lea(wg, w + (part + g.shape.codes_at()));
    k.copy(own_scales, w);
    k.lea(stop, wg + g.shape.count() as i32 * g.shape.code_bytes());
    row_at(k, xg, slot::CODES, token, g.x_row_bytes);
    let mut head = k.label();
    k.bind(&mut head);
    k.scope(|k| {
        let sums = dots(k, g, table, wg, xg, tokens);
        let spare = k.vector();
        let scales = scales(k, g, own_scales, part, spare);
        for (y, sum) in y.iter().zip(sums) {
            k.madd(*y, sum, scales);
        }
    });
    k.raw(|a| a.add(wg, g.shape.code_bytes()));
    k.raw(|a| a.add(xg, 4 * g.shape.group as i32));
    k.raw(|a| a.add(own_scales, g.shape.scale_bytes()));
    k.raw(|a| a.cmp(wg, stop));
    k.raw(|a| a.jb(head));
    store(k, g, &y, (tile, part), token);
}

/// The dot products of one group with each token, all 16 lanes folded 8, 4, 2, 1: as many lanes at a time as there are registers
/// for. What is left to fold then are residues of a power of two.
fn dots(k: &mut Asm, g: &Groups, table: Vector, wg: General, xg: General, tokens: i32) -> Vec<Vector> {
    let onto = |k: &mut Asm, sums: &[Vector], others: &[Vector]| {
        for (sum, other) in sums.iter().zip(others) {
            k.vaddps(*sum, *sum, *other);
        }
    };
    match (k.width, tokens) {
        (Width::W512, 1) => lanes(k, g, table, (wg, xg, tokens), 0, 1),
        (_, 1) => {
            let even = lanes(k, g, table, (wg, xg, tokens), 0, 2);
            k.scope(|k| {
                let odd = lanes(k, g, table, (wg, xg, tokens), 1, 2);
                onto(k, &even, &odd);
            });
            even
        }
        _ => {
            let pair = |k: &mut Asm, first: i32| {
                let sums = lanes(k, g, table, (wg, xg, tokens), first, 4);
                k.scope(|k| {
                    let others = lanes(k, g, table, (wg, xg, tokens), first + 2, 4);
                    onto(k, &sums, &others);
                });
                sums
            };
            let even = pair(k, 0);
            k.scope(|k| {
                let odd = pair(k, 1);
                onto(k, &even, &odd);
            });
            even
        }
    }
}

/// For each token the sum of the lanes `first`, `first + step`, ... of one group.
fn lanes(
    k: &mut Asm,
    g: &Groups,
    table: Vector,
    (wg, xg, tokens): (General, General, i32),
    first: i32,
    step: i32,
) -> Vec<Vector> {
    let totals: Vec<Vector> = (0..tokens).map(|_| k.zero()).collect();
    k.scope(|k| {
        // lanes[token][i]
        let more = || (first + step..16).step_by(step as usize);
        let lanes: Vec<Vec<Vector>> =
            totals.iter().map(|total| std::iter::once(*total).chain(more().map(|_| k.zero())).collect()).collect();
        k.scope(|k| {
            let [packed, trit] = k.vectors();
            let embedded = k.width == Width::W512;
            let broadcast = if embedded { trit } else { k.vector() };
            // Columns of a line come in sixteens, the lanes of a dot product; the last line may have fewer of them than others.
            let packing = g.shape.packing;
            let (of_line, sixteens) =
                (packing.block_cols() as i32 / LANES, g.shape.group.div_ceil(LANES as u32) as i32);
            let bits = packing.base().trailing_zeros() as i32;
            let line = |k: &mut Asm, w: AsmMemoryOperand, x: AsmMemoryOperand, sixteens: i32| {
                k.vmovups(packed, w);
                for column in (0..sixteens * LANES).filter(|column| column % step == first) {
                    let lane = (column % LANES / step) as usize;
                    // Column 4 f + b is field f of byte b.
                    k.vpsrld(trit, packed, 8 * (column % 4) + bits * (column / 4));
                    k.vpermps(trit, trit, table);
                    for (token, lanes) in lanes.iter().enumerate() {
                        let element = x + (token as i32 * g.x_row_bytes + 4 * column);
                        if embedded {
                            k.madd(lanes[lane], trit, dword_bcst(element));
                        } else {
                            k.vbroadcastss(broadcast, dword_ptr(element));
                            k.madd(lanes[lane], trit, broadcast);
                        }
                    }
                }
            };
            let whole = sixteens / of_line;
            if whole > 0 {
                // Sixteen elements of x take as many bytes as a line.
                k.for_constant(whole * LINE, LINE, |k, offset| {
                    line(k, ptr(wg + offset), xg + offset * of_line, of_line);
                });
            }
            if sixteens % of_line > 0 {
                line(k, ptr(wg + whole * LINE), xg + whole * of_line * LINE, sixteens % of_line);
            }
        });
        for lanes in &lanes {
            let mut width = lanes.len() / 2;
            while width > 0 {
                for i in 0..width {
                    k.vaddps(lanes[i], lanes[i], lanes[i + width]);
                }
                width /= 2;
            }
        }
    });
    totals
}
