//! Quantisation: a dense checkpoint becomes a ternary one, or one of four bits.
//!
//! In: a [`Checkpoint`] whose matrices are dense ([`Masters`]), [`To`] what, and if wanted the [`Moments`] of the activations on some
//! text (`moments.rs`). Out: a folder or a file as `export` writes them, and a [`Report`]: how far each matrix is from what it was.
//!
//! Ternary, one scale per matrix, is the rule of online quantisation (`checkpoint::absmean`): whoever reads what was written computes
//! with the trits and the scale that a reader of the master weights in mode `online` makes for itself. Scales per group, and scales
//! chosen by what activations weigh, are in `rule.rs`; experts, each of which is a matrix, in `stacked.rs`; four bits in `checkpoint::gguf::types::q4_0`.
//!
//! Upholds: the matrices of the blocks change and nothing else does (embeddings, head and norms stay as they are); trits are made band
//! by band when they are asked for (`made.rs`), so that memory does not grow with the model; the same input gives the same bytes on
//! every machine. What is ternary already is refused: its zeros would shrink the scale. A matrix of zeros alone stays what it is.
//! Deliberately trains nothing: a model that was not trained to be ternary is a poor one afterwards, and the report says how poor.

mod error;
mod made;
mod measure;
mod moments;
mod rule;
mod stacked;

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::Path;

pub use error::Error;
pub use measure::{Errors, MatrixReport};
pub use moments::Moments;

use crate::checkpoint::gguf::types::q4_0;
use crate::checkpoint::{Checkpoint, Fault};
use crate::export::{self, Blocks, Format, dense_matrices};
use crate::graph::{DType, F32, Origin, WeightDecl, WeightId};
pub use crate::import::Reach;
use crate::import::{Activations, ImportOptions, Imported, WeightFormat, import, import_with};
pub use crate::pipeline::Progress;
use crate::weights::WeightData;
use made::Made;
use measure::Measure;
use rule::Rule;

/// Elements that are read at once, about: whole rows.
const BAND_ELEMS: usize = 1 << 20;

/// What dense matrices become.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum To<'m> {
    /// Trits, whose scales reach so far; chosen by the moments of activations, if there are some.
    Ternary(Reach, Option<&'m Moments>),
    /// Four bits, in GGUF's blocks Q4_0.
    Q4_0,
}

/// What is being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Matrices are read for their scales and for how far they are from what they were.
    Measuring,
    /// They are written, and read back.
    Writing,
}

/// Hears how far it has come, and may end it.
pub type Hear<'h> = &'h mut dyn FnMut(Stage, Progress) -> ControlFlow<()>;

/// What was written.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The files.
    pub written: export::Report,
    /// The matrices, in model order.
    pub matrices: Vec<MatrixReport>,
}

/// A model whose matrices are dense.
#[derive(Clone, Debug)]
pub struct Masters {
    checkpoint: Checkpoint,
    imported: Imported,
    matrices: Vec<Matrix>,
}

/// A dense matrix of the blocks, or that of one expert.
#[derive(Clone, Debug)]
struct Matrix {
    /// The weight that it is, or is stacked in.
    id: WeightId,
    name: String,
    /// Its first row there.
    first: usize,
    rows: usize,
    cols: usize,
}

