//! The optimiser on whole models: what it must derive, what it must never derive, and that no bit changes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod egraph_models;

use egraph_models::{Arch, Builder, Shape, model, random_weights};
use tern_compiler::checkpoint::Checkpoint;
use tern_compiler::egraph::{Costs, Error, Facts, Machine, Optimised, Options, Stop, compile_form, optimise};
use tern_compiler::generated::rules::RULES;
use tern_compiler::graph::arith::Profile;
use tern_compiler::graph::interp::{Interp, KvStore, KvType, Want};
use tern_compiler::graph::parse::parse;
use tern_compiler::graph::verify::{verify, verify_compiled, verify_model};
use tern_compiler::graph::{Act, Graph, Op, Operand};
use tern_compiler::import::{ImportOptions, import};
use tern_compiler::spec::Class;
use tern_tests::fixtures::checkpoint_dir;
use tern_tests::strategies;

const SMALL: Shape = Shape { layers: 3, hidden: 64, heads: 4, kv_heads: 2, inter: 96, vocab: 40 };

fn optimised(graph: &Graph) -> Optimised {
    let compiled = compile_form(graph).unwrap();
    optimise(&compiled, &Facts::new(), &Options::default(), &Costs::default()).unwrap()
}

/// The names of the ops of one block.
fn ops_of(graph: &Graph, block: Option<u32>) -> Vec<&'static str> {
    graph.nodes.iter().filter(|node| node.block == block).map(|node| node.op.name()).collect()
}

fn logits(graph: &Graph, shape: Shape, profile: Profile) -> Vec<u32> {
    let weights = random_weights(graph, 7);
    let interp = Interp::new(graph, &weights, profile).unwrap();
    let mut kv = KvStore::new(graph, KvType::F32);
    let ids: Vec<u32> = (0..6).map(|i| (i * 17 + 3) % shape.vocab).collect();
    let mut bits = Vec::new();
    for (pos, step) in [(0, &ids[..4]), (4, &ids[4..5]), (5, &ids[5..])] {
        let output = interp.step(&mut kv, step, pos, Want::All).unwrap();
        bits.extend(output.logits.iter().map(|v| v.to_bits()));
    }
    bits
}

#[test]
fn a_bitnet_block_becomes_its_fused_form() {
    let graph = model(Arch::BitNet, SMALL);
    let result = optimised(&graph).graph;
    for block in 0..SMALL.layers {
        assert_eq!(
            ops_of(&result, Some(block)),
            [
                "kv_cache",
                "rmsnorm_quantize",
                "ternary_linear_cat",
                "get",
                "rope",
                "get",
                "kv_write",
                "get",
                "rope",
                "attention",
                "rmsnorm_quantize",
                "ternary_linear_add",
                "rmsnorm_quantize",
                "ternary_glu",
                "rmsnorm_quantize",
                "ternary_linear_add",
            ],
            "block {block}"
        );
    }
    assert!(result.nodes.iter().any(|node| matches!(node.op, Op::TernaryGlu { act: Act::Relu2, .. })));
}

#[test]
fn a_llama_block_becomes_its_fused_form() {
    let graph = model(Arch::Llama, SMALL);
    let result = optimised(&graph).graph;
    assert_eq!(
        ops_of(&result, Some(1)),
        [
            "kv_cache",
            "rmsnorm_quantize",
            "ternary_linear_cat",
            "get",
            "rope",
            "get",
            "kv_write",
            "get",
            "rope",
            "attention",
            "quantize",
            "ternary_linear_add",
            "rmsnorm_quantize",
            "ternary_glu",
            "quantize",
            "ternary_linear_add",
        ]
    );
    assert!(result.nodes.iter().any(|node| matches!(node.op, Op::TernaryGlu { act: Act::Silu, .. })));
}

