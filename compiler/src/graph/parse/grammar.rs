//! Tokens to a graph: statements, ids and blocks.
//!
//! In: tokens. Out: a graph; if any fault was added, a partial one that nobody may use. After a fault it takes up again
//! at the next line, so that one text gives all its errors; ids stay in step, so that one error does not cause others.

use super::Faults;
use super::lex::{Kind, Token, short};
use crate::generated::ops::OPS;
use crate::graph::{Act, Attr, F32, Graph, Node, Op, Operand, Strategy, ValueId, WeightDecl, WeightId};
use crate::spec::{AttrKind, AttrSpec};

/// A fault was added; the statement is given up.
pub(super) struct GivenUp;

pub(super) type Parsed<T> = Result<T, GivenUp>;

/// A position in the tokens.
pub(super) struct Parser<'p, 't> {
    tokens: &'p [Token<'t>],
    at: usize,
    /// Length of the text in bytes: where "the text ends here" is reported.
    end: usize,
    faults: &'p mut Faults,
    graph: Graph,
    next_value: u32,
    next_weight: u32,
}

impl<'p, 't> Parser<'p, 't> {
    pub(super) fn new(tokens: &'p [Token<'t>], end: usize, faults: &'p mut Faults) -> Self {
        Self { tokens, at: 0, end, faults, graph: Graph::default(), next_value: 0, next_weight: 0 }
    }

    /// The whole text.
    pub(super) fn graph(mut self) -> Graph {
        if self.header().is_ok() {
            self.body();
            if let Some(token) = self.tokens.get(self.at) {
                let message = format!("{} after the end of the graph", token.kind);
                self.faults.add(token.offset, message);
            }
        }
        self.graph
    }

    /// `graph "name" {`
    fn header(&mut self) -> Parsed<()> {
        self.word("graph")?;
        self.graph.name = self.text()?;
        self.mark('{')
    }

    /// Statements up to the closing brace.
    fn body(&mut self) {
        let mut block = None;
        let mut returned = false;
        while !self.faults.is_full() {
            let start = self.at;
            let statement = match self.peek() {
                None => {
                    self.fail("`}`");
                    return;
                }
                Some(Kind::Mark('}')) => {
                    self.at += 1;
                    if block.take().is_some() {
                        continue;
                    }
                    if !returned {
                        let offset = self.tokens[start].offset;
                        self.faults.add(offset, "the graph returns nothing: expected `return` before `}`");
                    }
                    return;
                }
                Some(Kind::Word("return")) if block.is_none() && !returned => {
                    returned = true;
                    self.outputs()
                }
                Some(Kind::Weight(id)) if block.is_none() && !returned => self.weight(id),
                Some(Kind::Value(id)) if !returned => self.node(id, block),
                Some(Kind::Word("block")) if block.is_none() && !returned => self.block().map(|id| block = Some(id)),
                Some(_) if returned => Err(self.fail("`}` after `return`")),
                Some(_) if block.is_some() => Err(self.fail("a node or `}`")),
                Some(_) => Err(self.fail("a weight, a node, `block`, `return` or `}`")),
            };
            if statement.is_err() {
                self.at = self.at.max(start + 1);
                while self.tokens.get(self.at).is_some_and(|token| !token.starts_line) {
                    self.at += 1;
                }
            }
        }
    }

    /// `block 0 {`
    fn block(&mut self) -> Parsed<u32> {
        self.word("block")?;
        let id = self.int()?;
        self.mark('{')?;
        Ok(id)
    }

    /// `return %40, %20`
    fn outputs(&mut self) -> Parsed<()> {
        self.word("return")?;
        while let Some(Kind::Value(id)) = self.peek() {
            self.at += 1;
            self.graph.outputs.push(ValueId(id));
            if !self.comma() {
                break;
            }
        }
        Ok(())
    }

    /// `@1 "name" : trit[320, 320] = hf_packed scale 0.0213`
    fn weight(&mut self, id: u32) -> Parsed<()> {
        self.count_up('@', id, self.next_weight);
        self.next_weight = id.saturating_add(1);
        self.at += 1;
        let name = self.text()?;
        self.mark(':')?;
        let ty = self.tensor_type()?;
        self.mark('=')?;
        let origin = self.origin()?;
        let scale = if self.is_word("scale") {
            self.at += 1;
            Some(self.real()?)
        } else {
            None
        };
        self.graph.declare(WeightDecl { name, ty, scale, origin });
        Ok(())
    }

    /// `%4 = rmsnorm %3, @2 {eps = 1e-5} : f32[T, 320]`
    fn node(&mut self, id: u32, block: Option<u32>) -> Parsed<()> {
        self.count_up('%', id, self.next_value);
        self.next_value = id.saturating_add(1);
        self.at += 1;
        self.mark('=')?;
        let op_at = self.at;
        let Some(Kind::Word(name)) = self.peek() else {
            return Err(self.fail("the name of an op"));
        };
        self.at += 1;
        let operands = self.operands()?;
        let attrs = self.attrs()?;
        self.mark(':')?;
        let ty = self.value_type()?;
        match build_op(name, &attrs) {
            Ok(op) => {
                self.graph.push(Node { op, operands, ty, block });
                Ok(())
            }
            Err(message) => {
                self.faults.add(self.tokens[op_at].offset, message);
                Err(GivenUp)
            }
        }
    }

    fn operands(&mut self) -> Parsed<Vec<Operand>> {
        let mut operands = Vec::new();
        loop {
            match self.peek() {
                Some(Kind::Value(id)) => operands.push(Operand::Value(ValueId(id))),
                Some(Kind::Weight(id)) => operands.push(Operand::Weight(WeightId(id))),
                _ if operands.is_empty() => return Ok(operands),
                _ => return Err(self.fail("an operand after `,`")),
            }
            self.at += 1;
            if !self.comma() {
                return Ok(operands);
            }
        }
    }

    /// `{eps = 1e-5}`, or nothing.
    fn attrs(&mut self) -> Parsed<Vec<(&'t str, Attr)>> {
        let mut attrs = Vec::new();
        if self.peek() != Some(Kind::Mark('{')) {
            return Ok(attrs);
        }
        self.at += 1;
        loop {
            let Some(Kind::Word(name)) = self.peek() else {
                return Err(self.fail("the name of an attribute"));
            };
            self.at += 1;
            self.mark('=')?;
            let value = match self.peek() {
                Some(Kind::Int(n)) => Attr::U32(n),
                Some(Kind::Real(v)) => Attr::F32(v),
                Some(Kind::Word(word)) => match Act::from_name(word) {
                    Some(act) => Attr::Act(act),
                    None => match Strategy::from_name(word) {
                        Some(strategy) => Attr::Strategy(strategy),
                        None => return Err(self.fail("a number, `relu2`, `silu`, `gelu` or a strategy such as dot2")),
                    },
                },
                _ => return Err(self.fail("the value of the attribute")),
            };
            self.at += 1;
            attrs.push((name, value));
            if !self.comma() {
                break;
            }
        }
        self.mark('}')?;
        Ok(attrs)
    }

    /// Faults an id that is not the next one.
    fn count_up(&mut self, sigil: char, found: u32, expected: u32) {
        if found != expected {
            let message = format!("expected {sigil}{expected}, found {sigil}{found}: ids count up from 0");
            self.faults.add(self.tokens[self.at].offset, message);
        }
    }

    /// The token here.
    pub(super) fn peek(&self) -> Option<Kind<'t>> {
        self.tokens.get(self.at).map(|token| token.kind.clone())
    }

    /// Goes on to the next token.
    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Adds a fault: `expected` should stand here.
    pub(super) fn fail(&mut self, expected: &str) -> GivenUp {
        let (offset, found) = match self.tokens.get(self.at) {
            Some(token) => (token.offset, token.kind.to_string()),
            None => (self.end, "the end of the text".to_owned()),
        };
        self.faults.add(offset, format!("expected {expected}, found {}", short(&found)));
        GivenUp
    }

    /// Takes a comma, if one is here.
    pub(super) fn comma(&mut self) -> bool {
        let is_comma = self.peek() == Some(Kind::Mark(','));
        self.at += usize::from(is_comma);
        is_comma
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.peek() == Some(Kind::Word(word))
    }

    pub(super) fn word(&mut self, word: &str) -> Parsed<()> {
        if !self.is_word(word) {
            return Err(self.fail(&format!("`{word}`")));
        }
        self.at += 1;
        Ok(())
    }

    pub(super) fn mark(&mut self, mark: char) -> Parsed<()> {
        if self.peek() != Some(Kind::Mark(mark)) {
            return Err(self.fail(&format!("`{mark}`")));
        }
        self.at += 1;
        Ok(())
    }

    pub(super) fn int(&mut self) -> Parsed<u32> {
        let Some(Kind::Int(n)) = self.peek() else {
            return Err(self.fail("a whole number"));
        };
        self.at += 1;
        Ok(n)
    }

    pub(super) fn real(&mut self) -> Parsed<F32> {
        let Some(Kind::Real(v)) = self.peek() else {
            return Err(self.fail("a real number such as 1.0"));
        };
        self.at += 1;
        Ok(v)
    }

    fn text(&mut self) -> Parsed<String> {
        let Some(Kind::Text(text)) = self.peek() else {
            return Err(self.fail("a name in quotes"));
        };
        self.at += 1;
        Ok(text)
    }
}

