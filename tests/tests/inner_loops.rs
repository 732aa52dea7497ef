//! No kernel touches the stack in an inner loop: neither spilled registers nor arguments are read there.
//!
//! In: the machine code of hot kernels, at every level and with both emitters, decoded from the entry on. A loop is what
//! a backward branch spans; an inner loop contains no other. Memory named by the stack or frame pointer may not occur in it.

mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use machine::{Flow, Instruction, decode};
use tern_compiler::addsub::{Limits, Program, synthesise};
use tern_compiler::codegen::candidates::{self, Candidate};
use tern_compiler::codegen::module::kernel_code;
use tern_compiler::codegen::{Arch, EmitterChoice, Isa, Target};
use tern_compiler::graph::{Act, DenseType, F32};
use tern_compiler::schedule::RowKind;
use tern_compiler::schedule::kernel::{
    DenseOrder, Epilogue, GroupRows, GroupScales, KernelKind, KvElem, MapOp, ProgramId, Regime, TritPacking,
};
use tern_compiler::weights::Trits;
use tern_tests::rng::Rng;

/// Everything that can run, by its address: decoding straight on would run into constants.
fn reachable(arch: Arch, code: &[u8]) -> BTreeMap<u64, Instruction> {
    let mut found = BTreeMap::new();
    let mut todo = vec![0u64];
    while let Some(start) = todo.pop() {
        let mut at = start;
        while !found.contains_key(&at) {
            let instruction = decode(arch, code, at);
            found.insert(at, instruction);
            match instruction.flow {
                Flow::Next => {}
                Flow::Branch(to) => todo.push(to),
                Flow::Jump(to) => {
                    todo.push(to);
                    break;
                }
                Flow::End => break,
            }
            at += instruction.bytes;
        }
    }
    found
}

fn inner_loops(code: &BTreeMap<u64, Instruction>) -> Vec<RangeInclusive<u64>> {
    let targets = code.iter().filter_map(|(at, i)| match i.flow {
        Flow::Branch(to) | Flow::Jump(to) => Some((to, *at)),
        Flow::Next | Flow::End => None,
    });
    let loops: BTreeSet<(u64, u64)> = targets.filter(|(to, at)| to <= at).collect();
    let contains = |(a, b): (u64, u64), (c, d): (u64, u64)| a <= c && d <= b && (a, b) != (c, d);
    let inner = loops.iter().filter(|outer| !loops.iter().any(|other| contains(**outer, *other)));
    inner.map(|(start, end)| *start..=*end).collect()
}

/// A matrix of which every level makes blocks of rows, and shared sums that wait in memory.
fn programs(target: &Target) -> Vec<Arc<Program>> {
    let mut rng = Rng::new(1);
    let trits = Trits { rows: 70, cols: 200, data: rng.trits(70 * 200) };
    let (program, _) = synthesise(&trits, &Limits::new(candidates::addsub(target).registers)).expect("a program");
    assert!(program.blocks().len() > 1 && program.slots() > 0);
    vec![Arc::new(program)]
}

fn kinds(target: &Target) -> Vec<KernelKind> {
    let (scale, eps) = (F32::new(0.088), Some(F32::new(1e-5)));
    let mut kinds = vec![
        KernelKind::Norm { eps, out: RowKind::Q8, cols: 2560 },
        KernelKind::Map { op: MapOp::Add, cols: 2560 },
        KernelKind::Rope { cols: 2560, head_dim: 128 },
        KernelKind::TopK,
        KernelKind::HeadQuantise { cols: 2560 },
        KernelKind::HeadScan { cols: 2560 },
        KernelKind::HeadMerge { rows: 128_256 },
    ];
    for dtype in [DenseType::F32, DenseType::F16, DenseType::Bf16] {
        for order in [DenseOrder::Rows, DenseOrder::Quads] {
            kinds.push(KernelKind::Dense { dtype, rows: 1000, cols: 2560, order, out_row_bytes: 4000 });
        }
        kinds.push(KernelKind::HeadRescore { dtype, cols: 2560 });
    }
    for Candidate { strategy, packing, regime, variant } in candidates::all(target.isa, target.emitter) {
        let all = [
            Epilogue::Scale,
            Epilogue::ScaleAdd,
            Epilogue::Glu(Act::Relu2),
            Epilogue::Glu(Act::Silu),
            Epilogue::Glu(Act::Gelu),
        ];
        let is_there = |e: &Epilogue| candidates::has_gated(strategy) || !matches!(e, Epilogue::Glu(_));
        for epilogue in all.into_iter().filter(is_there) {
            kinds.push(KernelKind::Ternary { packing, rows: 2560, cols: 6912, epilogue, regime, variant });
        }
    }
    for scales in GroupScales::ALL {
        let (rows, cols) = (2048, 6144);
        for group in [64, 128, 256, cols] {
            let tables = Regime::Table { tokens: candidates::TABLE_TOKENS };
            for (x, regime) in
                [(GroupRows::Codes, Regime::Gemm), (GroupRows::Codes, tables), (GroupRows::F32, Regime::Gemm)]
            {
                let kind =
                    |adds| KernelKind::Groups { packing: TritPacking::T2, rows, cols, group, x, scales, regime, adds };
                kinds.extend([false, true].map(kind));
            }
        }
    }
    for epilogue in [Epilogue::Sums, Epilogue::Scale, Epilogue::ScaleAdd] {
        let (program, tokens) = (ProgramId(0), candidates::addsub(target).tokens);
        kinds.push(KernelKind::AddSub { program, rows: 70, cols: 200, epilogue, tokens });
    }
    for epilogue in [Epilogue::Scale, Epilogue::ScaleAdd] {
        kinds.push(KernelKind::Dup { rows: 2560, cols: 6912, epilogue, bytes: 1 << 20 });
    }
    for elem in [KvElem::F32, KvElem::F16] {
        kinds.push(KernelKind::KvWrite { heads: 5, head_dim: 128, elem });
        kinds.push(KernelKind::Attention { q_heads: 20, kv_heads: 5, head_dim: 128, scale, elem });
    }
    kinds
}

