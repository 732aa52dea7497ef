//! Models as objects and libraries: what is in them, the examples of C and Rust around them, on this CPU and on emulated ones.
//! Whatever the CPU, the ids are those that the JIT gives.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, SymbolKind, elf};
use tern_compiler::build::inspect::{Form as Found, Report, inspect};
use tern_compiler::build::native::files::{self, Form, Request};
use tern_compiler::build::native::{Error, Prefix, library};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::codegen::{Arch, Isa};
use tern_compiler::pipeline::Progress;
use tern_runtime::features;
use tern_runtime::generated::abi;
use tern_runtime::model::Model;
use tern_tests::engines::{Loaded, native};
use tern_tests::native::{
    META, NativeModel, Workshop, examples, greedy, jit, joined, run, succeed, test_program, tokenizer,
};
use tern_tests::rng::Rng;
use tern_tests::{fixtures, foreign};

/// Tokens of an answer.
const ANSWER: usize = 16;
/// What the conversation is about.
const TURNS: [&str; 2] = ["Once upon a time", " She said"];

fn loaded() -> &'static Loaded {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    LOADED.get_or_init(|| Loaded::fixture("tern-demo"))
}

/// The demo model for this CPU.
fn here() -> &'static NativeModel {
    static HERE: OnceLock<NativeModel> = OnceLock::new();
    HERE.get_or_init(|| NativeModel::new(loaded(), &[native()]))
}

fn model_of_jit() -> &'static Arc<Model> {
    static JIT: OnceLock<Arc<Model>> = OnceLock::new();
    JIT.get_or_init(|| jit(loaded()))
}

/// What is said, as ids.
struct Conversation {
    turns: Vec<Vec<u32>>,
    answers: Vec<Vec<u32>>,
}

/// The turns, and what the JIT's model answers.
fn conversation() -> &'static Conversation {
    static IDS: OnceLock<Conversation> = OnceLock::new();
    IDS.get_or_init(|| {
        let tokenizer = tokenizer(loaded());
        let first = tokenizer.encode(TURNS[0]).expect("ids");
        let turns = vec![first, tokenizer.encode_without_bos(TURNS[1]).expect("ids")];
        let answers = greedy(model_of_jit(), &turns.iter().map(Vec::as_slice).collect::<Vec<_>>(), ANSWER);
        Conversation { turns, answers }
    })
}

/// Lines of ids.
fn lines(turns: &[Vec<u32>]) -> String {
    turns.iter().map(|ids| joined(ids) + "\n").collect()
}

/// Runs the conversation in the chat that `command` starts; demands the JIT's ids.
#[track_caller]
fn check_chat(command: &mut Command, options: &[&str]) {
    let Conversation { turns, answers } = conversation();
    let said = succeed(command.args(["--ids", "-n", &ANSWER.to_string()]).args(options), lines(turns));
    assert_eq!(said, lines(answers), "{options:?}");
}

fn chat() -> std::path::PathBuf {
    examples().join("chat.c")
}

