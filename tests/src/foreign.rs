//! Machine code of another architecture, run by qemu's emulation of one program.
//!
//! In: code that needs nothing but itself, and arguments. Out: what it wrote. `foreign.c`, built by a cross compiler, is the
//! program that is emulated: it gets code and buffers through a pipe, calls the one with the others, and sends them back.
//! A thread of tests starts one for each level and keeps it, so that a call costs little more than the copying. The
//! emulated CPU has the level and no more: an instruction above it kills the program.
//!
//! Where qemu or the cross compiler is not installed, a test cannot run; with `TERN_REQUIRE_QEMU` set that is a failure.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use tern_compiler::codegen::{Arch, Isa};

use crate::call::Arg;

/// Set: a missing tool is a failure.
const REQUIRE: &str = "TERN_REQUIRE_QEMU";

/// The program that is emulated.
const SOURCE: &str = include_str!("foreign.c");

/// Emulator and cross compiler of an architecture, by the names that Debian gives them.
struct Tools {
    qemu: &'static str,
    gcc: &'static str,
}

/// The tools of an architecture that tests emulate.
fn tools(arch: Arch) -> Option<Tools> {
    match arch {
        Arch::Aarch64 => Some(Tools { qemu: "qemu-aarch64", gcc: "aarch64-linux-gnu-gcc" }),
        Arch::Riscv64 => Some(Tools { qemu: "qemu-riscv64", gcc: "riscv64-linux-gnu-gcc" }),
        // Emulated CPUs of x86 lack the levels above AVX2, and no test machine of another architecture needs them yet.
        Arch::X86_64 => None,
    }
}

/// Of the extensions that qemu gives a CPU of riscv64 by itself, those that Cranelift could use are off, and what an
/// instruction need not leave as it is becomes ones.
macro_rules! riscv {
    ($vector_bits:literal) => {
        concat!(
            "rv64,v=true,vext_spec=v1.0,zba=false,zbb=false,zbc=false,zbs=false,rvv_ta_all_1s=true,rvv_ma_all_1s=true,vlen=",
            $vector_bits
        )
    };
}

/// The least that level `rvv` runs on.
const RISCV_128: &str = riscv!("128");

/// A CPU of level `rvv` with vectors of 256 bits.
pub const RISCV_256: &str = riscv!("256");

/// The emulated CPU that has a level and no more, by qemu's name.
fn cpu(isa: Isa) -> Option<&'static str> {
    match isa {
        Isa::Neon => Some("cortex-a72"),
        Isa::Dotprod => Some("cortex-a76"),
        Isa::Rvv => Some(RISCV_128),
        Isa::Sse41 | Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni | Isa::Avx512Vbmi => None,
    }
}

/// The levels that this machine can emulate and does not have.
///
/// # Panics
/// If a tool is missing and `TERN_REQUIRE_QEMU` is set, or if the program to emulate cannot be built.
pub fn levels() -> Vec<Isa> {
    let foreign = Isa::ALL.iter().copied().filter(|isa| !isa.is_available() && cpu(*isa).is_some());
    foreign.filter(|isa| program(isa.arch()).is_some()).collect()
}

/// What runs and builds programs of another architecture, or of fewer features than this machine's.
#[derive(Clone, Copy, Debug)]
pub struct Emulator {
    /// The emulator.
    pub qemu: &'static str,
    /// The emulated CPU.
    pub cpu: &'static str,
    /// The C compiler for it.
    pub gcc: &'static str,
}

/// The emulator of a CPU that has the level `isa` and no more; `None` if there is none here.
///
/// # Panics
/// If a tool is missing and `TERN_REQUIRE_QEMU` is set.
pub fn emulator(isa: Isa) -> Option<Emulator> {
    let Tools { qemu, gcc } = match isa.arch() {
        Arch::X86_64 => Tools { qemu: "qemu-x86_64", gcc: "gcc" },
        arch @ (Arch::Aarch64 | Arch::Riscv64) => tools(arch)?,
    };
    let cpu = match isa {
        Isa::Sse41 => "Nehalem",
        Isa::Avx2 => "Haswell",
        _ => cpu(isa)?,
    };
    (has(qemu) && has(gcc)).then_some(Emulator { qemu, cpu, gcc })
}

/// Whether a tool is installed; says so if it is not.
///
/// # Panics
/// If it is not, and `TERN_REQUIRE_QEMU` is set.
pub fn has(tool: &str) -> bool {
    let found = is_installed(tool);
    assert!(found || std::env::var_os(REQUIRE).is_none(), "{tool} is not installed, and {REQUIRE} is set");
    if !found {
        // Past the capture of tests that succeed: this must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: {tool}");
    }
    found
}

/// The program of an architecture, built on first use; `None` if it cannot be emulated here.
fn program(arch: Arch) -> Option<&'static Path> {
    static AARCH64: OnceLock<Option<PathBuf>> = OnceLock::new();
    static RISCV64: OnceLock<Option<PathBuf>> = OnceLock::new();
    let tools = tools(arch)?;
    let program = match arch {
        Arch::Aarch64 => &AARCH64,
        Arch::Riscv64 => &RISCV64,
        Arch::X86_64 => return None,
    };
    let built = program.get_or_init(|| {
        let missing = [tools.qemu, tools.gcc].into_iter().find(|tool| !is_installed(tool));
        let Some(tool) = missing else {
            return Some(build(&tools).unwrap_or_else(|e| panic!("{}: foreign.c: {e:#}", tools.gcc)));
        };
        assert!(std::env::var_os(REQUIRE).is_none(), "{tool} is not installed, and {REQUIRE} is set");
        // Past the capture of tests that succeed: this must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: {tool}, so nothing is run on an emulated {arch:?}");
        None
    });
    built.as_deref()
}

