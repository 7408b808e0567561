//! `status.json`: what the last runs left behind, for `status` and for whoever else reads it.
//!
//! A run for some nodes or directories speaks for these alone; the rest stays as the run before said.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::exit::{ALL_LOST, CONFLICT, IN_STEP, PARTIAL, RELOAD, SOME_LOST, first_of};
use super::{
    DirectoryReport, DirectoryState, Follows, Halted, Newer, NodeReport, NodeState, NodesOwn, PathNote,
    Problem, Report, Stage,
};
use crate::model::{ChangeKind, ReloadOutcome, ReloadState, read_rfc3339, rfc3339};

/// What is known after the last run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The last run.
    pub run: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// Its exit code.
    pub exit_code: Option<u8>,
    /// The exit code that stands for all of this, as `status` ends with it: the last run may have been for some nodes only.
    #[serde(default)]
    pub status_code: u8,
    /// Every node, as far as known.
    pub nodes: Vec<NodeStatus>,
    /// What is halted.
    pub halted: Vec<Halted>,
    /// What went wrong beside that.
    pub problems: Vec<Problem>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    pub address: String,
    pub state: NodeState,
    pub exit_code: u8,
    pub error: Option<String>,
    /// When this state began.
    pub since: String,
    /// The end of the last run over all directories that left it in step.
    pub last_success: Option<String>,
    pub directories: Vec<DirectoryStatus>,
    pub reloads: Vec<ReloadOutcome>,
    /// The reloads that are due.
    pub owed: Vec<String>,
    /// Of one that follows the store, what it has told of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
    /// The end of the last run that was for it.
    #[serde(default)]
    pub looked: Option<String>,
}

impl NodeStatus {
    /// Whether nothing is wrong with it.
    pub(super) fn is_well(&self) -> bool {
        self.exit_code == IN_STEP && self.silence().is_none()
    }

    /// Of one that follows the store and is fine as far as Main knows: what is wrong with it by its own words.
    pub(super) fn silence(&self) -> Option<&'static str> {
        let looked = self.looked.as_deref().and_then(read_rfc3339);
        self.follows.as_ref().filter(|_| self.exit_code == IN_STEP)?.trouble(looked)
    }
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectoryStatus {
    pub name: String,
    pub state: DirectoryState,
    pub held: u64,
    /// The files that `held` counts.
    pub held_paths: Vec<PathNote>,
    /// Conflicts that wait for a decision.
    pub waiting: u64,
    pub failed: u64,
    /// What is not carried for as long as it stands there.
    pub skipped: Vec<PathNote>,
    /// How many `skipped` are, also where they are not named.
    #[serde(default)]
    pub left_alone: u64,
    /// What the node alone has, as the last run that looked at it saw it.
    #[serde(default)]
    pub own: Option<NodesOwn>,
}

/// What a run speaks for; empty lists mean all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// `--node`.
    pub nodes: &'a [String],
    /// `--dir`.
    pub directories: &'a [String],
    /// What later runs have recorded before it.
    pub newer: Option<&'a Newer>,
}

impl Scope<'_> {
    /// Whether the run was for everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.nodes.is_empty() && self.directories.is_empty()
    }

    fn has_node(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|known| known == node)
    }

    fn has_directory(&self, directory: &str) -> bool {
        self.directories.is_empty() || self.directories.iter().any(|known| known == directory)
    }

    /// Whether a later run speaks for a node, or for its directory.
    fn is_outdated(&self, node: &str, directory: Option<&str>) -> bool {
        self.newer.is_some_and(|newer| match directory {
            Some(directory) => newer.has(node, directory),
            None => newer.has_node(node),
        })
    }

    /// Whether the run speaks for what concerns this node and directory; `None` concerns all.
    fn covers(&self, node: Option<&str>, directory: Option<&str>) -> bool {
        if node.is_some_and(|node| self.is_outdated(node, directory)) {
            return false;
        }
        node.map_or(self.nodes.is_empty(), |node| self.has_node(node))
            && directory.map_or(self.directories.is_empty(), |directory| self.has_directory(directory))
    }
}

