//! One text, one expectation.

use super::parse;
use crate::graph::{Attr, DType, Dim, F32, Op, Origin, RopeScaling, Type};

/// The errors of a graph around `body`, whose lines are 2, 3, ...
fn errors(body: &str) -> Vec<String> {
    let text = format!("graph \"g\" {{\n{body}\n}}\n");
    match parse(&text) {
        Ok(graph) => panic!("parsed:\n{graph}"),
        Err(errors) => errors.errors().iter().map(ToString::to_string).collect(),
    }
}

const MODEL: &str = r#"graph "a \"quoted\\ name\u0007" {
  @0 "table" : bf16[512, 320] = dense
  @1 "q" : trit[320, 320] = hf_packed scale 0.0213
  @2 "r" : f32[2048, 64] = rope theta 500000.0 llama3 factor 8.0 low 1.0 high 4.0 original 512
  @3 "y" : f32[64, 64] = rope theta 10000.0 yarn factor 4.0 beta_fast 32.0 beta_slow 1.0 attention_factor 1.1 original 2048 truncate false
  @4 "l" : f32[64, 64] = rope theta 10000.0 linear factor 2.0
  @5 "o" : trit[320, 320] = online_absmean scale 0x7fc00001
  %0 = input_ids : i32[T]
  %1 = kv_cache {layer = 0, heads = 5, head_dim = 64} : kv[5, 64]
  block 0 {
    %2 = rmsnorm %0, @0 {eps = 1e-5} : f32[T, 320]
    %3 = ternary_linear_cat %2, @1, @5 : (f32[W, 320], f32[W, 320])
  }
  %4 = glu %2, %2 {act = silu} : f32[T, 320]
  block 0 {
    %5 = get %3 {index = 1} : ()
  }
  block 1 {
    %6 = add %2, %4 : f32[]
  }
  return %6, %1
}
"#;

#[test]
fn a_printed_graph_is_the_text_that_was_parsed() {
    let graph = parse(MODEL).expect("the text is right");
    assert_eq!(graph.to_string(), MODEL);
    assert_eq!(graph.name, "a \"quoted\\ name\u{7}");
    assert_eq!(graph.weights[5].scale.map(F32::bits), Some(0x7fc0_0001));
    assert!(matches!(&graph.weights[3].origin, Origin::RopeTable(spec)
        if matches!(spec.scaling, RopeScaling::Yarn { truncate: false, original_max_position: 2048, .. })));
    assert_eq!(graph.nodes[2].op, Op::RmsNorm { eps: F32::new(1e-5) });
    assert_eq!(graph.nodes[4].op.attrs()[0].1, Attr::Act(crate::graph::Act::Silu));
    assert_eq!(
        graph.nodes.iter().map(|n| n.block).collect::<Vec<_>>(),
        [None, None, Some(0), Some(0), None, Some(0), Some(1)]
    );
    let Type::Tuple(members) = &graph.nodes[3].ty else { panic!("not a tuple") };
    assert_eq!((members[1].dtype, &members[1].dims[..]), (DType::F32, &[Dim::Wanted, Dim::Const(320)][..]));
}

#[test]
fn white_space_and_comments_do_not_matter() {
    let graph =
        parse("// c\ngraph\"g\"{%0=input_ids:i32[T]// }\r\n%1 =\n  add %0 ,%0:f32[ T,1 ]return %1}//").expect("right");
    assert_eq!(graph.nodes.len(), 2);
    assert!(parse("graph \"empty\" { return }").expect("right").nodes.is_empty());
}

#[test]
fn every_error_is_reported_with_its_place() {
    let found =
        errors("  %0 = input_ids : i33[T]\n  %1 = nonsense : i32[T]\n  €\n  %2 = add %0 %1 : f32[T]\n  return %2");
    assert_eq!(
        found,
        [
            "2:20: expected an element type, found `i33`",
            "3:8: there is no op `nonsense`",
            "4:3: '€' has no meaning here",
            "5:15: expected `:`, found %1",
        ]
    );
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        errors("/"),
        ["2:1: '/' has no meaning here", "3:1: the graph returns nothing: expected `return` before `}`"]
    );
    assert_eq!(errors("  @0 \"ää\" f32[1] = dense\n  return"), ["2:11: expected `:`, found `f32`"]);
}