#[test]
fn an_object_asks_for_nothing() {
    let levels = [vec![native()], vec![Isa::Neon, Isa::Dotprod], vec![Isa::Rvv]];
    for levels in levels {
        let model = NativeModel::new(loaded(), &levels);
        let bytes = model.object(&Prefix::new("demo").expect("a prefix"), true);
        let file = object::File::parse(&*bytes).expect("an ELF file");
        assert!(file.symbols().all(|symbol| !symbol.is_undefined()), "an undefined symbol");
        assert!(file.sections().all(|section| section.relocations().next().is_none()), "a relocation");
        let mut global: Vec<_> = file.symbols().filter(|s| s.is_global()).map(|s| s.name().expect("a name")).collect();
        global.sort_unstable();
        let want = ["batch", "info", "state_bytes", "state_init", "step", "tokens", "truncate", "weights"];
        assert_eq!(global, want.map(|name| format!("demo_{name}")));
        // Every byte of code but padding belongs to a function, and every function has a name for profilers.
        let text = file.section_by_name(".text").expect("code");
        assert_eq!((text.align(), text.data().expect("bytes")), (64, &model.built.code.image.bytes[..]));
        let functions: Vec<_> = file.symbols().filter(|s| s.kind() == SymbolKind::Text).collect();
        assert_eq!(functions.len(), model.built.code.image.symbols.len());
        let covered: u64 = functions.iter().map(|s| s.size()).sum();
        assert!(covered + 64 * functions.len() as u64 >= text.size() && functions.iter().all(|s| s.size() > 0));
        let kernel = format!("{}_", levels[0].name());
        assert!(functions.iter().any(|s| s.is_local() && s.name().is_ok_and(|name| name.contains(&kernel))));
        let meta = file.section_by_name(".tern.meta").expect("facts");
        assert_eq!(meta.data().expect("bytes"), format!("{META}\n").as_bytes());
        assert_eq!(meta.flags(), SectionFlags::Elf { sh_flags: 0 }, "facts are not loaded");
        assert_eq!(file.section_by_name(".note.GNU-stack").expect("a note").flags(), SectionFlags::Elf { sh_flags: 0 });
        let weights = file.section_by_name(".tern.weights.demo").expect("weights");
        assert_eq!(weights.flags(), SectionFlags::Elf { sh_flags: u64::from(elf::SHF_ALLOC) });
        assert_eq!((weights.align(), weights.data().expect("bytes")), (64, &model.weights[..]));
    }
}

#[test]
fn nm_finds_nothing_undefined() {
    let shop = Workshop::new();
    let object = shop.put(here(), "demo", true);
    if foreign::has("nm") {
        assert_eq!(succeed(Command::new("nm").arg("-u").arg(object), ""), "");
    }
}

#[test]
fn the_same_parts_give_the_same_bytes() {
    let [demo, other] = ["demo", "other"].map(|name| Prefix::new(name).expect("a prefix"));
    let object = here().object(&demo, true);
    assert!(object == here().object(&demo, true));
    assert!(object == NativeModel::new(loaded(), &[native()]).object(&demo, true), "built anew");
    let library = library::static_library(&demo, &object).expect("an archive");
    assert!(library == library::static_library(&demo, &object).expect("an archive"));
    // Another prefix is seen in names alone.
    let renamed = here().object(&other, true);
    let [a, b] = [&object, &renamed].map(|bytes| object::File::parse(&**bytes).expect("an ELF file"));
    let parts = |file: &object::File<'_>, weights: &str| {
        let data = |name: &str| file.section_by_name(name).expect("a section").data().expect("bytes").to_vec();
        [".text", ".rodata", weights, ".tern.meta"].map(data)
    };
    assert!(parts(&a, ".tern.weights.demo") == parts(&b, ".tern.weights.other"));
    let named = |file: &object::File<'_>, prefix: &str| -> Vec<(String, u64, u64)> {
        let symbols = file.symbols().map(|s| (s.name().expect("a name").replace(prefix, ""), s.address(), s.size()));
        symbols.collect()
    };
    assert_eq!(named(&a, "demo_"), named(&b, "other_"));
}

#[test]
fn the_chat_gives_the_ids_of_the_jit() {
    let shop = Workshop::new();
    shop.put(here(), "demo", true);
    let program = shop.cc("cc", &chat(), "chat", &["-DPREFIX=demo", "demo.o"]);
    for threads in ["1", "2", "3"] {
        check_chat(&mut Command::new(&program), &["-t", threads]);
    }
    // Text goes in and out as well, by the table of tokens.
    let answers = &conversation().answers;
    let said = succeed(Command::new(&program).args(["-n", "16"]), TURNS.map(|turn| turn.to_owned() + "\n").concat());
    let tokenizer = tokenizer(loaded());
    let text = |ids: &Vec<u32>| ids.iter().flat_map(|id| tokenizer.token_bytes(*id).expect("a token")).collect();
    let want: Vec<Vec<u8>> = answers.iter().map(text).collect();
    assert_eq!(said, want.iter().map(|text| String::from_utf8_lossy(text).into_owned() + "\n").collect::<String>());
    // A seed says the same again; and others not always.
    let sampled = |seed: &str| {
        let mut command = Command::new(&program);
        succeed(command.args(["-n", "16", "--temp", "1", "--seed", seed]), "Once upon a time\n")
    };
    assert_eq!(sampled("7"), sampled("7"));
    assert!((1..9).any(|seed| sampled(&seed.to_string()) != sampled("7")));
}

