//! Rules that name a strategy, for every op that has the attributes `decode` and `prefill`.
//!
//! In: a row of the families `decode` and `prefill`. Out: a rewrite: of each ternary product for which nothing was chosen in
//! the slot, the same product with the strategy, if the target has a kernel for it and what the kernel claims is proved
//! (the guard `has_kernel`). The row's pattern shows it for one op; the others differ in their operands only.

use egg::{Applier, EGraph, Id, PatternAst, SearchMatches, Searcher, Subst, Symbol, Var};

use super::Rewrite;
use crate::egraph::analysis::{Types, full_op, operand_types, reads_zeros, weight_facts};
use crate::egraph::cost::{Known, is_product, product};
use crate::egraph::language::{ENode, Head};
use crate::graph::{Attr, Strategy};
use crate::spec::{Guard, RuleSpec};
use crate::strategy::Slot;

/// What a rule of a family chooses.
#[derive(Clone, Copy)]
struct Choose {
    slot: Slot,
    strategy: Strategy,
}

/// A row of a family as a rewrite.
pub(super) fn compile(rule: &RuleSpec) -> Result<Rewrite, String> {
    let (family, name) = rule.name.split_once('/').unwrap_or((rule.name, ""));
    let slot = Slot::ALL.into_iter().find(|slot| slot.name() == family);
    let choose = slot.zip(Strategy::from_name(name)).map(|(slot, strategy)| Choose { slot, strategy });
    let choose = choose.ok_or("a family is decode/STRATEGY or prefill/STRATEGY")?;
    let sides = match choose.slot {
        Slot::Decode => ["any ?p".to_owned(), format!("{name} ?p")],
        Slot::Prefill => ["?d any".to_owned(), format!("?d {name}")],
    };
    let [lhs, rhs] = sides.map(|attrs| format!("(ternary_linear ?x ?w {attrs})"));
    if rule.lhs != [lhs.as_str()] || rule.rhs != [rhs.as_str()] || rule.guards != [Guard::HasKernel("?w")] {
        return Err(format!("it must be {lhs} => {rhs} if has_kernel(?w)"));
    }
    egg::Rewrite::new(rule.name, choose, choose)
}

impl Choose {
    /// The nodes of a class that it applies to, with its choice.
    fn chosen(self, egraph: &EGraph<ENode, Types>, class: Id) -> Vec<ENode> {
        egraph[class]
            .nodes
            .iter()
            .filter(|node| self.admits(egraph, node))
            .filter_map(|node| self.with(egraph, node))
            .collect()
    }

    fn admits(self, egraph: &EGraph<ENode, Types>, node: &ENode) -> bool {
        if !node.op().is_some_and(is_product) {
            return false;
        }
        let Some(op) = full_op(egraph, node) else { return false };
        let Some(operands) = operand_types(egraph, node) else { return false };
        let facts = weight_facts(egraph, node);
        let known = Known { facts: &facts, is_sparse: reads_zeros(egraph, node) };
        let Some((product, strategies)) = product(op, &operands, known) else { return false };
        strategies[self.slot as usize] == Strategy::Any
            && egraph.analysis.offers.admit(self.slot, self.strategy, &product).is_ok()
    }

    /// `node` with the strategy in place of `any`, if the leaf of the strategy is in the e-graph.
    fn with(self, egraph: &EGraph<ENode, Types>, node: &ENode) -> Option<ENode> {
        let leaf = egraph.lookup(ENode::leaf(Head::Attr(Attr::Strategy(self.strategy))))?;
        Some(self.with_leaf(node, leaf))
    }

    fn with_leaf(self, node: &ENode, leaf: Id) -> ENode {
        let mut node = node.clone();
        // `decode` and `prefill` are the last two attributes.
        let children = egg::Language::children_mut(&mut node);
        let at = children.len() - Slot::ALL.len() + self.slot as usize;
        children[at] = leaf;
        node
    }
}

impl Searcher<ENode, Types> for Choose {
    fn search_with_limit(&self, egraph: &EGraph<ENode, Types>, limit: usize) -> Vec<SearchMatches<'_, ENode>> {
        let matches = egraph.classes().filter_map(|class| self.search_eclass_with_limit(egraph, class.id, limit));
        matches.take(limit).collect()
    }

    fn search_eclass_with_limit(
        &self,
        egraph: &EGraph<ENode, Types>,
        eclass: Id,
        _limit: usize,
    ) -> Option<SearchMatches<'_, ENode>> {
        let any = egraph[eclass].nodes.iter().any(|node| self.admits(egraph, node));
        any.then(|| SearchMatches { eclass, substs: vec![Subst::default()], ast: None })
    }

    fn vars(&self) -> Vec<Var> {
        Vec::new()
    }
}

impl Applier<ENode, Types> for Choose {
    fn apply_one(
        &self,
        egraph: &mut EGraph<ENode, Types>,
        eclass: Id,
        _subst: &Subst,
        _searcher_ast: Option<&PatternAst<ENode>>,
        _rule_name: Symbol,
    ) -> Vec<Id> {
        egraph.add(ENode::leaf(Head::Attr(Attr::Strategy(self.strategy))));
        let mut changed = Vec::new();
        for node in self.chosen(egraph, eclass) {
            if egraph.lookup(node.clone()).is_none() {
                let id = egraph.add(node);
                egraph.union(id, eclass);
                changed.push(id);
            }
        }
        changed
    }
}
