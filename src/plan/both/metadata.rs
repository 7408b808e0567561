//! Pass 4, and the rule behind it: what a node sends must not keep anybody else from reading or recording.
//!
//! - Directories have the mode and owner that Main has. One that nodes made gets those of the directory around it, unless
//!   that is root's: then it keeps its own.
//! - A file keeps the owner that Main has. A change of its mode goes to everybody, but its owner may always read and
//!   write it.
//!
//! Given I1 to I5, which say nothing of metadata and stay as they are.

use std::collections::HashMap;

use super::{Decided, DecidedPath, Input};
use crate::model::{Entry, File, Meta, RelPath};

/// What an owner may always do with a directory, and with a file.
const OWN_DIR: u16 = 0o700;
const OWN_FILE: u16 = 0o600;

/// Gives every directory the mode and owner that it is to have.
pub(super) fn of_directories(input: Input<'_>, paths: &mut [DecidedPath<'_>]) {
    let mut metas: HashMap<&RelPath, Meta> = HashMap::new();
    // In tree order a directory comes before what is in it.
    for DecidedPath { path, decided, .. } in paths {
        let Decided::Becomes(goal) = decided else { continue };
        let Some(Entry::Dir(meta)) = &mut goal.entry else { continue };
        if let Some(Entry::Dir(of_main)) = input.main.get(path) {
            *meta = of_main.clone();
        } else {
            let around = path.parent().map_or(input.root, |parent| metas.get(parent));
            match around.filter(|around| around.owner.user().is_some_and(|user| user != "root")) {
                Some(around) => *meta = around.clone(),
                None => meta.mode |= OWN_DIR,
            }
        }
        metas.insert(path, meta.clone());
    }
}

/// What a node has, as it may go to others; `main` is what Main has at the same path.
pub(super) fn of_node(node: &Entry, main: Option<&Entry>) -> Entry {
    let Entry::File(file) = node else { return node.clone() };
    let owner = main.and_then(Entry::as_file).map_or(&file.meta.owner, |main| &main.meta.owner);
    Entry::File(File { meta: Meta { mode: file.meta.mode | OWN_FILE, owner: owner.clone() }, ..file.clone() })
}
