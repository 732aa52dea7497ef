//! Products with a scale per group of columns: codes of i8, or f32.
//!
//! Weights are `t2g_16x16`, `b1g_16x32` or either with scales of f16: a group is lines as of `t2_16x16` or `b1_16x32`, whose dword lanes
//! are rows; the scales of all groups stand before them. What a group gives is added to the 16 results with its scales, group by
//! group, by `madd`:
//! - of codes, the exact sums as in [`super::dot`], times the inverse scale of the activations; tokens that share the unfolding
//!   there do so here;
//! - of f32, a dot product in 16 lanes, a lane a register: even lanes first, then odd ones, since 16 do not fit the
//!   registers. What they fold to is the same either way: 8, 4 and 2 stay within even or odd lanes.
//!
//! Residual rows are added last. Args as in the module's head; `lo` and `hi` count tiles.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Frame, LINE, Shape, TILE_OUT_BYTES, dot};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::graph::DenseType;
use crate::schedule::groups::GroupShape;
use crate::schedule::kernel::{Epilogue, GroupRows, GroupScales, TritPacking};

/// Vectors of 16 results.
const PARTS: usize = 4;

/// Writes the body; `lo`, `hi` count tiles.
pub(super) fn groups(k: &mut Emitter<'_, '_>, f: &Frame, g: &GroupShape, kind: GroupRows) {
    k.for_range(f.lo, f.hi, 1, |k, tile| {
        let w = k.row(f.w, tile, g.tile_bytes().into());
        let [out, residual] = [f.out, f.residual].map(|rows| k.row(rows, tile, TILE_OUT_BYTES));
        match kind {
            GroupRows::Codes => {
                tile_scales(k, f, g, w);
                dot::each_token(k, f.tokens, |k, token, tokens| {
                    let x = k.row(f.codes, token, g.x_row_bytes(kind).into());
                    let [out, residual] = [out, residual].map(|rows| k.row(rows, token, f.shape.out_row_bytes()));
                    of_codes(k, f, g, [w, x, out], tokens);
                    add_residual(k, f, [out, residual], tokens);
                });
            }
            GroupRows::F32 => {
                let none = k.int(0);
                k.for_range(none, f.tokens, 1, |k, token| {
                    let x = k.row(f.codes, token, g.x_row_bytes(kind).into());
                    let [out, residual] = [out, residual].map(|rows| k.row(rows, token, f.shape.out_row_bytes()));
                    of_f32(k, g, w, x, out);
                    add_residual(k, f, [out, residual], 1);
                });
            }
        }
    });
}

/// The scales of a tile as f32 in the scratch memory, `[group][row]`, once for all tokens: read before its codes, as one stream.
fn tile_scales(k: &mut Emitter<'_, '_>, f: &Frame, g: &GroupShape, w: Value) {
    let (none, count) = (k.int(0), k.int(g.count().into()));
    k.for_range(none, count, 1, |k, group| {
        let from = k.row(w, group, g.scale_bytes().into());
        let to = k.row(f.scratch, group, LINE);
        for part in 0..PARTS as i32 {
            let four = four_scales(k, g, from, part);
            k.store(four, to, 16 * part);
        }
    });
}

/// One tile for `tokens` tokens: y = madd((acc - sum) * (1 / s_x), s_w, y) over the groups.
///
/// y grows in the results' memory: its registers are wanted for sums.
fn of_codes(k: &mut Emitter<'_, '_>, f: &Frame, g: &GroupShape, [w, x, out]: [Value; 3], tokens: usize) {
    let shape = Shape { cols: g.group, ..f.shape };
    let (x_row_bytes, out_row_bytes) = (g.x_row_bytes(GroupRows::Codes), f.shape.out_row_bytes() as i32);
    let places = move |t: usize| (0..PARTS).map(move |part| (part, t as i32 * out_row_bytes + 16 * part as i32));
    let zero = k.zero();
    for (_, place) in (0..tokens).flat_map(places) {
        k.store(zero, out, place);
    }
    let (first, end) = (k.int(0), k.int(g.count().into()));
    let codes_of = k.at(w, g.codes_at().into());
    k.for_range(first, end, 1, |k, index| {
        let lines = k.row(codes_of, index, g.code_bytes().into());
        let codes = k.row(x, index, g.group.into());
        let accs = dot::code_sums(k, &shape, [lines, codes], tokens, x_row_bytes.into());
        let scales = k.row(f.scratch, index, LINE);
        let scales: [Value; PARTS] = std::array::from_fn(|part| k.load(F32X4, scales, 16 * part as i32));
        let at = k.row(x, index, 4);
        for (t, accs) in accs.iter().enumerate() {
            let row = t as i32 * x_row_bytes;
            let sum = k.load(types::I32, at, row + g.sums_at());
            let sum = k.b.ins().splat(I32X4, sum);
            let inverse = k.load(types::F32, at, row + g.inverse_at());
            let inverse = k.b.ins().splat(F32X4, inverse);
            for (part, place) in places(t) {
                let acc = k.b.ins().isub(accs[part], sum);
                let acc = k.b.ins().fcvt_from_sint(F32X4, acc);
                let v = k.b.ins().fmul(acc, inverse);
                let y = k.load(F32X4, out, place);
                let y = k.madd(v, scales[part], y);
                k.store(y, out, place);
            }
        }
    });
}

/// y = residual + y for `tokens` tokens of one tile, if there are residual rows.
fn add_residual(k: &mut Emitter<'_, '_>, f: &Frame, [out, residual]: [Value; 2], tokens: usize) {
    if f.shape.epilogue != Epilogue::ScaleAdd {
        return;
    }
    for token in 0..tokens as i32 {
        for part in 0..PARTS as i32 {
            let place = token * f.shape.out_row_bytes() as i32 + 16 * part;
            let [y, r] = [out, residual].map(|rows| k.load(F32X4, rows, place));
            let y = k.b.ins().fadd(r, y);
            k.store(y, out, place);
        }
    }
}

