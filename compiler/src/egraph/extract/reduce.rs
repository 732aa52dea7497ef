//! A smaller problem with the same least cost.
//!
//! In: a problem that has a solution. Out: the classes and alternatives among which there is something to decide, and
//! the way back. Each step keeps an optimal solution:
//! - *feasible*: an alternative that needs a class without a finite tree is never chosen;
//! - *free leaves*: a class with an alternative that costs and needs nothing is always had, so nobody need list it;
//! - *dominance*: alternative `b` goes if an `a` of its class costs no more and needs only classes that every solution
//!   with `b` contains anyway (`must`). The replacement makes no cycle: those classes hang below `b`, not above it;
//! - *private classes*: a class that one single alternative needs is decided there, so its alternatives are multiplied
//!   into that one.

use super::bits::Bits;
use super::{Choice, Problem, solvable};

/// A class may grow to this many alternatives by multiplying a private class into it.
const MAX_ALTERNATIVES: usize = 64;

/// An alternative of the reduced problem: one or several of the original.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    /// The sum of the original costs.
    pub(super) cost: u64,
    /// The classes it needs, ascending, free leaves left out.
    pub(super) children: Vec<usize>,
    /// The originals: class and alternative.
    picks: Vec<(usize, usize)>,
}

/// A reduced problem; class numbers are the original ones, classes that fell away have no alternatives.
#[derive(Debug)]
pub(super) struct Reduced {
    /// The alternatives that are left.
    pub(super) classes: Vec<Vec<Node>>,
    /// The class that is wanted.
    pub(super) root: usize,
    /// For each class, the classes (itself included) that every solution for it contains.
    pub(super) must: Vec<Bits>,
    /// Classes that are free, with their alternative.
    free: Vec<Option<usize>>,
}

impl Reduced {
    /// Reduces `problem`; `None` if its root has no finite tree.
    pub(super) fn new(problem: &Problem) -> Option<Self> {
        let count = problem.classes.len();
        let mut reduced =
            Self { classes: feasible(problem), root: problem.root, must: Vec::new(), free: vec![None; count] };
        if reduced.classes[reduced.root].is_empty() {
            return None;
        }
        reduced.take_free_leaves();
        loop {
            reduced.drop_unreachable();
            reduced.must = reduced.required_sets();
            let dominated = reduced.drop_dominated();
            let merged = reduced.merge_private();
            if !dominated && !merged {
                return Some(reduced);
            }
        }
    }

    /// The original choice behind a choice per reduced class.
    pub(super) fn expand(&self, choice: &[Option<usize>]) -> Vec<Option<usize>> {
        let mut original = self.free.clone();
        for (class, index) in choice.iter().enumerate() {
            if let Some(node) = index.and_then(|index| self.classes[class].get(index)) {
                for &(class, index) in &node.picks {
                    original[class] = Some(index);
                }
            }
        }
        original
    }

    /// The same as a problem of its own.
    pub(super) fn as_problem(&self) -> Problem {
        let choice = |node: &Node| Choice { cost: node.cost, children: node.children.clone() };
        let classes = self.classes.iter().map(|nodes| nodes.iter().map(choice).collect()).collect();
        Problem { classes, root: self.root }
    }

    fn take_free_leaves(&mut self) {
        loop {
            let mut found = false;
            for class in 0..self.classes.len() {
                let leaf = self.classes[class].iter().find(|n| n.cost == 0 && n.children.is_empty());
                if let Some(leaf) = leaf
                    && self.free[class].is_none()
                {
                    for &(class, index) in &leaf.picks {
                        self.free[class] = Some(index);
                    }
                    let leaf = leaf.clone();
                    self.classes[class] = vec![leaf];
                    found = true;
                }
            }
            if !found {
                return;
            }
            let free = &self.free;
            for node in self.classes.iter_mut().flatten() {
                node.children.retain(|&child| free[child].is_none());
            }
        }
    }

