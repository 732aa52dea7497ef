//! `tern synth`: a checkpoint of a named shape with random weights.
//!
//! In: the name of a shape and a folder. Out: the folder; what was written on standard error. Ctrl-C leaves nothing behind.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result};
use tern_compiler::synth::{self, Options, SHAPES, Shape, Weights};

use crate::args::{SynthArgs, Usage};
use crate::interrupt;
use crate::output::note;
use crate::progress::Progress;

/// The names of all shapes.
pub(crate) fn shape_names() -> [&'static str; SHAPES.len()] {
    SHAPES.map(|shape| shape.name)
}

/// The names of all kinds of weights.
pub(crate) fn weights_names() -> [&'static str; Weights::ALL.len()] {
    Weights::ALL.map(Weights::name)
}

/// The table of shapes in the help.
pub(crate) fn shapes_help() -> String {
    let mut text =
        "Shapes:\n  name             graph    layers  hidden     ffn  heads/kv   vocab  experts  source\n".to_owned();
    for s in SHAPES {
        let heads = format!("{}/{}", s.heads, s.kv_heads);
        let experts = if s.experts > 0 { format!("{} of {}", s.experts_per_tok, s.experts) } else { "-".to_owned() };
        let (name, graph) = (s.name, s.graph.name());
        text += &format!(
            "  {name:<16} {graph:<8} {:>6} {:>7} {:>7} {heads:>9} {:>7} {experts:>8}  {}\n",
            s.layers, s.hidden, s.intermediate, s.vocab, s.source
        );
    }
    text += "\nbitnet-2b4t is BitNet b1.58 2B-4T, qwen3-1.7b-g128 has f16 weights that are ternary in groups of 128\n\
        columns, the last two are mixtures of experts; the others are the sizes of the BitNet b1.58 paper\n\
        (arXiv:2402.17764) and its successors.\n\
        Graph bitnet has squared ReLU and norms before the output and down projections, graph llama has SiLU\n\
        and no such norms, graph qwen3 normalises heads. The embedding is bf16, and the head too, except in\n\
        mixtures; --zeros 0 makes weights of -1 and +1. Experts are ternary, and so is graph bitnet.\n\n\
        Weights: ternary, packed (or with --group f16 that is ternary already); bf16 and f16, dense; int4, four\n\
        bits as AutoAWQ packs them, in groups of 128 columns (a feed-forward layer that is no whole groups is\n\
        made wider).\n\n\
        Sources: config.json of that model on Hugging Face; bitnet.cpp is its generator of dummy models,\n\
        utils/generate-dummy-bitnet-model.py of github.com/microsoft/BitNet.";
    text
}

/// Writes the checkpoint.
pub(crate) fn run(args: &SynthArgs) -> Result<ExitCode> {
    let shape = Shape::named(&args.shape).with_context(|| format!("bug in tern: no shape {:?}", args.shape))?;
    let weights = Weights::from_name(&args.weights);
    let weights = weights.with_context(|| format!("bug in tern: no weights {:?}", args.weights))?;
    if shape.experts == 0 && (args.experts.is_some() || args.experts_per_tok.is_some()) {
        return Err(Usage(format!("{} has no experts: leave out --experts", shape.name)).into());
    }
    let experts = args.experts.unwrap_or(shape.experts);
    let shape = Shape {
        layers: args.layers.unwrap_or(shape.layers),
        experts,
        experts_per_tok: args.experts_per_tok.unwrap_or(shape.experts_per_tok.min(experts)),
        // Groups are of ternary weights.
        group: args.group.unwrap_or(if weights == Weights::Ternary { shape.group } else { 0 }),
        ..shape
    };
    let asked = shape;
    let shape = weights.fitted(&shape);
    if shape.intermediate != asked.intermediate {
        note(&format!(
            "feed-forward layers have {} elements instead of {}: whole groups of four bits",
            shape.intermediate, asked.intermediate
        ));
    }
    if !(0.0..=1.0).contains(&args.zeros) {
        return Err(Usage(format!("--zeros is {}, expected a share from 0 to 1", args.zeros)).into());
    }
    if !(0.0..=synth::repeat::MOST).contains(&args.repeat_rows) {
        let (found, most) = (args.repeat_rows, synth::repeat::MOST);
        return Err(Usage(format!("--repeat-rows is {found}, expected a share from 0 to {most}")).into());
    }
    if !(0.0..=synth::MAX_GAIN_SPREAD).contains(&args.gain_spread) {
        let (found, most) = (args.gain_spread, synth::MAX_GAIN_SPREAD);
        return Err(Usage(format!("--gain-spread is {found}, expected a number from 0 to {most}")).into());
    }
    let SynthArgs { seed, zeros, repeat_rows, gain_spread, .. } = *args;
    let options = Options { seed, weights, zeros, repeat_rows, gain_spread, ..Options::default() };
    let start = Instant::now();
    let asked = interrupt::generating();
    let bar = Progress::new("writing", 0);
    let written = synth::write(&shape, &options, &args.output, &mut |p| {
        bar.set(p.done_bytes, p.total_bytes);
        if asked.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(bar);
    interrupt::done();
    let bytes = match written {
        Err(synth::Error::Interrupted) => {
            note("interrupted: nothing was written");
            return Ok(interrupt::exit_code());
        }
        done => done?,
    };
    let seconds = start.elapsed().as_secs_f64();
    note(&format!(
        "{}: {:.2} GB of weights, {} layers, {:.3} G {}, in {seconds:.1} s ({:.0} MB/s)",
        args.output.display(),
        bytes as f64 / 1e9,
        shape.layers,
        shape.body_weights() as f64 / 1e9,
        match weights {
            Weights::Ternary => "trits".to_owned(),
            Weights::Bf16 | Weights::F16 | Weights::Int4 => format!("weights of {}", weights.name()),
        },
        bytes as f64 / 1e6 / seconds
    ));
    Ok(ExitCode::SUCCESS)
}
