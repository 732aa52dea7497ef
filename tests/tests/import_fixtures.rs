//! The checkpoints with golden logits import, whole, and as what they are.

use std::collections::{BTreeMap, BTreeSet};

use tern_compiler::checkpoint::{Checkpoint, Histogram};
use tern_compiler::graph::{DType, Dim, Graph, Op, Operand, Origin, RopeScaling, Type};
use tern_compiler::import::{
    Activations, Architecture, Error, ImportOptions, Imported, ScaleRule, WeightFormat, import, inspect,
};
use tern_tests::fixtures::{CHECKPOINTS, checkpoint_dir, fixture};
use tern_tests::synth::{Kind, Spec};

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&checkpoint_dir(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn imported(name: &str) -> Imported {
    import(&open(name), &ImportOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn op_counts(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for node in &graph.nodes {
        *counts.entry(node.op.name()).or_insert(0) += 1;
    }
    counts
}

/// What a model of `layers` blocks consists of.
fn expected_counts(layers: usize, bitnet: bool) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::from([
        ("input_ids", 1),
        ("positions", 1),
        ("embed", 1),
        ("wanted_rows", 1),
        ("widen", 1),
        ("kv_cache", layers),
        ("kv_write", layers),
        ("attention", layers),
        ("rope", 2 * layers),
        ("fake_quant", 7 * layers),
        ("dequant", 7 * layers),
        ("matmul", 7 * layers + 1),
        ("add", 2 * layers),
        ("mul", layers),
        ("rmsnorm", if bitnet { 4 } else { 2 } * layers + 1),
    ]);
    counts.insert(if bitnet { "relu2" } else { "silu" }, layers);
    counts
}

#[test]
fn every_fixture_has_the_ops_of_its_graph() {
    for (name, layers, bitnet) in
        [("bitnet-packed", 2, true), ("bitnet-online", 2, true), ("llama-bitlinear", 2, false), ("tern-demo", 6, true)]
    {
        assert_eq!(op_counts(&imported(name).graph), expected_counts(layers, bitnet), "{name}");
    }
}

#[test]
fn the_graph_is_laid_out_as_promised() {
    for name in CHECKPOINTS {
        let Imported { graph, facts, .. } = imported(name);
        tern_compiler::graph::verify::verify(&graph).unwrap_or_else(|e| panic!("{name}: {e}"));
        let blocks: Vec<_> = graph.nodes.iter().map(|n| n.block).collect();
        let first = blocks.iter().position(Option::is_some).expect("there are blocks");
        let caches = graph.nodes.iter().rposition(|n| matches!(n.op, Op::KvCache { .. }));
        assert!(caches < Some(first), "{name}: caches stand before the blocks");
        let inside: Vec<_> = blocks.iter().flatten().copied().collect();
        assert!(inside.is_sorted(), "{name}: blocks follow each other");
        assert_eq!(inside.last(), Some(&(facts.layers - 1)), "{name}");

        let logits = graph.node(graph.outputs[0]);
        let Type::Tensor(ty) = &logits.ty else { panic!("{name}: logits are a tensor") };
        assert_eq!(ty.dims, [Dim::Wanted, Dim::Const(facts.vocab)], "{name}");
        let written: Vec<_> = graph.outputs[1..].iter().map(|v| graph.node(*v)).collect();
        assert!(written.iter().all(|n| n.op == Op::KvWrite), "{name}");
        let layers: Vec<_> = written.iter().filter_map(|n| n.block).collect();
        assert_eq!(layers, (0..facts.layers).collect::<Vec<_>>(), "{name}: layer order");
    }
}

#[test]
fn every_tensor_is_a_weight_or_a_scale() {
    for name in ["bitnet-packed", "bitnet-online", "llama-bitlinear", "tern-demo"] {
        let (checkpoint, imported) = (open(name), imported(name));
        let mut stored: Vec<&str> = checkpoint.tensors().map(|t| t.name()).collect();
        stored.retain(|n| !n.ends_with(".weight_scale"));
        let weights = &imported.graph.weights;
        let names = weights.iter().map(|w| w.name.as_str());
        let mut declared: Vec<&str> = names.filter(|n| *n != "rope").collect();
        declared.sort_unstable();
        assert_eq!(stored, declared, "{name}");
        for weight in weights {
            assert_eq!(weight.scale.is_some(), weight.ty.dtype == DType::Trit, "{}", weight.name);
        }
    }
}

#[test]
fn facts_are_those_of_the_files() {
    let packed = imported("bitnet-packed").facts;
    assert_eq!(packed.architecture, Architecture::BitNet);
    assert_eq!((packed.format, packed.scale_rule), (WeightFormat::HfPacked, ScaleRule::Multiplies));
    assert_eq!((packed.hidden, packed.intermediate), (320, 864));
    assert_eq!((packed.heads, packed.head_dim), (5, 64));
    assert_eq!((packed.bos, packed.eos.as_slice(), packed.tied), (Some(0), &[1][..], true));

    let online = imported("bitnet-online").facts;
    let kind = (online.format, online.scale_rule);
    assert_eq!(kind, (WeightFormat::OnlineMaster, ScaleRule::Absmean));
    assert_eq!((online.heads, online.kv_heads), (4, 2));

    let llama = imported("llama-bitlinear");
    assert_eq!(llama.facts.architecture, Architecture::Llama);
    assert_eq!(llama.facts.scale_rule, ScaleRule::Divides);
    assert!(!llama.facts.tied);
    assert!(matches!(llama.facts.rope.scaling, RopeScaling::Llama3 { .. }));
    let json = serde_json::to_value(&llama.facts).expect("facts serialise");
    assert_eq!(json["rope"]["original_max_position_embeddings"], 512);
    assert_eq!(json["architecture"], "LlamaForCausalLM");

    let demo = imported("tern-demo");
    assert_eq!(demo.generation.temperature, Some(0.8));
    assert_eq!((demo.generation.top_k, demo.generation.do_sample), (Some(40), Some(true)));
    assert!(demo.tokenizer_json.is_some() && demo.tokenizer_config_json.is_some());
}

/// An import with activations of one kind.
fn with_activations(name: &str, activations: Activations) -> Result<Imported, Error> {
    import(&open(name), &ImportOptions { activations: Some(activations), ..ImportOptions::default() })
}

#[test]
fn weights_alone_ternary_leave_activations_open() {
    let counts = |name, activations| op_counts(&with_activations(name, activations).expect("valid").graph);
    // One scale for a matrix: the products of a model that was trained with i8.
    assert_eq!(counts("llama-ternary-f16", Activations::I8), expected_counts(2, false));
    let of_f32 = counts("llama-ternary-f16", Activations::F32);
    assert_eq!((of_f32["ternary_f32_linear"], of_f32["matmul"], of_f32.get("fake_quant")), (14, 1, None));
    let by_group = counts("qwen3-group128", Activations::I8);
    let found = ["quantize_groups", "ternary_group_linear", "rmsnorm_heads"].map(|op| by_group[op]);
    assert_eq!((found, by_group["matmul"]), ([14, 14, 4], 1));
    assert_eq!(counts("qwen3-group128", Activations::F32)["ternary_f32_linear"], 14);

    let qwen3 = imported("qwen3-group128");
    assert_eq!(qwen3.facts.architecture, Architecture::Qwen3);
    assert_eq!((qwen3.facts.format, qwen3.facts.scale_rule), (WeightFormat::DenseTernary, ScaleRule::Magnitude));
    assert_eq!(qwen3.facts.activations, Activations::I8);
    let scales = qwen3.graph.weights.iter().filter(|w| w.origin == Origin::TernaryScales);
    // 256, 512 and 768 columns are 2, 4 and 6 groups of 128.
    let groups: BTreeSet<_> = scales.map(|w| w.ty.dims[1].as_const()).collect();
    assert_eq!(groups, BTreeSet::from([Some(2), Some(4), Some(6)]));
}

#[test]
fn a_model_trained_with_i8_has_no_choice() {
    let error = with_activations("bitnet-packed", Activations::F32).expect_err("it was trained with i8");
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("trained with activations in i8"), "{error}");
    assert!(with_activations("bitnet-packed", Activations::I8).is_ok());
}

#[test]
fn a_shorter_context_shortens_the_table_only() {
    let options = ImportOptions { max_positions: Some(100), ..ImportOptions::default() };
    let short = import(&open("bitnet-packed"), &options).expect("valid");
    let table = short.graph.weights.iter().find(|w| matches!(w.origin, Origin::RopeTable(_)));
    assert_eq!(table.expect("there is a table").ty.dims, [Dim::Const(100), Dim::Const(64)]);
    assert_eq!(short.graph.nodes, imported("bitnet-packed").graph.nodes);
    assert_eq!(short.facts.max_positions, 100);
}

#[test]
fn the_demo_models_trits_are_counted() {
    let measured = fixture("tern-demo").join("measured.json");
    let measured = std::fs::read_to_string(measured).expect("the fixture is there");
    let measured: serde_json::Value = serde_json::from_str(&measured).expect("it is JSON");
    let want = |key: &str| measured["trits"][key].as_u64().expect("a count");
    let report = inspect(&open("tern-demo")).expect("valid");
    let counted = Histogram { minus: want("minus"), zero: want("zero"), plus: want("plus") };
    assert_eq!(report.trits, counted);
    assert_eq!(report.bits_per_weight, 2.0);
    assert_eq!(report.kinds.len(), 7);
    assert!(report.kinds.iter().all(|k| k.matrices == 6 && k.scale_min > 0.0));
    let text = report.to_string();
    assert!(text.contains("4718592 in all"), "{text}");
    assert!(text.contains("the stored scale multiplies"), "{text}");
    let json = serde_json::to_value(&report).expect("it serialises");
    assert_eq!(json["kinds"][0]["kind"], "down_proj");
}

#[test]
fn the_stored_scale_divides_where_the_config_says_so() {
    let scale = |imported: &Imported| {
        let first = imported.graph.weights.iter().find_map(|w| w.scale);
        first.expect("there are ternary weights").get()
    };
    let llama = Spec::small(Kind::LlamaBitLinear);
    let divides = import(&llama.checkpoint().expect("valid"), &ImportOptions::default());
    let mut config = llama.config();
    config["quantization_config"]["linear_class"] = "autobitlinear".into();
    let mut files = llama.files();
    files[0].1 = config.to_string().into_bytes();
    let multiplies = Checkpoint::from_bytes("multiplies", files).expect("valid");
    let multiplies = import(&multiplies, &ImportOptions::default()).expect("valid");
    assert_eq!(scale(&divides.expect("valid")), 1.0 / scale(&multiplies));
}

#[test]
fn odd_shapes_import() {
    for kind in Kind::ALL {
        let small = Spec::small(kind);
        for spec in [
            Spec { vocab: 2, layers: 1, ..small.clone() },
            Spec { hidden: 1, intermediate: 3, ..small.clone() },
            Spec { heads: 3, kv_heads: 3, head_dim: 80, layers: 3, ..small.clone() },
            Spec { tied: !small.tied, ..small.clone() },
            Spec { input_norms: true, ..small.clone() },
            small,
        ] {
            let checkpoint = spec.checkpoint().unwrap_or_else(|e| panic!("{spec:?}: {e}"));
            let report = inspect(&checkpoint).unwrap_or_else(|e| panic!("{spec:?}: {e}"));
            let per_layer =
                2 * spec.hidden * (spec.heads + spec.kv_heads) * spec.head_dim + 3 * spec.hidden * spec.intermediate;
            assert_eq!(report.trits.total(), (spec.layers * per_layer) as u64, "{spec:?}");
        }
    }
}

#[test]
fn input_norms_stand_before_every_quantisation() {
    let spec = Spec { input_norms: true, ..Spec::small(Kind::LlamaBitLinear) };
    let graph = import(&spec.checkpoint().expect("valid"), &ImportOptions::default());
    let graph = graph.expect("valid").graph;
    assert_eq!(op_counts(&graph)["rmsnorm"], (2 + 7) * spec.layers + 1);
    for node in graph.nodes.iter().filter(|n| n.op == Op::FakeQuant) {
        let Operand::Value(x) = node.operands[0] else { panic!("quantisation reads a value") };
        assert!(matches!(graph.node(x).op, Op::RmsNorm { .. }));
    }
}
