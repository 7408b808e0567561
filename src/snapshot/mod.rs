//! Stage 2: disk → [`Tree`](crate::model::Tree).
//!
//! [`scan`] walks a root in tree order, several directories at a time, keeps out what the [`Rules`] say,
//! and hashes the files whose digests the [`HashCache`] does not know, unless they are being written.

mod busy;
mod cache;
mod carve;
mod digest;
mod hash;
mod limits;
mod list;
mod rules;
mod scan;
#[cfg(test)]
mod tests;
mod walk;

pub use cache::HashCache;
pub use digest::{loaded_digest, tree_digest};
pub use limits::{ScanControl, ScanLimits};
pub use rules::Rules;
pub(crate) use rules::without_effect;
pub use scan::{Snapshot, scan};

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::disk::marker::Marker;
use crate::model::bounded::at_most;
use crate::model::{Digest, Direction, RelPathBuf, Space, Tree};

/// Most globs, roots of others and complete files that a scan may come with; sites have some ten globs.
pub const MAX_NAMES: usize = 4096;

/// What to scan, and by which rules. Made from Main's configuration, for one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanSpec {
    /// The directory's name.
    pub directory: String,
    /// Its root on the host that scans; it may itself be a symlink, and is followed.
    pub root: PathBuf,
    /// Both-ways directories know recordings: an empty file there is one that has just begun.
    pub direction: Direction,
    /// Globs beside the built-in `xds_override*`.
    #[serde(deserialize_with = "at_most::<MAX_NAMES, _, _>")]
    pub exclude: Vec<String>,
    /// Roots of other directories on that host; those inside this one are carved out.
    #[serde(deserialize_with = "at_most::<MAX_NAMES, _, _>")]
    pub other_roots: Vec<PathBuf>,
    /// A file modified less than this ago is busy.
    pub settle: Duration,
    /// Files that were closed after writing, or renamed into place: whole, however young they are.
    #[serde(deserialize_with = "at_most::<MAX_NAMES, _, _>")]
    pub complete: Vec<RelPathBuf>,
    /// Whether a young file is held back at once. Otherwise one in a pushed directory is waited for.
    pub hold_young: bool,
    /// Read every file again, whatever the hash cache says.
    pub checksum: bool,
}

impl ScanSpec {
    /// The rules of this scan on this host. The error names the glob that is no rule.
    pub fn rules(&self) -> Result<Rules, String> {
        Rules::new(&self.exclude, carve::carved(&self.root, &self.other_roots))
    }

    /// Digest of what decides which paths are kept out: the globs and the roots of other directories inside this one,
    /// as a scan on this host carves them out. Neither their order nor repetitions matter, nor does `settle`.
    ///
    /// It is stored between runs, so that its encoding is fixed: the version of the encoding as one byte, then both lists, each sorted, as the number of items and, of each item, its length in bytes and its bytes.
    /// Numbers are 64 bits, little endian.
    #[must_use]
    pub fn rules_digest(&self) -> Digest {
        let carved = carve::carved(&self.root, &self.other_roots);
        let globs: BTreeSet<&[u8]> = self.exclude.iter().map(String::as_bytes).collect();
        let carved: BTreeSet<&[u8]> = carved.iter().map(|root| root.as_bytes()).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[RULES_ENCODING]);
        for items in [globs, carved] {
            hasher.update(&(items.len() as u64).to_le_bytes());
            for item in items {
                hasher.update(&(item.len() as u64).to_le_bytes());
                hasher.update(item);
            }
        }
        Digest(hasher.finalize().into())
    }
}

/// Version of the encoding of [`ScanSpec::rules_digest`], and of what the same globs mean.
const RULES_ENCODING: u8 = 1;

/// What a scan found, in few bytes: the tree itself stays where it was scanned until it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// The root.
    pub root: Root,
    /// Digest of the whole tree.
    pub digest: Digest,
    /// Digest of what a reload depends on, see [`Tree::feed_loaded`](crate::model::Tree::feed_loaded).
    pub loaded: Digest,
    /// Number of entries.
    pub entries: u64,
    /// Whether nothing in it is busy or unreadable: only such a tree may be remembered as in step.
    pub settled: bool,
    /// The room on the root's filesystem.
    pub free: Space,
    /// Where that is mounted; empty where it is not known.
    pub mount: String,
    /// Whether earlier runs have left anything in the root's stage, of whatever age.
    pub leftovers: bool,
}

impl Scanned {
    /// A root that cannot be used, and why.
    #[must_use]
    pub fn unusable(why: String) -> Scanned {
        let tree = Tree::default();
        Scanned {
            root: Root::Unusable(why),
            digest: tree_digest(&tree),
            loaded: loaded_digest(&tree),
            entries: 0,
            settled: true,
            free: Space::default(),
            mount: String::new(),
            leftovers: false,
        }
    }
}

/// The state of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// Not there.
    Missing,
    /// There, without our marker.
    Unmarked,
    /// There, with our marker.
    Marked(Marker),
    /// There is something else, or it cannot be read.
    Unusable(String),
}

/// The time that a scan compares files' times with.
pub trait Clock: Sync {
    /// Now.
    fn now(&self) -> SystemTime;

    /// Returns after that long.
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

impl<F: Fn() -> SystemTime + Sync> Clock for F {
    fn now(&self) -> SystemTime {
        self()
    }
}
