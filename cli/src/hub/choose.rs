//! Which files of a repository are the model.
//!
//! In: a listing, and the file that the user names, if any. Out: a [`Choice`]. A checkpoint in safetensors goes before GGUF
//! files: it is what those are made of. Of several GGUF files the user has to choose, since each is another model; files that are
//! parts of one (`-00001-of-00003`) belong together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::listing::{Listing, Remote};
use super::repository::Repository;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What the importer and the runtime read beside the weights.
const BESIDE: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "modules.json",
    "1_Pooling/config.json",
];
/// The longest index that is read.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// GGUF files that an error lists.
const MOST_SHOWN: usize = 40;

/// The files of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    /// A folder with one file of weights.
    Single,
    /// A folder with several, which the index names.
    Index,
    /// One GGUF file, or all its parts in order.
    Gguf(Vec<String>),
}

impl Choice {
    /// The files; of an index, without those that it names.
    pub(super) fn files(&self, listing: &Listing) -> Result<Vec<Remote>> {
        // Small files come first: what is wrong with a model is often seen in them.
        let folder = |weights: &'static str| -> Result<Vec<Remote>> {
            let beside = BESIDE.into_iter().filter(|name| listing.has(name));
            [CONFIG].into_iter().chain(beside).chain([weights]).map(|name| listing.file(name)).collect()
        };
        match self {
            Choice::Single => folder(SINGLE),
            Choice::Index => folder(INDEX),
            Choice::Gguf(names) => names.iter().map(|name| listing.file(name)).collect(),
        }
    }

    /// The file in the folder that is the model; `None` if the folder is.
    pub(super) fn model(&self, files: &[Remote]) -> Option<String> {
        match self {
            Choice::Single | Choice::Index => None,
            Choice::Gguf(_) => files.first().map(|file| file.name.clone()),
        }
    }
}

/// Chooses the files of `repository`.
pub(super) fn choose(repository: &Repository, listing: &Listing, file: Option<&str>) -> Result<Choice> {
    let models = gguf_models(listing);
    let shown = || {
        let mut lines: Vec<String> = models
            .values()
            .map(|parts| {
                let bytes = parts.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
                let more = if parts.len() > 1 { format!(" and {} more parts", parts.len() - 1) } else { String::new() };
                format!("\n  {:>9.1} MB  {}{more}", bytes as f64 / 1e6, parts[0].0)
            })
            .collect();
        if lines.len() > MOST_SHOWN {
            let more = lines.len() - MOST_SHOWN;
            lines.truncate(MOST_SHOWN);
            lines.push(format!("\n  and {more} more"));
        }
        lines.concat()
    };
    if let Some(wanted) = file {
        let having = |is_wanted: &dyn Fn(&str) -> bool| -> Vec<_> {
            models.iter().filter(|(_, parts)| parts.iter().any(|(name, _)| is_wanted(name))).collect()
        };
        // The whole name is no doubt, whatever lies in folders.
        let mut found = having(&|name| name == wanted);
        if found.is_empty() {
            found = having(&|name| name.rsplit('/').next() == Some(wanted));
        }
        return match found.as_slice() {
            [(stem, parts)] => whole(stem, parts),
            [] if models.is_empty() => bail!("{repository} has no GGUF file, and --file names one: leave it out"),
            [] => bail!("{repository} has no GGUF file {wanted}; it has{}", shown()),
            _ => bail!("{repository} has several files {wanted}: give the whole name; it has{}", shown()),
        };
    }
    if listing.has(CONFIG) && listing.has(SINGLE) {
        return Ok(Choice::Single);
    }
    if listing.has(CONFIG) && listing.has(INDEX) {
        return Ok(Choice::Index);
    }
    match models.iter().collect::<Vec<_>>().as_slice() {
        [] => {
            bail!("{repository} has neither config.json with {SINGLE} nor a GGUF file: it is no model that tern reads")
        }
        [(stem, parts)] => whole(stem, parts),
        _ => bail!("{repository} has several GGUF files: choose one with --file NAME; it has{}", shown()),
    }
}

/// GGUF files by their names without number and ending: the parts of one model together, in order.
fn gguf_models(listing: &Listing) -> BTreeMap<String, Vec<(String, u64)>> {
    let mut models: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for (name, bytes) in listing.names() {
        if let Some(stem) = name.strip_suffix(".gguf") {
            let stem = part(stem).map_or(stem, |(stem, _, _)| stem);
            models.entry(stem.to_owned()).or_default().push((name.to_owned(), bytes));
        }
    }
    models
}

/// The name, the number and the count of `NAME-00001-of-00003`.
fn part(stem: &str) -> Option<(&str, usize, usize)> {
    let digits = |text: &str| {
        let is_number = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        if is_number { text.parse().ok() } else { None }
    };
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    Some((name, digits(number)?, digits(count)?))
}

