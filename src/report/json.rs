//! One object for machines, on one line.

use serde::Serialize;

use super::{DirectoryReport, Follows, Guard, Halted, NodeReport, NodeState, Problem, Report};
use crate::model::{NodeChange, RelPathBuf, ReloadOutcome, rfc3339};

// These three are the report with what follows from it: exit codes stand among the fields of nodes, and the nodes of a
// halted directory are in the status only. All else in them is serialised as it is.

#[derive(Serialize)]
struct Run<'a> {
    run: &'a str,
    started: String,
    duration_ms: u64,
    dry_run: bool,
    exit_code: u8,
    nodes: Vec<Node<'a>>,
    changes: &'a [NodeChange],
    halted: Vec<HaltedDirectory<'a>>,
    problems: &'a [Problem],
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    address: &'a str,
    state: NodeState,
    exit_code: u8,
    error: Option<&'a str>,
    directories: &'a [DirectoryReport],
    reloads: &'a [ReloadOutcome],
    #[serde(skip_serializing_if = "Option::is_none")]
    follows: Option<&'a Follows>,
}

#[derive(Serialize)]
struct HaltedDirectory<'a> {
    directory: &'a str,
    guard: Guard,
    detail: &'a str,
    token: Option<&'a str>,
    paths: &'a [RelPathBuf],
}

/// The report as JSON, with a newline at its end. `exit_code` is what the process will exit with.
#[must_use]
pub(crate) fn render(report: &Report, exit_code: u8) -> String {
    super::to_json(&Run {
        run: &report.run,
        started: rfc3339(report.started),
        duration_ms: super::milliseconds(report.duration),
        dry_run: report.dry_run,
        exit_code,
        nodes: report.nodes.iter().map(|node| node_of(report, node)).collect(),
        changes: &report.changes,
        halted: report.halted.iter().map(halted_of).collect(),
        problems: &report.problems,
    })
}

fn node_of<'a>(report: &Report, node: &'a NodeReport) -> Node<'a> {
    Node {
        name: &node.name,
        address: &node.address,
        state: node.state,
        exit_code: report.node_exit_code(node),
        error: node.error.as_deref(),
        directories: &node.directories,
        reloads: &node.reloads,
        follows: node.follows.as_ref(),
    }
}

fn halted_of(halted: &Halted) -> HaltedDirectory<'_> {
    HaltedDirectory {
        directory: &halted.directory,
        guard: halted.guard,
        detail: &halted.detail,
        token: halted.token.as_deref(),
        paths: &halted.paths,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::samples::{eventful, node, report};
    use super::*;

    #[test]
    fn a_run_in_step() {
        insta::assert_snapshot!(render(&report(vec![node("mds1")]), 0), @r#"{"run":"01KDYC00000000000000000000","started":"2026-01-02T03:04:05Z","duration_ms":412,"dry_run":false,"exit_code":0,"nodes":[{"name":"mds1","address":"10.0.0.11","state":"ok","exit_code":0,"error":null,"directories":[{"name":"moh","state":"in-step","created":0,"updated":0,"metadata":0,"deleted":0,"planned":0,"held":0,"conflicts":0,"failed":0,"bytes":0}],"reloads":[]}],"changes":[],"halted":[],"problems":[]}"#);
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
              "paths": [
                "jazz/a.wav",
                "jazz/b.wav"
              ],
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
                  "metadata": 0,
                  "name": "moh",
                  "planned": 0,
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
                  "metadata": 0,
                  "name": "moh",
                  "planned": 0,
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
                  "metadata": 0,
                  "name": "recordings",
                  "planned": 0,
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
              "fails": true,
              "node": "mds2",
              "path": "monitor/\\x092.wav",
              "stage": "commit"
            },
            {
              "detail": "row 3: the name \"a\u0007b\" is dropped",
              "directory": null,
              "fails": false,
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
