//! The key-value section of a GGUF file.
//!
//! In: the header's bytes. Out: a [`Metadata`], asked by key and type. Upholds: values are copied out of the file once, when
//! it is opened, so that nobody sees two of them; no key is there twice; texts are UTF-8; what is allocated is in
//! proportion to bytes that were seen.
//!
//! Source of the layout: ggml-org/ggml, `docs/gguf.md`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::super::error::{Error, Fault};
use super::cursor::{Cursor, DAMAGED};
use super::value::{Array, Strings, Value};

/// The most keys of a file.
const MAX_KEYS: u64 = 1 << 16;
/// The most bytes of a key, as the format says.
const MAX_KEY_BYTES: u64 = (1 << 16) - 1;
/// The fewest bytes of a key with its value: two lengths, a type, a byte.
const LEAST_PAIR_BYTES: usize = 13;

/// What the file says about itself.
#[derive(Clone, Default, PartialEq)]
pub struct Metadata {
    file: String,
    /// By key: the value, and where in the file it begins.
    pairs: BTreeMap<String, (Value, u64)>,
}

impl Metadata {
    /// The metadata of a file called `file` that holds `pairs`: for tests, and for whoever makes a file.
    pub fn new(file: &str, pairs: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self { file: file.to_owned(), pairs: pairs.into_iter().map(|(key, value)| (key, (value, 0))).collect() }
    }

    /// Reads as many pairs as the header says.
    pub(super) fn read(file: &str, cursor: &mut Cursor<'_>, count: u64) -> Result<Self, Error> {
        let room = (cursor.left() as u64).checked_div(LEAST_PAIR_BYTES as u64).unwrap_or(0);
        if count > MAX_KEYS.min(room) {
            let expected = format!("at most {} (the limit is {MAX_KEYS})", MAX_KEYS.min(room));
            return Err(Error::input(cursor.fault(16, format!("{count} keys"), expected).next(DAMAGED)));
        }
        let mut pairs = BTreeMap::new();
        for _ in 0..count {
            let at = cursor.at();
            let key = cursor.text("a key", MAX_KEY_BYTES)?.to_owned();
            let value_at = cursor.at() as u64;
            let value = Value::read(cursor)?;
            if pairs.contains_key(&key) {
                let fault = cursor.fault(at, "a key that is there already", "each key once");
                return Err(Error::input(fault.key(key).next(DAMAGED)));
            }
            pairs.insert(key, (value, value_at));
        }
        Ok(Self { file: file.to_owned(), pairs })
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All keys and values, by key.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, (value, _))| (key.as_str(), value))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.get(key).map(|(value, _)| value)
    }

    /// A finding about `key`, whose value is shown.
    pub fn fault(&self, key: &str, expected: impl Into<String>) -> Fault {
        let Some((value, at)) = self.pairs.get(key) else {
            return Fault::new(self.file.as_str(), "no such key", expected).key(key);
        };
        Fault::new(self.file.as_str(), value.to_string(), expected).key(key).byte(*at)
    }

    /// The value of `key` as `convert` takes it, which is `expected`.
    fn read_as<'m, T>(
        &'m self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'m Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::input(self.fault(key, expected))),
        }
    }

    /// A text; `None` if there is no such key.
    ///
    /// # Errors
    /// A value of another type.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.read_as(key, "a text", |value| match value {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number of any width that fits 64 bits without a sign.
    ///
    /// # Errors
    /// A value of another type, or below 0.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.read_as(key, "a whole number of at least 0", Value::as_u64)
    }

    /// A whole number of any width that fits 32 bits without a sign.
    ///
    /// # Errors
    /// A value of another type, or outside of that range.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        let expected = "a whole number from 0 to 4294967295";
        self.read_as(key, expected, |value| value.as_u64().and_then(|n| u32::try_from(n).ok()))
    }

    /// The id of a token; `None` too if it is -1 in 32 bits without a sign, by which llama.cpp says that there is none.
    ///
    /// # Errors
    /// As [`Metadata::u32`].
    pub fn token_id(&self, key: &str) -> Result<Option<u32>, Error> {
        Ok(self.u32(key)?.filter(|id| *id != u32::MAX))
    }

    /// A floating-point number, which is finite.
    ///
    /// # Errors
    /// A value of another type, an infinity, NaN, or a number that f32 cannot hold.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        let number = self.read_as(key, "a finite floating-point number", |value| match value {
            Value::F32(number) => Some(*number),
            Value::F64(number) => Some(*number as f32),
            _ => None,
        })?;
        match number {
            Some(number) if !number.is_finite() => Err(Error::input(self.fault(key, "a finite number"))),
            number => Ok(number),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// A value of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.read_as(key, "a truth value", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    /// An array of texts.
    ///
    /// # Errors
    /// A value of another type.
    pub fn strings(&self, key: &str) -> Result<Option<&Strings>, Error> {
        self.read_as(key, "an array of texts", |value| match value {
            Value::Array(Array::Str(texts)) => Some(texts),
            _ => None,
        })
    }

    /// An array of whole numbers of any width, each of which fits 32 bits with a sign.
    ///
    /// # Errors
    /// A value of another type, or a number above 2147483647.
    pub fn i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>, Error> {
        fn fit<T: Copy + TryInto<i32>>(numbers: &[T]) -> Option<Cow<'static, [i32]>> {
            numbers.iter().map(|n| (*n).try_into().ok()).collect::<Option<Vec<i32>>>().map(Cow::Owned)
        }
        self.read_as(key, "an array of whole numbers of 32 bits", |value| match value {
            Value::Array(Array::I32(numbers)) => Some(Cow::Borrowed(numbers.as_slice())),
            Value::Array(Array::U8(numbers)) => fit(numbers),
            Value::Array(Array::I8(numbers)) => fit(numbers),
            Value::Array(Array::U16(numbers)) => fit(numbers),
            Value::Array(Array::I16(numbers)) => fit(numbers),
            Value::Array(Array::U32(numbers)) => fit(numbers),
            Value::Array(Array::U64(numbers)) => fit(numbers),
            Value::Array(Array::I64(numbers)) => fit(numbers),
            _ => None,
        })
    }

    /// An array of floating-point numbers of 32 bits, finite or not.
    ///
    /// # Errors
    /// A value of another type.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, Error> {
        self.read_as(key, "an array of floating-point numbers", |value| match value {
            Value::Array(Array::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs().map(|(key, value)| (key, value.to_string()))).finish()
    }
}
