//! A small seeded generator for test data: SplitMix64 (Steele, Lea, Flood 2014).

/// The generator; equal seeds give equal sequences.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// An f32 in -1..1 with 24 random bits.
    pub fn unit(&mut self) -> f32 {
        ((self.bits() >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    /// `n` such numbers times `size`.
    pub fn floats(&mut self, n: usize, size: f32) -> Vec<f32> {
        (0..n).map(|_| self.unit() * size).collect()
    }

    /// `n` random trits.
    pub fn trits(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| self.below(3) as i8 - 1).collect()
    }

    /// `n` random trits that are not zero.
    pub fn signs(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| 2 * self.below(2) as i8 - 1).collect()
    }

    /// `n` random i8 codes, the extremes among them.
    pub fn codes(&mut self, n: usize) -> Vec<i8> {
        (0..n)
            .map(|_| match self.below(8) {
                0 => -128,
                1 => 127,
                _ => self.bits() as i8,
            })
            .collect()
    }
}