#[test]
fn a_chat_that_cannot_go_on_says_why() {
    let shop = Workshop::new();
    shop.put(here(), "demo", false);
    let program = shop.cc("cc", &chat(), "chat", &["-DPREFIX=demo", "demo.o"]);
    let weights = shop.path("demo.weights");
    let weights = weights.to_str().expect("a path in UTF-8");
    check_chat(&mut Command::new(&program), &["-w", weights]);
    let cut = shop.write("cut", &here().weights[1..]);
    let cut = cut.to_str().expect("a path in UTF-8");
    for (options, input, reason) in [
        (vec![], "", "does not carry its weights"),
        (vec!["-w", "nowhere"], "", "nowhere: No such file"),
        (vec!["-w", cut], "", "the weights of this model"),
        (vec!["-w", weights, "-c", "100000"], "", "-c takes a number from 1 to"),
        (vec!["-w", weights, "-x"], "", "no such option"),
        (vec!["-w", weights, "-t"], "", "takes a number"),
        (vec!["-w", weights, "--features", "2147483648"], "", "lacks features"),
        (vec!["-w", weights, "--ids"], "1,x\n", "expected ids"),
        (vec!["-w", weights, "--ids"], "1,99999999\n", "expected ids"),
    ] {
        let output = run(Command::new(&program).args(&options), input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(reason), "{options:?}: {said}");
    }
    // A context that fills up: the conversation starts anew, and the program goes on.
    let output = run(Command::new(&program).args(["-w", weights, "-c", "12", "--ids"]), "1,2,3,4,5,6\n7,8,9\n");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is full"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
}

