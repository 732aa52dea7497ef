//! One graph, its violations.

use super::{is_compiled_form, verify, verify_compiled, verify_model};
use crate::graph::parse::parse;

const MODEL: &str = r#"graph "m" {
  @0 "table" : bf16[7, 8] = dense
  @1 "q" : trit[8, 8] = hf_packed scale 0.5
  @2 "rope" : f32[16, 4] = rope theta 10000.0
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = kv_cache {layer = 0, heads = 2, head_dim = 4} : kv[2, 4]
  %3 = embed %0, @0 : f32[T, 8]
  block 0 {
    %4 = quantize %3 : q8[T, 8]
    %5 = ternary_linear %4, @1 : f32[T, 8]
    %6 = rope %5, %1, @2 {head_dim = 4} : f32[T, 8]
    %7 = kv_write %2, %6, %5, %1 : kv[2, 4]
    %8 = attention %6, %7, %1 {scale = 0.5} : f32[T, 8]
  }
  %9 = wanted_rows %8 : f32[W, 8]
  %10 = dense_matmul %9, @0 : f32[W, 7]
  return %10, %7
}
"#;

/// The violations after some edits of the model above.
fn after(edits: &[(&str, &str)]) -> Vec<String> {
    let mut text = MODEL.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let graph = parse(&text).expect("the edited text parses");
    match verify_model(&graph) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.errors().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_model_in_compiled_form_passes() {
    assert_eq!(after(&[]), [""; 0]);
    assert_eq!(verify_compiled(&parse(MODEL).expect("parses")), Ok(()));
    assert_eq!(verify(&crate::graph::Graph::default()), Ok(()));
}

#[test]
fn v1_operands_come_before_their_users() {
    assert_eq!(
        after(&[("embed %0, @0", "embed %3, @9")]),
        ["%3 (embed): V1: %3 does not come before it", "%3 (embed): V1: @9 is not declared: the table has 3 weights",]
    );
    assert_eq!(after(&[("embed %0", "embed %4000000000")]), ["%3 (embed): V1: %4000000000 does not come before it"]);
}

#[test]
fn v2_types_are_those_of_the_table() {
    assert_eq!(
        after(&[("%3 : q8[T, 8]", "%3 : q8[T, 9]")]),
        [
            "%4 (quantize, block 0): V2: the type is q8[T, 8], found q8[T, 9]",
            "%5 (ternary_linear, block 0): V2: operand 1 (w) of ternary_linear must be the weight trit[N, 9], found the \
         weight trit[8, 8]",
        ]
    );
}

#[test]
fn v3_constraints_have_the_ids_of_the_table() {
    assert_eq!(
        after(&[("scale = 0.5}", "scale = -0.5}")]),
        ["%8 (attention, block 0): attention C1: scale is finite and greater than 0; found scale = -0.5"]
    );
    assert_eq!(
        after(&[("embed %0", "embed %1")]),
        ["%3 (embed): embed C1: ids is the value of input_ids; found that of positions"]
    );
    let twice = "kv[2, 4]\n    %8 = kv_write %2, %5, %5, %1 : kv[2, 4]";
    assert_eq!(
        after(&[
            ("kv[2, 4]\n    %8 = attention", &format!("{twice}\n %9 = attention")),
            ("%9 = wanted", "%10 = wanted"),
            ("%10 = dense", "%11 = dense"),
            ("wanted_rows %8", "wanted_rows %9"),
            ("dense_matmul %9", "dense_matmul %10"),
            ("return %10", "return %11")
        ]),
        [
            "%7 (kv_write, block 0): kv_write C2: kv has no other reader: the write happens in place; found 2 readers of %2",
            "%8 (kv_write, block 0): kv_write C2: kv has no other reader: the write happens in place; found 2 readers of %2",
        ]
    );
}

#[test]
fn v4_to_v7_weights_say_what_they_are() {
    let weight = |from: &str, to: &str| after(&[(from, to)])[0].clone();
    assert!(weight("bf16[7, 8]", "q8[7, 8]").starts_with("@0 (\"table\"): V4: a weight cannot be q8"));
    assert!(weight("bf16[7, 8]", "bf16[T, 8]").contains("V4: bf16[T, 8] must have one or two dimensions"));
    assert!(weight("bf16[7, 8]", "bf16[0, 8]").contains("V4: "));
    assert!(weight("bf16[7, 8]", "bf16[]").contains("V4: "));
    assert!(weight("dense", "dense scale 1.0").contains("V5: a dense weight has no scale, found 1.0"));
    assert!(weight(" scale 0.5", "").contains("V5: a trit weight needs a scale"));
    for wrong in ["-0.5", "0x7f800000", "0x7fc00000"] {
        assert!(weight("scale 0.5", &format!("scale {wrong}")).contains("V5: the scale must be finite"), "{wrong}");
    }
    assert_eq!(after(&[("scale 0.5", "scale 0.0")]), [""; 0]);
    assert!(weight("hf_packed", "dense").contains("V6: a tensor stored dense does not give trits"));
    assert!(
        weight("dense", "online_absmean")
            .contains("V6: online_absmean gives trit[N, K] or trit[E, N, K], found bf16[7, 8]")
    );
    assert!(weight("f32[16, 4]", "f16[16, 4]").contains("V7: a rotary table is f32"));
    assert!(weight("theta 10000.0", "theta 0.0").contains("V7: the numbers of `theta 0.0` must be"));
    let llama3 = "theta 10000.0 llama3 factor 8.0 low 4.0 high 4.0 original 512";
    assert!(weight("theta 10000.0", llama3).contains("V7: the numbers of"));
}

#[test]
fn v8_tensors_come_before_written_caches() {
    let outputs = |to: &str| after(&[("return %10, %7", to)]);
    assert_eq!(outputs("return %10, %7, %10")[0], "result 2: V8: the tensor %10 comes after a cache");
    assert_eq!(
        outputs("return %10, %7, %7")[0],
        "result 2: V8: the cache of layer 0 comes after that of a later layer or twice"
    );
    assert_eq!(outputs("return %10, %99")[0], "result 1: V8: %99 is not a node of this graph");
    assert!(
        outputs("return %10, %2")
            .contains(&"result 1: V8: the cache %2 is not written by a kv_write of a kv_cache".to_owned())
    );
}

#[test]
fn v9_a_model_returns_logits_and_all_caches() {
    assert_eq!(
        after(&[("return %10, %7", "return %8")]),
        [
            "results: V9: the first result, and no other tensor, must be the logits f32[W, N]",
            "results: V9: the cache of layer 0 is not written and returned",
        ]
    );
    let piece = parse(&MODEL.replace("return %10, %7", "return %8")).expect("parses");
    assert_eq!(verify(&piece), Ok(()));
}

#[test]
fn v10_source_ops_have_no_kernel() {
    let source = MODEL.replace("@1 : f32[T, 8]", "@1 : f32[T, 8]\n %6 = fake_quant %5 : f32[T, 8]");
    assert!(parse(&source).is_err(), "ids are taken twice");
    let source = MODEL.replace("return", "%11 = fake_quant %9 : f32[W, 8]\n  return");
    let graph = parse(&source).expect("parses");
    assert_eq!(verify_model(&graph), Ok(()));
    assert!(!is_compiled_form(&graph));
    let errors = verify_compiled(&graph).expect_err("source form").to_string();
    assert_eq!(errors, "%11 (fake_quant): V10: the op has no kernel: run the rules of class `real` first");
}

#[test]
fn all_violations_are_reported() {
    let found = after(&[("scale 0.5", "scale -1.0"), ("scale = 0.5", "scale = 0.0"), ("return %10", "return %8")]);
    assert_eq!(found.len(), 3, "{found:#?}");
}
