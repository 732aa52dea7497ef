//! What embedding models have that language models have not: a pooled result, the token that ends every text, windows.
//!
//! In: `modules.json` and `1_Pooling/config.json`, where there are such; the configuration; the rotary embeddings of Gemma 3. Out: whether the last
//! token's state is what the model gives, the token to append, a [`Window`]. Upholds: a model that pools otherwise, or does not say
//! how, is refused: an embedding that is made another way looks like any other.
//!
//! Sources: UKPLab/sentence-transformers, `models/Pooling.py`, `SentenceTransformer.py` (modules.json); microsoft/BitNet, `utils/convert-bitnet-embedding-to-gguf.py` and
//! `docs/bitnet-embeddings-i2s-guide.md` (a norm in front of each projection, last-token pooling, L2; `<|endoftext|>` is appended,
//! whatever the configuration calls EOS).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::Deserialize;

use super::config::{Architecture, Config};
use super::error::Error;
use super::fields::{Fields, parse_object};
use super::rope::{rope_of, rope_spec};
use crate::checkpoint::{Checkpoint, Fault};
use crate::graph::{F32, RopeSpec};

/// The file that says how a model pools.
const POOLING: &str = "1_Pooling/config.json";
/// The file that lists what comes one behind the other.
const MODULES: &str = "modules.json";
/// The module that makes states of tokens.
const TRANSFORMER: &str = "Transformer";
/// The module that makes one state of all, and its folder.
const POOLS: &str = "Pooling";
const POOLING_FOLDER: &str = "1_Pooling";
/// The module that brings an embedding to length 1.
const NORMALIZE: &str = "Normalize";
/// The one way that is implemented.
const LAST_TOKEN: &str = "pooling_mode_lasttoken";
/// Qwen's `<|im_end|>`, which its configurations call EOS, and `<|endoftext|>`, which ends a text that is embedded.
const QWEN_IM_END: u32 = 151_645;
const QWEN_END_OF_TEXT: u32 = 151_643;

/// Names, in the files, of a norm in front of a projection: of models whose tensors have `model.` in front, and of others.
pub(super) const INPUT_NORMS: [&str; 2] =
    ["model.layers.0.self_attn.q_proj.norm.weight", "layers.0.self_attn.q_proj.norm.weight"];

/// The embedding table of the latter.
pub(super) const BARE_EMBED: &str = "embed_tokens.weight";

/// Layers whose attention sees only the last positions, and rotates by frequencies of its own.
///
/// A context of at most `positions` is the same with and without the window: no longer one is prepared.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Window {
    /// Positions that a token of such a layer sees, its own included.
    pub(super) positions: u32,
    /// By layer: whether it is one.
    pub(super) layers: Vec<bool>,
    /// Their rotary embedding.
    pub(super) rope: RopeSpec,
}

/// What sentence-transformers does one behind the other: a list of objects, whose `type` ends in what a module is.
///
/// # Errors
/// Input: it is no such list. Unsupported: a module that changes the result in a way that tern does not.
pub(super) fn check_modules(checkpoint: &Checkpoint) -> Result<(), Error> {
    let Some(text) = checkpoint.modules_json() else { return Ok(()) };
    let expected = "a list of modules, each with a type";
    let Some(modules) = modules(text) else {
        return Err(Error::input(Fault::new(MODULES, "something else", expected).next("fetch the file again")));
    };
    let kinds: Vec<&str> = modules.iter().map(|module| module.kind.as_str()).collect();
    for Module { kind, path } in &modules {
        match kind.as_str() {
            TRANSFORMER if path.is_empty() => {}
            NORMALIZE => {}
            POOLS if path.trim_end_matches('/') == POOLING_FOLDER && checkpoint.pooling_json().is_some() => {}
            POOLS => {
                let expected = format!("one in {POOLING_FOLDER}, with its config.json");
                let fault = Fault::new(MODULES, format!("a module {POOLS} in {path:?}"), expected);
                return Err(Error::unsupported(fault.next("fetch the folder too")));
            }
            other => {
                let expected = "Transformer (in no folder), Pooling and Normalize of sentence_transformers alone";
                let advice = "what this module does to an embedding is not implemented";
                return Err(Error::unsupported(
                    Fault::new(MODULES, format!("a module {other:?}"), expected).next(advice),
                ));
            }
        }
    }
    if !matches!(kinds.as_slice(), [TRANSFORMER, POOLS] | [TRANSFORMER, POOLS, NORMALIZE]) {
        let fault = Fault::new(MODULES, kinds.join(", "), "Transformer, Pooling, then Normalize or nothing");
        return Err(Error::unsupported(fault.next("what other orders give is not implemented")));
    }
    Ok(())
}

/// Whether the files say how states become an embedding: then the model embeds texts, whatever its class is called.
pub(super) fn pools(checkpoint: &Checkpoint) -> bool {
    let modules = checkpoint.modules_json().and_then(modules).unwrap_or_default();
    checkpoint.pooling_json().is_some() || modules.iter().any(|module| module.kind == POOLS)
}