/// Compiled code is not instrumented, so sanitizers see the C program alone: its memory, its arithmetic, its barrier. What
/// compiled code writes reaches the program behind a meeting that they do see, so nothing need be suppressed.
#[test]
fn sanitizers_find_nothing() {
    let shop = Workshop::new();
    shop.put(here(), "demo", true);
    let sanitized = |name: &str, flags: &[&str]| {
        let program = shop.cc("cc", &chat(), name, &[&["-DPREFIX=demo", "demo.o"], flags].concat());
        let mut command = Command::new(&program);
        command.env("TSAN_OPTIONS", "halt_on_error=1");
        check_chat(&mut command, &["-t", "3"]);
    };
    sanitized("address", &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    sanitized("thread", &["-fsanitize=thread"]);
}

#[test]
fn libraries_hold_the_same() {
    let shop = Workshop::new();
    let object = shop.put(here(), "demo", true);
    let prefix = Prefix::new("demo").expect("a prefix");
    let archive = library::static_library(&prefix, &here().object(&prefix, true)).expect("an archive");
    shop.write("libdemo.a", archive);
    let program = shop.cc("cc", &chat(), "static", &["-DPREFIX=demo", "-L.", "-l:libdemo.a"]);
    check_chat(&mut Command::new(&program), &[]);

    let cc = library::c_compiler(here().arch());
    let shared = shop.path("libdemo.so");
    library::shared_library(cc, &object, &shared, "libdemo.so").expect("a shared library");
    let bytes = std::fs::read(&shared).expect("the library");
    let again = shop.path("again.so");
    library::shared_library(cc, &object, &again, "libdemo.so").expect("a shared library");
    assert!(bytes == std::fs::read(&again).expect("the library"));
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let mut exported: Vec<_> =
        file.dynamic_symbols().filter(|s| !s.is_local()).map(|s| s.name().expect("a name")).collect();
    exported.sort_unstable();
    let want = ["batch", "info", "state_bytes", "state_init", "step", "tokens", "truncate", "weights"];
    assert_eq!(exported, want.map(|name| format!("demo_{name}")));
    assert!(file.imports().expect("a table").is_empty(), "the library asks for something");
    let program = shop.cc("cc", &chat(), "shared", &["-DPREFIX=demo", "-L.", "-ldemo", "-Wl,-rpath,$ORIGIN"]);
    check_chat(&mut Command::new(&program), &[]);
}

#[test]
fn a_shared_library_needs_a_compiler_and_says_so() {
    let shop = Workshop::new();
    let (none, out) = (shop.write("none.o", "no object"), shop.path("lib.so"));
    let e = library::shared_library("no-such-compiler", &none, &out, "lib.so").expect_err("no compiler");
    assert!(matches!(e, Error::NoCompiler { .. }) && e.to_string().contains("no-such-compiler"), "{e}");
    let e = library::shared_library("cc", &none, &out, "lib.so").expect_err("no object");
    assert!(matches!(e, Error::Link { .. }) && e.to_string().contains("none.o"), "{e}");
    assert!(!out.exists());
}

#[test]
fn facts_come_back_from_all_that_holds_them() {
    let shop = Workshop::new();
    let folder = fixtures::checkpoint_dir("tern-demo");
    let checkpoint = Checkpoint::open(&folder).expect("the demo model");
    let written = |name: &str, form: Form| {
        let prefix = Prefix::new(name).expect("a prefix");
        let path = shop.path(&format!("{name}.out"));
        let request = Request { path: path.clone(), prefix, form, embed: None, sync: false };
        let go_on = &mut |_| ControlFlow::Continue(());
        files::write(&here().built, &loaded().imported, &checkpoint, &request, 1, go_on).expect("files");
        std::fs::read(path).expect("OUT")
    };
    let cc = library::c_compiler(here().arch()).to_owned();
    let path = shop.path("demo.out");
    for form in [Form::Object, Form::Static, Form::Shared { cc }] {
        let bytes = written("demo", form.clone());
        let report = inspect(&path, true, 1).expect("sound").pop().expect("built by tern");
        assert_eq!((&*report.meta.levels, report.meta.vocab), (&[native().name().to_owned()][..], here().info.vocab));
        assert!(report.meta.checkpoint.iter().any(|file| file.name == "model.safetensors"), "{form:?}");
        // Damage anywhere is no panic; headers and tables stand at either end.
        let mut rng = Rng::new(3);
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            let near = rng.below(5000);
            let at = if rng.below(2) == 0 { near } else { damaged.len() - 1 - near };
            damaged[at] = rng.below(256) as u8;
            damaged.truncate(if rng.below(3) == 0 { rng.below(bytes.len()) } else { bytes.len() });
            let _ = inspect(&shop.write("damaged", damaged), true, 1);
        }
    }
    // A program has them too, of both models.
    for name in ["first", "second"] {
        let object = written(name, Form::Object);
        shop.write(&format!("{name}.o"), object);
    }
    let args = ["-DFIRST=first", "-DSECOND=second", "first.o", "second.o"];
    let program = shop.cc("cc", &examples().join("two.c"), "both", &args);
    let reports = inspect(&program, true, 1).expect("sound");
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0].form, Found::LinkedProgram);
    // So has a library of both, and what is no model in it is passed over.
    shop.write("notes.txt", "no object");
    let ar = Command::new("ar")
        .args(["rcs", "both.a", "first.o", "notes.txt", "second.o"])
        .current_dir(shop.path("."))
        .status();
    assert!(ar.expect("ar runs").success());
    let members = inspect(&shop.path("both.a"), false, 1).expect("sound");
    assert!(members.len() == 2 && members.iter().all(|report| report.form == Found::StaticLibrary));
    let has = |report: &Report, name: &str| report.parts.iter().any(|part| part.name == name);
    assert!(has(&members[0], ".tern.weights.first") && has(&members[1], ".tern.weights.second"));
    let parts = &reports[1].parts;
    assert!(parts.iter().any(|part| part.name == ".tern.weights.second"), "{parts:?}");
}

