//! The encodings of GGUF tensors that are no plain arrays of numbers.
//!
//! In: an [`Encoding`]. Out: its name and `Geometry`: how many bytes a tensor of a shape takes. Deliberately knows no type
//! ids, which have several meanings ([`super::layout`]), and no bits (one file each in `types`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

/// How elements are packed in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Encoding {
    /// 32 weights of 4 bits and their scale.
    Q4_0,
    /// 32 weights of 4 bits, scale and minimum.
    Q4_1,
    /// 32 weights of 5 bits and their scale.
    Q5_0,
    /// 32 weights of 5 bits, scale and minimum.
    Q5_1,
    /// 32 weights of 8 bits and their scale.
    Q8_0,
    /// 32 weights of 4 bits that index a table, and their scale.
    Iq4Nl,
    /// 256 weights of 2 bits, scales and minima of sixteen parts.
    Q2K,
    /// 256 weights of 3 bits, scales of sixteen parts.
    Q3K,
    /// 256 weights of 4 bits, scales and minima of eight parts.
    Q4K,
    /// 256 weights of 5 bits, scales and minima of eight parts.
    Q5K,
    /// 256 weights of 6 bits, scales of sixteen parts.
    Q6K,
    /// Microsoft BitNet: 128 trits in 32 bytes, one scale behind the whole tensor.
    I2S,
    /// The same without the scale, which is a tensor of its own.
    I2SBare,
    /// 256 trits, five to a byte.
    Tq1_0,
    /// 256 trits, four to a byte.
    Tq2_0,
    /// 128 signs behind their scale.
    Q1_0,
    /// 64 weights of 2 bits behind their scale.
    Q2_0,
    /// Prism: 128 weights of 2 bits behind their scale.
    Pq2_0,
    /// OxiBonsai: 128 weights of 2 bits before their scale.
    Tq2_0G128,
    /// Prism: 128 trits, five to a byte.
    Ptq1_0,
    /// Tencent Sherry: 256 trits, exactly one zero in four.
    Stq1_0,
    /// ik_llama.cpp: 64 trits in 13 bytes, one scale per row.
    Iq1Bn,
    /// ik_llama.cpp: 64 trits in 16 bytes, one scale per row.
    Iq2Bn,
    /// The same, four rows interleaved.
    Iq2BnR4,
    /// Known by its size alone.
    Undecoded(Undecoded),
}

/// An encoding that tern does not decode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undecoded {
    /// Its name.
    pub name: &'static str,
    /// Weights of a block.
    pub block_elems: u16,
    /// Bytes of a block.
    pub block_bytes: u16,
    /// Bytes in front of a row.
    pub head_bytes: u16,
}

/// How many bytes of what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Geometry {
    /// Elements of a block.
    pub(super) block_elems: usize,
    /// Bytes of a block.
    pub(super) block_bytes: usize,
    /// Bytes in front of every row.
    pub(super) head_bytes: usize,
    /// Bytes behind the tensor.
    pub(super) tail_bytes: usize,
    /// Rows that lie together.
    pub(super) rows: usize,
    /// Whether blocks run over the ends of rows.
    pub(super) is_flat: bool,
}

impl Geometry {
    pub(super) const fn plain(block_elems: usize, block_bytes: usize) -> Self {
        Self { block_elems, block_bytes, head_bytes: 0, tail_bytes: 0, rows: 1, is_flat: false }
    }

    /// Bytes of a row of `cols` elements; `None` if blocks do not fit it.
    pub(super) fn row_bytes(&self, cols: usize) -> Option<usize> {
        if self.block_elems == 0 || !cols.is_multiple_of(self.block_elems) {
            return None;
        }
        cols.checked_div(self.block_elems)?.checked_mul(self.block_bytes)?.checked_add(self.head_bytes)
    }

    /// Bytes of a tensor of `shape`; `None` if there can be none of that shape.
    pub(super) fn tensor_bytes(&self, shape: &[usize]) -> Option<usize> {
        let (&cols, outer) = shape.split_last()?;
        let rows = outer.iter().try_fold(1usize, |rows, &dim| rows.checked_mul(dim))?;
        let data = if self.is_flat {
            self.row_bytes(rows.checked_mul(cols)?)?
        } else {
            let whole = rows.is_multiple_of(self.rows);
            self.row_bytes(cols).filter(|_| whole)?.checked_mul(rows)?
        };
        data.checked_add(self.tail_bytes)
    }
}

