//! Types of values and facts about weights.
//!
//! In: nothing. Out: the vocabulary that every stage shares: [`Dim`], [`DType`], [`Type`], [`WeightDecl`].
//! A type never holds data; a weight is an id, a shape and facts.

use std::fmt;

/// An `f32` compared and hashed by its bits, so that attributes and facts can be map keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct F32(u32);

impl F32 {
    /// Wraps `value`.
    pub fn new(value: f32) -> Self {
        Self(value.to_bits())
    }
    /// The number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
    /// Its bits.
    pub fn bits(self) -> u32 {
        self.0
    }
    /// From its bits.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl fmt::Display for F32 {
    /// The shortest decimal that parses back to the same bits (finite values).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.get())
    }
}

impl fmt::Debug for F32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.get())
    }
}

/// One dimension of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Dim {
    /// A number known at compile time.
    Const(u32),
    /// `T`: the tokens of one step.
    Tokens,
    /// `W`: the rows whose logits the caller wants: none, the last, or all of `T`.
    Wanted,
    /// `T*8`: each token of the step for each of so many experts: routed rows, by expert, then by token.
    Routed(u32),
}

impl Dim {
    /// The number, unless it is known only at run time.
    pub fn as_const(self) -> Option<u32> {
        match self {
            Dim::Const(n) => Some(n),
            Dim::Tokens | Dim::Wanted | Dim::Routed(_) => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Const(n) => write!(f, "{n}"),
            Dim::Tokens => f.write_str("T"),
            Dim::Wanted => f.write_str("W"),
            Dim::Routed(experts) => write!(f, "T*{experts}"),
        }
    }
}

pub use crate::generated::dtypes::DType;

/// The element type of a dense weight.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DenseType {
    /// f32.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
}

impl DenseType {
    /// The dense type that `dtype` is, if it is one.
    pub const fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(DenseType::F32),
            DType::F16 => Some(DenseType::F16),
            DType::Bf16 => Some(DenseType::Bf16),
            DType::I32 | DType::Trit | DType::U4 | DType::Q8 | DType::Route => None,
        }
    }
    /// As an element type of the graph.
    pub const fn dtype(self) -> DType {
        match self {
            DenseType::F32 => DType::F32,
            DenseType::F16 => DType::F16,
            DenseType::Bf16 => DType::Bf16,
        }
    }
    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        self.dtype().name()
    }
    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            DenseType::F32 => 4,
            DenseType::F16 | DenseType::Bf16 => 2,
        }
    }
}

/// Element type and shape.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Outermost dimension first.
    pub dims: Vec<Dim>,
}

impl TensorType {
    /// A tensor type.
    pub fn new(dtype: DType, dims: impl Into<Vec<Dim>>) -> Self {
        Self { dtype, dims: dims.into() }
    }
    /// The last dimension, if it is a constant: the row length in elements.
    pub fn row_elems(&self) -> Option<u32> {
        self.dims.last().and_then(|d| d.as_const())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype.name())?;
        for (i, dim) in self.dims.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// The type of a value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// The key/value cache of one layer.
    Kv {
        /// Key/value heads.
        heads: u32,
        /// Elements per head.
        head_dim: u32,
    },
    /// Several tensors from one op; taken apart by `get`.
    Tuple(Vec<TensorType>),
}

impl Type {
    /// The tensor type, if it is one.
    pub fn tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            Type::Kv { .. } | Type::Tuple(_) => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => write!(f, "{t}"),
            Type::Kv { heads, head_dim } => write!(f, "kv[{heads}, {head_dim}]"),
            Type::Tuple(ts) => {
                f.write_str("(")?;
                for (i, t) in ts.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{t}")?;
                }
                f.write_str(")")
            }
        }
    }
}

/// Names a weight within one graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WeightId(pub u32);

/// Names a node, which is the same as the one value that it computes, within one graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ValueId(pub u32);

/// A weight: where it comes from and what is known of it. The data stays in the checkpoint.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WeightDecl {
    /// Its name: the checkpoint's tensor name, or a made-up one for generated tables.
    pub name: String,
    /// Element type and shape: `[N, K]`, `[K]`, or `[E, N, K]` of the stacked matrices of E experts, whose `name` has a `*` where
    /// the number of the expert stands.
    pub ty: TensorType,
    /// For `trit` weights: `s_w`, the factor that turns a trit into the real weight (it multiplies). Ops that read factors
    /// from a weight of their own do not look at it: it is 1 then.
    pub scale: Option<F32>,
    /// Where the data comes from.
    pub origin: Origin,
}

/// Where the data of a weight comes from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// A dense tensor of the checkpoint, as it is stored.
    Dense,
    /// Hugging Face BitNet packing: u8 `[ceil(N/4), K]`, four row blocks per byte.
    HfPacked,
    /// Full-precision master weights, made ternary at import by the absmean rule.
    OnlineAbsmean,
    /// A ternary matrix of a GGUF file, in blocks or stored dense.
    Gguf,
    /// A tensor stored dense whose elements are -s, 0 and +s: their signs.
    DenseTernary,
    /// The factors s of such a tensor, or of blocks: `f32[N, C]`, one for each of C equal groups of columns of each row. Of experts
    /// `f32[E, N, C]`, or `f32[E]`: one for each of their matrices.
    TernaryScales,
    /// 1 + w of a tensor w that is stored dense: `f32[K]`.
    OnePlus,
    /// The codes of a matrix of four bits a weight with a scale and an offset per group: `u4[N, K]`.
    Quant4,
    /// The scales s of such a matrix: `f32[N, C]`; a weight is s q + m.
    Quant4Scales,
    /// The offsets m of such a matrix: `f32[N, C]`.
    Quant4Offsets,
    /// What a GGUF file says of the signs in front of its Hadamard matrices: `f32[K]`, each 1 or -1.
    HadamardSigns,
    /// Cosines and sines of the rotary embedding, generated; `f32[P, head_dim]`, first half cosines, second half sines.
    RopeTable(RopeSpec),
}

/// What a rotary table is made from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RopeSpec {
    /// The base of the geometric sequence of wavelengths.
    pub theta: F32,
    /// Context extension.
    pub scaling: RopeScaling,
}

/// How the rotary frequencies are stretched for long contexts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RopeScaling {
    /// As they are.
    None,
    /// Every position divided by `factor`.
    Linear {
        /// The divisor.
        factor: F32,
    },
    /// Llama 3: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: F32,
        /// Wavelengths above `original / low` are divided.
        low_freq_factor: F32,
        /// Wavelengths below `original / high` are kept.
        high_freq_factor: F32,
        /// Context length of the original training, in positions.
        original_max_position: u32,
    },
    /// YaRN: interpolation by parts, cosines and sines multiplied by `attention_factor`.
    Yarn {
        /// The context extension.
        factor: F32,
        /// Rotations above which a dimension is extrapolated.
        beta_fast: F32,
        /// Rotations below which a dimension is interpolated.
        beta_slow: F32,
        /// Multiplies cosines and sines.
        attention_factor: F32,
        /// Context length of the original training, in positions.
        original_max_position: u32,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
}
