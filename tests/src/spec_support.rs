//! What the tests generated from the spec tables do.
//!
//! In: an example, a violation or a rule's name, from `tests/tests/generated/`. Out: a passed test, or a panic that says
//! what differs. Rule soundness is in [`rules`], which draws the operands that a pattern needs with [`build`].

pub mod build;
pub mod rules;
pub mod types;

use std::collections::BTreeMap;

use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp::{Inputs, Value, Want, eval_graph};
use tern_compiler::graph::parse::parse;
use tern_compiler::graph::verify::verify;
use tern_compiler::graph::{DType, Dim, Graph, WeightDecl, WeightId};
use tern_compiler::weights::{Dense, MemoryWeights, Trits};

/// Both arithmetic profiles.
pub const PROFILES: [Profile; 2] = [Profile::Fma, Profile::Plain];

/// An example of an op.
#[derive(Debug)]
pub struct Example {
    /// The op that it shows.
    pub op: &'static str,
    /// A graph in the text form.
    pub graph: &'static str,
    /// The elements of each weight, row-major.
    pub weights: &'static [&'static [f32]],
    /// The tokens of one step from position 0; every row is wanted.
    pub ids: &'static [u32],
    /// The value that is compared.
    pub node: u32,
    /// What it must be.
    pub expect: Expect,
    /// The largest absolute difference of f32 elements; 0 compares exactly.
    pub tolerance: f32,
}

/// The value that an example expects.
#[derive(Debug)]
pub enum Expect {
    /// An f32 tensor.
    F32(&'static [f32]),
    /// An i32 tensor.
    I32(&'static [i32]),
    /// Quantised rows: all codes, and a scale per row.
    Q8 {
        /// The codes of all rows.
        codes: &'static [i8],
        /// The scale of each row.
        scales: &'static [f32],
    },
    /// A tuple of f32 tensors.
    Tuple(&'static [&'static [f32]]),
}

/// Parses, prints, verifies and runs an example in both profiles, and compares.
///
/// # Panics
/// If any of that does not hold.
pub fn check_example(example: &Example) {
    let graph = parse(example.graph).expect("the example parses");
    assert!(graph.nodes.iter().any(|n| n.op.name() == example.op), "the example has no {}", example.op);
    let printed = graph.to_string();
    assert_eq!(parse(&printed).as_ref(), Ok(&graph), "the printed example parses back to itself:\n{printed}");
    verify(&graph).expect("the example verifies");
    let weights = memory_weights(&graph, example.weights);
    for profile in PROFILES {
        let inputs = Inputs { ids: example.ids, pos: 0, want: Want::All, overrides: &BTreeMap::new() };
        let values = eval_graph(&graph, &weights, profile, &inputs).expect("the example runs");
        let found = &values[example.node as usize];
        assert!(
            is_expected(found, &example.expect, example.tolerance),
            "%{} under {}: found {found:?}, expected {:?} within {}",
            example.node,
            profile.name(),
            example.expect,
            example.tolerance,
        );
    }
}

/// Parses a graph and asserts that the verifier refuses it by `id`, such as `rmsnorm C1`, and by no other constraint of
/// that op. Other ops and invariants may complain too: a row too long for one op is too long for its reader.
///
/// # Panics
/// If that does not hold.
pub fn check_violation(id: &str, text: &str) {
    let graph = parse(text).expect("a violation is well-formed text");
    let Err(errors) = verify(&graph) else { panic!("the verifier accepts a violation of {id}:\n{text}") };
    let named = errors.errors().iter().any(|e| e.invariant == id && e.to_string().contains(id));
    assert!(named, "expected {id} among:\n{errors}");
    let op = id.split(' ').next().unwrap_or(id);
    let of_op = |invariant: &str| invariant.strip_prefix(op).is_some_and(|rest| rest.starts_with(' '));
    let others = errors.errors().iter().filter(|e| of_op(&e.invariant) && e.invariant != id).count();
    assert_eq!(others, 0, "expected {id} alone of {op}:\n{errors}");
}

fn is_expected(found: &Value, expected: &Expect, tolerance: f32) -> bool {
    let near = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance);
    match (found, expected) {
        (Value::F32(found), Expect::F32(expected)) => near(&found.data, expected),
        (Value::I32(found), Expect::I32(expected)) => found.data == *expected,
        (Value::Q8(rows), Expect::Q8 { codes, scales }) => {
            let found: Vec<i8> = rows.iter().flat_map(|row| row.codes.iter().copied()).collect();
            let sums = rows.iter().all(|row| row.sum == row.codes.iter().map(|&c| i32::from(c)).sum::<i32>());
            found == *codes && sums && rows.iter().map(|row| row.scale).eq(scales.iter().copied())
        }
        (Value::Tuple(found), Expect::Tuple(expected)) => {
            let same = |(found, expected): (&Value, &&[f32])| match found {
                Value::F32(found) => near(&found.data, expected),
                _ => false,
            };
            found.len() == expected.len() && found.iter().zip(*expected).all(same)
        }
        _ => false,
    }
}

/// The weights of a graph from numbers: dense ones rounded to their element type, trits as they are.
///
/// # Panics
/// If the numbers do not fit the declarations.
pub fn memory_weights(graph: &Graph, data: &[&[f32]]) -> MemoryWeights {
    assert_eq!(graph.weights.len(), data.len(), "weights declared and given");
    let mut weights = MemoryWeights::default();
    for (i, (decl, data)) in graph.weights.iter().zip(data).enumerate() {
        insert(&mut weights, WeightId(i as u32), decl, data);
    }
    weights
}

/// Adds one weight from numbers.
///
/// # Panics
/// If the numbers do not fit the declaration.
pub fn insert(weights: &mut MemoryWeights, id: WeightId, decl: &WeightDecl, data: &[f32]) {
    let dims: Vec<usize> = decl.ty.dims.iter().filter_map(|d| d.as_const()).map(|n| n as usize).collect();
    assert_eq!(dims.iter().product::<usize>(), data.len(), "elements of {:?}", decl.name);
    let dense = match decl.ty.dtype {
        DType::F32 => Dense::F32(data.to_vec()),
        DType::F16 => Dense::F16(data.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect()),
        DType::Bf16 => Dense::Bf16(data.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect()),
        DType::Trit => {
            let (rows, cols) = match decl.ty.dims[..] {
                [Dim::Const(rows), Dim::Const(cols)] => (rows, cols),
                [Dim::Const(experts), Dim::Const(rows), Dim::Const(cols)] => (experts * rows, cols),
                _ => panic!("trits have two dimensions, or three"),
            };
            let trits = data.iter().map(|&x| x as i8).collect::<Vec<_>>();
            assert!(trits.iter().zip(data).all(|(&t, &x)| f32::from(t) == x && t.abs() <= 1), "trits are -1, 0, 1");
            weights.trits.insert(id, Trits { rows: rows as usize, cols: cols as usize, data: trits });
            return;
        }
        DType::U4 => {
            let codes = data.iter().map(|&x| x as u8).collect::<Vec<_>>();
            assert!(codes.iter().zip(data).all(|(&q, &x)| f32::from(q) == x && q <= 15), "codes are 0 to 15");
            weights.nibbles.insert(id, ([dims[0], dims[1]], codes));
            return;
        }
        DType::I32 | DType::Q8 | DType::Route => panic!("no weight is {}", decl.ty.dtype.name()),
    };
    weights.dense.insert(id, dense);
}
