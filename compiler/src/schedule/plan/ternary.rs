//! Ternary products to calls: for one token and for many, each by the strategy that the graph names.
//!
//! In: a ternary node. Out: a call for each of its matrices. Where decoding reads another packing than prompts do, both are
//! placed, and the call has a [`Single`].

use super::{Place, Planner, here, part_of, rows_of};
use crate::graph::{F32, Strategy, ValueId, WeightId};
use crate::schedule::kernel::{Epilogue, KernelKind, Regime, TritPacking, Variant};
use crate::schedule::packing::Layout;
use crate::schedule::{Arg, BufferId, Choice, Error, Many, Part, ProductKey, RowKind, Single, Split, layout};
use crate::strategy::Slot;
use crate::strategy::offer::packing;

/// How a node is computed.
#[derive(Clone, Copy)]
struct How {
    /// What one token reads.
    one: TritPacking,
    /// What several read.
    many: TritPacking,
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
        let read = |strategy: Strategy| {
            let missing = || self.unsupported(id, &format!("the strategy {} has no kernel here", strategy.name()));
            packing(strategy).ok_or_else(missing)
        };
        let has_table = matches!(many, Strategy::Lut2 | Strategy::Lut5);
        if has_table && ternary.table.is_none() {
            return Err(self.unsupported(id, "the target has no table product"));
        }
        Ok(How { one: read(one)?, many: read(many)?, has_table, strategies: [one, many] })
    }

    /// The call of one piece; `all_rows` are those of all matrices of the node, whose tiles threads share.
    fn piece(&mut self, id: ValueId, how: How, piece: &Piece, all_rows: &[u32]) -> Result<Place, Error> {
        let (x, space) = match self.place(id, 0, 0)? {
            Place::Buffer { id, wanted: false } => (id, self.buffer_space(id)),
            Place::Buffer { .. } | Place::Kv(_) | Place::Caller => {
                return Err(self.unsupported(id, "x must be a whole quantised buffer"));
            }
        };
        let (rows, cols) = piece.shape;
        let kind = if piece.epilogue == Epilogue::Sums { RowKind::I32 } else { RowKind::F32 };
        let out = self.buffer(id, piece.member, kind, rows, space);
        let offset = self.place_piece(how.many, piece);
        let split = split(how.many, all_rows, piece.member);
        // What one token prepares must serve all of its share.
        let is_whole = matches!(how.one, TritPacking::N4);
        let single = (is_whole || how.one != how.many).then(|| Single {
            weights: self.place_piece(how.one, piece),
            split: self::split(how.one, all_rows, piece.member),
            is_whole,
        });
        let epilogue = piece.epilogue;
        let variant_of = |slot: Slot| {
            let (strategy, is_gated) = (how.strategies[slot as usize], piece.up.is_some());
            let key = ProductKey { slot, strategy, rows, cols, is_gated };
            self.options.variants.get(&key).copied().unwrap_or_default()
        };
        let [of_one, of_many] = Slot::ALL.map(variant_of);
        let kind_of = |packing, regime, variant| KernelKind::Ternary { packing, rows, cols, epilogue, regime, variant };
        let many = self.options.ternary.table.filter(|_| how.has_table).map(|table| {
            let kernel = self.kernel(kind_of(how.many, Regime::Table { tokens: table.tokens }, of_many));
            Many { kernel, tokens: table.tokens, from: table.from }
        });
        let one = self.kernel(kind_of(how.one, Regime::Gemv, of_one));
        // What was measured for many tokens says nothing of a few, unless the same kernel computes both.
        let of_few = if how.has_table { Variant::default() } else { of_many };
        let few = self.kernel(kind_of(how.many, Regime::Gemm, of_few));
        let args = vec![
            Arg::Weights { offset },
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
        self.call(id, Choice::ByRows { one, few, many }, args, split, reads, Some(out));
        if let Some(call) = self.plan.calls.last_mut() {
            call.single = single;
        }
        Ok(here(out))
    }

    /// The offset of a piece's weights in this packing.
    fn place_piece(&mut self, packing: TritPacking, piece: &Piece) -> u64 {
        let (rows, cols) = piece.shape;
        self.plan.model.weights.place(match piece.up {
            None => Layout::Tiles { packing, weight: piece.weight, rows, cols },
            Some(second) => Layout::TilePairs { packing, first: piece.weight, second, rows, cols },
        })
    }
}

/// The tiles of matrix `member` among those of all matrices of a node.
fn split(packing: TritPacking, all_rows: &[u32], member: u32) -> Split {
    let tiles = |rows: &u32| layout::trit_tiles(packing, *rows);
    let (before, rest) = all_rows.split_at(member as usize);
    let start = before.iter().map(tiles).sum();
    Split::Units { start, count: rest.first().map_or(0, tiles), total: all_rows.iter().map(tiles).sum() }
}
