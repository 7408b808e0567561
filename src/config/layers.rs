//! Reads the layers and merges them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::check::Sources;
use super::file::{Hidden, RawFile, SECTIONS};
use crate::toml::{Fields, Mistakes, Origin, Raw, suggestion};

const PREFIX: &str = "XDS_SYNC_";
/// These say which file a command reads; they are no keys.
const NO_KEYS: [&str; 2] = ["XDS_SYNC_CONFIG", "XDS_SYNC_NODE_CONFIG"];
/// Tables within sections.
const TABLES: [(&str, &str); 3] = [("discovery", "postgres"), ("discovery", "http"), ("store", "options")];

/// Reads all layers; each overrides the ones before, lists are appended. Also gives the files of `conf.d` that this user
/// may not read.
pub(super) fn read(sources: &Sources, mistakes: &mut Mistakes) -> (RawFile, Vec<PathBuf>) {
    let mut all = RawFile::default();
    let mut forbidden = Vec::new();
    for path in files(sources, mistakes) {
        let replaced = sources.replaced.as_ref().filter(|(replaced, _)| *replaced == path);
        match replaced.map_or_else(|| fs::read(&path), |(_, content)| Ok(content.clone())) {
            Ok(content) => add(&mut all, RawFile::parse(&path, &content, mistakes)),
            Err(error) if is_absent(&path, &error) && !(sources.file_was_named && path == sources.file) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path != sources.file => {
                forbidden.push(path);
            }
            Err(error) if is_absent(&path, &error) => {
                mistakes.add(&Origin::File(path, 0), "there is no such file");
            }
            Err(error) => mistakes.add(&Origin::File(path, 1), format!("cannot be read: {error}")),
        }
    }
    for (name, value) in &sources.env {
        if let Some(key) = name.strip_prefix(PREFIX).filter(|_| !NO_KEYS.contains(&name.as_str())) {
            set(&mut all, &key.to_ascii_lowercase(), '_', value, Origin::Environment(name.clone()), mistakes);
        }
    }
    for (key, value) in &sources.overrides {
        set(&mut all, key, '.', value, Origin::Flag(key.clone()), mistakes);
    }
    (all, forbidden)
}

/// The main file, then those of `conf.d` beside it by name.
fn files(sources: &Sources, mistakes: &mut Mistakes) -> Vec<PathBuf> {
    let mut files = vec![sources.file.clone()];
    let replaced = sources.replaced.as_ref().map(|(path, _)| path.clone());
    let conf_d = sources.file.parent().unwrap_or(Path::new("/")).join("conf.d");
    let entries = match fs::read_dir(&conf_d) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error) if is_absent(&conf_d, &error) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    match entries {
        Ok(entries) => {
            let is_ours = |path: &PathBuf| {
                let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                path.extension().is_some_and(|extension| extension == "toml") && !hidden
            };
            let mut more: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(is_ours).collect();
            more.extend(replaced);
            more.sort();
            more.dedup();
            files.extend(more);
        }
        Err(error) => mistakes.add(&Origin::File(conf_d, 1), format!("cannot be read: {error}")),
    }
    files
}

/// Whether there is nothing at this path. A dangling symlink does not count as absent: with the built-in values,
/// other directories would be synchronised than those that were configured.
fn is_absent(path: &Path, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err()
}

fn add(all: &mut RawFile, file: RawFile) {
    for (section, fields) in file.sections {
        lay_over(all, &section, fields);
    }
    all.nodes.extend(file.nodes);
    all.directories.extend(file.directories);
}

/// Keys of `upper` win; tables are merged key by key.
fn lay_over(all: &mut RawFile, section: &str, upper: Fields) {
    let RawFile { sections, hidden, .. } = all;
    let lower = sections.entry(section.to_owned()).or_default();
    let mut hide = |table: Option<&str>, key: &str, before: Option<(Raw, Origin)>| {
        let (section, key, table) = (section.to_owned(), key.to_owned(), table.map(str::to_owned));
        hidden.extend(before.map(|value| Hidden { section, table, key, value }));
    };
    for (key, (raw, origin)) in upper {
        match (lower.get_mut(&key), raw) {
            (Some((Raw::Table(lower), _)), Raw::Table(upper)) => {
                for (inner, value) in upper {
                    let before = lower.insert(inner.clone(), value);
                    hide(Some(&key), &inner, before);
                }
            }
            (_, raw) => {
                let before = lower.insert(key.clone(), (raw, origin));
                hide(None, &key, before);
            }
        }
    }
}

fn set(all: &mut RawFile, key: &str, between: char, value: &str, origin: Origin, mistakes: &mut Mistakes) {
    let (section, key) = key.split_once(between).unwrap_or((key, ""));
    if !SECTIONS.contains(&section) || key.is_empty() {
        let example = match origin {
            Origin::Environment(_) => "XDS_SYNC_SYNC_PARALLEL",
            _ => "sync.parallel",
        };
        let meant = if key.is_empty() { String::new() } else { suggestion(section, SECTIONS) };
        mistakes.add(&origin, format!("names no section and key as {example} does{meant}"));
        return;
    }
    let table = TABLES.iter().find_map(|(of, table)| {
        let key = key.strip_prefix(table)?.strip_prefix(between)?;
        (*of == section).then_some((*table, key))
    });
    let field =
        |key: &str| Fields::from([(key.to_owned(), (Raw::Untyped(value.to_owned()), origin.clone()))]);
    let fields = match table {
        Some((table, key)) => Fields::from([(table.to_owned(), (Raw::Table(field(key)), origin.clone()))]),
        None => field(key),
    };
    lay_over(all, section, fields);
}
