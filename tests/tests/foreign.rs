//! What runs on an emulated CPU finds its arguments, and cannot touch what it must not: else kernels tested there would
//! pass whatever they do.
//!
//! How memory is guarded is tried on aarch64: it is the same program that guards it elsewhere.

use tern_compiler::codegen::jit::JitKernel;
use tern_compiler::codegen::{Arch, EmitterChoice, Isa, Target};
use tern_compiler::schedule::kernel::KernelKind;
use tern_tests::call::Arg;
use tern_tests::foreign::{self, Convention, Function};

/// Calls some words of aarch64 code.
fn call(isa: Isa, words: &[u32], convention: Convention, args: &mut [Arg<'_>]) -> Result<u64, String> {
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    foreign::call(isa, Function { code: &code, entry: 0, convention }, args).map_err(|e| format!("{e:#}"))
}

fn levels() -> Vec<Isa> {
    foreign::levels().into_iter().filter(|isa| isa.arch() == Arch::Aarch64).collect()
}

const RET: u32 = 0xd65f_03c0;
/// ldr x1, [x0]
const LOAD_FIRST: u32 = 0xf940_0001;

#[test]
fn arguments_and_results_arrive() {
    for isa in levels() {
        let (read, mut write) = ([7u32, 8, 9], [1u8; 5]);
        // x1: what is read; x2: what is written. The third number goes there as a byte.
        let code = [
            LOAD_FIRST,
            0xf940_0402, // ldr x2, [x0, #8]
            0xb940_0821, // ldr w1, [x1, #8]
            0x3900_1041, // strb w1, [x2, #4]
            RET,
        ];
        let mut args = [Arg::from(&read[..]), Arg::from(&mut write[..])];
        call(isa, &code, Convention::Struct, &mut args).expect("a call that touches its buffers only");
        assert_eq!(write, [1, 1, 1, 1, 9]);

        let code = [
            0xf940_0fe8, // ldr x8, [sp, #24]: the last of twelve
            0x8b08_00e0, // add x0, x7, x8
            RET,
        ];
        let mut args = std::array::from_fn::<_, 12, _>(|i| Arg::Value(1 << i));
        assert_eq!(call(isa, &code, Convention::C, &mut args), Ok(1 << 7 | 1 << 11));
    }
}

#[test]
fn what_must_not_be_touched_is_not() {
    let strb_behind = 0x3900_1420; // strb w0, [x1, #5]
    let strb_before = 0x381f_f020; // sturb w0, [x1, #-1]
    let ldrb_behind = 0x3940_1422; // ldrb w2, [x1, #5]
    let strb_inside = 0x3900_0020; // strb w0, [x1]
    for isa in levels() {
        for (word, readable, message) in [
            (strb_behind, false, "ended"),
            (strb_before, false, "in front"),
            (ldrb_behind, false, "ended"),
            (ldrb_behind, true, "ended"),
            (strb_inside, true, "ended"),
        ] {
            let mut bytes = [0u8; 5];
            let buffer = if readable { Arg::Read(&[0; 5]) } else { Arg::from(&mut bytes[..]) };
            let error = call(isa, &[LOAD_FIRST, word, RET], Convention::Struct, &mut [buffer]);
            let error = error.expect_err("it must be noticed");
            assert!(error.contains(message), "{word:08x}: {error}");
        }
        // The next program is another one, and works.
        call(isa, &[RET], Convention::Struct, &mut []).expect("nothing is touched");
    }
}

#[test]
fn an_emulated_cpu_has_its_level_and_no_more() {
    let sdot = 0x4e80_9400; // sdot v0.4s, v0.16b, v0.16b
    for isa in levels() {
        let called = call(isa, &[sdot, RET], Convention::Struct, &mut []);
        assert_eq!(called.is_ok(), isa == Isa::Dotprod, "{}: {called:?}", isa.name());
    }
}

#[test]
fn an_emulated_riscv64_finds_its_arguments_and_has_its_level_and_no_more() {
    const RET: u32 = 0x0000_8067;
    for isa in foreign::levels().into_iter().filter(|isa| *isa == Isa::Rvv) {
        let code = [
            0x0181_3283, // ld t0, 24(sp): the last of twelve
            0x0058_8533, // add a0, a7, t0
            RET,
        ];
        let mut args = std::array::from_fn::<_, 12, _>(|i| Arg::Value(1 << i));
        assert_eq!(call(isa, &code, Convention::C, &mut args), Ok(1 << 7 | 1 << 11));
        // Bytes of a vector: 128 bits, and the other CPU's 256.
        let code = [
            0xc220_2573, // csrr a0, vlenb
            RET,
        ];
        assert_eq!(call(isa, &code, Convention::C, &mut []), Ok(16));
        let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        let function = Function { code: &code, entry: 0, convention: Convention::C };
        assert_eq!(foreign::call_on(isa, foreign::RISCV_256, function, &mut []).expect("it runs"), 32);
        // rol, of an extension that Cranelift has and the level has not.
        let called = call(isa, &[0x60b5_1533, RET], Convention::C, &mut []);
        assert!(called.is_err(), "{called:?}");
    }
}

#[test]
fn code_of_a_level_that_is_not_here_is_not_handed_out() {
    let kind = KernelKind::Rescale { cols: 16 };
    for isa in Isa::ALL.iter().copied() {
        let target = Target::new(isa, isa.default_profile(), EmitterChoice::Clif).expect("a target");
        let compiled = JitKernel::compile(&kind, &target);
        assert_eq!(compiled.is_ok(), isa.is_available(), "{}", isa.name());
        if let Err(e) = compiled {
            assert!(e.to_string().contains("this CPU cannot run"), "{e}");
        }
    }
}
