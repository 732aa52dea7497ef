//! The header of one safetensors file, checked before anything believes it.
//!
//! In: the bytes of a file. Out: an [`Entry`] per tensor, with offsets from the start of the file. Upholds: the tensors
//! are inside the file, do not overlap, leave no gap, and each has exactly the bytes that its shape and type need.
//!
//! The `safetensors` crate does the reading; this module looks first at what the crate does not check (a name given
//! twice), at what would make it allocate much (ranks), and at what it refuses without saying which tensor and where.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::error::{Error, Fault};
use super::tensor::StoredType;
use super::unique::Unique;

/// The length field in front of the header.
const LENGTH_BYTES: usize = 8;
/// The largest header that is read; a model of a thousand layers needs a few megabytes.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The largest rank of a tensor.
const MAX_RANK: usize = 8;
const DAMAGED: &str = "the file is damaged or its download is incomplete: fetch it again";

/// One tensor of the file.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) stored: StoredType,
    pub(super) shape: Vec<usize>,
    /// First byte, from the start of the file.
    pub(super) start: usize,
    /// One past the last byte, from the start of the file.
    pub(super) end: usize,
}

/// A tensor as the header gives it, nothing checked.
#[derive(Deserialize)]
#[serde(expecting = "an object with \"dtype\", \"shape\" and \"data_offsets\"")]
struct RawEntry {
    dtype: String,
    shape: Dims,
    data_offsets: (u64, u64),
}

/// A shape of at most [`MAX_RANK`] dimensions; the limit holds while reading, so a long list is never stored.
struct Dims(Vec<u64>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DimsVisitor;
        impl<'de> Visitor<'de> for DimsVisitor {
            type Value = Dims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {MAX_RANK} dimensions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == MAX_RANK {
                        return Err(A::Error::custom(format!("a shape has more than {MAX_RANK} dimensions")));
                    }
                    dims.push(dim);
                }
                Ok(Dims(dims))
            }
        }
        deserializer.deserialize_seq(DimsVisitor)
    }
}

/// The header's outer object: every entry in file order, free text under `__metadata__` left out.
struct Header(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut names, mut entries) = (Unique::default(), Vec::new());
                while let Some(name) = map.next_key::<String>()? {
                    names.insert(&name)?;
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Reads the header of `file`, whose whole content is `bytes`.
pub(super) fn read_header(file: &str, bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    let (header, data_start) = header_text(file, bytes)?;
    let data_len = bytes.len().saturating_sub(data_start);
    let Header(mut raw) = serde_json::from_str(header).map_err(|e| json_fault(file, header, &e))?;
    raw.sort_by(|(a_name, a), (b_name, b)| (a.data_offsets, a_name).cmp(&(b.data_offsets, b_name)));
    check_layout(file, &raw, data_start, data_len)?;

    let (_, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|e| Error::input(Fault::new(file, e.to_string(), "a safetensors file").next(DAMAGED)))?;
    let mut entries = Vec::with_capacity(raw.len());
    for (name, _) in raw {
        let Some(info) = metadata.info(&name) else {
            return Err(Error::Bug(format!("the safetensors crate lost tensor {name:?} of {file}")));
        };
        let (start, end) = info.data_offsets;
        entries.push(Entry {
            stored: StoredType::from(info.dtype),
            shape: info.shape.clone(),
            start: start.saturating_add(data_start),
            end: end.saturating_add(data_start),
            name,
        });
    }
    Ok(entries)
}

/// The header's text, and where the data behind it starts.
fn header_text<'b>(file: &str, bytes: &'b [u8]) -> Result<(&'b str, usize), Error> {
    let input = |fault: Fault| Error::input(fault.next(DAMAGED));
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        let found = format!("a file of {} bytes", bytes.len());
        return Err(input(Fault::new(file, found, "at least 8 bytes")));
    };
    let header_len = u64::from_le_bytes(*length);
    let room = (rest.len() as u64).min(MAX_HEADER_BYTES);
    let header = match usize::try_from(header_len) {
        Ok(len) if header_len <= room => rest.get(..len),
        _ => None,
    };
    let Some(header) = header else {
        let found = format!("a header length of {header_len} bytes");
        let expected = format!("at most {room} bytes (the file has {}, the limit is 100 MB)", bytes.len());
        return Err(input(Fault::new(file, found, expected).byte(0)));
    };
    let text = std::str::from_utf8(header).map_err(|e| {
        let at = e.valid_up_to().saturating_add(LENGTH_BYTES) as u64;
        input(Fault::new(file, "bytes that are no UTF-8", "a JSON header").byte(at))
    })?;
    Ok((text, header.len().saturating_add(LENGTH_BYTES)))
}

