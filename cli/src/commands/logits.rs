//! `tern logits`: the logits of given ids, by compiled code or by the interpreter, in a safetensors file.
//!
//! In: a file with token ids. Out: a file with f32 `logits` [T, vocab], from one prefill with an f32 cache, written whole
//! or not at all.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use tern_compiler::graph::interp::{Interp, KvStore};
use tern_compiler::pipeline::{self, Options, Timings};
use tern_compiler::schedule::HeadMode;
use tern_host::session;
use tern_runtime::engine::check_logits;
use tern_runtime::{Engine, KvType, Want};

use crate::args::{EngineKind, LogitsArgs};
use crate::input::read_file;
use crate::load::{self, Loaded};
use crate::output::{print_json, write_file};
use crate::progress::Progress;

/// The longest file of ids that is read.
const MAX_IDS_BYTES: u64 = 64 << 20;

/// Computes and writes.
pub(crate) fn run(args: &LogitsArgs) -> Result<ExitCode> {
    // All logits are wanted: a coarse copy of the head would serve nobody.
    let options = Options { head: HeadMode::Exact, ..load::options(&args.compile, args.engine_args.ctx.as_deref())? };
    let ids = read_ids(&args.ids, &args.tensor)?;
    let (engine, start, logits, vocab) = match args.engine {
        EngineKind::Jit => {
            let mut source = load::source(args.model.as_deref(), options.clone(), &args.compile, None)?;
            source.set_huge_pages(options.huge_pages);
            source.set_experts(options.experts);
            let facts = source.facts().clone();
            session::check_continues(&facts)?;
            // The same for both engines, before anything is compiled.
            session::check_prompt(&ids, facts.prepared_positions, &facts)?;
            let model = source.load()?;
            let mut session = session::session(&model, KvType::F32, &args.engine_args, options.huge_pages)?;
            let start = Instant::now();
            ("jit", start, session.step(&ids, Want::All)?.to_vec(), facts.vocab)
        }
        EngineKind::Interp => {
            let loaded = Loaded::new(args.model.as_deref(), &options)?;
            let facts = loaded.facts();
            session::check_continues(&facts)?;
            session::check_prompt(&ids, facts.prepared_positions, &facts)?;
            let mut timings = Timings::default();
            let graph = timings.time("compile_form", || pipeline::compiled_form(&loaded.imported.graph))?;
            loaded.report_timings(&args.compile, &timings);
            let _spinner = Progress::spinner("interpreting");
            let interp = Interp::new(&graph, &loaded.imported.weights, options.profile)?;
            let mut store = KvStore::new(&graph, KvType::F32);
            let start = Instant::now();
            ("interp", start, interp.step(&mut store, &ids, 0, Want::All)?.logits, facts.vocab)
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let (rows, vocab) = (ids.len(), vocab as usize);
    for (position, row) in logits.chunks_exact(vocab).enumerate() {
        if let Err(e) = check_logits(row) {
            bail!("position {position}: {e}");
        }
    }
    write_logits(&args.output, &logits, rows, vocab)?;
    if args.json {
        let path = args.output.display().to_string();
        print_json(&Report { path, rows, vocab, engine, seconds })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// The file written.
    path: String,
    /// Rows of logits: one per id.
    rows: usize,
    /// Logits of a row.
    vocab: usize,
    /// What computed.
    engine: &'static str,
    /// The forward pass alone.
    seconds: f64,
}

/// The ids in the tensor `name` of the file `path`.
fn read_ids(path: &Path, name: &str) -> Result<Vec<u32>> {
    let shown = path.display();
    let bytes = read_file(path, MAX_IDS_BYTES)?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{shown} is no safetensors file"))?;
    let Ok(tensor) = file.tensor(name) else {
        let names: Vec<String> = file.names().iter().take(8).map(|name| name.chars().take(200).collect()).collect();
        bail!("{shown} has no tensor {name:?}, it has {names:?}: name one with --tensor");
    };
    if !matches!(tensor.shape(), [_] | [1, _]) {
        bail!("{shown}: tensor {name:?} has shape {:?}, expected [T] or [1, T]", tensor.shape());
    }
    let width_bytes = match tensor.dtype() {
        Dtype::U8 => 1,
        Dtype::I32 | Dtype::U32 => 4,
        Dtype::I64 => 8,
        other => bail!("{shown}: tensor {name:?} is {other:?}, expected I32, I64, U32 or U8"),
    };
    let signed = matches!(tensor.dtype(), Dtype::I32 | Dtype::I64);
    let elems = tensor.data().chunks_exact(width_bytes);
    elems
        .enumerate()
        .map(|(i, elem)| read_id(elem, signed).with_context(|| format!("{shown}: {name:?}[{i}]")))
        .collect()
}

/// One little-endian element as an id.
fn read_id(elem: &[u8], signed: bool) -> Result<u32> {
    let negative = signed && elem.last().is_some_and(|top| top & 0x80 != 0);
    let value = elem.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    match u32::try_from(value) {
        Ok(id) if !negative => Ok(id),
        _ => bail!("is no token id: it is negative or beyond 32 bits"),
    }
}

fn write_logits(path: &Path, logits: &[f32], rows: usize, vocab: usize) -> Result<()> {
    let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![rows, vocab], &bytes).context("the logits have another shape")?;
    let file = safetensors::serialize([("logits", view)], None).context("cannot write safetensors")?;
    write_file(path, &file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_become_ids_or_errors() {
        assert_eq!(read_id(&[7], false).expect("an id"), 7);
        assert_eq!(read_id(&[200], false).expect("an id"), 200);
        assert_eq!(read_id(&[1, 2, 0, 0], true).expect("an id"), 513);
        assert_eq!(read_id(&[0xff; 4], false).expect("an id"), u32::MAX);
        assert_eq!(read_id(&[9, 0, 0, 0, 0, 0, 0, 0], true).expect("an id"), 9);
        assert!(read_id(&[0xff; 4], true).is_err());
        assert!(read_id(&[0xff; 8], true).is_err());
        assert!(read_id(&[0, 0, 0, 0, 1, 0, 0, 0], true).is_err());
    }
}
