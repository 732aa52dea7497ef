// Written by the generator of `ir-specs` from `rules.toml`. Do not edit.
//! Both sides of each rule, evaluated on drawn types and tensors, from `ir-specs/rules.toml`.

use tern_tests::spec_support::rules::check_rule;

#[test]
fn real_ternary_specialise() {
    check_rule("real/ternary_specialise");
}

#[test]
fn real_dense_head() {
    check_rule("real/dense_head");
}

#[test]
fn algebra_add_comm() {
    check_rule("algebra/add_comm");
}

#[test]
fn algebra_mul_comm() {
    check_rule("algebra/mul_comm");
}

#[test]
fn fuse_norm_quantize() {
    check_rule("fuse/norm_quantize");
}

#[test]
fn fuse_rescale() {
    check_rule("fuse/rescale");
}

#[test]
fn fuse_residual() {
    check_rule("fuse/residual");
}

#[test]
fn fuse_glu_relu2() {
    check_rule("fuse/glu_relu2");
}

#[test]
fn fuse_glu_silu() {
    check_rule("fuse/glu_silu");
}

#[test]
fn fuse_glu_gelu() {
    check_rule("fuse/glu_gelu");
}

#[test]
fn fuse_ternary_glu() {
    check_rule("fuse/ternary_glu");
}

#[test]
fn fuse_norm_quantize_groups() {
    check_rule("fuse/norm_quantize_groups");
}

#[test]
fn fuse_group_residual() {
    check_rule("fuse/group_residual");
}

#[test]
fn concat_pair() {
    check_rule("concat/pair");
}

#[test]
fn concat_triple() {
    check_rule("concat/triple");
}

#[test]
fn experts_quantize_once() {
    check_rule("experts/quantize_once");
}

#[test]
fn experts_quantize_groups_once() {
    check_rule("experts/quantize_groups_once");
}

#[test]
fn experts_glu() {
    check_rule("experts/glu");
}

#[test]
fn experts_residual() {
    check_rule("experts/residual");
}

#[test]
fn decode_dot2() {
    check_rule("decode/dot2");
}

#[test]
fn decode_dot5() {
    check_rule("decode/dot5");
}

#[test]
fn decode_dot1() {
    check_rule("decode/dot1");
}

#[test]
fn decode_lut() {
    check_rule("decode/lut");
}

#[test]
fn decode_colskip() {
    check_rule("decode/colskip");
}

#[test]
fn decode_addsub() {
    check_rule("decode/addsub");
}

#[test]
fn decode_dup() {
    check_rule("decode/dup");
}

#[test]
fn prefill_dot2() {
    check_rule("prefill/dot2");
}

#[test]
fn prefill_dot5() {
    check_rule("prefill/dot5");
}

#[test]
fn prefill_dot1() {
    check_rule("prefill/dot1");
}

#[test]
fn prefill_lut2() {
    check_rule("prefill/lut2");
}

#[test]
fn prefill_lut5() {
    check_rule("prefill/lut5");
}

#[test]
fn prefill_lut1() {
    check_rule("prefill/lut1");
}

#[test]
fn prefill_lut() {
    check_rule("prefill/lut");
}

#[test]
fn prefill_colskip() {
    check_rule("prefill/colskip");
}

#[test]
fn prefill_addsub() {
    check_rule("prefill/addsub");
}

#[test]
fn prefill_dup() {
    check_rule("prefill/dup");
}
