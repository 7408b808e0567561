//! How much a scan may cost: what lies in a root was put there by users who are not root.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::Clock;
use crate::model::Size;

/// How much of one directory is taken in. A directory that has more is unusable as a whole: what is left out of a tree
/// would look deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// How many bytes may all paths and symlink targets have? Every stage of a run holds them once more.
    pub names: u64,
    /// How many entries may there be? Twice the largest site that is measured in docs/performance.md.
    pub entries: u64,
    /// How many bytes of holes may a file have? They take no room, but the time to hash them.
    pub holes_in_file: u64,
    /// How many bytes of holes may one scan hash? The files beyond have their turn in later scans.
    pub holes: u64,
    /// How long may listing take? A root whose filesystem answers that slowly is unusable, whoever makes it slow.
    pub listing: Duration,
    /// How long may files be read that the hash cache does not know? Those that are left have their turn in later scans,
    /// which need not read the others again.
    pub reading: Duration,
}

impl Default for ScanLimits {
    fn default() -> ScanLimits {
        ScanLimits {
            names: 64 << 20,
            entries: 2_000_000,
            holes_in_file: 256 << 20,
            holes: 4 << 30,
            // Two milliseconds for each of the most entries that there may be.
            listing: Duration::from_secs(3600),
            // On a slow disk 200 GB.
            reading: Duration::from_secs(1800),
        }
    }
}

/// What a scan of its host needs beside the directory.
#[derive(Clone, Copy, Debug)]
pub struct ScanControl<'a> {
    /// Grows with every entry seen and every byte read.
    pub progress: &'a AtomicU64,
    /// Set when nobody waits for the scan any more.
    pub stop: &'a AtomicBool,
    /// What it may cost.
    pub limits: ScanLimits,
}

impl ScanControl<'_> {
    pub(super) fn count(&self, number: u64) {
        self.progress.fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a scan has cost so far, as all its threads count it.
pub(super) struct Budget<'a> {
    pub(super) control: ScanControl<'a>,
    clock: &'a dyn Clock,
    began: SystemTime,
    names: AtomicU64,
    entries: AtomicU64,
    holes: AtomicU64,
}

impl<'a> Budget<'a> {
    pub(super) fn new(control: ScanControl<'a>, clock: &'a dyn Clock) -> Budget<'a> {
        let zero = || AtomicU64::new(0);
        Budget { control, clock, began: clock.now(), names: zero(), entries: zero(), holes: zero() }
    }

    /// Counts entries, and the bytes of their paths or targets.
    pub(super) fn add(&self, entries: u64, names: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.names.fetch_add(names, Ordering::Relaxed);
    }

    /// Whether listing shall end: it is over its limits, or nobody waits for it.
    pub(super) fn is_over(&self) -> bool {
        self.control.is_stopped() || self.excess().is_some()
    }

    /// Why the directory cannot be taken in, if it cannot.
    pub(super) fn why_over(&self) -> Option<String> {
        match self.excess()? {
            Excess::Names(names) => Some(format!(
                "more names than can be kept in step: {} of paths and links seen, at most {}",
                Size(names),
                Size(self.control.limits.names)
            )),
            Excess::Entries(entries) => Some(format!(
                "more names than can be kept in step: {entries} entries seen, at most {}",
                self.control.limits.entries
            )),
            Excess::Time(entries) => Some(format!(
                "its names could not be listed within {}, {entries} entries were: is its disk that slow?",
                humantime::format_duration(self.control.limits.listing)
            )),
        }
    }

    fn excess(&self) -> Option<Excess> {
        let (names, entries) = (self.names.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed));
        let limits = &self.control.limits;
        if names > limits.names {
            Some(Excess::Names(names))
        } else if entries > limits.entries {
            Some(Excess::Entries(entries))
        } else if self.clock.now().duration_since(self.began).is_ok_and(|took| took > limits.listing) {
            Some(Excess::Time(entries))
        } else {
            None
        }
    }

    /// Whether a hole may be hashed, in a file that has had `before` bytes of holes already.
    pub(super) fn takes_hole(&self, before: u64, length: u64) -> bool {
        let limits = &self.control.limits;
        if before.saturating_add(length) > limits.holes_in_file {
            return false;
        }
        // Below the limit of a file, so that the sum of all threads does not overflow.
        let all = self.holes.fetch_add(length, Ordering::Relaxed);
        all.saturating_add(length) <= limits.holes
    }
}

enum Excess {
    Names(u64),
    Entries(u64),
    Time(u64),
}
