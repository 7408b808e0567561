//! `xds-sync conflicts`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::Serialize;

use super::exit::StepContext as _;
use super::named::nanoseconds;
use super::{Context, exit, load};
use crate::model::escape::{escape, escape_for_people, unescape};
use crate::report::words;
use crate::site;
use crate::state::{ConflictRecord, ConflictVersion, Ledger, StateDir};

const EXAMPLES: &str = "\
Examples:
  xds-sync conflicts                                              all that wait or were decided
  xds-sync conflicts show recordings greeting.wav                 one in detail, with digests
  xds-sync conflicts resolve recordings greeting.wav --keep main  keep Main's version
  xds-sync conflicts resolve recordings greeting.wav --keep mds1  keep the version of mds1
The next run carries out a decision; the other versions go to the trash of their hosts.";

/// List paths that several hosts changed differently, or decide which version stays
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all that is known of the conflicts at one path
    #[command(after_help = EXAMPLES)]
    Show {
        /// The directory's name
        directory: String,
        /// The path in it, as it is listed
        path: OsString,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Decide a conflict that waits for a decision
    #[command(after_help = EXAMPLES)]
    Resolve {
        /// The directory's name
        directory: String,
        /// The path in it, as it is listed
        path: OsString,
        /// Whose version stays: `main`, or a node
        #[arg(long, value_name = "HOST")]
        keep: String,
    },
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    let state = StateDir::open(&config.sync.state_dir)?;
    match &args.action {
        None => {
            let ledger = state.ledger()?;
            let text = if args.json { json(&ledger.conflicts, &ledger.more_waiting)? } else { text(&ledger) };
            context.ui.result(text.as_bytes())?;
        }
        Some(Action::Show { directory, path, json: as_json }) => {
            let records = at(state.ledger()?, directory, path.as_bytes())?;
            let text = if *as_json { json(&records, &BTreeMap::new())? } else { show(&records) };
            context.ui.result(text.as_bytes())?;
        }
        Some(Action::Resolve { directory, path, keep }) => {
            let _lock = site::lock(&state, || false)?;
            let mut ledger = state.ledger()?;
            resolve(&mut ledger, directory, path.as_bytes(), keep)?;
            state.save_ledger(&ledger).step("resolve")?;
            context.ui.message("decided; the next 'xds-sync sync' carries that out");
        }
    }
    Ok(exit::DONE)
}

fn resolve(ledger: &mut Ledger, directory: &str, path: &[u8], keep: &str) -> anyhow::Result<()> {
    let is_meant = |record: &&mut ConflictRecord| record.winner.is_none() && is_at(record, directory, path);
    let record = ledger.conflicts.iter_mut().find(is_meant).with_context(|| {
        let (directory, path) = (escape_for_people(directory.as_bytes()), escape_for_people(path));
        format!("no conflict waits at {path} in {directory}; 'xds-sync conflicts' lists those that do")
    })?;
    let hosts: Vec<&str> = record.versions.iter().map(|version| &*version.host).collect();
    if !hosts.contains(&keep) {
        let keep = escape_for_people(keep.as_bytes());
        bail!("{keep} has no version of it; these have: {}", hosts.join(", "));
    }
    record.keep = Some(keep.to_owned());
    Ok(())
}

/// Whether a conflict is at a path, as it is on disk or as it is listed.
fn is_at(record: &ConflictRecord, directory: &str, path: &[u8]) -> bool {
    let listed = std::str::from_utf8(path).ok().and_then(unescape);
    let meant = record.path.as_bytes() == path || Some(record.path.as_bytes()) == listed.as_deref();
    record.directory == directory && meant
}

fn at(ledger: Ledger, directory: &str, path: &[u8]) -> anyhow::Result<Vec<ConflictRecord>> {
    let records = ledger.conflicts.into_iter().filter(|record| is_at(record, directory, path));
    let records: Vec<ConflictRecord> = records.collect();
    if records.is_empty() {
        let (directory, path) = (escape_for_people(directory.as_bytes()), escape_for_people(path));
        bail!("no conflict is known at {path} in {directory}; 'xds-sync conflicts' lists those that are");
    }
    Ok(records)
}