fn json_fault(file: &str, header: &str, error: &serde_json::Error) -> Error {
    // The error knows line and column; a reader with a hex editor wants the byte.
    let lines = header.split_inclusive('\n').take(error.line().saturating_sub(1));
    let before: usize = lines.map(str::len).sum();
    let at = before.saturating_add(error.column().saturating_sub(1)).saturating_add(LENGTH_BYTES);
    Error::input(
        Fault::new(file, error.to_string(), "a JSON object of tensors in the header").byte(at as u64).next(DAMAGED),
    )
}

/// Each tensor of `raw`, sorted by offset, begins where the one before ends, and the last ends with the file.
fn check_layout(file: &str, raw: &[(String, RawEntry)], data_start: usize, data_len: usize) -> Result<(), Error> {
    let absolute = |offset: u64| offset.saturating_add(data_start as u64);
    let input = |fault: Fault| Error::input(fault.next(DAMAGED));
    let mut position = 0u64;
    for (name, entry) in raw {
        let (start, end) = entry.data_offsets;
        let fault =
            |found: String, expected: String| Fault::new(file, found, expected).tensor(name).byte(absolute(start));
        let range = format!("data offsets {start}..{end}");
        if start > end || end > data_len as u64 {
            let expected = format!("ascending offsets within the {data_len} bytes of data");
            return Err(input(fault(range, expected)));
        }
        if start != position {
            let kind = if start < position { "overlaps" } else { "leaves a gap after" };
            let expected = format!("a start of {position}: this tensor {kind} the one before it");
            return Err(input(fault(range, expected)));
        }
        let needed = size_bytes(entry, &fault)?;
        if u128::from(end.saturating_sub(start)) != needed {
            let found = format!("{range}, {} bytes", end.saturating_sub(start));
            let expected = format!("{needed} bytes for {} {:?}", entry.dtype, entry.shape.0);
            return Err(input(fault(found, expected)));
        }
        position = end;
    }
    if position != data_len as u64 {
        let found = format!("{data_len} bytes of data");
        let expected = format!("{position} bytes, where the last tensor ends");
        return Err(input(Fault::new(file, found, expected).byte(absolute(position))));
    }
    Ok(())
}

/// Bytes that the shape and type of `entry` need; `fault` begins a finding about it.
fn size_bytes(entry: &RawEntry, fault: &dyn Fn(String, String) -> Fault) -> Result<u128, Error> {
    let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&entry.dtype);
    let dtype = Dtype::deserialize(text).map_err(|_| {
        let expected = "a dtype of the safetensors format, such as BF16 or U8".to_owned();
        Error::unsupported(fault(format!("dtype {:?}", entry.dtype), expected))
    })?;
    let elems = entry.shape.0.iter().try_fold(1u128, |n, &d| n.checked_mul(u128::from(d)));
    let bits = elems.and_then(|n| n.checked_mul(dtype.bitsize() as u128));
    match bits {
        Some(bits) if bits.is_multiple_of(8) => bits.checked_div(8),
        _ => None,
    }
    .ok_or_else(|| {
        let found = format!("shape {:?} of {dtype}", entry.shape.0);
        Error::input(fault(found, "a whole number of bytes below 2^125".to_owned()).next(DAMAGED))
    })
}
