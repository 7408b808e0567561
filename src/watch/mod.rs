//! When a run starts: what changed on a disk ([`Watches`]), and what follows from that, which is decided by pure code.
//!
//! Events say only what *may* have changed: a run looks at the disks itself, and comes to the same as one that `sync`
//! starts. [`Gather`] decides when a change is worth a run, [`Queues`] for which nodes, [`Coalesce`] whether a reload that
//! is due is carried out now. Moments are time since the start of the process, on a clock that nobody sets.

mod backoff;
mod coalesce;
mod dirt;
mod gather;
mod inotify;
mod own_writes;
mod queues;
#[cfg(test)]
mod tests;

pub use backoff::backoff;
pub use coalesce::Coalesce;
pub use dirt::Dirt;
pub use gather::{Gather, Kind};
pub use inotify::{Seen, WatchLimits, Watches};
pub use own_writes::{Left, OwnCommit, OwnWrites};
pub use queues::{Layout, NodeResult, Queues, RunPlan};
