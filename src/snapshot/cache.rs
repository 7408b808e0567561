//! Digests of files that have not changed since they were hashed.
//!
//! A file is known by size, mtime, ctime and inode together. It is only a cache: what is missing or
//! cannot be read is hashed again. It stays in its file, where a scan reads what it needs directory by
//! directory: a million digests in memory would be the most that a run in step holds.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::disk::Stamp;
use crate::durable::{self, Options, Points};
use crate::fault::Point;
use crate::model::steps::step;
use crate::model::{Digest, RelPath, RelPathBuf};

/// First bytes of the file; the last of them is the version of what follows.
const MAGIC: &[u8; 16] = b"xds-sync hashes1";
/// The BLAKE3 of all before it ends the file.
const CHECK: usize = 32;
/// Most files that are remembered as put in place a moment after they were written.
const MOST_PLACED: usize = 10_000;
/// Changes are kept apart up to this number, then worked into the buffer.
const MOST_CHANGES: usize = 1 << 16;
/// Timestamps are no finer than the kernel's clock tick, at most 10 ms; within this of a file's mtime it
/// may be written again without a trace.
const TICK: i64 = 50_000_000;
/// The same where timestamps are in whole seconds, or in two as on FAT.
const COARSE_TICK: i64 = 2_000_000_000;

/// The hash cache of one root.
#[derive(Debug, Default)]
pub struct HashCache {
    /// Blocks, one for each directory: [`put_block`] writes one.
    bytes: Bytes,
    /// The directories of all blocks, one behind the other.
    dirs: Vec<u8>,
    /// Where they are, in the order of the directories' bytes.
    blocks: Vec<Block>,
    /// Number of files in all blocks.
    files: usize,
    /// What is newer than the blocks; `None` where there is nothing to remember.
    changes: BTreeMap<RelPathBuf, Option<Record>>,
    /// Files that this process put in place a moment after they were written elsewhere: their digests cannot be
    /// remembered, and they are whole as long as they look like this. In memory alone.
    placed: HashMap<RelPathBuf, Stamp>,
    /// Whether it is as its file is.
    saved: bool,
}

/// Where the blocks are.
#[derive(Debug)]
enum Bytes {
    /// Made in this run.
    Memory(Vec<u8>),
    /// From [`MAGIC`] on, so many bytes. What is renamed over it later leaves it as it is.
    File(File, usize),
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes::Memory(Vec::new())
    }
}

impl Bytes {
    /// All of them; none where they cannot be read.
    fn all(&self) -> Cow<'_, [u8]> {
        match self {
            Bytes::Memory(bytes) => Cow::Borrowed(bytes),
            Bytes::File(_, length) => Cow::Owned(self.range(0..*length).into_owned()),
        }
    }

    fn range(&self, range: Range<usize>) -> Cow<'_, [u8]> {
        match self {
            Bytes::Memory(bytes) => Cow::Borrowed(bytes.get(range).unwrap_or_default()),
            Bytes::File(file, _) => {
                let mut bytes = vec![0; range.len()];
                let read = file.read_exact_at(&mut bytes, (MAGIC.len() + range.start) as u64);
                Cow::Owned(if read.is_ok() { bytes } else { Vec::new() })
            }
        }
    }
}

#[derive(Debug)]
struct Block {
    dir: Range<usize>,
    records: Range<usize>,
}

/// By what a file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    ino: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
}

impl Identity {
    fn of(stamp: &Stamp) -> Identity {
        Identity { ino: stamp.ino, size: stamp.size, mtime: stamp.mtime, ctime: stamp.ctime }
    }
}

/// One file's identity and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    identity: Identity,
    digest: Digest,
}

impl Record {
    fn new(stamp: &Stamp, digest: Digest) -> Record {
        Record { identity: Identity::of(stamp), digest }
    }

    fn matches(&self, stamp: &Stamp) -> bool {
        self.identity == Identity::of(stamp)
    }
}

impl HashCache {
    /// Opens a cache that [`HashCache::save`] wrote; an empty one when there is none, or another
    /// version's, or a damaged one.
    #[must_use]
    pub fn load(path: &Path) -> HashCache {
        File::open(path).ok().and_then(HashCache::open).unwrap_or_default()
    }

