//! One directory → what is in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::cache::HashCache;
use super::limits::Budget;
use super::rules::Rules;
use crate::disk::acl::{self, Acl};
use crate::disk::{HeldRoot, OWN_DIR, Owners, Stamp};
use crate::model::escape::plain;
use crate::model::path::{NAME_MAX, PATH_MAX};
use crate::model::{Busy, Digest, Entry, EntryProblem, File, Meta, Owner, RelPath, Symlink};
use crate::threads::side_by_side;

/// Room for about two thousand names a call; the kernel fills no more than it likes.
const NAMES_BUFFER: usize = 64 * 1024;
/// Names of one directory that are read between two looks at the budget.
const COUNTED: usize = 1024;
/// Entries that are looked at between two looks at the clock.
const LOOKED_AT: usize = 256;
/// Entries of a directory that are looked at before they are made part of the listing: what is known of each meanwhile must
/// not add up.
const WINDOW: usize = 16 * LOOKED_AT;

/// What may be in a `.xds-sync`.
const OWN_NAMES: [&[u8]; 3] = [b"root.json", b"stage", b"trash"];

/// What is needed to list any directory of one root.
pub(super) struct Lister<'a> {
    pub(super) root: &'a HeldRoot,
    /// Of the root.
    pub(super) device: (u32, u32),
    pub(super) rules: &'a Rules,
    /// `None` has every file hashed.
    pub(super) cache: Option<&'a HashCache>,
    pub(super) owners: &'a Mutex<Owners>,
    pub(super) budget: &'a Budget<'a>,
    /// How many threads the scan may have.
    pub(super) threads: usize,
    /// How many of them list a directory now.
    pub(super) working: AtomicUsize,
}

/// What a listing needs to know of an entry: less than the kernel tells, since there may be many.
struct Seen {
    stamp: Stamp,
    uid: u32,
    gid: u32,
    names: u32,
    is_mount: bool,
}

/// What was found under a name.
enum Looked {
    Is(Seen),
    Excluded,
    /// It cannot be looked at.
    Unreadable(Errno),
    /// It is not there any more.
    Gone,
    /// No tree can name it.
    TooLong,
}

/// What became of a directory.
pub(super) enum Listed {
    /// Its entries.
    Items(Items),
    /// It is not there any more.
    Gone,
    /// It cannot be listed; this entry stands for it and all below it.
    Instead(Entry),
    /// The scan is over its budget, or nobody waits for it.
    Over,
}

/// A directory's entries, in the order of their names.
#[derive(Default)]
pub(super) struct Items {
    names: Vec<u8>,
    items: std::vec::IntoIter<Item>,
    /// Where the next name begins.
    start: usize,
    /// The access list of the directory.
    list: Option<Acl>,
}

/// One entry.
pub(super) struct Item {
    name_end: usize,
    pub(super) entry: Entry,
    /// `None` where there was nothing to look at.
    pub(super) stamp: Option<Stamp>,
    pub(super) next: Next,
}

/// What an entry still needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Done,
    /// A file's digest.
    Hash,
    /// What is in the directory.
    List,
}

impl Items {
    /// The next entry and its name.
    pub(super) fn next(&mut self) -> Option<(&[u8], Item)> {
        let item = self.items.next()?;
        let name = &self.names[self.start..item.name_end];
        self.start = item.name_end;
        Some((name, item))
    }

    /// The directory's own entry: where it has an access list, its mode is not what `stat` shows.
    pub(super) fn unmasked(&self, entry: Entry) -> Entry {
        match (entry, &self.list) {
            // Nothing is added to what the mode may carry.
            (Entry::Dir(meta), Some(list)) => {
                Entry::Dir(Meta { mode: list.unmasked(meta.mode.into()) as u16, ..meta })
            }
            (entry, _) => entry,
        }
    }

    /// The names of the entries that are directories to list, last first.
    pub(super) fn dirs_backwards(&self) -> impl Iterator<Item = &[u8]> {
        let items = self.items.as_slice();
        (0..items.len()).rev().filter(|&index| items[index].next == Next::List).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| items[before].name_end);
            &self.names[start..items[index].name_end]
        })
    }
}

