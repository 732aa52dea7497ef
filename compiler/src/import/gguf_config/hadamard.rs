//! Rotations by Hadamard matrices that a GGUF file asks for: `prism.hadamard.*`.
//!
//! In: these keys. Out: a [`Hadamard`], or a refusal of whatever it does not understand, for a model without its rotations talks
//! nonsense. A listed weight wants x' = H (s * x) / sqrt(B) of every B inputs; rows of an inversely listed embedding are
//! s * (H z / sqrt(B)).
//!
//! Upholds: every listed tensor is there and one of those that are rotated here; signs are 1 or -1, one for each input of each width.
//!
//! Source: PrismML-Eng/llama.cpp, `src/llama-model.cpp`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::error::Error;
use super::{EMBED, HEAD};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::Metadata;

pub(super) const PREFIX: &str = "prism.hadamard.";
const BLOCK: &str = "prism.hadamard.block_size";
const SIGN_MODE: &str = "prism.hadamard.sign_mode";
const WIDTHS: &str = "prism.hadamard.sign_widths";
const VALUES: &str = "prism.hadamard.sign_values";
const NAMES: &str = "prism.hadamard.weight_names";
const GROUPED: &str = "prism.hadamard.gdn_v_grouped";
const INVERSE: &str = "prism.hadamard.inverse_weight_names";
/// Keys that are read here, with that of another layer's order, which no tensor of these models has.
const KNOWN: [&str; 10] = [
    "prism.hadamard.version",
    "prism.hadamard.transform",
    "prism.hadamard.axis",
    GROUPED,
    BLOCK,
    SIGN_MODE,
    WIDTHS,
    VALUES,
    NAMES,
    INVERSE,
];
/// Blocks that there are kernels for.
const MIN_BLOCK: u32 = 16;
const MAX_BLOCK: u32 = 1 << 16;
/// Matrices of a layer whose inputs may be rotated.
const ROTATED: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
const ADVICE: &str =
    "a model whose rotations are misread talks nonsense, so this one is refused: take a file without them";

/// Signs by the width of the rows that they are for.
pub(in super::super) type Signs = BTreeMap<u32, Vec<f32>>;

/// What is to be rotated.
#[derive(Clone, Debug)]
pub(in super::super) struct Hadamard {
    /// Elements of a block.
    pub(in super::super) block: u32,
    /// The file's names of matrices whose inputs are rotated.
    weights: BTreeSet<String>,
    /// Whether rows of the embedding are rotated back.
    embedding: bool,
    /// `None`: all are 1.
    pub(in super::super) signs: Option<Arc<Signs>>,
}

impl Hadamard {
    /// Whether the inputs of the matrix that the file calls `name` are rotated.
    pub(in super::super) fn rotates(&self, name: &str) -> bool {
        self.weights.contains(name)
    }

    /// Whether rows of the embedding are rotated back.
    pub(in super::super) fn restores_embedding(&self) -> bool {
        self.embedding
    }
}

