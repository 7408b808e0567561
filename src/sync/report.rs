//! The report of a run, made once, at the end, from what every edge has come to.

use crate::model::{Change, ChangeKind, NodeChange, ReloadState, Side};
use crate::report::{
    DirectoryReport, DirectoryState, Halted, NodeReport, NodeState, PathNote, Problem, Report, Stage,
    node_change, words,
};
use crate::state::Skip;
use crate::sync::edge::{EdgeRun, EdgeState};
use crate::sync::halt::Halt;
use crate::sync::node_run::{Failure, NodeRun};
use crate::sync::result::{Severity, problem};

/// Adds a node's part to the report of the run.
pub(super) fn add(node: NodeRun<'_>, dry_run: bool, report: &mut Report) {
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
fn add_halt(report: &mut Report, directory: &str, node: &str, halt: &Halt) {
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
