//! The arguments of `tern logits`.

use std::path::PathBuf;

use tern_host::args::EngineArgs;

use super::CompileArgs;

#[derive(clap::Args, Debug)]
pub(crate) struct LogitsArgs {
    #[arg(value_name = "MODEL", help = super::MODEL)]
    pub(crate) model: Option<PathBuf>,
    /// File with the token ids: a tensor `[T]` or `[1, T]` of i32, i64, u32 or u8.
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) ids: PathBuf,
    /// Name of the tensor in that file.
    #[arg(long, value_name = "NAME", default_value = "input_ids")]
    pub(crate) tensor: String,
    /// File to write.
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub(crate) output: PathBuf,
    /// What computes: compiled code, or the reference interpreter.
    #[arg(long, value_enum, default_value_t = EngineKind::Jit)]
    pub(crate) engine: EngineKind,
    /// Print what was written and how long the forward pass took as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) engine_args: EngineArgs,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

/// What computes logits.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EngineKind {
    /// Compiled code.
    Jit,
    /// The reference interpreter.
    Interp,
}
