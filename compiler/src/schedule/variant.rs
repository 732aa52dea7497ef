//! How the loops of one kernel are cut: numbers that change its speed and never its results.
//!
//! The default is what a kernel does unless somebody measured that another is faster. A variant is written `w256_u8_p32`:
//! vectors, lines per turn, how far ahead weights are fetched, tiles per block; what is not named is the default.

use std::fmt;
use std::str::FromStr;

/// How wide a kernel's vectors are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum Vectors {
    /// As wide as the level has them.
    #[default]
    Widest,
    /// 256 bits, where the level has 512.
    W256,
    /// 128 bits: Cranelift's kernel.
    W128,
}

/// How a kernel's loops are cut. Numbers that a kernel has not are ignored by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Variant {
    /// Width of vectors.
    pub vectors: Vectors,
    /// Cache lines of weights per turn of the innermost loop.
    pub unroll_lines: Option<u8>,
    /// How far ahead of the loads weights are fetched: cache lines; of table kernels, tiles. 0 is not at all.
    pub prefetch: Option<u8>,
    /// Tiles whose sums a table kernel keeps at once.
    pub block_tiles: Option<u8>,
}

impl Variant {
    /// The most lines per turn.
    pub const MAX_UNROLL_LINES: u8 = 16;
    /// The most tiles at once; fewer than two are not even one of a gated unit.
    pub const MAX_BLOCK_TILES: u8 = 176;

    /// The end of a kernel's name: nothing for the default.
    pub fn suffix(self) -> String {
        if self == Variant::default() { String::new() } else { format!("_{self}") }
    }

    /// Whether all numbers are in range.
    pub fn is_valid(self) -> bool {
        self.unroll_lines.is_none_or(|n| (1..=Self::MAX_UNROLL_LINES).contains(&n))
            && self.block_tiles.is_none_or(|n| n.is_multiple_of(2) && (2..=Self::MAX_BLOCK_TILES).contains(&n))
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vectors = match self.vectors {
            Vectors::Widest => None,
            Vectors::W256 => Some("w256".to_owned()),
            Vectors::W128 => Some("w128".to_owned()),
        };
        let number = |letter: char, n: Option<u8>| n.map(|n| format!("{letter}{n}"));
        let numbers = [number('u', self.unroll_lines), number('p', self.prefetch), number('b', self.block_tiles)];
        let parts: Vec<String> = [vectors].into_iter().chain(numbers).flatten().collect();
        if parts.is_empty() { f.write_str("default") } else { f.write_str(&parts.join("_")) }
    }
}

/// A text is no variant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "found the variant {found:?}, expected `default` or one of each of w256/w128, u1..u{}, p0..p255, b2..b{} (even) in this \
     order, joined by `_`",
    Variant::MAX_UNROLL_LINES,
    Variant::MAX_BLOCK_TILES
)]
pub struct BadVariant {
    /// The text.
    pub found: String,
}

impl FromStr for Variant {
    type Err = BadVariant;

    fn from_str(text: &str) -> Result<Self, BadVariant> {
        let mut variant = Variant::default();
        for part in text.split('_').filter(|_| text != "default") {
            let number = || part.get(1..).and_then(|digits| digits.parse().ok());
            match part.as_bytes().first() {
                Some(b'w') if part == "w256" => variant.vectors = Vectors::W256,
                Some(b'w') if part == "w128" => variant.vectors = Vectors::W128,
                Some(b'u') => variant.unroll_lines = number(),
                Some(b'p') => variant.prefetch = number(),
                Some(b'b') => variant.block_tiles = number(),
                _ => {}
            }
        }
        // What does not print as it was read had an order, a sign or a part of its own.
        let is_one = variant.is_valid() && variant.to_string() == text;
        if is_one { Ok(variant) } else { Err(BadVariant { found: text.to_owned() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_read_as_they_are_written() {
        let full = Variant { vectors: Vectors::W256, unroll_lines: Some(8), prefetch: Some(0), block_tiles: Some(88) };
        for (variant, text) in [
            (Variant::default(), "default"),
            (full, "w256_u8_p0_b88"),
            (Variant { prefetch: Some(255), ..Variant::default() }, "p255"),
            (Variant { vectors: Vectors::W128, ..Variant::default() }, "w128"),
        ] {
            assert_eq!(variant.to_string(), text);
            assert_eq!(text.parse(), Ok(variant));
        }
        assert_eq!((Variant::default().suffix().as_str(), full.suffix().as_str()), ("", "_w256_u8_p0_b88"));
        for wrong in [
            "",
            "u",
            "u0",
            "u17",
            "u+4",
            "u04",
            "p256",
            "b1",
            "b3",
            "b178",
            "u4_w256",
            "u4_u4",
            "w512",
            "é",
            "default_u4",
        ] {
            assert!(wrong.parse::<Variant>().is_err(), "{wrong}");
        }
    }
}
