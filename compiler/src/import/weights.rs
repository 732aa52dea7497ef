//! The data behind an imported graph, decoded from the checkpoint when it is asked for.
//!
//! In: a weight id. Out: its trits or dense elements, whole or by bands, as [`WeightData`] wants them. Nothing is kept:
//! who reads a weight more than once keeps it, and pages of mapped files are given back when a weight has been read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::builder::four_bits::packed4_names;
use super::dialect::{Dialect, of_expert};
use super::error::Error;
use super::gguf_config::Signs;
use super::places::{self, Place};
use crate::checkpoint::gguf::types::RowOrder;
use crate::checkpoint::gguf::types::quant4::{self, Factor};
use crate::checkpoint::matrix::Matrix;
use crate::checkpoint::packed4::{self, Packing4};
use crate::checkpoint::{Checkpoint, Fault, Tensor, absmean, dense, packed};
use crate::graph::rope_table::rope_table;
use crate::graph::{DType, DenseType, Origin, TensorType, WeightDecl, WeightId};
use crate::weights::{Dense, DenseShape, Trits, WeightData, WeightError};

/// The weights of an imported graph. Cheap to clone: clones share the checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointWeights {
    checkpoint: Checkpoint,
    dialect: Dialect,
    decls: Arc<[WeightDecl]>,
    /// Of master weights: what each is multiplied by before it is rounded to a trit. Of scales: what multiplies each.
    quantisers: Arc<BTreeMap<WeightId, f32>>,
    /// Of stacked master weights: what those of each expert are multiplied by. Of scales of experts: those scales.
    of_experts: Arc<BTreeMap<WeightId, Vec<f32>>>,
    /// Those in front of Hadamard matrices; `None`: all are 1.
    signs: Option<Arc<Signs>>,
    /// Of AWQ and GPTQ.
    packing4: Option<Packing4>,
}

