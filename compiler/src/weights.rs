//! The data behind a graph's weights, decoded.
//!
//! In: a [`WeightId`]. Out: canonical trits or dense elements, whole or by bands of rows. The graph never holds data;
//! whoever needs it (the interpreter, packing, `tern inspect`) asks a [`WeightData`].

pub mod repeats;
pub mod signs;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::graph::{DenseType, WeightId};

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
        self.check_shape(rows, cols)?;
        match self.data.iter().find(|t| !(-1..=1).contains(*t)) {
            Some(t) => Err(format!("{t} is not a trit")),
            None => Ok(()),
        }
    }

    fn check_shape(&self, rows: usize, cols: usize) -> Result<(), String> {
        if (self.rows, self.cols) == (rows, cols) && rows.checked_mul(cols) == Some(self.data.len()) {
            return Ok(());
        }
        let found = format!("{} trits as {} x {}", self.data.len(), self.rows, self.cols);
        Err(format!("the graph declares {rows} x {cols}, the data has {found}"))
    }

    /// Writes the codes (trit + 1) of `rows` of a `shape[0]` x `shape[1]` matrix.
    fn codes(&self, shape: [usize; 2], rows: Range<usize>, out: &mut [u8]) -> Result<(), String> {
        let [n, k] = shape;
        self.check_shape(n, k)?;
        let band = rows.start.saturating_mul(k)..rows.end.saturating_mul(k);
        let trits = self.data.get(band).filter(|trits| trits.len() == out.len());
        let trits = trits.ok_or_else(|| format!("rows {rows:?} of {n} x {k} are no {} codes", out.len()))?;
        for (code, trit) in out.iter_mut().zip(trits) {
            *code = trit.wrapping_add(1) as u8;
        }
        match trits.iter().find(|t| !(-1..=1).contains(*t)) {
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

/// The declared type of a dense matrix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DenseShape {
    /// Element type.
    pub dtype: DenseType,
    /// N.
    pub rows: usize,
    /// K.
    pub cols: usize,
}

impl Dense {
    /// Writes `rows` of a matrix of `shape` as they are stored, little endian, each at a multiple of `row_bytes`.
    fn copy_rows(&self, shape: DenseShape, rows: Range<usize>, row_bytes: usize, out: &mut [u8]) -> Result<(), String> {
        self.check(shape.rows.checked_mul(shape.cols), shape.dtype)?;
        for (row, out) in rows.zip(out.chunks_mut(row_bytes.max(1))) {
            let elems = row.saturating_mul(shape.cols)..row.saturating_add(1).saturating_mul(shape.cols);
            let outside = || format!("there is no row {row} of {}", shape.rows);
            match self {
                Dense::F32(v) => {
                    for (x, bytes) in v.get(elems).ok_or_else(outside)?.iter().zip(out.chunks_exact_mut(4)) {
                        bytes.copy_from_slice(&x.to_le_bytes());
                    }
                }
                Dense::F16(v) | Dense::Bf16(v) => {
                    for (x, bytes) in v.get(elems).ok_or_else(outside)?.iter().zip(out.chunks_exact_mut(2)) {
                        bytes.copy_from_slice(&x.to_le_bytes());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Gives the data of a graph's weights, to any thread.
pub trait WeightData: Sync {
    /// The trits of a `trit` weight.
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError>;
    /// The elements of a dense weight (`f32`, `f16`, `bf16`), checkpoint tensor or generated table.
    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError>;

    /// Writes the codes of `rows` of a ternary matrix (trit + 1) or of one of four bits, which must have `shape`, row after row
    /// into `out`.
    ///
    /// # Errors
    /// Data that cannot be had, has another shape or is not ternary; `out` is then worthless.
    fn codes(
        &self,
        weight: WeightId,
        shape: [usize; 2],
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        let written = self.trits(weight)?.codes(shape, rows, out);
        written.map_err(|reason| WeightError { name: format!("@{}", weight.0), reason })
    }

    /// Writes `rows` of a dense matrix, which must have `shape`, as they are stored, little endian, each at a multiple
    /// of `row_bytes` of `out`; bytes behind a row's elements stay as they are.
    ///
    /// # Errors
    /// Data that cannot be had or has another shape; `out` is then worthless.
    fn dense_rows(
        &self,
        weight: WeightId,
        shape: DenseShape,
        rows: Range<usize>,
        row_bytes: usize,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        let written = self.dense(weight)?.copy_rows(shape, rows, row_bytes, out);
        written.map_err(|reason| WeightError { name: format!("@{}", weight.0), reason })
    }

    /// The weight will hardly be asked for again: what was kept for it may go.
    fn release(&self, _weight: WeightId) {}
}

/// Weights held in memory: for generated models, tests and examples.
#[derive(Clone, Default, Debug)]
pub struct MemoryWeights {
    /// The trits of `trit` weights.
    pub trits: BTreeMap<WeightId, Trits>,
    /// The codes of `u4` weights, row-major, with N and K.
    pub nibbles: BTreeMap<WeightId, ([usize; 2], Vec<u8>)>,
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

    fn codes(
        &self,
        weight: WeightId,
        shape: [usize; 2],
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        let written = match self.nibbles.get(&weight) {
            None => self.trits(weight)?.codes(shape, rows, out),
            Some((found, codes)) => {
                let [_, k] = shape;
                let band = rows.start.saturating_mul(k)..rows.end.saturating_mul(k);
                match codes.get(band).filter(|codes| *found == shape && codes.len() == out.len()) {
                    Some(codes) => {
                        out.copy_from_slice(codes);
                        Ok(())
                    }
                    None => Err(format!("the graph declares {shape:?}, the data has {found:?}")),
                }
            }
        };
        written.map_err(|reason| WeightError { name: format!("@{}", weight.0), reason })
    }
}
