//! `xds-sync history`.

use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write as _;

use super::{Context, candidates, exit, load, named};
use crate::config::Config;
use crate::host;
use crate::model::escape::clean;
use crate::model::{ChangeKind, NodeChange, Zone, rfc3339};
use crate::report::exit::IN_STEP;
use crate::report::text::Verbosity;
use crate::report::{milliseconds, to_json, words};
use crate::state::{Asked, RunRecord};

const EXAMPLES: &str = "\
Examples:
  xds-sync history --last 20         the last runs, a line each, the newest last
  xds-sync history -v --since 2h     with every file
  xds-sync history moh jazz/a.wav    what happened to one file
  xds-sync history recordings 2026/11 --node mds1
  xds-sync history --since '2026-01-02 08:00' --json

A version that was replaced or deleted has an ID; its beginning will do:
  xds-sync restore moh jazz/a.wav --id ID";

/// Show what runs did: a line each, with files for a path or with -v
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only this directory
    #[arg(add = candidates::directories())]
    directory: Option<String>,
    /// Only this path in it, and what is below
    #[arg(add = candidates::nothing())]
    path: Option<OsString>,
    /// Only what this node got, or what came from it
    #[arg(long, value_name = "NAME", add = candidates::nodes())]
    node: Option<String>,
    /// Only runs since then: an age such as 2h or 30d, or a time such as 2026-01-02 or '2026-01-02 08:00'; with Z at
    /// its end in UTC
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only so many, the newest ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let looked = load::to_look(context)?;
    let config = looked.config.as_ref();
    let root = config.and_then(|config| {
        config.directories.iter().find(|known| Some(&known.name) == args.directory.as_ref())
    });
    let root = root.map(|directory| &*directory.path);
    let zone = context.zone();
    let asked = Asked {
        directory: args.directory.clone(),
        path: args.path.as_ref().map(|path| named::path(path, root)).transpose()?,
        node: args.node.clone(),
        since: args.since.as_ref().map(|since| named::moment(since, host::now(), &zone)).transpose()?,
        last: args.last.and_then(|last| usize::try_from(last).ok()),
    };
    let runs = looked.state.history().runs(&asked)?;
    if let (true, Some(config)) = (runs.is_empty(), config) {
        // Names that are no longer configured are fine as long as the history knows them.
        check_names(config, &asked)?;
    }
    let text = match args.json {
        true => json(&runs),
        false if runs.is_empty() => NOTHING.to_owned(),
        false => {
            let with_files = args.path.is_some() || context.ui.verbosity() == Verbosity::Verbose;
            text(&runs, if with_files { Detail::Files } else { Detail::Lines }, &zone)
        }
    };
    context.ui.result(text.as_bytes())?;
    Ok(exit::DONE)
}

const NOTHING: &str = "no run on record did anything of this kind\n";

/// How much is told of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// What it did in numbers, and what went wrong; runs in a row that did nothing are one line.
    Lines,
    /// Every file.
    Files,
}

/// Most lines on what went wrong in one run, unless all is asked for.
const MOST_WRONG: usize = 3;

fn check_names(config: &Config, asked: &Asked) -> anyhow::Result<()> {
    let directories = config.directories.iter().map(|directory| &*directory.name);
    load::check_names("directory", asked.directory.as_slice(), directories)?;
    if config.discovery.is_used() {
        return Ok(());
    }
    load::check_nodes_and_followers(asked.node.as_slice(), config)
}

fn text(runs: &[RunRecord], detail: Detail, zone: &Zone) -> String {
    let is_quiet =
        |run: &RunRecord| run.changes.is_empty() && run.wrong.is_empty() && run.exit_code == IN_STEP;
    let alike = |a: &RunRecord, b: &RunRecord| detail == Detail::Lines && is_quiet(a) && is_quiet(b);
    let mut text = String::new();
    for runs in runs.chunk_by(alike) {
        // Writing to a String cannot fail.
        let _ = match runs {
            [run] => writeln!(text, "{}", line(run, detail, zone)),
            [first, .., last] => writeln!(
                text,
                "{}  {} runs found all in step, the last at {}",
                zone.tell(first.started),
                runs.len(),
                zone.tell(last.started)
            ),
            [] => Ok(()),
        };
        for run in runs {
            add_details(&mut text, run, detail);
        }
    }
    text
}

