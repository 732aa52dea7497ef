//! Which commands take a MODEL.
//!
//! In: a command. Out: its MODEL and the folder in which it looks for fetched ones, so that one place can say what the text means
//! before any command looks at it.

use std::path::PathBuf;

use super::{Command, Measure};

impl Command {
    /// The MODEL that the user gave, if the command takes one, and its `--cache-dir`, if it has that option.
    pub(crate) fn model_mut(&mut self) -> Option<(&mut PathBuf, Option<&str>)> {
        let mut cache_dir = None;
        let model = match self {
            Command::Run(args) => {
                cache_dir = args.cache.cache_dir.as_deref();
                &mut args.model
            }
            Command::Chat(args) => {
                cache_dir = args.cache.cache_dir.as_deref();
                &mut args.model
            }
            Command::Embed(args) => {
                cache_dir = args.cache.cache_dir.as_deref();
                &mut args.model
            }
            Command::Logits(args) => &mut args.model,
            Command::Eval(args) => match &mut args.measure {
                Measure::Ppl(args) => &mut args.model,
            },
            Command::Dump(args) => &mut args.model,
            Command::Explain(args) => &mut args.model,
            Command::Inspect(args) => &mut args.model,
            Command::Bench(args) => &mut args.model,
            Command::Build(args) => &mut args.model,
            Command::Export(args) => &mut args.model,
            Command::Quantize(args) => return Some((&mut args.model, None)),
            Command::Tune(args) => {
                cache_dir = args.cache_dir.as_deref();
                &mut args.model
            }
            Command::Synth(_) | Command::Pull(_) | Command::Cache(_) | Command::Knobs(_) | Command::Completions(_) => {
                return None;
            }
        };
        model.as_mut().map(|model| (model, cache_dir))
    }
}