/// The parts of one model, none missing.
fn whole(stem: &str, parts: &[(String, u64)]) -> Result<Choice> {
    for (at, (name, _)) in parts.iter().enumerate() {
        let found = part(name.strip_suffix(".gguf").unwrap_or(name));
        let expected = if parts.len() == 1 {
            found.is_none_or(|(_, _, count)| count == 1)
        } else {
            found.is_some_and(|(_, number, count)| number == at + 1 && count == parts.len())
        };
        if !expected {
            bail!("the {} parts of {stem} are not all of it: {name} is among them", parts.len());
        }
    }
    Ok(Choice::Gguf(parts.iter().map(|(name, _)| name.clone()).collect()))
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of weights that the index at `path` names.
pub(super) fn shards(listing: &Listing, path: &Path) -> Result<Vec<Remote>> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_INDEX_BYTES).read_to_end(&mut text));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    let index: Index = serde_json::from_slice(&text).with_context(|| format!("{INDEX} is no index"))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    if let Some(odd) = names.iter().find(|name| name.contains('/') || !name.ends_with(".safetensors")) {
        bail!("{INDEX} names {odd:?}, expected files *.safetensors beside it");
    }
    names.iter().map(|name| listing.file(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let files: Vec<_> = names
            .iter()
            .map(|name| serde_json::json!({"rfilename": name, "size": 1_500_000, "blobId": "0".repeat(40)}))
            .collect();
        let json = serde_json::json!({"sha": "0123456789", "siblings": files}).to_string();
        Listing::parse(&Repository::parse("a/b").expect("a name"), json.as_bytes()).expect("a listing")
    }

    fn chosen(names: &[&str], file: Option<&str>) -> Result<Vec<String>> {
        let listing = listing(names);
        let choice = choose(&Repository::parse("a/b").expect("a name"), &listing, file)?;
        Ok(choice.files(&listing)?.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn a_checkpoint_goes_before_gguf_and_takes_what_is_read() {
        let names = ["README.md", CONFIG, SINGLE, "tokenizer.json", "consolidated.safetensors", "x.gguf", "evil.bin"];
        assert_eq!(chosen(&names, None).expect("files"), [CONFIG, "tokenizer.json", SINGLE]);
        assert_eq!(chosen(&names, Some("x.gguf")).expect("a file"), ["x.gguf"]);
        let embeds = [CONFIG, SINGLE, "modules.json", "1_Pooling/config.json", "2_Dense/config.json"];
        let taken = [CONFIG, "modules.json", "1_Pooling/config.json", SINGLE];
        assert_eq!(chosen(&embeds, None).expect("files"), taken);
        assert_eq!(chosen(&[CONFIG, INDEX, "model-1.safetensors"], None).expect("files"), [CONFIG, INDEX]);
    }

    #[test]
    fn of_several_gguf_files_one_must_be_named() {
        let names = ["sub/m-q4.gguf", "m-tq2.gguf", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf"];
        let e = chosen(&names, None).expect_err("no choice").to_string();
        assert!(
            e.contains("--file NAME") && e.contains("m-tq2.gguf") && e.contains("big-00001") && e.contains("3.0 MB"),
            "{e}"
        );
        assert_eq!(chosen(&names, Some("m-q4.gguf")).expect("a file"), ["sub/m-q4.gguf"]);
        assert_eq!(chosen(&names, Some("big-00002-of-00002.gguf")).expect("files"), [names[2], names[3]]);
        assert!(chosen(&names, Some("none.gguf")).expect_err("no such file").to_string().contains("it has"));
        assert_eq!(chosen(&["m.gguf"], None).expect("a file"), ["m.gguf"]);
        assert!(chosen(&["a/m.gguf", "b/m.gguf"], Some("m.gguf")).is_err());
        for name in ["m.gguf", "a/m.gguf", "b/m.gguf"] {
            assert_eq!(chosen(&["a/m.gguf", "b/m.gguf", "m.gguf"], Some(name)).expect("a file"), [name]);
        }
    }

    #[test]
    fn missing_parts_and_no_model_are_refused() {
        for names in
            [&["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"][..], &["m-00002-of-00002.gguf"], &["a.txt"], &[]]
        {
            assert!(chosen(names, None).is_err(), "{names:?}");
        }
    }

    #[test]
    fn an_index_names_files_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(INDEX);
        let listing = listing(&["m-1.safetensors", "m-2.safetensors"]);
        for (text, found) in [
            (r#"{"weight_map": {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}}"#, Some(2)),
            (r#"{"weight_map": {"a": "../m-2.safetensors"}}"#, None),
            (r#"{"weight_map": {"a": "m-3.safetensors"}}"#, None),
            ("{}", None),
        ] {
            std::fs::write(&path, text).expect("a file");
            assert_eq!(shards(&listing, &path).ok().map(|files| files.len()), found, "{text}");
        }
    }
}
