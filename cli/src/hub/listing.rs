//! What a hub says that a repository holds.
//!
//! In: the JSON of `/api/models/OWNER/NAME/revision/REVISION?blobs=true`. Out: [`Listing`]: the commit, and for every file that could be
//! a model's its name, size and sum. It upholds that the commit is one, that names stay in their folder, that sizes can
//! be summed, and that every file has a size and a sum: nothing is fetched that could not be checked.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::repository::Repository;
use super::sum::Sum;

/// The most files of a repository.
const MAX_FILES: usize = 100_000;
/// The longest name of a file, in bytes.
const MAX_NAME_BYTES: usize = 240;
/// The largest file. No hub takes larger ones, and those of a whole repository still have a sum.
const MAX_FILE_BYTES: u64 = 1 << 44;

/// A repository at a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listing {
    /// The commit, in hexadecimal digits.
    pub(super) commit: String,
    /// The files by name, `/` between folders.
    files: BTreeMap<String, (u64, Option<Sum>)>,
}

/// A file to fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Remote {
    /// Its name in the repository, and in the folder on this disk; `/` between folders.
    pub(super) name: String,
    /// Its size.
    pub(super) bytes: u64,
    /// What it must sum up to.
    pub(super) sum: Sum,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: Option<u64>,
}

impl Listing {
    /// Reads the answer of a hub about `repository`.
    pub(super) fn parse(repository: &Repository, json: &[u8]) -> Result<Self> {
        let answer: Answer =
            serde_json::from_slice(json).with_context(|| format!("the hub's answer about {repository} is none"))?;
        let is_commit =
            (7..=64).contains(&answer.sha.len()) && answer.sha.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_commit {
            bail!("the hub says that {repository} is at commit {:?}, which is none", shortened(&answer.sha));
        }
        if answer.siblings.len() > MAX_FILES {
            bail!("the hub says that {repository} has {} files, expected at most {MAX_FILES}", answer.siblings.len());
        }
        let mut files = BTreeMap::new();
        for sibling in answer.siblings.into_iter().filter(|sibling| is_safe(&sibling.rfilename)) {
            let digits = sibling.lfs.as_ref().map(|lfs| lfs.sha256.as_str()).or(sibling.blob_id.as_deref());
            let sum = digits.and_then(|digits| Sum::parse(digits).ok());
            let size = sibling.lfs.as_ref().and_then(|lfs| lfs.size).or(sibling.size);
            if let Some(bytes) = size.filter(|bytes| *bytes > MAX_FILE_BYTES) {
                bail!(
                    "the hub says that {} of {repository} has {bytes} bytes, expected at most {MAX_FILE_BYTES}",
                    sibling.rfilename
                );
            }
            // Files without a size are found, and refused only when they are wanted.
            let sum = sum.filter(|_| size.is_some());
            files.insert(sibling.rfilename, (size.unwrap_or(0), sum));
        }
        Ok(Self { commit: answer.sha, files })
    }

    /// Every file's name and size.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, (bytes, _))| (name.as_str(), *bytes))
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The file called `name`.
    pub(super) fn file(&self, name: &str) -> Result<Remote> {
        match self.files.get(name) {
            Some((bytes, Some(sum))) => Ok(Remote { name: name.to_owned(), bytes: *bytes, sum: sum.clone() }),
            Some((_, None)) => bail!("the hub gives no size or no sum for {name}: what comes could not be checked"),
            None => bail!("the hub lists no file {name}"),
        }
    }
}

/// Bytes of all `files`.
pub(super) fn total(files: &[Remote]) -> Result<u64> {
    let sum = files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes));
    sum.with_context(|| format!("the {} files are too large to be summed", files.len()))
}

/// Whether a file of that name stays in its folder, and can be seen there, on every system. Others are nobody's model.
pub(super) fn is_safe(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with(['.', ' '])
            && !part.contains(|c: char| c.is_control() || "\\:*?\"<>|".contains(c))
    };
    name.len() <= MAX_NAME_BYTES && name.split('/').all(is_part)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &serde_json::Value) -> Result<Listing> {
        Listing::parse(&Repository::parse("a/b").expect("a name"), json.to_string().as_bytes())
    }

    #[test]
    fn names_that_leave_their_folder_are_not_there() {
        let names = [
            "a.json",
            "sub/b.gguf",
            "../c",
            "/etc/d",
            "a/../e",
            "C:\\f",
            "a//g",
            ".h",
            "sub/.i",
            "j\u{0}",
            "k ",
            "..",
            "",
        ];
        let files: Vec<_> = names
            .iter()
            .map(|name| serde_json::json!({"rfilename": name, "size": 1, "blobId": "0".repeat(40)}))
            .collect();
        let listing = parse(&serde_json::json!({"sha": "0123456789abcdef", "siblings": files})).expect("a listing");
        assert_eq!(listing.names().map(|(name, _)| name).collect::<Vec<_>>(), ["a.json", "sub/b.gguf"]);
        assert_eq!(listing.file("sub/b.gguf").expect("a file").name, "sub/b.gguf");
    }

    #[test]
    fn commits_are_commits_and_files_have_sums() {
        for sha in ["", "main", "../../x", "0123456789ABCDEF", &"0".repeat(65)] {
            assert!(parse(&serde_json::json!({"sha": sha, "siblings": []})).is_err(), "{sha}");
        }
        let lfs = serde_json::json!({"sha256": "a".repeat(64), "size": 9});
        let listing = parse(&serde_json::json!({"sha": "0123456789", "siblings": [
            {"rfilename": "large", "size": 9, "blobId": "0".repeat(40), "lfs": lfs},
            {"rfilename": "none"}, {"rfilename": "odd", "size": 1, "blobId": "xyz"},
            {"rfilename": "sizeless", "blobId": "0".repeat(40)}]}));
        let listing = listing.expect("a listing");
        let large = listing.file("large").expect("a file");
        assert_eq!((large.bytes, large.sum), (9, Sum::Sha256("a".repeat(64))));
        for name in ["none", "odd", "sizeless"] {
            assert!(listing.has(name) && listing.file(name).is_err(), "{name}");
        }
        assert!(listing.file("missing").is_err());
    }

    #[test]
    fn sizes_can_be_summed() {
        let listed = |bytes: u64| {
            parse(&serde_json::json!({"sha": "0123456789", "siblings": [
                {"rfilename": "a", "size": bytes, "blobId": "0".repeat(40)}]}))
        };
        let largest = listed(MAX_FILE_BYTES).and_then(|listing| listing.file("a")).expect("a file");
        for bytes in [MAX_FILE_BYTES + 1, u64::MAX] {
            let e = listed(bytes).expect_err("too large").to_string();
            assert!(e.contains(&format!("a of a/b has {bytes} bytes")), "{e}");
        }
        assert_eq!(total(&vec![largest.clone(); MAX_FILES]).expect("a sum"), MAX_FILES as u64 * MAX_FILE_BYTES);
        assert!(total(&[Remote { bytes: u64::MAX, ..largest.clone() }, largest]).is_err());
    }
}