/// What is to be said of a model whose modules leave embeddings as long as they are.
pub(super) fn normalised_all_the_same(checkpoint: &Checkpoint) -> Option<String> {
    let modules = modules(checkpoint.modules_json()?)?;
    let is_normalised = modules.iter().any(|module| module.kind == NORMALIZE);
    (!is_normalised)
        .then(|| format!("{MODULES} has no module {NORMALIZE}: embeddings are brought to length 1 all the same"))
}

/// The modules in their order, by the last parts of their types; `None` of what is no list of modules.
fn modules(text: &[u8]) -> Option<Vec<Module>> {
    let mut modules: Vec<Module> = serde_json::from_slice(text).ok()?;
    for module in &mut modules {
        // A class of somebody else's keeps its whole name.
        if let Some(name) = module.kind.strip_prefix("sentence_transformers.") {
            module.kind = name.rsplit('.').next().unwrap_or_default().to_owned();
        }
    }
    Some(modules)
}

/// One of the modules.
#[derive(Deserialize)]
struct Module {
    /// `sentence_transformers.models.Pooling`, say.
    #[serde(rename = "type")]
    kind: String,
    /// Its folder.
    #[serde(default)]
    path: String,
}

/// Refuses a model that does not give the last token's state.
pub(super) fn check_pooling(checkpoint: &Checkpoint, config: &Config) -> Result<(), Error> {
    let Some(text) = checkpoint.pooling_json() else {
        if config.quantization.input_norm_eps.is_some() {
            return Ok(());
        }
        let fault = Fault::new(POOLING, "no such file", format!("{LAST_TOKEN} true"));
        let advice = "nothing says which states an embedding is made of: fetch the folder 1_Pooling too";
        return Err(Error::unsupported(fault.next(advice)));
    };
    let map = parse_object(POOLING, text)?;
    let mut fields = Fields::new(POOLING, &map);
    if fields.boolean(LAST_TOKEN)? != Some(true) {
        let fault = fields.fault(LAST_TOKEN, "true");
        return Err(Error::unsupported(fault.next("tern pools the last token's state only")));
    }
    for key in map.keys().filter(|key| key.starts_with("pooling_mode_") && *key != LAST_TOKEN) {
        if fields.boolean(key)? == Some(true) {
            let fault = fields.fault(key, "false, beside the last token's state");
            return Err(Error::unsupported(fault.next("tern pools the last token's state only")));
        }
    }
    if !matches!(fields.text("pooling_mode")?, None | Some("lasttoken")) {
        let fault = fields.fault("pooling_mode", "\"lasttoken\", as pooling_mode_lasttoken has it");
        return Err(Error::unsupported(fault.next("tern pools the last token's state only")));
    }
    let elems = fields.u32("word_embedding_dimension", 0..=u32::MAX)?;
    if elems.is_some_and(|elems| elems != config.hidden) {
        let expected = format!("{}, the hidden size", config.hidden);
        return Err(Error::input(fields.fault("word_embedding_dimension", expected)));
    }
    Ok(())
}

/// The token that is appended to every text, given those that the configuration calls EOS.
pub(super) fn end(config: &Config, eos: &[u32]) -> Result<u32, Error> {
    let is_qwen = config.architecture == Architecture::Qwen3Embedding && config.vocab > QWEN_IM_END;
    if is_qwen && eos.iter().any(|id| matches!(*id, QWEN_IM_END | QWEN_END_OF_TEXT)) {
        return Ok(QWEN_END_OF_TEXT);
    }
    match eos {
        [one] => Ok(*one),
        found => {
            let found = format!("{} tokens that end a text", found.len());
            let fault =
                Fault::new(config.source.as_str(), found, "one, which is appended to every text that is embedded");
            Err(Error::unsupported(fault.key("eos_token_id")))
        }
    }
}

/// The rotary embedding of the layers that see everything, and the window of the others, of a Gemma 3 of so many `layers`.
pub(super) fn gemma3(fields: &mut Fields<'_>, layers: u32, trained: u32) -> Result<(RopeSpec, Option<Window>), Error> {
    let (rope, local) = ropes(fields, trained)?;
    let size = fields.u32("sliding_window", 1..=u32::MAX)?;
    let local_layers = local_layers(fields, layers)?;
    let window = match (size, local_layers) {
        (_, Some(layers)) if !layers.contains(&true) => None,
        (Some(positions), Some(layers)) => Some(Window { positions, layers, rope: local }),
        // The class has a window of its own.
        (_, None) => return Err(fields.missing("layer_types", "which layers see a window only")),
        (None, Some(_)) => return Err(fields.missing("sliding_window", "the positions that a window has")),
    };
    Ok((rope, window))
}

