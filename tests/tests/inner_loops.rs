//! No kernel touches the stack in an inner loop: neither spilled registers nor arguments are read there.
//!
//! In: the machine code of hot kernels, at every level and with both emitters, decoded from the entry on. A loop is what
//! a backward branch spans; an inner loop contains no other. Memory named by `rsp` or `rbp` may not occur in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};
use tern_compiler::codegen::module::kernel_code;
use tern_compiler::codegen::{EmitterChoice, Isa, Target, candidates};
use tern_compiler::graph::{Act, DenseType, F32};
use tern_compiler::schedule::RowKind;
use tern_compiler::schedule::kernel::{Epilogue, KernelKind, KvElem, MapOp};

/// Everything that can run, by its address: decoding straight on would run into constants.
fn reachable(code: &[u8]) -> BTreeMap<u64, Instruction> {
    let mut found = BTreeMap::new();
    let mut todo = vec![0u64];
    while let Some(start) = todo.pop() {
        let mut at = start;
        while !found.contains_key(&at) {
            let mut decoder = Decoder::with_ip(64, &code[at as usize..], at, DecoderOptions::NONE);
            let instruction = decoder.decode();
            assert!(!instruction.is_invalid(), "no instruction at {at:#x}");
            found.insert(at, instruction);
            match instruction.flow_control() {
                FlowControl::Next => {}
                FlowControl::ConditionalBranch => todo.push(instruction.near_branch_target()),
                FlowControl::UnconditionalBranch => {
                    todo.push(instruction.near_branch_target());
                    break;
                }
                FlowControl::Return | FlowControl::Exception => break,
                other => panic!("{other:?} at {at:#x} in a leaf function"),
            }
            at = instruction.next_ip();
        }
    }
    found
}

fn inner_loops(code: &BTreeMap<u64, Instruction>) -> Vec<RangeInclusive<u64>> {
    let branches = code.values().filter(|i| i.op0_kind() == OpKind::NearBranch64 && i.near_branch_target() <= i.ip());
    let loops: BTreeSet<(u64, u64)> = branches.map(|i| (i.near_branch_target(), i.ip())).collect();
    let contains = |(a, b): (u64, u64), (c, d): (u64, u64)| a <= c && d <= b && (a, b) != (c, d);
    let inner = loops.iter().filter(|outer| !loops.iter().any(|other| contains(**outer, *other)));
    inner.map(|(start, end)| *start..=*end).collect()
}

fn uses_stack(i: &Instruction) -> bool {
    let is_stack = |r: Register| matches!(r, Register::RSP | Register::RBP | Register::ESP | Register::EBP);
    let in_memory = (0..i.op_count()).any(|op| i.op_kind(op) == OpKind::Memory);
    (in_memory && is_stack(i.memory_base())) || i.is_stack_instruction()
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
        kinds.push(KernelKind::Dense { dtype, rows: 1000, cols: 2560, out_row_bytes: 4000 });
        kinds.push(KernelKind::HeadRescore { dtype, cols: 2560 });
    }
    for (packing, regime) in candidates::ternary(target) {
        for epilogue in [Epilogue::Scale, Epilogue::ScaleAdd, Epilogue::Glu(Act::Relu2), Epilogue::Glu(Act::Silu)] {
            kinds.push(KernelKind::Ternary { packing, rows: 2560, cols: 6912, epilogue, regime });
        }
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
            for kind in kinds(&target) {
                let code = reachable(&kernel_code(&kind, &target).expect("a kernel compiles"));
                let loops = inner_loops(&code);
                assert!(!loops.is_empty(), "{kind}: a kernel without loops");
                for span in loops {
                    let bad: Vec<_> = code.range(span.clone()).filter(|(_, i)| uses_stack(i)).collect();
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
fn the_analysis_finds_what_it_looks_for() {
    // mov rax, [rsp+8] in a loop of its own, inside a loop that also pushes.
    let code = [
        0x50, // 0: push rax
        0x48, 0x8b, 0x44, 0x24, 0x08, // 1: mov rax, [rsp+8]
        0x75, 0xf9, // 6: jne 1
        0x75, 0xf6, // 8: jne 0
        0xc3, // 10: ret
    ];
    let code = reachable(&code);
    assert_eq!(inner_loops(&code), [1..=6]);
    assert_eq!(code.values().map(uses_stack).collect::<Vec<_>>(), [true, true, false, false, true]);
}