#[test]
fn ids_count_up() {
    let body = "  %1 = input_ids : i32[T]\n  %2 = input_ids : i32[T]\n  @3 \"w\" : f32[1] = dense\n  return";
    assert_eq!(
        errors(body),
        ["2:3: expected %0, found %1: ids count up from 0", "4:3: expected @0, found @3: ids count up from 0",]
    );
}

#[test]
fn attributes_are_checked_against_the_op() {
    let node = |text: &str| errors(&format!("  %0 = {text} : i32[T]\n  return"));
    assert_eq!(node("rmsnorm {epsilon = 1.0}"), ["2:8: the attributes of `rmsnorm` are: eps"]);
    assert_eq!(node("rmsnorm"), ["2:8: the attributes of `rmsnorm` are: eps"]);
    assert_eq!(
        node("rmsnorm {eps = 1}"),
        ["2:8: attribute eps of `rmsnorm` must be a real number such as 1.0, found 1"]
    );
    assert_eq!(
        node("kv_cache {heads = 1, layer = 2, head_dim = 3}"),
        ["2:8: the attributes of `kv_cache` are, in this order: layer, heads, head_dim"]
    );
    assert_eq!(node("input_ids {x = 1}"), ["2:8: `input_ids` has no attributes"]);
    assert_eq!(
        node("glu {act = celu}"),
        ["2:19: expected a number, `relu2`, `silu`, `gelu` or a strategy such as dot2, found `celu`"]
    );
    assert_eq!(
        node("ternary_linear {decode = 3}"),
        ["2:8: attribute decode of `ternary_linear` must be a strategy such as dot2, found 3"]
    );
    assert_eq!(
        node("ternary_linear {prefill = dot2, decode = dot2}"),
        ["2:8: the attributes of `ternary_linear` are, in this order: decode, prefill"]
    );
    assert_eq!(node("rope {head_dim = -1}"), ["2:8: attribute head_dim of `rope` must be a whole number, found -1.0"]);
}

#[test]
fn numbers_and_names_are_bounded() {
    let scale = |text: &str| errors(&format!("  @0 \"w\" : trit[1, 1] = hf_packed scale {text}\n  return"));
    assert!(scale("1e999")[0].ends_with("1e999 is beyond the range of f32"));
    assert!(scale("1.2.3")[0].ends_with("`1.2.3` is not a number"));
    assert!(scale("0x12")[0].ends_with("`0x12` must have 8 hexadecimal digits"));
    assert!(scale("3")[0].ends_with("expected a real number such as 1.0, found 3"));
    assert!(errors("  %4294967296 = x")[0].contains("`%4294967296` is not an id"));
    assert!(errors("  @0 \"w\" : f32[4294967296]")[0].ends_with("4294967296 is larger than 4294967295"));
    assert!(errors("  @0 \"w")[0].ends_with("the name has no closing quote on its line"));
    assert!(errors("  @0 \"\\ud800\" : f32[1] = dense")[0].ends_with("\\ud800 is not a character"));
    assert!(errors("  @0 \"\\q\" : f32[1] = dense")[0].contains("unknown escape \\q"));
}

#[test]
fn the_frame_is_checked() {
    let error = |text: &str| parse(text).expect_err("wrong").to_string();
    assert_eq!(error(""), "1:1: expected `graph`, found the end of the text");
    assert_eq!(error("graph \"g\" {"), "1:12: expected `}`, found the end of the text");
    assert_eq!(error("graph \"g\" { }"), "1:13: the graph returns nothing: expected `return` before `}`");
    assert_eq!(error("graph \"g\" { return }\n}"), "2:1: `}` after the end of the graph");
    assert_eq!(errors("  return\n  %0 = input_ids : i32[T]"), ["3:6: expected `}` after `return`, found `=`"]);
    assert_eq!(errors("  block 0 {\n  return\n  }\n  return"), ["3:3: expected a node or `}`, found `return`"]);
}

#[test]
fn a_text_of_errors_ends() {
    let found = errors(&"  ?\n".repeat(100_000));
    assert_eq!(found.len(), super::MAX_ERRORS);
}