    fn open(file: File) -> Option<HashCache> {
        let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let length = length.checked_sub(MAGIC.len() + CHECK)?;
        let mut input = Checked { input: BufReader::new(&file), check: blake3::Hasher::new() };
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic).ok().filter(|()| magic == *MAGIC)?;
        let mut cache = HashCache::read(&mut input, length)?;
        let computed = input.check.finalize();
        let mut check = [0; CHECK];
        input.input.read_exact(&mut check).ok().filter(|()| *computed.as_bytes() == check)?;
        drop(input);
        cache.bytes = Bytes::File(file, length);
        cache.saved = true;
        Some(cache)
    }

    fn of_blocks(bytes: Vec<u8>) -> Option<HashCache> {
        let cache = HashCache::read(&mut &bytes[..], bytes.len())?;
        Some(HashCache { bytes: Bytes::Memory(bytes), ..cache })
    }

    /// What blocks of that many bytes say, without them.
    fn read(input: &mut dyn Read, length: usize) -> Option<HashCache> {
        let mut cache = HashCache::default();
        let (mut at, mut part) = (0, Vec::new());
        let mut sized = |at: &mut usize, part: &mut Vec<u8>| {
            let mut size = [0; LENGTH];
            input.read_exact(&mut size).ok()?;
            let start = at.checked_add(LENGTH)?;
            let size = usize::try_from(u64::from_le_bytes(size)).ok()?;
            *at = start.checked_add(size).filter(|end| *end <= length)?;
            part.resize(size, 0);
            input.read_exact(part).ok()?;
            Some(start..*at)
        };
        while at < length {
            sized(&mut at, &mut part)?;
            let start = cache.dirs.len();
            cache.dirs.extend_from_slice(&part);
            let dir = start..cache.dirs.len();
            let records = sized(&mut at, &mut part)?;
            cache.files += Records(&part).count();
            cache.blocks.push(Block { dir, records });
        }
        let dirs = &cache.dirs;
        cache.blocks.sort_unstable_by(|a, b| dirs[a.dir.clone()].cmp(&dirs[b.dir.clone()]));
        Some(cache)
    }

    /// Writes it, in one step and readable by its owner alone; nothing is done where nothing changed.
    pub fn save(&mut self, path: &Path) -> io::Result<()> {
        self.merge();
        if self.saved {
            return Ok(());
        }
        let bytes = self.bytes.all();
        let write = |file: &mut File| {
            let mut check = blake3::Hasher::new();
            for part in [&MAGIC[..], &bytes] {
                check.update(part);
                file.write_all(part)?;
            }
            file.write_all(check.finalize().as_bytes())
        };
        // Not synced: the checksum shows what a power cut left, and a lost cache costs only time.
        let points = Points { rename: Some(Point::CacheRename), ..Points::NONE };
        let options = Options { sync: false, points, ..Options::PRIVATE };
        let file = durable::replace_with(path, options, write)?;
        self.bytes = Bytes::File(file, bytes.len());
        self.saved = true;
        Ok(())
    }

    /// Remembers the digest of a file that was put in place complete; `stamp` is of the file as it stands.
    pub fn record(&mut self, path: &RelPath, stamp: Stamp, digest: Digest) {
        // Its ctime is of a moment ago: a write in the same tick would show in its mtime alone, and does
        // so unless that is of the same moment.
        let is_racy = is_racy(&stamp, stamp.ctime);
        self.change(path, (!is_racy).then(|| Record::new(&stamp, digest)));
        if is_racy {
            if self.placed.len() >= MOST_PLACED {
                // Those of earlier runs are settled by now.
                self.placed.clear();
            }
            self.placed.insert(path.to_owned(), stamp);
        }
    }

    /// Whether this process has put this very file in place, complete, and nobody has written to it since.
    pub(super) fn has_placed(&self, path: &RelPath, stamp: &Stamp) -> bool {
        self.placed.get(path) == Some(stamp)
    }

    /// Forgets a file.
    pub fn forget(&mut self, path: &RelPath) {
        self.change(path, None);
    }

    fn change(&mut self, path: &RelPath, record: Option<Record>) {
        self.placed.remove(path);
        self.changes.insert(path.to_owned(), record);
        if self.changes.len() > MOST_CHANGES {
            self.merge();
        }
    }

    /// Works the changes into the blocks.
    pub(super) fn merge(&mut self) {
        let mut changed: BTreeMap<&[u8], BTreeMap<&[u8], Option<Record>>> = BTreeMap::new();
        for (path, record) in &self.changes {
            let dir = path.parent().map_or(&b""[..], RelPath::as_bytes);
            changed.entry(dir).or_default().insert(path.name(), *record);
        }
        if changed.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        let mut records = Vec::new();
        for block in &self.blocks {
            let dir = &self.dirs[block.dir.clone()];
            let old = self.bytes.range(block.records.clone());
            let Some(mut changed) = changed.remove(dir) else {
                put_block(&mut bytes, dir, &old);
                continue;
            };
            let mut merged: BTreeMap<&[u8], Record> = Records(&old).collect();
            while let Some((name, record)) = changed.pop_first() {
                match record {
                    Some(record) => merged.insert(name, record),
                    None => merged.remove(name),
                };
            }
            records.clear();
            merged.iter().for_each(|(name, record)| put_record(&mut records, name, record));
            put_block(&mut bytes, dir, &records);
        }
        for (dir, changed) in changed {
            records.clear();
            for (name, record) in changed {
                if let Some(record) = record {
                    put_record(&mut records, name, &record);
                }
            }
            put_block(&mut bytes, dir, &records);
        }
        let placed = std::mem::take(&mut self.placed);
        *self = HashCache { placed, ..HashCache::of_blocks(bytes).unwrap_or_default() };
    }

    /// Forgets all but these files, which come in tree order.
    pub(super) fn replace<'a>(&mut self, files: impl Iterator<Item = (&'a RelPath, Stamp, Digest)>) {
        let mut bytes = Vec::new();
        // In tree order the files of a directory stand apart, around what is in its subdirectories.
        let mut open: Vec<(Option<&RelPath>, Vec<u8>)> = Vec::new();
        let mut close = |(dir, records): (Option<&RelPath>, Vec<u8>)| {
            put_block(&mut bytes, dir.map_or(b"", RelPath::as_bytes), &records);
        };
        for (path, stamp, digest) in files {
            let dir = path.parent();
            while let Some(left) = open.pop_if(|(last, _)| {
                *last != dir && last.is_some_and(|last| !dir.is_some_and(|dir| dir.is_below(last)))
            }) {
                close(left);
            }
            if open.last().is_none_or(|(last, _)| *last != dir) {
                open.push((dir, Vec::new()));
            }
            if let Some((_, records)) = open.last_mut() {
                put_record(records, path.name(), &Record::new(&stamp, digest));
            }
        }
        open.into_iter().for_each(close);
        let placed = std::mem::take(&mut self.placed);
        *self = HashCache { placed, ..HashCache::of_blocks(bytes).unwrap_or_default() };
    }

    /// Digests of files that are known under whatever path: a directory that is renamed leaves what is in it as it
    /// is, down to the ctime. All records are read for that. By index of `stamps`, each at most once.
    pub(super) fn anywhere(&self, stamps: &[Stamp]) -> Vec<(usize, Digest)> {
        // A file may have any number of names, all of which look the same: they are found together, by the first record
        // that fits.
        let mut sorted: Vec<(Identity, usize)> = stamps.iter().map(Identity::of).zip(0..).collect();
        sorted.sort_unstable();
        let mut is_found = vec![false; stamps.len()];
        let mut found = Vec::new();
        for block in &self.blocks {
            for (_, record) in Records(&self.bytes.range(block.records.clone())) {
                let first = sorted.partition_point(|(known, _)| *known < record.identity);
                let same = sorted[first..].iter().take_while(|(known, index)| {
                    step();
                    *known == record.identity && !is_found[*index]
                });
                let before = found.len();
                found.extend(same.map(|(_, index)| (*index, record.digest)));
                found[before..].iter().for_each(|(index, _)| is_found[*index] = true);
            }
        }
        found
    }

    /// About how many bytes all records have.
    pub(super) fn size(&self) -> u64 {
        self.blocks.iter().map(|block| block.records.len() as u64).sum()
    }

    /// Number of files that are known.
    pub(super) fn len(&self) -> usize {
        self.files
    }

    /// What is known of the files in a directory, empty for the root; changes must be [merged](Self::merge).
    pub(super) fn in_dir(&self, dir: &[u8]) -> KnownDigests<'_> {
        let found = self.blocks.binary_search_by(|block| self.dirs[block.dir.clone()].cmp(dir));
        let records = found.map(|index| self.bytes.range(self.blocks[index].records.clone()));
        KnownDigests { records: records.unwrap_or_default(), at: 0 }
    }
}

