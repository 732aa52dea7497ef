//! What a checkpoint is, byte for byte: the hash that a built model carries.
//!
//! In: a [`Checkpoint`]. Out: SHA-256 of every file that was read, as hubs publish it, and of the list of them. Large files
//! are walked through in pieces whose memory is given back.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use tern_runtime::artifact::CheckpointFile;

use super::map::Bytes;
use super::{Checkpoint, MODULES, PIECE_BYTES, POOLING};

impl Checkpoint {
    /// Every file of the checkpoint, in the order of their names; `more` hears after every piece, and ends it by saying no.
    ///
    /// `None` if it was ended.
    pub fn hash_files(&self, more: &mut dyn FnMut() -> bool) -> Option<Vec<CheckpointFile>> {
        let inner = &self.inner;
        let mut files = Vec::new();
        for (name, bytes) in [
            ("config.json", inner.config_json.as_ref()),
            ("generation_config.json", inner.generation_config_json.as_ref()),
            ("tokenizer.json", inner.tokenizer_json.as_ref()),
            ("tokenizer_config.json", inner.tokenizer_config_json.as_ref()),
            ("chat_template.jinja", inner.chat_template_jinja.as_ref()),
            (MODULES, inner.modules_json.as_ref()),
            (POOLING, inner.pooling_json.as_ref()),
        ] {
            if let Some(bytes) = bytes {
                files.push(file(name, bytes.len(), Sha256::digest(bytes).as_slice()));
            }
        }
        for shard in &inner.shards {
            let sha256 = hash(&shard.bytes, more)?;
            files.push(file(&shard.name, shard.bytes.len(), &sha256));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Some(files)
    }
}

fn file(name: &str, bytes: usize, sha256: &[u8]) -> CheckpointFile {
    CheckpointFile { name: name.to_owned(), bytes: bytes as u64, sha256: hex(sha256) }
}

fn hash(bytes: &Bytes, more: &mut dyn FnMut() -> bool) -> Option<Vec<u8>> {
    let mut hash = Sha256::new();
    for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
        hash.update(piece);
        let start = index.saturating_mul(PIECE_BYTES);
        bytes.release(start..start.saturating_add(PIECE_BYTES));
        if !more() {
            return None;
        }
    }
    Some(hash.finalize().to_vec())
}

/// SHA-256 of the list of files: for each its hash, two spaces, its name, a line feed, as `sha256sum` prints them.
pub fn list_hash(files: &[CheckpointFile]) -> [u8; 32] {
    let list = files.iter().fold(String::new(), |list, file| list + &file.sha256 + "  " + &file.name + "\n");
    Sha256::digest(list.as_bytes()).into()
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
