//! Artifacts: what is written is what runs, the same bytes every time, and nothing damaged is ever believed.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tern_compiler::build::artifact::{self, Destination, Error};
use tern_compiler::build::{self, Built};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::checkpoint::hash::{hex, list_hash};
use tern_compiler::codegen::Isa;
use tern_compiler::graph::arith::Profile;
use tern_compiler::pipeline::Options;
use tern_runtime::artifact::unfinished::Mode;
use tern_runtime::artifact::{self as format, Artifact};
use tern_runtime::features;
use tern_runtime::generated::artifact::{ALIGN_BYTES, Kind, VERSION};
use tern_runtime::memory::{Experts, HugePages};
use tern_runtime::session::KvType;
use tern_tests::engines::{self, Loaded, assert_same_bits, logits_in_chunks, native};
use tern_tests::fixtures;
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind as ModelKind, Spec};

/// A model that is built.
struct Model {
    loaded: Loaded,
    checkpoint: Checkpoint,
}

impl Model {
    fn new(spec: &Spec) -> Self {
        let checkpoint = spec.checkpoint().expect("a synthetic checkpoint");
        Self { loaded: Loaded::new("small", &checkpoint), checkpoint }
    }

    fn small() -> Self {
        Self::new(&Spec::small(ModelKind::BitNetPacked))
    }

    fn compile(&self, levels: &[Isa]) -> Built {
        let profile = if levels.iter().all(|isa| isa.has_fma()) { Profile::Fma } else { Profile::Plain };
        let options = Options { max_step_tokens: 20, ..engines::options(levels[0], profile) };
        build::compile(&self.loaded.imported, &options, levels).expect("a model that compiles")
    }

    fn write(&self, built: &Built, path: &Path, threads: usize, program: Option<&[u8]>) -> u64 {
        let to = Destination { path, mode: Mode::Data, program, sync: false };
        let go_on = &mut |_| ControlFlow::Continue(());
        let written = artifact::write(built, &self.loaded.imported, &self.checkpoint, to, threads, go_on);
        written.expect("an artifact is written")
    }
}

/// An artifact of the small model for this machine, in a folder that goes with it.
struct Written {
    dir: tempfile::TempDir,
    path: PathBuf,
    model: Model,
    built: Built,
}

fn written() -> Written {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("small.tern");
    let model = Model::small();
    let built = model.compile(&[native()]);
    model.write(&built, &path, 2, None);
    Written { dir, path, model, built }
}

#[test]
fn what_is_loaded_gives_the_bits_of_what_is_compiled_in_memory() {
    let w = written();
    let ids: Vec<u32> = (0..33).map(|i| i * 7 % w.model.loaded.imported.facts.vocab).collect();
    let options = Options { max_step_tokens: 20, ..engines::options(native(), w.built.profile) };
    let (_, compiled) = w.model.loaded.compile(&options);
    let artifact = Artifact::open(&w.path).expect("it opens");
    let loaded = Arc::new(artifact.load(2, HugePages::Ask, Experts::Auto).expect("it loads"));
    assert_eq!(loaded.info(), compiled.info());
    for kv in [KvType::F32, KvType::F16] {
        let want = logits_in_chunks(&mut engines::session(&compiled, 1, kv), &ids, 20);
        let found = logits_in_chunks(&mut engines::session(&loaded, 2, kv), &ids, 20);
        assert_same_bits(&want, &found, kv.name());
    }
    // Several levels read one packing; the state runs the best.
    let levels: Vec<Isa> = Isa::ALL.iter().copied().filter(|isa| isa.is_available() && isa.has_fma()).collect();
    let several = w.model.compile(&levels);
    w.model.write(&several, &w.path, 1, None);
    let artifact = Artifact::open(&w.path).expect("it opens");
    assert_eq!(artifact.meta().levels.len(), levels.len());
    let loaded = Arc::new(artifact.load(1, HugePages::Off, Experts::Auto).expect("it loads"));
    let want = logits_in_chunks(&mut engines::session(&compiled, 1, KvType::F32), &ids, 20);
    let found = logits_in_chunks(&mut engines::session(&loaded, 2, KvType::F32), &ids, 3);
    assert_same_bits(&want, &found, "several levels");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let w = written();
    let first = fs::read(&w.path).expect("the artifact");
    for threads in [1, 3] {
        let model = Model::small();
        let built = model.compile(&[native()]);
        let again = w.dir.path().join("again.tern");
        let bytes = model.write(&built, &again, threads, None);
        assert_eq!(bytes, first.len() as u64);
        assert!(fs::read(&again).expect("the artifact") == first, "{threads} threads");
    }
}

#[test]
fn the_facts_are_those_of_the_checkpoint() {
    let w = written();
    let artifact = Artifact::open(&w.path).expect("it opens");
    let (header, meta) = (artifact.header(), artifact.meta());
    assert_eq!(meta.info(), w.built.info);
    assert_eq!(meta.levels, [native().name()]);
    assert_eq!((header.arch, header.features), (native().arch().elf_machine(), native().features()));
    let files = w.model.checkpoint.hash_files(&mut || true).expect("nobody ends it");
    assert_eq!(meta.checkpoint, files);
    assert_eq!(header.checkpoint, list_hash(&files));
    assert!(meta.functions.iter().any(|f| f.name.contains("_gemv_")), "{meta:?}");
    let packed: u64 = meta.packed.iter().map(|size| size.bytes).sum();
    assert!(packed <= w.built.schedule.weights.bytes && packed > 0);
}

