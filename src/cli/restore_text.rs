//! What `xds-sync restore` prints.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::named::{nanoseconds, seconds};
use crate::model::escape::{clean, escape_for_people};
use crate::report::words;
use crate::sync::restore::{RestoreOutcome, Restored, TrashedVersion};
use crate::transfer::trash::TrashKind;

/// What was found in trashes.
pub(super) struct FoundVersions<'a> {
    pub(super) directory: &'a str,
    /// The path that was named, for people.
    pub(super) path: &'a str,
    /// The newest first.
    pub(super) versions: &'a [&'a TrashedVersion],
    /// Those that are selected.
    pub(super) chosen: &'a [TrashedVersion],
}

/// The versions that there are, one a line; a star marks what is selected.
pub(super) fn found(found: &FoundVersions<'_>) -> String {
    if found.versions.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "versions of {} in {}, the newest first; * is what comes back:\n",
        found.path, found.directory
    );
    for version in found.versions {
        let entry = &version.entry;
        let star = if found.chosen.contains(version) { '*' } else { ' ' };
        let is_below = entry.place.path.for_people() != found.path;
        let below = if is_below { format!(" {}", entry.place.path.for_people()) } else { String::new() };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{star} {} {:<10} {:>10}  modified {}  trashed {}{below}",
            entry.place.id,
            escape_for_people(version.host.as_bytes()),
            size(version),
            seconds(entry.mtime),
            trashed(version),
        );
    }
    text
}

fn size(version: &TrashedVersion) -> String {
    match version.entry.kind {
        TrashKind::File => words::bytes(version.entry.size),
        TrashKind::Symlink => "symlink".to_owned(),
        TrashKind::Special => "special".to_owned(),
    }
}

fn trashed(version: &TrashedVersion) -> String {
    seconds(i64::try_from(version.entry.place.id.started_ms()).unwrap_or(0).saturating_mul(1_000_000))
}

/// One line for each path.
pub(super) fn restored(directory: &str, restored: &[Restored]) -> String {
    let mut text = String::new();
    for one in restored {
        let path = one.path.for_people();
        let words = match &one.outcome {
            RestoreOutcome::Done(None) => format!("restored {}", which(&one.version)),
            RestoreOutcome::Done(Some(old)) => {
                format!("restored {}; what stood there is in Main's trash: {old}", which(&one.version))
            }
            RestoreOutcome::AlreadyThere => format!("stands there already as {}", which(&one.version)),
            RestoreOutcome::Failed(why) => format!("not restored: {}", clean(why)),
        };
        let _ = writeln!(text, "{directory}: {path}: {words}");
    }
    text
}

/// Such as `01K…-0 of mds1 (5.0 MiB, modified 2026-01-02T03:04:05Z)`.
fn which(version: &TrashedVersion) -> String {
    let host = escape_for_people(version.host.as_bytes());
    let (id, modified) = (&version.entry.place.id, seconds(version.entry.mtime));
    format!("{id} of {host} ({}, modified {modified})", size(version))
}

pub(super) fn written(directory: &str, version: &TrashedVersion, to: &Path) -> String {
    let path = version.entry.place.path.for_people();
    let to = escape_for_people(to.as_os_str().as_encoded_bytes());
    format!("{directory}: {path}: wrote {} to {to}\n", which(version))
}

#[derive(Serialize)]
struct Versions<'a> {
    versions: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    directory: &'a str,
    path: String,
    id: String,
    run: &'a str,
    host: &'a str,
    kind: &'static str,
    size: u64,
    mtime: String,
    trashed: String,
    chosen: bool,
}

pub(super) fn found_json(found: &FoundVersions<'_>) -> anyhow::Result<String> {
    let listed = found
        .versions
        .iter()
        .map(|version| Listed { chosen: found.chosen.contains(version), ..listed(found.directory, version) });
    let versions = listed.collect();
    Ok(serde_json::to_string(&Versions { versions })? + "\n")
}

fn listed<'a>(directory: &'a str, version: &'a TrashedVersion) -> Listed<'a> {
    let entry = &version.entry;
    Listed {
        directory,
        path: entry.place.path.escaped(),
        id: entry.place.id.to_string(),
        run: entry.place.id.run(),
        host: &version.host,
        kind: match entry.kind {
            TrashKind::File => "file",
            TrashKind::Symlink => "symlink",
            TrashKind::Special => "special",
        },
        size: entry.size,
        mtime: nanoseconds(entry.mtime),
        trashed: trashed(version),
        chosen: true,
    }
}

#[derive(Serialize)]
struct AllRestored<'a> {
    restored: Vec<OneRestored<'a>>,
}

