//! `.xds-sync/` of a root: the stage and the trash, held open.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::disk::{HeldRoot, OWN_DIR, OwnIdentity, acl, open_beneath};
use crate::fault::{Point, reach};
use crate::model::Digest;

pub(super) const STAGE: &str = "stage";
/// In the stage, for a moment. Nothing else there has this name.
const PROBE: &str = "probe";
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
    /// Blobs that the stage may have, whole or in part; `None`: it was not listed yet. See [`OwnDir::may_have`].
    names: RwLock<Option<HashSet<Digest>>>,
    taken_back: bool,
    /// Its lock is held as long as this is open: a process that is killed leaves none.
    own: OwnedFd,
}

impl OwnDir {
    /// Opens both, making what is missing, once no other process is at work there. `progress` grows with whatever is done there.
    pub fn ready(root: &HeldRoot, progress: &Arc<AtomicU64>) -> anyhow::Result<OwnDir> {
        let path = root.path().join(OWN_DIR);
        let own = make_or_open(root, OWN_DIR, &path)?;
        let taken_back = root.is_to_be_taken_back(&own)?;
        make_private(&own, taken_back).with_context(|| path.display().to_string())?;
        lock(&own, progress).with_context(|| root.path().display().to_string())?;
        let below = |name| private_dir(&own, name, &path.join(name), taken_back);
        let (stage, trash) = (below(STAGE)?, below(TRASH)?);
        let device = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
        let devices = [device(root.as_fd())?, device(stage.as_fd())?, device(trash.as_fd())?];
        if devices.iter().any(|device| *device != devices[0]) {
            // Nothing could be renamed between them in one step.
            bail!("{}: is not on the filesystem of its root", root.path().join(OWN_DIR).display());
        }
        check_takes_files(&stage).with_context(|| format!("{}: takes no files", root.path().display()))?;
        Ok(OwnDir {
            root: root.clone(),
            stage,
            trash,
            progress: Arc::clone(progress),
            verified: RwLock::default(),
            names: RwLock::default(),
            taken_back,
            own,
        })
    }

    /// Whether it had belonged to somebody else: what is in the stage may be theirs, and still be written by them.
    #[must_use]
    pub fn was_taken_back(&self) -> bool {
        self.taken_back
    }

    /// What tells it from any other directory.
    #[must_use]
    pub fn identity(&self) -> Option<OwnIdentity> {
        self.root.identity(&self.own)
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

    /// Which of `wanted` the stage may have, whole or in part: those that earlier runs left there, which `list` finds out
    /// once, and those of earlier calls. The stage may have so many that listing it for each call would take long.
    pub(super) fn may_have(
        &self,
        wanted: impl IntoIterator<Item = Digest>,
        list: impl FnOnce() -> io::Result<HashSet<Digest>>,
    ) -> io::Result<HashSet<Digest>> {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let known = match &mut *names {
            Some(known) => known,
            none => none.insert(list()?),
        };
        // Whoever asks for a blob may be about to stage it.
        Ok(wanted.into_iter().filter(|digest| !known.insert(*digest)).collect())
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

/// Whether a file can be made in the stage. A disk that is mounted read-only, or has no inodes left, is found out before
/// anything is sent that it could not take.
fn check_takes_files(stage: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(stage, PROBE, flags, Mode::RUSR | Mode::WUSR) {
        // A process that was killed may have left it.
        Ok(_) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(stage, PROBE, AtFlags::empty()) {
        // Of whoever had the stage before it was taken back: it goes with all that was theirs.
        Ok(()) | Err(Errno::ISDIR) => Ok(()),
        Err(error) => Err(error.into()),
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

/// Opens a directory in ours that is ours alone, or makes it. `path` is for messages.
fn private_dir(parent: impl AsFd, name: &str, path: &Path, take_back: bool) -> anyhow::Result<OwnedFd> {
    let fd = make_or_open(parent, name, path)?;
    let owner = rustix::fs::fstat(&fd)?.st_uid;
    if owner != rustix::process::geteuid().as_raw() && !take_back {
        bail!("{}: belongs to user id {owner}, refused: move it away", path.display());
    }
    make_private(&fd, take_back).with_context(|| path.display().to_string())?;
    Ok(fd)
}

fn make_or_open(parent: impl AsFd, name: &str, path: &Path) -> anyhow::Result<OwnedFd> {
    reach(Point::OwnDir).with_context(|| path.display().to_string())?;
    match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(io::Error::from(error)).with_context(|| path.display().to_string()),
    }
    open_dir(&parent, name.as_bytes()).with_context(|| path.display().to_string())
}

/// Leaves a directory of ours to us alone. What is made in it inherits nothing from where it lies: what a file is to have is
/// given to it when it is known where it goes.
fn make_private(dir: &OwnedFd, take_back: bool) -> io::Result<()> {
    if take_back {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        rustix::fs::fchown(dir, Some(uid), Some(gid))?;
    }
    acl::remove(dir)?;
    if permissions(&rustix::fs::fstat(dir)?) == Mode::RWXU {
        return Ok(());
    }
    let set = rustix::fs::fchmod(dir, Mode::RWXU);
    // A disk that keeps no modes has others: they do as long as nobody else can put anything here.
    if rustix::fs::fstat(dir)?.st_mode & 0o022 == 0 {
        return Ok(());
    }
    set?;
    Err(io::Error::other(
        "others may write in it, and the disk does not take another mode: mount it with one",
    ))
}

/// Opens a directory below a held one, over no symlink.
pub(super) fn open_dir(parent: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    open_beneath(parent, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// The bits that `chmod` sets.
pub(super) fn permissions(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode)
}