/// The scales of rows `4 part` to `4 part + 3` of the group whose scales are at `at`.
pub(super) fn four_scales(k: &mut Emitter<'_, '_>, g: &GroupShape, at: Value, part: i32) -> Value {
    let dtype = match g.scales {
        GroupScales::F32 => DenseType::F32,
        GroupScales::F16 => DenseType::F16,
    };
    k.load4_widened(dtype, at, 4 * part * g.scales.bytes() as i32)
}

/// One tile for one token: y = madd(dot, s_w, y) over the groups, four rows at a time.
fn of_f32(k: &mut Emitter<'_, '_>, g: &GroupShape, w: Value, x: Value, out: Value) {
    let codes_of = k.at(w, g.codes_at().into());
    for part in 0..PARTS as i32 {
        let zero = k.zero();
        let (first, end) = (k.int(0), k.int(g.count().into()));
        let y = k.fold_range(first, end, 1, &[zero], |k, index, y| {
            let lines = k.row(codes_of, index, g.code_bytes().into());
            let x = k.row(x, index, 4 * i64::from(g.group));
            let even = half(k, g, lines, x, part, 0);
            let odd = half(k, g, lines, x, part, 1);
            let dot = k.b.ins().fadd(even, odd);
            let scales = k.row(w, index, g.scale_bytes().into());
            let scale = four_scales(k, g, scales, part);
            vec![k.madd(dot, scale, y[0])]
        });
        k.store(y[0], out, 16 * part);
    }
}

/// The sum of the lanes `first`, `first + 2`, ... of four rows of one group.
fn half(k: &mut Emitter<'_, '_>, g: &GroupShape, w: Value, x: Value, part: i32, first: i32) -> Value {
    let (zero, factor) = (k.zero(), Factor::new(k, g.packing));
    // Columns of a line come in sixteens, the lanes of a dot product; the last line may have fewer of them than others.
    let of_line = g.packing.block_cols() / LANES;
    let sixteens = g.group.div_ceil(LANES);
    let (whole, rest) = (i64::from(sixteens / of_line), sixteens % of_line);
    let add = |k: &mut Emitter<'_, '_>, w: Value, x: Value, sixteens: u32, lanes: &[Value]| -> Vec<Value> {
        let packed = k.load(I32X4, w, 16 * part);
        let mut lanes = lanes.to_vec();
        for sixteen in 0..sixteens {
            for (i, lane) in lanes.iter_mut().enumerate() {
                let column = (LANES * sixteen) as i32 + first + 2 * i as i32;
                let element = k.load(types::F32, x, 4 * column);
                let element = k.b.ins().splat(F32X4, element);
                *lane = factor.madd(k, packed, column, element, *lane);
            }
        }
        lanes
    };
    let mut lanes = vec![zero; 8];
    if whole > 0 {
        lanes = k.fold_bytes(whole * LINE, LINE, &lanes, |k, offset, lanes| {
            let w = k.b.ins().iadd(w, offset);
            let x = k.row(x, offset, of_line.into());
            add(k, w, x, of_line, lanes)
        });
    }
    if rest > 0 {
        let (w, x) = (k.at(w, whole * LINE), k.at(x, whole * LINE * i64::from(of_line)));
        lanes = add(k, w, x, rest, &lanes);
    }
    for width in [4, 2, 1] {
        for i in 0..width {
            lanes[i] = k.b.ins().fadd(lanes[i], lanes[i + width]);
        }
    }
    lanes[0]
}

/// Lanes of a dot product of f32.
const LANES: u32 = 16;

// Sixteen elements of x take as many bytes as a line.
const _: () = assert!(LANES as i64 * 4 == LINE);

/// How an element of x is multiplied by the trit of a dword lane.
enum Factor {
    /// Codes 0, 1, 2: a mask of two bits, and 1.
    Three(Value, Value),
    /// Bits: a mask of the sign.
    Two(Value),
}

impl Factor {
    fn new(k: &mut Emitter<'_, '_>, packing: TritPacking) -> Self {
        if packing.has_zero() {
            return Self::Three(k.splat_i32(3), k.splat_f32(1.0));
        }
        Self::Two(k.splat_i32(i32::MIN))
    }

    /// lane + trit * element, where the trit is that of `column` in a line.
    fn madd(&self, k: &mut Emitter<'_, '_>, packed: Value, column: i32, element: Value, lane: Value) -> Value {
        // Column 4 f + b is field f of byte b.
        let (byte, field) = (column % 4, column / 4);
        match *self {
            Self::Three(three, one) => {
                let bit = 8 * byte + 2 * field;
                let code = if bit == 0 { packed } else { k.b.ins().ushr_imm_u(packed, i64::from(bit)) };
                let code = k.b.ins().band(code, three);
                let code = k.b.ins().fcvt_from_sint(F32X4, code);
                let trit = k.b.ins().fsub(code, one);
                k.madd(trit, element, lane)
            }
            // A product with 1 or -1 is exact: what is left is an addition.
            Self::Two(sign) => {
                let bit = 8 * byte + field;
                let code = if bit == 31 { packed } else { k.b.ins().ishl_imm_u(packed, i64::from(31 - bit)) };
                let minus = k.b.ins().band_not(sign, code);
                let element = k.cast(I32X4, element);
                let signed = k.b.ins().bxor(element, minus);
                let signed = k.cast(F32X4, signed);
                k.b.ins().fadd(lane, signed)
            }
        }
    }
}
