//! The files of a model in GGUF: one, or shards `NAME-00001-of-00003.gguf`.
//!
//! In: the names of the files that are there, and which one was asked for. Out: the names to open, in order; and of opened
//! shards, that each is the one that its name and the first shard say.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::error::{Error, Fault, first_eight};
use super::metadata::Metadata;

/// How the files end.
pub(in super::super) const SUFFIX: &str = ".gguf";
/// The most shards of a model, as many as five digits can number.
const MAX_SHARDS: u32 = 99_999;

/// What the name of a shard says.
#[derive(PartialEq, Eq, Debug)]
struct ShardName<'n> {
    stem: &'n str,
    /// From 1 on.
    number: u32,
    count: u32,
}

impl<'n> ShardName<'n> {
    /// `None` for a name that is of no shard.
    fn parse(name: &'n str) -> Option<Self> {
        let (rest, count) = name.strip_suffix(SUFFIX)?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            let plain = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|n: &u32| plain && *n > 0)
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (number <= count && count <= MAX_SHARDS).then_some(Self { stem, number, count })
    }

    /// The names of all shards.
    fn all(&self) -> Vec<String> {
        (1..=self.count).map(|number| format!("{}-{number:05}-of-{:05}{SUFFIX}", self.stem, self.count)).collect()
    }
}

/// All files of the model that the file `name` belongs to.
pub(in super::super) fn files_of(name: &str) -> Vec<String> {
    ShardName::parse(name).map_or_else(|| vec![name.to_owned()], |shard| shard.all())
}

/// The files of the one model among `names`, the GGUF files of the folder `folder`.
pub(in super::super) fn only_model(folder: &str, mut names: Vec<String>) -> Result<Vec<String>, Error> {
    names.sort();
    let Some(first) = names.first() else {
        return Err(Error::input(Fault::new(folder, "no GGUF file", "the files of one model")));
    };
    let files = files_of(first);
    if names.iter().all(|name| files.contains(name)) {
        return Ok(files);
    }
    let found = format!("files of several models: {}", first_eight(&names));
    let fault = Fault::new(folder, found, "the files of one model");
    Err(Error::input(fault.next("give the file instead of the folder, the first one of a model that has several")))
}

/// Checks the shard `index` (from 0 on) of `count`: what it says of itself.
pub(super) fn check_shard(metadata: &Metadata, index: usize, count: usize) -> Result<(), Error> {
    let advice = "the files are of different versions, or were renamed: fetch all of them again";
    let stated = metadata.u64("split.count")?;
    if stated.unwrap_or(1) != count as u64 && !(count == 1 && stated == Some(0)) {
        let fault = metadata.fault("split.count", format!("{count}, as the name of the file says"));
        let fault = if count == 1 {
            fault.next("give the shards their names NAME-00001-of-0000N.gguf again")
        } else {
            fault.next(advice)
        };
        return Err(Error::input(fault));
    }
    if count > 1 && metadata.u64("split.no")? != Some(index as u64) {
        return Err(Error::input(
            metadata.fault("split.no", format!("{index}, as the name of the file says")).next(advice),
        ));
    }
    Ok(())
}

/// Checks that a later shard says nothing of the model but what the first one says.
pub(super) fn check_same(first: &Metadata, later: &Metadata) -> Result<(), Error> {
    let of_shard = |key: &str| key.starts_with("split.");
    match later.pairs().find(|(key, value)| !of_shard(key) && first.get(key) != Some(*value)) {
        Some((key, _)) => {
            let fault = later.fault(key, format!("no such key, or what {} says", first.file()));
            Err(Error::input(fault.next("the files are of different versions or models: fetch all of them again")))
        }
        None => Ok(()),
    }
}

/// Checks that all shards together have as many tensors as the first says.
pub(super) fn check_total(metadata: &Metadata, tensors: usize) -> Result<(), Error> {
    match metadata.u64("split.tensors.count")? {
        Some(stated) if stated != tensors as u64 => {
            let fault = metadata.fault("split.tensors.count", format!("{tensors}, as many as there are"));
            Err(Error::input(fault.next("a file is missing or of another version: fetch all of them again")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_shards_are_understood() {
        assert_eq!(files_of("m.gguf"), ["m.gguf"]);
        assert_eq!(
            files_of("a-b-00002-of-00003.gguf"),
            ["a-b-00001-of-00003.gguf", "a-b-00002-of-00003.gguf", "a-b-00003-of-00003.gguf"]
        );
        for odd in ["m-00004-of-00003.gguf", "m-0001-of-0002.gguf", "m-00000-of-00001.gguf", "m-+0001-of-00002.gguf"] {
            assert_eq!(files_of(odd), [odd]);
        }
    }

    #[test]
    fn a_folder_holds_one_model() {
        let only = |names: &[&str]| only_model("d", names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(only(&["m.gguf"]).expect("one"), ["m.gguf"]);
        assert_eq!(only(&["m-00002-of-00002.gguf"]).expect("shards").len(), 2, "a missing one shows when it is opened");
        for several in [&["a.gguf", "b.gguf"][..], &["m-00001-of-00002.gguf", "m.gguf"], &[]] {
            assert!(only(several).is_err(), "{several:?}");
        }
    }
}
