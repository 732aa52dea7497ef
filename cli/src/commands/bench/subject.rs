//! A model that is measured: compiled, with what is known of its traffic.
//!
//! In: a loaded checkpoint and options. Out: a [`Subject`] that opens sessions and says what a token of a test reads.

use std::sync::Arc;

use anyhow::Result;
use tern_compiler::codegen::state::StateLayout;
use tern_compiler::pipeline::{Lowered, Options};
use tern_compiler::schedule::kernel::KvElem;
use tern_compiler::schedule::traffic::{Skipping, Traffic};
use tern_runtime::session::{self, Session};
use tern_runtime::{KvType, Model};

use super::measure::Test;
use crate::args::CompileArgs;
use crate::knobs::number_or_auto;
use crate::load::Loaded;

/// A model in the form in which it is measured.
pub(super) struct Subject {
    pub(super) model: Arc<Model>,
    pub(super) lowered: Lowered,
    pub(super) options: Options,
    pub(super) kv: KvType,
    pub(super) traffic: Traffic,
    /// Calls that skip columns of zero activations.
    pub(super) skipping: Vec<Skipping>,
}

impl Subject {
    /// Compiles what was loaded with `options`.
    pub(super) fn new(loaded: &Loaded, options: Options, args: &CompileArgs, kv: KvType) -> Result<Self> {
        let (model, lowered) = loaded.compile_lowered(&options, args)?;
        let (traffic, skipping) = (Traffic::of(&lowered.schedule), Skipping::all(&lowered.schedule));
        Ok(Self { model, lowered, options, kv, traffic, skipping })
    }

    /// A session that holds each of `tests`.
    pub(super) fn session(&self, n_threads: usize, tests: &[Test]) -> Result<Session> {
        let positions = tests.iter().map(Test::positions).max().unwrap_or(1);
        let options = session::Options {
            threads: Some(n_threads),
            context: Some(positions as u32),
            kv: self.kv,
            huge_pages: self.options.huge_pages,
            spins: number_or_auto("spin", None)?.map(|n| n as u32),
            ..session::Options::default()
        };
        Ok(Session::new(Arc::clone(&self.model), &options)?)
    }

    /// Where in the state calls that skip columns leave how many they read of one token.
    pub(super) fn counts(&self) -> Result<Vec<u64>> {
        let state = StateLayout::new(&self.lowered.schedule)?;
        Ok(self.skipping.iter().map(|call| state.columns_read + 4 * u64::from(call.index)).collect())
    }

    /// What a step reads if each call that skips columns read so many of them (`columns`), and a row of logits so many rows of
    /// the exact head beside its coarse copy.
    pub(super) fn traffic(&self, columns: &[f64], rescored_rows: f64) -> Traffic {
        let calls = self.skipping.iter().zip(columns);
        let traffic = calls.fold(self.traffic, |traffic, (call, columns)| traffic.with_columns_read(call, *columns));
        traffic.with_rescored_rows(rescored_rows)
    }

    /// Bytes that a token of `test` reads by this `traffic`.
    pub(super) fn bytes_per_tok(&self, test: &Test, traffic: &Traffic) -> f64 {
        let elem = match self.kv {
            KvType::F32 => KvElem::F32,
            KvType::F16 => KvElem::F16,
        };
        match *test {
            Test::Prefill { tokens } => {
                let step = u64::from(self.lowered.schedule.max_step_tokens);
                traffic.prefill_bytes(tokens as u64, step, elem) as f64 / tokens as f64
            }
            // The cache grows evenly, so the middle of the test stands for all of it.
            Test::Decode { tokens, depth } => traffic.decode_bytes((depth + tokens / 2) as u64, elem) as f64,
        }
    }
}