impl Lister<'_> {
    /// Lists the directory at a path below the root; the root's own is empty.
    pub(super) fn list(&self, dir: &[u8]) -> Listed {
        let opened = match RelPath::new(dir) {
            Ok(path) => open_quietly(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY),
            // The root: a descriptor of our own, since reading a directory moves the descriptor's offset.
            Err(_) => reopen_quietly(self.root),
        };
        let listed = opened.and_then(|fd| {
            let Some(names) = read_names(&fd, dir.len(), self.budget)? else { return Ok(Listed::Over) };
            if !dir.is_empty() && names.are_own() && is_private(&fd)? {
                return Ok(Listed::Instead(Entry::Problem(EntryProblem::OwnDir)));
            }
            Ok(self.look_at(&fd, dir, &names))
        });
        match listed {
            Ok(listed) => listed,
            Err(Errno::NOENT) => Listed::Gone,
            // Something else has taken its place since its parent was listed.
            Err(Errno::NOTDIR | Errno::LOOP) => Listed::Instead(Entry::Busy(Busy::Changing)),
            Err(error) => Listed::Instead(unreadable(error)),
        }
    }

    fn look_at(&self, fd: &OwnedFd, dir: &[u8], names: &DirNames) -> Listed {
        let mut known = self.cache.map(|cache| cache.in_dir(dir));
        let mut items = Vec::with_capacity(names.ranges.len());
        let mut kept = Vec::with_capacity(names.bytes.len());
        let mut owner = LastOwner::default();
        for window in names.ranges.chunks(WINDOW) {
            let parts: Vec<&[(usize, usize)]> = window.chunks(LOOKED_AT).collect();
            // Most of a scan is the kernel's answer for each name. Of a large directory several threads ask, as far as they
            // have no directory of their own.
            let looked = side_by_side(&parts, self.hands(), |part| self.look(fd, dir, names, part));
            let Some(looked) = looked.into_iter().collect::<Option<Vec<_>>>() else { return Listed::Over };
            for (&(start, end), looked) in window.iter().zip(looked.into_iter().flatten()) {
                let name = &names.bytes[start..end];
                let (entry, stamp, next) = match looked {
                    Looked::Is(seen) => {
                        let stamp = seen.stamp;
                        let digest = || known.as_mut().and_then(|known| known.digest(name, &stamp));
                        match self.entry(fd, (dir, name), &seen, &mut owner, digest) {
                            Ok((entry, next)) => (entry, Some(stamp), next),
                            Err(Errno::NOENT) => continue,
                            Err(error) => (unreadable(error), Some(stamp), Next::Done),
                        }
                    }
                    Looked::Excluded => (Entry::Excluded, None, Next::Done),
                    Looked::Unreadable(error) => (unreadable(error), None, Next::Done),
                    Looked::Gone => continue,
                    // The directory it is in has to stand for it.
                    Looked::TooLong => return Listed::Instead(Entry::Problem(EntryProblem::TooLong)),
                };
                kept.extend_from_slice(name);
                items.push(Item { name_end: kept.len(), entry, stamp, next });
            }
        }
        if self.budget.is_over() {
            return Listed::Over;
        }
        self.budget.control.count(items.len() as u64);
        Listed::Items(Items { names: kept, items: items.into_iter(), start: 0, list: acl::access(fd) })
    }

    /// How many threads may look at entries of the directory that this one lists.
    fn hands(&self) -> usize {
        (self.threads + 1).saturating_sub(self.working.load(Ordering::Relaxed))
    }

    /// Looks at some of a directory's names. `None`: the scan is over.
    fn look(
        &self,
        fd: &OwnedFd,
        dir: &[u8],
        names: &DirNames,
        part: &[(usize, usize)],
    ) -> Option<Vec<Looked>> {
        if self.budget.is_over() {
            return None;
        }
        let mut path = Vec::new();
        let mut looked = Vec::with_capacity(part.len());
        for &(start, end) in part {
            if self.budget.control.is_stopped() {
                return None;
            }
            let name = &names.bytes[start..end];
            join_into(&mut path, dir, name);
            looked.push(match RelPath::new(&path) {
                _ if path.len() > PATH_MAX || name.len() > NAME_MAX => Looked::TooLong,
                Ok(path) if self.rules.excludes(path) => Looked::Excluded,
                Ok(path) => match stat(fd, name) {
                    Ok(stat) if is_dir(&stat) && self.rules.excludes_dir(path) => Looked::Excluded,
                    Ok(stat) => Looked::Is(self.seen(&stat)),
                    Err(Errno::NOENT) => Looked::Gone,
                    Err(error) => Looked::Unreadable(error),
                },
                // The kernel gives no other names than a path may have.
                Err(_) => Looked::Gone,
            });
        }
        Some(looked)
    }

    fn entry(
        &self,
        fd: &OwnedFd,
        (dir, name): (&[u8], &[u8]),
        seen: &Seen,
        owner: &mut LastOwner,
        digest: impl FnOnce() -> Option<Digest>,
    ) -> Result<(Entry, Next), Errno> {
        let Seen { stamp, uid, gid, .. } = *seen;
        if seen.is_mount {
            return Ok((Entry::Problem(EntryProblem::Mount), Next::Done));
        }
        Ok(match FileType::from_raw_mode(stamp.mode) {
            FileType::Directory => {
                let owner = owner.of(uid, gid, self.owners);
                // The mask leaves eleven bits.
                (Entry::Dir(Meta { mode: (stamp.mode & 0o3777) as u16, owner }), Next::List)
            }
            FileType::RegularFile if is_foreign_link(fd, seen)? => {
                (Entry::Problem(EntryProblem::HardLink), Next::Done)
            }
            FileType::RegularFile => {
                let owner = owner.of(uid, gid, self.owners);
                let known = digest();
                let next = if known.is_some() { Next::Done } else { Next::Hash };
                (Entry::File(file(&stamp, owner, known.unwrap_or(Digest([0; 32])))), next)
            }
            FileType::Symlink => {
                let target = match rustix::fs::readlinkat(fd, name, Vec::new()) {
                    Ok(target) => target.into_bytes(),
                    // It is no symlink any more.
                    Err(Errno::INVAL) => return Ok((Entry::Busy(Busy::Changing), Next::Done)),
                    Err(error) => return Err(error),
                };
                self.budget.add(0, target.len() as u64);
                let link = Symlink { target: target.into() };
                let path = join(dir, name);
                let escapes = RelPath::new(&path).is_ok_and(|path| link.escapes(path));
                let entry =
                    if escapes { Entry::Problem(EntryProblem::EscapingLink) } else { Entry::Symlink(link) };
                (entry, Next::Done)
            }
            _ => (Entry::Problem(EntryProblem::Special), Next::Done),
        })
    }

    fn seen(&self, stat: &Statx) -> Seen {
        Seen {
            stamp: Stamp::of_statx(stat),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            names: stat.stx_nlink,
            is_mount: self.is_mount(stat),
        }
    }

    /// Whether something is mounted here. Also when it is of the same filesystem: nothing can be renamed
    /// from our stage over a mount's boundary.
    fn is_mount(&self, stat: &Statx) -> bool {
        // Files of an overlay may have another device than their directory, mounted or not.
        let other_device = is_dir(stat) && (stat.stx_dev_major, stat.stx_dev_minor) != self.device;
        other_device || stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    }
}

