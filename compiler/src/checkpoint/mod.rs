//! Checkpoints: bytes to named tensors.
//!
//! In: a folder as Hugging Face lays it out (`config.json`, `model.safetensors` or shards with an index, tokenizer
//! files), a GGUF file or its shards ([`gguf`]), or the same files in memory. Out: a [`Checkpoint`], whose [`Tensor`]s know
//! name, type, shape and bytes, and decoders from stored bytes to trits and dense elements ([`packed`], [`absmean`],
//! [`ternary`], [`dense`], [`gguf::types`], [`matrix`]).
//!
//! Upholds: every length, offset and shape was checked against the files before a tensor is handed out; nothing is
//! allocated by an unchecked number; every error names file, tensor, byte, found and expected.
//! Deliberately knows no ops and no architectures: what a tensor means is `import`'s business.

pub mod absmean;
pub mod dense;
mod error;
pub mod gguf;
pub mod hash;
mod header;
pub mod histogram;
mod index;
mod map;
pub mod matrix;
pub mod packed;
pub mod packed4;
mod source;
mod tensor;
pub mod ternary;
mod unique;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{Error, Fault, Item, is_unprintable};
pub(crate) use error::{first_eight, printable};
pub use histogram::Histogram;
pub use tensor::{StoredType, Tensor};
pub(crate) use unique::check_unique_keys;

use gguf::{Gguf, shards};
use header::{Entry, read_header};
use index::{INDEX, Index};
use map::Bytes;
use source::{Source, ends_with};

/// The one file of a checkpoint that is not sharded.
const SINGLE: &str = "model.safetensors";
/// Bytes of a large tensor that are looked at before their memory is given back.
const PIECE_BYTES: usize = 8 << 20;
const TOKENIZER: &str = "tokenizer.json";
/// How an embedding model pools, in a folder of its own.
const POOLING: &str = "1_Pooling/config.json";
const MODULES: &str = "modules.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const MAX_CONFIG_BYTES: u64 = 4 << 20;
const MAX_INDEX_BYTES: u64 = 64 << 20;
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// An open checkpoint. Cheap to clone: clones share the files.
#[derive(Clone)]
pub struct Checkpoint {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    beside: Beside,
    /// Of a model in GGUF.
    gguf: Option<Gguf>,
    config_json: Option<Vec<u8>>,
    generation_config_json: Option<Vec<u8>>,
    tokenizer_json: Option<Vec<u8>>,
    tokenizer_config_json: Option<Vec<u8>>,
    chat_template_jinja: Option<Vec<u8>>,
    pooling_json: Option<Vec<u8>>,
    modules_json: Option<Vec<u8>>,
    shards: Vec<Shard>,
    /// By tensor name: the shard's place in `shards`, and the entry.
    tensors: BTreeMap<String, (usize, Entry)>,
}

/// What lies beside a GGUF file and belongs to its model or not.
#[derive(Default)]
struct Beside {
    tokenizer_json: Option<Vec<u8>>,
    tokenizer_config_json: Option<Vec<u8>>,
}

struct Shard {
    name: String,
    bytes: Bytes,
}

