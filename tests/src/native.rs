//! Models as objects, and programs around them, built and run.
//!
//! In: a checkpoint and levels. Out: a [`NativeModel`], its files in a [`Workshop`], a folder that vanishes with it, and what
//! programs linked there print. The examples of the compiler are what is built here.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use tern_compiler::build::native::object::{self, ObjectParts};
use tern_compiler::build::native::{self, Prefix, Weights, header, tokens};
use tern_compiler::build::{self, Built};
use tern_compiler::codegen::{Arch, Isa};
use tern_compiler::graph::arith::Profile;
use tern_runtime::Tokenizer;
use tern_runtime::engine::{Engine, Want};
use tern_runtime::generated::abi::Info;
use tern_runtime::model::Model;
use tern_runtime::session::KvType;

use crate::engines::{Loaded, options, session};

/// What is said about objects here.
pub const META: &str = r#"{"tern":"test"}"#;

/// The parts of an object.
pub struct NativeModel {
    /// Code and layout.
    pub built: Built,
    /// Packed weights.
    pub weights: Vec<u8>,
    /// The table of tokens.
    pub tokens: tokens::Table,
    /// The facts.
    pub info: Info,
}

impl NativeModel {
    /// Builds `loaded` for levels of one architecture, in the arithmetic that all CPUs have.
    ///
    /// # Panics
    /// If that fails.
    pub fn new(loaded: &Loaded, levels: &[Isa]) -> Self {
        let imported = &loaded.imported;
        let options = options(levels[0], Profile::Plain);
        let built = build::compile(imported, &options, levels).expect("a model that builds");
        let mut weights = vec![0; built.schedule.weights.bytes as usize];
        built.schedule.weights.pack(&imported.weights, &mut weights, 2, &mut |_| {}).expect("weights pack");
        let json = imported.tokenizer_json.as_deref().expect("a tokenizer");
        let tokens = tokens::table(&tokenizer(loaded), json, built.info.vocab).expect("a table of tokens");
        let features = built.least().map_or(0, Isa::features);
        let info = native::info(&built.info, features, Weights::of(&weights), &tokens.bytes).expect("facts");
        Self { built, weights, tokens, info }
    }

    /// The object with symbols of `prefix`, with its weights or without.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn object(&self, prefix: &Prefix, with_weights: bool) -> Vec<u8> {
        let parts = ObjectParts {
            arch: self.arch(),
            prefix,
            code: &self.built.code,
            info: &self.info,
            weights: with_weights.then_some(&self.weights),
            tokens: &self.tokens.bytes,
            meta: META,
        };
        object::object(&parts).expect("an object")
    }

    /// The CPUs that it is for.
    ///
    /// # Panics
    /// If it is for none.
    pub fn arch(&self) -> Arch {
        self.built.least().expect("a level").arch()
    }
}

/// The tokenizer of a checkpoint.
///
/// # Panics
/// If it has none.
pub fn tokenizer(loaded: &Loaded) -> Tokenizer {
    let imported = &loaded.imported;
    let json = imported.tokenizer_json.as_deref().expect("a tokenizer");
    let config = imported.tokenizer_config_json.as_deref();
    Tokenizer::from_json(json, config, imported.facts.bos, imported.facts.vocab).expect("a tokenizer that loads")
}

/// The model as the JIT runs it, in the same arithmetic.
pub fn jit(loaded: &Loaded) -> Arc<Model> {
    loaded.compile(&options(crate::engines::native(), Profile::Plain)).1
}

/// The `n` likeliest tokens, one after another, that the model says behind each of the turns, as a conversation: turns and what
/// was said stay in the cache.
///
/// # Panics
/// If a step fails, or the model ends a turn before: callers choose turns that it does not end.
pub fn greedy(model: &Arc<Model>, turns: &[&[u32]], n: usize) -> Vec<Vec<u32>> {
    let mut session = session(model, 2, KvType::F16);
    let mut unread = None;
    let answer = |turn: &&[u32]| {
        let mut ids: Vec<u32> = unread.into_iter().chain(turn.iter().copied()).collect();
        let mut said = Vec::new();
        while said.len() < n {
            let logits = session.step(&ids, Want::Last).expect("a step");
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let id = logits.iter().position(|v| *v == largest).expect("a largest logit") as u32;
            assert!(!model.info().eos.contains(&id), "token {id} ends the text after {said:?}");
            said.push(id);
            ids = vec![id];
        }
        unread = said.last().copied();
        said
    };
    turns.iter().map(answer).collect()
}

/// Ids with commas between them.
pub fn joined(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// A folder to build programs in.
pub struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    /// An empty one.
    ///
    /// # Panics
    /// If there is no place for it.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file can be written");
        path
    }

    /// Writes the object, the header and the bindings of a model: `PREFIX.o`, `.h`, `.rs`; and its weights, if not in the object.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn put(&self, model: &NativeModel, prefix: &str, with_weights: bool) -> PathBuf {
        let prefix = Prefix::new(prefix).expect("a prefix");
        self.write(&format!("{prefix}.h"), header::c_header(&prefix, with_weights));
        self.write(&format!("{prefix}.rs"), header::rust_bindings(&prefix, with_weights));
        if !with_weights {
            self.write(&format!("{prefix}.weights"), &model.weights);
        }
        self.write(&format!("{prefix}.o"), model.object(&prefix, with_weights))
    }

    /// Compiles an example of C with every warning an error, and links it with the rest of `args`.
    ///
    /// # Panics
    /// With what the compiler says, if it refuses.
    pub fn cc<S: AsRef<OsStr>>(&self, compiler: &str, source: &Path, program: &str, args: &[S]) -> PathBuf {
        let out = self.path(program);
        let strict = ["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread"];
        let mut cc = Command::new(compiler);
        cc.args(strict).arg("-I").arg(self.folder.path()).arg("-I").arg(examples()).arg(source).args(args);
        succeed(cc.arg("-lm").arg("-o").arg(&out).current_dir(self.folder.path()), "");
        out
    }
}

/// The folder of the examples.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compiler/examples/native")
}

/// A C program of the tests.
pub fn test_program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/native").join(name)
}

/// Runs a command on an input.
///
/// # Panics
/// If it does not start.
pub fn run(command: &mut Command, input: impl AsRef<[u8]>) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.as_ref();
    std::thread::scope(|scope| {
        // A program may end before it has read all.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().expect("the program ends")
    })
}

/// The same, and what it wrote.
///
/// # Panics
/// If it fails, with what it said.
#[track_caller]
pub fn succeed(command: &mut Command, input: impl AsRef<[u8]>) -> String {
    let output = run(command, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
