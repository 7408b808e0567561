//! Sentences for people: the only place where reasons and states become words. Names in them are escaped, so that
//! they are harmless to a terminal and to a log.

use std::time::{Duration, UNIX_EPOCH};

use super::{DirectoryReport, Guard, Halted, NodeReport, NodeState, Problem, Report};
use crate::model::escape::{clean, escape_for_people};
use crate::model::rfc3339;
use crate::model::{
    Busy, EntryProblem, HostName, Losses, MAIN, NodeChange, Pruned, Reason, ReloadOutcome, ReloadState, Side,
    Size,
};

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

/// Why a change is made, or why a path is left alone.
pub(crate) fn reason(reason: &Reason) -> String {
    match reason {
        Reason::MakesWayForMains => "makes way for Main's".to_owned(),
        Reason::MakesWayForFile => "makes way for a file".to_owned(),
        Reason::LostOnNode => "deleted on the node".to_owned(),
        Reason::NotOnMain => "not on Main".to_owned(),
        Reason::ChangedOnNode => "changed on the node; its version is in the node's trash".to_owned(),
        Reason::ReplacesProblem(problem) => {
            format!("replaces what is on the node: {}", entry_problem(problem))
        }
        Reason::KeptAsNodesOwn => "deleted on Main, changed on the node: kept as the node's own".to_owned(),
        Reason::ChangeBeatsDeletion { changed_on } => {
            format!("changed {}, which beats a deletion elsewhere", on(changed_on))
        }
        Reason::KeptByPolicy => "deleted elsewhere; this directory keeps deleted files".to_owned(),
        Reason::ConflictDecided { winner } => {
            format!("changed on several hosts; the version {} stays", on(winner))
        }
        Reason::ConflictWaits => {
            "changed on several hosts; waits for a decision, see 'xds-sync conflicts'".to_owned()
        }
        Reason::MovedFrom(path) => format!("from {}", path.for_people()),
        Reason::Restored { id, host } => format!("restored: {id} of {host}"),
        Reason::Busy(busy) => self::busy(*busy).to_owned(),
        Reason::BusyOnNode(busy) => format!("on the node: {}", self::busy(*busy)),
        Reason::ChangedDuringRun => "changed during the run; left for the next one".to_owned(),
        Reason::Problem(problem) => entry_problem(problem),
        Reason::NodeDirectoryInTheWay { kept } => {
            format!("the node has a directory here, with {} in it, which must stay", kept.for_people())
        }
        Reason::DirectoryInTheWay { kept } => {
            format!("a file here would replace a directory with {} in it, which must stay", kept.for_people())
        }
    }
}

fn on(host: &HostName) -> String {
    match host {
        HostName::Main => "on Main".to_owned(),
        HostName::Node(name) => format!("on {name}"),
    }
}

pub(crate) fn busy(busy: Busy) -> &'static str {
    match busy {
        Busy::Open => "open for writing",
        Busy::Empty => "still empty",
        Busy::Unfinished => "recording not finished",
        Busy::Young => "written a moment ago",
        Busy::Changing => "changing while read",
    }
}

fn entry_problem(problem: &EntryProblem) -> String {
    problem.to_string()
}

/// `40 of 60 files, 3 of 5 MiB, would be deleted`.
pub(crate) fn deletions(losses: Losses) -> String {
    format!("{}, would be deleted", share(losses))
}

/// `40 of 60 files, 3 of 5 MiB, would be overwritten`.
pub(crate) fn overwriting(losses: Losses) -> String {
    format!("{}, would be overwritten", share(losses))
}

fn share(losses: Losses) -> String {
    let Losses { lost, all } = losses;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    format!("{} of {} files, {} of {} MiB", lost.files, all.files, mib(lost.bytes), mib(all.bytes))
}

/// `the trash was too large: 3 versions (2.0 MiB) were deleted before trash_keep was over, the oldest of 2026-01-02…`.
pub(crate) fn pruned(pruned: &Pruned) -> Option<String> {
    let oldest = UNIX_EPOCH.checked_add(Duration::from_millis(pruned.oldest_ms)).unwrap_or(UNIX_EPOCH);
    (pruned.files > 0).then(|| {
        format!(
            "the trash was beyond trash_max: {} of its oldest versions ({}) were deleted before trash_keep was over, the \
             first of {}",
            pruned.files,
            Size(pruned.bytes),
            rfc3339(oldest)
        )
    })
}

/// `moh: main -> mds1: update jazz/a.wav (5.0 MiB)`.
pub(crate) fn change(change: &NodeChange) -> String {
    let node = name(&change.node);
    let way = match change.to {
        Side::Node => format!("{MAIN} -> {node}"),
        Side::Main => format!("{node} -> {MAIN}"),
    };
    let size = (change.bytes > 0).then(|| bytes(change.bytes));
    let notes: Vec<String> = size.into_iter().chain(change.reason.as_deref().map(clean)).collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    let (directory, kind, path) = (name(&change.directory), change.kind.word(), change.path.for_people());
    format!("{directory}: {way}: {kind} {path}{notes}")
}

