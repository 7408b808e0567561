//! The status for an administrator: who is in step, since when, and why not.

use std::io::{self, Write};
use std::time::SystemTime;

use super::status::{DirectoryStatus, NodeStatus, Status};
use super::text::{Paint, Style, Verbosity, write_halted};
use super::words;
use crate::model::ReloadOutcome;
use crate::model::escape::clean;
use crate::report::{DirectoryState, PathNote};

impl Status {
    /// Writes a table of the nodes, and below each what is held, owed or wrong.
    pub(crate) fn write(&self, now: SystemTime, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let (Some(run), Some(ended)) = (&self.run, &self.ended) else {
            return writeln!(out, "no run yet: xds-sync sync");
        };
        let names: Vec<String> = self.nodes.iter().map(|node| words::name(&node.name)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        for (node, name) in self.nodes.iter().zip(&names) {
            let in_step = node.exit_code == 0;
            if in_step && style.verbosity == Verbosity::Quiet {
                continue;
            }
            let paint = if in_step { Paint::Good } else { Paint::Wrong };
            let state = style.paint(paint, words::state(node.state));
            write!(out, "{name:<width$}  {state} since {}", ago(&node.since, now))?;
            match &node.last_success {
                _ if in_step => writeln!(out)?,
                Some(success) => writeln!(out, ", last in step {}", ago(success, now))?,
                None => writeln!(out, ", never in step")?,
            }
            for line in details(node, style.verbosity) {
                writeln!(out, "{:width$}  {line}", "")?;
            }
        }
        for halted in &self.halted {
            write_halted(halted, style, out)?;
        }
        for problem in &self.problems {
            let place = words::problem_place(problem);
            let place = if place.is_empty() { place } else { place + ": " };
            let word = style.paint(Paint::Attention, "problem");
            writeln!(out, "{word} {place}{}", clean(&problem.detail))?;
        }
        if style.verbosity > Verbosity::Quiet || self.exit_code != Some(0) {
            let code = self.exit_code.unwrap_or_default();
            writeln!(out, "last run {} ended {}, exit {code}", words::name(run), ago(ended, now))?;
        }
        Ok(())
    }
}

fn details(node: &NodeStatus, verbosity: Verbosity) -> Vec<String> {
    let mut lines: Vec<String> = node.error.iter().map(|error| clean(error)).collect();
    for directory in &node.directories {
        let name = words::name(&directory.name);
        if directory.state == DirectoryState::Halted {
            lines.push(format!("{name}: halted"));
        }
        for (number, what) in [
            (directory.failed, "failed, to be tried again"),
            (directory.waiting, "in conflict, waiting for a decision"),
        ] {
            if number > 0 {
                lines.push(format!("{name}: {number} {what}"));
            }
        }
        if verbosity > Verbosity::Quiet {
            lines.extend(paths(&name, directory));
        }
    }
    let is_told = |reload: &&ReloadOutcome| match reload.detail {
        Some(_) => verbosity > Verbosity::Quiet || node.owed.contains(&reload.name),
        None => node.owed.contains(&reload.name),
    };
    lines.extend(node.reloads.iter().filter(is_told).filter_map(words::standing_reload));
    lines
}

fn paths(name: &str, directory: &DirectoryStatus) -> Vec<String> {
    let held = directory.held_paths.iter().map(|note| path_line(name, "held back", note));
    held.chain(directory.skipped.iter().map(|note| path_line(name, "skipped", note))).collect()
}

fn path_line(directory: &str, what: &str, note: &PathNote) -> String {
    let reason = note.reason.as_deref().map(|reason| format!(" ({})", clean(reason)));
    format!("{directory}: {what} {}{}", note.path.for_people(), reason.unwrap_or_default())
}

/// `2026-01-02T03:04:05Z (5m ago)`.
pub(crate) fn ago(time: &str, now: SystemTime) -> String {
    let passed = humantime::parse_rfc3339(time).ok().and_then(|time| now.duration_since(time).ok());
    let time = words::name(time);
    match passed.map(|passed| passed.as_secs()) {
        None => time,
        Some(seconds) => format!("{time} ({} ago)", short(seconds)),
    }
}

/// One unit is as precise as anybody asks: `3h`, not `3h 12m 7s`.
fn short(seconds: u64) -> String {
    match seconds {
        86_400.. => format!("{}d", seconds / 86_400),
        3_600.. => format!("{}h", seconds / 3_600),
        60.. => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::super::samples::{eventful, node, report, started};
    use super::super::status::Scope;
    use super::*;
    use crate::model::ReloadState;
    use crate::report::{NodeReport, NodeState};

    /// Runs that have nothing to reload still know what was wrong with the last one.
    #[test]
    fn a_warning_about_a_reload_stays() {
        let reloads = [("moh", Some("music on hold that cannot be played: a.mp3")), ("dialplan", None)];
        let reloads = reloads.map(|(name, detail)| ReloadOutcome {
            name: name.to_owned(),
            state: ReloadState::NotNeeded,
            detail: detail.map(str::to_owned),
        });
        let run = report(vec![NodeReport { reloads: reloads.to_vec(), ..node("mds1") }]);
        let lost = NodeReport { state: NodeState::Unreachable, directories: vec![], ..node("mds1") };
        let mut status = Status::default();
        for run in [run, report(vec![lost])] {
            status = status.after(&run, run.exit_code(), Scope::default());
            for (verbosity, is_told) in [(Verbosity::Normal, true), (Verbosity::Quiet, false)] {
                let mut out = Vec::new();
                status.write(started(), Style { verbosity, color: false }, &mut out).unwrap();
                let text = String::from_utf8(out).unwrap();
                let line = "moh reload done, but music on hold that cannot be played: a.mp3\n";
                assert_eq!(text.contains(line), is_told, "{text}");
                assert!(!text.contains("dialplan"), "{text}");
            }
        }
    }

    #[test]
    fn who_is_in_step_since_when_and_why_not() {
        let status = Status::default().after(&eventful(), 25, Scope::default());
        let mut out = Vec::new();
        let style = Style { verbosity: Verbosity::Normal, color: false };
        status.write(started() + Duration::from_secs(2 * 3600 + 60), style, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        mds1  in step since 2026-01-02T03:04:05Z (2h ago)
        mds2  partly in step since 2026-01-02T03:04:05Z (2h ago), never in step
              moh: halted
              recordings: 1 failed, to be tried again
              recordings: 1 in conflict, waiting for a decision
              recordings: held back monitor/1.wav (open for writing)
              dialplan reload failed, owed: Unable to connect to remote asterisk
        mds3  unreachable since 2026-01-02T03:04:05Z (2h ago), never in step
              ssh: connect to host 10.0.0.13 port 22: No route to host
        HALTED moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched
               such as jazz/a.wav, jazz/b.wav; all of them: xds-sync sync -n -v --accept-deletes moh-4f2a
               if that is right: xds-sync sync --accept-deletes moh-4f2a
               if it is not, from the nodes, which still have it: xds-sync restore moh jazz
        problem mds2: recordings: monitor/\x092.wav: No space left on device
        problem row 3: the name "a\x07b" is dropped
        last run 01KDYC00000000000000000000 ended 2026-01-02T03:04:05Z (2h ago), exit 25
        "#);
    }
}
