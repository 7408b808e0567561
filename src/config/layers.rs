//! The layers, in their order, as one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::check::Sources;
use super::mistake::{Mistakes, Origin, suggestion};
use super::raw::{self, Raw, RawFile};

/// Sections of scalar keys.
pub(super) const SECTIONS: [&str; 6] = ["main", "ssh", "sync", "schedule", "hub", "discovery"];
const PREFIX: &str = "XDS_SYNC_";
/// Name files, not keys: which configuration a command reads.
const NO_KEYS: [&str; 2] = ["XDS_SYNC_CONFIG", "XDS_SYNC_NODE_CONFIG"];

/// Reads all layers and lays each over the ones before; lists are put one after the other.
pub(super) fn read(sources: &Sources, mistakes: &mut Mistakes) -> RawFile {
    let mut all = RawFile::default();
    for path in files(sources, mistakes) {
        match fs::read_to_string(&path) {
            Ok(text) => add(&mut all, raw::parse(&path, &text, mistakes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !sources.file_was_named => {}
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
    for (section, fields) in &all.sections {
        if !SECTIONS.contains(&section.as_str()) {
            let meant = suggestion(section, SECTIONS.into_iter().chain(["node", "directory"]));
            let origin = fields.values().map(|(_, origin)| origin).next().cloned();
            mistakes.add(&origin.unwrap_or(Origin::Default), format!("unknown section [{section}]{meant}"));
        }
    }
    all.sections.retain(|section, _| SECTIONS.contains(&section.as_str()));
    all
}

/// The main file, then those of `conf.d` beside it by name.
fn files(sources: &Sources, mistakes: &mut Mistakes) -> Vec<PathBuf> {
    let mut files = vec![sources.file.clone()];
    let conf_d = sources.file.parent().unwrap_or(Path::new("/")).join("conf.d");
    let entries = match fs::read_dir(&conf_d) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return files,
        Err(error) => Err(error),
    };
    match entries {
        Ok(entries) => {
            let is_ours = |path: &PathBuf| {
                let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                path.extension().is_some_and(|extension| extension == "toml") && !hidden
            };
            let mut more: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(is_ours).collect();
            more.sort();
            files.extend(more);
        }
        Err(error) => mistakes.add(&Origin::File(conf_d, 1), format!("cannot be read: {error}")),
    }
    files
}

fn add(all: &mut RawFile, file: RawFile) {
    for (section, fields) in file.sections {
        all.sections.entry(section).or_default().extend(fields);
    }
    all.nodes.extend(file.nodes);
    all.directories.extend(file.directories);
}

fn set(all: &mut RawFile, key: &str, between: char, value: &str, origin: Origin, mistakes: &mut Mistakes) {
    match key.split_once(between) {
        Some((section, key)) if SECTIONS.contains(&section) => {
            let value = Raw::Untyped(value.to_owned());
            all.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), (value, origin));
        }
        _ => mistakes.add(&origin, "names no section and key of the configuration"),
    }
}
