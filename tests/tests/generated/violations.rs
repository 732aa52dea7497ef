// Written by the generator of `ir-specs` from `ops.toml`. Do not edit.
//! A graph against each constraint, which the verifier must refuse by name, from `ir-specs/ops.toml`.

use tern_tests::spec_support::check_violation;

#[test]
fn kv_cache_c1() {
    check_violation(
        "kv_cache C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %4 = kv_write %3, %2, %2, %1 : kv[1, 2]
  %5 = attention %2, %4, %1 {scale = 1.0} : f32[T, 2]
  %6 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %7 = kv_write %6, %5, %5, %1 : kv[1, 2]
  %8 = attention %5, %7, %1 {scale = 1.0} : f32[T, 2]
  %9 = wanted_rows %8 : f32[W, 2]
  return %9, %4, %7
}
"#,
    );
}

#[test]
fn kv_cache_c2() {
    check_violation(
        "kv_cache C2",
        r#"graph "violation" {
  @0 "table" : f32[3, 8194] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 8194]
  %3 = kv_cache {layer = 0, heads = 4097, head_dim = 2} : kv[4097, 2]
  %4 = kv_write %3, %2, %2, %1 : kv[4097, 2]
  %5 = attention %2, %4, %1 {scale = 1.0} : f32[T, 8194]
  %6 = wanted_rows %5 : f32[W, 8194]
  return %6, %4
}
"#,
    );
}

#[test]
fn kv_cache_c3() {
    check_violation(
        "kv_cache C3",
        r#"graph "violation" {
  @0 "table" : f32[3, 4098] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 4098]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 4098} : kv[1, 4098]
  %4 = kv_write %3, %2, %2, %1 : kv[1, 4098]
  %5 = attention %2, %4, %1 {scale = 1.0} : f32[T, 4098]
  %6 = wanted_rows %5 : f32[W, 4098]
  return %6, %4
}
"#,
    );
}

#[test]
fn embed_c1() {
    check_violation(
        "embed C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = positions : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = wanted_rows %1 : f32[W, 2]
  return %2
}
"#,
    );
}

#[test]
fn rmsnorm_c1() {
    check_violation(
        "rmsnorm C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 4] = dense
  @1 "g" : f32[4] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rmsnorm %1, @1 {eps = 0.0} : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
    );
}

#[test]
fn fake_quant_c1() {
    check_violation(
        "fake_quant C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = fake_quant %1 : f32[T, 131073]
  %3 = wanted_rows %2 : f32[W, 131073]
  return %3
}
"#,
    );
}

#[test]
fn rope_c1() {
    check_violation(
        "rope C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 3] = dense
  @1 "rope" : f32[8, 3] = rope theta 10000.0
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 3]
  %3 = rope %2, %1, @1 {head_dim = 3} : f32[T, 3]
  %4 = wanted_rows %3 : f32[W, 3]
  return %4
}
"#,
    );
}

#[test]
fn rope_c2() {
    check_violation(
        "rope C2",
        r#"graph "violation" {
  @0 "table" : f32[3, 4] = dense
  @1 "rope" : f32[8, 4] = rope theta 10000.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rope %1, %0, @1 {head_dim = 4} : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
    );
}

#[test]
fn kv_write_c1() {
    check_violation(
        "kv_write C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %4 = kv_write %3, %2, %2, %1 : kv[1, 2]
  %5 = kv_write %4, %2, %2, %1 : kv[1, 2]
  %6 = attention %2, %5, %1 {scale = 1.0} : f32[T, 2]
  %7 = wanted_rows %6 : f32[W, 2]
  return %7, %5
}
"#,
    );
}

#[test]
fn kv_write_c2() {
    check_violation(
        "kv_write C2",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %4 = kv_write %3, %2, %2, %1 : kv[1, 2]
  %5 = attention %2, %4, %1 {scale = 1.0} : f32[T, 2]
  %6 = kv_write %3, %5, %5, %1 : kv[1, 2]
  %7 = wanted_rows %5 : f32[W, 2]
  return %7, %4, %6
}
"#,
    );
}

#[test]
fn kv_write_c3() {
    check_violation(
        "kv_write C3",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %4 = kv_write %3, %2, %2, %0 : kv[1, 2]
  %5 = attention %2, %4, %1 {scale = 1.0} : f32[T, 2]
  %6 = wanted_rows %5 : f32[W, 2]
  return %6, %4
}
"#,
    );
}

