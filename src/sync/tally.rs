//! One node's part of the report, as it grows.

use std::collections::HashMap;

use crate::config::{Directory, Node};
use crate::model::{Action, Change, ChangeKind, NodeChange, Outcome, Reason, RelPath, RelPathBuf, Side};
use crate::node::{NodeError, NodeErrorKind};
use crate::plan::EdgePlan;
use crate::report::{
    Confirmed, DirectoryReport, DirectoryState, Guard, Halted, NodeReport, NodeState, PathNote, Problem,
    Report, Stage, node_change, words,
};
use crate::state::Skip;
use crate::transfer::trash::{TrashEntry, TrashId};

/// What a run did on one node.
pub(super) struct Tally {
    pub(super) node: NodeReport,
    changes: Vec<NodeChange>,
    halted: Vec<Halted>,
    problems: Vec<Problem>,
}

pub(super) fn problem(stage: Stage, node: Option<&str>, directory: Option<&str>, detail: &str) -> Problem {
    Problem {
        stage,
        node: node.map(str::to_owned),
        directory: directory.map(str::to_owned),
        path: None,
        detail: detail.to_owned(),
        fails: true,
    }
}

impl Tally {
    pub(super) fn new(node: &Node) -> Tally {
        let node = NodeReport {
            name: node.name.clone(),
            address: node.address.clone(),
            state: NodeState::Ok,
            error: None,
            directories: Vec::new(),
            reloads: Vec::new(),
        };
        Tally { node, changes: Vec::new(), halted: Vec::new(), problems: Vec::new() }
    }

    /// The node cannot take part, or no longer.
    pub(super) fn lost(&mut self, error: &NodeError) {
        self.node.state = state_of(error.kind);
        self.node.error = Some(error.detail.clone());
    }

    /// The report of an edge, made when it is first spoken of.
    pub(super) fn directory(&mut self, directory: &Directory) -> &mut DirectoryReport {
        let known = self.node.directories.iter().position(|known| known.name == directory.name);
        let index = known.unwrap_or_else(|| {
            self.node.directories.push(DirectoryReport::new(&directory.name));
            self.node.directories.len() - 1
        });
        &mut self.node.directories[index]
    }

    pub(super) fn halt(
        &mut self,
        directory: &Directory,
        guard: Guard,
        detail: String,
        token: Option<String>,
    ) {
        self.directory(directory).state = DirectoryState::Halted;
        let nodes = vec![self.node.name.clone()];
        self.halted.push(Halted { directory: directory.name.clone(), guard, detail, token, nodes });
        self.partial();
    }

    /// A directory that Main halted for every node.
    pub(super) fn halted_on_main(&mut self, directory: &Directory) {
        self.directory(directory).state = DirectoryState::Halted;
    }

    fn partial(&mut self) {
        if self.node.state == NodeState::Ok {
            self.node.state = NodeState::Partial;
        }
    }

    /// Something worth saying that is no failure.
    pub(super) fn warn(&mut self, stage: Stage, directory: &Directory, detail: &str) {
        let warning = problem(stage, Some(&self.node.name), Some(&directory.name), detail);
        self.problems.push(Problem { fails: false, ..warning });
    }

    /// The edge as a whole could not be done.
    pub(super) fn fail(&mut self, stage: Stage, directory: &Directory, detail: &str) {
        self.problems.push(problem(stage, Some(&self.node.name), Some(&directory.name), detail));
        let report = self.directory(directory);
        report.failed += 1;
        report.state = DirectoryState::Partial;
        self.partial();
    }

    /// One entry could not be done.
    pub(super) fn fail_path(
        &mut self,
        stage: Stage,
        directory: &Directory,
        path: &RelPathBuf,
        side: Side,
        detail: &str,
    ) {
        let node = (side == Side::Node).then_some(self.node.name.as_str());
        let problem = problem(stage, node, Some(&directory.name), detail);
        self.problems.push(Problem { path: Some(path.clone()), ..problem });
        let report = self.directory(directory);
        report.failed += 1;
        report.state = DirectoryState::Partial;
        self.partial();
    }

    /// What a plan says about an edge, before or without carrying it out.
    pub(super) fn planned(&mut self, directory: &Directory, plan: &EdgePlan) {
        for change in Confirmed::in_dry_run(&plan.changes).into_changes(&plan.notes) {
            self.change(directory, &change);
        }
        for blocked in &plan.failed {
            let detail = words::reason(&blocked.reason);
            self.fail_path(Stage::Scan, directory, &blocked.path, blocked.side, &detail);
        }
    }

    /// What is never carried; only what is not `known` from an earlier run is told as a change.
    pub(super) fn skipped(&mut self, directory: &Directory, skips: &[Skip], known: &[Skip]) {
        for skip in skips.iter().filter(|skip| !known.contains(skip)) {
            self.changes.push(NodeChange {
                directory: directory.name.clone(),
                node: self.node.name.clone(),
                to: skip.side.other(),
                kind: ChangeKind::Skip,
                path: skip.path.clone(),
                bytes: 0,
                reason: Some(skip.reason.clone()),
                id: None,
            });
        }
        self.directory(directory).skipped = skips
            .iter()
            .map(|skip| PathNote {
                path: skip.path.clone(),
                side: skip.side,
                reason: Some(skip.reason.clone()),
            })
            .collect();
    }

