//! `tern embed`: compile an embedding model in memory and embed texts. What happens is [`tern_host::embed`]'s to say.

use std::process::ExitCode;

use anyhow::Result;
use tern_host::Host;

use crate::args::EmbedCommandArgs;
use crate::load;

/// Embeds.
pub(crate) fn run(args: &EmbedCommandArgs) -> Result<ExitCode> {
    let options = load::options(&args.compile, args.embed.engine.ctx.as_deref())?;
    let host = Host { default_prompt: None, huge_pages: options.huge_pages, experts: options.experts };
    tern_host::embed::embed(&args.embed, host, || {
        load::source(args.model.as_deref(), options, &args.compile, Some(&args.cache))
    })
}
