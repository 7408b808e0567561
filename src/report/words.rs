//! Sentences that text and syslog share. Names in them are harmless to a terminal and to a log.

use std::time::Duration;

use super::{DirectoryReport, Guard, Halted, NodeReport, NodeState, Problem, Report};
use crate::model::escape::{clean, escape_for_people};
use crate::model::{ChangeKind, NodeChange, ReloadOutcome, ReloadState, Side, Size};

/// `1 file`, `2 files`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `5.0 MiB`; whole numbers below 1 KiB.
pub(crate) fn bytes(number: u64) -> String {
    Size(number).to_string()
}

/// `412 ms`, `3.2 s`, `4m 10s`.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string(),
    }
}

/// A name of the configuration or of a peer.
pub(crate) fn name(text: &str) -> String {
    escape_for_people(text.as_bytes())
}

/// `create`, as in JSON.
pub(super) fn action(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Create => "create",
        ChangeKind::Update => "update",
        ChangeKind::Delete => "delete",
        ChangeKind::Metadata => "metadata",
        ChangeKind::Rename => "rename",
        ChangeKind::Drift => "drift",
        ChangeKind::Conflict => "conflict",
        ChangeKind::Hold => "hold",
        ChangeKind::Skip => "skip",
    }
}

/// `moh: main -> mds1: update jazz/a.wav (5.0 MiB)`.
pub(crate) fn change(of: &NodeChange) -> String {
    let node = name(&of.node);
    let way = match of.change.to {
        Side::Node => format!("main -> {node}"),
        Side::Main => format!("{node} -> main"),
    };
    let size = (of.change.bytes > 0).then(|| bytes(of.change.bytes));
    let notes: Vec<String> = size.into_iter().chain(of.change.reason.as_deref().map(clean)).collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    let path = of.change.path.for_people();
    format!("{}: {way}: {} {path}{notes}", name(&of.directory), action(of.change.kind))
}

/// `commit mds2: recordings: monitor/2.wav: No space left on device`.
pub(super) fn problem(problem: &Problem) -> String {
    let at = [
        problem.node.as_deref().map(name),
        problem.directory.as_deref().map(name),
        problem.path.as_ref().map(|path| path.for_people()),
    ];
    let at: Vec<String> = at.into_iter().flatten().collect();
    let detail = clean(&problem.detail);
    match at.is_empty() {
        true => format!("{}: {detail}", problem.stage),
        false => format!("{} {}: {detail}", problem.stage, at.join(": ")),
    }
}

/// `moh on mds1: 40 of 60 files would be deleted (max_delete); nothing was touched`.
pub(super) fn halted(halted: &Halted) -> String {
    let nodes: Vec<String> = halted.nodes.iter().map(|node| name(node)).collect();
    let on = if nodes.is_empty() { String::new() } else { format!(" on {}", nodes.join(", ")) };
    let (directory, detail) = (name(&halted.directory), clean(&halted.detail));
    format!("{directory}{on}: {detail} ({}); nothing was touched", guard(halted.guard))
}

fn guard(guard: Guard) -> &'static str {
    match guard {
        Guard::RootMissing => "root_missing",
        Guard::RootUnmarked => "root_unmarked",
        Guard::RootReplaced => "root_replaced",
        Guard::RootUnusable => "root_unusable",
        Guard::Emptied => "emptied",
        Guard::MaxDelete => "max_delete",
        Guard::FreeSpace => "free_space",
        Guard::NodeRootMissing => "node_root_missing",
    }
}

/// What an administrator does about a halt: a sentence, with the command in it where there is one.
pub(super) fn remedy(halted: &Halted) -> String {
    let directory = name(&halted.directory);
    match (halted.guard, halted.token.as_deref()) {
        (_, Some(token)) => format!("if that is right: xds-sync sync --accept-deletes {}", name(token)),
        (Guard::RootMissing | Guard::RootUnmarked | Guard::RootReplaced, None) => {
            format!("mount or restore it; if what is there now is right: xds-sync init --adopt {directory}")
        }
        (Guard::RootUnusable, None) => "make it a directory that root can read".to_owned(),
        (Guard::NodeRootMissing, None) => {
            "mount it there; if it is lost for good, make an empty one: the next run fills it".to_owned()
        }
        (Guard::FreeSpace, None) => "make room there; the next run goes on".to_owned(),
        (Guard::Emptied | Guard::MaxDelete, None) => "restore the files, or run again for a token".to_owned(),
    }
}

