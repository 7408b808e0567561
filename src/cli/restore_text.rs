//! What `xds-sync restore` prints.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::named::{at, nanoseconds};
use crate::model::escape::{clean, escape_for_people};
use crate::model::{RelPath, Zone, rfc3339};
use crate::report::words;
use crate::sync::restore::{RestoreOutcome, Restored, Version};
use crate::transfer::trash::{TrashId, TrashKind};

/// More lines than this are summed up, unless all are asked for.
pub(super) const MANY_LINES: usize = 40;

/// What was found on nodes and in trashes.
pub(super) struct FoundVersions<'a> {
    pub(super) directory: &'a str,
    /// The path that was named, for people.
    pub(super) path: &'a str,
    /// The newest first.
    pub(super) versions: &'a [&'a Version],
    /// Those that are selected.
    pub(super) chosen: &'a [Version],
    pub(super) zone: &'a Zone,
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
    let chosen: HashSet<(&str, &RelPath, Option<&TrashId>)> = found.chosen.iter().map(key).collect();
    let hosts =
        found.versions.iter().map(|version| escape_for_people(version.host.as_bytes()).chars().count());
    let width = hosts.max().unwrap_or(0).max("host".len());
    let mut line = |star, [id, host, size, modified, trashed]: [&str; 5]| {
        let line = format!("{star} {id:<12}  {host:<width$}  {size:>9}  {modified:<19}  {trashed}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(' ', ["id", "host", "size", "modified", "trashed"]);
    for version in found.versions {
        let star = if chosen.contains(&key(version)) { '*' } else { ' ' };
        let is_below = version.path.for_people() != found.path;
        let below = if is_below { format!("  {}", version.path.for_people()) } else { String::new() };
        let how = match version.id() {
            Some(id) => found.zone.tell(trashed(id)),
            None if version.was_mains() => "no: Main lost it since the last run".to_owned(),
            None => "no: it stands there".to_owned(),
        };
        let (host, size) = (escape_for_people(version.host.as_bytes()), size(version));
        let modified = found.zone.tell(at(version.mtime));
        line(star, [&short(version), &host, &size, &modified, &(how + &below)]);
    }
    text
}

fn key(version: &Version) -> (&str, &RelPath, Option<&TrashId>) {
    (&version.host, &version.path, version.id())
}

/// The beginning of its id, which is enough to name it by: it tells the millisecond in which the run began.
fn short(version: &Version) -> String {
    version.id().map_or_else(|| "-".to_owned(), |id| format!("{}-{}", short_run(id.run()), id.version()))
}

fn short_run(run: &str) -> &str {
    run.get(..10).unwrap_or(run)
}

fn size(version: &Version) -> String {
    match version.kind {
        TrashKind::File => words::bytes(version.size),
        TrashKind::Symlink => "symlink".to_owned(),
        TrashKind::Special => "special".to_owned(),
    }
}

fn trashed(id: &TrashId) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(id.started_ms())
}

/// How versions came to be where they are; what was lost last is the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lost<'a> {
    /// Only nodes ever had it.
    Own,
    /// A run took it away.
    ByRun(&'a str),
    /// On Main, since the last run.
    OnMain,
}

/// Versions that came to be where they are in the same way.
#[derive(Default)]
struct Group<'a> {
    hosts: BTreeSet<&'a str>,
    files: BTreeMap<&'a RelPath, u64>,
    modified: Option<(i64, i64)>,
    is_chosen: bool,
}

/// What there is, in a line for each way in which it was lost; a star marks what is selected.
pub(super) fn in_groups(found: &FoundVersions<'_>) -> String {
    let chosen: HashSet<(&str, &RelPath, Option<&TrashId>)> = found.chosen.iter().map(key).collect();
    let mut groups: BTreeMap<Lost<'_>, Group<'_>> = BTreeMap::new();
    for version in found.versions {
        let lost = match version.id() {
            Some(id) => Lost::ByRun(id.run()),
            None if version.was_mains() => Lost::OnMain,
            None => Lost::Own,
        };
        let group = groups.entry(lost).or_default();
        group.hosts.insert(&version.host);
        group.files.entry(&version.path).or_insert(version.size);
        let (first, last) = group.modified.unwrap_or((version.mtime, version.mtime));
        group.modified = Some((first.min(version.mtime), last.max(version.mtime)));
        group.is_chosen |= chosen.contains(&key(version));
    }
    let mut text = format!("{} in {}; * is what comes back:\n", found.path, found.directory);
    for (lost, group) in groups.iter().rev() {
        let _ =
            writeln!(text, "{} {}", if group.is_chosen { '*' } else { ' ' }, group_line(*lost, group, found));
    }
    text
}