impl CheckpointWeights {
    /// The data of `decls`, whose names are in `dialect` those of `checkpoint` and whose origins are its.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        dialect: Dialect,
        decls: &[WeightDecl],
        (quantisers, of_experts): (BTreeMap<WeightId, f32>, BTreeMap<WeightId, Vec<f32>>),
        signs: Option<Arc<Signs>>,
        packing4: Option<Packing4>,
    ) -> Self {
        let (checkpoint, decls) = (checkpoint.clone(), decls.into());
        let (quantisers, of_experts) = (Arc::new(quantisers), Arc::new(of_experts));
        Self { checkpoint, dialect, decls, quantisers, of_experts, signs, packing4 }
    }

    /// The trits of `weight`.
    ///
    /// # Errors
    /// Damaged data; a weight that is not ternary.
    pub fn read_trits(&self, weight: WeightId) -> Result<Trits, Error> {
        let decl = self.decl(weight)?;
        let dims = const_dims(&decl.ty);
        let (rows, cols) = match *dims.as_slice() {
            [rows, cols] => (rows, cols),
            [experts, rows, cols] => (experts.saturating_mul(rows), cols),
            _ => return Err(not_ternary(decl)),
        };
        // The type of a declared weight has as many elements as the tensor that the importer checked it against.
        let mut codes = vec![0; rows.saturating_mul(cols)];
        self.read_codes(weight, [rows, cols], 0..rows, &mut codes)?;
        self.give_back(decl);
        Ok(Trits { rows, cols, data: codes.into_iter().map(|code| code as i8 - 1).collect() })
    }

    /// The elements of `weight`.
    ///
    /// # Errors
    /// Damaged data; a weight that is not dense.
    pub fn read_dense(&self, weight: WeightId) -> Result<Dense, Error> {
        let decl = self.decl(weight)?;
        let dims = const_dims(&decl.ty);
        match (&decl.origin, dims.as_slice()) {
            (Origin::Dense, &[_, cols]) => {
                let order = self.dialect.row_order(&decl.name);
                let half = decl.ty.dtype == DType::F16;
                let elems = dense::decode_matrix(&self.tensor(decl, None)?, cols, order, half);
                self.give_back(decl);
                Ok(elems?)
            }
            (Origin::Dense, _) => {
                let elems = dense::decode(&self.tensor(decl, None)?);
                self.give_back(decl);
                Ok(elems?)
            }
            (Origin::OnePlus, _) => {
                let elems = self.one_plus(decl);
                self.give_back(decl);
                Ok(Dense::F32(elems?))
            }
            // Both came out of u32 dimensions.
            (Origin::RopeTable(spec), &[rows, head_dim]) => {
                Ok(Dense::F32(rope_table(spec, head_dim as u32, 0..rows as u32)))
            }
            (Origin::TernaryScales, &[rows, groups]) => {
                let factors = self.factors(weight, 0..rows, groups);
                self.give_back(decl);
                Ok(Dense::F32(factors?))
            }
            (Origin::Quant4Scales | Origin::Quant4Offsets, &[rows, _]) => {
                let factors = self.quant4_factors(decl, 0..rows);
                self.give_back(decl);
                Ok(Dense::F32(factors?))
            }
            (Origin::TernaryScales, &[experts, rows, groups]) => {
                let factors = self.factors(weight, 0..experts.saturating_mul(rows), groups);
                self.give_back(decl);
                Ok(Dense::F32(factors?))
            }
            (Origin::TernaryScales, &[experts]) => {
                let scales = self.of_experts.get(&weight).filter(|scales| scales.len() == experts);
                let missing = || Error::Bug(format!("the import kept no scales of {}", decl.name));
                scales.cloned().map(Dense::F32).ok_or_else(missing)
            }
            (Origin::HadamardSigns, &[elems]) => Ok(Dense::F32(self.hadamard_signs(decl, elems)?)),
            (
                Origin::RopeTable(_)
                | Origin::HadamardSigns
                | Origin::HfPacked
                | Origin::OnlineAbsmean
                | Origin::Gguf
                | Origin::DenseTernary
                | Origin::TernaryScales
                | Origin::Quant4
                | Origin::Quant4Scales
                | Origin::Quant4Offsets,
                _,
            ) => Err(not_dense(decl)),
        }
    }

    /// Elements of some rows of the matrix behind `weight`, in f32 as they are stored, whatever the graph makes of them.
    pub(crate) fn masters(&self, weight: WeightId, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        self.read_masters(weight, rows).map_err(|e| self.named(weight, &e))
    }

    fn read_masters(&self, weight: WeightId, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let decl = self.decl(weight)?;
        let cols = const_dims(&decl.ty).last().copied().unwrap_or(0);
        let order = self.dialect.row_order(&decl.name);
        let mut all = Vec::new();
        for Piece { expert, rows } in pieces(decl, usize::MAX, rows) {
            let place = self.place(decl, expert)?;
            let mut read = |rows: Range<usize>| {
                let elems = rows.start.saturating_mul(cols)..rows.end.saturating_mul(cols);
                dense::widen_range(&place.tensor, elems).map(|elems| all.extend(elems))
            };
            match order {
                RowOrder::AsIs => read(place.rows(rows))?,
                order => rows.map(|row| order.stored(row)).try_for_each(|row| read(row..row.saturating_add(1)))?,
            }
        }
        Ok(all)
    }

    /// The codes of some rows of `weight`.
    fn read_codes(&self, weight: WeightId, shape: [usize; 2], rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let decl = self.decl(weight)?;
        let [all_rows, cols] = shape;
        let mut rest = out;
        for Piece { expert, rows } in pieces(decl, all_rows, rows) {
            let (own, behind) = rest.split_at_mut(rows.len().saturating_mul(cols).min(rest.len()));
            let shape = [expert.map_or(all_rows, |_| rows_of_each(decl)), cols];
            self.codes_of(weight, expert, shape, rows, own)?;
            rest = behind;
        }
        Ok(())
    }

    /// The codes of some rows of one matrix.
    fn codes_of(
        &self,
        weight: WeightId,
        expert: Option<u32>,
        shape: [usize; 2],
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let decl = self.decl(weight)?;
        match decl.origin {
            Origin::HfPacked => Ok(packed::codes(&self.tensor(decl, expert)?, shape, rows, out)?),
            Origin::OnlineAbsmean => {
                let of_expert = |expert: u32| self.of_experts.get(&weight)?.get(expert as usize);
                let quantise = expert.map_or_else(|| self.quantisers.get(&weight), of_expert);
                let missing = || Error::Bug(format!("the import kept no scale of {}", decl.name));
                let quantise = *quantise.ok_or_else(missing)?;
                Ok(absmean::codes(&self.tensor(decl, expert)?, quantise, shape, rows, out)?)
            }
            Origin::Gguf | Origin::DenseTernary => {
                let order = self.dialect.row_order(&decl.name);
                let (place, [each, cols]) = (self.place(decl, expert)?, shape);
                let all_rows = if expert.is_some() { place.all_rows } else { each };
                Ok(Matrix::new(place.tensor, [all_rows, cols], order)?.codes(place.rows(rows), out)?)
            }
            Origin::Quant4 if self.packing4.is_some() => {
                let groups = self.packed4_groups(decl)?;
                Ok(self.packed4(decl, shape, groups)?.codes(rows, out)?)
            }
            Origin::Quant4 => {
                let order = self.dialect.row_order(&decl.name);
                Ok(quant4::Matrix::new(self.tensor(decl, None)?, shape, order)?.codes(rows, out)?)
            }
            Origin::Dense
            | Origin::OnePlus
            | Origin::RopeTable(_)
            | Origin::TernaryScales
            | Origin::Quant4Scales
            | Origin::Quant4Offsets
            | Origin::HadamardSigns => Err(not_ternary(decl)),
        }
    }

    /// Some rows of `weight` as they are stored.
    fn read_rows(
        &self,
        weight: WeightId,
        shape: DenseShape,
        rows: Range<usize>,
        row_bytes: usize,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let decl = self.decl(weight)?;
        match decl.origin {
            Origin::Dense => {
                if decl.ty.dtype != shape.dtype.dtype() {
                    return Err(Error::Bug(format!("{shape:?} was asked of {}, {}", decl.name, decl.ty)));
                }
                let tensor = self.tensor(decl, None)?;
                let order = self.dialect.row_order(&decl.name);
                let half = shape.dtype == DenseType::F16;
                let to = (row_bytes, out);
                dense::copy_matrix(&tensor, [shape.rows, shape.cols], rows.clone(), to, order, half)?;
                let row_bytes = tensor.len_bytes() / shape.rows.max(1);
                self.checkpoint.release(tensor.name(), rows.start * row_bytes..rows.end * row_bytes);
                Ok(())
            }
            Origin::RopeTable(spec) => {
                if const_dims(&decl.ty) != [shape.rows, shape.cols] || shape.dtype != DenseType::F32 {
                    return Err(Error::Bug(format!("{shape:?} was asked of {}, {}", decl.name, decl.ty)));
                }
                let table = rope_table(&spec, shape.cols as u32, rows.start as u32..rows.end as u32);
                write_rows(&table, shape.cols, row_bytes, out);
                Ok(())
            }
            Origin::OnePlus => {
                write_rows(&self.one_plus(decl)?, shape.cols, row_bytes, out);
                Ok(())
            }
            Origin::HadamardSigns => {
                write_rows(&self.hadamard_signs(decl, shape.cols)?, shape.cols, row_bytes, out);
                Ok(())
            }
            Origin::TernaryScales => {
                let factors = self.factors(weight, rows, shape.cols)?;
                write_rows(&factors, shape.cols, row_bytes, out);
                Ok(())
            }
            Origin::Quant4Scales | Origin::Quant4Offsets => {
                write_rows(&self.quant4_factors(decl, rows)?, shape.cols, row_bytes, out);
                Ok(())
            }
            Origin::HfPacked | Origin::OnlineAbsmean | Origin::Gguf | Origin::DenseTernary | Origin::Quant4 => {
                Err(not_dense(decl))
            }
        }
    }

    /// 1 + w of a stored w, added in f32.
    fn one_plus(&self, decl: &WeightDecl) -> Result<Vec<f32>, Error> {
        Ok(dense::widen(&self.tensor(decl, None)?)?.into_iter().map(|w| 1.0 + w).collect())
    }

    /// The signs of rows of `elems` elements.
    fn hadamard_signs(&self, decl: &WeightDecl, elems: usize) -> Result<Vec<f32>, Error> {
        let Some(signs) = &self.signs else { return Ok(vec![1.0; elems]) };
        let missing = || Error::Bug(format!("the import kept no signs for {}", decl.name));
        u32::try_from(elems).ok().and_then(|elems| signs.get(&elems)).cloned().ok_or_else(missing)
    }

    /// Factors of some rows of the matrix that the scales `weight` belong to.
    fn factors(&self, weight: WeightId, rows: Range<usize>, groups: usize) -> Result<Vec<f32>, Error> {
        let decl = self.decl(weight)?;
        let order = self.dialect.row_order(&decl.name);
        let mut factors = Vec::new();
        for Piece { expert, rows } in pieces(decl, usize::MAX, rows) {
            let place = self.place(decl, expert)?;
            let cols = place.tensor.shape().last().copied().unwrap_or(0);
            let matrix = Matrix::new(place.tensor, [place.all_rows, cols], order)?;
            let before = factors.len();
            factors.extend(matrix.factors(place.rows(rows), groups)?);
            let beside = expert.and_then(|expert| self.of_experts.get(&weight)?.get(expert as usize));
            if let (Some(beside), Some(own)) = (beside, factors.get_mut(before..)) {
                own.iter_mut().for_each(|factor| *factor *= beside);
            }
        }
        if let Some(beside) = self.quantisers.get(&weight) {
            factors.iter_mut().for_each(|factor| *factor *= beside);
        }
        if let Some(at) = factors.iter().position(|factor| !factor.is_finite()) {
            let found = format!("factor {at} of those that were read, times the one beside them, is not finite");
            let fault = Fault::new(self.checkpoint.name(), found, "scales whose product f32 holds");
            let fault = fault.tensor(decl.name.as_str()).next("the weights are damaged: fetch them again");
            return Err(Error::input(fault));
        }
        Ok(factors)
    }

    /// Scales or offsets of some rows of a matrix of four bits a weight.
    fn quant4_factors(&self, decl: &WeightDecl, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let which = if decl.origin == Origin::Quant4Scales { Factor::Scale } else { Factor::Offset };
        if self.packing4.is_some() {
            let of_codes = self.decls.iter().find(|codes| codes.origin == Origin::Quant4 && codes.name == decl.name);
            let shape = of_codes.map(|codes| const_dims(&codes.ty));
            let (Some(&[n, k]), &[_, groups]) = (shape.as_deref(), const_dims(&decl.ty).as_slice()) else {
                return Err(Error::Bug(format!("{} has no codes", decl.name)));
            };
            return Ok(self.packed4(decl, [n, k], groups)?.factors(rows, which)?);
        }
        let tensor = self.tensor(decl, None)?;
        let order = self.dialect.row_order(&decl.name);
        Ok(quant4::Matrix::new(tensor, matrix_shape(&tensor), order)?.factors(rows, which)?)
    }

    /// Groups of a row of a matrix of AWQ or GPTQ.
    fn packed4_groups(&self, decl: &WeightDecl) -> Result<usize, Error> {
        let [.., scales] = packed4_names(decl.name.trim_end_matches(".qweight"));
        let missing = || Error::Bug(format!("the checkpoint lost tensor {scales}"));
        let scales = self.checkpoint.tensor(&scales).ok_or_else(missing)?;
        Ok(scales.shape().first().copied().unwrap_or(0))
    }

    /// A matrix of AWQ or GPTQ, of `shape` with so many groups.
    fn packed4(&self, decl: &WeightDecl, shape: [usize; 2], groups: usize) -> Result<packed4::Matrix<'_>, Error> {
        let layer = decl.name.trim_end_matches(".qweight");
        let packing = self.packing4.ok_or_else(|| Error::Bug(format!("{layer} is not packed in words")))?;
        let [words, zeros, scales] = packed4_names(layer).map(|name| {
            let missing = || Error::Bug(format!("the checkpoint lost tensor {name}"));
            self.checkpoint.tensor(&name).ok_or_else(missing)
        });
        let [_, cols] = shape;
        let group = cols.checked_div(groups).unwrap_or(0);
        Ok(packed4::Matrix::new(packing, [words?, zeros?, scales?], shape, group)?)
    }

    fn decl(&self, weight: WeightId) -> Result<&WeightDecl, Error> {
        let missing = || Error::Bug(format!("the graph has no weight @{}", weight.0));
        self.decls.get(weight.0 as usize).ok_or_else(missing)
    }

    /// The tensor of a weight, or of one expert of it.
    fn tensor(&self, decl: &WeightDecl, expert: Option<u32>) -> Result<Tensor<'_>, Error> {
        let name = expert.map_or(Cow::Borrowed(decl.name.as_str()), |expert| Cow::Owned(of_expert(&decl.name, expert)));
        let missing = || Error::Bug(format!("the checkpoint lost tensor {name}"));
        self.checkpoint.tensor(&self.dialect.file_name(&name)).ok_or_else(missing)
    }

    /// The matrix of a weight, or of one expert of it.
    fn place(&self, decl: &WeightDecl, expert: Option<u32>) -> Result<Place<'_>, Error> {
        let Some(expert) = expert else { return Ok(Place::whole(self.tensor(decl, None)?)) };
        let of = (expert, rows_of_each(decl));
        let missing = || Error::Bug(format!("the checkpoint lost expert {expert} of {}", decl.name));
        Place::of_expert(&self.checkpoint, self.dialect, &decl.name, of).ok_or_else(missing)
    }

    /// Bytes of the tensors behind `weight`; generated tables have none.
    pub(super) fn stored_bytes(&self, weight: WeightId) -> u64 {
        let Ok(decl) = self.decl(weight) else { return 0 };
        if let Some(all) = places::stacked(&self.checkpoint, self.dialect, &decl.name) {
            return all.len_bytes() as u64;
        }
        let bytes = |expert| self.tensor(decl, expert).map_or(0, |tensor| tensor.len_bytes() as u64);
        experts_of(decl).map_or_else(|| bytes(None), |experts| (0..experts).map(|expert| bytes(Some(expert))).sum())
    }

    fn give_back(&self, decl: &WeightDecl) {
        let release = |name: &str| self.checkpoint.release(&self.dialect.file_name(name), 0..usize::MAX);
        match experts_of(decl) {
            None => release(&decl.name),
            Some(_) if places::stacked(&self.checkpoint, self.dialect, &decl.name).is_some() => release(&decl.name),
            Some(experts) => (0..experts).for_each(|expert| release(&of_expert(&decl.name, expert))),
        }
    }

    fn named(&self, weight: WeightId, error: &Error) -> WeightError {
        let name = self.decl(weight).map_or_else(|_| format!("@{}", weight.0), |d| d.name.clone());
        WeightError { name, reason: error.to_string() }
    }
}

