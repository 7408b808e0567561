//! From what shall stand to ordered actions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desired, DesiredEntry};
use crate::model::{
    Action, Change, ChangeKind, Digest, Entry, PlannedChange, Reason, RelPath, RelPathBuf, Side, Step, Tree,
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
        .filter(|(path, want)| changes_type(tree.get(path), want))
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

/// Whether what stands must be removed before the desired entry can be put: only of two files or links can one take
/// the other's place in a single step.
fn changes_type(have: Option<&Entry>, want: &DesiredEntry) -> bool {
    let is_dir = |entry: &Entry| matches!(entry, Entry::Dir(_));
    match (have, &want.entry) {
        (Some(have), Some(entry)) => is_dir(have) != is_dir(entry),
        _ => false,
    }
}

/// Files that are about to be deleted, by content: what is created elsewhere may be one of them, moved.
struct Movable(BTreeMap<Digest, Vec<(RelPathBuf, Entry)>>);

impl Movable {
    fn of(removed: &[Action]) -> Movable {
        let mut by_digest: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for action in removed {
            // All empty files are alike, so that one says nothing about where another came from.
            if let Some(Entry::File(file)) = &action.expected
                && file.size > 0
            {
                by_digest
                    .entry(file.digest)
                    .or_default()
                    .push((action.path.clone(), Entry::File(file.clone())));
            }
        }
        Movable(by_digest)
    }

    /// One with this content; preferably one with the same name.
    fn take(&mut self, digest: &Digest, path: &RelPath) -> Option<(RelPathBuf, Entry)> {
        let candidates = self.0.get_mut(digest)?;
        let best = candidates.iter().position(|(from, _)| from.name() == path.name()).unwrap_or(0);
        (best < candidates.len()).then(|| candidates.remove(best))
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
    Change { path: action.path.clone(), to, kind, bytes, reason }
}
