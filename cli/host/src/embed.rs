//! Embed texts: what `tern embed` does once it has a model, and what `embed` of a built program does.
//!
//! In: options, a source of a model, texts. Out: an embedding of each, in their order, as JSON or NumPy's array. It upholds that
//! texts that cannot be embedded are refused before a model is loaded, that a file is written whole or not at all, and that the
//! bits are those of each text alone.
//!
//! Neighbours run together, as many as one step takes, so that weights are read once for all of them. A text runs alone if no other
//! fits beside it, or if it begins like its neighbours, with an instruction say: what it begins with like one that ran alone directly
//! before is not computed again, for its keys and values are still there.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tern_runtime::{Engine, KvType, Session, Tokenizer, Want};

use crate::args::{EmbedArgs, EmbedFormat};
use crate::output::{check_writable, note, write_file};
use crate::progress::Progress;
use crate::source::Source;
use crate::texts::{self, Text};
use crate::{Host, Interrupted, Usage, interrupt, npy, session};

/// A token in a step of few costs at most about as much as so many in a full one, for the weights are read for less.
const COST_ALONE: usize = 2;

/// Texts that are encoded in no time.
const QUICKLY_ENCODED_BYTES: usize = 1 << 20;

/// Embeds the texts that `args` name. `open` is called once the texts are there.
///
/// # Errors
/// Texts that are none or do not fit; a model that embeds none; what cannot be written.
pub fn embed<'s>(
    args: &EmbedArgs,
    host: Host<'_>,
    open: impl FnOnce() -> Result<Box<dyn Source + 's>>,
) -> Result<ExitCode> {
    let format = format(args)?;
    if let Some(path) = &args.output {
        check_writable(path)?;
    }
    let texts = texts::read(&args.file)?;
    let mut source = open()?;
    source.set_huge_pages(host.huge_pages);
    source.set_experts(host.experts);
    let elems = session::check_embeds(source.facts())? as usize;
    let context = session::context(&args.engine, source.facts())? as usize;
    let end = source.facts().eos.first().copied().context("bug in tern: an embedding model without an end of texts")?;
    let tokenizer = source.tokenizer()?;
    let ids = encode(&texts, &tokenizer, end, context, args.truncate)?;
    drop(tokenizer);

    let model = source.load()?;
    let mut session = session::session(&model, KvType::F32, &args.engine, host.huge_pages)?;
    // Memory may hold less than was asked for.
    check_lengths(&texts, &ids, session.context())?;
    let mut sink = Sink::new(args, format, ids.len(), elems)?;
    let stop = interrupt::generating();
    let start = Instant::now();
    let done = embed_all(&mut session, &texts, &ids, &mut sink, stop);
    interrupt::done();
    let done = done?;
    sink.finish()?;
    let seconds = start.elapsed().as_secs_f64();
    let (n, held) = (ids.len(), done.held);
    let kept = if held > 0 { format!(", {held} more were those of the text before") } else { String::new() };
    note(&format!(
        "embedded {n} texts, {} tokens in {seconds:.2} s ({:.1} tokens/s) on {} threads{kept}",
        done.computed,
        done.computed as f64 / seconds.max(1e-9),
        session.n_threads(),
    ));
    Ok(ExitCode::SUCCESS)
}

/// The format in force.
fn format(args: &EmbedArgs) -> Result<EmbedFormat> {
    let by_name = args.output.as_deref().and_then(std::path::Path::extension).is_some_and(|ending| ending == "npy");
    let format = args.format.unwrap_or(if by_name { EmbedFormat::Npy } else { EmbedFormat::Json });
    if format == EmbedFormat::Npy && args.output.is_none() && io::stdout().is_terminal() {
        return Err(Usage("npy is not for terminals: name a file with -o OUT.npy".to_owned()).into());
    }
    Ok(format)
}

/// The ids of each text, the model's marks around it and `end` behind, at most `context`.
fn encode(texts: &[Text], tokenizer: &Tokenizer, end: u32, context: usize, truncates: bool) -> Result<Vec<Vec<u32>>> {
    let mut all = Vec::new();
    for Text { place, text } in texts {
        // One that cannot fit by its length alone is refused at once: encoding takes a while.
        let is_long = text.len() > QUICKLY_ENCODED_BYTES && tokenizer.least_tokens(text) >= context;
        if is_long && !truncates {
            let (bytes, least) = (text.len(), tokenizer.least_tokens(text));
            bail!(
                "{place} has {bytes} bytes, more than {least} tokens, the context holds {context}: shorten it, or give --truncate"
            );
        }
        let mut ids = tokenizer.encode_marked(text, end).with_context(|| place.to_string())?;
        if truncates && ids.len() > context {
            ids.truncate(context.saturating_sub(1));
            ids.push(end);
        }
        all.push(ids);
    }
    check_lengths(texts, &all, context)?;
    Ok(all)
}

/// Refuses texts that a context of `context` tokens does not hold.
fn check_lengths(texts: &[Text], ids: &[Vec<u32>], context: usize) -> Result<()> {
    match texts.iter().zip(ids).find(|(_, ids)| ids.len() > context) {
        Some((Text { place, .. }, ids)) => bail!(
            "{place} has {} tokens, the context holds {context}: shorten it, or give --truncate or a longer --ctx",
            ids.len()
        ),
        None => Ok(()),
    }
}

/// Tokens that were computed, and those that the text before had left.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Done {
    computed: usize,
    held: usize,
}

