//! `status.json`: what the last runs left behind, for `status` and for whoever else reads it.
//!
//! A run for some nodes or directories speaks for these alone; the rest stays as the run before said.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::exit::{IN_STEP, first_of};
use super::{DirectoryState, Guard, NodeReport, NodeState, Report};
use crate::model::{ChangeKind, ReloadOutcome, ReloadState, Side};

/// What is known after the last run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The last run.
    pub run: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// Its exit code.
    pub exit_code: Option<u8>,
    /// Every node, as far as known.
    pub nodes: Vec<NodeStatus>,
    /// What is halted.
    pub halted: Vec<HaltedStatus>,
    /// What went wrong beside that.
    pub problems: Vec<ProblemStatus>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the run's report")]
pub struct NodeStatus {
    pub name: String,
    pub address: String,
    pub state: NodeState,
    pub exit_code: u8,
    pub error: Option<String>,
    /// When this state began.
    pub since: String,
    /// The end of the last full run that left it in step.
    pub last_success: Option<String>,
    pub directories: Vec<DirectoryStatus>,
    pub reloads: Vec<ReloadOutcome>,
    /// The reloads that are due.
    pub owed: Vec<String>,
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the run's report")]
pub struct DirectoryStatus {
    pub name: String,
    pub state: DirectoryState,
    pub held: u64,
    /// The files that `held` counts.
    pub held_paths: Vec<PathStatus>,
    /// Conflicts that wait for a decision.
    pub waiting: u64,
    pub failed: u64,
    /// What is never carried.
    pub skipped: Vec<PathStatus>,
}

/// One path, and why it is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the run's report")]
pub struct PathStatus {
    pub path: String,
    pub side: Side,
    pub reason: Option<String>,
}

/// What a guard stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the run's report")]
pub struct HaltedStatus {
    pub directory: String,
    pub guard: Guard,
    pub detail: String,
    pub token: Option<String>,
    pub nodes: Vec<String>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the run's report")]
pub struct ProblemStatus {
    pub stage: String,
    pub node: Option<String>,
    pub directory: Option<String>,
    pub path: Option<String>,
    pub detail: String,
}

/// What a run was for; empty lists mean all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// `--node`.
    pub nodes: &'a [String],
    /// `--dir`.
    pub directories: &'a [String],
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

