//! What wide kernels are made of, looked at and not run: so every level is tested on every machine.

use iced_x86::code_asm::ptr;
use iced_x86::{Code as Form, CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, Register};

use super::asm::{Asm, Code};
use super::{listing, symbol};
use crate::addsub;
use crate::codegen::{EmitterChoice, Isa, Target, candidates};
use crate::graph::arith::Profile;
use crate::graph::{Act, F32};
use crate::schedule::RowKind;
use crate::schedule::kernel::{
    Epilogue, GroupRows, GroupScales, KernelKind, KvElem, MapOp, ProgramId, Regime, TritPacking,
};

const WIDE: [Isa; 4] = [Isa::Avx2, Isa::AvxVnni, Isa::Avx512Vnni, Isa::Avx512Vbmi];

fn target(isa: Isa, profile: Profile) -> Target {
    Target::new(isa, profile, EmitterChoice::Auto).expect("a target")
}

fn kinds() -> Vec<KernelKind> {
    let eps = Some(F32::new(1e-5));
    let scale = F32::new(0.125);
    let mut kinds = vec![
        KernelKind::Norm { eps, out: RowKind::Q8, cols: 420 },
        KernelKind::Norm { eps, out: RowKind::F32, cols: 420 },
        KernelKind::Norm { eps: None, out: RowKind::Q8, cols: 2560 },
        KernelKind::Map { op: MapOp::Glu(Act::Silu), cols: 17 },
        KernelKind::Map { op: MapOp::Act(Act::Relu2), cols: 17 },
        KernelKind::Rescale { cols: 100 },
        KernelKind::AddSub { program: ProgramId(0), rows: 30, cols: 70, epilogue: Epilogue::ScaleAdd, tokens: 16 },
        KernelKind::AddSub { program: ProgramId(0), rows: 30, cols: 70, epilogue: Epilogue::Scale, tokens: 32 },
        KernelKind::Rope { cols: 240, head_dim: 80 },
        KernelKind::NormHeads { eps: F32::new(1e-6), heads: 5, head_dim: 80 },
        KernelKind::QuantizeGroups { eps: None, cols: 384, group: 128 },
        KernelKind::QuantizeGroups { eps: Some(F32::new(1e-5)), cols: 100, group: 100 },
        KernelKind::Groups {
            packing: TritPacking::T2,
            rows: 40,
            cols: 512,
            group: 128,
            x: GroupRows::Codes,
            scales: GroupScales::F16,
            regime: Regime::Gemm,
            adds: true,
        },
        KernelKind::Groups {
            packing: TritPacking::T2,
            rows: 40,
            cols: 512,
            group: 128,
            x: GroupRows::F32,
            scales: GroupScales::F32,
            regime: Regime::Gemm,
            adds: false,
        },
        KernelKind::Groups {
            packing: TritPacking::T2,
            rows: 40,
            cols: 512,
            group: 128,
            x: GroupRows::Codes,
            scales: GroupScales::F16,
            regime: Regime::Table { tokens: 16 },
            adds: true,
        },
    ];
    for elem in [KvElem::F32, KvElem::F16] {
        kinds.push(KernelKind::KvWrite { heads: 5, head_dim: 128, elem });
        kinds.push(KernelKind::Attention { q_heads: 20, kv_heads: 5, head_dim: 128, scale, elem });
    }
    kinds
}

/// The body of a kernel; those whose weights are code have those of a matrix that uses every kind of operation.
fn emit(kind: &KernelKind, target: &Target) -> Result<Option<Code>, crate::codegen::Error> {
    let KernelKind::AddSub { rows, cols, .. } = *kind else { return super::emit(kind, None, target) };
    let program = addsub::tests::sample(rows, cols, candidates::addsub(target).registers);
    super::emit(kind, Some(&program), target)
}

fn decoded(code: &Code) -> Vec<Instruction> {
    Decoder::with_ip(64, &code.bytes[..code.code_bytes], 0, DecoderOptions::NONE).iter().collect()
}

/// What each level may use, on top of x86-64.
fn allowed(isa: Isa) -> Vec<CpuidFeature> {
    use CpuidFeature::{
        AVX, AVX_VNNI, AVX2, AVX512_VBMI, AVX512_VNNI, AVX512BW, AVX512DQ, AVX512F, AVX512VL, BMI1, BMI2, F16C, FMA,
        INTEL386, INTEL8086, LZCNT, POPCNT, PREFETCHW, SSE, X64,
    };
    let mut features = vec![INTEL8086, INTEL386, X64, SSE, AVX, AVX2, FMA, F16C, BMI1, BMI2, LZCNT, POPCNT];
    features.push(CpuidFeature::CMOV);
    match isa {
        Isa::Sse41 | Isa::Avx2 | Isa::Neon | Isa::Dotprod | Isa::Rvv => {}
        Isa::AvxVnni => features.push(AVX_VNNI),
        Isa::Avx512Vnni => features.extend([AVX512F, AVX512BW, AVX512DQ, AVX512VL, AVX512_VNNI]),
        Isa::Avx512Vbmi => features.extend([AVX512F, AVX512BW, AVX512DQ, AVX512VL, AVX512_VNNI, AVX512_VBMI]),
    }
    features.retain(|f| *f != PREFETCHW);
    features
}

#[test]
fn a_level_uses_no_instruction_of_another() {
    for isa in WIDE {
        let allowed = allowed(isa);
        for profile in [Profile::Fma, Profile::Plain] {
            for kind in kinds() {
                let Some(code) = emit(&kind, &target(isa, profile)).expect("it assembles") else {
                    continue;
                };
                for instruction in decoded(&code) {
                    let features = instruction.cpuid_features();
                    let foreign = features.iter().find(|f| !allowed.contains(f));
                    assert!(foreign.is_none(), "{} {kind}: {instruction:?} needs {foreign:?}", isa.name());
                }
            }
        }
    }
}

