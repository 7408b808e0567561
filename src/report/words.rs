//! Sentences for people: the only place where reasons and states become words. Names in them are escaped, so that
//! they are harmless to a terminal and to a log.

use std::time::{Duration, UNIX_EPOCH};

use super::{Halted, NodeState, NodesOwn, Problem};
use crate::model::escape::{clean, escape_for_people};
use crate::model::rfc3339;
use crate::model::{
    Attributes, Busy, ChangeKind, EntryProblem, HostName, Losses, MAIN, NodeChange, NotTaken, Pruned, Reason,
    RelPath, RelPathBuf, ReloadOutcome, ReloadState, Side, Size,
};

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
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

/// `8s`, `4m 10s`, `1h 2m`: of what goes on.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        seconds => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A name of the configuration or of a peer.
pub(crate) fn name(text: &str) -> String {
    escape_for_people(text.as_bytes())
}

/// That a disk does not keep an attribute. `instead`: what it has, and what it was given.
pub(crate) fn unkept(attribute: &str, path: &RelPath, instead: &str, paths: u64) -> String {
    let (path, others) = (path.for_people(), paths.saturating_sub(1));
    let others = if others > 0 { format!(", and so in {others} more places") } else { String::new() };
    let instead = clean(instead);
    format!(
        "{path}: its {attribute} is {instead}{others}: the disk there does not take it. What is in the files has arrived; \
         this is told once"
    )
}

/// The same as a standing fact.
pub(crate) fn unkept_here(attribute: &str) -> String {
    format!("all but its {attribute}: the disk there does not take it, here and perhaps elsewhere")
}

/// Why a change is made, or why a path is left alone.
pub(crate) fn reason(reason: &Reason) -> String {
    match reason {
        Reason::MakesWayForMains => "makes way for Main's".to_owned(),
        Reason::MakesWayForFile => "makes way for a file".to_owned(),
        Reason::LostOnNode => "deleted on the node".to_owned(),
        Reason::NotOnMain => "not on Main".to_owned(),
        Reason::ChangedOnNode => "changed on the node; its version goes to the node's trash".to_owned(),
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
        Reason::ConflictWaitsOnNode => {
            "changed on the node, and not as on Main; waits until somebody decides: remove it on the node \
             to get Main's"
                .to_owned()
        }
        Reason::NodesStays => {
            "changed on the node; its version stays there, as `conflict` of this directory says".to_owned()
        }
        Reason::Attributes(attributes) => self::attributes(*attributes),
        Reason::MovedFrom(path) => format!("from {}", path.for_people()),
        Reason::Restored { id: Some(id), host } => format!("restored: {id} of {host}"),
        Reason::Restored { id: None, host } => format!("restored: as it stood on {host}"),
        Reason::Busy(busy) => self::busy(*busy).to_owned(),
        Reason::BusyOnNode(busy) => format!("on the node: {}", self::busy(*busy)),
        Reason::TooManyAtOnce { max } => {
            format!("the node has more than {max} new files; later runs go on")
        }
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

/// `time, mode`.
fn attributes(attributes: Attributes) -> String {
    let Attributes { time, mode, owner } = attributes;
    let named =
        [(time, "time"), (mode, "mode"), (owner, "owner")].into_iter().filter(|(differs, _)| *differs);
    named.map(|(_, name)| name).collect::<Vec<_>>().join(", ")
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
        Busy::Unread => "not read within the time of a scan, has its turn later",
    }
}

fn entry_problem(problem: &EntryProblem) -> String {
    problem.to_string()
}

/// `not taken here: 3 new, 1 deletion (take in node.toml)`.
pub(crate) fn not_taken(not_taken: &NotTaken) -> String {
    let NotTaken { created, updated, deleted } = *not_taken;
    let parts = [
        (created, format!("{created} new")),
        (updated, format!("{updated} changed")),
        (deleted, count(deleted, "deletion", "deletions")),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter(|(number, _)| *number > 0).map(|(_, words)| words).collect();
    format!("not taken here: {} (take in node.toml)", parts.join(", "))
}

/// `40 of 60 files, 2.5 MiB of 5.0 MiB, would be deleted`.
pub(crate) fn deletions(losses: Losses) -> String {
    format!("{}, would be deleted", share(losses))
}

/// `40 of 60 files, 2.5 MiB of 5.0 MiB, would be overwritten`.
pub(crate) fn overwriting(losses: Losses) -> String {
    format!("{}, would be overwritten", share(losses))
}

fn share(losses: Losses) -> String {
    let Losses { lost, all } = losses;
    format!(
        "{} of {}, {} of {}",
        lost.files,
        count(all.files, "file", "files"),
        bytes(lost.bytes),
        bytes(all.bytes)
    )
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
    shared_change(change, &[&change.node])
}

/// The same of a change that several nodes have in common: `moh: main -> mds1, mds2: create jazz/`.
pub(super) fn shared_change(change: &NodeChange, nodes: &[&str]) -> String {
    let is_content = change.kind != ChangeKind::Metadata;
    let size = (change.bytes > 0 && is_content).then(|| bytes(change.bytes));
    let reason = change.reason.as_deref().filter(|reason| !reason.is_empty()).map(clean);
    let notes: Vec<String> = size.into_iter().chain(reason).collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    let (directory, kind, path) = (name(&change.directory), change.kind.word(), change.path.for_people());
    let slash = if change.is_dir { "/" } else { "" };
    format!("{directory}: {}: {kind} {path}{slash}{notes}", way(change.to, nodes))
}

/// `main -> mds1, mds2`, or `mds1 -> main`.
pub(super) fn way(to: Side, nodes: &[&str]) -> String {
    let nodes = nodes.iter().map(|node| name(node)).collect::<Vec<_>>().join(", ");
    match to {
        Side::Node => format!("{MAIN} -> {nodes}"),
        Side::Main => format!("{nodes} -> {MAIN}"),
    }
}

/// `commit mds2: recordings: monitor/2.wav: No space left on device`; `place` is where.
pub(super) fn problem(problem: &Problem, place: &str) -> String {
    let (stage, detail) = (problem.stage.word(), clean(&problem.detail));
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
pub(crate) fn reload(reload: &ReloadOutcome) -> Option<String> {
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

/// What only a node has, a line each.
pub(super) fn own_lines(directory: &str, own: &NodesOwn) -> Vec<String> {
    let line = |path: &RelPathBuf| format!("{directory}: only there: {}", path.for_people());
    let mut lines: Vec<String> = own.paths.iter().map(line).collect();
    let more = own.count.saturating_sub(own.paths.len() as u64);
    if more > 0 {
        lines.push(format!("{directory}: and {more} more that are only there"));
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (ms, text) in [(0, "0 ms"), (412, "412 ms"), (3_200, "3.2 s"), (250_900, "4m 10s")] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
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