#[test]
fn a_checkpoint_has_the_hash_that_other_programs_compute() {
    let folder = fixtures::checkpoint_dir("bitnet-packed");
    let checkpoint = Checkpoint::open(&folder).expect("the fixture");
    let files = checkpoint.hash_files(&mut || true).expect("nobody ends it");
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
    // `sha256sum config.json`, and `sha256sum *.json model.safetensors | sha256sum` in the order of names.
    assert_eq!(files[0].sha256, "c6854c1074b522a43b2dc2c0e176e3336488a003df37cdac34f22a0a7f83aa56");
    assert_eq!(hex(&list_hash(&files)), "e1e102f2e1724b3d59708fc66dc745686a6d70588d0c66675931d219ba712919");
    assert!(checkpoint.hash_files(&mut || false).is_none(), "it was ended");
}

/// Opens, checks and loads the bytes; what is said if any of it refuses.
fn refusal(path: &Path, bytes: &[u8]) -> Option<format::Error> {
    fs::write(path, bytes).expect("a file");
    let loaded = Artifact::open(path).and_then(|artifact| artifact.load(2, HugePages::Off, Experts::Auto));
    loaded.err()
}

#[test]
fn no_flipped_bit_is_overlooked() {
    let w = written();
    let good = fs::read(&w.path).expect("the artifact");
    assert!(refusal(&w.path, &good).is_none());
    let artifact = Artifact::open(&w.path).expect("it opens");
    let mut places: Vec<usize> = Vec::new();
    let mut end = 0;
    for section in &artifact.header().sections {
        let (start, behind) = (section.offset as usize, section.end() as usize);
        assert_eq!(start % ALIGN_BYTES as usize, 0);
        places.extend([start, (start + behind) / 2, behind - 1]);
        if end > 0 && end < start {
            // What fills up the section before.
            places.extend([end, start - 1]);
        }
        end = behind;
    }
    assert_eq!(end, good.len());
    let mut rng = Rng::new(4);
    places.extend((0..60).map(|_| rng.below(good.len())));
    for place in places {
        let mut bytes = good.clone();
        bytes[place] ^= 1 << rng.below(8);
        let e = refusal(&w.path, &bytes).unwrap_or_else(|| panic!("a flipped bit of byte {place} is overlooked"));
        let says_what = matches!(
            e,
            format::Error::Damaged { .. } | format::Error::NotAnArtifact { .. } | format::Error::OtherVersion { .. }
        );
        assert!(says_what && e.to_string().contains("small.tern"), "byte {place}: {e}");
    }
}

#[test]
fn what_is_cut_off_or_hung_on_is_refused() {
    let w = written();
    let good = fs::read(&w.path).expect("the artifact");
    let mut rng = Rng::new(5);
    let lengths = [0, 1, 7, 8, 9, 4095, 4096, 4097, good.len() - 1].into_iter();
    for length in lengths.chain((0..30).map(|_| rng.below(good.len()))).collect::<Vec<_>>() {
        let e = refusal(&w.path, &good[..length]).unwrap_or_else(|| panic!("{length} bytes are believed"));
        assert!(matches!(e, format::Error::Damaged { .. } | format::Error::NotAnArtifact { .. }), "{length}: {e}");
    }
    let mut longer = good;
    longer.push(0);
    assert!(refusal(&w.path, &longer).is_some());
}

#[test]
fn a_newer_layout_is_refused_by_its_version() {
    let w = written();
    let mut bytes = fs::read(&w.path).expect("the artifact");
    bytes[8] = VERSION as u8 + 1;
    let e = refusal(&w.path, &bytes).expect("refused").to_string();
    let (newer, ours) = (format!("version {}", VERSION + 1), format!("reads {VERSION}"));
    assert!(e.contains(&newer) && e.contains(&ours) && e.contains("newer tern"), "{e}");
}

#[test]
fn code_for_another_machine_opens_and_does_not_load() {
    let w = written();
    let here = native().arch();
    for isa in Isa::ALL.iter().copied().filter(|isa| !isa.is_available()) {
        let built = w.model.compile(&[isa]);
        w.model.write(&built, &w.path, 1, None);
        let artifact = Artifact::open(&w.path).expect("it can be looked at");
        artifact.verify(1).expect("it is whole");
        let e = artifact.load(1, HugePages::Off, Experts::Auto).expect_err("it cannot run here").to_string();
        if isa.arch() == here {
            let lacks = features::names(isa.features() & !features::here()).join(", ");
            assert!(e.contains("lacks") && e.contains(&lacks), "{e}");
        } else {
            assert!(e.contains(isa.arch().triple()) && e.contains("--target"), "{e}");
        }
    }
}

