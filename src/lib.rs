//! xds-sync keeps the files of an Asterisk telephony cluster the same on Main and its media servers.
//!
//! The modules stand in the order in which data flows; `docs/architecture.md` tells the whole.

// Tests inside of the crate share `tests/support` with those outside of it.
#[cfg(test)]
extern crate self as xds_sync;

pub mod sync;
pub mod model;
pub mod threads;
pub(crate) mod version;
pub(crate) mod durable;
pub mod disk;
pub(crate) mod toml;
pub mod config;
pub mod snapshot;
mod plan;
pub mod transfer;
pub mod reload;
pub mod watch;
pub mod report;
pub mod node;
pub mod discovery;
pub(crate) mod signing;
pub mod store;
pub(crate) mod fetch;
pub mod enroll;
pub(crate) mod hub;
pub mod state;
pub mod fault;
pub mod host;
pub(crate) mod logging;
pub mod site;
pub mod follow;
pub mod record;
pub(crate) mod daemon;
pub mod cli;
