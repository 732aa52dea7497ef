//! `tern chat`: compile a model in memory and talk with it. What happens is [`tern_host::chat`]'s to say.

use std::process::ExitCode;

use anyhow::Result;
use tern_host::Host;

use crate::args::ChatCommandArgs;
use crate::load;

/// Talks.
pub(crate) fn run(args: &ChatCommandArgs) -> Result<ExitCode> {
    let options = load::options(&args.compile, args.chat.engine.ctx.as_deref())?;
    let host = Host { default_prompt: None, huge_pages: options.huge_pages, experts: options.experts };
    tern_host::chat::chat(&args.chat, host, || {
        load::source(args.model.as_deref(), options, &args.compile, Some(&args.cache))
    })
}
