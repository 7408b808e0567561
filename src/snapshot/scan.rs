//! A root → its [`Snapshot`]. Nothing on disk is changed by it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::cache::HashCache;
use super::carve::carved;
use super::hash::{Hashed, Hasher, nanoseconds};
use super::list::{Lister, stat, words};
use super::rules::Rules;
use super::walk::walk;
use super::{Clock, Root, ScanSpec};
use crate::disk::marker::Marker;
use crate::disk::{HeldRoot, Owners, Stamp};
use crate::model::{Digest, Direction, Entry, File, RelPath, Tree};
use crate::threads::threads;

/// More threads than this only wait for each other and for the disk.
const MOST_THREADS: usize = 8;
/// Files hashed at a time: what is known of each until it is in the tree must not add up.
const BATCH: usize = 1 << 14;
/// While a scan waits for young files, it moves its progress this often.
const WAIT_STEP: Duration = Duration::from_millis(250);

/// What a scan found.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The root.
    pub root: Root,
    /// What is in it; empty where the root is missing or unusable.
    pub tree: Arc<Tree>,
    /// The root as it was scanned, open; none where it is missing or unusable.
    pub held: Option<HeldRoot>,
    /// Whether nothing in it is busy or unreadable.
    pub settled: bool,
    /// Bytes free for root on its filesystem; for a missing root, on the one it would be made on.
    pub free: u64,
    /// One for each entry of the tree.
    stamps: Vec<Option<Stamp>>,
}

impl Snapshot {
    /// What to compare with when a path is looked at again before it is touched: of directories, files
    /// and symlinks, and of what is not carried but may be replaced: special files, symlinks that lead out.
    #[must_use]
    pub fn stamp(&self, path: &RelPath) -> Option<Stamp> {
        self.stamps.get(self.tree.position(path)?).copied().flatten()
    }

    fn without_tree(root: Root, free: u64) -> Snapshot {
        Snapshot { root, tree: Arc::default(), held: None, settled: true, free, stamps: Vec::new() }
    }
}

/// Looks at a directory.
///
/// What could not be read is in the tree, or in the root's state; a scan as a whole does not fail.
/// `cache` is the root's; digests that it knows are not computed again, new ones are added. `progress`
/// grows with every entry seen and every byte read.
pub fn scan(spec: &ScanSpec, cache: &mut HashCache, clock: &dyn Clock, progress: &AtomicU64) -> Snapshot {
    scan_with(spec, cache, clock, progress, threads(MOST_THREADS))
}

pub(super) fn scan_with(
    spec: &ScanSpec,
    cache: &mut HashCache,
    clock: &dyn Clock,
    progress: &AtomicU64,
    threads: usize,
) -> Snapshot {
    let held = match HeldRoot::open(&spec.root) {
        Ok(held) => held,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Snapshot::without_tree(Root::Missing, free_above(&spec.root));
        }
        Err(error) => return Snapshot::without_tree(unusable(&spec.root, &error), 0),
    };
    let free = free(&held);
    let unusable = |why: String| Snapshot::without_tree(Root::Unusable(why), free);
    let root = match Marker::read(&held) {
        Ok(Some(marker)) => Root::Marked(marker),
        Ok(None) => Root::Unmarked,
        // Not the same as no marker: it may be another root's.
        Err(error) => return unusable(format!("{}: its marker: {error}", spec.root.display())),
    };
    let rules = match Rules::new(&spec.exclude, carved(&spec.root, &spec.other_roots)) {
        Ok(rules) => rules,
        Err(why) => return unusable(why),
    };
    let device = match stat(&held, b".") {
        Ok(stat) => (stat.stx_dev_major, stat.stx_dev_minor),
        Err(error) => return unusable(format!("{}: {}", spec.root.display(), words(error))),
    };

    cache.merge();
    let owners = Mutex::new(Owners::default());
    let mut found = Found::default();
    let vouched = (!spec.checksum).then_some(&*cache);
    let lister = Lister { root: &held, device, rules: &rules, cache: vouched, owners: &owners, progress };
    let walked = walk(&lister, threads, &mut |path, entry, stamp, hash| found.add(path, entry, stamp, hash));
    if let Err(entry) = walked {
        let why = match entry {
            Entry::Problem(problem) => problem.to_string(),
            _ => "it was replaced during the scan".to_owned(),
        };
        return unusable(format!("{}: {why}", spec.root.display()));
    }
    let known = found.files - found.unknown.len();

    let hasher = Hasher {
        root: &held,
        direction: spec.direction,
        settle: spec.settle,
        owners: &owners,
        clock,
        progress,
        again: spec.direction == Direction::Push,
        open: OnceLock::new(),
    };
    if let Some(cache) = vouched {
        found.know_moved(cache);
    }
    let unknown = std::mem::take(&mut found.unknown);
    found.hash(&hasher, &unknown, threads);
    if let Some(until) = found.until {
        // Somebody saved a file just now, and then ran us to have it pushed.
        wait(until, spec.settle, clock, progress);
        // A process may have opened one meanwhile, so that all are asked again.
        let hasher = Hasher { again: false, open: OnceLock::new(), ..hasher };
        let young = std::mem::take(&mut found.young);
        found.hash(&hasher, &young, threads);
    }
    // In step, the cache stays as it is, and needs not be written.
    if found.learned > 0 || known != cache.len() {
        cache.replace(found.sure_files());
    }
    found.remove_gone();

    let settled = found.tree.iter().all(|(_, entry)| match entry {
        Entry::Busy(_) => false,
        Entry::Problem(problem) => problem.is_standing(),
        Entry::Dir(_) | Entry::File(_) | Entry::Symlink(_) | Entry::Excluded => true,
    });
    Snapshot { root, tree: Arc::new(found.tree), held: Some(held), settled, free, stamps: found.stamps }
}