#[test]
fn imported_models_become_their_fused_form() {
    for name in ["bitnet-packed", "llama-bitlinear", "tern-demo"] {
        let checkpoint = Checkpoint::open(&checkpoint_dir(name)).unwrap();
        let graph = import(&checkpoint, &ImportOptions::default()).unwrap().graph;
        let result = optimised(&graph);
        verify_compiled(&result.graph).unwrap();
        let ops = ops_of(&result.graph, Some(0));
        let count = |op: &str| ops.iter().filter(|name| **name == op).count();
        let fused = ["ternary_linear_cat", "ternary_linear_add", "ternary_glu"].map(count);
        assert_eq!(fused, [1, 2, 1], "{name}: {ops:?}");
        assert_eq!(count("rmsnorm_quantize") + count("quantize"), 4, "{name}: {ops:?}");
        assert_eq!(count("rmsnorm") + count("ternary_linear") + count("rescale"), 0, "{name}: {ops:?}");
        assert!(result.report.regions.iter().all(|region| region.exact && region.stop == Stop::Saturated));
    }
}

#[test]
fn every_stage_verifies_and_keeps_weights_and_outputs() {
    for arch in [Arch::BitNet, Arch::Llama] {
        let graph = model(arch, SMALL);
        verify_model(&graph).unwrap();
        let compiled = compile_form(&graph).unwrap();
        verify_compiled(&compiled).unwrap();
        let result = optimised(&graph).graph;
        verify_compiled(&result).unwrap();
        for later in [&compiled, &result] {
            assert_eq!(later.weights, graph.weights);
            assert_eq!(later.name, graph.name);
            let types = |g: &Graph| g.outputs.iter().map(|&v| g.node(v).ty.clone()).collect::<Vec<_>>();
            assert_eq!(types(later), types(&graph));
            let blocks: Vec<_> = later.nodes.iter().map(|node| node.block).collect();
            let mut runs = blocks.clone();
            runs.dedup();
            assert_eq!(runs.len(), SMALL.layers as usize + 2, "blocks are in one piece: {runs:?}");
        }
    }
}

#[test]
fn the_optimised_model_gives_the_same_bits() {
    for arch in [Arch::BitNet, Arch::Llama] {
        let compiled = compile_form(&model(arch, SMALL)).unwrap();
        let result = optimise(&compiled, &Facts::new(), &Options::default(), &Costs::default()).unwrap().graph;
        for profile in [Profile::Fma, Profile::Plain] {
            let want = logits(&compiled, SMALL, profile);
            assert!(want.iter().any(|&bits| bits != want[0]), "the logits are all equal");
            assert_eq!(logits(&result, SMALL, profile), want, "{arch:?} {profile:?}");
        }
    }
}

#[test]
fn equal_blocks_are_rewritten_once() {
    let result = optimised(&model(Arch::BitNet, SMALL));
    let regions = &result.report.regions;
    let names: Vec<(&str, usize)> = regions.iter().map(|r| (r.name.as_str(), r.shared_by)).collect();
    assert_eq!(names, [("prologue", 1), ("blocks 0-2", 3), ("epilogue", 1)]);
    let block = &regions[1];
    assert_eq!(block.stop, Stop::Saturated);
    assert!(block.exact && block.cost_after_ps < block.cost_before_ps, "{block}");
    for rule in
        ["fuse/norm_quantize", "fuse/rescale", "fuse/residual", "fuse/glu_relu2", "fuse/ternary_glu", "concat/triple"]
    {
        assert!(block.fired.iter().any(|fired| fired.rule == rule), "{rule} did not fire:\n{block}");
    }
    assert!(block.extract_steps < 1_000, "{} steps", block.extract_steps);
}

#[test]
fn the_report_reads_as_it_did() {
    let report = optimised(&model(Arch::BitNet, SMALL)).report;
    let text = report.to_string();
    assert!(text.contains("region blocks 0-2, 3 times\n"), "{text}");
    assert!(text.contains("// iteration 0: fuse/rescale x 7\n"), "{text}");
    assert!(text.contains("= (ternary_linear_cat "), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["regions"][1]["stop"], "saturated");
}

#[test]
fn two_runs_give_the_same_graph_and_report() {
    for arch in [Arch::BitNet, Arch::Llama] {
        let graph = model(arch, SMALL);
        let (one, two) = (optimised(&graph), optimised(&graph));
        assert_eq!(one, two);
        assert_eq!(one.graph.to_string(), two.graph.to_string());
    }
}

