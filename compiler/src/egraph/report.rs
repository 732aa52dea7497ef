//! What the optimiser did, for people and for `tern dump --stage egraph`.

use std::fmt;

use serde::Serialize;

use crate::graph::Strategy;

/// Why rewriting stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Nothing was left to change.
    Saturated,
    /// The limit of iterations.
    Iterations,
    /// The limit of e-nodes.
    Nodes,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stop::Saturated => "saturation",
            Stop::Iterations => "the iteration limit",
            Stop::Nodes => "the e-node limit",
        })
    }
}

/// One rule in one iteration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fired {
    /// The iteration, from 0.
    pub iteration: usize,
    /// The rule's name.
    pub rule: String,
    /// How many of its matches changed something.
    pub count: usize,
}

/// The strategies that the e-class of a ternary product held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Held {
    /// Its node of the region as it was extracted.
    pub node: usize,
    /// For one token, for many.
    pub strategies: [Vec<Strategy>; 2],
}

/// One distinct region: rewritten once, used wherever the graph has an equal one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RegionReport {
    /// Where it stands: `prologue`, `blocks 0-29`, `epilogue`.
    pub name: String,
    /// How many regions of the graph share it.
    pub shared_by: usize,
    /// The region as it was: one s-expression per node.
    pub before: String,
    /// The region as it was extracted.
    pub after: String,
    /// What fired, by iteration and then in the order of the rule table.
    pub fired: Vec<Fired>,
    /// Rounds of all rules.
    pub iterations: usize,
    /// E-nodes at the end.
    pub e_nodes: usize,
    /// E-classes at the end.
    pub e_classes: usize,
    /// Why rewriting stopped.
    pub stop: Stop,
    /// Cost of one such region before, in picoseconds.
    pub cost_before_ps: u64,
    /// Cost of one such region after, in picoseconds.
    pub cost_after_ps: u64,
    /// Whether no cheaper choice exists in the e-graph.
    pub exact: bool,
    /// Steps of the extractor's search.
    pub extract_steps: u64,
    /// What the classes of its ternary products held.
    pub products: Vec<Held>,
    /// The blocks that share it.
    pub blocks: Vec<u32>,
}

/// What the optimiser did to a graph.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// The distinct regions, by first place in the graph.
    pub regions: Vec<RegionReport>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, region) in self.regions.iter().enumerate() {
            write!(f, "{}{region}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for RegionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.shared_by == 1 { String::new() } else { format!(", {} times", self.shared_by) };
        writeln!(f, "region {}{times}", self.name)?;
        writeln!(
            f,
            "// {} iterations, {} e-nodes, {} e-classes; stopped by {}",
            self.iterations, self.e_nodes, self.e_classes, self.stop
        )?;
        for fired in &self.fired {
            writeln!(f, "// iteration {}: {} x {}", fired.iteration, fired.rule, fired.count)?;
        }
        let exact = if self.exact { "exact" } else { "the budget was spent" };
        writeln!(
            f,
            "// cost {} -> {} (extraction {exact}, {} steps)",
            Time(self.cost_before_ps),
            Time(self.cost_after_ps),
            self.extract_steps
        )?;
        write!(f, "before\n{}after\n{}", Indented(&self.before), Indented(&self.after))
    }
}

/// Picoseconds as microseconds with three decimals.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} us", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

/// Lines two spaces in.
struct Indented<'a>(&'a str);

impl fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lines().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
