//! Ternary products to calls: for one token and for many, each by the strategy that the graph names.
//!
//! In: a ternary node. Out: a call for each of its matrices. Where decoding reads another packing than prompts do, both are
//! placed, and the call has a [`Single`].

use std::sync::Arc;

use super::{Place, Planner, here, part_of, rows_of};
use crate::addsub::scratch::AddSubScratch;
use crate::graph::{F32, Strategy, ValueId, WeightId};
use crate::schedule::kernel::{Epilogue, KernelKind, ProgramId, Regime, TritPacking, Variant};
use crate::schedule::packing::Layout;
use crate::schedule::table::TABLE_PARTS;
use crate::schedule::{
    Arg, BufferId, Choice, Error, KernelId, Many, Part, ProductKey, RowKind, Single, Split, Table, dup, layout,
};
use crate::strategy::Slot;
use crate::strategy::offer::packing;
use crate::weights::repeats::Counts;

/// How a node is computed for one token, or for several.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// From packed weights.
    Packed(TritPacking),
    /// The weights are code.
    Code,
    /// From weights without their repeats.
    Distinct,
}

/// How a node is computed.
#[derive(Clone, Copy)]
struct How {
    one: Form,
    many: Form,
    /// Whether many tokens use tables.
    has_table: bool,
    /// By which strategies that is.
    strategies: [Strategy; 2],
}

/// One matrix of a node, or the two of a gated unit.
struct Piece {
    member: u32,
    weight: WeightId,
    /// The second matrix of a gated unit.
    up: Option<WeightId>,
    /// N and K.
    shape: (u32, u32),
    epilogue: Epilogue,
    scale: F32,
    /// Residual rows, the second scale, or nothing.
    last: Arg,
    /// What is read besides x.
    also: Option<BufferId>,
}