/// What the cache knows of one directory's files.
pub(super) struct KnownDigests<'a> {
    records: Cow<'a, [u8]>,
    /// Where the next record begins.
    at: usize,
}

impl KnownDigests<'_> {
    /// The digest of a file that is still as it was. Names must be asked for in the order of their bytes.
    pub(super) fn digest(&mut self, name: &[u8], stamp: &Stamp) -> Option<Digest> {
        let mut records = Records(self.records.get(self.at..).unwrap_or_default());
        loop {
            let (known, record) = records.next()?;
            if known > name {
                return None;
            }
            self.at = self.records.len() - records.0.len();
            if known == name {
                return record.matches(stamp).then_some(record.digest);
            }
        }
    }
}

/// Reads, and computes the digest of what it has read.
struct Checked<'a> {
    input: BufReader<&'a File>,
    check: blake3::Hasher,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.check.update(&buffer[..read]);
        Ok(read)
    }
}

/// Whether a file could be written again and look the same: `looked` is when it was looked at before it
/// was read, in nanoseconds since 1970.
pub(super) fn is_racy(stamp: &Stamp, looked: i64) -> bool {
    let whole_seconds = stamp.mtime % 1_000_000_000 == 0 && stamp.ctime % 1_000_000_000 == 0;
    let window = if whole_seconds { COARSE_TICK } else { TICK };
    // Ahead of the clock by more is a time that somebody set; no write will make it again.
    looked.saturating_sub(stamp.mtime).saturating_abs() < window
}

