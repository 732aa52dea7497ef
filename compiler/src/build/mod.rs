//! Ahead of time: a model as files that run without a compiler.
//!
//! In: an imported checkpoint and the levels of a CPU. Out: code and layout ([`Built`]), and from these an artifact
//! ([`artifact`]), or objects and libraries that a program in C or Rust links ([`native`]); [`inspect`](mod@inspect) tells what such
//! a file holds. It upholds that the same checkpoint, options and levels give the same bytes on every machine, and that
//! memory does not grow with the weights.

pub mod artifact;
pub mod inspect;
pub mod native;
pub mod scratch;
pub(crate) mod space;

use tern_runtime::model::ModelInfo;

use crate::codegen::image::ModelImage;
use crate::codegen::module::{self, Level, Listing};
use crate::codegen::{self, EmitterChoice, Isa, Target};
use crate::graph::arith::Profile;
use crate::import::Imported;
use crate::pipeline::{self, Options, Timings};
use crate::schedule::Schedule;
use crate::tuning;

/// A model's code, and how its weights must be packed for it.
#[derive(Clone, Debug)]
pub struct Built {
    /// The code of all levels.
    pub code: ModelImage,
    /// The levels, least first.
    pub levels: Vec<Isa>,
    /// The arithmetic of all of them.
    pub profile: Profile,
    /// Which emitter wrote the kernels.
    pub emitter: EmitterChoice,
    /// The schedule of the least level; those of the others agree on weights and state.
    pub schedule: Schedule,
    /// What a user must know.
    pub info: ModelInfo,
    /// The figures by which the code was chosen, if they were measured on some machine: the text of their file.
    pub tuning: Option<String>,
    /// In a cache: by what its artifact will be found there.
    pub key: Option<String>,
    /// How long every pass took; scheduling once for each level.
    pub timings: Timings,
}

impl Built {
    /// The least of its levels: what a CPU must have.
    pub fn least(&self) -> Option<Isa> {
        self.levels.first().copied()
    }
}

/// Compiles a model for `levels` of one architecture, least first; `options.isa` is not looked at.
///
/// # Errors
/// An op that nothing computes, a profile that a level lacks, or a bug.
pub fn compile(imported: &Imported, options: &Options, levels: &[Isa]) -> Result<Built, pipeline::Error> {
    let mut timings = Timings::default();
    let schedules = pipeline::lower_levels(&imported.graph, &imported.weights, options, levels, &mut timings)?;
    let targets = levels.iter().map(|isa| Target::new(*isa, options.profile, options.emitter));
    let targets = targets.collect::<Result<Vec<_>, codegen::Error>>()?;
    let each: Vec<_> = schedules.iter().zip(&targets).map(|(schedule, target)| Level { schedule, target }).collect();
    let code = timings.time("codegen", || module::compile(&each, Listing::default()))?.code;
    let schedule = schedules.into_iter().next();
    let schedule = schedule.ok_or_else(|| codegen::Error::bug("no level to build for"))?;
    let info = pipeline::model_info(imported, &schedule);
    let (profile, emitter) = (options.profile, options.emitter);
    let tuning = options.figures.sheet().map(tuning::text::print);
    Ok(Built { code, levels: levels.to_vec(), profile, emitter, schedule, info, tuning, key: None, timings })
}
