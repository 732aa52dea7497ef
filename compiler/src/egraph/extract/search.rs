//! Branch and bound over what the reduction left open.
//!
//! In: a reduced problem. Out: its best choice within a budget. The classes that every solution contains are paid from
//! the start. What is left falls apart into components that share no optional class; each is searched alone, so that
//! two independent decisions cost the sum and not the product of their searches. If the classes can form a cycle, all
//! is one component and every step looks for a cycle.
//!
//! The bound: what is paid, plus for each open class the least of: own cost + for each optional class it would newly
//! need, that class's least cost divided by the number of classes that could share it. Every class of a full solution
//! is charged at most once, so the bound never exceeds what the best completion costs.

use super::bits::Bits;
use super::reduce::Reduced;

/// The search recurses once per decided class, this deep and no deeper.
const MAX_DEPTH: usize = 512;

/// So many alternatives looked at for a bound are one step, so that a budget of steps bounds time.
const ALTERNATIVES_PER_STEP: u64 = 32;

/// What the search found.
pub(super) struct Found {
    /// Per reduced class its alternative; `None` where the class is not needed.
    pub(super) choice: Vec<Option<usize>>,
    /// Whether the budget sufficed everywhere.
    pub(super) exact: bool,
    /// Steps taken: nodes of the search tree, and one for every so many alternatives looked at in them.
    pub(super) steps: u64,
}

/// Searches every component; `None` if there is no solution.
pub(super) fn solve(reduced: &Reduced, budget: u64) -> Option<Found> {
    let first = super::greedy::solve(&reduced.as_problem())?;
    let mut search = Search::new(reduced, budget);
    let mut choice = search.choice.clone();
    let mut exact = true;
    for component in search.components() {
        let solved = search.run(&component, &first)?;
        exact &= solved.exact;
        for (class, index) in solved.choice {
            choice[class] = Some(index);
        }
    }
    Some(Found { choice, exact, steps: search.steps })
}

/// The best choice of one component.
struct Solved {
    choice: Vec<(usize, usize)>,
    exact: bool,
}

struct Search<'r> {
    reduced: &'r Reduced,
    /// Whether the classes can form a cycle.
    cyclic: bool,
    /// Per class: its least own cost over the number of classes that may share it.
    share: Vec<u64>,
    /// Alternatives chosen so far; forced ones from the start.
    choice: Vec<Option<usize>>,
    /// Classes known to be needed.
    required: Bits,
    budget: u64,
    steps: u64,
    best_cost: u64,
    best: Option<Vec<(usize, usize)>>,
}

impl<'r> Search<'r> {
    fn new(reduced: &'r Reduced, budget: u64) -> Self {
        let required = reduced.must[reduced.root].clone();
        let count = reduced.classes.len();
        let mut sharers = vec![Bits::empty(count); count];
        for (class, nodes) in reduced.classes.iter().enumerate() {
            for &child in nodes.iter().flat_map(|node| &node.children) {
                sharers[child].insert(class);
            }
        }
        let share = (0..count)
            .map(|class| {
                let least = reduced.classes[class].iter().map(|node| node.cost).min().unwrap_or(0);
                least / (sharers[class].iter().count().max(1) as u64)
            })
            .collect();
        let mut choice = vec![None; count];
        for class in required.iter().filter(|&class| reduced.classes[class].len() == 1) {
            choice[class] = Some(0);
        }
        let cyclic = can_cycle(reduced);
        Self { reduced, cyclic, share, choice, required, budget, steps: 0, best_cost: u64::MAX, best: None }
    }

    /// The decisions that every solution makes, grouped by the optional classes that they may share.
    fn components(&self) -> Vec<Vec<usize>> {
        let decisions: Vec<usize> =
            self.required.iter().filter(|&class| self.reduced.classes[class].len() > 1).collect();
        let mut groups: Vec<(Bits, Vec<usize>)> = Vec::new();
        for class in decisions {
            let mut group = (self.optional_below(class), vec![class]);
            let mut apart = Vec::new();
            for other in groups {
                if self.cyclic || other.0.iter().any(|c| group.0.contains(c)) {
                    group.0.add_all(&other.0);
                    group.1.extend(other.1);
                } else {
                    apart.push(other);
                }
            }
            apart.push(group);
            groups = apart;
        }
        groups.into_iter().map(|(_, classes)| classes).collect()
    }

    /// The classes that some alternative below `class` needs but not every solution.
    fn optional_below(&self, class: usize) -> Bits {
        let mut seen = Bits::empty(self.reduced.classes.len());
        let mut todo = vec![class];
        while let Some(class) = todo.pop() {
            for &child in self.reduced.classes[class].iter().flat_map(|node| &node.children) {
                if !self.required.contains(child) && !seen.contains(child) {
                    seen.insert(child);
                    todo.push(child);
                }
            }
        }
        seen
    }

    /// Searches the component of `decisions`; `first` is the solution to beat.
    fn run(&mut self, decisions: &[usize], first: &[Option<usize>]) -> Option<Solved> {
        let incumbent = self.complete(decisions, first)?;
        self.best_cost = self.cost(&incumbent);
        self.best = Some(incumbent);
        let exact = self.descend(decisions.to_vec(), 0, 0);
        Some(Solved { choice: self.best.take()?, exact })
    }

