//! One name's change from old to new, with nothing in between.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, RenameFlags, Stat};
use rustix::io::Errno;

use crate::fault::{Point, reach};

/// A name in an open directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
}

impl<'a> Name<'a> {
    pub(super) fn new(dir: BorrowedFd<'a>, name: &'a OsStr) -> Name<'a> {
        Name { dir, name }
    }

    /// What stands there, of a symlink the link itself.
    pub(super) fn stat(self) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this inode stands there.
    pub(super) fn is(self, ino: u64) -> bool {
        self.stat().is_ok_and(|stat| stat.is_some_and(|stat| stat.st_ino == ino))
    }

    /// Removes a file or symlink for good.
    pub(super) fn remove(self) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(self.dir, self.name, AtFlags::empty())?)
    }

    /// Removes a directory; `false` when something is in it.
    pub(super) fn remove_empty_dir(self) -> io::Result<bool> {
        match rustix::fs::unlinkat(self.dir, self.name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Renames, and never replaces: an error of kind `AlreadyExists` when something stands at `to`.
pub(super) fn rename_new(from: Name<'_>, to: Name<'_>) -> io::Result<()> {
    reach(Point::RenameNew)?;
    match rustix::fs::renameat_with(from.dir, from.name, to.dir, to.name, RenameFlags::NOREPLACE) {
        Err(error) if is_unsupported(error) => rename_new_without_flags(from, to),
        done => Ok(done?),
    }
}

/// The same on filesystems such as NFS, where rename knows no flags: `link(2)` does not replace either.
pub(super) fn rename_new_without_flags(from: Name<'_>, to: Name<'_>) -> io::Result<()> {
    let is_dir = from.stat()?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    if !is_dir {
        rustix::fs::linkat(from.dir, from.name, to.dir, to.name, AtFlags::empty())?;
        return from.remove();
    }
    // A directory can only ever replace an empty one.
    if to.stat()?.is_some() {
        return Err(Errno::EXIST.into());
    }
    Ok(rustix::fs::renameat(from.dir, from.name, to.dir, to.name)?)
}

/// Lets two names change places at once; `false` where the filesystem cannot.
pub(super) fn exchange(a: Name<'_>, b: Name<'_>) -> io::Result<bool> {
    let met = reach(Point::Exchange).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
    match met.and_then(|()| rustix::fs::renameat_with(a.dir, a.name, b.dir, b.name, RenameFlags::EXCHANGE)) {
        Ok(()) => Ok(true),
        Err(error) if is_unsupported(error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}
