//! The tree of a root as a commit finds it: what the scan saw, and what the commit itself has changed since.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::bail;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::ScannedTree;
use super::swap::Name;
use crate::disk::{HeldRoot, OWN_DIR, Stamp};
use crate::model::{Entry, EntryProblem, RelPath, RelPathBuf};

/// A name in the tree: the directory it is in, open, and what stands there, as far as that was looked at.
#[derive(Debug)]
pub(super) struct TreeName {
    pub(super) parent: OwnedFd,
    pub(super) name: OsString,
    pub(super) now: Option<Stat>,
}

impl TreeName {
    pub(super) fn open(root: &HeldRoot, path: &RelPath) -> io::Result<TreeName> {
        let parent = root.open_parent(path)?;
        let name = OsStr::from_bytes(path.name()).to_owned();
        Ok(TreeName { parent, name, now: None })
    }

    pub(super) fn name(&self) -> Name<'_> {
        Name::new(self.parent.as_fd(), &self.name)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.now.is_some_and(|now| FileType::from_raw_mode(now.st_mode).is_dir())
    }

    pub(super) fn is_inode(&self, ino: u64) -> bool {
        self.now.is_some_and(|now| now.st_ino == ino)
    }
}

/// What the scan saw, as far as it still holds.
pub(super) struct LiveTree<'a> {
    root: &'a HeldRoot,
    seen: &'a ScannedTree<'a>,
    /// What was scanned and is no longer there, by our own doing.
    gone: HashSet<RelPathBuf>,
    /// By inode, how files look whose other hard link we moved: that changes their ctime.
    touched: HashMap<u64, Stamp>,
}

impl<'a> LiveTree<'a> {
    pub(super) fn new(root: &'a HeldRoot, seen: &'a ScannedTree<'a>) -> LiveTree<'a> {
        LiveTree { root, seen, gone: HashSet::new(), touched: HashMap::new() }
    }

    /// From now on nothing is expected at `path`: we have removed it.
    pub(super) fn mark_gone(&mut self, path: &RelPath) {
        self.gone.insert(path.to_owned());
    }

    /// A file of which we moved one name looks like this from now on under its other names.
    pub(super) fn mark_touched(&mut self, stamp: Stamp) {
        self.touched.insert(stamp.ino, stamp);
    }

    /// Whether a path is for us to change, whatever the peer thinks: not what is ours, and not what the
    /// rules keep out or could not be seen, nor below it.
    pub(super) fn may_touch(&self, path: &RelPath) -> anyhow::Result<()> {
        if path.names().any(|name| name == OWN_DIR.as_bytes()) {
            bail!("belongs to xds-sync itself");
        }
        for (depth, path) in std::iter::once(path).chain(path.ancestors()).enumerate() {
            match self.scanned(path) {
                Some(Entry::Problem(EntryProblem::Special | EntryProblem::EscapingLink)) if depth == 0 => {}
                Some(entry) if entry.is_opaque() => bail!("is to be left alone"),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the scan saw at a path, as far as we have not removed it since.
    fn scanned(&self, path: &RelPath) -> Option<&Entry> {
        self.seen.tree.get(path).filter(|_| !self.gone.contains(path))
    }

    /// Looks at a path again. `None` when it is not as `expected`, which must be what the scan saw.
    pub(super) fn look(&self, path: &RelPath, expected: Option<&Entry>) -> anyhow::Result<Option<TreeName>> {
        let Some(mut at) = self.find(path, expected)? else { return Ok(None) };
        at.now = at.name().stat()?;
        let is_same = match (expected, &at.now) {
            (None, None) => true,
            (Some(Entry::Dir(_)), Some(now)) => self.is_same_dir(path, now),
            (Some(_), Some(now)) => self.is_same(path, now),
            _ => false,
        };
        Ok(is_same.then_some(at))
    }

    /// The same for a file to be put there. Where there was nothing, the kernel looks when it renames, and never
    /// replaces anything: a name that is not there is the slowest to look up.
    pub(super) fn look_to_put(
        &self,
        path: &RelPath,
        expected: Option<&Entry>,
    ) -> anyhow::Result<Option<TreeName>> {
        if expected.is_none() { self.find(path, None) } else { self.look(path, expected) }
    }

    fn find(&self, path: &RelPath, expected: Option<&Entry>) -> anyhow::Result<Option<TreeName>> {
        if self.scanned(path) != expected {
            return Ok(None);
        }
        match TreeName::open(self.root, path) {
            Ok(at) => Ok(Some(at)),
            // The directory it was in is gone, or something else by now.
            Err(error) if is_no_way(&error) && self.was_dir(path.parent()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn was_dir(&self, parent: Option<&RelPath>) -> bool {
        parent.is_none_or(|parent| matches!(self.scanned(parent), Some(Entry::Dir(_))))
    }

    /// A directory's times change with what is in it.
    fn is_same_dir(&self, path: &RelPath, now: &Stat) -> bool {
        let now = Stamp::of(now);
        self.seen.stamp(path).is_some_and(|seen| (seen.ino, seen.mode) == (now.ino, now.mode))
    }

    fn is_same(&self, path: &RelPath, now: &Stat) -> bool {
        let now = Stamp::of(now);
        let is_touched =
            |seen: Stamp| seen.same_but_for_ctime(&now) && self.touched.get(&now.ino) == Some(&now);
        self.seen.stamp(path).is_some_and(|seen| seen == now || is_touched(seen))
    }
}

fn is_no_way(error: &io::Error) -> bool {
    let ways = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    ways.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
