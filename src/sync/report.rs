//! A node's part of the report, made once, when its part in the run is over, from what each of its edges has come to.

use std::collections::BTreeSet;

use crate::model::{Change, ChangeKind, NodeChange, Reason, ReloadState, Side};
use crate::plan::left::MAX_LEFT;
use crate::report::{
    Confirmed, DirectoryReport, DirectoryState, Halted, NodeReport, NodeState, PathNote, Problem, Report,
    Stage, Wording, words,
};
use crate::state::Skip;
use crate::sync::edge::{EdgeRun, EdgeState};
use crate::sync::node_run::{Failure, NodeRun};
use crate::sync::result::{Severity, Skips, problem};

/// Most problems of an edge that are listed one by one: a user of one host can make as many as there is room for.
const MAX_PROBLEMS: usize = 100;

/// What a node's part in a run came to.
pub(super) struct Part {
    pub(super) node: NodeReport,
    changes: Vec<NodeChange>,
    halted: Vec<Halted>,
    problems: Vec<Problem>,
    /// The directories in which something is left to do.
    unfinished: BTreeSet<String>,
}

impl Part {
    /// Whether nothing is left to do for the node in a directory, if it has a part in it.
    pub(super) fn has_finished(&self, directory: &str) -> bool {
        !self.unfinished.contains(directory)
    }

    /// Adds it to the report of the run.
    pub(super) fn add_to(self, report: &mut Report) {
        report.nodes.push(self.node);
        // One large part alone is not held twice.
        match report.changes.is_empty() {
            true => report.changes = self.changes,
            false => report.changes.extend(self.changes),
        }
        report.problems.extend(self.problems);
        self.halted.into_iter().for_each(|halted| add_halt(report, halted));
    }
}

/// The part of a node that does nothing more in this run.
pub(super) fn part(node: NodeRun<'_>, dry_run: bool) -> Part {
    let (name, mut state) = (node.spec.name.clone(), node.state());
    let interrupted = node.is_interrupted();
    let all = node.spec.edges.iter().map(|edge| &edge.directory.name);
    let unfinished = all.filter(|directory| !node.has_finished(directory)).cloned().collect();
    let is_halted = node.edges.iter().any(|edge| matches!(edge.state, EdgeState::Halted(_)));
    let mut told = Told::default();
    let told_of = |edge| report_edge(edge, (dry_run, node.spec.is_follower), &mut told);
    let directories: Vec<DirectoryReport> = node.edges.into_iter().map(told_of).collect();
    told.problems.extend(node.problems);
    let error = match node.failure {
        _ if interrupted => Some("interrupted".to_owned()),
        None | Some(Failure::Interrupted) => None,
        Some(Failure::Lost(error)) => Some(error.detail),
        Some(Failure::Internal(words)) => {
            let detail = format!("internal error: {words}; please report this");
            told.problems.push(problem(Stage::Internal, Some(&name), None, detail.clone()));
            Some(detail)
        }
    };
    let is_partial = directories.iter().any(|directory| directory.state == DirectoryState::Partial)
        || is_halted
        || told.problems.iter().any(|problem| problem.fails)
        || interrupted
        // In a dry run it is to be done, and nothing is amiss.
        || (!dry_run && node.reloads.iter().any(|reload| matches!(reload.state, ReloadState::Owed | ReloadState::Failed)));
    if is_partial && state == NodeState::Ok {
        state = NodeState::Partial;
    }
    let address = node.spec.address.clone();
    let reloads = node.reloads;
    let node = NodeReport { name, address, state, error, interrupted, directories, reloads, follows: None };
    Part { node, changes: told.changes, halted: told.halted, problems: told.problems, unfinished }
}

/// What is told beside a node and its directories.
#[derive(Default)]
struct Told {
    changes: Vec<NodeChange>,
    halted: Vec<Halted>,
    problems: Vec<Problem>,
}

fn report_edge(
    mut edge: EdgeRun<'_>,
    (dry_run, is_follower): (bool, bool),
    told: &mut Told,
) -> DirectoryReport {
    // Of a large plan these take most, and nothing of them is told.
    (edge.view, edge.record) = (None, None);
    drop(std::mem::take(&mut edge.result.plan.actions));
    let confirmed = edge.result.take_confirmed(dry_run);
    let (result, name, node) = (&edge.result, edge.name(), edge.node);
    let mut directory = DirectoryReport::new(name);
    match &edge.state {
        EdgeState::Halted(halt) => {
            directory.state = DirectoryState::Halted;
            told.halted.push(halt.clone().told(name, vec![node.to_owned()]));
        }
        EdgeState::HaltedOnMain => directory.state = DirectoryState::Halted,
        EdgeState::Open | EdgeState::InStep | EdgeState::Done | EdgeState::Failed => {}
    }
    directory.count_planned(confirmed.planned);
    directory.count_failed(confirmed.failed.len() as u64);
    directory.count_failed(result.plan.left.failed().count());
    for (_, _, severity) in &result.problems {
        directory.count_failed(u64::from(*severity == Severity::Failure));
    }
    add_problems(&edge, &confirmed, &mut told.problems);
    add_changes(&edge, confirmed, is_follower, &mut directory, told);
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
    directory.skipped = result.skips.now.first.iter().map(note).chain(unkept).collect();
    directory.own.clone_from(&result.own);
    directory.waiting = result.waiting;
    directory.not_taken = result.plan.not_taken;
    directory.bytes = result.bytes;
    directory
}

