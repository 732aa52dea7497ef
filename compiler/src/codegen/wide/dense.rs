//! f32 rows times dense rows: four rows of the matrix at a time, with one row of activations or a tile of them.
//!
//! Each result has its 16 lanes in registers of its own, so that a chunk of weights is widened once for a tile of tokens and
//! a chunk of activations read once for several rows. Batches of tokens stay in the second-level cache while all weights of
//! the thread pass. The numbers and their order are those of the CLIF kernel.

use iced_x86::code_asm::ptr;

use super::asm::Asm;
use super::lanes::Lanes;
use super::registers::{General, Vector, Width};
use super::row_bytes;
use crate::graph::DenseType;
use crate::graph::arith::LANES;
use crate::schedule::dense::{DenseMatrix, DenseOrder, QUAD_ROWS, batch_rows};

/// How far ahead of the loads one stream of weights is fetched, in bytes.
const PREFETCH_BYTES: i32 = 4096;
/// Bytes of a cache line.
const LINE: i32 = 64;
/// Bytes of a chunk of activations.
const X_CHUNK: i32 = 4 * LANES as i32;

/// Slots of the arguments.
mod slot {
    pub(super) const WEIGHTS: i32 = 0;
    pub(super) const X: i32 = 1;
    pub(super) const OUT: i32 = 2;
    pub(super) const TOKENS: i32 = 3;
    pub(super) const LO: i32 = 4;
    pub(super) const HI: i32 = 5;
}

/// Rows and tokens whose sums fit the registers together, for many tokens.
const fn tile(width: Width) -> (i32, i32) {
    match width {
        Width::W512 => (4, 6),
        Width::W128 | Width::W256 => (2, 3),
    }
}

/// Whether all its displacements fit.
pub(super) fn takes(m: &DenseMatrix, out_row_bytes: u32) -> bool {
    let fits = |bytes: u64, count: u64| bytes * count <= i32::MAX as u64;
    let unit_rows = u64::from(QUAD_ROWS.max(m.order.unit_rows()));
    fits(m.row_bytes(), unit_rows) && fits(row_bytes(m.cols) as u64, 8) && fits(u64::from(out_row_bytes), 8)
}

struct Dense<'m> {
    m: &'m DenseMatrix,
    out_row_bytes: i32,
}

/// Registers of the loops.
#[derive(Clone, Copy)]
struct Place {
    /// The first row's first chunk.
    w: General,
    /// The results of the first row and the first token of all.
    out: General,
    /// The first token.
    token: General,
}

/// Args: w, x, out, rows of x, lo, hi (units of w).
pub(super) fn dense(k: &mut Asm, m: &DenseMatrix, out_row_bytes: u32) {
    let d = Dense { m, out_row_bytes: out_row_bytes as i32 };
    let first = k.general();
    let tokens = k.arg(slot::TOKENS);
    k.set(first, 0);
    let batch = batch_rows(m.cols) as i32;
    k.for_range(first, tokens, batch, |k| {
        let end = k.general();
        k.lea(end, first + batch);
        k.raw(|a| a.cmp(end, tokens));
        k.raw(|a| a.cmovg(end, tokens));
        let n = k.general();
        let unit = m.order.unit_rows() as i32;
        let rows_at = |k: &mut Asm, r: General, slot: i32| {
            k.load_arg(r, slot);
            if unit > 1 {
                k.raw(|a| a.imul_3(r, r, unit));
            }
        };
        rows_at(k, n, slot::LO);
        let quad = QUAD_ROWS as i32;
        k.scope(|k| {
            let hi = k.general();
            rows_at(k, hi, slot::HI);
            k.raw(|a| a.sub(hi, quad - 1));
            k.for_range(n, hi, quad, |k| d.rows(k, n, quad, [first, end]));
        });
        if m.order == DenseOrder::Rows {
            let hi = k.general();
            rows_at(k, hi, slot::HI);
            k.for_range(n, hi, 1, |k| d.rows(k, n, 1, [first, end]));
        }
    });
}

