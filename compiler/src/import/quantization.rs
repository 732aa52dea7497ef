//! `quantization_config`: how the ternary matrices are stored and what their scale means.
//!
//! In: the keys of Hugging Face's BitNet quantiser. Out: a [`Quantization`].
//!
//! | `linear_class` | `quantization_mode` | stored | a trit t stands for |
//! | --- | --- | --- | --- |
//! | `bitlinear` (default) | `offline` (default) | packed trits, `weight_scale` | t / weight_scale |
//! | `autobitlinear` | `offline` | packed trits, `weight_scale` | t * weight_scale |
//! | `autobitlinear` | `online` | master weights | t * max(mean of the absolute weights, 1e-5) |
//! | none, but `weight_bits` 1 and `input_bits` 8 | | master weights | t * max(mean of the absolute weights, 1e-5) |
//! | none, but norms in front of projections | | master weights | t * max(mean of the absolute weights, 1e-5) |
//! | `quant_method` awq or gptq, 4 bits | | codes, zero points, scales; dense where left out | s (q - z): no trits |
//! | no `quantization_config` | | -s, 0, +s as dense weights | t * s; a matrix that is not ternary is dense |
//!
//! Source: Hugging Face transformers, `utils/quantization_config.py` and `integrations/bitnet.py`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::Serialize;

use super::config::{CONFIG, WEIGHT_BITS};
use super::error::Error;
use super::fields::Fields;
use crate::checkpoint::Fault;
use crate::checkpoint::packed4::Packing4;
use crate::graph::F32;

/// How the trits are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WeightFormat {
    /// Hugging Face BitNet packing, four trits to a byte.
    HfPacked,
    /// Full-precision master weights, made ternary at import.
    OnlineMaster,
    /// Tensors of a GGUF file, in blocks or dense.
    Gguf,
    /// Dense tensors whose elements are ternary already.
    DenseTernary,
    /// Four bits a weight, with a scale and a zero point per group of columns.
    Quant4,
}

/// Where the factor that turns a trit into a weight comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScaleRule {
    /// The stored `weight_scale` is it.
    Multiplies,
    /// Its reciprocal is stored.
    Divides,
    /// The mean of the absolute master weights.
    Absmean,
    /// It is the magnitude of the stored weights.
    Magnitude,
}

/// How activations meet ternary weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// Rounded to i8: per token, or per group of columns where the weights have a scale per group.
    I8,
    /// As they are, in f32.
    F32,
}

impl Activations {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Activations::I8 => "i8",
            Activations::F32 => "f32",
        }
    }

    /// Those called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "i8" => Some(Activations::I8),
            "f32" => Some(Activations::F32),
            _ => None,
        }
    }
}

/// What `quantization_config` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Quantization {
    pub(super) format: WeightFormat,
    pub(super) scale_rule: ScaleRule,
    /// An RMSNorm with this epsilon in front of every ternary layer's quantisation.
    pub(super) input_norm_eps: Option<F32>,
    /// How activations meet the weights.
    pub(super) activations: Activations,
    /// Whether matrices may be dense: nothing says that they are ternary.
    pub(super) may_be_dense: bool,
    /// Of four bits a weight: how they lie, and the columns that share a scale.
    pub(super) four: Option<Four>,
}

/// What AWQ and GPTQ say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Four {
    pub(super) packing: Packing4,
    /// `None`: all columns.
    pub(super) group: Option<u32>,
    /// Whether inputs may be in another order than their groups: the files must say that they are not.
    pub(super) may_be_out_of_order: bool,
}

/// What tern compiles, for the error messages.
const SUPPORTED: &str = "a quantization_config with quant_method \"bitnet\"";
/// Bits of an activation, in the configurations of 1bitLLM's models.
const INPUT_BITS: &str = "input_bits";
/// The epsilon of the input norms, if the config does not say.
const INPUT_NORM_EPS: f32 = 1e-6;

