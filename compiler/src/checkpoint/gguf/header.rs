//! The header of one GGUF file: version, counts, metadata, and where each tensor lies.
//!
//! In: the bytes of a file. Out: a [`Header`]: tensors in the order of their bytes, each with the span up to the next. Upholds:
//! every tensor begins inside the file at a multiple of the alignment, none begins where another does, and no name is there
//! twice. What a span must hold is decided later, over all tensors of a type ([`super::layout`]).
//!
//! Source of the layout: ggml-org/ggml, `docs/gguf.md`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;

use super::super::error::{Error, Fault};
use super::cursor::{Cursor, DAMAGED};
use super::metadata::Metadata;

/// The first bytes of a file.
pub(in super::super) const MAGIC: [u8; 4] = *b"GGUF";
/// The alignment of tensors if the file does not say.
const DEFAULT_ALIGNMENT: u32 = 32;
const MAX_ALIGNMENT: u32 = 4096;
const MAX_TENSORS: u64 = 1 << 17;
/// The format allows 64 bytes; some writers do not keep to it.
const MAX_NAME_BYTES: u64 = 256;
const MAX_RANK: u32 = 4;
/// The fewest bytes that say where a tensor is: length of the name, rank, a dimension, type, offset.
const LEAST_INFO_BYTES: usize = 32;

/// What the header of a file says.
pub(super) struct Header {
    pub(super) metadata: Metadata,
    /// In the order of their bytes.
    pub(super) tensors: Vec<Info>,
    /// Tensors begin at multiples of it.
    pub(super) alignment_bytes: usize,
}

/// Where one tensor is.
#[derive(Clone, Debug)]
pub(super) struct Info {
    pub(super) name: String,
    /// Outermost dimension first, as everywhere in tern; the file has them the other way round.
    pub(super) shape: Vec<usize>,
    pub(super) type_id: u32,
    /// First byte, from the start of the file.
    pub(super) start: usize,
    /// Where the next tensor begins, or the file ends.
    pub(super) next: usize,
    /// Whether the file ends behind it.
    pub(super) is_last: bool,
}

/// Reads the header of `file`, whose whole content is `bytes`.
pub(super) fn read_header(file: &str, bytes: &[u8]) -> Result<Header, Error> {
    let mut cursor = Cursor::new(file, bytes);
    check_version(&mut cursor)?;
    let count = cursor.u64("a number of tensors")?;
    let pairs = cursor.u64("a number of keys")?;
    let metadata = Metadata::read(file, &mut cursor, pairs)?;
    let alignment_bytes = alignment(&metadata)?;
    let room = (cursor.left() as u64).checked_div(LEAST_INFO_BYTES as u64).unwrap_or(0);
    if count > MAX_TENSORS.min(room) {
        let expected = format!("at most {} (the limit is {MAX_TENSORS})", MAX_TENSORS.min(room));
        return Err(Error::input(cursor.fault(8, format!("{count} tensors"), expected).next(DAMAGED)));
    }
    let mut raw = Vec::new();
    for _ in 0..count {
        raw.push(info(&mut cursor)?);
    }
    let data_start = match cursor.at().checked_next_multiple_of(alignment_bytes) {
        Some(start) if start <= bytes.len() || raw.is_empty() => start,
        _ => {
            let found = format!("a file of {} bytes", bytes.len());
            let expected = "tensors behind the header";
            return Err(Error::input(cursor.fault(cursor.at(), found, expected).next(DAMAGED)));
        }
    };
    let tensors = place(file, raw, data_start, bytes.len(), alignment_bytes)?;
    Ok(Header { metadata, tensors, alignment_bytes })
}

fn check_version(cursor: &mut Cursor<'_>) -> Result<(), Error> {
    let magic: [u8; 4] = cursor.array("a GGUF file")?;
    if magic != MAGIC {
        let found = format!("the first bytes {magic:02x?}");
        return Err(Error::input(cursor.fault(0, found, "\"GGUF\"").next("this is no GGUF file: fetch it again")));
    }
    let version = cursor.u32("a version")?;
    match version {
        2 | 3 => Ok(()),
        _ if matches!(version.swap_bytes(), 1..=3) => {
            let fault = cursor.fault(4, "a big-endian file", "a little-endian one");
            Err(Error::unsupported(fault.next("convert it again without --bigendian")))
        }
        _ => {
            let fault = cursor.fault(4, format!("version {version}"), "version 2 or 3");
            Err(Error::unsupported(fault.next("fetch a newer file of the model, or convert it again")))
        }
    }
}