#[test]
fn attention_c1() {
    check_violation(
        "attention C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %4 = kv_write %3, %2, %2, %1 : kv[1, 2]
  %5 = attention %2, %4, %1 {scale = -1.0} : f32[T, 2]
  %6 = wanted_rows %5 : f32[W, 2]
  return %6, %4
}
"#,
    );
}

#[test]
fn attention_c2() {
    check_violation(
        "attention C2",
        r#"graph "violation" {
  @0 "table" : f32[3, 6] = dense
  @1 "k" : f32[4, 6] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 6]
  %3 = dense_matmul %2, @1 : f32[T, 4]
  %4 = kv_cache {layer = 0, heads = 2, head_dim = 2} : kv[2, 2]
  %5 = kv_write %4, %3, %3, %1 : kv[2, 2]
  %6 = attention %2, %5, %1 {scale = 1.0} : f32[T, 6]
  %7 = wanted_rows %6 : f32[W, 6]
  return %7, %5
}
"#,
    );
}

#[test]
fn attention_c3() {
    check_violation(
        "attention C3",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %4 = attention %2, %3, %1 {scale = 1.0} : f32[T, 2]
  %5 = kv_write %3, %4, %4, %1 : kv[1, 2]
  %6 = wanted_rows %4 : f32[W, 2]
  return %6, %5
}
"#,
    );
}

#[test]
fn attention_c4() {
    check_violation(
        "attention C4",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = positions : i32[T]
  %2 = embed %0, @0 : f32[T, 2]
  %3 = kv_cache {layer = 0, heads = 1, head_dim = 2} : kv[1, 2]
  %4 = kv_write %3, %2, %2, %1 : kv[1, 2]
  %5 = attention %2, %4, %0 {scale = 1.0} : f32[T, 2]
  %6 = wanted_rows %5 : f32[W, 2]
  return %6, %4
}
"#,
    );
}