impl WeightData for CheckpointWeights {
    fn trits(&self, weight: WeightId) -> Result<Cow<'_, Trits>, WeightError> {
        self.read_trits(weight).map(Cow::Owned).map_err(|e| self.named(weight, &e))
    }

    fn dense(&self, weight: WeightId) -> Result<Cow<'_, Dense>, WeightError> {
        self.read_dense(weight).map(Cow::Owned).map_err(|e| self.named(weight, &e))
    }

    fn codes(
        &self,
        weight: WeightId,
        shape: [usize; 2],
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        self.read_codes(weight, shape, rows, out).map_err(|e| self.named(weight, &e))
    }

    fn dense_rows(
        &self,
        weight: WeightId,
        shape: DenseShape,
        rows: Range<usize>,
        row_bytes: usize,
        out: &mut [u8],
    ) -> Result<(), WeightError> {
        self.read_rows(weight, shape, rows, row_bytes, out).map_err(|e| self.named(weight, &e))
    }

    fn release(&self, weight: WeightId) {
        if let Ok(decl) = self.decl(weight) {
            self.give_back(decl);
        }
    }
}

/// Rows of one matrix: of one expert, or of the only one that there is.
struct Piece {
    expert: Option<u32>,
    rows: Range<usize>,
}

/// How many experts' matrices a weight stacks.
fn experts_of(decl: &WeightDecl) -> Option<u32> {
    match decl.ty.dims.as_slice() {
        [experts, _, _] => experts.as_const(),
        _ => None,
    }
}

