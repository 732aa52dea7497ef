//! The text form of graphs under random graphs and damaged texts.
//!
//! A graph that prints parses back to itself; a text that is damaged gives errors, never a panic. Failing inputs are
//! shrunk, printed and kept beside this file.

use proptest::prelude::*;
use tern_compiler::generated::ops::OPS;
use tern_compiler::graph::Strategy as Computed;
use tern_compiler::graph::infer::{infer, operand_types};
use tern_compiler::graph::parse::parse;
use tern_compiler::graph::verify::{verify, verify_compiled};
use tern_compiler::graph::{
    Act, Attr, DType, Dim, F32, Graph, Node, Op, Operand, Origin, RopeScaling, RopeSpec, TensorType, Type, ValueId,
    WeightDecl, WeightId,
};
use tern_compiler::spec::{AttrKind, DimPattern, OperandKind, TypePattern};

/// The choices behind one node: op, block, and the start of the search for operands and attributes.
type Choice = (u8, Option<u8>, u32);

/// A 32-bit linear congruential generator; the high half is given out.
struct Rng(u32);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as usize % n.max(1)
    }

    fn real(&mut self) -> F32 {
        let bits = (self.below(1 << 16) << 16 | self.below(1 << 16)) as u32;
        [F32::new(0.5), F32::new(1e-5), F32::from_bits(bits)][self.below(3)]
    }
}

/// Weights of all kinds in a few small shapes, so that operands often fit.
fn declare_weights(graph: &mut Graph, names: &[String], rng: &mut Rng) {
    let shapes: [(DType, &[u32]); 13] = [
        (DType::Bf16, &[9, 8]),
        (DType::F32, &[8]),
        (DType::F32, &[16, 4]),
        (DType::Trit, &[8, 8]),
        (DType::Trit, &[4, 8]),
        (DType::Trit, &[8, 4]),
        (DType::F16, &[4]),
        (DType::F32, &[8, 4]),
        (DType::F32, &[8, 2]),
        (DType::U4, &[8, 8]),
        (DType::Trit, &[8, 8, 8]),
        (DType::F32, &[8, 8, 2]),
        (DType::F32, &[8, 8, 4]),
    ];
    for (i, (dtype, dims)) in shapes.into_iter().enumerate() {
        let scaling = match rng.below(4) {
            0 => RopeScaling::None,
            1 => RopeScaling::Linear { factor: rng.real() },
            2 => RopeScaling::Llama3 {
                factor: rng.real(),
                low_freq_factor: rng.real(),
                high_freq_factor: rng.real(),
                original_max_position: rng.below(9999) as u32,
            },
            _ => RopeScaling::Yarn {
                factor: rng.real(),
                beta_fast: rng.real(),
                beta_slow: rng.real(),
                attention_factor: rng.real(),
                original_max_position: rng.below(9999) as u32,
                truncate: rng.below(2) == 0,
            },
        };
        let (scale, origin) = match (dtype, i) {
            (DType::F32, 10..) => (None, Origin::TernaryScales),
            (DType::Trit, _) if rng.below(3) == 0 => (Some(rng.real()), Origin::OnlineAbsmean),
            (DType::Trit, _) if rng.below(2) == 0 => (Some(rng.real()), Origin::DenseTernary),
            (DType::Trit, _) => (Some(rng.real()), Origin::HfPacked),
            (DType::F32, 7..) if rng.below(2) == 0 => (None, Origin::TernaryScales),
            (DType::F32, 6) if rng.below(2) == 0 => (None, Origin::OnePlus),
            (DType::F32, 5) if rng.below(2) == 0 => (None, Origin::HadamardSigns),
            (DType::U4, _) => (None, Origin::Quant4),
            (_, 2) => (None, Origin::RopeTable(RopeSpec { theta: rng.real(), scaling })),
            _ => (None, Origin::Dense),
        };
        let dims: Vec<Dim> = dims.iter().map(|&n| Dim::Const(n)).collect();
        let name = names.get(i).cloned().unwrap_or_default();
        graph.declare(WeightDecl { name, ty: TensorType { dtype, dims }, scale, origin });
    }
}

