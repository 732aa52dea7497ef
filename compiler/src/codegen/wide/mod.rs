//! The wide x86 emitter: hot kernels with 256- and 512-bit vectors, assembled instruction by instruction.
//!
//! In: a [`KernelKind`] and a [`Target`]. Out: bytes of a leaf function with the arguments and the results, bit for bit, of
//! the CLIF kernel of the same kind; or nothing, where it has none: then the CLIF kernel stands. It runs on any host; only
//! running its code needs the level.
//!
//! Read [`asm`] (frame, arguments, loops), [`registers`] (the planner), [`ops`] (instructions), [`lanes`] (sixteen f32 at a
//! time), then a kernel, such as `norm`. To add one: a file here, an arm in [`emit`]; the kernel suite runs it by itself.

pub mod asm;
pub mod cpuid;
pub mod lanes;
pub mod ops;
pub mod registers;

mod attention;
mod dense;
mod head;
mod kv_write;
mod listing;
mod map;
mod norm;
mod pool;
mod quant4;
mod rope;
pub(in crate::codegen) mod ternary;

pub use asm::{Asm, Code};
pub use listing::listing;

use super::isa::{EmitterChoice, Isa};
use super::kernels::attention::Shape;
use super::{Error, Target};
use crate::addsub::Program;
use crate::schedule::dense::DenseMatrix;
use crate::schedule::groups::GroupShape;
use crate::schedule::kernel::{Epilogue, KernelKind, Vectors};
use crate::schedule::quant4::Quant4Matrix;
use crate::schedule::{RowKind, layout};
use registers::Width;

/// What the start of a kernel's bytes is aligned to: its constants rely on it.
pub const ALIGN_BYTES: u64 = pool::ALIGN_BYTES as u64;

/// The symbol of a kernel's wide body: the level, its width in bits, what it computes.
pub fn symbol(kind: &KernelKind, target: &Target) -> String {
    let bits = width(kind, target).map_or(0, |w| w.bytes() * 8);
    format!("{}_{bits}_{kind}", target.isa.name())
}

/// The width of the kernel's vectors; `None` if it is to have none of more than 128 bits.
fn width(kind: &KernelKind, target: &Target) -> Option<Width> {
    let widest = target.isa.width().filter(|_| target.emitter == EmitterChoice::Auto)?;
    match kind {
        KernelKind::Ternary { variant, .. } => match variant.vectors {
            Vectors::Widest => Some(widest),
            Vectors::W256 => Some(Width::W256),
            Vectors::W128 => None,
        },
        KernelKind::AddSub { .. }
        | KernelKind::Embed { .. }
        | KernelKind::Norm { .. }
        | KernelKind::NormHeads { .. }
        | KernelKind::L2Norm { .. }
        | KernelKind::Hadamard { .. }
        | KernelKind::QuantizeGroups { .. }
        | KernelKind::Groups { .. }
        | KernelKind::Quant4 { .. }
        | KernelKind::Dup { .. }
        | KernelKind::Route { .. }
        | KernelKind::RouteIndex { .. }
        | KernelKind::Dispatch { .. }
        | KernelKind::Combine { .. }
        | KernelKind::Rescale { .. }
        | KernelKind::Dense { .. }
        | KernelKind::Rope { .. }
        | KernelKind::KvWrite { .. }
        | KernelKind::Attention { .. }
        | KernelKind::Map { .. }
        | KernelKind::TopK
        | KernelKind::HeadQuantise { .. }
        | KernelKind::HeadScan { .. }
        | KernelKind::HeadRescore { .. }
        | KernelKind::HeadMerge { .. } => Some(widest),
    }
}

