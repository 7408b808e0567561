//! What is to be done on Main so that files are in place again. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Action, Entry, Meta, Owner, RelPath, RelPathBuf, Step, Tree};
use crate::report::words;

/// What must be put at `path` for `entry` to be there: `None` when the same is there already. `Err` says what is in
/// the way.
pub(super) fn needed(tree: &Tree, path: &RelPath, entry: Entry) -> Result<Option<Entry>, String> {
    for parent in path.ancestors() {
        match tree.get(parent) {
            None | Some(Entry::Dir(_)) => {}
            Some(Entry::Excluded) => return Err(format!("{} is excluded", parent.for_people())),
            Some(_) => {
                return Err(format!(
                    "{} is not a directory any more; move it away first",
                    parent.for_people()
                ));
            }
        }
    }
    match tree.get(path) {
        Some(Entry::Dir(_)) => Err("a directory stands there now; move it away first".to_owned()),
        Some(Entry::Excluded) => Err("it is excluded".to_owned()),
        Some(Entry::Busy(busy)) => {
            let why = words::busy(*busy);
            Err(format!("what stands there may be being written: {why}; try again later"))
        }
        Some(Entry::Problem(problem)) => {
            Err(format!("what is there now cannot be replaced: {problem}; move it away first"))
        }
        Some(now) if is_same(now, &entry) => Ok(None),
        _ => Ok(Some(entry)),
    }
}

/// Compares all but the owner: one that this host does not know could never be the same.
fn is_same(now: &Entry, entry: &Entry) -> bool {
    match (now, entry) {
        (Entry::File(now), Entry::File(entry)) => {
            (now.digest, now.mtime, now.meta.mode) == (entry.digest, entry.mtime, entry.meta.mode)
        }
        _ => now == entry,
    }
}

/// Actions that put `entries` in place, and make the directories that are missing above them, and all of `known`. A
/// directory that is not known, since a trash has none, gets the mode of the one that it is in; `mode` is that of the root.
pub(super) fn actions(
    tree: &Tree,
    entries: Vec<(RelPathBuf, Entry)>,
    known: &BTreeMap<RelPathBuf, Meta>,
    mode: u16,
) -> Vec<Action> {
    let mut dirs: BTreeSet<RelPathBuf> =
        known.keys().filter(|dir| needed_above(tree, dir)).cloned().collect();
    for (path, _) in &entries {
        dirs.extend(path.ancestors().filter(|dir| tree.get(dir).is_none()).map(RelPath::to_owned));
    }
    let mode_of = |dir: &RelPath| {
        let above = dir.ancestors().find_map(|dir| match tree.get(dir) {
            Some(Entry::Dir(meta)) => Some(meta.mode),
            _ => None,
        });
        above.unwrap_or(mode)
    };
    // In tree order: a directory before what is in it.
    let made = dirs.iter().map(|dir| {
        let inherited = || Meta { mode: mode_of(dir), owner: Owner::default() };
        let meta = known.get(dir).cloned().unwrap_or_else(inherited);
        Action { path: dir.clone(), expected: None, step: Step::Put(Entry::Dir(meta)) }
    });
    let put = entries.into_iter().map(|(path, entry)| {
        let expected = tree.get(&path).cloned();
        Action { path, expected, step: Step::Put(entry) }
    });
    made.chain(put).collect()
}

/// Whether a directory is missing, and can be made.
fn needed_above(tree: &Tree, dir: &RelPath) -> bool {
    let is_dir = |above: &RelPath| tree.get(above).is_none_or(|entry| matches!(entry, Entry::Dir(_)));
    tree.get(dir).is_none() && dir.ancestors().all(is_dir)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Busy, Digest, EntryProblem, File};

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    fn file(content: u8) -> Entry {
        let meta = Meta { mode: 0o640, owner: Owner::default() };
        Entry::File(File { size: 1, mtime: 7, digest: Digest([content; 32]), meta })
    }

    fn dir(mode: u16) -> Entry {
        Entry::Dir(Meta { mode, owner: Owner::default() })
    }

    fn tree() -> Tree {
        let entries = [
            ("busy", Entry::Busy(Busy::Open)),
            ("d", dir(0o2775)),
            ("d/f", file(1)),
            ("out", Entry::Excluded),
            ("special", Entry::Problem(EntryProblem::Special)),
        ];
        entries.into_iter().map(|(at, entry)| (path(at), entry)).collect()
    }

    #[test]
    fn what_is_in_the_way() {
        for (at, why) in [
            ("d/f/x", Some("d/f is not a directory")),
            ("d", Some("a directory stands there")),
            ("busy", Some("being written")),
            ("special", Some("cannot be replaced")),
            ("out", Some("excluded")),
            ("out/x", Some("out is excluded")),
            ("d/new", None),
            ("new/deep/x", None),
        ] {
            match (needed(&tree(), &path(at), file(2)), why) {
                (Ok(found), None) => assert_eq!(found, Some(file(2)), "{at}"),
                (Err(why), Some(words)) => assert!(why.contains(words), "{at}: {why}"),
                (found, why) => assert_eq!(found.err().as_deref(), why, "{at}"),
            }
        }
        assert_eq!(needed(&tree(), &path("d/f"), file(2)), Ok(Some(file(2))));
        assert_eq!(needed(&tree(), &path("d/f"), file(1)), Ok(None), "it is there already");
    }

    #[test]
    fn missing_directories_are_made_as_the_one_they_are_in() {
        let entries = ["d/f", "d/e/x", "d/e/y/z", "g/x"].map(|at| (path(at), file(2))).to_vec();
        let actions = actions(&tree(), entries, &BTreeMap::new(), 0o755);
        let modes: Vec<(String, Option<u16>)> = actions
            .iter()
            .map(|action| match action.result() {
                Some(Entry::Dir(meta)) => (action.path.escaped(), Some(meta.mode)),
                _ => (action.path.escaped(), None),
            })
            .collect();
        let expected = [
            ("d/e", Some(0o2775)),
            ("d/e/y", Some(0o2775)),
            ("g", Some(0o755)),
            ("d/f", None),
            ("d/e/x", None),
            ("d/e/y/z", None),
            ("g/x", None),
        ];
        assert_eq!(modes, expected.map(|(at, mode)| (at.to_owned(), mode)));
        assert_eq!(actions[3].expected, Some(file(1)), "what is there now goes to the trash");
    }

    #[test]
    fn directories_that_are_known_come_back_as_they_were() {
        let meta = Meta { mode: 0o2770, owner: Owner::default() };
        let known = ["d", "g", "g/empty", "out/x", "special/x"].map(|dir| (path(dir), meta.clone())).into();
        let actions = actions(&tree(), vec![(path("g/x"), file(2))], &known, 0o755);
        let made: Vec<(String, Option<Entry>)> =
            actions.iter().map(|action| (action.path.escaped(), action.result().cloned())).collect();
        let expected = [("g", dir(0o2770)), ("g/empty", dir(0o2770)), ("g/x", file(2))];
        assert_eq!(made, expected.map(|(at, entry)| (at.to_owned(), Some(entry))));
    }
}
