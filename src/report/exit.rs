//! The exit codes of a run: rsync's numbers where the meaning is the same.

use super::{DirectoryReport, DirectoryState, Guard, Halted, NodeReport, NodeState, Report, Stage};
use crate::model::ReloadState;

/// Every node is in step.
pub const IN_STEP: u8 = 0;
/// Usage or configuration error; nothing was touched.
pub const USAGE: u8 = 1;
/// A node's agent is missing or of an incompatible version.
pub const INCOMPATIBLE: u8 = 2;
/// A root is missing, unmounted or not the marked one; nothing was deleted.
pub const ROOT: u8 = 3;
/// The store's lease is held by another Main.
pub const LEASE: u8 = 4;
/// `-n --exit-code`: there are differences.
pub const DIFFERENCES: u8 = 6;
/// A signal ended the run.
pub const INTERRUPTED: u8 = 20;
/// Some entries failed; the report names them.
pub const PARTIAL: u8 = 23;
/// The delete guard refused; nothing was deleted.
pub const DELETE_GUARD: u8 = 25;
/// A node fell silent.
pub const TIMEOUT: u8 = 30;
/// Some nodes are unreachable or refused.
pub const SOME_LOST: u8 = 40;
/// All nodes are; also one such node's own code.
pub const ALL_LOST: u8 = 41;
/// The files are right, a reload is still due.
pub const RELOAD: u8 = 42;
/// A conflict waits for a decision.
pub const CONFLICT: u8 = 43;
/// What lies in the store is not what was signed, or is older than what was seen before.
pub const TAMPERED: u8 = 50;
/// A bug.
pub const INTERNAL: u8 = 70;
/// Another run holds the lock.
pub const LOCKED: u8 = 75;

/// When several apply, the first of these is reported.
const PRECEDENCE: [u8; 15] = [
    USAGE,
    LOCKED,
    INTERNAL,
    INTERRUPTED,
    LEASE,
    TAMPERED,
    ROOT,
    DELETE_GUARD,
    ALL_LOST,
    SOME_LOST,
    INCOMPATIBLE,
    TIMEOUT,
    PARTIAL,
    CONFLICT,
    RELOAD,
];

/// The one code that stands for all of `codes`; [`IN_STEP`] for none.
pub fn first_of(codes: &[u8]) -> u8 {
    PRECEDENCE.into_iter().find(|code| codes.contains(code)).unwrap_or(IN_STEP)
}

impl Report {
    /// The run's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let mut codes: Vec<u8> = self.halted.iter().map(|halted| halted.guard.exit_code()).collect();
        if self.interrupted {
            codes.push(INTERRUPTED);
        }
        for node in &self.nodes {
            match self.node_exit_code(node) {
                ALL_LOST => codes.push(SOME_LOST),
                code => codes.push(code),
            }
        }
        let lost = |node: &NodeReport| matches!(node.state, NodeState::Unreachable | NodeState::Refused);
        if !self.nodes.is_empty() && self.nodes.iter().all(lost) {
            codes.push(ALL_LOST);
        }
        for problem in self.problems.iter().filter(|problem| problem.fails) {
            codes.push(match problem.stage.exit_code() {
                // Nodes that could not be discovered count as nodes that do not answer.
                SOME_LOST if self.nodes.is_empty() => ALL_LOST,
                code => code,
            });
        }
        first_of(&codes)
    }

    /// One node's own exit code.
    #[must_use]
    pub fn node_exit_code(&self, node: &NodeReport) -> u8 {
        let mut codes = vec![match node.state {
            NodeState::Ok | NodeState::Partial => IN_STEP,
            NodeState::Unreachable | NodeState::Refused => ALL_LOST,
            NodeState::Incompatible | NodeState::AgentMissing => INCOMPATIBLE,
            NodeState::Timeout => TIMEOUT,
        }];
        codes.extend(
            self.halted.iter().filter(|halted| halted.concerns(node)).map(|halted| halted.guard.exit_code()),
        );
        for directory in &node.directories {
            if directory.failed > 0 || directory.state == DirectoryState::Partial {
                codes.push(PARTIAL);
            }
            if directory.waiting > 0 {
                codes.push(CONFLICT);
            }
        }
        if node.interrupted {
            codes.push(INTERRUPTED);
        }
        // What a dry run leaves owed is what the run will do.
        if !self.dry_run
            && node
                .reloads
                .iter()
                .any(|reload| matches!(reload.state, ReloadState::Owed | ReloadState::Failed))
        {
            codes.push(RELOAD);
        }
        for problem in self.problems.iter().filter(|problem| problem.fails) {
            if problem.node.as_deref() == Some(&*node.name) {
                codes.push(problem.stage.exit_code());
            }
        }
        first_of(&codes)
    }

    /// Whether anything is or would be changed; what is held back or skipped is no change.
    #[must_use]
    pub fn has_differences(&self) -> bool {
        self.changes.iter().any(|change| change.kind.is_difference())
    }
}