    fn change(&mut self, directory: &Directory, change: &Change) {
        self.directory(directory).count(change.kind);
        self.changes.push(node_change(&directory.name, &self.node.name, change, None));
    }

    /// Notes under which ids lies in the trash what stood on one side before.
    pub(super) fn trashed(&mut self, directory: &Directory, side: Side, trashed: &[TrashEntry]) {
        let ids: HashMap<&RelPath, &TrashId> =
            trashed.iter().map(|entry| (&*entry.place.path, &entry.place.id)).collect();
        let told = |told: &&mut NodeChange| told.directory == directory.name && told.to == side;
        for told in self.changes.iter_mut().filter(told) {
            if let Some(id) = ids.get(&*told.path)
                && !matches!(told.kind, ChangeKind::Hold | ChangeKind::Skip)
            {
                told.id = Some(id.to_string());
            }
        }
    }

    /// Takes back the changes of actions that were not done, and tells why. What has changed since it was looked
    /// at is held back like any other file that is being written; the next run sees to it.
    pub(super) fn outcomes(
        &mut self,
        directory: &Directory,
        side: Side,
        actions: &[Action],
        outcomes: &[Outcome],
    ) {
        for (action, outcome) in actions.iter().zip(outcomes) {
            if *outcome != Outcome::Done {
                self.take_back(directory, side, action);
            }
            match outcome {
                Outcome::Done => {}
                Outcome::Changed => {
                    let (path, reason) = (action.path.clone(), Some(Reason::ChangedDuringRun));
                    let held = Change { path, to: side, kind: ChangeKind::Hold, bytes: 0, reason };
                    self.change(directory, &held);
                }
                Outcome::Failed(why) => self.fail_path(Stage::Commit, directory, &action.path, side, why),
            }
        }
    }

    fn take_back(&mut self, directory: &Directory, side: Side, action: &Action) {
        let is_this = |told: &NodeChange| {
            told.directory == directory.name && told.to == side && told.path == action.path
        };
        let Some(index) = self.changes.iter().position(is_this) else { return };
        let told = self.changes.remove(index);
        let report = self.directory(directory);
        let count = match told.kind {
            ChangeKind::Create => &mut report.created,
            ChangeKind::Delete => &mut report.deleted,
            ChangeKind::Conflict => &mut report.conflicts,
            _ => &mut report.updated,
        };
        *count = count.saturating_sub(1);
    }

    /// Marks the node as partial when a reload has not succeeded.
    pub(super) fn reload_failed(&mut self) {
        self.partial();
    }

    /// Hands everything to the report of the run. What stopped several nodes in the same way is one thing.
    pub(super) fn report(self, report: &mut Report) {
        report.nodes.push(self.node);
        report.changes.extend(self.changes);
        report.problems.extend(self.problems);
        for halted in self.halted {
            let same = |known: &&mut Halted| {
                (&known.directory, known.guard, &known.token)
                    == (&halted.directory, halted.guard, &halted.token)
                    && known.detail == halted.detail
            };
            match report.halted.iter_mut().find(same) {
                Some(known) => known.nodes.extend(halted.nodes),
                None => report.halted.push(halted),
            }
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Entry, PlannedChange, Step, Symlink};

    fn action(path: &str) -> Action {
        let entry = Entry::Symlink(Symlink { target: b"x"[..].into() });
        Action { path: RelPathBuf::new(path.as_bytes()).unwrap(), expected: None, step: Step::Put(entry) }
    }

    fn planned(actions: &[Action]) -> EdgePlan {
        let change = |(index, action): (usize, &Action)| PlannedChange {
            change: Change {
                path: action.path.clone(),
                to: Side::Node,
                kind: ChangeKind::Create,
                bytes: 0,
                reason: None,
            },
            action: index,
            clearing: None,
        };
        let changes = actions.iter().enumerate().map(change).collect();
        EdgePlan { actions: actions.to_vec(), changes, ..EdgePlan::default() }
    }

    #[test]
    fn only_what_was_done_is_told_as_done() {
        let node = Node {
            name: "mds1".to_owned(),
            address: "10.0.0.11".to_owned(),
            labels: Vec::new(),
            paths: std::collections::BTreeMap::new(),
            user: None,
            port: None,
            identity: None,
        };
        let directory = Directory::built_in_moh();
        let actions = ["done", "changed", "failed"].map(action);
        let mut tally = Tally::new(&node);
        tally.planned(&directory, &planned(&actions));
        assert_eq!(tally.directory(&directory).created, 3);

        let outcomes = [Outcome::Done, Outcome::Changed, Outcome::Failed("EIO".to_owned())];
        tally.outcomes(&directory, Side::Node, &actions, &outcomes);
        let report = tally.directory(&directory).clone();
        assert_eq!((report.created, report.held, report.failed), (1, 1, 1));
        assert_eq!(report.state, DirectoryState::Partial);
        let told: Vec<_> = tally.changes.iter().map(|told| (told.path.escaped(), told.kind)).collect();
        assert_eq!(told, [("done".to_owned(), ChangeKind::Create), ("changed".to_owned(), ChangeKind::Hold)]);
        assert_eq!(tally.problems.len(), 1);
        assert_eq!(tally.node.state, NodeState::Partial);
    }
}
