//! The changes of a run as lines for people: the same change on several nodes is one line, and of a directory with too
//! many there is a line of counts.

use std::collections::{BTreeMap, BTreeSet};

use super::words;
use crate::model::{ChangeKind, NodeChange, Side};

/// So many changes fit a screen beside the rest of a report.
const MOST_LINES: usize = 30;

/// The lines, and whether all changes are among them.
pub(super) struct ChangeLines {
    /// Each with whether somebody should look at it.
    pub(super) lines: Vec<(bool, String)>,
    pub(super) is_complete: bool,
}

/// One change, as several nodes have it.
type Shared<'r> = BTreeMap<Key<'r>, (&'r NodeChange, Vec<&'r str>)>;

/// Main gets what is new before other nodes do; then in tree order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'r> {
    from_main: bool,
    path: &'r crate::model::RelPath,
    kind: &'r str,
    bytes: u64,
    reason: Option<&'r str>,
    /// Main gets a change from one node.
    from: Option<&'r str>,
}

/// The lines for `changes`. With `all` each path has one, otherwise those of the directories that have most are counted
/// until the rest fits a screen.
pub(super) fn lines(changes: &[NodeChange], all: bool) -> ChangeLines {
    let directories = by_directory(changes);
    let mut shared: Vec<(&str, Shared<'_>)> =
        directories.iter().map(|(name, changes)| (*name, share(changes))).collect();
    let counted = if all { BTreeSet::new() } else { too_long(&shared) };
    let mut lines = Vec::new();
    for (index, (name, shared)) in shared.iter_mut().enumerate() {
        if counted.contains(&index) {
            lines.extend(totals(name, &directories[index].1));
        } else {
            lines.extend(
                shared
                    .values()
                    .map(|(change, nodes)| (is_remarkable(change.kind), words::shared_change(change, nodes))),
            );
        }
    }
    ChangeLines { lines, is_complete: counted.is_empty() }
}

/// In the order in which a run comes upon them.
fn by_directory(changes: &[NodeChange]) -> Vec<(&str, Vec<&NodeChange>)> {
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    let mut directories: Vec<(&str, Vec<&NodeChange>)> = Vec::new();
    for change in changes {
        let at = *index.entry(&change.directory).or_insert_with(|| {
            directories.push((&change.directory, Vec::new()));
            directories.len() - 1
        });
        directories[at].1.push(change);
    }
    directories
}

fn share<'r>(changes: &[&'r NodeChange]) -> Shared<'r> {
    let mut shared = Shared::new();
    for change in changes {
        let from_main = change.to == Side::Node;
        let key = Key {
            from_main,
            path: &change.path,
            kind: change.kind.word(),
            bytes: change.bytes,
            reason: change.reason.as_deref(),
            from: (!from_main).then_some(&*change.node),
        };
        shared.entry(key).or_insert_with(|| (change, Vec::new())).1.push(&change.node);
    }
    shared
}

