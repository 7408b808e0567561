//! A node's part in a run, and the whole run, in a line each.

use std::collections::BTreeSet;

use super::words;
use super::{DirectoryReport, DirectoryState, NodeReport, NodeState, Problem, Report, Stage};
use crate::model::escape::clean;
use crate::model::{ChangeKind, NodeChange, ReloadOutcome, ReloadState};

/// The same in a dry run, which leaves a reload owed that the run would do.
fn reload_to_come(reload: &ReloadOutcome) -> Option<String> {
    match (reload.state, &reload.detail) {
        (ReloadState::Owed, None) => Some(format!("{} reload would be done", words::name(&reload.name))),
        _ => words::reload(reload),
    }
}

/// `3 changed, 5.0 MiB on the wire, 1 held back, moh reload done`, or `in step`. Where not all was reached, `3 of 9
/// done`.
pub(super) fn node(report: &Report, node: &NodeReport) -> String {
    let sum = |number: fn(&DirectoryReport) -> u64| node.directories.iter().map(number).sum::<u64>();
    // The loser of a decided conflict has got the other version.
    let decided = sum(|of| of.conflicts.saturating_sub(of.waiting));
    let changed = sum(|of| of.created) + sum(|of| of.updated) + sum(|of| of.deleted) + decided;
    let planned = sum(|of| of.planned);
    let mut parts = Vec::new();
    if planned > 0 {
        parts.push(format!("{changed} of {} done", changed + planned));
    } else if changed > 0 {
        parts.push(format!("{changed} {}", if report.dry_run { "to change" } else { "changed" }));
    }
    let sent = if report.dry_run {
        to_send(report, |change| *change.node == *node.name)
    } else {
        sum(|of| of.bytes)
    };
    if sent > 0 {
        parts.push(format!(
            "{} {}",
            words::bytes(sent),
            if report.dry_run { "to send" } else { "on the wire" }
        ));
    }
    for (number, what) in [
        (sum(|of| of.held), "held back"),
        (sum(|of| of.failed), "failed"),
        (decided, if decided == 1 { "conflict decided" } else { "conflicts decided" }),
        (sum(|of| of.waiting), "in conflict, waiting for a decision"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    let stopped = report.halted.iter().filter(|halted| halted.concerns(node));
    parts.extend(stopped.map(|halted| format!("{} halted", words::name(&halted.directory))));
    parts.extend(node.reloads.iter().filter_map(if report.dry_run { reload_to_come } else { words::reload }));
    match (node.state, node.error.as_deref()) {
        (NodeState::Ok, None) if parts.is_empty() => words::state(node.state).to_owned(),
        (NodeState::Ok | NodeState::Partial, None) if !parts.is_empty() => parts.join(", "),
        (other, error) => {
            parts.insert(0, words::state(other).to_owned());
            parts.join(", ") + &error.map(|error| format!(": {}", clean(error))).unwrap_or_default()
        }
    }
}

/// What became, or would become, of one directory on a node.
pub(super) fn directory(report: &Report, node: &NodeReport, directory: &DirectoryReport) -> String {
    let is_dry = report.dry_run;
    let decided = directory.conflicts.saturating_sub(directory.waiting);
    let sent = match is_dry {
        true => to_send(report, |change| *change.node == *node.name && *change.directory == *directory.name),
        false => directory.bytes,
    };
    let number = |number: u64, done: &str, to_come: &str| {
        (number > 0).then(|| format!("{number} {}", if is_dry { to_come } else { done }))
    };
    let parts = [
        (directory.state == DirectoryState::Halted).then(|| "halted".to_owned()),
        number(directory.created, "created", "to create"),
        number(directory.updated - directory.metadata.min(directory.updated), "updated", "to update"),
        number(directory.metadata, "metadata", "metadata"),
        number(directory.deleted, "deleted", "to delete"),
        number(decided, "in conflict, decided", "in conflict, to be decided"),
        number(directory.planned, "not reached", "not reached"),
        number(directory.held, "held back", "held back"),
        number(directory.failed, "failed", "failed"),
        number(directory.waiting, "in conflict, waiting", "in conflict, waiting"),
        (sent > 0)
            .then(|| format!("{} {}", words::bytes(sent), if is_dry { "to send" } else { "on the wire" })),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "in step".to_owned() } else { parts.join(", ") }
}

/// Bytes of the contents that a dry run would send; what the other end has already will not cross the wire.
fn to_send(report: &Report, is_meant: impl Fn(&NodeChange) -> bool) -> u64 {
    let is_content = |change: &&NodeChange| {
        use ChangeKind::{Conflict, Create, Drift, Update};
        matches!(change.kind, Create | Update | Drift | Conflict)
    };
    report
        .changes
        .iter()
        .filter(is_content)
        .filter(|change| is_meant(change))
        .map(|change| change.bytes)
        .sum()
}

/// The whole run in one line.
pub(super) fn summary(report: &Report) -> String {
    let in_step = report.nodes.iter().filter(|node| report.node_exit_code(node) == 0).count() as u64;
    let nodes = report.nodes.len() as u64;
    let changes = report.changes.iter().filter(|change| change.kind.is_difference()).count() as u64;
    let mut parts = Vec::new();
    if report.interrupted {
        parts.push("interrupted".to_owned());
    }
    if changes > 0 || report.dry_run {
        let verb = if report.dry_run { " would be made" } else { "" };
        parts.push(words::count(changes, "change", "changes") + verb);
    }
    if report.dry_run {
        parts.extend(prospects(report));
    } else {
        parts.push(match (in_step, nodes) {
            (_, 0) => "no node known".to_owned(),
            (some, all) if some == all => words::count(all, "node", "nodes") + " in step",
            (some, all) => format!("{some} of {} in step", words::count(all, "node", "nodes")),
        });
    }
    // What is no single node's.
    let fails = |problem: &&Problem| problem.fails && problem.node.is_none();
    let (discovery, main): (Vec<&Problem>, Vec<&Problem>) =
        report.problems.iter().filter(fails).partition(|problem| problem.stage == Stage::Discovery);
    if !discovery.is_empty() {
        parts.push("discovery failed".to_owned());
    }
    if !main.is_empty() {
        parts.push(words::count(main.len() as u64, "problem", "problems") + " on Main");
    }
    format!("{} ({})", parts.join(", "), words::duration(report.duration))
}

/// What a dry run tells in its last line beside the number of changes.
fn prospects(report: &Report) -> Vec<String> {
    let mut parts = Vec::new();
    let sent = to_send(report, |_| true);
    if sent > 0 {
        parts.push(format!("{} to send", words::bytes(sent)));
    }
    let reloads = report.nodes.iter().flat_map(|node| &node.reloads);
    let is_due = |reload: &&ReloadOutcome| reload.state == ReloadState::Owed && reload.detail.is_none();
    let due = reloads.filter(is_due).count() as u64;
    if due > 0 {
        parts.push(words::count(due, "reload", "reloads") + " due");
    }
    let halted: BTreeSet<&str> = report.halted.iter().map(|halted| &*halted.directory).collect();
    parts.extend(halted.into_iter().map(|directory| format!("{} halted", words::name(directory))));
    let is_lost = |node: &&NodeReport| !matches!(node.state, NodeState::Ok | NodeState::Partial);
    let lost = report.nodes.iter().filter(is_lost).count() as u64;
    if lost > 0 {
        parts.push(format!(
            "{lost} of {} not reached",
            words::count(report.nodes.len() as u64, "node", "nodes")
        ));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn what_was_not_reached_stands_in_the_line_of_its_node() {
        let mut node = samples::node("mds1");
        node.state = NodeState::Partial;
        node.directories[0].created = 5;
        node.directories[0].count_planned(4);
        let report = samples::report(vec![node]);
        assert_eq!(super::node(&report, &report.nodes[0]), "5 of 9 done");
        assert_eq!(summary(&report), "0 of 1 node in step (412 ms)");
    }

    #[test]
    fn a_file_that_lost_a_conflict_has_changed() {
        let mut node = samples::node("mds1");
        (node.directories[0].conflicts, node.directories[0].waiting) = (2, 1);
        let report = samples::report(vec![node]);
        assert_eq!(
            super::node(&report, &report.nodes[0]),
            "1 changed, 1 conflict decided, 1 in conflict, waiting for a decision"
        );
    }

    #[test]
    fn the_last_line_of_a_dry_run_tells_what_would_be_sent_and_done_and_what_would_not() {
        let mut lost = samples::node("mds2");
        lost.state = NodeState::Unreachable;
        let mut node = samples::node("mds1");
        node.reloads = vec![ReloadOutcome { name: "moh".to_owned(), state: ReloadState::Owed, detail: None }];
        let mut report = samples::report(vec![node, lost]);
        report.dry_run = true;
        report.changes = vec![
            samples::change("mds1", ChangeKind::Create, b"a.wav", 2048),
            samples::change("mds1", ChangeKind::Metadata, b"b.wav", 9000),
        ];
        report.halted = vec![samples::halted("sounds", crate::report::Guard::MaxDelete)];
        assert_eq!(
            summary(&report),
            "2 changes would be made, 2.0 KiB to send, 1 reload due, sounds halted, 1 of 2 nodes not reached (412 ms)"
        );
        let line = super::node(&report, &report.nodes[0]);
        assert_eq!(line, "2.0 KiB to send, sounds halted, moh reload would be done");
    }

    #[test]
    fn the_last_line_says_why_it_is_red() {
        let mut report = samples::report(vec![samples::node("mds1")]);
        report.problems = vec![samples::problem(Stage::Discovery), samples::problem(Stage::State)];
        assert_eq!(summary(&report), "1 node in step, discovery failed, 1 problem on Main (412 ms)");
    }
}
