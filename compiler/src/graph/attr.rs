//! Attribute values of ops.

use std::fmt;

use super::strategy::Strategy;
use super::types::F32;

/// The activation function of a gated linear unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Act {
    /// max(x, 0) squared.
    Relu2,
    /// x / (1 + exp(-x)).
    Silu,
    /// The Gaussian error linear unit, by its tanh.
    Gelu,
}

impl Act {
    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Act::Relu2 => "relu2",
            Act::Silu => "silu",
            Act::Gelu => "gelu",
        }
    }
    /// The activation called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "relu2" => Some(Act::Relu2),
            "silu" => Some(Act::Silu),
            "gelu" => Some(Act::Gelu),
            _ => None,
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Attr {
    /// An unsigned number.
    U32(u32),
    /// A real number.
    F32(F32),
    /// An activation function.
    Act(Act),
    /// A way to compute a ternary product.
    Strategy(Strategy),
}

impl Attr {
    /// Whether it is the strategy that is chosen where none is written.
    pub const fn is_any(self) -> bool {
        matches!(self, Attr::Strategy(Strategy::Any))
    }
}

impl From<u32> for Attr {
    fn from(v: u32) -> Self {
        Attr::U32(v)
    }
}

impl From<F32> for Attr {
    fn from(v: F32) -> Self {
        Attr::F32(v)
    }
}

impl From<Act> for Attr {
    fn from(v: Act) -> Self {
        Attr::Act(v)
    }
}

impl From<Strategy> for Attr {
    fn from(v: Strategy) -> Self {
        Attr::Strategy(v)
    }
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attr::U32(v) => write!(f, "{v}"),
            Attr::F32(v) => write!(f, "{v}"),
            Attr::Act(v) => f.write_str(v.name()),
            Attr::Strategy(v) => f.write_str(v.name()),
        }
    }
}
