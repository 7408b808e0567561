//! Values as typed, with where they were typed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, TableLike, Value};

use super::mistake::{Mistakes, Origin};

/// A value as typed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// A TOML string.
    Text(String),
    /// From the environment or a flag, which have no types: whatever the key expects.
    Untyped(String),
    Number(i64),
    Bool(bool),
    List(Vec<Raw>),
    Table(Fields),
    /// A kind of value that no key expects.
    Other(&'static str),
}

/// Key → value and where it was typed.
pub(super) type Fields = BTreeMap<String, (Raw, Origin)>;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct RawFile {
    /// Section → its keys.
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

    /// As TOML.
    pub(super) fn show(&self) -> String {
        match self {
            Raw::Text(text) | Raw::Untyped(text) => Value::from(text.as_str()).to_string(),
            Raw::Number(number) => number.to_string(),
            Raw::Bool(yes) => yes.to_string(),
            Raw::List(items) => format!("[{}]", items.iter().map(Raw::show).collect::<Vec<_>>().join(", ")),
            Raw::Table(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|(key, (raw, _))| format!("{key} = {}", raw.show())).collect();
                format!("{{ {} }}", fields.join(", "))
            }
            Raw::Other(kind) => (*kind).to_owned(),
        }
    }
}

/// Reads the text of one file. What cannot be read is a mistake, and the rest is read all the same.
pub(super) fn parse(path: &Path, text: &str, mistakes: &mut Mistakes) -> RawFile {
    let place = |span: Option<Range<usize>>| {
        let before = &text.as_bytes()[..span.map_or(0, |span| span.start.min(text.len()))];
        Origin::File(path.to_owned(), before.iter().filter(|&&b| b == b'\n').count() + 1)
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
        match (name, item) {
            ("node" | "directory", Item::ArrayOfTables(tables)) => {
                let list = if name == "node" { &mut file.nodes } else { &mut file.directories };
                list.extend(tables.iter().map(|table| (fields(table, &place), place(table.span()))));
            }
            ("node" | "directory", _) => {
                mistakes.add(&origin, format!("write [[{name}]], with two brackets"));
            }
            (_, item) => match item.as_table_like() {
                Some(table) => {
                    file.sections.entry(name.to_owned()).or_default().extend(fields(table, &place));
                }
                None => mistakes.add(&origin, format!("'{name}' stands outside of any section")),
            },
        }
    }
    file
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
        Value::Array(items) => Raw::List(items.iter().map(|item| of_value(item, place)).collect()),
        Value::InlineTable(table) => Raw::Table(fields(table, place)),
        Value::Float(_) => Raw::Other("a number with a fraction"),
        Value::Datetime(_) => Raw::Other("a date"),
    }
}
