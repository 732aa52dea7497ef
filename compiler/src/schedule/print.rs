//! The schedule as text: kernels, weights, arena, then the step phase by phase. Only for people.

use std::fmt;

use crate::graph::Dim;

use super::{Arg, Buffer, Call, Choice, Many, Part, RowKind, RowSpace, Schedule, Single, Split};

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "schedule: {} kernels, {} phases, arena {} bytes, weights {} bytes, {} tokens a step, {} positions",
            self.kernels.len(),
            self.phases.len(),
            self.arena_bytes,
            self.weights.bytes,
            self.max_step_tokens,
            self.max_context
        )?;
        writeln!(f, "\nkernels")?;
        for (id, kernel) in self.kernels.iter().enumerate() {
            writeln!(f, "  k{id} {kernel}")?;
        }
        if !self.programs.is_empty() {
            writeln!(f, "\nprograms (rows, columns, additions, instructions)")?;
        }
        for (id, program) in self.programs.iter().enumerate() {
            let (rows, cols) = (program.rows(), program.cols());
            writeln!(f, "  p{id} {rows:>6} {cols:>6} {:>8} {:>8}", program.adds(), program.instructions())?;
        }
        writeln!(f, "\nweights (offset, bytes, packing)")?;
        for placed in &self.weights.placed {
            let packing = placed.layout.packing().name();
            write!(f, "  {:>12} {:>10} {packing:<12}", placed.offset, placed.layout.bytes())?;
            for weight in placed.layout.weights() {
                write!(f, " @{}", weight.0)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\nbuffers (offset, bytes, rows)")?;
        for (id, buffer) in self.buffers.iter().enumerate() {
            writeln!(f, "  b{id:<4} {:>10} {:>10} {}", buffer.offset, buffer.bytes, rows(buffer))?;
        }
        if let Some(head) = self.coarse_head {
            let k = super::head::MAX_COARSE_K;
            writeln!(f, "\nhead: up to {k} largest logits by the coarse copy w+{}, {} rows", head.offset, head.rows)?;
        }
        for (index, phase) in self.phases.iter().enumerate() {
            let alone = if phase.alone { " (one token: every thread for itself)" } else { "" };
            writeln!(f, "\nphase {index}{alone}")?;
            for call in &phase.calls {
                self.call(f, call)?;
            }
        }
        Ok(())
    }
}

impl Schedule {
    fn call(&self, f: &mut fmt::Formatter<'_>, call: &Call) -> fmt::Result {
        write!(f, "  %{:<4} ", call.node.0)?;
        match call.kernel {
            Choice::One(k) => write!(f, "{}", self.kernels[k.0 as usize])?,
            Choice::ByRows { one, few, many } => {
                write!(f, "{} | {}", self.kernels[one.0 as usize], self.kernels[few.0 as usize])?;
                if let Some(Many { kernel, tokens, from, .. }) = many {
                    write!(f, " | from {from} rows, {tokens} at a time: {}", self.kernels[kernel.0 as usize])?;
                }
            }
            Choice::ByKv { f32, f16 } => {
                write!(f, "{} | {}", self.kernels[f32.0 as usize], self.kernels[f16.0 as usize])?;
            }
        }
        write!(f, "  {}", Shown(call.split))?;
        if let Some(Single { weights, split, is_whole }) = call.single {
            let weights = weights.map_or_else(|| "code".to_owned(), |offset| format!("w+{offset}"));
            write!(f, ", of one row {weights} {}{}", Shown(split), if is_whole { ", whole shares" } else { "" })?;
        }
        f.write_str("  (")?;
        for (i, arg) in call.args.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write_arg(f, *arg)?;
        }
        f.write_str(")\n")
    }
}

/// A split in words.
struct Shown(Split);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Split::Rows(space) => write!(f, "by rows of {}", letter(space)),
            Split::Units { start, count, total } => write!(f, "units {start}..{} of {total}", start + count),
            Split::Whole(space) => write!(f, "whole, of {}", letter(space)),
            Split::Experts { index, tiles, stride, .. } => {
                write!(f, "by experts of b{}, {tiles} tiles, {stride} bytes each", index.0)
            }
            Split::RowHeads { heads } => write!(f, "by rows of T x {heads} heads"),
        }
    }
}

fn write_arg(f: &mut fmt::Formatter<'_>, arg: Arg) -> fmt::Result {
    match arg {
        Arg::Weights { offset } => write!(f, "w+{offset}"),
        Arg::Ids => f.write_str("ids"),
        Arg::Logits => f.write_str("logits"),
        Arg::Rows { buffer, part, wanted } => {
            let part = match part {
                Part::Slots => ".slots",
                Part::Tokens => ".tokens",
                Part::Data => "",
                Part::Scale => ".scale",
                Part::Sum => ".sum",
            };
            write!(f, "b{}{part}{}", buffer.0, if wanted { "[wanted]" } else { "" })
        }
        Arg::RowCount(space) => write!(f, "{}", letter(space)),
        Arg::Lo => f.write_str("lo"),
        Arg::Hi => f.write_str("hi"),
        Arg::Position => f.write_str("position"),
        Arg::Kv { elems_before } => write!(f, "kv+{elems_before}"),
        Arg::KvPlaneBytes { head_dim } => write!(f, "plane({head_dim})"),
        Arg::ExpertScale { offset } => write!(f, "w+{offset}[expert]"),
        Arg::F32(v) => write!(f, "{v}"),
        Arg::Scratch => f.write_str("scratch"),
        Arg::ColumnsRead { index } => write!(f, "columns_read[{index}]"),
    }
}

fn letter(space: RowSpace) -> Dim {
    match space {
        RowSpace::Tokens => Dim::Tokens,
        RowSpace::Wanted => Dim::Wanted,
        RowSpace::Routed(experts) => Dim::Routed(experts),
    }
}

fn rows(buffer: &Buffer) -> String {
    let kind = match buffer.kind {
        RowKind::F32 => "f32",
        RowKind::I32 => "i32",
        RowKind::Q8 => "q8",
        RowKind::Q8Groups(_) => "q8 by groups",
        RowKind::Routes => "choices",
        RowKind::RouteIndex => "index",
    };
    format!("{kind}[{}, {}] %{}.{}", letter(buffer.rows), buffer.cols, buffer.value.0, buffer.member)
}
