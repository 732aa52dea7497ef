//! From sums to results: eight rows at a time are turned round, widened, scaled and stored.
//!
//! Where a batch has fewer tokens than lanes, the last one stands for the rest: its results are stored several times, and
//! are the same each time.

use iced_x86::code_asm::{dword_bcst, dword_ptr, ptr, qword_ptr, xmmword_ptr};

use super::{Frame, batch_var, slot};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector, Width};
use crate::codegen::wide::ternary::{epilogue, transpose};
use crate::schedule::kernel::Epilogue;

/// Rows that are turned round together.
const ROWS: i32 = 8;

/// The registers of the loop over rows.
struct Place {
    batch: General,
    /// Eight rows of sums.
    sums: General,
    /// Where the first of the rows lies in every row of results, and of the residual.
    out: General,
    residual: General,
    /// For the offset of a token's row.
    row: General,
}

/// The results of a batch: all rows of some tokens before the next tokens, so that few lines of results are half written.
pub(super) fn finish(k: &mut Asm, f: &Frame<'_>, batch: General) {
    let scratch = &f.scratch;
    let one_chunk = f.program.chunks() == 1;
    let step = if one_chunk { 16 } else { 8 };
    let mut done = k.label();
    k.scope(|k| {
        let [sums, out, residual, left, row] = k.generals();
        let place = Place { batch, sums, out, residual, row };
        for first in (0..scratch.tokens as i32).step_by(step) {
            k.raw(|a| a.cmp(qword_ptr(batch + batch_var::N_TOKENS), first));
            k.raw(|a| a.jle(done));
            k.lea(sums, batch + scratch.sums as i32);
            let bases = [(out, slot::OUT), (residual, slot::LAST)];
            let n_bases = if f.epilogue == Epilogue::ScaleAdd { 2 } else { 1 };
            for (base, slot) in bases.into_iter().take(n_bases) {
                k.load_arg(base, slot);
            }
            k.set(left, scratch.rows as i32 / ROWS);
            let mut head = k.label();
            k.bind(&mut head);
            if one_chunk {
                narrow(k, f, &place, first);
            } else {
                wide(k, f, &place, first);
            }
            k.raw(|a| a.add(sums, ROWS * f.row16()));
            for (base, _) in bases.into_iter().take(n_bases) {
                k.raw(|a| a.add(base, ROWS * 4));
            }
            k.raw(|a| a.sub(left, 1));
            k.raw(|a| a.jg(head));
        }
    });
    k.bind(&mut done);
}

/// Sixteen tokens from `first` on, whose sums are turned round as i16.
fn narrow(k: &mut Asm, f: &Frame<'_>, place: &Place, first: i32) {
    k.scope(|k| {
        let v: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        let spare: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        for (i, v) in v.iter().enumerate() {
            k.vmovups(*v, ptr(place.sums + (i as i32 * f.row16() + 2 * first)));
        }
        // Rows 0, 1, ..., 7 pair with 4, 5, ...: 0 4, then 0 2 4 6, then 0 1 2 ... 7 of a token, those of token + 8 above.
        let interleave = |k: &mut Asm, from: &[Vector; 8], into: &[Vector; 8]| {
            for i in 0..4 {
                k.vpunpcklwd(into[2 * i], from[i], from[i + 4]);
                k.vpunpckhwd(into[2 * i + 1], from[i], from[i + 4]);
            }
        };
        interleave(k, &v, &spare);
        interleave(k, &spare, &v);
        interleave(k, &v, &spare);
        let scale = v[7];
        for (i, pair) in spare.into_iter().enumerate() {
            // Two of six registers in turn: neighbours do not wait for each other.
            let [low, high] = [v[i % 3 * 2], v[i % 3 * 2 + 1]];
            k.raw(|a| a.vpmovsxwd(low.ymm(), pair.xmm()));
            k.raw(|a| a.vextracti128(pair.xmm(), pair.ymm(), 1));
            k.raw(|a| a.vpmovsxwd(high.ymm(), pair.xmm()));
            result(k, f, place, first + i as i32, low, scale);
            result(k, f, place, first + 8 + i as i32, high, scale);
        }
    });
}

/// Eight tokens from `first` on, whose sums are widened first since each is that of several chunks.
fn wide(k: &mut Asm, f: &Frame<'_>, place: &Place, first: i32) {
    k.scope(|k| {
        let v: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        let spare: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        for (i, v) in v.iter().enumerate() {
            let offset = i as i32 * f.row16() + 2 * first;
            k.raw(|a| a.vpmovsxwd(v.ymm(), xmmword_ptr(place.sums + offset)));
            for chunk in 1..f.program.chunks() as i32 {
                let offset = offset + chunk * f.scratch.chunk_bytes as i32;
                k.raw(|a| a.vpmovsxwd(spare[i].ymm(), xmmword_ptr(place.sums + offset)));
                k.vpaddd(*v, *v, spare[i]);
            }
        }
        transpose::sums(k, &v, &spare);
        for (i, v) in v.into_iter().enumerate() {
            result(k, f, place, first + i as i32, v, spare[0]);
        }
    });
}

/// Scales and stores the sums of eight rows of a token; `scale` is spoilt.
fn result(k: &mut Asm, f: &Frame<'_>, place: &Place, token: i32, v: Vector, scale: Vector) {
    let factor = f.scratch.factors as i32 + 4 * token;
    match (f.epilogue, k.width) {
        (Epilogue::Sums, _) => {}
        (_, Width::W512) => epilogue::scaled(k, v, dword_bcst(place.batch + factor)),
        (_, Width::W256 | Width::W128) => {
            k.vbroadcastss(scale, dword_ptr(place.batch + factor));
            epilogue::scaled(k, v, scale);
        }
    }
    k.raw(|a| a.mov(place.row, qword_ptr(place.batch + (f.scratch.outs as i32 + 8 * token))));
    if f.epilogue == Epilogue::ScaleAdd {
        k.vaddps(v, v, ptr(place.residual + place.row));
    }
    k.store(ptr(place.out + place.row), v);
}
