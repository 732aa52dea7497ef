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
    Arg, BufferId, Choice, Error, KernelId, Many, Part, ProductKey, RowKind, Single, Split, Table, layout,
};
use crate::strategy::Slot;
use crate::strategy::offer::packing;

/// How a node is computed for one token, or for several.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// From packed weights.
    Packed(TritPacking),
    /// The weights are code.
    Code,
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
        Ok(vec![self.piece(id, how, &piece, &[rows])?])
    }

    pub(super) fn ternary_cat(&mut self, id: ValueId, strategies: [Strategy; 2]) -> Result<Vec<Place>, Error> {
        let how = self.how(id, strategies)?;
        let members = self.graph.node(id).operands.len() - 1;
        let weights: Vec<WeightId> = (1..=members).map(|i| self.weight(id, i)).collect::<Result<_, _>>()?;
        let shapes = weights.iter().map(|w| self.trit_shape(id, *w)).collect::<Result<Vec<_>, _>>()?;
        let all_rows: Vec<u32> = shapes.iter().map(|(rows, ..)| *rows).collect();
        let mut places = Vec::new();
        for (member, (weight, (rows, cols, scale))) in weights.into_iter().zip(shapes).enumerate() {
            let (member, shape, last) = (member as u32, (rows, cols), Arg::F32(F32::new(0.0)));
            let epilogue = Epilogue::Scale;
            let piece = Piece { member, weight, up: None, shape, epilogue, scale, last, also: None };
            places.push(self.piece(id, how, &piece, &all_rows)?);
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
                _ => packing(strategy).map(Form::Packed).ok_or_else(missing),
            }
        };
        let has_table = matches!(many, Strategy::Lut2 | Strategy::Lut5);
        if has_table && ternary.table.is_none() {
            return Err(self.unsupported(id, "the target has no table product"));
        }
        Ok(How { one: form(one)?, many: form(many)?, has_table, strategies: [one, many] })
    }

    /// The call of one piece; `all_rows` are those of all matrices of the node, whose tiles threads share.
    fn piece(&mut self, id: ValueId, how: How, piece: &Piece, all_rows: &[u32]) -> Result<Place, Error> {
        let (x, space) = match self.place(id, 0, 0)? {
            Place::Buffer { id, wanted: false } => (id, self.buffer_space(id)),
            Place::Buffer { .. } | Place::Kv(_) | Place::Caller => {
                return Err(self.unsupported(id, "x must be a whole quantised buffer"));
            }
        };
        let (rows, _) = piece.shape;
        let kind = if piece.epilogue == Epilogue::Sums { RowKind::I32 } else { RowKind::F32 };
        let out = self.buffer(id, piece.member, kind, rows, space);
        let (one, many) = (self.place_piece(how.one, piece), self.place_piece(how.many, piece));
        let split = split(how.many, all_rows, piece.member);
        // What one token prepares must serve all of its share.
        let is_whole = matches!(how.one, Form::Packed(TritPacking::N4 | TritPacking::C2) | Form::Code);
        let single = (is_whole || how.one != how.many).then(|| Single {
            weights: one.or(many).unwrap_or(0),
            split: self::split(how.one, all_rows, piece.member),
            is_whole,
        });
        let weights = many.or(one).map_or(Arg::F32(F32::new(0.0)), |offset| Arg::Weights { offset });
        let kernel = self.choice(id, how, piece)?;
        let args = vec![
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
                (kernel, Some(Many { kernel, tokens: self.options.code.tokens, parts: 1, from: 2 }))
            }
        };
        Ok(Choice::ByRows { one, few, many })
    }

    /// The kernel that a piece's weights are.
    fn code(&mut self, id: ValueId, piece: &Piece) -> Result<KernelId, Error> {
        let ((rows, cols), tokens) = (piece.shape, self.options.code.tokens);
        let Some(program) = self.options.code.programs.get(&piece.weight).filter(|_| piece.up.is_none()) else {
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

    /// The offset of a piece's weights in this form, if it is not code.
    fn place_piece(&mut self, form: Form, piece: &Piece) -> Option<u64> {
        let Form::Packed(packing) = form else { return None };
        let (rows, cols) = piece.shape;
        Some(self.plan.model.weights.place(match piece.up {
            None => Layout::Tiles { packing, weight: piece.weight, rows, cols },
            Some(second) => Layout::TilePairs { packing, first: piece.weight, second, rows, cols },
        }))
    }
}

/// The units of matrix `member` among those of all matrices of a node: tiles, or a batch of code.
fn split(form: Form, all_rows: &[u32], member: u32) -> Split {
    let units = |rows: &u32| match form {
        Form::Packed(packing) => layout::trit_tiles(packing, *rows),
        Form::Code => 1,
    };
    let (before, rest) = all_rows.split_at(member as usize);
    let start = before.iter().map(units).sum();
    Split::Units { start, count: rest.first().map_or(0, units), total: all_rows.iter().map(units).sum() }
}
