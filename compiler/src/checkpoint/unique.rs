//! Refuses a JSON object that gives a key twice.
//!
//! In: keys as a visitor meets them. Out: an error on the second meeting. Plain maps keep the last value without a word,
//! so two readers of one file could see two models.

use std::collections::BTreeSet;

use serde::de::Error;

/// The keys met so far.
#[derive(Default)]
pub(super) struct Unique(BTreeSet<String>);

impl Unique {
    /// Remembers `key`, which must be new.
    pub(super) fn insert<E: Error>(&mut self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) {
            return Ok(());
        }
        Err(E::custom(format!("the name {key:?} is there twice")))
    }
}
