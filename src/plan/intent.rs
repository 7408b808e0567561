//! What a run sets out to do on an edge, and what the next one makes of it when that was cut off.

use std::collections::BTreeMap;

use crate::model::{Action, Entry, Intent, RelPathBuf, Step, Tree};

/// What these actions, of either end, are about to make of the paths of an edge.
#[must_use]
pub fn intent<'a>(actions: impl IntoIterator<Item = &'a Action>, main: &Tree, node: &Tree) -> Intent {
    let opaque =
        |path| [main, node].into_iter().filter_map(|tree: &Tree| tree.get(path)).any(Entry::is_opaque);
    let mut goal: BTreeMap<RelPathBuf, Option<Entry>> = BTreeMap::new();
    for action in actions {
        let (Step::Put(entry) | Step::SetMeta(entry) | Step::Move { entry, .. }) = &action.step else {
            continue;
        };
        // Directories have no content to mistake.
        if !matches!(entry, Entry::Dir(_)) && !opaque(&action.path) {
            goal.insert(action.path.clone(), Some(entry.clone()));
        }
    }
    let had = |tree: &Tree| -> BTreeMap<RelPathBuf, Option<Entry>> {
        goal.keys().filter_map(|path| Some((path.clone(), Some(tree.get(path)?.clone())))).collect()
    };
    let tree = |entries| Tree::default().with(entries);
    Intent { main: tree(&had(main)), node: tree(&had(node)), goal: tree(&goal) }
}

/// The base of an edge whose last run was cut off: where one end came to have what both were to have, and
/// the other end has since become something else than it was, that other end was changed by people, and what both
/// were to have is what they had in common.
#[must_use]
pub fn recover_base(base: &Tree, intent: &Intent, main: &Tree, node: &Tree) -> Tree {
    let mut known = BTreeMap::new();
    for (path, goal) in intent.goal.iter() {
        let is_goal = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.same_content(goal));
        // What never came to an end was not deleted there.
        let was_changed = |now: Option<&Entry>, was: Option<&Entry>| match (now, was) {
            (Some(now), Some(was)) => !now.same_content(was),
            (Some(_), None) => true,
            (None, was) => is_goal(was),
        };
        let (on_main, on_node) = (main.get(path), node.get(path));
        if [on_main, on_node].into_iter().flatten().any(Entry::is_opaque) {
            continue;
        }
        let met = match (is_goal(on_main), is_goal(on_node)) {
            (true, false) => was_changed(on_node, intent.node.get(path)),
            (false, true) => was_changed(on_main, intent.main.get(path)),
            _ => false,
        };
        if met {
            known.insert(path.to_owned(), Some(goal.clone()));
        }
    }
    base.with(&known)
}
