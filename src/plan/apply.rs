//! What a tree looks like when actions are done.

use std::collections::BTreeMap;

use crate::model::{Action, Outcome, Step, Tree};

/// The tree after all actions.
#[must_use]
pub fn apply(tree: &Tree, actions: &[Action]) -> Tree {
    apply_where(tree, actions, |_| true)
}

/// The tree after those actions whose outcome is [`Outcome::Done`].
#[must_use]
pub fn apply_done(tree: &Tree, actions: &[Action], outcomes: &[Option<Outcome>]) -> Tree {
    apply_where(tree, actions, |index| outcomes.get(index) == Some(&Some(Outcome::Done)))
}

fn apply_where(tree: &Tree, actions: &[Action], done: impl Fn(usize) -> bool) -> Tree {
    let mut changes = BTreeMap::new();
    for (_, action) in actions.iter().enumerate().filter(|(index, _)| done(*index)) {
        if let Step::Move { from, .. } = &action.step {
            changes.insert(from.clone(), None);
        }
        changes.insert(action.path.clone(), action.result().cloned());
    }
    if changes.is_empty() { tree.clone() } else { tree.with(&changes) }
}
