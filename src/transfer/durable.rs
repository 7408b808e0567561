//! Syncing to disk, in batches.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::own::OwnDir;

use crate::fault;

/// Up to this many files and directories are synced one by one; for more, one `syncfs(2)` is faster.
const ONE_BY_ONE: usize = 16;

/// Files and directories that were changed, by any thread: they must be on disk before they are reported as done.
///
/// It holds few descriptors, however much was changed.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    seen: HashSet<(u64, u64)>,
    held: Vec<OwnedFd>,
    all: bool,
}

impl Unsynced {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `fd`, of the filesystem that is to be synced, was changed.
    pub(super) fn add(&self, fd: impl AsFd) {
        let mut noted = self.lock();
        if noted.all {
            return;
        }
        let stat = rustix::fs::fstat(&fd).map(|stat| (stat.st_dev, stat.st_ino));
        if stat.is_ok_and(|id| !noted.seen.insert(id)) {
            return;
        }
        match fd.as_fd().try_clone_to_owned() {
            Ok(fd) if noted.held.len() < ONE_BY_ONE => noted.held.push(fd),
            _ => {
                noted.all = true;
                noted.held.clear();
            }
        }
    }

    /// Returns when all that was noted is on disk; it is all on that of `own`.
    pub(super) fn sync(&self, own: &OwnDir) -> io::Result<()> {
        let noted = std::mem::take(&mut *self.lock());
        while_alive(own.progress(), || {
            if noted.all {
                rustix::fs::syncfs(own.stage())?;
                fault::synced(None);
            }
            for fd in &noted.held {
                rustix::fs::fsync(fd)?;
                fault::synced(Some(fd.as_fd()));
            }
            Ok(())
        })
    }
}

/// How long a disk may take for one batch. A slow one has been given a lot to write; one that takes longer
/// hangs, and is to show as silence.
const PATIENCE: Duration = Duration::from_secs(600);
/// Shorter than any interval at which somebody looks whether there is progress.
const TICK: Duration = Duration::from_millis(200);

/// Counts `progress` up while the kernel is at work, which says nothing itself.
fn while_alive<T>(progress: &AtomicU64, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (done, is_done) = channel::<()>();
        scope.spawn(move || {
            let mut waited = Duration::ZERO;
            while waited < PATIENCE && is_done.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                progress.fetch_add(1, Ordering::Relaxed);
                waited += TICK;
            }
        });
        let result = work();
        drop(done);
        result
    })
}
