//! Selects versions among all that were found. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::version::Version;
use crate::model::RelPath;
use crate::transfer::trash::{BadTrashId, TrashId, TrashKind};

/// What was specified about a version beside its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// It was put into the trash by this run.
    pub run: Option<IdStart>,
    /// It has this id.
    pub id: Option<IdStart>,
}

/// The beginning of an id, as people type it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdStart {
    run: String,
    version: Option<String>,
}

/// More is no id.
const LONGEST: usize = 26;

impl FromStr for IdStart {
    type Err = BadTrashId;

    fn from_str(text: &str) -> Result<IdStart, BadTrashId> {
        let (run, version) = match text.split_once('-') {
            Some((run, version)) => (run, Some(version)),
            None => (text, None),
        };
        let is_run =
            (1..=LONGEST).contains(&run.len()) && run.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_number =
            |version: &str| (1..=3).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_digit());
        if !is_run || !version.is_none_or(is_number) {
            return Err(BadTrashId);
        }
        Ok(IdStart { run: run.to_ascii_uppercase(), version: version.map(str::to_owned) })
    }
}

impl IdStart {
    fn begins(&self, id: &TrashId) -> bool {
        id.run().starts_with(&self.run)
            && self.version.as_ref().is_none_or(|version| *version == id.version().to_string())
    }
}

/// Why no version is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// There is no version at all.
    NoVersions,
    /// There are versions, but none like the selected one; these hosts have one that stands in the directory.
    NoMatch(Vec<String>),
    /// Several ids begin like that.
    Ambiguous(Vec<String>),
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotFound::NoVersions => f.write_str("no version of it is in any trash, and no node has it"),
            NotFound::NoMatch(standing) => {
                f.write_str("no such version is in any trash; there are others")?;
                match standing.as_slice() {
                    [] => Ok(()),
                    hosts => write!(f, ", and it still stands on {}", hosts.join(", ")),
                }
            }
            NotFound::Ambiguous(ids) => write!(f, "several begin like that: {}", ids.join(", ")),
        }
    }
}

/// Orders versions by age; the newest is the greatest. What stands in a directory is newer than what is in a trash. The id
/// of a run begins with its time. Of what one run put into several trashes, what was modified last is the newest; among
/// equals Main's, then the nodes' in configured order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age<'v> {
    standing: (bool, bool),
    run: &'v str,
    mtime: i64,
    version: u32,
    host: Reverse<usize>,
}

impl<'v> Age<'v> {
    pub(super) fn of(version: &'v Version, host: usize) -> Age<'v> {
        let id = version.id();
        Age {
            standing: (version.is_standing(), version.was_mains()),
            run: id.map_or("", TrashId::run),
            mtime: version.mtime,
            version: id.map_or(0, TrashId::version),
            host: Reverse(host),
        }
    }
}

/// Selects what `path` was before it was lost. That is, in this order:
///
/// 1. what Main had when it last agreed with a node, and no run has taken away there yet;
/// 2. the newest matching version in a trash. Where only what was below `path` is in a trash, `path` was a directory: then
///    it is all that the newest run put there, which is the directory as it was before that run;
/// 3. what only nodes have.
///
/// `versions` has the newest first, and only versions at `path` or below.
pub(super) fn choose<'v>(
    versions: &[&'v Version],
    path: &RelPath,
    selection: &Selection,
) -> Result<Vec<&'v Version>, NotFound> {
    let named = [&selection.run, &selection.id];
    let matches = |version: &&Version| {
        let is_named = |start: &IdStart| version.id().is_some_and(|id| start.begins(id));
        named.iter().all(|start| start.as_ref().is_none_or(is_named)) && version.kind != TrashKind::Special
    };
    let matching: Vec<&Version> = versions.iter().copied().filter(matches).collect();
    if matching.is_empty() {
        return Err(match versions {
            [] => NotFound::NoVersions,
            _ => NotFound::NoMatch(hosts_with_it(versions)),
        });
    }
    check_is_one(&matching, selection)?;
    let of = |which: fn(&Version) -> bool| {
        let some: Vec<&Version> = matching.iter().copied().filter(|version| which(version)).collect();
        newest(&some, path)
    };
    let chosen = of(Version::was_mains);
    let chosen = chosen.or_else(|| of(|version| !version.is_standing()));
    Ok(chosen.or_else(|| of(Version::is_standing)).unwrap_or_default())
}

