// Written by the generator of `ir-specs` from `ops.toml`. Do not edit.
//! Signatures, constraints and meaning of the ops, from `ir-specs/ops.toml`.

use crate::graph::types::DType;
use crate::spec::{
    AttrKind, AttrSpec, Check, Constraint, DTypePattern, DimPattern, Form, OpSpec, OperandKind, OperandSpec, Repeat,
    TensorPattern, TypePattern,
};

const fn tensor(dtype: DTypePattern, dims: &'static [DimPattern]) -> TypePattern {
    TypePattern::Tensor(TensorPattern { dtype, dims })
}

const fn value(name: &'static str, pattern: TypePattern) -> OperandSpec {
    OperandSpec { name, kind: OperandKind::Value, pattern, repeat: Repeat::Once }
}

const fn weight(name: &'static str, pattern: TypePattern) -> OperandSpec {
    OperandSpec { name, kind: OperandKind::Weight, pattern, repeat: Repeat::Once }
}

/// Every op, in table order.
pub static OPS: &[OpSpec] = &[
    OpSpec {
        name: "input_ids",
        summary: "The token ids of this step.",
        form: Form::Both,
        fused: false,
        operands: &[],
        result: tensor(DTypePattern::Is(DType::I32), &[DimPattern::Tokens]),
        attrs: &[],
        constraints: &[],
        semantics: "y[t] = the id of token t",
        source: "own: the step's input",
    },
    OpSpec {
        name: "positions",
        summary: "The absolute position of each token of this step.",
        form: Form::Both,
        fused: false,
        operands: &[],
        result: tensor(DTypePattern::Is(DType::I32), &[DimPattern::Tokens]),
        attrs: &[],
        constraints: &[],
        semantics: "y[t] = pos + t, where pos is the length of the sequence before the step",
        source: "own: the step's input",
    },
    OpSpec {
        name: "kv_cache",
        summary: "The key/value cache of one layer as it was before this step.",
        form: Form::Both,
        fused: false,
        operands: &[],
        result: TypePattern::Kv { heads: DimPattern::Attr("heads"), head_dim: DimPattern::Attr("head_dim") },
        attrs: &[
            AttrSpec { name: "layer", kind: AttrKind::U32, doc: "the layer, counted from 0" },
            AttrSpec { name: "heads", kind: AttrKind::U32, doc: "key/value heads" },
            AttrSpec { name: "head_dim", kind: AttrKind::U32, doc: "elements per head" },
        ],
        constraints: &[
            Constraint {
                id: "C1",
                text: "layer is unique: no other kv_cache has it",
                check: Check::AttrUnique("layer"),
            },
            Constraint {
                id: "C2",
                text: "heads is 1 to 4096",
                check: Check::AttrInRange { attr: "heads", min: 1, max: 4096 },
            },
            Constraint {
                id: "C3",
                text: "head_dim is 1 to 4096",
                check: Check::AttrInRange { attr: "head_dim", min: 1, max: 4096 },
            },
        ],
        semantics: "kv.k[j], kv.v[j] = the rows stored at position j, for j < pos",
        source: "own: the caches are values, so that a write is visible in the graph",
    },
    OpSpec {
        name: "embed",
        summary: "Rows of the embedding table, widened to f32.",
        form: Form::Both,
        fused: false,
        operands: &[
            value("ids", tensor(DTypePattern::Is(DType::I32), &[DimPattern::Tokens])),
            weight("table", tensor(DTypePattern::Dense, &[DimPattern::Var("V"), DimPattern::Var("H")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Tokens, DimPattern::Var("H")]),
        attrs: &[],
        constraints: &[Constraint {
            id: "C1",
            text: "ids is the value of input_ids",
            check: Check::OperandIs { operand: "ids", op: "input_ids" },
        }],
        semantics: "y[t] = f32(table[ids[t]]), exactly",
        source: "HF: nn.Embedding",
    },
    OpSpec {
        name: "rmsnorm",
        summary: "Root-mean-square normalisation.",
        form: Form::Both,
        fused: false,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            weight("g", tensor(DTypePattern::Dense, &[DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[AttrSpec { name: "eps", kind: AttrKind::F32, doc: "added to the mean square" }],
        constraints: &[Constraint {
            id: "C1",
            text: "eps is finite and greater than 0",
            check: Check::AttrPositive("eps"),
        }],
        semantics: "y = (x * r) * g, r = 1 / sqrt(mean(x^2) + eps); the mean in 16 lanes (arith::rmsnorm)",
        source: "paper: Zhang and Sennrich 2019 (RMSNorm); HF: LlamaRMSNorm, BitNetRMSNorm",
    },
    OpSpec {
        name: "fake_quant",
        summary: "Rounds each row to i8 by its absmax and back to f32 (training's view of quantisation).",
        form: Form::Source,
        fused: false,
        operands: &[value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "q = quantize(x); y = q.code / q.scale",
        source: "paper: Ma et al. 2024 (BitNet b1.58); HF: integrations/bitnet.py, ActQuant",
    },
    OpSpec {
        name: "dequant",
        summary: "Trits times their scale.",
        form: Form::Source,
        fused: false,
        operands: &[weight("w", tensor(DTypePattern::Is(DType::Trit), &[DimPattern::Var("N"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("N"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y[n, k] = t[n, k] * s_w",
        source: "paper: Ma et al. 2024 (BitNet b1.58); HF: integrations/bitnet.py, unpack_weights",
    },
    OpSpec {
        name: "widen",
        summary: "A dense weight as f32.",
        form: Form::Source,
        fused: false,
        operands: &[weight("w", tensor(DTypePattern::Dense, &[DimPattern::Var("N"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("N"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y[n, k] = f32(w[n, k]), exactly",
        source: "own: names the exact conversion that dense_matmul does while it reads",
    },
    OpSpec {
        name: "matmul",
        summary: "x times the transpose of w.",
        form: Form::Source,
        fused: false,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            value("w", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("N"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[],
        constraints: &[],
        semantics: "y[r, n] = sum_k x[r, k] * w[n, k], in 16 lanes (arith::dot)",
        source: "HF: nn.Linear without bias",
    },
    OpSpec {
        name: "rope",
        summary: "Rotary position embedding, rotate-half.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Tokens, DimPattern::Product(&DimPattern::Var("H"), &DimPattern::Attr("head_dim"))],
                ),
            ),
            value("positions", tensor(DTypePattern::Is(DType::I32), &[DimPattern::Tokens])),
            weight(
                "table",
                tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("P"), DimPattern::Attr("head_dim")]),
            ),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Tokens, DimPattern::Product(&DimPattern::Var("H"), &DimPattern::Attr("head_dim"))],
        ),
        attrs: &[AttrSpec { name: "head_dim", kind: AttrKind::U32, doc: "elements per head" }],
        constraints: &[
            Constraint { id: "C1", text: "head_dim is even", check: Check::AttrEven("head_dim") },
            Constraint {
                id: "C2",
                text: "positions is the value of positions",
                check: Check::OperandIs { operand: "positions", op: "positions" },
            },
        ],
        semantics: "per head, i < head_dim/2: a' = a cos - b sin, b' = b cos + a sin, with a = x[i], b = x[head_dim/2 + i], cos and sin from the table's row of the position (arith::rope)",
        source: "paper: Su et al. 2021 (RoFormer); HF: modeling_llama.py, apply_rotary_pos_emb",
    },
    OpSpec {
        name: "kv_write",
        summary: "The cache with this step's keys and values at their positions.",
        form: Form::Both,
        fused: false,
        operands: &[
            value("kv", TypePattern::Kv { heads: DimPattern::Var("H"), head_dim: DimPattern::Var("D") }),
            value(
                "k",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Tokens, DimPattern::Product(&DimPattern::Var("H"), &DimPattern::Var("D"))],
                ),
            ),
            value(
                "v",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Tokens, DimPattern::Product(&DimPattern::Var("H"), &DimPattern::Var("D"))],
                ),
            ),
            value("positions", tensor(DTypePattern::Is(DType::I32), &[DimPattern::Tokens])),
        ],
        result: TypePattern::Kv { heads: DimPattern::Var("H"), head_dim: DimPattern::Var("D") },
        attrs: &[],
        constraints: &[
            Constraint {
                id: "C1",
                text: "kv is the value of kv_cache",
                check: Check::OperandIs { operand: "kv", op: "kv_cache" },
            },
            Constraint {
                id: "C2",
                text: "kv has no other reader: the write happens in place",
                check: Check::SoleReader("kv"),
            },
            Constraint {
                id: "C3",
                text: "positions is the value of positions",
                check: Check::OperandIs { operand: "positions", op: "positions" },
            },
        ],
        semantics: "y = kv, except y.k[positions[t]] = k[t], y.v[positions[t]] = v[t]; through f16 if the cache holds f16 (arith::through_f16)",
        source: "own: the state is a value, so that reads and writes are ordered by the graph",
    },
    OpSpec {
        name: "attention",
        summary: "Causal grouped-query attention over the cache.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "q",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Tokens, DimPattern::Product(&DimPattern::Var("Q"), &DimPattern::Var("D"))],
                ),
            ),
            value("kv", TypePattern::Kv { heads: DimPattern::Var("H"), head_dim: DimPattern::Var("D") }),
            value("positions", tensor(DTypePattern::Is(DType::I32), &[DimPattern::Tokens])),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Tokens, DimPattern::Product(&DimPattern::Var("Q"), &DimPattern::Var("D"))],
        ),
        attrs: &[AttrSpec { name: "scale", kind: AttrKind::F32, doc: "multiplies q . k; 1/sqrt(head_dim) as a rule" }],
        constraints: &[
            Constraint { id: "C1", text: "scale is finite and greater than 0", check: Check::AttrPositive("scale") },
            Constraint {
                id: "C2",
                text: "the query heads Q are a multiple of the key/value heads H",
                check: Check::DimMultipleOf("Q", "H"),
            },
            Constraint {
                id: "C3",
                text: "kv is the value of kv_write, so that the step's own rows are in it",
                check: Check::OperandIs { operand: "kv", op: "kv_write" },
            },
            Constraint {
                id: "C4",
                text: "positions is the value of positions",
                check: Check::OperandIs { operand: "positions", op: "positions" },
            },
        ],
        semantics: "y[t, h] = sum_j softmax_j(scale * q[t, h] . k[j, g]) * v[j, g] over j <= positions[t], with g = h / (Q / H), in blocks of 64 positions (arith::attention)",
        source: "paper: Vaswani et al. 2017, Ainslie et al. 2023 (GQA); HF: eager_attention_forward",
    },
    OpSpec {
        name: "add",
        summary: "Sum, element by element.",
        form: Form::Both,
        fused: false,
        operands: &[
            value("a", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            value("b", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y = a + b (IEEE, one rounding)",
        source: "own: residual connections",
    },
    OpSpec {
        name: "mul",
        summary: "Product, element by element.",
        form: Form::Both,
        fused: false,
        operands: &[
            value("a", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            value("b", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y = a * b (IEEE, one rounding)",
        source: "own: gated linear units",
    },
    OpSpec {
        name: "relu2",
        summary: "max(x, 0) squared.",
        form: Form::Both,
        fused: false,
        operands: &[value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y = max(x, 0)^2 (arith::relu2)",
        source: "paper: So et al. 2021 (Primer); HF: BitNet's hidden_act relu2",
    },
    OpSpec {
        name: "silu",
        summary: "x / (1 + exp(-x)).",
        form: Form::Both,
        fused: false,
        operands: &[value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y = x / (1 + exp(-x)), with the one exponential (arith::silu)",
        source: "paper: Elfwing et al. 2017; HF: Llama's hidden_act silu",
    },
    OpSpec {
        name: "wanted_rows",
        summary: "The last W rows: those whose logits the caller wants.",
        form: Form::Both,
        fused: false,
        operands: &[value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Tokens, DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Wanted, DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y[i] = x[T - W + i]",
        source: "own: a prompt's earlier rows need no head",
    },
    OpSpec {
        name: "quantize",
        summary: "Each row to i8 by its absmax, with its scale and the sum of its codes.",
        form: Form::Compiled,
        fused: false,
        operands: &[value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "scale = 127 / max(max|x|, 1e-5); code = round_half_even(clamp(x * scale, -128, 127)) (arith::quantize)",
        source: "paper: Ma et al. 2024 (BitNet b1.58); HF: integrations/bitnet.py, ActQuant",
    },
    OpSpec {
        name: "ternary_matmul",
        summary: "i8 codes times trits, exact in i32.",
        form: Form::Compiled,
        fused: false,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            weight("w", tensor(DTypePattern::Is(DType::Trit), &[DimPattern::Var("N"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::I32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one token" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "y[r, n] = sum_k x.code[r, k] * t[n, k]",
        source: "paper: Ma et al. 2024 (BitNet b1.58)",
    },
    OpSpec {
        name: "rescale",
        summary: "acc times (s_w / s_x).",
        form: Form::Compiled,
        fused: false,
        operands: &[
            value("acc", tensor(DTypePattern::Is(DType::I32), &[DimPattern::Row("R"), DimPattern::Var("N")])),
            value("x", tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            weight("w", tensor(DTypePattern::Is(DType::Trit), &[DimPattern::Var("N"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[],
        constraints: &[],
        semantics: "y[r, n] = acc[r, n] * (s_w / x.scale[r]): two roundings (arith::rescale)",
        source: "HF: integrations/bitnet.py, BitLinear.post_quant_process",
    },
    OpSpec {
        name: "dense_matmul",
        summary: "f32 rows times the transpose of a dense weight, widened as it is read.",
        form: Form::Compiled,
        fused: false,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            weight("w", tensor(DTypePattern::Dense, &[DimPattern::Var("N"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[],
        constraints: &[],
        semantics: "y[r, n] = sum_k x[r, k] * f32(w[n, k]), in 16 lanes (arith::dot)",
        source: "HF: nn.Linear without bias (the head)",
    },
    OpSpec {
        name: "rmsnorm_quantize",
        summary: "quantize(rmsnorm(x, g)) in one pass.",
        form: Form::Compiled,
        fused: true,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            weight("g", tensor(DTypePattern::Dense, &[DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[AttrSpec { name: "eps", kind: AttrKind::F32, doc: "added to the mean square" }],
        constraints: &[
            Constraint { id: "C1", text: "eps is finite and greater than 0", check: Check::AttrPositive("eps") },
            Constraint {
                id: "C2",
                text: "K is at most 131072 (2^17), so that integer sums stay exact",
                check: Check::DimAtMost("K", 131072),
            },
        ],
        semantics: "y = quantize(rmsnorm(x, g, eps))",
        source: "own: fusion",
    },
    OpSpec {
        name: "ternary_linear",
        summary: "rescale(ternary_matmul(x, w), x, w) in one kernel.",
        form: Form::Compiled,
        fused: true,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            weight("w", tensor(DTypePattern::Is(DType::Trit), &[DimPattern::Var("N"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one token" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "y = rescale(ternary_matmul(x, w), x, w)",
        source: "own: fusion",
    },
    OpSpec {
        name: "ternary_linear_add",
        summary: "residual + ternary_linear(x, w) in one kernel.",
        form: Form::Compiled,
        fused: true,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            weight("w", tensor(DTypePattern::Is(DType::Trit), &[DimPattern::Var("N"), DimPattern::Var("K")])),
            value("residual", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one token" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "y = residual + ternary_linear(x, w) (IEEE, the sum rounded once more)",
        source: "own: fusion",
    },
    OpSpec {
        name: "ternary_linear_cat",
        summary: "Several ternary_linear of one x in one phase; their results as a tuple.",
        form: Form::Compiled,
        fused: true,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            OperandSpec {
                name: "w",
                kind: OperandKind::Weight,
                pattern: tensor(DTypePattern::Is(DType::Trit), &[DimPattern::Each("N"), DimPattern::Var("K")]),
                repeat: Repeat::AtLeast(2),
            },
        ],
        result: TypePattern::TuplePerRepeat(TensorPattern {
            dtype: DTypePattern::Is(DType::F32),
            dims: &[DimPattern::Row("R"), DimPattern::Each("N")],
        }),
        attrs: &[
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one token" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "y.i = ternary_linear(x, w_i), all in one phase of the step",
        source: "own: fusion (Q, K, V; gate, up)",
    },
    OpSpec {
        name: "get",
        summary: "One member of a tuple.",
        form: Form::Compiled,
        fused: false,
        operands: &[value("tuple", TypePattern::AnyTuple)],
        result: TypePattern::Member("index"),
        attrs: &[AttrSpec { name: "index", kind: AttrKind::U32, doc: "which member, counted from 0" }],
        constraints: &[Constraint {
            id: "C1",
            text: "index is less than the number of members",
            check: Check::AttrBelowMembers("index"),
        }],
        semantics: "y = tuple.index",
        source: "own: ops with several results are a tuple and get",
    },
    OpSpec {
        name: "glu",
        summary: "act(gate) * up.",
        form: Form::Compiled,
        fused: true,
        operands: &[
            value("gate", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            value("up", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[AttrSpec { name: "act", kind: AttrKind::Act, doc: "the activation of the gate: relu2, silu or gelu" }],
        constraints: &[],
        semantics: "y = act(gate) * up (IEEE, the product rounded once more)",
        source: "paper: Shazeer 2020 (GLU variants); own: fusion",
    },
    OpSpec {
        name: "ternary_glu",
        summary: "act(ternary_linear(x, gate)) * ternary_linear(x, up) in one kernel.",
        form: Form::Compiled,
        fused: true,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Row("R"), DimPattern::Var("K")])),
            weight("gate", tensor(DTypePattern::Is(DType::Trit), &[DimPattern::Var("N"), DimPattern::Var("K")])),
            weight("up", tensor(DTypePattern::Is(DType::Trit), &[DimPattern::Var("N"), DimPattern::Var("K")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[
            AttrSpec { name: "act", kind: AttrKind::Act, doc: "the activation of the gate: relu2, silu or gelu" },
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one token" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "y = glu(ternary_linear(x, gate), ternary_linear(x, up), act)",
        source: "own: fusion",
    },
    OpSpec {
        name: "rmsnorm_heads",
        summary: "Root-mean-square normalisation of each head by itself.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Row("R"), DimPattern::Product(&DimPattern::Var("H"), &DimPattern::Var("D"))],
                ),
            ),
            weight("g", tensor(DTypePattern::Dense, &[DimPattern::Var("D")])),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Row("R"), DimPattern::Product(&DimPattern::Var("H"), &DimPattern::Var("D"))],
        ),
        attrs: &[AttrSpec { name: "eps", kind: AttrKind::F32, doc: "added to the mean square" }],
        constraints: &[Constraint {
            id: "C1",
            text: "eps is finite and greater than 0",
            check: Check::AttrPositive("eps"),
        }],
        semantics: "y[r, h] = rmsnorm(x[r, h], g, eps) for each head h of D elements",
        source: "HF: modeling_qwen3.py, Qwen3Attention (q_norm, k_norm)",
    },
    OpSpec {
        name: "hadamard",
        summary: "Each block of a row rotated by a Hadamard matrix, with signs in front of it or behind.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Row("R"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Attr("block"))],
                ),
            ),
            weight(
                "s",
                tensor(DTypePattern::Dense, &[DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Attr("block"))]),
            ),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Row("R"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Attr("block"))],
        ),
        attrs: &[
            AttrSpec { name: "block", kind: AttrKind::U32, doc: "elements of a block" },
            AttrSpec {
                name: "behind",
                kind: AttrKind::U32,
                doc: "0: the signs multiply x; 1: they multiply the result",
            },
        ],
        constraints: &[
            Constraint { id: "C1", text: "block is a power of two", check: Check::AttrPowerOfTwo("block") },
            Constraint {
                id: "C2",
                text: "behind is 0 or 1",
                check: Check::AttrInRange { attr: "behind", min: 0, max: 1 },
            },
        ],
        semantics: "y[r, c] = H (s * x[r, c]) / sqrt(block), or s * (H x[r, c] / sqrt(block)), for each block c of consecutive elements; H[i, j] = (-1)^popcount(i and j); butterflies of the widest distance first (arith::hadamard)",
        source: "own: what metadata prism.hadamard of PrismML-Eng/llama.cpp asks for, in a fixed order",
    },
    OpSpec {
        name: "quantize_groups",
        summary: "Each group of a row to i8 by its own absmax, with its scale and the sum of its codes.",
        form: Form::Both,
        fused: false,
        operands: &[value(
            "x",
            tensor(
                DTypePattern::Is(DType::F32),
                &[DimPattern::Row("R"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Attr("group"))],
            ),
        )],
        result: tensor(
            DTypePattern::Is(DType::Q8),
            &[DimPattern::Row("R"), DimPattern::Var("C"), DimPattern::Attr("group")],
        ),
        attrs: &[AttrSpec { name: "group", kind: AttrKind::U32, doc: "elements of a group" }],
        constraints: &[Constraint {
            id: "C1",
            text: "group is 1 to 131072 (2^17), so that integer sums stay exact",
            check: Check::AttrInRange { attr: "group", min: 1, max: 131072 },
        }],
        semantics: "y[r, c] = quantize(x[r, c]) for each group c of consecutive elements (arith::quantize)",
        source: "own: what CPU engines do in front of weights with a scale per group",
    },
    OpSpec {
        name: "rmsnorm_quantize_groups",
        summary: "quantize_groups(rmsnorm(x, g)) in one pass.",
        form: Form::Compiled,
        fused: true,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Row("R"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Attr("group"))],
                ),
            ),
            weight(
                "g",
                tensor(DTypePattern::Dense, &[DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Attr("group"))]),
            ),
        ],
        result: tensor(
            DTypePattern::Is(DType::Q8),
            &[DimPattern::Row("R"), DimPattern::Var("C"), DimPattern::Attr("group")],
        ),
        attrs: &[
            AttrSpec { name: "eps", kind: AttrKind::F32, doc: "added to the mean square" },
            AttrSpec { name: "group", kind: AttrKind::U32, doc: "elements of a group" },
        ],
        constraints: &[
            Constraint { id: "C1", text: "eps is finite and greater than 0", check: Check::AttrPositive("eps") },
            Constraint {
                id: "C2",
                text: "group is 1 to 131072 (2^17), so that integer sums stay exact",
                check: Check::AttrInRange { attr: "group", min: 1, max: 131072 },
            },
        ],
        semantics: "y = quantize_groups(rmsnorm(x, g, eps), group); the mean square is that of the whole row",
        source: "own: fusion",
    },
    OpSpec {
        name: "ternary_group_linear",
        summary: "i8 codes times trits, both with a scale per group of columns.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::Q8),
                    &[DimPattern::Row("R"), DimPattern::Var("C"), DimPattern::Var("G")],
                ),
            ),
            weight(
                "w",
                tensor(
                    DTypePattern::Is(DType::Trit),
                    &[DimPattern::Var("N"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Var("G"))],
                ),
            ),
            weight("s", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("N"), DimPattern::Var("C")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one token" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "G is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("G", 131072),
        }],
        semantics: "y[r, n] = sum_c (acc[r, n, c] * (1 / x.scale[r, c])) * s[n, c], acc[r, n, c] = sum_k x.code[r, c, k] * t[n, c, k] exactly in i32; groups in ascending order from +0, each added with madd (arith::group_linear)",
        source: "paper: Dettmers and Zettlemoyer 2023 (blockwise scales); own: the order",
    },
    OpSpec {
        name: "ternary_group_linear_add",
        summary: "residual + ternary_group_linear(x, w, s) in one kernel.",
        form: Form::Compiled,
        fused: true,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::Q8),
                    &[DimPattern::Row("R"), DimPattern::Var("C"), DimPattern::Var("G")],
                ),
            ),
            weight(
                "w",
                tensor(
                    DTypePattern::Is(DType::Trit),
                    &[DimPattern::Var("N"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Var("G"))],
                ),
            ),
            weight("s", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("N"), DimPattern::Var("C")])),
            value("residual", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one token" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "G is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("G", 131072),
        }],
        semantics: "y = residual + ternary_group_linear(x, w, s) (IEEE, the sum rounded once more)",
        source: "own: fusion",
    },
    OpSpec {
        name: "quant4_group_linear",
        summary: "i8 codes times 4-bit weights with a scale and an offset per group of columns.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::Q8),
                    &[DimPattern::Row("R"), DimPattern::Var("C"), DimPattern::Var("G")],
                ),
            ),
            weight(
                "w",
                tensor(
                    DTypePattern::Is(DType::U4),
                    &[DimPattern::Var("N"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Var("G"))],
                ),
            ),
            weight("s", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("N"), DimPattern::Var("C")])),
            weight("m", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("N"), DimPattern::Var("C")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[],
        constraints: &[Constraint {
            id: "C1",
            text: "G is at most 8192, so that sums of 15 * 128 are exact in f32",
            check: Check::DimAtMost("G", 8192),
        }],
        semantics: "y[r, n] = sum_c (acc[r, n, c] / x.scale[r, c]) s[n, c] + (x.sum[r, c] / x.scale[r, c]) m[n, c], acc[r, n, c] = sum_k x.code[r, c, k] * q[n, c, k] exactly in i32; 1 / x.scale first, groups in ascending order from +0, each of the two added with madd (arith::quant4_group_linear)",
        source: "own: what weights s q + m of a group mean (ggml-quants.c of ggml-org/llama.cpp: Q4_0, Q4_1, Q4_K), in a fixed order",
    },
    OpSpec {
        name: "ternary_f32_linear",
        summary: "f32 rows times trits with a scale per group of columns: no rounding of activations.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Row("R"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Var("G"))],
                ),
            ),
            weight(
                "w",
                tensor(
                    DTypePattern::Is(DType::Trit),
                    &[DimPattern::Var("N"), DimPattern::Product(&DimPattern::Var("C"), &DimPattern::Var("G"))],
                ),
            ),
            weight("s", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("N"), DimPattern::Var("C")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("N")]),
        attrs: &[],
        constraints: &[],
        semantics: "y[r, n] = sum_c dot(x[r, c], t[n, c]) * s[n, c]; each dot product in 16 lanes from the group's first column, groups in ascending order from +0, each added with madd (arith::group_linear_f32)",
        source: "own: what weight-only ternary means, in a fixed order",
    },
    OpSpec {
        name: "scale",
        summary: "Every element times one number.",
        form: Form::Both,
        fused: false,
        operands: &[value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[AttrSpec { name: "by", kind: AttrKind::F32, doc: "the number" }],
        constraints: &[Constraint {
            id: "C1",
            text: "by is finite and greater than 0",
            check: Check::AttrPositive("by"),
        }],
        semantics: "y = x * by",
        source: "HF: modeling_gemma3.py, Gemma3TextScaledWordEmbedding",
    },
    OpSpec {
        name: "gelu",
        summary: "The Gaussian error linear unit, by its tanh.",
        form: Form::Both,
        fused: false,
        operands: &[value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y = x / (1 + exp(-x * (a + a * 0.044715 * x^2))), a = 2 sqrt(2 / pi), with the one exponential (arith::gelu); this is x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))",
        source: "paper: Hendrycks and Gimpel 2016; HF: activations.py, gelu_pytorch_tanh",
    },
    OpSpec {
        name: "l2norm",
        summary: "Each row divided by its length.",
        form: Form::Both,
        fused: false,
        operands: &[value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]))],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Row("R"), DimPattern::Var("K")]),
        attrs: &[],
        constraints: &[],
        semantics: "y = x * r, r = 1 / max(sqrt(sum(x^2)), 1e-12); the sum in 16 lanes (arith::l2norm)",
        source: "own: PyTorch's nn.functional.normalize, in a fixed order",
    },
    OpSpec {
        name: "route",
        summary: "Chooses experts for each token by the largest logits, and weighs them.",
        form: Form::Both,
        fused: false,
        operands: &[value("logits", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Tokens, DimPattern::Var("E")]))],
        result: tensor(
            DTypePattern::Is(DType::Route),
            &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Attr("top_k")],
        ),
        attrs: &[
            AttrSpec { name: "top_k", kind: AttrKind::U32, doc: "experts of a token" },
            AttrSpec {
                name: "normalise",
                kind: AttrKind::U32,
                doc: "1: weights of the chosen ones sum to 1; 0: those of all do",
            },
        ],
        constraints: &[
            Constraint { id: "C1", text: "top_k is at most E", check: Check::AttrAtMostDim("top_k", "E") },
            Constraint {
                id: "C2",
                text: "top_k is 1 to 64",
                check: Check::AttrInRange { attr: "top_k", min: 1, max: 64 },
            },
            Constraint {
                id: "C3",
                text: "normalise is 0 or 1",
                check: Check::AttrInRange { attr: "normalise", min: 0, max: 1 },
            },
        ],
        semantics: "the top_k largest logits, ties by the lower number; weight = e^(l - max) / sum, the sum over those chosen in their order, or over all in 16 lanes (arith::route)",
        source: "paper: Shazeer et al. 2017 (sparsely-gated experts); HF: modeling_qwen3_moe.py, Qwen3MoeSparseMoeBlock; modeling_mixtral.py (softmax over those chosen is the same as renormalising)",
    },
    OpSpec {
        name: "dispatch",
        summary: "Rows of tokens as routed rows.",
        form: Form::Both,
        fused: false,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Tokens, DimPattern::Var("K")])),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("K")],
        ),
        attrs: &[],
        constraints: &[],
        semantics: "y[s] = x[the token of routed row s]",
        source: "HF: modeling_qwen3_moe.py, index_select before an expert; own: all experts at once, sorted",
    },
    OpSpec {
        name: "dispatch_codes",
        summary: "Quantised rows of tokens as routed rows.",
        form: Form::Both,
        fused: true,
        operands: &[
            value("x", tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Tokens, DimPattern::Var("K")])),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
        ],
        result: tensor(
            DTypePattern::Is(DType::Q8),
            &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("K")],
        ),
        attrs: &[],
        constraints: &[],
        semantics: "y[s] = x[the token of routed row s], scale and sum with it",
        source: "own: a token is quantised once, however many experts it has",
    },
    OpSpec {
        name: "dispatch_groups",
        summary: "Rows of tokens that were quantised by groups as routed rows.",
        form: Form::Both,
        fused: true,
        operands: &[
            value(
                "x",
                tensor(DTypePattern::Is(DType::Q8), &[DimPattern::Tokens, DimPattern::Var("D"), DimPattern::Var("G")]),
            ),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
        ],
        result: tensor(
            DTypePattern::Is(DType::Q8),
            &[
                DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")),
                DimPattern::Var("D"),
                DimPattern::Var("G"),
            ],
        ),
        attrs: &[],
        constraints: &[],
        semantics: "y[s] = x[the token of routed row s], scales and sums with it",
        source: "own: a token is quantised once, however many experts it has",
    },
    OpSpec {
        name: "expert_linear",
        summary: "i8 codes of routed rows times trits of their expert, scaled back to f32.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::Q8),
                    &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("K")],
                ),
            ),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
            weight(
                "w",
                tensor(
                    DTypePattern::Is(DType::Trit),
                    &[DimPattern::Var("E"), DimPattern::Var("N"), DimPattern::Var("K")],
                ),
            ),
            weight("s", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("E")])),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("N")],
        ),
        attrs: &[
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one row of an expert" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "y[s, n] = acc[s, n] * (s_e / x.scale[s]), acc[s, n] = sum_k x.code[s, k] * t[e, n, k] exactly in i32, e the expert of routed row s",
        source: "HF: modeling_qwen3_moe.py, Qwen3MoeMLP; paper: Ma et al. 2024 (BitNet b1.58)",
    },
    OpSpec {
        name: "expert_glu",
        summary: "The gated unit of two ternary linear layers of a routed row's expert.",
        form: Form::Both,
        fused: true,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::Q8),
                    &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("K")],
                ),
            ),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
            weight(
                "gate",
                tensor(
                    DTypePattern::Is(DType::Trit),
                    &[DimPattern::Var("E"), DimPattern::Var("N"), DimPattern::Var("K")],
                ),
            ),
            weight("gate_scales", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("E")])),
            weight(
                "up",
                tensor(
                    DTypePattern::Is(DType::Trit),
                    &[DimPattern::Var("E"), DimPattern::Var("N"), DimPattern::Var("K")],
                ),
            ),
            weight("up_scales", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Var("E")])),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("N")],
        ),
        attrs: &[
            AttrSpec { name: "act", kind: AttrKind::Act, doc: "the activation of the gate" },
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one row of an expert" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "K is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("K", 131072),
        }],
        semantics: "y = act(expert_linear(x, gate)) * expert_linear(x, up)",
        source: "own: fuses glu of two expert_linear",
    },
    OpSpec {
        name: "expert_group_linear",
        summary: "i8 codes of routed rows times trits of their expert, both with a scale per group of columns.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::Q8),
                    &[
                        DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")),
                        DimPattern::Var("D"),
                        DimPattern::Var("G"),
                    ],
                ),
            ),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
            weight(
                "w",
                tensor(
                    DTypePattern::Is(DType::Trit),
                    &[
                        DimPattern::Var("E"),
                        DimPattern::Var("N"),
                        DimPattern::Product(&DimPattern::Var("D"), &DimPattern::Var("G")),
                    ],
                ),
            ),
            weight(
                "s",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Var("E"), DimPattern::Var("N"), DimPattern::Var("D")],
                ),
            ),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("N")],
        ),
        attrs: &[
            AttrSpec { name: "decode", kind: AttrKind::Strategy, doc: "how it is computed for one row of an expert" },
            AttrSpec { name: "prefill", kind: AttrKind::Strategy, doc: "how it is computed for many" },
        ],
        constraints: &[Constraint {
            id: "C1",
            text: "G is at most 131072 (2^17), so that integer sums stay exact",
            check: Check::DimAtMost("G", 131072),
        }],
        semantics: "as ternary_group_linear with the matrix and the scales of the routed row's expert",
        source: "own: ternary_group_linear, expert by expert",
    },
    OpSpec {
        name: "expert_f32_linear",
        summary: "f32 routed rows times trits of their expert with a scale per group of columns: no rounding of activations.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "x",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[
                        DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")),
                        DimPattern::Product(&DimPattern::Var("D"), &DimPattern::Var("G")),
                    ],
                ),
            ),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
            weight(
                "w",
                tensor(
                    DTypePattern::Is(DType::Trit),
                    &[
                        DimPattern::Var("E"),
                        DimPattern::Var("N"),
                        DimPattern::Product(&DimPattern::Var("D"), &DimPattern::Var("G")),
                    ],
                ),
            ),
            weight(
                "s",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Var("E"), DimPattern::Var("N"), DimPattern::Var("D")],
                ),
            ),
        ],
        result: tensor(
            DTypePattern::Is(DType::F32),
            &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("N")],
        ),
        attrs: &[],
        constraints: &[],
        semantics: "as ternary_f32_linear with the matrix and the scales of the routed row's expert",
        source: "own: ternary_f32_linear, expert by expert",
    },
    OpSpec {
        name: "combine",
        summary: "The weighted sum of the routed rows of each token.",
        form: Form::Both,
        fused: false,
        operands: &[
            value(
                "y",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("H")],
                ),
            ),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Tokens, DimPattern::Var("H")]),
        attrs: &[],
        constraints: &[],
        semantics: "z[t] = sum_j weight[t, j] * y[the routed row of choice j of token t]; choices in their order from +0, each added with madd (arith::combine)",
        source: "HF: modeling_qwen3_moe.py, index_add_; own: the order",
    },
    OpSpec {
        name: "combine_add",
        summary: "The weighted sum of the routed rows of each token, onto a residual.",
        form: Form::Both,
        fused: true,
        operands: &[
            value(
                "y",
                tensor(
                    DTypePattern::Is(DType::F32),
                    &[DimPattern::Product(&DimPattern::Tokens, &DimPattern::Var("C")), DimPattern::Var("H")],
                ),
            ),
            value(
                "route",
                tensor(
                    DTypePattern::Is(DType::Route),
                    &[DimPattern::Tokens, DimPattern::Var("E"), DimPattern::Var("C")],
                ),
            ),
            value("residual", tensor(DTypePattern::Is(DType::F32), &[DimPattern::Tokens, DimPattern::Var("H")])),
        ],
        result: tensor(DTypePattern::Is(DType::F32), &[DimPattern::Tokens, DimPattern::Var("H")]),
        attrs: &[],
        constraints: &[],
        semantics: "z = residual + combine(y, route)",
        source: "own: fuses add of combine",
    },
];
