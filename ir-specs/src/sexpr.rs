//! The pattern language of `rules.toml`: s-expressions, named roots, guards.
//!
//! In: `(add ?r (ternary_linear ?x ?w))`, `?a = (..)`, `ascending(?w1, ?w2)`. Out: [`Expr`], [`Root`], [`GuardExpr`].

use std::collections::BTreeSet;

/// An s-expression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expr {
    /// `?x`, with the question mark.
    Var(String),
    /// A number or an activation: the value of an attribute.
    Leaf(String),
    /// `(op child ...)`.
    Apply(String, Vec<Expr>),
}

/// One pattern of a side of a rule, with the variable that names its root if there are several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// `?a` of `?a = (..)`.
    pub name: Option<String>,
    /// The pattern.
    pub expr: Expr,
}

/// A guard: a name and its variables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardExpr {
    /// Its name.
    pub name: String,
    /// Its variables, with question marks.
    pub vars: Vec<String>,
}

impl Expr {
    /// The variables in it.
    pub fn vars(&self) -> BTreeSet<&str> {
        match self {
            Expr::Var(v) => BTreeSet::from([v.as_str()]),
            Expr::Leaf(_) => BTreeSet::new(),
            Expr::Apply(_, children) => children.iter().flat_map(Expr::vars).collect(),
        }
    }

    /// Every application in it, outermost first: op and children.
    pub fn applications(&self) -> Vec<(&str, &[Expr])> {
        match self {
            Expr::Var(_) | Expr::Leaf(_) => vec![],
            Expr::Apply(op, children) => {
                let inner = children.iter().flat_map(Expr::applications);
                std::iter::once((op.as_str(), children.as_slice())).chain(inner).collect()
            }
        }
    }
}

/// Reads one root.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn root(text: &str) -> Result<Root, String> {
    let (name, body) = match text.split_once('=') {
        Some((name, body)) if name.trim().starts_with('?') => (Some(name.trim().to_string()), body),
        Some((name, _)) => return Err(format!("`{}` is not a variable", name.trim())),
        None => (None, text),
    };
    let spaced = body.replace('(', " ( ").replace(')', " ) ");
    let mut tokens = spaced.split_whitespace();
    let expr = expr(&mut tokens)?;
    match tokens.next() {
        Some(token) => Err(format!("`{token}` after the end of `{}`", body.trim())),
        None => Ok(Root { name, expr }),
    }
}

fn expr<'a>(tokens: &mut impl Iterator<Item = &'a str>) -> Result<Expr, String> {
    let token = tokens.next().ok_or("the pattern ends too early")?;
    if token == "(" { application(tokens) } else { atom(token) }
}

fn application<'a>(tokens: &mut impl Iterator<Item = &'a str>) -> Result<Expr, String> {
    let op = tokens.next().ok_or("the pattern ends after `(`")?;
    let mut children = vec![];
    loop {
        match tokens.next() {
            None => return Err(format!("`({op}` is not closed")),
            Some(")") => return Ok(Expr::Apply(op.into(), children)),
            Some("(") => children.push(application(tokens)?),
            Some(token) => children.push(atom(token)?),
        }
    }
}

fn atom(token: &str) -> Result<Expr, String> {
    match token {
        ")" => Err("`)` without `(`".into()),
        "?" => Err("`?` without a name".into()),
        t if t.starts_with('?') => Ok(Expr::Var(t.into())),
        t => Ok(Expr::Leaf(t.into())),
    }
}

/// Reads `name(?a, ?b)`.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn guard(text: &str) -> Result<GuardExpr, String> {
    let bad = || format!("guard `{text}` is not name(?a, ..)");
    let (name, vars) = text.strip_suffix(')').and_then(|t| t.split_once('(')).ok_or_else(bad)?;
    let vars: Vec<String> = vars.split(',').map(|v| v.trim().to_string()).collect();
    if vars.iter().any(|v| !v.starts_with('?') || v.len() < 2) {
        return Err(bad());
    }
    Ok(GuardExpr { name: name.into(), vars })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_read() {
        let r = root("?a = (get (cat ?x ?w) 0)").expect("a good root");
        assert_eq!(r.name.as_deref(), Some("?a"));
        assert_eq!(r.expr.vars().into_iter().collect::<Vec<_>>(), ["?w", "?x"]);
        let ops: Vec<&str> = r.expr.applications().into_iter().map(|(op, _)| op).collect();
        assert_eq!(ops, ["get", "cat"]);
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for bad in ["", "(", "(add ?a", "(add ?a) ?b", ")", "a = (add ?a ?b)", "(add ? ?b)"] {
            assert!(root(bad).is_err(), "{bad}");
        }
        for bad in ["ascending", "ascending(", "ascending(w)", "ascending(?)"] {
            assert!(guard(bad).is_err(), "{bad}");
        }
    }
}