/// What the file asks for; `None` without such keys.
pub(super) fn hadamard(checkpoint: &Checkpoint, metadata: &Metadata) -> Result<Option<Hadamard>, Error> {
    let mut keys = metadata.pairs().map(|(key, _)| key).filter(|key| key.starts_with(PREFIX)).peekable();
    if keys.peek().is_none() {
        return Ok(None);
    }
    let refused = |key: &str, expected: String| Error::unsupported(metadata.fault(key, expected).next(ADVICE));
    if let Some(key) = keys.find(|key| !KNOWN.contains(key)) {
        return Err(refused(key, "a key of version 1 of these rotations".to_owned()));
    }
    if metadata.u32("prism.hadamard.version")? != Some(1) {
        return Err(refused("prism.hadamard.version", "1".to_owned()));
    }
    for (key, only) in [
        ("prism.hadamard.transform", "normalized-sylvester-walsh-hadamard"),
        ("prism.hadamard.axis", "input-last-dimension"),
    ] {
        if metadata.str(key)? != Some(only) {
            return Err(refused(key, format!("{only:?}")));
        }
    }
    let block = metadata.u32(BLOCK)?.filter(|b| b.is_power_of_two() && (MIN_BLOCK..=MAX_BLOCK).contains(b));
    let Some(block) = block else {
        return Err(refused(BLOCK, format!("a power of two from {MIN_BLOCK} to {MAX_BLOCK}")));
    };
    let signs = match metadata.str(SIGN_MODE)? {
        Some("identity") => {
            if let Some(key) = [WIDTHS, VALUES].into_iter().find(|key| metadata.get(key).is_some()) {
                return Err(refused(key, "no such key beside sign_mode \"identity\"".to_owned()));
            }
            None
        }
        Some("explicit") => Some(Arc::new(explicit(metadata, block)?)),
        _ => return Err(refused(SIGN_MODE, "\"identity\" or \"explicit\"".to_owned())),
    };
    let names = |key: &str| -> Result<BTreeSet<String>, Error> {
        let listed = metadata.strings(key)?.into_iter().flat_map(|names| names.iter().map(str::to_owned)).collect();
        Ok(listed)
    };
    let (weights, inverse) = (names(NAMES)?, names(INVERSE)?);
    if weights.is_empty() {
        return Err(refused(NAMES, "the names of the weights whose inputs are rotated".to_owned()));
    }
    // Of a layer that these models have not; of another type it means another thing.
    metadata.bool(GROUPED)?;
    for (key, all, known) in
        [(NAMES, &weights, is_rotated as fn(&str) -> bool), (INVERSE, &inverse, |name: &str| name == EMBED)]
    {
        for name in all {
            let expected = if !known(name) {
                "names of tensors that tern rotates: projections and the head, and back the embedding"
            } else if checkpoint.tensor(name).is_none() {
                "names of tensors that are there"
            } else {
                continue;
            };
            let mut fault = metadata.fault(key, expected);
            fault.found = format!("{name:?}");
            return Err(Error::unsupported(fault.next(ADVICE)));
        }
    }
    let embedding = inverse.contains(EMBED);
    if embedding && checkpoint.tensor(HEAD).is_none() {
        // The same table is then read from its other side, and these keys say nothing about that.
        return Err(refused(INVERSE, format!("a head of its own, {HEAD}, beside a rotated embedding")));
    }
    Ok(Some(Hadamard { block, weights, embedding, signs }))
}

/// Whether tern rotates the inputs of the matrix `name`.
fn is_rotated(name: &str) -> bool {
    let part = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(_, part)| part);
    name == HEAD || part.and_then(|part| part.strip_suffix(".weight")).is_some_and(|part| ROTATED.contains(&part))
}

/// The signs of every width.
fn explicit(metadata: &Metadata, block: u32) -> Result<Signs, Error> {
    let numbers = |key: &str| match metadata.i32s(key)? {
        Some(numbers) => Ok(numbers),
        None => Err(Error::input(metadata.fault(key, "an array, as sign_mode \"explicit\" means").next(ADVICE))),
    };
    let (widths, values) = (numbers(WIDTHS)?, numbers(VALUES)?);
    let mut left: &[i32] = &values;
    let mut signs = Signs::new();
    for width in widths.iter() {
        let known = u32::try_from(*width).ok().filter(|width| *width > 0 && width.is_multiple_of(block));
        let Some((width, (these, rest))) = known.and_then(|w| Some((w, left.split_at_checked(w as usize)?))) else {
            let expected = format!("multiples of {block}, of which {VALUES} has a sign for each element");
            let mut fault = metadata.fault(WIDTHS, expected);
            fault.found = format!("{width}, with {} signs left", left.len());
            return Err(Error::input(fault.next(ADVICE)));
        };
        if these.iter().any(|sign| !matches!(sign, 1 | -1)) {
            let mut fault = metadata.fault(VALUES, "1 and -1 alone");
            fault.found = format!("another number among the signs of width {width}");
            return Err(Error::input(fault.next(ADVICE)));
        }
        if signs.insert(width, these.iter().map(|sign| *sign as f32).collect()).is_some() {
            return Err(Error::input(metadata.fault(WIDTHS, "every width once").next(ADVICE)));
        }
        left = rest;
    }
    if !left.is_empty() {
        let mut fault = metadata.fault(VALUES, format!("as many signs as {WIDTHS} says"));
        fault.found = format!("{} more", left.len());
        return Err(Error::input(fault.next(ADVICE)));
    }
    Ok(signs)
}
