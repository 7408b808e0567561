//! From what shall stand to ordered actions.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

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
    let is_first = |path: &RelPath, want: &DesiredEntry| {
        replaced.contains(path) || (want.entry.is_none() && is_cleared(path))
    };
    let delete = |path: &RelPathBuf, have: &Entry| Action {
        path: path.clone(),
        expected: Some(have.clone()),
        step: Step::Delete,
    };
    // Each action is made in its place: a large plan is not held twice.
    let mut actions = Vec::new();
    for (path, want) in desired.0.iter().rev() {
        if let Some(have) = tree.get(path).filter(|_| is_first(path, want)) {
            actions.push(delete(path, have));
        }
    }
    let removed = || desired.0.iter().filter(|(path, want)| want.entry.is_none() && !is_first(path, want));
    let mut movable = Movable::of(removed().map(|(path, _)| path), tree, &wanted(tree, desired));
    let mut moved: HashSet<RelPathBuf> = HashSet::new();
    for (path, want) in &desired.0 {
        let Some(entry) = &want.entry else { continue };
        let have = tree.get(path).filter(|_| !replaced.contains(&**path));
        let step = match (have, entry) {
            (Some(have), entry) if have.same_content(entry) => Step::SetMeta(entry.clone()),
            (None, Entry::File(file)) => match movable.take(&file.digest, path) {
                Some((from, from_expected)) => {
                    moved.insert(from.clone());
                    Step::Move { from, from_expected: Box::new(from_expected.clone()), entry: entry.clone() }
                }
                None => Step::Put(entry.clone()),
            },
            _ => Step::Put(entry.clone()),
        };
        actions.push(Action { path: path.clone(), expected: have.cloned(), step });
    }
    drop(movable);
    for (path, _) in removed().rev().filter(|(path, _)| !moved.contains(path)) {
        if let Some(have) = tree.get(path) {
            actions.push(delete(path, have));
        }
    }
    actions
}

/// The contents of files that shall be where the host has nothing, or something else than a file.
fn wanted<'a>(tree: &Tree, desired: &'a Desired) -> HashSet<&'a Digest> {
    let wanted = desired.0.iter().filter_map(|(path, want)| {
        let file = want.entry.as_ref()?.as_file()?;
        tree.get(path).is_none_or(|have| have.as_file().is_none()).then_some(&file.digest)
    });
    wanted.collect()
}

/// Files that are about to be deleted, by content: what is created elsewhere may be one of them, moved.
struct Movable<'a> {
    /// In tree order; none where it has been taken.
    files: Vec<Option<(&'a RelPathBuf, &'a Entry)>>,
    /// Of each content, the first file that may not have been taken, and all others behind it.
    by_content: HashMap<&'a Digest, VecDeque<usize>>,
    /// The same by content and name.
    by_name: HashMap<(Digest, Box<[u8]>), VecDeque<usize>>,
}

impl<'a> Movable<'a> {
    /// Of these paths, those whose content is wanted: where much is removed and nothing is new, there is nothing to look
    /// for.
    fn of(
        removed: impl Iterator<Item = &'a RelPathBuf>,
        tree: &'a Tree,
        wanted: &HashSet<&Digest>,
    ) -> Movable<'a> {
        let mut movable = Movable { files: Vec::new(), by_content: HashMap::new(), by_name: HashMap::new() };
        if wanted.is_empty() {
            return movable;
        }
        for path in removed {
            // All empty files are alike, so that one says nothing about where another came from.
            if let Some(entry @ Entry::File(file)) = tree.get(path)
                && file.size > 0
                && wanted.contains(&file.digest)
            {
                let index = movable.files.len();
                movable.files.push(Some((path, entry)));
                movable.by_content.entry(&file.digest).or_default().push_back(index);
                movable.by_name.entry((file.digest, path.name().into())).or_default().push_back(index);
            }
        }
        movable
    }

    /// One with this content; preferably one with the same name. However many have the same content, each is looked
    /// at twice in all.
    fn take(&mut self, digest: &Digest, path: &RelPath) -> Option<(RelPathBuf, &'a Entry)> {
        let same_name = self.by_name.get_mut(&(*digest, path.name().into()));
        for candidates in same_name.into_iter().chain(self.by_content.get_mut(digest)) {
            while let Some(index) = candidates.pop_front() {
                step();
                if let Some((path, entry)) = self.files[index].take() {
                    return Some((path.clone(), entry));
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
    let mut order: Vec<usize> = (0..actions.len()).collect();
    // Of one path, in the order in which they are done.
    order.sort_by(|&a, &b| actions[a].path.cmp(&actions[b].path));
    let same_path = order.chunk_by(|&a, &b| actions[a].path == actions[b].path);
    let change_of = |indexes: &[usize]| {
        let (&last, before) = indexes.split_last()?;
        let change = change(&actions[last], desired.get(&actions[last].path), to);
        Some(PlannedChange { change, action: last, clearing: before.last().copied() })
    };
    same_path.filter_map(change_of).collect()
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
        let removed = ["x/a", "x/b", "x/other", "y/a"].map(path);
        let entry = |at: &RelPathBuf| file(if at.name() == b"other" { 2 } else { 1 });
        let tree: Tree = removed.iter().map(|at| (at.clone(), entry(at))).collect();
        let content = Digest([1; 32]);
        let mut movable = Movable::of(removed.iter(), &tree, &HashSet::from([&content]));
        assert_eq!(movable.files.len(), 3, "nobody wants the other one");
        let mut take = |at: &str| movable.take(&content, &path(at)).map(|(from, _)| from.escaped());
        assert_eq!(take("z/b"), Some("x/b".to_owned()));
        assert_eq!(take("z/c"), Some("x/a".to_owned()));
        assert_eq!(take("z/a"), Some("y/a".to_owned()));
        assert_eq!(take("z/d"), None);
    }
}
