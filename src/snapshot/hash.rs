//! Files whose digests the cache does not know: whether they are being written, and what is in them.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::Clock;
use super::busy::{self, OpenFiles};
use super::cache::{HashCache, is_racy};
use super::limits::Budget;
use super::list::{file, open_quietly, owner_of, unreadable};
use crate::disk::holes::{self, Part};
use crate::disk::{HeldRoot, Owners, Stamp};
use crate::model::{Busy, Digest, Direction, Entry, EntryProblem, RelPath, Tree};
use crate::threads::side_by_side_with;

/// Large enough that system calls cost nothing beside hashing, small enough for the processor's cache.
const READ_BUFFER: usize = 256 * 1024;
/// Below this many files and bytes, starting threads costs more than it gains.
const FEW_FILES: usize = 64;
const FEW_BYTES: u64 = 4 << 20;

/// What is needed to hash files of one root.
pub(super) struct Hasher<'a> {
    pub(super) root: &'a HeldRoot,
    pub(super) direction: Direction,
    pub(super) settle: Duration,
    /// Files that are not held back for their age.
    pub(super) complete: &'a HashSet<&'a RelPath>,
    /// Knows what this process itself has put in place.
    pub(super) cache: &'a HashCache,
    pub(super) owners: &'a Mutex<Owners>,
    pub(super) clock: &'a dyn Clock,
    pub(super) budget: &'a Budget<'a>,
    /// Whether a young file is looked at again later in this scan.
    pub(super) again: bool,
    /// When reading ends; `None`: when all is read.
    pub(super) until: Option<SystemTime>,
    /// Asked for when the first file needs it: in step, none does.
    pub(super) open: OnceLock<OpenFiles>,
}

/// What became of a file.
pub(super) enum Hashed {
    /// This stands at its path; `sure` where the cache may remember its digest.
    Is { entry: Entry, stamp: Option<Stamp>, sure: bool },
    /// Too young; settled at this time, in nanoseconds since 1970.
    Young { until: i64 },
    /// It is not there any more.
    Gone,
}

impl From<Busy> for Hashed {
    fn from(busy: Busy) -> Hashed {
        Hashed::Is { entry: Entry::Busy(busy), stamp: None, sure: false }
    }
}

