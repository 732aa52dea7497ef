//! A product whose weights are code, on a random matrix.
//!
//! In: a [`Shape`], how many trits are not zero. Out: the program of a matrix that is the same on every machine. Packed
//! weights are random without a plan, since their kernels take the same time whatever they hold; this one does not.

use std::sync::Arc;

use super::Shape;
use super::operands::Random;
use crate::addsub::scratch::AddSubScratch;
use crate::addsub::{self, Error, Limits, MOST_COLS, MOST_TRITS, Program, Report};
use crate::codegen::{Target, candidates};
use crate::schedule::kernel::{Epilogue, KernelKind, ProgramId};
use crate::weights::Trits;

/// A matrix as code.
pub(super) struct AddSub {
    pub(super) programs: [Arc<Program>; 1],
    pub(super) report: Report,
    tokens: u32,
}

impl AddSub {
    /// The program of a random matrix; `None` if it is too large for one.
    pub(super) fn new(shape: Shape, density: f64, target: &Target) -> Result<Option<Self>, Error> {
        let (rows, cols) = (shape.rows as usize, shape.cols as usize);
        if rows.saturating_mul(cols) > MOST_TRITS || cols > MOST_COLS {
            return Ok(None);
        }
        let how = candidates::addsub(target);
        let (program, report) = addsub::synthesise(&matrix(rows, cols, density), &Limits::new(how.registers))?;
        Ok(Some(Self { programs: [Arc::new(program)], report, tokens: how.tokens }))
    }

    /// Its kernel.
    pub(super) fn kind(&self, shape: Shape) -> KernelKind {
        let Shape { rows, cols, .. } = shape;
        KernelKind::AddSub { program: ProgramId(0), rows, cols, epilogue: Epilogue::Scale, tokens: self.tokens }
    }

    /// Batches, and bytes of scratch memory of each thread.
    pub(super) fn units_and_scratch_bytes(&self, shape: Shape) -> (u64, u64) {
        let scratch = AddSubScratch::new(&self.programs[0], self.tokens);
        (u64::from(shape.tokens.div_ceil(self.tokens)), u64::from(scratch.bytes))
    }
}

/// Random trits, a share of `density` of them not zero.
pub(super) fn matrix(rows: usize, cols: usize, density: f64) -> Trits {
    const STEPS: u64 = 1 << 20;
    let mut random = Random(3);
    let some = (density.clamp(0.0, 1.0) * STEPS as f64) as u64;
    let mut trit = || if random.below(STEPS) < some { random.below(2) as i8 * 2 - 1 } else { 0 };
    Trits { rows, cols, data: (0..rows * cols).map(|_| trit()).collect() }
}
