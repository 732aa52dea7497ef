//! A ternary matrix as a straight-line program of additions and subtractions.
//!
//! In: sums, shared ones first, in any form that a pass leaves them. Out: a [`Program`] of [`Block`]s in normal form: every
//! shared sum has two uses or more, two terms or more, and begins with a term that is added. It upholds that each output
//! of a block is a sum of at most [`MOST_TERMS`] inputs with signs, so that it fits i16 whatever the i8 inputs are:
//! additions that wrap on the way come out right, since they wrap back.

use std::fmt;
use std::ops::Range;

use super::tape::Tape;
use crate::weights::Trits;

/// The most inputs of an output of one block: 255 * 128 < 2^15.
pub const MOST_TERMS: u32 = 255;

/// A value that is added or subtracted. Values are the inputs, then the shared sums of the block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Term {
    /// Which value.
    pub value: u32,
    /// Whether it is subtracted.
    pub minus: bool,
}

impl Term {
    /// The value itself.
    pub const fn plus(value: u32) -> Self {
        Self { value, minus: false }
    }

    /// The same value, its sign turned if `minus`.
    pub const fn signed(self, minus: bool) -> Self {
        Self { value: self.value, minus: self.minus != minus }
    }
}

/// What is added up; nothing is 0.
pub type Sum = Vec<Term>;

/// Rows whose sums are formed together, in registers, over a range of the columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    inputs: u32,
    rows: Range<u32>,
    chunk: u32,
    shared: Vec<Sum>,
    sums: Vec<Sum>,
    tape: Tape,
}

impl Block {
    /// The block of `rows` whose values are `inputs` inputs and then `shared`, each over values before it, with one of
    /// `sums` for each row, in normal form; `temps` registers are left for values.
    pub fn new(inputs: u32, rows: Range<u32>, chunk: u32, shared: &[Sum], sums: &[Sum], temps: u32) -> Self {
        let (shared, sums) = normal_form(inputs, shared, sums);
        let tape = Tape::new(inputs, &shared, &sums, temps);
        Self { inputs, rows, chunk, shared, sums, tape }
    }

    /// The rows of the matrix.
    pub fn rows(&self) -> Range<u32> {
        self.rows.clone()
    }

    /// Which range of the columns it reads; a row's result is the sum over all of them.
    pub fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Sums that are used more than once.
    pub fn shared(&self) -> &[Sum] {
        &self.shared
    }

    /// One sum per row.
    pub fn sums(&self) -> &[Sum] {
        &self.sums
    }

    /// The order in which it is computed.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Additions and subtractions.
    pub fn adds(&self) -> u32 {
        self.shared.iter().chain(&self.sums).map(|sum| (sum.len() as u32).saturating_sub(1)).sum()
    }

    /// What each row's sum comes to, where `add_input` and `add` add an input or a shared sum with a sign.
    fn fold<T: Clone>(
        &self,
        zero: &T,
        add_input: impl Fn(&mut T, u32, bool),
        add: impl Fn(&mut T, &T, bool),
    ) -> Vec<T> {
        let mut shared: Vec<T> = Vec::with_capacity(self.shared.len());
        let of = |sum: &Sum, shared: &[T]| {
            let mut acc = zero.clone();
            for term in sum {
                match term.value.checked_sub(self.inputs) {
                    None => add_input(&mut acc, term.value, term.minus),
                    Some(i) => add(&mut acc, &shared[i as usize], term.minus),
                }
            }
            acc
        };
        for sum in &self.shared {
            let value = of(sum, &shared);
            shared.push(value);
        }
        self.sums.iter().map(|sum| of(sum, &shared)).collect()
    }

    /// The factor of every input in every row's sum.
    fn factors(&self) -> Vec<Vec<i32>> {
        let zero = vec![0; self.inputs as usize];
        self.fold(
            &zero,
            |acc, input, minus| acc[input as usize] += if minus { -1 } else { 1 },
            |acc, value, minus| {
                for (acc, factor) in acc.iter_mut().zip(value) {
                    *acc = added(*acc, *factor, minus);
                }
            },
        )
    }
}