#[test]
fn inner_loops_do_not_touch_the_stack() {
    let mut faults = Vec::new();
    for &isa in Isa::ALL {
        for &emitter in EmitterChoice::ALL {
            let target = Target::new(isa, isa.default_profile(), emitter).expect("a target");
            let programs = programs(&target);
            for kind in kinds(&target) {
                let code = reachable(isa.arch(), &kernel_code(&kind, &programs, &target).expect("a kernel compiles"));
                let loops = inner_loops(&code);
                assert!(!loops.is_empty(), "{kind}: a kernel without loops");
                for span in loops {
                    let bad: Vec<_> = code.range(span.clone()).filter(|(_, i)| i.uses_stack).collect();
                    if let Some((at, _)) = bad.first() {
                        let (isa, emitter, count) = (isa.name(), emitter.name(), bad.len());
                        faults.push(format!("{isa} {emitter} {kind}: {count} in {span:x?}, the first at {at:#x}"));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "stack in inner loops:\n  {}", faults.join("\n  "));
}

#[test]
fn bytes_are_multiplied_by_the_instruction_for_it() {
    let products = [Isa::Neon, Isa::Dotprod].map(|isa| {
        let target = Target::new(isa, isa.default_profile(), EmitterChoice::Clif).expect("a target");
        let dots = kinds(&target).into_iter().filter(|kind| match kind {
            KernelKind::Ternary { packing: TritPacking::T2 | TritPacking::T5, regime, .. } => {
                matches!(regime, Regime::Gemv | Regime::Gemm)
            }
            kind => matches!(kind, KernelKind::HeadScan { .. }),
        });
        let count = dots.map(|kind| {
            let code = reachable(isa.arch(), &kernel_code(&kind, &[], &target).expect("a kernel compiles"));
            let has = |i: fn(&Instruction) -> bool| code.values().any(i);
            (kind, has(|i| i.is_dot()), has(|i| i.is_widening_product()))
        });
        count.collect::<Vec<_>>()
    });
    let [neon, dotprod] = products;
    assert!(neon.len() > 1 && neon.iter().all(|(_, dot, widening)| !dot && *widening), "{neon:?}");
    assert!(dotprod.len() > 1 && dotprod.iter().all(|(_, dot, widening)| *dot && !widening), "{dotprod:?}");
}

#[test]
fn the_analysis_finds_what_it_looks_for() {
    // mov rax, [rsp+8] in a loop of its own, inside a loop that also pushes.
    let code = [
        0x50, // 0: push rax
        0x48, 0x8b, 0x44, 0x24, 0x08, // 1: mov rax, [rsp+8]
        0x75, 0xf9, // 6: jne 1
        0x75, 0xf6, // 8: jne 0
        0xc3, // 10: ret
    ];
    let code = reachable(Arch::X86_64, &code);
    assert_eq!(inner_loops(&code), [1..=6]);
    assert_eq!(code.values().map(|i| i.uses_stack).collect::<Vec<_>>(), [true, true, false, false, true]);

    // The same, and one branch of each kind; what no branch leads to is not looked at.
    let code = [
        0xf81f_0fe0u32, // 0: str x0, [sp, #-16]!
        0x3dc0_07e1,    // 4: ldr q1, [sp, #16]
        0xb5ff_ffe1,    // 8: cbnz x1, 4
        0x54ff_ffa1,    // 12: b.ne 0
        0x9c00_0081,    // 16: ldr q1, 32
        0x3637_ff60,    // 20: tbz w0, #6, 0
        0x1400_0003,    // 24: b 36
        0xffff_ffff,    // 28
        0xffff_ffff,    // 32
        0xd65f_03c0,    // 36: ret
    ];
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let code = reachable(Arch::Aarch64, &code);
    assert_eq!(code.keys().copied().collect::<Vec<_>>(), [0, 4, 8, 12, 16, 20, 24, 36]);
    assert_eq!(inner_loops(&code), [4..=8]);
    let stack = [true, true, false, false, false, false, false, false];
    assert_eq!(code.values().map(|i| i.uses_stack).collect::<Vec<_>>(), stack);

    // And again; a branch too far for its instruction, by way of a jump that lies behind.
    let code = [
        0xff01_0113u32, // 0: addi sp, sp, -16
        0x0081_3583,    // 4: ld a1, 8(sp)
        0xfe05_9ee3,    // 8: bnez a1, 4
        0x0004_3507,    // 12: fld fa0, 0(s0)
        0x0006_1663,    // 16: bnez a2, 28
        0x0100_006f,    // 20: j 36
        0xffff_ffff,    // 24
        0x0000_0f97,    // 28: auipc t6, 0
        0xfe4f_8067,    // 32: jr -28(t6): 0
        0x0085_3583,    // 36: ld a1, 8(a0)
        0x0000_8067,    // 40: ret
    ];
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let code = reachable(Arch::Riscv64, &code);
    assert_eq!(code.keys().copied().collect::<Vec<_>>(), [0, 4, 8, 12, 16, 20, 36, 40]);
    assert_eq!(inner_loops(&code), [4..=8]);
    let stack = [false, true, false, true, false, false, false, false];
    assert_eq!(code.values().map(|i| i.uses_stack).collect::<Vec<_>>(), stack);
}
