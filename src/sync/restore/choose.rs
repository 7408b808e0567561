//! Selects versions among all that were found. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use super::TrashedVersion;
use crate::model::RelPath;
use crate::transfer::trash::{TrashId, TrashKind};

/// What was specified about a version beside its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// It was put into the trash by this run.
    pub run: Option<String>,
    /// It has this id.
    pub id: Option<TrashId>,
}

/// No version matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// There is no version at all.
    NoVersions,
    /// There are versions, but none like the selected one.
    NoMatch,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotFound::NoVersions => "no version of it is in any trash",
            NotFound::NoMatch => "no such version is in any trash; there are others",
        })
    }
}

/// Orders versions by age; the newest is the greatest. The id of a run begins with its time. Of what one run put into
/// several trashes, what was modified last is the newest; among equals Main's, then the nodes' in configured order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age<'v> {
    run: &'v str,
    mtime: i64,
    version: u32,
    host: Reverse<usize>,
}

impl<'v> Age<'v> {
    pub(super) fn of(version: &'v TrashedVersion, host: usize) -> Age<'v> {
        let place = &version.entry.place;
        Age {
            run: place.id.run(),
            mtime: version.entry.mtime,
            version: place.id.version(),
            host: Reverse(host),
        }
    }
}

/// Selects the newest matching version at `path`. Where only what was below `path` is in a trash, `path` was a
/// directory: then all that the newest run put there is selected, which is the directory as it was before that run.
///
/// `versions` has the newest first, and only versions at `path` or below.
pub(super) fn choose<'v>(
    versions: &[&'v TrashedVersion],
    path: &RelPath,
    selection: &Selection,
) -> Result<Vec<&'v TrashedVersion>, NotFound> {
    let matches = |version: &&&TrashedVersion| {
        let id = &version.entry.place.id;
        selection.id.as_ref().is_none_or(|selected| selected == id)
            && selection.run.as_ref().is_none_or(|run| run == id.run())
            && version.entry.kind != TrashKind::Special
    };
    let matching: Vec<&TrashedVersion> = versions.iter().filter(matches).copied().collect();
    let Some(first) = matching.first() else {
        return Err(if versions.is_empty() { NotFound::NoVersions } else { NotFound::NoMatch });
    };
    if let Some(newest) = matching.iter().find(|version| *version.entry.place.path == *path) {
        return Ok(vec![newest]);
    }
    let run = first.entry.place.id.run();
    let mut newest: BTreeMap<&RelPath, &TrashedVersion> = BTreeMap::new();
    for version in matching.iter().filter(|version| version.entry.place.id.run() == run) {
        newest.entry(&version.entry.place.path).or_insert(version);
    }
    Ok(newest.into_values().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::RelPathBuf;
    use crate::transfer::trash::{TrashEntry, Trashed};

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    fn id(run: u32, version: u32) -> TrashId {
        TrashId::new(&format!("01KQ{run:022}"), version).unwrap()
    }

    /// `host run-version mtime path`.
    fn version(text: &str) -> TrashedVersion {
        let words: Vec<&str> = text.split(' ').collect();
        let (run, number) = words[1].split_once('-').unwrap();
        let place = Trashed { id: id(run.parse().unwrap(), number.parse().unwrap()), path: path(words[3]) };
        let kind = if words[3].ends_with("fifo") { TrashKind::Special } else { TrashKind::File };
        let entry = TrashEntry { place, kind, size: 1, mtime: words[2].parse().unwrap() };
        TrashedVersion { host: words[0].to_owned(), entry }
    }

    fn chosen(versions: &[&str], at: &str, selection: &Selection) -> Result<Vec<String>, NotFound> {
        let mut all: Vec<(TrashedVersion, &str)> =
            versions.iter().map(|text| (version(text), *text)).collect();
        let host = |version: &TrashedVersion| {
            ["main", "mds1", "mds2"].iter().position(|host| *host == version.host).unwrap()
        };
        all.sort_by(|(a, _), (b, _)| Age::of(b, host(b)).cmp(&Age::of(a, host(a))));
        let sorted: Vec<&TrashedVersion> = all.iter().map(|(version, _)| version).collect();
        let text = |chosen: &&TrashedVersion| {
            all.iter().find(|(version, _)| version == *chosen).unwrap().1.to_owned()
        };
        choose(&sorted, &path(at), selection).map(|chosen| chosen.iter().map(text).collect())
    }

    #[test]
    fn the_newest_version_is_selected_unless_another_is_named() {
        let any = Selection::default();
        let of_run = |run: u32| Selection { run: Some(id(run, 0).run().to_owned()), id: None };
        let with_id = |run, version| Selection { run: None, id: Some(id(run, version)) };
        let all = ["mds1 1-0 50 a", "main 2-0 40 a", "mds1 2-0 60 a", "mds2 2-0 60 a", "mds2 1-1 10 a"];
        for (versions, at, selection, expected) in [
            (&all[..], "a", &any, Ok(&["mds1 2-0 60 a"][..])),
            (&all, "a", &of_run(1), Ok(&["mds1 1-0 50 a"])),
            (&all, "a", &with_id(1, 1), Ok(&["mds2 1-1 10 a"])),
            (&all, "a", &with_id(3, 0), Err(NotFound::NoMatch)),
            (&all, "a", &of_run(3), Err(NotFound::NoMatch)),
            (&[], "a", &any, Err(NotFound::NoVersions)),
            // A later version of the same run, and the host that comes first.
            (&["main 1-0 5 a", "main 1-1 5 a"], "a", &any, Ok(&["main 1-1 5 a"])),
            (&["mds2 1-0 5 a", "main 1-0 5 a"], "a", &any, Ok(&["main 1-0 5 a"])),
            // A FIFO cannot be restored.
            (&["mds1 2-0 5 a/fifo", "mds1 1-0 5 a/b"], "a", &any, Ok(&["mds1 1-0 5 a/b"])),
            (&["mds1 2-0 5 a/fifo"], "a", &any, Err(NotFound::NoMatch)),
            // A directory is restored as it was before the newest run removed it.
            (
                &["mds1 1-0 5 d/old", "mds1 2-0 5 d/a", "mds2 2-0 6 d/a", "mds1 2-0 5 d/b"],
                "d",
                &any,
                Ok(&["mds2 2-0 6 d/a", "mds1 2-0 5 d/b"]),
            ),
            (&["mds1 1-0 5 d/old", "mds1 2-0 5 d/a"], "d", &of_run(1), Ok(&["mds1 1-0 5 d/old"])),
            // A file at the path itself takes precedence over what was below it.
            (&["mds1 1-0 5 d", "mds1 2-0 5 d/a"], "d", &any, Ok(&["mds1 1-0 5 d"])),
        ] {
            let expected = expected.map(|list| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
            assert_eq!(chosen(versions, at, selection), expected, "{versions:?} {at} {selection:?}");
        }
    }
}
