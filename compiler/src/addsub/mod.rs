//! `addsub`: the weights of a small ternary matrix as code.
//!
//! In: [`Trits`]. Out: a [`Program`] of additions and subtractions, zeros skipped and sums shared between rows, with a
//! [`Report`] of what sharing saved. It upholds that the program is the matrix: each one is followed back to its trits
//! before it is handed out. It knows no instructions: `codegen` writes a program's [`tape`] as machine code.
//!
//! Read [`program`] (what is computed), `greedy` and `saturate` (two ways to share), [`tape`] (in which order), [`scratch`]
//! (memory of the kernel).

mod greedy;
pub mod program;
mod saturate;
pub mod scratch;
pub mod tape;

use std::sync::Arc;

use crate::weights::Trits;
pub use greedy::MOST_ROWS;
use greedy::Uses;
pub use program::{Block, Program, Sum, Term};

/// Programs of a schedule, by `ProgramId`.
pub type Programs = [Arc<Program>];

/// The most trits of a matrix that becomes a program: a block of rows and columns takes time by their squares.
pub const MOST_TRITS: usize = 1 << 16;

/// The most instructions of a program's straight-line code. None takes more than 8 bytes, so code stays below 256 KiB: a
/// quarter of a second-level cache of 1 MiB, from which it arrives as fast as it is run. Beyond, code comes at the expense
/// of what it reads, and takes ten times the room of packed weights in every file.
pub const MOST_INSTRUCTIONS: u64 = 1 << 15;

/// The most columns: a pass looks at pairs of them.
pub const MOST_COLS: usize = 4096;

/// Columns of a block from which on a pair must occur once more often to become a value: so many values find no room in the
/// nearest cache beside the inputs, and fetching them takes longer than adding twice.
pub const WIDE_COLS: usize = 160;

/// How far sharing is sought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Registers for the sums of rows and for values (`codegen::candidates`). Rows whose sums are formed together share.
    pub registers: u32,
    /// How many of them are for values, at least.
    pub least_temps: u32,
    /// How often a pair must occur to become a value, in a block of fewer than [`WIDE_COLS`] columns. Two saves additions;
    /// three, where values must be fetched and kept, time.
    pub least_uses: u32,
    /// Blocks of at most so many non-zero trits are also given to the e-graph.
    pub egraph_trits: usize,
    /// Its e-nodes.
    pub egraph_nodes: usize,
    /// Its rounds.
    pub egraph_iterations: usize,
    /// Steps of the search for its cheapest sums.
    pub extract_steps: u64,
}

impl Limits {
    /// The usual limits for so many registers.
    pub const fn new(registers: u32) -> Self {
        Self {
            registers,
            least_temps: tape::LEAST_TEMPS,
            least_uses: 2,
            egraph_trits: 24,
            egraph_nodes: 1000,
            egraph_iterations: 8,
            extract_steps: 20_000,
        }
    }
}

/// What sharing came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Outputs: N.
    pub outputs: u32,
    /// Additions without sharing: of every row the non-zero trits but one.
    pub adds_before: u64,
    /// Additions of the program.
    pub adds_after: u64,
    /// Blocks of rows and columns.
    pub blocks: u32,
    /// Blocks for which the e-graph found fewer additions than the greedy pass.
    pub egraph_won: u32,
    /// E-nodes of all blocks that were given to the e-graph.
    pub e_nodes: usize,
}

impl Report {
    /// Additions of an output before and after, on average.
    pub fn adds_per_output(&self) -> (f64, f64) {
        let n = f64::from(self.outputs.max(1));
        (self.adds_before as f64 / n, self.adds_after as f64 / n)
    }
}

/// No program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The matrix is not one.
    #[error("addsub: {0}")]
    Input(String),
    /// The matrix is too large to be code.
    #[error(
        "addsub: a matrix of {rows} x {cols} does not become code: expected at most {MOST_TRITS} trits, from 1 to {MOST_COLS} columns \
         and a row at least; choose another strategy"
    )]
    TooLarge {
        /// N.
        rows: usize,
        /// K.
        cols: usize,
    },
    /// The program is too long to be code.
    #[error(
        "addsub: a matrix of {rows} x {cols} becomes {instructions} instructions: expected at most {MOST_INSTRUCTIONS}; choose another \
         strategy"
    )]
    TooLong {
        /// N.
        rows: usize,
        /// K.
        cols: usize,
        /// How many.
        instructions: u64,
    },
    /// A bug in tern.
    #[error("bug in addsub: {0}")]
    Bug(String),
}