fn added(acc: i32, value: i32, minus: bool) -> i32 {
    if minus { acc.wrapping_sub(value) } else { acc.wrapping_add(value) }
}

/// A whole matrix: N outputs over K inputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    rows: u32,
    cols: u32,
    blocks: Vec<Block>,
}

impl Program {
    /// The program of these blocks, which together have every row once per chunk, in order of the chunks.
    pub(super) fn new(rows: u32, cols: u32, blocks: Vec<Block>) -> Self {
        Self { rows, cols, blocks }
    }

    /// N.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// K.
    pub fn cols(&self) -> u32 {
        self.cols
    }

    /// Its parts.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Ranges of the columns, each of which has sums of its own.
    pub fn chunks(&self) -> u32 {
        self.blocks.iter().map(|block| block.chunk + 1).max().unwrap_or(1)
    }

    /// The most registers that a block needs, for its rows' sums and for values.
    pub fn registers(&self) -> u32 {
        self.blocks.iter().map(|block| (block.sums.len() + block.tape.temps()) as u32).max().unwrap_or(0)
    }

    /// The most shared sums of a block that wait in memory at once.
    pub fn slots(&self) -> u32 {
        self.blocks.iter().map(|block| block.tape.slots()).max().unwrap_or(0)
    }

    /// Additions and subtractions of one run, those that add up the chunks included.
    pub fn adds(&self) -> u64 {
        let blocks: u64 = self.blocks.iter().map(|block| u64::from(block.adds())).sum();
        blocks + u64::from(self.rows) * u64::from(self.chunks() - 1)
    }

    /// Instructions of its straight-line code: the operations of all tapes, and a store per row of each block.
    pub fn instructions(&self) -> u64 {
        self.blocks.iter().map(|block| (block.tape.ops().len() + block.sums.len()) as u64).sum()
    }

    /// The outputs for these inputs.
    ///
    /// # Panics
    /// If there are fewer than K inputs.
    pub fn evaluate(&self, inputs: &[i8]) -> Vec<i32> {
        let mut outputs = vec![0i32; self.rows as usize];
        for block in &self.blocks {
            let sums = block.fold(
                &0i32,
                |acc, input, minus| *acc = added(*acc, i32::from(inputs[input as usize]), minus),
                |acc, value, minus| *acc = added(*acc, *value, minus),
            );
            for (row, sum) in block.rows().zip(sums) {
                outputs[row as usize] = outputs[row as usize].wrapping_add(sum);
            }
        }
        outputs
    }

    /// Whether it computes the product with this matrix, for all inputs: every output is followed back to the factors of
    /// the inputs. Also whether no block's output has more inputs than i16 holds.
    pub fn computes(&self, trits: &Trits) -> bool {
        let (rows, cols) = (self.rows as usize, self.cols as usize);
        if trits.check(rows, cols).is_err() {
            return false;
        }
        let mut left: Vec<i32> = trits.data.iter().map(|t| i32::from(*t)).collect();
        for block in &self.blocks {
            for (row, factors) in block.rows().zip(block.factors()) {
                let terms: u64 = factors.iter().map(|f| u64::from(f.unsigned_abs())).sum();
                let row = row as usize;
                if terms > u64::from(MOST_TERMS) || row >= rows {
                    return false;
                }
                for (left, factor) in left[row * cols..][..cols].iter_mut().zip(factors) {
                    *left -= factor;
                }
            }
        }
        left.iter().all(|factor| *factor == 0)
    }
}

/// What a value of the form that a pass left becomes.
#[derive(Clone)]
enum Became {
    /// It stands for itself, its sign turned if so.
    Value { id: u32, turned: bool },
    /// Its terms stand where it stood.
    Terms(Sum),
}

