//! `tern explain`: why each ternary product is computed as it is.
//!
//! In: a model, maybe a layer and a part of a weight's name. Out: per product every strategy with its cost and the measurement
//! behind it, or why it was not there, as text or one JSON object a line.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use tern_compiler::egraph::explain::{Bounds, Candidate, Explained, explain};
use tern_compiler::graph::{Node, Op};
use tern_compiler::pipeline::Lowered;

use crate::args::ExplainArgs;
use crate::knobs::setting;
use crate::load::{self, Loaded};
use crate::output::{print, print_json};

/// Prints the explanations.
pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let options = load::options(&args.compile, args.ctx.as_deref())?;
    let loaded = Loaded::new(args.model.as_deref(), &options)?;
    let Lowered { optimised, facts, report, costs, schedule, .. } = loaded.lower(&options)?;
    let bounds = Bounds { memory_bytes: options.memory_bytes, is_optimised: options.egraph.optimise };
    let all = explain(&optimised, &facts, &report, &costs, bounds);
    let is_wanted = |product: &&Explained| {
        let of_layer = args.layer.is_none_or(|layer| product.layer == Some(layer));
        let named = |part: &String| product.op == part || product.weights.iter().any(|name| name.contains(part));
        of_layer && args.op.as_ref().is_none_or(named)
    };
    let wanted: Vec<&Explained> = all.iter().filter(is_wanted).collect();
    let is_fixed = |node: &&Node| node.op == Op::TernaryF32Linear;
    let fixed = optimised.nodes.iter().filter(is_fixed).count();
    if all.is_empty() && fixed == 0 {
        bail!(
            "the model has no ternary product: of its dense matrices, and those of four bits, one kernel computes each product"
        );
    }
    if wanted.is_empty() && fixed == 0 {
        let layers = all.iter().filter_map(|product| product.layer).max().map_or(0, |last| last + 1);
        let mut names: Vec<&str> =
            all.iter().flat_map(|p| &p.weights).filter_map(|name| name.rsplit('.').nth(1)).collect();
        names.sort_unstable();
        names.dedup();
        bail!(
            "no ternary product of that layer and name: the model has layers 0 to {} and the matrices {}",
            layers.saturating_sub(1),
            names.join(", ")
        );
    }
    if args.json {
        wanted.into_iter().try_for_each(print_json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let isa = options.isa.name();
    let mut text = format!(
        "{}: level {isa}, {} threads, code {}; packed weights {:.1} MB\n",
        loaded.imported.graph.name,
        options.threads,
        match (options.code, setting("code", args.compile.code.as_deref())?.value == "auto") {
            (true, true) => "on (off where what is compiled is not kept, as of the demo model in `tern run`)",
            (true, false) => "on",
            (false, _) => "off",
        },
        schedule.weights.bytes as f64 / 1e6
    );
    for product in wanted {
        text += "\n";
        shown(&mut text, product)?;
    }
    if fixed > 0 {
        writeln!(
            text,
            "\n{fixed} products have activations in f32: one kernel computes each, no other strategy is there"
        )?;
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(text: &mut String, product: &Explained) -> std::fmt::Result {
    let layer = product.layer.map_or_else(String::new, |layer| format!("layer {layer}, "));
    writeln!(text, "%{} {layer}{}", product.node, product.op)?;
    for (name, rows) in product.weights.iter().zip(&product.rows) {
        writeln!(text, "  {name}: {rows} x {}", product.cols)?;
    }
    if product.group > 0 {
        writeln!(text, "  a scale for each group of {} columns", product.group)?;
    }
    if product.sparse {
        writeln!(text, "  most of its activations are zero: relu2 made them so")?;
    }
    for (slot, candidates) in [("one token", &product.decode), ("a prompt of 512", &product.prefill)] {
        writeln!(text, "  {slot:<18}        us        MB  variant         from")?;
        candidates.iter().try_for_each(|candidate| line(text, candidate))?;
    }
    writeln!(text, "  packed: {:.3} MB", product.bytes as f64 / 1e6)?;
    product.verdict.iter().try_for_each(|verdict| writeln!(text, "  {verdict}"))
}

fn line(text: &mut String, candidate: &Candidate) -> std::fmt::Result {
    let mark = if candidate.chosen { '*' } else { ' ' };
    let name = candidate.strategy.name();
    match (candidate.us, candidate.bytes) {
        (Some(us), Some(bytes)) => {
            let variant = candidate.variant.as_deref().unwrap_or_default();
            let megabytes = bytes as f64 / 1e6;
            writeln!(text, "  {mark} {name:<16} {us:>9.1} {megabytes:>9.3}  {variant:<14}  {}", candidate.because)
        }
        _ => writeln!(text, "  {mark} {name:<16} {:>9} {:>9}  {:<14}  {}", "-", "-", "", candidate.because),
    }
}
