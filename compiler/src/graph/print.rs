//! The text form of a graph.
//!
//! In: any graph, well-formed or not. Out: text that [`parse`](super::parse::parse) turns into the same graph, bit for
//! bit: one line for each weight, node and result list, nodes of one transformer block inside `block N { }`.

use std::fmt::{self, Display, Formatter, Write};

use super::{Attr, F32, Graph, Node, Operand, Origin, RopeScaling, RopeSpec, ValueId, WeightDecl, WeightId};

impl Display for ValueId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl Display for WeightId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Value(id) => id.fmt(f),
            Operand::Weight(id) => id.fmt(f),
        }
    }
}

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {} {{", Quoted(&self.name))?;
        for (i, weight) in self.weights.iter().enumerate() {
            writeln!(f, "  @{i} {weight}")?;
        }
        let mut open = None;
        for (i, node) in self.nodes.iter().enumerate() {
            if node.block != open {
                if open.is_some() {
                    writeln!(f, "  }}")?;
                }
                if let Some(block) = node.block {
                    writeln!(f, "  block {block} {{")?;
                }
                open = node.block;
            }
            let indent = if open.is_some() { "    " } else { "  " };
            writeln!(f, "{indent}%{i} = {node}")?;
        }
        if open.is_some() {
            writeln!(f, "  }}")?;
        }
        f.write_str("  return")?;
        for (i, id) in self.outputs.iter().enumerate() {
            write!(f, "{}{id}", if i == 0 { " " } else { ", " })?;
        }
        f.write_str("\n}\n")
    }
}

impl Display for WeightDecl {
    /// Without the id: `"name" : trit[320, 320] = hf_packed scale 0.0213`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} : {} = {}", Quoted(&self.name), self.ty, self.origin)?;
        match self.scale {
            Some(scale) => write!(f, " scale {}", Number(scale)),
            None => Ok(()),
        }
    }
}

impl Display for Node {
    /// Without the id: `rmsnorm %3, @2 {eps = 1e-5} : f32[T, 320]`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())?;
        for (i, operand) in self.operands.iter().enumerate() {
            write!(f, "{}{operand}", if i == 0 { " " } else { ", " })?;
        }
        let attrs = self.op.attrs().into_iter().filter(|(_, value)| !value.is_any());
        let mut open = false;
        for (name, value) in attrs {
            write!(f, "{}{name} = ", if open { ", " } else { " {" })?;
            open = true;
            match value {
                Attr::F32(v) => Number(v).fmt(f)?,
                Attr::U32(_) | Attr::Act(_) | Attr::Strategy(_) => value.fmt(f)?,
            }
        }
        f.write_str(if open { "}" } else { "" })?;
        write!(f, " : {}", self.ty)
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Dense => f.write_str("dense"),
            Origin::HfPacked => f.write_str("hf_packed"),
            Origin::OnlineAbsmean => f.write_str("online_absmean"),
            Origin::Gguf => f.write_str("gguf"),
            Origin::DenseTernary => f.write_str("dense_ternary"),
            Origin::TernaryScales => f.write_str("ternary_scales"),
            Origin::OnePlus => f.write_str("one_plus"),
            Origin::Quant4 => f.write_str("quant4"),
            Origin::Quant4Scales => f.write_str("quant4_scales"),
            Origin::Quant4Offsets => f.write_str("quant4_offsets"),
            Origin::HadamardSigns => f.write_str("hadamard_signs"),
            Origin::RopeTable(spec) => write!(f, "rope {spec}"),
        }
    }
}

impl Display for RopeSpec {
    /// `theta 500000.0 llama3 factor 8.0 low 1.0 high 4.0 original 8192`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "theta {}", Number(self.theta))?;
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => write!(f, " linear factor {}", Number(factor)),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position } => write!(
                f,
                " llama3 factor {} low {} high {} original {original_max_position}",
                Number(factor),
                Number(low_freq_factor),
                Number(high_freq_factor),
            ),
            RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, original_max_position, truncate } => {
                write!(
                    f,
                    " yarn factor {} beta_fast {} beta_slow {} attention_factor {} original {original_max_position} \
                 truncate {truncate}",
                    Number(factor),
                    Number(beta_fast),
                    Number(beta_slow),
                    Number(attention_factor),
                )
            }
        }
    }
}

/// A number so that the parser gives back its bits: shortest decimal if it is finite, else the bits in hexadecimal.
struct Number(F32);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.get().is_finite() { write!(f, "{}", self.0) } else { write!(f, "0x{:08x}", self.0.bits()) }
    }
}

/// A name in double quotes; quotes, backslashes and control characters are escaped as in JSON.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                // Control characters are all below U+00A0.
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
