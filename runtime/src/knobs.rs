//! The shape of the table of knobs: what one row says.
//!
//! In: nothing; the rows are in [`crate::generated::knobs`], written by the generator of `ir-specs`, which has checked
//! them. Out: the types with which command lines read those rows. The runtime itself reads no knob: whoever calls it does.

/// One knob: something that a user may set and that has a default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnobSpec {
    /// The option's name on the command line, without dashes.
    pub name: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// What values it takes.
    pub kind: KnobKind,
    /// The default, as a user would write it.
    pub default: &'static str,
    /// What it does, with its unit.
    pub doc: &'static str,
}

/// The values that a knob takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KnobKind {
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number in `min..=max`.
    Number {
        /// The least value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// A number in `min..=max`, or `auto`.
    NumberOrAuto {
        /// The least value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// The path of a folder, or `auto`.
    FolderOrAuto,
    /// The path of a file, or one of these words.
    FileOrChoice(&'static [&'static str]),
}

impl KnobKind {
    /// Whether `value`, as a user would write it, is one of them.
    pub fn accepts(&self, value: &str) -> bool {
        let in_range = |min: u64, max: u64| value.parse().is_ok_and(|v: u64| min <= v && v <= max);
        match *self {
            KnobKind::Choice(words) => words.contains(&value),
            KnobKind::Number { min, max } => in_range(min, max),
            KnobKind::NumberOrAuto { min, max } => value == "auto" || in_range(min, max),
            KnobKind::FolderOrAuto | KnobKind::FileOrChoice(_) => !value.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::generated::knobs::{KNOBS, knob};

    #[test]
    fn knobs_accept_what_their_kind_says() {
        assert!(KNOBS.iter().all(|k| k.kind.accepts(k.default)));
        let threads = knob("threads").expect("there is a knob threads").kind;
        for (value, good) in [("auto", true), ("1", true), ("0", false), ("-1", false), ("", false), ("1.5", false)] {
            assert_eq!(threads.accepts(value), good, "{value}");
        }
        let isa = knob("isa").expect("there is a knob isa").kind;
        assert!(isa.accepts("avx2") && !isa.accepts("AVX2"));
    }
}