#[test]
fn a_block_of_another_shape_is_rewritten_on_its_own() {
    let mut builder = Builder::new(Arch::BitNet, SMALL);
    builder.block(0, 96);
    builder.block(1, 128);
    builder.block(2, 96);
    let graph = builder.finish();
    let result = optimised(&graph);
    let names: Vec<&str> = result.report.regions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["prologue", "block 0, block 2", "block 1", "epilogue"]);
    verify_compiled(&result.graph).unwrap();
}

#[test]
fn every_bitwise_rule_fires() {
    let mut fired: Vec<String> = Vec::new();
    for arch in [Arch::BitNet, Arch::Llama] {
        let compiled = compile_form(&model(arch, SMALL)).unwrap();
        let (facts, costs) = strategies::all(&compiled);
        let report = optimise(&compiled, &facts, &Options::default(), &costs).unwrap().report;
        fired.extend(report.regions.into_iter().flat_map(|region| region.fired).map(|fired| fired.rule));
    }
    for text in [
        include_str!("../filetests/egraph/experts.tern"),
        include_str!("../filetests/egraph/expert_groups.tern"),
        include_str!("../filetests/egraph/groups_fused.tern"),
        include_str!("../filetests/egraph/glu_gelu.tern"),
    ] {
        let input = text.split("// ----").next().unwrap_or_default();
        let compiled = compile_form(&parse(input).unwrap()).unwrap();
        let report = optimise(&compiled, &Facts::new(), &Options::default(), &Costs::default()).unwrap().report;
        fired.extend(report.regions.into_iter().flat_map(|region| region.fired).map(|fired| fired.rule));
    }
    for rule in RULES.iter().filter(|rule| rule.class == Class::Bitwise) {
        assert!(fired.iter().any(|name| name == rule.name), "{} fires in no model", rule.name);
    }
}

#[test]
fn a_block_in_pieces_stays_correct() {
    let mut builder = Builder::new(Arch::Llama, SMALL);
    let product = |builder: &mut Builder, block| {
        builder.enter(block);
        let y = builder.linear(builder.x, 64);
        builder.x = builder.node(Op::Add, &[builder.x.into(), y.into()]);
    };
    for block in [0, 1, 0, 2] {
        product(&mut builder, block);
    }
    let compiled = compile_form(&builder.finish()).unwrap();
    let result = optimise(&compiled, &Facts::new(), &Options::default(), &Costs::default()).unwrap();
    verify(&result.graph).unwrap();
    assert_eq!(ops_of(&result.graph, Some(0)), ["quantize", "ternary_linear_add", "quantize", "ternary_linear_add"]);
    assert_eq!(result.report.regions[1].name, "blocks 0-1, block 0, block 2");
    assert_eq!(logits(&result.graph, SMALL, Profile::Fma), logits(&compiled, SMALL, Profile::Fma));
}

#[test]
fn nodes_that_nothing_uses_are_dropped() {
    let ops = derive(|b| {
        let x = b.x;
        let _unused = b.linear(x, 64);
        b.x = b.node(Op::Relu2, &[x.into()]);
    });
    assert_eq!(ops, ["relu2"]);
}

#[test]
fn limits_end_the_run_and_are_said() {
    let compiled = compile_form(&model(Arch::BitNet, SMALL)).unwrap();
    let none = Options { iterations: 0, ..Options::default() };
    let result = optimise(&compiled, &Facts::new(), &none, &Costs::default()).unwrap();
    assert_eq!(result.report.regions[1].stop, Stop::Iterations);
    assert_eq!(ops_of(&result.graph, Some(0)).iter().filter(|op| **op == "rescale").count(), 7);
    let few = Options { nodes: 80, ..Options::default() };
    let result = optimise(&compiled, &Facts::new(), &few, &Costs::default()).unwrap();
    assert_eq!(result.report.regions[1].stop, Stop::Nodes);
    verify_compiled(&result.graph).unwrap();
    let spent = Options { extract_budget: 1, ..Options::default() };
    let result = optimise(&compiled, &Facts::new(), &spent, &Costs::default()).unwrap();
    let block = &result.report.regions[1];
    assert!(!block.exact && block.cost_after_ps <= block.cost_before_ps, "{block}");
    // What a sum over trees finds: each projection alone, for none of them gains by the concatenation.
    assert!(!has(&ops_of(&result.graph, Some(0)), "ternary_linear_cat"), "{block}");
    verify_compiled(&result.graph).unwrap();
}

