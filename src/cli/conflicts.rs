//! `xds-sync conflicts`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::Serialize;

use super::exit::StepContext as _;
use super::named::{at, nanoseconds};
use super::{Context, candidates, exit, load, restore_text};
use crate::config::Config;
use crate::model::escape::{clean, escape, escape_for_people, unescape};
use crate::model::{Zone, read_rfc3339};
use crate::report::words;
use crate::site::{self, Access, Locking, Services, Site};
use crate::state::{ConflictRecord, ConflictVersion, Ledger, StateDir};
use crate::sync::Options;
use crate::sync::restore::{Place, search};

const EXAMPLES: &str = "\
Examples:
  xds-sync conflicts                   those that wait, then the decided ones
  xds-sync conflicts show DIR PATH     one in detail, with digests
  xds-sync conflicts show DIR PATH --fetch mds1 --to /tmp/a.wav
                                       the version of mds1, to listen to it
  xds-sync conflicts resolve DIR PATH --keep mds1
                                       keep the version of mds1
  xds-sync conflicts clear             forget the decided ones
The next run carries out a decision; the other versions go to
the trash of their hosts. Decided ones are forgotten when the
trash lets go of what lost (sync.trash_keep).";

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
    Show(Show),
    /// Decide a conflict that waits for a decision
    #[command(after_help = EXAMPLES)]
    Resolve {
        /// The directory's name
        #[arg(add = candidates::directories())]
        directory: String,
        /// The path in it, as it is listed
        #[arg(add = candidates::nothing())]
        path: OsString,
        /// Whose version stays: `main`, or a node
        #[arg(long, value_name = "HOST", add = candidates::hosts())]
        keep: String,
    },
    /// Forget conflicts that are decided; those that wait stay
    #[command(after_help = EXAMPLES)]
    Clear {
        /// Only in this directory
        #[arg(add = candidates::directories())]
        directory: Option<String>,
        /// Only at this path in it, as it is listed
        #[arg(add = candidates::nothing())]
        path: Option<OsString>,
    },
}

/// Show all that is known of the conflicts at one path
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
struct Show {
    /// The directory's name
    #[arg(add = candidates::directories())]
    directory: String,
    /// The path in it, as it is listed
    #[arg(add = candidates::nothing())]
    path: OsString,
    /// Fetch the version that this host has now: `main`, or a node
    #[arg(long, value_name = "HOST", requires = "to", conflicts_with = "json", add = candidates::hosts())]
    fetch: Option<String>,
    /// Write what is fetched to this new file
    #[arg(long, value_name = "FILE", requires = "fetch")]
    to: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let config = load::config(context)?;
    let state = StateDir::open(&config.sync.state_dir)?;
    match &args.action {
        None => {
            let mut ledger = state.ledger()?;
            // What is to be decided stands first.
            ledger.conflicts.sort_by_key(|record| record.winner.is_some());
            let text = if args.json {
                json(&ledger.conflicts, &ledger.more_waiting)?
            } else {
                text(&ledger, &context.zone())
            };
            context.ui.result(text.as_bytes())?;
        }
        Some(Action::Show(args)) => {
            let records = known_at(state.ledger()?, &args.directory, args.path.as_bytes())?;
            if let (Some(host), Some(to)) = (&args.fetch, &args.to) {
                return fetch(context, config, &records, host, to);
            }
            let text =
                if args.json { json(&records, &BTreeMap::new())? } else { show(&records, &context.zone()) };
            context.ui.result(text.as_bytes())?;
        }
        Some(Action::Resolve { directory, path, keep }) => {
            let _lock = site::lock(&state, || false)?;
            let mut ledger = state.ledger()?;
            resolve(&mut ledger, directory, path.as_bytes(), keep)?;
            state.save_ledger(&ledger).step("resolve")?;
            context.ui.message("decided; the next run carries that out");
        }
        Some(Action::Clear { directory, path }) => {
            let _lock = site::lock(&state, || false)?;
            let mut ledger = state.ledger()?;
            let cleared = ledger.clear_decided(|record| match (directory, path) {
                (Some(directory), Some(path)) => is_at(record, directory, path.as_bytes()),
                (Some(directory), None) => record.directory == *directory,
                (None, _) => true,
            });
            state.save_ledger(&ledger).step("clear")?;
            let waiting = ledger.conflicts.iter().filter(|record| record.winner.is_none()).count();
            context.ui.message(&format!("forgot {cleared} decided conflicts; {waiting} wait for a decision"));
        }
    }
    Ok(exit::DONE)
}

