//! Experts that are paged from a file: the same bits, what was read and what was there, files that are damaged or cut short.

use std::fs::{self, OpenOptions};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tern_compiler::build::artifact::{self, Destination};
use tern_compiler::build::{self, Built};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::codegen::state;
use tern_compiler::pipeline::{self, Error, Options};
use tern_compiler::schedule::paging::Routed;
use tern_runtime::artifact::Artifact;
use tern_runtime::artifact::unfinished::Mode;
use tern_runtime::generated::artifact::Kind;
use tern_runtime::memory::{Experts, HugePages};
use tern_runtime::session::KvType;
use tern_runtime::{Engine, Model};
use tern_tests::engines::{Loaded, assert_same_bits, logits_in_chunks, native, options, session};
use tern_tests::fixtures::fixture;

/// Set in the process whose file is cut short.
const CHILD: &str = "TERN_TEST_PAGES_WHAT_IS_LOST";

/// A mixture of experts, built into a file on a disk: what lies in memory cannot be forgotten.
struct Mixture {
    dir: tempfile::TempDir,
    path: PathBuf,
    loaded: Loaded,
    built: Built,
    options: Options,
}

impl Mixture {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let path = dir.path().join("mixture.tern");
        let checkpoint = Checkpoint::open(&fixture("qwen3moe-ternary")).expect("a fixture");
        let loaded = Loaded::new("mixture", &checkpoint);
        let isa = native();
        let options = Options { max_step_tokens: 20, ..options(isa, isa.default_profile()) };
        let built = build::compile(&loaded.imported, &options, &[isa]).expect("it compiles");
        let to = Destination { path: &path, mode: Mode::Data, program: None, sync: true };
        let go_on = &mut |_| ControlFlow::Continue(());
        artifact::write(&built, &loaded.imported, &checkpoint, to, 2, go_on).expect("it is written");
        Self { dir, path, loaded, built, options }
    }

    fn load(&self, experts: Experts) -> Arc<Model> {
        let artifact = Artifact::open(&self.path).expect("it opens");
        Arc::new(artifact.load(2, HugePages::Ask, experts).expect("it loads"))
    }

    /// Where the experts start in the file.
    fn experts_at(&self) -> u64 {
        let artifact = Artifact::open(&self.path).expect("it opens");
        let weights = artifact.header().section(Kind::Weights).expect("weights").offset;
        weights + artifact.meta().experts_start.expect("experts")
    }

    /// Turns over the bits of the byte at `at` of the file.
    fn damage(&self, at: u64) {
        let mut bytes = fs::read(&self.path).expect("the file");
        bytes[at as usize] ^= 0xff;
        fs::write(&self.path, bytes).expect("written");
    }
}

fn ids() -> Vec<u32> {
    (0..33).map(|i| i * 37 % 512).collect()
}

fn logits(model: &Arc<Model>, threads: usize, chunk: usize) -> Vec<f32> {
    logits_in_chunks(&mut session(model, threads, KvType::F32), &ids(), chunk)
}

#[test]
fn mapped_and_resident_experts_give_the_same_bits() {
    let mixture = Mixture::new();
    let resident = mixture.load(Experts::Resident);
    assert_eq!((resident.mapped_bytes(), resident.resident_pages()), (0, None));
    assert_eq!(mixture.load(Experts::Auto).mapped_bytes(), 0, "there is room for so few");
    let want = logits(&resident, 1, 20);
    let mapped = mixture.load(Experts::Mapped);
    let weights = &mixture.built.schedule.weights;
    let experts_bytes = weights.bytes - weights.experts_start.expect("experts");
    assert_eq!((mapped.mapped_bytes() as u64, mapped.weights_bytes() as u64), (experts_bytes, weights.bytes));
    // In memory, without a file of its own.
    let scratch_folder = Some(mixture.dir.path().to_owned());
    let paged = Options { experts: Experts::Mapped, scratch_folder, ..mixture.options.clone() };
    let (_, compiled) = mixture.loaded.compile(&paged);
    assert_eq!(compiled.mapped_bytes() as u64, experts_bytes);
    for model in [mapped, compiled] {
        for (threads, chunk) in [(1, 20), (2, 1), (3, 7)] {
            assert_same_bits(&want, &logits(&model, threads, chunk), &format!("{threads} threads, chunks of {chunk}"));
        }
    }
    let left: Vec<_> = fs::read_dir(mixture.dir.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["mixture.tern"], "what is compiled in memory leaves nothing");
}

