//! What this process itself has put in place or removed: that it shows in events is no news, as long as it stands there
//! just as the commit left it. Whoever made the run knows of it without events.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gather::Kind;
use crate::disk::Stamp;
use crate::model::{RelPath, RelPathBuf};

/// Most paths of a directory that are remembered. Events of others count as ever.
const MOST: usize = 10_000;

/// What commits left, shared by those who commit and those who watch. Directories are told apart by their names.
#[derive(Debug, Default)]
pub struct OwnWrites(Mutex<HashMap<String, Directory>>);

#[derive(Debug, Default)]
struct Directory {
    /// How many commits are under way in it.
    commits: u32,
    left: HashMap<RelPathBuf, Left>,
}

/// How a commit left a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Something stands there that looks like this.
    There(Stamp),
    /// Nothing does.
    Gone,
}

/// A commit that is under way.
#[derive(Debug)]
pub struct OwnCommit<'a> {
    writes: &'a OwnWrites,
    directory: &'a str,
}

impl OwnWrites {
    /// A commit begins. Until it is dropped, nobody can say whose the events are.
    pub fn begin<'a>(&'a self, directory: &'a str) -> OwnCommit<'a> {
        self.lock().entry(directory.to_owned()).or_default().commits += 1;
        OwnCommit { writes: self, directory }
    }

    /// Whether a commit is under way in a directory.
    pub(super) fn is_under_way(&self, directory: &str) -> bool {
        self.lock().get(directory).is_some_and(|directory| directory.commits > 0)
    }

    /// Whether an event tells of nothing but what a commit left. `now` says how the path looks now; it is asked only where
    /// a commit left something.
    pub(super) fn explains(
        &self,
        directory: &str,
        path: &RelPath,
        kind: Kind,
        now: impl FnOnce() -> Option<Stamp>,
    ) -> bool {
        let Some(left) = self.lock().get(directory).and_then(|known| known.left.get(path).copied()) else {
            return false;
        };
        let is_explained = match (left, kind) {
            // What is in a new directory may be anybody's.
            (_, Kind::Directory) => false,
            // Nobody can set its change time back.
            (Left::There(stamp), _) => now() == Some(stamp),
            // A removal is told once. Whoever makes something there, and removes it, makes events before that.
            (Left::Gone, Kind::Removed) => now().is_none(),
            (Left::Gone, _) => false,
        };
        if !is_explained || left == Left::Gone {
            self.lock().get_mut(directory).and_then(|known| known.left.remove(path));
        }
        is_explained
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Directory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnCommit<'_> {
    /// What it left so far.
    pub fn leave(&self, left: impl IntoIterator<Item = (RelPathBuf, Left)>) {
        let mut directories = self.writes.lock();
        let Some(known) = directories.get_mut(self.directory) else { return };
        for (path, how) in left {
            if known.left.len() >= MOST {
                // Those of earlier commits have been told by now.
                drop(mem::take(&mut known.left));
            }
            known.left.insert(path, how);
        }
    }
}

impl Drop for OwnCommit<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.writes.lock().get_mut(self.directory) {
            known.commits = known.commits.saturating_sub(1);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    fn stamp(ctime: i64) -> Stamp {
        Stamp { ino: 7, ctime, mtime: 1, size: 3, mode: 0o100_644 }
    }

    #[test]
    fn only_what_stands_as_it_was_left_is_explained() {
        use Kind::{Complete, Created, Directory, Removed, Touched};
        let (there, gone) = (Left::There(stamp(5)), Left::Gone);
        for (what, left, kind, now, explained) in [
            ("put in place", there, Complete, Some(stamp(5)), true),
            ("and given a mode", there, Touched, Some(stamp(5)), true),
            ("exchanged with the old one", there, Removed, Some(stamp(5)), true),
            ("changed since", there, Complete, Some(stamp(6)), false),
            ("gone since", there, Removed, None, false),
            ("a directory", there, Directory, Some(stamp(5)), false),
            ("removed", gone, Removed, None, true),
            ("made again since", gone, Removed, Some(stamp(6)), false),
            ("made again and removed", gone, Created, None, false),
            ("made again and removed", gone, Complete, None, false),
        ] {
            let writes = OwnWrites::default();
            writes.begin("d").leave([(path("a"), left)]);
            assert_eq!(writes.explains("d", &path("a"), kind, || now), explained, "{what}");
            assert!(!writes.explains("d", &path("b"), kind, || now), "another path");
            assert!(!writes.explains("e", &path("a"), kind, || now), "another directory");
        }
    }

    #[test]
    fn a_removal_is_explained_once_and_what_somebody_changed_never_again() {
        let writes = OwnWrites::default();
        writes.begin("d").leave([(path("gone"), Left::Gone), (path("there"), Left::There(stamp(5)))]);
        assert!(writes.explains("d", &path("gone"), Kind::Removed, || None));
        assert!(!writes.explains("d", &path("gone"), Kind::Removed, || None), "somebody else's");
        assert!(!writes.explains("d", &path("there"), Kind::Complete, || Some(stamp(9))));
        assert!(!writes.explains("d", &path("there"), Kind::Complete, || Some(stamp(5))));
    }

    #[test]
    fn while_a_commit_is_under_way_nobody_can_say() {
        let writes = OwnWrites::default();
        let commit = writes.begin("d");
        assert!(writes.is_under_way("d") && !writes.is_under_way("e"));
        drop(commit);
        assert!(!writes.is_under_way("d"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let writes = OwnWrites::default();
        writes.begin("d").leave((0..3 * MOST).map(|n| (path(&n.to_string()), Left::Gone)));
        assert!(writes.lock()["d"].left.len() <= MOST);
    }
}
