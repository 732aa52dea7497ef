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
fn fuse_ternary_glu() {
    check_rule("fuse/ternary_glu");
}

#[test]
fn concat_pair() {
    check_rule("concat/pair");
}

#[test]
fn concat_triple() {
    check_rule("concat/triple");
}