#[test]
fn a_program_carries_an_artifact() {
    let w = written();
    let program = [0x7f; 70_000];
    let bytes = w.model.write(&w.built, &w.path, 2, Some(&program));
    let file = fs::read(&w.path).expect("the program");
    assert_eq!(file.len() as u64, bytes);
    assert!(file.starts_with(&program));
    assert!(Artifact::is_one(&w.path));
    let artifact = Artifact::open(&w.path).expect("it opens");
    artifact.load(2, HugePages::Off, Experts::Auto).expect("it loads");
    for end in [bytes - 1, bytes - 32, 70_000] {
        fs::write(&w.path, &file[..end as usize]).expect("a file");
        let e = Artifact::open(&w.path).expect_err("it was stripped");
        assert!(matches!(e, format::Error::NotAnArtifact { .. }), "{e}");
    }
    let mut moved = file;
    let at = moved.len() - 24;
    moved[at] ^= 1;
    assert!(refusal(&w.path, &moved).is_some());
}

#[test]
fn nothing_is_left_of_a_build_that_ends_early() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("out.tern");
    let spec = Spec { vocab: 40_000, hidden: 512, intermediate: 768, ..Spec::small(ModelKind::BitNetPacked) };
    let model = Model::new(&spec);
    let built = model.compile(&[native()]);
    assert!(built.schedule.weights.bytes > 33 << 20, "one window shows nothing");
    let to = Destination { path: &path, mode: Mode::Data, program: None, sync: false };
    let stop = &mut |_| ControlFlow::Break(());
    let ended = artifact::write(&built, &model.loaded.imported, &model.checkpoint, to, 2, stop);
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0);
    // The same in windows as at once.
    model.write(&built, &path, 2, None);
    let ids: Vec<u32> = (0..20).map(|i| i * 1999).collect();
    let loaded =
        Arc::new(Artifact::open(&path).expect("it opens").load(2, HugePages::Ask, Experts::Auto).expect("it loads"));
    let options = Options { max_step_tokens: 20, ..engines::options(native(), built.profile) };
    let (_, compiled) = model.loaded.compile(&options);
    let want = logits_in_chunks(&mut engines::session(&compiled, 2, KvType::F16), &ids, 20);
    let found = logits_in_chunks(&mut engines::session(&loaded, 2, KvType::F16), &ids, 20);
    assert_same_bits(&want, &found, "packed in windows");
}

#[test]
fn facts_that_contradict_the_rest_are_refused() {
    let w = written();
    let artifact = Artifact::open(&w.path).expect("it opens");
    let good = artifact.meta().clone();
    let section = |kind| artifact.header().section(kind).expect("it is there").bytes;
    let (code, weights) = (section(Kind::Code), section(Kind::Weights));
    let triple = native().arch().triple();
    assert_eq!(good.check(code, weights, triple), Ok(()));
    let refused = |change: &dyn Fn(&mut format::Meta)| {
        let mut meta = good.clone();
        change(&mut meta);
        meta.check(code, weights, triple).expect_err("a contradiction").what
    };
    assert_eq!(refused(&|m| m.vocab = 0), "the vocabulary");
    assert_eq!(refused(&|m| m.vocab = 1 << 31), "the vocabulary");
    assert_eq!(refused(&|m| m.max_step_tokens = 0), "the most tokens of a step");
    assert_eq!(refused(&|m| m.bos = Some(m.vocab)), "a special token");
    assert_eq!(refused(&|m| m.eos.push(u32::MAX)), "a special token");
    assert_eq!(refused(&|m| m.target = "elsewhere".into()), "the target");
    assert_eq!(refused(&|m| m.levels.clear()), "the target");
    assert_eq!(refused(&|m| m.entries.step = 0), "entry point step");
    assert_eq!(refused(&|m| m.entries.truncate = code), "entry point truncate");
    assert!(refused(&|m| m.functions[0].bytes = u64::MAX).starts_with("function "));
    assert_eq!(refused(&|m| m.packed[0].bytes = u64::MAX), "the weights");
    assert!(good.check(code, 64, triple).is_err());
}

#[test]
fn whatever_the_bytes_reading_ends() {
    let w = written();
    let good = fs::read(&w.path).expect("the artifact");
    let mut rng = Rng::new(6);
    let start = std::time::Instant::now();
    let mut refused = 0;
    while start.elapsed().as_secs_f64() < 1.0 {
        let mut bytes = good.clone();
        // A few bytes of the first page, under a sum that is right: what lies behind it is reached.
        for _ in 0..1 + rng.below(3) {
            let at = 8 + rng.below(500);
            bytes[at] = [0, 1, 0xff, 0x80, rng.below(256) as u8][rng.below(5)];
        }
        bytes[72..80].fill(0);
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..4096]);
        bytes[72..80].copy_from_slice(&sum.to_le_bytes());
        if rng.below(2) == 0 {
            bytes.truncate(4096 + rng.below(bytes.len() - 4096));
        }
        refused += usize::from(refusal(&w.path, &bytes).is_some());
    }
    assert!(refused > 10, "{refused} refused");
}
