//! What the numbers of GGUF types mean, in all dialects.
//!
//! In: a type id. Out: every [`Meaning`] that some program gave it. Where there are several, sizes decide ([`super::layout`]).
//!
//! Sources: ggml-org/llama.cpp `ggml/include/ggml.h` and `gguf-py/gguf/constants.py`; microsoft/BitNet's and PrismML's forks
//! of it; ikawrakow/ik_llama.cpp `ggml/include/ggml.h`; llama.cpp pull request 22836.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use safetensors::Dtype;

use super::super::tensor::StoredType;
use super::encoding::{Encoding, Geometry, Undecoded};

/// One meaning of an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// Elements one after another, so many bytes each.
    Plain(StoredType, usize),
    /// Blocks.
    Block(Encoding),
}

impl Meaning {
    pub(super) fn stored(self) -> StoredType {
        match self {
            Meaning::Plain(stored, _) => stored,
            Meaning::Block(encoding) => StoredType::Block(encoding),
        }
    }

    /// Bytes of a tensor of `shape`, if there can be one.
    pub(super) fn tensor_bytes(self, shape: &[usize]) -> Option<usize> {
        match self {
            Meaning::Plain(_, elem_bytes) => Geometry::plain(1, elem_bytes).tensor_bytes(shape),
            Meaning::Block(encoding) => encoding.geometry().tensor_bytes(shape),
        }
    }
}

const fn other(name: &'static str, block_elems: u16, block_bytes: u16) -> Meaning {
    headed(name, block_elems, block_bytes, 0)
}

const fn headed(name: &'static str, block_elems: u16, block_bytes: u16, head_bytes: u16) -> Meaning {
    Meaning::Block(Encoding::Undecoded(Undecoded { name, block_elems, block_bytes, head_bytes }))
}

const fn number(dtype: Dtype, bytes: usize) -> Meaning {
    Meaning::Plain(StoredType::Other(dtype), bytes)
}

/// Every id with its meanings. 37 (I8_S) and 38 (TL1) are missing, and 39 is MXFP4 alone and not TL2: [`refused`] has those.
#[rustfmt::skip]
const MEANINGS: &[(u32, &[Meaning])] = &[
    (0,   &[Meaning::Plain(StoredType::F32, 4)]),
    (1,   &[Meaning::Plain(StoredType::F16, 2)]),
    (2,   &[Meaning::Block(Encoding::Q4_0)]),
    (3,   &[Meaning::Block(Encoding::Q4_1)]),
    (6,   &[Meaning::Block(Encoding::Q5_0)]),
    (7,   &[Meaning::Block(Encoding::Q5_1)]),
    (8,   &[Meaning::Block(Encoding::Q8_0)]),
    (9,   &[other("Q8_1", 32, 36)]),
    (10,  &[Meaning::Block(Encoding::Q2K)]),
    (11,  &[Meaning::Block(Encoding::Q3K)]),
    (12,  &[Meaning::Block(Encoding::Q4K)]),
    (13,  &[Meaning::Block(Encoding::Q5K)]),
    (14,  &[Meaning::Block(Encoding::Q6K)]),
    (15,  &[other("Q8_K", 256, 292)]),
    (16,  &[other("IQ2_XXS", 256, 66)]),
    (17,  &[other("IQ2_XS", 256, 74)]),
    (18,  &[other("IQ3_XXS", 256, 98)]),
    (19,  &[other("IQ1_S", 256, 50)]),
    (20,  &[Meaning::Block(Encoding::Iq4Nl)]),
    (21,  &[other("IQ3_S", 256, 110)]),
    (22,  &[other("IQ2_S", 256, 82)]),
    (23,  &[other("IQ4_XS", 256, 136)]),
    (24,  &[number(Dtype::I8, 1)]),
    (25,  &[number(Dtype::I16, 2)]),
    (26,  &[number(Dtype::I32, 4)]),
    (27,  &[number(Dtype::I64, 8)]),
    (28,  &[number(Dtype::F64, 8)]),
    (29,  &[other("IQ1_M", 256, 56)]),
    (30,  &[Meaning::Plain(StoredType::Bf16, 2)]),
    (31,  &[other("Q4_0_4_4", 32, 18)]),
    (32,  &[other("Q4_0_4_8", 32, 18)]),
    (33,  &[other("Q4_0_8_8", 32, 18)]),
    (34,  &[Meaning::Block(Encoding::Tq1_0)]),
    (35,  &[Meaning::Block(Encoding::Tq2_0)]),
    (36,  &[Meaning::Block(Encoding::I2S), Meaning::Block(Encoding::I2SBare), other("IQ4_NL_4_4", 32, 18)]),
    (39,  &[other("MXFP4", 32, 17)]),
    (40,  &[other("NVFP4", 64, 36)]),
    (41,  &[Meaning::Block(Encoding::Q1_0)]),
    (42,  &[Meaning::Block(Encoding::Q2_0), Meaning::Block(Encoding::Pq2_0), Meaning::Block(Encoding::Tq2_0G128),
            Meaning::Block(Encoding::Stq1_0)]),
    (43,  &[Meaning::Block(Encoding::Stq1_0)]),
    (134, &[Meaning::Block(Encoding::Iq1Bn)]),
    (135, &[Meaning::Block(Encoding::Iq2Bn)]),
    (142, &[Meaning::Block(Encoding::Pq2_0), headed("IQ1_TN", 64, 13, 2)]),
    (143, &[Meaning::Block(Encoding::Ptq1_0), headed("IQ2_TN", 256, 64, 4)]),
    (335, &[Meaning::Block(Encoding::Iq2BnR4)]),
];