#[test]
fn weights_in_a_file_of_their_own_are_those_that_the_object_asks_for() {
    let shop = Workshop::new();
    let checkpoint = Checkpoint::open(&fixtures::checkpoint_dir("tern-demo")).expect("the demo model");
    let request = Request {
        path: shop.path("apart.o"),
        prefix: Prefix::new("apart").expect("a prefix"),
        form: Form::Object,
        embed: Some(false),
        sync: true,
    };
    let go_on = &mut |_| ControlFlow::Continue(());
    let files = files::write(&here().built, &loaded().imported, &checkpoint, &request, 2, go_on).expect("files").files;
    let names: Vec<_> = files.iter().map(|(path, _)| path.file_name().and_then(|name| name.to_str())).collect();
    assert_eq!(names, ["apart.weights", "apart.h", "apart.rs", "apart.o"].map(Some));
    assert!(files.iter().all(|(path, bytes)| std::fs::metadata(path).expect("a file").len() == *bytes));
    assert!(std::fs::read(&files[0].0).expect("weights") == here().weights);
    let bytes = std::fs::read(&request.path).expect("the object");
    let object = object::File::parse(&*bytes).expect("an ELF file");
    let info = object.symbols().find(|s| s.name() == Ok("apart_info")).expect("facts").address() as usize;
    let data = object.section_by_name(".rodata").expect("data").data().expect("bytes");
    assert_eq!(&data[info..][..size_of::<abi::Info>()], here().info.to_le_bytes());
    // Who asks to stop gets no file.
    let stop = &mut |_| ControlFlow::Break(());
    let stopped = Request { path: shop.path("stopped.o"), ..request };
    let e = files::write(&here().built, &loaded().imported, &checkpoint, &stopped, 2, stop).expect_err("stopped");
    assert!(matches!(e, Error::Write(_)) && !stopped.path.exists(), "{e}");
    // Nor does a build that ends early, or cannot link, change what was built before; asked at the very end or at once.
    let snapshot = || {
        let entries = std::fs::read_dir(shop.path(".")).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut files: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect();
        files.sort();
        files
    };
    let before = snapshot();
    let (mut asked, last) = (0, here().weights.len() as u64);
    let at_the_end = &mut |progress: Progress| {
        asked += u32::from(progress.done_bytes == last);
        // All is packed, and asked again when all is written.
        if asked > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let again = Request { path: shop.path("apart.o"), ..stopped };
    let write = |request: &Request, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>| {
        files::write(&here().built, &loaded().imported, &checkpoint, request, 2, progress).expect_err("it ends")
    };
    write(&again, stop);
    write(&again, at_the_end);
    for cc in ["no-such-cc", "false"] {
        write(&Request { form: Form::Shared { cc: cc.to_owned() }, ..again.clone() }, &mut |_| {
            ControlFlow::Continue(())
        });
    }
    assert!(snapshot() == before, "a build that failed changed something");
}

#[test]
fn two_models_answer_in_one_program() {
    let shop = Workshop::new();
    shop.put(here(), "demo", true);
    let other = Loaded::fixture("bitnet-packed");
    shop.put(&NativeModel::new(&other, &[native()]), "other", true);
    let args = ["-DFIRST=demo", "-DSECOND=other", "demo.o", "other.o"];
    let program = shop.cc("cc", &examples().join("two.c"), "two", &args);
    let ids = [0, 5, 77];
    let said = succeed(Command::new(program).arg(joined(&ids)).arg("12"), "");
    let want = [model_of_jit(), &jit(&other)].map(|model| joined(&greedy(model, &[&ids], 12)[0]));
    assert_eq!(said, format!("demo: {}\nother: {}\n", want[0], want[1]));
}

#[test]
fn the_rust_example_gives_the_same_ids() {
    let shop = Workshop::new();
    let prefix = Prefix::new("model").expect("a prefix");
    shop.put(here(), "model", true);
    let archive = library::static_library(&prefix, &here().object(&prefix, true)).expect("an archive");
    shop.write("libmodel.a", archive);
    // Beside its module, as a user has it.
    shop.write("chat.rs", std::fs::read(examples().join("chat.rs")).expect("the example"));
    let rustc = ["--edition", "2024", "-D", "warnings", "chat.rs", "-L", ".", "-l", "static=model"];
    succeed(Command::new("rustc").args(rustc).current_dir(shop.path("")), "");
    let Conversation { turns, answers } = conversation();
    for threads in ["1", "2"] {
        assert_eq!(succeed(Command::new(shop.path("chat")).arg(threads), lines(turns)), lines(answers), "{threads}");
    }
}

/// Builds the chat around a model for an emulated CPU.
fn foreign_chat(shop: &Workshop, model: &NativeModel, gcc: &str) -> std::path::PathBuf {
    shop.put(model, "demo", true);
    shop.cc(gcc, &chat(), "chat", &["-static", "-DPREFIX=demo", "demo.o"])
}

fn emulated(emulator: &foreign::Emulator, program: &Path) -> Command {
    let mut command = Command::new(emulator.qemu);
    command.args(["-cpu", emulator.cpu]).arg(program);
    command
}

#[test]
fn emulated_cpus_give_the_ids_of_the_jit() {
    for levels in [&[Isa::Neon, Isa::Dotprod][..], &[Isa::Rvv]] {
        let Some(first) = foreign::emulator(levels[0]) else { continue };
        let model = NativeModel::new(loaded(), levels);
        let shop = Workshop::new();
        let program = foreign_chat(&shop, &model, first.gcc);
        for isa in levels {
            let emulator = foreign::emulator(*isa).expect("as the first");
            // The program asks the emulated kernel what the CPU has.
            check_chat(&mut emulated(&emulator, &program), &["-t", "2"]);
        }
        check_chat(&mut emulated(&first, &program), &["-t", "1", "--features", "0"]);
        let object = shop.path("demo.o");
        let shared = shop.path("libdemo.so");
        library::shared_library(library::c_compiler(model.arch()), &object, &shared, "libdemo.so").expect("a library");
    }
}

/// All levels of x86-64, least first.
fn levels_of_x86() -> Vec<Isa> {
    Isa::ALL.iter().copied().filter(|isa| isa.arch() == Arch::X86_64).collect()
}

#[test]
fn one_object_runs_on_old_and_new_cpus() {
    let (Some(old), Some(newer)) = (foreign::emulator(Isa::Sse41), foreign::emulator(Isa::Avx2)) else { return };
    let shop = Workshop::new();
    let program = foreign_chat(&shop, &NativeModel::new(loaded(), &levels_of_x86()), old.gcc);
    for emulator in [old, newer] {
        check_chat(&mut emulated(&emulator, &program), &["-t", "2"]);
    }
    if native().arch() == Arch::X86_64 {
        check_chat(&mut Command::new(&program), &["-t", "2"]);
    }
}

#[test]
fn features_choose_the_level() {
    if native().arch() != Arch::X86_64 {
        return;
    }
    let levels = levels_of_x86();
    let shop = Workshop::new();
    shop.put(&NativeModel::new(loaded(), &levels), "model", false);
    let program = shop.cc("cc", &test_program("levels.c"), "levels", &["model.o"]);
    // No bits, those of each level, one bit alone, those of a CPU with all, and those of other CPUs.
    let known = levels.iter().fold(0, |bits, isa| bits | isa.features());
    let bits = [0, known, abi::FEATURE_AVX2, abi::FEATURE_NEON, u32::MAX];
    let masks: Vec<u32> = bits.into_iter().chain(levels.iter().map(|isa| isa.features())).collect();
    let want = masks.iter().map(|mask| {
        let has = if *mask == 0 { features::here() } else { *mask };
        let best = levels.iter().rposition(|isa| isa.features() & !has == 0);
        best.map_or_else(|| format!("{}\n", abi::STATUS_BAD_CPU), |level| format!("0 {level}\n"))
    });
    let arguments: Vec<String> = masks.iter().map(u32::to_string).collect();
    let said = succeed(Command::new(&program).args(&arguments), "");
    assert_eq!(said, want.collect::<String>(), "{arguments:?}");
    // Asked on other CPUs, the code sees what these have.
    for (isa, level) in [(Isa::Sse41, 0), (Isa::Avx2, 1)] {
        let Some(emulator) = foreign::emulator(isa) else { continue };
        assert_eq!(succeed(emulated(&emulator, &program).arg("0"), ""), format!("0 {level}\n"), "{isa:?}");
    }
}