/// The wide body of a kernel, `program` being the one that the kind names; `None` if it has none at this target, or the
/// target wants none.
///
/// # Errors
/// [`Error::Bug`]: a kernel that needs more registers than there are, or an instruction that does not exist.
pub fn emit(kind: &KernelKind, program: Option<&Program>, target: &Target) -> Result<Option<Code>, Error> {
    let Some(width) = width(kind, target) else { return Ok(None) };
    let mut k = Asm::of_width(target, width, symbol(kind, target))?;
    match *kind {
        KernelKind::Ternary { packing, rows, cols, epilogue, regime, variant } => {
            let t = ternary::Ternary {
                rows,
                cols,
                packing,
                epilogue,
                regime,
                variant,
                code_row_bytes: None,
                tile_bytes: None,
            };
            if !ternary::exists(target.isa, &t) {
                return Ok(None);
            }
            ternary::emit(&mut k, &t);
        }
        KernelKind::Dup { rows, cols, epilogue, bytes } if !matches!(epilogue, Epilogue::Glu(_)) => {
            ternary::dup::emit(&mut k, ternary::dup::Dup { rows, cols, epilogue, bytes });
        }
        KernelKind::AddSub { epilogue, tokens, .. } => {
            let exists = |program: &&Program| ternary::addsub::exists(target.isa, program, epilogue, tokens);
            let Some(program) = program.filter(exists) else { return Ok(None) };
            ternary::addsub::emit(&mut k, program, epilogue, tokens);
        }
        KernelKind::Norm { eps, out, cols } => norm::norm(&mut k, eps.map(|e| e.get()), out, cols),
        KernelKind::Map { op, cols } => map::map(&mut k, op, cols),
        KernelKind::Rescale { cols } => map::rescale(&mut k, cols),
        KernelKind::Rope { cols, head_dim } if rope::takes(head_dim) => rope::rope(&mut k, cols, head_dim),
        KernelKind::KvWrite { heads, head_dim, elem } if kv_write::takes(heads, head_dim) => {
            kv_write::kv_write(&mut k, heads, head_dim, elem);
        }
        KernelKind::Attention { q_heads, kv_heads, head_dim, scale, elem } => {
            let shape = Shape { q_heads, kv_heads, head_dim, scale: scale.get(), elem };
            if !shape.is_taken() {
                return Ok(None);
            }
            attention::attention(&mut k, &shape);
        }
        KernelKind::HeadScan { cols } => head::scan(&mut k, cols),
        KernelKind::Groups { packing, rows, cols, group, x, scales, regime, adds } if target.isa != Isa::Sse41 => {
            ternary::groups::emit(&mut k, GroupShape { packing, rows, cols, group, scales }, x, regime, adds);
        }
        KernelKind::Dense { dtype, cols, order, out_row_bytes, .. } => {
            let matrix = DenseMatrix { dtype, cols, order };
            if !dense::takes(&matrix, out_row_bytes) {
                return Ok(None);
            }
            dense::dense(&mut k, &matrix, out_row_bytes);
        }
        KernelKind::Quant4 { rows, cols, group, stored } => {
            let matrix = Quant4Matrix { cols, group, stored };
            if target.isa == Isa::Sse41 || !quant4::takes(&matrix, rows) {
                return Ok(None);
            }
            quant4::quant4(&mut k, &matrix, rows);
        }
        KernelKind::NormHeads { eps, heads, head_dim } => norm::norm_heads(&mut k, eps.get(), heads, head_dim),
        KernelKind::L2Norm { cols } => norm::l2norm(&mut k, cols),
        KernelKind::QuantizeGroups { eps, cols, group } => {
            norm::quantize_groups(&mut k, eps.map(|e| e.get()), cols, group);
        }
        KernelKind::Groups { .. }
        | KernelKind::Rope { .. }
        | KernelKind::Dup { .. }
        | KernelKind::Hadamard { .. }
        | KernelKind::KvWrite { .. }
        | KernelKind::Route { .. }
        | KernelKind::RouteIndex { .. }
        | KernelKind::Dispatch { .. }
        | KernelKind::Combine { .. }
        | KernelKind::Embed { .. }
        | KernelKind::HeadQuantise { .. }
        | KernelKind::HeadRescore { .. }
        | KernelKind::HeadMerge { .. }
        | KernelKind::TopK => return Ok(None),
    }
    k.finish().map(Some)
}

/// Bytes from one padded row of `cols` f32 to the next.
fn row_bytes(cols: u32) -> i64 {
    layout::row_bytes(RowKind::F32, cols) as i64
}

#[cfg(test)]
mod tests;