/// The path of a name in a directory; the root's own path is empty.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    join_into(&mut path, dir, name);
    path
}

/// Makes `path` that of a name in a directory.
fn join_into(path: &mut Vec<u8>, dir: &[u8], name: &[u8]) {
    path.clear();
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Whether a file has other names as well, and another owner than the directory that it is in: where the kernel does not
/// protect hard links, anybody can give a name to a file that he must not read.
fn is_foreign_link(dir: &OwnedFd, file: &Seen) -> Result<bool, Errno> {
    Ok(file.names > 1 && rustix::fs::fstat(dir)?.st_uid != file.uid)
}

/// Whether a directory is nobody's but ours, as `.xds-sync` is.
fn is_private(dir: &OwnedFd) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(dir)?;
    Ok(stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0)
}

fn is_dir(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory
}

/// A regular file's entry.
pub(super) fn file(stamp: &Stamp, owner: Owner, digest: Digest) -> File {
    // The mask leaves nine bits.
    let meta = Meta { mode: (stamp.mode & 0o777) as u16, owner };
    File { size: stamp.size, mtime: stamp.mtime, digest, meta }
}

/// The entry of what the system would not let us read.
pub(super) fn unreadable(error: Errno) -> Entry {
    Entry::Problem(EntryProblem::Unreadable(words(error).into()))
}

