//! Options of `tern build` for objects and libraries.

use super::{Emit, Usage};

/// What objects and libraries are like.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Objects and libraries")]
pub(crate) struct NativeArgs {
    /// What the symbols start with [default: the model's name].
    #[arg(long, value_name = "NAME")]
    pub(crate) prefix: Option<String>,
    /// Where the weights are: in the object, or in the file PREFIX.weights beside it [default: in the object up to 16 MiB].
    #[arg(long, value_enum, value_name = "WHERE")]
    pub(crate) weights: Option<WeightsPlace>,
    /// Link a shared library.
    #[arg(long)]
    pub(crate) shared: bool,
    /// C compiler that links it [default: cc, or the target's gcc].
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) cc: Option<String>,
}

impl NativeArgs {
    /// Refuses options that mean nothing for what is built.
    pub(crate) fn refuse_for(&self, emit: Emit) -> Result<(), Usage> {
        let (object, library) = (matches!(emit, Emit::Obj | Emit::Lib), emit == Emit::Lib);
        let given = [
            ("--prefix", self.prefix.is_some() && !object, "obj or --emit lib"),
            ("--weights", self.weights.is_some() && !object, "obj or --emit lib"),
            ("--shared", self.shared && !library, "lib"),
            ("--cc", self.cc.is_some() && !(library && self.shared), "lib --shared"),
        ];
        match given.iter().find(|(_, wrong, _)| *wrong) {
            Some((option, _, emit)) => Err(Usage(format!("{option} is for --emit {emit}"))),
            None => Ok(()),
        }
    }
}

/// Where the weights of an object are.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WeightsPlace {
    /// In the object.
    Inside,
    /// In a file beside it.
    Beside,
}