impl Status {
    /// Reads what [`Status::to_json`] made.
    pub fn parse(json: &[u8]) -> Result<Status, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::to_json(self)
    }

    /// What is known after one more run, which was no dry run.
    #[must_use]
    pub fn after(&self, report: &Report, exit_code: u8, scope: Scope<'_>) -> Status {
        let is_lost = |name: &str| self.nodes.iter().any(|node| node.name == name && node.state.is_lost());
        let left = scope.newer.map(|newer| newer.leave_out(report, is_lost));
        let (report, exit_code) = match &left {
            Some(left) if left != report => (left, left.exit_code()),
            _ => (report, exit_code),
        };
        let ended = rfc3339(report.started + report.duration);
        let nodes = self.nodes_after(report, &ended, scope);

        let is_outdated_halt = |halted: &Halted| match halted.nodes.as_slice() {
            [] => scope.covers(None, Some(&halted.directory)),
            nodes => nodes.iter().all(|node| scope.covers(Some(node), Some(&halted.directory))),
        };
        let mut halted = self.halted.clone();
        halted.retain(|halted| !is_outdated_halt(halted));
        halted.extend(report.halted.iter().cloned());
        let mut problems = self.problems.clone();
        problems.retain(|problem| !scope.covers(problem.node.as_deref(), problem.directory.as_deref()));
        problems.extend(report.problems.iter().cloned());
        let (run, ended, exit_code) = (Some(report.run.clone()), Some(ended), Some(exit_code));
        Status { run, ended, exit_code, status_code: IN_STEP, nodes, halted, problems }.with_code()
    }

    /// What is known after a publication by hand, of which this is to be said: what was said of the last one holds no more.
    #[must_use]
    pub fn after_publication(mut self, problems: &[Problem]) -> Status {
        let is_told = |problem: &Problem| problem.stage == Stage::Publish;
        if self.problems.iter().any(|problem| is_told(problem) && problem.fails) {
            // The run's exit code may be of that alone: what is left tells for itself.
            self.exit_code = None;
            self.exit_code = Some(self.clone().without(is_told).with_code().status_code);
        }
        self = self.without(is_told);
        self.problems.extend(problems.iter().filter(|problem| is_told(problem)).cloned());
        self.with_code()
    }

    fn without(mut self, is_outdated: impl Fn(&Problem) -> bool) -> Status {
        self.problems.retain(|problem| !is_outdated(problem));
        self
    }

    /// All nodes after one more run, each at the place that it had.
    fn nodes_after(&self, report: &Report, ended: &str, scope: Scope<'_>) -> Vec<NodeStatus> {
        // There may be very many.
        let known: HashMap<&str, &NodeStatus> = self.nodes.iter().map(|node| (&*node.name, node)).collect();
        let known = |name: &str| known.get(name).copied();
        let after = report.nodes.iter().map(|node| match known(&node.name) {
            // Whatever a run would have come to that somebody has ended.
            Some(known) if node.interrupted => known.clone(),
            Some(known) if scope.is_outdated(&node.name, None) && node.directories.is_empty() => {
                known.clone()
            }
            before => node_after(before, &self.halted, report, node, ended, scope),
        });
        let after: Vec<NodeStatus> = after.collect();
        // A run for all nodes knows their order, and a node that it does not name is no longer configured.
        if scope.nodes.is_empty() {
            return after;
        }
        let mut nodes = self.nodes.clone();
        let places: HashMap<&str, usize> = self.nodes.iter().map(|node| &*node.name).zip(0..).collect();
        for node in after {
            match places.get(&*node.name) {
                Some(place) => nodes[*place] = node,
                None => nodes.push(node),
            }
        }
        nodes
    }

    /// Adds to a report what only nodes have, where it was known and the run had no reason to look.
    pub fn fill_in(&self, report: &mut Report) {
        for node in &mut report.nodes {
            let Some(known) = self.nodes.iter().find(|known| known.name == node.name) else { continue };
            for directory in &mut node.directories {
                let known = known.directories.iter().find(|known| known.name == directory.name);
                directory.own = directory.own.take().or_else(|| known?.own.clone());
            }
        }
    }

    /// What is known of these nodes, in this order; of others nothing.
    #[must_use]
    pub fn of_nodes(mut self, names: &[&str]) -> Status {
        let places: HashMap<&str, usize> = names.iter().copied().zip(0..).collect();
        let place = |name: &str| places.get(name).copied();
        self.nodes.retain(|node| place(&node.name).is_some());
        self.nodes.sort_by_key(|node| place(&node.name));
        self.halted.retain_mut(|halted| {
            let was_for_all = halted.nodes.is_empty();
            halted.nodes.retain(|node| place(node).is_some());
            was_for_all || !halted.nodes.is_empty()
        });
        self.problems.retain(|problem| problem.node.as_deref().is_none_or(|node| place(node).is_some()));
        self.with_code()
    }

    /// With the code that stands for all of it.
    fn with_code(mut self) -> Status {
        let is_lost = |node: &NodeStatus| node.exit_code == ALL_LOST;
        let mut codes: Vec<u8> = self.halted.iter().map(|halted| halted.guard.exit_code()).collect();
        codes.extend(self.nodes.iter().map(|node| if is_lost(node) { SOME_LOST } else { node.exit_code }));
        if !self.nodes.is_empty() && self.nodes.iter().all(is_lost) {
            codes.push(ALL_LOST);
        }
        let failures = self.problems.iter().filter(|problem| problem.fails);
        codes.extend(failures.map(|problem| match problem.stage.exit_code() {
            SOME_LOST if self.nodes.is_empty() => ALL_LOST,
            code => code,
        }));
        // Of lost nodes the nodes tell: all those of the last run need not be all there are.
        codes.extend(self.exit_code.filter(|code| ![SOME_LOST, ALL_LOST].contains(code)));
        self.status_code = first_of(&codes);
        self
    }
}

