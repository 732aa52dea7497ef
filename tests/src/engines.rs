//! One checkpoint, every engine: the reference interpreter and compiled code.

use std::sync::Arc;

use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::codegen::{EmitterChoice, Isa};
use tern_compiler::graph::Graph;
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp::{Interp, KvStore};
use tern_compiler::import::{Activations, Imported};
use tern_compiler::pipeline::{self, Lowered, Options};
use tern_runtime::engine::{Engine, Want};
use tern_runtime::model::Model;
use tern_runtime::session::{self, KvType, Session};

/// An imported checkpoint.
pub struct Loaded {
    /// For messages.
    pub name: String,
    /// What the importer made of it.
    pub imported: Imported,
}

impl Loaded {
    /// Imports a checkpoint.
    ///
    /// # Panics
    /// If it is refused.
    pub fn new(name: &str, checkpoint: &Checkpoint) -> Self {
        Self::with_activations(name, checkpoint, None)
    }

    /// Imports a checkpoint whose activations meet ternary weights in this way.
    ///
    /// # Panics
    /// If it is refused.
    pub fn with_activations(name: &str, checkpoint: &Checkpoint, activations: Option<Activations>) -> Self {
        let options = Options { activations, ..options(native(), Profile::Plain) };
        let imported = pipeline::import(checkpoint, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.to_owned(), imported }
    }

    /// Imports the fixture called `name`.
    ///
    /// # Panics
    /// If it is refused.
    pub fn fixture(name: &str) -> Self {
        Self::fixture_with(name, None)
    }

    /// Imports the fixture called `name` whose activations meet ternary weights in this way.
    ///
    /// # Panics
    /// If it is refused.
    pub fn fixture_with(name: &str, activations: Option<Activations>) -> Self {
        let dir = crate::fixtures::checkpoint_dir(name);
        let checkpoint = Checkpoint::open(&dir).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self::with_activations(name, &checkpoint, activations)
    }

    /// Lowers and compiles.
    ///
    /// # Panics
    /// If that fails.
    pub fn compile(&self, options: &Options) -> (Lowered, Arc<Model>) {
        let mut lowered = pipeline::lower(&self.imported.graph, &self.imported.weights, options)
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let model = pipeline::compile_jit(&self.imported, &mut lowered, options, &mut |_| {})
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        (lowered, Arc::new(model))
    }

    /// All logits of `ids` by the interpreter on `graph`.
    ///
    /// # Panics
    /// If it refuses them.
    pub fn interpret(&self, graph: &Graph, profile: Profile, kv: KvType, ids: &[u32]) -> Vec<f32> {
        let interp =
            Interp::new(graph, &self.imported.weights, profile).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let mut store = KvStore::new(graph, kv);
        let output = interp.step(&mut store, ids, 0, Want::All).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        output.logits
    }
}

/// The highest level here.
///
/// # Panics
/// On a machine without any.
pub fn native() -> Isa {
    Isa::native().expect("this machine has one of tern's ISA levels")
}

/// Options for a level and a profile, with the emitter that users get.
///
/// # Panics
/// On a machine without any level.
pub fn options(isa: Isa, profile: Profile) -> Options {
    options_for((isa, profile, EmitterChoice::Auto))
}

/// Options for one of [`targets`].
///
/// # Panics
/// On a machine without any level.
pub fn options_for((isa, profile, emitter): (Isa, Profile, EmitterChoice)) -> Options {
    Options { isa, profile, emitter, ..Options::native().expect("this machine has one of tern's ISA levels") }
}

/// Every level, profile and emitter that runs here; a level without wide vectors has one emitter only.
pub fn targets() -> Vec<(Isa, Profile, EmitterChoice)> {
    targets_of(Isa::ALL.iter().copied().filter(|isa| isa.is_available()))
}

/// Every profile and emitter of these levels.
pub fn targets_of(levels: impl IntoIterator<Item = Isa>) -> Vec<(Isa, Profile, EmitterChoice)> {
    let profiles = levels.into_iter().flat_map(|isa| [(isa, Profile::Plain), (isa, Profile::Fma)]);
    let emitters = |isa: Isa| if isa.width().is_some() { EmitterChoice::ALL } else { &[EmitterChoice::Clif] };
    profiles
        .filter(|(isa, profile)| *profile == Profile::Plain || isa.has_fma())
        .flat_map(|(isa, profile)| emitters(isa).iter().map(move |emitter| (isa, profile, *emitter)))
        .collect()
}

/// A session.
///
/// # Panics
/// If there is no memory or no thread for it.
pub fn session(model: &Arc<Model>, threads: usize, kv: KvType) -> Session {
    let options = session::Options { threads: Some(threads), kv, ..session::Options::default() };
    Session::new(Arc::clone(model), &options).expect("a session starts")
}

/// All logits of `ids`, given in chunks of `chunk`.
///
/// # Panics
/// If the engine refuses them.
pub fn logits_in_chunks(engine: &mut dyn Engine, ids: &[u32], chunk: usize) -> Vec<f32> {
    engine.truncate(0).expect("forgetting works");
    let mut logits = Vec::new();
    for ids in ids.chunks(chunk) {
        logits.extend_from_slice(engine.step(ids, Want::All).expect("a step works"));
    }
    logits
}

/// Demands equal bits.
#[track_caller]
pub fn assert_same_bits(want: &[f32], found: &[f32], what: &str) {
    assert_eq!(want.len(), found.len(), "{what}: lengths");
    for (i, (w, f)) in want.iter().zip(found).enumerate() {
        assert!(w.to_bits() == f.to_bits(), "{what}: logit {i}: expected {w:?}, found {f:?}");
    }
}
