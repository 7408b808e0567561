//! Reads the keys of one table, and notes what is wrong and what each value is.

use super::convert::Converted;
use super::mistake::{Mistakes, Origin, suggestion};
use super::raw::{Fields, Raw};

/// What `config show` prints, and the mistakes, as they gather.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) mistakes: Mistakes,
    /// What is allowed and yet probably not meant.
    pub(crate) warnings: Mistakes,
    /// Full key, value, where it comes from.
    pub(crate) shown: Vec<(String, Raw, Origin)>,
}

pub(crate) struct Reader<'a> {
    /// `sync`, `node.mds1`; empty at the top of a file.
    prefix: String,
    fields: Fields,
    /// Where the table begins.
    origin: Origin,
    known: Vec<&'static str>,
    notes: &'a mut Notes,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(prefix: String, fields: Fields, origin: Origin, notes: &'a mut Notes) -> Reader<'a> {
        Reader { prefix, fields, origin, known: Vec::new(), notes }
    }

    /// A key that need not be there.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        convert: impl Fn(&Raw) -> Converted<T>,
    ) -> Option<T> {
        self.known.push(key);
        let (raw, origin) = self.fields.remove(key)?;
        self.convert(key, raw.typed_as(&Raw::Text(String::new())), &origin, convert)
    }

    /// A key with a built-in value.
    pub(crate) fn get<T>(
        &mut self,
        key: &'static str,
        default: Raw,
        convert: impl Fn(&Raw) -> Converted<T>,
    ) -> Option<T> {
        self.known.push(key);
        let (raw, origin) = match self.fields.remove(key) {
            Some((raw, origin)) => (raw.typed_as(&default), origin),
            None => (default, Origin::Default),
        };
        self.convert(key, raw, &origin, convert)
    }

    /// A list, empty if it is not there. Every item that is wrong is a mistake of its own.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        convert: impl Fn(&Raw) -> Converted<T>,
    ) -> Option<Vec<T>> {
        self.known.push(key);
        let (raw, origin) = self.fields.remove(key).unwrap_or((Raw::List(Vec::new()), Origin::Default));
        let key = self.full(key);
        let items = match raw {
            Raw::List(items) => items,
            // From where there are no lists.
            Raw::Untyped(text) => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| (Raw::Text(item.to_owned()), origin.clone()))
                .collect(),
            other => {
                let message =
                    format!("{key}: expected a list such as [\"a\", \"b\"], found {}", other.kind());
                self.notes.mistakes.add(&origin, message);
                return None;
            }
        };
        let mut values = Vec::new();
        for (item, at) in &items {
            match convert(item) {
                Ok(value) => values.push(value),
                Err(why) => self.notes.mistakes.add(at, format!("{key}: {why}")),
            }
        }
        let all_right = values.len() == items.len();
        self.notes.shown.push((key, Raw::List(items), origin));
        all_right.then_some(values)
    }

    /// A key that must be there.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        convert: impl Fn(&Raw) -> Converted<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            let message = format!("{} is missing; add a line {key} = \"…\"", self.full(key));
            self.notes.mistakes.add(&self.origin, message);
            return None;
        }
        self.optional(key, convert)
    }

    fn convert<T>(
        &mut self,
        key: &str,
        raw: Raw,
        origin: &Origin,
        convert: impl Fn(&Raw) -> Converted<T>,
    ) -> Option<T> {
        let key = self.full(key);
        match convert(&raw) {
            Ok(value) => {
                self.notes.shown.push((key, raw, origin.clone()));
                Some(value)
            }
            Err(why) => {
                self.notes.mistakes.add(origin, format!("{key}: {why}"));
                None
            }
        }
    }

    /// The key with the table that it is in, for messages.
    fn full(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) }
    }

    /// Whether a key is written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Where a key is written, or else its table.
    pub(crate) fn origin_of(&self, key: &str) -> Origin {
        self.fields.get(key).map_or(&self.origin, |(_, origin)| origin).clone()
    }

    /// A table within this one.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<Reader<'_>> {
        self.known.push(key);
        let (raw, origin) = self.fields.remove(key)?;
        let prefix = self.full(key);
        match raw {
            Raw::Table(fields) => Some(Reader::new(prefix, fields, origin, self.notes)),
            other => {
                let message = format!("{prefix}: expected a table such as {{ … }}, found {}", other.kind());
                self.notes.mistakes.add(&origin, message);
                None
            }
        }
    }

    /// A list of tables within this one, which need not be there; each is named in messages by its `name`. `None`: it is
    /// something else.
    pub(crate) fn tables(&mut self, key: &'static str, mut read: impl FnMut(Reader<'_>)) -> Option<()> {
        self.known.push(key);
        let Some((raw, origin)) = self.fields.remove(key) else { return Some(()) };
        let prefix = self.full(key);
        let tables = match raw {
            Raw::Tables(tables) => tables,
            other => {
                let message =
                    format!("{prefix}: expected tables, each under [[{prefix}]], found {}", other.kind());
                self.notes.mistakes.add(&origin, message);
                return None;
            }
        };
        for (fields, origin) in tables {
            let name = fields.get("name").and_then(|(raw, _)| raw.text());
            let prefix = name.map_or_else(|| prefix.clone(), |name| format!("{prefix}.{name}"));
            read(Reader::new(prefix, fields, origin, self.notes));
        }
        Some(())
    }

    /// A table within this one, all of whose keys have built-in values.
    pub(crate) fn table_or_empty(&mut self, key: &'static str) -> Option<Reader<'_>> {
        if self.has(key) {
            return self.table(key);
        }
        self.known.push(key);
        Some(Reader::new(self.full(key), Fields::new(), Origin::Default, self.notes))
    }

    /// A table within this one that must be there.
    pub(crate) fn required_table(&mut self, key: &'static str) -> Option<Reader<'_>> {
        if !self.has(key) {
            self.known.push(key);
            let message = format!("the table [{}] is missing", self.full(key));
            self.notes.mistakes.add(&self.origin, message);
            return None;
        }
        self.table(key)
    }

    /// A key that somebody else reads, who checks it as well.
    pub(crate) fn leave(&mut self, key: &'static str) {
        self.known.push(key);
        self.fields.remove(key);
    }

    /// All that is in a table whose keys are names.
    pub(crate) fn names<T>(mut self, convert: impl Fn(&Raw) -> Converted<T>) -> Vec<(String, T, Origin)> {
        let fields = std::mem::take(&mut self.fields);
        let read = |(name, (raw, at)): (String, (Raw, Origin))| {
            self.convert(&name, raw, &at, &convert).map(|value| (name, value, at))
        };
        fields.into_iter().filter_map(read).collect()
    }

    /// A mistake that takes more than one key to see.
    pub(crate) fn mistake(&mut self, origin: &Origin, message: &str) {
        self.notes.mistakes.add(origin, format!("{}.{message}", self.prefix));
    }

    /// Warns of what is allowed but probably not meant.
    pub(crate) fn warn(&mut self, origin: &Origin, message: &str) {
        self.notes.warnings.add(origin, format!("{}.{message}", self.prefix));
    }

    /// Reports every key that was not asked for as unknown.
    pub(crate) fn finish(self) {
        for (key, (_, origin)) in &self.fields {
            let meant = suggestion(key, self.known.iter().copied());
            self.notes.mistakes.add(origin, format!("unknown key {}{meant}", self.full(key)));
        }
    }
}
