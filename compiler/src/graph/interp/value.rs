//! Values of the reference interpreter.
//!
//! In: numbers with a shape. Out: [`Value`], what a node computes. A value is immutable once made; a cache value shares
//! the rows of earlier steps and holds its own new ones, so that a failed step leaves the store as it was.

use std::sync::Arc;

use super::kv::LayerRows;
use crate::graph::arith::{Chosen, QuantRow};

/// A dense row-major array.
#[derive(Clone, PartialEq, Debug)]
pub struct Array<T> {
    /// Rows.
    pub rows: usize,
    /// Elements of a row; 1 for a vector.
    pub cols: usize,
    /// `rows * cols` elements.
    pub data: Vec<T>,
}

impl<T> Array<T> {
    /// An array of `data.len() / cols` rows.
    ///
    /// # Panics
    /// If `data` is not whole rows.
    pub fn new(cols: usize, data: Vec<T>) -> Self {
        assert!(cols > 0 && data.len().is_multiple_of(cols), "{} elements in rows of {cols}", data.len());
        Self { rows: data.len() / cols, cols, data }
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If there is none.
    pub fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }
}

/// What a node computes.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `f32[R, K]`.
    F32(Array<f32>),
    /// `i32[R, N]`; `i32[T]` (ids, positions) in one column.
    I32(Array<i32>),
    /// `q8[R, K]`, a row each.
    Q8(Vec<QuantRow>),
    /// `route[T, E, C]`.
    Route(Route),
    /// The cache of one layer.
    Kv(KvValue),
    /// Several tensors.
    Tuple(Vec<Value>),
}

/// Which experts each token has.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// E.
    pub experts: usize,
    /// C, choices of a token.
    pub top_k: usize,
    /// The choices of each token, one after another.
    pub chosen: Vec<Chosen>,
}

impl Route {
    /// For each routed row its expert and its place in `chosen`: by expert, then by token.
    pub fn rows(&self) -> Vec<(usize, usize)> {
        let each = self.chosen.iter().enumerate();
        let mut rows: Vec<(usize, usize)> = each.map(|(place, chosen)| (chosen.expert as usize, place)).collect();
        rows.sort_unstable();
        rows
    }

    /// For each place in `chosen` its routed row.
    pub fn row_of(&self) -> Vec<usize> {
        let mut row_of = vec![0; self.chosen.len()];
        for (row, (_, place)) in self.rows().into_iter().enumerate() {
            row_of[place] = row;
        }
        row_of
    }

    /// `rows`, one for each token, as routed rows.
    pub(super) fn dispatch<T: Clone>(&self, rows: &[T]) -> Vec<T> {
        let row = |(_, place): (usize, usize)| rows[place / self.top_k].clone();
        self.rows().into_iter().map(row).collect()
    }

    /// The routed rows of each expert: first and behind the last.
    pub(super) fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        let rows = self.rows();
        (0..self.experts)
            .map(|e| rows.partition_point(|(expert, _)| *expert < e)..rows.partition_point(|(expert, _)| *expert <= e))
            .collect()
    }
}

/// The cache of one layer as some node sees it: the stored rows below `start`, then those written in this step.
#[derive(Clone, PartialEq, Debug)]
pub struct KvValue {
    /// The layer.
    pub layer: u32,
    pub(super) stored: Arc<LayerRows>,
    /// Positions that still count of `stored`.
    pub(super) start: usize,
    /// Rows from position `start` on.
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl KvValue {
    /// Positions held.
    pub fn len(&self) -> usize {
        self.start + self.keys.len() / self.stored.width()
    }

    /// Key/value heads, and elements of each.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.stored.heads, self.stored.head_dim)
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key of one head at a position, `head_dim` elements.
    ///
    /// # Panics
    /// If there is none.
    pub fn key(&self, position: usize, head: usize) -> &[f32] {
        self.row(position, head, &self.stored.keys, &self.keys)
    }

    /// The value of one head at a position, `head_dim` elements.
    ///
    /// # Panics
    /// If there is none.
    pub fn value(&self, position: usize, head: usize) -> &[f32] {
        self.row(position, head, &self.stored.values, &self.values)
    }

    fn row<'a>(&self, position: usize, head: usize, old: &'a [f32], new: &'a [f32]) -> &'a [f32] {
        let head_dim = self.stored.head_dim;
        let (rows, position) = if position < self.start { (old, position) } else { (new, position - self.start) };
        let at = position * self.stored.width() + head * head_dim;
        &rows[at..at + head_dim]
    }
}
