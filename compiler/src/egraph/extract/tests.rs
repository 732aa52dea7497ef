//! The extractor against exhaustive search and against problems whose answer is known.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const BUDGET: u64 = 100_000;

/// A problem from `(cost, children)` per alternative; the root is class 0.
fn problem(classes: &[&[(u64, &[usize])]]) -> Problem {
    let choice = |&(cost, children): &(u64, &[usize])| Choice { cost, children: children.to_vec() };
    Problem { classes: classes.iter().map(|nodes| nodes.iter().map(choice).collect()).collect(), root: 0 }
}

/// The least cost over all choices that have no cycle.
fn exhaustive(problem: &Problem) -> Option<u64> {
    let mut choice: Vec<Option<usize>> = problem.classes.iter().map(|n| (!n.is_empty()).then_some(0)).collect();
    let mut best: Option<u64> = None;
    loop {
        if let Some(cost) = cost_of(problem, &choice) {
            best = Some(best.map_or(cost, |b| b.min(cost)));
        }
        let mut class = 0;
        loop {
            if class == choice.len() {
                return best;
            }
            if let Some(index) = &mut choice[class] {
                *index += 1;
                if *index < problem.classes[class].len() {
                    break;
                }
                *index = 0;
            }
            class += 1;
        }
    }
}

/// q, k and v: each alone, or as a member of one concatenation that costs less than two alone.
fn three_projections(together: u64) -> Problem {
    problem(&[
        &[(0, &[1, 2, 3])],
        &[(10, &[5]), (0, &[4])],
        &[(10, &[5]), (0, &[4])],
        &[(10, &[5]), (0, &[4])],
        &[(together, &[5])],
        &[(1, &[])],
    ])
}

#[test]
fn a_concatenation_pays_only_if_all_users_take_it() {
    let p = three_projections(18);
    // Per class a tree of 19 loses against a tree of 11: greedy never looks at the sum.
    let greedy = greedy::solve(&p).unwrap();
    assert_eq!(cost_of(&p, &greedy), Some(31));
    let solution = solve(&p, BUDGET).unwrap();
    assert_eq!((solution.cost, solution.exact), (19, true));
    assert_eq!(solution.choice, [Some(0), Some(1), Some(1), Some(1), Some(0), Some(0)]);
}

#[test]
fn a_concatenation_that_costs_more_is_left() {
    assert_eq!(solve(&three_projections(30), BUDGET).unwrap().cost, 31);
    assert_eq!(solve(&three_projections(31), BUDGET).unwrap().cost, 31);
}

#[test]
fn a_shared_class_is_paid_once() {
    let p = problem(&[&[(1, &[1, 2])], &[(1, &[3])], &[(1, &[3])], &[(100, &[])]]);
    assert_eq!(solve(&p, BUDGET).unwrap().cost, 103);
}

#[test]
fn cycles_are_never_taken() {
    // Around the cycle nothing would cost anything.
    let p = problem(&[&[(0, &[1])], &[(0, &[2]), (7, &[])], &[(0, &[1]), (9, &[])]]);
    let solution = solve(&p, BUDGET).unwrap();
    assert_eq!((solution.cost, solution.exact), (7, true));
    assert_eq!(solve(&problem(&[&[(0, &[1])], &[(0, &[0])]]), BUDGET), None);
    assert_eq!(solve(&problem(&[&[(3, &[0])]]), BUDGET), None);
}

#[test]
fn a_root_without_alternatives_has_no_solution() {
    assert_eq!(solve(&problem(&[&[(0, &[1])], &[]]), BUDGET), None);
    assert_eq!(solve(&problem(&[&[]]), BUDGET), None);
}

#[test]
fn random_problems_agree_with_exhaustive_search() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    let (mut solved, mut cyclic, mut missed_by_greedy) = (0, 0, 0);
    for round in 0..4000 {
        let count = 3 + below(6) as usize;
        // Every third round children may be anywhere, so that there are cycles.
        let anywhere = round % 3 == 0;
        let classes = (0..count)
            .map(|class| {
                (0..1 + below(3))
                    .map(|_| {
                        let children = (0..below(4))
                            .map(|_| below(count as u64) as usize)
                            .filter(|&child| anywhere || child > class)
                            .collect();
                        Choice { cost: below(12), children }
                    })
                    .collect()
            })
            .collect();
        let p = Problem { classes, root: 0 };
        let found = solve(&p, BUDGET);
        assert_eq!(found.as_ref().map(|s| s.cost), exhaustive(&p), "round {round}: {p:?}");
        if let Some(found) = found {
            assert!(found.exact, "round {round}");
            assert_eq!(cost_of(&p, &found.choice), Some(found.cost), "round {round}");
            let greedy = cost_of(&p, &greedy::solve(&p).unwrap()).unwrap();
            solved += 1;
            missed_by_greedy += usize::from(greedy > found.cost);
            cyclic += usize::from(anywhere);
        }
    }
    assert!(solved > 2000 && cyclic > 300 && missed_by_greedy > 100, "{solved} {cyclic} {missed_by_greedy}");
}

/// `n` projections of one value with every pair and triple of them concatenated.
fn many_projections(n: usize) -> Problem {
    let mut classes: Vec<Vec<Choice>> = vec![vec![Choice { cost: 0, children: (1..=n).collect() }]];
    classes.extend((0..n).map(|_| vec![Choice { cost: 10, children: vec![] }]));
    let mut groups = Vec::new();
    for a in 1..=n {
        for b in a + 1..=n {
            groups.push(vec![a, b]);
            groups.extend((b + 1..=n).map(|c| vec![a, b, c]));
        }
    }
    for group in groups {
        let class = classes.len();
        classes.push(vec![Choice { cost: 8 + group.len() as u64, children: vec![] }]);
        for member in group {
            classes[member].push(Choice { cost: 0, children: vec![class] });
        }
    }
    Problem { classes, root: 0 }
}

#[test]
fn six_projections_are_two_triples() {
    let solution = solve(&many_projections(6), BUDGET).unwrap();
    assert_eq!((solution.cost, solution.exact), (22, true), "{} steps", solution.steps);
}

#[test]
fn a_spent_budget_is_said_and_still_gives_a_solution() {
    let p = many_projections(6);
    let solution = solve(&p, 3).unwrap();
    assert!(!solution.exact);
    assert!(solution.cost <= 60);
    assert_eq!(cost_of(&p, &solution.choice), Some(solution.cost));
}

#[test]
fn independent_groups_cost_the_sum_of_their_searches() {
    let groups = 12;
    let one = three_projections(18);
    let mut classes: Vec<Vec<Choice>> = vec![vec![Choice { cost: 0, children: vec![] }]];
    for _ in 0..groups {
        let base = classes.len();
        for nodes in &one.classes {
            let shifted = |node: &Choice| Choice {
                cost: node.cost,
                children: node.children.iter().map(|child| child + base).collect(),
            };
            classes.push(nodes.iter().map(shifted).collect());
        }
        classes[0][0].children.push(base);
    }
    let solution = solve(&Problem { classes, root: 0 }, 2_000).unwrap();
    assert_eq!((solution.cost, solution.exact), (19 * groups, true), "{} steps", solution.steps);
}

#[test]
fn large_problems_are_solved_greedily() {
    let count = MAX_EXACT_CLASSES + 1;
    let classes = (0..count)
        .map(|class| vec![Choice { cost: 1, children: if class + 1 < count { vec![class + 1] } else { vec![] } }])
        .collect();
    let solution = solve(&Problem { classes, root: 0 }, BUDGET).unwrap();
    assert_eq!((solution.cost, solution.exact), (count as u64, false));
}
