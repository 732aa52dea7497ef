//! Which regions are equal.
//!
//! In: the regions of a graph. Out: one body for all regions that have the same one, in the order of their first place.

use super::body::Body;
use super::regions::Region;

/// The regions of a graph by equal body.
pub(super) struct Distinct {
    /// Which kind each region is.
    kinds: Vec<usize>,
    /// The regions of each kind, by first place in the graph.
    pub(super) members: Vec<Vec<usize>>,
    /// The body of each kind; replaced when it is rewritten.
    pub(super) bodies: Vec<Body>,
}

impl Distinct {
    pub(super) fn new(regions: &[Region]) -> Self {
        let mut distinct = Self { kinds: Vec::new(), members: Vec::new(), bodies: Vec::new() };
        // Looked up only, never iterated.
        let mut seen = std::collections::HashMap::new();
        for (index, region) in regions.iter().enumerate() {
            let kind = *seen.entry(&region.body).or_insert_with(|| {
                distinct.members.push(Vec::new());
                distinct.bodies.push(region.body.clone());
                distinct.members.len() - 1
            });
            distinct.kinds.push(kind);
            distinct.members[kind].push(index);
        }
        distinct
    }

    pub(super) fn body_of(&self, region: usize) -> &Body {
        &self.bodies[self.kinds[region]]
    }
}