fn group_line(lost: Lost<'_>, group: &Group<'_>, found: &FoundVersions<'_>) -> String {
    let count = group.files.len();
    let bytes = words::bytes(group.files.values().sum());
    let files = if count == 1 { "file" } else { "files" };
    let hosts: Vec<String> = group.hosts.iter().map(|host| escape_for_people(host.as_bytes())).collect();
    let hosts = hosts.join(", ");
    let day = |mtime: i64| found.zone.tell(at(mtime)).chars().take(10).collect::<String>();
    let modified = group.modified.map(|(first, last)| match (day(first), day(last)) {
        (first, last) if first == last => format!(", modified {first}"),
        (first, last) => format!(", modified {first} to {last}"),
    });
    let modified = modified.unwrap_or_default();
    let how = match lost {
        Lost::OnMain => format!("lost on Main since the last run; still on {hosts}"),
        Lost::ByRun(run) => {
            let at = run.parse::<ulid::Ulid>().map(|run| run.timestamp_ms()).unwrap_or_default();
            let at = found.zone.tell(SystemTime::UNIX_EPOCH + Duration::from_millis(at));
            format!("replaced or deleted {at} by run {}; in the trash of {hosts}", short_run(run))
        }
        Lost::Own => format!("only on {hosts}; Main never had it so"),
    };
    format!("{count} {files} ({bytes}{modified})\n      {how}")
}

/// One line for each path, or where they are many and `with_files` does not ask for all, one for all that went well.
pub(super) fn restored(directory: &str, restored: &[Restored], with_files: bool, zone: &Zone) -> String {
    let is_long = restored.len() > MANY_LINES && !with_files;
    let mut text = String::new();
    let (mut back, mut already, mut bytes) = (0, 0, 0);
    for one in restored {
        match &one.outcome {
            RestoreOutcome::Done(_) => (back, bytes) = (back + 1, bytes + one.version.size),
            RestoreOutcome::AlreadyThere => already += 1,
            RestoreOutcome::Failed(_) => {}
        }
        if !is_long || matches!(one.outcome, RestoreOutcome::Failed(_)) {
            text += &restored_line(directory, one, zone);
            text.push('\n');
        }
    }
    if is_long {
        let _ = writeln!(
            text,
            "{directory}: {back} restored ({}), {already} stood there already",
            words::bytes(bytes)
        );
    }
    text
}

fn restored_line(directory: &str, one: &Restored, zone: &Zone) -> String {
    let path = one.path.for_people();
    let words = match &one.outcome {
        RestoreOutcome::Done(None) => format!("restored {}", which(&one.version, zone)),
        RestoreOutcome::Done(Some(old)) => {
            format!("restored {}; what stood there is in Main's trash: {old}", which(&one.version, zone))
        }
        RestoreOutcome::AlreadyThere => format!("stands there already as {}", which(&one.version, zone)),
        RestoreOutcome::Failed(why) => format!("not restored: {}", clean(why)),
    };
    format!("{directory}: {path}: {words}")
}

/// What was not restored, for the history.
pub(super) fn wrong(directory: &str, restored: &[Restored]) -> Vec<String> {
    let failed = restored.iter().filter_map(|one| match &one.outcome {
        RestoreOutcome::Failed(why) => {
            Some(format!("{directory}: {}: {}", one.path.for_people(), clean(why)))
        }
        RestoreOutcome::Done(_) | RestoreOutcome::AlreadyThere => None,
    });
    failed.take(MANY_LINES).collect()
}