impl Encoding {
    /// Those of dense numbers that are decoded, the most exact first.
    pub const DENSE: [Encoding; 11] = [
        Encoding::Q8_0,
        Encoding::Q6K,
        Encoding::Q5K,
        Encoding::Q5_1,
        Encoding::Q5_0,
        Encoding::Q4K,
        Encoding::Iq4Nl,
        Encoding::Q4_1,
        Encoding::Q4_0,
        Encoding::Q3K,
        Encoding::Q2K,
    ];

    /// Its name, as its makers write it.
    pub const fn name(self) -> &'static str {
        match self {
            Encoding::Q4_0 => "Q4_0",
            Encoding::Q4_1 => "Q4_1",
            Encoding::Q5_0 => "Q5_0",
            Encoding::Q5_1 => "Q5_1",
            Encoding::Q8_0 => "Q8_0",
            Encoding::Iq4Nl => "IQ4_NL",
            Encoding::Q2K => "Q2_K",
            Encoding::Q3K => "Q3_K",
            Encoding::Q4K => "Q4_K",
            Encoding::Q5K => "Q5_K",
            Encoding::Q6K => "Q6_K",
            Encoding::I2S => "I2_S",
            Encoding::I2SBare => "I2_S without scale",
            Encoding::Tq1_0 => "TQ1_0",
            Encoding::Tq2_0 => "TQ2_0",
            Encoding::Q1_0 => "Q1_0",
            Encoding::Q2_0 => "Q2_0",
            Encoding::Pq2_0 => "PQ2_0",
            Encoding::Tq2_0G128 => "TQ2_0_g128",
            Encoding::Ptq1_0 => "PTQ1_0",
            Encoding::Stq1_0 => "STQ1_0",
            Encoding::Iq1Bn => "IQ1_BN",
            Encoding::Iq2Bn => "IQ2_BN",
            Encoding::Iq2BnR4 => "IQ2_BN_R4",
            Encoding::Undecoded(other) => other.name,
        }
    }

    /// Whether its weights are -1, 0 or +1 times a scale.
    pub const fn is_ternary(self) -> bool {
        match self {
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
            | Encoding::Iq2BnR4 => true,
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
            | Encoding::Undecoded(_) => false,
        }
    }

    /// Bytes of a tensor of `shape`, if there can be one.
    pub fn tensor_bytes(self, shape: &[usize]) -> Option<usize> {
        self.geometry().tensor_bytes(shape)
    }

    pub(super) const fn geometry(self) -> Geometry {
        match self {
            Encoding::Q4_0 => Geometry::plain(32, 18),
            Encoding::Q4_1 => Geometry::plain(32, 20),
            Encoding::Q5_0 => Geometry::plain(32, 22),
            Encoding::Q5_1 => Geometry::plain(32, 24),
            Encoding::Q8_0 => Geometry::plain(32, 34),
            Encoding::Iq4Nl => Geometry::plain(32, 18),
            Encoding::Q2K => Geometry::plain(256, 84),
            Encoding::Q3K => Geometry::plain(256, 110),
            Encoding::Q4K => Geometry::plain(256, 144),
            Encoding::Q5K => Geometry::plain(256, 176),
            Encoding::Q6K => Geometry::plain(256, 210),
            Encoding::I2S => Geometry { tail_bytes: 32, is_flat: true, ..Geometry::plain(128, 32) },
            Encoding::I2SBare => Geometry { is_flat: true, ..Geometry::plain(128, 32) },
            Encoding::Tq1_0 => Geometry::plain(256, 54),
            Encoding::Tq2_0 => Geometry::plain(256, 66),
            Encoding::Q1_0 => Geometry::plain(128, 18),
            Encoding::Q2_0 => Geometry::plain(64, 18),
            Encoding::Pq2_0 | Encoding::Tq2_0G128 => Geometry::plain(128, 34),
            Encoding::Ptq1_0 => Geometry::plain(128, 28),
            Encoding::Stq1_0 => Geometry::plain(256, 42),
            Encoding::Iq1Bn => Geometry { head_bytes: 2, ..Geometry::plain(64, 13) },
            Encoding::Iq2Bn => Geometry { head_bytes: 4, ..Geometry::plain(64, 16) },
            Encoding::Iq2BnR4 => Geometry { head_bytes: 4, rows: 4, ..Geometry::plain(64, 16) },
            Encoding::Undecoded(other) => Geometry {
                head_bytes: other.head_bytes as usize,
                ..Geometry::plain(other.block_elems as usize, other.block_bytes as usize)
            },
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
