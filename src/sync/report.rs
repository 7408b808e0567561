//! The report of a run, made once, at the end, from what every edge has come to.

use crate::model::{Change, ChangeKind, NodeChange, Reason, ReloadState, Side};
use crate::report::{
    Confirmed, DirectoryReport, DirectoryState, Halted, NodeReport, NodeState, PathNote, Problem, Report,
    Stage, node_change, words,
};
use crate::state::Skip;
use crate::sync::edge::{EdgeRun, EdgeState};
use crate::sync::halt::Halt;
use crate::sync::node_run::{Failure, NodeRun};
use crate::sync::result::{Severity, Skips, problem};

/// Most problems of an edge that are listed one by one: a user of one host can make as many as there is room for.
const MAX_PROBLEMS: usize = 100;
/// Most paths of an edge that are listed as left alone in a run, such as files that are being written and conflicts
/// that wait.
const MAX_NOTES: usize = 1000;

/// Adds a node's part to the report of the run.
pub(super) fn add(node: NodeRun<'_>, dry_run: bool, report: &mut Report) {
    let (name, mut state) = (node.spec.name.clone(), node.state());
    let interrupted = node.is_interrupted();
    let mut directories = Vec::new();
    let problems = report.problems.len();
    for edge in &node.edges {
        directories.push(report_edge(edge, (dry_run, node.spec.is_follower), report));
    }
    report.problems.extend(node.problems);
    let error = match node.failure {
        _ if interrupted => Some("interrupted".to_owned()),
        None | Some(Failure::Interrupted) => None,
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
        || interrupted
        // In a dry run it is to be done, and nothing is amiss.
        || (!dry_run && node.reloads.iter().any(|reload| matches!(reload.state, ReloadState::Owed | ReloadState::Failed)));
    if is_partial && state == NodeState::Ok {
        state = NodeState::Partial;
    }
    let address = node.spec.address.clone();
    report.nodes.push(NodeReport {
        name,
        address,
        state,
        error,
        interrupted,
        directories,
        reloads: node.reloads,
        follows: None,
    });
}

fn report_edge(
    edge: &EdgeRun<'_>,
    (dry_run, is_follower): (bool, bool),
    report: &mut Report,
) -> DirectoryReport {
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
    directory.count_failed(result.plan.left.failed().count());
    for (_, _, severity) in &result.problems {
        directory.count_failed(u64::from(*severity == Severity::Failure));
    }
    add_problems(edge, &confirmed, report);
    let ids = result.trash_ids();
    let mut changes = confirmed.into_changes(result.plan.left.notes());
    if is_follower {
        // What goes there is told of there, once it has come.
        changes.retain(|change| change.to == Side::Main || !change.kind.is_difference());
    }
    let mut notes = 0;
    for change in &changes {
        directory.count(change.kind, 1);
        let is_note = !change.kind.is_difference() || change.reason == Some(Reason::ConflictWaits);
        notes += usize::from(is_note);
        if notes > MAX_NOTES && is_note {
            continue;
        }
        let id = ids.get(&(change.to, &*change.path)).filter(|_| change.kind.is_difference());
        report.changes.push(node_change(name, node, change, id.map(ToString::to_string)));
    }
    let Skips { known, now } = &result.skips;
    for skip in now.first.difference(&known.first) {
        report.changes.push(skipped(name, node, skip));
    }
    let mut unlisted = notes.saturating_sub(MAX_NOTES) as u64;
    for (kind, number) in result.plan.left.more_notes() {
        directory.count(kind, number);
        unlisted += number;
    }
    for (number, what) in [(unlisted, "held back, left or waiting for a decision"), (now.more, "skipped")] {
        // What is skipped stays so; a run says it once.
        if number > 0 && (what != "skipped" || now.more != known.more) {
            let detail = format!("{number} more paths are {what} than are listed");
            report
                .problems
                .push(Problem { fails: false, ..problem(Stage::Scan, Some(node), Some(name), detail) });
        }
    }
    let note = |skip: &Skip| PathNote {
        path: skip.path.clone(),
        side: skip.side,
        reason: Some(skip.reason.clone()),
    };
    let unkept = result.unkept.iter().map(|(attribute, path)| PathNote {
        path: path.clone(),
        side: Side::Node,
        reason: Some(words::unkept_here(attribute)),
    });
    directory.skipped = now.first.iter().map(note).chain(unkept).collect();
    directory.own.clone_from(&result.own);
    directory.waiting = result.waiting;
    directory.not_taken = result.plan.not_taken;
    directory.bytes = result.bytes;
    directory
}

/// Adds what went wrong on an edge to the report: the first problems one by one, the rest as a number.
fn add_problems(edge: &EdgeRun<'_>, confirmed: &Confirmed, report: &mut Report) {
    let (result, name, node) = (&edge.result, edge.name(), edge.node);
    let host = |side| (side == Side::Node).then_some(node);
    let of_edge = result.problems.iter().map(|(stage, detail, severity)| Problem {
        fails: *severity == Severity::Failure,
        ..problem(*stage, Some(node), Some(name), detail.clone())
    });
    let failed = confirmed.failed.iter().map(|failed| Problem {
        path: Some(failed.path.clone()),
        ..problem(Stage::Commit, host(failed.side), Some(name), failed.why.clone())
    });
    let obstacles = result.plan.left.failed().first.iter().map(|obstacle| Problem {
        path: Some(obstacle.path.clone()),
        ..problem(Stage::Scan, host(obstacle.side), Some(name), words::reason(&obstacle.reason))
    });
    // Those of the edge as a whole, which are few, come first.
    let mut all = of_edge.chain(failed).chain(obstacles);
    report.problems.extend(all.by_ref().take(MAX_PROBLEMS));
    let (more, fails) = all.fold((0_u64, false), |(more, fails), one| (more + 1, fails || one.fails));
    let unnamed = result.plan.left.failed().more;
    let (more, fails) = (more + unnamed, fails || unnamed > 0);
    if more > 0 {
        let detail = format!("{more} more problems, not listed");
        report.problems.push(Problem { fails, ..problem(Stage::Commit, Some(node), Some(name), detail) });
    }
}

fn skipped(directory: &str, node: &str, skip: &Skip) -> NodeChange {
    let change = Change {
        path: skip.path.clone(),
        to: skip.side.other(),
        kind: ChangeKind::Skip,
        bytes: 0,
        is_dir: false,
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
            paths: halt.paths.clone(),
            restore: halt.restore.clone(),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::model::{BlockedPath, Busy, EntryProblem, Reason, RelPathBuf};
    use crate::plan::{EdgePlan, Left};
    use crate::snapshot::Scanned;
    use crate::state;
    use crate::sync::result::EdgeResult;
    use crate::sync::spec::{EdgeSpec, tests::directory};

    /// The report of an edge with this plan.
    fn reported(plan: EdgePlan, now: state::Skips) -> (DirectoryReport, Report) {
        let of = directory("recordings");
        let spec = EdgeSpec { scan: of.scan.clone(), directory: Arc::new(of) };
        let scanned = Scanned::unusable(String::new());
        let edge = EdgeRun {
            spec: &spec,
            node: "mds1",
            loaded: scanned.loaded,
            scanned,
            record: None,
            unconfirmed: false,
            is_ahead: false,
            state: EdgeState::Done,
            view: None,
            result: EdgeResult {
                plan,
                skips: Skips { known: state::Skips::default(), now },
                ..EdgeResult::default()
            },
        };
        let mut report = Report {
            run: "01RUN".to_owned(),
            started: UNIX_EPOCH,
            duration: Duration::ZERO,
            dry_run: false,
            nodes: Vec::new(),
            changes: Vec::new(),
            halted: Vec::new(),
            problems: Vec::new(),
            interrupted: false,
        };
        (report_edge(&edge, (false, false), &mut report), report)
    }

    fn path(number: usize) -> RelPathBuf {
        RelPathBuf::new(format!("{number:06}").into_bytes()).unwrap()
    }

    #[test]
    fn whatever_a_user_has_many_of_is_listed_up_to_a_number() {
        const MANY: usize = 5000;
        let note = |kind, reason: Reason| {
            let note = |path| Change {
                path,
                to: Side::Node,
                kind,
                bytes: 0,
                is_dir: false,
                reason: Some(reason.clone()),
            };
            let mut left = Left::default();
            (0..MANY).for_each(|number| left.note(note(path(number))));
            left
        };
        let blocked = |number: usize| BlockedPath {
            path: path(number),
            side: Side::Node,
            reason: Reason::Problem(EntryProblem::Unreadable("EIO".into())),
        };
        let skip = |number| Skip { path: path(number), side: Side::Node, reason: "a socket".to_owned() };
        let unreadable = || {
            let mut left = Left::default();
            (0..MANY).for_each(|number| left.block(blocked(number)));
            left
        };
        let plan = |left| EdgePlan { left, ..EdgePlan::default() };
        let none = state::Skips::default;
        for (what, plan, skips, changes, more) in [
            (
                "open files",
                plan(note(ChangeKind::Hold, Reason::Busy(Busy::Open))),
                none(),
                MAX_NOTES,
                "4000 more paths are held back, left or waiting for a decision than are listed",
            ),
            (
                "conflicts that wait",
                plan(note(ChangeKind::Conflict, Reason::ConflictWaits)),
                none(),
                MAX_NOTES,
                "4000 more paths are held back, left or waiting for a decision than are listed",
            ),
            ("unreadable files", plan(unreadable()), none(), 0, "4900 more problems, not listed"),
            (
                "sockets",
                plan(Left::default()),
                state::Skips::of((0..MANY).map(skip)),
                1000,
                "4000 more paths are skipped than are listed",
            ),
        ] {
            let (directory, report) = reported(plan, skips);
            assert_eq!(report.changes.len(), changes, "{what}");
            assert!(report.problems.len() <= MAX_PROBLEMS + 1, "{what}");
            assert_eq!(report.problems.last().unwrap().detail, more, "{what}");
            let counted = directory.held + directory.conflicts + directory.failed;
            assert_eq!(counted, if what == "sockets" { 0 } else { MANY as u64 }, "{what}");
        }
    }
}