/// Such as `01K…-0 of mds1 (5.0 MiB, modified 2026-01-02 04:04:05)`, or `as it stands on mds1 (…)`.
fn which(version: &Version, zone: &Zone) -> String {
    let host = escape_for_people(version.host.as_bytes());
    let from = match version.id() {
        Some(id) => format!("{id} of {host}"),
        None => format!("as it stands on {host}"),
    };
    format!("{from} ({}, modified {})", size(version), zone.tell(at(version.mtime)))
}

pub(super) fn written(directory: &str, version: &Version, to: &Path, zone: &Zone) -> String {
    let path = version.path.for_people();
    let to = escape_for_people(to.as_os_str().as_encoded_bytes());
    format!("{directory}: {path}: wrote {} to {to}\n", which(version, zone))
}

#[derive(Serialize)]
struct Versions<'a> {
    versions: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    directory: &'a str,
    path: String,
    /// Null for what stands in the directory, as the next two.
    id: Option<String>,
    run: Option<&'a str>,
    trashed: Option<String>,
    host: &'a str,
    kind: &'static str,
    size: u64,
    mtime: String,
    /// Whether Main had it, and has lost it since the last run.
    was_mains: bool,
    chosen: bool,
}

pub(super) fn found_json(found: &FoundVersions<'_>) -> anyhow::Result<String> {
    let chosen: HashSet<(&str, &RelPath, Option<&TrashId>)> = found.chosen.iter().map(key).collect();
    let listed = found
        .versions
        .iter()
        .map(|version| Listed { chosen: chosen.contains(&key(version)), ..listed(found.directory, version) });
    let versions = listed.collect();
    Ok(serde_json::to_string(&Versions { versions })? + "\n")
}