/// An error in the system's words, without its number.
pub(super) fn words(error: Errno) -> String {
    plain(&io::Error::from(error).to_string())
}

/// Opens what is at a path below the root and leaves its access time, where that is permitted: it takes
/// the owner or root (open(2), `O_NOATIME`).
pub(super) fn open_quietly(root: &HeldRoot, path: &RelPath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let open = |flags| {
        let opened = root.open_at(path, flags, Mode::empty());
        opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}

fn reopen_quietly(root: &HeldRoot) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(root, c".", flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(root, c".", flags, Mode::empty()),
        opened => opened,
    }
}

pub(super) fn stat(fd: impl AsFd, name: &[u8]) -> Result<Statx, Errno> {
    let fields = StatxFlags::BASIC_STATS.difference(StatxFlags::ATIME | StatxFlags::BLOCKS);
    // An automount point that is not mounted stays so: a scan changes nothing.
    rustix::fs::statx(fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, fields)
}

/// DirNames of a directory.
#[derive(Default)]
struct DirNames {
    bytes: Vec<u8>,
    ranges: Vec<(usize, usize)>,
}

impl DirNames {
    /// Whether these are the names in a `.xds-sync`: the marker, and nothing that is not ours.
    fn are_own(&self) -> bool {
        let names = || self.ranges.iter().map(|&(start, end)| &self.bytes[start..end]);
        names().any(|name| name == b"root.json") && names().all(|name| OWN_NAMES.contains(&name))
    }
}

/// The names in a directory whose own path has so many bytes; the root's has none. `None`: the scan is over.
fn read_names(fd: &OwnedFd, path: usize, budget: &Budget<'_>) -> Result<Option<DirNames>, Errno> {
    let is_root = path == 0;
    let prefix = if is_root { 0 } else { path as u64 + 1 };
    let mut names = DirNames::default();
    let mut buffer = Vec::with_capacity(NAMES_BUFFER);
    let mut dir = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut counted = 0;
    let mut count = |names: &DirNames| {
        let new = (names.ranges.len() - counted) as u64;
        let bytes = names.ranges.get(counted).map_or(0, |&(start, _)| names.bytes.len() - start);
        budget.add(new, new * prefix + bytes as u64);
        counted = names.ranges.len();
    };
    while let Some(entry) = dir.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || (is_root && name == OWN_DIR.as_bytes()) {
            continue;
        }
        let start = names.bytes.len();
        names.bytes.extend_from_slice(name);
        names.ranges.push((start, names.bytes.len()));
        if names.ranges.len() % COUNTED == 0 {
            count(&names);
            if budget.is_over() {
                return Ok(None);
            }
        }
    }
    count(&names);
    if budget.is_over() {
        return Ok(None);
    }
    let bytes = &names.bytes;
    names.ranges.sort_unstable_by(|a, b| bytes[a.0..a.1].cmp(&bytes[b.0..b.1]));
    // A directory that is changed while it is read may name an entry twice.
    names.ranges.dedup_by(|a, b| bytes[a.0..a.1] == bytes[b.0..b.1]);
    Ok(Some(names))
}

/// Neighbours mostly have the same owner: the look-up that all threads share is asked once for them.
#[derive(Default)]
struct LastOwner(Option<(u32, u32, Owner)>);

impl LastOwner {
    fn of(&mut self, uid: u32, gid: u32, owners: &Mutex<Owners>) -> Owner {
        match &self.0 {
            Some((last_uid, last_gid, owner)) if (*last_uid, *last_gid) == (uid, gid) => owner.clone(),
            _ => {
                let owner = owner_of(owners, uid, gid);
                self.0 = Some((uid, gid, owner.clone()));
                owner
            }
        }
    }
}

/// The names of a user and a group.
pub(super) fn owner_of(owners: &Mutex<Owners>, uid: u32, gid: u32) -> Owner {
    // What a panicked thread left in it is still a table of names.
    owners.lock().unwrap_or_else(std::sync::PoisonError::into_inner).of(uid, gid)
}