fn text(ledger: &Ledger) -> String {
    if ledger.conflicts.is_empty() {
        return "no conflicts\n".to_owned();
    }
    let mut text = String::new();
    for record in &ledger.conflicts {
        text += &head(record);
        for version in &record.versions {
            text += &format!("    {}\n", version_in_words(version));
        }
        if record.winner.is_none() && record.keep.is_none() {
            text += &format!("    decide: {}\n", command(record, "conflicts resolve", "--keep HOST"));
        }
    }
    for (directory, more) in &ledger.more_waiting {
        let directory = escape_for_people(directory.as_bytes());
        text += &format!(
            "{directory}: {more} more wait than are listed, and are listed as these are decided; to decide all of them, set \
             `conflict` of the directory to \"main\" or \"newer\"\n"
        );
    }
    text
}

/// As in the list, with digests and with what can be done about it.
fn show(records: &[ConflictRecord]) -> String {
    let mut text = String::new();
    for record in records {
        text += &head(record);
        for version in &record.versions {
            text += &format!("    {}\n", version_in_words(version));
            if let Some(digest) = version.digest {
                text += &format!("        BLAKE3 {digest}\n");
            }
        }
        text += &match record.winner {
            None => format!("    decide: {}\n", command(record, "conflicts resolve", "--keep HOST")),
            Some(_) => format!("    what lost: {}\n", command(record, "restore", "--node HOST --dry-run")),
        };
    }
    text
}

fn head(record: &ConflictRecord) -> String {
    let (directory, path) = (escape_for_people(record.directory.as_bytes()), record.path.for_people());
    let state = match (&record.winner, &record.keep) {
        (Some(winner), _) => format!("the version of {winner} stayed"),
        (None, Some(keep)) => format!("the next run keeps the version of {keep}"),
        (None, None) => "waits".to_owned(),
    };
    format!("{directory}: {path}: {state} (since {})\n", record.since)
}

fn version_in_words(version: &ConflictVersion) -> String {
    let host = escape_for_people(version.host.as_bytes());
    match version.digest {
        Some(_) => {
            format!("{host}: {}, modified {}", words::bytes(version.size), nanoseconds(version.mtime))
        }
        None => format!("{host}: not a file"),
    }
}

/// What to type, with the path as a shell reads it.
fn command(record: &ConflictRecord, command: &str, options: &str) -> String {
    let directory = escape_for_people(record.directory.as_bytes());
    let path = record.path.for_people().replace('\'', "'\\''");
    format!("xds-sync {command} {directory} '{path}' {options}")
}

#[derive(Serialize)]
struct Conflicts<'a> {
    conflicts: Vec<Listed<'a>>,
    /// Directory → how many more wait than are listed.
    more_waiting: &'a BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Listed<'a> {
    directory: &'a str,
    path: String,
    since: &'a str,
    state: &'static str,
    winner: Option<&'a str>,
    versions: Vec<ListedVersion>,
}

#[derive(Serialize)]
struct ListedVersion {
    host: String,
    size: u64,
    mtime: String,
    digest: Option<String>,
}

fn json(records: &[ConflictRecord], more_waiting: &BTreeMap<String, u64>) -> anyhow::Result<String> {
    let conflicts = records.iter().map(listed).collect();
    Ok(serde_json::to_string(&Conflicts { conflicts, more_waiting })? + "\n")
}