/// Embeds every text and hands each over; `stop` ends it.
fn embed_all(
    session: &mut Session,
    texts: &[Text],
    ids: &[Vec<u32>],
    sink: &mut Sink<'_>,
    stop: &AtomicBool,
) -> Result<Done> {
    let total: usize = ids.iter().map(Vec::len).sum();
    let bar = Progress::new("embedding", total as u64);
    let (most, elems) = (session.step_tokens().min(session.context()), session.info().row_elems() as usize);
    let mut done = Done::default();
    let mut before: &[u32] = &[];
    let mut first = 0;
    session.truncate(0)?;
    while let Some(rest) = ids.get(first..).filter(|rest| !rest.is_empty()) {
        check_stop(stop)?;
        let mut together = &rest[..fitting(rest, most).max(1)];
        if computed_alone(before, together) * COST_ALONE < together.iter().map(Vec::len).sum() {
            together = &rest[..1];
        }
        let embeddings = if let [text] = together {
            let embedding = embed_alone(session, text, before, &mut done, stop, &|done| bar.set(done, total as u64))?;
            before = text;
            embedding
        } else {
            let texts: Vec<&[u32]> = together.iter().map(Vec::as_slice).collect();
            done.computed += texts.iter().map(|text| text.len()).sum::<usize>();
            before = &[];
            session.step_texts(&texts, Want::Last)?
        };
        for (index, (ids, embedding)) in (first..).zip(together.iter().zip(embeddings.chunks(elems))) {
            if embedding.iter().any(|x| !x.is_finite()) {
                bail!("{}: the model's embedding is not finite: its weights are damaged", texts[index].place);
            }
            sink.take(index, ids.len(), embedding)?;
        }
        first += together.len();
        bar.set((done.computed + done.held) as u64, total as u64);
    }
    Ok(done)
}

/// Tokens that are computed of `texts` if each runs alone, behind `before`.
fn computed_alone(before: &[u32], texts: &[Vec<u32>]) -> usize {
    let befores = std::iter::once(before).chain(texts.iter().map(Vec::as_slice));
    befores.zip(texts).map(|(before, text)| text.len() - same(before, text)).sum()
}

/// How many tokens `text` need not compute behind `before`: the last one it must, for that is the result.
fn same(before: &[u32], text: &[u32]) -> usize {
    before.iter().zip(text).take_while(|(a, b)| a == b).count().min(text.len().saturating_sub(1))
}

/// How many of the first texts have at most `most` tokens together.
fn fitting(texts: &[Vec<u32>], most: usize) -> usize {
    let lengths = texts.iter().scan(0, |sum, text| {
        *sum += text.len();
        Some(*sum)
    });
    lengths.take_while(|length| *length <= most).count()
}

/// Embeds a text in as many steps as it takes. What it begins with like `before` is there already; `tell` gets the tokens done.
fn embed_alone<'s>(
    session: &'s mut Session,
    text: &[u32],
    before: &[u32],
    done: &mut Done,
    stop: &AtomicBool,
    tell: &dyn Fn(u64),
) -> Result<&'s [f32]> {
    let same = same(before, text);
    session.truncate(same)?;
    done.held += same;
    let mut rest = text.get(same..).unwrap_or_default();
    let step_toks = session.step_tokens().max(1);
    while rest.len() > step_toks {
        let (step, behind) = rest.split_at(step_toks);
        check_stop(stop)?;
        session.step(step, Want::None)?;
        (rest, done.computed) = (behind, done.computed + step.len());
        tell((done.computed + done.held) as u64);
    }
    check_stop(stop)?;
    done.computed += rest.len();
    Ok(session.step(rest, Want::Last)?)
}

fn check_stop(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
}

/// Where embeddings go: to standard output as they come, or to a file when all are there.
struct Sink<'a> {
    args: &'a EmbedArgs,
    format: EmbedFormat,
    bytes: Vec<u8>,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'e> {
    /// Which text, counted from 0.
    index: usize,
    /// Its tokens, marks included.
    tokens: usize,
    embedding: &'e [f32],
}

impl<'a> Sink<'a> {
    fn new(args: &'a EmbedArgs, format: EmbedFormat, rows: usize, cols: usize) -> Result<Self> {
        let bytes = match format {
            EmbedFormat::Npy => npy::header(rows, cols),
            EmbedFormat::Json => Vec::new(),
        };
        let mut sink = Self { args, format, bytes };
        sink.flow()?;
        Ok(sink)
    }

    fn take(&mut self, index: usize, tokens: usize, embedding: &[f32]) -> Result<()> {
        match self.format {
            EmbedFormat::Npy => self.bytes.extend(embedding.iter().flat_map(|x| x.to_le_bytes())),
            EmbedFormat::Json => {
                serde_json::to_writer(&mut self.bytes, &Line { index, tokens, embedding })
                    .context("cannot write JSON")?;
                self.bytes.push(b'\n');
            }
        }
        self.flow()
    }

    /// Without a file, what there is goes out.
    fn flow(&mut self) -> Result<()> {
        if self.args.output.is_none() {
            let mut out = io::stdout().lock();
            out.write_all(&self.bytes).and_then(|()| out.flush()).context("cannot write to standard output")?;
            self.bytes.clear();
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match &self.args.output {
            Some(path) => write_file(path, &self.bytes),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_texts_begin_with_alike_is_computed_once() {
        let texts = [vec![1, 2, 3, 9], vec![1, 2, 4, 9], vec![5, 9], vec![5, 9]];
        assert_eq!(computed_alone(&[], &texts), 4 + 2 + 2 + 1);
        assert_eq!(computed_alone(&[1, 2, 3, 9], &texts), 1 + 2 + 2 + 1);
        assert_eq!((fitting(&texts, 10), fitting(&texts, 9), fitting(&texts, 3)), (3, 2, 0));
    }
}
