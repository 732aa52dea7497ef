//! A language model in a program of one's own: compile a checkpoint in memory and generate 32 tokens.
//!
//! `cargo run --release -p tern-compiler --example embed [FOLDER [PROMPT]]`; without a folder, tern's demo model.

use std::error::Error;
use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::pipeline::{self, Options};
use tern_runtime::generate::{Event, Request, generate};
use tern_runtime::sample::{Sampler, Sampling};
use tern_runtime::session::{self, Session};
use tern_runtime::tokenizer::Tokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/demo");
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| demo.to_owned()));
    let prompt = arguments.next().unwrap_or_else(|| "Once upon a time".to_owned());

    // The compiler: files to a graph, the graph to a schedule, the schedule to machine code beside packed weights.
    let options = Options::native()?;
    let checkpoint = Checkpoint::open(&folder)?;
    let imported = pipeline::import(&checkpoint, &options)?;
    let mut lowered = pipeline::lower(&imported.graph, &imported.weights, &options)?;
    let model = Arc::new(pipeline::compile_jit(&imported, &mut lowered, &options, &mut |_| {})?);

    // The runtime: text to token ids, a session with its memory and threads, a rule to choose the next token.
    let tokenizer = checkpoint.tokenizer_json().ok_or("the checkpoint has no tokenizer.json")?;
    let vocab = imported.facts.vocab;
    let tokenizer = Tokenizer::from_json(tokenizer, checkpoint.tokenizer_config_json(), imported.facts.bos, vocab)?;
    let mut session = Session::new(model, &session::Options::default())?;
    let mut sampler = Sampler::new(Sampling { temperature: 0.8, seed: 1, ..Sampling::greedy() })?;

    // Text arrives in pieces, each as soon as it is certain; `Break` would stop the generation.
    let ids = tokenizer.encode(&prompt)?;
    let request = Request { max_tokens: 32, eos: &imported.facts.eos, ..Request::new(&ids) };
    print!("{prompt}");
    let outcome = generate(&mut session, Some(&tokenizer), &mut sampler, &request, &mut |event| {
        if let Event::Text(piece) = event {
            print!("{piece}");
        }
        match stdout().flush() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    println!();
    eprintln!("{:.0} tokens per second", outcome.stats.decode_toks_per_s());
    Ok(())
}
