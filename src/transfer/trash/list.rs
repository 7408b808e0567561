//! What lies in a trash at a path, and bringing it back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{TrashId, Trashed, is_in_the_way, names, runs};
use crate::disk::{HeldRoot, Owners, Stamp};
use crate::model::{Entry, Meta, RelPath, RelPathBuf, Symlink};
use crate::transfer::hashing::hash_file;
use crate::transfer::metadata::Mask;
use crate::transfer::own::{TRASH_PATH, open_dir};
use crate::transfer::read::open_file;
use crate::transfer::source::send_open;
use crate::transfer::{BlobRequest, Sink, Source};

/// Most versions that are listed at once: what a person asks for is one path, or a directory of them.
pub const MOST_LISTED: usize = 100_000;

/// What lies at a place in the trash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashEntry {
    /// Where.
    pub place: Trashed,
    /// What; never a directory.
    pub kind: TrashKind,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
}

/// Kinds of what lies in a trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrashKind {
    /// A regular file.
    File,
    /// A symlink.
    Symlink,
    /// A device, socket or FIFO.
    Special,
}

impl TrashEntry {
    pub(in crate::transfer) fn of(place: Trashed, stat: &Stat) -> TrashEntry {
        let stamp = Stamp::of(stat);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => TrashKind::File,
            FileType::Symlink => TrashKind::Symlink,
            _ => TrashKind::Special,
        };
        TrashEntry { place, kind, size: stamp.size, mtime: stamp.mtime }
    }
}

/// Every version of `at` in a root's trash, and of what was below it; the oldest run first.
pub fn versions(root: &HeldRoot, at: &RelPath) -> io::Result<Vec<TrashEntry>> {
    let Some(trash) = open_trash(root)? else { return Ok(Vec::new()) };
    let mut listing = Listing { trash: trash.as_fd(), entries: Vec::new() };
    for run in runs(trash.as_fd())? {
        for (version, is_dir) in names(open_dir(&trash, run.as_bytes())?)? {
            // What a sweep found in the stage never stood at a path.
            let id = version.to_str().and_then(|version| format!("{run}-{version}").parse().ok());
            if let Some(id) = id.filter(|_| is_dir) {
                listing.at(&id, at)?;
            }
        }
    }
    listing.entries.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(listing.entries)
}

fn open_trash(root: &HeldRoot) -> io::Result<Option<OwnedFd>> {
    match root.open_own(TRASH_PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

struct Listing<'a> {
    trash: BorrowedFd<'a>,
    entries: Vec<TrashEntry>,
}

impl Listing<'_> {
    fn at(&mut self, id: &TrashId, at: &RelPath) -> io::Result<()> {
        let Some(stat) = stat(self.trash, id, at)? else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            self.below(id, at)
        } else {
            self.add(id, at, &stat)
        }
    }

    fn add(&mut self, id: &TrashId, at: &RelPath, stat: &Stat) -> io::Result<()> {
        if self.entries.len() == MOST_LISTED {
            let at = at.for_people();
            return Err(io::Error::other(format!("more than {MOST_LISTED} versions, up to {at}")));
        }
        self.entries.push(TrashEntry::of(Trashed { id: id.clone(), path: at.to_owned() }, stat));
        Ok(())
    }

    fn below(&mut self, id: &TrashId, dir: &RelPath) -> io::Result<()> {
        // Opened by its whole path, so that however deep it lies, few descriptors are open at a time.
        let open = open_dir(self.trash, &below(id, dir))?;
        let mut dirs = Vec::new();
        for (name, is_dir) in names(&open)? {
            let path = dir.join(name.as_bytes()).map_err(io::Error::other)?;
            if is_dir {
                dirs.push(path);
            } else {
                let stat = rustix::fs::statat(&open, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
                self.add(id, &path, &stat)?;
            }
        }
        drop(open);
        dirs.iter().try_for_each(|dir| self.below(id, dir))
    }
}

fn below(id: &TrashId, path: &RelPath) -> Vec<u8> {
    [id.dir().as_bytes(), b"/", path.as_bytes()].concat()
}

/// What stands in the trash at a path, of a symlink the link itself.
fn stat(trash: BorrowedFd<'_>, id: &TrashId, path: &RelPath) -> io::Result<Option<Stat>> {
    let parent = match path.parent() {
        Some(parent) => open_dir(trash, &below(id, parent)),
        None => open_dir(trash, id.dir().as_bytes()),
    };
    let parent = match parent {
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_in_the_way(&error) => return Ok(None),
        parent => parent?,
    };
    match rustix::fs::statat(&parent, std::ffi::OsStr::from_bytes(path.name()), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Trashed {
    /// Opens it, if it is a regular file.
    pub fn open(&self, root: &HeldRoot) -> io::Result<(File, Stamp)> {
        open_file(root.open_own(TRASH_PATH)?, &below(&self.id, &self.path))
    }

    /// Reads what it would be in a tree, its digest included. `progress` grows as it is read.
    pub fn look(&self, root: &HeldRoot, owners: &mut Owners, progress: &AtomicU64) -> io::Result<Entry> {
        let gone = || io::Error::other("it is no longer in the trash");
        let trash = open_trash(root)?.ok_or_else(gone)?;
        let stat = stat(trash.as_fd(), &self.id, &self.path)?.ok_or_else(gone)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.look_at_file(root, owners, progress),
            FileType::Symlink => {
                let parent =
                    self.path.parent().map_or(self.id.dir().into_bytes(), |dir| below(&self.id, dir));
                let name = std::ffi::OsStr::from_bytes(self.path.name());
                let target = rustix::fs::readlinkat(open_dir(&trash, &parent)?, name, Vec::new())?;
                let link = Symlink { target: target.into_bytes().into() };
                if link.escapes(&self.path) {
                    return Err(io::Error::other("it is a symlink that leads out of the directory"));
                }
                Ok(Entry::Symlink(link))
            }
            _ => Err(io::Error::other("it is neither a file nor a symlink")),
        }
    }

    fn look_at_file(&self, root: &HeldRoot, owners: &mut Owners, progress: &AtomicU64) -> io::Result<Entry> {
        let (file, stamp) = self.open(root)?;
        let mut read = || _ = progress.fetch_add(1, Ordering::Relaxed);
        let digest = hash_file(&file, stamp.size, &mut read)?;
        let stat = rustix::fs::fstat(&file)?;
        // Of what may be carried, as a scan would tell it.
        let mode = u16::try_from(stat.st_mode & Mask::File as u32).unwrap_or(0);
        let meta = Meta { mode, owner: owners.of(stat.st_uid, stat.st_gid) };
        Ok(Entry::File(crate::model::File { size: stamp.size, mtime: stamp.mtime, digest, meta }))
    }
}

/// Gives files from the trash, by the paths at which they stood.
#[derive(Debug)]
pub struct TrashSource {
    root: HeldRoot,
    id: TrashId,
}

impl TrashSource {
    /// Gives what lies in the trash of `root` under `id`, and nothing else.
    #[must_use]
    pub fn new(root: HeldRoot, id: TrashId) -> TrashSource {
        TrashSource { root, id }
    }
}

impl Source for TrashSource {
    fn send(&mut self, wanted: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for (index, wanted) in wanted.iter().enumerate() {
            sink.begin(index)?;
            let path: RelPathBuf = wanted.path.clone();
            let sent = match (Trashed { id: self.id.clone(), path }).open(&self.root) {
                Ok((file, stamp)) => send_open(&file, stamp, wanted, sink)?,
                Err(error) => Err(error.to_string()),
            };
            sink.end(sent)?;
        }
        Ok(())
    }
}