    /// Whether the run speaks for what concerns this node and directory; `None` concerns all.
    fn covers(&self, node: Option<&str>, directory: Option<&str>) -> bool {
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
        let ended = time(report.started + report.duration);
        let known = |name: &str| self.nodes.iter().find(|known| known.name == name);
        let mut nodes: Vec<NodeStatus> = report
            .nodes
            .iter()
            .map(|node| node_after(known(&node.name), report, node, &ended, scope))
            .collect();
        // A node that a full run does not name is no longer configured.
        nodes.extend(self.nodes.iter().filter(|node| !scope.has_node(&node.name)).cloned());

        let mut halted: Vec<HaltedStatus> = self
            .halted
            .iter()
            .filter(|of| match of.nodes.as_slice() {
                [] => !scope.covers(None, Some(&of.directory)),
                nodes => !nodes.iter().all(|node| scope.covers(Some(node), Some(&of.directory))),
            })
            .cloned()
            .collect();
        halted.extend(report.halted.iter().map(|of| HaltedStatus {
            directory: of.directory.clone(),
            guard: of.guard,
            detail: of.detail.clone(),
            token: of.token.clone(),
            nodes: of.nodes.clone(),
        }));
        let mut problems: Vec<ProblemStatus> = self
            .problems
            .iter()
            .filter(|of| !scope.covers(of.node.as_deref(), of.directory.as_deref()))
            .cloned()
            .collect();
        problems.extend(report.problems.iter().map(|of| ProblemStatus {
            stage: of.stage.to_owned(),
            node: of.node.clone(),
            directory: of.directory.clone(),
            path: of.path.as_ref().map(|path| path.escaped()),
            detail: of.detail.clone(),
        }));
        Status {
            run: Some(report.run.clone()),
            ended: Some(ended),
            exit_code: Some(exit_code),
            nodes,
            halted,
            problems,
        }
    }
}

fn node_after(
    before: Option<&NodeStatus>,
    report: &Report,
    node: &NodeReport,
    ended: &str,
    scope: Scope<'_>,
) -> NodeStatus {
    let mut directories: Vec<DirectoryStatus> =
        node.directories.iter().map(|directory| directory_after(report, node, directory)).collect();
    let mut reloads = node.reloads.clone();
    if let Some(before) = before {
        // What this run did not look at is as it was: other directories, and a node that was not reached.
        let looked = |name: &str| scope.has_directory(name) && !node.directories.is_empty();
        let other = before.directories.iter().filter(|directory| !looked(&directory.name));
        directories.extend(other.cloned());
        let named = |name: &str| node.reloads.iter().any(|reload| reload.name == name);
        let is_owed = |reload: &&ReloadOutcome| is_owed(reload) && !named(&reload.name);
        if !scope.directories.is_empty() || node.directories.is_empty() {
            reloads.extend(before.reloads.iter().filter(is_owed).cloned());
        }
    }
    let owed: Vec<String> =
        reloads.iter().filter(|reload| is_owed(reload)).map(|of| of.name.clone()).collect();
    let code = report.node_exit_code(node);
    let rest_in_step =
        directories.iter().all(|of| of.state == DirectoryState::InStep && of.waiting == 0) && owed.is_empty();
    let (state, exit_code) = match (node.state, code) {
        (NodeState::Ok | NodeState::Partial, IN_STEP) if rest_in_step => (NodeState::Ok, IN_STEP),
        (NodeState::Ok | NodeState::Partial, code) => {
            let before = before.filter(|_| !scope.is_full()).map_or(IN_STEP, |before| before.exit_code);
            (NodeState::Partial, if scope.is_full() { code } else { first_of(&[code, before]) })
        }
        (lost, code) => (lost, code),
    };
    let since = before.filter(|before| told_alike(before.state, state)).map(|before| before.since.clone());
    let success = scope.directories.is_empty() && exit_code == IN_STEP && !report.interrupted;
    NodeStatus {
        name: node.name.clone(),
        address: node.address.clone(),
        state,
        exit_code,
        error: node.error.clone(),
        since: since.unwrap_or_else(|| ended.to_owned()),
        last_success: match success {
            true => Some(ended.to_owned()),
            false => before.and_then(|before| before.last_success.clone()),
        },
        directories,
        reloads,
        owed,
    }
}

fn is_owed(reload: &ReloadOutcome) -> bool {
    matches!(reload.state, ReloadState::Owed | ReloadState::Failed)
}

/// Whether two states read the same in the file.
fn told_alike(a: NodeState, b: NodeState) -> bool {
    let written = |state| if state == NodeState::AgentMissing { NodeState::Incompatible } else { state };
    written(a) == written(b)
}

fn directory_after(
    report: &Report,
    node: &NodeReport,
    directory: &super::DirectoryReport,
) -> DirectoryStatus {
    let held = report.changes.iter().filter(|of| {
        of.change.kind == ChangeKind::Hold && of.node == node.name && of.directory == directory.name
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
            .map(|of| PathStatus {
                path: of.change.path.escaped(),
                side: of.change.to,
                reason: of.change.reason.clone(),
            })
            .collect(),
        waiting: directory.waiting,
        failed: directory.failed,
        skipped: directory
            .skipped
            .iter()
            .map(|of| PathStatus { path: of.path.escaped(), side: of.side, reason: Some(of.reason.clone()) })
            .collect(),
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::super::samples::{directory, eventful, halted, node, problem, report, started};
    use super::*;
    use crate::report::DirectoryReport;

    const FULL: Scope<'static> = Scope { nodes: &[], directories: &[] };

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
        let scope = Scope { nodes: &only, directories: &[] };
        let status = after(&status, &later(9, vec![lost("mds1")]), scope);
        let states: Vec<_> =
            status.nodes.iter().map(|node| (&*node.name, node.state, &node.since[14..16])).collect();
        assert_eq!(states, [("mds1", NodeState::Unreachable, "13"), ("mds2", NodeState::Unreachable, "04")]);
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
        first.problems = vec![problem("discovery")];
        let status = after(&Status::default(), &first, FULL);
        let only = ["moh".to_owned()];
        let status = after(&status, &later(1, vec![node("mds1")]), Scope { nodes: &[], directories: &only });
        let mds1 = &status.nodes[0];
        assert_eq!((mds1.state, mds1.last_success.clone()), (NodeState::Partial, None));
        assert_ne!(mds1.exit_code, 0);
        let halted: Vec<_> = status.halted.iter().map(|of| &*of.directory).collect();
        assert_eq!(halted, ["sounds"]);
        assert_eq!(status.problems.len(), 1);
        assert_eq!(status.exit_code, Some(0), "as the last run's");

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
              "name": "moh",
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
              "name": "recordings",
              "skipped": [],
              "state": "partial",
              "waiting": 1
            }
          ],
          "error": null,
          "exit_code": 25,
          "last_success": null,
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
