//! Which of its meanings a type id has in a file: proved from the bytes that tensors take.
//!
//! In: all tensors with their spans (from one tensor's first byte to the next's). Out: for each id the one meaning whose size
//! fits every tensor of that id, with the reason as a [`LayoutProof`]; or a refusal that names tensor, id, expected and found
//! bytes. A span is the tensor and less than one alignment of padding. Two meanings of id 42 have the same size; there the
//! bytes decide: scales are numbers that are not negative, and packed weights read as numbers are not.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::error::{Error, Fault};
use super::cursor::DAMAGED;
use super::encoding::Encoding;
use super::header::Info;
use super::meanings::{Meaning, known_ids, meanings, refused};

/// Blocks of a tensor that are looked at to tell where scales are.
const PROBED_BLOCKS: usize = 1024;
/// Fewer blocks than these prove nothing.
const LEAST_PROBED: usize = 16;
/// Of so many blocks one may have an odd scale, such as one next to zero, if there are several times as many.
const ODD_IN_BLOCKS: usize = 64;
/// No scale of a ternary matrix is as large.
const MOST_SCALE: f32 = 1024.0;

/// What a type id means in a file, and how that is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LayoutProof {
    /// The number in the file.
    pub type_id: u32,
    /// Its meaning.
    pub layout: String,
    /// Tensors of that type.
    pub tensors: u64,
    /// Their bytes without padding.
    pub bytes: u64,
    /// Why it can be no other.
    pub proof: String,
    /// What nothing in the file proves.
    pub assumed: Option<String>,
}

/// A tensor, and the file that it lies in.
#[derive(Clone, Copy)]
pub(super) struct Placed<'f> {
    pub(super) file: &'f str,
    pub(super) bytes: &'f [u8],
    pub(super) alignment_bytes: usize,
    pub(super) info: &'f Info,
}

impl Placed<'_> {
    fn span(&self) -> usize {
        self.info.next.saturating_sub(self.info.start)
    }

    /// Whether this tensor, if it is that, fills its span up to padding.
    fn fits(&self, meaning: Meaning) -> bool {
        let padding = meaning.tensor_bytes(&self.info.shape).and_then(|bytes| self.span().checked_sub(bytes));
        padding.is_some_and(|padding| padding < self.alignment_bytes)
    }

    fn fault(&self, found: impl Into<String>, expected: impl Into<String>) -> Fault {
        Fault::new(self.file, found, expected).tensor(self.info.name.as_str()).byte(self.info.start as u64)
    }

    fn found(&self) -> String {
        let Info { shape, type_id, is_last, .. } = self.info;
        let end = if *is_last { "the end of the file" } else { "the next tensor" };
        format!("{} bytes up to {end}, type id {type_id}, shape {shape:?}", self.span())
    }

    fn needed(&self, meaning: Meaning) -> String {
        match meaning.tensor_bytes(&self.info.shape) {
            Some(bytes) => format!("{bytes} as {}", meaning.stored()),
            None => format!("none as {}, whose blocks do not fit the shape", meaning.stored()),
        }
    }
}

