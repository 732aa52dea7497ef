//! Small models in source form, written as an importer writes them, and random data for their weights.

use tern_compiler::graph::infer::{infer, operand_types};
use tern_compiler::graph::{
    DType, Dim, F32, Graph, Node, Op, Operand, Origin, RopeScaling, RopeSpec, TensorType, Type, ValueId, WeightDecl,
    WeightId,
};
use tern_compiler::weights::{Dense, MemoryWeights, Trits};

/// Which graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arch {
    /// Sub-norms before o_proj and down_proj, relu^2.
    BitNet,
    /// No sub-norms, SiLU.
    Llama,
}

/// Sizes in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) layers: u32,
    pub(crate) hidden: u32,
    pub(crate) heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) inter: u32,
    pub(crate) vocab: u32,
}

impl Shape {
    fn head_dim(self) -> u32 {
        self.hidden / self.heads
    }
}

/// An operand in the making.
#[derive(Clone, Copy)]
pub(crate) struct Arg(Operand);

impl From<ValueId> for Arg {
    fn from(value: ValueId) -> Self {
        Self(Operand::Value(value))
    }
}

impl From<WeightId> for Arg {
    fn from(weight: WeightId) -> Self {
        Self(Operand::Weight(weight))
    }
}

/// Builds a model node by node.
pub(crate) struct Builder {
    graph: Graph,
    arch: Arch,
    shape: Shape,
    block: Option<u32>,
    positions: ValueId,
    embedding: WeightId,
    table: WeightId,
    caches: Vec<ValueId>,
    /// The residual stream, f32[T, hidden].
    pub(crate) x: ValueId,
}

impl Builder {
    pub(crate) fn new(arch: Arch, shape: Shape) -> Self {
        let mut graph = Graph { name: "test".to_owned(), ..Graph::default() };
        let decl = |name: &str, dtype, dims: [u32; 2], origin| WeightDecl {
            name: name.to_owned(),
            ty: TensorType::new(dtype, dims.map(Dim::Const)),
            scale: None,
            origin,
        };
        let spec = RopeSpec { theta: F32::new(10_000.0), scaling: RopeScaling::None };
        let embedding = graph.declare(decl("embed", DType::Bf16, [shape.vocab, shape.hidden], Origin::Dense));
        let table = graph.declare(decl("rope", DType::F32, [32, shape.head_dim()], Origin::RopeTable(spec)));
        let none = ValueId(0);
        let mut b =
            Self { graph, arch, shape, block: None, positions: none, embedding, table, caches: vec![], x: none };
        let ids = b.node(Op::InputIds, &[]);
        b.positions = b.node(Op::Positions, &[]);
        b.x = b.node(Op::Embed, &[ids.into(), embedding.into()]);
        b
    }

    /// What follows belongs to this block.
    pub(crate) fn enter(&mut self, block: u32) {
        self.block = Some(block);
    }

    pub(crate) fn node(&mut self, op: Op, operands: &[Arg]) -> ValueId {
        let operands: Vec<Operand> = operands.iter().map(|arg| arg.0).collect();
        let ty = Type::Tuple(Vec::new());
        let mut node = Node { op, operands, ty, block: self.block };
        let types = operand_types(&self.graph, &node).expect("operands of this graph");
        node.ty = infer(op, &types).expect("well-typed operands");
        self.graph.push(node)
    }

    pub(crate) fn trit(&mut self, rows: u32, cols: u32) -> WeightId {
        let count = self.graph.weights.len();
        self.graph.declare(WeightDecl {
            name: format!("w{count}"),
            ty: TensorType::new(DType::Trit, [rows, cols].map(Dim::Const)),
            // Every weight its own scale: equal blocks need not have equal scales.
            scale: Some(F32::new(0.01 * count as f32)),
            origin: Origin::HfPacked,
        })
    }

    pub(crate) fn dense(&mut self, rows: u32, cols: u32) -> WeightId {
        self.declare_dense(&[rows, cols])
    }

    fn declare_dense(&mut self, dims: &[u32]) -> WeightId {
        let dims: Vec<Dim> = dims.iter().map(|&n| Dim::Const(n)).collect();
        let name = format!("w{}", self.graph.weights.len());
        let ty = TensorType::new(DType::F32, dims);
        self.graph.declare(WeightDecl { name, ty, scale: None, origin: Origin::Dense })
    }

    pub(crate) fn norm(&mut self, x: ValueId, width: u32) -> ValueId {
        let gain = self.declare_dense(&[width]);
        self.node(Op::RmsNorm { eps: F32::new(1e-5) }, &[x.into(), gain.into()])
    }

