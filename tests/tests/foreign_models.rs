//! Whole models on CPUs that are emulated: the step program, its state and all kernels at once, through the C ABI, on one
//! thread and on several, bit for bit the interpreter's result.
//!
//! Code is compiled and linked for every foreign level even where nothing can emulate it: it must need no library.

use tern_compiler::codegen::image::ModelImage;
use tern_compiler::codegen::module::{self, Level, Listing};
use tern_compiler::codegen::{Arch, EmitterChoice, Isa, Target};
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp::KvType;
use tern_compiler::pipeline::{self, Lowered};
use tern_compiler::schedule::Schedule;
use tern_runtime::generated::abi;
use tern_tests::call::Arg;
use tern_tests::engines::{Loaded, assert_same_bits, options_for, targets_of};
use tern_tests::foreign::{self, Convention, Function};
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind, Spec};

const CONTEXT: u32 = 40;

fn models() -> Vec<Loaded> {
    let synthetic = |kind: Kind| {
        let spec = Spec::small(kind);
        Loaded::new(&format!("{kind:?}"), &spec.checkpoint().expect("a synthetic checkpoint"))
    };
    Kind::ALL.into_iter().map(synthetic).chain([Loaded::fixture("tern-demo")]).collect()
}

/// The schedule of a model at a level, and the level's target.
fn lowered(loaded: &Loaded, (isa, profile, emitter): (Isa, Profile, EmitterChoice)) -> (Lowered, Target) {
    let options = pipeline::Options { max_step_tokens: 20, ..options_for((isa, profile, emitter)) };
    let lowered =
        pipeline::lower(&loaded.imported.graph, &loaded.imported.weights, &options).expect("a graph that schedules");
    (lowered, options.target().expect("a target"))
}

/// A model's code.
fn compile(schedule: &Schedule, target: &Target) -> ModelImage {
    let compiled = module::compile(&[Level { schedule, target }], Listing::default());
    compiled.expect("a model's code links").code
}

/// A model in an emulated CPU.
struct Emulated {
    isa: Isa,
    /// Another CPU than the one that stands for the level.
    cpu: Option<&'static str>,
    image: ModelImage,
    weights: Vec<u8>,
    state: Vec<u8>,
    vocab: usize,
}

impl Emulated {
    fn new(loaded: &Loaded, lowered: &Lowered, target: &Target, kv: KvType, cpu: Option<&'static str>) -> Self {
        let kv_type = if kv == KvType::F32 { abi::KV_F32 } else { abi::KV_F16 };
        let schedule = &lowered.schedule;
        let mut weights = vec![0; (schedule.weights.bytes as usize).next_multiple_of(64)];
        schedule.weights.pack(&loaded.imported.weights, &mut weights, 1, &mut |_| {}).expect("weights pack");
        let image = compile(schedule, target);
        let vocab = schedule.vocab as usize;
        let mut this = Self { isa: target.isa, cpu, image, weights, state: Vec::new(), vocab };
        let mut sizes = [CONTEXT, 1, kv_type].map(|v| Arg::Value(v.into()));
        let bytes = this.call(this.image.entries.state_bytes, &mut sizes);
        assert!(bytes > 0, "a state that is possible");
        this.state = vec![0; (bytes as usize).next_multiple_of(64)];
        let mut state = std::mem::take(&mut this.state);
        let [context, n_seqs, kv, features] =
            [CONTEXT, 1, kv_type, target.isa.features()].map(|v| Arg::Value(v.into()));
        let status =
            this.call(this.image.entries.state_init, &mut [Arg::from(&mut state[..]), context, n_seqs, kv, features]);
        assert_eq!(status as u32, abi::STATUS_OK);
        this.state = state;
        this
    }