/// What is known of a node after a run that was for it.
fn node_after(
    before: Option<&NodeStatus>,
    halted_before: &[Halted],
    report: &Report,
    node: &NodeReport,
    ended: &str,
    scope: Scope<'_>,
) -> NodeStatus {
    let known = if scope.directories.is_empty() && !scope.is_outdated(&node.name, None) {
        after_all_directories(before, report, node)
    } else {
        after_some_directories(before, halted_before, report, node, scope)
    };
    let is_same_state = |before: &&NodeStatus| written_alike(before.state, known.state);
    let since = before.filter(is_same_state).map_or(ended, |before| &before.since);
    let is_success = scope.directories.is_empty() && known.exit_code == IN_STEP && !report.interrupted;
    let last_success = match is_success {
        true => Some(ended.to_owned()),
        false => before.and_then(|before| before.last_success.clone()),
    };
    NodeStatus {
        name: node.name.clone(),
        address: node.address.clone(),
        state: known.state,
        exit_code: known.exit_code,
        error: node.error.clone(),
        since: since.to_owned(),
        last_success,
        owed: known
            .reloads
            .iter()
            .filter(|reload| is_owed(reload))
            .map(|reload| reload.name.clone())
            .collect(),
        directories: known.directories,
        reloads: known.reloads,
        follows: node.follows.clone(),
        looked: Some(ended.to_owned()),
    }
}

/// How a node stands.
struct Known {
    state: NodeState,
    exit_code: u8,
    directories: Vec<DirectoryStatus>,
    reloads: Vec<ReloadOutcome>,
}

