//! One value of a GGUF file's metadata.
//!
//! In: a type id and bytes. Out: a [`Value`]. Upholds: arrays have as many elements as there are bytes for, and nest only so
//! deep; a truth value is 0 or 1.
//!
//! Source of the ids: ggml-org/ggml, `docs/gguf.md`.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use super::super::error::Error;
use super::cursor::{Cursor, DAMAGED};

/// The most bytes of a text that is no key; chat templates are the longest.
const MAX_TEXT_BYTES: u64 = 16 << 20;
/// The most elements of an array; vocabularies have a few hundred thousand.
const MAX_ELEMS: u64 = 1 << 25;
/// The most arrays in an array, each of which takes memory beside its elements.
const MAX_NESTED: u64 = 1 << 12;
/// How deep arrays may nest.
const MAX_DEPTH: usize = 3;
/// Characters of a text that are shown.
const MAX_SHOWN_CHARS: usize = 60;

/// A value.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the variants are the types of the format, by name")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    Array(Array),
}

/// An array: elements of one type.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the variants are the types of the format, by name")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Str(Strings),
    Nested(Vec<Array>),
}

/// Many texts in one piece of memory.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Strings {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Strings {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.text.get(start..end)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        // Never empty for want of a text: `get` finds every index below the length.
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut strings = Self::default();
        texts.into_iter().for_each(|text| strings.push(text.as_ref()));
        strings
    }
}

impl Value {
    /// Whether it is a number that passes `test`, or an array of such: of none, if it is empty. Truth values count as 0 and 1.
    pub fn is_all(&self, test: impl Fn(f64) -> bool) -> bool {
        let truth = |truth: &bool| test(f64::from(u8::from(*truth)));
        match self {
            Value::F32(n) => test(f64::from(*n)),
            Value::F64(n) => test(*n),
            Value::I8(n) => test(f64::from(*n)),
            Value::I16(n) => test(f64::from(*n)),
            Value::I32(n) => test(f64::from(*n)),
            Value::I64(n) => test(*n as f64),
            Value::U8(n) => test(f64::from(*n)),
            Value::U16(n) => test(f64::from(*n)),
            Value::U32(n) => test(f64::from(*n)),
            Value::U64(n) => test(*n as f64),
            Value::Bool(n) => truth(n),
            Value::Str(_) => false,
            Value::Array(array) => match array {
                Array::F32(all) => all.iter().all(|n| test(f64::from(*n))),
                Array::F64(all) => all.iter().all(|n| test(*n)),
                Array::I8(all) => all.iter().all(|n| test(f64::from(*n))),
                Array::I16(all) => all.iter().all(|n| test(f64::from(*n))),
                Array::I32(all) => all.iter().all(|n| test(f64::from(*n))),
                Array::I64(all) => all.iter().all(|n| test(*n as f64)),
                Array::U8(all) => all.iter().all(|n| test(f64::from(*n))),
                Array::U16(all) => all.iter().all(|n| test(f64::from(*n))),
                Array::U32(all) => all.iter().all(|n| test(f64::from(*n))),
                Array::U64(all) => all.iter().all(|n| test(*n as f64)),
                Array::Bool(all) => all.iter().all(truth),
                Array::Str(all) => all.is_empty(),
                Array::Nested(all) => all.is_empty(),
            },
        }
    }

    /// Reads a type id and the value behind it.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Error> {
        let at = cursor.at();
        let id = cursor.u32("a type of a value")?;
        Ok(match id {
            0 => Value::U8(u8::from_le_bytes(cursor.array("a value")?)),
            1 => Value::I8(i8::from_le_bytes(cursor.array("a value")?)),
            2 => Value::U16(u16::from_le_bytes(cursor.array("a value")?)),
            3 => Value::I16(i16::from_le_bytes(cursor.array("a value")?)),
            4 => Value::U32(u32::from_le_bytes(cursor.array("a value")?)),
            5 => Value::I32(i32::from_le_bytes(cursor.array("a value")?)),
            6 => Value::F32(f32::from_le_bytes(cursor.array("a value")?)),
            7 => Value::Bool(truth(cursor)?),
            8 => Value::Str(cursor.text("a text", MAX_TEXT_BYTES)?.to_owned()),
            9 => Value::Array(Array::read(cursor, 1)?),
            10 => Value::U64(u64::from_le_bytes(cursor.array("a value")?)),
            11 => Value::I64(i64::from_le_bytes(cursor.array("a value")?)),
            12 => Value::F64(f64::from_le_bytes(cursor.array("a value")?)),
            _ => return Err(unknown_type(cursor, at, id)),
        })
    }

    /// A whole number of at least 0, whatever its width.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::U8(n) => Some(u64::from(*n)),
            Value::U16(n) => Some(u64::from(*n)),
            Value::U32(n) => Some(u64::from(*n)),
            Value::U64(n) => Some(*n),
            Value::I8(n) => u64::try_from(*n).ok(),
            Value::I16(n) => u64::try_from(*n).ok(),
            Value::I32(n) => u64::try_from(*n).ok(),
            Value::I64(n) => u64::try_from(*n).ok(),
            Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::Str(_) | Value::Array(_) => None,
        }
    }
}

