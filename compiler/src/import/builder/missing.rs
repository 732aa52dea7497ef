//! Tensors that were asked for and are not there.
//!
//! In: their names. Out: one error that names the first of them and counts the others. Upholds: memory does not grow with what a
//! configuration asks for: it may claim thousands of layers with thousands of experts each.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::checkpoint::{self, Fault};
use crate::import::config::Config;
use crate::import::error::Error;

/// Names that are kept.
const NAMED: usize = 8;
/// So many are missing that looking for further ones tells nothing.
const MANY: usize = 1000;

/// Those that were asked for in vain.
#[derive(Default)]
pub(super) struct Missing {
    first: Vec<String>,
    count: usize,
}

impl Missing {
    /// One more.
    pub(super) fn push(&mut self, name: String) {
        if self.first.len() < NAMED {
            self.first.push(name);
        }
        self.count = self.count.saturating_add(1);
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Refuses to go on if so many are missing that the files are of another model.
    pub(super) fn refuse_many(&self, config: &Config) -> Result<(), Error> {
        if self.count < MANY { Ok(()) } else { self.refuse(config, "") }
    }

    /// Refuses files that lack a tensor; `unread` names those that nothing asked for.
    pub(super) fn refuse(&self, config: &Config, unread: &str) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let mut found = format!("files that lack {}", checkpoint::first_eight(&self.first));
        match self.count.saturating_sub(self.first.len()) {
            0 => {}
            more if self.count < MANY => found.push_str(&format!(" and {more} more")),
            more => found.push_str(&format!(" and {more} or more others")),
        }
        let expected = format!("the tensors of {} as {} describes it", config.architecture, config.source);
        let mut fault = Fault::new("the weight files", found, expected);
        if !unread.is_empty() {
            fault = fault.next(format!("tensors that nothing asked for: {unread}"));
        }
        Err(Error::input(fault))
    }
}