impl Planner<'_> {
    pub(super) fn ternary(
        &mut self,
        id: ValueId,
        epilogue: Epilogue,
        strategies: [Strategy; 2],
    ) -> Result<Vec<Place>, Error> {
        let how = self.how(id, strategies)?;
        let weight = self.weight(id, 1)?;
        let (rows, cols, scale) = self.trit_shape(id, weight)?;
        let (mut up, mut also, mut last) = (None, None, Arg::F32(F32::new(0.0)));
        match epilogue {
            Epilogue::Sums | Epilogue::Scale => {}
            Epilogue::ScaleAdd => {
                let (buffer, arg) = self.input(id, 2)?;
                (also, last) = (Some(buffer), arg);
            }
            Epilogue::Glu(_) => {
                let second = self.weight(id, 2)?;
                (up, last) = (Some(second), Arg::F32(self.trit_shape(id, second)?.2));
            }
        }
        let piece = Piece { member: 0, weight, up, shape: (rows, cols), epilogue, scale, last, also };
        Ok(vec![self.piece(id, how, &piece, &[(weight, rows)])?])
    }

    pub(super) fn ternary_cat(&mut self, id: ValueId, strategies: [Strategy; 2]) -> Result<Vec<Place>, Error> {
        let how = self.how(id, strategies)?;
        let members = self.graph.node(id).operands.len() - 1;
        let weights: Vec<WeightId> = (1..=members).map(|i| self.weight(id, i)).collect::<Result<_, _>>()?;
        let shapes = weights.iter().map(|w| self.trit_shape(id, *w)).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<(WeightId, u32)> = weights.iter().zip(&shapes).map(|(w, (rows, ..))| (*w, *rows)).collect();
        let mut places = Vec::new();
        for (member, (weight, (rows, cols, scale))) in weights.into_iter().zip(shapes).enumerate() {
            let (member, shape, last) = (member as u32, (rows, cols), Arg::F32(F32::new(0.0)));
            let epilogue = Epilogue::Scale;
            let piece = Piece { member, weight, up: None, shape, epilogue, scale, last, also: None };
            places.push(self.piece(id, how, &piece, &all)?);
        }
        Ok(places)
    }

    /// The kernels behind the strategies for one token and for many.
    fn how(&self, id: ValueId, strategies: [Strategy; 2]) -> Result<How, Error> {
        let ternary = self.options.ternary;
        let [one, many] = Slot::ALL.map(|slot| match strategies[slot as usize] {
            Strategy::Any => ternary.default_of(slot),
            named => named,
        });
        let form = |strategy: Strategy| {
            let missing = || self.unsupported(id, &format!("the strategy {} has no kernel here", strategy.name()));
            match strategy {
                Strategy::AddSub => Ok(Form::Code),
                Strategy::Dup => Ok(Form::Distinct),
                _ => packing(strategy).map(Form::Packed).ok_or_else(missing),
            }
        };
        let has_table = many.has_tables();
        if has_table && ternary.table.is_none() {
            return Err(self.unsupported(id, "the target has no table product"));
        }
        Ok(How { one: form(one)?, many: form(many)?, has_table, strategies: [one, many] })
    }

    /// The call of one piece; `all` are all matrices of the node with their rows, whose tiles threads share.
    fn piece(&mut self, id: ValueId, how: How, piece: &Piece, all: &[(WeightId, u32)]) -> Result<Place, Error> {
        let (x, space) = match self.place(id, 0, 0)? {
            Place::Buffer { id, wanted: false } => (id, self.buffer_space(id)),
            Place::Buffer { .. } | Place::Kv(_) | Place::Caller => {
                return Err(self.unsupported(id, "x must be a whole quantised buffer"));
            }
        };
        let (rows, _) = piece.shape;
        let kind = if piece.epilogue == Epilogue::Sums { RowKind::I32 } else { RowKind::F32 };
        let out = self.buffer(id, piece.member, kind, rows, space);
        let (one, many) = (self.place_piece(id, how.one, piece)?, self.place_piece(id, how.many, piece)?);
        let split = self.split(id, how.many, all, piece.member)?;
        // What one token prepares must serve all of its share.
        let is_whole = matches!(how.one, Form::Packed(TritPacking::N4 | TritPacking::C2) | Form::Code);
        let single = Single { weights: one, split: self.split(id, how.one, all, piece.member)?, is_whole };
        let single = (is_whole || how.one != how.many).then_some(single);
        // Of code nothing is read.
        let weights = many.map_or(Arg::F32(F32::new(0.0)), |offset| Arg::Weights { offset });
        let kernel = self.choice(id, how, piece)?;
        let mut args = vec![
            weights,
            part_of(x, Part::Data),
            part_of(x, Part::Scale),
            part_of(x, Part::Sum),
            rows_of(out),
            Arg::RowCount(space),
            Arg::Lo,
            Arg::Hi,
            Arg::F32(piece.scale),
            piece.last,
            Arg::Scratch,
        ];
        if how.one == Form::Packed(TritPacking::C2) {
            args.push(Arg::ColumnsRead { index: self.plan.model.column_counts });
            self.plan.model.column_counts += 1;
        }
        let reads = std::iter::once(x).chain(piece.also).collect();
        self.call(id, kernel, args, split, reads, Some(out));
        if let Some(call) = self.plan.calls.last_mut() {
            call.single = single;
        }
        Ok(here(out))
    }

    /// The kernels of a piece.
    fn choice(&mut self, id: ValueId, how: How, piece: &Piece) -> Result<Choice, Error> {
        let ((rows, cols), epilogue) = (piece.shape, piece.epilogue);
        let [of_one, of_many] = Slot::ALL.map(|slot| {
            let (strategy, is_gated) = (how.strategies[slot as usize], piece.up.is_some());
            let key = ProductKey { slot, strategy, rows, cols, is_gated };
            self.options.variants.get(&key).copied().unwrap_or_default()
        });
        let packed = |packing, regime, variant| KernelKind::Ternary { packing, rows, cols, epilogue, regime, variant };
        let one = match how.one {
            Form::Packed(packing) => self.kernel(packed(packing, Regime::Gemv, of_one)),
            Form::Code => self.code(id, piece)?,
            Form::Distinct => self.distinct(id, piece)?,
        };
        let (few, many) = match how.many {
            Form::Packed(packing) => {
                let many = self.options.ternary.table.filter(|_| how.has_table).map(|Table { tokens, from }| {
                    let kernel = self.kernel(packed(packing, Regime::Table { tokens }, of_many));
                    Many { kernel, tokens, parts: TABLE_PARTS, from }
                });
                // What was measured for many tokens says nothing of a few, unless the same kernel computes both.
                let of_few = if how.has_table { Variant::default() } else { of_many };
                (self.kernel(packed(packing, Regime::Gemm, of_few)), many)
            }
            Form::Code => {
                let kernel = self.code(id, piece)?;
                (kernel, Some(Many { kernel, tokens: self.options.proofs.tokens, parts: 1, from: 2 }))
            }
            Form::Distinct => (self.distinct(id, piece)?, None),
        };
        Ok(Choice::ByRows { one, few, many })
    }

    /// The kernel that a piece's weights are.
    fn code(&mut self, id: ValueId, piece: &Piece) -> Result<KernelId, Error> {
        let ((rows, cols), tokens) = (piece.shape, self.options.proofs.tokens);
        let Some(program) = self.options.proofs.programs.get(&piece.weight).filter(|_| piece.up.is_none()) else {
            return Err(self.unsupported(id, "the strategy addsub has no program of this weight"));
        };
        let bytes = AddSubScratch::new(program, tokens).bytes;
        let programs = &mut self.plan.model.programs;
        let index = programs.iter().position(|known| known == program).unwrap_or_else(|| {
            programs.push(Arc::clone(program));
            programs.len() - 1
        });
        self.plan.model.scratch_bytes = self.plan.model.scratch_bytes.max(bytes);
        let program = ProgramId(index as u32);
        Ok(self.kernel(KernelKind::AddSub { program, rows, cols, epilogue: piece.epilogue, tokens }))
    }

    /// The kernel of a piece without its repeats.
    fn distinct(&mut self, id: ValueId, piece: &Piece) -> Result<KernelId, Error> {
        let ((rows, cols), epilogue) = (piece.shape, piece.epilogue);
        let layout = self.distinct_layout(id, piece)?;
        let bytes = u32::try_from(layout.bytes())
            .map_err(|_| self.unsupported(id, "a matrix of more than 2 GiB without repeats"))?;
        Ok(self.kernel(KernelKind::Dup { rows, cols, epilogue, bytes }))
    }

    fn distinct_layout(&self, id: ValueId, piece: &Piece) -> Result<Layout, Error> {
        let (rows, cols) = piece.shape;
        let counts = self.counts(id, piece.weight)?;
        if piece.up.is_some() {
            return Err(self.unsupported(id, "the strategy dup has no kernel for gated units"));
        }
        Ok(Layout::Dup { weight: piece.weight, rows, cols, counts })
    }

    fn counts(&self, id: ValueId, weight: WeightId) -> Result<Counts, Error> {
        let counts = self.options.proofs.repeats.get(&weight).copied();
        counts.ok_or_else(|| self.unsupported(id, "the strategy dup has no repeats of this weight"))
    }

    /// The offset of a piece's weights in this form, if it is not code.
    fn place_piece(&mut self, id: ValueId, form: Form, piece: &Piece) -> Result<Option<u64>, Error> {
        let (rows, cols) = piece.shape;
        let layout = match (form, piece.up) {
            (Form::Code, _) => return Ok(None),
            (Form::Distinct, _) => self.distinct_layout(id, piece)?,
            (Form::Packed(packing), None) => Layout::Tiles { packing, weight: piece.weight, experts: 1, rows, cols },
            (Form::Packed(packing), Some(second)) => {
                Layout::TilePairs { packing, first: piece.weight, second, experts: 1, rows, cols }
            }
        };
        Ok(Some(self.plan.model.weights.place(layout)))
    }

    /// The units of matrix `member` among those of all matrices of a node: tiles, a batch of code, bands.
    fn split(&self, id: ValueId, form: Form, all: &[(WeightId, u32)], member: u32) -> Result<Split, Error> {
        let units = |(weight, rows): &(WeightId, u32)| {
            Ok(match form {
                Form::Packed(packing) => layout::trit_tiles(packing, *rows),
                Form::Code => 1,
                Form::Distinct => dup::bands(self.counts(id, *weight)?.distinct_rows),
            })
        };
        let units = all.iter().map(units).collect::<Result<Vec<u32>, Error>>()?;
        let (before, rest) = units.split_at(member as usize);
        let count = rest.first().copied().unwrap_or(0);
        Ok(Split::Units { start: before.iter().sum(), count, total: units.iter().sum() })
    }
}