/// Sums that are used once, or are no sums, stand where they are used; unused ones fall away; no shared sum begins with
/// a minus.
fn normal_form(inputs: u32, shared: &[Sum], sums: &[Sum]) -> (Vec<Sum>, Vec<Sum>) {
    // What a sum of fewer than two terms names is what its users name.
    let mut names: Vec<Option<Term>> = Vec::with_capacity(shared.len());
    let renamed = |sum: &Sum, names: &[Option<Term>]| -> Sum {
        let name = |term: &Term| match term.value.checked_sub(inputs) {
            None => Some(*term),
            Some(i) => names[i as usize].map(|name| name.signed(term.minus)),
        };
        sum.iter().filter_map(name).collect()
    };
    let mut proper: Vec<Sum> = Vec::with_capacity(shared.len());
    for (i, sum) in shared.iter().enumerate() {
        let sum = renamed(sum, &names);
        names.push(match sum[..] {
            [] => None,
            [term] => Some(term),
            _ => Some(Term::plus(inputs + i as u32)),
        });
        proper.push(sum);
    }
    let sums: Vec<Sum> = sums.iter().map(|sum| renamed(sum, &names)).collect();

    let mut uses = vec![0u32; shared.len()];
    let count = |sum: &Sum, uses: &mut [u32]| {
        for i in sum.iter().filter_map(|term| term.value.checked_sub(inputs)) {
            uses[i as usize] += 1;
        }
    };
    sums.iter().for_each(|sum| count(sum, &mut uses));
    for i in (0..shared.len()).rev() {
        if uses[i] > 0 {
            count(&proper[i], &mut uses);
        }
    }

    let mut became: Vec<Became> = Vec::with_capacity(shared.len());
    let mut kept: Vec<Sum> = Vec::new();
    let expanded = |sum: &Sum, became: &[Became]| -> Sum {
        let mut terms = Sum::new();
        for term in sum {
            match term.value.checked_sub(inputs).map(|i| &became[i as usize]) {
                None => terms.push(*term),
                Some(Became::Value { id, turned }) => terms.push(Term { value: *id, minus: term.minus != *turned }),
                Some(Became::Terms(inner)) => terms.extend(inner.iter().map(|inner| inner.signed(term.minus))),
            }
        }
        terms
    };
    for (i, sum) in proper.iter().enumerate() {
        let mut sum = expanded(sum, &became);
        if uses[i] < 2 || sum.len() < 2 {
            became.push(Became::Terms(sum));
            continue;
        }
        let first = sum.iter().position(|term| !term.minus);
        let turned = first.is_none();
        sum.swap(0, first.unwrap_or(0));
        became.push(Became::Value { id: inputs + kept.len() as u32, turned });
        kept.push(sum.into_iter().map(|term| term.signed(turned)).collect());
    }
    let sums = sums.iter().map(|sum| expanded(sum, &became)).collect();
    (kept, sums)
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "addsub {} x {}: {} additions", self.rows, self.cols, self.adds())?;
        for block in &self.blocks {
            let Range { start, end } = block.rows;
            writeln!(f, "\nrows {start}..{end}, columns of chunk {}", block.chunk)?;
            for (i, sum) in block.shared.iter().enumerate() {
                writeln!(f, "  s{i} = {}", Terms { inputs: block.inputs, sum })?;
            }
            for (row, sum) in block.rows().zip(&block.sums) {
                writeln!(f, "  y{row} = {}", Terms { inputs: block.inputs, sum })?;
            }
        }
        Ok(())
    }
}

/// A sum as text.
struct Terms<'a> {
    inputs: u32,
    sum: &'a [Term],
}

impl fmt::Display for Terms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.sum.iter().enumerate() {
            f.write_str(match (i, term.minus) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            })?;
            match term.value.checked_sub(self.inputs) {
                None => write!(f, "x{}", term.value)?,
                Some(i) => write!(f, "s{i}")?,
            }
        }
        if self.sum.is_empty() { f.write_str("0") } else { Ok(()) }
    }
}