/// `2026-01-02 04:04:05  01KDYC0000  exit 40  2 created, 1 updated`.
fn line(run: &RunRecord, detail: Detail, zone: &Zone) -> String {
    let began = zone.tell(run.started);
    let id = words::name(&run.run);
    let (id, took) = match detail {
        Detail::Lines => (short(&id), String::new()),
        Detail::Files => (id.as_str(), format!(" ({})", words::duration(run.duration))),
    };
    let code = if run.exit_code == IN_STEP { "ok".to_owned() } else { format!("exit {}", run.exit_code) };
    format!("{began}  {id}  {code:<7}  {}{took}", did(run))
}

/// The beginning of a run's id that tells its time: enough to name it by.
fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// `2 created, 1 updated, 1 held back`.
fn did(run: &RunRecord) -> String {
    let kinds = [
        (ChangeKind::Create, "created"),
        (ChangeKind::Update, "updated"),
        (ChangeKind::Delete, "deleted"),
        (ChangeKind::Rename, "renamed"),
        (ChangeKind::Metadata, "with new metadata"),
        (ChangeKind::Drift, "drifted"),
        (ChangeKind::Conflict, "in conflict"),
        (ChangeKind::Hold, "held back"),
        (ChangeKind::Skip, "skipped"),
    ];
    let count = |kind| run.changes.iter().filter(|change| change.kind == kind).count();
    let parts = kinds.into_iter().map(|(kind, word)| (count(kind), word)).filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, word)| format!("{count} {word}")).collect();
    match (parts.is_empty(), run.exit_code) {
        (true, IN_STEP) => "all in step".to_owned(),
        (true, _) => "nothing changed".to_owned(),
        (false, _) => parts.join(", "),
    }
}

fn add_details(text: &mut String, run: &RunRecord, detail: Detail) {
    let most = if detail == Detail::Files { usize::MAX } else { MOST_WRONG };
    for wrong in run.wrong.iter().take(most) {
        let _ = writeln!(text, "    {}", clean(wrong));
    }
    if let Some(more) = run.wrong.len().checked_sub(most).filter(|more| *more > 0) {
        let _ = writeln!(text, "    and {more} more: xds-sync history -v");
    }
    if detail == Detail::Files {
        for change in &run.changes {
            let before = change.id.as_ref().map(|id| format!("; before: {}", words::name(id)));
            let _ = writeln!(text, "    {}{}", words::change(change), before.unwrap_or_default());
        }
    }
}

#[derive(Serialize)]
struct History<'a> {
    runs: Vec<Run<'a>>,
}

#[derive(Serialize)]
struct Run<'a> {
    run: &'a str,
    started: String,
    duration_ms: u64,
    exit_code: u8,
    wrong: &'a [String],
    changes: Vec<RecordedChange<'a>>,
}

/// A change as in `sync --json`, and which version it replaced.
#[derive(Serialize)]
struct RecordedChange<'a> {
    #[serde(flatten)]
    change: &'a NodeChange,
    id: Option<&'a str>,
}

fn json(runs: &[RunRecord]) -> String {
    to_json(&History { runs: runs.iter().map(run_of).collect() })
}

