//! What a commit left, for those who watch.

use crate::model::{Action, RelPathBuf, Step};
use crate::transfer::Committed;
use crate::watch::Left;

/// How a commit left the paths that it changed, as far as that is known.
pub(super) fn left_by(actions: &[Action], committed: &Committed) -> Vec<(RelPathBuf, Left)> {
    let done = actions.iter().zip(&committed.outcomes).filter(|(_, outcome)| outcome.is_done());
    let gone = done.filter_map(|(action, _)| match &action.step {
        Step::Delete => Some(&action.path),
        Step::Move { from, .. } => Some(from),
        Step::Put(_) | Step::SetMeta(_) => None,
    });
    let gone = gone.map(|path| (path.clone(), Left::Gone));
    // What stands there now may stand where something has gone from.
    gone.chain(committed.placed.iter().map(|placed| (placed.path.clone(), Left::There(placed.stamp))))
        .collect()
}
