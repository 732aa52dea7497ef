//! The signature language of `ops.toml`.
//!
//! In: `x: f32[R, K]`, `@w{2..}: trit[N', K]`, `(f32[R, N'], ...)`. Out: [`Operand`] and [`Pattern`] trees.
//! Element types are kept as names; the lints say which exist.

use std::fmt;

/// One operand of a signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operand {
    /// Its name.
    pub name: String,
    /// Written with `@`.
    pub is_weight: bool,
    /// The least count of a repeated operand.
    pub at_least: Option<u32>,
    /// Its type.
    pub pattern: Pattern,
}

/// The type of an operand or result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// `f32[R, K]`.
    Tensor(Tensor),
    /// `kv[H, D]`.
    Kv(Dim, Dim),
    /// `tuple`.
    AnyTuple,
    /// `(f32[R, N'], ...)`.
    TuplePerRepeat(Tensor),
    /// `member index`.
    Member(String),
}

/// A tensor's element type and dimensions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    /// An element type of `dtypes.toml`, or `dense`.
    pub dtype: String,
    /// Outermost first.
    pub dims: Vec<Dim>,
}

/// A dimension.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dim {
    /// `T`.
    Tokens,
    /// `W`.
    Wanted,
    /// `R`.
    Row,
    /// `K`.
    Var(String),
    /// `N'`.
    Each(String),
    /// `head_dim`.
    Attr(String),
    /// `H*D`.
    Product(Box<Dim>, Box<Dim>),
}

impl Pattern {
    /// Its dimensions, outermost first.
    pub fn dims(&self) -> Vec<&Dim> {
        match self {
            Pattern::Tensor(t) | Pattern::TuplePerRepeat(t) => t.dims.iter().collect(),
            Pattern::Kv(heads, head_dim) => vec![heads, head_dim],
            Pattern::AnyTuple | Pattern::Member(_) => vec![],
        }
    }

    /// Its element type, if it is a tensor or a tuple of tensors.
    pub fn dtype(&self) -> Option<&str> {
        match self {
            Pattern::Tensor(t) | Pattern::TuplePerRepeat(t) => Some(&t.dtype),
            Pattern::Kv(..) | Pattern::AnyTuple | Pattern::Member(_) => None,
        }
    }
}

impl Dim {
    /// Its factors: itself, or both sides of a product.
    pub fn factors(&self) -> Vec<&Dim> {
        match self {
            Dim::Product(a, b) => vec![a, b],
            other => vec![other],
        }
    }
}

/// Reads `x: f32[R, K]`.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn operand(text: &str) -> Result<Operand, String> {
    let (head, ty) = text.split_once(':').ok_or_else(|| format!("`{text}` has no `:` between name and type"))?;
    let (is_weight, head) = match head.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, head),
    };
    let (name, at_least) = match head.split_once('{') {
        Some((name, count)) => {
            let count = count.strip_suffix("..}").and_then(|c| c.parse().ok());
            (name, Some(count.ok_or_else(|| format!("`{head}` should end in {{COUNT..}}"))?))
        }
        None => (head, None),
    };
    if !is_snake_case(name) {
        return Err(format!("operand name `{name}` is not snake_case"));
    }
    Ok(Operand { name: name.into(), is_weight, at_least, pattern: pattern(ty)? })
}

/// Reads a type.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    let text = text.trim();
    if text == "tuple" {
        return Ok(Pattern::AnyTuple);
    }
    if let Some(attr) = text.strip_prefix("member ") {
        return Ok(Pattern::Member(attr.into()));
    }
    if let Some(inner) = text.strip_prefix('(') {
        let inner = inner.strip_suffix(", ...)").ok_or_else(|| format!("`{text}` should end in `, ...)`"))?;
        return Ok(Pattern::TuplePerRepeat(tensor(inner)?));
    }
    let t = tensor(text)?;
    if t.dtype != "kv" {
        return Ok(Pattern::Tensor(t));
    }
    match <[Dim; 2]>::try_from(t.dims) {
        Ok([heads, head_dim]) => Ok(Pattern::Kv(heads, head_dim)),
        Err(dims) => Err(format!("`{text}` has {} dimensions; kv has 2", dims.len())),
    }
}

fn tensor(text: &str) -> Result<Tensor, String> {
    let bad = || format!("`{text}` is not DTYPE[DIM, ...]");
    let (dtype, dims) = text.strip_suffix(']').and_then(|t| t.split_once('[')).ok_or_else(bad)?;
    let dims = dims.split(',').map(|d| dim(d.trim())).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor { dtype: dtype.into(), dims })
}

fn dim(text: &str) -> Result<Dim, String> {
    if let Some((a, b)) = text.split_once('*') {
        return Ok(Dim::Product(Box::new(dim(a.trim())?), Box::new(dim(b.trim())?)));
    }
    let name = text.strip_suffix('\'').unwrap_or(text);
    let capital = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric());
    Ok(match (text, capital) {
        ("T", _) => Dim::Tokens,
        ("W", _) => Dim::Wanted,
        ("R", _) => Dim::Row,
        (_, true) if text.ends_with('\'') => Dim::Each(name.into()),
        (_, true) => Dim::Var(name.into()),
        _ if is_snake_case(text) => Dim::Attr(text.into()),
        _ => {
            return Err(format!("`{text}` is not a dimension: T, W, R, a capitalised name, or an attribute"));
        }
    })
}

/// Whether `name` is snake_case.
pub fn is_snake_case(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Tokens => f.write_str("T"),
            Dim::Wanted => f.write_str("W"),
            Dim::Row => f.write_str("R"),
            Dim::Var(v) | Dim::Attr(v) => f.write_str(v),
            Dim::Each(v) => write!(f, "{v}'"),
            Dim::Product(a, b) => write!(f, "{a}*{b}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_read() {
        let w = operand("@w{2..}: trit[N', K]").expect("a good operand");
        assert_eq!((w.name.as_str(), w.is_weight, w.at_least), ("w", true, Some(2)));
        let dims = vec![Dim::Each("N".into()), Dim::Var("K".into())];
        assert_eq!(w.pattern, Pattern::Tensor(Tensor { dtype: "trit".into(), dims }));
        let x = operand("x: f32[T, H*head_dim]").expect("a good operand");
        let product = Dim::Product(Box::new(Dim::Var("H".into())), Box::new(Dim::Attr("head_dim".into())));
        assert_eq!(x.pattern.dims(), [&Dim::Tokens, &product]);
    }

    #[test]
    fn malformed_signatures_are_refused() {
        for bad in ["x", "X: f32[K]", "@w{2}: trit[N]", "x: f32", "x: f32[K", "x: f32[]", "x: f32[9]", "kv: kv[H]"] {
            assert!(operand(bad).is_err(), "{bad}");
        }
        assert!(pattern("(f32[R, K])").is_err());
    }
}