#[derive(Serialize)]
struct OneRestored<'a> {
    directory: &'a str,
    path: String,
    id: String,
    host: &'a str,
    size: u64,
    mtime: String,
    state: &'static str,
    replaced: Option<String>,
    detail: Option<&'a str>,
}

pub(super) fn restored_json(directory: &str, restored: &[Restored]) -> anyhow::Result<String> {
    let restored = restored.iter().map(|one| one_restored(directory, one)).collect();
    Ok(serde_json::to_string(&AllRestored { restored })? + "\n")
}

fn one_restored<'a>(directory: &'a str, one: &'a Restored) -> OneRestored<'a> {
    let (state, replaced, detail) = match &one.outcome {
        RestoreOutcome::Done(replaced) => ("restored", replaced.as_ref().map(ToString::to_string), None),
        RestoreOutcome::AlreadyThere => ("already", None, None),
        RestoreOutcome::Failed(why) => ("failed", None, Some(why.as_str())),
    };
    let entry = &one.version.entry;
    OneRestored {
        directory,
        path: one.path.escaped(),
        id: entry.place.id.to_string(),
        host: &one.version.host,
        size: entry.size,
        mtime: nanoseconds(entry.mtime),
        state,
        replaced,
        detail,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::RelPathBuf;
    use crate::transfer::trash::{TrashEntry, Trashed};

    fn version(host: &str, version: u32, path: &str) -> TrashedVersion {
        let place = Trashed {
            id: format!("01KDYC00000000000000000000-{version}").parse().unwrap(),
            path: RelPathBuf::new(path.as_bytes()).unwrap(),
        };
        let entry =
            TrashEntry { place, kind: TrashKind::File, size: 5_242_880, mtime: 1_767_322_245_000_000_000 };
        TrashedVersion { host: host.to_owned(), entry }
    }

    #[test]
    fn a_person_sees_what_there_is_and_what_is_selected() {
        let versions = [version("mds1", 1, "jazz/a.wav"), version("main", 0, "jazz/two\nlines")];
        let of = FoundVersions {
            directory: "moh",
            path: "jazz/a.wav",
            versions: &versions.iter().collect::<Vec<_>>(),
            chosen: &versions[..1],
        };
        insta::assert_snapshot!(found(&of), @r"
        versions of jazz/a.wav in moh, the newest first; * is what comes back:
        * 01KDYC00000000000000000000-1 mds1          5.0 MiB  modified 2026-01-02T02:50:45Z  trashed 2026-01-02T03:28:36Z
          01KDYC00000000000000000000-0 main          5.0 MiB  modified 2026-01-02T02:50:45Z  trashed 2026-01-02T03:28:36Z jazz/two\x0alines
        ");
        let json: serde_json::Value = serde_json::from_str(&found_json(&of).unwrap()).unwrap();
        assert_eq!(json["versions"][0]["chosen"], true);
        assert_eq!(json["versions"][1]["chosen"], false);
        assert_eq!(json["versions"][1]["path"], "jazz/two\\x0alines");
    }

    #[test]
    fn a_person_reads_how_it_went_for_each_path() {
        let outcomes = [
            RestoreOutcome::Done(None),
            RestoreOutcome::Done(Some("01KDYC00000000000000000000-7".parse().unwrap())),
            RestoreOutcome::AlreadyThere,
            RestoreOutcome::Failed("a directory stands there".to_owned()),
        ];
        let one = |outcome| {
            let version = version("mds1", 0, "jazz/a.wav");
            Restored { path: version.entry.place.path.clone(), version, outcome }
        };
        let all: Vec<Restored> = outcomes.into_iter().map(one).collect();
        insta::assert_snapshot!(restored("moh", &all), @r"
        moh: jazz/a.wav: restored 01KDYC00000000000000000000-0 of mds1 (5.0 MiB, modified 2026-01-02T02:50:45Z)
        moh: jazz/a.wav: restored 01KDYC00000000000000000000-0 of mds1 (5.0 MiB, modified 2026-01-02T02:50:45Z); what stood there is in Main's trash: 01KDYC00000000000000000000-7
        moh: jazz/a.wav: stands there already as 01KDYC00000000000000000000-0 of mds1 (5.0 MiB, modified 2026-01-02T02:50:45Z)
        moh: jazz/a.wav: not restored: a directory stands there
        ");
        let json: serde_json::Value = serde_json::from_str(&restored_json("moh", &all).unwrap()).unwrap();
        let states = ["restored", "restored", "already", "failed"];
        assert_eq!(
            json["restored"].as_array().unwrap().iter().map(|one| &one["state"]).collect::<Vec<_>>(),
            states
        );
        assert_eq!(json["restored"][1]["replaced"], "01KDYC00000000000000000000-7");
    }
}
