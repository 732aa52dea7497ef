//! The arguments of `tern build`.

use std::path::PathBuf;

use tern_host::knobs::parser;

use super::{CHECKPOINT, CompileArgs, Usage};

/// Arguments of `tern build`.
#[derive(clap::Args, Debug)]
pub(crate) struct BuildArgs {
    #[arg(value_name = "MODEL", help = CHECKPOINT)]
    pub(crate) model: Option<PathBuf>,
    /// What to build.
    #[arg(long, value_enum, default_value_t = Emit::Exe)]
    pub(crate) emit: Emit,
    /// File to write [default: the model's name, with the ending that suits].
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// The model's name in what is built [default: that of its folder].
    #[arg(long, value_name = "NAME", value_parser = model_name)]
    pub(crate) name: Option<String>,
    /// Build again and compare with OUT, byte for byte; nothing is written.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Context length in tokens [default: auto, the model's own, at most 32768].
    #[arg(long, value_name = "N", value_parser = parser("ctx"), allow_negative_numbers = true)]
    pub(crate) ctx: Option<String>,
    /// Program that an executable is made of [default: tern-host, beside tern].
    #[arg(long, value_name = "FILE")]
    pub(crate) host: Option<PathBuf>,
    /// Print what was built as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) native: NativeArgs,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

/// The most bytes of a model's name.
const MAX_NAME_BYTES: usize = 200;

/// A model's name: it names files too.
fn model_name(name: &str) -> Result<String, String> {
    let refuse =
        |reason: &str| Err(format!("{reason}; expected a name such as `demo`, of at most {MAX_NAME_BYTES} bytes"));
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return refuse(&format!("it has {} bytes", name.len()));
    }
    if name.starts_with('.') || name.contains(|c: char| c == '/' || c.is_control()) {
        return refuse("it is no name of a file that anybody sees");
    }
    Ok(name.to_owned())
}

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

/// What machine is built for.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Target")]
pub(crate) struct TargetArgs {
    /// Target triple: x86_64-unknown-linux-gnu, aarch64-unknown-linux-gnu or riscv64gc-unknown-linux-gnu [default: this machine's].
    #[arg(long, value_name = "TRIPLE")]
    pub(crate) target: Option<String>,
    /// CPU: native, baseline (the least level), multi (every level in one file, the best one is chosen at start), the name of
    /// a level or of a CPU (haswell, znver4, cortex-a76, neoverse-n1, ...) [default: native here, baseline elsewhere].
    #[arg(long, value_name = "NAME", conflicts_with = "isa")]
    pub(crate) cpu: Option<String>,
    /// Features added to or taken from the CPU's, as rustc names them; riscv64 needs +v.
    #[arg(long, value_name = "+A,-B,...", allow_hyphen_values = true)]
    pub(crate) features: Option<String>,
}

/// What `tern build` writes.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Emit {
    /// An artifact: what `tern run` loads without compiling.
    Tern,
    /// A program that needs nothing else.
    Exe,
    /// An object that programs in C or Rust link, with a header beside it.
    Obj,
    /// A library of it: static, or with --shared shared.
    Lib,
}

impl Emit {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Emit::Tern => "tern",
            Emit::Exe => "exe",
            Emit::Obj => "obj",
            Emit::Lib => "lib",
        }
    }
}
