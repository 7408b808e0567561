//! `xds-sync history`.

use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write as _;

use super::{Context, exit, load, named};
use crate::config::Config;
use crate::host;
use crate::model::NodeChange;
use crate::model::rfc3339;
use crate::report::exit::IN_STEP;
use crate::report::text::Verbosity;
use crate::report::{milliseconds, to_json, words};
use crate::state::{Asked, RunRecord, StateDir};

const EXAMPLES: &str = "\
Examples:
  xds-sync history                        every run that changed something, the newest last
  xds-sync history moh jazz/a.wav         what happened to one file
  xds-sync history recordings 2026/11     to all files of a directory
  xds-sync history --node mds1 --since 2h
  xds-sync history --since 2026-01-02 --json

A version that was replaced or deleted has an id; it lies in the trash of the host that had it:
  xds-sync restore moh jazz/a.wav --id ID";

/// Show what runs did, to which files
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only this directory
    directory: Option<String>,
    /// Only this path in it, and what is below
    path: Option<OsString>,
    /// Only what this node got, or what came from it
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only runs since then: an age such as 2h or 30d, or a time such as 2026-01-02 (UTC)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    let root = config.directories.iter().find(|known| Some(&known.name) == args.directory.as_ref());
    let root = root.map(|directory| &*directory.path);
    let asked = Asked {
        directory: args.directory.clone(),
        path: args.path.as_ref().map(|path| named::path(path, root)).transpose()?,
        node: args.node.clone(),
        since: args.since.as_ref().map(|since| named::moment(since, host::now())).transpose()?,
    };
    let runs = StateDir::open(&config.sync.state_dir)?.history().runs(&asked)?;
    if runs.is_empty() {
        // Names that are no longer configured are fine as long as the history knows them.
        check_names(&config, &asked)?;
    }
    let text = if args.json { json(&runs) } else { text(&runs, context.ui.verbosity()) };
    context.ui.result(text.as_bytes())?;
    if !args.json && runs.is_empty() {
        context.ui.message("no run on record did anything of this kind");
    }
    Ok(exit::DONE)
}

fn check_names(config: &Config, asked: &Asked) -> anyhow::Result<()> {
    let directories = config.directories.iter().map(|directory| &*directory.name);
    load::check_names("directory", asked.directory.as_slice(), directories)?;
    if config.discovery.is_used() {
        return Ok(());
    }
    load::check_names("node", asked.node.as_slice(), config.nodes.iter().map(|node| &*node.name))
}

fn text(runs: &[RunRecord], verbosity: Verbosity) -> String {
    let mut text = String::new();
    for run in runs {
        // Most runs find everything in step and are of no interest.
        let is_quiet = run.changes.is_empty() && run.exit_code == IN_STEP;
        if is_quiet && verbosity < Verbosity::Verbose {
            continue;
        }
        let (began, took) = (rfc3339(run.started), words::duration(run.duration));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{began} run {} ({took}), exit {}", words::name(&run.run), run.exit_code);
        for change in &run.changes {
            let before = change.id.as_ref().map(|id| format!("; before: {}", words::name(id)));
            let _ = writeln!(text, "    {}{}", words::change(change), before.unwrap_or_default());
        }
    }
    text
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
        replaced.id = Some("01KDYC00000000000000000000-0".to_owned());
        let run = |exit_code, changes| RunRecord {
            run: "01KDYC00000000000000000000".to_owned(),
            started: samples::started(),
            duration: Duration::from_millis(412),
            exit_code,
            changes,
        };
        vec![
            run(0, Vec::new()),
            run(41, Vec::new()),
            run(0, [replaced].into_iter().chain(changes[1..].iter().cloned()).collect()),
        ]
    }

    #[test]
    fn a_person_reads_what_happened_and_what_was_there_before() {
        insta::assert_snapshot!(text(&runs(), Verbosity::Normal), @r"
        2026-01-02T03:04:05Z run 01KDYC00000000000000000000 (412 ms), exit 41
        2026-01-02T03:04:05Z run 01KDYC00000000000000000000 (412 ms), exit 0
            moh: main -> mds1: update jazz/a.wav (5.0 MiB); before: 01KDYC00000000000000000000-0
            moh: main -> mds1: create a\x0a\x1b[31m\xff\xe2\x80\xae.wav (12 B)
            recordings: mds2 -> main: hold monitor/1.wav (44 B, open for writing)
        ");
        assert_eq!(text(&runs(), Verbosity::Verbose).matches(" run ").count(), 3);
    }

    #[test]
    fn a_machine_reads_the_changes_as_in_sync_and_the_ids() {
        let json: serde_json::Value = serde_json::from_str(&json(&runs())).unwrap();
        let runs = json["runs"].as_array().unwrap();
        assert_eq!(runs.iter().map(|run| &run["exit_code"]).collect::<Vec<_>>(), [0, 41, 0]);
        assert_eq!(runs[2]["started"], "2026-01-02T03:04:05Z");
        let changes = &runs[2]["changes"];
        assert_eq!(changes[0]["id"], "01KDYC00000000000000000000-0");
        assert_eq!((&changes[0]["action"], &changes[0]["path"]), (&"update".into(), &"jazz/a.wav".into()));
        assert_eq!((&changes[1]["id"], &changes[2]["to"]), (&serde_json::Value::Null, &"main".into()));
    }

    #[test]
    fn a_run_with_a_damaged_time_is_shown_all_the_same() {
        let mut runs = runs();
        runs[1].started = std::time::UNIX_EPOCH + Duration::from_millis(900_000_000_000_000_000);
        assert!(text(&runs, Verbosity::Normal).contains("9999-12-31T23:59:59Z run 01KDYC"));
        assert!(json(&runs).contains("9999-12-31T23:59:59Z"));
    }
}
