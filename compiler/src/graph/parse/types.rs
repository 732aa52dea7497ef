//! Tokens to types and origins of weights.
//!
//! In: the tokens of one statement. Out: what the type or origin spells, whether or not it makes sense there.

use super::grammar::{Parsed, Parser};
use super::lex::Kind;
use crate::graph::{DType, Dim, Origin, RopeScaling, RopeSpec, TensorType, Type};

impl Parser<'_, '_> {
    /// A tensor, a cache or a tuple.
    pub(super) fn value_type(&mut self) -> Parsed<Type> {
        if self.is_word("kv") {
            self.advance();
            self.mark('[')?;
            let heads = self.int()?;
            self.mark(',')?;
            let head_dim = self.int()?;
            self.mark(']')?;
            return Ok(Type::Kv { heads, head_dim });
        }
        if self.peek() != Some(Kind::Mark('(')) {
            return Ok(Type::Tensor(self.tensor_type()?));
        }
        self.advance();
        let mut members = Vec::new();
        if self.peek() != Some(Kind::Mark(')')) {
            members.push(self.tensor_type()?);
            while self.comma() {
                members.push(self.tensor_type()?);
            }
        }
        self.mark(')')?;
        Ok(Type::Tuple(members))
    }

    /// `f32[T, 320]`
    pub(super) fn tensor_type(&mut self) -> Parsed<TensorType> {
        let dtype = match self.peek() {
            Some(Kind::Word(word)) => DType::ALL.iter().copied().find(|d| d.name() == word),
            _ => None,
        };
        let Some(dtype) = dtype else {
            return Err(self.fail("an element type"));
        };
        self.advance();
        self.mark('[')?;
        let mut dims = Vec::new();
        if self.peek() != Some(Kind::Mark(']')) {
            dims.push(self.dim()?);
            while self.comma() {
                dims.push(self.dim()?);
            }
        }
        self.mark(']')?;
        Ok(TensorType { dtype, dims })
    }

    fn dim(&mut self) -> Parsed<Dim> {
        let dim = match self.peek() {
            Some(Kind::Int(n)) => Dim::Const(n),
            Some(Kind::Word("T")) => {
                self.advance();
                if self.peek() != Some(Kind::Mark('*')) {
                    return Ok(Dim::Tokens);
                }
                self.advance();
                return self.int().map(Dim::Routed);
            }
            Some(Kind::Word("W")) => Dim::Wanted,
            _ => return Err(self.fail("a number, `T` or `W`")),
        };
        self.advance();
        Ok(dim)
    }

    /// Where the data of a weight comes from.
    pub(super) fn origin(&mut self) -> Parsed<Origin> {
        let origin = match self.peek() {
            Some(Kind::Word("dense")) => Origin::Dense,
            Some(Kind::Word("hf_packed")) => Origin::HfPacked,
            Some(Kind::Word("online_absmean")) => Origin::OnlineAbsmean,
            Some(Kind::Word("gguf")) => Origin::Gguf,
            Some(Kind::Word("dense_ternary")) => Origin::DenseTernary,
            Some(Kind::Word("ternary_scales")) => Origin::TernaryScales,
            Some(Kind::Word("one_plus")) => Origin::OnePlus,
            Some(Kind::Word("quant4")) => Origin::Quant4,
            Some(Kind::Word("quant4_scales")) => Origin::Quant4Scales,
            Some(Kind::Word("quant4_offsets")) => Origin::Quant4Offsets,
            Some(Kind::Word("hadamard_signs")) => Origin::HadamardSigns,
            Some(Kind::Word("rope")) => {
                self.advance();
                return self.rope().map(Origin::RopeTable);
            }
            _ => {
                let origins = "`dense`, `hf_packed`, `online_absmean`, `gguf`, `dense_ternary`, `ternary_scales`, \
                               `one_plus`, `quant4`, `quant4_scales`, `quant4_offsets`, `hadamard_signs` or `rope`";
                return Err(self.fail(origins));
            }
        };
        self.advance();
        Ok(origin)
    }

    /// `theta 500000.0 llama3 factor 8.0 low 1.0 high 4.0 original 8192`
    fn rope(&mut self) -> Parsed<RopeSpec> {
        let theta = self.named_real("theta")?;
        let scaling = if self.is_word("linear") {
            self.advance();
            RopeScaling::Linear { factor: self.named_real("factor")? }
        } else if self.is_word("llama3") {
            self.advance();
            RopeScaling::Llama3 {
                factor: self.named_real("factor")?,
                low_freq_factor: self.named_real("low")?,
                high_freq_factor: self.named_real("high")?,
                original_max_position: self.named_int("original")?,
            }
        } else if self.is_word("yarn") {
            self.advance();
            RopeScaling::Yarn {
                factor: self.named_real("factor")?,
                beta_fast: self.named_real("beta_fast")?,
                beta_slow: self.named_real("beta_slow")?,
                attention_factor: self.named_real("attention_factor")?,
                original_max_position: self.named_int("original")?,
                truncate: self.named_bool("truncate")?,
            }
        } else {
            RopeScaling::None
        };
        Ok(RopeSpec { theta, scaling })
    }

    fn named_real(&mut self, name: &str) -> Parsed<crate::graph::F32> {
        self.word(name)?;
        self.real()
    }

    fn named_int(&mut self, name: &str) -> Parsed<u32> {
        self.word(name)?;
        self.int()
    }

    fn named_bool(&mut self, name: &str) -> Parsed<bool> {
        self.word(name)?;
        let value = match self.peek() {
            Some(Kind::Word("true")) => true,
            Some(Kind::Word("false")) => false,
            _ => return Err(self.fail("`true` or `false`")),
        };
        self.advance();
        Ok(value)
    }
}
