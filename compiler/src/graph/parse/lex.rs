//! Text to tokens.
//!
//! In: text. Out: tokens with their byte offsets, and a fault for each stretch that is no token. White space and
//! comments separate tokens and are dropped; a token knows whether it is the first of its line, where the parser takes
//! up again after an error.

use std::fmt;

use super::Faults;
use crate::graph::F32;

/// What a token is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Kind<'t> {
    /// A keyword or name.
    Word(&'t str),
    /// `%3`.
    Value(u32),
    /// `@3`.
    Weight(u32),
    /// A whole number without a sign.
    Int(u32),
    /// A number with a point, an exponent or a sign, or bits in hexadecimal.
    Real(F32),
    /// A quoted name, escapes resolved.
    Text(String),
    /// Punctuation.
    Mark(char),
}

impl fmt::Display for Kind<'_> {
    /// As an error message names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Word(word) => write!(f, "`{word}`"),
            Kind::Value(id) => write!(f, "%{id}"),
            Kind::Weight(id) => write!(f, "@{id}"),
            Kind::Int(n) => write!(f, "{n}"),
            Kind::Real(v) => write!(f, "{v}"),
            Kind::Text(_) => f.write_str("a quoted name"),
            Kind::Mark(c) => write!(f, "`{c}`"),
        }
    }
}

/// One token.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind<'t>,
    /// Byte offset of its first character.
    pub(super) offset: usize,
    /// Whether only white space stands before it on its line.
    pub(super) starts_line: bool,
}

/// All tokens of `text`.
pub(super) fn tokens<'t>(text: &'t str, faults: &mut Faults) -> Vec<Token<'t>> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    let mut starts_line = true;
    loop {
        let blank = lexer.take_while(char::is_whitespace);
        starts_line |= blank.contains('\n');
        if lexer.rest().starts_with("//") {
            lexer.take_while(|c| c != '\n');
            continue;
        }
        let offset = lexer.at;
        let Some(first) = lexer.rest().chars().next() else {
            break;
        };
        match lexer.token(first) {
            Ok(kind) => tokens.push(Token { kind, offset, starts_line }),
            Err(message) => faults.add(offset, message),
        }
        if faults.is_full() {
            break;
        }
        starts_line = false;
    }
    tokens
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let len = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// The token that starts with `first`; takes at least that character.
    fn token(&mut self, first: char) -> Result<Kind<'t>, String> {
        match first {
            'a'..='z' | 'A'..='Z' | '_' => Ok(Kind::Word(self.take_while(is_word))),
            '0'..='9' | '-' => self.number(),
            '"' => self.quoted(),
            '%' | '@' => {
                self.at += 1;
                let digits = self.take_while(is_word);
                match digits.parse() {
                    Ok(id) if first == '%' => Ok(Kind::Value(id)),
                    Ok(id) => Ok(Kind::Weight(id)),
                    Err(_) => Err(format!("`{first}{}` is not an id: expected {first} and a number", short(digits))),
                }
            }
            '{' | '}' | '[' | ']' | '(' | ')' | ',' | ':' | '=' | '*' => {
                self.at += 1;
                Ok(Kind::Mark(first))
            }
            _ => {
                self.at += first.len_utf8();
                Err(format!("{first:?} has no meaning here"))
            }
        }
    }

    /// `12`, `-0.5`, `1e-5`, `0x7fc00000` (the bits of an f32).
    fn number(&mut self) -> Result<Kind<'t>, String> {
        let start = self.at;
        self.at += 1;
        loop {
            self.take_while(|c| is_word(c) || c == '.');
            let exponent = self.text[start..self.at].ends_with(['e', 'E']);
            if !(exponent && self.rest().starts_with(['+', '-'])) {
                break;
            }
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        if let Some(digits) = text.strip_prefix("0x") {
            let bits = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8);
            let bits = bits.ok_or_else(|| format!("`{}` must have 8 hexadecimal digits", short(text)))?;
            return Ok(Kind::Real(F32::from_bits(bits)));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            let too_large = |_| format!("{} is larger than {}", short(text), u32::MAX);
            return text.parse().map(Kind::Int).map_err(too_large);
        }
        match text.parse::<f32>() {
            Ok(v) if v.is_finite() => Ok(Kind::Real(F32::new(v))),
            Ok(_) => Err(format!("{} is beyond the range of f32", short(text))),
            Err(_) => Err(format!("`{}` is not a number", short(text))),
        }
    }

    /// A name in quotes, on one line.
    fn quoted(&mut self) -> Result<Kind<'t>, String> {
        self.at += 1;
        let mut name = String::new();
        // An unknown escape is reported after the name has been taken whole.
        let mut fault = None;
        loop {
            name.push_str(self.take_while(|c| c != '"' && c != '\\' && c != '\n'));
            if self.rest().starts_with('"') {
                self.at += 1;
                return fault.map_or(Ok(Kind::Text(name)), Err);
            }
            if !self.rest().starts_with('\\') {
                return Err("the name has no closing quote on its line".to_owned());
            }
            self.at += 1;
            match self.escape() {
                Ok(c) => name.push(c),
                Err(message) => fault = fault.or(Some(message)),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, String> {
        let Some(c) = self.rest().chars().next() else {
            return Err("the text ends after a backslash".to_owned());
        };
        if c == '\n' {
            // Left for the caller, which reports the missing quote.
            return Err("a backslash at the end of a line".to_owned());
        }
        self.at += c.len_utf8();
        match c {
            '"' | '\\' | '/' => Ok(c),
            'n' => Ok('\n'),
            't' => Ok('\t'),
            'r' => Ok('\r'),
            'u' => {
                let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                let digits = digits.ok_or("\\u needs 4 hexadecimal digits")?;
                self.at += 4;
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| format!("\\u{digits} is not a character"))
            }
            _ => Err(format!("unknown escape \\{c}: known are \\\" \\\\ \\/ \\n \\t \\r \\u")),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The start of a text that is too long to show.
pub(super) fn short(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(i, _)| &text[..i])
}
