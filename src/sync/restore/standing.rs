//! What a node still has where Main has something else, or nothing. Pure.

use std::collections::BTreeMap;

use super::version::{Place, Version};
use crate::model::{Entry, Meta, RelPath, RelPathBuf, Tree};
use crate::transfer::trash::TrashKind;

/// What stands on a host at a path and below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Files and symlinks that Main has not as they are here.
    pub(super) versions: Vec<Version>,
    /// The directories that they are in, and those below the path.
    pub(super) dirs: BTreeMap<RelPathBuf, Meta>,
    /// Whether something stands there that is being written, and so is no version of anything.
    pub(super) is_busy: bool,
}

/// What `tree`, that of `host`, has at `path` and below. `bases` are what Main last agreed on with each node.
///
/// Where all of them have what stands here, Main has lost it since its last run. Where one has something else, a run has
/// carried that change before, and this host was merely left behind.
///
/// Of a directory only what Main lacks: what it has, somebody has put there. A file that is named itself may be another one.
pub(super) fn standing(host: &str, tree: &Tree, bases: &[&Tree], main: &Tree, path: &RelPath) -> Standing {
    let mut found = Standing::default();
    let itself = tree.get(path).map(|entry| (path, entry));
    for (at, entry) in itself.into_iter().chain(tree.below(path)) {
        match entry {
            Entry::Dir(meta) => {
                found.dirs.insert(at.to_owned(), meta.clone());
            }
            Entry::Busy(_) => found.is_busy = true,
            Entry::File(_) | Entry::Symlink(_) => {
                let mains = main.get(at);
                let is_missing = match mains {
                    None => true,
                    Some(mains) => at == path && !mains.same_content(entry),
                };
                if is_missing {
                    let is_agreed =
                        |base: &&Tree| base.get(at).is_some_and(|agreed| agreed.same_content(entry));
                    let was_mains = !bases.is_empty() && bases.iter().all(is_agreed);
                    found.versions.push(version(host, at, entry, was_mains));
                }
            }
            Entry::Excluded | Entry::Problem(_) => {}
        }
    }
    if !found.versions.is_empty() {
        let above = path.ancestors().filter_map(|dir| Some((dir.to_owned(), tree.get(dir)?.meta()?.clone())));
        found.dirs.extend(above);
    }
    found
}

fn version(host: &str, path: &RelPath, entry: &Entry, was_mains: bool) -> Version {
    let file = entry.as_file();
    Version {
        host: host.to_owned(),
        path: path.to_owned(),
        kind: if file.is_some() { TrashKind::File } else { TrashKind::Symlink },
        size: file.map_or(0, |file| file.size),
        mtime: file.map_or(0, |file| file.mtime),
        place: Place::Standing { entry: entry.clone(), was_mains },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Busy, Digest, File, Owner};

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    /// `dir/`, `busy!`, `name=content`.
    fn tree(entries: &[&str]) -> Tree {
        let meta = || Meta { mode: 0o644, owner: Owner::default() };
        let entry = |text: &str| match text.split_once('=') {
            Some((at, content)) => {
                let digest = Digest([content.as_bytes()[0]; 32]);
                (path(at), Entry::File(File { size: 1, mtime: 7, digest, meta: meta() }))
            }
            None if text.ends_with('!') => (path(text.trim_end_matches('!')), Entry::Busy(Busy::Open)),
            None => (path(text.trim_end_matches('/')), Entry::Dir(meta())),
        };
        entries.iter().map(|text| entry(text)).collect()
    }

    #[test]
    fn what_main_lacks_stands_and_what_it_had_is_told_from_what_is_the_nodes_own() {
        let node = tree(&["busy!", "d/", "d/a=1", "d/b=2", "d/empty/", "d/own=3", "f=4"]);
        let base = tree(&["d/", "d/a=1", "d/b=9", "f=4"]);
        for (main, at, expected) in [
            (&[][..], "d", &["d/a was", "d/b", "d/own"][..]),
            (&["d/", "d/a=1"], "d", &["d/b", "d/own"]),
            // Another one on Main is not touched for the sake of the directory, but when it is named.
            (&["d/", "d/a=5"], "d", &["d/b", "d/own"]),
            (&["d/", "d/a=5"], "d/a", &["d/a was"]),
            (&["d/", "d/a=1"], "d/a", &[]),
            (&[], "f", &["f was"]),
            (&[], "nothing", &[]),
        ] {
            let found = standing("mds1", &node, &[&base], &tree(main), &path(at));
            let told = found.versions.iter().map(|version| {
                let was = if version.was_mains() { " was" } else { "" };
                format!("{}{was}", version.path.escaped())
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "{main:?} {at}");
        }
        let found = standing("mds1", &node, &[], &tree(&[]), &path("d/a"));
        assert!(!found.versions[0].was_mains(), "without a base nobody knows");
        let carried = [&base, &tree(&["d/", "d/b=2"])];
        let found = standing("mds1", &node, &carried, &tree(&[]), &path("d/a"));
        assert!(!found.versions[0].was_mains(), "a run has deleted it elsewhere, and this node was away");
        assert!(found.dirs.contains_key(&path("d")), "the directory above comes back as it is here");
        assert!(standing("mds1", &node, &[], &tree(&[]), &path("busy")).is_busy);
    }
}
