//! Ways to compute one ternary product, all with the same exact sums.
//!
//! A strategy says what is done, not which instructions do it: the same one has kernels at several levels and in several
//! variants. A graph names one for decoding and one for prompts with each product; `any` leaves the choice to the optimiser.

/// How a ternary product is computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Not chosen yet: nothing computes it.
    Any,
    /// Dot products of activation codes with 2-bit weights (`t2_16x16`).
    Dot2,
    /// The same with five trits a byte (`t5_16x20`).
    Dot5,
    /// The same with one bit a trit, of matrices without zeros (`b1_16x32`).
    Dot1,
    /// Tables of one token's partial sums, looked up by byte shuffles (`n4_16x16`).
    Lut,
    /// Tables of many tokens' partial sums, indexed by four trits of `t2_16x16`.
    Lut2,
    /// The same from `t5_16x20`.
    Lut5,
    /// The same from `b1_16x32`, indexed by eight trits that are not zero.
    Lut1,
    /// The weights are the code: straight-line additions and subtractions with shared sums.
    AddSub,
    /// Columns whose activation is zero are not read (`c2_256`).
    ColSkip,
    /// Zero and repeated rows and blocks are computed once or never.
    Dup,
}

impl Strategy {
    /// All that compute something, in the order of listings.
    pub const ALL: [Strategy; 10] = [
        Strategy::Dot2,
        Strategy::Dot5,
        Strategy::Dot1,
        Strategy::Lut,
        Strategy::Lut2,
        Strategy::Lut5,
        Strategy::Lut1,
        Strategy::AddSub,
        Strategy::ColSkip,
        Strategy::Dup,
    ];

    /// The name in the text form, in tables and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Strategy::Any => "any",
            Strategy::Dot2 => "dot2",
            Strategy::Dot5 => "dot5",
            Strategy::Dot1 => "dot1",
            Strategy::Lut => "lut",
            Strategy::Lut2 => "lut2",
            Strategy::Lut5 => "lut5",
            Strategy::Lut1 => "lut1",
            Strategy::AddSub => "addsub",
            Strategy::ColSkip => "colskip",
            Strategy::Dup => "dup",
        }
    }

    /// Whether it looks sums up in tables that many tokens share, in batches of them.
    pub const fn has_tables(self) -> bool {
        match self {
            Strategy::Lut2 | Strategy::Lut5 | Strategy::Lut1 => true,
            Strategy::Any
            | Strategy::Dot2
            | Strategy::Dot5
            | Strategy::Dot1
            | Strategy::Lut
            | Strategy::AddSub
            | Strategy::ColSkip
            | Strategy::Dup => false,
        }
    }

    /// The strategy called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        std::iter::once(Strategy::Any).chain(Strategy::ALL).find(|strategy| strategy.name() == name)
    }
}
