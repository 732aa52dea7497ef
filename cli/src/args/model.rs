//! Which commands take a MODEL.
//!
//! In: a command. Out: its MODEL, so that one place can say what the text means before any command looks at it.

use std::path::PathBuf;

use super::{Command, Measure};

impl Command {
    /// The MODEL that the user gave, if the command takes one.
    pub(crate) fn model_mut(&mut self) -> Option<&mut PathBuf> {
        let model = match self {
            Command::Run(args) => &mut args.model,
            Command::Chat(args) => &mut args.model,
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
            Command::Tune(args) => &mut args.model,
            Command::Synth(_) | Command::Pull(_) | Command::Cache(_) | Command::Knobs(_) | Command::Completions(_) => {
                return None;
            }
        };
        model.as_mut()
    }
}