/// The program of a matrix.
///
/// # Errors
/// [`Error::Input`] if `trits` holds other numbers than its shape says or than trits; [`Error::TooLarge`] and
/// [`Error::TooLong`] for what had better be packed.
pub fn synthesise(trits: &Trits, limits: &Limits) -> Result<(Program, Report), Error> {
    let (rows, cols) = (trits.rows, trits.cols);
    let fits = rows.checked_mul(cols).is_some_and(|n| (1..=MOST_TRITS).contains(&n)) && cols <= MOST_COLS;
    if !fits {
        return Err(Error::TooLarge { rows, cols });
    }
    trits.check(rows, cols).map_err(Error::Input)?;
    let non_zero = |row: &[i8]| row.iter().filter(|trit| **trit != 0).count() as u64;
    let mut report = Report { outputs: rows as u32, ..Report::default() };
    report.adds_before = trits.data.chunks_exact(cols).map(|row| non_zero(row).saturating_sub(1)).sum();
    let most_rows = limits.registers.saturating_sub(limits.least_temps).clamp(1, MOST_ROWS) as usize;
    let block_rows = rows.div_ceil(rows.div_ceil(most_rows));
    let chunk_cols = cols.div_ceil(chunks(trits));
    let mut blocks = Vec::new();
    for (chunk, first_col) in (0..cols).step_by(chunk_cols).enumerate() {
        let of_chunk = first_col..(first_col + chunk_cols).min(cols);
        for first in (0..rows).step_by(block_rows) {
            let of_block = first..(first + block_rows).min(rows);
            // Trits of other chunks count as zeros, so that columns keep their numbers.
            let band: Vec<Vec<i8>> = trits.data[of_block.start * cols..of_block.end * cols]
                .chunks_exact(cols)
                .map(|row| row.iter().enumerate().map(|(i, t)| if of_chunk.contains(&i) { *t } else { 0 }).collect())
                .collect();
            let range = of_block.start as u32..of_block.end as u32;
            blocks.push(block(&band, range, chunk as u32, limits, &mut report));
        }
    }
    let program = Program::new(rows as u32, cols as u32, blocks);
    report.blocks = program.blocks().len() as u32;
    report.adds_after = program.adds();
    if !program.computes(trits) {
        return Err(Error::Bug(format!("the program of a matrix of {rows} x {cols} computes another one")));
    }
    let instructions = program.instructions();
    if instructions > MOST_INSTRUCTIONS {
        return Err(Error::TooLong { rows, cols, instructions });
    }
    Ok((program, report))
}

/// The least number of equal ranges of columns in each of which every row has few enough non-zero trits.
fn chunks(trits: &Trits) -> usize {
    let fits = |cols: usize| {
        let few = |part: &[i8]| part.iter().filter(|t| **t != 0).count() <= program::MOST_TERMS as usize;
        trits.data.chunks_exact(trits.cols).all(|row| row.chunks(cols).all(few))
    };
    (1..trits.cols).find(|n| fits(trits.cols.div_ceil(*n))).unwrap_or(trits.cols)
}

/// One block: the cheaper of what the passes find.
fn block(band: &[Vec<i8>], rows: std::ops::Range<u32>, chunk: u32, limits: &Limits, report: &mut Report) -> Block {
    let inputs = band.first().map_or(0, Vec::len);
    let mut columns = vec![Uses::default(); inputs];
    for (i, row) in band.iter().enumerate() {
        for (column, trit) in columns.iter_mut().zip(row) {
            let sign = if *trit < 0 { &mut column.minus } else { &mut column.plus };
            *sign |= u64::from(*trit != 0) << i;
        }
    }
    let occurring: Vec<usize> = (0..inputs).filter(|i| columns[*i] != Uses::default()).collect();
    let least_uses = limits.least_uses + u32::from(occurring.len() >= WIDE_COLS);
    let (shared, sums) = greedy::share(&columns, band.len() as u32, least_uses);
    let temps = limits.registers.saturating_sub(band.len() as u32);
    let greedy = Block::new(inputs as u32, rows.clone(), chunk, &shared, &sums, temps);
    let non_zero = band.iter().flatten().filter(|trit| **trit != 0).count();
    if non_zero > limits.egraph_trits {
        return greedy;
    }
    // The e-graph sees the columns that occur, by their numbers among these.
    let narrow = |terms: &Sum| -> Sum { terms.iter().map(|term| renumbered(*term, inputs, &occurring)).collect() };
    let [few_shared, few_sums] = [&shared, &sums].map(|sums| sums.iter().map(narrow).collect::<Vec<Sum>>());
    let few: Vec<Vec<i8>> = band.iter().map(|row| occurring.iter().map(|i| row[*i]).collect()).collect();
    let Some(found) = saturate::share(&few, &few_shared, &few_sums, limits) else { return greedy };
    report.e_nodes += found.e_nodes;
    let widen = |terms: &Sum| -> Sum {
        let wide = |term: &Term| match occurring.get(term.value as usize) {
            Some(i) => Term { value: *i as u32, ..*term },
            None => Term { value: term.value - occurring.len() as u32 + inputs as u32, ..*term },
        };
        terms.iter().map(wide).collect()
    };
    let [shared, sums] = [&found.shared, &found.sums].map(|sums| sums.iter().map(widen).collect::<Vec<Sum>>());
    let saturated = Block::new(inputs as u32, rows, chunk, &shared, &sums, temps);
    if saturated.adds() < greedy.adds() {
        report.egraph_won += 1;
        saturated
    } else {
        greedy
    }
}

/// A term over `inputs` inputs as one over those that occur.
fn renumbered(term: Term, inputs: usize, occurring: &[usize]) -> Term {
    let value = term.value as usize;
    let value = match value.checked_sub(inputs) {
        None => occurring.partition_point(|i| *i < value),
        Some(i) => occurring.len() + i,
    };
    Term { value: value as u32, ..term }
}

#[cfg(test)]
pub(crate) mod tests;
