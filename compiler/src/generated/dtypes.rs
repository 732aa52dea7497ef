// Written by the generator of `ir-specs` from `dtypes.toml`. Do not edit.
//! Element types, from `ir-specs/dtypes.toml`.

/// Element type of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// 32-bit signed integer.
    I32,
    /// -1, 0 or +1.
    Trit,
    /// 0 to 15.
    U4,
    /// Activations quantised per row: i8 codes, one f32 scale `s_x` and one i32 sum of the codes.
    Q8,
    /// A choice of experts: an expert's number and its weight.
    Route,
}

impl DType {
    /// All of them, in table order.
    pub const ALL: &'static [DType] =
        &[DType::F32, DType::F16, DType::Bf16, DType::I32, DType::Trit, DType::U4, DType::Q8, DType::Route];

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I32 => "i32",
            DType::Trit => "trit",
            DType::U4 => "u4",
            DType::Q8 => "q8",
            DType::Route => "route",
        }
    }

    /// Bits of one element.
    pub const fn bits(self) -> u32 {
        match self {
            DType::F32 => 32,
            DType::F16 => 16,
            DType::Bf16 => 16,
            DType::I32 => 32,
            DType::Trit => 2,
            DType::U4 => 4,
            DType::Q8 => 8,
            DType::Route => 64,
        }
    }
}
