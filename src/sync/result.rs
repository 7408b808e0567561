//! What became of an edge and of a node, and the report that is made of it once, at the end.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Change, ChangeKind, NodeChange, Outcome, RelPath, ReloadState, Side};
use crate::node::NodeErrorKind;
use crate::plan::EdgePlan;
use crate::report::{
    Confirmed, DirectoryReport, DirectoryState, Halted, NodeReport, NodeState, PathNote, Problem, Report,
    Stage, confirmed, node_change, words,
};
use crate::state::Skip;
use crate::sync::edge::{EdgeRun, EdgeState};
use crate::sync::node_run::{Failure, NodeRun};
use crate::transfer::trash::{TrashEntry, TrashId};

/// What a run did on an edge. Nothing of it is counted before the end.
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
    problems: Vec<(Stage, String, Severity)>,
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
    pub(super) known: Vec<Skip>,
    /// Those that are there now.
    pub(super) now: Vec<Skip>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Severity {
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

    /// What became of the planned changes.
    fn confirmed(&self, dry_run: bool) -> Confirmed {
        if dry_run {
            return Confirmed::in_dry_run(&self.plan.changes);
        }
        let on_main = self.on_main.as_ref().map_or(&[][..], |main| &main.outcomes);
        confirmed(&self.plan.changes, &self.on_node.outcomes, on_main)
    }

    /// The ids under which the trash of a host has what its changes replaced.
    fn trash_ids(&self) -> HashMap<(Side, &RelPath), &TrashId> {
        let on_main = self.on_main.iter().flat_map(|main| &main.trashed).map(|entry| (Side::Main, entry));
        let on_node = self.on_node.trashed.iter().map(|entry| (Side::Node, entry));
        on_main.chain(on_node).map(|(side, entry)| ((side, &*entry.place.path), &entry.place.id)).collect()
    }
}

/// The standing skips of a plan, as they are recorded.
pub(super) fn skips(plan: &EdgePlan) -> Vec<Skip> {
    let skips = plan.skipped.iter();
    skips
        .map(|skip| Skip { path: skip.path.clone(), side: skip.side, reason: words::reason(&skip.reason) })
        .collect()
}

/// Adds a node's part to the report of the run.
pub(super) fn report(node: NodeRun<'_>, dry_run: bool, report: &mut Report) {
    let (name, mut state) = (node.spec.name.clone(), node.state());
    let mut directories = Vec::new();
    let problems = report.problems.len();
    for edge in &node.edges {
        directories.push(report_edge(edge, dry_run, report));
    }
    report.problems.extend(node.problems);
    let error = match node.failure {
        None => None,
        Some(Failure::Lost(error)) => Some(error.detail),
        Some(Failure::Internal(words)) => {
            let detail = format!("internal error: {words}; please report this");
            report.problems.push(problem(Stage::Internal, Some(&name), None, detail.clone()));
            Some(detail)
        }
    };
    let is_partial = directories.iter().any(|directory| directory.state == DirectoryState::Partial)
        || node.edges.iter().any(|edge| matches!(edge.state, EdgeState::Halted(_)))
        || report.problems[problems..].iter().any(|problem| problem.fails)
        || node.reloads.iter().any(|reload| matches!(reload.state, ReloadState::Owed | ReloadState::Failed));
    if is_partial && state == NodeState::Ok {
        state = NodeState::Partial;
    }
    let address = node.spec.address.clone();
    report.nodes.push(NodeReport { name, address, state, error, directories, reloads: node.reloads });
}

fn report_edge(edge: &EdgeRun<'_>, dry_run: bool, report: &mut Report) -> DirectoryReport {
    let (result, name, node) = (&edge.result, edge.name(), edge.node);
    let mut directory = DirectoryReport::new(name);
    match &edge.state {
        EdgeState::Halted(halt) => {
            directory.state = DirectoryState::Halted;
            add_halt(report, name, node, halt);
        }
        EdgeState::HaltedOnMain => directory.state = DirectoryState::Halted,
        EdgeState::Open | EdgeState::InStep | EdgeState::Done | EdgeState::Failed => {}
    }
    let confirmed = result.confirmed(dry_run);
    directory.count_planned(confirmed.planned);
    directory.count_failed(confirmed.failed.len() as u64);
    for failed in &confirmed.failed {
        let host = (failed.side == Side::Node).then_some(node);
        let problem = problem(Stage::Commit, host, Some(name), failed.why.clone());
        report.problems.push(Problem { path: Some(failed.path.clone()), ..problem });
    }
    directory.count_failed(result.plan.failed.len() as u64);
    for obstacle in &result.plan.failed {
        let host = (obstacle.side == Side::Node).then_some(node);
        let problem = problem(Stage::Scan, host, Some(name), words::reason(&obstacle.reason));
        report.problems.push(Problem { path: Some(obstacle.path.clone()), ..problem });
    }
    for (stage, detail, severity) in &result.problems {
        let fails = *severity == Severity::Failure;
        directory.count_failed(u64::from(fails));
        let problem = problem(*stage, Some(node), Some(name), detail.clone());
        report.problems.push(Problem { fails, ..problem });
    }
    let ids = result.trash_ids();
    let changes = confirmed.into_changes(&result.plan.notes);
    for change in &changes {
        directory.count(change.kind);
        let id = ids.get(&(change.to, &*change.path)).filter(|_| change.kind.is_difference());
        report.changes.push(node_change(name, node, change, id.map(ToString::to_string)));
    }
    for skip in result.skips.now.iter().filter(|skip| !result.skips.known.contains(skip)) {
        report.changes.push(skipped(name, node, skip));
    }
    let note = |skip: &Skip| PathNote {
        path: skip.path.clone(),
        side: skip.side,
        reason: Some(skip.reason.clone()),
    };
    directory.skipped = result.skips.now.iter().map(note).collect();
    directory.waiting = result.waiting;
    directory.bytes = result.bytes;
    directory
}

fn skipped(directory: &str, node: &str, skip: &Skip) -> NodeChange {
    let change = Change {
        path: skip.path.clone(),
        to: skip.side.other(),
        kind: ChangeKind::Skip,
        bytes: 0,
        reason: None,
    };
    NodeChange { reason: Some(skip.reason.clone()), ..node_change(directory, node, &change, None) }
}

/// Adds a halted edge to the report. What stopped several nodes in the same way is one thing.
fn add_halt(report: &mut Report, directory: &str, node: &str, halt: &super::guard::Halt) {
    let is_same = |known: &&mut Halted| {
        known.directory == directory
            && known.guard == halt.guard
            && known.token == halt.token
            && known.detail == halt.detail
    };
    match report.halted.iter_mut().find(is_same) {
        Some(known) => known.nodes.push(node.to_owned()),
        None => report.halted.push(Halted {
            directory: directory.to_owned(),
            guard: halt.guard,
            detail: halt.detail.clone(),
            token: halt.token.clone(),
            nodes: vec![node.to_owned()],
        }),
    }
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
