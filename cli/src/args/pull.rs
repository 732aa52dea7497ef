//! The arguments of `tern pull`.

use tern_host::knobs::parser;

/// Arguments of `tern pull`.
#[derive(clap::Args, Debug)]
pub(crate) struct PullArgs {
    /// The model: OWNER/NAME, or OWNER/NAME@REVISION for a branch, a tag or a commit.
    #[arg(value_name = "OWNER/NAME")]
    pub(crate) repository: String,
    /// Which GGUF file, where there are several; all parts of one are taken.
    #[arg(long, value_name = "NAME")]
    pub(crate) file: Option<String>,
    /// The hub [default: what HF_ENDPOINT says, or Hugging Face itself]. Models of each hub are kept apart: other commands
    /// look for those of the hub that HF_ENDPOINT names, and this option is not remembered.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Folder of compiled and fetched models; other commands look for these there if they are given it too, or TERN_CACHE_DIR
    /// [default: auto, tern in the user's folder of caches].
    #[arg(long, value_name = "DIR", value_parser = parser("cache-dir"))]
    pub(crate) cache_dir: Option<String>,
    /// Seconds in which at least 64 KiB of a file must come; 0 waits for ever [default: 60].
    #[arg(long, value_name = "N", value_parser = parser("pull-seconds"))]
    pub(crate) pull_seconds: Option<String>,
    /// Print where the model is, its commit and its size as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