/// Reads `quantization_config`; without one, weights must be ternary as they are stored, unless the architecture is one
/// that is trained with quantised activations, `trained_in_i8`. `wanted` are the activations that the caller asks for.
pub(super) fn quantization(
    config: &mut Fields<'_>,
    trained_in_i8: bool,
    wanted: Option<Activations>,
) -> Result<Quantization, Error> {
    if let Some(key) = [WEIGHT_BITS, INPUT_BITS].into_iter().find(|key| config.get(key).is_some()) {
        let contradiction = if config.get("quantization_config").is_some() {
            Some("no such key beside quantization_config, which says another thing of the same weights")
        } else if !trained_in_i8 {
            Some("no such key, or \"BitnetForCausalLM\" in architectures, whose makers have it")
        } else if config.get(WEIGHT_BITS).is_none() {
            Some("no such key without weight_bits")
        } else {
            None
        };
        if let Some(expected) = contradiction {
            let advice = "the keys contradict each other: take config.json as the model's makers wrote it";
            return Err(Error::input(config.fault(key, expected).next(advice)));
        }
    }
    let Some(mut fields) = config.object("quantization_config")? else {
        if trained_in_i8 && config.get(WEIGHT_BITS).is_some() {
            return one_bit_llm(config, wanted);
        }
        if trained_in_i8 {
            let fault = config.fault("quantization_config", SUPPORTED);
            return Err(Error::unsupported(fault.next("nothing says how its weights and activations are quantised")));
        }
        return Ok(Quantization {
            format: WeightFormat::DenseTernary,
            scale_rule: ScaleRule::Magnitude,
            input_norm_eps: None,
            activations: wanted.unwrap_or(Activations::I8),
            may_be_dense: true,
            four: None,
        });
    };
    if let (Some("awq" | "gptq"), false) = (fields.text("quant_method")?, trained_in_i8) {
        return four_bits(&mut fields, wanted);
    }
    if wanted == Some(Activations::F32) {
        return Err(defined_with_i8("quantization_config"));
    }
    if fields.text("quant_method")? != Some("bitnet") {
        let fault = fields.fault("quant_method", "\"bitnet\"");
        return Err(Error::unsupported(fault.next("other quantisation methods are not compiled")));
    }
    let class = fields.text("linear_class")?.unwrap_or("bitlinear");
    let mode = fields.text("quantization_mode")?.unwrap_or("offline");
    let (format, scale_rule) = match (class, mode) {
        ("bitlinear", "offline") => (WeightFormat::HfPacked, ScaleRule::Divides),
        ("autobitlinear", "offline") => (WeightFormat::HfPacked, ScaleRule::Multiplies),
        ("autobitlinear", "online") => (WeightFormat::OnlineMaster, ScaleRule::Absmean),
        ("bitlinear", "online") => {
            let expected = "\"offline\", the only mode of linear_class \"bitlinear\"";
            return Err(Error::input(fields.fault("quantization_mode", expected)));
        }
        ("bitlinear" | "autobitlinear", _) => {
            let fault = fields.fault("quantization_mode", "\"offline\" or \"online\"");
            return Err(Error::unsupported(fault));
        }
        _ => {
            let fault = fields.fault("linear_class", "\"bitlinear\" or \"autobitlinear\"");
            return Err(Error::unsupported(fault));
        }
    };
    for module in fields.list("modules_to_not_convert")?.into_iter().flatten() {
        // These are never ternary, listed or not.
        if !matches!(module.as_str(), Some("lm_head" | "embed_tokens" | "model.embed_tokens")) {
            let fault = fields.fault("modules_to_not_convert", "null, or [\"lm_head\"]");
            return Err(Error::unsupported(fault.next("dense layers among the ternary ones are not compiled yet")));
        }
    }
    let eps = fields.positive("rms_norm_eps")?.unwrap_or(F32::new(INPUT_NORM_EPS));
    let input_norm_eps = fields.boolean("use_rms_norm")?.unwrap_or(false).then_some(eps);
    fields.refuse_unread()?;
    Ok(Quantization {
        format,
        scale_rule,
        input_norm_eps,
        activations: Activations::I8,
        may_be_dense: false,
        four: None,
    })
}

