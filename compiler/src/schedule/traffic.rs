//! What a step moves and multiplies, and which class of kernel each phase belongs to.
//!
//! In: a schedule. Out: [`Traffic`]: bytes that must come from memory and products of trits that must be added up, the two
//! figures that a machine's limits are compared with; [`Class`]es for profiles. It counts what kernels read by design:
//! packed weights with their padding, each once per step.

use std::collections::BTreeSet;

use super::kernel::{DenseOrder, KernelKind, KvElem};
use super::layout::{ALIGN_BYTES, trit_tiles};
use super::packing::{Layout, dense_row_bytes};
use super::{Arg, Call, Choice, KernelId, Phase, Schedule, Split};
use crate::strategy::Slot;

/// A class of kernels; a phase of several classes counts as the last of them in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Rows of the embedding.
    Embed,
    /// Rotary embedding, cache writes, additions, activations, rescaling.
    Elementwise,
    /// Norms and quantisation.
    Norm,
    /// Attention.
    Attention,
    /// Logits, and the choice of the largest.
    Head,
    /// Products with the matrices of the body: of trits, or dense.
    Matmul,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 6] =
        [Class::Embed, Class::Elementwise, Class::Norm, Class::Attention, Class::Head, Class::Matmul];

    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Embed => "embed",
            Class::Elementwise => "elementwise",
            Class::Norm => "norm",
            Class::Attention => "attention",
            Class::Head => "head",
            Class::Matmul => "matmul",
        }
    }

    /// The class of a kernel.
    pub const fn of(kind: &KernelKind) -> Class {
        match kind {
            KernelKind::Embed { .. } => Class::Embed,
            KernelKind::Norm { .. }
            | KernelKind::NormHeads { .. }
            | KernelKind::L2Norm { .. }
            | KernelKind::QuantizeGroups { .. } => Class::Norm,
            KernelKind::Ternary { .. }
            | KernelKind::AddSub { .. }
            | KernelKind::Dup { .. }
            | KernelKind::Groups { .. }
            | KernelKind::Quant4 { .. }
            | KernelKind::Dense { order: DenseOrder::Quads, .. } => Class::Matmul,
            KernelKind::Dense { order: DenseOrder::Rows, .. }
            | KernelKind::HeadQuantise { .. }
            | KernelKind::HeadScan { .. }
            | KernelKind::HeadRescore { .. }
            | KernelKind::HeadMerge { .. }
            | KernelKind::TopK => Class::Head,
            KernelKind::Attention { .. } => Class::Attention,
            KernelKind::Rescale { .. }
            | KernelKind::Route { .. }
            | KernelKind::RouteIndex { .. }
            | KernelKind::Dispatch { .. }
            | KernelKind::Combine { .. }
            | KernelKind::Hadamard { .. }
            | KernelKind::Rope { .. }
            | KernelKind::KvWrite { .. }
            | KernelKind::Map { .. } => Class::Elementwise,
        }
    }

    /// The class of a call: that of its kernel, but for dense matrices within the model.
    fn of_call(schedule: &Schedule, call: &Call) -> Option<Class> {
        match kernel_of(schedule, call)? {
            KernelKind::Dense { .. } if !call.args.contains(&Arg::Logits) => Some(Class::Matmul),
            kind => Some(Class::of(kind)),
        }
    }

    /// The class of a phase: of its weightiest call.
    pub fn of_phase(schedule: &Schedule, phase: &Phase) -> Class {
        let classes = phase.calls.iter().filter_map(|call| Class::of_call(schedule, call));
        classes.max().unwrap_or(Class::Elementwise)
    }
}

/// The kernel of a call that one row takes.
fn kernel_of<'s>(schedule: &'s Schedule, call: &Call) -> Option<&'s KernelKind> {
    let KernelId(id) = match call.kernel {
        Choice::One(kernel) => kernel,
        Choice::ByRows { one, .. } => one,
        Choice::ByKv { f16, .. } => f16,
    };
    schedule.kernels.get(id as usize)
}