impl Masters {
    /// The dense matrices of `checkpoint`.
    ///
    /// # Errors
    /// `Import` if it is not a model that tern reads; `Unsupported` if a matrix of it is ternary.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self, Error> {
        // Experts have no dense form in the graph: it declares trits of them, and their elements are read beside it.
        let ternarised = ImportOptions { ternarise: Some(Reach::Matrix), ..ImportOptions::default() };
        let ternarised = import(checkpoint, &ternarised)?;
        if ternarised.facts.experts.is_some() {
            refuse_ternary(checkpoint, &ternarised)?;
            let matrices = stacked::matrices(&ternarised.graph)?;
            return Ok(Self { checkpoint: checkpoint.clone(), imported: ternarised, matrices });
        }
        let dense = ImportOptions { zeros_are_dense: true, ..ImportOptions::default() };
        let mut imported = import(checkpoint, &dense)?;
        refuse_ternary(checkpoint, &imported)?;
        let is_four = |decl: &&WeightDecl| decl.origin == Origin::Quant4;
        if let Some(decl) = imported.graph.weights.iter().find(is_four) {
            let fault =
                Fault::new(checkpoint.name(), "weights of four bits", "dense matrices").tensor(decl.name.as_str());
            return Err(Error::unsupported(fault.next("quantise the model that it was made from")));
        }
        if checkpoint.gguf().is_some() {
            // Blocks of more bits are decoded to f32 then, and not rounded to f16 on the way.
            let options = ImportOptions { activations: Some(Activations::F32), ..dense };
            let facts = imported.facts;
            imported = import(checkpoint, &options)?;
            imported.facts = facts;
        }
        let mut matrices = Vec::new();
        for id in dense_matrices(&imported.graph) {
            let decl = imported.graph.weight(id);
            let dims: Vec<usize> = decl.ty.dims.iter().filter_map(|dim| dim.as_const()).map(|n| n as usize).collect();
            let &[rows, cols] = dims.as_slice() else {
                return Err(Error::Bug(format!("{} is multiplied by, and is {}", decl.name, decl.ty)));
            };
            matrices.push(Matrix { id, name: decl.name.clone(), first: 0, rows, cols });
        }
        if matrices.is_empty() {
            let fault = Fault::new(checkpoint.name(), "a model without dense matrices", "matrices to quantise");
            return Err(Error::unsupported(fault));
        }
        Ok(Self { checkpoint: checkpoint.clone(), imported, matrices })
    }

    /// The model. Of a mixture of experts, whose graph has no dense form, what it is as trits.
    pub fn imported(&self) -> &Imported {
        &self.imported
    }

    /// Whether it is a mixture of experts: then nothing runs before it is ternary.
    pub fn is_mixture(&self) -> bool {
        self.imported.facts.experts.is_some()
    }

    /// Refuses what a mixture of experts has not.
    fn refuse_mixture(&self, expected: &str, next: &str) -> Result<(), Error> {
        if !self.is_mixture() {
            return Ok(());
        }
        let fault = Fault::new(self.checkpoint.name(), "a mixture of dense experts", expected);
        Err(Error::unsupported(fault.next(next)))
    }

    /// Refuses, before a weight is read, what [`Masters::quantize`] would refuse whatever the weights are: what the format has no place for,
    /// and an `out` where nothing can be written.
    ///
    /// # Errors
    /// As [`Masters::quantize`].
    pub fn check(&self, to: To<'_>, format: Format, out: &Path) -> Result<(), Error> {
        self.planned(to, format, out).map(|_| ())
    }

    /// What is to be written, which `format` may hold.
    fn planned(&self, to: To<'_>, format: Format, out: &Path) -> Result<Option<Imported>, Error> {
        let made = match to {
            To::Ternary(reach, _) => {
                let options = ImportOptions { ternarise: Some(reach), ..ImportOptions::default() };
                Some(import(&self.checkpoint, &options)?)
            }
            To::Q4_0 => {
                let expected = "a model without experts, whose products alone are compiled for four bits";
                self.refuse_mixture(expected, "give --to ternary")?;
                None
            }
        };
        let imported = made.as_ref().unwrap_or(&self.imported);
        export::check_made(&self.checkpoint, (imported, &imported.weights), format, out)?;
        Ok(made)
    }

    /// Writes the model with other matrices to `out`.
    ///
    /// # Errors
    /// `Export` if the format cannot hold what is asked for, or the file cannot be written; `Unsupported` if a matrix is ternary
    /// already; `Interrupted` if `hear` says so. Then nothing is left behind, and what was there before is still there.
    pub fn quantize(&self, to: To<'_>, format: Format, out: &Path, hear: Hear<'_>) -> Result<Report, Error> {
        // Before anything is read.
        let planned = self.planned(to, format, out)?;
        match (to, planned) {
            (To::Ternary(reach, moments), Some(imported)) => {
                self.ternary(imported, (reach, moments), format, out, hear)
            }
            (To::Ternary(..), None) => Err(Error::Bug("trits were not planned".to_owned())),
            (To::Q4_0, _) => {
                let weights: &dyn WeightData = &self.imported.weights;
                let mut step = self.step(1, hear);
                let mut matrices = Vec::new();
                for matrix in &self.matrices {
                    let mut measure = Measure::new(matrix, None);
                    self.each_band(matrix, &mut step, &mut |weights| {
                        measure.add(weights, &rule::q4_0(matrix, weights)?);
                        Ok(())
                    })?;
                    let bits = q4_0::BLOCK_BYTES as f64 * 8.0 / q4_0::BLOCK_ELEMS as f64;
                    self.refuse_trits(matrix, &measure)?;
                    matrices.push(measure.finish(matrix, None, bits));
                }
                drop(step);
                let written = self.write((&self.imported, weights), format, out, hear)?;
                Ok(Report { written, matrices })
            }
        }
    }

    fn ternary(
        &self,
        mut imported: Imported,
        (reach, moments): (Reach, Option<&Moments>),
        format: Format,
        out: &Path,
        hear: Hear<'_>,
    ) -> Result<Report, Error> {
        let passes = if reach == Reach::Matrix { 2 } else { 1 };
        let mut step = self.step(passes, hear);
        let (mut rules, mut measured) = (Vec::new(), Vec::new());
        for matrix in &self.matrices {
            let columns = moments.map(|moments| moments.of(&matrix.name)).transpose()?;
            let [plain, chosen] = self.rules(matrix, reach, columns, &mut step)?;
            let mut measure = Measure::new(matrix, columns);
            self.each_band(matrix, &mut step, &mut |weights| {
                measure.add(weights, &chosen.dequantised(matrix, weights, columns));
                if columns.is_some() {
                    measure.add_plain(weights, &plain.dequantised(matrix, weights, None));
                }
                Ok(())
            })?;
            self.refuse_trits(matrix, &measure)?;
            measured.push((matrix, measure));
            rules.push(chosen);
        }
        drop(step);
        if let Reach::Group(_) = reach {
            let whole = self.equal_groups(&measured, &mut rules);
            if !whole.is_empty() {
                let options = ImportOptions { ternarise: Some(reach), ..ImportOptions::default() };
                imported = import_with(&self.checkpoint, &options, whole)?;
            }
        }
        let scales: Vec<Option<f32>> = rules.iter().map(Rule::scale).collect();
        for (matrix, rule) in self.matrices.iter().zip(&rules) {
            let is_it = |decl: &&mut WeightDecl| decl.name == matrix.name && decl.ty.dtype == DType::Trit;
            if let (Some(decl), Some(scale)) = (imported.graph.weights.iter_mut().find(is_it), rule.scale()) {
                decl.scale = Some(F32::new(scale));
            }
        }
        let made = Made::new(self, &imported, rules, moments);
        let written = self.write((&imported, &made), format, out, hear)?;
        let bits = |matrix: &Matrix| written.blocks.map_or_else(|| packed_bits(matrix), Blocks::bits_per_weight);
        let finish = |((matrix, measure), scale): ((_, Measure<'_>), _)| measure.finish(matrix, scale, bits(matrix));
        let matrices = measured.into_iter().zip(scales).map(finish).collect();
        Ok(Report { written, matrices })
    }

    /// Readers take what has the same scale everywhere, zeros alone as well, for a matrix of one scale, and so does the model that is
    /// written: the names of such weights, whose `rules` become that. Of stacked matrices all must be so.
    fn equal_groups(&self, measured: &[(&Matrix, Measure<'_>)], rules: &mut [Rule]) -> BTreeSet<String> {
        let weight = |matrix: &Matrix| self.imported.graph.weight(matrix.id).name.clone();
        let several = measured.iter().filter(|(_, measure)| measure.one_magnitude().is_none());
        let several: BTreeSet<String> = several.map(|(matrix, _)| weight(matrix)).collect();
        let mut whole = BTreeSet::new();
        for ((matrix, measure), rule) in measured.iter().zip(rules) {
            if let Some(magnitude) = measure.one_magnitude().filter(|_| !several.contains(&weight(matrix))) {
                *rule = Rule::of_equal_groups(magnitude);
                whole.insert(weight(matrix));
            }
        }
        whole
    }

    /// The rules of `matrix`: that which knows nothing of activations, and that which is taken.
    fn rules(
        &self,
        matrix: &Matrix,
        reach: Reach,
        columns: Option<&[f64]>,
        step: Step<'_>,
    ) -> Result<[Rule; 2], Error> {
        match reach {
            Reach::Group(group) => Ok([Rule::Groups(group as usize); 2]),
            Reach::Matrix => {
                let mut scales = rule::MatrixScale::new(columns);
                self.each_band(matrix, step, &mut |weights| {
                    scales.add(weights, matrix.cols);
                    Ok(())
                })?;
                let [plain, chosen] = scales.finish();
                Ok([Rule::Matrix(plain), Rule::Matrix(chosen)])
            }
        }
    }

    /// Refuses a matrix that is ternary already, which the importer does not see in blocks of more bits.
    fn refuse_trits(&self, matrix: &Matrix, measure: &Measure<'_>) -> Result<(), Error> {
        match measure.ternary() {
            None => Ok(()),
            Some(magnitude) => {
                let found = format!("weights that are ternary already ({magnitude} times -1, 0, +1)");
                let fault = Fault::new(self.checkpoint.name(), found, "dense matrices").tensor(matrix.name.as_str());
                Err(Error::unsupported(fault.next("taking their mean again would shrink them")))
            }
        }
    }

    fn write(
        &self,
        made: (&Imported, &dyn WeightData),
        format: Format,
        out: &Path,
        hear: Hear<'_>,
    ) -> Result<export::Report, Error> {
        let written =
            export::export_made(&self.checkpoint, made, format, out, &mut |progress| hear(Stage::Writing, progress));
        Ok(written?)
    }

    /// Counts elements that were read, of all matrices so many times.
    fn step<'h>(&self, passes: u64, hear: Hear<'h>) -> impl FnMut(u64) -> Result<(), Error> + use<'h> {
        let elems = |matrix: &Matrix| (matrix.rows as u64).saturating_mul(matrix.cols as u64);
        let total_bytes = passes.saturating_mul(self.matrices.iter().map(elems).sum());
        let mut done_bytes: u64 = 0;
        move |elems| {
            done_bytes = done_bytes.saturating_add(elems);
            match hear(Stage::Measuring, Progress { done_bytes, total_bytes }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Interrupted),
            }
        }
    }

    /// The rows of `matrix`, a band at a time, widened to f32.
    fn each_band(
        &self,
        matrix: &Matrix,
        step: Step<'_>,
        take: &mut dyn FnMut(&[f32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Matrix { rows, cols, .. } = *matrix;
        let band_rows = (BAND_ELEMS / cols.max(1)).max(1);
        for first in (0..rows).step_by(band_rows) {
            let band = first..rows.min(first.saturating_add(band_rows));
            let weights = self.rows(matrix, band)?;
            take(&weights)?;
            step(weights.len() as u64)?;
        }
        self.imported.weights.release(matrix.id);
        Ok(())
    }

    /// Some rows of `matrix`, widened to f32.
    fn rows(&self, matrix: &Matrix, rows: Range<usize>) -> Result<Vec<f32>, crate::weights::WeightError> {
        self.imported.weights.masters(matrix.id, matrix.first + rows.start..matrix.first + rows.end)
    }
}

/// Hears of elements that were read.
type Step<'s> = &'s mut dyn FnMut(u64) -> Result<(), Error>;

/// What a weight takes in Hugging Face's packed layout, with the scale.
fn packed_bits(matrix: &Matrix) -> f64 {
    let Matrix { rows, cols, .. } = *matrix;
    (rows.div_ceil(4) as f64 * cols as f64 * 8.0 + 32.0) / (rows as f64 * cols as f64)
}

/// Refuses a model of which a matrix is ternary.
fn refuse_ternary(checkpoint: &Checkpoint, imported: &Imported) -> Result<(), Error> {
    // Those that were declared so because they are dense are not.
    let is_made =
        |decl: &WeightDecl| decl.origin == Origin::OnlineAbsmean && imported.facts.format != WeightFormat::OnlineMaster;
    let is_ternary = |decl: &&WeightDecl| decl.ty.dtype == DType::Trit && !is_made(decl);
    let Some(name) = imported.graph.weights.iter().find(is_ternary).map(|decl| decl.name.clone()) else {
        return Ok(());
    };
    let (found, next) = match imported.facts.format {
        WeightFormat::OnlineMaster => {
            ("master weights that the model itself makes ternary", "tern export --format hf writes the trits, packed")
        }
        WeightFormat::HfPacked | WeightFormat::Gguf | WeightFormat::DenseTernary | WeightFormat::Quant4 => (
            "a matrix that is ternary already",
            "taking its mean again would shrink it; tern export writes the same trits in another format",
        ),
    };
    Err(Error::unsupported(Fault::new(checkpoint.name(), found, "dense matrices").tensor(name).next(next)))
}
