//! What went wrong in a run, in a few lines: for the history.

use super::{Report, words};
use crate::model::ReloadState;
use crate::model::escape::clean;

/// Most lines that are kept of a run.
const MOST: usize = 20;
/// Most characters of a line.
const LONGEST: usize = 300;

/// Nodes that were lost, reloads that are owed, what is halted, what waits and what failed: a line each.
pub(crate) fn wrong(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.interrupted {
        lines.push("a signal ended the run".to_owned());
    }
    for node in &report.nodes {
        let name = words::name(&node.name);
        lines
            .extend(node.error.as_ref().map(|error| format!("{name} {}: {error}", words::state(node.state))));
        let owed =
            node.reloads.iter().filter(|of| matches!(of.state, ReloadState::Owed | ReloadState::Failed));
        lines.extend(owed.filter_map(words::reload).map(|reload| format!("{name}: {reload}")));
        let waiting = node.directories.iter().filter(|directory| directory.waiting > 0);
        lines.extend(waiting.map(|directory| {
            let (waiting, directory) = (directory.waiting, words::name(&directory.name));
            format!("{name}: {directory}: {waiting} in conflict, waiting for a decision")
        }));
    }
    lines.extend(report.halted.iter().map(words::halted));
    let failed = report.problems.iter().filter(|problem| problem.fails);
    lines.extend(failed.map(|problem| words::problem(problem, &words::problem_place(problem))));
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    let mut lines: Vec<String> = lines.iter().map(|line| clipped(&clean(line))).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn clipped(line: &str) -> String {
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{eventful, node, problem, report};
    use super::*;
    use crate::report::Stage;

    #[test]
    fn what_went_wrong_is_told_and_warnings_are_not() {
        insta::assert_snapshot!(wrong(&eventful()).join("\n"), @r"
        mds2: dialplan reload failed, owed: Unable to connect to remote asterisk
        mds2: recordings: 1 in conflict, waiting for a decision
        mds3 unreachable: ssh: connect to host 10.0.0.13 port 22: No route to host
        moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched
        commit mds2: recordings: monitor/\x092.wav: No space left on device
        ");
        assert_eq!(wrong(&report(vec![node("mds1")])), [""; 0]);
    }

    #[test]
    fn it_is_bounded() {
        let mut report = report(Vec::new());
        let mut long = problem(Stage::Scan);
        long.detail = "é".repeat(5000);
        report.problems = vec![long; 30];
        let lines = wrong(&report);
        assert_eq!(lines.len(), MOST + 1);
        assert_eq!(lines[MOST], "and 10 more");
        assert!(lines.iter().all(|line| line.chars().count() <= LONGEST + 1));
    }
}
