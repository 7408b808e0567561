//! Values as typed, with where they were typed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, TableLike, Value};

use super::mistake::{Mistakes, Origin, suggestion};

/// Sections of single keys.
pub(super) const SECTIONS: [&str; 6] = ["main", "ssh", "sync", "schedule", "hub", "discovery"];
/// What is written with two brackets.
const LISTS: [&str; 2] = ["node", "directory"];

/// A value as typed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// A TOML string.
    Text(String),
    /// From the environment or a flag, which have no types: whatever the key expects.
    Untyped(String),
    Number(i64),
    Bool(bool),
    List(Vec<(Raw, Origin)>),
    Table(Fields),
    /// A kind of value that no key expects.
    Other(&'static str),
}

/// Key → value and where it was typed.
pub(super) type Fields = BTreeMap<String, (Raw, Origin)>;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct RawFile {
    /// Section → its keys; only of [`SECTIONS`].
    pub(super) sections: BTreeMap<String, Fields>,
    /// `[[node]]`s, each with where it begins.
    pub(super) nodes: Vec<(Fields, Origin)>,
    /// `[[directory]]`s, likewise.
    pub(super) directories: Vec<(Fields, Origin)>,
}

impl Raw {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Raw::Text(_) | Raw::Untyped(_) => "a string",
            Raw::Number(_) => "a number",
            Raw::Bool(_) => "true or false",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
            Raw::Other(kind) => kind,
        }
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Raw::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// As TOML, in one line.
    pub(super) fn show(&self) -> String {
        match self {
            Raw::Text(text) | Raw::Untyped(text) => quoted(text),
            Raw::Number(number) => number.to_string(),
            Raw::Bool(yes) => yes.to_string(),
            Raw::List(items) => {
                let items: Vec<_> = items.iter().map(|(item, _)| item.show()).collect();
                format!("[{}]", items.join(", "))
            }
            // Their keys are shown, each for itself.
            Raw::Table(_) | Raw::Other(_) => self.kind().to_owned(),
        }
    }

    /// What has no type yet, with the type of another value. What cannot have it stays as it is.
    pub(super) fn typed_as(self, other: &Raw) -> Raw {
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

/// Reads the text of one file. What cannot be read is a mistake, and the rest is read all the same.
pub(super) fn parse(path: &Path, text: &str, mistakes: &mut Mistakes) -> RawFile {
    let place = |span: Option<Range<usize>>| {
        let end = span.map_or(0, |span| span.start.min(text.len()));
        Origin::File(path.to_owned(), line_of(text.as_bytes(), end))
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let message = error.message().replace('\n', ", ");
            mistakes.add(&place(error.span()), format!("not valid TOML: {message}"));
            return RawFile::default();
        }
    };
    let mut file = RawFile::default();
    for (name, item) in document.as_table().iter() {
        let origin = place(document.as_table().key(name).and_then(toml_edit::Key::span).or(item.span()));
        match item {
            Item::ArrayOfTables(tables) if LISTS.contains(&name) => {
                let list = if name == "node" { &mut file.nodes } else { &mut file.directories };
                list.extend(tables.iter().map(|table| (fields(table, &place), place(table.span()))));
            }
            item => match item.as_table_like() {
                Some(table) if SECTIONS.contains(&name) => {
                    file.sections.entry(name.to_owned()).or_default().extend(fields(table, &place));
                }
                _ => mistakes.add(&origin, misplaced(name, item)),
            },
        }
    }
    file
}

/// The line, counted from 1, of a byte of a text.
pub(super) fn line_of(text: &[u8], at: usize) -> usize {
    text.iter().take(at).filter(|&&byte| byte == b'\n').count() + 1
}

/// What is wrong with something at the top that is neither a section nor a list.
fn misplaced(name: &str, item: &Item) -> String {
    if LISTS.contains(&name) {
        return format!("write [[{name}]], with two brackets");
    }
    if SECTIONS.contains(&name) {
        return format!("write [{name}], with one bracket, and its keys below");
    }
    if matches!(item, Item::Value(value) if !value.is_inline_table()) {
        return format!("'{name}' stands outside of any section; write it below the one it belongs to");
    }
    let meant = suggestion(name, SECTIONS.into_iter().chain(LISTS));
    format!("unknown section [{name}]{meant}")
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
        Item::ArrayOfTables(_) => Raw::Other("a list of tables"),
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
