//! What a plan leaves alone: the first paths by name, the rest as numbers. A user of one host can make as many of them
//! as there is room for, so that none of them costs memory.

use std::collections::BTreeMap;

use crate::model::{BlockedPath, Change, ChangeKind, Reason};

/// Most paths of an edge that a plan knows by name, and a report lists, of each kind: such as files that are being written and
/// conflicts that wait.
pub(crate) const MAX_LEFT: usize = 1000;

/// What the plan of an edge leaves alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// What stays as it is and is named by a report all the same: files that are being written, edits that are kept,
    /// conflicts that wait. In tree order. No action touches such a path on this edge.
    notes: Vec<Change>,
    /// How many more notes there are than are known by name.
    more_notes: BTreeMap<ChangeKind, u64>,
    /// What cannot be read or is in each other's way; the run has failed there.
    failed: FirstPaths,
    /// Standing skips: facts of the site that are reported once, see
    /// [`EntryProblem::is_standing`](crate::model::EntryProblem::is_standing); and what a node keeps as it made it.
    skipped: FirstPaths,
}

/// The first of some paths, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FirstPaths {
    pub(crate) first: Vec<BlockedPath>,
    pub(crate) more: u64,
}

impl FirstPaths {
    fn add(&mut self, path: BlockedPath) {
        if self.first.len() < MAX_LEFT {
            self.first.push(path);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.first.len() as u64 + self.more
    }
}

impl Left {
    /// Notes a path that stays as it is. Paths are given in tree order.
    pub(crate) fn note(&mut self, note: Change) {
        // An edit that is kept is one of a file that Main had: users make no more of them than there were.
        if self.notes.len() < MAX_LEFT || note.kind == ChangeKind::Drift {
            self.notes.push(note);
        } else {
            *self.more_notes.entry(note.kind).or_default() += 1;
        }
    }

    /// Notes a path that is left alone because of what one end has there.
    pub(crate) fn block(&mut self, path: BlockedPath) {
        let is_standing = match &path.reason {
            Reason::Problem(problem) => problem.is_standing(),
            reason => *reason == Reason::NodesStays,
        };
        if is_standing { self.skipped.add(path) } else { self.failed.add(path) }
    }

    /// The notes that are known by name.
    pub(crate) fn notes(&self) -> &[Change] {
        &self.notes
    }

    /// How many more notes of each kind there are.
    pub(crate) fn more_notes(&self) -> impl Iterator<Item = (ChangeKind, u64)> {
        self.more_notes.iter().map(|(kind, number)| (*kind, *number))
    }

    /// How many notes of a kind there are.
    pub(crate) fn number_of(&self, kind: ChangeKind) -> u64 {
        let named = self.notes.iter().filter(|note| note.kind == kind).count() as u64;
        named + self.more_notes.get(&kind).copied().unwrap_or_default()
    }

    pub(crate) fn failed(&self) -> &FirstPaths {
        &self.failed
    }

    pub(crate) fn skipped(&self) -> &FirstPaths {
        &self.skipped
    }

    /// Whether something waits for another run, or for a decision.
    pub(super) fn is_open(&self) -> bool {
        self.failed.count() > 0
            || !self.more_notes.is_empty()
            || self.notes.iter().any(|note| note.kind.is_open())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Busy, EntryProblem, RelPathBuf, Side};

    #[test]
    fn a_million_paths_are_a_thousand_and_a_number() {
        let mut left = Left::default();
        for number in 0..1_000_000 {
            let path = RelPathBuf::new(format!("{number:07}").as_bytes()).unwrap();
            let blocked = |reason| BlockedPath { path: path.clone(), side: Side::Node, reason };
            left.block(blocked(Reason::Problem(EntryProblem::Special)));
            left.block(blocked(Reason::Problem(EntryProblem::Unreadable("EIO".into()))));
            let reason = Some(Reason::Busy(Busy::Open));
            let note =
                Change { path, to: Side::Main, kind: ChangeKind::Hold, bytes: 0, is_dir: false, reason };
            left.note(note);
        }
        let named = [left.skipped.first.len(), left.failed.first.len(), left.notes.len()];
        assert_eq!(named, [MAX_LEFT; 3]);
        assert_eq!([left.skipped.count(), left.failed.count()], [1_000_000; 2]);
        assert_eq!(left.more_notes().collect::<Vec<_>>(), [(ChangeKind::Hold, 999_000)]);
        assert_eq!(left.notes[999].path.escaped(), "0000999", "the first ones");
        assert!(left.is_open());
    }
}
