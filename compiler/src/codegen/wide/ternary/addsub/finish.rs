//! From sums to results: eight rows of eight tokens at a time are widened, turned round, scaled and stored.

use iced_x86::code_asm::{dword_ptr, ptr, qword_ptr};

use super::{Frame, batch_var, slot, widened};
use crate::codegen::wide::asm::Asm;
use crate::codegen::wide::registers::{General, Vector, Width};
use crate::codegen::wide::ternary::{epilogue, transpose};
use crate::schedule::kernel::Epilogue;

/// Rows and tokens that are turned round together.
const SQUARE: i32 = 8;

/// The registers of the loop over rows.
struct Place {
    batch: General,
    sums: General,
    tokens: General,
    out: General,
    residual: General,
}

/// The results of a batch.
pub(super) fn finish(k: &mut Asm, f: &Frame<'_>, batch: General) {
    let scratch = &f.scratch;
    k.scope(|k| {
        let [sums, tokens, out, residual, left] = k.generals();
        k.lea(sums, batch + scratch.sums as i32);
        k.raw(|a| a.mov(tokens, qword_ptr(batch + batch_var::N_TOKENS)));
        let bases = [(out, slot::OUT), (residual, slot::LAST)];
        let n_bases = if f.epilogue == Epilogue::ScaleAdd { 2 } else { 1 };
        for (base, slot) in bases.into_iter().take(n_bases) {
            k.load_arg(base, slot);
            k.raw(|a| a.add(base, qword_ptr(batch + scratch.outs as i32)));
        }
        let place = Place { batch, sums, tokens, out, residual };
        k.set(left, scratch.rows as i32 / SQUARE);
        let mut head = k.label();
        k.bind(&mut head);
        for first in (0..scratch.tokens as i32).step_by(SQUARE as usize) {
            let mut done = k.label();
            k.raw(|a| a.cmp(tokens, first));
            k.raw(|a| a.jle(done));
            square(k, f, &place, first);
            k.bind(&mut done);
        }
        k.raw(|a| a.add(sums, SQUARE * f.row16()));
        for (base, _) in bases.into_iter().take(n_bases) {
            k.raw(|a| a.add(base, SQUARE * 4));
        }
        k.raw(|a| a.sub(left, 1));
        k.raw(|a| a.jg(head));
    });
}

/// Eight rows of eight tokens from `first` on.
fn square(k: &mut Asm, f: &Frame<'_>, place: &Place, first: i32) {
    let mut done = k.label();
    k.scope(|k| {
        let v: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
        k.scope(|k| {
            let spare: [Vector; 8] = k.vectors().map(|v| v.at(Width::W256));
            for (i, v) in v.iter().enumerate() {
                let offset = i as i32 * f.row16() + 2 * first;
                widened(k, *v, place.sums, offset);
                for chunk in 1..f.program.chunks() as i32 {
                    widened(k, spare[i], place.sums, offset + chunk * f.scratch.chunk_bytes as i32);
                    k.vpaddd(*v, *v, spare[i]);
                }
            }
            transpose::sums(k, &v, &spare);
        });
        let scale = k.vector().at(Width::W256);
        for (i, v) in v.into_iter().enumerate() {
            let token = first + i as i32;
            if i > 0 {
                k.raw(|a| a.cmp(place.tokens, token));
                k.raw(|a| a.jle(done));
            }
            if f.epilogue != Epilogue::Sums {
                k.vbroadcastss(scale, dword_ptr(place.batch + (f.scratch.factors as i32 + 4 * token)));
                epilogue::scaled(k, v, scale);
            }
            let at = token * f.out_row_bytes();
            if f.epilogue == Epilogue::ScaleAdd {
                k.vaddps(v, v, ptr(place.residual + at));
            }
            k.store(ptr(place.out + at), v);
        }
    });
    k.bind(&mut done);
}