/// A snapshot in the making.
#[derive(Default)]
struct Found {
    tree: Tree,
    stamps: Vec<Option<Stamp>>,
    /// Number of files.
    files: usize,
    /// Positions of files without a digest.
    unknown: Vec<usize>,
    /// Of files to look at again, and when they are all settled.
    young: Vec<usize>,
    until: Option<i64>,
    /// Of files whose digest must not be remembered.
    unsure: HashSet<usize>,
    /// Of files that vanished after they were listed.
    gone: Vec<usize>,
    /// Number of digests that the cache does not have yet.
    learned: usize,
}

impl Found {
    fn add(&mut self, path: &RelPath, entry: Entry, stamp: Option<Stamp>, hash: bool) {
        let is_file = entry.as_file().is_some();
        let position = self.tree.len();
        // The walk hands entries out in tree order.
        let pushed = self.tree.push(path, entry);
        debug_assert!(pushed.is_ok());
        if pushed.is_ok() {
            self.stamps.push(stamp);
            self.files += usize::from(is_file);
            if hash {
                self.unknown.push(position);
            }
        }
    }

    /// Takes the digests of files that the cache knows by another path, unless hashing them is less work than to look
    /// for them.
    fn know_moved(&mut self, cache: &HashCache) {
        let stamped = |&position: &usize| Some((position, self.stamps[position]?));
        let (positions, stamps): (Vec<usize>, Vec<Stamp>) = self.unknown.iter().filter_map(stamped).unzip();
        let bytes = stamps.iter().map(|stamp| stamp.size).fold(0, u64::saturating_add);
        if cache.len() == 0 || bytes < cache.size() {
            return;
        }
        let mut known = HashSet::new();
        for (index, digest) in cache.anywhere(&stamps) {
            let position = positions[index];
            if let Some(file) = self.tree.at(position).and_then(|(_, entry)| entry.as_file()) {
                let file = File { digest, ..file.clone() };
                self.tree.set(position, Entry::File(file));
                known.insert(position);
            }
        }
        self.unknown.retain(|position| !known.contains(position));
        self.learned += known.len();
    }

    fn hash(&mut self, hasher: &Hasher, positions: &[usize], threads: usize) {
        for batch in positions.chunks(BATCH) {
            for (position, hashed) in hasher.hash_all(&self.tree, batch, threads) {
                match hashed {
                    Hashed::Is { entry, stamp, sure } => {
                        self.tree.set(position, entry);
                        if stamp.is_some() {
                            self.stamps[position] = stamp;
                        }
                        if sure {
                            self.learned += 1;
                        } else {
                            self.unsure.insert(position);
                        }
                    }
                    Hashed::Young { until } => {
                        self.young.push(position);
                        self.until = self.until.max(Some(until));
                    }
                    Hashed::Gone => self.gone.push(position),
                }
            }
        }
    }

    fn sure_files(&self) -> impl Iterator<Item = (&RelPath, Stamp, Digest)> {
        let gone: HashSet<usize> = self.gone.iter().copied().collect();
        self.tree.iter().zip(&self.stamps).enumerate().filter_map(
            move |(position, ((path, entry), stamp))| {
                let sure = !self.unsure.contains(&position) && !gone.contains(&position);
                Some((path, (*stamp)?, entry.as_file()?.digest)).filter(|_| sure)
            },
        )
    }

    fn remove_gone(&mut self) {
        if self.gone.is_empty() {
            return;
        }
        self.gone.sort_unstable();
        let gone: BTreeMap<_, _> = self
            .gone
            .iter()
            .filter_map(|&position| Some((self.tree.at(position)?.0.to_owned(), None)))
            .collect();
        for &position in self.gone.iter().rev() {
            self.stamps.remove(position);
        }
        self.tree = self.tree.with(&gone);
    }
}

/// Lets time pass until then, but no longer than `most`.
fn wait(until: i64, most: Duration, clock: &dyn Clock, progress: &AtomicU64) {
    let left = until.saturating_sub(nanoseconds(clock.now()));
    let mut left = Duration::from_nanos(u64::try_from(left).unwrap_or(0)).min(most);
    while !left.is_zero() {
        let step = left.min(WAIT_STEP);
        clock.sleep(step);
        progress.fetch_add(1, Ordering::Relaxed);
        left -= step;
    }
}

fn unusable(root: &Path, error: &io::Error) -> Root {
    Root::Unusable(format!("{}: {error}", root.display()))
}

/// Bytes free for root, who may use the blocks that are reserved for it: it is root who writes here.
fn free(held: &HeldRoot) -> u64 {
    rustix::fs::fstatvfs(held).map_or(0, |stat| stat.f_bfree.saturating_mul(stat.f_frsize))
}

fn free_above(missing: &Path) -> u64 {
    missing.ancestors().find_map(|above| HeldRoot::open(above).ok()).map_or(0, |held| free(&held))
}
