//! Dense numbers out of blocks.
//!
//! In: a tensor in any encoding that tern decodes. Out: its elements in f32, some or all. Ternary encodings are read as dense
//! numbers too: that is how embeddings of ternary files are stored.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::super::super::error::Error;
use super::super::super::tensor::Tensor;
use super::super::encoding::Encoding;
use super::ternary::Matrix;
use super::{MAX_BLOCK_BYTES, RowOrder, dense_block};

/// The elements `elems` of `tensor`, which has `encoding`, in the order in which the shape counts them.
///
/// # Errors
/// An encoding that is not decoded, damage. Bug: there are not so many elements.
pub fn widen_range(tensor: &Tensor<'_>, encoding: Encoding, elems: Range<usize>) -> Result<Vec<f32>, Error> {
    let missing = || Error::Bug(format!("elements {elems:?} were asked of {tensor:?}"));
    if elems.start > elems.end || elems.end > tensor.len_elems() {
        return Err(missing());
    }
    // Whole units that hold the range: blocks, or rows of a ternary matrix.
    let cols = tensor.shape().last().copied().unwrap_or(1).max(1);
    let unit = if encoding.is_ternary() { cols } else { encoding.geometry().block_elems.max(1) };
    let units = elems.start.checked_div(unit).unwrap_or(0)..elems.end.div_ceil(unit);
    let wide = if encoding.is_ternary() {
        let rows = tensor.len_elems().checked_div(cols).unwrap_or(0);
        // A matrix of any rank is rows of its last dimension.
        let shape = [rows, cols];
        let flat = Tensor { shape: &shape, ..*tensor };
        Matrix::new(flat, shape, RowOrder::AsIs)?.doubling().weights(units.clone())?
    } else {
        blocks(tensor, encoding, units.clone())?
    };
    let first = elems.start.saturating_sub(units.start.saturating_mul(unit));
    let wide = wide.get(first..first.saturating_add(elems.len())).ok_or_else(missing)?;
    Ok(wide.to_vec())
}

fn blocks(tensor: &Tensor<'_>, encoding: Encoding, blocks: Range<usize>) -> Result<Vec<f32>, Error> {
    let Some(decode) = dense_block(encoding) else {
        let found = format!("elements of type {encoding}");
        let names = Encoding::DENSE.map(Encoding::name).join(", ");
        let expected = format!("F32, F16, BF16, {names} or a ternary type");
        let fault = tensor.fault(found, expected);
        return Err(Error::unsupported(fault.next("take a file of the same model in one of these types")));
    };
    let geometry = encoding.geometry();
    let mut out = vec![0.0; blocks.len().saturating_mul(geometry.block_elems)];
    for (block, out) in blocks.zip(out.chunks_exact_mut(geometry.block_elems.max(1))) {
        let start = block.saturating_mul(geometry.block_bytes);
        let stored = tensor.bytes.get(start..start.saturating_add(geometry.block_bytes));
        let mut copy = [0; MAX_BLOCK_BYTES];
        let (Some(stored), Some(copy)) = (stored, copy.get_mut(..geometry.block_bytes)) else {
            return Err(Error::Bug(format!("{} lost block {block}", tensor.name())));
        };
        copy.copy_from_slice(stored);
        decode(copy, out);
        if out.iter().any(|weight| !weight.is_finite()) {
            let fault = tensor.fault_at(start, "an infinity or NaN", "finite numbers");
            return Err(Error::input(fault.next("the weights are damaged: fetch them again")));
        }
    }
    Ok(out)
}