impl Checkpoint {
    /// Opens the checkpoint in the folder `dir`, or the GGUF file `dir` with the shards beside it; the large files are mapped,
    /// not read.
    ///
    /// # Errors
    /// A missing, damaged or contradictory file; a layout that tern does not read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let shown = dir.display().to_string();
        if let Err(e) = dir.metadata() {
            let found = match e.kind() {
                std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
                _ => format!("an error of the system ({e})"),
            };
            return Err(Error::input(
                Fault::new(shown, found, "the folder of a checkpoint")
                    .next("give the folder that holds config.json and model.safetensors"),
            ));
        }
        if !dir.is_dir() {
            if let (true, Some(name)) = (Self::is_gguf(dir), dir.file_name().and_then(|name| name.to_str())) {
                let folder = dir.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
                let ending = name.len().saturating_sub(shards::SUFFIX.len());
                let stem = name.get(..ending).filter(|_| ends_with(name, shards::SUFFIX)).unwrap_or(name).to_owned();
                return Self::from_gguf(stem, &mut Source::Folder(folder), shards::files_of(name));
            }
            let fault = Fault::new(shown, "a file", "the folder of a checkpoint, or a GGUF file");
            return Err(Error::input(fault.next("give the folder that holds this file")));
        }
        // "." and ".." have no name of their own.
        let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        let name = full.file_name().map_or(shown, |n| n.to_string_lossy().into_owned());
        Self::from_source(name, Source::Folder(dir))
    }

    /// Whether the file at `path` is GGUF, by its name or by what it begins with.
    pub fn is_gguf(path: &Path) -> bool {
        let mut magic = [0; 4];
        let mut begins = || {
            let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
            read.is_ok() && magic == gguf::MAGIC
        };
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| ends_with(name, shards::SUFFIX))
            || (path.is_file() && begins())
    }

    /// The files that may be part of the checkpoint at `path`: all in the folder and how it pools, or the GGUF file and the shards beside it,
    /// whether they are there or not, and the tokenizer beside them.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn files_at(path: &Path) -> std::io::Result<Vec<PathBuf>> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if !path.is_dir() => {
                let shards = shards::files_of(name).into_iter().map(|file| path.with_file_name(file));
                let beside = [TOKENIZER, TOKENIZER_CONFIG].map(|file| path.with_file_name(file));
                Ok(shards.chain(beside.into_iter().filter(|file| file.is_file())).collect())
            }
            _ => {
                let listed = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
                let pooling = Some(path.join(POOLING)).filter(|file| file.is_file());
                listed.chain(pooling.map(Ok)).collect()
            }
        }
    }

    /// Opens a checkpoint whose files are in memory: pairs of file name and content.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_bytes<N, B>(name: &str, files: impl IntoIterator<Item = (N, B)>) -> Result<Self, Error>
    where
        N: Into<String>,
        B: Into<Cow<'static, [u8]>>,
    {
        let files = files.into_iter().map(|(file, content)| {
            let bytes = match content.into() {
                Cow::Borrowed(bytes) => Bytes::Static(bytes),
                Cow::Owned(bytes) => Bytes::Owned(bytes),
            };
            (file.into(), bytes)
        });
        Self::from_source(name.to_owned(), Source::Memory(files.collect()))
    }

    fn from_source(name: String, mut source: Source<'_>) -> Result<Self, Error> {
        let gguf = source.names(shards::SUFFIX);
        if !source.has(SINGLE) && !source.has(INDEX) && !gguf.is_empty() {
            let files = shards::only_model(&name, gguf)?;
            return Self::from_gguf(name, &mut source, files);
        }
        let config_json = source.read("config.json", MAX_CONFIG_BYTES)?.ok_or_else(|| {
            Error::input(
                Fault::new("config.json", "no such file", "the model's configuration")
                    .next("give the folder that holds config.json and model.safetensors"),
            )
        })?;
        let generation_config_json = source.read("generation_config.json", MAX_CONFIG_BYTES)?;
        let tokenizer_json = source.read(TOKENIZER, MAX_TOKENIZER_BYTES)?;
        let tokenizer_config_json = source.read(TOKENIZER_CONFIG, MAX_CONFIG_BYTES)?;
        let chat_template_jinja = source.read("chat_template.jinja", MAX_TEMPLATE_BYTES)?;
        let pooling_json = source.read(POOLING, MAX_CONFIG_BYTES)?;
        let modules_json = source.read(MODULES, MAX_CONFIG_BYTES)?;
        let (shards, tensors) = open_shards(&mut source)?;
        let inner = Inner {
            name,
            beside: Beside::default(),
            gguf: None,
            config_json: Some(config_json),
            generation_config_json,
            tokenizer_json,
            tokenizer_config_json,
            chat_template_jinja,
            pooling_json,
            modules_json,
            shards,
            tensors,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens the GGUF files `files`, in order: the file of a model, or all its shards. Of other files beside them only a tokenizer is
    /// kept in mind, for those that hold none that can be read.
    fn from_gguf(name: String, source: &mut Source<'_>, files: Vec<String>) -> Result<Self, Error> {
        let mut opened: Vec<Shard> = Vec::new();
        for file in files {
            let bytes = source.take(&file)?;
            opened.push(Shard { name: file, bytes });
        }
        let contents: Vec<(&str, &[u8])> = opened.iter().map(|shard| (shard.name.as_str(), &*shard.bytes)).collect();
        let (gguf, entries) = gguf::open(&contents)?;
        let mut tensors = BTreeMap::new();
        for (at, entry) in
            entries.into_iter().enumerate().flat_map(|(at, of)| of.into_iter().map(move |entry| (at, entry)))
        {
            insert(&mut tensors, &opened, at, entry)?;
        }
        let beside = Beside {
            // One that cannot be read is as good as none: nobody asked for it.
            tokenizer_json: source.read(TOKENIZER, MAX_TOKENIZER_BYTES).ok().flatten(),
            tokenizer_config_json: source.read(TOKENIZER_CONFIG, MAX_CONFIG_BYTES).ok().flatten(),
        };
        let inner = Inner {
            name,
            beside,
            gguf: Some(gguf),
            config_json: None,
            generation_config_json: None,
            tokenizer_json: None,
            tokenizer_config_json: None,
            chat_template_jinja: None,
            pooling_json: None,
            modules_json: None,
            shards: opened,
            tensors,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The folder's name, or the name given; only for people.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
    /// What the files say beside their tensors, if they are GGUF.
    pub fn gguf(&self) -> Option<&Gguf> {
        self.inner.gguf.as_ref()
    }
    /// `config.json`, as it is; GGUF files have none.
    pub fn config_json(&self) -> Option<&[u8]> {
        self.inner.config_json.as_deref()
    }
    /// `generation_config.json`, as it is.
    pub fn generation_config_json(&self) -> Option<&[u8]> {
        self.inner.generation_config_json.as_deref()
    }
    /// `tokenizer.json`, as it is.
    pub fn tokenizer_json(&self) -> Option<&[u8]> {
        self.inner.tokenizer_json.as_deref()
    }
    /// `tokenizer_config.json`, as it is.
    pub fn tokenizer_config_json(&self) -> Option<&[u8]> {
        self.inner.tokenizer_config_json.as_deref()
    }
    /// `tokenizer.json` and `tokenizer_config.json` beside a GGUF file, which need not be of the same model.
    pub fn tokenizer_beside(&self) -> Option<(&[u8], Option<&[u8]>)> {
        let beside = &self.inner.beside;
        Some((beside.tokenizer_json.as_deref()?, beside.tokenizer_config_json.as_deref()))
    }
    /// `chat_template.jinja`, as it is.
    pub fn chat_template_jinja(&self) -> Option<&[u8]> {
        self.inner.chat_template_jinja.as_deref()
    }
    /// `1_Pooling/config.json`, as it is.
    pub fn pooling_json(&self) -> Option<&[u8]> {
        self.inner.pooling_json.as_deref()
    }
    /// `modules.json`, as it is.
    pub fn modules_json(&self) -> Option<&[u8]> {
        self.inner.modules_json.as_deref()
    }
    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let (name, (shard, entry)) = self.inner.tensors.get_key_value(name)?;
        self.view(name, *shard, entry)
    }
    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.inner.tensors.iter().filter_map(|(name, (shard, entry))| self.view(name, *shard, entry))
    }
    /// Gives back the memory of mapped pages around the bytes `range` of the tensor called `name`, which may still be read
    /// again, from the file. For whoever has read them and goes on.
    pub fn release(&self, name: &str, range: Range<usize>) {
        let Some((shard, entry)) = self.inner.tensors.get(name) else { return };
        let Some(shard) = self.inner.shards.get(*shard) else { return };
        let place = |at: usize| entry.start.saturating_add(at).min(entry.end);
        shard.bytes.release(place(range.start)..place(range.end));
    }
    /// Gives back the memory of all mapped pages, for whoever has read what is scattered over the files.
    pub fn release_all(&self) {
        self.inner.shards.iter().for_each(|shard| shard.bytes.release(0..usize::MAX));
    }
    /// Whether both tensors are there, with the same type, shape and bytes.
    pub fn same_data(&self, first: &str, second: &str) -> bool {
        let (Some(a), Some(b)) = (self.tensor(first), self.tensor(second)) else { return false };
        if a.stored() != b.stored() || a.shape() != b.shape() || a.len_bytes() != b.len_bytes() {
            return false;
        }
        let mut pieces = a.bytes.chunks(PIECE_BYTES).zip(b.bytes.chunks(PIECE_BYTES));
        let mut start = 0usize;
        pieces.all(|(a, b)| {
            let range = start..start.saturating_add(PIECE_BYTES);
            start = range.end;
            let same = a == b;
            self.release(first, range.clone());
            self.release(second, range);
            same
        })
    }
    /// Name and size in bytes of each weight file.
    pub fn weight_files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.inner.shards.iter().map(|s| (s.name.as_str(), s.bytes.len() as u64))
    }

    /// Never `None`: `read_header` checked the range.
    fn view<'c>(&'c self, name: &'c str, shard: usize, entry: &'c Entry) -> Option<Tensor<'c>> {
        let shard = self.inner.shards.get(shard)?;
        Some(Tensor {
            name,
            stored: entry.stored,
            shape: &entry.shape,
            file: &shard.name,
            offset_bytes: entry.start as u64,
            bytes: shard.bytes.get(entry.start..entry.end)?,
        })
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, tensors) = (self.inner.shards.len(), self.inner.tensors.len());
        write!(f, "Checkpoint({:?}, {files} weight files, {tensors} tensors)", self.inner.name)
    }
}

