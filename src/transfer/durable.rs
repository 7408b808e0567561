//! Onto the disk, in batches.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::fault;

/// Up to this many files and directories are synced one by one; one `syncfs(2)` is sooner done with more.
const ONE_BY_ONE: usize = 16;

/// Files and directories that were changed, and that nobody may be told of before they are on disk.
///
/// It holds few descriptors, however much was changed.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    seen: HashSet<(u64, u64)>,
    held: Vec<OwnedFd>,
    all: bool,
}

impl Unsynced {
    /// Notes that `fd`, of the filesystem that is to be synced, was changed.
    pub(super) fn add(&mut self, fd: impl AsFd) {
        if self.all {
            return;
        }
        let stat = rustix::fs::fstat(&fd).map(|stat| (stat.st_dev, stat.st_ino));
        if stat.is_ok_and(|id| !self.seen.insert(id)) {
            return;
        }
        match fd.as_fd().try_clone_to_owned() {
            Ok(fd) if self.held.len() < ONE_BY_ONE => self.held.push(fd),
            _ => {
                self.all = true;
                self.held.clear();
            }
        }
    }

    /// Returns when all that was noted is on disk. `filesystem` is anything on theirs.
    pub(super) fn sync(&mut self, filesystem: impl AsFd) -> io::Result<()> {
        let noted = std::mem::take(self);
        if noted.all {
            rustix::fs::syncfs(filesystem)?;
            fault::synced(None);
        }
        for fd in &noted.held {
            rustix::fs::fsync(fd)?;
            fault::synced(Some(fd.as_fd()));
        }
        Ok(())
    }
}
