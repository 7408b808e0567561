//! Lines for syslog, under one name: `grep xivo-xds-sync /var/log/syslog` shows everything.

use std::collections::BTreeMap;

use super::{Report, places, remedy, summary, words};

/// So many changes of one run are logged one by one. A first run has tens of thousands, and a log that
/// drops lines at that rate would drop other programs' too.
const MAX_CHANGES: usize = 1000;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Somebody has to do something.
    Error,
    /// Somebody should know.
    Warning,
    /// What was done.
    Info,
}

/// One line for syslog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// How much it matters.
    pub(crate) severity: Severity,
    /// What it says; harmless to who reads it.
    pub(crate) text: String,
}

impl Line {
    /// A line; `text` must be harmless already.
    pub(crate) fn new(severity: Severity, text: impl Into<String>) -> Line {
        Line { severity, text: text.into() }
    }
}

/// A run's lines: one for each change, node, halt and problem, and one for the run. None for a dry run.
#[must_use]
pub(crate) fn render(report: &Report, exit_code: u8) -> Vec<Line> {
    if report.dry_run {
        return Vec::new();
    }
    let mut lines: Vec<Line> = report
        .changes
        .iter()
        .take(MAX_CHANGES)
        .map(|change| Line::new(Severity::Info, words::change(change)))
        .collect();
    let mut rest: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for change in report.changes.iter().skip(MAX_CHANGES) {
        *rest.entry((&change.directory, &change.node, change.kind.word())).or_default() += 1;
    }
    lines.extend(rest.into_iter().map(|((directory, node, action), number)| {
        let (directory, node) = (words::name(directory), words::name(node));
        Line::new(Severity::Info, format!("{directory}: {node}: {number} more: {action}"))
    }));
    lines.extend(report.nodes.iter().map(|node| {
        let severity = if report.node_exit_code(node) == 0 { Severity::Info } else { Severity::Error };
        let text = format!("node {}: {}", words::name(&node.name), summary::node(report, node));
        Line::new(severity, text)
    }));
    lines.extend(report.halted.iter().map(|halted| {
        let text = format!("halted {}; {}", words::halted(halted), remedy::remedies(halted).join("; "));
        Line::new(Severity::Error, text)
    }));
    lines.extend(places::shared(&report.problems).iter().map(|one| {
        let severity = if one.problem.fails { Severity::Error } else { Severity::Warning };
        Line::new(severity, format!("problem: {}", one.words()))
    }));
    let severity = if exit_code == 0 { Severity::Info } else { Severity::Error };
    let text = format!("run {}: {}, exit {exit_code}", report.run, summary::summary(report));
    lines.push(Line::new(severity, text));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::samples::{change, eventful, node, report};
    use super::*;
    use crate::model::ChangeKind;

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| format!("{:?} {}\n", line.severity, line.text)).collect()
    }

    #[test]
    fn an_eventful_run() {
        insta::assert_snapshot!(text(&render(&eventful(), 25)), @r#"
        Info moh: main -> mds1: update jazz/a.wav (5.0 MiB)
        Info moh: main -> mds1: create a\x0a\x1b[31m\xff\xe2\x80\xae.wav (12 B)
        Info recordings: mds2 -> main: hold monitor/1.wav (44 B, open for writing)
        Info node mds1: 2 changed, 5.0 MiB on the wire, moh reload done
        Error node mds2: 1 held back, 1 failed, 1 in conflict, waiting for a decision, moh halted, dialplan reload failed, owed: Unable to connect to remote asterisk
        Error node mds3: unreachable: ssh: connect to host 10.0.0.13 port 22: No route to host
        Error halted moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched; such as jazz/a.wav, jazz/b.wav; all of them: xds-sync sync -n -v --accept-deletes moh-4f2a; if that is right: xds-sync sync --accept-deletes moh-4f2a; if it is not, from the nodes, which still have it: xds-sync restore moh jazz
        Error problem: commit mds2: recordings: monitor/\x092.wav: No space left on device
        Warning problem: discovery: row 3: the name "a\x07b" is dropped
        Error run 01KDYC00000000000000000000: 2 changes, 1 of 3 nodes in step (412 ms), exit 25
        "#);
    }

    #[test]
    fn a_run_in_step_is_a_line_per_node_and_one_for_the_run() {
        insta::assert_snapshot!(text(&render(&report(vec![node("mds1")]), 0)), @"
        Info node mds1: in step
        Info run 01KDYC00000000000000000000: 1 node in step (412 ms), exit 0
        ");
    }

    #[test]
    fn a_dry_run_is_not_logged() {
        assert_eq!(render(&Report { dry_run: true, ..eventful() }, 25), []);
    }

    #[test]
    fn after_a_thousand_changes_the_rest_is_counted() {
        let mut report = report(vec![node("mds1")]);
        report.changes =
            (0..1203).map(|n| change("mds1", ChangeKind::Create, format!("{n}").as_bytes(), 1)).collect();
        let lines = render(&report, 0);
        assert_eq!(lines.len(), 1000 + 1 + 1 + 1);
        assert_eq!(lines[1000].text, "moh: mds1: 203 more: create");
    }
}
