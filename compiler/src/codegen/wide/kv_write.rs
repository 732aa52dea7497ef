//! Keys and values of a step into the cache.
//!
//! The cache of a layer is, for each head, a plane of keys and a plane of values; a plane is `[context, head_dim]`.

use iced_x86::code_asm::ptr;

use super::asm::Asm;
use super::registers::Width;
use super::row_bytes;
use crate::schedule::kernel::KvElem;

/// Whether a head of this length has a wide kernel: whole 256-bit registers, of a length that is unrolled.
pub(super) const fn takes(heads: u32, head_dim: u32) -> bool {
    head_dim.is_multiple_of(8) && head_dim <= 4096 && heads as u64 * head_dim as u64 * 4 < 1 << 31
}

/// Args: k, v, cache, plane bytes, position, lo, hi (tokens).
pub(super) fn kv_write(k: &mut Asm, heads: u32, head_dim: u32, elem: KvElem) {
    let cols = heads * head_dim;
    let [keys0, values0, cache, plane_bytes, position, token, hi] = [0, 1, 2, 3, 4, 5, 6].map(|slot| k.arg(slot));
    k.for_range(token, hi, 1, |k| {
        let [keys, values, at] = k.generals();
        // at = the first plane's row of the token.
        k.lea(keys, position + token);
        k.row(at, cache, keys, i64::from(head_dim * elem.bytes()));
        k.row(keys, keys0, token, row_bytes(cols));
        k.row(values, values0, token, row_bytes(cols));
        k.for_constant((cols * 4) as i32, (head_dim * 4) as i32, |k, head| {
            for source in [keys, values] {
                k.scope(|k| {
                    let v = k.vector();
                    let mut d = 0;
                    while d < head_dim as i32 {
                        let whole = (head_dim as i32 - d) * 4 >= v.width().bytes();
                        let v = if whole { v } else { v.at(Width::W256) };
                        k.vmovups(v, ptr(source + head + 4 * d));
                        match elem {
                            KvElem::F32 => k.store(ptr(at + 4 * d), v),
                            KvElem::F16 => k.store_f16(ptr(at + 2 * d), v),
                        }
                        d += v.width().bytes() / 4;
                    }
                });
                k.raw(|a| a.add(at, plane_bytes));
            }
        });
    });
}