impl Dense<'_> {
    /// `rows` rows from `n` on, times a batch of tokens.
    fn rows(&self, k: &mut Asm, n: General, rows: i32, [first, end]: [General; 2]) {
        let [w, out, token, stop] = k.generals();
        k.raw(|a| a.imul_3(w, n, self.m.row_bytes() as i32));
        let base = k.slot(slot::WEIGHTS);
        k.raw(|a| a.add(w, base));
        k.load_arg(out, slot::OUT);
        k.lea(out, out + n * 4);
        k.copy(token, first);
        let place = Place { w, out, token };
        let (of_tile, tokens) = tile(k.width);
        let of_tile = of_tile.min(rows);
        k.lea(stop, end - (tokens - 1));
        k.for_range(token, stop, tokens, |k| {
            for row in (0..rows).step_by(of_tile as usize) {
                k.scope(|k| self.block(k, place, row, of_tile, tokens));
            }
        });
        k.for_range(token, end, 1, |k| self.block(k, place, 0, rows, 1));
    }

    /// `rows` rows from row `row` of the place on, times `tokens` tokens.
    fn block(&self, k: &mut Asm, place: Place, row: i32, rows: i32, tokens: i32) {
        let x_bytes = row_bytes(self.m.cols) as i32;
        let row_step = self.m.row_step() as i32;
        // sums[token][row]
        let sums: Vec<Vec<Lanes>> = (0..tokens).map(|_| (0..rows).map(|_| k.zero16()).collect()).collect();
        k.scope(|k| {
            let [p, x, stop] = k.generals();
            k.lea(p, place.w + row * row_step);
            k.raw(|a| a.imul_3(x, place.token, x_bytes));
            let base = k.slot(slot::X);
            k.raw(|a| a.add(x, base));
            k.lea(stop, x + x_bytes);
            let mut head = k.label();
            k.bind(&mut head);
            if tokens == 1 {
                self.prefetch(k, p, rows);
            }
            for part in 0..X_CHUNK / k.width.bytes() {
                self.part(k, [p, x], part, &sums);
            }
            k.raw(|a| a.add(p, self.m.chunk_step() as i32));
            k.raw(|a| a.add(x, X_CHUNK));
            k.raw(|a| a.cmp(x, stop));
            k.raw(|a| a.jb(head));
        });
        let out = k.general();
        k.raw(|a| a.imul_3(out, place.token, self.out_row_bytes));
        k.raw(|a| a.add(out, place.out));
        for (token, sums) in sums.iter().enumerate() {
            self.finish(k, out, row, token as i32, sums);
        }
    }

    /// The weights that are read a little later.
    fn prefetch(&self, k: &mut Asm, p: General, rows: i32) {
        match self.m.order {
            DenseOrder::Quads => {
                for line in 0..self.m.chunk_step() as i32 / LINE {
                    k.raw(|a| a.prefetcht0(ptr(p + (PREFETCH_BYTES + line * LINE))));
                }
            }
            // The same chunks of the rows behind these.
            DenseOrder::Rows => {
                for row in 0..rows {
                    let ahead = (rows + row) * self.m.row_step() as i32;
                    k.raw(|a| a.prefetcht0(ptr(p + ahead)));
                }
            }
        }
    }

    /// The lanes of one register: `sums[token][row]` grow by a product each.
    fn part(&self, k: &mut Asm, [p, x]: [General; 2], part: i32, sums: &[Vec<Lanes>]) {
        let x_bytes = row_bytes(self.m.cols) as i32;
        let of_part = part * k.width.bytes();
        k.scope(|k| {
            let rows = sums.first().map_or(0, Vec::len);
            let one_token = sums.len() == 1;
            let v = one_token.then(|| k.vector());
            if let Some(v) = v {
                k.vmovups(v, ptr(x + of_part));
            }
            // With one token each weight is used once: one register serves all rows in turn.
            let wide: Vec<Vector> =
                if one_token { vec![k.vector(); rows] } else { (0..rows).map(|_| k.vector()).collect() };
            let weights = |k: &mut Asm, row: usize| {
                let at = row as i32 * self.m.row_step() as i32 + of_part * self.m.dtype.bytes() as i32 / 4;
                widen(k, self.m.dtype, wide[row], p + at);
            };
            if let Some(v) = v {
                for (row, sum) in sums[0].iter().enumerate() {
                    weights(k, row);
                    k.madd(sum[part as usize], wide[row], v);
                }
                return;
            }
            for row in 0..rows {
                weights(k, row);
            }
            let v = k.vector();
            for (token, sums) in sums.iter().enumerate() {
                k.vmovups(v, ptr(x + (token as i32 * x_bytes + of_part)));
                for (row, sum) in sums.iter().enumerate() {
                    k.madd(sum[part as usize], wide[row], v);
                }
            }
        });
    }

    /// Folds the lanes 8, 4, 2, 1 and stores the results of one token: four rows together, or each by itself.
    fn finish(&self, k: &mut Asm, out: General, row: i32, token: i32, sums: &[Lanes]) {
        let to = out + (4 * row + token * self.out_row_bytes);
        let &[a, b, c, d] = sums else {
            for (row, sum) in sums.iter().enumerate() {
                let sum = k.fold16(*sum);
                let to = to + 4 * row as i32;
                k.raw(|a| a.vmovss(ptr(to), sum.xmm()));
            }
            return;
        };
        // Lanes i + 8 onto i, then i + 4 onto i.
        let quarters = [a, b, c, d].map(|lanes| {
            let mut sum = lanes[0];
            if lanes.len() == 2 {
                k.vaddps(sum, sum, lanes[1]);
            }
            k.scope(|k| {
                let other = k.vector();
                while sum.width() > Width::W128 {
                    let half = sum.half();
                    k.high_half(other.half(), sum);
                    k.vaddps(half, half, other.at(half.width()));
                    sum = half;
                }
            });
            sum
        });
        // Two rows in a register, their lanes side by side: a0 b0 a1 b1 + a2 b2 a3 b3.
        let [a, b, c, d] = quarters;
        k.scope(|k| {
            let [ab, cd] = k.vectors().map(|v| v.at(Width::W128));
            for (pair, first, second) in [(ab, a, b), (cd, c, d)] {
                k.vunpcklps(pair, first, second);
                k.vunpckhps(first, first, second);
                k.vaddps(pair, pair, first);
            }
            k.vunpcklpd(a, ab, cd);
            k.vunpckhpd(b, ab, cd);
            k.vaddps(a, a, b);
            k.store(ptr(to), a);
        });
    }
}

/// d = elements of `dtype` at `place`, as f32.
fn widen(k: &mut Asm, dtype: DenseType, d: Vector, place: iced_x86::code_asm::AsmMemoryOperand) {
    match dtype {
        DenseType::F32 => k.vmovups(d, ptr(place)),
        DenseType::F16 => k.vcvtph2ps(d, ptr(place)),
        DenseType::Bf16 => {
            k.vpmovzxwd(d, ptr(place));
            k.vpslld(d, d, 16);
        }
    }
}
