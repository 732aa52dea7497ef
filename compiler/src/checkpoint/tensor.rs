//! One named tensor as it is stored.
//!
//! In: what the header of a shard says, checked. Out: [`Tensor`], a view that knows where its bytes lie, so that every
//! complaint about them can name file, tensor and byte. Decoding is in `packed`, `absmean` and `dense`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use super::error::Fault;
use super::gguf::Encoding;

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoredType {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// Unsigned byte; packed trits are stored so.
    U8,
    /// Blocks of a GGUF file, dense or ternary.
    Block(Encoding),
    /// A type that no decoder of tern reads.
    Other(safetensors::Dtype),
}

impl From<safetensors::Dtype> for StoredType {
    fn from(dtype: safetensors::Dtype) -> Self {
        match dtype {
            safetensors::Dtype::F32 => StoredType::F32,
            safetensors::Dtype::F16 => StoredType::F16,
            safetensors::Dtype::BF16 => StoredType::Bf16,
            safetensors::Dtype::U8 => StoredType::U8,
            other => StoredType::Other(other),
        }
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoredType::F32 => f.write_str("F32"),
            StoredType::F16 => f.write_str("F16"),
            StoredType::Bf16 => f.write_str("BF16"),
            StoredType::U8 => f.write_str("U8"),
            StoredType::Block(encoding) => write!(f, "{encoding}"),
            StoredType::Other(dtype) => write!(f, "{dtype}"),
        }
    }
}

/// A tensor of a checkpoint: name, type, shape and bytes.
#[derive(Clone, Copy)]
pub struct Tensor<'c> {
    pub(super) name: &'c str,
    pub(super) stored: StoredType,
    pub(super) shape: &'c [usize],
    pub(super) file: &'c str,
    pub(super) offset_bytes: u64,
    pub(super) bytes: &'c [u8],
}

impl<'c> Tensor<'c> {
    /// Its name.
    pub fn name(&self) -> &'c str {
        self.name
    }
    /// How its elements are stored.
    pub fn stored(&self) -> StoredType {
        self.stored
    }
    /// Its shape, outermost dimension first; `[]` is a scalar.
    pub fn shape(&self) -> &'c [usize] {
        self.shape
    }
    /// The file that holds it.
    pub fn file(&self) -> &'c str {
        self.file
    }
    /// Where its first byte lies in that file.
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }
    /// Its bytes, as they are stored.
    pub fn bytes(&self) -> &'c [u8] {
        self.bytes
    }

    /// Its size on disk.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }
    /// Elements.
    pub fn len_elems(&self) -> usize {
        self.shape.iter().fold(1, |n: usize, &d| n.saturating_mul(d))
    }
    /// Whether its rows, one after the other, are a matrix of `shape`: a matrix is, and so are several that are stacked.
    pub(super) fn is_rows(&self, [rows, cols]: [usize; 2]) -> bool {
        let Some((last, outer)) = self.shape.split_last() else { return false };
        let all = outer.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        !outer.is_empty() && *last == cols && all == Some(rows)
    }
    /// A finding about this tensor.
    pub fn fault(&self, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault::new(self.file, found, expected).tensor(self.name).byte(self.offset_bytes)
    }
    /// A finding about the byte `index` of this tensor.
    pub(super) fn fault_at(&self, index: usize, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        self.fault(found, expected).byte(self.offset_bytes.saturating_add(index as u64))
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{:?} in {} at byte {}", self.name, self.stored, self.shape, self.file, self.offset_bytes)
    }
}
