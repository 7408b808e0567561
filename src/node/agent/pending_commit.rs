//! A commit whose actions arrive in parts, and whose outcomes leave in parts.

use std::collections::VecDeque;

use super::error::{broken, lost};
use crate::model::{Action, Outcome};
use crate::node::error::NodeError;
use crate::node::protocol::check;
use crate::node::protocol::limits::MAX_LIST;
use crate::node::protocol::message::Weight;

/// Most actions of one commit; they are held until the last one has arrived. Two for each entry of the largest
/// tree that is accepted.
const MAX_ACTIONS: usize = 6_000_000;
/// Most bytes of all of these, by their weight: some 350 each, where a path alone may have 3072.
const MAX_ACTION_BYTES: usize = 2 << 30;

#[derive(Default)]
pub(super) struct PendingCommit {
    directory: String,
    actions: Vec<Action>,
    /// About how many bytes the actions take.
    bytes: usize,
    outcomes: VecDeque<Outcome>,
}

impl PendingCommit {
    /// Adds a part of the actions. One for another directory begins a new commit.
    pub(super) fn add(&mut self, directory: &str, actions: Vec<Action>) -> Result<(), NodeError> {
        actions.iter().try_for_each(check::action).map_err(lost)?;
        if self.directory != directory {
            *self = PendingCommit { directory: directory.to_owned(), ..PendingCommit::default() };
        }
        self.bytes += actions.iter().map(Weight::weight).sum::<usize>();
        self.actions.extend(actions);
        if self.actions.len() > MAX_ACTIONS || self.bytes > MAX_ACTION_BYTES {
            return Err(broken("a commit with too many actions"));
        }
        Ok(())
    }

    /// Takes all actions that have arrived.
    pub(super) fn take(&mut self) -> Vec<Action> {
        self.bytes = 0;
        std::mem::take(&mut self.actions)
    }

    /// Keeps the outcomes of these actions until they are asked for.
    pub(super) fn finish(&mut self, outcomes: Vec<Outcome>) {
        self.outcomes = outcomes.into();
    }

    /// The next outcomes, as many as fit into an answer.
    pub(super) fn next_outcomes(&mut self) -> Vec<Outcome> {
        let count = self.outcomes.len().min(MAX_LIST);
        self.outcomes
            .drain(..count)
            .map(|outcome| match outcome {
                Outcome::Failed(why) => Outcome::Failed(check::clip(why)),
                other => other,
            })
            .collect()
    }
}