#[test]
fn without_optimisation_the_compiled_form_stays() {
    let compiled = compile_form(&model(Arch::Llama, SMALL)).unwrap();
    let off = Options { optimise: false, ..Options::default() };
    let result = optimise(&compiled, &Facts::new(), &off, &Costs::default()).unwrap();
    assert_eq!(result.graph, compiled);
    assert_eq!(compile_form(&compiled).unwrap(), compiled);
}

/// A block of f32[T, 64] made by `f`, optimised; the names of its ops.
fn derive(f: impl FnOnce(&mut Builder)) -> Vec<&'static str> {
    let mut builder = Builder::new(Arch::Llama, SMALL);
    builder.enter(0);
    f(&mut builder);
    let graph = builder.finish();
    verify(&graph).unwrap();
    let result = optimised(&graph).graph;
    verify_compiled(&result).unwrap();
    ops_of(&result, Some(0))
}

fn has(ops: &[&str], op: &str) -> bool {
    ops.contains(&op)
}

#[test]
fn products_of_different_inputs_are_never_concatenated() {
    let ops = derive(|b| {
        let x = b.x;
        let other = b.node(Op::Relu2, &[x.into()]);
        let one = b.linear(x, 64);
        let two = b.linear(other, 64);
        b.x = b.node(Op::Add, &[one.into(), two.into()]);
    });
    assert!(!has(&ops, "ternary_linear_cat"), "{ops:?}");
    assert_eq!(ops.iter().filter(|op| op.starts_with("ternary_linear")).count(), 2, "{ops:?}");
}

#[test]
fn a_gated_unit_needs_one_input_for_both_products() {
    let ops = derive(|b| {
        let x = b.x;
        let other = b.node(Op::Relu2, &[x.into()]);
        let (gate, up) = (b.linear(x, 64), b.linear(other, 64));
        let gate = b.node(Op::Silu, &[gate.into()]);
        b.x = b.node(Op::Mul, &[gate.into(), up.into()]);
    });
    assert!(has(&ops, "glu") && !has(&ops, "ternary_glu"), "{ops:?}");
}

#[test]
fn products_of_different_shapes_are_concatenated_but_never_gated() {
    let ops = derive(|b| {
        let x = b.x;
        let (wide, narrow) = (b.linear(x, 128), b.linear(x, 64));
        let back = b.linear(wide, 64);
        let gate = b.node(Op::Relu2, &[back.into()]);
        b.x = b.node(Op::Mul, &[gate.into(), narrow.into()]);
    });
    assert!(has(&ops, "ternary_linear_cat") && has(&ops, "glu") && !has(&ops, "ternary_glu"), "{ops:?}");
}

#[test]
fn one_weight_used_twice_is_one_product() {
    let ops = derive(|b| {
        let x = b.x;
        let w = b.trit(64, 64);
        let (one, two) = (b.linear_by(x, w), b.linear_by(x, w));
        b.x = b.node(Op::Mul, &[one.into(), two.into()]);
    });
    assert_eq!(ops, ["quantize", "ternary_linear", "mul"]);
}

#[test]
fn a_norm_that_others_read_is_still_computed() {
    let ops = derive(|b| {
        let x = b.x;
        let norm = b.norm(x, 64);
        let y = b.linear(norm, 64);
        b.x = b.node(Op::Mul, &[norm.into(), y.into()]);
    });
    // The row exists anyway: quantising it is cheaper than computing the norm again.
    assert!(has(&ops, "rmsnorm") && has(&ops, "ternary_linear"), "{ops:?}");
}

#[test]
fn a_product_that_others_read_is_not_computed_twice_for_a_residual() {
    let ops = derive(|b| {
        let x = b.x;
        let y = b.linear(x, 64);
        let sum = b.node(Op::Add, &[x.into(), y.into()]);
        b.x = b.node(Op::Mul, &[sum.into(), y.into()]);
    });
    assert_eq!(ops, ["quantize", "ternary_linear", "add", "mul"]);
}

