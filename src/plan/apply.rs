//! What a tree looks like when actions are done.

use std::collections::BTreeMap;

use crate::model::{Action, Outcome, Step, Tree};

/// The tree after those actions that were carried out, with what they were to put there.
#[must_use]
pub(crate) fn apply_done(tree: &Tree, actions: &[Action], outcomes: &[Option<Outcome>]) -> Tree {
    let mut changes = BTreeMap::new();
    let done =
        actions.iter().zip(outcomes).filter(|(_, outcome)| outcome.as_ref().is_some_and(Outcome::is_done));
    for (action, _) in done {
        if let Step::Move { from, .. } = &action.step {
            changes.insert(from.clone(), None);
        }
        changes.insert(action.path.clone(), action.result().cloned());
    }
    if changes.is_empty() { tree.clone() } else { tree.with(&changes) }
}
