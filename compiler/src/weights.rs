//! The data behind a graph's weights, decoded.
//!
//! In: a [`WeightId`]. Out: canonical trits or dense elements. The graph never holds data; whoever needs it (the
//! interpreter, packing, `tern inspect`) asks a [`WeightData`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::graph::{DType, WeightId};

/// A ternary matrix, row-major: `data[n * cols + k]` is -1, 0 or +1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trits {
    /// N, the outputs.
    pub rows: usize,
    /// K, the inputs.
    pub cols: usize,
    /// `rows * cols` trits.
    pub data: Vec<i8>,
}

/// The element type of a dense weight.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DenseType {
    /// f32.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
}

impl DenseType {
    /// The dense type that `dtype` is, if it is one.
    pub const fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(DenseType::F32),
            DType::F16 => Some(DenseType::F16),
            DType::Bf16 => Some(DenseType::Bf16),
            DType::I32 | DType::Trit | DType::Q8 => None,
        }
    }
    /// As an element type of the graph.
    pub const fn dtype(self) -> DType {
        match self {
            DenseType::F32 => DType::F32,
            DenseType::F16 => DType::F16,
            DenseType::Bf16 => DType::Bf16,
        }
    }
    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        self.dtype().name()
    }
    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            DenseType::F32 => 4,
            DenseType::F16 | DenseType::Bf16 => 2,
        }
    }
}

/// Dense elements as they are stored, row-major; half-precision kinds as their bits.
#[derive(Clone, PartialEq, Debug)]
pub enum Dense {
    /// f32.
    F32(Vec<f32>),
    /// IEEE half bits.
    F16(Vec<u16>),
    /// bfloat16 bits.
    Bf16(Vec<u16>),
}

impl Dense {
    /// The element type.
    pub fn dense_type(&self) -> DenseType {
        match self {
            Dense::F32(_) => DenseType::F32,
            Dense::F16(_) => DenseType::F16,
            Dense::Bf16(_) => DenseType::Bf16,
        }
    }
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Dense::F32(v) => v.len(),
            Dense::F16(v) | Dense::Bf16(v) => v.len(),
        }
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Element `i`, widened exactly.
    ///
    /// # Panics
    /// If `i` is out of range.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Dense::F32(v) => v[i],
            Dense::F16(v) => half::f16::from_bits(v[i]).to_f32(),
            Dense::Bf16(v) => half::bf16::from_bits(v[i]).to_f32(),
        }
    }
}

/// The data could not be had.
#[derive(Debug, thiserror::Error)]
#[error("weight {name}: {reason}")]
pub struct WeightError {
    /// The weight's name.
    pub name: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Trits {
    /// Demands `rows` x `cols` trits.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self, rows: usize, cols: usize) -> Result<(), String> {
        if (self.rows, self.cols) != (rows, cols) || rows.checked_mul(cols) != Some(self.data.len()) {
            let found = format!("{} trits as {} x {}", self.data.len(), self.rows, self.cols);
            return Err(format!("the graph declares {rows} x {cols}, the data has {found}"));
        }
        match self.data.iter().find(|t| !(-1..=1).contains(*t)) {
            Some(t) => Err(format!("{t} is not a trit")),
            None => Ok(()),
        }
    }
}

impl Dense {
    /// Demands `elems` elements of `ty`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self, elems: Option<usize>, ty: DenseType) -> Result<(), String> {
        if elems == Some(self.len()) && self.dense_type() == ty {
            return Ok(());
        }
        let declared = elems.map_or("more than fit in memory".to_owned(), |n| n.to_string());
        let found = format!("{} of {}", self.len(), self.dense_type().name());
        Err(format!("the graph declares {declared} elements of {}, the data has {found}", ty.name()))
    }
}

/// Gives the data of a graph's weights.
pub trait WeightData {
    /// The trits of a `trit` weight.
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError>;
    /// The elements of a dense weight (`f32`, `f16`, `bf16`), checkpoint tensor or generated table.
    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError>;
}

/// Weights held in memory: for generated models, tests and examples.
#[derive(Clone, Default, Debug)]
pub struct MemoryWeights {
    /// The trits of `trit` weights.
    pub trits: BTreeMap<WeightId, Trits>,
    /// The elements of dense weights.
    pub dense: BTreeMap<WeightId, Dense>,
}

impl MemoryWeights {
    fn missing(weight: WeightId, kind: &str) -> WeightError {
        WeightError { name: format!("@{}", weight.0), reason: format!("no {kind} data was put in memory for it") }
    }
}

impl WeightData for MemoryWeights {
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError> {
        self.trits.get(&weight).map(Cow::Borrowed).ok_or_else(|| Self::missing(weight, "trit"))
    }

    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError> {
        self.dense.get(&weight).map(Cow::Borrowed).ok_or_else(|| Self::missing(weight, "dense"))
    }
}
