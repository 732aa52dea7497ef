//! What templates call beyond the engine's own: `raise_exception`, `strftime_now`, `tojson`, and methods of Python's types.
//!
//! In: values of the template. Out: values. It upholds that nothing here makes much out of little: the engine counts a
//! result only when it is there, so what could be large is measured before.

use std::fmt::{self, Write};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

use super::Date;

/// The longest text that a function or method makes.
const MAX_MADE_BYTES: usize = 4 << 20;
/// How deep a value may be nested that becomes JSON.
const MAX_JSON_DEPTH: usize = 64;
/// Marks an error as what the template said, in front of its words.
pub(super) const RAISED: &str = "raised: ";

fn refuse(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// `raise_exception(message)`: the template refuses the conversation.
pub(super) fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(refuse(format!("{RAISED}{}", message.as_str().unwrap_or("something that is no text"))))
}

/// `{{ value }}`: writes it. Lists and such are measured as they are written.
pub(super) fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            // Writing goes through all items, whether or not there is room left.
            if value.len().is_some_and(|items| items > MAX_MADE_BYTES) {
                return Err(too_long("the text of a value"));
            }
            let mut text = Bounded(String::new());
            fmt::write(&mut text, format_args!("{value}")).map_err(|_| too_long("the text of a value"))?;
            out.write_str(&text.0).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn too_long(what: &str) -> Error {
    refuse(format!("{what} has more than {MAX_MADE_BYTES} bytes"))
}

/// A text that grows up to [`MAX_MADE_BYTES`].
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Values share their parts: a small one can be endless when it is written out.
        if self.0.len().saturating_add(text.len()) > MAX_MADE_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// `strftime_now(format)`, at `date`.
pub(super) fn strftime_now(date: Date) -> impl Fn(&str) -> Result<String, Error> + Send + Sync + 'static {
    move |format| {
        let unknown = |directive| refuse(format!("strftime_now knows no {directive}"));
        if format.len() > 1000 {
            Err(refuse("a date has at most 1000 bytes"))
        } else {
            date.format(format).map_err(unknown)
        }
    }
}

/// `tojson`, as Python's `json.dumps` writes with `ensure_ascii=False`: nothing is escaped for HTML.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // They are how it is written here, so asking for them changes nothing.
    let _: (Option<bool>, Option<bool>) = (options.get("ensure_ascii")?, options.get("sort_keys")?);
    options.assert_all_used()?;
    let indent = indent.map(|columns| columns.min(16));
    let mut json = Json { out: Bounded(String::new()), indent };
    json.write(value, 0)?;
    Ok(json.out.0)
}

struct Json {
    out: Bounded,
    indent: Option<usize>,
}

impl Json {
    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.out.write_str(text).map_err(|_| too_long("the JSON of a value"))
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        match self.indent {
            Some(columns) => self.push(&format!("\n{}", " ".repeat(columns * depth))),
            None => Ok(()),
        }
    }

    fn between(&mut self, first: bool, depth: usize) -> Result<(), Error> {
        if !first {
            self.push(if self.indent.is_some() { "," } else { ", " })?;
        }
        self.new_line(depth)
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let quoted = serde_json::to_string(text).map_err(|e| refuse(e.to_string()))?;
        self.push(&quoted)
    }

    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_JSON_DEPTH {
            return Err(refuse(format!("a value is nested deeper than {MAX_JSON_DEPTH}")));
        }
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.push("null"),
            ValueKind::Bool | ValueKind::Number => {
                let text = value.to_string();
                self.push(&text.to_lowercase())
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.push("[")?;
                let mut empty = true;
                for item in value.try_iter()? {
                    self.between(empty, depth + 1)?;
                    empty = false;
                    self.write(&item, depth + 1)?;
                }
                if !empty {
                    self.new_line(depth)?;
                }
                self.push("]")
            }
            ValueKind::Map => {
                self.push("{")?;
                let mut empty = true;
                for key in value.try_iter()? {
                    self.between(empty, depth + 1)?;
                    empty = false;
                    match key.as_str() {
                        Some(key) => self.string(key)?,
                        None => return Err(refuse("keys of JSON are texts")),
                    }
                    self.push(": ")?;
                    self.write(&value.get_item(&key)?, depth + 1)?;
                }
                if !empty {
                    self.new_line(depth)?;
                }
                self.push("}")
            }
            _ => Err(refuse("a value that JSON has no form for")),
        }
    }
}

/// Methods of Python's strings, lists and dictionaries.
pub(super) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let text = |value: Option<&Value>| value.and_then(|v| v.as_str().map(str::len)).unwrap_or(0);
    let made = match name {
        // Its widths make any length out of a few digits.
        "format" => return Err(refuse("the method format is not available: put texts together with ~")),
        "replace" => {
            let (subject, old) = (value.as_str().unwrap_or_default(), args.first().and_then(|old| old.as_str()));
            let places = old.map_or(0, |old| subject.matches(old).count());
            subject.len().saturating_add(places.saturating_mul(text(args.get(1))))
        }
        "join" => {
            let items = args.first().and_then(Value::len).unwrap_or(0);
            items.saturating_mul(text(Some(value)))
        }
        _ => 0,
    };
    if made > MAX_MADE_BYTES {
        return Err(refuse(format!(
            "the method {name} would make a text of {made} bytes, at most are {MAX_MADE_BYTES}"
        )));
    }
    pycompat::unknown_method_callback(state, value, name, args)
}
