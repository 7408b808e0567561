//! What a run is about to do on an edge, and what the next run concludes from that if the run was cut off.

use std::collections::BTreeMap;

use crate::model::{Action, Entry, Intent, RelPathBuf, Step, Tree};

/// What these actions, on either end, are about to make of the paths of an edge.
#[must_use]
pub(crate) fn intent<'a>(actions: impl IntoIterator<Item = &'a Action>, main: &Tree, node: &Tree) -> Intent {
    let mut goal: BTreeMap<RelPathBuf, Option<Entry>> = BTreeMap::new();
    for action in actions {
        let (Step::Put(entry) | Step::SetMeta(entry) | Step::Move { entry, .. }) = &action.step else {
            continue;
        };
        // A directory needs no entry: it has no content that could be taken for a change.
        let is_opaque = [main, node].iter().filter_map(|tree| tree.get(&action.path)).any(Entry::is_opaque);
        if !matches!(entry, Entry::Dir(_)) && !is_opaque {
            goal.insert(action.path.clone(), Some(entry.clone()));
        }
    }
    Intent { main: restrict(main, &goal), node: restrict(node, &goal), goal: Tree::default().with(&goal) }
}

/// What the tree has at these paths.
fn restrict(tree: &Tree, paths: &BTreeMap<RelPathBuf, Option<Entry>>) -> Tree {
    paths.keys().filter_map(|path| Some((path.clone(), tree.get(path)?.clone()))).collect()
}

/// The base of an edge whose last run was cut off.
///
/// Where one end reached the goal, and the other end is neither there nor as it was before the run, people have changed
/// that other end since both had the goal: so the goal is what they last had in common.
#[must_use]
pub(crate) fn recover_base(base: &Tree, intent: &Intent, main: &Tree, node: &Tree) -> Tree {
    let mut known = BTreeMap::new();
    for (path, goal) in intent.goal.iter() {
        let is_goal = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.same_content(goal));
        // Deleted by people only if it was there: before the run, with the content of the goal.
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