fn listed<'a>(directory: &'a str, version: &'a Version) -> Listed<'a> {
    let id = version.id();
    Listed {
        directory,
        path: version.path.escaped(),
        id: id.map(ToString::to_string),
        run: id.map(TrashId::run),
        trashed: id.map(|id| rfc3339(trashed(id))),
        host: &version.host,
        kind: match version.kind {
            TrashKind::File => "file",
            TrashKind::Symlink => "symlink",
            TrashKind::Special => "special",
        },
        size: version.size,
        mtime: nanoseconds(version.mtime),
        was_mains: version.was_mains(),
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
    /// Null for what stands on the host.
    id: Option<String>,
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
    let version = &one.version;
    OneRestored {
        directory,
        path: one.path.escaped(),
        id: version.id().map(ToString::to_string),
        host: &version.host,
        size: version.size,
        mtime: nanoseconds(version.mtime),
        state,
        replaced,
        detail,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Entry, RelPathBuf};
    use crate::sync::restore::Place;

    fn version(host: &str, place: &str, path: &str) -> Version {
        let place = match place {
            "was" | "own" => Place::Standing { entry: Entry::Excluded, was_mains: place == "was" },
            id => Place::Trash(id.parse().unwrap()),
        };
        Version {
            host: host.to_owned(),
            path: RelPathBuf::new(path.as_bytes()).unwrap(),
            kind: TrashKind::File,
            size: 5_242_880,
            mtime: 1_767_322_245_000_000_000,
            place,
        }
    }

    const ID: &str = "01KDYC00000000000000000000-0";

    fn zone() -> Zone {
        Zone::of(jiff::tz::TimeZone::posix("CET-1").unwrap())
    }

    fn with_found<T>(versions: &[Version], chosen: usize, told: impl Fn(&FoundVersions<'_>) -> T) -> T {
        told(&FoundVersions {
            directory: "moh",
            path: "jazz/a.wav",
            versions: &versions.iter().collect::<Vec<_>>(),
            chosen: &versions[..chosen],
            zone: &zone(),
        })
    }

    #[test]
    fn a_person_sees_what_there_is_and_what_is_selected() {
        let versions = [
            version("mds1", "was", "jazz/a.wav"),
            version("mds2", "own", "jazz/a.wav"),
            version("main", ID, "jazz/two\nlines"),
        ];
        insta::assert_snapshot!(with_found(&versions, 1, found), @r"
        versions of jazz/a.wav in moh, the newest first; * is what comes back:
          id            host       size  modified             trashed
        * -             mds1    5.0 MiB  2026-01-02 03:50:45  no: Main lost it since the last run
          -             mds2    5.0 MiB  2026-01-02 03:50:45  no: it stands there
          01KDYC0000-0  main    5.0 MiB  2026-01-02 03:50:45  2026-01-02 04:28:36  jazz/two\x0alines
        ");
        let json = with_found(&versions, 1, |versions| found_json(versions).unwrap());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let of = |key: &str| {
            json["versions"].as_array().unwrap().iter().map(|one| one[key].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of("chosen"), [true, false, false]);
        assert_eq!(of("was_mains"), [true, false, false]);
        assert_eq!(of("id"), [serde_json::Value::Null, serde_json::Value::Null, ID.into()]);
        assert_eq!(json["versions"][2]["path"], "jazz/two\\x0alines");
        assert_eq!(json["versions"][2]["trashed"], "2026-01-02T03:28:36Z");
    }

    #[test]
    fn much_is_told_by_the_way_in_which_it_was_lost() {
        let mut versions = vec![
            version("mds1", "was", "jazz/a.wav"),
            version("mds2", "was", "jazz/a.wav"),
            version("mds2", "was", "jazz/b.wav"),
            version("mds1", ID, "jazz/old"),
            version("mds1", "own", "jazz/new"),
        ];
        versions[2].mtime += 40 * 86_400 * 1_000_000_000;
        insta::assert_snapshot!(with_found(&versions, 3, in_groups), @r"
        jazz/a.wav in moh; * is what comes back:
        * 2 files (10.0 MiB, modified 2026-01-02 to 2026-02-11)
              lost on Main since the last run; still on mds1, mds2
          1 file (5.0 MiB, modified 2026-01-02)
              replaced or deleted 2026-01-02 04:28:36 by run 01KDYC0000; in the trash of mds1
          1 file (5.0 MiB, modified 2026-01-02)
              only on mds1; Main never had it so
        ");
    }

    #[test]
    fn a_person_reads_how_it_went_for_each_path() {
        let outcomes = [
            RestoreOutcome::Done(None),
            RestoreOutcome::Done(Some("01KDYC00000000000000000000-7".parse().unwrap())),
            RestoreOutcome::AlreadyThere,
            RestoreOutcome::Failed("a directory stands there".to_owned()),
        ];
        let one = |(place, outcome)| {
            let version = version("mds1", place, "jazz/a.wav");
            Restored { path: version.path.clone(), version, outcome }
        };
        let all: Vec<Restored> = ["was", ID, ID, ID].into_iter().zip(outcomes).map(one).collect();
        insta::assert_snapshot!(restored("moh", &all, false, &zone()), @r"
        moh: jazz/a.wav: restored as it stands on mds1 (5.0 MiB, modified 2026-01-02 03:50:45)
        moh: jazz/a.wav: restored 01KDYC00000000000000000000-0 of mds1 (5.0 MiB, modified 2026-01-02 03:50:45); what stood there is in Main's trash: 01KDYC00000000000000000000-7
        moh: jazz/a.wav: stands there already as 01KDYC00000000000000000000-0 of mds1 (5.0 MiB, modified 2026-01-02 03:50:45)
        moh: jazz/a.wav: not restored: a directory stands there
        ");
        let many: Vec<Restored> = all.iter().cycle().take(400).cloned().collect();
        let text = restored("moh", &many, false, &zone());
        assert_eq!(text.lines().count(), 101, "what failed, and a line for the rest");
        assert!(text.ends_with("moh: 200 restored (1000.0 MiB), 100 stood there already\n"), "{text}");
        assert_eq!(restored("moh", &many, true, &zone()).lines().count(), 400);

        let json: serde_json::Value = serde_json::from_str(&restored_json("moh", &all).unwrap()).unwrap();
        let states = ["restored", "restored", "already", "failed"];
        assert_eq!(
            json["restored"].as_array().unwrap().iter().map(|one| &one["state"]).collect::<Vec<_>>(),
            states
        );
        assert_eq!(json["restored"][0]["id"], serde_json::Value::Null);
        assert_eq!(json["restored"][1]["replaced"], "01KDYC00000000000000000000-7");
    }
}
