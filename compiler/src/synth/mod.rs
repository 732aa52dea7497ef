//! Synthetic checkpoints: a named shape, random weights.
//!
//! In: a [`Shape`] and [`Options`]. Out: a folder as Hugging Face lays it out, of packed trits or of the dense and 4-bit weights that
//! these are compared with, with a tokenizer that works. Speed does not depend on what a model has learned, so measuring needs no download.
//!
//! Upholds: the same shape and options give the same bytes on every machine; memory does not grow with the model; the
//! folder appears whole or not at all. The text that such a model writes means nothing.
//!
//! Read [`shapes`] (the table), [`mod@layout`] (tensors and files), [`weights`] (what a matrix is stored as), [`fill`] (random bytes), [`repeat`] (rows that repeat),
//! [`files`] (configuration and tokenizer), [`write`](mod@write) (the folder).

pub mod files;
pub mod fill;
pub mod layout;
pub mod repeat;
pub mod shapes;
pub mod tokenizer;
pub mod weights;
pub mod write;

use std::path::PathBuf;

pub use shapes::{Graph, SHAPES, Shape};
pub use weights::Weights;
pub use write::{Progress, in_memory, write};

/// What the caller decides.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Options {
    /// Chooses all weights.
    pub seed: u64,
    /// What the matrices of the blocks are stored as.
    pub weights: Weights,
    /// The share of trits that are 0.
    pub zeros: f64,
    /// The share of rows that repeat the row before, up to [`repeat::MOST`].
    pub repeat_rows: f64,
    /// In powers of two, how far from 1 the gains go between a squared ReLU and the projection behind it: the farther, the more
    /// activations quantise to zero, as in trained models. Up to [`MAX_GAIN_SPREAD`].
    pub gain_spread: f64,
    /// Weight files have at most this many bytes, unless one tensor has more.
    pub max_file_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            weights: Weights::Ternary,
            zeros: 0.4,
            repeat_rows: 0.0,
            gain_spread: 0.0,
            max_file_bytes: 4_000_000_000,
        }
    }
}

impl Options {
    /// `shape` as it is with these weights, if both are possible.
    ///
    /// # Errors
    /// `Input`, with the number.
    fn checked(&self, shape: &Shape) -> Result<Shape, Error> {
        shape.check()?;
        let shape = self.weights.fitted(shape);
        self.weights.check(&shape)?;
        let (zeros, repeat_rows, gain_spread) = (self.zeros, self.repeat_rows, self.gain_spread);
        let number = |most: f64| format!("a number from 0 to {most}");
        for (what, found, is_good, expected) in [
            ("the share of zeros", zeros, (0.0..=1.0).contains(&zeros), number(1.0)),
            (
                "the share of repeated rows",
                repeat_rows,
                (0.0..=repeat::MOST).contains(&repeat_rows),
                number(repeat::MOST),
            ),
            (
                "the share of repeated rows",
                repeat_rows,
                repeat_rows == 0.0 || (shape.group == 0 && self.weights == Weights::Ternary),
                "0: rows of such weights do not repeat".to_owned(),
            ),
            (
                "the spread of gains",
                gain_spread,
                (0.0..=MAX_GAIN_SPREAD).contains(&gain_spread),
                number(MAX_GAIN_SPREAD),
            ),
        ] {
            if !is_good {
                return Err(Error::Input { what, found: found.to_string(), expected });
            }
        }
        Ok(shape)
    }
}

/// The most that gains are spread.
pub const MAX_GAIN_SPREAD: f64 = 16.0;

/// The checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The shape or an option is impossible.
    #[error("{what} is {found}, expected {expected}")]
    Input {
        /// Which number.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it could be.
        expected: String,
    },
    /// Something is there already.
    #[error("{} is there already: remove it, or give another folder", .path.display())]
    Occupied {
        /// The folder that was asked for.
        path: PathBuf,
    },
    /// The folder is not one that a finished checkpoint can take the place of.
    #[error("cannot put a checkpoint in the place of {}, which is {what}: name a folder {instead}", .path.display())]
    Fixed {
        /// The folder that was asked for.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// Where a folder could be.
        instead: &'static str,
    },
    /// Memory does not hold what is made in it.
    #[error("cannot allocate {bytes} bytes for a checkpoint in memory")]
    OutOfMemory {
        /// Of one of its files.
        bytes: usize,
    },
    /// The disk is too full.
    #[error("{} has room for {free_bytes} bytes, the checkpoint needs {needed_bytes}", .path.display())]
    NoSpace {
        /// Where it should go.
        path: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What it takes.
        needed_bytes: u64,
    },
    /// The system refused.
    #[error("cannot write {}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("interrupted: nothing was written")]
    Interrupted,
}