/// Writes the version that a host has now to a file, so that somebody can look at it or listen to it.
fn fetch(
    context: &Context,
    config: Config,
    records: &[ConflictRecord],
    host: &str,
    to: &Path,
) -> anyhow::Result<u8> {
    let record = records.first().context("no conflict is known there")?;
    load::check_directories(std::slice::from_ref(&record.directory), &config)?;
    let services = load::services();
    let services = Services { progress: context.ui.progress(&services.stop), ..services };
    let site = Site::open(config, Locking::Try, Access::ReadOnly, services)?;
    load::check_hosts("host", &[host.to_owned()], site.config(), "look at the file on that host")?;
    let (environment, spec) = (site.environment(), site.spec(&Options::default()));
    let directory = spec.directory(&record.directory).context("the directory has just been there")?;
    let search = search(&environment, &spec, directory, &record.path, Some(host))?;
    let for_people = escape_for_people(host.as_bytes());
    if let Some((_, error)) = search.unreachable().first() {
        bail!("{for_people} cannot be asked: {}", clean(&error.detail));
    }
    let version = search
        .standing_on(host, &record.path)
        .with_context(|| format!("{for_people} has no file there now, or it is being written"))?;
    let known = record.versions.iter().find(|known| known.host == host);
    let is_another = match (&version.place, known) {
        (Place::Standing { entry, .. }, Some(known)) => {
            entry.as_file().map(|file| file.digest) != known.digest
        }
        _ => false,
    };
    if is_another {
        context.ui.message(&format!("{for_people} has changed it since the conflict was found"));
    }
    search.write_to(&version, to)?;
    let wrote = restore_text::written(&record.directory, &version, to, &context.zone());
    context.ui.result(wrote.as_bytes())?;
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

fn known_at(ledger: Ledger, directory: &str, path: &[u8]) -> anyhow::Result<Vec<ConflictRecord>> {
    let records = ledger.conflicts.into_iter().filter(|record| is_at(record, directory, path));
    let records: Vec<ConflictRecord> = records.collect();
    if records.is_empty() {
        let (directory, path) = (escape_for_people(directory.as_bytes()), escape_for_people(path));
        bail!("no conflict is known at {path} in {directory}; 'xds-sync conflicts' lists those that are");
    }
    Ok(records)
}

fn text(ledger: &Ledger, zone: &Zone) -> String {
    if ledger.conflicts.is_empty() {
        return "no conflicts\n".to_owned();
    }
    let mut text = String::new();
    for record in &ledger.conflicts {
        text += &head(record, zone);
        for version in &record.versions {
            text += &format!("    {}\n", version_in_words(version, zone));
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
fn show(records: &[ConflictRecord], zone: &Zone) -> String {
    let mut text = String::new();
    for record in records {
        text += &head(record, zone);
        for version in &record.versions {
            text += &format!("    {}\n", version_in_words(version, zone));
            if let Some(digest) = version.digest {
                text += &format!("        BLAKE3 {digest}\n");
            }
        }
        text += &match record.winner {
            None => format!(
                "    listen: {}\n    decide: {}\n",
                command(record, "conflicts show", "--fetch HOST --to FILE"),
                command(record, "conflicts resolve", "--keep HOST")
            ),
            Some(_) => format!("    what lost: {}\n", command(record, "restore", "--node HOST --dry-run")),
        };
    }
    text
}

fn head(record: &ConflictRecord, zone: &Zone) -> String {
    let (directory, path) = (escape_for_people(record.directory.as_bytes()), record.path.for_people());
    let state = match (&record.winner, &record.keep) {
        (Some(winner), _) => format!("the version of {winner} stayed"),
        (None, Some(keep)) => format!("the next run keeps the version of {keep}"),
        (None, None) => "waits".to_owned(),
    };
    let tell = |time: &str| read_rfc3339(time).map_or_else(|| words::name(time), |time| zone.tell(time));
    let decided = record.decided.as_ref().map(|decided| format!(", decided {}", tell(decided)));
    let since = tell(&record.since);
    format!("{directory}: {path}: {state} (since {since}{})\n", decided.unwrap_or_default())
}

fn version_in_words(version: &ConflictVersion, zone: &Zone) -> String {
    let host = escape_for_people(version.host.as_bytes());
    match version.digest {
        Some(_) => {
            let unchanged = if version.changed { "" } else { "; did not change it" };
            let modified = zone.tell(at(version.mtime));
            format!("{host}: {}, modified {modified}{unchanged}", words::bytes(version.size))
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
    decided: Option<&'a str>,
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
    changed: bool,
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
        changed: version.changed,
    };
    Listed {
        directory: &record.directory,
        path: record.path.escaped(),
        since: &record.since,
        decided: record.decided.as_deref(),
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
            changed: host != "mds2",
        };
        let record = |path: &str, winner: Option<&str>| ConflictRecord {
            directory: "recordings".to_owned(),
            path: RelPathBuf::new(path.as_bytes()).unwrap(),
            since: "2026-01-02T03:04:05Z".to_owned(),
            winner: winner.map(str::to_owned),
            decided: winner.map(|_| "2026-01-03T03:04:05Z".to_owned()),
            keep: None,
            versions: vec![
                version("main", Some(Digest([1; 32]))),
                version("mds1", None),
                version("mds2", Some(Digest([2; 32]))),
            ],
        };
        let mut ledger = Ledger::default();
        ledger.conflicts = vec![record("old.wav", Some("mds1")), record("two\nlines.wav", None)];
        ledger
    }

    fn zone() -> Zone {
        Zone::of(jiff::tz::TimeZone::posix("CET-1").unwrap())
    }

    #[test]
    fn a_person_sees_who_has_what_and_how_to_decide() {
        insta::assert_snapshot!(text(&ledger(), &zone()), @r"
        recordings: old.wav: the version of mds1 stayed (since 2026-01-02 04:04:05, decided 2026-01-03 04:04:05)
            main: 2.0 KiB, modified 2026-01-02 03:50:45
            mds1: not a file
            mds2: 2.0 KiB, modified 2026-01-02 03:50:45; did not change it
        recordings: two\x0alines.wav: waits (since 2026-01-02 04:04:05)
            main: 2.0 KiB, modified 2026-01-02 03:50:45
            mds1: not a file
            mds2: 2.0 KiB, modified 2026-01-02 03:50:45; did not change it
            decide: xds-sync conflicts resolve recordings 'two\x0alines.wav' --keep HOST
        ");
    }

    #[test]
    fn what_waits_beyond_the_list_is_a_number() {
        let mut ledger = ledger();
        ledger.more_waiting.insert("recordings".to_owned(), 7);
        assert!(
            text(&ledger, &zone()).contains("\nrecordings: 7 more wait than are listed"),
            "{}",
            text(&ledger, &zone())
        );
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
            let shown = show(&known_at(ledger(), "recordings", path.as_bytes()).unwrap(), &zone());
            assert!(shown.contains("conflicts show recordings 'two\\x0alines.wav' --fetch HOST --to FILE"));
            assert!(shown.contains(&format!("BLAKE3 {}\n", "01".repeat(32))), "{shown}");
            assert!(
                shown.contains("conflicts resolve recordings 'two\\x0alines.wav' --keep HOST"),
                "{shown}"
            );
        }
        let shown = show(&known_at(ledger(), "recordings", b"old.wav").unwrap(), &zone());
        assert!(shown.contains("xds-sync restore recordings 'old.wav' --node HOST --dry-run"), "{shown}");
        let error = known_at(ledger(), "recordings", b"\x1b[2J").unwrap_err().to_string();
        assert!(error.contains("no conflict is known at \\x1b[2J"), "{error}");
    }

    #[test]
    fn only_what_waits_is_decided_and_only_for_a_version_there_is() {
        let mut ledger = ledger();
        for (path, keep) in [("old.wav", "main"), ("none.wav", "main"), ("two\nlines.wav", "mds3")] {
            assert!(resolve(&mut ledger, "recordings", path.as_bytes(), keep).is_err(), "{path} {keep}");
        }
        for path in ["two\nlines.wav", "two\\x0alines.wav"] {
            resolve(&mut ledger, "recordings", path.as_bytes(), "mds1").unwrap();
            assert_eq!(ledger.conflicts[1].keep.take().as_deref(), Some("mds1"));
        }
    }
}