/// After a run over all directories: it says all there is to know of the node. Of one that it did not reach, it says
/// why; the node's directories and owed reloads are as they were.
fn after_all_directories(before: Option<&NodeStatus>, report: &Report, node: &NodeReport) -> Known {
    let code = report.node_exit_code(node);
    let mut directories = directories_of(before, report, node);
    let mut reloads = node.reloads.clone();
    if let (true, Some(before)) = (node.directories.is_empty(), before) {
        directories.clone_from(&before.directories);
        reloads.extend(still_told(before, node));
    }
    let (state, exit_code) = match node.state.is_lost() {
        true => (node.state, code),
        false if code == IN_STEP && are_in_step(&directories, &reloads) => (NodeState::Ok, IN_STEP),
        false => (NodeState::Partial, code),
    };
    Known { state, exit_code, directories, reloads }
}

/// After a run over some directories: the others, and reloads that were owed and not tried now, are as they were. So
/// the node is in step only if all of that is, and otherwise what was wrong before counts on.
fn after_some_directories(
    before: Option<&NodeStatus>,
    halted_before: &[Halted],
    report: &Report,
    node: &NodeReport,
    scope: Scope<'_>,
) -> Known {
    let code = report.node_exit_code(node);
    let was_looked_at = |name: &str| {
        let is_meant = scope.has_directory(name) && !scope.is_outdated(&node.name, Some(name));
        is_meant && !node.directories.is_empty()
    };
    let mut directories = directories_of(before, report, node);
    let mut reloads = node.reloads.clone();
    if let Some(before) = before {
        let others = before.directories.iter().filter(|directory| !was_looked_at(&directory.name));
        directories.extend(others.cloned());
        reloads.extend(still_told(before, node));
    }
    let (state, exit_code) = match node.state.is_lost() {
        true => (node.state, code),
        false if code == IN_STEP && are_in_step(&directories, &reloads) => (NodeState::Ok, IN_STEP),
        // That it was lost before is over: it was reached now. What was wrong with it besides is not.
        false => {
            let was_there = |before: &&NodeStatus| !before.state.is_lost();
            let mut codes = vec![code, before.filter(was_there).map_or(IN_STEP, |before| before.exit_code)];
            codes.extend(code_of_halts(&node.name, &directories, halted_before));
            codes.extend(codes_of(&directories, &reloads));
            (NodeState::Partial, first_of(&codes))
        }
    };
    Known { state, exit_code, directories, reloads }
}

/// The codes of halts that are not over.
fn code_of_halts<'h>(
    node: &'h str,
    directories: &'h [DirectoryStatus],
    halted: &'h [Halted],
) -> impl Iterator<Item = u8> + 'h {
    let stands = move |halted: &&Halted| {
        let is_of_node = halted.nodes.is_empty() || halted.nodes.iter().any(|halted| halted == node);
        let is_halted = |directory: &DirectoryStatus| {
            directory.name == halted.directory && directory.state == DirectoryState::Halted
        };
        is_of_node && directories.iter().any(is_halted)
    };
    halted.iter().filter(stands).map(|halted| halted.guard.exit_code())
}

/// The codes of what is wrong with directories and reloads.
fn codes_of(directories: &[DirectoryStatus], reloads: &[ReloadOutcome]) -> impl Iterator<Item = u8> {
    let has = |wrong: fn(&DirectoryStatus) -> bool| directories.iter().any(wrong);
    let codes = [
        (has(|directory| directory.failed > 0 || directory.state == DirectoryState::Partial), PARTIAL),
        (has(|directory| directory.waiting > 0), CONFLICT),
        (reloads.iter().any(is_owed), RELOAD),
    ];
    codes.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, code)| code)
}

fn are_in_step(directories: &[DirectoryStatus], reloads: &[ReloadOutcome]) -> bool {
    directories.iter().all(|directory| directory.state == DirectoryState::InStep && directory.waiting == 0)
        && !reloads.iter().any(is_owed)
}

fn is_owed(reload: &ReloadOutcome) -> bool {
    matches!(reload.state, ReloadState::Owed | ReloadState::Failed)
}

/// The reloads that were owed or warned of before, and that this run says nothing of.
fn still_told(before: &NodeStatus, node: &NodeReport) -> impl Iterator<Item = ReloadOutcome> {
    let is_named = |name: &str| node.reloads.iter().any(|reload| reload.name == name);
    let is_told = |reload: &ReloadOutcome| is_owed(reload) || reload.detail.is_some();
    before.reloads.iter().filter(move |reload| is_told(reload) && !is_named(&reload.name)).cloned()
}