/// A call that skips columns in steps of one token, and says how many it read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skipping {
    /// Which of the schedule's `column_counts` is its.
    pub index: u32,
    /// K.
    pub cols: u32,
    /// Bytes of its packed matrix.
    pub bytes: u64,
    /// Bytes of one column of it.
    pub column_bytes: u64,
}

impl Skipping {
    /// All such calls, in order.
    pub fn all(schedule: &Schedule) -> Vec<Skipping> {
        let calls = schedule.phases.iter().flat_map(|phase| &phase.calls);
        let skipping = calls.filter_map(|call| {
            let index = call.args.iter().find_map(|arg| match arg {
                Arg::ColumnsRead { index } => Some(*index),
                _ => None,
            })?;
            let offset = call.weights(Slot::Decode)?;
            let layout = schedule.weights.placed.iter().find(|placed| placed.offset == offset)?.layout;
            let Layout::Tiles { packing, rows, cols, .. } = layout else { return None };
            let column_bytes = u64::from(trit_tiles(packing, rows)) * ALIGN_BYTES;
            Some(Skipping { index, cols, bytes: layout.bytes(), column_bytes })
        });
        skipping.collect()
    }
}

/// What a step reads from memory and multiplies.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// Packed trits of all ternary matrices, as one token reads them.
    pub body_bytes: u64,
    /// What of that one token does not read, since its activations are zero: known when it ran.
    pub skipped_bytes: u64,
    /// Packed trits as several tokens read them.
    pub prompt_body_bytes: u64,
    /// Trits of all ternary matrices, padding not counted: also the products of one token.
    pub body_weights: u64,
    /// What the head reads for one row of logits: its coarse copy, or the whole matrix where there is none.
    pub head_bytes: u64,
    /// What an exact logit reads: a row of the head's matrix, on top of the coarse copy if there is one.
    pub head_row_bytes: u64,
    /// Elements of the head's matrix.
    pub head_weights: u64,
    /// Experts of a layer, 0 if there are none.
    pub experts: u32,
    /// How many of them a token has.
    pub experts_per_tok: u32,
    /// What `body_bytes` has of experts: those that a token chose.
    pub expert_bytes: u64,
    /// The same of all experts.
    pub all_expert_bytes: u64,
    /// The dense matrices that choose experts: once per step.
    pub dense_bytes: u64,
    /// Gains of norms, once per step.
    pub vector_bytes: u64,
    /// Rows of tables, once per token: embedding, rotation.
    pub row_bytes: u64,
    /// Elements that the cache takes per position.
    pub kv_elems: u64,
}

impl Traffic {
    /// The traffic of a model.
    pub fn of(schedule: &Schedule) -> Traffic {
        let kv_elems = schedule.kv_layers.iter().map(|l| 2 * u64::from(l.heads) * u64::from(l.head_dim)).sum();
        let mut traffic = Traffic { kv_elems, ..Traffic::default() };
        // Tables of which a token's row is looked up: calls share it.
        let mut looked_up = BTreeSet::new();
        // How many experts routers choose among: rows of a dense matrix that is none of the body's.
        let routed: BTreeSet<u32> = schedule
            .kernels
            .iter()
            .filter_map(|kernel| if let KernelKind::Route { experts, .. } = kernel { Some(*experts) } else { None })
            .collect();
        for call in schedule.phases.iter().flat_map(|phase| &phase.calls) {
            let Some(kernel) = kernel_of(schedule, call) else { continue };
            let placed = |slot| {
                let offset = call.weights(slot)?;
                schedule.weights.placed.iter().find(|placed| placed.offset == offset)
            };
            // Weights that are code are fetched, not read.
            if let KernelKind::AddSub { rows, cols, .. } = kernel {
                traffic.body_weights += u64::from(*rows) * u64::from(*cols);
            }
            if matches!(kernel, KernelKind::Dense { rows, .. } if routed.contains(rows))
                && !call.args.contains(&Arg::Logits)
            {
                traffic.dense_bytes += placed(Slot::Decode).map_or(0, |placed| placed.layout.bytes());
                continue;
            }
            if Class::of(kernel) == Class::Matmul {
                traffic.prompt_body_bytes += placed(Slot::Prefill).map_or(0, |placed| placed.layout.bytes());
            }
            if let Some(placed) = placed(Slot::Decode) {
                let is_lookup = Class::of(kernel) != Class::Head && matches!(placed.layout, Layout::Rows { .. });
                if is_lookup && !looked_up.insert(placed.offset) {
                    continue;
                }
                traffic.add(kernel, &placed.layout, chosen(call));
            }
        }
        // Few of the largest logits are found in the coarse copy; rows in doubt come on top.
        if schedule.coarse_head.is_some() {
            traffic.head_bytes = schedule.coarse_head_bytes();
        }
        traffic
    }