/// The newest version at `path`; else the newest of each path below, as one run took them away.
fn newest<'v>(versions: &[&'v Version], path: &RelPath) -> Option<Vec<&'v Version>> {
    let first = versions.first()?;
    if let Some(newest) = versions.iter().find(|version| *version.path == *path) {
        return Some(vec![newest]);
    }
    let run = first.id().map(TrashId::run);
    let mut newest: BTreeMap<&RelPath, &Version> = BTreeMap::new();
    for version in versions.iter().filter(|version| version.id().map(TrashId::run) == run) {
        newest.entry(&version.path).or_insert(version);
    }
    Some(newest.into_values().collect())
}

/// The beginning of an id that was typed must be that of one.
fn check_is_one(matching: &[&Version], selection: &Selection) -> Result<(), NotFound> {
    let ids = || matching.iter().filter_map(|version| version.id());
    let runs: BTreeSet<String> = match (&selection.id, &selection.run) {
        (Some(_), _) => ids().map(ToString::to_string).collect(),
        (None, Some(_)) => ids().map(|id| id.run().to_owned()).collect(),
        (None, None) => return Ok(()),
    };
    if runs.len() > 1 { Err(NotFound::Ambiguous(runs.into_iter().collect())) } else { Ok(()) }
}

/// The hosts on which something stands.
fn hosts_with_it(versions: &[&Version]) -> Vec<String> {
    let hosts: BTreeSet<&str> =
        versions.iter().filter(|version| version.is_standing()).map(|version| &*version.host).collect();
    hosts.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::version::Place;
    use super::*;
    use crate::model::{Entry, RelPathBuf};

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    fn id(run: u32, version: u32) -> TrashId {
        TrashId::new(&format!("01KQ{run:022}"), version).unwrap()
    }

    /// `host run-version mtime path`; for what stands there `was` or `own` instead of the id.
    fn version(text: &str) -> Version {
        let words: Vec<&str> = text.split(' ').collect();
        let place = match words[1].split_once('-') {
            Some((run, number)) => Place::Trash(id(run.parse().unwrap(), number.parse().unwrap())),
            None => Place::Standing { entry: Entry::Excluded, was_mains: words[1] == "was" },
        };
        let kind = if words[3].ends_with("fifo") { TrashKind::Special } else { TrashKind::File };
        let (host, path, mtime) = (words[0].to_owned(), path(words[3]), words[2].parse().unwrap());
        Version { host, path, kind, size: 1, mtime, place }
    }

    fn chosen(versions: &[&str], at: &str, selection: &Selection) -> Result<Vec<String>, NotFound> {
        let mut all: Vec<(Version, &str)> = versions.iter().map(|text| (version(text), *text)).collect();
        let host = |version: &Version| {
            ["main", "mds1", "mds2"].iter().position(|host| *host == version.host).unwrap()
        };
        all.sort_by(|(a, _), (b, _)| Age::of(b, host(b)).cmp(&Age::of(a, host(a))));
        let sorted: Vec<&Version> = all.iter().map(|(version, _)| version).collect();
        let text =
            |chosen: &&Version| all.iter().find(|(version, _)| version == *chosen).unwrap().1.to_owned();
        choose(&sorted, &path(at), selection).map(|chosen| chosen.iter().map(text).collect())
    }

    #[test]
    fn the_newest_version_is_selected_unless_another_is_named() {
        let any = Selection::default();
        let of_run = |run: u32| Selection { run: Some(id(run, 0).run().parse().unwrap()), id: None };
        let with_id =
            |run, version| Selection { run: None, id: Some(id(run, version).to_string().parse().unwrap()) };
        let no_match = || Err(NotFound::NoMatch(Vec::new()));
        let all = ["mds1 1-0 50 a", "main 2-0 40 a", "mds1 2-0 60 a", "mds2 2-0 60 a", "mds2 1-1 10 a"];
        for (versions, at, selection, expected) in [
            (&all[..], "a", &any, Ok(&["mds1 2-0 60 a"][..])),
            (&all, "a", &of_run(1), Ok(&["mds1 1-0 50 a"])),
            (&all, "a", &with_id(1, 1), Ok(&["mds2 1-1 10 a"])),
            (&all, "a", &with_id(3, 0), no_match()),
            (&all, "a", &of_run(3), no_match()),
            (&[], "a", &any, Err(NotFound::NoVersions)),
            // A later version of the same run, and the host that comes first.
            (&["main 1-0 5 a", "main 1-1 5 a"], "a", &any, Ok(&["main 1-1 5 a"])),
            (&["mds2 1-0 5 a", "main 1-0 5 a"], "a", &any, Ok(&["main 1-0 5 a"])),
            // A FIFO cannot be restored.
            (&["mds1 2-0 5 a/fifo", "mds1 1-0 5 a/b"], "a", &any, Ok(&["mds1 1-0 5 a/b"])),
            (&["mds1 2-0 5 a/fifo"], "a", &any, no_match()),
            // A directory is restored as it was before the newest run removed it.
            (
                &["mds1 1-0 5 d/old", "mds1 2-0 5 d/a", "mds2 2-0 6 d/a", "mds1 2-0 5 d/b"],
                "d",
                &any,
                Ok(&["mds2 2-0 6 d/a", "mds1 2-0 5 d/b"]),
            ),
            (&["mds1 1-0 5 d/old", "mds1 2-0 5 d/a"], "d", &of_run(1), Ok(&["mds1 1-0 5 d/old"])),
            // What Main had, and has lost since the last run, is newer than any trash.
            (
                &["mds1 was 5 a", "mds2 was 5 a", "mds1 2-0 60 a", "mds2 own 90 a"],
                "a",
                &any,
                Ok(&["mds1 was 5 a"]),
            ),
            (&["mds1 was 5 a", "mds1 1-0 60 a"], "a", &of_run(1), Ok(&["mds1 1-0 60 a"])),
            (&["mds1 own 90 a", "mds1 1-0 60 a"], "a", &any, Ok(&["mds1 1-0 60 a"])),
            (&["mds1 own 80 a", "mds2 own 90 a"], "a", &any, Ok(&["mds2 own 90 a"])),
            (
                &["mds1 was 5 d/a", "mds2 was 5 d/a", "mds2 was 5 d/b", "mds1 2-0 5 d/old", "mds1 own 5 d/c"],
                "d",
                &any,
                Ok(&["mds1 was 5 d/a", "mds2 was 5 d/b"]),
            ),
            (
                &["mds2 was 5 a", "mds1 1-0 60 a"],
                "a",
                &with_id(3, 0),
                Err(NotFound::NoMatch(vec!["mds2".to_owned()])),
            ),
            // A file at the path itself takes precedence over what was below it.
            (&["mds1 1-0 5 d", "mds1 2-0 5 d/a"], "d", &any, Ok(&["mds1 1-0 5 d"])),
        ] {
            let expected = expected.map(|list| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
            assert_eq!(chosen(versions, at, selection), expected, "{versions:?} {at} {selection:?}");
        }
    }

    #[test]
    fn the_beginning_of_an_id_will_do_where_it_is_the_beginning_of_one() {
        let start = |text: &str| text.parse::<IdStart>();
        let with = |text: &str| Selection { run: None, id: start(text).ok() };
        let all = ["mds1 1-0 50 a", "mds1 12-0 60 a", "mds2 12-1 70 a"];
        let full = id(12, 1).to_string();
        for (typed, expected) in [
            (&full[..], Ok("mds2 12-1 70 a")),
            ("01kq0000000000000000000000000012-1", Err(())),
            (&full.to_lowercase(), Ok("mds2 12-1 70 a")),
            (&full[..full.len() - 4], Err(())),
            (&full[..full.len() - 2], Err(())),
            (&id(1, 0).run()[..26], Ok("mds1 1-0 50 a")),
        ] {
            let found = chosen(&all, "a", &with(typed)).map_err(drop).map(|found| found[0].clone());
            let expected = expected.map(str::to_owned);
            if start(typed).is_ok() {
                assert_eq!(found, expected, "{typed}");
            }
        }
        let ambiguous = chosen(&all, "a", &with("01KQ")).unwrap_err();
        assert!(matches!(&ambiguous, NotFound::Ambiguous(ids) if ids.len() == 3), "{ambiguous}");
        for typed in ["", "-", "-1", "../../etc-0", "01KQ-", "01KQ-x", "01KQ-1234", "01KQ 1"] {
            assert_eq!(start(typed), Err(BadTrashId), "{typed}");
        }
    }
}