#[test]
fn quantize_c1() {
    check_violation(
        "quantize C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[2, 131073] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize %1 : q8[T, 131073]
  %3 = ternary_linear %2, @1 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn ternary_matmul_c1() {
    check_violation(
        "ternary_matmul C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[2, 131073] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize %1 : q8[T, 131073]
  %3 = ternary_matmul %2, @1 : i32[T, 2]
  %4 = rescale %3, %2, @1 : f32[T, 2]
  %5 = wanted_rows %4 : f32[W, 2]
  return %5
}
"#,
    );
}

#[test]
fn rmsnorm_quantize_c1() {
    check_violation(
        "rmsnorm_quantize C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 4] = dense
  @1 "g" : f32[4] = dense
  @2 "w" : trit[2, 4] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rmsnorm_quantize %1, @1 {eps = -1e-5} : q8[T, 4]
  %3 = ternary_linear %2, @2 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn rmsnorm_quantize_c2() {
    check_violation(
        "rmsnorm_quantize C2",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "g" : f32[131073] = dense
  @2 "w" : trit[2, 131073] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = rmsnorm_quantize %1, @1 {eps = 1e-5} : q8[T, 131073]
  %3 = ternary_linear %2, @2 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn ternary_linear_c1() {
    check_violation(
        "ternary_linear C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[2, 131073] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize %1 : q8[T, 131073]
  %3 = ternary_linear %2, @1 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn ternary_linear_add_c1() {
    check_violation(
        "ternary_linear_add C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[131073, 131073] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize %1 : q8[T, 131073]
  %3 = ternary_linear_add %2, @1, %1 : f32[T, 131073]
  %4 = wanted_rows %3 : f32[W, 131073]
  return %4
}
"#,
    );
}

#[test]
fn ternary_linear_cat_c1() {
    check_violation(
        "ternary_linear_cat C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w1" : trit[2, 131073] = hf_packed scale 1.0
  @2 "w2" : trit[2, 131073] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize %1 : q8[T, 131073]
  %3 = ternary_linear_cat %2, @1, @2 : (f32[T, 2], f32[T, 2])
  %4 = get %3 {index = 0} : f32[T, 2]
  %5 = get %3 {index = 1} : f32[T, 2]
  %6 = add %4, %5 : f32[T, 2]
  %7 = wanted_rows %6 : f32[W, 2]
  return %7
}
"#,
    );
}

#[test]
fn get_c1() {
    check_violation(
        "get C1",
        r#"graph "violation" {
  @0 "table" : f32[1, 2] = dense
  @1 "w1" : trit[2, 2] = hf_packed scale 0.5
  @2 "w2" : trit[2, 2] = hf_packed scale 2.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = quantize %1 : q8[T, 2]
  %3 = ternary_linear_cat %2, @1, @2 : (f32[T, 2], f32[T, 2])
  %4 = get %3 {index = 0} : f32[T, 2]
  %5 = get %3 {index = 2} : f32[T, 2]
  %6 = add %4, %5 : f32[T, 2]
  %7 = wanted_rows %6 : f32[W, 2]
  return %7
}
"#,
    );
}

#[test]
fn ternary_glu_c1() {
    check_violation(
        "ternary_glu C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "gate" : trit[2, 131073] = hf_packed scale 1.0
  @2 "up" : trit[2, 131073] = hf_packed scale 1.0
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize %1 : q8[T, 131073]
  %3 = ternary_glu %2, @1, @2 {act = silu} : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn rmsnorm_heads_c1() {
    check_violation(
        "rmsnorm_heads C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 4] = dense
  @1 "g" : f32[2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rmsnorm_heads %1, @1 {eps = 0.0} : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
    );
}

#[test]
fn hadamard_c1() {
    check_violation(
        "hadamard C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 6] = dense
  @1 "s" : f32[6] = hadamard_signs
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 6]
  %2 = hadamard %1, @1 {block = 6, behind = 0} : f32[T, 6]
  %3 = wanted_rows %2 : f32[W, 6]
  return %3
}
"#,
    );
}

#[test]
fn hadamard_c2() {
    check_violation(
        "hadamard C2",
        r#"graph "violation" {
  @0 "table" : f32[3, 4] = dense
  @1 "s" : f32[4] = hadamard_signs
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = hadamard %1, @1 {block = 4, behind = 2} : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
    );
}

#[test]
fn quantize_groups_c1() {
    check_violation(
        "quantize_groups C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[2, 131073] = dense_ternary scale 1.0
  @2 "s" : f32[2, 1] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize_groups %1 {group = 131073} : q8[T, 1, 131073]
  %3 = ternary_group_linear %2, @1, @2 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn rmsnorm_quantize_groups_c1() {
    check_violation(
        "rmsnorm_quantize_groups C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 4] = dense
  @1 "g" : f32[4] = dense
  @2 "w" : trit[2, 4] = dense_ternary scale 1.0
  @3 "s" : f32[2, 2] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = rmsnorm_quantize_groups %1, @1 {eps = -1e-5, group = 2} : q8[T, 2, 2]
  %3 = ternary_group_linear %2, @2, @3 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn rmsnorm_quantize_groups_c2() {
    check_violation(
        "rmsnorm_quantize_groups C2",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "g" : f32[131073] = dense
  @2 "w" : trit[2, 131073] = dense_ternary scale 1.0
  @3 "s" : f32[2, 1] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = rmsnorm_quantize_groups %1, @1 {eps = 1e-5, group = 131073} : q8[T, 1, 131073]
  %3 = ternary_group_linear %2, @2, @3 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn ternary_group_linear_c1() {
    check_violation(
        "ternary_group_linear C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[2, 131073] = dense_ternary scale 1.0
  @2 "s" : f32[2, 1] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize_groups %1 {group = 131073} : q8[T, 1, 131073]
  %3 = ternary_group_linear %2, @1, @2 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn ternary_group_linear_add_c1() {
    check_violation(
        "ternary_group_linear_add C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[131073, 131073] = dense_ternary scale 1.0
  @2 "s" : f32[131073, 1] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = quantize_groups %1 {group = 131073} : q8[T, 1, 131073]
  %3 = ternary_group_linear_add %2, @1, @2, %1 : f32[T, 131073]
  %4 = wanted_rows %3 : f32[W, 131073]
  return %4
}
"#,
    );
}

#[test]
fn quant4_group_linear_c1() {
    check_violation(
        "quant4_group_linear C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 8193] = dense
  @1 "w" : u4[2, 8193] = quant4
  @2 "s" : f32[2, 1] = quant4_scales
  @3 "m" : f32[2, 1] = quant4_offsets
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 8193]
  %2 = quantize_groups %1 {group = 8193} : q8[T, 1, 8193]
  %3 = quant4_group_linear %2, @1, @2, @3 : f32[T, 2]
  %4 = wanted_rows %3 : f32[W, 2]
  return %4
}
"#,
    );
}

#[test]
fn scale_c1() {
    check_violation(
        "scale C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 4] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 4]
  %2 = scale %1 {by = 0.0} : f32[T, 4]
  %3 = wanted_rows %2 : f32[W, 4]
  return %3
}
"#,
    );
}

#[test]
fn route_c1() {
    check_violation(
        "route C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = route %1 {top_k = 3, normalise = 1} : route[T, 2, 3]
  %3 = dispatch %1, %2 : f32[T*3, 2]
  %4 = combine %3, %2 : f32[T, 2]
  %5 = wanted_rows %4 : f32[W, 2]
  return %5
}
"#,
    );
}

#[test]
fn route_c2() {
    check_violation(
        "route C2",
        r#"graph "violation" {
  @0 "table" : f32[3, 66] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 66]
  %2 = route %1 {top_k = 65, normalise = 1} : route[T, 66, 65]
  %3 = dispatch %1, %2 : f32[T*65, 66]
  %4 = combine %3, %2 : f32[T, 66]
  %5 = wanted_rows %4 : f32[W, 66]
  return %5
}
"#,
    );
}

#[test]
fn route_c3() {
    check_violation(
        "route C3",
        r#"graph "violation" {
  @0 "table" : f32[3, 2] = dense
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 2]
  %2 = route %1 {top_k = 1, normalise = 2} : route[T, 2, 1]
  %3 = dispatch %1, %2 : f32[T*1, 2]
  %4 = combine %3, %2 : f32[T, 2]
  %5 = wanted_rows %4 : f32[W, 2]
  return %5
}
"#,
    );
}

#[test]
fn expert_linear_c1() {
    check_violation(
        "expert_linear C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[131073, 1, 131073] = dense_ternary scale 1.0
  @2 "s" : f32[131073] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 131073, 1]
  %3 = dispatch %1, %2 : f32[T*1, 131073]
  %4 = quantize %3 : q8[T*1, 131073]
  %5 = expert_linear %4, %2, @1, @2 : f32[T*1, 1]
  %6 = combine %5, %2 : f32[T, 1]
  %7 = wanted_rows %6 : f32[W, 1]
  return %7
}
"#,
    );
}

#[test]
fn expert_glu_c1() {
    check_violation(
        "expert_glu C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[131073, 1, 131073] = dense_ternary scale 1.0
  @2 "s" : f32[131073] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 131073, 1]
  %3 = dispatch %1, %2 : f32[T*1, 131073]
  %4 = quantize %3 : q8[T*1, 131073]
  %5 = expert_glu %4, %2, @1, @2, @1, @2 {act = relu2} : f32[T*1, 1]
  %6 = combine %5, %2 : f32[T, 1]
  %7 = wanted_rows %6 : f32[W, 1]
  return %7
}
"#,
    );
}

#[test]
fn expert_group_linear_c1() {
    check_violation(
        "expert_group_linear C1",
        r#"graph "violation" {
  @0 "table" : f32[3, 131073] = dense
  @1 "w" : trit[131073, 1, 131073] = dense_ternary scale 1.0
  @2 "s" : f32[131073, 1, 1] = ternary_scales
  %0 = input_ids : i32[T]
  %1 = embed %0, @0 : f32[T, 131073]
  %2 = route %1 {top_k = 1, normalise = 1} : route[T, 131073, 1]
  %3 = dispatch %1, %2 : f32[T*1, 131073]
  %4 = quantize_groups %3 {group = 131073} : q8[T*1, 1, 131073]
  %5 = expert_group_linear %4, %2, @1, @2 : f32[T*1, 1]
  %6 = combine %5, %2 : f32[T, 1]
  %7 = wanted_rows %6 : f32[W, 1]
  return %7
}
"#,
    );
}