/// `commit mds2: recordings: monitor/2.wav: No space left on device`.
pub(super) fn problem(problem: &Problem) -> String {
    let (stage, place, detail) = (problem.stage.word(), problem_place(problem), clean(&problem.detail));
    match place.is_empty() {
        true => format!("{stage}: {detail}"),
        false => format!("{stage} {place}: {detail}"),
    }
}

/// `mds2: recordings: monitor/2.wav`, as far as it is known.
pub(super) fn problem_place(problem: &Problem) -> String {
    let place = [
        problem.node.as_deref().map(name),
        problem.directory.as_deref().map(name),
        problem.path.as_ref().map(|path| path.for_people()),
    ];
    place.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// `moh on mds1: 40 of 60 files would be deleted (max_delete); nothing was touched`.
pub(super) fn halted(halted: &Halted) -> String {
    let nodes: Vec<String> = halted.nodes.iter().map(|node| name(node)).collect();
    let on = if nodes.is_empty() { String::new() } else { format!(" on {}", nodes.join(", ")) };
    let (directory, detail) = (name(&halted.directory), clean(&halted.detail));
    format!("{directory}{on}: {detail} ({}); nothing was touched", halted.guard.word())
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
        (Guard::NodeRootReplaced, None) => {
            "put the right one back there, or run again for a token".to_owned()
        }
        (Guard::FreeSpace, None) => "make room there; the next run goes on".to_owned(),
        (Guard::Emptied | Guard::MaxDelete | Guard::MaxChange | Guard::MaxAdd, None) => {
            "restore the files, or run again for a token".to_owned()
        }
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

/// `moh reload failed, owed: Unable to connect`. Nothing of one that was not needed.
pub(super) fn reload(reload: &ReloadOutcome) -> Option<String> {
    if reload.state == ReloadState::NotNeeded { None } else { standing_reload(reload) }
}

/// The same of what holds after a run: a warning about a reload that was done is still true.
pub(super) fn standing_reload(reload: &ReloadOutcome) -> Option<String> {
    let (state, before_detail) = match (reload.state, &reload.detail) {
        (ReloadState::NotNeeded, None) => return None,
        (ReloadState::NotNeeded | ReloadState::Done, _) => ("done", ", but "),
        (ReloadState::Owed, _) => ("owed", ": "),
        (ReloadState::Failed, _) => ("failed, owed", ": "),
    };
    let detail = reload.detail.as_deref().map(|detail| format!("{before_detail}{}", clean(detail)));
    Some(format!("{} reload {state}{}", name(&reload.name), detail.unwrap_or_default()))
}

/// `3 changed, 5.0 MiB on the wire, 1 held back, moh reload done`, or `in step`. Where not all was reached, `3 of 9
/// done`.
pub(super) fn node(report: &Report, node: &NodeReport) -> String {
    let sum = |number: fn(&DirectoryReport) -> u64| node.directories.iter().map(number).sum::<u64>();
    let changed = sum(|of| of.created) + sum(|of| of.updated) + sum(|of| of.deleted);
    let planned = sum(|of| of.planned);
    let mut parts = Vec::new();
    if planned > 0 {
        parts.push(format!("{changed} of {} done", changed + planned));
    } else if changed > 0 {
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
    let changes = report.changes.iter().filter(|change| change.kind.is_difference()).count() as u64;
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::samples;
    use super::*;
    use crate::model::RelPathBuf;

    #[test]
    fn times_are_short() {
        for (ms, text) in [(0, "0 ms"), (412, "412 ms"), (3_200, "3.2 s"), (250_900, "4m 10s")] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

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
    fn a_reason_names_hosts_and_paths() {
        let path = |bytes: &[u8]| RelPathBuf::new(bytes).unwrap();
        for (reason, words) in [
            (
                Reason::ConflictDecided { winner: HostName::Main },
                "changed on several hosts; the version on Main stays",
            ),
            (
                Reason::ChangeBeatsDeletion { changed_on: HostName::Node("mds1".to_owned()) },
                "changed on mds1, which beats a deletion elsewhere",
            ),
            (Reason::MovedFrom(path(b"old/a\n.wav")), "from old/a\\x0a.wav"),
            (Reason::BusyOnNode(Busy::Open), "on the node: open for writing"),
            (
                Reason::NodeDirectoryInTheWay { kept: path(b"a/x") },
                "the node has a directory here, with a/x in it, which must stay",
            ),
        ] {
            assert_eq!(super::reason(&reason), words);
        }
    }
}