impl Hasher<'_> {
    /// Looks at the files at these positions of a tree.
    pub(super) fn hash_all(&self, tree: &Tree, positions: &[usize], threads: usize) -> Vec<(usize, Hashed)> {
        let files = || positions.iter().filter_map(|&position| Some((position, tree.at(position)?)));
        let bytes = files().filter_map(|(_, (_, entry))| entry.as_file()).map(|file| file.size);
        let threads = match bytes.fold(0, u64::saturating_add) {
            FEW_BYTES.. => threads,
            _ if positions.len() >= FEW_FILES => threads,
            _ => 1,
        };
        let hash = |buffer: &mut Vec<u8>, &position: &usize| {
            let (path, _) = tree.at(position)?;
            Some((position, self.hash(path, buffer)))
        };
        let hashed = side_by_side_with(positions, threads, || vec![0; READ_BUFFER], hash);
        hashed.into_iter().flatten().collect()
    }

    fn hash(&self, path: &RelPath, buffer: &mut [u8]) -> Hashed {
        if self.budget.control.is_stopped() {
            // What is found out now goes nowhere any more.
            return Busy::Changing.into();
        }
        if self.is_late() {
            return Busy::Unread.into();
        }
        self.budget.control.count(1);
        // Not blocking: a FIFO in its place would have us wait for a writer, and a lease for its holder.
        let opened = open_quietly(self.root, path, OFlags::RDONLY | OFlags::NONBLOCK);
        match opened.and_then(|fd| self.hash_open(path, &File::from(fd), buffer)) {
            Ok(hashed) => hashed,
            Err(Errno::NOENT) => Hashed::Gone,
            // Another process holds a lease on it.
            Err(Errno::AGAIN) => Busy::Open.into(),
            // Something else has taken its place, or a parent's, since it was listed.
            Err(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => Busy::Changing.into(),
            Err(error) => Hashed::Is { entry: unreadable(error), stamp: None, sure: false },
        }
    }

    fn hash_open(&self, path: &RelPath, fd: &File, buffer: &mut [u8]) -> Result<Hashed, Errno> {
        let looked = nanoseconds(self.clock.now());
        let stat = rustix::fs::fstat(fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Busy::Changing.into());
        }
        let stamp = Stamp::of(&stat);
        let age = looked.saturating_sub(stamp.mtime);
        let is_whole = || self.complete.contains(path) || self.cache.has_placed(path, &stamp);
        let young = busy::is_young(age, self.settle) && !is_whole();
        if young && self.again {
            let settle = i64::try_from(self.settle.as_nanos()).unwrap_or(i64::MAX);
            return Ok(Hashed::Young { until: stamp.mtime.saturating_add(settle) });
        }
        if self.open.get_or_init(OpenFiles::look).contains(stat.st_dev, stat.st_ino) {
            return Ok(Busy::Open.into());
        }
        if self.direction == Direction::Both {
            if stamp.size == 0 && busy::is_abandoned(age) {
                // Not as a file: a power cut empties recordings too, and that must not reach another host.
                let entry = Entry::Problem(EntryProblem::Empty);
                return Ok(Hashed::Is { entry, stamp: None, sure: false });
            }
            if stamp.size == 0 {
                return Ok(Busy::Empty.into());
            }
            if busy::may_be_unfinished(path.name(), age) {
                let mut header = [0; busy::RIFF_HEADER];
                let length = retry_on_intr(|| rustix::io::pread(fd, &mut header, 0))?;
                if busy::is_unfinished(&header[..length]) {
                    return Ok(Busy::Unfinished.into());
                }
            }
        }
        if young {
            return Ok(Busy::Young.into());
        }
        let is_sparse = holes::is_sparse(fd, stamp.size);
        let digest =
            if is_sparse { self.sparse_digest(fd, &stat)? } else { self.digest(fd, stamp.size, buffer)? };
        let digest = match digest {
            Digested::Is(digest) => digest,
            Digested::Changing => return Ok(Busy::Changing.into()),
            Digested::Late => return Ok(Busy::Unread.into()),
            Digested::Sparse(problem) => {
                return Ok(Hashed::Is { entry: Entry::Problem(problem), stamp: Some(stamp), sure: false });
            }
        };
        if Stamp::of(&rustix::fs::fstat(fd)?) != stamp {
            return Ok(Busy::Changing.into());
        }
        let owner = owner_of(self.owners, stat.st_uid, stat.st_gid);
        let sure = !is_racy(&stamp, looked);
        Ok(Hashed::Is { entry: Entry::File(file(&stamp, owner, digest)), stamp: Some(stamp), sure })
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| self.clock.now() >= until)
    }

    /// The digest of a file of exactly `size` bytes.
    fn digest(&self, fd: &File, size: u64, buffer: &mut [u8]) -> Result<Digested, Errno> {
        let mut hasher = blake3::Hasher::new();
        while hasher.count() <= size {
            if self.is_late() {
                return Ok(Digested::Late);
            }
            let length = retry_on_intr(|| rustix::io::read(fd, &mut *buffer))?;
            if length == 0 || self.budget.control.is_stopped() {
                break;
            }
            hasher.update(&buffer[..length]);
            self.budget.control.count(length as u64);
        }
        Ok(match hasher.count() == size {
            true => Digested::Is(Digest(hasher.finalize().into())),
            false => Digested::Changing,
        })
    }

    /// The digest of a file with holes, which are not read. BLAKE3 numbers its chunks, so that a long hole has to be
    /// hashed like any other content; how much of that is done is in the budget.
    fn sparse_digest(&self, fd: &File, stat: &Stat) -> Result<Digested, Errno> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let mut hasher = blake3::Hasher::new();
        let mut in_holes = 0;
        let read = holes::stream::<Interrupted>(fd, 0, size, &mut |part| {
            if self.budget.control.is_stopped() {
                return Err(Interrupted::Stopped);
            }
            if self.is_late() {
                return Err(Interrupted::Late);
            }
            match part {
                Part::Data(bytes) => {
                    hasher.update(bytes);
                    self.budget.control.count(bytes.len() as u64);
                }
                Part::Hole(length) => {
                    if !self.budget.takes_hole(in_holes, length) {
                        return Err(Interrupted::TooManyHoles);
                    }
                    in_holes += length;
                    holes::hash_zeros(&mut hasher, length);
                    self.budget.control.count(1);
                }
            }
            Ok(())
        });
        match read {
            Ok(()) => Ok(Digested::Is(Digest(hasher.finalize().into()))),
            Err(Interrupted::TooManyHoles) => Ok(Digested::Sparse(EntryProblem::Sparse { size, allocated })),
            Err(Interrupted::Stopped) => Ok(Digested::Changing),
            Err(Interrupted::Late) => Ok(Digested::Late),
            // Without a number of the system it has become shorter.
            Err(Interrupted::Read(error)) => Errno::from_io_error(&error).map_or(Ok(Digested::Changing), Err),
        }
    }
}

enum Digested {
    Is(Digest),
    /// It has more or fewer bytes than it had.
    Changing,
    /// There was no time left.
    Late,
    /// It has more holes than are hashed.
    Sparse(EntryProblem),
}

/// Why a file with holes was not read to its end.
enum Interrupted {
    Read(io::Error),
    TooManyHoles,
    Stopped,
    Late,
}

impl From<io::Error> for Interrupted {
    fn from(error: io::Error) -> Interrupted {
        Interrupted::Read(error)
    }
}

/// A time as nanoseconds since 1970, as files have it.
pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}