/// Tells and counts what was done on an edge, and what was left: of that the first paths one by one, the rest as a number.
fn add_changes(
    edge: &EdgeRun<'_>,
    confirmed: Confirmed,
    is_follower: bool,
    directory: &mut DirectoryReport,
    told: &mut Told,
) {
    let (result, name, node) = (&edge.result, edge.name(), edge.node);
    let ids = result.trash_ids();
    let mut changes = confirmed.into_changes(result.plan.left.notes());
    if is_follower {
        // What goes there is told of there, once it has come.
        changes.retain(|change| change.to == Side::Main || !change.kind.is_difference());
    }
    let (mut wording, mut notes) = (Wording::new(name, node), 0);
    for change in changes {
        directory.count(change.kind, 1);
        let is_note = !change.kind.is_difference() || change.reason == Some(Reason::ConflictWaits);
        notes += usize::from(is_note);
        if notes > MAX_LEFT && is_note {
            continue;
        }
        let id = ids.get(&(change.to, &*change.path)).filter(|_| change.kind.is_difference());
        let id = id.map(ToString::to_string);
        told.changes.push(wording.change(change, id.as_deref()));
    }
    let Skips { known, now } = &result.skips;
    for skip in now.first.difference(&known.first) {
        told.changes.push(skipped(&mut wording, skip));
    }
    let mut unlisted = notes.saturating_sub(MAX_LEFT) as u64;
    for (kind, number) in result.plan.left.more_notes() {
        directory.count(kind, number);
        unlisted += number;
    }
    // What is skipped stays so; a run says it once.
    let skipped = if now.more == known.more { 0 } else { now.more };
    for (number, what) in [(unlisted, "held back, left or waiting for a decision"), (skipped, "skipped")] {
        if number > 0 {
            let detail = format!("{number} more paths are {what} than are listed");
            told.problems
                .push(Problem { fails: false, ..problem(Stage::Scan, Some(node), Some(name), detail) });
        }
    }
}

/// Tells what went wrong on an edge: the first problems one by one, the rest as a number.
fn add_problems(edge: &EdgeRun<'_>, confirmed: &Confirmed, problems: &mut Vec<Problem>) {
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
    problems.extend(all.by_ref().take(MAX_PROBLEMS));
    let (more, fails) = all.fold((0_u64, false), |(more, fails), one| (more + 1, fails || one.fails));
    let unnamed = result.plan.left.failed().more;
    let (more, fails) = (more + unnamed, fails || unnamed > 0);
    if more > 0 {
        let detail = format!("{more} more problems, not listed");
        problems.push(Problem { fails, ..problem(Stage::Commit, Some(node), Some(name), detail) });
    }
}

fn skipped(wording: &mut Wording, skip: &Skip) -> NodeChange {
    let change = Change {
        path: skip.path.clone(),
        to: skip.side.other(),
        kind: ChangeKind::Skip,
        bytes: 0,
        is_dir: false,
        reason: None,
    };
    NodeChange { reason: Some(skip.reason.as_str().into()), ..wording.change(change, None) }
}

/// Adds a halted edge to the report. What stopped several nodes in the same way is one thing.
fn add_halt(report: &mut Report, halted: Halted) {
    let is_same = |known: &&mut Halted| {
        known.directory == halted.directory
            && known.guard == halted.guard
            && known.token == halted.token
            && known.detail == halted.detail
    };
    match report.halted.iter_mut().find(is_same) {
        Some(known) => known.nodes.extend(halted.nodes),
        None => report.halted.push(halted),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{BlockedPath, Busy, EntryProblem, Reason, RelPathBuf};
    use crate::plan::{EdgePlan, Left};
    use crate::snapshot::Scanned;
    use crate::state;
    use crate::sync::result::EdgeResult;
    use crate::sync::spec::{EdgeSpec, tests::directory};

    /// The report of an edge with this plan.
    fn reported(plan: EdgePlan, now: state::Skips) -> (DirectoryReport, Told) {
        let of = directory("recordings");
        let spec = EdgeSpec { scan: of.scan.clone(), directory: Arc::new(of) };
        let scanned = Scanned::unusable(String::new());
        let edge = EdgeRun {
            spec: &spec,
            node: "mds1",
            loaded: scanned.loaded,
            scanned,
            record: None,
            tells_base: false,
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
        let mut told = Told::default();
        (report_edge(edge, (false, false), &mut told), told)
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
                MAX_LEFT,
                "4000 more paths are held back, left or waiting for a decision than are listed",
            ),
            (
                "conflicts that wait",
                plan(note(ChangeKind::Conflict, Reason::ConflictWaits)),
                none(),
                MAX_LEFT,
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
            let (directory, told) = reported(plan, skips);
            assert_eq!(told.changes.len(), changes, "{what}");
            assert!(told.problems.len() <= MAX_PROBLEMS + 1, "{what}");
            assert_eq!(told.problems.last().unwrap().detail, more, "{what}");
            let counted = directory.held + directory.conflicts + directory.failed;
            assert_eq!(counted, if what == "sockets" { 0 } else { MANY as u64 }, "{what}");
        }
    }
}