impl Stage {
    /// What a failure in this stage means for the run, and for its node if it has one.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Stage::Discovery => SOME_LOST,
            Stage::Reload => RELOAD,
            Stage::Internal => INTERNAL,
            Stage::Config
            | Stage::Connect
            | Stage::Scan
            | Stage::Plan
            | Stage::Transfer
            | Stage::Commit
            | Stage::State
            | Stage::History
            | Stage::Publish => PARTIAL,
        }
    }
}

impl Guard {
    /// What a halt by this guard means for the run.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Guard::RootMissing
            | Guard::RootUnmarked
            | Guard::RootReplaced
            | Guard::RootUnusable
            | Guard::NodeRootMissing
            | Guard::NodeRootReplaced => ROOT,
            Guard::Emptied | Guard::MaxDelete | Guard::MaxChange => DELETE_GUARD,
            Guard::FreeSpace | Guard::MaxAdd => PARTIAL,
        }
    }
}

impl Halted {
    /// Whether it stopped an edge of this node.
    #[must_use]
    pub fn concerns(&self, node: &NodeReport) -> bool {
        let stopped = |directory: &DirectoryReport| {
            directory.name == self.directory && directory.state == DirectoryState::Halted
        };
        match self.nodes.is_empty() {
            true => node.directories.iter().any(stopped),
            false => self.nodes.contains(&node.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{directory, halted, node, problem, report};
    use super::*;
    use crate::model::ReloadOutcome;
    use crate::report::Problem;

    fn in_state(state: NodeState) -> NodeReport {
        NodeReport { state, ..node("mds1") }
    }

    fn owing() -> NodeReport {
        let reload = ReloadOutcome { name: "moh".to_owned(), state: ReloadState::Failed, detail: None };
        NodeReport { reloads: vec![reload], state: NodeState::Partial, ..node("mds1") }
    }

    fn with(change: impl Fn(&mut DirectoryReport)) -> NodeReport {
        let mut directory = directory("moh");
        change(&mut directory);
        NodeReport { directories: vec![directory], ..node("mds1") }
    }

    #[test]
    fn each_cause_has_its_code_for_its_node_and_for_the_run() {
        for (cause, report, of_node, of_run) in [
            ("in step", report(vec![node("mds1")]), 0, 0),
            ("no node at all", report(vec![]), 0, 0),
            ("unreachable", report(vec![in_state(NodeState::Unreachable), node("mds2")]), 41, 40),
            ("the only one unreachable", report(vec![in_state(NodeState::Unreachable)]), 41, 41),
            ("refused", report(vec![in_state(NodeState::Refused), node("mds2")]), 41, 40),
            ("incompatible", report(vec![in_state(NodeState::Incompatible)]), 2, 2),
            ("agent missing", report(vec![in_state(NodeState::AgentMissing)]), 2, 2),
            ("silent", report(vec![in_state(NodeState::Timeout)]), 30, 30),
            ("an entry failed", report(vec![with(|moh| moh.failed = 1)]), 23, 23),
            ("partial", report(vec![with(|moh| moh.state = DirectoryState::Partial)]), 23, 23),
            ("not reached", report(vec![with(|moh| moh.count_planned(4))]), 23, 23),
            ("held back", report(vec![with(|moh| moh.held = 1)]), 0, 0),
            ("conflict decided", report(vec![with(|moh| moh.conflicts = 1)]), 0, 0),
            ("conflict waits", report(vec![with(|moh| (moh.conflicts, moh.waiting) = (1, 1))]), 43, 43),
            ("reload failed", report(vec![owing()]), 42, 42),
        ] {
            assert_eq!(
                report.nodes.first().map_or(0, |node| report.node_exit_code(node)),
                of_node,
                "{cause}"
            );
            assert_eq!(report.exit_code(), of_run, "{cause}");
        }
    }

    #[test]
    fn each_guard_has_its_code() {
        for (guard, code) in [
            (Guard::RootMissing, 3),
            (Guard::RootUnmarked, 3),
            (Guard::RootReplaced, 3),
            (Guard::RootUnusable, 3),
            (Guard::NodeRootMissing, 3),
            (Guard::NodeRootReplaced, 3),
            (Guard::Emptied, 25),
            (Guard::MaxDelete, 25),
            (Guard::MaxChange, 25),
            (Guard::MaxAdd, 23),
            (Guard::FreeSpace, 23),
        ] {
            let mut report = report(vec![with(|moh| moh.state = DirectoryState::Halted), node("mds2")]);
            report.halted = vec![halted("moh", guard)];
            assert_eq!(report.exit_code(), code, "{guard:?}");
            assert_eq!(report.node_exit_code(&report.nodes[0]), code, "{guard:?}");
            assert_eq!(report.node_exit_code(&report.nodes[1]), 0, "another node's edge: {guard:?}");
        }
    }

    #[test]
    fn each_problem_has_its_code() {
        for (stage, fails, nodes, code) in [
            (Stage::Discovery, true, vec![node("mds1")], 40),
            (Stage::Discovery, true, vec![], 41),
            (Stage::Transfer, true, vec![node("mds1")], 23),
            (Stage::Reload, true, vec![node("mds1")], 42),
            (Stage::Config, false, vec![node("mds1")], 0),
        ] {
            let mut report = report(nodes);
            report.problems = vec![Problem { fails, ..problem(stage) }];
            assert_eq!(report.exit_code(), code, "{stage:?}");
        }
    }

    #[test]
    fn a_panic_is_the_code_of_its_node_and_of_the_run() {
        let mut report = report(vec![node("mds1"), in_state(NodeState::Unreachable)]);
        report.nodes[1].name = "mds2".to_owned();
        report.problems = vec![Problem { node: Some("mds1".to_owned()), ..problem(Stage::Internal) }];
        let codes: Vec<u8> = report.nodes.iter().map(|node| report.node_exit_code(node)).collect();
        assert_eq!((codes, report.exit_code()), (vec![70, 41], 70));
        report.interrupted = true;
        assert_eq!(report.exit_code(), 70);
    }

    #[test]
    fn the_first_in_precedence_is_reported() {
        // Each line adds one cause that comes earlier than all before it.
        let mut report = report(vec![owing()]);
        assert_eq!(report.exit_code(), 42);
        report.nodes.push(with(|moh| moh.waiting = 1));
        assert_eq!(report.exit_code(), 43);
        report.nodes.push(with(|moh| moh.failed = 1));
        assert_eq!(report.exit_code(), 23);
        report.nodes.push(in_state(NodeState::Timeout));
        assert_eq!(report.exit_code(), 30);
        report.nodes.push(in_state(NodeState::Incompatible));
        assert_eq!(report.exit_code(), 2);
        report.nodes.push(in_state(NodeState::Unreachable));
        assert_eq!(report.exit_code(), 40);
        report.halted.push(halted("moh", Guard::MaxDelete));
        assert_eq!(report.exit_code(), 25);
        report.halted.push(halted("dialplan", Guard::RootMissing));
        assert_eq!(report.exit_code(), 3);
        report.interrupted = true;
        assert_eq!(report.exit_code(), 20);
        assert_eq!(first_of(&[41, 20, 70, 40]), 70);
        assert_eq!(first_of(&[70, 75]), 75);
        assert_eq!(first_of(&[75, 1]), 1);
        assert_eq!([first_of(&[3, 50, 4]), first_of(&[50, 3]), first_of(&[4, 20])], [4, 50, 20]);
    }
}
