//! What kernels are called.
//!
//! In: a [`KernelKind`]. Out: its symbol, which spells out op, types, tile and shape: kinds that differ have symbols that differ.

use std::fmt;

use super::{DenseOrder, GroupRows, KernelKind, MapOp, ProgramId, Regime};
use crate::generated::packings::Packing;
use crate::graph::Act;
use crate::schedule::RowKind;
use crate::schedule::quant4::Quant4Matrix;

/// The symbol without ISA and prefix: op, types, tile, shape.
impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            KernelKind::Embed { dtype, cols } => write!(f, "embed_{}__{cols}", dtype.name()),
            KernelKind::Norm { eps, out, cols } => {
                let name = match (eps, out) {
                    (Some(_), RowKind::Q8) => "rmsnorm_quantize_f32_q8",
                    (Some(_), _) => "rmsnorm_f32",
                    (None, _) => "quantize_f32_q8",
                };
                write!(f, "{name}__{cols}")?;
                match eps {
                    Some(eps) => write!(f, "_eps{:08x}", eps.bits()),
                    None => Ok(()),
                }
            }
            KernelKind::Ternary { packing, rows, cols, epilogue, regime, variant } => {
                let regime = match regime {
                    Regime::Gemv => "gemv",
                    Regime::Gemm => "gemm",
                    Regime::Table { .. } => "table",
                };
                let (name, epilogue) = (packing.packing(false).name(), epilogue.name());
                write!(f, "{regime}_q8x{name}_{epilogue}{}__{rows}x{cols}", variant.suffix())
            }
            KernelKind::AddSub { program: ProgramId(id), rows, cols, epilogue, tokens } => {
                write!(f, "addsub{tokens}_q8_{}__{rows}x{cols}_p{id}", epilogue.name())
            }
            KernelKind::Dup { rows, cols, epilogue, bytes } => {
                write!(f, "product_q8x{}_{}__{rows}x{cols}_{bytes}", Packing::Dup16x16.name(), epilogue.name())
            }
            KernelKind::Route { experts, top_k, normalise } => {
                write!(f, "route_f32__{top_k}of{experts}{}", if normalise { "_normalised" } else { "" })
            }
            KernelKind::RouteIndex { experts, top_k } => write!(f, "route_index__{top_k}of{experts}"),
            KernelKind::Dispatch { row, cols } => match row {
                RowKind::Q8 => write!(f, "dispatch_q8__{cols}"),
                RowKind::Q8Groups(groups) => write!(f, "dispatch_q8__{cols}_by{groups}"),
                RowKind::F32 | RowKind::I32 | RowKind::Routes | RowKind::RouteIndex => {
                    write!(f, "dispatch_f32__{cols}")
                }
            },
            KernelKind::Combine { cols, top_k, add } => {
                write!(f, "combine_f32{}__{top_k}x{cols}", if add { "_add" } else { "" })
            }
            KernelKind::Rescale { cols } => write!(f, "rescale_i32_f32__{cols}"),
            KernelKind::Dense { dtype, rows, cols, order, out_row_bytes } => {
                let order = match order {
                    DenseOrder::Rows => "",
                    DenseOrder::Quads => "_4x16",
                };
                write!(f, "dense_f32x{}{order}__{rows}x{cols}_stride{out_row_bytes}", dtype.name())
            }
            KernelKind::Quant4 { rows, cols, group, stored } => {
                let packing = Quant4Matrix { cols, group, stored }.packing();
                write!(f, "linear_i8x{}__{rows}x{cols}_g{group}", packing.name())
            }
            KernelKind::NormHeads { eps, heads, head_dim } => {
                write!(f, "rmsnorm_heads_f32__{heads}x{head_dim}_e{:08x}", eps.bits())
            }
            KernelKind::L2Norm { cols } => write!(f, "l2norm_f32__{cols}"),
            KernelKind::Hadamard { cols, block, behind } => {
                write!(f, "hadamard_f32__{cols}_b{block}{}", if behind { "_back" } else { "" })
            }
            KernelKind::QuantizeGroups { eps: None, cols, group } => {
                write!(f, "quantize_groups_f32_q8__{cols}_g{group}")
            }
            KernelKind::QuantizeGroups { eps: Some(eps), cols, group } => {
                write!(f, "rmsnorm_quantize_groups_f32_q8__{cols}_g{group}_eps{:08x}", eps.bits())
            }
            KernelKind::Groups { packing, rows, cols, group, x, scales, regime, adds } => {
                let x = match x {
                    GroupRows::Codes => "i8",
                    GroupRows::F32 => "f32",
                };
                let regime = match regime {
                    Regime::Gemv | Regime::Gemm => "linear",
                    Regime::Table { .. } => "table",
                };
                let adds = if adds { "_add" } else { "" };
                write!(f, "{regime}_{x}x{}{adds}__{rows}x{cols}_g{group}", packing.grouped(scales).name())
            }
            KernelKind::Rope { cols, head_dim } => write!(f, "rope_f32__{cols}_d{head_dim}"),
            KernelKind::KvWrite { heads, head_dim, elem } => {
                write!(f, "kv_write_f32_{}__{heads}x{head_dim}", elem.dtype().name())
            }
            KernelKind::Attention { q_heads, kv_heads, head_dim, scale, elem } => write!(
                f,
                "attention_f32x{}__{q_heads}q{kv_heads}kv{head_dim}_s{:08x}",
                elem.dtype().name(),
                scale.bits()
            ),
            KernelKind::Map { op, cols } => {
                let name = match op {
                    MapOp::Add => "add",
                    MapOp::Mul => "mul",
                    MapOp::Act(act) => act.name(),
                    MapOp::Glu(Act::Relu2) => "glu_relu2",
                    MapOp::Glu(Act::Silu) => "glu_silu",
                    MapOp::Glu(Act::Gelu) => "glu_gelu",
                    MapOp::Scale(by) => return write!(f, "scale_f32__{cols}_b{:08x}", by.bits()),
                };
                write!(f, "{name}_f32__{cols}")
            }
            KernelKind::TopK => f.write_str("top_k_f32"),
            KernelKind::HeadQuantise { cols } => write!(f, "head_quantise_f32_2xi8__{cols}"),
            KernelKind::HeadScan { cols } => write!(f, "head_scan_2xi8xh6_16x16__{cols}"),
            KernelKind::HeadRescore { dtype, cols } => write!(f, "head_rescore_f32x{}__{cols}", dtype.name()),
            KernelKind::HeadMerge { rows } => write!(f, "head_merge_f32__{rows}"),
        }
    }
}
