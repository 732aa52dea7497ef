//! Writes a synthetic checkpoint to a folder.
//!
//! In: a shape, options, the path of a folder that does not exist or is empty. Out: the folder. Everything goes to a
//! folder beside it first, which is renamed at the end and removed if anything fails. Weights are made and written piece
//! by piece.

use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::fill::{NormalTable, Stream, TritTable, fill_even, fill_even_f16, fill_gains, fill_words};
use super::layout::{self, Fill, Tensor};
use super::repeat::Repeats;
use super::shapes::Shape;
use super::{Error, Options, files, tokenizer};
use crate::build::space;

/// Bytes made at once; a multiple of every element's size.
const PIECE_BYTES: usize = 8 << 20;
/// Pieces shorter than this are not shared between threads.
const SHARED_BYTES: usize = 1 << 20;
/// More threads would outrun every disk.
const MAX_THREADS: usize = 4;

/// How far writing has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of weights that are written.
    pub done_bytes: u64,
    /// Bytes of all weights.
    pub total_bytes: u64,
}

/// Writes `shape`, as it is with the weights of `options` ([`super::Weights::fitted`]), to the folder `dir`; its weights' bytes.
/// `progress` hears after every piece, and may end it.
///
/// # Errors
/// `Input` for an impossible shape, kind of weights, share of zeros or of repeated rows, or spread of gains; `Occupied`, `NoSpace`,
/// `Io`; `Interrupted` if `progress` says so. Then no file is left behind.
pub fn write(
    shape: &Shape,
    options: &Options,
    dir: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64, Error> {
    let shape = &options.checked(shape)?;
    let occupied = || Error::Occupied { path: dir.to_owned() };
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(occupied()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Err(occupied()),
        Err(source) => return Err(Error::Io { path: dir.to_owned(), source }),
    }
    replaceable(dir)?;
    let folder = Unfinished::beside(dir)?;
    let plan = layout::files(layout::tensors(shape, options), options.max_file_bytes);
    let total_bytes = plan.iter().map(layout::File::data_bytes).sum();
    if let Some(free_bytes) = space::free_bytes(&folder.path).filter(|free| *free < total_bytes) {
        return Err(Error::NoSpace { path: dir.to_owned(), free_bytes, needed_bytes: total_bytes });
    }
    for (name, json) in descriptions(shape, options, &plan) {
        folder.create(name)?.write(json.to_string().as_bytes())?.finish()?;
    }
    let maker = Maker::new(options);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let mut done_bytes = 0;
    for planned in &plan {
        let mut file = folder.create(&planned.name)?.write(&planned.header())?;
        let mut pieces = pieces(planned);
        let mut next = pieces.next();
        if let Some(piece) = next {
            front.resize(piece.bytes, 0);
            maker.make(piece, &mut front);
        }
        while next.is_some() {
            next = pieces.next();
            // The next piece is made while the disk takes this one: by whoever comes first, since the system may refuse a thread.
            let coming = Mutex::new(next.map(|piece| (piece, &mut back)));
            let make_it = || {
                if let Some((piece, out)) = taken(&coming) {
                    out.resize(piece.bytes, 0);
                    maker.make(piece, out);
                }
            };
            file = std::thread::scope(|scope| {
                if next.as_ref().is_some_and(|piece| piece.bytes >= SHARED_BYTES) {
                    drop(std::thread::Builder::new().spawn_scoped(scope, make_it));
                }
                let written = file.write(&front);
                make_it();
                written
            })?;
            done_bytes += front.len() as u64;
            if progress(Progress { done_bytes, total_bytes }).is_break() {
                return Err(Error::Interrupted);
            }
            std::mem::swap(&mut front, &mut back);
        }
        file.finish()?;
    }
    folder.finish(dir)?;
    Ok(total_bytes)
}

/// The same checkpoint in memory: its files, by their names.
///
/// # Errors
/// As [`write()`], but for what concerns a disk.
pub fn in_memory(
    shape: &Shape,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let shape = &options.checked(shape)?;
    let plan = layout::files(layout::tensors(shape, options), options.max_file_bytes);
    let total_bytes = plan.iter().map(layout::File::data_bytes).sum();
    let maker = Maker::new(options);
    let mut files: Vec<(String, Vec<u8>)> = descriptions(shape, options, &plan)
        .map(|(name, json)| (name.to_owned(), json.to_string().into_bytes()))
        .collect();
    let mut done_bytes = 0;
    for planned in &plan {
        let mut bytes = planned.header();
        let mut at = bytes.len();
        let all =
            usize::try_from(planned.data_bytes()).ok().and_then(|data| data.checked_add(at)).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(all.saturating_sub(at)).map_err(|_| Error::OutOfMemory { bytes: all })?;
        bytes.resize(all, 0);
        for piece in pieces(planned) {
            maker.make(piece, &mut bytes[at..at + piece.bytes]);
            at += piece.bytes;
            done_bytes += piece.bytes as u64;
            if progress(Progress { done_bytes, total_bytes }).is_break() {
                return Err(Error::Interrupted);
            }
        }
        files.push((planned.name.clone(), bytes));
    }
    Ok(files)
}

/// The files beside those of weights.
fn descriptions(
    shape: &Shape,
    options: &Options,
    plan: &[layout::File],
) -> impl Iterator<Item = (&'static str, serde_json::Value)> {
    let all = [
        ("config.json", Some(files::config(shape, options.weights))),
        ("generation_config.json", Some(files::generation_config(shape))),
        ("tokenizer.json", Some(tokenizer::tokenizer(shape))),
        ("tokenizer_config.json", Some(tokenizer::tokenizer_config(shape))),
        ("model.safetensors.index.json", layout::index(plan)),
    ];
    all.into_iter().filter_map(|(name, json)| Some((name, json?)))
}

/// A part of a tensor that is made at once.
#[derive(Clone, Copy)]
struct Piece<'t> {
    tensor: &'t Tensor,
    /// From the tensor's start.
    first: u64,
    bytes: usize,
}