    /// The part of the full solution `first` that `decisions` and what they need make up.
    fn complete(&self, decisions: &[usize], first: &[Option<usize>]) -> Option<Vec<(usize, usize)>> {
        let mut needed = Bits::empty(first.len());
        let mut todo = decisions.to_vec();
        let mut picks = Vec::new();
        while let Some(class) = todo.pop() {
            let index = first[class]?;
            picks.push((class, index));
            for &child in &self.reduced.classes[class][index].children {
                if !self.required.contains(child) && !needed.contains(child) {
                    needed.insert(child);
                    todo.push(child);
                }
            }
        }
        Some(picks)
    }

    fn cost(&self, picks: &[(usize, usize)]) -> u64 {
        picks.iter().fold(0, |sum, &(class, index)| sum.saturating_add(self.reduced.classes[class][index].cost))
    }

    /// Own cost of an alternative and its shares of the optional classes that it would newly need.
    fn least_cost(&self, class: usize, index: usize) -> u64 {
        let node = &self.reduced.classes[class][index];
        let new = node.children.iter().filter(|&&child| !self.required.contains(child));
        new.fold(node.cost, |sum, &child| sum.saturating_add(self.share[child]))
    }

    /// Decides the classes of `open`, `paid` already spent; whether the whole subtree was searched.
    fn descend(&mut self, mut open: Vec<usize>, paid: u64, depth: usize) -> bool {
        let looked: u64 = open.iter().map(|&class| self.reduced.classes[class].len() as u64).sum();
        self.steps += 1 + looked / ALTERNATIVES_PER_STEP;
        if self.steps > self.budget || depth > MAX_DEPTH {
            return false;
        }
        let mut bound = paid;
        let mut fewest: Option<(usize, usize)> = None;
        for (position, &class) in open.iter().enumerate() {
            let count = self.reduced.classes[class].len();
            let least = (0..count).map(|index| self.least_cost(class, index)).min().unwrap_or(0);
            bound = bound.saturating_add(least);
            if fewest.is_none_or(|(best, _)| count < best) {
                fewest = Some((count, position));
            }
        }
        if bound >= self.best_cost {
            return true;
        }
        let Some((count, position)) = fewest else {
            self.best_cost = paid;
            self.best = Some(self.picks());
            return true;
        };
        let class = open.swap_remove(position);
        let mut candidates: Vec<(u64, usize)> =
            (0..count).map(|index| (self.least_cost(class, index), index)).collect();
        candidates.sort_unstable();
        let mut whole = true;
        for (_, index) in candidates {
            if self.cyclic && self.closes_cycle(class, index) {
                continue;
            }
            let reduced = self.reduced;
            let node = &reduced.classes[class][index];
            // Whatever the new classes need in any case is needed too: the bound sees it at once.
            let mut pulled = Vec::new();
            for &child in &node.children {
                for below in reduced.must[child].iter().filter(|&c| !self.required.contains(c)).collect::<Vec<_>>() {
                    self.required.insert(below);
                    pulled.push(below);
                }
            }
            self.choice[class] = Some(index);
            let mut next = open.clone();
            next.extend(&pulled);
            whole &= self.descend(next, paid.saturating_add(node.cost), depth + 1);
            self.choice[class] = None;
            for class in pulled {
                self.required.remove(class);
            }
            if self.steps > self.budget {
                return false;
            }
        }
        whole
    }

    /// The alternatives chosen in this component: those that were not forced.
    fn picks(&self) -> Vec<(usize, usize)> {
        let forced = &self.reduced.must[self.reduced.root];
        let decided = |class: usize| !forced.contains(class) || self.reduced.classes[class].len() > 1;
        let chosen = self.choice.iter().enumerate().filter_map(|(class, index)| index.map(|index| (class, index)));
        chosen.filter(|&(class, _)| decided(class)).collect()
    }

    /// Whether choosing this alternative would make `class` need itself through the choices made so far.
    fn closes_cycle(&self, class: usize, index: usize) -> bool {
        let mut seen = Bits::empty(self.choice.len());
        let mut todo = self.reduced.classes[class][index].children.clone();
        while let Some(next) = todo.pop() {
            if next == class {
                return true;
            }
            if let Some(index) = self.choice[next]
                && !seen.contains(next)
            {
                seen.insert(next);
                todo.extend(&self.reduced.classes[next][index].children);
            }
        }
        false
    }
}

/// Whether some choice of alternatives, none of them wise, has a cycle.
fn can_cycle(reduced: &Reduced) -> bool {
    let count = reduced.classes.len();
    let edges = |class: usize| reduced.classes[class].iter().flat_map(|node| node.children.iter().copied());
    let mut users = vec![0usize; count];
    for child in (0..count).flat_map(edges) {
        users[child] += 1;
    }
    let mut ready: Vec<usize> = (0..count).filter(|&class| users[class] == 0).collect();
    let mut sorted = 0;
    while let Some(class) = ready.pop() {
        sorted += 1;
        for child in edges(class) {
            users[child] -= 1;
            if users[child] == 0 {
                ready.push(child);
            }
        }
    }
    sorted < count
}