/// Whether two states read the same in the file.
fn written_alike(a: NodeState, b: NodeState) -> bool {
    let written = |state| if state == NodeState::AgentMissing { NodeState::Incompatible } else { state };
    written(a) == written(b)
}

fn directories_of(before: Option<&NodeStatus>, report: &Report, node: &NodeReport) -> Vec<DirectoryStatus> {
    let before = |name: &str| before?.directories.iter().find(|directory| directory.name == name);
    let after =
        |directory: &DirectoryReport| directory_after(before(&directory.name), report, node, directory);
    node.directories.iter().map(after).collect()
}

fn directory_after(
    before: Option<&DirectoryStatus>,
    report: &Report,
    node: &NodeReport,
    directory: &DirectoryReport,
) -> DirectoryStatus {
    let held = report.changes.iter().filter(|change| {
        change.kind == ChangeKind::Hold && *change.node == *node.name && *change.directory == *directory.name
    });
    DirectoryStatus {
        name: directory.name.clone(),
        // What has been done is in step by now.
        state: match directory.state {
            DirectoryState::Changed => DirectoryState::InStep,
            state => state,
        },
        held: directory.held,
        held_paths: held
            .map(|change| PathNote {
                path: change.path.clone(),
                side: change.to,
                reason: change.reason.as_deref().map(str::to_owned),
            })
            .collect(),
        waiting: directory.waiting,
        failed: directory.failed,
        skipped: directory.skipped.clone(),
        left_alone: directory.skipped.len() as u64,
        // An edge that was found in step was not looked at: it has what it had.
        own: directory.own.clone().or_else(|| before?.own.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::super::samples::{directory, eventful, halted, node, problem, report, started};
    use super::*;
    use crate::report::{Guard, Stage};

    const FULL: Scope<'static> = Scope { nodes: &[], directories: &[], newer: None };

    /// A run of the given nodes, `minutes` after the first.
    fn later(minutes: u64, nodes: Vec<NodeReport>) -> Report {
        Report { started: started() + Duration::from_secs(60 * minutes), ..report(nodes) }
    }

    fn after(status: &Status, report: &Report, scope: Scope<'_>) -> Status {
        status.after(report, report.exit_code(), scope)
    }

    fn lost(name: &str) -> NodeReport {
        NodeReport { state: NodeState::Unreachable, directories: vec![], ..node(name) }
    }

    #[test]
    fn since_is_when_the_state_began_and_success_when_it_was_last_in_step() {
        let mut status = Status::default();
        let mut seen = Vec::new();
        for (minute, node) in [(0, node("mds1")), (1, node("mds1")), (2, lost("mds1")), (3, lost("mds1"))] {
            status = after(&status, &later(minute, vec![node]), FULL);
            let node = &status.nodes[0];
            let minute = |time: &str| time[14..16].to_owned();
            seen.push((node.state, minute(&node.since), node.last_success.as_deref().map(minute).unwrap()));
        }
        let at = |state, since: &str, success: &str| (state, since.to_owned(), success.to_owned());
        assert_eq!(
            seen,
            [
                at(NodeState::Ok, "04", "04"),
                at(NodeState::Ok, "04", "05"),
                at(NodeState::Unreachable, "06", "05"),
                at(NodeState::Unreachable, "06", "05"),
            ]
        );
        assert_eq!(status.nodes[0].directories.len(), 1, "what was known of it stays");
    }

    #[test]
    fn a_run_for_one_node_speaks_for_it_alone() {
        let status = after(&Status::default(), &later(0, vec![node("mds1"), lost("mds2")]), FULL);
        let only = ["mds1".to_owned()];
        let scope = Scope { nodes: &only, ..Scope::default() };
        let status = after(&status, &later(9, vec![lost("mds1")]), scope);
        let states: Vec<_> =
            status.nodes.iter().map(|node| (&*node.name, node.state, &node.since[14..16])).collect();
        assert_eq!(states, [("mds1", NodeState::Unreachable, "13"), ("mds2", NodeState::Unreachable, "04")]);
    }

    #[test]
    fn the_code_is_that_of_what_is_known_and_the_order_stays() {
        let only = ["mds2".to_owned()];
        let one = Scope { nodes: &only, ..Scope::default() };
        let all = || vec![lost("mds1"), node("mds2"), lost("mds3")];
        let full = after(&Status::default(), &later(0, all()), FULL);
        assert_eq!(full.status_code, 40);
        let status = after(&full, &later(1, vec![node("mds2")]), one);
        assert_eq!((status.exit_code, status.status_code), (Some(0), 40), "two are still away");
        let names = |status: &Status| status.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&status), ["mds1", "mds2", "mds3"]);
        let status = after(&full, &later(1, vec![lost("mds2")]), one);
        assert_eq!((status.exit_code, status.status_code), (Some(41), 41), "all are");
        let status = after(&full, &later(1, vec![lost("mds4")]), one);
        assert_eq!((status.exit_code, status.status_code), (Some(41), 40), "all of that run are");
        assert_eq!(names(&status), ["mds1", "mds2", "mds3", "mds4"]);

        // Nodes that are no longer configured count no more.
        assert_eq!(full.clone().of_nodes(&["mds2"]).status_code, 0);
        assert_eq!(names(&full.of_nodes(&["mds3", "mds2"])), ["mds3", "mds2"]);
    }

    #[test]
    fn problems_and_halts_count_until_a_run_has_looked_again() {
        let mut first = later(0, vec![node("mds1")]);
        first.problems = vec![problem(Stage::Discovery), Problem::warning(Stage::State, "a mere warning")];
        let status = after(&Status::default(), &first, FULL);
        assert_eq!(status.status_code, 40);
        let only = ["mds1".to_owned()];
        let status =
            after(&status, &later(1, vec![node("mds1")]), Scope { nodes: &only, ..Scope::default() });
        assert_eq!((status.exit_code, status.status_code), (Some(0), 40));
        assert_eq!(after(&status, &later(2, vec![node("mds1")]), FULL).status_code, 0);
        let mut interrupted = later(0, vec![node("mds1")]);
        interrupted.interrupted = true;
        assert_eq!(after(&Status::default(), &interrupted, FULL).status_code, 20);
    }

    #[test]
    fn what_a_node_alone_has_is_known_until_somebody_looks_again() {
        let with = |own: Option<NodesOwn>| {
            let looked = DirectoryReport { own, ..directory("moh") };
            later(0, vec![NodeReport { directories: vec![looked], ..node("mds1") }])
        };
        let paths = vec![crate::model::RelPathBuf::new(&b"99-local.conf"[..]).unwrap()];
        let own = NodesOwn { count: 1, paths };
        let status = after(&Status::default(), &with(Some(own.clone())), FULL);
        let status = after(&status, &with(None), FULL);
        assert_eq!(status.nodes[0].directories[0].own, Some(own));
        let status = after(&status, &with(Some(NodesOwn::default())), FULL);
        assert_eq!(status.nodes[0].directories[0].own, Some(NodesOwn::default()));
    }

    #[test]
    fn a_run_for_one_directory_leaves_the_others() {
        let broken = DirectoryReport { failed: 1, state: DirectoryState::Partial, ..directory("sounds") };
        let mds1 = NodeReport {
            state: NodeState::Partial,
            directories: vec![directory("moh"), broken],
            ..node("mds1")
        };
        let mut first = later(0, vec![mds1]);
        first.halted = vec![halted("sounds", Guard::MaxDelete), halted("moh", Guard::MaxDelete)];
        first.problems = vec![problem(Stage::Discovery)];
        let status = after(&Status::default(), &first, FULL);
        let only = ["moh".to_owned()];
        let status =
            after(&status, &later(1, vec![node("mds1")]), Scope { directories: &only, ..Scope::default() });
        let mds1 = &status.nodes[0];
        assert_eq!((mds1.state, mds1.last_success.clone()), (NodeState::Partial, None));
        assert_ne!(mds1.exit_code, 0);
        let halted: Vec<_> = status.halted.iter().map(|of| &*of.directory).collect();
        assert_eq!(halted, ["sounds"]);
        assert_eq!(status.problems.len(), 1);
        assert_eq!(status.exit_code, Some(0), "as the last run's");
        assert_eq!(status.status_code, 25, "as what is shown");

        let full = after(&status, &later(2, vec![node("mds1")]), FULL);
        assert_eq!((full.nodes[0].state, full.nodes[0].exit_code), (NodeState::Ok, 0));
        assert!(full.halted.is_empty() && full.problems.is_empty());
    }

    #[test]
    fn a_reload_stays_owed_while_its_node_is_away() {
        let owing = eventful().nodes.swap_remove(1);
        let status = after(&Status::default(), &later(0, vec![owing.clone()]), FULL);
        assert_eq!(status.nodes[0].owed, ["dialplan"]);
        let status = after(&status, &later(1, vec![lost(&owing.name)]), FULL);
        assert_eq!(status.nodes[0].owed, ["dialplan"]);
        let status = after(&status, &later(2, vec![node(&owing.name)]), FULL);
        assert!(status.nodes[0].owed.is_empty());
    }

    /// What is known of mds1 after a run that found `before` and one in `scope` that found `now`: its state, exit code,
    /// directories with their states, and owed reloads.
    fn known(before: NodeReport, now: NodeReport, directories: &[String]) -> String {
        let first = after(&Status::default(), &later(0, vec![before]), FULL);
        let status = after(&first, &later(1, vec![now]), Scope { directories, ..Scope::default() });
        let node = &status.nodes[0];
        let directories = node.directories.iter().map(|of| format!("{}:{:?}", of.name, of.state));
        let directories = directories.collect::<Vec<_>>().join(",");
        format!("{:?} {} {directories} {}", node.state, node.exit_code, node.owed.join(","))
    }

    fn with(states: &[(&str, DirectoryState)]) -> NodeReport {
        let directories =
            states.iter().map(|(name, state)| DirectoryReport { state: *state, ..directory(name) });
        let is_partial = states.iter().any(|(_, state)| *state == DirectoryState::Partial);
        let state = if is_partial { NodeState::Partial } else { NodeState::Ok };
        NodeReport { state, directories: directories.collect(), ..node("mds1") }
    }

    fn owing(node: NodeReport) -> NodeReport {
        let reload = ReloadOutcome { name: "moh".to_owned(), state: ReloadState::Failed, detail: None };
        NodeReport { state: NodeState::Partial, reloads: vec![reload], ..node }
    }

    #[test]
    fn a_run_over_all_directories_says_all() {
        use DirectoryState::{Changed, InStep, Partial};
        for (rule, before, now, expected) in [
            ("what is done is in step", lost("mds1"), with(&[("moh", Changed)]), "Ok 0 moh:InStep "),
            (
                "what fails is partial",
                with(&[("moh", InStep)]),
                with(&[("moh", Partial)]),
                "Partial 23 moh:Partial ",
            ),
            ("what failed is over", with(&[("moh", Partial)]), with(&[("moh", InStep)]), "Ok 0 moh:InStep "),
            (
                "a directory that is no longer there goes",
                with(&[("old", Partial)]),
                with(&[("moh", InStep)]),
                "Ok 0 moh:InStep ",
            ),
            (
                "an owed reload that is not named is over",
                owing(node("mds1")),
                node("mds1"),
                "Ok 0 moh:InStep ",
            ),
            (
                "a lost node keeps its directories",
                with(&[("moh", Partial)]),
                lost("mds1"),
                "Unreachable 41 moh:Partial ",
            ),
            ("a lost node still owes", owing(node("mds1")), lost("mds1"), "Unreachable 41 moh:InStep moh"),
        ] {
            assert_eq!(known(before, now, &[]), expected, "{rule}");
        }
    }

    #[test]
    fn a_run_over_some_directories_leaves_the_others() {
        use DirectoryState::{Changed, InStep, Partial};
        let moh = ["moh".to_owned()];
        let both = |moh, sounds| with(&[("moh", moh), ("sounds", sounds)]);
        for (rule, before, now, expected) in [
            (
                "all in step",
                both(Partial, InStep),
                with(&[("moh", Changed)]),
                "Ok 0 moh:InStep,sounds:InStep ",
            ),
            (
                "the other one is not",
                both(InStep, Partial),
                with(&[("moh", Changed)]),
                "Partial 23 moh:InStep,sounds:Partial ",
            ),
            (
                "this one is not",
                both(InStep, InStep),
                with(&[("moh", Partial)]),
                "Partial 23 moh:Partial,sounds:InStep ",
            ),
            (
                "a reload stays owed",
                owing(node("mds1")),
                with(&[("moh", InStep)]),
                "Partial 42 moh:InStep moh",
            ),
            ("lost now", both(InStep, Partial), lost("mds1"), "Unreachable 41 moh:InStep,sounds:Partial "),
            ("no longer lost", lost("mds1"), with(&[("moh", Partial)]), "Partial 23 moh:Partial "),
            (
                "no longer lost, and the other one is not",
                NodeReport { state: NodeState::Timeout, ..both(InStep, Partial) },
                with(&[("moh", InStep)]),
                "Partial 23 moh:InStep,sounds:Partial ",
            ),
        ] {
            assert_eq!(known(before, now, &moh), expected, "{rule}");
        }
    }

    #[test]
    fn a_run_for_one_node_over_all_its_directories_says_all_of_it() {
        let first = after(&Status::default(), &later(0, vec![lost("mds1")]), FULL);
        let only = ["mds1".to_owned()];
        let now = with(&[("moh", DirectoryState::Partial)]);
        let status = after(&first, &later(1, vec![now]), Scope { nodes: &only, ..Scope::default() });
        assert_eq!((status.nodes[0].state, status.nodes[0].exit_code), (NodeState::Partial, 23));
    }

    #[test]
    fn a_node_that_is_no_longer_configured_goes() {
        let status = after(&Status::default(), &later(0, vec![node("mds1"), node("mds2")]), FULL);
        let status = after(&status, &later(1, vec![node("mds1")]), FULL);
        assert_eq!(status.nodes.len(), 1);
    }

    #[test]
    fn it_is_read_as_written() {
        let status = after(&Status::default(), &eventful(), FULL);
        assert_eq!(Status::parse(status.to_json().as_bytes()).unwrap(), status);
        let value: serde_json::Value = serde_json::from_str(&status.to_json()).unwrap();
        insta::assert_snapshot!(format!("{:#}", value["nodes"][1]), @r#"
        {
          "address": "10.0.0.11",
          "directories": [
            {
              "failed": 0,
              "held": 0,
              "held_paths": [],
              "left_alone": 0,
              "name": "moh",
              "own": null,
              "skipped": [],
              "state": "halted",
              "waiting": 0
            },
            {
              "failed": 1,
              "held": 1,
              "held_paths": [
                {
                  "path": "monitor/1.wav",
                  "reason": "open for writing",
                  "side": "main"
                }
              ],
              "left_alone": 0,
              "name": "recordings",
              "own": null,
              "skipped": [],
              "state": "partial",
              "waiting": 1
            }
          ],
          "error": null,
          "exit_code": 25,
          "last_success": null,
          "looked": "2026-01-02T03:04:05Z",
          "name": "mds2",
          "owed": [
            "dialplan"
          ],
          "reloads": [
            {
              "detail": "Unable to connect to remote asterisk",
              "name": "dialplan",
              "state": "failed"
            }
          ],
          "since": "2026-01-02T03:04:05Z",
          "state": "partial"
        }
        "#);
    }
}