impl Array {
    /// Reads the type of the elements, their number, and them; it is the `depth`th array around each.
    fn read(cursor: &mut Cursor<'_>, depth: usize) -> Result<Self, Error> {
        let at = cursor.at();
        let id = cursor.u32("a type of elements")?;
        Ok(match id {
            0 => Array::U8(numbers(cursor, u8::from_le_bytes)?),
            1 => Array::I8(numbers(cursor, i8::from_le_bytes)?),
            2 => Array::U16(numbers(cursor, u16::from_le_bytes)?),
            3 => Array::I16(numbers(cursor, i16::from_le_bytes)?),
            4 => Array::U32(numbers(cursor, u32::from_le_bytes)?),
            5 => Array::I32(numbers(cursor, i32::from_le_bytes)?),
            6 => Array::F32(numbers(cursor, f32::from_le_bytes)?),
            7 => {
                let count = cursor.count("elements", MAX_ELEMS, 1)?;
                Array::Bool((0..count).map(|_| truth(cursor)).collect::<Result<_, _>>()?)
            }
            8 => {
                let count = cursor.count("texts", MAX_ELEMS, 8)?;
                let mut strings = Strings::default();
                for _ in 0..count {
                    strings.push(cursor.text("a text", MAX_TEXT_BYTES)?);
                }
                Array::Str(strings)
            }
            9 if depth >= MAX_DEPTH => {
                let fault = cursor.fault(at, "arrays in arrays in arrays", format!("at most {MAX_DEPTH} deep"));
                return Err(Error::unsupported(fault));
            }
            9 => {
                let count = cursor.count("arrays", MAX_NESTED, 12)?;
                let nested = (0..count).map(|_| Array::read(cursor, depth.saturating_add(1)));
                Array::Nested(nested.collect::<Result<_, _>>()?)
            }
            10 => Array::U64(numbers(cursor, u64::from_le_bytes)?),
            11 => Array::I64(numbers(cursor, i64::from_le_bytes)?),
            12 => Array::F64(numbers(cursor, f64::from_le_bytes)?),
            _ => return Err(unknown_type(cursor, at, id)),
        })
    }

    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Str(v) => v.len(),
            Array::Nested(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    const fn of(&self) -> &'static str {
        match self {
            Array::U8(_) => "u8",
            Array::I8(_) => "i8",
            Array::U16(_) => "u16",
            Array::I16(_) => "i16",
            Array::U32(_) => "u32",
            Array::I32(_) => "i32",
            Array::U64(_) => "u64",
            Array::I64(_) => "i64",
            Array::F32(_) => "f32",
            Array::F64(_) => "f64",
            Array::Bool(_) => "truth values",
            Array::Str(_) => "texts",
            Array::Nested(_) => "arrays",
        }
    }
}

/// Numbers of `N` bytes each.
fn numbers<T, const N: usize>(cursor: &mut Cursor<'_>, from: fn([u8; N]) -> T) -> Result<Vec<T>, Error> {
    let count = cursor.count("elements", MAX_ELEMS, N)?;
    let bytes = cursor.take(count.saturating_mul(N), "elements")?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|number| from(*number)).collect())
}

fn truth(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    let at = cursor.at();
    match cursor.array("a truth value")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(Error::input(cursor.fault(at, format!("{other} as a truth value"), "0 or 1").next(DAMAGED))),
    }
}

fn unknown_type(cursor: &Cursor<'_>, at: usize, id: u32) -> Error {
    let expected = "a type of the format, 0 to 12";
    Error::input(cursor.fault(at, format!("{id} as the type of a value"), expected).next(DAMAGED))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(n) => write!(f, "{n}"),
            Value::I8(n) => write!(f, "{n}"),
            Value::U16(n) => write!(f, "{n}"),
            Value::I16(n) => write!(f, "{n}"),
            Value::U32(n) => write!(f, "{n}"),
            Value::I32(n) => write!(f, "{n}"),
            Value::U64(n) => write!(f, "{n}"),
            Value::I64(n) => write!(f, "{n}"),
            Value::F32(n) => write!(f, "{n}"),
            Value::F64(n) => write!(f, "{n}"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Str(text) => match text.char_indices().nth(MAX_SHOWN_CHARS) {
                Some((at, _)) => write!(f, "{:?}...", text.get(..at).unwrap_or_default()),
                None => write!(f, "{text:?}"),
            },
            Value::Array(array) => write!(f, "an array of {} {}", array.len(), array.of()),
        }
    }
}
