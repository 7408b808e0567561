//! What one file says: its sections and lists.

use std::collections::BTreeMap;
use std::path::Path;

use crate::toml::{Fields, Mistakes, Origin, Raw, parse, suggestion};

/// Sections of single keys.
pub(super) const SECTIONS: [&str; 7] = ["main", "ssh", "sync", "schedule", "hub", "discovery", "store"];
/// What is written with two brackets.
const LISTS: [&str; 2] = ["node", "directory"];

#[derive(Debug, Default)]
pub(super) struct RawFile {
    /// Section → its keys; only of [`SECTIONS`].
    pub(super) sections: BTreeMap<String, Fields>,
    /// `[[node]]`s, each with where it begins.
    pub(super) nodes: Vec<(Fields, Origin)>,
    /// `[[directory]]`s, likewise.
    pub(super) directories: Vec<(Fields, Origin)>,
    /// Values that later layers lie over.
    pub(super) hidden: Vec<Hidden>,
}

/// A value that does not count, because a later layer has another.
#[derive(Debug)]
pub(super) struct Hidden {
    pub(super) section: String,
    /// The table within the section, where it is in one.
    pub(super) table: Option<String>,
    pub(super) key: String,
    pub(super) value: (Raw, Origin),
}

impl RawFile {
    /// Reads the content of a file. What cannot be read is a mistake; the rest is read all the same.
    pub(super) fn parse(path: &Path, content: &[u8], mistakes: &mut Mistakes) -> RawFile {
        let mut file = RawFile::default();
        for (name, (raw, origin)) in parse(path, content, mistakes) {
            match (&*name, raw) {
                ("node", Raw::Tables(nodes)) => file.nodes = nodes,
                ("directory", Raw::Tables(directories)) => file.directories = directories,
                (section, Raw::Table(fields)) if SECTIONS.contains(&section) => {
                    file.sections.insert(name, fields);
                }
                (name, raw) => mistakes.add(&origin, misplaced(name, &raw)),
            }
        }
        file
    }
}

/// What is wrong with something at the top that is neither a section nor a list.
fn misplaced(name: &str, raw: &Raw) -> String {
    if LISTS.contains(&name) {
        return format!("write [[{name}]], with two brackets");
    }
    if SECTIONS.contains(&name) {
        return format!("write [{name}], with one bracket, and its keys below");
    }
    if !matches!(raw, Raw::Table(_) | Raw::Tables(_)) {
        return format!("'{name}' stands outside of any section; write it below the one it belongs to");
    }
    let meant = suggestion(name, SECTIONS.into_iter().chain(LISTS));
    format!("unknown section [{name}]{meant}")
}