/// Of layers that see everything, and of those that see a window.
fn ropes(fields: &mut Fields<'_>, trained: u32) -> Result<(RopeSpec, RopeSpec), Error> {
    if let Some(mut both) = fields.object("rope_parameters")? {
        let (full, sliding) = (both.object("full_attention")?, both.object("sliding_attention")?);
        if let (Some(mut full), Some(mut sliding)) = (full, sliding) {
            if fields.get("rope_scaling").is_some() {
                return Err(Error::input(fields.fault("rope_scaling", "no such key beside rope_parameters")));
            }
            let ropes = (rope_of(&mut full, None, trained)?, rope_of(&mut sliding, None, trained)?);
            both.refuse_unread()?;
            return Ok(ropes);
        }
    }
    // The class has other defaults in every version: the file must say.
    if fields.positive("rope_theta")?.is_none() {
        return Err(fields.missing("rope_theta", "the base of the rotary embedding"));
    }
    let rope = rope_spec(fields, 0.0, trained)?;
    let local = fields.need_positive("rope_local_base_freq")?;
    Ok((rope, RopeSpec { theta: local, scaling: crate::graph::RopeScaling::None }))
}

/// By layer, whether it sees a window only; `None` if the file does not say.
fn local_layers(fields: &mut Fields<'_>, layers: u32) -> Result<Option<Vec<bool>>, Error> {
    let mut pattern = None;
    for key in ["sliding_window_pattern", "_sliding_window_pattern"] {
        pattern = pattern.or(fields.u32(key, 1..=u32::MAX)?);
    }
    let by_pattern = pattern.map(|pattern| every(pattern, layers));
    let Some(types) = fields.list("layer_types")? else { return Ok(by_pattern) };
    let expected = || format!("a list of {layers}, each \"sliding_attention\" or \"full_attention\"");
    let listed = types.iter().map(|kind| match kind.as_str() {
        Some("sliding_attention") => Some(true),
        Some("full_attention") => Some(false),
        _ => None,
    });
    let listed = listed.collect::<Option<Vec<bool>>>().filter(|listed| listed.len() == layers as usize);
    let listed = listed.ok_or_else(|| Error::unsupported(fields.fault("layer_types", expected())))?;
    if by_pattern.is_some_and(|by_pattern| by_pattern != listed) {
        return Err(Error::input(fields.fault("layer_types", "what sliding_window_pattern says")));
    }
    Ok(Some(listed))
}

/// Every layer but each `pattern`th.
pub(super) fn every(pattern: u32, layers: u32) -> Vec<bool> {
    (1..=layers).map(|layer| !layer.is_multiple_of(pattern)).collect()
}

/// 1 / sqrt(query_pre_attn_scalar).
pub(super) fn scale_of(scalar: F32) -> F32 {
    F32::new((1.0 / f64::from(scalar.get()).sqrt()) as f32)
}

/// The square root of `hidden`, which multiplies the rows of Gemma's embedding table.
pub(super) fn embedding_scale(hidden: u32) -> F32 {
    F32::new(f64::from(hidden).sqrt() as f32)
}

/// Keys of Gemma's configurations that are read here, and not refused by what reads those of others.
pub(super) const GEMMA3_KEYS: &[&str] = &["query_pre_attn_scalar", "sliding_window", "layer_types"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(config: Value) -> Result<(RopeSpec, Option<Window>), Error> {
        let map = config.as_object().expect("an object");
        gemma3(&mut Fields::new("config.json", map), 4, 128)
    }

    #[test]
    fn windows_are_read_in_both_notations() {
        let old =
            json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 64, "sliding_window_pattern": 3});
        let new = json!({"sliding_window": 64,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}});
        let (rope, window) = read(old.clone()).expect("valid");
        assert_eq!(rope.theta.get(), 1e6);
        let window = window.expect("a window");
        assert_eq!((window.positions, window.rope.theta.get()), (64, 1e4));
        assert_eq!(window.layers, [true, true, false, true]);
        assert_eq!(read(new).expect("valid").1, Some(window));

        let mut contradictory = old;
        let types = json!(["full_attention", "full_attention", "full_attention", "sliding_attention"]);
        contradictory.as_object_mut().expect("an object").insert("layer_types".to_owned(), types);
        assert!(read(contradictory).is_err());
    }

    #[test]
    fn what_is_left_open_is_refused() {
        for config in [
            json!({"rope_theta": 1e6, "sliding_window": 64, "sliding_window_pattern": 3}),
            json!({"rope_local_base_freq": 1e4, "sliding_window": 64, "sliding_window_pattern": 3}),
            json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 64}),
            json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 3}),
            json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 64, "layer_types": ["chunked"]}),
        ] {
            assert!(read(config.clone()).is_err(), "{config}");
        }
        let full = json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 64,
            "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"]});
        assert_eq!(read(full).expect("no layer has a window").1, None);
    }
}
