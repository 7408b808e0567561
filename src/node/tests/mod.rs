//! Whole sessions over a stream in memory: an honest one first, then each end against a hostile other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fake;
mod hostile_main;
mod hostile_node;
mod runs;
mod session;
mod watching;
