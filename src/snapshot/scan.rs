//! A root → its [`Snapshot`]. Nothing on disk is changed by it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::cache::HashCache;
use super::hash::{Hashed, Hasher, nanoseconds};
use super::limits::{Budget, ScanControl};
use super::list::{Lister, stat, words};
use super::rules::Rules;
use super::walk::{Unlisted, walk};
use super::{Clock, Root, ScanSpec};
use crate::disk::marker::Marker;
use crate::disk::{Found, HeldRoot, MissingRoot, Owners, Stamp, space};
use crate::model::{Digest, Direction, Entry, File, RelPath, Space, Tree};
use crate::threads::threads;

/// More threads than this only wait for each other and for the disk.
const MOST_THREADS: usize = 8;
/// Files hashed at a time: what is known of each until it is in the tree must not add up.
const BATCH: usize = 1 << 14;
/// Files below this size are read in tree order, which disks like; larger ones after them.
const LARGE: u64 = 64 << 20;
/// While a scan waits for young files, it moves its progress this often.
const WAIT_STEP: Duration = Duration::from_millis(250);
/// Why a root has no tree whose scan nobody waited for.
const STOPPED: &str = "the scan was broken off";

/// What a scan found.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The root.
    pub root: Root,
    /// What is in it; empty where the root is missing or unusable.
    pub tree: Arc<Tree>,
    /// The root as it was scanned, open; none where it is missing or unusable.
    pub held: Option<HeldRoot>,
    /// Where it is missing, what can make it.
    pub missing: Option<MissingRoot>,
    /// Whether nothing in it is busy or unreadable.
    pub settled: bool,
    /// The room on its filesystem; for a missing root, on the one it would be made on.
    pub free: Space,
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

    fn without_tree(root: Root, free: Space) -> Snapshot {
        Snapshot {
            root,
            tree: Arc::default(),
            held: None,
            missing: None,
            settled: true,
            free,
            stamps: Vec::new(),
        }
    }
}

/// Looks at a directory.
///
/// What could not be read is in the tree, or in the root's state; a scan as a whole does not fail. `found` is what was
/// found at the root's path, or why that is not to be used. `cache` is the root's; digests that it knows are not computed
/// again, new ones are added. Beyond its limits, or once nobody waits for it, the root is unusable and the cache as it was.
pub fn scan(
    spec: &ScanSpec,
    found: Result<Found, String>,
    cache: &mut HashCache,
    clock: &dyn Clock,
    control: &ScanControl<'_>,
) -> Snapshot {
    scan_with(spec, found, cache, (clock, control), threads(MOST_THREADS))
}

