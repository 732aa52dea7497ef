//! What is measured: the ternary products of a model, or a grid of shapes.
//!
//! In: a model, or nothing. Out: distinct [`Product`]s, those that matter most first, so that a limit of time leaves out the
//! least.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, Result};
use tern_compiler::graph::Strategy;
use tern_compiler::pipeline::Options;
use tern_compiler::schedule::Schedule;
use tern_compiler::schedule::kernel::{Epilogue, GroupRows, KernelKind};
use tern_compiler::trial::Shape;
use tern_compiler::tuning::{LARGE_MB, Work, model_mb};
use tern_runtime::cores::physical_cores;

use crate::args::{TuneArgs, Usage};
use crate::load::Loaded;

/// A product on some threads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Product {
    pub(super) work: Work,
    pub(super) threads: usize,
    /// The size class of the model that it is in.
    pub(super) model_mb: u32,
    /// Whether the model has matrices without zeros.
    pub(super) without_zeros: bool,
}

impl Product {
    /// The same for trials.
    pub(super) fn shape(&self) -> Result<Shape> {
        let Work { tokens, cols, rows, pair, group } = self.work;
        Ok(Shape::new(tokens, cols, rows)?.gated(pair)?.grouped(group)?)
    }
}

/// Tokens that one step of a short prompt has: where tables begin to pay is between them.
const FEW_TOKENS: [u32; 2] = [16, 8];
/// The most products of one run.
const MOST_PRODUCTS: u64 = 20_000;
/// Rows and columns of the grid.
const GRID: [u32; 6] = [64, 256, 768, 2048, 4096, 8192];
/// Tokens of the grid.
const GRID_TOKENS: [u32; 5] = [1, 4, 16, 64, 512];

/// All products of the model.
pub(super) fn of_model(args: &TuneArgs, options: &Options, step_tokens: u32) -> Result<Vec<Product>> {
    let loaded = Loaded::new(args.model.as_deref(), options)?;
    // The products are the same whatever computes them; with this strategy alone nothing is proved but that there are no zeros.
    let lowered = loaded.lower(&Options { only: [Some(Strategy::Dot1); 2], ..options.clone() })?;
    let matrices = matrices(&lowered.schedule);
    if matrices.is_empty() {
        return Err(Usage("the model has no ternary products: there is nothing to measure".to_owned()).into());
    }
    let defaults = [1, step_tokens].into_iter().chain(FEW_TOKENS).filter(|tokens| *tokens <= step_tokens);
    let without_zeros = !lowered.proofs.without_zeros.is_empty();
    cross(args, defaults.collect(), &matrices, model_mb(loaded.imported.graph.matrix_bytes()), without_zeros)
}

/// A matrix that products of any number of tokens have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Matrix {
    cols: u32,
    rows: u32,
    /// Whether it is the two of a gated unit.
    pair: bool,
    /// Columns of a group with a scale of its own, or 0.
    group: u32,
}

/// The distinct matrices that a schedule multiplies codes by; the halves of gated units also alone, since the optimiser may
/// compute them so. The largest first.
fn matrices(schedule: &Schedule) -> Vec<Matrix> {
    let distinct: BTreeSet<(u64, Matrix)> = schedule
        .kernels
        .iter()
        .flat_map(|kind| match *kind {
            KernelKind::Ternary { rows, cols, epilogue, .. } => {
                let size = u64::from(rows) * u64::from(cols);
                let one = Matrix { cols, rows, pair: false, group: 0 };
                let pair = matches!(epilogue, Epilogue::Glu(_)).then_some((2 * size, Matrix { pair: true, ..one }));
                pair.into_iter().chain([(size, one)]).collect()
            }
            KernelKind::Groups { rows, cols, group, x: GroupRows::Codes, .. } => {
                vec![(u64::from(rows) * u64::from(cols), Matrix { cols, rows, pair: false, group })]
            }
            _ => Vec::new(),
        })
        .collect();
    distinct.into_iter().rev().map(|(_, matrix)| matrix).collect()
}

/// Products of many shapes.
pub(super) fn of_grid(args: &TuneArgs) -> Result<Vec<Product>> {
    let sizes = if args.sizes.is_empty() { GRID.to_vec() } else { args.sizes.clone() };
    // Each with each.
    if (sizes.len() as u64).saturating_pow(2) > MOST_PRODUCTS {
        return Err(Usage(format!("{} sizes, each with each: give fewer", sizes.len())).into());
    }
    let matrices: Vec<_> = sizes
        .iter()
        .flat_map(|cols| sizes.iter().map(|rows| Matrix { cols: *cols, rows: *rows, pair: false, group: 0 }))
        .collect();
    cross(args, GRID_TOKENS.to_vec(), &matrices, LARGE_MB, false)
}

/// All numbers of threads, most first, with all numbers of tokens and all matrices of models of a size class.
fn cross(
    args: &TuneArgs,
    default_tokens: Vec<u32>,
    matrices: &[Matrix],
    model_mb: u32,
    without_zeros: bool,
) -> Result<Vec<Product>> {
    let threads = if args.threads.is_empty() { vec![physical_cores(), 1] } else { args.threads.clone() };
    let tokens = if args.tokens.is_empty() { default_tokens } else { args.tokens.clone() };
    let numbers = (threads.len() as u64).saturating_mul(tokens.len() as u64).saturating_mul(matrices.len() as u64);
    if numbers > MOST_PRODUCTS {
        let message = format!(
            "{numbers} products to measure, expected at most {MOST_PRODUCTS}: give fewer sizes, tokens or threads"
        );
        return Err(Usage(message).into());
    }
    let (mut products, mut seen) = (Vec::new(), HashSet::new());
    for threads in threads {
        if !(1..=tern_runtime::threads::MAX_THREADS).contains(&threads) {
            let most = tern_runtime::threads::MAX_THREADS;
            return Err(Usage(format!("--threads {threads}: expected numbers from 1 to {most}")).into());
        }
        for &tokens in &tokens {
            for &Matrix { cols, rows, pair, group } in matrices {
                let product =
                    Product { work: Work { tokens, cols, rows, pair, group }, threads, model_mb, without_zeros };
                product.shape().with_context(|| format!("{cols} columns and {rows} rows cannot be measured"))?;
                if seen.insert(product) {
                    products.push(product);
                }
            }
        }
    }
    Ok(products)
}