/// Proves the meaning of every id in `tensors`.
pub(super) fn prove(tensors: &[Placed<'_>]) -> Result<Vec<(Meaning, LayoutProof)>, Error> {
    let mut by_id: BTreeMap<u32, Vec<Placed<'_>>> = BTreeMap::new();
    for tensor in tensors {
        by_id.entry(tensor.info.type_id).or_default().push(*tensor);
    }
    by_id.into_iter().map(|(id, tensors)| prove_id(id, &tensors)).collect()
}

fn prove_id(type_id: u32, tensors: &[Placed<'_>]) -> Result<(Meaning, LayoutProof), Error> {
    let Some(first) = tensors.first() else { return Err(Error::Bug(format!("no tensor has type id {type_id}"))) };
    let known = meanings(type_id);
    let fitting: Vec<Meaning> =
        known.iter().copied().filter(|meaning| tensors.iter().all(|tensor| tensor.fits(*meaning))).collect();
    let count = tensors.len();
    let (meaning, proof) = match (fitting.as_slice(), known) {
        ([meaning], [_]) => {
            (*meaning, format!("the id has no other meaning, and the bytes of all {count} tensors fit"))
        }
        ([meaning], _) => {
            let others: Vec<String> =
                known.iter().filter(|other| *other != meaning).map(|other| other.stored().to_string()).collect();
            (*meaning, format!("only this size fits all {count} tensors, not that of {}", others.join(", ")))
        }
        ([], _) => return Err(no_fit(type_id, first, tensors)),
        (several, _) => probe(tensors, several)?,
    };
    let bytes = tensors.iter().filter_map(|tensor| meaning.tensor_bytes(&tensor.info.shape)).map(|n| n as u64).sum();
    let layout = meaning.stored().to_string();
    let assumed = assumed(meaning, tensors);
    Ok((meaning, LayoutProof { type_id, layout, tensors: count as u64, bytes, proof, assumed }))
}

/// What is taken for granted of `tensors`: sizes and codes of I2_S are the same in every order.
fn assumed(meaning: Meaning, tensors: &[Placed<'_>]) -> Option<String> {
    let Meaning::Block(Encoding::I2S | Encoding::I2SBare) = meaning else { return None };
    let mut text = "blocks of 128 weights in 32 bytes, as published files have them; quantisers built for ARM (64 in 16 bytes) or \
                    without ACT_PARALLEL (four rows to a byte) write as many bytes, and nothing in the file tells them apart"
        .to_owned();
    let odd = tensors.iter().find_map(|tensor| tensor.info.shape.last().filter(|cols| !cols.is_multiple_of(128)));
    if let Some(cols) = odd {
        text.push_str(&format!("; rows of {cols} begin within blocks"));
    }
    Some(text)
}

/// No meaning fits all tensors.
fn no_fit(type_id: u32, first: &Placed<'_>, tensors: &[Placed<'_>]) -> Error {
    let known = meanings(type_id);
    if let Some((name, advice)) = refused(type_id) {
        let expected = "a type whose layout the file tells";
        return Error::unsupported(first.fault(format!("type id {type_id}, {name}"), expected).next(advice));
    }
    if known.is_empty() {
        let expected = format!("one of the ids {}", known_ids());
        let fault =
            first.fault(format!("type id {type_id}, {} bytes, shape {:?}", first.span(), first.info.shape), expected);
        return Error::unsupported(
            fault.next("take a file of the same model in a type that tern knows, such as TQ2_0"),
        );
    }
    // The one that no meaning fits, or that contradicts most of the others.
    if let Some(alone) = tensors.iter().find(|tensor| !known.iter().any(|meaning| tensor.fits(*meaning))) {
        let needed: Vec<String> = known.iter().map(|meaning| alone.needed(*meaning)).collect();
        let expected = format!("one of the sizes {}", needed.join("; "));
        return Error::input(alone.fault(alone.found(), expected).next(DAMAGED));
    }
    let fitting = |meaning: Meaning| tensors.iter().filter(|tensor| tensor.fits(meaning)).count();
    // Of as many, the first: what the first tensors of a file are is what the file was written for.
    let most = known.iter().copied().rev().max_by_key(|meaning| fitting(*meaning));
    let odd = most.and_then(|most| Some((most, tensors.iter().find(|tensor| !tensor.fits(most))?)));
    let Some((most, odd)) = odd else { return Error::Bug(format!("type id {type_id} fits and does not")) };
    let expected =
        format!("{}, as {} of the {} tensors of this id are", odd.needed(most), fitting(most), tensors.len());
    let is: Vec<String> =
        known.iter().filter(|other| odd.fits(**other)).map(|other| other.stored().to_string()).collect();
    let found = format!("{}, which fits {}", odd.found(), is.join(" or "));
    Error::unsupported(odd.fault(found, expected).next(
        "tensors of this id fit different meanings, so none is certain: take a file of the same model in another type",
    ))
}

/// Chooses among meanings of the same size by what the bytes say.
fn probe(tensors: &[Placed<'_>], fitting: &[Meaning]) -> Result<(Meaning, String), Error> {
    let Some(first) = tensors.first() else { return Err(Error::Bug("nothing to look at".to_owned())) };
    let names: BTreeSet<String> = fitting.iter().map(|meaning| meaning.stored().to_string()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(" or ");
    let twins = fitting.iter().all(|m| matches!(m, Meaning::Block(Encoding::Pq2_0 | Encoding::Tq2_0G128)));
    let counts: Vec<Counts> =
        if twins { tensors.iter().map(Counts::of).collect() } else { vec![Counts::default(); tensors.len()] };
    let all = counts.iter().fold(Counts::default(), |sum, one| sum.and(*one));
    let front = (Meaning::Block(Encoding::Pq2_0), all.front, "first");
    let back = (Meaning::Block(Encoding::Tq2_0G128), all.back, "last");
    for ((meaning, mine, place), (_, others, _)) in [(front, back), (back, front)] {
        if twins && decides(mine, others, all.blocks) {
            let but = match all.blocks.saturating_sub(mine) {
                0 => String::new(),
                odd => format!(" but {odd}"),
            };
            let proof = format!(
                "{names} have the same size; the {place} two bytes of all{but} of {} blocks that were looked at are a scale, at \
                 the other end of {} they are not",
                all.blocks,
                all.blocks.saturating_sub(others)
            );
            return Ok((meaning, proof));
        }
    }
    let (found, expected, worst) = if !twins {
        let expected =
            format!("tensors so large that their sizes as {names} differ by more than the padding behind them");
        (first.found(), expected, first)
    } else if all.blocks < LEAST_PROBED {
        let found = format!("{}: in all tensors of this id {} blocks that are not all zero", first.found(), all.blocks);
        (found, format!("{LEAST_PROBED} such blocks or more, to tell {names} by where their scales are"), first)
    } else {
        // The one that contradicts what most of them say; if none does, scales may be at both ends.
        let odd_of = |counts: &Counts| {
            counts.blocks.saturating_sub(if all.front >= all.back { counts.front } else { counts.back })
        };
        let worst = tensors.iter().zip(&counts).max_by_key(|(_, counts)| odd_of(counts));
        let (worst, counts) = worst.map_or((first, Counts::default()), |(tensor, counts)| (tensor, *counts));
        let found = format!(
            "{}: of {} blocks {} begin and {} end with what may be a scale",
            worst.found(),
            counts.blocks,
            counts.front,
            counts.back
        );
        let expected = format!(
            "scales at one end of all blocks and not at the other, to tell PQ2_0 (in front) and TQ2_0_g128 (behind) apart; of \
             all {} blocks of this id {} begin and {} end with one",
            all.blocks, all.front, all.back
        );
        (found, expected, worst)
    };
    let fault = worst.fault(found, expected);
    Err(Error::unsupported(
        fault.next("which of them it is cannot be known: take a file of the same model in another type"),
    ))
}

/// Whether `mine` of `blocks` may have their scale at one end, and only `others` at the other, beyond doubt.
fn decides(mine: usize, others: usize, blocks: usize) -> bool {
    let odd = blocks.saturating_sub(mine);
    let few = blocks >= ODD_IN_BLOCKS.saturating_mul(4) && odd.saturating_mul(ODD_IN_BLOCKS) <= blocks;
    let clear = others.saturating_mul(8) <= blocks.saturating_mul(7);
    blocks >= LEAST_PROBED && ((odd == 0 && others < blocks) || (few && clear))
}

/// Blocks of 34 bytes that were looked at.
#[derive(Clone, Copy, Default)]
struct Counts {
    blocks: usize,
    /// Those that may begin with a scale.
    front: usize,
    /// Those that may end with one.
    back: usize,
}

impl Counts {
    fn of(tensor: &Placed<'_>) -> Self {
        let mut counts = Self::default();
        let bytes = tensor.bytes.get(tensor.info.start..tensor.info.next).unwrap_or_default();
        for block in bytes.as_chunks::<34>().0.iter().take(PROBED_BLOCKS) {
            // A block of zero bytes says nothing.
            if block.iter().all(|byte| *byte == 0) {
                continue;
            }
            let [a, b, .., y, z] = *block;
            let one = |holds: bool| usize::from(holds);
            counts = counts.and(Self { blocks: 1, front: one(may_be_scale([a, b])), back: one(may_be_scale([y, z])) });
        }
        counts
    }

    fn and(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.saturating_add(other.blocks),
            front: self.front.saturating_add(other.front),
            back: self.back.saturating_add(other.back),
        }
    }
}

/// Zero, or a positive number that is neither tiny nor large.
fn may_be_scale(bytes: [u8; 2]) -> bool {
    let half = half::f16::from_le_bytes(bytes);
    let is_normal = half.is_normal() && half.is_sign_positive() && half.to_f32() <= MOST_SCALE;
    is_normal || half.to_bits() == 0
}
