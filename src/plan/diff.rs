//! From what shall stand to ordered actions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Desired, DesiredEntry, changes_type};
use crate::model::steps::step;
use crate::model::{
    Action, Attributes, Change, ChangeKind, Digest, Entry, PlannedChange, Reason, RelPath, RelPathBuf, Side,
    Step, Tree,
};

/// The ordered actions that give a host with `tree` what is desired.
///
/// First, what stands where something of another type shall be is removed, innermost first; then directories and
/// files are put, outermost first; then the rest is removed, innermost first. So a file is in its new place before
/// it leaves its old one, and no directory is removed before what is in it.
pub(super) fn actions(tree: &Tree, desired: &Desired) -> Vec<Action> {
    let replaced: BTreeSet<&RelPath> = desired
        .0
        .iter()
        .filter(|(path, want)| changes_type(tree.get(path), want.entry.as_ref()))
        .map(|(path, _)| &**path)
        .collect();
    let is_cleared = |path: &RelPath| path.ancestors().any(|dir| replaced.contains(dir));

    let mut cleared = Vec::new();
    let mut removed = Vec::new();
    for (path, want) in &desired.0 {
        let Some(have) = tree.get(path) else { continue };
        let delete = || Action { path: path.clone(), expected: Some(have.clone()), step: Step::Delete };
        if replaced.contains(&**path) || (want.entry.is_none() && is_cleared(path)) {
            cleared.push(delete());
        } else if want.entry.is_none() {
            removed.push(delete());
        }
    }
    let mut movable = Movable::of(&removed);
    let mut put = Vec::new();
    for (path, want) in &desired.0 {
        let Some(entry) = &want.entry else { continue };
        let have = tree.get(path).filter(|_| !replaced.contains(&**path));
        let step = match (have, entry) {
            (Some(have), entry) if have.same_content(entry) => Step::SetMeta(entry.clone()),
            (None, Entry::File(file)) => match movable.take(&file.digest, path) {
                Some((from, from_expected)) => Step::Move { from, from_expected, entry: entry.clone() },
                None => Step::Put(entry.clone()),
            },
            _ => Step::Put(entry.clone()),
        };
        put.push(Action { path: path.clone(), expected: have.cloned(), step });
    }
    let moved: BTreeSet<RelPathBuf> = put
        .iter()
        .filter_map(|action| match &action.step {
            Step::Move { from, .. } => Some(from.clone()),
            _ => None,
        })
        .collect();
    cleared.reverse();
    cleared.extend(put);
    cleared.extend(removed.into_iter().rev().filter(|action| !moved.contains(&action.path)));
    cleared
}

/// Files that are about to be deleted, by content: what is created elsewhere may be one of them, moved.
struct Movable {
    /// In tree order; none where it has been taken.
    files: Vec<Option<(RelPathBuf, Entry)>>,
    /// Of each content, the first file that may not have been taken, and all others behind it.
    by_content: BTreeMap<Digest, VecDeque<usize>>,
    /// The same by content and name.
    by_name: BTreeMap<(Digest, Box<[u8]>), VecDeque<usize>>,
}

impl Movable {
    fn of(removed: &[Action]) -> Movable {
        let mut movable =
            Movable { files: Vec::new(), by_content: BTreeMap::new(), by_name: BTreeMap::new() };
        for action in removed {
            // All empty files are alike, so that one says nothing about where another came from.
            if let Some(Entry::File(file)) = &action.expected
                && file.size > 0
            {
                let index = movable.files.len();
                movable.files.push(Some((action.path.clone(), Entry::File(file.clone()))));
                movable.by_content.entry(file.digest).or_default().push_back(index);
                let name = (file.digest, action.path.name().into());
                movable.by_name.entry(name).or_default().push_back(index);
            }
        }
        movable
    }

    /// One with this content; preferably one with the same name. However many have the same content, each is looked
    /// at twice in all.
    fn take(&mut self, digest: &Digest, path: &RelPath) -> Option<(RelPathBuf, Entry)> {
        let same_name = self.by_name.get_mut(&(*digest, path.name().into()));
        for candidates in same_name.into_iter().chain(self.by_content.get_mut(digest)) {
            while let Some(index) = candidates.pop_front() {
                step();
                if let Some(taken) = self.files[index].take() {
                    return Some(taken);
                }
            }
        }
        None
    }
}

/// What the actions change, in tree order, each change with its actions.
///
/// An action's path is that of its change. Two actions have the same path only where the first removes what is of
/// another type than the second puts; they are one change.
pub(super) fn changes(actions: &[Action], desired: &Desired, to: Side) -> Vec<PlannedChange> {
    let mut changes: BTreeMap<&RelPath, PlannedChange> = BTreeMap::new();
    for (index, action) in actions.iter().enumerate() {
        let clearing = changes.get(&*action.path).map(|first| first.action);
        let change = change(action, desired.0.get(&*action.path), to);
        changes.insert(&action.path, PlannedChange { change, action: index, clearing });
    }
    changes.into_values().collect()
}

fn change(action: &Action, want: Option<&DesiredEntry>, to: Side) -> Change {
    let (kind, reason) = match (&action.step, want) {
        (Step::Move { from, .. }, _) => (ChangeKind::Rename, Some(Reason::MovedFrom(from.clone()))),
        (_, Some(want)) => (want.kind, want.reason.clone()),
        (_, None) => (ChangeKind::Update, None),
    };
    let entry = action.result().or(action.expected.as_ref());
    let bytes = entry.and_then(Entry::as_file).map_or(0, |file| file.size);
    let is_dir = matches!(entry, Some(Entry::Dir(_)));
    let reason = reason.or_else(|| attributes(action).filter(|_| kind == ChangeKind::Metadata));
    Change { path: action.path.clone(), to, kind, bytes, is_dir, reason }
}

/// What an action changes of an entry whose content stays.
fn attributes(action: &Action) -> Option<Reason> {
    Some(Reason::Attributes(Attributes::of(action.expected.as_ref()?, action.result()?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{File, Meta, Owner};

    fn file(content: u8) -> Entry {
        let meta = Meta { mode: 0o644, owner: Owner::default() };
        Entry::File(File { size: 1, mtime: 0, digest: Digest([content; 32]), meta })
    }

    fn path(path: &str) -> RelPathBuf {
        RelPathBuf::new(path.as_bytes()).unwrap()
    }

    #[test]
    fn a_file_of_the_same_name_is_preferred_and_none_is_moved_twice() {
        let removed = ["x/a", "x/b", "y/a"].map(|at| Action {
            path: path(at),
            expected: Some(file(1)),
            step: Step::Delete,
        });
        let mut movable = Movable::of(&removed);
        let mut take = |at: &str| movable.take(&Digest([1; 32]), &path(at)).map(|(from, _)| from.escaped());
        assert_eq!(take("z/b"), Some("x/b".to_owned()));
        assert_eq!(take("z/c"), Some("x/a".to_owned()));
        assert_eq!(take("z/a"), Some("y/a".to_owned()));
        assert_eq!(take("z/d"), None);
    }
}