pub(super) fn scan_with(
    spec: &ScanSpec,
    found: Result<Found, String>,
    cache: &mut HashCache,
    (clock, control): (&dyn Clock, &ScanControl<'_>),
    threads: usize,
) -> Snapshot {
    let held = match found {
        Ok(Found::Root(held)) => held,
        Ok(Found::Missing(missing)) => {
            let free = space(&missing);
            return Snapshot { missing: Some(missing), ..Snapshot::without_tree(Root::Missing, free) };
        }
        Err(why) => return Snapshot::without_tree(Root::Unusable(why), Space::default()),
    };
    let opened = match OpenRoot::new(spec, held) {
        Ok(opened) => opened,
        Err((root, free)) => return Snapshot::without_tree(root, free),
    };
    cache.merge();
    let known = (!spec.checksum).then_some(&*cache);
    let owners = Mutex::new(Owners::default());
    let budget = Budget::new(*control, clock);
    let mut builder = match list_all(&opened, known, &owners, &budget, threads) {
        Ok(builder) => builder,
        Err(why) => return Snapshot::without_tree(Root::Unusable(why), opened.free),
    };
    let from_cache = builder.files - builder.unknown.len();
    if let Some(cache) = known {
        builder.know_moved(cache);
    }
    let complete = spec.complete.iter().map(|path| &**path).collect();
    let hasher = Hasher {
        root: &opened.held,
        direction: spec.direction,
        settle: spec.settle,
        complete: &complete,
        cache,
        owners: &owners,
        clock,
        budget: &budget,
        again: spec.direction == Direction::Push && !spec.hold_young,
        // Whoever wants all of it read again has no use for a part.
        until: clock.now().checked_add(control.limits.reading).filter(|_| !spec.checksum),
        open: OnceLock::new(),
    };
    builder.hash_unknown(hasher, threads);
    if control.is_stopped() {
        return Snapshot::without_tree(Root::Unusable(STOPPED.to_owned()), opened.free);
    }
    // In step, the cache stays as it is, and needs not be written.
    if builder.learned > 0 || from_cache != cache.len() {
        cache.replace(builder.sure_files());
    }
    builder.remove_gone();
    builder.finish(opened)
}

/// A root that can be scanned.
struct OpenRoot {
    held: HeldRoot,
    root: Root,
    rules: Rules,
    /// Its filesystem.
    device: (u32, u32),
    free: Space,
}

impl OpenRoot {
    /// The error is the state of a root that cannot be scanned, and the room there.
    fn new(spec: &ScanSpec, held: HeldRoot) -> Result<OpenRoot, (Root, Space)> {
        let path = || spec.root.display();
        let free = space(&held);
        let unusable = |why: String| (Root::Unusable(why), free);
        let root = match Marker::read(&held) {
            Ok(Some(marker)) => Root::Marked(marker),
            Ok(None) => Root::Unmarked,
            // Not the same as no marker: it may be another root's.
            Err(error) => return Err(unusable(format!("{}: its marker: {error}", path()))),
        };
        let rules = spec.rules().map_err(unusable)?;
        let stat = stat(&held, b".").map_err(|error| unusable(format!("{}: {}", path(), words(error))))?;
        let device = (stat.stx_dev_major, stat.stx_dev_minor);
        Ok(OpenRoot { held, root, rules, device, free })
    }
}

/// Walks a root. The error says why it cannot be listed.
fn list_all(
    opened: &OpenRoot,
    cache: Option<&HashCache>,
    owners: &Mutex<Owners>,
    budget: &Budget<'_>,
    threads: usize,
) -> Result<SnapshotBuilder, String> {
    let OpenRoot { held, rules, device, .. } = opened;
    let working = AtomicUsize::new(0);
    let lister = Lister { root: held, device: *device, rules, cache, owners, budget, threads, working };
    let mut builder = SnapshotBuilder::default();
    let mut add = |path: &RelPath, entry, stamp, hash| builder.add(path, entry, stamp, hash);
    match walk(&lister, &mut add) {
        Ok(()) => Ok(builder),
        Err(Unlisted::Over) => Err(budget.why_over().unwrap_or_else(|| STOPPED.to_owned())),
        Err(Unlisted::Instead(Entry::Problem(problem))) => {
            Err(format!("{}: {problem}", held.path().display()))
        }
        Err(Unlisted::Instead(_)) => {
            Err(format!("{}: it was replaced during the scan", held.path().display()))
        }
    }
}

/// A snapshot in the making.
#[derive(Default)]
struct SnapshotBuilder {
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

impl SnapshotBuilder {
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

    /// Hashes the files whose digest is not known, and waits once for those that are too young.
    fn hash_unknown(&mut self, hasher: Hasher, threads: usize) {
        let mut unknown = std::mem::take(&mut self.unknown);
        // A few large files must not take the time that all others need.
        unknown.sort_by_key(|&position| self.stamps[position].map_or(0, |stamp| stamp.size / LARGE));
        self.hash(&hasher, &unknown, threads);
        let Some(until) = self.until else { return };
        // Somebody saved a file just now, and then ran us to have it pushed.
        wait(until, hasher.settle, hasher.clock, &hasher.budget.control);
        // A process may have opened one meanwhile, so that all are asked again.
        let hasher = Hasher { again: false, open: OnceLock::new(), ..hasher };
        let young = std::mem::take(&mut self.young);
        self.hash(&hasher, &young, threads);
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
        let mut next = self.gone.iter().peekable();
        let mut position = 0..;
        self.stamps.retain(|_| {
            let position = position.next();
            next.next_if(|gone| Some(**gone) == position).is_none()
        });
        self.tree = self.tree.with(&gone);
    }

    fn finish(self, opened: OpenRoot) -> Snapshot {
        let OpenRoot { held, root, free, .. } = opened;
        let settled = is_settled(&self.tree);
        let (tree, stamps) = (Arc::new(self.tree), self.stamps);
        Snapshot { root, tree, held: Some(held), missing: None, settled, free, stamps }
    }
}

/// Whether a tree is free of what is only for the moment as it is.
fn is_settled(tree: &Tree) -> bool {
    tree.iter().all(|(_, entry)| match entry {
        Entry::Busy(_) => false,
        Entry::Problem(problem) => problem.is_standing(),
        Entry::Dir(_) | Entry::File(_) | Entry::Symlink(_) | Entry::Excluded => true,
    })
}

/// Lets time pass until then, but no longer than `most`.
fn wait(until: i64, most: Duration, clock: &dyn Clock, control: &ScanControl<'_>) {
    let left = until.saturating_sub(nanoseconds(clock.now()));
    let mut left = Duration::from_nanos(u64::try_from(left).unwrap_or(0)).min(most);
    while !left.is_zero() && !control.is_stopped() {
        let step = left.min(WAIT_STEP);
        clock.sleep(step);
        control.count(1);
        left -= step;
    }
}
