//! From the blocks of a tensor to trits with scales, or to dense numbers: one file per encoding.
//!
//! In: a tensor and its [`Encoding`]. Out: codes (trit + 1) of rows and the [`Scales`] that turn trits into weights
//! ([`ternary`]), or f32 elements ([`dense`]); and back, for those that are written. Upholds: what is decoded is a copy of a block, so that a file that changes
//! gives wrong numbers and never anything worse; scales are finite and not negative; a code that is no trit is refused, and
//! a weight whose scale is zero is the trit 0.

mod bits;
mod blocks_of_256;
mod blocks_of_32;
pub mod dense;
mod i2_s;
mod iq_bn;
mod ptq1_0;
mod q1_0;
pub mod q2_0;
pub mod q4_0;
pub mod quant4;
mod rows;
mod scales;
mod stq1_0;
pub mod ternary;
pub mod tq1_0;
pub mod tq2_0;

#[cfg(test)]
mod tests;

pub use rows::RowOrder;
pub use scales::Scales;

use super::encoding::Encoding;

/// The largest block.
const MAX_BLOCK_BYTES: usize = 256;
/// The most weights of a block.
const MAX_BLOCK_ELEMS: usize = 256;

/// Where the scale of a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ScalePlace {
    /// f16 in its first two bytes.
    BlockStart,
    /// f16 in its last two bytes.
    BlockEnd,
    /// f16 in front of the row.
    RowStart16,
    /// f32 in front of the row.
    RowStart32,
    /// f32 behind the tensor.
    TensorEnd,
    /// Nowhere: it is another tensor.
    None,
}

/// How blocks of trits are read.
#[derive(Clone, Copy)]
struct Codec {
    /// Writes the codes of a block; 3 where there is no trit.
    codes: fn(&[u8], &mut [u8]),
    scale: ScalePlace,
}

/// The codec of a ternary encoding.
fn codec(encoding: Encoding) -> Option<Codec> {
    Some(match encoding {
        Encoding::I2S => i2_s::CODEC,
        Encoding::I2SBare => i2_s::BARE,
        Encoding::Tq1_0 => tq1_0::CODEC,
        Encoding::Tq2_0 => tq2_0::CODEC,
        Encoding::Q1_0 => q1_0::CODEC,
        Encoding::Q2_0 | Encoding::Pq2_0 => q2_0::FRONT,
        Encoding::Tq2_0G128 => q2_0::BACK,
        Encoding::Ptq1_0 => ptq1_0::CODEC,
        Encoding::Stq1_0 => stq1_0::CODEC,
        Encoding::Iq1Bn => iq_bn::IQ1,
        Encoding::Iq2Bn => iq_bn::IQ2,
        Encoding::Iq2BnR4 => iq_bn::IQ2_R4,
        Encoding::Q4_0
        | Encoding::Q4_1
        | Encoding::Q5_0
        | Encoding::Q5_1
        | Encoding::Q8_0
        | Encoding::Iq4Nl
        | Encoding::Q2K
        | Encoding::Q3K
        | Encoding::Q4K
        | Encoding::Q5K
        | Encoding::Q6K
        | Encoding::Undecoded(_) => return None,
    })
}

/// What writes the weights of a dense block.
type DenseBlock = fn(&[u8], &mut [f32]);

fn dense_block(encoding: Encoding) -> Option<DenseBlock> {
    Some(match encoding {
        Encoding::Q4_0 => blocks_of_32::q4_0,
        Encoding::Q4_1 => blocks_of_32::q4_1,
        Encoding::Q5_0 => blocks_of_32::q5_0,
        Encoding::Q5_1 => blocks_of_32::q5_1,
        Encoding::Q8_0 => blocks_of_32::q8_0,
        Encoding::Iq4Nl => blocks_of_32::iq4_nl,
        Encoding::Q2K => blocks_of_256::q2_k,
        Encoding::Q3K => blocks_of_256::q3_k,
        Encoding::Q4K => blocks_of_256::q4_k,
        Encoding::Q5K => blocks_of_256::q5_k,
        Encoding::Q6K => blocks_of_256::q6_k,
        Encoding::I2S
        | Encoding::I2SBare
        | Encoding::Tq1_0
        | Encoding::Tq2_0
        | Encoding::Q1_0
        | Encoding::Q2_0
        | Encoding::Pq2_0
        | Encoding::Tq2_0G128
        | Encoding::Ptq1_0
        | Encoding::Stq1_0
        | Encoding::Iq1Bn
        | Encoding::Iq2Bn
        | Encoding::Iq2BnR4
        | Encoding::Undecoded(_) => return None,
    })
}

/// The f16 at byte `at`, widened; zero beyond the end.
fn half_at(bytes: &[u8], at: usize) -> f32 {
    let half = bytes.get(at..).and_then(|bytes| bytes.first_chunk::<2>());
    half.map_or(0.0, |half| half::f16::from_le_bytes(*half).to_f32())
}
