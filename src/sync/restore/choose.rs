//! Which of the versions that hosts have is meant. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use super::Version;
use crate::model::RelPath;
use crate::transfer::trash::{TrashId, TrashKind};

/// What was said about the version beside its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What this run put into the trash.
    pub run: Option<String>,
    /// The version with this id.
    pub id: Option<TrashId>,
}

/// No version is as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// There is none at all.
    AtAll,
    /// There are others.
    LikeThat,
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nothing::AtAll => "no version of it is in any trash",
            Nothing::LikeThat => "no such version is in any trash; there are others",
        })
    }
}

/// How old a version is beside others; the newest is the greatest. A run's id tells its time. Of what one run
/// put into several trashes, what was modified last is what somebody did last; then Main's comes first, then the
/// nodes' in configured order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age<'v> {
    run: &'v str,
    mtime: i64,
    version: u32,
    host: Reverse<usize>,
}

impl<'v> Age<'v> {
    pub(super) fn of(version: &'v Version, host: usize) -> Age<'v> {
        let place = &version.entry.place;
        Age {
            run: place.id.run(),
            mtime: version.entry.mtime,
            version: place.id.version(),
            host: Reverse(host),
        }
    }
}

/// The version that is meant: the newest at `path`. Where only what was below `path` is in a trash, all of it
/// that the newest run put there: a directory as it was before that run.
///
/// `versions` has the newest first, and only such at `path` or below.
pub(super) fn choose<'v>(
    versions: &[&'v Version],
    path: &RelPath,
    asked: &Asked,
) -> Result<Vec<&'v Version>, Nothing> {
    let is_meant = |version: &&&Version| {
        let id = &version.entry.place.id;
        asked.id.as_ref().is_none_or(|asked| asked == id)
            && asked.run.as_ref().is_none_or(|run| run == id.run())
            && version.entry.kind != TrashKind::Special
    };
    let mut meant = versions.iter().filter(is_meant).copied().peekable();
    if meant.peek().is_none() {
        return Err(if versions.is_empty() { Nothing::AtAll } else { Nothing::LikeThat });
    }
    let meant: Vec<&Version> = meant.collect();
    if let Some(newest) = meant.iter().find(|version| *version.entry.place.path == *path) {
        return Ok(vec![newest]);
    }
    let run = meant[0].entry.place.id.run();
    let mut newest: BTreeMap<&RelPath, &Version> = BTreeMap::new();
    for version in meant.into_iter().filter(|version| version.entry.place.id.run() == run) {
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
    fn version(text: &str) -> Version {
        let words: Vec<&str> = text.split(' ').collect();
        let (run, number) = words[1].split_once('-').unwrap();
        let place = Trashed { id: id(run.parse().unwrap(), number.parse().unwrap()), path: path(words[3]) };
        let kind = if words[3].ends_with("fifo") { TrashKind::Special } else { TrashKind::File };
        let entry = TrashEntry { place, kind, size: 1, mtime: words[2].parse().unwrap() };
        Version { host: words[0].to_owned(), entry }
    }

    fn chosen(versions: &[&str], at: &str, asked: &Asked) -> Result<Vec<String>, Nothing> {
        let mut all: Vec<(Version, &str)> = versions.iter().map(|text| (version(text), *text)).collect();
        let host = |version: &Version| {
            ["main", "mds1", "mds2"].iter().position(|host| *host == version.host).unwrap()
        };
        all.sort_by(|(a, _), (b, _)| Age::of(b, host(b)).cmp(&Age::of(a, host(a))));
        let sorted: Vec<&Version> = all.iter().map(|(version, _)| version).collect();
        let text =
            |chosen: &&Version| all.iter().find(|(version, _)| version == *chosen).unwrap().1.to_owned();
        choose(&sorted, &path(at), asked).map(|chosen| chosen.iter().map(text).collect())
    }

    #[test]
    fn the_newest_version_is_meant_unless_another_is_named() {
        let any = Asked::default();
        let of_run = |run: u32| Asked { run: Some(id(run, 0).run().to_owned()), id: None };
        let with_id = |run, version| Asked { run: None, id: Some(id(run, version)) };
        let all = ["mds1 1-0 50 a", "main 2-0 40 a", "mds1 2-0 60 a", "mds2 2-0 60 a", "mds2 1-1 10 a"];
        for (versions, at, asked, expected) in [
            (&all[..], "a", &any, Ok(&["mds1 2-0 60 a"][..])),
            (&all, "a", &of_run(1), Ok(&["mds1 1-0 50 a"])),
            (&all, "a", &with_id(1, 1), Ok(&["mds2 1-1 10 a"])),
            (&all, "a", &with_id(3, 0), Err(Nothing::LikeThat)),
            (&all, "a", &of_run(3), Err(Nothing::LikeThat)),
            (&[], "a", &any, Err(Nothing::AtAll)),
            // A later version of the same run, and the host that comes first.
            (&["main 1-0 5 a", "main 1-1 5 a"], "a", &any, Ok(&["main 1-1 5 a"])),
            (&["mds2 1-0 5 a", "main 1-0 5 a"], "a", &any, Ok(&["main 1-0 5 a"])),
            // A FIFO cannot be brought back.
            (&["mds1 2-0 5 a/fifo", "mds1 1-0 5 a/b"], "a", &any, Ok(&["mds1 1-0 5 a/b"])),
            (&["mds1 2-0 5 a/fifo"], "a", &any, Err(Nothing::LikeThat)),
            // A directory comes back as the newest run took it away.
            (
                &["mds1 1-0 5 d/old", "mds1 2-0 5 d/a", "mds2 2-0 6 d/a", "mds1 2-0 5 d/b"],
                "d",
                &any,
                Ok(&["mds2 2-0 6 d/a", "mds1 2-0 5 d/b"]),
            ),
            (&["mds1 1-0 5 d/old", "mds1 2-0 5 d/a"], "d", &of_run(1), Ok(&["mds1 1-0 5 d/old"])),
            // What was a file there itself goes before what was below.
            (&["mds1 1-0 5 d", "mds1 2-0 5 d/a"], "d", &any, Ok(&["mds1 1-0 5 d"])),
        ] {
            let expected = expected.map(|list| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
            assert_eq!(chosen(versions, at, asked), expected, "{versions:?} {at} {asked:?}");
        }
    }
}