fn run_of(run: &RunRecord) -> Run<'_> {
    let changes = run.changes.iter().map(|change| RecordedChange { change, id: change.id.as_deref() });
    Run {
        run: &run.run,
        started: rfc3339(run.started),
        duration_ms: milliseconds(run.duration),
        exit_code: run.exit_code,
        wrong: &run.wrong,
        changes: changes.collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::samples;

    fn runs() -> Vec<RunRecord> {
        let changes = &samples::eventful().changes;
        let mut replaced = changes[0].clone();
        replaced.id = Some("01KDYC00000000000000000000-0".into());
        let run = |exit_code, changes| RunRecord {
            run: "01KDYC00000000000000000000".to_owned(),
            started: samples::started(),
            duration: Duration::from_millis(412),
            exit_code,
            wrong: match exit_code {
                0 => Vec::new(),
                _ => (1..=5).map(|node| format!("mds{node} unreachable: No route to host")).collect(),
            },
            changes,
        };
        vec![
            run(0, Vec::new()),
            run(0, Vec::new()),
            run(41, Vec::new()),
            run(0, [replaced].into_iter().chain(changes[1..].iter().cloned()).collect()),
        ]
    }

    fn utc() -> Zone {
        Zone::of(jiff::tz::TimeZone::UTC)
    }

    #[test]
    fn a_person_reads_a_line_for_each_run_and_what_went_wrong() {
        insta::assert_snapshot!(text(&runs(), Detail::Lines, &utc()), @r"
        2026-01-02 03:04:05  2 runs found all in step, the last at 2026-01-02 03:04:05
        2026-01-02 03:04:05  01KDYC0000  exit 41  nothing changed
            mds1 unreachable: No route to host
            mds2 unreachable: No route to host
            mds3 unreachable: No route to host
            and 2 more: xds-sync history -v
        2026-01-02 03:04:05  01KDYC0000  ok       1 created, 1 updated, 1 held back
        ");
    }

    #[test]
    fn a_person_who_asks_reads_what_happened_and_what_was_there_before() {
        insta::assert_snapshot!(text(&runs(), Detail::Files, &utc()), @r"
        2026-01-02 03:04:05  01KDYC00000000000000000000  ok       all in step (412 ms)
        2026-01-02 03:04:05  01KDYC00000000000000000000  ok       all in step (412 ms)
        2026-01-02 03:04:05  01KDYC00000000000000000000  exit 41  nothing changed (412 ms)
            mds1 unreachable: No route to host
            mds2 unreachable: No route to host
            mds3 unreachable: No route to host
            mds4 unreachable: No route to host
            mds5 unreachable: No route to host
        2026-01-02 03:04:05  01KDYC00000000000000000000  ok       1 created, 1 updated, 1 held back (412 ms)
            moh: main -> mds1: update jazz/a.wav (5.0 MiB); before: 01KDYC00000000000000000000-0
            moh: main -> mds1: create a\x0a\x1b[31m\xff\xe2\x80\xae.wav (12 B)
            recordings: mds2 -> main: hold monitor/1.wav (44 B, open for writing)
        ");
    }

    #[test]
    fn a_machine_reads_the_changes_as_in_sync_and_the_ids() {
        let json: serde_json::Value = serde_json::from_str(&json(&runs())).unwrap();
        let runs = json["runs"].as_array().unwrap();
        assert_eq!(runs.iter().map(|run| &run["exit_code"]).collect::<Vec<_>>(), [0, 0, 41, 0]);
        assert_eq!(runs[2]["wrong"][4], "mds5 unreachable: No route to host");
        assert_eq!(runs[3]["started"], "2026-01-02T03:04:05Z");
        let changes = &runs[3]["changes"];
        assert_eq!(changes[0]["id"], "01KDYC00000000000000000000-0");
        assert_eq!((&changes[0]["action"], &changes[0]["path"]), (&"update".into(), &"jazz/a.wav".into()));
        assert_eq!((&changes[1]["id"], &changes[2]["to"]), (&serde_json::Value::Null, &"main".into()));
    }

    #[test]
    fn a_run_with_a_damaged_time_is_shown_all_the_same() {
        let mut runs = runs();
        runs[1].started = std::time::UNIX_EPOCH + Duration::from_millis(900_000_000_000_000_000);
        assert!(text(&runs, Detail::Lines, &utc()).contains("9999-12-31T23:59:59Z"));
        assert!(json(&runs).contains("9999-12-31T23:59:59Z"));
    }
}
