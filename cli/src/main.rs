//! `tern`: the command line of tern.
//!
//! In: arguments. Out: generated text, tables or JSON on standard output, everything else on standard error, an exit code:
//! 0 done, 1 error, 2 wrong usage, 130 interrupted, 143 terminated. It upholds that a closed standard output ends it quietly. What is to
//! be known of a command is in its file under [`commands`]; nothing is compiled or computed here.

mod args;
mod cache;
mod commands;
mod demo;
mod hub;
mod load;
mod size;
mod svg;
mod timing;

use std::process::ExitCode;

use clap::Parser;
use tern_host::{input, interrupt, knobs, output, progress, prompt};
use tracing_subscriber::filter::LevelFilter;

use args::{Args, Command};

fn main() -> ExitCode {
    let mut args = Args::parse();
    start_log(args.verbose);
    if let Err(e) = tern_runtime::lost_pages::report() {
        output::note(&format!("warning: a file that is shortened while it is read will end this without a word: {e}"));
    }
    // A talk listens by itself.
    if !matches!(args.command, Some(Command::Chat(_)))
        && let Err(e) = interrupt::listen()
    {
        output::print_error(&e);
        return ExitCode::FAILURE;
    }
    for name in knobs::unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        output::note(&format!("warning: {name} is not a knob and changes nothing: `tern knobs` lists those that are"));
    }
    if let Some((model, cache_dir)) = args.command.as_mut().and_then(Command::model_mut) {
        match hub::resolve(model, cache_dir) {
            Ok(path) => *model = path,
            Err(e) => return tern_host::finish(Err(e)),
        }
    }
    let done = match args.command {
        None => commands::run::run_default(),
        Some(Command::Run(args)) => commands::run::run(&args),
        Some(Command::Chat(args)) => commands::chat::run(&args),
        Some(Command::Embed(args)) => commands::embed::run(&args),
        Some(Command::Logits(args)) => commands::logits::run(&args),
        Some(Command::Eval(args)) => commands::eval::run(&args),
        Some(Command::Dump(args)) => commands::dump::run(&args),
        Some(Command::Explain(args)) => commands::explain::run(&args),
        Some(Command::Inspect(args)) => commands::inspect::run(&args),
        Some(Command::Bench(args)) => commands::bench::run(&args),
        Some(Command::Synth(args)) => commands::synth::run(&args),
        Some(Command::Tune(args)) => commands::tune::run(&args),
        Some(Command::Build(args)) => commands::build::run(&args),
        Some(Command::Export(args)) => commands::export::run(&args),
        Some(Command::Quantize(args)) => commands::quantize::run(&args),
        Some(Command::Pull(args)) => commands::pull::run(&args),
        Some(Command::Cache(args)) => commands::cache::run(&args),
        Some(Command::Knobs(args)) => commands::knobs::run(&args),
        Some(Command::Completions(args)) => commands::completions::run(&args),
    };
    tern_host::finish(done)
}

/// Sends what the libraries report to standard error, from the level that `-v` asks for.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
}