/// A node of this op with operands that fit, if a few tries find them.
fn well_typed(graph: &Graph, op_index: usize, block: Option<u8>, rng: &mut Rng) -> Option<Node> {
    let spec = &OPS[op_index % OPS.len()];
    (0..60).find_map(|_| {
        let attrs: Vec<Attr> = spec
            .attrs
            .iter()
            .map(|attr| match attr.kind {
                AttrKind::U32 => Attr::U32([0, 1, 2, 4][rng.below(4)]),
                AttrKind::F32 => Attr::F32(rng.real()),
                AttrKind::Act => Attr::Act([Act::Relu2, Act::Silu, Act::Gelu][rng.below(3)]),
                AttrKind::Strategy => Attr::Strategy([Computed::Any, Computed::Dot2, Computed::Lut5][rng.below(3)]),
            })
            .collect();
        let op = Op::from_parts(spec.name, &attrs)?;
        let extra = if spec.name == "ternary_linear_cat" { 1 + rng.below(3) } else { 0 };
        let last = spec.operands.last().into_iter().cycle().take(extra);
        let operands = spec.operands.iter().chain(last).map(|operand| match operand.kind {
            OperandKind::Value => {
                let fits = |node: &Node| is_kind_of(&operand.pattern, &node.ty);
                let candidates: Vec<usize> = (0..graph.nodes.len()).filter(|&i| fits(&graph.nodes[i])).collect();
                Operand::Value(ValueId(candidates.get(rng.below(candidates.len())).copied().unwrap_or(0) as u32))
            }
            OperandKind::Weight => {
                let fits = |weight: &WeightDecl| is_kind_of(&operand.pattern, &Type::Tensor(weight.ty.clone()));
                let candidates: Vec<usize> = (0..graph.weights.len()).filter(|&i| fits(&graph.weights[i])).collect();
                Operand::Weight(WeightId(candidates.get(rng.below(candidates.len())).copied().unwrap_or(0) as u32))
            }
        });
        let mut node = Node { op, operands: operands.collect(), ty: NO_TYPE, block: block.map(u32::from) };
        node.ty = infer(op, &operand_types(graph, &node)?).ok()?;
        Some(node)
    })
}

/// A type for the moment before inference.
const NO_TYPE: Type = Type::Tuple(Vec::new());

/// Whether a type is of the kind that a pattern asks for; dimensions are left to luck.
fn is_kind_of(pattern: &TypePattern, ty: &Type) -> bool {
    match (pattern, ty) {
        (TypePattern::Tensor(pattern), Type::Tensor(ty)) => {
            let wants_routed = matches!(pattern.dims.first(), Some(DimPattern::Product(DimPattern::Tokens, _)));
            let is_any = matches!(pattern.dims.first(), Some(DimPattern::Row(_)));
            let is_routed = matches!(ty.dims.first(), Some(Dim::Routed(_)));
            let fits = pattern.dtype.fits(ty.dtype) && pattern.dims.len() == ty.dims.len();
            fits && (is_any || wants_routed == is_routed)
        }
        (TypePattern::Kv { .. }, Type::Kv { .. }) | (TypePattern::AnyTuple, Type::Tuple(_)) => true,
        (_, _) => false,
    }
}

fn build(name: String, names: &[String], choices: &[Choice], seed: u32) -> Graph {
    let mut graph = Graph { name, ..Graph::default() };
    let mut rng = Rng(seed);
    declare_weights(&mut graph, names, &mut rng);
    // Ids, positions and an embedding first: nothing else can start a graph.
    let starts = [(0, None, 0), (1, None, 0), (3, None, 0)];
    for &(op, block, start) in starts.iter().chain(choices) {
        rng.0 ^= start;
        if let Some(node) = well_typed(&graph, usize::from(op), block, &mut rng) {
            graph.push(node);
        }
    }
    let outputs = rng.below(4).min(graph.nodes.len());
    graph.outputs = (0..outputs).map(|_| ValueId(rng.below(graph.nodes.len()) as u32)).collect();
    graph
}