fn alignment(metadata: &Metadata) -> Result<usize, Error> {
    let key = "general.alignment";
    let alignment = metadata.u32(key)?.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        return Ok(alignment as usize);
    }
    let expected = format!("a power of two of at most {MAX_ALIGNMENT}");
    Err(Error::input(metadata.fault(key, expected).next(DAMAGED)))
}

/// A tensor as the header gives it: the offset is that in the data.
struct RawInfo {
    name: String,
    shape: Vec<usize>,
    type_id: u32,
    offset: u64,
}

fn info(cursor: &mut Cursor<'_>) -> Result<RawInfo, Error> {
    let at = cursor.at();
    let name = cursor.text("a tensor's name", MAX_NAME_BYTES)?.to_owned();
    let rank_at = cursor.at();
    let rank = cursor.u32("a rank")?;
    if rank == 0 || rank > MAX_RANK {
        let fault = cursor.fault(rank_at, format!("{rank} dimensions"), format!("1 to {MAX_RANK}"));
        return Err(Error::input(fault.tensor(name).next(DAMAGED)));
    }
    let (mut shape, mut elems) = (Vec::new(), 1usize);
    for _ in 0..rank {
        let dim_at = cursor.at();
        let dim = cursor.u64("a dimension")?;
        let known = usize::try_from(dim).ok().filter(|dim| *dim > 0);
        // A quarter of all numbers: what is computed from a count of elements must not overflow either.
        let product = known.and_then(|dim| elems.checked_mul(dim)).filter(|elems| *elems <= usize::MAX >> 6);
        let (Some(dim), Some(product)) = (known, product) else {
            let fault =
                cursor.fault(dim_at, format!("a dimension of {dim}"), "at least 1, and elements that can be counted");
            return Err(Error::input(fault.tensor(name).next(DAMAGED)));
        };
        elems = product;
        shape.push(dim);
    }
    shape.reverse();
    let type_id = cursor.u32("a type of elements")?;
    let offset = cursor.u64("an offset")?;
    if name.is_empty() {
        return Err(Error::input(cursor.fault(at, "a tensor without a name", "a name").next(DAMAGED)));
    }
    Ok(RawInfo { name, shape, type_id, offset })
}

/// Each tensor's place in the file, sorted by it.
fn place(
    file: &str,
    mut raw: Vec<RawInfo>,
    data_start: usize,
    file_bytes: usize,
    alignment_bytes: usize,
) -> Result<Vec<Info>, Error> {
    let mut names = BTreeSet::new();
    if let Some(twice) = raw.iter().find(|info| !names.insert(info.name.as_str())) {
        let fault = Fault::new(file, "a tensor that is there already", "each tensor once");
        return Err(Error::input(fault.tensor(twice.name.as_str()).next(DAMAGED)));
    }
    raw.sort_by_key(|info| info.offset);
    let starts: Vec<usize> =
        raw.iter().map(|info| start(file, info, data_start, file_bytes, alignment_bytes)).collect::<Result<_, _>>()?;
    let ends = starts.iter().skip(1).copied().chain([file_bytes]);
    let mut tensors = Vec::new();
    for ((info, &start), next) in raw.into_iter().zip(&starts).zip(ends) {
        if start >= next {
            let found = format!("bytes {start}.. of two tensors");
            let fault = Fault::new(file, found, "tensors that do not overlap").tensor(info.name);
            return Err(Error::input(fault.byte(start as u64).next(DAMAGED)));
        }
        let RawInfo { name, shape, type_id, .. } = info;
        tensors.push(Info { name, shape, type_id, start, next, is_last: next == file_bytes });
    }
    Ok(tensors)
}

/// The first byte of a tensor in the file.
fn start(file: &str, info: &RawInfo, data_start: usize, file_bytes: usize, alignment: usize) -> Result<usize, Error> {
    let offset = usize::try_from(info.offset).ok();
    let start = offset.and_then(|offset| data_start.checked_add(offset));
    match start {
        Some(start) if start < file_bytes && info.offset.is_multiple_of(alignment as u64) => Ok(start),
        _ => {
            let room = file_bytes.saturating_sub(data_start);
            let expected = format!("a multiple of {alignment} within the {room} bytes of data");
            let fault = Fault::new(file, format!("offset {}", info.offset), expected);
            Err(Error::input(fault.tensor(info.name.as_str()).next(DAMAGED)))
        }
    }
}
