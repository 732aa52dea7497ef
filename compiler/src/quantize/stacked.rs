//! The matrices of a mixture of experts.
//!
//! In: the graph in which every dense matrix is declared ternary. Out: each of them, those of experts one by one: an expert's scale is its
//! own, and so is its error. The router stays dense, as embeddings, head and norms do.

use super::{Error, Matrix};
use crate::graph::{DType, Graph, WeightId};
use crate::import::dialect::of_expert;

/// All matrices that become ternary, in model order.
pub(super) fn matrices(graph: &Graph) -> Result<Vec<Matrix>, Error> {
    let mut matrices = Vec::new();
    for (at, decl) in graph.weights.iter().enumerate().filter(|(_, decl)| decl.ty.dtype == DType::Trit) {
        let id = WeightId(at as u32);
        let dims: Vec<usize> = decl.ty.dims.iter().filter_map(|dim| dim.as_const()).map(|n| n as usize).collect();
        match *dims.as_slice() {
            [rows, cols] => matrices.push(Matrix { id, name: decl.name.clone(), first: 0, rows, cols }),
            [experts, rows, cols] => matrices.extend((0..experts).map(|expert| {
                let name = of_expert(&decl.name, expert as u32);
                Matrix { id, name, first: expert * rows, rows, cols }
            })),
            _ => return Err(Error::Bug(format!("{} is ternary, and is {}", decl.name, decl.ty))),
        }
    }
    Ok(matrices)
}