/// The meanings of `id`; none if it is not known.
pub(super) fn meanings(id: u32) -> &'static [Meaning] {
    MEANINGS.iter().find(|(known, _)| *known == id).map_or(&[], |(_, meanings)| meanings)
}

/// Ids that are known, for messages.
pub(super) fn known_ids() -> String {
    let ids: Vec<String> = MEANINGS.iter().map(|(id, _)| id.to_string()).collect();
    ids.join(", ")
}

/// Of an id that has a meaning which is never read: its name, and what to do.
pub(super) fn refused(id: u32) -> Option<(&'static str, &'static str)> {
    const TILES: &str = "its order of weights follows a tile size that the file does not hold: take the safetensors files, \
                         or an I2_S or TQ2_0 file of the same model";
    match id {
        37 => {
            Some(("I8_S of microsoft/BitNet or a retired IQ4_NL_4_8", "take an I2_S or TQ2_0 file of the same model"))
        }
        38 => Some(("TL1 of microsoft/BitNet or a retired IQ4_NL_8_8", TILES)),
        39 => Some(("TL2 of microsoft/BitNet", TILES)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_there_once_and_their_meanings_differ_in_size() {
        let mut seen = std::collections::BTreeSet::new();
        for (id, meanings) in MEANINGS {
            assert!(seen.insert(id), "{id} is there twice");
            let sizes: std::collections::BTreeSet<_> =
                meanings.iter().map(|meaning| meaning.tensor_bytes(&[64, 2048])).collect();
            // Scale in front or behind: the same size, told apart by the bytes.
            let twins = usize::from(*id == 42);
            assert_eq!(sizes.len() + twins, meanings.len(), "{id}");
            assert!(!sizes.contains(&None), "{id}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_formats() {
        let bytes = |encoding: Encoding, shape: &[usize]| Meaning::Block(encoding).tensor_bytes(shape);
        assert_eq!(bytes(Encoding::Tq1_0, &[3, 512]), Some(3 * 2 * 54));
        assert_eq!(bytes(Encoding::I2S, &[320, 320]), Some(320 * 320 / 4 + 32));
        assert_eq!(bytes(Encoding::I2S, &[3, 100]), None, "300 weights are no whole blocks");
        assert_eq!(bytes(Encoding::Iq1Bn, &[5, 128]), Some(5 * (2 + 26)));
        assert_eq!(bytes(Encoding::Iq2BnR4, &[8, 64]), Some(8 * 20));
        assert_eq!(bytes(Encoding::Iq2BnR4, &[6, 64]), None, "rows come in fours");
        assert_eq!(bytes(Encoding::Q8_0, &[2, 33]), None, "a row is whole blocks");
        assert_eq!(bytes(Encoding::Q6K, &[usize::MAX, 256]), None, "nothing overflows");
    }
}
