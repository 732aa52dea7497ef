//! Reads the keys of one JSON object, with types and ranges, and knows which were read.
//!
//! In: a parsed object and its place. Out: values that are what the caller asked for, or an error that names the key.
//! Upholds: a key counts as read only if somebody asked for it, so that what nobody understood can be refused. `null`
//! is the same as an absent key, as in the files' own ecosystem.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::Error;
use crate::checkpoint::{Fault, check_unique_keys};
use crate::graph::F32;

/// One JSON object of `file`.
pub(super) struct Fields<'j> {
    file: &'static str,
    /// Keys above this object, each with its dot.
    prefix: String,
    map: &'j Map<String, Value>,
    read: BTreeSet<String>,
}

/// Parses `text`, which must be an object.
pub(super) fn parse_object(file: &'static str, text: &[u8]) -> Result<Map<String, Value>, Error> {
    let fault = |found: String| Error::input(Fault::new(file, found, "a JSON object").next("fetch the file again"));
    // Two readers may take two different values of a key that is there twice.
    check_unique_keys(text).map_err(|error| fault(error.to_string()))?;
    match serde_json::from_slice(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(fault(shown(&other))),
        Err(error) => Err(fault(error.to_string())),
    }
}

/// `value` as an error message shows it.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

impl<'j> Fields<'j> {
    /// The outermost object of `file`.
    pub(super) fn new(file: &'static str, map: &'j Map<String, Value>) -> Self {
        Self { file, prefix: String::new(), map, read: BTreeSet::new() }
    }

    /// The value of `key`, unless it is absent or null.
    pub(super) fn get(&mut self, key: &str) -> Option<&'j Value> {
        self.read.insert(key.to_owned());
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// A finding about `key`.
    pub(super) fn fault(&self, key: &str, expected: impl Into<String>) -> Fault {
        let found = self.map.get(key).map_or("no such key".to_owned(), shown);
        Fault::new(self.file, found, expected).key(format!("{}{key}", self.prefix))
    }

    /// The error for a `key` that must be there.
    pub(super) fn missing(&self, key: &str, expected: &str) -> Error {
        Error::input(self.fault(key, expected).next("take config.json as the model's makers wrote it"))
    }

    /// Converts the value of `key`, or says what it should be.
    fn read<T>(
        &mut self,
        key: &str,
        expected: impl Fn() -> String,
        convert: impl Fn(&'j Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match convert(value) {
                Some(converted) => Ok(Some(converted)),
                None => Err(Error::input(self.fault(key, expected()))),
            },
        }
    }

    /// A whole number in `range`.
    pub(super) fn u32(&mut self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Error> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, expected, |v| v.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n)))
    }

    /// A whole number in `range` that must be there.
    pub(super) fn need_u32(&mut self, key: &str, range: RangeInclusive<u32>) -> Result<u32, Error> {
        match self.u32(key, range)? {
            Some(n) => Ok(n),
            None => Err(self.missing(key, "a whole number")),
        }
    }

    /// A number above 0 that stays so in f32.
    pub(super) fn positive(&mut self, key: &str) -> Result<Option<F32>, Error> {
        self.number(key, "a finite number above 0", |v| v > 0.0).map(|v| v.map(F32::new))
    }

    /// A number above 0 that must be there.
    pub(super) fn need_positive(&mut self, key: &str) -> Result<F32, Error> {
        match self.positive(key)? {
            Some(v) => Ok(v),
            None => Err(self.missing(key, "a number above 0")),
        }
    }

    /// A number that is finite in f32 and passes `test`.
    pub(super) fn number(
        &mut self,
        key: &str,
        expected: &str,
        test: impl Fn(f32) -> bool,
    ) -> Result<Option<f32>, Error> {
        self.read(key, || expected.to_owned(), |v| v.as_f64().map(|v| v as f32).filter(|&v| v.is_finite() && test(v)))
    }

    /// A truth value.
    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, Error> {
        self.read(key, || "true or false".to_owned(), Value::as_bool)
    }

    /// A text.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<&'j str>, Error> {
        self.read(key, || "a text".to_owned(), Value::as_str)
    }

    /// A list.
    pub(super) fn list(&mut self, key: &str) -> Result<Option<&'j Vec<Value>>, Error> {
        self.read(key, || "a list".to_owned(), Value::as_array)
    }

    /// A nested object.
    pub(super) fn object(&mut self, key: &str) -> Result<Option<Fields<'j>>, Error> {
        let map = self.read(key, || "an object".to_owned(), Value::as_object)?;
        let prefix = format!("{}{key}.", self.prefix);
        Ok(map.map(|map| Fields { file: self.file, prefix, map, read: BTreeSet::new() }))
    }

    /// Token ids, one or a list, each below `vocab`.
    pub(super) fn token_ids(&mut self, key: &str, vocab: u32) -> Result<Vec<u32>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&n| n < vocab);
        values.iter().map(id).collect::<Option<Vec<u32>>>().ok_or_else(|| {
            let expected = format!("token ids below the vocabulary's size, {vocab}");
            Error::input(self.fault(key, expected))
        })
    }

    /// Keys that nobody asked for and whose value is neither null nor false.
    pub(super) fn unread(&self) -> Vec<(&'j str, &'j Value)> {
        let idle = |v: &Value| matches!(v, Value::Null | Value::Bool(false));
        let unread = self.map.iter().filter(|(k, v)| !self.read.contains(*k) && !idle(v));
        unread.map(|(k, v)| (k.as_str(), v)).collect()
    }

    /// Refuses the first key that nobody asked for.
    pub(super) fn refuse_unread(&self) -> Result<(), Error> {
        let Some((key, _)) = self.unread().into_iter().next() else {
            return Ok(());
        };
        Err(Error::unsupported(
            self.fault(key, "a key that tern knows")
                .next("it may change what the model computes; if it does not, remove it from the file"),
        ))
    }
}