    /// Of stacked matrices those of `chosen` experts.
    fn add(&mut self, kernel: &KernelKind, layout: &Layout, chosen: Option<u32>) {
        match (Class::of(kernel), *layout) {
            (Class::Head, _) => {
                self.head_bytes += layout.bytes();
                if let Layout::Rows { cols, dtype, .. } = *layout {
                    self.head_row_bytes = dense_row_bytes(dtype, cols);
                }
                self.head_weights += elems(layout);
            }
            (
                _,
                Layout::Tiles { .. }
                | Layout::TilePairs { .. }
                | Layout::Dup { .. }
                | Layout::Groups { .. }
                | Layout::Quant4 { .. }
                | Layout::Quads { .. },
            ) => {
                let of_each = |all: u64| all / u64::from(layout.experts()) * u64::from(chosen.unwrap_or(1));
                self.body_bytes += of_each(layout.bytes());
                self.body_weights += of_each(elems(layout));
                if let Some(chosen) = chosen {
                    (self.experts, self.experts_per_tok) = (layout.experts(), chosen);
                    self.expert_bytes += of_each(layout.bytes());
                    self.all_expert_bytes += layout.bytes();
                }
            }
            (_, Layout::Rows { cols, dtype, .. }) => self.row_bytes += dense_row_bytes(dtype, cols),
            // No call names it; `of` counts it.
            (_, Layout::Coarse { .. }) => {}
            (_, Layout::Vector { .. }) => self.vector_bytes += layout.bytes(),
        }
    }

    /// The same if a row of logits takes so many `rows` of the exact matrix on top.
    pub fn with_rescored_rows(self, rows: f64) -> Traffic {
        Traffic { head_bytes: self.head_bytes + (rows * self.head_row_bytes as f64).round() as u64, ..self }
    }

    /// The same for tokens that read so many columns of a call that skips some: their mean.
    pub fn with_columns_read(self, call: &Skipping, columns: f64) -> Traffic {
        let read = (columns * call.column_bytes as f64).round() as u64;
        Traffic { skipped_bytes: self.skipped_bytes + call.bytes.saturating_sub(read), ..self }
    }

    /// That of a model like this one with `whole` layers instead of `ran`.
    pub fn of_layers(self, ran: u32, whole: u32) -> Traffic {
        let scaled = |n: u64| (u128::from(n) * u128::from(whole) / u128::from(ran.max(1))) as u64;
        Traffic {
            body_bytes: scaled(self.body_bytes),
            skipped_bytes: scaled(self.skipped_bytes),
            prompt_body_bytes: scaled(self.prompt_body_bytes),
            body_weights: scaled(self.body_weights),
            expert_bytes: scaled(self.expert_bytes),
            all_expert_bytes: scaled(self.all_expert_bytes),
            dense_bytes: scaled(self.dense_bytes),
            vector_bytes: scaled(self.vector_bytes),
            kv_elems: scaled(self.kv_elems),
            ..self
        }
    }

    /// Bits of a trit, padding included.
    pub fn bits_per_weight_body(&self) -> f64 {
        8.0 * self.body_bytes as f64 / self.body_weights.max(1) as f64
    }

    /// Bits that are read per element of the head's matrix.
    pub fn bits_per_weight_head(&self) -> f64 {
        8.0 * self.head_bytes as f64 / self.head_weights.max(1) as f64
    }

