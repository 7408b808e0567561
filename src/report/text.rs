//! For an administrator at a terminal, or reading cron's mail.

use std::io::{self, Write};

use super::lines::{self, ChangeLines};
use super::{Halted, Problem, Report, Stage, places, remedy, summary, words};
use crate::model::ReloadState;

/// So many problems are told one by one; all of them with `-v`, and in the log.
const MOST_PROBLEMS: usize = 20;

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
    /// What changed; one line when all is in step.
    Normal,
    /// Each change, node and directory.
    Verbose,
}

/// The few colours there are, each for one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        write_changes(report, style, out)?;
    }
    write_nodes(report, style, out)?;
    for halted in &report.halted {
        write_halted(halted, style, out)?;
    }
    write_problems(report, style, out)?;
    let in_step = report.exit_code() == 0;
    if style.verbosity > Verbosity::Quiet || !in_step {
        let paint = if in_step { Paint::Good } else { Paint::Wrong };
        writeln!(out, "{}", style.paint(paint, &summary::summary(report)))?;
    }
    Ok(())
}

fn write_changes(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let ChangeLines { lines, is_complete } =
        lines::lines(&report.changes, style.verbosity == Verbosity::Verbose);
    for (is_remarkable, line) in lines {
        writeln!(out, "{}", if is_remarkable { style.paint(Paint::Attention, &line) } else { line })?;
    }
    for directory in report.nodes.iter().flat_map(|node| &node.directories) {
        if !directory.not_taken.is_empty() {
            writeln!(out, "{}: {}", words::name(&directory.name), words::not_taken(&directory.not_taken))?;
        }
    }
    match (is_complete, report.dry_run) {
        (true, _) => Ok(()),
        (false, true) => writeln!(out, "each of them: the same with -v"),
        (false, false) => writeln!(out, "each of them: xds-sync history -v"),
    }
}

/// What a guard stopped, and what to do about it.
pub(super) fn write_halted(halted: &Halted, style: Style, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} {}", style.paint(Paint::Wrong, "HALTED"), words::halted(halted))?;
    remedy::remedies(halted).iter().try_for_each(|remedy| writeln!(out, "       {remedy}"))
}

fn write_problems(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    // Why discovery failed was told when it failed, and the last line names it.
    let is_new = |problem: &&Problem| !(problem.fails && problem.stage == Stage::Discovery);
    let shared = places::shared(report.problems.iter().filter(is_new));
    let most = if style.verbosity == Verbosity::Verbose { usize::MAX } else { MOST_PROBLEMS };
    for one in shared.iter().take(most) {
        let (paint, word) =
            if one.problem.fails { (Paint::Wrong, "ERROR") } else { (Paint::Attention, "warning") };
        writeln!(out, "{} {}", style.paint(paint, word), one.words())?;
    }
    match shared.len().saturating_sub(most) {
        0 => Ok(()),
        more => {
            writeln!(out, "and {} more: xds-sync status", words::count(more as u64, "problem", "problems"))
        }
    }
}

fn write_nodes(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let width = report.nodes.iter().map(|node| words::name(&node.name).chars().count()).max().unwrap_or(0);
    for node in &report.nodes {
        let code = report.node_exit_code(node);
        let line = summary::node(report, node);
        let is_shown = match style.verbosity {
            Verbosity::Quiet => code != 0,
            // A node that is in step needs no line of its own.
            Verbosity::Normal => code != 0 || line != "in step",
            Verbosity::Verbose => true,
        };
        if !is_shown {
            continue;
        }
        let paint = match code {
            // Such as one that has loaded music which nobody hears.
            0 if node.reloads.iter().any(|reload| reload.detail.is_some()) => Paint::Attention,
            0 => Paint::Good,
            _ => Paint::Wrong,
        };
        let name = format!("{:<width$}", words::name(&node.name));
        writeln!(out, "{}  {line}", style.paint(paint, &name))?;
        if style.verbosity < Verbosity::Verbose {
            continue;
        }
        for directory in &node.directories {
            let became = summary::directory(report, node, directory);
            writeln!(out, "{:width$}  {}: {became}", "", words::name(&directory.name))?;
            for line in
                directory.own.iter().flat_map(|own| words::own_lines(&words::name(&directory.name), own))
            {
                writeln!(out, "{:width$}  {line}", "")?;
            }
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
    use crate::model::{ChangeKind, NotTaken};

    fn text(report: &Report, verbosity: Verbosity) -> String {
        let mut out = Vec::new();
        write(report, Style { verbosity, color: false }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_node_does_not_take_is_told_and_is_no_difference() {
        let mut one = node("mds1");
        one.directories[0].not_taken = NotTaken { created: 3, updated: 0, deleted: 1 };
        let report = report(vec![one]);
        assert_eq!(
            text(&report, Verbosity::Normal),
            "moh: not taken here: 3 new, 1 deletion (take in node.toml)\n1 node in step (412 ms)\n"
        );
        assert_eq!(text(&report, Verbosity::Quiet), "");
        assert!(report.exit_code() == 0 && !report.has_differences());
    }

    #[test]
    fn in_step_is_one_line_or_none() {
        let report = report(vec![node("mds1"), node("mds2")]);
        assert_eq!(text(&report, Verbosity::Normal), "2 nodes in step (412 ms)\n");
        assert_eq!(text(&report, Verbosity::Quiet), "");
        insta::assert_snapshot!(text(&report, Verbosity::Verbose), @"
        mds1  in step
              moh: in step
        mds2  in step
              moh: in step
        2 nodes in step (412 ms)
        ");
    }

    #[test]
    fn an_eventful_run() {
        insta::assert_snapshot!(text(&eventful(), Verbosity::Normal), @r#"
        moh: main -> mds1: create a\x0a\x1b[31m\xff\xe2\x80\xae.wav (12 B)
        moh: main -> mds1: update jazz/a.wav (5.0 MiB)
        recordings: mds2 -> main: hold monitor/1.wav (44 B, open for writing)
        mds1  2 changed, 5.0 MiB on the wire, moh reload done
        mds2  1 held back, 1 failed, 1 in conflict, waiting for a decision, moh halted, dialplan reload failed, owed: Unable to connect to remote asterisk
        mds3  unreachable: ssh: connect to host 10.0.0.13 port 22: No route to host
        HALTED moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched
               such as jazz/a.wav, jazz/b.wav; all of them: xds-sync sync -n -v --accept-deletes moh-4f2a
               if that is right: xds-sync sync --accept-deletes moh-4f2a
               if it is not, from the nodes, which still have it: xds-sync restore moh jazz
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
               such as jazz/a.wav, jazz/b.wav; all of them: xds-sync sync -n -v --accept-deletes moh-4f2a
               if that is right: xds-sync sync --accept-deletes moh-4f2a
               if it is not, from the nodes, which still have it: xds-sync restore moh jazz
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