fn is_installed(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Builds the program beside the running test, under a name that changes with its source; one that is there is kept.
fn build(tools: &Tools) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let test = std::env::current_exe()?;
    let folder = test.parent().context("the test has no folder")?;
    let program = folder.join(format!("foreign-{}-{:016x}", tools.gcc, hasher.finish()));
    if program.is_file() {
        return Ok(program);
    }
    // Tests of other programs may build it at the same time: whoever comes last renames the same bytes.
    let unfinished = program.with_extension(std::process::id().to_string());
    let mut gcc = Command::new(tools.gcc)
        .args(["-O1", "-static", "-pthread", "-Wall", "-Wextra", "-Werror", "-x", "c", "-", "-o"])
        .arg(&unfinished)
        .stdin(Stdio::piped())
        .spawn()?;
    gcc.stdin.take().context("no pipe")?.write_all(SOURCE.as_bytes())?;
    let status = gcc.wait()?;
    ensure!(status.success(), "{status}");
    std::fs::rename(&unfinished, &program)?;
    Ok(program)
}

/// An emulated program that waits for requests.
struct Runner {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Runner {
    fn start(isa: Isa, cpu: &str) -> Result<Self> {
        let name = isa.name();
        let program = program(isa.arch()).with_context(|| format!("level {name} is not emulated here"))?;
        let tools = tools(isa.arch()).with_context(|| format!("no emulator for {name}"))?;
        let mut qemu = Command::new(tools.qemu);
        let mut child = qemu
            .args(["-cpu", cpu])
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| tools.qemu.to_owned())?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).context("no pipes")?;
        Ok(Self { child, input, output })
    }

    /// What the function returned, and whether all memory in front of buffers is as it was.
    fn call(&mut self, function: Function<'_>, args: &mut [Arg<'_>]) -> std::io::Result<(u64, bool)> {
        let mut request = Vec::new();
        let number = |request: &mut Vec<u8>, v: u64| request.extend(v.to_le_bytes());
        number(&mut request, function.code.len() as u64);
        number(&mut request, function.entry);
        number(&mut request, function.convention as u64);
        number(&mut request, args.len() as u64);
        request.extend(function.code);
        for arg in &*args {
            let (kind, value, bytes): (u64, u64, &[u8]) = match arg {
                Arg::Value(v) => (0, *v, &[]),
                Arg::Read(bytes) => (1, bytes.len() as u64, bytes),
                Arg::Write(bytes) => (2, bytes.len() as u64, bytes),
                Arg::Barrier => (3, 0, &[]),
            };
            number(&mut request, kind);
            number(&mut request, value);
            request.extend(bytes);
        }
        self.input.write_all(&request)?;
        let [mut status, mut result] = [[0; 8]; 2];
        self.output.read_exact(&mut status)?;
        self.output.read_exact(&mut result)?;
        for arg in args {
            if let Arg::Write(bytes) = arg {
                self.output.read_exact(bytes)?;
            }
        }
        Ok((u64::from_le_bytes(result), u64::from_le_bytes(status) == 0))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // It may have died already; nobody waits for what it would still say.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

thread_local! {
    static RUNNERS: RefCell<HashMap<&'static str, Runner>> = RefCell::default();
}

/// How a function takes its arguments; the numbers are those of the program's requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Convention {
    /// By the address of an array of them, as kernels do.
    Struct = 0,
    /// As C does, at most twelve integers and addresses.
    C = 1,
    /// The same, by as many threads at once as argument 9 says, at most eight, each with its number as argument 8.
    Threads = 2,
}

/// A function among its code.
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    /// All that it needs, at any address that begins a page.
    pub code: &'a [u8],
    /// Where it starts.
    pub entry: u64,
    /// How it is called.
    pub convention: Convention,
}

/// Calls a function on an emulated CPU of the level `isa`, one of [`levels`]; gives what it returned, if it returns anything.
///
/// # Errors
/// If the code touched memory that it must not, or did not return.
pub fn call(isa: Isa, function: Function<'_>, args: &mut [Arg<'_>]) -> Result<u64> {
    let cpu = cpu(isa).with_context(|| format!("no CPU with {} is known", isa.name()))?;
    call_on(isa, cpu, function, args)
}

/// The same on another CPU that has the level, by qemu's name.
///
/// # Errors
/// As of [`call`].
pub fn call_on(isa: Isa, cpu: &'static str, function: Function<'_>, args: &mut [Arg<'_>]) -> Result<u64> {
    RUNNERS.with_borrow_mut(|runners| {
        let runner = match runners.entry(cpu) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Runner::start(isa, cpu)?),
        };
        let e = match runner.call(function, args) {
            Ok((result, true)) => return Ok(result),
            Ok((_, false)) => bail!("it wrote in front of a buffer"),
            Err(e) => e,
        };
        // A broken pipe: the program has ended, and the next call needs another.
        let ended = runners.remove(cpu).map(|mut runner| runner.child.wait());
        match ended {
            Some(Ok(status)) => bail!("the emulated program ended with {status}: {e}"),
            Some(Err(_)) | None => bail!("{e}"),
        }
    })
}
