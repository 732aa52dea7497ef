//! The key/value caches of one sequence.
//!
//! In: a graph's cache declarations. Out: rows of keys and values by position, which grow with each step. It upholds
//! that all layers hold the same positions `0..len`. An f16 store rounds each row once, when it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use tern_runtime::kv::KvType;

use super::value::KvValue;
use crate::graph::{Graph, Op};

/// The rows of one layer.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct LayerRows {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    /// `[len, heads * head_dim]`, row-major.
    pub(super) keys: Vec<f32>,
    /// Likewise.
    pub(super) values: Vec<f32>,
}

impl LayerRows {
    /// Elements of one position.
    pub(super) fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// The caches of one sequence.
#[derive(Clone, Debug)]
pub struct KvStore {
    kv_type: KvType,
    len: usize,
    layers: BTreeMap<u32, Arc<LayerRows>>,
}

impl KvStore {
    /// Empty caches for every layer that `graph` declares.
    pub fn new(graph: &Graph, kv_type: KvType) -> Self {
        let mut layers = BTreeMap::new();
        for node in &graph.nodes {
            if let Op::KvCache { layer, heads, head_dim } = node.op {
                let (heads, head_dim) = (heads as usize, head_dim as usize);
                let rows = LayerRows { heads, head_dim, keys: Vec::new(), values: Vec::new() };
                layers.insert(layer, Arc::new(rows));
            }
        }
        Self { kv_type, len: 0, layers }
    }

    /// How keys and values are kept.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The cache of a layer before a step at `pos`; `None` if the store has no such cache.
    pub(super) fn layer(&self, layer: u32, heads: u32, head_dim: u32, pos: usize) -> Option<KvValue> {
        let rows = self.layers.get(&layer)?;
        let same = rows.heads == heads as usize && rows.head_dim == head_dim as usize;
        // A graph that does not return a cache never fills it.
        let has_rows = pos <= self.len && pos * rows.width() <= rows.keys.len();
        (same && has_rows).then(|| KvValue {
            layer,
            stored: Arc::clone(rows),
            start: pos,
            keys: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Keeps the rows that a step wrote; the sequence then has `len` positions.
    pub(super) fn commit(&mut self, written: Vec<KvValue>, len: usize) {
        for KvValue { layer, stored, start, keys, values } in written {
            // Else the rows count as shared and would be copied.
            drop(stored);
            if let Some(rows) = self.layers.get_mut(&layer) {
                let rows = Arc::make_mut(rows);
                let kept = start * rows.width();
                rows.keys.truncate(kept);
                rows.keys.extend(keys);
                rows.values.truncate(kept);
                rows.values.extend(values);
            }
        }
        self.len = len;
    }
}
