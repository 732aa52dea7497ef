//! The arguments of `tern synth`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

/// Arguments of `tern synth`.
#[derive(clap::Args, Debug)]
pub(crate) struct SynthArgs {
    /// Name of the shape; `tern synth --help` shows their dimensions.
    #[arg(value_name = "SHAPE", value_parser = PossibleValuesParser::new(crate::commands::synth::shape_names()), hide_possible_values = true)]
    pub(crate) shape: String,
    /// Folder to write; it must not exist, or be empty.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Blocks, if not as many as the shape has.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) layers: Option<u32>,
    /// What the matrices of the blocks are stored as.
    #[arg(long, value_name = "KIND", default_value = "ternary", value_parser = PossibleValuesParser::new(crate::commands::synth::weights_names()))]
    pub(crate) weights: String,
    /// Of ternary weights, columns of a group with a scale of its own; 0 gives each matrix one scale [default: as the shape has].
    #[arg(long, value_name = "COLUMNS", allow_negative_numbers = true)]
    pub(crate) group: Option<u32>,
    /// Of a mixture, experts of a layer, if not as many as the shape has.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) experts: Option<u32>,
    /// Of a mixture, experts of a token [default: as the shape has, at most all].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) experts_per_tok: Option<u32>,
    /// Chooses the weights.
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Share of trits that are 0.
    #[arg(long, value_name = "P", default_value_t = 0.4, allow_negative_numbers = true)]
    pub(crate) zeros: f64,
    /// Share of rows that repeat the row before.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) repeat_rows: f64,
    /// Powers of two by which gains differ from 1 between a squared ReLU and the projection behind it: the more, the more
    /// activations quantise to zero (0: about 68 %; trained models have 80 to 90 %).
    #[arg(long, value_name = "N", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) gain_spread: f64,
}
