//! Random bytes of tensors: packed trits, numbers about unit normal.
//!
//! In: a stream's seed and a position in it. Out: bytes. Every byte is a function of seed and position alone, so threads
//! fill pieces in any order, and no machine's arithmetic shows: integers choose, tables made of sums, products and
//! quotients in f64 translate.

use std::ops::Range;

/// The increment of SplitMix64 (Steele, Lea, Flood 2014).
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of random words that can be entered anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stream(u64);

impl Stream {
    /// The stream of the tensor `name` under `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a tells names apart, the mixing makes their streams unlike.
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self(mix(seed.wrapping_add(GAMMA)) ^ mix(hash))
    }

    /// Word `i`.
    #[inline]
    pub fn word(self, i: u64) -> u64 {
        mix(self.0.wrapping_add(i.wrapping_add(1).wrapping_mul(GAMMA)))
    }

    /// Word `i` as a number from 0 to below 1.
    fn uniform(self, i: u64) -> f64 {
        (self.word(i) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The output function of SplitMix64.
#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 16 random bits to four codes of two bits, 0, 1 or 2, of which 1 has a given share.
pub struct TritTable(Box<[u8; 1 << 16]>);

impl TritTable {
    /// `zeros` is the share of code 1, which stands for the trit 0.
    pub fn new(zeros: f64) -> Self {
        let share = |code: usize| if code == 1 { zeros } else { (1.0 - zeros) / 2.0 };
        let mut table = Box::new([0; 1 << 16]);
        let (mut sum, mut start) = (0.0, 0);
        // The 81 bytes share the places by their probabilities, ends rounded, so that no error adds up.
        for n in 0..81usize {
            let codes = [n % 3, n / 3 % 3, n / 9 % 3, n / 27];
            sum += codes.iter().map(|code| share(*code)).product::<f64>();
            let end = if n == 80 { 1 << 16 } else { ((sum * 65536.0).round() as usize).clamp(start, 1 << 16) };
            let byte = codes.iter().rev().fold(0, |byte, code| byte << 2 | *code as u8);
            table[start..end].fill(byte);
            start = end;
        }
        Self(table)
    }

    /// Fills `out` with the bytes from `first` on of a packed matrix, whose rows of bytes are `cols` long and stand for
    /// `rows` rows of trits. Codes behind the last row are 0.
    pub fn fill(&self, stream: Stream, first: u64, rows: u32, cols: u32, out: &mut [u8]) {
        let (mut word, mut known) = (0, u64::MAX);
        let byte = |word: u64, at: u64| self.0[(word >> (16 * (at % 4))) as usize & 0xffff];
        let mut at = first;
        let (head, rest) = out.split_at_mut(out.len().min((first.wrapping_neg() % 4) as usize));
        for slot in head {
            *slot = byte(stream.word(at / 4), at);
            at += 1;
        }
        for four in rest.chunks_mut(4) {
            if known != at / 4 {
                (known, word) = (at / 4, stream.word(at / 4));
            }
            for slot in four {
                *slot = byte(word, at);
                at += 1;
            }
        }
        if !rows.is_multiple_of(4) {
            clear_missing_rows(first, rows, cols, out);
        }
    }

    /// Fills `out` with f16 elements from element `first` on: trits of the first stream, times a scale of the second for each
    /// `group` of consecutive elements, from 0.75 to 1.25 times `scale`.
    pub fn fill_groups(&self, [trits, scales]: [Stream; 2], first: u64, group: u32, scale: f64, out: &mut [u8]) {
        let group = u64::from(group.max(1));
        let (mut word, mut size) = (0, half::f16::ZERO);
        let mut known = [u64::MAX; 2];
        for (at, elem) in (first..).zip(out.chunks_exact_mut(2)) {
            if known[0] != at / 16 {
                (known[0], word) = (at / 16, trits.word(at / 16));
            }
            if known[1] != at / group {
                known[1] = at / group;
                size = half::f16::from_f64(scale * (0.75 + 0.5 * scales.uniform(known[1])));
            }
            let byte = self.0[(word >> (16 * (at / 4 % 4))) as usize & 0xffff];
            let value = match byte >> (2 * (at % 4)) & 3 {
                0 => -size,
                1 => half::f16::ZERO,
                _ => size,
            };
            elem.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Clears the codes of rows that a matrix of `rows` rows has not.
pub(super) fn clear_missing_rows(first: u64, rows: u32, cols: u32, out: &mut [u8]) {
    let packed_rows = rows.div_ceil(4);
    for (at, byte) in (first..).zip(out) {
        let row = (at / u64::from(cols)) as u32;
        let there =
            (0..4u32).filter(|block| block * packed_rows + row < rows).fold(0, |mask, block| mask | 3 << (2 * block));
        *byte &= there;
    }
}

/// A sum of eight random bytes to the bits of numbers that are about normal.
pub struct NormalTable(Vec<u16>);

impl NormalTable {
    /// That of numbers of standard deviation `size`, bf16 or f16.
    pub fn new(size: f64, is_f16: bool) -> Self {
        // The sum of eight numbers of 0..=255 has mean 1020 and variance 8 (256^2 - 1) / 12 = 43690.
        let deviation = 43690f64.sqrt();
        let bits = |value: f64| if is_f16 { half::f16::from_f64(value).to_bits() } else { bf16(value) };
        Self((0..=2040).map(|sum| bits((f64::from(sum) - 1020.0) / deviation * size)).collect())
    }

    /// Fills `out` with the elements from `first` on, two bytes each.
    pub fn fill(&self, stream: Stream, first: u64, out: &mut [u8]) {
        for (at, elem) in (first..).zip(out.chunks_exact_mut(2)) {
            let word = stream.word(at);
            let pairs = (word & 0x00ff_00ff_00ff_00ff) + (word >> 8 & 0x00ff_00ff_00ff_00ff);
            let sum = pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48;
            elem.copy_from_slice(&self.0[sum as usize].to_le_bytes());
        }
    }
}

/// Fills `out` with bf16 numbers spread evenly over `within`, from element `first` on.
pub fn fill_even(stream: Stream, first: u64, within: Range<f64>, out: &mut [u8]) {
    for (at, elem) in (first..).zip(out.chunks_exact_mut(2)) {
        let value = within.start + (within.end - within.start) * stream.uniform(at);
        elem.copy_from_slice(&bf16(value).to_le_bytes());
    }
}

/// As [`fill_even`], of f16.
pub fn fill_even_f16(stream: Stream, first: u64, within: Range<f64>, out: &mut [u8]) {
    for (at, elem) in (first..).zip(out.chunks_exact_mut(2)) {
        let value = within.start + (within.end - within.start) * stream.uniform(at);
        elem.copy_from_slice(&half::f16::from_f64(value).to_le_bytes());
    }
}

/// Fills `out` with random bytes from byte `first` on, a multiple of 8.
pub fn fill_words(stream: Stream, first: u64, out: &mut [u8]) {
    for (at, bytes) in (first / 8..).zip(out.chunks_mut(8)) {
        let word = stream.word(at).to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// Fills `out` with bf16 numbers from 2^-spread to 2^spread, evenly in powers of two, from element `first` on.
pub fn fill_gains(stream: Stream, first: u64, spread: f64, out: &mut [u8]) {
    for (at, elem) in (first..).zip(out.chunks_exact_mut(2)) {
        let gain = libm::exp2(spread * (2.0 * stream.uniform(at) - 1.0));
        elem.copy_from_slice(&bf16(gain).to_le_bytes());
    }
}

fn bf16(value: f64) -> u16 {
    half::bf16::from_f64(value).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_do_not_depend_on_the_pieces() {
        let (trits, normal, stream) = (TritTable::new(0.4), NormalTable::new(1.0, false), Stream::new(7, "x"));
        let mut whole = vec![0; 1001];
        trits.fill(stream, 0, 8, 10, &mut whole);
        for cut in [1, 2, 3, 4, 5, 499, 1000] {
            let mut pieces = vec![0; 1001];
            let (a, b) = pieces.split_at_mut(cut);
            trits.fill(stream, cut as u64, 8, 10, b);
            trits.fill(stream, 0, 8, 10, a);
            assert_eq!(pieces, whole, "{cut}");
        }
        let mut whole = vec![0; 1000];
        normal.fill(stream, 0, &mut whole);
        let mut end = vec![0; 400];
        normal.fill(stream, 300, &mut end);
        assert_eq!(end, whole[600..]);
        assert_ne!(stream.word(0), Stream::new(8, "x").word(0));
        assert_ne!(stream.word(0), Stream::new(7, "y").word(0));
    }

    /// The bytes are part of what a seed means: other numbers would make old measurements hard to repeat.
    #[test]
    fn the_bytes_of_a_seed_stay() {
        let (mut trits, mut normal) = ([0; 8], [0; 8]);
        TritTable::new(0.4).fill(Stream::new(0, "a"), 0, 4, 8, &mut trits);
        NormalTable::new(1.0, false).fill(Stream::new(0, "a"), 0, &mut normal);
        assert_eq!((trits, normal), (TRITS, NORMAL));
    }

    const TRITS: [u8; 8] = [65, 102, 134, 72, 98, 34, 41, 96];
    const NORMAL: [u8; 8] = [100, 63, 176, 190, 29, 61, 181, 62];

    #[test]
    fn shares_are_as_asked() {
        for zeros in [0.0, 0.25, 0.4, 1.0] {
            let mut bytes = vec![0; 1 << 18];
            TritTable::new(zeros).fill(Stream::new(3, "t"), 0, 4, 64, &mut bytes);
            let mut counts = [0u32; 4];
            for byte in &bytes {
                (0..4).for_each(|i| counts[(byte >> (2 * i) & 3) as usize] += 1);
            }
            let share = |code: usize| f64::from(counts[code]) / (4 * bytes.len()) as f64;
            assert!((share(1) - zeros).abs() < 2e-3, "{zeros}: {counts:?}");
            assert!((share(0) - share(2)).abs() < 3e-3 && counts[3] == 0, "{zeros}: {counts:?}");
        }
    }

    #[test]
    fn groups_hold_one_size_whatever_the_pieces() {
        let (trits, streams) = (TritTable::new(0.4), [Stream::new(7, "x"), Stream::new(7, "y")]);
        let mut whole = vec![0; 2 * 640];
        trits.fill_groups(streams, 0, 128, 0.05, &mut whole);
        let mut end = vec![0; 2 * 301];
        trits.fill_groups(streams, 339, 128, 0.05, &mut end);
        assert_eq!(end, whole[2 * 339..]);
        let values: Vec<f32> =
            whole.as_chunks::<2>().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect();
        let mut sizes: Vec<u32> = values
            .chunks(128)
            .map(|group| {
                let size = group.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                assert!((0.037..=0.063).contains(&size) && group.iter().all(|v| *v == 0.0 || v.abs() == size));
                assert!([-size, 0.0, size].iter().all(|v| group.contains(v)));
                size.to_bits()
            })
            .collect();
        sizes.dedup();
        assert_eq!(sizes.len(), 5, "each group has its own");
        TritTable::new(0.0).fill_groups(streams, 0, 128, 0.05, &mut whole);
        assert!(whole.as_chunks::<2>().0.iter().all(|bytes| *bytes != [0, 0]));
    }

    #[test]
    fn missing_rows_are_clear() {
        // Five rows of trits in two rows of bytes: of the second, blocks 2 and 3 (rows 5 and 7), but also 1 (row 3) is there.
        let mut bytes = vec![0; 2 * 1000];
        TritTable::new(0.0).fill(Stream::new(3, "t"), 0, 5, 1000, &mut bytes);
        let ors = |row: &[u8]| row.iter().fold(0, |all, byte| all | byte);
        assert_eq!((ors(&bytes[..1000]), ors(&bytes[1000..])), (0b10_1010, 0b1010));
    }

    #[test]
    fn normal_numbers_have_the_size_that_was_asked_for() {
        for (size, is_f16) in [(1.0, false), (0.02, true)] {
            let mut bytes = vec![0; 1 << 18];
            NormalTable::new(size, is_f16).fill(Stream::new(3, "n"), 0, &mut bytes);
            let value = |b: &[u8]| match is_f16 {
                true => half::f16::from_le_bytes([b[0], b[1]]).to_f64(),
                false => half::bf16::from_le_bytes([b[0], b[1]]).to_f64(),
            };
            let values: Vec<f64> = bytes.chunks_exact(2).map(|b| value(b) / size).collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| v * v).sum::<f64>() / n;
            assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.01, "{mean} {variance}");
        }
    }

    #[test]
    fn words_do_not_depend_on_the_pieces() {
        let mut whole = vec![0; 100];
        fill_words(Stream::new(3, "w"), 0, &mut whole);
        let mut end = vec![0; 60];
        fill_words(Stream::new(3, "w"), 40, &mut end);
        assert_eq!(end, whole[40..]);
        assert!(whole.as_chunks::<4>().0.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
