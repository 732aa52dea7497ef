//! One file per family of kernels; [`emit`] finds the right one.
//!
//! In: a [`KernelKind`]. Out: the body of a leaf function `fn(args: *const Slot)`. Every kernel gives the bits of
//! [`crate::graph::arith`]; every row that it writes ends in zeros up to its padded length.

pub(in crate::codegen) mod attention;
mod dense;
mod dot;
mod experts;
mod hadamard;
mod head;
mod kv_write;
mod map;
mod norm;
mod quant4;
mod ranking;
mod rope;
pub(in crate::codegen) mod ternary;
mod top_k;

use super::emitter::Emitter;
use crate::addsub::Program;
use crate::schedule::dense::DenseMatrix;
use crate::schedule::groups::GroupShape;
use crate::schedule::kernel::{Epilogue, KernelKind};
use crate::schedule::quant4::Quant4Matrix;
use crate::schedule::{RowKind, layout};

/// Whether there is a kernel of the kind here.
pub fn exists(kind: &KernelKind) -> bool {
    match *kind {
        KernelKind::Ternary { packing, epilogue, regime, .. } => ternary::exists(packing, epilogue, regime),
        KernelKind::AddSub { epilogue, tokens, .. } => {
            tokens == ternary::ADDSUB_TOKENS && !matches!(epilogue, Epilogue::Glu(_))
        }
        // A gate and what it gates repeat in places of their own.
        KernelKind::Dup { epilogue, .. } => !matches!(epilogue, Epilogue::Glu(_)),
        KernelKind::Embed { .. }
        | KernelKind::Norm { .. }
        | KernelKind::NormHeads { .. }
        | KernelKind::L2Norm { .. }
        | KernelKind::Hadamard { .. }
        | KernelKind::QuantizeGroups { .. }
        | KernelKind::Groups { .. }
        | KernelKind::Quant4 { .. }
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
        | KernelKind::HeadQuantise { .. }
        | KernelKind::HeadScan { .. }
        | KernelKind::HeadRescore { .. }
        | KernelKind::HeadMerge { .. }
        | KernelKind::TopK => true,
    }
}

/// Writes the body of a kernel that [`exists`]; `program` is the one that the kind names.
pub fn emit(kind: &KernelKind, program: Option<&Program>, k: &mut Emitter<'_, '_>) {
    match *kind {
        KernelKind::Embed { dtype, cols } => dense::embed(k, dtype, cols),
        KernelKind::Norm { eps, out, cols } => norm::norm(k, eps.map(|e| e.get()), out, cols),
        KernelKind::NormHeads { eps, heads, head_dim } => norm::norm_heads(k, eps.get(), heads, head_dim),
        KernelKind::L2Norm { cols } => norm::l2norm(k, cols),
        KernelKind::Hadamard { cols, block, behind } => hadamard::hadamard(k, cols, block, behind),
        KernelKind::QuantizeGroups { eps, cols, group } => norm::quantize_groups(k, eps.map(|e| e.get()), cols, group),
        KernelKind::Groups { packing, rows, cols, group, x, scales, regime, adds } => {
            ternary::groups(k, GroupShape { packing, rows, cols, group, scales }, x, regime, adds);
        }
        KernelKind::Ternary { packing, rows, cols, epilogue, regime, variant } => {
            ternary::ternary(k, ternary::Shape { packing, rows, cols, epilogue, variant }, regime);
        }
        KernelKind::AddSub { rows, cols, epilogue, .. } => {
            // Who calls has looked it up: `codegen::module`.
            if let Some(program) = program {
                ternary::addsub(k, ternary::Shape::new(rows, cols, epilogue), program);
            }
        }
        KernelKind::Dup { rows, cols, epilogue, bytes } => {
            ternary::dup(k, ternary::Shape::new(rows, cols, epilogue), bytes);
        }
        KernelKind::Quant4 { rows, cols, group, stored } => {
            quant4::quant4(k, &Quant4Matrix { cols, group, stored }, rows);
        }
        KernelKind::Route { experts, top_k, normalise } => experts::route(k, experts, top_k, normalise),
        KernelKind::RouteIndex { experts, top_k } => experts::index(k, experts, top_k),
        KernelKind::Dispatch { row, cols } => experts::dispatch(k, row, cols),
        KernelKind::Combine { cols, top_k, add } => experts::combine(k, cols, top_k, add),
        KernelKind::Rescale { cols } => map::rescale(k, cols),
        KernelKind::Dense { dtype, cols, order, out_row_bytes, .. } => {
            dense::dense(k, &DenseMatrix { dtype, cols, order }, out_row_bytes);
        }
        KernelKind::Rope { cols, head_dim } => rope::rope(k, cols, head_dim),
        KernelKind::KvWrite { heads, head_dim, elem } => kv_write::kv_write(k, heads, head_dim, elem),
        KernelKind::Attention { q_heads, kv_heads, head_dim, scale, elem } => {
            attention::attention(k, &attention::Shape { q_heads, kv_heads, head_dim, scale: scale.get(), elem });
        }
        KernelKind::Map { op, cols } => map::map(k, op, cols),
        KernelKind::TopK => top_k::top_k(k),
        KernelKind::HeadQuantise { cols } => head::quantise(k, cols),
        KernelKind::HeadScan { cols } => head::scan(k, cols),
        KernelKind::HeadRescore { dtype, cols } => head::rescore(k, dtype, cols),
        KernelKind::HeadMerge { rows } => head::merge(k, rows),
    }
}

/// Bytes from one padded row of `cols` f32 to the next.
fn row_bytes(cols: u32) -> i64 {
    layout::row_bytes(RowKind::F32, cols) as i64
}
