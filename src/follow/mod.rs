//! `xds-sync follow`: a node that fetches by itself what Main has published, and uploads what it has recorded.
//!
//! A pass is a run of [`sync`](crate::sync) whose Main is a verified publication ([`upstream`]) and whose one node is this host:
//! the same planner, guards, transfer, trash, reloads and report. Before it the publication is verified and written down
//! ([`verify`], [`trusted`]), and its contents are fetched ([`prefetch`]); after it, what the plan had for Main is in the store
//! ([`pending`]). The service ([`service`]) decides when there is a pass; a store that
//! tells of publications ([`listen`]) has it made at once.

mod config;
mod directories;
mod had;
mod json;
mod listen;
mod lost;
mod machine;
mod message;
mod passed;
mod pending;
mod prefetch;
mod run;
mod service;
mod spec;
mod startup;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
mod told;
mod trees;
mod trusted;
mod upload;
mod upstream;
mod verify;

use crate::durable::Points;
use crate::fault::Point;

pub(crate) use config::Config;
pub use machine::{Machine, OpenFn};
pub(crate) use message::Message;
pub use passed::Passed;
pub use run::Follower;
pub(crate) use service::{Clock, Service};
pub use spec::Asked;

/// What this node remembers is written as Main's state is.
const POINTS: Points = Points {
    write: Some(Point::StateWrite),
    sync: Some(Point::StateSync),
    rename: Some(Point::StateRename),
    dir_sync: Some(Point::StateDirSync),
};
