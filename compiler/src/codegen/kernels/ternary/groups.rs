//! Products with a scale per group of columns: codes of i8, or f32.
//!
//! Weights are `t2g_16x16`: a group is lines as of `t2_16x16`, whose dword lanes are rows, then a line of 16 scales. What a
//! group gives is added to the 16 results with its scales, group by group, by `madd`:
//! - of codes, the exact sums as in [`super::dot`], times the inverse scale of the activations;
//! - of f32, a dot product in 16 lanes, a lane a register: even lanes first, then odd ones, since 16 do not fit the
//!   registers. What they fold to is the same either way: 8, 4 and 2 stay within even or odd lanes.
//!
//! Args: w, x, out, tokens, lo, hi (tiles).

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Frame, LINE, LINE_COLS, Shape, TILE_OUT_BYTES, dot};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::schedule::kernel::{Epilogue, GroupRows, TritPacking, Variant};
use crate::schedule::{RowKind, layout};

/// Vectors of 16 results.
const PARTS: usize = 4;

/// What does not change within a kernel.
struct Groups {
    cols: u32,
    group: u32,
    count: u32,
    /// From one group to the next, scales included.
    bytes: i64,
    lines: i64,
}

/// Writes the body for a matrix of N rows, K columns and groups of so many.
pub(in crate::codegen::kernels) fn groups(
    k: &mut Emitter<'_, '_>,
    packing: TritPacking,
    [rows, cols, group]: [u32; 3],
    kind: GroupRows,
) {
    let [w, x, out, tokens, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let (count, lines) = (cols / group, i64::from(layout::group_lines(packing, group)));
    let g = Groups { cols, group, count, bytes: (lines + 1) * LINE, lines };
    let x_row_bytes = match kind {
        GroupRows::Codes => layout::row_bytes(RowKind::Q8Groups(count), cols),
        GroupRows::F32 => layout::row_bytes(RowKind::F32, cols),
    };
    k.for_range(lo, hi, 1, |k, tile| {
        let w = k.row(w, tile, layout::group_tile_bytes(packing, count, group) as i64);
        let out = k.row(out, tile, TILE_OUT_BYTES);
        let none = k.int(0);
        k.for_range(none, tokens, 1, |k, token| {
            let x = k.row(x, token, x_row_bytes as i64);
            let out = k.row(out, token, layout::row_bytes(RowKind::F32, rows) as i64);
            match kind {
                GroupRows::Codes => of_codes(k, &g, w, x, out),
                GroupRows::F32 => of_f32(k, &g, w, x, out),
            }
        });
    });
}

/// One tile for one token: y = madd((acc - sum) * (1 / s_x), s_w, y) over the groups.
fn of_codes(k: &mut Emitter<'_, '_>, g: &Groups, w: Value, x: Value, out: Value) {
    let shape = Shape { rows: 16, cols: g.group, epilogue: Epilogue::Sums, variant: Variant::default() };
    let zero = k.zero();
    let y = each_group(k, g, w, &[zero; PARTS], |k, index, w, y| {
        let codes = k.row(x, index, i64::from(g.group));
        // Only the shape matters to sums.
        let f = Frame {
            shape,
            w,
            codes,
            scales: x,
            sums: x,
            out,
            tokens: index,
            lo: index,
            hi: index,
            weight_scale: index,
            residual: x,
            up_scale: index,
            scratch: x,
        };
        let accs = dot::code_sums(k, &f, w, codes);
        let at = k.row(x, index, 4);
        let sum = k.load(types::I32, at, layout::group_sums_at(g.cols, g.count) as i32);
        let sum = k.b.ins().splat(I32X4, sum);
        let inverse = k.load(types::F32, at, layout::group_scales_at(g.cols) as i32);
        let inverse = k.b.ins().splat(F32X4, inverse);
        (0..PARTS)
            .map(|part| {
                let acc = k.b.ins().isub(accs[part], sum);
                let acc = k.b.ins().fcvt_from_sint(F32X4, acc);
                let v = k.b.ins().fmul(acc, inverse);
                let scale = k.load(F32X4, w, (g.lines * LINE) as i32 + 16 * part as i32);
                k.madd(v, scale, y[part])
            })
            .collect()
    });
    k.store16([y[0], y[1], y[2], y[3]], out, 0);
}

/// One tile for one token: y = madd(dot, s_w, y) over the groups, four rows at a time.
fn of_f32(k: &mut Emitter<'_, '_>, g: &Groups, w: Value, x: Value, out: Value) {
    for part in 0..PARTS as i32 {
        let zero = k.zero();
        let y = each_group(k, g, w, &[zero], |k, index, w, y| {
            let x = k.row(x, index, 4 * i64::from(g.group));
            let even = half(k, g, w, x, part, 0);
            let odd = half(k, g, w, x, part, 1);
            let dot = k.b.ins().fadd(even, odd);
            let scale = k.load(F32X4, w, (g.lines * LINE) as i32 + 16 * part);
            vec![k.madd(dot, scale, y[0])]
        });
        k.store(y[0], out, 16 * part);
    }
}

/// The sum of the lanes `first`, `first + 2`, ... of four rows of one group.
fn half(k: &mut Emitter<'_, '_>, g: &Groups, w: Value, x: Value, part: i32, first: i32) -> Value {
    let (zero, three, one) = (k.zero(), k.splat_i32(3), k.splat_f32(1.0));
    let mut lanes = k.fold_bytes(g.lines * LINE, LINE, &[zero; 8], |k, offset, lanes| {
        let at = k.b.ins().iadd(w, offset);
        let packed = k.load(I32X4, at, 16 * part);
        // A line of 64 bytes has 16 columns, of 4 bytes each.
        let x = k.b.ins().iadd(x, offset);
        lanes
            .iter()
            .enumerate()
            .map(|(i, lane)| {
                let column = first + 2 * i as i32;
                // Column 4 f + b is field f of byte b.
                let bit = 8 * (column % 4) + 2 * (column / 4);
                let code = if bit == 0 { packed } else { k.b.ins().ushr_imm_u(packed, i64::from(bit)) };
                let code = k.b.ins().band(code, three);
                let code = k.b.ins().fcvt_from_sint(F32X4, code);
                let trit = k.b.ins().fsub(code, one);
                let element = k.load(types::F32, x, 4 * column);
                let element = k.b.ins().splat(F32X4, element);
                k.madd(trit, element, *lane)
            })
            .collect()
    });
    const _: () = assert!(LINE_COLS * 4 == LINE);
    for width in [4, 2, 1] {
        for i in 0..width {
            lanes[i] = k.b.ins().fadd(lanes[i], lanes[i + width]);
        }
    }
    lanes[0]
}

/// `body(index, its weights, carried)` for every group of a tile.
fn each_group(
    k: &mut Emitter<'_, '_>,
    g: &Groups,
    w: Value,
    init: &[Value],
    body: impl FnOnce(&mut Emitter<'_, '_>, Value, Value, &[Value]) -> Vec<Value>,
) -> Vec<Value> {
    let (first, end) = (k.int(0), k.int(i64::from(g.count)));
    k.fold_range(first, end, 1, init, |k, index, carried| {
        let w = k.row(w, index, g.bytes);
        body(k, index, w, carried)
    })
}
