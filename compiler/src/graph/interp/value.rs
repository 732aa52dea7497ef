//! Values of the reference interpreter.
//!
//! In: numbers with a shape. Out: [`Value`], what a node computes. A value is immutable once made; a cache value shares
//! the rows of earlier steps and holds its own new ones, so that a failed step leaves the store as it was.

use std::sync::Arc;

use super::kv::LayerRows;
use crate::graph::arith::QuantRow;

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
    /// The cache of one layer.
    Kv(KvValue),
    /// Several tensors.
    Tuple(Vec<Value>),
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
