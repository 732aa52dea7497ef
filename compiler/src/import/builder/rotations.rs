//! Rotations by Hadamard matrices that a file asks for.
//!
//! In: the input of a matrix, or rows of an embedding. Out: the same, rotated, if the file says so. Upholds: a value that several
//! matrices read is rotated once.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Builder;
use crate::checkpoint::Fault;
use crate::graph::{DType, Op, Operand, Origin, ValueId, WeightId};
use crate::import::error::Error;
use crate::import::gguf_config::Hadamard;

impl Builder<'_> {
    /// `x`, the input of the matrix called `name`, rotated if the file wants it so.
    pub(in crate::import) fn rotated(&mut self, x: ValueId, name: &str, elems: u32) -> Result<ValueId, Error> {
        let name = self.dialect().file_name(name).into_owned();
        match self.config.hadamard.as_ref().filter(|hadamard| hadamard.rotates(&name)) {
            None => Ok(x),
            Some(_) if self.rotated.contains_key(&x) => Ok(self.rotated.get(&x).copied().unwrap_or(x)),
            Some(hadamard) => {
                let y = self.hadamard(x, hadamard, &name, elems, 0)?;
                self.rotated.insert(x, y);
                Ok(y)
            }
        }
    }

    /// Rows `x` of the embedding table called `name`, rotated back if the file wants it so.
    pub(in crate::import) fn restored(&mut self, x: ValueId, name: &str, elems: u32) -> Result<ValueId, Error> {
        match self.config.hadamard.as_ref().filter(|hadamard| hadamard.restores_embedding()) {
            None => Ok(x),
            Some(hadamard) => self.hadamard(x, hadamard, name, elems, 1),
        }
    }

    fn hadamard(&mut self, x: ValueId, how: &Hadamard, name: &str, elems: u32, behind: u32) -> Result<ValueId, Error> {
        let block = how.block;
        if !elems.is_multiple_of(block) || how.signs.as_ref().is_some_and(|signs| !signs.contains_key(&elems)) {
            let found = format!("a matrix of {elems} columns");
            let expected = format!("multiples of the {block} that are rotated together, with signs for their number");
            let fault = Fault::new(self.config.source.as_str(), found, expected).tensor(self.dialect().file_name(name));
            return Err(Error::input(fault.next("the rotations that the file asks for do not fit it: fetch it again")));
        }
        let signs = format!("hadamard_signs.{elems}");
        let known = self.graph.weights.iter().position(|decl| decl.name == signs);
        let signs = match known {
            Some(at) => WeightId(at as u32),
            None => self.declare(&signs, DType::F32, &[elems], None, Origin::HadamardSigns),
        };
        self.op(Op::Hadamard { block, behind }, [Operand::Value(x), Operand::Weight(signs)])
    }
}