#[test]
fn the_residual_may_stand_on_either_side() {
    for swapped in [false, true] {
        let ops = derive(|b| {
            let x = b.x;
            let y = b.linear(x, 64);
            let operands = if swapped { [y.into(), x.into()] } else { [x.into(), y.into()] };
            b.x = b.node(Op::Add, &operands);
        });
        assert_eq!(ops, ["quantize", "ternary_linear_add"], "swapped: {swapped}");
    }
}

#[test]
fn a_concatenation_is_taken_only_where_it_pays() {
    let graph = compile_form(&model(Arch::BitNet, SMALL)).unwrap();
    // Without a price on phases nothing is won by fewer of them.
    let machine = Machine { phase_ps: 0, cache_bytes_per_s: u64::MAX, ..Machine::default() };
    let free = Costs { machine, ..Costs::default() };
    let result = optimise(&graph, &Facts::new(), &Options::default(), &free).unwrap();
    assert!(!has(&ops_of(&result.graph, Some(0)), "ternary_linear_cat"), "{}", result.report.regions[1]);
    verify_compiled(&result.graph).unwrap();
}

fn refusal(f: impl FnOnce(&mut Builder)) -> Error {
    let mut builder = Builder::new(Arch::Llama, SMALL);
    builder.enter(0);
    f(&mut builder);
    let graph = builder.finish();
    verify(&graph).unwrap();
    compile_form(&graph).unwrap_err()
}

#[test]
fn a_ternary_product_without_quantised_activations_is_unsupported() {
    let mut node = 0;
    let error = refusal(|b| {
        let x = b.x;
        let w = b.trit(64, 64);
        let w = b.node(Op::Dequant, &[w.into()]);
        b.x = b.node(Op::MatMul, &[x.into(), w.into()]);
        node = b.x.0;
    });
    assert!(matches!(error, Error::NoKernel { node: n, op: "matmul", .. } if n == node), "{error}");
    assert!(error.to_string().contains("fake_quant"), "{error}");
}

#[test]
fn a_fake_quant_read_by_others_is_unsupported() {
    let mut node = 0;
    let error = refusal(|b| {
        let x = b.x;
        b.x = b.node(Op::FakeQuant, &[x.into()]);
        node = b.x.0;
    });
    assert!(matches!(error, Error::NoKernel { node: n, op: "fake_quant", .. } if n == node), "{error}");
}

#[test]
fn a_dense_product_of_quantised_activations_is_unsupported() {
    // The rule gives dense_matmul(fake_quant(x), w); what is left without a kernel is fake_quant.
    let error = refusal(|b| {
        let x = b.x;
        let w = b.dense(64, 64);
        let w = b.node(Op::Widen, &[w.into()]);
        let x = b.node(Op::FakeQuant, &[x.into()]);
        b.x = b.node(Op::MatMul, &[x.into(), w.into()]);
    });
    assert!(matches!(error, Error::NoKernel { op: "fake_quant", .. }), "{error}");
}

#[test]
fn a_product_across_blocks_is_unsupported() {
    let error = refusal(|b| {
        let w = b.trit(64, 64);
        let x = b.node(Op::FakeQuant, &[b.x.into()]);
        b.enter(1);
        let w = b.node(Op::Dequant, &[w.into()]);
        b.x = b.node(Op::MatMul, &[x.into(), w.into()]);
    });
    assert!(matches!(error, Error::NoKernel { op: "fake_quant", .. }), "{error}");
}

#[test]
fn an_unverified_graph_is_refused_without_a_panic() {
    let mut graph = model(Arch::Llama, SMALL);
    graph.outputs.push(tern_compiler::graph::ValueId(u32::MAX));
    assert!(matches!(compile_form(&graph), Err(Error::Malformed { .. })));
    let mut graph = model(Arch::Llama, SMALL);
    let last = graph.nodes.len() - 1;
    graph.nodes[last].operands[0] = Operand::Value(graph.outputs[0]);
    assert!(matches!(compile_form(&graph), Err(Error::Malformed { .. })));
}