    /// A bitlinear layer with a weight of its own.
    pub(crate) fn linear(&mut self, x: ValueId, rows: u32) -> ValueId {
        let cols = self.graph.node(x).ty.tensor().and_then(|ty| ty.row_elems()).expect("a row of known length");
        let weight = self.trit(rows, cols);
        self.linear_by(x, weight)
    }

    pub(crate) fn linear_by(&mut self, x: ValueId, weight: WeightId) -> ValueId {
        let x = self.node(Op::FakeQuant, &[x.into()]);
        let w = self.node(Op::Dequant, &[weight.into()]);
        self.node(Op::MatMul, &[x.into(), w.into()])
    }

    /// A transformer block with an intermediate size of its own.
    pub(crate) fn block(&mut self, block: u32, inter: u32) {
        self.enter(block);
        let Shape { hidden, kv_heads, .. } = self.shape;
        let (head_dim, positions, table) = (self.shape.head_dim(), self.positions, self.table);
        let cache = self.node(Op::KvCache { layer: block, heads: kv_heads, head_dim }, &[]);
        let x = self.x;
        let h = self.norm(x, hidden);
        let q = self.linear(h, hidden);
        let k = self.linear(h, kv_heads * head_dim);
        let v = self.linear(h, kv_heads * head_dim);
        let q = self.node(Op::Rope { head_dim }, &[q.into(), positions.into(), table.into()]);
        let k = self.node(Op::Rope { head_dim }, &[k.into(), positions.into(), table.into()]);
        let cache = self.node(Op::KvWrite, &[cache.into(), k.into(), v.into(), positions.into()]);
        let scale = F32::new(1.0 / (head_dim as f32).sqrt());
        let mut o = self.node(Op::Attention { scale }, &[q.into(), cache.into(), positions.into()]);
        if self.arch == Arch::BitNet {
            o = self.norm(o, hidden);
        }
        let o = self.linear(o, hidden);
        let x = self.node(Op::Add, &[x.into(), o.into()]);
        let h = self.norm(x, hidden);
        let gate = self.linear(h, inter);
        let up = self.linear(h, inter);
        let act = match self.arch {
            Arch::BitNet => Op::Relu2,
            Arch::Llama => Op::Silu,
        };
        let gate = self.node(act, &[gate.into()]);
        let mut m = self.node(Op::Mul, &[gate.into(), up.into()]);
        if self.arch == Arch::BitNet {
            m = self.norm(m, inter);
        }
        let down = self.linear(m, hidden);
        self.x = self.node(Op::Add, &[x.into(), down.into()]);
        self.caches.push(cache);
    }

    /// The head on the residual stream.
    pub(crate) fn finish(mut self) -> Graph {
        self.block = None;
        let x = self.x;
        let x = self.node(Op::WantedRows, &[x.into()]);
        let x = self.norm(x, self.shape.hidden);
        let head = self.embedding;
        let head = self.node(Op::Widen, &[head.into()]);
        let logits = self.node(Op::MatMul, &[x.into(), head.into()]);
        self.graph.outputs.push(logits);
        self.graph.outputs.append(&mut self.caches);
        self.graph
    }
}

/// A whole model.
pub(crate) fn model(arch: Arch, shape: Shape) -> Graph {
    let mut builder = Builder::new(arch, shape);
    for block in 0..shape.layers {
        builder.block(block, shape.inter);
    }
    builder.finish()
}

/// Data for every weight, the same for the same seed and declarations.
pub(crate) fn random_weights(graph: &Graph, seed: u32) -> MemoryWeights {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let mut weights = MemoryWeights::default();
    for (index, decl) in graph.weights.iter().enumerate() {
        let id = WeightId(index as u32);
        let dims: Vec<usize> = decl.ty.dims.iter().filter_map(|d| d.as_const()).map(|n| n as usize).collect();
        let elems: usize = dims.iter().product();
        let mut real = || next() as f32 / 32_768.0 - 1.0;
        match decl.ty.dtype {
            DType::Trit => {
                let data = (0..elems).map(|_| (next() % 3) as i8 - 1).collect();
                weights.trits.insert(id, Trits { rows: dims[0], cols: dims[1], data });
            }
            DType::Bf16 => {
                let data = (0..elems).map(|_| half::bf16::from_f32(real()).to_bits()).collect();
                weights.dense.insert(id, Dense::Bf16(data));
            }
            DType::F32 => {
                let data = (0..elems).map(|_| real()).collect();
                weights.dense.insert(id, Dense::F32(data));
            }
            DType::F16 | DType::U4 | DType::I32 | DType::Q8 | DType::Route => {
                unreachable!("the builder declares none such")
            }
        }
    }
    weights
}