fn graphs() -> impl Strategy<Value = Graph> {
    let choice = (any::<u8>(), prop::option::weighted(0.7, 0u8..3), any::<u32>());
    let names = prop::collection::vec("(?s).{0,12}", 7);
    ("(?s).{0,20}", names, prop::collection::vec(choice, 0..40), any::<u32>())
        .prop_map(|(name, names, choices, seed)| build(name, &names, &choices, seed))
}

/// One change of a text: where (in 65536ths of its length), what, and with which piece.
type Damage = (u16, u8, usize);

const PIECES: &[&str] = &[
    "%",
    "@",
    "%0",
    "@0",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    "=",
    "\"",
    "\\",
    "\\u00",
    "//",
    "\n",
    "\r",
    "-",
    ".",
    "e",
    "0x",
    "1e999",
    "4294967296",
    "99999999999999999999",
    "T",
    "T*2",
    "*",
    "W",
    "kv",
    "kv[1, 2]",
    "f32",
    "trit[8, 8]",
    "block",
    "block 0 {",
    "return",
    "graph",
    "get",
    "relu2",
    "{index = 7}",
    "é",
    "\u{1F600}",
    "\0",
    "scale",
    "rope",
    "theta",
];

fn damaged(mut text: String, damages: &[Damage]) -> String {
    for &(place, kind, piece) in damages {
        let boundary = |mut at: usize, text: &str| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let at = boundary(usize::from(place) * text.len() / 65_536, &text);
        let end = boundary((at + piece % 40).min(text.len()), &text).max(at);
        let piece = PIECES[piece % PIECES.len()];
        match kind % 4 {
            0 => text.insert_str(at, piece),
            1 => text.replace_range(at..end, ""),
            2 => text.replace_range(at..end, piece),
            _ => {
                let copy = text[at..end].to_owned();
                text.insert_str(at, &copy);
            }
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_printed_graph_parses_back_to_itself(graph in graphs()) {
        let text = graph.to_string();
        let parsed = parse(&text);
        prop_assert_eq!(parsed.as_ref(), Ok(&graph), "{}", text);
    }

    #[test]
    fn a_damaged_text_never_panics(
        graph in graphs(),
        damages in prop::collection::vec((any::<u16>(), any::<u8>(), any::<usize>()), 1..12),
    ) {
        let text = damaged(graph.to_string(), &damages);
        match parse(&text) {
            Ok(graph) => {
                prop_assert_eq!(parse(&graph.to_string()), Ok(graph.clone()));
                // Whatever they say, they must say it without a panic.
                let _ = (verify(&graph), verify_compiled(&graph));
            }
            Err(errors) => {
                let lines = text.lines().count().max(1) as u32 + 1;
                for error in errors.errors() {
                    prop_assert!(1 <= error.line && error.line <= lines && error.column >= 1, "{}", error);
                }
            }
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        prop_assert!(parse(&text).is_err());
    }
}

#[test]
fn random_graphs_reach_every_op() {
    let mut seen = vec![0; OPS.len()];
    for seed in 0..1200 {
        let choices: Vec<Choice> = (0..40)
            .map(|i| ((seed * 13 + i * i * 5 + i * 7 + seed / 5 * i) as u8, Some((i % 3) as u8), i * 31))
            .collect();
        for node in build(String::new(), &[], &choices, seed).nodes {
            seen[OPS.iter().position(|spec| spec.name == node.op.name()).expect("every op is in the table")] += 1;
        }
    }
    for (spec, count) in OPS.iter().zip(seen) {
        assert!(count > 0, "no random graph has a {}", spec.name);
    }
}
