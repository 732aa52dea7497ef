//! GGUF: bytes to metadata and named tensors.
//!
//! In: the bytes of one file, or of all shards of one model. Out: a [`Gguf`], and for every tensor a checked place and an
//! encoding. One id of the format's types may have several meanings, since forks gave the same numbers to different things:
//! [`layout`] proves from the sizes of all tensors which one it is, or refuses.
//!
//! Upholds: as all of `checkpoint`, every length, offset and shape was checked before it is used, and nothing is allocated by
//! an unchecked number. Deliberately does not know what a tensor or a key means to a model: that is `import`'s business.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod cursor;
pub mod encoding;
mod header;
pub mod layout;
mod meanings;
pub mod metadata;
pub(super) mod shards;
pub mod types;
pub mod value;

pub use encoding::Encoding;
pub use layout::LayoutProof;
pub use metadata::Metadata;

use std::collections::BTreeMap;

use super::error::{Error, Fault};
use super::header::Entry;
pub(super) use header::MAGIC;
use header::{Header, read_header};
use layout::Placed;

/// What GGUF files say beside their tensors.
#[derive(Clone, PartialEq, Debug)]
pub struct Gguf {
    /// That of the first file.
    pub metadata: Metadata,
    /// What each type id means, and how that is known.
    pub layouts: Vec<LayoutProof>,
    /// The number of each tensor's type, by its name.
    pub type_ids: BTreeMap<String, u32>,
}

/// Reads the headers of `files`, pairs of name and content: the one file of a model, or all its shards in order. Gives what they
/// say and, per file, its tensors.
pub(super) fn open(files: &[(&str, &[u8])]) -> Result<(Gguf, Vec<Vec<Entry>>), Error> {
    let mut headers: Vec<Header> = Vec::new();
    for (index, (file, bytes)) in files.iter().enumerate() {
        let header = read_header(file, bytes)?;
        shards::check_shard(&header.metadata, index, files.len())?;
        headers.push(header);
    }
    let places = files.iter().zip(&headers).flat_map(|((file, bytes), header)| {
        header.tensors.iter().map(move |info| Placed { file, bytes, alignment_bytes: header.alignment_bytes, info })
    });
    let places: Vec<Placed<'_>> = places.collect();
    let proved = layout::prove(&places)?;
    let mut entries = Vec::new();
    for header in &headers {
        let of_file = header.tensors.iter().map(|info| {
            let proof = proved.iter().find(|(_, proof)| proof.type_id == info.type_id);
            let bytes = proof.and_then(|(meaning, _)| meaning.tensor_bytes(&info.shape));
            let (Some((meaning, _)), Some(bytes)) = (proof, bytes) else {
                return Err(Error::Bug(format!("the layout of {} was not proved", info.name)));
            };
            let (name, shape) = (info.name.clone(), info.shape.clone());
            let (start, end) = (info.start, info.start.saturating_add(bytes));
            Ok(Entry { name, stored: meaning.stored(), shape, start, end })
        });
        entries.push(of_file.collect::<Result<Vec<Entry>, Error>>()?);
    }
    for header in &headers {
        shards::check_total(&header.metadata, places_len(&entries))?;
    }
    if let Some((first, later)) = headers.split_first() {
        later.iter().try_for_each(|later| shards::check_same(&first.metadata, &later.metadata))?;
    }
    let all = headers.iter().flat_map(|header| &header.tensors);
    let type_ids = all.map(|info| (info.name.clone(), info.type_id)).collect();
    let Some(first) = headers.into_iter().next() else {
        return Err(Error::input(Fault::new("the model", "no file", "at least one GGUF file")));
    };
    let layouts = proved.into_iter().map(|(_, proof)| proof).collect();
    Ok((Gguf { metadata: first.metadata, layouts, type_ids }, entries))
}

fn places_len(entries: &[Vec<Entry>]) -> usize {
    entries.iter().map(Vec::len).sum()
}
