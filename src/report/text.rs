//! For an administrator at a terminal, or reading cron's mail.

use std::io::{self, Write};

use super::{Report, words};
use crate::model::{ChangeKind, ReloadState};

/// How much is written, and whether in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// How much.
    pub(crate) verbosity: Verbosity,
    /// Whether the reader understands colours.
    pub(crate) color: bool,
}

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// What went wrong, and nothing otherwise.
    Quiet,
    /// Every change; one line when all is in step.
    Normal,
    /// Every node and every directory too.
    Verbose,
}

/// The few colours there are, each for one meaning.
#[derive(Clone, Copy)]
pub(super) enum Paint {
    Good,
    Attention,
    Wrong,
}

impl Style {
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Good => "32",
            Paint::Attention => "33",
            Paint::Wrong => "1;31",
        };
        match self.color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Writes the report: changes, nodes, what is halted and how to release it, problems, a summary.
pub(crate) fn write(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if style.verbosity > Verbosity::Quiet {
        for change in &report.changes {
            let line = words::change(change);
            let attention = matches!(
                change.kind,
                ChangeKind::Drift | ChangeKind::Conflict | ChangeKind::Hold | ChangeKind::Skip
            );
            writeln!(out, "{}", if attention { style.paint(Paint::Attention, &line) } else { line })?;
        }
    }
    write_nodes(report, style, out)?;
    for halted in &report.halted {
        writeln!(out, "{} {}", style.paint(Paint::Wrong, "HALTED"), words::halted(halted))?;
        writeln!(out, "       {}", words::remedy(halted))?;
    }
    for problem in &report.problems {
        let (paint, word) =
            if problem.fails { (Paint::Wrong, "ERROR") } else { (Paint::Attention, "warning") };
        writeln!(out, "{} {}", style.paint(paint, word), words::problem(problem))?;
    }
    let in_step = report.exit_code() == 0;
    if style.verbosity > Verbosity::Quiet || !in_step {
        let paint = if in_step { Paint::Good } else { Paint::Wrong };
        writeln!(out, "{}", style.paint(paint, &words::summary(report)))?;
    }
    Ok(())
}

fn write_nodes(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let width = report.nodes.iter().map(|node| words::name(&node.name).chars().count()).max().unwrap_or(0);
    for node in &report.nodes {
        let code = report.node_exit_code(node);
        let line = words::node(report, node);
        let is_shown = match style.verbosity {
            Verbosity::Quiet => code != 0,
            // A dry run's changes say it all; a node that is in step needs no line of its own.
            Verbosity::Normal => code != 0 || (!report.dry_run && line != "in step"),
            Verbosity::Verbose => true,
        };
        if !is_shown {
            continue;
        }
        let paint = match code {
            0 => Paint::Good,
            _ => Paint::Wrong,
        };
        let name = format!("{:<width$}", words::name(&node.name));
        writeln!(out, "{}  {line}", style.paint(paint, &name))?;
        if style.verbosity < Verbosity::Verbose {
            continue;
        }
        for directory in &node.directories {
            writeln!(
                out,
                "{:width$}  {}: {} created, {} updated, {} deleted, {} held back, {} on the wire",
                "",
                words::name(&directory.name),
                directory.created,
                directory.updated,
                directory.deleted,
                directory.held,
                words::bytes(directory.bytes),
            )?;
        }
        for reload in node.reloads.iter().filter(|reload| reload.state == ReloadState::NotNeeded) {
            writeln!(out, "{:width$}  {} reload not needed", "", words::name(&reload.name))?;
            if let Some(warning) = words::standing_reload(reload) {
                writeln!(out, "{:width$}  {warning}", "")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::samples::{change, eventful, node, report};
    use super::*;

    fn text(report: &Report, verbosity: Verbosity) -> String {
        let mut out = Vec::new();
        write(report, Style { verbosity, color: false }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn in_step_is_one_line_or_none() {
        let report = report(vec![node("mds1"), node("mds2")]);
        assert_eq!(text(&report, Verbosity::Normal), "2 nodes in step (412 ms)\n");
        assert_eq!(text(&report, Verbosity::Quiet), "");
        insta::assert_snapshot!(text(&report, Verbosity::Verbose), @"
        mds1  in step
              moh: 0 created, 0 updated, 0 deleted, 0 held back, 0 B on the wire
        mds2  in step
              moh: 0 created, 0 updated, 0 deleted, 0 held back, 0 B on the wire
        2 nodes in step (412 ms)
        ");
    }

    #[test]
    fn an_eventful_run() {
        insta::assert_snapshot!(text(&eventful(), Verbosity::Normal), @r#"
        moh: main -> mds1: update jazz/a.wav (5.0 MiB)
        moh: main -> mds1: create a\x0a\x1b[31m\xff\xe2\x80\xae.wav (12 B)
        recordings: mds2 -> main: hold monitor/1.wav (44 B, open for writing)
        mds1  2 changed, 5.0 MiB on the wire, moh reload done
        mds2  1 held back, 1 failed, 1 in conflict, waiting for a decision, moh halted, dialplan reload failed, owed: Unable to connect to remote asterisk
        mds3  unreachable: ssh: connect to host 10.0.0.13 port 22: No route to host
        HALTED moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched
               if that is right: xds-sync sync --accept-deletes moh-4f2a
        ERROR commit mds2: recordings: monitor/\x092.wav: No space left on device
        warning discovery: row 3: the name "a\x07b" is dropped
        2 changes, 1 of 3 nodes in step (412 ms)
        "#);
    }

    #[test]
    fn quiet_is_what_went_wrong() {
        insta::assert_snapshot!(text(&eventful(), Verbosity::Quiet), @r#"
        mds2  1 held back, 1 failed, 1 in conflict, waiting for a decision, moh halted, dialplan reload failed, owed: Unable to connect to remote asterisk
        mds3  unreachable: ssh: connect to host 10.0.0.13 port 22: No route to host
        HALTED moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched
               if that is right: xds-sync sync --accept-deletes moh-4f2a
        ERROR commit mds2: recordings: monitor/\x092.wav: No space left on device
        warning discovery: row 3: the name "a\x07b" is dropped
        2 changes, 1 of 3 nodes in step (412 ms)
        "#);
    }

    #[test]
    fn a_dry_run_is_a_line_per_change_and_a_summary() {
        let mut report = report(vec![node("mds1")]);
        report.dry_run = true;
        report.changes = vec![change("mds1", ChangeKind::Delete, b"old.wav", 7)];
        insta::assert_snapshot!(text(&report, Verbosity::Normal), @"
        moh: main -> mds1: delete old.wav (7 B)
        1 change would be made (412 ms)
        ");
    }

    #[test]
    fn colours_are_only_for_who_wants_them() {
        let mut out = Vec::new();
        let style = Style { verbosity: Verbosity::Normal, color: true };
        write(&report(vec![node("mds1")]), style, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[32m1 node in step (412 ms)\x1b[0m\n");
    }
}
