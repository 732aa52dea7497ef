//! What tern's benchmarks run on: shapes of a 2-billion-parameter BitNet, and operands of single kernels.
//!
//! In: a shape. Out: memory laid out as the schedule lays it out, filled from a seed. Nothing here measures.
//!
//! `cargo bench -p tern-benches` runs everything; `cargo bench -p tern-benches --bench kernels gemv` a part. Figures of a
//! shared machine move by a factor of two: compare within one run only.

use tern_compiler::schedule::kernel::TritPacking;
use tern_compiler::schedule::{RowKind, layout};
use tern_runtime::memory::{Block, HugePages};
use tern_tests::engines::Loaded;
use tern_tests::rng::Rng;
use tern_tests::synth::{Kind, Spec};

/// N and K of the matrices of a 2B-4T block: Q and O, K and V, gate and up, down.
pub const MATRICES: [(u32, u32); 4] = [(2560, 2560), (640, 2560), (6912, 2560), (2560, 6912)];

/// One block of the 2B-4T shape with a small vocabulary.
///
/// # Panics
/// If the importer refuses it.
pub fn one_block() -> Loaded {
    let spec = Spec {
        vocab: 512,
        hidden: 2560,
        intermediate: 6912,
        layers: 1,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        max_positions: 4096,
        ..Spec::small(Kind::BitNetPacked)
    };
    Loaded::new("one block", &spec.checkpoint().expect("a synthetic checkpoint"))
}

/// A block of memory, every byte from `byte`.
///
/// # Panics
/// If there is not so much memory.
pub fn filled(bytes: u64, byte: impl FnMut() -> u8) -> Block {
    let mut block = Block::zeroed(bytes as usize, 64, HugePages::Ask, "bench").expect("memory for a bench");
    block.as_mut_slice().fill_with(byte);
    block
}

/// Bytes of a packed matrix.
pub fn matrix_bytes(packing: TritPacking, rows: u32, cols: u32) -> u64 {
    u64::from(layout::trit_tiles(packing, rows)) * layout::trit_tile_bytes(packing, cols)
}

/// Packed codes of `copies` matrices one after another: any bytes that a packer writes.
pub fn packed_trits(packing: TritPacking, rows: u32, cols: u32, copies: u64) -> Block {
    let mut rng = Rng::new(u64::from(rows) << 32 | u64::from(cols));
    filled(matrix_bytes(packing, rows, cols) * copies, || {
        (0..packing.fields()).fold(0, |packed, _| packed * packing.base() as u8 + rng.below(3) as u8)
    })
}

/// Rows of f32 in -1..1, padded like every row of activations (the padding too: no kernel here reads it for a result).
pub fn float_rows(rows: u32, cols: u32) -> Vec<f32> {
    Rng::new(7).floats(rows as usize * layout::row_bytes(RowKind::F32, cols) as usize / 4, 1.0)
}
