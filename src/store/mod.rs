//! The indirect way: what Main publishes lies in an object store, from where nodes fetch it by themselves.
//!
//! | object | made by | content |
//! | --- | --- | --- |
//! | `v1/heads/SEQ` | Main, create-only | a publication: which tree each directory has |
//! | `v1/o/HH/SHA256` | Main | a tree, a group of nodes, or a part of a file; the name is the hash of what is stored |
//! | `v1/leases/EPOCH` | Main, create-only | which Main publishes from here on |
//! | `v1/alive/EPOCH` | Main, overwritten | the newest head, and until when this can be believed |
//! | `v1/trust/N` | Main, create-only | Main's keys, each signed by the one before |
//! | `v1/gc/EPOCH-N` | Main, create-only | what was found to be needed by nobody, and when |
//! | `v1/nodes/NAME/…` | that node | what it uploads, and how it is |
//!
//! Nobody who reads trusts the store: everything is signed, or is named by its hash. A publication is made by creating a name
//! that nobody has created, so that two Mains cannot both make the same one. docs/store.md tells the whole to administrators.

mod ahead;
pub mod blobs;
pub mod chain;
pub mod check;
pub mod envelope;
mod error;
pub mod events;
pub mod gc;
pub mod group;
pub mod head;
pub mod holder;
pub mod lease;
pub mod names;
pub mod objects;
pub(crate) mod pass;
pub mod publish;
pub mod rollback;
pub(crate) mod several;
#[cfg(test)]
mod tests;
pub mod status;
pub mod tree;
pub mod trust;
pub mod upload;
pub mod verify;

pub use error::StoreError;
pub use names::Sha256;
pub use objects::{Asker, Created, Objects, StoreSpec, open, open_for_node};

/// The format that this program writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// Most bytes of a file in one object: publishing and following need memory for a few of them.
pub const PART: usize = 16 << 20;
/// Longest stored part. One that would not become shorter is stored as it is.
pub const MAX_PART: u64 = PART as u64;
/// Longest head.
pub const MAX_HEAD: u64 = 256 << 10;
/// Longest lease, sign of life or key.
pub const MAX_SMALL: u64 = 64 << 10;
/// Longest stored tree: a few million files.
pub const MAX_TREE: u64 = 512 << 20;
/// Longest description of an upload.
pub const MAX_UPLOAD: u64 = 256 << 10;
/// Longest stored list of changes of an upload.
pub const MAX_CHANGES: u64 = 64 << 20;
