//! The cheapest graph in an e-graph, each class paid once.
//!
//! In: a [`Problem`]: classes of alternatives, each with its own cost and the classes that it needs, and one root. Out:
//! one alternative per class that is needed, without a cycle, of least total cost: a class that several others need
//! counts once, which is what makes sharing (one quantisation, one concatenated product) pay. egg's own extractor sums
//! a tree and cannot see it.
//!
//! Three steps: `reduce` removes what cannot matter (on a transformer block nearly everything), `greedy` gives a
//! first solution, `search` finds the best one by branch and bound within a budget of steps. [`Solution::exact`] says
//! whether the budget sufficed. Nothing here knows ops or egg; equal problems have equal solutions.

mod bits;
mod greedy;
mod reduce;
mod search;

use reduce::Reduced;

/// Problems of more classes than this are solved greedily: the exact method keeps a set of classes per class.
const MAX_EXACT_CLASSES: usize = 4096;

/// One alternative of a class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// What it costs itself.
    pub cost: u64,
    /// The classes that it needs.
    pub children: Vec<usize>,
}

/// What to extract from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The alternatives of each class.
    pub classes: Vec<Vec<Choice>>,
    /// The class that is wanted.
    pub root: usize,
}

/// What was extracted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Solution {
    /// For each class that is needed, which of its alternatives; `None` for all others.
    pub choice: Vec<Option<usize>>,
    /// The sum over the chosen alternatives.
    pub cost: u64,
    /// Whether no cheaper one exists.
    pub exact: bool,
    /// How many steps the search took.
    pub steps: u64,
}

/// The cheapest solution that `budget` steps find; `None` if the root has none.
///
/// Every child must be less than the number of classes.
pub fn solve(problem: &Problem, budget: u64) -> Option<Solution> {
    let first = greedy::solve(problem)?;
    let first_cost = cost_of(problem, &first)?;
    if problem.classes.len() > MAX_EXACT_CLASSES {
        return Some(Solution { choice: first, cost: first_cost, exact: false, steps: 0 });
    }
    let reduced = Reduced::new(problem)?;
    let found = search::solve(&reduced, budget)?;
    let choice = needed(problem, &reduced.expand(&found.choice))?;
    let cost = cost_of(problem, &choice)?;
    // Out of budget, the first solution may still be the better one.
    let (choice, cost) = if cost <= first_cost { (choice, cost) } else { (first, first_cost) };
    Some(Solution { choice, cost, exact: found.exact, steps: found.steps })
}

/// The classes in an order in which children come first, following `choice` from the root; `None` if a needed class
/// has no choice, or if it needs itself.
pub fn order(problem: &Problem, choice: &[Option<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; problem.classes.len()];
    let mut order = Vec::new();
    // A class and how many of its children are done; explicit, so that depth is no matter of the stack.
    let mut path = vec![(problem.root, 0usize)];
    marks[problem.root] = Mark::Open;
    while let Some((class, next)) = path.last_mut() {
        let node = &problem.classes[*class][choice[*class]?];
        match node.children.get(*next) {
            Some(&child) => {
                *next += 1;
                match marks[child] {
                    Mark::New => {
                        marks[child] = Mark::Open;
                        path.push((child, 0));
                    }
                    Mark::Open => return None,
                    Mark::Done => {}
                }
            }
            None => {
                marks[*class] = Mark::Done;
                order.push(*class);
                path.pop();
            }
        }
    }
    Some(order)
}

/// For each class whether it has a solution of its own.
pub fn solvable(problem: &Problem) -> Vec<bool> {
    let mut has_tree = vec![false; problem.classes.len()];
    loop {
        let mut changed = false;
        for (class, nodes) in problem.classes.iter().enumerate() {
            if !has_tree[class] && nodes.iter().any(|node| node.children.iter().all(|&child| has_tree[child])) {
                has_tree[class] = true;
                changed = true;
            }
        }
        if !changed {
            return has_tree;
        }
    }
}

/// `choice` without the classes that the root does not need.
fn needed(problem: &Problem, choice: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
    let mut kept = vec![None; choice.len()];
    for class in order(problem, choice)? {
        kept[class] = choice[class];
    }
    Some(kept)
}

/// The sum over the classes that the root needs.
fn cost_of(problem: &Problem, choice: &[Option<usize>]) -> Option<u64> {
    let one = |class: usize| choice[class].map(|index| problem.classes[class][index].cost);
    order(problem, choice)?.into_iter().try_fold(0u64, |sum, class| Some(sum.saturating_add(one(class)?)))
}

#[cfg(test)]
mod tests;
