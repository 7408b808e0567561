//! Stage 4: [`Plan`](crate::plan) → files in place.
//!
//! File content goes first: a [`Source`] streams the requested blobs into a [`Sink`], which stages them below
//! `.xds-sync/stage`, named by digest, verified and on disk. Then a commit carries out the actions, each
//! of them one rename. Main's disk, a node's disk and the wire are all sources and sinks, so that a push
//! and a pull are the same thing read in two directions.

mod alter;
mod blobs;
mod chunker;
mod commit;
mod durable;
mod export;
mod hashing;
mod live;
mod local_blobs;
mod metadata;
mod own;
mod partial;
mod put;
mod read;
mod room;
mod signature;
mod source;
mod stage;
mod stager;
mod swap;
mod sweep;
#[cfg(test)]
mod tests;
pub mod trash;
mod tree_writer;
mod writers;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::Stamp;
use crate::model::{Digest, RelPath, RelPathBuf, Tree};

pub use commit::{Committed, commit};
pub use export::export;
pub(crate) use metadata::set_root_meta;
pub use own::OwnDir;
pub use signature::{MAX_BASES, Signature, send_bytes};
pub use source::{LocalSource, Stamps};
pub use stage::stage;
pub use sweep::{clear as clear_stage, has_leftovers, space_with_stage, sweep};
pub use tree_writer::Placed;

/// Asks for one blob, the content of a file, which one end needs and another has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRequest {
    /// Where the source has it.
    pub path: RelPathBuf,
    /// What it must be; the sink verifies it.
    pub digest: Digest,
    /// Its length in bytes; a source sends no more.
    pub size: u64,
    /// How much of it an interrupted run has staged already: the source starts here.
    pub offset: u64,
}

/// Gives blobs.
pub trait Source {
    /// Streams every requested blob in order: `begin`, any number of `data`, `hole` and `copy`, `end`.
    ///
    /// A blob that cannot be given (changed, gone, unreadable) is ended with an error and the next one follows. `Err` means that the source itself is lost.
    fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()>;
}

/// Takes blobs. An error of these methods means that the sink itself is lost.
pub trait Sink {
    /// The blob of `requests[index]` follows, from its offset on.
    fn begin(&mut self, index: usize) -> anyhow::Result<()>;
    /// The next bytes.
    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()>;
    /// The next `length` bytes are zero, and were no blocks on the source's disk.
    fn hole(&mut self, length: u64) -> anyhow::Result<()>;
    /// The signature of the basis that the sink has for `requests[index]`: the source may refer to it.
    fn basis(&self, _index: usize) -> Option<Arc<Signature>> {
        None
    }
    /// The next `length` bytes are those from `from` on of that basis.
    fn copy(&mut self, _from: u64, _length: u64) -> anyhow::Result<()> {
        anyhow::bail!("expected data, got a copy: there is no basis")
    }
    /// That was all of it, or why it broke off.
    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()>;
}

/// How each requested blob arrived: staged, or why not.
pub type Received = Vec<Result<(), String>>;

/// A root as it was scanned: where blobs are looked for, and what is compared with before anything is touched.
#[derive(Clone, Copy)]
pub struct ScannedTree<'a> {
    /// What stood there.
    pub tree: &'a Tree,
    /// How to tell whether it still does: of every entry that may be replaced or copied.
    pub stamps: &'a (dyn Fn(&RelPath) -> Option<Stamp> + Sync),
}

impl ScannedTree<'_> {
    fn stamp(&self, path: &RelPath) -> Option<Stamp> {
        (self.stamps)(path)
    }
}

impl std::fmt::Debug for ScannedTree<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScannedTree").field("tree", self.tree).finish_non_exhaustive()
    }
}
