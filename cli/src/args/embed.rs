//! The arguments of `tern embed`.

use std::path::PathBuf;

use tern_host::args::EmbedArgs;

use super::CompileArgs;
use crate::cache::CacheArgs;

#[derive(clap::Args, Debug)]
pub(crate) struct EmbedCommandArgs {
    #[arg(value_name = "MODEL", help = super::MODEL)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) embed: EmbedArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}