#[test]
fn a_kernel_returns_with_cleared_vectors_and_restored_registers() {
    for isa in WIDE {
        for kind in kinds() {
            let Some(code) = emit(&kind, &target(isa, Profile::Fma)).expect("it assembles") else {
                continue;
            };
            let instructions = decoded(&code);
            let of = |m: Mnemonic| -> Vec<Register> {
                instructions.iter().filter(|i| i.mnemonic() == m).map(|i| i.op0_register()).collect()
            };
            let (pushed, mut popped) = (of(Mnemonic::Push), of(Mnemonic::Pop));
            popped.reverse();
            assert_eq!(pushed, popped, "{kind}");
            let last: Vec<Mnemonic> = instructions.iter().rev().take(2).map(Instruction::mnemonic).collect();
            assert_eq!(last, [Mnemonic::Ret, Mnemonic::Vzeroupper], "{kind}");
            assert!(instructions.iter().all(|i| i.mnemonic() != Mnemonic::INVALID), "{kind}");
        }
    }
}

#[test]
fn each_level_has_its_own_dot_product() {
    let expected = [
        (Isa::AvxVnni, Form::VEX_Vpdpbusd_ymm_ymm_ymmm256),
        (Isa::Avx512Vnni, Form::EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32),
    ];
    for (isa, form) in expected {
        let mut k = Asm::new(&target(isa, Profile::Fma), "dot".into()).expect("an assembler").expect("a wide level");
        let [d, a, b] = k.vectors();
        k.dpbusd(d, a, b);
        let code = k.finish().expect("it assembles");
        assert_eq!(decoded(&code)[0].code(), form);
    }
    // Half of a register of AVX-512 is no AVX-VNNI.
    let mut k = Asm::new(&target(Isa::Avx512Vbmi, Profile::Fma), "dot".into()).expect("an assembler").expect("wide");
    let [d, a, b] = k.vectors();
    k.dpbusd(d.half(), a.half(), b.half());
    let code = k.finish().expect("it assembles");
    assert_eq!(decoded(&code)[0].code(), Form::EVEX_Vpdpbusd_ymm_k1z_ymm_ymmm256b32);
}

#[test]
fn too_many_registers_are_an_error_and_no_spill() {
    for (isa, registers) in [(Isa::Avx2, 16), (Isa::Avx512Vnni, 32)] {
        let target = target(isa, Profile::Fma);
        let mut k = Asm::new(&target, "greedy".into()).expect("an assembler").expect("a wide level");
        for _ in 0..registers {
            k.vector();
        }
        assert_eq!(k.free_vectors(), 0);
        k.vector();
        let error = k.finish().expect_err("one too many").to_string();
        assert!(error.contains("greedy") && error.contains("vector registers"), "{error}");
        let mut k = Asm::new(&target, "greedy".into()).expect("an assembler").expect("a wide level");
        for _ in 0..15 {
            k.general();
        }
        let error = k.finish().expect_err("one too many").to_string();
        assert!(error.contains("general registers"), "{error}");
    }
}

#[test]
fn constants_lie_aligned_behind_the_code() {
    let mut k = Asm::new(&target(Isa::Avx512Vnni, Profile::Fma), "pool".into()).expect("an assembler").expect("wide");
    let v = k.splat_f32(1.5);
    for c in [k.all_u8(7), k.all_f32(2.5), k.all_u8(7)] {
        k.vaddps(v, v, c);
    }
    let code = k.finish().expect("it assembles");
    // Two whole registers and one number; the third operand is the first again.
    assert_eq!(code.bytes.len(), code.code_bytes.next_multiple_of(64) + 2 * 64 + 4);
    let at: Vec<u64> =
        decoded(&code).iter().filter(|i| i.is_ip_rel_memory_operand()).map(|i| i.ip_rel_memory_address()).collect();
    assert_eq!((at[1] % 64, at[2] % 64, at[1]), (0, 0, at[3]));
    assert_eq!(code.bytes[at[0] as usize..][..4], 1.5f32.to_le_bytes());
    assert_eq!(code.bytes[at[2] as usize..][60..64], 2.5f32.to_le_bytes());
}

#[test]
fn labels_may_meet() {
    let mut k = Asm::new(&target(Isa::Avx2, Profile::Fma), "loops".into()).expect("an assembler").expect("wide");
    let [i, j, n] = k.generals();
    k.for_range(i, n, 1, |k| k.for_range(j, n, 1, |k| k.lea(j, ptr(j + 1))));
    assert!(k.finish().is_ok());
}

#[test]
fn listings_show_instructions_and_symbols_their_width() {
    let kind = KernelKind::Norm { eps: None, out: RowKind::Q8, cols: 64 };
    let target = target(Isa::Avx512Vbmi, Profile::Fma);
    assert_eq!(symbol(&kind, &target), "avx512vbmi_512_quantize_f32_q8__64");
    let code = emit(&kind, &target).expect("it assembles").expect("it is wide");
    let text = listing(&code);
    assert!(text.contains("vpmovdb") && text.contains("zmm") && text.contains("constants"), "{text}");
    let clif = Target::new(Isa::Avx512Vbmi, Profile::Fma, EmitterChoice::Clif).expect("a target");
    assert_eq!(emit(&kind, &clif).expect("nothing to do"), None);
}
