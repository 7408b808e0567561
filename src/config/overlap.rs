//! Roots that exclude each other on one host.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Directory, Node};
use crate::toml::{Mistakes, Origin};

/// Why two directories cannot have these roots on one host, if they cannot. A directory inside another one is
/// carved out of it, which makes sense only under different rules.
pub(super) fn overlap(known: (&Directory, &Path), new: (&Directory, &Path)) -> Option<String> {
    let ((known, known_root), (new, new_root)) = (known, new);
    if known_root == new_root {
        return Some(format!("directory '{}' has the path {} already", known.name, new_root.display()));
    }
    let nested = new_root.starts_with(known_root) || known_root.starts_with(new_root);
    let rules = |directory: &Directory| Directory {
        name: String::new(),
        path: Path::new("/").to_owned(),
        ..directory.clone()
    };
    (nested && rules(known) == rules(new)).then(|| {
        format!(
            "{} overlaps directory '{}' ({}) under the same rules; configure only the outer one",
            new_root.display(),
            known.name,
            known_root.display()
        )
    })
}

/// The roots of a node, where `paths` puts some of them: `typed` has where.
pub(super) fn check_node(
    node: &Node,
    typed: &BTreeMap<String, Origin>,
    directories: &[Directory],
    mistakes: &mut Mistakes,
) {
    for (moved, why) in clashes(node, directories) {
        if let Some(at) = typed.get(&moved.name) {
            mistakes.add(at, format!("node.{}.paths.{}: {why}", node.name, moved.name));
        }
    }
}

/// Why a node cannot have the roots in its `paths`, if it cannot.
#[must_use]
pub(crate) fn clash(node: &Node, directories: &[Directory]) -> Option<String> {
    clashes(node, directories).into_iter().next().map(|(_, why)| why)
}

/// Directories that `paths` puts where they cannot be, each with why not.
fn clashes<'d>(node: &Node, directories: &'d [Directory]) -> Vec<(&'d Directory, String)> {
    let here: Vec<_> = directories.iter().filter(|directory| directory.is_for(node)).collect();
    let mut clashes = Vec::new();
    for (i, known) in here.iter().copied().enumerate() {
        for new in here[i + 1..].iter().copied() {
            // Two that are both where Main has them were looked at there.
            let (new, known) =
                match (node.paths.contains_key(&new.name), node.paths.contains_key(&known.name)) {
                    (true, _) => (new, known),
                    (false, true) => (known, new),
                    (false, false) => continue,
                };
            if let Some(why) = overlap((known, node.root_of(known)), (new, node.root_of(new))) {
                clashes.push((new, why));
            }
        }
    }
    clashes
}