/// Keys of AWQ and GPTQ that say how a model was quantised, or how other programs run it: nothing of what its tensors hold.
///
/// Sources: Hugging Face transformers, `utils/quantization_config.py` (`AwqConfig`, `GPTQConfig`); huggingface/optimum,
/// `gptq/quantizer.py`; ModelCloud/GPTQModel, `quantization/config.py`; casper-hansen/AutoAWQ, `models/_config.py`.
const FOUR_BIT_NOTES: [&str; 34] = [
    "act_group_aware",
    "backend",
    "batch_size",
    "block_name_to_quantize",
    "cache_block_outputs",
    "damp_auto_increment",
    "damp_percent",
    "dataset",
    "disable_exllama",
    "do_fuse",
    "exllama_config",
    "fuse_max_seq_len",
    "hyb_act",
    "max_input_length",
    "meta",
    "model_file_base_name",
    "model_name_or_path",
    "model_seqlen",
    "module_name_preceding_first_block",
    "modules_in_block_to_quantize",
    "modules_to_fuse",
    "modules_to_not_convert",
    "mse",
    "offload_to_disk",
    "pad_token_id",
    "quantizer",
    "static_groups",
    "sym",
    "tokenizer",
    "true_sequential",
    "use_cuda_fp16",
    "use_exllama",
    "use_triton",
    "vram_strategy",
];

/// What the configurations of AWQ and GPTQ say. Which layers they leave out is seen in the tensors.
fn four_bits(fields: &mut Fields<'_>, wanted: Option<Activations>) -> Result<Quantization, Error> {
    let is_awq = fields.text("quant_method")? == Some("awq");
    if fields.u32("bits", 0..=u32::MAX)? != Some(4) {
        return Err(Error::unsupported(fields.fault("bits", "4")));
    }
    // -1 is one group of all columns.
    let all = fields.get("group_size").and_then(serde_json::Value::as_i64) == Some(-1);
    let group = if all { None } else { fields.u32("group_size", 1..=8192)? };
    if !all && !group.is_some_and(|group| group.is_multiple_of(16)) {
        return Err(Error::unsupported(fields.fault("group_size", "a multiple of 16 up to 8192, or -1")));
    }
    if fields.boolean("lm_head")? == Some(true) {
        return Err(Error::unsupported(fields.fault("lm_head", "false")));
    }
    if !matches!(fields.text("pack_dtype")?, None | Some("int32")) {
        return Err(Error::unsupported(fields.fault("pack_dtype", "\"int32\"")));
    }
    for key in FOUR_BIT_NOTES {
        fields.get(key);
    }
    // The order of inputs is looked at in the tensors.
    let may_be_out_of_order = fields.boolean("desc_act")? == Some(true);
    let packing = if is_awq { awq(fields)? } else { gptq(fields)? };
    fields.refuse_unread()?;
    if wanted == Some(Activations::F32) {
        let fault = fields.fault("quant_method", "activations i8, or none asked for");
        return Err(Error::unsupported(fault.next("leave out --activations f32: such weights meet activations in i8")));
    }
    Ok(Quantization {
        format: WeightFormat::Quant4,
        scale_rule: ScaleRule::Multiplies,
        input_norm_eps: None,
        activations: Activations::I8,
        may_be_dense: true,
        four: Some(Four { packing, group, may_be_out_of_order: may_be_out_of_order && !is_awq }),
    })
}

fn awq(fields: &mut Fields<'_>) -> Result<Packing4, Error> {
    for key in ["version", "format", "checkpoint_format"] {
        if !matches!(fields.text(key)?, None | Some("gemm" | "GEMM")) {
            return Err(Error::unsupported(fields.fault(key, "\"gemm\"")));
        }
    }
    if fields.boolean("zero_point")? == Some(false) {
        return Err(Error::unsupported(fields.fault("zero_point", "true")));
    }
    Ok(Packing4::Awq)
}

fn gptq(fields: &mut Fields<'_>) -> Result<Packing4, Error> {
    let mut formats = Vec::new();
    for key in ["checkpoint_format", "format"] {
        match fields.text(key)? {
            None => {}
            Some(format @ ("gptq" | "gptq_v2")) => formats.push(format),
            Some(_) => return Err(Error::unsupported(fields.fault(key, "\"gptq\" or \"gptq_v2\""))),
        }
    }
    match formats.as_slice() {
        [] | ["gptq"] | ["gptq", "gptq"] => Ok(Packing4::Gptq { less_one: true }),
        ["gptq_v2"] | ["gptq_v2", "gptq_v2"] => Ok(Packing4::Gptq { less_one: false }),
        _ => Err(Error::input(fields.fault("format", "what checkpoint_format says, too"))),
    }
}

