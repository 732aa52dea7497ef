//! tern's runtime: runs a compiled model. It knows no compiler.
//!
//! Follow a token: [`tokenizer`] (text to ids), [`generate`] (the loop), [`engine`] (what the loop needs of a model),
//! [`session`] (calls compiled code on all threads: [`threads`], [`barrier`], [`cores`]; keys and values as [`kv`]
//! says), [`model`] (the code, the weights in [`memory`]), [`sample`] (logits to an id), [`detokenize`] (ids to text, as it
//! arrives) and [`stop`] (stop strings, held back while they may be coming). Beside the way of a token: [`limits`] (what the
//! machine can do at most) and [`profile`] (where a step's time goes).
//!
//! Where a model comes from: [`artifact`] (the file of a compiled one, checked before it is believed), [`code`] (pages of
//! machine code), [`features`] (what the CPU has). [`chat`] renders conversations by a model's template; [`knobs`] is the
//! shape of the table of settings, which others read.
//!
//! The library prints nothing, reads no environment and opens no file that it was not given.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//! use tern_runtime::generate::{Event, Request, generate};
//! use tern_runtime::sample::{Sampler, Sampling};
//! use tern_runtime::session::{Options, Session};
//! use tern_runtime::{Model, Tokenizer};
//!
//! /// Continues `text` by at most 32 tokens on standard output.
//! fn continue_text(model: Arc<Model>, tokenizer: &Tokenizer, text: &str) -> tern_runtime::Result<()> {
//!     let eos = model.info().eos.clone();
//!     let mut session = Session::new(model, &Options::default())?;
//!     let prompt = tokenizer.encode(text)?;
//!     let mut sampler = Sampler::new(Sampling { temperature: 0.8, seed: 1, ..Sampling::greedy() })?;
//!     let request = Request { max_tokens: 32, eos: &eos, ..Request::new(&prompt) };
//!     let outcome = generate(&mut session, Some(tokenizer), &mut sampler, &request, &mut |event| {
//!         if let Event::Text(piece) = event {
//!             print!("{piece}");
//!         }
//!         ControlFlow::Continue(())
//!     })?;
//!     eprintln!("{:.1} tokens/s", outcome.stats.decode_toks_per_s());
//!     Ok(())
//! }
//! ```

pub mod artifact;
pub mod barrier;
pub mod chat;
pub mod code;
pub mod cores;
pub mod detokenize;
pub mod engine;
pub mod error;
pub mod features;
pub mod generate;
pub mod generated;
mod growth;
pub mod knobs;
pub mod kv;
pub mod limits;
pub mod lost_pages;
pub mod memory;
pub mod model;
pub mod profile;
pub mod sample;
pub mod session;
pub mod shown;
pub mod stop;
pub mod threads;
pub mod tokenizer;

pub use engine::{Engine, Want};
pub use error::{Error, Result};
pub use kv::KvType;
pub use model::Model;
pub use session::Session;
pub use tokenizer::Tokenizer;
