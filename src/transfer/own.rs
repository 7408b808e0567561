//! `.xds-sync/` of a root: the stage and the trash, held open.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::disk::{HeldRoot, OWN_DIR, open_beneath};
use crate::fault::{Point, reach};
use crate::model::Digest;

pub(super) const STAGE: &str = "stage";
pub(super) const TRASH: &str = "trash";
/// The stage, from the root.
pub(super) const STAGE_PATH: &str = ".xds-sync/stage";
/// The trash, from the root.
pub(super) const TRASH_PATH: &str = ".xds-sync/trash";

/// Ten seconds: so long another process that is at work in the root is waited for. An agent whose Main was killed
/// finishes its last request before it ends.
const LOOKS: u32 = 500;
/// Between two looks whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// A root with its stage and its trash, for one process at a time.
///
/// Both are 0700 and belong to the user that runs us: what lies in them was put there by us. Something else under
/// their names, planted by a user who may write into the root, is refused.
#[derive(Debug)]
pub struct OwnDir {
    root: HeldRoot,
    stage: OwnedFd,
    trash: OwnedFd,
    progress: Arc<AtomicU64>,
    /// Blobs of the stage that were verified since the lock was taken: what an earlier process left is not trusted.
    verified: RwLock<HashSet<Digest>>,
    /// Its lock is held as long as this is open: a process that is killed leaves none.
    _own: OwnedFd,
}

impl OwnDir {
    /// Opens both, making what is missing, once no other process is at work there. `progress` grows with whatever is done there.
    pub fn ready(root: &HeldRoot, progress: &Arc<AtomicU64>) -> anyhow::Result<OwnDir> {
        let own = private_dir(root, OWN_DIR, &root.path().join(OWN_DIR))?;
        lock(&own, progress).with_context(|| root.path().display().to_string())?;
        let below = |name| private_dir(&own, name, &root.path().join(OWN_DIR).join(name));
        let (stage, trash) = (below(STAGE)?, below(TRASH)?);
        let device = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
        let devices = [device(root.as_fd())?, device(stage.as_fd())?, device(trash.as_fd())?];
        if devices.iter().any(|device| *device != devices[0]) {
            // Nothing could be renamed between them in one step.
            bail!("{}: is not on the filesystem of its root", root.path().join(OWN_DIR).display());
        }
        Ok(OwnDir {
            root: root.clone(),
            stage,
            trash,
            progress: Arc::clone(progress),
            verified: RwLock::default(),
            _own: own,
        })
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &HeldRoot {
        &self.root
    }

    /// Counted up by whatever is done here.
    pub(super) fn progress(&self) -> &AtomicU64 {
        &self.progress
    }

    /// Notes that the stage has these blobs, verified.
    pub(super) fn mark_verified<'d>(&self, digests: impl IntoIterator<Item = &'d Digest>) {
        self.verified.write().unwrap_or_else(PoisonError::into_inner).extend(digests);
    }

    pub(super) fn is_verified(&self, digest: &Digest) -> bool {
        self.verified.read().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Where blobs wait to be put in place.
    pub(super) fn stage(&self) -> BorrowedFd<'_> {
        self.stage.as_fd()
    }

    /// Where replaced and deleted files go.
    pub(super) fn trash(&self) -> BorrowedFd<'_> {
        self.trash.as_fd()
    }
}

/// flock(2), on the directory itself.
fn lock(own: &OwnedFd, progress: &AtomicU64) -> anyhow::Result<()> {
    for _ in 0..LOOKS {
        match rustix::fs::flock(own, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => {
                // The peer waits for this host and is to see that it is alive.
                progress.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(io::Error::from(error)).context("cannot be locked"),
        }
    }
    bail!("another xds-sync is still at work here; the next run goes on")
}

/// Opens a directory that is ours alone, or makes it. `path` is for messages.
fn private_dir(parent: impl AsFd, name: &str, path: &Path) -> anyhow::Result<OwnedFd> {
    reach(Point::OwnDir).with_context(|| path.display().to_string())?;
    match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(io::Error::from(error)).with_context(|| path.display().to_string()),
    }
    let fd = open_dir(&parent, name.as_bytes()).with_context(|| path.display().to_string())?;
    let stat = rustix::fs::fstat(&fd)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        bail!("{}: belongs to user id {}, refused: move it away", path.display(), stat.st_uid);
    }
    if permissions(&stat) != Mode::RWXU {
        rustix::fs::fchmod(&fd, Mode::RWXU)?;
    }
    Ok(fd)
}

/// Opens a directory below a held one, over no symlink.
pub(super) fn open_dir(parent: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    open_beneath(parent, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// The bits that `chmod` sets.
pub(super) fn permissions(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode)
}