/// The op called `name` with these attributes, which must be those of the op table, in its order.
fn build_op(name: &str, attrs: &[(&str, Attr)]) -> Result<Op, String> {
    let Some(spec) = OPS.iter().find(|spec| spec.name == name) else {
        return Err(format!("there is no op `{}`", short(name)));
    };
    // A strategy that is not written is `any`.
    let mut given = attrs.iter().copied().peekable();
    let value_of = |attr: &AttrSpec| match given.next_if(|(name, _)| *name == attr.name) {
        None if attr.kind == AttrKind::Strategy => Some(Attr::Strategy(Strategy::Any)),
        found => found.map(|(_, value)| value),
    };
    let values: Option<Vec<Attr>> = spec.attrs.iter().map(value_of).collect();
    let Some(values) = values.filter(|_| given.next().is_none()) else {
        let names: Vec<&str> = spec.attrs.iter().map(|attr| attr.name).collect();
        let order = if names.len() > 1 { ", in this order" } else { "" };
        return Err(match names[..] {
            [] => format!("`{name}` has no attributes"),
            _ => format!("the attributes of `{name}` are{order}: {}", names.join(", ")),
        });
    };
    for (attr, value) in spec.attrs.iter().zip(&values) {
        let expected = match (attr.kind, value) {
            (AttrKind::U32, Attr::U32(_))
            | (AttrKind::F32, Attr::F32(_))
            | (AttrKind::Act, Attr::Act(_))
            | (AttrKind::Strategy, Attr::Strategy(_)) => continue,
            (AttrKind::U32, _) => "a whole number",
            (AttrKind::F32, _) => "a real number such as 1.0",
            (AttrKind::Act, _) => "`relu2`, `silu` or `gelu`",
            (AttrKind::Strategy, _) => "a strategy such as dot2",
        };
        return Err(format!("attribute {} of `{name}` must be {expected}, found {value}", attr.name));
    }
    Op::from_parts(name, &values).ok_or_else(|| format!("bug in tern: the op table does not build `{name}`"))
}
