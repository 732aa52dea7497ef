//! Strategies that fit into memory, and the loops of their kernels.
//!
//! In: an optimised graph, the costs by which its strategies were chosen, and maybe a limit of packed weights. Out: its
//! schedule; with a limit, every product has the strategies of the fastest choice that fits, whatever it takes to load.

use crate::egraph::cost::with_strategies;
use crate::egraph::products::{Chosen, products};
use crate::egraph::{Costs, Facts};
use crate::graph::{Graph, Strategy};
use crate::schedule::{ProductKey, Schedule, Variants};
use crate::strategy::memory::{Way, fit};
use crate::strategy::price::product_bytes;
use crate::strategy::{Product, Slot};

use super::Error;

/// What a choice depends on.
pub(super) struct Fit<'a> {
    pub(super) facts: &'a Facts,
    pub(super) costs: &'a Costs,
    /// The most bytes of packed weights.
    pub(super) budget_bytes: Option<u64>,
}

impl Fit<'_> {
    /// The schedule of `graph`, made by `schedule`; within the limit, if there is one.
    pub(super) fn schedule(
        &self,
        graph: &mut Graph,
        schedule: &mut dyn FnMut(&Graph, Variants) -> Result<Schedule, Error>,
    ) -> Result<Schedule, Error> {
        let first = schedule(graph, self.variants(graph))?;
        let Some(budget_bytes) = self.budget_bytes else { return Ok(first) };
        let chosen = products(graph, self.facts);
        let bytes = |chosen: &Chosen| {
            let [one, many] = self.resolved(chosen.strategies, &chosen.product);
            product_bytes(one, many, &chosen.product)
        };
        let rest_bytes = first.weights.bytes.saturating_sub(chosen.iter().map(bytes).sum());
        let ways: Vec<Vec<Way>> = chosen.iter().map(|chosen| self.ways(chosen)).collect();
        let found = fit(&ways, budget_bytes.saturating_sub(rest_bytes)).map_err(|ternary_bytes| Error::Memory {
            least_bytes: rest_bytes + ternary_bytes,
            rest_bytes,
            budget_bytes,
        })?;
        for ((chosen, ways), &way) in chosen.iter().zip(&ways).zip(&found.ways) {
            let (Some(node), Some(way)) = (graph.nodes.get_mut(chosen.node.0 as usize), ways.get(way)) else {
                continue;
            };
            node.op = with_strategies(node.op, way.strategies);
        }
        let done = schedule(graph, self.variants(graph))?;
        if done.weights.bytes > budget_bytes {
            return Err(Error::Memory { least_bytes: done.weights.bytes, rest_bytes, budget_bytes });
        }
        if !found.exact {
            tracing::warn!("so many choices fit that not all were compared: there may be a faster one");
        }
        Ok(done)
    }

    fn resolved(&self, strategies: [Strategy; 2], product: &Product) -> [Strategy; 2] {
        Slot::ALL.map(|slot| self.costs.offers.resolve(slot, strategies[slot as usize], product))
    }

    /// Every pair of strategies that a product has.
    fn ways(&self, Chosen { product, strategies, .. }: &Chosen) -> Vec<Way> {
        let admitted = |slot: Slot| -> Vec<Strategy> {
            let there = |strategy: &Strategy| self.costs.offers.admit(slot, *strategy, product).is_ok();
            let all: Vec<Strategy> = Strategy::ALL.into_iter().filter(there).collect();
            // Nothing by name: what it has now.
            if all.is_empty() { vec![strategies[slot as usize]] } else { all }
        };
        let (one, many) = (admitted(Slot::Decode), admitted(Slot::Prefill));
        let pairs = one.iter().flat_map(|one| many.iter().map(move |many| [*one, *many]));
        pairs.map(|strategies| self.way(strategies, product)).collect()
    }

    fn way(&self, strategies: [Strategy; 2], product: &Product) -> Way {
        let [one, many] = self.resolved(strategies, product);
        let bytes = product_bytes(one, many, product);
        Way { strategies, ps: self.costs.session_ps(strategies, product), bytes }
    }

    /// How the loops of the graph's kernels are cut, by the measurements by which they were chosen.
    fn variants(&self, graph: &Graph) -> Variants {
        let mut variants = Variants::new();
        // Kernels of scales per group have no variants.
        let plain = products(graph, self.facts).into_iter().filter(|chosen| chosen.product.groups.is_none());
        for Chosen { product, strategies, .. } in plain {
            for (slot, strategy) in Slot::ALL.into_iter().zip(self.resolved(strategies, &product)) {
                for member in &product.members {
                    let one = Product { members: vec![*member], ..product.clone() };
                    let variant = self.costs.prices.price(slot, strategy, &one).variant;
                    let key = ProductKey {
                        slot,
                        strategy,
                        rows: member.rows,
                        cols: product.cols,
                        is_gated: product.is_gated,
                    };
                    variants.insert(key, variant);
                }
            }
        }
        variants
    }
}