/// The state of a node in words.
pub(super) fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Ok => "in step",
        NodeState::Partial => "partly in step",
        NodeState::Unreachable => "unreachable",
        NodeState::Refused => "refused",
        NodeState::Incompatible => "incompatible",
        NodeState::AgentMissing => "incompatible: no agent",
        NodeState::Timeout => "timed out",
    }
}

/// `moh reload failed: Unable to connect`.
pub(super) fn reload(reload: &ReloadOutcome) -> Option<String> {
    let state = match reload.state {
        ReloadState::NotNeeded => return None,
        ReloadState::Done => "done",
        ReloadState::Owed => "owed",
        ReloadState::Failed => "failed, owed",
    };
    let detail = reload.detail.as_deref().map(|detail| format!(": {}", clean(detail)));
    Some(format!("{} reload {state}{}", name(&reload.name), detail.unwrap_or_default()))
}

/// `3 changed, 5.0 MiB sent, 1 held back; moh reload done`, or `in step`.
pub(super) fn node(report: &Report, node: &NodeReport) -> String {
    let sum = |number: fn(&DirectoryReport) -> u64| node.directories.iter().map(number).sum::<u64>();
    let changed = sum(|of| of.created) + sum(|of| of.updated) + sum(|of| of.deleted);
    let mut parts = Vec::new();
    if changed > 0 {
        parts.push(format!("{changed} {}", if report.dry_run { "to change" } else { "changed" }));
    }
    if sum(|of| of.bytes) > 0 {
        parts.push(format!("{} on the wire", bytes(sum(|of| of.bytes))));
    }
    for (number, what) in [
        (sum(|of| of.held), "held back"),
        (sum(|of| of.failed), "failed"),
        (sum(|of| of.waiting), "in conflict, waiting for a decision"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    let stopped = report.halted.iter().filter(|halted| halted.concerns(node));
    parts.extend(stopped.map(|halted| format!("{} halted", name(&halted.directory))));
    parts.extend(node.reloads.iter().filter_map(reload));
    match (node.state, node.error.as_deref()) {
        (NodeState::Ok, None) if parts.is_empty() => state(node.state).to_owned(),
        (NodeState::Ok | NodeState::Partial, None) if !parts.is_empty() => parts.join(", "),
        (other, error) => {
            parts.insert(0, state(other).to_owned());
            parts.join(", ") + &error.map(|error| format!(": {}", clean(error))).unwrap_or_default()
        }
    }
}

/// The whole run in one line.
pub(super) fn summary(report: &Report) -> String {
    let in_step = report.nodes.iter().filter(|node| report.node_exit_code(node) == 0).count() as u64;
    let nodes = report.nodes.len() as u64;
    let changes = report
        .changes
        .iter()
        .filter(|of| !matches!(of.change.kind, ChangeKind::Hold | ChangeKind::Skip))
        .count() as u64;
    let mut parts = Vec::new();
    if report.interrupted {
        parts.push("interrupted".to_owned());
    }
    if changes > 0 || report.dry_run {
        let verb = if report.dry_run { " would be made" } else { "" };
        parts.push(count(changes, "change", "changes") + verb);
    }
    if !report.dry_run {
        parts.push(match (in_step, nodes) {
            (_, 0) => "no node known".to_owned(),
            (some, all) if some == all => count(all, "node", "nodes") + " in step",
            (some, all) => format!("{some} of {} in step", count(all, "node", "nodes")),
        });
    }
    format!("{} ({})", parts.join(", "), duration(report.duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (5_242_880, "5.0 MiB"),
            (1_048_575, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        for (ms, text) in [(0, "0 ms"), (412, "412 ms"), (3_200, "3.2 s"), (250_900, "4m 10s")] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
