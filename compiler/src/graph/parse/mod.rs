//! The parser of the text form.
//!
//! In: text, trusted in nothing. Out: the graph that it spells, or every error with line and column. It upholds that a
//! printed graph parses back to itself, that no text makes it panic, and that memory stays proportional to the text.
//! It checks no types: a text may spell a graph that does not [`verify`](super::verify::verify).
//!
//! ```text
//! graph  = "graph" STRING "{" item* "return" [ %N { "," %N } ] "}"
//! item   = weight | node | "block" INT "{" node* "}"
//! weight = @N STRING ":" tensor "=" origin [ "scale" REAL ]
//! node   = %N "=" WORD [ operand { "," operand } ] [ "{" WORD "=" attr { "," WORD "=" attr } "}" ] ":" type
//! type   = tensor | "kv" "[" INT "," INT "]" | "(" [ tensor { "," tensor } ] ")"
//! tensor = WORD "[" [ dim { "," dim } ] "]"          dim = INT | "T" | "W"
//! origin = "dense" | "hf_packed" | "online_absmean" | "dense_ternary" | "ternary_scales" | "quant4"
//!        | "quant4_scales" | "quant4_offsets" | "hadamard_signs" | "rope" "theta" REAL [ scaling ]
//! ```
//! `%N` and `@N` count up from 0 in the order of the text. `//` starts a comment up to the end of its line.

mod grammar;
mod lex;
mod types;

use std::fmt;

use super::Graph;
use grammar::Parser;

/// Errors beyond this many are counted out, not shown: they rarely tell more.
const MAX_ERRORS: usize = 50;

/// One thing wrong with a text. Family: input.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong and what is expected there.
    pub message: String,
}

/// Everything wrong with a text, in the order of the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseErrors(Vec<ParseError>);

impl ParseErrors {
    /// The errors, at least one.
    pub fn errors(&self) -> &[ParseError] {
        &self.0
    }
}

impl std::error::Error for ParseErrors {}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

/// The graph that `text` spells.
///
/// # Errors
/// All errors found, up to a limit.
pub fn parse(text: &str) -> Result<Graph, ParseErrors> {
    let mut faults = Faults::default();
    let tokens = lex::tokens(text, &mut faults);
    let graph = Parser::new(&tokens, text.len(), &mut faults).graph();
    if faults.0.is_empty() { Ok(graph) } else { Err(faults.locate(text)) }
}

/// Errors by byte offset.
#[derive(Default)]
struct Faults(Vec<(usize, String)>);

impl Faults {
    fn add(&mut self, offset: usize, message: impl Into<String>) {
        if !self.is_full() {
            self.0.push((offset, message.into()));
        }
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MAX_ERRORS
    }

    /// Sorts by place and turns offsets into lines and columns.
    fn locate(mut self, text: &str) -> ParseErrors {
        self.0.sort_by_key(|(offset, _)| *offset);
        let (mut at, mut line, mut line_start) = (0, 1u32, 0);
        let mut errors = Vec::new();
        for (offset, message) in self.0 {
            for (i, _) in text[at..offset].match_indices('\n') {
                line = line.saturating_add(1);
                line_start = at + i + 1;
            }
            at = offset;
            let chars = text[line_start..offset].chars().count();
            let column = u32::try_from(chars).unwrap_or(u32::MAX).saturating_add(1);
            errors.push(ParseError { line, column, message });
        }
        ParseErrors(errors)
    }
}

#[cfg(test)]
mod tests;
