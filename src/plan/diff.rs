//! From what shall stand to ordered actions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Wish, Wishes};
use crate::model::{Action, Change, ChangeKind, Digest, Entry, RelPath, RelPathBuf, Side, Step, Tree};

/// The actions that make of `from` the tree `to`, except for what is opaque in either.
#[must_use]
pub fn diff(from: &Tree, to: &Tree) -> Vec<Action> {
    let mut wishes = Wishes::default();
    super::walk::walk(&[from, to], |path, row| {
        if row[0] != row[1] && !row.iter().flatten().any(|entry| entry.is_opaque()) {
            wishes.set(path, row[1].cloned(), ChangeKind::Update, None);
        }
    });
    wishes.spare_inhabited(from);
    actions(from, &wishes)
}

/// Orders wishes into actions on a host that has `tree`.
///
/// First goes what stands where something of another type shall be, innermost first; then directories and
/// files come, outermost first; then the rest goes, innermost first. So a file is in its new place before
/// it leaves its old one, and no directory is removed before what is in it.
pub(super) fn actions(tree: &Tree, wishes: &Wishes) -> Vec<Action> {
    let replaced: BTreeSet<&RelPath> = wishes
        .0
        .iter()
        .filter(|(path, wish)| changes_type(tree.get(path), wish))
        .map(|(path, _)| &**path)
        .collect();
    let is_cleared = |path: &RelPath| path.ancestors().any(|dir| replaced.contains(dir));

    let mut cleared = Vec::new();
    let mut removed = Vec::new();
    for (path, wish) in &wishes.0 {
        let Some(have) = tree.get(path) else { continue };
        let delete = || Action { path: path.clone(), expected: Some(have.clone()), step: Step::Delete };
        if replaced.contains(&**path) || (wish.entry.is_none() && is_cleared(path)) {
            cleared.push(delete());
        } else if wish.entry.is_none() {
            removed.push(delete());
        }
    }
    let mut movable = Movable::of(&removed);
    let mut put = Vec::new();
    for (path, wish) in &wishes.0 {
        let Some(entry) = &wish.entry else { continue };
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

/// Whether what stands must go before the wish can come: only of two files or links can one take the
/// other's place in a single step.
fn changes_type(have: Option<&Entry>, wish: &Wish) -> bool {
    let is_dir = |entry: &Entry| matches!(entry, Entry::Dir(_));
    match (have, &wish.entry) {
        (Some(have), Some(entry)) => is_dir(have) != is_dir(entry),
        _ => false,
    }
}

/// Files that are about to be deleted, by content: one of them may be just what is wanted elsewhere.
struct Movable(BTreeMap<Digest, Vec<(RelPathBuf, Entry)>>);

impl Movable {
    fn of(removed: &[Action]) -> Movable {
        let mut by_digest: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for action in removed {
            // An empty file is nobody's move: they are all alike.
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

    /// One with this content, rather one with the same name.
    fn take(&mut self, digest: &Digest, path: &RelPath) -> Option<(RelPathBuf, Entry)> {
        let candidates = self.0.get_mut(digest)?;
        let best = candidates.iter().position(|(from, _)| from.name() == path.name()).unwrap_or(0);
        (best < candidates.len()).then(|| candidates.remove(best))
    }
}

/// The same told to people, in tree order.
pub(super) fn changes(actions: &[Action], wishes: &Wishes, to: Side) -> Vec<Change> {
    let size = |entry: Option<&Entry>| entry.and_then(Entry::as_file).map_or(0, |file| file.size);
    let mut changes = BTreeMap::new();
    for action in actions {
        let wish = wishes.0.get(&*action.path);
        let mut kind = wish.map_or(ChangeKind::Update, |wish| wish.kind);
        let mut reason = wish.and_then(|wish| wish.reason.clone());
        if let Step::Move { from, .. } = &action.step {
            kind = ChangeKind::Rename;
            reason = Some(format!("from {}", from.for_people()));
        }
        let bytes = size(action.result().or(action.expected.as_ref()));
        // Of the two steps of a changed type, the second tells the whole.
        changes.insert(action.path.clone(), Change { path: action.path.clone(), to, kind, bytes, reason });
    }
    changes.into_values().collect()
}
