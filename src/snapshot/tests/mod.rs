//! Scans of real directories.
#![allow(clippy::unwrap_used, clippy::panic)]

mod budgets;
mod cached;
mod digest;
mod growth;
mod kinds;
mod writing;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, SystemTime};

use super::*;
use crate::disk::{Found, Stamp};
use crate::model::{Entry, RelPath};

fn find(spec: &ScanSpec) -> Result<Found, String> {
    Found::root(&spec.root).map_err(|error| error.to_string())
}

fn scan(spec: &ScanSpec, cache: &mut HashCache, clock: &dyn Clock, control: &ScanControl<'_>) -> Snapshot {
    super::scan(spec, find(spec), cache, clock, control)
}

fn scan_with(
    spec: &ScanSpec,
    cache: &mut HashCache,
    clock: &dyn Clock,
    control: &ScanControl<'_>,
    threads: usize,
) -> Snapshot {
    scan::scan_with(spec, find(spec), cache, (clock, control), threads)
}

/// A clock that is moved by sleeping alone; what happens meanwhile is the test's.
struct Sleeper<'a> {
    now: Mutex<SystemTime>,
    slept: Mutex<Duration>,
    meanwhile: &'a (dyn Fn() + Sync),
}

impl Clock for Sleeper<'_> {
    fn now(&self) -> SystemTime {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) {
        *self.now.lock().unwrap() += duration;
        *self.slept.lock().unwrap() += duration;
        (self.meanwhile)();
    }
}

/// A directory to scan and what its scans remember.
/// What nobody stops, within the usual limits.
fn control(progress: &AtomicU64) -> ScanControl<'_> {
    static NEVER: AtomicBool = AtomicBool::new(false);
    ScanControl { progress, stop: &NEVER, limits: ScanLimits::default() }
}

struct Site {
    dir: tempfile::TempDir,
    spec: ScanSpec,
    cache: HashCache,
    now: SystemTime,
}

impl Site {
    /// An empty push directory in which no file is young, and none was written just now.
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let spec = ScanSpec {
            directory: "test".to_owned(),
            root,
            direction: Direction::Push,
            exclude: Vec::new(),
            other_roots: Vec::new(),
            settle: Duration::ZERO,
            complete: Vec::new(),
            hold_young: false,
            checksum: false,
        };
        Site { dir, spec, cache: HashCache::default(), now: SystemTime::now() + Duration::from_secs(3600) }
    }

    fn both(settle: Duration) -> Site {
        let mut site = Site::new();
        (site.spec.direction, site.spec.settle) = (Direction::Both, settle);
        site
    }

    fn path(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.spec.root.join(OsStr::from_bytes(path.as_ref()))
    }

    fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a file that was modified that many seconds before now, or after it.
    fn write_aged(&self, path: &str, content: impl AsRef<[u8]>, age: f64) -> PathBuf {
        let path = self.write(path, content);
        let by = Duration::from_secs_f64(age.abs());
        set_mtime(&path, if age < 0.0 { self.now + by } else { self.now - by });
        path
    }

    fn snapshot(&mut self) -> Snapshot {
        let now = self.now;
        scan(&self.spec, &mut self.cache, &move || now, &control(&AtomicU64::new(0)))
    }

    /// Number of bytes that a scan reads.
    fn bytes_read(&mut self) -> u64 {
        let (now, progress) = (self.now, AtomicU64::new(0));
        let files = |snapshot: &Snapshot| snapshot.tree.files();
        let snapshot = scan(&self.spec, &mut self.cache, &move || now, &control(&progress));
        let moved = progress.into_inner() - snapshot.tree.len() as u64;
        // Each file looked into moves it by one besides.
        moved.saturating_sub(files(&snapshot))
    }

    /// What is where, in words.
    fn seen(&mut self) -> BTreeMap<String, String> {
        words(&self.snapshot())
    }

    fn sleeper<'a>(&self, meanwhile: &'a (dyn Fn() + Sync)) -> Sleeper<'a> {
        Sleeper { now: Mutex::new(self.now), slept: Mutex::default(), meanwhile }
    }

    /// Has the cache believe another digest of a file: a scan that shows it did not read the file.
    fn lie(&mut self, path: &str) {
        let stamp = Stamp::of(&rustix::fs::lstat(self.path(path)).unwrap());
        self.cache.record(rel(path), stamp, LIE);
    }

    fn believes_the_lie(&mut self, path: &str) -> bool {
        let snapshot = self.snapshot();
        snapshot.tree.get(rel(path)).unwrap().as_file().unwrap().digest == LIE
    }
}

const LIE: Digest = Digest([7; 32]);

fn rel(path: &str) -> &RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

fn set_mtime(path: &Path, to: SystemTime) {
    fs::File::open(path).unwrap().set_modified(to).unwrap();
}

fn words(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let word = |entry: &Entry| match entry {
        Entry::Dir(_) => "dir".to_owned(),
        Entry::File(_) => "file".to_owned(),
        Entry::Symlink(link) => format!("-> {}", String::from_utf8_lossy(&link.target)),
        Entry::Excluded => "excluded".to_owned(),
        Entry::Busy(busy) => format!("{busy:?}"),
        Entry::Problem(problem) => format!("{problem:?}"),
    };
    snapshot.tree.iter().map(|(path, entry)| (path.escaped(), word(entry))).collect()
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(path, word)| ((*path).to_owned(), (*word).to_owned())).collect()
}