    fn call(&self, entry: u64, args: &mut [Arg<'_>]) -> u64 {
        let convention = if entry == self.image.entries.step { Convention::Threads } else { Convention::C };
        let function = Function { code: &self.image.image.bytes, entry, convention };
        let called = match self.cpu {
            None => foreign::call(self.isa, function, args),
            Some(cpu) => foreign::call_on(self.isa, cpu, function, args),
        };
        called.unwrap_or_else(|e| panic!("{}: {e:#}", self.isa.name()))
    }

    /// The logits of some tokens from position `pos` on, by so many threads; or what the step says.
    fn step(&mut self, ids: &[u32], pos: usize, threads: u64) -> Result<Vec<f32>, u32> {
        let mut logits = vec![0f32; ids.len() * self.vocab];
        let mut state = std::mem::take(&mut self.state);
        let [n, pos, seq, want] = [ids.len() as u64, pos as u64, 0, abi::WANT_ALL.into()].map(Arg::Value);
        let [tid, threads, context] = [0, threads, 0].map(Arg::Value);
        let (weights, ids) = (Arg::from(&self.weights[..]), Arg::from(ids));
        let (at, out) = (Arg::from(&mut state[..]), Arg::from(&mut logits[..]));
        let mut args = [weights, at, ids, n, pos, seq, want, out, tid, threads, Arg::Barrier, context];
        let result = self.call(self.image.entries.step, &mut args);
        // The upper half of a register that returns 32 bits is anything, except on riscv64, where callers rely on it.
        let status = result as u32;
        if self.isa.arch() == Arch::Riscv64 {
            assert_eq!(result, i64::from(status as i32) as u64, "32 bits are extended by their sign");
        }
        self.state = state;
        if status == abi::STATUS_OK { Ok(logits) } else { Err(status) }
    }
}

#[test]
fn code_of_every_foreign_level_needs_nothing_from_outside() {
    let levels = Isa::ALL.iter().copied().filter(|isa| isa.arch() != Arch::X86_64);
    for loaded in models() {
        for target in targets_of(levels.clone()) {
            let (lowered, target) = lowered(&loaded, target);
            let image = compile(&lowered.schedule, &target);
            assert!(image.image.bytes.len() > 10_000, "{}: {} bytes", loaded.name, image.image.bytes.len());
        }
    }
}

/// Some tokens through a model on an emulated CPU, held to the interpreter.
fn check(loaded: &Loaded, target: (Isa, Profile, EmitterChoice), kv: KvType, cpu: Option<&'static str>) {
    let (isa, profile, _) = target;
    let (lowered, target) = lowered(loaded, target);
    let vocab = loaded.imported.facts.vocab as usize;
    let mut rng = Rng::new(11);
    let ids: Vec<u32> = (0..23).map(|_| rng.below(vocab) as u32).collect();
    let what = format!("{} {} {} {kv:?}", loaded.name, isa.name(), profile.name());
    let want = loaded.interpret(&lowered.compiled, profile, kv, &ids);
    let mut model = Emulated::new(loaded, &lowered, &target, kv, cpu);
    // Beyond the vocabulary: refused, and nothing has happened.
    assert_eq!(model.step(&[vocab as u32], 0, 2), Err(abi::STATUS_BAD_TOKEN), "{what}");
    // By tables, by dot products of two tokens and one, and one token alone.
    let mut found = Vec::new();
    for (pos, n, threads) in [(0, 18, 2), (18, 3, 1), (21, 1, 3), (22, 1, 1)] {
        found.extend(model.step(&ids[pos..pos + n], pos, threads).expect("a step that is allowed"));
    }
    assert_same_bits(&want, &found, &what);
}

#[test]
fn models_give_the_interpreters_bits() {
    let levels = foreign::levels();
    for loaded in models() {
        for target in targets_of(levels.clone()) {
            for kv in [KvType::F32, KvType::F16] {
                // Vectors of riscv64 are emulated slowly: there each profile has one type of cache.
                let (isa, profile, _) = target;
                let is_slow = isa.arch() == Arch::Riscv64;
                if is_slow && (profile == Profile::Fma) != (kv == KvType::F32) {
                    continue;
                }
                check(&loaded, target, kv, None);
            }
        }
    }
}

#[test]
fn vectors_of_riscv64_may_be_longer() {
    let levels = foreign::levels().into_iter().filter(|isa| *isa == Isa::Rvv);
    let loaded = Loaded::fixture("tern-demo");
    for target in targets_of(levels) {
        check(&loaded, target, KvType::F16, Some(foreign::RISCV_256));
    }
}