const LENGTH: usize = size_of::<u64>();

fn put_sized(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
    bytes.extend_from_slice(part);
}

/// A directory's path and its files' records, in the order of their names.
fn put_block(bytes: &mut Vec<u8>, dir: &[u8], records: &[u8]) {
    if !records.is_empty() {
        put_sized(bytes, dir);
        put_sized(bytes, records);
    }
}

fn put_record(records: &mut Vec<u8>, name: &[u8], record: &Record) {
    // A name of a checked path has 255 bytes at most.
    records.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    records.extend_from_slice(name);
    let Identity { ino, size, mtime, ctime } = record.identity;
    records.extend_from_slice(&ino.to_le_bytes());
    records.extend_from_slice(&size.to_le_bytes());
    records.extend_from_slice(&mtime.to_le_bytes());
    records.extend_from_slice(&ctime.to_le_bytes());
    records.extend_from_slice(&record.digest.0);
}

/// The records of one block; ends where they make no sense.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (&'a [u8], Record);

    fn next(&mut self) -> Option<Self::Item> {
        step();
        let (length, rest) = self.0.split_first()?;
        let (name, rest) = rest.split_at_checked((*length).into())?;
        let (ino, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (mtime, rest) = rest.split_first_chunk()?;
        let (ctime, rest) = rest.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        self.0 = rest;
        let identity = Identity {
            ino: u64::from_le_bytes(*ino),
            size: u64::from_le_bytes(*size),
            mtime: i64::from_le_bytes(*mtime),
            ctime: i64::from_le_bytes(*ctime),
        };
        let record = Record { identity, digest: Digest(*digest) };
        Some((name, record))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use std::fs;

    use super::*;

    fn path(text: &str) -> RelPathBuf {
        RelPathBuf::new(text.as_bytes()).unwrap()
    }

    /// Of a file changed long ago.
    fn stamp(ino: u64) -> Stamp {
        Stamp { ino, ctime: 5_000_000_000_001, mtime: 1_000_000_000_001, size: 3, mode: 0o100_644 }
    }

    fn digest(cache: &mut HashCache, path: &RelPath, stamp: &Stamp) -> Option<Digest> {
        cache.merge();
        let dir = path.parent().map_or(&b""[..], RelPath::as_bytes);
        cache.in_dir(dir).digest(path.name(), stamp)
    }

    proptest! {
        #[test]
        fn it_knows_what_was_told_last(
            first in prop::collection::btree_map("[ab.]{1,2}[xy](/[ab.]{1,2}[xy]){0,2}", 1..9u64, 0..9),
            then in prop::collection::vec(("[ab.]{1,2}[xy](/[ab.]{1,2}[xy]){0,2}", 0..9u64), 0..9),
        ) {
            let mut expected: BTreeMap<RelPathBuf, u64> =
                first.iter().map(|(text, ino)| (path(text), *ino)).collect();
            let mut cache = HashCache::default();
            cache.replace(expected.iter().map(|(path, ino)| (&**path, stamp(*ino), Digest([1; 32]))));
            for (text, ino) in &then {
                if *ino == 0 {
                    cache.forget(&path(text));
                    expected.remove(&path(text));
                } else {
                    cache.record(&path(text), stamp(*ino), Digest([1; 32]));
                    expected.insert(path(text), *ino);
                }
            }
            let dir = tempfile::tempdir().unwrap();
            cache.save(&dir.path().join("cache")).unwrap();
            for mut cache in [cache, HashCache::load(&dir.path().join("cache"))] {
                prop_assert_eq!(cache.len(), expected.len());
                for (path, ino) in &expected {
                    prop_assert_eq!(digest(&mut cache, path, &stamp(*ino)), Some(Digest([1; 32])));
                    prop_assert_eq!(digest(&mut cache, path, &stamp(ino + 1)), None);
                }
            }
        }
    }

    #[test]
    fn all_four_must_match() {
        let mut cache = HashCache::default();
        cache.record(&path("a"), stamp(1), Digest([1; 32]));
        let same = stamp(1);
        for (other, known) in [
            (Stamp { mode: 0o100_600, ..same }, true),
            (Stamp { ino: 2, ..same }, false),
            (Stamp { size: 4, ..same }, false),
            (Stamp { mtime: same.mtime + 1, ..same }, false),
            (Stamp { ctime: same.ctime + 1, ..same }, false),
        ] {
            assert_eq!(digest(&mut cache, &path("a"), &other).is_some(), known, "{other:?}");
        }
    }

    #[test]
    fn what_could_be_written_again_without_a_trace_is_racy() {
        const MS: i64 = 1_000_000;
        const S: i64 = 1000 * MS;
        for (mtime, ctime, looked, racy) in [
            (S + 1, S + 1, S + 1, true),
            (S + 1, S + 1, S + 49 * MS, true),
            (S + 1, S + 1, S + 51 * MS, false),
            // A clock tick behind the file's.
            (S + 1, S + 1, S + 1 - 10 * MS, true),
            // A time set far ahead is not of now.
            (S + 1, S + 1, S + 1 - 51 * MS, false),
            // Whole seconds alone: the clock of this filesystem is coarse.
            (S, S, S + 1999 * MS, true),
            (S, S, S + 2000 * MS, false),
            (S, S + 1, S + 51 * MS, false),
        ] {
            let stamp = Stamp { mtime, ctime, ..stamp(1) };
            assert_eq!(is_racy(&stamp, looked), racy, "{mtime} {ctime} {looked}");
        }
    }

    #[test]
    fn a_file_put_in_place_with_a_time_of_now_is_not_recorded() {
        let mut cache = HashCache::default();
        let now = Stamp { mtime: stamp(1).ctime, ..stamp(1) };
        cache.record(&path("a"), stamp(1), Digest([1; 32]));
        cache.record(&path("a"), now, Digest([2; 32]));
        assert_eq!(digest(&mut cache, &path("a"), &now), None);
        assert_eq!(digest(&mut cache, &path("a"), &stamp(1)), None);
    }

    #[test]
    fn a_damaged_file_is_an_empty_cache() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cache");
        assert_eq!(HashCache::load(&file).len(), 0);

        let mut cache = HashCache::default();
        cache.record(&path("dir/a"), stamp(1), Digest([1; 32]));
        cache.record(&path("b"), stamp(2), Digest([2; 32]));
        cache.save(&file).unwrap();
        assert_eq!(HashCache::load(&file).len(), 2);

        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, &bad).unwrap();
            assert_eq!(HashCache::load(&file).len(), 0, "bit at {at}");
            fs::write(&file, &good[..at]).unwrap();
            assert_eq!(HashCache::load(&file).len(), 0, "cut at {at}");
        }
        assert!(HashCache::of_blocks(vec![0xff; 64]).is_none());
    }

    #[test]
    fn it_is_saved_for_its_owner_alone_and_only_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cache");
        fs::write(dir.path().join(".cache.new"), "of a killed run").unwrap();
        let mut cache = HashCache::default();
        cache.record(&path("a"), stamp(1), Digest([1; 32]));
        cache.save(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);

        fs::remove_file(&file).unwrap();
        cache.save(&file).unwrap();
        assert!(!file.exists());
        cache.forget(&path("a"));
        cache.save(&file).unwrap();
        assert!(file.exists());
    }
}
