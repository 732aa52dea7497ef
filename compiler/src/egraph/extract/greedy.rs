//! A first solution: per class the alternative whose tree is cheapest, shared parts counted as often as they occur.
//!
//! In: a problem. Out: a choice for every class that has a finite tree. It is what egg's extractor would take, a bound
//! for the search and the answer where the search may not go. Chosen trees are finite, so there is no cycle: a class's
//! last improvement came after those of the children it relies on.

use super::Problem;

/// The choice per class; `None` if the root has no finite tree.
pub(super) fn solve(problem: &Problem) -> Option<Vec<Option<usize>>> {
    let count = problem.classes.len();
    let mut best: Vec<Option<(u64, usize)>> = vec![None; count];
    // Which classes to look at again when a class improves.
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (class, nodes) in problem.classes.iter().enumerate() {
        for &child in nodes.iter().flat_map(|node| &node.children) {
            if users[child].last() != Some(&class) {
                users[child].push(class);
            }
        }
    }
    let mut queue: std::collections::VecDeque<usize> = (0..count).collect();
    let mut queued = vec![true; count];
    while let Some(class) = queue.pop_front() {
        queued[class] = false;
        let mut improved = false;
        for (index, node) in problem.classes[class].iter().enumerate() {
            let tree = node
                .children
                .iter()
                .try_fold(node.cost, |sum, &child| best[child].map(|(cost, _)| sum.saturating_add(cost)));
            if let Some(tree) = tree
                && best[class].is_none_or(|(cost, _)| tree < cost)
            {
                best[class] = Some((tree, index));
                improved = true;
            }
        }
        if improved {
            for &user in &users[class] {
                if !queued[user] {
                    queued[user] = true;
                    queue.push_back(user);
                }
            }
        }
    }
    best[problem.root]?;
    Some(best.into_iter().map(|b| b.map(|(_, index)| index)).collect())
}