fn listed(record: &ConflictRecord) -> Listed<'_> {
    let version = |version: &ConflictVersion| ListedVersion {
        host: escape(version.host.as_bytes()),
        size: version.size,
        mtime: nanoseconds(version.mtime),
        digest: version.digest.map(|digest| digest.to_string()),
    };
    Listed {
        directory: &record.directory,
        path: record.path.escaped(),
        since: &record.since,
        state: if record.winner.is_some() { "decided" } else { "waiting" },
        winner: record.winner.as_deref(),
        versions: record.versions.iter().map(version).collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Digest, RelPathBuf};

    fn ledger() -> Ledger {
        let version = |host: &str, digest| ConflictVersion {
            host: host.to_owned(),
            size: 2048,
            mtime: 1_767_322_245_000_000_000,
            digest,
        };
        let record = |path: &str, winner: Option<&str>| ConflictRecord {
            directory: "recordings".to_owned(),
            path: RelPathBuf::new(path.as_bytes()).unwrap(),
            since: "2026-01-02T03:04:05Z".to_owned(),
            winner: winner.map(str::to_owned),
            keep: None,
            versions: vec![version("main", Some(Digest([1; 32]))), version("mds1", None)],
        };
        let mut ledger = Ledger::default();
        ledger.conflicts = vec![record("old.wav", Some("mds1")), record("two\nlines.wav", None)];
        ledger
    }

    #[test]
    fn a_person_sees_who_has_what_and_how_to_decide() {
        insta::assert_snapshot!(text(&ledger()), @r"
        recordings: old.wav: the version of mds1 stayed (since 2026-01-02T03:04:05Z)
            main: 2.0 KiB, modified 2026-01-02T02:50:45.000000000Z
            mds1: not a file
        recordings: two\x0alines.wav: waits (since 2026-01-02T03:04:05Z)
            main: 2.0 KiB, modified 2026-01-02T02:50:45.000000000Z
            mds1: not a file
            decide: xds-sync conflicts resolve recordings 'two\x0alines.wav' --keep HOST
        ");
    }

    #[test]
    fn what_waits_beyond_the_list_is_a_number() {
        let mut ledger = ledger();
        ledger.more_waiting.insert("recordings".to_owned(), 7);
        assert!(text(&ledger).contains("\nrecordings: 7 more wait than are listed"), "{}", text(&ledger));
    }

    #[test]
    fn a_machine_reads_the_same() {
        let json: serde_json::Value = serde_json::from_str(
            &json(&ledger().conflicts, &BTreeMap::from([("recordings".to_owned(), 7)])).unwrap(),
        )
        .unwrap();
        assert_eq!(json["more_waiting"]["recordings"], 7);
        let waiting = &json["conflicts"][1];
        assert_eq!((&waiting["state"], &waiting["winner"]), (&"waiting".into(), &serde_json::Value::Null));
        assert_eq!(waiting["path"], "two\\x0alines.wav");
        assert_eq!(waiting["versions"][0]["digest"], "01".repeat(32));
        assert_eq!(json["conflicts"][0]["state"], "decided");
    }

    #[test]
    fn one_is_shown_with_digests_and_what_to_do() {
        for path in ["two\nlines.wav", "two\\x0alines.wav"] {
            let shown = show(&at(ledger(), "recordings", path.as_bytes()).unwrap());
            assert!(shown.contains(&format!("BLAKE3 {}\n", "01".repeat(32))), "{shown}");
            assert!(
                shown.contains("conflicts resolve recordings 'two\\x0alines.wav' --keep HOST"),
                "{shown}"
            );
        }
        let shown = show(&at(ledger(), "recordings", b"old.wav").unwrap());
        assert!(shown.contains("xds-sync restore recordings 'old.wav' --node HOST --dry-run"), "{shown}");
        let error = at(ledger(), "recordings", b"\x1b[2J").unwrap_err().to_string();
        assert!(error.contains("no conflict is known at \\x1b[2J"), "{error}");
    }

    #[test]
    fn only_what_waits_is_decided_and_only_for_a_version_there_is() {
        let mut ledger = ledger();
        for (path, keep) in [("old.wav", "main"), ("none.wav", "main"), ("two\nlines.wav", "mds2")] {
            assert!(resolve(&mut ledger, "recordings", path.as_bytes(), keep).is_err(), "{path} {keep}");
        }
        for path in ["two\nlines.wav", "two\\x0alines.wav"] {
            resolve(&mut ledger, "recordings", path.as_bytes(), "mds1").unwrap();
            assert_eq!(ledger.conflicts[1].keep.take().as_deref(), Some("mds1"));
        }
    }
}