type Shards = (Vec<Shard>, BTreeMap<String, (usize, Entry)>);

/// Adds a tensor of the shard `at`, which no other may hold.
fn insert(
    tensors: &mut BTreeMap<String, (usize, Entry)>,
    shards: &[Shard],
    at: usize,
    entry: Entry,
) -> Result<(), Error> {
    let name_of = |at: usize| shards.get(at).map_or("", |shard| shard.name.as_str());
    if let Some((first, _)) = tensors.get(&entry.name) {
        let found = format!("a tensor that {} holds already", name_of(*first));
        return Err(Error::input(Fault::new(name_of(at), found, "each tensor in one file").tensor(entry.name)));
    }
    tensors.insert(entry.name.clone(), (at, entry));
    Ok(())
}

/// Opens the one weight file, or all that the index names.
fn open_shards(source: &mut Source<'_>) -> Result<Shards, Error> {
    let index = match source.has(SINGLE) {
        true => None,
        false => match source.read(INDEX, MAX_INDEX_BYTES)? {
            Some(text) => Some(Index::parse(&text)?),
            None => return Err(no_weights(source)),
        },
    };
    let names = match &index {
        Some(index) => index.shards().into_iter().map(str::to_owned).collect(),
        None => vec![SINGLE.to_owned()],
    };
    let (mut shards, mut tensors) = (Vec::new(), BTreeMap::new());
    for name in names {
        let bytes = source.take(&name)?;
        let entries = read_header(&name, &bytes)?;
        shards.push(Shard { name, bytes });
        for entry in entries {
            insert(&mut tensors, &shards, shards.len().saturating_sub(1), entry)?;
        }
    }
    for (tensor, shard) in index.iter().flat_map(|i| &i.shard_of) {
        let holder = tensors.get(tensor).and_then(|(at, _)| shards.get(*at)).map(|s| &s.name);
        if holder != Some(shard) {
            let found = match holder {
                Some(other) => format!("it in {other}"),
                None => "no such tensor".to_owned(),
            };
            return Err(Error::input(
                Fault::new(shard.clone(), found, format!("the tensor here, as {INDEX} says"))
                    .tensor(tensor.clone())
                    .next("index and weight files are of different versions: fetch them again"),
            ));
        }
    }
    let unlisted = |index: &Index| tensors.iter().find(|(name, _)| !index.shard_of.contains_key(*name));
    if let Some((name, (at, _))) = index.as_ref().and_then(unlisted) {
        let shard = shards.get(*at).map_or("", |s| s.name.as_str());
        return Err(Error::input(
            Fault::new(shard, "a tensor that the index does not list", format!("only tensors of {INDEX}"))
                .tensor(name)
                .next("index and weight files are of different versions: fetch them again"),
        ));
    }
    Ok((shards, tensors))
}

/// Why there are no weights: another format, or none at all.
fn no_weights(source: &Source<'_>) -> Error {
    let expected = "model.safetensors, or model.safetensors.index.json and its files";
    for (suffix, format) in [(".bin", "PyTorch"), (".npz", "NumPy")] {
        if source.has_suffix(suffix) {
            let fault = Fault::new(SINGLE, format!("only {format} files"), expected);
            return Error::unsupported(fault.next(format!("{format} files are not read: fetch or write safetensors")));
        }
    }
    Error::input(Fault::new(SINGLE, "no such file", expected).next("fetch the checkpoint's weight files"))
}
