//! The status for an administrator: who is in step, since when, and why not.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::SystemTime;

use super::status::{DirectoryStatus, NodeStatus, Status};
use super::text::{Paint, Style, Verbosity, write_halted};
use super::words;
use crate::model::ReloadOutcome;
use crate::model::escape::clean;
use crate::model::{Side, Zone, read_rfc3339};
use crate::report::{DirectoryState, Follows, PathNote, Problem};

/// When the status is read, and by whom.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) now: SystemTime,
    pub(crate) zone: &'a Zone,
    pub(crate) style: Style,
}

impl Status {
    /// Writes a table of the nodes, and below each what is held, owed or wrong.
    pub(crate) fn write(&self, reader: Reader<'_>, out: &mut dyn Write) -> io::Result<()> {
        let style = reader.style;
        let (Some(run), Some(ended)) = (&self.run, &self.ended) else {
            return writeln!(out, "no run yet: xds-sync sync");
        };
        let names: Vec<String> = self.nodes.iter().map(|node| words::name(&node.name)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        for (node, name) in self.nodes.iter().zip(&names) {
            let is_well = node.is_well();
            if is_well && style.verbosity == Verbosity::Quiet {
                continue;
            }
            let paint = if is_well { Paint::Good } else { Paint::Wrong };
            let (state, since) = state(node, &reader);
            writeln!(out, "{name:<width$}  {}{since}", style.paint(paint, state))?;
            for line in details(node, &reader) {
                writeln!(out, "{:width$}  {line}", "")?;
            }
        }
        if style.verbosity > Verbosity::Quiet {
            for line in self.left_alone_on_main() {
                writeln!(out, "{line}")?;
            }
        }
        self.write_wrong(style, out)?;
        if style.verbosity > Verbosity::Quiet || self.status_code != 0 {
            let code = self.exit_code.unwrap_or_default();
            writeln!(out, "last run {} ended {}, exit {code}", words::name(run), reader.ago(ended))?;
        }
        Ok(())
    }

    /// What is halted, and what else went wrong.
    fn write_wrong(&self, style: Style, out: &mut dyn Write) -> io::Result<()> {
        for halted in &self.halted {
            write_halted(halted, style, out)?;
        }
        for problem in &self.problems {
            let (word, line) = problem_line(problem);
            let paint = if problem.fails { Paint::Wrong } else { Paint::Attention };
            writeln!(out, "{} {line}", style.paint(paint, word))?;
        }
        Ok(())
    }

    /// What is not carried because of what Main has there: it is the same for every node, and told once.
    fn left_alone_on_main(&self) -> BTreeSet<String> {
        let directories = self.nodes.iter().flat_map(|node| &node.directories);
        let notes = directories.flat_map(|of| of.skipped.iter().map(move |note| (of, note)));
        let of_main = notes.filter(|(_, note)| note.side == Side::Main);
        of_main.map(|(of, note)| path_line(&words::name(&of.name), "skipped on main", note)).collect()
    }
}

/// A node's state in a word, and ` since 2026-01-02 04:04:05 (2h ago), never in step`.
pub(super) fn state(node: &NodeStatus, reader: &Reader<'_>) -> (&'static str, String) {
    if let Some(word) = node.silence() {
        // Since when, the line with its own words tells.
        return (word, String::new());
    }
    let since = format!(" since {}", reader.ago(&node.since));
    let since = match &node.last_success {
        _ if node.exit_code == 0 => since,
        Some(success) => format!("{since}, last in step {}", reader.ago(success)),
        None => since + ", never in step",
    };
    (words::state(node.state), since)
}

/// How bad a problem is, and what it is.
pub(super) fn problem_line(problem: &Problem) -> (&'static str, String) {
    let place = words::problem_place(problem);
    let place = if place.is_empty() { place } else { place + ": " };
    (if problem.fails { "ERROR" } else { "warning" }, place + &clean(&problem.detail))
}

/// How a node that follows is, by its own words.
fn follows_line(follows: &Follows, reader: &Reader<'_>) -> String {
    let Follows { seen, state, seq, newest, error } = follows;
    let Some(seen) = seen else {
        let why =
            error.as_ref().map_or_else(|| "it has told nothing of itself yet".to_owned(), |why| clean(why));
        return format!("follows the store: {why}");
    };
    let has = match seq {
        0 => "has no publication yet".to_owned(),
        seq if seq >= newest => format!("has publication {seq}, the newest"),
        seq => format!("has publication {seq} of {newest}"),
    };
    let state =
        state.as_deref().filter(|state| *state != "current").map(|state| format!(", {}", clean(state)));
    let why = error.as_ref().map(|why| format!(": {}", clean(why)));
    let (state, why) = (state.unwrap_or_default(), why.unwrap_or_default());
    format!("follows the store: {has}{state}{why}, told {}", reader.ago(seen))
}

/// A line for each thing that is to be known of a node beside its state.
pub(super) fn details(node: &NodeStatus, reader: &Reader<'_>) -> Vec<String> {
    let verbosity = reader.style.verbosity;
    let mut lines: Vec<String> = node.follows.iter().map(|follows| follows_line(follows, reader)).collect();
    lines.extend(node.error.iter().map(|error| clean(error)));
    for directory in &node.directories {
        let name = words::name(&directory.name);
        match directory.state {
            DirectoryState::Halted => lines.push(format!("{name}: halted")),
            DirectoryState::InStep if verbosity == Verbosity::Verbose => {
                lines.push(format!("{name}: in step"));
            }
            DirectoryState::InStep | DirectoryState::Changed | DirectoryState::Partial => {}
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
        if verbosity == Verbosity::Verbose {
            lines.extend(directory.own.iter().flat_map(|own| words::own_lines(&name, own)));
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
    let skipped = directory.skipped.iter().filter(|note| note.side == Side::Node);
    let named = held.chain(skipped.map(|note| path_line(name, "skipped", note)));
    // Where files are not named.
    let unnamed = [
        (directory.held, directory.held_paths.len(), "held back"),
        (directory.left_alone, directory.skipped.len(), "skipped"),
    ];
    let unnamed = unnamed.into_iter().filter_map(|(number, named, what)| {
        let more = number.saturating_sub(named as u64);
        (more > 0).then(|| format!("{name}: {more} {what}"))
    });
    named.chain(unnamed).collect()
}

fn path_line(directory: &str, what: &str, note: &PathNote) -> String {
    let reason = note.reason.as_deref().map(|reason| format!(" ({})", clean(reason)));
    format!("{directory}: {what} {}{}", note.path.for_people(), reason.unwrap_or_default())
}

impl Reader<'_> {
    /// `2026-01-02 04:04:05 (5m ago)`.
    pub(crate) fn ago(&self, time: &str) -> String {
        match read_rfc3339(time) {
            Some(time) => self.ago_of(time),
            None => words::name(time),
        }
    }

    /// The same of a moment.
    pub(crate) fn ago_of(&self, time: SystemTime) -> String {
        let told = self.zone.tell(time);
        match self.now.duration_since(time) {
            Ok(passed) => format!("{told} ({} ago)", short(passed.as_secs())),
            // By a clock that was ahead.
            Err(_) => told,
        }
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
    use crate::model::{RelPathBuf, ReloadState};
    use crate::report::{NodeReport, NodeState, NodesOwn};

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
                let text = text(&status, verbosity);
                let line = "moh reload done, but music on hold that cannot be played: a.mp3\n";
                assert_eq!(text.contains(line), is_told, "{text}");
                assert!(!text.contains("dialplan"), "{text}");
            }
        }
    }

    fn text(status: &Status, verbosity: Verbosity) -> String {
        let mut out = Vec::new();
        let zone = Zone::of(jiff::tz::TimeZone::posix("CET-1").unwrap());
        let now = started() + Duration::from_secs(2 * 3600 + 60);
        let reader = Reader { now, zone: &zone, style: Style { verbosity, color: false } };
        status.write(reader, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn who_is_in_step_since_when_and_why_not() {
        let status = Status::default().after(&eventful(), 25, Scope::default());
        insta::assert_snapshot!(text(&status, Verbosity::Normal), @r#"
        mds1  in step since 2026-01-02 04:04:05 (2h ago)
        mds2  partly in step since 2026-01-02 04:04:05 (2h ago), never in step
              moh: halted
              recordings: 1 failed, to be tried again
              recordings: 1 in conflict, waiting for a decision
              recordings: held back monitor/1.wav (open for writing)
              dialplan reload failed, owed: Unable to connect to remote asterisk
        mds3  unreachable since 2026-01-02 04:04:05 (2h ago), never in step
              ssh: connect to host 10.0.0.13 port 22: No route to host
        HALTED moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched
               such as jazz/a.wav, jazz/b.wav; all of them: xds-sync sync -n -v --accept-deletes moh-4f2a
               if that is right: xds-sync sync --accept-deletes moh-4f2a
               if it is not, from the nodes, which still have it: xds-sync restore moh jazz
        ERROR mds2: recordings: monitor/\x092.wav: No space left on device
        warning row 3: the name "a\x07b" is dropped
        last run 01KDYC00000000000000000000 ended 2026-01-02 04:04:05 (2h ago), exit 25
        "#);
    }

    #[test]
    fn all_directories_and_what_only_a_node_has_are_for_who_asks() {
        let path = |path: &[u8]| RelPathBuf::new(path).unwrap();
        let note = |side| PathNote { path: path(b"fifo"), side, reason: Some("a FIFO".to_owned()) };
        let looked = |name: &str| {
            let mut node = node(name);
            node.directories[0].own = Some(NodesOwn { count: 3, paths: vec![path(b"99-local.conf")] });
            node.directories[0].skipped = vec![note(Side::Main), note(Side::Node)];
            node
        };
        let run = report(vec![looked("mds1"), looked("mds2")]);
        let status = Status::default().after(&run, 0, Scope::default());
        insta::assert_snapshot!(text(&status, Verbosity::Verbose), @r"
        mds1  in step since 2026-01-02 04:04:05 (2h ago)
              moh: in step
              moh: skipped fifo (a FIFO)
              moh: only there: 99-local.conf
              moh: and 2 more that are only there
        mds2  in step since 2026-01-02 04:04:05 (2h ago)
              moh: in step
              moh: skipped fifo (a FIFO)
              moh: only there: 99-local.conf
              moh: and 2 more that are only there
        moh: skipped on main fifo (a FIFO)
        last run 01KDYC00000000000000000000 ended 2026-01-02 04:04:05 (2h ago), exit 0
        ");
        assert_eq!(text(&status, Verbosity::Quiet), "");
    }
}
