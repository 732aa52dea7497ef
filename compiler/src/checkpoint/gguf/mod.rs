//! GGUF: bytes to metadata and named tensors.
//!
//! In: the bytes of one file, or of all shards of one model. Out: a [`Gguf`], and for every tensor a checked place and an
//! encoding. One id of the format's types may have several meanings, since forks gave the same numbers to different things:
//! [`layout`] proves from the sizes of all tensors which one it is, or refuses.
//!
//! Upholds: as all of `checkpoint`, every length, offset and shape was checked before it is used, and nothing is allocated by
//! an unchecked number. Deliberately does not know what a tensor or a key means to a model: that is `import`'s business.

mod cursor;
pub mod encoding;
mod header;
pub mod metadata;
pub mod value;

pub use encoding::Encoding;
pub use metadata::Metadata;