    fn drop_unreachable(&mut self) {
        let mut seen = Bits::empty(self.classes.len());
        let mut todo = vec![self.root];
        seen.insert(self.root);
        while let Some(class) = todo.pop() {
            for &child in self.classes[class].iter().flat_map(|node| &node.children) {
                if !seen.contains(child) {
                    seen.insert(child);
                    todo.push(child);
                }
            }
        }
        for (class, nodes) in self.classes.iter_mut().enumerate() {
            if !seen.contains(class) {
                nodes.clear();
            }
        }
    }

    /// must(c) = {c} and, over the alternatives of c, the intersection of the union of must over their children: the
    /// greatest such sets.
    fn required_sets(&self) -> Vec<Bits> {
        let count = self.classes.len();
        let mut must: Vec<Bits> = vec![Bits::full(count); count];
        loop {
            let mut changed = false;
            for class in 0..count {
                if self.classes[class].is_empty() {
                    continue;
                }
                let mut all = Bits::full(count);
                for node in &self.classes[class] {
                    all.keep_only(&required_by(node, &must));
                }
                all.insert(class);
                if all != must[class] {
                    must[class] = all;
                    changed = true;
                }
            }
            if !changed {
                return must;
            }
        }
    }

    fn drop_dominated(&mut self) -> bool {
        let mut changed = false;
        for class in 0..self.classes.len() {
            let nodes = &self.classes[class];
            let required: Vec<Bits> = nodes.iter().map(|node| required_by(node, &self.must)).collect();
            let mut kept = vec![true; nodes.len()];
            for b in 0..nodes.len() {
                let beats = |a: usize, b: usize| {
                    nodes[a].cost <= nodes[b].cost && nodes[a].children.iter().all(|&child| required[b].contains(child))
                };
                // Of two that beat each other the first stays.
                kept[b] = !(0..nodes.len()).any(|a| a != b && kept[a] && beats(a, b) && (a < b || !beats(b, a)));
            }
            if kept.contains(&false) {
                changed = true;
                let mut keep = kept.iter();
                self.classes[class].retain(|_| keep.next().copied().unwrap_or(true));
            }
        }
        changed
    }

    /// Multiplies classes with a single user into it.
    fn merge_private(&mut self) -> bool {
        let mut users: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.classes.len()];
        for (class, nodes) in self.classes.iter().enumerate() {
            for (index, node) in nodes.iter().enumerate() {
                for &child in &node.children {
                    users[child].push((class, index));
                }
            }
        }
        // Positions in `users` go stale where a class changes; those wait for the next round.
        let mut changed = vec![false; self.classes.len()];
        for private in 0..self.classes.len() {
            let &[(user, index)] = users[private].as_slice() else { continue };
            let alternatives = self.classes[private].len();
            let grown = alternatives + self.classes[user].len();
            if private == self.root || changed[user] || changed[private] || grown > MAX_ALTERNATIVES {
                continue;
            }
            changed[user] = true;
            changed[private] = true;
            let outer = self.classes[user].remove(index);
            for inner in std::mem::take(&mut self.classes[private]) {
                let mut node = outer.clone();
                node.cost = node.cost.saturating_add(inner.cost);
                node.children.retain(|&child| child != private);
                node.children.extend(inner.children);
                node.children.sort_unstable();
                node.children.dedup();
                node.picks.extend(inner.picks);
                if !node.children.contains(&user) {
                    self.classes[user].push(node);
                }
            }
        }
        changed.contains(&true)
    }
}

/// The classes that every solution with `node` contains, besides its own.
fn required_by(node: &Node, must: &[Bits]) -> Bits {
    let mut union = Bits::empty(must.len());
    for &child in &node.children {
        union.add_all(&must[child]);
    }
    union
}

/// The alternatives whose children all have a finite tree.
fn feasible(problem: &Problem) -> Vec<Vec<Node>> {
    let has_tree = solvable(problem);
    let mut classes = Vec::with_capacity(problem.classes.len());
    for (class, nodes) in problem.classes.iter().enumerate() {
        let mut kept = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let mut children = node.children.clone();
            children.sort_unstable();
            children.dedup();
            // An alternative that needs its own class is part of a cycle.
            if children.iter().all(|&child| has_tree[child] && child != class) {
                kept.push(Node { cost: node.cost, children, picks: vec![(class, index)] });
            }
        }
        classes.push(kept);
    }
    classes
}
