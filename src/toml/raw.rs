//! Values as written, with where they are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, TableLike, Value};

use super::line_starts::LineStarts;
use super::mistake::{Mistakes, Origin};

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// A TOML string.
    Text(String),
    /// From the environment or a flag, which have no types: whatever the key expects.
    Untyped(String),
    Number(i64),
    Bool(bool),
    List(Vec<(Raw, Origin)>),
    Table(Fields),
    /// A list of tables, written with two brackets; each with where it begins.
    Tables(Vec<(Fields, Origin)>),
    /// A kind of value that no key expects.
    Other(&'static str),
}

/// Key → value and where it is written.
pub(crate) type Fields = BTreeMap<String, (Raw, Origin)>;

impl Raw {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Raw::Text(_) | Raw::Untyped(_) => "a string",
            Raw::Number(_) => "a number",
            Raw::Bool(_) => "true or false",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
            Raw::Tables(_) => "a list of tables",
            Raw::Other(kind) => kind,
        }
    }

    /// The text of a string.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Raw::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// As TOML, in one line.
    pub(crate) fn show(&self) -> String {
        match self {
            Raw::Text(text) | Raw::Untyped(text) => quoted(text),
            Raw::Number(number) => number.to_string(),
            Raw::Bool(yes) => yes.to_string(),
            Raw::List(items) => {
                let items: Vec<_> = items.iter().map(|(item, _)| item.show()).collect();
                format!("[{}]", items.join(", "))
            }
            // Their keys are shown, each for itself.
            Raw::Table(_) | Raw::Tables(_) | Raw::Other(_) => self.kind().to_owned(),
        }
    }

    /// What has no type yet, with the type of another value. What cannot have it stays as it is.
    pub(crate) fn typed_as(self, other: &Raw) -> Raw {
        match (self, other) {
            (Raw::Untyped(text), Raw::Number(_)) => match text.trim().parse() {
                Ok(number) => Raw::Number(number),
                Err(_) => Raw::Untyped(text),
            },
            (Raw::Untyped(text), _) => Raw::Text(text),
            (typed, _) => typed,
        }
    }
}

/// A TOML basic string: unlike toml_edit's choice of a form, always one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Reads the content of one file, by key. What is not TOML is a mistake.
pub(crate) fn parse(path: &Path, content: &[u8], mistakes: &mut Mistakes) -> Fields {
    // Each value of a file asks for its line: counted anew every time, a long list of nodes would take longer than all that
    // is done with them.
    let lines = LineStarts::of(content);
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let origin = Origin::File(path.to_owned(), lines.line_of(error.valid_up_to()));
            mistakes.add(&origin, "not UTF-8, which TOML has to be");
            return Fields::new();
        }
    };
    let place = |span: Option<Range<usize>>| {
        let start = span.map_or(0, |span| span.start);
        Origin::File(path.to_owned(), lines.line_of(start))
    };
    match Document::parse(text) {
        Ok(document) => fields(document.as_table(), &place),
        Err(error) => {
            let line = error.span().map_or(1, |span| lines.line_of(span.start));
            // An error at a line's end has its place in the next one.
            let told = error
                .span()
                .and_then(|span| told(text, line, text.get(span)?, error.message()))
                .unwrap_or_else(|| format!("not valid TOML: {}", error.message().replace('\n', ", ")));
            mistakes.add(&place(error.span()), told);
            Fields::new()
        }
    }
}

/// What is wrong in a line, where that can be said better than the parser does. `found` is what it stumbled over.
fn told(text: &str, line: usize, found: &str, message: &str) -> Option<String> {
    let line = text.lines().nth(line - 1)?.trim();
    let key = found.trim().trim_matches(['[', ']']).trim();
    if let Some((key, "")) =
        line.split('#').next()?.split_once('=').map(|(key, value)| (key.trim(), value.trim()))
    {
        return Some(format!("not valid TOML: {key} has no value; write {key} = …"));
    }
    let is_header = line.starts_with('[') && !line.starts_with("[[");
    let is_list = text.lines().any(|line| line.trim().starts_with(&format!("[[{key}]]")));
    if is_header && is_list {
        return Some(format!("write [[{key}]], with two brackets"));
    }
    let is_twice = message == "duplicate key" && !key.is_empty() && !key.contains(['\n', '=']);
    is_twice.then(|| format!("not valid TOML: duplicate key: {key} is written twice"))
}

fn fields(table: &dyn TableLike, place: &dyn Fn(Option<Range<usize>>) -> Origin) -> Fields {
    let field = |(name, item): (&str, &Item)| {
        let span = table.key(name).and_then(toml_edit::Key::span).or(item.span());
        (name.to_owned(), (raw(item, place), place(span)))
    };
    table.iter().map(field).collect()
}

fn raw(item: &Item, place: &dyn Fn(Option<Range<usize>>) -> Origin) -> Raw {
    match item {
        Item::Value(value) => of_value(value, place),
        Item::Table(table) => Raw::Table(fields(table, place)),
        Item::ArrayOfTables(tables) => {
            Raw::Tables(tables.iter().map(|table| (fields(table, place), place(table.span()))).collect())
        }
        Item::None => Raw::Other("nothing"),
    }
}

fn of_value(value: &Value, place: &dyn Fn(Option<Range<usize>>) -> Origin) -> Raw {
    match value {
        Value::String(text) => Raw::Text(text.value().clone()),
        Value::Integer(number) => Raw::Number(*number.value()),
        Value::Boolean(yes) => Raw::Bool(*yes.value()),
        Value::Array(items) => {
            Raw::List(items.iter().map(|item| (of_value(item, place), place(item.span()))).collect())
        }
        Value::InlineTable(table) => Raw::Table(fields(table, place)),
        Value::Float(_) => Raw::Other("a number with a fraction"),
        Value::Datetime(_) => Raw::Other("a date"),
    }
}
