//! The index of a checkpoint in several files, `model.safetensors.index.json`.
//!
//! In: its text. Out: the names of the shards and which tensor each must hold. Upholds: a shard's name is the name of a
//! file in the same folder, never a path.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::error::{Error, Fault};
use super::unique::Unique;

/// The file's name.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Which shard holds which tensor.
pub(super) struct Index {
    /// Tensor to shard.
    pub(super) shard_of: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with \"weight_map\"")]
struct RawIndex {
    weight_map: WeightMap,
}

struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WeightMapVisitor;
        impl<'de> Visitor<'de> for WeightMapVisitor {
            type Value = WeightMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to file names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let (mut names, mut shard_of) = (Unique::default(), BTreeMap::new());
                while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
                    names.insert(&tensor)?;
                    shard_of.insert(tensor, shard);
                }
                Ok(WeightMap(shard_of))
            }
        }
        deserializer.deserialize_map(WeightMapVisitor)
    }
}

impl Index {
    /// Parses the index.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Error> {
        let RawIndex { weight_map: WeightMap(shard_of) } = serde_json::from_slice(text).map_err(|e| {
            let expected = "an object with \"weight_map\", from tensor names to file names";
            Error::input(Fault::new(INDEX, e.to_string(), expected))
        })?;
        for (tensor, shard) in &shard_of {
            let plain =
                shard.ends_with(".safetensors") && !shard.starts_with('.') && !shard.contains(['/', '\\', ':', '\0']);
            if !plain {
                return Err(Error::input(
                    Fault::new(
                        INDEX,
                        format!("file name {shard:?}"),
                        "a name such as \
                        \"model-00001-of-00002.safetensors\", in the same folder",
                    )
                    .key(format!("weight_map.{tensor}"))
                    .next("a name that leaves the folder is never opened: fetch the index again"),
                ));
            }
        }
        Ok(Self { shard_of })
    }

    /// The shards, each once, in the order of their names.
    pub(super) fn shards(&self) -> BTreeSet<&str> {
        self.shard_of.values().map(String::as_str).collect()
    }
}