#[test]
fn what_is_used_is_what_is_paged_in() {
    let mixture = Mixture::new();
    let model = mixture.load(Experts::Mapped);
    let routes = Routed::all(&mixture.built.schedule);
    assert_eq!(routes.len(), 2, "one for each layer");
    let mut session = session(&model, 2, KvType::F32);
    // Of a step of these ids: bytes of experts that it used, and of those the ones that were there before it.
    let mut step = |ids: &[u32]| {
        let before = model.resident_pages().expect("mapped pages");
        session.truncate(0).expect("an empty sequence");
        session.prefill(ids).expect("a step");
        let word = |at| session.left_by_step(state::ARENA + at);
        let used: Vec<_> = routes.iter().flat_map(|routed| routed.used(word)).collect();
        let bytes: u64 = used.iter().map(|range| range.end - range.start).sum();
        let found = used.iter().map(|range| before.of(range.start as usize..range.end as usize));
        let (all, resident) = found.fold((0, 0), |(all, there), (a, r)| (all + a, there + r));
        let after = model.resident_pages().expect("mapped pages");
        for range in used {
            let (all, resident) = after.of(range.start as usize..range.end as usize);
            assert_eq!(all, resident, "what was used is there");
        }
        (bytes, all, resident)
    };
    let traffic = tern_compiler::schedule::traffic::Traffic::of(&mixture.built.schedule);
    assert!(model.forget_mapped());
    assert_eq!(model.resident_pages().expect("mapped pages").resident_bytes(), 0);
    let (bytes, all, resident) = step(&[7]);
    assert_eq!((bytes, resident), (traffic.expert_bytes, 0), "two of eight, and none was there");
    assert!(all >= bytes);
    let (_, all, resident) = step(&[7]);
    assert_eq!(all, resident, "the same token again");
    assert!(model.forget_mapped());
    assert_eq!(step(&[7]).2, 0, "forgotten again");
    let (bytes, _, _) = step(&ids()[..20]);
    assert!(bytes > traffic.expert_bytes && bytes <= traffic.all_expert_bytes, "{bytes}");
}

#[test]
fn sums_are_checked_of_all_that_is_read() {
    let mixture = Mixture::new();
    let experts_at = mixture.experts_at();
    mixture.damage(experts_at + 77);
    let artifact = Artifact::open(&mixture.path).expect("it opens");
    let refused = |experts| artifact.load(1, HugePages::Off, experts).map(drop).expect_err("refused").to_string();
    assert!(refused(Experts::Resident).contains("the sum of a piece of the weights"));
    assert!(artifact.verify(1).is_err());
    // The piece in which they begin is read, and so is what lies before.
    assert!(refused(Experts::Mapped).contains("the sum of a piece of the weights"));
    mixture.damage(experts_at + 77);
    mixture.damage(experts_at - 5000);
    assert!(refused(Experts::Mapped).contains("the sum of a piece of the weights"));
}

#[test]
fn experts_that_have_no_file_to_lie_in_are_refused() {
    let loaded = Loaded::fixture("qwen3moe-ternary");
    let isa = native();
    for scratch_folder in [None, Some(Path::new("/nowhere/at/all").to_owned())] {
        let options = Options { experts: Experts::Mapped, scratch_folder, ..options(isa, isa.default_profile()) };
        let imported = &loaded.imported;
        let mut lowered = pipeline::lower(&imported.graph, &imported.weights, &options).expect("it lowers");
        match pipeline::compile_jit(imported, &mut lowered, &options, &mut |_| {}) {
            Err(e @ Error::Paged { .. }) => assert!(e.to_string().contains("TMPDIR"), "{e}"),
            other => panic!("{other:?}"),
        }
    }
    // A model without experts needs none.
    let isa = native();
    let options = Options { experts: Experts::Mapped, ..options(isa, isa.default_profile()) };
    let (_, model) = Loaded::fixture("bitnet-packed").compile(&options);
    assert_eq!((model.mapped_bytes(), model.forget_mapped()), (0, false));
}

#[test]
fn a_mapped_file_that_loses_its_end_is_an_error() {
    if std::env::var_os(CHILD).is_some() {
        tern_runtime::lost_pages::report().expect("a handler");
        let mixture = Mixture::new();
        let model = mixture.load(Experts::Mapped);
        let file = OpenOptions::new().write(true).open(&mixture.path).expect("the file");
        file.set_len(mixture.experts_at()).expect("shortened");
        let found = logits(&model, 2, 20);
        panic!("read what is not there: {} logits", found.len());
    }
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_mapped_file_that_loses_its_end_is_an_error", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(1), "{text}");
    assert!(text.contains("error: a file that was being read became shorter"), "{text}");
}
