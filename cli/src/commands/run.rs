//! `tern run`: compile a model in memory and continue a prompt. What happens is [`tern_host::run`]'s to say.

use std::process::ExitCode;

use anyhow::Result;
use tern_host::Host;

use crate::args::{GenerateArgs, RunArgs};
use crate::demo;
use crate::load;
use crate::output::note;

/// `tern` alone: the demo model and its prompt.
pub(crate) fn run_default() -> Result<ExitCode> {
    note(&format!("tern --help lists the commands; this is {} continuing {:?}", demo::NAME, demo::PROMPT));
    let generate = GenerateArgs { prompt: Some(demo::PROMPT.to_owned()), n: 128, ..GenerateArgs::default() };
    run(&RunArgs { generate, ..RunArgs::default() })
}

/// Continues the prompt that `args` give.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let options = load::options(&args.compile, args.generate.engine.ctx.as_deref())?;
    let default_prompt = args.model.is_none().then_some(demo::PROMPT);
    let host = Host { default_prompt, huge_pages: options.huge_pages, experts: options.experts };
    tern_host::run::run(&args.generate, host, || {
        load::source(args.model.as_deref(), options, &args.compile, Some(&args.cache))
    })
}
