//! One object for machines, on one line.

use serde::Serialize;

use super::{DirectoryState, Guard, NodeState, Report};
use crate::model::{ChangeKind, NodeChange, ReloadOutcome, Side};

#[derive(Serialize)]
struct Run<'a> {
    run: &'a str,
    started: String,
    duration_ms: u64,
    dry_run: bool,
    exit_code: u8,
    nodes: Vec<Node<'a>>,
    changes: Vec<Change<'a>>,
    halted: Vec<Halted<'a>>,
    problems: Vec<Problem<'a>>,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    address: &'a str,
    state: NodeState,
    exit_code: u8,
    error: Option<&'a str>,
    directories: Vec<Directory<'a>>,
    reloads: &'a [ReloadOutcome],
}

#[derive(Serialize)]
struct Directory<'a> {
    name: &'a str,
    state: DirectoryState,
    created: u64,
    updated: u64,
    deleted: u64,
    held: u64,
    conflicts: u64,
    failed: u64,
    bytes: u64,
}

/// A change, as every object that has one tells it.
#[derive(Serialize)]
pub(crate) struct Change<'a> {
    directory: &'a str,
    node: &'a str,
    to: Side,
    action: ChangeKind,
    path: String,
    bytes: u64,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Halted<'a> {
    directory: &'a str,
    guard: Guard,
    detail: &'a str,
    token: Option<&'a str>,
}

#[derive(Serialize)]
struct Problem<'a> {
    stage: &'a str,
    node: Option<&'a str>,
    directory: Option<&'a str>,
    path: Option<String>,
    detail: &'a str,
}

/// The report as JSON, with a newline at its end. `exit_code` is what the process will exit with.
#[must_use]
pub fn render(report: &Report, exit_code: u8) -> String {
    let run = Run {
        run: &report.run,
        started: humantime::format_rfc3339_seconds(report.started).to_string(),
        duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        dry_run: report.dry_run,
        exit_code,
        nodes: report.nodes.iter().map(|node| node_of(report, node)).collect(),
        changes: report.changes.iter().map(change_of).collect(),
        halted: report
            .halted
            .iter()
            .map(|halted| Halted {
                directory: &halted.directory,
                guard: halted.guard,
                detail: &halted.detail,
                token: halted.token.as_deref(),
            })
            .collect(),
        problems: report
            .problems
            .iter()
            .map(|problem| Problem {
                stage: problem.stage,
                node: problem.node.as_deref(),
                directory: problem.directory.as_deref(),
                path: problem.path.as_ref().map(|path| path.escaped()),
                detail: &problem.detail,
            })
            .collect(),
    };
    super::to_json(&run)
}

fn node_of<'a>(report: &Report, node: &'a super::NodeReport) -> Node<'a> {
    Node {
        name: &node.name,
        address: &node.address,
        state: node.state,
        exit_code: report.node_exit_code(node),
        error: node.error.as_deref(),
        directories: node
            .directories
            .iter()
            .map(|directory| Directory {
                name: &directory.name,
                state: directory.state,
                created: directory.created,
                updated: directory.updated,
                deleted: directory.deleted,
                held: directory.held,
                conflicts: directory.conflicts,
                failed: directory.failed,
                bytes: directory.bytes,
            })
            .collect(),
        reloads: &node.reloads,
    }
}

pub(crate) fn change_of(of: &NodeChange) -> Change<'_> {
    Change {
        directory: &of.directory,
        node: &of.node,
        to: of.change.to,
        action: of.change.kind,
        path: of.change.path.escaped(),
        bytes: of.change.bytes,
        reason: of.change.reason.as_deref(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::samples::{eventful, node, report};
    use super::*;

    #[test]
    fn a_run_in_step() {
        insta::assert_snapshot!(render(&report(vec![node("mds1")]), 0), @r#"{"run":"01KDYC00000000000000000000","started":"2026-01-02T03:04:05Z","duration_ms":412,"dry_run":false,"exit_code":0,"nodes":[{"name":"mds1","address":"10.0.0.11","state":"ok","exit_code":0,"error":null,"directories":[{"name":"moh","state":"in-step","created":0,"updated":0,"deleted":0,"held":0,"conflicts":0,"failed":0,"bytes":0}],"reloads":[]}],"changes":[],"halted":[],"problems":[]}"#);
    }

    #[test]
    fn an_eventful_run() {
        let text = render(&eventful(), 25);
        assert_eq!(text.matches('\n').count(), 1, "one line");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        // JSON carries what only a terminal must be spared.
        let shown = format!("{value:#}").replace('\u{202e}', "<U+202E>");
        insta::assert_snapshot!(shown, @r#"
        {
          "changes": [
            {
              "action": "update",
              "bytes": 5242880,
              "directory": "moh",
              "node": "mds1",
              "path": "jazz/a.wav",
              "reason": null,
              "to": "node"
            },
            {
              "action": "create",
              "bytes": 12,
              "directory": "moh",
              "node": "mds1",
              "path": "a\\x0a\\x1b[31m\\xff<U+202E>.wav",
              "reason": null,
              "to": "node"
            },
            {
              "action": "hold",
              "bytes": 44,
              "directory": "recordings",
              "node": "mds2",
              "path": "monitor/1.wav",
              "reason": "open for writing",
              "to": "main"
            }
          ],
          "dry_run": false,
          "duration_ms": 412,
          "exit_code": 25,
          "halted": [
            {
              "detail": "40 of 60 files would be deleted",
              "directory": "moh",
              "guard": "max_delete",
              "token": "moh-4f2a"
            }
          ],
          "nodes": [
            {
              "address": "10.0.0.11",
              "directories": [
                {
                  "bytes": 5242880,
                  "conflicts": 0,
                  "created": 1,
                  "deleted": 0,
                  "failed": 0,
                  "held": 0,
                  "name": "moh",
                  "state": "changed",
                  "updated": 1
                }
              ],
              "error": null,
              "exit_code": 0,
              "name": "mds1",
              "reloads": [
                {
                  "detail": null,
                  "name": "moh",
                  "state": "done"
                }
              ],
              "state": "ok"
            },
            {
              "address": "10.0.0.11",
              "directories": [
                {
                  "bytes": 0,
                  "conflicts": 0,
                  "created": 0,
                  "deleted": 0,
                  "failed": 0,
                  "held": 0,
                  "name": "moh",
                  "state": "halted",
                  "updated": 0
                },
                {
                  "bytes": 0,
                  "conflicts": 1,
                  "created": 0,
                  "deleted": 0,
                  "failed": 1,
                  "held": 1,
                  "name": "recordings",
                  "state": "partial",
                  "updated": 0
                }
              ],
              "error": null,
              "exit_code": 25,
              "name": "mds2",
              "reloads": [
                {
                  "detail": "Unable to connect to remote asterisk",
                  "name": "dialplan",
                  "state": "failed"
                }
              ],
              "state": "partial"
            },
            {
              "address": "10.0.0.11",
              "directories": [],
              "error": "ssh: connect to host 10.0.0.13 port 22: No route to host",
              "exit_code": 41,
              "name": "mds3",
              "reloads": [],
              "state": "unreachable"
            }
          ],
          "problems": [
            {
              "detail": "No space left on device",
              "directory": "recordings",
              "node": "mds2",
              "path": "monitor/\\x092.wav",
              "stage": "commit"
            },
            {
              "detail": "row 3: the name \"a\u0007b\" is dropped",
              "directory": null,
              "node": null,
              "path": null,
              "stage": "discovery"
            }
          ],
          "run": "01KDYC00000000000000000000",
          "started": "2026-01-02T03:04:05Z"
        }
        "#);
    }
}