/// Which directories are counted: the longest one after the other, until the rest fits.
fn too_long(shared: &[(&str, Shared<'_>)]) -> BTreeSet<usize> {
    let mut longest: Vec<usize> = (0..shared.len()).collect();
    longest.sort_by_key(|index| std::cmp::Reverse(shared[*index].1.len()));
    let mut left: usize = shared.iter().map(|(_, shared)| shared.len()).sum();
    let mut counted = BTreeSet::new();
    for index in longest {
        if left <= MOST_LINES {
            break;
        }
        left -= shared[index].1.len();
        counted.insert(index);
    }
    counted
}

/// Counts by kind; of metadata, which differ in what they are about, by that too.
#[derive(Default, PartialEq, Eq)]
struct Tally(BTreeMap<(usize, &'static str, String), (u64, u64)>);

impl Tally {
    fn add(&mut self, change: &NodeChange) {
        let (order, word) = match change.kind {
            ChangeKind::Create => (0, "created"),
            ChangeKind::Update => (1, "updated"),
            ChangeKind::Rename => (2, "renamed"),
            ChangeKind::Metadata => (3, "metadata"),
            ChangeKind::Delete => (4, "deleted"),
            ChangeKind::Drift => (5, "drift"),
            ChangeKind::Conflict => (6, "in conflict"),
            ChangeKind::Hold => (7, "held back"),
            ChangeKind::Skip => (8, "skipped"),
        };
        let is_metadata = change.kind == ChangeKind::Metadata;
        let detail = change.reason.as_deref().filter(|_| is_metadata).map(words::name).unwrap_or_default();
        let count = self.0.entry((order, word, detail)).or_default();
        count.0 += 1;
        count.1 += if is_metadata { 0 } else { change.bytes };
    }

    fn words(&self) -> String {
        let part = |((_, word, detail), (number, bytes)): (&(usize, &str, String), &(u64, u64))| {
            let note = match (detail.is_empty(), bytes) {
                (true, 0) => String::new(),
                (true, bytes) => format!(" ({})", words::bytes(*bytes)),
                (false, _) => format!(" ({detail})"),
            };
            format!("{number} {word}{note}")
        };
        self.0.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

/// One line for each way that changes of a directory went; nodes for which the counts are the same share it.
fn totals(directory: &str, changes: &[&NodeChange]) -> Vec<(bool, String)> {
    let mut order: Vec<(bool, &str)> = Vec::new();
    let mut tallies: BTreeMap<(bool, &str), Tally> = BTreeMap::new();
    for change in changes {
        let way = (change.to == Side::Node, &*change.node);
        tallies
            .entry(way)
            .or_insert_with(|| {
                order.push(way);
                Tally::default()
            })
            .add(change);
    }
    order.sort_by_key(|(from_main, _)| *from_main);
    let mut lines: Vec<(bool, Vec<&str>, Tally)> = Vec::new();
    for way @ (from_main, node) in order {
        let Some(tally) = tallies.remove(&way) else { continue };
        match lines.iter_mut().find(|line| from_main && line.0 && line.2 == tally) {
            Some(line) => line.1.push(node),
            None => lines.push((from_main, vec![node], tally)),
        }
    }
    let remarkable = |tally: &Tally| tally.0.keys().any(|(order, ..)| *order >= 5);
    let line = |(from_main, nodes, tally): (bool, Vec<&str>, Tally)| {
        let to = if from_main { Side::Node } else { Side::Main };
        let text = format!("{}: {}: {}", words::name(directory), words::way(to, &nodes), tally.words());
        (remarkable(&tally), text)
    };
    lines.into_iter().map(line).collect()
}

/// What somebody should look at.
fn is_remarkable(kind: ChangeKind) -> bool {
    matches!(kind, ChangeKind::Drift | ChangeKind::Conflict | ChangeKind::Hold | ChangeKind::Skip)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::samples::change;
    use super::*;

    fn text(changes: &[NodeChange], all: bool) -> String {
        lines(changes, all).lines.into_iter().map(|(_, line)| line + "\n").collect()
    }

    fn metadata(node: &str, number: usize, what: &str) -> NodeChange {
        let path = format!("en/{number:04}.wav");
        NodeChange { reason: Some(what.into()), ..change(node, ChangeKind::Metadata, path.as_bytes(), 2) }
    }

    #[test]
    fn the_same_change_of_several_nodes_is_one_line() {
        let changes = [
            change("mds1", ChangeKind::Create, b"a.wav", 7),
            change("mds1", ChangeKind::Delete, b"b.wav", 1),
            NodeChange { directory: "sounds".into(), ..change("mds1", ChangeKind::Update, b"a.wav", 7) },
            change("mds2", ChangeKind::Create, b"a.wav", 7),
            // It had another version.
            change("mds2", ChangeKind::Delete, b"b.wav", 2),
            NodeChange { to: Side::Main, ..change("mds2", ChangeKind::Create, b"c.wav", 3) },
            change("mds1", ChangeKind::Create, b"c.wav", 3),
            NodeChange { is_dir: true, ..change("mds2", ChangeKind::Create, b"en", 0) },
        ];
        insta::assert_snapshot!(text(&changes, false), @"
        moh: mds2 -> main: create c.wav (3 B)
        moh: main -> mds1, mds2: create a.wav (7 B)
        moh: main -> mds1: delete b.wav (1 B)
        moh: main -> mds2: delete b.wav (2 B)
        moh: main -> mds1: create c.wav (3 B)
        moh: main -> mds2: create en/
        sounds: main -> mds1: update a.wav (7 B)
        ");
    }

    #[test]
    fn of_a_directory_with_too_many_there_is_a_line_of_counts() {
        let mut changes = Vec::new();
        for node in ["mds1", "mds2", "mds3"] {
            changes.extend((0..3000).map(|number| metadata(node, number, "time")));
            changes.push(NodeChange { bytes: 5, ..change(node, ChangeKind::Create, b"new.wav", 5) });
            changes.push(NodeChange { directory: "dialplan".into(), ..metadata(node, 0, "time") });
        }
        changes.push(metadata("mds3", 3001, "mode, owner"));
        changes.push(change("mds3", ChangeKind::Drift, b"x", 1024));
        changes.push(NodeChange { to: Side::Main, ..change("mds3", ChangeKind::Create, b"y", 1024) });
        insta::assert_snapshot!(text(&changes, false), @"
        moh: mds3 -> main: 1 created (1.0 KiB)
        moh: main -> mds1, mds2: 1 created (5 B), 3000 metadata (time)
        moh: main -> mds3: 1 created (5 B), 1 metadata (mode, owner), 3000 metadata (time), 1 drift (1.0 KiB)
        dialplan: main -> mds1, mds2, mds3: metadata en/0000.wav (time)
        ");
        assert!(!lines(&changes, false).is_complete);
        let all = lines(&changes, true);
        assert_eq!((all.lines.len(), all.is_complete), (3000 + 1 + 1 + 1 + 1 + 1, true));
    }

    #[test]
    fn some_dozens_are_told_one_by_one() {
        for (number, is_complete) in [(MOST_LINES, true), (MOST_LINES + 1, false)] {
            let changes: Vec<_> = (0..number).map(|number| metadata("mds1", number, "time")).collect();
            assert_eq!(lines(&changes, false).is_complete, is_complete, "{number}");
        }
    }

    #[test]
    fn what_somebody_should_look_at_stands_out() {
        let changes =
            [change("mds1", ChangeKind::Drift, b"a", 1), change("mds1", ChangeKind::Update, b"b", 1)];
        let painted: Vec<bool> =
            lines(&changes, false).lines.iter().map(|(is_remarkable, _)| *is_remarkable).collect();
        assert_eq!(painted, [true, false]);
    }
}
