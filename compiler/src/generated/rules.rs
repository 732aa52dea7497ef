// Written by the generator of `ir-specs` from `rules.toml`. Do not edit.
//! Rewrite rules, from `ir-specs/rules.toml`.

use crate::spec::{Class, Guard, RuleSpec};

/// Every rule, in table order.
pub static RULES: &[RuleSpec] = &[
    RuleSpec {
        name: "real/ternary_specialise",
        why: "A product with trits needs no multiplication: the activations go in as i8, the sum is exact in i32 and the two scales are applied once per element.",
        lhs: &["(matmul (fake_quant ?x) (dequant ?w))"],
        rhs: &["(rescale (ternary_matmul (quantize ?x) ?w) (quantize ?x) ?w)"],
        guards: &[Guard::IsTrit("?w")],
        class: Class::Real,
    },
    RuleSpec {
        name: "real/dense_head",
        why: "A dense weight is widened in registers while it is read: no f32 copy of it is ever in memory. The arithmetic is the same.",
        lhs: &["(matmul ?x (widen ?w))"],
        rhs: &["(dense_matmul ?x ?w)"],
        guards: &[],
        class: Class::Real,
    },
    RuleSpec {
        name: "algebra/add_comm",
        why: "The residual stands on either side of an addition; fusion looks on one side only. IEEE addition commutes.",
        lhs: &["(add ?a ?b)"],
        rhs: &["(add ?b ?a)"],
        guards: &[],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "algebra/mul_comm",
        why: "The gate stands on either side of a product; fusion looks on one side only. IEEE multiplication commutes.",
        lhs: &["(mul ?a ?b)"],
        rhs: &["(mul ?b ?a)"],
        guards: &[],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "fuse/norm_quantize",
        why: "The normalised row stays in cache and is never stored as f32: one phase less, four bytes less per element both ways.",
        lhs: &["(quantize (rmsnorm ?x ?g ?eps))"],
        rhs: &["(rmsnorm_quantize ?x ?g ?eps)"],
        guards: &[],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "fuse/rescale",
        why: "The i32 sum is scaled in the register in which it was made.",
        lhs: &["(rescale (ternary_matmul ?x ?w) ?x ?w)"],
        rhs: &["(ternary_linear ?x ?w)"],
        guards: &[Guard::IsTrit("?w")],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "fuse/residual",
        why: "The residual is added in the register that holds the product: one phase and one pass over the row less.",
        lhs: &["(add ?r (ternary_linear ?x ?w))"],
        rhs: &["(ternary_linear_add ?x ?w ?r)"],
        guards: &[Guard::IsTrit("?w")],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "fuse/glu_relu2",
        why: "Gate and up are read once and the product written once.",
        lhs: &["(mul (relu2 ?a) ?b)"],
        rhs: &["(glu ?a ?b relu2)"],
        guards: &[],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "fuse/glu_silu",
        why: "Gate and up are read once and the product written once.",
        lhs: &["(mul (silu ?a) ?b)"],
        rhs: &["(glu ?a ?b silu)"],
        guards: &[],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "fuse/ternary_glu",
        why: "The same rows of gate and up in one kernel: both sums are in registers when they meet, and two rows of f32 are never stored.",
        lhs: &["(glu (ternary_linear ?x ?g) (ternary_linear ?x ?u) ?act)"],
        rhs: &["(ternary_glu ?x ?g ?u ?act)"],
        guards: &[Guard::SameShape("?g", "?u")],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "concat/pair",
        why: "Two products of one x run in one phase: one barrier less, and threads split the rows of both evenly.",
        lhs: &["?a = (ternary_linear ?x ?w1)", "?b = (ternary_linear ?x ?w2)"],
        rhs: &["?a = (get (ternary_linear_cat ?x ?w1 ?w2) 0)", "?b = (get (ternary_linear_cat ?x ?w1 ?w2) 1)"],
        guards: &[Guard::Ascending(&["?w1", "?w2"])],
        class: Class::Bitwise,
    },
    RuleSpec {
        name: "concat/triple",
        why: "Q, K and V run in one phase: two barriers less, and threads split the rows of all three evenly.",
        lhs: &["?a = (ternary_linear ?x ?w1)", "?b = (ternary_linear ?x ?w2)", "?c = (ternary_linear ?x ?w3)"],
        rhs: &[
            "?a = (get (ternary_linear_cat ?x ?w1 ?w2 ?w3) 0)",
            "?b = (get (ternary_linear_cat ?x ?w1 ?w2 ?w3) 1)",
            "?c = (get (ternary_linear_cat ?x ?w1 ?w2 ?w3) 2)",
        ],
        guards: &[Guard::Ascending(&["?w1", "?w2", "?w3"])],
        class: Class::Bitwise,
    },
];
