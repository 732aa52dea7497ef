//! Operands of kernels as they lie in memory, and what must be found there afterwards.
//!
//! In: rows of numbers. Out: padded rows with a canary behind ([`Rows`]), quantised rows in their three parts
//! ([`Quantised`]), every target to run on.

use tern_compiler::codegen::{EmitterChoice, Isa, Target};
use tern_compiler::graph::DenseType;
use tern_compiler::graph::arith::{Profile, QuantRow};
use tern_compiler::schedule::packing::dense_row_bytes;
use tern_compiler::schedule::{RowKind, layout};

use crate::call::Arg;
use crate::rng::Rng;
use crate::{engines, foreign};

/// What stands behind every buffer; must survive.
pub const CANARY: u32 = 0x7fc0_dead;

/// Every level, profile and emitter that runs here.
///
/// # Panics
/// On a machine without any level.
pub fn targets() -> Vec<Target> {
    let found = of(engines::targets());
    assert!(!found.is_empty(), "this machine has none of tern's ISA levels");
    found
}

/// The same, and those of CPUs that are emulated here: for what is called through [`crate::call::Kernel`].
///
/// # Panics
/// On a machine without any level, or without an emulator that is required.
pub fn targets_with_foreign() -> Vec<Target> {
    let mut found = of(engines::targets_of(foreign::levels()));
    found.extend(targets());
    found
}

fn of(targets: Vec<(Isa, Profile, EmitterChoice)>) -> Vec<Target> {
    let compiled = |(isa, profile, emitter)| Target::new(isa, profile, emitter).expect("a level with its profile");
    targets.into_iter().map(compiled).collect()
}

/// A target and what is tested on it, for messages.
pub fn name(target: &Target, what: &str) -> String {
    format!("{} {} {} {what}", target.isa.name(), target.profile.name(), target.emitter.name())
}

/// Rows of 4-byte elements, padded to 16, full of garbage, a canary row behind.
pub struct Rows {
    /// Elements from one row to the next.
    pub stride: usize,
    data: Vec<u32>,
}

impl Rows {
    /// Rows that nobody wrote yet.
    pub fn garbage(rows: usize, cols: usize) -> Self {
        let stride = cols.next_multiple_of(16);
        let mut data = vec![0xffff_ffff; rows * stride];
        data.extend([CANARY; 16]);
        Self { stride, data }
    }
    /// Rows with zeros behind them, as every kernel leaves them.
    pub fn of(rows: &[Vec<f32>]) -> Self {
        let cols = rows.first().map_or(0, Vec::len);
        let mut this = Self::garbage(rows.len(), cols);
        for (i, row) in rows.iter().enumerate() {
            for j in 0..this.stride {
                this.data[i * this.stride + j] = row.get(j).map_or(0, |v| v.to_bits());
            }
        }
        this
    }
    /// The rows from number `first` on, to be read.
    pub fn from(&self, first: usize) -> Arg<'_> {
        Arg::from(&self.data[first * self.stride..])
    }
    /// All rows, to be read.
    pub fn read(&self) -> Arg<'_> {
        self.from(0)
    }
    /// All rows, to be written.
    pub fn write(&mut self) -> Arg<'_> {
        Arg::from(&mut self.data[..])
    }
    /// Compares with what is expected, padding and canary included.
    ///
    /// # Panics
    /// At the first difference.
    #[track_caller]
    pub fn expect(&self, want: &[Vec<u32>], what: &str) {
        for (i, row) in want.iter().enumerate() {
            for j in 0..self.stride {
                let (found, want) = (self.data[i * self.stride + j], row.get(j).copied().unwrap_or(0));
                // Padding may be minus zero: it counts as zero in every sum.
                let same = found == want || (j >= row.len() && found == 0x8000_0000);
                assert!(same, "{what}: row {i} column {j}: found {found:08x}, expected {want:08x}");
            }
        }
        let canary = &self.data[self.data.len() - 16..];
        assert!(canary.iter().all(|c| *c == CANARY), "{what}: wrote behind the buffer");
    }
}

/// The bits of every number.
pub fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|r| r.iter().map(|v| v.to_bits()).collect()).collect()
}

/// Rows of numbers of at most this size.
pub fn random_rows(rng: &mut Rng, rows: usize, cols: usize, size: f32) -> Vec<Vec<f32>> {
    (0..rows).map(|_| rng.floats(cols, size)).collect()
}

/// Quantised rows in the three parts that kernels read.
pub struct Quantised {
    /// As `arith` has them.
    pub rows: Vec<QuantRow>,
    /// All codes, each row padded with zeros to a multiple of 64.
    pub codes: Vec<i8>,
    /// One per row.
    pub scales: Vec<f32>,
    /// The sum of the codes of each row.
    pub sums: Vec<i32>,
}

impl Quantised {
    /// The parts of these rows.
    pub fn of(rows: Vec<QuantRow>) -> Self {
        let mut this = Self { codes: vec![], scales: vec![], sums: vec![], rows };
        for row in &this.rows {
            let start = this.codes.len();
            this.codes.extend(&row.codes);
            this.codes.resize(start + layout::row_bytes(RowKind::Q8, row.codes.len() as u32) as usize, 0);
            this.scales.push(row.scale);
            this.sums.push(row.sum);
        }
        this
    }
    /// Rows of these codes, with random scales.
    pub fn from_codes(codes: Vec<Vec<i8>>, rng: &mut Rng) -> Self {
        Self::of(
            codes
                .into_iter()
                .map(|codes| {
                    let sum = codes.iter().map(|c| i32::from(*c)).sum();
                    QuantRow { codes, scale: rng.unit().abs() * 50.0 + 1.0, sum }
                })
                .collect(),
        )
    }
}

/// The sum of products, exactly.
pub fn dot_exact(codes: &[i8], trits: &[i8]) -> i32 {
    codes.iter().zip(trits).map(|(c, t)| i32::from(*c) * i32::from(*t)).sum()
}

/// Dense rows of a dtype, packed, and what they are as f32.
pub fn dense_rows(rng: &mut Rng, dtype: DenseType, rows: usize, cols: usize) -> (Vec<u8>, Vec<Vec<f32>>) {
    let stride = dense_row_bytes(dtype, cols as u32) as usize;
    let mut packed = vec![0u8; rows * stride];
    let mut values = Vec::new();
    for row in packed.chunks_exact_mut(stride) {
        let mut widened = Vec::new();
        for (i, x) in rng.floats(cols, 1.0).into_iter().enumerate() {
            // Some subnormals of f16 among them.
            let x = if i % 7 == 3 { x * 1e-6 } else { x };
            match dtype {
                DenseType::F16 => {
                    let h = half::f16::from_f32(x);
                    row[2 * i..2 * i + 2].copy_from_slice(&h.to_le_bytes());
                    widened.push(h.to_f32());
                }
                DenseType::Bf16 => {
                    let h = half::bf16::from_f32(x);
                    row[2 * i..2 * i + 2].copy_from_slice(&h.to_le_bytes());
                    widened.push(h.to_f32());
                }
                _ => {
                    row[4 * i..4 * i + 4].copy_from_slice(&x.to_le_bytes());
                    widened.push(x);
                }
            }
        }
        values.push(widened);
    }
    (packed, values)
}
