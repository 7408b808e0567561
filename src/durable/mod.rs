//! The program's own files on disk: each is replaced in one step, and is wholly old or wholly new whenever
//! the power fails.
//!
//! A new file is written beside the old one, synced, and renamed over it; then the directory is synced. Every
//! step works on an open directory, so that a directory that is swapped meanwhile gets nothing.

pub(crate) mod sealed;
#[cfg(test)]
pub(crate) mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, renameat};
use rustix::io::Errno;

use crate::fault::{self, Point};

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Permission bits, whatever the umask.
    pub(crate) mode: u32,
    /// Whether another mode will do where the disk does not take this one, as long as nobody else may write the file.
    pub(crate) any_mode: bool,
    /// User and group id; `None` leaves the file to this process.
    pub(crate) owner: Option<(u32, u32)>,
    /// Whether it is synced. Only a file that may be lost, and that shows when it is damaged, need not be.
    pub(crate) sync: bool,
    /// The fail points that each step comes to first.
    pub(crate) points: Points,
}

/// The fail points of one kind of file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Points {
    pub(crate) write: Option<Point>,
    pub(crate) sync: Option<Point>,
    pub(crate) rename: Option<Point>,
    pub(crate) dir_sync: Option<Point>,
}

impl Options {
    /// A file that only its owner may read.
    pub(crate) const PRIVATE: Options =
        Options { mode: 0o600, any_mode: false, owner: None, sync: true, points: Points::NONE };
    /// A file that everybody may read.
    pub(crate) const PUBLIC: Options = Options { mode: 0o644, ..Options::PRIVATE };
}

impl Points {
    /// For files that no run writes.
    pub(crate) const NONE: Points = Points { write: None, sync: None, rename: None, dir_sync: None };
}

/// Replaces the file at `path`, or makes it. Its directory must exist.
pub(crate) fn replace(path: &Path, content: &[u8], options: Options) -> io::Result<()> {
    replace_with(path, options, |file| file.write_all(content)).map(drop)
}

/// Replaces the file `name` in an open directory, or makes it.
pub(crate) fn replace_at(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    content: &[u8],
    options: Options,
) -> io::Result<()> {
    put(dir, name, options, |file| file.write_all(content), |new| renameat(dir, new, dir, name)).map(drop)
}

/// As [`replace`], for content that is written in parts. Returns the new file, open for reading and writing.
pub(crate) fn replace_with(
    path: &Path,
    options: Options,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let (dir, name) = open_parent(path)?;
    put(dir.as_fd(), name, options, write, |new| renameat(&dir, new, &dir, name))
}

/// Makes the file at `path`; an error of the kind `AlreadyExists` where something has that name, which then
/// stays as it is.
pub(crate) fn create(path: &Path, content: &[u8], options: Options) -> io::Result<()> {
    let (dir, name) = open_parent(path)?;
    let dir = dir.as_fd();
    let link = |new: &OsStr| {
        rustix::fs::linkat(dir, new, dir, name, AtFlags::empty())?;
        rustix::fs::unlinkat(dir, new, AtFlags::empty())
    };
    put(dir, name, options, |file| file.write_all(content), link).map(drop)
}

/// Writes a new file under a temporary name and lets `place` give it the right one.
fn put(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    options: Options,
    write: impl FnOnce(&mut File) -> io::Result<()>,
    place: impl FnOnce(&OsStr) -> rustix::io::Result<()>,
) -> io::Result<File> {
    let Options { mode, any_mode, owner, sync, points } = options;
    let new = temporary(name);
    reach(points.write)?;
    // A killed process may have left one. O_EXCL never writes through what somebody else has put there.
    match rustix::fs::unlinkat(dir, &new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(dir, &new, flags, Mode::RUSR | Mode::WUSR)?);
    let written = (|| {
        write(&mut file)?;
        fault::wrote(&file);
        if let Some(owner) = owner {
            set_owner(&file, owner)?;
        }
        // After the owner, whose change clears set-id bits.
        set_mode(&file, mode, any_mode)?;
        if sync {
            reach(points.sync)?;
            file.sync_all()?;
            fault::synced(Some(file.as_fd()));
        }
        reach(points.rename)?;
        Ok(place(&new)?)
    })();
    if let Err(error) = written {
        let _ = rustix::fs::unlinkat(dir, &new, AtFlags::empty());
        return Err(error);
    }
    if sync {
        reach(points.dir_sync)?;
        rustix::fs::fsync(dir)?;
        fault::synced(Some(dir));
    }
    Ok(file)
}

fn set_mode(file: &File, mode: u32, any_mode: bool) -> io::Result<()> {
    let now = || -> io::Result<u32> { Ok(file.metadata()?.mode() & 0o7777) };
    if now()? == mode {
        return Ok(());
    }
    let set = file.set_permissions(Permissions::from_mode(mode));
    if any_mode && now()? & 0o022 == 0 { Ok(()) } else { set }
}

/// Renames a file that is on disk over another one, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_parent(to)
}

/// Brings the directory of `path` to disk: the names in it.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    open_parent(path)?.0.sync_all()
}

/// Makes a directory and those above it that are missing, with this mode.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(dir)
}

/// The content of a file; `None` when there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a file or directory to a user and a group, unless it is theirs: that only root may do.
pub(crate) fn set_owner(file: &File, (uid, gid): (u32, u32)) -> io::Result<()> {
    let metadata = file.metadata()?;
    if (metadata.uid(), metadata.gid()) == (uid, gid) {
        return Ok(());
    }
    fchown(file, Some(uid), Some(gid))
}

/// The name under which a file is written. No reader of a directory of ours takes a name with a dot in front.
pub(crate) fn temporary(name: &OsStr) -> OsString {
    let mut new = OsString::from(".");
    new.push(name);
    new.push(".new");
    new
}

fn open_parent(path: &Path) -> io::Result<(File, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::open(dir, flags, Mode::empty())?.into(), name))
}

fn reach(point: Option<Point>) -> io::Result<()> {
    point.map_or(Ok(()), fault::reach)
}
