//! No loops of products for this CPU: a figure that nobody has checked would be no limit.
//!
//! In: nothing. Out: no loop.

/// A loop.
pub struct Dot {
    /// What it is made of.
    pub name: &'static str,
    /// Width of its vectors.
    pub bits: u32,
    /// Whether one instruction multiplies and adds up in 32 bits.
    pub vnni: bool,
    /// Products of one turn.
    pub macs_per_turn: u64,
}

/// All loops.
pub static DOTS: [Dot; 0] = [];

impl Dot {
    /// The strongest loop of this CPU.
    pub fn widest() -> Option<&'static Dot> {
        None
    }

    /// The strongest loop of at most `bits` bits, with or without `vnni`.
    pub fn at_most(_bits: u32, _vnni: bool) -> Option<&'static Dot> {
        None
    }

    /// Whether this CPU has the instructions.
    pub fn is_available(&self) -> bool {
        false
    }

    /// Runs `turns` turns.
    pub fn run(&self, _turns: usize) {}
}
