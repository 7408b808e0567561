//! Where replaced and deleted files go: `.xds-sync/trash/<run>/<version>/<path>`.
//!
//! `<run>` is the run's ULID, which tells its time. `<version>` is `0` for the first that goes at a path
//! in a run, `1` for a second, and so on; a file where an earlier one left a directory counts as a second
//! as well. So every path stands below it as it was, and no name can be mistaken for another. `found`
//! instead of a number holds what a sweep found in the stage and did not know. `<run>/index` tells the
//! digests of files, a record each: hex digits, a space, the version, a space, the path, NUL. It is only a
//! hint: who copies a file by it verifies it.

mod id;
mod list;
mod prune;
mod size;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::durable::Unsynced;
use super::own::{OwnDir, open_dir};
use super::swap::{Name, rename_new};
use crate::disk::open_beneath;
use crate::fault::{Point, reach};
use crate::model::{Digest, RelPath, RelPathBuf};
use id::run_time;

pub use id::{BadTrashId, TrashId};
pub use list::{MOST_LISTED, TrashEntry, TrashKind, TrashSource, versions};
pub use prune::prune;
pub use size::{TrashSize, size};

const INDEX: &str = "index";
const FOUND: &str = "found";
/// More versions of one path than a run can make.
const MOST_VERSIONS: u32 = 1000;
/// An index beyond this is not read: about a million files.
const MOST_INDEX: u64 = 256 << 20;

/// One place in a root's trash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trashed {
    /// Which of the versions of its path.
    pub id: TrashId,
    /// Where it stood below the root.
    pub path: RelPathBuf,
}

/// One run's trash, made when the first thing goes there.
#[derive(Debug)]
pub(super) struct RunTrash<'a> {
    own: &'a OwnDir,
    run: &'a str,
    index: Vec<u8>,
}

/// A name in the trash, where something was put.
#[derive(Debug)]
pub(super) struct TrashName {
    dir: OwnedFd,
    name: OsString,
    version: u32,
}

impl TrashName {
    pub(super) fn name(&self) -> Name<'_> {
        Name::new(self.dir.as_fd(), &self.name)
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }
}

impl<'a> RunTrash<'a> {
    /// The trash of `run`, which must be a ULID.
    pub(super) fn new(own: &'a OwnDir, run: &'a str) -> anyhow::Result<RunTrash<'a>> {
        anyhow::ensure!(run_time(run).is_some(), "a run's id is a ULID, not {run:?}");
        Ok(RunTrash { own, run, index: Vec::new() })
    }

    /// Finds a place for a version of `path` and calls `put` with it, which must not replace anything.
    pub(super) fn place(
        &self,
        path: &RelPath,
        unsynced: &Unsynced,
        mut put: impl FnMut(Name<'_>) -> io::Result<()>,
    ) -> io::Result<TrashName> {
        let name = OsStr::from_bytes(path.name());
        for version in 0..MOST_VERSIONS {
            let dir = match self.dir(&version.to_string(), path.parent(), unsynced) {
                Ok(dir) => dir,
                // A file or link of an earlier version is where this path needs a directory.
                Err(error) if is_in_the_way(&error) => continue,
                Err(error) => return Err(error),
            };
            match put(Name::new(dir.as_fd(), name)) {
                Ok(()) => {
                    unsynced.add(&dir);
                    return Ok(TrashName { dir, name: name.to_owned(), version });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many versions of it in this run's trash"))
    }

    /// Takes in something unknown from the stage.
    pub(super) fn take_found(&self, name: &OsStr, unsynced: &Unsynced) -> io::Result<()> {
        let dir = self.dir(FOUND, None, unsynced)?;
        rename_new(Name::new(self.own.stage(), name), Name::new(dir.as_fd(), name))?;
        unsynced.add(&dir);
        Ok(())
    }

    /// Notes the digest of the file that was put at `place`.
    pub(super) fn note(&mut self, place: &TrashName, path: &RelPath, digest: &Digest) {
        self.index.extend_from_slice(format!("{digest} {} ", place.version).as_bytes());
        self.index.extend_from_slice(path.as_bytes());
        self.index.push(0);
    }

    /// Writes what was noted.
    pub(super) fn save_index(&mut self, unsynced: &Unsynced) -> io::Result<()> {
        if self.index.is_empty() {
            return Ok(());
        }
        reach(Point::TrashIndex)?;
        let dir = open_dir(self.own.trash(), self.run.as_bytes())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
        let mut file = File::from(open_beneath(&dir, INDEX.as_bytes(), flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&std::mem::take(&mut self.index))?;
        unsynced.add(&file);
        Ok(())
    }

    /// The directory in which the last name of a path goes.
    fn dir(&self, version: &str, parent: Option<&RelPath>, unsynced: &Unsynced) -> io::Result<OwnedFd> {
        let start = [self.run.as_bytes(), version.as_bytes()];
        let names = || start.into_iter().chain(parent.into_iter().flat_map(RelPath::names));
        match open_dir(self.own.trash(), &names().collect::<Vec<_>>().join(&b'/')) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut dir = self.own.trash().try_clone_to_owned()?;
        for name in names() {
            reach(Point::TrashDir)?;
            match rustix::fs::mkdirat(&dir, OsStr::from_bytes(name), Mode::RWXU) {
                Ok(()) => unsynced.add(&dir),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            dir = open_dir(&dir, name)?;
        }
        Ok(dir)
    }
}

fn is_in_the_way(error: &io::Error) -> bool {
    [Errno::NOTDIR, Errno::LOOP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Where the trash has these blobs, as far as its indexes say.
pub(super) fn find(own: &OwnDir, wanted: &HashSet<Digest>) -> HashMap<Digest, Trashed> {
    let mut found = HashMap::new();
    // Without an index that can be read, the blob is sent.
    for run in runs(own.trash()).unwrap_or_default() {
        let path = format!("{run}/{INDEX}");
        let Ok(file) = open_beneath(own.trash(), path.as_bytes(), OFlags::NONBLOCK, Mode::empty()) else {
            continue;
        };
        let mut index = Vec::new();
        if File::from(file).take(MOST_INDEX).read_to_end(&mut index).is_err() {
            continue;
        }
        for record in index.split(|&b| b == 0) {
            if let Some((digest, version, path)) = parse_record(record)
                && wanted.contains(&digest)
                && let Ok(id) = TrashId::new(&run, version)
            {
                found.insert(digest, Trashed { id, path });
            }
        }
    }
    found
}

fn parse_record(record: &[u8]) -> Option<(Digest, u32, RelPathBuf)> {
    let mut fields = record.splitn(3, |&b| b == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let digest = Digest::from_hex(text()?)?;
    let version = text()?.parse().ok()?;
    Some((digest, version, RelPathBuf::new(fields.next()?).ok()?))
}

/// The runs that have something in a trash, oldest first.
fn runs(trash: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let is_run = |(name, is_dir): (OsString, bool)| {
        name.into_string().ok().filter(|name| is_dir && run_time(name).is_some())
    };
    let mut runs: Vec<String> = names(trash)?.into_iter().filter_map(is_run).collect();
    runs.sort_unstable();
    Ok(runs)
}

/// The names in a directory, and which of them are directories.
pub(super) fn names(dir: impl AsFd) -> io::Result<Vec<(OsString, bool)>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let stat = rustix::fs::statat(&dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        names.push((OsString::from_vec(name.to_vec()), kind.is_dir()));
    }
    Ok(names)
}