/// Rows of each of them.
fn rows_of_each(decl: &WeightDecl) -> usize {
    decl.ty.dims.get(1).and_then(|rows| rows.as_const()).map_or(1, |rows| rows.max(1) as usize)
}

/// `rows` of a weight by the matrices that it stacks.
fn pieces(decl: &WeightDecl, all_rows: usize, rows: Range<usize>) -> Vec<Piece> {
    let Some(experts) = experts_of(decl) else { return vec![Piece { expert: None, rows }] };
    let each = rows_of_each(decl);
    let end = rows.end.min(all_rows).min(each.saturating_mul(experts as usize));
    let mut pieces = Vec::new();
    let mut first = rows.start;
    while first < end {
        let (expert, before) = (first / each, first / each * each);
        let behind = end.min(before + each);
        pieces.push(Piece { expert: Some(expert as u32), rows: first - before..behind - before });
        first = behind;
    }
    pieces
}

/// The rows of a matrix of `cols` columns, each at a multiple of `row_bytes`.
fn write_rows(elems: &[f32], cols: usize, row_bytes: usize, out: &mut [u8]) {
    for (row, out) in elems.chunks(cols.max(1)).zip(out.chunks_mut(row_bytes.max(1))) {
        for (x, bytes) in row.iter().zip(out.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&x.to_le_bytes());
        }
    }
}

/// N and K as the tensor has them; the importer has compared them with what the graph declares.
fn matrix_shape(tensor: &Tensor<'_>) -> [usize; 2] {
    match tensor.shape() {
        &[rows, cols] => [rows, cols],
        _ => [0, 0],
    }
}

fn not_ternary(decl: &WeightDecl) -> Error {
    Error::Bug(format!("trits were asked of {}, {}", decl.name, decl.ty))
}

fn not_dense(decl: &WeightDecl) -> Error {
    Error::Bug(format!("dense elements were asked of {}, {}", decl.name, decl.ty))
}

fn const_dims(ty: &TensorType) -> Vec<usize> {
    ty.dims.iter().filter_map(|d| d.as_const()).map(|d| d as usize).collect()
}