/// Of embedding models with a norm in front of each projection, of whose `BitLinear` the configuration says nothing: absmean
/// trits of full-precision weights, activations in i8, norms with the epsilon of the others.
///
/// Source: microsoft/BitNet, `utils/convert-bitnet-embedding-to-gguf.py`.
pub(super) fn bitlinear_embedding(config: &mut Fields<'_>, wanted: Option<Activations>) -> Result<Quantization, Error> {
    if wanted == Some(Activations::F32) {
        return Err(defined_with_i8("rms_norm_eps"));
    }
    let input_norm_eps = Some(config.need_positive("rms_norm_eps")?);
    let (format, scale_rule) = (WeightFormat::OnlineMaster, ScaleRule::Absmean);
    Ok(Quantization {
        format,
        scale_rule,
        input_norm_eps,
        activations: Activations::I8,
        may_be_dense: false,
        four: None,
    })
}

/// What 1bitLLM's configurations say: bits of weights and of activations, both made of full-precision ones as a model runs.
fn one_bit_llm(config: &mut Fields<'_>, wanted: Option<Activations>) -> Result<Quantization, Error> {
    for (key, only) in [(WEIGHT_BITS, 1), (INPUT_BITS, 8)] {
        if config.u32(key, 0..=u32::MAX)? != Some(only) {
            let fault = config.fault(key, format!("{only}"));
            return Err(Error::unsupported(
                fault.next("trits and activations in i8 are what is compiled of such models"),
            ));
        }
    }
    if wanted == Some(Activations::F32) {
        return Err(defined_with_i8(INPUT_BITS));
    }
    let (format, scale_rule) = (WeightFormat::OnlineMaster, ScaleRule::Absmean);
    Ok(Quantization {
        format,
        scale_rule,
        input_norm_eps: None,
        activations: Activations::I8,
        may_be_dense: false,
        four: None,
    })
}

fn defined_with_i8(key: &str) -> Error {
    let found = "a model that was trained with activations in i8";
    let fault = Fault::new(CONFIG, found, "activations i8, or none asked for").key(key);
    Error::unsupported(fault.next("leave out --activations f32: the model is defined with i8"))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(config: Value) -> Result<Quantization, Error> {
        let outer = json!({ "quantization_config": config });
        let map = outer.as_object().expect("an object");
        quantization(&mut Fields::new("config.json", map), true, None)
    }

    #[test]
    fn the_scale_rule_follows_class_and_mode() {
        for (config, format, rule) in [
            (json!({}), WeightFormat::HfPacked, ScaleRule::Divides),
            (json!({"linear_class": "bitlinear"}), WeightFormat::HfPacked, ScaleRule::Divides),
            (json!({"linear_class": "autobitlinear"}), WeightFormat::HfPacked, ScaleRule::Multiplies),
            (
                json!({"linear_class": "autobitlinear", "quantization_mode": "online"}),
                WeightFormat::OnlineMaster,
                ScaleRule::Absmean,
            ),
        ] {
            let mut config = config;
            config["quant_method"] = json!("bitnet");
            let got = read(config.clone()).expect("valid");
            assert_eq!((got.format, got.scale_rule), (format, rule), "{config}");
            assert_eq!(got.input_norm_eps, None);
        }
    }

    #[test]
    fn input_norms_have_an_epsilon() {
        let read = |extra: Value| {
            let mut config = json!({"quant_method": "bitnet", "use_rms_norm": true});
            config["rms_norm_eps"] = extra;
            read(config).expect("valid").input_norm_eps
        };
        assert_eq!(read(json!(null)), Some(F32::new(1e-6)));
        assert_eq!(read(json!(1e-5)), Some(F32::new(1e-5)));
    }

    #[test]
    fn everything_else_is_refused() {
        for config in [
            json!(null),
            json!({}),
            json!({"quant_method": "gptq"}),
            json!({"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "online"}),
            json!({"quant_method": "bitnet", "linear_class": "other"}),
            json!({"quant_method": "bitnet", "quantization_mode": "later"}),
            json!({"quant_method": "bitnet", "modules_to_not_convert": ["q_proj"]}),
            json!({"quant_method": "bitnet", "modules_to_not_convert": "lm_head"}),
            json!({"quant_method": "bitnet", "bits": 2}),
            json!({"quant_method": "bitnet", "use_rms_norm": "yes"}),
        ] {
            assert!(read(config.clone()).is_err(), "{config}");
        }
    }
}
