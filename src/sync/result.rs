//! What became of an edge. Nothing of it is counted before the end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{Action, BlockedPath, Entry, Outcome, RelPath, RelPathBuf, Side, Step, Tree};
use crate::node::NodeErrorKind;
use crate::plan::EdgePlan;
use crate::report::{Confirmed, NodeState, NodesOwn, Problem, Stage, confirmed, words};
use crate::state::{self, Skip, Unkept};
use crate::transfer::trash::{TrashEntry, TrashId};

/// What a run did on an edge.
#[derive(Default)]
pub(super) struct EdgeResult {
    pub(super) plan: EdgePlan,
    /// What became of the plan's actions.
    pub(super) on_node: HostResult,
    /// What became of the round's actions on Main; this edge reports those whose blobs came from its node.
    pub(super) on_main: Option<Arc<HostResult>>,
    /// Conflicts of the directory that wait for a decision.
    pub(super) waiting: u64,
    /// Bytes on the wire, in both directions.
    pub(super) bytes: u64,
    pub(super) skips: Skips,
    /// What the node alone has of a pushed directory; `None`: nobody looked.
    pub(super) own: Option<NodesOwn>,
    /// The attributes that the node's disk does not keep.
    pub(super) unkept: Unkept,
    pub(super) problems: Vec<(Stage, String, Severity)>,
}

/// What became of actions on one host.
#[derive(Default)]
pub(super) struct HostResult {
    /// One for each action; `None`, and what lies beyond the end, was not reached.
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// What they put into the trash.
    pub(super) trashed: Vec<TrashEntry>,
}

/// The standing skips of an edge.
#[derive(Default)]
pub(super) struct Skips {
    /// Those that an earlier run has reported.
    pub(super) known: state::Skips,
    /// Those that are there now.
    pub(super) now: state::Skips,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Failure,
    Warning,
}

impl EdgeResult {
    pub(super) fn fail(&mut self, stage: Stage, detail: String) {
        self.problems.push((stage, detail, Severity::Failure));
    }

    pub(super) fn warn(&mut self, stage: Stage, detail: String) {
        self.problems.push((stage, detail, Severity::Warning));
    }

    pub(super) fn has_not_failed(&self) -> bool {
        self.problems.iter().all(|(_, _, severity)| *severity == Severity::Warning)
    }

    /// What became of the planned changes. They are taken out of the plan, and the outcomes with them: a large plan is not
    /// held twice.
    pub(super) fn take_confirmed(&mut self, dry_run: bool) -> Confirmed {
        let planned = std::mem::take(&mut self.plan.changes);
        let on_node = std::mem::take(&mut self.on_node.outcomes);
        if dry_run {
            return Confirmed::in_dry_run(planned);
        }
        let on_main = self.on_main.as_ref().map_or(&[][..], |main| &main.outcomes);
        confirmed(planned, &on_node, on_main)
    }

    /// The ids under which the trash of a host has what its changes replaced.
    pub(super) fn trash_ids(&self) -> HashMap<(Side, &RelPath), &TrashId> {
        let on_main = self.on_main.iter().flat_map(|main| &main.trashed).map(|entry| (Side::Main, entry));
        let on_node = self.on_node.trashed.iter().map(|entry| (Side::Node, entry));
        on_main.chain(on_node).map(|(side, entry)| ((side, &*entry.place.path), &entry.place.id)).collect()
    }
}

/// Most files that only a node has which are known by name.
const MAX_OWN: usize = 100;

/// The files of a pushed directory that the node alone has, and that the plan leaves there.
pub(super) fn nodes_own(main: &Tree, node: &Tree, plan: &EdgePlan) -> NodesOwn {
    let from = |action: &Action| match &action.step {
        Step::Move { from, .. } => Some(from.clone()),
        Step::Put(_) | Step::SetMeta(_) | Step::Delete => None,
    };
    let planned = plan.actions.iter().flat_map(|action| [Some(action.path.clone()), from(action)]);
    let planned: HashSet<RelPathBuf> = planned.flatten().collect();
    let mut own = NodesOwn::default();
    for (path, entry) in node.iter() {
        let is_file = matches!(entry, Entry::File(_) | Entry::Symlink(_) | Entry::Busy(_));
        if is_file && main.get(path).is_none() && !planned.contains(path) {
            own.count += 1;
            if own.paths.len() < MAX_OWN {
                own.paths.push(path.to_owned());
            }
        }
    }
    own
}

/// The standing skips of a plan, as they are recorded.
pub(super) fn skips(plan: &EdgePlan) -> state::Skips {
    let skip = |blocked: &BlockedPath| Skip {
        path: blocked.path.clone(),
        side: blocked.side,
        reason: words::reason(&blocked.reason),
    };
    let skipped = plan.left.skipped();
    let mut skips = state::Skips::of(skipped.first.iter().map(skip));
    skips.more += skipped.more;
    skips
}

pub(super) fn problem(stage: Stage, node: Option<&str>, directory: Option<&str>, detail: String) -> Problem {
    Problem {
        node: node.map(str::to_owned),
        directory: directory.map(str::to_owned),
        ..Problem::failure(stage, detail)
    }
}

/// The state that an error puts a node in.
#[must_use]
pub fn state_of(kind: NodeErrorKind) -> NodeState {
    match kind {
        NodeErrorKind::Unreachable | NodeErrorKind::Lost => NodeState::Unreachable,
        NodeErrorKind::Refused => NodeState::Refused,
        NodeErrorKind::AgentMissing => NodeState::AgentMissing,
        NodeErrorKind::Incompatible => NodeState::Incompatible,
        NodeErrorKind::Timeout => NodeState::Timeout,
    }
}
