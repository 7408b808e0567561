//! The words every stage speaks: paths, entries, trees, policies, plans and outcomes.
//!
//! Nothing here reads a file, a clock or the environment. Standard library only, serde's derives for
//! the plain values that cross the wire or lie on disk, and humantime and jiff for how a moment is written.

pub mod bounded;
mod change;
mod codec;
pub mod digest;
pub mod entry;
pub mod escape;
pub mod intent;
pub(crate) mod moment;
pub mod outcome;
pub mod path;
pub mod plan;
pub mod policy;
pub mod reserved;
mod size;
mod space;
pub(crate) mod steps;
pub mod tree;
pub mod words;

pub use change::{
    Attributes, BlockedPath, Change, ChangeKind, HostName, NodeChange, PlannedChange, Reason, Side,
};
pub use codec::Malformed;
pub use digest::Digest;
pub use entry::{Busy, Entry, EntryProblem, File, Meta, Owner, Symlink};
pub use intent::{Intent, KeptTrees};
pub use moment::Zone;
pub(crate) use moment::{off, read_rfc3339, rfc3339, rfc3339_nanos};
pub use outcome::{Kept, Lacks, Outcome, ReloadOutcome, ReloadState};
pub use path::{BadPath, RelPath, RelPathBuf};
pub use plan::{Action, Step};
pub use policy::{
    Amount, ConflictPolicy, DeletePolicy, Direction, Losses, MaxLoss, NotTaken, Pruned, Take, TrashKeep,
    TrashMax,
};
pub use size::{NotASize, Size};
pub use space::{Need, Room, Shortage, Space};
pub use tree::Tree;
pub use words::MAIN;
