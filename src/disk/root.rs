//! Opening a root, and resolving below it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::model::RelPath;

/// A directory's root, open. Clones share the descriptor.
#[derive(Clone, Debug)]
pub struct HeldRoot {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

/// What every resolution below a root obeys.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl HeldRoot {
    /// Opens the directory at `path`. The path itself is the administrator's and may lead over symlinks.
    pub fn open(path: &Path) -> io::Result<HeldRoot> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(HeldRoot { fd: Arc::new(fd), path: path.to_owned() })
    }

    /// The path it was opened by; for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what is at `path` below the root. Never follows a symlink, in no component.
    pub fn open_at(&self, path: &RelPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.resolve(path.as_bytes(), flags, mode)
    }

    /// Opens the directory that holds `path`, to act on its last name. The root itself for a top-level name.
    pub fn open_parent(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let parent = path.parent().map_or(&b"."[..], RelPath::as_bytes);
        self.resolve(parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the directory `name` of our own, such as `.xds-sync/stage`. None of its parts may be a symlink.
    pub fn open_own(&self, name: &str) -> io::Result<OwnedFd> {
        self.resolve(name.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn resolve(&self, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        open_beneath(&*self.fd, path, flags, mode)
    }
}

/// Opens what is at `path` below a held directory, following no symlink in any component.
pub fn open_beneath(dir: impl AsFd, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut races = 0;
    loop {
        match rustix::fs::openat2(&dir, OsStr::from_bytes(path), flags, mode, BENEATH) {
            Err(Errno::INTR) => {}
            // A rename anywhere raced the walk, and the kernel asks to try again. But with `O_NONBLOCK` the same
            // number says that another process holds a lease on the file, which may last.
            Err(Errno::AGAIN) if races < MOST_RACES => races += 1,
            other => return Ok(other?),
        }
    }
}

/// So many races in a row are none.
const MOST_RACES: u32 = 16;

impl AsFd for HeldRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_symlink_leads_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/sub")).unwrap();
        std::fs::write(dir.path().join("root/sub/file"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("root/up")).unwrap();
        std::os::unix::fs::symlink("sub", dir.path().join("root/inside")).unwrap();
        std::os::unix::fs::symlink("sub/file", dir.path().join("root/link")).unwrap();
        let root = HeldRoot::open(&dir.path().join("root")).unwrap();
        for (path, allowed) in
            [("sub/file", true), ("up/secret", false), ("inside/file", false), ("link", false)]
        {
            let path = RelPath::new(path.as_bytes()).unwrap();
            let opened = root.open_at(path, OFlags::RDONLY, Mode::empty());
            assert_eq!(opened.is_ok(), allowed, "{path:?}: {opened:?}");
        }
    }
}
