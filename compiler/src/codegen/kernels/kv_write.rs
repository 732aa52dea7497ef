//! Keys and values of a step into the cache.
//!
//! The cache of a layer is, for each head, a plane of keys and a plane of values; a plane is `[context, head_dim]`.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::row_bytes;
use crate::codegen::emitter::{Emitter, F32X4, flags};
use crate::schedule::kernel::KvElem;

/// Args: k, v, cache, plane bytes, position, lo, hi (tokens).
pub(super) fn kv_write(k: &mut Emitter<'_, '_>, heads: u32, head_dim: u32, elem: KvElem) {
    let [keys, values, cache, plane_bytes, position, lo, hi] = std::array::from_fn(|slot| k.arg(slot));
    let cols = heads * head_dim;
    k.for_range(lo, hi, 1, |k, token| {
        let [keys, values] = [keys, values].map(|base| k.row(base, token, row_bytes(cols)));
        let at = k.b.ins().iadd(position, token);
        let mut plane = k.row(cache, at, i64::from(head_dim * elem.bytes()));
        for head in 0..heads {
            for source in [keys, values] {
                copy_head(k, source, (head * head_dim * 4) as i32, plane, head_dim, elem);
                plane = k.b.ins().iadd(plane, plane_bytes);
            }
        }
    });
}

fn copy_head(k: &mut Emitter<'_, '_>, source: Value, offset: i32, target: Value, head_dim: u32, elem: KvElem) {
    let whole = head_dim / 4 * 4;
    for d in (0..whole as i32).step_by(4) {
        let v = k.load(F32X4, source, offset + 4 * d);
        match elem {
            KvElem::F32 => k.store(v, target, 4 * d),
            KvElem::F16 => {
                let h = k.f16_from_f32(v);
                let h = k.b.ins().unarrow(h, h);
                let words = k.cast(types::I64X2, h);
                let low = k.b.ins().extractlane(words, 0);
                k.store(low, target, 2 * d);
            }
        }
    }
    for d in whole as i32..head_dim as i32 {
        let x = k.load(types::F32, source, offset + 4 * d);
        match elem {
            KvElem::F32 => k.store(x, target, 4 * d),
            KvElem::F16 => {
                let v = k.b.ins().splat(F32X4, x);
                let h = k.f16_from_f32(v);
                let h = k.b.ins().extractlane(h, 0);
                k.b.ins().istore16(flags(), h, target, 2 * d);
            }
        }
    }
}
