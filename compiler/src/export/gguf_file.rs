//! The bytes of a GGUF file: header, keys and values, descriptions of tensors, their data.
//!
//! In: pairs and descriptions, then the tensors' bytes in that order. Out: the file, version 3. Upholds: each tensor begins at a
//! multiple of [`ALIGNMENT_BYTES`] and has as many bytes as was said of it.
//!
//! Source of the layout: ggml-org/ggml, `docs/gguf.md`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Error, Room};
use crate::checkpoint::gguf::value::{Array, Value};

/// Tensors begin at multiples of it: the format's default.
const ALIGNMENT_BYTES: u64 = 32;
const VERSION: u32 = 3;

/// What is said of a tensor.
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
    pub(super) type_id: u32,
    pub(super) bytes: u64,
}

/// A file that is being written.
pub(super) struct Sink {
    path: PathBuf,
    file: BufWriter<File>,
    written_bytes: u64,
    /// Where the tensors begin and end, as was said.
    expected_bytes: u64,
}

impl Sink {
    /// A new file with its header, if there is `room` for all of it.
    pub(super) fn create(
        path: &Path,
        pairs: &[(String, Value)],
        tensors: &[TensorInfo],
        room: Room<'_>,
    ) -> Result<Self, Error> {
        let (header, data_bytes) = header(pairs, tensors);
        room((header.len() as u64).next_multiple_of(ALIGNMENT_BYTES) + data_bytes)?;
        let file = File::create_new(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let mut sink = Self { path: path.to_owned(), file: BufWriter::new(file), written_bytes: 0, expected_bytes: 0 };
        sink.put(&header)?;
        sink.pad()?;
        sink.expected_bytes = sink.written_bytes + data_bytes;
        Ok(sink)
    }

    /// More bytes of a tensor.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written_bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// A tensor is complete.
    pub(super) fn pad(&mut self) -> Result<(), Error> {
        let padding = self.written_bytes.next_multiple_of(ALIGNMENT_BYTES) - self.written_bytes;
        self.put(&[0; ALIGNMENT_BYTES as usize][..padding as usize])
    }

    /// The file is complete, and on the disk; its bytes.
    pub(super) fn finish(self) -> Result<u64, Error> {
        if self.written_bytes != self.expected_bytes {
            let (found, expected) = (self.written_bytes, self.expected_bytes);
            return Err(Error::Bug(format!("{found} bytes were written where {expected} were planned")));
        }
        let io = |source| Error::Io { path: self.path.clone(), source };
        self.file.into_inner().map_err(|e| io(e.into_error()))?.sync_all().map_err(io)?;
        Ok(self.written_bytes)
    }
}

/// What stands before the data, and the length of that.
fn header(pairs: &[(String, Value)], tensors: &[TensorInfo]) -> (Vec<u8>, u64) {
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        put_text(&mut out, key);
        put_value(&mut out, value);
    }
    let mut at = 0;
    for tensor in tensors {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
        out.extend(tensor.type_id.to_le_bytes());
        out.extend(u64::to_le_bytes(at));
        at += tensor.bytes.next_multiple_of(ALIGNMENT_BYTES);
    }
    (out, at)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The number of a value's type, then its bytes.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut plain = |id: u32, bytes: &[u8]| {
        out.extend(id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(n) => plain(0, &n.to_le_bytes()),
        Value::I8(n) => plain(1, &n.to_le_bytes()),
        Value::U16(n) => plain(2, &n.to_le_bytes()),
        Value::I16(n) => plain(3, &n.to_le_bytes()),
        Value::U32(n) => plain(4, &n.to_le_bytes()),
        Value::I32(n) => plain(5, &n.to_le_bytes()),
        Value::F32(n) => plain(6, &n.to_le_bytes()),
        Value::Bool(truth) => plain(7, &[u8::from(*truth)]),
        Value::Str(text) => {
            plain(8, &[]);
            put_text(out, text);
        }
        Value::Array(array) => {
            plain(9, &[]);
            put_array(out, array);
        }
        Value::U64(n) => plain(10, &n.to_le_bytes()),
        Value::I64(n) => plain(11, &n.to_le_bytes()),
        Value::F64(n) => plain(12, &n.to_le_bytes()),
    }
}

/// The number of the elements' type, how many there are, the elements.
fn put_array(out: &mut Vec<u8>, array: &Array) {
    let id: u32 = match array {
        Array::U8(_) => 0,
        Array::I8(_) => 1,
        Array::U16(_) => 2,
        Array::I16(_) => 3,
        Array::U32(_) => 4,
        Array::I32(_) => 5,
        Array::F32(_) => 6,
        Array::Bool(_) => 7,
        Array::Str(_) => 8,
        Array::Nested(_) => 9,
        Array::U64(_) => 10,
        Array::I64(_) => 11,
        Array::F64(_) => 12,
    };
    out.extend(id.to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(all) => out.extend(all),
        Array::I8(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U16(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I16(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U32(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I32(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U64(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I64(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::F32(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::F64(all) => all.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::Bool(all) => all.iter().for_each(|truth| out.push(u8::from(*truth))),
        Array::Str(all) => all.iter().for_each(|text| put_text(out, text)),
        Array::Nested(all) => all.iter().for_each(|inner| put_array(out, inner)),
    }
}