/// The pieces of a file, in order.
fn pieces(file: &layout::File) -> impl Iterator<Item = Piece<'_>> {
    file.tensors.iter().flat_map(|tensor| {
        let bytes = tensor.bytes();
        let starts = (0..bytes).step_by(PIECE_BYTES);
        starts.map(move |first| Piece { tensor, first, bytes: PIECE_BYTES.min((bytes - first) as usize) })
    })
}

/// Makes the bytes of tensors.
struct Maker {
    seed: u64,
    trits: TritTable,
    repeat_rows: f64,
    threads: usize,
}

/// What is left in `slot`, which is then empty.
fn taken<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Maker {
    fn new(options: &Options) -> Self {
        Self {
            seed: options.seed,
            trits: TritTable::new(options.zeros),
            repeat_rows: options.repeat_rows,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX_THREADS),
        }
    }

    /// The bytes of `piece` to `out`, which has room for just these, on several threads if they are many.
    fn make(&self, piece: Piece<'_>, out: &mut [u8]) {
        let Piece { tensor, first, bytes } = piece;
        if bytes < SHARED_BYTES || self.threads == 1 {
            return self.make_part(tensor, first, out);
        }
        // An even length, so that no element is cut.
        let part_bytes = bytes.div_ceil(self.threads).next_multiple_of(64);
        let parts = Mutex::new(out.chunks_mut(part_bytes).enumerate());
        let work = || {
            while let Some((i, part)) = { parts.lock().unwrap_or_else(PoisonError::into_inner).next() } {
                self.make_part(tensor, first + (i * part_bytes) as u64, part);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads {
                // A thread that the system does not start leaves its work to the others.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
    }

    fn make_part(&self, tensor: &Tensor, first: u64, out: &mut [u8]) {
        let stream = Stream::new(self.seed, &tensor.name);
        match tensor.fill {
            Fill::Trits { rows } => {
                let cols = tensor.shape.get(1).copied().unwrap_or(1);
                let repeats = Repeats::new(self.seed, &tensor.name, self.repeat_rows);
                repeats.fill(&self.trits, stream, first, rows, cols, out);
            }
            Fill::Groups { group, scale } => {
                let scales = Stream::new(self.seed, &format!("{} scales", tensor.name));
                self.trits.fill_groups([stream, scales], first / 2, group, scale, out);
            }
            Fill::Normal { size, is_f16 } => NormalTable::new(size, is_f16).fill(stream, first / 2, out),
            Fill::Words => fill_words(stream, first, out),
            Fill::MiddleZeros => out.fill(0x88),
            Fill::Steps(step) => fill_even_f16(stream, first / 2, 0.9 * step..1.1 * step, out),
            Fill::Norm => fill_even(stream, first / 2, 0.75..1.25, out),
            Fill::Gains(spread) => fill_gains(stream, first / 2, spread, out),
            Fill::Scale(scale) => fill_even(stream, first / 2, 0.9 * scale..1.1 * scale, out),
        }
    }
}

/// Refuses what a rename will not replace, before hours are spent on it.
fn replaceable(dir: &Path) -> Result<(), Error> {
    let fixed = |what, instead| Err(Error::Fixed { path: dir.to_owned(), what, instead });
    if fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_symlink()) {
        return fixed("a symbolic link", "behind it");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
        if device(dir).is_some_and(|here| device(parent).is_some_and(|above| above != here)) {
            return fixed("where a file system is mounted", "in it");
        }
    }
    Ok(())
}

/// A folder that vanishes unless it is finished.
struct Unfinished {
    path: PathBuf,
    finished: bool,
}

impl Unfinished {
    fn beside(dir: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: dir.to_owned(), source };
        let no_name = || io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path ends with no folder name"));
        let mut name = std::ffi::OsString::from(".");
        name.push(dir.file_name().ok_or_else(no_name)?);
        name.push(format!(".{}.part", std::process::id()));
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(io)?;
        }
        let path = dir.with_file_name(name);
        fs::create_dir(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        Ok(Self { path, finished: false })
    }

    fn create(&self, name: &str) -> Result<Part, Error> {
        let path = self.path.join(name);
        match File::create(&path) {
            Ok(file) => Ok(Part { file, path }),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// Takes its place. An empty folder there gives way.
    fn finish(mut self, dir: &Path) -> Result<(), Error> {
        let io = |source| Error::Io { path: dir.to_owned(), source };
        if cfg!(not(unix)) && dir.exists() {
            fs::remove_dir(dir).map_err(io)?;
        }
        fs::rename(&self.path, dir).map_err(io)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // The error that matters is the one that brought us here.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A file of the unfinished folder.
struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    fn write(mut self, bytes: &[u8]) -> Result<Self, Error> {
        match self.file.write_all(bytes) {
            Ok(()) => Ok(self),
            Err(source) => Err(Error::Io { path: self.path, source }),
        }
    }

    /// On the disk, so that no power cut leaves a whole folder with half a file.
    fn finish(self) -> Result<(), Error> {
        self.file.sync_all().map_err(|source| Error::Io { path: self.path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{Graph, SHAPES};

    fn tiny(graph: Graph) -> Shape {
        Shape { graph, layers: 2, hidden: 24, intermediate: 42, heads: 2, kv_heads: 1, vocab: 300, ..SHAPES[1] }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Scales of f16 are found again and lie as f16: at most an odd line more than 2.125 bits a weight, without zeros 1.125.
    #[test]
    fn groups_are_found_again() {
        use crate::checkpoint::Checkpoint;
        use crate::pipeline;
        use crate::schedule::kernel::GroupScales;
        use crate::schedule::packing::Layout;

        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model");
        let base = Shape::named("qwen3-1.7b-g128").expect("a shape");
        let sizes = Shape { layers: 1, hidden: 256, intermediate: 384, vocab: 300, marks: 3, positions: 64, ..base };
        let shape = Shape { heads: 4, kv_heads: 2, ..sizes };
        for (zeros, bits) in [(0.4, 2.125), (0.0, 1.125)] {
            let path = path.with_extension(zeros.to_string());
            write(&shape, &Options { zeros, ..Options::default() }, &path, &mut |_| ControlFlow::Continue(()))
                .expect("written");
            let options = pipeline::Options::native().expect("a level");
            let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
            let imported = pipeline::import(&checkpoint, &options).expect("a model");
            let lowered = pipeline::lower(&imported.graph, &imported.weights, &options).expect("a schedule");
            let placed = lowered.schedule.weights.placed.iter();
            let groups = placed
                .filter(|placed| matches!(placed.layout, Layout::Groups { group: 128, stored: GroupScales::F16, .. }));
            assert_eq!(groups.count(), 7, "{zeros}");
            let traffic = crate::schedule::traffic::Traffic::of(&lowered.schedule);
            assert!((bits..bits + 1.0 / 8.0).contains(&traffic.bits_per_weight_body()), "{traffic:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let go = |name: &str, seed: u64, max_file_bytes: u64| {
            let path = dir.path().join(name);
            let options = Options { seed, max_file_bytes, ..Options::default() };
            let bytes = write(&tiny(Graph::BitNet), &options, &path, &mut |_| ControlFlow::Continue(()));
            assert!(bytes.expect("written") > 14_400);
            path
        };
        let weights = |path: PathBuf| fs::read(path.join("model.safetensors")).expect("weights");
        let first = weights(go("a", 1, u64::MAX));
        assert_eq!(weights(go("b", 1, u64::MAX)), first);
        assert_ne!(weights(go("c", 2, u64::MAX)), first);
        let sharded = names(&go("d", 1, 10_000));
        assert!(sharded.iter().any(|name| name == "model.safetensors.index.json"), "{sharded:?}");
        assert_eq!(names(dir.path()), ["a", "b", "c", "d"]);
        let options = Options { seed: 1, ..Options::default() };
        let made = in_memory(&tiny(Graph::BitNet), &options, &mut |_| ControlFlow::Continue(())).expect("made");
        for (name, bytes) in &made {
            assert!(fs::read(dir.path().join("a").join(name)).expect("a file") == *bytes, "{name}");
        }
        assert_eq!(made.len(), names(&dir.path().join("a")).len());
    }

    #[test]
    fn an_empty_folder_gives_way_and_a_full_one_does_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model");
        fs::create_dir(&path).expect("a folder");
        let go = || write(&tiny(Graph::Llama), &Options::default(), &path, &mut |_| ControlFlow::Continue(()));
        go().expect("written");
        assert!(path.join("config.json").is_file());
        assert!(matches!(go(), Err(Error::Occupied { .. })));
        assert_eq!(names(dir.path()), ["model"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("real")).expect("a folder");
        for (name, target) in [("empty", "real"), ("dangling", "nowhere")] {
            let path = dir.path().join(name);
            std::os::unix::fs::symlink(target, &path).expect("a link");
            let written = write(&tiny(Graph::Llama), &Options::default(), &path, &mut |_| {
                panic!("a piece was written");
            });
            assert!(matches!(written, Err(Error::Fixed { .. })), "{written:?}");
        }
        assert_eq!(names(dir.path()), ["dangling", "empty", "real"]);
    }

    #[test]
    fn nothing_is_left_after_an_interruption() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model");
        let mut pieces = 0;
        let done = write(&tiny(Graph::Llama), &Options::default(), &path, &mut |_| {
            pieces += 1;
            if pieces == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(done, Err(Error::Interrupted)));
        assert!(names(dir.path()).is_empty());
        let default = Options::default();
        for wrong in [Options { zeros: 1.5, ..default }, Options { repeat_rows: 0.99, ..default }] {
            let written = write(&tiny(Graph::Llama), &wrong, &path, &mut |_| ControlFlow::Continue(()));
            assert!(matches!(written, Err(Error::Input { .. })));
        }
    }
}