    /// Bytes of one token that is decoded at `position`: everything once, and the keys and values before it.
    pub fn decode_bytes(&self, position: u64, kv: KvElem) -> u64 {
        let cache = (position + 1) * self.kv_elems * u64::from(kv.bytes());
        let body = self.body_bytes.saturating_sub(self.skipped_bytes);
        body + self.head_bytes + self.dense_bytes + self.vector_bytes + self.row_bytes + cache
    }

    /// Bytes of a prompt of `tokens` in steps of at most `step_tokens`, of which the last token's logits are wanted:
    /// weights once per step, keys and values of all positions so far once per step.
    pub fn prefill_bytes(&self, tokens: u64, step_tokens: u64, kv: KvElem) -> u64 {
        let steps = tokens.div_ceil(step_tokens.max(1));
        let positions: u64 = (1..=steps).map(|step| step.saturating_mul(step_tokens).min(tokens)).sum();
        let cache = positions * self.kv_elems * u64::from(kv.bytes());
        steps * (self.prompt_body_bytes + self.dense_bytes + self.vector_bytes)
            + self.head_bytes
            + tokens * self.row_bytes
            + cache
    }
}

/// How many experts a token has of a call of experts.
fn chosen(call: &Call) -> Option<u32> {
    match call.split {
        Split::Experts { top_k, .. } => Some(top_k),
        Split::Rows(_) | Split::Units { .. } | Split::RowHeads { .. } | Split::Whole(_) => None,
    }
}

/// Elements, padding not counted.
pub fn elems(layout: &Layout) -> u64 {
    u64::from(layout.experts()) * elems_of_one(layout)
}

/// Those of one expert, if it stacks matrices of several.
fn elems_of_one(layout: &Layout) -> u64 {
    match *layout {
        Layout::Tiles { rows, cols, .. }
        | Layout::Dup { rows, cols, .. }
        | Layout::Groups { rows, cols, .. }
        | Layout::Quant4 { rows, cols, .. }
        | Layout::Rows { rows, cols, .. }
        | Layout::Quads { rows, cols, .. }
        | Layout::Coarse { rows, cols, .. } => u64::from(rows) * u64::from(cols),
        Layout::TilePairs { rows, cols, .. } => 2 * u64::from(rows) * u64::from(cols),
        Layout::Vector { len, .. } => u64::from(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_reads_weights_once_per_step_and_a_token_reads_all() {
        let traffic = Traffic {
            body_bytes: 1000,
            skipped_bytes: 0,
            prompt_body_bytes: 1100,
            body_weights: 4000,
            head_bytes: 500,
            head_row_bytes: 20,
            head_weights: 250,
            experts: 0,
            experts_per_tok: 0,
            expert_bytes: 0,
            all_expert_bytes: 0,
            dense_bytes: 0,
            vector_bytes: 10,
            row_bytes: 7,
            kv_elems: 3,
        };
        assert_eq!((traffic.bits_per_weight_body(), traffic.bits_per_weight_head()), (2.0, 16.0));
        assert_eq!(traffic.decode_bytes(0, KvElem::F16), 1517 + 6);
        // Layers count, the head and rows of tables do not.
        assert_eq!(traffic.of_layers(1, 3).decode_bytes(0, KvElem::F16), 3 * 1010 + 507 + 18);
        assert_eq!(traffic.decode_bytes(99, KvElem::F32), 1517 + 100 * 12);
        assert_eq!(traffic.with_rescored_rows(2.5).decode_bytes(0, KvElem::F16), 1567 + 6);
        // Of ten columns of 32 bytes each, and 10 bytes of padding, a quarter.
        let call = Skipping { index: 0, cols: 10, bytes: 330, column_bytes: 32 };
        let skipping = traffic.with_columns_read(&call, 2.5);
        assert_eq!(skipping.decode_bytes(0, KvElem::F16), 1517 + 6 - 330 + 80);
        assert_eq!(skipping.bits_per_weight_body(), 2.0);
        // Steps of 4, 4 and 2 tokens see 4, 8 and 10 positions.
        assert_eq!(traffic.prefill_bytes(10, 4, KvElem::F16), 3 * 1110 + 500 + 70 + 22 * 6);
        assert_eq!(traffic.prefill_bytes(4, 4, KvElem::F16), 1110 + 500 + 28 + 4 * 6);
    }
}
